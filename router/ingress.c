/* One thread waits on all sockets and on the two mailboxes of the store. A turn takes a bounded
 * share from each, in the order store, nodes, backends, and ends with one flush: what a turn
 * produced for a node leaves as one batch.
 *
 * Sending never waits: XPUB refuses at its high-water mark, which is counted and which the link
 * sequence shows to the node; ROUTER refuses, which is counted, and every request has a timeout at
 * the asking side. */
#include "router/ingress.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "base/assert.h"
#include "base/bus_socket.h"
#include "base/bus_wait.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "base/metrics.h"
#include "proto/wire.h"
#include "router/shard.h"
#include "router/zap.h"
#include "storage/store.h"

enum {
    TURN_MESSAGES = 512, /* taken from one socket per turn */
    TURN_PUSHES = TURN_MESSAGES / PEAL_SHARD_PUSHES,
    TICK_MS = 250,         /* longest wait, so that beats are on time */
    SEND_HWM = 10000,      /* messages per peer */
    LINGER_MS = 1000,      /* for answers under way when the router stops */
    LAST_MS = 250,         /* for what had arrived when it was told to stop */
    MAILBOX_SLOTS = 16384, /* see the assertions: results always find room */
};
_Static_assert((int)MAILBOX_SLOTS >= (int)PEAL_STORE_OPS_MAX, "every operation has room");
_Static_assert((int)MAILBOX_SLOTS >= (int)PEAL_STORE_READS_MAX, "every page has room");

/* What the thread waits for. */
enum { DONE, PAGES, XPUB, RPC, PULL, SOURCES };

/* Another router of the list: what is said to its ROUTER and to its PULL socket. Nothing comes
 * back. */
struct other {
    void *rpc;
    void *pull;
};

struct peal_ingress {
    const struct peal_config *config;
    const struct peal_bus_security *security;
    bool embedded; /* a node in this process is connected by inproc */
    struct peal_zap *zap;
    pthread_t thread;
    _Atomic bool stopping;
    _Atomic bool beginning; /* which slots are served is on its way to the disk */
    void *pull;
    void *rpc;
    void *xpub;
    uint64_t boot;
    void *zmq;            /* of the process */
    struct other *others; /* by number; the own one is empty */
    size_t router_count;
    char pull_at[256];
    char rpc_at[256];
    char xpub_at[256];
    struct peal_store *store;
    struct peal_shard *shard;
    struct peal_bus_sources sources;
    struct peal_mailbox done;  /* struct peal_store_op, from the store thread */
    struct peal_mailbox pages; /* struct peal_store_fetch, from the reader thread */
};

/* ---- other routers ------------------------------------------------------------------------ */

static void set_int(void *socket, int option, int value)
{
    int rc = zmq_setsockopt(socket, option, &value, sizeof value);
    PEAL_ASSERT(rc == 0); /* constants of ours */
}

static void *open_other(const struct peal_ingress *in, int type, const char *endpoint,
                        const char *key)
{
    char id[PEAL_ROUTER_ID_SIZE];
    void *socket = zmq_socket(in->zmq, type);
    if (socket == NULL) return NULL;
    peal_bus_socket_bound(socket, PEAL_WIRE_BYTES_MAX);
    set_int(socket, ZMQ_LINGER, 0);
    set_int(socket, ZMQ_SNDHWM, SEND_HWM);
    set_int(socket, ZMQ_CONNECT_TIMEOUT, PEAL_CONNECT_MS);
    set_int(socket, ZMQ_RECONNECT_IVL, 500);
    set_int(socket, ZMQ_RECONNECT_IVL_MAX, 1000);
    set_int(socket, ZMQ_IPV6, strchr(endpoint, '[') != NULL);
    peal_router_id_of(in->boot, id);
    if (type == ZMQ_DEALER) zmq_setsockopt(socket, ZMQ_ROUTING_ID, id, sizeof id);
    const struct peal_curve_pair *own = in->security->curve ? &in->security->own : NULL;
    if (peal_bus_socket_secure(socket, own, key) == PEAL_OK && zmq_connect(socket, endpoint) == 0)
        return socket;
    zmq_close(socket);
    return NULL;
}

/* ---- what the shard says ----------------------------------------------------------------- */

static void io_reply(void *ctx, const struct peal_peer *peer, struct peal_span bytes)
{
    struct peal_ingress *in = ctx;
    int rc = zmq_send(in->rpc, peer->id, peer->id_size, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    for (int i = 0; rc >= 0 && i < peer->delimiters; i++)
        rc = zmq_send(in->rpc, "", 0, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    if (rc >= 0) rc = zmq_send(in->rpc, bytes.at, bytes.size, ZMQ_DONTWAIT);
    in->sources.at[RPC].used = true;
    if (rc < 0) peal_count(PEAL_M_ROUTER_DROPPED, 1);
}

static void io_topic(void *ctx, uint64_t boot, struct peal_span bytes)
{
    struct peal_ingress *in = ctx;
    char topic[PEAL_TOPIC_SIZE];
    peal_topic_of(boot, topic);
    in->sources.at[XPUB].used = true;
    if (zmq_send(in->xpub, topic, sizeof topic, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) {
        /* The queue of the node is full; without NODROP nobody would learn it here. */
        peal_count(PEAL_M_BATCHES_DROPPED, 1);
        return;
    }
    if (zmq_send(in->xpub, bytes.at, bytes.size, ZMQ_DONTWAIT) < 0)
        peal_log(PEAL_LOG_WARN, "xpub.send_failed", "error=%s", zmq_strerror(errno));
}

static enum peal_err send_to(void *socket, struct peal_span bytes)
{
    return zmq_send(socket, bytes.at, bytes.size, ZMQ_DONTWAIT) < 0 ? PEAL_EQUEUE_FULL : PEAL_OK;
}

static enum peal_err io_tell(void *ctx, size_t router, struct peal_span bytes)
{
    return send_to(((struct peal_ingress *)ctx)->others[router].rpc, bytes);
}

/* Most routers never forward anything: the connection is made for the first time that one does. */
static enum peal_err io_forward(void *ctx, size_t router, struct peal_span bytes)
{
    struct peal_ingress *in = ctx;
    const struct peal_config_router *to = &in->config->cluster.routers[router];
    struct other *other = &in->others[router];
    if (other->pull == NULL) other->pull = open_other(in, ZMQ_PUSH, to->pull, to->key);
    return other->pull == NULL ? PEAL_ENO_ROUTER : send_to(other->pull, bytes);
}

static enum peal_err io_submit(void *ctx, struct peal_store_op *op)
{
    return peal_store_submit(((struct peal_ingress *)ctx)->store, op);
}

static enum peal_err io_read(void *ctx, struct peal_store_fetch *fetch)
{
    return peal_store_read(((struct peal_ingress *)ctx)->store, fetch);
}

/* ---- what the store says, on its threads --------------------------------------------------- */

static void store_on_done(void *ctx, struct peal_store_op *op)
{
    enum peal_err err = peal_mailbox_put(&((struct peal_ingress *)ctx)->done, op);
    PEAL_ASSERT(err == PEAL_OK);
}

/* One wake for a commit: its results then leave the shard in one turn, joined. */
static void store_on_done_all(void *ctx)
{
    peal_mailbox_wake(&((struct peal_ingress *)ctx)->done);
}

static void store_on_page(void *ctx, struct peal_store_fetch *fetch)
{
    enum peal_err err = peal_mailbox_push(&((struct peal_ingress *)ctx)->pages, fetch);
    PEAL_ASSERT(err == PEAL_OK);
}

/* ---- the thread ---------------------------------------------------------------------------- */

static void take_results(struct peal_ingress *in)
{
    void *item;
    peal_mailbox_arm(&in->done);
    while ((item = peal_mailbox_pop(&in->done)) != NULL)
        peal_shard_on_done(in->shard, item);
    peal_mailbox_arm(&in->pages);
    while ((item = peal_mailbox_pop(&in->pages)) != NULL)
        peal_shard_on_page(in->shard, item);
}

/* Skips the rest of a multipart message. */
static void skip_parts(void *socket)
{
    int more = 1;
    size_t size = sizeof more;
    while (zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size) == 0 && more) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        int rc = zmq_msg_recv(&part, socket, ZMQ_DONTWAIT);
        zmq_msg_close(&part);
        if (rc < 0) return;
    }
}

/* Without CURVE everybody is trusted to be a node. What comes by inproc has no user id, and can
 * only come from this process. */
static bool is_publisher(const struct peal_ingress *in, zmq_msg_t *body)
{
    if (!in->security->curve) return false;
    const char *user_id = zmq_msg_gets(body, "User-Id");
    if (user_id == NULL) return !in->embedded;
    return !peal_zap_is_node(user_id);
}

static bool take_rpc(struct peal_ingress *in)
{
    struct peal_peer peer = {0};
    char id[256];
    int n = zmq_recv(in->rpc, id, sizeof id, ZMQ_DONTWAIT);
    if (n < 0) return false;
    PEAL_ASSERT(n <= (int)sizeof peer.id); /* ZeroMQ's own limit of a routing id */
    peer.id_size = (unsigned char)n;
    memcpy(peer.id, id, (size_t)n);

    zmq_msg_t body;
    zmq_msg_init(&body);
    bool found = false;
    while (!found) {
        int more = 0;
        size_t size = sizeof more;
        zmq_getsockopt(in->rpc, ZMQ_RCVMORE, &more, &size);
        if (!more || zmq_msg_recv(&body, in->rpc, ZMQ_DONTWAIT) < 0) break;
        if (zmq_msg_size(&body) > 0)
            found = true;
        else if (peer.delimiters < UINT8_MAX)
            peer.delimiters++;
    }
    skip_parts(in->rpc);
    peer.publisher = found && is_publisher(in, &body);
    /* Without a body it is a bad call, and is told so: the last empty frame was meant as the body.
     */
    if (!found && peer.delimiters > 0) peer.delimiters--;
    peal_shard_on_rpc(in->shard, &peer,
                      found ? peal_span_make(zmq_msg_data(&body), zmq_msg_size(&body))
                            : peal_span_of(""));
    zmq_msg_close(&body);
    return true;
}

/* False when the door is empty. Parts of a multipart message are publishes of their own. */
static bool take_pushes(struct peal_ingress *in)
{
    if (peal_shard_unsettled(in->shard)) {
        in->sources.at[PULL].used = true;
        return false;
    }
    zmq_msg_t messages[PEAL_SHARD_PUSHES];
    struct peal_span bodies[PEAL_SHARD_PUSHES];
    size_t count = 0;
    while (count < PEAL_SHARD_PUSHES) {
        zmq_msg_t *message = &messages[count];
        zmq_msg_init(message);
        if (zmq_msg_recv(message, in->pull, ZMQ_DONTWAIT) < 0)
            break; /* an empty one holds nothing */
        bodies[count++] = peal_span_make(zmq_msg_data(message), zmq_msg_size(message));
    }
    peal_shard_on_pushes(in->shard, bodies, count);
    for (size_t i = 0; i < count; i++)
        zmq_msg_close(&messages[i]);
    return count == PEAL_SHARD_PUSHES;
}

static bool take_subscription(struct peal_ingress *in)
{
    char event[1 + PEAL_TOPIC_SIZE + 1]; /* longer ones are cut and then match no topic */
    int n = zmq_recv(in->xpub, event, sizeof event, ZMQ_DONTWAIT);
    if (n < 0) return false;
    uint64_t boot;
    if (n == 1 + PEAL_TOPIC_SIZE && event[0] == 1 &&
        peal_topic_parse(peal_span_make(event + 1, PEAL_TOPIC_SIZE), &boot) == PEAL_OK)
        peal_shard_on_link(in->shard, boot);
    return true;
}

/* Takes a bounded share of what a source has. */
static void take_source(struct peal_ingress *in, int place, int most,
                        bool (*take)(struct peal_ingress *in))
{
    struct peal_bus_source *source = &in->sources.at[place];
    if (!source->ready) return;
    for (int i = 0; i < most; i++)
        if (!take(in)) return;
    source->used = true; /* there may be more */
}

static void turn(struct peal_ingress *in, bool wait)
{
    struct peal_bus_source *pull = &in->sources.at[PULL];
    pull->skipped = peal_shard_waiting(in->shard) > 0 || peal_shard_unsettled(in->shard);
    if (peal_bus_wait(&in->sources, wait ? TICK_MS : 0) < 0 && errno != EINTR)
        peal_log(PEAL_LOG_ERROR, "router.poll_failed", "error=%s", strerror(errno));

    peal_shard_set_time(in->shard, peal_clock_mono_ms(), peal_clock_wall_ms());
    take_results(in);
    take_source(in, XPUB, TURN_MESSAGES, take_subscription);
    take_source(in, RPC, TURN_MESSAGES, take_rpc);
    take_source(in, PULL, TURN_PUSHES, take_pushes);
    peal_shard_on_tick(in->shard);
    peal_shard_flush(in->shard);
}

static bool has_input(struct peal_ingress *in, int place)
{
    struct peal_bus_source *source = &in->sources.at[place];
    int events = 0;
    size_t size = sizeof events;
    source->used = true;
    return zmq_getsockopt(source->socket, ZMQ_EVENTS, &events, &size) == 0 &&
           (events & ZMQ_POLLIN) != 0;
}

/* Takes what had arrived before the stop, but does not run after a publisher that never ends. What
 * is left in the sockets then was not acknowledged to anybody. The doors stay bound until all is
 * answered: zmq_unbind would also cut who is connected, and with them the answers (libzmq 4.3.4).
 */
static void take_last(struct peal_ingress *in)
{
    uint64_t end_ms = peal_clock_mono_ms() + LAST_MS;
    while (peal_clock_mono_ms() < end_ms && (has_input(in, RPC) || has_input(in, PULL)))
        turn(in, peal_shard_waiting(in->shard) > 0); /* the store is then the one to wait for */
}

static void *ingress_run(void *arg)
{
    struct peal_ingress *in = arg;
    pthread_setname_np(pthread_self(), "shard");
    peal_metrics_thread_start();
    while (!atomic_load(&in->stopping)) {
        turn(in, !peal_shard_busy(in->shard));
        if (atomic_load(&in->beginning) && !peal_shard_begins(in->shard))
            atomic_store(&in->beginning, false);
    }
    take_last(in);
    /* What the store has taken is finished and answered; nothing new is read. */
    while (peal_shard_waiting(in->shard) > 0) {
        struct pollfd item = {.fd = in->done.fd, .events = POLLIN};
        if (poll(&item, 1, TICK_MS) < 0 && errno != EINTR) break;
        take_results(in);
        peal_shard_on_tick(in->shard);
    }
    peal_store_stop(in->store);
    in->store = NULL;
    take_results(in);
    peal_shard_flush(in->shard);
    return NULL;
}

/* ---- start and stop ------------------------------------------------------------------------ */

static void set_options(const struct peal_ingress *in, void *socket, const char *domain,
                        size_t bytes_max)
{
    const struct peal_bus_security *security = in->security;
    peal_bus_socket_bound(socket, bytes_max);
    peal_bus_socket_guard(socket, security->curve ? &security->own : NULL, domain);
    set_int(socket, ZMQ_LINGER, LINGER_MS);
}

/* tcp://host:0 is written tcp://host:* for ZeroMQ. */
static void kernel_port(const char *endpoint, char *out, size_t size)
{
    size_t n = strlen(endpoint);
    snprintf(out, size, "%s", endpoint);
    if (n >= 2 && n < size && strncmp(endpoint, "tcp://", 6) == 0 &&
        strcmp(endpoint + n - 2, ":0") == 0)
        out[n - 1] = '*';
}

static enum peal_err bind_at(void *socket, const char *key, const char *endpoint, char *bound,
                             size_t bound_size, char *why, size_t why_size)
{
    char at[256];
    kernel_port(endpoint, at, sizeof at);
    set_int(socket, ZMQ_IPV6, strchr(at, '[') != NULL);
    if (zmq_bind(socket, at) != 0) {
        int error = errno;
        snprintf(why, why_size, "%s: cannot bind %s: %s", key, endpoint,
                 error == EADDRINUSE ? "another process uses it" : zmq_strerror(error));
        return error == EADDRINUSE ? PEAL_EINUSE : PEAL_EIO;
    }
    if (bound != NULL) zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, bound, &bound_size);
    return PEAL_OK;
}

enum peal_err peal_ingress_bind(void *socket, const char *key, const char *endpoint, char *bound,
                                size_t bound_size, char *why, size_t why_size)
{
    return bind_at(socket, key, endpoint, bound, bound_size, why, why_size);
}

static enum peal_err open_sockets(struct peal_ingress *in, void *zmq,
                                  const struct peal_ingress_inproc *inproc, char *why,
                                  size_t why_size)
{
    in->pull = zmq_socket(zmq, ZMQ_PULL);
    in->rpc = zmq_socket(zmq, ZMQ_ROUTER);
    in->xpub = zmq_socket(zmq, ZMQ_XPUB);
    if (in->pull == NULL || in->rpc == NULL || in->xpub == NULL) {
        snprintf(why, why_size, "cannot make a ZeroMQ socket: %s", zmq_strerror(errno));
        return PEAL_ENOMEM;
    }
    set_options(in, in->pull, "pull", PEAL_WIRE_BYTES_MAX);
    set_options(in, in->rpc, "rpc", PEAL_WIRE_BYTES_MAX);
    set_options(in, in->xpub, "xpub", PEAL_INGRESS_XPUB_BYTES_MAX);
    /* Nothing may be said to a publisher here. One that has closed would answer with a reset, and
     * the kernel would throw away what is still to be read: while the store is slow, megabytes. Who
     * is gone without a word is found by TCP. */
    set_int(in->pull, ZMQ_HEARTBEAT_IVL, 0);
    set_int(in->pull, ZMQ_TCP_KEEPALIVE, 1);
    set_int(in->pull, ZMQ_TCP_KEEPALIVE_IDLE, 120);
    set_int(in->pull, ZMQ_TCP_KEEPALIVE_INTVL, 20);
    set_int(in->pull, ZMQ_TCP_KEEPALIVE_CNT, 3);
    set_int(in->rpc, ZMQ_ROUTER_MANDATORY, 1);
    set_int(in->rpc, ZMQ_ROUTER_HANDOVER, 1);
    set_int(in->rpc, ZMQ_SNDHWM, SEND_HWM);
    set_int(in->xpub, ZMQ_SNDHWM, SEND_HWM);
    set_int(in->xpub, ZMQ_XPUB_NODROP, 1); /* a send is refused then, and counted */

    const struct peal_zap_door doors[] = {{"pull", in->pull}, {"rpc", in->rpc}, {"xpub", in->xpub}};
    enum peal_err err = peal_zap_start(zmq, in->security, doors, sizeof doors / sizeof *doors,
                                       &in->zap, why, why_size);
    /* inproc first: ZMQ_LAST_ENDPOINT then names the door. */
    if (err == PEAL_OK && inproc != NULL && inproc->rpc != NULL)
        err = bind_at(in->rpc, "doors.rpc", inproc->rpc, NULL, 0, why, why_size);
    if (err == PEAL_OK && inproc != NULL && inproc->xpub != NULL)
        err = bind_at(in->xpub, "doors.xpub", inproc->xpub, NULL, 0, why, why_size);
    const struct peal_config *c = in->config;
    if (err == PEAL_OK)
        err = bind_at(in->pull, "doors.pull", c->doors.pull, in->pull_at, sizeof in->pull_at, why,
                      why_size);
    if (err == PEAL_OK)
        err = bind_at(in->rpc, "doors.rpc", c->doors.rpc, in->rpc_at, sizeof in->rpc_at, why,
                      why_size);
    if (err == PEAL_OK && inproc == NULL)
        err = bind_at(in->xpub, "doors.xpub", c->doors.xpub, in->xpub_at, sizeof in->xpub_at, why,
                      why_size);
    return err;
}

/* cluster.self, or the number at the end of the host name. */
static enum peal_err own_number(const struct peal_config *config, size_t *out, char *why,
                                size_t why_size)
{
    char host[256] = "";
    const char *text = config->cluster.self;
    if (strcmp(text, "auto") == 0) {
        gethostname(host, sizeof host - 1);
        text = host + strlen(host);
        while (text > host && text[-1] >= '0' && text[-1] <= '9')
            text--;
    }
    errno = 0;
    *out = strtoul(text, NULL, 10);
    if (*text != '\0' && errno == 0 && *out < config->cluster.router_count) return PEAL_OK;
    snprintf(why, why_size, "cluster.self: %s%s names none of %zu routers", config->cluster.self,
             host, config->cluster.router_count);
    return PEAL_ECONFIG;
}

static enum peal_err open_others(struct peal_ingress *in, size_t self, char *why, size_t why_size)
{
    in->others = calloc(in->router_count, sizeof *in->others);
    if (in->others == NULL) return PEAL_ENOMEM;
    for (size_t i = 0; i < in->router_count; i++) {
        const struct peal_config_router *router = &in->config->cluster.routers[i];
        if (i == self) continue;
        in->others[i].rpc = open_other(in, ZMQ_DEALER, router->rpc, router->key);
        if (in->others[i].rpc == NULL) {
            snprintf(why, why_size,
                     "cluster.routers.%zu: cannot connect to %s: a bad endpoint, or a key is "
                     "missing",
                     i, router->rpc);
            return PEAL_ECONFIG;
        }
    }
    return PEAL_OK;
}

/* With a node in the same process there is one router, whatever the list says. */
static enum peal_err join_cluster(struct peal_ingress *in, bool alone, char *why, size_t why_size)
{
    struct peal_cluster_io io = {in, io_tell, io_forward};
    size_t self = 0;
    enum peal_err err = PEAL_OK;
    in->router_count = alone ? 1 : in->config->cluster.router_count;
    if (!alone) err = own_number(in->config, &self, why, why_size);
    if (err == PEAL_OK) err = open_others(in, self, why, why_size);
    if (err == PEAL_OK)
        err = peal_shard_join_cluster(in->shard, &io, self, in->router_count,
                                      peal_store_slots(in->store), why, why_size);
    return err;
}

static void watch_sources(struct peal_ingress *in)
{
    peal_bus_source_fd(&in->sources.at[DONE], in->done.fd);
    peal_bus_source_fd(&in->sources.at[PAGES], in->pages.fd);
    peal_bus_source_socket(&in->sources.at[XPUB], in->xpub);
    peal_bus_source_socket(&in->sources.at[RPC], in->rpc);
    peal_bus_source_socket(&in->sources.at[PULL], in->pull);
}

static void ingress_free(struct peal_ingress *in)
{
    if (in->store != NULL) peal_store_stop(in->store);
    if (in->shard != NULL) {
        take_results(in);
        peal_shard_free(in->shard);
    }
    peal_zap_stop(in->zap);
    if (in->pull != NULL) zmq_close(in->pull);
    if (in->rpc != NULL) zmq_close(in->rpc);
    if (in->xpub != NULL) zmq_close(in->xpub);
    for (size_t i = 0; in->others != NULL && i < in->router_count; i++) {
        if (in->others[i].rpc != NULL) zmq_close(in->others[i].rpc);
        if (in->others[i].pull != NULL) zmq_close(in->others[i].pull);
    }
    free(in->others);
    peal_bus_sources_fini(&in->sources);
    peal_mailbox_fini(&in->done);
    peal_mailbox_fini(&in->pages);
    free(in);
}

enum peal_err peal_ingress_start(const struct peal_config *config,
                                 const struct peal_bus_security *security, void *zmq,
                                 const struct peal_ingress_inproc *inproc,
                                 struct peal_ingress **out, char *why, size_t why_size)
{
    *out = NULL;
    struct peal_ingress *in = calloc(1, sizeof *in);
    if (in == NULL) return PEAL_ENOMEM;
    in->config = config;
    in->security = security;
    in->zmq = zmq;
    in->embedded = inproc != NULL;
    struct peal_shard_io io = {in, io_reply, io_topic, io_submit, io_read};
    struct peal_store_events events = {in, store_on_done, store_on_page, store_on_done_all};
    enum peal_err err = peal_mailbox_init(&in->done, MAILBOX_SLOTS);
    if (err == PEAL_OK) err = peal_mailbox_init(&in->pages, MAILBOX_SLOTS);
    if (err == PEAL_OK) err = peal_bus_sources_init(&in->sources, SOURCES);
    if (err == PEAL_OK) {
        in->boot = peal_random_u64();
        in->shard = peal_shard_new(config, &io, in->boot);
        if (in->shard == NULL) err = PEAL_ENOMEM;
    }
    if (err != PEAL_OK) snprintf(why, why_size, "out of memory or descriptors");
    if (err == PEAL_OK) err = open_sockets(in, zmq, inproc, why, why_size);
    if (err == PEAL_OK)
        err = peal_store_start(config->data, config, &events, &in->store, why, why_size);
    if (err == PEAL_OK) watch_sources(in);
    if (err == PEAL_OK) err = join_cluster(in, inproc != NULL, why, why_size);
    if (err == PEAL_OK) {
        peal_shard_set_time(in->shard, peal_clock_mono_ms(), peal_clock_wall_ms());
        atomic_store(&in->beginning, peal_shard_begins(in->shard));
        if (pthread_create(&in->thread, NULL, ingress_run, in) != 0) {
            snprintf(why, why_size, "cannot start a thread");
            err = PEAL_ENOMEM;
        }
    }
    if (err != PEAL_OK) {
        ingress_free(in);
        return err;
    }
    *out = in;
    return PEAL_OK;
}

bool peal_ingress_begins(const struct peal_ingress *in)
{
    return atomic_load(&in->beginning);
}

void peal_ingress_stop(struct peal_ingress *in)
{
    if (in == NULL) return;
    atomic_store(&in->stopping, true);
    peal_mailbox_wake(&in->done);
    pthread_join(in->thread, NULL);
    ingress_free(in);
}

const char *peal_ingress_pull(const struct peal_ingress *in)
{
    return in->pull_at;
}

const char *peal_ingress_rpc(const struct peal_ingress *in)
{
    return in->rpc_at;
}

const char *peal_ingress_xpub(const struct peal_ingress *in)
{
    return in->xpub_at;
}

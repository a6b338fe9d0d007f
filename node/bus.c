#include "node/bus.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <zmq.h>

#include "base/assert.h"
#include "base/bus_socket.h"
#include "base/bus_wait.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "node/uplink.h"

enum {
    TURN_MESSAGES = 512, /* taken from one socket per turn */
    TURN_ORDERS = 4096,  /* taken from the mailbox per turn */
    TICK_MS = 250,
    ORDER_SLOTS = 65536,
    HWM = 10000,               /* messages per router and direction */
    MAIL_BYTES_MAX = 64 << 20, /* that wait for one worker */
    ROUTERS_MAX = 1024,
    /* Of silence: what ZeroMQ may need to end a dead connection and to fail at a new one. */
    REOPEN_MS = 11000,
    REFUSED_MS = 2000, /* the same when frames are not even taken */
};

enum { ORDERS, SOCKETS }; /* places of sources */

/* What is known of a router besides its two sockets, see xsub_of and dealer_of. */
struct router_link {
    bool refused; /* the last frame to the dealer was not taken */
    size_t via;   /* the relay that the xsub is connected to, of config->cluster.via */
};

struct peal_bus {
    pthread_t thread;
    _Atomic bool stopping;
    _Atomic bool *ready;
    struct peal_mailbox orders;
    struct peal_bus_sources sources;
    struct peal_mailbox *workers[PEAL_WORKERS_MAX];
    struct peal_uplink *uplink;
    const struct peal_config *config;
    void *zmq;
    const struct peal_curve_pair *own; /* NULL without CURVE, and within the process */
    const char *inproc_rpc;
    const char *inproc_xpub;
    char topic[PEAL_TOPIC_SIZE];
    size_t router_count;
    struct router_link routers[];
};

static struct peal_bus_source *xsub_of(const struct peal_bus *bus, size_t link)
{
    return &bus->sources.at[SOCKETS + 2 * link];
}

static struct peal_bus_source *dealer_of(const struct peal_bus *bus, size_t link)
{
    return &bus->sources.at[SOCKETS + 2 * link + 1];
}

/* ---- what the uplink says ------------------------------------------------------------------- */

static enum peal_err io_send(void *ctx, size_t link, struct peal_span frame)
{
    struct peal_bus *bus = ctx;
    struct peal_bus_source *dealer = dealer_of(bus, link);
    int rc = zmq_send(dealer->socket, frame.at, frame.size, ZMQ_DONTWAIT);
    dealer->used = true;
    bus->routers[link].refused = rc < 0; /* full, or ZeroMQ has given it up */
    return rc < 0 ? PEAL_EQUEUE_FULL : PEAL_OK;
}

/* A mail is a batch already, so each one wakes its worker. */
static enum peal_err io_post(void *ctx, uint8_t worker, struct peal_mail *mail)
{
    struct peal_bus *bus = ctx;
    struct peal_mailbox *box = bus->workers[worker];
    size_t size = mail->bytes;
    if (atomic_fetch_add_explicit(&box->bytes, size, memory_order_relaxed) <= MAIL_BYTES_MAX &&
        peal_mailbox_push(box, mail) == PEAL_OK)
        return PEAL_OK;
    atomic_fetch_sub_explicit(&box->bytes, size, memory_order_relaxed);
    return PEAL_EFULL;
}

enum peal_err peal_bus_order(struct peal_bus *bus, struct peal_order *order)
{
    return peal_mailbox_put(&bus->orders, order);
}

void peal_bus_wake(struct peal_bus *bus)
{
    peal_mailbox_wake(&bus->orders);
}

/* ---- sockets --------------------------------------------------------------------------------- */

static void set_int(void *socket, int option, int value)
{
    int rc = zmq_setsockopt(socket, option, &value, sizeof value);
    PEAL_ASSERT(rc == 0); /* constants of ours */
}

/* key: the public one of who is at the endpoint, NULL without CURVE. */
static void *open_socket(const struct peal_bus *bus, int type, const char *endpoint,
                         const char *key, char *why, size_t why_size)
{
    void *socket = zmq_socket(bus->zmq, type);
    if (socket == NULL) {
        snprintf(why, why_size, "cannot make a ZeroMQ socket: %s", zmq_strerror(errno));
        return NULL;
    }
    peal_bus_socket_bound(socket, PEAL_WIRE_BYTES_MAX);
    set_int(socket, ZMQ_LINGER, 0);
    set_int(socket, ZMQ_SNDHWM, HWM);
    set_int(socket, ZMQ_RCVHWM, HWM);
    /* The kernel doubles its pauses between tries of connections: after a long cut it would find
     * the router only when the next one is over. A new try comes sooner. */
    set_int(socket, ZMQ_CONNECT_TIMEOUT, PEAL_CONNECT_MS);
    set_int(socket, ZMQ_RECONNECT_IVL, 100);
    set_int(socket, ZMQ_RECONNECT_IVL_MAX, 500);
    set_int(socket, ZMQ_IPV6, strchr(endpoint, '[') != NULL);
    if (type == ZMQ_DEALER) zmq_setsockopt(socket, ZMQ_ROUTING_ID, bus->topic, PEAL_TOPIC_SIZE);
    if (peal_bus_socket_secure(socket, bus->own, key) != PEAL_OK) {
        snprintf(why, why_size, "%s has no public key", endpoint);
        zmq_close(socket);
        return NULL;
    }
    if (zmq_connect(socket, endpoint) != 0) {
        snprintf(why, why_size, "cannot connect to %s: %s", endpoint, zmq_strerror(errno));
        zmq_close(socket);
        return NULL;
    }
    if (type == ZMQ_XSUB) {
        char own[1 + PEAL_TOPIC_SIZE];
        own[0] = 1;
        memcpy(own + 1, bus->topic, PEAL_TOPIC_SIZE);
        /* ZeroMQ keeps subscriptions and sends them again after a reconnect; these are two. */
        static const char all[] = "\1" PEAL_TOPIC_ALL;
        if (zmq_send(socket, own, sizeof own, 0) < 0 ||
            zmq_send(socket, all, sizeof all - 1, 0) < 0)
            peal_log(PEAL_LOG_ERROR, "bus.subscribe_failed", "error=%s", zmq_strerror(errno));
    }
    return socket;
}

/* Where the batches of a router come from: itself, or one of the relays. */
static const char *xpub_of(const struct peal_bus *bus, size_t link)
{
    const struct peal_config *c = bus->config;
    if (bus->inproc_xpub != NULL) return bus->inproc_xpub;
    if (c->cluster.via_count == 0) return c->cluster.routers[link].xpub;
    return c->cluster.via[bus->routers[link].via].xpub.at[link];
}

static void *open_xsub(const struct peal_bus *bus, size_t link, char *why, size_t why_size)
{
    const struct peal_config *c = bus->config;
    const char *key = NULL;
    if (c->cluster.via_count > 0)
        key = c->cluster.via[bus->routers[link].via].key;
    else if (bus->inproc_xpub == NULL)
        key = c->cluster.routers[link].key;
    return open_socket(bus, ZMQ_XSUB, xpub_of(bus, link), key, why, why_size);
}

static void *open_dealer(const struct peal_bus *bus, size_t link, char *why, size_t why_size)
{
    const char *endpoint = bus->inproc_rpc;
    const char *key = NULL;
    if (endpoint == NULL) {
        endpoint = bus->config->cluster.routers[link].rpc;
        key = bus->config->cluster.routers[link].key;
    }
    return open_socket(bus, ZMQ_DEALER, endpoint, key, why, why_size);
}

/* What the old socket may still have is not read any more, so nothing comes twice and nothing out
 * of order. */
static bool replace(struct peal_bus_source *source, void *fresh, size_t link, const char *why)
{
    if (fresh == NULL) {
        peal_log(PEAL_LOG_ERROR, "link.reopen_failed", "link=%zu why=\"%s\"", link, why);
        return false;
    }
    zmq_close(source->socket);
    peal_bus_source_socket(source, fresh);
    return true;
}

/* The router was not heard by its relay for too long: from now on by the next one. */
static void detour(struct peal_bus *bus, size_t link)
{
    struct router_link *r = &bus->routers[link];
    char why[300];
    size_t before = r->via;
    r->via = (before + 1) % bus->config->cluster.via_count;
    if (!replace(xsub_of(bus, link), open_xsub(bus, link, why, sizeof why), link, why)) {
        r->via = before;
        return;
    }
    peal_count(PEAL_M_LINK_DETOURS, 1);
    peal_log(PEAL_LOG_WARN, "link.detour", "link=%zu via=%zu endpoint=%s", link, r->via,
             xpub_of(bus, link));
}

/* The same way once more. ZeroMQ itself connects again after most failures, but gives up for good
 * when the other side spoke another mechanism, or no ZMTP: a router that was started without its
 * keys, and then with them, would never be heard again. */
static void reopen(struct peal_bus *bus, size_t link, struct peal_bus_source *source, void *fresh,
                   const char *why)
{
    if (!replace(source, fresh, link, why)) return;
    bool xsub = source == xsub_of(bus, link);
    peal_count(PEAL_M_LINK_REOPENED, 1);
    peal_log(PEAL_LOG_INFO, "link.reopened", "link=%zu socket=%s", link, xsub ? "xsub" : "dealer");
}

static void mend_links(struct peal_bus *bus)
{
    if (bus->inproc_rpc != NULL) return;
    size_t via_count = bus->config->cluster.via_count;
    for (size_t i = 0; i < bus->router_count; i++) {
        const struct router_link *r = &bus->routers[i];
        char why[300];
        bool detours = via_count > 1;
        bool silent = peal_uplink_silent(bus->uplink, i, detours ? PEAL_BEAT_LOST_MS : REOPEN_MS);
        bool dumb = peal_uplink_unanswered(bus->uplink, i, r->refused ? REFUSED_MS : REOPEN_MS);
        if (silent && detours) detour(bus, i);
        if (silent && !detours)
            reopen(bus, i, xsub_of(bus, i), open_xsub(bus, i, why, sizeof why), why);
        /* A detour comes so early that answers may be under way, and says nothing of the router. */
        if (dumb || (silent && !detours))
            reopen(bus, i, dealer_of(bus, i), open_dealer(bus, i, why, sizeof why), why);
    }
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* The last part of the next message; the topic in front of a batch is of no further use. */
static bool take(void *socket, zmq_msg_t *body)
{
    int more = 1;
    size_t size = sizeof more;
    if (zmq_msg_recv(body, socket, ZMQ_DONTWAIT) < 0) return false;
    while (zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size) == 0 && more)
        if (zmq_msg_recv(body, socket, ZMQ_DONTWAIT) < 0) return false;
    return true;
}

static void take_socket(struct peal_bus *bus, size_t link, bool batches)
{
    struct peal_bus_source *source = batches ? xsub_of(bus, link) : dealer_of(bus, link);
    for (int i = 0; i < TURN_MESSAGES; i++) {
        zmq_msg_t body;
        zmq_msg_init(&body);
        bool got = take(source->socket, &body);
        struct peal_span bytes = peal_span_make(zmq_msg_data(&body), zmq_msg_size(&body));
        if (got && batches)
            peal_uplink_on_batch(bus->uplink, link, bytes);
        else if (got)
            peal_uplink_on_answer(bus->uplink, link, bytes);
        zmq_msg_close(&body);
        if (!got) return;
    }
    source->used = true; /* there may be more */
}

static void turn(struct peal_bus *bus)
{
    if (peal_bus_wait(&bus->sources, TICK_MS) < 0 && errno != EINTR)
        peal_log(PEAL_LOG_ERROR, "bus.poll_failed", "error=%s", strerror(errno));
    peal_uplink_set_time(bus->uplink, peal_clock_mono_ms());
    peal_mailbox_arm(&bus->orders);
    struct peal_order *order = NULL;
    for (int i = 0; i < TURN_ORDERS && (order = peal_mailbox_pop(&bus->orders)) != NULL; i++)
        peal_uplink_on_order(bus->uplink, order);
    if (order != NULL) peal_mailbox_wake(&bus->orders); /* there may be more */
    for (size_t i = 0; i < bus->router_count; i++) {
        if (xsub_of(bus, i)->ready) take_socket(bus, i, true);
        if (dealer_of(bus, i)->ready) take_socket(bus, i, false);
    }
    peal_uplink_on_tick(bus->uplink);
    mend_links(bus);
    peal_uplink_flush(bus->uplink);
    atomic_store(bus->ready, peal_uplink_ready(bus->uplink));
}

static void *bus_run(void *arg)
{
    struct peal_bus *bus = arg;
    pthread_setname_np(pthread_self(), "bus");
    peal_metrics_thread_start();
    peal_uplink_set_time(bus->uplink, peal_clock_mono_ms());
    while (!atomic_load(&bus->stopping))
        turn(bus);
    return NULL;
}

/* ---- start and stop -------------------------------------------------------------------------- */

void *peal_bus_context_new(void)
{
    return zmq_ctx_new();
}

void peal_bus_context_free(void *zmq)
{
    while (zmq_ctx_term(zmq) != 0 && errno == EINTR) {
    }
}

static void bus_free(struct peal_bus *bus)
{
    for (size_t i = SOCKETS; i < bus->sources.count; i++)
        if (bus->sources.at[i].socket != NULL) zmq_close(bus->sources.at[i].socket);
    peal_bus_sources_fini(&bus->sources);
    struct peal_order *order;
    while (bus->orders.cells != NULL && (order = peal_mailbox_pop(&bus->orders)) != NULL)
        peal_order_free(order);
    peal_mailbox_fini(&bus->orders);
    peal_uplink_free(bus->uplink);
    free(bus);
}

enum peal_err peal_bus_start(const struct peal_bus_options *options, struct peal_bus **out,
                             char *why, size_t why_size)
{
    *out = NULL;
    bool inproc = options->inproc_rpc != NULL;
    size_t router_count = inproc ? 1 : options->config->cluster.router_count;
    PEAL_ASSERT(router_count > 0);
    snprintf(why, why_size, "more than %d routers", ROUTERS_MAX);
    if (router_count > ROUTERS_MAX) return PEAL_ECONFIG;
    snprintf(why, why_size, "out of memory or descriptors");
    struct peal_bus *bus = calloc(1, sizeof *bus + router_count * sizeof bus->routers[0]);
    if (bus == NULL) return PEAL_ENOMEM;
    bus->router_count = router_count;
    memcpy(bus->workers, options->workers, options->worker_count * sizeof bus->workers[0]);
    bus->ready = options->ready;

    enum peal_err err = peal_bus_sources_init(&bus->sources, SOCKETS + 2 * router_count);
    if (err == PEAL_OK) err = peal_mailbox_init(&bus->orders, ORDER_SLOTS);
    if (err == PEAL_OK) {
        struct peal_uplink_io io = {bus, io_send, io_post};
        bus->uplink = peal_uplink_new(&io, options->boot, router_count, options->worker_count);
        if (bus->uplink == NULL) err = PEAL_ENOMEM;
    }
    bus->config = options->config;
    bus->zmq = options->zmq;
    bus->own = options->security->curve && !inproc ? &options->security->own : NULL;
    bus->inproc_rpc = options->inproc_rpc;
    bus->inproc_xpub = options->inproc_xpub;
    peal_topic_of(options->boot, bus->topic);
    if (err == PEAL_OK) peal_bus_source_fd(&bus->sources.at[ORDERS], bus->orders.fd);
    for (size_t i = 0; i < router_count && err == PEAL_OK; i++) {
        struct router_link *r = &bus->routers[i];
        void *socket;
        /* Nodes spread over the relays by their boot ids, which are random. */
        if (options->config->cluster.via_count > 0)
            r->via = options->boot % options->config->cluster.via_count;
        if ((socket = open_xsub(bus, i, why, why_size)) != NULL)
            peal_bus_source_socket(xsub_of(bus, i), socket);
        if (socket != NULL && (socket = open_dealer(bus, i, why, why_size)) != NULL)
            peal_bus_source_socket(dealer_of(bus, i), socket);
        if (socket == NULL) err = PEAL_ECONFIG;
    }
    if (err == PEAL_OK && pthread_create(&bus->thread, NULL, bus_run, bus) != 0) err = PEAL_ENOMEM;
    if (err != PEAL_OK) {
        bus_free(bus);
        return err;
    }
    *out = bus;
    return PEAL_OK;
}

void peal_bus_stop(struct peal_bus *bus)
{
    if (bus == NULL) return;
    atomic_store(&bus->stopping, true);
    peal_mailbox_wake(&bus->orders);
    pthread_join(bus->thread, NULL);
    bus_free(bus);
}

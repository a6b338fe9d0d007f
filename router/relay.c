/* One thread waits on all sockets. A turn takes a bounded share of each pair, so that no router's
 * traffic waits for another's, and never waits to send: XPUB drops at its high-water mark, for the
 * node that is slow and for no other, which the link sequence shows to that node.
 *
 * Subscriptions go upwards without a high-water mark. ZeroMQ sends an XSUB's subscriptions again
 * after a reconnect, and of more than its mark allows the rest would be lost without a word. They
 * are bounded by router/upstream.c instead. The XPUB is a plain one: with ZMQ_XPUB_VERBOSE topics
 * stay behind when nodes are gone, with ZMQ_XPUB_MANUAL subscriptions get lost.
 *
 * What was under way when a connection to a router broke is gone. Nodes would find out by the next
 * beat; RELINKED on the topic `all` lets them sync at once. It proves nothing: it may come too
 * early, twice or not at all, and the link sequence decides as ever. */
#include "router/relay.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#include "base/assert.h"
#include "base/bus_socket.h"
#include "base/bus_wait.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "proto/wire.h"
#include "router/ingress.h"
#include "router/upstream.h"
#include "router/zap.h"

enum {
    TURN_MESSAGES = 512, /* taken from one socket per turn */
    TICK_MS = 250,       /* longest wait, so that announcements are on time */
    HWM = 10000,         /* messages that wait of one router, and for one node */
    LINGER_MS = 1000,    /* for what was handed on when the relay stops */
    ROUTERS_MAX = PEAL_SLOTS,
};

/* What is waited for: WAKE, and of each pair these, at its `sources`. */
enum { WAKE, PAIRS };
enum { MONITOR, XPUB, XSUB, SOURCES };

struct pair {
    void *xsub;
    void *xpub;
    void *monitor; /* tells when xsub is connected and when no longer */
    struct peal_upstream upstream;
    struct peal_bus_source *sources; /* its own of the relay's */
    const char *endpoint;            /* of the router */
    char bound[256];
};

struct peal_relay {
    uint64_t boot;
    struct peal_status *status;
    struct peal_zap *zap;
    pthread_t thread;
    _Atomic bool stopping;
    int wake;
    bool ready; /* as last told */
    struct peal_bus_sources sources;
    size_t pair_count;
    struct pair pairs[];
};

/* ---- one pair ------------------------------------------------------------------------------ */

/* Takes one event of the monitor: a frame with its number, and one with the endpoint. */
static bool take_link(struct pair *p, size_t number)
{
    unsigned char head[6];
    char address[256];
    if (zmq_recv(p->monitor, head, sizeof head, ZMQ_DONTWAIT) < 0) return false;
    uint16_t event;
    memcpy(&event, head, sizeof event);
    int size = zmq_recv(p->monitor, address, sizeof address - 1, ZMQ_DONTWAIT);
    if (size < 0) size = 0;
    if (size > (int)sizeof address - 1) size = (int)sizeof address - 1;
    bool linked = event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
    if (linked || p->upstream.linked)
        peal_log(linked ? PEAL_LOG_INFO : PEAL_LOG_WARN, linked ? "uplink.up" : "uplink.down",
                 "router=%zu endpoint=%.*s", number, size, address);
    peal_upstream_on_link(&p->upstream, linked);
    return true;
}

static bool take_subscription(struct pair *p, size_t number)
{
    (void)number;
    char event[1 + PEAL_TOPIC_SIZE + 1]; /* longer ones are cut, and are then no topic */
    int size = zmq_recv(p->xpub, event, sizeof event, ZMQ_DONTWAIT);
    if (size < 0) return false;
    if (size > (int)sizeof event) size = (int)sizeof event;
    p->sources[XSUB].used = true;
    if (peal_upstream_on_subscription(&p->upstream, peal_span_make(event, (size_t)size)) &&
        zmq_send(p->xsub, event, (size_t)size, ZMQ_DONTWAIT) < 0)
        peal_log(PEAL_LOG_ERROR, "uplink.subscribe_failed", "error=%s", zmq_strerror(errno));
    return true;
}

/* Hands on one message with all its parts; they are here once the first one is. */
static bool forward(struct pair *p, size_t number)
{
    (void)number;
    bool more = true;
    bool sending = true;
    p->sources[XPUB].used = true;
    for (int part_count = 0; more; part_count++) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        if (zmq_msg_recv(&part, p->xsub, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&part);
            return part_count > 0;
        }
        size_t size = zmq_msg_size(&part);
        more = zmq_msg_more(&part) != 0;
        sending =
            sending && zmq_msg_send(&part, p->xpub, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)) >= 0;
        if (sending)
            peal_count(PEAL_M_RELAY_BYTES, (int64_t)size);
        else
            zmq_msg_close(&part); /* the nodes see the hole */
    }
    if (sending) peal_count(PEAL_M_RELAY_FRAMES, 1);
    return true;
}

/* ZeroMQ itself connects again after most failures, but gives up for good when the router spoke
 * another mechanism, or no ZMTP. The socket keeps its subscriptions and sends them again. */
static void reconnect(struct pair *p, size_t number)
{
    p->sources[XSUB].used = true;
    /* There is nothing to leave any more where ZeroMQ has given up. */
    if (zmq_disconnect(p->xsub, p->endpoint) != 0 && errno != ENOENT)
        peal_log(PEAL_LOG_WARN, "uplink.disconnect_failed", "router=%zu error=%s", number,
                 zmq_strerror(errno));
    if (zmq_connect(p->xsub, p->endpoint) != 0) {
        peal_log(PEAL_LOG_ERROR, "uplink.connect_failed", "router=%zu error=%s", number,
                 zmq_strerror(errno));
        return;
    }
    peal_count(PEAL_M_LINK_REOPENED, 1);
    peal_log(PEAL_LOG_INFO, "uplink.reopened", "router=%zu endpoint=%s", number, p->endpoint);
}

static void announce(struct pair *p, uint64_t boot)
{
    p->sources[XPUB].used = true;
    struct peal_frame relinked = {.type = PEAL_F_RELINKED, .boot = boot, .seq = p->upstream.links};
    struct peal_buf bytes = {0};
    peal_frame_encode(&relinked, &bytes);
    if (!bytes.failed &&
        zmq_send(p->xpub, PEAL_TOPIC_ALL, strlen(PEAL_TOPIC_ALL), ZMQ_SNDMORE | ZMQ_DONTWAIT) >=
            0 &&
        zmq_send(p->xpub, bytes.at, bytes.size, ZMQ_DONTWAIT) < 0)
        peal_log(PEAL_LOG_WARN, "relay.announce_failed", "error=%s", zmq_strerror(errno));
    peal_buf_fini(&bytes);
}

/* ---- the thread ---------------------------------------------------------------------------- */

static void tell_ready(struct peal_relay *relay)
{
    bool ready = true;
    for (size_t i = 0; i < relay->pair_count; i++)
        ready &= relay->pairs[i].upstream.linked;
    if (ready == relay->ready) return;
    relay->ready = ready;
    peal_status_ready(relay->status, ready);
}

/* Takes a bounded share of what a source has. */
static void take_source(struct pair *p, int place, size_t number,
                        bool (*take)(struct pair *p, size_t number))
{
    struct peal_bus_source *source = &p->sources[place];
    if (!source->ready) return;
    for (int n = 0; n < TURN_MESSAGES; n++)
        if (!take(p, number)) return;
    source->used = true; /* there may be more */
}

static void turn(struct peal_relay *relay)
{
    if (peal_bus_wait(&relay->sources, TICK_MS) < 0 && errno != EINTR)
        peal_log(PEAL_LOG_ERROR, "relay.poll_failed", "error=%s", strerror(errno));
    uint64_t now_ms = peal_clock_mono_ms();
    for (size_t i = 0; i < relay->pair_count; i++) {
        struct pair *p = &relay->pairs[i];
        take_source(p, MONITOR, i, take_link);
        take_source(p, XPUB, i, take_subscription);
        take_source(p, XSUB, i, forward);
        if (peal_upstream_tell(&p->upstream, now_ms)) announce(p, relay->boot);
        if (peal_upstream_retry(&p->upstream, now_ms)) reconnect(p, i);
    }
    tell_ready(relay);
}

static void *relay_run(void *arg)
{
    struct peal_relay *relay = arg;
    pthread_setname_np(pthread_self(), "forward");
    peal_metrics_thread_start();
    while (!atomic_load(&relay->stopping))
        turn(relay);
    for (size_t i = 0; i < relay->pair_count; i++)
        peal_upstream_fini(&relay->pairs[i].upstream);
    return NULL;
}

/* ---- start and stop ------------------------------------------------------------------------ */

static void set_int(void *socket, int option, int value)
{
    int rc = zmq_setsockopt(socket, option, &value, sizeof value);
    PEAL_ASSERT(rc == 0); /* constants of ours */
}

/* Every socket of a relay to other processes is made here. */
static void *new_socket(void *zmq, int type, size_t bytes_max, char *why, size_t why_size)
{
    void *socket = zmq_socket(zmq, type);
    if (socket == NULL) {
        snprintf(why, why_size, "cannot make a ZeroMQ socket: %s", zmq_strerror(errno));
        return NULL;
    }
    peal_bus_socket_bound(socket, bytes_max);
    set_int(socket, ZMQ_LINGER, type == ZMQ_XSUB ? 0 : LINGER_MS);
    set_int(socket, ZMQ_RCVHWM, HWM);
    set_int(socket, ZMQ_SNDHWM, type == ZMQ_XSUB ? 0 : HWM);
    return socket;
}

static enum peal_err connect_router(struct pair *p, void *zmq, const struct peal_curve_pair *own,
                                    const struct peal_config_router *router, char *why,
                                    size_t why_size)
{
    p->xsub = new_socket(zmq, ZMQ_XSUB, PEAL_WIRE_BYTES_MAX, why, why_size);
    if (p->xsub == NULL) return PEAL_ENOMEM;
    set_int(p->xsub, ZMQ_CONNECT_TIMEOUT, PEAL_CONNECT_MS); /* these as in node/bus.c */
    set_int(p->xsub, ZMQ_RECONNECT_IVL, 100);
    set_int(p->xsub, ZMQ_RECONNECT_IVL_MAX, 500);
    set_int(p->xsub, ZMQ_IPV6, strchr(router->xpub, '[') != NULL);
    if (peal_bus_socket_secure(p->xsub, own, router->key) != PEAL_OK) {
        snprintf(why, why_size, "%s has no public key", router->xpub);
        return PEAL_ECONFIG;
    }

    char monitor[64];
    snprintf(monitor, sizeof monitor, "inproc://relay-uplink-%p", p->xsub);
    p->monitor = zmq_socket(zmq, ZMQ_PAIR);
    if (p->monitor == NULL ||
        zmq_socket_monitor(p->xsub, monitor,
                           ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED) != 0 ||
        zmq_connect(p->monitor, monitor) != 0) {
        snprintf(why, why_size, "cannot watch a ZeroMQ socket: %s", zmq_strerror(errno));
        return PEAL_ENOMEM;
    }
    p->endpoint = router->xpub;
    if (zmq_connect(p->xsub, router->xpub) != 0) {
        snprintf(why, why_size, "cannot connect to %s: %s", router->xpub, zmq_strerror(errno));
        return PEAL_ECONFIG;
    }
    return PEAL_OK;
}

/* One door per router, and none of them a router's own. */
static enum peal_err check_doors(const struct peal_config *config, char *why, size_t why_size)
{
    size_t router_count = config->cluster.router_count;
    if (config->relay_doors.count == 0 && router_count > 1) {
        snprintf(why, why_size, "doors.relay: a relay of %zu routers needs as many doors",
                 router_count);
        return PEAL_ECONFIG;
    }
    for (size_t i = 0; i < router_count; i++) {
        const char *xpub = config->cluster.routers[i].xpub;
        bool own = config->relay_doors.count == 0 && strcmp(xpub, config->doors.xpub) == 0;
        for (size_t j = 0; j < config->relay_doors.count; j++)
            own |= strcmp(xpub, config->relay_doors.at[j]) == 0;
        if (!own) continue;
        snprintf(why, why_size, "cluster.routers.%zu.xpub: %s is a door of this relay itself", i,
                 xpub);
        return PEAL_ECONFIG;
    }
    return PEAL_OK;
}

/* The doors, and the guard at them, which has to be there before they are bound. */
static enum peal_err make_doors(struct peal_relay *relay, const struct peal_bus_security *security,
                                void *zmq, char *why, size_t why_size)
{
    struct peal_zap_door doors[ROUTERS_MAX];
    for (size_t i = 0; i < relay->pair_count; i++) {
        struct pair *p = &relay->pairs[i];
        p->xpub = new_socket(zmq, ZMQ_XPUB, PEAL_INGRESS_XPUB_BYTES_MAX, why, why_size);
        if (p->xpub == NULL) return PEAL_ENOMEM;
        doors[i] = (struct peal_zap_door){"relay", p->xpub};
        peal_bus_socket_guard(p->xpub, security->curve ? &security->own : NULL, doors[i].name);
    }
    return peal_zap_start(zmq, security, doors, relay->pair_count, &relay->zap, why, why_size);
}

static enum peal_err bind_doors(struct peal_relay *relay, const struct peal_config *config,
                                char *why, size_t why_size)
{
    enum peal_err err = PEAL_OK;
    for (size_t i = 0; i < relay->pair_count && err == PEAL_OK; i++) {
        struct pair *p = &relay->pairs[i];
        bool listed = config->relay_doors.count > 0;
        char key[64] = "doors.xpub";
        if (listed) snprintf(key, sizeof key, "doors.relay.%zu", i);
        err =
            peal_ingress_bind(p->xpub, key, listed ? config->relay_doors.at[i] : config->doors.xpub,
                              p->bound, sizeof p->bound, why, why_size);
    }
    return err;
}

static enum peal_err open_pairs(struct peal_relay *relay, const struct peal_config *config,
                                const struct peal_bus_security *security, void *zmq, char *why,
                                size_t why_size)
{
    enum peal_err err = PEAL_OK;
    for (size_t i = 0; i < relay->pair_count && err == PEAL_OK; i++)
        err = peal_upstream_init(&relay->pairs[i].upstream);
    if (err == PEAL_OK) err = make_doors(relay, security, zmq, why, why_size);
    if (err == PEAL_OK) err = bind_doors(relay, config, why, why_size);
    for (size_t i = 0; i < relay->pair_count && err == PEAL_OK; i++)
        err = connect_router(&relay->pairs[i], zmq, security->curve ? &security->own : NULL,
                             &config->cluster.routers[i], why, why_size);
    return err;
}

static void watch_sources(struct peal_relay *relay)
{
    peal_bus_source_fd(&relay->sources.at[WAKE], relay->wake);
    for (size_t i = 0; i < relay->pair_count; i++) {
        struct pair *p = &relay->pairs[i];
        p->sources = &relay->sources.at[PAIRS + SOURCES * i];
        peal_bus_source_socket(&p->sources[MONITOR], p->monitor);
        peal_bus_source_socket(&p->sources[XPUB], p->xpub);
        peal_bus_source_socket(&p->sources[XSUB], p->xsub);
    }
}

static void relay_free(struct peal_relay *relay)
{
    peal_zap_stop(relay->zap);
    for (size_t i = 0; i < relay->pair_count; i++) {
        struct pair *p = &relay->pairs[i];
        if (p->xsub != NULL && p->monitor != NULL) zmq_socket_monitor(p->xsub, NULL, 0);
        if (p->monitor != NULL) zmq_close(p->monitor);
        if (p->xsub != NULL) zmq_close(p->xsub);
        if (p->xpub != NULL) zmq_close(p->xpub);
        peal_upstream_fini(&p->upstream);
    }
    if (relay->wake >= 0) close(relay->wake);
    peal_bus_sources_fini(&relay->sources);
    free(relay);
}

enum peal_err peal_relay_start(const struct peal_config *config,
                               const struct peal_bus_security *security, void *zmq,
                               struct peal_status *status, struct peal_relay **out, char *why,
                               size_t why_size)
{
    size_t router_count = config->cluster.router_count;
    PEAL_ASSERT(router_count > 0);
    PEAL_ASSERT(router_count <= ROUTERS_MAX);
    *out = NULL;
    enum peal_err err = check_doors(config, why, why_size);
    if (err != PEAL_OK) return err;
    snprintf(why, why_size, "out of memory or descriptors");
    struct peal_relay *relay = calloc(1, sizeof *relay + router_count * sizeof relay->pairs[0]);
    if (relay == NULL) return PEAL_ENOMEM;
    relay->boot = peal_random_u64();
    relay->status = status;
    relay->pair_count = router_count;
    relay->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (relay->wake < 0) err = PEAL_ENOMEM;
    if (err == PEAL_OK)
        err = peal_bus_sources_init(&relay->sources, PAIRS + SOURCES * router_count);
    if (err == PEAL_OK) err = open_pairs(relay, config, security, zmq, why, why_size);
    if (err == PEAL_OK) {
        watch_sources(relay);
        if (pthread_create(&relay->thread, NULL, relay_run, relay) != 0) err = PEAL_ENOMEM;
    }
    if (err != PEAL_OK) {
        relay_free(relay);
        return err;
    }
    *out = relay;
    return PEAL_OK;
}

void peal_relay_stop(struct peal_relay *relay)
{
    if (relay == NULL) return;
    atomic_store(&relay->stopping, true);
    int rc = eventfd_write(relay->wake, 1);
    PEAL_ASSERT(rc == 0); /* it is written once */
    pthread_join(relay->thread, NULL);
    relay_free(relay);
}

size_t peal_relay_doors(const struct peal_relay *relay)
{
    return relay->pair_count;
}

const char *peal_relay_door(const struct peal_relay *relay, size_t i)
{
    PEAL_ASSERT(i < relay->pair_count);
    return relay->pairs[i].bound;
}

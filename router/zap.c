/* One thread waits on the ZAP socket and on one monitor per door, and owns what it needs to
 * answer. The I/O threads of ZeroMQ wait for room in a monitor, so this thread never waits for
 * them, and a monitor is taken off its door before its reader ends. */
#include "router/zap.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

enum {
    TURN_EVENTS = 256, /* taken from one monitor per turn */
    PARTS = 7,         /* of a request: version, id, domain, address, identity, mechanism, key */
    PARTS_MIN = 6,     /* without a key */
    USER_BYTES = 16 + PEAL_PEER_NAME_MAX,
    LOG_EVERY_MS = 1000,
    EVENTS = ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
             ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL,
};

static const char zap_endpoint[] = "inproc://zeromq.zap.01"; /* RFC 27 */
static const char node_prefix[] = "node:";

struct door {
    struct peal_zap_door at;
    void *monitor; /* the reading end */
};

struct peal_zap {
    const struct peal_bus_security *security;
    pthread_t thread;
    bool running;
    _Atomic bool stopping;
    int wake; /* eventfd */
    void *rep;
    uint64_t logged_ms;
    uint64_t unlogged; /* refusals since then */
    zmq_pollitem_t *items;
    size_t door_count;
    struct door doors[];
};

/* ---- the rules ------------------------------------------------------------------------------ */

enum peal_zap_verdict peal_zap_judge(const struct peal_bus_security *security,
                                     const struct peal_zap_request *request,
                                     const struct peal_peers_entry **who)
{
    bool for_nodes =
        peal_span_is(request->domain, "xpub") || peal_span_is(request->domain, "relay");
    bool for_all = peal_span_is(request->domain, "pull") || peal_span_is(request->domain, "rpc");
    *who = NULL;
    if (!peal_span_is(request->version, "1.0") || !(for_nodes || for_all))
        return PEAL_ZAP_BAD_REQUEST;
    if (!security->curve)
        return peal_span_is(request->mechanism, "NULL") ? PEAL_ZAP_YES : PEAL_ZAP_BAD_REQUEST;
    if (!peal_span_is(request->mechanism, "CURVE") || request->key.size != PEAL_CURVE_KEY_BYTES)
        return PEAL_ZAP_BAD_REQUEST;
    *who = peal_peers_find(&security->peers, (const unsigned char *)request->key.at);
    if (*who == NULL) return PEAL_ZAP_UNKNOWN_KEY;
    if (for_nodes && (*who)->role != PEAL_ROLE_NODE) return PEAL_ZAP_WRONG_ROLE;
    return PEAL_ZAP_YES;
}

bool peal_zap_is_node(const char *user_id)
{
    return user_id != NULL && strncmp(user_id, node_prefix, sizeof node_prefix - 1) == 0;
}

/* ---- what is told --------------------------------------------------------------------------- */

/* Whoever is refused can come again and again; the log is not theirs to fill. */
static bool may_log(struct peal_zap *zap)
{
    uint64_t now_ms = peal_clock_mono_ms();
    if (zap->logged_ms != 0 && now_ms - zap->logged_ms < LOG_EVERY_MS) {
        zap->unlogged++;
        return false;
    }
    zap->logged_ms = now_ms;
    return true;
}

static void tell_refused(struct peal_zap *zap, const struct peal_zap_request *request,
                         struct peal_span address, enum peal_zap_verdict verdict,
                         const struct peal_peers_entry *who)
{
    static const char *const words[] = {"", "key", "role", "request"};
    char door[32];
    char from[80];
    char key[PEAL_CURVE_TEXT + 1] = "-";
    peal_count(verdict == PEAL_ZAP_WRONG_ROLE ? PEAL_M_BUS_REFUSED_ROLE : PEAL_M_BUS_REFUSED_KEY,
               1);
    if (!may_log(zap)) return;
    if (request->key.size == PEAL_CURVE_KEY_BYTES)
        peal_curve_encode((const unsigned char *)request->key.at, key);
    peal_log(PEAL_LOG_WARN, "bus.refused",
             "door=%s reason=%s address=%s name=%s key='%s' unlogged=%llu",
             peal_log_quote(request->domain, door, sizeof door), words[verdict],
             peal_log_quote(address, from, sizeof from),
             who == NULL || who->name[0] == '\0' ? "-" : who->name, key,
             (unsigned long long)zap->unlogged);
    zap->unlogged = 0;
}

static void tell_event(struct peal_zap *zap, size_t door, uint16_t event, uint32_t value)
{
    bool protocol = event == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL;
    if (event == ZMQ_EVENT_ACCEPTED) {
        peal_count(PEAL_M_BUS_ACCEPTED, 1);
        return;
    }
    if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
        peal_count(PEAL_M_BUS_HANDSHAKES, 1);
        return;
    }
    if (!protocol && event != ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL) return;
    peal_count(protocol ? PEAL_M_BUS_REFUSED_PROTOCOL : PEAL_M_BUS_REFUSED_BROKEN, 1);
    if (!may_log(zap)) return;
    if (protocol)
        peal_log(PEAL_LOG_WARN, "bus.refused", "door=%s reason=protocol code=%#x unlogged=%llu",
                 zap->doors[door].at.name, value, (unsigned long long)zap->unlogged);
    else
        peal_log(PEAL_LOG_WARN, "bus.refused", "door=%s reason=broken error=\"%s\" unlogged=%llu",
                 zap->doors[door].at.name, zmq_strerror((int)value),
                 (unsigned long long)zap->unlogged);
    zap->unlogged = 0;
}

/* ---- the thread ----------------------------------------------------------------------------- */

/* Receives a message into at most max parts, which are initialised, and drops what is more.
 * Returns how many parts it had; 0 when there is none. */
static size_t receive(void *socket, zmq_msg_t *parts, size_t max)
{
    size_t count = 0;
    bool more = true;
    while (more) {
        zmq_msg_t rest;
        zmq_msg_t *part = count < max ? &parts[count] : &rest;
        if (part == &rest) zmq_msg_init(&rest);
        bool got = zmq_msg_recv(part, socket, ZMQ_DONTWAIT) >= 0;
        more = got && zmq_msg_more(part);
        if (part == &rest) zmq_msg_close(&rest);
        count += got;
    }
    return count;
}

static struct peal_span span_of(zmq_msg_t *part)
{
    return peal_span_make(zmq_msg_data(part), zmq_msg_size(part));
}

/* A refusal is 300, "temporary": the peer hears nothing, is cut off when the time for handshakes is
 * over, and connects again, so it comes in once the list has its key. After 400 or 500 ZeroMQ's
 * connecting side gives up for good, and every node that a wrong list once refused would have to
 * be started again.
 *
 * What cannot be sent is lost with the connection that waits for it. */
static void answer(struct peal_zap *zap, struct peal_span id, enum peal_zap_verdict verdict,
                   const char *user)
{
    bool yes = verdict == PEAL_ZAP_YES;
    const struct peal_span parts[] = {
        peal_span_of("1.0"),
        id,
        peal_span_of(yes ? "200" : "300"),
        peal_span_of(yes ? "" : "refused"), /* the peer is not told why */
        peal_span_of(user),
        peal_span_of(""),
    };
    const size_t count = sizeof parts / sizeof *parts;
    for (size_t i = 0; i < count; i++)
        if (zmq_send(zap->rep, parts[i].at, parts[i].size,
                     ZMQ_DONTWAIT | (i + 1 < count ? ZMQ_SNDMORE : 0)) < 0) {
            peal_log(PEAL_LOG_WARN, "zap.send_failed", "error=%s", zmq_strerror(errno));
            return;
        }
}

/* The user id is never empty for who comes in: ZeroMQ would take one that the peer made up. */
static void on_request(struct peal_zap *zap, zmq_msg_t *parts, size_t count)
{
    char user[USER_BYTES] = "";
    const struct peal_peers_entry *who = NULL;
    struct peal_zap_request request = {0};
    enum peal_zap_verdict verdict = PEAL_ZAP_BAD_REQUEST;
    if (count == PARTS || count == PARTS_MIN) {
        request = (struct peal_zap_request){.version = span_of(&parts[0]),
                                            .domain = span_of(&parts[2]),
                                            .mechanism = span_of(&parts[5])};
        if (count == PARTS) request.key = span_of(&parts[6]);
        verdict = peal_zap_judge(zap->security, &request, &who);
    }
    if (verdict == PEAL_ZAP_YES)
        snprintf(user, sizeof user, "%s:%s",
                 peal_role_word(who == NULL ? PEAL_ROLE_NODE : who->role),
                 who == NULL ? "" : who->name);
    else
        tell_refused(zap, &request, count > 3 ? span_of(&parts[3]) : peal_span_of("-"), verdict,
                     who);
    answer(zap, count > 1 ? span_of(&parts[1]) : peal_span_of(""), verdict, user);
}

static void take_requests(struct peal_zap *zap)
{
    for (;;) {
        zmq_msg_t parts[PARTS];
        for (size_t i = 0; i < PARTS; i++)
            zmq_msg_init(&parts[i]);
        size_t count = receive(zap->rep, parts, PARTS);
        if (count > 0) on_request(zap, parts, count);
        for (size_t i = 0; i < PARTS; i++)
            zmq_msg_close(&parts[i]);
        if (count == 0) return;
    }
}

/* An event is two parts: u16 and u32 of this machine, and the endpoint. */
static bool take_event(struct peal_zap *zap, size_t door)
{
    zmq_msg_t parts[2];
    uint16_t event = 0;
    uint32_t value = 0;
    zmq_msg_init(&parts[0]);
    zmq_msg_init(&parts[1]);
    size_t count = receive(zap->doors[door].monitor, parts, 2);
    if (count > 0 && zmq_msg_size(&parts[0]) == sizeof event + sizeof value) {
        memcpy(&event, zmq_msg_data(&parts[0]), sizeof event);
        memcpy(&value, (char *)zmq_msg_data(&parts[0]) + sizeof event, sizeof value);
        tell_event(zap, door, event, value);
    }
    zmq_msg_close(&parts[0]);
    zmq_msg_close(&parts[1]);
    return count > 0;
}

static void *zap_run(void *arg)
{
    struct peal_zap *zap = arg;
    pthread_setname_np(pthread_self(), "zap");
    peal_metrics_thread_start();
    int count = 0;
    zap->items[count++] = (zmq_pollitem_t){NULL, zap->wake, ZMQ_POLLIN, 0};
    for (size_t i = 0; i < zap->door_count; i++)
        zap->items[count++] = (zmq_pollitem_t){zap->doors[i].monitor, 0, ZMQ_POLLIN, 0};
    zap->items[count++] = (zmq_pollitem_t){zap->rep, 0, ZMQ_POLLIN, 0};
    while (!atomic_load(&zap->stopping)) {
        if (zmq_poll(zap->items, count, -1) < 0 && errno != EINTR)
            peal_log(PEAL_LOG_ERROR, "zap.poll_failed", "error=%s", zmq_strerror(errno));
        take_requests(zap);
        for (size_t i = 0; i < zap->door_count; i++)
            for (int n = 0; n < TURN_EVENTS && take_event(zap, i); n++) {
            }
    }
    return NULL;
}

/* ---- start and stop ------------------------------------------------------------------------- */

/* The door tells its events to an inproc endpoint, which is read by the other end. */
static bool watch(struct peal_zap *zap, void *zmq, const struct peal_zap_door *door)
{
    char endpoint[64];
    struct door *d = &zap->doors[zap->door_count];
    snprintf(endpoint, sizeof endpoint, "inproc://peal-door-%zu", zap->door_count);
    if (zmq_socket_monitor(door->socket, endpoint, EVENTS) != 0) return false;
    d->at = *door;
    zap->door_count++;
    d->monitor = zmq_socket(zmq, ZMQ_PAIR);
    return d->monitor != NULL && zmq_connect(d->monitor, endpoint) == 0;
}

static bool open_zap(struct peal_zap *zap, void *zmq)
{
    int none = 0;
    zap->rep = zmq_socket(zmq, ZMQ_REP);
    if (zap->rep == NULL) return false;
    zmq_setsockopt(zap->rep, ZMQ_LINGER, &none, sizeof none);
    return zmq_bind(zap->rep, zap_endpoint) == 0;
}

enum peal_err peal_zap_start(void *zmq, const struct peal_bus_security *security,
                             const struct peal_zap_door *doors, size_t door_count,
                             struct peal_zap **out, char *why, size_t why_size)
{
    *out = NULL;
    snprintf(why, why_size, "out of memory or descriptors");
    struct peal_zap *zap = calloc(1, sizeof *zap + door_count * sizeof zap->doors[0]);
    if (zap == NULL) return PEAL_ENOMEM;
    zap->security = security;
    zap->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    zap->items = calloc(2 + door_count, sizeof *zap->items); /* and the wake-up, and ZAP */
    bool good = zap->wake >= 0 && zap->items != NULL;
    for (size_t i = 0; i < door_count && good; i++)
        good = watch(zap, zmq, &doors[i]);
    if (good) good = open_zap(zap, zmq);
    if (!good)
        snprintf(why, why_size, "cannot watch the doors: %s",
                 zap->wake < 0 ? strerror(errno) : zmq_strerror(errno));
    if (good) good = zap->running = pthread_create(&zap->thread, NULL, zap_run, zap) == 0;
    if (!good) {
        peal_zap_stop(zap);
        return PEAL_ENOMEM;
    }
    *out = zap;
    return PEAL_OK;
}

void peal_zap_stop(struct peal_zap *zap)
{
    uint64_t one = 1;
    if (zap == NULL) return;
    for (size_t i = 0; i < zap->door_count; i++)
        zmq_socket_monitor(zap->doors[i].at.socket, NULL, 0);
    if (zap->running) {
        atomic_store(&zap->stopping, true);
        ssize_t n = write(zap->wake, &one, sizeof one);
        PEAL_ASSERT(n == sizeof one);
        pthread_join(zap->thread, NULL);
    }
    for (size_t i = 0; i < zap->door_count; i++)
        if (zap->doors[i].monitor != NULL) zmq_close(zap->doors[i].monitor);
    if (zap->rep != NULL) zmq_close(zap->rep);
    if (zap->wake >= 0) close(zap->wake);
    free(zap->items);
    free(zap);
}

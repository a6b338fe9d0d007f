/* A connection goes CONNECTING -> UPGRADING -> JOINING -> OPEN. A raw one is OPEN with the 101,
 * because nothing says that it is joined; the warm-up finds out. Its place in `conns` is its own as
 * long as it lives; in `shake` a place is used again for the next handshake. */
#include "bench/crowd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/event.h"
#include "bench/frames.h"
#include "bench/meter.h"
#include "bench/window.h"
#include "proto/token.h"

enum {
    EVENTS_MAX = 1024,
    READ_BYTES = 1024 * 1024,
    TURN_MS = 20, /* how soon a wish of the parent is seen */
    SOURCES = 64, /* addresses 127.0.0.2 and up */
    HEAD_BYTES_MAX = 8192
};

/* One key for all: what the server makes of it is the same for all, too (RFC 6455 section 1.3). */
#define KEY    "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

enum state { STATE_FREE, STATE_CONNECTING, STATE_UPGRADING, STATE_JOINING, STATE_OPEN };

struct conn {
    int fd;
    uint8_t state;
    bool idle;         /* stays open: not one of the handshakes of `shake` */
    uint32_t number;   /* of the connection in the whole run */
    uint32_t joined;   /* groups so far */
    uint64_t asked_ns; /* when the upgrade was sent */
    struct peal_frames frames;
    struct peal_buf head; /* the answer to the upgrade, until it is complete */
};

struct crowd {
    const struct peal_plan *plan;
    struct peal_board *board;
    struct peal_tally *tally;
    uint32_t which;
    int epoll;
    struct conn *conns;
    struct peal_window *windows; /* groups_per_connection for each conn */
    uint32_t conn_max;
    uint32_t idle_max;  /* conns that stay open; those behind are for shaking */
    uint32_t started;   /* of them */
    uint32_t shaking;   /* handshakes begun */
    uint32_t shake_max; /* and to be begun */
    uint32_t under_way;
    bool counted; /* something in this turn */
    char *input;
};

static void fail(struct crowd *crowd, const char *format, ...)
{
    if (atomic_load(&crowd->tally->failed)) return;
    va_list list;
    va_start(list, format);
    vsnprintf(crowd->tally->why, sizeof(crowd->tally->why), format, list);
    va_end(list);
    atomic_store(&crowd->tally->failed, true);
}

static struct peal_window *conn_windows(struct crowd *crowd, const struct conn *conn)
{
    size_t place = (size_t)(conn - crowd->conns);
    return crowd->windows + place * crowd->plan->groups_per_connection;
}

static void conn_fini(struct crowd *crowd, struct conn *conn)
{
    if (conn->state != STATE_FREE && conn->state != STATE_OPEN) crowd->under_way--;
    close(conn->fd);
    peal_frames_fini(&conn->frames);
    peal_buf_fini(&conn->head);
    conn->state = STATE_FREE;
}

/* ---- Handshake ---------------------------------------------------------------------------- */

static void conn_start(struct crowd *crowd, struct conn *conn, uint32_t number, bool idle)
{
    *conn = (struct conn){.number = number, .idle = idle, .state = STATE_CONNECTING};
    memset(conn_windows(crowd, conn), 0,
           crowd->plan->groups_per_connection * sizeof(struct peal_window));
    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd < 0) {
        fail(crowd, "socket: %s", strerror(errno));
        conn->state = STATE_FREE;
        return;
    }
    crowd->under_way++;
    int on = 1;
    struct sockaddr_in source = {.sin_family = AF_INET,
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number % SOURCES)};
    /* With the port chosen at connect, one port serves several connections. */
    setsockopt(conn->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    const struct peal_plan *plan = crowd->plan;
    const struct sockaddr_in *to = &plan->addresses[number % plan->address_count];
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = conn};
    if (bind(conn->fd, (struct sockaddr *)&source, sizeof(source)) != 0 ||
        (connect(conn->fd, (const struct sockaddr *)to, sizeof(*to)) != 0 &&
         errno != EINPROGRESS) ||
        epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, conn->fd, &event) != 0) {
        fail(crowd, "connect: %s", strerror(errno));
        conn_fini(crowd, conn);
    }
}

/* A few hundred bytes on a new connection always fit. */
static void conn_send(struct crowd *crowd, struct conn *conn, const struct peal_buf *out)
{
    if (out->failed || send(conn->fd, out->at, out->size, MSG_NOSIGNAL) != (ssize_t)out->size)
        fail(crowd, "send: %s", out->failed ? "memory" : strerror(errno));
}

/* One masked frame; a mask of zeros is a mask. */
static void conn_send_frame(struct crowd *crowd, struct conn *conn, uint8_t opcode,
                            struct peal_span payload)
{
    struct peal_buf out = {0};
    peal_buf_add_char(&out, (char)(0x80 | opcode));
    if (payload.size < 126) {
        peal_buf_add_char(&out, (char)(0x80 | payload.size));
    } else {
        peal_buf_add_char(&out, (char)(0x80 | 126));
        peal_buf_add_char(&out, (char)(payload.size >> 8));
        peal_buf_add_char(&out, (char)(payload.size & 255));
    }
    peal_buf_add(&out, "\0\0\0\0", 4);
    peal_buf_add_span(&out, payload);
    conn_send(crowd, conn, &out);
    peal_buf_fini(&out);
}

static void add_group(struct crowd *crowd, struct peal_buf *out, uint32_t number, uint32_t j)
{
    char name[PEAL_PLAN_GROUP_MAX];
    uint32_t k = peal_plan_group_of(crowd->plan, number, j);
    peal_buf_add(out, name, peal_plan_group(crowd->plan, k, name));
}

static void add_path(struct crowd *crowd, struct peal_buf *out, uint32_t number)
{
    for (const char *at = crowd->plan->path; *at != '\0';) {
        struct peal_span rest = peal_span_of(at);
        if (peal_span_starts(rest, "{group}")) {
            add_group(crowd, out, number, 0);
            at += 7;
        } else if (peal_span_starts(rest, "{user}")) {
            peal_buf_add_format(out, "u%u", number);
            at += 6;
        } else {
            peal_buf_add_char(out, *at++);
        }
    }
}

static void add_token(struct crowd *crowd, struct peal_buf *out, uint32_t number)
{
    char user[16];
    char all[] = "*";
    char *groups[] = {all};
    snprintf(user, sizeof(user), "u%u", number);
    uint64_t now_ms = peal_clock_wall_ms();
    struct peal_claims claims = {
        .user = user, .groups = groups, .group_count = 1, .expires_ms = now_ms + 3600 * 1000};
    enum peal_err err =
        peal_token_sign(peal_span_of(crowd->plan->token_secret), &claims, "sub", now_ms, out);
    if (err != PEAL_OK) fail(crowd, "token: %s", peal_err_word(err));
}

static void conn_upgrade(struct crowd *crowd, struct conn *conn)
{
    const struct peal_plan *plan = crowd->plan;
    struct peal_buf out = {0};
    peal_buf_add_text(&out, "GET ");
    add_path(crowd, &out, conn->number);
    peal_buf_add_format(&out,
                        " HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " KEY "\r\n",
                        plan->hosts[conn->number % plan->address_count]);
    if (plan->target == PEAL_TARGET_NATIVE)
        peal_buf_add_text(&out, "Sec-WebSocket-Protocol: peal.v1.json\r\n");
    if (plan->token_secret != NULL) {
        peal_buf_add_text(&out, "Authorization: Bearer ");
        add_token(crowd, &out, conn->number);
        peal_buf_add_text(&out, "\r\n");
    }
    peal_buf_add_text(&out, "\r\n");
    conn_send(crowd, conn, &out);
    peal_buf_fini(&out);
}

static void conn_on_connected(struct crowd *crowd, struct conn *conn)
{
    int error = 0;
    socklen_t size = sizeof(error);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0 || epoll_ctl(crowd->epoll, EPOLL_CTL_MOD, conn->fd, &event) != 0) {
        fail(crowd, "connect: %s", strerror(error != 0 ? error : errno));
        conn_fini(crowd, conn);
        return;
    }
    conn->state = STATE_UPGRADING;
    conn->asked_ns = peal_meter_now_ns();
    conn_upgrade(crowd, conn);
}

static void conn_say_hello(struct crowd *crowd, struct conn *conn)
{
    struct peal_buf out = {0};
    peal_buf_add_text(&out, "{\"type\":\"hello\",\"groups\":[");
    for (uint32_t j = 0; j < crowd->plan->groups_per_connection; j++) {
        peal_buf_add_text(&out, j == 0 ? "\"" : ",\"");
        add_group(crowd, &out, conn->number, j);
        peal_buf_add_char(&out, '"');
    }
    peal_buf_add_text(&out, "]}");
    conn_send_frame(crowd, conn, PEAL_FRAME_TEXT, peal_buf_span(&out));
    peal_buf_fini(&out);
}

static void conn_subscribe(struct crowd *crowd, struct conn *conn)
{
    struct peal_buf out = {0};
    peal_buf_add_text(&out, "sub ");
    add_group(crowd, &out, conn->number, 0);
    conn_send_frame(crowd, conn, PEAL_FRAME_TEXT, peal_buf_span(&out));
    peal_buf_fini(&out);
}

static void conn_open(struct crowd *crowd, struct conn *conn)
{
    crowd->under_way--;
    crowd->counted = true;
    conn->state = STATE_OPEN;
    if (conn->idle) {
        peal_tick_add(&crowd->tally->opened, 1);
        return;
    }
    atomic_store_explicit(&crowd->tally->last_ns, peal_meter_now_ns(), memory_order_relaxed);
    peal_tick_add(&crowd->tally->shaken, 1);
    conn_fini(crowd, conn);
}

/* Takes the answer to the upgrade out of `in`; what follows it are frames. */
static void conn_on_head(struct crowd *crowd, struct conn *conn, struct peal_span *in)
{
    peal_buf_add_span(&conn->head, *in);
    const char *end =
        conn->head.failed ? NULL : memmem(conn->head.at, conn->head.size, "\r\n\r\n", 4);
    if (end == NULL) {
        in->size = 0;
        if (conn->head.failed || conn->head.size > HEAD_BYTES_MAX) {
            fail(crowd, "the answer to the upgrade does not end");
            conn_fini(crowd, conn);
        }
        return;
    }
    size_t size = (size_t)(end + 4 - conn->head.at);
    size_t before = conn->head.size - in->size;
    in->at += size - before;
    in->size -= size - before;
    if (!peal_span_starts(peal_buf_span(&conn->head), "HTTP/1.1 101 ") ||
        memmem(conn->head.at, size, ACCEPT, sizeof(ACCEPT) - 1) == NULL) {
        const char *line_end = memchr(conn->head.at, '\r', size);
        fail(crowd, "the upgrade was answered with %.*s", (int)(line_end - conn->head.at),
             conn->head.at);
        conn_fini(crowd, conn);
        return;
    }
    peal_buf_fini(&conn->head);
    conn->state = STATE_JOINING;
    if (crowd->plan->target == PEAL_TARGET_NATIVE) conn_say_hello(crowd, conn);
    if (crowd->plan->target == PEAL_TARGET_FLOOR) conn_subscribe(crowd, conn);
    if (crowd->plan->target == PEAL_TARGET_RAW) conn_open(crowd, conn);
}

/* ---- Frames ------------------------------------------------------------------------------- */

/* Which of the connection's groups a message belongs to, or -1. */
static int64_t conn_group_find(struct crowd *crowd, const struct conn *conn, struct peal_span name)
{
    const struct peal_plan *plan = crowd->plan;
    if (plan->groups_per_connection == 1) return 0;
    size_t prefix = strlen(plan->prefix);
    if (name.size <= prefix || memcmp(name.at, plan->prefix, prefix) != 0) return -1;
    uint64_t k = 0;
    for (size_t i = prefix; i < name.size; i++)
        k = k * 10 + (uint64_t)(name.at[i] - '0');
    uint64_t j = (k + plan->groups - peal_plan_group_of(plan, conn->number, 0)) % plan->groups;
    return j < plan->groups_per_connection ? (int64_t)j : -1;
}

static void conn_on_stamp(struct crowd *crowd, struct conn *conn, const struct peal_event *event,
                          uint64_t now_ns)
{
    const struct peal_plan *plan = crowd->plan;
    struct peal_tally *tally = crowd->tally;
    int64_t j = conn_group_find(crowd, conn, event->group);
    if (j < 0) {
        peal_tick_add(&tally->strange, 1);
        return;
    }
    struct peal_window *window = &conn_windows(crowd, conn)[j];
    bool first = window->newest == 0;
    enum peal_window_saw saw = peal_window_see(window, event->stamp.seq);
    if (saw == PEAL_WINDOW_REPEAT) {
        peal_tick_add(&tally->repeats, 1);
        return;
    }
    if (saw == PEAL_WINDOW_LATE) peal_tick_add(&tally->late, 1);
    if (first) {
        size_t group = peal_plan_group_of(plan, conn->number, (uint32_t)j);
        atomic_fetch_add_explicit(&crowd->board->warm[(size_t)crowd->which * plan->groups + group],
                                  1, memory_order_relaxed);
    }
    if (event->stamp.sent_ns == 0) {
        peal_tick_add(&tally->warmed, 1);
        return;
    }
    /* `passed` before `delivered`: who has seen the total has seen the parts. */
    if (plan->window > 0) {
        uint32_t mask = crowd->board->ring_mask;
        size_t place = (size_t)crowd->which * (mask + 1) + (event->stamp.index & mask);
        atomic_fetch_add_explicit(&crowd->board->passed[place], 1, memory_order_relaxed);
    }
    /* What was stored long ago: how long one waits for the first of it. */
    if (plan->verb != PEAL_VERB_DRAIN)
        peal_hist_add(&tally->latency, now_ns - event->stamp.sent_ns);
    else if (first)
        peal_hist_add(&tally->latency, now_ns - conn->asked_ns);
    peal_tick_add(&tally->delivered, 1);
    atomic_store_explicit(&tally->last_ns, now_ns, memory_order_relaxed);
}

static void event_read(const struct crowd *crowd, struct peal_span payload,
                       struct peal_event *event)
{
    switch (crowd->plan->target) {
    case PEAL_TARGET_NATIVE:
        peal_event_read_native(payload, event);
        return;
    case PEAL_TARGET_FLOOR:
        peal_event_read_floor(payload, event);
        return;
    case PEAL_TARGET_RAW:
        peal_event_read_raw(payload, event);
        return;
    }
}

static void conn_on_text(struct crowd *crowd, struct conn *conn, struct peal_span payload,
                         uint64_t now_ns)
{
    struct peal_tally *tally = crowd->tally;
    struct peal_event event = {0};
    event_read(crowd, payload, &event);
    switch (event.kind) {
    case PEAL_EVENT_STAMP:
        conn_on_stamp(crowd, conn, &event, now_ns);
        return;
    case PEAL_EVENT_JOINED:
        conn->joined += event.joined;
        if (conn->state == STATE_JOINING && conn->joined >= crowd->plan->groups_per_connection)
            conn_open(crowd, conn);
        return;
    case PEAL_EVENT_GAP:
        peal_tick_add(&tally->gaps, 1);
        peal_tick_add(&tally->missed, event.missed);
        return;
    case PEAL_EVENT_SKIP:
        peal_tick_add(&tally->skips, 1);
        return;
    case PEAL_EVENT_ERROR:
        peal_tick_add(&tally->errors, 1);
        fail(crowd, "the server says %.*s", (int)(payload.size < 120 ? payload.size : 120),
             payload.at);
        return;
    case PEAL_EVENT_STRANGE:
        peal_tick_add(&tally->strange, 1);
        return;
    case PEAL_EVENT_OTHER:
        return;
    }
}

static void conn_on_end(struct crowd *crowd, struct conn *conn)
{
    crowd->counted = true;
    if (conn->state != STATE_OPEN) fail(crowd, "the server ended a connection in its handshake");
    peal_tick_add(&crowd->tally->closed, 1);
    conn_fini(crowd, conn);
}

/* A pong that does not fit is left out: the server asks a connection only that is quiet. */
static void conn_on_ping(struct conn *conn, struct peal_span payload)
{
    char pong[6 + 125];
    if (payload.size > 125) return;
    memcpy(pong, "\x8a\0\0\0\0\0", 6);
    pong[1] = (char)(0x80 | payload.size);
    memcpy(pong + 6, payload.at, payload.size);
    (void)!send(conn->fd, pong, 6 + payload.size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void conn_on_bytes(struct crowd *crowd, struct conn *conn, struct peal_span in,
                          uint64_t now_ns)
{
    struct peal_frame frame;
    enum peal_frames_got got = PEAL_FRAMES_MORE;
    if (conn->state == STATE_UPGRADING) conn_on_head(crowd, conn, &in);
    while (conn->state != STATE_FREE && conn->state != STATE_UPGRADING &&
           (got = peal_frames_next(&conn->frames, &in, &frame)) == PEAL_FRAMES_FRAME) {
        if (frame.opcode == PEAL_FRAME_TEXT || frame.opcode == PEAL_FRAME_BINARY)
            conn_on_text(crowd, conn, frame.payload, now_ns);
        else if (frame.opcode == PEAL_FRAME_PING)
            conn_on_ping(conn, frame.payload);
        else if (frame.opcode == PEAL_FRAME_CLOSE)
            conn_on_end(crowd, conn);
        else
            got = PEAL_FRAMES_BAD;
        if (got == PEAL_FRAMES_BAD) break;
    }
    if (got == PEAL_FRAMES_BAD) {
        fail(crowd, "a frame that no server may send");
        conn_fini(crowd, conn);
    }
}

static void conn_on_readable(struct crowd *crowd, struct conn *conn)
{
    ssize_t got = recv(conn->fd, crowd->input, READ_BYTES, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        conn_on_end(crowd, conn);
        return;
    }
    crowd->counted = true;
    conn_on_bytes(crowd, conn, peal_span_make(crowd->input, (size_t)got), peal_meter_now_ns());
}

/* ---- The loop ----------------------------------------------------------------------------- */

/* Connection i of the run is number i / processes of process i % processes. */
static void start_idle(struct crowd *crowd)
{
    uint32_t total = (uint32_t)atomic_load(&crowd->board->wanted);
    uint32_t wanted = peal_plan_share(crowd->plan, total, crowd->which);
    while (crowd->started < wanted && crowd->under_way < crowd->plan->pipelined) {
        uint32_t place = crowd->started++;
        conn_start(crowd, &crowd->conns[place], place * crowd->plan->processes + crowd->which,
                   true);
        if (atomic_load(&crowd->tally->failed)) return;
    }
}

static void start_shaking(struct crowd *crowd)
{
    if (!atomic_load(&crowd->board->shake)) return;
    for (uint32_t i = crowd->idle_max; i < crowd->conn_max; i++) {
        if (crowd->conns[i].state != STATE_FREE) continue;
        if (crowd->shaking == crowd->shake_max || atomic_load(&crowd->tally->failed)) return;
        uint32_t number = crowd->shaking++ * crowd->plan->processes + crowd->which;
        conn_start(crowd, &crowd->conns[i], crowd->plan->base + number, false);
    }
}

static void crowd_turn(struct crowd *crowd, struct epoll_event *events)
{
    if (!atomic_load(&crowd->tally->failed)) {
        start_idle(crowd);
        start_shaking(crowd);
    }
    int count = epoll_wait(crowd->epoll, events, EVENTS_MAX, TURN_MS);
    if (count < 0 && errno != EINTR) fail(crowd, "epoll_wait: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        struct conn *conn = events[i].data.ptr;
        if (conn->state == STATE_CONNECTING)
            conn_on_connected(crowd, conn);
        else if (conn->state != STATE_FREE)
            conn_on_readable(crowd, conn);
    }
    if (crowd->counted) peal_board_wake(crowd->board);
    crowd->counted = false;
}

static bool crowd_init(struct crowd *crowd)
{
    const struct peal_plan *plan = crowd->plan;
    crowd->tally = &crowd->board->tallies[crowd->which];
    crowd->idle_max = peal_plan_share(plan, plan->connections, crowd->which);
    crowd->conn_max = crowd->idle_max;
    if (plan->verb == PEAL_VERB_SHAKE) {
        crowd->shake_max = peal_plan_share(plan, plan->count, crowd->which);
        crowd->conn_max += peal_plan_share(plan, plan->concurrency, crowd->which);
    }
    /* One more, so that nothing is no special case. */
    crowd->conns = calloc(crowd->conn_max + 1, sizeof(*crowd->conns));
    crowd->windows = calloc((size_t)(crowd->conn_max + 1) * plan->groups_per_connection,
                            sizeof(*crowd->windows));
    crowd->input = malloc(READ_BYTES);
    crowd->epoll = epoll_create1(EPOLL_CLOEXEC);
    return crowd->conns != NULL && crowd->windows != NULL && crowd->input != NULL &&
           crowd->epoll >= 0;
}

int peal_crowd_run(const struct peal_plan *plan, struct peal_board *board, uint32_t which)
{
    static struct epoll_event events[EVENTS_MAX];
    struct crowd crowd = {.plan = plan, .board = board, .which = which};
    if (!crowd_init(&crowd)) {
        fail(&crowd, "a client process could not start: %s", strerror(errno));
        return 1;
    }
    while (!atomic_load(&board->stop))
        crowd_turn(&crowd, events);
    for (uint32_t i = 0; i < crowd.conn_max; i++)
        if (crowd.conns[i].state != STATE_FREE) conn_fini(&crowd, &crowd.conns[i]);
    free(crowd.conns);
    free(crowd.windows);
    free(crowd.input);
    close(crowd.epoll);
    return 0;
}

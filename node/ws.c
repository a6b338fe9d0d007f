/* Life of a socket: HEAD (its request head is looked at) → OPEN (frames) → dead, or HEAD →
 * handed to HTTP, or HEAD → REFUSED (an error was written; it lingers until the peer has read
 * it) → dead. Dead sockets are closed and freed by peal_ws_flush, never inside a call chain. */
#include "node/ws.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "node/conn.h"
#include "node/handshake.h"
#include "node/sender.h"
#include "node/wsframe.h"

enum {
    EVENTS = 256,       /* taken from epoll at once */
    ACCEPTS = 256,      /* per listener and turn */
    READ_BYTES = 65536, /* from one connection per turn */
    VECTORS = 64,       /* runs joined in one system call */
    PAUSE_MS = 1000,    /* without descriptors, accepting rests this long */
    REFUSED_MS = 2000,  /* for the peer to read why */
};

enum source_kind { SOURCE_LISTENER, SOURCE_SOCKET };

struct listener {
    enum source_kind kind;
    int fd;
    bool api;
    bool paused;
};

/* Handshakes under way from one address. */
struct address {
    struct peal_map_node node;
    unsigned char ip[16];
    uint32_t count;
};

enum phase { PHASE_HEAD, PHASE_REFUSED, PHASE_OPEN };

/* Until it is a WebSocket. */
struct opening {
    struct peal_link listed; /* HEAD: in server->heads */
    struct peal_timer timer;
    struct address *address; /* counted there; NULL: no longer */
    size_t peeked;           /* bytes looked at last time */
};

struct socket {
    enum source_kind kind;
    int fd;
    struct peal_ws_server *server;
    struct peal_link queued; /* in server->dirty while there is something to write; dead: in
                                server->dead */
    uint8_t phase;           /* enum phase */
    bool dead;
    bool wants_write;
    bool shut;        /* our side was shut down after the last frame */
    bool peer_closed; /* its Close has come */
    bool deaf;        /* nothing it sends is read any more */
    union {
        struct opening opening; /* HEAD and REFUSED */
        struct {
            struct peal_conn conn;
            struct peal_ws_parser *parser; /* in the middle of a message, else NULL */
        };
    };
};

struct peal_ws_server {
    struct peal_hub *hub;
    struct peal_http *http;
    int epoll;
    bool draining;
    uint64_t paused_until_ms;
    struct listener listeners[4];
    size_t listener_count;
    struct peal_wheel wheel;
    struct peal_map addresses;
    struct peal_link heads; /* oldest first */
    struct peal_link dead;
    struct peal_link dirty;
    size_t head_count;
    size_t open_count;
    struct peal_sender *sender;
    struct peal_send sends[PEAL_SENDS_MAX];
    struct socket *sending[PEAL_SENDS_MAX]; /* whose they are, and then those with several runs */
    struct peal_ws_parser parser;           /* of who is being read and is between two messages */
    char bytes[READ_BYTES];
};

/* ---- ending ---------------------------------------------------------------------------------- */

static void forget_address(struct socket *s)
{
    struct address *address = s->opening.address;
    if (address == NULL) return;
    if (--address->count == 0) {
        peal_map_remove(&s->server->addresses, &address->node);
        free(address);
    }
    s->opening.address = NULL;
    s->server->head_count--;
}

static void end_opening(struct socket *s)
{
    forget_address(s);
    peal_list_remove(&s->opening.listed);
    peal_wheel_disarm(&s->opening.timer);
}

/* The socket is done for; it is freed at the end of the turn. */
static void kill_socket(struct socket *s)
{
    if (s->dead) return;
    s->dead = true;
    peal_list_remove(&s->queued);
    peal_list_append(&s->server->dead, &s->queued);
    if (s->phase != PHASE_OPEN) end_opening(s);
}

static void drop_parser(struct socket *s)
{
    if (s->parser != NULL) peal_ws_parser_fini(s->parser);
    free(s->parser);
    s->parser = NULL;
}

static void free_socket(struct socket *s)
{
    PEAL_ASSERT(s->dead);
    if (s->phase == PHASE_OPEN) {
        peal_log(PEAL_LOG_DEBUG, "conn.ended", "reason=%s session=%016llx", s->conn.close_reason,
                 (unsigned long long)s->conn.session);
        peal_conn_fini(&s->conn);
        drop_parser(s);
        s->server->open_count--;
    }
    peal_list_remove(&s->queued);
    if (s->fd >= 0) close(s->fd); /* leaves epoll with it */
    free(s);
}

static struct socket *socket_of(struct peal_conn *conn)
{
    return PEAL_FROM_LINK(conn, struct socket, conn);
}

void peal_ws_output(struct peal_conn *conn)
{
    struct socket *s = socket_of(conn);
    if (s->dead || !peal_list_empty(&s->queued)) return;
    peal_list_append(&s->server->dirty, &s->queued);
}

void peal_ws_cut(struct peal_conn *conn)
{
    struct socket *s = socket_of(conn);
    /* It did not read for PEAL_CLOSE_MS: a reset frees what the kernel holds for it as well. */
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    if (!peal_outq_empty(&conn->outq))
        setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    kill_socket(s);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void watch(struct socket *s, bool write)
{
    if (s->wants_write == write) return;
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = s};
    if (epoll_ctl(s->server->epoll, EPOLL_CTL_MOD, s->fd, &event) != 0) {
        kill_socket(s);
        return;
    }
    s->wants_write = write;
}

/* Everything is written: end what was waiting for that. */
static void written_all(struct socket *s)
{
    watch(s, false);
    if (s->conn.open || s->dead) return;
    if (s->peer_closed) {
        kill_socket(s);
    } else if (!s->shut) {
        s->shut = true;
        shutdown(s->fd, SHUT_WR); /* the peer's Close or end of stream follows */
    }
}

/* The connection is broken, or ended without a word. */
static void lose_peer(struct socket *s)
{
    peal_conn_on_peer_close(&s->conn);
    kill_socket(s);
}

/* The kernel took so many bytes. */
static void take_off(struct socket *s, size_t bytes)
{
    peal_count(PEAL_M_BYTES_OUT, (int64_t)bytes);
    peal_count(PEAL_M_WRITTEN, peal_outq_consume(&s->conn.outq, bytes));
}

static ssize_t send_vectors(int fd, struct iovec *vectors, int count)
{
    const int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    if (count == 1) return send(fd, vectors[0].iov_base, vectors[0].iov_len, flags);
    struct msghdr message = {.msg_iov = vectors, .msg_iovlen = (size_t)count};
    return sendmsg(fd, &message, flags);
}

static void write_socket(struct socket *s)
{
    struct iovec vectors[VECTORS];
    while (!s->dead && !peal_outq_empty(&s->conn.outq)) {
        int count = peal_outq_gather(&s->conn.outq, vectors, VECTORS);
        ssize_t n = send_vectors(s->fd, vectors, count);
        if (n < 0) {
            if (errno == EINTR) continue;
            if (errno == EAGAIN || errno == EWOULDBLOCK) {
                watch(s, true);
                return;
            }
            lose_peer(s);
            return;
        }
        take_off(s, (size_t)n);
        peal_conn_on_sent(&s->conn); /* may queue more */
    }
    if (!s->dead) written_all(s);
}

void peal_ws_write(struct peal_conn *conn)
{
    struct socket *s = socket_of(conn);
    if (!s->dead && !s->wants_write) write_socket(s);
}

/* What became of one send; its bytes are off the queue already. */
static void on_send(struct socket *s, int result)
{
    if (result < 0 && result != -EAGAIN) {
        lose_peer(s);
        return;
    }
    if (result == -EAGAIN)
        watch(s, true);
    else
        peal_conn_on_sent(&s->conn); /* may queue more */
    /* Also where the kernel took a part: it says when it takes the rest. */
    if (!s->dead && !s->wants_write) write_socket(s);
}

/* Most sockets have one run to send, and those are done together. Nothing may be called that could
 * write to one of them between taking its bytes off the list and taking them off its queue. */
static void flush_some(struct peal_ws_server *server)
{
    size_t count = 0;
    size_t others = PEAL_SENDS_MAX; /* from the end */
    while (count < others && !peal_list_empty(&server->dirty)) {
        struct socket *s = PEAL_FROM_LINK(server->dirty.next, struct socket, queued);
        struct iovec vectors[2];
        peal_list_remove(&s->queued);
        if (s->wants_write) continue; /* it is written when epoll says so */
        if (peal_outq_gather(&s->conn.outq, vectors, 2) != 1) {
            server->sending[--others] = s;
            continue;
        }
        server->sends[count] = (struct peal_send){
            .fd = s->fd, .at = vectors[0].iov_base, .size = (uint32_t)vectors[0].iov_len};
        server->sending[count++] = s;
    }
    peal_sender_run(server->sender, server->sends, count);
    for (size_t i = 0; i < count; i++) {
        int n = server->sends[i].result;
        if (n > 0) take_off(server->sending[i], (size_t)n);
    }
    for (size_t i = 0; i < count; i++)
        if (!server->sending[i]->dead) on_send(server->sending[i], server->sends[i].result);
    while (others < PEAL_SENDS_MAX)
        write_socket(server->sending[others++]);
}

void peal_ws_flush(struct peal_ws_server *server)
{
    while (!peal_list_empty(&server->dirty))
        flush_some(server);
    PEAL_LIST_EACH(&server->dead, it, after)
    free_socket(PEAL_FROM_LINK(it, struct socket, queued));
}

/* ---- reading frames -------------------------------------------------------------------------- */

static bool on_message(void *ctx, int opcode, struct peal_span payload)
{
    struct socket *s = ctx;
    peal_count(PEAL_M_FRAMES_IN, 1);
    peal_conn_on_receive(&s->conn, opcode == PEAL_WS_TEXT, payload);
    return s->conn.open;
}

static bool on_ping(void *ctx, struct peal_span payload)
{
    struct socket *s = ctx;
    if (!s->conn.open) return false;
    peal_ws_add_frame(&s->conn.hub->rendered, PEAL_WS_PONG, payload);
    if (peal_conn_push_or_drop(&s->conn) != PEAL_OK)
        peal_conn_close(&s->conn, 4208, "slow", PEAL_M_CLOSED_SLOW);
    return s->conn.open;
}

static bool on_pong(void *ctx, struct peal_span payload)
{
    struct socket *s = ctx;
    if (s->conn.open) peal_conn_on_pong(&s->conn, payload);
    return s->conn.open;
}

static void on_close(void *ctx, uint16_t code, struct peal_span reason)
{
    struct socket *s = ctx;
    (void)reason;
    s->peer_closed = true;
    if (s->conn.open) {
        peal_conn_on_peer_close(&s->conn);
        peal_ws_add_close(&s->conn.hub->rendered, code, "");
        (void)peal_conn_push_or_drop(&s->conn); /* without room it sees the end of the stream */
    }
    peal_ws_output(&s->conn);
}

static const char *close_word(uint16_t code)
{
    switch (code) {
    case 1007:
        return "bad_utf8";
    case 1008:
        return "fragments";
    case 1009:
        return "too_large";
    default:
        return "protocol_error";
    }
}

/* Between two messages there is nothing to remember, and most reads end there: only who is in the
 * middle of one has a parser of his own. False: no memory. */
static bool keep_parser(struct socket *s, bool in_message)
{
    if (!in_message) {
        drop_parser(s);
    } else if (s->parser == NULL) {
        s->parser = malloc(sizeof *s->parser);
        if (s->parser == NULL) {
            s->deaf = true;
            peal_ws_parser_fini(&s->server->parser);
            return false;
        }
        *s->parser = s->server->parser;
    }
    return true;
}

static void read_socket(struct socket *s)
{
    struct peal_ws_server *server = s->server;
    ssize_t n = recv(s->fd, server->bytes, sizeof server->bytes, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (n <= 0) {
        lose_peer(s);
        return;
    }
    if (s->deaf) return;
    struct peal_ws_events events = {s, on_message, on_ping, on_pong, on_close};
    struct peal_ws_parser *parser = s->parser;
    if (parser == NULL) {
        parser = &server->parser;
        peal_ws_parser_init(parser, (uint32_t)s->conn.route->max_message);
    }
    uint32_t frames = 0;
    uint16_t code = peal_ws_feed(parser, server->bytes, (size_t)n, &events, &frames);
    s->deaf = parser->dead;
    bool in_message = !s->deaf && peal_ws_in_message(parser);
    if (code == 0 && !keep_parser(s, in_message)) code = 1011;
    if (code != 0) {
        /* After an error the stream cannot be read any further: say why and end. */
        peal_conn_close(&s->conn, code, close_word(code), PEAL_M_CLOSED_PROTOCOL);
        return;
    }
    peal_conn_on_frames(&s->conn, frames, in_message);
}

/* ---- refusing -------------------------------------------------------------------------------- */

/* Answers with an error and lets the peer read it: what it sent is taken first, because closing a
 * socket with unread bytes resets it and the answer would be lost. */
static void refuse(struct socket *s, int status, enum peal_err err, const char *why,
                   enum peal_metric metric)
{
    struct peal_buf out = {0};
    peal_count(metric, 1);
    peal_handshake_refuse(status, err, why, &out);
    bool sent = false;
    if (!out.failed && recv(s->fd, s->server->bytes, READ_BYTES, MSG_DONTWAIT) > 0)
        sent = send(s->fd, out.at, out.size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)out.size;
    peal_buf_fini(&out);
    if (!sent) {
        kill_socket(s);
        return;
    }
    int one = 1;
    setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one);
    shutdown(s->fd, SHUT_WR);
    forget_address(s);
    s->phase = PHASE_REFUSED;
    peal_wheel_arm(&s->server->wheel, &s->opening.timer, s->server->hub->now_ms + REFUSED_MS);
}

static void refuse_err(struct socket *s, enum peal_err err, const char *why)
{
    enum peal_metric metric = PEAL_M_REFUSED_BAD;
    int status = peal_err_http(err);
    if (status == 401)
        metric = PEAL_M_REFUSED_AUTH;
    else if (status == 404)
        metric = PEAL_M_REFUSED_ROUTE;
    refuse(s, status, err, why, metric);
}

/* ---- handshake ------------------------------------------------------------------------------- */

static bool answer_101(struct socket *s, const struct peal_handshake *h)
{
    struct peal_buf out = {0};
    peal_handshake_accept(h, &out);
    /* A new socket has room for these few bytes. */
    bool sent = !out.failed &&
                send(s->fd, out.at, out.size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)out.size;
    peal_buf_fini(&out);
    return sent;
}

static void begin_opening(struct socket *s)
{
    s->opening = (struct opening){0};
    peal_link_init(&s->opening.listed);
    peal_timer_init(&s->opening.timer);
}

static void upgrade(struct socket *s, struct peal_handshake *h)
{
    struct peal_ws_server *server = s->server;
    if (server->open_count >= server->hub->config->limits.connections || server->draining) {
        refuse(s, 503, PEAL_EQUEUE_FULL, "this node takes no more connections",
               PEAL_M_REFUSED_LIMIT);
        return;
    }
    enum peal_err err = peal_handshake_admit(h, server->hub);
    if (err == PEAL_OK) {
        end_opening(s); /* the connection takes its place */
        err = peal_conn_init(&s->conn, server->hub, &h->open);
        if (err != PEAL_OK) begin_opening(s);
    }
    if (err != PEAL_OK) {
        if (err == PEAL_EFORBIDDEN && h->head.origin.at != NULL)
            refuse(s, 403, err, h->why, PEAL_M_REFUSED_ORIGIN);
        else
            refuse_err(s, err, h->why);
        return;
    }
    s->phase = PHASE_OPEN;
    s->parser = NULL;
    server->open_count++;
    peal_count(PEAL_M_CONNS_OPENED, 1);
    int one = 1;
    setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one);
    /* The head is taken now; frames that came right behind it stay for the next read. */
    ssize_t n = recv(s->fd, server->bytes, h->head.size, MSG_DONTWAIT);
    if (n != (ssize_t)h->head.size || !answer_101(s, h)) {
        peal_conn_on_peer_close(&s->conn);
        kill_socket(s);
    }
}

/* Not a WebSocket: the HTTP library takes the socket with everything still in it. */
static void hand_over(struct socket *s)
{
    int fd = s->fd;
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one);
    epoll_ctl(s->server->epoll, EPOLL_CTL_DEL, fd, NULL);
    s->fd = -1;
    kill_socket(s);
    peal_http_adopt(s->server->http, fd, false);
}

static void look_at_head(struct socket *s)
{
    struct peal_ws_server *server = s->server;
    ssize_t n = recv(s->fd, server->bytes, PEAL_HEAD_MAX + 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (n <= 0 ||
        (size_t)n == s->opening.peeked) { /* the end of the stream, before the head's end */
        kill_socket(s);
        return;
    }
    s->opening.peeked = (size_t)n;
    struct peal_handshake h = {0};
    enum peal_err err =
        peal_head_parse(peal_span_make(server->bytes, (size_t)n), &h.head, h.why, sizeof h.why);
    if (err == PEAL_EAGAIN) {
        /* Wake again only when there is more: the bytes stay in the socket, and a level-triggered
         * epoll would report them for ever. */
        int more = (int)n + 1;
        setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &more, sizeof more);
        return;
    }
    if (err != PEAL_OK) {
        refuse(s, err == PEAL_ETOO_LARGE ? 431 : peal_err_http(err), err, h.why,
               PEAL_M_REFUSED_BAD);
    } else if (h.head.is_websocket) {
        /* The spans point into the shared read buffer, which refuse and upgrade read into: they
         * are used up before. */
        upgrade(s, &h);
    } else {
        hand_over(s);
    }
    peal_handshake_fini(&h);
}

/* ---- accepting ------------------------------------------------------------------------------- */

static struct address *count_address(struct peal_ws_server *server,
                                     const struct sockaddr_storage *from)
{
    unsigned char ip[16] = {0};
    if (from->ss_family == AF_INET)
        memcpy(ip, &((const struct sockaddr_in *)(const void *)from)->sin_addr, 4);
    else if (from->ss_family == AF_INET6)
        memcpy(ip, &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr, 16);
    struct peal_map_node *n = peal_map_find(&server->addresses, peal_span_make(ip, sizeof ip));
    if (n != NULL) {
        struct address *known = PEAL_FROM_NODE(n, struct address, node);
        if (known->count >= PEAL_HALF_OPEN_IP_MAX) return NULL;
        known->count++;
        return known;
    }
    struct address *address = calloc(1, sizeof *address);
    if (address == NULL) return NULL;
    memcpy(address->ip, ip, sizeof ip);
    address->count = 1;
    peal_map_add(&server->addresses, &address->node, peal_span_make(address->ip, sizeof ip));
    return address;
}

static void take_connection(struct peal_ws_server *server, const struct listener *listener, int fd,
                            const struct sockaddr_storage *from)
{
    if (listener->api) {
        peal_http_adopt(server->http, fd, true);
        return;
    }
    struct address *address = count_address(server, from);
    struct socket *s = address == NULL ? NULL : calloc(1, sizeof *s);
    if (s == NULL) {
        /* Too many unfinished handshakes from there: one more is not even looked at. */
        peal_count(PEAL_M_REFUSED_LIMIT, 1);
        if (address != NULL && --address->count == 0) {
            peal_map_remove(&server->addresses, &address->node);
            free(address);
        }
        close(fd);
        return;
    }
    s->kind = SOURCE_SOCKET;
    s->fd = fd;
    s->server = server;
    peal_link_init(&s->queued);
    begin_opening(s);
    s->opening.address = address;
    peal_list_append(&server->heads, &s->opening.listed);
    server->head_count++;
    peal_wheel_arm(&server->wheel, &s->opening.timer, server->hub->now_ms + PEAL_HANDSHAKE_MS);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
    if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) != 0) kill_socket(s);
    if (server->head_count <= PEAL_HALF_OPEN_MAX) return;
    /* Over the limit of all addresses together: who has been at it the longest goes. */
    peal_count(PEAL_M_REFUSED_LIMIT, 1);
    kill_socket(PEAL_FROM_LINK(server->heads.next, struct socket, opening.listed));
}

static void pause_listeners(struct peal_ws_server *server, bool pause)
{
    for (size_t i = 0; i < server->listener_count; i++) {
        struct listener *l = &server->listeners[i];
        struct epoll_event event = {.events = pause ? 0 : EPOLLIN, .data.ptr = l};
        if (l->fd >= 0 && l->paused != pause &&
            epoll_ctl(server->epoll, EPOLL_CTL_MOD, l->fd, &event) == 0)
            l->paused = pause;
    }
}

/* True when it stopped because of ACCEPTS: more may be waiting. */
static bool accept_from(struct peal_ws_server *server, struct listener *listener)
{
    for (int i = 0; i < ACCEPTS; i++) {
        struct sockaddr_storage from = {0};
        socklen_t size = sizeof from;
        int fd =
            accept4(listener->fd, (struct sockaddr *)&from, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take_connection(server, listener, fd, &from);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            peal_log(PEAL_LOG_ERROR, "accept.paused", "reason=\"%s\" ms=%d",
                     errno == EMFILE || errno == ENFILE ? "no file descriptors left" : "no memory",
                     PAUSE_MS);
            server->paused_until_ms = server->hub->now_ms + PAUSE_MS;
            pause_listeners(server, true);
            return false;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
        /* The others (ECONNABORTED, EINTR ...) are about one connection that is gone already. */
    }
    return true;
}

/* ---- events ---------------------------------------------------------------------------------- */

static void on_socket(struct socket *s, uint32_t events)
{
    if (s->dead) return;
    switch (s->phase) {
    case PHASE_HEAD:
        look_at_head(s);
        return;
    case PHASE_REFUSED: {
        ssize_t n = recv(s->fd, s->server->bytes, READ_BYTES, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) kill_socket(s);
        return;
    }
    case PHASE_OPEN:
        if (events & EPOLLOUT) write_socket(s);
        if (!s->dead && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) read_socket(s);
        return;
    }
}

void peal_ws_on_events(struct peal_ws_server *server)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(server->epoll, events, EVENTS, 0);
    for (int i = 0; i < n; i++) {
        enum source_kind *kind = events[i].data.ptr;
        if (*kind == SOURCE_LISTENER)
            accept_from(server, events[i].data.ptr);
        else
            on_socket(events[i].data.ptr, events[i].events);
    }
}

static void timer_fired(void *ctx, struct peal_timer *timer)
{
    (void)ctx;
    struct socket *s = PEAL_FROM_LINK(timer, struct socket, opening.timer);
    if (s->phase == PHASE_HEAD) peal_count(PEAL_M_REFUSED_TIMEOUT, 1);
    kill_socket(s);
}

void peal_ws_on_tick(struct peal_ws_server *server)
{
    peal_wheel_advance(&server->wheel, server->hub->now_ms, timer_fired, NULL);
    if (server->paused_until_ms != 0 && server->hub->now_ms >= server->paused_until_ms) {
        server->paused_until_ms = 0;
        pause_listeners(server, false);
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

struct peal_ws_server *peal_ws_server_new(struct peal_hub *hub, struct peal_http *http)
{
    struct peal_ws_server *server = calloc(1, sizeof *server);
    if (server == NULL) return NULL;
    server->hub = hub;
    server->http = http;
    peal_link_init(&server->heads);
    peal_link_init(&server->dead);
    peal_link_init(&server->dirty);
    peal_wheel_init(&server->wheel, hub->now_ms);
    server->epoll = epoll_create1(EPOLL_CLOEXEC);
    server->sender = peal_sender_new(hub->config->io_uring);
    if (server->epoll >= 0 && server->sender != NULL &&
        peal_map_init(&server->addresses) == PEAL_OK)
        return server;
    if (server->epoll >= 0) close(server->epoll);
    peal_sender_free(server->sender);
    free(server);
    return NULL;
}

enum peal_err peal_ws_listen(struct peal_ws_server *server, int fd, bool api)
{
    PEAL_ASSERT(server->listener_count < sizeof server->listeners / sizeof server->listeners[0]);
    struct listener *l = &server->listeners[server->listener_count];
    *l = (struct listener){.kind = SOURCE_LISTENER, .fd = fd, .api = api};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = l};
    if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) != 0) return PEAL_EIO;
    server->listener_count++;
    return PEAL_OK;
}

static void close_listener(struct peal_ws_server *server, struct listener *l)
{
    if (l->fd < 0) return;
    /* Whom the kernel let in already would find the connection reset. */
    while (accept_from(server, l)) {
    }
    close(l->fd); /* leaves epoll with it */
    l->fd = -1;
}

void peal_ws_refuse(struct peal_ws_server *server)
{
    server->draining = true;
    for (size_t i = 0; i < server->listener_count; i++)
        if (!server->listeners[i].api) close_listener(server, &server->listeners[i]);
}

void peal_ws_shut(struct peal_ws_server *server)
{
    server->draining = true;
    for (size_t i = 0; i < server->listener_count; i++)
        close_listener(server, &server->listeners[i]);
    PEAL_LIST_EACH(&server->heads, it, after)
    kill_socket(PEAL_FROM_LINK(it, struct socket, opening.listed));
}

void peal_ws_server_free(struct peal_ws_server *server)
{
    if (server == NULL) return;
    for (size_t i = 0; i < server->listener_count; i++)
        if (server->listeners[i].fd >= 0) close(server->listeners[i].fd);
    PEAL_LIST_EACH(&server->heads, it, after)
    kill_socket(PEAL_FROM_LINK(it, struct socket, opening.listed));
    PEAL_LIST_EACH(&server->hub->conns, it, after)
    kill_socket(socket_of(PEAL_FROM_LINK(it, struct peal_conn, in_hub)));
    PEAL_LIST_EACH(&server->dead, it, after)
    free_socket(PEAL_FROM_LINK(it, struct socket, queued));
    peal_map_fini(&server->addresses);
    peal_sender_free(server->sender);
    close(server->epoll);
    free(server);
}

int peal_ws_fd(const struct peal_ws_server *server)
{
    return server->epoll;
}

size_t peal_ws_count(const struct peal_ws_server *server)
{
    return server->open_count + server->head_count;
}

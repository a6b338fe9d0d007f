#include "node/ws_opening.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/metrics.h"
#include "node/handshake.h"

enum { REFUSED_MS = 2000 }; /* for the peer to read why */

/* ---- addresses ------------------------------------------------------------------------------- */

static struct peal_ws_address *count_address(struct peal_ws_server *server,
                                             const struct sockaddr_storage *from)
{
    unsigned char ip[16] = {0};
    if (from->ss_family == AF_INET)
        memcpy(ip, &((const struct sockaddr_in *)(const void *)from)->sin_addr, 4);
    else if (from->ss_family == AF_INET6)
        memcpy(ip, &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr, 16);
    struct peal_map_node *n = peal_map_find(&server->addresses, peal_span_make(ip, sizeof ip));
    if (n != NULL) {
        struct peal_ws_address *known = PEAL_FROM_NODE(n, struct peal_ws_address, node);
        if (known->count >= PEAL_HALF_OPEN_IP_MAX) return NULL;
        known->count++;
        return known;
    }
    struct peal_ws_address *address = calloc(1, sizeof *address);
    if (address == NULL) return NULL;
    memcpy(address->ip, ip, sizeof ip);
    address->count = 1;
    peal_map_add(&server->addresses, &address->node, peal_span_make(address->ip, sizeof ip));
    return address;
}

static void forget_address(struct peal_ws_socket *s)
{
    struct peal_ws_address *address = s->opening.address;
    if (address == NULL) return;
    if (--address->count == 0) {
        peal_map_remove(&s->server->addresses, &address->node);
        free(address);
    }
    s->opening.address = NULL;
    s->server->head_count--;
}

/* ---- refusing -------------------------------------------------------------------------------- */

/* Answers with an error and lets the peer read it: what it sent is taken first, because closing a
 * socket with unread bytes resets it and the answer would be lost. */
static void refuse(struct peal_ws_socket *s, int status, enum peal_err err, const char *why,
                   enum peal_metric metric)
{
    struct peal_buf out = {0};
    peal_count(metric, 1);
    peal_handshake_refuse(status, err, why, &out);
    bool sent = false;
    if (!out.failed && recv(s->fd, s->server->bytes, PEAL_WS_READ_BYTES, MSG_DONTWAIT) > 0)
        sent = send(s->fd, out.at, out.size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)out.size;
    peal_buf_fini(&out);
    if (!sent) {
        peal_ws_socket_kill(s);
        return;
    }
    int one = 1;
    setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one);
    shutdown(s->fd, SHUT_WR);
    forget_address(s);
    s->phase = PEAL_WS_REFUSED;
    peal_wheel_arm(&s->server->wheel, &s->opening.timer, s->server->hub->now_ms + REFUSED_MS);
}

static void refuse_err(struct peal_ws_socket *s, enum peal_err err, const char *why)
{
    enum peal_metric metric = PEAL_M_REFUSED_BAD;
    int status = peal_err_http(err);
    if (status == 401)
        metric = PEAL_M_REFUSED_AUTH;
    else if (status == 404)
        metric = PEAL_M_REFUSED_ROUTE;
    refuse(s, status, err, why, metric);
}

void peal_ws_opening_linger(struct peal_ws_socket *s)
{
    ssize_t n = recv(s->fd, s->server->bytes, PEAL_WS_READ_BYTES, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) peal_ws_socket_kill(s);
}

/* ---- handshake ------------------------------------------------------------------------------- */

static void begin_opening(struct peal_ws_socket *s)
{
    s->opening = (struct peal_ws_opening){0};
    peal_link_init(&s->opening.listed);
    peal_timer_init(&s->opening.timer);
}

void peal_ws_opening_end(struct peal_ws_socket *s)
{
    forget_address(s);
    peal_list_remove(&s->opening.listed);
    peal_wheel_disarm(&s->opening.timer);
}

static bool answer_101(struct peal_ws_socket *s, const struct peal_handshake *h)
{
    struct peal_buf out = {0};
    peal_handshake_accept(h, &out);
    /* A new socket has room for these few bytes. */
    bool sent = !out.failed &&
                send(s->fd, out.at, out.size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)out.size;
    peal_buf_fini(&out);
    return sent;
}

static void upgrade(struct peal_ws_socket *s, struct peal_handshake *h)
{
    struct peal_ws_server *server = s->server;
    if (server->open_count >= server->hub->config->limits.connections || server->draining) {
        refuse(s, 503, PEAL_EQUEUE_FULL, "this node takes no more connections",
               PEAL_M_REFUSED_LIMIT);
        return;
    }
    enum peal_err err = peal_handshake_admit(h, server->hub);
    if (err == PEAL_OK) {
        peal_ws_opening_end(s); /* the connection takes its place */
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
    s->phase = PEAL_WS_OPEN;
    s->parser = NULL;
    server->open_count++;
    peal_count(PEAL_M_CONNS_OPENED, 1);
    int one = 1;
    setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one);
    /* The head is taken now; frames that came right behind it stay for the next read. */
    ssize_t n = recv(s->fd, server->bytes, h->head.size, MSG_DONTWAIT);
    if (n != (ssize_t)h->head.size || !answer_101(s, h)) {
        peal_conn_on_peer_close(&s->conn);
        peal_ws_socket_kill(s);
    }
}

/* Not a WebSocket: the HTTP library takes the socket with everything still in it. */
static void hand_over(struct peal_ws_socket *s)
{
    int fd = s->fd;
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one);
    epoll_ctl(s->server->epoll, EPOLL_CTL_DEL, fd, NULL);
    s->fd = -1;
    peal_ws_socket_kill(s);
    peal_http_adopt(s->server->http, fd, false);
}

void peal_ws_opening_look(struct peal_ws_socket *s)
{
    struct peal_ws_server *server = s->server;
    ssize_t n = recv(s->fd, server->bytes, PEAL_HEAD_MAX + 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (n <= 0 ||
        (size_t)n == s->opening.peeked) { /* the end of the stream, before the head's end */
        peal_ws_socket_kill(s);
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

void peal_ws_opening_start(struct peal_ws_server *server, int fd,
                           const struct sockaddr_storage *from)
{
    struct peal_ws_address *address = count_address(server, from);
    struct peal_ws_socket *s = address == NULL ? NULL : calloc(1, sizeof *s);
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
    s->kind = PEAL_WS_SOCKET;
    s->fd = fd;
    s->server = server;
    peal_link_init(&s->queued);
    begin_opening(s);
    s->opening.address = address;
    peal_list_append(&server->heads, &s->opening.listed);
    server->head_count++;
    peal_wheel_arm(&server->wheel, &s->opening.timer, server->hub->now_ms + PEAL_HANDSHAKE_MS);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
    if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) != 0) peal_ws_socket_kill(s);
    if (server->head_count <= PEAL_HALF_OPEN_MAX) return;
    /* Over the limit of all addresses together: who has been at it the longest goes. */
    peal_count(PEAL_M_REFUSED_LIMIT, 1);
    peal_ws_socket_kill(PEAL_FROM_LINK(server->heads.next, struct peal_ws_socket, opening.listed));
}

void peal_ws_opening_expired(void *ctx, struct peal_timer *timer)
{
    (void)ctx;
    struct peal_ws_socket *s = PEAL_FROM_LINK(timer, struct peal_ws_socket, opening.timer);
    if (s->phase == PEAL_WS_HEAD) peal_count(PEAL_M_REFUSED_TIMEOUT, 1);
    peal_ws_socket_kill(s);
}

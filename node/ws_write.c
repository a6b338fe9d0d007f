#include "node/ws_write.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/metrics.h"

enum { VECTORS = 64 }; /* runs joined in one system call */

static void watch(struct peal_ws_socket *s, bool write)
{
    if (s->wants_write == write) return;
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = s};
    if (epoll_ctl(s->server->epoll, EPOLL_CTL_MOD, s->fd, &event) != 0) {
        peal_ws_socket_kill(s);
        return;
    }
    s->wants_write = write;
}

/* Everything is written: end what was waiting for that. */
static void written_all(struct peal_ws_socket *s)
{
    watch(s, false);
    if (s->conn.open || s->dead) return;
    if (s->peer_closed) {
        peal_ws_socket_kill(s);
    } else if (!s->shut) {
        s->shut = true;
        shutdown(s->fd, SHUT_WR); /* the peer's Close or end of stream follows */
    }
}

/* The kernel took so many bytes. */
static void take_off(struct peal_ws_socket *s, size_t bytes)
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

void peal_ws_socket_write(struct peal_ws_socket *s)
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
            peal_ws_socket_lose(s);
            return;
        }
        take_off(s, (size_t)n);
        peal_conn_on_sent(&s->conn); /* may queue more */
    }
    if (!s->dead) written_all(s);
}

void peal_ws_write(struct peal_conn *conn)
{
    struct peal_ws_socket *s = peal_ws_socket_of(conn);
    if (!s->dead && !s->wants_write) peal_ws_socket_write(s);
}

/* What became of one send; its bytes are off the queue already. */
static void on_send(struct peal_ws_socket *s, int result)
{
    if (result < 0 && result != -EAGAIN) {
        peal_ws_socket_lose(s);
        return;
    }
    if (result == -EAGAIN)
        watch(s, true);
    else
        peal_conn_on_sent(&s->conn); /* may queue more */
    /* Also where the kernel took a part: it says when it takes the rest. */
    if (!s->dead && !s->wants_write) peal_ws_socket_write(s);
}

/* Most sockets have one run to send, and those are done together. Nothing may be called that could
 * write to one of them between taking its bytes off the list and taking them off its queue. */
static void flush_some(struct peal_ws_server *server)
{
    size_t count = 0;
    size_t others = PEAL_SENDS_MAX; /* from the end */
    while (count < others && !peal_list_empty(&server->dirty)) {
        struct peal_ws_socket *s =
            PEAL_FROM_LINK(server->dirty.next, struct peal_ws_socket, queued);
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
        peal_ws_socket_write(server->sending[others++]);
}

void peal_ws_flush(struct peal_ws_server *server)
{
    while (!peal_list_empty(&server->dirty))
        flush_some(server);
    PEAL_LIST_EACH(&server->dead, it, after)
    peal_ws_socket_free(PEAL_FROM_LINK(it, struct peal_ws_socket, queued));
}

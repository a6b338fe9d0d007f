#include "node/ws.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/log.h"
#include "node/ws_accept.h"
#include "node/ws_opening.h"
#include "node/ws_read.h"
#include "node/ws_state.h"
#include "node/ws_write.h"

enum { EVENTS = 256 }; /* taken from epoll at once */

/* ---- ending ---------------------------------------------------------------------------------- */

void peal_ws_socket_kill(struct peal_ws_socket *s)
{
    if (s->dead) return;
    s->dead = true;
    peal_list_remove(&s->queued);
    peal_list_append(&s->server->dead, &s->queued);
    if (s->phase != PEAL_WS_OPEN) peal_ws_opening_end(s);
}

void peal_ws_socket_free(struct peal_ws_socket *s)
{
    PEAL_ASSERT(s->dead);
    if (s->phase == PEAL_WS_OPEN) {
        peal_log(PEAL_LOG_DEBUG, "conn.ended", "reason=%s session=%016llx", s->conn.close_reason,
                 (unsigned long long)s->conn.session);
        peal_conn_fini(&s->conn);
        peal_ws_socket_drop_parser(s);
        s->server->open_count--;
    }
    peal_list_remove(&s->queued);
    if (s->fd >= 0) close(s->fd); /* leaves epoll with it */
    free(s);
}

void peal_ws_socket_lose(struct peal_ws_socket *s)
{
    peal_conn_on_peer_close(&s->conn);
    peal_ws_socket_kill(s);
}

void peal_ws_output(struct peal_conn *conn)
{
    struct peal_ws_socket *s = peal_ws_socket_of(conn);
    if (s->dead || !peal_list_empty(&s->queued)) return;
    peal_list_append(&s->server->dirty, &s->queued);
}

void peal_ws_cut(struct peal_conn *conn)
{
    struct peal_ws_socket *s = peal_ws_socket_of(conn);
    /* It did not read for PEAL_CLOSE_MS: a reset frees what the kernel holds for it as well. */
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    if (!peal_outq_empty(&conn->outq))
        setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    peal_ws_socket_kill(s);
}

/* ---- events ---------------------------------------------------------------------------------- */

static void on_socket(struct peal_ws_socket *s, uint32_t events)
{
    if (s->dead) return;
    switch (s->phase) {
    case PEAL_WS_HEAD:
        peal_ws_opening_look(s);
        return;
    case PEAL_WS_REFUSED:
        peal_ws_opening_linger(s);
        return;
    case PEAL_WS_OPEN:
        if (events & EPOLLOUT) peal_ws_socket_write(s);
        if (!s->dead && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) peal_ws_socket_read(s);
        return;
    }
}

void peal_ws_on_events(struct peal_ws_server *server)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(server->epoll, events, EVENTS, 0);
    for (int i = 0; i < n; i++) {
        enum peal_ws_source *kind = events[i].data.ptr;
        if (*kind == PEAL_WS_LISTENER)
            peal_ws_accept_from(server, events[i].data.ptr);
        else
            on_socket(events[i].data.ptr, events[i].events);
    }
}

void peal_ws_on_tick(struct peal_ws_server *server)
{
    peal_wheel_advance(&server->wheel, server->hub->now_ms, peal_ws_opening_expired, NULL);
    if (server->paused_until_ms != 0 && server->hub->now_ms >= server->paused_until_ms) {
        server->paused_until_ms = 0;
        peal_ws_pause_listeners(server, false);
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

void peal_ws_server_free(struct peal_ws_server *server)
{
    if (server == NULL) return;
    for (size_t i = 0; i < server->listener_count; i++)
        if (server->listeners[i].fd >= 0) close(server->listeners[i].fd);
    PEAL_LIST_EACH(&server->heads, it, after)
    peal_ws_socket_kill(PEAL_FROM_LINK(it, struct peal_ws_socket, opening.listed));
    PEAL_LIST_EACH(&server->hub->conns, it, after)
    peal_ws_socket_kill(peal_ws_socket_of(PEAL_FROM_LINK(it, struct peal_conn, in_hub)));
    PEAL_LIST_EACH(&server->dead, it, after)
    peal_ws_socket_free(PEAL_FROM_LINK(it, struct peal_ws_socket, queued));
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

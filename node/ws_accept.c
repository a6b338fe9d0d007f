#include "node/ws_accept.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/log.h"
#include "node/ws_opening.h"

enum {
    ACCEPTS = 256,   /* per listener and turn */
    PAUSE_MS = 1000, /* without descriptors, accepting rests this long */
};

static void take_connection(struct peal_ws_server *server, const struct peal_ws_listener *listener,
                            int fd, const struct sockaddr_storage *from)
{
    if (listener->api)
        peal_http_adopt(server->http, fd, true);
    else
        peal_ws_opening_start(server, fd, from);
}

void peal_ws_pause_listeners(struct peal_ws_server *server, bool pause)
{
    for (size_t i = 0; i < server->listener_count; i++) {
        struct peal_ws_listener *l = &server->listeners[i];
        struct epoll_event event = {.events = pause ? 0 : EPOLLIN, .data.ptr = l};
        if (l->fd >= 0 && l->paused != pause &&
            epoll_ctl(server->epoll, EPOLL_CTL_MOD, l->fd, &event) == 0)
            l->paused = pause;
    }
}

bool peal_ws_accept_from(struct peal_ws_server *server, struct peal_ws_listener *listener)
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
            peal_ws_pause_listeners(server, true);
            return false;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
        /* The others (ECONNABORTED, EINTR ...) are about one connection that is gone already. */
    }
    return true;
}

enum peal_err peal_ws_listen(struct peal_ws_server *server, int fd, bool api)
{
    PEAL_ASSERT(server->listener_count < sizeof server->listeners / sizeof server->listeners[0]);
    struct peal_ws_listener *l = &server->listeners[server->listener_count];
    *l = (struct peal_ws_listener){.kind = PEAL_WS_LISTENER, .fd = fd, .api = api};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = l};
    if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) != 0) return PEAL_EIO;
    server->listener_count++;
    return PEAL_OK;
}

static void close_listener(struct peal_ws_server *server, struct peal_ws_listener *l)
{
    if (l->fd < 0) return;
    /* Whom the kernel let in already would find the connection reset. */
    while (peal_ws_accept_from(server, l)) {
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
    peal_ws_socket_kill(PEAL_FROM_LINK(it, struct peal_ws_socket, opening.listed));
}

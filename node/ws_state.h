/* node/ws_state.h: the sockets of one worker, for the files that node/ws.h is made of.
 *
 * Nobody else includes this: ws.c (life and events), ws_accept.c (listeners), ws_opening.c (until a
 * socket is a WebSocket), ws_read.c and ws_write.c (frames of those that are) work on one state.
 *
 * Life of a socket: HEAD (its request head is looked at) → OPEN (frames) → dead, or HEAD →
 * handed to HTTP, or HEAD → REFUSED (an error was written; it lingers until the peer has read
 * it) → dead. Dead sockets are closed and freed by peal_ws_flush, never inside a call chain.
 *
 * Thread: the worker. Memory: the server holds every socket until it is freed. */
#ifndef PEAL_NODE_WS_STATE_H
#define PEAL_NODE_WS_STATE_H

#include "node/conn.h"
#include "node/sender.h"
#include "node/ws.h"
#include "node/wsframe.h"

enum { PEAL_WS_READ_BYTES = 65536 }; /* from one connection per turn */

enum peal_ws_source { PEAL_WS_LISTENER, PEAL_WS_SOCKET };

struct peal_ws_listener {
    enum peal_ws_source kind;
    int fd;
    bool api;
    bool paused;
};

/* Handshakes under way from one address. */
struct peal_ws_address {
    struct peal_map_node node;
    unsigned char ip[16];
    uint32_t count;
};

enum peal_ws_phase { PEAL_WS_HEAD, PEAL_WS_REFUSED, PEAL_WS_OPEN };

/* Until it is a WebSocket. */
struct peal_ws_opening {
    struct peal_link listed; /* HEAD: in server->heads */
    struct peal_timer timer;
    struct peal_ws_address *address; /* counted there; NULL: no longer */
    size_t peeked;                   /* bytes looked at last time */
};

struct peal_ws_socket {
    enum peal_ws_source kind;
    int fd;
    struct peal_ws_server *server;
    struct peal_link queued; /* in server->dirty while there is something to write; dead: in
                                server->dead */
    uint8_t phase;           /* enum peal_ws_phase */
    bool dead;
    bool wants_write;
    bool shut;        /* our side was shut down after the last frame */
    bool peer_closed; /* its Close has come */
    bool deaf;        /* nothing it sends is read any more */
    union {
        struct peal_ws_opening opening; /* HEAD and REFUSED */
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
    struct peal_ws_listener listeners[4];
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
    struct peal_ws_socket
        *sending[PEAL_SENDS_MAX]; /* whose they are, and then those with several runs */
    struct peal_ws_parser parser; /* of who is being read and is between two messages */
    char bytes[PEAL_WS_READ_BYTES];
};

static inline struct peal_ws_socket *peal_ws_socket_of(struct peal_conn *conn)
{
    return PEAL_FROM_LINK(conn, struct peal_ws_socket, conn);
}

/* The socket is done for; it is freed at the end of the turn. Twice is fine. */
void peal_ws_socket_kill(struct peal_ws_socket *s);
/* The connection is broken, or ended without a word. */
void peal_ws_socket_lose(struct peal_ws_socket *s);
/* One that is dead. */
void peal_ws_socket_free(struct peal_ws_socket *s);

#endif

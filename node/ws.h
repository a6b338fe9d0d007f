/* node/ws.h: the sockets of one worker: accept, handshake, WebSocket frames in and out.
 *
 * The worker accepts on its own SO_REUSEPORT listeners. Each request on the browser listener
 * is looked at without taking it (MSG_PEEK, at most PEAL_HEAD_MAX bytes): a correct WebSocket
 * upgrade is answered here and stays here; any other well-formed request goes to node/http.c
 * with its socket untouched; the rest is refused. The API listener goes to node/http.c at once.
 *
 * All sockets sit in one epoll instance of their own, whose descriptor the worker's loop
 * watches: a connection costs the loop nothing. What a turn queued for a connection leaves in
 * one system call at the end of the turn (peal_ws_flush).
 *
 * Why this is not libwebsockets: docs/decisions/0003-own-websocket-engine.md.
 * Thread: the worker. Source: RFC 6455 section 4.2. */
#ifndef PEAL_NODE_WS_H
#define PEAL_NODE_WS_H

#include <stdint.h>

#include "base/err.h"
#include "node/http.h"
#include "node/hub.h"

struct peal_ws_server;

/* http takes what is no WebSocket. NULL when memory or descriptors are short. */
struct peal_ws_server *peal_ws_server_new(struct peal_hub *hub, struct peal_http *http);
/* Cuts every connection and frees. */
void peal_ws_server_free(struct peal_ws_server *server);
/* Adds a listening socket, which is closed with the server. Errors: PEAL_EIO. */
enum peal_err peal_ws_listen(struct peal_ws_server *server, int fd, bool api);
/* Readable when peal_ws_on_events should be called. */
int peal_ws_fd(const struct peal_ws_server *server);
void peal_ws_on_events(struct peal_ws_server *server);
/* Handshake deadlines; listeners that were paused for want of descriptors. */
void peal_ws_on_tick(struct peal_ws_server *server);
/* Writes what was queued and frees what was cut. At the end of every turn. */
void peal_ws_flush(struct peal_ws_server *server);
/* Takes no more WebSockets: accepts who waits for that, and then closes the browser listener.
 * Handshakes under way are answered 503. */
void peal_ws_refuse(struct peal_ws_server *server);
/* The same for both listeners, and cuts the handshakes under way. */
void peal_ws_shut(struct peal_ws_server *server);
size_t peal_ws_count(const struct peal_ws_server *server);

/* For the hub's io. */
struct peal_conn;
void peal_ws_output(struct peal_conn *conn);
void peal_ws_write(struct peal_conn *conn);
void peal_ws_cut(struct peal_conn *conn);

#endif

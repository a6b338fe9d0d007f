/* node/ws_opening.h: a socket until it is a WebSocket, is handed to HTTP, or is refused.
 *
 * Shape:  PEAL_HALF_OPEN_MAX handshakes under way, PEAL_HALF_OPEN_IP_MAX from one address, each at
 *         most PEAL_HANDSHAKE_MS. Heads are looked at without taking them.
 * Thread: the worker. Memory: the socket belongs to the server; an address is counted while it has
 *         handshakes under way.
 * Errors: answered to the peer with a status and counted.
 * Source: RFC 6455 section 4.2. */
#ifndef PEAL_NODE_WS_OPENING_H
#define PEAL_NODE_WS_OPENING_H

#include <sys/socket.h>

#include "node/ws_state.h"

/* Takes a socket that was accepted on the browser listener; closes it when there are too many. */
void peal_ws_opening_start(struct peal_ws_server *server, int fd,
                           const struct sockaddr_storage *from);
/* There is more of the head, or the end of the stream. */
void peal_ws_opening_look(struct peal_ws_socket *s);
/* What comes in behind a refusal is thrown away, until the peer has closed. */
void peal_ws_opening_linger(struct peal_ws_socket *s);
/* It is one no longer. */
void peal_ws_opening_end(struct peal_ws_socket *s);
/* For the server's wheel. */
void peal_ws_opening_expired(void *ctx, struct peal_timer *timer);

#endif

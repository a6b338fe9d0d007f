/* node/ws_read.h: frames come in, and become messages, pings and a Close for the connection.
 *
 * Shape:  at most PEAL_WS_READ_BYTES at a time; a socket in the middle of a message has a parser of
 *         its own, the others share the server's.
 * Thread: the worker. Memory: the parser is freed with the message or with the socket.
 * Errors: what is no WebSocket closes the connection with its code; then it is deaf.
 * Source: RFC 6455 sections 5 and 7. */
#ifndef PEAL_NODE_WS_READ_H
#define PEAL_NODE_WS_READ_H

#include "node/ws_state.h"

/* Reads once. */
void peal_ws_socket_read(struct peal_ws_socket *s);
/* None is fine. */
void peal_ws_socket_drop_parser(struct peal_ws_socket *s);

#endif

/* node/ws_write.h: what the queue of a WebSocket holds goes to the kernel.
 *
 * peal_ws_flush and peal_ws_write (node/ws.h) are in this file too.
 *
 * Shape:  at most 64 runs of bytes in one system call; at the end of a turn those that have one run
 *         are sent together (node/sender.h).
 * Thread: the worker. Memory: nothing is kept; bytes stay in the queue until the kernel has them.
 * Errors: a connection that fails is lost (peal_ws_socket_lose); a full one is written when epoll
 *         says so. */
#ifndef PEAL_NODE_WS_WRITE_H
#define PEAL_NODE_WS_WRITE_H

#include "node/ws_state.h"

/* Writes until the queue is empty or the kernel takes no more. */
void peal_ws_socket_write(struct peal_ws_socket *s);

#endif

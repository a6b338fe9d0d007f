/* node/ws_accept.h: the listeners of one worker.
 *
 * peal_ws_listen, peal_ws_refuse and peal_ws_shut (node/ws.h) are in this file too.
 *
 * Shape:  at most 256 sockets are accepted from a listener at a time. Without descriptors or memory
 *         all listeners rest for a second.
 * Thread: the worker. Memory: the server's. */
#ifndef PEAL_NODE_WS_ACCEPT_H
#define PEAL_NODE_WS_ACCEPT_H

#include "node/ws_state.h"

/* True when it stopped because of its bound: more may be waiting. */
bool peal_ws_accept_from(struct peal_ws_server *server, struct peal_ws_listener *listener);
void peal_ws_pause_listeners(struct peal_ws_server *server, bool pause);

#endif

/* base/bus_socket.h: what all ZeroMQ sockets of the bus have in common.
 *
 * Called between zmq_socket and the first zmq_bind or zmq_connect. `socket` is one of ZeroMQ; this
 * header does not include zmq.h, so that who does can be counted (docs/decisions).
 *
 * Thread: the one that owns the socket. */
#ifndef PEAL_BASE_BUS_SOCKET_H
#define PEAL_BASE_BUS_SOCKET_H

#include <stddef.h>

#include "base/curve.h"
#include "base/err.h"

/* Bounds what a peer can do to the socket: the size of what it sends, how long a handshake takes,
 * how long a dead one is kept. bytes_max: of one frame that arrives. */
void peal_bus_socket_bound(void *socket, size_t bytes_max);

/* Makes it the side that others connect to: each handshake is put to the ZAP handler of the
 * context under this domain. own: the keys, NULL without CURVE.
 *
 * The handler has to be there before the socket is bound and for as long as it is read or written:
 * without one ZeroMQ 4.3 lets in with CURVE whoever knows the public key (the option that forbids
 * it, ZMQ_ZAP_ENFORCE_DOMAIN, is a draft). Messages of such a connection have no user id. */
void peal_bus_socket_guard(void *socket, const struct peal_curve_pair *own, const char *domain);

/* Makes it a side that connects, to the one that has the secret half of server_key. own NULL:
 * nothing is done. Errors: PEAL_ECONFIG, server_key is NULL or no key. */
enum peal_err peal_bus_socket_secure(void *socket, const struct peal_curve_pair *own,
                                     const char *server_key);

#endif

/* node/listener.h: listening sockets, several of which may share one port.
 *
 * Thread: main. */
#ifndef PEAL_NODE_LISTENER_H
#define PEAL_NODE_LISTENER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Gives the socket, and through it all that it accepts, TCP_NODELAY and the most bytes that the
 * kernel holds of a connection beyond what is on its way (TCP_NOTSENT_LOWAT). */
void peal_listener_tune(int fd, uint64_t unsent_bytes);
/* Opens a listening socket on host:port with SO_REUSEPORT. *port 0 asks the kernel and gets the
 * number. exclusive: fails when anybody listens there already, also with SO_REUSEPORT.
 * Errors: PEAL_EINUSE, PEAL_EIO, with a sentence in why. */
enum peal_err peal_listener_open(const char *key, const char *endpoint, uint16_t *port,
                                 bool exclusive, int *fd, char *why, size_t why_size);

#endif

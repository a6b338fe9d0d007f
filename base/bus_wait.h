/* base/bus_wait.h: waits for several ZeroMQ sockets and descriptors with few system calls.
 *
 * zmq_poll asks every socket for its events before it sleeps and again after, and each question is
 * two system calls: a thread with eight sockets that is woken for one message spends most of its
 * time on that. Here the kernel is asked once about all descriptors, and ZeroMQ only about sockets
 * whose descriptor cannot be relied on.
 *
 * A socket's descriptor tells that there are commands for it, and any call on the socket may take
 * these without a word. Who calls must therefore keep two rules:
 *   - what is `ready` is received from until there is nothing left (EAGAIN), or marked `used`;
 *   - a socket that was sent on, or asked for its events, is marked `used` afterwards.
 * A socket that is used is asked for its events before the next sleep.
 *
 * Thread: the one that owns the sockets. Source: zmq_getsockopt(3), ZMQ_FD and ZMQ_EVENTS. */
#ifndef PEAL_BASE_BUS_WAIT_H
#define PEAL_BASE_BUS_WAIT_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct peal_bus_source {
    void *socket; /* of ZeroMQ, not owned; NULL: a descriptor alone */
    int fd;
    bool used;    /* see above; true in the beginning */
    bool skipped; /* not waited for, and not ready, until that is taken back */
    bool ready;   /* found by the last wait: there may be something to receive */
};

struct peal_bus_sources {
    struct peal_bus_source *at;
    size_t count;
    struct pollfd *polled;
};

/* count sources that are nothing yet and are skipped. Errors: PEAL_ENOMEM; needs no fini then. */
enum peal_err peal_bus_sources_init(struct peal_bus_sources *sources, size_t count);
void peal_bus_sources_fini(struct peal_bus_sources *sources); /* zeroed is fine */

/* What a source is from now on; also when its socket was closed and opened again. */
void peal_bus_source_socket(struct peal_bus_source *source, void *socket);
void peal_bus_source_fd(struct peal_bus_source *source, int fd);

/* Until one is ready, a signal came or the time is over: timeout_ms 0 does not sleep, -1 has no
 * end. How many are ready; all of them are marked. Errors: -1 and errno of poll(2). */
int peal_bus_wait(struct peal_bus_sources *sources, int timeout_ms);

#endif

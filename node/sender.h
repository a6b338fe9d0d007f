/* node/sender.h: writes to many sockets at once.
 *
 * One send() per socket, or, where the kernel offers io_uring and the configuration does not
 * forbid it, one system call for up to PEAL_SENDS_MAX of them. Either way everything is done when
 * the call returns, no socket is waited for, and each socket's bytes are in order because it is
 * in a call only once.
 *
 * Containers often forbid io_uring: then, and when the ring fails later, it is send() again.
 *
 * Thread: the worker; the ring is made by the first call. Source: io_uring(7), liburing. */
#ifndef PEAL_NODE_SENDER_H
#define PEAL_NODE_SENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PEAL_SENDS_MAX = 256 };

struct peal_send {
    int fd;
    uint32_t size;
    const void *at;
    int result; /* bytes taken, or -errno; -EAGAIN: the socket is full */
};

struct peal_sender;

/* NULL on ENOMEM. */
struct peal_sender *peal_sender_new(bool io_uring);
void peal_sender_free(struct peal_sender *sender); /* NULL is fine */
/* Does all of them; at most PEAL_SENDS_MAX, each with at least one byte. */
void peal_sender_run(struct peal_sender *sender, struct peal_send *sends, size_t count);
/* The ring is in use; for tests and the log. */
bool peal_sender_uses_ring(const struct peal_sender *sender);

#endif

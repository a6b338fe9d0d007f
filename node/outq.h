/* node/outq.h: the bytes one connection still has to be sent.
 *
 * A ring of references to shared, immutable frames. It refuses when it is full; the caller
 * decides who pays. The ring grows from nothing to what is used and is given back when the
 * queue is empty, so an idle connection pays for no slots.
 *
 * Shape:  FIFO of whole frames, at most slots_max of them and bytes_max bytes. The oldest may
 *         have been sent in part.
 * Thread: the worker that owns the connection. There are no locks inside.
 * Memory: embedded in struct peal_conn; holds one reference per queued frame.
 * Source: RFC 6455 section 5.4, frames of two messages must not interleave. */
#ifndef PEAL_NODE_OUTQ_H
#define PEAL_NODE_OUTQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/err.h"

struct peal_outq {
    struct peal_bytes **slots;
    uint32_t capacity;  /* slots allocated: 0 or a power of two */
    uint32_t slots_max; /* frames, at least 1 */
    uint32_t head;      /* index of the oldest frame */
    uint32_t count;     /* frames queued, 0..slots_max */
    uint32_t sent;      /* bytes of the oldest frame that are sent already */
    uint32_t bytes;     /* not yet sent, 0..bytes_max (+ control frames, or one larger frame) */
    uint32_t bytes_max;
};

/* Makes q an empty queue. Cannot fail. */
void peal_outq_init(struct peal_outq *q, uint32_t slots_max, uint32_t bytes_max);
/* Drops every frame and frees the ring. A zeroed queue is fine. */
void peal_outq_fini(struct peal_outq *q);
/* Appends frame, taking a reference of its own; the caller keeps its own one. A frame larger
 * than bytes_max is taken when the queue is empty, so that every message can be sent.
 * Errors: PEAL_EFULL (no room, or no memory for a larger ring), and nothing has changed. */
enum peal_err peal_outq_push(struct peal_outq *q, struct peal_bytes *frame);
/* The same for control frames (replies, pings, Close): may go PEAL_OUTQ_CONTROL_BYTES and as many
 * slots as PEAL_OUTQ_CONTROL_SLOTS beyond the limits; beyond a frame that is larger than
 * bytes_max, too. */
enum { PEAL_OUTQ_CONTROL_BYTES = 65536, PEAL_OUTQ_CONTROL_SLOTS = 64 };
enum peal_err peal_outq_push_control(struct peal_outq *q, struct peal_bytes *frame);
/* Fills at most max vectors with what is next to be written; returns how many. */
int peal_outq_gather(const struct peal_outq *q, struct iovec *vectors, int max);
/* Says that `size` bytes were written, and drops the frames that are done. Returns how many frames
 * that was. */
uint32_t peal_outq_consume(struct peal_outq *q, size_t size);
/* Drops every frame of which nothing was sent yet; the rest of one that was begun stays, so that
 * the stream stays whole. Returns how many were dropped. */
uint32_t peal_outq_drop_unsent(struct peal_outq *q);
static inline bool peal_outq_empty(const struct peal_outq *q)
{
    return q->count == 0;
}

#endif

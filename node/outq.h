/* node/outq.h: the frames one connection still has to be sent.
 *
 * A ring of references to shared, immutable runs of frames. It refuses when it is full; the
 * caller decides who pays. A single run needs no ring, which is what a connection that reads
 * has; a ring grows from there to what is used and is given back when the queue is empty.
 *
 * Shape:  FIFO of whole frames, at most frames_max of them and bytes_max bytes. The oldest may
 *         have been sent in part.
 * Counts: peal_frames_queued, by what is in the ring; `due`, `written` and `dropped` are counted by
 *         who puts in and takes out, so that the sums can be compared.
 * Thread: the worker that owns the connection. There are no locks inside.
 * Memory: embedded in struct peal_conn; holds one reference per queued run.
 * Source: RFC 6455 section 5.4, frames of two messages must not interleave. */
#ifndef PEAL_NODE_OUTQ_H
#define PEAL_NODE_OUTQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "node/run.h"

/* The same for all connections of a worker. */
struct peal_outq_limits {
    uint32_t frames_max; /* at least 1 */
    uint32_t bytes_max;
};

/* The first `count` frames of a run, which are its first `end` bytes; all of it, until
 * peal_outq_drop_unsent cuts it. */
struct peal_outq_item {
    struct peal_run *run;
    uint32_t end;
    uint32_t count;
};

struct peal_outq {
    union {
        struct peal_outq_item one; /* capacity 0 */
        struct peal_outq_item *ring;
    };
    uint32_t capacity; /* items in the ring: 0 or a power of two */
    uint32_t head;     /* index of the oldest item */
    uint32_t count;    /* items */
    uint32_t frames;   /* not yet sent as a whole */
    uint32_t sent;     /* bytes of the oldest item that are sent already */
    uint32_t bytes;    /* not yet sent, 0..bytes_max (+ control frames, or one larger frame) */
};

/* Makes q an empty queue, as zeroing does. Cannot fail. */
void peal_outq_init(struct peal_outq *q);
/* Drops every frame and frees the ring. */
void peal_outq_fini(struct peal_outq *q);
/* Appends as many frames of run as there is room for, from its first one on, and says how many:
 * fewer than run->count when the queue is full then, or memory is short. A whole run is taken by
 * reference, a part as a copy: the queue holds no bytes but those it counts. A frame larger than
 * bytes_max is taken when the queue is empty, so that every message can be sent. */
uint32_t peal_outq_push(struct peal_outq *q, const struct peal_outq_limits *limits,
                        struct peal_run *run);
/* Appends one control frame (a reply, a ping, a Close), which may go PEAL_OUTQ_CONTROL_BYTES and
 * PEAL_OUTQ_CONTROL_FRAMES beyond the limits; beyond a frame that is larger than bytes_max, too.
 * Errors: PEAL_EFULL, PEAL_ENOMEM (for a larger ring), and nothing has changed. */
enum { PEAL_OUTQ_CONTROL_BYTES = 65536, PEAL_OUTQ_CONTROL_FRAMES = 64 };
enum peal_err peal_outq_push_control(struct peal_outq *q, const struct peal_outq_limits *limits,
                                     struct peal_run *frame);
/* Would one more frame of `size` bytes be within the limits? What was refused all the same was
 * refused for lack of memory. */
bool peal_outq_has_room(const struct peal_outq *q, const struct peal_outq_limits *limits,
                        size_t size);
/* Fills at most max vectors with what is next to be written; returns how many. */
int peal_outq_gather(const struct peal_outq *q, struct iovec *vectors, int max);
/* Says that `size` bytes were written, and drops the runs that are done. Returns how many frames
 * that completed. */
uint32_t peal_outq_consume(struct peal_outq *q, size_t size);
/* Drops every frame of which nothing was sent yet; the rest of one that was begun stays, so that
 * the stream stays whole. Returns how many were dropped. */
uint32_t peal_outq_drop_unsent(struct peal_outq *q);
static inline bool peal_outq_empty(const struct peal_outq *q)
{
    return q->count == 0;
}

#endif

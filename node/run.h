/* node/run.h: whole frames in a row, rendered once and shared by everybody who is sent them.
 *
 * What a group had for one dialect in one turn of the loop is one run: a connection's queue
 * holds a reference to it, and the kernel gets it in one piece.
 *
 * Shape:  1.. frames, immutable once made.
 * Thread: one worker; the count of references is a plain number.
 * Memory: counted; the bytes and the ends of the frames are in the same piece of memory. Small
 *         runs come from a pool: a turn makes hundreds of them before the first one is freed. */
#ifndef PEAL_NODE_RUN_H
#define PEAL_NODE_RUN_H

#include <stdint.h>

#include "base/span.h"

struct peal_run {
    uint32_t refs;
    uint32_t size;              /* bytes */
    uint32_t count;             /* frames */
    const uint32_t *ends;       /* where each frame ends; NULL when there is one */
    struct peal_run_pool *pool; /* it goes back there; NULL: to the heap */
    char at[];
};

/* Memory for small runs that were freed. A zeroed pool is empty; it must outlive its runs. */
struct peal_run_pool {
    void *free; /* the first word of each is the next one */
    uint32_t count;
};
enum { PEAL_RUN_SMALL = 256, PEAL_RUN_POOL_MAX = 1024 };
/* What a run takes at most besides its bytes: its header, the rest of its block, malloc's own. */
enum { PEAL_RUN_OVERHEAD = PEAL_RUN_SMALL + 16 };
void peal_run_pool_fini(struct peal_run_pool *pool);

/* Copies bytes, which hold count frames; ends may be NULL when count is 1. pool may be NULL. NULL
 * on ENOMEM. */
struct peal_run *peal_run_new(struct peal_run_pool *pool, struct peal_span bytes,
                              const uint32_t *ends, uint32_t count);
/* A copy of `count` frames of run behind the first `from`. NULL on ENOMEM. */
struct peal_run *peal_run_part(const struct peal_run *run, uint32_t from, uint32_t count);
struct peal_run *peal_run_ref(struct peal_run *run);
void peal_run_unref(struct peal_run *run); /* NULL is fine */
/* Where the first `count` frames end, in bytes. */
uint32_t peal_run_end(const struct peal_run *run, uint32_t count);
/* How many whole frames are in the first `bytes` bytes. */
uint32_t peal_run_frames(const struct peal_run *run, uint32_t bytes);

#endif

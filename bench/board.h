/* bench/board.h: memory that the parent and its client processes share.
 *
 * Each number has one writer. A client process writes its own tally and its own rows of `warm`
 * and `passed`; the parent writes what is wanted. `passed` is written by the process and set back
 * by the parent, for a message that everybody has and nobody counts any more.
 *
 * Memory: one anonymous shared mapping, made before the first fork. */
#ifndef PEAL_BENCH_BOARD_H
#define PEAL_BENCH_BOARD_H

#include <stdatomic.h>

#include "bench/hist.h"
#include "bench/plan.h"

typedef _Atomic uint64_t peal_tick;

/* What the client process `which` has seen. */
struct peal_tally {
    peal_tick opened;    /* connections that are joined, or were */
    peal_tick closed;    /* and ended, without having been told to */
    peal_tick shaken;    /* shake: handshakes that are done */
    peal_tick warmed;    /* warm-up messages */
    peal_tick delivered; /* measured messages, each counted once */
    peal_tick late;      /* of them those that came behind a newer one */
    peal_tick repeats;
    peal_tick gaps;    /* `gap` events */
    peal_tick missed;  /* messages that they speak of */
    peal_tick skips;   /* `skip` events */
    peal_tick errors;  /* `error` events */
    peal_tick strange; /* frames without a stamp */
    peal_tick last_ns; /* when the newest measured message came */
    _Atomic bool failed;
    char why[160]; /* once failed */
    struct peal_hist latency;
};

struct peal_board {
    size_t size;
    uint32_t ring_mask;          /* of passed */
    peal_tick wanted;            /* connections, over all processes */
    _Atomic bool shake;          /* the handshakes may begin */
    _Atomic bool stop;           /* the client processes end */
    _Atomic uint32_t waiting;    /* the parent sleeps until somebody counts */
    _Atomic uint32_t *warm;      /* [process][group]: members that got a message */
    _Atomic uint32_t *passed;    /* [process][index & ring_mask]: deliveries */
    struct peal_tally tallies[]; /* [process] */
};

/* NULL when there is no memory. */
struct peal_board *peal_board_new(const struct peal_plan *plan);
void peal_board_free(struct peal_board *board);
/* One number over all processes: peal_board_sum(board, plan, offsetof(struct peal_tally, late)). */
uint64_t peal_board_sum(const struct peal_board *board, const struct peal_plan *plan,
                        size_t offset);
/* Parent: sleeps until a client process has counted something, at most max_ns. */
void peal_board_wait(struct peal_board *board, uint64_t max_ns);
/* Client process: wakes the parent if it sleeps. */
void peal_board_wake(struct peal_board *board);

static inline void peal_tick_add(peal_tick *tick, uint64_t more)
{
    atomic_store_explicit(tick, atomic_load_explicit(tick, memory_order_relaxed) + more,
                          memory_order_relaxed);
}

#endif

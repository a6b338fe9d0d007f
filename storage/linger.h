/* storage/linger.h: how long a batch waits for those who are about to come back.
 *
 * Publishers that have so many messages under way send the next ones when they are told that a
 * commit came through. Meanwhile the others are there already; a batch that began with them alone
 * would leave the first ones to the next commit, and so on: two groups in turn, each commit with
 * half of what it could have. A short wait gives one commit instead of two, for half of the work
 * of disk and kernel.
 *
 * A batch waits only when fewer operations are in it than were under way when the last one was
 * handed back, at most as long as the last commit took and 2 ms, and not at all where that was
 * little. When hardly anybody came the next batches do not wait, and more of them each time.
 *
 * Thread: the store thread. It knows no clock: times are parameters. */
#ifndef PEAL_STORAGE_LINGER_H
#define PEAL_STORAGE_LINGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed: waits for nobody until a batch was handed back. */
struct peal_linger {
    size_t expected;    /* operations that were under way then */
    uint64_t commit_us; /* of the last one, as far as it counts */
    size_t skip;        /* batches that do not wait yet */
    size_t skip_next;   /* of them, after the last wait */
    bool skipped;       /* this batch does not wait */
    unsigned naps;      /* of this batch */
    size_t began;       /* operations in it before the first nap */
};

/* The batch has `count` operations and nothing else is there. Returns how long to wait before one
 * looks again, and then asks again; 0: it is to be committed now. */
uint64_t peal_linger_us(struct peal_linger *linger, size_t count);
/* The batch was committed with `count` operations, and that took so long. under_way: those, and all
 * that wait behind them. */
void peal_linger_commit(struct peal_linger *linger, size_t count, size_t under_way,
                        uint64_t commit_us);

#endif

/* tests/contract/walk.h: a store and an oracle side by side, through operations at random.
 *
 * Everything that can be asked of a store in any order: messages of all sizes with TTL, ids and
 * keys, marks, heads with positions, pages of every kind, slots that move and are dropped; time
 * passes, the store is stopped and opened, and its process is killed with operations under way.
 * Limits are small, so that evictions, expiry and settling happen all the time. */
#ifndef PEAL_TESTS_WALK_H
#define PEAL_TESTS_WALK_H

#include "tests/contract/contract.h"

struct walk_counts {
    uint64_t operations; /* answered and judged, without pages */
    uint64_t pages;
    uint64_t entries; /* of pages */
    uint64_t duplicates;
    uint64_t removed; /* messages that were there and are gone */
    uint64_t reopened;
    uint64_t killed;
    uint64_t unanswered; /* operations that were on the disk when their process was killed */
};

/* One walk of at least so many operations; adds to counts. Fails the test (cmocka) when the store
 * and the oracle differ; `again` is the command that repeats the walk. */
void walk_run(const struct contract_store *impl, uint64_t seed, uint64_t operations,
              struct walk_counts *counts, const char *again);

#endif

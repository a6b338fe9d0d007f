/* storage/settle_range.h: moves one range of the log to the inbox.
 *
 * Whatever is cut off, by a stop, a full disk or a crash, is made up for by moving the same range
 * again, from any state that commits have left: what the inbox knows is known by its versions.
 *
 * Thread: the settle thread. */
#ifndef PEAL_STORAGE_SETTLE_RANGE_H
#define PEAL_STORAGE_SETTLE_RANGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "storage/settle.h"

/* Zeroed but for the first two; kept from one range to the next. */
struct peal_range {
    const struct peal_settle_setup *setup;
    const _Atomic bool *stopping;
    uint64_t dropped_to; /* what DROP says up to this sequence was done since the start */
    uint64_t corrupt;    /* damaged records that the last range met */
    uint64_t entries;    /* of the inbox after the last slice, as in struct peal_settle_note */
    uint64_t bytes;
    uint64_t room; /* as in the notes */
};

/* Moves [from, to]; a MOVED note follows each slice. Errors: PEAL_EAGAIN: stopped; others: why the
 * rest was not moved. */
enum peal_err peal_range_move(struct peal_range *range, uint64_t from, uint64_t to);

#endif

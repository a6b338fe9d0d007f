/* storage/stats.h: what there is in a store, in numbers. What `peal store stats` prints.
 *
 * Thread, memory: as storage/survey.h. */
#ifndef PEAL_STORAGE_STATS_H
#define PEAL_STORAGE_STATS_H

#include "storage/survey.h"

struct peal_stats_file {
    uint64_t bytes_file; /* that it has grown to */
    uint64_t bytes_used; /* of pages that hold something */
    uint64_t bytes_free; /* of pages that are used again before it grows */
};

struct peal_stats {
    uint64_t generation;
    uint64_t heads;
    uint64_t heads_damaged;
    uint64_t messages; /* kept, by the heads */
    uint64_t unread;   /* of inboxes */
    uint64_t bytes;    /* of their envelopes */
    uint64_t log_records;
    uint64_t log_waiting; /* of them: not in the inbox yet */
    uint64_t log_damaged; /* of these */
    uint64_t oldest_ms;   /* when the oldest message was stored; 0: there is none */
    uint64_t newest_ms;
    struct peal_stats_file log;
    struct peal_stats_file inbox;
};

/* Errors: PEAL_ENOMEM, PEAL_EIO. */
enum peal_err peal_stats_read(struct peal_survey *survey, struct peal_stats *out);

#endif

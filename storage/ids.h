/* storage/ids.h: which message_ids were stored lately, and as which messages.
 *
 * A retry of a publish with the same id and group inside of the window (config dedup.age) gets the
 * first epoch and offset again. At most config dedup.ids are remembered; then the oldest go first.
 * The window is in memory and is made again from the log, whose records stay for as long as an id
 * of theirs is in it.
 *
 * Thread: the store thread. Memory: about 120 bytes for each id. */
#ifndef PEAL_STORAGE_IDS_H
#define PEAL_STORAGE_IDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/map.h"
#include "base/span.h"
#include "storage/keys.h"

struct peal_id {
    struct peal_map_node node;
    struct peal_link link;
    char key[PEAL_KEY_ID];
    uint64_t epoch;
    uint64_t offset;
    uint64_t stored_ms;
    uint64_t seq; /* of the record of the log that has it */
};

struct peal_ids {
    struct peal_map map;
    struct peal_link all; /* in the order of seq */
    uint64_t age_ms;
    uint64_t count_max;
    size_t batch_count; /* added by the batch in hand: the last ones */
};

/* Errors: PEAL_ENOMEM. */
enum peal_err peal_ids_init(struct peal_ids *ids, uint64_t age_ms, uint64_t count_max);
void peal_ids_fini(struct peal_ids *ids);
/* The message that was stored with this id inside of the window; NULL. */
const struct peal_id *peal_ids_find(const struct peal_ids *ids, const char key[PEAL_KEY_ID],
                                    uint64_t now_ms);
/* Remembers what was not found; one that is too old is replaced. Errors: PEAL_ENOMEM. */
enum peal_err peal_ids_add(struct peal_ids *ids, const struct peal_id *id);
/* What was added since the last commit is on the disk, or has not happened. */
void peal_ids_commit(struct peal_ids *ids);
void peal_ids_rollback(struct peal_ids *ids);
/* Forgets what is too old or too much, at most `most`. Between batches. */
void peal_ids_trim(struct peal_ids *ids, uint64_t now_ms, size_t most);
/* Records of the log from here on must stay; UINT64_MAX: none. */
uint64_t peal_ids_first_seq(const struct peal_ids *ids);
/* From the oldest on (before NULL), one after the other; NULL at the end. */
const struct peal_id *peal_ids_next(const struct peal_ids *ids, const struct peal_id *before);
/* The `count` oldest were written again, at seq and behind it; with the commit. */
void peal_ids_renewed(struct peal_ids *ids, size_t count, uint64_t seq);

#endif

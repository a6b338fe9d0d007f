/* storage/ids.h: which message_ids were stored lately, and as which messages.
 *
 * A retry of a publish with the same id and group inside of the window (config dedup.age) gets
 * the first epoch and offset again. At most config dedup.ids are remembered; then the oldest
 * go first. An id is added in the transaction of its message.
 *
 * Thread: the store thread. Memory: one flat struct; the ids are in the trees ids and
 * ids_by_time. */
#ifndef PEAL_STORAGE_IDS_H
#define PEAL_STORAGE_IDS_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/db.h"
#include "storage/keys.h"

struct peal_ids {
    struct peal_txn *txn;
    uint64_t age_ms;
    uint64_t count_max;
    uint64_t now_ms;
    bool wrote;      /* in this transaction */
    int64_t corrupt; /* damaged records met in this transaction */
};

/* In all: the errors of peal_txn_put; the transaction must then be aborted. */

/* Was this id (a key of the tree ids) stored inside of the window? A damaged record counts as
 * not stored: stored twice is better than not at all. */
enum peal_err peal_ids_find(struct peal_ids *ids, const char id[PEAL_KEY_ID], bool *found,
                            struct peal_id_record *record);
/* Remembers an id that was not found. */
enum peal_err peal_ids_add(struct peal_ids *ids, const char id[PEAL_KEY_ID],
                           const struct peal_id_record *record);
/* Removes the oldest ids while they are too old or too many, at most `most`. */
enum peal_err peal_ids_trim(struct peal_ids *ids, size_t most, size_t *removed);

#endif

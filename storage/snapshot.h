/* storage/snapshot.h: log and inbox as they were at one moment, for whoever reads beside the
 * writing.
 *
 * Thread: made in the store thread, between two commits, after all notes of the settle thread that
 * it has acted on: what its heads leave to the inbox is then there. Read in one thread at a time,
 * released in any. Memory: counted references. */
#ifndef PEAL_STORAGE_SNAPSHOT_H
#define PEAL_STORAGE_SNAPSHOT_H

#include <stdatomic.h>
#include <stdint.h>

#include "storage/db.h"
#include "storage/inbox.h"

struct peal_snapshot {
    _Atomic uint32_t refs;
    struct peal_txn log;
    struct peal_txn inbox;
};

/* With one reference. Errors: PEAL_ENOMEM, PEAL_EIO. */
enum peal_err peal_snapshot_new(struct peal_db *log, struct peal_db *inbox,
                                struct peal_snapshot **out);
void peal_snapshot_ref(struct peal_snapshot *snapshot);
void peal_snapshot_unref(struct peal_snapshot *snapshot); /* NULL is fine */

/* In place of a sequence: the message is in the inbox. */
#define PEAL_PLACE_INBOX UINT64_MAX

/* One group in a snapshot, as the store thread knew it at that moment. */
struct peal_view {
    struct peal_snapshot *snapshot; /* one reference */
    struct peal_inbox inbox;        /* a copy */
    uint64_t base;                  /* offsets from here on are in the log, at their places */
    uint64_t *places;               /* sequence in the log of base + i; 0: nowhere */
    size_t place_count;
};
void peal_view_fini(struct peal_view *view);

/* The record of one message: from the log or from the inbox. Errors: PEAL_ENOT_FOUND,
 * PEAL_ECORRUPT, those of peal_txn_get. */
struct peal_record;
enum peal_err peal_view_message(struct peal_view *view, uint16_t slot, uint64_t offset,
                                struct peal_record *out);

#endif

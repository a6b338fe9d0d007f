/* storage/batch.h: one transaction of the store thread and the operations applied in it.
 *
 * Thread: the store thread. Memory: embedded in the store; begin to finish or drop is one
 * transaction, and begin may follow again. */
#ifndef PEAL_STORAGE_BATCH_H
#define PEAL_STORAGE_BATCH_H

#include "base/config.h"
#include "storage/db.h"
#include "storage/heads.h"
#include "storage/ids.h"
#include "storage/store.h"

struct peal_batch {
    struct peal_db *db;
    struct peal_txn txn;
    struct peal_heads heads;
    struct peal_ids ids;
    uint64_t boot; /* must stand in the owner record */
    uint64_t now_ms;
    bool disk_low;           /* the disk was low when the transaction began */
    bool wrote;              /* something beside heads and ids */
    uint64_t quiet_until_ms; /* till then retention leaves quiet_slot alone: it is being exported */
    uint16_t quiet_slot;
    bool counted;     /* present is known */
    uint64_t present; /* messages in the file, as counted last */
};

enum { PEAL_RETAIN_MESSAGES = 256 }; /* removed from one group for one operation */

/* Errors: PEAL_ENOMEM. */
enum peal_err peal_batch_init(struct peal_batch *batch, struct peal_db *db,
                              const struct peal_config *config, uint64_t generation, uint64_t boot);
void peal_batch_fini(struct peal_batch *batch);

/* After a failed commit only questions are answered: every other operation gets PEAL_EIO.
 * Errors: those of peal_txn_begin. */
enum peal_err peal_batch_begin(struct peal_batch *batch, uint64_t now_ms);
/* Applies op and fills in its answer, which counts only if finish succeeds. An error dooms the
 * transaction: it has to be dropped. */
enum peal_err peal_batch_apply(struct peal_batch *batch, struct peal_store_op *op);
/* Would finish write anything? */
bool peal_batch_dirty(const struct peal_batch *batch);
/* Commits, unless nothing was changed, and counts. Errors: those of peal_txn_commit; PEAL_EIO
 * also when somebody else became the owner. Nothing has happened then. */
enum peal_err peal_batch_finish(struct peal_batch *batch);
void peal_batch_drop(struct peal_batch *batch);
/* Empties the answer of op. */
void peal_batch_reset(struct peal_store_op *op);

/* Numbers in the tree meta. Errors: PEAL_ENOT_FOUND, PEAL_ECORRUPT, those of peal_txn_put. */
enum peal_err peal_number_get(struct peal_txn *txn, const char *name, uint64_t *out);
enum peal_err peal_number_put(struct peal_txn *txn, const char *name, uint64_t number);
/* Bytes in the tree meta, likewise. *out is valid until the next write. */
enum peal_err peal_blob_get(struct peal_txn *txn, const char *name, struct peal_span *out);
enum peal_err peal_blob_put(struct peal_txn *txn, const char *name, struct peal_span bytes);

#endif

/* storage/batch.h: one transaction of the log and the operations applied in it.
 *
 * Thread: the store thread. Memory: embedded in the store; begin to finish or drop is one
 * transaction, and begin may follow again. */
#ifndef PEAL_STORAGE_BATCH_H
#define PEAL_STORAGE_BATCH_H

#include "base/buf.h"
#include "base/config.h"
#include "storage/db.h"
#include "storage/heads.h"
#include "storage/ids.h"
#include "storage/store.h"

struct peal_batch {
    struct peal_db *log;
    struct peal_db *inbox;
    struct peal_txn txn; /* of the log */
    struct peal_heads heads;
    struct peal_ids ids;
    struct peal_buf scratch; /* an envelope while it is being made */
    uint64_t boot;           /* must stand in the owner record */
    uint64_t seq;            /* of the newest record that is committed */
    uint64_t append;         /* of the newest record of this transaction */
    uint64_t moved;          /* all up to here is in the inbox */
    uint64_t damage;         /* newest record that was found damaged before it was moved; 0: none */
    uint64_t misplaced;      /* of a damaged record that is not where it should be; 0: none */
    uint64_t trimmed;        /* records below this are not in the log any more */
    uint64_t slot_seq[PEAL_SLOTS]; /* newest record of each slot */
    uint64_t now_ms;
    uint64_t bytes_max;      /* of both files */
    uint64_t log_bytes;      /* used by the log */
    uint64_t inbox_bytes;    /* used by the inbox, as was told last */
    uint64_t inbox_room;     /* what its file can take before it grows, likewise */
    uint64_t inbox_entries;  /* messages in the inbox, likewise */
    size_t ids_renewed;      /* so many of the oldest ids were written again by this transaction */
    uint64_t ids_renewed_at; /* from this record on */
    bool full;               /* the last message was refused for lack of room */
    bool disk_low;           /* the disk was low when the transaction began */
    bool wrote;              /* something beside records */
    uint16_t dropping;       /* 1 + a slot whose DROP is in this transaction; 0: none */
    uint64_t dropping_seq;
    uint64_t quiet_until_ms; /* till then retention leaves quiet_slot alone: it is being exported */
    uint16_t quiet_slot;
    int64_t present; /* messages kept, as told to the metrics */
};

enum { PEAL_RETAIN_MESSAGES = 256 }; /* removed from one group for one operation */

/* Errors: PEAL_ENOMEM. */
enum peal_err peal_batch_init(struct peal_batch *batch, struct peal_db *log, struct peal_db *inbox,
                              const struct peal_config *config, uint64_t generation, uint64_t boot);
void peal_batch_fini(struct peal_batch *batch);
/* At the start: applies what the log has. Errors: PEAL_ENOMEM, PEAL_EIO. */
enum peal_err peal_batch_replay(struct peal_batch *batch, uint64_t now_ms);

/* After a failed commit only questions are answered: every other operation gets PEAL_EIO.
 * Errors: those of peal_txn_begin. */
enum peal_err peal_batch_begin(struct peal_batch *batch, uint64_t now_ms);
/* Applies op and fills in its answer, which counts only if finish succeeds. An error dooms the
 * transaction: it has to be dropped. */
enum peal_err peal_batch_apply(struct peal_batch *batch, struct peal_store_op *op);
/* Has op to wait until more of the log is in the inbox? Up to *seq then. */
bool peal_batch_parks(const struct peal_batch *batch, const struct peal_store_op *op,
                      uint64_t *seq);
/* Nothing more fits into this transaction. */
bool peal_batch_full(const struct peal_batch *batch);
/* Retention of a group that nobody touches. An error dooms the transaction. */
enum peal_err peal_batch_retain(struct peal_batch *batch, struct peal_span group,
                                const struct peal_config_group *policy);
/* The messages of a group are those of a new epoch from now on. An error dooms the transaction. */
enum peal_err peal_batch_renew(struct peal_batch *batch, struct peal_span group);
/* Removes records that nobody needs any more from the begin of the log, at most `most`. Ids of
 * dedup that hold back a long part of it are written again at its end. Last in a transaction. */
enum peal_err peal_batch_trim(struct peal_batch *batch, size_t most);
/* Could it remove something? Needs no transaction. */
bool peal_batch_trims(const struct peal_batch *batch);
/* Would finish write anything? */
bool peal_batch_dirty(const struct peal_batch *batch);
/* Commits, unless nothing was changed, and counts. Errors: those of peal_txn_commit; PEAL_EIO
 * also when somebody else became the owner. Nothing has happened then. */
enum peal_err peal_batch_finish(struct peal_batch *batch);
void peal_batch_drop(struct peal_batch *batch);
/* Empties the answer of op. */
void peal_batch_reset(struct peal_store_op *op);

/* Acts on what the settle thread says. Between batches. */
void peal_batch_note(struct peal_batch *batch, const struct peal_settle_note *note);

/* Is there so little room that the log should be settled now? */
bool peal_batch_short_of_room(const struct peal_batch *batch);
/* Is the log so long that nothing more may be added until some of it was settled and removed? */
bool peal_batch_log_long(const struct peal_batch *batch);
/* How far it is on the way there, from three quarters on: 0 to `most`. */
int peal_batch_slow(const struct peal_batch *batch, int most);
/* Bytes that what is kept takes, as of the last transaction. */
uint64_t peal_batch_bytes(const struct peal_batch *batch);

/* Numbers in the tree meta. Errors: PEAL_ENOT_FOUND, PEAL_ECORRUPT, those of peal_txn_put. */
enum peal_err peal_number_get(struct peal_txn *txn, const char *name, uint64_t *out);
enum peal_err peal_number_put(struct peal_txn *txn, const char *name, uint64_t number);
/* Bytes in the tree meta, likewise. *out is valid until the next write. */
enum peal_err peal_blob_get(struct peal_txn *txn, const char *name, struct peal_span *out);
enum peal_err peal_blob_put(struct peal_txn *txn, const char *name, struct peal_span bytes);

#endif

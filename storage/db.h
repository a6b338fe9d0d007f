/* storage/db.h: the database: ordered trees of bytes, transactions, and what can go wrong.
 *
 * The only part that knows LMDB. Transactions are synced (default sync mode, always) and one
 * process at a time has the folder: a lock file holds its pid.
 *
 * Full and broken are told apart. PEAL_ESTORE_FULL: the map or the disk has no room, the
 * transaction is gone, everything before it is intact and later ones may work. PEAL_EIO: when
 * it comes from a commit, what the disk holds is unknown (after a failed fsync the kernel may
 * have dropped the pages); then every later write transaction gets PEAL_EIO until the folder
 * is opened anew, and reading goes on.
 *
 * Thread: a write transaction and all that is done in it belong to one thread; read
 * transactions may be used in any number of others, each in one at a time.
 * Memory: spans that get and seek return point into the map. They are valid until the next
 * write in the same transaction or its end.
 * Danger: LMDB reads through a memory map and trusts what it finds there. A file that is too
 * short is refused at open; records carry checksums of their own (storage/keys.h). */
#ifndef PEAL_STORAGE_DB_H
#define PEAL_STORAGE_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/span.h"

enum peal_tree {
    PEAL_TREE_META,
    PEAL_TREE_HEAD,
    PEAL_TREE_MESSAGE,
    PEAL_TREE_IDS,
    PEAL_TREE_IDS_BY_TIME,
    PEAL_TREE_COUNT
};

struct peal_db;
struct MDB_txn;

struct peal_txn {
    struct peal_db *db;
    struct MDB_txn *mdb; /* NULL once ended */
    bool write;
};

/* Opens or creates the database in dir, which is created 0700 if need be. bytes_max is the
 * size of the map: address space, and the limit of the file.
 * Errors: PEAL_ELOCKED, PEAL_ECORRUPT, PEAL_EIO, PEAL_ENOMEM; why says what to do. */
enum peal_err peal_db_open(const char *dir, uint64_t bytes_max, struct peal_db **out, char *why,
                           size_t why_size);
/* All transactions must have ended. NULL is fine. */
void peal_db_close(struct peal_db *db);
/* Refuses all writing from now on, as after a failed commit. */
void peal_db_fail(struct peal_db *db);
bool peal_db_failed(const struct peal_db *db);
/* Is less than 10 % of the disk free for us? */
bool peal_db_disk_low(const struct peal_db *db);
uint64_t peal_db_bytes_max(const struct peal_db *db);

/* Errors: PEAL_EIO (also for writing after a failed commit), PEAL_ENOMEM. */
enum peal_err peal_txn_begin(struct peal_txn *txn, struct peal_db *db, bool write);
/* Ends txn in any case. PEAL_OK means that the disk has it. Errors: see above. */
enum peal_err peal_txn_commit(struct peal_txn *txn);
/* Drops what was written. Does nothing when txn has ended. */
void peal_txn_abort(struct peal_txn *txn);

/* In what follows PEAL_ESTORE_FULL, PEAL_EIO and PEAL_ENOMEM mean that txn must be aborted. */

/* Errors: PEAL_ENOT_FOUND. */
enum peal_err peal_txn_get(struct peal_txn *txn, enum peal_tree tree, struct peal_span key,
                           struct peal_span *value);
/* The first pair whose key is at or after `from`. Errors: PEAL_ENOT_FOUND. Every call
 * descends from the root, so there is no cursor that a write could invalidate. */
enum peal_err peal_txn_seek(struct peal_txn *txn, enum peal_tree tree, struct peal_span from,
                            struct peal_span *key, struct peal_span *value);
enum peal_err peal_txn_put(struct peal_txn *txn, enum peal_tree tree, struct peal_span key,
                           struct peal_span value);
/* Puts `size` bytes that the caller fills in at *at before the next call. */
enum peal_err peal_txn_reserve(struct peal_txn *txn, enum peal_tree tree, struct peal_span key,
                               size_t size, char **at);
/* Errors: PEAL_ENOT_FOUND. */
enum peal_err peal_txn_del(struct peal_txn *txn, enum peal_tree tree, struct peal_span key);
/* Number of pairs. */
uint64_t peal_txn_entries(struct peal_txn *txn, enum peal_tree tree);
/* Bytes of all pages that hold something, counting what txn wrote. */
uint64_t peal_txn_bytes_used(struct peal_txn *txn);
/* Bytes that the file has grown to. It never shrinks; what is not used in it is used again. */
uint64_t peal_txn_bytes_file(struct peal_txn *txn);

#endif

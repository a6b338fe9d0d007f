/* storage/db.h: a database: ordered trees of bytes, transactions, and what can go wrong.
 *
 * The only part that knows LMDB. Transactions are synced (default sync mode, always). A store has
 * two databases, each in a folder of its own; that one process at a time has them is the business
 * of storage/folder.h.
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

enum { PEAL_DB_KEY_MAX = 511 }; /* bytes, LMDB's limit */

enum peal_db_kind { PEAL_DB_LOG, PEAL_DB_INBOX };

/* Each database has META and its own. */
enum peal_tree {
    PEAL_TREE_META,
    PEAL_TREE_LOG,     /* of the log */
    PEAL_TREE_HEAD,    /* of the inbox */
    PEAL_TREE_MESSAGE, /* of the inbox */
    PEAL_TREE_COUNT
};

struct peal_db;
struct MDB_txn;

struct peal_txn {
    struct peal_db *db;
    struct MDB_txn *mdb; /* NULL once ended */
    bool write;
};

/* Opens or creates the database in dir/log or dir/inbox, which is created 0700 if need be; dir is
 * there. bytes_max is the size of the map: address space, and the limit of the file.
 * Errors: PEAL_ECORRUPT, PEAL_EIO, PEAL_ENOMEM; why says what to do. */
enum peal_err peal_db_open(const char *dir, enum peal_db_kind kind, uint64_t bytes_max,
                           struct peal_db **out, char *why, size_t why_size);
/* The same of a database that is there, for reading only, also while another process writes to it:
 * its snapshots are places in the file lock.mdb that both have. The map is as large as the file
 * says it is. Errors: PEAL_ENOT_FOUND (there is none), PEAL_ECORRUPT, PEAL_EIO, PEAL_ENOMEM. */
enum peal_err peal_db_open_reading(const char *dir, enum peal_db_kind kind, struct peal_db **out,
                                   char *why, size_t why_size);
/* Writes the database as it is now to dir/NAME in the folder of its kind, without pages that hold
 * nothing, and syncs it; dir is there. Errors: PEAL_EINUSE (there is such a file),
 * PEAL_ESTORE_FULL, PEAL_EIO, PEAL_ENOMEM; the file is gone then. */
enum peal_err peal_db_copy(struct peal_db *db, const char *dir, const char *name, char *why,
                           size_t why_size);
/* Puts dir/NAME, made by peal_db_copy, in the place of the data of that kind. Nobody may have it
 * open. Errors: PEAL_EIO, and either file is there. */
enum peal_err peal_db_replace(const char *dir, enum peal_db_kind kind, const char *name, char *why,
                              size_t why_size);
/* Makes what was created in a folder last. Errors: PEAL_EIO. */
enum peal_err peal_db_sync_folder(const char *path);
/* Ends snapshots of processes that died with them: they would keep pages from being used again.
 * Returns how many. */
size_t peal_db_reap(struct peal_db *db);
/* All transactions must have ended. NULL is fine. */
void peal_db_close(struct peal_db *db);
/* Refuses all writing from now on, as after a failed commit. */
void peal_db_fail(struct peal_db *db);
bool peal_db_failed(const struct peal_db *db);
/* Is less than 10 % of the disk, and `reserve` bytes, free for us? */
bool peal_db_disk_low(const struct peal_db *db, uint64_t reserve);
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
/* The same behind all keys that are there; `key` must be the largest. */
enum peal_err peal_txn_append(struct peal_txn *txn, enum peal_tree tree, struct peal_span key,
                              size_t size, char **at);
/* Errors: PEAL_ENOT_FOUND. */
enum peal_err peal_txn_del(struct peal_txn *txn, enum peal_tree tree, struct peal_span key);
/* Removes pairs from the begin of the tree while their keys are below `key`, at most `most`. */
enum peal_err peal_txn_del_below(struct peal_txn *txn, enum peal_tree tree, struct peal_span key,
                                 size_t most, size_t *removed);
/* Walks pairs in order; nothing may be written in txn meanwhile. */
struct peal_scan {
    struct MDB_cursor *cursor; /* NULL: ended */
    struct peal_txn *txn;
    unsigned tree; /* as LMDB numbers it */
    size_t key_size;
    char key[PEAL_DB_KEY_MAX + 1]; /* the smallest that may come next */
};
/* From the first key at or after `from` on; it is what peal_scan_next gives first. */
enum peal_err peal_scan_begin(struct peal_scan *scan, struct peal_txn *txn, enum peal_tree tree,
                              struct peal_span from);
/* Errors: PEAL_ENOT_FOUND at the end. */
enum peal_err peal_scan_next(struct peal_scan *scan, struct peal_span *key,
                             struct peal_span *value);
void peal_scan_end(struct peal_scan *scan); /* before txn ends; twice is fine */

/* Number of pairs. */
uint64_t peal_txn_entries(struct peal_txn *txn, enum peal_tree tree);
/* Bytes of all pages that hold something, counting what txn wrote. */
uint64_t peal_txn_bytes_used(struct peal_txn *txn);
/* Bytes of pages in the file that hold nothing: what the file can take before it grows, as soon as
 * no snapshot needs them any more. */
uint64_t peal_txn_bytes_free(struct peal_txn *txn);
/* Bytes that the file has grown to. It never shrinks; what is not used in it is used again. */
uint64_t peal_txn_bytes_file(struct peal_txn *txn);

#endif

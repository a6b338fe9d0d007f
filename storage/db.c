/* Before LMDB may map a file, its length is compared with what its newest meta page speaks of,
 * because touching a missing page kills the process. A file can be short without damage: pages
 * at the very end that were used and given back inside one transaction are never written. Such
 * a file is filled up with zeros, opened, and accepted only if every page that was missing
 * stands in the list of free pages. Looking them up never leaves the path from a root to a
 * leaf, where LMDB answers MDB_CORRUPTED to a zeroed page; walking sideways would assert. */
#include "storage/db.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/log.h"

enum {
    /* Each fetch that waits for its page has a snapshot: PEAL_STORE_READS_MAX of them, and some
     * more for whoever moves, exports or counts. A reader costs one cache line. */
    READERS_MAX = 1536,
    PAGE_HEADER = 16,
    DISK_FULL_BYTES = 1 << 20, /* less is free after a failed write: the disk was full */
    FREE_TREE = 0,             /* LMDB's own trees have fixed numbers */
    MAIN_TREE = 1,
};

struct peal_db {
    MDB_env *env;
    MDB_dbi trees[PEAL_TREE_COUNT];
    enum peal_db_kind kind;
    uint64_t bytes_max;
    uint32_t page_size;
    _Atomic bool failed;
    char dir[];
};

static const char *const folder_names[] = {[PEAL_DB_LOG] = "log", [PEAL_DB_INBOX] = "inbox"};

static const char *const tree_names[PEAL_TREE_COUNT] = {
    [PEAL_TREE_META] = "meta",
    [PEAL_TREE_LOG] = "log",
    [PEAL_TREE_HEAD] = "head",
    [PEAL_TREE_MESSAGE] = "message",
};

static struct peal_db *db_new(const char *dir, enum peal_db_kind kind)
{
    size_t dir_size = strlen(dir) + 1 + strlen(folder_names[kind]) + 1;
    struct peal_db *db = calloc(1, sizeof *db + dir_size);
    if (db == NULL) return NULL;
    snprintf(db->dir, dir_size, "%s/%s", dir, folder_names[kind]);
    db->kind = kind;
    return db;
}

static bool has_tree(enum peal_db_kind kind, enum peal_tree tree)
{
    if (tree == PEAL_TREE_META) return true;
    return (tree == PEAL_TREE_LOG) == (kind == PEAL_DB_LOG);
}

/* ---- the file before LMDB sees it ------------------------------------------------------- */

/* The meta page as LMDB 0.9 writes it; lmdb.h does not show it. */
struct meta_tree {
    uint32_t page_size; /* of the free list's tree: the size of all pages */
    uint16_t flags;
    uint16_t depth;
    uint64_t branches, leaves, overflows, entries;
    uint64_t root;
};

struct meta {
    uint32_t magic;
    uint32_t version;
    uint64_t address;
    uint64_t map_size;
    struct meta_tree trees[2];
    uint64_t last_page;
    uint64_t txn;
};
_Static_assert(sizeof(struct meta_tree) == 48, "as in LMDB 0.9 on 64 bits");
_Static_assert(sizeof(struct meta) == 136, "as in LMDB 0.9 on 64 bits");

struct shape {
    uint64_t pages_needed; /* what the newest meta page speaks of */
    uint64_t pages_there;
    uint32_t page_size; /* 0: the file is new */
};

static bool meta_read(int fd, uint64_t at, struct meta *out)
{
    if (pread(fd, out, sizeof *out, (off_t)at) != (ssize_t)sizeof *out) return false;
    uint32_t size = out->trees[0].page_size;
    return out->magic == 0xBEEFC0DE && out->version == 1 && size >= 512 && size <= 65536 &&
           (size & (size - 1)) == 0;
}

static enum peal_err shape_read(const char *path, int fd, struct shape *out, char *why,
                                size_t why_size)
{
    struct stat st;
    struct meta first;
    struct meta second;
    *out = (struct shape){0};
    if (fstat(fd, &st) != 0) {
        snprintf(why, why_size, "cannot read %s: %s", path, strerror(errno));
        return PEAL_EIO;
    }
    if (st.st_size == 0) return PEAL_OK;
    uint64_t size = (uint64_t)st.st_size;

    if (!meta_read(fd, PAGE_HEADER, &first)) {
        snprintf(why, why_size, "%s does not begin with a database; restore a backup", path);
        return PEAL_ECORRUPT;
    }
    uint32_t page = first.trees[0].page_size;
    if (size < 2 * (uint64_t)page || !meta_read(fd, page + PAGE_HEADER, &second)) {
        snprintf(why, why_size, "%s has %llu bytes, less than two pages; restore a backup", path,
                 (unsigned long long)size);
        return PEAL_ECORRUPT;
    }
    uint64_t last = first.txn > second.txn ? first.last_page : second.last_page;
    *out = (struct shape){.pages_needed = last + 1, .pages_there = size / page, .page_size = page};
    return PEAL_OK;
}

/* ---- errors ----------------------------------------------------------------------------- */

static bool disk_full(const struct peal_db *db)
{
    struct statvfs fs;
    if (statvfs(db->dir, &fs) != 0) return false;
    return (uint64_t)fs.f_bavail * fs.f_frsize < DISK_FULL_BYTES;
}

static enum peal_err err_of(const struct peal_db *db, int rc)
{
    switch (rc) {
    case 0:
        return PEAL_OK;
    case MDB_NOTFOUND:
        return PEAL_ENOT_FOUND;
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
    case ENOSPC:
    case EDQUOT:
        return PEAL_ESTORE_FULL;
    case ENOMEM:
        return PEAL_ENOMEM;
    case EIO:
        /* LMDB says EIO for a write that was cut short, and that is what a full disk does. */
        if (disk_full(db)) return PEAL_ESTORE_FULL;
        break;
    default:
        break;
    }
    peal_log(PEAL_LOG_ERROR, "store.error", "code=%d what=\"%s\"", rc, mdb_strerror(rc));
    return PEAL_EIO;
}

/* ---- assertions of LMDB ----------------------------------------------------------------- */

/* LMDB checks the path from a root to a leaf, and asserts elsewhere that a page is what it should
 * be: where a damaged file has it end the process, the call is left instead. What it had in hand is
 * not tidied up, so after a call that writes the database is failed and its transaction forgotten.
 */
static _Thread_local jmp_buf assertion_at;
static _Thread_local bool assertion_leaves;

static void on_assertion(MDB_env *env, const char *what)
{
    (void)env;
    peal_log(PEAL_LOG_ERROR, "store.damaged", "what=\"%s\"", what);
    if (assertion_leaves) longjmp(assertion_at, 1);
}

static void forget(struct peal_txn *txn)
{
    peal_db_fail(txn->db);
    txn->mdb = NULL;
}

/* Each does nothing but its call, so that nothing of theirs is lost with a jump. */

static int guarded_get(MDB_txn *txn, MDB_dbi dbi, MDB_val *k, MDB_val *v)
{
    if (setjmp(assertion_at) == 0) {
        assertion_leaves = true;
        int rc = mdb_get(txn, dbi, k, v);
        assertion_leaves = false;
        return rc;
    }
    assertion_leaves = false;
    return MDB_CORRUPTED;
}

static int guarded_cursor_get(MDB_cursor *cursor, MDB_val *k, MDB_val *v, MDB_cursor_op op)
{
    if (setjmp(assertion_at) == 0) {
        assertion_leaves = true;
        int rc = mdb_cursor_get(cursor, k, v, op);
        assertion_leaves = false;
        return rc;
    }
    assertion_leaves = false;
    return MDB_CORRUPTED;
}

static int guarded_cursor_del(struct peal_txn *txn, MDB_cursor *cursor)
{
    if (setjmp(assertion_at) == 0) {
        assertion_leaves = true;
        int rc = mdb_cursor_del(cursor, 0);
        assertion_leaves = false;
        return rc;
    }
    assertion_leaves = false;
    forget(txn);
    return MDB_CORRUPTED;
}

static int guarded_put(struct peal_txn *txn, MDB_dbi dbi, MDB_val *k, MDB_val *v, unsigned flags)
{
    if (setjmp(assertion_at) == 0) {
        assertion_leaves = true;
        int rc = mdb_put(txn->mdb, dbi, k, v, flags);
        assertion_leaves = false;
        return rc;
    }
    assertion_leaves = false;
    forget(txn);
    return MDB_CORRUPTED;
}

static int guarded_del(struct peal_txn *txn, MDB_dbi dbi, MDB_val *k)
{
    if (setjmp(assertion_at) == 0) {
        assertion_leaves = true;
        int rc = mdb_del(txn->mdb, dbi, k, NULL);
        assertion_leaves = false;
        return rc;
    }
    assertion_leaves = false;
    forget(txn);
    return MDB_CORRUPTED;
}

static int guarded_commit(struct peal_txn *txn)
{
    if (setjmp(assertion_at) == 0) {
        assertion_leaves = true;
        int rc = mdb_txn_commit(txn->mdb);
        assertion_leaves = false;
        return rc;
    }
    assertion_leaves = false;
    forget(txn);
    return MDB_CORRUPTED;
}

/* ---- open ------------------------------------------------------------------------------- */

/* Looks at the file and makes it as long as its meta page says; *missing_from is the first page
 * that was not there. */
static enum peal_err file_prepare(struct peal_db *db, uint64_t *missing_from,
                                  uint64_t *missing_count, char *why, size_t why_size)
{
    char path[4096];
    struct shape shape;
    *missing_from = *missing_count = 0;
    snprintf(path, sizeof path, "%s/data.mdb", db->dir);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return PEAL_OK;
    if (fd < 0) {
        snprintf(why, why_size, "cannot open %s: %s", path, strerror(errno));
        return PEAL_EIO;
    }
    enum peal_err err = shape_read(path, fd, &shape, why, why_size);
    db->page_size = shape.page_size;
    if (err != PEAL_OK || shape.pages_there >= shape.pages_needed) goto out;

    /* More than this is no leftover of one transaction, but a lost tail or a wrong number. */
    if (shape.pages_needed - shape.pages_there > 131072) {
        snprintf(why, why_size, "%s is cut off; restore a backup", path);
        err = PEAL_ECORRUPT;
        goto out;
    }
    *missing_from = shape.pages_there;
    *missing_count = shape.pages_needed - shape.pages_there;
    if (ftruncate(fd, (off_t)(shape.pages_needed * shape.page_size)) != 0) {
        snprintf(why, why_size, "cannot extend %s: %s", path, strerror(errno));
        err = PEAL_EIO;
    }

out:
    close(fd);
    return err;
}

/* Takes the zeros away again, so that the damage is seen the next time as well. */
static void file_restore(struct peal_db *db, uint64_t pages)
{
    char path[4096];
    PEAL_ASSERT(pages >= 2);
    PEAL_ASSERT(db->page_size >= 512);
    snprintf(path, sizeof path, "%s/data.mdb", db->dir);
    if (truncate(path, (off_t)(pages * db->page_size)) != 0)
        peal_log(PEAL_LOG_ERROR, "store.error", "what=truncate code=%d", errno);
}

/* Are all `count` pages from `from` on free? */
static bool pages_free(MDB_env *env, uint64_t from, uint64_t count)
{
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    if (mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) != 0) return false;
    if (mdb_cursor_open(txn, FREE_TREE, &cursor) != 0) {
        mdb_txn_abort(txn);
        return false;
    }
    /* Keys are transaction ids, values a count and that many page numbers. */
    size_t id = 0;
    uint64_t found = 0;
    int rc;
    for (;;) {
        MDB_val key = {sizeof id, &id};
        MDB_val value;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        if (rc != 0) break;
        const size_t *list = value.mv_data;
        if (key.mv_size != sizeof id || value.mv_size < sizeof *list) break;
        if (list[0] > value.mv_size / sizeof *list - 1) break;
        for (size_t i = 1; i <= list[0]; i++) {
            if (list[i] >= from) found++;
        }
        memcpy(&id, key.mv_data, sizeof id);
        id++;
    }
    mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    return rc == MDB_NOTFOUND && found == count;
}

static enum peal_err trees_open(struct peal_db *db, uint64_t missing_from, uint64_t missing_count,
                                char *why, size_t why_size)
{
    MDB_txn *txn = NULL;
    int rc = MDB_CORRUPTED;
    if (missing_count > 0 && !pages_free(db->env, missing_from, missing_count)) goto fail;
    rc = mdb_txn_begin(db->env, NULL, 0, &txn);
    if (rc != 0) goto fail;
    for (enum peal_tree i = 0; i < PEAL_TREE_COUNT; i++) {
        if (!has_tree(db->kind, i)) continue;
        rc = mdb_dbi_open(txn, tree_names[i], MDB_CREATE, &db->trees[i]);
        if (rc != 0) goto fail;
    }
    rc = mdb_txn_commit(txn);
    txn = NULL; /* commit frees it even when it fails */
    if (rc != 0) goto fail;
    return PEAL_OK;

fail:
    if (txn != NULL) mdb_txn_abort(txn);
    if (rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND || rc == MDB_INCOMPATIBLE) {
        snprintf(why, why_size, "data.mdb in %s is damaged; restore a backup", db->dir);
        return PEAL_ECORRUPT;
    }
    snprintf(why, why_size, "cannot open the database in %s: %s", db->dir, mdb_strerror(rc));
    enum peal_err err = err_of(db, rc);
    return err == PEAL_ENOMEM ? err : PEAL_EIO;
}

static enum peal_err env_open(struct peal_db *db, char *why, size_t why_size)
{
    MDB_envinfo info;
    MDB_stat stat;
    int dead = 0;
    int rc = mdb_env_create(&db->env);
    if (rc == 0) rc = mdb_env_set_assert(db->env, on_assertion);
    if (rc == 0) rc = mdb_env_set_mapsize(db->env, db->bytes_max);
    if (rc == 0) rc = mdb_env_set_maxdbs(db->env, PEAL_TREE_COUNT);
    if (rc == 0) rc = mdb_env_set_maxreaders(db->env, READERS_MAX);
    if (rc == 0) rc = mdb_env_open(db->env, db->dir, MDB_NOTLS, 0600);
    if (rc == 0) rc = mdb_reader_check(db->env, &dead);
    if (rc == 0) rc = mdb_env_info(db->env, &info);
    if (rc == 0) rc = mdb_env_stat(db->env, &stat);
    if (rc != 0) {
        snprintf(why, why_size, "cannot open the database in %s: %s", db->dir, mdb_strerror(rc));
        if (rc == MDB_INVALID || rc == MDB_VERSION_MISMATCH || rc == MDB_CORRUPTED)
            return PEAL_ECORRUPT;
        return rc == ENOMEM ? PEAL_ENOMEM : PEAL_EIO;
    }
    db->bytes_max = info.me_mapsize;
    db->page_size = stat.ms_psize;
    return PEAL_OK;
}

enum peal_err peal_db_open(const char *dir, enum peal_db_kind kind, uint64_t bytes_max,
                           struct peal_db **out, char *why, size_t why_size)
{
    uint64_t missing_from = 0;
    uint64_t missing_count = 0;
    uint64_t os_page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct peal_db *db = db_new(dir, kind);
    *out = NULL;
    if (db == NULL) {
        snprintf(why, why_size, "out of memory");
        return PEAL_ENOMEM;
    }
    db->bytes_max = bytes_max - bytes_max % os_page;

    enum peal_err err = PEAL_EIO;
    if (mkdir(db->dir, 0700) != 0 && errno != EEXIST) {
        snprintf(why, why_size, "cannot create %s: %s", db->dir, strerror(errno));
        goto fail;
    }
    err = file_prepare(db, &missing_from, &missing_count, why, why_size);
    if (err != PEAL_OK) goto fail;
    err = env_open(db, why, why_size);
    if (err != PEAL_OK) goto fail;
    err = trees_open(db, missing_from, missing_count, why, why_size);
    if (err != PEAL_OK) goto fail;
    *out = db;
    return PEAL_OK;

fail:
    if (db->env != NULL) mdb_env_close(db->env);
    if (err == PEAL_ECORRUPT && missing_count > 0) file_restore(db, missing_from);
    free(db);
    return err;
}

/* ---- open for reading --------------------------------------------------------------------- */

/* Is all of the file there? Asked beside a process that may write to it: what was missing is of no
 * interest when the file has changed meanwhile. */
static enum peal_err file_judge(struct peal_db *db, char *why, size_t why_size)
{
    char path[4096];
    struct shape before = {0};
    snprintf(path, sizeof path, "%s/data.mdb", db->dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        snprintf(why, why_size, "cannot open %s: %s", path, strerror(errno));
        return PEAL_EIO;
    }
    enum peal_err err;
    for (;;) {
        struct shape shape;
        err = shape_read(path, fd, &shape, why, why_size);
        if (err != PEAL_OK || shape.pages_there >= shape.pages_needed) break;
        if (pages_free(db->env, shape.pages_there, shape.pages_needed - shape.pages_there)) break;
        if (memcmp(&shape, &before, sizeof shape) == 0) {
            snprintf(why, why_size, "%s is cut off; restore a backup", path);
            err = PEAL_ECORRUPT;
            break;
        }
        before = shape;
    }
    close(fd);
    return err;
}

static enum peal_err trees_find(struct peal_db *db, char *why, size_t why_size)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn);
    for (enum peal_tree i = 0; rc == 0 && i < PEAL_TREE_COUNT; i++) {
        if (has_tree(db->kind, i)) rc = mdb_dbi_open(txn, tree_names[i], 0, &db->trees[i]);
    }
    /* Trees that were opened last for as long as the environment, but only after a commit. */
    if (rc == 0)
        rc = mdb_txn_commit(txn);
    else if (txn != NULL)
        mdb_txn_abort(txn);
    if (rc == 0) return PEAL_OK;
    if (rc == MDB_NOTFOUND) {
        snprintf(why, why_size, "%s/data.mdb is of no store", db->dir);
        return PEAL_ENOT_FOUND;
    }
    snprintf(why, why_size, "data.mdb in %s is damaged: %s", db->dir, mdb_strerror(rc));
    return rc == ENOMEM ? PEAL_ENOMEM : PEAL_ECORRUPT;
}

static enum peal_err env_read(struct peal_db *db, char *why, size_t why_size)
{
    MDB_envinfo info;
    MDB_stat stat;
    int rc = mdb_env_create(&db->env);
    if (rc == 0) rc = mdb_env_set_maxdbs(db->env, PEAL_TREE_COUNT);
    /* Who comes first decides for all. */
    if (rc == 0) rc = mdb_env_set_maxreaders(db->env, READERS_MAX);
    if (rc == 0) rc = mdb_env_open(db->env, db->dir, MDB_NOTLS | MDB_RDONLY, 0600);
    if (rc == 0) rc = mdb_env_info(db->env, &info);
    if (rc == 0) rc = mdb_env_stat(db->env, &stat);
    if (rc != 0) {
        snprintf(why, why_size, "cannot open the database in %s: %s", db->dir, mdb_strerror(rc));
        if (rc == ENOENT) return PEAL_ENOT_FOUND;
        if (rc == MDB_INVALID || rc == MDB_VERSION_MISMATCH || rc == MDB_CORRUPTED)
            return PEAL_ECORRUPT;
        return rc == ENOMEM ? PEAL_ENOMEM : PEAL_EIO;
    }
    db->bytes_max = info.me_mapsize;
    db->page_size = stat.ms_psize;
    return PEAL_OK;
}

enum peal_err peal_db_open_reading(const char *dir, enum peal_db_kind kind, struct peal_db **out,
                                   char *why, size_t why_size)
{
    char path[4096];
    struct stat st;
    struct peal_db *db = db_new(dir, kind);
    *out = NULL;
    if (db == NULL) {
        snprintf(why, why_size, "out of memory");
        return PEAL_ENOMEM;
    }
    enum peal_err err = PEAL_OK;
    snprintf(path, sizeof path, "%s/data.mdb", db->dir);
    if (stat(path, &st) != 0) {
        snprintf(why, why_size, "cannot look at %s: %s", path, strerror(errno));
        err = errno == ENOENT || errno == ENOTDIR ? PEAL_ENOT_FOUND : PEAL_EIO;
    }
    if (err == PEAL_OK) err = env_read(db, why, why_size);
    if (err == PEAL_OK) err = file_judge(db, why, why_size);
    if (err == PEAL_OK) err = trees_find(db, why, why_size);
    if (err == PEAL_OK) {
        *out = db;
        return PEAL_OK;
    }
    if (db->env != NULL) mdb_env_close(db->env);
    free(db);
    return err;
}

size_t peal_db_reap(struct peal_db *db)
{
    int dead = 0;
    int rc = mdb_reader_check(db->env, &dead);
    if (rc != 0 || dead > 0)
        peal_log(PEAL_LOG_WARN, "store.readers_died", "count=%d code=%d", dead, rc);
    return (size_t)dead;
}

/* ---- copies ------------------------------------------------------------------------------- */

enum peal_err peal_db_sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return PEAL_EIO;
    int rc = fsync(fd);
    close(fd);
    return rc == 0 ? PEAL_OK : PEAL_EIO;
}

/* LMDB refuses to leave free pages out when their number is not what it expects; what is in the
 * trees can be whole nevertheless. */
static int copy_to(struct peal_db *db, int fd)
{
    int rc = mdb_env_copyfd2(db->env, fd, MDB_CP_COMPACT);
    if (rc == MDB_INCOMPATIBLE) {
        if (ftruncate(fd, 0) != 0 || lseek(fd, 0, SEEK_SET) != 0) return errno;
        rc = mdb_env_copyfd2(db->env, fd, 0);
    }
    if (rc == 0 && fsync(fd) != 0) rc = errno;
    return rc;
}

enum peal_err peal_db_copy(struct peal_db *db, const char *dir, const char *name, char *why,
                           size_t why_size)
{
    char folder[4096];
    char path[8192];
    snprintf(folder, sizeof folder, "%s/%s", dir, folder_names[db->kind]);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = -1;
    if (mkdir(folder, 0700) == 0 || errno == EEXIST)
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        snprintf(why, why_size, "cannot create %s: %s", path, strerror(errno));
        return errno == EEXIST ? PEAL_EINUSE : errno == ENOSPC ? PEAL_ESTORE_FULL : PEAL_EIO;
    }
    int rc = copy_to(db, fd);
    if (close(fd) != 0 && rc == 0) rc = errno;
    if (rc == 0 && peal_db_sync_folder(folder) != PEAL_OK) rc = EIO;
    if (rc == 0) return PEAL_OK;
    snprintf(why, why_size, "cannot copy %s/data.mdb to %s: %s", db->dir, path, mdb_strerror(rc));
    unlink(path);
    if (rc == ENOSPC || rc == EDQUOT) return PEAL_ESTORE_FULL;
    return rc == ENOMEM ? PEAL_ENOMEM : rc == MDB_CORRUPTED ? PEAL_ECORRUPT : PEAL_EIO;
}

enum peal_err peal_db_replace(const char *dir, enum peal_db_kind kind, const char *name, char *why,
                              size_t why_size)
{
    char folder[4096];
    char from[8192];
    char to[8192];
    snprintf(folder, sizeof folder, "%s/%s", dir, folder_names[kind]);
    snprintf(from, sizeof from, "%s/%s", folder, name);
    snprintf(to, sizeof to, "%s/data.mdb", folder);
    if (rename(from, to) == 0 && peal_db_sync_folder(folder) == PEAL_OK) return PEAL_OK;
    snprintf(why, why_size, "cannot put %s in place: %s", from, strerror(errno));
    return PEAL_EIO;
}

/* ---- close -------------------------------------------------------------------------------- */

void peal_db_close(struct peal_db *db)
{
    if (db == NULL) return;
    mdb_env_close(db->env);
    free(db);
}

void peal_db_fail(struct peal_db *db)
{
    atomic_store(&db->failed, true);
}

bool peal_db_failed(const struct peal_db *db)
{
    return atomic_load(&db->failed);
}

bool peal_db_disk_low(const struct peal_db *db, uint64_t reserve)
{
    struct statvfs fs;
    if (statvfs(db->dir, &fs) != 0) return false;
    return fs.f_bavail < fs.f_blocks / 10 + reserve / fs.f_frsize;
}

uint64_t peal_db_bytes_max(const struct peal_db *db)
{
    return db->bytes_max;
}

/* ---- transactions ----------------------------------------------------------------------- */

enum peal_err peal_txn_begin(struct peal_txn *txn, struct peal_db *db, bool write)
{
    *txn = (struct peal_txn){.db = db, .write = write};
    if (write && peal_db_failed(db)) return PEAL_EIO;
    return err_of(db, mdb_txn_begin(db->env, NULL, write ? 0 : MDB_RDONLY, &txn->mdb));
}

enum peal_err peal_txn_commit(struct peal_txn *txn)
{
    PEAL_ASSERT(txn->mdb != NULL);
    PEAL_ASSERT(txn->write);
    int rc = guarded_commit(txn);
    txn->mdb = NULL;
    enum peal_err err = err_of(txn->db, rc);
    if (err == PEAL_EIO) {
        peal_log(PEAL_LOG_ERROR, "store.readonly", "why=commit");
        peal_db_fail(txn->db);
    }
    return err;
}

void peal_txn_abort(struct peal_txn *txn)
{
    if (txn->mdb != NULL) mdb_txn_abort(txn->mdb);
    txn->mdb = NULL;
}

static MDB_val val_of(struct peal_span span)
{
    return (MDB_val){span.size, (void *)(uintptr_t)span.at};
}

static struct peal_span span_of(MDB_val val)
{
    return peal_span_make(val.mv_data, val.mv_size);
}

static MDB_dbi dbi_of(const struct peal_txn *txn, enum peal_tree tree)
{
    PEAL_ASSERT(has_tree(txn->db->kind, tree));
    return txn->db->trees[tree];
}

static uint64_t file_bytes(const struct peal_db *db)
{
    MDB_envinfo info;
    int rc = mdb_env_info(db->env, &info);
    PEAL_ASSERT(rc == 0);
    return ((uint64_t)info.me_last_pgno + 1) * db->page_size;
}

/* LMDB takes the size of a value from its page as it is. After damage to the page it may reach
 * beyond the file, where reading ends the process: such a value is handed out as empty, which no
 * record is. An ordinary page holds its values; a large one starts behind the header of the first
 * page of its own, which names its number. Pages that a write transaction has changed lie
 * elsewhere, so this is for read-only ones. */
static struct peal_span value_of(const struct peal_txn *txn, MDB_val val)
{
    if (txn->write) return span_of(val);
    uint64_t page_size = txn->db->page_size;
    uint64_t at = (uint64_t)(uintptr_t)val.mv_data % page_size;
    bool inside;
    if (at == PAGE_HEADER) {
        uint64_t number;
        memcpy(&number, (const char *)val.mv_data - PAGE_HEADER, sizeof number);
        uint64_t pages = file_bytes(txn->db) / page_size;
        inside = number < pages && val.mv_size <= (pages - number) * page_size - PAGE_HEADER;
    } else {
        inside = val.mv_size <= page_size - at;
    }
    return inside ? span_of(val) : peal_span_make(val.mv_data, 0);
}

/* The same of a key, which always lies in an ordinary page. */
static struct peal_span key_of(const struct peal_txn *txn, MDB_val val)
{
    uint64_t page_size = txn->db->page_size;
    uint64_t at = (uint64_t)(uintptr_t)val.mv_data % page_size;
    if (txn->write || val.mv_size <= page_size - at) return span_of(val);
    return peal_span_make(val.mv_data, 0);
}

enum peal_err peal_txn_get(struct peal_txn *txn, enum peal_tree tree, struct peal_span key,
                           struct peal_span *value)
{
    MDB_val k = val_of(key);
    MDB_val v;
    int rc = guarded_get(txn->mdb, dbi_of(txn, tree), &k, &v);
    if (rc == 0) *value = value_of(txn, v);
    return err_of(txn->db, rc);
}

enum peal_err peal_txn_seek(struct peal_txn *txn, enum peal_tree tree, struct peal_span from,
                            struct peal_span *key, struct peal_span *value)
{
    MDB_cursor *cursor;
    MDB_val k = val_of(from);
    MDB_val v;
    int rc = mdb_cursor_open(txn->mdb, dbi_of(txn, tree), &cursor);
    if (rc != 0) return err_of(txn->db, rc);
    rc = guarded_cursor_get(cursor, &k, &v, from.size == 0 ? MDB_FIRST : MDB_SET_RANGE);
    mdb_cursor_close(cursor);
    if (rc == 0) {
        *key = key_of(txn, k);
        *value = value_of(txn, v);
    }
    return err_of(txn->db, rc);
}

enum peal_err peal_txn_put(struct peal_txn *txn, enum peal_tree tree, struct peal_span key,
                           struct peal_span value)
{
    MDB_val k = val_of(key);
    MDB_val v = val_of(value);
    return err_of(txn->db, guarded_put(txn, dbi_of(txn, tree), &k, &v, 0));
}

static enum peal_err put_space(struct peal_txn *txn, enum peal_tree tree, struct peal_span key,
                               size_t size, unsigned flags, char **at)
{
    MDB_val k = val_of(key);
    MDB_val v = {size, NULL};
    int rc = guarded_put(txn, dbi_of(txn, tree), &k, &v, MDB_RESERVE | flags);
    if (rc == 0) *at = v.mv_data;
    return err_of(txn->db, rc);
}

enum peal_err peal_txn_reserve(struct peal_txn *txn, enum peal_tree tree, struct peal_span key,
                               size_t size, char **at)
{
    return put_space(txn, tree, key, size, 0, at);
}

enum peal_err peal_txn_append(struct peal_txn *txn, enum peal_tree tree, struct peal_span key,
                              size_t size, char **at)
{
    return put_space(txn, tree, key, size, MDB_APPEND, at);
}

enum peal_err peal_txn_del(struct peal_txn *txn, enum peal_tree tree, struct peal_span key)
{
    MDB_val k = val_of(key);
    return err_of(txn->db, guarded_del(txn, dbi_of(txn, tree), &k));
}

enum peal_err peal_txn_del_below(struct peal_txn *txn, enum peal_tree tree, struct peal_span key,
                                 size_t most, size_t *removed)
{
    MDB_dbi dbi = dbi_of(txn, tree);
    MDB_cursor *cursor;
    MDB_val end = val_of(key);
    MDB_val k;
    MDB_val v;
    *removed = 0;
    int rc = mdb_cursor_open(txn->mdb, dbi, &cursor);
    if (rc != 0) return err_of(txn->db, rc);
    while (*removed < most) {
        rc = guarded_cursor_get(cursor, &k, &v, MDB_FIRST);
        if (rc != 0 || mdb_cmp(txn->mdb, dbi, &k, &end) >= 0) break;
        rc = guarded_cursor_del(txn, cursor);
        if (rc != 0) break;
        (*removed)++;
    }
    if (txn->mdb != NULL) mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? PEAL_OK : err_of(txn->db, rc);
}

/* ---- walking ---------------------------------------------------------------------------- */

enum peal_err peal_scan_begin(struct peal_scan *scan, struct peal_txn *txn, enum peal_tree tree,
                              struct peal_span from)
{
    PEAL_ASSERT(from.size <= PEAL_DB_KEY_MAX);
    *scan = (struct peal_scan){.txn = txn, .tree = dbi_of(txn, tree), .key_size = from.size};
    if (from.size > 0) memcpy(scan->key, from.at, from.size);
    int rc = mdb_cursor_open(txn->mdb, dbi_of(txn, tree), &scan->cursor);
    if (rc == 0) return PEAL_OK;
    scan->cursor = NULL;
    return err_of(txn->db, rc);
}

/* Each step asks for the key behind the last one: within a page that is as good as a step aside,
 * and from one page to the next LMDB comes from the root, where it refuses what is no page. Going
 * sideways it would end the process. */
enum peal_err peal_scan_next(struct peal_scan *scan, struct peal_span *key, struct peal_span *value)
{
    MDB_val k = {scan->key_size, scan->key};
    MDB_val v;
    PEAL_ASSERT(scan->cursor != NULL);
    int rc =
        guarded_cursor_get(scan->cursor, &k, &v, scan->key_size == 0 ? MDB_FIRST : MDB_SET_RANGE);
    if (rc != 0) return err_of(scan->txn->db, rc);
    *key = key_of(scan->txn, k);
    *value = value_of(scan->txn, v);
    if (key->size == 0 || key->size > PEAL_DB_KEY_MAX) return PEAL_ECORRUPT;
    /* In a damaged page keys may be out of order, and the walk would never end. */
    MDB_val from = {scan->key_size, scan->key};
    MDB_val found = {key->size, (void *)(uintptr_t)key->at};
    if (scan->key_size > 0 && mdb_cmp(scan->txn->mdb, scan->tree, &found, &from) < 0)
        return PEAL_ECORRUPT;
    memcpy(scan->key, key->at, key->size);
    scan->key[key->size] = '\0'; /* the smallest key behind it */
    scan->key_size = key->size + 1;
    return PEAL_OK;
}

void peal_scan_end(struct peal_scan *scan)
{
    if (scan->cursor != NULL) mdb_cursor_close(scan->cursor);
    scan->cursor = NULL;
}

/* ---- sizes ------------------------------------------------------------------------------ */

uint64_t peal_txn_entries(struct peal_txn *txn, enum peal_tree tree)
{
    MDB_stat stat;
    int rc = mdb_stat(txn->mdb, dbi_of(txn, tree), &stat);
    PEAL_ASSERT(rc == 0);
    return stat.ms_entries;
}

uint64_t peal_txn_bytes_file(struct peal_txn *txn)
{
    return file_bytes(txn->db);
}

static uint64_t tree_pages(struct peal_txn *txn, MDB_dbi dbi)
{
    MDB_stat stat;
    int rc = mdb_stat(txn->mdb, dbi, &stat);
    PEAL_ASSERT(rc == 0);
    return stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
}

uint64_t peal_txn_bytes_used(struct peal_txn *txn)
{
    const struct peal_db *db = txn->db;
    uint64_t pages = 2; /* the meta pages */
    pages += tree_pages(txn, FREE_TREE) + tree_pages(txn, MAIN_TREE);
    for (enum peal_tree i = 0; i < PEAL_TREE_COUNT; i++) {
        if (has_tree(db->kind, i)) pages += tree_pages(txn, db->trees[i]);
    }
    return pages * db->page_size;
}

uint64_t peal_txn_bytes_free(struct peal_txn *txn)
{
    uint64_t used = peal_txn_bytes_used(txn);
    uint64_t file = file_bytes(txn->db);
    return used < file ? file - used : 0; /* the file grows at the commit */
}

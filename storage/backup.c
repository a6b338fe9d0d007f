#include "storage/backup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "storage/batch.h"
#include "storage/db.h"
#include "storage/folder.h"

enum { TRIES = 5, PATH_ROOM = 4096 };

/* ---- backup ------------------------------------------------------------------------------- */

struct backup {
    const char *dir;
    char part[PATH_ROOM];
    struct peal_db *log;
    struct peal_db *inbox;
    char *why;
    size_t why_size;
};

/* The record of slots, empty when there is none. */
static enum peal_err slots_read(struct peal_db *log, struct peal_buf *out)
{
    struct peal_txn txn;
    struct peal_span slots = {0};
    enum peal_err err = peal_txn_begin(&txn, log, false);
    if (err != PEAL_OK) return err;
    err = peal_txn_get(&txn, PEAL_TREE_META, peal_span_of("slots"), &slots);
    out->size = 0;
    if (err == PEAL_OK) peal_buf_add_span(out, slots);
    peal_txn_abort(&txn);
    if (out->failed) return PEAL_ENOMEM;
    return err == PEAL_ENOT_FOUND ? PEAL_OK : err;
}

/* What slots the copy says that it has, and that it is a copy. */
static enum peal_err copy_mark(struct backup *backup, struct peal_buf *slots)
{
    struct peal_db *log;
    struct peal_txn txn;
    enum peal_err err = peal_db_open(backup->part, PEAL_DB_LOG, peal_db_bytes_max(backup->log),
                                     &log, backup->why, backup->why_size);
    if (err != PEAL_OK) return err;
    err = peal_txn_begin(&txn, log, true);
    if (err == PEAL_OK) {
        err = peal_number_put(&txn, "copy", peal_clock_wall_ms());
        if (err == PEAL_OK)
            err = peal_txn_commit(&txn);
        else
            peal_txn_abort(&txn);
    }
    if (err == PEAL_OK) err = slots_read(log, slots);
    peal_db_close(log);
    return err;
}

static enum peal_err copy_once(struct backup *backup, bool *again)
{
    struct peal_buf before = {0};
    struct peal_buf after = {0};
    char *why = backup->why;
    size_t why_size = backup->why_size;
    enum peal_err err = peal_db_copy(backup->log, backup->part, "data.mdb", why, why_size);
    if (err == PEAL_OK) err = copy_mark(backup, &before);
    if (err == PEAL_OK) err = peal_db_copy(backup->inbox, backup->part, "data.mdb", why, why_size);
    if (err == PEAL_OK) err = slots_read(backup->log, &after);
    *again = err == PEAL_OK && !peal_span_equal(peal_buf_span(&before), peal_buf_span(&after));
    peal_buf_fini(&before);
    peal_buf_fini(&after);
    return err;
}

static enum peal_err copy_all(struct backup *backup)
{
    bool again = true;
    enum peal_err err = PEAL_OK;
    for (int i = 0; i < TRIES && err == PEAL_OK && again; i++) {
        peal_folder_clear(backup->part);
        err = copy_once(backup, &again);
    }
    if (err != PEAL_OK || !again) return err;
    snprintf(backup->why, backup->why_size, "slots are being moved; try again when they are");
    return PEAL_EAGAIN;
}

static enum peal_err place(struct backup *backup, const char *to)
{
    char parent[PATH_ROOM + 4];
    snprintf(parent, sizeof parent, "%s/..", to);
    if (peal_db_sync_folder(backup->part) != PEAL_OK || rename(backup->part, to) != 0) {
        snprintf(backup->why, backup->why_size, "cannot name it %s: %s", to, strerror(errno));
        return PEAL_EIO;
    }
    return peal_db_sync_folder(parent);
}

static enum peal_err backup_run(struct backup *backup, const char *to)
{
    char *why = backup->why;
    size_t why_size = backup->why_size;
    enum peal_err err = peal_db_open_reading(backup->dir, PEAL_DB_LOG, &backup->log, why, why_size);
    if (err == PEAL_OK)
        err = peal_db_open_reading(backup->dir, PEAL_DB_INBOX, &backup->inbox, why, why_size);
    if (err != PEAL_OK) return err;
    if (mkdir(backup->part, 0700) != 0) {
        snprintf(why, why_size, "cannot create %s: %s", backup->part, strerror(errno));
        return errno == EEXIST ? PEAL_EINUSE : PEAL_EIO;
    }
    err = copy_all(backup);
    if (err == PEAL_OK) err = place(backup, to);
    if (err == PEAL_OK) return err;
    peal_folder_clear(backup->part);
    rmdir(backup->part);
    return err;
}

enum peal_err peal_backup_make(const char *dir, const char *to, char *why, size_t why_size)
{
    struct backup backup = {.dir = dir, .why = why, .why_size = why_size};
    int fd;
    size_t size = strlen(to);
    while (size > 1 && to[size - 1] == '/')
        size--;
    why[0] = '\0';
    if (size + sizeof ".part" > sizeof backup.part) {
        snprintf(why, why_size, "the name of the folder is too long");
        return PEAL_EINVAL;
    }
    snprintf(backup.part, sizeof backup.part, "%.*s.part", (int)size, to);
    if (!peal_folder_empty(to)) {
        snprintf(why, why_size, "%s is not an empty folder", to);
        return PEAL_EINUSE;
    }
    enum peal_err err = peal_folder_visit(dir, false, &fd, why, why_size);
    if (err != PEAL_OK) return err;
    err = backup_run(&backup, to);
    peal_db_close(backup.log);
    peal_db_close(backup.inbox);
    close(fd);
    if (err != PEAL_OK && why[0] == '\0')
        snprintf(why, why_size, "cannot back up %s: %s", dir, peal_err_word(err));
    return err;
}

/* ---- compact ------------------------------------------------------------------------------ */

static const char *const compact_name = "data.mdb.new";

static enum peal_err file_bytes(struct peal_db *db, uint64_t *total)
{
    struct peal_txn txn;
    enum peal_err err = peal_txn_begin(&txn, db, false);
    if (err != PEAL_OK) return err;
    *total += peal_txn_bytes_file(&txn);
    peal_txn_abort(&txn);
    return PEAL_OK;
}

/* One file; it is closed before another one takes its place. */
static enum peal_err compact(const char *dir, enum peal_db_kind kind, struct peal_compacted *out,
                             char *why, size_t why_size)
{
    char left[PATH_ROOM];
    struct peal_db *db;
    snprintf(left, sizeof left, "%s/%s/%s", dir, kind == PEAL_DB_LOG ? "log" : "inbox",
             compact_name);
    unlink(left); /* of a run that was cut off */
    enum peal_err err = peal_db_open_reading(dir, kind, &db, why, why_size);
    if (err != PEAL_OK) return err;
    err = file_bytes(db, &out->bytes_before);
    if (err == PEAL_OK) err = peal_db_copy(db, dir, compact_name, why, why_size);
    peal_db_close(db);
    if (err == PEAL_OK) err = peal_db_replace(dir, kind, compact_name, why, why_size);
    if (err == PEAL_OK) err = peal_db_open_reading(dir, kind, &db, why, why_size);
    if (err != PEAL_OK) return err;
    err = file_bytes(db, &out->bytes_after);
    peal_db_close(db);
    return err;
}

enum peal_err peal_backup_compact(const char *dir, struct peal_compacted *out, char *why,
                                  size_t why_size)
{
    char file[PATH_ROOM];
    int alone;
    int lock = -1;
    *out = (struct peal_compacted){0};
    why[0] = '\0';
    enum peal_err err = peal_folder_visit(dir, true, &alone, why, why_size);
    if (err != PEAL_OK) return err;
    snprintf(file, sizeof file, "%s/log/data.mdb", dir);
    if (access(file, F_OK) != 0) {
        snprintf(why, why_size, "there is no store in %s", dir);
        err = PEAL_ENOT_FOUND;
    }
    if (err == PEAL_OK) err = peal_folder_take(dir, &lock, why, why_size);
    if (err == PEAL_OK) err = compact(dir, PEAL_DB_INBOX, out, why, why_size);
    if (err == PEAL_OK) err = compact(dir, PEAL_DB_LOG, out, why, why_size);
    if (lock >= 0) close(lock);
    close(alone);
    if (err != PEAL_OK && why[0] == '\0')
        snprintf(why, why_size, "cannot compact %s: %s", dir, peal_err_word(err));
    return err;
}

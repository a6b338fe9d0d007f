#include "storage/db.h"

#include <signal.h>
#include <sys/wait.h>

#include "tests/unit/unit.h"

#include "tests/unit/disk.h"

enum { MAP = 4 << 20 };

static struct peal_db *open_kind(const char *dir, enum peal_db_kind kind, uint64_t map)
{
    struct peal_db *db = NULL;
    char why[256] = "";
    enum peal_err err = peal_db_open(dir, kind, map, &db, why, sizeof why);
    if (err != PEAL_OK) fail_msg("open: %s", why);
    return db;
}

static struct peal_db *open_or_fail(const char *dir, uint64_t map)
{
    return open_kind(dir, PEAL_DB_INBOX, map);
}

static enum peal_err put(struct peal_db *db, const char *key, const char *value)
{
    struct peal_txn txn;
    enum peal_err err = peal_txn_begin(&txn, db, true);
    if (err != PEAL_OK) return err;
    err = peal_txn_put(&txn, PEAL_TREE_META, peal_span_of(key), peal_span_of(value));
    if (err == PEAL_OK) return peal_txn_commit(&txn);
    peal_txn_abort(&txn);
    return err;
}

static bool has(struct peal_db *db, const char *key, const char *value)
{
    struct peal_txn txn;
    struct peal_span found;
    assert_int_equal(peal_txn_begin(&txn, db, false), PEAL_OK);
    enum peal_err err = peal_txn_get(&txn, PEAL_TREE_META, peal_span_of(key), &found);
    bool same = err == PEAL_OK && peal_span_is(found, value);
    peal_txn_abort(&txn);
    return same;
}

static void db_reopened_keeps_what_was_committed(void **state)
{
    const struct folder *folder = *state;
    struct peal_db *db = open_or_fail(folder->path, MAP);
    assert_int_equal(put(db, "a", "1"), PEAL_OK);
    struct peal_txn txn;
    assert_int_equal(peal_txn_begin(&txn, db, true), PEAL_OK);
    assert_int_equal(peal_txn_put(&txn, PEAL_TREE_META, peal_span_of("b"), peal_span_of("2")),
                     PEAL_OK);
    peal_txn_abort(&txn);
    peal_db_close(db);

    db = open_or_fail(folder->path, MAP);
    assert_true(has(db, "a", "1"));
    assert_false(has(db, "b", "2"));
    peal_db_close(db);
}

static void db_seek_finds_the_first_at_or_after(void **state)
{
    const struct folder *folder = *state;
    struct peal_db *db = open_or_fail(folder->path, MAP);
    struct peal_txn txn;
    struct peal_span key;
    struct peal_span value;
    assert_int_equal(put(db, "b", "1"), PEAL_OK);
    assert_int_equal(put(db, "d", "2"), PEAL_OK);

    assert_int_equal(peal_txn_begin(&txn, db, false), PEAL_OK);
    static const char *const cases[][2] = {{"", "b"}, {"a", "b"}, {"b", "b"}, {"c", "d"}};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(
            peal_txn_seek(&txn, PEAL_TREE_META, peal_span_of(cases[i][0]), &key, &value), PEAL_OK);
        assert_true(peal_span_is(key, cases[i][1]));
    }
    assert_int_equal(peal_txn_seek(&txn, PEAL_TREE_META, peal_span_of("e"), &key, &value),
                     PEAL_ENOT_FOUND);
    assert_int_equal(peal_txn_seek(&txn, PEAL_TREE_HEAD, peal_span_of(""), &key, &value),
                     PEAL_ENOT_FOUND);
    assert_int_equal(peal_txn_entries(&txn, PEAL_TREE_META), 2);
    peal_txn_abort(&txn);

    assert_int_equal(peal_txn_begin(&txn, db, true), PEAL_OK);
    assert_int_equal(peal_txn_del(&txn, PEAL_TREE_META, peal_span_of("b")), PEAL_OK);
    assert_int_equal(peal_txn_del(&txn, PEAL_TREE_META, peal_span_of("b")), PEAL_ENOT_FOUND);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
    assert_false(has(db, "b", "1"));
    peal_db_close(db);
}

static void db_kinds_lie_beside_each_other(void **state)
{
    const struct folder *folder = *state;
    struct peal_db *log = open_kind(folder->path, PEAL_DB_LOG, MAP);
    struct peal_db *inbox = open_kind(folder->path, PEAL_DB_INBOX, MAP);
    assert_int_equal(put(log, "a", "1"), PEAL_OK);
    assert_int_equal(put(inbox, "a", "2"), PEAL_OK);
    peal_db_fail(inbox);
    assert_int_equal(put(inbox, "a", "3"), PEAL_EIO);
    assert_int_equal(put(log, "b", "1"), PEAL_OK); /* one that failed does not stop the other */
    peal_db_close(log);
    peal_db_close(inbox);

    log = open_kind(folder->path, PEAL_DB_LOG, MAP);
    inbox = open_kind(folder->path, PEAL_DB_INBOX, MAP);
    assert_true(has(log, "a", "1"));
    assert_true(has(log, "b", "1"));
    assert_true(has(inbox, "a", "2"));
    peal_db_close(log);
    peal_db_close(inbox);
}

static void db_folders_are_private(void **state)
{
    const struct folder *folder = *state;
    static const char *const kinds[] = {[PEAL_DB_LOG] = "log", [PEAL_DB_INBOX] = "inbox"};
    for (enum peal_db_kind kind = PEAL_DB_LOG; kind <= PEAL_DB_INBOX; kind++) {
        char path[160];
        struct stat st;
        peal_db_close(open_kind(folder->path, kind, MAP));
        snprintf(path, sizeof path, "%s/%s", folder->path, kinds[kind]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0700);
        static const char *const names[] = {"data.mdb", "lock.mdb"};
        for (size_t i = 0; i < 2; i++) {
            snprintf(path, sizeof path, "%s/%s/%s", folder->path, kinds[kind], names[i]);
            assert_int_equal(stat(path, &st), 0);
            assert_int_equal(st.st_mode & 0777, 0600);
        }
    }
}

static void db_in_a_folder_that_is_missing_says_which(void **state)
{
    const struct folder *folder = *state;
    char dir[128];
    char why[256] = "";
    struct peal_db *db = NULL;
    snprintf(dir, sizeof dir, "%s/missing", folder->path);
    assert_int_equal(peal_db_open(dir, PEAL_DB_LOG, MAP, &db, why, sizeof why), PEAL_EIO);
    assert_null(db);
    assert_non_null(strstr(why, dir));
}

/* ---- the log ---------------------------------------------------------------------------- */

static struct peal_span seq_key(char key[8], uint64_t seq)
{
    for (size_t i = 0; i < 8; i++)
        key[i] = (char)(seq >> (56 - 8 * i));
    return peal_span_make(key, 8);
}

static enum peal_err append(struct peal_txn *txn, uint64_t seq, size_t size)
{
    char key[8];
    char *at;
    enum peal_err err = peal_txn_append(txn, PEAL_TREE_LOG, seq_key(key, seq), size, &at);
    if (err == PEAL_OK) memset(at, (int)(seq & 0x7f), size);
    return err;
}

/* Appends [from, to] in one transaction. */
static void append_range(struct peal_db *db, uint64_t from, uint64_t to, size_t size)
{
    struct peal_txn txn;
    assert_int_equal(peal_txn_begin(&txn, db, true), PEAL_OK);
    for (uint64_t seq = from; seq <= to; seq++)
        assert_int_equal(append(&txn, seq, size), PEAL_OK);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
}

/* Walks from `from` to the end: every pair of [first, last] stands there, and nothing else. */
static void assert_walk(struct peal_txn *txn, uint64_t from, uint64_t first, uint64_t last,
                        size_t size)
{
    char at[8];
    struct peal_scan scan;
    struct peal_span key;
    struct peal_span value;
    struct peal_span begin = from == 0 ? peal_span_of("") : seq_key(at, from);
    assert_int_equal(peal_scan_begin(&scan, txn, PEAL_TREE_LOG, begin), PEAL_OK);
    for (uint64_t seq = first; seq <= last; seq++) {
        char expected[8];
        assert_int_equal(peal_scan_next(&scan, &key, &value), PEAL_OK);
        assert_true(peal_span_equal(key, seq_key(expected, seq)));
        assert_int_equal(value.size, size);
        assert_int_equal(value.at[0], seq & 0x7f);
        assert_int_equal(value.at[size - 1], seq & 0x7f);
    }
    /* The end stays the end. */
    assert_int_equal(peal_scan_next(&scan, &key, &value), PEAL_ENOT_FOUND);
    assert_int_equal(peal_scan_next(&scan, &key, &value), PEAL_ENOT_FOUND);
    peal_scan_end(&scan);
    peal_scan_end(&scan);
}

static void db_appended_pairs_are_walked_in_order(void **state)
{
    const struct folder *folder = *state;
    /* Small ones, ones that fill a page alone, and ones with pages of their own. */
    static const size_t sizes[] = {40, 1900, 9000};
    struct peal_db *db = open_kind(folder->path, PEAL_DB_LOG, 16 << 20);
    uint64_t seq = 1;
    for (size_t i = 0; i < 3; i++) {
        struct peal_txn txn;
        size_t removed;
        append_range(db, seq, seq + 99, sizes[i]);
        append_range(db, seq + 100, seq + 299, sizes[i]);
        for (int write = 0; write < 2; write++) {
            assert_int_equal(peal_txn_begin(&txn, db, write), PEAL_OK);
            assert_walk(&txn, 0, seq, seq + 299, sizes[i]);
            assert_walk(&txn, seq + 150, seq + 150, seq + 299, sizes[i]);
            assert_walk(&txn, seq + 300, 1, 0, sizes[i]);
            peal_txn_abort(&txn);
        }
        assert_int_equal(peal_txn_begin(&txn, db, true), PEAL_OK);
        char key[8];
        assert_int_equal(
            peal_txn_del_below(&txn, PEAL_TREE_LOG, seq_key(key, seq + 300), 1000, &removed),
            PEAL_OK);
        assert_int_equal(removed, 300);
        assert_walk(&txn, 0, 1, 0, sizes[i]);
        assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
        seq += 300;
    }
    peal_db_close(db);
}

static void db_append_that_is_not_the_largest_is_refused(void **state)
{
    const struct folder *folder = *state;
    struct peal_db *db = open_kind(folder->path, PEAL_DB_LOG, MAP);
    struct peal_txn txn;
    append_range(db, 5, 9, 100);
    static const uint64_t wrong[] = {9, 7, 1};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(peal_txn_begin(&txn, db, true), PEAL_OK);
        assert_int_equal(append(&txn, wrong[i], 10), PEAL_EIO);
        peal_txn_abort(&txn);
    }
    assert_false(peal_db_failed(db));
    assert_int_equal(peal_txn_begin(&txn, db, false), PEAL_OK);
    assert_walk(&txn, 0, 5, 9, 100);
    peal_txn_abort(&txn);
    peal_db_close(db);
}

static void db_del_below_removes_the_begin_and_no_more_than_asked(void **state)
{
    const struct folder *folder = *state;
    struct peal_db *db = open_kind(folder->path, PEAL_DB_LOG, MAP);
    struct peal_txn txn;
    char key[8];
    size_t removed;
    append_range(db, 1, 5000, 100);
    static const struct {
        uint64_t below;
        size_t most;
        size_t removed;
        uint64_t first; /* afterwards */
    } steps[] = {
        {1, 100, 0, 1},          {2, 100, 1, 2},        {5001, 10, 10, 12},
        {12, 100, 0, 12},        {3000, 0, 0, 12},      {3000, 2000, 2000, 2012},
        {3000, 2000, 988, 3000}, {3000, 2000, 0, 3000}, {5000, 9999, 2000, 5000},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        assert_int_equal(peal_txn_begin(&txn, db, true), PEAL_OK);
        assert_int_equal(peal_txn_del_below(&txn, PEAL_TREE_LOG, seq_key(key, steps[i].below),
                                            steps[i].most, &removed),
                         PEAL_OK);
        assert_int_equal(removed, steps[i].removed);
        assert_walk(&txn, 0, steps[i].first, 5000, 100);
        assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
    }
    append_range(db, 5001, 5001, 100);
    assert_int_equal(peal_txn_begin(&txn, db, true), PEAL_OK);
    assert_int_equal(
        peal_txn_del_below(&txn, PEAL_TREE_LOG, seq_key(key, UINT64_MAX), 9999, &removed), PEAL_OK);
    assert_int_equal(removed, 2);
    assert_int_equal(
        peal_txn_del_below(&txn, PEAL_TREE_LOG, seq_key(key, UINT64_MAX), 9999, &removed), PEAL_OK);
    assert_int_equal(removed, 0);
    assert_int_equal(peal_txn_entries(&txn, PEAL_TREE_LOG), 0);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
    peal_db_close(db);
}

/* What is removed can be written again without the file growing. */
static void db_removed_pages_are_free_and_used_again(void **state)
{
    const struct folder *folder = *state;
    struct peal_db *db = open_kind(folder->path, PEAL_DB_LOG, 16 << 20);
    struct peal_txn txn;
    char key[8];
    size_t removed;
    append_range(db, 1, 2000, 1000);
    assert_int_equal(peal_txn_begin(&txn, db, true), PEAL_OK);
    uint64_t file = peal_txn_bytes_file(&txn);
    assert_int_equal(peal_txn_bytes_free(&txn), file - peal_txn_bytes_used(&txn));
    assert_true(peal_txn_bytes_free(&txn) < file / 10);
    assert_int_equal(peal_txn_del_below(&txn, PEAL_TREE_LOG, seq_key(key, 1900), 9999, &removed),
                     PEAL_OK);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);

    assert_int_equal(peal_txn_begin(&txn, db, false), PEAL_OK);
    uint64_t before = peal_txn_bytes_free(&txn);
    assert_true(before > 1900 * 1000);
    peal_txn_abort(&txn);

    append_range(db, 2001, 2001, 100); /* pages are free after the commit that follows */
    append_range(db, 2002, 3001, 1000);
    assert_int_equal(peal_txn_begin(&txn, db, false), PEAL_OK);
    assert_true(peal_txn_bytes_free(&txn) < before - 1000 * 1000);
    assert_true(peal_txn_bytes_file(&txn) < file + file / 20);
    peal_txn_abort(&txn);
    peal_db_close(db);
}

/* Every fetch that waits has one: PEAL_STORE_READS_MAX, and some more. */
static void db_many_snapshots_each_see_their_moment(void **state)
{
    const struct folder *folder = *state;
    enum { SNAPSHOTS = 1100 };
    struct peal_db *db = open_kind(folder->path, PEAL_DB_LOG, 64 << 20);
    struct peal_txn *txns = calloc(SNAPSHOTS, sizeof *txns);
    assert_non_null(txns);
    for (size_t i = 0; i < SNAPSHOTS; i++) {
        if (i % 50 == 0) append_range(db, i / 50 + 1, i / 50 + 1, 30);
        assert_int_equal(peal_txn_begin(&txns[i], db, false), PEAL_OK);
    }
    for (size_t i = 0; i < SNAPSHOTS; i++) {
        assert_int_equal(peal_txn_entries(&txns[i], PEAL_TREE_LOG), i / 50 + 1);
        assert_walk(&txns[i], 0, 1, i / 50 + 1, 30);
        peal_txn_abort(&txns[i]);
    }
    free(txns);
    append_range(db, 1000, 1000, 30);
    peal_db_close(db);
}

/* ---- trouble ---------------------------------------------------------------------------- */

/* Fills until the map refuses; returns the number of committed records. */
static size_t fill(struct peal_db *db)
{
    char key[32];
    char value[2001];
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    for (size_t i = 0;; i++) {
        snprintf(key, sizeof key, "%08zu", i);
        enum peal_err err = put(db, key, value);
        if (err == PEAL_OK) continue;
        assert_int_equal(err, PEAL_ESTORE_FULL);
        return i;
    }
}

static void db_full_map_refuses_and_recovers_by_deleting(void **state)
{
    const struct folder *folder = *state;
    struct peal_db *db = open_or_fail(folder->path, 1 << 20);
    size_t count = fill(db);
    struct peal_txn txn;
    assert_true(count > 100);
    assert_false(peal_db_failed(db));
    assert_int_equal(peal_txn_begin(&txn, db, false), PEAL_OK);
    assert_true(peal_txn_bytes_used(&txn) > peal_db_bytes_max(db) / 10 * 9);
    peal_txn_abort(&txn);

    for (size_t i = 0; i < count; i += 2) {
        char key[32];
        snprintf(key, sizeof key, "%08zu", i);
        if (peal_txn_begin(&txn, db, true) != PEAL_OK) fail();
        assert_int_equal(peal_txn_del(&txn, PEAL_TREE_META, peal_span_of(key)), PEAL_OK);
        assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
    }
    assert_int_equal(put(db, "again", "1"), PEAL_OK);
    peal_db_close(db);
}

static void db_full_disk_is_full_and_not_broken(void **state)
{
    const struct folder *folder = *state;
    struct peal_db *db = open_or_fail(folder->path, MAP);
    assert_int_equal(put(db, "a", "1"), PEAL_OK);

    atomic_store(&disk_write_errno, ENOSPC);
    assert_int_equal(put(db, "b", "2"), PEAL_ESTORE_FULL);
    atomic_store(&disk_write_errno, EIO); /* what LMDB makes of a short write */
    atomic_store(&disk_is_full, true);
    assert_int_equal(put(db, "b", "2"), PEAL_ESTORE_FULL);
    assert_false(peal_db_failed(db));
    assert_true(peal_db_disk_low(db, 0));

    disk_reset();
    assert_false(peal_db_disk_low(db, 0));
    assert_int_equal(put(db, "c", "3"), PEAL_OK);
    assert_true(has(db, "a", "1"));
    assert_false(has(db, "b", "2"));
    peal_db_close(db);
}

static void db_failed_sync_stops_writing_until_reopened(void **state)
{
    const struct folder *folder = *state;
    struct peal_db *db = open_or_fail(folder->path, MAP);
    assert_int_equal(put(db, "a", "1"), PEAL_OK);

    atomic_store(&disk_sync_errno, EIO);
    assert_int_equal(put(db, "b", "2"), PEAL_EIO);
    disk_reset(); /* the disk says it is fine again, and is not believed */
    assert_true(peal_db_failed(db));
    assert_int_equal(put(db, "c", "3"), PEAL_EIO);
    assert_true(has(db, "a", "1"));
    peal_db_close(db);

    db = open_or_fail(folder->path, MAP);
    assert_int_equal(put(db, "c", "3"), PEAL_OK);
    assert_true(has(db, "a", "1"));
    peal_db_close(db);
}

static off_t size_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

/* Opening happens in a child, because a crash is what is tested against. */
static void assert_refused(const char *dir)
{
    pid_t child = fork();
    if (child == 0) {
        struct peal_db *db;
        char why[256] = "";
        enum peal_err err = peal_db_open(dir, PEAL_DB_INBOX, MAP, &db, why, sizeof why);
        _exit(err == PEAL_ECORRUPT && why[0] != '\0' ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void db_truncated_file_is_refused_without_a_crash(void **state)
{
    const struct folder *folder = *state;
    char path[128];
    snprintf(path, sizeof path, "%s/inbox/data.mdb", folder->path);
    struct peal_db *db = open_or_fail(folder->path, MAP);
    for (int i = 0; i < 50; i++) {
        char key[16];
        char value[1500];
        memset(value, 'v', sizeof value - 1);
        value[sizeof value - 1] = '\0';
        snprintf(key, sizeof key, "%d", i);
        assert_int_equal(put(db, key, value), PEAL_OK);
    }
    peal_db_close(db);
    off_t size = size_of(path);

    /* Whole pages and parts of them. The tree was written page after page, so what is cut off
     * here was in use; see the next test for pages that were not. */
    for (off_t cut = size - 4096 * 4; cut > 0; cut -= 4096 * 3) {
        assert_int_equal(truncate(path, cut), 0);
        assert_refused(folder->path);
        assert_int_equal(size_of(path), cut); /* so it is seen the next time as well */
        assert_int_equal(truncate(path, cut - 100), 0);
        assert_refused(folder->path);
    }
}

/* Pages at the end that were taken and given back in one transaction never reach the file. */
static void db_file_short_of_free_pages_only_is_opened(void **state)
{
    const struct folder *folder = *state;
    char path[128];
    char big[100000];
    struct peal_txn txn;
    snprintf(path, sizeof path, "%s/inbox/data.mdb", folder->path);
    memset(big, 'b', sizeof big);
    struct peal_db *db = open_or_fail(folder->path, MAP);
    assert_int_equal(put(db, "a", "1"), PEAL_OK);
    assert_int_equal(peal_txn_begin(&txn, db, true), PEAL_OK);
    assert_int_equal(
        peal_txn_put(&txn, PEAL_TREE_META, peal_span_of("big"), peal_span_make(big, sizeof big)),
        PEAL_OK);
    assert_int_equal(peal_txn_del(&txn, PEAL_TREE_META, peal_span_of("big")), PEAL_OK);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
    /* Later commits move what is in use to lower pages; then all of the end is free. */
    for (int i = 0; i < 4; i++)
        assert_int_equal(put(db, "a", "2"), PEAL_OK);
    peal_db_close(db);

    assert_int_equal(truncate(path, size_of(path) - 4096 * 3), 0);
    db = open_or_fail(folder->path, MAP);
    assert_true(has(db, "a", "2"));
    assert_int_equal(put(db, "a", "3"), PEAL_OK);
    peal_db_close(db);
}

static void db_foreign_file_is_refused(void **state)
{
    const struct folder *folder = *state;
    char path[128];
    snprintf(path, sizeof path, "%s/inbox/data.mdb", folder->path);
    peal_db_close(open_or_fail(folder->path, MAP));
    assert_int_equal(unlink(path), 0);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    for (int i = 0; i < 1024; i++)
        assert_int_equal(write(fd, "not a database!!", 16), 16);
    close(fd);
    assert_refused(folder->path);
}

/* Another process that reads: it says when it has its snapshot, and waits for its end. */
static void read_and_wait(const char *dir, int go, int there)
{
    struct peal_db *db;
    struct peal_txn txn;
    char why[256];
    char byte;
    if (read(go, &byte, 1) != 1) _exit(1);
    if (peal_db_open_reading(dir, PEAL_DB_INBOX, &db, why, sizeof why) != PEAL_OK) _exit(2);
    if (peal_txn_begin(&txn, db, false) != PEAL_OK) _exit(3);
    if (write(there, "x", 1) != 1) _exit(4);
    for (;;)
        pause();
}

static void db_snapshot_of_a_process_that_died_is_ended(void **state)
{
    struct folder *folder = *state;
    int go[2];
    int there[2];
    char byte;
    assert_int_equal(pipe(go), 0);
    assert_int_equal(pipe(there), 0);
    pid_t pid = fork(); /* before there is a database that both would have */
    assert_true(pid >= 0);
    if (pid == 0) read_and_wait(folder->path, go[0], there[1]);
    close(there[1]);
    struct peal_db *db = open_or_fail(folder->path, MAP);
    assert_int_equal(put(db, "a", "1"), PEAL_OK);
    assert_int_equal(write(go[1], "x", 1), 1);
    assert_int_equal(read(there[0], &byte, 1), 1);
    assert_int_equal(put(db, "a", "2"), PEAL_OK); /* beside the reader */
    assert_int_equal(peal_db_reap(db), 0);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(peal_db_reap(db), 1);
    assert_int_equal(peal_db_reap(db), 0);
    assert_true(has(db, "a", "2"));
    peal_db_close(db);
    close(go[0]);
    close(go[1]);
    close(there[0]);
}

static void db_open_for_reading_needs_one_that_is_there(void **state)
{
    struct folder *folder = *state;
    struct peal_db *db;
    char why[256] = "";
    assert_int_equal(peal_db_open_reading(folder->path, PEAL_DB_INBOX, &db, why, sizeof why),
                     PEAL_ENOT_FOUND);
    assert_true(strlen(why) > 0);
    peal_db_close(open_or_fail(folder->path, MAP));
    assert_int_equal(peal_db_open_reading(folder->path, PEAL_DB_INBOX, &db, why, sizeof why),
                     PEAL_OK);
    peal_db_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, folder_setup, folder_teardown)
        T(db_reopened_keeps_what_was_committed),
        T(db_seek_finds_the_first_at_or_after),
        T(db_kinds_lie_beside_each_other),
        T(db_folders_are_private),
        T(db_in_a_folder_that_is_missing_says_which),
        T(db_appended_pairs_are_walked_in_order),
        T(db_append_that_is_not_the_largest_is_refused),
        T(db_del_below_removes_the_begin_and_no_more_than_asked),
        T(db_removed_pages_are_free_and_used_again),
        T(db_many_snapshots_each_see_their_moment),
        T(db_full_map_refuses_and_recovers_by_deleting),
        T(db_full_disk_is_full_and_not_broken),
        T(db_failed_sync_stops_writing_until_reopened),
        T(db_truncated_file_is_refused_without_a_crash),
        T(db_file_short_of_free_pages_only_is_opened),
        T(db_foreign_file_is_refused),
        T(db_snapshot_of_a_process_that_died_is_ended),
        T(db_open_for_reading_needs_one_that_is_there),
#undef T
    };
    return cmocka_run_group_tests_name("db", tests, NULL, NULL);
}

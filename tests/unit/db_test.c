#include "storage/db.h"

#include <signal.h>
#include <sys/wait.h>

#include "tests/unit/unit.h"

#include "tests/unit/disk.h"

enum { MAP = 4 << 20 };

static struct peal_db *open_or_fail(const char *dir, uint64_t map)
{
    struct peal_db *db = NULL;
    char why[256] = "";
    enum peal_err err = peal_db_open(dir, map, &db, why, sizeof why);
    if (err != PEAL_OK) fail_msg("open: %s", why);
    return db;
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
    assert_int_equal(peal_txn_seek(&txn, PEAL_TREE_IDS, peal_span_of(""), &key, &value),
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

static void db_in_use_names_the_pid(void **state)
{
    const struct folder *folder = *state;
    int go[2];
    char byte;
    assert_int_equal(pipe(go), 0);
    pid_t child = fork();
    if (child == 0) {
        struct peal_db *db;
        char why[256];
        byte = (char)peal_db_open(folder->path, MAP, &db, why, sizeof why);
        if (write(go[1], &byte, 1) != 1) _exit(2);
        for (;;)
            pause();
    }
    assert_int_equal(read(go[0], &byte, 1), 1);
    assert_int_equal(byte, PEAL_OK);

    struct peal_db *db = NULL;
    char why[256] = "";
    char pid[32];
    assert_int_equal(peal_db_open(folder->path, MAP, &db, why, sizeof why), PEAL_ELOCKED);
    assert_null(db);
    snprintf(pid, sizeof pid, "process %ld ", (long)child);
    assert_non_null(strstr(why, pid));

    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(go[0]);
    close(go[1]);
    db = open_or_fail(folder->path, MAP); /* the dead hold no lock */
    peal_db_close(db);
}

static void db_folder_is_private(void **state)
{
    const struct folder *folder = *state;
    char dir[128];
    char path[160];
    struct stat st;
    snprintf(dir, sizeof dir, "%s/new", folder->path);
    struct peal_db *db = open_or_fail(dir, MAP);
    peal_db_close(db);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    static const char *const names[] = {"data.mdb", "lock.mdb", "lock"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(dir), 0);
}

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
    assert_true(peal_db_disk_low(db));

    disk_reset();
    assert_false(peal_db_disk_low(db));
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
        enum peal_err err = peal_db_open(dir, MAP, &db, why, sizeof why);
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
    snprintf(path, sizeof path, "%s/data.mdb", folder->path);
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
    snprintf(path, sizeof path, "%s/data.mdb", folder->path);
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
    snprintf(path, sizeof path, "%s/data.mdb", folder->path);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    for (int i = 0; i < 1024; i++)
        assert_int_equal(write(fd, "not a database!!", 16), 16);
    close(fd);
    assert_refused(folder->path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, folder_setup, folder_teardown)
        T(db_reopened_keeps_what_was_committed),
        T(db_seek_finds_the_first_at_or_after),
        T(db_in_use_names_the_pid),
        T(db_folder_is_private),
        T(db_full_map_refuses_and_recovers_by_deleting),
        T(db_full_disk_is_full_and_not_broken),
        T(db_failed_sync_stops_writing_until_reopened),
        T(db_truncated_file_is_refused_without_a_crash),
        T(db_file_short_of_free_pages_only_is_opened),
        T(db_foreign_file_is_refused),
#undef T
    };
    return cmocka_run_group_tests_name("db", tests, NULL, NULL);
}

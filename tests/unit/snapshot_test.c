#include "storage/snapshot.h"

#include <pthread.h>

#include "proto/group.h"
#include "storage/entry.h"
#include "storage/keys.h"
#include "tests/unit/unit.h"

#include "tests/unit/disk.h"

enum { MAP = 8 << 20, GID = 7, BASE = 3 };

static const char group[] = "user:42";

/* Both databases. In the inbox are the offsets 1 and 2, and 4 as well, in the log 3 and 5. */
struct fixture {
    void *folder;
    struct peal_db *log;
    struct peal_db *inbox;
    uint16_t slot;
};

static void append(struct peal_db *log, uint64_t seq, const struct peal_entry *entry)
{
    char at[PEAL_KEY_ENTRY];
    char *out;
    struct peal_txn txn;
    struct peal_span key = {at, sizeof at};
    size_t size = peal_entry_size(entry);
    peal_key_entry(at, seq);
    assert_int_equal(peal_txn_begin(&txn, log, true), PEAL_OK);
    assert_int_equal(peal_txn_append(&txn, PEAL_TREE_LOG, key, size, &out), PEAL_OK);
    assert_int_equal(peal_entry_encode(key, entry, out), size);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
}

static struct peal_entry entry_make(enum peal_entry_kind kind, uint64_t offset, const char *text)
{
    return (struct peal_entry){
        .kind = kind,
        .group = peal_span_of(group),
        .numbers = {.gid = GID, .epoch = 9, .ver = offset, .next = 100, .first = 1, .kept = 99},
        .epoch = 9,
        .offset = offset,
        .stored_ms = 1000 + offset,
        .expires_ms = 2000 + offset,
        .envelope = peal_span_of(text),
    };
}

static void store_in_inbox(const struct fixture *f, uint64_t offset, const char *text, bool damaged)
{
    char at[PEAL_KEY_MESSAGE];
    char *out;
    struct peal_txn txn;
    struct peal_span key = {at, sizeof at};
    struct peal_record record = {1000 + offset, 2000 + offset, peal_span_of(text)};
    size_t size = PEAL_RECORD_MESSAGE + strlen(text);
    peal_key_message(at, f->slot, GID, offset);
    assert_int_equal(peal_txn_begin(&txn, f->inbox, true), PEAL_OK);
    assert_int_equal(peal_txn_reserve(&txn, PEAL_TREE_MESSAGE, key, size, &out), PEAL_OK);
    peal_record_encode(key, &record, out);
    if (damaged) out[size - 1] ^= 1;
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
}

static int setup(void **state)
{
    char why[256];
    struct peal_entry entry;
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL || folder_setup(&f->folder) != 0) return -1;
    const struct folder *folder = f->folder;
    f->slot = peal_group_slot(peal_span_of(group));
    if (peal_db_open(folder->path, PEAL_DB_LOG, MAP, &f->log, why, sizeof why) != PEAL_OK)
        return -1;
    if (peal_db_open(folder->path, PEAL_DB_INBOX, MAP, &f->inbox, why, sizeof why) != PEAL_OK)
        return -1;
    store_in_inbox(f, 1, "one", false);
    store_in_inbox(f, 2, "two", false);
    store_in_inbox(f, 4, "four", false);
    entry = entry_make(PEAL_ENTRY_PUT, 3, "three");
    append(f->log, 10, &entry);
    entry = entry_make(PEAL_ENTRY_MESSAGE, 5, "five");
    append(f->log, 11, &entry);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    peal_db_close(f->log);
    peal_db_close(f->inbox);
    int rc = folder_teardown(&f->folder);
    free(f);
    return rc;
}

/* A view of the fixture; `count` places from BASE on are copied. */
static struct peal_view view_make(const struct fixture *f, const uint64_t *places, size_t count)
{
    struct peal_view view = {.base = BASE, .place_count = count};
    peal_inbox_init(&view.inbox, 9);
    view.inbox.n.gid = GID;
    /* Marks with memory of their own. */
    view.inbox.n.next = 1000;
    assert_int_equal(peal_inbox_reserve(&view.inbox, 1000), PEAL_OK);
    peal_inbox_set(&view.inbox, true, 900, 999);
    view.places = calloc(count + 1, sizeof *places);
    assert_non_null(view.places);
    if (count > 0) memcpy(view.places, places, count * sizeof *places);
    assert_int_equal(peal_snapshot_new(f->log, f->inbox, &view.snapshot), PEAL_OK);
    return view;
}

static void assert_message(struct peal_view *view, uint16_t slot, uint64_t offset, const char *text)
{
    struct peal_record record;
    assert_int_equal(peal_view_message(view, slot, offset, &record), PEAL_OK);
    assert_true(peal_span_is(record.envelope, text));
    assert_int_equal(record.stored_ms, 1000 + offset);
    assert_int_equal(record.expires_ms, 2000 + offset);
}

static void view_message_is_found_in_the_inbox_and_in_the_log(void **state)
{
    const struct fixture *f = *state;
    static const uint64_t places[] = {10, PEAL_PLACE_INBOX, 11, 0, PEAL_PLACE_INBOX, 99};
    struct peal_record record;
    struct peal_view view = view_make(f, places, 6);
    assert_message(&view, f->slot, 1, "one");
    assert_message(&view, f->slot, 2, "two");
    assert_message(&view, f->slot, 3, "three");
    assert_message(&view, f->slot, 4, "four");
    assert_message(&view, f->slot, 5, "five");
    /* No place, nothing at the place, and behind the last place. */
    static const uint64_t missing[] = {6, 7, 8, 9, 500, UINT64_MAX};
    for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++)
        assert_int_equal(peal_view_message(&view, f->slot, missing[i], &record), PEAL_ENOT_FOUND);
    peal_view_fini(&view);
    peal_view_fini(&view); /* nothing is left to give back */
}

static void view_message_of_another_group_is_not_found_in_the_inbox(void **state)
{
    const struct fixture *f = *state;
    struct peal_record record;
    struct peal_view view = view_make(f, NULL, 0);
    assert_message(&view, f->slot, 1, "one");
    assert_int_equal(peal_view_message(&view, f->slot ^ 1, 1, &record), PEAL_ENOT_FOUND);
    view.inbox.n.gid++;
    assert_int_equal(peal_view_message(&view, f->slot, 1, &record), PEAL_ENOT_FOUND);
    peal_view_fini(&view);
}

/* The place is believed, what stands there is not. */
static void view_message_that_is_another_record_is_corrupt(void **state)
{
    const struct fixture *f = *state;
    struct peal_record record;
    struct peal_entry entry = entry_make(PEAL_ENTRY_PUT, 8, "eight");
    entry.numbers.gid = GID + 1;
    append(f->log, 20, &entry);
    entry = entry_make(PEAL_ENTRY_PUT, 8, "eight");
    entry.group = peal_span_of("user:43");
    assert_int_not_equal(peal_group_slot(entry.group), f->slot);
    append(f->log, 21, &entry);
    entry = entry_make(PEAL_ENTRY_PUT, 7, "seven");
    append(f->log, 22, &entry);
    entry = entry_make(PEAL_ENTRY_MARK, 8, NULL);
    append(f->log, 23, &entry);
    entry = (struct peal_entry){.kind = PEAL_ENTRY_DROP, .slot = f->slot};
    append(f->log, 24, &entry);
    entry = entry_make(PEAL_ENTRY_PUT, 8, "eight");
    entry.holes = (const uint64_t[]){1, 2, 3};
    entry.hole_count = 3;
    append(f->log, 25, &entry);

    for (uint64_t seq = 20; seq <= 24; seq++) {
        const uint64_t places[] = {0, 0, 0, 0, 0, seq};
        struct peal_view view = view_make(f, places, 6);
        assert_int_equal(peal_view_message(&view, f->slot, 8, &record), PEAL_ECORRUPT);
        peal_view_fini(&view);
    }
    const uint64_t right[] = {0, 0, 0, 0, 0, 25};
    struct peal_view view = view_make(f, right, 6);
    assert_message(&view, f->slot, 8, "eight");
    peal_view_fini(&view);
}

static void view_message_that_was_damaged_is_corrupt(void **state)
{
    const struct fixture *f = *state;
    char at[PEAL_KEY_ENTRY];
    char bytes[256];
    struct peal_record record;
    struct peal_txn txn;
    struct peal_span key = {at, sizeof at};
    struct peal_span value;
    store_in_inbox(f, 2, "two", true);
    peal_key_entry(at, 10);
    assert_int_equal(peal_txn_begin(&txn, f->log, true), PEAL_OK);
    assert_int_equal(peal_txn_get(&txn, PEAL_TREE_LOG, key, &value), PEAL_OK);
    assert_true(value.size <= sizeof bytes);
    memcpy(bytes, value.at, value.size);
    bytes[value.size - 1] ^= 1;
    value.at = bytes;
    assert_int_equal(peal_txn_put(&txn, PEAL_TREE_LOG, key, value), PEAL_OK);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);

    static const uint64_t places[] = {10, 0, 11};
    struct peal_view view = view_make(f, places, 3);
    assert_message(&view, f->slot, 1, "one");
    assert_int_equal(peal_view_message(&view, f->slot, 2, &record), PEAL_ECORRUPT);
    assert_int_equal(peal_view_message(&view, f->slot, 3, &record), PEAL_ECORRUPT);
    assert_message(&view, f->slot, 5, "five");
    peal_view_fini(&view);
}

/* Moves all of the log to nowhere, and writes over the inbox. */
static void change_everything(const struct fixture *f)
{
    struct peal_txn txn;
    size_t removed;
    char at[PEAL_KEY_ENTRY];
    peal_key_entry(at, 100);
    assert_int_equal(peal_txn_begin(&txn, f->log, true), PEAL_OK);
    assert_int_equal(
        peal_txn_del_below(&txn, PEAL_TREE_LOG, peal_span_make(at, sizeof at), 100, &removed),
        PEAL_OK);
    assert_int_equal(removed, 2);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
    for (int i = 0; i < 20; i++) {
        struct peal_entry entry = entry_make(PEAL_ENTRY_PUT, 50, "another");
        append(f->log, 100 + (uint64_t)i, &entry);
        store_in_inbox(f, 1, "changed", false);
    }
}

static void snapshot_keeps_its_moment_while_others_write(void **state)
{
    const struct fixture *f = *state;
    static const uint64_t places[] = {10, 0, 11};
    struct peal_record record;
    struct peal_view before = view_make(f, places, 3);
    change_everything(f);
    struct peal_view after = view_make(f, places, 3);

    assert_message(&before, f->slot, 1, "one");
    assert_message(&before, f->slot, 3, "three");
    assert_message(&before, f->slot, 5, "five");
    assert_message(&after, f->slot, 1, "changed");
    assert_int_equal(peal_view_message(&after, f->slot, 3, &record), PEAL_ENOT_FOUND);
    peal_view_fini(&before);
    peal_view_fini(&after);
}

struct reading {
    struct peal_view view;
    uint16_t slot;
    bool right;
};

static void *read_and_release(void *arg)
{
    struct reading *reading = arg;
    struct peal_record record;
    reading->right = true;
    for (int i = 0; i < 1000; i++) {
        enum peal_err err = peal_view_message(&reading->view, reading->slot, 3, &record);
        if (err != PEAL_OK || !peal_span_is(record.envelope, "three")) reading->right = false;
    }
    peal_view_fini(&reading->view);
    return NULL;
}

static void snapshot_is_read_and_released_in_another_thread(void **state)
{
    const struct fixture *f = *state;
    static const uint64_t places[] = {10, 0, 11};
    struct reading reading = {.view = view_make(f, places, 3), .slot = f->slot};
    struct peal_snapshot *snapshot = reading.view.snapshot;
    peal_snapshot_ref(snapshot);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, read_and_release, &reading), 0);
    change_everything(f);
    peal_snapshot_unref(snapshot); /* before or after the thread: the last one ends it */
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(reading.right);
    peal_snapshot_unref(NULL);
}

static void snapshot_count_is_bounded_and_each_one_given_back_is_free_again(void **state)
{
    const struct fixture *f = *state;
    enum { ROOM = 4096, NEEDED = 1100 };
    struct peal_snapshot **all = calloc(ROOM, sizeof(struct peal_snapshot *));
    assert_non_null(all);
    size_t count = 0;
    enum peal_err err = PEAL_OK;
    while (err == PEAL_OK && count < ROOM)
        err = peal_snapshot_new(f->log, f->inbox, &all[count++]);
    assert_int_equal(err, PEAL_EIO);
    assert_null(all[--count]);
    assert_true(count >= NEEDED);
    for (size_t round = 0; round < 2; round++) {
        for (size_t i = 0; i < count; i++)
            peal_snapshot_unref(all[i]);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(peal_snapshot_new(f->log, f->inbox, &all[i]), PEAL_OK);
    }
    for (size_t i = 0; i < count; i++)
        peal_snapshot_unref(all[i]);
    free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(view_message_is_found_in_the_inbox_and_in_the_log),
        T(view_message_of_another_group_is_not_found_in_the_inbox),
        T(view_message_that_is_another_record_is_corrupt),
        T(view_message_that_was_damaged_is_corrupt),
        T(snapshot_keeps_its_moment_while_others_write),
        T(snapshot_is_read_and_released_in_another_thread),
        T(snapshot_count_is_bounded_and_each_one_given_back_is_free_again),
#undef T
    };
    return cmocka_run_group_tests_name("snapshot", tests, NULL, NULL);
}

/* One transaction and what is in it: what has happened, what has not, and what may go. */
#include "storage/batch.h"

#include "proto/group.h"
#include "storage/keys.h"
#include "tests/unit/batch_rig.h"

static struct rig rig;

static int setup(void **state)
{
    if (folder_setup(state) != 0) return -1;
    rig_init(&rig, ((struct folder *)*state)->path);
    rig_open(&rig);
    return 0;
}

static int teardown(void **state)
{
    disk_reset();
    rig_close(&rig);
    return folder_teardown(state);
}

static uint16_t slot_of(const char *group)
{
    return peal_group_slot(peal_span_of(group));
}

static uint64_t log_entries(void)
{
    struct peal_txn txn;
    assert_int_equal(peal_txn_begin(&txn, rig.log, false), PEAL_OK);
    uint64_t entries = peal_txn_entries(&txn, PEAL_TREE_LOG);
    peal_txn_abort(&txn);
    return entries;
}

static struct peal_store_op put_with_id(const char *group, const char *id)
{
    struct message m = {.group = group, .data = "x", .id = id};
    rig_begin(&rig);
    struct peal_store_op op = rig_send(&rig, &m);
    rig_finish(&rig);
    return op;
}

static struct peal_store_op *export_op(uint16_t slot)
{
    struct peal_store_op *op =
        peal_store_op_new(PEAL_STORE_EXPORT, (struct peal_span){0}, (struct peal_span){0}, NULL, 0);
    assert_non_null(op);
    op->mark_flags = slot;
    return op;
}

/* ---- what has happened -------------------------------------------------------------------- */

static void batch_without_a_change_commits_nothing(void **state)
{
    (void)state;
    rig_put_alone(&rig, "user:a", NULL);
    rig_ack_alone(&rig, "user:a", 1);
    int64_t commits = peal_metrics_sum(PEAL_M_COMMITS);
    uint64_t seq = rig.batch.seq;
    rig_begin(&rig);
    assert_false(peal_batch_dirty(&rig.batch));
    rig_head(&rig, "user:a");
    assert_false(rig_mark(&rig, "user:a", PEAL_FLAG_ACK, 1, NULL, 0).changed);
    assert_int_equal(peal_batch_retain(&rig.batch, peal_span_of("user:a"), &rig.groups[0]),
                     PEAL_OK);
    assert_false(peal_batch_dirty(&rig.batch));
    rig_finish(&rig);
    assert_int_equal(peal_metrics_sum(PEAL_M_COMMITS), commits);
    assert_int_equal(rig.batch.seq, seq);

    rig_begin(&rig);
    rig_put(&rig, "user:a", NULL);
    assert_true(peal_batch_dirty(&rig.batch));
    rig_finish(&rig);
    assert_int_equal(peal_metrics_sum(PEAL_M_COMMITS), commits + 1);
    assert_int_equal(rig.batch.seq, seq + 1);
}

static void batch_counts_when_it_was_committed(void **state)
{
    (void)state;
    int64_t stored = peal_metrics_sum(PEAL_M_STORED);
    int64_t collapsed = peal_metrics_sum(PEAL_M_COLLAPSED);
    int64_t present = peal_metrics_sum(PEAL_M_PRESENT);
    for (int happens = 0; happens < 2; happens++) {
        rig_begin(&rig);
        rig_put(&rig, "user:a", "k");
        rig_put(&rig, "user:a", "k");
        assert_int_equal(peal_metrics_sum(PEAL_M_STORED), stored);
        if (happens == 0)
            rig_drop(&rig);
        else
            rig_finish(&rig);
        assert_int_equal(peal_metrics_sum(PEAL_M_STORED) - stored, 2 * happens);
        assert_int_equal(peal_metrics_sum(PEAL_M_COLLAPSED) - collapsed, happens);
        assert_int_equal(peal_metrics_sum(PEAL_M_PRESENT) - present, happens);
    }
}

static void batch_whose_commit_fails_has_not_happened(void **state)
{
    (void)state;
    rig_put_alone(&rig, "user:a", NULL);
    uint64_t seq = rig.batch.seq;
    int64_t stored = peal_metrics_sum(PEAL_M_STORED);
    rig_begin(&rig);
    rig_put(&rig, "user:a", NULL);
    rig_put(&rig, "user:b", NULL);
    atomic_store(&disk_sync_errno, EIO);
    assert_int_equal(peal_batch_finish(&rig.batch), PEAL_EIO);
    atomic_store(&disk_sync_errno, 0);
    assert_int_equal(rig.batch.seq, seq);
    assert_int_equal(peal_metrics_sum(PEAL_M_STORED), stored);

    /* What the disk has is not known: only questions are answered now. */
    assert_true(peal_db_failed(rig.log));
    rig_begin(&rig);
    assert_int_equal(rig_put(&rig, "user:a", NULL).err, PEAL_EIO);
    assert_int_equal(rig_mark(&rig, "user:a", PEAL_FLAG_ACK, 1, NULL, 0).err, PEAL_EIO);
    struct peal_store_op op = rig_head(&rig, "user:a");
    assert_int_equal(op.err, PEAL_OK);
    assert_int_equal(op.offset, 1);
    rig_finish(&rig);
}

static void batch_of_another_owner_is_refused(void **state)
{
    (void)state;
    struct peal_txn txn;
    rig_put_alone(&rig, "user:a", NULL);
    assert_int_equal(peal_txn_begin(&txn, rig.log, true), PEAL_OK);
    assert_int_equal(peal_number_put(&txn, "owner", RIG_BOOT + 1), PEAL_OK);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
    rig_begin(&rig);
    rig_put(&rig, "user:a", NULL);
    assert_int_equal(peal_batch_finish(&rig.batch), PEAL_EIO);
    assert_true(peal_db_failed(rig.log));
    assert_string_equal(rig_text(&rig, "user:a"), "M1");
    assert_int_equal(log_entries(), 1);
}

static void batch_operation_that_makes_no_sense_dooms_nothing(void **state)
{
    (void)state;
    struct peal_store_op *op;
    rig_begin(&rig);
    rig_put(&rig, "user:a", NULL);
    op = peal_store_op_new(PEAL_STORE_PUT, peal_span_of("user:a"), peal_span_of("none"), NULL, 0);
    assert_int_equal(rig_apply(&rig, op).err, PEAL_EBAD_MESSAGE);
    op = peal_store_op_new(PEAL_STORE_MARK, peal_span_of("news"), (struct peal_span){0}, NULL, 0);
    assert_int_equal(rig_apply(&rig, op).err, PEAL_EBAD_GROUP);
    op = peal_store_op_new(PEAL_STORE_HEAD, peal_span_of(""), (struct peal_span){0}, NULL, 0);
    assert_int_equal(rig_apply(&rig, op).err, PEAL_EBAD_GROUP);
    rig_put(&rig, "user:a", NULL);
    rig_finish(&rig);
    assert_string_equal(rig_text(&rig, "user:a"), "M1 M2");
    assert_int_equal(log_entries(), 2);
}

static void batch_answer_is_emptied(void **state)
{
    (void)state;
    struct peal_store_op op = {.err = PEAL_EIO,
                               .duplicate = true,
                               .changed = true,
                               .epoch = 1,
                               .offset = 2,
                               .first = 3,
                               .unread = 4,
                               .rev = 5,
                               .encoded = peal_bytes_new("x", 1)};
    peal_batch_reset(&op);
    assert_int_equal(op.err, PEAL_OK);
    assert_null(op.encoded);
    assert_false(op.duplicate);
    assert_false(op.changed);
    assert_int_equal(op.epoch + op.offset + op.first + op.unread + op.rev, 0);
}

/* ---- ids ---------------------------------------------------------------------------------- */

static void batch_id_of_a_batch_that_was_dropped_is_stored_again(void **state)
{
    (void)state;
    struct message m = {.group = "user:a", .data = "x", .id = "one"};
    rig_begin(&rig);
    rig_send(&rig, &m);
    assert_true(rig_send(&rig, &m).duplicate);
    rig_drop(&rig);
    assert_false(put_with_id("user:a", "one").duplicate);
    assert_true(put_with_id("user:a", "one").duplicate);
    assert_false(put_with_id("user:b", "one").duplicate);
    assert_int_equal(log_entries(), 2);
}

static void batch_ids_outlive_their_records_and_the_process(void **state)
{
    (void)state;
    put_with_id("user:a", "one");
    rig_put_alone(&rig, "user:a", NULL);
    put_with_id("user:a", "two");
    rig_settle(&rig);
    rig_trim_alone(&rig, 1000); /* the ids hold all of it */
    assert_int_equal(log_entries(), 3);
    atomic_store(&disk_is_full, true); /* unless there is no room */
    rig.config.store.max = rig.batch.bytes_max = 1;
    rig.batch.log_bytes = RIG_MAP;
    rig_trim_alone(&rig, 1000);
    atomic_store(&disk_is_full, false);
    rig.config.store.max = rig.batch.bytes_max = RIG_MAP;
    rig_trim_alone(&rig, 1000);
    assert_int_equal(log_entries(), 2); /* only the ids, written again */
    for (int i = 0; i < 2; i++) {
        struct peal_store_op op = put_with_id("user:a", "one");
        assert_true(op.duplicate);
        assert_int_equal(op.offset, 1);
        op = put_with_id("user:a", "two");
        assert_true(op.duplicate);
        assert_int_equal(op.offset, 3);
        rig_reopen(&rig);
    }
    atomic_fetch_add(&rig.now_ms, rig.config.dedup.age_ms);
    assert_false(put_with_id("user:a", "one").duplicate);
}

/* With so little room the records of ids alone would fill the log. */
static void batch_ids_of_large_messages_give_back_the_log_when_room_is_short(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    static char data[2001];
    char id[32];
    memset(data, 'x', sizeof data - 1);
    struct message m = {.group = "user:a", .data = data, .id = id};
    rig.batch.bytes_max = 4 << 20; /* an eighth of it is a log to be settled */
    for (int i = 0; i < COUNT; i++) {
        snprintf(id, sizeof id, "id-%d", i);
        rig_begin(&rig);
        rig_send(&rig, &m);
        rig_finish(&rig);
    }
    assert_true(peal_batch_short_of_room(&rig.batch));
    rig_settle(&rig);
    for (int i = 0; i < 6; i++)
        rig_trim_alone(&rig, 100);
    assert_int_equal(log_entries(), COUNT); /* of ids */
    assert_true(rig.batch.trimmed > COUNT);
    rig_settle(&rig);
    uint64_t seq = rig.batch.seq;
    for (int i = 0; i < 10; i++) /* and they are not written over and over */
        rig_trim_alone(&rig, 100);
    assert_int_equal(rig.batch.seq, seq);
    rig_reopen(&rig);
    for (int i = 0; i < COUNT; i++) {
        snprintf(id, sizeof id, "id-%d", i);
        assert_true(put_with_id("user:a", id).duplicate);
    }
}

/* ---- the log ------------------------------------------------------------------------------ */

static void batch_trim_takes_only_what_is_in_the_inbox_and_so_much(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++)
        rig_put_alone(&rig, "user:a", NULL);
    rig_trim_alone(&rig, 100);
    assert_int_equal(log_entries(), 20);
    rig_move(&rig, 12);
    rig_trim_alone(&rig, 100); /* the store thread has not heard of it */
    assert_int_equal(log_entries(), 20);
    rig_deliver(&rig);
    rig_trim_alone(&rig, 5);
    assert_int_equal(log_entries(), 15);
    rig_trim_alone(&rig, 100);
    assert_int_equal(log_entries(), 8);
    assert_int_equal(rig.batch.trimmed, 13);
    rig_begin(&rig);
    assert_int_equal(peal_batch_trim(&rig.batch, 100), PEAL_OK);
    assert_false(peal_batch_dirty(&rig.batch));
    rig_drop(&rig);
    rig_reopen(&rig);
    assert_int_equal(rig.batch.moved, 12);
    assert_int_equal(rig.batch.trimmed, 13);
    assert_int_equal(rig.batch.seq, 20);
    assert_int_equal(rig.batch.heads.unmoved, 8);
    assert_int_equal(rig.batch.inbox_entries, 12);
    rig_settle(&rig);
    rig_trim_alone(&rig, 100);
    rig_reopen(&rig); /* of an empty log: no sequence comes twice */
    assert_int_equal(log_entries(), 0);
    assert_int_equal(rig.batch.seq, 20);
    rig_put_alone(&rig, "user:a", NULL);
    assert_int_equal(rig.batch.seq, 21);
}

static void batch_replay_skips_a_damaged_record_and_counts_it(void **state)
{
    (void)state;
    char at[PEAL_KEY_ENTRY];
    struct peal_txn txn;
    for (int i = 0; i < 3; i++)
        rig_put_alone(&rig, "user:a", NULL);
    peal_key_entry(at, 2);
    assert_int_equal(peal_txn_begin(&txn, rig.log, true), PEAL_OK);
    assert_int_equal(peal_txn_put(&txn, PEAL_TREE_LOG, peal_span_make(at, sizeof at),
                                  peal_span_of("nothing like a record")),
                     PEAL_OK);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
    int64_t corrupt = peal_metrics_sum(PEAL_M_CORRUPT);
    rig_reopen(&rig);
    assert_int_equal(peal_metrics_sum(PEAL_M_CORRUPT) - corrupt, 1);
    assert_string_equal(rig_text(&rig, "user:a"), "M1 Gcorrupt:2-2 M3");
    rig_begin(&rig);
    struct peal_store_op op = rig_head(&rig, "user:a");
    rig_drop(&rig);
    assert_int_equal(op.offset, 3);
    assert_int_equal(op.unread, 3);
}

static void batch_room_counts_what_is_in_both_files_once(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++)
        rig_put_alone(&rig, "user:a", NULL);
    assert_int_equal(peal_batch_bytes(&rig.batch), rig.batch.inbox_bytes + rig.batch.log_bytes);
    rig_settle(&rig);
    assert_int_equal(peal_batch_bytes(&rig.batch), rig.batch.inbox_bytes);
}

static void batch_without_room_refuses_messages_and_takes_marks(void **state)
{
    (void)state;
    rig_put_alone(&rig, "user:a", NULL);
    rig.batch.bytes_max = rig.batch.log_bytes;
    rig_begin(&rig);
    struct peal_store_op op = rig_put(&rig, "user:a", NULL);
    assert_int_equal(op.err, PEAL_ESTORE_FULL);
    assert_true(rig_mark(&rig, "user:a", PEAL_FLAG_ACK, 1, NULL, 0).changed);
    rig_finish(&rig);
    assert_true(peal_batch_short_of_room(&rig.batch));
    assert_string_equal(rig_text(&rig, "user:a"), "M1ar");
    rig.batch.bytes_max = RIG_MAP;
    assert_int_equal(rig_put_alone(&rig, "user:a", NULL).offset, 2);
    assert_false(peal_batch_short_of_room(&rig.batch));
}

static void batch_long_log_slows_down_and_then_takes_nothing(void **state)
{
    (void)state;
    assert_false(peal_batch_log_long(&rig.batch));
    assert_int_equal(peal_batch_slow(&rig.batch, 20), 0);
    int before = 0;
    bool slowed = false;
    for (uint64_t seq = 0; !peal_batch_log_long(&rig.batch); seq += 100000) {
        rig.batch.seq = seq;
        int slow = peal_batch_slow(&rig.batch, 20);
        assert_true(slow >= before);
        slowed = slowed || slow > 0;
        before = slow;
        if (!peal_batch_log_long(&rig.batch)) assert_true(slow < 20);
    }
    assert_true(slowed);
    assert_true(peal_batch_slow(&rig.batch, 20) >= 20);
    rig.batch.moved = rig.batch.seq;
    assert_false(peal_batch_log_long(&rig.batch));
    assert_int_equal(peal_batch_slow(&rig.batch, 20), 0);
    rig.batch.log_bytes = rig.batch.bytes_max / 2;
    assert_true(peal_batch_log_long(&rig.batch));
}

/* ---- slots -------------------------------------------------------------------------------- */

static void batch_export_waits_until_the_inbox_has_the_slot(void **state)
{
    (void)state;
    uint64_t seq = 0;
    struct peal_store_op *op = export_op(slot_of("user:a"));
    struct peal_store_op *other = export_op(slot_of("user:b"));
    assert_int_not_equal(op->mark_flags, other->mark_flags);
    assert_false(peal_batch_parks(&rig.batch, op, &seq));
    rig_put_alone(&rig, "user:a", NULL);
    rig_put_alone(&rig, "user:b", NULL);
    assert_true(peal_batch_parks(&rig.batch, op, &seq));
    assert_int_equal(seq, 1);
    rig_move(&rig, 1);
    rig_deliver(&rig);
    assert_false(peal_batch_parks(&rig.batch, op, &seq));
    assert_true(peal_batch_parks(&rig.batch, other, &seq));
    rig_reopen(&rig);
    assert_true(peal_batch_parks(&rig.batch, other, &seq));
    rig_settle(&rig);
    assert_false(peal_batch_parks(&rig.batch, other, &seq));
    peal_store_op_free(op);
    peal_store_op_free(other);
}

static void batch_export_waits_for_the_batch_in_hand_and_for_none_that_was_dropped(void **state)
{
    (void)state;
    uint64_t seq = 0;
    struct peal_store_op *op = export_op(slot_of("user:a"));
    rig_put_alone(&rig, "user:b", NULL);
    rig_settle(&rig);
    rig_begin(&rig);
    rig_put(&rig, "user:a", NULL);
    assert_true(peal_batch_parks(&rig.batch, op, &seq));
    rig_drop(&rig);
    assert_false(peal_batch_parks(&rig.batch, op, &seq));
    rig_begin(&rig);
    assert_false(peal_batch_parks(&rig.batch, op, &seq));
    rig_drop(&rig);
    peal_store_op_free(op);
}

static void batch_exported_slot_is_left_alone_by_retention_for_a_while(void **state)
{
    (void)state;
    rig_put_alone(&rig, "user:a", NULL);
    rig_ack_alone(&rig, "user:a", 1);
    rig_settle(&rig);
    atomic_fetch_add(&rig.now_ms, HOUR_MS);
    rig_begin(&rig);
    assert_int_equal(rig_apply(&rig, export_op(slot_of("user:a"))).err, PEAL_OK);
    rig_finish(&rig);
    rig_retain_alone(&rig, "user:a");
    assert_string_equal(rig_text(&rig, "user:a"), "M1ar");
    atomic_fetch_add(&rig.now_ms, 10000);
    rig_retain_alone(&rig, "user:a");
    assert_string_equal(rig_text(&rig, "user:a"), "S1-1");
}

static void batch_drop_of_a_slot_is_the_last_of_its_transaction(void **state)
{
    (void)state;
    rig_put_alone(&rig, "user:a", NULL);
    rig_settle(&rig);
    rig_put_alone(&rig, "user:a", NULL);
    int64_t out = peal_metrics_sum(PEAL_M_STORE_MOVED_OUT);
    int64_t present = peal_metrics_sum(PEAL_M_PRESENT);
    rig_begin(&rig);
    assert_false(peal_batch_full(&rig.batch));
    rig_drop_slot(&rig, slot_of("user:a"));
    assert_true(peal_batch_full(&rig.batch));
    rig_drop(&rig); /* has not happened */
    assert_string_equal(rig_text(&rig, "user:a"), "M1 M2");
    rig_begin(&rig);
    rig_drop_slot(&rig, slot_of("user:a"));
    rig_finish(&rig);
    assert_string_equal(rig_text(&rig, "user:a"), "");
    rig_settle(&rig);
    assert_int_equal(rig.batch.inbox_entries, 0);
    assert_int_equal(peal_metrics_sum(PEAL_M_STORE_MOVED_OUT) - out, 2);
    assert_int_equal(present - peal_metrics_sum(PEAL_M_PRESENT), 2);
    assert_int_equal(rig_put_alone(&rig, "user:a", NULL).offset, 1);
}

/* ---- the numbers in meta ------------------------------------------------------------------ */

static void batch_meta_gives_back_what_was_put_and_sees_damage(void **state)
{
    (void)state;
    struct peal_txn txn;
    struct peal_span span;
    uint64_t number = 0;
    assert_int_equal(peal_txn_begin(&txn, rig.log, true), PEAL_OK);
    assert_int_equal(peal_number_get(&txn, "none", &number), PEAL_ENOT_FOUND);
    assert_int_equal(peal_blob_get(&txn, "none", &span), PEAL_ENOT_FOUND);
    assert_int_equal(peal_number_put(&txn, "number", UINT64_MAX - 3), PEAL_OK);
    assert_int_equal(peal_number_get(&txn, "number", &number), PEAL_OK);
    assert_true(number == UINT64_MAX - 3);
    assert_int_equal(peal_blob_put(&txn, "bytes", peal_span_of("some bytes")), PEAL_OK);
    assert_int_equal(peal_blob_get(&txn, "bytes", &span), PEAL_OK);
    assert_true(peal_span_is(span, "some bytes"));
    assert_int_equal(peal_blob_put(&txn, "bytes", peal_span_of("")), PEAL_OK);
    assert_int_equal(peal_blob_get(&txn, "bytes", &span), PEAL_OK);
    assert_int_equal(span.size, 0);
    assert_int_equal(peal_txn_put(&txn, PEAL_TREE_META, peal_span_of("number"),
                                  peal_span_of("0123456789abcdef")),
                     PEAL_OK);
    assert_int_equal(peal_number_get(&txn, "number", &number), PEAL_ECORRUPT);
    assert_int_equal(
        peal_txn_put(&txn, PEAL_TREE_META, peal_span_of("bytes"), peal_span_of("0123456789")),
        PEAL_OK);
    assert_int_equal(peal_blob_get(&txn, "bytes", &span), PEAL_ECORRUPT);
    peal_txn_abort(&txn);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(batch_without_a_change_commits_nothing),
        TEST(batch_counts_when_it_was_committed),
        TEST(batch_whose_commit_fails_has_not_happened),
        TEST(batch_of_another_owner_is_refused),
        TEST(batch_operation_that_makes_no_sense_dooms_nothing),
        TEST(batch_answer_is_emptied),
        TEST(batch_id_of_a_batch_that_was_dropped_is_stored_again),
        TEST(batch_ids_outlive_their_records_and_the_process),
        TEST(batch_ids_of_large_messages_give_back_the_log_when_room_is_short),
        TEST(batch_trim_takes_only_what_is_in_the_inbox_and_so_much),
        TEST(batch_replay_skips_a_damaged_record_and_counts_it),
        TEST(batch_room_counts_what_is_in_both_files_once),
        TEST(batch_without_room_refuses_messages_and_takes_marks),
        TEST(batch_long_log_slows_down_and_then_takes_nothing),
        TEST(batch_export_waits_until_the_inbox_has_the_slot),
        TEST(batch_export_waits_for_the_batch_in_hand_and_for_none_that_was_dropped),
        TEST(batch_exported_slot_is_left_alone_by_retention_for_a_while),
        TEST(batch_drop_of_a_slot_is_the_last_of_its_transaction),
        TEST(batch_meta_gives_back_what_was_put_and_sees_damage),
    };
    return cmocka_run_group_tests_name("batch", tests, NULL, NULL);
}

/* The index alone, and what a collapse key does in a group, wherever the older message is. */
#include "storage/collapse.h"

#include "tests/unit/batch_rig.h"

/* ---- the index ---------------------------------------------------------------------------- */

static uint64_t find(const struct peal_collapse *collapse, const char *key)
{
    return peal_collapse_find(collapse, peal_span_of(key));
}

static void note(struct peal_collapse *collapse, const char *key, uint64_t offset, uint64_t first)
{
    assert_int_equal(peal_collapse_note(collapse, peal_span_of(key), offset, first), PEAL_OK);
}

static void collapse_note_is_found_until_a_newer_one(void **state)
{
    (void)state;
    struct peal_collapse *collapse = peal_collapse_new();
    assert_non_null(collapse);
    assert_int_equal(find(collapse, "a"), 0);
    assert_false(collapse->changed);
    note(collapse, "a", 1, 1);
    note(collapse, "b", 2, 1);
    assert_true(collapse->changed);
    assert_int_equal(find(collapse, "a"), 1);
    note(collapse, "a", 3, 1);
    assert_int_equal(find(collapse, "a"), 3);
    assert_int_equal(find(collapse, "b"), 2);
    assert_int_equal(find(collapse, ""), 0);
    assert_int_equal(collapse->used, 2);
    peal_collapse_free(collapse);
}

static void collapse_of_a_whole_window_finds_every_key_in_bounded_room(void **state)
{
    (void)state;
    struct peal_collapse *collapse = peal_collapse_new();
    char key[32];
    assert_non_null(collapse);
    for (uint64_t offset = 1; offset <= 5 * PEAL_INBOX_MESSAGES_MAX; offset++) {
        uint64_t first =
            offset > PEAL_INBOX_MESSAGES_MAX ? offset - PEAL_INBOX_MESSAGES_MAX + 1 : 1;
        snprintf(key, sizeof key, "key-%llu", (unsigned long long)offset);
        note(collapse, key, offset, first);
        assert_true(collapse->slot_count <= 4 * PEAL_INBOX_MESSAGES_MAX);
        assert_true(collapse->used <= collapse->slot_count / 2);
    }
    for (uint64_t i = 0; i < PEAL_INBOX_MESSAGES_MAX; i++) {
        uint64_t offset = 5 * PEAL_INBOX_MESSAGES_MAX - i;
        snprintf(key, sizeof key, "key-%llu", (unsigned long long)offset);
        assert_int_equal(find(collapse, key), offset);
    }
    peal_collapse_free(collapse);
}

/* ---- groups ------------------------------------------------------------------------------- */

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
    rig_close(&rig);
    return folder_teardown(state);
}

/* Stored, found at the start, less all that went, is present. */
static int64_t unaccounted(void)
{
    return peal_metrics_sum(PEAL_M_FOUND) + peal_metrics_sum(PEAL_M_STORED) -
           peal_metrics_sum(PEAL_M_SETTLED) - peal_metrics_sum(PEAL_M_EXPIRED) -
           peal_metrics_sum(PEAL_M_EVICTED) - peal_metrics_sum(PEAL_M_COLLAPSED) -
           peal_metrics_sum(PEAL_M_DAMAGED) - peal_metrics_sum(PEAL_M_PRESENT);
}

static void collapse_older_in_the_log_goes_and_is_counted(void **state)
{
    (void)state;
    int64_t collapsed = peal_metrics_sum(PEAL_M_COLLAPSED);
    int64_t present = peal_metrics_sum(PEAL_M_PRESENT);
    int64_t before = unaccounted();
    rig_put_alone(&rig, "user:a", "k");
    rig_put_alone(&rig, "user:a", NULL);
    rig_put_alone(&rig, "user:a", "other");
    struct peal_store_op op = rig_put_alone(&rig, "user:a", "k");
    assert_int_equal(op.offset, 4);
    assert_int_equal(op.first, 2); /* the hole was the oldest one */
    assert_int_equal(op.unread, 3);
    assert_string_equal(rig_text(&rig, "user:a"), "S1-1 M2 M3 M4");
    op = rig_put_alone(&rig, "user:a", "k");
    assert_int_equal(op.unread, 3);
    assert_string_equal(rig_text(&rig, "user:a"), "S1-1 M2 M3 S4-4 M5");
    assert_int_equal(peal_metrics_sum(PEAL_M_COLLAPSED) - collapsed, 2);
    assert_int_equal(peal_metrics_sum(PEAL_M_PRESENT) - present, 3);
    assert_int_equal(unaccounted(), before);
}

static void collapse_key_is_of_its_group_alone(void **state)
{
    (void)state;
    rig_put_alone(&rig, "user:a", "k");
    rig_put_alone(&rig, "user:b", "k");
    rig_put_alone(&rig, "news", "k");
    rig_put_alone(&rig, "news", "k");
    assert_string_equal(rig_text(&rig, "user:a"), "M1");
    assert_string_equal(rig_text(&rig, "user:b"), "M1");
    assert_string_equal(rig_text(&rig, "news"), "S1-1 M2");
}

static void collapse_older_in_the_inbox_goes(void **state)
{
    (void)state;
    int64_t before = unaccounted();
    int64_t present = peal_metrics_sum(PEAL_M_PRESENT);
    rig_put_alone(&rig, "user:a", NULL);
    rig_put_alone(&rig, "user:a", "k");
    rig_put_alone(&rig, "user:a", NULL);
    rig_settle(&rig);
    rig_put_alone(&rig, "user:a", "k");
    assert_string_equal(rig_text(&rig, "user:a"), "M1 S2-2 M3 M4");
    rig_settle(&rig); /* the inbox has the hole too */
    assert_int_equal(rig.batch.inbox_entries, 3);
    assert_string_equal(rig_text(&rig, "user:a"), "M1 S2-2 M3 M4");
    rig_put_alone(&rig, "user:a", "k");
    assert_string_equal(rig_text(&rig, "user:a"), "M1 S2-2 M3 S4-4 M5");
    assert_int_equal(peal_metrics_sum(PEAL_M_PRESENT) - present, 3);
    assert_int_equal(unaccounted(), before);
}

/* The range that has the older message ends before the newer one. */
static void collapse_while_the_older_is_being_moved_leaves_none(void **state)
{
    (void)state;
    rig_put_alone(&rig, "user:a", NULL);
    rig_put_alone(&rig, "user:a", "k");
    rig_move(&rig, rig.batch.seq);
    rig_put_alone(&rig, "user:a", "k");
    assert_string_equal(rig_text(&rig, "user:a"), "M1 S2-2 M3");
    rig_deliver(&rig);
    assert_string_equal(rig_text(&rig, "user:a"), "M1 S2-2 M3");
    rig_reopen(&rig);
    assert_string_equal(rig_text(&rig, "user:a"), "M1 S2-2 M3");
    rig_settle(&rig);
    assert_string_equal(rig_text(&rig, "user:a"), "M1 S2-2 M3");
    assert_int_equal(rig.batch.inbox_entries, 2);
}

static void collapse_in_one_batch_leaves_the_last(void **state)
{
    (void)state;
    rig_begin(&rig);
    rig_put(&rig, "user:a", NULL);
    for (int i = 0; i < 20; i++)
        rig_put(&rig, "user:a", "k");
    assert_int_equal(rig_put(&rig, "user:a", "k").unread, 2);
    rig_finish(&rig);
    assert_string_equal(rig_text(&rig, "user:a"), "M1 S2-21 M22");
    rig_reopen(&rig);
    assert_string_equal(rig_text(&rig, "user:a"), "M1 S2-21 M22");
    rig_settle(&rig);
    assert_string_equal(rig_text(&rig, "user:a"), "M1 S2-21 M22");
    assert_int_equal(rig.batch.inbox_entries, 2);
}

/* Also when places were made longer, and then begun further down, in the same batch. */
static void collapse_in_a_batch_that_is_dropped_has_not_happened(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        rig_put_alone(&rig, "user:a", NULL);
    rig_put_alone(&rig, "user:a", "k");
    rig_put_alone(&rig, "user:a", "l");
    rig_settle(&rig);
    rig_put_alone(&rig, "user:a", "m");
    for (int made = 0; made < 2; made++) { /* with the index made in the batch, and before */
        rig_begin(&rig);
        for (int i = 0; i < 50; i++)
            rig_put(&rig, "user:a", NULL);
        rig_put(&rig, "user:a", "l");
        rig_put(&rig, "user:a", "m");
        rig_put(&rig, "user:a", "k");
        rig_put(&rig, "user:a", "l");
        rig_drop(&rig);
        assert_string_equal(rig_text(&rig, "user:a"),
                            made == 0 ? "M1 M2 M3 M4 M5 M6" : "M1 M2 M3 M4 M5 S6-6 M7");
        if (made == 0) rig_put_alone(&rig, "user:a", "m");
    }
    assert_int_equal(rig_put_alone(&rig, "user:a", "k").offset, 8);
    assert_int_equal(rig_put_alone(&rig, "user:a", "l").unread, 6);
    assert_string_equal(rig_text(&rig, "user:a"), "M1 M2 M3 S4-6 M7 M8 M9");
    rig_reopen(&rig);
    assert_string_equal(rig_text(&rig, "user:a"), "M1 M2 M3 S4-6 M7 M8 M9");
}

static void collapse_after_reopening_finds_the_older(void **state)
{
    (void)state;
    rig_put_alone(&rig, "user:a", "in-the-inbox");
    rig_settle(&rig);
    rig_put_alone(&rig, "user:a", NULL);
    rig_put_alone(&rig, "user:a", "in-the-log");
    rig_reopen(&rig);
    int64_t before = unaccounted();
    rig_put_alone(&rig, "user:a", "in-the-inbox");
    rig_put_alone(&rig, "user:a", "in-the-log");
    assert_string_equal(rig_text(&rig, "user:a"), "S1-1 M2 S3-3 M4 M5");
    assert_int_equal(unaccounted(), before);
}

static void collapse_of_a_read_message_changes_no_unread(void **state)
{
    (void)state;
    rig_put_alone(&rig, "user:a", NULL);
    rig_put_alone(&rig, "user:a", "k");
    struct peal_store_op acked = rig_ack_alone(&rig, "user:a", 2);
    assert_int_equal(acked.unread, 0);
    struct peal_store_op put = rig_put_alone(&rig, "user:a", "k");
    assert_int_equal(put.unread, 1);
    assert_int_equal(put.rev, acked.rev + 1);
    struct peal_store_op again = rig_put_alone(&rig, "user:a", "k");
    assert_int_equal(again.unread, 1);
    assert_true(again.rev > put.rev);
    assert_string_equal(rig_text(&rig, "user:a"), "M1ar S2-3 M4");
}

static void collapse_second_device_that_knows_the_older_gets_a_skip(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        rig_put_alone(&rig, "user:a", NULL);
    rig_put_alone(&rig, "user:a", "k"); /* 4: the second device saw it last */
    rig_put_alone(&rig, "user:a", NULL);
    rig_put_alone(&rig, "user:a", "k");
    rig_put_alone(&rig, "user:a", "k");
    assert_string_equal(rig_after(&rig, "user:a", 4), "M5 S6-6 M7");
    assert_string_equal(rig_after(&rig, "user:a", 3), "S4-4 M5 S6-6 M7");
    assert_string_equal(rig_after(&rig, "user:a", 6), "M7");
    assert_string_equal(rig_after(&rig, "user:a", 7), "");
}

/* What is used least lately goes first; it is made again when a key comes. */
static void collapse_indexes_beyond_their_limit_go_and_come_again(void **state)
{
    (void)state;
    struct peal_heads *heads = &rig.batch.heads;
    char group[32];
    heads->collapse_slots_max = 8 * 10; /* of ten small ones */
    for (int round = 0; round < 3; round++) {
        rig_begin(&rig);
        for (int i = 0; i < 25; i++) {
            snprintf(group, sizeof group, "user:g%d", i);
            assert_int_equal(rig_put(&rig, group, "k").unread, 1);
            assert_true(heads->collapse_slots <= heads->collapse_slots_max);
        }
        rig_finish(&rig);
        if (round == 1) rig_settle(&rig);
    }
    assert_int_equal(heads->collapse_slots, heads->collapse_slots_max);
    heads->collapse_slots_max = 0; /* the one in hand stays all the same */
    assert_int_equal(rig_put_alone(&rig, group, "k").unread, 1);
    assert_int_equal(heads->collapse_slots, 8);
    rig_settle(&rig); /* and goes with its head */
    assert_int_equal(heads->collapse_slots, 0);
}

/* A full inbox: the one that is replaced makes the room, and nothing that matters goes. */
static void collapse_in_a_full_inbox_evicts_nothing(void **state)
{
    (void)state;
    rig.groups[0].keep.messages = 3;
    int64_t evicted = peal_metrics_sum(PEAL_M_EVICTED);
    rig_put_alone(&rig, "user:a", NULL);
    rig_put_alone(&rig, "user:a", "k");
    rig_put_alone(&rig, "user:a", NULL);
    rig_put_alone(&rig, "user:a", "k");
    assert_string_equal(rig_text(&rig, "user:a"), "M1 S2-2 M3 M4");
    rig_put_alone(&rig, "user:a", "l");
    assert_string_equal(rig_text(&rig, "user:a"), "Gevicted:1-1 S2-2 M3 M4 M5");
    assert_int_equal(peal_metrics_sum(PEAL_M_EVICTED) - evicted, 1);
}

static void collapse_retry_of_a_replaced_message_is_a_duplicate(void **state)
{
    (void)state;
    struct message first = {"user:a", "1", "k", "id-1", 0};
    struct message second = {"user:a", "2", "k", "id-2", 0};
    rig_begin(&rig);
    rig_send(&rig, &first);
    rig_send(&rig, &second);
    struct peal_store_op op = rig_send(&rig, &first);
    rig_finish(&rig);
    assert_true(op.duplicate);
    assert_int_equal(op.offset, 1);
    assert_string_equal(rig_text(&rig, "user:a"), "S1-1 M2");
    assert_string_equal(rig.page.data, "2");
}

static void collapse_of_a_message_that_expired_with_it_removes_both(void **state)
{
    (void)state;
    int64_t before = unaccounted();
    struct message brief = {"user:a", "x", "k", NULL, 1000};
    rig_put_alone(&rig, "user:a", NULL);
    rig_begin(&rig);
    rig_send(&rig, &brief);
    brief.key = "l";
    rig_send(&rig, &brief);
    rig_finish(&rig);
    rig_settle(&rig);
    atomic_fetch_add(&rig.now_ms, 2000);
    rig_put_alone(&rig, "user:a", "k");
    assert_string_equal(rig_text(&rig, "user:a"), "M1 S2-3 M4");
    rig_put_alone(&rig, "user:a", "l"); /* it went already */
    assert_string_equal(rig_text(&rig, "user:a"), "M1 S2-3 M4 M5");
    assert_int_equal(unaccounted(), before);
    rig_reopen(&rig);
    assert_string_equal(rig_text(&rig, "user:a"), "M1 S2-3 M4 M5");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(collapse_note_is_found_until_a_newer_one),
        cmocka_unit_test(collapse_of_a_whole_window_finds_every_key_in_bounded_room),
        TEST(collapse_older_in_the_log_goes_and_is_counted),
        TEST(collapse_key_is_of_its_group_alone),
        TEST(collapse_older_in_the_inbox_goes),
        TEST(collapse_while_the_older_is_being_moved_leaves_none),
        TEST(collapse_in_one_batch_leaves_the_last),
        TEST(collapse_in_a_batch_that_is_dropped_has_not_happened),
        TEST(collapse_after_reopening_finds_the_older),
        TEST(collapse_of_a_read_message_changes_no_unread),
        TEST(collapse_second_device_that_knows_the_older_gets_a_skip),
        TEST(collapse_indexes_beyond_their_limit_go_and_come_again),
        TEST(collapse_in_a_full_inbox_evicts_nothing),
        TEST(collapse_retry_of_a_replaced_message_is_a_duplicate),
        TEST(collapse_of_a_message_that_expired_with_it_removes_both),
    };
    return cmocka_run_group_tests_name("collapse", tests, NULL, NULL);
}

/* What was acked and read, how many are unread, and the number that grows with it. */
#include "tests/contract/rig.h"
#include "tests/unit/unit.h"

static void put_many(struct rig *rig, const char *group, int count)
{
    for (int i = 0; i < count; i++)
        assert_int_equal(rig_put(rig, group, NULL, "x").err, PEAL_OK);
}

static void ack_up_to_an_offset_counts_as_read_by_default(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    put_many(rig, "user:a", 5);
    struct peal_store_op ack = rig_ack(rig, "user:a", 2);
    assert_int_equal(ack.err, PEAL_OK);
    assert_true(ack.changed);
    assert_int_equal(ack.offset, 5); /* the newest */
    assert_int_equal(ack.first, 1);
    assert_int_equal(ack.unread, 3);
    assert_string_equal(rig_text_of(rig, "user:a"), "M1ar M2ar M3 M4 M5");
}

static void ack_until_read_leaves_unread(void **state)
{
    struct rig *rig = *state;
    rig->groups[0].keep.until = PEAL_UNTIL_READ;
    rig_open(rig);
    put_many(rig, "user:a", 4);
    struct peal_store_op op = rig_ack(rig, "user:a", 3);
    assert_true(op.changed);
    assert_int_equal(op.unread, 4);
    op = rig_mark(rig, "user:a", PEAL_FLAG_READ, 1);
    assert_true(op.changed);
    assert_int_equal(op.unread, 3);
    assert_string_equal(rig_text_of(rig, "user:a"), "M1ar M2a M3a M4");
}

static void read_implies_ack(void **state)
{
    struct rig *rig = *state;
    rig->groups[0].keep.until = PEAL_UNTIL_READ;
    rig_open(rig);
    put_many(rig, "user:a", 3);
    assert_int_equal(rig_mark_one(rig, "user:a", PEAL_FLAG_READ, 2).unread, 2);
    assert_string_equal(rig_text_of(rig, "user:a"), "M1 M2ar M3");
    assert_false(rig_mark_one(rig, "user:a", PEAL_FLAG_ACK, 2).changed);
}

static void marks_of_single_offsets_leave_the_others(void **state)
{
    struct rig *rig = *state;
    uint64_t offsets[] = {5, 2, 2, 9};
    rig_open(rig);
    put_many(rig, "user:a", 6);
    struct peal_store_op op = rig_do(rig, rig_mark_op(rig, "user:a", PEAL_FLAG_ACK, 0, offsets, 4));
    assert_true(op.changed);
    assert_int_equal(op.unread, 4);
    assert_string_equal(rig_text_of(rig, "user:a"), "M1 M2ar M3 M4 M5ar M6");
    /* Both kinds at once. */
    offsets[0] = 6;
    op = rig_do(rig, rig_mark_op(rig, "user:a", PEAL_FLAG_ACK, 3, offsets, 1));
    assert_int_equal(op.unread, 1);
    assert_string_equal(rig_text_of(rig, "user:a"), "M1ar M2ar M3ar M4 M5ar M6ar");
}

static void mark_of_all_takes_everything_up_to_now(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    put_many(rig, "user:a", 4);
    struct peal_store_op op = rig_mark(rig, "user:a", PEAL_FLAG_READ | PEAL_FLAG_ALL, 0);
    assert_true(op.changed);
    assert_int_equal(op.unread, 0);
    assert_int_equal(rig_put(rig, "user:a", NULL, "x").unread, 1);
    assert_string_equal(rig_text_of(rig, "user:a"), "M1ar M2ar M3ar M4ar M5");
}

static void mark_that_changes_nothing_leaves_rev(void **state)
{
    struct rig *rig = *state;
    uint64_t offsets[] = {1, 2};
    rig_open(rig);
    put_many(rig, "user:a", 3);
    struct peal_store_op first = rig_ack(rig, "user:a", 2);
    struct peal_store_op again = rig_ack(rig, "user:a", 2);
    assert_int_equal(again.err, PEAL_OK);
    assert_false(again.changed);
    assert_int_equal(again.rev, first.rev);
    assert_int_equal(again.unread, first.unread);
    assert_false(rig_do(rig, rig_mark_op(rig, "user:a", PEAL_FLAG_READ, 1, offsets, 2)).changed);
    assert_false(rig_mark(rig, "user:a", 0, 3).changed); /* neither ack nor read */
    assert_int_equal(rig_head(rig, "user:a").rev, first.rev);
}

static void mark_outside_of_what_is_kept_is_ignored(void **state)
{
    struct rig *rig = *state;
    rig->groups[0].keep.messages = 3;
    rig_open(rig);
    put_many(rig, "user:a", 5); /* 1 and 2 are evicted */
    struct peal_store_op head = rig_head(rig, "user:a");
    assert_false(rig_ack(rig, "user:a", 2).changed);
    assert_false(rig_mark_one(rig, "user:a", PEAL_FLAG_ACK, 1).changed);
    assert_false(rig_mark_one(rig, "user:a", PEAL_FLAG_ACK, 6).changed);
    assert_false(rig_mark_one(rig, "user:a", PEAL_FLAG_ACK, 0).changed);
    assert_false(rig_mark_one(rig, "user:a", PEAL_FLAG_ACK, UINT64_MAX).changed);
    assert_int_equal(rig_head(rig, "user:a").rev, head.rev);
    /* Not remembered either: what comes later is not acked. */
    assert_int_equal(rig_ack(rig, "user:a", 100).unread, 0);
    assert_int_equal(rig_put(rig, "user:a", NULL, "x").unread, 1);
}

static void mark_of_an_unknown_group_creates_nothing(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    struct peal_store_op op = rig_ack(rig, "user:a", 100);
    assert_int_equal(op.err, PEAL_OK);
    assert_false(op.changed);
    assert_int_equal(op.rev, 0);
    assert_int_equal(op.offset, 0);
    op = rig_put(rig, "user:a", NULL, "x");
    assert_int_equal(op.offset, 1);
    assert_int_equal(op.unread, 1);
}

static void mark_of_a_group_that_is_no_inbox_is_refused(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    rig_put(rig, "news", NULL, "x");
    assert_int_equal(rig_ack(rig, "news", 1).err, PEAL_EBAD_GROUP);
    assert_int_equal(rig_ack(rig, "unknown", 1).err, PEAL_EBAD_GROUP);
    assert_string_equal(rig_text_of(rig, "news"), "M1");
    assert_int_equal(rig_head(rig, "news").unread, 0);
}

static void rev_grows_by_one_with_each_change(void **state)
{
    struct rig *rig = *state;
    rig->groups[0].keep.until = PEAL_UNTIL_READ;
    rig_open(rig);
    assert_int_equal(rig_put(rig, "user:a", NULL, "x").rev, 1);
    assert_int_equal(rig_put(rig, "user:a", NULL, "x").rev, 2);
    assert_int_equal(rig_put(rig, "user:b", NULL, "x").rev, 1);
    assert_int_equal(rig_ack(rig, "user:a", 2).rev, 3); /* two bits, one change */
    assert_int_equal(rig_mark(rig, "user:a", PEAL_FLAG_READ, 1).rev, 4);
    assert_int_equal(rig_ack(rig, "user:a", 2).rev, 4);
    assert_int_equal(rig_head(rig, "user:a").rev, 4);
    rig_reopen(rig);
    assert_int_equal(rig_head(rig, "user:a").rev, 4);
    assert_int_equal(rig_mark(rig, "user:a", PEAL_FLAG_READ, 2).rev, 5);
}

static void unread_that_shrinks_by_limits_changes_rev(void **state)
{
    struct rig *rig = *state;
    rig->groups[0].keep.messages = 2;
    rig_open(rig);
    put_many(rig, "user:a", 2);
    struct peal_store_op before = rig_head(rig, "user:a");
    struct peal_store_op put = rig_put(rig, "user:a", NULL, "x"); /* one comes, one goes */
    assert_int_equal(put.unread, 2);
    assert_true(put.rev > before.rev);
    rig_pass_until_first(rig, rig->groups[0].keep.age_ms, "user:a", 4);
    struct peal_store_op after = rig_head(rig, "user:a");
    assert_int_equal(after.unread, 0);
    assert_true(after.rev > put.rev);
}

static void marks_and_rev_survive_reopening(void **state)
{
    struct rig *rig = *state;
    rig->groups[0].keep.until = PEAL_UNTIL_READ;
    rig_open(rig);
    put_many(rig, "user:a", 5);
    rig_ack(rig, "user:a", 4);
    struct peal_store_op before = rig_mark_one(rig, "user:a", PEAL_FLAG_READ, 3);
    rig_reopen(rig);
    struct peal_store_op after = rig_head(rig, "user:a");
    assert_int_equal(after.unread, before.unread);
    assert_int_equal(after.rev, before.rev);
    assert_string_equal(rig_text_of(rig, "user:a"), "M1a M2a M3ar M4a M5");
}

static void devices_catch_up_from_their_own_positions(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    uint64_t epoch = rig_generation(rig);
    put_many(rig, "user:a", 4);
    rig_ack(rig, "user:a", 3); /* the phone has seen three; the laptop was away since 1 */
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", epoch, 1, 0, 0, 0}), "M2ar M3ar M4");
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", epoch, 3, 0, 0, 0}), "M4");
    /* A new device has no position: what nobody has acked. */
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", 0, 0, 0, 0, PEAL_FLAG_UNACKED}),
                        "S1-3 M4");
    rig_pass_until_first(rig, rig->groups[0].keep.settled_ms, "user:a", 4);
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", epoch, 1, 0, 0, 0}), "S2-3 M4");
}

int contract_marks(const struct contract_store *impl)
{
    const struct CMUnitTest tests[] = {
        CASE(ack_up_to_an_offset_counts_as_read_by_default),
        CASE(ack_until_read_leaves_unread),
        CASE(read_implies_ack),
        CASE(marks_of_single_offsets_leave_the_others),
        CASE(mark_of_all_takes_everything_up_to_now),
        CASE(mark_that_changes_nothing_leaves_rev),
        CASE(mark_outside_of_what_is_kept_is_ignored),
        CASE(mark_of_an_unknown_group_creates_nothing),
        CASE(mark_of_a_group_that_is_no_inbox_is_refused),
        CASE(rev_grows_by_one_with_each_change),
        CASE(unread_that_shrinks_by_limits_changes_rev),
        CASE(marks_and_rev_survive_reopening),
        CASE(devices_catch_up_from_their_own_positions),
    };
    return cmocka_run_group_tests_name("contract: marks", tests, NULL, NULL);
}

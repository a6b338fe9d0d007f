/* What is kept, for how long, and how it is told when it goes. */
#include <stdio.h>
#include <string.h>

#include "base/metrics.h"
#include "tests/contract/rig.h"
#include "tests/unit/unit.h"

static void put_many(struct rig *rig, const char *group, int count)
{
    for (int i = 0; i < count; i++)
        assert_int_equal(rig_put(rig, group, NULL, "x").err, PEAL_OK);
}

static struct peal_store_op put_keyed(struct rig *rig, const char *group, const char *id,
                                      const char *key)
{
    return rig_do(rig, rig_put_keyed_op(rig, &(struct message){group, id, "x", 0, 0}, key));
}

/* ---- count and bytes -------------------------------------------------------------------- */

static void count_limit_evicts_the_oldest_and_tells_it(void **state)
{
    struct rig *rig = *state;
    rig->groups[0].keep.messages = 3;
    rig_open(rig);
    int64_t evicted = peal_metrics_sum(PEAL_M_EVICTED);
    int64_t settled = peal_metrics_sum(PEAL_M_SETTLED);
    put_many(rig, "user:a", 4);
    rig_ack(rig, "user:a", 2);
    struct peal_store_op op = rig_put(rig, "user:a", NULL, "x"); /* 2 was acked */
    assert_int_equal(op.first, 3);
    assert_int_equal(op.unread, 3);
    assert_int_equal(peal_metrics_sum(PEAL_M_EVICTED) - evicted, 1);
    assert_int_equal(peal_metrics_sum(PEAL_M_SETTLED) - settled, 1);
    assert_string_equal(rig_text_of(rig, "user:a"), "Gevicted:1-1 S2-2 M3 M4 M5");
}

static void count_limit_takes_the_oldest_whatever_its_marks(void **state)
{
    struct rig *rig = *state;
    rig->groups[0].keep.messages = 3;
    rig_open(rig);
    put_many(rig, "user:a", 3);
    rig_mark_one(rig, "user:a", PEAL_FLAG_ACK, 2);
    assert_int_equal(rig_put(rig, "user:a", NULL, "x").first, 2);
    assert_string_equal(rig_text_of(rig, "user:a"), "Gevicted:1-1 M2ar M3 M4");
    assert_int_equal(rig_put(rig, "user:a", NULL, "x").first, 3);
    assert_string_equal(rig_text_of(rig, "user:a"), "Gevicted:1-1 S2-2 M3 M4 M5");
}

static void byte_limit_evicts_the_oldest(void **state)
{
    struct rig *rig = *state;
    rig->groups[1].keep.bytes = 3500;
    rig_open(rig);
    for (int i = 0; i < 5; i++)
        rig_put_sized(rig, "news", 1000, 0);
    assert_string_equal(rig_text_of(rig, "news"), "Gevicted:1-2 M3 M4 M5");
    /* One large message takes the place of several. */
    assert_int_equal(rig_put_sized(rig, "news", 2300, 0).first, 5);
    assert_string_equal(rig_text_of(rig, "news"), "Gevicted:1-4 M5 M6");
}

static void single_message_above_the_byte_limit_is_kept(void **state)
{
    struct rig *rig = *state;
    rig->groups[0].keep.bytes = 1000;
    rig_open(rig);
    put_many(rig, "user:a", 2);
    assert_int_equal(rig_put_sized(rig, "user:a", 5000, 0).first, 3);
    assert_string_equal(rig_text_of(rig, "user:a"), "Gevicted:1-2 M3");
    rig_pass(rig, 2000);
    assert_int_equal(rig_head(rig, "user:a").first, 3);
    assert_int_equal(rig_put(rig, "user:a", NULL, "x").first, 4);
}

static void limits_are_those_of_the_policy_of_the_operation(void **state)
{
    struct rig *rig = *state;
    rig->groups[1].keep.messages = 2;
    rig_open(rig);
    put_many(rig, "user:a", 5);
    put_many(rig, "news", 5);
    assert_int_equal(rig_head(rig, "user:a").first, 1);
    assert_int_equal(rig_head(rig, "news").first, 4);
}

/* The bitmaps of a group have room for so many, whatever the policy says. */
static void window_of_offsets_is_limited(void **state)
{
    struct rig *rig = *state;
    enum { COUNT = PEAL_INBOX_MESSAGES_MAX + 10 };
    rig->groups[0].keep.messages = 1000000;
    rig->groups[0].keep.bytes = 1 << 30;
    rig_open(rig);
    uint64_t done = 0;
    for (uint64_t sent = 0; done < COUNT;) {
        for (; sent < COUNT && sent < done + 4000; sent++)
            rig_submit(rig, rig_put_op(rig, &(struct message){"user:a", NULL, "x", 0, 0}));
        struct peal_store_op *op = rig_wait(&rig->done);
        assert_int_equal(op->offset, ++done);
        peal_store_op_free(op);
    }
    struct peal_store_op head = rig_head(rig, "user:a");
    assert_int_equal(head.first, COUNT - PEAL_INBOX_MESSAGES_MAX + 1);
    assert_int_equal(head.unread, PEAL_INBOX_MESSAGES_MAX);
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", 0, 0, 1, 0, 0}), "Gevicted:1-10 M11");
}

static void lowered_limit_is_kept_after_reopening(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    put_many(rig, "user:a", 10);
    rig_close(rig);
    rig->groups[0].keep.messages = 4;
    rig_open(rig);
    rig_pass_until_first(rig, 2000, "user:a", 7);
    assert_string_equal(rig_text_of(rig, "user:a"), "Gevicted:1-6 M7 M8 M9 M10");
    assert_int_equal(rig_head(rig, "user:a").unread, 4);
}

/* ---- settled ---------------------------------------------------------------------------- */

static void settled_messages_go_an_hour_after_the_last_mark(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    put_many(rig, "user:a", 4);
    rig_ack(rig, "user:a", 2);
    rig_pass(rig, HOUR_MS - 1);
    rig_ack(rig, "user:a", 3);
    rig_pass(rig, HOUR_MS - 1);
    assert_string_equal(rig_text_of(rig, "user:a"), "M1ar M2ar M3ar M4");
    int64_t settled = peal_metrics_sum(PEAL_M_SETTLED);
    rig_pass_until_first(rig, 1, "user:a", 4);
    assert_string_equal(rig_text_of(rig, "user:a"), "S1-3 M4");
    assert_int_equal(peal_metrics_sum(PEAL_M_SETTLED) - settled, 3);
    assert_int_equal(rig_head(rig, "user:a").unread, 1);
}

static void acked_messages_stay_until_read_where_the_policy_says_so(void **state)
{
    struct rig *rig = *state;
    rig->groups[0].keep.until = PEAL_UNTIL_READ;
    rig_open(rig);
    put_many(rig, "user:a", 3);
    rig_ack(rig, "user:a", 3);
    rig_pass(rig, 2 * HOUR_MS);
    assert_string_equal(rig_text_of(rig, "user:a"), "M1a M2a M3a");
    rig_mark(rig, "user:a", PEAL_FLAG_READ, 2);
    rig_pass_until_first(rig, HOUR_MS, "user:a", 3);
    assert_string_equal(rig_text_of(rig, "user:a"), "S1-2 M3a");
}

static void settled_messages_go_at_once_when_kept_for_no_time(void **state)
{
    struct rig *rig = *state;
    rig->groups[0].keep.settled_ms = 0;
    rig_open(rig);
    put_many(rig, "user:a", 4);
    struct peal_store_op op = rig_ack(rig, "user:a", 3);
    assert_int_equal(op.unread, 1);
    rig_pass_until_first(rig, 0, "user:a", 4);
    assert_string_equal(rig_text_of(rig, "user:a"), "S1-3 M4");
    op = rig_ack(rig, "user:a", 4);
    rig_pass_until_first(rig, 0, "user:a", 5);
    assert_string_equal(rig_text_of(rig, "user:a"), "S1-4");
    assert_int_equal(rig_put(rig, "user:a", NULL, "x").offset, 5);
}

static void settled_message_behind_an_unsettled_one_goes_too(void **state)
{
    struct rig *rig = *state;
    case_needs(rig, CONTRACT_SETTLED_BEHIND);
    rig->groups[0].keep.messages = 4;
    rig_open(rig);
    put_many(rig, "user:a", 4);
    for (uint64_t offset = 2; offset <= 4; offset++)
        rig_mark_one(rig, "user:a", PEAL_FLAG_ACK, offset);
    rig_pass(rig, HOUR_MS);
    for (int i = 0; i < 5; i++)
        rig_pass(rig, 1001);
    assert_string_equal(rig_text_of(rig, "user:a"), "M1 S2-4");
    /* And takes no room: the only one that nobody has seen is not evicted for it. */
    assert_int_equal(rig_put(rig, "user:a", NULL, "x").first, 1);
}

/* ---- age and TTL ------------------------------------------------------------------------ */

static void old_messages_go_by_themselves_and_count_as_lost(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    rig_put(rig, "news", NULL, "x");
    rig_put(rig, "user:a", NULL, "x");
    rig_pass(rig, 20 * HOUR_MS);
    rig_put(rig, "user:a", NULL, "y");
    int64_t expired = peal_metrics_sum(PEAL_M_EXPIRED);
    uint64_t rev = rig_head(rig, "user:a").rev;
    rig_pass_until_first(rig, 4 * HOUR_MS, "user:a", 2);
    rig_pass_until_first(rig, 0, "news", 2);
    assert_string_equal(rig_text_of(rig, "news"), "Gevicted:1-1");
    assert_string_equal(rig_text_of(rig, "user:a"), "Gevicted:1-1 M2");
    assert_int_equal(peal_metrics_sum(PEAL_M_EXPIRED) - expired, 2);
    struct peal_store_op head = rig_head(rig, "user:a");
    assert_int_equal(head.unread, 1);
    assert_int_equal(head.rev, rev + 1);
    head = rig_head(rig, "news");
    assert_int_equal(head.first, 2); /* none left: newest + 1 */
    assert_int_equal(head.offset, 1);
    assert_int_equal(rig_put(rig, "news", NULL, "x").offset, 2);
}

static void old_messages_that_were_settled_are_not_lost(void **state)
{
    struct rig *rig = *state;
    rig->groups[0].keep.settled_ms = 48 * HOUR_MS;
    rig_open(rig);
    put_many(rig, "user:a", 3);
    rig_ack(rig, "user:a", 2);
    rig_pass_until_first(rig, 24 * HOUR_MS, "user:a", 4);
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", 0, 2, 0, 0, 0}), "Gevicted:3-3");
    put_many(rig, "user:a", 2);
    rig_ack(rig, "user:a", 5);
    rig_pass_until_first(rig, 24 * HOUR_MS, "user:a", 6);
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", 0, 3, 0, 0, 0}), "S4-5");
}

static void expired_message_leaves_a_hole_that_is_a_skip(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    rig_put(rig, "user:a", NULL, "1");
    rig_put_sized(rig, "user:a", 10, 5000);
    rig_put_sized(rig, "user:a", 10, 5000);
    rig_put(rig, "user:a", NULL, "4");
    assert_int_equal(rig_head(rig, "user:a").unread, 4);
    rig_clock(rig, 4999);
    rig_head(rig, "user:nobody");
    assert_string_equal(rig_text_of(rig, "user:a"), "M1 M2 M3 M4");
    rig_clock(rig, 1);
    rig_head(rig, "user:nobody"); /* from here on the store knows what time it is */
    assert_string_equal(rig_text_of(rig, "user:a"), "M1 S2-3 M4");
    rig_pass(rig, 1001);
    assert_string_equal(rig_text_of(rig, "user:a"), "M1 S2-3 M4");
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", 0, 0, 0, 0, PEAL_FLAG_REVERSE}),
                        "M4 M1");
    assert_int_equal(rig_head(rig, "user:a").unread, 2);
    assert_int_equal(rig_head(rig, "user:a").first, 1);
    rig_reopen(rig);
    assert_string_equal(rig_text_of(rig, "user:a"), "M1 S2-3 M4");
}

static void expired_messages_at_the_begin_are_skips_and_not_lost(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    rig_put_sized(rig, "user:a", 10, 5000);
    rig_put_sized(rig, "news", 10, 5000);
    rig_put_sized(rig, "user:a", 10, 5000);
    rig_put(rig, "user:a", NULL, "3");
    rig_pass_until_first(rig, 5000, "user:a", 3);
    rig_pass_until_first(rig, 0, "news", 2);
    assert_string_equal(rig_text_of(rig, "user:a"), "S1-2 M3");
    assert_string_equal(rig_text_of(rig, "news"), "S1-1");
    assert_int_equal(rig_head(rig, "user:a").unread, 1);
}

static void message_without_ttl_does_not_expire(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    put_many(rig, "user:a", 2);
    rig_pass(rig, 23 * HOUR_MS);
    assert_string_equal(rig_text_of(rig, "user:a"), "M1 M2");
    /* One that never ends, in sum with the time: no overflow. */
    rig_put_sized(rig, "user:b", 10, UINT64_MAX);
    rig_pass(rig, 2000);
    assert_string_equal(rig_text_of(rig, "user:b"), "M1");
}

static void jump_of_the_wall_clock_expires_nothing(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    rig_put(rig, "user:a", NULL, "x");
    rig_put_sized(rig, "user:a", 10, 60000);
    atomic_store(&rig->wall_ahead_ms, 10ULL * 365 * 24 * HOUR_MS);
    rig_pass(rig, 2000);
    assert_string_equal(rig_text_of(rig, "user:a"), "M1 M2");
    rig_pass(rig, 60000); /* time that really passes still counts */
    assert_string_equal(rig_text_of(rig, "user:a"), "M1 S2-2");
}

/* ---- collapse --------------------------------------------------------------------------- */

static void newer_message_of_a_key_replaces_the_older_one(void **state)
{
    struct rig *rig = *state;
    case_needs(rig, CONTRACT_COLLAPSE);
    rig_open(rig);
    put_keyed(rig, "user:a", NULL, "score");
    rig_put(rig, "user:a", NULL, "x");
    struct peal_store_op before = put_keyed(rig, "user:a", NULL, "other");
    struct peal_store_op op = put_keyed(rig, "user:a", NULL, "score");
    assert_int_equal(op.offset, 4);
    assert_int_equal(op.first, 2);
    assert_int_equal(op.unread, 3);
    assert_true(op.rev > before.rev);
    assert_string_equal(rig_text_of(rig, "user:a"), "S1-1 M2 M3 M4");
    put_keyed(rig, "user:a", NULL, "other");
    assert_string_equal(rig_text_of(rig, "user:a"), "S1-1 M2 S3-3 M4 M5");
    rig_reopen(rig);
    put_keyed(rig, "user:a", NULL, "score");
    assert_string_equal(rig_text_of(rig, "user:a"), "S1-1 M2 S3-4 M5 M6");
}

static void message_that_was_read_is_replaced_too(void **state)
{
    struct rig *rig = *state;
    case_needs(rig, CONTRACT_COLLAPSE);
    rig->groups[0].keep.until = PEAL_UNTIL_READ;
    rig_open(rig);
    put_keyed(rig, "user:a", NULL, "score");
    put_keyed(rig, "user:b", NULL, "score"); /* another group: another key */
    rig_mark(rig, "user:a", PEAL_FLAG_READ, 1);
    rig_mark(rig, "user:b", PEAL_FLAG_ACK, 1);
    put_keyed(rig, "user:a", NULL, "score");
    put_keyed(rig, "user:b", NULL, "score");
    assert_string_equal(rig_text_of(rig, "user:a"), "S1-1 M2");
    assert_string_equal(rig_text_of(rig, "user:b"), "S1-1 M2"); /* acked, but not read */
    assert_int_equal(rig_head(rig, "user:a").unread, 1);
    assert_int_equal(rig_head(rig, "user:b").unread, 1);
}

static void replaced_message_makes_room(void **state)
{
    struct rig *rig = *state;
    case_needs(rig, CONTRACT_COLLAPSE);
    rig->groups[1].keep.messages = 3;
    rig_open(rig);
    rig_put(rig, "news", NULL, "x");
    put_keyed(rig, "news", NULL, "score");
    rig_put(rig, "news", NULL, "x");
    assert_int_equal(put_keyed(rig, "news", NULL, "score").first, 1);
    assert_string_equal(rig_text_of(rig, "news"), "M1 S2-2 M3 M4");
}

static void retry_of_a_replaced_message_is_a_duplicate(void **state)
{
    struct rig *rig = *state;
    case_needs(rig, CONTRACT_COLLAPSE);
    rig_open(rig);
    put_keyed(rig, "user:a", "first", "score");
    put_keyed(rig, "user:a", "second", "score");
    struct peal_store_op op = put_keyed(rig, "user:a", "first", "score");
    assert_true(op.duplicate);
    assert_int_equal(op.offset, 1);
    assert_string_equal(rig_text_of(rig, "user:a"), "S1-1 M2"); /* the older one replaces nothing */
}

/* ---- counters --------------------------------------------------------------------------- */

static int64_t messages_not_accounted_for(void)
{
    return peal_metrics_sum(PEAL_M_FOUND) + peal_metrics_sum(PEAL_M_STORED) -
           peal_metrics_sum(PEAL_M_SETTLED) - peal_metrics_sum(PEAL_M_EXPIRED) -
           peal_metrics_sum(PEAL_M_EVICTED) - peal_metrics_sum(PEAL_M_COLLAPSED) -
           peal_metrics_sum(PEAL_M_DAMAGED) - peal_metrics_sum(PEAL_M_PRESENT);
}

static void messages_add_up_also_after_reopening(void **state)
{
    struct rig *rig = *state;
    rig->groups[0].keep.messages = 3;
    rig_open(rig);
    int64_t before = messages_not_accounted_for();
    int64_t present = peal_metrics_sum(PEAL_M_PRESENT);
    put_many(rig, "user:a", 5);
    rig_put(rig, "news", "id", "x");
    rig_put(rig, "news", "id", "x");
    assert_int_equal(peal_metrics_sum(PEAL_M_PRESENT) - present, 4);
    assert_int_equal(messages_not_accounted_for(), before);

    int64_t found = peal_metrics_sum(PEAL_M_FOUND);
    rig_reopen(rig);
    rig_ack(rig, "user:a", 5);
    rig_put(rig, "user:a", NULL, "x"); /* takes the place of one that is settled */
    assert_int_equal(peal_metrics_sum(PEAL_M_FOUND) - found, 4);
    assert_int_equal(messages_not_accounted_for(), before);
}

int contract_keep(const struct contract_store *impl)
{
    const struct CMUnitTest tests[] = {
        CASE(count_limit_evicts_the_oldest_and_tells_it),
        CASE(count_limit_takes_the_oldest_whatever_its_marks),
        CASE(byte_limit_evicts_the_oldest),
        CASE(single_message_above_the_byte_limit_is_kept),
        CASE(limits_are_those_of_the_policy_of_the_operation),
        CASE(window_of_offsets_is_limited),
        CASE(lowered_limit_is_kept_after_reopening),
        CASE(settled_messages_go_an_hour_after_the_last_mark),
        CASE(acked_messages_stay_until_read_where_the_policy_says_so),
        CASE(settled_messages_go_at_once_when_kept_for_no_time),
        CASE(settled_message_behind_an_unsettled_one_goes_too),
        CASE(old_messages_go_by_themselves_and_count_as_lost),
        CASE(old_messages_that_were_settled_are_not_lost),
        CASE(expired_message_leaves_a_hole_that_is_a_skip),
        CASE(expired_messages_at_the_begin_are_skips_and_not_lost),
        CASE(message_without_ttl_does_not_expire),
        CASE(jump_of_the_wall_clock_expires_nothing),
        CASE(newer_message_of_a_key_replaces_the_older_one),
        CASE(message_that_was_read_is_replaced_too),
        CASE(replaced_message_makes_room),
        CASE(retry_of_a_replaced_message_is_a_duplicate),
        CASE(messages_add_up_also_after_reopening),
    };
    return cmocka_run_group_tests_name("contract: keep", tests, NULL, NULL);
}

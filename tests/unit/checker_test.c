/* Histories made by hand: right ones that the checker of the model must accept, and wrong ones,
 * each with one broken promise, that it must refuse with the right sentence. */
#include <string.h>

#include "tests/model/checker.h"
#include "tests/unit/unit.h"

enum { LIVE, HISTORY, STORED, EPOCH = 7, NEXT = 8 };

static int set_up(void **state)
{
    static struct checker c;
    checker_init(&c);
    checker_add_group(&c, "live", CHECKER_LIVE);
    checker_add_group(&c, "history", CHECKER_HISTORY);
    checker_add_group(&c, "stored", CHECKER_STORED);
    for (int g = LIVE; g <= STORED; g++)
        for (uint64_t value = 1; value <= 5; value++)
            checker_on_publish(&c, g, 1, (uint64_t)g * 10 + value);
    for (int client = 0; client < 2; client++)
        for (int g = LIVE; g <= STORED; g++)
            checker_on_joined(&c, client, g, EPOCH, 0, CHECKER_NEW);
    *state = &c;
    return 0;
}

static int tear_down(void **state)
{
    checker_fini(*state);
    return 0;
}

static void accepted(const struct checker *c)
{
    if (c->failed) fail_msg("refused: %s", c->why);
}

static void refused(const struct checker *c, const char *part)
{
    if (!c->failed) fail_msg("accepted, but should be refused with: %s", part);
    if (strstr(c->why, part) == NULL) fail_msg("refused with: %s, not with: %s", c->why, part);
}

/* All five of a group, to both clients, in order. */
static void tell_all(struct checker *c, int g)
{
    for (int client = 0; client < 2; client++)
        for (uint64_t offset = 1; offset <= 5; offset++)
            checker_on_message(c, client, g, offset, (uint64_t)g * 10 + offset);
}

static void checker_complete_streams_are_accepted(void **state)
{
    struct checker *c = *state;
    for (int g = LIVE; g <= STORED; g++) {
        tell_all(c, g);
        for (uint64_t offset = 1; offset <= 5; offset++)
            checker_on_ack(c, g, (uint64_t)g * 10 + offset, EPOCH, offset, g == STORED);
    }
    for (uint64_t offset = 1; offset <= 5; offset++)
        checker_on_kept(c, STORED, EPOCH, offset, STORED * 10 + offset);
    for (int g = LIVE; g <= STORED; g++)
        checker_at_end(c, g, EPOCH, 5);
    accepted(c);
    assert_int_equal(c->messages, 30);
}

static void checker_announced_loss_is_accepted(void **state)
{
    struct checker *c = *state;
    checker_on_message(c, 0, HISTORY, 1, 11);
    checker_on_gap(c, 0, HISTORY, EPOCH, 2, 3);
    checker_on_message(c, 0, HISTORY, 4, 14);
    checker_on_gap(c, 0, HISTORY, NEXT, 0, 0);
    checker_on_message(c, 0, HISTORY, 1, 15);
    accepted(c);
    assert_int_equal(c->gaps, 2);
}

static void checker_hole_is_refused(void **state)
{
    struct checker *c = *state;
    checker_on_message(c, 0, HISTORY, 1, 11);
    checker_on_message(c, 0, HISTORY, 3, 13);
    refused(c, "client 0 got history 3 after 7/1");
}

static void checker_repetition_is_refused(void **state)
{
    struct checker *c = *state;
    checker_on_message(c, 0, HISTORY, 1, 11);
    checker_on_message(c, 0, HISTORY, 1, 11);
    refused(c, "client 0 got history 1 after 7/1");
}

static void checker_message_to_nobody_is_refused(void **state)
{
    struct checker *c = *state;
    checker_on_left(c, 0, HISTORY);
    checker_on_message(c, 0, HISTORY, 1, 11);
    refused(c, "(never joined)");
}

static void checker_two_orders_are_refused(void **state)
{
    struct checker *c = *state;
    checker_on_message(c, 0, LIVE, 1, 1);
    checker_on_message(c, 1, LIVE, 1, 2);
    refused(c, "live 7/1 is 1 for one and 2 for another");
}

static void checker_ack_of_another_position_is_refused(void **state)
{
    struct checker *c = *state;
    checker_on_message(c, 0, LIVE, 1, 1);
    checker_on_ack(c, LIVE, 1, EPOCH, 2, false);
    refused(c, "live: 1 is at 7/1 and again at 7/2");
}

static void checker_invented_message_is_refused(void **state)
{
    struct checker *c = *state;
    checker_on_message(c, 0, LIVE, 1, 99);
    refused(c, "never published");
}

static void checker_message_of_another_group_is_refused(void **state)
{
    struct checker *c = *state;
    checker_on_message(c, 0, LIVE, 1, 11);
    refused(c, "never published there");
}

static void checker_retry_that_is_delivered_twice_is_refused(void **state)
{
    struct checker *c = *state;
    checker_on_publish(c, HISTORY, 1, 11);
    checker_on_message(c, 0, HISTORY, 1, 11);
    checker_on_message(c, 0, HISTORY, 2, 11);
    refused(c, "history: 11 is at 7/1 and again at 7/2");
}

static void checker_retry_across_epochs_is_refused_only_where_it_is_stored(void **state)
{
    struct checker *c = *state;
    checker_on_message(c, 0, HISTORY, 1, 11);
    checker_on_gap(c, 0, HISTORY, NEXT, 0, 0);
    checker_on_message(c, 0, HISTORY, 1, 11); /* the router forgot, which it may */
    accepted(c);
    checker_on_ack(c, STORED, 21, EPOCH, 1, true);
    checker_on_ack(c, STORED, 21, NEXT, 1, true);
    refused(c, "stored: 21 is at 7/1 and again at 8/1");
}

static void checker_gap_that_goes_back_is_refused(void **state)
{
    struct checker *c = *state;
    checker_on_message(c, 0, LIVE, 1, 1);
    checker_on_gap(c, 0, LIVE, EPOCH, 1, 1);
    refused(c, "gap in live: 1..1 after 7/1");
}

static void checker_gap_that_leaves_something_out_is_refused(void **state)
{
    struct checker *c = *state;
    checker_on_gap(c, 0, LIVE, EPOCH, 3, 4);
    refused(c, "gap in live: 3..4 after 7/0");
}

static void checker_gap_in_a_stored_group_is_refused(void **state)
{
    struct checker *c = *state;
    checker_on_gap(c, 0, STORED, EPOCH, 1, 2);
    refused(c, "got a gap in stored");
}

static void checker_new_epoch_of_a_stored_group_needs_a_restore(void **state)
{
    struct checker *c = *state;
    checker_on_restored(c, STORED, NEXT);
    checker_on_gap(c, 0, STORED, NEXT, 1, 0);
    checker_on_message(c, 0, STORED, 1, 21);
    accepted(c);
    checker_on_gap(c, 1, STORED, 9, 1, 0);
    refused(c, "client 1 got a gap in stored: 9/1..0");
}

static void checker_skip_of_what_nobody_settled_is_refused(void **state)
{
    struct checker *c = *state;
    checker_on_settled(c, STORED, EPOCH, 1);
    checker_on_skip(c, 0, STORED, 1, 1);
    accepted(c);
    checker_on_skip(c, 0, STORED, 2, 2);
    refused(c, "skip in stored: 7/2, which was not settled");
}

static void checker_resume_elsewhere_is_refused(void **state)
{
    struct checker *c = *state;
    checker_on_message(c, 0, HISTORY, 1, 11);
    checker_on_joined(c, 0, HISTORY, EPOCH, 1, CHECKER_FULL);
    accepted(c);
    checker_on_joined(c, 0, HISTORY, EPOCH, 3, CHECKER_FULL);
    refused(c, "client 0 resumed history at 7/3, and was at 7/1");
}

static void checker_publish_after_joined_with_an_older_offset_is_refused(void **state)
{
    struct checker *c = *state;
    checker_on_joined(c, 0, LIVE, EPOCH, 3, CHECKER_NEW);
    checker_on_ack(c, LIVE, 3, EPOCH, 3, false); /* published before */
    accepted(c);
    checker_on_publish(c, LIVE, 2, 40);
    checker_on_ack(c, LIVE, 40, EPOCH, 2, false);
    refused(c, "40 was published after client 0 had joined at 7/3");
}

static void checker_member_who_is_behind_in_the_end_is_refused(void **state)
{
    struct checker *c = *state;
    tell_all(c, LIVE);
    checker_on_left(c, 1, LIVE);
    checker_at_end(c, LIVE, EPOCH, 5);
    accepted(c);
    checker_at_end(c, LIVE, EPOCH, 6);
    refused(c, "client 0 is at 7/5 of live in the end, the group at 7/6");
}

static void checker_publisher_whose_messages_change_places_is_refused(void **state)
{
    struct checker *c = *state;
    for (int client = 0; client < 2; client++) {
        checker_on_message(c, client, LIVE, 1, 2);
        checker_on_message(c, client, LIVE, 2, 1);
    }
    accepted(c); /* so far only the order between publishers would be known */
    checker_at_end(c, LIVE, EPOCH, 2);
    refused(c, "live 7/2: 1 of publisher 1 comes after 2");
}

static void checker_stored_message_that_is_gone_is_refused(void **state)
{
    struct checker *c = *state;
    checker_on_left(c, 0, STORED);
    checker_on_left(c, 1, STORED);
    checker_on_ack(c, STORED, 21, EPOCH, 1, true);
    checker_on_ack(c, STORED, 22, EPOCH, 2, true);
    checker_on_kept(c, STORED, EPOCH, 1, 21);
    checker_at_end(c, STORED, EPOCH, 1);
    refused(c, "stored 7/2: 22 was acknowledged as stored, and is gone");
}

static void checker_stored_that_is_only_routed_is_refused(void **state)
{
    struct checker *c = *state;
    checker_on_ack(c, STORED, 21, EPOCH, 1, false);
    refused(c, "acknowledged as routed");
}

static void checker_counts_that_differ_are_refused(void **state)
{
    struct checker *c = *state;
    checker_on_unread(c, 0, STORED, 2, 1);
    checker_on_unread(c, 0, STORED, 1, 2);
    checker_on_unread(c, 1, STORED, 2, 1);
    accepted(c);
    checker_on_unread(c, 1, STORED, 2, 2);
    refused(c, "at rev 2 1 are unread for one and 2 for another");
}

static void checker_count_unlike_the_recount_is_refused(void **state)
{
    struct checker *c = *state;
    checker_on_unread(c, 0, STORED, 2, 1);
    checker_on_left(c, 1, STORED);
    checker_at_end_unread(c, STORED, EPOCH, 2);
    accepted(c);
    checker_at_end_unread(c, STORED, EPOCH, 3);
    refused(c, "client 0 knows of 2 unread in stored, there are 3");
}

static void checker_first_broken_promise_is_the_one_that_is_told(void **state)
{
    struct checker *c = *state;
    checker_fail(c, "the first");
    checker_fail(c, "the second");
    refused(c, "the first");
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(checker_complete_streams_are_accepted),
        CASE(checker_announced_loss_is_accepted),
        CASE(checker_hole_is_refused),
        CASE(checker_repetition_is_refused),
        CASE(checker_message_to_nobody_is_refused),
        CASE(checker_two_orders_are_refused),
        CASE(checker_ack_of_another_position_is_refused),
        CASE(checker_invented_message_is_refused),
        CASE(checker_message_of_another_group_is_refused),
        CASE(checker_retry_that_is_delivered_twice_is_refused),
        CASE(checker_retry_across_epochs_is_refused_only_where_it_is_stored),
        CASE(checker_gap_that_goes_back_is_refused),
        CASE(checker_gap_that_leaves_something_out_is_refused),
        CASE(checker_gap_in_a_stored_group_is_refused),
        CASE(checker_new_epoch_of_a_stored_group_needs_a_restore),
        CASE(checker_skip_of_what_nobody_settled_is_refused),
        CASE(checker_resume_elsewhere_is_refused),
        CASE(checker_publish_after_joined_with_an_older_offset_is_refused),
        CASE(checker_member_who_is_behind_in_the_end_is_refused),
        CASE(checker_publisher_whose_messages_change_places_is_refused),
        CASE(checker_stored_message_that_is_gone_is_refused),
        CASE(checker_stored_that_is_only_routed_is_refused),
        CASE(checker_counts_that_differ_are_refused),
        CASE(checker_count_unlike_the_recount_is_refused),
        CASE(checker_first_broken_promise_is_the_one_that_is_told),
    };
    return cmocka_run_group_tests_name("checker", tests, NULL, NULL);
}

#include "node/acks.h"

#include "tests/unit/room_rig.h"

/* The router has the mark that was ordered last. */
static void confirm(struct world *w)
{
    const struct peal_frame *mark = rig_sent(w->rig);
    assert_int_equal(mark->type, PEAL_F_MARK);
    rig_letter(w->rig, peal_letter_failed(mark->req, PEAL_OK));
}

static void acks_are_joined_into_one_mark(void **state)
{
    struct world *w = *state;
    open_member(w, 40, PEAL_FLAG_KEEPS);
    struct peal_group *g = rig_group(w->rig, "room");
    peal_group_ack(g, 3);
    rig_pass(w->rig, PEAL_ACK_JOIN_MS - 10);
    peal_group_ack(g, 9);
    peal_group_ack(g, 5); /* an older one takes nothing back */
    assert_int_equal(w->rig->order_count, 0);
    rig_pass(w->rig, 10); /* counted from the first one */
    assert_int_equal(w->rig->order_count, 1);
    const struct peal_frame *mark = rig_sent(w->rig);
    assert_int_equal(mark->type, PEAL_F_MARK);
    assert_int_equal(mark->upto, 9);
    confirm(w);
    rig_pass(w->rig, 2000);
    assert_int_equal(w->rig->order_count, 1);
}

static void acks_not_confirmed_are_said_again(void **state)
{
    struct world *w = *state;
    open_member(w, 40, PEAL_FLAG_KEEPS);
    peal_group_ack(rig_group(w->rig, "room"), 3);
    rig_pass(w->rig, PEAL_ACK_JOIN_MS);
    rig_letter(w->rig, peal_letter_failed(rig_sent(w->rig)->req, PEAL_ENO_ROUTER));
    rig_pass(w->rig, 950);
    assert_int_equal(w->rig->order_count, 1);
    rig_pass(w->rig, 50);
    assert_int_equal(w->rig->order_count, 2);
    assert_int_equal(rig_sent(w->rig)->upto, 3);
    confirm(w);
    rig_pass(w->rig, 2000);
    assert_int_equal(w->rig->order_count, 2);
}

static void acks_made_while_one_is_under_way_follow_it(void **state)
{
    struct world *w = *state;
    open_member(w, 40, PEAL_FLAG_KEEPS);
    peal_group_ack(rig_group(w->rig, "room"), 3);
    rig_pass(w->rig, PEAL_ACK_JOIN_MS);
    peal_group_ack(rig_group(w->rig, "room"), 4);
    rig_pass(w->rig, PEAL_ACK_JOIN_MS);
    assert_int_equal(w->rig->order_count, 1);
    confirm(w);
    rig_pass(w->rig, PEAL_ACK_JOIN_MS);
    assert_int_equal(w->rig->order_count, 2);
    assert_int_equal(rig_sent(w->rig)->upto, 4);
}

static void acks_the_bus_has_no_room_for_are_sent_later(void **state)
{
    struct world *w = *state;
    open_member(w, 40, PEAL_FLAG_KEEPS);
    w->rig->bus_is_full = true;
    peal_group_ack(rig_group(w->rig, "room"), 3);
    rig_pass(w->rig, PEAL_ACK_JOIN_MS);
    w->rig->bus_is_full = false;
    rig_pass(w->rig, 1000);
    assert_int_equal(rig_sent(w->rig)->upto, 3);
}

static void acks_keep_their_group_until_they_are_confirmed(void **state)
{
    struct world *w = *state;
    open_member(w, 40, PEAL_FLAG_KEEPS);
    peal_group_ack(rig_group(w->rig, "room"), 3);
    peal_conn_fini(&w->conns[--w->count]);
    assert_non_null(rig_group(w->rig, "room"));
    rig_pass(w->rig, PEAL_ACK_JOIN_MS);
    assert_int_equal(w->rig->order_count, 1);
    confirm(w);
    assert_null(rig_group(w->rig, "room"));
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_LEAVE, 0), 1);
}

int main(void)
{
    peal_metrics_thread_start();
    const struct CMUnitTest tests[] = {
        TEST(acks_are_joined_into_one_mark),
        TEST(acks_not_confirmed_are_said_again),
        TEST(acks_made_while_one_is_under_way_follow_it),
        TEST(acks_the_bus_has_no_room_for_are_sent_later),
        TEST(acks_keep_their_group_until_they_are_confirmed),
    };
    return cmocka_run_group_tests_name("acks", tests, NULL, NULL);
}

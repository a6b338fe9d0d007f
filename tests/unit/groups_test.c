#include "node/groups.h"

#include "tests/unit/room_rig.h"

static void groups_second_member_does_not_ask_the_router(void **state)
{
    struct world *w = *state;
    open_member(w, 40, PEAL_FLAG_KEEPS);
    rig_message(w->rig, "room", EPOCH, 41, "true");
    struct peal_conn *second = open_native(w);
    rig_say(second, "{\"type\":\"join\",\"group\":\"room\"}");
    rig_expect_part(w->rig, second, "\"offset\":41,\"recovered\":\"new\"");
    assert_int_equal(w->rig->order_count, 0);
}

static void groups_join_that_is_refused_is_told_and_forgotten(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_native(w);
    rig_say(conn, "{\"type\":\"join\",\"group\":\"room\",\"id\":9}");
    struct peal_frame refused = {.type = PEAL_F_JOINED,
                                 .req = rig_group(w->rig, "room")->req,
                                 .group = peal_span_of("room"),
                                 .code = PEAL_ESTORE_FULL};
    rig_frame(w->rig, &refused);
    rig_expect_part(w->rig, conn, "\"id\":9,\"group\":\"room\",\"code\":\"store_full\"");
    assert_null(rig_group(w->rig, "room"));
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_LEAVE, 0), 1);
}

static void groups_join_the_bus_has_no_room_for_is_ordered_later(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_native(w);
    w->rig->bus_is_full = true;
    rig_say(conn, "{\"type\":\"join\",\"group\":\"room\"}");
    rig_pass(w->rig, 50);
    assert_int_equal(w->rig->order_count, 0);
    w->rig->bus_is_full = false;
    rig_pass(w->rig, 50);
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_JOIN, 0), 1);
    uint64_t req = rig_group(w->rig, "room")->req;
    rig_pass(w->rig, 5000); /* no answer: once more, and the older answer no longer counts */
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_JOIN, 0), 2);
    assert_true(rig_group(w->rig, "room")->req != req);
    struct peal_frame late = {
        .type = PEAL_F_JOINED, .req = req, .group = peal_span_of("room"), .epoch = 1};
    rig_frame(w->rig, &late);
    rig_expect_nothing(w->rig, conn);
    rig_joined(w->rig, "room", EPOCH, 4, 0);
    rig_expect_part(w->rig, conn, "\"epoch\":\"7\",\"offset\":4,\"recovered\":\"new\"");
}

static void groups_leave_the_bus_has_no_room_for_is_ordered_later(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 4, 0);
    w->rig->bus_is_full = true;
    rig_say(conn, "{\"type\":\"leave\",\"group\":\"room\"}");
    rig_expect_part(w->rig, conn, "\"left\"");
    rig_pass(w->rig, 50);
    assert_int_equal(w->rig->order_count, 0);
    rig_message(w->rig, "room", EPOCH, 5, "1"); /* the router knows nothing of it */
    rig_expect_nothing(w->rig, conn);
    w->rig->bus_is_full = false;
    rig_pass(w->rig, 50);
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_LEAVE, 0), 1);
    assert_null(rig_group(w->rig, "room"));
}

/* The group was never given up, so there is nothing to ask for. */
static void groups_join_while_the_leave_waits_is_live_at_once(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 4, 0);
    w->rig->bus_is_full = true;
    rig_say(conn, "{\"type\":\"leave\",\"group\":\"room\"}");
    rig_expect_part(w->rig, conn, "\"left\"");
    rig_say(conn, "{\"type\":\"join\",\"group\":\"room\"}");
    rig_expect_part(w->rig, conn, "\"offset\":4,\"recovered\":\"new\"");
    rig_message(w->rig, "room", EPOCH, 5, "1");
    expect_message(w, conn, 5, false);
    w->rig->bus_is_full = false;
    rig_pass(w->rig, 50);
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_LEAVE, 0), 0);
}

static void groups_message_is_rendered_once_for_all_of_a_dialect(void **state)
{
    struct world *w = *state;
    struct peal_conn *a = open_member(w, 1, PEAL_FLAG_KEEPS);
    struct peal_conn *b = open_member(w, 1, PEAL_FLAG_KEEPS);
    struct peal_conn *c = open_raw(w);
    struct peal_conn *d = open_raw(w);
    rig_message(w->rig, "room", EPOCH, 2, "true");
    struct iovec va;
    struct iovec vb;
    struct iovec vc;
    struct iovec vd;
    assert_int_equal(peal_outq_gather(&a->outq, &va, 1), 1);
    assert_int_equal(peal_outq_gather(&b->outq, &vb, 1), 1);
    assert_int_equal(peal_outq_gather(&c->outq, &vc, 1), 1);
    assert_int_equal(peal_outq_gather(&d->outq, &vd, 1), 1);
    assert_ptr_equal(va.iov_base, vb.iov_base);
    assert_ptr_equal(vc.iov_base, vd.iov_base);
    assert_ptr_not_equal(va.iov_base, vc.iov_base);
    /* Nobody holds the bytes but the two queues. */
    assert_int_equal(a->outq.one.run->refs, 2);
    assert_int_equal(c->outq.one.run->refs, 2);
}

static void groups_message_seen_before_is_dropped(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 5, PEAL_FLAG_KEEPS);
    rig_message(w->rig, "room", EPOCH, 5, "true");
    rig_message(w->rig, "room", EPOCH, 4, "true");
    rig_message(w->rig, "other", EPOCH, 6, "true");
    rig_expect_nothing(w->rig, conn);
    assert_int_equal(w->rig->order_count, 0);
}

static void groups_hole_fetches_from_the_last_message_before_it(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 40, PEAL_FLAG_KEEPS);
    rig_message(w->rig, "room", EPOCH, 43, "true"); /* 41 and 42 were lost */
    rig_expect_nothing(w->rig, conn);
    assert_int_equal(peal_member_state(member_of(conn)), PEAL_MEMBER_BEHIND);
    uint64_t req = fetch_req(w, EPOCH, 40);
    rig_message(w->rig, "room", EPOCH, 44, "true"); /* live, but not for who is behind */
    rig_expect_nothing(w->rig, conn);
    page(w, req, EPOCH, 40, 43, 0);
    for (uint64_t offset = 41; offset <= 43; offset++)
        expect_message(w, conn, offset, true);
    page(w, fetch_req(w, EPOCH, 43), EPOCH, 43, 44, 0);
    expect_message(w, conn, 44, true);
    assert_int_equal(peal_member_state(member_of(conn)), PEAL_MEMBER_LIVE);
}

static void groups_new_epoch_in_the_stream_fetches_from_the_old_position(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 40, PEAL_FLAG_KEEPS);
    rig_message(w->rig, "room", 8, 1, "true");
    page(w, fetch_req(w, EPOCH, 40), 8, 0, 1, 0);
    expect_message(w, conn, 1, true);
    assert_int_equal(peal_member_state(member_of(conn)), PEAL_MEMBER_LIVE);
    assert_int_equal(rig_group(w->rig, "room")->epoch, 8);
}

static void groups_position_told_after_a_sync_fetches_what_was_missed(void **state)
{
    struct world *w = *state;
    open_member(w, 40, PEAL_FLAG_KEEPS);
    struct peal_frame at = {.type = PEAL_F_AT,
                            .group = peal_span_of("room"),
                            .epoch = EPOCH,
                            .offset = 40,
                            .flags = PEAL_FLAG_KEEPS};
    rig_frame(w->rig, &at);
    assert_int_equal(w->rig->order_count, 0);
    at.offset = 42;
    rig_frame(w->rig, &at);
    fetch_req(w, EPOCH, 40);
}

static void groups_lost_letters_ask_for_every_group_again(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 40, PEAL_FLAG_KEEPS);
    rig_say(conn, "{\"type\":\"join\",\"group\":\"other\"}");
    rig_joined(w->rig, "other", EPOCH, 1, 0);
    rig_expect_part(w->rig, conn, "\"joined\"");
    rig_forget(w->rig);
    rig_letter(w->rig, peal_letter_note(PEAL_LETTER_LOST, false));
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_JOIN, 0), 2);
    assert_false(peal_span_equal(w->rig->orders[0]->group, w->rig->orders[1]->group));
    /* One of them was among the lost. */
    rig_joined(w->rig, "other", EPOCH, 1, 0);
    assert_int_equal(w->rig->order_count, 2);
    rig_joined(w->rig, "room", EPOCH, 41, PEAL_FLAG_KEEPS);
    page(w, fetch_req(w, EPOCH, 40), EPOCH, 40, 41, 0);
    expect_message(w, conn, 41, true); /* and no second joined */
}

int main(void)
{
    peal_metrics_thread_start();
    const struct CMUnitTest tests[] = {
        TEST(groups_second_member_does_not_ask_the_router),
        TEST(groups_join_that_is_refused_is_told_and_forgotten),
        TEST(groups_join_the_bus_has_no_room_for_is_ordered_later),
        TEST(groups_leave_the_bus_has_no_room_for_is_ordered_later),
        TEST(groups_join_while_the_leave_waits_is_live_at_once),
        TEST(groups_message_is_rendered_once_for_all_of_a_dialect),
        TEST(groups_message_seen_before_is_dropped),
        TEST(groups_hole_fetches_from_the_last_message_before_it),
        TEST(groups_new_epoch_in_the_stream_fetches_from_the_old_position),
        TEST(groups_position_told_after_a_sync_fetches_what_was_missed),
        TEST(groups_lost_letters_ask_for_every_group_again),
    };
    return cmocka_run_group_tests_name("groups", tests, NULL, NULL);
}

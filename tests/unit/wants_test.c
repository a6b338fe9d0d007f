#include "node/wants.h"

#include "base/metrics.h"
#include "tests/unit/uplink_rig.h"

static void wants_second_worker_joins_without_asking_the_router(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    order(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "room");
    assert_int_equal(last_sent(w)->type, PEAL_F_JOIN);
    joined(w, 1, req_of(0, 1), "room", 7, 40);
    message(w, 2, "room", 7, 41);
    forget(w);

    order(w, PEAL_ORDER_JOIN, 1, req_of(1, 1), "room");
    assert_int_equal(w->sent_count, 0);
    assert_int_equal(w->posted_count[1], 1);
    assert_int_equal(w->posted[1][0]->frame.type, PEAL_F_JOINED);
    assert_int_equal(w->posted[1][0]->frame.epoch, 7);
    assert_int_equal(w->posted[1][0]->frame.offset, 41);
    /* and from then on it gets the messages as well */
    message(w, 3, "room", 7, 42);
    assert_int_equal(w->posted_count[0], 1);
    assert_int_equal(w->posted_count[1], 2);
    assert_int_equal(w->posted[0][0]->env.offset, 42);
    assert_int_equal(w->posted[1][1]->env.offset, 42);
}

static void wants_every_join_of_an_inbox_asks_the_router(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    order(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "user:bob");
    joined(w, 1, req_of(0, 1), "user:bob", 7, 3);
    forget(w);
    order(w, PEAL_ORDER_JOIN, 1, req_of(1, 9), "user:bob");
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].type, PEAL_F_JOIN);
    assert_true(w->sent[0].req == req_of(1, 9));
}

static void wants_join_ordered_while_the_router_is_away_is_asked_later(void **state)
{
    struct world *w = *state;
    order(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "room");
    assert_int_equal(w->sent_count, 0);
    batch(w, 5, 0, NULL);
    assert_int_equal(w->sent_count, 2);
    assert_int_equal(w->sent[0].type, PEAL_F_SYNC);
    assert_int_equal(w->sent[1].type, PEAL_F_JOIN);
    forget(w);
    pass(w, 2500); /* no answer: once more */
    bool again = false;
    for (size_t i = 0; i < w->sent_count; i++)
        again = again || w->sent[i].type == PEAL_F_JOIN;
    assert_true(again);
}

static void wants_last_leave_is_told_to_the_router(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    order(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "room");
    joined(w, 1, req_of(0, 1), "room", 7, 40);
    order(w, PEAL_ORDER_JOIN, 1, req_of(1, 1), "room");
    forget(w);
    order(w, PEAL_ORDER_LEAVE, 0, 0, "room");
    assert_int_equal(w->sent_count, 0);
    order(w, PEAL_ORDER_LEAVE, 1, 0, "room");
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].type, PEAL_F_LEAVE);
    forget(w);
    message(w, 2, "room", 7, 41); /* was on its way: the router is told again */
    assert_int_equal(w->sent[0].type, PEAL_F_LEAVE);
    assert_int_equal(w->posted_count[0], 0);
}

int main(void)
{
    peal_metrics_thread_start();
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(wants_second_worker_joins_without_asking_the_router),
        TEST(wants_every_join_of_an_inbox_asks_the_router),
        TEST(wants_join_ordered_while_the_router_is_away_is_asked_later),
        TEST(wants_last_leave_is_told_to_the_router),
    };
    return cmocka_run_group_tests_name("wants", tests, NULL, NULL);
}

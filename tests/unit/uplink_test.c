#include "node/uplink.h"

#include "base/limits.h"
#include "base/metrics.h"
#include "tests/unit/uplink_rig.h"

static void uplink_wants_another_way_each_time_one_was_silent_for_too_long(void **state)
{
    struct world *w = *state;
    assert_false(
        peal_uplink_silent(w->up, 0, PEAL_BEAT_LOST_MS)); /* the first way has just begun */
    pass(w, PEAL_BEAT_LOST_MS);
    assert_false(peal_uplink_silent(w->up, 0, PEAL_BEAT_LOST_MS));
    pass(w, 1);
    assert_true(peal_uplink_silent(w->up, 0, PEAL_BEAT_LOST_MS));
    assert_false(peal_uplink_silent(w->up, 0, PEAL_BEAT_LOST_MS));
    pass(w, PEAL_BEAT_LOST_MS);
    assert_false(peal_uplink_silent(w->up, 0, PEAL_BEAT_LOST_MS));
    batch(w, 5, 0, NULL); /* this one is good */
    pass(w, PEAL_BEAT_LOST_MS);
    assert_false(peal_uplink_silent(w->up, 0, PEAL_BEAT_LOST_MS));
    pass(w, 1);
    assert_true(peal_uplink_silent(w->up, 0, PEAL_BEAT_LOST_MS));
}

/* A router that is heard each second and answers nothing. */
static void hear_for(struct world *w, uint64_t ms)
{
    for (uint64_t at = 0; at < ms; at += PEAL_BEAT_MS) {
        batch(w, 5, 0, NULL);
        pass(w, PEAL_BEAT_MS);
        forget(w);
    }
}

static void uplink_sync_that_nobody_answers_asks_for_another_way_there(void **state)
{
    enum { MS = 7000 };
    struct world *w = *state;
    pass(w, 60000);
    assert_false(peal_uplink_unanswered(w->up, 0, MS)); /* nothing was heard: that is silence */
    hear_for(w, MS);
    assert_false(peal_uplink_unanswered(w->up, 0, MS));
    pass(w, 1);
    assert_true(peal_uplink_unanswered(w->up, 0, MS));
    assert_false(peal_uplink_unanswered(w->up, 0, MS)); /* the new way has just begun */
    hear_for(w, MS);
    confirm(w, 1); /* of a sync long ago, but the way is good */
    pass(w, 1);
    assert_false(peal_uplink_unanswered(w->up, 0, MS));
    hear_for(w, MS);
    assert_true(peal_uplink_unanswered(w->up, 0, MS));
    hear_for(w, 2000);
    pass(w, PEAL_BEAT_LOST_MS + MS);
    assert_false(peal_uplink_unanswered(w->up, 0, MS)); /* it is not heard either */
}

static void uplink_silence_is_told_and_requests_fail_at_once(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    forget(w);
    pass(w, PEAL_BEAT_LOST_MS + 1000);
    assert_false(peal_uplink_ready(w->up));
    assert_int_equal(w->posted_count[0], 1);
    assert_true(w->posted[0][0]->degraded);
    order(w, PEAL_ORDER_SEND, 0, req_of(0, 7), "room");
    assert_int_equal(w->posted_count[0], 2);
    assert_int_equal(w->posted[0][1]->frame.code, PEAL_ENO_ROUTER);
    assert_true(w->posted[0][1]->frame.req == req_of(0, 7));
    /* The same router again: it is told which groups we hold, for we missed some time. */
    forget(w);
    batch(w, 5, 0, NULL);
    assert_int_equal(last_sent(w)->type, PEAL_F_SYNC);
    assert_true(peal_uplink_ready(w->up));
}

static void uplink_loss_is_told_by_the_tick_when_nothing_else_comes(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    order(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "room");
    joined(w, 1, req_of(0, 1), "room", 7, 40);
    forget(w);
    w->post_room[0] = 0;
    message(w, 2, "room", 7, 41);
    pass(w, 100); /* still full */
    assert_int_equal(w->posted_count[0], 0);
    w->post_room[0] = SIZE_MAX;
    pass(w, 100);
    assert_int_equal(w->posted_count[0], 2);
    assert_int_equal(w->posted[0][0]->kind, PEAL_LETTER_LOST);
    assert_int_equal(w->posted[0][1]->kind, PEAL_LETTER_LINK);
    pass(w, 100);
    assert_int_equal(w->posted_count[0], 2);
}

int main(void)
{
    peal_metrics_thread_start();
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(uplink_wants_another_way_each_time_one_was_silent_for_too_long),
        TEST(uplink_sync_that_nobody_answers_asks_for_another_way_there),
        TEST(uplink_silence_is_told_and_requests_fail_at_once),
        TEST(uplink_loss_is_told_by_the_tick_when_nothing_else_comes),
    };
    return cmocka_run_group_tests_name("uplink", tests, NULL, NULL);
}

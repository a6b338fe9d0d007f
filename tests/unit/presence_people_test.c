#include "router/presence_people.h"

#include "tests/unit/presence_rig.h"

static void presence_users_and_connections_are_counted_apart(void **state)
{
    struct world *w = *state;
    say_all(w, BOOT_A, 3, "ann/1 ann/2 bob/3");
    say_all(w, BOOT_B, 2, "ann/4 -/5");
    expect_there(w, 2, 5);
    assert_int_equal(w->answer.people.count, 2);
    assert_true(peal_span_is(w->people[0].user, "ann"));
    assert_int_equal(w->people[0].count, 3);
    assert_true(peal_span_is(w->people[1].user, "bob"));
    assert_int_equal(w->people[1].count, 1);
    assert_int_equal(w->answer.flags, 0);
    pass(w, 1000);
    assert_int_equal(w->event_count, 2); /* one to each node */
    expect_event(w, 0, "+ann +bob", 2, 5);
    assert_int_not_equal(w->events[0].boot, w->events[1].boot);
}

static void presence_return_within_the_grace_is_silent(void **state)
{
    struct world *w = *state;
    say_all(w, BOOT_A, 2, "ann/1 bob/2");
    pass(w, 6000);
    w->event_count = 0;
    say(w, BOOT_A, 1, 1, "!1");
    expect_there(w, 2, 1); /* ann is still there, without a connection */
    pass(w, 4900);
    assert_int_equal(report(w, (struct said){BOOT_B, 0, WHOLE, 0, 1, 1}, "ann/9"), PEAL_OK);
    pass(w, 20000);
    expect_there(w, 2, 2);
    for (size_t i = 0; i < w->event_count; i++)
        assert_string_equal(w->events[i].names, "");
}

static void presence_beyond_the_limit_connections_stay_exact(void **state)
{
    (void)state;
    struct world *w = world_new("{presence: {settle: 0s}, limits: {presence: 2}}");
    say_all(w, BOOT_A, 4, "ann/1 bob/2 cid/3 -/4");
    expect_there(w, 2, 4);
    assert_int_equal(w->answer.flags, PEAL_FLAG_TRUNCATED);
    say(w, BOOT_A, 1, 3, "!3");
    expect_there(w, 2, 3);
    say(w, BOOT_A, 2, 2, "!1");
    pass(w, 6000);
    expect_there(w, 1, 2);
    /* There is room again: with the next report all of it is asked for. */
    assert_int_equal(report(w, (struct said){BOOT_A, 0, 0, 3, 4, 2}, ""), PEAL_EAGAIN);
    say_all(w, BOOT_A, 2, "bob/2 -/4");
    expect_there(w, 1, 2);
    assert_int_equal(w->answer.flags, 0);
    void *end = w;
    assert_int_equal(teardown(&end), 0);
}

int main(void)
{
    peal_metrics_thread_start();
    const struct CMUnitTest tests[] = {
        TEST(presence_users_and_connections_are_counted_apart),
        TEST(presence_return_within_the_grace_is_silent),
        cmocka_unit_test(presence_beyond_the_limit_connections_stay_exact),
    };
    return cmocka_run_group_tests_name("presence_people", tests, NULL, NULL);
}

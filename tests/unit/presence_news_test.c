#include "router/presence_news.h"

#include "tests/unit/presence_rig.h"

static void presence_leave_is_told_after_the_grace(void **state)
{
    struct world *w = *state;
    say_all(w, BOOT_A, 3, "ann/1 ann/2 bob/3");
    pass(w, 6000);
    w->event_count = 0;
    say(w, BOOT_A, 1, 2, "!1");
    say(w, BOOT_A, 2, 1, "!2");
    pass(w, 4900);
    assert_int_equal(w->event_count, 0);
    expect_there(w, 2, 1);
    pass(w, 600);
    expect_there(w, 1, 1);
    assert_true(w->event_count >= 1);
    expect_event(w, w->event_count - 1, "-ann", 1, 1);
}

static void presence_connections_alone_are_told_at_their_leisure(void **state)
{
    struct world *w = *state;
    say_all(w, BOOT_A, 1, "ann/1");
    pass(w, 6000);
    w->event_count = 0;
    say(w, BOOT_A, 1, 2, "ann/2");
    pass(w, 4000);
    assert_int_equal(w->event_count, 0);
    pass(w, 2000);
    assert_int_equal(w->event_count, 1);
    expect_event(w, 0, "", 1, 2);
    /* One that came and went meanwhile is no news at all. */
    say(w, BOOT_A, 2, 3, "-/3");
    say(w, BOOT_A, 3, 2, "!3");
    pass(w, 20000);
    assert_int_equal(w->event_count, 1);
}

static void presence_many_joins_are_one_event_of_counts(void **state)
{
    struct world *w = *state;
    uint64_t event;
    static struct peal_person list[PEOPLE_MAX];
    static char names[PEOPLE_MAX][16];
    say_all(w, BOOT_A, 1, "ann/1");
    pass(w, 6000);
    w->event_count = 0;
    for (size_t i = 0; i < PEOPLE_MAX; i++) {
        snprintf(names[i], sizeof names[i], "u%zu", i);
        list[i] = (struct peal_person){peal_span_of(names[i]), 100 + i, 1};
    }
    for (uint64_t half = 0; half < 2; half++) {
        struct peal_frame f = {.group = peal_span_of("g"),
                               .flags = PEAL_FLAG_WATCH,
                               .from = 1 + half,
                               .to = 2 + half,
                               .limit = 1 + PEOPLE_MAX / 2 * (half + 1)};
        f.people.at = list + PEOPLE_MAX / 2 * half;
        f.people.count = PEOPLE_MAX / 2;
        assert_int_equal(peal_presence_report(w->presence, BOOT_A, &f, &event), PEAL_OK);
    }
    pass(w, 20000);
    assert_int_equal(w->event_count, 1);
    expect_event(w, 0, "", 1 + PEOPLE_MAX, 1 + PEOPLE_MAX);
    assert_int_equal(w->events[0].flags, PEAL_FLAG_TRUNCATED);
}

static void presence_state_that_was_shown_is_told_when_it_is_due(void **state)
{
    struct world *w = *state;
    say_all(w, BOOT_A, 1, "ann/1");
    pass(w, 6000);
    w->event_count = 0;
    say(w, BOOT_A, 1, 2, "-/2");
    expect_there(w, 1, 2); /* somebody sees two */
    say(w, BOOT_A, 2, 1, "!2");
    pass(w, 6000);
    assert_int_equal(w->event_count, 1);
    expect_event(w, 0, "", 1, 1);
}

static void presence_settling_router_tells_nothing_and_then_the_counts(void **state)
{
    (void)state;
    struct world *w = world_new("presence: {grace: 2s, settle: 8s}");
    say_all(w, BOOT_A, 1, "ann/1");
    pass(w, 4000);
    say_all(w, BOOT_B, 1, "bob/2");
    say(w, BOOT_A, 1, 2, "cid/3");
    expect_there(w, 3, 3);
    assert_int_equal(w->answer.flags, PEAL_FLAG_SETTLING);
    pass(w, 3900);
    assert_int_equal(w->event_count, 0);
    pass(w, 1000);
    assert_int_equal(w->event_count, 2); /* one to each node */
    expect_event(w, 0, "", 3, 3);
    assert_int_equal(w->events[0].flags, PEAL_FLAG_TRUNCATED);
    expect_there(w, 3, 3);
    assert_int_equal(w->answer.flags, 0);
    pass(w, 10000);
    assert_int_equal(w->event_count, 2);
    say(w, BOOT_A, 2, 3, "dan/4");
    pass(w, 1000);
    expect_event(w, 2, "+dan", 4, 4);
    /* Events are a chain. */
    assert_int_equal(w->events[2].from, w->events[0].to);
    void *end = w;
    assert_int_equal(teardown(&end), 0);
}

int main(void)
{
    peal_metrics_thread_start();
    const struct CMUnitTest tests[] = {
        TEST(presence_leave_is_told_after_the_grace),
        TEST(presence_connections_alone_are_told_at_their_leisure),
        TEST(presence_many_joins_are_one_event_of_counts),
        TEST(presence_state_that_was_shown_is_told_when_it_is_due),
        cmocka_unit_test(presence_settling_router_tells_nothing_and_then_the_counts),
    };
    return cmocka_run_group_tests_name("presence_news", tests, NULL, NULL);
}

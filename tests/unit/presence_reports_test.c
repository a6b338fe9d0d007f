#include "router/presence_reports.h"

#include "tests/unit/presence_rig.h"

static void presence_lost_node_leaves_after_the_grace(void **state)
{
    struct world *w = *state;
    say_all(w, BOOT_A, 2, "ann/1 bob/2");
    say_all(w, BOOT_B, 2, "bob/3 cid/4");
    pass(w, 6000);
    w->event_count = 0;
    w->dead = BOOT_B;
    pass(w, 1000);
    expect_there(w, 3, 2);
    pass(w, 6000);
    expect_there(w, 2, 2);
    for (size_t i = 0; i < w->event_count; i++)
        assert_int_equal(w->events[i].boot, BOOT_A);
    expect_event(w, w->event_count - 1, "-cid", 2, 2);
}

static void presence_node_that_was_only_slow_is_asked_for_all_and_nobody_left(void **state)
{
    struct world *w = *state;
    say_all(w, BOOT_A, 1, "ann/1");
    say_all(w, BOOT_B, 1, "bob/3");
    pass(w, 6000);
    w->event_count = 0;
    w->dead = BOOT_B;
    pass(w, 1000);
    w->dead = 0;
    expect_there(w, 2, 1);
    assert_int_equal(report(w, (struct said){BOOT_B, 0, 0, 1, 2, 1}, ""), PEAL_EAGAIN);
    say_all(w, BOOT_B, 1, "bob/3");
    pass(w, 20000);
    expect_there(w, 2, 2);
    for (size_t i = 0; i < w->event_count; i++)
        assert_string_equal(w->events[i].names, "");
}

static void presence_changes_on_an_unknown_version_ask_for_all(void **state)
{
    struct world *w = *state;
    assert_int_equal(report(w, (struct said){BOOT_A, 0, 0, 1, 2, 1}, "ann/1"), PEAL_EAGAIN);
    expect_there(w, 0, 0);
    say_all(w, BOOT_A, 1, "ann/1");
    assert_int_equal(report(w, (struct said){BOOT_A, 0, 0, 7, 8, 2}, "bob/2"), PEAL_EAGAIN);
    expect_there(w, 1, 1);
    /* Another source of the same node is another chain. */
    assert_int_equal(report(w, (struct said){BOOT_A, 1, 0, 1, 2, 1}, "bob/2"), PEAL_EAGAIN);
    /* Nothing has changed: that is a report too. */
    assert_int_equal(report(w, (struct said){BOOT_A, 0, 0, 1, 2, 1}, ""), PEAL_OK);
    /* One that does not add up has missed something. */
    assert_int_equal(report(w, (struct said){BOOT_A, 0, 0, 2, 3, 9}, "bob/2"), PEAL_EAGAIN);
    assert_int_equal(report(w, (struct said){BOOT_A, 0, 0, 3, 4, 2}, ""), PEAL_EAGAIN);
}

static void presence_whole_report_is_exactly_what_is_there(void **state)
{
    struct world *w = *state;
    say_all(w, BOOT_A, 3, "ann/1 bob/2 cid/3");
    assert_int_equal(report(w, (struct said){BOOT_A, 0, WHOLE, 0, 9, 2}, "bob/2 dan/4"), PEAL_OK);
    expect_there(w, 4, 2); /* two of them in their grace */
    pass(w, 6000);
    expect_there(w, 2, 2);
    /* In pages; nothing is taken away when one of them is missing. */
    uint64_t first = PEAL_FLAG_ALL | PEAL_FLAG_FIRST;
    uint64_t last = PEAL_FLAG_ALL | PEAL_FLAG_LAST;
    assert_int_equal(report(w, (struct said){BOOT_A, 0, first, 9, 10, 3}, "bob/2"), PEAL_OK);
    assert_int_equal(report(w, (struct said){BOOT_A, 0, last, 9, 10, 3}, "eve/5"), PEAL_EAGAIN);
    expect_there(w, 3, 3);
    assert_int_equal(report(w, (struct said){BOOT_A, 0, last, 9, 11, 1}, "eve/5"), PEAL_EAGAIN);
    assert_int_equal(report(w, (struct said){BOOT_A, 0, first, 9, 12, 2}, "bob/2"), PEAL_OK);
    assert_int_equal(report(w, (struct said){BOOT_A, 0, last, 9, 12, 2}, "eve/5"), PEAL_OK);
    pass(w, 6000);
    expect_there(w, 2, 2);
    /* The last of them; the source is forgotten with it. */
    assert_int_equal(report(w, (struct said){BOOT_A, 0, 0, 12, 13, 0}, "!2 !5"), PEAL_OK);
    assert_int_equal(report(w, (struct said){BOOT_A, 0, 0, 13, 14, 1}, "bob/2"), PEAL_EAGAIN);
    pass(w, 6000);
    expect_there(w, 0, 0);
}

static void presence_large_node_is_taken_apart_in_slices(void **state)
{
    struct world *w = *state;
    static struct peal_person list[PEOPLE_MAX];
    uint64_t event;
    enum { GROUPS = 20 };
    say_all(w, BOOT_A, 1, "ann/1");
    for (uint64_t g = 0; g < GROUPS; g++) {
        char name[16];
        snprintf(name, sizeof name, "g%llu", (unsigned long long)g);
        for (size_t i = 0; i < PEOPLE_MAX; i++)
            list[i] = (struct peal_person){peal_span_of("bob"), 1 + i, 1};
        struct peal_frame f = {
            .group = peal_span_of(name), .flags = WHOLE, .to = 1, .limit = PEOPLE_MAX};
        f.people.at = list;
        f.people.count = PEOPLE_MAX;
        assert_int_equal(peal_presence_report(w->presence, BOOT_B, &f, &event), PEAL_OK);
    }
    int64_t all = peal_metrics_sum(PEAL_M_PRESENCE);
    assert_int_equal(all, 1 + GROUPS * PEOPLE_MAX);
    pass(w, 1000);
    w->dead = BOOT_B;
    int ticks = 0;
    for (int64_t left = all; left > 1; ticks++) {
        pass(w, 50);
        int64_t now = peal_metrics_sum(PEAL_M_PRESENCE);
        assert_true(left - now <= 8192);
        left = now;
        assert_true(ticks < 100);
    }
    assert_true(ticks > 2);
    expect_there(w, 1, 1);
    pass(w, 6000);
}

int main(void)
{
    peal_metrics_thread_start();
    const struct CMUnitTest tests[] = {
        TEST(presence_lost_node_leaves_after_the_grace),
        TEST(presence_node_that_was_only_slow_is_asked_for_all_and_nobody_left),
        TEST(presence_changes_on_an_unknown_version_ask_for_all),
        TEST(presence_whole_report_is_exactly_what_is_there),
        TEST(presence_large_node_is_taken_apart_in_slices),
    };
    return cmocka_run_group_tests_name("presence_reports", tests, NULL, NULL);
}

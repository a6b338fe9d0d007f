#include "router/presence.h"

#include "proto/group.h"
#include "tests/unit/presence_rig.h"

static void presence_list_is_given_page_by_page(void **state)
{
    struct world *w = *state;
    say_all(w, BOOT_A, 5, "a/1 b/2 c/3 d/4 e/5");
    char seen[16] = "";
    uint64_t after = 0;
    int pages = 0;
    do {
        who(w, after, 2);
        for (size_t i = 0; i < w->answer.people.count; i++)
            strncat(seen, w->people[i].user.at, 1);
        assert_int_equal(w->answer.users, 5);
        after = w->answer.offset;
        pages++;
        /* Who left since is not listed; who came is at the end. */
        if (pages == 1) {
            say(w, BOOT_A, 1, 5, "!2 !3 f/6 g/7");
            pass(w, 6000);
        }
    } while (after != 0);
    assert_string_equal(seen, "abdefg");
    assert_int_equal(pages, 3);
    who(w, 0, 0);
    assert_int_equal(w->answer.people.count, 0);
    assert_int_equal(w->answer.users, 5);
}

static void presence_of_slots_that_went_is_forgotten_in_silence(void **state)
{
    struct world *w = *state;
    bool slots[PEAL_SLOTS] = {false};
    say_all(w, BOOT_A, 2, "ann/1 -/2");
    pass(w, 6000);
    w->event_count = 0;
    slots[(peal_group_slot(peal_span_of("g")) + 1) % PEAL_SLOTS] = true;
    peal_presence_drop_slots(w->presence, slots);
    expect_there(w, 1, 2);
    slots[peal_group_slot(peal_span_of("g"))] = true;
    peal_presence_drop_slots(w->presence, slots);
    expect_there(w, 1, 0); /* in the grace */
    pass(w, 20000);
    expect_there(w, 0, 0);
    assert_int_equal(w->event_count, 0);
    /* Who still speaks of it is asked for all. */
    assert_int_equal(report(w, (struct said){BOOT_A, 0, 0, 1, 2, 2}, ""), PEAL_EAGAIN);
}

int main(void)
{
    peal_metrics_thread_start();
    const struct CMUnitTest tests[] = {
        TEST(presence_list_is_given_page_by_page),
        TEST(presence_of_slots_that_went_is_forgotten_in_silence),
    };
    return cmocka_run_group_tests_name("presence", tests, NULL, NULL);
}

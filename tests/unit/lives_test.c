#include "node/lives.h"

#include "base/limits.h"
#include "tests/unit/unit.h"

enum { START = 100000, BEAT = PEAL_BEAT_MS };

/* A link that hears who speaks, each when it does. */
struct link {
    struct peal_lives lives;
    uint64_t now_ms;
    uint64_t heard_ms;
    unsigned changes;
};

static enum peal_life hear(struct link *l, uint64_t boot)
{
    enum peal_life life = peal_lives_hear(&l->lives, boot, l->heard_ms, l->now_ms);
    if (life != PEAL_LIFE_FORMER) l->heard_ms = l->now_ms;
    l->changes += life == PEAL_LIFE_NEW;
    return life;
}

static bool two(const struct link *l)
{
    return peal_lives_two(&l->lives, l->now_ms);
}

static void lives_router_that_starts_again_is_believed_at_once(void **state)
{
    (void)state;
    struct link l = {.now_ms = START};
    assert_int_equal(hear(&l, 5), PEAL_LIFE_NEW);
    l.now_ms += BEAT;
    assert_int_equal(hear(&l, 5), PEAL_LIFE_SAME);
    assert_int_equal(hear(&l, 6), PEAL_LIFE_NEW);
    assert_int_equal(hear(&l, 5), PEAL_LIFE_FORMER); /* what a relay still had */
    assert_int_equal(hear(&l, 6), PEAL_LIFE_SAME);
    assert_false(two(&l));
}

static void lives_two_that_speak_in_turn_are_noticed_and_do_not_take_turns(void **state)
{
    (void)state;
    struct link l = {.now_ms = START};
    hear(&l, 5);
    hear(&l, 6);
    for (int s = 0; s < 200; s++) { /* also after the minute in which 5 is not believed anyway */
        l.now_ms += BEAT;
        assert_int_equal(hear(&l, 5), PEAL_LIFE_FORMER);
        assert_int_equal(hear(&l, 6), PEAL_LIFE_SAME);
        if (s * BEAT < PEAL_LIVES_TWO_MS)
            assert_false(two(&l));
        else
            assert_true(two(&l));
    }
    assert_int_equal(l.changes, 2);
    assert_true(l.lives.other == 5);
    /* Somebody ended the other one. */
    for (int s = 0; s < 4; s++) {
        l.now_ms += BEAT;
        hear(&l, 6);
    }
    assert_false(two(&l));
}

static void lives_three_that_speak_in_turn_do_not_take_turns(void **state)
{
    (void)state;
    struct link l = {.now_ms = START};
    for (int s = 0; s < 200; s++) {
        hear(&l, 5);
        hear(&l, 6);
        hear(&l, 7);
        l.now_ms += BEAT;
    }
    assert_int_equal(l.changes, 3);
    assert_true(two(&l));
}

static void lives_burst_of_what_was_kept_is_no_second_life(void **state)
{
    (void)state;
    struct link l = {.now_ms = START};
    hear(&l, 5);
    hear(&l, 6);
    for (int s = 0; s < 30; s++) {
        l.now_ms += BEAT;
        hear(&l, 6);
        if (s != 3 && s != 20) continue;
        for (int i = 0; i < 1000; i++)
            assert_int_equal(hear(&l, 5), PEAL_LIFE_FORMER);
        assert_false(two(&l));
    }
}

/* The believed one may have been the wrong one: when it is silent the other one is heard. */
static void lives_other_one_is_believed_when_the_believed_one_is_silent(void **state)
{
    (void)state;
    struct link l = {.now_ms = START};
    hear(&l, 5);
    hear(&l, 6);
    uint64_t until_ms = l.now_ms + PEAL_LIVES_LATE_MS;
    while (l.now_ms + BEAT < until_ms) {
        l.now_ms += BEAT;
        assert_int_equal(hear(&l, 5), PEAL_LIFE_FORMER);
        assert_false(two(&l)); /* only one of them speaks */
    }
    l.now_ms += BEAT;
    assert_int_equal(hear(&l, 5), PEAL_LIFE_NEW);
    assert_false(two(&l));
    l.now_ms += BEAT;
    assert_int_equal(hear(&l, 6), PEAL_LIFE_FORMER);
}

static void lives_answer_of_a_former_life_proves_that_both_live(void **state)
{
    (void)state;
    struct link l = {.now_ms = START};
    hear(&l, 5);
    assert_true(peal_lives_answered(&l.lives, 5, l.heard_ms, l.now_ms));
    assert_true(peal_lives_answered(&l.lives, 0, l.heard_ms, l.now_ms)); /* an older router */
    hear(&l, 6);
    l.now_ms += 50;
    assert_false(peal_lives_answered(&l.lives, 5, l.heard_ms, l.now_ms));
    assert_true(two(&l));
    l.now_ms += PEAL_BEAT_LOST_MS + 1;
    assert_false(two(&l));
}

/* The SYNC may have reached a router that has just started and was not heard yet. */
static void lives_answer_of_the_next_life_proves_nothing(void **state)
{
    (void)state;
    struct link l = {.now_ms = START};
    hear(&l, 5);
    l.now_ms += 50;
    assert_false(peal_lives_answered(&l.lives, 6, l.heard_ms, l.now_ms));
    assert_false(two(&l));
    assert_int_equal(hear(&l, 6), PEAL_LIFE_NEW);
    assert_false(two(&l));
    assert_true(peal_lives_answered(&l.lives, 6, l.heard_ms, l.now_ms));
    /* One that goes on answering and is never heard is another process. */
    for (int s = 0; s <= PEAL_LIVES_TWO_MS / 2000; s++) {
        l.now_ms += 2000;
        hear(&l, 6);
        peal_lives_answered(&l.lives, 9, l.heard_ms, l.now_ms);
    }
    assert_true(two(&l));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lives_router_that_starts_again_is_believed_at_once),
        cmocka_unit_test(lives_two_that_speak_in_turn_are_noticed_and_do_not_take_turns),
        cmocka_unit_test(lives_three_that_speak_in_turn_do_not_take_turns),
        cmocka_unit_test(lives_burst_of_what_was_kept_is_no_second_life),
        cmocka_unit_test(lives_other_one_is_believed_when_the_believed_one_is_silent),
        cmocka_unit_test(lives_answer_of_a_former_life_proves_that_both_live),
        cmocka_unit_test(lives_answer_of_the_next_life_proves_nothing),
    };
    return cmocka_run_group_tests_name("lives", tests, NULL, NULL);
}

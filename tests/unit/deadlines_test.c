#include "node/deadlines.h"

#include "tests/unit/unit.h"

enum { START_MS = 100000 };

struct world {
    struct peal_wheel wheel;
    struct peal_deadlines d;
    int fired;
};

static void on_fire(void *ctx, struct peal_timer *timer)
{
    struct world *w = ctx;
    assert_ptr_equal(timer, &w->d.timer);
    w->fired++;
}

static int setup(void **state)
{
    static struct world w;
    w = (struct world){0};
    peal_wheel_init(&w.wheel, START_MS);
    peal_deadlines_init(&w.d);
    *state = &w;
    return 0;
}

static int advance(struct world *w, uint64_t now_ms)
{
    w->fired = 0;
    peal_wheel_advance(&w->wheel, now_ms, on_fire, w);
    return w->fired;
}

static void deadlines_fire_for_the_first_one(void **state)
{
    struct world *w = *state;
    peal_deadline_set(&w->d, &w->wheel, PEAL_DUE_PING, START_MS, 1000);
    peal_deadline_set(&w->d, &w->wheel, PEAL_DUE_PONG, START_MS, 500);
    assert_int_equal(advance(w, START_MS + 450), 0);
    assert_int_equal(advance(w, START_MS + 500), 1);
    assert_true(peal_deadline_is_due(&w->d, PEAL_DUE_PONG, START_MS + 500));
    assert_false(peal_deadline_is_due(&w->d, PEAL_DUE_PING, START_MS + 500));
    peal_deadline_clear(&w->d, &w->wheel, PEAL_DUE_PONG);
    assert_int_equal(advance(w, START_MS + 1000), 1);
    assert_true(peal_deadline_is_due(&w->d, PEAL_DUE_PING, START_MS + 1000));
}

static void deadlines_are_never_early_and_at_most_a_tick_late(void **state)
{
    struct world *w = *state;
    for (uint64_t ms = 1; ms < 120; ms++) {
        peal_deadline_set(&w->d, &w->wheel, PEAL_DUE_CLOSE, START_MS, ms);
        assert_false(peal_deadline_is_due(&w->d, PEAL_DUE_CLOSE, START_MS + ms - 1));
        assert_true(
            peal_deadline_is_due(&w->d, PEAL_DUE_CLOSE, START_MS + ms + PEAL_WHEEL_TICK_MS - 1));
    }
    peal_deadlines_fini(&w->d);
}

static void deadlines_set_again_move(void **state)
{
    struct world *w = *state;
    peal_deadline_set(&w->d, &w->wheel, PEAL_DUE_MESSAGE, START_MS, 100);
    peal_deadline_set(&w->d, &w->wheel, PEAL_DUE_MESSAGE, START_MS, 1000);
    assert_int_equal(advance(w, START_MS + 900), 0);
    assert_int_equal(advance(w, START_MS + 1000), 1);
}

static void deadlines_cleared_do_not_fire(void **state)
{
    struct world *w = *state;
    peal_deadline_set(&w->d, &w->wheel, PEAL_DUE_HELLO, START_MS, 100);
    assert_true(peal_deadline_waits(&w->d, PEAL_DUE_HELLO));
    peal_deadline_clear(&w->d, &w->wheel, PEAL_DUE_HELLO);
    peal_deadline_clear(&w->d, &w->wheel, PEAL_DUE_HELLO);
    assert_false(peal_deadline_waits(&w->d, PEAL_DUE_HELLO));
    assert_false(peal_deadline_is_due(&w->d, PEAL_DUE_HELLO, UINT64_MAX));
    assert_int_equal(advance(w, START_MS + 100000), 0);
}

static void deadlines_beyond_what_fits_are_far_away(void **state)
{
    struct world *w = *state;
    peal_deadline_set(&w->d, &w->wheel, PEAL_DUE_EXPIRE, START_MS, UINT64_MAX);
    assert_false(peal_deadline_is_due(&w->d, PEAL_DUE_EXPIRE, START_MS + (1ull << 37)));
    assert_true(peal_deadline_waits(&w->d, PEAL_DUE_EXPIRE));
    peal_deadlines_fini(&w->d);
}

static void deadlines_say_what_is_left(void **state)
{
    struct world *w = *state;
    peal_deadline_set(&w->d, &w->wheel, PEAL_DUE_DRAIN, START_MS, 1000);
    uint64_t at_ms = (uint64_t)w->d.ticks[PEAL_DUE_DRAIN] * PEAL_WHEEL_TICK_MS;
    assert_int_equal(peal_deadline_left(&w->d, PEAL_DUE_DRAIN, at_ms - 400), 400);
    assert_int_equal(peal_deadline_left(&w->d, PEAL_DUE_DRAIN, at_ms), 0);
    assert_int_equal(peal_deadline_left(&w->d, PEAL_DUE_DRAIN, at_ms + 1), 0);
    peal_deadlines_fini(&w->d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(deadlines_fire_for_the_first_one, setup),
        cmocka_unit_test_setup(deadlines_are_never_early_and_at_most_a_tick_late, setup),
        cmocka_unit_test_setup(deadlines_set_again_move, setup),
        cmocka_unit_test_setup(deadlines_cleared_do_not_fire, setup),
        cmocka_unit_test_setup(deadlines_say_what_is_left, setup),
        cmocka_unit_test_setup(deadlines_beyond_what_fits_are_far_away, setup),
    };
    return cmocka_run_group_tests_name("deadlines", tests, NULL, NULL);
}

#include "base/wheel.h"

#include <stdlib.h>

#include "base/clock.h"
#include "tests/unit/unit.h"

enum { TICK = PEAL_WHEEL_TICK_MS, LAP = PEAL_WHEEL_SLOTS * PEAL_WHEEL_TICK_MS };

static void count_fire(void *ctx, struct peal_timer *timer)
{
    (void)timer;
    ++*(int *)ctx;
}

static void wheel_timer_fires_once_and_never_early(void **state)
{
    (void)state;
    struct peal_wheel wheel;
    struct peal_timer timer;
    int fired = 0;
    peal_wheel_init(&wheel, 1000);
    peal_timer_init(&timer);
    peal_wheel_arm(&wheel, &timer, 1101);
    assert_int_not_equal(timer.due_tick, 0);
    peal_wheel_advance(&wheel, 1100, count_fire, &fired);
    peal_wheel_advance(&wheel, 1149, count_fire, &fired);
    assert_int_equal(fired, 0);
    peal_wheel_advance(&wheel, 1150, count_fire, &fired);
    assert_int_equal(fired, 1);
    assert_int_equal(timer.due_tick, 0);
    peal_wheel_advance(&wheel, 1150 + 2 * LAP, count_fire, &fired);
    assert_int_equal(fired, 1);
}

static void wheel_timer_on_the_tick_fires_at_its_time(void **state)
{
    (void)state;
    struct peal_wheel wheel;
    struct peal_timer timer;
    int fired = 0;
    peal_wheel_init(&wheel, 1000);
    peal_timer_init(&timer);
    peal_wheel_arm(&wheel, &timer, 1100);
    peal_wheel_advance(&wheel, 1100, count_fire, &fired);
    assert_int_equal(fired, 1);
}

static void wheel_timer_of_the_past_fires_with_the_next_tick(void **state)
{
    (void)state;
    struct peal_wheel wheel;
    struct peal_timer timer;
    int fired = 0;
    peal_wheel_init(&wheel, 1000);
    peal_timer_init(&timer);
    peal_wheel_arm(&wheel, &timer, 3);
    peal_wheel_advance(&wheel, 1049, count_fire, &fired);
    assert_int_equal(fired, 0);
    peal_wheel_advance(&wheel, 1050, count_fire, &fired);
    assert_int_equal(fired, 1);
}

static void wheel_timer_of_another_lap_waits_for_it(void **state)
{
    (void)state;
    struct peal_wheel wheel;
    struct peal_timer timer;
    int fired = 0;
    peal_wheel_init(&wheel, 0);
    peal_timer_init(&timer);
    peal_wheel_arm(&wheel, &timer, 3 * LAP + TICK);
    for (uint64_t now = 0; now < 3 * LAP + TICK; now += TICK)
        peal_wheel_advance(&wheel, now, count_fire, &fired);
    assert_int_equal(fired, 0);
    peal_wheel_advance(&wheel, 3 * LAP + TICK, count_fire, &fired);
    assert_int_equal(fired, 1);
}

static void wheel_timer_at_the_end_of_time_does_not_fire(void **state)
{
    (void)state;
    struct peal_wheel wheel;
    struct peal_timer timer;
    int fired = 0;
    peal_wheel_init(&wheel, 0);
    peal_timer_init(&timer);
    peal_wheel_arm(&wheel, &timer, UINT64_MAX);
    peal_wheel_advance(&wheel, 10 * LAP, count_fire, &fired);
    assert_int_equal(fired, 0);
    peal_wheel_disarm(&timer);
}

static void wheel_disarm_is_harmless_twice_and_rearm_moves(void **state)
{
    (void)state;
    struct peal_wheel wheel;
    struct peal_timer timer;
    int fired = 0;
    peal_wheel_init(&wheel, 0);
    peal_timer_init(&timer);
    peal_wheel_disarm(&timer);
    peal_wheel_arm(&wheel, &timer, 100);
    peal_wheel_disarm(&timer);
    peal_wheel_disarm(&timer);
    peal_wheel_advance(&wheel, 200, count_fire, &fired);
    assert_int_equal(fired, 0);
    peal_wheel_arm(&wheel, &timer, 300);
    peal_wheel_arm(&wheel, &timer, 500);
    peal_wheel_advance(&wheel, 450, count_fire, &fired);
    assert_int_equal(fired, 0);
    peal_wheel_advance(&wheel, 500, count_fire, &fired);
    assert_int_equal(fired, 1);
}

static void wheel_long_pause_fires_all_that_is_due(void **state)
{
    (void)state;
    struct peal_wheel wheel;
    static struct peal_timer timers[1000];
    int fired = 0;
    peal_wheel_init(&wheel, 0);
    for (int i = 0; i < 1000; i++) {
        peal_timer_init(&timers[i]);
        peal_wheel_arm(&wheel, &timers[i], (uint64_t)i * 100);
    }
    peal_wheel_advance(&wheel, 49900, count_fire, &fired);
    assert_int_equal(fired, 500);
    peal_wheel_advance(&wheel, (uint64_t)1 << 50, count_fire, &fired);
    assert_int_equal(fired, 1000);
}

/* Three timers that are due together; the first to fire frees the second, moves the third and
 * arms itself again. */
struct trio {
    struct peal_wheel wheel;
    struct peal_timer *timers[3];
    int fired[3];
};

static void trio_on_fire(void *ctx, struct peal_timer *timer)
{
    struct trio *trio = ctx;
    int which = 0;
    while (timer != trio->timers[which])
        which++;
    trio->fired[which]++;
    if (which != 0 || trio->fired[0] > 1) return;
    peal_wheel_disarm(trio->timers[1]);
    free(trio->timers[1]);
    trio->timers[1] = NULL;
    peal_wheel_arm(&trio->wheel, trio->timers[2], 300);
    peal_wheel_arm(&trio->wheel, timer, 0);
}

static void wheel_fire_may_free_move_and_arm_timers(void **state)
{
    (void)state;
    struct trio trio = {0};
    peal_wheel_init(&trio.wheel, 0);
    for (int i = 0; i < 3; i++) {
        trio.timers[i] = malloc(sizeof *trio.timers[i]);
        assert_non_null(trio.timers[i]);
        peal_timer_init(trio.timers[i]);
        peal_wheel_arm(&trio.wheel, trio.timers[i], 100);
    }
    peal_wheel_advance(&trio.wheel, 100, trio_on_fire, &trio);
    assert_int_equal(trio.fired[0], 1); /* its second time is a later tick */
    assert_int_equal(trio.fired[2], 0);
    peal_wheel_advance(&trio.wheel, 299, trio_on_fire, &trio);
    assert_int_equal(trio.fired[0], 2);
    assert_int_equal(trio.fired[2], 0);
    peal_wheel_advance(&trio.wheel, 300, trio_on_fire, &trio);
    assert_int_equal(trio.fired[1], 0);
    assert_int_equal(trio.fired[2], 1);
    free(trio.timers[0]);
    free(trio.timers[2]);
}

/* The naive list: a timer fires in the first advance whose tick is at or behind its own. */
enum { TIMERS = 300, STEPS = 20000 };

struct naive {
    struct peal_timer timer;
    uint64_t due_tick; /* 0: not armed */
    bool fired;
};

static void naive_on_fire(void *ctx, struct peal_timer *timer)
{
    struct naive *all = ctx;
    struct naive *one = (struct naive *)(void *)timer; /* its first member */
    assert_in_range((uintptr_t)one, (uintptr_t)all, (uintptr_t)(all + TIMERS - 1));
    assert_false(one->fired);
    one->fired = true;
}

static void naive_arm(struct naive *one, uint64_t at_ms, uint64_t now_ms)
{
    uint64_t due = at_ms / TICK + (at_ms % TICK != 0);
    uint64_t next = now_ms / TICK + 1;
    one->due_tick = due < next ? next : due;
}

static void naive_check(struct naive *all, uint64_t now_ms)
{
    for (int i = 0; i < TIMERS; i++) {
        bool due = all[i].due_tick != 0 && all[i].due_tick <= now_ms / TICK;
        assert_int_equal(all[i].fired, due);
        if (due) all[i].due_tick = 0;
        all[i].fired = false;
    }
}

static void wheel_random_use_agrees_with_a_naive_list(void **state)
{
    (void)state;
    uint64_t seed = peal_random_u64();
    print_message("seed %llu\n", (unsigned long long)seed);
    unsigned short random[3] = {(unsigned short)seed, (unsigned short)(seed >> 16),
                                (unsigned short)(seed >> 32)};
    static struct naive all[TIMERS];
    struct peal_wheel wheel;
    uint64_t now = (uint64_t)nrand48(random);
    peal_wheel_init(&wheel, now);
    for (int i = 0; i < TIMERS; i++)
        peal_timer_init(&all[i].timer);

    for (int step = 0; step < STEPS; step++) {
        struct naive *one = &all[nrand48(random) % TIMERS];
        long what = nrand48(random) % 10;
        if (what < 6) {
            /* Mostly near, sometimes some laps away, sometimes past. */
            uint64_t range = what < 3 ? 20 * TICK : what < 5 ? LAP : 5 * LAP;
            uint64_t at = now + (uint64_t)nrand48(random) % range - 2 * TICK;
            peal_wheel_arm(&wheel, &one->timer, at);
            naive_arm(one, at, now);
        } else if (what < 7) {
            peal_wheel_disarm(&one->timer);
            one->due_tick = 0;
        } else {
            uint64_t range = step % 100 == 0 ? 3 * LAP : 4 * TICK;
            now += (uint64_t)nrand48(random) % range;
            peal_wheel_advance(&wheel, now, naive_on_fire, all);
            naive_check(all, now);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wheel_timer_fires_once_and_never_early),
        cmocka_unit_test(wheel_timer_on_the_tick_fires_at_its_time),
        cmocka_unit_test(wheel_timer_of_the_past_fires_with_the_next_tick),
        cmocka_unit_test(wheel_timer_of_another_lap_waits_for_it),
        cmocka_unit_test(wheel_timer_at_the_end_of_time_does_not_fire),
        cmocka_unit_test(wheel_disarm_is_harmless_twice_and_rearm_moves),
        cmocka_unit_test(wheel_long_pause_fires_all_that_is_due),
        cmocka_unit_test(wheel_fire_may_free_move_and_arm_timers),
        cmocka_unit_test(wheel_random_use_agrees_with_a_naive_list),
    };
    return cmocka_run_group_tests_name("wheel", tests, NULL, NULL);
}

#include "node/drain.h"

#include "base/clock.h"
#include "tests/unit/hub_rig.h"

static const char yaml[] = "drain: {settle: 1s, spread: 4s}\n"
                           "groups:\n"
                           "  - {match: 'user:{id}', durable: true}\n"
                           "  - {match: '*', join: anyone}\n";

static struct peal_config_route native = {
    .path = "/", .dialect = PEAL_DIALECT_NATIVE, .identity = PEAL_IDENTITY_ANONYMOUS};
static struct peal_config_route raw = {
    .path = "/", .dialect = PEAL_DIALECT_RAW, .identity = PEAL_IDENTITY_ANONYMOUS};

enum { CONNS_MAX = 3 * PEAL_DRAIN_AT_ONCE };

struct world {
    struct rig *rig;
    struct peal_drain drain;
    struct peal_conn conns[CONNS_MAX];
    bool gone[CONNS_MAX];
    size_t count;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    w->rig = rig_open(yaml);
    peal_drain_init(&w->drain, 0, 1);
    *state = w;
    return 0;
}

static void end_conn(struct world *w, size_t i)
{
    if (!w->gone[i]) peal_conn_fini(&w->conns[i]);
    w->gone[i] = true;
}

static int teardown(void **state)
{
    struct world *w = *state;
    for (size_t i = 0; i < w->count; i++)
        end_conn(w, i);
    rig_close(w->rig);
    free(w);
    return 0;
}

static struct peal_conn *open_conn(struct world *w, const struct peal_config_route *route)
{
    struct peal_conn *conn = &w->conns[w->count++];
    rig_connect(w->rig, conn, route, NULL);
    return conn;
}

static struct peal_conn *open_welcomed(struct world *w)
{
    struct peal_conn *conn = open_conn(w, &native);
    rig_say(conn, "{\"type\":\"hello\"}");
    rig_expect_part(w->rig, conn, "\"welcome\"");
    return conn;
}

static void pass(struct world *w, uint64_t ms)
{
    rig_pass(w->rig, ms);
    peal_drain_advance(&w->drain, &w->rig->hub);
}

static void enter_spread(struct world *w)
{
    peal_drain_begin(&w->drain, &w->rig->hub);
    pass(w, 1000);
    assert_int_equal(w->drain.phase, PEAL_DRAIN_SPREAD);
}

/* ---- arithmetic -------------------------------------------------------------------------- */

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The most that leave in any one second, of times that are sorted here. */
static uint64_t most_in_a_second(uint64_t *times, uint64_t count)
{
    uint64_t most = 0;
    uint64_t first = 0;
    qsort(times, count, sizeof *times, by_time);
    for (uint64_t last = 0; last < count; last++) {
        while (times[last] - times[first] >= 1000)
            first++;
        if (last - first + 1 > most) most = last - first + 1;
    }
    return most;
}

/* ceil(count / spread * 1.5) in a second. */
static uint64_t bound(uint64_t count, uint64_t spread_ms)
{
    return (count * 1500 + spread_ms - 1) / spread_ms;
}

static uint64_t random_below(unsigned *seed, uint64_t end)
{
    return end == 0 ? 0 : (uint64_t)rand_r(seed) % end;
}

/* When each connection of one worker leaves: anywhere in its slot. */
static void leave(const struct peal_drain *d, uint64_t count, uint64_t spread_ms, unsigned *seed,
                  uint64_t *times)
{
    uint64_t width_ms = peal_drain_width_ms(spread_ms);
    uint64_t before_ms = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t slot_ms = peal_drain_slot_ms(d, i, count, spread_ms);
        assert_true(slot_ms >= before_ms);
        assert_true(slot_ms + width_ms <= spread_ms);
        before_ms = slot_ms;
        times[i] = slot_ms + random_below(seed, width_ms + 1);
    }
}

static void drain_slots_never_let_more_than_half_as_many_again_leave_in_a_second(void **state)
{
    (void)state;
    static uint64_t times[4000];
    unsigned seed = (unsigned)peal_random_u64();
    print_message("seed %u\n", seed);
    for (int round = 0; round < 2000; round++) {
        struct peal_drain d;
        uint64_t spread_ms = 1 + random_below(&seed, round % 2 == 0 ? 60000 : 3000);
        uint64_t count = 1 + random_below(&seed, round % 3 == 0 ? 4000 : 60);
        peal_drain_init(&d, 0, 1);
        leave(&d, count, spread_ms, &seed, times);
        uint64_t most = most_in_a_second(times, count);
        if (most > bound(count, spread_ms))
            fail_msg("%llu of %llu in a second, spread %llu ms", (unsigned long long)most,
                     (unsigned long long)count, (unsigned long long)spread_ms);
    }
}

/* Where workers have different numbers of connections their rounding adds up: one each. */
static void drain_slots_of_several_workers_keep_the_bound_but_for_rounding(void **state)
{
    (void)state;
    static uint64_t times[64 * 200];
    unsigned seed = (unsigned)peal_random_u64();
    print_message("seed %u\n", seed);
    for (int round = 0; round < 500; round++) {
        uint32_t workers = 1 + (uint32_t)random_below(&seed, 64);
        uint64_t spread_ms = 1 + random_below(&seed, 60000);
        uint64_t most_of_one = 1 + random_below(&seed, 200);
        uint64_t count = 0;
        for (uint32_t i = 0; i < workers; i++) {
            struct peal_drain d;
            uint64_t own = 1 + random_below(&seed, most_of_one);
            peal_drain_init(&d, i, workers);
            leave(&d, own, spread_ms, &seed, times + count);
            count += own;
        }
        assert_true(most_in_a_second(times, count) <= bound(count, spread_ms) + workers - 1);
    }
}

static void drain_slots_of_workers_with_one_connection_each_are_apart(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 10; i++) {
        struct peal_drain d;
        peal_drain_init(&d, i, 10);
        assert_int_equal(peal_drain_slot_ms(&d, 0, 1, 20000), i * 1975);
    }
}

static void drain_slots_of_very_many_connections_in_a_long_time_do_not_overflow(void **state)
{
    (void)state;
    struct peal_drain d;
    const uint64_t hour_ms = 3600000;
    peal_drain_init(&d, 63, 64);
    uint64_t last_ms = peal_drain_slot_ms(&d, 9999999, 10000000, hour_ms);
    assert_in_range(last_ms, hour_ms - 251, hour_ms - 250);
}

/* ---- phases ------------------------------------------------------------------------------ */

static void drain_goes_from_phase_to_phase_by_time(void **state)
{
    struct world *w = *state;
    open_welcomed(w);
    pass(w, 10000);
    assert_int_equal(w->drain.phase, PEAL_DRAIN_OFF);
    assert_false(peal_drain_tell(&w->drain, &w->rig->hub));

    peal_drain_begin(&w->drain, &w->rig->hub);
    pass(w, 950);
    assert_int_equal(w->drain.phase, PEAL_DRAIN_SETTLE);
    assert_false(peal_drain_tell(&w->drain, &w->rig->hub));
    rig_expect_nothing(w->rig, &w->conns[0]);
    peal_drain_begin(&w->drain, &w->rig->hub); /* again changes nothing */
    pass(w, 50);
    assert_int_equal(w->drain.phase, PEAL_DRAIN_SPREAD);
    pass(w, 3950);
    assert_int_equal(w->drain.phase, PEAL_DRAIN_SPREAD);
    pass(w, 50);
    assert_int_equal(w->drain.phase, PEAL_DRAIN_CLOSE);
}

static void drain_without_connections_does_not_wait_for_the_spread(void **state)
{
    struct world *w = *state;
    peal_drain_begin(&w->drain, &w->rig->hub);
    pass(w, 500);
    assert_int_equal(w->drain.phase, PEAL_DRAIN_SETTLE);
    pass(w, 500);
    assert_int_equal(w->drain.phase, PEAL_DRAIN_CLOSE);
}

static void drain_hurried_closes_at_once_in_every_phase(void **state)
{
    struct world *w = *state;
    open_welcomed(w);
    for (int phase = PEAL_DRAIN_OFF; phase <= PEAL_DRAIN_SPREAD; phase++) {
        struct peal_drain d;
        peal_drain_init(&d, 0, 1);
        d.phase = (enum peal_drain_phase)phase;
        peal_drain_hurry(&d, &w->rig->hub);
        assert_int_equal(d.phase, PEAL_DRAIN_CLOSE);
        assert_true(d.hurried);
        assert_int_equal(d.count, 1);
    }
    peal_drain_hurry(&w->drain, &w->rig->hub);
    assert_false(peal_drain_tell(&w->drain, &w->rig->hub));
    rig_expect_close(w->rig, &w->conns[0], 4301);
}

/* ---- connections ------------------------------------------------------------------------- */

static void drain_tells_native_clients_their_slots_in_order_and_closes_them_there(void **state)
{
    struct world *w = *state;
    struct peal_conn *first = open_welcomed(w);
    struct peal_conn *mute = open_conn(w, &raw);
    struct peal_conn *last = open_welcomed(w);
    enter_spread(w);
    assert_false(peal_drain_tell(&w->drain, &w->rig->hub));
    rig_expect(w->rig, first, "{\"type\":\"goaway\",\"in_ms\":0,\"spread_ms\":250}");
    rig_expect(w->rig, last, "{\"type\":\"goaway\",\"in_ms\":2500,\"spread_ms\":250}");
    rig_expect_nothing(w->rig, mute);

    pass(w, 200);
    rig_expect_nothing(w->rig, first);
    pass(w, 50);
    rig_expect_close(w->rig, first, 4301);
    pass(w, 1200);
    rig_expect_nothing(w->rig, mute);
    pass(w, 50);
    rig_expect_close(w->rig, mute, 4301);
    rig_expect_nothing(w->rig, last);
    assert_false(peal_drain_tell(&w->drain, &w->rig->hub));
    pass(w, 1250);
    rig_expect_close(w->rig, last, 4301);
}

static void drain_goaway_comes_after_a_welcome_that_was_owed(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_conn(w, &native);
    open_welcomed(w);
    enter_spread(w);
    assert_false(peal_drain_tell(&w->drain, &w->rig->hub));
    rig_expect_nothing(w->rig, conn);
    pass(w, 100);
    rig_say(conn, "{\"type\":\"hello\"}");
    rig_expect_part(w->rig, conn, "\"welcome\"");
    rig_expect(w->rig, conn, "{\"type\":\"goaway\",\"in_ms\":150,\"spread_ms\":0}");
}

static void drain_tells_a_share_at_a_time_and_nobody_twice(void **state)
{
    struct world *w = *state;
    while (w->count < CONNS_MAX)
        open_welcomed(w);
    enter_spread(w);
    assert_true(peal_drain_tell(&w->drain, &w->rig->hub));
    for (size_t i = 0; i < CONNS_MAX; i++) {
        bool told = peal_deadline_waits(&w->conns[i].deadlines, PEAL_DUE_DRAIN);
        assert_int_equal(told, i < PEAL_DRAIN_AT_ONCE);
    }
    /* Some go before all are told: those behind them move up, and nobody gets a second slot. */
    for (size_t i = 0; i < CONNS_MAX; i += 2)
        end_conn(w, i);
    while (peal_drain_tell(&w->drain, &w->rig->hub)) {
    }
    for (size_t i = 1; i < CONNS_MAX; i += 2) {
        rig_expect_part(w->rig, &w->conns[i], "\"goaway\"");
        rig_expect_nothing(w->rig, &w->conns[i]);
    }
}

static void drain_closes_who_is_left_a_share_at_a_time(void **state)
{
    struct world *w = *state;
    while (w->count < CONNS_MAX)
        open_conn(w, &raw);
    peal_drain_hurry(&w->drain, &w->rig->hub);
    for (size_t share = 1; share <= 3; share++) {
        assert_int_equal(peal_drain_tell(&w->drain, &w->rig->hub), share < 3);
        size_t open = 0;
        for (size_t i = 0; i < CONNS_MAX; i++)
            open += w->conns[i].open;
        assert_int_equal(open, CONNS_MAX - share * PEAL_DRAIN_AT_ONCE);
    }
    for (size_t i = 0; i < CONNS_MAX; i++)
        rig_expect_close(w->rig, &w->conns[i], 4301);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drain_slots_never_let_more_than_half_as_many_again_leave_in_a_second),
        cmocka_unit_test(drain_slots_of_several_workers_keep_the_bound_but_for_rounding),
        cmocka_unit_test(drain_slots_of_workers_with_one_connection_each_are_apart),
        cmocka_unit_test(drain_slots_of_very_many_connections_in_a_long_time_do_not_overflow),
        TEST(drain_goes_from_phase_to_phase_by_time),
        TEST(drain_without_connections_does_not_wait_for_the_spread),
        TEST(drain_hurried_closes_at_once_in_every_phase),
        TEST(drain_tells_native_clients_their_slots_in_order_and_closes_them_there),
        TEST(drain_goaway_comes_after_a_welcome_that_was_owed),
        TEST(drain_tells_a_share_at_a_time_and_nobody_twice),
        TEST(drain_closes_who_is_left_a_share_at_a_time),
    };
    return cmocka_run_group_tests_name("drain", tests, NULL, NULL);
}

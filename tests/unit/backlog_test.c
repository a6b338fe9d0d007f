#include "router/backlog.h"

#include <string.h>

#include "base/metrics.h"
#include "tests/unit/unit.h"

static struct peal_peer peer_named(const char *name)
{
    struct peal_peer peer = {.id_size = (unsigned char)strlen(name)};
    memcpy(peer.id, name, strlen(name));
    return peer;
}

static void add(struct peal_backlog *b, const struct peal_peer *peer, size_t bytes, uint64_t now_ms)
{
    assert_int_equal(peal_backlog_add(b, peer, bytes, now_ms), PEAL_OK);
}

static void backlog_of_one_publisher_is_bounded_and_leaves_room_for_others(void **state)
{
    (void)state;
    struct peal_backlog b;
    struct peal_peer greedy = peer_named("greedy");
    struct peal_peer modest = peer_named("modest");
    assert_int_equal(peal_backlog_init(&b), PEAL_OK);
    for (int i = 0; i < PEAL_BACKLOG_PEER_MAX; i++) {
        assert_false(peal_backlog_peer_full(&b, &greedy));
        add(&b, &greedy, 10, 1);
    }
    assert_true(peal_backlog_peer_full(&b, &greedy));
    assert_false(peal_backlog_peer_full(&b, &modest));
    assert_false(peal_backlog_full(&b));

    peal_backlog_remove(&b, &greedy, 10, 2);
    assert_false(peal_backlog_peer_full(&b, &greedy));
    peal_backlog_fini(&b);
}

static void backlog_bytes_of_one_publisher_are_bounded(void **state)
{
    (void)state;
    struct peal_backlog b;
    struct peal_peer peer = peer_named("p");
    assert_int_equal(peal_backlog_init(&b), PEAL_OK);
    add(&b, &peer, PEAL_BACKLOG_PEER_BYTES_MAX - 1, 1);
    assert_false(peal_backlog_peer_full(&b, &peer));
    add(&b, &peer, 1, 1);
    assert_true(peal_backlog_peer_full(&b, &peer));
    peal_backlog_fini(&b);
}

static void backlog_bytes_of_all_are_bounded(void **state)
{
    (void)state;
    struct peal_backlog b;
    assert_int_equal(peal_backlog_init(&b), PEAL_OK);
    add(&b, NULL, PEAL_BACKLOG_BYTES_MAX / 2 - 1, 1);
    assert_false(peal_backlog_half_full(&b));
    add(&b, NULL, 1, 1);
    assert_true(peal_backlog_half_full(&b));
    assert_false(peal_backlog_full(&b));
    add(&b, NULL, PEAL_BACKLOG_BYTES_MAX / 2, 1);
    assert_true(peal_backlog_full(&b));
    peal_backlog_fini(&b);
}

static void backlog_forgets_a_publisher_with_its_last_message(void **state)
{
    (void)state;
    struct peal_backlog b;
    struct peal_peer one = peer_named("one");
    struct peal_peer two = peer_named("two");
    assert_int_equal(peal_backlog_init(&b), PEAL_OK);
    add(&b, &one, 5, 1);
    add(&b, &two, 6, 1);
    add(&b, &two, 7, 1);
    assert_int_equal(b.peers.count, 2);
    peal_backlog_remove(&b, &two, 6, 1);
    peal_backlog_remove(&b, &one, 5, 1);
    assert_int_equal(b.peers.count, 1);
    peal_backlog_remove(&b, &two, 7, 1);
    assert_int_equal(b.peers.count, 0);
    assert_int_equal(b.count, 0);
    assert_int_equal(b.bytes, 0);
    peal_backlog_fini(&b);
}

/* A store that does `per_s` messages per second, with `count` always waiting. */
static void run_store(struct peal_backlog *b, size_t count, uint64_t per_s, uint64_t from_ms)
{
    while (b->count < count)
        add(b, NULL, 1, from_ms);
    for (uint64_t ms = 100; ms <= 5000; ms += 100) {
        for (uint64_t i = 0; i < per_s / 10; i++) {
            peal_backlog_remove(b, NULL, 1, from_ms + ms);
            add(b, NULL, 1, from_ms + ms);
        }
    }
}

static void backlog_tells_to_come_back_when_half_of_it_is_done(void **state)
{
    (void)state;
    struct peal_backlog b;
    assert_int_equal(peal_backlog_init(&b), PEAL_OK);
    assert_int_equal(peal_backlog_after_ms(&b), PEAL_BACKLOG_AFTER_MS);
    run_store(&b, 10000, 1000, 1000); /* 10 s of work */
    assert_in_range(peal_backlog_after_ms(&b), 4500, 5500);
    run_store(&b, 10000, 10000, 10000); /* it became ten times as fast */
    assert_in_range(peal_backlog_after_ms(&b), 400, 700);
    peal_backlog_fini(&b);
}

static void backlog_never_tells_to_come_back_at_once_or_never(void **state)
{
    (void)state;
    struct peal_backlog b;
    assert_int_equal(peal_backlog_init(&b), PEAL_OK);
    run_store(&b, 10, 10000, 1000);
    assert_int_equal(peal_backlog_after_ms(&b), PEAL_BACKLOG_AFTER_MIN_MS);
    run_store(&b, 1000000, 10, 10000);
    assert_int_equal(peal_backlog_after_ms(&b), PEAL_BACKLOG_AFTER_MAX_MS);
    peal_backlog_fini(&b);
}

static void backlog_time_without_work_is_not_measured(void **state)
{
    (void)state;
    struct peal_backlog b;
    assert_int_equal(peal_backlog_init(&b), PEAL_OK);
    run_store(&b, 1000, 1000, 1000);
    uint64_t before = peal_backlog_after_ms(&b);
    while (b.count > 0)
        peal_backlog_remove(&b, NULL, 1, 6000);
    run_store(&b, 1000, 1000, 3600000); /* an hour later */
    assert_in_range(peal_backlog_after_ms(&b), before / 2, before * 2);
    peal_backlog_fini(&b);
}

static void backlog_is_a_gauge_that_ends_at_what_it_began_with(void **state)
{
    (void)state;
    struct peal_backlog b;
    peal_metrics_thread_start();
    int64_t before = peal_metrics_sum(PEAL_M_WAITING);
    assert_int_equal(peal_backlog_init(&b), PEAL_OK);
    add(&b, NULL, 1, 1);
    add(&b, NULL, 1, 1);
    peal_backlog_remove(&b, NULL, 1, 1);
    assert_int_equal(peal_metrics_sum(PEAL_M_WAITING), before + 1);
    peal_backlog_fini(&b);
    assert_int_equal(peal_metrics_sum(PEAL_M_WAITING), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backlog_of_one_publisher_is_bounded_and_leaves_room_for_others),
        cmocka_unit_test(backlog_bytes_of_one_publisher_are_bounded),
        cmocka_unit_test(backlog_bytes_of_all_are_bounded),
        cmocka_unit_test(backlog_forgets_a_publisher_with_its_last_message),
        cmocka_unit_test(backlog_tells_to_come_back_when_half_of_it_is_done),
        cmocka_unit_test(backlog_never_tells_to_come_back_at_once_or_never),
        cmocka_unit_test(backlog_time_without_work_is_not_measured),
        cmocka_unit_test(backlog_is_a_gauge_that_ends_at_what_it_began_with),
    };
    return cmocka_run_group_tests_name("backlog", tests, NULL, NULL);
}

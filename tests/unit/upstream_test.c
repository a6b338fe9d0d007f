#include "router/upstream.h"

#include <stdio.h>

#include "base/metrics.h"
#include "proto/wire.h"
#include "tests/unit/unit.h"

static int setup(void **state)
{
    static struct peal_upstream u;
    peal_metrics_thread_start();
    *state = &u;
    return peal_upstream_init(&u) != PEAL_OK;
}

static int teardown(void **state)
{
    peal_upstream_fini(*state);
    assert_int_equal(peal_metrics_sum(PEAL_M_RELAY_TOPICS), 0);
    assert_int_equal(peal_metrics_sum(PEAL_M_RELAY_UPLINKS), 0);
    return 0;
}

/* What XPUB says: 1 or 0 and the topic of a node. */
static bool node_event(struct peal_upstream *u, char kind, uint64_t boot)
{
    char event[1 + PEAL_TOPIC_SIZE];
    event[0] = kind;
    peal_topic_of(boot, event + 1);
    return peal_upstream_on_subscription(u, peal_span_make(event, sizeof event));
}

static void upstream_subscription_of_a_node_goes_up_once_and_is_taken_back_once(void **state)
{
    struct peal_upstream *u = *state;
    assert_true(node_event(u, 1, 7));
    assert_false(node_event(u, 1, 7));
    assert_true(peal_upstream_on_subscription(u, peal_span_make("\1all", 4)));
    assert_int_equal(peal_metrics_sum(PEAL_M_RELAY_TOPICS), 2);
    assert_true(node_event(u, 0, 7));
    assert_false(node_event(u, 0, 7));
    assert_int_equal(peal_metrics_sum(PEAL_M_RELAY_TOPICS), 1);
    assert_true(node_event(u, 1, 7));
}

static void upstream_what_is_no_topic_of_ours_goes_no_further(void **state)
{
    struct peal_upstream *u = *state;
    static const struct {
        const char *at;
        size_t size;
    } events[] = {
        {"", 0},
        {"\1", 1}, /* everything */
        {"\1n", 2},
        {"\1al", 3},
        {"\1all ", 5},
        {"\1room:lobby", 11},
        {"\1n00000000000000zz", 18},
        {"\1n00000000000000010", 19},
        {"\2all", 4}, /* a message of a node */
        {"n0000000000000001", 17},
    };
    int64_t refused = peal_metrics_sum(PEAL_M_RELAY_REFUSED);
    size_t count = sizeof events / sizeof events[0];
    for (size_t i = 0; i < count; i++)
        assert_false(
            peal_upstream_on_subscription(u, peal_span_make(events[i].at, events[i].size)));
    assert_int_equal(peal_metrics_sum(PEAL_M_RELAY_REFUSED) - refused, count);
    assert_int_equal(u->topics.count, 0);
    /* The end of one that was refused is not told either. */
    assert_false(peal_upstream_on_subscription(u, peal_span_make("\0room:lobby", 11)));
}

static void upstream_topics_beyond_the_limit_are_refused_until_one_goes(void **state)
{
    struct peal_upstream *u = *state;
    for (uint64_t boot = 0; boot < PEAL_UPSTREAM_TOPICS; boot++)
        assert_true(node_event(u, 1, boot));
    int64_t refused = peal_metrics_sum(PEAL_M_RELAY_REFUSED);
    assert_false(node_event(u, 1, PEAL_UPSTREAM_TOPICS));
    assert_int_equal(peal_metrics_sum(PEAL_M_RELAY_REFUSED) - refused, 1);
    assert_false(node_event(u, 0, PEAL_UPSTREAM_TOPICS));
    assert_int_equal(u->topics.count, PEAL_UPSTREAM_TOPICS);
    assert_true(node_event(u, 0, 3));
    assert_true(node_event(u, 1, PEAL_UPSTREAM_TOPICS));
}

static void upstream_first_connection_is_not_announced_and_each_later_one_is(void **state)
{
    struct peal_upstream *u = *state;
    assert_false(peal_upstream_tell(u, 10000));
    peal_upstream_on_link(u, true);
    assert_true(u->linked);
    assert_false(peal_upstream_tell(u, 10000));
    peal_upstream_on_link(u, false);
    assert_false(u->linked);
    assert_false(peal_upstream_tell(u, 20000));
    peal_upstream_on_link(u, true);
    assert_true(peal_upstream_tell(u, 20000));
    assert_int_equal(u->links, 2);
    assert_false(peal_upstream_tell(u, 30000));
    /* The end of one was not reported: the next one is new all the same. */
    peal_upstream_on_link(u, true);
    assert_true(peal_upstream_tell(u, 30000));
    assert_int_equal(peal_metrics_sum(PEAL_M_RELAY_UPLINKS), 1);
}

static void upstream_that_flaps_is_announced_once_a_second_and_when_it_is_there(void **state)
{
    struct peal_upstream *u = *state;
    peal_upstream_on_link(u, true);
    peal_upstream_on_link(u, true);
    assert_true(peal_upstream_tell(u, 10000));
    for (int i = 0; i < 5; i++)
        peal_upstream_on_link(u, true);
    assert_false(peal_upstream_tell(u, 10000 + PEAL_UPSTREAM_TELL_MS - 1));
    peal_upstream_on_link(u, false);
    assert_false(peal_upstream_tell(u, 10000 + PEAL_UPSTREAM_TELL_MS));
    peal_upstream_on_link(u, true);
    assert_true(peal_upstream_tell(u, 10000 + PEAL_UPSTREAM_TELL_MS));
    assert_false(peal_upstream_tell(u, 10000 + 2 * PEAL_UPSTREAM_TELL_MS));
}

static void upstream_that_is_away_is_tried_anew_each_time_that_took_too_long(void **state)
{
    struct peal_upstream *u = *state;
    assert_false(peal_upstream_retry(u, 1000)); /* the first try has just begun */
    assert_false(peal_upstream_retry(u, 1000 + PEAL_UPSTREAM_RETRY_MS));
    assert_true(peal_upstream_retry(u, 1001 + PEAL_UPSTREAM_RETRY_MS));
    assert_false(peal_upstream_retry(u, 1001 + 2 * PEAL_UPSTREAM_RETRY_MS));
    assert_true(peal_upstream_retry(u, 1002 + 2 * PEAL_UPSTREAM_RETRY_MS));
    peal_upstream_on_link(u, true);
    assert_false(peal_upstream_retry(u, 900000));
    peal_upstream_on_link(u, false);
    assert_false(peal_upstream_retry(u, 900001)); /* away from now on, not since the last try */
    assert_false(peal_upstream_retry(u, 900001 + PEAL_UPSTREAM_RETRY_MS));
    assert_true(peal_upstream_retry(u, 900002 + PEAL_UPSTREAM_RETRY_MS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            upstream_subscription_of_a_node_goes_up_once_and_is_taken_back_once, setup, teardown),
        cmocka_unit_test_setup_teardown(upstream_what_is_no_topic_of_ours_goes_no_further, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(upstream_topics_beyond_the_limit_are_refused_until_one_goes,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            upstream_first_connection_is_not_announced_and_each_later_one_is, setup, teardown),
        cmocka_unit_test_setup_teardown(
            upstream_that_flaps_is_announced_once_a_second_and_when_it_is_there, setup, teardown),
        cmocka_unit_test_setup_teardown(
            upstream_that_is_away_is_tried_anew_each_time_that_took_too_long, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

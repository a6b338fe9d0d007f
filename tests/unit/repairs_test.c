#include "node/repairs.h"

#include "tests/unit/unit.h"

static struct peal_repairs repairs;

static int setup(void **state)
{
    (void)state;
    peal_repairs_init(&repairs);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    peal_repairs_fini(&repairs);
    return 0;
}

static void add(uint64_t req, uint64_t now_ms)
{
    struct peal_order *order =
        peal_order_new(PEAL_ORDER_SEND, 0, req, peal_span_of("room"), peal_span_of("frame"));
    assert_int_equal(peal_repairs_add(&repairs, order, now_ms), PEAL_OK);
}

/* The request that may be sent now; 0 for none. */
static uint64_t next(uint64_t now_ms)
{
    struct peal_order *order = peal_repairs_next(&repairs, now_ms);
    uint64_t req = order == NULL ? 0 : order->req;
    peal_order_free(order);
    return req;
}

static void repairs_are_sent_in_order_and_no_more_than_allowed_at_once(void **state)
{
    (void)state;
    for (uint64_t req = 1; req <= PEAL_REPAIRS_MAX + 2; req++)
        add(req, 1000);
    for (uint64_t req = 1; req <= PEAL_REPAIRS_MAX; req++)
        assert_int_equal(next(1000), req);
    assert_int_equal(next(1000), 0);
    assert_true(peal_repairs_done(&repairs, 3));
    assert_false(peal_repairs_done(&repairs, 3)); /* answered twice */
    assert_false(peal_repairs_done(&repairs, 0));
    assert_int_equal(next(1000), PEAL_REPAIRS_MAX + 1);
    assert_int_equal(next(1000), 0);
}

static void repairs_that_take_too_long_are_given_up_wherever_they_are(void **state)
{
    (void)state;
    for (uint64_t req = 1; req <= PEAL_REPAIRS_MAX + 1; req++)
        add(req, 1000);
    for (uint64_t req = 1; req <= PEAL_REPAIRS_MAX; req++)
        assert_int_equal(next(1000 + 10 * req), req);
    assert_int_equal(peal_repairs_late(&repairs, 1000 + PEAL_REPAIR_MS - 1), 0);
    /* The one in the line, for it came first; then those on their way as their time comes. */
    assert_int_equal(peal_repairs_late(&repairs, 1000 + PEAL_REPAIR_MS), PEAL_REPAIRS_MAX + 1);
    assert_int_equal(repairs.line_count, 0);
    assert_int_equal(peal_repairs_late(&repairs, 1009 + PEAL_REPAIR_MS), 0);
    assert_int_equal(peal_repairs_late(&repairs, 1010 + PEAL_REPAIR_MS), 1);
    assert_int_equal(peal_repairs_late(&repairs, 1010 + PEAL_REPAIR_MS), 0);
    assert_false(peal_repairs_done(&repairs, 1)); /* its answer comes after all */
    add(99, 9000);
    assert_int_equal(next(9000), 99);
}

static void repairs_line_that_is_full_refuses(void **state)
{
    (void)state;
    for (uint64_t req = 1; req <= PEAL_REPAIRS_LINE; req++)
        add(req, 1000);
    struct peal_order *order =
        peal_order_new(PEAL_ORDER_SEND, 0, 77777, peal_span_of("room"), peal_span_of("frame"));
    assert_int_equal(peal_repairs_add(&repairs, order, 1000), PEAL_EQUEUE_FULL);
    peal_order_free(order);
    assert_int_equal(next(1000), 1);
    add(77777, 1000);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(repairs_are_sent_in_order_and_no_more_than_allowed_at_once),
        TEST(repairs_that_take_too_long_are_given_up_wherever_they_are),
        TEST(repairs_line_that_is_full_refuses),
    };
    return cmocka_run_group_tests_name("repairs", tests, NULL, NULL);
}

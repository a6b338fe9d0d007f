#include "router/history.h"

#include "tests/unit/unit.h"

static void add(struct peal_history *h, const char *text, uint64_t at_ms)
{
    struct peal_bytes *bytes = peal_bytes_new(text, strlen(text));
    peal_history_add(h, bytes, at_ms);
    peal_bytes_unref(bytes);
}

static void history_full_drops_the_oldest(void **state)
{
    (void)state;
    struct peal_history h;
    peal_history_init(&h, 3);
    add(&h, "a", 1);
    add(&h, "bb", 2);
    add(&h, "ccc", 3);
    add(&h, "dddd", 4);
    assert_int_equal(h.count, 3);
    assert_int_equal(h.bytes, 9);
    assert_true(peal_span_is(peal_bytes_span(peal_history_get(&h, 0)), "bb"));
    assert_true(peal_span_is(peal_bytes_span(peal_history_get(&h, 2)), "dddd"));
    peal_history_fini(&h);
}

static void history_trim_drops_what_is_older_than_age(void **state)
{
    (void)state;
    struct peal_history h;
    peal_history_init(&h, 100);
    for (uint64_t i = 0; i < 50; i++)
        add(&h, "x", i * 10);
    peal_history_trim(&h, 500, 100);
    assert_int_equal(h.count, 10); /* those of 400..490 */
    peal_history_trim(&h, 10000, 100);
    assert_int_equal(h.count, 0);
    assert_int_equal(h.bytes, 0);
    assert_null(h.items); /* an empty ring costs nothing */
    peal_history_fini(&h);
}

static void history_of_no_messages_keeps_nothing(void **state)
{
    (void)state;
    struct peal_history h;
    struct peal_bytes *bytes = peal_bytes_new("x", 1);
    peal_history_init(&h, 0);
    peal_history_add(&h, bytes, 1);
    assert_int_equal(h.count, 0);
    assert_int_equal(peal_bytes_refs(bytes), 1);
    peal_bytes_unref(bytes);
    peal_history_fini(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(history_full_drops_the_oldest),
        cmocka_unit_test(history_trim_drops_what_is_older_than_age),
        cmocka_unit_test(history_of_no_messages_keeps_nothing),
    };
    return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}

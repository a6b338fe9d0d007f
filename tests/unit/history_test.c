#include "router/history.h"

#include "tests/unit/unit.h"

static void add(struct peal_history **h, uint32_t max, const char *text, uint64_t at_ms)
{
    struct peal_bytes *bytes = peal_bytes_new(text, strlen(text));
    peal_history_add(h, max, bytes, at_ms);
    peal_bytes_unref(bytes);
}

static void history_full_drops_the_oldest(void **state)
{
    (void)state;
    struct peal_history *h = NULL;
    add(&h, 3, "a", 1);
    add(&h, 3, "bb", 2);
    add(&h, 3, "ccc", 3);
    peal_history_begin_fetch(h); /* hints that change nothing */
    peal_history_fetch(h, 3);
    add(&h, 3, "dddd", 4);
    assert_int_equal(peal_history_count(h), 3);
    assert_int_equal(peal_history_bytes(h), 9);
    assert_true(peal_span_is(peal_bytes_span(peal_history_get(h, 0)), "bb"));
    assert_true(peal_span_is(peal_bytes_span(peal_history_get(h, 2)), "dddd"));
    assert_int_equal(peal_history_newest_ms(h), 4);
    peal_history_clear(&h);
    assert_null(h);
}

static void history_that_grows_after_it_went_round_stays_in_order(void **state)
{
    (void)state;
    struct peal_history *h = NULL;
    char text[2] = "a";
    for (int i = 0; i < 4; i++, text[0]++)
        add(&h, 100, text, (uint64_t)i);
    peal_history_trim(&h, 3, 1); /* c, d are left; the next ones begin at the front of the ring */
    for (int i = 4; i < 9; i++, text[0]++)
        add(&h, 100, text, (uint64_t)i);
    assert_int_equal(peal_history_count(h), 7);
    for (uint32_t i = 0; i < 7; i++) {
        char expected[2] = {(char)('c' + i), '\0'};
        assert_true(peal_span_is(peal_bytes_span(peal_history_get(h, i)), expected));
    }
    peal_history_clear(&h);
}

static void history_trim_drops_what_is_older_than_age(void **state)
{
    (void)state;
    struct peal_history *h = NULL;
    for (uint64_t i = 0; i < 50; i++)
        add(&h, 100, "x", i * 10);
    peal_history_trim(&h, 500, 100);
    assert_int_equal(peal_history_count(h), 10); /* those of 400..490 */
    peal_history_trim(&h, 10000, 100);
    assert_int_equal(peal_history_count(h), 0);
    assert_int_equal(peal_history_bytes(h), 0);
    assert_null(h); /* an empty ring costs nothing */
}

static void history_of_no_messages_keeps_nothing(void **state)
{
    (void)state;
    struct peal_history *h = NULL;
    struct peal_bytes *bytes = peal_bytes_new("x", 1);
    peal_history_add(&h, 0, bytes, 1);
    assert_null(h);
    assert_int_equal(peal_bytes_refs(bytes), 1);
    peal_bytes_unref(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(history_full_drops_the_oldest),
        cmocka_unit_test(history_that_grows_after_it_went_round_stays_in_order),
        cmocka_unit_test(history_trim_drops_what_is_older_than_age),
        cmocka_unit_test(history_of_no_messages_keeps_nothing),
    };
    return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}

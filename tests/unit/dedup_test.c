#include "router/dedup.h"

#include <stdio.h>

#include "tests/unit/unit.h"

static void dedup_same_id_in_the_window_is_found_with_its_first_position(void **state)
{
    (void)state;
    struct peal_dedup d;
    uint64_t epoch = 0;
    uint64_t offset = 0;
    assert_int_equal(peal_dedup_init(&d, 1000, 10), PEAL_OK);
    peal_dedup_add(&d, peal_span_of("g"), peal_span_of("id"), 100, 7, 8);
    assert_true(peal_dedup_find(&d, peal_span_of("g"), peal_span_of("id"), 1100, &epoch, &offset));
    assert_int_equal(epoch, 7);
    assert_int_equal(offset, 8);
    assert_false(peal_dedup_find(&d, peal_span_of("g"), peal_span_of("id"), 1101, &epoch, &offset));
    peal_dedup_fini(&d);
}

static void dedup_another_group_or_split_of_the_bytes_is_another_message(void **state)
{
    (void)state;
    struct peal_dedup d;
    uint64_t epoch;
    uint64_t offset;
    assert_int_equal(peal_dedup_init(&d, 1000, 10), PEAL_OK);
    peal_dedup_add(&d, peal_span_of("ab"), peal_span_of("c"), 1, 1, 1);
    assert_false(peal_dedup_find(&d, peal_span_of("a"), peal_span_of("bc"), 1, &epoch, &offset));
    assert_false(peal_dedup_find(&d, peal_span_of("ab"), peal_span_of("d"), 1, &epoch, &offset));
    peal_dedup_fini(&d);
}

static void dedup_beyond_its_count_forgets_the_oldest(void **state)
{
    (void)state;
    struct peal_dedup d;
    char id[16];
    uint64_t epoch;
    uint64_t offset;
    assert_int_equal(peal_dedup_init(&d, 1000000, 100), PEAL_OK);
    for (uint64_t i = 0; i < 150; i++) {
        snprintf(id, sizeof id, "%u", (unsigned)i);
        peal_dedup_add(&d, peal_span_of("g"), peal_span_of(id), i, 1, i + 1);
    }
    assert_int_equal(d.map.count, 100);
    assert_false(peal_dedup_find(&d, peal_span_of("g"), peal_span_of("49"), 150, &epoch, &offset));
    assert_true(peal_dedup_find(&d, peal_span_of("g"), peal_span_of("50"), 150, &epoch, &offset));
    peal_dedup_fini(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dedup_same_id_in_the_window_is_found_with_its_first_position),
        cmocka_unit_test(dedup_another_group_or_split_of_the_bytes_is_another_message),
        cmocka_unit_test(dedup_beyond_its_count_forgets_the_oldest),
    };
    return cmocka_run_group_tests_name("dedup", tests, NULL, NULL);
}

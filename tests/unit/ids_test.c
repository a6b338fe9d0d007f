#include "storage/ids.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/unit.h"

enum { AGE_MS = 1000, COUNT_MAX = 10, NOW_MS = 1700000 };

static struct peal_ids ids;

static int setup(void **state)
{
    (void)state;
    return peal_ids_init(&ids, AGE_MS, COUNT_MAX) == PEAL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    peal_ids_fini(&ids);
    return 0;
}

static struct peal_id id_of(uint64_t n)
{
    struct peal_id id = {.epoch = 77, .offset = n, .stored_ms = NOW_MS, .seq = n};
    char text[32];
    snprintf(text, sizeof text, "id-%llu", (unsigned long long)n);
    peal_key_id(id.key, peal_span_of("user:a"), peal_span_of(text));
    return id;
}

static void add(uint64_t n)
{
    struct peal_id id = id_of(n);
    assert_int_equal(peal_ids_add(&ids, &id), PEAL_OK);
}

static const struct peal_id *find(uint64_t n, uint64_t now_ms)
{
    struct peal_id id = id_of(n);
    return peal_ids_find(&ids, id.key, now_ms);
}

static void ids_of_an_unused_window_need_no_fini(void **state)
{
    (void)state;
    struct peal_ids none = {0};
    peal_ids_fini(&none);
}

static void ids_key_is_of_group_and_id(void **state)
{
    (void)state;
    char a[PEAL_KEY_ID];
    char b[PEAL_KEY_ID];
    char c[PEAL_KEY_ID];
    peal_key_id(a, peal_span_of("user:ab"), peal_span_of("c"));
    peal_key_id(b, peal_span_of("user:a"), peal_span_of("bc"));
    peal_key_id(c, peal_span_of("user:ab"), peal_span_of("c"));
    assert_memory_not_equal(a, b, sizeof a);
    assert_memory_equal(a, c, sizeof a);
}

static void ids_inside_of_the_window_give_the_first_message(void **state)
{
    (void)state;
    assert_null(find(1, NOW_MS));
    add(1);
    const struct peal_id *id = find(1, NOW_MS + AGE_MS - 1);
    assert_non_null(id);
    assert_int_equal(id->epoch, 77);
    assert_int_equal(id->offset, 1);
    assert_non_null(find(1, NOW_MS - 5)); /* a clock that went back */
    assert_null(find(1, NOW_MS + AGE_MS));
    assert_null(find(2, NOW_MS));
}

static void ids_too_old_is_replaced_by_the_same_id(void **state)
{
    (void)state;
    add(1);
    add(2);
    peal_ids_commit(&ids);
    struct peal_id again = id_of(1);
    again.stored_ms = NOW_MS + AGE_MS;
    again.offset = again.seq = 3;
    assert_null(find(1, NOW_MS + AGE_MS));
    assert_int_equal(peal_ids_add(&ids, &again), PEAL_OK);
    peal_ids_commit(&ids);
    assert_int_equal(find(1, NOW_MS + AGE_MS)->offset, 3);
    assert_int_equal(ids.map.count, 2);
    assert_int_equal(peal_ids_first_seq(&ids), 2);
}

static void ids_of_a_batch_that_has_not_happened_are_unknown(void **state)
{
    (void)state;
    add(1);
    add(2);
    peal_ids_commit(&ids);
    add(3);
    add(4);
    assert_non_null(find(3, NOW_MS)); /* known inside of the batch */
    peal_ids_rollback(&ids);
    assert_non_null(find(1, NOW_MS));
    assert_non_null(find(2, NOW_MS));
    assert_null(find(3, NOW_MS));
    assert_null(find(4, NOW_MS));
    assert_int_equal(ids.map.count, 2);
    peal_ids_rollback(&ids); /* of nothing */
    assert_int_equal(ids.map.count, 2);
    add(3);
    peal_ids_commit(&ids);
    peal_ids_rollback(&ids);
    assert_non_null(find(3, NOW_MS));
}

static void ids_beyond_the_count_the_oldest_are_forgotten(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= COUNT_MAX + 4; n++)
        add(n);
    peal_ids_commit(&ids);
    assert_int_equal(ids.map.count, COUNT_MAX + 4);
    peal_ids_trim(&ids, NOW_MS, 3); /* at most so many */
    assert_int_equal(ids.map.count, COUNT_MAX + 1);
    peal_ids_trim(&ids, NOW_MS, 100);
    assert_int_equal(ids.map.count, COUNT_MAX);
    assert_null(find(4, NOW_MS));
    assert_non_null(find(5, NOW_MS));
    assert_int_equal(peal_ids_first_seq(&ids), 5);
}

static void ids_beyond_the_age_are_forgotten(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 4; n++) {
        struct peal_id id = id_of(n);
        id.stored_ms += n;
        assert_int_equal(peal_ids_add(&ids, &id), PEAL_OK);
    }
    peal_ids_commit(&ids);
    peal_ids_trim(&ids, NOW_MS + AGE_MS + 2, 100);
    assert_int_equal(ids.map.count, 2);
    assert_int_equal(peal_ids_first_seq(&ids), 3);
    peal_ids_trim(&ids, NOW_MS + 10 * AGE_MS, 100);
    assert_int_equal(ids.map.count, 0);
    assert_true(peal_ids_first_seq(&ids) == UINT64_MAX);
}

static void ids_are_walked_from_the_oldest(void **state)
{
    (void)state;
    uint64_t n = 0;
    assert_null(peal_ids_next(&ids, NULL));
    for (uint64_t i = 1; i <= 5; i++)
        add(i);
    for (const struct peal_id *id = NULL; (id = peal_ids_next(&ids, id)) != NULL;)
        assert_int_equal(id->seq, ++n);
    assert_int_equal(n, 5);
}

static void ids_renewed_are_the_newest_and_the_log_may_go(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 5; n++)
        add(n);
    peal_ids_commit(&ids);
    peal_ids_renewed(&ids, 0, 100);
    assert_int_equal(peal_ids_first_seq(&ids), 1);
    peal_ids_renewed(&ids, 3, 100);
    assert_int_equal(peal_ids_first_seq(&ids), 4);
    assert_int_equal(find(1, NOW_MS)->seq, 100);
    assert_int_equal(find(3, NOW_MS)->seq, 102);
    assert_int_equal(find(1, NOW_MS)->offset, 1); /* it is still that message */
    assert_null(find(1, NOW_MS + AGE_MS));        /* and not a day younger */
    uint64_t before = 0;
    for (const struct peal_id *id = NULL; (id = peal_ids_next(&ids, id)) != NULL;) {
        assert_true(id->seq > before);
        before = id->seq;
    }
    assert_int_equal(before, 102);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(ids_of_an_unused_window_need_no_fini),
        TEST(ids_key_is_of_group_and_id),
        TEST(ids_inside_of_the_window_give_the_first_message),
        TEST(ids_too_old_is_replaced_by_the_same_id),
        TEST(ids_of_a_batch_that_has_not_happened_are_unknown),
        TEST(ids_beyond_the_count_the_oldest_are_forgotten),
        TEST(ids_beyond_the_age_are_forgotten),
        TEST(ids_are_walked_from_the_oldest),
        TEST(ids_renewed_are_the_newest_and_the_log_may_go),
    };
    return cmocka_run_group_tests_name("ids", tests, NULL, NULL);
}

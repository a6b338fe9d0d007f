#include "node/run.h"

#include <string.h>

#include "tests/unit/unit.h"

static struct peal_run_pool pool;

static const uint32_t ends[] = {1, 3, 6};

static struct peal_run *three(struct peal_run_pool *from)
{
    struct peal_run *run = peal_run_new(from, peal_span_of("122333"), ends, 3);
    assert_non_null(run);
    return run;
}

static void run_knows_where_its_frames_end(void **state)
{
    (void)state;
    struct peal_run *run = three(NULL);
    assert_int_equal(peal_run_end(run, 0), 0);
    assert_int_equal(peal_run_end(run, 1), 1);
    assert_int_equal(peal_run_end(run, 2), 3);
    assert_int_equal(peal_run_end(run, 3), 6);
    static const uint32_t whole[] = {0, 1, 1, 2, 2, 2, 3, 3};
    for (uint32_t bytes = 0; bytes < 8; bytes++)
        assert_int_equal(peal_run_frames(run, bytes), whole[bytes]);
    peal_run_unref(run);
}

static void run_of_one_frame_needs_no_ends(void **state)
{
    (void)state;
    struct peal_run *run = peal_run_new(NULL, peal_span_of("frame"), NULL, 1);
    assert_null(run->ends);
    assert_int_equal(peal_run_end(run, 1), 5);
    assert_int_equal(peal_run_frames(run, 4), 0);
    assert_int_equal(peal_run_frames(run, 5), 1);
    peal_run_unref(run);
}

static void run_part_is_a_copy_of_some_frames(void **state)
{
    (void)state;
    struct peal_run *run = three(NULL);
    struct peal_run *tail = peal_run_part(run, 1, 2);
    assert_non_null(tail);
    assert_int_equal(tail->count, 2);
    assert_int_equal(tail->size, 5);
    assert_memory_equal(tail->at, "22333", 5);
    assert_int_equal(peal_run_end(tail, 1), 2);
    peal_run_unref(tail);
    tail = peal_run_part(run, 2, 1);
    assert_int_equal(tail->count, 1);
    assert_memory_equal(tail->at, "333", 3);
    peal_run_unref(tail);
    peal_run_unref(run);
}

static void run_of_the_pool_goes_back_to_it(void **state)
{
    (void)state;
    struct peal_run *run = three(&pool);
    peal_run_unref(peal_run_ref(run));
    assert_int_equal(pool.count, 0);
    peal_run_unref(run);
    assert_int_equal(pool.count, 1);
    assert_ptr_equal(three(&pool), run); /* the same memory */
    assert_int_equal(pool.count, 0);
    peal_run_unref(run);
    peal_run_pool_fini(&pool);
    assert_null(pool.free);
}

static void run_that_is_large_passes_the_pool_by(void **state)
{
    (void)state;
    static char bytes[PEAL_RUN_SMALL];
    struct peal_run *run = peal_run_new(&pool, peal_span_make(bytes, sizeof bytes), NULL, 1);
    peal_run_unref(run);
    assert_int_equal(pool.count, 0);
}

static void run_pool_keeps_no_more_than_it_may(void **state)
{
    (void)state;
    static struct peal_run *runs[PEAL_RUN_POOL_MAX + 5];
    enum { COUNT = sizeof runs / sizeof runs[0] };
    for (size_t i = 0; i < COUNT; i++)
        runs[i] = three(&pool);
    for (size_t i = 0; i < COUNT; i++) {
        assert_memory_equal(runs[i]->at, "122333", 6);
        peal_run_unref(runs[i]);
    }
    assert_int_equal(pool.count, PEAL_RUN_POOL_MAX);
    peal_run_pool_fini(&pool);
    assert_int_equal(pool.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run_knows_where_its_frames_end),
        cmocka_unit_test(run_of_one_frame_needs_no_ends),
        cmocka_unit_test(run_part_is_a_copy_of_some_frames),
        cmocka_unit_test(run_of_the_pool_goes_back_to_it),
        cmocka_unit_test(run_that_is_large_passes_the_pool_by),
        cmocka_unit_test(run_pool_keeps_no_more_than_it_may),
    };
    return cmocka_run_group_tests_name("run", tests, NULL, NULL);
}

#include "router/rows.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/clock.h"
#include "tests/unit/unit.h"

enum { NODES = 200 };

/* Whatever is added and removed in whatever order: the rows are those that a plain table has. */
static void rows_agree_with_a_plain_table(void **state)
{
    (void)state;
    uint64_t seed = peal_random_u64();
    print_message("seed %llu\n", (unsigned long long)seed);
    unsigned short random[3] = {(unsigned short)seed, (unsigned short)(seed >> 16),
                                (unsigned short)(seed >> 32)};
    struct peal_rows rows = {0};
    bool in[NODES] = {false};
    uint32_t count = 0;
    for (int round = 0; round < 20000; round++) {
        /* Often few, now and then many. */
        uint32_t limit = round / 1000 % 2 == 0 ? 4 : NODES;
        uint32_t node = (uint32_t)nrand48(random) % limit;
        if (in[node]) {
            peal_rows_remove(&rows, node);
            count--;
        } else {
            struct peal_row row = {.node = node, .place = node * 2, .round = node * 3};
            assert_int_equal(peal_rows_add(&rows, row), PEAL_OK);
            count++;
        }
        in[node] = !in[node];
        assert_int_equal(rows.count, count);
        for (uint32_t i = 1; i < rows.count; i++)
            assert_true(peal_rows_at(&rows, i - 1)->node < peal_rows_at(&rows, i)->node);
        const struct peal_row *found = peal_rows_find(&rows, node);
        assert_true((found != NULL) == in[node]);
    }
    for (uint32_t node = 0; node < NODES; node++) {
        const struct peal_row *found = peal_rows_find(&rows, node);
        assert_true((found != NULL) == in[node]);
        if (found == NULL) continue;
        assert_int_equal(found->place, node * 2);
        assert_int_equal(found->round, node * 3);
    }
    peal_rows_fini(&rows);
}

static void rows_of_one_node_take_no_memory(void **state)
{
    (void)state;
    struct peal_rows rows = {0};
    assert_null(peal_rows_find(&rows, 0));
    assert_int_equal(peal_rows_add(&rows, (struct peal_row){.node = 7, .place = 1}), PEAL_OK);
    assert_int_equal(rows.capacity, 0);
    assert_int_equal(peal_rows_add(&rows, (struct peal_row){.node = 3, .place = 2}), PEAL_OK);
    assert_true(rows.capacity > 0);
    assert_int_equal(peal_rows_at(&rows, 0)->node, 3);
    assert_int_equal(peal_rows_at(&rows, 1)->place, 1);
    peal_rows_remove(&rows, 3);
    assert_int_equal(rows.capacity, 0);
    assert_int_equal(peal_rows_find(&rows, 7)->place, 1);
    peal_rows_remove(&rows, 7);
    assert_int_equal(rows.count, 0);
    peal_rows_fini(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_agree_with_a_plain_table),
        cmocka_unit_test(rows_of_one_node_take_no_memory),
    };
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}

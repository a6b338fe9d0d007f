#include "base/clock.h"

#include <string.h>
#include <time.h>

#include "tests/unit/unit.h"

static void clock_mono_does_not_go_back(void **state)
{
    (void)state;
    uint64_t last = peal_clock_mono_ms();
    for (int i = 0; i < 100000; i++) {
        uint64_t now = peal_clock_mono_ms();
        assert_true(now >= last);
        last = now;
    }
}

static void clock_wall_is_milliseconds_since_1970(void **state)
{
    (void)state;
    uint64_t before = (uint64_t)time(NULL);
    uint64_t now = peal_clock_wall_ms();
    uint64_t after = (uint64_t)time(NULL);
    /* time() may lag by its own coarse tick, hence the second on either side. */
    assert_in_range(now / 1000, before - 1, after + 1);
}

static void random_u64_is_never_zero_and_does_not_repeat(void **state)
{
    (void)state;
    uint64_t last = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t number = peal_random_u64();
        assert_true(number != 0);
        assert_true(number != last);
        last = number;
    }
}

static void ulid_begins_with_its_time(void **state)
{
    (void)state;
    static const struct {
        uint64_t ms;
        const char *text;
    } table[] = {
        {0, "0000000000"},
        {31, "000000000Z"},
        {32, "0000000010"},
        {1469918176385, "01ARYZ6S41"}, /* the example of the specification */
        {((uint64_t)1 << 48) - 1, "7ZZZZZZZZZ"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char id[PEAL_ULID_SIZE];
        peal_ulid(id, table[i].ms);
        assert_memory_equal(id, table[i].text, 10);
    }
}

static void ulids_of_one_source_differ_also_across_its_blocks(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    static char ids[COUNT][PEAL_ULID_SIZE];
    struct peal_ulids ulids = {0};
    for (int i = 0; i < COUNT; i++) {
        peal_ulids_next(&ulids, ids[i], 1469918176385);
        assert_memory_equal(ids[i], "01ARYZ6S41", 10);
        for (int j = 0; j < 10; j++)
            assert_non_null(memchr("0123456789ABCDEFGHJKMNPQRSTVWXYZ", ids[i][10 + j], 32));
        for (int j = 0; j < i; j++)
            assert_memory_not_equal(ids[i], ids[j], PEAL_ULID_SIZE);
    }
}

static void ulid_is_crockford_base_32_and_random_behind_its_time(void **state)
{
    (void)state;
    char last[PEAL_ULID_SIZE] = {0};
    for (int i = 0; i < 1000; i++) {
        char id[PEAL_ULID_SIZE + 1] = {0};
        peal_ulid(id, 1700000000000);
        assert_int_equal(strspn(id, "0123456789ABCDEFGHJKMNPQRSTVWXYZ"), PEAL_ULID_SIZE);
        assert_memory_not_equal(id, last, PEAL_ULID_SIZE);
        memcpy(last, id, PEAL_ULID_SIZE);
    }
}

static void ulid_writes_26_bytes_and_no_nul(void **state)
{
    (void)state;
    char out[PEAL_ULID_SIZE + 2];
    memset(out, '!', sizeof out);
    peal_ulid(out + 1, UINT64_MAX);
    assert_int_equal(out[0], '!');
    assert_int_equal(out[PEAL_ULID_SIZE + 1], '!');
    assert_null(memchr(out + 1, '\0', PEAL_ULID_SIZE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clock_mono_does_not_go_back),
        cmocka_unit_test(clock_wall_is_milliseconds_since_1970),
        cmocka_unit_test(random_u64_is_never_zero_and_does_not_repeat),
        cmocka_unit_test(ulid_begins_with_its_time),
        cmocka_unit_test(ulids_of_one_source_differ_also_across_its_blocks),
        cmocka_unit_test(ulid_is_crockford_base_32_and_random_behind_its_time),
        cmocka_unit_test(ulid_writes_26_bytes_and_no_nul),
    };
    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}

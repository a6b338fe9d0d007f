#include "proto/slots.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

static enum peal_slot_verdict judge(uint16_t owner, uint64_t generation, uint16_t claimed,
                                    uint64_t claimed_generation)
{
    struct peal_slot known = {.owner = owner, .generation = generation};
    struct peal_slot claim = {.owner = claimed, .generation = claimed_generation};
    return peal_slot_judge(&known, &claim);
}

static void slot_highest_generation_is_believed(void **state)
{
    (void)state;
    assert_int_equal(judge(0, 3, 1, 4), PEAL_SLOT_NEWER);
    assert_int_equal(judge(0, 3, 0, 4), PEAL_SLOT_NEWER);
    assert_int_equal(judge(0, 3, 0, UINT64_MAX), PEAL_SLOT_NEWER);
    assert_int_equal(judge(0, 3, 1, 2), PEAL_SLOT_STALE);
    assert_int_equal(judge(0, 3, 0, 2), PEAL_SLOT_STALE);
    assert_int_equal(judge(0, 3, 0, 3), PEAL_SLOT_SAME);
}

static void slot_two_owners_at_one_generation_contradict(void **state)
{
    (void)state;
    assert_int_equal(judge(0, 0, 1, 0), PEAL_SLOT_CONFLICT);
    assert_int_equal(judge(2, 7, 1, 7), PEAL_SLOT_CONFLICT);
}

static void slot_anything_beats_nothing_and_nothing_beats_nobody(void **state)
{
    (void)state;
    assert_int_equal(judge(PEAL_SLOT_NOBODY, 0, 1, 0), PEAL_SLOT_NEWER);
    assert_int_equal(judge(1, 0, PEAL_SLOT_NOBODY, 9), PEAL_SLOT_STALE);
    assert_int_equal(judge(PEAL_SLOT_NOBODY, 0, PEAL_SLOT_NOBODY, 0), PEAL_SLOT_STALE);
}

static void slots_seed_is_three_numbers_per_router(void **state)
{
    (void)state;
    struct peal_slot slots[PEAL_SLOTS];
    uint64_t runs[PEAL_SLOT_RUNS];
    peal_slots_seed(slots, 3);
    assert_int_equal(peal_slots_encode(slots, runs), 9);
    const uint64_t expected[] = {342, 0, 0, 341, 1, 0, 341, 2, 0};
    assert_memory_equal(runs, expected, sizeof expected);
    peal_slots_clear(slots);
    assert_int_equal(peal_slots_encode(slots, runs), 3);
    assert_int_equal(runs[1], PEAL_SLOT_NOBODY);
}

static void slots_without_any_run_survive_a_round_trip(void **state)
{
    (void)state;
    struct peal_slot slots[PEAL_SLOTS];
    struct peal_slot again[PEAL_SLOTS];
    uint64_t runs[PEAL_SLOT_RUNS];
    for (uint16_t i = 0; i < PEAL_SLOTS; i++)
        slots[i] = (struct peal_slot){.owner = i % 7, .generation = UINT64_MAX - i};
    size_t count = peal_slots_encode(slots, runs);
    assert_int_equal(count, PEAL_SLOT_RUNS);
    assert_int_equal(peal_slots_decode(runs, count, again), PEAL_OK);
    for (uint16_t i = 0; i < PEAL_SLOTS; i++) {
        assert_int_equal(again[i].owner, slots[i].owner);
        assert_true(again[i].generation == slots[i].generation);
    }
}

static void slots_runs_that_are_no_table_are_refused(void **state)
{
    (void)state;
    struct peal_slot slots[PEAL_SLOTS];
    static const uint64_t bad[][6] = {
        {1023, 0, 0},    {1025, 0, 0},     {UINT64_MAX, 0, 0},     {0, 0, 0, 1024, 0, 0},
        {1024, 1024, 0}, {1024, 65536, 0}, {512, 0, 0, 513, 1, 0}, {1024, 0, 0, 1, 0, 0},
    };
    static const size_t counts[] = {3, 3, 3, 6, 3, 3, 6, 6};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        assert_int_equal(peal_slots_decode(bad[i], counts[i], slots), PEAL_EBAD_MESSAGE);
    static const uint64_t good[] = {1024, 5, 0};
    assert_int_equal(peal_slots_decode(good, 2, slots), PEAL_EBAD_MESSAGE);
    assert_int_equal(peal_slots_decode(good, 0, slots), PEAL_EBAD_MESSAGE);
    assert_int_equal(peal_slots_decode(good, 3, slots), PEAL_OK);
}

static size_t moves(const struct peal_slot *slots, const uint16_t *owners)
{
    size_t count = 0;
    for (size_t i = 0; i < PEAL_SLOTS; i++)
        count += slots[i].owner != owners[i];
    return count;
}

static void slots_plan_for_one_more_router_moves_its_share_only(void **state)
{
    (void)state;
    struct peal_slot slots[PEAL_SLOTS];
    uint16_t owners[PEAL_SLOTS];
    for (size_t routers = 1; routers < 9; routers++) {
        size_t counts[9] = {0};
        peal_slots_seed(slots, routers);
        peal_slots_plan(slots, routers + 1, owners);
        assert_int_equal(moves(slots, owners), PEAL_SLOTS / (routers + 1));
        for (size_t i = 0; i < PEAL_SLOTS; i++) {
            assert_true(owners[i] == slots[i].owner || owners[i] == routers);
            counts[owners[i]]++;
        }
        for (size_t i = 0; i <= routers; i++)
            assert_in_range(counts[i], PEAL_SLOTS / (routers + 1), PEAL_SLOTS / (routers + 1) + 1);
    }
}

static void slots_plan_of_what_is_even_moves_nothing(void **state)
{
    (void)state;
    struct peal_slot slots[PEAL_SLOTS];
    uint16_t owners[PEAL_SLOTS];
    for (size_t routers = 1; routers <= PEAL_SLOTS; routers = routers * 3 + 1) {
        peal_slots_seed(slots, routers);
        peal_slots_plan(slots, routers, owners);
        assert_int_equal(moves(slots, owners), 0);
    }
}

static void slots_plan_gives_slots_of_routers_that_leave_the_list(void **state)
{
    (void)state;
    struct peal_slot slots[PEAL_SLOTS];
    uint16_t owners[PEAL_SLOTS];
    peal_slots_seed(slots, 4);
    slots[0].owner = PEAL_SLOT_NOBODY;
    peal_slots_plan(slots, 3, owners);
    for (size_t i = 0; i < PEAL_SLOTS; i++)
        assert_true(owners[i] < 3);
    assert_int_equal(moves(slots, owners), 257);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slot_highest_generation_is_believed),
        cmocka_unit_test(slot_two_owners_at_one_generation_contradict),
        cmocka_unit_test(slot_anything_beats_nothing_and_nothing_beats_nobody),
        cmocka_unit_test(slots_seed_is_three_numbers_per_router),
        cmocka_unit_test(slots_without_any_run_survive_a_round_trip),
        cmocka_unit_test(slots_runs_that_are_no_table_are_refused),
        cmocka_unit_test(slots_plan_for_one_more_router_moves_its_share_only),
        cmocka_unit_test(slots_plan_of_what_is_even_moves_nothing),
        cmocka_unit_test(slots_plan_gives_slots_of_routers_that_leave_the_list),
    };
    return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}

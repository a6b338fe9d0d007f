#include "node/slotmap.h"

#include <stdlib.h>

#include "tests/unit/unit.h"

static struct peal_frame moved(uint16_t slot, uint64_t owner, uint64_t generation)
{
    return (struct peal_frame){
        .type = PEAL_F_MOVED, .slot = slot, .owner = owner, .generation = generation};
}

static bool hear(struct peal_slotmap *map, uint16_t slot, uint64_t owner, uint64_t generation)
{
    struct peal_frame frame = moved(slot, owner, generation);
    return peal_slotmap_hear(map, &frame);
}

static void slotmap_begins_with_an_even_split_that_any_word_beats(void **state)
{
    (void)state;
    static struct peal_slotmap map;
    peal_slotmap_init(&map, 2);
    assert_int_equal(peal_slotmap_link(&map, 0), 0);
    assert_int_equal(peal_slotmap_link(&map, 1023), 1);
    assert_true(hear(&map, 1023, 0, 0)); /* generation 0, and yet more than a guess */
    assert_int_equal(peal_slotmap_link(&map, 1023), 0);
    assert_false(hear(&map, 0, 0, 0)); /* the guess was right */
    assert_false(hear(&map, 0, 1, 0)); /* and is knowledge now: a contradiction changes nothing */
    assert_int_equal(peal_slotmap_link(&map, 0), 0);
}

static void slotmap_keeps_the_highest_generation(void **state)
{
    (void)state;
    static struct peal_slotmap map;
    peal_slotmap_init(&map, 3);
    assert_true(hear(&map, 5, 2, 7));
    assert_false(hear(&map, 5, 0, 6));
    assert_int_equal(peal_slotmap_link(&map, 5), 2);
    assert_false(hear(&map, 5, 1, 7));
    assert_int_equal(peal_slotmap_link(&map, 5), 2);
    assert_true(hear(&map, 5, 1, 8));
    assert_int_equal(peal_slotmap_link(&map, 5), 1);
}

static void slotmap_owner_without_a_link_is_out_of_reach(void **state)
{
    (void)state;
    static struct peal_slotmap map;
    peal_slotmap_init(&map, 2);
    assert_false(peal_slotmap_out_of_reach(&map, 3));
    assert_false(hear(&map, 3, 2, 1));
    assert_true(peal_slotmap_out_of_reach(&map, 3));
    assert_int_equal(peal_slotmap_link(&map, 3), 0);
    assert_true(hear(&map, 3, 1, 2));
    assert_false(peal_slotmap_out_of_reach(&map, 3));
}

static void slotmap_bad_frames_change_nothing(void **state)
{
    (void)state;
    static struct peal_slotmap map;
    uint64_t runs[] = {1000, 1, 9};
    struct peal_frame table = {.type = PEAL_F_SLOTS};
    struct peal_frame beyond = moved(1024 % PEAL_SLOTS, 1024, 9);
    peal_slotmap_init(&map, 2);
    table.offsets.at = runs;
    table.offsets.count = 3;
    assert_false(peal_slotmap_hear(&map, &table));
    assert_false(peal_slotmap_hear(&map, &beyond));
    beyond = moved(0, 1, 9);
    beyond.slot = PEAL_SLOTS;
    assert_false(peal_slotmap_hear(&map, &beyond));
    assert_int_equal(peal_slotmap_link(&map, 0), 0);
}

static void slotmap_is_handed_on_as_a_table(void **state)
{
    (void)state;
    static struct peal_slotmap map;
    static struct peal_slotmap other;
    struct peal_buf buf = {0};
    struct peal_frame frame;
    peal_slotmap_init(&map, 3);
    peal_slotmap_init(&other, 3);
    assert_true(hear(&map, 100, 2, 7));
    peal_slotmap_encode(&map, &buf);
    assert_int_equal(peal_frame_decode(peal_buf_span(&buf), &frame), PEAL_OK);
    assert_true(peal_slotmap_hear(&other, &frame));
    assert_int_equal(peal_slotmap_link(&other, 100), 2);
    assert_true(hear(&other, 101, 1, 0)); /* of which nothing was said */
    assert_false(peal_slotmap_hear(&other, &frame));
    peal_frame_fini(&frame);
    peal_buf_fini(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slotmap_begins_with_an_even_split_that_any_word_beats),
        cmocka_unit_test(slotmap_keeps_the_highest_generation),
        cmocka_unit_test(slotmap_owner_without_a_link_is_out_of_reach),
        cmocka_unit_test(slotmap_bad_frames_change_nothing),
        cmocka_unit_test(slotmap_is_handed_on_as_a_table),
    };
    return cmocka_run_group_tests_name("slotmap", tests, NULL, NULL);
}

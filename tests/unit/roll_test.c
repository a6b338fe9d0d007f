#include "proto/roll.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/group.h"
#include "tests/unit/unit.h"

enum { ITEMS = 20000 };

struct item {
    char name[16];
    bool in;
    uint32_t place;
};

static struct item items[ITEMS];

static struct peal_span name_of(const struct item *item)
{
    return peal_span_of(item->name);
}

static void add(struct peal_roll *roll, struct item *item)
{
    assert_int_equal(peal_roll_add(roll, name_of(item), item, &item->place), PEAL_OK);
    item->in = true;
}

static void take(struct peal_roll *roll, struct item *item)
{
    struct item *moved = peal_roll_remove(roll, name_of(item), item->place);
    if (moved != NULL) moved->place = item->place;
    item->in = false;
}

static struct peal_roll *roll_new(void)
{
    memset(items, 0, sizeof items);
    for (size_t i = 0; i < ITEMS; i++)
        snprintf(items[i].name, sizeof items[i].name, "room:%zu", i);
    return calloc(1, sizeof(struct peal_roll));
}

/* Every item is at its place, and nothing else is. */
static void check(const struct peal_roll *roll)
{
    uint32_t in = 0;
    uint32_t listed = 0;
    for (size_t i = 0; i < ITEMS; i++) {
        if (!items[i].in) continue;
        const struct peal_roll_slot *slot = &roll->slots[peal_group_slot(name_of(&items[i]))];
        assert_true(items[i].place < slot->count);
        assert_ptr_equal(slot->items[items[i].place], &items[i]);
        in++;
    }
    for (size_t i = 0; i < PEAL_SLOTS; i++)
        listed += roll->slots[i].count;
    assert_int_equal(roll->count, in);
    assert_int_equal(listed, in);
}

static void roll_items_keep_their_places_while_others_go(void **state)
{
    (void)state;
    struct peal_roll *roll = roll_new();
    for (size_t i = 0; i < ITEMS; i++)
        add(roll, &items[i]);
    check(roll);
    for (size_t i = 0; i < ITEMS; i += 3)
        take(roll, &items[i]);
    check(roll);
    for (size_t i = 0; i < ITEMS; i += 6)
        add(roll, &items[i]);
    check(roll);
    peal_roll_fini(roll);
    free(roll);
}

static void roll_digest_depends_on_the_names_alone(void **state)
{
    (void)state;
    struct peal_roll *one = roll_new();
    struct peal_roll *other = calloc(1, sizeof *other);
    for (size_t i = 0; i < ITEMS; i++)
        add(one, &items[i]);
    for (size_t i = 0; i < ITEMS; i += 2)
        take(one, &items[i]);
    uint64_t digests[PEAL_SLOTS];
    for (size_t i = 0; i < PEAL_SLOTS; i++)
        digests[i] = one->slots[i].digest;
    /* The other way round, and without what went again. */
    for (size_t i = ITEMS - 1; i < ITEMS; i -= 2)
        add(other, &items[i]);
    for (size_t i = 0; i < PEAL_SLOTS; i++)
        assert_true(digests[i] == other->slots[i].digest);
    peal_roll_fini(one);
    peal_roll_fini(other);
    free(one);
    free(other);
}

static void roll_digest_shows_one_name_too_many_or_too_few(void **state)
{
    (void)state;
    struct peal_roll *roll = roll_new();
    for (size_t i = 0; i < ITEMS; i++)
        add(roll, &items[i]);
    struct item extra = {.name = "room:extra"};
    size_t slot = peal_group_slot(name_of(&extra));
    uint64_t before = roll->slots[slot].digest;
    add(roll, &extra);
    assert_true(roll->slots[slot].digest != before);
    take(roll, &extra);
    assert_true(roll->slots[slot].digest == before);
    slot = peal_group_slot(name_of(&items[7]));
    before = roll->slots[slot].digest;
    take(roll, &items[7]);
    assert_true(roll->slots[slot].digest != before);
    peal_roll_fini(roll);
    free(roll);
}

static void roll_emptied_slot_has_no_digest(void **state)
{
    (void)state;
    struct peal_roll *roll = roll_new();
    for (size_t i = 0; i < ITEMS; i++)
        add(roll, &items[i]);
    for (size_t i = 0; i < ITEMS; i++)
        take(roll, &items[i]);
    assert_int_equal(roll->count, 0);
    for (size_t i = 0; i < PEAL_SLOTS; i++)
        assert_true(roll->slots[i].digest == 0);
    peal_roll_fini(roll);
    free(roll);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roll_items_keep_their_places_while_others_go),
        cmocka_unit_test(roll_digest_depends_on_the_names_alone),
        cmocka_unit_test(roll_digest_shows_one_name_too_many_or_too_few),
        cmocka_unit_test(roll_emptied_slot_has_no_digest),
    };
    return cmocka_run_group_tests_name("roll", tests, NULL, NULL);
}

#include "router/holdings.h"

#include <stdlib.h>

#include "tests/unit/unit.h"

static struct peal_holdings *make(size_t self, size_t routers)
{
    struct peal_holdings *h = malloc(sizeof *h);
    peal_holdings_init(h, self, routers);
    return h;
}

static void write_down(struct peal_holdings *h)
{
    peal_holdings_written(h, h->version);
}

/* h hears what other says. */
static bool hear(struct peal_holdings *h, const struct peal_holdings *other)
{
    struct peal_slot slots[PEAL_SLOTS];
    peal_holdings_tell(other, slots);
    return peal_holdings_hear(h, other->self, slots);
}

static size_t count(const struct peal_holdings *h, enum peal_holding holding)
{
    size_t n = 0;
    for (uint16_t slot = 0; slot < PEAL_SLOTS; slot++)
        n += peal_holdings_of(h, slot) == holding;
    return n;
}

static void holdings_of_new_routers_are_split_once_all_are_known_to_be_new(void **state)
{
    (void)state;
    struct peal_holdings *h[3] = {make(0, 3), make(1, 3), make(2, 3)};
    assert_false(hear(h[0], h[1]));
    assert_false(h[0]->seeded);
    assert_int_equal(count(h[0], PEAL_HOLD_NOBODY), PEAL_SLOTS);
    assert_true(hear(h[0], h[2]));
    assert_true(h[0]->seeded);
    /* Known, but not on the disk: served by nobody, and told to nobody. */
    assert_int_equal(count(h[0], PEAL_HOLD_NOBODY), PEAL_SLOTS);
    assert_false(hear(h[1], h[0]));
    assert_false(h[1]->seeded);
    write_down(h[0]);
    assert_int_equal(count(h[0], PEAL_HOLD_MINE), 342);
    assert_int_equal(count(h[0], PEAL_HOLD_ELSEWHERE), 682);
    assert_int_equal(h[0]->mine, 342);
    /* The others learn it from the first one. */
    assert_true(hear(h[1], h[0]));
    assert_true(hear(h[2], h[0]));
    write_down(h[1]);
    write_down(h[2]);
    assert_int_equal(h[1]->mine, 341);
    assert_int_equal(h[2]->mine, 341);
    for (int i = 0; i < 3; i++)
        free(h[i]);
}

static void holdings_of_a_router_added_later_are_what_the_others_say(void **state)
{
    (void)state;
    struct peal_holdings *old[2] = {make(0, 2), make(1, 2)};
    struct peal_holdings *added = make(2, 3);
    for (int i = 0; i < 2; i++) {
        peal_holdings_seed(old[i]);
        write_down(old[i]);
    }
    assert_true(hear(added, old[1])); /* one is enough, and the other one may be away */
    write_down(added);
    assert_int_equal(added->mine, 0);
    assert_int_equal(count(added, PEAL_HOLD_ELSEWHERE), PEAL_SLOTS);
    assert_false(hear(added, old[0]));
    /* Those that were there with the shorter list do not even listen. */
    assert_false(hear(old[0], added));
    assert_int_equal(old[0]->mine, 512);
    free(old[0]);
    free(old[1]);
    free(added);
}

static void holdings_of_a_lost_disk_come_back_from_the_others(void **state)
{
    (void)state;
    struct peal_holdings *a = make(0, 2);
    struct peal_holdings *b = make(1, 2);
    peal_holdings_seed(a);
    write_down(a);
    peal_holdings_give(a, 7, 1);
    write_down(a);
    assert_true(hear(b, a)); /* all that it was known to hold */
    write_down(b);
    assert_int_equal(b->mine, 513);
    assert_int_equal(peal_holdings_of(b, 7), PEAL_HOLD_MINE);
    free(a);
    free(b);
}

static void holdings_stale_claim_is_ignored_and_a_newer_one_ends_the_own(void **state)
{
    (void)state;
    struct peal_holdings *a = make(0, 2);
    struct peal_holdings *b = make(1, 2);
    peal_holdings_seed(a);
    peal_holdings_seed(b);
    write_down(a);
    write_down(b);
    struct peal_holdings *restored = malloc(sizeof *restored); /* a backup of a */
    *restored = *a;
    peal_holdings_give(a, 3, 1);
    assert_int_equal(peal_holdings_of(a, 3), PEAL_HOLD_NOBODY); /* until it is written */
    write_down(a);
    assert_int_equal(peal_holdings_of(a, 3), PEAL_HOLD_ELSEWHERE);
    assert_true(hear(b, a));
    assert_int_equal(peal_holdings_of(b, 3), PEAL_HOLD_NOBODY);
    write_down(b);
    assert_int_equal(peal_holdings_of(b, 3), PEAL_HOLD_MINE);

    assert_false(hear(b, restored)); /* generation 0 */
    assert_int_equal(peal_holdings_of(b, 3), PEAL_HOLD_MINE);
    assert_int_equal(peal_holdings_of(restored, 3), PEAL_HOLD_MINE);
    assert_true(hear(restored, b));
    assert_int_equal(peal_holdings_of(restored, 3), PEAL_HOLD_NOBODY);
    write_down(restored);
    assert_int_equal(peal_holdings_of(restored, 3), PEAL_HOLD_ELSEWHERE);
    free(a);
    free(b);
    free(restored);
}

static void holdings_claimed_by_two_at_one_generation_are_refused_until_they_agree(void **state)
{
    (void)state;
    struct peal_holdings *a = make(0, 3);
    struct peal_holdings *b = make(1, 3);
    peal_holdings_seed(a);
    peal_holdings_seed(b);
    a->slots[9] = (struct peal_slot){.owner = 0, .generation = 4};
    b->slots[9] = (struct peal_slot){.owner = 1, .generation = 4};
    write_down(a);
    write_down(b);
    assert_int_equal(peal_holdings_of(a, 9), PEAL_HOLD_MINE);
    assert_false(hear(a, b));
    assert_false(hear(b, a));
    assert_int_equal(peal_holdings_of(a, 9), PEAL_HOLD_NOBODY);
    assert_int_equal(peal_holdings_of(b, 9), PEAL_HOLD_NOBODY);
    assert_int_equal(a->contradicted, 1);
    assert_false(hear(a, b)); /* once is enough */
    assert_int_equal(a->contradicted, 1);
    assert_int_equal(a->mine, 341);

    b->slots[9].generation = 5;
    assert_true(hear(a, b));
    write_down(a);
    assert_int_equal(a->contradicted, 0);
    assert_int_equal(peal_holdings_of(a, 9), PEAL_HOLD_ELSEWHERE);
    assert_false(hear(b, a)); /* which now says the same */
    assert_int_equal(peal_holdings_of(b, 9), PEAL_HOLD_MINE);
    assert_int_equal(b->contradicted, 0);
    free(a);
    free(b);
}

static void holdings_record_is_read_back_by_the_same_router_only(void **state)
{
    (void)state;
    struct peal_holdings *a = make(1, 3);
    struct peal_buf record = {0};
    uint64_t self;
    peal_holdings_seed(a);
    write_down(a);
    peal_holdings_give(a, 400, 2);
    write_down(a);
    peal_holdings_record(a, &record);
    assert_false(record.failed);

    struct peal_holdings *again = make(1, 5); /* with a longer list: nothing moves */
    assert_int_equal(peal_holdings_load(again, peal_buf_span(&record), &self), PEAL_OK);
    assert_int_equal(again->mine, 340);
    assert_true(again->seeded);
    assert_false(peal_holdings_dirty(again));
    assert_int_equal(again->slots[400].owner, 2);
    assert_int_equal(again->slots[400].generation, 1);

    peal_holdings_init(again, 0, 3);
    assert_int_equal(peal_holdings_load(again, peal_buf_span(&record), &self), PEAL_ECONFIG);
    assert_int_equal(self, 1);
    record.at[record.size / 2] ^= 0x40;
    record.size--;
    peal_holdings_init(again, 1, 3);
    assert_int_equal(peal_holdings_load(again, peal_buf_span(&record), &self), PEAL_ECORRUPT);
    assert_int_equal(again->mine, 0);
    peal_buf_fini(&record);
    free(again);
    free(a);
}

static void holdings_frozen_slot_is_mine_and_takes_nothing(void **state)
{
    (void)state;
    struct peal_holdings *a = make(0, 2);
    peal_holdings_seed(a);
    write_down(a);
    peal_holdings_freeze(a, 5, true);
    assert_int_equal(peal_holdings_of(a, 5), PEAL_HOLD_FROZEN);
    assert_int_equal(a->mine, 511);
    peal_holdings_freeze(a, 5, false);
    assert_int_equal(peal_holdings_of(a, 5), PEAL_HOLD_MINE);
    assert_int_equal(a->mine, 512);
    free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holdings_of_new_routers_are_split_once_all_are_known_to_be_new),
        cmocka_unit_test(holdings_of_a_router_added_later_are_what_the_others_say),
        cmocka_unit_test(holdings_of_a_lost_disk_come_back_from_the_others),
        cmocka_unit_test(holdings_stale_claim_is_ignored_and_a_newer_one_ends_the_own),
        cmocka_unit_test(holdings_claimed_by_two_at_one_generation_are_refused_until_they_agree),
        cmocka_unit_test(holdings_record_is_read_back_by_the_same_router_only),
        cmocka_unit_test(holdings_frozen_slot_is_mine_and_takes_nothing),
    };
    return cmocka_run_group_tests_name("holdings", tests, NULL, NULL);
}

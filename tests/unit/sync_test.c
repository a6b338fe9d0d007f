#include "node/sync.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/group.h"
#include "tests/unit/unit.h"

enum { SENT_MAX = 128 };

/* What was sent: frames without their lists, and the names and digests counted. */
struct world {
    struct peal_sync sync;
    struct peal_sync_io io;
    struct peal_frame sent[SENT_MAX];
    size_t sent_count;
    unsigned slot_checked[PEAL_SLOTS]; /* times */
    uint64_t digest[PEAL_SLOTS];       /* as last said */
};

static void on_send(void *ctx, size_t link, const struct peal_frame *frame)
{
    struct world *w = ctx;
    assert_int_equal(link, 3);
    assert_true(w->sent_count < SENT_MAX);
    w->sent[w->sent_count++] = *frame;
    if (frame->type != PEAL_F_CHECK) return;
    for (size_t i = 0; i < frame->offsets.count; i++) {
        assert_true(frame->from + i < PEAL_SLOTS);
        w->slot_checked[frame->from + i]++;
        w->digest[frame->from + i] = frame->offsets.at[i];
    }
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    w->io = (struct peal_sync_io){w, 3, on_send};
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static void name_some(struct peal_sync_pages *pages, size_t count)
{
    struct peal_position at = {.group = peal_span_of("room"), .epoch = 1, .offset = 2};
    for (size_t i = 0; i < count; i++)
        peal_sync_name(pages, &at);
}

static void sync_pages_are_bounded_and_say_how_many_were_named(void **state)
{
    struct world *w = *state;
    struct peal_sync_pages pages;
    peal_sync_begin(&w->sync, &w->io, 1000, &pages);
    name_some(&pages, 2 * PEAL_SYNC_PAGE + 5);
    peal_sync_end(&pages);
    assert_int_equal(w->sent_count, 3);
    static const uint64_t flags[] = {PEAL_FLAG_FIRST, 0, PEAL_FLAG_LAST};
    static const size_t counts[] = {PEAL_SYNC_PAGE, PEAL_SYNC_PAGE, 5};
    uint64_t named = 0;
    for (size_t i = 0; i < 3; i++) {
        named += counts[i];
        assert_int_equal(w->sent[i].type, PEAL_F_SYNC);
        assert_int_equal(w->sent[i].flags, flags[i]);
        assert_int_equal(w->sent[i].positions.count, counts[i]);
        assert_int_equal(w->sent[i].limit, named);
        assert_true(w->sent[i].seq == w->sent[0].seq);
    }
}

static void sync_of_nothing_is_one_page(void **state)
{
    struct world *w = *state;
    struct peal_sync_pages pages;
    peal_sync_begin(&w->sync, &w->io, 1000, &pages);
    peal_sync_end(&pages);
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].flags, PEAL_FLAG_FIRST | PEAL_FLAG_LAST);
}

static void sync_is_overdue_until_the_last_one_is_confirmed(void **state)
{
    struct world *w = *state;
    struct peal_sync_pages pages;
    peal_sync_begin(&w->sync, &w->io, 1000, &pages);
    peal_sync_end(&pages);
    uint64_t first = w->sync.seq;
    assert_false(peal_sync_overdue(&w->sync, 1000 + PEAL_SYNC_RETRY_MS - 1));
    assert_true(peal_sync_overdue(&w->sync, 1000 + PEAL_SYNC_RETRY_MS));
    peal_sync_begin(&w->sync, &w->io, 5000, &pages);
    peal_sync_end(&pages);
    peal_sync_on_synced(&w->sync, first); /* the old one, late */
    assert_true(peal_sync_overdue(&w->sync, 9000));
    peal_sync_on_synced(&w->sync, w->sync.seq);
    assert_false(peal_sync_overdue(&w->sync, 9000));
}

/* Also when a slot was named in between: its number is another one. */
static void sync_of_a_slot_takes_no_confirmation_from_the_whole(void **state)
{
    struct world *w = *state;
    struct peal_sync_pages pages;
    peal_sync_begin(&w->sync, &w->io, 1000, &pages);
    peal_sync_end(&pages);
    peal_sync_begin_slot(&w->sync, &w->io, 77, &pages);
    name_some(&pages, 2);
    peal_sync_end(&pages);
    assert_int_equal(w->sent[1].type, PEAL_F_SYNC_SLOT);
    assert_int_equal(w->sent[1].from, 77);
    assert_int_equal(w->sent[1].limit, 2);
    assert_int_equal(w->sent[1].flags, PEAL_FLAG_FIRST | PEAL_FLAG_LAST);
    assert_true(w->sent[1].seq != w->sent[0].seq);
    peal_sync_on_synced(&w->sync, w->sent[0].seq);
    assert_false(w->sync.waits);
}

static void sync_checks_every_slot_within_a_minute_again_and_again(void **state)
{
    struct world *w = *state;
    struct peal_roll *held = calloc(1, sizeof *held);
    char names[50][16];
    for (size_t i = 0; i < 50; i++) {
        uint32_t place;
        snprintf(names[i], sizeof names[i], "room:%zu", i);
        assert_int_equal(peal_roll_add(held, peal_span_of(names[i]), names[i], &place), PEAL_OK);
    }
    for (uint64_t minute = 1; minute <= 2; minute++) {
        w->sent_count = 0;
        for (uint64_t s = 0; s < 60; s++)
            peal_sync_check(&w->sync, &w->io, held, 60000 * minute + s * 1000);
        assert_int_equal(w->sent_count, 60); /* one small frame per second */
        for (size_t i = 0; i < PEAL_SLOTS; i++) {
            assert_true(w->slot_checked[i] >= minute);
            assert_true(w->digest[i] == held->slots[i].digest);
        }
    }
    peal_roll_fini(held);
    free(held);
}

static void sync_checks_nothing_while_a_sync_is_under_way(void **state)
{
    struct world *w = *state;
    struct peal_roll *held = calloc(1, sizeof *held);
    struct peal_sync_pages pages;
    peal_sync_begin(&w->sync, &w->io, 10000, &pages);
    peal_sync_end(&pages);
    peal_sync_check(&w->sync, &w->io, held, 20000);
    assert_int_equal(w->sent_count, 1);
    peal_sync_on_synced(&w->sync, w->sync.seq);
    peal_sync_check(&w->sync, &w->io, held, 10000 + PEAL_SYNC_REST_MS - 1);
    assert_int_equal(w->sent_count, 1);
    peal_sync_check(&w->sync, &w->io, held, 10000 + PEAL_SYNC_REST_MS);
    assert_int_equal(w->sent_count, 2);
    assert_int_equal(w->sent[1].type, PEAL_F_CHECK);
    free(held);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(sync_pages_are_bounded_and_say_how_many_were_named),
        TEST(sync_of_nothing_is_one_page),
        TEST(sync_is_overdue_until_the_last_one_is_confirmed),
        TEST(sync_of_a_slot_takes_no_confirmation_from_the_whole),
        TEST(sync_checks_every_slot_within_a_minute_again_and_again),
        TEST(sync_checks_nothing_while_a_sync_is_under_way),
    };
    return cmocka_run_group_tests_name("sync", tests, NULL, NULL);
}

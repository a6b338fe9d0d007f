/* The groups of one slot on their way from one store to another, and the record of slots. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/group.h"
#include "tests/contract/rig.h"
#include "tests/unit/unit.h"

struct world {
    struct rig from;
    struct rig to;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    if (w == NULL) return -1;
    rig_init(&w->from, *state, rig_folder_new());
    rig_init(&w->to, *state, rig_folder_new());
    rig_open(&w->from);
    rig_open(&w->to);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    rig_close(&w->from);
    rig_close(&w->to);
    rig_folder_free(w->from.dir);
    rig_folder_free(w->to.dir);
    free(w);
    return 0;
}

static struct peal_store_op *op_new(struct rig *rig, enum peal_store_op_kind kind, uint16_t slot,
                                    struct peal_span group, struct peal_span message, uint64_t upto)
{
    struct peal_store_op *op = rig_op(rig, kind, group, message, NULL, 0);
    op->mark_flags = slot;
    op->upto = upto;
    return op;
}

/* Moves a slot; returns in how many pieces. */
static size_t copy_between(struct rig *source, struct rig *target, uint16_t slot)
{
    struct peal_buf group = {0};
    uint64_t from = 0;
    for (size_t piece = 0;; piece++) {
        struct peal_frame records;
        rig_submit(source, op_new(source, PEAL_STORE_EXPORT, slot, peal_buf_span(&group),
                                  (struct peal_span){0}, from));
        struct peal_store_op *op = rig_wait(&source->done);
        assert_int_equal(op->err, PEAL_OK);
        struct peal_store_op in =
            rig_do(target, op_new(target, PEAL_STORE_IMPORT, slot, (struct peal_span){0},
                                  peal_bytes_span(op->encoded), piece));
        assert_int_equal(in.err, PEAL_OK);
        assert_int_equal(peal_frame_decode(peal_bytes_span(op->encoded), &records), PEAL_OK);
        bool last = (records.flags & PEAL_FLAG_LAST) != 0;
        from = records.from;
        group.size = 0;
        peal_buf_add_span(&group, records.group);
        peal_frame_fini(&records);
        peal_store_op_free(op);
        if (!last) continue;
        peal_buf_fini(&group);
        return piece + 1;
    }
}

static size_t copy(struct world *w, uint16_t slot)
{
    return copy_between(&w->from, &w->to, slot);
}

static uint16_t slot_of(const char *group)
{
    return peal_group_slot(peal_span_of(group));
}

static struct peal_store_op drop(struct rig *rig, const char *group)
{
    return rig_do(rig, op_new(rig, PEAL_STORE_DROP, slot_of(group), (struct peal_span){0},
                              (struct peal_span){0}, 0));
}

static void moving_group_keeps_its_messages_marks_numbers_and_ids(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 5; i++)
        rig_put(&w->from, "user:ann", i == 4 ? "four" : NULL, "x");
    rig_ack(&w->from, "user:ann", 2);
    rig_put(&w->to, "user:other", NULL, "y"); /* numbers of groups differ between the stores */
    struct peal_store_op before = rig_head(&w->from, "user:ann");
    assert_int_equal(copy(w, slot_of("user:ann")), 1);
    struct peal_store_op after = rig_head(&w->to, "user:ann");
    assert_true(after.epoch == before.epoch);
    assert_int_equal(after.offset, 5);
    assert_int_equal(after.first, before.first);
    assert_int_equal(after.unread, before.unread);
    assert_int_equal(after.rev, before.rev);
    struct ask ask = {"user:ann", before.epoch, 0, 100, 1 << 20, 0};
    assert_string_equal(rig_text(&w->to, &ask), "M1ar M2ar M3 M4 M5");

    struct peal_store_op again = rig_put(&w->to, "user:ann", "four", "x");
    assert_true(again.duplicate);
    assert_int_equal(again.offset, 5);
    struct peal_store_op next = rig_put(&w->to, "user:ann", NULL, "x");
    assert_true(next.epoch == before.epoch);
    assert_int_equal(next.offset, 6);
    assert_int_equal(rig_head(&w->to, "user:other").offset, 1);
}

static void moving_takes_the_slot_and_nothing_else(void **state)
{
    struct world *w = *state;
    char name[32];
    int of_slot = 0;
    uint16_t slot = slot_of("user:ann");
    rig_put(&w->from, "user:ann", NULL, "x");
    for (int i = 0; i < 4000 && of_slot < 2; i++) {
        snprintf(name, sizeof name, "log:%d", i);
        if (slot_of(name) == slot) of_slot++;
        if (slot_of(name) == slot || i < 50) rig_put(&w->from, name, NULL, "x");
    }
    assert_int_equal(of_slot, 2);
    copy(w, slot);
    assert_int_equal(rig_head(&w->to, "user:ann").offset, 1);
    assert_int_equal(rig_head(&w->to, name).offset, 1);
    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "log:%d", i);
        if (slot_of(name) != slot) assert_int_equal(rig_head(&w->to, name).offset, 0);
    }
    copy(w, (uint16_t)((slot + 1) % PEAL_SLOTS)); /* perhaps an empty one */
}

static void moving_large_group_goes_in_pieces_that_continue(void **state)
{
    struct world *w = *state;
    static char data[3000];
    memset(data, 'x', sizeof data);
    for (int i = 0; i < 300; i++)
        rig_do(&w->from,
               rig_put_op(&w->from, &(struct message){"user:ann", NULL, data, sizeof data, 0}));
    struct peal_store_op before = rig_head(&w->from, "user:ann");
    assert_true(copy(w, slot_of("user:ann")) >= 3);
    struct ask ask = {"user:ann", before.epoch, 290, 100, 1 << 20, 0};
    assert_string_equal(rig_text(&w->to, &ask),
                        "M291 M292 M293 M294 M295 M296 M297 M298 M299 M300");
    ask = (struct ask){"user:ann", before.epoch, 0, 3, 1 << 20, 0};
    assert_string_equal(rig_text(&w->to, &ask), "M1 M2 M3");
}

static void moving_again_replaces_what_was_there(void **state)
{
    struct world *w = *state;
    uint16_t slot = slot_of("user:ann");
    rig_put(&w->from, "user:ann", NULL, "x");
    copy(w, slot);
    rig_put(&w->to, "user:ann", NULL, "only there"); /* as if it had been the owner */
    rig_put(&w->from, "user:ann", NULL, "second");
    rig_put(&w->from, "user:ann", NULL, "third");
    copy(w, slot);
    struct peal_store_op head = rig_head(&w->to, "user:ann");
    struct ask ask = {"user:ann", head.epoch, 1, 1, 1 << 20, 0};
    static struct page page;
    rig_page(&w->to, &ask, &page);
    assert_string_equal(page.text, "M2");
    assert_string_equal(page.data, "second");
    page_free(&page);
    assert_int_equal(head.offset, 3);
    rig_reopen(&w->to);
    assert_int_equal(rig_head(&w->to, "user:ann").offset, 3);
}

static void moving_slot_that_is_dropped_leaves_nothing(void **state)
{
    struct world *w = *state;
    rig_put(&w->from, "user:ann", NULL, "x");
    rig_put(&w->from, "user:bob", NULL, "x");
    assert_int_equal(drop(&w->from, "user:ann").err, PEAL_OK);
    assert_int_equal(rig_head(&w->from, "user:ann").offset, 0);
    assert_int_equal(rig_head(&w->from, "user:bob").offset, 1);
    rig_reopen(&w->from);
    assert_int_equal(rig_head(&w->from, "user:ann").offset, 0);
    assert_int_equal(copy(w, slot_of("user:ann")), 1);
}

static void moving_bad_records_are_refused_as_a_whole(void **state)
{
    struct world *w = *state;
    uint16_t slot = slot_of("user:ann");
    rig_put(&w->from, "user:ann", NULL, "x");
    rig_submit(&w->from, op_new(&w->from, PEAL_STORE_EXPORT, slot, (struct peal_span){0},
                                (struct peal_span){0}, 0));
    struct peal_store_op *op = rig_wait(&w->from.done);
    struct peal_span good = peal_bytes_span(op->encoded);
    char *bad = malloc(good.size);
    for (size_t i = 0; i < good.size; i++) {
        memcpy(bad, good.at, good.size);
        bad[i] ^= 0x20;
        struct peal_store_op in =
            rig_do(&w->to, op_new(&w->to, PEAL_STORE_IMPORT, slot, (struct peal_span){0},
                                  peal_span_make(bad, good.size), 0));
        if (in.err != PEAL_OK) continue;
        /* Only what is not a record may differ unseen: nothing came, or what was sent. */
        struct peal_store_op head = rig_head(&w->to, "user:ann");
        if (head.offset == 0) continue;
        struct ask ask = {"user:ann", head.epoch, 0, 9, 1 << 20, 0};
        static struct page page;
        rig_page(&w->to, &ask, &page);
        if (page.messages > 0) assert_string_equal(page.data, "x");
        page_free(&page);
    }
    struct peal_store_op in =
        rig_do(&w->to, op_new(&w->to, PEAL_STORE_IMPORT, (uint16_t)((slot + 1) % PEAL_SLOTS),
                              (struct peal_span){0}, good, 0));
    assert_int_not_equal(in.err, PEAL_OK); /* records of another slot */
    free(bad);
    peal_store_op_free(op);
}

static void moving_leaves_retention_out_while_it_goes_on(void **state)
{
    struct world *w = *state;
    w->from.groups[0].keep.age_ms = HOUR_MS;
    rig_put(&w->from, "user:ann", NULL, "x");
    atomic_fetch_add(&w->from.now_ms, HOUR_MS - 1000);
    copy(w, slot_of("user:ann"));
    rig_pass(&w->from, 2000);
    assert_int_equal(rig_head(&w->from, "user:ann").first, 1);
    rig_pass_until_first(&w->from, 20000, "user:ann", 2);
}

static void moving_record_of_slots_survives_a_restart(void **state)
{
    struct world *w = *state;
    assert_int_equal(w->from.impl->slots(w->from.store).size, 0);
    assert_non_null(w->from.impl->slots(w->from.store).at);
    struct peal_store_op put =
        rig_do(&w->from, op_new(&w->from, PEAL_STORE_SLOTS, 0, (struct peal_span){0},
                                peal_span_of("whose is whose"), 0));
    assert_int_equal(put.err, PEAL_OK);
    rig_reopen(&w->from);
    assert_true(peal_span_is(w->from.impl->slots(w->from.store), "whose is whose"));
    /* A newer one takes its place. */
    rig_do(&w->from, op_new(&w->from, PEAL_STORE_SLOTS, 0, (struct peal_span){0},
                            peal_span_of("whose is whose now"), 0));
    rig_reopen(&w->from);
    assert_true(peal_span_is(w->from.impl->slots(w->from.store), "whose is whose now"));
}

static void moving_keeps_limits_holes_and_what_was_lost(void **state)
{
    struct world *w = *state;
    w->from.groups[0].keep.messages = w->to.groups[0].keep.messages = 4;
    for (int i = 0; i < 5; i++)
        rig_put_sized(&w->from, "user:ann", 10, i == 2 ? 1000 : 0);
    rig_pass(&w->from, 1000);
    rig_pass(&w->to, 1000);
    assert_string_equal(rig_text_of(&w->from, "user:ann"), "Gevicted:1-1 M2 S3-3 M4 M5");
    copy(w, slot_of("user:ann"));
    assert_string_equal(rig_text_of(&w->to, "user:ann"), "Gevicted:1-1 M2 S3-3 M4 M5");
    assert_int_equal(rig_put(&w->to, "user:ann", NULL, "x").first, 2);
    assert_int_equal(rig_put(&w->to, "user:ann", NULL, "x").first, 4);
}

static void moving_to_itself_changes_nothing(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 5; i++)
        rig_put(&w->from, "user:ann", i == 4 ? "four" : NULL, "x");
    rig_mark_one(&w->from, "user:ann", PEAL_FLAG_ACK, 3);
    struct peal_store_op before = rig_head(&w->from, "user:ann");
    copy_between(&w->from, &w->from, slot_of("user:ann"));
    struct peal_store_op after = rig_head(&w->from, "user:ann");
    assert_int_equal(after.epoch, before.epoch);
    assert_int_equal(after.rev, before.rev);
    assert_int_equal(after.unread, before.unread);
    assert_string_equal(rig_text_of(&w->from, "user:ann"), "M1 M2 M3ar M4 M5");
    assert_true(rig_put(&w->from, "user:ann", "four", "x").duplicate);
}

static void moving_takes_ids_of_messages_that_are_gone(void **state)
{
    struct world *w = *state;
    case_needs(&w->from, CONTRACT_MOVE_OLD_IDS);
    w->from.groups[0].keep.settled_ms = 0;
    rig_put(&w->from, "user:ann", "one", "x");
    rig_ack(&w->from, "user:ann", 1);
    rig_pass_until_first(&w->from, 0, "user:ann", 2);
    copy(w, slot_of("user:ann"));
    struct peal_store_op again = rig_put(&w->to, "user:ann", "one", "x");
    assert_true(again.duplicate);
    assert_int_equal(again.offset, 1);
}

/* An id that is still known without its message would be a receipt for nothing. */
static void moving_slot_that_is_dropped_takes_its_ids(void **state)
{
    struct world *w = *state;
    case_needs(&w->from, CONTRACT_DROP_IDS);
    rig_put(&w->from, "user:ann", "one", "x");
    drop(&w->from, "user:ann");
    struct peal_store_op again = rig_put(&w->from, "user:ann", "one", "x");
    assert_false(again.duplicate);
    assert_int_equal(again.offset, 1);
    assert_string_equal(rig_text_of(&w->from, "user:ann"), "M1");
}

int contract_slots(const struct contract_store *impl)
{
#define MOVE(f)                                                                                    \
    cmocka_unit_test_prestate_setup_teardown(f, setup, teardown, (void *)(uintptr_t)impl)
    const struct CMUnitTest tests[] = {
        MOVE(moving_group_keeps_its_messages_marks_numbers_and_ids),
        MOVE(moving_takes_the_slot_and_nothing_else),
        MOVE(moving_large_group_goes_in_pieces_that_continue),
        MOVE(moving_again_replaces_what_was_there),
        MOVE(moving_slot_that_is_dropped_leaves_nothing),
        MOVE(moving_bad_records_are_refused_as_a_whole),
        MOVE(moving_leaves_retention_out_while_it_goes_on),
        MOVE(moving_record_of_slots_survives_a_restart),
        MOVE(moving_keeps_limits_holes_and_what_was_lost),
        MOVE(moving_to_itself_changes_nothing),
        MOVE(moving_takes_ids_of_messages_that_are_gone),
        MOVE(moving_slot_that_is_dropped_takes_its_ids),
    };
#undef MOVE
    return cmocka_run_group_tests_name("contract: slots", tests, NULL, NULL);
}

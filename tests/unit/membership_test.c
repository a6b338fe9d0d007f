#include "router/membership.h"

#include "base/metrics.h"
#include "proto/group.h"
#include "tests/unit/shard_rig.h"

static void membership_joined_names_the_offset_after_which_messages_follow(void **state)
{
    struct world *w = *state;
    struct peal_frame batch;
    struct peal_frame entry;
    push(w, "{\"group\":\"room\",\"data\":1}");
    push(w, "{\"group\":\"room\",\"data\":2}");
    assert_int_equal(w->batch_count, 0); /* nobody wanted them */
    join(w, 42, 9, "room");
    last_entry(w, 0, &batch, &entry);
    assert_int_equal(batch.seq & UINT32_MAX, 1);
    assert_int_equal(entry.type, PEAL_F_JOINED);
    assert_int_equal(entry.req, 9);
    assert_int_equal(entry.offset, 2);
    assert_int_equal(entry.first, 1);
    assert_int_equal(entry.flags & PEAL_FLAG_KEEPS, PEAL_FLAG_KEEPS);
    peal_frame_fini(&batch);
    push(w, "{\"group\":\"room\",\"data\":3}");
    expect_message(w, 42, "3", 3);
}

/* The end of the turn, in which rows go that a sync did not name. */
static void sweep(struct world *w)
{
    while (peal_shard_busy(w->shard))
        peal_shard_on_tick(w->shard);
}

static void membership_sync_makes_the_table_exactly_what_the_node_holds(void **state)
{
    struct world *w = *state;
    join(w, 42, 1, "a");
    join(w, 42, 2, "b");
    push(w, "{\"group\":\"a\",\"data\":1}");
    struct peal_position held[] = {{peal_span_of("a"), 1001, 0}, {peal_span_of("c"), 0, 0}};
    struct peal_frame sync = {.type = PEAL_F_SYNC, .flags = PEAL_FLAG_FIRST | PEAL_FLAG_LAST};
    sync.positions.at = held;
    sync.positions.count = 2;
    sync.limit = 2;
    forget(w);
    from_node(w, 42, &sync);
    /* a is at 1 and not at 0, c is new here: both positions are told. */
    struct peal_frame batch;
    struct peal_frame entry;
    last_entry(w, 0, &batch, &entry);
    assert_int_equal(batch.entries.count, 2);
    assert_int_equal(entry.type, PEAL_F_AT);
    assert_true(peal_span_is(entry.group, "a"));
    assert_int_equal(entry.offset, 1);
    peal_frame_fini(&batch);
    sweep(w);
    forget(w);
    push(w, "{\"group\":\"b\",\"data\":1}"); /* no longer held */
    assert_int_equal(w->batch_count, 0);
    push(w, "{\"group\":\"c\",\"data\":1}");
    assert_int_equal(w->batch_count, 1);
    /* What is where the node says is not told again. */
    forget(w);
    held[0].offset = 1;
    sync.positions.count = 1;
    sync.limit = 1;
    from_node(w, 42, &sync);
    assert_int_equal(w->batch_count, 0);
}

static size_t count_synced(struct world *w, uint64_t seq)
{
    size_t count = 0;
    for (size_t i = 0; i < w->reply_count; i++) {
        struct peal_frame f;
        assert_int_equal(peal_frame_decode(peal_bytes_span(w->replies[i]), &f), PEAL_OK);
        count += f.type == PEAL_F_SYNCED && f.seq == seq;
        peal_frame_fini(&f);
    }
    return count;
}

static void membership_sync_that_lost_a_page_is_not_confirmed(void **state)
{
    struct world *w = *state;
    struct peal_position held[] = {{peal_span_of("a"), 0, 0}, {peal_span_of("b"), 0, 0}};
    join(w, 42, 1, "c");
    struct peal_frame page = {.type = PEAL_F_SYNC, .seq = 7};
    page.positions.at = held;
    page.positions.count = 1;
    /* Only the last page of two came. */
    page.flags = PEAL_FLAG_LAST;
    page.limit = 2;
    from_node(w, 42, &page);
    assert_int_equal(count_synced(w, 7), 0);
    forget(w);
    push(w, "{\"group\":\"c\",\"data\":1}"); /* its row is still there */
    assert_int_equal(w->batch_count, 1);
    /* Both: confirmed, and c is gone. */
    page.seq = 8;
    page.flags = PEAL_FLAG_FIRST;
    from_node(w, 42, &page);
    page.positions.at = held + 1;
    page.flags = PEAL_FLAG_LAST;
    from_node(w, 42, &page);
    sweep(w);
    assert_int_equal(count_synced(w, 8), 1);
    forget(w);
    push(w, "{\"group\":\"c\",\"data\":2}");
    assert_int_equal(w->batch_count, 0);
}

/* What the node says it holds in the slot of `name`, as if that were all of it there. */
static void check_slot(struct world *w, uint64_t boot, const char *name, uint64_t digest)
{
    struct peal_frame check = {.type = PEAL_F_CHECK, .from = peal_group_slot(peal_span_of(name))};
    check.offsets.at = &digest;
    check.offsets.count = 1;
    from_node(w, boot, &check);
}

/* The only answer is that the slot of `name` differs. */
static void expect_differ(struct world *w, const char *name)
{
    struct peal_frame f;
    assert_int_equal(w->reply_count, 1);
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->replies[0]), &f), PEAL_OK);
    assert_int_equal(f.type, PEAL_F_DIFFER);
    assert_int_equal(f.offsets.count, 1);
    assert_int_equal(f.offsets.at[0], peal_group_slot(peal_span_of(name)));
    peal_frame_fini(&f);
}

static void sync_slot(struct world *w, uint64_t boot, const char *slot, uint64_t flags,
                      struct peal_position *at, size_t count, uint64_t named)
{
    struct peal_frame sync = {.type = PEAL_F_SYNC_SLOT,
                              .seq = 5,
                              .flags = flags,
                              .limit = named,
                              .from = peal_group_slot(peal_span_of(slot))};
    sync.positions.at = at;
    sync.positions.count = count;
    from_node(w, boot, &sync);
}

static void membership_check_of_what_the_router_has_is_not_answered(void **state)
{
    struct world *w = *state;
    join(w, 42, 1, "live:a");
    join(w, 43, 2, "live:a");
    join(w, 43, 3, "live:b");
    forget(w);
    check_slot(w, 42, "live:a", peal_group_hash(peal_span_of("live:a")));
    check_slot(w, 42, "live:b", 0); /* only the other node wants it */
    check_slot(w, 43, "live:b", peal_group_hash(peal_span_of("live:b")));
    assert_int_equal(w->reply_count, 0);
    /* A row that the node does not hold, and one that it misses. */
    check_slot(w, 42, "live:a", 0);
    expect_differ(w, "live:a");
    forget(w);
    check_slot(w, 42, "live:b", peal_group_hash(peal_span_of("live:b")));
    expect_differ(w, "live:b");
    /* Slots beyond the last one are none. */
    uint64_t digests[4] = {0};
    struct peal_frame check = {.type = PEAL_F_CHECK, .from = PEAL_SLOTS - 1};
    check.offsets.at = digests;
    check.offsets.count = 4;
    forget(w);
    from_node(w, 42, &check);
    check.from = UINT64_MAX;
    from_node(w, 42, &check);
    assert_int_equal(w->reply_count, 0);
}

static void membership_named_slot_becomes_exactly_that_and_others_stay(void **state)
{
    struct world *w = *state;
    int64_t healed = peal_metrics_sum(PEAL_M_ROWS_HEALED);
    join(w, 42, 1, "live:a");
    join(w, 42, 2, "live:b");
    assert_int_not_equal(peal_group_slot(peal_span_of("live:a")),
                         peal_group_slot(peal_span_of("live:b")));
    forget(w);
    /* It left live:a, and that got lost: the row goes, and only that one. */
    sync_slot(w, 42, "live:a", PEAL_FLAG_FIRST | PEAL_FLAG_LAST, NULL, 0, 0);
    push(w, "{\"group\":\"live:a\",\"data\":1}");
    assert_int_equal(w->batch_count, 0);
    push(w, "{\"group\":\"live:b\",\"data\":1}");
    assert_int_equal(w->batch_count, 1);
    forget(w);
    /* It holds live:a, and the router has no row: it gets one, and the true position. */
    struct peal_position held = {peal_span_of("live:a"), 1001, 0};
    sync_slot(w, 42, "live:a", PEAL_FLAG_FIRST | PEAL_FLAG_LAST, &held, 1, 1);
    struct peal_frame batch;
    struct peal_frame entry;
    last_entry(w, 0, &batch, &entry);
    assert_int_equal(entry.type, PEAL_F_AT);
    assert_int_equal(entry.offset, 1);
    peal_frame_fini(&batch);
    push(w, "{\"group\":\"live:a\",\"data\":2}");
    expect_message(w, 42, "2", 2);
    assert_int_equal(peal_metrics_sum(PEAL_M_ROWS_HEALED) - healed, 2);
    /* What is as named is not told, and not counted. */
    forget(w);
    held.offset = 2;
    sync_slot(w, 42, "live:a", PEAL_FLAG_FIRST | PEAL_FLAG_LAST, &held, 1, 1);
    assert_int_equal(w->batch_count, 0);
    assert_int_equal(peal_metrics_sum(PEAL_M_ROWS_HEALED) - healed, 2);
}

/* A join whose answer is still under way has a row already; one that got lost comes again. */
static void membership_group_named_without_a_position_keeps_its_row_and_gets_none(void **state)
{
    struct world *w = *state;
    struct peal_position asked = {peal_span_of("live:a"), 0, 0};
    sync_slot(w, 42, "live:a", PEAL_FLAG_FIRST | PEAL_FLAG_LAST, &asked, 1, 1);
    push(w, "{\"group\":\"live:a\",\"data\":1}");
    assert_int_equal(w->batch_count, 0);
    join(w, 42, 1, "live:a");
    forget(w);
    sync_slot(w, 42, "live:a", PEAL_FLAG_FIRST | PEAL_FLAG_LAST, &asked, 1, 1);
    assert_int_equal(w->batch_count, 0);
    push(w, "{\"group\":\"live:a\",\"data\":2}");
    expect_message(w, 42, "2", 2);
}

static void membership_named_slot_that_lost_a_page_removes_nothing(void **state)
{
    struct world *w = *state;
    join(w, 42, 1, "live:a");
    forget(w);
    sync_slot(w, 42, "live:a", PEAL_FLAG_LAST, NULL, 0, 1000); /* the first page was lost */
    push(w, "{\"group\":\"live:a\",\"data\":1}");
    assert_int_equal(w->batch_count, 1);
}

static void membership_named_slot_asks_the_store_only_for_what_differs(void **state)
{
    struct world *w = *state;
    join(w, 42, 1, "user:bob");
    store_done(w, PEAL_OK);
    forget(w);
    struct peal_position held = {peal_span_of("user:bob"), 77, 0};
    sync_slot(w, 42, "user:bob", PEAL_FLAG_FIRST | PEAL_FLAG_LAST, &held, 1, 1);
    assert_int_equal(w->op_count, 0);
    held.offset = 3; /* more than there is */
    sync_slot(w, 42, "user:bob", PEAL_FLAG_FIRST | PEAL_FLAG_LAST, &held, 1, 1);
    assert_int_equal(w->op_count, 1);
    store_done(w, PEAL_OK);
    peal_shard_flush(w->shard);
    struct peal_frame batch;
    struct peal_frame entry;
    last_entry(w, 0, &batch, &entry);
    assert_int_equal(entry.type, PEAL_F_AT);
    assert_int_equal(entry.offset, 0);
    peal_frame_fini(&batch);
}

/* Seconds go by in which no node is heard: they are dropped, and what nobody wants ages. */
static void pass(struct world *w, uint64_t ms)
{
    for (; ms > 0; ms -= 1000) {
        w->now_ms += 1000;
        peal_shard_set_time(w->shard, w->now_ms, 1700000000000);
        peal_shard_on_tick(w->shard);
    }
    forget(w);
}

static void sync_one(struct world *w, uint64_t boot, const char *group, uint64_t epoch,
                     uint64_t offset, struct peal_frame *batch, struct peal_frame *at)
{
    struct peal_position held = {peal_span_of(group), epoch, offset};
    struct peal_frame sync = {
        .type = PEAL_F_SYNC, .flags = PEAL_FLAG_FIRST | PEAL_FLAG_LAST, .limit = 1};
    sync.positions.at = &held;
    sync.positions.count = 1;
    from_node(w, boot, &sync);
    last_entry(w, 0, batch, at);
    assert_int_equal(at->type, PEAL_F_AT);
}

static void membership_node_that_was_dropped_finds_its_group_in_the_same_epoch(void **state)
{
    struct world *w = *state;
    struct peal_frame batch;
    struct peal_frame at;
    struct peal_frame page;
    join(w, 42, 1, "room");
    push(w, "{\"group\":\"room\",\"data\":1}");
    pass(w, 10000);
    push(w, "{\"group\":\"room\",\"data\":2}");
    push(w, "{\"group\":\"room\",\"data\":3}");
    assert_int_equal(w->batch_count, 0);
    sync_one(w, 42, "room", 1001, 1, &batch, &at);
    assert_int_equal(at.epoch, 1001);
    assert_int_equal(at.offset, 3);
    peal_frame_fini(&batch);
    fetch(w, "room", 1001, 1, &page);
    assert_int_equal(page.entries.count, 2); /* both messages, no gap */
    peal_frame_fini(&page);
    push(w, "{\"group\":\"room\",\"data\":4}");
    expect_message(w, 42, "4", 4);
}

/* The entry was freed meanwhile; the one that is made for the sync knows nothing of the old one,
 * and must not pass for it, not even when it has come to the same offset. */
static void membership_group_made_again_is_never_taken_for_the_one_before(void **state)
{
    struct world *w = *state;
    struct peal_frame batch;
    struct peal_frame at;
    struct peal_frame page;
    join(w, 42, 1, "room");
    push(w, "{\"group\":\"room\",\"data\":1}");
    pass(w, 60000 + 2000 + 300000 + 1000); /* its history aged, then the entry */
    push(w, "{\"group\":\"room\",\"data\":2}");
    sync_one(w, 42, "room", 1001, 1, &batch, &at);
    assert_int_not_equal(at.epoch, 1001);
    assert_int_equal(at.offset, 1);
    uint64_t epoch = at.epoch;
    peal_frame_fini(&batch);
    fetch(w, "room", 1001, 1, &page);
    expect_gap(&page, 0, 0, PEAL_GAP_EPOCH);
    assert_int_equal(page.entries.count, 2);
    assert_int_equal(page.epoch, epoch);
    peal_frame_fini(&page);
}

static void membership_position_in_a_durable_group_is_shown_to_the_store(void **state)
{
    struct world *w = *state;
    struct peal_position held = {peal_span_of("user:bob"), 77, 9};
    struct peal_frame sync = {
        .type = PEAL_F_SYNC, .flags = PEAL_FLAG_FIRST | PEAL_FLAG_LAST, .limit = 1};
    sync.positions.at = &held;
    sync.positions.count = 1;
    from_node(w, 42, &sync);
    assert_int_equal(w->op_count, 1);
    assert_int_equal(w->ops[0]->kind, PEAL_STORE_HEAD);
    assert_int_equal(w->ops[0]->seen_epoch, 77);
    assert_int_equal(w->ops[0]->seen_offset, 9);
    /* One that joins has seen nothing, whatever its clients say. */
    join(w, 42, 1, "user:eve");
    assert_int_equal(w->ops[1]->seen_epoch, 0);
    assert_int_equal(w->ops[1]->seen_offset, 0);
}

int main(void)
{
    peal_metrics_thread_start();
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(membership_joined_names_the_offset_after_which_messages_follow),
        TEST(membership_sync_makes_the_table_exactly_what_the_node_holds),
        TEST(membership_sync_that_lost_a_page_is_not_confirmed),
        TEST(membership_check_of_what_the_router_has_is_not_answered),
        TEST(membership_named_slot_becomes_exactly_that_and_others_stay),
        TEST(membership_group_named_without_a_position_keeps_its_row_and_gets_none),
        TEST(membership_named_slot_that_lost_a_page_removes_nothing),
        TEST(membership_named_slot_asks_the_store_only_for_what_differs),
        TEST(membership_node_that_was_dropped_finds_its_group_in_the_same_epoch),
        TEST(membership_group_made_again_is_never_taken_for_the_one_before),
        TEST(membership_position_in_a_durable_group_is_shown_to_the_store),
    };
    return cmocka_run_group_tests_name("membership", tests, NULL, NULL);
}

#include "router/table.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "proto/group.h"
#include "tests/unit/unit.h"

static const char yaml[] = "groups:\n"
                           "  - {match: 'log:{id}', durable: true}\n"
                           "  - {match: 'live:{id}'}\n"
                           "  - {match: 'brief:{id}', history: {messages: 100, age: 10s}}\n"
                           "  - {match: '*', history: {messages: 100, age: 60s}}\n";

enum { ROUTER = 1000, SENT_MAX = 64, IDLE_MS = 300000 };

struct world {
    struct peal_config *config;
    struct peal_table table;
    struct {
        uint64_t boot; /* of the node */
        struct peal_bytes *bytes;
        struct peal_frame batch;
    } sent[SENT_MAX];
    size_t sent_count;
    int synced; /* how often the table said that a sync is done */
};

static void on_synced(void *ctx, struct peal_node_entry *node)
{
    struct world *w = ctx;
    assert_false(node->dropped);
    w->synced++;
}

static void on_topic(void *ctx, uint64_t boot, struct peal_span bytes)
{
    struct world *w = ctx;
    assert_true(w->sent_count < SENT_MAX);
    size_t i = w->sent_count++;
    w->sent[i].boot = boot;
    w->sent[i].bytes = peal_bytes_new(bytes.at, bytes.size);
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->sent[i].bytes), &w->sent[i].batch),
                     PEAL_OK);
    assert_int_equal(w->sent[i].batch.type, PEAL_F_BATCH);
    assert_int_equal(w->sent[i].batch.boot, ROUTER);
}

static void forget(struct world *w)
{
    for (size_t i = 0; i < w->sent_count; i++) {
        peal_frame_fini(&w->sent[i].batch);
        peal_bytes_unref(w->sent[i].bytes);
    }
    w->sent_count = 0;
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct peal_config_sources from = {.text = yaml, .text_size = sizeof yaml - 1};
    struct peal_buf problems = {0};
    peal_log_set_level(PEAL_LOG_ERROR);
    assert_int_equal(peal_config_load(&from, &w->config, &problems), PEAL_OK);
    peal_buf_fini(&problems);
    assert_int_equal(peal_table_init(&w->table, w->config, ROUTER), PEAL_OK);
    w->table.ctx = w;
    w->table.topic = on_topic;
    w->table.synced = on_synced;
    w->table.now_ms = 1000000;
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    forget(w);
    peal_table_fini(&w->table);
    peal_config_free(w->config);
    free(w);
    return 0;
}

static struct peal_group_entry *group(struct world *w, const char *name)
{
    struct peal_group_entry *g = peal_table_ensure_group(&w->table, peal_span_of(name));
    assert_non_null(g);
    return g;
}

static struct peal_group_entry *find(struct world *w, const char *name)
{
    return peal_table_find_group(&w->table, peal_span_of(name));
}

static struct peal_node_entry *node(struct world *w, uint64_t boot)
{
    struct peal_node_entry *n = peal_table_ensure_node(&w->table, boot);
    assert_non_null(n);
    return n;
}

static void keep(struct world *w, struct peal_group_entry *g, size_t size)
{
    static const char text[1000];
    struct peal_bytes *bytes = peal_bytes_new(text, size);
    g->head++;
    peal_table_keep(&w->table, g, bytes);
    peal_bytes_unref(bytes);
}

static int sweep(struct world *w)
{
    int pieces = 1;
    while (peal_table_sweep(&w->table))
        pieces++;
    return pieces;
}

static void fan_out(struct world *w, struct peal_group_entry *g, uint64_t offset)
{
    struct peal_frame frame = {
        .type = PEAL_F_AT, .group = peal_group_entry_name(g), .epoch = g->epoch, .offset = offset};
    peal_table_fan_out(&w->table, g, &frame);
}

/* A second in which these nodes were heard. */
static void second(struct world *w, uint64_t ms)
{
    w->table.now_ms += ms;
    peal_table_on_second(&w->table);
    sweep(w);
}

/* ---- batches ----------------------------------------------------------------------------- */

static void table_turn_leaves_as_one_batch_per_node_that_wants_it(void **state)
{
    struct world *w = *state;
    struct peal_group_entry *g = group(w, "room");
    assert_int_equal(peal_table_add_row(g, node(w, 1)), PEAL_OK);
    assert_int_equal(peal_table_add_row(g, node(w, 2)), PEAL_OK);
    node(w, 3);
    fan_out(w, g, 1);
    fan_out(w, g, 2);
    assert_int_equal(w->sent_count, 0);
    peal_table_flush(&w->table);
    assert_int_equal(w->sent_count, 2);
    for (size_t i = 0; i < 2; i++) {
        struct peal_frame entry;
        assert_int_equal(w->sent[i].boot, i + 1);
        assert_true((w->sent[i].batch.seq & UINT32_MAX) == 1);
        assert_int_equal(w->sent[i].batch.entries.count, 2);
        assert_int_equal(peal_frame_decode(w->sent[i].batch.entries.at[1], &entry), PEAL_OK);
        assert_int_equal(entry.offset, 2);
        peal_frame_fini(&entry);
    }
    peal_table_flush(&w->table); /* nothing is left */
    assert_int_equal(w->sent_count, 2);
}

static void table_beat_repeats_the_sequence_of_the_last_batch(void **state)
{
    struct world *w = *state;
    struct peal_node_entry *n = node(w, 1);
    peal_table_send(&w->table, n);
    uint64_t start = w->sent[0].batch.seq;
    assert_true(start == n->seq);
    assert_int_equal(peal_table_add_row(group(w, "room"), n), PEAL_OK);
    fan_out(w, group(w, "room"), 1);
    peal_table_flush(&w->table);
    second(w, 1000);
    assert_int_equal(w->sent_count, 3);
    assert_true(w->sent[1].batch.seq == start + 1);
    assert_true(w->sent[2].batch.seq == start + 1);
    assert_int_equal(w->sent[2].batch.entries.count, 0);
}

static void table_full_batch_leaves_at_once(void **state)
{
    struct world *w = *state;
    struct peal_group_entry *g = group(w, "room");
    assert_int_equal(peal_table_add_row(g, node(w, 1)), PEAL_OK);
    for (uint64_t i = 1; i <= PEAL_PARCEL_ENTRIES + 1; i++)
        fan_out(w, g, i);
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].batch.entries.count, PEAL_PARCEL_ENTRIES);
    peal_table_flush(&w->table);
    assert_int_equal(w->sent_count, 2);
    assert_true(w->sent[1].batch.seq == w->sent[0].batch.seq + 1);
    assert_int_equal(w->sent[1].batch.entries.count, 1);
}

static void table_told_node_alone_gets_the_frame(void **state)
{
    struct world *w = *state;
    struct peal_frame at = {.type = PEAL_F_AT, .group = peal_span_of("room"), .offset = 3};
    node(w, 1);
    peal_table_tell(&w->table, node(w, 2), &at);
    peal_table_flush(&w->table);
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].boot, 2);
}

/* ---- nodes and rows ---------------------------------------------------------------------- */

static void table_row_is_there_once(void **state)
{
    struct world *w = *state;
    struct peal_group_entry *g = group(w, "room");
    assert_int_equal(peal_table_add_row(g, node(w, 1)), PEAL_OK);
    assert_int_equal(peal_table_add_row(g, node(w, 1)), PEAL_OK);
    assert_int_equal(g->rows.count, 1);
    fan_out(w, g, 1);
    peal_table_flush(&w->table);
    assert_int_equal(w->sent[0].batch.entries.count, 1);
    peal_table_remove_row(&w->table, g, node(w, 1));
    assert_false(peal_table_has_row(g, node(w, 1)));
    assert_int_equal(g->rows.count, 0);
}

static void table_sync_drops_the_rows_it_did_not_name(void **state)
{
    struct world *w = *state;
    struct peal_node_entry *n = node(w, 1);
    assert_int_equal(peal_table_add_row(group(w, "named"), n), PEAL_OK);
    assert_int_equal(peal_table_add_row(group(w, "dropped"), n), PEAL_OK);
    assert_int_equal(peal_table_add_row(group(w, "dropped"), node(w, 2)), PEAL_OK);
    peal_table_begin_sync(&w->table, n);
    assert_int_equal(peal_table_add_row(group(w, "named"), n), PEAL_OK);
    peal_table_end_sync(&w->table, n);
    sweep(w);
    assert_int_equal(w->synced, 1);
    assert_true(peal_table_has_row(group(w, "named"), n));
    assert_false(peal_table_has_row(group(w, "dropped"), n));
    assert_true(peal_table_has_row(group(w, "dropped"), node(w, 2)));
}

/* Many groups of several nodes, so that places in the nodes' lists are taken over. */
static void table_rows_of_many_groups_stay_true_while_nodes_leave(void **state)
{
    struct world *w = *state;
    enum { GROUPS = 300 };
    char name[16];
    for (uint64_t boot = 1; boot <= 3; boot++) {
        for (int i = 0; i < GROUPS; i++) {
            snprintf(name, sizeof name, "log:%d", i);
            assert_int_equal(peal_table_add_row(group(w, name), node(w, boot)), PEAL_OK);
        }
    }
    for (int i = 0; i < GROUPS; i += 3) { /* the node 1 leaves every third one */
        snprintf(name, sizeof name, "log:%d", i);
        peal_table_remove_row(&w->table, find(w, name), node(w, 1));
        peal_table_remove_row(&w->table, find(w, name), node(w, 1)); /* twice is harmless */
    }
    peal_table_begin_sync(&w->table, node(w, 2));
    for (int i = 0; i < GROUPS; i += 2) { /* the node 2 names every second one */
        snprintf(name, sizeof name, "log:%d", i);
        assert_int_equal(peal_table_add_row(find(w, name), node(w, 2)), PEAL_OK);
    }
    peal_table_end_sync(&w->table, node(w, 2));
    sweep(w);
    w->table.now_ms += PEAL_BEAT_LOST_MS + 1;
    node(w, 1)->seen_ms = node(w, 2)->seen_ms = w->table.now_ms;
    peal_table_on_second(&w->table); /* the node 3 is gone */
    sweep(w);
    assert_null(peal_table_find_node(&w->table, 3));
    assert_int_equal(node(w, 1)->roll.count, GROUPS * 2 / 3);
    assert_int_equal(node(w, 2)->roll.count, GROUPS / 2);
    for (int i = 0; i < GROUPS; i++) {
        snprintf(name, sizeof name, "log:%d", i);
        struct peal_group_entry *g = find(w, name);
        bool first = i % 3 != 0;
        bool second = i % 2 == 0;
        assert_true((g != NULL) == (first || second)); /* a durable one goes with its last row */
        if (g == NULL) continue;
        assert_int_equal(g->rows.count, (uint32_t)first + (uint32_t)second);
        assert_true(peal_table_has_row(g, node(w, 1)) == first);
        assert_true(peal_table_has_row(g, node(w, 2)) == second);
    }
    assert_int_equal(node(w, 4)->number, 2); /* the number is given again */
}

static void table_silent_node_goes_with_its_rows_and_batch(void **state)
{
    struct world *w = *state;
    struct peal_group_entry *g = group(w, "room");
    assert_int_equal(peal_table_add_row(g, node(w, 1)), PEAL_OK);
    assert_int_equal(peal_table_add_row(g, node(w, 2)), PEAL_OK);
    fan_out(w, g, 1);
    w->table.now_ms += PEAL_BEAT_LOST_MS + 1;
    node(w, 2)->seen_ms = w->table.now_ms;
    peal_table_on_second(&w->table);
    peal_table_flush(&w->table);
    assert_null(peal_table_find_node(&w->table, 1));
    sweep(w);
    assert_int_equal(g->rows.count, 1);
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].boot, 2);
    assert_int_equal(w->sent[0].batch.entries.count, 1);
}

enum { MANY = 5000 };

static void join_many(struct world *w, struct peal_node_entry *n)
{
    char name[24];
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "live:%d", i);
        assert_int_equal(peal_table_add_row(group(w, name), n), PEAL_OK);
    }
}

/* The group whose row a sweep looks at last. */
static struct peal_group_entry *swept_last(const struct peal_node_entry *n)
{
    const struct peal_roll_slot *slot = n->roll.slots;
    while (slot->count == 0)
        slot++;
    return slot->items[0];
}

static void table_rows_of_a_lost_node_go_in_pieces_and_get_nothing_more(void **state)
{
    struct world *w = *state;
    join_many(w, node(w, 1));
    struct peal_group_entry *last = swept_last(node(w, 1));
    assert_int_equal(peal_table_add_row(last, node(w, 2)), PEAL_OK);
    w->table.now_ms += PEAL_BEAT_LOST_MS + 1;
    node(w, 2)->seen_ms = w->table.now_ms;
    peal_table_on_second(&w->table);
    assert_true(peal_table_sweep(&w->table));
    assert_int_equal(last->rows.count, 2);
    forget(w);
    fan_out(w, last, 1); /* between the pieces */
    peal_table_flush(&w->table);
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].boot, 2);
    /* The node is back meanwhile, as another entry. */
    assert_int_equal(node(w, 1)->number, 2);
    assert_int_equal(peal_table_add_row(last, node(w, 1)), PEAL_OK);
    assert_int_equal(sweep(w), 2);
    assert_int_equal(last->rows.count, 2);
    assert_int_equal(w->table.groups.count, MANY);
    for (int i = 0; i < MANY; i++) {
        char name[24];
        snprintf(name, sizeof name, "live:%d", i);
        assert_int_equal(find(w, name)->rows.count, find(w, name) == last ? 2 : 0);
    }
    assert_int_equal(node(w, 3)->number, 0); /* free again */
}

static void table_sync_that_begins_while_the_last_one_is_swept_keeps_its_rows(void **state)
{
    struct world *w = *state;
    struct peal_node_entry *n = node(w, 1);
    join_many(w, n);
    peal_table_begin_sync(&w->table, n);
    peal_table_end_sync(&w->table, n); /* it holds nothing any more */
    assert_true(peal_table_sweep(&w->table));
    assert_int_equal(n->roll.count, MANY - 2000);
    peal_table_begin_sync(&w->table, n);
    sweep(w);
    assert_int_equal(n->roll.count, MANY - 2000); /* they may be named yet */
    assert_int_equal(w->synced, 0);
    assert_int_equal(peal_table_add_row(group(w, "live:0"), n), PEAL_OK);
    peal_table_end_sync(&w->table, n);
    assert_true(peal_table_sweep(&w->table));
    peal_table_remove_row(&w->table, find(w, "live:0"), n); /* left between the pieces */
    assert_int_equal(peal_table_add_row(group(w, "live:new"), n), PEAL_OK);
    sweep(w);
    assert_int_equal(w->synced, 1);
    assert_int_equal(n->roll.count, 1);
    assert_true(peal_table_has_row(find(w, "live:new"), n));
}

static void table_entries_that_age_together_go_in_pieces(void **state)
{
    struct world *w = *state;
    char name[24];
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "brief:%d", i);
        keep(w, group(w, name), 10);
    }
    w->table.now_ms += 10001;
    assert_int_equal(sweep(w), 3);
    assert_int_equal(w->table.history_bytes, 0);
    w->table.now_ms += IDLE_MS;
    assert_int_equal(sweep(w), 3);
    assert_null(find(w, "brief:0"));
}

static void table_node_that_comes_back_has_a_sequence_of_its_own(void **state)
{
    struct world *w = *state;
    uint64_t before = node(w, 1)->seq;
    second(w, PEAL_BEAT_LOST_MS + 1);
    assert_null(peal_table_find_node(&w->table, 1));
    assert_true(node(w, 1)->seq > before + UINT32_MAX);
}

/* ---- entries and their history ----------------------------------------------------------- */

static void table_new_entries_have_epochs_of_their_own(void **state)
{
    struct world *w = *state;
    uint64_t epoch = group(w, "a")->epoch;
    assert_true(epoch != 0);
    assert_true(group(w, "b")->epoch != epoch);
    assert_true(group(w, "a")->epoch == epoch); /* the same entry */
}

/* The same groups, made in the same order by the router's next life. */
static void table_entries_of_another_life_have_other_epochs(void **state)
{
    struct world *w = *state;
    struct peal_table next;
    assert_int_equal(peal_table_init(&next, w->config, ROUTER + 1000000), PEAL_OK);
    for (int i = 0; i < 100; i++) {
        char name[24];
        snprintf(name, sizeof name, "live:%d", i);
        const struct peal_group_entry *again = peal_table_ensure_group(&next, peal_span_of(name));
        assert_non_null(again);
        assert_true(group(w, name)->epoch != again->epoch);
        assert_int_equal(again->head, 0);
    }
    peal_table_fini(&next);
}

static void table_durable_entry_goes_with_its_last_row(void **state)
{
    struct world *w = *state;
    assert_int_equal(peal_table_add_row(group(w, "log:a"), node(w, 1)), PEAL_OK);
    peal_table_remove_row(&w->table, find(w, "log:a"), node(w, 1));
    assert_null(find(w, "log:a"));
}

static void table_idle_entry_keeps_its_epoch_for_five_minutes(void **state)
{
    struct world *w = *state;
    uint64_t epoch = group(w, "live:a")->epoch;
    peal_table_rest(&w->table, find(w, "live:a"));
    second(w, IDLE_MS - 1);
    assert_non_null(find(w, "live:a"));
    assert_true(find(w, "live:a")->epoch == epoch);
    second(w, 1);
    assert_null(find(w, "live:a"));
    assert_true(group(w, "live:a")->epoch != epoch);
}

static void table_entry_that_is_wanted_again_is_not_idle(void **state)
{
    struct world *w = *state;
    peal_table_rest(&w->table, group(w, "live:a"));
    w->table.now_ms += IDLE_MS - 1;
    assert_int_equal(peal_table_add_row(find(w, "live:a"), node(w, 1)), PEAL_OK);
    second(w, 1000);
    assert_non_null(find(w, "live:a"));
    peal_table_remove_row(&w->table, find(w, "live:a"), node(w, 1));
    second(w, IDLE_MS - 1000); /* counted anew */
    assert_non_null(find(w, "live:a"));
    second(w, 1000);
    assert_null(find(w, "live:a"));
}

static void table_entry_with_new_history_is_not_idle(void **state)
{
    struct world *w = *state;
    struct peal_group_entry *g = group(w, "room");
    peal_table_rest(&w->table, g);
    w->table.now_ms += IDLE_MS - 1000;
    keep(w, g, 10);
    second(w, 2000);
    assert_non_null(find(w, "room"));
    assert_int_equal(peal_group_entry_kept(find(w, "room")), 1);
}

static void table_history_over_its_memory_drops_the_ring_idle_for_the_longest(void **state)
{
    struct world *w = *state;
    w->config->limits.history = 1000;
    keep(w, group(w, "a"), 400);
    keep(w, group(w, "b"), 400);
    keep(w, group(w, "a"), 100); /* now b is idle for longer */
    assert_int_equal(w->table.history_bytes, 900);
    keep(w, group(w, "c"), 400);
    assert_int_equal(peal_group_entry_kept(find(w, "b")), 0);
    assert_int_equal(peal_group_entry_kept(find(w, "a")), 2);
    assert_int_equal(peal_group_entry_kept(find(w, "c")), 1);
    assert_int_equal(w->table.history_bytes, 900);
    assert_int_equal(find(w, "b")->head, 1); /* its position stays, for it has an epoch to keep */
    assert_int_equal(peal_group_entry_first(find(w, "b")), 2);
    assert_int_equal(peal_group_entry_first(find(w, "a")), 1);
}

static void table_message_larger_than_all_memory_is_not_kept(void **state)
{
    struct world *w = *state;
    w->config->limits.history = 300;
    keep(w, group(w, "a"), 400);
    assert_int_equal(peal_group_entry_kept(find(w, "a")), 0);
    assert_int_equal(w->table.history_bytes, 0);
}

static void table_history_that_is_too_old_goes(void **state)
{
    struct world *w = *state;
    keep(w, group(w, "a"), 100);
    w->table.now_ms += 50000;
    keep(w, group(w, "b"), 100);
    second(w, 10001);
    assert_int_equal(peal_group_entry_kept(find(w, "a")), 0);
    assert_int_equal(peal_group_entry_kept(find(w, "b")), 1);
    assert_int_equal(w->table.history_bytes, 100);
    second(w, IDLE_MS - 1);
    assert_non_null(find(w, "a")); /* idle since its history went */
    second(w, 1);
    assert_null(find(w, "a"));
}

static void table_histories_of_several_policies_age_each_at_its_rate(void **state)
{
    struct world *w = *state;
    keep(w, group(w, "a"), 100);
    w->table.now_ms += 1000;
    keep(w, group(w, "brief:b"), 100);
    second(w, 10000);
    assert_int_equal(peal_group_entry_kept(find(w, "brief:b")), 1);
    second(w, 1);
    assert_int_equal(peal_group_entry_kept(find(w, "brief:b")), 0);
    assert_int_equal(peal_group_entry_kept(find(w, "a")), 1);
}

static void table_history_in_use_outlives_the_walk_but_shows_nothing_old(void **state)
{
    struct world *w = *state;
    keep(w, group(w, "a"), 100);
    w->table.now_ms += 40000;
    keep(w, find(w, "a"), 100);
    second(w, 20001); /* the first is too old, the second is not */
    assert_int_equal(peal_group_entry_kept(find(w, "a")), 1);
    assert_int_equal(w->table.history_bytes, 100);
    second(w, 40000); /* too old, but not looked at again yet */
    assert_int_equal(peal_group_entry_kept(find(w, "a")), 1);
    peal_table_trim(&w->table, find(w, "a"));
    assert_int_equal(peal_group_entry_kept(find(w, "a")), 0);
    assert_int_equal(w->table.history_bytes, 0);
    assert_int_equal(peal_group_entry_first(find(w, "a")), 3);
}

static void table_history_over_its_memory_looks_at_all_policies(void **state)
{
    struct world *w = *state;
    w->config->limits.history = 500;
    keep(w, group(w, "a"), 200);
    w->table.now_ms += 1;
    keep(w, group(w, "brief:b"), 200);
    w->table.now_ms += 1;
    keep(w, group(w, "brief:c"), 200);
    assert_int_equal(peal_group_entry_kept(find(w, "a")), 0);
    assert_int_equal(peal_group_entry_kept(find(w, "brief:b")), 1);
    w->table.now_ms += 1;
    keep(w, group(w, "d"), 200);
    assert_int_equal(peal_group_entry_kept(find(w, "brief:b")), 0);
    assert_int_equal(peal_group_entry_kept(find(w, "brief:c")), 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(table_turn_leaves_as_one_batch_per_node_that_wants_it),
        TEST(table_beat_repeats_the_sequence_of_the_last_batch),
        TEST(table_full_batch_leaves_at_once),
        TEST(table_told_node_alone_gets_the_frame),
        TEST(table_row_is_there_once),
        TEST(table_sync_drops_the_rows_it_did_not_name),
        TEST(table_rows_of_many_groups_stay_true_while_nodes_leave),
        TEST(table_silent_node_goes_with_its_rows_and_batch),
        TEST(table_rows_of_a_lost_node_go_in_pieces_and_get_nothing_more),
        TEST(table_sync_that_begins_while_the_last_one_is_swept_keeps_its_rows),
        TEST(table_entries_that_age_together_go_in_pieces),
        TEST(table_node_that_comes_back_has_a_sequence_of_its_own),
        TEST(table_new_entries_have_epochs_of_their_own),
        TEST(table_entries_of_another_life_have_other_epochs),
        TEST(table_durable_entry_goes_with_its_last_row),
        TEST(table_idle_entry_keeps_its_epoch_for_five_minutes),
        TEST(table_entry_that_is_wanted_again_is_not_idle),
        TEST(table_entry_with_new_history_is_not_idle),
        TEST(table_history_over_its_memory_drops_the_ring_idle_for_the_longest),
        TEST(table_message_larger_than_all_memory_is_not_kept),
        TEST(table_history_that_is_too_old_goes),
        TEST(table_histories_of_several_policies_age_each_at_its_rate),
        TEST(table_history_in_use_outlives_the_walk_but_shows_nothing_old),
        TEST(table_history_over_its_memory_looks_at_all_policies),
    };
    peal_metrics_thread_start();
    return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}

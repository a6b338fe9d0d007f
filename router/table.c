#include "router/table.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "proto/group.h"

enum {
    IDLE_GROUP_MS = 300000, /* an entry nobody wants keeps its epoch so long */
    SWEEP_STEPS = 2000,     /* of one call: about a millisecond */
};

/* ---- nodes and their batches ----------------------------------------------------------- */

struct peal_node_entry *peal_table_find_node(struct peal_table *t, uint64_t boot)
{
    struct peal_map_node *n = peal_map_find(&t->nodes, peal_span_make(&boot, sizeof boot));
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct peal_node_entry, node);
}

/* The lowest one that is free. Nodes are some dozens and do not come often. */
static bool give_number(struct peal_table *t, struct peal_node_entry *node)
{
    uint32_t number = 0;
    while (number < t->number_count && t->by_number[number] != NULL)
        number++;
    if (number == t->number_count) {
        struct peal_node_entry **all =
            realloc(t->by_number, (number + 1) * sizeof(struct peal_node_entry *));
        if (all == NULL) return false;
        t->by_number = all;
        t->number_count++;
    }
    t->by_number[number] = node;
    node->number = number;
    return true;
}

struct peal_node_entry *peal_table_ensure_node(struct peal_table *t, uint64_t boot)
{
    struct peal_node_entry *node = peal_table_find_node(t, boot);
    if (node != NULL) return node;
    node = calloc(1, sizeof *node);
    if (node == NULL || !give_number(t, node)) {
        free(node);
        return NULL;
    }
    node->boot = boot;
    /* A node that was dropped and comes back must see that this is another entry, without its
     * rows: its sequence starts where the old one never was. */
    node->seq = ++t->linked << 32;
    node->seen_ms = t->now_ms;
    peal_link_init(&node->dirty);
    peal_link_init(&node->sweeping);
    peal_map_add(&t->nodes, &node->node, peal_span_make(&node->boot, sizeof node->boot));
    peal_count(PEAL_M_NODES, 1);
    peal_log(PEAL_LOG_INFO, "node.up", "boot=%016llx", (unsigned long long)boot);
    return node;
}

void peal_table_send(struct peal_table *t, struct peal_node_entry *node)
{
    if (node->out.count > 0) {
        t->topic(t->ctx, node->boot, peal_parcel_finish(&node->out, t->boot, ++node->seq));
        peal_parcel_clear(&node->out);
        peal_list_remove(&node->dirty);
        return;
    }
    if (t->quiet) return;
    struct peal_frame beat = {.type = PEAL_F_BATCH, .boot = t->boot, .seq = node->seq};
    t->scratch.size = 0;
    peal_frame_encode(&beat, &t->scratch);
    if (t->scratch.failed)
        peal_buf_fini(&t->scratch); /* the next one is a second away */
    else
        t->topic(t->ctx, node->boot, peal_buf_span(&t->scratch));
}

void peal_table_tell(struct peal_table *t, struct peal_node_entry *node,
                     const struct peal_frame *frame)
{
    if (node->dropped) return;
    if (peal_parcel_full(&node->out)) peal_table_send(t, node);
    if (peal_parcel_add(&node->out, frame) != PEAL_OK) {
        node->seq++; /* lost here: let the node notice */
        return;
    }
    if (peal_list_empty(&node->dirty)) peal_list_append(&t->dirty, &node->dirty);
}

/* ---- groups and rows ------------------------------------------------------------------- */

uint32_t peal_table_begin_find(const struct peal_table *t, struct peal_span name)
{
    uint32_t hash = peal_map_hash(&t->groups, name);
    peal_map_fetch_bucket(&t->groups, hash);
    return hash;
}

void peal_table_fetch_group(const struct peal_table *t, uint32_t hash)
{
    peal_map_fetch_node(&t->groups, hash);
}

struct peal_group_entry *peal_table_end_find(const struct peal_table *t, uint32_t hash,
                                             struct peal_span name)
{
    struct peal_map_node *n = peal_map_find_hashed(&t->groups, hash, name);
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct peal_group_entry, node);
}

struct peal_group_entry *peal_table_find_group(struct peal_table *t, struct peal_span name)
{
    return peal_table_end_find(t, peal_map_hash(&t->groups, name), name);
}

struct peal_group_entry *peal_table_ensure_group(struct peal_table *t, struct peal_span name)
{
    struct peal_group_entry *g = peal_table_find_group(t, name);
    if (g != NULL) return g;
    g = calloc(1, sizeof *g + name.size);
    if (g == NULL) return NULL;
    memcpy(g->name, name.at, name.size);
    g->policy = peal_group_policy(t->config, name);
    /* A new entry has lost its past, if it had one: the epoch is one nobody has seen. Entries
     * of one life differ by the counter, lives differ by the boot id. */
    g->epoch = t->boot + ++t->created;
    if (g->epoch == 0) g->epoch = t->boot + ++t->created;
    peal_link_init(&g->aging);
    peal_map_add(&t->groups, &g->node, peal_span_make(g->name, name.size));
    peal_count(PEAL_M_GROUPS, 1);
    return g;
}

static void free_group(struct peal_table *t, struct peal_group_entry *g)
{
    PEAL_ASSERT(g->rows.count == 0);
    t->history_bytes -= peal_history_bytes(g->history);
    peal_history_clear(&g->history);
    peal_list_remove(&g->aging);
    peal_map_remove(&t->groups, &g->node);
    peal_count(PEAL_M_GROUPS, -1);
    free(g);
}

/* Called when a group may have become unused: nobody wants it and it holds no history. */
void peal_table_rest(struct peal_table *t, struct peal_group_entry *g)
{
    if (g->rows.count > 0 || g->history != NULL) return;
    if (g->policy->durable) {
        free_group(t, g); /* the store knows all about it */
        return;
    }
    if (!peal_list_empty(&g->aging)) return;
    g->since_ms = t->now_ms;
    peal_list_append(&t->idle, &g->aging);
}

bool peal_table_has_row(struct peal_group_entry *g, const struct peal_node_entry *node)
{
    return peal_rows_find(&g->rows, node->number) != NULL;
}

enum peal_err peal_table_add_row(struct peal_group_entry *g, struct peal_node_entry *node)
{
    struct peal_row *known = peal_rows_find(&g->rows, node->number);
    if (known != NULL) {
        known->round = node->sync_round;
        return PEAL_OK;
    }
    struct peal_row row = {.node = node->number, .round = node->sync_round};
    struct peal_span name = peal_group_entry_name(g);
    if (peal_roll_add(&node->roll, name, g, &row.place) != PEAL_OK) return PEAL_ENOMEM;
    if (peal_rows_add(&g->rows, row) != PEAL_OK) {
        peal_roll_remove(&node->roll, name, row.place); /* it was the last one */
        return PEAL_ENOMEM;
    }
    peal_count(PEAL_M_ROWS, 1);
    if (g->history == NULL) peal_list_remove(&g->aging); /* no longer idle */
    return PEAL_OK;
}

void peal_table_remove_row(struct peal_table *t, struct peal_group_entry *g,
                           struct peal_node_entry *node)
{
    const struct peal_row *row = peal_rows_find(&g->rows, node->number);
    if (row == NULL) return;
    uint32_t place = row->place;
    peal_rows_remove(&g->rows, node->number);
    peal_count(PEAL_M_ROWS, -1);
    struct peal_group_entry *moved = peal_roll_remove(&node->roll, peal_group_entry_name(g), place);
    if (moved != NULL) peal_rows_find(&moved->rows, node->number)->place = place;
    peal_table_rest(t, g);
}

/* ---- sweeps ------------------------------------------------------------------------------ */

static void begin_sweep(struct peal_table *t, struct peal_node_entry *node)
{
    node->sweep_slots = PEAL_SLOTS;
    node->sweep = node->roll.slots[PEAL_SLOTS - 1].count;
    peal_list_remove(&node->sweeping);
    peal_list_append(&t->sweeping, &node->sweeping);
}

/* Nobody finds it any more. Its rows go by and by, and its number stays taken until then. */
static void drop_node(struct peal_table *t, struct peal_node_entry *node, const char *why)
{
    peal_log(PEAL_LOG_INFO, "node.down", "boot=%016llx reason=%s", (unsigned long long)node->boot,
             why);
    node->dropped = true;
    peal_parcel_fini(&node->out);
    peal_list_remove(&node->dirty);
    peal_map_remove(&t->nodes, &node->node);
    peal_count(PEAL_M_NODES, -1);
    begin_sweep(t, node);
}

static void end_sweep(struct peal_table *t, struct peal_node_entry *node)
{
    peal_list_remove(&node->sweeping);
    if (!node->dropped) {
        t->synced(t->ctx, node);
        return;
    }
    PEAL_ASSERT(node->roll.count == 0);
    t->by_number[node->number] = NULL;
    peal_roll_fini(&node->roll);
    free(node);
}

static void sweep_row(struct peal_table *t, struct peal_node_entry *node,
                      struct peal_group_entry *g)
{
    if (node->dropped || peal_rows_find(&g->rows, node->number)->round != node->sync_round)
        peal_table_remove_row(t, g, node);
}

/* From the end: what takes a place that became free was looked at before. Returns the steps that
 * are left. */
static uint32_t sweep_rows(struct peal_table *t, struct peal_node_entry *node, uint32_t steps)
{
    while (steps > 0) {
        const struct peal_roll_slot *slot = &node->roll.slots[node->sweep_slots - 1];
        if (node->sweep > slot->count) node->sweep = slot->count;
        for (; node->sweep > 0 && steps > 0; node->sweep--, steps--)
            sweep_row(t, node, slot->items[node->sweep - 1]);
        if (node->sweep > 0) break;
        if (--node->sweep_slots == 0) {
            end_sweep(t, node);
            break;
        }
        node->sweep = slot[-1].count;
    }
    return steps;
}

void peal_table_begin_sync(struct peal_table *t, struct peal_node_entry *node)
{
    (void)t;
    node->sync_round++;
    node->sync_named = 0;
    peal_list_remove(&node->sweeping); /* by what the sync before named */
}

void peal_table_end_sync(struct peal_table *t, struct peal_node_entry *node)
{
    begin_sweep(t, node);
}

bool peal_table_begin_slot(struct peal_node_entry *node)
{
    if (!peal_list_empty(&node->sweeping)) return false;
    node->sync_round++;
    node->sync_named = 0;
    return true;
}

uint32_t peal_table_end_slot(struct peal_table *t, struct peal_node_entry *node, uint16_t slot)
{
    const struct peal_roll_slot *held = &node->roll.slots[slot];
    uint32_t before = held->count;
    for (uint32_t i = held->count; i > 0; i--)
        sweep_row(t, node, held->items[i - 1]);
    return before - held->count;
}

uint64_t peal_group_entry_first(const struct peal_group_entry *g)
{
    return g->head - peal_group_entry_kept(g) + 1;
}

/* ---- history within its memory ----------------------------------------------------------- */

/* The history of a group has changed from bytes_before; without one the group may rest. */
static void history_changed(struct peal_table *t, struct peal_group_entry *g, size_t bytes_before)
{
    t->history_bytes = t->history_bytes - bytes_before + peal_history_bytes(g->history);
    if (g->history != NULL) return;
    peal_list_remove(&g->aging);
    peal_table_rest(t, g);
}

static void history_forget(struct peal_table *t, struct peal_group_entry *g)
{
    size_t before = peal_history_bytes(g->history);
    peal_history_clear(&g->history);
    history_changed(t, g, before);
}

static struct peal_link *list_of(struct peal_table *t, const struct peal_group_entry *g)
{
    return &t->with_history[g->policy - t->config->groups];
}

/* To the end of the list of its policy. */
static void list_again(struct peal_table *t, struct peal_group_entry *g)
{
    peal_list_remove(&g->aging);
    peal_list_append(list_of(t, g), &g->aging);
    g->since_ms = t->now_ms;
    g->used = false;
}

static struct peal_group_entry *entry_of(struct peal_link *aging)
{
    return PEAL_FROM_LINK(aging, struct peal_group_entry, aging);
}

/* Among the groups with history the one whose last publish is the longest ago, about; NULL if
 * none. Each step past one that was used undoes what a publish had to leave alone. */
static struct peal_group_entry *longest_idle(struct peal_table *t)
{
    struct peal_group_entry *oldest = NULL;
    for (size_t i = 0; i < t->config->group_count; i++) {
        struct peal_link *list = &t->with_history[i];
        if (peal_list_empty(list)) continue;
        while (entry_of(list->next)->used)
            list_again(t, entry_of(list->next));
        struct peal_group_entry *g = entry_of(list->next);
        if (oldest == NULL ||
            peal_history_newest_ms(g->history) < peal_history_newest_ms(oldest->history))
            oldest = g;
    }
    return oldest;
}

void peal_table_keep(struct peal_table *t, struct peal_group_entry *g, struct peal_bytes *envelope)
{
    if (g->policy->durable || g->policy->history.messages == 0) return;
    size_t before = peal_history_bytes(g->history);
    peal_history_add(&g->history, (uint32_t)g->policy->history.messages, envelope, t->now_ms);
    if (before == 0 && g->history != NULL)
        list_again(t, g); /* from where it rested, perhaps */
    else
        g->used = true;
    history_changed(t, g, before);
    /* Over the limit of all rings together: the one idle for the longest goes. */
    struct peal_group_entry *oldest;
    while (t->history_bytes > t->config->limits.history && (oldest = longest_idle(t)) != NULL)
        history_forget(t, oldest);
}

void peal_table_trim(struct peal_table *t, struct peal_group_entry *g)
{
    if (g->history == NULL) return;
    size_t before = peal_history_bytes(g->history);
    peal_history_trim(&g->history, t->now_ms, g->policy->history.age_ms);
    history_changed(t, g, before);
}

/* The walk ends at the first group that was listed a short time ago: a million of them cost
 * nothing until they age, and then a step each. Returns the steps that are left. */
static uint32_t sweep_histories(struct peal_table *t, uint32_t steps)
{
    for (size_t i = 0; i < t->config->group_count; i++) {
        uint64_t age_ms = t->config->groups[i].history.age_ms;
        PEAL_LIST_EACH(&t->with_history[i], it, after)
        {
            struct peal_group_entry *g = entry_of(it);
            if (steps == 0 || t->now_ms - g->since_ms <= age_ms) break;
            steps--;
            peal_table_trim(t, g);
            if (g->history != NULL) list_again(t, g);
        }
    }
    return steps;
}

static uint32_t sweep_idle(struct peal_table *t, uint32_t steps)
{
    PEAL_LIST_EACH(&t->idle, it, after)
    {
        struct peal_group_entry *g = PEAL_FROM_LINK(it, struct peal_group_entry, aging);
        if (steps == 0 || t->now_ms - g->since_ms < IDLE_GROUP_MS) break;
        steps--;
        free_group(t, g);
    }
    return steps;
}

bool peal_table_sweep(struct peal_table *t)
{
    uint32_t steps = SWEEP_STEPS;
    while (steps > 0 && !peal_list_empty(&t->sweeping)) {
        struct peal_link *first = t->sweeping.next;
        steps = sweep_rows(t, PEAL_FROM_LINK(first, struct peal_node_entry, sweeping), steps);
    }
    steps = sweep_histories(t, steps);
    return sweep_idle(t, steps) == 0;
}

void peal_table_fan_out(struct peal_table *t, struct peal_group_entry *g,
                        const struct peal_frame *frame)
{
    for (uint32_t i = 0; i < g->rows.count; i++)
        peal_table_tell(t, t->by_number[peal_rows_at(&g->rows, i)->node], frame);
}

void peal_table_flush(struct peal_table *t)
{
    while (!peal_list_empty(&t->dirty))
        peal_table_send(t, PEAL_FROM_LINK(t->dirty.next, struct peal_node_entry, dirty));
}

static void drop_group(struct peal_table *t, struct peal_group_entry *g)
{
    while (g->rows.count > 0) {
        /* A durable group goes with its last row. */
        bool last = g->rows.count == 1 && g->policy->durable;
        peal_table_remove_row(t, g, t->by_number[peal_rows_at(&g->rows, 0)->node]);
        if (last) return;
    }
    free_group(t, g);
}

void peal_table_drop_slots(struct peal_table *t, const bool slots[PEAL_SLOTS])
{
    struct peal_map_node *next;
    for (struct peal_map_node *it = peal_map_next(&t->groups, NULL); it != NULL; it = next) {
        next = peal_map_next(&t->groups, it);
        struct peal_group_entry *g = PEAL_FROM_NODE(it, struct peal_group_entry, node);
        if (slots[peal_group_slot(peal_group_entry_name(g))]) drop_group(t, g);
    }
}

void peal_table_on_second(struct peal_table *t)
{
    struct peal_map_node *next;
    for (struct peal_map_node *it = peal_map_next(&t->nodes, NULL); it != NULL; it = next) {
        next = peal_map_next(&t->nodes, it);
        struct peal_node_entry *node = PEAL_FROM_NODE(it, struct peal_node_entry, node);
        if (t->now_ms - node->seen_ms > PEAL_BEAT_LOST_MS)
            drop_node(t, node, "silent");
        else
            peal_table_send(t, node);
    }
}

/* ---- life -------------------------------------------------------------------------------- */

enum peal_err peal_table_init(struct peal_table *t, const struct peal_config *config, uint64_t boot)
{
    *t = (struct peal_table){.config = config, .boot = boot};
    peal_link_init(&t->dirty);
    peal_link_init(&t->sweeping);
    peal_link_init(&t->idle);
    t->with_history = calloc(config->group_count, sizeof *t->with_history);
    if (t->with_history == NULL) return PEAL_ENOMEM;
    for (size_t i = 0; i < config->group_count; i++)
        peal_link_init(&t->with_history[i]);
    if (peal_map_init(&t->groups) == PEAL_OK) {
        if (peal_map_init(&t->nodes) == PEAL_OK) return PEAL_OK;
        peal_map_fini(&t->groups);
    }
    free(t->with_history);
    return PEAL_ENOMEM;
}

void peal_table_fini(struct peal_table *t)
{
    struct peal_map_node *it;
    struct peal_map_node *after;
    for (it = peal_map_next(&t->nodes, NULL); it != NULL; it = after) {
        after = peal_map_next(&t->nodes, it);
        drop_node(t, PEAL_FROM_NODE(it, struct peal_node_entry, node), "stop");
    }
    while (!peal_list_empty(&t->sweeping)) {
        struct peal_link *first = t->sweeping.next;
        sweep_rows(t, PEAL_FROM_LINK(first, struct peal_node_entry, sweeping), UINT32_MAX);
    }
    for (it = peal_map_next(&t->groups, NULL); it != NULL; it = after) {
        after = peal_map_next(&t->groups, it);
        free_group(t, PEAL_FROM_NODE(it, struct peal_group_entry, node));
    }
    peal_map_fini(&t->groups);
    peal_map_fini(&t->nodes);
    free(t->by_number);
    free(t->with_history);
    peal_buf_fini(&t->scratch);
}

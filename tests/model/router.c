/* A router: the shard, and what a process has around it. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "proto/wire.h"
#include "tests/model/world.h"

static struct node *node_by_boot(struct world *w, uint64_t boot)
{
    for (size_t i = 0; i < NODES; i++)
        if (w->nodes[i].uplink != NULL && w->nodes[i].boot == boot) return &w->nodes[i];
    return NULL;
}

static uint64_t arrival(struct world *w)
{
    if (!dice_chance(&w->dice, w->faults.delay)) return w->now_ms;
    return w->now_ms + dice_below(&w->dice, dice_chance(&w->dice, 10) ? 400 : 20);
}

static void on_reply(void *ctx, const struct peal_peer *peer, struct peal_span bytes)
{
    struct router *r = ctx;
    struct world *w = r->world;
    uint64_t boot;
    enum peal_err err = peal_topic_parse(peal_span_make(peer->id, peer->id_size), &boot);
    PEAL_ASSERT(err == PEAL_OK);
    struct node *node = node_by_boot(w, boot);
    if (node == NULL || dice_chance(&w->dice, w->faults.lose_answer)) return;
    lane_put(&node->links[r->index].answer, bytes, arrival(w));
}

static void on_topic(void *ctx, uint64_t boot, struct peal_span bytes)
{
    struct router *r = ctx;
    struct world *w = r->world;
    struct node *node = node_by_boot(w, boot);
    if (node == NULL || !node->links[r->index].subscribed) return;
    if (dice_chance(&w->dice, w->faults.lose_batch)) {
        world_trace(w, "router %zu -> node %zu: a batch is lost", r->index, node->index);
        return;
    }
    lane_put(&node->links[r->index].topic, bytes, arrival(w));
}

static enum peal_err on_submit(void *ctx, struct peal_store_op *op)
{
    struct router *r = ctx;
    if (dice_chance(&r->world->dice, r->world->faults.refuse)) return PEAL_EQUEUE_FULL;
    return queue_put(&r->ops, op) ? PEAL_OK : PEAL_EQUEUE_FULL;
}

static enum peal_err on_read(void *ctx, struct peal_store_fetch *fetch)
{
    struct router *r = ctx;
    if (dice_chance(&r->world->dice, r->world->faults.refuse)) return PEAL_EQUEUE_FULL;
    return queue_put(&r->fetches, fetch) ? PEAL_OK : PEAL_EQUEUE_FULL;
}

void router_init(struct world *w, size_t index)
{
    struct router *r = &w->routers[index];
    r->world = w;
    r->index = index;
    r->boot = dice_roll(&w->dice) >> 11 | 1;
    disk_init(&r->disk, &w->checker);
    uint64_t epoch = dice_roll(&w->dice) >> 11 | 1;
    for (int g = LOG; g < GROUPS; g++)
        if (world_router_of(g) == index) disk_add_group(&r->disk, g, world_groups[g], epoch);
}

void router_start(struct router *r)
{
    struct world *w = r->world;
    struct peal_shard_io io = {r, on_reply, on_topic, on_submit, on_read};
    if (w->fault != WORLD_REPEATS_BOOT) r->boot = dice_roll(&w->dice) >> 11 | 1;
    disk_restart(&r->disk);
    r->shard = peal_shard_new(w->config, &io, r->boot);
    PEAL_ASSERT(r->shard != NULL);
    peal_shard_set_time(r->shard, w->now_ms, w->now_ms);
    world_trace(w, "router %zu starts, boot %llx", r->index, (unsigned long long)r->boot);
    /* ZeroMQ subscribes again, where the way is free. */
    for (size_t n = 0; n < NODES; n++) {
        struct link_lanes *l = &w->nodes[n].links[r->index];
        l->subscribed = w->nodes[n].uplink != NULL && !l->rpc.held;
        if (l->subscribed) peal_shard_on_link(r->shard, w->nodes[n].boot);
    }
}

void router_kill(struct router *r, size_t committed)
{
    struct world *w = r->world;
    struct peal_store_op *op;
    struct peal_store_fetch *fetch;
    world_trace(w, "router %zu is killed, %zu of %zu operations were committed", r->index,
                committed < r->ops.count ? committed : r->ops.count, r->ops.count);
    while ((op = queue_take(&r->ops)) != NULL) {
        if (committed > 0) {
            committed--;
            disk_work(&r->disk, &op, 1, w->now_ms, DISK_COMMITS);
        }
        /* Nobody hears of it; the shard frees its calls as it frees operations that wait. */
        peal_bytes_unref(op->encoded);
        op->encoded = NULL;
        op->duplicate = op->changed = false;
        op->err = PEAL_EIO;
        peal_shard_on_done(r->shard, op);
    }
    while ((fetch = queue_take(&r->fetches)) != NULL)
        peal_store_fetch_free(fetch);
    w->died += (int64_t)peal_shard_waiting(r->shard);
    peal_shard_free(r->shard);
    r->shard = NULL;
    r->stalled_until_ms = 0;
    for (size_t n = 0; n < NODES; n++) {
        struct link_lanes *l = &w->nodes[n].links[r->index];
        lane_drop(&l->rpc);
        lane_drop(&l->answer);
        lane_drop(&l->topic);
        l->subscribed = false;
    }
}

/* What is answered after the store was submitted to in the same turn may submit again. */
void router_commit(struct router *r, size_t most, enum disk_commit how)
{
    struct peal_store_op *ops[DISK_COMMIT];
    size_t count = 0;
    while (count < most && count < DISK_COMMIT && (ops[count] = queue_take(&r->ops)) != NULL)
        count++;
    if (count == 0) return;
    if (how != DISK_COMMITS)
        world_trace(r->world, "router %zu: a commit of %zu operations fails", r->index, count);
    disk_work(&r->disk, ops, count, r->world->now_ms, how);
    for (size_t i = 0; i < count; i++)
        peal_shard_on_done(r->shard, ops[i]);
}

static bool swallowed(struct world *w, struct node *node, size_t router, struct peal_bytes *bytes)
{
    struct peal_frame frame;
    if (w->fault != WORLD_SWALLOWS_SYNC) return false;
    if (peal_frame_decode(peal_bytes_span(bytes), &frame) != PEAL_OK) return false;
    bool swallow = frame.type == PEAL_F_SYNC && frame.flags & PEAL_FLAG_LAST;
    if (swallow) {
        struct peal_frame synced = {.type = PEAL_F_SYNCED, .seq = frame.seq};
        struct peal_buf out = {0};
        peal_frame_encode(&synced, &out);
        lane_put(&node->links[router].answer, peal_buf_span(&out), w->now_ms);
        peal_buf_fini(&out);
    }
    peal_frame_fini(&frame);
    return swallow;
}

static void take_rpc(struct router *r, struct node *node, size_t most)
{
    struct peal_bytes *bytes;
    struct lane *lane = &node->links[r->index].rpc;
    for (size_t i = 0; i < most && (bytes = lane_take(lane, r->world->now_ms)) != NULL; i++) {
        struct peal_peer peer = {.id_size = PEAL_TOPIC_SIZE};
        peal_topic_of(node->boot, peer.id);
        world_trace_frame(r->world, "node", node->index, "router", r->index,
                          peal_bytes_span(bytes));
        if (!swallowed(r->world, node, r->index, bytes))
            peal_shard_on_rpc(r->shard, &peer, peal_bytes_span(bytes));
        peal_bytes_unref(bytes);
    }
}

void router_turn(struct router *r, size_t most)
{
    struct world *w = r->world;
    if (r->shard == NULL || r->stalled_until_ms > w->now_ms) return;
    peal_shard_set_time(r->shard, w->now_ms, w->now_ms);
    for (size_t n = 0; n < NODES; n++)
        take_rpc(r, &w->nodes[n], most);
    enum disk_commit how = DISK_COMMITS;
    if (dice_chance(&w->dice, w->faults.commit))
        how = dice_chance(&w->dice, 50) ? DISK_BREAKS : DISK_FULL;
    router_commit(r, most, how);
    struct peal_store_fetch *fetch;
    for (size_t i = 0; i < most && (fetch = queue_take(&r->fetches)) != NULL; i++) {
        disk_page(&r->disk, fetch, 1 + dice_below(&w->dice, 20));
        peal_shard_on_page(r->shard, fetch);
    }
    if (w->now_ms - r->ticked_ms >= 100 || peal_shard_busy(r->shard)) {
        r->ticked_ms = w->now_ms;
        peal_shard_on_tick(r->shard);
    }
    peal_shard_flush(r->shard);
}

uint64_t router_push(struct world *w, int group)
{
    struct router *r = &w->routers[world_router_of(group)];
    char json[128];
    if (r->shard == NULL || r->stalled_until_ms > w->now_ms) return 0;
    uint64_t value = ++w->values;
    checker_on_publish(&w->checker, group, (uint32_t)r->index, value);
    world_trace(w, "a backend publishes %llu to %s", (unsigned long long)value,
                world_groups[group]);
    snprintf(json, sizeof json, "{\"group\":\"%s\",\"data\":%llu}", world_groups[group],
             (unsigned long long)value);
    peal_shard_set_time(r->shard, w->now_ms, w->now_ms);
    peal_shard_on_push(r->shard, peal_span_of(json));
    if (dice_chance(&w->dice, 50)) peal_shard_flush(r->shard);
    return value;
}

void router_fini(struct router *r)
{
    if (r->shard != NULL) router_kill(r, 0);
    disk_fini(&r->disk);
}

/* A node: the uplink, its hubs, and what a process has around them. */
#include <stdlib.h>

#include "base/assert.h"
#include "proto/envelope.h"
#include "tests/model/world.h"

static uint64_t arrival(struct world *w)
{
    if (!dice_chance(&w->dice, w->faults.delay)) return w->now_ms;
    return w->now_ms + dice_below(&w->dice, dice_chance(&w->dice, 10) ? 400 : 20);
}

static enum peal_err on_send(void *ctx, size_t link, struct peal_span frame)
{
    struct node *node = ctx;
    struct world *w = node->world;
    if (dice_chance(&w->dice, w->faults.refuse)) return PEAL_EQUEUE_FULL;
    /* Into a connection that is dead, or about to die. */
    if (w->routers[link].shard == NULL || dice_chance(&w->dice, w->faults.lose_rpc)) return PEAL_OK;
    lane_put(&node->links[link].rpc, frame, arrival(w));
    return PEAL_OK;
}

static enum peal_err on_post(void *ctx, uint8_t worker, struct peal_mail *mail)
{
    struct node *node = ctx;
    struct queue *mails = &node->hubs[worker].mails;
    bool full =
        mails->count >= MAILBOX || dice_chance(&node->world->dice, node->world->faults.refuse);
    if (!full && queue_put(mails, mail)) return PEAL_OK;
    world_trace(node->world, "node %zu: the mailbox of worker %u is full", node->index, worker);
    return PEAL_EFULL;
}

static enum peal_err on_order(void *ctx, struct peal_order *order)
{
    struct node *node = ctx;
    if (dice_chance(&node->world->dice, node->world->faults.refuse)) return PEAL_EFULL;
    return queue_put(&node->orders, order) ? PEAL_OK : PEAL_EFULL;
}

static void on_output(void *ctx, struct peal_conn *conn)
{
    (void)ctx;
    (void)conn; /* clients read when they like */
}

/* What the kernel would take: the client may be reading, or not. */
static void on_write(void *ctx, struct peal_conn *conn)
{
    struct node *node = ctx;
    struct client *c = PEAL_FROM_LINK(conn, struct client, conn);
    if (c->reads && dice_chance(&node->world->dice, 50)) client_read(c);
}

static void on_cut(void *ctx, struct peal_conn *conn)
{
    (void)ctx;
    (void)conn;
}

void node_init(struct world *w, size_t index)
{
    w->nodes[index].world = w;
    w->nodes[index].index = index;
}

void node_start(struct node *node)
{
    struct world *w = node->world;
    struct peal_uplink_io up = {node, on_send, on_post};
    struct peal_hub_io io = {node, on_order, on_output, on_write, on_cut};
    node->boot = dice_roll(&w->dice) >> 11 | 1;
    node->uplink = peal_uplink_new(&up, node->boot, ROUTERS, HUBS);
    PEAL_ASSERT(node->uplink != NULL);
    peal_uplink_set_time(node->uplink, w->now_ms);
    world_trace(w, "node %zu starts, boot %llx", node->index, (unsigned long long)node->boot);
    for (uint8_t h = 0; h < HUBS; h++) {
        struct peal_hub *hub = &node->hubs[h].hub;
        enum peal_err err = peal_hub_init(hub, w->config, NULL, &io, h, node->boot, w->now_ms);
        PEAL_ASSERT(err == PEAL_OK);
        peal_hub_set_time(hub, w->now_ms, w->now_ms);
    }
    for (size_t r = 0; r < ROUTERS; r++) {
        struct link_lanes *l = &node->links[r];
        l->subscribed = w->routers[r].shard != NULL && !l->rpc.held;
        if (l->subscribed) peal_shard_on_link(w->routers[r].shard, node->boot);
    }
}

void node_kill(struct node *node)
{
    struct world *w = node->world;
    world_trace(w, "node %zu is killed", node->index);
    for (int i = 0; i < CLIENTS; i++)
        if (w->clients[i].connected && w->clients[i].node == (int)node->index)
            client_disconnect(&w->clients[i]);
    for (size_t h = 0; h < HUBS; h++) {
        struct peal_mail *mail;
        while ((mail = queue_take(&node->hubs[h].mails)) != NULL)
            peal_mail_free(mail);
        peal_hub_fini(&node->hubs[h].hub);
    }
    struct peal_order *order;
    while ((order = queue_take(&node->orders)) != NULL)
        peal_order_free(order);
    peal_uplink_free(node->uplink);
    node->uplink = NULL;
    node->stalled_until_ms = 0;
    for (size_t r = 0; r < ROUTERS; r++) {
        struct link_lanes *l = &node->links[r];
        lane_drop(&l->rpc);
        lane_drop(&l->answer);
        lane_drop(&l->topic);
        peal_bytes_unref(l->late);
        l->late = NULL;
        l->subscribed = false;
    }
}

/* ---- turns --------------------------------------------------------------------------------- */

/* The messages of a batch in the opposite order, each with the number of the other. */
static struct peal_bytes *turn_entries(struct peal_bytes *bytes)
{
    struct peal_frame batch;
    struct peal_envelope envs[2];
    struct peal_frame frames[2];
    struct peal_buf out = {0};
    if (peal_frame_decode(peal_bytes_span(bytes), &batch) != PEAL_OK) return bytes;
    bool two = batch.entries.count == 2;
    for (size_t i = 0; i < 2 && two; i++) {
        two = peal_frame_decode(batch.entries.at[i], &frames[i]) == PEAL_OK;
        if (two)
            two = frames[i].type == PEAL_F_MESSAGE &&
                  peal_envelope_decode(frames[i].envelope, &envs[i]) == PEAL_OK;
    }
    if (two && peal_span_equal(envs[0].group, envs[1].group)) {
        struct peal_buf bufs[4] = {0};
        struct peal_span data = envs[0].data;
        envs[0].data = envs[1].data;
        envs[1].data = data;
        for (size_t i = 0; i < 2; i++) {
            peal_envelope_encode(&envs[i], &bufs[i]);
            frames[i].envelope = peal_buf_span(&bufs[i]);
            peal_frame_encode(&frames[i], &bufs[2 + i]);
            batch.entries.at[i] = peal_buf_span(&bufs[2 + i]);
        }
        peal_frame_encode(&batch, &out);
        peal_bytes_unref(bytes);
        bytes = peal_bytes_new(out.at, out.size);
        for (size_t i = 0; i < 4; i++)
            peal_buf_fini(&bufs[i]);
        peal_buf_fini(&out);
    }
    peal_frame_fini(&batch);
    return bytes;
}

static void take_topic(struct node *node, size_t router, size_t most)
{
    struct world *w = node->world;
    struct link_lanes *l = &node->links[router];
    struct peal_bytes *bytes;
    if (l->late != NULL && dice_chance(&w->dice, 5)) {
        world_trace(w, "node %zu: a batch of router %zu comes late", node->index, router);
        peal_uplink_on_batch(node->uplink, router, peal_bytes_span(l->late));
        peal_bytes_unref(l->late);
        l->late = NULL;
    }
    for (size_t i = 0; i < most && (bytes = lane_take(&l->topic, w->now_ms)) != NULL; i++) {
        if (w->fault == WORLD_TURNS_ENTRIES && node->index == 0) bytes = turn_entries(bytes);
        world_trace_frame(w, "router", router, "node", node->index, peal_bytes_span(bytes));
        peal_uplink_on_batch(node->uplink, router, peal_bytes_span(bytes));
        if (l->late == NULL && dice_chance(&w->dice, w->faults.late_batch))
            l->late = peal_bytes_ref(bytes);
        peal_bytes_unref(bytes);
    }
}

void node_bus_turn(struct node *node, size_t most)
{
    struct world *w = node->world;
    struct peal_order *order;
    struct peal_bytes *bytes;
    if (node->uplink == NULL || node->stalled_until_ms > w->now_ms) return;
    peal_uplink_set_time(node->uplink, w->now_ms);
    for (size_t i = 0; i < most && (order = queue_take(&node->orders)) != NULL; i++)
        peal_uplink_on_order(node->uplink, order);
    for (size_t r = 0; r < ROUTERS; r++) {
        struct lane *answers = &node->links[r].answer;
        take_topic(node, r, most);
        for (size_t i = 0; i < most && (bytes = lane_take(answers, w->now_ms)) != NULL; i++) {
            world_trace_frame(w, "router", r, "node", node->index, peal_bytes_span(bytes));
            peal_uplink_on_answer(node->uplink, r, peal_bytes_span(bytes));
            peal_bytes_unref(bytes);
        }
    }
    if (w->now_ms - node->ticked_ms >= 100) {
        node->ticked_ms = w->now_ms;
        peal_uplink_on_tick(node->uplink);
    }
    peal_uplink_flush(node->uplink);
}

void node_hub_turn(struct node *node, size_t hub, size_t most)
{
    struct world *w = node->world;
    struct hub *h = &node->hubs[hub];
    struct peal_mail *mail;
    if (node->uplink == NULL || node->stalled_until_ms > w->now_ms) return;
    peal_hub_set_time(&h->hub, w->now_ms, w->now_ms);
    for (size_t i = 0; i < most && (mail = queue_take(&h->mails)) != NULL; i++)
        peal_hub_on_mail(&h->hub, mail);
    if (w->now_ms - h->ticked_ms >= 100) {
        h->ticked_ms = w->now_ms;
        peal_hub_on_tick(&h->hub);
    }
    peal_hub_end_turn(&h->hub);
}

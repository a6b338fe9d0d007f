/* What goes wrong by itself in a seeded run. */
#include "tests/model/world.h"

const struct faults world_faults = {.lose_batch = 3,
                                    .lose_answer = 2,
                                    .lose_rpc = 2,
                                    .late_batch = 2,
                                    .refuse = 2,
                                    .delay = 60,
                                    .commit = 1,
                                    .restore = true};

void faults_cut(struct world *w, size_t node, size_t router, bool to_router, bool from_router)
{
    struct link_lanes *l = &w->nodes[node].links[router];
    world_trace(w, "node %zu %s%s router %zu: cut", node, from_router ? "<" : "",
                to_router ? "->" : "-", router);
    l->rpc.held = to_router;
    l->answer.held = l->topic.held = from_router;
}

/* TCP either goes on where it was, or the connections broke: then what was on the way is gone, and
 * the subscription is made again, of which the node learns nothing. */
void faults_join(struct world *w, size_t node, size_t router, bool lose)
{
    struct link_lanes *l = &w->nodes[node].links[router];
    world_trace(w, "node %zu <-> router %zu: joined again%s", node, router,
                lose ? ", what was on the way is lost" : "");
    l->rpc.held = l->answer.held = l->topic.held = false;
    bool ends = w->routers[router].shard != NULL && w->nodes[node].uplink != NULL;
    if (lose || !l->subscribed) {
        lane_drop(&l->rpc);
        lane_drop(&l->answer);
        lane_drop(&l->topic);
        l->subscribed = ends;
        if (ends) peal_shard_on_link(w->routers[router].shard, w->nodes[node].boot);
    }
}

static bool is_cut(const struct link_lanes *l)
{
    return l->rpc.held || l->answer.held;
}

static void strike_link(struct world *w)
{
    size_t node = dice_below(&w->dice, NODES);
    size_t router = dice_below(&w->dice, ROUTERS);
    struct link_lanes *l = &w->nodes[node].links[router];
    uint64_t way = dice_below(&w->dice, 4);
    if (is_cut(l))
        faults_join(w, node, router, dice_chance(&w->dice, 50));
    else if (way == 3) /* broken and made again at once, unseen by the node */
        faults_join(w, node, router, true);
    else
        faults_cut(w, node, router, way != 0, way != 1);
}

static void strike_router(struct world *w)
{
    struct router *r = &w->routers[dice_below(&w->dice, ROUTERS)];
    if (r->shard == NULL) {
        if (w->faults.restore && dice_chance(&w->dice, 10)) {
            uint64_t epoch = dice_roll(&w->dice) >> 11 | 1;
            world_trace(w, "the disk of router %zu goes back, epoch %llx", r->index,
                        (unsigned long long)epoch);
            disk_restore(&r->disk, epoch);
        }
        router_start(r);
        return;
    }
    if (dice_chance(&w->dice, 10)) disk_copy(&r->disk);
    if (!r->disk.broken && !dice_chance(&w->dice, 20)) return;
    w->restarts++;
    router_kill(r, r->ops.count == 0 ? 0 : dice_below(&w->dice, r->ops.count + 1));
}

static void strike_node(struct world *w)
{
    struct node *node = &w->nodes[dice_below(&w->dice, NODES)];
    if (node->uplink == NULL) {
        node_start(node);
    } else if (dice_chance(&w->dice, 20)) {
        w->restarts++;
        node_kill(node);
    }
}

/* SIGSTOP, or a machine that has other things to do. */
static void strike_stall(struct world *w)
{
    uint64_t until_ms =
        w->now_ms + 50 + dice_below(&w->dice, dice_chance(&w->dice, 10) ? 8000 : 500);
    if (dice_chance(&w->dice, 50))
        w->routers[dice_below(&w->dice, ROUTERS)].stalled_until_ms = until_ms;
    else
        w->nodes[dice_below(&w->dice, NODES)].stalled_until_ms = until_ms;
    world_trace(w, "somebody sleeps until %llu", (unsigned long long)until_ms);
}

void faults_strike(struct world *w)
{
    switch (dice_below(&w->dice, 8)) {
    case 0:
    case 1:
        strike_router(w);
        return;
    case 2:
        strike_node(w);
        return;
    case 3:
        strike_stall(w);
        return;
    default:
        strike_link(w);
    }
}

void faults_heal(struct world *w)
{
    w->faults = (struct faults){0};
    for (size_t r = 0; r < ROUTERS; r++) {
        struct router *router = &w->routers[r];
        router->stalled_until_ms = 0;
        if (router->shard != NULL && router->disk.broken) router_kill(router, 0);
        if (router->shard == NULL) router_start(router);
    }
    for (size_t n = 0; n < NODES; n++) {
        w->nodes[n].stalled_until_ms = 0;
        if (w->nodes[n].uplink == NULL) node_start(&w->nodes[n]);
        for (size_t r = 0; r < ROUTERS; r++)
            if (is_cut(&w->nodes[n].links[r]) || !w->nodes[n].links[r].subscribed)
                faults_join(w, n, r, true);
    }
}

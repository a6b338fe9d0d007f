#include "tests/model/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/metrics.h"
#include "proto/envelope.h"
#include "proto/group.h"
#include "proto/wire.h"
#include "tests/model/presence.h"

const char *const world_groups[GROUPS] = {"live:a", "live:b", "room:a",   "room:b",
                                          "log:a",  "log:b",  "user:bob", "user:ann"};
const char *const world_users[USERS] = {"bob", "ann"};

static const char yaml[] =
    "limits: {queue: 2KiB, queue_messages: 12}\n"
    "cluster:\n"
    "  routers:\n"
    "    - {pull: 'tcp://127.0.0.1:1', xpub: 'tcp://127.0.0.1:2', rpc: 'tcp://127.0.0.1:3'}\n"
    "    - {pull: 'tcp://127.0.0.1:4', xpub: 'tcp://127.0.0.1:5', rpc: 'tcp://127.0.0.1:6'}\n"
    "groups:\n"
    "  - {match: 'user:{id}', durable: true, presence: users, publish: anyone}\n"
    "  - {match: 'log:{id}', durable: true, join: anyone, presence: users, publish: anyone}\n"
    "  - {match: 'live:{id}', join: anyone, presence: users, publish: anyone}\n"
    "  - {match: '*', history: {messages: 30, age: 60s}, join: anyone, publish: anyone}\n";

/* ---- queues -------------------------------------------------------------------------------- */

bool queue_put(struct queue *q, void *item)
{
    if (q->count == WAITING) return false;
    q->items[(q->start + q->count++) % WAITING] = item;
    return true;
}

void *queue_take(struct queue *q)
{
    if (q->count == 0) return NULL;
    void *item = q->items[q->start];
    q->start = (q->start + 1) % WAITING;
    q->count--;
    return item;
}

/* ---- names --------------------------------------------------------------------------------- */

size_t world_router_of(int group)
{
    return peal_slot_router(peal_group_slot(peal_span_of(world_groups[group])), ROUTERS);
}

int world_group_of(struct peal_span name)
{
    for (int g = 0; g < GROUPS; g++)
        if (peal_span_is(name, world_groups[g])) return g;
    PEAL_ASSERT(false); /* nobody has heard of others */
    return -1;
}

void world_trace(const struct world *w, const char *format, ...)
{
    va_list args;
    if (!w->trace) return;
    printf("%8llu.%03llu  ", (unsigned long long)(w->now_ms / 1000),
           (unsigned long long)(w->now_ms % 1000));
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

static void trace_entry(const struct world *w, const char *from, size_t from_index, const char *to,
                        size_t to_index, struct peal_span bytes)
{
    struct peal_frame f;
    if (peal_frame_decode(bytes, &f) != PEAL_OK) return;
    struct peal_envelope env = {.group = f.group, .epoch = f.epoch, .offset = f.offset};
    if (f.type == PEAL_F_MESSAGE && peal_envelope_decode(f.envelope, &env) != PEAL_OK) return;
    world_trace(w, "%s %zu -> %s %zu: %s %.*s %llx/%llu seq=%llu req=%llu code=%llu", from,
                from_index, to, to_index, peal_frame_name(f.type), (int)env.group.size,
                env.group.size == 0 ? "" : env.group.at, (unsigned long long)env.epoch,
                (unsigned long long)env.offset, (unsigned long long)f.seq,
                (unsigned long long)f.req, (unsigned long long)f.code);
    for (size_t i = 0; i < f.positions.count; i++)
        world_trace(w, "    %.*s %llx/%llu", (int)f.positions.at[i].group.size,
                    f.positions.at[i].group.at, (unsigned long long)f.positions.at[i].epoch,
                    (unsigned long long)f.positions.at[i].offset);
    for (size_t i = 0; f.type == PEAL_F_BATCH && i < f.entries.count; i++)
        trace_entry(w, from, from_index, to, to_index, f.entries.at[i]);
    peal_frame_fini(&f);
}

void world_trace_frame(const struct world *w, const char *from, size_t from_index, const char *to,
                       size_t to_index, struct peal_span bytes)
{
    if (w->trace) trace_entry(w, from, from_index, to, to_index, bytes);
}

/* ---- life ---------------------------------------------------------------------------------- */

/* Reading it takes as long as a short run; all worlds have the same one. */
static const struct peal_config *config_get(void)
{
    static struct peal_config *config;
    struct peal_config_sources from = {.text = yaml, .text_size = sizeof yaml - 1};
    struct peal_buf problems = {0};
    if (config == NULL && peal_config_load(&from, &config, &problems) != PEAL_OK)
        fprintf(stderr, "%.*s\n", (int)problems.size, problems.at);
    PEAL_ASSERT(config != NULL);
    peal_buf_fini(&problems);
    return config;
}

struct world *world_new(uint64_t seed)
{
    struct world *w = calloc(1, sizeof *w);
    PEAL_ASSERT(w != NULL);
    w->seed = seed;
    w->now_ms = 1000000;
    w->trace = getenv("PEAL_TRACE") != NULL;
    w->config = config_get();
    dice_init(&w->dice, seed);
    dice_install(seed);
    for (int m = 0; m < PEAL_M_COUNT; m++)
        w->counted[m] = peal_metrics_sum((enum peal_metric)m);
    checker_init(&w->checker);
    for (int g = 0; g < GROUPS; g++)
        checker_add_group(&w->checker, world_groups[g],
                          g >= LOG    ? CHECKER_STORED
                          : g >= ROOM ? CHECKER_HISTORY
                                      : CHECKER_LIVE);
    for (size_t r = 0; r < ROUTERS; r++)
        router_init(w, r);
    for (size_t n = 0; n < NODES; n++)
        node_init(w, n);
    for (int i = 0; i < CLIENTS; i++)
        client_init(w, i);
    for (size_t r = 0; r < ROUTERS; r++)
        router_start(&w->routers[r]);
    for (size_t n = 0; n < NODES; n++)
        node_start(&w->nodes[n]);
    return w;
}

void world_free(struct world *w)
{
    for (int i = 0; i < CLIENTS; i++)
        client_disconnect(&w->clients[i]);
    for (size_t n = 0; n < NODES; n++) {
        if (w->nodes[n].uplink != NULL) node_kill(&w->nodes[n]);
        for (size_t r = 0; r < ROUTERS; r++) {
            lane_fini(&w->nodes[n].links[r].rpc);
            lane_fini(&w->nodes[n].links[r].answer);
            lane_fini(&w->nodes[n].links[r].topic);
        }
    }
    for (size_t r = 0; r < ROUTERS; r++)
        router_fini(&w->routers[r]);
    checker_fini(&w->checker);
    free(w);
}

/* ---- turns --------------------------------------------------------------------------------- */

static void everybody_works(struct world *w)
{
    for (size_t r = 0; r < ROUTERS; r++)
        router_turn(&w->routers[r], WAITING);
    for (size_t n = 0; n < NODES; n++) {
        node_bus_turn(&w->nodes[n], WAITING);
        for (size_t h = 0; h < HUBS; h++)
            node_hub_turn(&w->nodes[n], h, WAITING);
    }
    for (int i = 0; i < CLIENTS; i++)
        if (w->clients[i].connected && w->clients[i].reads) client_read(&w->clients[i]);
}

void world_settle(struct world *w, uint64_t ms)
{
    for (uint64_t passed = 0; passed < ms && !w->checker.failed; passed += 100) {
        w->now_ms += 100;
        for (int k = 0; k < 4; k++)
            everybody_works(w);
    }
}

void world_wait(struct world *w, uint64_t seconds)
{
    for (uint64_t passed = 0; passed < seconds && !w->checker.failed; passed++) {
        w->now_ms += 1000;
        everybody_works(w);
        everybody_works(w);
    }
}

static void client_acts(struct world *w, struct client *c)
{
    int g = (int)dice_below(&w->dice, INBOXES);
    char last[24];
    if (!c->connected) {
        client_connect(c, (int)dice_below(&w->dice, NODES));
        return;
    }
    switch (dice_below(&w->dice, 10)) {
    case 0:
        if (dice_chance(&w->dice, 30)) client_disconnect(c);
        return;
    case 1:
        c->reads = false;
        return;
    case 2:
    case 3:
        c->reads = true;
        return;
    case 4:
        if (dice_chance(&w->dice, 30)) client_leave(c, g);
        return;
    case 5:
    case 6:
        client_publish(c, (int)dice_below(&w->dice, GROUPS));
        return;
    case 7:
        if (dice_chance(&w->dice, 30)) client_mark(c, dice_chance(&w->dice, 50) ? "ack" : "read");
        return;
    case 8:
        snprintf(last, sizeof last, ",\"last\":%d", 1 + (int)dice_below(&w->dice, 5));
        client_join(c, g, last);
        return;
    default:
        client_join(c, g, g < ROOM && dice_chance(&w->dice, 50) ? ",\"presence\":true" : "");
    }
}

void world_step(struct world *w)
{
    size_t most = 1 + dice_below(&w->dice, 8);
    w->now_ms += dice_below(&w->dice, 5);
    switch (dice_below(&w->dice, 20)) {
    case 0:
    case 1:
        client_acts(w, &w->clients[dice_below(&w->dice, CLIENTS)]);
        return;
    case 2:
    case 3:
        router_push(w, (int)dice_below(&w->dice, GROUPS));
        return;
    case 4:
        if (dice_chance(&w->dice, 30)) w->now_ms += dice_below(&w->dice, 400);
        if (dice_chance(&w->dice, 20)) faults_strike(w);
        return;
    case 5:
    case 6:
    case 7:
    case 8:
        router_turn(&w->routers[dice_below(&w->dice, ROUTERS)], most);
        return;
    case 9:
    case 10:
    case 11:
    case 12:
    case 13:
        node_bus_turn(&w->nodes[dice_below(&w->dice, NODES)], most);
        return;
    case 14:
    case 15:
    case 16:
    case 17:
        node_hub_turn(&w->nodes[dice_below(&w->dice, NODES)], dice_below(&w->dice, HUBS), most);
        return;
    default: {
        struct client *c = &w->clients[dice_below(&w->dice, CLIENTS)];
        if (c->connected && c->reads) client_read(c);
    }
    }
}

/* ---- the end ------------------------------------------------------------------------------- */

static void everybody_is_there(struct world *w)
{
    for (int i = 0; i < CLIENTS; i++)
        w->clients[i].reads = true;
    world_settle(w, 10000);
    for (int i = 0; i < CLIENTS; i++)
        if (!w->clients[i].connected) client_connect(&w->clients[i], i % NODES);
    world_settle(w, 10000);
    for (int i = 0; i < CLIENTS && !w->checker.failed; i++)
        if (!w->clients[i].connected || !w->clients[i].welcomed)
            checker_fail(&w->checker, "client %d is not %s in the end", i,
                         w->clients[i].connected ? "welcome" : "connected");
}

/* Where a group truly is, the clients cannot know; one more message shows it to all its members. */
static void judge_groups(struct world *w)
{
    uint64_t last[GROUPS];
    for (int g = 0; g < GROUPS; g++)
        last[g] = router_push(w, g);
    world_settle(w, 5000);
    for (int g = 0; g < GROUPS; g++) {
        const struct checker_value *v = &w->checker.values[last[g]];
        if (g >= LOG) {
            struct disk *disk = &w->routers[world_router_of(g)].disk;
            const struct disk_group *kept = disk_group(disk, peal_span_of(world_groups[g]));
            for (uint64_t offset = 1; offset < kept->inbox.n.next; offset++)
                checker_on_kept(&w->checker, g, kept->inbox.n.epoch, offset,
                                kept->records[offset - 1].value);
            checker_at_end(&w->checker, g, kept->inbox.n.epoch, kept->inbox.n.next - 1);
            if (g >= INBOXES)
                checker_at_end_unread(&w->checker, g, kept->inbox.n.epoch, disk_recount(kept));
            continue;
        }
        /* Without any member nobody was told of it. */
        if (v->offset != 0) checker_at_end(&w->checker, g, v->epoch, v->offset);
        bool members = false;
        for (int i = 0; i < CLIENTS; i++)
            members = members || checker_member(&w->checker, i, g)->member;
        if (members && v->offset == 0)
            checker_fail(&w->checker, "%s: nobody got %llu, the last one", world_groups[g],
                         (unsigned long long)last[g]);
    }
}

/* Links that have nothing to repair are confirmed, and nobody syncs again and again. */
static void judge_links(struct world *w)
{
    int64_t syncs = peal_metrics_sum(PEAL_M_LINK_SYNCS);
    world_settle(w, 10000);
    if (peal_metrics_sum(PEAL_M_LINK_SYNCS) != syncs)
        checker_fail(&w->checker, "nodes sync again and again");
}

/* Also where no message came for a group: within a minute every slot was compared, and the routers'
 * rows are what the nodes hold, which is what their workers want. */
static void judge_rows(struct world *w)
{
    size_t held = 0;
    world_wait(w, 65);
    int64_t differed = peal_metrics_sum(PEAL_M_LINK_DIFFERS);
    world_wait(w, 65);
    if (peal_metrics_sum(PEAL_M_LINK_DIFFERS) != differed)
        checker_fail(&w->checker, "what nodes hold and routers know differs again and again");
    for (size_t n = 0; n < NODES; n++) {
        size_t wanted = 0;
        for (int g = 0; g < GROUPS; g++) {
            struct peal_span name = peal_span_of(world_groups[g]);
            bool some = false;
            for (size_t h = 0; h < HUBS; h++)
                some = some || peal_group_find(&w->nodes[n].hubs[h].hub, name) != NULL;
            wanted += some;
        }
        size_t holds = peal_uplink_groups(w->nodes[n].uplink);
        if (holds != wanted)
            checker_fail(&w->checker, "node %zu holds %zu groups, its workers want %zu", n, holds,
                         wanted);
        held += wanted;
    }
    int64_t rows = peal_metrics_sum(PEAL_M_ROWS) - w->counted[PEAL_M_ROWS];
    if (rows != (int64_t)held)
        checker_fail(&w->checker, "the routers have %lld rows, the nodes hold %zu", (long long)rows,
                     held);
}

static int64_t counted(const struct world *w, enum peal_metric m)
{
    return peal_metrics_sum(m) - w->counted[m];
}

/* What went in came out, was refused or is still there: nothing is lost without a count. */
static void judge_counters(struct world *w)
{
    int64_t queued = 0;
    for (int i = 0; i < CLIENTS; i++)
        if (w->clients[i].connected) queued += w->clients[i].conn.outq.frames;
    int64_t due = counted(w, PEAL_M_DUE);
    int64_t gone = counted(w, PEAL_M_WRITTEN) + counted(w, PEAL_M_DROPPED_CLOSED) +
                   counted(w, PEAL_M_DROPPED_SLOW) + counted(w, PEAL_M_DROPPED_MEMORY);
    if (due != gone + queued)
        checker_fail(&w->checker, "%lld frames were due, %lld are written or dropped, %lld queued",
                     (long long)due, (long long)gone, (long long)queued);
    int64_t missing = counted(w, PEAL_M_ACCEPTED) - counted(w, PEAL_M_NUMBERED) -
                      counted(w, PEAL_M_DUPLICATE) - counted(w, PEAL_M_REFUSED_INVALID) -
                      counted(w, PEAL_M_REFUSED_QUEUE) - counted(w, PEAL_M_REFUSED_STORE) -
                      counted(w, PEAL_M_REFUSED_ERROR);
    if (missing < 0 || missing > w->died)
        checker_fail(&w->checker, "%lld publishes were accepted and not heard of again, %lld died",
                     (long long)missing, (long long)w->died);
}

void world_end(struct world *w)
{
    faults_heal(w);
    everybody_is_there(w);
    if (!w->checker.failed) presence_ask(w);
    if (!w->checker.failed) judge_groups(w);
    if (!w->checker.failed) judge_presence(w);
    if (!w->checker.failed) judge_links(w);
    if (!w->checker.failed) judge_rows(w);
    if (!w->checker.failed) judge_counters(w);
}

bool world_run(struct world *w, size_t steps)
{
    w->faults = world_faults;
    for (size_t i = 0; i < steps && !w->checker.failed; i++)
        world_step(w);
    if (!w->checker.failed) world_end(w);
    return !w->checker.failed;
}

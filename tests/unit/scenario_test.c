/* Named scenarios of the model: each a fixed script instead of a seed, because it is known to be
 * hard, or because a seeded run once found it to be wrong. In the world of tests/model nothing goes
 * wrong here but what the script does; the checker judges along the way and in the end.
 *
 * Where a slot table changes owners, the scenario "a stale owner never answers" belongs here, next
 * to those of a router's restart. */
#include <stdio.h>

#include "base/log.h"
#include "base/metrics.h"
#include "tests/model/presence.h"
#include "tests/model/world.h"
#include "tests/unit/unit.h"

enum { SOON_MS = 6000 }; /* longer than it takes to notice a loss and repair it */

static int set_up(void **state)
{
    struct world *w = world_new(1);
    world_settle(w, 1000);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    world_free(*state);
    return 0;
}

static void judge(struct world *w)
{
    if (!w->checker.failed) world_end(w);
    if (w->checker.failed) fail_msg("%s", w->checker.why);
}

static struct router *router_of(struct world *w, int group)
{
    return &w->routers[world_router_of(group)];
}

static const struct checker_member *member_of(const struct client *c, int group)
{
    return checker_member(&c->world->checker, c->index, group);
}

static struct client *connect(struct world *w, int client, int node)
{
    client_connect(&w->clients[client], node);
    world_settle(w, 500);
    assert_true(w->clients[client].welcomed);
    return &w->clients[client];
}

/* A client of the same worker. */
static struct client *connect_beside(struct client *other, int client)
{
    struct client *c = connect(other->world, client, other->node);
    while (c->hub != other->hub) {
        client_disconnect(c);
        connect(other->world, client, other->node);
    }
    return c;
}

static void join(struct client *c, int group, const char *more)
{
    client_join(c, group, more);
    world_settle(c->world, 1000);
    assert_true(member_of(c, group)->member);
}

static void push(struct world *w, int group, int count)
{
    for (int i = 0; i < count; i++)
        assert_int_not_equal(router_push(w, group), 0);
}

static void restart(struct router *r)
{
    router_kill(r, 0);
    router_start(r);
    world_settle(r->world, SOON_MS);
}

/* ---- losses that ZeroMQ does not tell ------------------------------------------------------ */

/* The connections to a router break and are made again; what was on the way is gone, and the node
 * learns of nothing. */
static void scenario_reconnect_unseen_by_the_node_is_repaired_or_told(void **state)
{
    struct world *w = *state;
    for (int g = LIVE; g < INBOXES; g++) {
        struct client *c = &w->clients[0];
        if (!c->connected) connect(w, 0, 0);
        join(c, g, "");
        push(w, g, 2);
        world_settle(w, 500);
        size_t gaps = w->checker.gaps;
        push(w, g, 3);
        router_turn(router_of(w, g), WAITING);
        faults_join(w, 0, world_router_of(g), true);
        assert_int_equal(member_of(c, g)->offset, 2);
        world_settle(w, SOON_MS);
        assert_int_equal(member_of(c, g)->offset, 5);
        assert_int_equal(w->checker.gaps - gaps, g < ROOM ? 1 : 0); /* told where nothing is kept */
    }
    judge(w);
}

/* A node that does not hear the first beats of a router is forgotten by it, and the router then has
 * nobody to beat for. */
static void scenario_node_that_missed_the_first_beats_is_heard(void **state)
{
    struct world *w = *state;
    size_t router = world_router_of(LOG);
    struct lane *topic = &w->nodes[0].links[router].topic;
    node_kill(&w->nodes[0]);
    faults_cut(w, 0, router, false, true);
    node_start(&w->nodes[0]);
    world_settle(w, SOON_MS);
    lane_drop(topic); /* a relay that slept, and dropped what it had no room for */
    faults_join(w, 0, router, false);
    world_settle(w, SOON_MS);
    join(connect(w, 0, 0), LOG, "");
    push(w, LOG, 1);
    judge(w);
}

/* A relay that slept for two restarts still has a batch of the first life. Who takes that life for
 * a new one is deaf to the true one. */
static void scenario_batch_of_the_life_before_the_last_is_not_believed(void **state)
{
    struct world *w = *state;
    struct router *r = router_of(w, LOG);
    struct link_lanes *l = &w->nodes[0].links[r->index];
    struct client *c = connect(w, 0, 0);
    join(c, LOG, "");
    push(w, LOG, 1);
    router_turn(r, WAITING);
    assert_int_not_equal(l->topic.count, 0);
    struct peal_bytes *late = peal_bytes_ref(l->topic.items[l->topic.start].bytes);
    world_settle(w, 1000);
    restart(r);
    restart(r);
    peal_uplink_on_batch(w->nodes[0].uplink, r->index, peal_bytes_span(late));
    peal_bytes_unref(late);
    world_settle(w, SOON_MS);
    push(w, LOG, 1);
    world_settle(w, 1000);
    assert_int_equal(member_of(c, LOG)->offset, 2);
    judge(w);
}

/* After the bus nothing has a link sequence: a full mailbox is noticed by the bus, and each worker
 * checks offsets for itself. */
static void scenario_mailbox_overflow_after_the_bus_is_repaired_or_told(void **state)
{
    struct world *w = *state;
    struct client *c = connect(w, 0, 0);
    for (int g = LIVE; g < INBOXES; g++)
        join(c, g, "");
    int64_t lost = peal_metrics_sum(PEAL_M_WORKER_LOST);
    for (int i = 0; i < 20; i++) {
        for (int g = LIVE; g < INBOXES; g++) {
            push(w, g, 1);
            router_turn(router_of(w, g), WAITING);
            router_turn(router_of(w, g), WAITING);
            node_bus_turn(&w->nodes[0], WAITING);
        }
    }
    assert_true(peal_metrics_sum(PEAL_M_WORKER_LOST) > lost);
    world_settle(w, SOON_MS);
    /* All that at once was too much for his queue as well. */
    if (!c->connected) connect(w, 0, 0);
    world_settle(w, 1000);
    for (int g = LIVE; g < INBOXES; g++)
        assert_int_equal(member_of(c, g)->offset, 20);
    judge(w);
}

/* ---- an offset is never used again in its epoch -------------------------------------------- */

static void scenario_offset_after_a_restart_without_memory_is_of_a_new_epoch(void **state)
{
    struct world *w = *state;
    struct client *c = connect(w, 0, 0);
    for (int g = LIVE; g < LOG; g++) {
        join(c, g, "");
        push(w, g, 3);
        world_settle(w, 500);
        uint64_t epoch = member_of(c, g)->epoch;
        restart(router_of(w, g));
        push(w, g, 3);
        world_settle(w, 500);
        assert_true(member_of(c, g)->epoch != epoch);
        assert_int_equal(member_of(c, g)->offset, 3);
    }
    judge(w);
}

/* An entry that nobody wants is dropped after some minutes, and made again by the next publish. */
static void scenario_offset_of_an_entry_made_again_is_of_a_new_epoch(void **state)
{
    struct world *w = *state;
    for (int g = LIVE; g < LOG; g++) {
        struct client *c = connect(w, 0, 0);
        join(c, g, "");
        push(w, g, 3);
        world_settle(w, 500);
        uint64_t epoch = member_of(c, g)->epoch;
        client_disconnect(c);
        world_wait(w, 400);
        push(w, g, 3);
        connect(w, 0, 1);
        world_settle(w, 1000);
        assert_true(member_of(c, g)->epoch != epoch);
        assert_int_equal(member_of(c, g)->offset, 3);
        client_disconnect(c);
    }
    judge(w);
}

/* The store numbers, and then its commit fails: the numbers were never given, and nobody has seen a
 * message with them. */
static void scenario_offset_of_a_failed_commit_is_given_again_and_was_never_seen(void **state)
{
    struct world *w = *state;
    struct router *r = router_of(w, LOG);
    struct client *c = connect(w, 0, 0);
    join(c, LOG, "");
    push(w, LOG, 3);
    world_settle(w, 500);
    push(w, LOG, 2);
    router_commit(r, WAITING, DISK_BREAKS);
    world_settle(w, 1000);
    assert_int_equal(member_of(c, LOG)->offset, 3);
    push(w, LOG, 1); /* refused: after a failed commit nothing is written */
    world_settle(w, 500);
    assert_int_equal(member_of(c, LOG)->offset, 3);
    restart(r);
    push(w, LOG, 1);
    world_settle(w, 500);
    assert_int_equal(member_of(c, LOG)->offset, 4);
    assert_int_equal(w->checker.gaps, 0);
    judge(w);
}

static void scenario_offset_of_a_restored_store_is_of_a_new_epoch(void **state)
{
    struct world *w = *state;
    struct router *r = router_of(w, LOG);
    struct client *c = connect(w, 0, 0);
    join(c, LOG, "");
    push(w, LOG, 3);
    world_settle(w, 500);
    disk_copy(&r->disk);
    push(w, LOG, 2);
    world_settle(w, 500);
    uint64_t epoch = member_of(c, LOG)->epoch;
    router_kill(r, 0);
    disk_restore(&r->disk, epoch + 1);
    router_start(r);
    push(w, LOG, 2);
    world_settle(w, SOON_MS);
    assert_true(member_of(c, LOG)->epoch == epoch + 1);
    assert_int_equal(member_of(c, LOG)->offset, 5);
    judge(w);
}

/* An older copy was put in the place of the store and nobody said so: a node that has seen more
 * does, before the numbers are given a second time. */
static void scenario_offset_of_an_older_copy_is_of_a_new_epoch_when_a_node_saw_more(void **state)
{
    struct world *w = *state;
    struct router *r = router_of(w, LOG);
    struct client *c = connect(w, 0, 0);
    join(c, LOG, "");
    push(w, LOG, 3);
    world_settle(w, 500);
    disk_copy(&r->disk);
    push(w, LOG, 2);
    world_settle(w, 500);
    uint64_t epoch = member_of(c, LOG)->epoch;
    router_kill(r, 0);
    r->disk.fault = DISK_KEEPS_EPOCH;
    disk_restore(&r->disk, 0);
    r->disk.fault = DISK_SOUND;
    router_start(r);
    world_settle(w, SOON_MS);
    push(w, LOG, 2);
    world_settle(w, SOON_MS);
    assert_true(member_of(c, LOG)->epoch != epoch);
    assert_int_equal(member_of(c, LOG)->offset, 5);
    judge(w);
}

/* The marks of a restored inbox count on from where the copy was; a worker that holds later ones
 * must not take those for the newer ones. */
static void scenario_counts_of_a_restored_inbox_are_told(void **state)
{
    struct world *w = *state;
    struct router *r = router_of(w, INBOXES);
    struct client *c = connect(w, 0, 0);
    push(w, INBOXES, 2);
    world_settle(w, 500);
    disk_copy(&r->disk);
    push(w, INBOXES, 20);
    world_settle(w, 500);
    router_kill(r, 0);
    disk_restore(&r->disk, member_of(c, INBOXES)->epoch + 1);
    router_start(r);
    world_settle(w, SOON_MS);
    push(w, INBOXES, 1);
    world_settle(w, 500);
    struct client *beside = connect_beside(c, 2);
    world_settle(w, 500);
    assert_int_equal(member_of(beside, INBOXES)->unread, 3);
    judge(w);
}

/* ---- durable numbering --------------------------------------------------------------------- */

/* The publisher is told of the failed commit and tries again, of the lost answer he hears nothing
 * and tries again: one message, one number. */
static void scenario_durable_numbering_with_a_failed_commit_gives_one_number(void **state)
{
    struct world *w = *state;
    struct router *r = router_of(w, LOG);
    struct client *c = connect(w, 0, 0);
    join(c, LOG, "");
    for (int round = 0; round < 3; round++) {
        client_publish(c, LOG);
        assert_int_not_equal(c->value, 0);
        while (r->ops.count == 0) {
            node_hub_turn(&w->nodes[0], (size_t)c->hub, WAITING);
            node_bus_turn(&w->nodes[0], WAITING);
            struct peal_bytes *bytes = lane_take(&w->nodes[0].links[r->index].rpc, w->now_ms);
            if (bytes == NULL) continue;
            struct peal_peer peer = {.id_size = PEAL_TOPIC_SIZE};
            peal_topic_of(w->nodes[0].boot, peer.id);
            peal_shard_on_rpc(r->shard, &peer, peal_bytes_span(bytes));
            peal_bytes_unref(bytes);
        }
        if (round == 0) router_commit(r, WAITING, DISK_FULL);
        if (round == 1) { /* committed, and then the answer is lost with the router */
            router_kill(r, WAITING);
            router_start(r);
        }
        world_settle(w, SOON_MS);
        for (int i = 0; i < 10 && c->value != 0; i++) {
            client_publish(c, LOG);
            world_settle(w, 2000);
        }
        assert_int_equal(c->value, 0);
        assert_int_equal(member_of(c, LOG)->offset, round + 1);
    }
    judge(w);
}

/* ---- positions ----------------------------------------------------------------------------- */

/* A client with a backlog comes back while messages go on coming: pages of the one and messages of
 * the other must make one stream. */
static void scenario_replay_racing_live_messages_is_one_stream(void **state)
{
    struct world *w = *state;
    static const int groups[] = {ROOM, LOG, INBOXES};
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        int g = groups[i];
        struct client *c = &w->clients[0];
        if (!c->connected) connect(w, 0, 0);
        if (g != INBOXES) join(c, g, "");
        client_disconnect(c);
        size_t messages = w->checker.messages;
        push(w, g, 25);
        world_settle(w, 500);
        client_connect(c, 1);
        for (int k = 0; k < 100; k++) { /* one message with every other turn of each */
            if (k % 20 == 0) push(w, g, 1);
            w->now_ms += 10;
            router_turn(router_of(w, g), 1);
            node_bus_turn(&w->nodes[1], 1);
            node_hub_turn(&w->nodes[1], (size_t)c->hub, 1);
            if (k % 3 == 0) client_read(c);
        }
        world_settle(w, SOON_MS);
        assert_int_equal(w->checker.messages - messages, 30);
        assert_int_equal(w->checker.gaps, 0);
    }
    judge(w);
}

/* While the answer to a join with `last` waits for its page, messages go by in a group that keeps
 * none: they are neither shown nor a gap, because the answer names the position behind them. */
static void scenario_join_with_last_while_messages_go_by_tells_no_gap(void **state)
{
    struct world *w = *state;
    struct router *r = router_of(w, LIVE);
    struct client *c = connect(w, 0, 0);
    push(w, LIVE, 4);
    client_join(c, LIVE, ",\"last\":5");
    for (int k = 0; k < 3; k++) { /* JOIN, JOINED, FETCH */
        node_hub_turn(&w->nodes[0], (size_t)c->hub, WAITING);
        node_bus_turn(&w->nodes[0], WAITING);
        if (k == 0) router_turn(r, WAITING);
    }
    push(w, LIVE, 1); /* before the FETCH */
    world_settle(w, 1000);
    assert_int_equal(member_of(c, LIVE)->offset, 5);
    assert_int_equal(w->checker.gaps, 0);
    judge(w);
}

/* The router has started anew, which the worker does not know yet: the page that answers a join
 * with `last` is of a new epoch, and the answer is the first that is said of it. */
static void scenario_join_with_last_into_a_new_epoch_begins_there(void **state)
{
    struct world *w = *state;
    struct router *r = router_of(w, ROOM);
    struct client *c = connect(w, 0, 0);
    join(c, ROOM, "");
    push(w, ROOM, 3);
    world_settle(w, 500);
    struct client *late = connect_beside(c, 2);
    router_kill(r, 0);
    router_start(r);
    push(w, ROOM, 4);
    lane_drop(&w->nodes[0].links[r->index].topic);
    size_t gaps = w->checker.gaps;
    client_join(late, ROOM, ",\"last\":2");
    for (int k = 0; k < 10 && !member_of(late, ROOM)->member; k++) {
        w->now_ms += 100;
        node_hub_turn(&w->nodes[0], (size_t)late->hub, WAITING);
        node_bus_turn(&w->nodes[0], WAITING);
        router_turn(r, WAITING);
        lane_drop(&w->nodes[0].links[r->index].topic);
        client_read(late);
    }
    assert_int_equal(w->checker.gaps, gaps);
    assert_int_equal(member_of(late, ROOM)->offset, 4);
    judge(w);
}

/* Groups of the store other than inboxes count as well, for themselves: a client takes counts for
 * those of his inbox. */
static void scenario_counts_of_a_log_are_not_told_as_those_of_the_inbox(void **state)
{
    struct world *w = *state;
    struct client *c = connect(w, 0, 0);
    join(c, LOG, "");
    push(w, INBOXES, 1);
    world_settle(w, 500);
    push(w, LOG, 5);
    router_turn(router_of(w, LOG), WAITING);
    faults_join(w, 0, world_router_of(LOG), true); /* so that the node learns by AT */
    world_settle(w, SOON_MS);
    assert_int_equal(member_of(c, LOG)->offset, 5);
    assert_int_equal(member_of(c, INBOXES)->unread, 1);
    assert_int_equal(member_of(c, INBOXES)->rev, 1);
    judge(w);
}

/* ---- presence ------------------------------------------------------------------------------ */

/* Two join a group at the same time, on two nodes, and ask who is there: each must learn of the
 * other, by the list or by an event. */
static void scenario_joins_against_presence_know_each_other(void **state)
{
    struct world *w = *state;
    struct client *bob = connect(w, 0, 0);
    struct client *ann = connect(w, 1, 1);
    client_join(bob, LIVE, ",\"presence\":true");
    client_join(ann, LIVE, ",\"presence\":true");
    world_settle(w, SOON_MS);
    for (int i = 0; i < 2; i++) {
        const struct client_presence *p = &(i == 0 ? bob : ann)->presence[LIVE];
        assert_true(p->heard);
        assert_true(p->there[0]);
        assert_true(p->there[1]);
        assert_int_equal(p->users, 2);
    }
    judge(w);
}

/* ---- sleep --------------------------------------------------------------------------------- */

/* Everybody else goes on while a node, then a router, is stopped for longer than a beat may be
 * late.
 */
static void scenario_sleep_of_a_process_is_repaired_or_told(void **state)
{
    struct world *w = *state;
    struct client *c = connect(w, 0, 0);
    for (int g = LIVE; g < INBOXES; g++)
        join(c, g, "");
    w->nodes[0].stalled_until_ms = w->now_ms + 8000;
    for (int i = 0; i < 10; i++) {
        for (int g = LIVE; g < INBOXES; g++)
            push(w, g, 1);
        world_settle(w, 1000);
    }
    w->routers[0].stalled_until_ms = w->now_ms + 8000;
    world_settle(w, 8000 + SOON_MS);
    for (int g = LIVE; g < INBOXES; g++)
        push(w, g, 1);
    world_settle(w, 1000);
    for (int g = LIVE; g < INBOXES; g++)
        assert_int_equal(member_of(c, g)->offset, 11);
    judge(w);
}

/* A node that hears a router but is not heard, and the other way round. */
static void scenario_cut_in_one_direction_is_repaired_or_told(void **state)
{
    struct world *w = *state;
    struct client *c = connect(w, 0, 0);
    for (int g = LIVE; g < INBOXES; g++)
        join(c, g, "");
    for (int way = 0; way < 3; way++) {
        for (size_t r = 0; r < ROUTERS; r++)
            faults_cut(w, 0, r, way != 0, way != 1);
        for (int g = LIVE; g < INBOXES; g++)
            push(w, g, 2);
        world_settle(w, SOON_MS);
        for (size_t r = 0; r < ROUTERS; r++)
            faults_join(w, 0, r, way == 2);
        world_settle(w, SOON_MS);
        for (int g = LIVE; g < INBOXES; g++)
            assert_int_equal(member_of(c, g)->offset, 2 * (way + 1));
    }
    judge(w);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    peal_metrics_thread_start();
    peal_log_set_level(PEAL_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        CASE(scenario_reconnect_unseen_by_the_node_is_repaired_or_told),
        CASE(scenario_node_that_missed_the_first_beats_is_heard),
        CASE(scenario_batch_of_the_life_before_the_last_is_not_believed),
        CASE(scenario_mailbox_overflow_after_the_bus_is_repaired_or_told),
        CASE(scenario_offset_after_a_restart_without_memory_is_of_a_new_epoch),
        CASE(scenario_offset_of_an_entry_made_again_is_of_a_new_epoch),
        CASE(scenario_offset_of_a_failed_commit_is_given_again_and_was_never_seen),
        CASE(scenario_offset_of_a_restored_store_is_of_a_new_epoch),
        CASE(scenario_offset_of_an_older_copy_is_of_a_new_epoch_when_a_node_saw_more),
        CASE(scenario_counts_of_a_restored_inbox_are_told),
        CASE(scenario_durable_numbering_with_a_failed_commit_gives_one_number),
        CASE(scenario_replay_racing_live_messages_is_one_stream),
        CASE(scenario_join_with_last_while_messages_go_by_tells_no_gap),
        CASE(scenario_join_with_last_into_a_new_epoch_begins_there),
        CASE(scenario_counts_of_a_log_are_not_told_as_those_of_the_inbox),
        CASE(scenario_joins_against_presence_know_each_other),
        CASE(scenario_sleep_of_a_process_is_repaired_or_told),
        CASE(scenario_cut_in_one_direction_is_repaired_or_told),
    };
    return cmocka_run_group_tests_name("scenario", tests, NULL, NULL);
}

/* A shard that is one router of several: what it serves, and what it says of the rest. */
#include "router/cluster.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "proto/door.h"
#include "proto/envelope.h"
#include "proto/group.h"
#include "router/shard.h"
#include "tests/unit/unit.h"

enum { ROUTERS = 3, KEPT_MAX = 64, NODE = 42 };

struct kept {
    struct peal_bytes *bytes;
    uint64_t to; /* number of a router */
};

/* Recorders in place of sockets and store. */
struct world {
    struct peal_config *config;
    struct peal_shard *shard;
    uint64_t now_ms;
    struct kept replies[KEPT_MAX];
    size_t reply_count;
    struct kept batches[KEPT_MAX];
    size_t batch_count;
    struct kept told[KEPT_MAX];
    size_t told_count;
    struct kept forwarded[KEPT_MAX];
    size_t forwarded_count;
    bool forward_full;
    struct peal_store_op *ops[KEPT_MAX];
    size_t op_count;
};

static void keep(struct kept *list, size_t *count, uint64_t to, struct peal_span bytes)
{
    assert_true(*count < KEPT_MAX);
    list[(*count)++] = (struct kept){peal_bytes_new(bytes.at, bytes.size), to};
}

static void io_reply(void *ctx, const struct peal_peer *peer, struct peal_span bytes)
{
    struct world *w = ctx;
    (void)peer;
    keep(w->replies, &w->reply_count, 0, bytes);
}

static void io_topic(void *ctx, uint64_t boot, struct peal_span bytes)
{
    struct world *w = ctx;
    keep(w->batches, &w->batch_count, boot, bytes);
}

static enum peal_err io_submit(void *ctx, struct peal_store_op *op)
{
    struct world *w = ctx;
    assert_true(w->op_count < KEPT_MAX);
    w->ops[w->op_count++] = op;
    return PEAL_OK;
}

static enum peal_err io_read(void *ctx, struct peal_store_fetch *fetch)
{
    (void)ctx;
    peal_store_fetch_free(fetch);
    return PEAL_OK;
}

static enum peal_err io_tell(void *ctx, size_t router, struct peal_span bytes)
{
    struct world *w = ctx;
    keep(w->told, &w->told_count, router, bytes);
    return PEAL_OK;
}

static enum peal_err io_forward(void *ctx, size_t router, struct peal_span bytes)
{
    struct world *w = ctx;
    if (w->forward_full) return PEAL_EQUEUE_FULL;
    keep(w->forwarded, &w->forwarded_count, router, bytes);
    return PEAL_OK;
}

static void drop(struct kept *list, size_t *count)
{
    while (*count > 0)
        peal_bytes_unref(list[--*count].bytes);
}

static void forget(struct world *w)
{
    drop(w->replies, &w->reply_count);
    drop(w->batches, &w->batch_count);
    drop(w->told, &w->told_count);
    drop(w->forwarded, &w->forwarded_count);
}

/* Lets the store finish its oldest operation. */
static enum peal_store_op_kind store_done(struct world *w)
{
    assert_true(w->op_count > 0);
    struct peal_store_op *op = w->ops[0];
    enum peal_store_op_kind kind = op->kind;
    memmove(w->ops, w->ops + 1, --w->op_count * sizeof w->ops[0]);
    op->epoch = 77;
    peal_shard_on_done(w->shard, op);
    return kind;
}

static void start(struct world *w, struct peal_span kept)
{
    struct peal_shard_io io = {w, io_reply, io_topic, io_submit, io_read};
    struct peal_cluster_io others = {w, io_tell, io_forward};
    char why[200];
    w->shard = peal_shard_new(w->config, &io, 1000);
    peal_shard_set_time(w->shard, w->now_ms, 1700000000000);
    assert_int_equal(peal_shard_join_cluster(w->shard, &others, 0, ROUTERS, kept, why, sizeof why),
                     PEAL_OK);
}

static int setup_new(void **state)
{
    static const char yaml[] =
        "cluster:\n"
        "  routers:\n"
        "    - {pull: 'tcp://10.0.0.1:1', xpub: 'tcp://10.0.0.1:2', rpc: 'tcp://10.0.0.1:3'}\n"
        "    - {pull: 'tcp://10.0.0.2:1', xpub: 'tcp://10.0.0.2:2', rpc: 'tcp://10.0.0.2:3'}\n"
        "    - {pull: 'tcp://10.0.0.3:1', xpub: 'tcp://10.0.0.3:2', rpc: 'tcp://10.0.0.3:3'}\n"
        "groups:\n"
        "  - {match: 'user:{id}', durable: true}\n"
        "  - {match: '*', history: {messages: 5, age: 60s}}\n";
    struct world *w = calloc(1, sizeof *w);
    struct peal_config_sources from = {.text = yaml, .text_size = sizeof yaml - 1};
    struct peal_buf problems = {0};
    assert_int_equal(peal_config_load(&from, &w->config, &problems), PEAL_OK);
    peal_buf_fini(&problems);
    w->now_ms = 5000;
    start(w, peal_span_of(""));
    *state = w;
    return 0;
}

static void from(struct world *w, const char *id, size_t id_size, const struct peal_frame *frame)
{
    struct peal_buf buf = {0};
    struct peal_peer peer = {.id_size = (unsigned char)id_size};
    memcpy(peer.id, id, id_size);
    peal_frame_encode(frame, &buf);
    peal_shard_on_rpc(w->shard, &peer, peal_buf_span(&buf));
    peal_shard_flush(w->shard);
    peal_buf_fini(&buf);
}

static void from_node(struct world *w, const struct peal_frame *frame)
{
    char topic[PEAL_TOPIC_SIZE];
    peal_topic_of(NODE, topic);
    from(w, topic, sizeof topic, frame);
}

static void from_router(struct world *w, size_t number, const struct peal_slot *slots)
{
    char id[PEAL_ROUTER_ID_SIZE];
    uint64_t runs[PEAL_SLOT_RUNS];
    struct peal_frame frame = {.type = PEAL_F_SLOTS, .boot = number + 100, .owner = number};
    frame.offsets.at = runs;
    frame.offsets.count = peal_slots_encode(slots, runs);
    peal_router_id_of(number + 100, id);
    from(w, id, sizeof id, &frame);
}

/* All three know the even split. */
static int setup(void **state)
{
    struct peal_slot slots[PEAL_SLOTS];
    setup_new(state);
    struct world *w = *state;
    peal_slots_seed(slots, ROUTERS);
    from_router(w, 1, slots);
    assert_int_equal(store_done(w), PEAL_STORE_SLOTS);
    forget(w);
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    while (w->op_count > 0)
        store_done(w);
    forget(w);
    peal_shard_free(w->shard);
    peal_config_free(w->config);
    free(w);
    return 0;
}

/* Names with this beginning that belong to routers 0, 1, 2 in the even split. */
static const char *name_of(const char *start_of_name, size_t router, char out[32])
{
    for (int n = 0;; n++) {
        snprintf(out, 32, "%s%d", start_of_name, n);
        if (peal_slot_router(peal_group_slot(peal_span_of(out)), ROUTERS) == router) return out;
    }
}

static void decode(const struct kept *kept, struct peal_frame *out)
{
    assert_int_equal(peal_frame_decode(peal_bytes_span(kept->bytes), out), PEAL_OK);
}

/* The only entry of the last batch; *batch must be given to peal_frame_fini. */
static void last_entry(struct world *w, struct peal_frame *batch, struct peal_frame *entry)
{
    assert_true(w->batch_count > 0);
    decode(&w->batches[w->batch_count - 1], batch);
    assert_int_equal(batch->entries.count, 1);
    assert_int_equal(peal_frame_decode(batch->entries.at[0], entry), PEAL_OK);
}

static void push(struct world *w, const char *group)
{
    char json[100];
    snprintf(json, sizeof json, "{\"group\":\"%s\",\"data\":1}", group);
    peal_shard_on_push(w->shard, peal_span_of(json));
    peal_shard_flush(w->shard);
}

static void publish(struct world *w, uint64_t req, const char *const *groups, size_t count)
{
    struct peal_buf bufs[4] = {0};
    struct peal_span spans[4];
    for (size_t i = 0; i < count; i++) {
        struct peal_envelope env = {.group = peal_span_of(groups[i]), .data = peal_span_of("1")};
        peal_envelope_encode(&env, &bufs[i]);
        spans[i] = peal_buf_span(&bufs[i]);
    }
    struct peal_frame frame = {.type = PEAL_F_PUBLISH, .req = req};
    frame.entries.at = spans;
    frame.entries.count = count;
    from_node(w, &frame);
    for (size_t i = 0; i < count; i++)
        peal_buf_fini(&bufs[i]);
}

static void cluster_new_router_serves_nothing_until_it_knows_its_slots(void **state)
{
    struct world *w = *state;
    struct peal_slot slots[PEAL_SLOTS];
    char name[32];
    struct peal_frame join = {
        .type = PEAL_F_JOIN, .req = 7, .group = peal_span_of(name_of("room", 0, name))};
    assert_true(peal_shard_unsettled(w->shard));
    from_node(w, &join);
    assert_int_equal(w->batch_count, 0); /* the node asks again */
    peal_shard_on_link(w->shard, NODE);
    peal_shard_on_tick(w->shard);
    assert_int_equal(w->batch_count, 0); /* no beat: it would believe that it is served */
    drop(w->told, &w->told_count);

    peal_slots_seed(slots, ROUTERS);
    from_router(w, 2, slots);
    assert_false(peal_shard_unsettled(w->shard));
    from_node(w, &join);
    assert_int_equal(w->batch_count, 0); /* known, not written */
    assert_int_equal(store_done(w), PEAL_STORE_SLOTS);
    assert_int_equal(w->told_count, 2);  /* the other routers, at once */
    assert_int_equal(w->reply_count, 1); /* and the node */
    struct peal_frame entry;
    decode(&w->replies[0], &entry);
    assert_int_equal(entry.type, PEAL_F_SLOTS);
    peal_frame_fini(&entry);
    peal_shard_on_tick(w->shard);
    assert_int_equal(w->batch_count, 1); /* the beat, at once */
    drop(w->batches, &w->batch_count);

    struct peal_frame batch;
    from_node(w, &join);
    last_entry(w, &batch, &entry);
    assert_int_equal(entry.type, PEAL_F_JOINED);
    assert_int_equal(entry.req, 7);
    peal_frame_fini(&batch);
}

static void cluster_table_is_told_to_the_others_every_second(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 2; i++) {
        w->now_ms += PEAL_BEAT_MS;
        peal_shard_set_time(w->shard, w->now_ms, 0);
        peal_shard_on_tick(w->shard);
    }
    assert_int_equal(w->told_count, 4);
    assert_int_equal(w->told[0].to, 1);
    assert_int_equal(w->told[1].to, 2);
    struct peal_frame table;
    decode(&w->told[0], &table);
    assert_int_equal(table.type, PEAL_F_SLOTS);
    assert_int_equal(table.owner, 0);
    assert_int_equal(table.offsets.count, 9);
    peal_frame_fini(&table);
}

static void cluster_join_of_a_foreign_group_is_answered_with_its_owner(void **state)
{
    struct world *w = *state;
    char name[32];
    struct peal_frame batch;
    struct peal_frame entry;
    const char *const prefixes[] = {"room", "user:"}; /* in memory, and durable */
    for (size_t i = 0; i < 2; i++) {
        struct peal_frame join = {.type = PEAL_F_JOIN, .req = 7};
        join.group = peal_span_of(name_of(prefixes[i], 2, name));
        from_node(w, &join);
        last_entry(w, &batch, &entry);
        assert_int_equal(entry.type, PEAL_F_MOVED);
        assert_int_equal(entry.slot, peal_group_slot(join.group));
        assert_int_equal(entry.owner, 2);
        assert_int_equal(entry.generation, 0);
        assert_int_equal(w->op_count, 0);
        peal_frame_fini(&batch);
    }
}

static void cluster_sync_with_foreign_groups_gets_the_table_and_rows_for_its_own_only(void **state)
{
    struct world *w = *state;
    char mine[32];
    char foreign[32];
    struct peal_position at[] = {{peal_span_of(name_of("room", 0, mine)), 3, 4},
                                 {peal_span_of(name_of("room", 1, foreign)), 3, 4}};
    struct peal_frame sync = {
        .type = PEAL_F_SYNC, .seq = 5, .flags = PEAL_FLAG_FIRST | PEAL_FLAG_LAST, .limit = 2};
    sync.positions.at = at;
    sync.positions.count = 2;
    from_node(w, &sync);
    struct peal_frame frame;
    struct peal_frame batch;
    last_entry(w, &batch, &frame);
    assert_int_equal(frame.type, PEAL_F_AT);
    assert_true(peal_span_is(frame.group, mine));
    peal_frame_fini(&batch);
    peal_shard_on_tick(w->shard); /* the sweep of what was not named */
    assert_int_equal(w->reply_count, 2);
    decode(&w->replies[0], &frame);
    assert_int_equal(frame.type, PEAL_F_SLOTS);
    peal_frame_fini(&frame);
    decode(&w->replies[1], &frame);
    assert_int_equal(frame.type, PEAL_F_SYNCED);
    peal_frame_fini(&frame);
}

static void cluster_sync_of_what_nobody_owns_yet_is_not_confirmed(void **state)
{
    struct world *w = *state;
    char name[32];
    struct peal_position at = {peal_span_of(name_of("room", 0, name)), 3, 4};
    struct peal_frame sync = {
        .type = PEAL_F_SYNC, .seq = 5, .flags = PEAL_FLAG_FIRST | PEAL_FLAG_LAST, .limit = 1};
    sync.positions.at = &at;
    sync.positions.count = 1;
    from_node(w, &sync);
    peal_shard_on_tick(w->shard);
    for (size_t i = 0; i < w->reply_count; i++) {
        struct peal_frame frame;
        decode(&w->replies[i], &frame);
        assert_int_not_equal(frame.type, PEAL_F_SYNCED);
        peal_frame_fini(&frame);
    }
}

static void cluster_foreign_request_comes_back_with_its_owner(void **state)
{
    struct world *w = *state;
    char name[32];
    name_of("user:", 1, name);
    const char *const groups[] = {name};
    struct peal_frame fetch = {
        .type = PEAL_F_FETCH, .req = 1, .group = peal_span_of(name), .offset = 9, .limit = 3};
    struct peal_frame mark = {.type = PEAL_F_MARK,
                              .req = 2,
                              .group = peal_span_of(name),
                              .flags = PEAL_FLAG_ACK,
                              .upto = 9};
    from_node(w, &fetch);
    from_node(w, &mark);
    publish(w, 3, groups, 1);
    assert_int_equal(w->reply_count, 3);
    static const enum peal_frame_type types[] = {PEAL_F_FETCH, PEAL_F_MARK, PEAL_F_PUBLISH};
    for (size_t i = 0; i < 3; i++) {
        struct peal_frame moved;
        struct peal_frame inner;
        decode(&w->replies[i], &moved);
        assert_int_equal(moved.type, PEAL_F_MOVED);
        assert_int_equal(moved.req, i + 1);
        assert_int_equal(moved.owner, 1);
        assert_int_equal(peal_frame_decode(moved.envelope, &inner), PEAL_OK);
        assert_int_equal(inner.type, types[i]);
        assert_int_equal(inner.req, i + 1);
        if (i < 2) assert_true(peal_span_is(inner.group, name));
        peal_frame_fini(&inner);
        peal_frame_fini(&moved);
    }
    assert_int_equal(w->op_count, 0);
}

static void cluster_publish_of_many_gives_back_the_foreign_ones_alone(void **state)
{
    struct world *w = *state;
    char mine[32];
    char foreign[32];
    const char *const groups[] = {name_of("room", 1, foreign), name_of("room", 0, mine), foreign};
    publish(w, 9, groups, 3);
    struct peal_frame published;
    decode(&w->replies[w->reply_count - 1], &published);
    assert_int_equal(published.type, PEAL_F_PUBLISHED);
    assert_int_equal(published.entries.count, 3);
    for (size_t i = 0; i < 3; i++) {
        struct peal_frame entry;
        struct peal_envelope env;
        assert_int_equal(peal_frame_decode(published.entries.at[i], &entry), PEAL_OK);
        assert_int_equal(entry.type, i == 1 ? PEAL_F_RECEIPT : PEAL_F_MOVED);
        if (i == 1) {
            assert_int_equal(entry.code, PEAL_OK);
            assert_int_equal(entry.offset, 1);
        } else {
            assert_int_equal(peal_envelope_decode(entry.envelope, &env), PEAL_OK);
            assert_true(peal_span_is(env.group, foreign));
            assert_true(peal_span_is(env.data, "1"));
        }
        peal_frame_fini(&entry);
    }
    peal_frame_fini(&published);
}

static void cluster_publisher_at_the_door_is_told_where_the_owner_is(void **state)
{
    struct world *w = *state;
    /* {"op": "publish", "req": 5, "messages": [{"group": name, "data": 1}]} */
    char name[32];
    struct peal_buf call = {0};
    name_of("r", 2, name);
    peal_buf_add_text(&call, "\x83\xa2op\xa7publish\xa3req\x05\xa8messages\x91\x82\xa5group");
    peal_buf_add_char(&call, (char)(0xa0 | strlen(name)));
    peal_buf_add_text(&call, name);
    peal_buf_add_text(&call, "\xa4"
                             "data\x01");
    struct peal_peer peer = {.id_size = 2, .id = "ab"};
    peal_shard_on_rpc(w->shard, &peer, peal_buf_span(&call));
    assert_int_equal(w->reply_count, 1);
    struct peal_span answer = peal_bytes_span(w->replies[0].bytes);
    assert_non_null(memmem(answer.at, answer.size, "no_router", 9));
    assert_non_null(memmem(answer.at, answer.size, "\xa5owner\xb0tcp://10.0.0.3:3", 23));
    peal_buf_fini(&call);
}

static void cluster_push_for_a_foreign_group_is_forwarded_once(void **state)
{
    struct world *w = *state;
    char name[32];
    struct peal_frame forward;
    struct peal_envelope env;
    push(w, name_of("room", 1, name));
    assert_int_equal(w->forwarded_count, 1);
    assert_int_equal(w->forwarded[0].to, 1);
    decode(&w->forwarded[0], &forward);
    assert_int_equal(forward.type, PEAL_F_FORWARD);
    assert_int_equal(peal_envelope_decode(forward.envelope, &env), PEAL_OK);
    assert_true(peal_span_is(env.group, name));
    peal_frame_fini(&forward);

    /* The same, had it come to a router that does not own it either: it ends here. */
    peal_shard_on_push(w->shard, peal_bytes_span(w->forwarded[0].bytes));
    assert_int_equal(w->forwarded_count, 1);
    /* And a full socket does not hold anything up. */
    w->forward_full = true;
    push(w, name);
    assert_int_equal(w->forwarded_count, 1);
}

static void cluster_forwarded_push_is_published_by_the_owner(void **state)
{
    struct world *w = *state;
    char name[32];
    struct peal_frame join = {
        .type = PEAL_F_JOIN, .req = 7, .group = peal_span_of(name_of("room", 0, name))};
    struct peal_envelope env = {.group = peal_span_of(name), .data = peal_span_of("5")};
    struct peal_buf inner = {0};
    struct peal_buf outer = {0};
    from_node(w, &join);
    peal_envelope_encode(&env, &inner);
    struct peal_frame forward = {.type = PEAL_F_FORWARD, .envelope = peal_buf_span(&inner)};
    peal_frame_encode(&forward, &outer);
    peal_shard_on_push(w->shard, peal_buf_span(&outer));
    peal_shard_flush(w->shard);
    struct peal_frame batch;
    struct peal_frame entry;
    last_entry(w, &batch, &entry);
    assert_int_equal(entry.type, PEAL_F_MESSAGE);
    assert_int_equal(peal_envelope_decode(entry.envelope, &env), PEAL_OK);
    assert_int_equal(env.offset, 1);
    assert_true(peal_span_is(env.data, "5"));
    peal_frame_fini(&batch);
    peal_buf_fini(&inner);
    peal_buf_fini(&outer);
}

static void cluster_slot_taken_by_another_is_forgotten_with_its_groups(void **state)
{
    struct world *w = *state;
    struct peal_slot slots[PEAL_SLOTS];
    char name[32];
    char stays[32];
    struct peal_frame join = {
        .type = PEAL_F_JOIN, .req = 7, .group = peal_span_of(name_of("room", 0, name))};
    struct peal_frame other = {
        .type = PEAL_F_JOIN, .req = 8, .group = peal_span_of(name_of("stays", 0, stays))};
    struct peal_frame inbox = {.type = PEAL_F_JOIN, .req = 9, .group = peal_span_of("user:0")};
    from_node(w, &join);
    from_node(w, &other);
    from_node(w, &inbox);
    while (w->op_count > 0)
        store_done(w);
    push(w, name);

    peal_slots_seed(slots, ROUTERS);
    uint16_t slot = peal_group_slot(peal_span_of(name));
    assert_int_not_equal(slot, peal_group_slot(peal_span_of(stays)));
    slots[slot] = (struct peal_slot){.owner = 2, .generation = 1};
    from_router(w, 2, slots);
    forget(w);
    push(w, name); /* not mine any more, and not yet known to the disk whose it is */
    assert_int_equal(w->batch_count, 0);
    assert_int_equal(w->forwarded_count, 0);
    assert_int_equal(store_done(w), PEAL_STORE_SLOTS);
    push(w, name);
    assert_int_equal(w->forwarded_count, 1);
    assert_int_equal(w->forwarded[0].to, 2);
    push(w, stays);
    assert_int_equal(w->batch_count, 1);

    /* It comes back: nothing is left that could give an offset twice in an epoch. */
    slots[slot] = (struct peal_slot){.owner = 0, .generation = 2};
    from_router(w, 2, slots);
    assert_int_equal(store_done(w), PEAL_STORE_SLOTS);
    struct peal_frame batch;
    struct peal_frame entry;
    from_node(w, &join);
    last_entry(w, &batch, &entry);
    assert_int_equal(entry.type, PEAL_F_JOINED);
    assert_int_equal(entry.offset, 0);
    peal_frame_fini(&batch);
}

static void cluster_contradicted_slot_is_refused(void **state)
{
    struct world *w = *state;
    struct peal_slot slots[PEAL_SLOTS];
    char name[32];
    struct peal_frame published;
    struct peal_frame receipt;
    const char *const groups[] = {name_of("room", 0, name)};
    peal_slots_seed(slots, ROUTERS);
    slots[peal_group_slot(peal_span_of(name))].owner = 1;
    from_router(w, 1, slots);
    publish(w, 4, groups, 1);
    decode(&w->replies[w->reply_count - 1], &published);
    assert_int_equal(published.type, PEAL_F_PUBLISHED);
    assert_int_equal(peal_frame_decode(published.entries.at[0], &receipt), PEAL_OK);
    assert_int_equal(receipt.code, PEAL_ENO_ROUTER);
    peal_frame_fini(&published);
    push(w, name);
    assert_int_equal(w->forwarded_count, 0);
}

static void cluster_record_of_the_store_beats_the_configuration(void **state)
{
    struct world *w = *state;
    struct peal_holdings *h = malloc(sizeof *h);
    struct peal_buf record = {0};
    char name[32];
    peal_holdings_init(h, 0, 1); /* it was alone once */
    peal_holdings_seed(h);
    peal_holdings_written(h, h->version);
    peal_holdings_record(h, &record);
    free(h);
    peal_shard_free(w->shard);
    start(w, peal_buf_span(&record));
    assert_int_equal(w->op_count, 0);
    assert_false(peal_shard_unsettled(w->shard));
    struct peal_frame batch;
    struct peal_frame entry;
    struct peal_frame join = {
        .type = PEAL_F_JOIN, .req = 7, .group = peal_span_of(name_of("room", 2, name))};
    from_node(w, &join);
    last_entry(w, &batch, &entry);
    assert_int_equal(entry.type, PEAL_F_JOINED);
    peal_frame_fini(&batch);
    peal_buf_fini(&record);
}

static void cluster_record_of_another_router_stops_the_start(void **state)
{
    struct world *w = *state;
    struct peal_holdings *h = malloc(sizeof *h);
    struct peal_buf record = {0};
    struct peal_cluster_io others = {w, io_tell, io_forward};
    char why[200] = "";
    peal_holdings_init(h, 2, 3);
    peal_holdings_seed(h);
    peal_holdings_record(h, &record);
    free(h);
    assert_int_equal(peal_shard_join_cluster(w->shard, &others, 0, ROUTERS, peal_buf_span(&record),
                                             why, sizeof why),
                     PEAL_ECONFIG);
    assert_non_null(strstr(why, "router 2"));
    record.size /= 2;
    assert_int_equal(peal_shard_join_cluster(w->shard, &others, 0, ROUTERS, peal_buf_span(&record),
                                             why, sizeof why),
                     PEAL_ECORRUPT);
    peal_buf_fini(&record);
}

static void cluster_ids_of_routers_are_not_those_of_nodes(void **state)
{
    (void)state;
    char id[PEAL_ROUTER_ID_SIZE];
    uint64_t boot;
    peal_router_id_of(0xabc, id);
    assert_true(peal_router_id_is(peal_span_make(id, sizeof id)));
    assert_false(peal_router_id_is(peal_span_make(id, sizeof id - 1)));
    assert_int_not_equal(peal_topic_parse(peal_span_make(id, sizeof id), &boot), PEAL_OK);
    peal_topic_of(0xabc, id);
    assert_false(peal_router_id_is(peal_span_make(id, sizeof id)));
}

int main(void)
{
#define TEST(name)     cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_NEW(name) cmocka_unit_test_setup_teardown(name, setup_new, teardown)
    const struct CMUnitTest tests[] = {
        TEST_NEW(cluster_new_router_serves_nothing_until_it_knows_its_slots),
        TEST(cluster_table_is_told_to_the_others_every_second),
        TEST(cluster_join_of_a_foreign_group_is_answered_with_its_owner),
        TEST(cluster_sync_with_foreign_groups_gets_the_table_and_rows_for_its_own_only),
        TEST_NEW(cluster_sync_of_what_nobody_owns_yet_is_not_confirmed),
        TEST(cluster_foreign_request_comes_back_with_its_owner),
        TEST(cluster_publish_of_many_gives_back_the_foreign_ones_alone),
        TEST(cluster_publisher_at_the_door_is_told_where_the_owner_is),
        TEST(cluster_push_for_a_foreign_group_is_forwarded_once),
        TEST(cluster_forwarded_push_is_published_by_the_owner),
        TEST(cluster_slot_taken_by_another_is_forgotten_with_its_groups),
        TEST(cluster_contradicted_slot_is_refused),
        TEST(cluster_record_of_the_store_beats_the_configuration),
        TEST(cluster_record_of_another_router_stops_the_start),
        cmocka_unit_test(cluster_ids_of_routers_are_not_those_of_nodes),
    };
    return cmocka_run_group_tests_name("cluster", tests, NULL, NULL);
}

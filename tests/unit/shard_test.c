#include "router/shard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/metrics.h"
#include "proto/group.h"
#include "proto/parcel.h"
#include "proto/wire.h"
#include "tests/unit/unit.h"

/* In place of the sockets a recorder, in place of the store a few lines that number: what is
 * submitted waits until the test lets it be done, as it does for a commit. */
enum { FRAMES_MAX = 512, OPS_MAX = 512 };
struct world {
    struct peal_config *config;
    struct peal_shard *shard;
    uint64_t now_ms;
    struct peal_bytes *replies[FRAMES_MAX];
    struct peal_peer peers[FRAMES_MAX];
    size_t reply_count;
    struct peal_bytes *batches[FRAMES_MAX];
    uint64_t batch_boots[FRAMES_MAX];
    size_t batch_count;
    struct peal_store_op *ops[OPS_MAX];
    size_t op_count;
    size_t op_room;
    struct peal_store_fetch *fetches[16];
    size_t fetch_count;
    bool reader_full;
    uint64_t stored; /* offset of the last stored message, one durable group is enough here */
    uint64_t rev;
};

static void io_reply(void *ctx, const struct peal_peer *peer, struct peal_span bytes)
{
    struct world *w = ctx;
    assert_true(w->reply_count < FRAMES_MAX);
    w->peers[w->reply_count] = *peer;
    w->replies[w->reply_count++] = peal_bytes_new(bytes.at, bytes.size);
}

static void io_topic(void *ctx, uint64_t boot, struct peal_span bytes)
{
    struct world *w = ctx;
    assert_true(w->batch_count < FRAMES_MAX);
    w->batch_boots[w->batch_count] = boot;
    w->batches[w->batch_count++] = peal_bytes_new(bytes.at, bytes.size);
}

static enum peal_err io_submit(void *ctx, struct peal_store_op *op)
{
    struct world *w = ctx;
    if (w->op_count >= w->op_room) return PEAL_EQUEUE_FULL;
    w->ops[w->op_count++] = op;
    return PEAL_OK;
}

static enum peal_err io_read(void *ctx, struct peal_store_fetch *fetch)
{
    struct world *w = ctx;
    if (w->reader_full) return PEAL_EQUEUE_FULL;
    assert_true(w->fetch_count < 16);
    w->fetches[w->fetch_count++] = fetch;
    return PEAL_OK;
}

static void forget(struct world *w)
{
    for (size_t i = 0; i < w->reply_count; i++)
        peal_bytes_unref(w->replies[i]);
    for (size_t i = 0; i < w->batch_count; i++)
        peal_bytes_unref(w->batches[i]);
    w->reply_count = 0;
    w->batch_count = 0;
}

static int setup(void **state)
{
    static const char yaml[] = "groups:\n"
                               "  - {match: 'user:{id}', durable: true}\n"
                               "  - {match: 'live:{id}'}\n"
                               "  - {match: 'here:{id}', presence: users}\n"
                               "  - {match: '*', history: {messages: 5, age: 60s}}\n";
    struct world *w = calloc(1, sizeof *w);
    struct peal_config_sources from = {.text = yaml, .text_size = sizeof yaml - 1};
    struct peal_buf problems = {0};
    assert_int_equal(peal_config_load(&from, &w->config, &problems), PEAL_OK);
    peal_buf_fini(&problems);
    struct peal_shard_io io = {w, io_reply, io_topic, io_submit, io_read};
    w->shard = peal_shard_new(w->config, &io, 1000);
    w->now_ms = 5000;
    w->op_room = OPS_MAX;
    peal_shard_set_time(w->shard, w->now_ms, 1700000000000);
    *state = w;
    return 0;
}

/* Lets the store finish its oldest operation. */
static void store_done(struct world *w, enum peal_err err)
{
    assert_true(w->op_count > 0);
    struct peal_store_op *op = w->ops[0];
    for (size_t i = 1; i < w->op_count; i++)
        w->ops[i - 1] = w->ops[i];
    w->op_count--;
    op->err = err;
    op->epoch = 77;
    if (op->kind == PEAL_STORE_PUT && err == PEAL_OK) {
        struct peal_envelope env;
        struct peal_buf buf = {0};
        assert_int_equal(peal_envelope_decode(op->message, &env), PEAL_OK);
        env.epoch = 77;
        env.offset = ++w->stored;
        peal_envelope_encode(&env, &buf);
        op->encoded = peal_bytes_new(buf.at, buf.size);
        peal_buf_fini(&buf);
        w->rev++;
    }
    if (op->kind == PEAL_STORE_MARK) op->changed = ++w->rev > 0;
    op->offset = w->stored;
    op->first = 1;
    op->unread = w->stored;
    op->rev = w->rev;
    peal_shard_on_done(w->shard, op);
}

static int teardown(void **state)
{
    struct world *w = *state;
    w->op_room = SIZE_MAX;
    while (w->op_count > 0)
        store_done(w, PEAL_OK);
    forget(w);
    for (size_t i = 0; i < w->fetch_count; i++)
        peal_store_fetch_free(w->fetches[i]);
    peal_shard_free(w->shard);
    peal_config_free(w->config);
    free(w);
    return 0;
}

static struct peal_peer node_peer(uint64_t boot)
{
    struct peal_peer peer = {.id_size = PEAL_TOPIC_SIZE};
    peal_topic_of(boot, peer.id);
    return peer;
}

static void from_node(struct world *w, uint64_t boot, const struct peal_frame *frame)
{
    struct peal_buf buf = {0};
    struct peal_peer peer = node_peer(boot);
    peal_frame_encode(frame, &buf);
    peal_shard_on_rpc(w->shard, &peer, peal_buf_span(&buf));
    peal_shard_flush(w->shard);
    peal_buf_fini(&buf);
}

static void join(struct world *w, uint64_t boot, uint64_t req, const char *group)
{
    struct peal_frame f = {.type = PEAL_F_JOIN, .req = req, .group = peal_span_of(group)};
    from_node(w, boot, &f);
}

static void push(struct world *w, const char *json)
{
    peal_shard_on_push(w->shard, peal_span_of(json));
    peal_shard_flush(w->shard);
}

/* The i-th entry of the last batch; *batch must be given to peal_frame_fini. */
static void last_entry(struct world *w, size_t i, struct peal_frame *batch,
                       struct peal_frame *entry)
{
    assert_true(w->batch_count > 0);
    struct peal_span bytes = peal_bytes_span(w->batches[w->batch_count - 1]);
    assert_int_equal(peal_frame_decode(bytes, batch), PEAL_OK);
    assert_true(i < batch->entries.count);
    assert_int_equal(peal_frame_decode(batch->entries.at[i], entry), PEAL_OK);
}

static void expect_message(struct world *w, uint64_t boot, const char *data, uint64_t offset)
{
    struct peal_frame batch;
    struct peal_frame entry;
    struct peal_envelope env;
    last_entry(w, 0, &batch, &entry);
    assert_true(w->batch_boots[w->batch_count - 1] == boot);
    assert_int_equal(entry.type, PEAL_F_MESSAGE);
    assert_int_equal(peal_envelope_decode(entry.envelope, &env), PEAL_OK);
    assert_true(peal_span_is(env.data, data));
    assert_int_equal(env.offset, offset);
    peal_frame_fini(&batch);
}

static void shard_link_is_answered_by_a_beat(void **state)
{
    struct world *w = *state;
    struct peal_frame batch;
    peal_shard_on_link(w->shard, 42);
    assert_int_equal(w->batch_count, 1);
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->batches[0]), &batch), PEAL_OK);
    assert_int_equal(batch.type, PEAL_F_BATCH);
    assert_int_equal(batch.boot, 1000);
    assert_true(batch.seq != 0); /* each entry of a node starts at a place of its own */
    assert_int_equal(batch.entries.count, 0);
    peal_frame_fini(&batch);
}

static void shard_joined_names_the_offset_after_which_messages_follow(void **state)
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

static void shard_batch_of_a_node_is_taken_apart(void **state)
{
    struct world *w = *state;
    struct peal_parcel parcel = {0};
    struct peal_frame join_a = {.type = PEAL_F_JOIN, .req = 5, .group = peal_span_of("room:a")};
    struct peal_frame join_b = {.type = PEAL_F_JOIN, .req = 6, .group = peal_span_of("room:b")};
    struct peal_frame fetch = {.type = PEAL_F_FETCH, .req = 7, .group = peal_span_of("room:a")};
    struct peal_frame nested = {.type = PEAL_F_BATCH, .boot = 1};
    assert_int_equal(peal_parcel_add(&parcel, &join_a), PEAL_OK);
    assert_int_equal(peal_parcel_add_bytes(&parcel, peal_span_of("junk")), PEAL_OK);
    assert_int_equal(peal_parcel_add(&parcel, &nested), PEAL_OK);
    assert_int_equal(peal_parcel_add(&parcel, &fetch), PEAL_OK);
    assert_int_equal(peal_parcel_add(&parcel, &join_b), PEAL_OK);
    struct peal_peer peer = node_peer(1);
    peal_shard_on_rpc(w->shard, &peer, peal_parcel_finish(&parcel, 1, 0));
    peal_shard_flush(w->shard);
    peal_parcel_fini(&parcel);

    /* What can be read is done, in order; both answers leave as one batch. */
    struct peal_frame frame;
    struct peal_frame entry;
    assert_int_equal(w->batch_count, 1);
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->batches[0]), &frame), PEAL_OK);
    assert_int_equal(frame.entries.count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(peal_frame_decode(frame.entries.at[i], &entry), PEAL_OK);
        assert_int_equal(entry.type, PEAL_F_JOINED);
        assert_int_equal(entry.req, 5 + i);
    }
    peal_frame_fini(&frame);
    assert_int_equal(w->reply_count, 1);
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->replies[0]), &frame), PEAL_OK);
    assert_int_equal(frame.type, PEAL_F_PAGE);
    assert_int_equal(frame.req, 7);
    peal_frame_fini(&frame);
}

static void shard_message_goes_once_to_each_node_that_wants_it(void **state)
{
    struct world *w = *state;
    join(w, 42, 1, "room");
    join(w, 42, 2, "room"); /* twice is once */
    join(w, 43, 3, "room");
    join(w, 44, 4, "other");
    forget(w);
    push(w, "{\"group\":\"room\",\"data\":\"x\"}");
    assert_int_equal(w->batch_count, 2);
    assert_true(w->batch_boots[0] != w->batch_boots[1]);
    struct peal_frame leave = {.type = PEAL_F_LEAVE, .group = peal_span_of("room")};
    from_node(w, 42, &leave);
    forget(w);
    push(w, "{\"group\":\"room\",\"data\":\"y\"}");
    assert_int_equal(w->batch_count, 1);
    expect_message(w, 43, "\"y\"", 2);
}

static void shard_list_leaves_as_one_batch_in_order(void **state)
{
    struct world *w = *state;
    struct peal_frame batch;
    struct peal_frame entry;
    join(w, 42, 1, "room");
    forget(w);
    push(w, "[{\"group\":\"room\",\"data\":1},{\"group\":\"room\",\"data\":2},"
            "{\"group\":\"room\"},{\"group\":\"room\",\"data\":3}]");
    assert_int_equal(w->batch_count, 1);
    for (size_t i = 0; i < 3; i++) {
        struct peal_envelope env;
        last_entry(w, i, &batch, &entry);
        assert_int_equal(batch.entries.count, 3); /* the one without data was refused */
        assert_int_equal(peal_envelope_decode(entry.envelope, &env), PEAL_OK);
        assert_int_equal(env.offset, i + 1);
        peal_frame_fini(&batch);
    }
}

/* More than are worked on at once, some of them wrong, in several bodies. */
static void shard_many_pushes_are_numbered_in_order(void **state)
{
    struct world *w = *state;
    enum { COUNT = 50 };
    struct peal_buf lists[2] = {{0}, {0}};
    struct peal_span bodies[3];
    uint64_t n = 0;
    for (int b = 0; b < 2; b++) {
        for (int i = 0; i < COUNT; i++) {
            peal_buf_add_text(&lists[b], i == 0 ? "[" : ",");
            if (i % 7 == 3)
                peal_buf_add_text(&lists[b], "{\"group\":\"\",\"data\":0}");
            else
                peal_buf_add_format(&lists[b], "{\"group\":\"live:a\",\"data\":%llu}",
                                    (unsigned long long)++n);
        }
        peal_buf_add_char(&lists[b], ']');
        bodies[2 * b] = peal_buf_span(&lists[b]);
    }
    bodies[1] = peal_span_of("junk");
    join(w, 1, 1, "live:a");
    forget(w);
    peal_shard_on_pushes(w->shard, bodies, 3);
    peal_shard_flush(w->shard);
    peal_buf_fini(&lists[0]);
    peal_buf_fini(&lists[1]);

    struct peal_frame batch;
    assert_int_equal(w->batch_count, 1);
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->batches[0]), &batch), PEAL_OK);
    assert_int_equal(batch.entries.count, n);
    for (uint64_t i = 0; i < n; i++) {
        struct peal_frame entry;
        struct peal_envelope env;
        char data[24];
        assert_int_equal(peal_frame_decode(batch.entries.at[i], &entry), PEAL_OK);
        assert_int_equal(peal_envelope_decode(entry.envelope, &env), PEAL_OK);
        snprintf(data, sizeof data, "%llu", (unsigned long long)i + 1);
        assert_true(peal_span_is(env.data, data));
        assert_int_equal(env.offset, i + 1);
    }
    peal_frame_fini(&batch);
}

/* From a node, with one answer for all. */
static void shard_long_publish_of_a_node_is_answered_in_order(void **state)
{
    struct world *w = *state;
    enum { COUNT = 50 };
    struct peal_buf bufs[COUNT];
    struct peal_span entries[COUNT];
    for (int i = 0; i < COUNT; i++) {
        struct peal_envelope env = {.group = peal_span_of(i % 5 == 2 ? "\n" : "live:a"),
                                    .data = peal_span_of("1")};
        bufs[i] = (struct peal_buf){0};
        peal_envelope_encode(&env, &bufs[i]);
        entries[i] = i % 5 == 4 ? peal_span_of("junk") : peal_buf_span(&bufs[i]);
    }
    struct peal_frame publish = {.type = PEAL_F_PUBLISH, .req = 9};
    publish.entries.at = entries;
    publish.entries.count = COUNT;
    from_node(w, 1, &publish);
    for (int i = 0; i < COUNT; i++)
        peal_buf_fini(&bufs[i]);

    struct peal_frame answer;
    uint64_t offset = 0;
    assert_int_equal(w->reply_count, 1);
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->replies[0]), &answer), PEAL_OK);
    assert_int_equal(answer.type, PEAL_F_PUBLISHED);
    assert_int_equal(answer.entries.count, COUNT);
    for (int i = 0; i < COUNT; i++) {
        struct peal_frame receipt;
        assert_int_equal(peal_frame_decode(answer.entries.at[i], &receipt), PEAL_OK);
        if (i % 5 == 2)
            assert_int_equal(receipt.code, PEAL_EBAD_GROUP);
        else if (i % 5 == 4)
            assert_int_equal(receipt.code, PEAL_EBAD_MESSAGE);
        else
            assert_int_equal(receipt.offset, ++offset);
    }
    peal_frame_fini(&answer);
}

static void shard_stored_message_is_acknowledged_and_sent_after_the_commit(void **state)
{
    struct world *w = *state;
    struct peal_frame batch;
    struct peal_frame entry;
    join(w, 42, 1, "user:bob");
    assert_int_equal(w->batch_count, 0); /* the store is asked where the inbox is */
    store_done(w, PEAL_OK);
    peal_shard_flush(w->shard);
    last_entry(w, 0, &batch, &entry);
    assert_int_equal(entry.type, PEAL_F_JOINED);
    assert_int_equal(entry.epoch, 77);
    peal_frame_fini(&batch);
    forget(w);

    struct peal_envelope env = {.group = peal_span_of("user:bob"), .data = peal_span_of("5")};
    struct peal_buf buf = {0};
    peal_envelope_encode(&env, &buf);
    struct peal_span span = peal_buf_span(&buf);
    struct peal_frame publish = {.type = PEAL_F_PUBLISH, .req = 6};
    publish.entries.at = &span;
    publish.entries.count = 1;
    from_node(w, 43, &publish);
    peal_buf_fini(&buf);
    assert_int_equal(w->reply_count, 0);
    assert_int_equal(w->batch_count, 0);
    store_done(w, PEAL_OK);
    peal_shard_flush(w->shard);
    expect_message(w, 42, "5", 1);
    assert_int_equal(w->reply_count, 1);
    struct peal_frame answer;
    struct peal_frame receipt;
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->replies[0]), &answer), PEAL_OK);
    assert_int_equal(answer.type, PEAL_F_PUBLISHED);
    assert_int_equal(answer.req, 6);
    assert_int_equal(peal_frame_decode(answer.entries.at[0], &receipt), PEAL_OK);
    assert_int_equal(receipt.code, PEAL_OK);
    assert_int_equal(receipt.offset, 1);
    assert_int_equal(receipt.flags, PEAL_FLAG_STORED);
    assert_int_equal(receipt.id.size, 26); /* a ULID was made */
    peal_frame_fini(&answer);
}

static void shard_failed_commit_is_never_acknowledged(void **state)
{
    struct world *w = *state;
    static const char call[] = "\x83\xa2op\xa7publish\xa3req\x07\xa8messages\x91\x82\xa4user\xa3"
                               "bob\xa4"
                               "data\x05";
    struct peal_peer peer = {.id_size = 4, .delimiters = 1, .id = {1, 2, 3, 4}};
    peal_shard_on_rpc(w->shard, &peer, peal_span_make(call, sizeof call - 1));
    store_done(w, PEAL_ESTORE_FULL);
    assert_int_equal(w->reply_count, 1);
    assert_int_equal(w->peers[0].delimiters, 1);
    struct peal_span reply = peal_bytes_span(w->replies[0]);
    assert_non_null(memmem(reply.at, reply.size, "store_full", 10));
    assert_null(memmem(reply.at, reply.size, "stored", 6));
}

/* {op, req, messages: [{user: bob, data: 5} * count]} */
static void call_of(struct world *w, const char *name, unsigned char req, size_t count)
{
    static const char one[] = "\x82\xa4user\xa3"
                              "bob\xa4"
                              "data\x05";
    struct peal_buf call = {0};
    struct peal_peer peer = {.id_size = (unsigned char)strlen(name)};
    memcpy(peer.id, name, strlen(name));
    peal_buf_add_text(&call, "\x83\xa2op\xa7publish\xa3req");
    peal_buf_add_char(&call, (char)req);
    peal_buf_add_text(&call, "\xa8messages\xdc");
    peal_buf_add_char(&call, (char)(count >> 8));
    peal_buf_add_char(&call, (char)count);
    for (size_t i = 0; i < count; i++)
        peal_buf_add(&call, one, sizeof one - 1);
    peal_shard_on_rpc(w->shard, &peer, peal_buf_span(&call));
    peal_buf_fini(&call);
}

static size_t count_of(struct peal_span bytes, const char *word)
{
    size_t count = 0;
    const char *at = bytes.at;
    const char *end = bytes.at + bytes.size;
    while ((at = memmem(at, (size_t)(end - at), word, strlen(word))) != NULL) {
        count++;
        at += strlen(word);
    }
    return count;
}

static int64_t publishes_not_accounted_for(void)
{
    return peal_metrics_sum(PEAL_M_ACCEPTED) - peal_metrics_sum(PEAL_M_NUMBERED) -
           peal_metrics_sum(PEAL_M_DUPLICATE) - peal_metrics_sum(PEAL_M_WAITING) -
           peal_metrics_sum(PEAL_M_REFUSED_INVALID) - peal_metrics_sum(PEAL_M_REFUSED_QUEUE) -
           peal_metrics_sum(PEAL_M_REFUSED_STORE) - peal_metrics_sum(PEAL_M_REFUSED_ERROR);
}

static void shard_publisher_beyond_its_credit_is_told_and_leaves_room_for_others(void **state)
{
    struct world *w = *state;
    peal_metrics_thread_start();
    int64_t waiting = peal_metrics_sum(PEAL_M_WAITING);
    w->op_room = 0;
    for (unsigned char req = 1; req <= 10; req++)
        call_of(w, "greedy", req, 1000);
    /* The ninth call waits for those of its messages that were taken. */
    assert_int_equal(w->reply_count, 1);
    struct peal_span reply = peal_bytes_span(w->replies[0]);
    assert_int_equal(count_of(reply, "rate_limited"), 1000);
    assert_int_equal(count_of(reply, "after_ms"), 1000);
    assert_int_equal(peal_metrics_sum(PEAL_M_WAITING) - waiting, 8192);
    assert_int_equal(publishes_not_accounted_for(), 0);
    forget(w);

    call_of(w, "modest", 1, 1);
    assert_int_equal(w->reply_count, 0); /* it waits for the store, as it should */
    w->op_room = OPS_MAX;
    peal_shard_on_tick(w->shard);
    while (w->op_count > 0)
        store_done(w, PEAL_OK);
    assert_int_equal(w->reply_count, 10);
    assert_int_equal(w->peers[9].id_size, strlen("modest"));
    size_t stored = 0;
    size_t refused = 0;
    for (size_t i = 0; i < w->reply_count; i++) {
        stored += count_of(peal_bytes_span(w->replies[i]), "stored");
        refused += count_of(peal_bytes_span(w->replies[i]), "rate_limited");
    }
    assert_int_equal(stored, 8192 + 1);
    assert_int_equal(refused, 808);
    assert_int_equal(peal_metrics_sum(PEAL_M_WAITING), waiting);
    assert_int_equal(publishes_not_accounted_for(), 0);
    forget(w);

    call_of(w, "greedy", 11, 1); /* and it may go on */
    store_done(w, PEAL_OK);
    assert_int_equal(count_of(peal_bytes_span(w->replies[0]), "stored"), 1);
}

static void shard_retry_with_the_same_id_is_a_duplicate(void **state)
{
    struct world *w = *state;
    join(w, 42, 1, "room");
    push(w, "{\"group\":\"room\",\"data\":1,\"message_id\":\"m\"}");
    forget(w);
    push(w, "{\"group\":\"room\",\"data\":1,\"message_id\":\"m\"}");
    assert_int_equal(w->batch_count, 0);
    push(w, "{\"group\":\"room\",\"data\":1,\"message_id\":\"n\"}");
    expect_message(w, 42, "1", 2);
}

static void shard_operations_beyond_the_stores_room_wait_in_order(void **state)
{
    struct world *w = *state;
    char json[64];
    w->op_room = 2;
    for (int i = 1; i <= 10; i++) {
        snprintf(json, sizeof json, "{\"user\":\"bob\",\"data\":%d}", i);
        push(w, json);
    }
    assert_int_equal(peal_shard_waiting(w->shard), 8);
    for (int i = 1; i <= 10; i++) {
        struct peal_envelope env;
        snprintf(json, sizeof json, "%d", i);
        assert_int_equal(peal_envelope_decode(w->ops[0]->message, &env), PEAL_OK);
        assert_true(peal_span_is(env.data, json));
        store_done(w, PEAL_OK);
    }
    assert_int_equal(peal_shard_waiting(w->shard), 0);
}

static void fetch(struct world *w, const char *group, uint64_t epoch, uint64_t offset,
                  struct peal_frame *page)
{
    struct peal_frame f = {.type = PEAL_F_FETCH,
                           .req = 5,
                           .group = peal_span_of(group),
                           .epoch = epoch,
                           .offset = offset,
                           .limit = 100,
                           .bytes = 100000};
    forget(w);
    from_node(w, 42, &f);
    assert_int_equal(w->reply_count, 1);
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->replies[0]), page), PEAL_OK);
    assert_int_equal(page->type, PEAL_F_PAGE);
    assert_int_equal(page->req, 5);
}

static void expect_gap(const struct peal_frame *page, uint64_t from, uint64_t to, uint64_t why)
{
    struct peal_frame gap;
    assert_true(page->entries.count > 0);
    assert_int_equal(peal_frame_decode(page->entries.at[0], &gap), PEAL_OK);
    assert_int_equal(gap.type, PEAL_F_GAP);
    assert_int_equal(gap.from, from);
    assert_int_equal(gap.to, to);
    assert_int_equal(gap.why, why);
    peal_frame_fini(&gap);
}

static void shard_page_tells_what_history_no_longer_has(void **state)
{
    struct world *w = *state;
    struct peal_frame page;
    join(w, 42, 1, "room");
    for (int i = 0; i < 8; i++)
        push(w, "{\"group\":\"room\",\"data\":1}"); /* 5 are kept: 4..8 */
    fetch(w, "room", 1001, 6, &page);
    assert_int_equal(page.entries.count, 2);
    assert_int_equal(page.offset, 8);
    peal_frame_fini(&page);
    fetch(w, "room", 1001, 1, &page);
    expect_gap(&page, 2, 3, PEAL_GAP_EVICTED);
    assert_int_equal(page.entries.count, 6);
    assert_int_equal(page.offset, 8);
    peal_frame_fini(&page);
    fetch(w, "room", 999, 8, &page); /* another epoch */
    expect_gap(&page, 1, 3, PEAL_GAP_EPOCH);
    assert_int_equal(page.entries.count, 6);
    peal_frame_fini(&page);
    fetch(w, "room", 1001, 9, &page); /* ahead of the head is never up to date */
    expect_gap(&page, 1, 3, PEAL_GAP_EPOCH);
    peal_frame_fini(&page);
}

/* Nobody waits for the reader: the node is told, and asks again. */
static void shard_page_the_reader_has_no_room_for_is_refused(void **state)
{
    struct world *w = *state;
    struct peal_frame in = {.type = PEAL_F_FETCH, .req = 7, .group = peal_span_of("user:bob")};
    struct peal_frame page;
    w->reader_full = true;
    from_node(w, 42, &in);
    assert_int_equal(w->fetch_count, 0);
    assert_int_equal(w->reply_count, 1);
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->replies[0]), &page), PEAL_OK);
    assert_int_equal(page.type, PEAL_F_PAGE);
    assert_int_equal(page.req, 7);
    assert_int_equal(page.code, PEAL_EQUEUE_FULL);
    peal_frame_fini(&page);
    w->reader_full = false;
    from_node(w, 42, &in);
    assert_int_equal(w->fetch_count, 1);
}

static void shard_page_of_a_group_that_keeps_nothing_is_a_gap(void **state)
{
    struct world *w = *state;
    struct peal_frame page;
    join(w, 42, 1, "live:1");
    push(w, "{\"group\":\"live:1\",\"data\":1}");
    push(w, "{\"group\":\"live:1\",\"data\":1}");
    fetch(w, "live:1", 1001, 1, &page);
    expect_gap(&page, 2, 2, PEAL_GAP_UNREPAIRED);
    assert_int_equal(page.offset, 2);
    peal_frame_fini(&page);
}

/* The end of the turn, in which rows go that a sync did not name. */
static void sweep(struct world *w)
{
    while (peal_shard_busy(w->shard))
        peal_shard_on_tick(w->shard);
}

static void shard_sync_makes_the_table_exactly_what_the_node_holds(void **state)
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

static void shard_sync_that_lost_a_page_is_not_confirmed(void **state)
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

static void shard_check_of_what_the_router_has_is_not_answered(void **state)
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

static void shard_named_slot_becomes_exactly_that_and_others_stay(void **state)
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
static void shard_group_named_without_a_position_keeps_its_row_and_gets_none(void **state)
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

static void shard_named_slot_that_lost_a_page_removes_nothing(void **state)
{
    struct world *w = *state;
    join(w, 42, 1, "live:a");
    forget(w);
    sync_slot(w, 42, "live:a", PEAL_FLAG_LAST, NULL, 0, 1000); /* the first page was lost */
    push(w, "{\"group\":\"live:a\",\"data\":1}");
    assert_int_equal(w->batch_count, 1);
}

static void shard_named_slot_asks_the_store_only_for_what_differs(void **state)
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

static void shard_silent_node_is_dropped_and_gets_a_new_sequence(void **state)
{
    struct world *w = *state;
    struct peal_frame batch;
    struct peal_frame entry;
    join(w, 42, 1, "room");
    last_entry(w, 0, &batch, &entry);
    uint64_t before = batch.seq;
    peal_frame_fini(&entry);
    peal_frame_fini(&batch);
    forget(w);
    peal_shard_set_time(w->shard, w->now_ms + PEAL_BEAT_LOST_MS + 1, 1700000000000);
    peal_shard_on_tick(w->shard);
    push(w, "{\"group\":\"room\",\"data\":1}");
    assert_int_equal(w->batch_count, 0);

    /* As many batches as the first time, and yet not the same number: had they been lost, a node
     * that slept must not take the next beat for the one that it knows. */
    join(w, 42, 2, "room");
    last_entry(w, 0, &batch, &entry);
    assert_int_not_equal(batch.seq, before);
    peal_frame_fini(&entry);
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

static void shard_node_that_was_dropped_finds_its_group_in_the_same_epoch(void **state)
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
static void shard_group_made_again_is_never_taken_for_the_one_before(void **state)
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

static void shard_position_in_a_durable_group_is_shown_to_the_store(void **state)
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

static void shard_mark_is_told_to_all_nodes_of_the_inbox(void **state)
{
    struct world *w = *state;
    join(w, 42, 1, "user:bob");
    store_done(w, PEAL_OK);
    join(w, 43, 2, "user:bob");
    store_done(w, PEAL_OK);
    peal_shard_flush(w->shard);
    forget(w);
    struct peal_frame mark = {.type = PEAL_F_MARK,
                              .req = 3,
                              .group = peal_span_of("user:bob"),
                              .flags = PEAL_FLAG_READ,
                              .upto = 4};
    from_node(w, 42, &mark);
    store_done(w, PEAL_OK);
    peal_shard_flush(w->shard);
    assert_int_equal(w->batch_count, 2);
    struct peal_frame batch;
    struct peal_frame entry;
    last_entry(w, 0, &batch, &entry);
    assert_int_equal(entry.type, PEAL_F_STATE);
    assert_int_equal(entry.upto, 4);
    assert_int_equal(entry.flags, PEAL_FLAG_READ);
    peal_frame_fini(&batch);
    assert_int_equal(w->reply_count, 1);
}

static void shard_mark_of_a_group_that_is_no_inbox_is_refused(void **state)
{
    struct world *w = *state;
    struct peal_frame mark = {
        .type = PEAL_F_MARK, .req = 3, .group = peal_span_of("room"), .flags = PEAL_FLAG_READ};
    struct peal_frame answer;
    from_node(w, 42, &mark);
    assert_int_equal(w->op_count, 0);
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->replies[0]), &answer), PEAL_OK);
    assert_int_equal(answer.code, PEAL_EBAD_GROUP);
    peal_frame_fini(&answer);
}

/* Session 1 of ann is in the group, and somebody there watches. */
static void present(struct world *w, uint64_t boot, const char *group, uint64_t flags)
{
    struct peal_person ann = {peal_span_of("ann"), boot, 1};
    struct peal_frame f = {.type = PEAL_F_PRESENT,
                           .req = 7,
                           .group = peal_span_of(group),
                           .flags = flags,
                           .to = 1,
                           .limit = 1};
    f.people.at = &ann;
    f.people.count = 1;
    from_node(w, boot, &f);
}

enum { ALL_OF_IT = PEAL_FLAG_ALL | PEAL_FLAG_FIRST | PEAL_FLAG_LAST };

/* Asks and gives the answer, which needs no fini: only its numbers are looked at. */
static struct peal_frame who(struct world *w, const char *group)
{
    struct peal_frame f = {.type = PEAL_F_WHO, .req = 9, .group = peal_span_of(group), .limit = 10};
    struct peal_frame batch;
    struct peal_frame answer;
    from_node(w, 50, &f);
    last_entry(w, 0, &batch, &answer);
    assert_int_equal(answer.type, PEAL_F_PRESENCE);
    assert_int_equal(answer.req, 9);
    peal_frame_fini(&batch);
    struct peal_frame numbers = answer;
    peal_frame_fini(&answer);
    return numbers;
}

static void tick(struct world *w, uint64_t ms, uint64_t silent)
{
    struct peal_frame beat = {.type = PEAL_F_BEAT};
    for (uint64_t i = 0; i < ms / 250; i++) {
        w->now_ms += 250;
        peal_shard_set_time(w->shard, w->now_ms, 1700000000000);
        for (uint64_t boot = 42; boot <= 43; boot++)
            if (boot != silent) from_node(w, boot, &beat);
        peal_shard_on_tick(w->shard);
        peal_shard_flush(w->shard);
        forget(w);
    }
}

static void shard_report_of_who_is_there_is_answered_in_order_with_messages(void **state)
{
    struct world *w = *state;
    struct peal_frame batch;
    struct peal_frame entry;
    present(w, 42, "here:1", ALL_OF_IT);
    last_entry(w, 0, &batch, &entry);
    assert_int_equal(entry.type, PEAL_F_PRESENTED);
    assert_int_equal(entry.req, 7);
    assert_int_equal(entry.code, PEAL_OK);
    peal_frame_fini(&entry);
    peal_frame_fini(&batch);
    struct peal_frame answer = who(w, "here:1");
    assert_int_equal(answer.code, PEAL_OK);
    assert_int_equal(answer.users, 1);
    assert_int_equal(answer.connections, 1);
    assert_int_equal(answer.flags, PEAL_FLAG_SETTLING);
    /* On top of nothing: all of it is asked for. */
    present(w, 43, "here:1", 0);
    last_entry(w, 0, &batch, &entry);
    assert_int_equal(entry.code, PEAL_EAGAIN);
    peal_frame_fini(&entry);
    peal_frame_fini(&batch);
}

static void shard_presence_that_is_off_is_refused_and_costs_nothing(void **state)
{
    struct world *w = *state;
    struct peal_frame batch;
    struct peal_frame entry;
    present(w, 42, "room", ALL_OF_IT);
    last_entry(w, 0, &batch, &entry);
    assert_int_equal(entry.code, PEAL_EBAD_FIELD);
    peal_frame_fini(&entry);
    peal_frame_fini(&batch);
    assert_int_equal(who(w, "room").code, PEAL_EBAD_FIELD);
    assert_int_equal(who(w, "\n").code, PEAL_EBAD_GROUP);
}

static void shard_people_of_a_silent_node_leave_after_the_grace(void **state)
{
    struct world *w = *state;
    present(w, 42, "here:1", ALL_OF_IT);
    tick(w, 10000, 0); /* settled */
    present(w, 43, "here:1", ALL_OF_IT | PEAL_FLAG_WATCH);
    tick(w, 6000, 0);
    assert_int_equal(who(w, "here:1").connections, 2);
    tick(w, 5000, 42);
    /* Ann has a connection at the other node. */
    struct peal_frame answer = who(w, "here:1");
    assert_int_equal(answer.connections, 1);
    assert_int_equal(answer.users, 1);
    tick(w, 4750, 43);
    answer = who(w, "here:1");
    assert_int_equal(answer.connections, 0);
    assert_int_equal(answer.users, 1);
    tick(w, 5000, 43);
    assert_int_equal(who(w, "here:1").users, 0);
}

static void shard_garbage_is_answered_or_ignored(void **state)
{
    struct world *w = *state;
    struct peal_peer stranger = {.id_size = 2, .id = "ab"};
    struct peal_peer node = node_peer(42);
    static const char *const junk[] = {"", "x", "\x91\x01", "\x80", "\xdf\xff\xff\xff\xff", "{"};
    for (size_t i = 0; i < sizeof junk / sizeof junk[0]; i++) {
        peal_shard_on_rpc(w->shard, &stranger, peal_span_of(junk[i]));
        peal_shard_on_rpc(w->shard, &node, peal_span_of(junk[i]));
        peal_shard_on_push(w->shard, peal_span_of(junk[i]));
    }
    assert_int_equal(w->op_count, 0);
}

/* A key of a publisher does not make it a node, whatever it calls itself. */
static void shard_publisher_may_publish_and_nothing_else(void **state)
{
    struct world *w = *state;
    struct peal_peer publisher = node_peer(42);
    struct peal_frame f = {.type = PEAL_F_JOIN, .req = 1, .group = peal_span_of("room:1")};
    struct peal_buf join_frame = {0};
    peal_metrics_thread_start();
    int64_t forbidden = peal_metrics_sum(PEAL_M_BUS_FORBIDDEN);
    publisher.publisher = true;
    peal_frame_encode(&f, &join_frame);
    peal_shard_on_rpc(w->shard, &publisher, peal_buf_span(&join_frame));
    peal_shard_on_rpc(w->shard, &publisher, peal_span_of("\x91\x01"));
    peal_shard_flush(w->shard);
    assert_int_equal(w->batch_count, 0); /* nothing was answered to a node */
    assert_int_equal(w->reply_count, 2);
    for (size_t i = 0; i < 2; i++) {
        struct peal_span said = peal_bytes_span(w->replies[i]);
        assert_non_null(memmem(said.at, said.size, "forbidden", 9));
    }
    assert_int_equal(peal_metrics_sum(PEAL_M_BUS_FORBIDDEN), forbidden + 2);
    peal_buf_fini(&join_frame);

    static const char call[] = "\x83\xa2op\xa7publish\xa3req\x07\xa8messages\x91\x82"
                               "\xa5group\xa6room:1\xa4"
                               "data\x01";
    peal_shard_on_rpc(w->shard, &publisher, peal_span_make(call, sizeof call - 1));
    assert_int_equal(w->reply_count, 3);
    struct peal_span said = peal_bytes_span(w->replies[2]);
    assert_non_null(memmem(said.at, said.size, "routed", 6));
}

int main(void)
{
    peal_metrics_thread_start();
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(shard_link_is_answered_by_a_beat),
        TEST(shard_joined_names_the_offset_after_which_messages_follow),
        TEST(shard_batch_of_a_node_is_taken_apart),
        TEST(shard_message_goes_once_to_each_node_that_wants_it),
        TEST(shard_list_leaves_as_one_batch_in_order),
        TEST(shard_many_pushes_are_numbered_in_order),
        TEST(shard_long_publish_of_a_node_is_answered_in_order),
        TEST(shard_stored_message_is_acknowledged_and_sent_after_the_commit),
        TEST(shard_failed_commit_is_never_acknowledged),
        TEST(shard_publisher_beyond_its_credit_is_told_and_leaves_room_for_others),
        TEST(shard_retry_with_the_same_id_is_a_duplicate),
        TEST(shard_operations_beyond_the_stores_room_wait_in_order),
        TEST(shard_page_tells_what_history_no_longer_has),
        TEST(shard_page_the_reader_has_no_room_for_is_refused),
        TEST(shard_page_of_a_group_that_keeps_nothing_is_a_gap),
        TEST(shard_sync_makes_the_table_exactly_what_the_node_holds),
        TEST(shard_sync_that_lost_a_page_is_not_confirmed),
        TEST(shard_check_of_what_the_router_has_is_not_answered),
        TEST(shard_named_slot_becomes_exactly_that_and_others_stay),
        TEST(shard_group_named_without_a_position_keeps_its_row_and_gets_none),
        TEST(shard_named_slot_that_lost_a_page_removes_nothing),
        TEST(shard_named_slot_asks_the_store_only_for_what_differs),
        TEST(shard_silent_node_is_dropped_and_gets_a_new_sequence),
        TEST(shard_node_that_was_dropped_finds_its_group_in_the_same_epoch),
        TEST(shard_group_made_again_is_never_taken_for_the_one_before),
        TEST(shard_position_in_a_durable_group_is_shown_to_the_store),
        TEST(shard_mark_is_told_to_all_nodes_of_the_inbox),
        TEST(shard_mark_of_a_group_that_is_no_inbox_is_refused),
        TEST(shard_report_of_who_is_there_is_answered_in_order_with_messages),
        TEST(shard_presence_that_is_off_is_refused_and_costs_nothing),
        TEST(shard_people_of_a_silent_node_leave_after_the_grace),
        TEST(shard_garbage_is_answered_or_ignored),
        TEST(shard_publisher_may_publish_and_nothing_else),
    };
    return cmocka_run_group_tests_name("shard", tests, NULL, NULL);
}

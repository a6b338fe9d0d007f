/* tests/unit/shard_rig.h: a shard between recorders: what it says is kept, what it hands to the
 * store waits until the test lets it be done. */
#ifndef PEAL_TESTS_SHARD_RIG_H
#define PEAL_TESTS_SHARD_RIG_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "proto/envelope.h"
#include "proto/wire.h"
#include "router/shard.h"
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

static inline void io_reply(void *ctx, const struct peal_peer *peer, struct peal_span bytes)
{
    struct world *w = ctx;
    assert_true(w->reply_count < FRAMES_MAX);
    w->peers[w->reply_count] = *peer;
    w->replies[w->reply_count++] = peal_bytes_new(bytes.at, bytes.size);
}

static inline void io_topic(void *ctx, uint64_t boot, struct peal_span bytes)
{
    struct world *w = ctx;
    assert_true(w->batch_count < FRAMES_MAX);
    w->batch_boots[w->batch_count] = boot;
    w->batches[w->batch_count++] = peal_bytes_new(bytes.at, bytes.size);
}

static inline enum peal_err io_submit(void *ctx, struct peal_store_op *op)
{
    struct world *w = ctx;
    if (w->op_count >= w->op_room) return PEAL_EQUEUE_FULL;
    w->ops[w->op_count++] = op;
    return PEAL_OK;
}

static inline enum peal_err io_read(void *ctx, struct peal_store_fetch *fetch)
{
    struct world *w = ctx;
    if (w->reader_full) return PEAL_EQUEUE_FULL;
    assert_true(w->fetch_count < 16);
    w->fetches[w->fetch_count++] = fetch;
    return PEAL_OK;
}

static inline void forget(struct world *w)
{
    for (size_t i = 0; i < w->reply_count; i++)
        peal_bytes_unref(w->replies[i]);
    for (size_t i = 0; i < w->batch_count; i++)
        peal_bytes_unref(w->batches[i]);
    w->reply_count = 0;
    w->batch_count = 0;
}

static inline int setup(void **state)
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
static inline void store_done(struct world *w, enum peal_err err)
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

static inline int teardown(void **state)
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

static inline struct peal_peer node_peer(uint64_t boot)
{
    struct peal_peer peer = {.id_size = PEAL_TOPIC_SIZE};
    peal_topic_of(boot, peer.id);
    return peer;
}

static inline void from_node(struct world *w, uint64_t boot, const struct peal_frame *frame)
{
    struct peal_buf buf = {0};
    struct peal_peer peer = node_peer(boot);
    peal_frame_encode(frame, &buf);
    peal_shard_on_rpc(w->shard, &peer, peal_buf_span(&buf));
    peal_shard_flush(w->shard);
    peal_buf_fini(&buf);
}

static inline void join(struct world *w, uint64_t boot, uint64_t req, const char *group)
{
    struct peal_frame f = {.type = PEAL_F_JOIN, .req = req, .group = peal_span_of(group)};
    from_node(w, boot, &f);
}

static inline void push(struct world *w, const char *json)
{
    peal_shard_on_push(w->shard, peal_span_of(json));
    peal_shard_flush(w->shard);
}

/* The i-th entry of the last batch; *batch must be given to peal_frame_fini. */
static inline void last_entry(struct world *w, size_t i, struct peal_frame *batch,
                              struct peal_frame *entry)
{
    assert_true(w->batch_count > 0);
    struct peal_span bytes = peal_bytes_span(w->batches[w->batch_count - 1]);
    assert_int_equal(peal_frame_decode(bytes, batch), PEAL_OK);
    assert_true(i < batch->entries.count);
    assert_int_equal(peal_frame_decode(batch->entries.at[i], entry), PEAL_OK);
}

static inline void expect_message(struct world *w, uint64_t boot, const char *data, uint64_t offset)
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

static inline void fetch(struct world *w, const char *group, uint64_t epoch, uint64_t offset,
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

static inline void expect_gap(const struct peal_frame *page, uint64_t from, uint64_t to,
                              uint64_t why)
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

#endif

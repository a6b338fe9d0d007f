/* Three kinds of objects: a group entry, a node, and a row that says "this node wants this
 * group", which is in a list of each. What needs the store is an operation whose ctx is a
 * struct call: it says whom to answer. Operations that the store has no room for wait in a
 * bounded list, in order. */
#include "router/shard.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/metrics.h"
#include "proto/door.h"
#include "proto/group.h"
#include "proto/publish.h"
#include "proto/wire.h"
#include "router/dedup.h"
#include "router/history.h"

enum {
    BATCH_ENTRIES_MAX = 1024,      /* of one BATCH; more start the next one */
    BATCH_BYTES_MAX = 1024 * 1024, /* likewise */
    WAITING_MAX = 65536,           /* operations that wait for the store */
    IDLE_GROUP_MS = 300000,        /* an entry nobody wants and without history keeps its epoch */
};

struct group {
    struct peal_map_node node;
    const struct peal_config_group *policy;
    uint64_t epoch;
    uint64_t head; /* newest offset, 0 = none yet */
    struct peal_history history;
    struct peal_link rows;
    size_t row_count;
    struct peal_link lru;  /* in shard->with_history, oldest publish first */
    struct peal_link idle; /* in shard->idle, idle since the longest first */
    uint64_t idle_since_ms;
    size_t name_size;
    char name[];
};

struct node {
    struct peal_map_node node;
    uint64_t boot; /* the key points here */
    uint64_t seq;  /* of the last batch with entries */
    uint64_t seen_ms;
    uint64_t sync_round; /* grows with every FIRST page */
    struct peal_link rows;
    struct peal_link dirty; /* in shard->dirty while a batch waits */
    struct peal_bytes *batch[BATCH_ENTRIES_MAX];
    size_t batch_count;
    size_t batch_bytes;
};

struct row {
    struct peal_link in_group;
    struct peal_link in_node;
    struct group *group;
    struct node *owner;
    uint64_t sync_round; /* the last sync that named it */
};

/* Whom to answer when the store is done. */
struct call {
    enum { CALL_PUBLISH, CALL_JOIN, CALL_SYNC, CALL_MARK } kind;
    struct peal_peer peer;
    bool door; /* a publisher that speaks maps, not a node */
    uint64_t req;
    uint64_t boot;  /* JOIN, SYNC, MARK: the node */
    uint64_t epoch; /* SYNC: where the node is */
    uint64_t offset;
    size_t count; /* PUBLISH: results */
    size_t remaining;
    struct peal_bytes *results[]; /* encoded RECEIPT frames */
};

struct peal_shard {
    const struct peal_config *config;
    struct peal_shard_io io;
    uint64_t boot;
    uint64_t now_ms;
    uint64_t wall_ms;
    uint64_t beat_due_ms;
    uint64_t created; /* entries so far: part of their epochs */
    struct peal_map groups;
    struct peal_map nodes;
    struct peal_dedup dedup;
    struct peal_link dirty;
    struct peal_link with_history;
    struct peal_link idle;
    size_t history_bytes;
    struct peal_link waiting; /* of struct peal_store_op */
    size_t waiting_count;
    struct peal_buf scratch; /* encodings that are sent at once */
};

/* ---- nodes and their batches ----------------------------------------------------------- */

static struct node *find_node(struct peal_shard *s, uint64_t boot)
{
    struct peal_map_node *n = peal_map_find(&s->nodes, peal_span_make(&boot, sizeof boot));
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct node, node);
}

static struct node *get_node(struct peal_shard *s, uint64_t boot)
{
    struct node *node = find_node(s, boot);
    if (node != NULL) return node;
    node = calloc(1, sizeof *node);
    if (node == NULL) return NULL;
    node->boot = boot;
    node->seen_ms = s->now_ms;
    peal_link_init(&node->rows);
    peal_link_init(&node->dirty);
    peal_map_add(&s->nodes, &node->node, peal_span_make(&node->boot, sizeof node->boot));
    peal_count(PEAL_M_NODES, 1);
    peal_log(PEAL_LOG_INFO, "node.up", "boot=%016llx", (unsigned long long)boot);
    return node;
}

static void send_batch(struct peal_shard *s, struct node *node)
{
    struct peal_span entries[BATCH_ENTRIES_MAX];
    for (size_t i = 0; i < node->batch_count; i++)
        entries[i] = peal_bytes_span(node->batch[i]);
    if (node->batch_count > 0) node->seq++;
    struct peal_frame batch = {.type = PEAL_F_BATCH, .boot = s->boot, .seq = node->seq};
    batch.entries.at = entries;
    batch.entries.count = node->batch_count;
    s->scratch.size = 0;
    peal_frame_encode(&batch, &s->scratch);
    if (s->scratch.failed) {
        /* The sequence has moved on: the node notices the loss and syncs. */
        peal_buf_fini(&s->scratch);
    } else {
        s->io.topic(s->io.ctx, node->boot, peal_buf_span(&s->scratch));
    }
    for (size_t i = 0; i < node->batch_count; i++)
        peal_bytes_unref(node->batch[i]);
    node->batch_count = 0;
    node->batch_bytes = 0;
    peal_list_remove(&node->dirty);
}

static void append_to_batch(struct peal_shard *s, struct node *node, struct peal_bytes *entry)
{
    if (node->batch_count == BATCH_ENTRIES_MAX || node->batch_bytes >= BATCH_BYTES_MAX)
        send_batch(s, node);
    node->batch[node->batch_count++] = peal_bytes_ref(entry);
    node->batch_bytes += entry->size;
    if (peal_list_empty(&node->dirty)) peal_list_append(&s->dirty, &node->dirty);
}

/* An encoded frame as shared bytes; NULL when memory is short. */
static struct peal_bytes *encode(struct peal_shard *s, const struct peal_frame *frame)
{
    s->scratch.size = 0;
    peal_frame_encode(frame, &s->scratch);
    if (s->scratch.failed) {
        peal_buf_fini(&s->scratch);
        return NULL;
    }
    return peal_bytes_new(s->scratch.at, s->scratch.size);
}

static void send_entry(struct peal_shard *s, struct node *node, const struct peal_frame *frame)
{
    struct peal_bytes *entry = encode(s, frame);
    if (entry == NULL) {
        node->seq++; /* lost here: let the node notice */
        return;
    }
    append_to_batch(s, node, entry);
    peal_bytes_unref(entry);
}

static void reply_frame(struct peal_shard *s, const struct peal_peer *peer,
                        const struct peal_frame *frame)
{
    s->scratch.size = 0;
    peal_frame_encode(frame, &s->scratch);
    if (s->scratch.failed) {
        peal_buf_fini(&s->scratch);
        return; /* the node's request times out */
    }
    s->io.reply(s->io.ctx, peer, peal_buf_span(&s->scratch));
}

/* ---- groups and rows ------------------------------------------------------------------- */

static struct group *find_group(struct peal_shard *s, struct peal_span name)
{
    struct peal_map_node *n = peal_map_find(&s->groups, name);
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct group, node);
}

static struct group *get_group(struct peal_shard *s, struct peal_span name)
{
    struct group *g = find_group(s, name);
    if (g != NULL) return g;
    g = calloc(1, sizeof *g + name.size);
    if (g == NULL) return NULL;
    memcpy(g->name, name.at, name.size);
    g->name_size = name.size;
    g->policy = peal_group_policy(s->config, name);
    /* A new entry has lost its past, if it had one: the epoch is one nobody has seen. Entries
     * of one life differ by the counter, lives differ by the boot id. */
    g->epoch = s->boot + ++s->created;
    if (g->epoch == 0) g->epoch = s->boot + ++s->created;
    peal_history_init(&g->history, g->policy->durable ? 0 : (uint32_t)g->policy->history.messages);
    peal_link_init(&g->rows);
    peal_link_init(&g->lru);
    peal_link_init(&g->idle);
    peal_map_add(&s->groups, &g->node, peal_span_make(g->name, g->name_size));
    peal_count(PEAL_M_GROUPS, 1);
    return g;
}

static void free_group(struct peal_shard *s, struct group *g)
{
    PEAL_ASSERT(g->row_count == 0);
    s->history_bytes -= g->history.bytes;
    peal_history_fini(&g->history);
    peal_list_remove(&g->lru);
    peal_list_remove(&g->idle);
    peal_map_remove(&s->groups, &g->node);
    peal_count(PEAL_M_GROUPS, -1);
    free(g);
}

/* Called when a group may have become unused: nobody wants it and it holds no history. */
static void group_rest(struct peal_shard *s, struct group *g)
{
    if (g->row_count > 0 || g->history.count > 0) return;
    if (g->policy->durable) {
        free_group(s, g); /* the store knows all about it */
        return;
    }
    if (!peal_list_empty(&g->idle)) return;
    g->idle_since_ms = s->now_ms;
    peal_list_append(&s->idle, &g->idle);
}

static void add_row(struct peal_shard *s, struct group *g, struct node *node)
{
    (void)s;
    PEAL_LIST_EACH(&g->rows, it, after)
    {
        struct row *row = PEAL_FROM_LINK(it, struct row, in_group);
        if (row->owner != node) continue;
        row->sync_round = node->sync_round;
        return;
    }
    struct row *row = malloc(sizeof *row);
    if (row == NULL) return; /* the node asks again: JOINED is not sent without a row */
    *row = (struct row){.group = g, .owner = node, .sync_round = node->sync_round};
    peal_list_append(&g->rows, &row->in_group);
    peal_list_append(&node->rows, &row->in_node);
    g->row_count++;
    peal_list_remove(&g->idle);
}

static bool has_row(const struct group *g, const struct node *node)
{
    PEAL_LIST_EACH(&g->rows, it, after)
    if (PEAL_FROM_LINK(it, struct row, in_group)->owner == node) return true;
    return false;
}

static void remove_row(struct peal_shard *s, struct row *row)
{
    struct group *g = row->group;
    peal_list_remove(&row->in_group);
    peal_list_remove(&row->in_node);
    free(row);
    g->row_count--;
    group_rest(s, g);
}

static void drop_node(struct peal_shard *s, struct node *node, const char *why)
{
    peal_log(PEAL_LOG_INFO, "node.down", "boot=%016llx reason=%s", (unsigned long long)node->boot,
             why);
    PEAL_LIST_EACH(&node->rows, it, after)
    remove_row(s, PEAL_FROM_LINK(it, struct row, in_node));
    for (size_t i = 0; i < node->batch_count; i++)
        peal_bytes_unref(node->batch[i]);
    peal_list_remove(&node->dirty);
    peal_map_remove(&s->nodes, &node->node);
    peal_count(PEAL_M_NODES, -1);
    free(node);
}

static uint64_t first_of(const struct group *g)
{
    return g->head - g->history.count + 1;
}

/* ---- history within its memory ----------------------------------------------------------- */

static void history_changed(struct peal_shard *s, struct group *g, size_t bytes_before)
{
    s->history_bytes = s->history_bytes - bytes_before + g->history.bytes;
    peal_list_remove(&g->lru);
    if (g->history.count > 0) peal_list_append(&s->with_history, &g->lru);
}

static void history_forget(struct peal_shard *s, struct group *g)
{
    size_t before = g->history.bytes;
    peal_history_clear(&g->history);
    history_changed(s, g, before);
    group_rest(s, g);
}

static void history_add(struct peal_shard *s, struct group *g, struct peal_bytes *envelope)
{
    size_t before = g->history.bytes;
    peal_history_add(&g->history, envelope, s->now_ms);
    history_changed(s, g, before);
    /* Over the limit of all rings together: the one idle for the longest goes. */
    while (s->history_bytes > s->config->limits.history && !peal_list_empty(&s->with_history))
        history_forget(s, PEAL_FROM_LINK(s->with_history.next, struct group, lru));
}

/* The list is ordered by last publish, so the walk ends at the first ring that is young. */
static void history_age(struct peal_shard *s)
{
    PEAL_LIST_EACH(&s->with_history, it, after)
    {
        struct group *g = PEAL_FROM_LINK(it, struct group, lru);
        size_t before = g->history.bytes;
        uint64_t newest_ms =
            g->history.items[(g->history.start + g->history.count - 1) & (g->history.capacity - 1)]
                .at_ms;
        if (s->now_ms - newest_ms <= g->policy->history.age_ms) continue;
        peal_history_trim(&g->history, s->now_ms, g->policy->history.age_ms);
        s->history_bytes = s->history_bytes - before + g->history.bytes;
        if (g->history.count > 0) continue;
        peal_list_remove(&g->lru);
        group_rest(s, g);
    }
}

/* ---- publishing -------------------------------------------------------------------------- */

static void fan_out(struct peal_shard *s, struct group *g, struct peal_bytes *envelope,
                    uint64_t unread, uint64_t rev)
{
    if (g->row_count == 0) return;
    struct peal_frame frame = {.type = PEAL_F_MESSAGE,
                               .envelope = peal_bytes_span(envelope),
                               .unread = unread,
                               .rev = rev};
    struct peal_bytes *entry = encode(s, &frame);
    PEAL_LIST_EACH(&g->rows, it, after)
    {
        struct node *node = PEAL_FROM_LINK(it, struct row, in_group)->owner;
        if (entry != NULL)
            append_to_batch(s, node, entry);
        else
            node->seq++; /* lost for want of memory: the nodes notice and sync */
    }
    peal_bytes_unref(entry);
}

static struct call *call_new(int kind, const struct peal_peer *peer, uint64_t req, size_t count)
{
    struct call *call = calloc(1, sizeof *call + count * sizeof call->results[0]);
    if (call == NULL) return NULL;
    call->kind = kind;
    if (peer != NULL) call->peer = *peer;
    call->req = req;
    call->count = count;
    call->remaining = count;
    return call;
}

static void call_send(struct peal_shard *s, struct call *call)
{
    struct peal_buf out = {0};
    if (call->door) {
        struct peal_frame *receipts = calloc(call->count + 1, sizeof *receipts);
        for (size_t i = 0; receipts != NULL && i < call->count; i++)
            if (call->results[i] == NULL ||
                peal_frame_decode(peal_bytes_span(call->results[i]), &receipts[i]) != PEAL_OK)
                receipts[i] = (struct peal_frame){.type = PEAL_F_RECEIPT, .code = PEAL_ENOMEM};
        if (receipts != NULL) peal_door_encode(call->req, receipts, call->count, &out);
        free(receipts);
    } else {
        struct peal_frame frame = {.type = PEAL_F_PUBLISHED, .req = call->req};
        static const char lost[] = "";
        frame.entries.at = calloc(call->count + 1, sizeof *frame.entries.at);
        frame.entries.count = frame.entries.at == NULL ? 0 : call->count;
        for (size_t i = 0; i < frame.entries.count; i++)
            frame.entries.at[i] = call->results[i] == NULL ? peal_span_make(lost, 0)
                                                           : peal_bytes_span(call->results[i]);
        peal_frame_encode(&frame, &out);
        free(frame.entries.at);
    }
    if (!out.failed && out.size > 0) s->io.reply(s->io.ctx, &call->peer, peal_buf_span(&out));
    peal_buf_fini(&out);
}

static void call_free(struct call *call)
{
    for (size_t i = 0; i < call->count; i++)
        peal_bytes_unref(call->results[i]);
    free(call);
}

/* One result of a publish; the last one sends the answer and ends the call. */
static void call_result(struct peal_shard *s, struct call *call, size_t index,
                        const struct peal_frame *receipt)
{
    if (call == NULL) return; /* the PUSH door wants no answer */
    call->results[index] = encode(s, receipt);
    if (--call->remaining > 0) return;
    call_send(s, call);
    call_free(call);
}

static void call_refused(struct peal_shard *s, struct call *call, size_t index, enum peal_err err,
                         const char *why, const char *field)
{
    if (err == PEAL_ESTORE_FULL)
        peal_count(PEAL_M_REFUSED_STORE, 1);
    else if (err == PEAL_ERATE_LIMITED)
        peal_count(PEAL_M_REFUSED_QUEUE, 1);
    else if (peal_err_http(err) < 500)
        peal_count(PEAL_M_REFUSED_INVALID, 1);
    else
        peal_count(PEAL_M_REFUSED_ERROR, 1);
    struct peal_frame receipt = {.type = PEAL_F_RECEIPT,
                                 .code = err,
                                 .message = peal_span_of(why),
                                 .id = peal_span_of(field)};
    call_result(s, call, index, &receipt);
}

static void submit(struct peal_shard *s, struct peal_store_op *op)
{
    if (s->waiting_count == 0 && s->io.submit(s->io.ctx, op) == PEAL_OK) return;
    peal_list_append(&s->waiting, &op->link);
    s->waiting_count++;
}

static void submit_waiting(struct peal_shard *s)
{
    while (s->waiting_count > 0) {
        struct peal_store_op *op = PEAL_FROM_LINK(s->waiting.next, struct peal_store_op, link);
        peal_list_remove(&op->link);
        if (s->io.submit(s->io.ctx, op) != PEAL_OK) {
            /* Back to where it was, in front. */
            peal_list_append(s->waiting.next, &op->link);
            return;
        }
        s->waiting_count--;
    }
}

static void publish_durable(struct peal_shard *s, const struct peal_envelope *env,
                            const struct peal_config_group *policy, struct call *call, size_t index)
{
    if (s->waiting_count >= WAITING_MAX) {
        call_refused(s, call, index, PEAL_ERATE_LIMITED, "too many messages wait for the store",
                     "");
        return;
    }
    s->scratch.size = 0;
    peal_envelope_encode(env, &s->scratch);
    struct peal_store_op *op = NULL;
    if (s->scratch.failed)
        peal_buf_fini(&s->scratch);
    else
        op = peal_store_op_new(PEAL_STORE_PUT, env->group, peal_buf_span(&s->scratch), NULL, 0);
    if (op == NULL) {
        call_refused(s, call, index, PEAL_ENOMEM, "out of memory", "");
        return;
    }
    op->policy = policy;
    op->ctx = call;
    op->tag[0] = index;
    submit(s, op);
}

static void receipt_of(const struct peal_envelope *env, uint64_t flags, struct peal_frame *out)
{
    *out = (struct peal_frame){.type = PEAL_F_RECEIPT,
                               .id = env->id,
                               .group = env->group,
                               .epoch = env->epoch,
                               .offset = env->offset,
                               .flags = flags};
}

static void publish_live(struct peal_shard *s, struct peal_envelope *env, struct call *call,
                         size_t index)
{
    struct peal_frame receipt;
    bool given = (env->flags & PEAL_MSG_ID_GIVEN) != 0;
    if (given &&
        peal_dedup_find(&s->dedup, env->group, env->id, s->now_ms, &env->epoch, &env->offset)) {
        peal_count(PEAL_M_DUPLICATE, 1);
        receipt_of(env, PEAL_FLAG_DUPLICATE, &receipt);
        call_result(s, call, index, &receipt);
        return;
    }
    struct group *g = get_group(s, env->group);
    if (g == NULL) {
        call_refused(s, call, index, PEAL_ENOMEM, "out of memory", "");
        return;
    }
    env->epoch = g->epoch;
    env->offset = g->head + 1;
    s->scratch.size = 0;
    peal_envelope_encode(env, &s->scratch);
    struct peal_bytes *envelope = NULL;
    if (s->scratch.failed)
        peal_buf_fini(&s->scratch);
    else
        envelope = peal_bytes_new(s->scratch.at, s->scratch.size);
    if (envelope == NULL) {
        group_rest(s, g);
        call_refused(s, call, index, PEAL_ENOMEM, "out of memory", "");
        return;
    }
    g->head++;
    peal_count(PEAL_M_NUMBERED, 1);
    if (given) peal_dedup_add(&s->dedup, env->group, env->id, s->now_ms, env->epoch, env->offset);
    fan_out(s, g, envelope, 0, 0);
    history_add(s, g, envelope);
    group_rest(s, g);
    peal_bytes_unref(envelope);
    receipt_of(env, 0, &receipt);
    call_result(s, call, index, &receipt);
}

/* env's spans must live until this returns. */
static void publish(struct peal_shard *s, struct peal_envelope *env, struct call *call,
                    size_t index)
{
    char ulid[PEAL_ULID_SIZE];
    peal_count(PEAL_M_ACCEPTED, 1);
    enum peal_err err = peal_name_check(env->group);
    if (err != PEAL_OK) {
        call_refused(s, call, index, err, "group must be 1..200 bytes of UTF-8 without controls",
                     "group");
        return;
    }
    env->ts_ms = s->wall_ms;
    env->epoch = 0;
    env->offset = 0;
    if (env->id.size == 0) {
        peal_ulid(ulid, s->wall_ms);
        env->id = peal_span_make(ulid, sizeof ulid);
        env->flags &= ~(uint64_t)PEAL_MSG_ID_GIVEN;
    }
    const struct peal_config_group *policy = peal_group_policy(s->config, env->group);
    if (policy->durable)
        publish_durable(s, env, policy, call, index);
    else
        publish_live(s, env, call, index);
}

static void publish_items(struct peal_shard *s, struct peal_publish_request *request,
                          struct call *call)
{
    for (size_t i = 0; i < request->count; i++) {
        struct peal_publish_item *item = &request->items[i];
        if (item->err == PEAL_OK) {
            publish(s, &item->env, call, i);
        } else {
            peal_count(PEAL_M_ACCEPTED, 1);
            call_refused(s, call, i, item->err, item->why, item->field);
        }
    }
}

static struct peal_publish_limits publish_limits(const struct peal_shard *s)
{
    return (struct peal_publish_limits){.message_bytes = s->config->limits.message,
                                        .targets = s->config->limits.users_per_publish};
}

void peal_shard_on_push(struct peal_shard *s, struct peal_span bytes)
{
    struct peal_publish_limits limits = publish_limits(s);
    struct peal_publish_request request;
    char why[200];
    enum peal_err err = peal_publish_decode(bytes, &limits, &request, why, sizeof why);
    if (err != PEAL_OK) {
        /* Nobody can be told; it must not go unseen. */
        peal_count(PEAL_M_ACCEPTED, 1);
        peal_count(PEAL_M_REFUSED_INVALID, 1);
        peal_log(PEAL_LOG_WARN, "push.refused", "code=%s why=\"%s\"", peal_err_word(err), why);
        return;
    }
    for (size_t i = 0; i < request.count; i++)
        if (request.items[i].err != PEAL_OK)
            peal_log(PEAL_LOG_WARN, "push.refused", "code=%s why=\"%s\"",
                     peal_err_word(request.items[i].err), request.items[i].why);
    publish_items(s, &request, NULL);
    peal_publish_fini(&request);
}

static void door_error(struct peal_shard *s, const struct peal_peer *peer, uint64_t req,
                       enum peal_err err, const char *why)
{
    struct peal_buf out = {0};
    peal_door_encode_error(req, err, why, &out);
    if (!out.failed) s->io.reply(s->io.ctx, peer, peal_buf_span(&out));
    peal_buf_fini(&out);
}

static void on_door(struct peal_shard *s, const struct peal_peer *peer, struct peal_span bytes)
{
    struct peal_door_call in;
    struct peal_publish_request request;
    char why[200];
    enum peal_err err = peal_door_decode(bytes, &in, why, sizeof why);
    if (err != PEAL_OK) {
        door_error(s, peer, in.req, err, why);
        return;
    }
    struct peal_publish_limits limits = publish_limits(s);
    err = peal_publish_decode(peal_buf_span(&in.messages), &limits, &request, why, sizeof why);
    if (err != PEAL_OK) {
        door_error(s, peer, in.req, err, why);
        peal_buf_fini(&in.messages);
        return;
    }
    struct call *call = call_new(CALL_PUBLISH, peer, in.req, request.count);
    if (call == NULL) {
        door_error(s, peer, in.req, PEAL_ENOMEM, "out of memory");
    } else {
        call->door = true;
        if (request.count == 0) {
            call_send(s, call);
            call_free(call);
        } else {
            publish_items(s, &request, call);
        }
    }
    peal_publish_fini(&request);
    peal_buf_fini(&in.messages);
}

static void on_publish(struct peal_shard *s, const struct peal_peer *peer,
                       const struct peal_frame *frame)
{
    struct call *call = call_new(CALL_PUBLISH, peer, frame->req, frame->entries.count);
    if (call == NULL) return; /* the node's request times out */
    if (call->count == 0) {
        call_send(s, call);
        call_free(call);
        return;
    }
    for (size_t i = 0; i < frame->entries.count; i++) {
        struct peal_envelope env;
        if (peal_envelope_decode(frame->entries.at[i], &env) == PEAL_OK) {
            publish(s, &env, call, i);
        } else {
            peal_count(PEAL_M_ACCEPTED, 1);
            call_refused(s, call, i, PEAL_EBAD_MESSAGE, "not an envelope", "");
        }
    }
}

/* ---- joins and syncs --------------------------------------------------------------------- */

static void answer_join(struct peal_shard *s, const struct call *call, struct node *node,
                        const struct group *g, const struct peal_store_op *head)
{
    bool same = call->kind == CALL_SYNC && call->epoch == g->epoch && call->offset == g->head;
    /* Of inboxes a node also wants the counts, which may have changed with the same head. */
    if (same && head == NULL) return;
    struct peal_frame answer = {.type = call->kind == CALL_SYNC ? PEAL_F_AT : PEAL_F_JOINED,
                                .req = call->req,
                                .group = peal_span_make(g->name, g->name_size),
                                .epoch = g->epoch,
                                .offset = g->head,
                                .first = head == NULL ? first_of(g) : head->first,
                                .unread = head == NULL ? 0 : head->unread,
                                .rev = head == NULL ? 0 : head->rev,
                                .flags = peal_policy_keeps(g->policy) ? PEAL_FLAG_KEEPS : 0};
    send_entry(s, node, &answer);
}

static void refuse_join(struct peal_shard *s, const struct call *call, struct node *node,
                        struct peal_span group, enum peal_err err)
{
    if (call->kind == CALL_SYNC) return; /* it is asked again with the next sync */
    struct peal_frame answer = {
        .type = PEAL_F_JOINED, .req = call->req, .group = group, .code = err};
    send_entry(s, node, &answer);
}

/* The group's entry is at its newest position: add the node there and say so. */
static void join_here(struct peal_shard *s, const struct call *call, struct node *node,
                      struct peal_span name, const struct peal_store_op *head)
{
    struct group *g = get_group(s, name);
    if (g == NULL) {
        refuse_join(s, call, node, name, PEAL_ENOMEM);
        return;
    }
    if (head != NULL) {
        g->epoch = head->epoch;
        g->head = head->offset;
    }
    add_row(s, g, node);
    if (has_row(g, node)) {
        answer_join(s, call, node, g, head);
    } else {
        refuse_join(s, call, node, name, PEAL_ENOMEM);
        group_rest(s, g);
    }
}

static void join(struct peal_shard *s, struct node *node, int kind, const struct peal_peer *peer,
                 uint64_t req, const struct peal_position *at)
{
    struct call local = {.kind = kind, .req = req, .boot = node->boot};
    local.epoch = at->epoch;
    local.offset = at->offset;
    if (peal_name_check(at->group) != PEAL_OK) {
        refuse_join(s, &local, node, at->group, PEAL_EBAD_GROUP);
        return;
    }
    const struct peal_config_group *policy = peal_group_policy(s->config, at->group);
    if (!policy->durable) {
        join_here(s, &local, node, at->group, NULL);
        return;
    }
    struct peal_store_op *op =
        peal_store_op_new(PEAL_STORE_HEAD, at->group, (struct peal_span){0}, NULL, 0);
    struct call *call = op == NULL ? NULL : call_new(kind, peer, req, 0);
    if (call == NULL) {
        peal_store_op_free(op);
        refuse_join(s, &local, node, at->group, PEAL_ENOMEM);
        return;
    }
    call->boot = node->boot;
    call->epoch = at->epoch;
    call->offset = at->offset;
    op->policy = policy;
    op->ctx = call;
    submit(s, op);
}

static void on_leave(struct peal_shard *s, struct node *node, struct peal_span name)
{
    struct group *g = find_group(s, name);
    if (g == NULL) return;
    PEAL_LIST_EACH(&g->rows, it, after)
    {
        struct row *row = PEAL_FROM_LINK(it, struct row, in_group);
        if (row->owner != node) continue;
        remove_row(s, row);
        return;
    }
}

/* Pages of all the groups a node holds; after the last one exactly those remain. */
static void on_sync(struct peal_shard *s, struct node *node, const struct peal_peer *peer,
                    const struct peal_frame *frame)
{
    if (frame->flags & PEAL_FLAG_FIRST) node->sync_round++;
    for (size_t i = 0; i < frame->positions.count; i++) {
        const struct peal_position *at = &frame->positions.at[i];
        struct group *g = find_group(s, at->group);
        /* A durable group is looked up in the store first: its row counts as named already. */
        if (g != NULL && has_row(g, node)) add_row(s, g, node);
        join(s, node, CALL_SYNC, peer, 0, at);
    }
    if (!(frame->flags & PEAL_FLAG_LAST)) return;
    PEAL_LIST_EACH(&node->rows, it, after)
    {
        struct row *row = PEAL_FROM_LINK(it, struct row, in_node);
        if (row->sync_round != node->sync_round) remove_row(s, row);
    }
}

/* ---- pages and marks --------------------------------------------------------------------- */

static void page_add(struct peal_shard *s, const struct peal_frame *entry,
                     struct peal_bytes **entries, size_t *count)
{
    struct peal_bytes *bytes = encode(s, entry);
    if (bytes != NULL) entries[(*count)++] = bytes;
}

/* A page of a group that is not durable, from its history. */
static void fetch_live(struct peal_shard *s, const struct peal_peer *peer,
                       const struct peal_frame *in)
{
    struct peal_frame page = {.type = PEAL_F_PAGE, .req = in->req, .group = in->group};
    struct group *g = find_group(s, in->group);
    if (g == NULL) {
        page.code = PEAL_EAGAIN; /* after a restart: the node syncs first */
        page.message = peal_span_of("the group is not known here yet");
        reply_frame(s, peer, &page);
        return;
    }
    struct peal_bytes *entries[PEAL_PAGE_MESSAGES + 1];
    struct peal_span spans[PEAL_PAGE_MESSAGES + 1];
    size_t count = 0;
    uint64_t first = first_of(g);
    uint64_t at = in->offset;
    bool foreign = in->epoch != g->epoch || in->offset > g->head;
    struct peal_frame gap = {.type = PEAL_F_GAP, .group = in->group, .to = first - 1};
    if (foreign) {
        gap.from = first > 1 ? 1 : 0;
        gap.why = PEAL_GAP_EPOCH;
        page_add(s, &gap, entries, &count);
        at = first - 1;
    } else if (at + 1 < first) {
        gap.from = at + 1;
        gap.why = g->history.max == 0 ? PEAL_GAP_UNREPAIRED : PEAL_GAP_EVICTED;
        page_add(s, &gap, entries, &count);
        at = first - 1;
    }
    uint64_t limit = in->limit < PEAL_PAGE_MESSAGES ? in->limit : PEAL_PAGE_MESSAGES;
    size_t bytes = 0;
    for (uint64_t n = 0; n < limit && at < g->head; n++) {
        struct peal_bytes *envelope = peal_history_get(&g->history, (uint32_t)(at + 1 - first));
        if (n > 0 && bytes + envelope->size > in->bytes) break;
        struct peal_frame message = {.type = PEAL_F_MESSAGE, .envelope = peal_bytes_span(envelope)};
        size_t before = count;
        page_add(s, &message, entries, &count);
        if (count == before) break; /* memory: the rest comes with the next page */
        bytes += envelope->size;
        at++;
    }
    for (size_t i = 0; i < count; i++)
        spans[i] = peal_bytes_span(entries[i]);
    page.epoch = g->epoch;
    page.offset = at;
    page.head = g->head;
    page.first = first;
    page.entries.at = spans;
    page.entries.count = count;
    reply_frame(s, peer, &page);
    for (size_t i = 0; i < count; i++)
        peal_bytes_unref(entries[i]);
}

static void fetch_refuse(struct peal_shard *s, const struct peal_peer *peer,
                         const struct peal_frame *in, enum peal_err err, const char *why)
{
    struct peal_frame page = {.type = PEAL_F_PAGE,
                              .req = in->req,
                              .group = in->group,
                              .code = err,
                              .message = peal_span_of(why)};
    reply_frame(s, peer, &page);
}

static void on_fetch(struct peal_shard *s, struct node *node, const struct peal_peer *peer,
                     const struct peal_frame *in)
{
    if (peal_name_check(in->group) != PEAL_OK) {
        fetch_refuse(s, peer, in, PEAL_EBAD_GROUP, "not a group name");
        return;
    }
    const struct peal_config_group *policy = peal_group_policy(s->config, in->group);
    if (!policy->durable) {
        fetch_live(s, peer, in);
        return;
    }
    struct peal_store_fetch *fetch = peal_store_fetch_new(in->group);
    if (fetch == NULL) {
        fetch_refuse(s, peer, in, PEAL_ENOMEM, "out of memory");
        return;
    }
    fetch->policy = policy;
    fetch->tag[0] = in->req;
    fetch->tag[1] = node->boot;
    fetch->epoch = in->epoch;
    fetch->offset = in->offset;
    fetch->limit = in->limit < PEAL_PAGE_MESSAGES ? in->limit : PEAL_PAGE_MESSAGES;
    fetch->bytes = in->bytes;
    fetch->flags = in->flags;
    if (s->io.read(s->io.ctx, fetch) == PEAL_OK) return;
    peal_store_fetch_free(fetch);
    fetch_refuse(s, peer, in, PEAL_EQUEUE_FULL, "too many reads wait for the store");
}

static void peer_of_node(uint64_t boot, struct peal_peer *peer)
{
    *peer = (struct peal_peer){.id_size = PEAL_TOPIC_SIZE};
    peal_topic_of(boot, peer->id);
}

void peal_shard_on_page(struct peal_shard *s, struct peal_store_fetch *fetch)
{
    struct peal_peer peer;
    peer_of_node(fetch->tag[1], &peer);
    if (fetch->page != NULL) {
        s->io.reply(s->io.ctx, &peer, peal_bytes_span(fetch->page));
    } else {
        struct peal_frame in = {.req = fetch->tag[0], .group = fetch->group};
        fetch_refuse(s, &peer, &in, PEAL_ENOMEM, "out of memory");
    }
    peal_store_fetch_free(fetch);
}

static void answer_mark(struct peal_shard *s, const struct peal_peer *peer, uint64_t req,
                        struct peal_span group, const struct peal_store_op *op, enum peal_err err)
{
    if (req == 0) return;
    struct peal_frame answer = {.type = PEAL_F_MARKED,
                                .req = req,
                                .group = group,
                                .unread = op == NULL ? 0 : op->unread,
                                .rev = op == NULL ? 0 : op->rev,
                                .code = err,
                                .message = peal_span_of(err == PEAL_OK ? "" : "not marked")};
    reply_frame(s, peer, &answer);
}

static void on_mark(struct peal_shard *s, struct node *node, const struct peal_peer *peer,
                    const struct peal_frame *in)
{
    const struct peal_config_group *policy = NULL;
    if (peal_name_check(in->group) == PEAL_OK && peal_group_is_inbox(in->group))
        policy = peal_group_policy(s->config, in->group);
    if (policy == NULL || !policy->durable || in->offsets.count > PEAL_ACK_OFFSETS_MAX) {
        answer_mark(s, peer, in->req, in->group, NULL, PEAL_EBAD_GROUP);
        return;
    }
    struct peal_store_op *op = NULL;
    struct call *call = NULL;
    if (s->waiting_count < WAITING_MAX)
        op = peal_store_op_new(PEAL_STORE_MARK, in->group, (struct peal_span){0}, in->offsets.at,
                               in->offsets.count);
    if (op != NULL) call = call_new(CALL_MARK, peer, in->req, 0);
    if (call == NULL) {
        peal_store_op_free(op);
        answer_mark(s, peer, in->req, in->group, NULL, PEAL_ERATE_LIMITED);
        return;
    }
    call->boot = node->boot;
    op->policy = policy;
    op->ctx = call;
    op->mark_flags = in->flags & (PEAL_FLAG_ACK | PEAL_FLAG_READ | PEAL_FLAG_ALL);
    op->upto = in->upto;
    submit(s, op);
}

/* ---- results of the store ---------------------------------------------------------------- */

static void put_done(struct peal_shard *s, struct peal_store_op *op)
{
    struct call *call = op->ctx;
    if (op->err != PEAL_OK) {
        call_refused(s, call, op->tag[0], op->err,
                     op->err == PEAL_ESTORE_FULL ? "the store is full" : "the store failed", "");
        return;
    }
    struct peal_envelope env;
    enum peal_err err = peal_envelope_decode(
        op->encoded != NULL ? peal_bytes_span(op->encoded) : op->message, &env);
    PEAL_ASSERT(err == PEAL_OK); /* this shard encoded it */
    env.epoch = op->epoch;
    env.offset = op->offset;
    struct peal_frame receipt;
    if (op->duplicate) {
        peal_count(PEAL_M_DUPLICATE, 1);
    } else {
        peal_count(PEAL_M_NUMBERED, 1);
        struct group *g = find_group(s, op->group);
        if (g != NULL) {
            g->epoch = op->epoch;
            g->head = op->offset;
            fan_out(s, g, op->encoded, op->unread, op->rev);
        }
    }
    receipt_of(&env, PEAL_FLAG_STORED | (op->duplicate ? PEAL_FLAG_DUPLICATE : 0), &receipt);
    call_result(s, call, op->tag[0], &receipt);
}

static void head_done(struct peal_shard *s, struct peal_store_op *op)
{
    struct call *call = op->ctx;
    struct node *node = find_node(s, call->boot);
    if (node != NULL) {
        if (op->err == PEAL_OK)
            join_here(s, call, node, op->group, op);
        else
            refuse_join(s, call, node, op->group, op->err);
    }
    call_free(call);
}

static void mark_done(struct peal_shard *s, struct peal_store_op *op)
{
    struct call *call = op->ctx;
    answer_mark(s, &call->peer, call->req, op->group, op, op->err);
    call_free(call);
    struct group *g = find_group(s, op->group);
    if (op->err != PEAL_OK || !op->changed || g == NULL) return;
    struct peal_frame state = {.type = PEAL_F_STATE,
                               .group = op->group,
                               .upto = op->upto,
                               .unread = op->unread,
                               .rev = op->rev,
                               .flags = op->mark_flags};
    state.offsets.at = op->offsets;
    state.offsets.count = op->offset_count;
    if (op->mark_flags & PEAL_FLAG_ALL) state.upto = op->offset;
    PEAL_LIST_EACH(&g->rows, it, after)
    send_entry(s, PEAL_FROM_LINK(it, struct row, in_group)->owner, &state);
}

void peal_shard_on_done(struct peal_shard *s, struct peal_store_op *op)
{
    switch (op->kind) {
    case PEAL_STORE_PUT:
        put_done(s, op);
        break;
    case PEAL_STORE_HEAD:
        head_done(s, op);
        break;
    case PEAL_STORE_MARK:
        mark_done(s, op);
        break;
    }
    peal_store_op_free(op);
    submit_waiting(s);
}

/* ---- input and time ---------------------------------------------------------------------- */

void peal_shard_on_rpc(struct peal_shard *s, const struct peal_peer *peer, struct peal_span bytes)
{
    unsigned char first = bytes.size > 0 ? (unsigned char)bytes.at[0] : 0;
    bool array = (first & 0xf0) == 0x90 || first == 0xdc || first == 0xdd;
    if (!array) {
        on_door(s, peer, bytes);
        return;
    }
    uint64_t boot;
    struct peal_frame frame;
    if (peal_topic_parse(peal_span_make(peer->id, peer->id_size), &boot) != PEAL_OK) {
        door_error(s, peer, 0, PEAL_EBAD_MESSAGE, "a call is a map");
        return;
    }
    enum peal_err err = peal_frame_decode(bytes, &frame);
    if (err != PEAL_OK) {
        peal_log(PEAL_LOG_WARN, "node.bad_frame", "boot=%016llx code=%s", (unsigned long long)boot,
                 peal_err_word(err));
        return;
    }
    struct node *node = get_node(s, boot);
    if (node != NULL) {
        node->seen_ms = s->now_ms;
        switch (frame.type) {
        case PEAL_F_BEAT:
            break;
        case PEAL_F_JOIN: {
            struct peal_position at = {.group = frame.group};
            join(s, node, CALL_JOIN, peer, frame.req, &at);
            break;
        }
        case PEAL_F_LEAVE:
            on_leave(s, node, frame.group);
            break;
        case PEAL_F_SYNC:
            on_sync(s, node, peer, &frame);
            break;
        case PEAL_F_PUBLISH:
            on_publish(s, peer, &frame);
            break;
        case PEAL_F_FETCH:
            on_fetch(s, node, peer, &frame);
            break;
        case PEAL_F_MARK:
            on_mark(s, node, peer, &frame);
            break;
        default:
            peal_log(PEAL_LOG_WARN, "node.bad_frame", "boot=%016llx type=%s",
                     (unsigned long long)boot, peal_frame_name(frame.type));
        }
    }
    peal_frame_fini(&frame);
}

void peal_shard_on_link(struct peal_shard *s, uint64_t boot)
{
    struct node *node = get_node(s, boot);
    if (node != NULL) send_batch(s, node);
}

void peal_shard_on_tick(struct peal_shard *s)
{
    submit_waiting(s);
    if (s->now_ms < s->beat_due_ms) return;
    s->beat_due_ms = s->now_ms + PEAL_BEAT_MS;
    struct peal_map_node *next;
    for (struct peal_map_node *it = peal_map_next(&s->nodes, NULL); it != NULL; it = next) {
        next = peal_map_next(&s->nodes, it);
        struct node *node = PEAL_FROM_NODE(it, struct node, node);
        if (s->now_ms - node->seen_ms > PEAL_BEAT_LOST_MS)
            drop_node(s, node, "silent");
        else
            send_batch(s, node);
    }
    history_age(s);
    PEAL_LIST_EACH(&s->idle, it, after)
    {
        struct group *g = PEAL_FROM_LINK(it, struct group, idle);
        if (s->now_ms - g->idle_since_ms < IDLE_GROUP_MS) break;
        free_group(s, g);
    }
}

void peal_shard_flush(struct peal_shard *s)
{
    while (!peal_list_empty(&s->dirty))
        send_batch(s, PEAL_FROM_LINK(s->dirty.next, struct node, dirty));
}

size_t peal_shard_waiting(const struct peal_shard *s)
{
    return s->waiting_count;
}

void peal_shard_set_time(struct peal_shard *s, uint64_t mono_ms, uint64_t wall_ms)
{
    s->now_ms = mono_ms;
    s->wall_ms = wall_ms;
}

/* ---- life -------------------------------------------------------------------------------- */

struct peal_shard *peal_shard_new(const struct peal_config *config, const struct peal_shard_io *io,
                                  uint64_t boot)
{
    struct peal_shard *s = calloc(1, sizeof *s);
    if (s == NULL) return NULL;
    s->config = config;
    s->io = *io;
    s->boot = boot;
    peal_link_init(&s->dirty);
    peal_link_init(&s->with_history);
    peal_link_init(&s->idle);
    peal_link_init(&s->waiting);
    if (peal_map_init(&s->groups) == PEAL_OK && peal_map_init(&s->nodes) == PEAL_OK &&
        peal_dedup_init(&s->dedup, config->dedup.age_ms, config->dedup.ids) == PEAL_OK)
        return s;
    peal_map_fini(&s->groups);
    peal_map_fini(&s->nodes);
    free(s);
    return NULL;
}

void peal_shard_free(struct peal_shard *s)
{
    if (s == NULL) return;
    PEAL_LIST_EACH(&s->waiting, it, after)
    {
        struct peal_store_op *op = PEAL_FROM_LINK(it, struct peal_store_op, link);
        struct call *call = op->ctx;
        peal_list_remove(it);
        /* Several operations may share a publish call; the last one frees it. */
        if (call != NULL && (call->kind != CALL_PUBLISH || --call->remaining == 0)) call_free(call);
        peal_store_op_free(op);
    }
    struct peal_map_node *it;
    while ((it = peal_map_next(&s->nodes, NULL)) != NULL)
        drop_node(s, PEAL_FROM_NODE(it, struct node, node), "stop");
    while ((it = peal_map_next(&s->groups, NULL)) != NULL)
        free_group(s, PEAL_FROM_NODE(it, struct group, node));
    peal_map_fini(&s->groups);
    peal_map_fini(&s->nodes);
    peal_dedup_fini(&s->dedup);
    peal_buf_fini(&s->scratch);
    free(s);
}

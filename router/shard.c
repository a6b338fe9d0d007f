/* What needs the store is an operation whose ctx is a struct peal_call: it says whom to answer when
 * the operation is done. Operations that the store has no room for wait in a bounded list, in
 * order. Who wants what, and what waits for whom, is in router/table.c. */
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
#include "router/backlog.h"
#include "router/call.h"
#include "router/dedup.h"
#include "router/mover.h"
#include "router/page.h"
#include "router/presence.h"
#include "router/table.h"

enum {
    WAITING_MAX = 65536, /* operations that wait for the store */
    AHEAD = 16,          /* publishes whose groups are fetched into the cache at once */
};

/* A publish whose group is being fetched. */
struct job {
    struct peal_envelope *env; /* its spans live until the job is done */
    struct peal_call *call;
    size_t index;
    uint32_t hash;                  /* of the group's name */
    struct peal_group_entry *group; /* NULL when there was none yet */
    bool forwarded;                 /* by another router */
};

struct peal_shard {
    const struct peal_config *config;
    struct peal_shard_io io;
    uint64_t now_ms;
    uint64_t wall_ms;
    uint64_t second_due_ms;
    struct peal_table table;
    struct peal_cluster cluster;
    struct peal_mover mover;
    struct peal_dedup dedup;
    struct peal_link waiting; /* of struct peal_store_op */
    size_t waiting_count;
    struct peal_presence *presence;
    struct peal_backlog backlog; /* messages handed to the store and not done */
    struct peal_ulids ulids;
    bool sweeping; /* there is more for peal_table_sweep */
    struct job jobs[AHEAD];
    size_t job_count;
    struct peal_buf scratch; /* encodings that are sent at once */
};

static void reply_frame(struct peal_shard *s, const struct peal_peer *peer,
                        const struct peal_frame *frame)
{
    s->scratch.size = 0;
    peal_frame_encode(frame, &s->scratch);
    if (s->scratch.failed) {
        peal_buf_fini(&s->scratch);
        peal_count(PEAL_M_ROUTER_DROPPED, 1);
        return; /* the node's request times out */
    }
    s->io.reply(s->io.ctx, peer, peal_buf_span(&s->scratch));
}

static void peer_of_node(uint64_t boot, struct peal_peer *peer)
{
    *peer = (struct peal_peer){.id_size = PEAL_TOPIC_SIZE};
    peal_topic_of(boot, peer->id);
}

/* ---- what the table says ------------------------------------------------------------------- */

static void table_topic(void *ctx, uint64_t boot, struct peal_span bytes)
{
    const struct peal_shard *s = ctx;
    s->io.topic(s->io.ctx, boot, bytes);
}

static void table_synced(void *ctx, struct peal_node_entry *node)
{
    struct peal_shard *s = ctx;
    struct peal_peer peer;
    struct peal_frame frame = {.type = PEAL_F_SYNCED, .seq = node->sync_seq, .boot = s->table.boot};
    peer_of_node(node->boot, &peer);
    reply_frame(s, &peer, &frame);
}

/* ---- publishing -------------------------------------------------------------------------- */

static void call_send(struct peal_shard *s, const struct peal_call *call)
{
    s->scratch.size = 0;
    peal_call_answer(call, &s->scratch);
    if (!s->scratch.failed) {
        s->io.reply(s->io.ctx, &call->peer, peal_buf_span(&s->scratch));
        return;
    }
    peal_buf_fini(&s->scratch); /* whoever asked hears nothing, and asks again */
    peal_count(PEAL_M_ROUTER_DROPPED, 1);
}

/* One result of a publish; the last one sends the answer and ends the call. */
static void call_result(struct peal_shard *s, struct peal_call *call, size_t index,
                        const struct peal_frame *receipt)
{
    if (call == NULL) return; /* the PUSH door wants no answer */
    call->results[index] = peal_frame_bytes(receipt, &s->scratch);
    if (--call->remaining > 0) return;
    call_send(s, call);
    peal_call_free(call);
}

static void call_refused(struct peal_shard *s, struct peal_call *call, size_t index,
                         enum peal_err err, const char *why, const char *field)
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
    if (err == PEAL_ERATE_LIMITED) receipt.after_ms = peal_backlog_after_ms(&s->backlog);
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

/* The publisher at the acknowledged door who made the call; NULL for the other doors. A node is not
 * bounded as one publisher: it speaks for many. */
static const struct peal_peer *door_of(const struct peal_call *call)
{
    return call != NULL && call->door ? &call->peer : NULL;
}

static void publish_durable(struct peal_shard *s, const struct peal_envelope *env,
                            const struct peal_config_group *policy, struct peal_call *call,
                            size_t index)
{
    if (s->waiting_count >= WAITING_MAX || peal_backlog_full(&s->backlog)) {
        call_refused(s, call, index, PEAL_ERATE_LIMITED, "too many messages wait for the store",
                     "");
        return;
    }
    const struct peal_peer *door = door_of(call);
    if (door != NULL && peal_backlog_peer_full(&s->backlog, door)) {
        call_refused(s, call, index, PEAL_ERATE_LIMITED,
                     "too many of your messages wait for the store", "");
        return;
    }
    s->scratch.size = 0;
    peal_envelope_encode(env, &s->scratch);
    struct peal_store_op *op = NULL;
    if (s->scratch.failed)
        peal_buf_fini(&s->scratch);
    else
        op = peal_store_op_new(PEAL_STORE_PUT, env->group, peal_buf_span(&s->scratch), NULL, 0);
    if (op == NULL || peal_backlog_add(&s->backlog, door, op->message.size, s->now_ms) != PEAL_OK) {
        peal_store_op_free(op);
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

/* g is the group's entry, or NULL when there is none yet. */
static void publish_live(struct peal_shard *s, struct peal_group_entry *g,
                         struct peal_envelope *env, struct peal_call *call, size_t index)
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
    if (g == NULL) g = peal_table_ensure_group(&s->table, env->group);
    if (g == NULL) {
        call_refused(s, call, index, PEAL_ENOMEM, "out of memory", "");
        return;
    }
    env->epoch = g->epoch;
    env->offset = g->head + 1;
    s->scratch.size = 0;
    peal_envelope_encode(env, &s->scratch);
    bool keeps = peal_policy_keeps(g->policy);
    struct peal_bytes *kept = NULL;
    if (s->scratch.failed)
        peal_buf_fini(&s->scratch);
    else if (keeps)
        kept = peal_bytes_new(s->scratch.at, s->scratch.size);
    if (s->scratch.at == NULL || (keeps && kept == NULL)) {
        peal_table_rest(&s->table, g);
        call_refused(s, call, index, PEAL_ENOMEM, "out of memory", "");
        return;
    }
    g->head++;
    peal_count(PEAL_M_NUMBERED, 1);
    if (given) peal_dedup_add(&s->dedup, env->group, env->id, s->now_ms, env->epoch, env->offset);
    struct peal_frame message = {.type = PEAL_F_MESSAGE, .envelope = peal_buf_span(&s->scratch)};
    peal_table_fan_out(&s->table, g, &message);
    if (keeps) peal_table_keep(&s->table, g, kept);
    peal_bytes_unref(kept);
    peal_table_rest(&s->table, g);
    if (call == NULL) return;
    receipt_of(env, 0, &receipt);
    call_result(s, call, index, &receipt);
}

/* To the push door nobody can answer: the message goes to the slot's owner, once. */
static void push_elsewhere(struct peal_shard *s, const struct job *job, uint16_t slot,
                           enum peal_holding holding)
{
    enum peal_err err = PEAL_ENO_ROUTER;
    if (holding == PEAL_HOLD_ELSEWHERE && !job->forwarded)
        err = peal_cluster_forward(&s->cluster, slot, job->env);
    if (err == PEAL_OK) {
        peal_count(PEAL_M_FORWARDED, 1);
        return;
    }
    peal_count(PEAL_M_REFUSED_SLOT, 1);
    peal_log(PEAL_LOG_WARN, "push.dropped", "slot=%u reason=%s forwarded=%d", slot,
             peal_err_word(err), job->forwarded);
}

/* A node gets its envelope back, to be sent to the owner; a publisher is told where that is. */
static void publish_elsewhere(struct peal_shard *s, const struct job *job, uint16_t slot,
                              enum peal_holding holding)
{
    struct peal_call *call = job->call;
    char why[300] = "routers do not agree on whose group this is";
    if (call == NULL) {
        push_elsewhere(s, job, slot, holding);
        return;
    }
    peal_count(PEAL_M_REFUSED_SLOT, 1);
    struct peal_frame result = {.type = PEAL_F_RECEIPT, .code = PEAL_ENO_ROUTER};
    struct peal_buf back = {0};
    if (holding == PEAL_HOLD_FROZEN || peal_holdings_arriving(&s->cluster.holdings, slot)) {
        result.code = PEAL_EAGAIN;
        snprintf(why, sizeof why, "the group is moving to another router");
    } else if (holding == PEAL_HOLD_ELSEWHERE && call->door) {
        result.group = peal_span_of(peal_cluster_owner_rpc(&s->cluster, slot));
        snprintf(why, sizeof why, "the group belongs to router %u",
                 (unsigned)s->cluster.holdings.slots[slot].owner);
    } else if (holding == PEAL_HOLD_ELSEWHERE) {
        result = peal_cluster_moved(&s->cluster, slot);
        peal_envelope_encode(job->env, &back);
        result.envelope = peal_buf_span(&back);
        peal_count(PEAL_M_SLOTS_MOVED, 1);
    }
    result.message = peal_span_of(why);
    call_result(s, call, job->index, &result);
    peal_buf_fini(&back);
}

static void publish(struct peal_shard *s, const struct job *job)
{
    struct peal_envelope *env = job->env;
    char ulid[PEAL_ULID_SIZE];
    uint16_t slot;
    peal_count(PEAL_M_ACCEPTED, 1);
    if (!peal_cluster_owns_all(&s->cluster)) {
        enum peal_holding holding = peal_cluster_holding(&s->cluster, env->group, &slot);
        if (holding != PEAL_HOLD_MINE) {
            publish_elsewhere(s, job, slot, holding);
            return;
        }
    }
    env->ts_ms = s->wall_ms;
    env->epoch = 0;
    env->offset = 0;
    if (env->id.size == 0) {
        peal_ulids_next(&s->ulids, ulid, s->wall_ms);
        env->id = peal_span_make(ulid, sizeof ulid);
        env->flags &= ~(uint64_t)PEAL_MSG_ID_GIVEN;
    }
    /* The entry knows the policy; without one the patterns are walked. */
    struct peal_group_entry *g = job->group;
    if (g == NULL) g = peal_table_end_find(&s->table, job->hash, env->group);
    const struct peal_config_group *policy =
        g != NULL ? g->policy : peal_group_policy(s->config, env->group);
    if (policy->durable)
        publish_durable(s, env, policy, job->call, job->index);
    else
        publish_live(s, g, env, job->call, job->index);
}

static void do_jobs(struct peal_shard *s)
{
    for (size_t i = 0; i < s->job_count; i++)
        peal_table_fetch_group(&s->table, s->jobs[i].hash);
    /* No publish frees the entry of a group that others may be published to. */
    for (size_t i = 0; i < s->job_count; i++) {
        struct job *job = &s->jobs[i];
        job->group = peal_table_end_find(&s->table, job->hash, job->env->group);
        if (job->group != NULL) peal_history_begin_fetch(job->group->history);
    }
    for (size_t i = 0; i < s->job_count; i++) {
        const struct peal_group_entry *g = s->jobs[i].group;
        if (g != NULL) peal_history_fetch(g->history, (uint32_t)g->policy->history.messages);
    }
    for (size_t i = 0; i < s->job_count; i++)
        publish(s, &s->jobs[i]);
    s->job_count = 0;
}

/* Publishes env, whose group is a name, now or with the next do_jobs. */
static void add_job(struct peal_shard *s, struct peal_envelope *env, struct peal_call *call,
                    size_t index)
{
    if (s->job_count == AHEAD) do_jobs(s);
    uint32_t hash = peal_table_begin_find(&s->table, env->group);
    s->jobs[s->job_count++] = (struct job){env, call, index, hash, NULL, false};
}

static void publish_items(struct peal_shard *s, struct peal_publish_request *request,
                          struct peal_call *call)
{
    for (size_t i = 0; i < request->count; i++) {
        struct peal_publish_item *item = &request->items[i];
        if (item->err == PEAL_OK) {
            add_job(s, &item->env, call, i);
        } else {
            peal_count(PEAL_M_ACCEPTED, 1);
            call_refused(s, call, i, item->err, item->why, item->field);
        }
    }
}

static struct peal_publish_limits publish_limits(const struct peal_shard *s)
{
    return (struct peal_publish_limits){.message_bytes = s->config->limits.message,
                                        .targets = s->config->limits.users_per_publish,
                                        .total_bytes = PEAL_PUBLISH_BYTES_MAX};
}

/* What another router took at its push door. */
static void on_forwarded(struct peal_shard *s, struct peal_span bytes)
{
    struct peal_frame frame;
    struct peal_envelope env;
    do_jobs(s); /* order is kept, and the envelope is gone when this returns */
    bool good = peal_frame_decode(bytes, &frame) == PEAL_OK;
    if (good) {
        good = frame.type == PEAL_F_FORWARD &&
               peal_envelope_decode(frame.envelope, &env) == PEAL_OK &&
               peal_name_check(env.group) == PEAL_OK && env.data.size <= s->config->limits.message;
        if (good) {
            add_job(s, &env, NULL, 0);
            s->jobs[s->job_count - 1].forwarded = true;
            do_jobs(s);
        }
        peal_frame_fini(&frame);
    }
    if (good) return;
    peal_count(PEAL_M_ACCEPTED, 1);
    peal_count(PEAL_M_REFUSED_INVALID, 1);
    peal_log(PEAL_LOG_WARN, "push.refused", "code=bad_message why=\"not a forwarded message\"");
}

/* A list of maps, or a frame: that begins with a number. */
static bool is_frame(struct peal_span bytes)
{
    unsigned char first = bytes.size > 1 ? (unsigned char)bytes.at[0] : 0;
    return (first & 0xf0) == 0x90 && (unsigned char)bytes.at[1] < 0x80;
}

static void begin_push(struct peal_shard *s, struct peal_span bytes,
                       struct peal_publish_request *request)
{
    if (is_frame(bytes)) {
        *request = (struct peal_publish_request){0};
        on_forwarded(s, bytes);
        return;
    }
    struct peal_publish_limits limits = publish_limits(s);
    char why[200];
    enum peal_err err = peal_publish_decode(bytes, &limits, request, why, sizeof why);
    if (err != PEAL_OK) {
        /* Nobody can be told; it must not go unseen. */
        peal_count(PEAL_M_ACCEPTED, 1);
        peal_count(PEAL_M_REFUSED_INVALID, 1);
        peal_log(PEAL_LOG_WARN, "push.refused", "code=%s why=\"%s\"", peal_err_word(err), why);
        return;
    }
    for (size_t i = 0; i < request->count; i++)
        if (request->items[i].err != PEAL_OK)
            peal_log(PEAL_LOG_WARN, "push.refused", "code=%s why=\"%s\"",
                     peal_err_word(request->items[i].err), request->items[i].why);
    publish_items(s, request, NULL);
}

void peal_shard_on_pushes(struct peal_shard *s, const struct peal_span *bodies, size_t count)
{
    struct peal_publish_request requests[PEAL_SHARD_PUSHES];
    PEAL_ASSERT(count <= PEAL_SHARD_PUSHES);
    for (size_t i = 0; i < count; i++)
        begin_push(s, bodies[i], &requests[i]);
    do_jobs(s);
    for (size_t i = 0; i < count; i++)
        peal_publish_fini(&requests[i]);
}

void peal_shard_on_push(struct peal_shard *s, struct peal_span bytes)
{
    peal_shard_on_pushes(s, &bytes, 1);
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
    struct peal_call *call = peal_call_new(PEAL_CALL_PUBLISH, peer, in.req, request.count);
    if (call == NULL) {
        door_error(s, peer, in.req, PEAL_ENOMEM, "out of memory");
    } else {
        call->door = true;
        if (request.count == 0) {
            call_send(s, call);
            peal_call_free(call);
        } else {
            publish_items(s, &request, call);
            do_jobs(s);
        }
    }
    peal_publish_fini(&request);
    peal_buf_fini(&in.messages);
}

/* Tells a node whose slot it asked for, and gives it back what it asked, so that its bus sends it
 * there. */
static void send_back(struct peal_shard *s, const struct peal_peer *peer,
                      const struct peal_frame *frame, uint16_t slot)
{
    struct peal_buf back = {0};
    struct peal_frame moved = peal_cluster_moved(&s->cluster, slot);
    peal_frame_encode(frame, &back);
    if (!back.failed) {
        moved.req = frame->req;
        moved.envelope = peal_buf_span(&back);
        peal_count(PEAL_M_SLOTS_MOVED, 1);
        reply_frame(s, peer, &moved);
    }
    peal_buf_fini(&back);
}

static void tell_table(struct peal_shard *s, const struct peal_peer *peer)
{
    s->scratch.size = 0;
    peal_cluster_table(&s->cluster, &s->scratch);
    if (s->scratch.failed)
        peal_buf_fini(&s->scratch); /* the node is told when it asks for what is not here */
    else
        s->io.reply(s->io.ctx, peer, peal_buf_span(&s->scratch));
}

static void send_table(struct peal_shard *s, const struct peal_peer *peer)
{
    if (peal_cluster_speaks(&s->cluster)) tell_table(s, peer);
}

/* Frames with one publish go back as a whole; of others each result is one of its own. */
static bool publish_moved(struct peal_shard *s, const struct peal_peer *peer,
                          const struct peal_frame *frame)
{
    struct peal_envelope env;
    uint16_t slot;
    if (peal_cluster_owns_all(&s->cluster) || frame->entries.count != 1 ||
        peal_envelope_decode(frame->entries.at[0], &env) != PEAL_OK ||
        peal_cluster_holding(&s->cluster, env.group, &slot) != PEAL_HOLD_ELSEWHERE)
        return false;
    peal_count(PEAL_M_ACCEPTED, 1);
    peal_count(PEAL_M_REFUSED_SLOT, 1);
    send_back(s, peer, frame, slot);
    return true;
}

static void on_publish(struct peal_shard *s, const struct peal_peer *peer,
                       const struct peal_frame *frame)
{
    if (publish_moved(s, peer, frame)) return;
    struct peal_call *call =
        peal_call_new(PEAL_CALL_PUBLISH, peer, frame->req, frame->entries.count);
    if (call == NULL) return; /* the node's request times out */
    if (call->count == 0) {
        call_send(s, call);
        peal_call_free(call);
        return;
    }
    struct peal_envelope envs[AHEAD];
    for (size_t i = 0; i < frame->entries.count; i++) {
        struct peal_envelope *env = &envs[i % AHEAD];
        if (i % AHEAD == 0) do_jobs(s); /* their places are used again */
        if (peal_envelope_decode(frame->entries.at[i], env) != PEAL_OK) {
            peal_count(PEAL_M_ACCEPTED, 1);
            call_refused(s, call, i, PEAL_EBAD_MESSAGE, "not an envelope", "");
        } else if (peal_name_check(env->group) != PEAL_OK) {
            peal_count(PEAL_M_ACCEPTED, 1);
            call_refused(s, call, i, PEAL_EBAD_GROUP,
                         "group must be 1..200 bytes of UTF-8 without controls", "group");
        } else {
            add_job(s, env, call, i);
        }
    }
    do_jobs(s);
}

/* ---- joins and syncs --------------------------------------------------------------------- */

static void answer_join(struct peal_shard *s, const struct peal_call *call,
                        struct peal_node_entry *node, const struct peal_group_entry *g,
                        const struct peal_store_op *head)
{
    bool same = call->kind == PEAL_CALL_SYNC && call->epoch == g->epoch && call->offset == g->head;
    /* Of inboxes a node also wants the counts, which may have changed with the same head. */
    if (same && head == NULL) return;
    struct peal_frame answer = {.type = call->kind == PEAL_CALL_SYNC ? PEAL_F_AT : PEAL_F_JOINED,
                                .req = call->req,
                                .group = peal_group_entry_name(g),
                                .epoch = g->epoch,
                                .offset = g->head,
                                .first = head == NULL ? peal_group_entry_first(g) : head->first,
                                .unread = head == NULL ? 0 : head->unread,
                                .rev = head == NULL ? 0 : head->rev,
                                .flags = peal_policy_keeps(g->policy) ? PEAL_FLAG_KEEPS : 0};
    peal_table_tell(&s->table, node, &answer);
}

static void refuse_join(struct peal_shard *s, const struct peal_call *call,
                        struct peal_node_entry *node, struct peal_span group, enum peal_err err)
{
    if (call->kind == PEAL_CALL_SYNC) {
        node->seq++; /* the node believes to be joined: let it notice, and sync again */
        return;
    }
    struct peal_frame answer = {
        .type = PEAL_F_JOINED, .req = call->req, .group = group, .code = err};
    peal_table_tell(&s->table, node, &answer);
}

/* Joins of slots that are another's are answered with whose they are. A sync says nothing of them:
 * the table that comes with its answer does. What has no owner yet makes the node ask again. */
static bool join_moved(struct peal_shard *s, const struct peal_call *call,
                       struct peal_node_entry *node, struct peal_span group)
{
    uint16_t slot;
    if (peal_cluster_owns_all(&s->cluster)) return false;
    enum peal_holding holding = peal_cluster_holding(&s->cluster, group, &slot);
    if (holding == PEAL_HOLD_MINE || holding == PEAL_HOLD_FROZEN) return false;
    if (holding == PEAL_HOLD_NOBODY) {
        node->sync_refused |= call->kind == PEAL_CALL_SYNC;
    } else if (call->kind == PEAL_CALL_JOIN) {
        struct peal_frame moved = peal_cluster_moved(&s->cluster, slot);
        peal_count(PEAL_M_SLOTS_MOVED, 1);
        peal_table_tell(&s->table, node, &moved);
    }
    return true;
}

/* The group's entry is at its newest position: add the node there and say so. */
static void join_here(struct peal_shard *s, const struct peal_call *call,
                      struct peal_node_entry *node, struct peal_span name,
                      const struct peal_store_op *head)
{
    if (join_moved(s, call, node, name)) return; /* perhaps while the store was asked */
    struct peal_group_entry *g = peal_table_ensure_group(&s->table, name);
    if (g == NULL) {
        refuse_join(s, call, node, name, PEAL_ENOMEM);
        return;
    }
    if (head != NULL) {
        g->epoch = head->epoch;
        g->head = head->offset;
    } else {
        peal_table_trim(&s->table, g); /* the oldest that it has is told */
    }
    if (peal_table_add_row(g, node) == PEAL_OK) {
        answer_join(s, call, node, g, head);
    } else {
        refuse_join(s, call, node, name, PEAL_ENOMEM);
        peal_table_rest(&s->table, g);
    }
}

static void join(struct peal_shard *s, struct peal_node_entry *node, int kind,
                 const struct peal_peer *peer, uint64_t req, const struct peal_position *at)
{
    struct peal_call local = {.kind = kind, .req = req, .boot = node->boot};
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
    if (join_moved(s, &local, node, at->group)) return;
    /* Under pressure a join is not taken: the node asks again. A sync is, whatever comes: what it
     * does not name loses its row. It names at most what the node holds. */
    if (kind == PEAL_CALL_JOIN && s->waiting_count >= WAITING_MAX) return;
    struct peal_store_op *op =
        peal_store_op_new(PEAL_STORE_HEAD, at->group, (struct peal_span){0}, NULL, 0);
    struct peal_call *call = op == NULL ? NULL : peal_call_new(kind, peer, req, 0);
    if (call == NULL) {
        peal_store_op_free(op);
        refuse_join(s, &local, node, at->group, PEAL_ENOMEM);
        return;
    }
    call->boot = node->boot;
    call->epoch = op->seen_epoch = at->epoch;
    call->offset = op->seen_offset = at->offset;
    op->policy = policy;
    op->ctx = call;
    submit(s, op);
}

static void on_leave(struct peal_shard *s, struct peal_node_entry *node, struct peal_span name)
{
    struct peal_group_entry *g = peal_table_find_group(&s->table, name);
    if (g != NULL) peal_table_remove_row(&s->table, g, node);
}

/* With this page everything is named. A page may be lost with a connection: then nothing is
 * removed, and the node says it all again. */
static bool ends_sync(const struct peal_node_entry *node, const struct peal_frame *frame)
{
    return (frame->flags & PEAL_FLAG_LAST) && frame->seq == node->sync_seq &&
           frame->limit == node->sync_named;
}

/* Pages of all the groups a node holds; after the last one exactly those remain. */
static void on_sync(struct peal_shard *s, struct peal_node_entry *node,
                    const struct peal_peer *peer, const struct peal_frame *frame)
{
    if (frame->flags & PEAL_FLAG_FIRST) {
        peal_table_begin_sync(&s->table, node);
        node->sync_seq = frame->seq;
        node->sync_refused = false;
    }
    node->sync_named += frame->positions.count;
    for (size_t i = 0; i < frame->positions.count; i++) {
        const struct peal_position *at = &frame->positions.at[i];
        struct peal_group_entry *g = peal_table_find_group(&s->table, at->group);
        /* A durable group is looked up in the store first: its row counts as named already. */
        if (g != NULL && peal_table_has_row(g, node) && peal_table_add_row(g, node) != PEAL_OK)
            PEAL_ASSERT(false); /* a row that is there costs no memory */
        join(s, node, PEAL_CALL_SYNC, peer, 0, at);
    }
    if (!ends_sync(node, frame)) return;
    send_table(s, peer);
    if (node->sync_refused) return;       /* it is not confirmed, so it comes again */
    peal_table_end_sync(&s->table, node); /* table_synced says when it is done */
    s->sweeping = true;
}

/* What the node sent before has been taken, so the rolls are equal, but for a join that is at the
 * store: then the node names the slot, and nothing comes of it. */
static void on_check(struct peal_shard *s, const struct peal_node_entry *node,
                     const struct peal_peer *peer, const struct peal_frame *frame)
{
    uint64_t slots[PEAL_SLOTS];
    struct peal_frame differ = {.type = PEAL_F_DIFFER};
    differ.offsets.at = slots;
    if (frame->from >= PEAL_SLOTS) return;
    for (size_t i = 0; i < frame->offsets.count && frame->from + i < PEAL_SLOTS; i++)
        if (node->roll.slots[frame->from + i].digest != frame->offsets.at[i])
            slots[differ.offsets.count++] = frame->from + i;
    if (differ.offsets.count > 0) reply_frame(s, peer, &differ);
}

/* One group of a slot that the node names. True when its row was missing. */
static bool name_in_slot(struct peal_shard *s, struct peal_node_entry *node,
                         const struct peal_peer *peer, const struct peal_position *at)
{
    struct peal_group_entry *g = peal_table_find_group(&s->table, at->group);
    bool has_row = g != NULL && peal_table_has_row(g, node);
    if (has_row && peal_table_add_row(g, node) != PEAL_OK)
        PEAL_ASSERT(false); /* a row that is there costs no memory */
    /* Asked for and not answered: the row may be there already, or its join comes yet. */
    if (at->epoch == 0) return false;
    if (has_row && at->epoch == g->epoch && at->offset == g->head) return false;
    join(s, node, PEAL_CALL_SYNC, peer, 0, at);
    return !has_row;
}

/* Pages of all that a node holds in one slot; after the last one exactly those remain of it. */
static void on_sync_slot(struct peal_shard *s, struct peal_node_entry *node,
                         const struct peal_peer *peer, const struct peal_frame *frame)
{
    uint32_t missing = 0;
    uint32_t removed = 0;
    if (frame->from >= PEAL_SLOTS) return;
    if (peal_holdings_of(&s->cluster.holdings, (uint16_t)frame->from) == PEAL_HOLD_ELSEWHERE) {
        send_table(s, peer);
        return;
    }
    if (frame->flags & PEAL_FLAG_FIRST) {
        if (!peal_table_begin_slot(node)) return; /* what follows belongs to nothing then */
        node->sync_seq = frame->seq;
    }
    if (frame->seq != node->sync_seq) return;
    node->sync_named += frame->positions.count;
    for (size_t i = 0; i < frame->positions.count; i++)
        if (peal_group_slot(frame->positions.at[i].group) == frame->from)
            missing += name_in_slot(s, node, peer, &frame->positions.at[i]);
    if (ends_sync(node, frame))
        removed = peal_table_end_slot(&s->table, node, (uint16_t)frame->from);
    if (missing + removed == 0) return;
    peal_count(PEAL_M_ROWS_HEALED, missing + removed);
    peal_log(PEAL_LOG_WARN, "node.healed", "boot=%016llx slot=%u missing=%u removed=%u",
             (unsigned long long)node->boot, (unsigned)frame->from, missing, removed);
}

/* ---- pages and marks --------------------------------------------------------------------- */

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

static void fetch_live(struct peal_shard *s, const struct peal_peer *peer,
                       const struct peal_frame *in)
{
    struct peal_group_entry *g = peal_table_find_group(&s->table, in->group);
    if (g == NULL) { /* after a restart: the node syncs first */
        fetch_refuse(s, peer, in, PEAL_EAGAIN, "the group is not known here yet");
        return;
    }
    peal_table_trim(&s->table, g);
    s->scratch.size = 0;
    peal_page_of_history(g, in, s->wall_ms, &s->scratch);
    if (!s->scratch.failed) {
        s->io.reply(s->io.ctx, peer, peal_buf_span(&s->scratch));
        return;
    }
    peal_buf_fini(&s->scratch);
    fetch_refuse(s, peer, in, PEAL_ENOMEM, "out of memory");
}

static void on_fetch(struct peal_shard *s, struct peal_node_entry *node,
                     const struct peal_peer *peer, const struct peal_frame *in)
{
    if (peal_name_check(in->group) != PEAL_OK) {
        fetch_refuse(s, peer, in, PEAL_EBAD_GROUP, "not a group name");
        return;
    }
    const struct peal_config_group *policy = peal_group_policy(s->config, in->group);
    uint16_t slot;
    switch (peal_cluster_holding(&s->cluster, in->group, &slot)) {
    case PEAL_HOLD_ELSEWHERE:
        send_back(s, peer, in, slot);
        return;
    case PEAL_HOLD_NOBODY:
        fetch_refuse(s, peer, in, PEAL_EAGAIN, "routers do not agree on whose group this is");
        return;
    case PEAL_HOLD_MINE:
    case PEAL_HOLD_FROZEN:
        break;
    }
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
    if (err == PEAL_ERATE_LIMITED) answer.after_ms = peal_backlog_after_ms(&s->backlog);
    reply_frame(s, peer, &answer);
}

static void on_mark(struct peal_shard *s, struct peal_node_entry *node,
                    const struct peal_peer *peer, const struct peal_frame *in)
{
    const struct peal_config_group *policy = NULL;
    if (peal_name_check(in->group) == PEAL_OK && peal_group_is_inbox(in->group))
        policy = peal_group_policy(s->config, in->group);
    if (policy == NULL || !policy->durable || in->offsets.count > PEAL_ACK_OFFSETS_MAX) {
        answer_mark(s, peer, in->req, in->group, NULL, PEAL_EBAD_GROUP);
        return;
    }
    uint16_t slot;
    enum peal_holding holding = peal_cluster_holding(&s->cluster, in->group, &slot);
    if (holding == PEAL_HOLD_ELSEWHERE) {
        send_back(s, peer, in, slot);
        return;
    }
    if (holding != PEAL_HOLD_MINE) {
        answer_mark(s, peer, in->req, in->group, NULL, PEAL_EAGAIN);
        return;
    }
    struct peal_store_op *op = NULL;
    struct peal_call *call = NULL;
    if (s->waiting_count < WAITING_MAX)
        op = peal_store_op_new(PEAL_STORE_MARK, in->group, (struct peal_span){0}, in->offsets.at,
                               in->offsets.count);
    if (op != NULL) call = peal_call_new(PEAL_CALL_MARK, peer, in->req, 0);
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

/* ---- presence ---------------------------------------------------------------------------- */

static void presence_tell(void *ctx, uint64_t boot, const struct peal_frame *frame)
{
    struct peal_shard *s = ctx;
    struct peal_node_entry *node = peal_table_find_node(&s->table, boot);
    if (node != NULL) peal_table_tell(&s->table, node, frame);
}

static bool presence_alive(void *ctx, uint64_t boot)
{
    return peal_table_find_node(&((struct peal_shard *)ctx)->table, boot) != NULL;
}

/* Is this a group whose policy asks who is there? */
static enum peal_err check_presence(struct peal_shard *s, struct peal_span group)
{
    if (peal_name_check(group) != PEAL_OK) return PEAL_EBAD_GROUP;
    const struct peal_config_group *policy = peal_group_policy(s->config, group);
    return policy->presence == PEAL_PRESENCE_OFF ? PEAL_EBAD_FIELD : PEAL_OK;
}

/* The group is another router's: it comes back. PEAL_EAGAIN while nobody knows whose it is. */
static bool presence_moved(struct peal_shard *s, const struct peal_peer *peer,
                           const struct peal_frame *in, enum peal_err *err)
{
    uint16_t slot;
    if (*err != PEAL_OK || peal_cluster_owns_all(&s->cluster)) return false;
    enum peal_holding holding = peal_cluster_holding(&s->cluster, in->group, &slot);
    if (holding == PEAL_HOLD_NOBODY) *err = PEAL_EAGAIN;
    if (holding != PEAL_HOLD_ELSEWHERE) return false;
    send_back(s, peer, in, slot);
    return true;
}

static void on_present(struct peal_shard *s, struct peal_node_entry *node,
                       const struct peal_peer *peer, const struct peal_frame *in)
{
    uint64_t event = 0;
    enum peal_err err = check_presence(s, in->group);
    if (presence_moved(s, peer, in, &err)) return;
    if (err == PEAL_OK) err = peal_presence_report(s->presence, node->boot, in, &event);
    if (in->req == 0) return; /* a page that others follow */
    struct peal_frame answer = {
        .type = PEAL_F_PRESENTED, .req = in->req, .group = in->group, .to = event, .code = err};
    peal_table_tell(&s->table, node, &answer);
}

static void on_who(struct peal_shard *s, struct peal_node_entry *node, const struct peal_peer *peer,
                   const struct peal_frame *in)
{
    struct peal_person people[PEAL_WHO_MAX];
    struct peal_frame answer = {.type = PEAL_F_PRESENCE, .req = in->req, .group = in->group};
    enum peal_err err = check_presence(s, in->group);
    size_t room = in->limit < PEAL_WHO_MAX ? (size_t)in->limit : PEAL_WHO_MAX;
    if (in->req == 0) return; /* nobody would know what is meant */
    if (presence_moved(s, peer, in, &err)) return;
    if (err == PEAL_OK) peal_presence_who(s->presence, in, people, room, &answer);
    answer.code = err;
    peal_table_tell(&s->table, node, &answer);
}

/* ---- results of the store ---------------------------------------------------------------- */

static void put_done(struct peal_shard *s, struct peal_store_op *op)
{
    struct peal_call *call = op->ctx;
    peal_backlog_remove(&s->backlog, door_of(call), op->message.size, s->now_ms);
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
        struct peal_group_entry *g = peal_table_find_group(&s->table, op->group);
        if (g != NULL) {
            g->epoch = op->epoch;
            g->head = op->offset;
            struct peal_frame message = {.type = PEAL_F_MESSAGE,
                                         .envelope = peal_bytes_span(op->encoded),
                                         .unread = op->unread,
                                         .rev = op->rev};
            peal_table_fan_out(&s->table, g, &message);
        }
    }
    receipt_of(&env, PEAL_FLAG_STORED | (op->duplicate ? PEAL_FLAG_DUPLICATE : 0), &receipt);
    call_result(s, call, op->tag[0], &receipt);
}

static void head_done(struct peal_shard *s, struct peal_store_op *op)
{
    struct peal_call *call = op->ctx;
    struct peal_node_entry *node = peal_table_find_node(&s->table, call->boot);
    if (node != NULL) {
        if (op->err == PEAL_OK)
            join_here(s, call, node, op->group, op);
        else
            refuse_join(s, call, node, op->group, op->err);
    }
    peal_call_free(call);
}

static void mark_done(struct peal_shard *s, struct peal_store_op *op)
{
    struct peal_call *call = op->ctx;
    answer_mark(s, &call->peer, call->req, op->group, op, op->err);
    peal_call_free(call);
    struct peal_group_entry *g = peal_table_find_group(&s->table, op->group);
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
    peal_table_fan_out(&s->table, g, &state);
}

/* ---- the table of slots ------------------------------------------------------------------ */

static void write_slots(struct peal_shard *s)
{
    struct peal_store_op *op = peal_cluster_write(&s->cluster);
    if (op != NULL) submit(s, op);
}

/* What the disk has may be told. Nodes hear of a slot that was given away from its new owner, who
 * will then be ready to answer. */
static void slots_done(struct peal_shard *s, const struct peal_store_op *op)
{
    bool giving = peal_mover_busy(&s->mover);
    if (!peal_cluster_on_written(&s->cluster, op)) return; /* tried again with the next second */
    if (s->table.quiet && peal_cluster_knows(&s->cluster)) {
        s->table.quiet = false;
        s->second_due_ms = s->now_ms; /* nodes wait for a beat */
    }
    peal_cluster_tell(&s->cluster);
    peal_mover_on_written(&s->mover);
    struct peal_map_node *it = NULL;
    struct peal_peer peer;
    while (!giving && (it = peal_map_next(&s->table.nodes, it)) != NULL) {
        peer_of_node(PEAL_FROM_NODE(it, struct peal_node_entry, node)->boot, &peer);
        send_table(s, &peer);
    }
    write_slots(s);
}

static void on_router(struct peal_shard *s, struct peal_span bytes)
{
    bool lost[PEAL_SLOTS];
    struct peal_frame frame;
    enum peal_err err = peal_frame_decode(bytes, &frame);
    if (err != PEAL_OK) {
        peal_log(PEAL_LOG_WARN, "router.bad_frame", "code=%s", peal_err_word(err));
        return;
    }
    if (frame.type == PEAL_F_COPY || frame.type == PEAL_F_COPIED) {
        peal_mover_on_frame(&s->mover, &frame);
    } else if (peal_cluster_on_frame(&s->cluster, &frame, lost)) {
        peal_table_drop_slots(&s->table, lost);
        peal_presence_drop_slots(s->presence, lost);
    }
    write_slots(s);
    peal_frame_fini(&frame);
}

/* `peal slots`. */
static void on_operator(struct peal_shard *s, const struct peal_peer *peer, struct peal_span bytes)
{
    struct peal_frame frame;
    enum peal_err err = peal_frame_decode(bytes, &frame);
    if (err != PEAL_OK) {
        peal_log(PEAL_LOG_WARN, "operator.bad_frame", "code=%s", peal_err_word(err));
        return;
    }
    if (frame.type == PEAL_F_MOVE)
        peal_mover_on_move(&s->mover, peer, &frame);
    else
        tell_table(s, peer);
    peal_frame_fini(&frame);
}

/* ---- what moves with a slot -------------------------------------------------------------- */

static void mover_submit(void *ctx, struct peal_store_op *op)
{
    submit(ctx, op);
}

static void mover_answer(void *ctx, const struct peal_peer *peer, const struct peal_frame *frame)
{
    reply_frame(ctx, peer, frame);
}

static void mover_changed(void *ctx)
{
    write_slots(ctx);
}

static void mover_forget(void *ctx, uint16_t slot)
{
    struct peal_shard *s = ctx;
    bool slots[PEAL_SLOTS] = {false};
    slots[slot] = true;
    peal_table_drop_slots(&s->table, slots);
    peal_presence_drop_slots(s->presence, slots);
}

static enum peal_err close_piece(struct peal_parcel *parcel, uint64_t boot, struct peal_pieces *out)
{
    struct peal_span bytes = peal_parcel_finish(parcel, boot, 0);
    enum peal_err err = peal_pieces_add(out, peal_bytes_new(bytes.at, bytes.size));
    peal_parcel_clear(parcel);
    return err;
}

static enum peal_err collect_frame(struct peal_shard *s, struct peal_parcel *parcel,
                                   const struct peal_frame *frame, struct peal_pieces *out)
{
    enum peal_err err = PEAL_OK;
    if (peal_parcel_full(parcel)) err = close_piece(parcel, s->table.boot, out);
    return err == PEAL_OK ? peal_parcel_add(parcel, frame) : err;
}

static enum peal_err collect_group(struct peal_shard *s, struct peal_group_entry *g,
                                   struct peal_parcel *parcel, struct peal_pieces *out)
{
    struct peal_frame at = {
        .type = PEAL_F_AT, .group = peal_group_entry_name(g), .epoch = g->epoch, .offset = g->head};
    enum peal_err err = collect_frame(s, parcel, &at, out);
    for (uint32_t i = 0; i < peal_group_entry_kept(g) && err == PEAL_OK; i++) {
        struct peal_frame message = {.type = PEAL_F_MESSAGE,
                                     .envelope = peal_bytes_span(peal_history_get(g->history, i))};
        err = collect_frame(s, parcel, &message, out);
    }
    return err;
}

/* A walk over all groups, of which one in a thousand is meant. */
static enum peal_err mover_collect(void *ctx, uint16_t slot, struct peal_pieces *out)
{
    struct peal_shard *s = ctx;
    struct peal_parcel parcel = {0};
    struct peal_map_node *n = NULL;
    enum peal_err err = PEAL_OK;
    while (err == PEAL_OK && (n = peal_map_next(&s->table.groups, n)) != NULL) {
        struct peal_group_entry *g = PEAL_FROM_NODE(n, struct peal_group_entry, node);
        if (!g->policy->durable && peal_group_slot(peal_group_entry_name(g)) == slot)
            err = collect_group(s, g, &parcel, out);
    }
    if (err == PEAL_OK && parcel.count > 0) err = close_piece(&parcel, s->table.boot, out);
    peal_parcel_fini(&parcel);
    return err;
}

static enum peal_err adopt_group(struct peal_shard *s, uint16_t slot, const struct peal_frame *at)
{
    if (peal_name_check(at->group) != PEAL_OK || peal_group_slot(at->group) != slot)
        return PEAL_EBAD_MESSAGE;
    if (peal_group_policy(s->config, at->group)->durable) return PEAL_OK; /* not here */
    struct peal_group_entry *g = peal_table_ensure_group(&s->table, at->group);
    if (g == NULL) return PEAL_ENOMEM;
    g->epoch = at->epoch;
    g->head = at->offset;
    peal_table_rest(&s->table, g);
    return PEAL_OK;
}

/* Its age begins anew. */
static enum peal_err adopt_message(struct peal_shard *s, const struct peal_frame *message)
{
    struct peal_envelope env;
    if (peal_envelope_decode(message->envelope, &env) != PEAL_OK) return PEAL_EBAD_MESSAGE;
    struct peal_group_entry *g = peal_table_find_group(&s->table, env.group);
    if (g == NULL || g->policy->durable) return PEAL_OK;
    if (env.epoch != g->epoch || env.offset > g->head) return PEAL_EBAD_MESSAGE;
    struct peal_bytes *kept = peal_bytes_new(message->envelope.at, message->envelope.size);
    if (kept == NULL) return PEAL_ENOMEM;
    peal_table_keep(&s->table, g, kept);
    peal_bytes_unref(kept);
    if (env.flags & PEAL_MSG_ID_GIVEN)
        peal_dedup_add(&s->dedup, env.group, env.id, s->now_ms, env.epoch, env.offset);
    return PEAL_OK;
}

static enum peal_err mover_adopt(void *ctx, uint16_t slot, struct peal_span piece)
{
    struct peal_shard *s = ctx;
    struct peal_frame batch;
    enum peal_err err = peal_frame_decode(piece, &batch);
    if (err != PEAL_OK) return err;
    for (size_t i = 0; i < batch.entries.count && err == PEAL_OK; i++) {
        struct peal_frame entry;
        err = peal_frame_decode(batch.entries.at[i], &entry);
        if (err != PEAL_OK) break;
        if (entry.type == PEAL_F_AT)
            err = adopt_group(s, slot, &entry);
        else if (entry.type == PEAL_F_MESSAGE)
            err = adopt_message(s, &entry);
        else
            err = PEAL_EBAD_MESSAGE;
        peal_frame_fini(&entry);
    }
    peal_frame_fini(&batch);
    return err;
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
    case PEAL_STORE_SLOTS:
        slots_done(s, op);
        break;
    case PEAL_STORE_EXPORT:
    case PEAL_STORE_IMPORT:
    case PEAL_STORE_DROP:
        peal_mover_on_done(&s->mover, op);
        break;
    }
    peal_store_op_free(op);
    submit_waiting(s);
}

/* ---- input and time ---------------------------------------------------------------------- */

static void on_frame(struct peal_shard *s, struct peal_node_entry *node,
                     const struct peal_peer *peer, const struct peal_frame *frame)
{
    switch (frame->type) {
    case PEAL_F_BEAT:
        break;
    case PEAL_F_JOIN: {
        struct peal_position at = {.group = frame->group};
        join(s, node, PEAL_CALL_JOIN, peer, frame->req, &at);
        break;
    }
    case PEAL_F_LEAVE:
        on_leave(s, node, frame->group);
        break;
    case PEAL_F_SYNC:
        on_sync(s, node, peer, frame);
        break;
    case PEAL_F_CHECK:
        on_check(s, node, peer, frame);
        break;
    case PEAL_F_SYNC_SLOT:
        on_sync_slot(s, node, peer, frame);
        break;
    case PEAL_F_PUBLISH:
        on_publish(s, peer, frame);
        break;
    case PEAL_F_FETCH:
        on_fetch(s, node, peer, frame);
        break;
    case PEAL_F_MARK:
        on_mark(s, node, peer, frame);
        break;
    case PEAL_F_PRESENT:
        on_present(s, node, peer, frame);
        break;
    case PEAL_F_WHO:
        on_who(s, node, peer, frame);
        break;
    default:
        peal_log(PEAL_LOG_WARN, "node.bad_frame", "boot=%016llx type=%s",
                 (unsigned long long)node->boot, peal_frame_name(frame->type));
    }
}

/* What a turn of the node's bus had for this router. One that cannot be read is like one that got
 * lost: the others do not depend on it. */
static void on_frames(struct peal_shard *s, struct peal_node_entry *node,
                      const struct peal_peer *peer, const struct peal_frame *batch)
{
    for (size_t i = 0; i < batch->entries.count; i++) {
        struct peal_frame frame;
        enum peal_err err = peal_frame_decode(batch->entries.at[i], &frame);
        if (err != PEAL_OK) {
            peal_log(PEAL_LOG_WARN, "node.bad_frame", "boot=%016llx code=%s",
                     (unsigned long long)node->boot, peal_err_word(err));
            continue;
        }
        on_frame(s, node, peer, &frame);
        peal_frame_fini(&frame);
    }
}

void peal_shard_on_rpc(struct peal_shard *s, const struct peal_peer *peer, struct peal_span bytes)
{
    unsigned char first = bytes.size > 0 ? (unsigned char)bytes.at[0] : 0;
    bool array = (first & 0xf0) == 0x90 || first == 0xdc || first == 0xdd;
    if (!array) {
        on_door(s, peer, bytes);
        return;
    }
    if (peer->publisher) {
        peal_count(PEAL_M_BUS_FORBIDDEN, 1);
        door_error(s, peer, 0, PEAL_EFORBIDDEN, "this key may only publish");
        return;
    }
    uint64_t boot;
    struct peal_frame frame;
    if (peal_router_id_is(peal_span_make(peer->id, peer->id_size))) {
        on_router(s, bytes);
        return;
    }
    if (peal_operator_id_is(peal_span_make(peer->id, peer->id_size))) {
        on_operator(s, peer, bytes);
        return;
    }
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
    struct peal_node_entry *node = peal_table_ensure_node(&s->table, boot);
    if (node != NULL) {
        node->seen_ms = s->now_ms;
        if (frame.type == PEAL_F_BATCH)
            on_frames(s, node, peer, &frame);
        else
            on_frame(s, node, peer, &frame);
    }
    peal_frame_fini(&frame);
}

void peal_shard_on_link(struct peal_shard *s, uint64_t boot)
{
    struct peal_node_entry *node = peal_table_ensure_node(&s->table, boot);
    if (node != NULL) peal_table_send(&s->table, node);
}

void peal_shard_on_tick(struct peal_shard *s)
{
    submit_waiting(s);
    peal_presence_on_tick(s->presence);
    peal_mover_on_tick(&s->mover, s->now_ms);
    if (s->now_ms >= s->second_due_ms) {
        s->second_due_ms = s->now_ms + PEAL_BEAT_MS;
        peal_table_on_second(&s->table);
        s->sweeping = true;
        write_slots(s);
        peal_cluster_tell(&s->cluster);
    }
    if (s->sweeping) s->sweeping = peal_table_sweep(&s->table);
}

bool peal_shard_busy(const struct peal_shard *s)
{
    return s->sweeping;
}

void peal_shard_flush(struct peal_shard *s)
{
    peal_table_flush(&s->table);
}

size_t peal_shard_waiting(const struct peal_shard *s)
{
    bool enough = peal_backlog_half_full(&s->backlog);
    return s->waiting_count > 0 || !enough ? s->waiting_count : 1;
}

bool peal_shard_begins(const struct peal_shard *s)
{
    return s->table.quiet && s->cluster.holdings.seeded;
}

bool peal_shard_unsettled(const struct peal_shard *s)
{
    return !s->cluster.holdings.seeded || peal_mover_busy(&s->mover);
}

void peal_shard_set_time(struct peal_shard *s, uint64_t mono_ms, uint64_t wall_ms)
{
    s->now_ms = mono_ms;
    s->table.now_ms = mono_ms;
    peal_presence_set_time(s->presence, mono_ms);
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
    struct peal_presence_io presence = {s, presence_tell, presence_alive};
    s->presence = peal_presence_new(config, &presence, boot);
    if (s->presence == NULL) {
        free(s);
        return NULL;
    }
    peal_link_init(&s->waiting);
    peal_cluster_init(&s->cluster, config, boot);
    struct peal_mover_io mover = {s,           mover_submit, mover_answer, mover_collect,
                                  mover_adopt, mover_forget, mover_changed};
    peal_mover_init(&s->mover, &mover, &s->cluster);
    if (peal_table_init(&s->table, config, boot) == PEAL_OK) {
        s->table.ctx = s;
        s->table.topic = table_topic;
        s->table.synced = table_synced;
        if (peal_dedup_init(&s->dedup, config->dedup.age_ms, config->dedup.ids) == PEAL_OK) {
            if (peal_backlog_init(&s->backlog) == PEAL_OK) return s;
            peal_dedup_fini(&s->dedup);
        }
        peal_table_fini(&s->table);
    }
    peal_presence_free(s->presence);
    free(s);
    return NULL;
}

void peal_shard_free(struct peal_shard *s)
{
    if (s == NULL) return;
    PEAL_LIST_EACH(&s->waiting, it, after)
    {
        struct peal_store_op *op = PEAL_FROM_LINK(it, struct peal_store_op, link);
        struct peal_call *call = op->ctx;
        peal_list_remove(it);
        /* Several operations may share a publish call; the last one frees it. */
        if (call != NULL && (call->kind != PEAL_CALL_PUBLISH || --call->remaining == 0))
            peal_call_free(call);
        peal_store_op_free(op);
    }
    peal_presence_free(s->presence);
    peal_table_fini(&s->table);
    peal_dedup_fini(&s->dedup);
    peal_mover_fini(&s->mover);
    peal_cluster_fini(&s->cluster);
    peal_backlog_fini(&s->backlog);
    peal_buf_fini(&s->scratch);
    free(s);
}

enum peal_err peal_shard_join_cluster(struct peal_shard *s, const struct peal_cluster_io *io,
                                      size_t self, size_t router_count, struct peal_span kept,
                                      char *why, size_t why_size)
{
    enum peal_err err =
        peal_cluster_start(&s->cluster, io, self, router_count, kept, why, why_size);
    if (err != PEAL_OK) return err;
    /* A node that hears a beat believes that its groups are served. */
    s->table.quiet = !peal_cluster_knows(&s->cluster);
    write_slots(s);
    return PEAL_OK;
}

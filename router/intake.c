#include "router/intake.h"

#include <stdio.h>

#include "base/assert.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "proto/door.h"
#include "proto/envelope.h"
#include "proto/group.h"
#include "proto/publish.h"
#include "router/shard_state.h"

/* What scratch has is the answer, which ends the call. */
static void call_end(struct peal_shard *s, struct peal_call *call)
{
    if (!s->scratch.failed) {
        s->io.reply(s->io.ctx, &call->peer, peal_buf_span(&s->scratch));
    } else {
        peal_buf_fini(&s->scratch); /* whoever asked hears nothing, and asks again */
        peal_count(PEAL_M_ROUTER_DROPPED, 1);
    }
    peal_call_free(call);
}

static void call_send(struct peal_shard *s, struct peal_call *call)
{
    s->scratch.size = 0;
    peal_call_answer(call, &s->scratch);
    call_end(s, call);
}

/* One result of a publish; the last one sends the answer and ends the call. */
static void call_result(struct peal_shard *s, struct peal_call *call, size_t index,
                        const struct peal_frame *receipt)
{
    if (call == NULL) return;             /* the PUSH door wants no answer */
    if (call->door && call->count == 1) { /* nothing to keep: that is what most are */
        s->scratch.size = 0;
        peal_call_answer_one(call, receipt, &s->scratch);
        call_end(s, call);
        return;
    }
    peal_call_keep(call, index, receipt, &s->scratch);
    if (--call->remaining == 0) call_send(s, call);
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
    if (s->waiting_count >= PEAL_SHARD_WAITING_MAX || peal_backlog_full(&s->backlog)) {
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
    peal_shard_submit(s, op);
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
static void push_elsewhere(struct peal_shard *s, const struct peal_job *job, uint16_t slot,
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
static void publish_elsewhere(struct peal_shard *s, const struct peal_job *job, uint16_t slot,
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

static void publish(struct peal_shard *s, const struct peal_job *job)
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
        struct peal_job *job = &s->jobs[i];
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
    if (s->job_count == PEAL_SHARD_AHEAD) do_jobs(s);
    uint32_t hash = peal_table_begin_find(&s->table, env->group);
    s->jobs[s->job_count++] = (struct peal_job){env, call, index, hash, NULL, false};
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

void peal_intake_refuse(struct peal_shard *s, const struct peal_peer *peer, uint64_t req,
                        enum peal_err err, const char *why)
{
    struct peal_buf out = {0};
    peal_door_encode_error(req, err, why, &out);
    if (!out.failed) s->io.reply(s->io.ctx, peer, peal_buf_span(&out));
    peal_buf_fini(&out);
}

void peal_intake_on_call(struct peal_shard *s, const struct peal_peer *peer, struct peal_span bytes)
{
    struct peal_door_call in;
    struct peal_publish_request request;
    char why[200];
    enum peal_err err = peal_door_decode(bytes, &in, why, sizeof why);
    if (err != PEAL_OK) {
        peal_intake_refuse(s, peer, in.req, err, why);
        return;
    }
    struct peal_publish_limits limits = publish_limits(s);
    err = peal_publish_decode(in.messages, &limits, &request, why, sizeof why);
    if (err != PEAL_OK) {
        peal_intake_refuse(s, peer, in.req, err, why);
        return;
    }
    struct peal_call *call = peal_call_new(PEAL_CALL_PUBLISH, peer, in.req, request.count);
    if (call == NULL) {
        peal_intake_refuse(s, peer, in.req, PEAL_ENOMEM, "out of memory");
    } else {
        call->door = true;
        if (request.count == 0) {
            call_send(s, call);
        } else {
            publish_items(s, &request, call);
            do_jobs(s);
        }
    }
    peal_publish_fini(&request);
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
    peal_shard_send_back(s, peer, frame, slot);
    return true;
}

void peal_intake_on_publish(struct peal_shard *s, const struct peal_peer *peer,
                            const struct peal_frame *frame)
{
    if (publish_moved(s, peer, frame)) return;
    struct peal_call *call =
        peal_call_new(PEAL_CALL_PUBLISH, peer, frame->req, frame->entries.count);
    if (call == NULL) return; /* the node's request times out */
    if (call->count == 0) {
        call_send(s, call);
        return;
    }
    struct peal_envelope envs[PEAL_SHARD_AHEAD];
    for (size_t i = 0; i < frame->entries.count; i++) {
        struct peal_envelope *env = &envs[i % PEAL_SHARD_AHEAD];
        if (i % PEAL_SHARD_AHEAD == 0) do_jobs(s); /* their places are used again */
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

void peal_intake_on_done(struct peal_shard *s, struct peal_store_op *op)
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

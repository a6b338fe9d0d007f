/* The parts: router/intake.c publishes, router/membership.c joins and syncs, router/requests.c
 * answers what nodes ask of a group, router/cargo.c packs what moves with a slot. Here is what
 * comes in and to whom it goes, what waits for the store, and time. */
#include "router/shard.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "proto/wire.h"
#include "router/call.h"
#include "router/cargo.h"
#include "router/intake.h"
#include "router/membership.h"
#include "router/requests.h"
#include "router/shard_state.h"

/* ---- for all parts --------------------------------------------------------------------------- */

void peal_shard_reply(struct peal_shard *s, const struct peal_peer *peer,
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

void peal_shard_node_peer(uint64_t boot, struct peal_peer *peer)
{
    *peer = (struct peal_peer){.id_size = PEAL_TOPIC_SIZE};
    peal_topic_of(boot, peer->id);
}

void peal_shard_submit(struct peal_shard *s, struct peal_store_op *op)
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

/* Tells a node whose slot it asked for, and gives it back what it asked, so that its bus sends it
 * there. */
void peal_shard_send_back(struct peal_shard *s, const struct peal_peer *peer,
                          const struct peal_frame *frame, uint16_t slot)
{
    struct peal_buf back = {0};
    struct peal_frame moved = peal_cluster_moved(&s->cluster, slot);
    peal_frame_encode(frame, &back);
    if (!back.failed) {
        moved.req = frame->req;
        moved.envelope = peal_buf_span(&back);
        peal_count(PEAL_M_SLOTS_MOVED, 1);
        peal_shard_reply(s, peer, &moved);
    }
    peal_buf_fini(&back);
}

void peal_shard_tell_table(struct peal_shard *s, const struct peal_peer *peer)
{
    s->scratch.size = 0;
    peal_cluster_table(&s->cluster, &s->scratch);
    if (s->scratch.failed)
        peal_buf_fini(&s->scratch); /* the node is told when it asks for what is not here */
    else
        s->io.reply(s->io.ctx, peer, peal_buf_span(&s->scratch));
}

void peal_shard_send_table(struct peal_shard *s, const struct peal_peer *peer)
{
    if (peal_cluster_speaks(&s->cluster)) peal_shard_tell_table(s, peer);
}

static void write_slots(struct peal_shard *s)
{
    struct peal_store_op *op = peal_cluster_write(&s->cluster);
    if (op != NULL) peal_shard_submit(s, op);
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
    peal_shard_node_peer(node->boot, &peer);
    peal_shard_reply(s, &peer, &frame);
}

/* ---- what the other parts want ------------------------------------------------------------- */

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

static void mover_submit(void *ctx, struct peal_store_op *op)
{
    peal_shard_submit(ctx, op);
}

static void mover_answer(void *ctx, const struct peal_peer *peer, const struct peal_frame *frame)
{
    peal_shard_reply(ctx, peer, frame);
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

/* ---- the table of slots ------------------------------------------------------------------ */

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
        peal_shard_node_peer(PEAL_FROM_NODE(it, struct peal_node_entry, node)->boot, &peer);
        peal_shard_send_table(s, &peer);
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
        peal_shard_tell_table(s, peer);
    peal_frame_fini(&frame);
}

void peal_shard_on_done(struct peal_shard *s, struct peal_store_op *op)
{
    switch (op->kind) {
    case PEAL_STORE_PUT:
        peal_intake_on_done(s, op);
        break;
    case PEAL_STORE_HEAD:
        peal_membership_on_head(s, op);
        break;
    case PEAL_STORE_MARK:
        peal_requests_on_marked(s, op);
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
        peal_membership_join(s, node, PEAL_CALL_JOIN, peer, frame->req, &at);
        break;
    }
    case PEAL_F_LEAVE:
        peal_membership_on_leave(s, node, frame->group);
        break;
    case PEAL_F_SYNC:
        peal_membership_on_sync(s, node, peer, frame);
        break;
    case PEAL_F_CHECK:
        peal_membership_on_check(s, node, peer, frame);
        break;
    case PEAL_F_SYNC_SLOT:
        peal_membership_on_sync_slot(s, node, peer, frame);
        break;
    case PEAL_F_PUBLISH:
        peal_intake_on_publish(s, peer, frame);
        break;
    case PEAL_F_FETCH:
        peal_requests_on_fetch(s, node, peer, frame);
        break;
    case PEAL_F_MARK:
        peal_requests_on_mark(s, node, peer, frame);
        break;
    case PEAL_F_PRESENT:
        peal_requests_on_present(s, node, peer, frame);
        break;
    case PEAL_F_WHO:
        peal_requests_on_who(s, node, peer, frame);
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
        peal_intake_on_call(s, peer, bytes);
        return;
    }
    if (peer->publisher) {
        peal_count(PEAL_M_BUS_FORBIDDEN, 1);
        peal_intake_refuse(s, peer, 0, PEAL_EFORBIDDEN, "this key may only publish");
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
        peal_intake_refuse(s, peer, 0, PEAL_EBAD_MESSAGE, "a call is a map");
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
    struct peal_mover_io mover = {s,
                                  mover_submit,
                                  mover_answer,
                                  peal_cargo_collect,
                                  peal_cargo_adopt,
                                  mover_forget,
                                  mover_changed};
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

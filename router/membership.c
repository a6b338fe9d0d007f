#include "router/membership.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/metrics.h"
#include "proto/group.h"
#include "router/shard_state.h"

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

void peal_membership_join(struct peal_shard *s, struct peal_node_entry *node,
                          enum peal_call_kind kind, const struct peal_peer *peer, uint64_t req,
                          const struct peal_position *at)
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
    if (kind == PEAL_CALL_JOIN && s->waiting_count >= PEAL_SHARD_WAITING_MAX) return;
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
    peal_shard_submit(s, op);
}

void peal_membership_on_leave(struct peal_shard *s, struct peal_node_entry *node,
                              struct peal_span name)
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
void peal_membership_on_sync(struct peal_shard *s, struct peal_node_entry *node,
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
        peal_membership_join(s, node, PEAL_CALL_SYNC, peer, 0, at);
    }
    if (!ends_sync(node, frame)) return;
    peal_shard_send_table(s, peer);
    if (node->sync_refused) return;       /* it is not confirmed, so it comes again */
    peal_table_end_sync(&s->table, node); /* table_synced says when it is done */
    s->sweeping = true;
}

/* What the node sent before has been taken, so the rolls are equal, but for a join that is at the
 * store: then the node names the slot, and nothing comes of it. */
void peal_membership_on_check(struct peal_shard *s, const struct peal_node_entry *node,
                              const struct peal_peer *peer, const struct peal_frame *frame)
{
    uint64_t slots[PEAL_SLOTS];
    struct peal_frame differ = {.type = PEAL_F_DIFFER};
    differ.offsets.at = slots;
    if (frame->from >= PEAL_SLOTS) return;
    for (size_t i = 0; i < frame->offsets.count && frame->from + i < PEAL_SLOTS; i++)
        if (node->roll.slots[frame->from + i].digest != frame->offsets.at[i])
            slots[differ.offsets.count++] = frame->from + i;
    if (differ.offsets.count > 0) peal_shard_reply(s, peer, &differ);
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
    peal_membership_join(s, node, PEAL_CALL_SYNC, peer, 0, at);
    return !has_row;
}

/* Pages of all that a node holds in one slot; after the last one exactly those remain of it. */
void peal_membership_on_sync_slot(struct peal_shard *s, struct peal_node_entry *node,
                                  const struct peal_peer *peer, const struct peal_frame *frame)
{
    uint32_t missing = 0;
    uint32_t removed = 0;
    if (frame->from >= PEAL_SLOTS) return;
    if (peal_holdings_of(&s->cluster.holdings, (uint16_t)frame->from) == PEAL_HOLD_ELSEWHERE) {
        peal_shard_send_table(s, peer);
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

void peal_membership_on_head(struct peal_shard *s, struct peal_store_op *op)
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

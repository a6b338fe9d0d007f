#include "router/requests.h"

#include "base/limits.h"
#include "proto/group.h"
#include "router/page.h"
#include "router/shard_state.h"

static void fetch_refuse(struct peal_shard *s, const struct peal_peer *peer,
                         const struct peal_frame *in, enum peal_err err, const char *why)
{
    struct peal_frame page = {.type = PEAL_F_PAGE,
                              .req = in->req,
                              .group = in->group,
                              .code = err,
                              .message = peal_span_of(why)};
    peal_shard_reply(s, peer, &page);
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

void peal_requests_on_fetch(struct peal_shard *s, struct peal_node_entry *node,
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
        peal_shard_send_back(s, peer, in, slot);
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
    peal_shard_node_peer(fetch->tag[1], &peer);
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
    peal_shard_reply(s, peer, &answer);
}

void peal_requests_on_mark(struct peal_shard *s, struct peal_node_entry *node,
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
        peal_shard_send_back(s, peer, in, slot);
        return;
    }
    if (holding != PEAL_HOLD_MINE) {
        answer_mark(s, peer, in->req, in->group, NULL, PEAL_EAGAIN);
        return;
    }
    struct peal_store_op *op = NULL;
    struct peal_call *call = NULL;
    if (s->waiting_count < PEAL_SHARD_WAITING_MAX)
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
    peal_shard_submit(s, op);
}

void peal_requests_on_marked(struct peal_shard *s, struct peal_store_op *op)
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
    peal_shard_send_back(s, peer, in, slot);
    return true;
}

void peal_requests_on_present(struct peal_shard *s, struct peal_node_entry *node,
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

void peal_requests_on_who(struct peal_shard *s, struct peal_node_entry *node,
                          const struct peal_peer *peer, const struct peal_frame *in)
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

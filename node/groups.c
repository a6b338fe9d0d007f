#include "node/groups.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "node/conn.h"
#include "node/joins.h"
#include "node/member.h"
#include "proto/group.h"

enum { JOIN_REPEAT_MS = 5000 }; /* a JOIN the bus has not answered is ordered again */

/* ---- wanting a group ----------------------------------------------------------------------- */

void peal_group_ask(struct peal_group *g)
{
    struct peal_hub *hub = g->hub;
    uint64_t req = peal_hub_next_req(hub);
    peal_list_remove(&g->asking);
    if (peal_hub_order(hub, PEAL_ORDER_JOIN, req, peal_group_span(g)) == PEAL_OK) {
        g->req = req;
        g->asked_ms = hub->now_ms;
        peal_list_append(&hub->asked, &g->asking);
    } else {
        g->req = 0;
        peal_list_append(&hub->unasked, &g->asking); /* again with the next tick */
    }
}

struct peal_group *peal_group_find(struct peal_hub *hub, struct peal_span name)
{
    struct peal_map_node *n = peal_map_find(&hub->groups, name);
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct peal_group, node);
}

struct peal_group *peal_group_ensure(struct peal_hub *hub, struct peal_span name)
{
    struct peal_group *g = peal_group_find(hub, name);
    if (g != NULL) return g;
    g = calloc(1, sizeof *g + name.size);
    if (g == NULL) return NULL;
    memcpy(g->name, name.at, name.size);
    g->name_size = (uint8_t)name.size;
    g->hub = hub;
    g->inbox = peal_group_is_inbox(name);
    g->presence = peal_attendance_wanted(hub, name);
    peal_link_init(&g->asking);
    peal_link_init(&g->live);
    peal_link_init(&g->others);
    peal_map_add(&hub->groups, &g->node, peal_span_make(g->name, g->name_size));
    peal_group_ask(g);
    return g;
}

static void group_free(struct peal_group *g)
{
    struct peal_hub *hub = g->hub;
    PEAL_ASSERT(g->member_count == 0);
    peal_turn_flush_group(hub, g); /* nobody is there to get it */
    peal_acks_drop(g);
    peal_list_remove(&g->asking);
    peal_map_remove(&hub->groups, &g->node);
    free(g);
}

/* A group goes when the bus has been told. False: the bus has no room, and the group waits where
 * joins do. */
static bool leave(struct peal_group *g)
{
    struct peal_hub *hub = g->hub;
    if (peal_hub_order(hub, PEAL_ORDER_LEAVE, 0, peal_group_span(g)) == PEAL_OK) {
        group_free(g);
        return true;
    }
    g->req = 0;
    peal_list_remove(&g->asking);
    peal_list_append(&hub->unasked, &g->asking);
    return false;
}

static bool is_wanted(const struct peal_group *g)
{
    return g->member_count > 0 || g->acks != NULL;
}

void peal_group_rest(struct peal_group *g)
{
    if (!is_wanted(g)) leave(g);
}

/* ---- live ---------------------------------------------------------------------------------- */

static struct peal_member *member_of(struct peal_link *in_group)
{
    return PEAL_FROM_LINK(in_group, struct peal_member, in_group);
}

/* The stream has a hole, or begins anew: everybody is behind where they were. */
static void interrupt(struct peal_group *g, uint64_t epoch, uint64_t offset)
{
    peal_turn_flush_group(g->hub, g);
    PEAL_LIST_EACH(&g->live, it, after)
    peal_member_interrupt(member_of(it), g->epoch, g->offset);
    PEAL_LIST_EACH(&g->others, it, after)
    {
        struct peal_pursuit *p = member_of(it)->pursuit;
        if (p->state == PEAL_MEMBER_AHEAD) peal_member_interrupt(p->member, p->epoch, p->cursor);
    }
    g->epoch = epoch;
    g->offset = offset;
    PEAL_LIST_EACH(&g->others, it, after)
    peal_member_pump(member_of(it));
}

static void note_counts(struct peal_group *g, uint64_t unread, uint64_t rev)
{
    if (g->joined && rev <= g->rev) return;
    g->unread = unread;
    g->rev = rev;
}

void peal_groups_on_message(struct peal_hub *hub, struct peal_letter *letter, uint32_t hash)
{
    const struct peal_envelope *env = &letter->env;
    struct peal_map_node *n = peal_map_find_hashed(&hub->groups, hash, env->group);
    if (n == NULL) return;
    struct peal_group *g = PEAL_FROM_NODE(n, struct peal_group, node);
    if (!g->joined) return;
    if (env->epoch != g->epoch) g->rev = 0;
    note_counts(g, letter->frame.unread, letter->frame.rev);
    if (env->epoch == g->epoch && env->offset <= g->offset) return; /* seen before */
    if (env->epoch != g->epoch || env->offset != g->offset + 1) {
        interrupt(g, env->epoch, env->offset);
        return;
    }
    g->offset = env->offset;
    peal_turn_add(hub, g, letter);
    PEAL_LIST_EACH(&g->others, it, after)
    peal_member_catch_up(member_of(it));
}

static void tell_state(struct peal_group *g, const struct peal_frame *frame)
{
    struct peal_event event = {.type = PEAL_EVENT_STATE,
                               .group = peal_group_span(g),
                               .upto = frame->upto,
                               .offsets = frame->offsets.at,
                               .offset_count = frame->offsets.count,
                               .unread = frame->unread,
                               .rev = frame->rev,
                               .flags = frame->flags};
    struct peal_link *lists[] = {&g->live, &g->others};
    peal_turn_flush_group(g->hub, g); /* the state is of after these messages */
    for (size_t i = 0; i < 2; i++) {
        PEAL_LIST_EACH(lists[i], it, after)
        {
            struct peal_member *m = member_of(it);
            if (!m->conn->open || !m->conn->welcomed) continue;
            /* The state is absolute and cannot wait: a client without room for it is told to
             * come back, and then starts from the true one. */
            if (peal_conn_event(m->conn, &event) != PEAL_OK)
                peal_conn_close(m->conn, 4208, "slow", PEAL_M_CLOSED_SLOW);
        }
    }
}

void peal_groups_on_state(struct peal_hub *hub, const struct peal_frame *frame)
{
    struct peal_group *g = peal_group_find(hub, frame->group);
    if (g == NULL || !g->joined || frame->rev <= g->rev) return;
    note_counts(g, frame->unread, frame->rev);
    tell_state(g, frame);
}

static void join_refused(struct peal_group *g, enum peal_err err)
{
    g->member_count++; /* the group must outlive its members here */
    PEAL_LIST_EACH(&g->others, it, after)
    {
        struct peal_member *m = member_of(it);
        if (peal_member_state(m) == PEAL_MEMBER_JOINING) peal_joins_failed(m->conn, m, err);
    }
    g->member_count--;
    peal_group_rest(g);
}

void peal_groups_on_position(struct peal_hub *hub, const struct peal_frame *frame)
{
    struct peal_group *g = peal_group_find(hub, frame->group);
    if (g == NULL) return;
    if (frame->type == PEAL_F_JOINED) {
        if (frame->req != g->req) return; /* a later one is under way */
        g->req = 0;
        peal_list_remove(&g->asking);
        if (frame->code != PEAL_OK) {
            join_refused(g, (enum peal_err)frame->code);
            return;
        }
    } else if (!g->joined) {
        return;
    }
    /* A store that was restored counts on from where its copy was. */
    if (frame->epoch != g->epoch) g->rev = 0;
    /* Other groups of the store have a rev as well, which is nobody's business here. */
    bool counts_changed = g->inbox && g->joined && frame->rev > g->rev;
    note_counts(g, frame->unread, frame->rev);
    g->keeps = (frame->flags & PEAL_FLAG_KEEPS) != 0;
    if (!g->joined) {
        g->joined = true;
        g->epoch = frame->epoch;
        g->offset = frame->offset;
    } else if (frame->epoch != g->epoch || frame->offset != g->offset) {
        interrupt(g, frame->epoch, frame->offset);
    }
    if (counts_changed) tell_state(g, frame);
    if (frame->type != PEAL_F_JOINED) return;
    PEAL_LIST_EACH(&g->others, it, after)
    {
        struct peal_member *m = member_of(it);
        if (peal_member_state(m) == PEAL_MEMBER_JOINING && m->conn->open) peal_member_place(m);
    }
}

void peal_groups_on_lost(struct peal_hub *hub)
{
    struct peal_map_node *n = NULL;
    while ((n = peal_map_next(&hub->groups, n)) != NULL)
        peal_group_ask(PEAL_FROM_NODE(n, struct peal_group, node));
}

/* ---- time and the end ------------------------------------------------------------------------ */

void peal_groups_on_tick(struct peal_hub *hub)
{
    peal_acks_on_tick(hub);
    PEAL_LIST_EACH(&hub->unasked, it, after)
    {
        struct peal_group *g = PEAL_FROM_LINK(it, struct peal_group, asking);
        if (!is_wanted(g)) {
            if (leave(g)) continue;
            break; /* the bus is still full */
        }
        peal_group_ask(g);
        if (g->req == 0) break;
    }
    while (!peal_list_empty(&hub->asked)) {
        struct peal_group *g = PEAL_FROM_LINK(hub->asked.next, struct peal_group, asking);
        if (hub->now_ms - g->asked_ms < JOIN_REPEAT_MS) break;
        peal_group_ask(g);
    }
    peal_members_fetch(hub);
}

void peal_groups_fini(struct peal_hub *hub)
{
    struct peal_map_node *after;
    for (struct peal_map_node *n = peal_map_next(&hub->groups, NULL); n != NULL; n = after) {
        struct peal_group *g = PEAL_FROM_NODE(n, struct peal_group, node);
        after = peal_map_next(&hub->groups, n);
        /* What the bus has no room for goes with the node. */
        if (!leave(g)) group_free(g);
    }
}

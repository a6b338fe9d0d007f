#include "node/wants.h"

#include <stdlib.h>

#include "base/log.h"
#include "node/parcels.h"
#include "node/uplink_state.h"

enum {
    BUS_ITSELF = UINT8_MAX, /* in place of a worker, in requests of the bus */
    JOIN_RETRY_MS = 2000,   /* an unanswered join is asked again; joining twice is harmless */
};

static void send_join(struct peal_uplink *up, const struct peal_pending *p)
{
    const struct peal_want *want = p->want;
    struct peal_frame join = {.type = PEAL_F_JOIN, .req = p->req, .group = peal_want_name(want)};
    /* If it cannot be sent now it is asked again after JOIN_RETRY_MS. */
    if (peal_parcels_add(up, want->link, &join) != PEAL_OK)
        peal_log(PEAL_LOG_DEBUG, "join.not_sent", "link=%u", want->link);
}

void peal_wants_tell_leave(struct peal_uplink *up, size_t link, struct peal_span name)
{
    struct peal_frame leave = {.type = PEAL_F_LEAVE, .group = name};
    /* If it is lost, the router sends a message for it one day and is told again. */
    if (peal_parcels_add(up, link, &leave) != PEAL_OK)
        peal_log(PEAL_LOG_DEBUG, "leave.not_sent", "link=%zu", link);
}

/* NULL on ENOMEM. */
static struct peal_pending *pending_new(struct peal_uplink *up, struct peal_want *want,
                                        uint64_t req)
{
    struct peal_pending *p = calloc(1, sizeof *p);
    if (p == NULL) return NULL;
    p->req = req;
    p->asked_ms = up->now_ms;
    p->want = want;
    peal_map_add(&up->pending_map, &p->node, peal_span_make(&p->req, sizeof p->req));
    peal_list_append(&up->pendings, &p->by_age);
    p->next = want->pendings;
    want->pendings = p;
    return p;
}

static void pending_free(struct peal_uplink *up, struct peal_pending *p)
{
    peal_list_remove(&p->by_age);
    struct peal_pending **at = &p->want->pendings;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    peal_map_remove(&up->pending_map, &p->node);
    free(p);
}

/* A worker that asks anew, or leaves, no longer waits for what it asked before. */
static void forget_pending(struct peal_uplink *up, struct peal_want *want, uint8_t worker)
{
    struct peal_pending *next;
    for (struct peal_pending *p = want->pendings; p != NULL; p = next) {
        next = p->next;
        if (peal_req_worker(p->req) == worker) pending_free(up, p);
    }
}

static struct peal_pending *find_pending(struct peal_uplink *up, uint64_t req)
{
    struct peal_map_node *n = peal_map_find(&up->pending_map, peal_span_make(&req, sizeof req));
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct peal_pending, node);
}

struct peal_want *peal_wants_find(struct peal_uplink *up, size_t link, struct peal_span name)
{
    struct peal_map_node *n = peal_map_find(&up->links[link].groups, name);
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct peal_want, node);
}

static struct peal_want *get_want(struct peal_uplink *up, struct peal_span name)
{
    size_t link = peal_uplink_link_of(up, name);
    struct peal_want *want = peal_wants_find(up, link, name);
    if (want != NULL) return want;
    want = calloc(1, sizeof *want + name.size);
    if (want == NULL) return NULL;
    memcpy(want->name, name.at, name.size);
    want->link = (uint16_t)link;
    if (peal_roll_add(&up->links[link].held, name, want, &want->place) != PEAL_OK) {
        free(want);
        return NULL;
    }
    peal_map_add(&up->links[link].groups, &want->node, peal_span_make(want->name, name.size));
    return want;
}

static void want_free(struct peal_uplink *up, struct peal_want *want)
{
    struct peal_uplink_link *l = &up->links[want->link];
    while (want->pendings != NULL)
        pending_free(up, want->pendings);
    struct peal_want *moved = peal_roll_remove(&l->held, peal_want_name(want), want->place);
    if (moved != NULL) moved->place = want->place;
    peal_map_remove(&l->groups, &want->node);
    free(want);
}

/* Asks for a group that a worker does not ask for; the answer is for all of its members. */
static void rejoin(struct peal_uplink *up, struct peal_want *want)
{
    uint64_t req = (uint64_t)BUS_ITSELF << PEAL_REQ_WORKER_SHIFT | ++up->rejoins;
    if (pending_new(up, want, req) == NULL)
        up->links[want->link].up = false; /* the next sync names it */
}

void peal_wants_move(struct peal_uplink *up, struct peal_want *want, size_t to)
{
    struct peal_uplink_link *from = &up->links[want->link];
    struct peal_span name = peal_want_name(want);
    uint32_t place;
    if (peal_roll_add(&up->links[to].held, name, want, &place) != PEAL_OK) {
        for (uint8_t w = 0; w < up->mails.worker_count; w++)
            if (want->workers & 1ull << w) peal_mails_lose(&up->mails, w);
        want_free(up, want);
        return;
    }
    struct peal_want *last = peal_roll_remove(&from->held, name, want->place);
    if (last != NULL) last->place = want->place;
    peal_map_remove(&from->groups, &want->node);
    want->place = place;
    want->link = (uint16_t)to;
    peal_map_add(&up->links[to].groups, &want->node, name);
    forget_pending(up, want, BUS_ITSELF);
    if (want->joined) rejoin(up, want);
    if (!up->links[to].up) return; /* its sync sends them */
    for (struct peal_pending *p = want->pendings; p != NULL; p = p->next)
        send_join(up, p);
}

/* A join that was asked twice is answered twice, and the second answer may tell of messages that
 * never came: the workers that are members already learn of it as of any true position. */
static void tell_position(struct peal_uplink *up, const struct peal_want *want,
                          struct peal_span entry)
{
    struct peal_letter *at;
    if (peal_letter_new(entry, &at) != PEAL_OK) {
        up->links[want->link].up = false; /* the next sync tells it */
        return;
    }
    at->frame.type = PEAL_F_AT;
    for (uint8_t w = 0; w < up->mails.worker_count; w++)
        if (want->workers & (1ull << w)) peal_mails_add_letter(&up->mails, w, at);
    peal_letter_unref(at);
}

void peal_wants_on_joined(struct peal_uplink *up, size_t link, const struct peal_frame *f,
                          struct peal_span entry)
{
    struct peal_pending *p = find_pending(up, f->req);
    /* A router that had the slot before has no say. */
    bool waited_for = p != NULL && p->want->link == link;
    if (waited_for) pending_free(up, p);
    if (f->code != PEAL_OK && peal_req_worker(f->req) == BUS_ITSELF) up->links[link].up = false;
    struct peal_want *want = peal_wants_find(up, link, f->group);
    if (want == NULL) {
        if (f->code == PEAL_OK) peal_wants_tell_leave(up, link, f->group);
        return;
    }
    if (f->code == PEAL_OK) {
        if (want->joined && (want->epoch != f->epoch || want->offset != f->offset))
            tell_position(up, want, entry);
        want->joined = true;
        want->keeps = (f->flags & PEAL_FLAG_KEEPS) != 0;
        want->epoch = f->epoch;
        want->offset = f->offset;
    }
    if (waited_for) peal_mails_add_answer(&up->mails, f->req, entry);
}

/* The position is known here and every later message follows in this mailbox. */
static void answer_join(struct peal_uplink *up, const struct peal_want *want,
                        const struct peal_order *o)
{
    struct peal_frame joined = {.type = PEAL_F_JOINED,
                                .req = o->req,
                                .group = o->group,
                                .epoch = want->epoch,
                                .offset = want->offset,
                                .flags = want->keeps ? PEAL_FLAG_KEEPS : 0};
    up->scratch.size = 0;
    peal_frame_encode(&joined, &up->scratch);
    if (!up->scratch.failed) {
        peal_mails_add_frame(&up->mails, 1ull << o->worker, peal_buf_span(&up->scratch));
    } else {
        peal_buf_fini(&up->scratch);
        peal_mails_add_failed(&up->mails, o->req, PEAL_ENOMEM);
    }
}

void peal_wants_join(struct peal_uplink *up, const struct peal_order *o)
{
    struct peal_want *want = get_want(up, o->group);
    if (want == NULL) {
        peal_mails_add_failed(&up->mails, o->req, PEAL_ENOMEM);
        return;
    }
    want->workers |= 1ull << o->worker;
    if (want->joined && up->links[want->link].up && !peal_group_is_inbox(o->group)) {
        answer_join(up, want, o);
        return;
    }
    forget_pending(up, want, o->worker);
    struct peal_pending *p = pending_new(up, want, o->req);
    if (p == NULL) {
        peal_mails_add_failed(&up->mails, o->req, PEAL_ENOMEM);
        return;
    }
    if (up->links[want->link].up) send_join(up, p);
}

void peal_wants_leave(struct peal_uplink *up, const struct peal_order *o)
{
    struct peal_want *want = peal_wants_find(up, peal_uplink_link_of(up, o->group), o->group);
    if (want == NULL) return;
    want->workers &= ~(1ull << o->worker);
    forget_pending(up, want, o->worker);
    if (want->workers != 0) return;
    if (up->links[want->link].up) peal_wants_tell_leave(up, want->link, o->group);
    want_free(up, want);
}

void peal_wants_ask(struct peal_uplink *up, size_t link)
{
    PEAL_LIST_EACH(&up->pendings, it, after)
    {
        struct peal_pending *p = PEAL_FROM_LINK(it, struct peal_pending, by_age);
        if (p->want->link == link) send_join(up, p);
    }
}

void peal_wants_retry(struct peal_uplink *up)
{
    PEAL_LIST_EACH(&up->pendings, it, after)
    {
        struct peal_pending *p = PEAL_FROM_LINK(it, struct peal_pending, by_age);
        if (up->now_ms - p->asked_ms < JOIN_RETRY_MS) return;
        p->asked_ms = up->now_ms;
        peal_list_remove(&p->by_age);
        peal_list_append(&up->pendings, &p->by_age);
        if (up->links[p->want->link].up) send_join(up, p);
    }
}

void peal_wants_fini(struct peal_uplink *up)
{
    for (size_t i = 0; i < up->link_count; i++) {
        const struct peal_map *groups = &up->links[i].groups;
        struct peal_map_node *next;
        for (struct peal_map_node *n = peal_map_next(groups, NULL); n != NULL; n = next) {
            next = peal_map_next(groups, n);
            want_free(up, PEAL_FROM_NODE(n, struct peal_want, node));
        }
    }
}

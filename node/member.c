/* The one mechanism that brings a member to the group's position is peal_member_pump: equal means
 * live, otherwise ask for a page. Everything else (join, resume, a page that came, room in the
 * queue, a hole in the live stream) only moves cursors and states and then pumps. */
#include "node/member.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/metrics.h"
#include "node/conn.h"
#include "node/joins.h"
#include "proto/envelope.h"

enum { FETCH_RETRY_MS = 500 }; /* after a failed fetch */

static void fetch_done(struct peal_request *request, const struct peal_frame *page);

/* ---- pursuits ------------------------------------------------------------------------------ */

/* The member's pursuit, made when it has none; NULL on ENOMEM. */
static struct peal_pursuit *pursue(struct peal_member *m)
{
    if (m->pursuit != NULL) return m->pursuit;
    struct peal_pursuit *p = calloc(1, sizeof *p);
    if (p == NULL) return NULL;
    p->member = m;
    p->state = PEAL_MEMBER_LIVE;
    p->recovered = PEAL_RECOVERED_FULL;
    peal_request_init(&p->fetch, fetch_done);
    peal_link_init(&p->waiting);
    m->pursuit = p;
    return p;
}

static void drop_pursuit(struct peal_member *m)
{
    struct peal_pursuit *p = m->pursuit;
    struct peal_hub *hub = m->conn->hub;
    if (p == NULL) return;
    if (peal_request_waits(&p->fetch)) {
        peal_request_cancel(hub, &p->fetch);
        hub->fetching--;
    }
    peal_list_remove(&p->waiting);
    free(p->id);
    free(p);
    m->pursuit = NULL;
}

static void set_state(struct peal_pursuit *p, enum peal_member_state state)
{
    struct peal_member *m = p->member;
    bool live = state == PEAL_MEMBER_LIVE;
    /* What came in this turn is for those who were live then. */
    if (live) peal_turn_flush_group(m->conn->hub, m->group);
    p->state = state;
    peal_list_remove(&m->in_group);
    peal_list_append(live ? &m->group->live : &m->group->others, &m->in_group);
}

/* Live, and nothing to tell: the pursuit is over. */
static void settle(struct peal_member *m)
{
    if (m->pursuit != NULL && m->pursuit->state == PEAL_MEMBER_LIVE &&
        m->pursuit->answer == PEAL_ANSWER_NONE)
        drop_pursuit(m);
}

void peal_member_answered(struct peal_member *m)
{
    if (m->pursuit == NULL) return;
    m->pursuit->answer = PEAL_ANSWER_NONE;
    settle(m);
}

void peal_member_interrupt(struct peal_member *m, uint64_t epoch, uint64_t cursor)
{
    struct peal_pursuit *p = pursue(m);
    if (p == NULL) {
        peal_conn_close(m->conn, 4101, "unavailable", PEAL_M_CLOSED_POLICY);
        return;
    }
    p->epoch = epoch;
    p->cursor = cursor;
    set_state(p, PEAL_MEMBER_BEHIND);
    peal_count(PEAL_M_BEHIND, 1);
}

/* ---- pages --------------------------------------------------------------------------------- */

static void start_fetch(struct peal_hub *hub, struct peal_pursuit *p)
{
    size_t room = peal_conn_room(p->member->conn);
    struct peal_span group = peal_group_span(p->member->group);
    struct peal_frame fetch = {.type = PEAL_F_FETCH,
                               .group = group,
                               .epoch = p->epoch,
                               .offset = p->cursor,
                               .limit = PEAL_PAGE_MESSAGES,
                               .bytes = room < PEAL_PAGE_BYTES ? room : PEAL_PAGE_BYTES,
                               .flags = p->unacked ? PEAL_FLAG_UNACKED : 0};
    if (peal_request_send(hub, &p->fetch, group, &fetch) == PEAL_OK)
        hub->fetching++;
    else
        p->retry_ms = hub->now_ms + FETCH_RETRY_MS;
}

void peal_members_fetch(struct peal_hub *hub)
{
    PEAL_LIST_EACH(&hub->fetch_wait, it, after)
    {
        if (hub->fetching >= PEAL_REPAIRS_MAX) return;
        struct peal_pursuit *p = PEAL_FROM_LINK(it, struct peal_pursuit, waiting);
        if (p->retry_ms > hub->now_ms) continue;
        p->retry_ms = 0;
        start_fetch(hub, p);
        if (p->retry_ms == 0) peal_list_remove(it);
    }
}

void peal_member_pump(struct peal_member *m)
{
    struct peal_group *g = m->group;
    struct peal_conn *conn = m->conn;
    struct peal_pursuit *p = m->pursuit;
    if (p == NULL || p->state != PEAL_MEMBER_BEHIND || !conn->open || !g->joined) return;
    if (conn->full) return; /* peal_conn_on_sent pumps again */
    if (peal_request_waits(&p->fetch) || !peal_list_empty(&p->waiting)) return;
    /* The decision that a welcome waits for may need a page; messages wait for the welcome. */
    bool deciding = p->answer != PEAL_ANSWER_NONE && p->recovered == PEAL_RECOVERED_PENDING;
    if (!conn->welcomed && !deciding) return;
    if (!deciding && p->epoch == g->epoch && p->cursor == g->offset) {
        p->unacked = false;
        set_state(p, PEAL_MEMBER_LIVE);
        settle(m);
        return;
    }
    if (peal_conn_room(conn) == 0) {
        conn->full = true; /* peal_conn_on_sent pumps again */
        return;
    }
    peal_list_append(&conn->hub->fetch_wait, &p->waiting);
    peal_members_fetch(conn->hub);
}

/* Tells a gap, or the part of it that is a loss. False: no room. */
static bool page_gap(struct peal_pursuit *p, struct peal_event *event)
{
    event->type = PEAL_EVENT_GAP;
    if (event->to < p->loss_from) {
        if (event->to > p->cursor) p->cursor = event->to;
        return true;
    }
    if (event->from < p->loss_from) event->from = p->loss_from;
    if (peal_conn_try_event(p->member->conn, event) != PEAL_OK) return false;
    peal_count(PEAL_M_GAPS, 1);
    p->cursor = event->to;
    return true;
}

/* Gives one entry to the member. False: no room, and nothing has changed. */
static bool page_entry(struct peal_pursuit *p, struct peal_span bytes)
{
    struct peal_member *m = p->member;
    struct peal_conn *conn = m->conn;
    struct peal_frame entry;
    if (peal_frame_decode(bytes, &entry) != PEAL_OK) return true; /* of a newer version */
    struct peal_event event = {.group = peal_group_span(m->group),
                               .epoch = p->epoch,
                               .from = entry.from,
                               .to = entry.to,
                               .why = entry.why};
    bool fits = true;
    if (entry.type == PEAL_F_MESSAGE) {
        struct peal_envelope env;
        struct peal_message_facts facts = {.replayed = true};
        if (peal_envelope_decode(entry.envelope, &env) == PEAL_OK && env.offset > p->cursor) {
            fits = peal_conn_message(conn, &env, &facts) == PEAL_OK;
            if (fits) {
                p->cursor = env.offset;
                if (m->group->inbox) peal_conn_acked_by_ping(conn, env.offset);
            }
            p->loss_from = 0;
        }
    } else if (entry.type == PEAL_F_SKIP) {
        event.type = PEAL_EVENT_SKIP;
        if (event.from <= p->cursor) event.from = p->cursor + 1;
        if (event.from <= event.to) fits = peal_conn_try_event(conn, &event) == PEAL_OK;
        if (fits && entry.to > p->cursor) p->cursor = entry.to;
    } else if (entry.type == PEAL_F_GAP) {
        fits = page_gap(p, &event);
    }
    peal_frame_fini(&entry);
    return fits;
}

static bool page_has_gap(const struct peal_frame *page)
{
    bool gap = false;
    for (size_t i = 0; i < page->entries.count && !gap; i++) {
        struct peal_frame entry;
        if (peal_frame_decode(page->entries.at[i], &entry) != PEAL_OK) continue;
        gap = entry.type == PEAL_F_GAP;
        peal_frame_fini(&entry);
    }
    return gap;
}

/* A page did not fit: when there is room, or, where memory was short, after some time. */
static void fetch_later(struct peal_pursuit *p)
{
    struct peal_conn *conn = p->member->conn;
    if (!peal_outq_empty(&conn->outq)) {
        conn->full = true;
        return;
    }
    p->retry_ms = conn->hub->now_ms + FETCH_RETRY_MS;
    peal_list_append(&conn->hub->fetch_wait, &p->waiting);
}

void peal_member_fall_behind(struct peal_member *m, uint64_t epoch, uint64_t cursor)
{
    peal_member_interrupt(m, epoch, cursor);
    if (m->conn->open) fetch_later(m->pursuit);
}

static void decide(struct peal_pursuit *p, enum peal_recovered recovered)
{
    if (p->recovered != PEAL_RECOVERED_PENDING) return;
    p->recovered = recovered;
    peal_joins_done(p->member->conn, p->member);
}

/* The first page shows whether the position could be continued. */
static void decide_by_page(struct peal_pursuit *p, const struct peal_frame *page)
{
    enum peal_recovered recovered = page_has_gap(page) ? PEAL_RECOVERED_GAP : PEAL_RECOVERED_FULL;
    if (p->last > 0) { /* it starts where the messages start */
        uint64_t first = page->first > 0 ? page->first : 1;
        recovered = PEAL_RECOVERED_NEW;
        if (p->epoch != page->epoch) {
            p->epoch = page->epoch;
            p->cursor = page->head > p->last ? page->head - p->last : 0;
        }
        if (p->cursor < first - 1) p->cursor = first - 1;
        p->loss_from = p->cursor + 1; /* the answer says that it begins here */
    }
    decide(p, recovered);
}

static void take_page(struct peal_member *m, const struct peal_frame *page)
{
    struct peal_group *g = m->group;
    struct peal_conn *conn = m->conn;
    if (m->pursuit->recovered == PEAL_RECOVERED_PENDING) {
        decide_by_page(m->pursuit, page);
        /* That may have completed the welcome, and then brought this member on. */
        if (!conn->open || peal_member_state(m) != PEAL_MEMBER_BEHIND) return;
        /* Asked again once the client has been welcomed, or by the welcome that this completed. */
        if (!conn->welcomed || peal_request_waits(&m->pursuit->fetch) ||
            !peal_list_empty(&m->pursuit->waiting))
            return;
    }
    struct peal_pursuit *p = m->pursuit;
    if (p->epoch != page->epoch) {
        p->epoch = page->epoch;
        p->cursor = 0; /* the page begins with the gap that says so */
        p->loss_from = 0;
    }
    for (size_t i = 0; i < page->entries.count; i++) {
        if (!page_entry(p, page->entries.at[i])) {
            fetch_later(p); /* the cursor is where the queue ended */
            return;
        }
        if (!conn->open) return;
    }
    if (page->offset > p->cursor) p->cursor = page->offset;
    if (p->epoch == g->epoch && p->cursor > g->offset) set_state(p, PEAL_MEMBER_AHEAD);
}

static void fetch_done(struct peal_request *request, const struct peal_frame *page)
{
    struct peal_pursuit *p = PEAL_FROM_LINK(request, struct peal_pursuit, fetch);
    struct peal_member *m = p->member;
    struct peal_hub *hub = m->conn->hub;
    hub->fetching--;
    if (page == NULL || page->code != PEAL_OK || page->type != PEAL_F_PAGE) {
        p->retry_ms = hub->now_ms + FETCH_RETRY_MS;
        peal_list_append(&hub->fetch_wait, &p->waiting);
    } else if (p->state == PEAL_MEMBER_BEHIND && m->conn->open) {
        take_page(m, page);
        if (m->conn->open) peal_member_pump(m);
    }
    peal_members_fetch(hub);
}

/* ---- where a member is ----------------------------------------------------------------------- */

/* The group's position is known: where does this member start? */
void peal_member_place(struct peal_member *m)
{
    struct peal_group *g = m->group;
    struct peal_pursuit *p = m->pursuit;
    set_state(p, PEAL_MEMBER_BEHIND);
    if (p->has_since) {
        if (p->epoch == g->epoch && p->cursor == g->offset) decide(p, PEAL_RECOVERED_FULL);
    } else if (p->last > 0) {
        p->epoch = g->epoch;
        p->cursor = g->offset > p->last ? g->offset - p->last : 0;
        if (p->cursor == g->offset) decide(p, PEAL_RECOVERED_NEW);
    } else if (g->inbox && g->keeps) {
        p->epoch = g->epoch;
        p->cursor = 0;
        p->unacked = true;
        decide(p, PEAL_RECOVERED_NEW);
    } else {
        p->epoch = g->epoch;
        p->cursor = g->offset;
        decide(p, PEAL_RECOVERED_NEW);
    }
    peal_member_pump(m);
}

void peal_member_catch_up(struct peal_member *m)
{
    if (m->pursuit->state == PEAL_MEMBER_AHEAD && m->pursuit->cursor == m->group->offset) {
        set_state(m->pursuit, PEAL_MEMBER_LIVE);
        settle(m);
    } else {
        peal_member_pump(m);
    }
}

/* ---- joining and leaving --------------------------------------------------------------------- */

static struct peal_member *member_new(struct peal_conn *conn, const struct peal_join *join)
{
    struct peal_member *m = calloc(1, sizeof *m);
    if (m == NULL) return NULL;
    m->conn = conn;
    struct peal_pursuit *p = pursue(m);
    if (p == NULL) goto fail;
    p->state = PEAL_MEMBER_JOINING;
    p->recovered = PEAL_RECOVERED_PENDING;
    p->answer = join->answer;
    p->has_since = join->has_since;
    p->epoch = join->epoch;
    p->cursor = join->offset;
    p->last = join->last;
    if (join->id.at == NULL) return m;
    p->id = strndup(join->id.at, join->id.size);
    if (p->id != NULL) return m;

fail:
    free(m->pursuit);
    free(m);
    return NULL;
}

enum peal_err peal_member_add(struct peal_conn *conn, const struct peal_join *join,
                              struct peal_member **out)
{
    struct peal_hub *hub = conn->hub;
    *out = NULL;
    struct peal_member *m = member_new(conn, join);
    if (m == NULL) return PEAL_ENOMEM;
    bool known = peal_group_find(hub, join->group) != NULL;
    struct peal_group *g = peal_group_ensure(hub, join->group);
    if (g == NULL) {
        drop_pursuit(m);
        free(m);
        return PEAL_ENOMEM;
    }
    m->group = g;
    if (g->presence && peal_attendance_join(m) != PEAL_OK) {
        drop_pursuit(m);
        free(m);
        peal_group_rest(g);
        return PEAL_ENOMEM;
    }
    peal_list_append(&g->others, &m->in_group);
    peal_list_append(&conn->members, &m->in_conn);
    g->member_count++;
    conn->member_count++;
    *out = m;
    /* The counts of an inbox live at the router, so each connection's join asks there. */
    if (known && g->inbox)
        peal_group_ask(g);
    else if (known && g->joined)
        peal_member_place(m);
    return PEAL_OK;
}

void peal_member_remove(struct peal_member *m)
{
    struct peal_group *g = m->group;
    struct peal_conn *conn = m->conn;
    drop_pursuit(m);
    if (g->presence) peal_attendance_leave(m);
    if (conn->members.next == &m->in_conn) conn->first_joined = false;
    peal_list_remove(&m->in_group);
    peal_list_remove(&m->in_conn);
    conn->member_count--;
    g->member_count--;
    free(m);
    peal_group_rest(g);
}

static struct peal_member *find_among(struct peal_link *members, const struct peal_conn *conn)
{
    for (struct peal_link *it = members->next; it != members; it = it->next) {
        struct peal_member *m = PEAL_FROM_LINK(it, struct peal_member, in_group);
        if (m->conn == conn) return m;
    }
    return NULL;
}

struct peal_member *peal_member_find(struct peal_conn *conn, struct peal_span group)
{
    struct peal_group *g = peal_group_find(conn->hub, group);
    if (g == NULL) return NULL;
    if (g->member_count < conn->member_count) {
        struct peal_member *m = find_among(&g->others, conn);
        return m != NULL ? m : find_among(&g->live, conn);
    }
    PEAL_LIST_EACH(&conn->members, it, after)
    {
        struct peal_member *m = PEAL_FROM_LINK(it, struct peal_member, in_conn);
        if (m->group == g) return m;
    }
    return NULL;
}

struct peal_member *peal_member_find_inbox(struct peal_conn *conn)
{
    PEAL_LIST_EACH(&conn->members, it, after)
    {
        struct peal_member *m = PEAL_FROM_LINK(it, struct peal_member, in_conn);
        if (m->group->inbox) return m;
    }
    return NULL;
}

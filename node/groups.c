/* The one mechanism that brings a member to the group's position is peal_member_pump: equal means
 * live, otherwise ask for a page. Everything else (join, resume, a page that came, room in the
 * queue, a hole in the live stream) only moves cursors and states and then pumps. */
#include "node/groups.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "node/conn.h"
#include "proto/group.h"

enum {
    FETCH_RETRY_MS = 500,  /* after a failed fetch */
    ACK_RETRY_MS = 1000,   /* after an ack that the router did not confirm */
    ACK_TRIES_ALONE = 60,  /* of a group without members */
    JOIN_REPEAT_MS = 5000, /* a JOIN the bus has not answered is ordered again */
};

static void ack_done(struct peal_request *request, const struct peal_frame *answer);

/* ---- wanting a group ----------------------------------------------------------------------- */

static void ask(struct peal_hub *hub, struct peal_group *g)
{
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

static struct peal_group *find_group(struct peal_hub *hub, struct peal_span name)
{
    struct peal_map_node *n = peal_map_find(&hub->groups, name);
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct peal_group, node);
}

static struct peal_group *group_new(struct peal_hub *hub, struct peal_span name)
{
    struct peal_group *g = calloc(1, sizeof *g + name.size);
    if (g == NULL) return NULL;
    memcpy(g->name, name.at, name.size);
    g->name_size = (uint8_t)name.size;
    g->policy = peal_group_policy(hub->config, name);
    g->hub = hub;
    g->inbox = peal_group_is_inbox(name);
    peal_request_init(&g->ack, ack_done);
    peal_link_init(&g->asking);
    peal_link_init(&g->acking);
    peal_link_init(&g->live);
    peal_link_init(&g->others);
    peal_map_add(&hub->groups, &g->node, peal_span_make(g->name, g->name_size));
    return g;
}

static void group_free(struct peal_hub *hub, struct peal_group *g)
{
    PEAL_ASSERT(g->member_count == 0);
    peal_turn_flush_group(hub, g); /* nobody is there to get it */
    peal_request_cancel(hub, &g->ack);
    /* If the bus has no room it goes on sending; such messages find no group here, and the next
     * join or a sync puts it right. */
    enum peal_err err = peal_hub_order(hub, PEAL_ORDER_LEAVE, 0, peal_group_span(g));
    if (err != PEAL_OK) peal_log(PEAL_LOG_WARN, "group.leave_kept", "code=%s", peal_err_word(err));
    peal_list_remove(&g->asking);
    peal_list_remove(&g->acking);
    peal_map_remove(&hub->groups, &g->node);
    free(g);
}

/* ---- members ------------------------------------------------------------------------------- */

static void fetch_done(struct peal_request *request, const struct peal_frame *page);

static void set_state(struct peal_member *m, enum peal_member_state state)
{
    /* What came in this turn is for those who were live then. */
    if (state == PEAL_MEMBER_LIVE) peal_turn_flush_group(m->conn->hub, m->group);
    m->state = state;
    peal_list_remove(&m->in_group);
    peal_list_append(state == PEAL_MEMBER_LIVE ? &m->group->live : &m->group->others, &m->in_group);
}

static void fall_behind(struct peal_member *m, uint64_t epoch, uint64_t cursor)
{
    m->epoch = epoch;
    m->cursor = cursor;
    set_state(m, PEAL_MEMBER_BEHIND);
    peal_count(PEAL_M_BEHIND, 1);
}

struct peal_member *peal_member_find(struct peal_conn *conn, struct peal_span group)
{
    PEAL_LIST_EACH(&conn->members, it, after)
    {
        struct peal_member *m = PEAL_FROM_LINK(it, struct peal_member, in_conn);
        if (peal_span_equal(peal_group_span(m->group), group)) return m;
    }
    return NULL;
}

static void start_fetch(struct peal_hub *hub, struct peal_member *m)
{
    size_t room = peal_conn_room(m->conn);
    struct peal_frame fetch = {.type = PEAL_F_FETCH,
                               .group = peal_group_span(m->group),
                               .epoch = m->epoch,
                               .offset = m->cursor,
                               .limit = PEAL_PAGE_MESSAGES,
                               .bytes = room < PEAL_PAGE_BYTES ? room : PEAL_PAGE_BYTES,
                               .flags = m->unacked ? PEAL_FLAG_UNACKED : 0};
    if (peal_request_send(hub, &m->fetch, peal_group_span(m->group), &fetch) == PEAL_OK)
        hub->fetching++;
    else
        m->retry_ms = hub->now_ms + FETCH_RETRY_MS;
}

static void start_fetches(struct peal_hub *hub)
{
    PEAL_LIST_EACH(&hub->fetch_wait, it, after)
    {
        if (hub->fetching >= PEAL_REPAIRS_MAX) return;
        struct peal_member *m = PEAL_FROM_LINK(it, struct peal_member, waiting);
        if (m->retry_ms > hub->now_ms) continue;
        m->retry_ms = 0;
        start_fetch(hub, m);
        if (m->retry_ms == 0) peal_list_remove(it);
    }
}

void peal_member_pump(struct peal_member *m)
{
    struct peal_group *g = m->group;
    if (m->state != PEAL_MEMBER_BEHIND || !m->conn->open || !g->joined) return;
    if (m->conn->full) return; /* peal_conn_on_sent pumps again */
    if (peal_request_waits(&m->fetch) || !peal_list_empty(&m->waiting)) return;
    /* The decision that a welcome waits for may need a page; messages wait for the welcome. */
    bool deciding = m->answer != PEAL_ANSWER_NONE && m->recovered == PEAL_RECOVERED_PENDING;
    if (!m->conn->welcomed && !deciding) return;
    if (!deciding && m->epoch == g->epoch && m->cursor == g->offset) {
        m->unacked = false;
        set_state(m, PEAL_MEMBER_LIVE);
        return;
    }
    if (peal_conn_room(m->conn) == 0) {
        m->conn->full = true; /* peal_conn_on_sent pumps again */
        return;
    }
    peal_list_append(&m->conn->hub->fetch_wait, &m->waiting);
    start_fetches(m->conn->hub);
}

static void decide(struct peal_member *m, enum peal_recovered recovered)
{
    if (m->recovered != PEAL_RECOVERED_PENDING) return;
    m->recovered = recovered;
    peal_conn_joined(m->conn, m);
}

/* The group's position is known: where does this member start? */
static void place(struct peal_member *m)
{
    struct peal_group *g = m->group;
    set_state(m, PEAL_MEMBER_BEHIND);
    if (m->has_since) {
        if (m->epoch == g->epoch && m->cursor == g->offset) decide(m, PEAL_RECOVERED_FULL);
    } else if (m->last > 0) {
        m->epoch = g->epoch;
        m->cursor = g->offset > m->last ? g->offset - m->last : 0;
        m->quiet = true;
        if (m->cursor == g->offset) decide(m, PEAL_RECOVERED_NEW);
    } else if (g->inbox && g->keeps) {
        m->epoch = g->epoch;
        m->cursor = 0;
        m->unacked = true;
        decide(m, PEAL_RECOVERED_NEW);
    } else {
        m->epoch = g->epoch;
        m->cursor = g->offset;
        decide(m, PEAL_RECOVERED_NEW);
    }
    peal_member_pump(m);
}

enum peal_err peal_member_add(struct peal_conn *conn, const struct peal_join *join,
                              struct peal_member **out)
{
    struct peal_hub *hub = conn->hub;
    *out = NULL;
    struct peal_member *m = calloc(1, sizeof *m);
    if (m == NULL) return PEAL_ENOMEM;
    if (join->id.at != NULL) {
        m->id = strndup(join->id.at, join->id.size);
        if (m->id == NULL) goto fail;
    }
    struct peal_group *g = find_group(hub, join->group);
    bool fresh = g == NULL;
    if (fresh) g = group_new(hub, join->group);
    if (g == NULL) goto fail;

    m->group = g;
    m->conn = conn;
    m->answer = join->answer;
    m->has_since = join->has_since;
    m->epoch = join->epoch;
    m->cursor = join->offset;
    m->last = join->last;
    peal_request_init(&m->fetch, fetch_done);
    peal_link_init(&m->in_group);
    peal_link_init(&m->waiting);
    peal_list_append(&g->others, &m->in_group);
    peal_list_append(&conn->members, &m->in_conn);
    g->member_count++;
    conn->member_count++;
    *out = m;
    /* The counts of an inbox live at the router, so each connection's join asks there. */
    if (fresh || g->inbox)
        ask(hub, g);
    else if (g->joined)
        place(m);
    return PEAL_OK;

fail:
    free(m->id);
    free(m);
    return PEAL_ENOMEM;
}

void peal_member_remove(struct peal_member *m)
{
    struct peal_hub *hub = m->conn->hub;
    struct peal_group *g = m->group;
    if (peal_request_waits(&m->fetch)) {
        peal_request_cancel(hub, &m->fetch);
        hub->fetching--;
    }
    peal_list_remove(&m->waiting);
    peal_list_remove(&m->in_group);
    peal_list_remove(&m->in_conn);
    m->conn->member_count--;
    free(m->id);
    free(m);
    if (--g->member_count == 0 && g->ack_upto == 0) group_free(hub, g);
}

/* ---- pages --------------------------------------------------------------------------------- */

/* Gives one entry to the member. False: no room, and nothing has changed. */
static bool page_entry(struct peal_member *m, struct peal_span bytes)
{
    struct peal_conn *conn = m->conn;
    struct peal_frame entry;
    if (peal_frame_decode(bytes, &entry) != PEAL_OK) return true; /* of a newer version */
    struct peal_event event = {.group = peal_group_span(m->group),
                               .epoch = m->epoch,
                               .from = entry.from,
                               .to = entry.to,
                               .why = entry.why};
    bool fits = true;
    if (entry.type == PEAL_F_MESSAGE) {
        struct peal_envelope env;
        struct peal_message_facts facts = {.replayed = true};
        if (peal_envelope_decode(entry.envelope, &env) == PEAL_OK && env.offset > m->cursor) {
            fits = peal_conn_message(conn, &env, &facts) == PEAL_OK;
            if (fits) {
                m->cursor = env.offset;
                if (m->group->inbox) peal_conn_acked_by_ping(conn, env.offset);
            }
            m->quiet = false;
        }
    } else if (entry.type == PEAL_F_SKIP) {
        event.type = PEAL_EVENT_SKIP;
        fits = peal_conn_event(conn, &event) == PEAL_OK;
        if (fits && entry.to > m->cursor) m->cursor = entry.to;
    } else if (entry.type == PEAL_F_GAP) {
        event.type = PEAL_EVENT_GAP;
        fits = m->quiet || peal_conn_event(conn, &event) == PEAL_OK;
        if (fits && !m->quiet) peal_count(PEAL_M_GAPS, 1);
        if (fits && (entry.to > m->cursor || !m->quiet)) m->cursor = entry.to;
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
static void fetch_later(struct peal_member *m)
{
    struct peal_hub *hub = m->conn->hub;
    if (!peal_outq_empty(&m->conn->outq)) {
        m->conn->full = true;
        return;
    }
    m->retry_ms = hub->now_ms + FETCH_RETRY_MS;
    peal_list_append(&hub->fetch_wait, &m->waiting);
}

static void take_page(struct peal_member *m, const struct peal_frame *page)
{
    struct peal_group *g = m->group;
    if (m->recovered == PEAL_RECOVERED_PENDING) {
        /* The first page shows whether the position could be continued. */
        enum peal_recovered recovered =
            page_has_gap(page) ? PEAL_RECOVERED_GAP : PEAL_RECOVERED_FULL;
        if (m->quiet) { /* `last`: it starts where the messages start */
            recovered = PEAL_RECOVERED_NEW;
            if (m->cursor + 1 < page->first) m->cursor = page->first - 1;
            m->epoch = page->epoch;
        }
        decide(m, recovered);
        if (!m->conn->open) return;
        /* Asked again once the client has been welcomed, or by the welcome that this completed. */
        if (!m->conn->welcomed || peal_request_waits(&m->fetch) || !peal_list_empty(&m->waiting))
            return;
    }
    if (m->epoch != page->epoch) {
        m->epoch = page->epoch;
        m->cursor = 0; /* the page begins with the gap that says so */
    }
    for (size_t i = 0; i < page->entries.count; i++) {
        if (!page_entry(m, page->entries.at[i])) {
            fetch_later(m); /* the cursor is where the queue ended */
            return;
        }
        if (!m->conn->open) return;
    }
    if (page->offset > m->cursor) m->cursor = page->offset;
    if (m->epoch == g->epoch && m->cursor > g->offset) set_state(m, PEAL_MEMBER_AHEAD);
}

static void fetch_done(struct peal_request *request, const struct peal_frame *page)
{
    struct peal_member *m = PEAL_FROM_LINK(request, struct peal_member, fetch);
    struct peal_hub *hub = m->conn->hub;
    hub->fetching--;
    if (page == NULL || page->code != PEAL_OK || page->type != PEAL_F_PAGE) {
        m->retry_ms = hub->now_ms + FETCH_RETRY_MS;
        peal_list_append(&hub->fetch_wait, &m->waiting);
    } else if (m->state == PEAL_MEMBER_BEHIND && m->conn->open) {
        struct peal_conn *conn = m->conn;
        take_page(m, page);
        if (conn->open) peal_member_pump(m);
    }
    start_fetches(hub);
}

void peal_member_fall_behind(struct peal_member *m, uint64_t epoch, uint64_t cursor)
{
    fall_behind(m, epoch, cursor);
    fetch_later(m);
}

/* ---- live ---------------------------------------------------------------------------------- */

/* Members that a page had brought further than the group here. */
static void catch_up(struct peal_group *g)
{
    PEAL_LIST_EACH(&g->others, it, after)
    {
        struct peal_member *m = PEAL_FROM_LINK(it, struct peal_member, in_group);
        if (m->state == PEAL_MEMBER_AHEAD && m->cursor == g->offset)
            set_state(m, PEAL_MEMBER_LIVE);
        else
            peal_member_pump(m);
    }
}

/* The stream has a hole, or begins anew: everybody is behind where they were. */
static void interrupt(struct peal_group *g, uint64_t epoch, uint64_t offset)
{
    peal_turn_flush_group(g->hub, g);
    PEAL_LIST_EACH(&g->live, it, after)
    fall_behind(PEAL_FROM_LINK(it, struct peal_member, in_group), g->epoch, g->offset);
    PEAL_LIST_EACH(&g->others, it, after)
    {
        struct peal_member *m = PEAL_FROM_LINK(it, struct peal_member, in_group);
        if (m->state == PEAL_MEMBER_AHEAD) fall_behind(m, m->epoch, m->cursor);
    }
    g->epoch = epoch;
    g->offset = offset;
    PEAL_LIST_EACH(&g->others, it, after)
    peal_member_pump(PEAL_FROM_LINK(it, struct peal_member, in_group));
}

static void note_counts(struct peal_group *g, uint64_t unread, uint64_t rev)
{
    if (g->joined && rev <= g->rev) return;
    g->unread = unread;
    g->rev = rev;
}

void peal_groups_on_message(struct peal_hub *hub, struct peal_letter *letter)
{
    const struct peal_envelope *env = &letter->env;
    struct peal_group *g = find_group(hub, env->group);
    if (g == NULL || !g->joined) return;
    note_counts(g, letter->frame.unread, letter->frame.rev);
    if (env->epoch == g->epoch && env->offset <= g->offset) return; /* seen before */
    if (env->epoch != g->epoch || env->offset != g->offset + 1) {
        interrupt(g, env->epoch, env->offset);
        return;
    }
    g->offset = env->offset;
    peal_turn_add(hub, g, letter);
    if (!peal_list_empty(&g->others)) catch_up(g);
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
            struct peal_member *m = PEAL_FROM_LINK(it, struct peal_member, in_group);
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
    struct peal_group *g = find_group(hub, frame->group);
    if (g == NULL || !g->joined || frame->rev <= g->rev) return;
    note_counts(g, frame->unread, frame->rev);
    tell_state(g, frame);
}

static void join_refused(struct peal_hub *hub, struct peal_group *g, enum peal_err err)
{
    g->member_count++; /* the group must outlive its members here */
    PEAL_LIST_EACH(&g->others, it, after)
    {
        struct peal_member *m = PEAL_FROM_LINK(it, struct peal_member, in_group);
        if (m->state == PEAL_MEMBER_JOINING) peal_conn_join_failed(m->conn, m, err);
    }
    if (--g->member_count == 0 && g->ack_upto == 0) group_free(hub, g);
}

void peal_groups_on_position(struct peal_hub *hub, const struct peal_frame *frame)
{
    struct peal_group *g = find_group(hub, frame->group);
    if (g == NULL) return;
    if (frame->type == PEAL_F_JOINED) {
        if (frame->req != g->req) return; /* a later one is under way */
        g->req = 0;
        peal_list_remove(&g->asking);
        if (frame->code != PEAL_OK) {
            join_refused(hub, g, (enum peal_err)frame->code);
            return;
        }
    } else if (!g->joined) {
        return;
    }
    bool counts_changed = g->joined && frame->rev > g->rev;
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
        struct peal_member *m = PEAL_FROM_LINK(it, struct peal_member, in_group);
        if (m->state == PEAL_MEMBER_JOINING && m->conn->open) place(m);
    }
}

void peal_groups_on_lost(struct peal_hub *hub)
{
    struct peal_map_node *n = NULL;
    while ((n = peal_map_next(&hub->groups, n)) != NULL)
        ask(hub, PEAL_FROM_NODE(n, struct peal_group, node));
}

/* ---- acks and time --------------------------------------------------------------------------- */

static void ack_after(struct peal_hub *hub, struct peal_group *g, uint64_t ms)
{
    g->ack_due_ms = hub->now_ms + ms;
    peal_list_remove(&g->acking);
    peal_list_append(ms == ACK_RETRY_MS ? &hub->ack_retries : &hub->acks, &g->acking);
}

/* The store has the ack, or it has to be said again: an ack is not forgotten while a router is
 * away. A group that nobody is a member of any more stays for it, but not for ever. */
static void ack_done(struct peal_request *request, const struct peal_frame *answer)
{
    struct peal_group *g = PEAL_FROM_LINK(request, struct peal_group, ack);
    struct peal_hub *hub = g->hub;
    if (answer != NULL && answer->code == PEAL_OK) {
        if (g->ack_upto <= g->ack_sent) g->ack_upto = 0;
        g->ack_tries = 0;
    } else if (g->member_count == 0 && ++g->ack_tries >= ACK_TRIES_ALONE) {
        g->ack_upto = 0;
    }
    if (g->ack_upto != 0)
        ack_after(hub, g,
                  answer != NULL && answer->code == PEAL_OK ? PEAL_ACK_JOIN_MS : ACK_RETRY_MS);
    else if (g->member_count == 0)
        group_free(hub, g);
}

static void send_ack(struct peal_hub *hub, struct peal_group *g)
{
    struct peal_frame mark = {.type = PEAL_F_MARK,
                              .group = peal_group_span(g),
                              .flags = PEAL_FLAG_ACK,
                              .upto = g->ack_upto};
    peal_list_remove(&g->acking);
    g->ack_sent = g->ack_upto;
    if (peal_request_send(hub, &g->ack, peal_group_span(g), &mark) != PEAL_OK)
        ack_after(hub, g, ACK_RETRY_MS);
}

void peal_group_ack(struct peal_hub *hub, struct peal_group *g, uint64_t upto)
{
    if (upto <= g->ack_upto) return; /* the store knows where the newest is */
    g->ack_upto = upto;
    if (!peal_list_empty(&g->acking) || peal_request_waits(&g->ack)) return;
    ack_after(hub, g, PEAL_ACK_JOIN_MS);
}

/* Each list is in the order in which its acks are due. */
static void send_acks(struct peal_hub *hub, struct peal_link *list)
{
    while (!peal_list_empty(list)) {
        struct peal_group *g = PEAL_FROM_LINK(list->next, struct peal_group, acking);
        if (hub->now_ms < g->ack_due_ms) return;
        send_ack(hub, g);
    }
}

void peal_groups_on_tick(struct peal_hub *hub)
{
    send_acks(hub, &hub->acks);
    send_acks(hub, &hub->ack_retries);
    PEAL_LIST_EACH(&hub->unasked, it, after)
    {
        struct peal_group *g = PEAL_FROM_LINK(it, struct peal_group, asking);
        ask(hub, g);
        if (g->req == 0) break; /* the bus is still full */
    }
    while (!peal_list_empty(&hub->asked)) {
        struct peal_group *g = PEAL_FROM_LINK(hub->asked.next, struct peal_group, asking);
        if (hub->now_ms - g->asked_ms < JOIN_REPEAT_MS) break;
        ask(hub, g);
    }
    start_fetches(hub);
}

void peal_groups_fini(struct peal_hub *hub)
{
    struct peal_map_node *n;
    while ((n = peal_map_next(&hub->groups, NULL)) != NULL)
        group_free(hub, PEAL_FROM_NODE(n, struct peal_group, node));
}

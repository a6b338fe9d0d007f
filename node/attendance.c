/* A group is due when there is something to report or to ask. What it needs is worked out anew each
 * time from what is known (needs_report, next_step), so that no path has to remember to do
 * something later. */
#include "node/attendance.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/limits.h"
#include "base/log.h"
#include "node/conn.h"
#include "node/groups.h"
#include "node/hub.h"
#include "node/member.h"
#include "proto/group.h"

enum {
    RETRY_MS = 500, /* after a failure */
    AWAY_MS = 5000, /* while the router is not reachable; a sync comes earlier */
    UNTOLD_MS = 50, /* until the clients who asked have been told that they joined */
    AGAIN_PER_TICK = 256,
};

struct attended {
    struct peal_map_node node;
    struct peal_hub *hub;
    struct peal_link in_list; /* attendance->due or ->later */
    struct peal_link watchers;
    struct peal_request report;
    struct peal_request who;
    uint64_t retry_ms; /* when it is in ->later */
    uint64_t known;    /* the version that the router has confirmed, 0 = none */
    uint64_t saying;   /* the one that is under way */
    uint64_t event;    /* number of the last event heard, or of the last list */
    uint32_t said;     /* sessions in the report under way */
    uint32_t count;    /* sessions that are there */
    uint32_t change_count;
    struct peal_buf changes; /* since the last report, struct change and the user's name each */
    bool all;                /* the next report says all */
    bool check;              /* report even if nothing has changed */
    bool said_all;           /* so does the one under way */
    bool watch_known;        /* the router knows that there are watchers */
    bool watch_said;
    char name[];
};

struct change {
    uint64_t session;
    uint8_t there;
    uint8_t user_size; /* 0 = nobody */
};

/* A member who asked. */
struct watcher {
    struct peal_map_node node;
    struct peal_link in_group;
    struct peal_member *member; /* the key points here */
    bool waiting;               /* for a list */
    bool asked;                 /* one is under way */
};

static struct peal_span name_of(const struct attended *a)
{
    return peal_span_make(a->name, a->node.key_size);
}

static struct attended *find(const struct peal_hub *hub, struct peal_span name)
{
    struct peal_map_node *n = peal_map_find(&hub->attendance.groups, name);
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct attended, node);
}

static struct watcher *find_watcher(const struct peal_hub *hub, const struct peal_member *m)
{
    struct peal_map_node *n =
        peal_map_find(&hub->attendance.watchers, peal_span_make(&m, sizeof(struct peal_member *)));
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct watcher, node);
}

static void make_due(struct attended *a)
{
    peal_list_remove(&a->in_list);
    peal_list_append(&a->hub->attendance.due, &a->in_list);
}

static void make_later(struct attended *a, uint64_t ms)
{
    a->retry_ms = a->hub->now_ms + ms;
    peal_list_remove(&a->in_list);
    peal_list_append(&a->hub->attendance.later, &a->in_list);
}

static void group_free(struct attended *a)
{
    struct peal_hub *hub = a->hub;
    PEAL_ASSERT(peal_list_empty(&a->watchers));
    if (peal_request_waits(&a->report)) hub->attendance.asking--;
    if (peal_request_waits(&a->who)) hub->attendance.asking--;
    peal_request_cancel(hub, &a->report);
    peal_request_cancel(hub, &a->who);
    peal_list_remove(&a->in_list);
    peal_map_remove(&hub->attendance.groups, &a->node);
    peal_buf_fini(&a->changes);
    free(a);
}

/* ---- lists and events to watchers -------------------------------------------------------- */

/* Was the client told that it joined? Nothing is said of the group before that. */
static bool is_told(const struct watcher *w)
{
    const struct peal_member *m = w->member;
    if (!m->conn->open || !m->conn->welcomed) return false;
    return m->pursuit == NULL || m->pursuit->answer == PEAL_ANSWER_NONE;
}

/* Gives the event to those who asked for a list, or to those who have one. It is rendered once for
 * all who speak the same dialect. Who has no room for it gets a list later. */
static void give(struct attended *a, const struct peal_frame *frame, bool list)
{
    struct peal_event event = {.type = PEAL_EVENT_PRESENCE, .page = frame};
    const struct peal_dialect *dialect = NULL;
    struct peal_run *run = NULL;
    PEAL_LIST_EACH(&a->watchers, it, after)
    {
        struct watcher *w = PEAL_FROM_LINK(it, struct watcher, in_group);
        struct peal_conn *conn = w->member->conn;
        if (list ? !w->asked : w->waiting) continue;
        if (list) w->asked = false;
        if (!conn->open) continue;
        if (conn->dialect != dialect) {
            peal_run_unref(run);
            dialect = conn->dialect;
            run = peal_conn_render(conn, &event);
        }
        w->waiting = run == NULL || peal_conn_push(conn, run) != PEAL_OK;
    }
    peal_run_unref(run);
}

static bool anybody_waits(const struct attended *a)
{
    for (const struct peal_link *it = a->watchers.next; it != &a->watchers; it = it->next)
        if (PEAL_FROM_LINK(it, struct watcher, in_group)->waiting) return true;
    return false;
}

static void list_for_all(struct attended *a)
{
    PEAL_LIST_EACH(&a->watchers, it, after)
    PEAL_FROM_LINK(it, struct watcher, in_group)->waiting = true;
}

void peal_attendance_on_event(struct peal_hub *hub, const struct peal_frame *frame)
{
    struct attended *a = find(hub, frame->group);
    if (a == NULL || peal_list_empty(&a->watchers)) return;
    if (frame->from == a->event)
        give(a, frame, false);
    else
        list_for_all(a); /* an event is missing */
    a->event = frame->to;
    make_due(a);
}

static void who_done(struct peal_request *request, const struct peal_frame *answer)
{
    struct attended *a = PEAL_FROM_LINK(request, struct attended, who);
    a->hub->attendance.asking--;
    if (answer != NULL && answer->code == PEAL_OK && answer->type == PEAL_F_PRESENCE) {
        a->event = answer->to;
        give(a, answer, true);
        if (anybody_waits(a)) make_later(a, UNTOLD_MS);
        return;
    }
    PEAL_LIST_EACH(&a->watchers, it, after)
    PEAL_FROM_LINK(it, struct watcher, in_group)->asked = false;
    bool away = answer != NULL && answer->code == PEAL_ENO_ROUTER;
    make_later(a, away ? AWAY_MS : RETRY_MS);
}

/* Asks for a list on behalf of all who wait and may be told. */
static void send_who(struct attended *a)
{
    struct peal_hub *hub = a->hub;
    bool any = false;
    PEAL_LIST_EACH(&a->watchers, it, after)
    {
        struct watcher *w = PEAL_FROM_LINK(it, struct watcher, in_group);
        w->asked = w->waiting && is_told(w);
        any = any || w->asked;
    }
    if (!any) {
        make_later(a, UNTOLD_MS);
        return;
    }
    struct peal_frame who = {.type = PEAL_F_WHO, .group = name_of(a), .limit = PEAL_WHO_CLIENT_MAX};
    if (peal_request_send(hub, &a->who, name_of(a), &who) == PEAL_OK)
        hub->attendance.asking++;
    else
        make_later(a, RETRY_MS);
}

/* ---- reports ----------------------------------------------------------------------------- */

static void drop_changes(struct attended *a)
{
    peal_buf_fini(&a->changes);
    a->change_count = 0;
}

static void add_change(struct attended *a, const struct peal_conn *conn, bool there)
{
    struct change change = {.session = conn->session, .there = there};
    struct peal_span user = there ? peal_span_of(conn->user) : (struct peal_span){0};
    _Static_assert(PEAL_NAME_MAX <= UINT8_MAX, "the size of a name fits");
    change.user_size = (uint8_t)user.size;
    if (!a->all) {
        peal_buf_add_span(&a->changes, peal_span_make(&change, sizeof change));
        peal_buf_add_span(&a->changes, user);
        a->change_count++;
    }
    if (a->changes.failed || a->change_count > PEAL_PRESENT_MAX) {
        drop_changes(a);
        a->all = true;
    }
    make_due(a);
}

static bool needs_report(const struct attended *a)
{
    return a->all || a->check || a->change_count > 0 ||
           a->watch_known != !peal_list_empty(&a->watchers);
}

/* Nobody is there and the router knows it, or never heard of it. */
static bool is_over(const struct attended *a)
{
    return a->count == 0 && a->known == 0 && !a->all && a->change_count == 0 &&
           !peal_request_waits(&a->report) && !peal_request_waits(&a->who) &&
           peal_list_empty(&a->watchers);
}

static void report_done(struct peal_request *request, const struct peal_frame *answer)
{
    struct attended *a = PEAL_FROM_LINK(request, struct attended, report);
    enum peal_err err = answer == NULL ? PEAL_ETIMEOUT : (enum peal_err)answer->code;
    a->hub->attendance.asking--;
    if (err == PEAL_OK) {
        /* Of who has said that nobody is there the router remembers nothing. */
        a->known = a->said == 0 ? 0 : a->saying;
        a->watch_known = a->said > 0 && a->watch_said;
        if (a->known == 0 && (a->count > 0 || a->change_count > 0)) a->all = true;
        if (a->watch_known && answer->to != a->event) list_for_all(a);
        make_due(a);
        return;
    }
    bool news = err == PEAL_EAGAIN && !a->said_all;
    drop_changes(a);
    a->all = true;
    a->known = 0;
    a->watch_known = false;
    if (news)
        make_due(a); /* the router does not know what this follows: it is told all now */
    else
        make_later(a, err == PEAL_ENO_ROUTER || err == PEAL_EBAD_FIELD ? AWAY_MS : RETRY_MS);
}

static struct peal_frame report_frame(struct attended *a, struct peal_person *people, size_t count)
{
    bool watch = !peal_list_empty(&a->watchers);
    struct peal_frame f = {.type = PEAL_F_PRESENT,
                           .group = name_of(a),
                           .source = a->hub->worker,
                           .from = a->known,
                           .to = a->saying,
                           .limit = a->count,
                           .flags = watch ? PEAL_FLAG_WATCH : 0};
    f.people.at = people;
    f.people.count = count;
    return f;
}

static enum peal_err send_changes(struct attended *a)
{
    struct peal_person people[PEAL_PRESENT_MAX];
    const char *at = a->changes.at;
    for (uint32_t i = 0; i < a->change_count; i++) {
        struct change change;
        memcpy(&change, at, sizeof change);
        at += sizeof change;
        people[i] = (struct peal_person){.session = change.session, .count = change.there};
        if (change.user_size > 0) people[i].user = peal_span_make(at, change.user_size);
        at += change.user_size;
    }
    struct peal_frame f = report_frame(a, people, a->change_count);
    return peal_request_send(a->hub, &a->report, name_of(a), &f);
}

static enum peal_err send_page(struct attended *a, struct peal_person *people, size_t count,
                               uint64_t flags)
{
    struct peal_frame f = report_frame(a, people, count);
    f.flags |= PEAL_FLAG_ALL | flags;
    if (flags & PEAL_FLAG_LAST) return peal_request_send(a->hub, &a->report, name_of(a), &f);
    return peal_hub_send(a->hub, name_of(a), &f);
}

/* Every session that is there, in pages; only the last one is answered. */
static enum peal_err send_all(struct attended *a)
{
    struct peal_person people[PEAL_PRESENT_MAX];
    struct peal_group *g = peal_group_find(a->hub, name_of(a));
    uint64_t flags = PEAL_FLAG_FIRST;
    size_t count = 0;
    size_t named = 0;
    for (int i = 0; i < 2 && g != NULL; i++) {
        PEAL_LIST_EACH(i == 0 ? &g->live : &g->others, it, after)
        {
            const struct peal_conn *conn = PEAL_FROM_LINK(it, struct peal_member, in_group)->conn;
            if (!conn->open) continue;
            if (count == PEAL_PRESENT_MAX) {
                enum peal_err err = send_page(a, people, count, flags);
                if (err != PEAL_OK) return err;
                flags = 0;
                count = 0;
            }
            people[count++] =
                (struct peal_person){peal_span_of(conn->user), conn->session, .count = 1};
            named++;
        }
    }
    PEAL_ASSERT(named == a->count);
    return send_page(a, people, count, flags | PEAL_FLAG_LAST);
}

static void send_report(struct attended *a)
{
    struct peal_hub *hub = a->hub;
    bool all = a->all || a->known == 0;
    a->saying = ++hub->attendance.version;
    enum peal_err err = all ? send_all(a) : send_changes(a);
    if (err != PEAL_OK) { /* the bus is full: everything is as it was */
        make_later(a, RETRY_MS);
        return;
    }
    hub->attendance.asking++;
    drop_changes(a);
    a->said_all = all;
    a->said = a->count;
    a->watch_said = !peal_list_empty(&a->watchers);
    a->all = false;
    a->check = false;
}

/* Does what there is to do for a group, if its turn has come. */
static void next_step(struct attended *a)
{
    if (peal_request_waits(&a->report)) return; /* goes on when it is answered */
    if (is_over(a)) {
        group_free(a);
        return;
    }
    if (needs_report(a))
        send_report(a);
    else if (anybody_waits(a) && !peal_request_waits(&a->who))
        send_who(a);
}

void peal_attendance_end_turn(struct peal_hub *hub)
{
    struct peal_attendance *att = &hub->attendance;
    while (!peal_list_empty(&att->due) && att->asking < PEAL_ATTENDANCE_ASKING) {
        struct attended *a = PEAL_FROM_LINK(att->due.next, struct attended, in_list);
        peal_list_remove(&a->in_list);
        next_step(a);
    }
}

/* ---- who comes and goes ------------------------------------------------------------------ */

bool peal_attendance_wanted(const struct peal_hub *hub, struct peal_span group)
{
    return hub->attendance.wanted &&
           peal_group_policy(hub->config, group)->presence != PEAL_PRESENCE_OFF;
}

enum peal_err peal_attendance_join(struct peal_member *m)
{
    struct peal_hub *hub = m->conn->hub;
    struct peal_span name = peal_group_span(m->group);
    struct attended *a = find(hub, name);
    if (a == NULL) {
        a = calloc(1, sizeof *a + name.size);
        if (a == NULL) return PEAL_ENOMEM;
        memcpy(a->name, name.at, name.size);
        a->hub = hub;
        a->all = true;
        peal_link_init(&a->in_list);
        peal_link_init(&a->watchers);
        peal_request_init(&a->report, report_done);
        peal_request_init(&a->who, who_done);
        peal_map_add(&hub->attendance.groups, &a->node, peal_span_make(a->name, name.size));
    }
    a->count++;
    add_change(a, m->conn, true);
    return PEAL_OK;
}

static void count_out(struct peal_member *m)
{
    struct attended *a = find(m->conn->hub, peal_group_span(m->group));
    PEAL_ASSERT(a != NULL);
    PEAL_ASSERT(a->count > 0);
    a->count--;
    add_change(a, m->conn, false);
}

void peal_attendance_leave(struct peal_member *m)
{
    struct peal_hub *hub = m->conn->hub;
    struct watcher *w = find_watcher(hub, m);
    if (m->conn->open) count_out(m);
    if (w == NULL) return;
    make_due(find(hub, peal_group_span(m->group))); /* there may be no watchers any more */
    peal_list_remove(&w->in_group);
    peal_map_remove(&hub->attendance.watchers, &w->node);
    free(w);
}

void peal_attendance_close(struct peal_conn *conn)
{
    if (!conn->hub->attendance.wanted) return;
    PEAL_LIST_EACH(&conn->members, it, after)
    {
        struct peal_member *m = PEAL_FROM_LINK(it, struct peal_member, in_conn);
        if (m->group->presence) count_out(m);
    }
}

enum peal_err peal_attendance_watch(struct peal_member *m)
{
    struct peal_hub *hub = m->conn->hub;
    if (find_watcher(hub, m) != NULL) return PEAL_OK;
    struct attended *a = find(hub, peal_group_span(m->group));
    PEAL_ASSERT(a != NULL); /* m has joined */
    struct watcher *w = calloc(1, sizeof *w);
    if (w == NULL) return PEAL_ENOMEM;
    w->member = m;
    w->waiting = true;
    peal_list_append(&a->watchers, &w->in_group);
    peal_map_add(&hub->attendance.watchers, &w->node, peal_span_make(&w->member, sizeof w->member));
    make_due(a);
    return PEAL_OK;
}

/* ---- time and life ----------------------------------------------------------------------- */

void peal_attendance_check(struct peal_hub *hub)
{
    struct peal_map_node *n = NULL;
    while ((n = peal_map_next(&hub->attendance.groups, n)) != NULL) {
        struct attended *a = PEAL_FROM_NODE(n, struct attended, node);
        a->check = true;
        make_due(a);
    }
}

void peal_attendance_on_tick(struct peal_hub *hub)
{
    int most = AGAIN_PER_TICK;
    PEAL_LIST_EACH(&hub->attendance.later, it, after)
    {
        struct attended *a = PEAL_FROM_LINK(it, struct attended, in_list);
        if (hub->now_ms < a->retry_ms) continue;
        make_due(a);
        if (--most == 0) return;
    }
}

enum peal_err peal_attendance_init(struct peal_hub *hub)
{
    struct peal_attendance *att = &hub->attendance;
    *att = (struct peal_attendance){0};
    peal_link_init(&att->due);
    peal_link_init(&att->later);
    for (size_t i = 0; i < hub->config->group_count; i++)
        if (hub->config->groups[i].presence != PEAL_PRESENCE_OFF) att->wanted = true;
    if (peal_map_init(&att->groups) != PEAL_OK) return PEAL_ENOMEM;
    if (peal_map_init(&att->watchers) == PEAL_OK) return PEAL_OK;
    peal_map_fini(&att->groups);
    return PEAL_ENOMEM;
}

void peal_attendance_fini(struct peal_hub *hub)
{
    struct peal_map_node *n;
    while (hub->attendance.groups.buckets != NULL &&
           (n = peal_map_next(&hub->attendance.groups, NULL)) != NULL)
        group_free(PEAL_FROM_NODE(n, struct attended, node));
    peal_map_fini(&hub->attendance.groups);
    peal_map_fini(&hub->attendance.watchers);
}

#include "node/joins.h"

#include <stdlib.h>

#include "node/rights.h"
#include "proto/group.h"

enum peal_err peal_joins_add(struct peal_conn *conn, const struct peal_join *join, const char **why)
{
    struct peal_member *m;
    *why = "a group name has 1..200 bytes of UTF-8 without control characters";
    if (peal_name_check(join->group) != PEAL_OK) return PEAL_EBAD_GROUP;
    *why = "not allowed to join this group";
    if (!peal_may_join(conn, join->group)) return PEAL_EFORBIDDEN;
    *why = "already a member of this group";
    if (peal_member_find(conn, join->group) != NULL) return PEAL_ELIMIT;
    *why = "too many groups on this connection";
    if (conn->member_count >= conn->hub->config->limits.groups_per_connection) return PEAL_ELIMIT;
    *why = "out of memory";
    return peal_member_add(conn, join, &m);
}

void peal_joins_welcome_if_complete(struct peal_conn *conn)
{
    if (peal_conn_waits_for(conn, PEAL_DUE_WELCOME) && conn->joins_owed == 0)
        peal_joins_welcome(conn);
}

void peal_joins_welcome(struct peal_conn *conn)
{
    peal_conn_clear_due(conn, PEAL_DUE_WELCOME);
    conn->welcomed = true;
    struct peal_event event = {
        .type = PEAL_EVENT_WELCOME, .id = peal_span_of(conn->hello_id), .conn = conn};
    peal_conn_reply(conn, &event);
    free(conn->hello_id);
    conn->hello_id = NULL;
    if (conn->open && conn->hub->degraded) {
        struct peal_event degraded = {.type = PEAL_EVENT_DEGRADED, .on = true};
        peal_conn_reply(conn, &degraded);
    }
    /* The end of its slot is all that is still known; nobody waits for this one to choose. */
    if (conn->open && peal_conn_waits_for(conn, PEAL_DUE_DRAIN))
        peal_conn_say_goaway(
            conn, peal_deadline_left(&conn->deadlines, PEAL_DUE_DRAIN, conn->hub->now_ms), 0);
    PEAL_LIST_EACH(&conn->members, it, after)
    {
        struct peal_member *m = PEAL_FROM_LINK(it, struct peal_member, in_conn);
        struct peal_pursuit *p = m->pursuit;
        if (p != NULL && p->recovered != PEAL_RECOVERED_PENDING) {
            if (p->answer == PEAL_ANSWER_JOINED)
                peal_joins_done(conn, m);
            else
                peal_member_answered(m);
        }
        peal_member_pump(m);
    }
}

void peal_joins_done(struct peal_conn *conn, struct peal_member *m)
{
    struct peal_pursuit *p = m->pursuit;
    if (p == NULL || p->answer == PEAL_ANSWER_NONE) return;
    if (!conn->welcomed) { /* nothing is said before the welcome */
        if (p->answer == PEAL_ANSWER_WELCOME) conn->joins_owed--;
        peal_joins_welcome_if_complete(conn);
        return;
    }
    struct peal_event event = {.type = PEAL_EVENT_JOINED,
                               .id = peal_span_of(p->id),
                               .group = peal_group_span(m->group),
                               .epoch = p->epoch,
                               .offset = p->cursor,
                               .unread = m->group->unread,
                               .rev = m->group->rev,
                               .recovered = p->recovered};
    p->answer = PEAL_ANSWER_NONE;
    peal_conn_reply(conn, &event);
    peal_member_answered(m);
}

void peal_joins_failed(struct peal_conn *conn, struct peal_member *m, enum peal_err err)
{
    const struct peal_pursuit *p = m->pursuit;
    bool owed = p->answer == PEAL_ANSWER_WELCOME && !conn->welcomed;
    if (p->answer != PEAL_ANSWER_NONE)
        peal_conn_error(conn, peal_span_of(p->id), peal_group_span(m->group), err, "not joined");
    peal_member_remove(m);
    if (!owed) return;
    conn->joins_owed--;
    peal_joins_welcome_if_complete(conn);
}

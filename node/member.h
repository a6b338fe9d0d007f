/* node/member.h: one connection in one group, and how far it is.
 *
 * Every membership has a cursor. LIVE: it has everything up to the group's newest position here
 * and gets what comes. BEHIND: it gets nothing live; pages sized to the room in its queue are
 * fetched until one ends at the group's position, and it turns live in that turn. AHEAD: a page
 * ended beyond what has come in here yet; it turns live when the group has caught up. Resume,
 * replay, a full queue in a group that keeps messages and a repaired loss are all BEHIND.
 *
 * A live member's cursor is the group's position, so it needs none of its own: what a member has
 * while it is not live, or its client was not told that it is, is its pursuit.
 *
 * Thread: the worker. Memory: a member belongs to its connection.
 * Source: docs/ARCHITECTURE.md, "One cursor". */
#ifndef PEAL_NODE_MEMBER_H
#define PEAL_NODE_MEMBER_H

#include "node/groups.h"

enum peal_member_state {
    PEAL_MEMBER_JOINING,
    PEAL_MEMBER_BEHIND,
    PEAL_MEMBER_AHEAD,
    PEAL_MEMBER_LIVE
};

enum peal_answer { PEAL_ANSWER_NONE, PEAL_ANSWER_JOINED, PEAL_ANSWER_WELCOME };
enum peal_recovered {
    PEAL_RECOVERED_PENDING,
    PEAL_RECOVERED_NEW,
    PEAL_RECOVERED_FULL,
    PEAL_RECOVERED_GAP
};

struct peal_pursuit {
    struct peal_member *member;
    struct peal_link waiting; /* in hub->fetch_wait */
    enum peal_member_state state;
    enum peal_answer answer; /* what the client has not been told yet */
    enum peal_recovered recovered;
    bool has_since;
    bool unacked; /* inbox without a position: only what no device has acked */
    uint64_t epoch;
    uint64_t cursor;    /* everything up to here was given to the connection's queue */
    uint64_t last;      /* `last: n`, 0 = not asked */
    uint64_t loss_from; /* `last`: what is missing before this, and before a message, is none */
    uint64_t retry_ms;  /* a failed fetch is tried again then */
    struct peal_request fetch;
    char *id; /* the command's id as JSON, or NULL */
};

struct peal_member {
    struct peal_link in_group; /* group->live or group->others */
    struct peal_link in_conn;
    struct peal_group *group;
    struct peal_conn *conn;
    struct peal_pursuit *pursuit; /* NULL: live, and nothing to tell */
};

static inline enum peal_member_state peal_member_state(const struct peal_member *m)
{
    return m->pursuit == NULL ? PEAL_MEMBER_LIVE : m->pursuit->state;
}

struct peal_join {
    struct peal_span group;
    bool has_since;
    uint64_t epoch;
    uint64_t offset;
    uint64_t last;
    enum peal_answer answer;
    struct peal_span id; /* JSON, copied */
};

/* Makes conn a member and asks the router when it has to. conn must not be one yet. Errors:
 * PEAL_ENOMEM. */
enum peal_err peal_member_add(struct peal_conn *conn, const struct peal_join *join,
                              struct peal_member **out);
/* Ends the membership; the group goes with its last member. */
void peal_member_remove(struct peal_member *member);
/* Costs as many steps as the connection has groups or the group has members, whichever is less. */
struct peal_member *peal_member_find(struct peal_conn *conn, struct peal_span group);
/* In the inbox of its user; NULL when it has none. */
struct peal_member *peal_member_find_inbox(struct peal_conn *conn);
/* Brings a member on: live if it is where the group is, else a page as soon as there is room. */
void peal_member_pump(struct peal_member *member);
/* The client was told how its join ended. */
void peal_member_answered(struct peal_member *member);

/* The group says: its position is known; it has caught up with who is AHEAD. */
void peal_member_place(struct peal_member *member);
void peal_member_catch_up(struct peal_member *member);
/* The member has everything up to cursor and nothing behind it. Without memory for a pursuit the
 * connection is closed (4101), and its client comes back with its positions. */
void peal_member_interrupt(struct peal_member *member, uint64_t epoch, uint64_t cursor);
/* The same for one whose queue is full, or memory short. */
void peal_member_fall_behind(struct peal_member *member, uint64_t epoch, uint64_t cursor);
/* Asks for pages that are wanted, at most PEAL_REPAIRS_MAX at once. */
void peal_members_fetch(struct peal_hub *hub);

#endif

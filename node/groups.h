/* node/groups.h: which local connections want a group, and how far each of them is.
 *
 * Every membership has a cursor. LIVE: it has everything up to the group's newest position here
 * and gets what comes. BEHIND: it gets nothing live; pages sized to the room in its queue are
 * fetched until one ends at the group's position, and it turns live in that turn. AHEAD: a page
 * ended beyond what has come in here yet; it turns live when the group has caught up. Resume,
 * replay, a full queue in a group that keeps messages and a repaired loss are all BEHIND.
 *
 * The worker checks that offsets follow on. A hole, a new epoch or a position told after a sync
 * puts every live member behind where it was, and the pages tell what became of the rest.
 *
 * Thread: the worker. Memory: a group lives while it has members or acks to tell; members belong to
 * their connection. Source: docs/ARCHITECTURE.md, "One cursor". */
#ifndef PEAL_NODE_GROUPS_H
#define PEAL_NODE_GROUPS_H

#include "node/hub.h"
#include "node/letter.h"

enum peal_member_state {
    PEAL_MEMBER_JOINING,
    PEAL_MEMBER_BEHIND,
    PEAL_MEMBER_AHEAD,
    PEAL_MEMBER_LIVE
};

struct peal_group {
    struct peal_map_node node;
    struct peal_hub *hub;
    const struct peal_config_group *policy;
    bool inbox;
    bool joined; /* the position is known */
    bool keeps;  /* the router keeps messages of it */
    uint64_t epoch;
    uint64_t offset; /* newest that came in here */
    uint64_t unread; /* inbox: of the newest rev */
    uint64_t rev;
    uint64_t req; /* of the JOIN that is not answered, 0 = none */
    uint64_t asked_ms;
    struct peal_link asking; /* in hub->asked or hub->unasked */
    uint64_t ack_upto;       /* to be told to the router, 0 = nothing */
    uint64_t ack_sent;       /* the one under way */
    uint64_t ack_due_ms;
    uint32_t ack_tries;      /* without a member */
    struct peal_request ack; /* under way */
    struct peal_link acking; /* in hub->acks or hub->ack_retries */
    struct peal_link live;   /* members */
    struct peal_link others; /* members that are not live */
    uint32_t member_count;
    uint16_t turn_first; /* what waits for the end of the turn: index of a letter + 1, 0 = none */
    uint16_t turn_last;
    uint16_t turn_slot; /* in turn->groups */
    uint8_t name_size;
    char name[];
};

enum peal_answer { PEAL_ANSWER_NONE, PEAL_ANSWER_JOINED, PEAL_ANSWER_WELCOME };
enum peal_recovered {
    PEAL_RECOVERED_PENDING,
    PEAL_RECOVERED_NEW,
    PEAL_RECOVERED_FULL,
    PEAL_RECOVERED_GAP
};

struct peal_member {
    struct peal_link in_group;
    struct peal_link in_conn;
    struct peal_link waiting; /* in hub->fetch_wait */
    struct peal_group *group;
    struct peal_conn *conn;
    enum peal_member_state state;
    enum peal_answer answer; /* what the client has not been told yet */
    enum peal_recovered recovered;
    bool has_since;
    bool quiet;   /* `last`: what was evicted before the first message is no loss */
    bool unacked; /* inbox without a position: only what no device has acked */
    uint64_t epoch;
    uint64_t cursor;   /* everything up to here was given to the connection's queue */
    uint64_t last;     /* `last: n`, 0 = not asked */
    uint64_t retry_ms; /* a failed fetch is tried again then */
    struct peal_request fetch;
    char *id; /* the command's id as JSON, or NULL */
};

struct peal_join {
    struct peal_span group;
    bool has_since;
    uint64_t epoch;
    uint64_t offset;
    uint64_t last;
    enum peal_answer answer;
    struct peal_span id; /* JSON, copied */
};

/* Makes conn a member and asks the router when it has to. A second join of the same group is
 * PEAL_ELIMIT. Errors: PEAL_ENOMEM. */
enum peal_err peal_member_add(struct peal_conn *conn, const struct peal_join *join,
                              struct peal_member **out);
/* Ends the membership; the group goes with its last member. */
void peal_member_remove(struct peal_member *member);
struct peal_member *peal_member_find(struct peal_conn *conn, struct peal_span group);
/* Brings a member on: live if it is where the group is, else a page as soon as there is room. */
void peal_member_pump(struct peal_member *member);

/* The member has everything up to cursor, and its queue is full or memory short: the rest comes by
 * pages. */
void peal_member_fall_behind(struct peal_member *member, uint64_t epoch, uint64_t cursor);

/* Letters. */
void peal_groups_on_message(struct peal_hub *hub, struct peal_letter *letter);
void peal_groups_on_position(struct peal_hub *hub, const struct peal_frame *frame); /* JOINED, AT */
void peal_groups_on_state(struct peal_hub *hub, const struct peal_frame *frame);
/* Letters were lost: every position is doubtful; asks for all of them again. */
void peal_groups_on_lost(struct peal_hub *hub);
void peal_groups_on_tick(struct peal_hub *hub);
/* Drops the groups that only wait for acks. */
void peal_groups_fini(struct peal_hub *hub);
/* A device has everything up to upto; joined for PEAL_ACK_JOIN_MS, and said again until the router
 * confirms it. */
void peal_group_ack(struct peal_hub *hub, struct peal_group *group, uint64_t upto);

static inline struct peal_span peal_group_span(const struct peal_group *group)
{
    return peal_span_make(group->name, group->name_size);
}

#endif

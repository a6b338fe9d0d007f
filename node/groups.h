/* node/groups.h: the groups that connections of this worker are in, and what routers say of them.
 *
 * The worker checks that offsets follow on. A hole, a new epoch or a position told after a sync
 * puts every live member behind where it was (node/member.h), and pages tell what became of the
 * rest. What follows on waits for the end of the turn (node/turn.h).
 *
 * Thread: the worker. Memory: a group lives while it has members or acks to tell. */
#ifndef PEAL_NODE_GROUPS_H
#define PEAL_NODE_GROUPS_H

#include "node/acks.h"
#include "node/hub.h"
#include "node/letter.h"

/* What a message touches lies together, at the end, where the map finds it. */
struct peal_group {
    struct peal_hub *hub;
    struct peal_acks *acks; /* inbox: to be told to the router, or NULL */
    uint64_t req;           /* of the JOIN that is not answered, 0 = none */
    uint64_t asked_ms;
    struct peal_link asking; /* in hub->asked or hub->unasked */
    struct peal_link others; /* members that are not live */
    struct peal_link live;   /* members */
    uint64_t unread;         /* inbox: of the newest rev */
    uint64_t rev;
    uint64_t epoch;
    uint64_t offset; /* newest that came in here */
    uint32_t member_count;
    uint16_t turn_first; /* what waits for the end of the turn: index of a message + 1, 0 = none */
    uint16_t turn_last;
    uint16_t turn_slot; /* in turn->groups */
    bool inbox;
    bool joined;   /* the position is known */
    bool keeps;    /* the router keeps messages of it */
    bool presence; /* the policy asks who is there (node/attendance.h) */
    uint8_t name_size;
    struct peal_map_node node;
    char name[];
};

/* The group of this name, or NULL. */
struct peal_group *peal_group_find(struct peal_hub *hub, struct peal_span name);
/* The same, made when there is none: then the router is asked for its position. NULL on ENOMEM. */
struct peal_group *peal_group_ensure(struct peal_hub *hub, struct peal_span name);
/* Asks the router for the position once more. */
void peal_group_ask(struct peal_group *group);
/* Call when a member has left or an ack is done: the group goes when it has neither. */
void peal_group_rest(struct peal_group *group);

/* Letters. */
/* hash: of the name of its group, in hub->groups. */
void peal_groups_on_message(struct peal_hub *hub, struct peal_letter *letter, uint32_t hash);
void peal_groups_on_position(struct peal_hub *hub, const struct peal_frame *frame); /* JOINED, AT */
void peal_groups_on_state(struct peal_hub *hub, const struct peal_frame *frame);
/* Letters were lost: every position is doubtful; asks for all of them again. */
void peal_groups_on_lost(struct peal_hub *hub);
void peal_groups_on_tick(struct peal_hub *hub);
/* Drops the groups that only wait for acks. */
void peal_groups_fini(struct peal_hub *hub);
static inline struct peal_span peal_group_span(const struct peal_group *group)
{
    return peal_span_make(group->name, group->name_size);
}

#endif

/* node/uplink_state.h: what an uplink knows, for the files that it is made of.
 *
 * Nobody else includes this: uplink.c, trust.c, entries.c, wants.c, moves.c and parcels.c work on
 * one state, each on its part of what the uplink does. Fields that belong to one of them are
 * touched by others through its functions, except what all of them ask (time, whether a link is
 * up) and this: whoever cannot go on with a link sets `up` to false, and the next beat syncs it.
 *
 * Thread: the bus. Memory: the uplink owns all of it; a want goes with its last worker, and its
 * pending joins with it. */
#ifndef PEAL_NODE_UPLINK_STATE_H
#define PEAL_NODE_UPLINK_STATE_H

#include "base/list.h"
#include "base/map.h"
#include "node/lives.h"
#include "node/mails.h"
#include "node/repairs.h"
#include "node/slotmap.h"
#include "node/sync.h"
#include "node/uplink.h"
#include "proto/group.h"
#include "proto/parcel.h"
#include "proto/roll.h"

struct peal_uplink_link {
    bool up; /* beats arrive and a sync was sent for this boot */
    uint64_t seq;
    uint64_t heard_ms;
    struct peal_lives lives;
    bool two;          /* lives, as last counted */
    uint64_t alarm_ms; /* when that was last logged */
    uint64_t tried_ms; /* when another way was last tried; 0 = nobody has asked yet */
    uint64_t waits_ms; /* since when none was answered; a try to be heard begins it anew */
    struct peal_sync sync;
    struct peal_repairs repairs;
    struct peal_map groups; /* of struct peal_want: that live on this router */
    struct peal_roll held;  /* the same by slot */
    struct peal_parcel out; /* what this turn has for the router */
};

/* A group that workers of this node want. There may be a million. What a message needs lies
 * together: up to 32 bytes of name, two lines of the cache. */
struct peal_want {
    uint64_t workers; /* bit per worker that wants it */
    uint64_t epoch;
    uint64_t offset; /* newest seen */
    struct peal_pending *pendings;
    uint16_t link;
    bool joined; /* the router has said JOINED or AT */
    bool keeps;
    uint32_t place; /* in the link's roll */
    struct peal_map_node node;
    char name[];
};

/* A join that the router has not answered yet; at most one per worker and group. */
struct peal_pending {
    struct peal_map_node node;
    struct peal_link by_age;   /* in uplink->pendings, oldest first */
    struct peal_pending *next; /* of want->pendings */
    struct peal_want *want;
    uint64_t req; /* the key points here */
    uint64_t asked_ms;
};

struct peal_uplink {
    struct peal_uplink_io io;
    uint64_t boot;
    uint64_t now_ms;
    uint64_t beat_due_ms;
    size_t link_count;
    struct peal_mails mails;
    uint64_t rejoins; /* requests of the bus itself so far */
    struct peal_slotmap slots;
    struct peal_map pending_map;
    struct peal_link pendings;
    struct peal_buf scratch;
    struct peal_uplink_link links[];
};

static inline struct peal_span peal_want_name(const struct peal_want *want)
{
    return peal_span_make(want->name, want->node.key_size);
}

/* The router to ask for a group. */
static inline size_t peal_uplink_link_of(const struct peal_uplink *up, struct peal_span name)
{
    return peal_slotmap_link(&up->slots, peal_group_slot(name));
}

#endif

/* router/presence.h: who is there, in the groups whose policy asks for it.
 *
 * A state machine of the shard. Nodes report which sessions are in a group, and of whom; users and
 * connections are counted apart, and a connection of nobody is a connection. A user whose last
 * connection has gone stays for the grace (`presence.grace`): who reloads a page or comes back by
 * another node never left. Members who asked are told who came and left, joined for some time and
 * up to a bound; beyond it they are told the counts.
 *
 * A report belongs to a source: one part of one node, which keeps a version of what it has said.
 * Changes are taken only on top of the version that they follow; otherwise the source is asked for
 * all of it. So a report that got lost, a router that forgot and a node that was dropped are all
 * repaired by the same answer, PEAL_EAGAIN.
 *
 * Every event carries its number and that of the one before it in its group; so do answers. Who
 * finds another number than the last one he heard has missed something, and asks anew.
 *
 * While the router settles (`presence.settle` after its start) it has not heard of everybody:
 * answers say so, and no changes are told. At its end those who asked are told the counts.
 *
 * Shape:  at most limits.presence sessions. Beyond that, sessions are counted as connections, but
 *         their users are not known, which answers say (PEAL_FLAG_TRUNCATED).
 * Thread: the shard's; time is passed in. Memory: 96 bytes per session, 136 and the name per user
 * and group, 208 per source, 240 and the name per group, and about 16 for each in the maps. Source:
 * docs/ARCHITECTURE.md, "Presence". */
#ifndef PEAL_ROUTER_PRESENCE_H
#define PEAL_ROUTER_PRESENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/err.h"
#include "proto/wire.h"

struct peal_presence_io {
    void *ctx;
    /* Appends a frame for one node, in order with the messages of its groups. */
    void (*tell)(void *ctx, uint64_t boot, const struct peal_frame *frame);
    /* Does the router still hear this node? */
    bool (*alive)(void *ctx, uint64_t boot);
};

enum {
    PEAL_PRESENCE_NEWS_MS = 250,  /* who came and left is told that often, per group */
    PEAL_PRESENCE_NEWS_MAX = 256, /* names at once; beyond that only the counts */
    PEAL_PRESENCE_LISTED = 10000, /* users of a group that can be listed at all, page by page */
};

struct peal_presence;

/* config must outlive it. NULL on ENOMEM. */
struct peal_presence *peal_presence_new(const struct peal_config *config,
                                        const struct peal_presence_io *io, uint64_t boot);
void peal_presence_free(struct peal_presence *presence); /* NULL is fine */
/* Monotonic. The first one is the start of the router. */
void peal_presence_set_time(struct peal_presence *presence, uint64_t now_ms);
/* A PRESENT frame. Errors: PEAL_EAGAIN, it does not follow what is known here, and the source shall
 * say all of it; PEAL_ENOMEM, likewise later. A page that is not the last gives PEAL_OK. *event
 * becomes the number of the last event of the group, 0 when nobody is there. */
enum peal_err peal_presence_report(struct peal_presence *presence, uint64_t boot,
                                   const struct peal_frame *frame, uint64_t *event);
/* Answers a WHO: *out becomes a PRESENCE with at most room users, in order of arrival, behind the
 * one whose number is in->offset. out->offset is where the next page begins, 0 when there is none.
 * Names point into presence until it is changed. */
void peal_presence_who(struct peal_presence *presence, const struct peal_frame *in,
                       struct peal_person *people, size_t room, struct peal_frame *out);
/* Forgets all groups of these slots, and tells nobody. A walk over all of them. */
void peal_presence_drop_slots(struct peal_presence *presence, const bool slots[PEAL_SLOTS]);
/* Ends graces, drops lost nodes, tells what has changed. At least every 250 ms. */
void peal_presence_on_tick(struct peal_presence *presence);

#endif

/* node/sync.h: how a node tells a router which groups it holds there, and keeps asking whether the
 * router still has it right.
 *
 * A SYNC names all of them with epoch and newest offset, PEAL_SYNC_PAGE per frame; the router's
 * table for this node becomes exactly that, and the last page is confirmed with SYNCED. One that
 * nobody confirms is said again: what was given to a connection that then broke is lost without a
 * word.
 *
 * What differs without a loss on the link (a leave that was lost, a mistake of ours) shows in a
 * CHECK. Once a second it carries the digests of the next PEAL_SYNC_CHECK slots, so every slot
 * comes round in less than a minute. Slots that the router says it has otherwise are named again,
 * each by a SYNC_SLOT. Nothing is wrong when a group has just been joined or left: then a slot is
 * named for nothing.
 *
 * Shape:  one per link, and pages that live while groups are being named.
 * Thread: the bus. Memory: embedded; names are borrowed until the end of the call that sends them.
 * Source: docs/ARCHITECTURE.md, "Links". */
#ifndef PEAL_NODE_SYNC_H
#define PEAL_NODE_SYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/roll.h"
#include "proto/wire.h"

enum {
    PEAL_SYNC_PAGE = 1000,     /* groups per frame */
    PEAL_SYNC_RETRY_MS = 2000, /* one that nobody confirmed is said again */
    PEAL_SYNC_CHECK = 18,      /* slots per second */
    PEAL_SYNC_REST_MS = 5000,  /* after a SYNC, in which its joins come back from the store */
};
_Static_assert(PEAL_SLOTS <= PEAL_SYNC_CHECK * 60, "all slots within a minute");

/* A zeroed struct has not synced yet. */
struct peal_sync {
    uint64_t said; /* SYNC and SYNC_SLOT so far: each has a number of its own */
    uint64_t seq;  /* number of the last SYNC */
    bool waits;    /* and it was not confirmed yet */
    uint64_t said_ms;
    uint64_t next_slot; /* of the next CHECK */
};

/* Where the frames of one link go. */
struct peal_sync_io {
    void *ctx;
    size_t link;
    void (*send)(void *ctx, size_t link, const struct peal_frame *frame);
};

struct peal_sync_pages {
    struct peal_sync_io io;
    struct peal_frame frame;
    uint64_t named;
    struct peal_position at[PEAL_SYNC_PAGE];
};

/* A SYNC, or that of one slot, in parts: begin, name each group, end. */
void peal_sync_begin(struct peal_sync *sync, const struct peal_sync_io *io, uint64_t now_ms,
                     struct peal_sync_pages *pages);
void peal_sync_begin_slot(struct peal_sync *sync, const struct peal_sync_io *io, uint64_t slot,
                          struct peal_sync_pages *pages);
void peal_sync_name(struct peal_sync_pages *pages, const struct peal_position *at);
void peal_sync_end(struct peal_sync_pages *pages);
/* SYNCED came for the SYNC with this number. False: it was not the last one. */
bool peal_sync_on_synced(struct peal_sync *sync, uint64_t seq);
/* True when the last SYNC is to be said again. */
bool peal_sync_overdue(const struct peal_sync *sync, uint64_t now_ms);
/* Sends the next CHECK of what is held, once a second; not while a SYNC is on its way. */
void peal_sync_check(struct peal_sync *sync, const struct peal_sync_io *io,
                     const struct peal_roll *held, uint64_t now_ms);

#endif

/* node/sync.h: how a node tells a router which groups it holds there.
 *
 * A SYNC names all of them with epoch and newest offset, PEAL_SYNC_PAGE per frame; the router's
 * table for this node becomes exactly that, and the last page is confirmed with SYNCED. One that
 * nobody confirms is said again: what was given to a connection that then broke is lost without a
 * word.
 *
 * Shape:  one per link, and pages that live while a SYNC is being said.
 * Thread: the bus. Memory: embedded; names are borrowed until the end of the call that sends them.
 * Source: docs/ARCHITECTURE.md, "Links". */
#ifndef PEAL_NODE_SYNC_H
#define PEAL_NODE_SYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/wire.h"

enum {
    PEAL_SYNC_PAGE = 1000,     /* groups per frame */
    PEAL_SYNC_RETRY_MS = 2000, /* one that nobody confirmed is said again */
};

/* A zeroed struct has not synced yet. */
struct peal_sync {
    uint64_t seq; /* number of the last SYNC */
    bool waits;   /* and it was not confirmed yet */
    uint64_t said_ms;
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

/* A SYNC in parts: begin, name each group, end. */
void peal_sync_begin(struct peal_sync *sync, const struct peal_sync_io *io, uint64_t now_ms,
                     struct peal_sync_pages *pages);
void peal_sync_name(struct peal_sync_pages *pages, const struct peal_position *at);
void peal_sync_end(struct peal_sync_pages *pages);
/* SYNCED came for the SYNC with this number. False: it was not the last one. */
bool peal_sync_on_synced(struct peal_sync *sync, uint64_t seq);
/* True when the last SYNC is to be said again. */
bool peal_sync_overdue(const struct peal_sync *sync, uint64_t now_ms);

#endif

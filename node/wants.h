/* node/wants.h: which workers want which group, how far it is, and joins on their way.
 *
 * A group is held at the router of its slot for as long as a worker wants it. The newest position
 * of each is remembered, so that a second worker can join without asking the router. Inboxes are
 * always asked for: their counts live there. A join that is not answered is asked again; one that
 * was ordered while the router is away waits for the sync, which asks it (peal_wants_ask).
 *
 * Shape:  a group has at most one join on its way per worker, and one of the bus itself, which asks
 *         for what has changed its router.
 * Thread: the bus. Memory: the wants and pending joins of node/uplink_state.h. Orders are the
 *         caller's. */
#ifndef PEAL_NODE_WANTS_H
#define PEAL_NODE_WANTS_H

#include "node/letter.h"
#include "node/uplink.h"
#include "proto/wire.h"

struct peal_want;

/* The group, if it is held at this router; else NULL. */
struct peal_want *peal_wants_find(struct peal_uplink *up, size_t link, struct peal_span name);
/* A worker's orders. Without memory a join fails, and the worker is told. */
void peal_wants_join(struct peal_uplink *up, const struct peal_order *order);
void peal_wants_leave(struct peal_uplink *up, const struct peal_order *order);
/* JOINED, in order with the messages of the group; entry is the frame as it came. */
void peal_wants_on_joined(struct peal_uplink *up, size_t link, const struct peal_frame *joined,
                          struct peal_span entry);
/* The group is another router's now. It keeps its position: what that router says differs is
 * repaired. Without memory its workers lose it, and ask anew. */
void peal_wants_move(struct peal_uplink *up, struct peal_want *want, size_t to);
/* Nobody here wants this group: the router shall not send it. */
void peal_wants_tell_leave(struct peal_uplink *up, size_t link, struct peal_span name);
/* Asks the router again for all it has not answered. */
void peal_wants_ask(struct peal_uplink *up, size_t link);
/* The same, of all routers, for what was asked long ago. */
void peal_wants_retry(struct peal_uplink *up);
/* Forgets all groups; the maps stay. */
void peal_wants_fini(struct peal_uplink *up);

#endif

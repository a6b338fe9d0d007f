/* node/entries.h: what a router says to this node in a batch.
 *
 * The way of every message that comes to the node. A message is not decoded here: its head says
 * which group it is for, and it is copied as it came into the mails of the workers that want that
 * group. Positions and answers are looked at on the way. Of a group that nobody wants any more the
 * router is told so.
 *
 * Thread: the bus. Memory: entries are borrowed for the call.
 * Errors: an entry that cannot be read, or lost for want of memory, leaves the link untrusted. */
#ifndef PEAL_NODE_ENTRIES_H
#define PEAL_NODE_ENTRIES_H

#include "node/uplink.h"

/* The entries of one batch, which is neither late nor of a life that has ended. */
void peal_entries_take(struct peal_uplink *up, size_t link, const struct peal_span *entries,
                       size_t count);

#endif

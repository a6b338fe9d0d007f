/* node/moves.h: slots that change hands, as a node learns of it.
 *
 * A router that is asked about a slot it does not have says whose it is, as far as it knows. Groups
 * of that slot then belong to another link, are asked for there, and workers are told. Which of two
 * that contradict each other is right is known by node/slotmap.c.
 *
 * Thread: the bus. Memory: none of its own. */
#ifndef PEAL_NODE_MOVES_H
#define PEAL_NODE_MOVES_H

#include "node/uplink.h"
#include "proto/wire.h"

/* MOVED or SLOTS. With it comes back what that router was asked and did not look at. It goes to the
 * owner, unless the one who answered is that: then it does not know yet, and somebody asks again.
 * So each step needs a higher generation, and there is no going round. */
void peal_moves_hear(struct peal_uplink *up, size_t link, const struct peal_frame *frame);

#endif

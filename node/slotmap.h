/* node/slotmap.h: where a node sends what concerns a slot.
 *
 * It begins with a guess, the slots split evenly over the routers of the configuration. Whatever a
 * router says beats a guess; after that the highest generation heard is true, and what is older is
 * ignored. Two owners at one generation are told to nobody but the log: routers find that out among
 * themselves and refuse the slot, so it does not matter whom they are asked.
 *
 * Shape:  1024 slots; no memory of its own.
 * Thread: its owner; the bus and each worker have one. */
#ifndef PEAL_NODE_SLOTMAP_H
#define PEAL_NODE_SLOTMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/slots.h"
#include "proto/wire.h"

struct peal_slotmap {
    struct peal_slot slots[PEAL_SLOTS]; /* NOBODY: a guess is all there is */
    uint16_t link[PEAL_SLOTS];
    size_t link_count;
};

/* link_count 0 counts as 1. */
void peal_slotmap_init(struct peal_slotmap *map, size_t link_count);
/* The router to ask, 0..link_count-1. */
static inline size_t peal_slotmap_link(const struct peal_slotmap *map, uint16_t slot)
{
    return map->link[slot];
}
/* Is the owner a router that this node has no link to? Then the link is a guess. */
bool peal_slotmap_out_of_reach(const struct peal_slotmap *map, uint16_t slot);
/* Takes a MOVED or SLOTS frame. True when the link of some slot is another one now. Errors in the
 * frame are logged, and change nothing. */
bool peal_slotmap_hear(struct peal_slotmap *map, const struct peal_frame *frame);
/* Appends all that is known as a SLOTS frame. Fails as out does. */
void peal_slotmap_encode(const struct peal_slotmap *map, struct peal_buf *out);

#endif

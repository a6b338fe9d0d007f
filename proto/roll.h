/* proto/roll.h: the groups that one node holds at one router, by slot, and a digest of each slot.
 *
 * Both sides keep one, so that they can compare what should be the same without naming it: equal
 * sets of names have equal digests, and a digest costs an addition when a group comes or goes. It
 * is a check against mistakes, not against people: who chooses names can make two sets look alike,
 * and gains that a mistake of ours is not found.
 *
 * Shape:  items are the caller's, each once, at a place in its slot that the caller keeps; the
 *         last item of a slot takes the place of one that goes. 24 KiB, and 8 to 16 bytes per item.
 * Thread: its owner's. Memory: the lists; a zeroed struct is an empty roll.
 * Source: docs/ARCHITECTURE.md, "Links". */
#ifndef PEAL_PROTO_ROLL_H
#define PEAL_PROTO_ROLL_H

#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/span.h"

struct peal_roll_slot {
    void **items;
    uint32_t count;
    uint32_t capacity;
    uint64_t digest; /* the sum of the hashes of all names; 0 without any */
};

struct peal_roll {
    struct peal_roll_slot slots[PEAL_SLOTS];
    uint32_t count; /* of all slots */
};

void peal_roll_fini(struct peal_roll *roll);
/* Adds item under name, and says its place. Errors: PEAL_ENOMEM, and nothing has changed. */
enum peal_err peal_roll_add(struct peal_roll *roll, struct peal_span name, void *item,
                            uint32_t *place);
/* Removes the item with this name and place. Returns the item whose place that is now, or NULL. */
void *peal_roll_remove(struct peal_roll *roll, struct peal_span name, uint32_t place);

#endif

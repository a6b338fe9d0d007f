/* proto/slots.h: who owns which slot, as one process believes it and as it is said on the bus.
 *
 * A claim is (owner, generation): router number `owner` has the slot since its generation-th change
 * of hands. Of two slots the one with the higher generation is true. Two different owners at one
 * generation contradict each other, and nobody may serve the slot until a higher one comes.
 *
 * On the bus and in a router's store a table of slots is a list of runs, three numbers each: how
 * many slots, owner, generation.
 *
 * Thread: any; no state. Source: docs/ARCHITECTURE.md, "Slots". */
#ifndef PEAL_PROTO_SLOTS_H
#define PEAL_PROTO_SLOTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

enum {
    PEAL_SLOT_NOBODY = 0xffff, /* the owner where nothing is known */
    PEAL_SLOT_RUNS = 3 * PEAL_SLOTS,
};
_Static_assert((int)PEAL_SLOTS < (int)PEAL_SLOT_NOBODY, "it is no router's number");

struct peal_slot {
    uint64_t generation;
    uint16_t owner;
};

enum peal_slot_verdict {
    PEAL_SLOT_SAME,
    PEAL_SLOT_NEWER, /* to be believed */
    PEAL_SLOT_STALE, /* to be ignored */
    PEAL_SLOT_CONFLICT,
};
/* What is a claim worth to somebody who knows `known`? */
enum peal_slot_verdict peal_slot_judge(const struct peal_slot *known,
                                       const struct peal_slot *claim);

/* All slots at generation 0, split evenly over router_count routers. */
void peal_slots_seed(struct peal_slot slots[PEAL_SLOTS], size_t router_count);
void peal_slots_clear(struct peal_slot slots[PEAL_SLOTS]);
/* Returns how many numbers of `runs` were written. */
size_t peal_slots_encode(const struct peal_slot slots[PEAL_SLOTS], uint64_t runs[PEAL_SLOT_RUNS]);
/* Errors: PEAL_EBAD_MESSAGE: not whole runs of 1024 slots in all, or no number of a router; slots
 * is then undefined. */
enum peal_err peal_slots_decode(const uint64_t *runs, size_t count,
                                struct peal_slot slots[PEAL_SLOTS]);

/* The owners that an even split over router_count routers would have, with the fewest moves from
 * what is: each gets 1024 / router_count slots or one more, and who has too many gives its last
 * ones. Slots of nobody, and of owners beyond router_count, are given to who has too few. */
void peal_slots_plan(const struct peal_slot slots[PEAL_SLOTS], size_t router_count,
                     uint16_t owners[PEAL_SLOTS]);

#endif

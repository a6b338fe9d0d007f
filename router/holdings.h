/* router/holdings.h: which slots this router holds, which it knows to be another's, and what is
 * still to be written down.
 *
 * What it knows is a claim per slot (proto/slots.h), kept in its store. The configuration is asked
 * once in the life of a store: a router that has none of the knowledge yet waits until another one
 * of the list tells its table, or until all of them have said that they have none either; then the
 * slots are split evenly. So a router that is added later learns the table of those that were there
 * before, and takes nothing from anybody.
 *
 * A claim counts when it has been written (peal_holdings_record, peal_holdings_written); in between
 * its slot is served by nobody here. Two routers that claim a slot at one generation: it is refused
 * until one of them claims something else, or a higher generation comes.
 *
 * Shape:  1024 slots. A state machine without store, sockets or clock.
 * Thread: the shard's. Source: docs/ARCHITECTURE.md, "Slots". */
#ifndef PEAL_ROUTER_HOLDINGS_H
#define PEAL_ROUTER_HOLDINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/span.h"
#include "proto/slots.h"

enum peal_holding {
    PEAL_HOLD_NOBODY,    /* not known yet, not written yet, or contradicted: refused */
    PEAL_HOLD_MINE,      /* served */
    PEAL_HOLD_FROZEN,    /* mine, on its way to another one: nothing new is taken */
    PEAL_HOLD_ELSEWHERE, /* another router's */
};

struct peal_holdings {
    uint16_t self;
    uint16_t router_count;
    bool seeded;
    bool frozen[PEAL_SLOTS];
    uint8_t state[PEAL_SLOTS]; /* enum peal_holding, as follows from the rest */
    size_t mine;               /* slots in state MINE */
    size_t contradicted;
    struct peal_slot slots[PEAL_SLOTS];
    uint64_t changed[PEAL_SLOTS]; /* the version that this claim came with */
    uint16_t against[PEAL_SLOTS]; /* 1 + the router that contradicts; 0 = none */
    uint64_t version;
    uint64_t written;
    bool empty_heard[PEAL_SLOTS]; /* by router: it has no table either */
};

/* A table that is not known yet. self is less than router_count. */
void peal_holdings_init(struct peal_holdings *h, size_t self, size_t router_count);
/* One that holds every slot and never changes: a shard without a cluster. */
void peal_holdings_init_alone(struct peal_holdings *h);
/* Splits the slots evenly over the routers, at generation 0. */
void peal_holdings_seed(struct peal_holdings *h);
/* Takes what the store had kept. Errors: PEAL_ECORRUPT (not readable), PEAL_ECONFIG (of a router
 * with another number, which is then in *self). */
enum peal_err peal_holdings_load(struct peal_holdings *h, struct peal_span record, uint64_t *self);

static inline enum peal_holding peal_holdings_of(const struct peal_holdings *h, uint16_t slot)
{
    return (enum peal_holding)h->state[slot];
}
/* Mine, but not on the disk yet: soon. */
static inline bool peal_holdings_arriving(const struct peal_holdings *h, uint16_t slot)
{
    return h->slots[slot].owner == h->self && h->against[slot] == 0 &&
           h->changed[slot] > h->written;
}
/* Takes what router `peer` says of all slots. True when the table has changed: it is to be written.
 */
bool peal_holdings_hear(struct peal_holdings *h, size_t peer,
                        const struct peal_slot claims[PEAL_SLOTS]);
/* Nothing new is taken for a slot of mine, or again. */
void peal_holdings_freeze(struct peal_holdings *h, uint16_t slot, bool frozen);
/* Gives a slot of mine to another one, at the next generation. */
void peal_holdings_give(struct peal_holdings *h, uint16_t slot, size_t to);

static inline bool peal_holdings_dirty(const struct peal_holdings *h)
{
    return h->version > h->written;
}
/* Appends the record to be stored; h->version is what it holds. Fails as out does. */
void peal_holdings_record(const struct peal_holdings *h, struct peal_buf *out);
/* All up to this version is on the disk. */
void peal_holdings_written(struct peal_holdings *h, uint64_t version);
/* What may be told: everything that was written. */
void peal_holdings_tell(const struct peal_holdings *h, struct peal_slot claims[PEAL_SLOTS]);

#endif

/* node/drain.h: how one worker lets its connections go, and when each of them has to leave.
 *
 *   OFF      nothing is known of an end
 *   SETTLE   everything goes on; load balancers learn from /readyz that this node is leaving
 *   SPREAD   no new connections; each one that is here has its slot, in which it shall leave
 *   CLOSE    whoever is still here is told to leave now
 *
 * Slots are spread evenly, in the order in which the connections came. Each worker does that for
 * its own; the workers' slots interleave, so that a few connections on many workers do not leave at
 * the same time. In any second at most half as many again leave as on average.
 *
 * Shape:  connections are told PEAL_DRAIN_AT_ONCE at a time, so that no turn is long.
 * Thread: the worker. Memory: embedded in struct peal_worker.
 * Source: docs/decisions/0010-a-node-leaves-in-slots.md. */
#ifndef PEAL_NODE_DRAIN_H
#define PEAL_NODE_DRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "node/hub.h"

enum peal_drain_phase {
    PEAL_DRAIN_OFF,
    PEAL_DRAIN_SETTLE,
    PEAL_DRAIN_SPREAD,
    PEAL_DRAIN_CLOSE,
};

enum { PEAL_DRAIN_AT_ONCE = 256 }; /* connections told in one call */

struct peal_drain {
    enum peal_drain_phase phase;
    bool hurried;
    uint32_t worker;       /* 0..worker_count-1 */
    uint32_t worker_count; /* of the node */
    uint64_t since_ms;     /* when the phase began */
    uint64_t count;        /* connections at that time */
    uint64_t told;         /* of them */
};

void peal_drain_init(struct peal_drain *drain, uint32_t worker, uint32_t worker_count);
/* Begins SETTLE. Nothing happens when it has begun already. */
void peal_drain_begin(struct peal_drain *drain, const struct peal_hub *hub);
/* Begins CLOSE now. */
void peal_drain_hurry(struct peal_drain *drain, const struct peal_hub *hub);
/* Goes on to the next phase when the time of this one is over, or SPREAD has nobody left. */
void peal_drain_advance(struct peal_drain *drain, const struct peal_hub *hub);
/* SPREAD: gives the next connections their slots. CLOSE: closes them. True when there are more. */
bool peal_drain_tell(struct peal_drain *drain, struct peal_hub *hub);

/* When the slot of connection `index` of `count` on this worker begins, in ms from the beginning of
 * SPREAD; it ends peal_drain_width_ms later, and not after spread_ms. */
uint64_t peal_drain_slot_ms(const struct peal_drain *drain, uint64_t index, uint64_t count,
                            uint64_t spread_ms);
const char *peal_drain_word(enum peal_drain_phase phase);
/* How long a slot is: clients choose a time in it at random. */
uint64_t peal_drain_width_ms(uint64_t spread_ms);

#endif

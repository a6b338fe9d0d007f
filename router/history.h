/* router/history.h: the newest messages of one group that is not durable.
 *
 * A ring of encoded envelopes with consecutive offsets first..head. The oldest goes when the
 * ring is full or when it is older than the policy's age.
 *
 * Shape:  at most `max` messages; the ring grows by doubling up to that, and is freed when empty.
 * Thread: the shard. Memory: one reference per message. */
#ifndef PEAL_ROUTER_HISTORY_H
#define PEAL_ROUTER_HISTORY_H

#include <stdint.h>

#include "base/buf.h"

struct peal_history_item {
    struct peal_bytes *envelope;
    uint64_t at_ms; /* monotonic, when it was added */
};

struct peal_history {
    struct peal_history_item *items;
    uint32_t capacity; /* a power of two, or 0 */
    uint32_t max;      /* messages; 0 keeps nothing */
    uint32_t start;    /* index of the oldest */
    uint32_t count;
    size_t bytes; /* of all envelopes */
};

void peal_history_init(struct peal_history *h, uint32_t max);
void peal_history_fini(struct peal_history *h);
/* Adds the newest one, taking a reference of its own, and drops the oldest when full. When
 * memory is short the whole past is dropped and the message is not kept: offsets stay
 * consecutive either way. */
void peal_history_add(struct peal_history *h, struct peal_bytes *envelope, uint64_t now_ms);
/* Drops what was added before now_ms - age_ms. */
void peal_history_trim(struct peal_history *h, uint64_t now_ms, uint64_t age_ms);
/* Drops everything. */
void peal_history_clear(struct peal_history *h);
/* The i-th oldest, 0..count-1. */
struct peal_bytes *peal_history_get(const struct peal_history *h, uint32_t i);

#endif

/* router/history.h: the newest messages of one group that is not durable.
 *
 * A ring of encoded envelopes with consecutive offsets first..head. The oldest goes when the
 * ring is full or when it is older than the policy's age.
 *
 * Shape:  one piece of memory, because a router has a million of them and each piece is a wait
 *         for memory; it doubles while the ring grows. NULL is an empty history.
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
    size_t bytes;      /* of all envelopes */
    uint32_t capacity; /* a power of two */
    uint32_t start;    /* index of the oldest */
    uint32_t count;    /* 1.. */
    struct peal_history_item items[];
};

/* Adds the newest one, taking a reference of its own, and drops the oldest when there are `max`
 * already; max = 0 keeps nothing. When memory is short the whole past is dropped and the message
 * is not kept: offsets stay consecutive either way. */
void peal_history_add(struct peal_history **h, uint32_t max, struct peal_bytes *envelope,
                      uint64_t now_ms);
/* Begin to fetch what the next add will touch into the cache, in two steps: the beginning, which
 * is all of a short one, and then its end and the message that will go. */
void peal_history_begin_fetch(const struct peal_history *h);
void peal_history_fetch(const struct peal_history *h, uint32_t max);
/* Drops what was added before now_ms - age_ms. */
void peal_history_trim(struct peal_history **h, uint64_t now_ms, uint64_t age_ms);
/* Drops everything. */
void peal_history_clear(struct peal_history **h);
/* The i-th oldest, 0..count-1. */
struct peal_bytes *peal_history_get(const struct peal_history *h, uint32_t i);
/* When the newest was added. h is not empty. */
uint64_t peal_history_newest_ms(const struct peal_history *h);

static inline uint32_t peal_history_count(const struct peal_history *h)
{
    return h == NULL ? 0 : h->count;
}
static inline size_t peal_history_bytes(const struct peal_history *h)
{
    return h == NULL ? 0 : h->bytes;
}

#endif

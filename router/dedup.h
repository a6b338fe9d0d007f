/* router/dedup.h: which message ids were seen lately, so that a publisher may retry.
 *
 * Fingerprints of (group, message id) with the position the message was given. Covers groups
 * that are not durable; the store does the same for durable ones inside its commit.
 *
 * Shape:  bounded in count and age; the oldest goes first, so the real window may be shorter.
 * Thread: the shard. Source of the fingerprint: BLAKE2b with 128 bits, which nobody can make
 * collide on purpose. */
#ifndef PEAL_ROUTER_DEDUP_H
#define PEAL_ROUTER_DEDUP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/map.h"

struct peal_dedup {
    struct peal_map map;
    struct peal_link by_age; /* oldest first */
    uint64_t age_ms;
    uint64_t count_max;
};

/* Errors: PEAL_ENOMEM. */
enum peal_err peal_dedup_init(struct peal_dedup *dedup, uint64_t age_ms, uint64_t count_max);
void peal_dedup_fini(struct peal_dedup *dedup);
/* True when it was seen within the window: epoch and offset are then those of the first time. */
bool peal_dedup_find(struct peal_dedup *dedup, struct peal_span group, struct peal_span id,
                     uint64_t now_ms, uint64_t *epoch, uint64_t *offset);
/* Remembers it. Without memory it is not remembered: the window is shorter then. */
void peal_dedup_add(struct peal_dedup *dedup, struct peal_span group, struct peal_span id,
                    uint64_t now_ms, uint64_t epoch, uint64_t offset);

#endif

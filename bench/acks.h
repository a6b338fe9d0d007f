/* bench/acks.h: messages that users will have acked a little later, each at its own time.
 *
 * Shape:  a wheel of slots, each a list that grows; a slot is a part of the longest delay, so an
 *         ack is at most that much late. Memory: freed by fini. */
#ifndef PEAL_BENCH_ACKS_H
#define PEAL_BENCH_ACKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PEAL_ACKS_SLOTS = 128 };

struct peal_ack {
    uint64_t offset;
    uint32_t user;
};

struct peal_acks {
    struct {
        struct peal_ack *at;
        size_t count;
        size_t room;
    } slots[PEAL_ACKS_SLOTS];
    uint64_t tick_ns;
    uint64_t tick; /* of the slot that is worked off */
    uint64_t random;
};

void peal_acks_init(struct peal_acks *acks, uint32_t most_ms, uint64_t now_ns);
void peal_acks_fini(struct peal_acks *acks);
/* Plans one at random within most_ms. False when there is no memory. */
bool peal_acks_add(struct peal_acks *acks, struct peal_ack ack, uint64_t now_ns);
/* One that is due; it stays until it is dropped. NULL: none is. */
const struct peal_ack *peal_acks_due(struct peal_acks *acks, uint64_t now_ns);
void peal_acks_drop(struct peal_acks *acks);

#endif

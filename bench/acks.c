#include "bench/acks.h"

#include <stdlib.h>

void peal_acks_init(struct peal_acks *acks, uint32_t most_ms, uint64_t now_ns)
{
    *acks = (struct peal_acks){.random = 88172645463325252};
    acks->tick_ns = (uint64_t)most_ms * 1000000 / PEAL_ACKS_SLOTS;
    acks->tick = now_ns / acks->tick_ns;
}

void peal_acks_fini(struct peal_acks *acks)
{
    for (size_t i = 0; i < PEAL_ACKS_SLOTS; i++)
        free(acks->slots[i].at);
}

bool peal_acks_add(struct peal_acks *acks, struct peal_ack ack, uint64_t now_ns)
{
    acks->random ^= acks->random << 13;
    acks->random ^= acks->random >> 7;
    acks->random ^= acks->random << 17;
    uint64_t tick = now_ns / acks->tick_ns + 1 + acks->random % (PEAL_ACKS_SLOTS - 1);
    /* Where those that are due wait for room, the wheel is behind, and this one comes earlier. */
    if (tick >= acks->tick + PEAL_ACKS_SLOTS) tick = acks->tick + PEAL_ACKS_SLOTS - 1;
    size_t place = tick % PEAL_ACKS_SLOTS;
    if (acks->slots[place].count == acks->slots[place].room) {
        size_t room = acks->slots[place].room == 0 ? 256 : acks->slots[place].room * 2;
        struct peal_ack *at = realloc(acks->slots[place].at, room * sizeof(*at));
        if (at == NULL) return false;
        acks->slots[place].at = at;
        acks->slots[place].room = room;
    }
    acks->slots[place].at[acks->slots[place].count++] = ack;
    return true;
}

const struct peal_ack *peal_acks_due(struct peal_acks *acks, uint64_t now_ns)
{
    for (; acks->tick <= now_ns / acks->tick_ns; acks->tick++) {
        size_t place = acks->tick % PEAL_ACKS_SLOTS;
        size_t count = acks->slots[place].count;
        if (count > 0) return &acks->slots[place].at[count - 1];
    }
    return NULL;
}

void peal_acks_drop(struct peal_acks *acks)
{
    acks->slots[acks->tick % PEAL_ACKS_SLOTS].count--;
}

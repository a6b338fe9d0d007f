#include "proto/slots.h"

#include <stdbool.h>

#include "base/assert.h"
#include "proto/group.h"

enum peal_slot_verdict peal_slot_judge(const struct peal_slot *known, const struct peal_slot *claim)
{
    if (claim->owner == PEAL_SLOT_NOBODY) return PEAL_SLOT_STALE;
    if (known->owner == PEAL_SLOT_NOBODY) return PEAL_SLOT_NEWER;
    if (claim->generation > known->generation) return PEAL_SLOT_NEWER;
    if (claim->generation < known->generation) return PEAL_SLOT_STALE;
    return claim->owner == known->owner ? PEAL_SLOT_SAME : PEAL_SLOT_CONFLICT;
}

void peal_slots_seed(struct peal_slot slots[PEAL_SLOTS], size_t router_count)
{
    for (uint16_t slot = 0; slot < PEAL_SLOTS; slot++)
        slots[slot] = (struct peal_slot){.owner = (uint16_t)peal_slot_router(slot, router_count)};
}

void peal_slots_clear(struct peal_slot slots[PEAL_SLOTS])
{
    for (uint16_t slot = 0; slot < PEAL_SLOTS; slot++)
        slots[slot] = (struct peal_slot){.owner = PEAL_SLOT_NOBODY};
}

size_t peal_slots_encode(const struct peal_slot slots[PEAL_SLOTS], uint64_t runs[PEAL_SLOT_RUNS])
{
    size_t count = 0;
    for (size_t slot = 0; slot < PEAL_SLOTS; slot++) {
        const struct peal_slot *c = &slots[slot];
        if (count > 0 && runs[count - 2] == c->owner && runs[count - 1] == c->generation) {
            runs[count - 3]++;
            continue;
        }
        runs[count++] = 1;
        runs[count++] = c->owner;
        runs[count++] = c->generation;
    }
    PEAL_ASSERT(count <= PEAL_SLOT_RUNS);
    return count;
}

enum peal_err peal_slots_decode(const uint64_t *runs, size_t count,
                                struct peal_slot slots[PEAL_SLOTS])
{
    size_t slot = 0;
    if (count % 3 != 0) return PEAL_EBAD_MESSAGE;
    for (size_t i = 0; i < count; i += 3) {
        uint64_t owner = runs[i + 1];
        if (runs[i] == 0 || runs[i] > PEAL_SLOTS - slot) return PEAL_EBAD_MESSAGE;
        if (owner >= PEAL_SLOTS && owner != PEAL_SLOT_NOBODY) return PEAL_EBAD_MESSAGE;
        for (uint64_t n = 0; n < runs[i]; n++)
            slots[slot++] = (struct peal_slot){.owner = (uint16_t)owner, .generation = runs[i + 2]};
    }
    return slot == PEAL_SLOTS ? PEAL_OK : PEAL_EBAD_MESSAGE;
}

/* How many slots each is to have. The larger shares go to those that have the most already. */
static void plan_shares(const uint16_t *held, size_t router_count, uint16_t *shares)
{
    size_t larger = PEAL_SLOTS % router_count;
    bool given[PEAL_SLOTS] = {false};
    for (size_t i = 0; i < router_count; i++)
        shares[i] = (uint16_t)(PEAL_SLOTS / router_count);
    for (; larger > 0; larger--) {
        size_t most = router_count;
        for (size_t i = 0; i < router_count; i++)
            if (!given[i] && (most == router_count || held[i] > held[most])) most = i;
        given[most] = true;
        shares[most]++;
    }
}

void peal_slots_plan(const struct peal_slot slots[PEAL_SLOTS], size_t router_count,
                     uint16_t owners[PEAL_SLOTS])
{
    uint16_t held[PEAL_SLOTS] = {0};
    uint16_t shares[PEAL_SLOTS];
    PEAL_ASSERT(router_count > 0);
    PEAL_ASSERT(router_count <= PEAL_SLOTS);
    for (size_t slot = 0; slot < PEAL_SLOTS; slot++)
        if (slots[slot].owner < router_count) held[slots[slot].owner]++;
    plan_shares(held, router_count, shares);
    for (size_t slot = PEAL_SLOTS; slot-- > 0;) {
        uint16_t owner = slots[slot].owner;
        bool stays = owner < router_count && held[owner] <= shares[owner];
        owners[slot] = stays ? owner : PEAL_SLOT_NOBODY;
        if (!stays && owner < router_count) held[owner]--;
    }
    uint16_t to = 0;
    for (size_t slot = 0; slot < PEAL_SLOTS; slot++) {
        if (owners[slot] != PEAL_SLOT_NOBODY) continue;
        while (held[to] >= shares[to])
            to++;
        PEAL_ASSERT(to < router_count);
        owners[slot] = to;
        held[to]++;
    }
}

#include "node/slotmap.h"

#include "base/assert.h"
#include "base/log.h"
#include "proto/group.h"

static uint16_t guess(const struct peal_slotmap *map, uint16_t slot)
{
    return (uint16_t)peal_slot_router(slot, map->link_count);
}

void peal_slotmap_init(struct peal_slotmap *map, size_t link_count)
{
    map->link_count = link_count == 0 ? 1 : link_count;
    peal_slots_clear(map->slots);
    for (uint16_t slot = 0; slot < PEAL_SLOTS; slot++)
        map->link[slot] = guess(map, slot);
}

bool peal_slotmap_out_of_reach(const struct peal_slotmap *map, uint16_t slot)
{
    return map->slots[slot].owner != PEAL_SLOT_NOBODY && map->slots[slot].owner >= map->link_count;
}

/* True when the link changes. */
static bool hear_slot(struct peal_slotmap *map, uint16_t slot, const struct peal_slot *claim)
{
    switch (peal_slot_judge(&map->slots[slot], claim)) {
    case PEAL_SLOT_SAME:
    case PEAL_SLOT_STALE:
        return false;
    case PEAL_SLOT_CONFLICT:
        peal_log(PEAL_LOG_ERROR, "slot.contradicted", "slot=%u generation=%llu owners=%u,%u", slot,
                 (unsigned long long)claim->generation, map->slots[slot].owner, claim->owner);
        return false;
    case PEAL_SLOT_NEWER:
        break;
    }
    map->slots[slot] = *claim;
    uint16_t before = map->link[slot];
    map->link[slot] = claim->owner;
    if (claim->owner >= map->link_count) {
        peal_log(PEAL_LOG_ERROR, "slot.owner_not_listed", "slot=%u owner=%u routers=%zu", slot,
                 claim->owner, map->link_count);
        map->link[slot] = guess(map, slot);
    }
    return map->link[slot] != before;
}

bool peal_slotmap_hear(struct peal_slotmap *map, const struct peal_frame *frame)
{
    struct peal_slot claims[PEAL_SLOTS];
    if (frame->type == PEAL_F_MOVED && frame->slot < PEAL_SLOTS && frame->owner < PEAL_SLOTS) {
        struct peal_slot claim = {.owner = (uint16_t)frame->owner, .generation = frame->generation};
        return hear_slot(map, (uint16_t)frame->slot, &claim);
    }
    if (frame->type != PEAL_F_SLOTS ||
        peal_slots_decode(frame->offsets.at, frame->offsets.count, claims) != PEAL_OK) {
        peal_log(PEAL_LOG_WARN, "slots.bad_frame", "type=%s", peal_frame_name(frame->type));
        return false;
    }
    bool changed = false;
    for (uint16_t slot = 0; slot < PEAL_SLOTS; slot++)
        changed |= hear_slot(map, slot, &claims[slot]);
    return changed;
}

void peal_slotmap_encode(const struct peal_slotmap *map, struct peal_buf *out)
{
    uint64_t runs[PEAL_SLOT_RUNS];
    struct peal_frame frame = {.type = PEAL_F_SLOTS};
    frame.offsets.at = runs;
    frame.offsets.count = peal_slots_encode(map->slots, runs);
    peal_frame_encode(&frame, out);
}

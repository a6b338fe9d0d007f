/* A table of slots, as another router tells it and as a store keeps it. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "node/slotmap.h"
#include "router/holdings.h"

static void check_runs(const struct peal_frame *frame)
{
    struct peal_slot slots[PEAL_SLOTS];
    struct peal_slot again[PEAL_SLOTS];
    uint64_t runs[PEAL_SLOT_RUNS];
    if (peal_slots_decode(frame->offsets.at, frame->offsets.count, slots) != PEAL_OK) return;
    size_t count = peal_slots_encode(slots, runs);
    PEAL_ASSERT(count <= frame->offsets.count);
    PEAL_ASSERT(peal_slots_decode(runs, count, again) == PEAL_OK);
    for (size_t i = 0; i < PEAL_SLOTS; i++) {
        PEAL_ASSERT(again[i].owner == slots[i].owner);
        PEAL_ASSERT(again[i].generation == slots[i].generation);
    }
}

static void check_map(const struct peal_frame *frame)
{
    static struct peal_slotmap map;
    peal_slotmap_init(&map, 3);
    peal_slotmap_hear(&map, frame);
    for (uint16_t slot = 0; slot < PEAL_SLOTS; slot++)
        PEAL_ASSERT(peal_slotmap_link(&map, slot) < 3);
    PEAL_ASSERT(!peal_slotmap_hear(&map, frame)); /* it is known */
}

static void check_holdings(struct peal_span record)
{
    static struct peal_holdings h;
    uint64_t self;
    peal_holdings_init(&h, 1, 3);
    if (peal_holdings_load(&h, record, &self) != PEAL_OK) return;
    size_t mine = 0;
    for (uint16_t slot = 0; slot < PEAL_SLOTS; slot++)
        mine += peal_holdings_of(&h, slot) == PEAL_HOLD_MINE;
    PEAL_ASSERT(mine == h.mine);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct peal_span bytes = peal_span_make(data, size);
    struct peal_frame frame;
    check_holdings(bytes);
    if (peal_frame_decode(bytes, &frame) != PEAL_OK) return 0;
    check_runs(&frame);
    check_map(&frame);
    peal_frame_fini(&frame);
    return 0;
}

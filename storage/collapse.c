#include "storage/collapse.h"

#include <stdlib.h>

#include <xxhash.h>

#include "base/assert.h"
#include "base/clock.h"

enum { SLOTS_MIN = 8 };

struct peal_collapse *peal_collapse_new(void)
{
    struct peal_collapse *collapse = malloc(sizeof *collapse);
    if (collapse == NULL) return NULL;
    *collapse = (struct peal_collapse){.seed = peal_random_u64(), .slot_count = SLOTS_MIN};
    collapse->slots = calloc(SLOTS_MIN, sizeof *collapse->slots);
    if (collapse->slots == NULL) {
        free(collapse);
        return NULL;
    }
    peal_link_init(&collapse->link);
    return collapse;
}

void peal_collapse_free(struct peal_collapse *collapse)
{
    if (collapse == NULL) return;
    peal_list_remove(&collapse->link);
    free(collapse->slots);
    free(collapse);
}

static uint64_t hash_of(const struct peal_collapse *collapse, struct peal_span key)
{
    return XXH3_64bits_withSeed(key.at, key.size, collapse->seed);
}

/* The slot with this hash, or the free one where it would be. There is a free one: at most half of
 * them are used. */
static struct peal_collapse_slot *slot_of(struct peal_collapse_slot *slots, uint32_t slot_count,
                                          uint64_t hash)
{
    uint32_t i = (uint32_t)hash & (slot_count - 1);
    while (slots[i].offset != 0 && slots[i].hash != hash)
        i = (i + 1) & (slot_count - 1);
    return &slots[i];
}

uint64_t peal_collapse_find(const struct peal_collapse *collapse, struct peal_span key)
{
    return slot_of(collapse->slots, collapse->slot_count, hash_of(collapse, key))->offset;
}

/* Forgets what is below `first`; twice the room when that alone makes too little of it. */
static enum peal_err make_room(struct peal_collapse *collapse, uint64_t first)
{
    const struct peal_collapse_slot *old = collapse->slots;
    uint32_t stay = 0;
    for (uint32_t i = 0; i < collapse->slot_count; i++)
        stay += old[i].offset >= first && old[i].offset != 0;
    uint32_t slot_count = collapse->slot_count;
    if (stay >= slot_count / 4) slot_count *= 2;
    struct peal_collapse_slot *slots = calloc(slot_count, sizeof *slots);
    if (slots == NULL) return PEAL_ENOMEM;
    for (uint32_t i = 0; i < collapse->slot_count; i++) {
        if (old[i].offset < first || old[i].offset == 0) continue;
        *slot_of(slots, slot_count, old[i].hash) = old[i];
    }
    free(collapse->slots);
    collapse->slots = slots;
    collapse->slot_count = slot_count;
    collapse->used = stay;
    return PEAL_OK;
}

enum peal_err peal_collapse_note(struct peal_collapse *collapse, struct peal_span key,
                                 uint64_t offset, uint64_t first)
{
    PEAL_ASSERT(offset != 0);
    uint64_t hash = hash_of(collapse, key);
    struct peal_collapse_slot *slot = slot_of(collapse->slots, collapse->slot_count, hash);
    if (slot->offset == 0 && collapse->used >= collapse->slot_count / 2) {
        enum peal_err err = make_room(collapse, first);
        if (err != PEAL_OK) return err;
        slot = slot_of(collapse->slots, collapse->slot_count, hash);
    }
    if (slot->offset == 0) collapse->used++;
    *slot = (struct peal_collapse_slot){hash, offset};
    collapse->changed = true;
    return PEAL_OK;
}

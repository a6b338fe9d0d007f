#include "proto/roll.h"

#include <stdlib.h>

#include "base/assert.h"
#include "proto/group.h"

enum { CAPACITY_MIN = 4 };

void peal_roll_fini(struct peal_roll *roll)
{
    for (size_t i = 0; i < PEAL_SLOTS; i++)
        free(roll->slots[i].items);
    *roll = (struct peal_roll){0};
}

static enum peal_err reserve(struct peal_roll_slot *slot)
{
    if (slot->count < slot->capacity) return PEAL_OK;
    uint32_t capacity = slot->capacity == 0 ? CAPACITY_MIN : slot->capacity * 2;
    void **items = realloc(slot->items, capacity * sizeof *items);
    if (items == NULL) return PEAL_ENOMEM;
    slot->items = items;
    slot->capacity = capacity;
    return PEAL_OK;
}

enum peal_err peal_roll_add(struct peal_roll *roll, struct peal_span name, void *item,
                            uint32_t *place)
{
    uint64_t hash = peal_group_hash(name);
    struct peal_roll_slot *slot = &roll->slots[peal_hash_slot(hash)];
    if (reserve(slot) != PEAL_OK) return PEAL_ENOMEM;
    *place = slot->count;
    slot->items[slot->count++] = item;
    slot->digest += hash;
    roll->count++;
    return PEAL_OK;
}

void *peal_roll_remove(struct peal_roll *roll, struct peal_span name, uint32_t place)
{
    uint64_t hash = peal_group_hash(name);
    struct peal_roll_slot *slot = &roll->slots[peal_hash_slot(hash)];
    PEAL_ASSERT(place < slot->count);
    slot->digest -= hash;
    slot->count--;
    roll->count--;
    if (slot->count == 0) PEAL_ASSERT(slot->digest == 0);
    if (place == slot->count) return NULL;
    slot->items[place] = slot->items[slot->count];
    return slot->items[place];
}

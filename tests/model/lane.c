#include "tests/model/lane.h"

#include <stdlib.h>

#include "base/assert.h"

static void grow(struct lane *lane)
{
    size_t capacity = lane->capacity == 0 ? 16 : lane->capacity * 2;
    struct lane_item *items = malloc(capacity * sizeof *items);
    PEAL_ASSERT(items != NULL);
    for (size_t i = 0; i < lane->count; i++)
        items[i] = lane->items[(lane->start + i) & (lane->capacity - 1)];
    free(lane->items);
    lane->items = items;
    lane->capacity = capacity;
    lane->start = 0;
}

void lane_put(struct lane *lane, struct peal_span bytes, uint64_t due_ms)
{
    if (lane->count == lane->capacity) grow(lane);
    if (due_ms < lane->last_due_ms) due_ms = lane->last_due_ms;
    lane->last_due_ms = due_ms;
    struct peal_bytes *copy = peal_bytes_new(bytes.at, bytes.size);
    PEAL_ASSERT(copy != NULL);
    lane->items[(lane->start + lane->count++) & (lane->capacity - 1)] =
        (struct lane_item){due_ms, copy};
}

struct peal_bytes *lane_take(struct lane *lane, uint64_t now_ms)
{
    if (lane->held || lane->count == 0) return NULL;
    struct lane_item *item = &lane->items[lane->start];
    if (item->due_ms > now_ms) return NULL;
    lane->start = (lane->start + 1) & (lane->capacity - 1);
    lane->count--;
    return item->bytes;
}

void lane_drop(struct lane *lane)
{
    for (; lane->count > 0; lane->count--) {
        peal_bytes_unref(lane->items[lane->start].bytes);
        lane->start = (lane->start + 1) & (lane->capacity - 1);
    }
    lane->last_due_ms = 0;
}

void lane_fini(struct lane *lane)
{
    lane_drop(lane);
    free(lane->items);
    *lane = (struct lane){0};
}

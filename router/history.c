#include "router/history.h"

#include <stdlib.h>

#include "base/assert.h"

enum { CAPACITY_MIN = 4 };

void peal_history_init(struct peal_history *h, uint32_t max)
{
    *h = (struct peal_history){.max = max};
}

void peal_history_clear(struct peal_history *h)
{
    for (uint32_t i = 0; i < h->count; i++)
        peal_bytes_unref(peal_history_get(h, i));
    free(h->items);
    *h = (struct peal_history){.max = h->max};
}

void peal_history_fini(struct peal_history *h)
{
    peal_history_clear(h);
}

struct peal_bytes *peal_history_get(const struct peal_history *h, uint32_t i)
{
    PEAL_ASSERT(i < h->count);
    return h->items[(h->start + i) & (h->capacity - 1)].envelope;
}

static void drop_oldest(struct peal_history *h)
{
    struct peal_bytes *oldest = peal_history_get(h, 0);
    h->bytes -= oldest->size;
    peal_bytes_unref(oldest);
    h->start = (h->start + 1) & (h->capacity - 1);
    h->count--;
    if (h->count == 0) peal_history_clear(h);
}

static bool grow(struct peal_history *h)
{
    uint32_t capacity = h->capacity == 0 ? CAPACITY_MIN : h->capacity * 2;
    struct peal_history_item *items = malloc(capacity * sizeof *items);
    if (items == NULL) return false;
    for (uint32_t i = 0; i < h->count; i++)
        items[i] = h->items[(h->start + i) & (h->capacity - 1)];
    free(h->items);
    h->items = items;
    h->capacity = capacity;
    h->start = 0;
    return true;
}

void peal_history_add(struct peal_history *h, struct peal_bytes *envelope, uint64_t now_ms)
{
    if (h->max == 0) return;
    if (h->count == h->max) drop_oldest(h);
    if (h->count == h->capacity && !grow(h)) {
        peal_history_clear(h);
        return;
    }
    h->items[(h->start + h->count) & (h->capacity - 1)] =
        (struct peal_history_item){peal_bytes_ref(envelope), now_ms};
    h->count++;
    h->bytes += envelope->size;
    PEAL_ASSERT(h->count <= h->max);
}

void peal_history_trim(struct peal_history *h, uint64_t now_ms, uint64_t age_ms)
{
    while (h->count > 0 && now_ms - h->items[h->start].at_ms > age_ms)
        drop_oldest(h);
}

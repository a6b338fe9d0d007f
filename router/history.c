#include "router/history.h"

#include <stdlib.h>

#include "base/assert.h"

enum { CAPACITY_MIN = 2 };

static uint32_t index_of(const struct peal_history *h, uint32_t i)
{
    return (h->start + i) & (h->capacity - 1);
}

void peal_history_clear(struct peal_history **at)
{
    struct peal_history *h = *at;
    for (uint32_t i = 0; i < peal_history_count(h); i++)
        peal_bytes_unref(peal_history_get(h, i));
    free(h);
    *at = NULL;
}

struct peal_bytes *peal_history_get(const struct peal_history *h, uint32_t i)
{
    PEAL_ASSERT(i < h->count);
    return h->items[index_of(h, i)].envelope;
}

uint64_t peal_history_newest_ms(const struct peal_history *h)
{
    return h->items[index_of(h, h->count - 1)].at_ms;
}

static void drop_oldest(struct peal_history *h)
{
    struct peal_bytes *oldest = peal_history_get(h, 0);
    h->bytes -= oldest->size;
    peal_bytes_unref(oldest);
    h->start = index_of(h, 1);
    h->count--;
}

/* Room for twice as many. False without memory, and nothing has changed. */
static bool grow(struct peal_history **at)
{
    const struct peal_history *h = *at;
    uint32_t capacity = h == NULL ? CAPACITY_MIN : h->capacity * 2;
    struct peal_history *larger = malloc(sizeof *larger + capacity * sizeof larger->items[0]);
    if (larger == NULL) return false;
    larger->bytes = peal_history_bytes(h);
    larger->capacity = capacity;
    larger->start = 0;
    larger->count = peal_history_count(h);
    for (uint32_t i = 0; i < larger->count; i++)
        larger->items[i] = h->items[index_of(h, i)];
    free(*at);
    *at = larger;
    return true;
}

void peal_history_add(struct peal_history **at, uint32_t max, struct peal_bytes *envelope,
                      uint64_t now_ms)
{
    if (max == 0) return;
    if (peal_history_count(*at) == max) drop_oldest(*at);
    if ((*at == NULL || (*at)->count == (*at)->capacity) && !grow(at)) {
        peal_history_clear(at);
        return;
    }
    struct peal_history *h = *at;
    h->items[index_of(h, h->count)] = (struct peal_history_item){peal_bytes_ref(envelope), now_ms};
    h->count++;
    h->bytes += envelope->size;
    PEAL_ASSERT(h->count <= max);
}

void peal_history_begin_fetch(const struct peal_history *h)
{
    if (h == NULL) return;
    __builtin_prefetch(h, 1);
    __builtin_prefetch(&h->items[1], 1);
}

void peal_history_fetch(const struct peal_history *h, uint32_t max)
{
    if (h == NULL) return;
    __builtin_prefetch(&h->items[index_of(h, h->count)], 1);
    if (h->count == max) __builtin_prefetch(h->items[h->start].envelope, 1);
}

void peal_history_trim(struct peal_history **at, uint64_t now_ms, uint64_t age_ms)
{
    struct peal_history *h = *at;
    if (h == NULL) return;
    while (h->count > 0 && now_ms - h->items[h->start].at_ms > age_ms)
        drop_oldest(h);
    if (h->count == 0) peal_history_clear(at);
}

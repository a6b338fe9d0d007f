/* The ring doubles from SLOTS_MIN to what slots_max and the control frames need, so an index is a
 * masked sum. Frames leave at the head only, in the order of the stream; the one exception is
 * dropping, which takes everything behind the head. */
#include "node/outq.h"

#include <stdlib.h>

#include "base/assert.h"

enum { SLOTS_MIN = 4 };

static struct peal_bytes **slot(const struct peal_outq *q, uint32_t index)
{
    return &q->slots[(q->head + index) & (q->capacity - 1)];
}

static void outq_check(const struct peal_outq *q)
{
    PEAL_ASSERT(q->count <= q->capacity);
    PEAL_ASSERT((q->capacity & (q->capacity - 1)) == 0);
    if (q->count == 0) {
        PEAL_ASSERT(q->capacity == 0);
        PEAL_ASSERT(q->bytes == 0);
        PEAL_ASSERT(q->sent == 0);
        return;
    }
    const struct peal_bytes *oldest = *slot(q, 0);
    PEAL_ASSERT(q->sent < oldest->size);
    PEAL_ASSERT(q->bytes >= oldest->size - q->sent);
}

static void give_ring_back(struct peal_outq *q)
{
    free(q->slots);
    q->slots = NULL;
    q->capacity = 0;
    q->head = 0;
}

static bool make_room(struct peal_outq *q)
{
    if (q->count < q->capacity) return true;
    uint32_t capacity = q->capacity == 0 ? SLOTS_MIN : q->capacity * 2;
    struct peal_bytes **slots = malloc(capacity * sizeof(struct peal_bytes *));
    if (slots == NULL) return false;
    for (uint32_t i = 0; i < q->count; i++)
        slots[i] = *slot(q, i);
    free(q->slots);
    q->slots = slots;
    q->capacity = capacity;
    q->head = 0;
    return true;
}

static enum peal_err append(struct peal_outq *q, struct peal_bytes *frame)
{
    if (frame->size > UINT32_MAX - q->bytes) return PEAL_EFULL;
    if (!make_room(q)) return PEAL_EFULL;
    *slot(q, q->count) = peal_bytes_ref(frame);
    q->count++;
    q->bytes += frame->size;
    outq_check(q);
    return PEAL_OK;
}

void peal_outq_init(struct peal_outq *q, uint32_t slots_max, uint32_t bytes_max)
{
    PEAL_ASSERT(slots_max > 0);
    PEAL_ASSERT(slots_max <= UINT32_MAX / 4); /* twice the slots and the control ones fit */
    *q = (struct peal_outq){.slots_max = slots_max, .bytes_max = bytes_max};
}

void peal_outq_fini(struct peal_outq *q)
{
    for (uint32_t i = 0; i < q->count; i++)
        peal_bytes_unref(*slot(q, i));
    free(q->slots);
    *q = (struct peal_outq){0};
}

enum peal_err peal_outq_push(struct peal_outq *q, struct peal_bytes *frame)
{
    outq_check(q);
    PEAL_ASSERT(frame->size > 0); /* nothing would ever be consumed for it */
    if (q->count >= q->slots_max) return PEAL_EFULL;
    /* Compared by subtraction: the sum could wrap around. */
    bool fits = q->bytes <= q->bytes_max && frame->size <= q->bytes_max - q->bytes;
    if (!fits && q->count > 0) return PEAL_EFULL;
    return append(q, frame);
}

enum peal_err peal_outq_push_control(struct peal_outq *q, struct peal_bytes *frame)
{
    outq_check(q);
    PEAL_ASSERT(frame->size > 0);
    if (q->count >= q->slots_max + PEAL_OUTQ_CONTROL_SLOTS) return PEAL_EFULL;
    /* A frame larger than bytes_max is alone when it comes. It stretches the limit while it lasts:
     * otherwise nobody could be told to go away before all of it is sent. */
    uint64_t limit = q->bytes_max;
    if (q->count > 0) {
        uint32_t rest = (*slot(q, 0))->size - q->sent;
        if (rest > limit) limit = rest;
    }
    if ((uint64_t)q->bytes + frame->size > limit + PEAL_OUTQ_CONTROL_BYTES) return PEAL_EFULL;
    return append(q, frame);
}

int peal_outq_gather(const struct peal_outq *q, struct iovec *vectors, int max)
{
    int count = 0;
    size_t sent = q->sent;
    for (uint32_t i = 0; i < q->count && count < max; i++) {
        struct peal_bytes *frame = *slot(q, i);
        vectors[count++] = (struct iovec){frame->at + sent, frame->size - sent};
        sent = 0;
    }
    return count;
}

uint32_t peal_outq_consume(struct peal_outq *q, size_t size)
{
    outq_check(q);
    PEAL_ASSERT(size <= q->bytes);
    uint32_t left = (uint32_t)size;
    uint32_t done = 0;
    q->bytes -= left;
    while (left > 0) {
        struct peal_bytes *frame = *slot(q, 0);
        uint32_t rest = frame->size - q->sent;
        if (left < rest) {
            q->sent += left;
            break;
        }
        left -= rest;
        q->sent = 0;
        q->head = (q->head + 1) & (q->capacity - 1);
        q->count--;
        peal_bytes_unref(frame);
        done++;
    }
    if (q->count == 0) give_ring_back(q);
    outq_check(q);
    return done;
}

uint32_t peal_outq_drop_unsent(struct peal_outq *q)
{
    outq_check(q);
    uint32_t kept = q->sent > 0 ? 1 : 0;
    uint32_t dropped = q->count - kept;
    for (uint32_t i = kept; i < q->count; i++) {
        q->bytes -= (*slot(q, i))->size;
        peal_bytes_unref(*slot(q, i));
    }
    q->count = kept;
    if (q->count == 0) give_ring_back(q);
    outq_check(q);
    return dropped;
}

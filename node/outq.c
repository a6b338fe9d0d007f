/* Without a ring (capacity 0) there is room for one item, in the queue itself. The ring doubles
 * from ITEMS_MIN, so an index is a masked sum. Frames leave at the head only, in the order of
 * the stream; the one exception is dropping, which takes everything behind the frame that was
 * begun: the oldest item is then cut short at the end of that frame. */
#include "node/outq.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/metrics.h"

enum { ITEMS_MIN = 4 };

static struct peal_outq_item *item_at(const struct peal_outq *q, uint32_t index)
{
    if (q->capacity == 0) return (struct peal_outq_item *)&q->one;
    return &q->ring[(q->head + index) & (q->capacity - 1)];
}

static void outq_check(const struct peal_outq *q)
{
    PEAL_ASSERT((q->capacity & (q->capacity - 1)) == 0);
    if (q->count == 0) {
        PEAL_ASSERT(q->capacity == 0);
        PEAL_ASSERT(q->bytes == 0);
        PEAL_ASSERT(q->frames == 0);
        PEAL_ASSERT(q->sent == 0);
        return;
    }
    PEAL_ASSERT(q->count <= (q->capacity == 0 ? 1 : q->capacity));
    PEAL_ASSERT(q->frames >= q->count);
    const struct peal_outq_item *oldest = item_at(q, 0);
    PEAL_ASSERT(q->sent < oldest->end);
    PEAL_ASSERT(q->bytes >= oldest->end - q->sent);
}

static void reset(struct peal_outq *q)
{
    if (q->capacity > 0) free(q->ring);
    *q = (struct peal_outq){0};
}

static bool make_room(struct peal_outq *q)
{
    if (q->count < (q->capacity == 0 ? 1 : q->capacity)) return true;
    uint32_t capacity = q->capacity == 0 ? ITEMS_MIN : q->capacity * 2;
    struct peal_outq_item *ring = malloc(capacity * sizeof *ring);
    if (ring == NULL) return false;
    for (uint32_t i = 0; i < q->count; i++)
        ring[i] = *item_at(q, i);
    if (q->capacity > 0) free(q->ring);
    q->ring = ring;
    q->capacity = capacity;
    q->head = 0;
    return true;
}

static bool append(struct peal_outq *q, struct peal_run *run, uint32_t count)
{
    uint32_t end = peal_run_end(run, count);
    if (end > UINT32_MAX - q->bytes) return false;
    if (!make_room(q)) return false;
    peal_count(PEAL_M_QUEUED, count);
    *item_at(q, q->count) = (struct peal_outq_item){peal_run_ref(run), end, count};
    q->count++;
    q->frames += count;
    q->bytes += end;
    outq_check(q);
    return true;
}

void peal_outq_init(struct peal_outq *q)
{
    *q = (struct peal_outq){0};
}

void peal_outq_fini(struct peal_outq *q)
{
    for (uint32_t i = 0; i < q->count; i++)
        peal_run_unref(item_at(q, i)->run);
    peal_count(PEAL_M_QUEUED, -(int64_t)q->frames);
    reset(q);
}

uint32_t peal_outq_push(struct peal_outq *q, const struct peal_outq_limits *limits,
                        struct peal_run *run)
{
    outq_check(q);
    uint32_t frames = q->frames < limits->frames_max ? limits->frames_max - q->frames : 0;
    uint32_t bytes = q->bytes < limits->bytes_max ? limits->bytes_max - q->bytes : 0;
    uint32_t count = peal_run_frames(run, bytes);
    if (count > frames) count = frames;
    if (count == 0 && q->count == 0) count = 1;
    if (count == 0) return 0;
    if (count == run->count) return append(q, run, count) ? count : 0;
    struct peal_run *part = peal_run_part(run, 0, count);
    bool taken = part != NULL && append(q, part, count);
    peal_run_unref(part);
    return taken ? count : 0;
}

enum peal_err peal_outq_push_control(struct peal_outq *q, const struct peal_outq_limits *limits,
                                     struct peal_run *frame)
{
    outq_check(q);
    PEAL_ASSERT(frame->count == 1);
    if (q->frames >= limits->frames_max + PEAL_OUTQ_CONTROL_FRAMES) return PEAL_EFULL;
    /* A frame larger than bytes_max is alone when it comes. It stretches the limit while it lasts:
     * otherwise nobody could be told to go away before all of it is sent. */
    uint64_t limit = limits->bytes_max;
    if (q->count > 0) {
        uint32_t rest = item_at(q, 0)->end - q->sent;
        if (rest > limit) limit = rest;
    }
    if ((uint64_t)q->bytes + frame->size > limit + PEAL_OUTQ_CONTROL_BYTES) return PEAL_EFULL;
    return append(q, frame, 1) ? PEAL_OK : PEAL_ENOMEM;
}

bool peal_outq_has_room(const struct peal_outq *q, const struct peal_outq_limits *limits,
                        size_t size)
{
    if (q->count == 0) return true;
    return q->frames < limits->frames_max && q->bytes < limits->bytes_max &&
           size <= limits->bytes_max - q->bytes;
}

int peal_outq_gather(const struct peal_outq *q, struct iovec *vectors, int max)
{
    int count = 0;
    uint32_t sent = q->sent;
    for (uint32_t i = 0; i < q->count && count < max; i++) {
        const struct peal_outq_item *item = item_at(q, i);
        vectors[count++] = (struct iovec){item->run->at + sent, item->end - sent};
        sent = 0;
    }
    return count;
}

uint32_t peal_outq_consume(struct peal_outq *q, size_t size)
{
    outq_check(q);
    PEAL_ASSERT(size <= q->bytes);
    uint32_t left = (uint32_t)size;
    uint32_t frames_before = q->frames;
    q->bytes -= left;
    while (left > 0) {
        struct peal_outq_item *item = item_at(q, 0);
        uint32_t done = peal_run_frames(item->run, q->sent);
        if (left < item->end - q->sent) {
            q->sent += left;
            q->frames -= peal_run_frames(item->run, q->sent) - done;
            break;
        }
        left -= item->end - q->sent;
        q->frames -= item->count - done;
        q->sent = 0;
        peal_run_unref(item->run);
        if (--q->count > 0) q->head = (q->head + 1) & (q->capacity - 1);
    }
    uint32_t completed = frames_before - q->frames;
    peal_count(PEAL_M_QUEUED, -(int64_t)completed);
    if (q->count == 0) reset(q);
    outq_check(q);
    return completed;
}

uint32_t peal_outq_drop_unsent(struct peal_outq *q)
{
    outq_check(q);
    uint32_t frames_before = q->frames;
    if (q->count == 0) return 0;
    struct peal_outq_item *oldest = item_at(q, 0);
    uint32_t done = peal_run_frames(oldest->run, q->sent);
    bool begun = q->sent > peal_run_end(oldest->run, done);
    for (uint32_t i = begun ? 1 : 0; i < q->count; i++)
        peal_run_unref(item_at(q, i)->run);
    peal_count(PEAL_M_QUEUED, (begun ? 1 : 0) - (int64_t)frames_before);
    if (!begun) {
        reset(q);
        return frames_before;
    }
    oldest->count = done + 1;
    oldest->end = peal_run_end(oldest->run, oldest->count);
    q->count = 1;
    q->frames = 1;
    q->bytes = oldest->end - q->sent;
    outq_check(q);
    return frames_before - 1;
}

#include "node/run.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

struct peal_run *peal_run_new(struct peal_span bytes, const uint32_t *ends, uint32_t count)
{
    PEAL_ASSERT(count > 0);
    PEAL_ASSERT(bytes.size > 0);
    PEAL_ASSERT(count == 1 || ends[count - 1] == bytes.size);
    if (bytes.size > INT32_MAX) return NULL;
    /* The ends stand behind the bytes, where a uint32_t may stand. */
    size_t ends_at = count == 1 ? bytes.size : (bytes.size + 3) & ~(size_t)3;
    struct peal_run *run = malloc(sizeof *run + ends_at + (count == 1 ? 0 : count * sizeof *ends));
    if (run == NULL) return NULL;
    *run = (struct peal_run){.refs = 1, .size = (uint32_t)bytes.size, .count = count};
    memcpy(run->at, bytes.at, bytes.size);
    if (count == 1) return run;
    memcpy(run->at + ends_at, ends, count * sizeof *ends);
    run->ends = (const uint32_t *)(const void *)(run->at + ends_at);
    return run;
}

struct peal_run *peal_run_tail(const struct peal_run *run, uint32_t from)
{
    PEAL_ASSERT(from < run->count);
    uint32_t start = peal_run_end(run, from);
    uint32_t count = run->count - from;
    uint32_t *ends = malloc(count * sizeof *ends);
    if (ends == NULL) return NULL;
    for (uint32_t i = 0; i < count; i++)
        ends[i] = peal_run_end(run, from + i + 1) - start;
    struct peal_run *tail =
        peal_run_new(peal_span_make(run->at + start, run->size - start), ends, count);
    free(ends);
    return tail;
}

struct peal_run *peal_run_ref(struct peal_run *run)
{
    PEAL_ASSERT(run->refs > 0);
    run->refs++;
    return run;
}

void peal_run_unref(struct peal_run *run)
{
    if (run == NULL) return;
    PEAL_ASSERT(run->refs > 0);
    if (--run->refs == 0) free(run);
}

uint32_t peal_run_end(const struct peal_run *run, uint32_t count)
{
    PEAL_ASSERT(count <= run->count);
    if (count == 0) return 0;
    return count == run->count ? run->size : run->ends[count - 1];
}

uint32_t peal_run_frames(const struct peal_run *run, uint32_t bytes)
{
    if (bytes >= run->size) return run->count;
    uint32_t low = 0; /* the first `low` frames are in, the first `high` are not */
    uint32_t high = run->count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (run->ends[middle - 1] <= bytes)
            low = middle;
        else
            high = middle;
    }
    return low;
}

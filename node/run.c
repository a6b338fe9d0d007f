#include "node/run.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

/* A freed block is out of bounds for the address sanitizer as freed memory is. */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size)   ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

/* Blocks of the pool are all of one size, so that any of them will do. */
static void *take_block(struct peal_run_pool *pool)
{
    void *block = pool->free;
    if (block == NULL) return malloc(PEAL_RUN_SMALL);
    ASAN_UNPOISON_MEMORY_REGION(block, PEAL_RUN_SMALL);
    memcpy(&pool->free, block, sizeof pool->free);
    pool->count--;
    return block;
}

static void give_block(struct peal_run_pool *pool, void *block)
{
    if (pool->count == PEAL_RUN_POOL_MAX) {
        free(block);
        return;
    }
    memcpy(block, &pool->free, sizeof pool->free);
    pool->free = block;
    pool->count++;
    ASAN_POISON_MEMORY_REGION(block, PEAL_RUN_SMALL);
}

void peal_run_pool_fini(struct peal_run_pool *pool)
{
    while (pool->count > 0)
        free(take_block(pool));
    *pool = (struct peal_run_pool){0};
}

struct peal_run *peal_run_new(struct peal_run_pool *pool, struct peal_span bytes,
                              const uint32_t *ends, uint32_t count)
{
    PEAL_ASSERT(count > 0);
    PEAL_ASSERT(bytes.size > 0);
    PEAL_ASSERT(count == 1 || ends[count - 1] == bytes.size);
    if (bytes.size > INT32_MAX) return NULL;
    /* The ends stand behind the bytes, where a uint32_t may stand. */
    size_t ends_at = count == 1 ? bytes.size : (bytes.size + 3) & ~(size_t)3;
    size_t size = sizeof(struct peal_run) + ends_at + (count == 1 ? 0 : count * sizeof *ends);
    if (size > PEAL_RUN_SMALL) pool = NULL;
    struct peal_run *run = pool == NULL ? malloc(size) : take_block(pool);
    if (run == NULL) return NULL;
    run->refs = 1;
    run->size = (uint32_t)bytes.size;
    run->count = count;
    run->ends = NULL;
    run->pool = pool;
    memcpy(run->at, bytes.at, bytes.size);
    if (count == 1) return run;
    memcpy(run->at + ends_at, ends, count * sizeof *ends);
    run->ends = (const uint32_t *)(const void *)(run->at + ends_at);
    return run;
}

struct peal_run *peal_run_part(const struct peal_run *run, uint32_t from, uint32_t count)
{
    PEAL_ASSERT(count > 0);
    PEAL_ASSERT(from <= run->count - count);
    uint32_t start = peal_run_end(run, from);
    uint32_t size = peal_run_end(run, from + count) - start;
    uint32_t *ends = malloc(count * sizeof *ends);
    if (ends == NULL) return NULL;
    for (uint32_t i = 0; i < count; i++)
        ends[i] = peal_run_end(run, from + i + 1) - start;
    struct peal_run *part =
        peal_run_new(run->pool, peal_span_make(run->at + start, size), ends, count);
    free(ends);
    return part;
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
    if (--run->refs > 0) return;
    if (run->pool == NULL)
        free(run);
    else
        give_block(run->pool, run);
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

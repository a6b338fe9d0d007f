#include "base/metrics.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

/* Blocks form a list that only ever grows, so it can be walked without a lock. */
struct block {
    struct block *next;
    _Atomic int64_t values[PEAL_M_COUNT];
};

static _Atomic(struct block *) blocks;
static _Thread_local struct block *mine;

static const struct {
    const char *name;
    const char *kind;
    const char *help;
} metrics[PEAL_M_COUNT] = {
#define X(id, kind, name, help) {name, #kind, help},
    PEAL_METRICS_TABLE(X)
#undef X
};

void peal_metrics_thread_start(void)
{
    if (mine != NULL) return;
    mine = calloc(1, sizeof *mine);
    PEAL_ASSERT(mine != NULL);
    mine->next = atomic_load(&blocks);
    while (!atomic_compare_exchange_weak(&blocks, &mine->next, mine)) {
    }
}

void peal_count(enum peal_metric m, int64_t change)
{
    if (mine == NULL) return;
    /* One writer: a plain add in two steps is enough and needs no locked instruction. */
    int64_t value = atomic_load_explicit(&mine->values[m], memory_order_relaxed);
    atomic_store_explicit(&mine->values[m], value + change, memory_order_relaxed);
}

int64_t peal_metrics_sum(enum peal_metric m)
{
    int64_t sum = 0;
    for (struct block *b = atomic_load(&blocks); b != NULL; b = b->next)
        sum += atomic_load_explicit(&b->values[m], memory_order_relaxed);
    return sum;
}

void peal_metrics_render(struct peal_buf *out)
{
    for (size_t i = 0; i < PEAL_M_COUNT; i++) {
        const char *name = metrics[i].name;
        int base = (int)strcspn(name, "{");
        if (metrics[i].help[0] != '\0') {
            peal_buf_add_format(out, "# HELP %.*s %s\n", base, name, metrics[i].help);
            peal_buf_add_format(out, "# TYPE %.*s %s\n", base, name, metrics[i].kind);
        }
        peal_buf_add_format(out, "%s %lld\n", name,
                            (long long)peal_metrics_sum((enum peal_metric)i));
    }
}

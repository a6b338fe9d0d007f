#include "storage/quota.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/assert.h"

struct peal_quota {
    _Atomic uint32_t held; /* those out, and 1 of the store */
    uint32_t most;
};

struct peal_quota *peal_quota_new(uint32_t most)
{
    struct peal_quota *quota = malloc(sizeof *quota);
    if (quota == NULL) return NULL;
    atomic_init(&quota->held, 1);
    quota->most = most;
    return quota;
}

bool peal_quota_take(struct peal_quota *quota)
{
    if (atomic_fetch_add(&quota->held, 1) <= quota->most) return true;
    atomic_fetch_sub(&quota->held, 1); /* not the last one: the store holds it */
    return false;
}

uint32_t peal_quota_taken(const struct peal_quota *quota)
{
    return atomic_load_explicit(&quota->held, memory_order_relaxed) - 1;
}

void peal_quota_give(struct peal_quota *quota)
{
    if (quota == NULL) return;
    uint32_t before = atomic_fetch_sub(&quota->held, 1);
    PEAL_ASSERT(before > 0);
    if (before == 1) free(quota);
}

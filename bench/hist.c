#include "bench/hist.h"

#include "base/assert.h"

/* Classes 0..255 are the values themselves. From then on the top 8 bits of a value, of which the
 * first is 1, and how far they were shifted make the class. */
uint32_t peal_hist_class(uint64_t value)
{
    if (value < 256) return (uint32_t)value;
    uint32_t shift = 56 - (uint32_t)__builtin_clzll(value);
    if (shift > PEAL_HIST_BITS - 8) return PEAL_HIST_CLASSES - 1;
    return 128 * shift + (uint32_t)(value >> shift);
}

uint64_t peal_hist_middle(uint32_t class)
{
    PEAL_ASSERT(class < PEAL_HIST_CLASSES);
    if (class < 256) return class;
    uint32_t shift = class / 128 - 1;
    uint64_t low = (uint64_t)(class - 128 * shift) << shift;
    return low + (1ULL << shift) / 2;
}

void peal_hist_merge(struct peal_hist *into, const struct peal_hist *from)
{
    into->count += from->count;
    if (from->max > into->max) into->max = from->max;
    for (uint32_t i = 0; i < PEAL_HIST_CLASSES; i++)
        into->classes[i] += from->classes[i];
}

uint64_t peal_hist_quantile(const struct peal_hist *hist, uint32_t permille)
{
    /* Rounded up, so that 1 of 1 is the median. */
    uint64_t wanted = (hist->count * permille + 999) / 1000;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < PEAL_HIST_CLASSES; i++) {
        seen += hist->classes[i];
        if (seen < wanted || seen == 0) continue;
        uint64_t middle = peal_hist_middle(i);
        return middle < hist->max ? middle : hist->max;
    }
    return 0;
}

/* bench/hist.h: how often each latency was seen, by classes that grow with the value.
 *
 * Below 256 each value has its own class; above, each power of two has 128, so a class is less
 * than 1 % wide (1/128). Values are ns, up to 2^42 (73 minutes); larger ones fall into the last
 * class.
 *
 * Shape:  a fixed array, no pointers: it can live in memory that processes share.
 * Thread: one writer; a reader elsewhere sees counts that are a little old. */
#ifndef PEAL_BENCH_HIST_H
#define PEAL_BENCH_HIST_H

#include <stdint.h>

enum { PEAL_HIST_BITS = 42, PEAL_HIST_CLASSES = 128 * (PEAL_HIST_BITS - 6) };

struct peal_hist {
    uint64_t count;
    uint64_t max;
    uint64_t classes[PEAL_HIST_CLASSES];
};

/* The class of a value, and the middle of a class. */
uint32_t peal_hist_class(uint64_t value);
uint64_t peal_hist_middle(uint32_t class);

static inline void peal_hist_add(struct peal_hist *hist, uint64_t value)
{
    hist->count++;
    if (value > hist->max) hist->max = value;
    hist->classes[peal_hist_class(value)]++;
}

void peal_hist_merge(struct peal_hist *into, const struct peal_hist *from);
/* The value that `permille` of all are not above, to within a class; 0 when there are none. */
uint64_t peal_hist_quantile(const struct peal_hist *hist, uint32_t permille);

#endif

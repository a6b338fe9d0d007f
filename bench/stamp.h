/* bench/stamp.h: what the load generator writes into a payload, and finds again in a frame.
 *
 *     "NNNNNNNNNNNNNNNNSSSSSSSSIIIIIIIIpppppp..."
 *
 * N: CLOCK_MONOTONIC in ns when it was published, 0 in a warm-up; S: number of the message in its
 * group, from 1, without holes; I: number of the message in the run, from 0; p: padding. All
 * digits are lower-case hex. With its quotes it is a JSON string, without them a text, so every
 * door and every dialect takes it as it is. */
#ifndef PEAL_BENCH_STAMP_H
#define PEAL_BENCH_STAMP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"

enum {
    PEAL_STAMP_DIGITS = 32,
    PEAL_STAMP_MIN = PEAL_STAMP_DIGITS + 2, /* least bytes of a payload with its quotes */
    PEAL_STAMP_MAX = 60 * 1024
};

struct peal_stamp {
    uint64_t sent_ns;
    uint32_t seq;
    uint32_t index;
};

/* Writes PEAL_STAMP_DIGITS characters. */
void peal_stamp_write(char *at, const struct peal_stamp *stamp);
/* Reads the stamp of a payload, with or without the quote in front. False when it has none. */
bool peal_stamp_read(struct peal_span payload, struct peal_stamp *out);

#endif

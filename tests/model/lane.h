/* tests/model/lane.h: one direction of one connection: first in, first out, after a while.
 *
 * Never changes the order of what is in it, as TCP does not; different lanes are late by different
 * times, so that what goes by two of them is overtaken.
 *
 * Memory: holds one reference of each piece of bytes. */
#ifndef PEAL_TESTS_LANE_H
#define PEAL_TESTS_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct lane_item {
    uint64_t due_ms;
    struct peal_bytes *bytes;
};

/* A zeroed lane is an empty one. */
struct lane {
    struct lane_item *items;
    size_t capacity; /* a power of two */
    size_t start;
    size_t count;
    uint64_t last_due_ms;
    bool held; /* what is in it stays there, and what comes as well */
};

/* Copies bytes; they arrive at due_ms, and not before what was put in earlier. */
void lane_put(struct lane *lane, struct peal_span bytes, uint64_t due_ms);
/* Hands over the next that has arrived; NULL when none has. */
struct peal_bytes *lane_take(struct lane *lane, uint64_t now_ms);
/* The connection broke: what was on the way is gone. */
void lane_drop(struct lane *lane);
void lane_fini(struct lane *lane);

#endif

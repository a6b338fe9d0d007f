/* base/clock.h: the two clocks, and random numbers that name things.
 *
 * Order, deadlines and intervals use the monotonic clock only; the wall clock stamps
 * messages and judges tokens and TTLs. Logic takes `now_ms` as a parameter and never asks:
 * only threads (worker, bus, ingress, store) call these. */
#ifndef PEAL_BASE_CLOCK_H
#define PEAL_BASE_CLOCK_H

#include <stdint.h>

uint64_t peal_clock_mono_ms(void); /* since some point before the start */
uint64_t peal_clock_wall_ms(void); /* since 1970-01-01T00:00Z */

/* A random number that is not 0, for boot ids, epochs and the like. */
uint64_t peal_random_u64(void);

enum { PEAL_ULID_SIZE = 26 };
/* Writes 26 characters without a NUL: time first, so ids of one router sort roughly by age.
 * Source: github.com/ulid/spec. */
void peal_ulid(char out[PEAL_ULID_SIZE], uint64_t wall_ms);

/* The same for who makes many: random bytes are asked of the system for some dozens at once. A
 * zeroed struct is a fresh one; one owner. */
struct peal_ulids {
    uint32_t left; /* bytes not used yet */
    unsigned char random[1024];
};
void peal_ulids_next(struct peal_ulids *ulids, char out[PEAL_ULID_SIZE], uint64_t wall_ms);

#endif

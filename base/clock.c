#include "base/clock.h"

#include <sodium.h>
#include <time.h>

#include "base/assert.h"

static uint64_t clock_ms(clockid_t id)
{
    struct timespec ts;
    int rc = clock_gettime(id, &ts);
    PEAL_ASSERT(rc == 0);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t peal_clock_mono_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC);
}

uint64_t peal_clock_wall_ms(void)
{
    return clock_ms(CLOCK_REALTIME);
}

uint64_t peal_random_u64(void)
{
    uint64_t number;
    do {
        randombytes_buf(&number, sizeof number);
    } while (number == 0);
    return number;
}

enum { ULID_TIME = 10, ULID_RANDOM = 16 };
_Static_assert(ULID_TIME + ULID_RANDOM == PEAL_ULID_SIZE, "the two parts of a ULID");

static void write_ulid(char out[PEAL_ULID_SIZE], uint64_t wall_ms,
                       const unsigned char random[ULID_RANDOM])
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    for (int i = ULID_TIME - 1; i >= 0; i--) {
        out[i] = digits[wall_ms & 31];
        wall_ms >>= 5;
    }
    /* The specification has 80 random bits in 16 characters of 5 bits each. */
    for (int i = ULID_TIME; i < PEAL_ULID_SIZE; i++)
        out[i] = digits[random[i - ULID_TIME] & 31];
}

void peal_ulid(char out[PEAL_ULID_SIZE], uint64_t wall_ms)
{
    unsigned char random[ULID_RANDOM];
    randombytes_buf(random, sizeof random);
    write_ulid(out, wall_ms, random);
}

void peal_ulids_next(struct peal_ulids *ulids, char out[PEAL_ULID_SIZE], uint64_t wall_ms)
{
    _Static_assert(sizeof ulids->random % ULID_RANDOM == 0, "blocks are used up");
    if (ulids->left == 0) {
        randombytes_buf(ulids->random, sizeof ulids->random);
        ulids->left = sizeof ulids->random;
    }
    ulids->left -= ULID_RANDOM;
    write_ulid(out, wall_ms, ulids->random + ulids->left);
}

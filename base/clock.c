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

void peal_ulid(char out[PEAL_ULID_SIZE], uint64_t wall_ms)
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    unsigned char random[16];
    randombytes_buf(random, sizeof random);
    for (int i = 9; i >= 0; i--) {
        out[i] = digits[wall_ms & 31];
        wall_ms >>= 5;
    }
    /* The specification has 80 random bits in 16 characters of 5 bits each. */
    for (int i = 10; i < PEAL_ULID_SIZE; i++)
        out[i] = digits[random[i - 10] & 31];
}

#include "bench/stamp.h"

#include <string.h>

static void hex_write(char *at, uint64_t number, int digits)
{
    for (int i = digits - 1; i >= 0; i--) {
        at[i] = "0123456789abcdef"[number & 15];
        number >>= 4;
    }
}

/* Eight digits at once, a byte each: a client reads a hundred million digits in a second. */
static bool hex_read(const char *at, uint32_t *out)
{
    const uint64_t ones = 0x0101010101010101;
    uint64_t x;
    memcpy(&x, at, sizeof(x));
    x = __builtin_bswap64(x);
    /* In bytes below 128 these sums do not carry, and set the top bit of a byte that is not less
     * than '0' and not more than '9', and the same for 'a' and 'f'. */
    uint64_t digit = (x + ones * (128 - '0')) & ~(x + ones * (127 - '9'));
    uint64_t letter = (x + ones * (128 - 'a')) & ~(x + ones * (127 - 'f'));
    if ((x & ones * 128) != 0 || ((digit | letter) & ones * 128) != ones * 128) return false;
    /* Letters have bit 6, and 'a' & 15 is 1. */
    x = (x & ones * 15) + 9 * (x >> 6 & ones);
    x = (x | x >> 4) & 0x00ff00ff00ff00ff;
    x = (x | x >> 8) & 0x0000ffff0000ffff;
    *out = (uint32_t)(x | x >> 16);
    return true;
}

void peal_stamp_write(char *at, const struct peal_stamp *stamp)
{
    hex_write(at, stamp->sent_ns, 16);
    hex_write(at + 16, stamp->seq, 8);
    hex_write(at + 24, stamp->index, 8);
}

bool peal_stamp_read(struct peal_span payload, struct peal_stamp *out)
{
    if (payload.size > 0 && payload.at[0] == '"') {
        payload.at++;
        payload.size--;
    }
    uint32_t high;
    uint32_t low;
    if (payload.size < PEAL_STAMP_DIGITS || !hex_read(payload.at, &high) ||
        !hex_read(payload.at + 8, &low) || !hex_read(payload.at + 16, &out->seq) ||
        !hex_read(payload.at + 24, &out->index))
        return false;
    out->sent_ns = (uint64_t)high << 32 | low;
    return true;
}

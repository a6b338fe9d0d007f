#include "bench/stamp.h"

static void hex_write(char *at, uint64_t number, int digits)
{
    for (int i = digits - 1; i >= 0; i--) {
        at[i] = "0123456789abcdef"[number & 15];
        number >>= 4;
    }
}

static bool hex_read(const char *at, int digits, uint64_t *out)
{
    uint64_t number = 0;
    for (int i = 0; i < digits; i++) {
        unsigned c = (unsigned char)at[i];
        unsigned digit = c - '0';
        if (digit > 9) {
            digit = c - 'a' + 10;
            if (digit < 10 || digit > 15) return false;
        }
        number = number << 4 | digit;
    }
    *out = number;
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
    uint64_t seq;
    uint64_t index;
    if (payload.size < PEAL_STAMP_DIGITS || !hex_read(payload.at, 16, &out->sent_ns) ||
        !hex_read(payload.at + 16, 8, &seq) || !hex_read(payload.at + 24, 8, &index))
        return false;
    out->seq = (uint32_t)seq;
    out->index = (uint32_t)index;
    return true;
}

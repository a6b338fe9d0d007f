#include "proto/utf8.h"

#include <stdint.h>

bool peal_utf8_valid(struct peal_span text)
{
    const unsigned char *at = (const unsigned char *)text.at;
    size_t left = text.size;
    while (left > 0) {
        uint64_t eight;
        if (left >= sizeof eight) { /* most text is ASCII */
            memcpy(&eight, at, sizeof eight);
            if ((eight & 0x8080808080808080u) == 0) {
                at += sizeof eight;
                left -= sizeof eight;
                continue;
            }
        }
        size_t size = peal_utf8_size(at, left);
        if (size == 0) return false;
        at += size;
        left -= size;
    }
    return true;
}

/* jansson says whether a text is JSON; it is never asked what the text means, because it would
 * round numbers. Meaning is read by a scanner of our own that walks text already known to be
 * JSON and hands out spans of it. The scanner stays inside its span for any bytes at all: a
 * caller that forgets to check gets nonsense, not a read beyond the end. */
#include "proto/json.h"

#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"

/* ---- UTF-8 ----------------------------------------------------------------------------- */

/* Size of the character at `at`, 0 when it is malformed. Source: RFC 3629 section 4: only the
 * second byte has a range that depends on the first one. */
static size_t utf8_size(const unsigned char *at, size_t left)
{
    unsigned char first = at[0];
    if (first < 0x80) return 1;
    if (first < 0xc2 || first > 0xf4) return 0;
    size_t size = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (size > left) return 0;
    unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (at[1] < low || at[1] > high) return 0;
    for (size_t i = 2; i < size; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    return size;
}

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
        size_t size = utf8_size(at, left);
        if (size == 0) return false;
        at += size;
        left -= size;
    }
    return true;
}

/* proto/utf8.h: is this UTF-8?
 *
 * Names, patterns, texts and the strings in JSON must be, or a browser would refuse the message
 * that they come in.
 *
 * Thread: any; no state. Memory: nothing is kept. Errors: none, the answer is the result.
 * Source: RFC 3629 section 4: no surrogates, no overlong forms, nothing beyond U+10FFFF. */
#ifndef PEAL_PROTO_UTF8_H
#define PEAL_PROTO_UTF8_H

#include <stdbool.h>
#include <stddef.h>

#include "base/span.h"

/* Size of the character at `at`, 0 when it is malformed. left is at least 1. Only the second byte
 * has a range that depends on the first one. */
static inline size_t peal_utf8_size(const unsigned char *at, size_t left)
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

/* Is all of this valid UTF-8? An empty text is. */
bool peal_utf8_valid(struct peal_span text);

#endif

/* proto/json_scan.h: where a blank, a string or a run of digits in JSON ends.
 *
 * What the check (json_check.c) and the reader (json.c) have in common; nobody else includes this.
 * Each takes a place in a text and returns the place behind what begins there, at most text.size:
 * they stay inside the text for any bytes at all, also for those that are no JSON. They are inline
 * because a publish is walked byte for byte.
 *
 * Thread: any; no state. Memory: the text is borrowed. Errors: none. Source: RFC 8259. */
#ifndef PEAL_PROTO_JSON_SCAN_H
#define PEAL_PROTO_JSON_SCAN_H

#include <stdint.h>

#include "base/span.h"

static inline bool peal_json_is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static inline size_t peal_json_skip_blanks(struct peal_span text, size_t at)
{
    while (at < text.size && peal_json_is_blank(text.at[at]))
        at++;
    return at;
}

/* The first byte from `at` on that a string cannot just hold: a quote, a backslash, a control
 * character, or a part of a longer UTF-8 character. Eight bytes at a time; each of the four terms
 * has the top bit of a byte set if that byte is such a one ("Bit Twiddling Hacks", hasless). */
static inline size_t peal_json_skip_plain(struct peal_span text, size_t at)
{
    const uint64_t ones = UINT64_MAX / 255;
    for (; text.size - at >= 8; at += 8) {
        uint64_t v;
        memcpy(&v, text.at + at, sizeof v);
        uint64_t quote = v ^ (ones * '"');
        uint64_t slash = v ^ (ones * '\\');
        uint64_t found =
            v | ((v - ones * 0x20) & ~v) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash);
        if (found & (ones * 0x80)) break;
    }
    for (; at < text.size; at++) {
        unsigned char c = (unsigned char)text.at[at];
        if (c == '"' || c == '\\' || c < 0x20 || c >= 0x80) break;
    }
    return at;
}

/* From the opening quote to behind the closing one, or to the end of the text. */
static inline size_t peal_json_skip_string(struct peal_span text, size_t at)
{
    for (at = peal_json_skip_plain(text, at + 1); at < text.size;
         at = peal_json_skip_plain(text, at + 1)) {
        if (text.at[at] == '"') return at + 1;
        if (text.at[at] == '\\' && ++at == text.size) break;
    }
    return text.size;
}

static inline size_t peal_json_skip_digits(struct peal_span text, size_t at)
{
    while (at < text.size && text.at[at] >= '0' && text.at[at] <= '9')
        at++;
    return at;
}

#endif

/* proto/cursor.h: msgpack by hand, for the files of proto/ that encode and decode what is on the
 * bus.
 *
 * Reading: the counts that a sender declares have to be checked against the bytes that are left
 * before anything is allocated, and once that walk exists it is the whole decoder. Writing: a frame
 * is a dozen numbers and spans; the room is reserved once for all of them, and the put functions
 * write into it and return the place behind.
 *
 * In a header, so that the compiler puts it where it is used: each message passes it several times.
 *
 * Thread: any. Memory: spans point into what is read.
 * Source: the msgpack specification; unit tests hold both directions against msgpack-c. */
#ifndef PEAL_PROTO_CURSOR_H
#define PEAL_PROTO_CURSOR_H

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/limits.h"
#include "proto/value.h"

/* ---- cursor ---------------------------------------------------------------------------- */

struct cursor {
    const unsigned char *at;
    const unsigned char *end;
};

static inline struct cursor cursor_of(struct peal_span bytes)
{
    const unsigned char *at = (const unsigned char *)bytes.at;
    return (struct cursor){at, at + bytes.size};
}

static inline size_t left(const struct cursor *c)
{
    return (size_t)(c->end - c->at);
}

static inline bool take_number(struct cursor *c, size_t size, uint64_t *out)
{
    if (left(c) < size) return false;
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    switch (size) {
    case 1:
        *out = c->at[0];
        break;
    case 2:
        memcpy(&two, c->at, sizeof two);
        *out = be16toh(two);
        break;
    case 4:
        memcpy(&four, c->at, sizeof four);
        *out = be32toh(four);
        break;
    default:
        PEAL_ASSERT(size == 8);
        memcpy(&eight, c->at, sizeof eight);
        *out = be64toh(eight);
    }
    c->at += size;
    return true;
}

static inline bool take_bytes(struct cursor *c, enum peal_wire_kind kind, uint64_t size,
                              struct peal_wire_value *out)
{
    if (size > left(c)) return false;
    *out = (struct peal_wire_value){.kind = kind, .bytes = peal_span_make(c->at, (size_t)size)};
    c->at += size;
    return true;
}

/* Every element takes at least one byte, so a count beyond the bytes left is a lie. */
static inline bool take_count(struct cursor *c, enum peal_wire_kind kind, uint64_t count,
                              struct peal_wire_value *out)
{
    uint64_t elements = kind == PEAL_WIRE_MAP ? count * 2 : count;
    if (elements > left(c)) return false;
    *out = (struct peal_wire_value){.kind = kind, .number = count};
    return true;
}

static inline bool take_int(struct cursor *c, size_t size, struct peal_wire_value *out)
{
    uint64_t number;
    if (!take_number(c, size, &number)) return false;
    bool negative = (number >> (size * 8 - 1)) != 0;
    *out = (struct peal_wire_value){.kind = negative ? PEAL_WIRE_NEGATIVE : PEAL_WIRE_UINT,
                                    .number = number};
    return true;
}

/* Takes one header with its bytes; the elements of containers follow. False: malformed.
 * Source: github.com/msgpack/msgpack/blob/master/spec.md, "Formats". */
static inline bool take(struct cursor *c, struct peal_wire_value *out)
{
    if (left(c) == 0) return false;
    unsigned char b = *c->at++;
    uint64_t n;
    *out = (struct peal_wire_value){0};
    if (b <= 0x7f) {
        *out = (struct peal_wire_value){.kind = PEAL_WIRE_UINT, .number = b};
        return true;
    }
    if (b <= 0x8f) return take_count(c, PEAL_WIRE_MAP, b & 0x0f, out);
    if (b <= 0x9f) return take_count(c, PEAL_WIRE_ARRAY, b & 0x0f, out);
    if (b <= 0xbf) return take_bytes(c, PEAL_WIRE_STR, b & 0x1f, out);
    if (b >= 0xe0) {
        out->kind = PEAL_WIRE_NEGATIVE;
        return true;
    }
    switch (b) {
    case 0xc0:
        return true; /* nil */
    case 0xc2:
    case 0xc3:
        *out = (struct peal_wire_value){.kind = PEAL_WIRE_BOOL, .number = b & 1};
        return true;
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return take_number(c, (size_t)1 << (b - 0xc4), &n) && take_bytes(c, PEAL_WIRE_BIN, n, out);
    case 0xc7:
    case 0xc8:
    case 0xc9: /* ext: a length, a type byte, the bytes */
        return take_number(c, (size_t)1 << (b - 0xc7), &n) &&
               take_bytes(c, PEAL_WIRE_EXT, n + 1, out);
    case 0xca:
    case 0xcb:
        out->kind = PEAL_WIRE_FLOAT;
        return take_number(c, b == 0xca ? 4 : 8, &n);
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        out->kind = PEAL_WIRE_UINT;
        return take_number(c, (size_t)1 << (b - 0xcc), &out->number);
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return take_int(c, (size_t)1 << (b - 0xd0), out);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8: /* fixext: a type byte and 1, 2, 4, 8 or 16 bytes */
        return take_bytes(c, PEAL_WIRE_EXT, ((uint64_t)1 << (b - 0xd4)) + 1, out);
    case 0xd9:
    case 0xda:
    case 0xdb:
        return take_number(c, (size_t)1 << (b - 0xd9), &n) && take_bytes(c, PEAL_WIRE_STR, n, out);
    case 0xdc:
    case 0xdd:
        return take_number(c, b == 0xdc ? 2 : 4, &n) && take_count(c, PEAL_WIRE_ARRAY, n, out);
    case 0xde:
    case 0xdf:
        return take_number(c, b == 0xde ? 2 : 4, &n) && take_count(c, PEAL_WIRE_MAP, n, out);
    default: /* 0xc1 is never used */
        return false;
    }
}

/* Skips a value that most are like: a short text, short bytes, a small number. False: it is another
 * one, or none, and nothing is skipped. */
static inline bool skip_short(struct cursor *c)
{
    size_t room = left(c);
    if (room == 0) return false;
    unsigned char b = *c->at;
    size_t size = 0;
    if (b <= 0x7f)
        size = 1;
    else if ((b & 0xe0) == 0xa0)
        size = 1 + (size_t)(b & 0x1f);
    else if ((b == 0xc4 || b == 0xd9) && room >= 2)
        size = 2 + (size_t)c->at[1];
    if (size == 0 || size > room) return false;
    c->at += size;
    return true;
}

/* Skips one value, which lies `above` levels deep, with all that is inside it. An explicit stack of
 * what is still to come, one counter per level, so that input cannot exhaust ours. */
static inline bool skip(struct cursor *c, size_t above)
{
    uint64_t todo[PEAL_WIRE_DEPTH];
    size_t depth = 0;
    if (skip_short(c)) return true;
    todo[0] = 1;
    for (;;) {
        while (todo[depth] == 0) {
            if (depth == 0) return true;
            depth--;
        }
        todo[depth]--;
        if (skip_short(c)) continue;
        struct peal_wire_value token;
        if (!take(c, &token)) return false;
        if (token.kind != PEAL_WIRE_ARRAY && token.kind != PEAL_WIRE_MAP) continue;
        if (above + depth + 1 == PEAL_WIRE_DEPTH) return false;
        todo[++depth] = token.kind == PEAL_WIRE_MAP ? token.number * 2 : token.number;
    }
}

/* ---- fields ---------------------------------------------------------------------------- */

enum field_kind { K_U64, K_SPAN, K_SPANS, K_NUMBERS, K_POSITIONS, K_PEOPLE };

struct field {
    enum field_kind kind;
    size_t at;  /* offset in the struct */
    size_t max; /* bytes of a K_SPAN, 0 = any */
};

/* The most bytes that a number, an array's head and a span take. */
enum { NUMBER_MAX = 9, COUNT_MAX = 5 };

static inline size_t span_max(struct peal_span span)
{
    return 5 + span.size;
}

/* The put functions write to where there is room and return the place behind. */

static inline char *put_byte(char *at, unsigned byte)
{
    *at = (char)byte;
    return at + 1;
}

static inline char *put_16(char *at, unsigned format, uint64_t number)
{
    uint16_t big = htobe16((uint16_t)number);
    memcpy(put_byte(at, format), &big, sizeof big);
    return at + 1 + sizeof big;
}

static inline char *put_32(char *at, unsigned format, uint64_t number)
{
    uint32_t big = htobe32((uint32_t)number);
    memcpy(put_byte(at, format), &big, sizeof big);
    return at + 1 + sizeof big;
}

static inline char *put_u64(char *at, uint64_t number)
{
    if (number < 0x80) return put_byte(at, (unsigned)number);
    if (number <= UINT8_MAX) return put_byte(put_byte(at, 0xcc), (unsigned)number);
    if (number <= UINT16_MAX) return put_16(at, 0xcd, number);
    if (number <= UINT32_MAX) return put_32(at, 0xce, number);
    uint64_t big = htobe64(number);
    memcpy(put_byte(at, 0xcf), &big, sizeof big);
    return at + 1 + sizeof big;
}

static inline char *put_array(char *at, size_t count)
{
    if (count < 16) return put_byte(at, 0x90 | (unsigned)count);
    if (count <= UINT16_MAX) return put_16(at, 0xdc, count);
    return put_32(at, 0xdd, count);
}

static inline char *put_span(char *at, struct peal_span span)
{
    if (span.at == NULL) return put_byte(at, 0xc0);
    if (span.size <= UINT8_MAX)
        at = put_byte(put_byte(at, 0xc4), (unsigned)span.size);
    else if (span.size <= UINT16_MAX)
        at = put_16(at, 0xc5, span.size);
    else
        at = put_32(at, 0xc6, span.size);
    memcpy(at, span.at, span.size);
    return at + span.size;
}

static inline bool read_span(struct cursor *c, size_t max, struct peal_span *out)
{
    /* What our own encoder writes; the rest is legal and rare. */
    if (left(c) >= 2 && c->at[0] == 0xc4 && c->at[1] <= left(c) - 2) {
        size_t size = c->at[1];
        if (max != 0 && size > max) return false;
        *out = peal_span_make(c->at + 2, size);
        c->at += 2 + size;
        return true;
    }
    struct peal_wire_value token;
    if (!take(c, &token)) return false;
    if (token.kind == PEAL_WIRE_NIL) {
        *out = (struct peal_span){0};
        return true;
    }
    if (token.kind != PEAL_WIRE_BIN && token.kind != PEAL_WIRE_STR) return false;
    if (max != 0 && token.bytes.size > max) return false;
    *out = token.bytes;
    return true;
}

static inline bool read_u64(struct cursor *c, uint64_t *out)
{
    if (left(c) > 0 && *c->at < 0x80) {
        *out = *c->at++;
        return true;
    }
    struct peal_wire_value token;
    if (!take(c, &token) || token.kind != PEAL_WIRE_UINT) return false;
    *out = token.number;
    return true;
}

#endif

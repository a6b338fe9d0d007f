/* Two const tables describe the bus: `fields` says what a field is and where it lives in struct
 * peal_frame, `frames` says which fields a type carries and in which order. The envelope has a
 * table of the same kind.
 *
 * Reading is done by a cursor of our own instead of msgpack-c's unpacker: the counts that a sender
 * declares have to be checked against the bytes that are left before anything is allocated, and
 * once that walk exists it is the whole decoder. It allocates nothing but a frame's lists.
 *
 * Writing is done here as well: a frame is a dozen numbers and spans, and msgpack-c's packer calls
 * back into the buffer two times for each of them. Here the room is reserved once for all. Unit
 * tests hold both against msgpack-c. */
#include "proto/wire.h"

#include <endian.h>
#include <stdlib.h>

#include "base/assert.h"

/* ---- cursor ---------------------------------------------------------------------------- */

struct cursor {
    const unsigned char *at;
    const unsigned char *end;
};

static struct cursor cursor_of(struct peal_span bytes)
{
    const unsigned char *at = (const unsigned char *)bytes.at;
    return (struct cursor){at, at + bytes.size};
}

static size_t left(const struct cursor *c)
{
    return (size_t)(c->end - c->at);
}

static bool take_number(struct cursor *c, size_t size, uint64_t *out)
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

static bool take_bytes(struct cursor *c, enum peal_wire_kind kind, uint64_t size,
                       struct peal_wire_value *out)
{
    if (size > left(c)) return false;
    *out = (struct peal_wire_value){.kind = kind, .bytes = peal_span_make(c->at, (size_t)size)};
    c->at += size;
    return true;
}

/* Every element takes at least one byte, so a count beyond the bytes left is a lie. */
static bool take_count(struct cursor *c, enum peal_wire_kind kind, uint64_t count,
                       struct peal_wire_value *out)
{
    uint64_t elements = kind == PEAL_WIRE_MAP ? count * 2 : count;
    if (elements > left(c)) return false;
    *out = (struct peal_wire_value){.kind = kind, .number = count};
    return true;
}

static bool take_int(struct cursor *c, size_t size, struct peal_wire_value *out)
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
static bool take(struct cursor *c, struct peal_wire_value *out)
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

/* Skips one value, which lies `above` levels deep, with all that is inside it. An explicit stack of
 * what is still to come, one counter per level, so that input cannot exhaust ours. */
static bool skip(struct cursor *c, size_t above)
{
    uint64_t todo[PEAL_WIRE_DEPTH];
    size_t depth = 0;
    todo[0] = 1;
    for (;;) {
        while (todo[depth] == 0) {
            if (depth == 0) return true;
            depth--;
        }
        todo[depth]--;
        struct peal_wire_value token;
        if (!take(c, &token)) return false;
        if (token.kind != PEAL_WIRE_ARRAY && token.kind != PEAL_WIRE_MAP) continue;
        if (above + depth + 1 == PEAL_WIRE_DEPTH) return false;
        todo[++depth] = token.kind == PEAL_WIRE_MAP ? token.number * 2 : token.number;
    }
}

bool peal_wire_take(struct peal_span *rest, struct peal_wire_value *out)
{
    struct cursor c = cursor_of(*rest);
    if (!take(&c, out)) return false;
    *rest = peal_span_make(c.at, left(&c));
    return true;
}

bool peal_wire_skip(struct peal_span *rest, struct peal_span *value)
{
    struct cursor c = cursor_of(*rest);
    if (!skip(&c, 0)) return false;
    *value = peal_span_make(rest->at, rest->size - left(&c));
    *rest = peal_span_make(c.at, left(&c));
    return true;
}

enum peal_err peal_wire_check(struct peal_span bytes)
{
    struct cursor c = cursor_of(bytes);
    return skip(&c, 0) && left(&c) == 0 ? PEAL_OK : PEAL_EBAD_MESSAGE;
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

static size_t span_max(struct peal_span span)
{
    return 5 + span.size;
}

/* The put functions write to where there is room and return the place behind. */

static char *put_byte(char *at, unsigned byte)
{
    *at = (char)byte;
    return at + 1;
}

static char *put_16(char *at, unsigned format, uint64_t number)
{
    uint16_t big = htobe16((uint16_t)number);
    memcpy(put_byte(at, format), &big, sizeof big);
    return at + 1 + sizeof big;
}

static char *put_32(char *at, unsigned format, uint64_t number)
{
    uint32_t big = htobe32((uint32_t)number);
    memcpy(put_byte(at, format), &big, sizeof big);
    return at + 1 + sizeof big;
}

static char *put_u64(char *at, uint64_t number)
{
    if (number < 0x80) return put_byte(at, (unsigned)number);
    if (number <= UINT8_MAX) return put_byte(put_byte(at, 0xcc), (unsigned)number);
    if (number <= UINT16_MAX) return put_16(at, 0xcd, number);
    if (number <= UINT32_MAX) return put_32(at, 0xce, number);
    uint64_t big = htobe64(number);
    memcpy(put_byte(at, 0xcf), &big, sizeof big);
    return at + 1 + sizeof big;
}

static char *put_array(char *at, size_t count)
{
    if (count < 16) return put_byte(at, 0x90 | (unsigned)count);
    if (count <= UINT16_MAX) return put_16(at, 0xdc, count);
    return put_32(at, 0xdd, count);
}

static char *put_span(char *at, struct peal_span span)
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

static bool read_span(struct cursor *c, size_t max, struct peal_span *out)
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

static bool read_u64(struct cursor *c, uint64_t *out)
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

/* ---- frames ---------------------------------------------------------------------------- */

enum {
    F_req,
    F_boot,
    F_seq,
    F_group,
    F_id,
    F_epoch,
    F_offset,
    F_head,
    F_first,
    F_from,
    F_to,
    F_upto,
    F_limit,
    F_bytes,
    F_unread,
    F_rev,
    F_why,
    F_code,
    F_after_ms,
    F_flags,
    F_slot,
    F_owner,
    F_generation,
    F_message,
    F_envelope,
    F_entries,
    F_positions,
    F_offsets,
    F_source,
    F_users,
    F_connections,
    F_people,
    F_END = -1
};

#define U64(name)       [F_##name] = {K_U64, offsetof(struct peal_frame, name), 0}
#define SPAN(name, max) [F_##name] = {K_SPAN, offsetof(struct peal_frame, name), max}
static const struct field fields[] = {
    U64(req),
    U64(boot),
    U64(seq),
    SPAN(group, PEAL_NAME_MAX),
    SPAN(id, PEAL_MESSAGE_ID_MAX),
    U64(epoch),
    U64(offset),
    U64(head),
    U64(first),
    U64(from),
    U64(to),
    U64(upto),
    U64(limit),
    U64(bytes),
    U64(unread),
    U64(rev),
    U64(why),
    U64(code),
    U64(after_ms),
    U64(flags),
    U64(slot),
    U64(owner),
    U64(generation),
    SPAN(message, 1024),
    SPAN(envelope, 0),
    [F_entries] = {K_SPANS, offsetof(struct peal_frame, entries), 0},
    [F_positions] = {K_POSITIONS, offsetof(struct peal_frame, positions), 0},
    [F_offsets] = {K_NUMBERS, offsetof(struct peal_frame, offsets), 0},
    U64(source),
    U64(users),
    U64(connections),
    [F_people] = {K_PEOPLE, offsetof(struct peal_frame, people), 0},
};
#undef U64
#undef SPAN

enum { FIELDS_MAX = 13 };
#define FRAME(type, ...) [PEAL_F_##type] = {#type, {__VA_ARGS__, F_END}}
static const struct {
    const char *name;
    signed char fields[FIELDS_MAX];
} frames[PEAL_FRAME_TYPES] = {
    FRAME(BEAT, F_boot),
    FRAME(JOIN, F_req, F_group),
    FRAME(LEAVE, F_group),
    FRAME(SYNC, F_seq, F_flags, F_positions, F_limit),
    FRAME(PUBLISH, F_req, F_entries),
    FRAME(FETCH, F_req, F_group, F_epoch, F_offset, F_limit, F_bytes, F_flags),
    FRAME(MARK, F_req, F_group, F_flags, F_upto, F_offsets),
    FRAME(PUBLISHED, F_req, F_entries, F_code, F_message),
    FRAME(RECEIPT, F_id, F_group, F_epoch, F_offset, F_flags, F_code, F_message, F_after_ms),
    FRAME(PAGE, F_req, F_group, F_epoch, F_offset, F_head, F_first, F_unread, F_rev, F_flags,
          F_entries, F_code, F_message),
    FRAME(MARKED, F_req, F_group, F_unread, F_rev, F_code, F_message, F_after_ms),
    FRAME(BATCH, F_boot, F_seq, F_entries),
    FRAME(MESSAGE, F_envelope, F_flags, F_unread, F_rev),
    FRAME(JOINED, F_req, F_group, F_epoch, F_offset, F_first, F_unread, F_rev, F_flags, F_code,
          F_message),
    FRAME(AT, F_group, F_epoch, F_offset, F_first, F_unread, F_rev, F_flags),
    FRAME(STATE, F_group, F_upto, F_offsets, F_unread, F_rev, F_flags),
    FRAME(SKIP, F_group, F_from, F_to),
    FRAME(GAP, F_group, F_from, F_to, F_why),
    FRAME(SYNCED, F_seq, F_boot),
    FRAME(RELINKED, F_boot, F_seq),
    FRAME(PRESENT, F_req, F_group, F_source, F_flags, F_from, F_to, F_limit, F_people),
    FRAME(WHO, F_req, F_group, F_offset, F_limit),
    FRAME(PRESENTED, F_req, F_group, F_to, F_code, F_message),
    FRAME(PRESENCE, F_req, F_group, F_users, F_connections, F_offset, F_flags, F_people, F_code,
          F_message, F_from, F_to),
    FRAME(MOVED, F_req, F_slot, F_owner, F_generation, F_envelope),
    FRAME(SLOTS, F_boot, F_owner, F_offsets),
    FRAME(FORWARD, F_envelope),
    FRAME(MOVE, F_req, F_slot, F_owner),
    FRAME(GIVEN, F_req, F_slot, F_owner, F_generation, F_code, F_message),
    FRAME(COPY, F_boot, F_owner, F_slot, F_seq, F_offset, F_flags, F_envelope),
    FRAME(COPIED, F_boot, F_owner, F_slot, F_seq, F_offset, F_code),
    FRAME(RECORDS, F_group, F_from, F_flags, F_entries),
    FRAME(CHECK, F_from, F_offsets),
    FRAME(SYNC_SLOT, F_seq, F_flags, F_positions, F_limit, F_from),
    FRAME(DIFFER, F_offsets),
};
#undef FRAME

const char *peal_frame_name(enum peal_frame_type type)
{
    size_t i = (size_t)type;
    return i < PEAL_FRAME_TYPES && frames[i].name != NULL ? frames[i].name : "?";
}

const char *peal_gap_word(uint64_t why)
{
    static const char *const words[] = {"unrepaired", "evicted", "epoch",
                                        "slow",       "corrupt", "unrepaired"};
    return why < sizeof words / sizeof words[0] ? words[why] : words[0];
}

static size_t field_count(const signed char *list)
{
    size_t n = 0;
    while (list[n] != F_END)
        n++;
    return n;
}

static size_t field_max(const struct field *field, const struct peal_frame *frame)
{
    size_t size = COUNT_MAX;
    switch (field->kind) {
    case K_U64:
        return NUMBER_MAX;
    case K_SPAN:
        return span_max(*(const struct peal_span *)(const void *)((const char *)frame + field->at));
    case K_SPANS:
        for (size_t i = 0; i < frame->entries.count; i++)
            size += span_max(frame->entries.at[i]);
        return size;
    case K_NUMBERS:
        return size + frame->offsets.count * NUMBER_MAX;
    case K_POSITIONS:
        for (size_t i = 0; i < frame->positions.count; i++)
            size += COUNT_MAX + span_max(frame->positions.at[i].group) + 2 * NUMBER_MAX;
        return size;
    case K_PEOPLE:
        for (size_t i = 0; i < frame->people.count; i++)
            size += COUNT_MAX + span_max(frame->people.at[i].user) + 2 * NUMBER_MAX;
        return size;
    }
    return size;
}

static char *put_field(char *to, const struct field *field, const struct peal_frame *frame)
{
    const void *at = (const char *)frame + field->at;
    switch (field->kind) {
    case K_U64:
        return put_u64(to, *(const uint64_t *)at);
    case K_SPAN:
        return put_span(to, *(const struct peal_span *)at);
    case K_SPANS:
        to = put_array(to, frame->entries.count);
        for (size_t i = 0; i < frame->entries.count; i++)
            to = put_span(to, frame->entries.at[i]);
        return to;
    case K_NUMBERS:
        to = put_array(to, frame->offsets.count);
        for (size_t i = 0; i < frame->offsets.count; i++)
            to = put_u64(to, frame->offsets.at[i]);
        return to;
    case K_POSITIONS:
        to = put_array(to, frame->positions.count);
        for (size_t i = 0; i < frame->positions.count; i++) {
            to = put_array(to, 3);
            to = put_span(to, frame->positions.at[i].group);
            to = put_u64(to, frame->positions.at[i].epoch);
            to = put_u64(to, frame->positions.at[i].offset);
        }
        return to;
    case K_PEOPLE:
        to = put_array(to, frame->people.count);
        for (size_t i = 0; i < frame->people.count; i++) {
            to = put_array(to, 3);
            to = put_span(to, frame->people.at[i].user);
            to = put_u64(to, frame->people.at[i].session);
            to = put_u64(to, frame->people.at[i].count);
        }
        return to;
    }
    return to;
}

void peal_frame_encode(const struct peal_frame *frame, struct peal_buf *out)
{
    PEAL_ASSERT(frame->type > 0);
    PEAL_ASSERT(frame->type < PEAL_FRAME_TYPES);
    const signed char *list = frames[frame->type].fields;
    size_t room = COUNT_MAX + NUMBER_MAX;
    for (const signed char *it = list; *it != F_END; it++)
        room += field_max(&fields[*it], frame);
    char *begin = peal_buf_reserve(out, room);
    if (begin == NULL) return;
    char *to = put_array(begin, 1 + field_count(list));
    to = put_u64(to, (uint64_t)frame->type);
    for (; *list != F_END; list++)
        to = put_field(to, &fields[*list], frame);
    PEAL_ASSERT((size_t)(to - begin) <= room);
    out->size += (size_t)(to - begin);
}

struct peal_bytes *peal_frame_bytes(const struct peal_frame *frame, struct peal_buf *scratch)
{
    scratch->size = 0;
    peal_frame_encode(frame, scratch);
    if (!scratch->failed) return peal_bytes_new(scratch->at, scratch->size);
    peal_buf_fini(scratch);
    return NULL;
}

static enum peal_err read_list(struct cursor *c, enum field_kind kind, struct peal_frame *frame)
{
    struct peal_wire_value token;
    if (!take(c, &token) || token.kind != PEAL_WIRE_ARRAY) return PEAL_EBAD_MESSAGE;
    size_t count = (size_t)token.number;
    if (count == 0) return PEAL_OK;
    /* take() has seen that at least `count` bytes are left, which bounds the allocation. */
    if (kind == K_SPANS) {
        frame->entries.at = calloc(count, sizeof *frame->entries.at);
        if (frame->entries.at == NULL) return PEAL_ENOMEM;
        frame->entries.count = count;
        for (size_t i = 0; i < count; i++) {
            struct peal_span *entry = &frame->entries.at[i];
            if (!read_span(c, 0, entry) || entry->at == NULL) return PEAL_EBAD_MESSAGE;
        }
    } else if (kind == K_NUMBERS) {
        frame->offsets.at = calloc(count, sizeof *frame->offsets.at);
        if (frame->offsets.at == NULL) return PEAL_ENOMEM;
        frame->offsets.count = count;
        for (size_t i = 0; i < count; i++)
            if (!read_u64(c, &frame->offsets.at[i])) return PEAL_EBAD_MESSAGE;
    } else if (kind == K_PEOPLE) {
        frame->people.at = calloc(count, sizeof *frame->people.at);
        if (frame->people.at == NULL) return PEAL_ENOMEM;
        frame->people.count = count;
        for (size_t i = 0; i < count; i++) {
            struct peal_person *p = &frame->people.at[i];
            if (!take(c, &token) || token.kind != PEAL_WIRE_ARRAY || token.number != 3)
                return PEAL_EBAD_MESSAGE;
            if (!read_span(c, PEAL_NAME_MAX, &p->user)) return PEAL_EBAD_MESSAGE;
            if (p->user.at != NULL && p->user.size == 0) return PEAL_EBAD_MESSAGE;
            if (!read_u64(c, &p->session) || !read_u64(c, &p->count)) return PEAL_EBAD_MESSAGE;
        }
    } else {
        frame->positions.at = calloc(count, sizeof *frame->positions.at);
        if (frame->positions.at == NULL) return PEAL_ENOMEM;
        frame->positions.count = count;
        for (size_t i = 0; i < count; i++) {
            struct peal_position *p = &frame->positions.at[i];
            if (!take(c, &token) || token.kind != PEAL_WIRE_ARRAY || token.number != 3)
                return PEAL_EBAD_MESSAGE;
            if (!read_span(c, PEAL_NAME_MAX, &p->group) || p->group.size == 0)
                return PEAL_EBAD_MESSAGE;
            if (!read_u64(c, &p->epoch) || !read_u64(c, &p->offset)) return PEAL_EBAD_MESSAGE;
        }
    }
    return PEAL_OK;
}

static enum peal_err read_field(struct cursor *c, const struct field *field,
                                struct peal_frame *frame)
{
    void *at = (char *)frame + field->at;
    if (field->kind == K_U64) return read_u64(c, at) ? PEAL_OK : PEAL_EBAD_MESSAGE;
    if (field->kind == K_SPAN) return read_span(c, field->max, at) ? PEAL_OK : PEAL_EBAD_MESSAGE;
    return read_list(c, field->kind, frame);
}

static enum peal_err read_frame(struct cursor *c, struct peal_frame *out)
{
    struct peal_wire_value token;
    uint64_t type;
    if (!take(c, &token) || token.kind != PEAL_WIRE_ARRAY || token.number < 1)
        return PEAL_EBAD_MESSAGE;
    if (!read_u64(c, &type)) return PEAL_EBAD_MESSAGE;
    if (type >= PEAL_FRAME_TYPES || frames[type].name == NULL) return PEAL_EUNKNOWN_TYPE;
    out->type = (enum peal_frame_type)type;

    uint64_t given = token.number - 1;
    for (const signed char *list = frames[type].fields; *list != F_END && given > 0; list++) {
        enum peal_err err = read_field(c, &fields[*list], out);
        if (err != PEAL_OK) return err;
        given--;
    }
    for (; given > 0; given--) /* fields of a newer version */
        if (!skip(c, 1)) return PEAL_EBAD_MESSAGE;
    return left(c) == 0 ? PEAL_OK : PEAL_EBAD_MESSAGE;
}

enum peal_err peal_frame_decode(struct peal_span bytes, struct peal_frame *out)
{
    *out = (struct peal_frame){0};
    struct cursor c = cursor_of(bytes);
    enum peal_err err = read_frame(&c, out);
    if (err != PEAL_OK) peal_frame_fini(out);
    return err;
}

void peal_frame_fini(struct peal_frame *frame)
{
    free(frame->entries.at);
    free(frame->positions.at);
    free(frame->offsets.at);
    free(frame->people.at);
    *frame = (struct peal_frame){0};
}

/* ---- envelope -------------------------------------------------------------------------- */

enum { ENVELOPE_VERSION = 1 };

#define U64(name)                                                                                  \
    {                                                                                              \
        K_U64, offsetof(struct peal_envelope, name), 0                                             \
    }
#define SPAN(name, max)                                                                            \
    {                                                                                              \
        K_SPAN, offsetof(struct peal_envelope, name), max                                          \
    }
/* In wire order, behind the version. data_kind is an enum and is packed apart, at its place. */
static const struct field envelope_fields[] = {
    SPAN(id, PEAL_MESSAGE_ID_MAX),
    SPAN(group, PEAL_NAME_MAX),
    U64(epoch),
    U64(offset),
    U64(ts_ms),
    SPAN(event, PEAL_EVENT_MAX),
    SPAN(data, 0),
    SPAN(from, PEAL_NAME_MAX),
    U64(ttl_ms),
    SPAN(collapse, PEAL_COLLAPSE_MAX),
    U64(flags),
    SPAN(trace, PEAL_MESSAGE_ID_MAX),
};
#undef U64
#undef SPAN
enum { ENVELOPE_FIELDS = sizeof envelope_fields / sizeof envelope_fields[0] };

void peal_envelope_encode(const struct peal_envelope *env, struct peal_buf *out)
{
    size_t room = COUNT_MAX + 2 * NUMBER_MAX + ENVELOPE_FIELDS * NUMBER_MAX + env->id.size +
                  env->group.size + env->event.size + env->data.size + env->from.size +
                  env->collapse.size + env->trace.size;
    _Static_assert((int)NUMBER_MAX >= (int)COUNT_MAX, "a span's head is no larger than a number");
    char *begin = peal_buf_reserve(out, room);
    if (begin == NULL) return;
    char *to = put_array(begin, 2 + ENVELOPE_FIELDS);
    to = put_u64(to, ENVELOPE_VERSION);
    to = put_u64(to, (uint64_t)env->data_kind);
    for (size_t i = 0; i < ENVELOPE_FIELDS; i++) {
        const void *at = (const char *)env + envelope_fields[i].at;
        if (envelope_fields[i].kind == K_U64)
            to = put_u64(to, *(const uint64_t *)at);
        else
            to = put_span(to, *(const struct peal_span *)at);
    }
    PEAL_ASSERT((size_t)(to - begin) <= room);
    out->size += (size_t)(to - begin);
}

enum peal_err peal_envelope_decode(struct peal_span bytes, struct peal_envelope *out)
{
    *out = (struct peal_envelope){0};
    struct peal_envelope env = {0};
    struct cursor c = cursor_of(bytes);
    struct peal_wire_value token;
    uint64_t version;
    uint64_t kind;
    if (!take(&c, &token) || token.kind != PEAL_WIRE_ARRAY || token.number < 2 + ENVELOPE_FIELDS)
        return PEAL_EBAD_MESSAGE;
    if (!read_u64(&c, &version) || version != ENVELOPE_VERSION) return PEAL_EBAD_MESSAGE;
    if (!read_u64(&c, &kind) || kind >= PEAL_DATA_KIND_COUNT) return PEAL_EBAD_MESSAGE;
    env.data_kind = (enum peal_data_kind)kind;
    for (size_t i = 0; i < ENVELOPE_FIELDS; i++) {
        void *at = (char *)&env + envelope_fields[i].at;
        bool fine = envelope_fields[i].kind == K_U64 ? read_u64(&c, at)
                                                     : read_span(&c, envelope_fields[i].max, at);
        if (!fine) return PEAL_EBAD_MESSAGE;
    }
    for (uint64_t more = token.number - 2 - ENVELOPE_FIELDS; more > 0; more--)
        if (!skip(&c, 1)) return PEAL_EBAD_MESSAGE;
    if (left(&c) != 0) return PEAL_EBAD_MESSAGE;
    if (env.group.size == 0 || env.data.at == NULL) return PEAL_EBAD_MESSAGE;
    *out = env;
    return PEAL_OK;
}

enum peal_err peal_message_peek(struct peal_span frame, struct peal_message_head *out)
{
    struct cursor c = cursor_of(frame);
    struct peal_wire_value token;
    struct peal_span envelope;
    struct peal_span id;
    uint64_t number;
    if (!take(&c, &token) || token.kind != PEAL_WIRE_ARRAY || !read_u64(&c, &number))
        return PEAL_EBAD_MESSAGE;
    if (number != PEAL_F_MESSAGE) return PEAL_EUNKNOWN_TYPE;
    if (token.number < 2 || !read_span(&c, 0, &envelope) || envelope.at == NULL)
        return PEAL_EBAD_MESSAGE;

    c = cursor_of(envelope);
    if (!take(&c, &token) || token.kind != PEAL_WIRE_ARRAY || token.number < 2 + ENVELOPE_FIELDS)
        return PEAL_EBAD_MESSAGE;
    if (!read_u64(&c, &number) || number != ENVELOPE_VERSION) return PEAL_EBAD_MESSAGE;
    bool fine = read_u64(&c, &number) && read_span(&c, PEAL_MESSAGE_ID_MAX, &id) &&
                read_span(&c, PEAL_NAME_MAX, &out->group) && read_u64(&c, &out->epoch) &&
                read_u64(&c, &out->offset);
    return fine && out->group.size > 0 ? PEAL_OK : PEAL_EBAD_MESSAGE;
}

/* ---- topics ---------------------------------------------------------------------------- */

void peal_topic_of(uint64_t boot, char out[PEAL_TOPIC_SIZE])
{
    static const char hex[] = "0123456789abcdef";
    out[0] = 'n';
    for (int i = PEAL_TOPIC_SIZE - 1; i > 0; i--) {
        out[i] = hex[boot & 15];
        boot >>= 4;
    }
}

enum peal_err peal_topic_parse(struct peal_span topic, uint64_t *boot)
{
    if (topic.size != PEAL_TOPIC_SIZE || topic.at[0] != 'n') return PEAL_EBAD_FIELD;
    uint64_t number = 0;
    for (size_t i = 1; i < topic.size; i++) {
        char c = topic.at[i];
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a') + 10;
        else
            return PEAL_EBAD_FIELD;
        number = number << 4 | digit;
    }
    *boot = number;
    return PEAL_OK;
}

/* Two const tables describe the bus: `fields` says what a field is and where it lives in struct
 * peal_frame, `frames` says which fields a type carries and in which order. proto/envelope.c has a
 * table of the same kind. Decoding allocates nothing but a frame's lists. */
#include "proto/wire.h"

#include <stdlib.h>

#include "base/assert.h"
#include "proto/cursor.h"
#include "proto/value.h"

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

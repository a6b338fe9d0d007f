/* A const table says which field of struct peal_envelope is where on the wire, as in wire.c. */
#include "proto/envelope.h"

#include "base/assert.h"
#include "proto/cursor.h"
#include "proto/wire.h"

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

#include "proto/door.h"

#include <msgpack.h>
#include <stdio.h>

#include "base/assert.h"
#include "proto/cursor.h"
#include "proto/value.h"

static int buf_write(void *ctx, const char *at, size_t size)
{
    peal_buf_add(ctx, at, size);
    return 0; /* a failure is remembered by the buffer */
}

static enum peal_err refuse(enum peal_err err, char *why, size_t why_size, const char *sentence)
{
    snprintf(why, why_size, "%s", sentence);
    return err;
}

/* A string, or something that no key and no op is. */
static struct peal_span text_of(struct peal_span value)
{
    struct peal_wire_value head;
    bool text = peal_wire_take(&value, &head) && head.kind == PEAL_WIRE_STR;
    return text ? head.bytes : (struct peal_span){0};
}

static bool is_list(struct peal_span value)
{
    struct peal_wire_value head;
    return peal_wire_take(&value, &head) && head.kind == PEAL_WIRE_ARRAY;
}

/* What is skipped is checked by that, so the bytes are walked once. */
static bool read_map(struct peal_span bytes, struct peal_door_call *out, struct peal_span *op)
{
    struct peal_wire_value head;
    struct peal_span key;
    struct peal_span value;
    if (!peal_wire_take(&bytes, &head) || head.kind != PEAL_WIRE_MAP) return false;
    for (uint64_t pairs = head.number; pairs > 0; pairs--) {
        if (!peal_wire_skip(&bytes, &key) || !peal_wire_skip(&bytes, &value)) return false;
        struct peal_span name = text_of(key);
        struct peal_span number = value;
        if (peal_span_is(name, "op")) *op = value;
        if (peal_span_is(name, "messages")) out->messages = value;
        if (peal_span_is(name, "req") && peal_wire_take(&number, &head) &&
            head.kind == PEAL_WIRE_UINT)
            out->req = head.number;
    }
    return bytes.size == 0;
}

enum peal_err peal_door_decode(struct peal_span bytes, struct peal_door_call *out, char *why,
                               size_t why_size)
{
    struct peal_span op = {0};
    *out = (struct peal_door_call){0};
    if (!read_map(bytes, out, &op)) {
        bool whole = peal_wire_check(bytes) == PEAL_OK;
        return refuse(PEAL_EBAD_MESSAGE, why, why_size,
                      whole ? "a call is a map" : "not one whole msgpack value");
    }
    if (op.at == NULL) return refuse(PEAL_EMISSING_FIELD, why, why_size, "field op is missing");
    if (!peal_span_is(text_of(op), "publish"))
        return refuse(PEAL_EUNKNOWN_TYPE, why, why_size, "the only op is publish");
    if (out->messages.at == NULL)
        return refuse(PEAL_EMISSING_FIELD, why, why_size, "field messages is missing");
    if (!is_list(out->messages))
        return refuse(PEAL_EBAD_MESSAGE, why, why_size, "messages must be a list of maps");
    return PEAL_OK;
}

static void pack_span(msgpack_packer *pk, struct peal_span span)
{
    msgpack_pack_str(pk, span.size);
    if (span.size > 0) msgpack_pack_str_body(pk, span.at, span.size);
}

static void pack_text(msgpack_packer *pk, const char *text)
{
    pack_span(pk, peal_span_of(text));
}

static void pack_error(msgpack_packer *pk, enum peal_err err, struct peal_span why,
                       struct peal_span field, uint64_t after_ms, struct peal_span owner)
{
    msgpack_pack_map(pk, 2 + (size_t)(field.size > 0) + (size_t)(after_ms > 0) +
                             (size_t)(owner.size > 0));
    pack_text(pk, "code");
    pack_text(pk, peal_err_word(err));
    pack_text(pk, "message");
    pack_span(pk, why);
    if (field.size > 0) {
        pack_text(pk, "field");
        pack_span(pk, field);
    }
    if (owner.size > 0) {
        pack_text(pk, "owner");
        pack_span(pk, owner);
    }
    if (after_ms > 0) {
        pack_text(pk, "after_ms");
        msgpack_pack_uint64(pk, after_ms);
    }
}

static char *put_text(char *to, struct peal_span text)
{
    if (text.size < 32)
        to = put_byte(to, 0xa0 | (unsigned)text.size);
    else if (text.size <= UINT8_MAX)
        to = put_byte(put_byte(to, 0xd9), (unsigned)text.size);
    else if (text.size <= UINT16_MAX)
        to = put_16(to, 0xda, text.size);
    else
        to = put_32(to, 0xdb, text.size);
    if (text.size > 0) memcpy(to, text.at, text.size);
    return to + text.size;
}

static char *put_word(char *to, const char *word)
{
    return put_text(to, peal_span_of(word));
}

/* As text, since some clients keep numbers as doubles. */
static char *put_hex(char *to, uint64_t number)
{
    char digits[16];
    size_t i = sizeof digits;
    do {
        digits[--i] = "0123456789abcdef"[number & 15];
        number >>= 4;
    } while (number != 0);
    return put_text(to, peal_span_make(digits + i, sizeof digits - i));
}

/* One message has one of these, so the room is reserved once for all of it. */
static void encode_good(const struct peal_frame *receipt, struct peal_buf *out)
{
    enum { REST_MAX = 100 }; /* keys, numbers and heads */
    bool duplicate = (receipt->flags & PEAL_FLAG_DUPLICATE) != 0;
    size_t room = REST_MAX + receipt->id.size + receipt->group.size;
    char *begin = peal_buf_reserve(out, room);
    if (begin == NULL) return;
    char *to = put_byte(begin, 0x80 | (duplicate ? 6 : 5));
    to = put_text(put_word(to, "id"), receipt->id);
    to = put_text(put_word(to, "group"), receipt->group);
    to = put_hex(put_word(to, "epoch"), receipt->epoch);
    to = put_u64(put_word(to, "offset"), receipt->offset);
    to = put_word(put_word(to, "ack"), receipt->flags & PEAL_FLAG_STORED ? "stored" : "routed");
    if (duplicate) to = put_byte(put_word(to, "duplicate"), 0xc3);
    PEAL_ASSERT((size_t)(to - begin) <= room);
    out->size += (size_t)(to - begin);
}

void peal_door_encode_result(const struct peal_frame *receipt, struct peal_buf *out)
{
    if (receipt->code == PEAL_OK) {
        encode_good(receipt, out);
        return;
    }
    msgpack_packer pk;
    msgpack_packer_init(&pk, out, buf_write);
    msgpack_pack_map(&pk, 1);
    pack_text(&pk, "error");
    pack_error(&pk, (enum peal_err)receipt->code, receipt->message, receipt->id, receipt->after_ms,
               receipt->group);
}

void peal_door_encode_begin(uint64_t req, size_t count, struct peal_buf *out)
{
    enum { MAX = 1 + 4 + NUMBER_MAX + 8 + COUNT_MAX };
    char *begin = peal_buf_reserve(out, MAX);
    if (begin == NULL) return;
    char *to = put_byte(begin, 0x80 | 2);
    to = put_u64(put_word(to, "req"), req);
    to = put_array(put_word(to, "results"), count);
    PEAL_ASSERT(to - begin <= MAX);
    out->size += (size_t)(to - begin);
}

void peal_door_encode(uint64_t req, const struct peal_frame *receipts, size_t count,
                      struct peal_buf *out)
{
    peal_door_encode_begin(req, count, out);
    for (size_t i = 0; i < count; i++)
        peal_door_encode_result(&receipts[i], out);
}

void peal_door_encode_error(uint64_t req, enum peal_err err, const char *why, struct peal_buf *out)
{
    msgpack_packer pk;
    msgpack_packer_init(&pk, out, buf_write);
    msgpack_pack_map(&pk, 2);
    pack_text(&pk, "req");
    msgpack_pack_uint64(&pk, req);
    pack_text(&pk, "error");
    pack_error(&pk, err, peal_span_of(why), (struct peal_span){0}, 0, (struct peal_span){0});
}

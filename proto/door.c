#include "proto/door.h"
#include "proto/value.h"

#include <msgpack.h>
#include <stdio.h>

static int buf_write(void *ctx, const char *at, size_t size)
{
    peal_buf_add(ctx, at, size);
    return 0; /* a failure is remembered by the buffer */
}

static struct peal_span text_of(const msgpack_object *object)
{
    if (object->type != MSGPACK_OBJECT_STR) return (struct peal_span){0};
    return peal_span_make(object->via.str.ptr, object->via.str.size);
}

static enum peal_err refuse(enum peal_err err, char *why, size_t why_size, const char *sentence)
{
    snprintf(why, why_size, "%s", sentence);
    return err;
}

static enum peal_err read_call(const msgpack_object *root, struct peal_door_call *out, char *why,
                               size_t why_size)
{
    if (root->type != MSGPACK_OBJECT_MAP)
        return refuse(PEAL_EBAD_MESSAGE, why, why_size, "a call is a map");
    const msgpack_object *op = NULL;
    const msgpack_object *messages = NULL;
    for (uint32_t i = 0; i < root->via.map.size; i++) {
        const msgpack_object_kv *kv = &root->via.map.ptr[i];
        struct peal_span key = text_of(&kv->key);
        if (peal_span_is(key, "op")) op = &kv->val;
        if (peal_span_is(key, "messages")) messages = &kv->val;
        if (peal_span_is(key, "req") && kv->val.type == MSGPACK_OBJECT_POSITIVE_INTEGER)
            out->req = kv->val.via.u64;
    }
    if (op == NULL) return refuse(PEAL_EMISSING_FIELD, why, why_size, "field op is missing");
    if (!peal_span_is(text_of(op), "publish"))
        return refuse(PEAL_EUNKNOWN_TYPE, why, why_size, "the only op is publish");
    if (messages == NULL)
        return refuse(PEAL_EMISSING_FIELD, why, why_size, "field messages is missing");
    if (messages->type != MSGPACK_OBJECT_ARRAY)
        return refuse(PEAL_EBAD_MESSAGE, why, why_size, "messages must be a list of maps");
    msgpack_packer pk;
    msgpack_packer_init(&pk, &out->messages, buf_write);
    msgpack_pack_object(&pk, *messages);
    if (!out->messages.failed) return PEAL_OK;
    peal_buf_fini(&out->messages);
    return refuse(PEAL_ENOMEM, why, why_size, "out of memory");
}

enum peal_err peal_door_decode(struct peal_span bytes, struct peal_door_call *out, char *why,
                               size_t why_size)
{
    *out = (struct peal_door_call){0};
    if (peal_wire_check(bytes) != PEAL_OK)
        return refuse(PEAL_EBAD_MESSAGE, why, why_size, "not one whole msgpack value");
    msgpack_unpacked result;
    msgpack_unpacked_init(&result);
    size_t used = 0;
    enum peal_err err;
    if (msgpack_unpack_next(&result, bytes.at, bytes.size, &used) == MSGPACK_UNPACK_SUCCESS)
        err = read_call(&result.data, out, why, why_size);
    else
        err = refuse(PEAL_EBAD_MESSAGE, why, why_size, "not one whole msgpack value");
    msgpack_unpacked_destroy(&result);
    return err;
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

static void pack_receipt(msgpack_packer *pk, const struct peal_frame *receipt)
{
    if (receipt->code != PEAL_OK) {
        msgpack_pack_map(pk, 1);
        pack_text(pk, "error");
        pack_error(pk, (enum peal_err)receipt->code, receipt->message, receipt->id,
                   receipt->after_ms, receipt->group);
        return;
    }
    bool duplicate = (receipt->flags & PEAL_FLAG_DUPLICATE) != 0;
    char epoch[17];
    snprintf(epoch, sizeof epoch, "%llx", (unsigned long long)receipt->epoch);
    msgpack_pack_map(pk, duplicate ? 6 : 5);
    pack_text(pk, "id");
    pack_span(pk, receipt->id);
    pack_text(pk, "group");
    pack_span(pk, receipt->group);
    pack_text(pk, "epoch");
    pack_text(pk, epoch);
    pack_text(pk, "offset");
    msgpack_pack_uint64(pk, receipt->offset);
    pack_text(pk, "ack");
    pack_text(pk, receipt->flags & PEAL_FLAG_STORED ? "stored" : "routed");
    if (!duplicate) return;
    pack_text(pk, "duplicate");
    msgpack_pack_true(pk);
}

void peal_door_encode(uint64_t req, const struct peal_frame *receipts, size_t count,
                      struct peal_buf *out)
{
    msgpack_packer pk;
    msgpack_packer_init(&pk, out, buf_write);
    msgpack_pack_map(&pk, 2);
    pack_text(&pk, "req");
    msgpack_pack_uint64(&pk, req);
    pack_text(&pk, "results");
    msgpack_pack_array(&pk, count);
    for (size_t i = 0; i < count; i++)
        pack_receipt(&pk, &receipts[i]);
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

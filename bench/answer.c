#include "bench/answer.h"

#include <msgpack.h>

static const msgpack_object *field_find(const msgpack_object *map, const char *name)
{
    if (map->type != MSGPACK_OBJECT_MAP) return NULL;
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        const msgpack_object_kv *pair = &map->via.map.ptr[i];
        if (pair->key.type == MSGPACK_OBJECT_STR &&
            peal_span_is(peal_span_make(pair->key.via.str.ptr, pair->key.via.str.size), name))
            return &pair->val;
    }
    return NULL;
}

static bool field_is(const msgpack_object *map, const char *name, const char *text)
{
    const msgpack_object *field = field_find(map, name);
    return field != NULL && field->type == MSGPACK_OBJECT_STR &&
           peal_span_is(peal_span_make(field->via.str.ptr, field->via.str.size), text);
}

/* {"req":n,"results":[receipt]}, where a receipt with `error` is a refusal, or {"req","error"}. */
static bool answer_take(const msgpack_object *map, struct peal_answer *out)
{
    const msgpack_object *req = field_find(map, "req");
    const msgpack_object *results = field_find(map, "results");
    if (req == NULL || req->type != MSGPACK_OBJECT_POSITIVE_INTEGER) return false;
    out->req = req->via.u64;
    if (results == NULL || results->type != MSGPACK_OBJECT_ARRAY || results->via.array.size != 1)
        return true;
    const msgpack_object *receipt = &results->via.array.ptr[0];
    out->taken = field_find(receipt, "error") == NULL;
    out->stored = out->taken && field_is(receipt, "ack", "stored");
    return true;
}

bool peal_answer_read(struct peal_span bytes, struct peal_answer *out)
{
    msgpack_unpacked unpacked;
    size_t offset = 0;
    *out = (struct peal_answer){0};
    msgpack_unpacked_init(&unpacked);
    bool good =
        msgpack_unpack_next(&unpacked, bytes.at, bytes.size, &offset) == MSGPACK_UNPACK_SUCCESS &&
        answer_take(&unpacked.data, out);
    msgpack_unpacked_destroy(&unpacked);
    return good;
}

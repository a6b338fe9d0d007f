/* Both encodings are reduced to struct value, a field that is a span of JSON text or of msgpack;
 * everything above that knows only fields. msgpack-c unpacks only what becomes JSON. An object's
 * common part is read once into an item, and each of its targets becomes a copy of that item with
 * its own group. A mistake inside one object stays with its items; only what makes the whole
 * request senseless or too large, and memory shortage, ends the decoding. */
#include "proto/publish.h"

#include <msgpack.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/limits.h"
#include "proto/base64.h"
#include "proto/group.h"
#include "proto/json.h"
#include "proto/json_check.h"
#include "proto/packed.h"
#include "proto/utf8.h"
#include "proto/value.h"

enum field {
    GROUP,
    USER,
    GROUPS,
    USERS,
    DATA,
    TEXT,
    DATA_BASE64,
    EVENT,
    MESSAGE_ID,
    TTL_MS,
    COLLAPSE,
    FIELDS
};

static const char *const field_names[FIELDS] = {
    [GROUP] = "group",
    [USER] = "user",
    [GROUPS] = "groups",
    [USERS] = "users",
    [DATA] = "data",
    [TEXT] = "text",
    [DATA_BASE64] = "data_base64",
    [EVENT] = "event",
    [MESSAGE_ID] = "message_id",
    [TTL_MS] = "ttl_ms",
    [COLLAPSE] = "collapse",
};

struct value {
    struct peal_span json; /* absent when packed is set; both absent: no such field */
    struct peal_span packed;
};

struct object {
    struct value fields[FIELDS];
};

struct decoder {
    const struct peal_publish_limits *limits;
    struct peal_publish_request *out;
    size_t capacity;         /* of out->items */
    uint64_t total_bytes;    /* of data, once per target */
    struct peal_buf scratch; /* one text while it is being made */
    char *why;
    size_t why_size;
};

/* ---- arena ----------------------------------------------------------------------------- */

struct chunk {
    struct chunk *next;
    size_t used;
    size_t size;
    char at[];
};

static char *arena_take(struct peal_publish_request *request, size_t size)
{
    enum { CHUNK_SIZE = 4000 };
    struct chunk *chunk = request->arena;
    if (chunk == NULL || chunk->size - chunk->used < size) {
        size_t room = size > CHUNK_SIZE ? size : CHUNK_SIZE;
        chunk = malloc(sizeof *chunk + room);
        if (chunk == NULL) return NULL;
        *chunk = (struct chunk){.next = request->arena, .size = room};
        request->arena = chunk;
    }
    char *at = chunk->at + chunk->used;
    chunk->used += size;
    return at;
}

/* Moves what is in scratch to the arena. */
static enum peal_err keep_scratch(struct decoder *d, struct peal_span *out)
{
    if (d->scratch.failed) return PEAL_ENOMEM;
    char *at = arena_take(d->out, d->scratch.size);
    if (at == NULL) return PEAL_ENOMEM;
    if (d->scratch.size > 0) memcpy(at, d->scratch.at, d->scratch.size);
    *out = peal_span_make(at, d->scratch.size);
    return PEAL_OK;
}

/* ---- errors ---------------------------------------------------------------------------- */

__attribute__((format(printf, 4, 5))) static enum peal_err refuse(struct peal_publish_item *item,
                                                                  enum peal_err err,
                                                                  const char *field,
                                                                  const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(item->why, sizeof item->why, format, args);
    va_end(args);
    snprintf(item->field, sizeof item->field, "%s", field);
    item->err = err;
    return err;
}

static enum peal_err refuse_all(struct decoder *d, enum peal_err err, const char *why)
{
    snprintf(d->why, d->why_size, "%s", why);
    return err;
}

/* ---- values of either encoding --------------------------------------------------------- */

static bool is_given(struct value value)
{
    return value.json.at != NULL || value.packed.at != NULL;
}

/* Takes the head of a value that is packed as such a one; *out is then set. */
static bool take_packed(struct value value, enum peal_wire_kind kind, struct peal_wire_value *out)
{
    struct peal_span rest = value.packed;
    return rest.at != NULL && peal_wire_take(&rest, out) && out->kind == kind;
}

static bool is_packed(struct value value, enum peal_wire_kind kind)
{
    struct peal_wire_value head;
    return take_packed(value, kind, &head);
}

static bool is_json(struct value value, enum peal_json_kind kind)
{
    return value.json.at != NULL && peal_json_kind_of(value.json) == kind;
}

static bool is_list(struct value value)
{
    return is_packed(value, PEAL_WIRE_ARRAY) || is_json(value, PEAL_JSON_ARRAY);
}

static bool is_object(struct value value)
{
    return is_packed(value, PEAL_WIRE_MAP) || is_json(value, PEAL_JSON_OBJECT);
}

/* Walks a list; *at starts at 0. */
static bool list_next(struct value list, size_t *at, struct value *element)
{
    *element = (struct value){0};
    if (list.packed.at == NULL) return peal_json_next(list.json, at, &element->json);
    struct peal_span rest = peal_span_make(list.packed.at + *at, list.packed.size - *at);
    struct peal_wire_value head;
    if (*at == 0 && !peal_wire_take(&rest, &head)) return false;
    if (!peal_wire_skip(&rest, &element->packed)) return false;
    *at = list.packed.size - rest.size;
    return true;
}

/* The characters of a string; from msgpack they are not yet known to be UTF-8. */
static enum peal_err read_text(struct decoder *d, struct peal_publish_item *item, enum field field,
                               struct value value, struct peal_span *out)
{
    struct peal_wire_value packed;
    if (take_packed(value, PEAL_WIRE_STR, &packed)) {
        *out = packed.bytes;
        return PEAL_OK;
    }
    if (!is_json(value, PEAL_JSON_STRING))
        return refuse(item, PEAL_EBAD_FIELD, field_names[field], "%s must be a string",
                      field_names[field]);
    if (memchr(value.json.at, '\\', value.json.size) == NULL) { /* nothing to unescape */
        *out = peal_span_make(value.json.at + 1, value.json.size - 2);
        return PEAL_OK;
    }
    d->scratch.size = 0;
    if (peal_json_string(value.json, &d->scratch) != PEAL_OK)
        return refuse(item, PEAL_EBAD_FIELD, field_names[field], "%s is no string",
                      field_names[field]);
    return keep_scratch(d, out);
}

/* ---- fields ---------------------------------------------------------------------------- */

/* Short texts that end up in lines of other protocols, hence without control characters. */
static enum peal_err read_label(struct decoder *d, struct peal_publish_item *item,
                                const struct object *object, enum field field, size_t size_max,
                                struct peal_span *out)
{
    _Static_assert(PEAL_EVENT_MAX <= PEAL_NAME_MAX, "labels are checked as names");
    _Static_assert(PEAL_COLLAPSE_MAX <= PEAL_NAME_MAX, "labels are checked as names");
    _Static_assert(PEAL_MESSAGE_ID_MAX <= PEAL_NAME_MAX, "labels are checked as names");
    if (!is_given(object->fields[field])) return PEAL_OK;
    enum peal_err err = read_text(d, item, field, object->fields[field], out);
    if (err != PEAL_OK) return err;
    if (out->size > size_max || peal_name_check(*out) != PEAL_OK)
        return refuse(item, PEAL_EBAD_FIELD, field_names[field],
                      "%s must be 1 to %zu bytes of UTF-8 without control characters",
                      field_names[field], size_max);
    return PEAL_OK;
}

static enum peal_err read_ttl(struct peal_publish_item *item, const struct object *object)
{
    struct value value = object->fields[TTL_MS];
    uint64_t ttl_ms = 0;
    if (!is_given(value)) return PEAL_OK;
    struct peal_wire_value packed;
    if (take_packed(value, PEAL_WIRE_UINT, &packed))
        ttl_ms = packed.number;
    else if (is_json(value, PEAL_JSON_NUMBER) && peal_json_u64(value.json, &ttl_ms) != PEAL_OK)
        ttl_ms = 0;
    if (ttl_ms == 0 || ttl_ms >= UINT64_C(1) << 53)
        return refuse(item, PEAL_EBAD_FIELD, "ttl_ms",
                      "ttl_ms must be an integer from 1 to 2^53-1");
    item->env.ttl_ms = ttl_ms;
    return PEAL_OK;
}

static enum peal_err refuse_size(struct decoder *d, struct peal_publish_item *item,
                                 enum field field)
{
    return refuse(item, PEAL_ETOO_LARGE, field_names[field], "%s has more than %llu bytes",
                  field_names[field], (unsigned long long)d->limits->message_bytes);
}

static enum peal_err read_json_data(struct decoder *d, struct peal_publish_item *item,
                                    enum field field, struct value value)
{
    struct peal_envelope *env = &item->env;
    if (field == DATA) {
        env->data_kind = PEAL_DATA_JSON;
        env->data = value.json;
        return PEAL_OK;
    }
    env->data_kind = field == TEXT ? PEAL_DATA_TEXT : PEAL_DATA_BINARY;
    enum peal_err err = read_text(d, item, field, value, &env->data);
    if (err != PEAL_OK || field == TEXT) return err;

    d->scratch.size = 0;
    err = peal_base64_decode(env->data, &d->scratch);
    if (err == PEAL_EBAD_FIELD)
        return refuse(item, err, "data_base64", "data_base64 is not base64 of RFC 4648 section 4");
    return err == PEAL_OK ? keep_scratch(d, &env->data) : err;
}

/* Writes what lies in span as JSON to d->scratch. */
static enum peal_err add_json(struct decoder *d, struct peal_span span)
{
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    size_t at = 0;
    enum peal_err err = PEAL_EBAD_FIELD;
    msgpack_unpack_return got = msgpack_unpack_next(&unpacked, span.at, span.size, &at);
    if (got == MSGPACK_UNPACK_SUCCESS)
        err = peal_packed_add_json(&d->scratch, &unpacked.data, (size_t)d->limits->message_bytes);
    else if (got == MSGPACK_UNPACK_NOMEM_ERROR)
        err = PEAL_ENOMEM;
    msgpack_unpacked_destroy(&unpacked);
    return err;
}

static enum peal_err read_packed_data(struct decoder *d, struct peal_publish_item *item,
                                      enum field field, struct value value)
{
    struct peal_envelope *env = &item->env;
    struct peal_wire_value packed;
    if (field != DATA)
        return refuse(item, PEAL_EBAD_FIELD, field_names[field],
                      "%s is for JSON; in msgpack a str or bin in data is enough",
                      field_names[field]);
    if (take_packed(value, PEAL_WIRE_STR, &packed)) {
        env->data_kind = PEAL_DATA_TEXT;
        env->data = packed.bytes;
        if (!peal_utf8_valid(env->data))
            return refuse(item, PEAL_EBAD_FIELD, "data", "data is a str but not UTF-8");
        return PEAL_OK;
    }
    if (take_packed(value, PEAL_WIRE_BIN, &packed)) {
        env->data_kind = PEAL_DATA_BINARY;
        env->data = packed.bytes;
        return PEAL_OK;
    }
    env->data_kind = PEAL_DATA_JSON;
    d->scratch.size = 0;
    enum peal_err err = add_json(d, value.packed);
    if (err == PEAL_ETOO_LARGE) return refuse_size(d, item, DATA);
    if (err == PEAL_EBAD_FIELD)
        return refuse(item, err, "data", "data holds something that JSON cannot say");
    return err == PEAL_OK ? keep_scratch(d, &env->data) : err;
}

/* Which one of the fields first..last is given; FIELDS when none is. */
static enum peal_err find_only(struct peal_publish_item *item, const struct object *object,
                               enum field first, enum field last, enum field *out)
{
    *out = FIELDS;
    for (enum field field = first; field <= last; field++) {
        if (!is_given(object->fields[field])) continue;
        if (*out != FIELDS)
            return refuse(item, PEAL_EBAD_FIELD, field_names[field], "%s and %s exclude each other",
                          field_names[*out], field_names[field]);
        *out = field;
    }
    if (*out == FIELDS)
        return refuse(item, PEAL_EMISSING_FIELD, field_names[first], "%s is missing",
                      field_names[first]);
    return PEAL_OK;
}

static enum peal_err read_data(struct decoder *d, struct peal_publish_item *item,
                               const struct object *object)
{
    enum field field;
    enum peal_err err = find_only(item, object, DATA, DATA_BASE64, &field);
    if (err != PEAL_OK) return err;
    struct value value = object->fields[field];
    err = value.packed.at == NULL ? read_json_data(d, item, field, value)
                                  : read_packed_data(d, item, field, value);
    if (err != PEAL_OK) return err;
    return item->env.data.size > d->limits->message_bytes ? refuse_size(d, item, field) : PEAL_OK;
}

/* Everything but the target. */
static enum peal_err read_common(struct decoder *d, struct peal_publish_item *item,
                                 const struct object *object)
{
    struct peal_envelope *env = &item->env;
    enum peal_err err = read_label(d, item, object, MESSAGE_ID, PEAL_MESSAGE_ID_MAX, &env->id);
    if (err == PEAL_OK) err = read_label(d, item, object, EVENT, PEAL_EVENT_MAX, &env->event);
    if (err == PEAL_OK)
        err = read_label(d, item, object, COLLAPSE, PEAL_COLLAPSE_MAX, &env->collapse);
    if (err == PEAL_OK) err = read_ttl(item, object);
    if (err == PEAL_OK) err = read_data(d, item, object);
    if (env->id.at != NULL) env->flags |= PEAL_MSG_ID_GIVEN;
    return err;
}

/* ---- targets --------------------------------------------------------------------------- */

static enum peal_err read_group(struct peal_publish_item *item, enum field field,
                                struct peal_span group)
{
    const char *name = field_names[field];
    /* A bare `user:` is a name, but it lies in the space of the inboxes and is none of them. */
    if (peal_name_check(group) != PEAL_OK || peal_span_is(group, "user:"))
        return refuse(item, PEAL_EBAD_GROUP, name,
                      "%s must name 1 to %d bytes of UTF-8 without control characters", name,
                      PEAL_NAME_MAX);
    if (peal_span_starts(group, "sys:"))
        return refuse(item, PEAL_EFORBIDDEN, name, "%s names a group that belongs to Peal", name);
    item->env.group = group;
    return PEAL_OK;
}

static enum peal_err read_user(struct decoder *d, struct peal_publish_item *item, enum field field,
                               struct peal_span user)
{
    d->scratch.size = 0;
    if (peal_group_of_user(user, &d->scratch) != PEAL_OK)
        return refuse(item, PEAL_EBAD_GROUP, field_names[field],
                      "%s must name 1 to %zu bytes of UTF-8 without control characters",
                      field_names[field], PEAL_NAME_MAX - strlen("user:"));
    return keep_scratch(d, &item->env.group);
}

/* Room for more items. One message to one group, the most frequent request, needs no memory. */
static bool grow(struct decoder *d)
{
    struct peal_publish_request *out = d->out;
    if (d->capacity == 0) {
        out->items = &out->only;
        d->capacity = 1;
        return true;
    }
    size_t capacity = d->capacity < 8 ? 8 : d->capacity * 2;
    struct peal_publish_item *old = out->items == &out->only ? NULL : out->items;
    struct peal_publish_item *items = realloc(old, capacity * sizeof *items);
    if (items == NULL) return false;
    if (old == NULL) items[0] = out->only;
    out->items = items;
    d->capacity = capacity;
    return true;
}

/* Adds a copy of common that goes to one target; value is not read when common is refused. */
static enum peal_err add_item(struct decoder *d, const struct peal_publish_item *common,
                              enum field field, struct value value)
{
    struct peal_publish_request *out = d->out;
    if (out->count >= d->limits->targets)
        return refuse_all(d, PEAL_ELIMIT, "too many targets in one request");
    d->total_bytes += common->env.data.size;
    if (d->limits->total_bytes != 0 && d->total_bytes > d->limits->total_bytes)
        return refuse_all(d, PEAL_ETOO_LARGE,
                          "data times targets is too much for one request: use several");
    if (out->count == d->capacity && !grow(d)) return PEAL_ENOMEM;
    struct peal_publish_item *item = &out->items[out->count++];
    *item = *common;
    if (item->err != PEAL_OK) return PEAL_OK;

    struct peal_span target;
    enum peal_err err = read_text(d, item, field, value, &target);
    if (err == PEAL_OK)
        err = field == USER || field == USERS ? read_user(d, item, field, target)
                                              : read_group(item, field, target);
    return err == PEAL_ENOMEM ? err : PEAL_OK;
}

static enum peal_err add_list(struct decoder *d, struct peal_publish_item *common, enum field field,
                              struct value list)
{
    size_t at = 0;
    struct value element = {0};
    bool any = is_list(list) && list_next(list, &at, &element);
    if (!any) {
        if (common->err == PEAL_OK)
            refuse(common, PEAL_EBAD_FIELD, field_names[field],
                   "%s must be a list of at least one string", field_names[field]);
        return add_item(d, common, field, element);
    }
    do {
        enum peal_err err = add_item(d, common, field, element);
        if (err != PEAL_OK) return err;
    } while (list_next(list, &at, &element));
    return PEAL_OK;
}

/* ---- objects --------------------------------------------------------------------------- */

static enum field find_field(struct peal_span name)
{
    for (enum field field = 0; field < FIELDS; field++)
        /* The first byte rules out nearly all of them. */
        if (name.size > 0 && field_names[field][0] == name.at[0] &&
            peal_span_is(name, field_names[field]))
            return field;
    return FIELDS;
}

static enum peal_err open_json(struct peal_publish_item *item, struct peal_span text,
                               struct object *object)
{
    struct peal_json json;
    if (peal_json_object(text, &json) != PEAL_OK)
        return refuse(item, PEAL_EBAD_MESSAGE, "",
                      "a message has at most %d fields, and no escapes in their names",
                      PEAL_JSON_FIELDS_MAX);
    for (size_t i = 0; i < json.count; i++) {
        enum field field = find_field(json.fields[i].name);
        if (field != FIELDS) object->fields[field].json = json.fields[i].value;
    }
    return PEAL_OK;
}

static enum peal_err open_packed(struct peal_publish_item *item, struct peal_span map,
                                 struct object *object)
{
    struct peal_wire_value head;
    struct value key = {0};
    struct peal_span value;
    peal_wire_take(&map, &head);
    while (peal_wire_skip(&map, &key.packed) && peal_wire_skip(&map, &value)) {
        if (!take_packed(key, PEAL_WIRE_STR, &head)) continue;
        enum field field = find_field(head.bytes);
        if (field == FIELDS) continue;
        /* Two readers could pick different ones; in JSON the check refuses this. */
        if (object->fields[field].packed.at != NULL)
            return refuse(item, PEAL_EBAD_FIELD, field_names[field], "%s is given twice",
                          field_names[field]);
        object->fields[field].packed = value;
    }
    return PEAL_OK;
}

static enum peal_err read_object(struct decoder *d, struct value value,
                                 struct peal_publish_item *item, struct object *object,
                                 enum field *target)
{
    if (!is_object(value))
        return refuse(item, PEAL_EBAD_MESSAGE, "", "a message must be an object");
    enum peal_err err = value.packed.at == NULL ? open_json(item, value.json, object)
                                                : open_packed(item, value.packed, object);
    if (err == PEAL_OK) err = find_only(item, object, GROUP, USERS, target);
    return err == PEAL_OK ? read_common(d, item, object) : err;
}

static enum peal_err add_object(struct decoder *d, struct value value)
{
    struct peal_publish_item common = {0};
    struct object object = {0};
    enum field target = FIELDS;
    if (read_object(d, value, &common, &object, &target) == PEAL_ENOMEM) return PEAL_ENOMEM;

    bool several = is_given(object.fields[GROUPS]) || is_given(object.fields[USERS]);
    if (several) d->out->list = true;
    struct value targets = target == FIELDS ? (struct value){0} : object.fields[target];
    if (target == GROUPS || target == USERS) return add_list(d, &common, target, targets);
    return add_item(d, &common, target, targets);
}

/* ---- requests -------------------------------------------------------------------------- */

static enum peal_err add_objects(struct decoder *d, struct value list)
{
    size_t at = 0;
    struct value element;
    d->out->list = true;
    for (size_t count = 0; list_next(list, &at, &element); count++) {
        if (count == PEAL_BATCH_MESSAGES)
            return refuse_all(d, PEAL_ETOO_LARGE, "too many messages in one request");
        enum peal_err err = add_object(d, element);
        if (err != PEAL_OK) return err;
    }
    return PEAL_OK;
}

static enum peal_err read_root(struct decoder *d, struct value root)
{
    if (is_list(root)) return add_objects(d, root);
    if (is_object(root)) return add_object(d, root);
    return refuse_all(d, PEAL_EBAD_MESSAGE, "neither a message nor a list of messages");
}

static enum peal_err read_json(struct decoder *d, struct peal_span body)
{
    enum peal_err err = peal_json_check(body, d->why, d->why_size);
    if (err != PEAL_OK) return err;
    return read_root(d, (struct value){.json = body});
}

static enum peal_err read_packed(struct decoder *d, struct peal_span body)
{
    if (body.size == 0) return refuse_all(d, PEAL_EBAD_MESSAGE, "nothing was sent");
    if (peal_wire_check(body) != PEAL_OK)
        return refuse_all(d, PEAL_EBAD_MESSAGE, "neither JSON nor one whole msgpack value");
    return read_root(d, (struct value){.packed = body});
}

/* A msgpack map or array begins with a byte above 0x7f, JSON text with one below. So blanks in
 * front of JSON are fine, and whoever sends text that is no JSON hears about JSON. */
enum peal_err peal_publish_decode(struct peal_span body, const struct peal_publish_limits *limits,
                                  struct peal_publish_request *out, char *why, size_t why_size)
{
    out->items = NULL;
    out->count = 0;
    out->list = false;
    out->arena = NULL;
    if (why == NULL) why_size = 0;
    if (why_size > 0) why[0] = '\0';
    struct decoder d = {.limits = limits, .out = out, .why = why, .why_size = why_size};
    bool json = body.size > 0 && (unsigned char)body.at[0] < 0x80;
    enum peal_err err = json ? read_json(&d, body) : read_packed(&d, body);
    peal_buf_fini(&d.scratch);
    if (err == PEAL_ENOMEM) refuse_all(&d, err, "out of memory");
    if (err != PEAL_OK) peal_publish_fini(out);
    return err;
}

void peal_publish_fini(struct peal_publish_request *request)
{
    for (struct chunk *chunk = request->arena; chunk != NULL;) {
        struct chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
    if (request->items != &request->only) free(request->items);
    request->items = NULL;
    request->count = 0;
    request->arena = NULL;
}

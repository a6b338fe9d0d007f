#include "clients/c/message.h"

#include <jansson.h>
#include <msgpack.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Large numbers are not ours to judge, hence INT_AS_REAL. Checking matters: a payload that is
 * spliced into the request unchecked could close the object and add a message to another group. */
static const size_t check_flags =
    JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL | JSON_REJECT_DUPLICATES;

static enum peal_err refuse(char *why, size_t why_size, const char *text)
{
    if (why_size > 0) snprintf(why, why_size, "%s", text);
    return PEAL_EBAD_FIELD;
}

static bool is_json(const void *data, size_t size)
{
    json_t *root = json_loadb(data, size, check_flags, NULL);
    json_decref(root);
    return root != NULL;
}

/* Not sent: the value is only made to see whether jansson takes the text. */
static bool is_utf8(const void *data, size_t size)
{
    json_t *text = json_stringn(size == 0 ? "" : data, size);
    json_decref(text);
    return text != NULL;
}

static enum peal_err message_check(const struct peal_client_message *m, char *why, size_t why_size)
{
    const char *texts[] = {m->group, m->user, m->event, m->id, m->collapse};
    if ((m->group == NULL) == (m->user == NULL))
        return refuse(why, why_size, "A message needs a group or a user, and not both.");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i] != NULL && !is_utf8(texts[i], strlen(texts[i])))
            return refuse(why, why_size, "A name in the message is not UTF-8.");
    if (m->kind == PEAL_CLIENT_JSON && !is_json(m->data, m->size))
        return refuse(why, why_size, "The data is not a JSON value.");
    if (m->kind == PEAL_CLIENT_TEXT && !is_utf8(m->data, m->size))
        return refuse(why, why_size, "The text is not UTF-8.");
    return PEAL_OK;
}

/* JSON out */

static void string_add(struct peal_buf *out, const char *at, size_t size)
{
    json_t *value = json_stringn(at, size);
    char *text = value == NULL ? NULL : json_dumps(value, JSON_ENCODE_ANY);
    json_decref(value);
    if (text == NULL)
        out->failed = true; /* it was checked, so memory is short */
    else
        peal_buf_add_text(out, text);
    free(text);
}

static void field_add(struct peal_buf *out, const char *name, const char *value)
{
    if (value == NULL) return;
    peal_buf_add_format(out, "\"%s\":", name);
    string_add(out, value, strlen(value));
    peal_buf_add_char(out, ',');
}

static void base64_add(struct peal_buf *out, const void *at, size_t size)
{
    size_t room = sodium_base64_encoded_len(size, sodium_base64_VARIANT_ORIGINAL);
    char *to = peal_buf_reserve(out, room);
    if (to == NULL) return;
    sodium_bin2base64(to, room, at, size, sodium_base64_VARIANT_ORIGINAL);
    out->size += room - 1; /* without its NUL */
}

static void data_add(struct peal_buf *out, const struct peal_client_message *m)
{
    switch (m->kind) {
    case PEAL_CLIENT_JSON:
        peal_buf_add_text(out, "\"data\":");
        peal_buf_add(out, m->data, m->size);
        return;
    case PEAL_CLIENT_TEXT:
        peal_buf_add_text(out, "\"text\":");
        string_add(out, m->size == 0 ? "" : m->data, m->size);
        return;
    case PEAL_CLIENT_BINARY:
        peal_buf_add_text(out, "\"data_base64\":\"");
        base64_add(out, m->data, m->size);
        peal_buf_add_char(out, '"');
        return;
    }
}

static void message_add(struct peal_buf *out, const struct peal_client_message *m)
{
    peal_buf_add_char(out, '{');
    field_add(out, "group", m->group);
    field_add(out, "user", m->user);
    field_add(out, "event", m->event);
    field_add(out, "message_id", m->id);
    field_add(out, "collapse", m->collapse);
    if (m->ttl_ms != 0) peal_buf_add_format(out, "\"ttl_ms\":%ju,", (uintmax_t)m->ttl_ms);
    data_add(out, m);
    peal_buf_add_char(out, '}');
}

enum peal_err peal_message_json(const struct peal_client_message *messages, size_t count,
                                struct peal_buf *out, char *why, size_t why_size)
{
    if (count != 1) peal_buf_add_char(out, '[');
    for (size_t i = 0; i < count; i++) {
        enum peal_err err = message_check(&messages[i], why, why_size);
        if (err != PEAL_OK) return err;
        if (i > 0) peal_buf_add_char(out, ',');
        message_add(out, &messages[i]);
    }
    if (count != 1) peal_buf_add_char(out, ']');
    return out->failed ? PEAL_ENOMEM : PEAL_OK;
}

enum peal_err peal_message_hello(const struct peal_client_feed *feed, struct peal_buf *out)
{
    if (feed->device != NULL && !is_utf8(feed->device, strlen(feed->device)))
        return PEAL_EBAD_FIELD;
    peal_buf_add_text(out, "{\"type\":\"hello\",\"id\":1,");
    field_add(out, "device", feed->device);
    peal_buf_add_text(out, "\"groups\":[");
    for (size_t i = 0; i < feed->group_count; i++) {
        size_t size = strlen(feed->groups[i]);
        if (!is_utf8(feed->groups[i], size)) return PEAL_EBAD_FIELD;
        if (i > 0) peal_buf_add_char(out, ',');
        string_add(out, feed->groups[i], size);
    }
    peal_buf_add_text(out, "]}");
    return out->failed ? PEAL_ENOMEM : PEAL_OK;
}

/* msgpack out */

static int buf_write(void *data, const char *at, size_t size)
{
    struct peal_buf *out = data;
    peal_buf_add(out, at, size);
    return out->failed ? -1 : 0;
}

static void str_pack(msgpack_packer *to, const char *at, size_t size)
{
    msgpack_pack_str(to, size);
    msgpack_pack_str_body(to, at, size);
}

static void pair_pack(msgpack_packer *to, const char *name, const char *value)
{
    if (value == NULL) return;
    str_pack(to, name, strlen(name));
    str_pack(to, value, strlen(value));
}

/* Nesting is bounded by jansson, which has parsed the value (2,048). */
static void value_pack(msgpack_packer *to, json_t *value)
{
    const char *name;
    json_t *member;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        msgpack_pack_map(to, json_object_size(value));
        json_object_foreach(value, name, member)
        {
            str_pack(to, name, strlen(name));
            value_pack(to, member);
        }
        return;
    case JSON_ARRAY:
        msgpack_pack_array(to, json_array_size(value));
        for (size_t i = 0; i < json_array_size(value); i++)
            value_pack(to, json_array_get(value, i));
        return;
    case JSON_STRING:
        str_pack(to, json_string_value(value), json_string_length(value));
        return;
    case JSON_INTEGER:
        msgpack_pack_int64(to, json_integer_value(value));
        return;
    case JSON_REAL:
        msgpack_pack_double(to, json_real_value(value));
        return;
    case JSON_TRUE:
        msgpack_pack_true(to);
        return;
    case JSON_FALSE:
        msgpack_pack_false(to);
        return;
    case JSON_NULL:
        msgpack_pack_nil(to);
        return;
    }
}

static enum peal_err data_pack(msgpack_packer *to, const struct peal_client_message *m, char *why,
                               size_t why_size)
{
    str_pack(to, "data", 4);
    if (m->kind == PEAL_CLIENT_TEXT) {
        str_pack(to, m->data, m->size);
        return PEAL_OK;
    }
    if (m->kind == PEAL_CLIENT_BINARY) {
        msgpack_pack_bin(to, m->size);
        msgpack_pack_bin_body(to, m->data, m->size);
        return PEAL_OK;
    }
    enum peal_err err = PEAL_OK;
    json_t *value = json_loadb(m->data, m->size,
                               JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
    if (value == NULL)
        err = refuse(why, why_size, "The data has a number that msgpack cannot hold.");
    else if (json_is_string(value))
        err = refuse(why, why_size, "A JSON string cannot pass this door; send it as text.");
    else
        value_pack(to, value);
    json_decref(value);
    return err;
}

static enum peal_err message_pack(msgpack_packer *to, const struct peal_client_message *m,
                                  char *why, size_t why_size)
{
    size_t fields = 2; /* target and data */
    if (m->event != NULL) fields++;
    if (m->id != NULL) fields++;
    if (m->collapse != NULL) fields++;
    if (m->ttl_ms != 0) fields++;
    msgpack_pack_map(to, fields);
    pair_pack(to, "group", m->group);
    pair_pack(to, "user", m->user);
    pair_pack(to, "event", m->event);
    pair_pack(to, "message_id", m->id);
    pair_pack(to, "collapse", m->collapse);
    if (m->ttl_ms != 0) {
        str_pack(to, "ttl_ms", 6);
        msgpack_pack_uint64(to, m->ttl_ms);
    }
    return data_pack(to, m, why, why_size);
}

enum peal_err peal_message_request(const struct peal_client_message *messages, size_t count,
                                   uint64_t req, struct peal_buf *out, char *why, size_t why_size)
{
    msgpack_packer to;
    msgpack_packer_init(&to, out, buf_write);
    msgpack_pack_map(&to, 3);
    pair_pack(&to, "op", "publish");
    str_pack(&to, "req", 3);
    msgpack_pack_uint64(&to, req);
    str_pack(&to, "messages", 8);
    msgpack_pack_array(&to, count);
    for (size_t i = 0; i < count; i++) {
        enum peal_err err = message_check(&messages[i], why, why_size);
        if (err == PEAL_OK) err = message_pack(&to, &messages[i], why, why_size);
        if (err != PEAL_OK) return err;
    }
    return out->failed ? PEAL_ENOMEM : PEAL_OK;
}

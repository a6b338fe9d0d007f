#include "clients/c/unpack.h"

#include <jansson.h>
#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

/* Rendered in one pass over the bytes instead of with msgpack-c's unpacker, which allocates by
 * the counts that the input declares. Here a count only ends a loop, and every turn of it eats
 * at least one byte. */

struct reader {
    const unsigned char *at;
    size_t left;
    struct peal_buf *out;
};

static bool value_render(struct reader *r, int depth);

static bool take(struct reader *r, size_t size, const unsigned char **at)
{
    if (size > r->left) return false;
    *at = r->at;
    r->at += size;
    r->left -= size;
    return true;
}

/* A big-endian number of 1, 2, 4 or 8 bytes. */
static bool take_uint(struct reader *r, size_t size, uint64_t *number)
{
    const unsigned char *at;
    if (!take(r, size, &at)) return false;
    *number = 0;
    for (size_t i = 0; i < size; i++)
        *number = *number << 8 | at[i];
    return true;
}

static bool uint_render(struct reader *r, size_t size)
{
    uint64_t number;
    if (!take_uint(r, size, &number)) return false;
    peal_buf_add_u64(r->out, number);
    return true;
}

static bool int_render(struct reader *r, size_t size)
{
    uint64_t number;
    if (!take_uint(r, size, &number)) return false;
    uint64_t sign = UINT64_C(1) << (size * 8 - 1);
    if ((number & sign) == 0) {
        peal_buf_add_u64(r->out, number);
        return true;
    }
    /* The magnitude of a two's complement number; also right for the smallest one. */
    peal_buf_add_char(r->out, '-');
    peal_buf_add_u64(r->out, (~number & (sign - 1)) + 1);
    return true;
}

static bool float_render(struct reader *r, size_t size)
{
    uint64_t bits;
    double number;
    if (!take_uint(r, size, &bits)) return false;
    if (size == 4) {
        uint32_t small_bits = (uint32_t)bits;
        float small;
        memcpy(&small, &small_bits, sizeof small);
        number = (double)small;
    } else {
        memcpy(&number, &bits, sizeof number);
    }
    if (isfinite(number))
        peal_buf_add_format(r->out, "%.17g", number);
    else
        peal_buf_add_text(r->out, "null");
    return true;
}

static bool str_render(struct reader *r, uint64_t size)
{
    const unsigned char *at;
    if (size > r->left || !take(r, (size_t)size, &at)) return false;
    json_t *text = json_stringn((const char *)at, (size_t)size);
    if (text == NULL) return false;
    char *quoted = json_dumps(text, JSON_ENCODE_ANY);
    json_decref(text);
    if (quoted == NULL)
        r->out->failed = true;
    else
        peal_buf_add_text(r->out, quoted);
    free(quoted);
    return true;
}

static bool bin_render(struct reader *r, size_t length_size)
{
    uint64_t size;
    const unsigned char *at;
    if (!take_uint(r, length_size, &size)) return false;
    if (size > r->left || !take(r, (size_t)size, &at)) return false;
    size_t room = sodium_base64_encoded_len((size_t)size, sodium_base64_VARIANT_ORIGINAL);
    peal_buf_add_char(r->out, '"');
    char *to = peal_buf_reserve(r->out, room);
    if (to != NULL) {
        sodium_bin2base64(to, room, at, (size_t)size, sodium_base64_VARIANT_ORIGINAL);
        r->out->size += room - 1; /* without its NUL */
    }
    peal_buf_add_char(r->out, '"');
    return true;
}

static bool is_str(unsigned char type)
{
    return (type & 0xe0) == 0xa0 || type == 0xd9 || type == 0xda || type == 0xdb;
}

static bool array_render(struct reader *r, uint64_t count, int depth)
{
    peal_buf_add_char(r->out, '[');
    for (uint64_t i = 0; i < count; i++) {
        if (i > 0) peal_buf_add_char(r->out, ',');
        if (!value_render(r, depth + 1)) return false;
    }
    peal_buf_add_char(r->out, ']');
    return true;
}

static bool map_render(struct reader *r, uint64_t count, int depth)
{
    peal_buf_add_char(r->out, '{');
    for (uint64_t i = 0; i < count; i++) {
        if (i > 0) peal_buf_add_char(r->out, ',');
        if (r->left == 0 || !is_str(*r->at)) return false;
        if (!value_render(r, depth + 1)) return false;
        peal_buf_add_char(r->out, ':');
        if (!value_render(r, depth + 1)) return false;
    }
    peal_buf_add_char(r->out, '}');
    return true;
}

/* Types 0xc0..0xdf, where the type does not hold the value or the count itself. */
static bool long_render(struct reader *r, unsigned char type, int depth)
{
    uint64_t count;
    switch (type) {
    case 0xc0:
        peal_buf_add_text(r->out, "null");
        return true;
    case 0xc2:
        peal_buf_add_text(r->out, "false");
        return true;
    case 0xc3:
        peal_buf_add_text(r->out, "true");
        return true;
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return bin_render(r, (size_t)1 << (type - 0xc4));
    case 0xca:
        return float_render(r, 4);
    case 0xcb:
        return float_render(r, 8);
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        return uint_render(r, (size_t)1 << (type - 0xcc));
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return int_render(r, (size_t)1 << (type - 0xd0));
    case 0xd9:
    case 0xda:
    case 0xdb:
        return take_uint(r, (size_t)1 << (type - 0xd9), &count) && str_render(r, count);
    case 0xdc:
    case 0xdd:
        return take_uint(r, (size_t)2 << (type - 0xdc), &count) && array_render(r, count, depth);
    case 0xde:
    case 0xdf:
        return take_uint(r, (size_t)2 << (type - 0xde), &count) && map_render(r, count, depth);
    default:
        return false; /* 0xc1, and the extension types, which Peal does not use */
    }
}

static bool value_render(struct reader *r, int depth)
{
    const unsigned char *type;
    if (r->out->failed || depth > PEAL_WIRE_DEPTH || !take(r, 1, &type)) return false;
    if (*type < 0x80) {
        peal_buf_add_u64(r->out, *type);
        return true;
    }
    if (*type >= 0xe0) {
        peal_buf_add_format(r->out, "%d", *type - 0x100);
        return true;
    }
    if (*type < 0x90) return map_render(r, *type & 0x0f, depth);
    if (*type < 0xa0) return array_render(r, *type & 0x0f, depth);
    if (*type < 0xc0) return str_render(r, *type & 0x1f);
    return long_render(r, *type, depth);
}

enum peal_err peal_unpack_json(struct peal_span bytes, struct peal_buf *out)
{
    struct reader r = {(const unsigned char *)bytes.at, bytes.size, out};
    bool whole = value_render(&r, 1) && r.left == 0;
    if (out->failed) return PEAL_ENOMEM;
    return whole ? PEAL_OK : PEAL_EBAD_MESSAGE;
}

static int status_of_word(const char *word)
{
    for (int err = 0; err < PEAL_ERR_COUNT; err++)
        if (strcmp(peal_err_word((enum peal_err)err), word) == 0)
            return peal_err_http((enum peal_err)err);
    return peal_err_http(PEAL_EINTERNAL); /* a newer server knows more words */
}

/* Status of {"error": {"code": ...}}, 200 for another object, 0 for something else. */
static int status_of_result(const json_t *result)
{
    if (!json_is_object(result)) return 0;
    const json_t *error = json_object_get(result, "error");
    if (error == NULL) return 200;
    const char *word = json_string_value(json_object_get(error, "code"));
    return word == NULL ? 0 : status_of_word(word);
}

/* 200 when one result is a receipt, else the first error's status; 0 for something else. */
static int status_of_results(const json_t *results)
{
    int status = 0;
    for (size_t i = 0; i < json_array_size(results); i++) {
        int one = status_of_result(json_array_get(results, i));
        if (one == 0) return 0;
        if (one == 200 || status == 0) status = one;
    }
    return status;
}

/* Appends `before`, the value, `after`. */
static enum peal_err body_set(const char *before, const json_t *value, const char *after,
                              struct peal_client_answer *answer)
{
    char *text = json_dumps(value, JSON_COMPACT);
    if (text == NULL) return PEAL_ENOMEM;
    peal_buf_add_text(&answer->body, before);
    peal_buf_add_text(&answer->body, text);
    peal_buf_add_text(&answer->body, after);
    free(text);
    return answer->body.failed ? PEAL_ENOMEM : PEAL_OK;
}

/* A call that failed as a whole has {req, error} for an answer. */
static enum peal_err answer_read(const json_t *root, uint64_t req, size_t count, bool *match,
                                 struct peal_client_answer *answer)
{
    const json_t *echo = json_object_get(root, "req");
    const json_t *error = json_object_get(root, "error");
    const json_t *results = json_object_get(root, "results");
    if (!json_is_integer(echo)) return PEAL_EBAD_MESSAGE;
    *match = (uint64_t)json_integer_value(echo) == req;
    if (!*match) return PEAL_OK;
    bool counted = error != NULL || json_array_size(results) == count;
    int status = error == NULL ? status_of_results(results) : status_of_result(root);
    if (!counted || status == 0) return PEAL_EBAD_MESSAGE;
    answer->status = status;
    if (error != NULL) return body_set("{\"error\":", error, "}", answer);
    if (count == 1) return body_set("", json_array_get(results, 0), "", answer);
    return body_set("{\"results\":", results, "}", answer);
}

enum peal_err peal_unpack_answer(struct peal_span bytes, uint64_t req, size_t count, bool *match,
                                 struct peal_client_answer *answer)
{
    struct peal_buf text = {0};
    *match = false;
    enum peal_err err = peal_unpack_json(bytes, &text);
    if (err == PEAL_OK) {
        json_t *root =
            json_loadb(text.at, text.size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
        err = root == NULL ? PEAL_EBAD_MESSAGE : answer_read(root, req, count, match, answer);
        json_decref(root);
    }
    peal_buf_fini(&text);
    return err;
}

#include "proto/packed.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/json_write.h"
#include "proto/utf8.h"

static struct peal_span str_span(const msgpack_object *str)
{
    return peal_span_make(str->via.str.ptr, str->via.str.size);
}

static int name_compare(const void *left, const void *right)
{
    struct peal_span a = str_span(*(const msgpack_object *const *)left);
    struct peal_span b = str_span(*(const msgpack_object *const *)right);
    if (a.size != b.size) return a.size < b.size ? -1 : 1;
    return a.size == 0 ? 0 : memcmp(a.at, b.at, a.size);
}

/* All names are str and differ. Sorted, because a map may have as many as fit in a body. */
static enum peal_err check_names(const msgpack_object_map *map)
{
    enum { SMALL = 32 };
    const msgpack_object *small[SMALL];
    const msgpack_object **names = small;
    enum peal_err err = PEAL_OK;
    if (map->size > SMALL) {
        names = malloc(map->size * sizeof(*names));
        if (names == NULL) return PEAL_ENOMEM;
    }
    for (uint32_t i = 0; i < map->size && err == PEAL_OK; i++) {
        names[i] = &map->ptr[i].key;
        if (names[i]->type != MSGPACK_OBJECT_STR) err = PEAL_EBAD_FIELD;
    }
    if (err == PEAL_OK && map->size > 1) {
        qsort(names, map->size, sizeof(*names), name_compare);
        for (uint32_t i = 1; i < map->size; i++)
            if (name_compare(&names[i - 1], &names[i]) == 0) err = PEAL_EBAD_FIELD;
    }
    if (names != small) free(names);
    return err;
}

/* Fifteen digits are the fewest for whatever can be said with fifteen; seventeen are enough for
 * every double. Below DBL_MIN doubles have fewer bits, so there one digit may do. */
static enum peal_err add_double(struct peal_buf *out, double number)
{
    char text[40];
    if (!isfinite(number)) return PEAL_EBAD_FIELD;
    for (int digits = fabs(number) < DBL_MIN ? 1 : DBL_DIG; digits <= DBL_DECIMAL_DIG; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, number);
        if (strtod(text, NULL) == number) break;
    }
    peal_buf_add_text(out, text);
    return PEAL_OK;
}

/* An escape makes six bytes of one at most. */
static enum peal_err add_text(struct peal_buf *out, struct peal_span text, size_t size_max)
{
    if (text.size > size_max) return PEAL_ETOO_LARGE;
    if (!peal_utf8_valid(text)) return PEAL_EBAD_FIELD;
    peal_json_add_string(out, text);
    return PEAL_OK;
}

static enum peal_err add_bin(struct peal_buf *out, const msgpack_object_bin *bin, size_t size_max)
{
    if (bin->size > size_max) return PEAL_ETOO_LARGE;
    peal_json_add_base64(out, peal_span_make(bin->ptr, bin->size));
    return PEAL_OK;
}

static enum peal_err add_array(struct peal_buf *out, const msgpack_object_array *array,
                               size_t size_max)
{
    peal_buf_add_char(out, '[');
    for (uint32_t i = 0; i < array->size; i++) {
        if (i > 0) peal_buf_add_char(out, ',');
        enum peal_err err = peal_packed_add_json(out, &array->ptr[i], size_max);
        if (err != PEAL_OK) return err;
    }
    peal_buf_add_char(out, ']');
    return PEAL_OK;
}

static enum peal_err add_map(struct peal_buf *out, const msgpack_object_map *map, size_t size_max)
{
    enum peal_err err = check_names(map);
    peal_buf_add_char(out, '{');
    for (uint32_t i = 0; i < map->size && err == PEAL_OK; i++) {
        struct peal_span name = str_span(&map->ptr[i].key);
        /* jansson refuses a NUL in a name, so the other door does as well. */
        if (name.size > 0 && memchr(name.at, '\0', name.size) != NULL) return PEAL_EBAD_FIELD;
        if (i > 0) peal_buf_add_char(out, ',');
        err = add_text(out, name, size_max);
        if (err != PEAL_OK) return err;
        peal_buf_add_char(out, ':');
        err = peal_packed_add_json(out, &map->ptr[i].val, size_max);
    }
    peal_buf_add_char(out, '}');
    return err;
}

static enum peal_err add_value(struct peal_buf *out, const msgpack_object *value, size_t size_max)
{
    switch (value->type) {
    case MSGPACK_OBJECT_NIL:
        peal_buf_add_text(out, "null");
        return PEAL_OK;
    case MSGPACK_OBJECT_BOOLEAN:
        peal_buf_add_text(out, value->via.boolean ? "true" : "false");
        return PEAL_OK;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        peal_buf_add_u64(out, value->via.u64);
        return PEAL_OK;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        peal_buf_add_format(out, "%" PRId64, value->via.i64);
        return PEAL_OK;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        return add_double(out, value->via.f64);
    case MSGPACK_OBJECT_STR:
        return add_text(out, str_span(value), size_max);
    case MSGPACK_OBJECT_BIN:
        return add_bin(out, &value->via.bin, size_max);
    case MSGPACK_OBJECT_ARRAY:
        return add_array(out, &value->via.array, size_max);
    case MSGPACK_OBJECT_MAP:
        return add_map(out, &value->via.map, size_max);
    case MSGPACK_OBJECT_EXT:
        return PEAL_EBAD_FIELD;
    }
    return PEAL_EBAD_FIELD;
}

enum peal_err peal_packed_add_json(struct peal_buf *out, const struct msgpack_object *value,
                                   size_t size_max)
{
    enum peal_err err = add_value(out, value, size_max);
    if (err != PEAL_OK) return err;
    if (out->failed) return PEAL_ENOMEM;
    return out->size > size_max ? PEAL_ETOO_LARGE : PEAL_OK;
}

/* Input: any bytes. What the check accepts is walked to the last leaf and rebuilt from its spans;
 * what it refuses must at least not be read beyond. What the appender writes, jansson must read
 * as the same bytes. */
#include <jansson.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/limits.h"
#include "proto/base64.h"
#include "proto/json.h"
#include "proto/json_check.h"
#include "proto/json_write.h"
#include "proto/utf8.h"

static void check_inside(struct peal_span outer, struct peal_span inner)
{
    PEAL_ASSERT(inner.at >= outer.at);
    PEAL_ASSERT(inner.at + inner.size <= outer.at + outer.size);
}

static void walk(struct peal_span value, bool checked, size_t depth);

/* A part of checked text is itself JSON; only its numbers and names were looked at in context. */
static void walk_part(struct peal_span outer, struct peal_span part, bool checked, size_t depth)
{
    check_inside(outer, part);
    if (checked) PEAL_ASSERT(peal_json_check(part, NULL, 0) == PEAL_OK);
    if (checked || depth < PEAL_JSON_DEPTH) walk(part, checked, depth + 1);
}

static void check_string(struct peal_span value, bool checked)
{
    struct peal_buf text = {0};
    enum peal_err err = peal_json_string(value, &text);
    if (err != PEAL_OK) PEAL_ASSERT(text.size == 0);
    if (checked) PEAL_ASSERT((err == PEAL_OK) == (peal_json_kind_of(value) == PEAL_JSON_STRING));
    if (checked && err == PEAL_OK) PEAL_ASSERT(peal_utf8_valid(peal_buf_span(&text)));
    peal_buf_fini(&text);
}

static void check_scalars(struct peal_span value)
{
    uint64_t number;
    bool truth;
    if (peal_json_u64(value, &number) == PEAL_OK) {
        struct peal_buf again = {0};
        PEAL_ASSERT(number < UINT64_C(1) << 53);
        peal_buf_add_u64(&again, number);
        PEAL_ASSERT(again.size <= value.size);
        peal_buf_fini(&again);
        PEAL_ASSERT(peal_json_kind_of(value) == PEAL_JSON_NUMBER);
    }
    if (peal_json_bool(value, &truth) == PEAL_OK)
        PEAL_ASSERT(peal_json_kind_of(value) == PEAL_JSON_BOOL);
}

static void walk(struct peal_span value, bool checked, size_t depth)
{
    struct peal_json json;
    if (peal_json_object(value, &json) == PEAL_OK) {
        PEAL_ASSERT(peal_json_kind_of(value) == PEAL_JSON_OBJECT);
        for (size_t i = 0; i < json.count; i++) {
            check_inside(value, json.fields[i].name);
            walk_part(value, json.fields[i].value, checked, depth);
            PEAL_ASSERT(json.fields[i].kind == peal_json_kind_of(json.fields[i].value));
        }
    }
    size_t at = 0;
    size_t before = 0;
    struct peal_span element;
    while (peal_json_next(value, &at, &element)) {
        PEAL_ASSERT(at > before); /* or it would never end */
        before = at;
        walk_part(value, element, checked, depth);
    }
    check_string(value, checked);
    check_scalars(value);
}

static void check_appender(struct peal_span text)
{
    struct peal_buf json = {0};
    peal_json_add_string(&json, text);
    json_t *read = json_loadb(json.at, json.size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    PEAL_ASSERT((read != NULL) == peal_utf8_valid(text));
    if (read != NULL) {
        PEAL_ASSERT(json_string_length(read) == text.size);
        PEAL_ASSERT(text.size == 0 || memcmp(json_string_value(read), text.at, text.size) == 0);
        struct peal_buf again = {0};
        PEAL_ASSERT(peal_json_string(peal_buf_span(&json), &again) == PEAL_OK);
        PEAL_ASSERT(peal_span_equal(peal_buf_span(&again), text));
        peal_buf_fini(&again);
    }
    json_decref(read);
    peal_buf_fini(&json);
}

static void check_base64(struct peal_span bytes)
{
    struct peal_buf json = {0};
    struct peal_buf again = {0};
    peal_json_add_base64(&json, bytes);
    PEAL_ASSERT(peal_base64_decode(peal_span_make(json.at + 1, json.size - 2), &again) == PEAL_OK);
    PEAL_ASSERT(peal_span_equal(peal_buf_span(&again), bytes));
    /* The other way: what is accepted has just one form. */
    again.size = 0;
    json.size = 0;
    if (peal_base64_decode(bytes, &again) == PEAL_OK) {
        peal_json_add_base64(&json, peal_buf_span(&again));
        PEAL_ASSERT(peal_span_equal(peal_span_make(json.at + 1, json.size - 2), bytes));
    }
    peal_buf_fini(&again);
    peal_buf_fini(&json);
}

/* jansson's own answer, where it can have one: it has none for numbers beyond a double. */
static void check_against_jansson(struct peal_span text, bool checked)
{
    json_error_t error;
    json_t *json = json_loadb(text.at, text.size,
                              JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL |
                                  JSON_DECODE_INT_AS_REAL,
                              &error);
    if (checked && json == NULL)
        PEAL_ASSERT(json_error_code(&error) == json_error_numeric_overflow);
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct peal_span text = peal_span_make(size == 0 ? (const uint8_t *)"" : data, size);
    char why[80] = "";
    enum peal_err err = peal_json_check(text, why, sizeof why);
    PEAL_ASSERT(err == PEAL_OK || err == PEAL_EBAD_JSON);
    PEAL_ASSERT((err == PEAL_OK) == (why[0] == '\0'));
    check_against_jansson(text, err == PEAL_OK);
    walk(text, err == PEAL_OK, 0);
    check_appender(text);
    check_base64(text);
    return 0;
}

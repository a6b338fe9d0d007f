/* A scanner that walks text already known to be JSON and hands out spans of it. It stays inside its
 * span for any bytes at all: a caller that forgets to check gets nonsense, not a read beyond the
 * end. */
#include "proto/json.h"

#include <string.h>

#include "proto/json_scan.h"

/* ---- scanner --------------------------------------------------------------------------- */

static size_t skip_container(struct peal_span text, size_t at)
{
    size_t depth = 0;
    while (at < text.size) {
        char c = text.at[at];
        if (c == '"') {
            at = peal_json_skip_string(text, at);
            continue;
        }
        at++;
        if (c == '[' || c == '{') depth++;
        if ((c == ']' || c == '}') && --depth == 0) return at;
    }
    return text.size;
}

/* From the first byte of a value to behind its last one. */
static size_t skip_value(struct peal_span text, size_t at)
{
    if (at >= text.size) return text.size;
    char c = text.at[at];
    if (c == '"') return peal_json_skip_string(text, at);
    if (c == '[' || c == '{') return skip_container(text, at);
    while (at < text.size && !peal_json_is_blank(text.at[at]) &&
           strchr(",:]}", text.at[at]) == NULL)
        at++;
    return at;
}

static struct peal_span trim(struct peal_span text)
{
    size_t from = peal_json_skip_blanks(text, 0);
    size_t to = text.size;
    while (to > from && peal_json_is_blank(text.at[to - 1]))
        to--;
    return peal_span_make(text.at + from, to - from);
}

enum peal_json_kind peal_json_kind_of(struct peal_span value)
{
    size_t at = peal_json_skip_blanks(value, 0);
    if (at == value.size) return PEAL_JSON_ABSENT;
    switch (value.at[at]) {
    case 'n':
        return PEAL_JSON_NULL;
    case 't':
    case 'f':
        return PEAL_JSON_BOOL;
    case '"':
        return PEAL_JSON_STRING;
    case '[':
        return PEAL_JSON_ARRAY;
    case '{':
        return PEAL_JSON_OBJECT;
    default:
        return PEAL_JSON_NUMBER;
    }
}

/* ---- fields and elements --------------------------------------------------------------- */

/* Reads `"name": value`; at stands on the quote and ends behind the value. */
static enum peal_err read_field(struct peal_span text, size_t *at, struct peal_json_field *out)
{
    if (*at >= text.size || text.at[*at] != '"') return PEAL_EBAD_MESSAGE;
    size_t end = peal_json_skip_string(text, *at);
    if (end < *at + 2) return PEAL_EBAD_MESSAGE;
    out->name = peal_span_make(text.at + *at + 1, end - *at - 2);
    if (memchr(out->name.at, '\\', out->name.size) != NULL) return PEAL_EBAD_MESSAGE;

    size_t value = peal_json_skip_blanks(text, end);
    if (value >= text.size || text.at[value] != ':') return PEAL_EBAD_MESSAGE;
    value = peal_json_skip_blanks(text, value + 1);
    *at = skip_value(text, value);
    out->value = peal_span_make(text.at + value, *at - value);
    out->kind = peal_json_kind_of(out->value);
    return PEAL_OK;
}

enum peal_err peal_json_object(struct peal_span checked, struct peal_json *out)
{
    out->count = 0;
    if (peal_json_kind_of(checked) != PEAL_JSON_OBJECT) return PEAL_EBAD_MESSAGE;
    size_t at = peal_json_skip_blanks(checked, peal_json_skip_blanks(checked, 0) + 1);
    size_t count = 0;
    while (at < checked.size && checked.at[at] != '}') {
        if (count == PEAL_JSON_FIELDS_MAX) return PEAL_EBAD_MESSAGE;
        enum peal_err err = read_field(checked, &at, &out->fields[count]);
        if (err != PEAL_OK) return err;
        count++;
        at = peal_json_skip_blanks(checked, at);
        if (at < checked.size && checked.at[at] == ',') at = peal_json_skip_blanks(checked, at + 1);
    }
    out->count = count;
    return PEAL_OK;
}

const struct peal_json_field *peal_json_get(const struct peal_json *json, const char *name)
{
    for (size_t i = 0; i < json->count; i++)
        if (peal_span_is(json->fields[i].name, name)) return &json->fields[i];
    return NULL;
}

bool peal_json_next(struct peal_span checked, size_t *at, struct peal_span *element)
{
    size_t from = peal_json_skip_blanks(checked, *at);
    if (*at == 0) {
        if (from == checked.size || checked.at[from] != '[') return false;
        from = peal_json_skip_blanks(checked, from + 1);
    } else if (from < checked.size && checked.at[from] == ',') {
        from = peal_json_skip_blanks(checked, from + 1);
    }
    if (from >= checked.size || checked.at[from] == ']') {
        *at = from;
        return false;
    }
    size_t end = skip_value(checked, from);
    if (end == from) return false;
    *element = peal_span_make(checked.at + from, end - from);
    *at = end;
    return true;
}

bool peal_json_next_field(struct peal_span checked, size_t *at, struct peal_span *name,
                          struct peal_span *value)
{
    size_t from = peal_json_skip_blanks(checked, *at);
    if (*at == 0) {
        if (from == checked.size || checked.at[from] != '{') return false;
        from = peal_json_skip_blanks(checked, from + 1);
    } else if (from < checked.size && checked.at[from] == ',') {
        from = peal_json_skip_blanks(checked, from + 1);
    }
    if (from >= checked.size || checked.at[from] != '"') {
        *at = from;
        return false;
    }
    size_t end = skip_value(checked, from);
    size_t colon = peal_json_skip_blanks(checked, end);
    if (end == from || colon >= checked.size || checked.at[colon] != ':') return false;
    size_t start = peal_json_skip_blanks(checked, colon + 1);
    size_t stop = skip_value(checked, start);
    if (stop == start) return false;
    *name = peal_span_make(checked.at + from, end - from);
    *value = peal_span_make(checked.at + start, stop - start);
    *at = stop;
    return true;
}

/* ---- values ---------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Reads `uXXXX` at `at`; -1 when that is not there. */
static int32_t read_unit(struct peal_span text, size_t at)
{
    if (at >= text.size || text.size - at < 5 || text.at[at] != 'u') return -1;
    int32_t unit = 0;
    for (size_t i = at + 1; i < at + 5; i++) {
        int digit = hex_digit(text.at[i]);
        if (digit < 0) return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

/* Reads the character whose `u` is at *at and moves *at behind its last digit; -1: malformed. */
static int32_t read_unicode_escape(struct peal_span text, size_t *at)
{
    int32_t unit = read_unit(text, *at);
    if (unit < 0 || (unit >= 0xdc00 && unit <= 0xdfff)) return -1;
    *at += 5;
    if (unit < 0xd800 || unit > 0xdbff) return unit;
    if (*at >= text.size || text.at[*at] != '\\') return -1;
    int32_t low = read_unit(text, *at + 1);
    if (low < 0xdc00 || low > 0xdfff) return -1;
    *at += 6;
    return 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
}

static void add_utf8(struct peal_buf *out, uint32_t c)
{
    char bytes[4];
    size_t size = 0;
    if (c < 0x80) {
        bytes[size++] = (char)c;
    } else if (c < 0x800) {
        bytes[size++] = (char)(0xc0 | c >> 6);
    } else if (c < 0x10000) {
        bytes[size++] = (char)(0xe0 | c >> 12);
        bytes[size++] = (char)(0x80 | (c >> 6 & 0x3f));
    } else {
        bytes[size++] = (char)(0xf0 | c >> 18);
        bytes[size++] = (char)(0x80 | (c >> 12 & 0x3f));
        bytes[size++] = (char)(0x80 | (c >> 6 & 0x3f));
    }
    if (c >= 0x80) bytes[size++] = (char)(0x80 | (c & 0x3f));
    peal_buf_add(out, bytes, size);
}

/* Reads what follows the backslash before *at and moves *at behind it. */
static bool read_escape(struct peal_span text, size_t *at, struct peal_buf *out)
{
    static const char names[] = "\"\\/bfnrt";
    static const char meant[] = "\"\\/\b\f\n\r\t";
    if (*at >= text.size) return false;
    const char *name = memchr(names, text.at[*at], sizeof names - 1);
    if (name != NULL) {
        peal_buf_add_char(out, meant[name - names]);
        (*at)++;
        return true;
    }
    int32_t c = read_unicode_escape(text, at);
    if (c < 0) return false;
    add_utf8(out, (uint32_t)c);
    return true;
}

static bool add_unescaped(struct peal_span inside, struct peal_buf *out)
{
    for (size_t at = 0; at < inside.size;) {
        const char *run = inside.at + at;
        const char *backslash = memchr(run, '\\', inside.size - at);
        size_t plain = backslash == NULL ? inside.size - at : (size_t)(backslash - run);
        if (plain > 0) peal_buf_add(out, run, plain);
        at += plain;
        if (backslash == NULL) break;
        at++;
        if (!read_escape(inside, &at, out)) return false;
    }
    return true;
}

enum peal_err peal_json_string(struct peal_span value, struct peal_buf *out)
{
    value = trim(value);
    if (value.size < 2 || value.at[0] != '"') return PEAL_EBAD_FIELD;
    if (peal_json_skip_string(value, 0) != value.size || value.at[value.size - 1] != '"')
        return PEAL_EBAD_FIELD;
    size_t before = out->size;
    if (!add_unescaped(peal_span_make(value.at + 1, value.size - 2), out)) {
        out->size = before;
        return PEAL_EBAD_FIELD;
    }
    return PEAL_OK;
}

enum peal_err peal_json_u64(struct peal_span value, uint64_t *out)
{
    enum { DIGITS_MAX = 16 }; /* of 2^53 */
    value = trim(value);
    if (value.size == 0 || value.size > DIGITS_MAX) return PEAL_EBAD_FIELD;
    if (value.at[0] == '0' && value.size > 1) return PEAL_EBAD_FIELD;
    if (peal_json_skip_digits(value, 0) != value.size) return PEAL_EBAD_FIELD;
    uint64_t number = 0;
    for (size_t i = 0; i < value.size; i++)
        number = number * 10 + (uint64_t)(value.at[i] - '0');
    if (number >= UINT64_C(1) << 53) return PEAL_EBAD_FIELD;
    *out = number;
    return PEAL_OK;
}

enum peal_err peal_json_bool(struct peal_span value, bool *out)
{
    value = trim(value);
    bool is_true = peal_span_is(value, "true");
    if (!is_true && !peal_span_is(value, "false")) return PEAL_EBAD_FIELD;
    *out = is_true;
    return PEAL_OK;
}

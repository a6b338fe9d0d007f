/* jansson says whether a text is JSON, unless a short walk has seen that it is of the plain kind
 * that nearly all texts are; a fuzz target holds the walk against jansson. jansson is never asked
 * what the text means, because it would round numbers. Meaning is read by a scanner of our own that
 * walks text already known to be JSON and hands out spans of it. The scanner stays inside its span
 * for any bytes at all: a caller that forgets to check gets nonsense, not a read beyond the end. */
#include "proto/json.h"

#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"

/* ---- UTF-8 ----------------------------------------------------------------------------- */

/* Size of the character at `at`, 0 when it is malformed. Source: RFC 3629 section 4: only the
 * second byte has a range that depends on the first one. */
static size_t utf8_size(const unsigned char *at, size_t left)
{
    unsigned char first = at[0];
    if (first < 0x80) return 1;
    if (first < 0xc2 || first > 0xf4) return 0;
    size_t size = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (size > left) return 0;
    unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (at[1] < low || at[1] > high) return 0;
    for (size_t i = 2; i < size; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    return size;
}

bool peal_utf8_valid(struct peal_span text)
{
    const unsigned char *at = (const unsigned char *)text.at;
    size_t left = text.size;
    while (left > 0) {
        uint64_t eight;
        if (left >= sizeof eight) { /* most text is ASCII */
            memcpy(&eight, at, sizeof eight);
            if ((eight & 0x8080808080808080u) == 0) {
                at += sizeof eight;
                left -= sizeof eight;
                continue;
            }
        }
        size_t size = utf8_size(at, left);
        if (size == 0) return false;
        at += size;
        left -= size;
    }
    return true;
}

/* ---- scanner --------------------------------------------------------------------------- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static size_t skip_blanks(struct peal_span text, size_t at)
{
    while (at < text.size && is_blank(text.at[at]))
        at++;
    return at;
}

/* The first byte from `at` on that a string cannot just hold: a quote, a backslash, a control
 * character, or a part of a longer UTF-8 character. Eight bytes at a time; each of the four terms
 * has the top bit of a byte set if that byte is such a one ("Bit Twiddling Hacks", hasless). */
static size_t skip_plain(struct peal_span text, size_t at)
{
    const uint64_t ones = UINT64_MAX / 255;
    for (; text.size - at >= 8; at += 8) {
        uint64_t v;
        memcpy(&v, text.at + at, sizeof v);
        uint64_t quote = v ^ (ones * '"');
        uint64_t slash = v ^ (ones * '\\');
        uint64_t found =
            v | ((v - ones * 0x20) & ~v) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash);
        if (found & (ones * 0x80)) break;
    }
    for (; at < text.size; at++) {
        unsigned char c = (unsigned char)text.at[at];
        if (c == '"' || c == '\\' || c < 0x20 || c >= 0x80) break;
    }
    return at;
}

/* From the opening quote to behind the closing one, or to the end of the text. */
static size_t skip_string(struct peal_span text, size_t at)
{
    for (at = skip_plain(text, at + 1); at < text.size; at = skip_plain(text, at + 1)) {
        if (text.at[at] == '"') return at + 1;
        if (text.at[at] == '\\' && ++at == text.size) break;
    }
    return text.size;
}

static size_t skip_container(struct peal_span text, size_t at)
{
    size_t depth = 0;
    while (at < text.size) {
        char c = text.at[at];
        if (c == '"') {
            at = skip_string(text, at);
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
    if (c == '"') return skip_string(text, at);
    if (c == '[' || c == '{') return skip_container(text, at);
    while (at < text.size && !is_blank(text.at[at]) && strchr(",:]}", text.at[at]) == NULL)
        at++;
    return at;
}

static struct peal_span trim(struct peal_span text)
{
    size_t from = skip_blanks(text, 0);
    size_t to = text.size;
    while (to > from && is_blank(text.at[to - 1]))
        to--;
    return peal_span_make(text.at + from, to - from);
}

enum peal_json_kind peal_json_kind_of(struct peal_span value)
{
    size_t at = skip_blanks(value, 0);
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

/* ---- check ----------------------------------------------------------------------------- */

/* Where the nesting becomes too deep, or text.size. Done before jansson, which would build half
 * the tree first. On text that is no JSON the answer may be wrong; jansson then refuses it. */
static size_t find_too_deep(struct peal_span text)
{
    size_t depth = 0;
    for (size_t at = 0; at < text.size; at++) {
        char c = text.at[at];
        if (c == '"') {
            at = skip_string(text, at) - 1;
        } else if (c == '[' || c == '{') {
            if (depth == PEAL_JSON_DEPTH) return at;
            depth++;
        } else if (c == ']' || c == '}') {
            if (depth > 0) depth--;
        }
    }
    return text.size;
}

static size_t skip_digits(struct peal_span text, size_t at)
{
    while (at < text.size && text.at[at] >= '0' && text.at[at] <= '9')
        at++;
    return at;
}

/* Behind the longest number (RFC 8259 section 6) that starts at `at`; `at` if none does. */
static size_t skip_number(struct peal_span text, size_t at)
{
    size_t start = at;
    if (at < text.size && text.at[at] == '-') at++;
    size_t digits = at;
    at = at < text.size && text.at[at] == '0' ? at + 1 : skip_digits(text, at);
    if (at == digits) return start;
    if (at < text.size && text.at[at] == '.') {
        size_t end = skip_digits(text, at + 1);
        if (end > at + 1) at = end;
    }
    if (at < text.size && (text.at[at] == 'e' || text.at[at] == 'E')) {
        size_t exponent = at + 1;
        if (exponent < text.size && (text.at[exponent] == '+' || text.at[exponent] == '-'))
            exponent++;
        size_t end = skip_digits(text, exponent);
        if (end > exponent) at = end;
    }
    return at;
}

/* Behind the word that starts at `at`: what stands between blanks, punctuation and strings. */
static size_t skip_word(struct peal_span text, size_t at)
{
    while (at < text.size && !is_blank(text.at[at]) && strchr(",:[]{}\"", text.at[at]) == NULL)
        at++;
    return at;
}

/* Makes every number a 0 of the same width. Only whole words: of `1E--0` nothing may be changed,
 * or text that was no JSON could become JSON. */
static void flatten_numbers(char *at, size_t size)
{
    struct peal_span text = {at, size};
    for (size_t i = 0; i < size;) {
        size_t end = skip_word(text, i);
        if (end == i) {
            i = at[i] == '"' ? skip_string(text, i) : i + 1;
            continue;
        }
        if (skip_number(text, i) == end) {
            memset(at + i, ' ', end - i);
            at[i] = '0';
        }
        i = end;
    }
}

/* ---- the plain kind ------------------------------------------------------------------------- */

/* Each of these stands on the first byte of something and returns the place behind it, or 0 when
 * it is not JSON or not plain: nested deeper than PLAIN_DEPTH, an object of many fields, a name
 * with an escape, a \u in a string. Two names that are the same are not plain either. */
enum { PLAIN_DEPTH = 8, PLAIN_FIELDS = 16 };

static size_t plain_string(struct peal_span text, size_t at, bool escapes)
{
    at = skip_plain(text, at + 1);
    while (at < text.size && text.at[at] != '"') {
        if (text.at[at] == '\\') {
            if (!escapes || at + 1 == text.size) return 0;
            if (text.at[at + 1] == '\0' || strchr("\"\\/bfnrt", text.at[at + 1]) == NULL) return 0;
            at += 2;
        } else {
            const unsigned char *c = (const unsigned char *)text.at + at;
            size_t size = *c < 0x20 ? 0 : utf8_size(c, text.size - at);
            if (size == 0) return 0;
            at += size;
        }
        at = skip_plain(text, at);
    }
    return at < text.size ? at + 1 : 0;
}

static size_t plain_word(struct peal_span text, size_t at, const char *word)
{
    size_t size = strlen(word);
    return text.size - at >= size && memcmp(text.at + at, word, size) == 0 ? at + size : 0;
}

static size_t plain_value(struct peal_span text, size_t at, size_t depth);

/* A comma, or the closing bracket; at stands behind a value. Returns the place of the next element,
 * or of what is behind the bracket, and says in *more which of the two. */
static size_t plain_comma(struct peal_span text, size_t at, char close, bool *more)
{
    at = skip_blanks(text, at);
    if (at >= text.size) return 0;
    *more = text.at[at] == ',';
    if (*more) return skip_blanks(text, at + 1);
    return text.at[at] == close ? at + 1 : 0;
}

static size_t plain_array(struct peal_span text, size_t at, size_t depth)
{
    at = skip_blanks(text, at + 1);
    if (at < text.size && text.at[at] == ']') return at + 1;
    for (bool more = true; more;) {
        at = plain_value(text, at, depth);
        if (at == 0) return 0;
        at = plain_comma(text, at, ']', &more);
        if (at == 0) return 0;
    }
    return at;
}

static size_t plain_object(struct peal_span text, size_t at, size_t depth)
{
    struct peal_span names[PLAIN_FIELDS];
    size_t count = 0;
    at = skip_blanks(text, at + 1);
    if (at < text.size && text.at[at] == '}') return at + 1;
    for (bool more = true; more; count++) {
        if (count == PLAIN_FIELDS || at >= text.size || text.at[at] != '"') return 0;
        size_t end = plain_string(text, at, false);
        if (end == 0) return 0;
        names[count] = peal_span_make(text.at + at, end - at);
        for (size_t i = 0; i < count; i++)
            if (peal_span_equal(names[i], names[count])) return 0;
        at = skip_blanks(text, end);
        if (at >= text.size || text.at[at] != ':') return 0;
        at = plain_value(text, skip_blanks(text, at + 1), depth);
        if (at == 0) return 0;
        at = plain_comma(text, at, '}', &more);
        if (at == 0) return 0;
    }
    return at;
}

static size_t plain_value(struct peal_span text, size_t at, size_t depth)
{
    if (at >= text.size) return 0;
    switch (text.at[at]) {
    case '"':
        return plain_string(text, at, true);
    case '{':
        return depth == 0 ? 0 : plain_object(text, at, depth - 1);
    case '[':
        return depth == 0 ? 0 : plain_array(text, at, depth - 1);
    case 't':
        return plain_word(text, at, "true");
    case 'f':
        return plain_word(text, at, "false");
    case 'n':
        return plain_word(text, at, "null");
    default: {
        size_t end = skip_number(text, at);
        return end == at ? 0 : end;
    }
    }
}

static bool is_plain(struct peal_span text)
{
    size_t end = plain_value(text, skip_blanks(text, 0), PLAIN_DEPTH);
    return end != 0 && skip_blanks(text, end) == text.size;
}

/* ---- jansson -------------------------------------------------------------------------------- */

static enum peal_err ask_jansson(struct peal_span text, json_error_t *error)
{
    json_t *json = json_loadb(
        text.at, text.size,
        JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, error);
    if (json == NULL)
        return json_error_code(error) == json_error_out_of_memory ? PEAL_ENOMEM : PEAL_EBAD_JSON;
    json_decref(json);
    return PEAL_OK;
}

static enum peal_err ask_jansson_without_numbers(struct peal_span text, json_error_t *error)
{
    char *copy = malloc(text.size);
    if (copy == NULL) return PEAL_ENOMEM;
    memcpy(copy, text.at, text.size);
    flatten_numbers(copy, text.size);
    enum peal_err err = ask_jansson(peal_span_make(copy, text.size), error);
    free(copy);
    return err;
}

static void say_place(struct peal_span text, size_t at, const char *what, char *why, size_t size)
{
    size_t line = 1;
    size_t column = 1;
    for (size_t i = 0; i < at; i++) {
        if (((unsigned char)text.at[i] & 0xc0) != 0x80) column++; /* characters, not bytes */
        if (text.at[i] == '\n') {
            line++;
            column = 1;
        }
    }
    snprintf(why, size, "line %zu, column %zu: %s", line, column, what);
}

/* jansson quotes the text at fault; that part is cut off, for the sentence may be logged. */
static void say_jansson(const json_error_t *error, char *why, size_t size)
{
    const char *near = strstr(error->text, " near ");
    int length = (int)(near == NULL ? strlen(error->text) : (size_t)(near - error->text));
    snprintf(why, size, "line %d, column %d: %.*s", error->line, error->column, length,
             error->text);
}

enum peal_err peal_json_check(struct peal_span text, char *why, size_t why_size)
{
    if (why == NULL) why_size = 0;
    if (text.at == NULL) text.at = "";
    if (is_plain(text)) return PEAL_OK;
    size_t too_deep = find_too_deep(text);
    if (too_deep < text.size) {
        char what[40];
        snprintf(what, sizeof what, "nested deeper than %d", PEAL_JSON_DEPTH);
        say_place(text, too_deep, what, why, why_size);
        return PEAL_EBAD_JSON;
    }
    json_error_t error;
    enum peal_err err = ask_jansson(text, &error);
    /* jansson has no number beyond a double, but 1e999 is JSON. */
    if (err == PEAL_EBAD_JSON && json_error_code(&error) == json_error_numeric_overflow)
        err = ask_jansson_without_numbers(text, &error);
    if (err == PEAL_ENOMEM) snprintf(why, why_size, "out of memory");
    if (err == PEAL_EBAD_JSON) say_jansson(&error, why, why_size);
    return err;
}

/* ---- fields and values ----------------------------------------------------------------- */

/* Reads `"name": value`; at stands on the quote and ends behind the value. */
static enum peal_err read_field(struct peal_span text, size_t *at, struct peal_json_field *out)
{
    if (*at >= text.size || text.at[*at] != '"') return PEAL_EBAD_MESSAGE;
    size_t end = skip_string(text, *at);
    if (end < *at + 2) return PEAL_EBAD_MESSAGE;
    out->name = peal_span_make(text.at + *at + 1, end - *at - 2);
    if (memchr(out->name.at, '\\', out->name.size) != NULL) return PEAL_EBAD_MESSAGE;

    size_t value = skip_blanks(text, end);
    if (value >= text.size || text.at[value] != ':') return PEAL_EBAD_MESSAGE;
    value = skip_blanks(text, value + 1);
    *at = skip_value(text, value);
    out->value = peal_span_make(text.at + value, *at - value);
    out->kind = peal_json_kind_of(out->value);
    return PEAL_OK;
}

enum peal_err peal_json_object(struct peal_span checked, struct peal_json *out)
{
    out->count = 0;
    if (peal_json_kind_of(checked) != PEAL_JSON_OBJECT) return PEAL_EBAD_MESSAGE;
    size_t at = skip_blanks(checked, skip_blanks(checked, 0) + 1);
    size_t count = 0;
    while (at < checked.size && checked.at[at] != '}') {
        if (count == PEAL_JSON_FIELDS_MAX) return PEAL_EBAD_MESSAGE;
        enum peal_err err = read_field(checked, &at, &out->fields[count]);
        if (err != PEAL_OK) return err;
        count++;
        at = skip_blanks(checked, at);
        if (at < checked.size && checked.at[at] == ',') at = skip_blanks(checked, at + 1);
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
    size_t from = skip_blanks(checked, *at);
    if (*at == 0) {
        if (from == checked.size || checked.at[from] != '[') return false;
        from = skip_blanks(checked, from + 1);
    } else if (from < checked.size && checked.at[from] == ',') {
        from = skip_blanks(checked, from + 1);
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
    size_t from = skip_blanks(checked, *at);
    if (*at == 0) {
        if (from == checked.size || checked.at[from] != '{') return false;
        from = skip_blanks(checked, from + 1);
    } else if (from < checked.size && checked.at[from] == ',') {
        from = skip_blanks(checked, from + 1);
    }
    if (from >= checked.size || checked.at[from] != '"') {
        *at = from;
        return false;
    }
    size_t end = skip_value(checked, from);
    size_t colon = skip_blanks(checked, end);
    if (end == from || colon >= checked.size || checked.at[colon] != ':') return false;
    size_t start = skip_blanks(checked, colon + 1);
    size_t stop = skip_value(checked, start);
    if (stop == start) return false;
    *name = peal_span_make(checked.at + from, end - from);
    *value = peal_span_make(checked.at + start, stop - start);
    *at = stop;
    return true;
}

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
    if (skip_string(value, 0) != value.size || value.at[value.size - 1] != '"')
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
    if (skip_digits(value, 0) != value.size) return PEAL_EBAD_FIELD;
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

/* ---- out ------------------------------------------------------------------------------- */

/* Bytes at `at` that are written as an escape, 0 for none. */
static size_t needs_escape(struct peal_span text, size_t at)
{
    unsigned char c = (unsigned char)text.at[at];
    if (c < 0x20 || c == '"' || c == '\\') return 1;
    if (c != 0xe2 || text.size - at < 3) return 0;
    return memcmp(text.at + at, "\xe2\x80\xa8", 3) == 0 ||
                   memcmp(text.at + at, "\xe2\x80\xa9", 3) == 0
               ? 3
               : 0;
}

static void add_escape(struct peal_buf *out, const char *at, size_t size)
{
    static const char meant[] = "\"\\\b\f\n\r\t";
    static const char names[] = "\"\\bfnrt";
    if (size == 3) {
        peal_buf_add_text(out, (unsigned char)at[2] == 0xa8 ? "\\u2028" : "\\u2029");
        return;
    }
    const char *known = memchr(meant, *at, sizeof meant - 1);
    char escape[] = "\\u0000";
    size_t escape_size = sizeof escape - 1;
    if (known != NULL) {
        escape[1] = names[known - meant];
        escape_size = 2;
    } else {
        escape[4] = "01"[*at >> 4];
        escape[5] = "0123456789abcdef"[*at & 0x0f];
    }
    peal_buf_add(out, escape, escape_size);
}

void peal_json_add_string(struct peal_buf *out, struct peal_span text)
{
    peal_buf_add_char(out, '"');
    size_t plain = 0; /* where the bytes that are not yet written begin */
    for (size_t at = 0; at < text.size;) {
        size_t size = needs_escape(text, at);
        if (size == 0) {
            at++;
            continue;
        }
        peal_buf_add(out, text.at + plain, at - plain);
        add_escape(out, text.at + at, size);
        at += size;
        plain = at;
    }
    if (text.size > plain) peal_buf_add(out, text.at + plain, text.size - plain);
    peal_buf_add_char(out, '"');
}

void peal_json_add_base64(struct peal_buf *out, struct peal_span bytes)
{
    size_t room = sodium_base64_encoded_len(bytes.size, sodium_base64_VARIANT_ORIGINAL);
    peal_buf_add_char(out, '"');
    char *to = peal_buf_reserve(out, room); /* with the NUL that is then overwritten */
    if (to == NULL) return;
    sodium_bin2base64(to, room, (const unsigned char *)bytes.at, bytes.size,
                      sodium_base64_VARIANT_ORIGINAL);
    out->size += room - 1;
    peal_buf_add_char(out, '"');
}

enum peal_err peal_base64_decode(struct peal_span text, struct peal_buf *out)
{
    if (text.size == 0) return PEAL_OK;
    /* libsodium 1.0.18 takes bytes beyond ASCII for letters. */
    for (size_t i = 0; i < text.size; i++)
        if ((unsigned char)text.at[i] >= 0x80) return PEAL_EBAD_FIELD;
    size_t room = text.size / 4 * 3 + 3;
    char *to = peal_buf_reserve(out, room);
    if (to == NULL) return PEAL_ENOMEM;
    size_t size;
    /* With no place for the end of parsing, libsodium refuses whatever is left over. */
    if (sodium_base642bin((unsigned char *)to, room, text.at, text.size, NULL, &size, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0)
        return PEAL_EBAD_FIELD;
    out->size += size;
    return PEAL_OK;
}

/* jansson says whether a text is JSON, unless a short walk has seen that it is of the plain kind
 * that nearly all texts are; a fuzz target holds the walk against jansson. jansson is never asked
 * what the text means, because it would round numbers. */
#include "proto/json_check.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "proto/json_scan.h"
#include "proto/utf8.h"

/* Where the nesting becomes too deep, or text.size. Done before jansson, which would build half
 * the tree first. On text that is no JSON the answer may be wrong; jansson then refuses it. */
static size_t find_too_deep(struct peal_span text)
{
    size_t depth = 0;
    for (size_t at = 0; at < text.size; at++) {
        char c = text.at[at];
        if (c == '"') {
            at = peal_json_skip_string(text, at) - 1;
        } else if (c == '[' || c == '{') {
            if (depth == PEAL_JSON_DEPTH) return at;
            depth++;
        } else if (c == ']' || c == '}') {
            if (depth > 0) depth--;
        }
    }
    return text.size;
}

/* Behind the longest number (RFC 8259 section 6) that starts at `at`; `at` if none does. */
static size_t skip_number(struct peal_span text, size_t at)
{
    size_t start = at;
    if (at < text.size && text.at[at] == '-') at++;
    size_t digits = at;
    at = at < text.size && text.at[at] == '0' ? at + 1 : peal_json_skip_digits(text, at);
    if (at == digits) return start;
    if (at < text.size && text.at[at] == '.') {
        size_t end = peal_json_skip_digits(text, at + 1);
        if (end > at + 1) at = end;
    }
    if (at < text.size && (text.at[at] == 'e' || text.at[at] == 'E')) {
        size_t exponent = at + 1;
        if (exponent < text.size && (text.at[exponent] == '+' || text.at[exponent] == '-'))
            exponent++;
        size_t end = peal_json_skip_digits(text, exponent);
        if (end > exponent) at = end;
    }
    return at;
}

/* Behind the word that starts at `at`: what stands between blanks, punctuation and strings. */
static size_t skip_word(struct peal_span text, size_t at)
{
    while (at < text.size && !peal_json_is_blank(text.at[at]) &&
           strchr(",:[]{}\"", text.at[at]) == NULL)
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
            i = at[i] == '"' ? peal_json_skip_string(text, i) : i + 1;
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
    at = peal_json_skip_plain(text, at + 1);
    while (at < text.size && text.at[at] != '"') {
        if (text.at[at] == '\\') {
            if (!escapes || at + 1 == text.size) return 0;
            if (text.at[at + 1] == '\0' || strchr("\"\\/bfnrt", text.at[at + 1]) == NULL) return 0;
            at += 2;
        } else {
            const unsigned char *c = (const unsigned char *)text.at + at;
            size_t size = *c < 0x20 ? 0 : peal_utf8_size(c, text.size - at);
            if (size == 0) return 0;
            at += size;
        }
        at = peal_json_skip_plain(text, at);
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
    at = peal_json_skip_blanks(text, at);
    if (at >= text.size) return 0;
    *more = text.at[at] == ',';
    if (*more) return peal_json_skip_blanks(text, at + 1);
    return text.at[at] == close ? at + 1 : 0;
}

static size_t plain_array(struct peal_span text, size_t at, size_t depth)
{
    at = peal_json_skip_blanks(text, at + 1);
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
    at = peal_json_skip_blanks(text, at + 1);
    if (at < text.size && text.at[at] == '}') return at + 1;
    for (bool more = true; more; count++) {
        if (count == PLAIN_FIELDS || at >= text.size || text.at[at] != '"') return 0;
        size_t end = plain_string(text, at, false);
        if (end == 0) return 0;
        names[count] = peal_span_make(text.at + at, end - at);
        for (size_t i = 0; i < count; i++)
            if (peal_span_equal(names[i], names[count])) return 0;
        at = peal_json_skip_blanks(text, end);
        if (at >= text.size || text.at[at] != ':') return 0;
        at = plain_value(text, peal_json_skip_blanks(text, at + 1), depth);
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
    size_t end = plain_value(text, peal_json_skip_blanks(text, 0), PLAIN_DEPTH);
    return end != 0 && peal_json_skip_blanks(text, end) == text.size;
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

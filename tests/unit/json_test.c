#include "proto/json.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "tests/unit/unit.h"

#define SPAN(literal) peal_span_make(literal, sizeof(literal) - 1)

/* What a test hands in lies in memory of exactly its size, so that the address sanitizer sees a
 * read beyond it. */
static struct peal_span exactly(struct peal_span text)
{
    char *copy = malloc(text.size);
    assert_non_null(copy);
    memcpy(copy, text.at, text.size);
    return peal_span_make(copy, text.size);
}

static void release(struct peal_span text)
{
    free((void *)(uintptr_t)text.at);
}

static void assert_span(struct peal_span span, const char *text)
{
    if (!peal_span_is(span, text)) fail_msg("'%.*s' is not '%s'", (int)span.size, span.at, text);
}

/* ---- check ----------------------------------------------------------------------------- */

static const struct {
    struct peal_span text;
    bool valid;
} check_cases[] = {
#define YES(literal)                                                                               \
    {                                                                                              \
        {literal, sizeof(literal) - 1}, true                                                       \
    }
#define NO(literal)                                                                                \
    {                                                                                              \
        {literal, sizeof(literal) - 1}, false                                                      \
    }
    YES("{}"),
    YES("[]"),
    YES("null"),
    YES("true"),
    YES("false"),
    YES("0"),
    YES("-0"),
    YES("0.1"),
    YES("1e2"),
    YES("1E+2"),
    YES("1e-2"),
    YES("1e999"),
    YES("-1e999"),
    YES("[1e999, \"1e999\", 2.5e+999]"),
    YES("{\"a\":1e999}"),
    YES("1e-999"),
    /* On both sides of what the short walk takes without asking jansson. */
    YES("{\"a\":{\"a\":1},\"b\":[{\"a\":1},{\"a\":2}]}"),
    NO("{\"a\":{\"a\":1,\"a\":1}}"),
    NO("[{\"a\":1,\"b\":2,\"a\":3}]"),
    YES("{\"a\":1,\"\\u0061b\":2}"),
    NO("{\"a\":1,\"\\u0061\":2}"),
    YES("[[[[[[[[1]]]]]]]]"),
    YES("[[[[[[[[[1]]]]]]]]]"),
    NO("[[[[[[[[[1]]]]]]]]"),
    YES("{\"01\":1,\"02\":1,\"03\":1,\"04\":1,\"05\":1,\"06\":1,\"07\":1,\"08\":1,\"09\":1,"
        "\"10\":1,\"11\":1,\"12\":1,\"13\":1,\"14\":1,\"15\":1,\"16\":1}"),
    YES("{\"01\":1,\"02\":1,\"03\":1,\"04\":1,\"05\":1,\"06\":1,\"07\":1,\"08\":1,\"09\":1,"
        "\"10\":1,\"11\":1,\"12\":1,\"13\":1,\"14\":1,\"15\":1,\"16\":1,\"17\":1}"),
    NO("{\"01\":1,\"02\":1,\"03\":1,\"04\":1,\"05\":1,\"06\":1,\"07\":1,\"08\":1,\"09\":1,"
       "\"10\":1,\"11\":1,\"12\":1,\"13\":1,\"14\":1,\"15\":1,\"16\":1,\"01\":1}"),
    YES("\"0123456\\\"789\\n01234567890123456789\""),
    YES("\"0123456789\xc3\xa4 0123456789\xe2\x82\xac\xf0\x9f\x98\x80\""),
    NO("\"0123456789\xc3 0123456789\""),
    NO("\"01234567\x1f 0123456789\""),
    NO("\"0123456789\\x0123456789\""),
    NO("\"0123456789\\\0 123456789\""),
    NO("[1,]"),
    NO("{\"a\":1,}"),
    NO("[1 2]"),
    NO("{\"a\" 1}"),
    NO("{\"a\":}"),
    NO("truex"),
    NO("[01]"),
    NO("[1.]"),
    NO("[-]"),
    NO("[1]]"),
    YES("9223372036854775808"),
    YES("123456789012345678901234567890"),
    YES("\"\""),
    YES("\"\\u0000\""),
    YES("\"\\ud83d\\udd14\""),
    YES("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""),
    YES("\"\x7f\""),
    YES("\"\xe2\x80\xa8\""),
    YES("\"\xf4\x8f\xbf\xbf\""),
    YES(" \t\r\n[ 1 , 2 ] \n"),
    YES("{\"a\":{\"a\":1}}"),
    YES("{\"\":1}"),
    YES("{\"a\\u0062\":1}"),
    YES("\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\""),
    NO(""),
    NO(" "),
    NO("{"),
    NO("}"),
    NO("["),
    NO("\""),
    NO("\"\\"),
    NO("\"\\\""),
    NO("[1,]"),
    NO("[,1]"),
    NO("[1 2]"),
    NO("{\"a\":1,}"),
    NO("{\"a\" 1}"),
    NO("{\"a\":}"),
    NO("{a:1}"),
    NO("{'a':1}"),
    NO("{1:1}"),
    NO("{} {}"),
    NO("{}x"),
    NO("[1]2"),
    NO("nul"),
    NO("NULL"),
    NO("True"),
    NO("NaN"),
    NO("Infinity"),
    NO("-Infinity"),
    NO("01"),
    NO("-01"),
    NO("+1"),
    NO(".5"),
    NO("1."),
    NO("1.e5"),
    NO("1e"),
    NO("1e+"),
    NO("-"),
    NO("0x10"),
    NO("1e9990.5"),
    NO("[1e999 1]"),
    NO("[1e999-1]"),
    NO("[01e999]"),
    NO("[1e999.5]"),
    NO("[1e999,01]"),
    NO("[1e999,1E--0]"),
    NO("[1e999,1.-1]"),
    NO("[1e999,-]"),
    NO("[1e999 \"a\"]"),
    NO("[1e999\"a\"]"),
    NO("[1e999true]"),
    NO("{1e999:1}"),
    YES("[ 1e999\t,\n-0.5E+999 ]"),
    NO("1e999 1e999"),
    NO("[1e999"),
    NO("\"\t\""),
    NO("\"\n\""),
    NO("\"\\x41\""),
    NO("\"\\u12\""),
    NO("\"\\u12g4\""),
    NO("\"\\ud800\""),
    NO("\"\\udc00\""),
    NO("\"\\ud800\\u0041\""),
    NO("\"\\udc00\\ud800\""),
    NO("\"\x80\""),
    NO("\"\xc3\""),
    NO("\"\xc0\x80\""),
    NO("\"\xe0\x80\x80\""),
    NO("\"\xed\xa0\x80\""),
    NO("\"\xf4\x90\x80\x80\""),
    NO("\"\xff\""),
    NO("\xef\xbb\xbf{}"),
    NO("{}\0"),
    NO("\"a\0b\""),
    NO("// no\n1"),
    NO("/* no */ 1"),
    NO("{\"a\":1,\"a\":2}"),
    NO("{\"a\":1,\"\\u0061\":2}"),
    NO("[{\"a\":{\"b\":1,\"b\":1}}]"),
    NO("{\"\\u0000\":1}"),
    NO("\f1"),
    NO("\xc2\xa0 1"),
#undef YES
#undef NO
};

static void check_answers_as_the_table_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof check_cases / sizeof check_cases[0]; i++) {
        struct peal_span text = exactly(check_cases[i].text);
        char why[100] = "";
        enum peal_err err = peal_json_check(text, why, sizeof why);
        if ((err == PEAL_OK) != check_cases[i].valid)
            fail_msg("'%.*s': %s %s", (int)text.size, text.at, peal_err_word(err), why);
        if (err != PEAL_OK) {
            assert_int_equal(err, PEAL_EBAD_JSON);
            assert_memory_equal(why, "line ", 5);
        }
        assert_int_equal(peal_json_check(text, NULL, 0), err);
        release(text);
    }
    assert_int_equal(peal_json_check((struct peal_span){0}, NULL, 0), PEAL_EBAD_JSON);
}

static struct peal_span nested(size_t depth, char open, char close)
{
    static char text[4096];
    memset(text, open, depth);
    memset(text + depth, close, depth);
    return peal_span_make(text, depth * 2);
}

static void check_of_deep_nesting_is_refused(void **state)
{
    (void)state;
    char why[100];
    assert_int_equal(peal_json_check(nested(PEAL_JSON_DEPTH, '[', ']'), NULL, 0), PEAL_OK);
    assert_int_equal(peal_json_check(nested(PEAL_JSON_DEPTH + 1, '[', ']'), why, sizeof why),
                     PEAL_EBAD_JSON);
    assert_string_equal(why, "line 1, column 33: nested deeper than 32");
    assert_int_equal(peal_json_check(nested(PEAL_JSON_DEPTH + 1, '{', '}'), why, sizeof why),
                     PEAL_EBAD_JSON);
    assert_string_equal(why, "line 1, column 33: nested deeper than 32");
    /* A bomb is refused by its 33rd byte: that it is no JSON further on is not even seen. */
    assert_int_equal(peal_json_check(nested(2048, '[', '!'), why, sizeof why), PEAL_EBAD_JSON);
    assert_string_equal(why, "line 1, column 33: nested deeper than 32");
    /* Many containers beside each other are not deep. */
    struct peal_span flat = nested(2048, '[', ']');
    char *text = (char *)(uintptr_t)flat.at;
    text[0] = '[';
    for (size_t i = 1; i + 3 < flat.size; i += 3)
        memcpy(text + i, "[],", 3);
    memcpy(text + 4093, "0 ]", 3);
    assert_int_equal(peal_json_check(flat, NULL, 0), PEAL_OK);
}

static void check_names_the_place_but_not_the_text(void **state)
{
    (void)state;
    char why[100];
    assert_int_equal(peal_json_check(SPAN("{\n  \"a\": secret\n}"), why, sizeof why),
                     PEAL_EBAD_JSON);
    assert_non_null(strstr(why, "line 2, column 1"));
    assert_null(strstr(why, "secret"));
    assert_int_equal(peal_json_check(SPAN("{\"secret\":1,\"secret\":2}"), why, sizeof why),
                     PEAL_EBAD_JSON);
    assert_non_null(strstr(why, "duplicate"));
    assert_null(strstr(why, "secret"));
    char tiny[8];
    assert_int_equal(peal_json_check(SPAN("x"), tiny, sizeof tiny), PEAL_EBAD_JSON);
    assert_string_equal(tiny, "line 1,");
    /* The place counts characters. */
    char text[100] = "[\"\xc3\xa9\xc3\xa9\"]";
    size_t size = strlen(text);
    memset(text + 1 + 6, ',', 1);
    memset(text + 1 + 7, '[', PEAL_JSON_DEPTH);
    size = 1 + 7 + PEAL_JSON_DEPTH;
    assert_int_equal(peal_json_check(peal_span_make(text, size), why, sizeof why), PEAL_EBAD_JSON);
    assert_string_equal(why, "line 1, column 38: nested deeper than 32");
}

/* ---- fields and elements --------------------------------------------------------------- */

static void kind_is_told_by_the_first_character(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum peal_json_kind kind;
    } cases[] = {{"", PEAL_JSON_ABSENT},    {" \n", PEAL_JSON_ABSENT},
                 {"null", PEAL_JSON_NULL},  {"true", PEAL_JSON_BOOL},
                 {"false", PEAL_JSON_BOOL}, {"0", PEAL_JSON_NUMBER},
                 {"-1", PEAL_JSON_NUMBER},  {" \"\"", PEAL_JSON_STRING},
                 {"\t[]", PEAL_JSON_ARRAY}, {"\r\n{}", PEAL_JSON_OBJECT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(peal_json_kind_of(peal_span_of(cases[i].text)), cases[i].kind);
}

static void object_fields_are_spans_of_the_sent_bytes(void **state)
{
    (void)state;
    struct peal_span text =
        exactly(SPAN(" {\t\"a\" : 1e2 ,\r\n\"big\":123456789012345678901234567890,\"f\":0.1 , "
                     "\"s\":\"]},\\\"{[:\" ,"
                     "\"o\":{\"x\":[1, {\"y\":\"}\\\\\"}], \"z\":[]} , \"l\" : [ \"]\" , [ ] ] "
                     ",\"n\":null,\"t\":true,"
                     "\"\":false , \"\xc3\xa9\":-0}  "));
    static const struct {
        const char *name;
        const char *value;
        enum peal_json_kind kind;
    } fields[] = {
        {"a", "1e2", PEAL_JSON_NUMBER},
        {"big", "123456789012345678901234567890", PEAL_JSON_NUMBER},
        {"f", "0.1", PEAL_JSON_NUMBER},
        {"s", "\"]},\\\"{[:\"", PEAL_JSON_STRING},
        {"o", "{\"x\":[1, {\"y\":\"}\\\\\"}], \"z\":[]}", PEAL_JSON_OBJECT},
        {"l", "[ \"]\" , [ ] ]", PEAL_JSON_ARRAY},
        {"n", "null", PEAL_JSON_NULL},
        {"t", "true", PEAL_JSON_BOOL},
        {"", "false", PEAL_JSON_BOOL},
        {"\xc3\xa9", "-0", PEAL_JSON_NUMBER},
    };
    enum { COUNT = sizeof fields / sizeof fields[0] };
    struct peal_json json;
    assert_int_equal(peal_json_check(text, NULL, 0), PEAL_OK);
    assert_int_equal(peal_json_object(text, &json), PEAL_OK);
    assert_int_equal(json.count, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        assert_span(json.fields[i].name, fields[i].name);
        assert_span(json.fields[i].value, fields[i].value);
        assert_int_equal(json.fields[i].kind, fields[i].kind);
        assert_ptr_equal(peal_json_get(&json, fields[i].name), &json.fields[i]);
        assert_in_range((uintptr_t)json.fields[i].value.at, (uintptr_t)text.at,
                        (uintptr_t)(text.at + text.size));
    }
    assert_null(peal_json_get(&json, "b"));
    assert_null(peal_json_get(&json, "bi"));
    release(text);
}

static void object_that_is_none_is_refused(void **state)
{
    (void)state;
    const char *const texts[] = {"[]",           "1", "\"{}\"", "null", "", "{\"\\u0061\":1}",
                                 "{\"a\\\"\":1}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct peal_json json = {.count = 7};
        assert_int_equal(peal_json_object(peal_span_of(texts[i]), &json), PEAL_EBAD_MESSAGE);
        assert_int_equal(json.count, 0);
    }
    struct peal_json json;
    assert_int_equal(peal_json_object(SPAN(" { } "), &json), PEAL_OK);
    assert_int_equal(json.count, 0);
}

static void object_with_too_many_fields_is_refused(void **state)
{
    (void)state;
    for (size_t count = PEAL_JSON_FIELDS_MAX; count <= PEAL_JSON_FIELDS_MAX + 1; count++) {
        struct peal_buf text = {0};
        struct peal_json json;
        for (size_t i = 0; i < count; i++)
            peal_buf_add_format(&text, "%c\"f%zu\":%zu", i == 0 ? '{' : ',', i, i);
        peal_buf_add_char(&text, '}');
        assert_int_equal(peal_json_check(peal_buf_span(&text), NULL, 0), PEAL_OK);
        bool fits = count == PEAL_JSON_FIELDS_MAX;
        assert_int_equal(peal_json_object(peal_buf_span(&text), &json),
                         fits ? PEAL_OK : PEAL_EBAD_MESSAGE);
        assert_int_equal(json.count, fits ? count : 0);
        peal_buf_fini(&text);
    }
}

static void next_walks_every_element(void **state)
{
    (void)state;
    const char *const elements[] = {"1e2",  "\"a,]\\\"\"", "[2,[3]]", "{\"a\":[4,5]}",
                                    "null", "true",        "-0.10"};
    struct peal_span text =
        exactly(SPAN(" [ 1e2,\"a,]\\\"\" ,[2,[3]]\n,\t{\"a\":[4,5]} , null,true , -0.10 ] "));
    size_t at = 0;
    struct peal_span element;
    assert_int_equal(peal_json_check(text, NULL, 0), PEAL_OK);
    for (size_t i = 0; i < sizeof elements / sizeof elements[0]; i++) {
        assert_true(peal_json_next(text, &at, &element));
        assert_span(element, elements[i]);
    }
    assert_false(peal_json_next(text, &at, &element));
    assert_false(peal_json_next(text, &at, &element)); /* the end stays the end */
    release(text);

    const char *const none[] = {"[]", " [ ] ", "{}", "{\"a\":[1]}", "1", "\"[1]\"", "", "null"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        at = 0;
        assert_false(peal_json_next(peal_span_of(none[i]), &at, &element));
    }
}

/* ---- values ---------------------------------------------------------------------------- */

static void string_is_unescaped(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        struct peal_span text;
    } cases[] = {
#define CASE(json, literal)                                                                        \
    {                                                                                              \
        json,                                                                                      \
        {                                                                                          \
            literal, sizeof(literal) - 1                                                           \
        }                                                                                          \
    }
        CASE("\"\"", ""),
        CASE(" \"a\" ", "a"),
        CASE("\"a\\\"b\\\\c\\/d\"", "a\"b\\c/d"),
        CASE("\"\\b\\f\\n\\r\\t\"", "\b\f\n\r\t"),
        CASE("\"\\u0041\\u00e9\\u4F60\"", "A\xc3\xa9\xe4\xbd\xa0"),
        CASE("\"\\ud83d\\uDD14x\"", "\xf0\x9f\x94\x94x"),
        CASE("\"\\uD800\\uDC00\\uDBFF\\uDFFF\"", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"),
        CASE("\"\\u07ff\\u0800\\uffff\"", "\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf"),
        CASE("\"a\\u0000b\"", "a\0b"),
        CASE("\"\xc3\xa9\\\\\"", "\xc3\xa9\\"),
        CASE("\"\\\\u0041\"", "\\u0041"),
#undef CASE
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peal_span json = exactly(peal_span_of(cases[i].json));
        struct peal_buf out = {0};
        peal_buf_add_text(&out, "+");
        assert_int_equal(peal_json_check(json, NULL, 0), PEAL_OK);
        assert_int_equal(peal_json_string(json, &out), PEAL_OK);
        assert_int_equal(out.size, cases[i].text.size + 1);
        assert_memory_equal(out.at + 1, cases[i].text.at, cases[i].text.size);
        peal_buf_fini(&out);
        release(json);
    }
}

static void string_of_anything_else_is_refused(void **state)
{
    (void)state;
    /* The later ones cannot come through the check; then nothing must be read beyond them. */
    const char *const texts[] = {"",
                                 "1",
                                 "null",
                                 "[\"a\"]",
                                 "\"",
                                 "\"a",
                                 "\"a\\\"",
                                 "\"a\"b\"",
                                 "\"\\x\"",
                                 "\"\\u12\"",
                                 "\"\\u",
                                 "\"\\ud8",
                                 "\"\\ud800\"",
                                 "\"\\udc00\"",
                                 "\"\\ud800\\n\"",
                                 "\"\\",
                                 "\"\\ud800\\u\"",
                                 "\"\\ud800\\u0041\"",
                                 "\"\\u00g0\""};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct peal_span text = exactly(peal_span_of(texts[i]));
        struct peal_buf out = {0};
        peal_buf_add_text(&out, "+");
        assert_int_equal(peal_json_string(text, &out), PEAL_EBAD_FIELD);
        assert_span(peal_buf_span(&out), "+");
        peal_buf_fini(&out);
        release(text);
    }
}

static void u64_is_an_integer_below_two_to_the_53(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t number;
    } good[] = {{"0", 0}, {"1", 1}, {" 42\n", 42}, {"9007199254740991", 9007199254740991}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint64_t number = 7;
        assert_int_equal(peal_json_u64(peal_span_of(good[i].text), &number), PEAL_OK);
        assert_int_equal(number, good[i].number);
    }
    const char *const bad[] = {"",
                               "-1",
                               "-0",
                               "1.0",
                               "1e2",
                               "01",
                               "9007199254740992",
                               "00",
                               "\"1\"",
                               "true",
                               "[1]",
                               "null",
                               "0x1",
                               "18446744073709551616",
                               "90071992547409910"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t number = 7;
        assert_int_equal(peal_json_u64(peal_span_of(bad[i]), &number), PEAL_EBAD_FIELD);
        assert_int_equal(number, 7);
    }
}

static void bool_is_true_or_false_and_nothing_else(void **state)
{
    (void)state;
    bool value = false;
    assert_int_equal(peal_json_bool(SPAN(" true "), &value), PEAL_OK);
    assert_true(value);
    assert_int_equal(peal_json_bool(SPAN("null"), &value), PEAL_EBAD_FIELD);
    assert_int_equal(peal_json_bool(SPAN("1"), &value), PEAL_EBAD_FIELD);
    assert_int_equal(peal_json_bool(SPAN("\"true\""), &value), PEAL_EBAD_FIELD);
    assert_int_equal(peal_json_bool(SPAN(""), &value), PEAL_EBAD_FIELD);
    assert_true(value);
    assert_int_equal(peal_json_bool(SPAN("false"), &value), PEAL_OK);
    assert_false(value);
}

/* ---- out ------------------------------------------------------------------------------- */

static void add_string_escapes_what_it_must_and_nothing_else(void **state)
{
    (void)state;
    static const struct {
        struct peal_span text;
        const char *json;
    } cases[] = {
#define CASE(literal, json) {{literal, sizeof(literal) - 1}, json}
        CASE("", "\"\""),
        CASE("a/b", "\"a/b\""),
        CASE("\"\\", "\"\\\"\\\\\""),
        CASE("\b\f\n\r\t", "\"\\b\\f\\n\\r\\t\""),
        CASE("a\0b", "\"a\\u0000b\""),
        CASE("\x01\x0b\x1f\x7f", "\"\\u0001\\u000b\\u001f\x7f\""),
        CASE("\xe2\x80\xa7\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa",
             "\"\xe2\x80\xa7\\u2028\\u2029\xe2\x80\xaa\""),
        CASE("\xc3\xa9\xf0\x9f\x94\x94", "\"\xc3\xa9\xf0\x9f\x94\x94\""),
        CASE("<script>", "\"<script>\""),
#undef CASE
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peal_span text = exactly(cases[i].text);
        struct peal_buf out = {0};
        peal_json_add_string(&out, text);
        assert_span(peal_buf_span(&out), cases[i].json);
        assert_int_equal(peal_json_check(peal_buf_span(&out), NULL, 0), PEAL_OK);
        peal_buf_fini(&out);
        release(text);
    }
}

static void base64_is_written_and_read_back(void **state)
{
    (void)state;
    /* RFC 4648 section 10, and two that need the last letters of the alphabet. */
    static const struct {
        const char *bytes;
        const char *json;
    } cases[] = {
        {"", "\"\""},
        {"f", "\"Zg==\""},
        {"fo", "\"Zm8=\""},
        {"foo", "\"Zm9v\""},
        {"foob", "\"Zm9vYg==\""},
        {"fooba", "\"Zm9vYmE=\""},
        {"foobar", "\"Zm9vYmFy\""},
        {"\xfb\xff\xbf", "\"+/+/\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peal_buf json = {0};
        struct peal_buf bytes = {0};
        peal_json_add_base64(&json, peal_span_of(cases[i].bytes));
        assert_span(peal_buf_span(&json), cases[i].json);
        struct peal_span inside = peal_span_make(json.at + 1, json.size - 2);
        assert_int_equal(peal_base64_decode(inside, &bytes), PEAL_OK);
        assert_span(peal_buf_span(&bytes), cases[i].bytes);
        peal_buf_fini(&json);
        peal_buf_fini(&bytes);
    }
}

static void base64_in_any_other_form_is_refused(void **state)
{
    (void)state;
    const char *const texts[] = {
        "Zg",     "Zg=",  "Zg===",    "Zh==", "Zm9=", "Zm9v=", " Zg==", "Zg== ",       "Z g==",
        "Zg\n==", "-_-_", "Zg==Zg==", "=",    "====", "Z",     "!!!!",  "Zm9v\xc3\xa9"};
    struct peal_buf out = {0};
    peal_buf_add_text(&out, "+");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (peal_base64_decode(peal_span_of(texts[i]), &out) != PEAL_EBAD_FIELD)
            fail_msg("'%s' was accepted", texts[i]);
        assert_span(peal_buf_span(&out), "+");
    }
    assert_int_equal(peal_base64_decode(SPAN("Zm9v\0"), &out), PEAL_EBAD_FIELD);
    peal_buf_fini(&out);
}

/* libsodium 1.0.18 takes bytes beyond ASCII for letters. */
static void base64_of_every_byte_but_its_alphabet_is_refused(void **state)
{
    (void)state;
    const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int c = 0; c < 256; c++) {
        for (size_t place = 0; place < 4; place++) {
            char text[4] = {'A', 'A', 'A', 'A'};
            text[place] = (char)c;
            bool good = memchr(alphabet, c, sizeof alphabet - 1) != NULL;
            good = good || (c == '=' && place == 3);
            struct peal_buf out = {0};
            if ((peal_base64_decode(peal_span_make(text, 4), &out) == PEAL_OK) != good)
                fail_msg("byte %02x at place %zu", (unsigned)c, place);
            peal_buf_fini(&out);
        }
    }
}

/* Walks all sequences of up to three bytes and compares with the code point arithmetic of RFC
 * 3629; four-byte ones are too many, their limits are in the table. */
static void utf8_of_every_short_sequence_is_judged_right(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 1u << 24; i++) {
        const unsigned char b[3] = {(unsigned char)(i >> 16), (unsigned char)(i >> 8),
                                    (unsigned char)i};
        if (b[0] < 0x80 || b[0] >= 0xf0) continue;
        uint32_t two = (uint32_t)(b[0] & 0x1f) << 6 | (b[1] & 0x3f);
        uint32_t three =
            (uint32_t)(b[0] & 0x0f) << 12 | (uint32_t)(b[1] & 0x3f) << 6 | (b[2] & 0x3f);
        bool follow_1 = (b[1] & 0xc0) == 0x80;
        bool follow_2 = (b[2] & 0xc0) == 0x80;
        bool valid = false;
        if ((b[0] & 0xe0) == 0xc0) valid = follow_1 && two >= 0x80 && b[2] < 0x80;
        if ((b[0] & 0xf0) == 0xe0)
            valid = follow_1 && follow_2 && three >= 0x800 && (three < 0xd800 || three > 0xdfff);
        if (peal_utf8_valid(peal_span_make(b, 3)) != valid)
            fail_msg("%02x %02x %02x", b[0], b[1], b[2]);
    }
}

static void utf8_of_four_bytes_ends_at_10ffff(void **state)
{
    (void)state;
    assert_true(peal_utf8_valid(SPAN("\xf0\x90\x80\x80")));
    assert_true(peal_utf8_valid(SPAN("\xf4\x8f\xbf\xbf")));
    const char *const bad[] = {"\xf0\x8f\xbf\xbf",     "\xf4\x90\x80\x80",       "\xf5\x80\x80\x80",
                               "\xf0\x90\x80",         "\xf0\x90\x80 ",          "\xf0\x90 \x80",
                               "\xf8\x88\x80\x80\x80", "plain text \xf0\x90\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(peal_utf8_valid(peal_span_of(bad[i])));
    assert_true(peal_utf8_valid((struct peal_span){0}));
    assert_true(peal_utf8_valid(SPAN("sixteen bytes...\xc3\xa9 and a few more")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_answers_as_the_table_says),
        cmocka_unit_test(check_of_deep_nesting_is_refused),
        cmocka_unit_test(check_names_the_place_but_not_the_text),
        cmocka_unit_test(kind_is_told_by_the_first_character),
        cmocka_unit_test(object_fields_are_spans_of_the_sent_bytes),
        cmocka_unit_test(object_that_is_none_is_refused),
        cmocka_unit_test(object_with_too_many_fields_is_refused),
        cmocka_unit_test(next_walks_every_element),
        cmocka_unit_test(string_is_unescaped),
        cmocka_unit_test(string_of_anything_else_is_refused),
        cmocka_unit_test(u64_is_an_integer_below_two_to_the_53),
        cmocka_unit_test(bool_is_true_or_false_and_nothing_else),
        cmocka_unit_test(add_string_escapes_what_it_must_and_nothing_else),
        cmocka_unit_test(base64_is_written_and_read_back),
        cmocka_unit_test(base64_in_any_other_form_is_refused),
        cmocka_unit_test(base64_of_every_byte_but_its_alphabet_is_refused),
        cmocka_unit_test(utf8_of_every_short_sequence_is_judged_right),
        cmocka_unit_test(utf8_of_four_bytes_ends_at_10ffff),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}

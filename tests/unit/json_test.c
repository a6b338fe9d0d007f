#include "proto/json.h"

#include "proto/json_check.h"
#include "tests/unit/spans.h"

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
    release_exactly(text);
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
    release_exactly(text);

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
        release_exactly(json);
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
        release_exactly(text);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kind_is_told_by_the_first_character),
        cmocka_unit_test(object_fields_are_spans_of_the_sent_bytes),
        cmocka_unit_test(object_that_is_none_is_refused),
        cmocka_unit_test(object_with_too_many_fields_is_refused),
        cmocka_unit_test(next_walks_every_element),
        cmocka_unit_test(string_is_unescaped),
        cmocka_unit_test(string_of_anything_else_is_refused),
        cmocka_unit_test(u64_is_an_integer_below_two_to_the_53),
        cmocka_unit_test(bool_is_true_or_false_and_nothing_else),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}

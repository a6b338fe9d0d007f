#include "proto/json_write.h"

#include "proto/base64.h"
#include "proto/json_check.h"
#include "tests/unit/spans.h"

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
        release_exactly(text);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(add_string_escapes_what_it_must_and_nothing_else),
        cmocka_unit_test(base64_is_written_and_read_back),
    };
    return cmocka_run_group_tests_name("json_write", tests, NULL, NULL);
}

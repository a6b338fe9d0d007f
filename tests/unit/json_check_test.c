#include "proto/json_check.h"

#include "base/limits.h"
#include "tests/unit/spans.h"

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
        release_exactly(text);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_answers_as_the_table_says),
        cmocka_unit_test(check_of_deep_nesting_is_refused),
        cmocka_unit_test(check_names_the_place_but_not_the_text),
    };
    return cmocka_run_group_tests_name("json_check", tests, NULL, NULL);
}

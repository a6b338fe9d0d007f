#include "proto/group.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/unit.h"

#define SPAN(literal) peal_span_make(literal, sizeof(literal) - 1)

static void name_of_any_script_is_accepted(void **state)
{
    (void)state;
    const char *const names[] = {
        "a",
        " ",
        "room:1",
        "user:bob",
        "user:",
        "../etc/passwd",
        "{x}",
        "*",
        "\xc3\xa9",         /* U+00E9 */
        "\xc2\xa0",         /* U+00A0, the first one behind C1 */
        "\xe4\xbd\xa0",     /* U+4F60 */
        "\xed\x9f\xbf",     /* U+D7FF, the last one before the surrogates */
        "\xee\x80\x80",     /* U+E000, the first one behind them */
        "\xf0\x9f\x94\x94", /* U+1F514 */
        "\xf4\x8f\xbf\xbf", /* U+10FFFF */
        "\xe2\x80\xa8",     /* U+2028 */
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_int_equal(peal_name_check(peal_span_of(names[i])), PEAL_OK);
}

static void name_with_control_character_is_refused(void **state)
{
    (void)state;
    for (int c = 0; c < 0x20; c++) {
        char name[] = {'a', (char)c, 'b'};
        assert_int_equal(peal_name_check(peal_span_make(name, 3)), PEAL_EBAD_GROUP);
    }
    assert_int_equal(peal_name_check(SPAN("a\x7f")), PEAL_EBAD_GROUP);
    for (int c = 0x80; c < 0xa0; c++) {
        char name[] = {'a', (char)0xc2, (char)c};
        assert_int_equal(peal_name_check(peal_span_make(name, 3)), PEAL_EBAD_GROUP);
    }
}

static void name_of_bad_utf8_is_refused(void **state)
{
    (void)state;
    const char *const names[] = {
        "\x80",             /* a continuation alone */
        "\xc3",             /* truncated */
        "\xe4\xbd",         /* truncated */
        "\xf0\x9f\x94",     /* truncated */
        "\xc0\x80",         /* overlong NUL */
        "\xc1\xbf",         /* overlong DEL */
        "\xe0\x9f\xbf",     /* overlong U+07FF */
        "\xf0\x8f\xbf\xbf", /* overlong U+FFFF */
        "\xed\xa0\x80",     /* first surrogate */
        "\xed\xbf\xbf",     /* last surrogate */
        "\xf4\x90\x80\x80", /* U+110000 */
        "\xf5\x80\x80\x80",
        "\xff",
        "\xc3\x28",
        "\xe4\x28\xa0",
        "\xf0\x9f\x28\x94",
        "room:\xc3",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_int_equal(peal_name_check(peal_span_of(names[i])), PEAL_EBAD_GROUP);
}

static void name_beyond_200_bytes_is_refused(void **state)
{
    (void)state;
    char name[PEAL_NAME_MAX + 1];
    memset(name, 'n', sizeof name);
    assert_int_equal(peal_name_check(peal_span_make(name, PEAL_NAME_MAX)), PEAL_OK);
    assert_int_equal(peal_name_check(peal_span_make(name, PEAL_NAME_MAX + 1)), PEAL_EBAD_GROUP);
    assert_int_equal(peal_name_check(peal_span_make(name, 0)), PEAL_EBAD_GROUP);
    assert_int_equal(peal_name_check((struct peal_span){0}), PEAL_EBAD_GROUP);
    /* Bytes are counted, not characters: the cut falls into the last one. */
    for (size_t i = 0; i < 100; i++)
        memcpy(name + i * 2, "\xc3\xa9", 2);
    assert_int_equal(peal_name_check(peal_span_make(name, 200)), PEAL_OK);
    assert_int_equal(peal_name_check(peal_span_make(name, 199)), PEAL_EBAD_GROUP);
}

/* Written down: stored tables and routers of other versions rely on them. */
static void slot_of_name_is_the_published_one(void **state)
{
    (void)state;
    assert_int_equal(peal_group_slot(SPAN("")), 0x2d06800538d394c2u >> 54);
    assert_int_equal(peal_group_slot(SPAN("room:1")), 0xa8581d6affa07038u >> 54);
    assert_int_equal(peal_group_slot(SPAN("user:bob")), 0x4a73766dfffba2f4u >> 54);
}

static void slots_are_split_evenly_and_in_order(void **state)
{
    (void)state;
    for (size_t routers = 1; routers <= 64; routers++) {
        size_t count[64] = {0};
        size_t before = 0;
        for (uint16_t slot = 0; slot < PEAL_SLOTS; slot++) {
            size_t router = peal_slot_router(slot, routers);
            assert_in_range(router, before, before + 1);
            assert_true(router < routers);
            count[router]++;
            before = router;
        }
        for (size_t i = 0; i < routers; i++)
            assert_in_range(count[i], PEAL_SLOTS / routers, PEAL_SLOTS / routers + 1);
    }
}

static void inbox_is_user_with_an_id(void **state)
{
    (void)state;
    assert_true(peal_group_is_inbox(SPAN("user:b")));
    assert_false(peal_group_is_inbox(SPAN("user:")));
    assert_false(peal_group_is_inbox(SPAN("user")));
    assert_false(peal_group_is_inbox(SPAN("User:b")));
    assert_false(peal_group_is_inbox(SPAN("xuser:b")));
    assert_true(peal_span_is(peal_group_user(SPAN("user:a:b")), "a:b"));
    assert_null(peal_group_user(SPAN("room:b")).at);
    assert_null(peal_group_user(SPAN("user:")).at);
}

static void group_of_user_must_be_a_name_as_well(void **state)
{
    (void)state;
    char user[PEAL_NAME_MAX];
    memset(user, 'u', sizeof user);
    struct peal_buf out = {0};
    assert_int_equal(peal_group_of_user(peal_span_make(user, 195), &out), PEAL_OK);
    assert_int_equal(out.size, PEAL_NAME_MAX);
    assert_int_equal(peal_name_check(peal_buf_span(&out)), PEAL_OK);
    assert_int_equal(peal_group_user(peal_buf_span(&out)).size, 195);

    assert_int_equal(peal_group_of_user(peal_span_make(user, 196), &out), PEAL_EBAD_GROUP);
    assert_int_equal(peal_group_of_user(SPAN(""), &out), PEAL_EBAD_GROUP);
    assert_int_equal(peal_group_of_user(SPAN("a\nb"), &out), PEAL_EBAD_GROUP);
    assert_int_equal(out.size, PEAL_NAME_MAX); /* failures append nothing */
    peal_buf_fini(&out);
}

static void pattern_matches_as_the_table_says(void **state)
{
    (void)state;
    static const struct {
        const char *pattern;
        const char *name;
        bool matches;
    } cases[] = {
        {"room:1", "room:1", true},
        {"room:1", "room:10", false},
        {"room:10", "room:1", false},
        {"room:1", "Room:1", false},
        {"", "", true},
        {"", "a", false},
        {"room:{id}", "room:1", true},
        {"room:{id}", "room:10", true},
        {"room:{id}", "room:", false},
        {"room:{id}", "room", false},
        {"room:{id}", "rooms:1", false},
        {"room:{id}", "room:a:b", true},
        {"room:{}", "room:1", true},
        {"room:{id}:in", "room:7:in", true},
        {"room:{id}:in", "room::in", false},
        {"room:{id}:in", "room:7:out", false},
        {"room:{id}:in", "room:7:in:in", true}, /* the first :in is no end, the second is */
        {"room:{id}:in", "room:7:in:in:", false},
        {"{a}:{b}", "x:y", true},
        {"{a}:{b}", ":y", false},
        {"{a}:{b}", "x:", false},
        {"{a}:{b}", "::y", true},
        {"{a}{b}", "x", false},
        {"{a}{b}", "xy", true},
        {"{a}ab", "aab", true},
        {"{a}ab", "aaab", true},
        {"{a}ab", "ab", false},
        {"*", "", true},
        {"*", "anything", true},
        {"room:*", "room:", true},
        {"room:*", "room:1:2", true},
        {"room:*", "room", false},
        {"{a}*", "", false},
        {"{a}*", "x", true},
        {"room:{id}:*", "room:1:", true},
        {"room:{id}:*", "room:1", false},
        {"a*b", "a*b", true}, /* only a final star is special */
        {"a*b", "axb", false},
        {"**", "*x", true},
        {"**", "x", false},
        {"a{b", "a{b", true}, /* never closed: a plain character */
        {"a{b", "axb", false},
        {"a}b", "a}b", true},
        {"}{", "}{", true},
        {"{a}{", "x{", true},
        {"{a}{", "xy", false},
        {"user:{id}", "user:bob", true},
        {"user:{id}", "user:", false},
        {"caf\xc3\xa9:{x}", "caf\xc3\xa9:1", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (peal_pattern_matches(cases[i].pattern, peal_span_of(cases[i].name)) != cases[i].matches)
            fail_msg("pattern '%s' and name '%s'", cases[i].pattern, cases[i].name);
}

static void pattern_is_not_ended_by_a_nul_in_the_name(void **state)
{
    (void)state;
    assert_false(peal_pattern_matches("room", SPAN("room\0x")));
    assert_false(peal_pattern_matches("room", SPAN("room\0")));
    assert_true(peal_pattern_matches("room{x}", SPAN("room\0")));
}

/* With backtracking into every capture this would run for longer than the universe has. */
static void pattern_of_many_captures_ends_soon(void **state)
{
    (void)state;
    char name[PEAL_NAME_MAX];
    memset(name, 'a', sizeof name);
    char pattern[8000] = "";
    for (size_t i = 0; i < 40; i++)
        memcpy(pattern + i * 4, "{x}a", 4);
    pattern[160] = 'b';
    assert_false(peal_pattern_matches(pattern, peal_span_make(name, sizeof name)));
    pattern[160] = '*';
    assert_true(peal_pattern_matches(pattern, peal_span_make(name, sizeof name)));
    memset(pattern, '{', sizeof pattern - 1);
    pattern[sizeof pattern - 2] = '}';
    assert_true(peal_pattern_matches(pattern, peal_span_make(name, sizeof name)));
}

static void policy_is_the_first_that_matches(void **state)
{
    (void)state;
    struct peal_config_group groups[] = {
        {.match = (char *)"user:{id}", .durable = true},
        {.match = (char *)"room:{id}", .history = {.messages = 10}},
        {.match = (char *)"room:vip"},
        {.match = (char *)"*"},
    };
    const struct peal_config config = {.groups = groups, .group_count = 4};
    assert_ptr_equal(peal_group_policy(&config, SPAN("user:bob")), &groups[0]);
    assert_ptr_equal(peal_group_policy(&config, SPAN("room:vip")), &groups[1]);
    assert_ptr_equal(peal_group_policy(&config, SPAN("news")), &groups[3]);
    assert_ptr_equal(peal_group_policy(&config, SPAN("user:")), &groups[3]);
    assert_true(peal_policy_keeps(&groups[0]));
    assert_true(peal_policy_keeps(&groups[1]));
    assert_false(peal_policy_keeps(&groups[3]));
}

static void epoch_text_reads_back(void **state)
{
    (void)state;
    static const struct {
        uint64_t epoch;
        const char *text;
    } cases[] = {
        {0, "0"},
        {1, "1"},
        {0xabcdef, "abcdef"},
        {0x10, "10"},
        {(UINT64_C(1) << 53) - 1, "1fffffffffffff"},
        {UINT64_MAX, "ffffffffffffffff"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peal_buf out = {0};
        uint64_t epoch = 42;
        peal_epoch_add(&out, cases[i].epoch);
        assert_true(peal_span_is(peal_buf_span(&out), cases[i].text));
        assert_int_equal(peal_epoch_parse(peal_buf_span(&out), &epoch), PEAL_OK);
        assert_int_equal(epoch, cases[i].epoch);
        peal_buf_fini(&out);
    }
}

static void epoch_in_any_other_form_is_refused(void **state)
{
    (void)state;
    const char *const texts[] = {"",    "00", "01", "A",   "g", "-1",
                                 "0x1", " 1", "1 ", "1.0", "/", "10000000000000000"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        uint64_t epoch = 42;
        assert_int_equal(peal_epoch_parse(peal_span_of(texts[i]), &epoch), PEAL_EBAD_FIELD);
        assert_int_equal(epoch, 42);
    }
    uint64_t epoch;
    assert_int_equal(peal_epoch_parse((struct peal_span){0}, &epoch), PEAL_EBAD_FIELD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(name_of_any_script_is_accepted),
        cmocka_unit_test(name_with_control_character_is_refused),
        cmocka_unit_test(name_of_bad_utf8_is_refused),
        cmocka_unit_test(name_beyond_200_bytes_is_refused),
        cmocka_unit_test(slot_of_name_is_the_published_one),
        cmocka_unit_test(slots_are_split_evenly_and_in_order),
        cmocka_unit_test(inbox_is_user_with_an_id),
        cmocka_unit_test(group_of_user_must_be_a_name_as_well),
        cmocka_unit_test(pattern_matches_as_the_table_says),
        cmocka_unit_test(pattern_is_not_ended_by_a_nul_in_the_name),
        cmocka_unit_test(pattern_of_many_captures_ends_soon),
        cmocka_unit_test(policy_is_the_first_that_matches),
        cmocka_unit_test(epoch_text_reads_back),
        cmocka_unit_test(epoch_in_any_other_form_is_refused),
    };
    return cmocka_run_group_tests_name("group", tests, NULL, NULL);
}

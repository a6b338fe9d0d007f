#include "proto/utf8.h"

#include "tests/unit/spans.h"

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
        cmocka_unit_test(utf8_of_every_short_sequence_is_judged_right),
        cmocka_unit_test(utf8_of_four_bytes_ends_at_10ffff),
    };
    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}

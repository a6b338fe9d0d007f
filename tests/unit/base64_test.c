#include "proto/base64.h"

#include "tests/unit/spans.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_in_any_other_form_is_refused),
        cmocka_unit_test(base64_of_every_byte_but_its_alphabet_is_refused),
    };
    return cmocka_run_group_tests_name("base64", tests, NULL, NULL);
}

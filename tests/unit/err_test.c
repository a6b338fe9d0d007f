#include "base/err.h"

#include <string.h>

#include "tests/unit/unit.h"

static void err_words_are_plain_and_distinct_but_for_internal(void **state)
{
    (void)state;
    for (int i = 0; i < PEAL_ERR_COUNT; i++) {
        const char *word = peal_err_word((enum peal_err)i);
        assert_true(strlen(word) > 0);
        assert_int_equal(strspn(word, "abcdefghijklmnopqrstuvwxyz_"), strlen(word));
        /* What happened inside is not the client's business: it is all `internal`. */
        if (strcmp(word, "internal") == 0) continue;
        for (int j = 0; j < i; j++)
            assert_string_not_equal(word, peal_err_word((enum peal_err)j));
    }
}

static void err_ok_alone_is_success(void **state)
{
    (void)state;
    assert_int_equal(PEAL_OK, 0);
    assert_int_equal(peal_err_http(PEAL_OK), 200);
    for (int i = 1; i < PEAL_ERR_COUNT; i++)
        assert_in_range(peal_err_http((enum peal_err)i), 400, 599);
}

static void err_retry_is_one_of_its_words(void **state)
{
    (void)state;
    for (int i = 0; i < PEAL_ERR_COUNT; i++) {
        const char *retry = peal_err_retry((enum peal_err)i);
        assert_true(strcmp(retry, "no") == 0 || strcmp(retry, "now") == 0 ||
                    strcmp(retry, "later") == 0 || strcmp(retry, "auth") == 0);
    }
}

static void err_answers_to_clients_are_those_documented(void **state)
{
    (void)state;
    static const struct {
        enum peal_err err;
        const char *word;
        int http;
    } table[] = {
        {PEAL_EBAD_JSON, "bad_json", 400},         {PEAL_EUNKNOWN_TYPE, "unknown_type", 400},
        {PEAL_EBAD_GROUP, "bad_group", 400},       {PEAL_ETOKEN_EXPIRED, "token_expired", 401},
        {PEAL_EFORBIDDEN, "forbidden", 403},       {PEAL_ENOT_FOUND, "not_found", 404},
        {PEAL_EMETHOD, "method_not_allowed", 405}, {PEAL_ELIMIT, "limit", 409},
        {PEAL_ETOO_LARGE, "too_large", 413},       {PEAL_ERATE_LIMITED, "rate_limited", 429},
        {PEAL_EINTERNAL, "internal", 500},         {PEAL_EQUEUE_FULL, "queue_full", 503},
        {PEAL_ENO_ROUTER, "no_router", 503},       {PEAL_ETIMEOUT, "timeout", 504},
        {PEAL_ESTORE_FULL, "store_full", 507},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        assert_string_equal(peal_err_word(table[i].err), table[i].word);
        assert_int_equal(peal_err_http(table[i].err), table[i].http);
    }
}

static void err_outside_of_the_table_is_internal(void **state)
{
    (void)state;
    assert_string_equal(peal_err_word(PEAL_ERR_COUNT), peal_err_word(PEAL_EINTERNAL));
    assert_int_equal(peal_err_http(PEAL_ERR_COUNT), 500);
    assert_non_null(peal_err_retry(PEAL_ERR_COUNT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_words_are_plain_and_distinct_but_for_internal),
        cmocka_unit_test(err_ok_alone_is_success),
        cmocka_unit_test(err_retry_is_one_of_its_words),
        cmocka_unit_test(err_answers_to_clients_are_those_documented),
        cmocka_unit_test(err_outside_of_the_table_is_internal),
    };
    return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}

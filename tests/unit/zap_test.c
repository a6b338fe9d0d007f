#include "router/zap.h"

#include "tests/unit/unit.h"

#define NODE      "HelloWorldHelloWorldHelloWorldHelloWorld"
#define PUBLISHER "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
#define STRANGER  "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"

static void zap_answer_is_by_key_and_door(void **state)
{
    (void)state;
    static const struct {
        const char *version;
        const char *domain;
        const char *mechanism;
        const char *key; /* NULL: none at all */
        enum peal_zap_verdict verdict;
        const char *name; /* of who is known */
    } cases[] = {
        {"1.0", "pull", "CURVE", NODE, PEAL_ZAP_YES, "edge"},
        {"1.0", "rpc", "CURVE", NODE, PEAL_ZAP_YES, "edge"},
        {"1.0", "xpub", "CURVE", NODE, PEAL_ZAP_YES, "edge"},
        {"1.0", "pull", "CURVE", PUBLISHER, PEAL_ZAP_YES, "shop"},
        {"1.0", "rpc", "CURVE", PUBLISHER, PEAL_ZAP_YES, "shop"},
        {"1.0", "xpub", "CURVE", PUBLISHER, PEAL_ZAP_WRONG_ROLE, "shop"},
        {"1.0", "relay", "CURVE", NODE, PEAL_ZAP_YES, "edge"},
        {"1.0", "relay", "CURVE", PUBLISHER, PEAL_ZAP_WRONG_ROLE, "shop"},
        {"1.0", "relay", "CURVE", STRANGER, PEAL_ZAP_UNKNOWN_KEY, NULL},
        {"1.0", "pull", "CURVE", STRANGER, PEAL_ZAP_UNKNOWN_KEY, NULL},
        {"1.0", "rpc", "CURVE", STRANGER, PEAL_ZAP_UNKNOWN_KEY, NULL},
        {"1.0", "xpub", "CURVE", STRANGER, PEAL_ZAP_UNKNOWN_KEY, NULL},
        {"1.0", "pull", "NULL", NULL, PEAL_ZAP_BAD_REQUEST, NULL},
        {"1.0", "pull", "CURVE", NULL, PEAL_ZAP_BAD_REQUEST, NULL},
        {"1.0", "pull", "NULL", NODE, PEAL_ZAP_BAD_REQUEST, NULL},
        {"1.0", "pull", "PLAIN", NODE, PEAL_ZAP_BAD_REQUEST, NULL},
        {"1.0", "", "CURVE", NODE, PEAL_ZAP_BAD_REQUEST, NULL},
        {"1.0", "XPUB", "CURVE", NODE, PEAL_ZAP_BAD_REQUEST, NULL},
        {"1.0", "xpub2", "CURVE", NODE, PEAL_ZAP_BAD_REQUEST, NULL},
        {"1.1", "pull", "CURVE", NODE, PEAL_ZAP_BAD_REQUEST, NULL},
        {"", "", "", NULL, PEAL_ZAP_BAD_REQUEST, NULL},
    };
    struct peal_bus_security security = {.curve = true};
    char why[160];
    assert_int_equal(
        peal_peers_parse(peal_span_of(NODE " node edge\n" PUBLISHER " publisher shop\n"),
                         &security.peers, why, sizeof why),
        PEAL_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char key[PEAL_CURVE_KEY_BYTES];
        const struct peal_peers_entry *who;
        if (cases[i].key != NULL) assert_true(peal_curve_decode(peal_span_of(cases[i].key), key));
        const struct peal_zap_request request = {
            .version = peal_span_of(cases[i].version),
            .domain = peal_span_of(cases[i].domain),
            .mechanism = peal_span_of(cases[i].mechanism),
            .key = peal_span_make(key, cases[i].key == NULL ? 0 : sizeof key)};
        enum peal_zap_verdict verdict = peal_zap_judge(&security, &request, &who);
        if (verdict != cases[i].verdict) fail_msg("case %zu: %d", i, verdict);
        assert_true((who == NULL) == (cases[i].name == NULL));
        if (who != NULL) assert_string_equal(who->name, cases[i].name);
    }
    peal_bus_security_fini(&security);
}

static void zap_key_of_another_length_is_refused(void **state)
{
    (void)state;
    struct peal_bus_security security = {.curve = true};
    const struct peal_peers_entry *who;
    unsigned char key[PEAL_CURVE_KEY_BYTES + 1] = {0};
    char why[160];
    assert_true(peal_curve_decode(peal_span_of(NODE), key));
    assert_int_equal(
        peal_peers_parse(peal_span_of(NODE " node edge\n"), &security.peers, why, sizeof why),
        PEAL_OK);
    for (size_t size = 0; size <= sizeof key; size++) {
        const struct peal_zap_request request = {peal_span_of("1.0"), peal_span_of("rpc"),
                                                 peal_span_of("CURVE"), peal_span_make(key, size)};
        assert_int_equal(peal_zap_judge(&security, &request, &who),
                         size == PEAL_CURVE_KEY_BYTES ? PEAL_ZAP_YES : PEAL_ZAP_BAD_REQUEST);
    }
    peal_bus_security_fini(&security);
}

static void zap_nobody_is_let_in_by_an_empty_list(void **state)
{
    (void)state;
    const struct peal_bus_security none = {.curve = true};
    const struct peal_peers_entry *who;
    static const unsigned char zeros[PEAL_CURVE_KEY_BYTES];
    const struct peal_zap_request request = {peal_span_of("1.0"), peal_span_of("pull"),
                                             peal_span_of("CURVE"),
                                             peal_span_make(zeros, sizeof zeros)};
    assert_int_equal(peal_zap_judge(&none, &request, &who), PEAL_ZAP_UNKNOWN_KEY);
}

static void zap_without_curve_lets_in_everybody_who_speaks_null(void **state)
{
    (void)state;
    static const struct {
        const char *domain;
        const char *mechanism;
        enum peal_zap_verdict verdict;
    } cases[] = {
        {"pull", "NULL", PEAL_ZAP_YES},          {"rpc", "NULL", PEAL_ZAP_YES},
        {"xpub", "NULL", PEAL_ZAP_YES},          {"pull", "CURVE", PEAL_ZAP_BAD_REQUEST},
        {"rpc", "PLAIN", PEAL_ZAP_BAD_REQUEST},  {"xpub", "GSSAPI", PEAL_ZAP_BAD_REQUEST},
        {"other", "NULL", PEAL_ZAP_BAD_REQUEST},
    };
    const struct peal_bus_security none = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct peal_peers_entry *who;
        const struct peal_zap_request request = {.version = peal_span_of("1.0"),
                                                 .domain = peal_span_of(cases[i].domain),
                                                 .mechanism = peal_span_of(cases[i].mechanism)};
        assert_int_equal(peal_zap_judge(&none, &request, &who), cases[i].verdict);
        assert_null(who);
    }
}

static void zap_user_id_says_who_is_a_node(void **state)
{
    (void)state;
    assert_true(peal_zap_is_node("node:"));
    assert_true(peal_zap_is_node("node:edge"));
    assert_false(peal_zap_is_node("publisher:node:"));
    assert_false(peal_zap_is_node("node"));
    assert_false(peal_zap_is_node(""));
    assert_false(peal_zap_is_node(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zap_answer_is_by_key_and_door),
        cmocka_unit_test(zap_key_of_another_length_is_refused),
        cmocka_unit_test(zap_nobody_is_let_in_by_an_empty_list),
        cmocka_unit_test(zap_without_curve_lets_in_everybody_who_speaks_null),
        cmocka_unit_test(zap_user_id_says_who_is_a_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

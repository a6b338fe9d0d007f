#include "node/gate.h"

#include <stdio.h>

#include <sodium.h>

#include "base/limits.h"
#include "tests/unit/unit.h"

#define AUTH "Authorization: Bearer key-2\r\n"
#define HOST "Host: a\r\n"

static char route_path[] = "/ws";
static struct peal_config_route routes[1] = {{.path = route_path}};
static const struct peal_config config = {
    .routes = routes, .route_count = 1, .limits = {.body = 100000}};
static unsigned char hashes[2][32];
static struct peal_gate gate;
static struct peal_gate_refusal refusal;

static enum peal_err judge_at(bool api, const char *text)
{
    const struct peal_gate_rules rules = {.config = &config,
                                          .api = api,
                                          .page = true,
                                          .token = true,
                                          .key_hashes = hashes,
                                          .key_count = 2};
    enum peal_err err = peal_gate_judge(&rules, peal_span_of(text), &gate, &refusal);
    if (err == PEAL_OK || err == PEAL_EAGAIN) {
        assert_int_equal(refusal.status, 0);
    } else {
        assert_in_range(refusal.status, 400, 599);
        assert_true(strlen(refusal.why) > 0);
    }
    return err;
}

/* The status that the API listener refuses with; 0 when it does not. */
static int refused(const char *text)
{
    enum peal_err err = judge_at(true, text);
    assert_int_not_equal(err, PEAL_EAGAIN);
    if (err == PEAL_OK) peal_gate_fini(&gate);
    return refusal.status;
}

static void gate_call_is_found_with_its_user(void **state)
{
    (void)state;
    static const struct {
        const char *head;
        enum peal_gate_call call;
        const char *user;
    } rows[] = {
        {"GET /livez HTTP/1.1\r\n" HOST "\r\n", PEAL_GATE_LIVEZ, ""},
        {"GET /readyz?x=1 HTTP/1.1\r\n" HOST "\r\n", PEAL_GATE_READYZ, ""},
        {"HEAD /metrics HTTP/1.1\r\n" HOST "\r\n", PEAL_GATE_METRICS, ""},
        {"POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Length: 2\r\n\r\n", PEAL_GATE_PUBLISH,
         ""},
        {"GET /v1/inbox/bob HTTP/1.1\r\n" HOST AUTH "\r\n", PEAL_GATE_INBOX, "bob"},
        {"GET /v1/inbox/b%C3%BCb HTTP/1.1\r\n" HOST AUTH "\r\n", PEAL_GATE_INBOX,
         "b\xc3\xbc"
         "b"},
        /* Decoded once, never twice, and never as a path. */
        {"GET /v1/inbox/a%252Fb HTTP/1.1\r\n" HOST AUTH "\r\n", PEAL_GATE_INBOX, "a%2Fb"},
        {"GET /v1/inbox/bob%2F..%2Falice HTTP/1.1\r\n" HOST AUTH "\r\n", PEAL_GATE_INBOX,
         "bob/../alice"},
        {"GET /v1/inbox/a+b;c&d HTTP/1.1\r\n" HOST AUTH "\r\n", PEAL_GATE_INBOX, "a+b;c&d"},
        {"POST /v1/inbox/bob/ack HTTP/1.1\r\n" HOST AUTH "Content-Length: 2\r\n\r\n", PEAL_GATE_ACK,
         "bob"},
        {"POST /v1/inbox/bob%2Fack/read HTTP/1.1\r\n" HOST AUTH "Content-Length: 2\r\n\r\n",
         PEAL_GATE_READ, "bob/ack"},
        {"GET /v1/inbox/ack HTTP/1.1\r\n" HOST AUTH "\r\n", PEAL_GATE_INBOX, "ack"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (judge_at(true, rows[i].head) != PEAL_OK) fail_msg("%s", rows[i].head);
        assert_int_equal(gate.call, rows[i].call);
        assert_true(peal_span_is(peal_buf_span(&gate.user), rows[i].user));
        assert_int_equal(gate.head_size, strlen(rows[i].head));
        peal_gate_fini(&gate);
    }
}

static void gate_query_of_an_inbox_is_read(void **state)
{
    (void)state;
    assert_int_equal(judge_at(true, "GET /v1/inbox/bob?before=12&limit=7&unread_only=true "
                                    "HTTP/1.1\r\n" HOST AUTH "\r\n"),
                     PEAL_OK);
    assert_int_equal(gate.before, 12);
    assert_int_equal(gate.limit, 7);
    assert_true(gate.unread_only);
    peal_gate_fini(&gate);
    assert_int_equal(judge_at(true, "GET /v1/inbox/bob?limit=99999 HTTP/1.1\r\n" HOST AUTH "\r\n"),
                     PEAL_OK);
    assert_int_equal(gate.before, 0);
    assert_int_equal(gate.limit, PEAL_PAGE_MESSAGES);
    assert_false(gate.unread_only);
    peal_gate_fini(&gate);

    static const char *const bad[] = {"before=0",  "before=-1",       "limit=x",
                                      "limit=1e3", "unread_only=yes", "limit=%zz"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char head[200];
        snprintf(head, sizeof head, "GET /v1/inbox/bob?%s HTTP/1.1\r\n" HOST AUTH "\r\n", bad[i]);
        if (refused(head) != 400) fail_msg("%s", bad[i]);
        assert_non_null(refusal.field);
        assert_int_equal(strncmp(bad[i], refusal.field, strlen(refusal.field)), 0);
    }
}

static void gate_wrong_key_is_refused_alike_everywhere(void **state)
{
    (void)state;
    static const char *const paths[] = {"GET /v1/publish", "POST /v1/publish", "GET /v1/inbox/bob",
                                        "GET /v1/inbox/%ff", "POST /v1/inbox/bob/ack"};
    static const char *const keys[] = {"",
                                       "Authorization: key-1\r\n",
                                       "Authorization: Bearer\r\n",
                                       "Authorization: Bearer \r\n",
                                       "Authorization: Bearer key-\r\n",
                                       "Authorization: Bearer key-11\r\n",
                                       "Authorization: Basic a2V5LTE6\r\n",
                                       "Authorization: Bearer key-1,key-2\r\n"};
    for (size_t p = 0; p < sizeof paths / sizeof paths[0]; p++)
        for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
            char head[300];
            snprintf(head, sizeof head, "%s HTTP/1.1\r\n" HOST "%s%s\r\n", paths[p], keys[k],
                     paths[p][0] == 'P' ? "Content-Length: 2\r\n" : "");
            if (refused(head) != 401) fail_msg("%s", head);
            assert_string_equal(refusal.code, "key_invalid");
            assert_string_equal(refusal.why, "the API key is missing or wrong");
        }
}

static void gate_every_live_key_is_taken(void **state)
{
    (void)state;
    assert_int_equal(
        refused("GET /v1/inbox/bob HTTP/1.1\r\n" HOST "Authorization: Bearer key-1\r\n\r\n"), 0);
    assert_int_equal(
        refused("GET /v1/inbox/bob HTTP/1.1\r\n" HOST "authorization: bearer key-2\r\n\r\n"), 0);
}

static void gate_wrong_method_names_the_right_one(void **state)
{
    (void)state;
    assert_int_equal(refused("POST /livez HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n"), 405);
    assert_string_equal(refusal.allow, "GET, HEAD");
    assert_int_equal(refused("DELETE /livez HTTP/1.1\r\n" HOST "\r\n"), 405);
    assert_int_equal(refused("GET /v1/publish HTTP/1.1\r\n" HOST AUTH "\r\n"), 405);
    assert_string_equal(refusal.allow, "POST");
    assert_int_equal(refused("PUT /v1/inbox/bob/ack HTTP/1.1\r\n" HOST AUTH "\r\n"), 405);
    assert_string_equal(refusal.allow, "POST");
}

static void gate_unknown_path_is_not_found(void **state)
{
    (void)state;
    static const char *const paths[] = {
        "/",          "/ws", /* a route, but of the other listener */
        "/dev/token", "/livez/",       "//livez",        "/x/../livez",  "/v1/inbox/",
        "/v1/inbox",  "/v1/inbox/a/b", "/v1/inbox//ack", "/v1/publish/", "/v1%2Fpublish"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        char head[200];
        snprintf(head, sizeof head, "GET %s HTTP/1.1\r\n" HOST AUTH "\r\n", paths[i]);
        if (refused(head) != 404) fail_msg("%s: %d", paths[i], refusal.status);
    }
}

static void gate_bad_user_is_refused(void **state)
{
    (void)state;
    static const char *const users[] = {"%ff", "%00", "a%0ab", "%zz", "%"};
    for (size_t i = 0; i < sizeof users / sizeof users[0]; i++) {
        char head[200];
        snprintf(head, sizeof head, "GET /v1/inbox/%s HTTP/1.1\r\n" HOST AUTH "\r\n", users[i]);
        if (refused(head) != 400) fail_msg("%s: %d", users[i], refusal.status);
        assert_string_equal(refusal.field, "user");
    }
    char head[400] = "GET /v1/inbox/";
    memset(head + strlen(head), 'u', 196);
    strcat(head, " HTTP/1.1\r\n" HOST AUTH "\r\n");
    assert_int_equal(refused(head), 400);
}

static void gate_browser_listener_has_its_own_pages(void **state)
{
    (void)state;
    assert_int_equal(judge_at(false, "GET / HTTP/1.1\r\n" HOST "\r\n"), PEAL_OK);
    assert_int_equal(gate.call, PEAL_GATE_PAGE);
    assert_false(gate.keep_alive);
    peal_gate_fini(&gate);
    assert_int_equal(
        judge_at(false, "POST /dev/token HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\n"), PEAL_OK);
    assert_int_equal(gate.call, PEAL_GATE_TOKEN);
    peal_gate_fini(&gate);
    assert_int_equal(
        judge_at(false, "POST /dev/token HTTP/1.1\r\n" HOST "Content-Length: 4097\r\n\r\n"),
        PEAL_ETOO_LARGE);
    assert_int_equal(judge_at(false, "GET /ws HTTP/1.1\r\n" HOST "\r\n"), PEAL_EUPGRADE);
    assert_int_equal(refusal.status, 426);
    assert_int_equal(judge_at(false, "GET /livez HTTP/1.1\r\n" HOST "\r\n"), PEAL_ENOT_FOUND);
    assert_int_equal(judge_at(false, "GET /metrics HTTP/1.1\r\n" HOST "\r\n"), PEAL_ENOT_FOUND);
    assert_int_equal(
        judge_at(false, "POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Length: 2\r\n\r\n"),
        PEAL_ENOT_FOUND);
}

static void gate_without_page_and_secret_has_neither(void **state)
{
    (void)state;
    const struct peal_gate_rules rules = {.config = &config};
    assert_int_equal(
        peal_gate_judge(&rules, peal_span_of("GET / HTTP/1.1\r\n" HOST "\r\n"), &gate, &refusal),
        PEAL_ENOT_FOUND);
    assert_int_equal(peal_gate_judge(&rules,
                                     peal_span_of("POST /dev/token HTTP/1.1\r\n" HOST
                                                  "Content-Length: 9\r\n\r\n"),
                                     &gate, &refusal),
                     PEAL_ENOT_FOUND);
}

#define POST_HEAD "POST /v1/publish HTTP/1.1\r\n" HOST AUTH

static void gate_length_must_be_said_in_one_way(void **state)
{
    (void)state;
    assert_int_equal(refused(POST_HEAD "\r\n"), 411);
    assert_string_equal(refusal.code, "length_required");
    assert_int_equal(refused(POST_HEAD "Transfer-Encoding: chunked\r\n\r\n"), 411);
    assert_int_equal(refused(POST_HEAD "Content-Length: 100001\r\n\r\n"), 413);
    assert_int_equal(refused(POST_HEAD "Content-Length: 100000\r\n\r\n"), 0);
    static const char *const bad[] = {
        POST_HEAD "Content-Length: 2\r\nContent-Length: 2\r\n\r\n",
        POST_HEAD "Content-Length: 2\r\nContent-Length: 3\r\n\r\n",
        POST_HEAD "Content-Length: 2, 2\r\n\r\n",
        POST_HEAD "Content-Length: -1\r\n\r\n",
        POST_HEAD "Content-Length: +2\r\n\r\n",
        POST_HEAD "Content-Length: 0x2\r\n\r\n",
        POST_HEAD "Content-Length: 2 2\r\n\r\n",
        POST_HEAD "Content-Length:\r\n\r\n",
        POST_HEAD "Content-Length: 18446744073709551617\r\n\r\n",
        POST_HEAD "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        POST_HEAD "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
        POST_HEAD "Content-Length : 2\r\n\r\n",
        POST_HEAD "Content-Length: 2\n\r\n",
        POST_HEAD "X: y\r\n Content-Length: 2\r\n\r\n",
        "POST /v1/publish HTTP/1.1\r\nHost : a\r\n" AUTH "Content-Length: 2\r\n\r\n",
        "GET /livez HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n",
        "GET /livez HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n",
        "GET /livez HTTP/1.1\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (refused(bad[i]) != 400) fail_msg("%d: %s", refusal.status, bad[i]);
}

static void gate_upgrade_of_any_kind_is_refused(void **state)
{
    (void)state;
    assert_int_equal(refused("GET /livez HTTP/1.1\r\n" HOST
                             "Connection: Upgrade, HTTP2-Settings\r\n"
                             "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"),
                     400);
    assert_int_equal(refused("GET /livez HTTP/1.1\r\n" HOST "Connection: Upgrade\r\n"
                             "Upgrade: bogus\r\n\r\n"),
                     400);
    assert_int_equal(refused("GET /livez HTTP/1.1\r\n" HOST "Connection: Upgrade\r\n"
                             "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"),
                     400);
    assert_int_not_equal(refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 0);
}

static void gate_content_type_of_a_publish_is_json_or_curls_default(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        int status;
    } rows[] = {
        {"", 0},
        {"Content-Type: application/json\r\n", 0},
        {"content-type: Application/JSON ; charset=utf-8\r\n", 0},
        {"Content-Type: text/json\r\n", 0},
        {"Content-Type: application/x-www-form-urlencoded\r\n", 0},
        {"Content-Type: multipart/form-data; boundary=x\r\n", 415},
        {"Content-Type: text/plain\r\n", 415},
        {"Content-Type: application/jsonp\r\n", 415},
        {"Content-Type:\r\n", 415},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char head[300];
        snprintf(head, sizeof head, POST_HEAD "Content-Length: 2\r\n%s\r\n", rows[i].line);
        if (refused(head) != rows[i].status) fail_msg("%s: %d", rows[i].line, refusal.status);
    }
}

static void gate_head_comes_in_pieces(void **state)
{
    (void)state;
    const char *whole = "GET /livez HTTP/1.1\r\n" HOST "\r\n";
    char text[100];
    for (size_t n = 0; n < strlen(whole); n++) {
        memcpy(text, whole, n);
        text[n] = '\0';
        assert_int_equal(judge_at(true, text), PEAL_EAGAIN);
    }
}

static void gate_head_too_large_is_refused(void **state)
{
    (void)state;
    static char text[PEAL_HEAD_MAX + 200];
    for (size_t size = 3600; size <= PEAL_HEAD_MAX + 100; size += 500) {
        strcpy(text, "GET /livez HTTP/1.1\r\n" HOST "X: ");
        memset(text + strlen(text), 'x', size);
        text[size] = '\0';
        strcat(text, "\r\n\r\n");
        assert_int_equal(refused(text), 431);
    }
}

static void gate_connection_is_kept_only_when_both_sides_want(void **state)
{
    (void)state;
    static const struct {
        const char *head;
        bool keep;
    } rows[] = {
        {"GET /livez HTTP/1.1\r\n" HOST "\r\n", true},
        {"GET /livez HTTP/1.1\r\n" HOST "Connection: keep-alive\r\n\r\n", true},
        {"GET /livez HTTP/1.1\r\n" HOST "Connection: Close\r\n\r\n", false},
        {"GET /livez HTTP/1.1\r\n" HOST "Connection: te, close\r\n\r\n", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(judge_at(true, rows[i].head), PEAL_OK);
        assert_int_equal(gate.keep_alive, rows[i].keep);
        peal_gate_fini(&gate);
    }
    assert_int_equal(judge_at(true, POST_HEAD "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"),
                     PEAL_OK);
    assert_true(gate.wants_continue);
    peal_gate_fini(&gate);
}

static int hash_keys(void **state)
{
    (void)state;
    crypto_hash_sha256(hashes[0], (const unsigned char *)"key-1", 5);
    crypto_hash_sha256(hashes[1], (const unsigned char *)"key-2", 5);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gate_call_is_found_with_its_user),
        cmocka_unit_test(gate_query_of_an_inbox_is_read),
        cmocka_unit_test(gate_wrong_key_is_refused_alike_everywhere),
        cmocka_unit_test(gate_every_live_key_is_taken),
        cmocka_unit_test(gate_wrong_method_names_the_right_one),
        cmocka_unit_test(gate_unknown_path_is_not_found),
        cmocka_unit_test(gate_bad_user_is_refused),
        cmocka_unit_test(gate_browser_listener_has_its_own_pages),
        cmocka_unit_test(gate_without_page_and_secret_has_neither),
        cmocka_unit_test(gate_length_must_be_said_in_one_way),
        cmocka_unit_test(gate_upgrade_of_any_kind_is_refused),
        cmocka_unit_test(gate_content_type_of_a_publish_is_json_or_curls_default),
        cmocka_unit_test(gate_head_comes_in_pieces),
        cmocka_unit_test(gate_head_too_large_is_refused),
        cmocka_unit_test(gate_connection_is_kept_only_when_both_sides_want),
    };
    return cmocka_run_group_tests_name("gate", tests, hash_keys, NULL);
}

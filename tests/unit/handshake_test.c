#include "node/handshake.h"

#include <sodium.h>

#include "tests/unit/hub_rig.h"

static const char yaml[] =
    "default_routes: false\n"
    "routes:\n"
    "  - {path: '/token', dialect: raw, identity: token}\n"
    "  - {path: '/native', dialect: native, identity: token}\n"
    "  - {path: '/lenient', dialect: raw, identity: token, lenient: true}\n"
    "  - {path: '/u/{user}', dialect: raw, identity: url, origins: ['https://good.example']}\n"
    "  - {path: '/anyone', dialect: raw, identity: anonymous}\n"
    "groups: [{match: '*', join: anyone}]\n";
static const char secret[] = "a-secret-of-at-least-32-bytes-for-tests";

struct world {
    struct rig *rig;
    struct peal_token_keys *keys;
    struct peal_buf token;
    struct peal_buf text;
    struct peal_handshake h;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct peal_claims claims = {.user = (char[]){"bob"}, .expires_ms = RIG_WALL_MS + 60000};
    w->rig = rig_open(yaml);
    w->keys = peal_token_keys_new();
    assert_int_equal(peal_token_keys_add_hs256(w->keys, peal_span_of(secret)), PEAL_OK);
    w->rig->hub.keys = w->keys;
    assert_int_equal(peal_token_sign(peal_span_of(secret), &claims, "sub", RIG_WALL_MS, &w->token),
                     PEAL_OK);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    peal_handshake_fini(&w->h);
    peal_buf_fini(&w->token);
    peal_buf_fini(&w->text);
    peal_token_keys_free(w->keys);
    rig_close(w->rig);
    free(w);
    return 0;
}

/* Judges an upgrade to target; lines are further header lines in which `$` is the token. */
static enum peal_err admit(struct world *w, const char *target, const char *lines)
{
    const char *const parts[] = {"GET ", target,
                                 " HTTP/1.1\r\nHost: here.example\r\nUpgrade: websocket\r\n"
                                 "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                                 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
                                 lines, "\r\n"};
    char why[160];
    peal_handshake_fini(&w->h);
    w->h = (struct peal_handshake){0};
    w->text.size = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        for (const char *p = parts[i]; *p != '\0'; p++)
            if (*p == '$')
                peal_buf_add_span(&w->text, peal_buf_span(&w->token));
            else
                peal_buf_add_char(&w->text, *p);
    assert_int_equal(peal_head_parse(peal_buf_span(&w->text), &w->h.head, why, sizeof why),
                     PEAL_OK);
    assert_true(w->h.head.is_websocket);
    return peal_handshake_admit(&w->h, &w->rig->hub);
}

/* ---- the order in which it judges -------------------------------------------------------- */

static void handshake_route_is_judged_before_origin_and_token(void **state)
{
    struct world *w = *state;
    const char *bad = "Origin: https://evil.example\r\nAuthorization: Bearer x\r\n";
    assert_int_equal(admit(w, "/none", bad), PEAL_ENOT_FOUND);
    assert_string_equal(w->h.why, "no route has this path");
    assert_int_equal(admit(w, "/%zz", bad), PEAL_EBAD_FIELD);
    assert_int_equal(admit(w, "/token", bad), PEAL_EFORBIDDEN);
    assert_string_equal(w->h.why, "pages of this origin may not connect here");
    assert_int_equal(admit(w, "/token", "Authorization: Bearer x\r\n"), PEAL_ETOKEN_INVALID);
}

static void handshake_origin_is_the_own_one_or_one_of_the_list(void **state)
{
    struct world *w = *state;
    assert_int_equal(admit(w, "/anyone", ""), PEAL_OK);
    assert_int_equal(admit(w, "/anyone", "Origin: https://here.example\r\n"), PEAL_OK);
    assert_int_equal(admit(w, "/anyone", "Origin: https://good.example\r\n"), PEAL_EFORBIDDEN);
    assert_int_equal(admit(w, "/u/eve", "Origin: https://good.example\r\n"), PEAL_OK);
    assert_int_equal(admit(w, "/u/eve", "Origin: https://here.example\r\n"), PEAL_EFORBIDDEN);
}

/* ---- identity ---------------------------------------------------------------------------- */

static void handshake_token_is_found_in_its_three_places(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *target;
        const char *lines;
    } places[] = {
        {"/token", "Authorization: Bearer $\r\n"},
        {"/token", "Authorization: bearer $\r\n"},
        {"/token", "Sec-WebSocket-Protocol: peal.v1.json, peal.token.$\r\n"},
        {"/token?a=b&token=$", ""},
        /* The header wins: pages cannot set it, so whoever did meant it. */
        {"/token?token=bad", "Authorization: Bearer $\r\n"},
    };
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        if (admit(w, places[i].target, places[i].lines) != PEAL_OK)
            fail_msg("%s: %s", places[i].target, w->h.why);
        assert_true(w->h.open.has_token);
        assert_true(peal_span_is(w->h.open.user, "bob"));
        assert_int_equal(w->h.open.claims.expires_ms, RIG_WALL_MS + 60000);
        assert_ptr_equal(w->h.open.match, &w->h.match);
    }
}

static void handshake_missing_token_is_refused_except_where_a_hello_may_bring_it(void **state)
{
    struct world *w = *state;
    assert_int_equal(admit(w, "/token", ""), PEAL_ETOKEN_MISSING);
    assert_int_equal(admit(w, "/native", ""), PEAL_OK);
    assert_false(w->h.open.has_token);
    assert_null(w->h.open.user.at);
    assert_int_equal(admit(w, "/lenient", ""), PEAL_OK);
    assert_null(w->h.open.user.at);
}

static void handshake_bad_token_is_refused_unless_the_route_is_lenient(void **state)
{
    struct world *w = *state;
    assert_int_equal(admit(w, "/token?token=a.b.c", ""), PEAL_ETOKEN_INVALID);
    assert_int_equal(admit(w, "/native?token=a.b.c", ""), PEAL_ETOKEN_INVALID);
    assert_int_equal(admit(w, "/token?token=%zz", ""), PEAL_EBAD_FIELD);
    assert_int_equal(admit(w, "/lenient?token=a.b.c", ""), PEAL_OK);
    assert_null(w->h.open.user.at);
    w->rig->hub.wall_ms += 60000 + w->rig->config->auth.leeway_ms + 1000;
    assert_int_equal(admit(w, "/token?token=$", ""), PEAL_ETOKEN_EXPIRED);
}

static void handshake_user_of_the_path_is_a_name(void **state)
{
    struct world *w = *state;
    assert_int_equal(admit(w, "/u/%C3%A9ve", ""), PEAL_OK);
    assert_true(peal_span_is(w->h.open.user, "\xc3\xa9ve"));
    assert_int_equal(admit(w, "/u/a%0Ab", ""), PEAL_EBAD_GROUP);
    assert_int_equal(admit(w, "/u/eve?token=$", ""), PEAL_OK); /* the token names no other one */
    assert_true(peal_span_is(w->h.open.user, "eve"));
}

/* ---- answers ----------------------------------------------------------------------------- */

static void handshake_accept_answers_the_key_and_the_protocol(void **state)
{
    struct world *w = *state;
    struct peal_buf out = {0};
    assert_int_equal(
        admit(w, "/anyone", "Sec-WebSocket-Protocol: other, peal.v1.json, peal.token.$\r\n"),
        PEAL_OK);
    peal_handshake_accept(&w->h, &out);
    peal_buf_add_char(&out, '\0');
    assert_string_equal(out.at, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                "Connection: Upgrade\r\n"
                                "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                                "Sec-WebSocket-Protocol: peal.v1.json\r\n\r\n");
    out.size = 0;
    assert_int_equal(admit(w, "/anyone", "Sec-WebSocket-Protocol: other\r\n"), PEAL_OK);
    peal_handshake_accept(&w->h, &out);
    peal_buf_add_char(&out, '\0');
    assert_null(strstr(out.at, "Protocol:"));
    peal_buf_fini(&out);
}

static void handshake_refusal_is_json_with_the_headers_of_its_status(void **state)
{
    (void)state;
    static const struct {
        int status;
        enum peal_err err;
        const char *head;
        const char *body;
    } cases[] = {
        {403, PEAL_EFORBIDDEN,
         "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: 58\r\n"
         "Connection: close\r\n\r\n",
         "{\"error\":{\"code\":\"forbidden\",\"message\":\"say \\\"please\\\"\"}}\n"},
        {426, PEAL_EUPGRADE,
         "HTTP/1.1 426 Upgrade Required\r\nContent-Type: application/json\r\n"
         "Content-Length: 65\r\nConnection: close\r\n"
         "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
         "{\"error\":{\"code\":\"upgrade_required\",\"message\":\"say \\\"please\\\"\"}}\n"},
        {503, PEAL_EQUEUE_FULL,
         "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
         "Content-Length: 59\r\nConnection: close\r\nRetry-After: 1\r\n\r\n",
         "{\"error\":{\"code\":\"queue_full\",\"message\":\"say \\\"please\\\"\"}}\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peal_buf out = {0};
        struct peal_buf wanted = {0};
        peal_handshake_refuse(cases[i].status, cases[i].err, "say \"please\"", &out);
        peal_buf_add_text(&wanted, cases[i].head);
        peal_buf_add_text(&wanted, cases[i].body);
        if (!peal_span_equal(peal_buf_span(&out), peal_buf_span(&wanted)))
            fail_msg("%.*s", (int)out.size, out.at);
        peal_buf_fini(&out);
        peal_buf_fini(&wanted);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(handshake_route_is_judged_before_origin_and_token),
        TEST(handshake_origin_is_the_own_one_or_one_of_the_list),
        TEST(handshake_token_is_found_in_its_three_places),
        TEST(handshake_missing_token_is_refused_except_where_a_hello_may_bring_it),
        TEST(handshake_bad_token_is_refused_unless_the_route_is_lenient),
        TEST(handshake_user_of_the_path_is_a_name),
        TEST(handshake_accept_answers_the_key_and_the_protocol),
        cmocka_unit_test(handshake_refusal_is_json_with_the_headers_of_its_status),
    };
    if (sodium_init() < 0) return 1;
    peal_metrics_thread_start();
    return cmocka_run_group_tests_name("handshake", tests, NULL, NULL);
}

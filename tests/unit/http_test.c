/* Pages, keys, and connections from their first byte to their end. */
#include "tests/unit/http_rig.h"

/* ---- pages ------------------------------------------------------------------------------- */

static void http_status_pages_need_no_key(void **state)
{
    struct world *w = *state;
    assert_int_equal(once(w, true, "GET /livez HTTP/1.1\r\n" HOST "\r\n"), 200);
    assert_int_equal(once(w, true, "GET /readyz HTTP/1.1\r\n" HOST "\r\n"), 200);
    assert_body("{\"ready\":true}\n");
    w->ready = false;
    assert_int_equal(once(w, true, "GET /readyz HTTP/1.1\r\n" HOST "\r\n"), 503);
    assert_body("{\"ready\":false}\n");
    assert_non_null(strstr(last.head, "\r\nRetry-After: 1\r\n"));
    assert_int_equal(once(w, true, "GET /metrics HTTP/1.1\r\n" HOST "\r\n"), 200);
    assert_non_null(strstr(last.head, "\r\nContent-Type: text/plain; version=0.0.4\r\n"));
    assert_true(body_has("# TYPE peal_connections gauge"));
}

static void http_head_is_get_without_the_body(void **state)
{
    struct world *w = *state;
    assert_int_equal(once(w, true, "HEAD /readyz HTTP/1.1\r\n" HOST "\r\n"), 200);
    assert_non_null(strstr(last.head, "\r\nContent-Length: 15\r\n"));
    assert_int_equal(last.body.size, 0);
}

static void http_demo_page_says_what_it_may(void **state)
{
    struct world *w = *state;
    struct client *c = client_open(w, false);
    assert_int_equal(ask(c, "GET / HTTP/1.1\r\n" HOST "\r\n"), 200);
    assert_body(page);
    assert_non_null(strstr(last.head, "\r\nContent-Security-Policy: default-src 'none'; "));
    assert_non_null(strstr(last.head, "frame-ancestors 'none'\r\n"));
    assert_non_null(strstr(last.head, "\r\nX-Content-Type-Options: nosniff\r\n"));
    assert_non_null(strstr(last.head, "\r\nReferrer-Policy: no-referrer\r\n"));
    assert_non_null(strstr(last.head, "\r\nCache-Control: no-store\r\n"));
    assert_true(is_close());
    wait_for_close(c);
}

static void http_dev_token_is_one_that_the_node_takes(void **state)
{
    struct world *w = *state;
    assert_int_equal(once(w, false, post("/dev/token", "", "{\"user\":\"b\\u00f6b\"}")), 200);
    struct peal_json json;
    struct peal_buf token = {0};
    struct peal_claims claims;
    char why[160];
    last.body.size--; /* the line end */
    assert_int_equal(peal_json_check(last.body, NULL, 0), PEAL_OK);
    assert_int_equal(peal_json_object(last.body, &json), PEAL_OK);
    assert_int_equal(peal_json_string(peal_json_get(&json, "token")->value, &token), PEAL_OK);
    struct peal_token_keys *keys = peal_token_keys_new();
    peal_token_keys_add_hs256(keys, peal_span_of(secret));
    const struct peal_token_rules rules = {.user_claim = "sub"};
    assert_int_equal(peal_token_verify(keys, &rules, peal_buf_span(&token), 1700000000000, &claims,
                                       why, sizeof why),
                     PEAL_OK);
    assert_string_equal(claims.user, "b\xc3\xb6"
                                     "b");
    assert_int_equal(claims.expires_ms, 1700000000000 + 12ull * 3600 * 1000);
    peal_claims_fini(&claims);
    peal_token_keys_free(keys);
    peal_buf_fini(&token);

    assert_int_equal(once(w, false, post("/dev/token", "", "{\"user\":\"a\\u0000b\"}")), 400);
    assert_int_equal(once(w, false, post("/dev/token", "", "{\"user\":\"\"}")), 400);
    assert_int_equal(once(w, false, post("/dev/token", "", "{\"user\":1}")), 400);
    assert_int_equal(once(w, false, post("/dev/token", "", "{}")), 400);
    assert_int_equal(once(w, false, post("/dev/token", "", "{")), 400);
    assert_true(body_has("\"code\":\"bad_json\""));
}

static void http_browser_listener_closes_after_each_answer(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *request;
        int status;
    } rows[] = {
        {"GET /nothing HTTP/1.1\r\n" HOST "\r\n", 404},
        {"GET /v1/ws HTTP/1.1\r\n" HOST "\r\n", 426},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", 405},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct client *c = client_open(w, false);
        assert_int_equal(ask(c, rows[i].request), rows[i].status);
        assert_true(is_close());
        wait_for_close(c);
    }
}

/* ---- connections ------------------------------------------------------------------------- */

static void http_api_connection_is_kept_alive(void **state)
{
    struct world *w = *state;
    struct client *c = client_open(w, true);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(ask(c, post("/v1/publish", AUTH, BODY)), 200);
        assert_false(is_close());
        assert_int_equal(ask(c, "GET /v1/inbox/bob HTTP/1.1\r\n" HOST AUTH "\r\n"), 200);
        assert_int_equal(ask(c, "HEAD /readyz HTTP/1.1\r\n" HOST "\r\n"), 200);
        assert_int_equal(ask(c, post("/v1/publish", AUTH, "{}")), 400);
        assert_false(c->closed);
    }
    assert_int_equal(ask(c, "GET /livez HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"), 200);
    assert_true(is_close());
    wait_for_close(c);
}

static void http_leaving_answers_close_and_is_not_ready(void **state)
{
    struct world *w = *state;
    _Atomic bool leaving = false;
    w->shared.draining = &leaving;
    struct client *c = client_open(w, true);
    assert_int_equal(ask(c, "GET /readyz HTTP/1.1\r\n" HOST "\r\n"), 200);
    assert_false(is_close());
    leaving = true;
    assert_int_equal(ask(c, post("/v1/publish", AUTH, BODY)), 200);
    assert_true(is_close());
    wait_for_close(c);
    assert_int_equal(once(w, true, "GET /readyz HTTP/1.1\r\n" HOST "\r\n"), 503);
    assert_int_equal(once(w, true, "GET /livez HTTP/1.1\r\n" HOST "\r\n"), 200);
    w->shared.draining = NULL;
}

static void http_drain_closes_who_is_idle_and_lets_the_others_end(void **state)
{
    struct world *w = *state;
    assert_false(peal_http_busy(w->http));
    struct client *idle = client_open(w, true);
    struct client *fresh = client_open(w, true);
    struct client *asking = client_open(w, true);
    assert_int_equal(ask(idle, "GET /livez HTTP/1.1\r\n" HOST "\r\n"), 200);
    assert_int_equal(ask(asking, "GET /livez HTTP/1.1\r\n" HOST "\r\n"), 200);
    /* On its way when the others are sent off, and not looked at yet. */
    asking->in.size = 0;
    static const char request[] = "GET /livez HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    client_send(asking, request, sizeof request - 1);
    peal_http_drain(w->http);
    wait_for_close(idle);
    wait_for_close(asking);
    assert_true(parse_response(asking, false, &last));
    assert_int_equal(last.status, 200);
    assert_true(peal_http_busy(w->http));
    assert_int_equal(ask(fresh, "GET /livez HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"), 200);
    wait_for_close(fresh);
    assert_false(peal_http_busy(w->http));
}

enum { QUICK_ROUNDS = 20000 };

struct quick {
    pthread_t thread;
    uv_async_t done;
    int fd;
    int rounds; /* that were answered */
};

/* Sends the next head as soon as it has the answer, and the body after the head. */
static void *quick_run(void *arg)
{
    static const char head[] =
        "POST /v1/inbox/bob/ack HTTP/1.1\r\n" HOST AUTH "Content-Length: 2\r\n\r\n";
    struct quick *q = arg;
    char bytes[4096];
    for (q->rounds = 0; q->rounds < QUICK_ROUNDS; q->rounds++) {
        if (send(q->fd, head, sizeof head - 1, MSG_NOSIGNAL) < 0) break;
        if (send(q->fd, "{}", 2, MSG_NOSIGNAL) < 0) break;
        ssize_t n = recv(q->fd, bytes, sizeof bytes, 0);
        if (n < 12 || memcmp(bytes, "HTTP/1.1 400", 12) != 0) break;
    }
    uv_async_send(&q->done);
    return NULL;
}

static void quick_done(uv_async_t *async)
{
    uv_close((uv_handle_t *)async, NULL);
}

/* The library, when it wrote the answers itself, now and then had the next head first. */
static void http_quick_client_is_never_cut_off(void **state)
{
    struct world *w = *state;
    struct quick q = {0};
    int fd;
    q.fd = open_pair(w, &fd);
    assert_int_equal(uv_async_init(&w->loop, &q.done, quick_done), 0);
    peal_http_adopt(w->http, fd, true);
    assert_int_equal(pthread_create(&q.thread, NULL, quick_run, &q), 0);
    while (!uv_is_closing((uv_handle_t *)&q.done))
        turn(w);
    pthread_join(q.thread, NULL);
    uv_run(&w->loop, UV_RUN_NOWAIT); /* the handle is on our stack */
    close(q.fd);
    assert_int_equal(q.rounds, QUICK_ROUNDS);
}

static void http_request_in_single_bytes_is_answered(void **state)
{
    struct world *w = *state;
    struct client *c = client_open(w, true);
    for (int round = 0; round < 2; round++) {
        const char *request = post("/v1/publish", AUTH, BODY);
        c->in.size = 0;
        for (const char *at = request; *at != '\0'; at++) {
            client_send(c, at, 1);
            uv_run(&w->loop, UV_RUN_NOWAIT);
        }
        while (!parse_response(c, false, &last))
            turn(w);
        assert_int_equal(last.status, 200);
    }
}

static void http_large_body_and_large_answer_pass(void **state)
{
    struct world *w = *state;
    w->narrow = true;
    struct client *c = client_open(w, true);
    struct peal_buf request = {0};
    struct peal_buf body = {0};
    for (int i = 0; i < 8; i++) {
        peal_buf_add_text(&body, i == 0 ? "[" : ",");
        peal_buf_add_text(&body, "{\"group\":\"a\",\"text\":\"");
        memset(peal_buf_reserve(&body, 60000), 'x', 60000);
        body.size += 60000;
        peal_buf_add_text(&body, "\"}");
    }
    /* Each of these gets an error of 100 bytes. */
    for (int i = 0; i < 900; i++)
        peal_buf_add_text(&body, ",{\"group\":\"a\"}");
    peal_buf_add_text(&body, "]");
    peal_buf_add_format(&request,
                        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH
                        "Expect: 100-continue\r\nContent-Length: %zu\r\n\r\n",
                        body.size);
    client_send(c, request.at, request.size);
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    while (c->in.size < sizeof go_on - 1)
        turn(w);
    assert_true(peal_span_is(peal_buf_span(&c->in), go_on));
    c->in.size = 0;
    client_send(c, body.at, body.size);
    while (!parse_response(c, false, &last))
        turn(w);
    assert_int_equal(last.status, 200);
    assert_true(last.body.size > 60000);
    assert_int_equal(last.size, c->in.size);
    assert_int_equal(ask(c, "GET /livez HTTP/1.1\r\n" HOST "\r\n"), 200);
    peal_buf_fini(&request);
    peal_buf_fini(&body);
}

static void http_client_that_says_half_a_head_and_closes_is_let_go(void **state)
{
    struct world *w = *state;
    static const char *const halves[] = {"", "GET /livez HT", POST_HALF};
    for (size_t i = 0; i < sizeof halves / sizeof halves[0]; i++) {
        struct client *c = client_open(w, true);
        client_send(c, halves[i], strlen(halves[i]));
        uv_run(&w->loop, UV_RUN_NOWAIT);
        shutdown(c->fd, SHUT_WR);
        wait_for_close(c);
        assert_int_equal(c->in.size, 0);
    }
}

static void http_connections_beyond_the_limit_are_refused(void **state)
{
    struct world *w = *state;
    static int fds[PEAL_HTTP_CONNS_MAX][2];
    for (size_t i = 0; i < PEAL_HTTP_CONNS_MAX; i++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds[i]), 0);
        peal_http_adopt(w->http, fds[i][0], true);
    }
    struct client *c = client_open(w, true);
    wait_for_close(c);
    assert_true(parse_response(c, false, &last));
    assert_int_equal(last.status, 503);
    for (size_t i = 0; i < PEAL_HTTP_CONNS_MAX; i++)
        close(fds[i][1]);
    /* They leave, and there is room again. */
    for (int i = 0; i < 20; i++)
        uv_run(&w->loop, UV_RUN_NOWAIT);
    assert_int_equal(once(w, true, SECOND), 200);
}

/* ---- keys -------------------------------------------------------------------------------- */

static void http_shared_takes_hashed_keys_and_refuses_broken_ones(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "sha256:", "sha256:00",
        "sha256:zz0000000000000000000000000000000000000000000000000000000000000000",
        "sha256:000000000000000000000000000000000000000000000000000000000000000000"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char key[100];
        char *keys[] = {key};
        struct peal_config config = {.api.keys = {keys, 1}};
        struct peal_http_shared shared;
        snprintf(key, sizeof key, "%s", bad[i]);
        assert_int_equal(peal_http_shared_init(&shared, &config), PEAL_EBAD_FIELD);
        assert_null(shared.key_hashes);
    }
}

static void http_hashed_key_opens_the_door(void **state)
{
    struct world *w = *state;
    assert_int_equal(
        once(w, true, "GET /v1/inbox/bob HTTP/1.1\r\n" HOST "Authorization: Bearer key-2\r\n\r\n"),
        200);
    assert_int_equal(
        once(w, true, "GET /v1/inbox/bob HTTP/1.1\r\n" HOST "Authorization: Bearer key-3\r\n\r\n"),
        401);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(http_status_pages_need_no_key),
        TEST(http_head_is_get_without_the_body),
        TEST(http_demo_page_says_what_it_may),
        TEST(http_dev_token_is_one_that_the_node_takes),
        TEST(http_browser_listener_closes_after_each_answer),
        TEST(http_api_connection_is_kept_alive),
        TEST(http_leaving_answers_close_and_is_not_ready),
        TEST(http_drain_closes_who_is_idle_and_lets_the_others_end),
        TEST(http_quick_client_is_never_cut_off),
        TEST(http_request_in_single_bytes_is_answered),
        TEST(http_large_body_and_large_answer_pass),
        TEST(http_client_that_says_half_a_head_and_closes_is_let_go),
        TEST(http_connections_beyond_the_limit_are_refused),
        TEST(http_hashed_key_opens_the_door),
        cmocka_unit_test(http_shared_takes_hashed_keys_and_refuses_broken_ones),
    };
    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}

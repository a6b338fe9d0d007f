/* Requests that are no good, and those that hide another one. */
#include "tests/unit/http_rig.h"

/* ---- refusals ---------------------------------------------------------------------------- */

static void http_refusals_have_their_status_and_close(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *request;
        int status;
        const char *header;
    } rows[] = {
        {"POST /v1/publish HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n{}", 401,
         "WWW-Authenticate: Bearer"},
        {"GET /nothing HTTP/1.1\r\n" HOST AUTH "\r\n", 404, ""},
        {"GET /v1/publish HTTP/1.1\r\n" HOST AUTH "\r\n", 405, "Allow: POST"},
        {"POST /livez HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n{}", 405, "Allow: GET, HEAD"},
        {"POST /v1/publish HTTP/1.1\r\n" HOST AUTH "\r\n", 411, ""},
        {"POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Transfer-Encoding: chunked\r\n\r\n"
         "2\r\n{}\r\n0\r\n\r\n",
         411, ""},
        {"POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Length: 1048577\r\n\r\n{", 413, ""},
        {"POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Type: multipart/form-data\r\n"
         "Content-Length: 2\r\n\r\n{}",
         415, ""},
        {"GET /livez HTTP/1.1\r\n" HOST "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
         "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
         400, ""},
        {"GET /livez HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: websocket\r\n"
         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
         400, ""},
        {"GET /livez HTTP/1.1\r\n\r\n", 400, ""},
        {"nonsense\r\n\r\n", 400, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct client *c = client_open(w, true);
        if (ask(c, rows[i].request) != rows[i].status)
            fail_msg("%s: %d", rows[i].request, last.status);
        assert_true(is_close());
        assert_non_null(strstr(last.head, rows[i].header));
        assert_true(peal_span_starts(last.body, "{\"error\":{\"code\":\""));
        assert_non_null(strstr(last.head, "\r\nContent-Type: application/json\r\n"));
        wait_for_close(c);
        assert_int_equal(last.size, c->in.size);
        client_end(c);
        w->client_count--;
    }
    assert_int_equal(w->order_count, 0);
}

static void http_too_large_a_head_is_431(void **state)
{
    struct world *w = *state;
    static char text[PEAL_HEAD_MAX + 1000] = "GET /livez HTTP/1.1\r\n" HOST "X: ";
    memset(text + strlen(text), 'x', PEAL_HEAD_MAX);
    assert_int_equal(once(w, true, text), 431);
    assert_true(is_close());
}

static void http_upgrade_after_a_first_request_is_refused(void **state)
{
    struct world *w = *state;
    struct client *c = client_open(w, true);
    assert_int_equal(ask(c, "GET /livez HTTP/1.1\r\n" HOST "\r\n"), 200);
    assert_int_equal(ask(c, "GET /livez HTTP/1.1\r\n" HOST "Connection: Upgrade\r\n"
                            "Upgrade: bogus\r\n\r\n"),
                     400);
    wait_for_close(c);
}

/* How often does the answer say 200? The connection must end by itself. */
static size_t count_200(struct world *w, const char *request)
{
    struct client *c = client_open(w, true);
    size_t count = 0;
    client_send(c, request, strlen(request));
    while (!c->closed)
        turn(w);
    const char *at = c->in.at;
    const char *end = c->in.at + c->in.size;
    while (at != NULL && at < end) {
        at = memmem(at, (size_t)(end - at), "HTTP/1.1 200", 12);
        if (at == NULL) break;
        count++;
        at += 12;
    }
    client_end(c);
    w->client_count--;
    return count;
}

static void http_smuggled_request_is_never_answered(void **state)
{
    struct world *w = *state;
    static const char *const requests[] = {
        /* One length too many, or none that both sides agree on. */
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH
        "Content-Length: 22\r\nContent-Length: 60\r\n\r\n" BODY SECOND,
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Length: 22, 60\r\n\r\n" BODY SECOND,
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Length: -1\r\n\r\n" BODY SECOND,
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Length: +22\r\n\r\n" BODY SECOND,
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Length : 22\r\n\r\n" BODY SECOND,
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH
        "Content-Length: 22\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" SECOND,
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH
        "Transfer-Encoding: chunked\r\nContent-Length: 22\r\n\r\n" BODY SECOND,
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH
        "Transfer-Encoding: xchunked\r\nContent-Length: 22\r\n\r\n" BODY SECOND,
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH "X: y\r\n Content-Length: 22\r\n\r\n" BODY SECOND,
        "POST /v1/publish HTTP/1.1\n" HOST AUTH "Content-Length: 22\n\n" BODY SECOND,
        "POST /v1/publish HTTP/1.1\r\nHost : a\r\n" AUTH "Content-Length: 22\r\n\r\n" BODY SECOND,
        "GET /livez HTTP/1.1\r\n" HOST "Content-Length: 38\r\n\r\n" SECOND,
        "GET /livez HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" SECOND,
    };
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++)
        if (count_200(w, requests[i]) != 0) fail_msg("%s", requests[i]);
    /* Well-formed, but nobody waits for the first answer: at most that one is given. */
    static const char *const pipelined[] = {
        SECOND SECOND,
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Length: 22\r\n\r\n" BODY SECOND,
        SECOND "POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Length: 22\r\n\r\n" BODY,
    };
    for (size_t i = 0; i < sizeof pipelined / sizeof pipelined[0]; i++)
        if (count_200(w, pipelined[i]) > 1) fail_msg("%s", pipelined[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(http_refusals_have_their_status_and_close),
        TEST(http_too_large_a_head_is_431),
        TEST(http_upgrade_after_a_first_request_is_refused),
        TEST(http_smuggled_request_is_never_answered),
    };
    return cmocka_run_group_tests_name("http_refused", tests, NULL, NULL);
}

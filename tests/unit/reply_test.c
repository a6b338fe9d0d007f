#include "node/reply.h"

#include <string.h>

#include "tests/unit/unit.h"

static void assert_reply(const struct peal_reply *reply, const char *text)
{
    struct peal_buf out = {0};
    peal_reply_add(&out, reply);
    peal_buf_add_char(&out, '\0');
    assert_false(out.failed);
    assert_string_equal(out.at, text);
    peal_buf_fini(&out);
}

#define ALWAYS "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"

static void reply_of_a_call_is_its_head_and_its_body(void **state)
{
    (void)state;
    struct peal_reply reply = {.status = 200, .type = "text/plain", .body = peal_span_of("ok\n")};
    assert_reply(&reply,
                 "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n" ALWAYS
                 "\r\nok\n");
    reply.close = true;
    assert_reply(&reply,
                 "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n" ALWAYS
                 "Connection: close\r\n\r\nok\n");
    /* HEAD: the size of what GET would give. */
    reply.head_only = true;
    assert_reply(&reply,
                 "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n" ALWAYS
                 "Connection: close\r\n\r\n");
}

static void reply_that_refuses_says_what_would_do(void **state)
{
    (void)state;
    struct peal_reply reply = {.status = 401, .type = "a/b", .body = peal_span_of("")};
    assert_reply(&reply,
                 "HTTP/1.1 401 Unauthorized\r\nContent-Type: a/b\r\nContent-Length: 0\r\n" ALWAYS
                 "WWW-Authenticate: Bearer\r\n\r\n");
    reply.status = 426;
    assert_reply(
        &reply, "HTTP/1.1 426 Upgrade Required\r\nContent-Type: a/b\r\nContent-Length: 0\r\n" ALWAYS
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n");
    reply.status = 405;
    reply.allow = "GET, HEAD";
    assert_reply(
        &reply,
        "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: a/b\r\nContent-Length: 0\r\n" ALWAYS
        "Allow: GET, HEAD\r\n\r\n");
}

static void reply_that_asks_to_wait_says_whole_seconds_and_never_none(void **state)
{
    (void)state;
    static const struct {
        int status;
        uint64_t after_ms;
        const char *line;
    } cases[] = {
        {429, 0, "\r\nRetry-After: 1\r\n"},      {429, 1, "\r\nRetry-After: 1\r\n"},
        {503, 1000, "\r\nRetry-After: 1\r\n"},   {503, 1001, "\r\nRetry-After: 2\r\n"},
        {503, 30000, "\r\nRetry-After: 30\r\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peal_reply reply = {.status = cases[i].status,
                                   .type = "a/b",
                                   .after_ms = cases[i].after_ms,
                                   .body = peal_span_of("")};
        struct peal_buf out = {0};
        peal_reply_add(&out, &reply);
        peal_buf_add_char(&out, '\0');
        assert_non_null(strstr(out.at, cases[i].line));
        peal_buf_fini(&out);
    }
    struct peal_reply full = {
        .status = 507, .type = "a/b", .after_ms = 9, .body = peal_span_of("")};
    assert_reply(&full, "HTTP/1.1 507 Insufficient Storage\r\nContent-Type: a/b\r\n"
                        "Content-Length: 0\r\n" ALWAYS "\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reply_of_a_call_is_its_head_and_its_body),
        cmocka_unit_test(reply_that_refuses_says_what_would_do),
        cmocka_unit_test(reply_that_asks_to_wait_says_whole_seconds_and_never_none),
    };
    return cmocka_run_group_tests_name("reply", tests, NULL, NULL);
}

/* What the backend asks of groups and inboxes, and what the router makes of it. */
#include "tests/unit/http_rig.h"

/* ---- publish ----------------------------------------------------------------------------- */

static void http_publish_gives_a_receipt(void **state)
{
    struct world *w = *state;
    assert_int_equal(
        once(w, true, post("/v1/publish", AUTH, "{\"group\":\"a\",\"data\":{\"x\":1}}")), 200);
    assert_body("{\"id\":\"01ULID\",\"group\":\"a\",\"epoch\":\"9\",\"offset\":1,"
                "\"ack\":\"routed\"}\n");
    assert_int_equal(once(w, true,
                          post("/v1/publish", AUTH "Content-Type: application/json\r\n",
                               "{\"user\":\"bob\",\"text\":\"x\",\"message_id\":\"m\"}")),
                     200);
    assert_body("{\"id\":\"m\",\"group\":\"user:bob\",\"epoch\":\"9\",\"offset\":1,"
                "\"ack\":\"stored\",\"duplicate\":true}\n");
}

static void http_publish_of_a_list_gives_results_in_order(void **state)
{
    struct world *w = *state;
    assert_int_equal(
        once(w, true,
             post("/v1/publish", AUTH,
                  "[{\"group\":\"a\",\"data\":1},{\"data\":2},{\"group\":\"b\",\"data\":3}]")),
        200);
    assert_true(peal_span_starts(last.body, "{\"results\":[{\"id\":\"01ULID\",\"group\":\"a\""));
    assert_true(body_has("},{\"error\":{\"code\":\"missing_field\",\"message\":\""));
    assert_true(body_has("{\"id\":\"01ULID\",\"group\":\"b\",\"epoch\":\"9\",\"offset\":2,"));
    assert_int_equal(
        once(w, true, post("/v1/publish", AUTH, "{\"users\":[\"x\",\"y\"],\"data\":1}")), 200);
    assert_true(peal_span_starts(last.body, "{\"results\":["));
    assert_true(body_has("\"group\":\"user:y\""));
}

static void http_publish_refused_has_the_status_of_its_error(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *body;
        int status;
        const char *code;
    } rows[] = {
        {"{\"group\":\"a\",", 400, "bad_json"},
        {"{\"group\":\"a\"}", 400, "missing_field"},
        {"{\"group\":7,\"data\":1}", 400, "bad_field"},
        {"{\"group\":\"\",\"data\":1}", 400, "bad_group"},
        {"{\"group\":\"sys:x\",\"data\":1}", 403, "forbidden"},
        {"[{\"data\":1},{\"data\":2}]", 400, "missing_field"},
        {"7", 400, "bad_"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char code[64];
        snprintf(code, sizeof code, "\"code\":\"%s", rows[i].code);
        if (once(w, true, post("/v1/publish", AUTH, rows[i].body)) != rows[i].status ||
            !body_has(code))
            fail_msg("%s: %d %.*s", rows[i].body, last.status, (int)last.body.size, last.body.at);
    }
    assert_int_equal(w->order_count, 0);
}

static void http_publish_too_large_is_413_for_its_item(void **state)
{
    struct world *w = *state;
    static char body[69000];
    strcpy(body, "{\"group\":\"a\",\"text\":\"");
    memset(body + strlen(body), 'x', 65537);
    strcat(body, "\"}");
    assert_int_equal(once(w, true, post("/v1/publish", AUTH, body)), 413);
    assert_true(body_has("\"code\":\"too_large\""));
}

static void http_publish_without_router_says_when_to_retry(void **state)
{
    struct world *w = *state;
    const char *request = post("/v1/publish", AUTH, "{\"group\":\"a\",\"data\":1}");
    w->code = PEAL_ENO_ROUTER;
    assert_int_equal(once(w, true, request), 503);
    assert_true(body_has("\"code\":\"no_router\""));
    assert_non_null(strstr(last.head, "\r\nRetry-After: 1\r\n"));
    w->code = PEAL_ERATE_LIMITED;
    assert_int_equal(once(w, true, request), 429);
    assert_non_null(strstr(last.head, "\r\nRetry-After: 1\r\n"));
    w->full = true;
    assert_int_equal(once(w, true, request), 503);
    assert_true(body_has("\"code\":\"queue_full\""));
}

static void http_publish_beyond_what_the_router_takes_says_how_long_to_wait(void **state)
{
    struct world *w = *state;
    const char *request = post("/v1/publish", AUTH, "{\"user\":\"a\",\"data\":1}");
    w->after_ms = 2001;
    assert_int_equal(once(w, true, request), 429);
    assert_true(body_has("\"code\":\"rate_limited\""));
    assert_true(body_has("\"after_ms\":2001"));
    assert_non_null(strstr(last.head, "\r\nRetry-After: 3\r\n"));
    w->after_ms = 50; /* not sooner than in a second: the header knows nothing smaller */
    assert_int_equal(once(w, true, request), 429);
    assert_true(body_has("\"after_ms\":50"));
    assert_non_null(strstr(last.head, "\r\nRetry-After: 1\r\n"));
}

static void http_silent_router_is_504(void **state)
{
    struct world *w = *state;
    struct client *c = client_open(w, true);
    const char *request = post("/v1/publish", AUTH, "{\"group\":\"a\",\"data\":1}");
    w->silent = true;
    client_send(c, request, strlen(request));
    while (w->served == 0)
        turn(w);
    peal_hub_set_time(&w->hub, 1000 + PEAL_REQUEST_MS, 0);
    peal_hub_on_tick(&w->hub);
    while (!parse_response(c, false, &last))
        turn(w);
    assert_int_equal(last.status, 504);
    assert_true(body_has("\"code\":\"timeout\""));
}

static void http_client_that_leaves_cancels_its_request(void **state)
{
    struct world *w = *state;
    struct client *c = client_open(w, true);
    const char *request = post("/v1/publish", AUTH, "{\"group\":\"a\",\"data\":1}");
    w->silent = true;
    client_send(c, request, strlen(request));
    while (w->served == 0)
        turn(w);
    assert_int_equal(w->hub.requests.count, 1);
    shutdown(c->fd, SHUT_RDWR);
    while (w->hub.requests.count > 0)
        turn(w);
    /* The answer comes after all: nobody is there. */
    w->silent = false;
    answer_order(w, w->orders[0]);
}

static void http_shutdown_cancels_what_waits(void **state)
{
    struct world *w = *state;
    struct client *c = client_open(w, true);
    const char *request = post("/v1/publish", AUTH, "{\"group\":\"a\",\"data\":1}");
    w->silent = true;
    client_send(c, request, strlen(request));
    while (w->served == 0)
        turn(w);
    peal_http_free(w->http);
    w->http = NULL;
    assert_int_equal(w->hub.requests.count, 0);
}

/* ---- inbox ------------------------------------------------------------------------------- */

static void last_frame(struct world *w, struct peal_frame *out)
{
    assert_int_equal(peal_frame_decode(peal_buf_span(&w->last), out), PEAL_OK);
}

static void http_inbox_lists_messages_newest_first(void **state)
{
    struct world *w = *state;
    struct peal_frame sent;
    assert_int_equal(once(w, true, "GET /v1/inbox/bob HTTP/1.1\r\n" HOST AUTH "\r\n"), 200);
    assert_body("{\"user\":\"bob\",\"epoch\":\"9\",\"unread\":2,\"rev\":4,\"messages\":["
                "{\"offset\":7,\"id\":\"m\",\"event\":\"note\",\"data\":{\"a\":1e2},\"ts\":1000,"
                "\"read\":false,\"delivered\":false},"
                "{\"offset\":6,\"id\":\"m\",\"kind\":\"text\",\"data\":\"hi \\\"you\\\"\","
                "\"from\":\"eve\",\"ts\":1000,\"read\":false,\"delivered\":true},"
                "{\"offset\":4,\"id\":\"m\",\"kind\":\"binary\",\"data\":\"eHl6\",\"ts\":1000,"
                "\"read\":true,\"delivered\":true}]}\n");
    last_frame(w, &sent);
    assert_int_equal(sent.type, PEAL_F_FETCH);
    assert_true(peal_span_is(sent.group, "user:bob"));
    assert_int_equal(sent.flags, PEAL_FLAG_REVERSE);
    assert_int_equal(sent.offset, 0);
    assert_int_equal(sent.epoch, 0);
    assert_int_equal(sent.limit, 50);
    peal_frame_fini(&sent);

    w->page_flags = PEAL_FLAG_MORE;
    assert_int_equal(once(w, true,
                          "GET /v1/inbox/bob?before=8&limit=3&unread_only=1 HTTP/1.1\r\n" HOST AUTH
                          "\r\n"),
                     200);
    assert_true(body_has("],\"next\":4}"));
    last_frame(w, &sent);
    assert_int_equal(sent.flags, PEAL_FLAG_REVERSE | PEAL_FLAG_UNREAD);
    assert_int_equal(sent.offset, 8);
    assert_int_equal(sent.limit, 3);
    peal_frame_fini(&sent);
}

static void http_inbox_name_is_decoded_once_and_is_no_path(void **state)
{
    struct world *w = *state;
    struct peal_frame sent;
    assert_int_equal(once(w, true, "GET /v1/inbox/bob%2F..%2Falice HTTP/1.1\r\n" HOST AUTH "\r\n"),
                     200);
    last_frame(w, &sent);
    assert_true(peal_span_is(sent.group, "user:bob/../alice"));
    peal_frame_fini(&sent);
    assert_int_equal(once(w, true, "GET /v1/inbox/a+b%252B;c HTTP/1.1\r\n" HOST AUTH "\r\n"), 200);
    last_frame(w, &sent);
    assert_true(peal_span_is(sent.group, "user:a+b%2B;c"));
    peal_frame_fini(&sent);
}

static void http_marks_reach_the_router(void **state)
{
    struct world *w = *state;
    struct peal_frame sent;
    assert_int_equal(once(w, true, post("/v1/inbox/bob/ack", AUTH, "{\"upto\":12}")), 200);
    assert_body("{\"unread\":1,\"rev\":5}\n");
    last_frame(w, &sent);
    assert_int_equal(sent.type, PEAL_F_MARK);
    assert_int_equal(sent.flags, PEAL_FLAG_ACK);
    assert_int_equal(sent.upto, 12);
    peal_frame_fini(&sent);
    assert_int_equal(once(w, true, post("/v1/inbox/bob/read", AUTH, "{\"offsets\":[3,5]}")), 200);
    last_frame(w, &sent);
    assert_int_equal(sent.flags, PEAL_FLAG_READ);
    assert_int_equal(sent.offsets.count, 2);
    assert_int_equal(sent.offsets.at[1], 5);
    peal_frame_fini(&sent);
    assert_int_equal(once(w, true, post("/v1/inbox/bob/read", AUTH, "{\"all\":true}")), 200);
    last_frame(w, &sent);
    assert_int_equal(sent.flags, PEAL_FLAG_READ | PEAL_FLAG_ALL);
    peal_frame_fini(&sent);
}

static void http_bad_marks_are_refused(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *body;
        int status;
    } rows[] = {
        {"{}", 400},
        {"[]", 400},
        {"{\"upto\":0}", 400},
        {"{\"upto\":\"1\"}", 400},
        {"{\"offsets\":[]}", 400},
        {"{\"offsets\":[1,-2]}", 400},
        {"{\"offsets\":3}", 400},
        {"{\"all\":false}", 400},
        {"{\"all\":true,\"upto\":3}", 400},
        {"{\"upto\":3", 400},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (once(w, true, post("/v1/inbox/bob/ack", AUTH, rows[i].body)) != rows[i].status)
            fail_msg("%s: %d", rows[i].body, last.status);
    static char many[8000] = "{\"offsets\":[1";
    for (size_t i = 0; i < PEAL_ACK_OFFSETS_MAX; i++)
        strcat(many, ",1");
    strcat(many, "]}");
    assert_int_equal(once(w, true, post("/v1/inbox/bob/ack", AUTH, many)), 409);
    assert_int_equal(w->order_count, 0);
    w->code = PEAL_EBAD_GROUP;
    assert_int_equal(once(w, true, post("/v1/inbox/bob/ack", AUTH, "{\"upto\":3}")), 400);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(http_publish_gives_a_receipt),
        TEST(http_publish_of_a_list_gives_results_in_order),
        TEST(http_publish_refused_has_the_status_of_its_error),
        TEST(http_publish_too_large_is_413_for_its_item),
        TEST(http_publish_without_router_says_when_to_retry),
        TEST(http_publish_beyond_what_the_router_takes_says_how_long_to_wait),
        TEST(http_silent_router_is_504),
        TEST(http_client_that_leaves_cancels_its_request),
        TEST(http_shutdown_cancels_what_waits),
        TEST(http_inbox_lists_messages_newest_first),
        TEST(http_inbox_name_is_decoded_once_and_is_no_path),
        TEST(http_marks_reach_the_router),
        TEST(http_bad_marks_are_refused),
    };
    return cmocka_run_group_tests_name("http_publish", tests, NULL, NULL);
}

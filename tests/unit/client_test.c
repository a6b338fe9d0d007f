#include <stdlib.h>

#include "base/clock.h"
#include "clients/c/message.h"
#include "clients/c/unpack.h"
#include "clients/c/url.h"
#include "proto/door.h"
#include "proto/publish.h"
#include "tests/unit/unit.h"

static const struct {
    const char *text;
    const char *host; /* NULL: refused */
    uint16_t port;
    bool tls;
    const char *path;
    const char *authority;
} ws_urls[] = {
    {"ws://127.0.0.1:8080/v1/ws", "127.0.0.1", 8080, false, "/v1/ws", "127.0.0.1:8080"},
    {"ws://peal.example", "peal.example", 80, false, "/", "peal.example"},
    {"WSS://peal.example/a?b=c", "peal.example", 443, true, "/a?b=c", "peal.example"},
    {"wss://peal.example:8443?x=1", "peal.example", 8443, true, "/?x=1", "peal.example:8443"},
    {"ws://[::1]:81/", "::1", 81, false, "/", "[::1]:81"},
    {"ws://[fe80::1]", "fe80::1", 80, false, "/", "[fe80::1]"},
    {"http://peal.example/", NULL, 0, false, NULL, NULL},
    {"peal.example", NULL, 0, false, NULL, NULL},
    {"", NULL, 0, false, NULL, NULL},
    {"ws://", NULL, 0, false, NULL, NULL},
    {"ws:///path", NULL, 0, false, NULL, NULL},
    {"ws://:80/", NULL, 0, false, NULL, NULL},
    {"ws://host:/", NULL, 0, false, NULL, NULL},
    {"ws://host:0/", NULL, 0, false, NULL, NULL},
    {"ws://host:65536/", NULL, 0, false, NULL, NULL},
    {"ws://host:8 0/", NULL, 0, false, NULL, NULL},
    {"ws://host:-1/", NULL, 0, false, NULL, NULL},
    {"ws://host:80:80/", NULL, 0, false, NULL, NULL},
    {"ws://user:secret@host/", NULL, 0, false, NULL, NULL},
    {"ws://user@host/", NULL, 0, false, NULL, NULL},
    {"ws://[::1/", NULL, 0, false, NULL, NULL},
    {"ws://[]/", NULL, 0, false, NULL, NULL},
    {"ws://[::1]x/", NULL, 0, false, NULL, NULL},
    {"ws://[host]/", NULL, 0, false, NULL, NULL},
    {"ws://host/#part", NULL, 0, false, NULL, NULL},
    {"ws://host/a b", NULL, 0, false, NULL, NULL},
    {"ws://host/a\r\nX: y", NULL, 0, false, NULL, NULL},
    {"ws://host/\xc3\xa9", NULL, 0, false, NULL, NULL},
};

static void url_ws_is_taken_apart_or_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ws_urls / sizeof ws_urls[0]; i++) {
        struct peal_url url;
        enum peal_err err = peal_url_ws(ws_urls[i].text, &url);
        if ((err == PEAL_OK) != (ws_urls[i].host != NULL)) fail_msg("%s", ws_urls[i].text);
        if (err != PEAL_OK) continue;
        assert_string_equal(url.host, ws_urls[i].host);
        assert_int_equal(url.port, ws_urls[i].port);
        assert_int_equal(url.tls, ws_urls[i].tls);
        assert_string_equal(url.path, ws_urls[i].path);
        assert_string_equal(url.authority, ws_urls[i].authority);
    }
}

static void url_ws_too_long_for_its_place_is_refused(void **state)
{
    (void)state;
    struct peal_url url;
    for (size_t size = 240; size < 300; size++) {
        struct peal_buf text = {0};
        peal_buf_add_text(&text, "ws://");
        for (size_t i = 0; i < size; i++)
            peal_buf_add_char(&text, 'h');
        peal_buf_add_text(&text, "/");
        peal_buf_add_char(&text, '\0');
        assert_int_equal(peal_url_ws(text.at, &url) == PEAL_OK, size < sizeof url.host);
        peal_buf_fini(&text);
    }
    for (size_t size = sizeof url.path - 3; size < sizeof url.path + 3; size++) {
        struct peal_buf text = {0};
        peal_buf_add_text(&text, "ws://h");
        for (size_t i = 0; i < size; i++)
            peal_buf_add_char(&text, '/');
        peal_buf_add_char(&text, '\0');
        assert_int_equal(peal_url_ws(text.at, &url) == PEAL_OK, size < sizeof url.path);
        peal_buf_fini(&text);
    }
}

static void url_join_makes_one_slash(void **state)
{
    (void)state;
    static const struct {
        const char *base;
        const char *path;
        const char *expected; /* NULL: refused */
    } cases[] = {
        {"http://127.0.0.1:8081", "/v1/publish", "http://127.0.0.1:8081/v1/publish"},
        {"http://127.0.0.1:8081/", "/v1/publish", "http://127.0.0.1:8081/v1/publish"},
        {"HTTPS://api.example", "v1", "HTTPS://api.example/v1"},
        {"http://[::1]:81/", "/v1", "http://[::1]:81/v1"},
        {"http://host/prefix", "/v1", NULL},
        {"http://host?x", "/v1", NULL},
        {"http://host#x", "/v1", NULL},
        {"http://user:pass@host", "/v1", NULL},
        {"file:///etc", "/passwd", NULL},
        {"host:8081", "/v1", NULL},
        {"http://", "/v1", NULL},
        {"http://a b", "/v1", NULL},
        {"", "/v1", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peal_buf url = {0};
        enum peal_err err = peal_url_join(cases[i].base, cases[i].path, &url);
        if ((err == PEAL_OK) != (cases[i].expected != NULL)) fail_msg("%s", cases[i].base);
        if (err == PEAL_OK) assert_true(peal_span_is(peal_buf_span(&url), cases[i].expected));
        peal_buf_fini(&url);
    }
}

static void url_segment_stays_one_segment(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"alice", "alice"},
                                           {"A-z_0.9~", "A-z_0.9~"},
                                           {"a/b", "a%2Fb"},
                                           {"../x", "..%2Fx"},
                                           {".", "%2E"},
                                           {"..", "%2E%2E"},
                                           {"...", "..."},
                                           {"a?b#c%d&e=f", "a%3Fb%23c%25d%26e%3Df"},
                                           {"bj\xc3\xb6rn \r\n", "bj%C3%B6rn%20%0D%0A"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peal_buf out = {0};
        peal_url_segment(cases[i][0], &out);
        assert_true(peal_span_is(peal_buf_span(&out), cases[i][1]));
        peal_buf_fini(&out);
    }
}

static struct peal_client_message json_message(const char *data)
{
    return (struct peal_client_message){
        .group = "news", .kind = PEAL_CLIENT_JSON, .data = data, .size = strlen(data)};
}

static void assert_json(const struct peal_client_message *messages, size_t count,
                        const char *expected)
{
    struct peal_buf out = {0};
    char why[160] = "";
    enum peal_err err = peal_message_json(messages, count, &out, why, sizeof why);
    if (err != PEAL_OK) fail_msg("%s", why);
    peal_buf_add_char(&out, '\0');
    assert_string_equal(out.at, expected);
    peal_buf_fini(&out);
}

static void message_json_keeps_the_bytes_of_the_data(void **state)
{
    (void)state;
    struct peal_client_message m = json_message(" {\"a\":1e2,\"b\":123456789012345678901234} ");
    assert_json(&m, 1,
                "{\"group\":\"news\",\"data\": {\"a\":1e2,\"b\":123456789012345678901234} }");
    m = (struct peal_client_message){.user = "a\"b",
                                     .event = "new\n",
                                     .id = "m-1",
                                     .collapse = "k",
                                     .ttl_ms = 3600000,
                                     .kind = PEAL_CLIENT_TEXT,
                                     .data = "say \"hi\"\n",
                                     .size = 9};
    assert_json(&m, 1,
                "{\"user\":\"a\\\"b\",\"event\":\"new\\n\",\"message_id\":\"m-1\",\"collapse\":"
                "\"k\",\"ttl_ms\":3600000,\"text\":\"say \\\"hi\\\"\\n\"}");
    m = (struct peal_client_message){
        .group = "g", .kind = PEAL_CLIENT_BINARY, .data = "\0\xff", .size = 2};
    assert_json(&m, 1, "{\"group\":\"g\",\"data_base64\":\"AP8=\"}");
    m.size = 0;
    m.data = NULL;
    assert_json(&m, 1, "{\"group\":\"g\",\"data_base64\":\"\"}");
    m.kind = PEAL_CLIENT_TEXT;
    assert_json(&m, 1, "{\"group\":\"g\",\"text\":\"\"}");
}

static void message_json_of_several_is_a_list(void **state)
{
    (void)state;
    struct peal_client_message m[] = {json_message("1"), json_message("null")};
    assert_json(m, 2, "[{\"group\":\"news\",\"data\":1},{\"group\":\"news\",\"data\":null}]");
    assert_json(m, 0, "[]");
}

static void message_that_cannot_be_sent_is_refused(void **state)
{
    (void)state;
    struct peal_client_message bad[] = {
        json_message(""),
        json_message("{"),
        json_message("{} {}"),
        json_message("1},{\"group\":\"other\",\"data\":1"),
        json_message("1,\"group\":\"other\""),
        json_message("{\"a\":1,\"a\":2}"),
        json_message("\xff"),
        {.kind = PEAL_CLIENT_TEXT, .data = "x", .size = 1},
        {.group = "g", .user = "u", .kind = PEAL_CLIENT_TEXT, .data = "x", .size = 1},
        {.group = "g", .kind = PEAL_CLIENT_TEXT, .data = "\xff", .size = 1},
        {.group = "\xff", .kind = PEAL_CLIENT_TEXT, .data = "x", .size = 1},
        {.user = "u", .event = "\xc0\x80", .kind = PEAL_CLIENT_TEXT, .data = "x", .size = 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct peal_buf out = {0};
        char why[160] = "";
        assert_int_equal(peal_message_json(&bad[i], 1, &out, why, sizeof why), PEAL_EBAD_FIELD);
        assert_string_not_equal(why, "");
        out.size = 0;
        why[0] = '\0';
        assert_int_equal(peal_message_request(&bad[i], 1, 1, &out, why, sizeof why),
                         PEAL_EBAD_FIELD);
        assert_string_not_equal(why, "");
        peal_buf_fini(&out);
    }
}

/* Written out by hand from the msgpack specification. */
static void message_request_is_the_documented_map(void **state)
{
    (void)state;
    struct peal_client_message m[] = {
        json_message("{\"a\":[1,-1,null,true,\"s\"]}"),
        {.user = "u", .id = "i", .ttl_ms = 5, .kind = PEAL_CLIENT_TEXT, .data = "t", .size = 1},
        {.group = "g", .kind = PEAL_CLIENT_BINARY, .data = "\0", .size = 1}};
    static const char expected[] = "\x83\xa2op\xa7publish\xa3req\x07\xa8messages\x93"
                                   "\x82\xa5group\xa4news\xa4"
                                   "data\x81\xa1"
                                   "a\x95\x01\xff\xc0\xc3\xa1s"
                                   "\x84\xa4user\xa1u\xaamessage_id\xa1i\xa6ttl_ms\x05\xa4"
                                   "data\xa1t"
                                   "\x82\xa5group\xa1g\xa4"
                                   "data\xc4\x01\0";
    struct peal_buf out = {0};
    char why[160];
    assert_int_equal(peal_message_request(m, 3, 7, &out, why, sizeof why), PEAL_OK);
    assert_int_equal(out.size, sizeof expected - 1);
    assert_memory_equal(out.at, expected, out.size);
    peal_buf_fini(&out);
}

static void message_request_with_what_msgpack_lacks_is_refused(void **state)
{
    (void)state;
    const char *bad[] = {"\"text\"", "123456789012345678901234"};
    for (size_t i = 0; i < 2; i++) {
        struct peal_client_message m = json_message(bad[i]);
        struct peal_buf out = {0};
        char why[160] = "";
        assert_int_equal(peal_message_request(&m, 1, 7, &out, why, sizeof why), PEAL_EBAD_FIELD);
        assert_string_not_equal(why, "");
        peal_buf_fini(&out);
    }
}

static void message_hello_names_groups_and_device(void **state)
{
    (void)state;
    const char *groups[] = {"a", "b\"c"};
    struct peal_client_feed feed = {.device = "d", .groups = groups, .group_count = 2};
    struct peal_buf out = {0};
    assert_int_equal(peal_message_hello(&feed, &out), PEAL_OK);
    peal_buf_add_char(&out, '\0');
    assert_string_equal(out.at, "{\"type\":\"hello\",\"id\":1,\"device\":\"d\",\"groups\":[\"a\","
                                "\"b\\\"c\"]}");
    out.size = 0;
    feed = (struct peal_client_feed){0};
    assert_int_equal(peal_message_hello(&feed, &out), PEAL_OK);
    assert_true(peal_span_is(peal_buf_span(&out), "{\"type\":\"hello\",\"id\":1,\"groups\":[]}"));
    feed.device = "\xff";
    assert_int_equal(peal_message_hello(&feed, &out), PEAL_EBAD_FIELD);
    peal_buf_fini(&out);
}

#define BYTES(text)                                                                                \
    {                                                                                              \
        text, sizeof text - 1                                                                      \
    }

static void unpack_json_renders_every_type(void **state)
{
    (void)state;
    static const struct {
        struct peal_span bytes;
        const char *json; /* NULL: refused */
    } cases[] = {
        {BYTES("\x00"), "0"},
        {BYTES("\x7f"), "127"},
        {BYTES("\xff"), "-1"},
        {BYTES("\xe0"), "-32"},
        {BYTES("\xc0"), "null"},
        {BYTES("\xc2"), "false"},
        {BYTES("\xc3"), "true"},
        {BYTES("\xcc\xff"), "255"},
        {BYTES("\xcd\x01\x00"), "256"},
        {BYTES("\xce\xff\xff\xff\xff"), "4294967295"},
        {BYTES("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615"},
        {BYTES("\xd0\x80"), "-128"},
        {BYTES("\xd0\x7f"), "127"},
        {BYTES("\xd1\xff\x00"), "-256"},
        {BYTES("\xd2\x80\x00\x00\x00"), "-2147483648"},
        {BYTES("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"), "-9223372036854775808"},
        {BYTES("\xca\x3f\x80\x00\x00"), "1"},
        {BYTES("\xcb\xbf\xf8\x00\x00\x00\x00\x00\x00"), "-1.5"},
        {BYTES("\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00"), "null"},
        {BYTES("\xca\x7f\xc0\x00\x00"), "null"},
        {BYTES("\xa0"), "\"\""},
        {BYTES("\xa3"
               "a\"\n"),
         "\"a\\\"\\n\""},
        {BYTES("\xd9\x01x"), "\"x\""},
        {BYTES("\xda\x00\x01x"), "\"x\""},
        {BYTES("\xdb\x00\x00\x00\x01x"), "\"x\""},
        {BYTES("\xc4\x02\x00\xff"), "\"AP8=\""},
        {BYTES("\xc5\x00\x00"), "\"\""},
        {BYTES("\x92\x01\x90"), "[1,[]]"},
        {BYTES("\xdc\x00\x01\x01"), "[1]"},
        {BYTES("\xdd\x00\x00\x00\x00"), "[]"},
        {BYTES("\x82\xa1"
               "a\x01\xa1"
               "b\x80"),
         "{\"a\":1,\"b\":{}}"},
        {BYTES("\xde\x00\x01\xa1"
               "a\xc0"),
         "{\"a\":null}"},
        {BYTES("\xdf\x00\x00\x00\x00"), "{}"},
        {BYTES(""), NULL},
        {BYTES("\x00\x00"), NULL},                     /* something behind */
        {BYTES("\xc1"), NULL},                         /* never used */
        {BYTES("\xd4\x00\x00"), NULL},                 /* extension */
        {BYTES("\xc7\x00\x00"), NULL},                 /* extension */
        {BYTES("\xa2x"), NULL},                        /* cut */
        {BYTES("\xa1\xff"), NULL},                     /* not UTF-8 */
        {BYTES("\xcf\x00"), NULL},                     /* cut */
        {BYTES("\x81\x01\x01"), NULL},                 /* a key that is no string */
        {BYTES("\x81"), NULL},                         /* cut */
        {BYTES("\xdd\xff\xff\xff\xff\x00"), NULL},     /* 4 G declared, one there */
        {BYTES("\xdf\xff\xff\xff\xff\xa0\x00"), NULL}, /* the same in a map */
        {BYTES("\xdb\xff\xff\xff\xffx"), NULL},        /* and in a string */
        {BYTES("\xc6\xff\xff\xff\xffx"), NULL},        /* and in bytes */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peal_buf out = {0};
        enum peal_err err = peal_unpack_json(cases[i].bytes, &out);
        if (cases[i].json == NULL && err != PEAL_EBAD_MESSAGE) fail_msg("case %zu passed", i);
        if (cases[i].json != NULL) {
            assert_int_equal(err, PEAL_OK);
            peal_buf_add_char(&out, '\0');
            assert_string_equal(out.at, cases[i].json);
        }
        peal_buf_fini(&out);
    }
}

static void unpack_json_too_deep_is_refused(void **state)
{
    (void)state;
    char bytes[64];
    memset(bytes, '\x91', sizeof bytes);
    for (size_t depth = 1; depth < sizeof bytes; depth++) {
        struct peal_buf out = {0};
        bytes[depth] = '\xc0';
        enum peal_err err = peal_unpack_json(peal_span_make(bytes, depth + 1), &out);
        assert_int_equal(err, depth < 32 ? PEAL_OK : PEAL_EBAD_MESSAGE);
        bytes[depth] = '\x91';
        peal_buf_fini(&out);
    }
}

#define RECEIPT                                                                                    \
    "\x82\xa2id\xa1i\xa3"                                                                          \
    "ack\xa6routed"
#define ERROR(size, word)                                                                          \
    "\xa5"                                                                                         \
    "error\x82\xa4"                                                                                \
    "code" size word "\xa7message\xa1m"
#define REFUSED(size, word) "\x81" ERROR(size, word)

static void unpack_answer_has_status_and_body(void **state)
{
    (void)state;
    static const struct {
        struct peal_span bytes;
        size_t count;
        int status;
        const char *body;
    } cases[] = {
        {BYTES("\x82\xa3req\x07\xa7results\x91" RECEIPT), 1, 200,
         "{\"id\":\"i\",\"ack\":\"routed\"}"},
        {BYTES("\x82\xa3req\x07\xa7results\x91" REFUSED("\xa9", "forbidden")), 1, 403,
         "{\"error\":{\"code\":\"forbidden\",\"message\":\"m\"}}"},
        {BYTES("\x82\xa3req\x07\xa7results\x91" REFUSED("\xa4", "new?")), 1, 500,
         "{\"error\":{\"code\":\"new?\",\"message\":\"m\"}}"},
        {BYTES("\x82\xa3req\x07\xa7results\x92" REFUSED("\xa9", "too_large") RECEIPT), 2, 200,
         "{\"results\":[{\"error\":{\"code\":\"too_large\",\"message\":\"m\"}},{\"id\":\"i\","
         "\"ack\":\"routed\"}]}"},
        {BYTES("\x82\xa3req\x07" ERROR("\xa9", "forbidden")), 2, 403,
         "{\"error\":{\"code\":\"forbidden\",\"message\":\"m\"}}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peal_client_answer answer = {0};
        bool match;
        assert_int_equal(peal_unpack_answer(cases[i].bytes, 7, cases[i].count, &match, &answer),
                         PEAL_OK);
        assert_true(match);
        assert_int_equal(answer.status, cases[i].status);
        peal_buf_add_char(&answer.body, '\0');
        assert_string_equal(answer.body.at, cases[i].body);
        peal_client_answer_fini(&answer);
    }
}

static void unpack_answer_to_another_request_is_passed_over(void **state)
{
    (void)state;
    struct peal_client_answer answer = {0};
    struct peal_span bytes = BYTES("\x82\xa3req\x08\xa7results\x91" RECEIPT);
    bool match = true;
    assert_int_equal(peal_unpack_answer(bytes, 7, 1, &match, &answer), PEAL_OK);
    assert_false(match);
    assert_int_equal(answer.status, 0);
    assert_int_equal(answer.body.size, 0);
}

static void unpack_answer_that_is_none_is_refused(void **state)
{
    (void)state;
    static const struct peal_span bad[] = {
        BYTES("\x90"),
        BYTES("\x80"),
        BYTES("\x81\xa7results\x91" RECEIPT),
        BYTES("\x82\xa3req\xa1\x37\xa7results\x91" RECEIPT),
        BYTES("\x81\xa3req\x07"),
        BYTES("\x82\xa3req\x07\xa7results\x90"),
        BYTES("\x82\xa3req\x07\xa7results\x92" RECEIPT RECEIPT),
        BYTES("\x82\xa3req\x07\xa7results\x91\x01"),
        BYTES("\x82\xa3req\x07\xa7results\x91\x81\xa5"
              "error\x01"),
        BYTES("\x82\xa3req\x07\xa5"
              "error\xa1x"),
        BYTES("\x83\xa3req\x07\xa3req\x07\xa7results\x91" RECEIPT),
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct peal_client_answer answer = {0};
        bool match;
        if (peal_unpack_answer(bad[i], 7, 1, &match, &answer) != PEAL_EBAD_MESSAGE)
            fail_msg("case %zu passed", i);
        peal_client_answer_fini(&answer);
    }
}

static void request_is_what_the_door_reads(void **state)
{
    (void)state;
    struct peal_client_message m[] = {
        json_message("{\"a\":[1,-1,null,true,\"s\"]}"),
        {.user = "u",
         .event = "e",
         .id = "i",
         .ttl_ms = 5,
         .kind = PEAL_CLIENT_TEXT,
         .data = "t",
         .size = 1},
        {.group = "g", .collapse = "k", .kind = PEAL_CLIENT_BINARY, .data = "\0", .size = 1}};
    const struct peal_publish_limits limits = {.message_bytes = 1000, .targets = 10};
    struct peal_buf bytes = {0};
    struct peal_door_call call = {0};
    struct peal_publish_request request;
    char why[160];
    assert_int_equal(peal_message_request(m, 3, 7, &bytes, why, sizeof why), PEAL_OK);
    assert_int_equal(peal_door_decode(peal_buf_span(&bytes), &call, why, sizeof why), PEAL_OK);
    assert_int_equal(call.req, 7);
    assert_int_equal(peal_publish_decode(call.messages, &limits, &request, why, sizeof why),
                     PEAL_OK);
    assert_int_equal(request.count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(request.items[i].err, PEAL_OK);
    assert_true(peal_span_is(request.items[0].env.group, "news"));
    assert_true(peal_span_is(request.items[0].env.data, "{\"a\":[1,-1,null,true,\"s\"]}"));
    assert_int_equal(request.items[0].env.data_kind, PEAL_DATA_JSON);
    assert_true(peal_span_is(request.items[1].env.group, "user:u"));
    assert_true(peal_span_is(request.items[1].env.event, "e"));
    assert_true(peal_span_is(request.items[1].env.id, "i"));
    assert_int_equal(request.items[1].env.ttl_ms, 5);
    assert_int_equal(request.items[1].env.data_kind, PEAL_DATA_TEXT);
    assert_true(peal_span_is(request.items[2].env.collapse, "k"));
    assert_int_equal(request.items[2].env.data_kind, PEAL_DATA_BINARY);
    peal_publish_fini(&request);
    peal_buf_fini(&bytes);
}

static void json_request_is_what_the_api_reads(void **state)
{
    (void)state;
    struct peal_client_message m[] = {
        json_message("{\"a\":1e2}"),
        {.user = "u\"",
         .event = "e",
         .id = "i",
         .kind = PEAL_CLIENT_TEXT,
         .data = "t\n",
         .size = 2},
        {.group = "g", .kind = PEAL_CLIENT_BINARY, .data = "\0\xff", .size = 2}};
    const struct peal_publish_limits limits = {.message_bytes = 1000, .targets = 10};
    struct peal_buf bytes = {0};
    struct peal_publish_request request;
    char why[160];
    assert_int_equal(peal_message_json(m, 3, &bytes, why, sizeof why), PEAL_OK);
    assert_int_equal(peal_publish_decode(peal_buf_span(&bytes), &limits, &request, why, sizeof why),
                     PEAL_OK);
    assert_int_equal(request.count, 3);
    assert_true(peal_span_is(request.items[0].env.data, "{\"a\":1e2}"));
    assert_true(peal_span_is(request.items[1].env.group, "user:u\""));
    assert_true(peal_span_is(request.items[1].env.data, "t\n"));
    assert_int_equal(request.items[2].env.data.size, 2);
    assert_memory_equal(request.items[2].env.data.at, "\0\xff", 2);
    peal_publish_fini(&request);
    peal_buf_fini(&bytes);
}

static void answer_of_the_door_is_read(void **state)
{
    (void)state;
    const struct peal_frame receipts[] = {
        {.type = PEAL_F_RECEIPT,
         .id = {"i", 1},
         .group = {"g", 1},
         .epoch = 1,
         .offset = 2,
         .flags = PEAL_FLAG_STORED},
        {.type = PEAL_F_RECEIPT, .code = PEAL_EFORBIDDEN, .message = {"No.", 3}}};
    struct peal_buf bytes = {0};
    struct peal_client_answer answer = {0};
    bool match;
    peal_door_encode(7, receipts, 2, &bytes);
    assert_int_equal(peal_unpack_answer(peal_buf_span(&bytes), 7, 2, &match, &answer), PEAL_OK);
    assert_true(match);
    assert_int_equal(answer.status, 200);
    peal_buf_add_char(&answer.body, '\0');
    assert_non_null(strstr(answer.body.at, "\"ack\":\"stored\""));
    assert_non_null(strstr(answer.body.at, "\"code\":\"forbidden\""));
    peal_client_answer_fini(&answer);

    bytes.size = 0;
    peal_door_encode_error(7, PEAL_EUNKNOWN_TYPE, "What?", &bytes);
    assert_int_equal(peal_unpack_answer(peal_buf_span(&bytes), 7, 2, &match, &answer), PEAL_OK);
    assert_int_equal(answer.status, 400);
    peal_client_answer_fini(&answer);
    peal_buf_fini(&bytes);
}

static uint64_t after_of(int status, const char *body)
{
    struct peal_client_answer answer = {.status = status};
    peal_buf_add_text(&answer.body, body);
    uint64_t after_ms = peal_client_after_ms(&answer);
    peal_client_answer_fini(&answer);
    return after_ms;
}

static void answer_says_when_to_come_back_when_there_was_no_room(void **state)
{
    (void)state;
    static const char refusal[] = "{\"error\":{\"code\":\"rate_limited\",\"after_ms\":230}}";
    assert_int_equal(after_of(429, refusal), 230);
    assert_int_equal(after_of(503, refusal), 230);
    assert_int_equal(after_of(429, "{\"results\":[{\"error\":{\"after_ms\":5}},"
                                   "{\"error\":{\"after_ms\":70}},{\"error\":{}}]}"),
                     70);
    /* Not said, or by something that is no Peal. */
    assert_int_equal(after_of(503, "{\"error\":{\"code\":\"no_router\"}}"), 1000);
    assert_int_equal(after_of(503, "{\"error\":{\"after_ms\":-1}}"), 1000);
    assert_int_equal(after_of(503, "<html>"), 1000);
    assert_int_equal(after_of(503, ""), 1000);
    /* Time does not help, or nobody knows what became of it. */
    assert_int_equal(after_of(200, refusal), 0);
    assert_int_equal(after_of(400, refusal), 0);
    assert_int_equal(after_of(504, refusal), 0);
    assert_int_equal(after_of(507, refusal), 0);
}

static void wait_that_would_end_too_late_does_not_begin(void **state)
{
    (void)state;
    struct peal_client_answer answer = {.status = 429};
    peal_buf_add_text(&answer.body, "{\"error\":{\"after_ms\":20}}");
    uint64_t begin_ms = peal_clock_mono_ms();
    assert_false(peal_client_wait(&answer, begin_ms));
    assert_false(peal_client_wait(&answer, begin_ms + 10));
    assert_false(peal_client_wait(&answer, 0));
    assert_true(peal_client_wait(&answer, begin_ms + 60000));
    assert_true(peal_clock_mono_ms() - begin_ms >= 20);
    peal_client_answer_fini(&answer);
}

static void answer_of_the_door_with_a_time_is_read(void **state)
{
    (void)state;
    const struct peal_frame refused = {.type = PEAL_F_RECEIPT,
                                       .code = PEAL_ERATE_LIMITED,
                                       .message = {"Full.", 5},
                                       .after_ms = 340};
    struct peal_buf bytes = {0};
    struct peal_client_answer answer = {0};
    bool match;
    peal_door_encode(7, &refused, 1, &bytes);
    assert_int_equal(peal_unpack_answer(peal_buf_span(&bytes), 7, 1, &match, &answer), PEAL_OK);
    assert_int_equal(answer.status, 429);
    assert_int_equal(peal_client_after_ms(&answer), 340);
    peal_client_answer_fini(&answer);
    peal_buf_fini(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(url_ws_is_taken_apart_or_refused),
        cmocka_unit_test(url_ws_too_long_for_its_place_is_refused),
        cmocka_unit_test(url_join_makes_one_slash),
        cmocka_unit_test(url_segment_stays_one_segment),
        cmocka_unit_test(message_json_keeps_the_bytes_of_the_data),
        cmocka_unit_test(message_json_of_several_is_a_list),
        cmocka_unit_test(message_that_cannot_be_sent_is_refused),
        cmocka_unit_test(message_request_is_the_documented_map),
        cmocka_unit_test(message_request_with_what_msgpack_lacks_is_refused),
        cmocka_unit_test(message_hello_names_groups_and_device),
        cmocka_unit_test(unpack_json_renders_every_type),
        cmocka_unit_test(unpack_json_too_deep_is_refused),
        cmocka_unit_test(unpack_answer_has_status_and_body),
        cmocka_unit_test(unpack_answer_to_another_request_is_passed_over),
        cmocka_unit_test(unpack_answer_that_is_none_is_refused),
        cmocka_unit_test(request_is_what_the_door_reads),
        cmocka_unit_test(json_request_is_what_the_api_reads),
        cmocka_unit_test(answer_of_the_door_is_read),
        cmocka_unit_test(answer_of_the_door_with_a_time_is_read),
        cmocka_unit_test(answer_says_when_to_come_back_when_there_was_no_room),
        cmocka_unit_test(wait_that_would_end_too_late_does_not_begin),
    };
    return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}

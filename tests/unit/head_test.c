#include "node/head.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/unit.h"

/* What a test hands in lies in memory of exactly its size, so that the address sanitizer sees a
 * read beyond it. */
static struct peal_span exactly(struct peal_span text)
{
    char *copy = malloc(text.size + 1);
    assert_non_null(copy);
    char *at = copy + 1; /* odd on purpose */
    if (text.size > 0) memcpy(at, text.at, text.size);
    return peal_span_make(at, text.size);
}

static void release(struct peal_span text)
{
    free((char *)(uintptr_t)text.at - 1);
}

static enum peal_err parse_prefix(struct peal_span text, size_t size)
{
    struct peal_head head;
    char why[160] = "";
    struct peal_span part = exactly(peal_span_make(text.at, size));
    enum peal_err err = peal_head_parse(part, &head, why, sizeof why);
    /* Whoever is refused is told why. */
    assert_int_equal(why[0] != '\0', err != PEAL_OK && err != PEAL_EAGAIN);
    if (err == PEAL_OK) assert_true(head.size <= size);
    release(part);
    return err;
}

/* ---- the table --------------------------------------------------------------------------- */

#define KEY  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define V13  "Sec-WebSocket-Version: 13\r\n"
#define UP   "Connection: Upgrade\r\nUpgrade: websocket\r\n"
#define H    "Host: a.example\r\n"
#define E    "\r\n"
#define GET  "GET / HTTP/1.1\r\n" H
#define POST "POST /v1/publish HTTP/1.1\r\n" H

enum { NO = 0, WS = 1 };

static const struct head_case {
    const char *name;
    struct peal_span text;
    enum peal_err err;
    int is_websocket;
} cases[] = {
#define CASE(name, text, err, ws)                                                                  \
    {                                                                                              \
        name, {text, sizeof(text) - 1}, err, ws                                                    \
    }
#define GOOD(name, text, ws) CASE(name, text, PEAL_OK, ws)
#define BAD(name, text)      CASE(name, text, PEAL_EBAD_MESSAGE, NO)
    /* well-formed */
    GOOD("plain request", GET E, NO),
    GOOD("no blank behind the colon", "GET / HTTP/1.1\r\nHost:a\r\n" E, NO),
    GOOD("blanks and tabs around a value", "GET / HTTP/1.1\r\nHost: \t a \t \r\n" E, NO),
    GOOD("empty value", GET "X-Empty:\r\n" E, NO),
    GOOD("value beyond ASCII", GET "X-Name: J\xfcrgen\r\n" E, NO),
    GOOD("colons in a value", GET "X-Url: http://a:80/\r\n" E, NO),
    GOOD("length of 0", POST "Content-Length: 0\r\n" E, NO),
    GOOD("length and a body behind the head", POST "Content-Length: 5\r\n" E "hello", NO),
    GOOD("next request behind the head", GET E GET E, NO),
    GOOD("HTTP/1.0 without a host", "GET /livez HTTP/1.0\r\n" E, NO),
    GOOD("unknown method", "PURGE /x HTTP/1.1\r\n" H E, NO),
    GOOD("HEAD", "HEAD / HTTP/1.1\r\n" H E, NO),
    GOOD("characters that browsers leave alone", "GET /a|b^?q={\"x\":[1]}` HTTP/1.1\r\n" H E, NO),
    GOOD("two cookies", GET "Cookie: a=1\r\nCookie: b=2\r\n" E, NO),
    GOOD("Connection without Upgrade", GET "Connection: upgrade\r\n" E, NO),
    GOOD("keys of a websocket without Upgrade", GET KEY V13 E, NO),
    GOOD("host with a port", "GET / HTTP/1.1\r\nHost: a-1.b_2:65535\r\n" E, NO),
    GOOD("host is IPv6", "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n" E, NO),
    /* a correct upgrade */
    GOOD("websocket", GET UP KEY V13 E, WS),
    GOOD("websocket in other letters",
         "GET /ws HTTP/1.1\r\nHOST: a\r\nCONNECTION: UPGRADE\r\nupgrade: WebSocket\r\n"
         "sec-websocket-KEY: dGhlIHNhbXBsZSBub25jZQ==\r\nSEC-websocket-version: 13\r\n" E,
         WS),
    GOOD("Connection is a list",
         GET "Connection: keep-alive, , Upgrade\r\nUpgrade: websocket\r\n" KEY V13 E, WS),
    GOOD("Connection in two lines",
         GET "Connection: Upgrade\r\nConnection: keep-alive\r\nUpgrade: websocket\r\n" KEY V13 E,
         WS),
    GOOD("extensions and protocols are offers",
         GET UP KEY V13 "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
                        "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n" E,
         WS),
    GOOD("frames right behind the head", GET UP KEY V13 E "\x81\x80\0\0\0\0", WS),
    GOOD("websocket with a length of 0", GET UP KEY V13 "Content-Length: 0\r\n" E, WS),
    /* a wrong upgrade */
    CASE("version 8", GET UP KEY "Sec-WebSocket-Version: 8\r\n" E, PEAL_EUPGRADE, NO),
    CASE("version 0 without a key", GET UP "Sec-WebSocket-Version: 0\r\n" E, PEAL_EUPGRADE, NO),
    CASE("version 14", GET UP KEY "Sec-WebSocket-Version: 14\r\n" E, PEAL_EUPGRADE, NO),
    CASE("version 130", GET UP KEY "Sec-WebSocket-Version: 130\r\n" E, PEAL_EUPGRADE, NO),
    CASE("version 13 among others", GET UP KEY "Sec-WebSocket-Version: 13, 8\r\n" E, PEAL_EUPGRADE,
         NO),
    BAD("no version", GET UP KEY E),
    BAD("two versions", GET UP KEY V13 "Sec-WebSocket-Version: 8\r\n" E),
    BAD("h2c", GET "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                   "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n" E),
    BAD("h2c in other letters", GET "Connection: upgrade\r\nUpgrade: H2C\r\n" E),
    BAD("h2", GET "Connection: Upgrade\r\nUpgrade: h2\r\n" KEY V13 E),
    BAD("h2c beside websocket", GET "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n" KEY V13 E),
    BAD("h2c in a second line", GET UP "Upgrade: h2c\r\n" KEY V13 E),
    BAD("bogus upgrade", GET "Connection: Upgrade\r\nUpgrade: bogus\r\n" E),
    BAD("bogus upgrade without Connection", GET "Upgrade: bogus\r\n" E),
    BAD("empty upgrade", GET "Connection: Upgrade\r\nUpgrade:\r\n" KEY V13 E),
    BAD("websockets", GET "Connection: Upgrade\r\nUpgrade: websockets\r\n" KEY V13 E),
    BAD("websocke", GET "Connection: Upgrade\r\nUpgrade: websocke\r\n" KEY V13 E),
    BAD("websocket with a version",
        GET "Connection: Upgrade\r\nUpgrade: websocket/13\r\n" KEY V13 E),
    BAD("TLS/1.0", GET "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n" E),
    BAD("upgrade of a POST", POST "Upgrade: websocket\r\nConnection: Upgrade\r\n" KEY V13 E),
    BAD("upgrade in HTTP/1.0", "GET / HTTP/1.0\r\n" H UP KEY V13 E),
    BAD("upgrade without Host", "GET / HTTP/1.1\r\n" UP KEY V13 E),
    BAD("upgrade without Connection", GET "Upgrade: websocket\r\n" KEY V13 E),
    BAD("upgrade with another Connection",
        GET "Connection: keep-alive, upgraded\r\nUpgrade: websocket\r\n" KEY V13 E),
    BAD("upgrade with a body", GET UP KEY V13 "Content-Length: 5\r\n" E "hello"),
    BAD("no key", GET UP V13 E),
    BAD("two keys", GET UP KEY KEY V13 E),
    BAD("key of 15 bytes", GET UP V13 "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA\r\n" E),
    BAD("key of 17 bytes", GET UP V13 "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA=\r\n" E),
    BAD("key is not base64", GET UP V13 "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA-_==\r\n" E),
    BAD("key is longer", GET UP V13 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==A\r\n" E),
    /* the twelve classic shapes of smuggling */
    BAD("smuggling: length, then chunks",
        POST "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n" E "0\r\n\r\nG"),
    BAD("smuggling: chunks, then length",
        POST "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n" E "5c\r\n"),
    BAD("smuggling: chunks twice, one obscured",
        POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n" E),
    BAD("smuggling: xchunked", POST "Content-Length: 4\r\nTransfer-Encoding: xchunked\r\n" E),
    BAD("smuggling: blank before the colon",
        POST "Content-Length: 4\r\nTransfer-Encoding : chunked\r\n" E),
    BAD("smuggling: tab before the value, vertical tab in it",
        POST "Content-Length: 4\r\nTransfer-Encoding:\t\x0b"
             "chunked\r\n" E),
    BAD("smuggling: folded", POST "Content-Length: 4\r\nTransfer-Encoding:\r\n chunked\r\n" E),
    BAD("smuggling: two different lengths",
        POST "Content-Length: 8\r\nContent-Length: 7\r\n" E "12345\r\na"),
    BAD("smuggling: two equal lengths", POST "Content-Length: 5\r\nContent-Length: 5\r\n" E),
    BAD("smuggling: a negative length", POST "Content-Length: -1\r\n" E),
    BAD("smuggling: bare LF hides a header",
        POST "X: y\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n" E),
    BAD("smuggling: bare CR hides a header",
        POST "X: y\rTransfer-Encoding: chunked\r\nContent-Length: 4\r\n" E),
    /* and their relatives */
    BAD("chunks alone", POST "Transfer-Encoding: chunked\r\n" E "0\r\n\r\n"),
    BAD("chunks in HTTP/1.0", "POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n" E),
    BAD("chunked is not the last", POST "Transfer-Encoding: chunked, identity\r\n" E),
    BAD("identity", POST "Content-Length: 4\r\nTransfer-Encoding: identity\r\n" E),
    BAD("empty encoding", POST "Content-Length: 4\r\nTransfer-Encoding:\r\n" E),
    BAD("length with a sign", POST "Content-Length: +5\r\n" E),
    BAD("length in hex", POST "Content-Length: 0x5\r\n" E),
    BAD("length with a blank", POST "Content-Length: 1 2\r\n" E),
    BAD("length is a list", POST "Content-Length: 5, 5\r\n" E),
    BAD("empty length", POST "Content-Length:\r\n" E),
    BAD("length beyond 64 bits", POST "Content-Length: 18446744073709551617\r\n" E),
    BAD("length in other digits", POST "Content-Length: \xd9\xa5\r\n" E),
    BAD("chunked upgrade", GET UP KEY V13 "Transfer-Encoding: chunked\r\n" E),
    /* lines */
    BAD("first line ends with LF", "GET / HTTP/1.1\n" H E),
    BAD("empty line is a LF", GET "\n"),
    BAD("CR CR LF", "GET / HTTP/1.1\r\nHost: a\r\r\n" E),
    BAD("empty line first", E GET E),
    BAD("NUL in a value", GET "X: a\0b\r\n" E),
    BAD("NUL in a name", GET "X\0: a\r\n" E),
    BAD("DEL in a value", GET "X: \x7f\r\n" E),
    BAD("escape in a value", GET "X: \x1b[31m\r\n" E),
    BAD("first header is folded", "GET / HTTP/1.1\r\n Host: a\r\n" E),
    BAD("folded with a tab", GET "X: a\r\n\tb\r\n" E),
    BAD("line of blanks", GET " \r\n" E),
    BAD("no colon", GET "Nonsense\r\n" E),
    BAD("no name", GET ": x\r\n" E),
    BAD("Host with a blank behind", "GET / HTTP/1.1\r\nHost : a\r\n" E),
    BAD("name with a blank", GET "X Y: z\r\n" E),
    BAD("name beyond ASCII", GET "X\xe4: z\r\n" E),
    BAD("name with a bracket", GET "X(Y): z\r\n" E),
    /* Host */
    BAD("no host", "GET / HTTP/1.1\r\n" E),
    BAD("two hosts", GET "Host: b\r\n" E),
    BAD("the same host twice", GET H E),
    BAD("empty host", "GET / HTTP/1.1\r\nHost:\r\n" E),
    BAD("host is a list", "GET / HTTP/1.1\r\nHost: a, b\r\n" E),
    BAD("host with userinfo", "GET / HTTP/1.1\r\nHost: a@b\r\n" E),
    BAD("host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n" E),
    BAD("host with a bad port", "GET / HTTP/1.1\r\nHost: a:65536\r\n" E),
    BAD("bad host in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a b\r\n" E),
    BAD("two origins", GET "Origin: http://a\r\nOrigin: http://b\r\n" E),
    BAD("two authorizations", GET "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n" E),
    /* first line */
    BAD("no version", "GET /\r\n" H E),
    BAD("no target", "GET HTTP/1.1\r\n" H E),
    BAD("method alone", "GET\r\n" H E),
    BAD("two blanks before the target", "GET  / HTTP/1.1\r\n" H E),
    BAD("two blanks behind the target", "GET /  HTTP/1.1\r\n" H E),
    BAD("blank at the end", "GET / HTTP/1.1 \r\n" H E),
    BAD("blank at the start", " GET / HTTP/1.1\r\n" H E),
    BAD("tabs", "GET\t/\tHTTP/1.1\r\n" H E),
    BAD("blank in the target", "GET /a b HTTP/1.1\r\n" H E),
    BAD("tab in the target", "GET /a\tb HTTP/1.1\r\n" H E),
    BAD("fragment in the target", "GET /a#b HTTP/1.1\r\n" H E),
    BAD("target beyond ASCII", "GET /\xc3\xa9 HTTP/1.1\r\n" H E),
    BAD("absolute form", "GET http://a.example/ HTTP/1.1\r\n" H E),
    BAD("absolute form of an upgrade", "GET ws://a.example/v1/ws HTTP/1.1\r\n" H UP KEY V13 E),
    BAD("asterisk form", "OPTIONS * HTTP/1.1\r\n" H E),
    BAD("authority form", "CONNECT a.example:443 HTTP/1.1\r\n" H E),
    BAD("no slash", "GET a HTTP/1.1\r\n" H E),
    BAD("query without a path", "GET ?a HTTP/1.1\r\n" H E),
    BAD("HTTP/2 with prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    BAD("HTTP/2.0", "GET / HTTP/2.0\r\n" H E),
    BAD("HTTP/1.2", "GET / HTTP/1.2\r\n" H E),
    BAD("HTTP/0.9", "GET / HTTP/0.9\r\n" H E),
    BAD("HTTP/1.10", "GET / HTTP/1.10\r\n" H E),
    BAD("http/1.1", "GET / http/1.1\r\n" H E),
    BAD("method is no word", "G(E)T / HTTP/1.1\r\n" H E),
    BAD("TLS hello", "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"),
    /* not complete */
    CASE("nothing", "", PEAL_EAGAIN, NO),
    CASE("half a line", "GET / HT", PEAL_EAGAIN, NO),
    CASE("all but the last byte", GET "\r", PEAL_EAGAIN, NO),
};

static void head_of_the_table_is_judged(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peal_head head;
        char why[160] = "";
        struct peal_span text = exactly(cases[i].text);
        enum peal_err err = peal_head_parse(text, &head, why, sizeof why);
        if (err != cases[i].err || head.is_websocket != (cases[i].is_websocket == WS))
            fail_msg("%s: %s (%s)", cases[i].name, peal_err_word(err), why);
        release(text);
    }
}

/* Too little is never enough, and what was refused is not taken back with more bytes. */
static void head_cut_at_every_byte_waits_or_is_refused_for_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peal_span text = cases[i].text;
        struct peal_head head;
        char why[160];
        enum peal_err whole = peal_head_parse(text, &head, why, sizeof why);
        bool decided = false;
        for (size_t size = 0; size <= text.size; size++) {
            enum peal_err err = parse_prefix(text, size);
            if (whole == PEAL_OK && err != (size < head.size ? PEAL_EAGAIN : PEAL_OK))
                fail_msg("%s: %s at %zu", cases[i].name, peal_err_word(err), size);
            if (decided || err != PEAL_EAGAIN) assert_int_equal(err, whole);
            decided = decided || err != PEAL_EAGAIN;
        }
    }
}

/* ---- limits ------------------------------------------------------------------------------ */

/* A head with `lines` headers, stretched to size bytes; with 0 it stays as short as it is. */
static struct peal_buf head_of(int lines, size_t size)
{
    struct peal_buf text = {0};
    peal_buf_add_text(&text, GET);
    for (int i = 1; i < lines; i++)
        peal_buf_add_format(&text, "X-%d: y\r\n", i);
    if (size > 0) {
        text.size -= 2;
        while (text.size < size - 4)
            peal_buf_add_char(&text, 'z');
        peal_buf_add_text(&text, "\r\n");
    }
    peal_buf_add_text(&text, "\r\n");
    assert_false(text.failed);
    return text;
}

static void head_with_too_many_headers_is_too_large(void **state)
{
    (void)state;
    struct peal_buf full = head_of(PEAL_HEADERS_MAX, 0);
    struct peal_buf over = head_of(PEAL_HEADERS_MAX + 1, 0);
    assert_int_equal(parse_prefix(peal_buf_span(&full), full.size), PEAL_OK);
    assert_int_equal(parse_prefix(peal_buf_span(&over), over.size), PEAL_ETOO_LARGE);
    assert_int_equal(parse_prefix(peal_buf_span(&over), over.size - 2), PEAL_ETOO_LARGE);
    peal_buf_fini(&full);
    peal_buf_fini(&over);
}

static void head_beyond_its_size_is_too_large(void **state)
{
    (void)state;
    struct peal_buf full = head_of(3, PEAL_HEAD_MAX);
    struct peal_buf over = head_of(3, PEAL_HEAD_MAX + 1);
    assert_int_equal(full.size, PEAL_HEAD_MAX);
    assert_int_equal(parse_prefix(peal_buf_span(&full), full.size), PEAL_OK);
    assert_int_equal(parse_prefix(peal_buf_span(&full), full.size - 1), PEAL_EAGAIN);
    assert_int_equal(over.size, PEAL_HEAD_MAX + 1);
    assert_int_equal(parse_prefix(peal_buf_span(&over), over.size), PEAL_ETOO_LARGE);
    assert_int_equal(parse_prefix(peal_buf_span(&over), PEAL_HEAD_MAX), PEAL_ETOO_LARGE);
    assert_int_equal(parse_prefix(peal_buf_span(&over), PEAL_HEAD_MAX - 1), PEAL_EAGAIN);
    peal_buf_add_text(&full, "a body behind a head of the full size");
    assert_int_equal(parse_prefix(peal_buf_span(&full), full.size), PEAL_OK);
    peal_buf_fini(&full);
    peal_buf_fini(&over);
}

static void head_without_an_end_of_its_first_line_is_too_large(void **state)
{
    (void)state;
    char text[PEAL_HEAD_MAX + 1];
    memset(text, 'A', sizeof text);
    assert_int_equal(parse_prefix(peal_span_make(text, sizeof text), PEAL_HEAD_MAX - 1),
                     PEAL_EAGAIN);
    assert_int_equal(parse_prefix(peal_span_make(text, sizeof text), sizeof text), PEAL_ETOO_LARGE);
}

/* ---- what is found ----------------------------------------------------------------------- */

static void head_gives_what_stands_in_it(void **state)
{
    (void)state;
    struct peal_head head;
    const char *text = "GET /ws/chat/b%C3%A9/?token=a.b.c&x HTTP/1.1\r\n"
                       "Host: push.example:8080\r\n"
                       "Origin: https://example.com\r\n"
                       "Authorization: Bearer t0ken\r\n"
                       "Cookie: a=1; b=2\r\nCookie: c=3\r\n" UP KEY V13
                       "Sec-WebSocket-Protocol: peal.v1.json, peal.token.x\r\n"
                       "Sec-WebSocket-Protocol: later\r\n"
                       "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n";
    assert_int_equal(peal_head_parse(peal_span_of(text), &head, NULL, 0), PEAL_OK);
    assert_int_equal(head.size, strlen(text));
    assert_true(peal_span_is(head.method, "GET"));
    assert_true(peal_span_is(head.target, "/ws/chat/b%C3%A9/?token=a.b.c&x"));
    assert_true(peal_span_is(head.path, "/ws/chat/b%C3%A9/"));
    assert_true(peal_span_is(head.query, "token=a.b.c&x"));
    assert_true(peal_span_is(head.host, "push.example:8080"));
    assert_true(peal_span_is(head.origin, "https://example.com"));
    assert_true(peal_span_is(head.authorization, "Bearer t0ken"));
    assert_true(peal_span_is(head.cookie, "a=1; b=2"));
    assert_true(peal_span_is(head.upgrade, "websocket"));
    assert_true(peal_span_is(head.ws_key, "dGhlIHNhbXBsZSBub25jZQ=="));
    assert_true(peal_span_is(head.ws_version, "13"));
    assert_true(peal_span_is(head.ws_protocol, "peal.v1.json, peal.token.x"));
    assert_true(peal_span_is(head.forwarded_for, "1.2.3.4"));
    assert_true(head.connection_upgrade);
    assert_true(head.is_websocket);
}

static void head_tells_absent_from_empty(void **state)
{
    (void)state;
    struct peal_head head;
    assert_int_equal(peal_head_parse(peal_span_of(GET E), &head, NULL, 0), PEAL_OK);
    assert_null(head.query.at);
    assert_null(head.origin.at);
    assert_false(head.connection_upgrade);
    assert_true(peal_span_is(head.path, "/"));
    const char *text = "GET /a? HTTP/1.1\r\nHost: a\r\nOrigin:\r\n\r\n";
    assert_int_equal(peal_head_parse(peal_span_of(text), &head, NULL, 0), PEAL_OK);
    assert_non_null(head.query.at);
    assert_int_equal(head.query.size, 0);
    assert_non_null(head.origin.at);
    assert_int_equal(head.origin.size, 0);
    assert_true(peal_span_is(head.path, "/a"));
}

static void head_refused_cuts_its_reason_to_the_room(void **state)
{
    (void)state;
    struct peal_head head;
    char why[8];
    memset(why, 'x', sizeof why);
    assert_int_equal(peal_head_parse(peal_span_of("GET\n"), &head, why, sizeof why),
                     PEAL_EBAD_MESSAGE);
    assert_string_equal(why, "a line ");
}

/* ---- query and path ---------------------------------------------------------------------- */

static void query_parameter_is_found_and_decoded(void **state)
{
    (void)state;
    static const struct {
        const char *query;
        enum peal_err err;
        const char *value;
    } table[] = {
        {"token=abc", PEAL_OK, "abc"},
        {"a=1&token=abc&b=2", PEAL_OK, "abc"},
        {"token=first&token=second", PEAL_OK, "first"},
        {"token=", PEAL_OK, ""},
        {"token", PEAL_OK, ""},
        {"token=a=b==", PEAL_OK, "a=b=="},
        {"token=a%2eb%2Ec", PEAL_OK, "a.b.c"},
        {"token=a+b%2Bc", PEAL_OK, "a b+c"},
        {"token=%26%3d%25", PEAL_OK, "&=%"},
        {"token=%2541", PEAL_OK, "%41"}, /* once */
        {"%74oken=abc", PEAL_OK, "abc"},
        {"&&token=abc&", PEAL_OK, "abc"},
        {"%zz=1&token=abc", PEAL_OK, "abc"}, /* another one's bad escape is not ours */
        {"tokens=abc", PEAL_ENOT_FOUND, ""},
        {"toke=abc", PEAL_ENOT_FOUND, ""},
        {"Token=abc", PEAL_ENOT_FOUND, ""},
        {"=token", PEAL_ENOT_FOUND, ""},
        {"a=token=abc", PEAL_ENOT_FOUND, ""},
        {"token%00=abc", PEAL_ENOT_FOUND, ""},
        {"", PEAL_ENOT_FOUND, ""},
        {NULL, PEAL_ENOT_FOUND, ""},
        {"token=%", PEAL_EBAD_FIELD, ""},
        {"token=ab%4", PEAL_EBAD_FIELD, ""},
        {"token=%4&a=1", PEAL_EBAD_FIELD, ""},
        {"token=%g1", PEAL_EBAD_FIELD, ""},
        {"token=%1g", PEAL_EBAD_FIELD, ""},
        {"token=%u0041", PEAL_EBAD_FIELD, ""},
        {"token=%-1", PEAL_EBAD_FIELD, ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct peal_buf out = {0};
        struct peal_span query = peal_span_of(table[i].query);
        if (query.at != NULL) query = exactly(query);
        peal_buf_add_text(&out, "<");
        enum peal_err err = peal_query_get(query, "token", &out);
        if (err != table[i].err || out.size - 1 != strlen(table[i].value) ||
            memcmp(out.at + 1, table[i].value, out.size - 1) != 0)
            fail_msg("%s: %s %.*s", table[i].query, peal_err_word(err), (int)out.size, out.at);
        if (query.at != NULL) release(query);
        peal_buf_fini(&out);
    }
}

static void path_is_decoded_once_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        enum peal_err err;
        const char *decoded;
    } table[] = {
        {"/", PEAL_OK, "/"},
        {"", PEAL_OK, ""},
        {"/a+b", PEAL_OK, "/a+b"}, /* a blank in queries only */
        {"/a%20b", PEAL_OK, "/a b"},
        {"/a%2Fb", PEAL_OK, "/a/b"},
        {"/%2e%2E/x", PEAL_OK, "/../x"},
        {"/%252F", PEAL_OK, "/%2F"},
        {"/b%C3%A9", PEAL_OK, "/b\xc3\xa9"},
        {"/%E2%82%AC%e2%82%ac", PEAL_OK, "/\xe2\x82\xac\xe2\x82\xac"},
        {"/%0a", PEAL_OK, "/\n"}, /* no name may have it, a path may */
        {"/%", PEAL_EBAD_FIELD, ""},
        {"/%4", PEAL_EBAD_FIELD, ""},
        {"/%%41", PEAL_EBAD_FIELD, ""},
        {"/%4%31", PEAL_EBAD_FIELD, ""},
        {"/% 1", PEAL_EBAD_FIELD, ""},
        {"/%x1", PEAL_EBAD_FIELD, ""},
        {"/%u00e9", PEAL_EBAD_FIELD, ""},
        {"/%00", PEAL_EBAD_FIELD, ""},
        {"/a%00b", PEAL_EBAD_FIELD, ""},
        {"/%ff", PEAL_EBAD_FIELD, ""},
        {"/%C3", PEAL_EBAD_FIELD, ""},
        {"/%C0%AF", PEAL_EBAD_FIELD, ""},       /* an overlong / */
        {"/%ED%A0%80", PEAL_EBAD_FIELD, ""},    /* a surrogate */
        {"/%F4%90%80%80", PEAL_EBAD_FIELD, ""}, /* beyond U+10FFFF */
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct peal_buf out = {0};
        struct peal_span path = exactly(peal_span_of(table[i].path));
        peal_buf_add_text(&out, "<");
        enum peal_err err = peal_path_decode(path, &out);
        if (err != table[i].err || out.size - 1 != strlen(table[i].decoded) ||
            memcmp(out.at + 1, table[i].decoded, out.size - 1) != 0)
            fail_msg("%s: %s %.*s", table[i].path, peal_err_word(err), (int)out.size, out.at);
        release(path);
        peal_buf_fini(&out);
    }
}

static void path_without_memory_is_left_as_it_was(void **state)
{
    (void)state;
    struct peal_buf out = {.failed = true};
    assert_int_equal(peal_path_decode(peal_span_of("/a"), &out), PEAL_ENOMEM);
    assert_int_equal(peal_query_get(peal_span_of("a=b"), "a", &out), PEAL_ENOMEM);
    assert_int_equal(out.size, 0);
}

/* ---- lists and hosts --------------------------------------------------------------------- */

static void list_gives_its_elements_without_blanks(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        const char *joined;
    } table[] = {
        {"a", "a|"}, {"a,b", "a|b|"}, {" a ,\tb c\t, d", "a|b c|d|"}, {"", ""},
        {" ", ""},   {",", ""},       {", ,a,, b,", "a|b|"},          {NULL, ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct peal_buf joined = {0};
        struct peal_span list = peal_span_of(table[i].list);
        if (list.at != NULL) list = exactly(list);
        size_t at = 0;
        for (struct peal_span item; peal_list_next(list, &at, &item);) {
            peal_buf_add_span(&joined, item);
            peal_buf_add_char(&joined, '|');
        }
        assert_true(peal_span_is(peal_buf_span(&joined), table[i].joined));
        if (list.at != NULL) release(list);
        peal_buf_fini(&joined);
    }
}

static void host_is_split_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *name; /* NULL: refused */
        unsigned port;
    } table[] = {
        {"a", "a", 0},
        {"a.example:1", "a.example", 1},
        {"a.example.:65535", "a.example.", 65535},
        {"127.0.0.1:8080", "127.0.0.1", 8080},
        {"xn--bcher-kva.example", "xn--bcher-kva.example", 0},
        {"my_service:80", "my_service", 80},
        {"a:00080", "a", 80},
        {"[::1]", "[::1]", 0},
        {"[fe80::1]:443", "[fe80::1]", 443},
        {"[::ffff:1.2.3.4]", "[::ffff:1.2.3.4]", 0},
        {"", NULL, 0},
        {":80", NULL, 0},
        {"a:", NULL, 0},
        {"a:0", NULL, 0},
        {"a:65536", NULL, 0},
        {"a:000080", NULL, 0},
        {"a:99999999999", NULL, 0},
        {"a:8x", NULL, 0},
        {"a:+8", NULL, 0},
        {"a:80:80", NULL, 0},
        {"a b", NULL, 0},
        {"a,b", NULL, 0},
        {"a/b", NULL, 0},
        {"user@a", NULL, 0},
        {"user:80@a", NULL, 0},
        {"a%2eb", NULL, 0},
        {"a\\b", NULL, 0},
        {"b\xc3\xbc"
         "cher",
         NULL, 0},
        {"[", NULL, 0},
        {"[]", NULL, 0},
        {"[:", NULL, 0},
        {"[::1", NULL, 0},
        {"[::1]x", NULL, 0},
        {"[::1]:", NULL, 0},
        {"[a/b]", NULL, 0},
        {"::1", NULL, 0},
        {"a]", NULL, 0},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct peal_span name;
        uint16_t port;
        struct peal_span text = exactly(peal_span_of(table[i].text));
        enum peal_err err = peal_host_split(text, &name, &port);
        if (err != (table[i].name == NULL ? PEAL_EBAD_FIELD : PEAL_OK))
            fail_msg("%s: %s", table[i].text, peal_err_word(err));
        if (err == PEAL_OK) {
            assert_true(peal_span_is(name, table[i].name));
            assert_int_equal(port, table[i].port);
        }
        release(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(head_of_the_table_is_judged),
        cmocka_unit_test(head_cut_at_every_byte_waits_or_is_refused_for_good),
        cmocka_unit_test(head_with_too_many_headers_is_too_large),
        cmocka_unit_test(head_beyond_its_size_is_too_large),
        cmocka_unit_test(head_without_an_end_of_its_first_line_is_too_large),
        cmocka_unit_test(head_gives_what_stands_in_it),
        cmocka_unit_test(head_tells_absent_from_empty),
        cmocka_unit_test(head_refused_cuts_its_reason_to_the_room),
        cmocka_unit_test(query_parameter_is_found_and_decoded),
        cmocka_unit_test(path_is_decoded_once_or_refused),
        cmocka_unit_test(path_without_memory_is_left_as_it_was),
        cmocka_unit_test(list_gives_its_elements_without_blanks),
        cmocka_unit_test(host_is_split_or_refused),
    };
    return cmocka_run_group_tests_name("head", tests, NULL, NULL);
}

#include "node/route.h"

#include <stdio.h>
#include <stdlib.h>

#include "node/head.h"
#include "tests/unit/unit.h"

enum { ROUTES_MAX = 8, JOINS_MAX = 4 };

/* Finds the route of a path as the handshake does: decoded once, then matched. */
static enum peal_err find(char **templates, size_t count, const char *path,
                          struct peal_buf *decoded, struct peal_route_match *match)
{
    static struct peal_config_route routes[ROUTES_MAX];
    static struct peal_config config;
    assert_true(count <= ROUTES_MAX);
    for (size_t i = 0; i < count; i++)
        routes[i] = (struct peal_config_route){.path = templates[i]};
    config = (struct peal_config){.routes = routes, .route_count = count};
    *decoded = (struct peal_buf){0};
    enum peal_err err = peal_path_decode(peal_span_of(path), decoded);
    return err != PEAL_OK ? err : peal_route_find(&config, peal_buf_span(decoded), match);
}

/* "name=value|" of each capture. */
static void captures_add(struct peal_buf *out, const struct peal_route_match *match)
{
    for (size_t i = 0; i < match->capture_count; i++) {
        peal_buf_add_span(out, match->captures[i].name);
        peal_buf_add_char(out, '=');
        peal_buf_add_span(out, match->captures[i].value);
        peal_buf_add_char(out, '|');
    }
}

/* ---- paths ------------------------------------------------------------------------------- */

static void route_matches_exactly_or_not(void **state)
{
    (void)state;
    static const struct {
        char *template;
        const char *path;
        const char *captures; /* NULL: no match */
    } table[] = {
        {"/", "/", ""},
        {"/", "", NULL},
        {"/", "//", NULL},
        {"/", "/a", NULL},
        {"/v1/ws", "/v1/ws", ""},
        {"/v1/ws", "/v1/ws/", NULL}, /* a trailing slash counts */
        {"/v1/ws", "/v1/w", NULL},
        {"/v1/ws", "/v1/wss", NULL},
        {"/v1/ws", "/V1/ws", NULL},
        {"/v1/ws", "//v1/ws", NULL},
        {"/v1/ws", "/v1/./ws", NULL}, /* nothing is normalised */
        {"/v1/ws", "/v1/x/../ws", NULL},
        {"/v1/ws", "/v1/%77s", ""},
        {"/v1/ws", "/v1/%2577s", NULL}, /* decoded once */
        {"/v1/ws", "/v1%2Fws", ""},
        {"/ws/{user}/", "/ws/bob/", "user=bob|"},
        {"/ws/{user}/", "/ws/bob", NULL},
        {"/ws/{user}", "/ws/bob/", NULL},
        {"/ws/{user}/", "/ws//", NULL}, /* at least one byte */
        {"/ws/{user}/", "/ws/", NULL},
        {"/ws/{user}/", "/ws/a/b/", NULL}, /* never a slash */
        {"/ws/{user}/", "/ws/a%2Fb/", NULL},
        {"/ws/{user}/", "/ws/a%2fb/", NULL},
        {"/ws/{user}/", "/ws/a%252Fb/", "user=a%2Fb|"},
        {"/ws/{user}/", "/ws/b%C3%A9/", "user=b\xc3\xa9|"},
        {"/ws/{user}/", "/ws/a%20b/", "user=a b|"},
        {"/ws/{user}/", "/ws/a+b/", "user=a+b|"},
        {"/ws/{user}/", "/ws/../", "user=..|"},
        {"/ws/{user}/", "/ws/{user}/", "user={user}|"},
        {"/{a}/{b}", "/x/y", "a=x|b=y|"},
        {"/{a}/{b}", "/x", NULL},
        {"/{a}/{b}", "/x/y/z", NULL},
        {"/{a}/x/{b}", "/x/x/x", "a=x|b=x|"},
        {"/{a}", "/", NULL},
        {"/b\xc3\xa9", "/b%c3%a9", ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char *template = table[i].template;
        struct peal_buf decoded;
        struct peal_buf captures = {0};
        struct peal_route_match match;
        enum peal_err err = find(&template, 1, table[i].path, &decoded, &match);
        if (err == PEAL_OK) captures_add(&captures, &match);
        if (err != (table[i].captures == NULL ? PEAL_ENOT_FOUND : PEAL_OK) ||
            (err == PEAL_OK && !peal_span_is(peal_buf_span(&captures), table[i].captures)))
            fail_msg("%s, %s: %s", template, table[i].path, peal_err_word(err));
        peal_buf_fini(&captures);
        peal_buf_fini(&decoded);
    }
}

static void route_path_that_is_not_utf8_belongs_nowhere(void **state)
{
    (void)state;
    static const char *const paths[] = {"/%ff", "/%c3", "/%c0%af", "/a%00"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        char *template = "/{x}";
        struct peal_buf decoded;
        struct peal_route_match match;
        assert_int_equal(find(&template, 1, paths[i], &decoded, &match), PEAL_EBAD_FIELD);
        peal_buf_fini(&decoded);
    }
}

static void route_capture_of_more_than_200_bytes_does_not_match(void **state)
{
    (void)state;
    char *template = "/{x}";
    char path[256] = "/";
    struct peal_buf decoded;
    struct peal_route_match match;
    memset(path + 1, 'a', 200);
    assert_int_equal(find(&template, 1, path, &decoded, &match), PEAL_OK);
    assert_int_equal(match.captures[0].value.size, 200);
    peal_buf_fini(&decoded);
    path[201] = 'a';
    assert_int_equal(find(&template, 1, path, &decoded, &match), PEAL_ENOT_FOUND);
    assert_null(match.route);
    peal_buf_fini(&decoded);
}

static void route_first_match_wins(void **state)
{
    (void)state;
    char *templates[] = {"/a/b", "/a/{x}", "/{y}/b", "/a/{z}"};
    static const struct {
        const char *path;
        size_t index;
    } table[] = {{"/a/b", 0}, {"/a/c", 1}, {"/c/b", 2}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct peal_buf decoded;
        struct peal_route_match match;
        assert_int_equal(find(templates, 4, table[i].path, &decoded, &match), PEAL_OK);
        assert_string_equal(match.route->path, templates[table[i].index]);
        assert_int_equal(match.capture_count, table[i].index > 0);
        peal_buf_fini(&decoded);
    }
}

static void route_without_any_finds_nothing(void **state)
{
    (void)state;
    struct peal_buf decoded;
    struct peal_route_match match;
    assert_int_equal(find(NULL, 0, "/", &decoded, &match), PEAL_ENOT_FOUND);
    peal_buf_fini(&decoded);
}

static void url_user_is_user_then_name_then_the_last(void **state)
{
    (void)state;
    static const struct {
        char *template;
        const char *path;
        const char *user;
    } table[] = {
        {"/{user}/{x}", "/bob/1", "bob"},      {"/{x}/{name}/{y}", "/1/bob/2", "bob"},
        {"/{name}/{user}", "/eve/bob", "bob"}, {"/{x}/{y}", "/eve/bob", "bob"},
        {"/{users}/{x}", "/eve/bob", "bob"},   {"/chat", "/chat", NULL},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char *template = table[i].template;
        struct peal_buf decoded;
        struct peal_route_match match;
        assert_int_equal(find(&template, 1, table[i].path, &decoded, &match), PEAL_OK);
        struct peal_span user = peal_route_url_user(&match);
        assert_int_equal(user.at == NULL, table[i].user == NULL);
        assert_true(peal_span_is(user, table[i].user));
        peal_buf_fini(&decoded);
    }
}

/* ---- groups ------------------------------------------------------------------------------ */

static void route_fill_makes_a_group_or_says_why_not(void **state)
{
    (void)state;
    static const struct {
        const char *path; /* of /{room}/{other} */
        const char *template;
        const char *identity;
        enum peal_err err;
        const char *group;
    } table[] = {
        {"/a/b", "news", NULL, PEAL_OK, "news"},
        {"/a/b", "chat_{room}", NULL, PEAL_OK, "chat_a"},
        {"/a/b", "{room}", NULL, PEAL_OK, "a"},
        {"/a/b", "{other}.{room}.{other}", NULL, PEAL_OK, "b.a.b"},
        {"/a/b", "{room}{other}", NULL, PEAL_OK, "ab"},
        {"/a/b", "user:{identity}", "bob", PEAL_OK, "user:bob"},
        {"/a/b", "user:{room}", NULL, PEAL_OK, "user:a"},
        {"/b%C3%A9/x", "chat_{room}", NULL, PEAL_OK, "chat_b\xc3\xa9"},
        {"/{other}/b", "{room}", NULL, PEAL_OK, "{other}"}, /* filled once */
        {"/a/b", "user:{identity}", NULL, PEAL_EFORBIDDEN, ""},
        {"/a/b", "user:{identity}", "", PEAL_EFORBIDDEN, ""},
        {"/a/b", "chat_{rooms}", NULL, PEAL_EINVAL, ""},
        {"/a/b", "chat_{}", NULL, PEAL_EINVAL, ""},
        {"/a/b", "chat_{room", NULL, PEAL_EINVAL, ""},
        {"/a/b", "chat_room}", NULL, PEAL_EINVAL, ""},
        {"/a/b", "chat_{{room}}", NULL, PEAL_EINVAL, ""},
        {"/a/b", "", NULL, PEAL_EBAD_GROUP, ""},
        {"/a%0Ab/x", "chat_{room}", NULL, PEAL_EBAD_GROUP, ""},
        {"/%C2%85/x", "chat_{room}", NULL, PEAL_EBAD_GROUP, ""},
        {"/a%7F/x", "chat_{room}", NULL, PEAL_EBAD_GROUP, ""},
        /* who chooses the path does not choose the kind of group */
        {"/user:eve/b", "{room}", NULL, PEAL_EBAD_GROUP, ""},
        {"/us/er:eve", "{room}{other}", NULL, PEAL_EBAD_GROUP, ""},
        {"/r:eve/b", "use{room}", NULL, PEAL_EBAD_GROUP, ""},
        {"/sys:x/b", "{room}", NULL, PEAL_EBAD_GROUP, ""},
        {"/a/b", "{identity}", "user:eve", PEAL_EBAD_GROUP, ""},
        {"/user:eve/b", "chat_{room}", NULL, PEAL_OK, "chat_user:eve"},
        {"/User:eve/b", "{room}", NULL, PEAL_OK, "User:eve"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char *path = "/{room}/{other}";
        struct peal_buf decoded;
        struct peal_buf group = {0};
        struct peal_route_match match;
        assert_int_equal(find(&path, 1, table[i].path, &decoded, &match), PEAL_OK);
        peal_buf_add_text(&group, "<");
        enum peal_err err =
            peal_route_fill(&match, table[i].template, peal_span_of(table[i].identity), &group);
        if (err != table[i].err || group.size - 1 != strlen(table[i].group) ||
            memcmp(group.at + 1, table[i].group, group.size - 1) != 0)
            fail_msg("%s, %s: %s %.*s", table[i].template, table[i].path, peal_err_word(err),
                     (int)group.size, group.at);
        peal_buf_fini(&group);
        peal_buf_fini(&decoded);
    }
}

static void route_fill_beyond_200_bytes_is_no_group(void **state)
{
    (void)state;
    char *template = "/{x}";
    char path[256] = "/";
    struct peal_buf decoded;
    struct peal_buf group = {0};
    struct peal_route_match match;
    memset(path + 1, 'a', 196);
    assert_int_equal(find(&template, 1, path, &decoded, &match), PEAL_OK);
    assert_int_equal(peal_route_fill(&match, "abc:{x}", peal_span_of(NULL), &group), PEAL_OK);
    assert_int_equal(group.size, 200);
    group.size = 0;
    assert_int_equal(peal_route_fill(&match, "abcd:{x}", peal_span_of(NULL), &group),
                     PEAL_EBAD_GROUP);
    assert_int_equal(group.size, 0);
    peal_buf_fini(&group);
    group = (struct peal_buf){.failed = true};
    assert_int_equal(peal_route_fill(&match, "{x}", peal_span_of(NULL), &group), PEAL_ENOMEM);
    peal_buf_fini(&decoded);
}

static void route_check_refuses_what_could_not_work(void **state)
{
    (void)state;
    static const struct {
        char *path;
        char *join;
        const char *why; /* NULL: fine */
    } table[] = {
        {"/", NULL, NULL},
        {"/ws/{user}/", "user:{user}", NULL},
        {"/ws", "user:{identity}", NULL},
        {"/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}", "{a}{h}", NULL},
        {"/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}", NULL, "too many"},
        {"", NULL, "begin with /"},
        {"ws", NULL, "begin with /"},
        {"{x}", NULL, "begin with /"},
        {"/a?b", NULL, "? or #"},
        {"/a#b", NULL, "? or #"},
        {"/{", NULL, "brace"},
        {"/}", NULL, "brace"},
        {"/{x", NULL, "brace"},
        {"/x}", NULL, "brace"},
        {"/{x}}", NULL, "whole segment"},
        {"/{{x}}", NULL, "brace"},
        {"/{x/y}", NULL, "not {name}"},
        {"/{}", NULL, "not {name}"},
        {"/{a b}", NULL, "not {name}"},
        {"/{a-b}", NULL, "not {name}"},
        {"/a{x}", NULL, "whole segment"},
        {"/{x}a", NULL, "whole segment"},
        {"/{x}{y}", NULL, "whole segment"},
        {"/{x}/{x}", NULL, "twice"},
        {"/{identity}", NULL, "{identity}"},
        {"/{x}", "", "empty"},
        {"/{x}", "a{y}", "not in the path"},
        {"/{x}", "a{}", "not in the path"},
        {"/{x}", "a{x", "brace"},
        {"/{x}", "a}", "brace"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char why[256] = "";
        char *joins[JOINS_MAX] = {"fine", table[i].join};
        struct peal_config_route route = {.path = table[i].path,
                                          .join = {joins, table[i].join == NULL ? 1 : 2}};
        enum peal_err err = peal_route_check(&route, why, sizeof why);
        bool agrees = table[i].why == NULL
                          ? err == PEAL_OK && why[0] == '\0'
                          : err == PEAL_ECONFIG && strstr(why, table[i].why) != NULL;
        if (!agrees) fail_msg("%s %s: %s", table[i].path, peal_err_word(err), why);
    }
}

/* ---- origins ----------------------------------------------------------------------------- */

static void origin_is_compared_with_the_list(void **state)
{
    (void)state;
    static char *list[] = {"https://example.com", "http://example.com:8080",
                           "http://plain.example:80", "https://[2001:db8::1]",
                           "chrome-extension://abcdef"};
    static const struct {
        const char *origin;
        bool allowed;
    } table[] = {
        {"https://example.com", true},
        {"https://example.com:443", true}, /* the usual port */
        {"HTTPS://Example.COM", true},
        {"http://example.com:8080", true},
        {"http://plain.example", true},
        {"http://plain.example:80", true},
        {"https://[2001:db8::1]", true},
        {"https://[2001:DB8::1]:443", true},
        {"chrome-extension://abcdef", true},
        {"null", false},
        {"", false},
        {"https://evil-example.com", false},
        {"https://evilexample.com", false},
        {"https://example.com.evil", false},
        {"https://example.com.", false},
        {"https://example.co", false},
        {"https://sub.example.com", false},
        {"https://com", false},
        {"http://example.com", false}, /* the scheme */
        {"http://example.com:443", false},
        {"wss://example.com", false},
        {"https://example.com:80", false},
        {"https://example.com:444", false},
        {"https://example.com:4430", false},
        {"https://example.com:", false},
        {"https://example.com:0", false},
        {"https://example.com:65979", false}, /* 443 in 16 bits */
        {"https://example.com:443:443", false},
        {"https://example.com@evil.example", false},
        {"https://evil@example.com", false},
        {"https://user:pw@example.com", false},
        {"https://example.com/", false},
        {"https://example.com/x", false},
        {"https://example.com?x", false},
        {"https://example.com#x", false},
        {"https://example.com\\.evil.example", false},
        {"https://example.com%2eevil", false},
        {"https://evil.example https://example.com", false},
        {"https://example.com, https://evil.example", false},
        {" https://example.com", false},
        {"https:example.com", false},
        {"https:/example.com", false},
        {"https:///example.com", false},
        {"//example.com", false},
        {"://example.com", false},
        {"example.com", false},
        {"http://example.com:80800", false},
        {"https://plain.example", false},
        {"https://[2001:db8::2]", false},
        {"https://2001:db8::1", false},
        {"chrome-extension://abcdefg", false},
        {"http://localhost", false}, /* a list is complete, also in dev */
        {"https://self.example", false},
    };
    struct peal_config_route route = {.origins = {list, 5}, .origins_set = true};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        for (int dev = 0; dev < 2; dev++)
            if (peal_origin_allowed(&route, dev != 0, peal_span_of(table[i].origin),
                                    peal_span_of("self.example")) != table[i].allowed)
                fail_msg("%s", table[i].origin);
    assert_true(peal_origin_allowed(&route, false, peal_span_of(NULL), peal_span_of("a")));
}

static void origin_null_is_allowed_only_if_listed(void **state)
{
    (void)state;
    static char *list[] = {"null", "file://"};
    struct peal_config_route route = {.origins = {list, 2}, .origins_set = true};
    struct peal_span host = peal_span_of("null");
    assert_true(peal_origin_allowed(&route, false, peal_span_of("null"), host));
    assert_true(peal_origin_allowed(&route, false, peal_span_of("file://"), host));
    assert_false(peal_origin_allowed(&route, false, peal_span_of("nul"), host));
    route = (struct peal_config_route){0};
    assert_false(peal_origin_allowed(&route, false, peal_span_of("null"), host));
    assert_false(peal_origin_allowed(&route, true, peal_span_of("null"), host));
    assert_false(peal_origin_allowed(&route, true, peal_span_of("file://"), host));
}

static void origin_with_an_empty_list_is_refused(void **state)
{
    (void)state;
    struct peal_config_route route = {.origins_set = true};
    struct peal_span host = peal_span_of("a.example");
    assert_false(peal_origin_allowed(&route, true, peal_span_of("http://a.example"), host));
    assert_false(peal_origin_allowed(&route, true, peal_span_of("http://localhost"), host));
    assert_true(peal_origin_allowed(&route, true, peal_span_of(NULL), host));
}

static void origin_without_a_list_is_that_of_the_host(void **state)
{
    (void)state;
    static const struct {
        const char *origin;
        const char *host;
        bool allowed;
    } table[] = {
        {"http://a.example", "a.example", true},
        {"https://a.example", "a.example", true}, /* TLS ended in front of us */
        {"http://a.example", "a.example:80", true},
        {"https://a.example", "a.example:443", true},
        {"http://a.example:80", "a.example", true},
        {"http://a.example:8080", "a.example:8080", true},
        {"https://a.example:8443", "a.example:8443", true},
        {"http://A.Example", "a.eXample", true},
        {"http://[::1]:8080", "[::1]:8080", true},
        {"http://127.0.0.1:8080", "127.0.0.1:8080", true},
        {"http://a.example", "b.example", false},
        {"http://a.example", "a.example.", false},
        {"http://a.example.", "a.example", false},
        {"http://sub.a.example", "a.example", false},
        {"http://a.example.evil", "a.example", false},
        {"http://evil-a.example", "a.example", false},
        {"http://a.example:8080", "a.example", false}, /* another server of the same host */
        {"http://a.example", "a.example:8080", false},
        {"http://a.example", "a.example:443", false},
        {"https://a.example", "a.example:80", false},
        {"https://a.example:80", "a.example", false},
        {"http://a.example@evil", "a.example", false},
        {"http://evil@a.example", "a.example", false},
        {"http://a.example/", "a.example", false},
        {"ws://a.example", "a.example", false}, /* no page has it */
        {"chrome-extension://a.example", "a.example", false},
        {"http://a.example", "", false},
        {"http://a.example", "evil@a.example", false},
        {"http://a.example", NULL, false},
        {"http://", "", false},
        {"", "", false},
        {"http://localhost:3000", "localhost:8080", false},
        {"http://localhost:3000", "a.example", false},
    };
    struct peal_config_route route = {0};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (peal_origin_allowed(&route, false, peal_span_of(table[i].origin),
                                peal_span_of(table[i].host)) != table[i].allowed)
            fail_msg("%s at %s", table[i].origin, table[i].host);
    assert_true(peal_origin_allowed(&route, false, peal_span_of(NULL), peal_span_of("a")));
}

static void origin_in_dev_may_be_loopback(void **state)
{
    (void)state;
    static const struct {
        const char *origin;
        bool allowed;
    } table[] = {
        {"http://localhost", true},
        {"http://localhost:3000", true},
        {"https://LOCALHOST:3000", true},
        {"http://127.0.0.1", true},
        {"http://127.1.2.3:99", true},
        {"http://[::1]", true},
        {"http://[::1]:3000", true},
        {"http://[0:0:0:0:0:0:0:1]", true},
        {"http://a.example:8080", true}, /* the host itself */
        {"http://a.example", false},
        {"http://localhost.evil", false},
        {"http://evil-localhost", false},
        {"http://localhost.", false},
        {"http://127.0.0.1.evil", false},
        {"http://127.0.0.1.", false},
        {"http://127.1", false},
        {"http://1270.0.0.1", false},
        {"http://128.0.0.1", false},
        {"http://0.0.0.0", false},
        {"http://10.0.0.1", false},
        {"http://[::2]", false},
        {"http://[::]", false},
        {"http://[::1.2.3.4.5]", false},
        {"http://[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb]", false},
        {"http://localhost@evil", false},
        {"ftp://localhost", false},
        {"null", false},
    };
    struct peal_config_route route = {0};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (peal_origin_allowed(&route, true, peal_span_of(table[i].origin),
                                peal_span_of("a.example:8080")) != table[i].allowed)
            fail_msg("%s", table[i].origin);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(route_matches_exactly_or_not),
        cmocka_unit_test(route_path_that_is_not_utf8_belongs_nowhere),
        cmocka_unit_test(route_capture_of_more_than_200_bytes_does_not_match),
        cmocka_unit_test(route_first_match_wins),
        cmocka_unit_test(route_without_any_finds_nothing),
        cmocka_unit_test(url_user_is_user_then_name_then_the_last),
        cmocka_unit_test(route_fill_makes_a_group_or_says_why_not),
        cmocka_unit_test(route_fill_beyond_200_bytes_is_no_group),
        cmocka_unit_test(route_check_refuses_what_could_not_work),
        cmocka_unit_test(origin_is_compared_with_the_list),
        cmocka_unit_test(origin_null_is_allowed_only_if_listed),
        cmocka_unit_test(origin_with_an_empty_list_is_refused),
        cmocka_unit_test(origin_without_a_list_is_that_of_the_host),
        cmocka_unit_test(origin_in_dev_may_be_loopback),
    };
    return cmocka_run_group_tests_name("route", tests, NULL, NULL);
}

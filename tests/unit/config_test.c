#include "base/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/unit.h"

#define SECRET "0123456789abcdef0123456789abcdef"

/* What the last failed load said; overwritten by the next one. */
static char problems[16384];

static enum peal_err load_from(const struct peal_config_sources *from, struct peal_config **out)
{
    struct peal_buf said = {0};
    enum peal_err err = peal_config_load(from, out, &said);
    snprintf(problems, sizeof problems, "%.*s", (int)said.size, said.at == NULL ? "" : said.at);
    peal_buf_fini(&said);
    return err;
}

static struct peal_config *load(const char *yaml)
{
    struct peal_config *config;
    struct peal_config_sources from = {.text = yaml, .text_size = strlen(yaml)};
    enum peal_err err = load_from(&from, &config);
    if (err != PEAL_OK) fail_msg("%s was refused: %s", yaml, problems);
    assert_string_equal(problems, "");
    return config;
}

static struct peal_config *load_dev(const char *yaml)
{
    struct peal_config *config;
    struct peal_config_sources from = {.text = yaml, .text_size = strlen(yaml), .dev = true};
    assert_int_equal(load_from(&from, &config), PEAL_OK);
    return config;
}

/* The problems of yaml, which must be wrong. */
static const char *refused(const char *yaml)
{
    struct peal_config *config = NULL;
    struct peal_config_sources from = {.text = yaml, .text_size = strlen(yaml)};
    enum peal_err err = load_from(&from, &config);
    if (err != PEAL_ECONFIG) fail_msg("%s gave %s", yaml, peal_err_word(err));
    assert_null(config);
    return problems;
}

static void assert_refused(const char *yaml, const char *expected)
{
    if (strstr(refused(yaml), expected) == NULL)
        fail_msg("%s\nsaid:     %sexpected: %s", yaml, problems, expected);
}

static void config_without_sources_has_the_defaults(void **state)
{
    (void)state;
    struct peal_config_sources from = {0};
    struct peal_config *config;
    assert_int_equal(load_from(&from, &config), PEAL_OK);

    assert_string_equal(config->listen, "127.0.0.1:8080");
    assert_string_equal(config->api.listen, "127.0.0.1:8081");
    assert_string_equal(config->data, "./peal-data");
    assert_string_equal(config->doors.pull, "tcp://127.0.0.1:7800");
    assert_string_equal(config->doors.xpub, "tcp://127.0.0.1:7801");
    assert_string_equal(config->doors.rpc, "tcp://127.0.0.1:7802");
    assert_string_equal(config->auth.user_claim, "sub");
    assert_int_equal(config->auth.leeway_ms, 30000);
    assert_null(config->auth.issuer);
    assert_string_equal(config->log_level, "info");
    assert_int_equal(config->workers, 0);
    assert_int_equal(config->dedup.age_ms, 600000);
    assert_int_equal(config->dedup.ids, 4000000);
    assert_int_equal(config->limits.message, 65536);
    assert_int_equal(config->limits.queue, 262144);
    assert_int_equal(config->limits.queue_messages, 1024);
    assert_int_equal(config->limits.history, 268435456);
    assert_int_equal(config->limits.users_per_publish, 10000);
    assert_int_equal(config->limits.groups_per_connection, 128);
    assert_int_equal(config->limits.connections_per_user, 32);
    assert_int_equal(config->limits.connections, 100000);
    assert_int_equal(config->limits.body, 8388608);
    assert_int_equal(config->limits.ping_ms, 25000);
    assert_int_equal(config->limits.pong_ms, 10000);
    assert_true(config->store.max == (uint64_t)16 << 30);
    assert_int_equal(config->api.keys.count, 0);
    assert_int_equal(config->auth.key_count, 0);
    assert_string_equal(config->cluster.self, "0");
    assert_int_equal(config->cluster.router_count, 1);
    assert_string_equal(config->cluster.routers[0].rpc, "tcp://127.0.0.1:7802");
    peal_config_free(config);
}

static void config_empty_file_has_the_defaults(void **state)
{
    (void)state;
    const char *const empty[] = {"", "\n", "# nothing\n", "---\n", "~", "limits:\nroutes:\n"};
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        struct peal_config *config = load(empty[i]);
        assert_int_equal(config->limits.message, 65536);
        assert_int_equal(config->route_count, 1);
        peal_config_free(config);
    }
}

static void config_file_values_are_read_with_their_units(void **state)
{
    (void)state;
    struct peal_config *config = load("listen: \"[::1]:0\"\n"
                                      "workers: 8\n"
                                      "limits: {message: 512B, queue: 1MiB, body: 1048576,\n"
                                      "         ping: 500ms, pong: 5m, history: 1GiB}\n"
                                      "dedup: {age: 7d}\n"
                                      "default_routes: false\n"
                                      "log_level: debug\n");
    assert_string_equal(config->listen, "[::1]:0");
    assert_int_equal(config->workers, 8);
    assert_int_equal(config->limits.message, 512);
    assert_int_equal(config->limits.queue, 1048576);
    assert_int_equal(config->limits.body, 1048576);
    assert_int_equal(config->limits.ping_ms, 500);
    assert_int_equal(config->limits.pong_ms, 300000);
    assert_int_equal(config->limits.history, 1073741824);
    assert_int_equal(config->dedup.age_ms, 604800000);
    assert_string_equal(config->log_level, "debug");
    assert_int_equal(config->route_count, 0);
    peal_config_free(config);
}

static void config_route_gets_its_defaults_and_those_of_limits(void **state)
{
    (void)state;
    struct peal_config *config = load("limits: {message: 32KiB}\n"
                                      "routes:\n"
                                      "  - {path: '/chat/{room}/', dialect: raw, identity: url,\n"
                                      "     join: ['room:{room}', 'user:{identity}'],\n"
                                      "     inbound: echo_json, frame: data, origins: []}\n"
                                      "  - {path: /b, dialect: raw, max_message: 4MiB}\n");
    assert_int_equal(config->route_count, 3);
    const struct peal_config_route *route = &config->routes[0];
    assert_string_equal(route->path, "/chat/{room}/");
    assert_int_equal(route->dialect, PEAL_DIALECT_RAW);
    assert_int_equal(route->identity, PEAL_IDENTITY_URL);
    assert_int_equal(route->join.count, 2);
    assert_string_equal(route->join.at[1], "user:{identity}");
    assert_int_equal(route->inbound, PEAL_INBOUND_ECHO_JSON);
    assert_int_equal(route->frame, PEAL_FRAME_DATA);
    assert_true(route->origins_set);
    assert_int_equal(route->max_message, 32768);
    assert_null(route->user_claim);

    assert_int_equal(config->routes[1].identity, PEAL_IDENTITY_TOKEN);
    assert_int_equal(config->routes[1].inbound, PEAL_INBOUND_REFUSE);
    assert_false(config->routes[1].origins_set);
    assert_int_equal(config->routes[1].max_message, 4194304);

    assert_string_equal(config->routes[2].path, "/v1/ws");
    assert_int_equal(config->routes[2].dialect, PEAL_DIALECT_NATIVE);
    assert_int_equal(config->routes[2].identity, PEAL_IDENTITY_TOKEN);
    assert_int_equal(config->routes[2].max_message, 32768);
    peal_config_free(config);
}

static void config_default_route_yields_to_one_of_the_file(void **state)
{
    (void)state;
    struct peal_config *config = load("routes: [{path: /v1/ws, dialect: native, lenient: true}]");
    assert_int_equal(config->route_count, 1);
    assert_true(config->routes[0].lenient);
    peal_config_free(config);
}

static void config_groups_end_with_inboxes_and_a_rule_for_all(void **state)
{
    (void)state;
    struct peal_config *config = load("groups: [{match: 'room:{id}', presence: off}]");
    assert_int_equal(config->group_count, 3);
    assert_string_equal(config->groups[0].match, "room:{id}");
    assert_int_equal(config->groups[0].presence, PEAL_PRESENCE_OFF);
    assert_int_equal(config->groups[0].join, PEAL_MAY_TOKEN);
    assert_int_equal(config->groups[0].publish, PEAL_MAY_SERVER);
    assert_int_equal(config->groups[0].history.messages, 0);
    const struct peal_config_group *inbox = &config->groups[1];
    assert_string_equal(inbox->match, "user:{id}");
    assert_true(inbox->durable);
    assert_int_equal(inbox->keep.messages, 1000);
    assert_int_equal(inbox->keep.bytes, 4194304);
    assert_int_equal(inbox->keep.age_ms, 604800000);
    assert_int_equal(inbox->keep.until, PEAL_UNTIL_ACKED);
    assert_int_equal(inbox->keep.settled_ms, 3600000);
    assert_int_equal(inbox->publish, PEAL_MAY_SERVER);
    assert_string_equal(config->groups[2].match, "*");
    assert_int_equal(config->groups[2].history.messages, 100);
    assert_int_equal(config->groups[2].history.age_ms, 300000);
    peal_config_free(config);

    config = load("groups: [{match: '*', slow: close}]");
    assert_int_equal(config->group_count, 2);
    assert_string_equal(config->groups[0].match, "user:{id}");
    assert_int_equal(config->groups[1].slow, PEAL_SLOW_CLOSE);
    assert_int_equal(config->groups[1].history.messages, 0);
    peal_config_free(config);

    config = load("groups: [{match: 'user:{name}', durable: true, keep: {until: read}}]");
    assert_int_equal(config->group_count, 2);
    assert_int_equal(config->groups[0].keep.until, PEAL_UNTIL_READ);
    assert_string_equal(config->groups[1].match, "*");
    peal_config_free(config);
}

static void config_dev_opens_groups_that_say_nothing(void **state)
{
    (void)state;
    struct peal_config *config = load_dev("groups: [{match: a, join: token}, {match: b}]");
    assert_true(config->dev);
    assert_int_equal(config->groups[0].join, PEAL_MAY_TOKEN);
    assert_int_equal(config->groups[0].publish, PEAL_MAY_MEMBERS);
    assert_int_equal(config->groups[1].join, PEAL_MAY_ANYONE);
    assert_string_equal(config->groups[2].match, "user:{id}");
    assert_int_equal(config->groups[2].publish, PEAL_MAY_ANYONE);
    assert_int_equal(config->groups[3].publish, PEAL_MAY_MEMBERS);
    peal_config_free(config);

    config = load_dev("groups: [{match: 'user:{id}', durable: true}]");
    assert_int_equal(config->groups[0].publish, PEAL_MAY_MEMBERS);
    peal_config_free(config);
}

static void config_wildcard_doors_become_loopback_for_oneself(void **state)
{
    (void)state;
    struct peal_config *config = load("doors: {pull: 'tcp://*:1', xpub: 'tcp://*:*'}");
    assert_string_equal(config->doors.pull, "tcp://*:1");
    assert_string_equal(config->cluster.routers[0].pull, "tcp://127.0.0.1:1");
    peal_config_free(config);
}

static void config_problem_names_file_line_and_key(void **state)
{
    (void)state;
    assert_string_equal(
        refused("listen: 127.0.0.1:1\nlimits:\n  mesage: 1KiB\n"),
        "config:3: unknown key \"mesage\" in limits; known: message, queue, "
        "queue_messages, unsent, history, presence, users_per_publish, groups_per_connection, "
        "connections_per_user, connections, body, ping, pong\n");
    assert_string_equal(refused("limits:\n  message: 5MiB\n"),
                        "config:2: limits.message: \"5MiB\" is out of range: 1B to 4MiB\n");
    assert_string_equal(refused("workers: 1\nworkers: 2\n"),
                        "config:2: workers: given twice, the first time in line 1\n");
    assert_string_equal(refused("routes:\n - path: /\n   dialect: raw\n   identity: hook\n"),
                        "config:4: routes.0.identity: \"hook\" is not supported yet: only "
                        "anonymous, url, token\n");
    assert_string_equal(refused("groups:\n - {match: a}\n - {durable: true}\n"),
                        "config:3: groups.1: needs match\n");
}

static void config_all_problems_are_told_at_once_up_to_a_bound(void **state)
{
    (void)state;
    refused("a: 1\nworkers: x\nb: {}\n");
    assert_non_null(strstr(problems, "config:1: unknown key \"a\" at the top"));
    assert_non_null(strstr(problems, "config:2: workers: \"x\" is not a whole number"));
    assert_non_null(strstr(problems, "config:3: unknown key \"b\" at the top"));

    char yaml[2000] = "";
    for (int i = 0; i < 100; i++)
        strcat(yaml, "a: 1\n");
    assert_non_null(strstr(refused(yaml), "\n... and 80 more problems\n"));
}

static void config_wrong_kind_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *yaml;
        const char *expected;
    } cases[] = {
        {"[]", ":1: expected a mapping"},
        {"word", ":1: expected a mapping"},
        {"listen: []", "listen: expected a text, not a list"},
        {"listen: {a: b}", "listen: expected a text, not a mapping"},
        {"listen:", "listen: has no value"},
        {"listen: ''", "listen: \"\" is empty"},
        {"limits: 3", "limits: expected a mapping"},
        {"limits: [1]", "limits: expected a mapping, not a list"},
        {"routes: {path: /}", "routes: expected a list of mappings, not a mapping"},
        {"routes: /", "routes: \"/\" is not a list of mappings"},
        {"routes: [/]", "routes.0: expected a mapping"},
        {"routes: [~]", "routes.0: expected a mapping"},
        {"api: {keys: k}", "api.keys: the value is not a list of texts"},
        {"api: {keys: [[k]]}", "api.keys.0: expected a text"},
        {"api: {keys: [{a: b}]}", "api.keys.0: expected a text"},
        {"default_routes: yes", "\"yes\" is not true or false"},
        {"log_level: loud", "\"loud\" is not one of error, warn, info, debug"},
        {"[a, b]: c", "a key must be a word"},
        {"limits.message: 1KiB", "unknown key \"limits.message\" at the top"},
        {"'': x", "unknown key \"\" at the top"},
        {"limits: {message: 1KiB}\nlimits: {queue: 1MiB}", ":2: limits: given twice"},
        {"routes: [{path: /, path: /}]", "routes.0.path: given twice"},
        {"listen: \"a\\0b\"", "listen: has a NUL inside"},
        {"data: \"a\\nb\"", "has a control character"},
        {"data: \"a\\u0085b\"", "has a control character"},
        {"data: \"a\\ufeffb\"", "has a control character"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(cases[i].yaml, cases[i].expected);
}

static void config_bad_numbers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *yaml;
        const char *expected;
    } cases[] = {
        {"workers: 65", "\"65\" is out of range: 0 to 64"},
        {"workers: -1", "\"-1\" is not a whole number"},
        {"workers: 1.5", "is not a whole number"},
        {"workers: 010", "is not a whole number"},
        {"workers: 0x10", "is not a whole number"},
        {"workers: 18446744073709551617", "is out of range"},
        {"limits: {ping: 25}", "\"25\" is not a duration such as"},
        {"limits: {ping: 25 s}", "is not a duration"},
        {"limits: {ping: 25S}", "is not a duration"},
        {"limits: {ping: s}", "is not a duration"},
        {"limits: {ping: 2d}", "is out of range: 100ms to 1d"},
        {"limits: {ping: 213503982335d}", "is out of range"},
        {"limits: {message: 64KB}", "\"64KB\" is not a size such as"},
        {"limits: {message: 0}", "\"0\" is out of range: 1B to 4MiB"},
        {"limits: {message: 16777217TiB}", "is out of range"},
        {"limits: {message: 18446744073709551617}", "is out of range"},
        {"auth: {leeway: 61s}", "is out of range: 0ms to 1m"},
        {"groups: [{match: a, durable: true, keep: {messages: 8193}}]", "out of range: 1 to 8192"},
        {"groups: [{match: a, durable: true, keep: {messages: 0}}]", "out of range: 1 to 8192"},
        {"routes: [{path: /, dialect: raw, max_message: 4194305}]", "out of range: 1B to 4MiB"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(cases[i].yaml, cases[i].expected);
}

static void config_relay_and_its_nodes_list_a_door_per_router(void **state)
{
    (void)state;
    static const char yaml[] = "cluster:\n"
                               "  routers:\n"
                               "    - {pull: 'tcp://a:1', xpub: 'tcp://a:2', rpc: 'tcp://a:3'}\n"
                               "    - {pull: 'tcp://b:1', xpub: 'tcp://b:2', rpc: 'tcp://b:3'}\n"
                               "  via:\n"
                               "    - xpub: ['tcp://r:1', 'tcp://r:2']\n"
                               "    - xpub: ['tcp://s:1', 'tcp://s:2']\n"
                               "doors: {relay: ['tcp://*:*', 'tcp://*:*']}\n";
    struct peal_config *config = load(yaml);
    assert_int_equal(config->relay_doors.count, 2);
    assert_string_equal(config->relay_doors.at[1], "tcp://*:*");
    assert_int_equal(config->cluster.via_count, 2);
    assert_int_equal(config->cluster.via[1].xpub.count, 2);
    assert_string_equal(config->cluster.via[1].xpub.at[0], "tcp://s:1");
    peal_config_free(config);
}

static void config_doors_that_do_not_match_the_routers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *yaml;
        const char *expected;
    } cases[] = {
        {"doors: {relay: ['tcp://a:1', 'tcp://a:2']}", "doors.relay: has 2 doors for 1 router"},
        {"doors: {relay: ['a:1']}", "does not begin with tcp://"},
        {"cluster: {via: [{xpub: []}]}", "cluster.via.0.xpub: has 0 doors for 1 router"},
        {"cluster: {via: [{xpub: ['tcp://r:1']}, {xpub: ['tcp://s:1', 'tcp://s:2']}]}",
         "cluster.via.1.xpub: has 2 doors for 1 router"},
        {"cluster: {via: [{xpub: ['tcp://r:1', 'tcp://r:1']}]}", "has tcp://r:1 twice"},
        {"cluster: {via: [{rpc: 'tcp://r:1'}]}", "unknown key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(cases[i].yaml, cases[i].expected);
}

static void config_texts_of_bad_shape_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *yaml;
        const char *expected;
    } cases[] = {
        {"listen: ':80'", "is not host:port"},
        {"listen: '::1:80'", "is not host:port"},
        {"listen: 'a:65536'", "is not host:port"},
        {"doors: {pull: 'udp://a:1'}", "does not begin with tcp://"},
        {"doors: {pull: 'tcp://a'}", "is not tcp://host:port"},
        {"doors: {pull: 'tcp://:1'}", "is not tcp://host:port"},
        {"doors: {pull: 'tcp://a b:1'}", "has a blank"},
        {"cluster: {self: first}", "is neither the number of a router nor auto"},
        {"cluster: {self: 1}", "1 is out of range: there is 1 router"},
        {"api: {keys: ['a b']}", "the value may have only printable ASCII"},
        {"api: {keys: ['sha256:ABC']}", "needs 64 lower-case hex digits"},
        {"routes: [{path: ws, dialect: raw}]", "does not begin with /"},
        {"routes: [{path: '/a?b', dialect: raw}]", "has a ? or #"},
        {"routes: [{path: '/a{b}', dialect: raw}]", "is not a whole segment"},
        {"routes: [{path: '/{b', dialect: raw}]", "is not {name}"},
        {"routes: [{path: '/b}', dialect: raw}]", "has a } without a {"},
        {"routes: [{path: '/{a}/{a}', dialect: raw}]", "has the same capture twice"},
        {"routes: [{path: '/{identity}', dialect: raw}]", "which means the user"},
        {"groups: [{match: 'a*b'}]", "has a * that is not at the end"},
        {"groups: [{match: '{a}{b}'}]", "has two captures side by side"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(cases[i].yaml, cases[i].expected);

    static const char *const origins[] = {"*",           "null",           "example.com",
                                          "https://",    "https://a/",     "https://A.com",
                                          "https://a b", "https://a@b.com"};
    for (size_t i = 0; i < sizeof origins / sizeof *origins; i++) {
        char yaml[200];
        snprintf(yaml, sizeof yaml, "routes: [{path: /, dialect: raw, origins: ['%s']}]",
                 origins[i]);
        assert_refused(yaml, "is not an origin");
    }
}

static void config_rules_that_contradict_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *yaml;
        const char *expected;
    } cases[] = {
        {"groups: [{match: a, durable: true, history: {messages: 5}}]",
         "groups.0.history: a durable group keeps its messages by keep"},
        {"groups: [{match: a, keep: {messages: 5}}]", "groups.0.keep.messages: needs durable"},
        {"groups: [{match: '*'}, {match: a}]", "groups.1.match: is never reached: group 0, *,"},
        {"groups: [{match: a}, {match: a}]", "groups.1.match: is never reached"},
        {"routes: [{path: /, dialect: raw}, {path: /, dialect: native}]",
         "routes.1.path: is never reached: / is route 0 already"},
        {"routes: [{path: /, dialect: raw, identity: url}]", "url needs a {capture}"},
        {"routes: [{path: /, dialect: raw, inbound: publish}]", "publish needs a group in join"},
        {"routes: [{path: '/{a}', dialect: raw, join: ['x:{b}']}]", "{b} is not in the path /{a}"},
        {"routes: [{path: /, dialect: raw, identity: anonymous, join: ['user:{identity}']}]",
         "{identity} has no value"},
        {"routes: [{path: /}]", "routes.0: needs dialect"},
        {"auth: {keys: [{alg: HS256}]}", "auth.keys.0: needs either secret or secret_file"},
        {"auth: {keys: [{alg: HS256, secret: " SECRET ", secret_file: x}]}",
         "needs either secret or secret_file"},
        {"auth: {keys: [{secret: " SECRET "}]}", "auth.keys.0: needs alg"},
        {"auth: {keys: [{alg: RS256, secret: " SECRET "}]}", "not supported yet: only HS256"},
        {"auth: {keys: [{alg: none, secret: " SECRET "}]}", "\"none\" is not one of HS256"},
        {"auth: {keys: [{alg: HS256, secret: short}]}", "has 5 bytes and needs at least 32"},
        {"cluster: {routers: [{pull: 'tcp://a:1', xpub: 'tcp://a:2'}]}", "needs rpc"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(cases[i].yaml, cases[i].expected);
}

static void config_yaml_beyond_what_is_needed_is_refused(void **state)
{
    (void)state;
    assert_refused("data: &a x\nlisten: *a\n", ":1: anchors are not supported");
    assert_refused("data: *a\n", ":1: aliases are not supported");
    assert_refused("data: !!str x\n", ":1: tags are not supported");
    assert_refused("data: x\n---\ndata: y\n", ":2: a second document");
    assert_refused("a: [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]", "nested too deeply");
    assert_refused("data: [x\n", "config:2: ");
    assert_refused("data: \xff\n", "config:1: ");
    assert_refused("\tdata: x\n", "config:1: ");

    size_t size = 1024 * 1024 + 1;
    char *large = malloc(size + 1);
    memset(large, '#', size);
    large[size] = '\0';
    assert_refused(large, "larger than 1048576 bytes");
    large[size - 1] = '\0';
    peal_config_free(load(large));
    free(large);
}

static void config_list_is_bounded(void **state)
{
    (void)state;
    struct peal_buf yaml = {0};
    peal_buf_add_text(&yaml, "auth:\n  keys:\n");
    for (int i = 0; i < 17; i++)
        peal_buf_add_text(&yaml, "    - {alg: HS256, secret: " SECRET "}\n");
    peal_buf_add_char(&yaml, '\0');
    assert_refused(yaml.at, "config:19: auth.keys.16: auth.keys has more than 16 elements");
    yaml.size = 0;
    peal_buf_add_text(&yaml, "api: {keys: [");
    for (int i = 0; i < 65; i++)
        peal_buf_add_text(&yaml, "k,");
    peal_buf_add_text(&yaml, "]}");
    peal_buf_add_char(&yaml, '\0');
    assert_refused(yaml.at, "api.keys.64: has more than 64 elements");
    peal_buf_fini(&yaml);
}

static enum peal_err load_layers(const char *yaml, char **environment, const char *const *sets,
                                 size_t set_count, struct peal_config **out)
{
    struct peal_config_sources from = {.text = yaml,
                                       .text_size = strlen(yaml),
                                       .environment = environment,
                                       .sets = sets,
                                       .set_count = set_count};
    return load_from(&from, out);
}

static void config_later_sources_override_earlier_ones(void **state)
{
    (void)state;
    /* Element 1 stands before element 0: the environment has no order. */
    char *environment[] = {"PEAL_API__KEYS__1=second",
                           "PEAL_LIMITS__QUEUE=2MiB",
                           "PEAL_ROUTES__0__PATH=/x",
                           "PEAL_ROUTES__0__DIALECT=raw",
                           "PEAL_API__KEYS__0=first",
                           "PEAL_WORKERS=3",
                           "PEAL_LIMITS__PING=3s",
                           "HOME=/",
                           "PEAL_API_KEY=not ours",
                           "PEAL_PORT_8080_TCP=not ours",
                           "PEAL_",
                           "PEAL_OTHER__THING=1",
                           NULL};
    const char *const sets[] = {"limits.ping=4s", "routes.0.join.0=a=b", "limits.ping=5s"};
    struct peal_config *config;
    assert_int_equal(
        load_layers("limits: {queue: 1MiB, ping: 2s, pong: 2s}", environment, sets, 3, &config),
        PEAL_OK);
    assert_int_equal(config->limits.pong_ms, 2000);
    assert_int_equal(config->limits.queue, 2097152);
    assert_int_equal(config->limits.ping_ms, 5000);
    assert_int_equal(config->workers, 3);
    assert_int_equal(config->api.keys.count, 2);
    assert_string_equal(config->api.keys.at[0], "first");
    assert_string_equal(config->api.keys.at[1], "second");
    assert_string_equal(config->routes[0].path, "/x");
    assert_string_equal(config->routes[0].join.at[0], "a=b");
    peal_config_free(config);
}

static void config_environment_mistake_is_named_by_its_variable(void **state)
{
    (void)state;
    char *environment[] = {"PEAL_LIMITS__MESAGE=1", "PEAL_LIMITS__PING=x", "PEAL_API__KEYS__3=x",
                           "PEAL_ROUTES=x", NULL};
    struct peal_config *config;
    assert_int_equal(load_layers("", environment, NULL, 0, &config), PEAL_ECONFIG);
    assert_null(config);
    assert_non_null(strstr(problems, "PEAL_LIMITS__MESAGE: unknown key \"mesage\" in limits; "));
    assert_non_null(strstr(problems, "PEAL_LIMITS__PING: \"x\" is not a duration"));
    assert_non_null(strstr(problems, "PEAL_API__KEYS__3: the list has 0 elements"));
    assert_non_null(strstr(problems, "PEAL_ROUTES: \"x\" is not a list of mappings"));
}

static void config_set_refuses_secrets_without_repeating_them(void **state)
{
    (void)state;
    const char *const sets[] = {"api.keys.0=tell-nobody", "auth.keys.0.secret=tell-nobody"};
    struct peal_config *config;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(load_layers("", NULL, &sets[i], 1, &config), PEAL_ECONFIG);
        assert_null(config);
        assert_non_null(strstr(problems, "a secret on the command line shows in ps"));
        assert_null(strstr(problems, "tell-nobody"));
    }
    assert_non_null(strstr(problems, "PEAL_AUTH__KEYS__0__SECRET"));
}

static void config_set_mistake_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *set;
        const char *expected;
    } cases[] = {
        {"workers", "--set: expected key=value"},
        {"=3", "--set: expected key=value"},
        {"limits=3", "--set limits: expected a mapping"},
        {"limits.x=3", "--set limits.x: unknown key \"x\" in limits; "},
        {"listen.x=3", "--set listen.x: unknown key \"listen.x\" at the top; "},
        {"routes.1.path=/", "--set routes.1.path: routes has 0 elements"},
        {"routes.0.path.0=/", "unknown key"},
        {"routes.-1.path=/", "unknown key"},
        {"routes.*.path=/", "unknown key"},
        {"groups.9999999999999999999.match=a", "unknown key"},
        {"data=\xff", "is not UTF-8"},
        {"data=\xc0\xaf", "is not UTF-8"},
        {"data=\xed\xa0\x80", "is not UTF-8"},
        {"data=\xf4\x90\x80\x80", "is not UTF-8"},
        {"data=a\xe2\x82", "is not UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct peal_config *config;
        assert_int_equal(load_layers("", NULL, &cases[i].set, 1, &config), PEAL_ECONFIG);
        if (strstr(problems, cases[i].expected) == NULL)
            fail_msg("%s said: %s", cases[i].set, problems);
    }
}

/* A folder for one test, removed with the files in it by leave_folder. */
static int enter_folder(void **state)
{
    static char folder[] = "/tmp/peal-config-XXXXXX";
    strcpy(folder, "/tmp/peal-config-XXXXXX");
    *state = mkdtemp(folder);
    return *state == NULL ? -1 : chdir(folder);
}

static int leave_folder(void **state)
{
    static const char *const names[] = {"peal.yaml", "secret", "key", "fifo"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(names[i]);
    return chdir("/") != 0 ? -1 : rmdir(*state);
}

static void write_file(const char *name, const char *text, size_t size)
{
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void config_file_is_read_and_named(void **state)
{
    (void)state;
    struct peal_config_sources from = {.path = "peal.yaml"};
    struct peal_config *config;
    assert_int_equal(load_from(&from, &config), PEAL_EIO);
    assert_null(config);
    assert_string_equal(problems, "peal.yaml: cannot be read: No such file or directory\n");
    write_file("peal.yaml", "workers: 2\n", 11);
    assert_int_equal(load_from(&from, &config), PEAL_OK);
    assert_int_equal(config->workers, 2);
    peal_config_free(config);
    write_file("peal.yaml", "\nworkers: x\n", 12);
    assert_int_equal(load_from(&from, &config), PEAL_ECONFIG);
    assert_memory_equal(problems, "peal.yaml:2: workers: ", 22);
}

static void config_secret_files_are_read_without_their_newline(void **state)
{
    (void)state;
    write_file("secret", SECRET "\n", 33);
    write_file("key", "the-key\r\n", 9);
    struct peal_config *config = load("api: {keys: [inline], key_files: [key]}\n"
                                      "auth: {keys: [{alg: HS256, secret_file: secret}]}\n");
    assert_int_equal(config->api.keys.count, 2);
    assert_string_equal(config->api.keys.at[0], "inline");
    assert_string_equal(config->api.keys.at[1], "the-key");
    assert_string_equal(config->auth.keys[0].secret, SECRET);
    peal_config_free(config);
}

static void config_bad_secret_file_is_refused(void **state)
{
    (void)state;
    static const char yaml[] = "auth:\n  keys:\n    - {alg: HS256, secret_file: secret}\n";
    struct peal_config_sources from = {.text = yaml, .text_size = sizeof yaml - 1};
    struct peal_config *config;
    assert_int_equal(load_from(&from, &config), PEAL_EIO);
    assert_string_equal(problems, "config:3: auth.keys.0.secret_file: secret cannot be read: "
                                  "No such file or directory\n");
    write_file("secret", "short\n", 6);
    assert_refused(yaml, "secret has 5 bytes and needs at least 32");
    write_file("secret", SECRET "\0x", 34);
    assert_refused(yaml, "secret has a NUL inside");
    write_file("secret", "", 0);
    assert_refused("api: {key_files: [secret]}", "api.key_files.0: secret has 0 bytes");
    write_file("secret", "two\nkeys\n", 9);
    assert_refused("api: {key_files: [secret]}", "in secret: the value has a control character");

    assert_int_equal(mkfifo("fifo", 0600), 0);
    struct peal_config_sources fifo = {.text = "api: {key_files: [fifo]}", .text_size = 24};
    assert_int_equal(load_from(&fifo, &config), PEAL_EIO);
    assert_non_null(strstr(problems, "fifo cannot be read: not a regular file"));
}

static char *print(const struct peal_config *config)
{
    struct peal_buf out = {0};
    peal_config_print(config, &out);
    peal_buf_add_char(&out, '\0');
    assert_false(out.failed);
    return out.at;
}

static void assert_prints_what_it_reads(const char *yaml, bool dev)
{
    struct peal_config *first = dev ? load_dev(yaml) : load(yaml);
    char *printed = print(first);
    struct peal_config *second = dev ? load_dev(printed) : load(printed);
    char *again = print(second);
    assert_string_equal(printed, again);
    free(printed);
    free(again);
    peal_config_free(first);
    peal_config_free(second);
}

static void config_print_reads_back_to_the_same(void **state)
{
    (void)state;
    write_file("secret", SECRET, 32);
    write_file("key", "the-key", 7);
    static const char full[] =
        "listen: '[::]:443'\nworkers: 64\ndata: \"/a \\\"quoted\\\\ path\\\"/#: ü\"\nlog_level: "
        "warn\n"
        "api: {listen: '0.0.0.0:1', key_files: [key]}\n"
        "auth: {user_claim: uid, leeway: 1500ms, issuer: 'a: b', audience: '- c',\n"
        "       keys: [{alg: HS256, secret_file: secret}]}\n"
        "doors: {pull: 'ipc:///a', xpub: 'inproc://b', rpc: 'tcp://[::1]:5'}\n"
        "cluster: {self: auto, routers: [\n"
        "  {pull: 'tcp://a:1', xpub: 'tcp://a:2', rpc: 'tcp://a:3'},\n"
        "  {pull: 'tcp://b:1', xpub: 'tcp://b:2', rpc: 'tcp://b:3'}]}\n"
        "default_routes: false\n"
        "routes:\n"
        "  - {path: '/{a}/{b}', dialect: raw, identity: url, join: ['x:{a}', 'user:{identity}'],\n"
        "     frame: data, inbound: publish, origins: ['https://a.example:8443'],\n"
        "     max_message: 1000, lenient: true, user_claim: email}\n"
        "  - {path: /, dialect: native, origins: []}\n"
        "groups:\n"
        "  - {match: 'user:{id}', durable: true, publish: members,\n"
        "     keep: {messages: 1, bytes: 12345, age: 90m, until: read, settled: 0s}}\n"
        "  - {match: 'a:*', history: {messages: 7, age: 1ms}, presence: off, join: server,\n"
        "     publish: anyone, slow: close}\n"
        "dedup: {age: 1s, ids: 1}\n"
        "limits: {message: 1, queue: 1025, queue_messages: 1, history: 0, ping: 100ms, pong: 1d}\n"
        "store: {max: 2TiB}\n";
    assert_prints_what_it_reads("", false);
    assert_prints_what_it_reads("", true);
    assert_prints_what_it_reads(full, false);
    assert_prints_what_it_reads(full, true);
}

static void config_print_hides_secrets_and_cannot_be_loaded_with_them_hidden(void **state)
{
    (void)state;
    struct peal_config *config = load("api: {keys: [tell-nobody]}\n"
                                      "auth: {keys: [{alg: HS256, secret: " SECRET "}]}\n");
    char *printed = print(config);
    assert_null(strstr(printed, "tell-nobody"));
    assert_null(strstr(printed, SECRET));
    assert_non_null(strstr(printed, "  keys: [\"***\"]\n"));
    assert_refused(printed, "api.keys.0: *** is what print-config writes in place of a secret");
    assert_non_null(strstr(problems, "auth.keys.0.secret: *** is what print-config writes"));
    free(printed);
    peal_config_free(config);
}

static void config_endpoint_splits_host_and_port(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *host;
        uint16_t port;
    } good[] = {
        {"127.0.0.1:8080", "127.0.0.1", 8080}, {"localhost:0", "localhost", 0},
        {"[::1]:65535", "::1", 65535},         {"[fe80::1%eth0]:1", "fe80::1%eth0", 1},
        {"a-b.example:80", "a-b.example", 80},
    };
    static const char *const bad[] = {"",        ":",      "a",        "a:",    ":1",    "a:x",
                                      "a:65536", "a:1x",   "a:-1",     "a: 1",  "a:1:2", "[]:1",
                                      "[::1]",   "[::1]1", "[::1:1",   "a b:1", "*:1",   "::1",
                                      "a/b:1",   "@a:1",   "a:000001", "[a]:1]"};
    char host[16];
    uint16_t port;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(peal_config_endpoint(good[i].text, host, sizeof host, &port), PEAL_OK);
        assert_string_equal(host, good[i].host);
        assert_int_equal(port, good[i].port);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (peal_config_endpoint(bad[i], host, sizeof host, &port) != PEAL_EBAD_FIELD)
            fail_msg("%s passed", bad[i]);
    assert_int_equal(peal_config_endpoint("123456789012345:1", host, sizeof host, &port), PEAL_OK);
    assert_int_equal(peal_config_endpoint("1234567890123456:1", host, sizeof host, &port),
                     PEAL_EBAD_FIELD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config_without_sources_has_the_defaults),
        cmocka_unit_test(config_empty_file_has_the_defaults),
        cmocka_unit_test(config_file_values_are_read_with_their_units),
        cmocka_unit_test(config_route_gets_its_defaults_and_those_of_limits),
        cmocka_unit_test(config_default_route_yields_to_one_of_the_file),
        cmocka_unit_test(config_groups_end_with_inboxes_and_a_rule_for_all),
        cmocka_unit_test(config_dev_opens_groups_that_say_nothing),
        cmocka_unit_test(config_wildcard_doors_become_loopback_for_oneself),
        cmocka_unit_test(config_problem_names_file_line_and_key),
        cmocka_unit_test(config_all_problems_are_told_at_once_up_to_a_bound),
        cmocka_unit_test(config_wrong_kind_is_refused),
        cmocka_unit_test(config_bad_numbers_are_refused),
        cmocka_unit_test(config_texts_of_bad_shape_are_refused),
        cmocka_unit_test(config_relay_and_its_nodes_list_a_door_per_router),
        cmocka_unit_test(config_doors_that_do_not_match_the_routers_are_refused),
        cmocka_unit_test(config_rules_that_contradict_are_refused),
        cmocka_unit_test(config_yaml_beyond_what_is_needed_is_refused),
        cmocka_unit_test(config_list_is_bounded),
        cmocka_unit_test(config_later_sources_override_earlier_ones),
        cmocka_unit_test(config_environment_mistake_is_named_by_its_variable),
        cmocka_unit_test(config_set_refuses_secrets_without_repeating_them),
        cmocka_unit_test(config_set_mistake_is_named),
        cmocka_unit_test_setup_teardown(config_file_is_read_and_named, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(config_secret_files_are_read_without_their_newline,
                                        enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(config_bad_secret_file_is_refused, enter_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(config_print_reads_back_to_the_same, enter_folder,
                                        leave_folder),
        cmocka_unit_test(config_print_hides_secrets_and_cannot_be_loaded_with_them_hidden),
        cmocka_unit_test(config_endpoint_splits_host_and_port),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}

/* What a file may not say, and how that is told. */
#include "tests/unit/config_rig.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests_name("config_refused", tests, NULL, NULL);
}

#include "tests/unit/config_rig.h"

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
        cmocka_unit_test(config_endpoint_splits_host_and_port),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}

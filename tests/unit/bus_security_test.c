#include "base/bus_security.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/unit.h"

#define KEY "HelloWorldHelloWorldHelloWorldHelloWorld"

static char dir[64];
static char key_file[128];
static char peers_file[128];
static char why[400];

static int setup(void **state)
{
    (void)state;
    struct peal_curve_pair pair;
    snprintf(dir, sizeof dir, "/tmp/peal-bus-XXXXXX");
    if (mkdtemp(dir) == NULL) return -1;
    snprintf(key_file, sizeof key_file, "%s/key", dir);
    snprintf(peers_file, sizeof peers_file, "%s/peers", dir);
    if (peal_curve_make(&pair) != PEAL_OK) return -1;
    if (peal_curve_write(key_file, &pair, why, sizeof why) != PEAL_OK) return -1;
    FILE *peers = fopen(peers_file, "w");
    if (peers == NULL) return -1;
    fprintf(peers, "%s node edge\n", KEY);
    fchmod(fileno(peers), 0644);
    why[0] = '\0';
    return fclose(peers);
}

static int teardown(void **state)
{
    (void)state;
    unlink(key_file);
    unlink(peers_file);
    return rmdir(dir);
}

static const struct peal_bus_use router = {.router = true};
static const struct peal_bus_use relay = {.relay = true};
static const struct peal_bus_use node = {.node = true};
static const struct peal_bus_use embedded = {.router = true, .node = true};

/* Loads yaml, with %K and %P in it for the two files, and what it says about the bus. */
static enum peal_err load(const char *yaml, const struct peal_bus_use *use,
                          struct peal_bus_security *out)
{
    struct peal_buf text = {0};
    struct peal_buf problems = {0};
    struct peal_config *config;
    for (const char *p = yaml; *p != '\0'; p++) {
        if (*p != '%' || (p[1] != 'K' && p[1] != 'P'))
            peal_buf_add_char(&text, *p);
        else
            peal_buf_add_text(&text, *++p == 'K' ? key_file : peers_file);
    }
    struct peal_config_sources from = {.text = text.at, .text_size = text.size};
    enum peal_err err = peal_config_load(&from, &config, &problems);
    if (err != PEAL_OK) fail_msg("%.*s", (int)problems.size, problems.at);
    why[0] = '\0';
    err = peal_bus_security_load(config, use, out, why, sizeof why);
    peal_config_free(config);
    peal_buf_fini(&problems);
    peal_buf_fini(&text);
    return err;
}

static void bus_security_only_what_is_surely_loopback_is_local(void **state)
{
    (void)state;
    static const struct {
        const char *endpoint;
        bool local;
    } cases[] = {
        {"inproc://a", true},
        {"ipc:///run/peal", true},
        {"tcp://127.0.0.1:7800", true},
        {"tcp://127.0.0.1:*", true},
        {"tcp://127.255.255.254:7800", true},
        {"tcp://localhost:7800", true},
        {"tcp://LocalHost:7800", true},
        {"tcp://[::1]:7800", true},
        {"tcp://[0:0:0:0:0:0:0:1]:7800", true},
        {"tcp://*:7800", false},
        {"tcp://0.0.0.0:7800", false},
        {"tcp://[::]:7800", false},
        {"tcp://[::ffff:127.0.0.1]:7800", false},
        {"tcp://[fe80::1%lo]:7800", false},
        {"tcp://10.0.0.1:7800", false},
        {"tcp://192.168.1.1:7800", false},
        {"tcp://128.0.0.1:7800", false},
        {"tcp://12.7.0.1:7800", false},
        {"tcp://127.1:7800", false},
        {"tcp://0x7f000001:7800", false},
        {"tcp://2130706433:7800", false},
        {"tcp://127.0.0.1.example.com:7800", false},
        {"tcp://localhost.example.com:7800", false},
        {"tcp://router-0:7800", false},
        {"tcp://lo:7800", false},
        {"tcp://eth0:7800", false},
        {"tcp://", false},
        {"tcp://127.0.0.1", false},
        {"pgm://127.0.0.1:1", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (peal_bus_endpoint_is_local(cases[i].endpoint) != cases[i].local)
            fail_msg("%s", cases[i].endpoint);
}

static void bus_security_open_endpoint_without_keys_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *yaml;
        const struct peal_bus_use *use;
        const char *setting; /* NULL: starts */
    } cases[] = {
        {"", &router, NULL},
        {"", &node, NULL},
        {"doors: {pull: 'tcp://*:1'}", &router, "doors.pull: tcp://*:1 "},
        {"doors: {rpc: 'tcp://10.0.0.1:1'}", &router, "doors.rpc: "},
        {"doors: {xpub: 'tcp://[::]:1'}", &router, "doors.xpub: "},
        {"doors: {pull: 'tcp://*:1'}", &embedded, "doors.pull: "},
        {"doors: {xpub: 'tcp://*:1'}", &embedded, NULL}, /* is not bound there */
        {"cluster: {routers: [{pull: 'tcp://a:1', xpub: 'tcp://[::1]:2', rpc: 'tcp://[::1]:3'}]}",
         &node, NULL}, /* a node has no use for pull */
        {"cluster: {routers: [{pull: 'tcp://a:1', xpub: 'tcp://a:2', rpc: 'tcp://[::1]:3'}]}",
         &node, "cluster.routers.0.xpub: tcp://a:2 "},
        {"cluster: {routers: [{pull: 'tcp://[::1]:1', xpub: 'tcp://[::1]:2', rpc: "
         "'tcp://[::1]:3'}, {pull: 'tcp://[::1]:4', xpub: 'tcp://[::1]:5', rpc: 'tcp://b:6'}]}",
         &node, "cluster.routers.1.rpc: tcp://b:6 "},
        {"cluster: {routers: [{pull: 'tcp://a:1', xpub: 'tcp://a:2', rpc: 'tcp://a:3'}]}", &router,
         NULL}, /* a router does not connect to it */
        {"", &relay, NULL},
        {"doors: {xpub: 'tcp://*:1'}", &relay, "doors.xpub: tcp://*:1 "},
        {"doors: {relay: ['tcp://*:1'], xpub: 'tcp://*:2', rpc: 'tcp://*:3'}", &relay,
         "doors.relay.0: tcp://*:1 "},
        {"doors: {relay: ['tcp://[::1]:1'], xpub: 'tcp://*:2', rpc: 'tcp://*:3'}", &relay, NULL},
        {"doors: {relay: ['tcp://*:1']}", &router, NULL},
        {"cluster: {routers: [{pull: 'tcp://a:1', xpub: 'tcp://[::1]:2', rpc: 'tcp://a:3'}]}",
         &relay, NULL}, /* it hears only xpub */
        {"cluster: {routers: [{pull: 'tcp://a:1', xpub: 'tcp://a:2', rpc: 'tcp://a:3'}]}", &relay,
         "cluster.routers.0.xpub: tcp://a:2 "},
        {"cluster: {routers: [{pull: 'tcp://a:1', xpub: 'tcp://a:2', rpc: 'tcp://[::1]:3'}], via: "
         "[{xpub: ['tcp://[::1]:1']}]}",
         &node, NULL}, /* the relay's xpub is used instead */
        {"cluster: {routers: [{pull: 'tcp://a:1', xpub: 'tcp://a:2', rpc: 'tcp://[::1]:3'}], via: "
         "[{xpub: ['tcp://[::1]:1']}, {xpub: ['tcp://b:1']}]}",
         &node, "cluster.via.1.xpub.0: tcp://b:1 "},
        {"cluster: {routers: [{pull: 'tcp://a:1', xpub: 'tcp://a:2', rpc: 'tcp://a:3'}], via: "
         "[{xpub: ['tcp://[::1]:1']}]}",
         &node, "cluster.routers.0.rpc: tcp://a:3 "},
        {"{bus: {insecure: true}, doors: {pull: 'tcp://*:1'}}", &router, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct peal_bus_security security;
        enum peal_err err = load(cases[i].yaml, cases[i].use, &security);
        if (err != (cases[i].setting == NULL ? PEAL_OK : PEAL_ECONFIG))
            fail_msg("%s: %s", cases[i].yaml, why);
        assert_false(security.curve);
        if (err == PEAL_OK) continue;
        assert_memory_equal(why, cases[i].setting, strlen(cases[i].setting));
        assert_non_null(strstr(why, "bus.key_file"));
        assert_non_null(strstr(why, "bus.insecure"));
    }
}

static void bus_security_with_keys_needs_all_of_them(void **state)
{
    (void)state;
    static const struct {
        const char *yaml;
        const struct peal_bus_use *use;
        const char *why; /* its beginning */
    } cases[] = {
        {"bus: {key_file: %K}", &router, "bus.peers_file: needed"},
        {"bus: {key_file: %K}", &embedded, "bus.peers_file: needed"},
        {"bus: {key_file: %K}", &node, "cluster.routers.0.key: needed"},
        {"bus: {key_file: %K, peers_file: %P}", &relay, "cluster.routers.0.key: needed"},
        {"{bus: {key_file: %K}, cluster: {routers: [{pull: 'tcp://a:1', xpub: 'tcp://a:2', rpc: "
         "'tcp://a:3', key: '" KEY "'}]}}",
         &relay, "bus.peers_file: needed"},
        {"{bus: {key_file: %K}, cluster: {routers: [{pull: 'tcp://a:1', xpub: 'tcp://a:2', rpc: "
         "'tcp://a:3', key: '" KEY "'}], via: [{xpub: ['tcp://b:1']}]}}",
         &node, "cluster.via.0.key: needed with bus.key_file: the public key of that relay"},
        {"cluster: {via: [{xpub: ['tcp://[::1]:1'], key: '" KEY "'}]}", &node,
         "cluster.via.0.key: needs bus.key_file"},
        {"{bus: {key_file: %K, peers_file: %P}, cluster: {routers: [{pull: 'tcp://a:1', xpub: "
         "'tcp://a:2', rpc: 'tcp://a:3', key: '" KEY "'}, {pull: 'tcp://b:1', xpub: 'tcp://b:2', "
         "rpc: 'tcp://b:3'}]}}",
         &router, "cluster.routers.1.key: needed"},
        {"bus: {key_file: /nonexistent/key, peers_file: %P}", &router,
         "bus.key_file: /nonexistent/key cannot be read"},
        {"bus: {key_file: %P, peers_file: %P}", &router, "bus.key_file: "},
        {"bus: {key_file: %K, peers_file: %K}", &router, "bus.peers_file: "},
        {"bus: {key_file: %K, peers_file: /nonexistent/peers}", &router, "bus.peers_file: "},
        {"bus: {peers_file: %P}", &router, "bus.peers_file: needs bus.key_file"},
        {"cluster: {routers: [{pull: 'tcp://[::1]:1', xpub: 'tcp://[::1]:2', rpc: "
         "'tcp://[::1]:3', key: '" KEY "'}]}",
         &node, "cluster.routers.0.key: needs bus.key_file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct peal_bus_security security;
        if (load(cases[i].yaml, cases[i].use, &security) != PEAL_ECONFIG)
            fail_msg("%s: %s", cases[i].yaml, why);
        if (strncmp(why, cases[i].why, strlen(cases[i].why)) != 0)
            fail_msg("%s: %s", cases[i].yaml, why);
        assert_string_equal(security.own.secret_key, "");
    }
}

static void bus_security_with_keys_opens_any_address(void **state)
{
    (void)state;
    struct peal_bus_security security;
    assert_int_equal(load("{bus: {key_file: %K, peers_file: %P}, doors: {pull: 'tcp://*:1'}}",
                          &router, &security),
                     PEAL_OK);
    assert_true(security.curve);
    assert_int_equal(strlen(security.own.secret_key), PEAL_CURVE_TEXT);
    assert_int_equal(security.peers.count, 1);
    peal_bus_security_fini(&security);
    assert_string_equal(security.own.secret_key, "");

    assert_int_equal(load("{bus: {key_file: %K}, cluster: {routers: [{pull: 'tcp://a:1', xpub: "
                          "'tcp://a:2', rpc: 'tcp://a:3', key: '" KEY "'}]}}",
                          &node, &security),
                     PEAL_OK);
    assert_true(security.curve);
    assert_int_equal(security.peers.count, 0);
    peal_bus_security_fini(&security);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bus_security_only_what_is_surely_loopback_is_local),
        TEST(bus_security_open_endpoint_without_keys_is_refused),
        TEST(bus_security_with_keys_needs_all_of_them),
        TEST(bus_security_with_keys_opens_any_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

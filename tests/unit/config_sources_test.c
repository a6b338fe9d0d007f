/* The layers that a configuration is made of, the files it names, and how it is printed. */
#include "tests/unit/config_rig.h"

#include <sys/stat.h>
#include <unistd.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests_name("config_sources", tests, NULL, NULL);
}

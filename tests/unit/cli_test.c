#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/exit.h"
#include "cli/secret.h"
#include "cli/verbs.h"
#include "tests/unit/unit.h"

static void duration_is_read_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms; /* 0: refused */
    } cases[] = {{"1ms", 1},
                 {"90s", 90000},
                 {"5m", 300000},
                 {"1h", 3600000},
                 {"7d", 604800000},
                 {"36500d", UINT64_C(3153600000000)},
                 {"0000000001h", 3600000},
                 {"36501d", 0},
                 {"0s", 0},
                 {"", 0},
                 {"5", 0},
                 {"s", 0},
                 {"-1s", 0},
                 {"+1s", 0},
                 {" 1s", 0},
                 {"1 s", 0},
                 {"1s ", 0},
                 {"1.5h", 0},
                 {"1S", 0},
                 {"1w", 0},
                 {"1sec", 0},
                 {"18446744073709551616ms", 0},
                 {"18446744073709551615d", 0},
                 {"111111111111111111111111111111h", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t ms = 7;
        enum peal_err err = peal_args_duration(cases[i].text, &ms);
        if ((err == PEAL_OK) != (cases[i].ms != 0)) fail_msg("%s", cases[i].text);
        if (err == PEAL_OK) assert_int_equal(ms, cases[i].ms);
    }
}

static void number_outside_its_range_is_refused(void **state)
{
    (void)state;
    uint64_t number;
    assert_int_equal(peal_args_number("1", 1, 10, &number), PEAL_OK);
    assert_int_equal(number, 1);
    assert_int_equal(peal_args_number("010", 1, 10, &number), PEAL_OK);
    assert_int_equal(number, 10);
    assert_int_equal(peal_args_number("18446744073709551615", 0, UINT64_MAX, &number), PEAL_OK);
    assert_true(number == UINT64_MAX);
    const char *bad[] = {"0",  "11", "",    "1 ",  " 1",
                         "-1", "+1", "1e1", "0x1", "18446744073709551617"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(peal_args_number(bad[i], 1, 10, &number), PEAL_EBAD_FIELD);
    assert_int_equal(peal_args_number("18446744073709551616", 0, UINT64_MAX, &number),
                     PEAL_EBAD_FIELD);
}

static void list_keeps_the_order(void **state)
{
    (void)state;
    struct peal_args_list list = {0};
    char *texts[] = {"a", "b", "c"};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(peal_args_list_add(&list, texts[i]), PEAL_OK);
    assert_int_equal(list.count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_ptr_equal(list.at[i], texts[i]);
    peal_args_list_fini(&list);
}

/* What a verb wrote to one of the standard streams, and what it returned. */
struct outcome {
    int rc;
    char out[8192];
    char err[8192];
};

static FILE *stream_swap(FILE *stream, int *saved)
{
    FILE *to = tmpfile();
    assert_non_null(to);
    fflush(stream);
    *saved = dup(fileno(stream));
    assert_true(*saved >= 0);
    assert_true(dup2(fileno(to), fileno(stream)) >= 0);
    return to;
}

static void stream_restore(FILE *stream, int saved, FILE *from, char *text, size_t room)
{
    fflush(stream);
    assert_true(dup2(saved, fileno(stream)) >= 0);
    close(saved);
    rewind(from);
    text[fread(text, 1, room - 1, from)] = '\0';
    fclose(from);
}

/* Runs a verb as main does. Words are split at blanks; none is longer than it looks. */
static struct outcome run(const char *line)
{
    struct outcome outcome = {0};
    char words[512];
    char *argv[32];
    int argc = 0;
    int saved_out;
    int saved_err;
    assert_true(strlen(line) < sizeof words);
    strcpy(words, line);
    for (char *word = strtok(words, " "); word != NULL && argc < 31; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    const struct peal_verb *verb = peal_verb_find(argv[0]);
    assert_non_null(verb);
    FILE *out = stream_swap(stdout, &saved_out);
    FILE *err = stream_swap(stderr, &saved_err);
    outcome.rc = verb->run(argc, argv);
    stream_restore(stdout, saved_out, out, outcome.out, sizeof outcome.out);
    stream_restore(stderr, saved_err, err, outcome.err, sizeof outcome.err);
    return outcome;
}

static void verb_unknown_is_not_found(void **state)
{
    (void)state;
    assert_null(peal_verb_find("nope"));
    assert_null(peal_verb_find(""));
    assert_null(peal_verb_find("pu"));
}

static void verb_help_names_the_verb(void **state)
{
    (void)state;
    for (const struct peal_verb *verb = peal_verbs; verb->name != NULL; verb++) {
        char line[64];
        char expected[64];
        snprintf(line, sizeof line, "%s --help", verb->name);
        snprintf(expected, sizeof expected, "usage: peal %s", verb->name);
        struct outcome outcome = run(line);
        assert_int_equal(outcome.rc, PEAL_EXIT_OK);
        assert_string_equal(outcome.err, "");
        assert_memory_equal(outcome.out, expected, strlen(expected));
        assert_true(strlen(verb->help) > 10);
    }
}

static void verb_with_bad_arguments_is_refused(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "pub",
        "pub x",
        "pub --group g",
        "pub --group g 1 2",
        "pub --group g --user u 1",
        "pub --group",
        "pub --group g --bogus 1",
        "pub --group g --text=1 1",
        "pub -q",
        "pub --group g --ttl 5 1",
        "pub --group g --timeout 0s 1",
        "pub --group g {x",
        "pub --group g --zmq tcp://127.0.0.1:1 --api http://127.0.0.1 1",
        "pub --group g --api ftp://127.0.0.1 1",
        "pub --group g --rpc bogus 1",
        "sub",
        "sub --group g x",
        "sub --user",
        "sub --bogus",
        "token",
        "token --user",
        "token --user u x",
        "token --user u --ttl 1",
        "token --user u --ttl -1h",
        "token --user a\nb",
        "inbox",
        "inbox a b",
        "inbox --limit 0 a",
        "inbox --limit x a",
        "inbox --bogus a",
        "check-config",
        "check-config a b",
        "check-config -c a",
        "check-config --bogus",
        "print-config x",
        "print-config --defaults -c x",
        "print-config -c",
        "print-config --bogus",
        "version x",
        "version --bogus"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct outcome outcome = run(lines[i]);
        if (outcome.rc != PEAL_EXIT_USAGE) fail_msg("%s: %d", lines[i], outcome.rc);
        if (strncmp(outcome.err, "peal: ", 6) != 0) fail_msg("%s: %s", lines[i], outcome.err);
        assert_string_equal(outcome.out, "");
        /* One error is one line. */
        assert_ptr_equal(strchr(outcome.err, '\n'), outcome.err + strlen(outcome.err) - 1);
    }
}

static void verb_with_unreadable_files_names_them(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "token --user u --data /nonexistent", "token --user u -c /nonexistent",
        "sub --group g --data /nonexistent",  "sub --group g --token-file /nonexistent",
        "inbox u --key-file /nonexistent",    "pub --group g --key-file /nonexistent 1",
        "check-config /nonexistent",          "print-config -c /nonexistent"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct outcome outcome = run(lines[i]);
        if (outcome.rc != PEAL_EXIT_CONFIG) fail_msg("%s: %d", lines[i], outcome.rc);
        assert_non_null(strstr(outcome.err, "/nonexistent"));
    }
}

struct folder {
    char path[64];
    char file[128];
};

static struct folder folder_make(const char *name, const char *text)
{
    struct folder folder = {.path = "/tmp/peal-cli-XXXXXX"};
    assert_non_null(mkdtemp(folder.path));
    snprintf(folder.file, sizeof folder.file, "%s/%s", folder.path, name);
    FILE *file = fopen(folder.file, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    return folder;
}

static void folder_remove(const struct folder *folder)
{
    unlink(folder->file);
    rmdir(folder->path);
}

static void token_is_signed_with_the_secret_of_the_folder(void **state)
{
    (void)state;
    struct folder folder = folder_make("token.secret", "0123456789abcdef0123456789abcdef\r\n");
    char line[256];
    snprintf(line, sizeof line, "token --user alice --group room:{id} --data %s", folder.path);
    struct outcome outcome = run(line);
    assert_string_equal(outcome.err, "");
    assert_int_equal(outcome.rc, PEAL_EXIT_OK);

    struct peal_buf secret = {0};
    struct peal_buf claim = {0};
    assert_int_equal(peal_secret_signing(NULL, folder.path, &secret, &claim), PEAL_EXIT_OK);
    assert_true(peal_span_is(peal_buf_span(&secret), "0123456789abcdef0123456789abcdef"));
    assert_string_equal(claim.at, "sub");
    peal_secret_fini(&secret);
    peal_buf_fini(&claim);
    folder_remove(&folder);
}

static void token_with_a_short_secret_is_refused(void **state)
{
    (void)state;
    struct folder folder = folder_make("token.secret", "short\n");
    char line[256];
    snprintf(line, sizeof line, "token --user alice --data %s", folder.path);
    struct outcome outcome = run(line);
    assert_int_equal(outcome.rc, PEAL_EXIT_CONFIG);
    assert_string_equal(outcome.out, "");
    assert_null(strstr(outcome.err, "short\n"));
    folder_remove(&folder);
}

static void signing_secret_of_a_configuration_is_its_first_key(void **state)
{
    (void)state;
    struct folder folder = folder_make(
        "peal.yaml", "auth:\n  user_claim: uid\n  keys:\n"
                     "    - {alg: HS256, secret: \"first-secret-of-at-least-32-bytes!\"}\n"
                     "    - {alg: HS256, secret: \"second-secret-of-at-least-32-bytes\"}\n");
    struct peal_buf secret = {0};
    struct peal_buf claim = {0};
    assert_int_equal(peal_secret_signing(folder.file, "/nonexistent", &secret, &claim),
                     PEAL_EXIT_OK);
    assert_true(peal_span_is(peal_buf_span(&secret), "first-secret-of-at-least-32-bytes!"));
    assert_string_equal(claim.at, "uid");
    peal_secret_fini(&secret);
    peal_buf_fini(&claim);
    folder_remove(&folder);
}

static void api_key_comes_from_file_then_environment_then_folder(void **state)
{
    (void)state;
    struct folder given = folder_make("key", "from-file\n");
    struct folder data = folder_make("api.key", "from-folder");
    static const struct {
        bool file;
        const char *variable;
        bool folder;
        const char *expected;
    } cases[] = {{true, "from-variable", true, "from-file"},
                 {false, "from-variable", true, "from-variable"},
                 {false, "", true, ""},
                 {false, NULL, true, "from-folder"},
                 {false, NULL, false, ""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peal_buf key = {0};
        if (cases[i].variable != NULL)
            setenv("PEAL_API_KEY", cases[i].variable, 1);
        else
            unsetenv("PEAL_API_KEY");
        assert_int_equal(peal_secret_api_key(cases[i].file ? given.file : NULL,
                                             cases[i].folder ? data.path : "/nonexistent", &key),
                         PEAL_EXIT_OK);
        assert_string_equal(key.at, cases[i].expected);
        peal_secret_fini(&key);
    }
    unsetenv("PEAL_API_KEY");
    folder_remove(&given);
    folder_remove(&data);
}

static void check_config_says_ok_or_what_is_wrong(void **state)
{
    (void)state;
    struct folder good = folder_make("peal.yaml", "listen: 127.0.0.1:8080\n");
    struct folder bad = folder_make("peal.yaml", "listen: 127.0.0.1:8080\nbogus: 1\n");
    char line[256];
    snprintf(line, sizeof line, "check-config %s", good.file);
    struct outcome outcome = run(line);
    assert_int_equal(outcome.rc, PEAL_EXIT_OK);
    assert_string_equal(outcome.out, "ok\n");
    snprintf(line, sizeof line, "check-config %s", bad.file);
    outcome = run(line);
    assert_int_equal(outcome.rc, PEAL_EXIT_CONFIG);
    assert_memory_equal(outcome.err, "peal: configuration: ", 21);
    assert_non_null(strstr(outcome.err, "bogus"));
    folder_remove(&good);
    folder_remove(&bad);
}

static void print_config_hides_secrets(void **state)
{
    (void)state;
    struct folder folder = folder_make(
        "peal.yaml",
        "auth:\n  keys:\n    - {alg: HS256, secret: \"a-secret-of-at-least-32-bytes!!!\"}\n"
        "api:\n  keys: [\"api-key-one\"]\n");
    char line[256];
    snprintf(line, sizeof line, "print-config -c %s --set workers=3", folder.file);
    struct outcome outcome = run(line);
    assert_string_equal(outcome.err, "");
    assert_int_equal(outcome.rc, PEAL_EXIT_OK);
    assert_non_null(strstr(outcome.out, "workers: 3\n"));
    assert_null(strstr(outcome.out, "a-secret"));
    assert_null(strstr(outcome.out, "api-key-one"));
    folder_remove(&folder);
}

static struct outcome answer_print(int status, const char *body)
{
    struct outcome outcome = {0};
    struct peal_client_answer answer = {.status = status};
    int saved;
    peal_buf_add_text(&answer.body, body);
    FILE *err = stream_swap(stderr, &saved);
    outcome.rc = peal_fail_answer(&answer);
    stream_restore(stderr, saved, err, outcome.err, sizeof outcome.err);
    peal_client_answer_fini(&answer);
    return outcome;
}

static void answer_that_refuses_is_told_with_its_code(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *body;
        int rc;
        const char *line;
    } cases[] = {
        {403, "{\"error\":{\"code\":\"forbidden\",\"message\":\"No.\"}}", 1,
         "peal: forbidden: No.\n"},
        {503, "{\"error\":{\"code\":\"queue_full\",\"message\":\"Later.\"}}", 69,
         "peal: queue_full: Later.\n"},
        {429, "{\"error\":{\"code\":\"rate_limited\",\"message\":\"Later.\"}}", 69,
         "peal: rate_limited: Later.\n"},
        {400, "{\"error\":{\"code\":\"bad_field\",\"message\":\"\\u001b[2J\\nx\"}}", 1,
         "peal: bad_field: ?[2J?x\n"},
        {400, "{\"error\":{\"code\":\"bad field\",\"message\":\"m\"}}", 1, "peal: refused: m\n"},
        {502, "<html>", 69, "peal: refused: The server answered with status 502.\n"},
        {404, "", 1, "peal: refused: The server answered with status 404.\n"},
        {404, "{\"error\":\"x\"}", 1, "peal: refused: The server answered with status 404.\n"},
        {404, "[1]", 1, "peal: refused: The server answered with status 404.\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct outcome outcome = answer_print(cases[i].status, cases[i].body);
        assert_string_equal(outcome.err, cases[i].line);
        assert_int_equal(outcome.rc, cases[i].rc);
    }
}

static void print_line_makes_one_line_of_json(void **state)
{
    (void)state;
    char text[128];
    int saved;
    FILE *out = stream_swap(stdout, &saved);
    int rc = peal_print_line(peal_span_of("{\"a\":\r\n 1e2,\n\"b\":\"x\\ny\"}\n"));
    stream_restore(stdout, saved, out, text, sizeof text);
    assert_int_equal(rc, PEAL_EXIT_OK);
    assert_string_equal(text, "{\"a\":   1e2, \"b\":\"x\\ny\"}\n");
}

int main(void)
{
    unsetenv("PEAL_API_KEY");
    unsetenv("PEAL_TOKEN");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(duration_is_read_or_refused),
        cmocka_unit_test(number_outside_its_range_is_refused),
        cmocka_unit_test(list_keeps_the_order),
        cmocka_unit_test(verb_unknown_is_not_found),
        cmocka_unit_test(verb_help_names_the_verb),
        cmocka_unit_test(verb_with_bad_arguments_is_refused),
        cmocka_unit_test(verb_with_unreadable_files_names_them),
        cmocka_unit_test(token_is_signed_with_the_secret_of_the_folder),
        cmocka_unit_test(token_with_a_short_secret_is_refused),
        cmocka_unit_test(signing_secret_of_a_configuration_is_its_first_key),
        cmocka_unit_test(api_key_comes_from_file_then_environment_then_folder),
        cmocka_unit_test(check_config_says_ok_or_what_is_wrong),
        cmocka_unit_test(print_config_hides_secrets),
        cmocka_unit_test(answer_that_refuses_is_told_with_its_code),
        cmocka_unit_test(print_line_makes_one_line_of_json),
    };
    return cmocka_run_group_tests_name("cli", tests, NULL, NULL);
}

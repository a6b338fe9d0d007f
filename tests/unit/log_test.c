/* What goes to stderr is caught in a pipe. cmocka writes there too, but not while a test runs. */
#include "base/log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static int saved = -1;
static FILE *caught;

static void catch_start(void)
{
    fflush(stderr);
    caught = tmpfile();
    assert_non_null(caught);
    saved = dup(STDERR_FILENO);
    assert_true(saved >= 0);
    assert_int_equal(dup2(fileno(caught), STDERR_FILENO), STDERR_FILENO);
}

/* What was written since; the text is overwritten by the next call. */
static const char *catch_stop(void)
{
    static char text[1 << 20];
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(caught);
    size_t size = fread(text, 1, sizeof text - 1, caught);
    text[size] = '\0';
    fclose(caught);
    return text;
}

static void log_line_has_time_level_event_and_fields(void **state)
{
    (void)state;
    catch_start();
    peal_log(PEAL_LOG_INFO, "conn.closed", "reason=%s bytes=%d", "slow", 7);
    const char *text = catch_stop();
    int year, month, day, hour, minute, second, ms, used = 0;
    sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &year, &month, &day, &hour, &minute, &second,
           &ms, &used);
    assert_int_equal(used, 24);
    assert_string_equal(text + 24, " info conn.closed reason=slow bytes=7\n");
}

static void log_event_without_fields_has_no_trailing_blank(void **state)
{
    (void)state;
    catch_start();
    peal_log(PEAL_LOG_WARN, "node.ready", "");
    const char *text = catch_stop();
    assert_string_equal(text + 24, " warn node.ready\n");
}

static void log_level_drops_what_matters_less(void **state)
{
    (void)state;
    catch_start();
    peal_log(PEAL_LOG_DEBUG, "dropped.at_first", "n=%d", 1);
    peal_log_set_level(PEAL_LOG_DEBUG);
    peal_log(PEAL_LOG_DEBUG, "kept.one", "n=%d", 1);
    peal_log_set_level(PEAL_LOG_ERROR);
    peal_log(PEAL_LOG_WARN, "dropped.too", "n=%d", 1);
    peal_log(PEAL_LOG_ERROR, "kept.two", "n=%d", 1);
    peal_log_set_level(PEAL_LOG_INFO);
    const char *text = catch_stop();
    assert_null(strstr(text, "dropped"));
    assert_non_null(strstr(text, " debug kept.one n=1\n"));
    assert_non_null(strstr(text, " error kept.two n=1\n"));
}

static void log_long_line_is_cut_and_still_ends(void **state)
{
    (void)state;
    char field[5000];
    memset(field, 'x', sizeof field - 1);
    field[sizeof field - 1] = '\0';
    catch_start();
    peal_log(PEAL_LOG_INFO, "long", "field=%s", field);
    peal_log(PEAL_LOG_INFO, field, "field=%d", 1);
    const char *text = catch_stop();
    const char *end = strchr(text, '\n');
    assert_non_null(end);
    assert_in_range(end - text, 1000, 1023);
    const char *second = end + 1;
    end = strchr(second, '\n');
    assert_non_null(end);
    assert_in_range(end - second, 1000, 1023);
    assert_int_equal(end[1], '\0');
}

static void *write_lines(void *arg)
{
    for (int i = 0; i < 500; i++)
        peal_log(PEAL_LOG_INFO, "line", "from=%s%s%s", (char *)arg, (char *)arg, (char *)arg);
    return NULL;
}

static void log_lines_of_threads_do_not_mix(void **state)
{
    (void)state;
    static char letters[3][100];
    pthread_t threads[3];
    int lines = 0;
    for (int i = 0; i < 3; i++)
        memset(letters[i], 'a' + i, sizeof letters[i] - 1);
    catch_start();
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, write_lines, letters[i]);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    char *rest = strdup(catch_stop());
    char *whole = rest;
    for (char *line; (line = strsep(&rest, "\n")) != NULL && *line != '\0'; lines++) {
        const char *field = strstr(line, " info line from=");
        assert_ptr_equal(field, line + 24);
        field += strlen(" info line from=");
        assert_int_equal(strlen(field), 297);
        assert_int_equal(strspn(field, (char[]){*field, '\0'}), 297);
    }
    assert_int_equal(lines, 1500);
    free(whole);
}

static void log_quote_leaves_plain_text_and_escapes_the_rest(void **state)
{
    (void)state;
    static const struct {
        struct peal_span text;
        const char *expected;
    } table[] = {
        {{"plain:text-1", 12}, "plain:text-1"},
        {{"", 0}, "\"\""},
        {{NULL, 0}, "\"\""},
        {{"a b", 3}, "\"a b\""},
        {{"a=b", 3}, "\"a=b\""},
        {{"a\"\\", 3}, "\"a\\\"\\\\\""},
        {{"a\nb", 3}, "\"a\\x0ab\""},
        {{"\0\x7f\xff", 3}, "\"\\x00\\x7f\\xff\""},
        {{"\x1b[2J", 4}, "\"\\x1b[2J\""},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char out[64];
        assert_ptr_equal(peal_log_quote(table[i].text, out, sizeof out), out);
        assert_string_equal(out, table[i].expected);
    }
}

static void log_quote_fits_every_size_and_ends_with_nul(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "plain-text-that-is-long", "a b c d e f g h i j k",
                                        "\n\n\n\n\n\n\n\n\n\n\n\n", "\"\"\"\"\"\"\"\"\"\"\"\"\""};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        for (size_t size = 1; size < 64; size++) {
            char *out = malloc(size); /* on the heap the sanitizer sees every byte too many */
            assert_non_null(out);
            memset(out, '!', size);
            peal_log_quote(peal_span_of(texts[i]), out, size);
            assert_non_null(memchr(out, '\0', size));
            free(out);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_line_has_time_level_event_and_fields),
        cmocka_unit_test(log_event_without_fields_has_no_trailing_blank),
        cmocka_unit_test(log_level_drops_what_matters_less),
        cmocka_unit_test(log_long_line_is_cut_and_still_ends),
        cmocka_unit_test(log_lines_of_threads_do_not_mix),
        cmocka_unit_test(log_quote_leaves_plain_text_and_escapes_the_rest),
        cmocka_unit_test(log_quote_fits_every_size_and_ends_with_nul),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}

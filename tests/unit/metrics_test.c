#include "base/metrics.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

static const char *const names[] = {
#define X(id, kind, name, help) name,
    PEAL_METRICS_TABLE(X)
#undef X
};

static char *render(void)
{
    struct peal_buf out = {0};
    peal_metrics_render(&out);
    peal_buf_add_char(&out, '\0');
    assert_false(out.failed);
    return out.at;
}

/* Runs first: this thread has no block yet. */
static void metrics_count_without_a_block_is_lost(void **state)
{
    (void)state;
    peal_count(PEAL_M_ACCEPTED, 1);
    assert_int_equal(peal_metrics_sum(PEAL_M_ACCEPTED), 0);
}

static void metrics_start_twice_keeps_the_block(void **state)
{
    (void)state;
    peal_metrics_thread_start();
    peal_count(PEAL_M_ACCEPTED, 2);
    peal_metrics_thread_start();
    peal_count(PEAL_M_ACCEPTED, 3);
    assert_int_equal(peal_metrics_sum(PEAL_M_ACCEPTED), 5);
}

enum { THREADS = 4, EACH = 50000 };

static void *count_run(void *arg)
{
    (void)arg;
    peal_metrics_thread_start();
    for (int i = 0; i < EACH; i++) {
        peal_count(PEAL_M_WRITTEN, 1);
        peal_count(PEAL_M_CONNS, i % 2 == 0 ? 3 : -2);
    }
    return NULL;
}

static void metrics_sum_adds_all_threads_also_ended_ones(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_run, NULL), 0);
    int64_t last = 0;
    while (last < EACH) { /* reading meanwhile never sees a counter go back */
        int64_t now = peal_metrics_sum(PEAL_M_WRITTEN);
        assert_true(now >= last);
        last = now;
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(peal_metrics_sum(PEAL_M_WRITTEN), THREADS * EACH);
    assert_int_equal(peal_metrics_sum(PEAL_M_CONNS), THREADS * EACH / 2);
}

static void metrics_gauge_may_fall_below_zero_in_one_thread(void **state)
{
    (void)state;
    int64_t before = peal_metrics_sum(PEAL_M_NODES);
    peal_count(PEAL_M_NODES, -4);
    assert_int_equal(peal_metrics_sum(PEAL_M_NODES), before - 4);
    peal_count(PEAL_M_NODES, 4);
}

static void metrics_names_of_one_metric_stand_together(void **state)
{
    (void)state;
    for (int i = 1; i < PEAL_M_COUNT; i++) {
        size_t size = strcspn(names[i], "{");
        bool again = false;
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(names[i], names[j]);
            again |= strcspn(names[j], "{") == size && strncmp(names[i], names[j], size) == 0;
        }
        bool neighbour =
            strcspn(names[i - 1], "{") == size && strncmp(names[i], names[i - 1], size) == 0;
        if (again != neighbour) fail_msg("%s stands apart", names[i]);
    }
}

static void metrics_render_writes_help_and_type_once_before_the_values(void **state)
{
    (void)state;
    char *text = render();
    for (int i = 0; i < PEAL_M_COUNT; i++) {
        char line[200];
        int size = (int)strcspn(names[i], "{");
        snprintf(line, sizeof line, "# HELP %.*s ", size, names[i]);
        char *help = strstr(text, line);
        assert_non_null(help);
        assert_null(strstr(help + 1, line));
        snprintf(line, sizeof line, "\n# TYPE %.*s ", size, names[i]);
        char *type = strstr(help, line);
        assert_non_null(type);
        assert_null(strstr(type + 1, line));
        snprintf(line, sizeof line, "\n%s ", names[i]);
        char *value = strstr(type, line);
        assert_non_null(value);
        assert_null(strstr(value + 1, line));
    }
    free(text);
}

static void metrics_render_is_made_of_whole_lines_only(void **state)
{
    (void)state;
    char *text = render();
    size_t size = strlen(text);
    assert_int_equal(text[size - 1], '\n');
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL && *line != '\0';) {
        if (*line == '#') continue;
        char *value = strrchr(line, ' ');
        char *end;
        assert_non_null(value);
        strtoll(value + 1, &end, 10);
        assert_int_equal(*end, '\0');
        assert_memory_equal(line, "peal_", 5);
    }
    free(text);
}

static void metrics_counters_end_in_total_and_gauges_do_not(void **state)
{
    (void)state;
    static const char *const kinds[] = {
#define X(id, kind, name, help) #kind,
        PEAL_METRICS_TABLE(X)
#undef X
    };
    for (int i = 0; i < PEAL_M_COUNT; i++) {
        size_t size = strcspn(names[i], "{");
        bool total = size > 6 && strncmp(names[i] + size - 6, "_total", 6) == 0;
        assert_int_equal(total, strcmp(kinds[i], "counter") == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_count_without_a_block_is_lost),
        cmocka_unit_test(metrics_start_twice_keeps_the_block),
        cmocka_unit_test(metrics_sum_adds_all_threads_also_ended_ones),
        cmocka_unit_test(metrics_gauge_may_fall_below_zero_in_one_thread),
        cmocka_unit_test(metrics_names_of_one_metric_stand_together),
        cmocka_unit_test(metrics_render_writes_help_and_type_once_before_the_values),
        cmocka_unit_test(metrics_render_is_made_of_whole_lines_only),
        cmocka_unit_test(metrics_counters_end_in_total_and_gauges_do_not),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}

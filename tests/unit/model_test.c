/* Seeded runs of the world of tests/model: everything that a network, a machine and an operator can
 * do to a cluster, and every promise kept. A failing seed is named with the command that repeats
 * it alone and shows what happened.
 *
 * PEAL_SEED=n repeats one run, or with PEAL_RUNS=m those from n on; PEAL_TRACE=1 shows them. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/metrics.h"
#include "tests/model/world.h"
#include "tests/unit/unit.h"

enum { STEPS = 6000 };

#ifndef PEAL_MODEL_RUNS
#define PEAL_MODEL_RUNS 150 /* with sanitizers, where a run takes long */
#endif

static char again[300]; /* the command that repeats the run */

static void note_seed(uint64_t seed)
{
    snprintf(again, sizeof again, "again: PEAL_SEED=%llu PEAL_TRACE=1 %s\n",
             (unsigned long long)seed, program_invocation_name);
}

/* The program asserts, or a sanitizer stops it: which seed was it? */
static void tell_seed(void)
{
    if (write(STDERR_FILENO, again, strlen(again)) < 0) return;
}

static void on_abort(int signal_number)
{
    (void)signal_number;
    tell_seed();
}

void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void model_every_promise_is_kept(void **state)
{
    (void)state;
    const char *given = getenv("PEAL_SEED");
    const char *runs_text = getenv("PEAL_RUNS");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 1000;
    int runs = runs_text != NULL ? atoi(runs_text) : given != NULL ? 1 : PEAL_MODEL_RUNS;
    size_t messages = 0;
    size_t gaps = 0;
    size_t skips = 0;
    size_t restarts = 0;
    size_t watched = 0;
    for (int run = 0; run < runs; run++, seed++) {
        note_seed(seed);
        struct world *w = world_new(seed);
        bool kept = world_run(w, STEPS);
        char why[sizeof w->checker.why];
        memcpy(why, w->checker.why, sizeof why);
        messages += w->checker.messages;
        gaps += w->checker.gaps;
        skips += w->checker.skips;
        restarts += w->restarts;
        watched += w->watched;
        world_free(w);
        if (!kept) fail_msg("seed %llu: %s\n%s", (unsigned long long)seed, why, again);
    }
    print_message("%d runs: %zu messages, %zu gaps, %zu skips, %zu restarts, %zu watched\n", runs,
                  messages, gaps, skips, restarts, watched);
    /* They did something. */
    assert_true(messages > (size_t)runs * 100);
    assert_true(watched >= (size_t)runs * CLIENTS / 2);
}

int main(void)
{
    peal_metrics_thread_start();
    peal_log_set_level(PEAL_LOG_ERROR);
    signal(SIGABRT, on_abort);
    if (__sanitizer_set_death_callback != NULL) __sanitizer_set_death_callback(tell_seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model_every_promise_is_kept),
    };
    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}

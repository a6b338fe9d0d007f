/* Seeded walks of the store of storage/ beside an oracle (tests/contract/walk.h).
 *
 * PEAL_SEED=n repeats one walk, or with PEAL_RUNS=m those from n on; PEAL_TRACE=1 shows every
 * operation and page. Only the moment at which a process is killed is not the seed's. */
#include "tests/contract/walk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/unit/unit.h"

#include "tests/unit/disk.h" /* how full the machine's own disk is does not matter */

enum { OPERATIONS = 10000 }; /* of one walk */

#ifndef PEAL_WALK_RUNS
#define PEAL_WALK_RUNS 6 /* with sanitizers, where a walk takes long */
#endif

static void store_at_random_answers_as_the_oracle_does(void **state)
{
    (void)state;
    const char *given = getenv("PEAL_SEED");
    const char *runs_text = getenv("PEAL_RUNS");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 1000;
    int runs = runs_text != NULL ? atoi(runs_text) : given != NULL ? 1 : PEAL_WALK_RUNS;
    struct walk_counts counts = {0};
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int run = 0; run < runs; run++, seed++) {
        char again[300];
        snprintf(again, sizeof again, "again: PEAL_SEED=%llu PEAL_TRACE=1 %s\n",
                 (unsigned long long)seed, program_invocation_name);
        walk_run(&contract_local, seed, OPERATIONS, &counts, again);
    }
    print_message("%d walks: %llu operations, %llu of them duplicates; %llu messages removed; "
                  "%llu pages with %llu entries; reopened %llu times; killed %llu times, with "
                  "%llu operations done and not answered\n",
                  runs, (unsigned long long)counts.operations,
                  (unsigned long long)counts.duplicates, (unsigned long long)counts.removed,
                  (unsigned long long)counts.pages, (unsigned long long)counts.entries,
                  (unsigned long long)counts.reopened, (unsigned long long)counts.killed,
                  (unsigned long long)counts.unanswered);
    /* They did something. */
    assert_true(counts.duplicates > (uint64_t)runs * 100);
    assert_true(counts.removed > (uint64_t)runs * 1000);
    assert_true(counts.killed >= (uint64_t)runs);
}

int main(void)
{
    peal_log_set_level(PEAL_LOG_ERROR);
    disk_reset();
    /* A process that is killed loses nothing that the kernel has: syncs would only take time. */
    if (access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(store_at_random_answers_as_the_oracle_does),
    };
    return cmocka_run_group_tests_name("walk", tests, NULL, NULL);
}

/* bench/run.h: one run: the client processes, the servers that are watched, and what came out.
 *
 * Functions that return bool say false when the run is over because something is wrong; `error`
 * then says what. Whatever was counted until then is still reported.
 *
 * Thread: the parent process, which also publishes. */
#ifndef PEAL_BENCH_RUN_H
#define PEAL_BENCH_RUN_H

#include "bench/board.h"
#include "bench/door.h"
#include "bench/plan.h"

enum { PEAL_RUN_QUIET_MS = 10000 }; /* so long nothing may happen before one gives up */

/* CPU in ns at one moment. */
struct peal_run_mark {
    uint64_t now;
    uint64_t servers[PEAL_PLAN_PIDS_MAX];
    uint64_t clients;
    uint64_t self;
};

struct peal_run {
    const struct peal_plan *plan;
    struct peal_board *board;
    pid_t clients[PEAL_PLAN_PROCESSES_MAX];
    struct peal_door door;

    uint32_t connections; /* opened so far */
    uint64_t published;
    uint64_t expected;
    uint64_t late_max_ns; /* how far the publisher was behind its schedule */
    uint32_t warm_tries;
    bool restless; /* a server that was waited for did not become idle */
    bool measured; /* there is a mark before, and counts since */
    struct peal_run_mark before;
    struct peal_run_mark after; /* its `now` is 0 while there is none */
    uint64_t pss[PEAL_PLAN_STEPS_MAX][PEAL_PLAN_PIDS_MAX];
    uint32_t pss_at[PEAL_PLAN_STEPS_MAX]; /* connections */
    uint32_t pss_count;
    char error[200];
};

/* Forks the client processes. */
bool peal_run_start(struct peal_run *run, const struct peal_plan *plan);
/* Ends them and waits for that: from then on the board is still. */
void peal_run_stop(struct peal_run *run);

bool peal_run_fail(struct peal_run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* False when something is wrong by now: a client process failed, a server is gone. */
bool peal_run_check(struct peal_run *run);
/* One number of all client processes. */
#define peal_run_sum(run, member)                                                                  \
    peal_board_sum((run)->board, (run)->plan, offsetof(struct peal_tally, member))

/* Waits until there are `count` connections. */
bool peal_run_connect(struct peal_run *run, uint32_t count);
/* Waits until nothing has come for 300 ms and the servers used less than 1 % of it. */
bool peal_run_wait_idle(struct peal_run *run);
/* Waits until all that is expected was delivered, or nothing comes any more. */
bool peal_run_wait_delivered(struct peal_run *run);
/* Reads all CPU clocks; *out stays as it is when one cannot be read. */
bool peal_run_mark(struct peal_run *run, struct peal_run_mark *out);
/* Reads the memory of the servers, as that of the connections there are now. */
bool peal_run_read_pss(struct peal_run *run);

#endif

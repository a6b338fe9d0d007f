/* bench/load.c: peal-load, one run of one load. plan.c has the command line. */
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/report.h"
#include "bench/traffic.h"

static bool run_traffic(struct peal_run *run, struct peal_traffic *traffic)
{
    return peal_run_connect(run, run->plan->connections) && peal_traffic_init(traffic, run) &&
           peal_traffic_warm_up(traffic) && peal_traffic_measure(traffic) && peal_run_read_pss(run);
}

/* With a door it is also proved that every connection is in its groups. */
static bool run_hold(struct peal_run *run, struct peal_traffic *traffic)
{
    bool door = run->plan->door != PEAL_DOOR_NONE;
    if (door && !peal_traffic_init(traffic, run)) return false;
    for (uint32_t i = 0; i < run->plan->step_count; i++) {
        if (!peal_run_connect(run, run->plan->steps[i])) return false;
        if (!(door ? peal_traffic_warm_up(traffic) : peal_run_wait_idle(run))) return false;
        if (!peal_run_read_pss(run)) return false;
    }
    return true;
}

static bool wait_for_handshakes(struct peal_run *run)
{
    uint64_t seen = 0;
    uint64_t moved_ms = peal_clock_mono_ms();
    for (;;) {
        uint64_t shaken = peal_run_sum(run, shaken);
        uint64_t now_ms = peal_clock_mono_ms();
        if (shaken == run->plan->count) return true;
        if (!peal_run_check(run)) return false;
        if (shaken != seen) moved_ms = now_ms;
        seen = shaken;
        if (now_ms - moved_ms > PEAL_RUN_QUIET_MS)
            return peal_run_fail(run, "%llu handshakes, and no more come",
                                 (unsigned long long)shaken);
        usleep(1000);
    }
}

/* What the server has to do once connections are closed belongs to the handshakes. */
static bool run_shake(struct peal_run *run)
{
    if (!peal_run_connect(run, run->plan->base) || !peal_run_wait_idle(run)) return false;
    if (!peal_run_mark(run, &run->before)) return false;
    run->measured = true;
    atomic_store(&run->board->shake, true);
    bool good = wait_for_handshakes(run) && peal_run_wait_idle(run);
    return peal_run_mark(run, &run->after) && good && peal_run_read_pss(run);
}

/* Nobody publishes; the handshakes belong to it. */
static bool run_drain(struct peal_run *run)
{
    if (!peal_run_wait_idle(run) || !peal_run_mark(run, &run->before)) return false;
    run->measured = true;
    run->expected = (uint64_t)run->plan->connections * run->plan->stored;
    bool good = peal_run_connect(run, run->plan->connections) && peal_run_wait_delivered(run);
    return peal_run_mark(run, &run->after) && good && peal_run_read_pss(run);
}

static int print(const struct peal_run *run)
{
    struct peal_buf out = {0};
    peal_report_add(&out, run);
    bool good =
        !out.failed && fwrite(out.at, 1, out.size, stdout) == out.size && fflush(stdout) == 0;
    peal_buf_fini(&out);
    return good && run->error[0] == '\0' ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct peal_plan plan;
    struct peal_run run;
    struct peal_traffic traffic = {0};
    int code = peal_plan_read(&plan, argc, argv);
    if (code != 0) return code;
    signal(SIGPIPE, SIG_IGN);
    /* Timers are 50 us late by default. */
    prctl(PR_SET_TIMERSLACK, 1UL);
    if (peal_run_start(&run, &plan)) {
        if (plan.verb == PEAL_VERB_HOLD)
            run_hold(&run, &traffic);
        else if (plan.verb == PEAL_VERB_SHAKE)
            run_shake(&run);
        else if (plan.verb == PEAL_VERB_DRAIN)
            run_drain(&run);
        else
            run_traffic(&run, &traffic);
    }
    peal_run_stop(&run);
    code = 1;
    if (run.board != NULL) code = print(&run);
    peal_traffic_fini(&traffic);
    if (run.board != NULL) peal_board_free(run.board);
    return code;
}

#include "bench/run.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/crowd.h"
#include "bench/meter.h"

enum { TICK_MS = 2, IDLE_MS = 300, IDLE_LIMIT_MS = 30000 };

bool peal_run_fail(struct peal_run *run, const char *format, ...)
{
    if (run->error[0] != '\0') return false;
    va_list list;
    va_start(list, format);
    vsnprintf(run->error, sizeof(run->error), format, list);
    va_end(list);
    return false;
}

bool peal_run_start(struct peal_run *run, const struct peal_plan *plan)
{
    *run = (struct peal_run){.plan = plan, .board = peal_board_new(plan)};
    if (run->board == NULL) return peal_run_fail(run, "no memory for the board");
    for (uint32_t i = 0; i < plan->processes; i++) {
        pid_t parent = getpid();
        pid_t pid = fork();
        if (pid < 0) return peal_run_fail(run, "fork: %s", strerror(errno));
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            /* It may have died before that. */
            _exit(getppid() != parent ? 1 : peal_crowd_run(plan, run->board, i));
        }
        run->clients[i] = pid;
    }
    return true;
}

void peal_run_stop(struct peal_run *run)
{
    if (run->board == NULL) return;
    atomic_store(&run->board->stop, true);
    for (uint32_t i = 0; i < run->plan->processes; i++)
        if (run->clients[i] > 0) waitpid(run->clients[i], NULL, 0);
}

bool peal_run_check(struct peal_run *run)
{
    const struct peal_plan *plan = run->plan;
    if (run->error[0] != '\0') return false;
    for (uint32_t i = 0; i < plan->processes; i++) {
        struct peal_tally *tally = &run->board->tallies[i];
        if (atomic_load(&tally->failed)) return peal_run_fail(run, "%s", tally->why);
        if (!peal_meter_alive(run->clients[i]))
            return peal_run_fail(run, "a client process is gone");
    }
    for (uint32_t i = 0; i < plan->pid_count; i++)
        if (!peal_meter_alive(plan->pids[i]))
            return peal_run_fail(run, "server process %d is gone", (int)plan->pids[i]);
    if (run->connections > 0 && peal_run_sum(run, closed) == run->connections)
        return peal_run_fail(run, "the server closed every connection");
    return true;
}

static void sleep_ms(uint64_t ms)
{
    struct timespec time = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

bool peal_run_connect(struct peal_run *run, uint32_t count)
{
    atomic_store(&run->board->wanted, count);
    uint64_t seen = 0;
    uint64_t moved_ms = peal_clock_mono_ms();
    for (;;) {
        uint64_t opened = peal_run_sum(run, opened);
        uint64_t now_ms = peal_clock_mono_ms();
        if (!peal_run_check(run)) return false;
        if (opened == count) break;
        if (opened != seen) moved_ms = now_ms;
        seen = opened;
        if (now_ms - moved_ms > PEAL_RUN_QUIET_MS)
            return peal_run_fail(run, "%u of %u connections are joined, and no more come",
                                 (unsigned)opened, count);
        sleep_ms(TICK_MS);
    }
    run->connections = count;
    return true;
}

bool peal_run_mark(struct peal_run *run, struct peal_run_mark *out)
{
    const struct peal_plan *plan = run->plan;
    struct peal_run_mark mark = {.now = peal_meter_now_ns()};
    for (uint32_t i = 0; i < plan->pid_count; i++)
        if (!peal_meter_cpu_ns(plan->pids[i], &mark.servers[i]))
            return peal_run_fail(run, "server process %d is gone", (int)plan->pids[i]);
    for (uint32_t i = 0; i < plan->processes; i++) {
        uint64_t used;
        if (!peal_meter_cpu_ns(run->clients[i], &used))
            return peal_run_fail(run, "a client process is gone");
        mark.clients += used;
    }
    if (!peal_meter_cpu_ns(getpid(), &mark.self)) return peal_run_fail(run, "no own CPU clock");
    *out = mark;
    return true;
}

bool peal_run_wait_idle(struct peal_run *run)
{
    struct peal_run_mark last;
    if (!peal_run_mark(run, &last)) return false;
    uint64_t until_ns = last.now + IDLE_LIMIT_MS * 1000000ULL;
    for (;;) {
        struct peal_run_mark mark;
        uint64_t came = peal_run_sum(run, warmed) + peal_run_sum(run, delivered);
        sleep_ms(IDLE_MS);
        if (!peal_run_check(run) || !peal_run_mark(run, &mark)) return false;
        bool idle = peal_run_sum(run, warmed) + peal_run_sum(run, delivered) == came;
        for (uint32_t i = 0; i < run->plan->pid_count; i++)
            idle = idle && (mark.servers[i] - last.servers[i]) * 100 < mark.now - last.now;
        if (idle) return true;
        if (mark.now > until_ns) {
            run->restless = true;
            return true;
        }
        last = mark;
    }
}

bool peal_run_wait_delivered(struct peal_run *run)
{
    uint64_t seen = 0;
    uint64_t moved_ms = peal_clock_mono_ms();
    for (;;) {
        uint64_t delivered = peal_run_sum(run, delivered);
        uint64_t now_ms = peal_clock_mono_ms();
        if (delivered >= run->expected) return true;
        if (!peal_run_check(run)) return false;
        if (delivered != seen) moved_ms = now_ms;
        seen = delivered;
        if (now_ms - moved_ms > PEAL_RUN_QUIET_MS) return true;
        sleep_ms(1);
    }
}

bool peal_run_read_pss(struct peal_run *run)
{
    uint32_t step = run->pss_count;
    for (uint32_t i = 0; i < run->plan->pid_count; i++)
        if (!peal_meter_pss(run->plan->pids[i], &run->pss[step][i]))
            return peal_run_fail(run, "the memory of process %d cannot be read",
                                 (int)run->plan->pids[i]);
    run->pss_at[step] = run->connections;
    run->pss_count++;
    return true;
}

/* bench/keep_plan.h: what one run of peal-keep is to do, as read from its command line. */
#ifndef PEAL_BENCH_KEEP_PLAN_H
#define PEAL_BENCH_KEEP_PLAN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/span.h"

enum {
    PEAL_KEEP_PIDS_MAX = 16,
    PEAL_KEEP_NAME_MAX = 24,        /* bytes of `user:u<k>` and a NUL */
    PEAL_KEEP_PRELOAD_WINDOW = 4096 /* below what a publisher may have under way */
};

struct peal_keep_plan {
    const struct peal_sink_kind *into;
    const char *endpoint; /* door, redis */
    const char *folder;   /* file */
    const char *config;   /* store: the server's configuration */
    bool xadd;            /* redis: XADD, not RPUSH */
    uint32_t users;
    uint32_t payload; /* bytes */
    uint64_t seed;
    uint64_t preload; /* messages before what is measured; users take turns */
    uint32_t window;
    uint32_t slots; /* the largest window there is */
    uint64_t count; /* messages to measure, 0: none; for at most `seconds` */
    double seconds;
    uint32_t acked;    /* store: percent of the measured messages */
    uint32_t acked_ms; /* and how late at most */
    bool check;        /* store: opened again, every user has what was said to be kept */
    bool stay;         /* prints, and then waits to be killed */
    pid_t pids[PEAL_KEEP_PIDS_MAX];
    uint32_t pid_count;
};

/* Reads the command line. Returns 0, or the exit code, and has then printed why. */
int peal_keep_plan_read(struct peal_keep_plan *plan, int argc, char **argv);

#endif

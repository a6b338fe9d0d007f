/* bench/meter.h: what processes cost, read from outside. */
#ifndef PEAL_BENCH_METER_H
#define PEAL_BENCH_METER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

uint64_t peal_meter_now_ns(void); /* CLOCK_MONOTONIC */
/* CPU of all threads of a process so far, living and ended. False when there is no such process. */
bool peal_meter_cpu_ns(pid_t pid, uint64_t *out);
/* Does it run? The clock of a process that ended can be read until somebody waits for it. */
bool peal_meter_alive(pid_t pid);
/* Proportional set size in bytes. False when it cannot be read. */
bool peal_meter_pss(pid_t pid, uint64_t *out);

/* Bytes of a process that are in no file: heap and stacks. False when it cannot be read. */
bool peal_meter_anonymous(pid_t pid, uint64_t *out);

#endif

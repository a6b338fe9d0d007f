#include "bench/meter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t peal_meter_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

bool peal_meter_cpu_ns(pid_t pid, uint64_t *out)
{
    clockid_t clock;
    struct timespec used;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0) return false;
    *out = (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
    return true;
}

bool peal_meter_alive(pid_t pid)
{
    char path[64];
    char line[256];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    /* `pid (name) state`, and a name may have brackets of its own. */
    const char *end = fgets(line, sizeof(line), file) == NULL ? NULL : strrchr(line, ')');
    fclose(file);
    return end != NULL && end[1] == ' ' && end[2] != 'Z' && end[2] != 'X';
}

/* The number behind `name` in a file of /proc, in KiB there. */
static bool field_read(const char *path, const char *name, uint64_t *out)
{
    char line[256];
    size_t size = strlen(name);
    bool found = false;
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    while (!found && fgets(line, sizeof(line), file) != NULL) {
        char *end;
        if (strncmp(line, name, size) != 0) continue;
        *out = strtoull(line + size, &end, 10) * 1024;
        found = end != line + size;
    }
    fclose(file);
    return found;
}

bool peal_meter_pss(pid_t pid, uint64_t *out)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    return field_read(path, "Pss:", out);
}

bool peal_meter_anonymous(pid_t pid, uint64_t *out)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    return field_read(path, "RssAnon:", out);
}

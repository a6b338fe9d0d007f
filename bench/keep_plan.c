#include "bench/keep_plan.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/sink.h"
#include "bench/stamp.h"

static const char usage[] =
    "usage: peal-keep --into door|redis|file|store [options]\n"
    "\n"
    "Puts messages where they are to be kept; prints one JSON object.\n"
    "\n"
    "  --endpoint tcp://HOST:PORT  door, redis\n"
    "  --redis rpush|xadd          the command (rpush)\n"
    "  --folder DIR                file: where it is\n"
    "  --config FILE               store: `data` says where, `groups` how long things are kept\n"
    "  --users N                   messages go to user:u0 .. user:u<N-1> (500)\n"
    "  --payload BYTES             (128)\n"
    "  --preload N                 messages that are there before; users take turns (0)\n"
    "  --window W                  messages that wait for their answer (256)\n"
    "  --count N                   messages to measure, each to a user at random (--seed); 0: "
    "none\n"
    "  --seconds S                 but not longer than that\n"
    "  --acked PERCENT             store: of the measured messages, each alone, (0)\n"
    "  --acked-ms MS               at random within that time (1000)\n"
    "  --check 1                   store: opens it again and asks for each user\n"
    "  --stay 1                    prints, and then waits to be killed\n"
    "  --pid P                     a server process to measure; may be repeated\n";

enum option_key {
    OPT_INTO = 1,
    OPT_ENDPOINT,
    OPT_REDIS,
    OPT_FOLDER,
    OPT_CONFIG,
    OPT_USERS,
    OPT_PAYLOAD,
    OPT_SEED,
    OPT_PRELOAD,
    OPT_WINDOW,
    OPT_COUNT,
    OPT_SECONDS,
    OPT_ACKED,
    OPT_ACKED_MS,
    OPT_CHECK,
    OPT_STAY,
    OPT_PID,
    OPT_HELP
};

static const struct option options[] = {
    {"into", required_argument, NULL, OPT_INTO},
    {"endpoint", required_argument, NULL, OPT_ENDPOINT},
    {"redis", required_argument, NULL, OPT_REDIS},
    {"folder", required_argument, NULL, OPT_FOLDER},
    {"config", required_argument, NULL, OPT_CONFIG},
    {"users", required_argument, NULL, OPT_USERS},
    {"payload", required_argument, NULL, OPT_PAYLOAD},
    {"seed", required_argument, NULL, OPT_SEED},
    {"preload", required_argument, NULL, OPT_PRELOAD},
    {"window", required_argument, NULL, OPT_WINDOW},
    {"count", required_argument, NULL, OPT_COUNT},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"acked", required_argument, NULL, OPT_ACKED},
    {"acked-ms", required_argument, NULL, OPT_ACKED_MS},
    {"check", required_argument, NULL, OPT_CHECK},
    {"stay", required_argument, NULL, OPT_STAY},
    {"pid", required_argument, NULL, OPT_PID},
    {"help", no_argument, NULL, OPT_HELP},
    {0},
};

static int refuse(const char *what)
{
    fprintf(stderr, "peal-keep: %s (--help)\n", what);
    return 64;
}

static bool long_read(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end;
    uint64_t number = strtoull(text, &end, 10);
    if (end == text || *end != '\0' || *text == '-' || number < min || number > max) return false;
    *out = number;
    return true;
}

static bool number_read(const char *text, uint32_t min, uint32_t max, uint32_t *out)
{
    uint64_t number;
    if (!long_read(text, min, max, &number)) return false;
    *out = (uint32_t)number;
    return true;
}

static bool flag_read(const char *text, bool *out)
{
    *out = strcmp(text, "1") == 0;
    return *out || strcmp(text, "0") == 0;
}

static bool seconds_read(const char *text, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && *out > 0 && *out < 1e6;
}

static bool into_read(struct peal_keep_plan *plan, const char *text)
{
    static const struct peal_sink_kind *const kinds[] = {&peal_sink_door, &peal_sink_redis,
                                                         &peal_sink_file, &peal_sink_store};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strcmp(kinds[i]->name, text) == 0) plan->into = kinds[i];
    return plan->into != NULL;
}

static bool option_read(struct peal_keep_plan *plan, enum option_key key, const char *text)
{
    uint32_t pid;
    switch (key) {
    case OPT_INTO:
        return into_read(plan, text);
    case OPT_ENDPOINT:
        plan->endpoint = text;
        return strncmp(text, "tcp://", 6) == 0;
    case OPT_REDIS:
        plan->xadd = strcmp(text, "xadd") == 0;
        return plan->xadd || strcmp(text, "rpush") == 0;
    case OPT_FOLDER:
        plan->folder = text;
        return true;
    case OPT_CONFIG:
        plan->config = text;
        return true;
    case OPT_USERS:
        return number_read(text, 1, 100000000, &plan->users);
    case OPT_PAYLOAD:
        return number_read(text, PEAL_STAMP_MIN, PEAL_STAMP_MAX, &plan->payload);
    case OPT_SEED:
        return long_read(text, 1, UINT64_MAX, &plan->seed);
    case OPT_PRELOAD:
        return long_read(text, 0, 1000000000, &plan->preload);
    case OPT_WINDOW:
        return number_read(text, 1, PEAL_KEEP_PRELOAD_WINDOW, &plan->window);
    case OPT_COUNT:
        return long_read(text, 0, 1000000000, &plan->count);
    case OPT_SECONDS:
        return seconds_read(text, &plan->seconds);
    case OPT_ACKED:
        return number_read(text, 0, 100, &plan->acked);
    case OPT_ACKED_MS:
        return number_read(text, 1, 60000, &plan->acked_ms);
    case OPT_CHECK:
        return flag_read(text, &plan->check);
    case OPT_STAY:
        return flag_read(text, &plan->stay);
    case OPT_PID:
        if (plan->pid_count == PEAL_KEEP_PIDS_MAX || !number_read(text, 1, INT32_MAX, &pid))
            return false;
        plan->pids[plan->pid_count++] = (pid_t)pid;
        return true;
    case OPT_HELP:
        break;
    }
    return false;
}

static int plan_check(struct peal_keep_plan *plan)
{
    const struct peal_sink_kind *into = plan->into;
    if (into == NULL) return refuse("--into is needed");
    if (!into->in_process && plan->endpoint == NULL) return refuse("--endpoint is needed");
    if (into == &peal_sink_file && plan->folder == NULL) return refuse("--folder is needed");
    if (into == &peal_sink_store && plan->config == NULL) return refuse("--config is needed");
    if (into != &peal_sink_store && (plan->acked > 0 || plan->check))
        return refuse("only a store has --acked and --check");
    /* Seconds alone: as many messages as fit in. */
    if (plan->seconds > 0 && plan->count == 0) plan->count = UINT64_MAX;
    if (plan->seconds == 0) plan->seconds = 1e6;
    plan->slots = plan->preload > 0 ? PEAL_KEEP_PRELOAD_WINDOW : plan->window;
    return 0;
}

int peal_keep_plan_read(struct peal_keep_plan *plan, int argc, char **argv)
{
    int key;
    int place = 0;
    *plan = (struct peal_keep_plan){
        .users = 500, .payload = 128, .seed = 1, .window = 256, .acked_ms = 1000};
    while ((key = getopt_long(argc, argv, "", options, &place)) != -1) {
        if (key == OPT_HELP) {
            fputs(usage, stdout);
            exit(0);
        }
        if (key == '?') return 64;
        if (option_read(plan, (enum option_key)key, optarg)) continue;
        fprintf(stderr, "peal-keep: --%s: \"%s\" will not do (--help)\n", options[place].name,
                optarg);
        return 64;
    }
    if (optind < argc) return refuse("there is an argument too many");
    return plan_check(plan);
}

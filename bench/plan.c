#include "bench/plan.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/stamp.h"
#include "proto/group.h"

static const char usage[] =
    "usage: peal-load VERB [options]\n"
    "\n"
    "One run of one load; prints one JSON object.\n"
    "\n"
    "  fanout  --rate R --burst B --seconds S   R bursts a second of B messages each, open loop;\n"
    "                                           a burst goes to one group, groups take turns\n"
    "  flood   --window W --count N             at most W messages that somebody still waits for\n"
    "  random  --rate R | --window W, --count N each message to a group at random (--seed)\n"
    "  hold    --steps 1000,15000               connects up to each step and reads the memory\n"
    "  shake   --count N --concurrency C        connect, join, close, beside --base M idle ones\n"
    "  drain   --stored N                       connects; each one gets N messages that wait for "
    "it\n"
    "\n"
    "Members:\n"
    "  --target floor|raw|native   how they speak\n"
    "  --address HOST:PORT         an IPv4 address; may be repeated: connections take turns\n"
    "  --path TEMPLATE             with {group} and {user} (raw: /b/{group}, native: /v1/ws)\n"
    "  --connections N             1\n"
    "  --groups N                  connection i is in group i * K % N (1)\n"
    "  --groups-per-connection K   and in the K - 1 behind it; native only (1)\n"
    "  --prefix TEXT               group k is TEXT and k (g)\n"
    "  --token-secret S            a token for user u<i>, signed with HS256\n"
    "  --processes P               as many as the descriptors need\n"
    "  --pipelined H               handshakes under way in one process (64)\n"
    "  --payload BYTES             with the quotes (128)\n"
    "\n"
    "Publisher:\n"
    "  --door floor|push|rpc|http  and --endpoint tcp://HOST:PORT; push: one for each router, in\n"
    "                              the order of the configuration\n"
    "  --body msgpack|json         push (msgpack: a text, which is without the quotes)\n"
    "  --key KEY                   http\n"
    "  --bus-key FILE              push, rpc: CURVE keys (peal keygen), and --router-key KEY\n"
    "  --door-connections N        http; a group stays on one of them (8)\n"
    "\n"
    "  --pid P                     a server process to measure; may be repeated\n";

enum option_key {
    OPT_TARGET = 1,
    OPT_ADDRESS,
    OPT_PATH,
    OPT_PREFIX,
    OPT_CONNECTIONS,
    OPT_GROUPS,
    OPT_PER_CONNECTION,
    OPT_TOKEN_SECRET,
    OPT_PROCESSES,
    OPT_PIPELINED,
    OPT_PAYLOAD,
    OPT_DOOR,
    OPT_ENDPOINT,
    OPT_KEY,
    OPT_BUS_KEY,
    OPT_ROUTER_KEY,
    OPT_BODY,
    OPT_DOOR_CONNECTIONS,
    OPT_RATE,
    OPT_BURST,
    OPT_SECONDS,
    OPT_WINDOW,
    OPT_COUNT,
    OPT_SEED,
    OPT_CONCURRENCY,
    OPT_BASE,
    OPT_STEPS,
    OPT_STORED,
    OPT_PID,
    OPT_HELP
};

static const struct option options[] = {
    {"target", required_argument, NULL, OPT_TARGET},
    {"address", required_argument, NULL, OPT_ADDRESS},
    {"path", required_argument, NULL, OPT_PATH},
    {"prefix", required_argument, NULL, OPT_PREFIX},
    {"connections", required_argument, NULL, OPT_CONNECTIONS},
    {"groups", required_argument, NULL, OPT_GROUPS},
    {"groups-per-connection", required_argument, NULL, OPT_PER_CONNECTION},
    {"token-secret", required_argument, NULL, OPT_TOKEN_SECRET},
    {"processes", required_argument, NULL, OPT_PROCESSES},
    {"pipelined", required_argument, NULL, OPT_PIPELINED},
    {"payload", required_argument, NULL, OPT_PAYLOAD},
    {"door", required_argument, NULL, OPT_DOOR},
    {"endpoint", required_argument, NULL, OPT_ENDPOINT},
    {"key", required_argument, NULL, OPT_KEY},
    {"bus-key", required_argument, NULL, OPT_BUS_KEY},
    {"router-key", required_argument, NULL, OPT_ROUTER_KEY},
    {"body", required_argument, NULL, OPT_BODY},
    {"door-connections", required_argument, NULL, OPT_DOOR_CONNECTIONS},
    {"rate", required_argument, NULL, OPT_RATE},
    {"burst", required_argument, NULL, OPT_BURST},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"window", required_argument, NULL, OPT_WINDOW},
    {"count", required_argument, NULL, OPT_COUNT},
    {"seed", required_argument, NULL, OPT_SEED},
    {"concurrency", required_argument, NULL, OPT_CONCURRENCY},
    {"base", required_argument, NULL, OPT_BASE},
    {"steps", required_argument, NULL, OPT_STEPS},
    {"stored", required_argument, NULL, OPT_STORED},
    {"pid", required_argument, NULL, OPT_PID},
    {"help", no_argument, NULL, OPT_HELP},
    {0},
};

static int refuse(const char *what)
{
    fprintf(stderr, "peal-load: %s (--help)\n", what);
    return 64;
}

/* The place of word in a list that ends with NULL, or -1. */
static int word_find(const char *const *words, const char *word)
{
    for (int i = 0; words[i] != NULL; i++)
        if (strcmp(words[i], word) == 0) return i;
    return -1;
}

static bool number_read(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end;
    uint64_t number = strtoull(text, &end, 10);
    if (end == text || *end != '\0' || *text == '-' || number < min || number > max) return false;
    *out = number;
    return true;
}

static bool count_read(const char *text, uint32_t max, uint32_t *out)
{
    uint64_t number;
    if (!number_read(text, 1, max, &number)) return false;
    *out = (uint32_t)number;
    return true;
}

static bool positive_read(const char *text, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && *out > 0 && *out < 1e9;
}

static bool address_read(struct peal_plan *plan, const char *text)
{
    char host[64];
    const char *colon = strrchr(text, ':');
    uint32_t port;
    if (colon == NULL || (size_t)(colon - text) >= sizeof(host)) return false;
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    if (plan->address_count == PEAL_PLAN_SERVERS_MAX || !count_read(colon + 1, UINT16_MAX, &port))
        return false;
    struct sockaddr_in *address = &plan->addresses[plan->address_count];
    address->sin_family = AF_INET;
    address->sin_port = htons((uint16_t)port);
    plan->hosts[plan->address_count++] = text;
    return inet_pton(AF_INET, host, &address->sin_addr) == 1;
}

static bool steps_read(struct peal_plan *plan, char *text)
{
    char *save = NULL;
    for (char *word = strtok_r(text, ",", &save); word != NULL; word = strtok_r(NULL, ",", &save)) {
        uint32_t step;
        if (plan->step_count == PEAL_PLAN_STEPS_MAX || !count_read(word, 1000000, &step))
            return false;
        if (plan->step_count > 0 && step <= plan->steps[plan->step_count - 1]) return false;
        plan->steps[plan->step_count++] = step;
    }
    return plan->step_count > 0;
}

static bool target_read(struct peal_plan *plan, const char *text)
{
    static const char *const targets[] = {"floor", "raw", "native", NULL};
    int target = word_find(targets, text);
    if (target < 0) return false;
    plan->target = (enum peal_target)target;
    plan->target_name = targets[target];
    return true;
}

static bool door_read(struct peal_plan *plan, const char *text)
{
    static const char *const doors[] = {"none", "floor", "push", "rpc", "http", NULL};
    int door = word_find(doors, text);
    if (door < 0) return false;
    plan->door = (enum peal_door_kind)door;
    return true;
}

static bool pid_read(struct peal_plan *plan, const char *text)
{
    uint32_t pid;
    if (plan->pid_count == PEAL_PLAN_PIDS_MAX || !count_read(text, INT32_MAX, &pid)) return false;
    plan->pids[plan->pid_count++] = (pid_t)pid;
    return true;
}

static bool option_read(struct peal_plan *plan, enum option_key key, char *text)
{
    switch (key) {
    case OPT_TARGET:
        return target_read(plan, text);
    case OPT_ADDRESS:
        return address_read(plan, text);
    case OPT_PATH:
        plan->path = text;
        return text[0] == '/';
    case OPT_PREFIX:
        plan->prefix = text;
        return strlen(text) + 10 <= PEAL_PLAN_GROUP_MAX;
    case OPT_CONNECTIONS:
        return count_read(text, 1000000, &plan->connections);
    case OPT_GROUPS:
        return count_read(text, 10000000, &plan->groups);
    case OPT_PER_CONNECTION:
        return count_read(text, 1024, &plan->groups_per_connection);
    case OPT_TOKEN_SECRET:
        plan->token_secret = text;
        return strlen(text) >= 32;
    case OPT_PROCESSES:
        return count_read(text, PEAL_PLAN_PROCESSES_MAX, &plan->processes);
    case OPT_PIPELINED:
        return count_read(text, 10000, &plan->pipelined);
    case OPT_PAYLOAD:
        return count_read(text, PEAL_STAMP_MAX, &plan->payload) && plan->payload >= PEAL_STAMP_MIN;
    case OPT_DOOR:
        return door_read(plan, text);
    case OPT_ENDPOINT:
        if (plan->endpoint_count == PEAL_PLAN_SERVERS_MAX) return false;
        plan->endpoints[plan->endpoint_count++] = text;
        return strncmp(text, "tcp://", 6) == 0;
    case OPT_KEY:
        plan->key = text;
        return true;
    case OPT_BUS_KEY:
        plan->bus_key = text;
        return true;
    case OPT_ROUTER_KEY:
        plan->router_key = text;
        return true;
    case OPT_BODY:
        plan->json = strcmp(text, "json") == 0;
        return plan->json || strcmp(text, "msgpack") == 0;
    case OPT_DOOR_CONNECTIONS:
        return count_read(text, 256, &plan->door_connections);
    case OPT_RATE:
        return positive_read(text, &plan->rate);
    case OPT_BURST:
        return count_read(text, 1000000, &plan->burst);
    case OPT_SECONDS:
        return positive_read(text, &plan->seconds);
    case OPT_WINDOW:
        return count_read(text, 1 << 20, &plan->window);
    case OPT_COUNT:
        return count_read(text, 1000000000, &plan->count);
    case OPT_SEED:
        return number_read(text, 1, UINT64_MAX, &plan->seed);
    case OPT_CONCURRENCY:
        return count_read(text, 10000, &plan->concurrency);
    case OPT_BASE:
        return count_read(text, 1000000, &plan->base);
    case OPT_STEPS:
        return steps_read(plan, text);
    case OPT_STORED:
        return count_read(text, 1000000, &plan->stored);
    case OPT_PID:
        return pid_read(plan, text);
    case OPT_HELP:
        break;
    }
    return false;
}

/* How many connections there are at most at once, and what does not fit together. */
static int plan_check(struct peal_plan *plan)
{
    bool closed_loop = plan->window > 0;
    if (plan->target_name == NULL) return refuse("--target is needed");
    if (plan->address_count == 0) return refuse("--address is needed");
    if (plan->door != PEAL_DOOR_NONE && plan->endpoint_count == 0)
        return refuse("--door needs --endpoint");
    if (plan->door != PEAL_DOOR_PUSH && plan->endpoint_count > 1)
        return refuse("only push has more than one endpoint");
    if ((plan->bus_key == NULL) != (plan->router_key == NULL))
        return refuse("--bus-key and --router-key need each other");
    switch (plan->verb) {
    case PEAL_VERB_FANOUT:
        if (plan->rate == 0 || plan->seconds == 0) return refuse("--rate and --seconds are needed");
        if (closed_loop) return refuse("fanout has no window");
        break;
    case PEAL_VERB_FLOOD:
        if (!closed_loop || plan->count == 0) return refuse("--window and --count are needed");
        if (plan->rate != 0) return refuse("flood has no rate");
        break;
    case PEAL_VERB_RANDOM:
        if (plan->count == 0) return refuse("--count is needed");
        if (closed_loop == (plan->rate != 0)) return refuse("either --rate or --window is needed");
        break;
    case PEAL_VERB_HOLD:
        if (plan->step_count == 0) return refuse("--steps is needed");
        plan->connections = plan->steps[plan->step_count - 1];
        break;
    case PEAL_VERB_SHAKE:
        if (plan->count == 0) return refuse("--count is needed");
        plan->connections = plan->base;
        break;
    case PEAL_VERB_DRAIN:
        if (plan->stored == 0) return refuse("--stored is needed");
        if (closed_loop) return refuse("drain has no window");
        break;
    }
    if (plan->verb <= PEAL_VERB_RANDOM && plan->door == PEAL_DOOR_NONE)
        return refuse("--door is needed");
    if (plan->groups_per_connection > 1 && plan->target != PEAL_TARGET_NATIVE)
        return refuse("only native members are in more than one group");
    if (plan->groups % plan->groups_per_connection != 0)
        return refuse("--groups is no multiple of --groups-per-connection");

    uint32_t total = plan->connections;
    if (plan->verb == PEAL_VERB_SHAKE) total += plan->concurrency;
    uint32_t least = (total - 1) / PEAL_PLAN_PROCESS_CONNECTIONS_MAX + 1;
    if (plan->processes == 0) plan->processes = least;
    if (plan->processes < least || least > PEAL_PLAN_PROCESSES_MAX)
        return refuse("a process has at most 18000 connections; there are at most 16");
    if (plan->path == NULL)
        plan->path = plan->target == PEAL_TARGET_NATIVE ? "/v1/ws"
                     : plan->target == PEAL_TARGET_RAW  ? "/b/{group}"
                                                        : "/";
    return 0;
}

int peal_plan_read(struct peal_plan *plan, int argc, char **argv)
{
    static const char *const verbs[] = {"fanout", "flood", "random", "hold",
                                        "shake",  "drain", NULL};
    *plan = (struct peal_plan){.prefix = "g",
                               .connections = 1,
                               .groups = 1,
                               .groups_per_connection = 1,
                               .pipelined = 64,
                               .payload = 128,
                               .key = "",
                               .door_connections = 8,
                               .burst = 1,
                               .seed = 1,
                               .concurrency = 64};
    if (argc >= 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        exit(0);
    }
    int verb = argc < 2 ? -1 : word_find(verbs, argv[1]);
    if (verb < 0)
        return refuse("the first argument is fanout, flood, random, hold, shake or drain");
    plan->verb = (enum peal_verb)verb;
    plan->verb_name = verbs[verb];

    int key;
    int place = 0;
    while ((key = getopt_long(argc - 1, argv + 1, "", options, &place)) != -1) {
        if (key == OPT_HELP) {
            fputs(usage, stdout);
            exit(0);
        }
        if (key == '?') return 64;
        if (option_read(plan, (enum option_key)key, optarg)) continue;
        fprintf(stderr, "peal-load: --%s: \"%s\" will not do (--help)\n", options[place].name,
                optarg);
        return 64;
    }
    if (optind < argc - 1) return refuse("there is an argument too many");
    return plan_check(plan);
}

uint32_t peal_plan_group(const struct peal_plan *plan, uint32_t k, char *out)
{
    char text[PEAL_PLAN_GROUP_MAX + 16];
    int size = snprintf(text, sizeof(text), "%s%u", plan->prefix, k);
    memcpy(out, text, (size_t)size);
    return (uint32_t)size;
}

uint32_t peal_plan_group_of(const struct peal_plan *plan, uint32_t i, uint32_t j)
{
    return (uint32_t)(((uint64_t)i * plan->groups_per_connection + j) % plan->groups);
}

uint32_t peal_plan_endpoint_of(const struct peal_plan *plan, uint32_t k)
{
    char name[PEAL_PLAN_GROUP_MAX];
    if (plan->endpoint_count < 2) return 0;
    struct peal_span group = {name, peal_plan_group(plan, k, name)};
    return (uint32_t)peal_slot_router(peal_group_slot(group), plan->endpoint_count);
}

uint32_t peal_plan_members(const struct peal_plan *plan, uint32_t k, uint32_t connections)
{
    /* Groups come in blocks of groups_per_connection; connections go through the blocks in turn. */
    uint32_t blocks = plan->groups / plan->groups_per_connection;
    uint32_t first = k / plan->groups_per_connection;
    return first < connections ? (connections - first - 1) / blocks + 1 : 0;
}

uint32_t peal_plan_share(const struct peal_plan *plan, uint32_t n, uint32_t which)
{
    return n <= which ? 0 : (n - which - 1) / plan->processes + 1;
}

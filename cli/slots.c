#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/args.h"
#include "cli/exit.h"
#include "cli/settings.h"
#include "cli/verbs.h"
#include "router/operator.h"

static const char usage[] =
    "usage: peal slots show -c FILE\n"
    "       peal slots plan -c FILE\n"
    "       peal slots move -c FILE (--slots A-B --to N | --plan)\n"
    "\n"
    "Which router of `cluster.routers` owns which of the 1,024 slots that groups are hashed to.\n"
    "show prints it as each router sees it; plan prints what an even split over the routers of\n"
    "the list would move, as few slots as possible; move does that, or moves the slots given,\n"
    "one after the other, while the cluster runs. A move that was interrupted is begun again\n"
    "with the same command.\n"
    "\n"
    "  -c, --config FILE   configuration file of a router or node\n"
    "  --slots A-B         these slots, 0 to 1023; one number is one slot\n"
    "  --to N              the router that gets them: its index in the list, from 0\n"
    "  --plan              what `plan` prints\n"
    "  --set KEY=VALUE     one setting, after the file and the environment; may be repeated\n";

enum {
    TABLE_MS = 5000,
    MOVE_MS = 5000,   /* then it is asked again: longer than a router waits for the other one */
    SILENCES = 6,     /* a router that died may be back, and a large slot takes its time */
    MOVE_TRIES = 100, /* while another one is moving, or the last one is not taken up yet */
    AGAIN_US = 100000,
};

struct slots {
    const char *what;
    struct peal_config_sources from;
    struct peal_args_list sets;
    bool given; /* --slots */
    bool plan;
    bool help;
    uint64_t first;
    uint64_t last;
    uint64_t to; /* UINT64_MAX: not given */
    struct peal_config *config;
    struct peal_operator *op;
    struct peal_slot known[PEAL_SLOTS]; /* the highest generations of all routers */
    uint16_t owners[PEAL_SLOTS];        /* as they are to be */
};

static const struct option options[] = {
    {"config", required_argument, NULL, 'c'},
    {"slots", required_argument, NULL, 'n'},
    {"to", required_argument, NULL, 't'},
    {"plan", no_argument, NULL, 'p'},
    {"set", required_argument, NULL, 's'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

/* A-B or A. */
static int range_read(const char *text, struct slots *s)
{
    char first[16];
    const char *dash = strchr(text, '-');
    size_t size = dash == NULL ? strlen(text) : (size_t)(dash - text);
    snprintf(first, sizeof first, "%.*s", (int)size, text);
    const char *last = dash == NULL ? first : dash + 1;
    if (size < sizeof first && peal_args_number(first, 0, PEAL_SLOTS - 1, &s->first) == PEAL_OK &&
        peal_args_number(last, s->first, PEAL_SLOTS - 1, &s->last) == PEAL_OK) {
        s->given = true;
        return PEAL_EXIT_OK;
    }
    return peal_fail(PEAL_EXIT_USAGE, "usage", "\"%s\" is no range of slots from 0 to 1023", text);
}

static int option_take(int option, struct slots *s)
{
    switch (option) {
    case 'c':
        s->from.path = optarg;
        return PEAL_EXIT_OK;
    case 'n':
        return range_read(optarg, s);
    case 't':
        if (peal_args_number(optarg, 0, PEAL_SLOTS - 1, &s->to) == PEAL_OK) return PEAL_EXIT_OK;
        return peal_fail(PEAL_EXIT_USAGE, "usage", "\"%s\" is no number of a router", optarg);
    case 'p':
        s->plan = true;
        return PEAL_EXIT_OK;
    case 's':
        if (peal_args_list_add(&s->sets, optarg) == PEAL_OK) return PEAL_EXIT_OK;
        return peal_fail_call(PEAL_ENOMEM, "There is not enough memory.");
    case 'h':
        s->help = true;
        return PEAL_EXIT_OK;
    default:
        return PEAL_EXIT_USAGE;
    }
}

static int options_read(int argc, char **argv, struct slots *s)
{
    int option;
    peal_args_start();
    while ((option = peal_args_next(argc, argv, options)) != -1) {
        int rc = option_take(option, s);
        if (rc != PEAL_EXIT_OK || s->help) return rc;
    }
    if (argc - optind != 1)
        return peal_fail(PEAL_EXIT_USAGE, "usage", "one of show, plan and move is needed");
    s->what = argv[optind];
    bool move = strcmp(s->what, "move") == 0;
    if (!move && strcmp(s->what, "show") != 0 && strcmp(s->what, "plan") != 0)
        return peal_fail(PEAL_EXIT_USAGE, "usage", "\"%s\" is none of show, plan and move",
                         s->what);
    bool some = s->given && s->to != UINT64_MAX;
    bool any = s->given || s->to != UINT64_MAX;
    if (move ? s->plan == any || (any && !some) : s->plan || any)
        return peal_fail(PEAL_EXIT_USAGE, "usage",
                         move ? "move needs either --slots with --to, or --plan"
                              : "--slots, --to and --plan are for move");
    if (s->from.path == NULL)
        return peal_fail(PEAL_EXIT_USAGE, "usage", "-c FILE is needed: it says where routers are");
    return PEAL_EXIT_OK;
}

static bool is_same(const struct peal_slot *a, const struct peal_slot *b)
{
    return a->owner == b->owner && a->generation == b->generation;
}

static void print_table(const struct peal_slot *slots)
{
    for (size_t slot = 0, next; slot < PEAL_SLOTS; slot = next) {
        for (next = slot + 1; next < PEAL_SLOTS && is_same(&slots[slot], &slots[next]);)
            next++;
        printf("  %4zu-%-4zu ", slot, next - 1);
        if (slots[slot].owner == PEAL_SLOT_NOBODY)
            printf("not known\n");
        else
            printf("router %u  generation %llu\n", slots[slot].owner,
                   (unsigned long long)slots[slot].generation);
    }
}

/* Learns what all routers know; show: prints what each one says. Those that do not answer are
 * named. */
static int ask_all(struct slots *s, bool show)
{
    size_t answered = 0;
    size_t contradicted = 0;
    peal_slots_clear(s->known);
    for (size_t i = 0; i < s->config->cluster.router_count; i++) {
        struct peal_slot slots[PEAL_SLOTS];
        const char *rpc = s->config->cluster.routers[i].rpc;
        enum peal_err err = peal_operator_table(s->op, i, TABLE_MS, slots);
        if (show) printf("router %zu  %s%s\n", i, rpc, err == PEAL_OK ? "" : "  does not answer");
        if (err != PEAL_OK && !show)
            return peal_fail(PEAL_EXIT_UNAVAILABLE, peal_err_word(err),
                             "router %zu at %s does not answer", i, rpc);
        if (err != PEAL_OK) continue;
        answered++;
        if (show) print_table(slots);
        for (size_t slot = 0; slot < PEAL_SLOTS; slot++) {
            enum peal_slot_verdict verdict = peal_slot_judge(&s->known[slot], &slots[slot]);
            if (verdict == PEAL_SLOT_NEWER) s->known[slot] = slots[slot];
            contradicted += verdict == PEAL_SLOT_CONFLICT;
        }
    }
    fflush(stdout);
    if (contradicted > 0)
        return peal_fail(PEAL_EXIT_REFUSED, "contradicted",
                         "routers claim %zu slots against each other: nobody serves them",
                         contradicted);
    if (answered < s->config->cluster.router_count)
        return peal_fail(PEAL_EXIT_UNAVAILABLE, "timeout", "not every router answers");
    return PEAL_EXIT_OK;
}

/* What the command asks for: owners of all slots. */
static void decide(struct slots *s)
{
    if (!s->given) {
        peal_slots_plan(s->known, s->config->cluster.router_count, s->owners);
        return;
    }
    for (size_t slot = 0; slot < PEAL_SLOTS; slot++) {
        bool meant = slot >= s->first && slot <= s->last;
        s->owners[slot] = meant ? (uint16_t)s->to : s->known[slot].owner;
    }
}

/* Where a run of slots ends that make the same move. */
static size_t run_end(const struct slots *s, size_t slot)
{
    size_t next = slot + 1;
    while (next < PEAL_SLOTS && s->owners[next] == s->owners[slot] &&
           s->known[next].owner == s->known[slot].owner)
        next++;
    return next;
}

static int plan(struct slots *s)
{
    size_t count = 0;
    for (size_t slot = 0, next; slot < PEAL_SLOTS; slot = next) {
        next = run_end(s, slot);
        if (s->owners[slot] == s->known[slot].owner) {
            printf("%4zu-%-4zu router %u\n", slot, next - 1, s->owners[slot]);
        } else {
            printf("%4zu-%-4zu router %u -> router %u\n", slot, next - 1, s->known[slot].owner,
                   s->owners[slot]);
            count += next - slot;
        }
    }
    printf("%zu slots to move\n", count);
    return PEAL_EXIT_OK;
}

static int move_one(struct slots *s, uint16_t slot)
{
    char why[300];
    size_t from = s->known[slot].owner;
    if (from >= s->config->cluster.router_count)
        return peal_fail(PEAL_EXIT_CONFIG, "configuration",
                         "slot %u belongs to a router that is not in the list", slot);
    enum peal_err err = PEAL_EAGAIN;
    int silences = 0;
    for (int i = 0; i < MOVE_TRIES && (err == PEAL_EAGAIN || err == PEAL_ETIMEOUT); i++) {
        if (i > 0) usleep(AGAIN_US);
        if (err == PEAL_ETIMEOUT && ++silences == SILENCES) break;
        err = peal_operator_move(s->op, slot, from, s->owners[slot], MOVE_MS, why, sizeof why);
    }
    if (err == PEAL_OK) return PEAL_EXIT_OK;
    return peal_fail(PEAL_EXIT_UNAVAILABLE, peal_err_word(err),
                     "slot %u stays with router %zu, or its move is not confirmed: %s; "
                     "run the command again",
                     slot, from, why);
}

static int move(struct slots *s)
{
    if (s->given && s->to >= s->config->cluster.router_count)
        return peal_fail(PEAL_EXIT_USAGE, "usage", "there is no router %llu in the list",
                         (unsigned long long)s->to);
    for (size_t slot = 0, next; slot < PEAL_SLOTS; slot = next) {
        next = run_end(s, slot);
        if (s->owners[slot] == s->known[slot].owner) continue;
        for (size_t at = slot; at < next; at++) {
            int rc = move_one(s, (uint16_t)at);
            if (rc != PEAL_EXIT_OK) return rc;
        }
        printf("%4zu-%-4zu router %u -> router %u\n", slot, next - 1, s->known[slot].owner,
               s->owners[slot]);
        fflush(stdout);
    }
    return PEAL_EXIT_OK;
}

static int run(struct slots *s)
{
    char why[300];
    struct peal_bus_use use = {.node = true}; /* it speaks at the same doors */
    struct peal_bus_security security = {0};
    enum peal_err err = peal_bus_security_load(s->config, &use, &security, why, sizeof why);
    if (err == PEAL_OK) err = peal_operator_open(s->config, &security, &s->op, why, sizeof why);
    peal_bus_security_fini(&security);
    if (err != PEAL_OK) return peal_fail(PEAL_EXIT_CONFIG, peal_err_word(err), "%s", why);
    bool show = strcmp(s->what, "show") == 0;
    int rc = ask_all(s, show);
    if (rc == PEAL_EXIT_OK && !show) {
        decide(s);
        rc = strcmp(s->what, "plan") == 0 ? plan(s) : move(s);
    }
    peal_operator_close(s->op);
    return rc;
}

int peal_verb_slots(int argc, char **argv)
{
    struct slots *s = calloc(1, sizeof *s);
    if (s == NULL) return peal_fail_call(PEAL_ENOMEM, "There is not enough memory.");
    s->to = UINT64_MAX;
    int rc = options_read(argc, argv, s);
    if (rc == PEAL_EXIT_OK && s->help) {
        rc = peal_print(peal_span_of(usage));
    } else if (rc == PEAL_EXIT_OK) {
        s->from.environment = environ;
        s->from.sets = (const char *const *)s->sets.at;
        s->from.set_count = s->sets.count;
        rc = peal_settings_load(&s->from, &s->config);
        if (rc == PEAL_EXIT_OK) rc = run(s);
    }
    peal_config_free(s->config);
    peal_args_list_fini(&s->sets);
    free(s);
    return rc;
}

/* bench/keep.c: peal-keep, messages put where they are kept. keep_plan.c has the command line.
 *
 * A closed loop: so many messages wait for the word that they are kept, and the next one leaves
 * when such a word comes. One thread; what else runs in this process is a server's. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "bench/figures.h"
#include "bench/meter.h"
#include "bench/sink.h"
#include "bench/stamp.h"

enum {
    WAIT_MS = 10,
    QUIET_NS_S = 30, /* so long nothing may happen before one gives up */
    MEMORY_NS = 50 * 1000000,
    MEMORY_WARM = 8 * PEAL_KEEP_PRELOAD_WINDOW, /* messages before it is looked at */
    SECONDS_MAX = 3600                          /* each has a count */
};

/* CPU in ns at one moment. */
struct mark {
    uint64_t now;
    uint64_t servers[PEAL_KEEP_PIDS_MAX];
    uint64_t self;
    uint64_t thread; /* the publisher's alone */
};

struct keep {
    const struct peal_keep_plan *plan;
    struct peal_sink sink;
    uint64_t *sent_ns; /* of each slot */
    uint32_t *free;    /* slots that nobody uses */
    uint32_t free_count;
    uint32_t under_way;
    uint64_t answers;
    uint64_t random;
    char *payload;

    bool measuring;
    struct mark before;
    struct mark after;
    uint64_t put;
    uint64_t stored;
    uint64_t refused;
    uint64_t preloaded;
    double preload_s;
    uint64_t last_ns; /* the last answer */
    uint32_t each_second[SECONDS_MAX];
    struct peal_hist latency;
    uint64_t memory_ns; /* when it was read */
    uint64_t memory_before;
    uint64_t memory_answers; /* messages until then */
    uint64_t memory_most;
};

static bool fail(struct keep *keep, const char *what)
{
    if (keep->sink.why[0] == '\0') snprintf(keep->sink.why, sizeof(keep->sink.why), "%s", what);
    return false;
}

static uint64_t thread_cpu_ns(void)
{
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

static bool mark_take(struct keep *keep, struct mark *out)
{
    const struct peal_keep_plan *plan = keep->plan;
    out->now = peal_meter_now_ns();
    for (uint32_t i = 0; i < plan->pid_count; i++)
        if (!peal_meter_alive(plan->pids[i]) || !peal_meter_cpu_ns(plan->pids[i], &out->servers[i]))
            return fail(keep, "a server process is gone");
    out->thread = thread_cpu_ns();
    return peal_meter_cpu_ns(getpid(), &out->self) || fail(keep, "no own CPU clock");
}

/* What is allocated for operations and commits, and then used again, is there once a quarter of the
 * messages has passed: what grows from then on grows by messages. */
static void memory_look(struct keep *keep, uint64_t now_ns)
{
    uint64_t bytes;
    if (!keep->plan->into->in_process || keep->answers < MEMORY_WARM ||
        keep->answers < keep->plan->preload / 4)
        return;
    if (keep->memory_before != 0 && now_ns - keep->memory_ns < MEMORY_NS) return;
    keep->memory_ns = now_ns;
    if (!peal_meter_anonymous(getpid(), &bytes)) return;
    if (keep->memory_before == 0) {
        keep->memory_before = bytes;
        keep->memory_answers = keep->answers;
    }
    if (bytes > keep->memory_most) keep->memory_most = bytes;
}

/* ---- The loop ----------------------------------------------------------------------------- */

static void on_answer(void *ctx, uint32_t slot, bool stored)
{
    struct keep *keep = ctx;
    uint64_t sent_ns = keep->sent_ns[slot];
    keep->free[keep->free_count++] = slot;
    keep->under_way--;
    keep->answers++;
    if (!keep->measuring) {
        if (stored) keep->preloaded++;
        return;
    }
    if (!stored) {
        keep->refused++;
        return;
    }
    keep->last_ns = peal_meter_now_ns();
    keep->stored++;
    peal_hist_add(&keep->latency, keep->last_ns - sent_ns);
    uint64_t second = (keep->last_ns - keep->before.now) / 1000000000;
    if (second < SECONDS_MAX) keep->each_second[second]++;
}

static uint32_t user_next(struct keep *keep, uint64_t number)
{
    if (!keep->measuring) return (uint32_t)(number % keep->plan->users);
    keep->random ^= keep->random << 13;
    keep->random ^= keep->random >> 7;
    keep->random ^= keep->random << 17;
    return (uint32_t)((keep->random >> 32) * keep->plan->users >> 32);
}

/* A preloaded message says which one of its user it is: who reads it later sees whether one
 * is missing. */
static enum peal_err put_one(struct keep *keep, uint64_t number, uint64_t now_ns)
{
    uint32_t user = user_next(keep, number);
    uint32_t slot = keep->free[keep->free_count - 1];
    struct peal_stamp stamp = {.sent_ns = now_ns,
                               .seq = (uint32_t)(number / keep->plan->users + 1),
                               .index = (uint32_t)number};
    peal_stamp_write(keep->payload, &stamp);
    keep->sent_ns[slot] = now_ns;
    struct peal_span payload = {keep->payload, keep->plan->payload};
    enum peal_err err = keep->plan->into->put(&keep->sink, user, slot, payload);
    if (err != PEAL_OK) return err;
    keep->free_count--;
    keep->under_way++;
    return PEAL_OK;
}

/* Puts `count` messages, or as many as until_ns allows, and takes all answers. */
static bool loop(struct keep *keep, uint64_t count, uint64_t until_ns, uint32_t window)
{
    const struct peal_sink_kind *into = keep->plan->into;
    uint64_t put = 0;
    uint64_t answers = keep->answers;
    uint64_t moved_ns = peal_meter_now_ns();
    for (;;) {
        uint64_t now_ns = peal_meter_now_ns();
        enum peal_err err = PEAL_OK;
        while (err == PEAL_OK && put < count && now_ns < until_ns && keep->under_way < window) {
            err = put_one(keep, put, now_ns);
            if (err == PEAL_OK) put++;
            now_ns = peal_meter_now_ns();
        }
        if (err != PEAL_OK && err != PEAL_EAGAIN) return fail(keep, "put");
        if (into->flush(&keep->sink) != PEAL_OK) return fail(keep, "flush");
        keep->put = put;
        if (keep->under_way == 0 && (put == count || now_ns >= until_ns)) return true;
        if (into->take(&keep->sink, WAIT_MS) != PEAL_OK) return fail(keep, "take");
        memory_look(keep, now_ns);
        if (keep->answers != answers) moved_ns = now_ns;
        answers = keep->answers;
        if (now_ns > moved_ns + QUIET_NS_S * 1000000000ULL)
            return fail(keep, "no answer comes any more");
    }
}

static bool run(struct keep *keep)
{
    const struct peal_keep_plan *plan = keep->plan;
    if (plan->into->open(&keep->sink) != PEAL_OK) return fail(keep, "open");
    uint64_t began_ns = peal_meter_now_ns();
    if (!loop(keep, plan->preload, UINT64_MAX, PEAL_KEEP_PRELOAD_WINDOW)) return false;
    keep->preload_s = (double)(peal_meter_now_ns() - began_ns) / 1e9;
    if (keep->preloaded < plan->preload) return fail(keep, "the preload was refused");
    if (plan->count == 0) return true;
    if (!mark_take(keep, &keep->before)) return false;
    keep->measuring = true;
    keep->sink.measuring = true;
    uint64_t until_ns = keep->before.now + (uint64_t)(plan->seconds * 1e9);
    if (!loop(keep, plan->count, until_ns, plan->window)) return false;
    keep->sink.measuring = false;
    if (!mark_take(keep, &keep->after)) return false;
    return plan->into->check == NULL || plan->into->check(&keep->sink) == PEAL_OK ||
           fail(keep, "check");
}

/* ---- The report --------------------------------------------------------------------------- */

static double cpu_of_servers(const struct keep *keep)
{
    const struct peal_keep_plan *plan = keep->plan;
    double self = (double)(keep->after.self - keep->before.self) / 1e9;
    double thread = (double)(keep->after.thread - keep->before.thread) / 1e9;
    double servers = 0;
    for (uint32_t i = 0; i < plan->pid_count; i++)
        servers += (double)(keep->after.servers[i] - keep->before.servers[i]) / 1e9;
    if (plan->into == &peal_sink_file) return thread;
    return plan->into->in_process ? self - thread : servers;
}

/* Of the publisher's threads that which has least time left: its own, or all others together,
 * which are those of ZeroMQ. A floor publishes to itself. */
static double cpu_of_publisher(const struct keep *keep)
{
    double self = (double)(keep->after.self - keep->before.self) / 1e9;
    double thread = (double)(keep->after.thread - keep->before.thread) / 1e9;
    if (keep->plan->into == &peal_sink_file) return 0;
    return keep->plan->into->in_process || thread > self - thread ? thread : self - thread;
}

/* Stored in the worst of the whole seconds. */
static uint32_t slowest_second(const struct keep *keep)
{
    uint64_t whole = (keep->last_ns - keep->before.now) / 1000000000;
    uint32_t least = UINT32_MAX;
    for (uint64_t i = 0; i < whole && i < SECONDS_MAX; i++)
        if (keep->each_second[i] < least) least = keep->each_second[i];
    return least == UINT32_MAX ? 0 : least;
}

/* {"<pid>": bytes} of what the servers have in no file. */
static void add_memory(struct peal_buf *out, const struct keep *keep)
{
    peal_figure_key(out, "anonymous");
    peal_buf_add_char(out, '{');
    for (uint32_t i = 0; i < keep->plan->pid_count; i++) {
        char name[16];
        uint64_t bytes;
        snprintf(name, sizeof(name), "%d", (int)keep->plan->pids[i]);
        if (peal_meter_anonymous(keep->plan->pids[i], &bytes)) peal_figure_count(out, name, bytes);
    }
    peal_buf_add_char(out, '}');
}

static void add_measured(struct peal_buf *out, const struct keep *keep)
{
    double seconds = (double)(keep->last_ns - keep->before.now) / 1e9;
    double cpu = cpu_of_servers(keep);
    double publisher = cpu_of_publisher(keep);
    peal_figure_count(out, "published", keep->put);
    peal_figure_count(out, "stored", keep->stored);
    peal_figure_count(out, "refused", keep->refused);
    peal_figure_count(out, "lost", keep->sink.lost);
    peal_figure_count(out, "miscounted", keep->sink.miscounted);
    peal_figure_count(out, "acked", keep->sink.acks);
    peal_figure_real(out, "seconds", seconds);
    peal_figure_real(out, "per_second", peal_figure_ratio((double)keep->stored, seconds));
    peal_figure_real(out, "us_per_message", peal_figure_ratio(seconds * 1e6, (double)keep->stored));
    if (slowest_second(keep) > 0) peal_figure_count(out, "slowest_second", slowest_second(keep));
    peal_figure_real(out, "cpu_us_per_message", peal_figure_ratio(cpu * 1e6, (double)keep->stored));
    peal_figure_real(out, "server_busy", peal_figure_ratio(cpu, seconds));
    peal_figure_real(out, "publisher_busy", peal_figure_ratio(publisher, seconds));
    if (keep->sink.reopen_s > 0) peal_figure_real(out, "reopen_s", keep->sink.reopen_s);
    peal_figure_latency(out, &keep->latency);
    if (keep->plan->pid_count > 0) add_memory(out, keep);
}

static int print(const struct keep *keep, bool good)
{
    struct peal_buf out = {0};
    uint64_t all = keep->preloaded + keep->stored;
    peal_buf_add_char(&out, '{');
    peal_figure_text(&out, "into", keep->plan->into->name);
    peal_figure_count(&out, "users", keep->plan->users);
    peal_figure_count(&out, "window", keep->plan->window);
    peal_figure_count(&out, "preloaded", keep->preloaded);
    peal_figure_real(&out, "preload_s", keep->preload_s);
    if (keep->memory_before > 0 && all > keep->memory_answers)
        peal_figure_real(&out, "memory_per_message",
                         (double)(keep->memory_most - keep->memory_before) /
                             (double)(all - keep->memory_answers));
    if (good && keep->measuring) add_measured(&out, keep);
    if (!good) peal_figure_text(&out, "error", keep->sink.why);
    peal_buf_add_text(&out, "}\n");
    bool written = !out.failed && fwrite(out.at, 1, out.size, stdout) == out.size;
    peal_buf_fini(&out);
    return written && fflush(stdout) == 0 && good ? 0 : 1;
}

static bool keep_init(struct keep *keep, const struct peal_keep_plan *plan)
{
    keep->plan = plan;
    keep->random = plan->seed;
    keep->sink =
        (struct peal_sink){.kind = plan->into, .plan = plan, .on_answer = on_answer, .ctx = keep};
    keep->sent_ns = calloc(plan->slots, sizeof(*keep->sent_ns));
    keep->free = calloc(plan->slots, sizeof(*keep->free));
    keep->payload = malloc(plan->payload);
    if (keep->sent_ns == NULL || keep->free == NULL || keep->payload == NULL) return false;
    memset(keep->payload, 'x', plan->payload);
    for (uint32_t i = 0; i < plan->slots; i++)
        keep->free[keep->free_count++] = i;
    return true;
}

int main(int argc, char **argv)
{
    static struct keep keep;
    struct peal_keep_plan plan;
    int code = peal_keep_plan_read(&plan, argc, argv);
    if (code != 0) return code;
    signal(SIGPIPE, SIG_IGN);
    /* Timers are 50 us late by default. */
    prctl(PR_SET_TIMERSLACK, 1UL);
    bool good = keep_init(&keep, &plan) ? run(&keep) : fail(&keep, "memory");
    code = print(&keep, good);
    while (plan.stay && code == 0)
        pause();
    plan.into->close(&keep.sink);
    free(keep.sent_ns);
    free(keep.free);
    free(keep.payload);
    return code;
}

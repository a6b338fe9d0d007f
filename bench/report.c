#include "bench/report.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/json_write.h"

static void add_key(struct peal_buf *out, const char *name)
{
    peal_buf_add_format(out, "%s\"%s\":", out->at[out->size - 1] == '{' ? "" : ",", name);
}

static void add_count(struct peal_buf *out, const char *name, uint64_t number)
{
    add_key(out, name);
    peal_buf_add_u64(out, number);
}

static void add_real(struct peal_buf *out, const char *name, double number)
{
    add_key(out, name);
    peal_buf_add_format(out, "%.9g", number);
}

static void add_text(struct peal_buf *out, const char *name, const char *text)
{
    add_key(out, name);
    peal_json_add_string(out, peal_span_of(text));
}

static double ratio(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

static void add_latency(struct peal_buf *out, const struct peal_run *run)
{
    struct peal_hist *all = calloc(1, sizeof(*all));
    if (all == NULL) {
        out->failed = true;
        return;
    }
    for (uint32_t i = 0; i < run->plan->processes; i++)
        peal_hist_merge(all, &run->board->tallies[i].latency);
    add_key(out, "latency_us");
    peal_buf_add_char(out, '{');
    add_real(out, "min", (double)peal_hist_quantile(all, 0) / 1e3);
    add_real(out, "p50", (double)peal_hist_quantile(all, 500) / 1e3);
    add_real(out, "p90", (double)peal_hist_quantile(all, 900) / 1e3);
    add_real(out, "p99", (double)peal_hist_quantile(all, 990) / 1e3);
    add_real(out, "max", (double)all->max / 1e3);
    peal_buf_add_char(out, '}');
    free(all);
}

static void add_deliveries(struct peal_buf *out, const struct peal_run *run)
{
    uint64_t delivered = peal_run_sum(run, delivered);
    add_count(out, "published", run->published);
    add_count(out, "expected", run->expected);
    add_count(out, "delivered", delivered);
    add_count(out, "lost", run->expected > delivered ? run->expected - delivered : 0);
    add_count(out, "gaps", peal_run_sum(run, gaps));
    add_count(out, "gap_messages", peal_run_sum(run, missed));
    add_count(out, "skips", peal_run_sum(run, skips));
    add_count(out, "duplicates", peal_run_sum(run, repeats));
    add_count(out, "disorder", peal_run_sum(run, late));
    add_count(out, "strange", peal_run_sum(run, strange));
    add_count(out, "closed", peal_run_sum(run, closed));
    add_count(out, "refused", run->door.refused);
}

/* From the first publish to the last delivery or handshake. */
static double seconds_of(const struct peal_run *run)
{
    uint64_t last_ns = 0;
    for (uint32_t i = 0; i < run->plan->processes; i++) {
        uint64_t ns = atomic_load(&run->board->tallies[i].last_ns);
        if (ns > last_ns) last_ns = ns;
    }
    if (last_ns <= run->before.now) return 0;
    return (double)(last_ns - run->before.now) / 1e9;
}

static void add_cpu(struct peal_buf *out, const struct peal_run *run, double seconds,
                    const char *per_name, uint64_t per)
{
    const struct peal_plan *plan = run->plan;
    /* A server that died takes its clock along. */
    if (run->after.now == 0) return;
    double clients = (double)(run->after.clients - run->before.clients) / 1e9;
    double self = (double)(run->after.self - run->before.self) / 1e9;
    double servers = 0;
    add_key(out, "cpu_s");
    peal_buf_add_char(out, '{');
    for (uint32_t i = 0; i < plan->pid_count; i++) {
        char pid[16];
        double used = (double)(run->after.servers[i] - run->before.servers[i]) / 1e9;
        snprintf(pid, sizeof(pid), "%d", (int)plan->pids[i]);
        add_real(out, pid, used);
        servers += used;
    }
    peal_buf_add_char(out, '}');
    add_real(out, per_name, ratio(servers * 1e6, (double)per));
    add_real(out, "server_busy", ratio(servers, seconds));
    add_real(out, "client_cpu_s", clients);
    add_real(out, "client_busy", ratio(clients, seconds * plan->processes));
    add_real(out, "publisher_cpu_s", self);
    add_real(out, "publisher_busy", ratio(self, seconds));
}

static void add_traffic(struct peal_buf *out, const struct peal_run *run)
{
    double seconds = seconds_of(run);
    uint64_t delivered = peal_run_sum(run, delivered);
    add_deliveries(out, run);
    add_real(out, "seconds", seconds);
    add_real(out, "per_second", ratio((double)delivered, seconds));
    add_cpu(out, run, seconds, "cpu_us_per_delivery", delivered);
    add_real(out, "publisher_late_us", (double)run->late_max_ns / 1e3);
    add_count(out, "warm_up_tries", run->warm_tries);
    add_latency(out, run);
}

static void add_handshakes(struct peal_buf *out, const struct peal_run *run)
{
    double seconds = seconds_of(run);
    uint64_t shaken = peal_run_sum(run, shaken);
    add_count(out, "handshakes", shaken);
    add_real(out, "seconds", seconds);
    add_real(out, "per_second", ratio((double)shaken, seconds));
    add_cpu(out, run, seconds, "cpu_us_per_handshake", shaken);
}

/* {"<pid>": {"<connections>": bytes}} and {"<pid>": bytes per connection}, from the first to the
 * last reading. */
static void add_pss(struct peal_buf *out, const struct peal_run *run)
{
    add_key(out, "pss");
    peal_buf_add_char(out, '{');
    for (uint32_t i = 0; i < run->plan->pid_count; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%d", (int)run->plan->pids[i]);
        add_key(out, name);
        peal_buf_add_char(out, '{');
        for (uint32_t step = 0; step < run->pss_count; step++) {
            snprintf(name, sizeof(name), "%u", run->pss_at[step]);
            add_count(out, name, run->pss[step][i]);
        }
        peal_buf_add_char(out, '}');
    }
    peal_buf_add_char(out, '}');
    if (run->pss_count < 2) return;
    uint32_t last = run->pss_count - 1;
    add_key(out, "pss_per_connection");
    peal_buf_add_char(out, '{');
    for (uint32_t i = 0; i < run->plan->pid_count; i++) {
        char name[16];
        double more = (double)run->pss[last][i] - (double)run->pss[0][i];
        snprintf(name, sizeof(name), "%d", (int)run->plan->pids[i]);
        add_real(out, name, more / (run->pss_at[last] - run->pss_at[0]));
    }
    peal_buf_add_char(out, '}');
}

void peal_report_add(struct peal_buf *out, const struct peal_run *run)
{
    const struct peal_plan *plan = run->plan;
    peal_buf_add_char(out, '{');
    add_text(out, "verb", plan->verb_name);
    add_text(out, "target", plan->target_name);
    add_count(out, "connections", run->connections);
    add_count(out, "groups", plan->groups);
    add_count(out, "groups_per_connection", plan->groups_per_connection);
    add_count(out, "processes", plan->processes);
    add_count(out, "payload", plan->payload);
    if (run->measured && plan->verb == PEAL_VERB_SHAKE) add_handshakes(out, run);
    if (run->measured && plan->verb != PEAL_VERB_SHAKE) add_traffic(out, run);
    if (run->pss_count > 0) add_pss(out, run);
    if (run->restless) add_text(out, "note", "a server did not become idle within 30 s");
    if (run->error[0] != '\0') add_text(out, "error", run->error);
    peal_buf_add_text(out, "}\n");
}

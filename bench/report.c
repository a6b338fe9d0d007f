#include "bench/report.h"

#include <stdio.h>
#include <stdlib.h>

#include "bench/figures.h"

static void add_latency(struct peal_buf *out, const struct peal_run *run)
{
    struct peal_hist *all = calloc(1, sizeof(*all));
    if (all == NULL) {
        out->failed = true;
        return;
    }
    for (uint32_t i = 0; i < run->plan->processes; i++)
        peal_hist_merge(all, &run->board->tallies[i].latency);
    peal_figure_latency(out, all);
    free(all);
}

static void add_deliveries(struct peal_buf *out, const struct peal_run *run)
{
    uint64_t delivered = peal_run_sum(run, delivered);
    peal_figure_count(out, "published", run->published);
    peal_figure_count(out, "expected", run->expected);
    peal_figure_count(out, "delivered", delivered);
    peal_figure_count(out, "lost", run->expected > delivered ? run->expected - delivered : 0);
    peal_figure_count(out, "gaps", peal_run_sum(run, gaps));
    peal_figure_count(out, "gap_messages", peal_run_sum(run, missed));
    peal_figure_count(out, "skips", peal_run_sum(run, skips));
    peal_figure_count(out, "duplicates", peal_run_sum(run, repeats));
    peal_figure_count(out, "disorder", peal_run_sum(run, late));
    peal_figure_count(out, "strange", peal_run_sum(run, strange));
    peal_figure_count(out, "closed", peal_run_sum(run, closed));
    peal_figure_count(out, "refused", run->door.refused);
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
    peal_figure_key(out, "cpu_s");
    peal_buf_add_char(out, '{');
    for (uint32_t i = 0; i < plan->pid_count; i++) {
        char pid[16];
        double used = (double)(run->after.servers[i] - run->before.servers[i]) / 1e9;
        snprintf(pid, sizeof(pid), "%d", (int)plan->pids[i]);
        peal_figure_real(out, pid, used);
        servers += used;
    }
    peal_buf_add_char(out, '}');
    peal_figure_real(out, per_name, peal_figure_ratio(servers * 1e6, (double)per));
    peal_figure_real(out, "server_busy", peal_figure_ratio(servers, seconds));
    peal_figure_real(out, "client_cpu_s", clients);
    peal_figure_real(out, "client_busy", peal_figure_ratio(clients, seconds * plan->processes));
    peal_figure_real(out, "publisher_cpu_s", self);
    peal_figure_real(out, "publisher_busy", peal_figure_ratio(self, seconds));
}

static void add_traffic(struct peal_buf *out, const struct peal_run *run)
{
    double seconds = seconds_of(run);
    uint64_t delivered = peal_run_sum(run, delivered);
    add_deliveries(out, run);
    peal_figure_real(out, "seconds", seconds);
    peal_figure_real(out, "per_second", peal_figure_ratio((double)delivered, seconds));
    add_cpu(out, run, seconds, "cpu_us_per_delivery", delivered);
    peal_figure_real(out, "publisher_late_us", (double)run->late_max_ns / 1e3);
    peal_figure_count(out, "warm_up_tries", run->warm_tries);
    add_latency(out, run);
}

static void add_handshakes(struct peal_buf *out, const struct peal_run *run)
{
    double seconds = seconds_of(run);
    uint64_t shaken = peal_run_sum(run, shaken);
    peal_figure_count(out, "handshakes", shaken);
    peal_figure_real(out, "seconds", seconds);
    peal_figure_real(out, "per_second", peal_figure_ratio((double)shaken, seconds));
    add_cpu(out, run, seconds, "cpu_us_per_handshake", shaken);
}

/* {"<pid>": {"<connections>": bytes}} and {"<pid>": bytes per connection}, from the first to the
 * last reading. */
static void add_pss(struct peal_buf *out, const struct peal_run *run)
{
    peal_figure_key(out, "pss");
    peal_buf_add_char(out, '{');
    for (uint32_t i = 0; i < run->plan->pid_count; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%d", (int)run->plan->pids[i]);
        peal_figure_key(out, name);
        peal_buf_add_char(out, '{');
        for (uint32_t step = 0; step < run->pss_count; step++) {
            snprintf(name, sizeof(name), "%u", run->pss_at[step]);
            peal_figure_count(out, name, run->pss[step][i]);
        }
        peal_buf_add_char(out, '}');
    }
    peal_buf_add_char(out, '}');
    if (run->pss_count < 2) return;
    uint32_t last = run->pss_count - 1;
    peal_figure_key(out, "pss_per_connection");
    peal_buf_add_char(out, '{');
    for (uint32_t i = 0; i < run->plan->pid_count; i++) {
        char name[16];
        double more = (double)run->pss[last][i] - (double)run->pss[0][i];
        snprintf(name, sizeof(name), "%d", (int)run->plan->pids[i]);
        peal_figure_real(out, name, more / (run->pss_at[last] - run->pss_at[0]));
    }
    peal_buf_add_char(out, '}');
}

void peal_report_add(struct peal_buf *out, const struct peal_run *run)
{
    const struct peal_plan *plan = run->plan;
    peal_buf_add_char(out, '{');
    peal_figure_text(out, "verb", plan->verb_name);
    peal_figure_text(out, "target", plan->target_name);
    peal_figure_count(out, "connections", run->connections);
    peal_figure_count(out, "groups", plan->groups);
    peal_figure_count(out, "groups_per_connection", plan->groups_per_connection);
    peal_figure_count(out, "processes", plan->processes);
    peal_figure_count(out, "payload", plan->payload);
    if (run->measured && plan->verb == PEAL_VERB_SHAKE) add_handshakes(out, run);
    if (run->measured && plan->verb != PEAL_VERB_SHAKE) add_traffic(out, run);
    if (run->pss_count > 0) add_pss(out, run);
    if (run->restless) peal_figure_text(out, "note", "a server did not become idle within 30 s");
    if (run->error[0] != '\0') peal_figure_text(out, "error", run->error);
    peal_buf_add_text(out, "}\n");
}

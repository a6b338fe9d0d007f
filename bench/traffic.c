#include "bench/traffic.h"

#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "bench/meter.h"
#include "bench/stamp.h"

enum {
    WARM_TRIES_MAX = 30,
    WARM_MS = 1000,
    WARM_BATCH = 64, /* messages, then a pause: it is no flood yet */
    WARM_PAUSE_NS = 1000000,
    FLUSH_MESSAGES = 64,      /* closed loop: so many leave together at most */
    STEP_NS = 500000,         /* of an open loop above 2,000 bursts a second */
    CHECK_NS = 100 * 1000000, /* how often one looks whether all still live */
    POLL_NS = 1000000,
    NAP_NS = 20000, /* after a wake that brought no room; doubles with each */
    NAP_NS_MAX = 1000000
};

bool peal_traffic_init(struct peal_traffic *traffic, struct peal_run *run)
{
    const struct peal_plan *plan = run->plan;
    *traffic = (struct peal_traffic){.run = run, .random = plan->seed};
    traffic->members = calloc(plan->groups, sizeof(uint32_t));
    traffic->seqs = calloc(plan->groups, sizeof(uint32_t));
    traffic->ring = calloc(run->board->ring_mask + 1, sizeof(uint32_t));
    traffic->payload = malloc(plan->payload);
    if (traffic->members == NULL || traffic->seqs == NULL || traffic->ring == NULL ||
        traffic->payload == NULL)
        return peal_run_fail(run, "memory");
    memset(traffic->payload, 'x', plan->payload);
    traffic->payload[0] = '"';
    traffic->payload[plan->payload - 1] = '"';
    return peal_door_open(&run->door, plan) == PEAL_OK || peal_run_fail(run, "%s", run->door.why);
}

void peal_traffic_fini(struct peal_traffic *traffic)
{
    if (traffic->run != NULL) peal_door_close(&traffic->run->door);
    free(traffic->members);
    free(traffic->seqs);
    free(traffic->ring);
    free(traffic->payload);
}

static void sleep_until(uint64_t ns)
{
    struct timespec time = {.tv_sec = (time_t)(ns / 1000000000),
                            .tv_nsec = (long)(ns % 1000000000)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

/* When the door fails because the server is gone, that is the thing to say. */
static bool door_failed(struct peal_run *run)
{
    return peal_run_check(run) && peal_run_fail(run, "%s", run->door.why);
}

static bool publish(struct peal_traffic *traffic, uint32_t k, uint64_t sent_ns, uint32_t index)
{
    struct peal_run *run = traffic->run;
    struct peal_stamp stamp = {.sent_ns = sent_ns, .seq = ++traffic->seqs[k], .index = index};
    peal_stamp_write(traffic->payload + 1, &stamp);
    struct peal_span payload = {traffic->payload, run->plan->payload};
    return peal_door_publish(&run->door, k, payload) == PEAL_OK || door_failed(run);
}

static bool flush(struct peal_traffic *traffic)
{
    struct peal_run *run = traffic->run;
    return peal_door_flush(&run->door) == PEAL_OK || door_failed(run);
}

static bool settle(struct peal_traffic *traffic)
{
    struct peal_run *run = traffic->run;
    return peal_door_settle(&run->door) == PEAL_OK || door_failed(run);
}

/* ---- Warm-up ------------------------------------------------------------------------------ */

static bool group_is_warm(const struct peal_traffic *traffic, uint32_t k)
{
    const struct peal_plan *plan = traffic->run->plan;
    uint32_t warm = 0;
    for (uint32_t i = 0; i < plan->processes; i++)
        warm += atomic_load_explicit(&traffic->run->board->warm[(size_t)i * plan->groups + k],
                                     memory_order_relaxed);
    return warm >= traffic->members[k];
}

static uint32_t groups_cold(const struct peal_traffic *traffic)
{
    uint32_t cold = 0;
    for (uint32_t k = 0; k < traffic->run->plan->groups; k++)
        if (!group_is_warm(traffic, k)) cold++;
    return cold;
}

static bool warm_try(struct peal_traffic *traffic)
{
    struct peal_run *run = traffic->run;
    uint32_t count = 0;
    for (uint32_t k = 0; k < run->plan->groups; k++) {
        if (group_is_warm(traffic, k)) continue;
        if (!publish(traffic, k, 0, 0)) return false;
        if (++count % WARM_BATCH != 0) continue;
        if (!flush(traffic) || !peal_run_check(run)) return false;
        sleep_until(peal_meter_now_ns() + WARM_PAUSE_NS);
    }
    if (!flush(traffic) || !settle(traffic)) return false;
    if (run->door.refused > 0) return peal_run_fail(run, "%s", run->door.why);
    uint64_t until_ms = peal_clock_mono_ms() + WARM_MS;
    while (groups_cold(traffic) > 0 && peal_clock_mono_ms() < until_ms) {
        if (!peal_run_check(run)) return false;
        sleep_until(peal_meter_now_ns() + 10 * POLL_NS);
    }
    return true;
}

bool peal_traffic_warm_up(struct peal_traffic *traffic)
{
    struct peal_run *run = traffic->run;
    for (uint32_t k = 0; k < run->plan->groups; k++)
        traffic->members[k] = peal_plan_members(run->plan, k, run->connections);
    uint32_t tries = 0;
    while (groups_cold(traffic) > 0) {
        if (tries++ == WARM_TRIES_MAX)
            return peal_run_fail(run, "%u groups have members that got nothing in the warm-up",
                                 groups_cold(traffic));
        if (!warm_try(traffic)) return false;
    }
    run->warm_tries += tries;
    return peal_run_wait_idle(run);
}

/* ---- Measured traffic --------------------------------------------------------------------- */

static bool publish_measured(struct peal_traffic *traffic, uint32_t k)
{
    struct peal_run *run = traffic->run;
    uint32_t index = (uint32_t)run->published;
    traffic->ring[index & run->board->ring_mask] = k;
    if (!publish(traffic, k, peal_meter_now_ns(), index)) return false;
    run->published++;
    run->expected += traffic->members[k];
    return true;
}

static uint32_t group_at_random(struct peal_traffic *traffic)
{
    traffic->random ^= traffic->random << 13;
    traffic->random ^= traffic->random >> 7;
    traffic->random ^= traffic->random << 17;
    return (uint32_t)((traffic->random >> 32) * traffic->run->plan->groups >> 32);
}

static uint32_t group_next(struct peal_traffic *traffic, uint64_t turn)
{
    const struct peal_plan *plan = traffic->run->plan;
    if (plan->verb == PEAL_VERB_RANDOM) return group_at_random(traffic);
    return (uint32_t)(turn % plan->groups);
}

static bool open_loop(struct peal_traffic *traffic, uint64_t bursts, uint32_t burst)
{
    struct peal_run *run = traffic->run;
    uint64_t start_ns = peal_meter_now_ns();
    uint64_t checked_ns = start_ns;
    /* At a high rate waking for each message would cost the publisher more than sending it, and
     * would starve the server of a small machine: they go in steps. */
    uint64_t step_ns = run->plan->rate > 1e9 / STEP_NS ? STEP_NS : 1;
    for (uint64_t b = 0; b < bursts; b++) {
        uint64_t due_ns = (uint64_t)((double)b * 1e9 / run->plan->rate);
        due_ns = start_ns + (due_ns + step_ns - 1) / step_ns * step_ns;
        uint64_t now_ns = peal_meter_now_ns();
        if (now_ns < due_ns) {
            sleep_until(due_ns);
            now_ns = peal_meter_now_ns();
        }
        if (now_ns - due_ns > run->late_max_ns) run->late_max_ns = now_ns - due_ns;
        uint32_t k = group_next(traffic, b);
        for (uint32_t i = 0; i < burst; i++)
            if (!publish_measured(traffic, k)) return false;
        if (!flush(traffic)) return false;
        if (now_ns - checked_ns < CHECK_NS) continue;
        if (!peal_run_check(run)) return false;
        checked_ns = now_ns;
    }
    return true;
}

/* Moves the tail behind the messages that everybody has. */
static void tail_advance(struct peal_traffic *traffic)
{
    struct peal_run *run = traffic->run;
    struct peal_board *board = run->board;
    uint32_t mask = board->ring_mask;
    for (; traffic->tail < run->published; traffic->tail++) {
        size_t place = traffic->tail & mask;
        uint32_t passed = 0;
        for (uint32_t i = 0; i < run->plan->processes; i++)
            passed += atomic_load(&board->passed[(size_t)i * (mask + 1) + place]);
        if (passed < traffic->members[traffic->ring[place]]) return;
        for (uint32_t i = 0; i < run->plan->processes; i++)
            atomic_store(&board->passed[(size_t)i * (mask + 1) + place], 0);
    }
}

/* Waits until at most `most` messages are under way. *quiet when nothing came for too long. */
static bool wait_for_room(struct peal_traffic *traffic, uint64_t most, bool *quiet)
{
    struct peal_run *run = traffic->run;
    uint64_t seen = peal_run_sum(run, delivered);
    uint64_t moved_ns = peal_meter_now_ns();
    uint64_t checked_ns = moved_ns;
    uint64_t nap_ns = 0;
    for (;;) {
        /* First said, then looked: a client that counts in between wakes us. */
        atomic_store(&run->board->waiting, 1);
        tail_advance(traffic);
        if (run->published - traffic->tail <= most) break;
        peal_board_wait(run->board, POLL_NS * 10);
        uint64_t now_ns = peal_meter_now_ns();
        /* Clients wake us at each turn, and a large group needs many turns for one message. */
        if (nap_ns > 0) sleep_until(now_ns + nap_ns);
        nap_ns = nap_ns == 0 ? NAP_NS : nap_ns < NAP_NS_MAX ? nap_ns * 2 : NAP_NS_MAX;
        if (now_ns - checked_ns < CHECK_NS) continue;
        checked_ns = now_ns;
        if (!peal_run_check(run)) return false;
        uint64_t delivered = peal_run_sum(run, delivered);
        if (delivered != seen) moved_ns = now_ns;
        seen = delivered;
        *quiet = now_ns - moved_ns > PEAL_RUN_QUIET_MS * 1000000ULL;
        if (*quiet) break;
    }
    atomic_store(&run->board->waiting, 0);
    return true;
}

static bool closed_loop(struct peal_traffic *traffic, bool *quiet)
{
    struct peal_run *run = traffic->run;
    const struct peal_plan *plan = run->plan;
    /* To be woken for each message would cost more than the message. */
    uint32_t room = plan->window / 4 == 0 ? 1 : plan->window / 4;
    while (run->published < plan->count && !*quiet) {
        if (run->published - traffic->tail >= plan->window) {
            if (!flush(traffic) || !wait_for_room(traffic, plan->window - room, quiet))
                return false;
            continue;
        }
        if (!publish_measured(traffic, group_next(traffic, run->published))) return false;
        if (run->published % FLUSH_MESSAGES == 0 && !flush(traffic)) return false;
    }
    return flush(traffic);
}

bool peal_traffic_measure(struct peal_traffic *traffic)
{
    struct peal_run *run = traffic->run;
    const struct peal_plan *plan = run->plan;
    bool quiet = false;
    bool good;
    if (!peal_run_mark(run, &run->before)) return false;
    run->measured = true;
    if (plan->window > 0)
        good = closed_loop(traffic, &quiet);
    else if (plan->verb == PEAL_VERB_RANDOM)
        good = open_loop(traffic, plan->count, 1);
    else
        good = open_loop(traffic, (uint64_t)(plan->rate * plan->seconds + 0.5), plan->burst);
    if (good && !quiet) good = peal_run_wait_delivered(run);
    good = peal_run_mark(run, &run->after) && good;
    if (!good) return false;
    return settle(traffic);
}

/* tests/unit/presence_rig.h: presence of a router between nodes that tests speak for, with what the
 * nodes are told kept. */
#ifndef PEAL_TESTS_PRESENCE_RIG_H
#define PEAL_TESTS_PRESENCE_RIG_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/metrics.h"
#include "router/presence.h"
#include "tests/unit/unit.h"

enum { EVENTS_MAX = 64, PEOPLE_MAX = 1000, BOOT_A = 11, BOOT_B = 12, SETTLE_MS = 10000 };

/* In place of the nodes a recorder of what they are told. */
struct told {
    uint64_t boot;
    uint64_t from;
    uint64_t to;
    uint64_t users;
    uint64_t connections;
    uint64_t flags;
    char names[256]; /* +came -left, separated by spaces */
};

struct world {
    struct peal_config *config;
    struct peal_presence *presence;
    uint64_t now_ms;
    uint64_t dead; /* boot of a node that is not heard */
    struct told events[EVENTS_MAX];
    size_t event_count;
    struct peal_person people[PEOPLE_MAX];
    struct peal_frame answer;
};

static inline void io_tell(void *ctx, uint64_t boot, const struct peal_frame *frame)
{
    struct world *w = ctx;
    assert_true(w->event_count < EVENTS_MAX);
    assert_int_equal(frame->type, PEAL_F_PRESENCE);
    assert_int_equal(frame->req, 0);
    struct told *told = &w->events[w->event_count++];
    *told = (struct told){.boot = boot,
                          .from = frame->from,
                          .to = frame->to,
                          .users = frame->users,
                          .connections = frame->connections,
                          .flags = frame->flags};
    for (size_t i = 0; i < frame->people.count; i++) {
        const struct peal_person *p = &frame->people.at[i];
        size_t used = strlen(told->names);
        snprintf(told->names + used, sizeof told->names - used, "%s%c%.*s", used > 0 ? " " : "",
                 p->count > 0 ? '+' : '-', (int)p->user.size, p->user.at);
    }
}

static inline bool io_alive(void *ctx, uint64_t boot)
{
    return ((struct world *)ctx)->dead != boot;
}

static inline void pass(struct world *w, uint64_t ms)
{
    /* In steps, as the shard's ticks are. */
    for (uint64_t end = w->now_ms + ms; w->now_ms < end;) {
        w->now_ms += end - w->now_ms < 50 ? end - w->now_ms : 50;
        peal_presence_set_time(w->presence, w->now_ms);
        peal_presence_on_tick(w->presence);
    }
}

static inline struct world *world_new(const char *yaml)
{
    struct world *w = calloc(1, sizeof *w);
    struct peal_config_sources from = {.text = yaml, .text_size = strlen(yaml)};
    struct peal_buf problems = {0};
    struct peal_presence_io io = {w, io_tell, io_alive};
    peal_log_set_level(PEAL_LOG_ERROR);
    if (peal_config_load(&from, &w->config, &problems) != PEAL_OK)
        fail_msg("%.*s", (int)problems.size, problems.at);
    peal_buf_fini(&problems);
    w->presence = peal_presence_new(w->config, &io, 1000);
    assert_non_null(w->presence);
    w->now_ms = 5000;
    peal_presence_set_time(w->presence, w->now_ms);
    return w;
}

static inline int setup(void **state)
{
    *state = world_new("{}");
    pass(*state, SETTLE_MS);
    return 0;
}

static inline int teardown(void **state)
{
    struct world *w = *state;
    int64_t before = peal_metrics_sum(PEAL_M_PRESENCE);
    peal_presence_free(w->presence);
    assert_true(before >= 0);
    assert_int_equal(peal_metrics_sum(PEAL_M_PRESENCE), 0); /* nothing was forgotten */
    peal_config_free(w->config);
    free(w);
    return 0;
}

struct said {
    uint64_t boot;
    uint64_t source;
    uint64_t flags;
    uint64_t from;
    uint64_t to;
    uint64_t total;
};

/* A report of group g: people is like "ann/1 bob/2 -/3 !4": the user and session of who is there,
 * `-` for nobody, `!` for who is gone. */
static inline enum peal_err report(struct world *w, struct said said, const char *people)
{
    static struct peal_person list[PEOPLE_MAX];
    char text[512];
    char *rest = text;
    uint64_t event;
    struct peal_frame f = {.type = PEAL_F_PRESENT,
                           .group = peal_span_of("g"),
                           .source = said.source,
                           .flags = said.flags,
                           .from = said.from,
                           .to = said.to,
                           .limit = said.total};
    snprintf(text, sizeof text, "%s", people);
    for (char *word; (word = strtok_r(rest, " ", &rest)) != NULL; f.people.count++) {
        struct peal_person *p = &list[f.people.count];
        char *slash = strchr(word, '/');
        *p = (struct peal_person){.count = word[0] != '!'};
        p->session = strtoull(slash == NULL ? word + 1 : slash + 1, NULL, 10);
        if (slash == NULL || word[0] == '-') continue;
        p->user = peal_span_make(word, (size_t)(slash - word));
    }
    f.people.at = list;
    return peal_presence_report(w->presence, said.boot, &f, &event);
}

enum { WHOLE = PEAL_FLAG_ALL | PEAL_FLAG_FIRST | PEAL_FLAG_LAST };

/* A source says all it has, version 1, with a watcher. */
static inline void say_all(struct world *w, uint64_t boot, uint64_t total, const char *people)
{
    assert_int_equal(
        report(w, (struct said){boot, 0, WHOLE | PEAL_FLAG_WATCH, 0, 1, total}, people), PEAL_OK);
}

static inline void say(struct world *w, uint64_t boot, uint64_t from, uint64_t total,
                       const char *people)
{
    assert_int_equal(
        report(w, (struct said){boot, 0, PEAL_FLAG_WATCH, from, from + 1, total}, people), PEAL_OK);
}

static inline void who(struct world *w, uint64_t after, size_t room)
{
    struct peal_frame in = {.req = 1, .group = peal_span_of("g"), .offset = after};
    peal_presence_who(w->presence, &in, w->people, room, &w->answer);
}

static inline void expect_there(struct world *w, uint64_t users, uint64_t connections)
{
    who(w, 0, PEOPLE_MAX);
    assert_int_equal(w->answer.users, users);
    assert_int_equal(w->answer.connections, connections);
}

static inline void expect_event(struct world *w, size_t i, const char *names, uint64_t users,
                                uint64_t connections)
{
    assert_true(i < w->event_count);
    assert_string_equal(w->events[i].names, names);
    assert_int_equal(w->events[i].users, users);
    assert_int_equal(w->events[i].connections, connections);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif

#include "router/presence.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/metrics.h"
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

static void io_tell(void *ctx, uint64_t boot, const struct peal_frame *frame)
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

static bool io_alive(void *ctx, uint64_t boot)
{
    return ((struct world *)ctx)->dead != boot;
}

static void pass(struct world *w, uint64_t ms)
{
    /* In steps, as the shard's ticks are. */
    for (uint64_t end = w->now_ms + ms; w->now_ms < end;) {
        w->now_ms += end - w->now_ms < 50 ? end - w->now_ms : 50;
        peal_presence_set_time(w->presence, w->now_ms);
        peal_presence_on_tick(w->presence);
    }
}

static struct world *world_new(const char *yaml)
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

static int setup(void **state)
{
    *state = world_new("{}");
    pass(*state, SETTLE_MS);
    return 0;
}

static int teardown(void **state)
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
static enum peal_err report(struct world *w, struct said said, const char *people)
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
static void say_all(struct world *w, uint64_t boot, uint64_t total, const char *people)
{
    assert_int_equal(
        report(w, (struct said){boot, 0, WHOLE | PEAL_FLAG_WATCH, 0, 1, total}, people), PEAL_OK);
}

static void say(struct world *w, uint64_t boot, uint64_t from, uint64_t total, const char *people)
{
    assert_int_equal(
        report(w, (struct said){boot, 0, PEAL_FLAG_WATCH, from, from + 1, total}, people), PEAL_OK);
}

static void who(struct world *w, uint64_t after, size_t room)
{
    struct peal_frame in = {.req = 1, .group = peal_span_of("g"), .offset = after};
    peal_presence_who(w->presence, &in, w->people, room, &w->answer);
}

static void expect_there(struct world *w, uint64_t users, uint64_t connections)
{
    who(w, 0, PEOPLE_MAX);
    assert_int_equal(w->answer.users, users);
    assert_int_equal(w->answer.connections, connections);
}

static void expect_event(struct world *w, size_t i, const char *names, uint64_t users,
                         uint64_t connections)
{
    assert_true(i < w->event_count);
    assert_string_equal(w->events[i].names, names);
    assert_int_equal(w->events[i].users, users);
    assert_int_equal(w->events[i].connections, connections);
}

static void presence_users_and_connections_are_counted_apart(void **state)
{
    struct world *w = *state;
    say_all(w, BOOT_A, 3, "ann/1 ann/2 bob/3");
    say_all(w, BOOT_B, 2, "ann/4 -/5");
    expect_there(w, 2, 5);
    assert_int_equal(w->answer.people.count, 2);
    assert_true(peal_span_is(w->people[0].user, "ann"));
    assert_int_equal(w->people[0].count, 3);
    assert_true(peal_span_is(w->people[1].user, "bob"));
    assert_int_equal(w->people[1].count, 1);
    assert_int_equal(w->answer.flags, 0);
    pass(w, 1000);
    assert_int_equal(w->event_count, 2); /* one to each node */
    expect_event(w, 0, "+ann +bob", 2, 5);
    assert_int_not_equal(w->events[0].boot, w->events[1].boot);
}

static void presence_return_within_the_grace_is_silent(void **state)
{
    struct world *w = *state;
    say_all(w, BOOT_A, 2, "ann/1 bob/2");
    pass(w, 6000);
    w->event_count = 0;
    say(w, BOOT_A, 1, 1, "!1");
    expect_there(w, 2, 1); /* ann is still there, without a connection */
    pass(w, 4900);
    assert_int_equal(report(w, (struct said){BOOT_B, 0, WHOLE, 0, 1, 1}, "ann/9"), PEAL_OK);
    pass(w, 20000);
    expect_there(w, 2, 2);
    for (size_t i = 0; i < w->event_count; i++)
        assert_string_equal(w->events[i].names, "");
}

static void presence_leave_is_told_after_the_grace(void **state)
{
    struct world *w = *state;
    say_all(w, BOOT_A, 3, "ann/1 ann/2 bob/3");
    pass(w, 6000);
    w->event_count = 0;
    say(w, BOOT_A, 1, 2, "!1");
    say(w, BOOT_A, 2, 1, "!2");
    pass(w, 4900);
    assert_int_equal(w->event_count, 0);
    expect_there(w, 2, 1);
    pass(w, 600);
    expect_there(w, 1, 1);
    assert_true(w->event_count >= 1);
    expect_event(w, w->event_count - 1, "-ann", 1, 1);
}

static void presence_connections_alone_are_told_at_their_leisure(void **state)
{
    struct world *w = *state;
    say_all(w, BOOT_A, 1, "ann/1");
    pass(w, 6000);
    w->event_count = 0;
    say(w, BOOT_A, 1, 2, "ann/2");
    pass(w, 4000);
    assert_int_equal(w->event_count, 0);
    pass(w, 2000);
    assert_int_equal(w->event_count, 1);
    expect_event(w, 0, "", 1, 2);
    /* One that came and went meanwhile is no news at all. */
    say(w, BOOT_A, 2, 3, "-/3");
    say(w, BOOT_A, 3, 2, "!3");
    pass(w, 20000);
    assert_int_equal(w->event_count, 1);
}

static void presence_many_joins_are_one_event_of_counts(void **state)
{
    struct world *w = *state;
    uint64_t event;
    static struct peal_person list[PEOPLE_MAX];
    static char names[PEOPLE_MAX][16];
    say_all(w, BOOT_A, 1, "ann/1");
    pass(w, 6000);
    w->event_count = 0;
    for (size_t i = 0; i < PEOPLE_MAX; i++) {
        snprintf(names[i], sizeof names[i], "u%zu", i);
        list[i] = (struct peal_person){peal_span_of(names[i]), 100 + i, 1};
    }
    for (uint64_t half = 0; half < 2; half++) {
        struct peal_frame f = {.group = peal_span_of("g"),
                               .flags = PEAL_FLAG_WATCH,
                               .from = 1 + half,
                               .to = 2 + half,
                               .limit = 1 + PEOPLE_MAX / 2 * (half + 1)};
        f.people.at = list + PEOPLE_MAX / 2 * half;
        f.people.count = PEOPLE_MAX / 2;
        assert_int_equal(peal_presence_report(w->presence, BOOT_A, &f, &event), PEAL_OK);
    }
    pass(w, 20000);
    assert_int_equal(w->event_count, 1);
    expect_event(w, 0, "", 1 + PEOPLE_MAX, 1 + PEOPLE_MAX);
    assert_int_equal(w->events[0].flags, PEAL_FLAG_TRUNCATED);
}

static void presence_lost_node_leaves_after_the_grace(void **state)
{
    struct world *w = *state;
    say_all(w, BOOT_A, 2, "ann/1 bob/2");
    say_all(w, BOOT_B, 2, "bob/3 cid/4");
    pass(w, 6000);
    w->event_count = 0;
    w->dead = BOOT_B;
    pass(w, 1000);
    expect_there(w, 3, 2);
    pass(w, 6000);
    expect_there(w, 2, 2);
    for (size_t i = 0; i < w->event_count; i++)
        assert_int_equal(w->events[i].boot, BOOT_A);
    expect_event(w, w->event_count - 1, "-cid", 2, 2);
}

static void presence_node_that_was_only_slow_is_asked_for_all_and_nobody_left(void **state)
{
    struct world *w = *state;
    say_all(w, BOOT_A, 1, "ann/1");
    say_all(w, BOOT_B, 1, "bob/3");
    pass(w, 6000);
    w->event_count = 0;
    w->dead = BOOT_B;
    pass(w, 1000);
    w->dead = 0;
    expect_there(w, 2, 1);
    assert_int_equal(report(w, (struct said){BOOT_B, 0, 0, 1, 2, 1}, ""), PEAL_EAGAIN);
    say_all(w, BOOT_B, 1, "bob/3");
    pass(w, 20000);
    expect_there(w, 2, 2);
    for (size_t i = 0; i < w->event_count; i++)
        assert_string_equal(w->events[i].names, "");
}

static void presence_changes_on_an_unknown_version_ask_for_all(void **state)
{
    struct world *w = *state;
    assert_int_equal(report(w, (struct said){BOOT_A, 0, 0, 1, 2, 1}, "ann/1"), PEAL_EAGAIN);
    expect_there(w, 0, 0);
    say_all(w, BOOT_A, 1, "ann/1");
    assert_int_equal(report(w, (struct said){BOOT_A, 0, 0, 7, 8, 2}, "bob/2"), PEAL_EAGAIN);
    expect_there(w, 1, 1);
    /* Another source of the same node is another chain. */
    assert_int_equal(report(w, (struct said){BOOT_A, 1, 0, 1, 2, 1}, "bob/2"), PEAL_EAGAIN);
    /* Nothing has changed: that is a report too. */
    assert_int_equal(report(w, (struct said){BOOT_A, 0, 0, 1, 2, 1}, ""), PEAL_OK);
    /* One that does not add up has missed something. */
    assert_int_equal(report(w, (struct said){BOOT_A, 0, 0, 2, 3, 9}, "bob/2"), PEAL_EAGAIN);
    assert_int_equal(report(w, (struct said){BOOT_A, 0, 0, 3, 4, 2}, ""), PEAL_EAGAIN);
}

static void presence_whole_report_is_exactly_what_is_there(void **state)
{
    struct world *w = *state;
    say_all(w, BOOT_A, 3, "ann/1 bob/2 cid/3");
    assert_int_equal(report(w, (struct said){BOOT_A, 0, WHOLE, 0, 9, 2}, "bob/2 dan/4"), PEAL_OK);
    expect_there(w, 4, 2); /* two of them in their grace */
    pass(w, 6000);
    expect_there(w, 2, 2);
    /* In pages; nothing is taken away when one of them is missing. */
    uint64_t first = PEAL_FLAG_ALL | PEAL_FLAG_FIRST;
    uint64_t last = PEAL_FLAG_ALL | PEAL_FLAG_LAST;
    assert_int_equal(report(w, (struct said){BOOT_A, 0, first, 9, 10, 3}, "bob/2"), PEAL_OK);
    assert_int_equal(report(w, (struct said){BOOT_A, 0, last, 9, 10, 3}, "eve/5"), PEAL_EAGAIN);
    expect_there(w, 3, 3);
    assert_int_equal(report(w, (struct said){BOOT_A, 0, last, 9, 11, 1}, "eve/5"), PEAL_EAGAIN);
    assert_int_equal(report(w, (struct said){BOOT_A, 0, first, 9, 12, 2}, "bob/2"), PEAL_OK);
    assert_int_equal(report(w, (struct said){BOOT_A, 0, last, 9, 12, 2}, "eve/5"), PEAL_OK);
    pass(w, 6000);
    expect_there(w, 2, 2);
    /* The last of them; the source is forgotten with it. */
    assert_int_equal(report(w, (struct said){BOOT_A, 0, 0, 12, 13, 0}, "!2 !5"), PEAL_OK);
    assert_int_equal(report(w, (struct said){BOOT_A, 0, 0, 13, 14, 1}, "bob/2"), PEAL_EAGAIN);
    pass(w, 6000);
    expect_there(w, 0, 0);
}

static void presence_settling_router_tells_nothing_and_then_the_counts(void **state)
{
    (void)state;
    struct world *w = world_new("presence: {grace: 2s, settle: 8s}");
    say_all(w, BOOT_A, 1, "ann/1");
    pass(w, 4000);
    say_all(w, BOOT_B, 1, "bob/2");
    say(w, BOOT_A, 1, 2, "cid/3");
    expect_there(w, 3, 3);
    assert_int_equal(w->answer.flags, PEAL_FLAG_SETTLING);
    pass(w, 3900);
    assert_int_equal(w->event_count, 0);
    pass(w, 1000);
    assert_int_equal(w->event_count, 2); /* one to each node */
    expect_event(w, 0, "", 3, 3);
    assert_int_equal(w->events[0].flags, PEAL_FLAG_TRUNCATED);
    expect_there(w, 3, 3);
    assert_int_equal(w->answer.flags, 0);
    pass(w, 10000);
    assert_int_equal(w->event_count, 2);
    say(w, BOOT_A, 2, 3, "dan/4");
    pass(w, 1000);
    expect_event(w, 2, "+dan", 4, 4);
    /* Events are a chain. */
    assert_int_equal(w->events[2].from, w->events[0].to);
    void *end = w;
    assert_int_equal(teardown(&end), 0);
}

static void presence_beyond_the_limit_connections_stay_exact(void **state)
{
    (void)state;
    struct world *w = world_new("{presence: {settle: 0s}, limits: {presence: 2}}");
    say_all(w, BOOT_A, 4, "ann/1 bob/2 cid/3 -/4");
    expect_there(w, 2, 4);
    assert_int_equal(w->answer.flags, PEAL_FLAG_TRUNCATED);
    say(w, BOOT_A, 1, 3, "!3");
    expect_there(w, 2, 3);
    say(w, BOOT_A, 2, 2, "!1");
    pass(w, 6000);
    expect_there(w, 1, 2);
    /* There is room again: with the next report all of it is asked for. */
    assert_int_equal(report(w, (struct said){BOOT_A, 0, 0, 3, 4, 2}, ""), PEAL_EAGAIN);
    say_all(w, BOOT_A, 2, "bob/2 -/4");
    expect_there(w, 1, 2);
    assert_int_equal(w->answer.flags, 0);
    void *end = w;
    assert_int_equal(teardown(&end), 0);
}

static void presence_list_is_given_page_by_page(void **state)
{
    struct world *w = *state;
    say_all(w, BOOT_A, 5, "a/1 b/2 c/3 d/4 e/5");
    char seen[16] = "";
    uint64_t after = 0;
    int pages = 0;
    do {
        who(w, after, 2);
        for (size_t i = 0; i < w->answer.people.count; i++)
            strncat(seen, w->people[i].user.at, 1);
        assert_int_equal(w->answer.users, 5);
        after = w->answer.offset;
        pages++;
        /* Who left since is not listed; who came is at the end. */
        if (pages == 1) {
            say(w, BOOT_A, 1, 5, "!2 !3 f/6 g/7");
            pass(w, 6000);
        }
    } while (after != 0);
    assert_string_equal(seen, "abdefg");
    assert_int_equal(pages, 3);
    who(w, 0, 0);
    assert_int_equal(w->answer.people.count, 0);
    assert_int_equal(w->answer.users, 5);
}

static void presence_state_that_was_shown_is_told_when_it_is_due(void **state)
{
    struct world *w = *state;
    say_all(w, BOOT_A, 1, "ann/1");
    pass(w, 6000);
    w->event_count = 0;
    say(w, BOOT_A, 1, 2, "-/2");
    expect_there(w, 1, 2); /* somebody sees two */
    say(w, BOOT_A, 2, 1, "!2");
    pass(w, 6000);
    assert_int_equal(w->event_count, 1);
    expect_event(w, 0, "", 1, 1);
}

static void presence_large_node_is_taken_apart_in_slices(void **state)
{
    struct world *w = *state;
    static struct peal_person list[PEOPLE_MAX];
    uint64_t event;
    enum { GROUPS = 20 };
    say_all(w, BOOT_A, 1, "ann/1");
    for (uint64_t g = 0; g < GROUPS; g++) {
        char name[16];
        snprintf(name, sizeof name, "g%llu", (unsigned long long)g);
        for (size_t i = 0; i < PEOPLE_MAX; i++)
            list[i] = (struct peal_person){peal_span_of("bob"), 1 + i, 1};
        struct peal_frame f = {
            .group = peal_span_of(name), .flags = WHOLE, .to = 1, .limit = PEOPLE_MAX};
        f.people.at = list;
        f.people.count = PEOPLE_MAX;
        assert_int_equal(peal_presence_report(w->presence, BOOT_B, &f, &event), PEAL_OK);
    }
    int64_t all = peal_metrics_sum(PEAL_M_PRESENCE);
    assert_int_equal(all, 1 + GROUPS * PEOPLE_MAX);
    pass(w, 1000);
    w->dead = BOOT_B;
    int ticks = 0;
    for (int64_t left = all; left > 1; ticks++) {
        pass(w, 50);
        int64_t now = peal_metrics_sum(PEAL_M_PRESENCE);
        assert_true(left - now <= 8192);
        left = now;
        assert_true(ticks < 100);
    }
    assert_true(ticks > 2);
    expect_there(w, 1, 1);
    pass(w, 6000);
}

int main(void)
{
    peal_metrics_thread_start();
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(presence_users_and_connections_are_counted_apart),
        TEST(presence_return_within_the_grace_is_silent),
        TEST(presence_leave_is_told_after_the_grace),
        TEST(presence_connections_alone_are_told_at_their_leisure),
        TEST(presence_many_joins_are_one_event_of_counts),
        TEST(presence_lost_node_leaves_after_the_grace),
        TEST(presence_node_that_was_only_slow_is_asked_for_all_and_nobody_left),
        TEST(presence_changes_on_an_unknown_version_ask_for_all),
        TEST(presence_whole_report_is_exactly_what_is_there),
        cmocka_unit_test(presence_settling_router_tells_nothing_and_then_the_counts),
        cmocka_unit_test(presence_beyond_the_limit_connections_stay_exact),
        TEST(presence_list_is_given_page_by_page),
        TEST(presence_state_that_was_shown_is_told_when_it_is_due),
        TEST(presence_large_node_is_taken_apart_in_slices),
    };
    return cmocka_run_group_tests_name("presence", tests, NULL, NULL);
}

#include "node/attendance.h"

#include <stdio.h>

#include "tests/unit/hub_rig.h"

static const char yaml[] = "groups:\n"
                           "  - {match: 'room:*', join: anyone, presence: users}\n"
                           "  - {match: '*', join: anyone}\n";

static struct peal_config_route native = {
    .path = "/", .dialect = PEAL_DIALECT_NATIVE, .identity = PEAL_IDENTITY_URL};

enum { CONNS = 4 };

struct world {
    struct rig *rig;
    struct peal_conn conns[CONNS];
    size_t open;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    w->rig = rig_open(yaml);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    for (size_t i = 0; i < w->open; i++)
        peal_conn_fini(&w->conns[i]);
    rig_close(w->rig);
    free(w);
    return 0;
}

/* A connection of nobody (inboxes would only be in the way), whose session is its number. */
static struct peal_conn *connect_one(struct world *w)
{
    struct peal_conn *conn = &w->conns[w->open];
    rig_connect(w->rig, conn, &native, NULL);
    conn->session = ++w->open;
    rig_say(conn, "{\"type\":\"hello\"}");
    rig_expect_part(w->rig, conn, "\"welcome\"");
    return conn;
}

static void join(struct world *w, struct peal_conn *conn, const char *more)
{
    char json[128];
    snprintf(json, sizeof json, "{\"type\":\"join\",\"group\":\"room:1\"%s}", more);
    rig_say(conn, json);
    if (!rig_group(w->rig, "room:1")->joined) rig_joined(w->rig, "room:1", 5, 7, 0);
    rig_expect_part(w->rig, conn, "\"joined\"");
}

/* The last order is a report like this; gives its req. people as "+1 -2": who is there and gone. */
static uint64_t expect_report(struct world *w, uint64_t flags, uint64_t total, const char *people)
{
    const struct peal_frame *f = rig_sent(w->rig);
    char text[128] = "";
    assert_int_equal(f->type, PEAL_F_PRESENT);
    assert_true(peal_span_is(f->group, "room:1"));
    assert_int_equal(f->source, 3);
    for (size_t i = 0; i < f->people.count; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%c%llu", used > 0 ? " " : "",
                 f->people.at[i].count > 0 ? '+' : '-',
                 (unsigned long long)f->people.at[i].session);
    }
    assert_string_equal(text, people);
    assert_int_equal(f->flags, flags);
    assert_int_equal(f->limit, total);
    return f->req;
}

enum { WHOLE = PEAL_FLAG_ALL | PEAL_FLAG_FIRST | PEAL_FLAG_LAST };

static void answer(struct world *w, uint64_t req, enum peal_err err, uint64_t event)
{
    struct peal_frame f = {.type = PEAL_F_PRESENTED,
                           .req = req,
                           .group = peal_span_of("room:1"),
                           .to = event,
                           .code = err};
    rig_forget(w->rig);
    rig_frame(w->rig, &f);
}

/* What the router says of ann and bob: an answer (req) or an event. */
static void presence(struct world *w, uint64_t req, uint64_t from, uint64_t to, uint64_t bob)
{
    struct peal_person people[] = {{peal_span_of("ann"), 0, 1}, {peal_span_of("bob"), 0, bob}};
    struct peal_frame f = {.type = PEAL_F_PRESENCE,
                           .req = req,
                           .group = peal_span_of("room:1"),
                           .users = 2,
                           .connections = 3,
                           .from = from,
                           .to = to};
    f.people.at = people;
    f.people.count = 2;
    rig_frame(w->rig, &f);
}

static void attendance_joins_of_a_turn_are_one_report(void **state)
{
    struct world *w = *state;
    struct peal_conn *a = connect_one(w);
    struct peal_conn *b = connect_one(w);
    rig_say(a, "{\"type\":\"join\",\"group\":\"room:1\"}");
    rig_say(b, "{\"type\":\"join\",\"group\":\"room:1\"}");
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_SEND, PEAL_F_PRESENT), 0);
    rig_end_turn(w->rig);
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_SEND, PEAL_F_PRESENT), 1);
    uint64_t req = expect_report(w, WHOLE, 2, "+1 +2");
    answer(w, req, PEAL_OK, 0);
    assert_int_equal(w->rig->order_count, 0);
}

static void attendance_changes_wait_while_a_report_is_under_way(void **state)
{
    struct world *w = *state;
    struct peal_conn *a = connect_one(w);
    join(w, a, "");
    uint64_t req = expect_report(w, WHOLE, 1, "+1");
    struct peal_conn *b = connect_one(w);
    struct peal_conn *c = connect_one(w);
    join(w, b, "");
    join(w, c, "");
    rig_say(b, "{\"type\":\"leave\",\"group\":\"room:1\"}");
    rig_end_turn(w->rig);
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_SEND, PEAL_F_PRESENT), 1);
    answer(w, req, PEAL_OK, 0);
    /* On top of what was confirmed, in order. */
    req = expect_report(w, 0, 2, "+2 +3 -2");
    answer(w, req, PEAL_OK, 0);
    assert_int_equal(w->rig->order_count, 0);
}

static void attendance_router_that_does_not_know_is_told_all(void **state)
{
    struct world *w = *state;
    join(w, connect_one(w), "");
    answer(w, expect_report(w, WHOLE, 1, "+1"), PEAL_OK, 0);
    join(w, connect_one(w), "");
    rig_end_turn(w->rig);
    uint64_t req = expect_report(w, 0, 2, "+2");
    answer(w, req, PEAL_EAGAIN, 0);
    /* The newest come first: they are behind no longer. */
    req = rig_sent(w->rig)->req;
    assert_int_equal(rig_sent(w->rig)->flags, WHOLE);
    assert_int_equal(rig_sent(w->rig)->people.count, 2);
    /* Should that not do either, it is not tried at once again and again. */
    answer(w, req, PEAL_EAGAIN, 0);
    assert_int_equal(w->rig->order_count, 0);
    rig_pass(w->rig, 600);
    assert_int_equal(rig_sent(w->rig)->flags, WHOLE);
}

static void attendance_report_without_an_answer_is_said_again_as_a_whole(void **state)
{
    struct world *w = *state;
    join(w, connect_one(w), "");
    rig_forget(w->rig);
    rig_pass(w->rig, PEAL_REQUEST_MS + 100);
    rig_pass(w->rig, 600);
    expect_report(w, WHOLE, 1, "+1");
    /* A bus without room keeps nothing from being said later. */
    rig_pass(w->rig, PEAL_REQUEST_MS + 100);
    w->rig->bus_is_full = true;
    rig_forget(w->rig);
    rig_pass(w->rig, 600);
    assert_int_equal(w->rig->order_count, 0);
    w->rig->bus_is_full = false;
    rig_pass(w->rig, 600);
    expect_report(w, WHOLE, 1, "+1");
}

static void attendance_sync_and_loss_have_every_group_checked(void **state)
{
    struct world *w = *state;
    join(w, connect_one(w), "");
    answer(w, expect_report(w, WHOLE, 1, "+1"), PEAL_OK, 0);
    rig_letter(w->rig, peal_letter_note(PEAL_LETTER_SYNC, false));
    answer(w, expect_report(w, 0, 1, ""), PEAL_OK, 0);
    rig_letter(w->rig, peal_letter_note(PEAL_LETTER_LOST, false));
    answer(w, expect_report(w, 0, 1, ""), PEAL_OK, 0);
}

static void attendance_connection_that_ends_is_gone_before_its_transport(void **state)
{
    struct world *w = *state;
    struct peal_conn *a = connect_one(w);
    join(w, a, "");
    answer(w, expect_report(w, WHOLE, 1, "+1"), PEAL_OK, 0);
    peal_conn_close(a, 4101, "unavailable", PEAL_M_CLOSED_TIMEOUT);
    rig_end_turn(w->rig);
    assert_int_equal(a->member_count, 1);
    answer(w, expect_report(w, 0, 0, "-1"), PEAL_OK, 0);
    assert_int_equal(w->rig->hub.attendance.groups.count, 0);
    /* And is not gone twice. */
    peal_conn_fini(a);
    w->open--;
    rig_end_turn(w->rig);
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_SEND, PEAL_F_PRESENT), 0);
}

static void attendance_many_changes_become_a_whole_report_in_pages(void **state)
{
    struct world *w = *state;
    enum { MANY = PEAL_PRESENT_MAX + 10 };
    struct peal_conn *many = calloc(MANY, sizeof *many);
    struct peal_join with = {.group = peal_span_of("room:1")};
    struct peal_member *m;
    join(w, connect_one(w), "");
    uint64_t req = expect_report(w, WHOLE, 1, "+1");
    for (size_t i = 0; i < MANY; i++) {
        rig_connect(w->rig, &many[i], &native, NULL);
        assert_int_equal(peal_member_add(&many[i], &with, &m), PEAL_OK);
    }
    answer(w, req, PEAL_OK, 0);
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_SEND, PEAL_F_PRESENT), 2);
    assert_int_equal(rig_sent(w->rig)->limit, MANY + 1);
    assert_int_equal(rig_sent(w->rig)->people.count, 11);
    assert_int_equal(rig_sent(w->rig)->flags, PEAL_FLAG_ALL | PEAL_FLAG_LAST);
    for (size_t i = 0; i < MANY; i++)
        peal_conn_fini(&many[i]);
    free(many);
}

static void attendance_watcher_gets_a_list_then_changes(void **state)
{
    struct world *w = *state;
    struct peal_conn *a = connect_one(w);
    join(w, a, ",\"presence\":true");
    rig_end_turn(w->rig);
    /* The router must know of the watcher before the list is asked for. */
    uint64_t req = expect_report(w, WHOLE | PEAL_FLAG_WATCH, 1, "+1");
    presence(w, 0, 1, 2, 1);
    rig_expect_nothing(w->rig, a);
    answer(w, req, PEAL_OK, 2);
    assert_int_equal(rig_sent(w->rig)->type, PEAL_F_WHO);
    presence(w, rig_sent(w->rig)->req, 0, 2, 1);
    rig_expect(w->rig, a,
               "{\"type\":\"presence\",\"group\":\"room:1\",\"users\":2,\"connections\":3,"
               "\"list\":[\"ann\",\"bob\"]}");
    presence(w, 0, 2, 3, 0);
    rig_expect(w->rig, a,
               "{\"type\":\"presence\",\"group\":\"room:1\",\"users\":2,\"connections\":3,"
               "\"join\":[\"ann\"],\"leave\":[\"bob\"]}");
    /* One who did not ask hears nothing. */
    struct peal_conn *b = connect_one(w);
    join(w, b, "");
    presence(w, 0, 3, 4, 1);
    rig_expect_part(w->rig, a, "\"join\":[\"ann\",\"bob\"]");
    rig_expect_nothing(w->rig, b);
}

static void attendance_missing_event_leads_to_a_list(void **state)
{
    struct world *w = *state;
    struct peal_conn *a = connect_one(w);
    join(w, a, ",\"presence\":true");
    rig_end_turn(w->rig);
    answer(w, rig_sent(w->rig)->req, PEAL_OK, 2);
    presence(w, rig_sent(w->rig)->req, 0, 2, 1);
    rig_expect_part(w->rig, a, "\"list\"");
    rig_forget(w->rig);
    presence(w, 0, 3, 4, 1); /* that from 2 to 3 is missing */
    rig_expect_nothing(w->rig, a);
    assert_int_equal(rig_sent(w->rig)->type, PEAL_F_WHO);
    presence(w, rig_sent(w->rig)->req, 0, 4, 1);
    rig_expect_part(w->rig, a, "\"list\"");
    /* Missing at the end, with nothing behind it: a check shows it. */
    rig_forget(w->rig);
    rig_letter(w->rig, peal_letter_note(PEAL_LETTER_SYNC, false));
    answer(w, rig_sent(w->rig)->req, PEAL_OK, 5);
    assert_int_equal(rig_sent(w->rig)->type, PEAL_F_WHO);
    presence(w, rig_sent(w->rig)->req, 0, 5, 1);
    rig_expect_part(w->rig, a, "\"list\"");
    /* The router learns when nobody watches any more. */
    rig_forget(w->rig);
    join(w, connect_one(w), "");
    rig_end_turn(w->rig);
    answer(w, rig_sent(w->rig)->req, PEAL_OK, 5);
    rig_say(a, "{\"type\":\"leave\",\"group\":\"room:1\"}");
    rig_end_turn(w->rig);
    expect_report(w, 0, 1, "-1");
}

static void attendance_command_is_answered_for_members_only(void **state)
{
    struct world *w = *state;
    struct peal_conn *a = connect_one(w);
    rig_say(a, "{\"type\":\"presence\",\"id\":1,\"group\":\"room:1\"}");
    rig_expect_part(w->rig, a, "\"code\":\"forbidden\"");
    rig_say(a, "{\"type\":\"presence\",\"id\":1}");
    rig_expect_part(w->rig, a, "\"message\":\"group is missing\"");
    rig_say(a, "{\"type\":\"join\",\"id\":2,\"group\":\"off\",\"presence\":true}");
    rig_expect(w->rig, a,
               "{\"type\":\"error\",\"id\":2,\"group\":\"off\",\"code\":\"bad_field\","
               "\"message\":\"presence is off for this group\",\"retry\":\"no\"}");
    rig_say(a, "{\"type\":\"join\",\"id\":2,\"group\":\"off\"}");
    rig_joined(w->rig, "off", 5, 7, 0);
    rig_expect_part(w->rig, a, "\"joined\"");
    rig_say(a, "{\"type\":\"presence\",\"id\":3,\"group\":\"off\"}");
    rig_expect_part(w->rig, a, "\"code\":\"bad_field\"");
    assert_int_equal(w->rig->hub.attendance.groups.count, 0);
    join(w, a, "");
    rig_say(a, "{\"type\":\"presence\",\"id\":4,\"group\":\"room:1\",\"limit\":2}");
    assert_int_equal(rig_sent(w->rig)->type, PEAL_F_WHO);
    assert_int_equal(rig_sent(w->rig)->limit, 2);
    struct peal_person ann = {peal_span_of("ann"), 0, 1};
    struct peal_frame f = {.type = PEAL_F_PRESENCE,
                           .req = rig_sent(w->rig)->req,
                           .group = peal_span_of("room:1"),
                           .users = 9,
                           .connections = 12,
                           .offset = 4,
                           .flags = PEAL_FLAG_SETTLING};
    f.people.at = &ann;
    f.people.count = 1;
    rig_frame(w->rig, &f);
    rig_expect(w->rig, a,
               "{\"type\":\"presence\",\"id\":4,\"group\":\"room:1\",\"users\":9,"
               "\"connections\":12,\"list\":[\"ann\"],\"truncated\":true,\"settling\":true}");
}

int main(void)
{
    peal_metrics_thread_start();
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(attendance_joins_of_a_turn_are_one_report),
        TEST(attendance_changes_wait_while_a_report_is_under_way),
        TEST(attendance_router_that_does_not_know_is_told_all),
        TEST(attendance_report_without_an_answer_is_said_again_as_a_whole),
        TEST(attendance_sync_and_loss_have_every_group_checked),
        TEST(attendance_connection_that_ends_is_gone_before_its_transport),
        TEST(attendance_many_changes_become_a_whole_report_in_pages),
        TEST(attendance_watcher_gets_a_list_then_changes),
        TEST(attendance_missing_event_leads_to_a_list),
        TEST(attendance_command_is_answered_for_members_only),
    };
    return cmocka_run_group_tests_name("attendance", tests, NULL, NULL);
}

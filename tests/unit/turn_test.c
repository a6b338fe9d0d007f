#include "node/turn.h"

#include <stdio.h>

#include "tests/unit/hub_rig.h"

static const char yaml[] = "limits: {queue: 256KiB, queue_messages: 8}\n"
                           "groups:\n"
                           "  - {match: 'user:{id}', durable: true}\n"
                           "  - {match: 'gone', join: anyone}\n"
                           "  - {match: '*', history: {messages: 100}, join: anyone}\n";

static char *room_join[] = {(char[]){"room"}};
static char *both_joins[] = {(char[]){"room"}, (char[]){"hall"}};
static char *inbox_join[] = {(char[]){"user:bob"}};
static const struct peal_config_route native = {
    .path = "/", .dialect = PEAL_DIALECT_NATIVE, .identity = PEAL_IDENTITY_URL};
static const struct peal_config_route raw = {
    .path = "/", .dialect = PEAL_DIALECT_RAW, .join = {room_join, 1}};
static const struct peal_config_route raw_both = {
    .path = "/", .dialect = PEAL_DIALECT_RAW, .join = {both_joins, 2}};
static const struct peal_config_route raw_inbox = {
    .path = "/", .dialect = PEAL_DIALECT_RAW, .join = {inbox_join, 1}};

enum { CONNS = 4, EPOCH = 7 };

struct world {
    struct rig *rig;
    struct peal_conn conns[CONNS];
    size_t count;
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
    for (size_t i = 0; i < w->count; i++)
        peal_conn_fini(&w->conns[i]);
    rig_close(w->rig);
    free(w);
    return 0;
}

static struct peal_conn *open_raw(struct world *w, const struct peal_config_route *route)
{
    struct peal_conn *conn = &w->conns[w->count++];
    rig_connect(w->rig, conn, route, route == &raw_inbox ? "bob" : NULL);
    return conn;
}

/* A live member of room at offset 0. */
static struct peal_conn *open_member(struct world *w, uint64_t flags)
{
    struct peal_conn *conn = open_raw(w, &raw);
    if (rig_group(w->rig, "room")->req != 0) rig_joined(w->rig, "room", EPOCH, 0, flags);
    return conn;
}

/* Messages from..to of one turn, which goes on; each says its offset. */
static void messages(struct world *w, const char *group, uint64_t from, uint64_t to)
{
    char data[24];
    w->rig->turn_goes_on = true;
    for (uint64_t offset = from; offset <= to; offset++) {
        snprintf(data, sizeof data, "%llu", (unsigned long long)offset);
        rig_message(w->rig, group, EPOCH, offset, data);
    }
}

static void turn_gives_its_messages_to_each_queue_as_one_run(void **state)
{
    struct world *w = *state;
    struct peal_conn *a = open_member(w, PEAL_FLAG_KEEPS);
    struct peal_conn *b = open_member(w, PEAL_FLAG_KEEPS);
    int64_t due = peal_metrics_sum(PEAL_M_DUE);
    messages(w, "room", 1, 3);
    assert_true(peal_outq_empty(&a->outq)); /* nothing before its end */
    rig_end_turn(w->rig);
    assert_int_equal(peal_metrics_sum(PEAL_M_DUE) - due, 6);
    assert_int_equal(a->outq.count, 1);
    assert_int_equal(a->outq.frames, 3);
    assert_ptr_equal(a->outq.one.run, b->outq.one.run);
    assert_int_equal(a->outq.one.run->refs, 2); /* and nobody else's */
    rig_expect(w->rig, b, "1");
    rig_expect(w->rig, b, "2");
    rig_expect(w->rig, b, "3");
    rig_expect_nothing(w->rig, b);
}

static void turn_of_two_groups_keeps_the_order_of_each(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_raw(w, &raw_both);
    rig_joined(w->rig, "room", EPOCH, 0, 0);
    rig_joined(w->rig, "hall", EPOCH, 10, 0);
    messages(w, "room", 1, 1);
    messages(w, "hall", 11, 12);
    messages(w, "room", 2, 2);
    rig_end_turn(w->rig);
    rig_expect(w->rig, conn, "1");
    rig_expect(w->rig, conn, "2");
    rig_expect(w->rig, conn, "11");
    rig_expect(w->rig, conn, "12");
}

static void turn_messages_before_a_join_are_not_for_the_new_member(void **state)
{
    struct world *w = *state;
    struct peal_conn *old = open_member(w, 0);
    messages(w, "room", 1, 2);
    struct peal_conn *fresh = open_raw(w, &raw); /* at offset 2, where the group is */
    messages(w, "room", 3, 3);
    rig_end_turn(w->rig);
    rig_expect(w->rig, fresh, "3");
    rig_expect_nothing(w->rig, fresh);
    rig_expect(w->rig, old, "1");
    rig_expect(w->rig, old, "2");
    rig_expect(w->rig, old, "3");
}

static void turn_with_a_hole_gives_what_came_before_it(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, PEAL_FLAG_KEEPS);
    messages(w, "room", 1, 2);
    messages(w, "room", 5, 5);
    rig_end_turn(w->rig);
    rig_expect(w->rig, conn, "1");
    rig_expect(w->rig, conn, "2");
    rig_expect_nothing(w->rig, conn);
    assert_int_equal(rig_sent(w->rig)->type, PEAL_F_FETCH);
    assert_int_equal(rig_sent(w->rig)->offset, 2);
}

static void turn_beyond_the_queue_puts_a_member_behind_where_it_ends(void **state)
{
    struct world *w = *state;
    struct peal_conn *slow = open_member(w, PEAL_FLAG_KEEPS);
    messages(w, "room", 1, 5);
    rig_end_turn(w->rig);
    messages(w, "room", 6, 11); /* three of them fit: eight in all */
    rig_end_turn(w->rig);
    assert_int_equal(slow->outq.frames, 8);
    assert_true(slow->open);
    struct peal_member *m = peal_member_find(slow, peal_span_of("room"));
    assert_int_equal(peal_member_state(m), PEAL_MEMBER_BEHIND);
    assert_int_equal(m->pursuit->cursor, 8);
    for (int i = 1; i <= 8; i++)
        assert_int_equal(atoi(rig_take(w->rig, slow)), i);
    assert_int_equal(rig_sent(w->rig)->type, PEAL_F_FETCH); /* there was room again */
    assert_int_equal(rig_sent(w->rig)->offset, 8);
}

static void turn_beyond_the_queue_that_the_kernel_takes_arrives_whole(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 0);
    int64_t due = peal_metrics_sum(PEAL_M_DUE);
    w->rig->kernel_takes = true;
    messages(w, "room", 1, 30);
    rig_end_turn(w->rig);
    assert_true(conn->open);
    assert_int_equal(peal_metrics_sum(PEAL_M_DUE) - due, 30);
    assert_int_equal(conn->outq.frames, 6); /* 8 + 8 + 8 were written to make room */
    rig_expect(w->rig, conn, "25");
}

static void turn_beyond_the_queue_closes_who_cannot_come_back_for_it(void **state)
{
    struct world *w = *state;
    struct peal_conn *slow = open_member(w, 0);
    int64_t due = peal_metrics_sum(PEAL_M_DUE);
    int64_t dropped = peal_metrics_sum(PEAL_M_DROPPED_SLOW);
    messages(w, "room", 1, 10);
    rig_end_turn(w->rig);
    /* All ten were due, and none was begun: they are dropped, and the farewell is due. */
    assert_int_equal(peal_metrics_sum(PEAL_M_DUE) - due, 11);
    assert_int_equal(peal_metrics_sum(PEAL_M_DROPPED_SLOW) - dropped, 10);
    rig_expect_close(w->rig, slow, 4208);
}

static void turn_of_an_inbox_is_acked_by_a_ping_with_its_last_offset(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_raw(w, &raw_inbox);
    rig_joined(w->rig, "user:bob", EPOCH, 0, PEAL_FLAG_KEEPS);
    messages(w, "user:bob", 1, 2);
    rig_end_turn(w->rig);
    rig_expect(w->rig, conn, "1");
    rig_expect(w->rig, conn, "2");
    rig_expect(w->rig, conn, "2");
    assert_int_equal(w->rig->opcode, PEAL_WS_PING);
}

static void turn_state_does_not_overtake_messages(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = &w->conns[w->count++];
    rig_connect(w->rig, conn, &native, "bob");
    rig_say(conn, "{\"type\":\"hello\"}");
    rig_joined(w->rig, "user:bob", EPOCH, 0, PEAL_FLAG_KEEPS);
    rig_expect_part(w->rig, conn, "\"welcome\"");
    messages(w, "user:bob", 1, 1);
    struct peal_frame read = {.type = PEAL_F_STATE,
                              .group = peal_span_of("user:bob"),
                              .upto = 1,
                              .rev = 9,
                              .flags = PEAL_FLAG_READ};
    rig_frame(w->rig, &read);
    rig_end_turn(w->rig);
    rig_expect_part(w->rig, conn, "\"message\"");
    rig_expect_part(w->rig, conn, "\"state\"");
}

static void turn_of_large_messages_is_cut_into_runs(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, PEAL_FLAG_KEEPS);
    static char data[30000];
    memset(data, '7', sizeof data - 1);
    w->rig->turn_goes_on = true;
    for (uint64_t offset = 1; offset <= 7; offset++)
        rig_message(w->rig, "room", EPOCH, offset, data);
    rig_end_turn(w->rig);
    assert_int_equal(conn->outq.count, 3); /* 3 + 3 + 1: a run ends beyond 64 KiB */
    assert_int_equal(conn->outq.frames, 7);
}

static void turn_longer_than_it_can_hold_is_given_out_on_the_way(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 0);
    int64_t due = peal_metrics_sum(PEAL_M_DUE);
    w->rig->kernel_takes = true;
    messages(w, "room", 1, PEAL_TURN_MESSAGES + 1);
    assert_int_equal(peal_metrics_sum(PEAL_M_DUE) - due, PEAL_TURN_MESSAGES);
    rig_end_turn(w->rig);
    assert_int_equal(peal_metrics_sum(PEAL_M_DUE) - due, PEAL_TURN_MESSAGES + 1);
    assert_true(conn->open);
}

static void turn_of_two_dialects_is_rendered_for_each(void **state)
{
    struct world *w = *state;
    struct peal_conn *plain = open_member(w, 0);
    struct peal_conn *json = &w->conns[w->count++];
    rig_connect(w->rig, json, &native, NULL);
    rig_say(json, "{\"type\":\"hello\"}");
    rig_expect_part(w->rig, json, "\"welcome\"");
    rig_say(json, "{\"type\":\"join\",\"group\":\"room\"}");
    rig_expect_part(w->rig, json, "\"joined\"");
    messages(w, "room", 1, 2);
    rig_end_turn(w->rig);
    rig_expect(w->rig, plain, "1");
    rig_expect(w->rig, plain, "2");
    rig_expect_part(w->rig, json, "\"data\":1");
    rig_expect_part(w->rig, json, "\"data\":2");
}

static void turn_is_given_to_who_leaves_in_it(void **state)
{
    struct world *w = *state;
    struct peal_conn *stays = open_member(w, 0);
    struct peal_conn *leaves = &w->conns[w->count++];
    rig_connect(w->rig, leaves, &native, NULL);
    rig_say(leaves, "{\"type\":\"hello\"}");
    rig_expect_part(w->rig, leaves, "\"welcome\"");
    rig_say(leaves, "{\"type\":\"join\",\"group\":\"room\"}");
    rig_expect_part(w->rig, leaves, "\"joined\"");
    messages(w, "room", 1, 1);
    rig_say(leaves, "{\"type\":\"leave\",\"group\":\"room\"}");
    messages(w, "room", 2, 2);
    rig_end_turn(w->rig);
    rig_expect_part(w->rig, leaves, "\"data\":1");
    rig_expect_part(w->rig, leaves, "\"left\"");
    rig_expect_nothing(w->rig, leaves);
    rig_expect(w->rig, stays, "1");
    rig_expect(w->rig, stays, "2");
}

static void turn_whose_last_member_left_is_dropped_with_its_group(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 0);
    messages(w, "room", 1, 3);
    peal_member_remove(peal_member_find(conn, peal_span_of("room")));
    assert_null(rig_group(w->rig, "room"));
    rig_end_turn(w->rig);
    rig_expect_nothing(w->rig, conn);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    peal_metrics_thread_start();
    const struct CMUnitTest tests[] = {
        TEST(turn_gives_its_messages_to_each_queue_as_one_run),
        TEST(turn_of_two_groups_keeps_the_order_of_each),
        TEST(turn_messages_before_a_join_are_not_for_the_new_member),
        TEST(turn_with_a_hole_gives_what_came_before_it),
        TEST(turn_beyond_the_queue_puts_a_member_behind_where_it_ends),
        TEST(turn_beyond_the_queue_that_the_kernel_takes_arrives_whole),
        TEST(turn_beyond_the_queue_closes_who_cannot_come_back_for_it),
        TEST(turn_of_an_inbox_is_acked_by_a_ping_with_its_last_offset),
        TEST(turn_state_does_not_overtake_messages),
        TEST(turn_of_large_messages_is_cut_into_runs),
        TEST(turn_longer_than_it_can_hold_is_given_out_on_the_way),
        TEST(turn_of_two_dialects_is_rendered_for_each),
        TEST(turn_is_given_to_who_leaves_in_it),
        TEST(turn_whose_last_member_left_is_dropped_with_its_group),
    };
    return cmocka_run_group_tests_name("turn", tests, NULL, NULL);
}

#include "node/commands.h"

#include "tests/unit/conn_rig.h"

static void commands_second_hello_is_an_error_and_the_third_bad_one_closes(void **state)
{
    struct world *w = *state;
    open_welcomed(w);
    for (int i = 0; i < 2; i++) {
        rig_say(&w->conn, "{\"type\":\"hello\",\"id\":6}");
        rig_expect_part(w->rig, &w->conn, "\"id\":6,\"code\":\"bad_message\"");
    }
    rig_say(&w->conn, "{\"type\":\"hello\"}");
    rig_expect_close(w->rig, &w->conn, 4000);
}

static void commands_good_command_forgives_bad_ones(void **state)
{
    struct world *w = *state;
    open_welcomed(w);
    for (int i = 0; i < 6; i++) {
        rig_say(&w->conn, "{");
        rig_expect_part(w->rig, &w->conn, "\"bad_json\"");
        if (i % 2 == 0) continue;
        rig_say(&w->conn, "{\"type\":\"ping\"}");
        rig_expect(w->rig, &w->conn, "{\"type\":\"pong\"}");
    }
    assert_true(w->conn.open);
}

static void commands_third_command_before_hello_closes(void **state)
{
    struct world *w = *state;
    open_conn(w, &native, "bob");
    static const char *const early[] = {"{\"type\":\"join\",\"group\":\"a\",\"id\":1}",
                                        "{\"type\":\"inbox\",\"id\":1}"};
    for (size_t i = 0; i < 2; i++) {
        rig_say(&w->conn, early[i]);
        rig_expect_part(w->rig, &w->conn,
                        "\"id\":1,\"code\":\"bad_message\",\"message\":\"say hello first\"");
    }
    rig_say(&w->conn, "{\"type\":\"leave\",\"group\":\"a\"}");
    rig_expect_close(w->rig, &w->conn, 4000);
    assert_int_equal(w->rig->order_count, 0);
}

static void commands_leave_is_answered_and_ordered(void **state)
{
    struct world *w = *state;
    open_welcomed(w);
    rig_say(&w->conn, "{\"type\":\"leave\",\"id\":1,\"group\":\"a\"}");
    rig_expect_part(w->rig, &w->conn, "\"id\":1,\"group\":\"a\",\"code\":\"not_found\"");
    rig_say(&w->conn, "{\"type\":\"join\",\"id\":2,\"group\":\"a\"}");
    rig_joined(w->rig, "a", 7, 3, 0);
    rig_expect(w->rig, &w->conn,
               "{\"type\":\"joined\",\"id\":2,\"group\":\"a\",\"epoch\":\"7\",\"offset\":3,"
               "\"recovered\":\"new\"}");
    rig_forget(w->rig);
    rig_say(&w->conn, "{\"type\":\"leave\",\"id\":3,\"group\":\"a\"}");
    rig_expect(w->rig, &w->conn, "{\"type\":\"left\",\"id\":3,\"group\":\"a\"}");
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_LEAVE, 0), 1);
    rig_message(w->rig, "a", 7, 4, "1");
    rig_expect_nothing(w->rig, &w->conn);
}

static void commands_ping_is_answered_with_its_id(void **state)
{
    struct world *w = *state;
    open_welcomed(w);
    rig_say(&w->conn, "{\"type\":\"ping\",\"id\":\"\\u0041 b\"}");
    rig_expect(w->rig, &w->conn, "{\"type\":\"pong\",\"id\":\"\\u0041 b\"}");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(commands_second_hello_is_an_error_and_the_third_bad_one_closes),
        TEST(commands_good_command_forgives_bad_ones),
        TEST(commands_third_command_before_hello_closes),
        TEST(commands_leave_is_answered_and_ordered),
        TEST(commands_ping_is_answered_with_its_id),
    };
    peal_metrics_thread_start();
    return cmocka_run_group_tests_name("commands", tests, NULL, NULL);
}

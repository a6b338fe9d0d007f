#include "node/joins.h"

#include "tests/unit/conn_rig.h"

static void joins_hello_is_welcomed_when_the_inbox_answered(void **state)
{
    struct world *w = *state;
    open_conn(w, &native, "bob");
    rig_say(&w->conn, "{\"type\":\"hello\",\"id\":5,\"device\":\"phone\"}");
    rig_expect_nothing(w->rig, &w->conn);
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_JOIN, 0), 1);
    assert_true(peal_span_is(w->rig->orders[0]->group, "user:bob"));

    rig_joined(w->rig, "user:bob", 7, 0, PEAL_FLAG_KEEPS);
    rig_expect_part(
        w->rig, &w->conn,
        "\"inbox\":{\"epoch\":\"7\",\"offset\":0,\"unread\":0,\"rev\":0,\"recovered\":\"new\"}");
    assert_non_null(strstr(w->rig->taken->at, "{\"type\":\"welcome\",\"id\":5,"));
    assert_non_null(strstr(w->rig->taken->at, "\"user\":\"bob\""));
    assert_string_equal(w->conn.device, "phone");
    rig_expect_nothing(w->rig, &w->conn);
}

static void joins_welcome_waits_for_every_group_of_the_hello(void **state)
{
    struct world *w = *state;
    open_conn(w, &native, NULL);
    rig_say(&w->conn, "{\"type\":\"hello\",\"groups\":[\"a\",\"b\"]}");
    rig_joined(w->rig, "a", 7, 3, 0);
    rig_expect_nothing(w->rig, &w->conn);
    rig_joined(w->rig, "b", 7, 4, 0);
    rig_expect_part(w->rig, &w->conn,
                    "\"groups\":{"
                    "\"a\":{\"epoch\":\"7\",\"offset\":3,\"recovered\":\"new\"},"
                    "\"b\":{\"epoch\":\"7\",\"offset\":4,\"recovered\":\"new\"}}}");
}

static void joins_welcome_says_pending_after_two_seconds_and_joined_later(void **state)
{
    struct world *w = *state;
    open_conn(w, &native, "bob");
    rig_say(&w->conn, "{\"type\":\"hello\",\"id\":5}");
    rig_pass(w->rig, PEAL_WELCOME_MS - 100);
    rig_expect_nothing(w->rig, &w->conn);
    rig_pass(w->rig, 200);
    rig_expect_part(w->rig, &w->conn, "\"inbox\":{\"recovered\":\"pending\"}");
    rig_expect_nothing(w->rig, &w->conn);

    rig_joined(w->rig, "user:bob", 7, 0, PEAL_FLAG_KEEPS);
    rig_expect(w->rig, &w->conn,
               "{\"type\":\"joined\",\"group\":\"user:bob\",\"epoch\":\"7\",\"offset\":0,"
               "\"unread\":0,\"rev\":0,\"recovered\":\"new\"}");
    rig_expect_nothing(w->rig, &w->conn);
}

static void joins_leave_of_what_the_welcome_waits_for_completes_it(void **state)
{
    struct world *w = *state;
    open_conn(w, &native, NULL);
    rig_say(&w->conn, "{\"type\":\"hello\",\"groups\":[\"a\"]}");
    rig_say(&w->conn, "{\"type\":\"leave\",\"group\":\"a\"}");
    rig_expect(w->rig, &w->conn, "{\"type\":\"left\",\"group\":\"a\"}");
    rig_expect_part(w->rig, &w->conn, "\"groups\":{}");
}

static void joins_more_than_once_or_too_often_are_refused(void **state)
{
    struct world *w = *state;
    w->rig->config->limits.groups_per_connection = 2;
    open_welcomed(w);
    rig_say(&w->conn, "{\"type\":\"join\",\"group\":\"a\"}");
    rig_say(&w->conn, "{\"type\":\"join\",\"group\":\"a\",\"id\":1}");
    rig_expect_part(w->rig, &w->conn, "\"id\":1,\"group\":\"a\",\"code\":\"limit\"");
    rig_say(&w->conn, "{\"type\":\"join\",\"group\":\"b\",\"id\":2}"); /* with the inbox three */
    rig_expect_part(w->rig, &w->conn, "\"id\":2,\"group\":\"b\",\"code\":\"limit\"");
    rig_say(&w->conn, "{\"type\":\"join\",\"group\":\"user:eve\",\"id\":3}");
    rig_expect_part(w->rig, &w->conn, "\"id\":3,\"group\":\"user:eve\",\"code\":\"forbidden\"");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(joins_hello_is_welcomed_when_the_inbox_answered),
        TEST(joins_welcome_waits_for_every_group_of_the_hello),
        TEST(joins_welcome_says_pending_after_two_seconds_and_joined_later),
        TEST(joins_leave_of_what_the_welcome_waits_for_completes_it),
        TEST(joins_more_than_once_or_too_often_are_refused),
    };
    peal_metrics_thread_start();
    return cmocka_run_group_tests_name("joins", tests, NULL, NULL);
}

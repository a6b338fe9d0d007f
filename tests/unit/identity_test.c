#include "node/identity.h"

#include "tests/unit/conn_rig.h"

static struct peal_config_route native_token = {
    .path = "/", .dialect = PEAL_DIALECT_NATIVE, .identity = PEAL_IDENTITY_TOKEN};

static void identity_hello_without_the_token_of_its_route_is_refused(void **state)
{
    struct world *w = *state;
    open_conn(w, &native_token, NULL);
    rig_say(&w->conn, "{\"type\":\"hello\",\"id\":\"x\"}");
    rig_expect_part(w->rig, &w->conn, "\"id\":\"x\",\"code\":\"token_missing\"");
    rig_say(&w->conn, "{\"type\":\"hello\",\"token\":\"a.b.c\"}"); /* no key could check it */
    rig_expect_part(w->rig, &w->conn, "\"code\":\"token_invalid\"");
    assert_false(w->conn.greeted);
    assert_int_equal(w->rig->order_count, 0);
}

static void identity_token_that_expires_closes_after_the_leeway(void **state)
{
    struct world *w = *state;
    struct peal_route_match match = {.route = &native_token};
    struct peal_conn_open from = {.match = &match, .has_token = true};
    from.claims.expires_ms = RIG_WALL_MS + 1000;
    assert_int_equal(peal_conn_init(&w->conn, &w->rig->hub, &from), PEAL_OK);
    w->finished = false;
    rig_say(&w->conn, "{\"type\":\"hello\"}");
    rig_expect_part(w->rig, &w->conn, "\"welcome\"");
    uint64_t leeway_ms = w->rig->config->auth.leeway_ms;
    assert_true(leeway_ms < 34000); /* else the missing pong closes first */
    rig_pass(w->rig, leeway_ms + 900);
    assert_true(w->conn.open);
    rig_pass(w->rig, 200);
    while (rig_take(w->rig, &w->conn)[0] == '\0' && w->rig->opcode == PEAL_WS_PING)
        ;
    assert_int_equal(w->rig->opcode, PEAL_WS_CLOSE);
    assert_memory_equal(w->rig->taken->at, "\x11\x31token_expired", 15); /* 4401 */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(identity_hello_without_the_token_of_its_route_is_refused),
        TEST(identity_token_that_expires_closes_after_the_leeway),
    };
    peal_metrics_thread_start();
    return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}

#include "node/inbound.h"

#include "proto/envelope.h"
#include "tests/unit/conn_rig.h"

static void inbound_refuse_closes(void **state)
{
    struct world *w = *state;
    open_raw(w, PEAL_INBOUND_REFUSE, NULL);
    rig_say(&w->conn, "hi");
    rig_expect_close(w->rig, &w->conn, 4005);
}

static void inbound_ignore_counts_only(void **state)
{
    struct world *w = *state;
    open_raw(w, PEAL_INBOUND_IGNORE, NULL);
    int64_t ignored = peal_metrics_sum(PEAL_M_FRAMES_IGNORED);
    rig_say(&w->conn, "hi");
    rig_expect_nothing(w->rig, &w->conn);
    assert_true(w->conn.open);
    assert_int_equal(peal_metrics_sum(PEAL_M_FRAMES_IGNORED) - ignored, 1);
}

static void inbound_echo_gives_back_the_same_frame(void **state)
{
    struct world *w = *state;
    open_raw(w, PEAL_INBOUND_ECHO, NULL);
    rig_say(&w->conn, "hi");
    rig_expect(w->rig, &w->conn, "hi");
    assert_int_equal(w->rig->opcode, PEAL_WS_TEXT);
    peal_conn_on_receive(&w->conn, false, peal_span_of("\x01\x02"));
    rig_expect(w->rig, &w->conn, "\x01\x02");
    assert_int_equal(w->rig->opcode, PEAL_WS_BINARY);
}

static void inbound_echo_json_gives_back_a_string(void **state)
{
    struct world *w = *state;
    open_raw(w, PEAL_INBOUND_ECHO_JSON, NULL);
    rig_say(&w->conn, "say \"hi\"");
    rig_expect(w->rig, &w->conn, "\"say \\\"hi\\\"\"");
    peal_conn_on_receive(&w->conn, false, peal_span_of("\x01\x02"));
    rig_expect(w->rig, &w->conn, "\"AQI=\"");
    assert_int_equal(w->rig->opcode, PEAL_WS_TEXT);
}

static void inbound_publish_goes_to_the_first_group(void **state)
{
    struct world *w = *state;
    struct peal_envelope env;
    open_raw(w, PEAL_INBOUND_PUBLISH, (char[]){"room"});
    rig_say(&w->conn, "hi");
    const struct peal_frame *sent = rig_sent(w->rig);
    assert_int_equal(sent->type, PEAL_F_PUBLISH);
    assert_int_equal(sent->entries.count, 1);
    assert_int_equal(peal_envelope_decode(sent->entries.at[0], &env), PEAL_OK);
    assert_true(peal_span_is(env.group, "room"));
    assert_true(peal_span_is(env.from, "bob"));
    assert_true(peal_span_is(env.data, "hi"));
    assert_int_equal(env.data_kind, PEAL_DATA_TEXT);
}

static void inbound_publish_without_a_group_or_too_large_closes(void **state)
{
    struct world *w = *state;
    open_raw(w, PEAL_INBOUND_PUBLISH, NULL);
    rig_say(&w->conn, "hi");
    rig_expect_close(w->rig, &w->conn, 4005);
    peal_conn_fini(&w->conn);
    w->rig->config->limits.message = 3;
    open_raw(w, PEAL_INBOUND_PUBLISH, (char[]){"room"});
    rig_forget(w->rig);
    rig_say(&w->conn, "four");
    rig_expect_close(w->rig, &w->conn, 1009);
    assert_int_equal(w->rig->order_count, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(inbound_refuse_closes),
        TEST(inbound_ignore_counts_only),
        TEST(inbound_echo_gives_back_the_same_frame),
        TEST(inbound_echo_json_gives_back_a_string),
        TEST(inbound_publish_goes_to_the_first_group),
        TEST(inbound_publish_without_a_group_or_too_large_closes),
    };
    peal_metrics_thread_start();
    return cmocka_run_group_tests_name("inbound", tests, NULL, NULL);
}

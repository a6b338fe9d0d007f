#include "node/conn.h"

#include "tests/unit/conn_rig.h"

static void conn_without_hello_is_closed_after_ten_seconds(void **state)
{
    struct world *w = *state;
    open_conn(w, &native, "bob");
    rig_pass(w->rig, PEAL_HELLO_MS - 100);
    rig_expect_nothing(w->rig, &w->conn);
    rig_pass(w->rig, 200);
    rig_expect_close(w->rig, &w->conn, 4403);
}

static void conn_ping_without_pong_closes(void **state)
{
    struct world *w = *state;
    open_welcomed(w);
    rig_pass(w->rig, w->rig->config->limits.ping_ms + 50);
    rig_expect(w->rig, &w->conn, "");
    assert_int_equal(w->rig->opcode, PEAL_WS_PING);
    peal_conn_on_pong(&w->conn, peal_span_of(""));
    rig_pass(w->rig, w->rig->config->limits.pong_ms + 50);
    rig_expect_nothing(w->rig, &w->conn); /* it came in time */

    rig_pass(w->rig, w->rig->config->limits.ping_ms);
    rig_take(w->rig, &w->conn);
    assert_int_equal(w->rig->opcode, PEAL_WS_PING);
    rig_pass(w->rig, w->rig->config->limits.pong_ms - 100);
    assert_true(w->conn.open);
    rig_pass(w->rig, 200);
    rig_expect_close(w->rig, &w->conn, 4101);
}

static void conn_message_that_does_not_end_closes(void **state)
{
    struct world *w = *state;
    open_welcomed(w);
    peal_conn_on_frames(&w->conn, 1, true);
    rig_pass(w->rig, PEAL_CONTINUATION_MS - 100);
    peal_conn_on_frames(&w->conn, 1, true); /* one more fragment gives no more time */
    rig_pass(w->rig, 200);
    rig_expect_close(w->rig, &w->conn, 1008);
}

static void conn_message_that_ends_is_no_longer_timed(void **state)
{
    struct world *w = *state;
    open_welcomed(w);
    peal_conn_on_frames(&w->conn, 1, true);
    rig_say(&w->conn, "{\"type\":\"ping\"}");
    peal_conn_on_frames(&w->conn, 1, false);
    rig_pass(w->rig, PEAL_CONTINUATION_MS + 100);
    assert_true(w->conn.open);
    rig_expect(w->rig, &w->conn, "{\"type\":\"pong\"}");
}

static void conn_more_than_5000_frames_in_a_second_closes(void **state)
{
    struct world *w = *state;
    open_welcomed(w);
    peal_conn_on_frames(&w->conn, PEAL_FRAMES_PER_S, false);
    rig_pass(w->rig, 1000);
    peal_conn_on_frames(&w->conn, PEAL_FRAMES_PER_S, false); /* another second */
    assert_true(w->conn.open);
    peal_conn_on_frames(&w->conn, 1, false);
    rig_expect_close(w->rig, &w->conn, 4129);
}

static void conn_that_sends_without_reading_is_closed_as_slow(void **state)
{
    struct world *w = *state;
    open_welcomed(w);
    int64_t slow = peal_metrics_sum(PEAL_M_CLOSED_SLOW);
    int64_t dropped = peal_metrics_sum(PEAL_M_DROPPED_SLOW);
    int64_t queued = 0;
    while (w->conn.open) {
        queued = w->conn.outq.frames;
        rig_say(&w->conn, "{\"type\":\"ping\"}");
    }
    assert_int_equal(queued, 12 + PEAL_OUTQ_CONTROL_FRAMES);
    /* What waited, and the reply that found no room. */
    assert_int_equal(peal_metrics_sum(PEAL_M_DROPPED_SLOW) - dropped, queued + 1);
    rig_expect_close(w->rig, &w->conn, 4208);
    peal_conn_fini(&w->conn);
    w->finished = true;
    assert_int_equal(peal_metrics_sum(PEAL_M_CLOSED_SLOW) - slow, 1);
}

static void conn_burst_that_the_kernel_takes_is_not_slow(void **state)
{
    struct world *w = *state;
    open_welcomed(w);
    w->rig->kernel_takes = true;
    for (int i = 0; i < 12 + PEAL_OUTQ_CONTROL_FRAMES + 1; i++)
        rig_say(&w->conn, "{\"type\":\"ping\"}");
    assert_true(w->conn.open);
    assert_int_equal(w->conn.outq.frames, 1);
}

static void conn_close_keeps_the_begun_frame_and_drops_the_rest(void **state)
{
    struct world *w = *state;
    struct iovec vector;
    open_welcomed(w);
    int64_t dropped = peal_metrics_sum(PEAL_M_DROPPED_CLOSED);
    for (int i = 0; i < 3; i++)
        rig_say(&w->conn, "{\"type\":\"ping\"}");
    peal_outq_consume(&w->conn.outq, 5);
    peal_conn_close(&w->conn, 4100, "shutdown", PEAL_M_CLOSED_SHUTDOWN);
    peal_conn_close(&w->conn, 4000, "again", PEAL_M_CLOSED_PROTOCOL); /* the first one counts */
    assert_int_equal(peal_metrics_sum(PEAL_M_DROPPED_CLOSED) - dropped, 2);
    assert_int_equal(peal_outq_gather(&w->conn.outq, &vector, 1), 1);
    assert_int_equal(vector.iov_len, 2 + strlen("{\"type\":\"pong\"}") - 5);
    assert_memory_equal(vector.iov_base, "ype\":\"pong\"}", vector.iov_len);
    peal_outq_consume(&w->conn.outq, vector.iov_len);
    rig_expect_close(w->rig, &w->conn, 4100);
    assert_string_equal(w->conn.close_reason, "shutdown");
}

static void conn_closed_hears_nothing_and_is_cut_after_three_seconds(void **state)
{
    struct world *w = *state;
    open_welcomed(w);
    peal_conn_close(&w->conn, 4100, "shutdown", PEAL_M_CLOSED_SHUTDOWN);
    rig_say(&w->conn, "{\"type\":\"join\",\"group\":\"a\"}");
    assert_int_equal(w->rig->order_count, 0);
    rig_pass(w->rig, PEAL_CLOSE_MS - 100);
    assert_int_equal(w->rig->cut_count, 0);
    rig_pass(w->rig, 200);
    assert_ptr_equal(w->rig->cut, &w->conn);
    assert_int_equal(w->rig->cut_count, 1);
}

static void conn_whose_peer_closed_gets_no_farewell(void **state)
{
    struct world *w = *state;
    open_welcomed(w);
    peal_conn_on_peer_close(&w->conn);
    peal_conn_close(&w->conn, 4100, "shutdown", PEAL_M_CLOSED_SHUTDOWN);
    rig_expect_nothing(w->rig, &w->conn);
    assert_string_equal(w->conn.close_reason, "peer");
    rig_pass(w->rig, PEAL_CLOSE_MS + 100);
    assert_int_equal(w->rig->cut_count, 1);
}

static void conn_raw_inbox_is_acked_by_the_pong_behind_its_messages(void **state)
{
    struct world *w = *state;
    open_raw(w, PEAL_INBOUND_REFUSE, (char[]){"user:{identity}"});
    rig_joined(w->rig, "user:bob", 7, 0, PEAL_FLAG_KEEPS);
    rig_message(w->rig, "user:bob", 7, 1, "\"one\"");
    rig_message(w->rig, "user:bob", 7, 2, "\"two\"");
    rig_expect(w->rig, &w->conn, "\"one\"");
    rig_expect(w->rig, &w->conn, "\"two\""); /* only then the ping follows */
    rig_expect(w->rig, &w->conn, "2");
    assert_int_equal(w->rig->opcode, PEAL_WS_PING);
    rig_expect_nothing(w->rig, &w->conn);
    rig_forget(w->rig);

    peal_conn_on_pong(&w->conn, peal_span_of("3"));  /* never pinged */
    peal_conn_on_pong(&w->conn, peal_span_of("2x")); /* no offset */
    rig_pass(w->rig, PEAL_ACK_JOIN_MS);
    assert_int_equal(w->rig->order_count, 0);
    peal_conn_on_pong(&w->conn, peal_span_of("2"));
    rig_pass(w->rig, PEAL_ACK_JOIN_MS);
    const struct peal_frame *sent = rig_sent(w->rig);
    assert_int_equal(sent->type, PEAL_F_MARK);
    assert_int_equal(sent->flags, PEAL_FLAG_ACK);
    assert_int_equal(sent->upto, 2);
    assert_true(peal_span_is(sent->group, "user:bob"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(conn_without_hello_is_closed_after_ten_seconds),
        TEST(conn_ping_without_pong_closes),
        TEST(conn_message_that_does_not_end_closes),
        TEST(conn_message_that_ends_is_no_longer_timed),
        TEST(conn_more_than_5000_frames_in_a_second_closes),
        TEST(conn_that_sends_without_reading_is_closed_as_slow),
        TEST(conn_burst_that_the_kernel_takes_is_not_slow),
        TEST(conn_close_keeps_the_begun_frame_and_drops_the_rest),
        TEST(conn_closed_hears_nothing_and_is_cut_after_three_seconds),
        TEST(conn_whose_peer_closed_gets_no_farewell),
        TEST(conn_raw_inbox_is_acked_by_the_pong_behind_its_messages),
    };
    peal_metrics_thread_start();
    return cmocka_run_group_tests_name("conn", tests, NULL, NULL);
}

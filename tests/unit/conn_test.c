#include "node/conn.h"

#include "proto/envelope.h"
#include "tests/unit/hub_rig.h"

static const char yaml[] = "limits: {queue: 2KiB, queue_messages: 12}\n"
                           "groups:\n"
                           "  - {match: 'user:{id}', durable: true}\n"
                           "  - {match: '*', join: anyone, publish: anyone}\n";

static struct peal_config_route native = {
    .path = "/", .dialect = PEAL_DIALECT_NATIVE, .identity = PEAL_IDENTITY_URL};
static struct peal_config_route native_token = {
    .path = "/", .dialect = PEAL_DIALECT_NATIVE, .identity = PEAL_IDENTITY_TOKEN};

struct world {
    struct rig *rig;
    struct peal_conn conn;
    bool finished;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    w->rig = rig_open(yaml);
    w->finished = true;
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    if (!w->finished) peal_conn_fini(&w->conn);
    rig_close(w->rig);
    free(w);
    return 0;
}

static void open_conn(struct world *w, const struct peal_config_route *route, const char *user)
{
    rig_connect(w->rig, &w->conn, route, user);
    w->finished = false;
}

/* A native connection of bob that was welcomed and is in step with its inbox. */
static void open_welcomed(struct world *w)
{
    open_conn(w, &native, "bob");
    rig_say(&w->conn, "{\"type\":\"hello\"}");
    rig_joined(w->rig, "user:bob", 7, 0, PEAL_FLAG_KEEPS);
    rig_expect_part(w->rig, &w->conn, "\"welcome\"");
    rig_forget(w->rig);
}

/* A raw connection of bob; joins the groups of the one template. */
static void open_raw(struct world *w, enum peal_inbound inbound, char *join)
{
    static struct peal_config_route raw;
    static char *joins[1];
    joins[0] = join;
    raw = (struct peal_config_route){.path = "/",
                                     .dialect = PEAL_DIALECT_RAW,
                                     .identity = PEAL_IDENTITY_URL,
                                     .inbound = (int)inbound,
                                     .join = {joins, join == NULL ? 0 : 1}};
    open_conn(w, &raw, "bob");
}

/* ---- hello ------------------------------------------------------------------------------- */

static void conn_hello_is_welcomed_when_the_inbox_answered(void **state)
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

static void conn_welcome_waits_for_every_group_of_the_hello(void **state)
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

static void conn_welcome_says_pending_after_two_seconds_and_joined_later(void **state)
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

static void conn_second_hello_is_an_error_and_the_third_bad_one_closes(void **state)
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

static void conn_good_command_forgives_bad_ones(void **state)
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

static void conn_third_command_before_hello_closes(void **state)
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

static void conn_without_hello_is_closed_after_ten_seconds(void **state)
{
    struct world *w = *state;
    open_conn(w, &native, "bob");
    rig_pass(w->rig, PEAL_HELLO_MS - 100);
    rig_expect_nothing(w->rig, &w->conn);
    rig_pass(w->rig, 200);
    rig_expect_close(w->rig, &w->conn, 4403);
}

static void conn_hello_without_the_token_of_its_route_is_refused(void **state)
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

/* ---- deadlines --------------------------------------------------------------------------- */

static void conn_token_that_expires_closes_after_the_leeway(void **state)
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

/* ---- commands ---------------------------------------------------------------------------- */

static void conn_leave_is_answered_and_ordered(void **state)
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

static void conn_leave_of_what_the_welcome_waits_for_completes_it(void **state)
{
    struct world *w = *state;
    open_conn(w, &native, NULL);
    rig_say(&w->conn, "{\"type\":\"hello\",\"groups\":[\"a\"]}");
    rig_say(&w->conn, "{\"type\":\"leave\",\"group\":\"a\"}");
    rig_expect(w->rig, &w->conn, "{\"type\":\"left\",\"group\":\"a\"}");
    rig_expect_part(w->rig, &w->conn, "\"groups\":{}");
}

static void conn_joins_more_than_once_or_too_often_are_refused(void **state)
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

static void conn_ping_is_answered_with_its_id(void **state)
{
    struct world *w = *state;
    open_welcomed(w);
    rig_say(&w->conn, "{\"type\":\"ping\",\"id\":\"\\u0041 b\"}");
    rig_expect(w->rig, &w->conn, "{\"type\":\"pong\",\"id\":\"\\u0041 b\"}");
}

/* ---- closing ----------------------------------------------------------------------------- */

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

/* ---- frames that are data ---------------------------------------------------------------- */

static void conn_inbound_refuse_closes(void **state)
{
    struct world *w = *state;
    open_raw(w, PEAL_INBOUND_REFUSE, NULL);
    rig_say(&w->conn, "hi");
    rig_expect_close(w->rig, &w->conn, 4005);
}

static void conn_inbound_ignore_counts_only(void **state)
{
    struct world *w = *state;
    open_raw(w, PEAL_INBOUND_IGNORE, NULL);
    int64_t ignored = peal_metrics_sum(PEAL_M_FRAMES_IGNORED);
    rig_say(&w->conn, "hi");
    rig_expect_nothing(w->rig, &w->conn);
    assert_true(w->conn.open);
    assert_int_equal(peal_metrics_sum(PEAL_M_FRAMES_IGNORED) - ignored, 1);
}

static void conn_inbound_echo_gives_back_the_same_frame(void **state)
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

static void conn_inbound_echo_json_gives_back_a_string(void **state)
{
    struct world *w = *state;
    open_raw(w, PEAL_INBOUND_ECHO_JSON, NULL);
    rig_say(&w->conn, "say \"hi\"");
    rig_expect(w->rig, &w->conn, "\"say \\\"hi\\\"\"");
    peal_conn_on_receive(&w->conn, false, peal_span_of("\x01\x02"));
    rig_expect(w->rig, &w->conn, "\"AQI=\"");
    assert_int_equal(w->rig->opcode, PEAL_WS_TEXT);
}

static void conn_inbound_publish_goes_to_the_first_group(void **state)
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

static void conn_inbound_publish_without_a_group_or_too_large_closes(void **state)
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
        TEST(conn_hello_is_welcomed_when_the_inbox_answered),
        TEST(conn_welcome_waits_for_every_group_of_the_hello),
        TEST(conn_welcome_says_pending_after_two_seconds_and_joined_later),
        TEST(conn_second_hello_is_an_error_and_the_third_bad_one_closes),
        TEST(conn_good_command_forgives_bad_ones),
        TEST(conn_third_command_before_hello_closes),
        TEST(conn_without_hello_is_closed_after_ten_seconds),
        TEST(conn_hello_without_the_token_of_its_route_is_refused),
        TEST(conn_token_that_expires_closes_after_the_leeway),
        TEST(conn_ping_without_pong_closes),
        TEST(conn_message_that_does_not_end_closes),
        TEST(conn_message_that_ends_is_no_longer_timed),
        TEST(conn_more_than_5000_frames_in_a_second_closes),
        TEST(conn_leave_is_answered_and_ordered),
        TEST(conn_leave_of_what_the_welcome_waits_for_completes_it),
        TEST(conn_joins_more_than_once_or_too_often_are_refused),
        TEST(conn_ping_is_answered_with_its_id),
        TEST(conn_that_sends_without_reading_is_closed_as_slow),
        TEST(conn_burst_that_the_kernel_takes_is_not_slow),
        TEST(conn_close_keeps_the_begun_frame_and_drops_the_rest),
        TEST(conn_closed_hears_nothing_and_is_cut_after_three_seconds),
        TEST(conn_whose_peer_closed_gets_no_farewell),
        TEST(conn_inbound_refuse_closes),
        TEST(conn_inbound_ignore_counts_only),
        TEST(conn_inbound_echo_gives_back_the_same_frame),
        TEST(conn_inbound_echo_json_gives_back_a_string),
        TEST(conn_inbound_publish_goes_to_the_first_group),
        TEST(conn_inbound_publish_without_a_group_or_too_large_closes),
        TEST(conn_raw_inbox_is_acked_by_the_pong_behind_its_messages),
    };
    peal_metrics_thread_start();
    return cmocka_run_group_tests_name("conn", tests, NULL, NULL);
}

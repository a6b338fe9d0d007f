#include "node/calls.h"

#include "tests/unit/hub_rig.h"

static const char yaml[] = "groups: [{match: '*', join: anyone, publish: anyone}]\n";

static struct peal_config_route native = {
    .path = "/", .dialect = PEAL_DIALECT_NATIVE, .identity = PEAL_IDENTITY_URL};

struct world {
    struct rig *rig;
    struct peal_conn conn;
    bool gone;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    w->rig = rig_open(yaml);
    rig_connect(w->rig, &w->conn, &native, NULL);
    rig_say(&w->conn, "{\"type\":\"hello\"}");
    rig_expect_part(w->rig, &w->conn, "\"welcome\"");
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    if (!w->gone) peal_conn_fini(&w->conn);
    rig_close(w->rig);
    free(w);
    return 0;
}

/* Publishes with the id "i" and gives the req of what the router is sent. */
static uint64_t publish(struct world *w)
{
    struct peal_envelope env = {.group = peal_span_of("room"), .data = peal_span_of("1")};
    peal_call_publish(&w->conn, peal_span_of("\"i\""), &env);
    assert_int_equal(rig_sent(w->rig)->type, PEAL_F_PUBLISH);
    assert_true(peal_span_is(w->rig->orders[w->rig->order_count - 1]->group, "room"));
    return rig_sent(w->rig)->req;
}

static void receipt(struct world *w, uint64_t req, const struct peal_frame *receipt)
{
    struct peal_buf buf = {0};
    struct peal_span entry;
    struct peal_frame answer = {.type = PEAL_F_PUBLISHED, .req = req};
    if (receipt != NULL) {
        peal_frame_encode(receipt, &buf);
        entry = peal_buf_span(&buf);
        answer.entries.at = &entry;
        answer.entries.count = 1;
    }
    rig_frame(w->rig, &answer);
    peal_buf_fini(&buf);
}

static void expect_quiet(struct world *w)
{
    rig_pass(w->rig, PEAL_REQUEST_MS + 100);
    rig_expect_nothing(w->rig, &w->conn);
    assert_true(peal_list_empty(&w->conn.calls));
    assert_int_equal(w->rig->hub.requests.count, 0);
}

static void calls_publish_is_answered_once_with_its_receipt(void **state)
{
    struct world *w = *state;
    uint64_t req = publish(w);
    struct peal_frame fine = {.type = PEAL_F_RECEIPT,
                              .id = peal_span_of("m"),
                              .group = peal_span_of("room"),
                              .epoch = 7,
                              .offset = 3};
    receipt(w, req, &fine);
    receipt(w, req, &fine); /* a second answer finds nobody */
    rig_expect(w->rig, &w->conn,
               "{\"type\":\"published\",\"id\":\"i\",\"message_id\":\"m\",\"group\":\"room\","
               "\"epoch\":\"7\",\"offset\":3,\"ack\":\"routed\"}");
    expect_quiet(w);
}

static void calls_publish_that_the_receipt_refuses_says_why(void **state)
{
    struct world *w = *state;
    struct peal_frame refused = {.type = PEAL_F_RECEIPT,
                                 .code = PEAL_ESTORE_FULL,
                                 .message = peal_span_of("the store is full")};
    receipt(w, publish(w), &refused);
    rig_expect_part(w->rig, &w->conn,
                    "{\"type\":\"error\",\"id\":\"i\",\"code\":\"store_full\","
                    "\"message\":\"the store is full\"");
    expect_quiet(w);
}

static void calls_publish_without_a_receipt_is_an_error(void **state)
{
    struct world *w = *state;
    receipt(w, publish(w), NULL);
    rig_expect_part(w->rig, &w->conn, "\"id\":\"i\",\"code\":\"internal\"");
    expect_quiet(w);
}

static void calls_error_of_the_router_is_told_once(void **state)
{
    struct world *w = *state;
    rig_letter(w->rig, peal_letter_failed(publish(w), PEAL_ENO_ROUTER));
    rig_expect_part(w->rig, &w->conn, "\"id\":\"i\",\"code\":\"no_router\"");
    expect_quiet(w);
}

static void calls_silence_is_a_timeout_and_a_late_answer_nothing(void **state)
{
    struct world *w = *state;
    uint64_t req = publish(w);
    rig_pass(w->rig, PEAL_REQUEST_MS - 1);
    rig_expect_nothing(w->rig, &w->conn);
    rig_pass(w->rig, 1);
    rig_expect_part(w->rig, &w->conn, "\"id\":\"i\",\"code\":\"timeout\"");
    struct peal_frame late = {.type = PEAL_F_RECEIPT, .group = peal_span_of("room")};
    receipt(w, req, &late);
    expect_quiet(w);
}

static void calls_that_the_bus_has_no_room_for_fail_at_once(void **state)
{
    struct world *w = *state;
    struct peal_envelope env = {.group = peal_span_of("room"), .data = peal_span_of("1")};
    w->rig->bus_is_full = true;
    peal_call_publish(&w->conn, peal_span_of("\"i\""), &env);
    rig_expect_part(w->rig, &w->conn, "\"id\":\"i\",\"code\":\"queue_full\"");
    w->rig->bus_is_full = false;
    expect_quiet(w);
}

static void calls_of_a_connection_that_went_are_answered_to_nobody(void **state)
{
    struct world *w = *state;
    uint64_t first = publish(w);
    uint64_t second = publish(w);
    assert_true(first != second);
    peal_conn_fini(&w->conn);
    w->gone = true;
    assert_int_equal(w->rig->hub.requests.count, 0);
    receipt(w, first, NULL); /* the address sanitizer looks on */
    rig_pass(w->rig, PEAL_REQUEST_MS + 100);
}

static void calls_of_a_closing_connection_say_nothing_after_the_farewell(void **state)
{
    struct world *w = *state;
    uint64_t req = publish(w);
    peal_conn_close(&w->conn, 4100, "shutdown", PEAL_M_CLOSED_SHUTDOWN);
    receipt(w, req, NULL);
    rig_expect_close(w->rig, &w->conn, 4100);
}

static void calls_read_and_inbox_are_answered_by_kind(void **state)
{
    struct world *w = *state;
    struct peal_frame mark = {.type = PEAL_F_MARK, .flags = PEAL_FLAG_READ, .upto = 3};
    peal_call_router(&w->conn, PEAL_CONN_CALL_READ, peal_span_of("1"), peal_span_of("user:bob"),
                     &mark);
    struct peal_frame marked = {
        .type = PEAL_F_MARKED, .req = rig_sent(w->rig)->req, .unread = 2, .rev = 9};
    struct peal_frame fetch = {.type = PEAL_F_FETCH, .flags = PEAL_FLAG_REVERSE};
    peal_call_router(&w->conn, PEAL_CONN_CALL_INBOX, (struct peal_span){0},
                     peal_span_of("user:bob"), &fetch);
    struct peal_frame page = {
        .type = PEAL_F_PAGE, .req = rig_sent(w->rig)->req, .unread = 2, .rev = 9};
    rig_frame(w->rig, &page); /* not in the order of the questions */
    rig_frame(w->rig, &marked);
    rig_expect(w->rig, &w->conn, "{\"type\":\"inbox\",\"messages\":[],\"unread\":2,\"rev\":9}");
    rig_expect(w->rig, &w->conn, "{\"type\":\"ok\",\"id\":1,\"unread\":2,\"rev\":9}");
    expect_quiet(w);
}

static void calls_ack_is_answered_only_when_it_failed(void **state)
{
    struct world *w = *state;
    for (int failed = 0; failed < 2; failed++) {
        struct peal_frame mark = {.type = PEAL_F_MARK, .flags = PEAL_FLAG_ACK, .upto = 3};
        peal_call_router(&w->conn, PEAL_CONN_CALL_ACK, peal_span_of("1"), peal_span_of("user:bob"),
                         &mark);
        rig_letter(w->rig,
                   peal_letter_failed(rig_sent(w->rig)->req, failed ? PEAL_ENO_ROUTER : PEAL_OK));
        if (failed) rig_expect_part(w->rig, &w->conn, "\"id\":1,\"code\":\"no_router\"");
        rig_expect_nothing(w->rig, &w->conn);
    }
    expect_quiet(w);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(calls_publish_is_answered_once_with_its_receipt),
        TEST(calls_publish_that_the_receipt_refuses_says_why),
        TEST(calls_publish_without_a_receipt_is_an_error),
        TEST(calls_error_of_the_router_is_told_once),
        TEST(calls_silence_is_a_timeout_and_a_late_answer_nothing),
        TEST(calls_that_the_bus_has_no_room_for_fail_at_once),
        TEST(calls_of_a_connection_that_went_are_answered_to_nobody),
        TEST(calls_of_a_closing_connection_say_nothing_after_the_farewell),
        TEST(calls_ack_is_answered_only_when_it_failed),
        TEST(calls_read_and_inbox_are_answered_by_kind),
    };
    peal_metrics_thread_start();
    return cmocka_run_group_tests_name("calls", tests, NULL, NULL);
}

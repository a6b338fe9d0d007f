#include "node/hub.h"

#include "tests/unit/hub_rig.h"

static const char yaml[] = "groups: [{match: '*', join: anyone}]\n";

static struct peal_config_route native = {
    .path = "/", .dialect = PEAL_DIALECT_NATIVE, .identity = PEAL_IDENTITY_URL};

/* A request that remembers how often and with what it was done. */
struct question {
    struct peal_request request;
    size_t answers;
    uint64_t code;
    bool silence;
};

static void on_done(struct peal_request *request, const struct peal_frame *answer)
{
    struct question *q = (struct question *)(void *)request;
    assert_false(peal_request_waits(request)); /* done may free it, or ask again */
    q->answers++;
    q->silence = answer == NULL;
    if (answer != NULL) q->code = answer->code;
}

static int setup(void **state)
{
    *state = rig_open(yaml);
    return 0;
}

static int teardown(void **state)
{
    rig_close(*state);
    return 0;
}

static void ask(struct rig *rig, struct question *q)
{
    struct peal_frame frame = {.type = PEAL_F_MARK, .upto = 3};
    *q = (struct question){0};
    peal_request_init(&q->request, on_done);
    assert_int_equal(peal_request_send(&rig->hub, &q->request, peal_span_of("room"), &frame),
                     PEAL_OK);
    assert_true(peal_request_waits(&q->request));
}

static void hub_request_is_answered_once(void **state)
{
    struct rig *rig = *state;
    struct question a;
    struct question b;
    ask(rig, &a);
    ask(rig, &b);
    uint64_t req = b.request.req;
    rig_letter(rig, peal_letter_failed(req, PEAL_ELIMIT));
    rig_letter(rig, peal_letter_failed(req, PEAL_ELIMIT));
    rig_letter(rig, peal_letter_failed(999999, PEAL_ELIMIT));
    assert_int_equal(a.answers, 0);
    assert_int_equal(b.answers, 1);
    assert_int_equal(b.code, PEAL_ELIMIT);
    rig_pass(rig, PEAL_REQUEST_MS);
    assert_int_equal(b.answers, 1);
    assert_int_equal(a.answers, 1);
}

static void hub_request_carries_the_worker_in_its_number(void **state)
{
    struct rig *rig = *state;
    struct question a;
    struct question b;
    ask(rig, &a);
    ask(rig, &b);
    assert_int_equal(rig->orders[0]->worker, 3);
    assert_true(rig->orders[0]->req >> PEAL_REQ_WORKER_SHIFT == 3);
    assert_true(rig->orders[0]->req == a.request.req);
    assert_true(a.request.req != b.request.req);
    assert_true(rig_sent(rig)->req == b.request.req);
    peal_request_cancel(&rig->hub, &a.request);
    peal_request_cancel(&rig->hub, &b.request);
}

static void hub_request_without_an_answer_is_done_with_nothing(void **state)
{
    struct rig *rig = *state;
    struct question older;
    struct question younger;
    ask(rig, &older);
    rig_pass(rig, 100);
    ask(rig, &younger);
    uint64_t req = older.request.req;
    rig_pass(rig, PEAL_REQUEST_MS - 101);
    assert_int_equal(older.answers, 0);
    rig_pass(rig, 1);
    assert_int_equal(older.answers, 1);
    assert_true(older.silence);
    assert_int_equal(younger.answers, 0);
    rig_letter(rig, peal_letter_failed(req, PEAL_OK));
    assert_int_equal(older.answers, 1);
    rig_pass(rig, 100);
    assert_int_equal(younger.answers, 1);
}

static void hub_request_that_is_cancelled_is_never_done(void **state)
{
    struct rig *rig = *state;
    struct question q;
    ask(rig, &q);
    uint64_t req = q.request.req;
    peal_request_cancel(&rig->hub, &q.request);
    peal_request_cancel(&rig->hub, &q.request);
    assert_false(peal_request_waits(&q.request));
    rig_letter(rig, peal_letter_failed(req, PEAL_OK));
    rig_pass(rig, PEAL_REQUEST_MS);
    assert_int_equal(q.answers, 0);
    assert_int_equal(rig->hub.requests.count, 0);
}

static void hub_request_the_bus_refuses_is_not_sent(void **state)
{
    struct rig *rig = *state;
    struct question q = {0};
    struct peal_frame frame = {.type = PEAL_F_MARK};
    rig->bus_is_full = true;
    peal_request_init(&q.request, on_done);
    assert_int_equal(peal_request_send(&rig->hub, &q.request, peal_span_of("room"), &frame),
                     PEAL_EQUEUE_FULL);
    assert_false(peal_request_waits(&q.request));
    rig_pass(rig, PEAL_REQUEST_MS);
    assert_int_equal(q.answers, 0);
}

static void hub_end_does_what_still_waits(void **state)
{
    (void)state;
    struct rig *rig = rig_open(yaml);
    struct question q;
    ask(rig, &q);
    rig_close(rig);
    assert_int_equal(q.answers, 1);
    assert_true(q.silence);
}

static void hub_link_is_told_to_who_was_welcomed(void **state)
{
    struct rig *rig = *state;
    struct peal_conn welcomed;
    struct peal_conn silent;
    rig_connect(rig, &welcomed, &native, NULL);
    rig_connect(rig, &silent, &native, NULL);
    rig_say(&welcomed, "{\"type\":\"hello\"}");
    rig_expect_part(rig, &welcomed, "\"welcome\"");
    rig_letter(rig, peal_letter_note(PEAL_LETTER_LINK, true));
    rig_expect(rig, &welcomed, "{\"type\":\"degraded\",\"on\":true}");
    rig_expect_nothing(rig, &silent);
    rig_say(&silent, "{\"type\":\"hello\"}"); /* hears it behind its welcome */
    rig_expect_part(rig, &silent, "\"welcome\"");
    rig_expect(rig, &silent, "{\"type\":\"degraded\",\"on\":true}");
    rig_letter(rig, peal_letter_note(PEAL_LETTER_LINK, false));
    rig_expect(rig, &welcomed, "{\"type\":\"degraded\",\"on\":false}");
    rig_expect(rig, &silent, "{\"type\":\"degraded\",\"on\":false}");
    assert_int_equal(rig->hub.conn_count, 2);
    peal_conn_fini(&welcomed);
    peal_conn_fini(&silent);
    assert_int_equal(rig->hub.conn_count, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(hub_request_is_answered_once),
        TEST(hub_request_carries_the_worker_in_its_number),
        TEST(hub_request_without_an_answer_is_done_with_nothing),
        TEST(hub_request_that_is_cancelled_is_never_done),
        TEST(hub_request_the_bus_refuses_is_not_sent),
        cmocka_unit_test(hub_end_does_what_still_waits),
        TEST(hub_link_is_told_to_who_was_welcomed),
    };
    peal_metrics_thread_start();
    return cmocka_run_group_tests_name("hub", tests, NULL, NULL);
}

#include "node/parcels.h"

#include <stdio.h>

#include "base/limits.h"
#include "base/metrics.h"
#include "tests/unit/uplink_rig.h"

static void parcels_turn_leaves_as_one_message_in_order(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    forget(w);
    order_more(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "a");
    request(w, PEAL_F_FETCH, req_of(0, 2), "a", 0);
    order_more(w, PEAL_ORDER_LEAVE, 0, 0, "a");
    order_more(w, PEAL_ORDER_JOIN, 1, req_of(1, 3), "a");
    assert_int_equal(w->message_count, 0);
    peal_uplink_flush(w->up);
    assert_int_equal(w->message_count, 1);
    static const enum peal_frame_type expected[] = {PEAL_F_JOIN, PEAL_F_FETCH, PEAL_F_LEAVE,
                                                    PEAL_F_JOIN};
    assert_int_equal(w->sent_count, 4);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(w->sent[i].type, expected[i]);
    assert_true(w->sent[1].req == req_of(0, 2));
    assert_true(w->sent[3].req == req_of(1, 3));
    peal_uplink_flush(w->up);
    assert_int_equal(w->message_count, 1); /* nothing is sent twice */
}

static void parcels_many_joins_leave_in_bounded_messages(void **state)
{
    struct world *w = *state;
    enum { COUNT = 3000 };
    char name[32];
    batch(w, 5, 0, NULL);
    forget(w);
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "room:%d", i);
        order_more(w, PEAL_ORDER_JOIN, 0, req_of(0, 1 + (uint64_t)i), name);
    }
    peal_uplink_flush(w->up);
    assert_int_equal(w->sent_count, COUNT);
    assert_in_range(w->message_count, 3, 6);
    assert_in_range(w->message_bytes, 1, 70000);
    for (uint64_t i = 0; i < COUNT; i++)
        assert_true(w->sent[i].req == req_of(0, 1 + i));
}

/* A worker's FETCH for a member that is behind. */
static void want_page(struct world *w, uint64_t req)
{
    struct peal_buf buf = {0};
    struct peal_frame fetch = {.type = PEAL_F_FETCH, .req = req, .group = peal_span_of("room")};
    peal_frame_encode(&fetch, &buf);
    struct peal_order *o = peal_order_new(PEAL_ORDER_SEND, (uint8_t)(req >> PEAL_REQ_WORKER_SHIFT),
                                          req, fetch.group, peal_buf_span(&buf));
    o->repair = true;
    peal_uplink_on_order(w->up, o);
    peal_buf_fini(&buf);
}

static void page_came(struct world *w, uint64_t req)
{
    struct peal_buf buf = {0};
    struct peal_frame page = {.type = PEAL_F_PAGE, .req = req, .group = peal_span_of("room")};
    peal_frame_encode(&page, &buf);
    peal_uplink_on_answer(w->up, 0, peal_buf_span(&buf));
    peal_uplink_flush(w->up);
    peal_buf_fini(&buf);
}

static size_t count_fetches(const struct world *w)
{
    size_t count = 0;
    for (size_t i = 0; i < w->sent_count; i++)
        count += w->sent[i].type == PEAL_F_FETCH;
    return count;
}

static void parcels_pages_of_all_workers_share_what_a_router_is_asked_at_once(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    confirm(w, 1);
    forget(w);
    for (uint64_t n = 1; n <= PEAL_REPAIRS_MAX; n++) {
        want_page(w, req_of(0, n));
        want_page(w, req_of(1, n));
    }
    request(w, PEAL_F_PUBLISH, req_of(0, 99), "room", 1); /* waits for none of them */
    peal_uplink_flush(w->up);
    assert_int_equal(count_fetches(w), PEAL_REPAIRS_MAX);
    assert_int_equal(last_sent(w)->type, PEAL_F_PUBLISH);
    page_came(w, req_of(0, 1));
    assert_int_equal(count_fetches(w), PEAL_REPAIRS_MAX + 1);
    page_came(w, req_of(0, 1)); /* a second time gives no place */
    assert_int_equal(count_fetches(w), PEAL_REPAIRS_MAX + 1);
}

static void parcels_page_that_takes_too_long_makes_room_for_the_next(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    confirm(w, 1);
    for (uint64_t n = 1; n <= PEAL_REPAIRS_MAX; n++)
        want_page(w, req_of(0, n));
    pass(w, 1500);
    batch(w, 5, 0, NULL);
    want_page(w, req_of(1, 1));
    forget(w);
    pass(w, 500);
    assert_int_equal(w->posted_count[0], PEAL_REPAIRS_MAX);
    for (size_t i = 0; i < PEAL_REPAIRS_MAX; i++)
        assert_int_equal(w->posted[0][i]->frame.code, PEAL_ETIMEOUT);
    assert_int_equal(count_fetches(w), 1);
    assert_true(peal_uplink_ready(w->up)); /* slow is not away */
    /* What is in the line when the link goes is refused at once. */
    pass(w, PEAL_BEAT_LOST_MS + 1);
    forget(w);
    want_page(w, req_of(1, 2));
    peal_uplink_flush(w->up);
    assert_int_equal(w->posted[1][w->posted_count[1] - 1]->frame.code, PEAL_ENO_ROUTER);
}

static void parcels_large_request_follows_what_waits_before_it(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    forget(w);
    order_more(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "a");
    request(w, PEAL_F_PUBLISH, req_of(0, 2), "a", 100000);
    assert_int_equal(w->sent_count, 2);
    assert_int_equal(w->sent[0].type, PEAL_F_JOIN);
    assert_int_equal(w->sent[1].type, PEAL_F_PUBLISH);
    w->send_full = true;
    request(w, PEAL_F_PUBLISH, req_of(0, 3), "a", 100000);
    peal_uplink_flush(w->up);
    assert_int_equal(w->posted_count[0], 1);
    assert_true(w->posted[0][0]->frame.req == req_of(0, 3));
    assert_int_equal(w->posted[0][0]->frame.code, PEAL_EQUEUE_FULL);
}

static void parcels_batch_that_cannot_be_sent_is_that_for_each_frame(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    confirm(w, w->sent[0].seq);
    peal_uplink_flush(w->up); /* the workers are told of the sync */
    forget(w);
    w->send_full = true;
    order_more(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "a");
    request(w, PEAL_F_FETCH, req_of(0, 2), "a", 0);
    request(w, PEAL_F_MARK, req_of(1, 3), "a", 0);
    request(w, PEAL_F_MARK, 0, "a", 0);
    request(w, PEAL_F_PUBLISH, req_of(1, 4), "a", 10);
    order_more(w, PEAL_ORDER_JOIN, 0, req_of(0, 5), "b");
    order_more(w, PEAL_ORDER_LEAVE, 0, 0, "b");
    peal_uplink_flush(w->up);
    /* The requests fail at once, of both workers; joins say nothing yet. */
    assert_int_equal(w->posted_count[0], 1);
    assert_true(w->posted[0][0]->frame.req == req_of(0, 2));
    assert_int_equal(w->posted[0][0]->frame.code, PEAL_EQUEUE_FULL);
    assert_int_equal(w->posted_count[1], 2);
    assert_true(w->posted[1][0]->frame.req == req_of(1, 3));
    assert_true(w->posted[1][1]->frame.req == req_of(1, 4));
    assert_true(peal_uplink_ready(w->up));
    /* The join is asked again, the one that was taken back is not, and the requests are not. */
    forget(w);
    w->send_full = false;
    pass(w, 2500);
    size_t joins = 0;
    for (size_t i = 0; i < w->sent_count; i++) {
        assert_int_not_equal(w->sent[i].type, PEAL_F_FETCH);
        if (w->sent[i].type != PEAL_F_JOIN) continue;
        assert_true(w->sent[i].req == req_of(0, 1));
        joins++;
    }
    assert_int_equal(joins, 1);
}

int main(void)
{
    peal_metrics_thread_start();
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(parcels_turn_leaves_as_one_message_in_order),
        TEST(parcels_many_joins_leave_in_bounded_messages),
        TEST(parcels_pages_of_all_workers_share_what_a_router_is_asked_at_once),
        TEST(parcels_page_that_takes_too_long_makes_room_for_the_next),
        TEST(parcels_large_request_follows_what_waits_before_it),
        TEST(parcels_batch_that_cannot_be_sent_is_that_for_each_frame),
    };
    return cmocka_run_group_tests_name("parcels", tests, NULL, NULL);
}

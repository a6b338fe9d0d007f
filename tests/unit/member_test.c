#include "node/member.h"

#include "tests/unit/room_rig.h"

static void member_starts_where_the_group_is(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 40, PEAL_FLAG_KEEPS);
    assert_int_equal(peal_member_state(member_of(conn)), PEAL_MEMBER_LIVE);
    rig_message(w->rig, "room", EPOCH, 41, "true");
    expect_message(w, conn, 41, false);
    assert_int_equal(w->rig->order_count, 0);
}

static void member_since_the_newest_is_full_at_once(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_native(w);
    rig_say(conn, "{\"type\":\"join\",\"group\":\"room\",\"since\":[\"7\",40]}");
    rig_joined(w->rig, "room", EPOCH, 40, PEAL_FLAG_KEEPS);
    rig_expect_part(w->rig, conn, "\"offset\":40,\"recovered\":\"full\"");
    assert_int_equal(peal_member_state(member_of(conn)), PEAL_MEMBER_LIVE);
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_SEND, 0), 0);
}

static void member_since_an_older_position_is_replayed_and_leads_to_live(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_native(w);
    rig_say(conn, "{\"type\":\"join\",\"group\":\"room\",\"since\":[\"7\",38]}");
    rig_joined(w->rig, "room", EPOCH, 40, PEAL_FLAG_KEEPS);
    rig_expect_nothing(w->rig, conn); /* whether it can be continued is not known yet */
    page(w, fetch_req(w, EPOCH, 38), EPOCH, 38, 40, 0);
    rig_expect_part(w->rig, conn, "\"offset\":38,\"recovered\":\"full\"");
    expect_message(w, conn, 39, true);
    expect_message(w, conn, 40, true);
    assert_int_equal(peal_member_state(member_of(conn)), PEAL_MEMBER_LIVE);
    rig_message(w->rig, "room", EPOCH, 41, "true");
    expect_message(w, conn, 41, false);
}

static void member_since_another_epoch_is_a_gap(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_native(w);
    rig_say(conn, "{\"type\":\"join\",\"group\":\"room\",\"since\":[\"6\",90]}");
    rig_joined(w->rig, "room", EPOCH, 2, PEAL_FLAG_KEEPS);
    uint64_t req = fetch_req(w, 6, 90);
    page(w, req, EPOCH, 0, 2, 1);
    rig_expect_part(w->rig, conn, "\"recovered\":\"gap\"");
    rig_expect(w->rig, conn,
               "{\"type\":\"gap\",\"group\":\"room\",\"from\":1,\"to\":1,\"epoch\":\"7\","
               "\"why\":\"evicted\"}");
    expect_message(w, conn, 2, true);
    rig_expect_nothing(w->rig, conn);
    assert_int_equal(peal_member_state(member_of(conn)), PEAL_MEMBER_LIVE);
}

static void member_last_starts_so_many_before_the_newest(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_native(w);
    rig_say(conn, "{\"type\":\"join\",\"group\":\"room\",\"last\":5}");
    rig_joined(w->rig, "room", EPOCH, 40, PEAL_FLAG_KEEPS);
    /* Only two are left: what was evicted before them is no loss. */
    page(w, fetch_req(w, EPOCH, 35), EPOCH, 35, 40, 38);
    rig_expect_part(w->rig, conn, "\"recovered\":\"new\"");
    expect_message(w, conn, 39, true);
    expect_message(w, conn, 40, true);
    rig_expect_nothing(w->rig, conn);
    assert_int_equal(peal_member_state(member_of(conn)), PEAL_MEMBER_LIVE);
}

static void member_loss_behind_the_position_of_a_join_with_last_is_told(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_native(w);
    rig_say(conn, "{\"type\":\"join\",\"group\":\"room\",\"last\":5}");
    rig_joined(w->rig, "room", EPOCH, 40, 0);
    uint64_t req = fetch_req(w, EPOCH, 35);
    rig_message(w->rig, "room", EPOCH, 41, "true"); /* while the page is on its way */
    page(w, req, EPOCH, 35, 40, 40);
    rig_expect_part(w->rig, conn, "\"recovered\":\"new\"");
    page(w, fetch_req(w, EPOCH, 40), EPOCH, 40, 41, 41);
    rig_expect_part(w->rig, conn, "\"gap\",\"group\":\"room\",\"from\":41,\"to\":41,");
    assert_int_equal(peal_member_state(member_of(conn)), PEAL_MEMBER_LIVE);
}

static void member_page_that_begins_too_early_repeats_nothing(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 40, PEAL_FLAG_KEEPS);
    rig_message(w->rig, "room", EPOCH, 42, "true");
    page(w, fetch_req(w, EPOCH, 40), EPOCH, 38, 42, 0);
    expect_message(w, conn, 41, true);
    expect_message(w, conn, 42, true);
    rig_expect_nothing(w->rig, conn);
}

static void member_page_beyond_the_group_waits_ahead_and_skips_what_it_has(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 40, PEAL_FLAG_KEEPS);
    rig_message(w->rig, "room", EPOCH, 42, "true");
    page(w, fetch_req(w, EPOCH, 40), EPOCH, 40, 44, 0); /* 43 and 44 have not come in here yet */
    for (uint64_t offset = 41; offset <= 44; offset++)
        expect_message(w, conn, offset, true);
    assert_int_equal(peal_member_state(member_of(conn)), PEAL_MEMBER_AHEAD);
    rig_message(w->rig, "room", EPOCH, 43, "true");
    rig_expect_nothing(w->rig, conn);
    assert_int_equal(peal_member_state(member_of(conn)), PEAL_MEMBER_AHEAD);
    rig_message(w->rig, "room", EPOCH, 44, "true");
    rig_expect_nothing(w->rig, conn);
    assert_int_equal(peal_member_state(member_of(conn)), PEAL_MEMBER_LIVE);
    rig_message(w->rig, "room", EPOCH, 45, "true");
    expect_message(w, conn, 45, false);
}

static void member_full_queue_of_a_keeping_group_falls_behind_and_catches_up(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 0, PEAL_FLAG_KEEPS);
    int64_t behind = peal_metrics_sum(PEAL_M_BEHIND);
    for (uint64_t offset = 1; offset <= 10; offset++)
        rig_message(w->rig, "room", EPOCH, offset, "true");
    assert_int_equal(peal_metrics_sum(PEAL_M_BEHIND) - behind, 1);
    assert_int_equal(conn->outq.frames, 8);
    assert_int_equal(w->rig->order_count, 0); /* no room for a page either */
    for (uint64_t offset = 1; offset <= 8; offset++)
        expect_message(w, conn, offset, false);
    page(w, fetch_req(w, EPOCH, 8), EPOCH, 8, 10, 0);
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_SEND, 0), 1);
    expect_message(w, conn, 9, true);
    expect_message(w, conn, 10, true);
    assert_int_equal(peal_member_state(member_of(conn)), PEAL_MEMBER_LIVE);
}

static void member_page_larger_than_the_queue_ends_where_the_queue_is_full(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 0, PEAL_FLAG_KEEPS);
    rig_message(w->rig, "room", EPOCH, 12, "true");
    page(w, fetch_req(w, EPOCH, 0), EPOCH, 0, 12, 0);
    assert_int_equal(conn->outq.frames, 8);
    assert_int_equal(member_of(conn)->pursuit->cursor, 8);
    rig_forget(w->rig);
    for (uint64_t offset = 1; offset <= 8; offset++)
        expect_message(w, conn, offset, true);
    page(w, fetch_req(w, EPOCH, 8), EPOCH, 8, 12, 0);
    for (uint64_t offset = 9; offset <= 12; offset++)
        expect_message(w, conn, offset, true);
    rig_expect_nothing(w->rig, conn);
    assert_int_equal(peal_member_state(member_of(conn)), PEAL_MEMBER_LIVE);
}

static void member_full_queue_of_a_group_that_keeps_nothing_closes(void **state)
{
    struct world *w = *state;
    struct peal_conn *slow = open_member(w, 0, 0);
    struct peal_conn *other = open_member(w, 0, 0);
    for (uint64_t offset = 1; offset <= 9; offset++) {
        rig_message(w->rig, "room", EPOCH, offset, "true");
        expect_message(w, other, offset, false);
    }
    rig_expect_close(w->rig, slow, 4208);
    assert_true(other->open);
}

static void member_fetch_at_most_so_many_pages_at_once(void **state)
{
    struct world *w = *state;
    uint64_t reqs[CONNS];
    for (size_t i = 0; i < CONNS; i++)
        open_member(w, 40, PEAL_FLAG_KEEPS);
    rig_message(w->rig, "room", EPOCH, 42, "true");
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_SEND, PEAL_F_FETCH), PEAL_REPAIRS_MAX);
    assert_int_equal(w->rig->hub.fetching, PEAL_REPAIRS_MAX);
    for (size_t i = 0; i < PEAL_REPAIRS_MAX; i++)
        reqs[i] = w->rig->orders[i]->req;
    page(w, reqs[0], EPOCH, 40, 42, 0);
    assert_int_equal(w->rig->order_count, PEAL_REPAIRS_MAX + 1); /* the next in the line */
    peal_conn_fini(&w->conns[--w->count]);                       /* the last one in it */
    page(w, reqs[1], EPOCH, 40, 42, 0);
    assert_int_equal(w->rig->order_count, PEAL_REPAIRS_MAX + 1);
    assert_int_equal(w->rig->hub.fetching, PEAL_REPAIRS_MAX - 1);
}

static void member_that_goes_gives_its_page_back(void **state)
{
    struct world *w = *state;
    open_member(w, 40, PEAL_FLAG_KEEPS);
    rig_message(w->rig, "room", EPOCH, 42, "true");
    uint64_t req = fetch_req(w, EPOCH, 40);
    peal_conn_fini(&w->conns[--w->count]);
    assert_int_equal(w->rig->hub.fetching, 0);
    page(w, req, EPOCH, 40, 42, 0); /* nobody waits for it */
    assert_int_equal(w->rig->hub.fetching, 0);
}

static void member_failed_fetch_is_tried_again_after_half_a_second(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 40, PEAL_FLAG_KEEPS);
    rig_message(w->rig, "room", EPOCH, 41 + 1, "true");
    rig_letter(w->rig, peal_letter_failed(fetch_req(w, EPOCH, 40), PEAL_ENO_ROUTER));
    rig_pass(w->rig, 450);
    assert_int_equal(w->rig->order_count, 1);
    rig_pass(w->rig, 50);
    assert_int_equal(w->rig->order_count, 2);
    page(w, fetch_req(w, EPOCH, 40), EPOCH, 40, 42, 0);
    expect_message(w, conn, 41, true);
    expect_message(w, conn, 42, true);
}

int main(void)
{
    peal_metrics_thread_start();
    const struct CMUnitTest tests[] = {
        TEST(member_starts_where_the_group_is),
        TEST(member_since_the_newest_is_full_at_once),
        TEST(member_since_an_older_position_is_replayed_and_leads_to_live),
        TEST(member_since_another_epoch_is_a_gap),
        TEST(member_last_starts_so_many_before_the_newest),
        TEST(member_loss_behind_the_position_of_a_join_with_last_is_told),
        TEST(member_page_that_begins_too_early_repeats_nothing),
        TEST(member_page_beyond_the_group_waits_ahead_and_skips_what_it_has),
        TEST(member_full_queue_of_a_keeping_group_falls_behind_and_catches_up),
        TEST(member_page_larger_than_the_queue_ends_where_the_queue_is_full),
        TEST(member_full_queue_of_a_group_that_keeps_nothing_closes),
        TEST(member_fetch_at_most_so_many_pages_at_once),
        TEST(member_that_goes_gives_its_page_back),
        TEST(member_failed_fetch_is_tried_again_after_half_a_second),
    };
    return cmocka_run_group_tests_name("member", tests, NULL, NULL);
}

#include "router/requests.h"

#include "base/metrics.h"
#include "tests/unit/shard_rig.h"

static void requests_page_tells_what_history_no_longer_has(void **state)
{
    struct world *w = *state;
    struct peal_frame page;
    join(w, 42, 1, "room");
    for (int i = 0; i < 8; i++)
        push(w, "{\"group\":\"room\",\"data\":1}"); /* 5 are kept: 4..8 */
    fetch(w, "room", 1001, 6, &page);
    assert_int_equal(page.entries.count, 2);
    assert_int_equal(page.offset, 8);
    peal_frame_fini(&page);
    fetch(w, "room", 1001, 1, &page);
    expect_gap(&page, 2, 3, PEAL_GAP_EVICTED);
    assert_int_equal(page.entries.count, 6);
    assert_int_equal(page.offset, 8);
    peal_frame_fini(&page);
    fetch(w, "room", 999, 8, &page); /* another epoch */
    expect_gap(&page, 1, 3, PEAL_GAP_EPOCH);
    assert_int_equal(page.entries.count, 6);
    peal_frame_fini(&page);
    fetch(w, "room", 1001, 9, &page); /* ahead of the head is never up to date */
    expect_gap(&page, 1, 3, PEAL_GAP_EPOCH);
    peal_frame_fini(&page);
}

/* Nobody waits for the reader: the node is told, and asks again. */
static void requests_page_the_reader_has_no_room_for_is_refused(void **state)
{
    struct world *w = *state;
    struct peal_frame in = {.type = PEAL_F_FETCH, .req = 7, .group = peal_span_of("user:bob")};
    struct peal_frame page;
    w->reader_full = true;
    from_node(w, 42, &in);
    assert_int_equal(w->fetch_count, 0);
    assert_int_equal(w->reply_count, 1);
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->replies[0]), &page), PEAL_OK);
    assert_int_equal(page.type, PEAL_F_PAGE);
    assert_int_equal(page.req, 7);
    assert_int_equal(page.code, PEAL_EQUEUE_FULL);
    peal_frame_fini(&page);
    w->reader_full = false;
    from_node(w, 42, &in);
    assert_int_equal(w->fetch_count, 1);
}

static void requests_page_of_a_group_that_keeps_nothing_is_a_gap(void **state)
{
    struct world *w = *state;
    struct peal_frame page;
    join(w, 42, 1, "live:1");
    push(w, "{\"group\":\"live:1\",\"data\":1}");
    push(w, "{\"group\":\"live:1\",\"data\":1}");
    fetch(w, "live:1", 1001, 1, &page);
    expect_gap(&page, 2, 2, PEAL_GAP_UNREPAIRED);
    assert_int_equal(page.offset, 2);
    peal_frame_fini(&page);
}

static void requests_mark_is_told_to_all_nodes_of_the_inbox(void **state)
{
    struct world *w = *state;
    join(w, 42, 1, "user:bob");
    store_done(w, PEAL_OK);
    join(w, 43, 2, "user:bob");
    store_done(w, PEAL_OK);
    peal_shard_flush(w->shard);
    forget(w);
    struct peal_frame mark = {.type = PEAL_F_MARK,
                              .req = 3,
                              .group = peal_span_of("user:bob"),
                              .flags = PEAL_FLAG_READ,
                              .upto = 4};
    from_node(w, 42, &mark);
    store_done(w, PEAL_OK);
    peal_shard_flush(w->shard);
    assert_int_equal(w->batch_count, 2);
    struct peal_frame batch;
    struct peal_frame entry;
    last_entry(w, 0, &batch, &entry);
    assert_int_equal(entry.type, PEAL_F_STATE);
    assert_int_equal(entry.upto, 4);
    assert_int_equal(entry.flags, PEAL_FLAG_READ);
    peal_frame_fini(&batch);
    assert_int_equal(w->reply_count, 1);
}

static void requests_mark_of_a_group_that_is_no_inbox_is_refused(void **state)
{
    struct world *w = *state;
    struct peal_frame mark = {
        .type = PEAL_F_MARK, .req = 3, .group = peal_span_of("room"), .flags = PEAL_FLAG_READ};
    struct peal_frame answer;
    from_node(w, 42, &mark);
    assert_int_equal(w->op_count, 0);
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->replies[0]), &answer), PEAL_OK);
    assert_int_equal(answer.code, PEAL_EBAD_GROUP);
    peal_frame_fini(&answer);
}

/* Session 1 of ann is in the group, and somebody there watches. */
static void present(struct world *w, uint64_t boot, const char *group, uint64_t flags)
{
    struct peal_person ann = {peal_span_of("ann"), boot, 1};
    struct peal_frame f = {.type = PEAL_F_PRESENT,
                           .req = 7,
                           .group = peal_span_of(group),
                           .flags = flags,
                           .to = 1,
                           .limit = 1};
    f.people.at = &ann;
    f.people.count = 1;
    from_node(w, boot, &f);
}

enum { ALL_OF_IT = PEAL_FLAG_ALL | PEAL_FLAG_FIRST | PEAL_FLAG_LAST };

/* Asks and gives the answer, which needs no fini: only its numbers are looked at. */
static struct peal_frame who(struct world *w, const char *group)
{
    struct peal_frame f = {.type = PEAL_F_WHO, .req = 9, .group = peal_span_of(group), .limit = 10};
    struct peal_frame batch;
    struct peal_frame answer;
    from_node(w, 50, &f);
    last_entry(w, 0, &batch, &answer);
    assert_int_equal(answer.type, PEAL_F_PRESENCE);
    assert_int_equal(answer.req, 9);
    peal_frame_fini(&batch);
    struct peal_frame numbers = answer;
    peal_frame_fini(&answer);
    return numbers;
}

static void tick(struct world *w, uint64_t ms, uint64_t silent)
{
    struct peal_frame beat = {.type = PEAL_F_BEAT};
    for (uint64_t i = 0; i < ms / 250; i++) {
        w->now_ms += 250;
        peal_shard_set_time(w->shard, w->now_ms, 1700000000000);
        for (uint64_t boot = 42; boot <= 43; boot++)
            if (boot != silent) from_node(w, boot, &beat);
        peal_shard_on_tick(w->shard);
        peal_shard_flush(w->shard);
        forget(w);
    }
}

static void requests_report_of_who_is_there_is_answered_in_order_with_messages(void **state)
{
    struct world *w = *state;
    struct peal_frame batch;
    struct peal_frame entry;
    present(w, 42, "here:1", ALL_OF_IT);
    last_entry(w, 0, &batch, &entry);
    assert_int_equal(entry.type, PEAL_F_PRESENTED);
    assert_int_equal(entry.req, 7);
    assert_int_equal(entry.code, PEAL_OK);
    peal_frame_fini(&entry);
    peal_frame_fini(&batch);
    struct peal_frame answer = who(w, "here:1");
    assert_int_equal(answer.code, PEAL_OK);
    assert_int_equal(answer.users, 1);
    assert_int_equal(answer.connections, 1);
    assert_int_equal(answer.flags, PEAL_FLAG_SETTLING);
    /* On top of nothing: all of it is asked for. */
    present(w, 43, "here:1", 0);
    last_entry(w, 0, &batch, &entry);
    assert_int_equal(entry.code, PEAL_EAGAIN);
    peal_frame_fini(&entry);
    peal_frame_fini(&batch);
}

static void requests_presence_that_is_off_is_refused_and_costs_nothing(void **state)
{
    struct world *w = *state;
    struct peal_frame batch;
    struct peal_frame entry;
    present(w, 42, "room", ALL_OF_IT);
    last_entry(w, 0, &batch, &entry);
    assert_int_equal(entry.code, PEAL_EBAD_FIELD);
    peal_frame_fini(&entry);
    peal_frame_fini(&batch);
    assert_int_equal(who(w, "room").code, PEAL_EBAD_FIELD);
    assert_int_equal(who(w, "\n").code, PEAL_EBAD_GROUP);
}

static void requests_people_of_a_silent_node_leave_after_the_grace(void **state)
{
    struct world *w = *state;
    present(w, 42, "here:1", ALL_OF_IT);
    tick(w, 10000, 0); /* settled */
    present(w, 43, "here:1", ALL_OF_IT | PEAL_FLAG_WATCH);
    tick(w, 6000, 0);
    assert_int_equal(who(w, "here:1").connections, 2);
    tick(w, 5000, 42);
    /* Ann has a connection at the other node. */
    struct peal_frame answer = who(w, "here:1");
    assert_int_equal(answer.connections, 1);
    assert_int_equal(answer.users, 1);
    tick(w, 4750, 43);
    answer = who(w, "here:1");
    assert_int_equal(answer.connections, 0);
    assert_int_equal(answer.users, 1);
    tick(w, 5000, 43);
    assert_int_equal(who(w, "here:1").users, 0);
}

int main(void)
{
    peal_metrics_thread_start();
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(requests_page_tells_what_history_no_longer_has),
        TEST(requests_page_the_reader_has_no_room_for_is_refused),
        TEST(requests_page_of_a_group_that_keeps_nothing_is_a_gap),
        TEST(requests_mark_is_told_to_all_nodes_of_the_inbox),
        TEST(requests_mark_of_a_group_that_is_no_inbox_is_refused),
        TEST(requests_report_of_who_is_there_is_answered_in_order_with_messages),
        TEST(requests_presence_that_is_off_is_refused_and_costs_nothing),
        TEST(requests_people_of_a_silent_node_leave_after_the_grace),
    };
    return cmocka_run_group_tests_name("requests", tests, NULL, NULL);
}

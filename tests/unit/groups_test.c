#include "node/groups.h"

#include <stdio.h>

#include "tests/unit/hub_rig.h"

static const char yaml[] = "limits: {queue: 4KiB, queue_messages: 8}\n"
                           "groups:\n"
                           "  - {match: 'user:{id}', durable: true}\n"
                           "  - {match: '*', history: {messages: 100}, join: anyone}\n";

static struct peal_config_route native = {
    .path = "/", .dialect = PEAL_DIALECT_NATIVE, .identity = PEAL_IDENTITY_URL};
static char *raw_joins[] = {(char[]){"room"}};
static struct peal_config_route raw = {
    .path = "/", .dialect = PEAL_DIALECT_RAW, .join = {raw_joins, 1}};

enum { CONNS = PEAL_REPAIRS_MAX + 2, EPOCH = 7 };

struct world {
    struct rig *rig;
    struct peal_conn conns[CONNS];
    size_t count;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    w->rig = rig_open(yaml);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    for (size_t i = 0; i < w->count; i++)
        peal_conn_fini(&w->conns[i]);
    rig_close(w->rig);
    free(w);
    return 0;
}

static struct peal_conn *open_raw(struct world *w)
{
    struct peal_conn *conn = &w->conns[w->count++];
    rig_connect(w->rig, conn, &raw, NULL);
    return conn;
}

/* Of nobody, so that there is no inbox. */
static struct peal_conn *open_native(struct world *w)
{
    struct peal_conn *conn = &w->conns[w->count++];
    rig_connect(w->rig, conn, &native, NULL);
    rig_say(conn, "{\"type\":\"hello\"}");
    rig_expect_part(w->rig, conn, "\"welcome\"");
    return conn;
}

/* A native member of room, which is at epoch 7 and this offset. */
static struct peal_conn *open_member(struct world *w, uint64_t offset, uint64_t flags)
{
    struct peal_conn *conn = open_native(w);
    rig_say(conn, "{\"type\":\"join\",\"group\":\"room\"}");
    if (rig_group(w->rig, "room")->req != 0) rig_joined(w->rig, "room", EPOCH, offset, flags);
    rig_expect_part(w->rig, conn, "\"recovered\":\"new\"");
    rig_forget(w->rig);
    return conn;
}

static struct peal_member *member_of(struct peal_conn *conn)
{
    struct peal_member *m = peal_member_find(conn, peal_span_of("room"));
    assert_non_null(m);
    return m;
}

/* The FETCH that was ordered last, and from where it asks. */
static uint64_t fetch_req(struct world *w, uint64_t epoch, uint64_t offset)
{
    const struct peal_frame *fetch = rig_sent(w->rig);
    assert_int_equal(fetch->type, PEAL_F_FETCH);
    assert_true(peal_span_is(fetch->group, "room"));
    assert_int_equal(fetch->epoch, epoch);
    assert_int_equal(fetch->offset, offset);
    assert_true(fetch->bytes > 0);
    return fetch->req;
}

/* Answers a FETCH with the messages after `from` up to `to`; gap_to leads with a gap. */
static void page(struct world *w, uint64_t req, uint64_t epoch, uint64_t from, uint64_t to,
                 uint64_t gap_to)
{
    struct peal_buf bufs[16] = {0};
    struct peal_span entries[16];
    struct peal_frame frame = {.type = PEAL_F_PAGE,
                               .req = req,
                               .group = peal_span_of("room"),
                               .epoch = epoch,
                               .offset = to,
                               .head = to,
                               .first = from + 1};
    frame.entries.at = entries;
    if (gap_to != 0) {
        struct peal_frame gap = {.type = PEAL_F_GAP,
                                 .group = peal_span_of("room"),
                                 .from = from + 1,
                                 .to = gap_to,
                                 .why = PEAL_GAP_EVICTED};
        peal_frame_encode(&gap, &bufs[frame.entries.count++]);
        from = gap_to;
    }
    for (uint64_t offset = from + 1; offset <= to; offset++)
        rig_encode_message(&bufs[frame.entries.count++], "room", epoch, offset, "true");
    for (size_t i = 0; i < frame.entries.count; i++)
        entries[i] = peal_buf_span(&bufs[i]);
    rig_frame(w->rig, &frame);
    for (size_t i = 0; i < frame.entries.count; i++)
        peal_buf_fini(&bufs[i]);
}

static void expect_message(struct world *w, struct peal_conn *conn, uint64_t offset, bool replayed)
{
    char part[64];
    snprintf(part, sizeof part, "\"message\",\"group\":\"room\",\"offset\":%llu,",
             (unsigned long long)offset);
    rig_expect_part(w->rig, conn, part);
    assert_true((strstr(w->rig->taken->at, "\"replayed\":true") != NULL) == replayed);
}

/* ---- where a member starts --------------------------------------------------------------- */

static void groups_new_member_starts_where_the_group_is(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 40, PEAL_FLAG_KEEPS);
    assert_int_equal(peal_member_state(member_of(conn)), PEAL_MEMBER_LIVE);
    rig_message(w->rig, "room", EPOCH, 41, "true");
    expect_message(w, conn, 41, false);
    assert_int_equal(w->rig->order_count, 0);
}

static void groups_second_member_does_not_ask_the_router(void **state)
{
    struct world *w = *state;
    open_member(w, 40, PEAL_FLAG_KEEPS);
    rig_message(w->rig, "room", EPOCH, 41, "true");
    struct peal_conn *second = open_native(w);
    rig_say(second, "{\"type\":\"join\",\"group\":\"room\"}");
    rig_expect_part(w->rig, second, "\"offset\":41,\"recovered\":\"new\"");
    assert_int_equal(w->rig->order_count, 0);
}

static void groups_since_the_newest_is_full_at_once(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_native(w);
    rig_say(conn, "{\"type\":\"join\",\"group\":\"room\",\"since\":[\"7\",40]}");
    rig_joined(w->rig, "room", EPOCH, 40, PEAL_FLAG_KEEPS);
    rig_expect_part(w->rig, conn, "\"offset\":40,\"recovered\":\"full\"");
    assert_int_equal(peal_member_state(member_of(conn)), PEAL_MEMBER_LIVE);
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_SEND, 0), 0);
}

static void groups_since_an_older_position_is_replayed_and_leads_to_live(void **state)
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

static void groups_since_another_epoch_is_a_gap(void **state)
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

static void groups_last_starts_so_many_before_the_newest(void **state)
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

static void groups_loss_behind_the_position_of_a_join_with_last_is_told(void **state)
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

static void groups_join_that_is_refused_is_told_and_forgotten(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_native(w);
    rig_say(conn, "{\"type\":\"join\",\"group\":\"room\",\"id\":9}");
    struct peal_frame refused = {.type = PEAL_F_JOINED,
                                 .req = rig_group(w->rig, "room")->req,
                                 .group = peal_span_of("room"),
                                 .code = PEAL_ESTORE_FULL};
    rig_frame(w->rig, &refused);
    rig_expect_part(w->rig, conn, "\"id\":9,\"group\":\"room\",\"code\":\"store_full\"");
    assert_null(rig_group(w->rig, "room"));
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_LEAVE, 0), 1);
}

static void groups_join_the_bus_has_no_room_for_is_ordered_later(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_native(w);
    w->rig->bus_is_full = true;
    rig_say(conn, "{\"type\":\"join\",\"group\":\"room\"}");
    rig_pass(w->rig, 50);
    assert_int_equal(w->rig->order_count, 0);
    w->rig->bus_is_full = false;
    rig_pass(w->rig, 50);
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_JOIN, 0), 1);
    uint64_t req = rig_group(w->rig, "room")->req;
    rig_pass(w->rig, 5000); /* no answer: once more, and the older answer no longer counts */
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_JOIN, 0), 2);
    assert_true(rig_group(w->rig, "room")->req != req);
    struct peal_frame late = {
        .type = PEAL_F_JOINED, .req = req, .group = peal_span_of("room"), .epoch = 1};
    rig_frame(w->rig, &late);
    rig_expect_nothing(w->rig, conn);
    rig_joined(w->rig, "room", EPOCH, 4, 0);
    rig_expect_part(w->rig, conn, "\"epoch\":\"7\",\"offset\":4,\"recovered\":\"new\"");
}

/* ---- live -------------------------------------------------------------------------------- */

static void groups_message_is_rendered_once_for_all_of_a_dialect(void **state)
{
    struct world *w = *state;
    struct peal_conn *a = open_member(w, 1, PEAL_FLAG_KEEPS);
    struct peal_conn *b = open_member(w, 1, PEAL_FLAG_KEEPS);
    struct peal_conn *c = open_raw(w);
    struct peal_conn *d = open_raw(w);
    rig_message(w->rig, "room", EPOCH, 2, "true");
    struct iovec va;
    struct iovec vb;
    struct iovec vc;
    struct iovec vd;
    assert_int_equal(peal_outq_gather(&a->outq, &va, 1), 1);
    assert_int_equal(peal_outq_gather(&b->outq, &vb, 1), 1);
    assert_int_equal(peal_outq_gather(&c->outq, &vc, 1), 1);
    assert_int_equal(peal_outq_gather(&d->outq, &vd, 1), 1);
    assert_ptr_equal(va.iov_base, vb.iov_base);
    assert_ptr_equal(vc.iov_base, vd.iov_base);
    assert_ptr_not_equal(va.iov_base, vc.iov_base);
    /* Nobody holds the bytes but the two queues. */
    assert_int_equal(a->outq.one.run->refs, 2);
    assert_int_equal(c->outq.one.run->refs, 2);
}

static void groups_message_seen_before_is_dropped(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 5, PEAL_FLAG_KEEPS);
    rig_message(w->rig, "room", EPOCH, 5, "true");
    rig_message(w->rig, "room", EPOCH, 4, "true");
    rig_message(w->rig, "other", EPOCH, 6, "true");
    rig_expect_nothing(w->rig, conn);
    assert_int_equal(w->rig->order_count, 0);
}

static void groups_hole_fetches_from_the_last_message_before_it(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 40, PEAL_FLAG_KEEPS);
    rig_message(w->rig, "room", EPOCH, 43, "true"); /* 41 and 42 were lost */
    rig_expect_nothing(w->rig, conn);
    assert_int_equal(peal_member_state(member_of(conn)), PEAL_MEMBER_BEHIND);
    uint64_t req = fetch_req(w, EPOCH, 40);
    rig_message(w->rig, "room", EPOCH, 44, "true"); /* live, but not for who is behind */
    rig_expect_nothing(w->rig, conn);
    page(w, req, EPOCH, 40, 43, 0);
    for (uint64_t offset = 41; offset <= 43; offset++)
        expect_message(w, conn, offset, true);
    page(w, fetch_req(w, EPOCH, 43), EPOCH, 43, 44, 0);
    expect_message(w, conn, 44, true);
    assert_int_equal(peal_member_state(member_of(conn)), PEAL_MEMBER_LIVE);
}

static void groups_new_epoch_in_the_stream_fetches_from_the_old_position(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 40, PEAL_FLAG_KEEPS);
    rig_message(w->rig, "room", 8, 1, "true");
    page(w, fetch_req(w, EPOCH, 40), 8, 0, 1, 0);
    expect_message(w, conn, 1, true);
    assert_int_equal(peal_member_state(member_of(conn)), PEAL_MEMBER_LIVE);
    assert_int_equal(rig_group(w->rig, "room")->epoch, 8);
}

static void groups_position_told_after_a_sync_fetches_what_was_missed(void **state)
{
    struct world *w = *state;
    open_member(w, 40, PEAL_FLAG_KEEPS);
    struct peal_frame at = {.type = PEAL_F_AT,
                            .group = peal_span_of("room"),
                            .epoch = EPOCH,
                            .offset = 40,
                            .flags = PEAL_FLAG_KEEPS};
    rig_frame(w->rig, &at);
    assert_int_equal(w->rig->order_count, 0);
    at.offset = 42;
    rig_frame(w->rig, &at);
    fetch_req(w, EPOCH, 40);
}

static void groups_page_that_begins_too_early_repeats_nothing(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 40, PEAL_FLAG_KEEPS);
    rig_message(w->rig, "room", EPOCH, 42, "true");
    page(w, fetch_req(w, EPOCH, 40), EPOCH, 38, 42, 0);
    expect_message(w, conn, 41, true);
    expect_message(w, conn, 42, true);
    rig_expect_nothing(w->rig, conn);
}

static void groups_page_beyond_the_group_waits_ahead_and_skips_what_it_has(void **state)
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

static void groups_full_queue_of_a_keeping_group_falls_behind_and_catches_up(void **state)
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

static void groups_page_larger_than_the_queue_ends_where_the_queue_is_full(void **state)
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

static void groups_full_queue_of_a_group_that_keeps_nothing_closes(void **state)
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

/* ---- fetching ---------------------------------------------------------------------------- */

static void groups_fetch_at_most_so_many_pages_at_once(void **state)
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

static void groups_member_that_goes_gives_its_page_back(void **state)
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

static void groups_failed_fetch_is_tried_again_after_half_a_second(void **state)
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

static void groups_lost_letters_ask_for_every_group_again(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_member(w, 40, PEAL_FLAG_KEEPS);
    rig_say(conn, "{\"type\":\"join\",\"group\":\"other\"}");
    rig_joined(w->rig, "other", EPOCH, 1, 0);
    rig_expect_part(w->rig, conn, "\"joined\"");
    rig_forget(w->rig);
    rig_letter(w->rig, peal_letter_note(PEAL_LETTER_LOST, false));
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_JOIN, 0), 2);
    assert_false(peal_span_equal(w->rig->orders[0]->group, w->rig->orders[1]->group));
    /* One of them was among the lost. */
    rig_joined(w->rig, "other", EPOCH, 1, 0);
    assert_int_equal(w->rig->order_count, 2);
    rig_joined(w->rig, "room", EPOCH, 41, PEAL_FLAG_KEEPS);
    page(w, fetch_req(w, EPOCH, 40), EPOCH, 40, 41, 0);
    expect_message(w, conn, 41, true); /* and no second joined */
}

/* ---- acks -------------------------------------------------------------------------------- */

/* The router has the mark that was ordered last. */
static void confirm(struct world *w)
{
    const struct peal_frame *mark = rig_sent(w->rig);
    assert_int_equal(mark->type, PEAL_F_MARK);
    rig_letter(w->rig, peal_letter_failed(mark->req, PEAL_OK));
}

static void groups_acks_are_joined_into_one_mark(void **state)
{
    struct world *w = *state;
    open_member(w, 40, PEAL_FLAG_KEEPS);
    struct peal_group *g = rig_group(w->rig, "room");
    peal_group_ack(g, 3);
    rig_pass(w->rig, PEAL_ACK_JOIN_MS - 10);
    peal_group_ack(g, 9);
    peal_group_ack(g, 5); /* an older one takes nothing back */
    assert_int_equal(w->rig->order_count, 0);
    rig_pass(w->rig, 10); /* counted from the first one */
    assert_int_equal(w->rig->order_count, 1);
    const struct peal_frame *mark = rig_sent(w->rig);
    assert_int_equal(mark->type, PEAL_F_MARK);
    assert_int_equal(mark->upto, 9);
    confirm(w);
    rig_pass(w->rig, 2000);
    assert_int_equal(w->rig->order_count, 1);
}

static void groups_ack_that_is_not_confirmed_is_said_again(void **state)
{
    struct world *w = *state;
    open_member(w, 40, PEAL_FLAG_KEEPS);
    peal_group_ack(rig_group(w->rig, "room"), 3);
    rig_pass(w->rig, PEAL_ACK_JOIN_MS);
    rig_letter(w->rig, peal_letter_failed(rig_sent(w->rig)->req, PEAL_ENO_ROUTER));
    rig_pass(w->rig, 950);
    assert_int_equal(w->rig->order_count, 1);
    rig_pass(w->rig, 50);
    assert_int_equal(w->rig->order_count, 2);
    assert_int_equal(rig_sent(w->rig)->upto, 3);
    confirm(w);
    rig_pass(w->rig, 2000);
    assert_int_equal(w->rig->order_count, 2);
}

static void groups_ack_made_while_one_is_under_way_follows_it(void **state)
{
    struct world *w = *state;
    open_member(w, 40, PEAL_FLAG_KEEPS);
    peal_group_ack(rig_group(w->rig, "room"), 3);
    rig_pass(w->rig, PEAL_ACK_JOIN_MS);
    peal_group_ack(rig_group(w->rig, "room"), 4);
    rig_pass(w->rig, PEAL_ACK_JOIN_MS);
    assert_int_equal(w->rig->order_count, 1);
    confirm(w);
    rig_pass(w->rig, PEAL_ACK_JOIN_MS);
    assert_int_equal(w->rig->order_count, 2);
    assert_int_equal(rig_sent(w->rig)->upto, 4);
}

static void groups_ack_the_bus_has_no_room_for_is_sent_later(void **state)
{
    struct world *w = *state;
    open_member(w, 40, PEAL_FLAG_KEEPS);
    w->rig->bus_is_full = true;
    peal_group_ack(rig_group(w->rig, "room"), 3);
    rig_pass(w->rig, PEAL_ACK_JOIN_MS);
    w->rig->bus_is_full = false;
    rig_pass(w->rig, 1000);
    assert_int_equal(rig_sent(w->rig)->upto, 3);
}

static void groups_group_stays_until_its_ack_is_confirmed(void **state)
{
    struct world *w = *state;
    open_member(w, 40, PEAL_FLAG_KEEPS);
    peal_group_ack(rig_group(w->rig, "room"), 3);
    peal_conn_fini(&w->conns[--w->count]);
    assert_non_null(rig_group(w->rig, "room"));
    rig_pass(w->rig, PEAL_ACK_JOIN_MS);
    assert_int_equal(w->rig->order_count, 1);
    confirm(w);
    assert_null(rig_group(w->rig, "room"));
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_LEAVE, 0), 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(groups_new_member_starts_where_the_group_is),
        TEST(groups_second_member_does_not_ask_the_router),
        TEST(groups_since_the_newest_is_full_at_once),
        TEST(groups_since_an_older_position_is_replayed_and_leads_to_live),
        TEST(groups_since_another_epoch_is_a_gap),
        TEST(groups_last_starts_so_many_before_the_newest),
        TEST(groups_loss_behind_the_position_of_a_join_with_last_is_told),
        TEST(groups_join_that_is_refused_is_told_and_forgotten),
        TEST(groups_join_the_bus_has_no_room_for_is_ordered_later),
        TEST(groups_message_is_rendered_once_for_all_of_a_dialect),
        TEST(groups_message_seen_before_is_dropped),
        TEST(groups_hole_fetches_from_the_last_message_before_it),
        TEST(groups_new_epoch_in_the_stream_fetches_from_the_old_position),
        TEST(groups_position_told_after_a_sync_fetches_what_was_missed),
        TEST(groups_page_that_begins_too_early_repeats_nothing),
        TEST(groups_page_beyond_the_group_waits_ahead_and_skips_what_it_has),
        TEST(groups_full_queue_of_a_keeping_group_falls_behind_and_catches_up),
        TEST(groups_page_larger_than_the_queue_ends_where_the_queue_is_full),
        TEST(groups_full_queue_of_a_group_that_keeps_nothing_closes),
        TEST(groups_fetch_at_most_so_many_pages_at_once),
        TEST(groups_member_that_goes_gives_its_page_back),
        TEST(groups_failed_fetch_is_tried_again_after_half_a_second),
        TEST(groups_lost_letters_ask_for_every_group_again),
        TEST(groups_acks_are_joined_into_one_mark),
        TEST(groups_ack_that_is_not_confirmed_is_said_again),
        TEST(groups_ack_made_while_one_is_under_way_follows_it),
        TEST(groups_ack_the_bus_has_no_room_for_is_sent_later),
        TEST(groups_group_stays_until_its_ack_is_confirmed),
    };
    peal_metrics_thread_start();
    return cmocka_run_group_tests_name("groups", tests, NULL, NULL);
}

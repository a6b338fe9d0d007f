#include "node/trust.h"

#include "base/limits.h"
#include "base/metrics.h"
#include "proto/group.h"
#include "tests/unit/uplink_rig.h"

static void trust_begins_when_a_beat_was_heard_and_answered_by_a_sync(void **state)
{
    struct world *w = *state;
    assert_false(peal_uplink_ready(w->up));
    batch(w, 5, 0, NULL);
    assert_true(peal_uplink_ready(w->up));
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].type, PEAL_F_SYNC);
    assert_int_equal(w->sent[0].flags, PEAL_FLAG_FIRST | PEAL_FLAG_LAST);
    assert_int_equal(w->posted_count[0], 1);
    assert_int_equal(w->posted[0][0]->kind, PEAL_LETTER_LINK);
    assert_false(w->posted[0][0]->degraded);
}

static void trust_jump_of_the_sequence_leads_to_a_sync_of_all_groups(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    order(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "room");
    joined(w, 1, req_of(0, 1), "room", 7, 40);
    forget(w);
    message(w, 3, "room", 7, 42); /* 2 was lost */
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].type, PEAL_F_SYNC);
    assert_int_equal(w->sent[0].positions.count, 1);
    assert_true(peal_span_is(w->sent[0].positions.at[0].group, "room"));
    assert_int_equal(w->sent[0].positions.at[0].offset, 42);
    /* What came is handed on: the workers see the hole for themselves. */
    assert_int_equal(w->posted_count[0], 1);
    assert_true(peal_uplink_ready(w->up));
}

static void trust_loss_while_idle_is_seen_by_the_next_beat(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    forget(w);
    batch(w, 5, 0, NULL); /* nothing was sent, nothing is missing */
    assert_int_equal(w->sent_count, 0);
    batch(w, 5, 4, NULL); /* four batches never came */
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].type, PEAL_F_SYNC);
}

static void trust_new_life_of_the_router_leads_to_a_sync(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    order(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "room");
    joined(w, 1, req_of(0, 1), "room", 7, 40);
    forget(w);
    batch(w, 6, 0, NULL);
    assert_int_equal(last_sent(w)->type, PEAL_F_SYNC);
    assert_int_equal(last_sent(w)->positions.count, 1);
    assert_int_equal(last_sent(w)->limit, 1); /* so many were named */
    struct peal_frame at = {
        .type = PEAL_F_AT, .group = peal_span_of("room"), .epoch = 8, .offset = 0};
    batch(w, 6, 1, &at);
    assert_int_equal(w->posted_count[0], 1);
    assert_int_equal(w->posted[0][0]->frame.type, PEAL_F_AT);
}

/* RELINKED of a relay, as it comes on the topic `all`. */
static void relinked(struct world *w, uint64_t count)
{
    struct peal_frame frame = {.type = PEAL_F_RELINKED, .boot = 77, .seq = count};
    struct peal_buf buf = {0};
    peal_frame_encode(&frame, &buf);
    peal_uplink_on_batch(w->up, 0, peal_buf_span(&buf));
    peal_uplink_flush(w->up);
    peal_buf_fini(&buf);
}

static void trust_relay_that_has_the_router_again_leads_to_one_sync(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    order(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "room");
    joined(w, 1, req_of(0, 1), "room", 7, 40);
    confirm(w, 1);
    forget(w);
    relinked(w, 2);
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].type, PEAL_F_SYNC);
    assert_int_equal(w->sent[0].positions.count, 1);
    relinked(w, 3); /* while that sync is under way */
    assert_int_equal(w->sent_count, 1);
    confirm(w, 2);
    relinked(w, 4);
    assert_int_equal(w->sent_count, 2);
    /* It says nothing of the sequence: what is next is next. */
    forget(w);
    message(w, 2, "room", 7, 41);
    assert_int_equal(w->sent_count, 0);
    assert_true(peal_uplink_ready(w->up));
}

static void trust_relay_cannot_bring_up_a_link_whose_router_is_not_heard(void **state)
{
    struct world *w = *state;
    relinked(w, 2); /* before anything was heard */
    assert_int_equal(w->sent_count, 0);
    assert_false(peal_uplink_ready(w->up));
    batch(w, 5, 0, NULL);
    confirm(w, 1);
    pass(w, PEAL_BEAT_LOST_MS + 1);
    assert_false(peal_uplink_ready(w->up));
    forget(w);
    relinked(w, 3);
    assert_int_equal(w->sent_count, 0);
    assert_false(peal_uplink_ready(w->up));
    batch(w, 5, 0, NULL);
    assert_true(peal_uplink_ready(w->up));
}

static void trust_batch_that_comes_late_counts_for_nothing(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    order(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "room");
    joined(w, 1, req_of(0, 1), "room", 7, 40);
    message(w, 2, "room", 7, 41);
    message(w, 3, "room", 7, 42);
    forget(w);
    message(w, 2, "room", 7, 41); /* by another way */
    message(w, 3, "room", 7, 42);
    batch(w, 5, 2, NULL);
    assert_int_equal(w->posted_count[0], 0);
    assert_int_equal(w->sent_count, 0);
    message(w, 4, "room", 7, 43);
    assert_int_equal(w->posted_count[0], 1);
    /* Such beats are no sign of life either. */
    pass(w, PEAL_BEAT_LOST_MS / 2);
    batch(w, 5, 2, NULL);
    pass(w, PEAL_BEAT_LOST_MS / 2 + 2);
    assert_false(peal_uplink_ready(w->up));
}

static void trust_former_life_of_a_router_is_not_believed_for_a_minute(void **state)
{
    struct world *w = *state;
    batch(w, 5, 9, NULL);
    batch(w, 6, 0, NULL);
    confirm(w, 2);
    forget(w);
    batch(w, 5, 10, NULL); /* a relay still had it */
    assert_int_equal(w->sent_count, 0);
    batch(w, 6, 0, NULL);
    assert_int_equal(w->sent_count, 0);
    /* If it is the one that lives after all, it is heard in the end. */
    pass(w, 61000);
    forget(w);
    batch(w, 5, 10, NULL);
    assert_int_equal(last_sent(w)->type, PEAL_F_SYNC);
    assert_true(peal_uplink_ready(w->up));
}

static void trust_two_lives_of_a_router_are_told_and_do_not_take_turns(void **state)
{
    struct world *w = *state;
    int64_t before = peal_metrics_sum(PEAL_M_LINKS_TWO_LIVES);
    batch(w, 5, 9, NULL);
    batch(w, 6, 0, NULL);
    confirm(w, w->sent[w->sent_count - 1].seq);
    for (int s = 0; s < 130; s++) {
        forget(w);
        pass(w, 1000);
        batch(w, 5, 9, NULL);
        batch(w, 6, 0, NULL);
        for (size_t i = 0; i < w->sent_count; i++)
            assert_int_not_equal(w->sent[i].type, PEAL_F_SYNC);
        assert_int_equal(peal_uplink_ready(w->up), s <= 10);
        if (s != 11) continue;
        assert_int_equal(w->posted_count[0], 1);
        assert_int_equal(w->posted[0][0]->kind, PEAL_LETTER_LINK);
        assert_true(w->posted[0][0]->degraded);
        assert_int_equal(peal_metrics_sum(PEAL_M_LINKS_TWO_LIVES), before + 1);
    }
    /* Requests are still sent: there is a router. */
    request(w, PEAL_F_MARK, req_of(0, 3), "user:bob", 1);
    peal_uplink_flush(w->up);
    assert_int_equal(last_sent(w)->type, PEAL_F_MARK);
    for (int s = 0; s < 4; s++) {
        pass(w, 1000);
        batch(w, 6, 0, NULL);
    }
    pass(w, 1000);
    assert_true(peal_uplink_ready(w->up));
    assert_int_equal(peal_metrics_sum(PEAL_M_LINKS_TWO_LIVES), before);
}

static void trust_sync_that_another_life_confirms_is_said_again(void **state)
{
    struct world *w = *state;
    struct peal_frame synced = {.type = PEAL_F_SYNCED, .seq = 1, .boot = 4};
    struct peal_buf buf = {0};
    batch(w, 5, 0, NULL);
    assert_int_equal(w->sent[0].seq, 1);
    peal_frame_encode(&synced, &buf);
    peal_uplink_on_answer(w->up, 0, peal_buf_span(&buf));
    peal_buf_fini(&buf);
    forget(w);
    pass(w, 2500);
    assert_int_equal(w->sent[0].type, PEAL_F_SYNC);
}

static void trust_sync_that_nobody_confirms_is_sent_again(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    assert_int_equal(w->sent[0].type, PEAL_F_SYNC);
    uint64_t first = w->sent[0].seq;
    forget(w);
    pass(w, 2500);
    assert_int_equal(w->sent[0].type, PEAL_F_SYNC);
    assert_true(w->sent[0].seq > first);
    confirm(w, w->sent[0].seq);
    batch(w, 5, 0, NULL);
    forget(w);
    pass(w, 2500);
    for (size_t i = 0; i < w->sent_count; i++)
        assert_int_not_equal(w->sent[i].type, PEAL_F_SYNC);
}

/* The router says that these slots differ. */
static void differ(struct world *w, uint64_t *slots, size_t count)
{
    struct peal_frame frame = {.type = PEAL_F_DIFFER};
    struct peal_buf buf = {0};
    frame.offsets.at = slots;
    frame.offsets.count = count;
    peal_frame_encode(&frame, &buf);
    peal_uplink_on_answer(w->up, 0, peal_buf_span(&buf));
    peal_uplink_flush(w->up);
    peal_buf_fini(&buf);
}

static void trust_that_is_idle_has_every_slot_checked_within_a_minute(void **state)
{
    struct world *w = *state;
    unsigned checked[PEAL_SLOTS] = {0};
    uint64_t slot = peal_group_slot(peal_span_of("room"));
    batch(w, 5, 0, NULL);
    order(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "room");
    joined(w, 1, req_of(0, 1), "room", 7, 40);
    confirm(w, 1);
    for (int i = 0; i < 65; i++) { /* and 5 in which it rests after the sync */
        pass(w, 1000);
        batch(w, 5, 1, NULL);
    }
    for (size_t i = 0; i < w->sent_count; i++) {
        const struct peal_frame *f = &w->sent[i];
        if (f->type != PEAL_F_CHECK) continue;
        for (size_t k = 0; k < f->offsets.count; k++) {
            checked[f->from + k]++;
            assert_true(f->offsets.at[k] ==
                        (f->from + k == slot ? peal_group_hash(peal_span_of("room")) : 0));
        }
    }
    for (size_t i = 0; i < PEAL_SLOTS; i++)
        assert_true(checked[i] > 0);
}

static void trust_slot_that_differs_is_named_and_no_other(void **state)
{
    struct world *w = *state;
    uint64_t slots[] = {peal_group_slot(peal_span_of("room")),
                        peal_group_slot(peal_span_of("asked")),
                        peal_group_slot(peal_span_of("gone")), PEAL_SLOTS};
    batch(w, 5, 0, NULL);
    order(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "room");
    joined(w, 1, req_of(0, 1), "room", 7, 40);
    order(w, PEAL_ORDER_JOIN, 0, req_of(0, 2), "other");
    joined(w, 2, req_of(0, 2), "other", 7, 1);
    order(w, PEAL_ORDER_JOIN, 0, req_of(0, 3), "asked");
    forget(w);
    differ(w, slots, 4); /* the sync is not confirmed: that repairs more than this would */
    assert_int_equal(w->sent_count, 0);
    confirm(w, 1);
    differ(w, slots, 4);
    assert_int_equal(w->sent_count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(w->sent[i].type, PEAL_F_SYNC_SLOT);
        assert_int_equal(w->sent[i].from, slots[i]);
        assert_int_equal(w->sent[i].flags, PEAL_FLAG_FIRST | PEAL_FLAG_LAST);
        assert_int_equal(w->sent[i].limit, i < 2);
        assert_int_equal(w->sent[i].positions.count, i < 2);
    }
    assert_true(peal_span_is(w->sent[0].positions.at[0].group, "room"));
    assert_int_equal(w->sent[0].positions.at[0].epoch, 7);
    assert_int_equal(w->sent[0].positions.at[0].offset, 40);
    assert_true(peal_span_is(w->sent[1].positions.at[0].group, "asked"));
    assert_int_equal(w->sent[1].positions.at[0].epoch, 0);
    assert_true(peal_uplink_ready(w->up)); /* nothing was interrupted */
}

static void trust_sync_that_cannot_be_sent_is_tried_on_the_next_beat(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    order(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "room");
    joined(w, 1, req_of(0, 1), "room", 7, 40);
    forget(w);
    w->send_full = true;
    batch(w, 5, 9, NULL);
    assert_false(peal_uplink_ready(w->up));
    assert_int_equal(w->posted_count[0], 1);
    assert_true(w->posted[0][0]->degraded);
    w->send_full = false;
    batch(w, 5, 9, NULL);
    assert_true(peal_uplink_ready(w->up));
    assert_int_equal(last_sent(w)->type, PEAL_F_SYNC);
    assert_int_equal(last_sent(w)->positions.count, 1);
}

int main(void)
{
    peal_metrics_thread_start();
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(trust_begins_when_a_beat_was_heard_and_answered_by_a_sync),
        TEST(trust_jump_of_the_sequence_leads_to_a_sync_of_all_groups),
        TEST(trust_loss_while_idle_is_seen_by_the_next_beat),
        TEST(trust_new_life_of_the_router_leads_to_a_sync),
        TEST(trust_relay_that_has_the_router_again_leads_to_one_sync),
        TEST(trust_relay_cannot_bring_up_a_link_whose_router_is_not_heard),
        TEST(trust_batch_that_comes_late_counts_for_nothing),
        TEST(trust_former_life_of_a_router_is_not_believed_for_a_minute),
        TEST(trust_two_lives_of_a_router_are_told_and_do_not_take_turns),
        TEST(trust_sync_that_another_life_confirms_is_said_again),
        TEST(trust_sync_that_nobody_confirms_is_sent_again),
        TEST(trust_that_is_idle_has_every_slot_checked_within_a_minute),
        TEST(trust_slot_that_differs_is_named_and_no_other),
        TEST(trust_sync_that_cannot_be_sent_is_tried_on_the_next_beat),
    };
    return cmocka_run_group_tests_name("trust", tests, NULL, NULL);
}

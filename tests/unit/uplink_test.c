#include "node/uplink.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/metrics.h"
#include "proto/envelope.h"
#include "proto/group.h"
#include "proto/parcel.h"
#include "tests/unit/unit.h"

/* A recorder in place of ZeroMQ and of the workers' mailboxes. */
enum { SENT_MAX = 4096, POSTED_MAX = 1024 };
struct world {
    struct peal_uplink *up;
    uint64_t now_ms;
    struct peal_frame sent[SENT_MAX];
    struct peal_bytes *sent_bytes[SENT_MAX];
    size_t sent_count;    /* frames */
    size_t message_count; /* in so many messages */
    size_t message_bytes; /* of the largest one */
    bool send_full;
    struct peal_letter *posted[2][POSTED_MAX];
    size_t posted_count[2];
    size_t post_room[2]; /* mails that still fit */
    struct peal_mail *mails[POSTED_MAX];
    size_t mail_count;
};

static void note_sent(struct world *w, struct peal_span frame)
{
    size_t i = w->sent_count++;
    assert_true(i < SENT_MAX);
    w->sent_bytes[i] = peal_bytes_new(frame.at, frame.size);
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->sent_bytes[i]), &w->sent[i]), PEAL_OK);
}

static enum peal_err io_send(void *ctx, size_t link, struct peal_span bytes)
{
    struct world *w = ctx;
    struct peal_frame frame;
    (void)link;
    if (w->send_full) return PEAL_EQUEUE_FULL;
    w->message_count++;
    if (bytes.size > w->message_bytes) w->message_bytes = bytes.size;
    assert_int_equal(peal_frame_decode(bytes, &frame), PEAL_OK);
    if (frame.type == PEAL_F_BATCH)
        for (size_t i = 0; i < frame.entries.count; i++)
            note_sent(w, frame.entries.at[i]);
    else
        note_sent(w, bytes);
    peal_frame_fini(&frame);
    return PEAL_OK;
}

static void note_posted(struct world *w, uint8_t worker, struct peal_letter *letter)
{
    assert_true(w->posted_count[worker] < POSTED_MAX);
    w->posted[worker][w->posted_count[worker]++] = letter;
}

/* Reads the mail as a worker does. It is kept, for the letters point into it. */
static enum peal_err io_post(void *ctx, uint8_t worker, struct peal_mail *mail)
{
    struct world *w = ctx;
    struct peal_letter *letter;
    if (w->post_room[worker] == 0) return PEAL_EFULL;
    w->post_room[worker]--;
    assert_true(w->mail_count < POSTED_MAX);
    w->mails[w->mail_count++] = mail;
    for (;;) {
        struct peal_letter *room = calloc(1, sizeof *room);
        letter = peal_mail_next(mail, room);
        if (letter == room) {
            atomic_init(&room->refs, 1);
            note_posted(w, worker, room);
        } else {
            free(room);
            if (letter == NULL) return PEAL_OK;
            note_posted(w, worker, peal_letter_ref(letter));
        }
    }
}

static void forget(struct world *w)
{
    for (size_t i = 0; i < w->sent_count; i++) {
        peal_frame_fini(&w->sent[i]);
        peal_bytes_unref(w->sent_bytes[i]);
    }
    w->sent_count = 0;
    w->message_count = 0;
    for (size_t worker = 0; worker < 2; worker++) {
        for (size_t i = 0; i < w->posted_count[worker]; i++)
            peal_letter_unref(w->posted[worker][i]);
        w->posted_count[worker] = 0;
    }
    for (size_t i = 0; i < w->mail_count; i++)
        peal_mail_free(w->mails[i]);
    w->mail_count = 0;
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct peal_uplink_io io = {w, io_send, io_post};
    w->up = peal_uplink_new(&io, 99, 1, 2);
    w->now_ms = 10000;
    w->post_room[0] = w->post_room[1] = SIZE_MAX;
    peal_uplink_set_time(w->up, w->now_ms);
    *state = w;
    return w->up == NULL;
}

static int teardown(void **state)
{
    struct world *w = *state;
    forget(w);
    peal_uplink_free(w->up);
    free(w);
    return 0;
}

static void pass(struct world *w, uint64_t ms)
{
    w->now_ms += ms;
    peal_uplink_set_time(w->up, w->now_ms);
    peal_uplink_on_tick(w->up);
    peal_uplink_flush(w->up);
}

/* What the router says: a batch with at most one entry. */
static void batch(struct world *w, uint64_t boot, uint64_t seq, const struct peal_frame *entry)
{
    struct peal_buf inner = {0};
    struct peal_buf outer = {0};
    struct peal_frame f = {.type = PEAL_F_BATCH, .boot = boot, .seq = seq};
    struct peal_span span;
    if (entry != NULL) {
        peal_frame_encode(entry, &inner);
        span = peal_buf_span(&inner);
        f.entries.at = &span;
        f.entries.count = 1;
    }
    peal_frame_encode(&f, &outer);
    peal_uplink_on_batch(w->up, 0, peal_buf_span(&outer));
    peal_uplink_flush(w->up);
    peal_buf_fini(&inner);
    peal_buf_fini(&outer);
}

static void message(struct world *w, uint64_t seq, const char *group, uint64_t epoch,
                    uint64_t offset)
{
    struct peal_envelope env = {.group = peal_span_of(group),
                                .epoch = epoch,
                                .offset = offset,
                                .id = peal_span_of("x"),
                                .data = peal_span_of("1")};
    struct peal_buf buf = {0};
    peal_envelope_encode(&env, &buf);
    struct peal_frame f = {.type = PEAL_F_MESSAGE, .envelope = peal_buf_span(&buf)};
    batch(w, 5, seq, &f);
    peal_buf_fini(&buf);
}

static uint64_t req_of(uint8_t worker, uint64_t number)
{
    return (uint64_t)worker << PEAL_REQ_WORKER_SHIFT | number;
}

/* One of several in a turn. */
static void order_more(struct world *w, enum peal_order_kind kind, uint8_t worker, uint64_t req,
                       const char *group)
{
    peal_uplink_on_order(
        w->up, peal_order_new(kind, worker, req, peal_span_of(group), (struct peal_span){0}));
}

static void order(struct world *w, enum peal_order_kind kind, uint8_t worker, uint64_t req,
                  const char *group)
{
    order_more(w, kind, worker, req, group);
    peal_uplink_flush(w->up);
}

/* A request of a worker, of the given type. */
static void request(struct world *w, enum peal_frame_type type, uint64_t req, const char *group,
                    size_t entry_size)
{
    struct peal_buf buf = {0};
    char *entry = calloc(1, entry_size + 1);
    struct peal_span span = peal_span_make(entry, entry_size);
    struct peal_frame frame = {.type = type, .req = req, .group = peal_span_of(group)};
    frame.entries.at = &span;
    frame.entries.count = 1;
    peal_frame_encode(&frame, &buf);
    peal_uplink_on_order(w->up,
                         peal_order_new(PEAL_ORDER_SEND, (uint8_t)(req >> PEAL_REQ_WORKER_SHIFT),
                                        req, peal_span_of(group), peal_buf_span(&buf)));
    peal_buf_fini(&buf);
    free(entry);
}

static void joined(struct world *w, uint64_t seq, uint64_t req, const char *group, uint64_t epoch,
                   uint64_t offset)
{
    struct peal_frame f = {.type = PEAL_F_JOINED,
                           .req = req,
                           .group = peal_span_of(group),
                           .epoch = epoch,
                           .offset = offset};
    batch(w, 5, seq, &f);
}

static const struct peal_frame *last_sent(const struct world *w)
{
    assert_true(w->sent_count > 0);
    return &w->sent[w->sent_count - 1];
}

/* The router has taken the SYNC with this seq. */
static void confirm(struct world *w, uint64_t seq)
{
    struct peal_frame synced = {.type = PEAL_F_SYNCED, .seq = seq};
    struct peal_buf buf = {0};
    peal_frame_encode(&synced, &buf);
    peal_uplink_on_answer(w->up, 0, peal_buf_span(&buf));
    peal_buf_fini(&buf);
}

static void uplink_is_not_ready_until_a_beat_was_heard_and_answered_by_a_sync(void **state)
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

static void uplink_second_worker_joins_without_asking_the_router(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    order(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "room");
    assert_int_equal(last_sent(w)->type, PEAL_F_JOIN);
    joined(w, 1, req_of(0, 1), "room", 7, 40);
    message(w, 2, "room", 7, 41);
    forget(w);

    order(w, PEAL_ORDER_JOIN, 1, req_of(1, 1), "room");
    assert_int_equal(w->sent_count, 0);
    assert_int_equal(w->posted_count[1], 1);
    assert_int_equal(w->posted[1][0]->frame.type, PEAL_F_JOINED);
    assert_int_equal(w->posted[1][0]->frame.epoch, 7);
    assert_int_equal(w->posted[1][0]->frame.offset, 41);
    /* and from then on it gets the messages as well */
    message(w, 3, "room", 7, 42);
    assert_int_equal(w->posted_count[0], 1);
    assert_int_equal(w->posted_count[1], 2);
    assert_int_equal(w->posted[0][0]->env.offset, 42);
    assert_int_equal(w->posted[1][1]->env.offset, 42);
}

static void uplink_every_join_of_an_inbox_asks_the_router(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    order(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "user:bob");
    joined(w, 1, req_of(0, 1), "user:bob", 7, 3);
    forget(w);
    order(w, PEAL_ORDER_JOIN, 1, req_of(1, 9), "user:bob");
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].type, PEAL_F_JOIN);
    assert_true(w->sent[0].req == req_of(1, 9));
}

static void uplink_jump_of_the_sequence_leads_to_a_sync_of_all_groups(void **state)
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

static void uplink_loss_while_idle_is_seen_by_the_next_beat(void **state)
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

static void uplink_new_life_of_the_router_leads_to_a_sync(void **state)
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

static void uplink_relay_that_has_the_router_again_leads_to_one_sync(void **state)
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

static void uplink_relay_cannot_bring_up_a_link_whose_router_is_not_heard(void **state)
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

static void uplink_batch_that_comes_late_counts_for_nothing(void **state)
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

static void uplink_former_life_of_a_router_is_not_believed_for_a_minute(void **state)
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

static void uplink_two_lives_of_a_router_are_told_and_do_not_take_turns(void **state)
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

static void uplink_sync_that_another_life_confirms_is_said_again(void **state)
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

static void uplink_wants_another_way_each_time_one_was_silent_for_too_long(void **state)
{
    struct world *w = *state;
    assert_false(
        peal_uplink_silent(w->up, 0, PEAL_BEAT_LOST_MS)); /* the first way has just begun */
    pass(w, PEAL_BEAT_LOST_MS);
    assert_false(peal_uplink_silent(w->up, 0, PEAL_BEAT_LOST_MS));
    pass(w, 1);
    assert_true(peal_uplink_silent(w->up, 0, PEAL_BEAT_LOST_MS));
    assert_false(peal_uplink_silent(w->up, 0, PEAL_BEAT_LOST_MS));
    pass(w, PEAL_BEAT_LOST_MS);
    assert_false(peal_uplink_silent(w->up, 0, PEAL_BEAT_LOST_MS));
    batch(w, 5, 0, NULL); /* this one is good */
    pass(w, PEAL_BEAT_LOST_MS);
    assert_false(peal_uplink_silent(w->up, 0, PEAL_BEAT_LOST_MS));
    pass(w, 1);
    assert_true(peal_uplink_silent(w->up, 0, PEAL_BEAT_LOST_MS));
}

/* A router that is heard each second and answers nothing. */
static void hear_for(struct world *w, uint64_t ms)
{
    for (uint64_t at = 0; at < ms; at += PEAL_BEAT_MS) {
        batch(w, 5, 0, NULL);
        pass(w, PEAL_BEAT_MS);
        forget(w);
    }
}

static void uplink_sync_that_nobody_answers_asks_for_another_way_there(void **state)
{
    enum { MS = 7000 };
    struct world *w = *state;
    pass(w, 60000);
    assert_false(peal_uplink_unanswered(w->up, 0, MS)); /* nothing was heard: that is silence */
    hear_for(w, MS);
    assert_false(peal_uplink_unanswered(w->up, 0, MS));
    pass(w, 1);
    assert_true(peal_uplink_unanswered(w->up, 0, MS));
    assert_false(peal_uplink_unanswered(w->up, 0, MS)); /* the new way has just begun */
    hear_for(w, MS);
    confirm(w, 1); /* of a sync long ago, but the way is good */
    pass(w, 1);
    assert_false(peal_uplink_unanswered(w->up, 0, MS));
    hear_for(w, MS);
    assert_true(peal_uplink_unanswered(w->up, 0, MS));
    hear_for(w, 2000);
    pass(w, PEAL_BEAT_LOST_MS + MS);
    assert_false(peal_uplink_unanswered(w->up, 0, MS)); /* it is not heard either */
}

static void uplink_silence_is_told_and_requests_fail_at_once(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    forget(w);
    pass(w, PEAL_BEAT_LOST_MS + 1000);
    assert_false(peal_uplink_ready(w->up));
    assert_int_equal(w->posted_count[0], 1);
    assert_true(w->posted[0][0]->degraded);
    order(w, PEAL_ORDER_SEND, 0, req_of(0, 7), "room");
    assert_int_equal(w->posted_count[0], 2);
    assert_int_equal(w->posted[0][1]->frame.code, PEAL_ENO_ROUTER);
    assert_true(w->posted[0][1]->frame.req == req_of(0, 7));
    /* The same router again: it is told which groups we hold, for we missed some time. */
    forget(w);
    batch(w, 5, 0, NULL);
    assert_int_equal(last_sent(w)->type, PEAL_F_SYNC);
    assert_true(peal_uplink_ready(w->up));
}

static void uplink_join_ordered_while_the_router_is_away_is_asked_later(void **state)
{
    struct world *w = *state;
    order(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "room");
    assert_int_equal(w->sent_count, 0);
    batch(w, 5, 0, NULL);
    assert_int_equal(w->sent_count, 2);
    assert_int_equal(w->sent[0].type, PEAL_F_SYNC);
    assert_int_equal(w->sent[1].type, PEAL_F_JOIN);
    forget(w);
    pass(w, 2500); /* no answer: once more */
    bool again = false;
    for (size_t i = 0; i < w->sent_count; i++)
        again = again || w->sent[i].type == PEAL_F_JOIN;
    assert_true(again);
}

static void uplink_last_leave_is_told_to_the_router(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    order(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "room");
    joined(w, 1, req_of(0, 1), "room", 7, 40);
    order(w, PEAL_ORDER_JOIN, 1, req_of(1, 1), "room");
    forget(w);
    order(w, PEAL_ORDER_LEAVE, 0, 0, "room");
    assert_int_equal(w->sent_count, 0);
    order(w, PEAL_ORDER_LEAVE, 1, 0, "room");
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].type, PEAL_F_LEAVE);
    forget(w);
    message(w, 2, "room", 7, 41); /* was on its way: the router is told again */
    assert_int_equal(w->sent[0].type, PEAL_F_LEAVE);
    assert_int_equal(w->posted_count[0], 0);
}

static void uplink_loss_is_told_by_the_tick_when_nothing_else_comes(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    order(w, PEAL_ORDER_JOIN, 0, req_of(0, 1), "room");
    joined(w, 1, req_of(0, 1), "room", 7, 40);
    forget(w);
    w->post_room[0] = 0;
    message(w, 2, "room", 7, 41);
    pass(w, 100); /* still full */
    assert_int_equal(w->posted_count[0], 0);
    w->post_room[0] = SIZE_MAX;
    pass(w, 100);
    assert_int_equal(w->posted_count[0], 2);
    assert_int_equal(w->posted[0][0]->kind, PEAL_LETTER_LOST);
    assert_int_equal(w->posted[0][1]->kind, PEAL_LETTER_LINK);
    pass(w, 100);
    assert_int_equal(w->posted_count[0], 2);
}

static void uplink_sync_that_nobody_confirms_is_sent_again(void **state)
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

static void uplink_that_is_idle_has_every_slot_checked_within_a_minute(void **state)
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

static void uplink_slot_that_differs_is_named_and_no_other(void **state)
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

static void uplink_message_with_a_bad_envelope_leads_to_a_sync(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    forget(w);
    struct peal_frame f = {.type = PEAL_F_MESSAGE, .envelope = peal_span_of("junk")};
    batch(w, 5, 1, &f);
    assert_int_equal(last_sent(w)->type, PEAL_F_SYNC);
    assert_int_equal(w->posted_count[0], 0);
}

/* Several chunks of what is looked up at once, with entries of other kinds between. */
static void uplink_long_batch_is_handed_on_in_order(void **state)
{
    struct world *w = *state;
    enum { GROUPS = 40, COUNT = 100 };
    struct peal_parcel parcel = {0};
    char name[24];
    batch(w, 5, 0, NULL);
    for (int i = 0; i < GROUPS; i++) {
        snprintf(name, sizeof name, "room:%d", i);
        order_more(w, PEAL_ORDER_JOIN, 0, req_of(0, 1 + (uint64_t)i), name);
        joined(w, 1 + (uint64_t)i, req_of(0, 1 + (uint64_t)i), name, 7, 0);
    }
    forget(w);
    for (int i = 0; i < COUNT; i++) {
        struct peal_frame f = {.type = PEAL_F_STATE, .rev = 1};
        struct peal_buf buf = {0};
        snprintf(name, sizeof name, "room:%d", i % GROUPS);
        if (i % 9 == 4) {
            f.group = peal_span_of(name);
        } else {
            struct peal_envelope env = {.group = peal_span_of(name),
                                        .epoch = 7,
                                        .offset = 1 + (uint64_t)i,
                                        .id = peal_span_of("x"),
                                        .data = peal_span_of("1")};
            peal_envelope_encode(&env, &buf);
            f = (struct peal_frame){.type = PEAL_F_MESSAGE, .envelope = peal_buf_span(&buf)};
        }
        assert_int_equal(peal_parcel_add(&parcel, &f), PEAL_OK);
        peal_buf_fini(&buf);
    }
    peal_uplink_on_batch(w->up, 0, peal_parcel_finish(&parcel, 5, GROUPS + 1));
    peal_uplink_flush(w->up);
    peal_parcel_fini(&parcel);
    assert_int_equal(w->posted_count[0], COUNT);
    for (int i = 0; i < COUNT; i++) {
        const struct peal_letter *letter = w->posted[0][i];
        snprintf(name, sizeof name, "room:%d", i % GROUPS);
        if (i % 9 == 4) {
            assert_int_equal(letter->frame.type, PEAL_F_STATE);
            assert_true(peal_span_is(letter->frame.group, name));
        } else {
            assert_int_equal(letter->env.offset, 1 + i);
            assert_true(peal_span_is(letter->env.group, name));
        }
    }
}

static void uplink_garbage_from_the_link_is_no_crash_but_a_sync(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    forget(w);
    peal_uplink_on_batch(w->up, 0, peal_span_of("\x93\x0c\x05"));
    assert_false(peal_uplink_ready(w->up));
    batch(w, 5, 0, NULL);
    assert_int_equal(last_sent(w)->type, PEAL_F_SYNC);
    peal_uplink_on_answer(w->up, 0, peal_span_of("junk"));
}

static void uplink_turn_leaves_as_one_message_in_order(void **state)
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

static void uplink_many_joins_leave_in_bounded_messages(void **state)
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

static void uplink_pages_of_all_workers_share_what_a_router_is_asked_at_once(void **state)
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

static void uplink_page_that_takes_too_long_makes_room_for_the_next(void **state)
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

static void uplink_large_request_follows_what_waits_before_it(void **state)
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

static void uplink_batch_that_cannot_be_sent_is_that_for_each_frame(void **state)
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

static void uplink_sync_that_cannot_be_sent_is_tried_on_the_next_beat(void **state)
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
        TEST(uplink_is_not_ready_until_a_beat_was_heard_and_answered_by_a_sync),
        TEST(uplink_second_worker_joins_without_asking_the_router),
        TEST(uplink_every_join_of_an_inbox_asks_the_router),
        TEST(uplink_jump_of_the_sequence_leads_to_a_sync_of_all_groups),
        TEST(uplink_loss_while_idle_is_seen_by_the_next_beat),
        TEST(uplink_new_life_of_the_router_leads_to_a_sync),
        TEST(uplink_silence_is_told_and_requests_fail_at_once),
        TEST(uplink_join_ordered_while_the_router_is_away_is_asked_later),
        TEST(uplink_last_leave_is_told_to_the_router),
        TEST(uplink_loss_is_told_by_the_tick_when_nothing_else_comes),
        TEST(uplink_sync_that_nobody_confirms_is_sent_again),
        TEST(uplink_that_is_idle_has_every_slot_checked_within_a_minute),
        TEST(uplink_slot_that_differs_is_named_and_no_other),
        TEST(uplink_message_with_a_bad_envelope_leads_to_a_sync),
        TEST(uplink_long_batch_is_handed_on_in_order),
        TEST(uplink_garbage_from_the_link_is_no_crash_but_a_sync),
        TEST(uplink_turn_leaves_as_one_message_in_order),
        TEST(uplink_many_joins_leave_in_bounded_messages),
        TEST(uplink_pages_of_all_workers_share_what_a_router_is_asked_at_once),
        TEST(uplink_page_that_takes_too_long_makes_room_for_the_next),
        TEST(uplink_large_request_follows_what_waits_before_it),
        TEST(uplink_batch_that_cannot_be_sent_is_that_for_each_frame),
        TEST(uplink_sync_that_cannot_be_sent_is_tried_on_the_next_beat),
        TEST(uplink_relay_that_has_the_router_again_leads_to_one_sync),
        TEST(uplink_relay_cannot_bring_up_a_link_whose_router_is_not_heard),
        TEST(uplink_batch_that_comes_late_counts_for_nothing),
        TEST(uplink_former_life_of_a_router_is_not_believed_for_a_minute),
        TEST(uplink_two_lives_of_a_router_are_told_and_do_not_take_turns),
        TEST(uplink_sync_that_another_life_confirms_is_said_again),
        TEST(uplink_wants_another_way_each_time_one_was_silent_for_too_long),
        TEST(uplink_sync_that_nobody_answers_asks_for_another_way_there),
    };
    return cmocka_run_group_tests_name("uplink", tests, NULL, NULL);
}

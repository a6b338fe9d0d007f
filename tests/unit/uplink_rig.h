/* tests/unit/uplink_rig.h: an uplink with one router and two workers, between recorders: what it
 * sends and posts is kept, what the router says is said by the test. */
#ifndef PEAL_TESTS_UPLINK_RIG_H
#define PEAL_TESTS_UPLINK_RIG_H

#include <stdlib.h>

#include "node/uplink.h"
#include "proto/envelope.h"
#include "proto/wire.h"
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

static inline void note_sent(struct world *w, struct peal_span frame)
{
    size_t i = w->sent_count++;
    assert_true(i < SENT_MAX);
    w->sent_bytes[i] = peal_bytes_new(frame.at, frame.size);
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->sent_bytes[i]), &w->sent[i]), PEAL_OK);
}

static inline enum peal_err io_send(void *ctx, size_t link, struct peal_span bytes)
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

static inline void note_posted(struct world *w, uint8_t worker, struct peal_letter *letter)
{
    assert_true(w->posted_count[worker] < POSTED_MAX);
    w->posted[worker][w->posted_count[worker]++] = letter;
}

/* Reads the mail as a worker does. It is kept, for the letters point into it. */
static inline enum peal_err io_post(void *ctx, uint8_t worker, struct peal_mail *mail)
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

static inline void forget(struct world *w)
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

static inline int setup(void **state)
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

static inline int teardown(void **state)
{
    struct world *w = *state;
    forget(w);
    peal_uplink_free(w->up);
    free(w);
    return 0;
}

static inline void pass(struct world *w, uint64_t ms)
{
    w->now_ms += ms;
    peal_uplink_set_time(w->up, w->now_ms);
    peal_uplink_on_tick(w->up);
    peal_uplink_flush(w->up);
}

/* What the router says: a batch with at most one entry. */
static inline void batch(struct world *w, uint64_t boot, uint64_t seq,
                         const struct peal_frame *entry)
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

static inline void message(struct world *w, uint64_t seq, const char *group, uint64_t epoch,
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

static inline uint64_t req_of(uint8_t worker, uint64_t number)
{
    return (uint64_t)worker << PEAL_REQ_WORKER_SHIFT | number;
}

/* One of several in a turn. */
static inline void order_more(struct world *w, enum peal_order_kind kind, uint8_t worker,
                              uint64_t req, const char *group)
{
    peal_uplink_on_order(
        w->up, peal_order_new(kind, worker, req, peal_span_of(group), (struct peal_span){0}));
}

static inline void order(struct world *w, enum peal_order_kind kind, uint8_t worker, uint64_t req,
                         const char *group)
{
    order_more(w, kind, worker, req, group);
    peal_uplink_flush(w->up);
}

/* A request of a worker, of the given type. */
static inline void request(struct world *w, enum peal_frame_type type, uint64_t req,
                           const char *group, size_t entry_size)
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

static inline void joined(struct world *w, uint64_t seq, uint64_t req, const char *group,
                          uint64_t epoch, uint64_t offset)
{
    struct peal_frame f = {.type = PEAL_F_JOINED,
                           .req = req,
                           .group = peal_span_of(group),
                           .epoch = epoch,
                           .offset = offset};
    batch(w, 5, seq, &f);
}

static inline const struct peal_frame *last_sent(const struct world *w)
{
    assert_true(w->sent_count > 0);
    return &w->sent[w->sent_count - 1];
}

/* The router has taken the SYNC with this seq. */
static inline void confirm(struct world *w, uint64_t seq)
{
    struct peal_frame synced = {.type = PEAL_F_SYNCED, .seq = seq};
    struct peal_buf buf = {0};
    peal_frame_encode(&synced, &buf);
    peal_uplink_on_answer(w->up, 0, peal_buf_span(&buf));
    peal_buf_fini(&buf);
}

#endif

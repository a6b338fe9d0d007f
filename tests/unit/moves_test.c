/* What the bus of a node does when slots change hands: two routers, one worker. */
#include <stdio.h>
#include <stdlib.h>

#include "node/uplink.h"
#include "proto/group.h"
#include "proto/slots.h"
#include "tests/unit/unit.h"

enum { SENT_MAX = 256, POSTED_MAX = 64 };

struct sent {
    size_t link;
    struct peal_bytes *bytes;
    struct peal_frame frame;
};

struct world {
    struct peal_uplink *up;
    uint64_t now_ms;
    uint64_t seqs[2];
    struct sent sent[SENT_MAX];
    size_t sent_count;
    struct peal_letter *posted[POSTED_MAX];
    size_t posted_count;
    struct peal_mail *mails[POSTED_MAX];
    size_t mail_count;
};

static void note_sent(struct world *w, size_t link, struct peal_span frame)
{
    assert_true(w->sent_count < SENT_MAX);
    struct sent *sent = &w->sent[w->sent_count++];
    sent->link = link;
    sent->bytes = peal_bytes_new(frame.at, frame.size);
    assert_int_equal(peal_frame_decode(peal_bytes_span(sent->bytes), &sent->frame), PEAL_OK);
}

static enum peal_err io_send(void *ctx, size_t link, struct peal_span bytes)
{
    struct peal_frame frame;
    assert_int_equal(peal_frame_decode(bytes, &frame), PEAL_OK);
    if (frame.type == PEAL_F_BATCH)
        for (size_t i = 0; i < frame.entries.count; i++)
            note_sent(ctx, link, frame.entries.at[i]);
    else
        note_sent(ctx, link, bytes);
    peal_frame_fini(&frame);
    return PEAL_OK;
}

static enum peal_err io_post(void *ctx, uint8_t worker, struct peal_mail *mail)
{
    struct world *w = ctx;
    assert_int_equal(worker, 0);
    assert_true(w->mail_count < POSTED_MAX);
    w->mails[w->mail_count++] = mail;
    for (;;) {
        struct peal_letter *room = calloc(1, sizeof *room);
        struct peal_letter *letter = peal_mail_next(mail, room);
        if (letter == NULL) {
            free(room);
            return PEAL_OK;
        }
        assert_true(w->posted_count < POSTED_MAX);
        if (letter == room)
            atomic_init(&room->refs, 1);
        else
            free(room);
        w->posted[w->posted_count++] = letter == room ? room : peal_letter_ref(letter);
    }
}

static void forget(struct world *w)
{
    for (size_t i = 0; i < w->sent_count; i++) {
        peal_frame_fini(&w->sent[i].frame);
        peal_bytes_unref(w->sent[i].bytes);
    }
    for (size_t i = 0; i < w->posted_count; i++)
        peal_letter_unref(w->posted[i]);
    for (size_t i = 0; i < w->mail_count; i++)
        peal_mail_free(w->mails[i]);
    w->sent_count = w->posted_count = w->mail_count = 0;
}

/* The next batch of a router, with at most one entry. */
static void batch(struct world *w, size_t link, const struct peal_frame *entry)
{
    struct peal_buf inner = {0};
    struct peal_buf outer = {0};
    struct peal_span span;
    if (entry != NULL) w->seqs[link]++;
    struct peal_frame f = {.type = PEAL_F_BATCH, .boot = 5 + link, .seq = w->seqs[link]};
    if (entry != NULL) {
        peal_frame_encode(entry, &inner);
        span = peal_buf_span(&inner);
        f.entries.at = &span;
        f.entries.count = 1;
    }
    peal_frame_encode(&f, &outer);
    peal_uplink_on_batch(w->up, link, peal_buf_span(&outer));
    peal_uplink_flush(w->up);
    peal_buf_fini(&inner);
    peal_buf_fini(&outer);
}

static void answer(struct world *w, size_t link, const struct peal_frame *frame)
{
    struct peal_buf buf = {0};
    peal_frame_encode(frame, &buf);
    peal_uplink_on_answer(w->up, link, peal_buf_span(&buf));
    peal_uplink_flush(w->up);
    peal_buf_fini(&buf);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct peal_uplink_io io = {w, io_send, io_post};
    w->up = peal_uplink_new(&io, 99, 2, 1);
    w->now_ms = 10000;
    peal_uplink_set_time(w->up, w->now_ms);
    batch(w, 0, NULL);
    batch(w, 1, NULL);
    assert_true(peal_uplink_ready(w->up));
    struct peal_frame synced = {.type = PEAL_F_SYNCED, .seq = 1};
    answer(w, 0, &synced);
    answer(w, 1, &synced);
    forget(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    forget(w);
    peal_uplink_free(w->up);
    free(w);
    return 0;
}

/* A name that belongs to this router as long as nothing else is known. */
static struct peal_span name_of(size_t router, char out[32])
{
    for (int n = 0;; n++) {
        snprintf(out, 32, "room%d", n);
        if (peal_slot_router(peal_group_slot(peal_span_of(out)), 2) == router)
            return peal_span_of(out);
    }
}

static void order_join(struct world *w, uint64_t req, struct peal_span group)
{
    peal_uplink_on_order(w->up,
                         peal_order_new(PEAL_ORDER_JOIN, 0, req, group, (struct peal_span){0}));
    peal_uplink_flush(w->up);
}

static void order_send(struct world *w, const struct peal_frame *frame)
{
    struct peal_buf buf = {0};
    peal_frame_encode(frame, &buf);
    peal_uplink_on_order(
        w->up, peal_order_new(PEAL_ORDER_SEND, 0, frame->req, frame->group, peal_buf_span(&buf)));
    peal_uplink_flush(w->up);
    peal_buf_fini(&buf);
}

static struct peal_frame joined(uint64_t req, struct peal_span group, uint64_t epoch,
                                uint64_t offset)
{
    return (struct peal_frame){
        .type = PEAL_F_JOINED, .req = req, .group = group, .epoch = epoch, .offset = offset};
}

static struct peal_frame moved(struct peal_span group, uint64_t owner, uint64_t generation)
{
    return (struct peal_frame){.type = PEAL_F_MOVED,
                               .slot = peal_group_slot(group),
                               .owner = owner,
                               .generation = generation};
}

/* The first letter of this type, or NULL. */
static const struct peal_letter *posted(const struct world *w, enum peal_frame_type type)
{
    for (size_t i = 0; i < w->posted_count; i++)
        if (w->posted[i]->kind == PEAL_LETTER_FRAME && w->posted[i]->frame.type == type)
            return w->posted[i];
    return NULL;
}

/* Joined at the first router at (7, 40). */
static struct peal_span join(struct world *w, char name[32])
{
    struct peal_span group = name_of(0, name);
    order_join(w, 1, group);
    struct peal_frame f = joined(1, group, 7, 40);
    batch(w, 0, &f);
    forget(w);
    return group;
}

static void moves_group_is_joined_at_the_other_router_and_keeps_its_position(void **state)
{
    struct world *w = *state;
    char name[32];
    struct peal_span group = join(w, name);
    struct peal_frame f = moved(group, 1, 3);
    batch(w, 0, &f);
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].link, 1);
    assert_int_equal(w->sent[0].frame.type, PEAL_F_JOIN);
    assert_true(peal_span_equal(w->sent[0].frame.group, group));
    uint64_t req = w->sent[0].frame.req;
    assert_non_null(posted(w, PEAL_F_SLOTS)); /* the worker learns it too */
    forget(w);

    /* It goes on there, two messages further. */
    f = joined(req, group, 7, 42);
    batch(w, 1, &f);
    const struct peal_letter *at = posted(w, PEAL_F_AT);
    assert_non_null(at);
    assert_int_equal(at->frame.epoch, 7);
    assert_int_equal(at->frame.offset, 42);
    assert_null(posted(w, PEAL_F_JOINED));
}

static void moves_group_without_news_tells_nobody(void **state)
{
    struct world *w = *state;
    char name[32];
    struct peal_span group = join(w, name);
    struct peal_frame f = moved(group, 1, 3);
    batch(w, 0, &f);
    f = joined(w->sent[0].frame.req, group, 7, 40);
    forget(w);
    batch(w, 1, &f);
    assert_int_equal(w->posted_count, 0);
}

static void moves_rejoin_that_is_not_answered_is_asked_again(void **state)
{
    struct world *w = *state;
    char name[32];
    struct peal_span group = join(w, name);
    struct peal_frame f = moved(group, 1, 3);
    batch(w, 0, &f);
    forget(w);
    for (int i = 0; i < 9; i++) {
        w->now_ms += 250;
        peal_uplink_set_time(w->up, w->now_ms);
        peal_uplink_on_tick(w->up);
        peal_uplink_flush(w->up);
    }
    size_t joins = 0;
    for (size_t i = 0; i < w->sent_count; i++)
        joins += w->sent[i].frame.type == PEAL_F_JOIN && w->sent[i].link == 1;
    assert_int_equal(joins, 1);
}

static void moves_stale_owner_answers_no_join(void **state)
{
    struct world *w = *state;
    char name[32];
    struct peal_span group = name_of(0, name);
    order_join(w, 1, group);
    struct peal_frame f = moved(group, 1, 3);
    batch(w, 0, &f);
    assert_int_equal(w->sent[w->sent_count - 1].link, 1); /* the worker's own request goes on */
    assert_true(w->sent[w->sent_count - 1].frame.req == 1);
    forget(w);
    f = joined(1, group, 6, 6);
    batch(w, 0, &f);
    assert_null(posted(w, PEAL_F_JOINED));
    assert_int_equal(w->sent[0].frame.type, PEAL_F_LEAVE);
    forget(w);
    f = joined(1, group, 7, 9);
    batch(w, 1, &f);
    assert_non_null(posted(w, PEAL_F_JOINED));
    assert_int_equal(posted(w, PEAL_F_JOINED)->frame.epoch, 7);
}

static void moves_lower_generation_moves_nothing(void **state)
{
    struct world *w = *state;
    char name[32];
    struct peal_span group = join(w, name);
    struct peal_frame f = moved(group, 1, 3);
    batch(w, 0, &f);
    forget(w);
    f = moved(group, 0, 2);
    batch(w, 1, &f);
    assert_int_equal(w->sent_count, 0);
    order_join(w, 2, peal_span_of("user:x")); /* asked anew each time; the others are known */
    struct peal_frame fetch = {.type = PEAL_F_FETCH, .req = 9, .group = group};
    forget(w);
    order_send(w, &fetch);
    assert_int_equal(w->sent[0].link, 1);
}

static void moves_table_of_a_router_moves_all_groups_at_once(void **state)
{
    struct world *w = *state;
    char name[32];
    struct peal_span group = join(w, name);
    uint64_t runs[PEAL_SLOT_RUNS] = {1024, 1, 0};
    struct peal_frame table = {.type = PEAL_F_SLOTS};
    table.offsets.at = runs;
    table.offsets.count = 3;
    answer(w, 1, &table);
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].link, 1);
    assert_true(peal_span_equal(w->sent[0].frame.group, group));
    forget(w);
    answer(w, 1, &table);
    assert_int_equal(w->sent_count, 0);
}

static void moves_request_that_came_back_goes_to_the_owner(void **state)
{
    struct world *w = *state;
    char name[32];
    struct peal_frame fetch = {.type = PEAL_F_FETCH, .req = 9, .group = name_of(0, name)};
    struct peal_buf back = {0};
    order_send(w, &fetch);
    assert_int_equal(w->sent[0].link, 0);
    peal_frame_encode(&fetch, &back);
    struct peal_frame f = moved(fetch.group, 1, 1);
    f.req = 9;
    f.envelope = peal_buf_span(&back);
    forget(w);
    answer(w, 0, &f);
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].link, 1);
    assert_int_equal(w->sent[0].frame.type, PEAL_F_FETCH);
    assert_int_equal(w->sent[0].frame.req, 9);
    forget(w);

    /* The owner does not know yet that it is: no going round, the worker asks again. */
    f.owner = 0;
    f.generation = 0;
    answer(w, 1, &f);
    assert_int_equal(w->sent_count, 0);
    assert_int_equal(w->posted_count, 1);
    assert_int_equal(w->posted[0]->frame.req, 9);
    assert_int_equal(w->posted[0]->frame.code, PEAL_EAGAIN);
    peal_buf_fini(&back);
}

static void moves_owner_that_is_not_in_the_list_is_no_router(void **state)
{
    struct world *w = *state;
    char name[32];
    struct peal_frame fetch = {.type = PEAL_F_FETCH, .req = 9, .group = name_of(0, name)};
    struct peal_frame f = moved(fetch.group, 2, 1);
    answer(w, 0, &f);
    order_send(w, &fetch);
    assert_int_equal(w->sent_count, 0);
    assert_int_equal(w->posted[0]->frame.code, PEAL_ENO_ROUTER);
}

static void moves_group_to_a_router_that_is_away_is_named_by_its_sync(void **state)
{
    struct world *w = *state;
    char name[32];
    w->now_ms += 4000;
    peal_uplink_set_time(w->up, w->now_ms);
    batch(w, 0, NULL);
    peal_uplink_on_tick(w->up); /* the second one was not heard */
    assert_false(peal_uplink_ready(w->up));
    struct peal_span group = join(w, name);
    struct peal_frame f = moved(group, 1, 3);
    batch(w, 0, &f);
    assert_int_equal(w->sent_count, 0);
    batch(w, 1, NULL);
    assert_int_equal(w->sent[0].frame.type, PEAL_F_SYNC);
    assert_int_equal(w->sent[0].link, 1);
    assert_int_equal(w->sent[0].frame.positions.count, 1);
    assert_true(peal_span_equal(w->sent[0].frame.positions.at[0].group, group));
    assert_int_equal(w->sent[0].frame.positions.at[0].offset, 40);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(moves_group_is_joined_at_the_other_router_and_keeps_its_position),
        TEST(moves_group_without_news_tells_nobody),
        TEST(moves_rejoin_that_is_not_answered_is_asked_again),
        TEST(moves_stale_owner_answers_no_join),
        TEST(moves_lower_generation_moves_nothing),
        TEST(moves_table_of_a_router_moves_all_groups_at_once),
        TEST(moves_request_that_came_back_goes_to_the_owner),
        TEST(moves_owner_that_is_not_in_the_list_is_no_router),
        TEST(moves_group_to_a_router_that_is_away_is_named_by_its_sync),
    };
    return cmocka_run_group_tests_name("moves", tests, NULL, NULL);
}

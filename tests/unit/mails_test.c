#include "node/mails.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/metrics.h"
#include "proto/envelope.h"
#include "tests/unit/unit.h"

/* Two workers; a recorder in place of their mailboxes. */
enum { WORKERS = 2, POSTED_MAX = 1024 };
enum { FIRST = 1, SECOND = 2, BOTH = 3 }; /* sets of workers */

struct world {
    struct peal_mails mails;
    struct peal_letter *posted[WORKERS][POSTED_MAX];
    size_t posted_count[WORKERS];
    size_t room[WORKERS]; /* mails that still fit */
    struct peal_mail *kept[POSTED_MAX];
    size_t kept_count;
};

/* Reads the mail as a worker does. It is kept, for the letters point into it. */
static enum peal_err io_post(void *ctx, uint8_t worker, struct peal_mail *mail)
{
    struct world *w = ctx;
    assert_true(worker < WORKERS);
    if (w->room[worker] == 0) return PEAL_EFULL;
    w->room[worker]--;
    assert_true(w->kept_count < POSTED_MAX);
    w->kept[w->kept_count++] = mail;
    for (;;) {
        struct peal_letter *room = calloc(1, sizeof *room);
        struct peal_letter *letter = peal_mail_next(mail, room);
        if (letter == room)
            atomic_init(&room->refs, 1);
        else
            free(room);
        if (letter == NULL) return PEAL_OK;
        assert_true(w->posted_count[worker] < POSTED_MAX);
        w->posted[worker][w->posted_count[worker]++] =
            letter == room ? room : peal_letter_ref(letter);
    }
}

static void forget(struct world *w)
{
    for (size_t i = 0; i < WORKERS; i++) {
        for (size_t k = 0; k < w->posted_count[i]; k++)
            peal_letter_unref(w->posted[i][k]);
        w->posted_count[i] = 0;
    }
    for (size_t i = 0; i < w->kept_count; i++)
        peal_mail_free(w->kept[i]);
    w->kept_count = 0;
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct peal_mails_io io = {w, io_post};
    peal_mails_init(&w->mails, &io, WORKERS);
    for (size_t i = 0; i < WORKERS; i++)
        w->room[i] = SIZE_MAX;
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    forget(w);
    peal_mails_fini(&w->mails);
    free(w);
    return 0;
}

/* A message of the group room with this offset, and data of this size. */
static void encode(struct peal_buf *out, uint64_t offset, size_t size)
{
    char *data = calloc(1, size);
    struct peal_envelope env = {.group = peal_span_of("room"),
                                .epoch = 7,
                                .offset = offset,
                                .id = peal_span_of("x"),
                                .data = peal_span_make(data, size)};
    struct peal_buf envelope = {0};
    peal_envelope_encode(&env, &envelope);
    struct peal_frame frame = {.type = PEAL_F_MESSAGE, .envelope = peal_buf_span(&envelope)};
    peal_frame_encode(&frame, out);
    peal_buf_fini(&envelope);
    free(data);
}

static void add_sized(struct world *w, uint64_t workers, uint64_t offset, size_t size)
{
    struct peal_buf buf = {0};
    encode(&buf, offset, size);
    peal_mails_add_frame(&w->mails, workers, peal_buf_span(&buf));
    peal_buf_fini(&buf);
}

static void add(struct world *w, uint64_t workers, uint64_t offset)
{
    add_sized(w, workers, offset, 1);
}

/* A turn that has one message. */
static void turn(struct world *w, uint64_t workers, uint64_t offset)
{
    add(w, workers, offset);
    peal_mails_flush(&w->mails);
}

static void mails_frame_goes_to_the_workers_of_the_set_and_no_other(void **state)
{
    struct world *w = *state;
    add(w, FIRST, 1);
    add(w, BOTH, 2);
    add(w, SECOND, 3);
    add(w, 0, 4);
    add(w, 1u << WORKERS | 1u << 7, 5); /* there are none such */
    assert_int_equal(w->kept_count, 0); /* the turn has not ended */
    peal_mails_flush(&w->mails);
    assert_int_equal(w->kept_count, WORKERS);
    assert_int_equal(w->posted_count[0], 2);
    assert_int_equal(w->posted[0][0]->env.offset, 1);
    assert_int_equal(w->posted[0][1]->env.offset, 2);
    assert_int_equal(w->posted_count[1], 2);
    assert_int_equal(w->posted[1][0]->env.offset, 2);
    assert_int_equal(w->posted[1][1]->env.offset, 3);
    peal_mails_flush(&w->mails);
    assert_int_equal(w->kept_count, WORKERS); /* nothing is handed over twice */
}

static void mails_turn_gives_each_worker_one_mail_until_it_is_full(void **state)
{
    struct world *w = *state;
    enum { COUNT = 2 * PEAL_MAIL_LETTERS + 10 };
    for (uint64_t offset = 1; offset <= COUNT; offset++)
        add(w, FIRST, offset);
    assert_int_equal(w->kept_count, 2); /* full ones do not wait for the end of the turn */
    peal_mails_flush(&w->mails);
    assert_int_equal(w->kept_count, 3);
    assert_int_equal(w->posted_count[0], COUNT);
    for (uint64_t i = 0; i < COUNT; i++)
        assert_int_equal(w->posted[0][i]->env.offset, i + 1);
    assert_int_equal(w->posted_count[1], 0);
}

static void mails_large_frame_is_one_letter_for_all_workers(void **state)
{
    struct world *w = *state;
    add(w, BOTH, 40);
    add_sized(w, 1u << WORKERS | BOTH, 41, PEAL_MAIL_LARGE);
    add(w, BOTH, 42);
    peal_mails_flush(&w->mails);
    for (size_t i = 0; i < WORKERS; i++) {
        assert_int_equal(w->posted_count[i], 3);
        for (size_t k = 0; k < 3; k++)
            assert_int_equal(w->posted[i][k]->env.offset, 40 + k);
        assert_int_equal(w->posted[i][1]->env.data.size, PEAL_MAIL_LARGE);
    }
    assert_ptr_equal(w->posted[0][1], w->posted[1][1]);
    assert_ptr_not_equal(w->posted[0][0], w->posted[1][0]);
}

/* It may be shorter than its size says; a worker that cannot know what it was has lost something.
 */
static void mails_large_frame_that_is_no_frame_is_a_loss(void **state)
{
    struct world *w = *state;
    static char junk[PEAL_MAIL_LARGE];
    int64_t dropped = peal_metrics_sum(PEAL_M_LETTERS_DROPPED);
    peal_mails_add_frame(&w->mails, 1u << WORKERS | BOTH, peal_span_make(junk, sizeof junk));
    assert_int_equal(peal_metrics_sum(PEAL_M_LETTERS_DROPPED), dropped + WORKERS);
    turn(w, SECOND, 1);
    assert_int_equal(w->posted_count[0], 0);
    assert_int_equal(w->posted_count[1], 3);
    assert_int_equal(w->posted[1][0]->kind, PEAL_LETTER_LOST);
}

static void mails_full_worker_is_told_that_letters_were_lost(void **state)
{
    struct world *w = *state;
    int64_t dropped = peal_metrics_sum(PEAL_M_LETTERS_DROPPED);
    int64_t lost = peal_metrics_sum(PEAL_M_WORKER_LOST);
    w->room[0] = 1;
    turn(w, BOTH, 41);
    turn(w, BOTH, 42); /* does not fit */
    turn(w, BOTH, 43); /* neither does the note */
    assert_int_equal(w->posted_count[0], 1);
    /* The second mail had two notes besides the message. */
    assert_int_equal(peal_metrics_sum(PEAL_M_LETTERS_DROPPED), dropped + 1 + 3);
    assert_int_equal(peal_metrics_sum(PEAL_M_WORKER_LOST), lost + 1);
    w->room[0] = SIZE_MAX;
    turn(w, BOTH, 44);
    assert_int_equal(w->posted_count[0], 4);
    assert_int_equal(w->posted[0][1]->kind, PEAL_LETTER_LOST);
    assert_int_equal(w->posted[0][2]->kind, PEAL_LETTER_LINK);
    assert_int_equal(w->posted[0][3]->env.offset, 44);
    /* It was told once. */
    turn(w, BOTH, 45);
    assert_int_equal(w->posted_count[0], 5);
    assert_int_equal(w->posted[0][4]->env.offset, 45);
    /* To the other worker nothing happened. */
    assert_int_equal(w->posted_count[1], 5);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(w->posted[1][i]->env.offset, 41 + i);
}

static void mails_loss_is_told_when_nothing_else_comes(void **state)
{
    struct world *w = *state;
    w->room[0] = 0;
    turn(w, FIRST, 41);
    peal_mails_tell_losses(&w->mails); /* still full */
    peal_mails_flush(&w->mails);
    assert_int_equal(w->posted_count[0], 0);
    w->room[0] = SIZE_MAX;
    peal_mails_tell_losses(&w->mails);
    peal_mails_tell_losses(&w->mails); /* the mail that is open says so already */
    peal_mails_flush(&w->mails);
    assert_int_equal(w->posted_count[0], 2);
    assert_int_equal(w->posted[0][0]->kind, PEAL_LETTER_LOST);
    assert_int_equal(w->posted[0][1]->kind, PEAL_LETTER_LINK);
    peal_mails_tell_losses(&w->mails);
    peal_mails_flush(&w->mails);
    assert_int_equal(w->posted_count[0], 2);
    assert_int_equal(w->posted_count[1], 0);
}

/* The open mail was begun before: it does not say that something is gone from behind it. */
static void mails_loss_in_the_middle_of_a_mail_is_told_by_the_next(void **state)
{
    struct world *w = *state;
    add(w, FIRST, 1);
    peal_mails_lose(&w->mails, 0);
    turn(w, FIRST, 3);
    assert_int_equal(w->posted_count[0], 2);
    turn(w, FIRST, 4);
    assert_int_equal(w->posted_count[0], 5);
    assert_int_equal(w->posted[0][2]->kind, PEAL_LETTER_LOST);
    assert_int_equal(w->posted[0][4]->env.offset, 4);
}

static void mails_links_are_told_when_they_change_and_after_a_loss(void **state)
{
    struct world *w = *state;
    peal_mails_tell_links(&w->mails, true); /* so it began */
    peal_mails_flush(&w->mails);
    assert_int_equal(w->kept_count, 0);
    peal_mails_tell_links(&w->mails, false);
    peal_mails_tell_links(&w->mails, false);
    peal_mails_flush(&w->mails);
    for (size_t i = 0; i < WORKERS; i++) {
        assert_int_equal(w->posted_count[i], 1);
        assert_int_equal(w->posted[i][0]->kind, PEAL_LETTER_LINK);
        assert_false(w->posted[i][0]->degraded);
    }
    w->room[1] = 0;
    peal_mails_tell_links(&w->mails, true);
    peal_mails_flush(&w->mails);
    assert_int_equal(w->posted_count[0], 2);
    assert_true(w->posted[0][1]->degraded);
    w->room[1] = SIZE_MAX;
    turn(w, SECOND, 1);
    assert_int_equal(w->posted_count[1], 4);
    assert_int_equal(w->posted[1][1]->kind, PEAL_LETTER_LOST);
    assert_int_equal(w->posted[1][2]->kind, PEAL_LETTER_LINK);
    assert_true(w->posted[1][2]->degraded);
}

static void mails_sync_is_told_to_all_workers_every_time(void **state)
{
    struct world *w = *state;
    peal_mails_tell_synced(&w->mails);
    peal_mails_tell_synced(&w->mails);
    peal_mails_flush(&w->mails);
    for (size_t i = 0; i < WORKERS; i++) {
        assert_int_equal(w->posted_count[i], 2);
        assert_int_equal(w->posted[i][0]->kind, PEAL_LETTER_SYNC);
        assert_int_equal(w->posted[i][1]->kind, PEAL_LETTER_SYNC);
    }
}

static uint64_t req_of(uint8_t worker, uint64_t number)
{
    return (uint64_t)worker << PEAL_REQ_WORKER_SHIFT | number;
}

static void mails_answer_goes_to_the_worker_whose_request_it_was(void **state)
{
    struct world *w = *state;
    struct peal_buf buf = {0};
    encode(&buf, 41, 1);
    peal_mails_add_answer(&w->mails, req_of(1, 5), peal_buf_span(&buf));
    peal_mails_add_answer(&w->mails, req_of(UINT8_MAX, 5), peal_buf_span(&buf)); /* no worker's */
    peal_mails_add_failed(&w->mails, req_of(1, 6), PEAL_ETIMEOUT);
    peal_mails_add_failed(&w->mails, req_of(UINT8_MAX, 6), PEAL_ETIMEOUT);
    peal_mails_add_failed(&w->mails, 0, PEAL_ETIMEOUT); /* nobody wants to know */
    peal_mails_flush(&w->mails);
    assert_int_equal(w->posted_count[0], 0);
    assert_int_equal(w->posted_count[1], 2);
    assert_int_equal(w->posted[1][0]->env.offset, 41);
    assert_true(w->posted[1][1]->frame.req == req_of(1, 6));
    assert_int_equal(w->posted[1][1]->frame.code, PEAL_ETIMEOUT);
    forget(w);
    peal_mails_add_for_all(&w->mails, peal_buf_span(&buf));
    peal_mails_flush(&w->mails);
    for (size_t i = 0; i < WORKERS; i++) {
        assert_int_equal(w->posted_count[i], 1);
        assert_int_equal(w->posted[i][0]->env.offset, 41);
    }
    peal_buf_fini(&buf);
}

static void mails_open_at_the_end_are_freed(void **state)
{
    struct world *w = *state;
    add(w, FIRST, 1);
    add_sized(w, BOTH, 2, PEAL_MAIL_LARGE);
    assert_non_null(w->mails.open[1]); /* the address sanitizer looks on */
}

int main(void)
{
    peal_metrics_thread_start();
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(mails_frame_goes_to_the_workers_of_the_set_and_no_other),
        TEST(mails_turn_gives_each_worker_one_mail_until_it_is_full),
        TEST(mails_large_frame_is_one_letter_for_all_workers),
        TEST(mails_large_frame_that_is_no_frame_is_a_loss),
        TEST(mails_full_worker_is_told_that_letters_were_lost),
        TEST(mails_loss_is_told_when_nothing_else_comes),
        TEST(mails_loss_in_the_middle_of_a_mail_is_told_by_the_next),
        TEST(mails_links_are_told_when_they_change_and_after_a_loss),
        TEST(mails_sync_is_told_to_all_workers_every_time),
        TEST(mails_answer_goes_to_the_worker_whose_request_it_was),
        TEST(mails_open_at_the_end_are_freed),
    };
    return cmocka_run_group_tests_name("mails", tests, NULL, NULL);
}

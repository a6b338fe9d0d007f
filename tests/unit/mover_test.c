/* Two routers' movers, joined by a wire that the test holds in its hands. */
#include "router/mover.h"

#include <stdlib.h>

#include "tests/unit/unit.h"

enum { WIRE_MAX = 32, OPS_MAX = 8, SLOT = 5 };

struct side {
    struct world *w;
    size_t number;
    struct peal_cluster cluster;
    struct peal_mover mover;
    struct peal_store_op *ops[OPS_MAX];
    size_t op_count;
    size_t forgotten;
    size_t adopted;
    size_t pieces;  /* to be collected */
    size_t records; /* pieces of the store */
    bool adopt_fails;
};

struct world {
    struct peal_config config;
    struct peal_config_group group;
    uint64_t now_ms;
    struct side sides[2];
    struct {
        size_t to;
        struct peal_bytes *bytes;
    } wire[WIRE_MAX];
    size_t wire_count;
    struct peal_frame given; /* the last answer */
    size_t given_count;
    bool cut; /* nothing arrives */
};

static enum peal_err io_tell(void *ctx, size_t router, struct peal_span bytes)
{
    struct world *w = ((struct side *)ctx)->w;
    if (w->cut) return PEAL_OK;
    assert_true(w->wire_count < WIRE_MAX);
    w->wire[w->wire_count].to = router;
    w->wire[w->wire_count++].bytes = peal_bytes_new(bytes.at, bytes.size);
    return PEAL_OK;
}

static enum peal_err io_forward(void *ctx, size_t router, struct peal_span bytes)
{
    (void)ctx;
    (void)router;
    (void)bytes;
    return PEAL_OK;
}

static void io_submit(void *ctx, struct peal_store_op *op)
{
    struct side *side = ctx;
    assert_true(side->op_count < OPS_MAX);
    side->ops[side->op_count++] = op;
}

static void io_answer(void *ctx, const struct peal_peer *peer, const struct peal_frame *frame)
{
    struct world *w = ((struct side *)ctx)->w;
    assert_int_equal(peer->id_size, 1);
    w->given = *frame;
    w->given_count++;
}

static enum peal_err io_collect(void *ctx, uint16_t slot, struct peal_pieces *out)
{
    struct side *side = ctx;
    assert_int_equal(slot, SLOT);
    for (size_t i = 0; i < side->pieces; i++)
        assert_int_equal(peal_pieces_add(out, peal_bytes_new("piece", 5)), PEAL_OK);
    return PEAL_OK;
}

static enum peal_err io_adopt(void *ctx, uint16_t slot, struct peal_span piece)
{
    struct side *side = ctx;
    assert_int_equal(slot, SLOT);
    assert_true(peal_span_is(piece, "piece"));
    if (side->adopt_fails) return PEAL_ENOMEM;
    side->adopted++;
    return PEAL_OK;
}

static void io_forget(void *ctx, uint16_t slot)
{
    assert_int_equal(slot, SLOT);
    ((struct side *)ctx)->forgotten++;
}

static void io_changed(void *ctx)
{
    struct side *side = ctx;
    struct peal_store_op *op = peal_cluster_write(&side->cluster);
    if (op != NULL) io_submit(side, op);
}

/* Lets the store of a side finish its oldest operation. */
static enum peal_store_op_kind store_done(struct side *side, enum peal_err err)
{
    assert_true(side->op_count > 0);
    struct peal_store_op *op = side->ops[0];
    enum peal_store_op_kind kind = op->kind;
    memmove(side->ops, side->ops + 1, --side->op_count * sizeof side->ops[0]);
    op->err = err;
    if (kind == PEAL_STORE_SLOTS) {
        if (peal_cluster_on_written(&side->cluster, op)) {
            peal_cluster_tell(&side->cluster);
            peal_mover_on_written(&side->mover);
        }
    } else {
        if (kind == PEAL_STORE_EXPORT && err == PEAL_OK) {
            struct peal_buf buf = {0};
            struct peal_frame records = {.type = PEAL_F_RECORDS, .from = op->upto + 1};
            if (op->upto + 1 >= side->records) records.flags = PEAL_FLAG_LAST;
            records.group = peal_span_of("g");
            op->encoded = peal_frame_bytes(&records, &buf);
            peal_buf_fini(&buf);
        }
        peal_mover_on_done(&side->mover, op);
    }
    peal_store_op_free(op);
    return kind;
}

static void set_up_side(struct world *w, size_t number)
{
    struct side *side = &w->sides[number];
    struct peal_cluster_io others = {side, io_tell, io_forward};
    struct peal_mover_io io = {side,     io_submit, io_answer, io_collect,
                               io_adopt, io_forget, io_changed};
    char why[100];
    side->w = w;
    side->number = number;
    side->records = 1;
    peal_cluster_init(&side->cluster, &w->config, 1000 * (number + 1));
    /* A store from before there were tables: the even split at once. */
    assert_int_equal(peal_cluster_start(&side->cluster, &others, number, 2, (struct peal_span){0},
                                        why, sizeof why),
                     PEAL_OK);
    peal_mover_init(&side->mover, &io, &side->cluster);
    io_changed(side);
    assert_int_equal(store_done(side, PEAL_OK), PEAL_STORE_SLOTS);
}

static void drop_wire(struct world *w)
{
    while (w->wire_count > 0)
        peal_bytes_unref(w->wire[--w->wire_count].bytes);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    w->config.groups = &w->group;
    w->config.group_count = 1;
    w->now_ms = 1000;
    set_up_side(w, 0);
    set_up_side(w, 1);
    drop_wire(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    drop_wire(w);
    for (size_t i = 0; i < 2; i++) {
        for (size_t n = 0; n < w->sides[i].op_count; n++)
            peal_store_op_free(w->sides[i].ops[n]);
        peal_mover_fini(&w->sides[i].mover);
        peal_cluster_fini(&w->sides[i].cluster);
    }
    free(w);
    return 0;
}

static void arrive(struct world *w, size_t to, struct peal_span bytes)
{
    struct side *side = &w->sides[to];
    bool lost[PEAL_SLOTS];
    struct peal_frame frame;
    assert_int_equal(peal_frame_decode(bytes, &frame), PEAL_OK);
    if (frame.type == PEAL_F_SLOTS)
        peal_cluster_on_frame(&side->cluster, &frame, lost);
    else
        peal_mover_on_frame(&side->mover, &frame);
    io_changed(side);
    peal_frame_fini(&frame);
}

/* Hands over what is on the wire, oldest first. */
static void deliver(struct world *w)
{
    for (size_t i = 0; i < w->wire_count; i++) {
        arrive(w, w->wire[i].to, peal_bytes_span(w->wire[i].bytes));
        peal_bytes_unref(w->wire[i].bytes);
    }
    w->wire_count = 0;
}

/* One by one, because delivering adds to the wire. */
static void run(struct world *w)
{
    for (;;) {
        if (w->wire_count > 0) {
            struct peal_bytes *bytes = w->wire[0].bytes;
            size_t to = w->wire[0].to;
            memmove(w->wire, w->wire + 1, --w->wire_count * sizeof w->wire[0]);
            arrive(w, to, peal_bytes_span(bytes));
            peal_bytes_unref(bytes);
        } else if (w->sides[0].op_count > 0) {
            store_done(&w->sides[0], PEAL_OK);
        } else if (w->sides[1].op_count > 0) {
            store_done(&w->sides[1], PEAL_OK);
        } else {
            return;
        }
    }
}

static void pass(struct world *w, uint64_t ms)
{
    w->now_ms += ms;
    peal_mover_on_tick(&w->sides[0].mover, w->now_ms);
    peal_mover_on_tick(&w->sides[1].mover, w->now_ms);
}

static void ask(struct world *w, uint64_t slot, uint64_t to)
{
    struct peal_peer peer = {.id_size = 1, .id = "o"};
    struct peal_frame move = {.type = PEAL_F_MOVE, .req = 7, .slot = slot, .owner = to};
    peal_mover_on_move(&w->sides[0].mover, &peer, &move);
}

static enum peal_holding holding(const struct world *w, size_t side)
{
    return peal_holdings_of(&w->sides[side].cluster.holdings, SLOT);
}

static void mover_gives_a_slot_piece_by_piece(void **state)
{
    struct world *w = *state;
    w->sides[0].records = 3;
    w->sides[0].pieces = 2;
    ask(w, SLOT, 1);
    assert_int_equal(holding(w, 0), PEAL_HOLD_FROZEN);
    assert_true(peal_mover_busy(&w->sides[0].mover));
    run(w);
    assert_int_equal(w->given_count, 1);
    assert_int_equal(w->given.code, PEAL_OK);
    assert_int_equal(w->given.req, 7);
    assert_int_equal(w->given.owner, 1);
    assert_int_equal(w->given.generation, 1);
    assert_int_equal(holding(w, 0), PEAL_HOLD_ELSEWHERE);
    assert_int_equal(holding(w, 1), PEAL_HOLD_MINE);
    assert_int_equal(w->sides[1].adopted, 2);
    assert_int_equal(w->sides[1].forgotten, 1); /* of what an earlier copy had left */
    assert_int_equal(w->sides[0].forgotten, 1);
    assert_false(peal_mover_busy(&w->sides[0].mover));
    ask(w, SLOT, 1); /* again: it is done */
    assert_int_equal(w->given_count, 2);
    assert_int_equal(w->given.code, PEAL_OK);
}

static void mover_in_no_step_has_the_slot_two_owners(void **state)
{
    struct world *w = *state;
    size_t steps = 0;
    w->sides[0].pieces = 1;
    ask(w, SLOT, 1);
    for (;; steps++) {
        bool first = holding(w, 0) == PEAL_HOLD_MINE || holding(w, 0) == PEAL_HOLD_FROZEN;
        bool second = holding(w, 1) == PEAL_HOLD_MINE;
        assert_false(first && second);
        if (w->wire_count > 0)
            deliver(w);
        else if (w->sides[0].op_count > 0)
            store_done(&w->sides[0], PEAL_OK);
        else if (w->sides[1].op_count > 0)
            store_done(&w->sides[1], PEAL_OK);
        else
            break;
    }
    assert_true(steps > 6);
    assert_int_equal(holding(w, 1), PEAL_HOLD_MINE);
}

static void mover_word_that_is_not_written_is_not_told(void **state)
{
    struct world *w = *state;
    ask(w, SLOT, 1);
    while (w->sides[0].op_count == 0 || w->sides[0].ops[0]->kind != PEAL_STORE_SLOTS) {
        if (w->wire_count > 0)
            deliver(w);
        else
            store_done(w->sides[0].op_count > 0 ? &w->sides[0] : &w->sides[1], PEAL_OK);
    }
    assert_int_equal(holding(w, 0), PEAL_HOLD_NOBODY);
    peal_cluster_tell(&w->sides[0].cluster);
    deliver(w);
    assert_int_equal(w->sides[1].op_count, 0);
    store_done(&w->sides[0], PEAL_EIO);
    assert_int_equal(w->given_count, 0);
    io_changed(&w->sides[0]); /* the next second */
    run(w);
    assert_int_equal(w->given.code, PEAL_OK);
    assert_int_equal(holding(w, 1), PEAL_HOLD_MINE);
}

static void mover_lost_pieces_come_again_and_count_once(void **state)
{
    struct world *w = *state;
    w->sides[0].pieces = 1;
    ask(w, SLOT, 1);
    store_done(&w->sides[0], PEAL_OK);
    drop_wire(w); /* the first piece */
    pass(w, PEAL_MOVER_AGAIN_MS);
    assert_int_equal(w->wire_count, 1);
    deliver(w);
    store_done(&w->sides[1], PEAL_OK);
    drop_wire(w); /* that it arrived */
    pass(w, PEAL_MOVER_AGAIN_MS);
    run(w);
    assert_int_equal(w->given.code, PEAL_OK);
    assert_int_equal(w->sides[1].adopted, 1);
    assert_int_equal(holding(w, 1), PEAL_HOLD_MINE);
}

static void mover_without_an_answer_keeps_the_slot_and_can_begin_again(void **state)
{
    struct world *w = *state;
    w->cut = true;
    ask(w, SLOT, 1);
    store_done(&w->sides[0], PEAL_OK);
    for (int i = 0; i < 24 && w->given_count == 0; i++)
        pass(w, 250);
    assert_int_equal(w->given_count, 1);
    assert_int_equal(w->given.code, PEAL_ETIMEOUT);
    assert_int_equal(holding(w, 0), PEAL_HOLD_MINE);
    w->cut = false;
    ask(w, SLOT, 1);
    run(w);
    assert_int_equal(w->given.code, PEAL_OK);
    assert_int_equal(holding(w, 1), PEAL_HOLD_MINE);
}

static void mover_whose_other_side_forgot_stops_and_thaws(void **state)
{
    struct world *w = *state;
    w->sides[0].records = 2;
    ask(w, SLOT, 1);
    store_done(&w->sides[0], PEAL_OK);
    deliver(w);
    store_done(&w->sides[1], PEAL_OK);
    deliver(w);
    store_done(&w->sides[0], PEAL_OK);                                 /* the second piece is out */
    memset(&w->sides[1].mover.take, 0, sizeof w->sides[1].mover.take); /* it was killed */
    run(w);
    assert_int_equal(w->given.code, PEAL_EAGAIN);
    assert_int_equal(holding(w, 0), PEAL_HOLD_MINE);
    assert_int_equal(holding(w, 1), PEAL_HOLD_ELSEWHERE);
}

static void mover_refused_by_store_or_memory_of_the_other_side_stops(void **state)
{
    struct world *w = *state;
    ask(w, SLOT, 1);
    store_done(&w->sides[0], PEAL_OK);
    deliver(w);
    store_done(&w->sides[1], PEAL_ESTORE_FULL);
    run(w);
    assert_int_equal(w->given.code, PEAL_ESTORE_FULL);
    assert_int_equal(holding(w, 0), PEAL_HOLD_MINE);

    w->sides[0].pieces = 1;
    w->sides[1].adopt_fails = true;
    ask(w, SLOT, 1);
    run(w);
    assert_int_equal(w->given.code, PEAL_ENOMEM);
    assert_int_equal(holding(w, 0), PEAL_HOLD_MINE);
}

static void mover_takes_no_copy_of_what_it_serves(void **state)
{
    struct world *w = *state;
    struct peal_frame copy = {.type = PEAL_F_COPY,
                              .owner = 0,
                              .slot = 1000,
                              .seq = 9,
                              .flags = PEAL_FLAG_STORED,
                              .envelope = peal_span_of("x")};
    peal_mover_on_frame(&w->sides[1].mover, &copy);
    assert_int_equal(w->sides[1].op_count, 0);
    assert_int_equal(w->wire_count, 1);
    struct peal_frame copied;
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->wire[0].bytes), &copied), PEAL_OK);
    assert_int_equal(copied.code, PEAL_EFORBIDDEN);
    peal_frame_fini(&copied);
}

static void mover_does_one_slot_at_a_time_and_none_of_another_router(void **state)
{
    struct world *w = *state;
    ask(w, SLOT, 1);
    ask(w, SLOT + 1, 1);
    assert_int_equal(w->given.code, PEAL_EAGAIN);
    ask(w, 1000, 0);
    assert_int_equal(w->given.code, PEAL_EAGAIN);
    run(w);
    ask(w, 1000, 0);
    assert_int_equal(w->given.code, PEAL_EFORBIDDEN);
    ask(w, PEAL_SLOTS, 1);
    assert_int_equal(w->given.code, PEAL_EBAD_FIELD);
    ask(w, 3, 2);
    assert_int_equal(w->given.code, PEAL_EBAD_FIELD);
}

static void mover_asked_again_goes_on_and_answers_the_last_who_asked(void **state)
{
    struct world *w = *state;
    struct peal_peer peer = {.id_size = 1, .id = "p"};
    struct peal_frame move = {.type = PEAL_F_MOVE, .req = 8, .slot = SLOT, .owner = 1};
    ask(w, SLOT, 1);
    store_done(&w->sides[0], PEAL_OK);
    peal_mover_on_move(&w->sides[0].mover, &peer, &move);
    assert_int_equal(w->given_count, 0);
    run(w);
    assert_int_equal(w->given_count, 1);
    assert_int_equal(w->given.req, 8);
    assert_int_equal(w->given.code, PEAL_OK);
}

static void mover_slot_that_another_claims_meanwhile_is_not_given(void **state)
{
    struct world *w = *state;
    struct peal_slot slots[PEAL_SLOTS];
    ask(w, SLOT, 1);
    peal_slots_seed(slots, 2);
    slots[SLOT] = (struct peal_slot){.owner = 1, .generation = 9};
    assert_true(peal_holdings_hear(&w->sides[0].cluster.holdings, 1, slots));
    run(w);
    assert_int_equal(w->given.code, PEAL_EFORBIDDEN);
    assert_int_equal(w->sides[0].cluster.holdings.slots[SLOT].generation, 9);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(mover_gives_a_slot_piece_by_piece),
        TEST(mover_in_no_step_has_the_slot_two_owners),
        TEST(mover_word_that_is_not_written_is_not_told),
        TEST(mover_lost_pieces_come_again_and_count_once),
        TEST(mover_without_an_answer_keeps_the_slot_and_can_begin_again),
        TEST(mover_whose_other_side_forgot_stops_and_thaws),
        TEST(mover_refused_by_store_or_memory_of_the_other_side_stops),
        TEST(mover_takes_no_copy_of_what_it_serves),
        TEST(mover_does_one_slot_at_a_time_and_none_of_another_router),
        TEST(mover_asked_again_goes_on_and_answers_the_last_who_asked),
        TEST(mover_slot_that_another_claims_meanwhile_is_not_given),
    };
    return cmocka_run_group_tests_name("mover", tests, NULL, NULL);
}

/* Offsets, epochs, the order of results, and ids of publishers. */
#include <stdio.h>
#include <string.h>

#include "proto/envelope.h"
#include "tests/contract/rig.h"
#include "tests/unit/unit.h"

/* ---- numbers ---------------------------------------------------------------------------- */

static void put_numbers_from_one_and_returns_the_envelope(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    for (uint64_t i = 1; i <= 3; i++) {
        struct peal_store_op *op =
            rig_put_op(rig, &(struct message){"user:a", NULL, "hello", 0, 0});
        struct peal_envelope env;
        rig_submit(rig, op);
        assert_ptr_equal(rig_wait(&rig->done), op);
        assert_int_equal(op->err, PEAL_OK);
        assert_int_equal(op->epoch, rig_generation(rig));
        assert_int_equal(op->offset, i);
        assert_int_equal(op->first, 1);
        assert_int_equal(op->unread, i);
        assert_int_equal(peal_envelope_decode(peal_bytes_span(op->encoded), &env), PEAL_OK);
        assert_int_equal(env.offset, i);
        assert_int_equal(env.epoch, op->epoch);
        assert_true(peal_span_is(env.data, "hello"));
        assert_int_equal(peal_bytes_refs(op->encoded), 1);
        peal_store_op_free(op);
    }
}

static void put_in_another_group_has_numbers_of_its_own(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    assert_int_equal(rig_put(rig, "user:a", NULL, "x").offset, 1);
    assert_int_equal(rig_put(rig, "user:b", NULL, "x").offset, 1);
    assert_int_equal(rig_put(rig, "user:ab", NULL, "x").offset, 1);
    assert_int_equal(rig_put(rig, "news", NULL, "x").offset, 1);
    assert_int_equal(rig_put(rig, "user:a", NULL, "x").offset, 2);
    assert_string_equal(rig_text_of(rig, "user:b"), "M1");
}

static void put_with_any_data_comes_back_byte_by_byte(void **state)
{
    struct rig *rig = *state;
    static char data[100000];
    rig_open(rig);
    for (size_t size = 1; size <= sizeof data; size *= 10) {
        for (size_t i = 0; i < size; i++)
            data[i] = (char)(i * 131 + size);
        struct message m = {"user:a", "an id", data, size, 60000};
        struct page page;
        struct peal_envelope env;
        struct peal_frame entry;
        char id[16];
        snprintf(id, sizeof id, "id-%zu", size);
        m.id = id;
        uint64_t offset = rig_do(rig, rig_put_keyed_op(rig, &m, "a key")).offset;
        rig_page(rig, &(struct ask){"user:a", 0, offset - 1, 0, 0, 0}, &page);
        assert_int_equal(page.frame.entries.count, 1);
        assert_int_equal(peal_frame_decode(page.frame.entries.at[0], &entry), PEAL_OK);
        assert_int_equal(peal_envelope_decode(entry.envelope, &env), PEAL_OK);
        assert_true(peal_span_equal(env.data, peal_span_make(data, size)));
        assert_true(peal_span_is(env.id, id));
        assert_true(peal_span_is(env.collapse, "a key"));
        assert_int_equal(env.ttl_ms, 60000);
        assert_int_equal(env.flags, PEAL_MSG_ID_GIVEN);
        peal_frame_fini(&entry);
        page_free(&page);
    }
}

static struct peal_store_op *bad_put(struct rig *rig, const char *group, const char *bytes)
{
    return rig_op(rig, PEAL_STORE_PUT, peal_span_of(group), peal_span_of(bytes), NULL, 0);
}

static void put_that_makes_no_sense_is_refused(void **state)
{
    struct rig *rig = *state;
    char id[PEAL_MESSAGE_ID_MAX + 2];
    memset(id, 'i', sizeof id - 1);
    id[sizeof id - 1] = '\0';
    rig_open(rig);
    assert_int_equal(rig_do(rig, bad_put(rig, "user:a", "no envelope")).err, PEAL_EBAD_MESSAGE);
    struct peal_store_op *op = rig_put_op(rig, &(struct message){"user:a", NULL, "x", 0, 0});
    op->group = peal_span_of("user:b"); /* not the one of the envelope */
    assert_int_equal(rig_do(rig, op).err, PEAL_EBAD_MESSAGE);
    assert_int_equal(rig_put(rig, "user:a", id, "x").err, PEAL_EBAD_MESSAGE);
    assert_int_equal(rig_head(rig, "user:a").offset, 0);
    assert_int_equal(rig_head(rig, "user:b").offset, 0);
}

static void group_without_a_name_is_refused(void **state)
{
    struct rig *rig = *state;
    char name[PEAL_NAME_MAX + 2];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    rig_open(rig);
    assert_int_equal(rig_head(rig, "").err, PEAL_EBAD_GROUP);
    assert_int_equal(rig_head(rig, "line\nbreak").err, PEAL_EBAD_GROUP);
    assert_int_equal(rig_head(rig, name).err, PEAL_EBAD_GROUP);
    name[PEAL_NAME_MAX] = '\0';
    assert_int_equal(rig_put(rig, name, NULL, "x").offset, 1);
    assert_string_equal(rig_text_of(rig, name), "M1");
}

static void put_that_is_refused_takes_no_number(void **state)
{
    struct rig *rig = *state;
    enum { COUNT = 60 };
    struct peal_store_op *ops[COUNT];
    rig_open(rig);
    pthread_mutex_lock(&rig->gate);
    for (int i = 0; i < COUNT; i++) {
        ops[i] = i % 3 == 1 ? bad_put(rig, "user:a", "no envelope")
                            : rig_put_op(rig, &(struct message){"user:a", NULL, "x", 0, 0});
        rig_submit(rig, ops[i]);
    }
    pthread_mutex_unlock(&rig->gate);
    uint64_t offset = 0;
    for (int i = 0; i < COUNT; i++) {
        struct peal_store_op *op = rig_wait(&rig->done);
        assert_ptr_equal(op, ops[i]);
        assert_int_equal(op->err, i % 3 == 1 ? PEAL_EBAD_MESSAGE : PEAL_OK);
        if (i % 3 == 1) assert_null(op->encoded);
        if (i % 3 != 1) assert_int_equal(op->offset, ++offset);
        peal_store_op_free(op);
    }
    assert_int_equal(rig_head(rig, "user:a").offset, offset);
    rig_reopen(rig);
    assert_int_equal(rig_put(rig, "user:a", NULL, "x").offset, offset + 1);
}

/* ---- order ------------------------------------------------------------------------------ */

static void results_come_in_the_order_of_submission(void **state)
{
    struct rig *rig = *state;
    enum { COUNT = 500 };
    static const char *const names[] = {"user:a", "user:b", "news"};
    struct peal_store_op *ops[COUNT];
    uint64_t newest[3] = {0};
    uint64_t unread[3] = {0};
    rig_open(rig);
    pthread_mutex_lock(&rig->gate);
    for (int i = 0; i < COUNT; i++) {
        const char *name = names[i % 3];
        if (i % 7 == 6)
            ops[i] = rig_mark_op(rig, names[i % 2], PEAL_FLAG_ACK | PEAL_FLAG_ALL, 0, NULL, 0);
        else if (i % 7 == 3)
            ops[i] = rig_head_op(rig, name);
        else
            ops[i] = rig_put_op(rig, &(struct message){name, NULL, "x", 0, 0});
        ops[i]->tag[0] = (uint64_t)(i % 7 == 6 ? i % 2 : i % 3);
        rig_submit(rig, ops[i]);
    }
    pthread_mutex_unlock(&rig->gate);
    for (int i = 0; i < COUNT; i++) {
        struct peal_store_op *op = rig_wait(&rig->done);
        size_t group = (size_t)op->tag[0];
        assert_ptr_equal(op, ops[i]);
        assert_int_equal(op->err, PEAL_OK);
        if (op->kind == PEAL_STORE_PUT) newest[group]++;
        if (op->kind == PEAL_STORE_PUT && group < 2) unread[group]++;
        if (op->kind == PEAL_STORE_MARK) unread[group] = 0;
        assert_int_equal(op->offset, newest[group]);
        assert_int_equal(op->unread, unread[group]);
        peal_store_op_free(op);
    }
}

static void full_queue_refuses_and_keeps_the_operation_with_the_caller(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    pthread_mutex_lock(&rig->gate);
    int submitted = 0;
    struct peal_store_op *op;
    for (;; submitted++) {
        op = rig_head_op(rig, "user:a");
        enum peal_err err = rig->impl->submit(rig->store, op);
        if (err == PEAL_OK) continue;
        assert_int_equal(err, PEAL_EQUEUE_FULL);
        break;
    }
    assert_int_equal(submitted, PEAL_STORE_OPS_MAX);
    pthread_mutex_unlock(&rig->gate);

    /* What was handed back counts until it is freed: the receiver's mailbox cannot overflow. */
    struct peal_store_op *back = rig_wait(&rig->done);
    assert_int_equal(rig->impl->submit(rig->store, op), PEAL_EQUEUE_FULL);
    peal_store_op_free(back);
    assert_int_equal(rig->impl->submit(rig->store, op), PEAL_OK);
    for (int i = 0; i < submitted; i++)
        peal_store_op_free(rig_wait(&rig->done));
}

/* ---- heads and epochs ------------------------------------------------------------------- */

static void head_of_an_unknown_group_is_empty_and_creates_nothing(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    for (int i = 0; i < 3; i++) {
        struct peal_store_op head = rig_head(rig, "user:new");
        assert_int_equal(head.err, PEAL_OK);
        assert_int_equal(head.epoch, rig_generation(rig));
        assert_int_equal(head.offset, 0);
        assert_int_equal(head.first, 1);
        assert_int_equal(head.unread, 0);
        assert_int_equal(head.rev, 0);
        if (i == 1) rig_reopen(rig);
    }
}

static void head_tells_what_the_last_change_told(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    rig_put(rig, "user:a", NULL, "x");
    struct peal_store_op put = rig_put(rig, "user:a", NULL, "x");
    struct peal_store_op head = rig_head(rig, "user:a");
    assert_int_equal(head.epoch, put.epoch);
    assert_int_equal(head.offset, put.offset);
    assert_int_equal(head.first, put.first);
    assert_int_equal(head.unread, put.unread);
    assert_int_equal(head.rev, put.rev);
}

/* An older copy of the folder is put in place of the newer one: its heads go back in an epoch that
 * nodes and clients know. */
static void position_ahead_of_a_head_begins_a_new_epoch(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    uint64_t epoch = rig_generation(rig);
    for (int i = 0; i < 3; i++) {
        rig_put(rig, "user:a", NULL, "kept");
        rig_put(rig, "user:b", NULL, "kept");
    }
    rig_reopen(rig); /* as it was copied; two more were sent out since */
    struct peal_store_op head = rig_head_seen(rig, "user:a", epoch, 5);
    assert_int_equal(head.err, PEAL_OK);
    assert_true(head.epoch != epoch);
    assert_true(head.epoch != 0);
    assert_true(head.epoch < UINT64_C(1) << 53); /* some clients keep numbers as doubles */
    assert_int_equal(head.offset, 3);
    /* The next number is one that was given before, in another epoch; what is kept stays. */
    struct peal_store_op put = rig_put(rig, "user:a", NULL, "new");
    assert_int_equal(put.epoch, head.epoch);
    assert_int_equal(put.offset, 4);
    rig->head_went_back = true;
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", epoch, 5, 0, 0, 0}),
                        "Gepoch:1-0 M1 M2 M3 M4");
    rig->head_went_back = false;
    /* A second node that saw the same begins no third one; nor does a restart. */
    assert_int_equal(rig_head_seen(rig, "user:a", epoch, 5).epoch, head.epoch);
    rig_reopen(rig);
    assert_int_equal(rig_head_seen(rig, "user:a", epoch, 5).epoch, head.epoch);
    assert_int_equal(rig_head(rig, "user:b").epoch, epoch);
    /* The rule holds in the new epoch too. */
    assert_true(rig_head_seen(rig, "user:a", head.epoch, 9).epoch != head.epoch);
}

static void position_that_is_known_or_of_another_epoch_begins_no_new_one(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    uint64_t epoch = rig_generation(rig);
    for (int i = 0; i < 3; i++)
        rig_put(rig, "user:a", NULL, "x");
    struct peal_store_op before = rig_head(rig, "user:a");
    assert_int_equal(rig_head_seen(rig, "user:a", epoch, 3).epoch, epoch); /* up to date */
    assert_int_equal(rig_head_seen(rig, "user:a", epoch, 1).epoch, epoch); /* behind */
    assert_int_equal(rig_head_seen(rig, "user:a", epoch + 1, 9).epoch, epoch);
    assert_int_equal(rig_head_seen(rig, "user:a", 0, 0).epoch, epoch);
    assert_int_equal(rig_head(rig, "user:a").rev, before.rev);
}

/* The copy is from before the group's first message. */
static void position_in_a_group_without_a_head_begins_a_new_epoch(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    uint64_t epoch = rig_generation(rig);
    struct peal_store_op head = rig_head_seen(rig, "user:a", epoch, 2);
    assert_true(head.epoch != epoch);
    assert_int_equal(head.offset, 0);
    struct peal_store_op put = rig_put(rig, "user:a", NULL, "new");
    assert_int_equal(put.epoch, head.epoch);
    assert_int_equal(put.offset, 1);
    rig_reopen(rig);
    assert_int_equal(rig_head(rig, "user:a").epoch, head.epoch);
    assert_int_equal(rig_head(rig, "user:b").epoch, epoch);
}

/* ---- ids -------------------------------------------------------------------------------- */

static void same_id_gets_the_first_position(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    struct peal_store_op first = rig_put(rig, "user:a", "order-1", "x");
    assert_false(first.duplicate);
    struct peal_store_op second = rig_put(rig, "user:a", "order-2", "x");
    struct peal_store_op again = rig_put(rig, "user:a", "order-1", "x");
    assert_int_equal(again.err, PEAL_OK);
    assert_true(again.duplicate);
    assert_int_equal(again.offset, first.offset);
    assert_int_equal(again.epoch, first.epoch);
    assert_int_equal(again.rev, second.rev); /* nothing has changed */
    assert_int_equal(again.unread, 2);
    assert_false(rig_put(rig, "user:b", "order-1", "x").duplicate); /* another group */
    assert_false(rig_put(rig, "user:a", NULL, "x").duplicate);      /* not given: a ULID */
    assert_false(rig_put(rig, "user:a", NULL, "x").duplicate);
    assert_string_equal(rig_text_of(rig, "user:a"), "M1 M2 M3 M4");
}

static void same_id_of_waiting_messages_is_found(void **state)
{
    struct rig *rig = *state;
    struct message m = {"user:a", "order-1", "x", 0, 0};
    rig_open(rig);
    pthread_mutex_lock(&rig->gate);
    rig_submit(rig, rig_head_op(rig, "user:a"));
    for (int i = 0; i < 10; i++)
        rig_submit(rig, rig_put_op(rig, &m));
    pthread_mutex_unlock(&rig->gate);
    peal_store_op_free(rig_wait(&rig->done));
    for (int i = 0; i < 10; i++) {
        struct peal_store_op *op = rig_wait(&rig->done);
        assert_int_equal(op->err, PEAL_OK);
        assert_int_equal(op->offset, 1);
        assert_int_equal(op->duplicate, i > 0);
        assert_int_equal(op->encoded != NULL, i == 0);
        peal_store_op_free(op);
    }
    assert_string_equal(rig_text_of(rig, "user:a"), "M1");
}

static void same_id_is_found_after_reopening_until_the_window_ends(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    rig_put(rig, "user:a", "order-1", "x");
    rig_reopen(rig);
    rig_clock(rig, rig->config.dedup.age_ms - 1);
    assert_true(rig_put(rig, "user:a", "order-1", "x").duplicate);
    rig_clock(rig, 1);
    struct peal_store_op op = rig_put(rig, "user:a", "order-1", "x");
    assert_false(op.duplicate);
    assert_int_equal(op.offset, 2);
    /* The window begins anew with the message that was stored. */
    rig_clock(rig, rig->config.dedup.age_ms - 1);
    op = rig_put(rig, "user:a", "order-1", "x");
    assert_true(op.duplicate);
    assert_int_equal(op.offset, 2);
}

static void oldest_ids_go_when_there_are_too_many(void **state)
{
    struct rig *rig = *state;
    rig->config.dedup.ids = 10;
    rig_open(rig);
    for (int i = 0; i < 11; i++) {
        char id[16];
        snprintf(id, sizeof id, "id-%d", i);
        rig_put(rig, "user:a", id, "x");
        rig_clock(rig, 1);
    }
    assert_true(rig_put(rig, "user:a", "id-1", "x").duplicate);
    assert_true(rig_put(rig, "user:a", "id-10", "x").duplicate);
    assert_false(rig_put(rig, "user:a", "id-0", "x").duplicate);
}

static void same_id_of_a_message_that_is_gone_is_a_duplicate(void **state)
{
    struct rig *rig = *state;
    rig->groups[0].keep.messages = 2;
    rig->groups[0].keep.settled_ms = 0;
    rig_open(rig);
    rig_put(rig, "user:a", "evicted", "x");
    rig_put(rig, "user:a", "settled", "x");
    rig_put(rig, "user:a", NULL, "x");
    rig_ack(rig, "user:a", 2);
    for (int i = 0; i < 2; i++) {
        struct peal_store_op op = rig_put(rig, "user:a", "evicted", "x");
        assert_true(op.duplicate);
        assert_int_equal(op.offset, 1);
        op = rig_put(rig, "user:a", "settled", "x");
        assert_true(op.duplicate);
        assert_int_equal(op.offset, 2);
        rig_reopen(rig);
    }
}

static void id_of_a_refused_message_is_not_remembered(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    struct peal_store_op *op = rig_put_op(rig, &(struct message){"user:a", "id", "x", 0, 0});
    op->group = peal_span_of("user:b");
    assert_int_equal(rig_do(rig, op).err, PEAL_EBAD_MESSAGE);
    assert_false(rig_put(rig, "user:a", "id", "x").duplicate);
    assert_false(rig_put(rig, "user:b", "id", "x").duplicate);
}

static void same_id_in_a_new_epoch_gets_the_position_in_the_old_one(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    uint64_t epoch = rig_put(rig, "user:a", "id", "x").epoch;
    assert_true(rig_head_seen(rig, "user:a", epoch, 7).epoch != epoch);
    struct peal_store_op op = rig_put(rig, "user:a", "id", "x");
    assert_true(op.duplicate);
    assert_int_equal(op.epoch, epoch);
    assert_int_equal(op.offset, 1);
}

int contract_numbers(const struct contract_store *impl)
{
    const struct CMUnitTest tests[] = {
        CASE(put_numbers_from_one_and_returns_the_envelope),
        CASE(put_in_another_group_has_numbers_of_its_own),
        CASE(put_with_any_data_comes_back_byte_by_byte),
        CASE(put_that_makes_no_sense_is_refused),
        CASE(group_without_a_name_is_refused),
        CASE(put_that_is_refused_takes_no_number),
        CASE(results_come_in_the_order_of_submission),
        CASE(full_queue_refuses_and_keeps_the_operation_with_the_caller),
        CASE(head_of_an_unknown_group_is_empty_and_creates_nothing),
        CASE(head_tells_what_the_last_change_told),
        CASE(position_ahead_of_a_head_begins_a_new_epoch),
        CASE(position_that_is_known_or_of_another_epoch_begins_no_new_one),
        CASE(position_in_a_group_without_a_head_begins_a_new_epoch),
        CASE(same_id_gets_the_first_position),
        CASE(same_id_of_waiting_messages_is_found),
        CASE(same_id_is_found_after_reopening_until_the_window_ends),
        CASE(oldest_ids_go_when_there_are_too_many),
        CASE(same_id_of_a_message_that_is_gone_is_a_duplicate),
        CASE(id_of_a_refused_message_is_not_remembered),
        CASE(same_id_in_a_new_epoch_gets_the_position_in_the_old_one),
    };
    return cmocka_run_group_tests_name("contract: numbers", tests, NULL, NULL);
}

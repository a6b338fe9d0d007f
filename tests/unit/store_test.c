#include "storage/store.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "proto/envelope.h"
#include "tests/unit/unit.h"

#include "tests/unit/store_rig.h"

static struct rig rig;

static int rig_setup(void **state)
{
    if (folder_setup(state) != 0) return -1;
    rig_init(&rig, ((struct folder *)*state)->path);
    return 0;
}

static int rig_teardown(void **state)
{
    if (rig.store != NULL) rig_close(&rig);
    return folder_teardown(state);
}

static struct ask all_of(const char *group)
{
    return (struct ask){group, peal_store_generation(rig.store), 0, 0, 0, 0};
}

static const char *text_of(const char *group)
{
    struct ask ask = all_of(group);
    return rig_text(&rig, &ask);
}

static void store_put_numbers_and_returns_the_envelope(void **state)
{
    (void)state;
    rig_open(&rig);
    for (uint64_t i = 1; i <= 3; i++) {
        struct message m = {"user:a", NULL, "hello", 0, 0};
        struct peal_store_op *op = rig_put_op(&rig, &m);
        struct peal_envelope env;
        rig_submit(&rig, op);
        assert_ptr_equal(rig_wait(&rig.done), op);
        assert_int_equal(op->err, PEAL_OK);
        assert_int_equal(op->epoch, peal_store_generation(rig.store));
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

static void store_reopened_keeps_messages_marks_and_generation(void **state)
{
    (void)state;
    rig_open(&rig);
    uint64_t generation = peal_store_generation(rig.store);
    for (int i = 0; i < 5; i++)
        rig_put(&rig, "user:a", NULL, "x");
    struct peal_store_op before = rig_ack(&rig, "user:a", 2);
    assert_true(before.changed);

    rig_reopen(&rig);
    assert_int_equal(peal_store_generation(rig.store), generation);
    struct peal_store_op after = rig_head(&rig, "user:a");
    assert_int_equal(after.offset, 5);
    assert_int_equal(after.unread, 3);
    assert_int_equal(after.rev, before.rev);
    assert_string_equal(text_of("user:a"), "M1ar M2ar M3 M4 M5");
    assert_int_equal(rig_put(&rig, "user:a", NULL, "x").offset, 6);
    assert_int_equal(rig_put(&rig, "user:b", NULL, "x").offset, 1);
    assert_string_equal(text_of("user:b"), "M1"); /* not another group's number */
}

static void store_what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    rig_open(&rig);
    struct message m = {"user:a", NULL, "x", 0, 0};
    struct peal_store_op *op = peal_store_op_new(PEAL_STORE_PUT, peal_span_of("user:a"),
                                                 peal_span_of("no envelope"), NULL, 0);
    op->policy = &rig.groups[0];
    assert_int_equal(rig_do(&rig, op).err, PEAL_EBAD_MESSAGE);
    op = rig_put_op(&rig, &m);
    op->group = peal_span_of("user:b"); /* not the one of the envelope */
    assert_int_equal(rig_do(&rig, op).err, PEAL_EBAD_MESSAGE);
    assert_int_equal(rig_head(&rig, "").err, PEAL_EBAD_GROUP);
    assert_int_equal(rig_head(&rig, "line\nbreak").err, PEAL_EBAD_GROUP);
    rig_put(&rig, "news", NULL, "x");
    assert_int_equal(rig_ack(&rig, "news", 1).err, PEAL_EBAD_GROUP);
    assert_int_equal(rig_head(&rig, "user:a").offset, 0);
}

static void store_mark_of_nothing_creates_nothing(void **state)
{
    (void)state;
    rig_open(&rig);
    int64_t commits = peal_metrics_sum(PEAL_M_COMMITS);
    struct peal_store_op op = rig_ack(&rig, "user:a", 100);
    assert_int_equal(op.err, PEAL_OK);
    assert_false(op.changed);
    assert_int_equal(op.rev, 0);
    assert_int_equal(peal_metrics_sum(PEAL_M_COMMITS), commits);

    rig_put(&rig, "user:a", NULL, "x");
    assert_true(rig_ack(&rig, "user:a", 100).changed);
    commits = peal_metrics_sum(PEAL_M_COMMITS);
    assert_false(rig_ack(&rig, "user:a", 100).changed); /* no bit changed: nothing is written */
    assert_int_equal(peal_metrics_sum(PEAL_M_COMMITS), commits);
}

static void store_waiting_operations_share_one_commit_in_order(void **state)
{
    (void)state;
    enum { COUNT = 500 };
    struct peal_store_op *ops[COUNT];
    struct message a = {"user:a", NULL, "x", 0, 0};
    rig_open(&rig);
    pthread_mutex_lock(&rig.gate);
    struct peal_store_op *blocker = rig_head_op(&rig, "user:a");
    rig_submit(&rig, blocker);
    for (int i = 0; i < COUNT; i++) {
        ops[i] = i % 5 == 4 ? rig_mark_op(&rig, "user:a", PEAL_FLAG_ACK, (uint64_t)i, NULL, 0)
                            : rig_put_op(&rig, &a);
        rig_submit(&rig, ops[i]);
    }
    int64_t commits = peal_metrics_sum(PEAL_M_COMMITS);
    pthread_mutex_unlock(&rig.gate);

    /* The blocker's batch may have taken some of the first ones. */
    assert_ptr_equal(rig_wait(&rig.done), blocker);
    peal_store_op_free(blocker);
    uint64_t offset = 0;
    for (int i = 0; i < COUNT; i++) {
        struct peal_store_op *op = rig_wait(&rig.done);
        assert_ptr_equal(op, ops[i]);
        assert_int_equal(op->err, PEAL_OK);
        if (op->kind == PEAL_STORE_PUT) assert_int_equal(op->offset, ++offset);
        if (op->kind == PEAL_STORE_MARK) assert_int_equal(op->unread, 0);
        peal_store_op_free(op);
    }
    assert_in_range(peal_metrics_sum(PEAL_M_COMMITS) - commits, 1, 2);
}

static void store_full_queue_refuses_and_keeps_the_operation_with_the_caller(void **state)
{
    (void)state;
    rig_open(&rig);
    pthread_mutex_lock(&rig.gate);
    int submitted = 0;
    struct peal_store_op *op;
    for (;; submitted++) {
        op = rig_head_op(&rig, "user:a");
        enum peal_err err = peal_store_submit(rig.store, op);
        if (err == PEAL_OK) continue;
        assert_int_equal(err, PEAL_EQUEUE_FULL);
        break;
    }
    assert_int_equal(submitted, PEAL_STORE_OPS_MAX);
    pthread_mutex_unlock(&rig.gate);

    /* What was handed back counts until it is freed: the receiver's mailbox cannot overflow. */
    struct peal_store_op *back = rig_wait(&rig.done);
    assert_int_equal(peal_store_submit(rig.store, op), PEAL_EQUEUE_FULL);
    peal_store_op_free(back);
    assert_int_equal(peal_store_submit(rig.store, op), PEAL_OK);
    for (int i = 0; i < submitted; i++)
        peal_store_op_free(rig_wait(&rig.done));
}

static void store_stop_works_off_what_was_submitted(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    struct message a = {"user:a", NULL, "x", 0, 0};
    rig.groups[0].keep.messages = 4000;
    rig_open(&rig);
    for (int i = 0; i < COUNT; i++)
        rig_submit(&rig, rig_put_op(&rig, &a));
    peal_store_stop(rig.store);
    rig.store = NULL;
    for (uint64_t i = 1; i <= COUNT; i++) {
        struct peal_store_op *op = peal_mailbox_pop(&rig.done);
        assert_non_null(op);
        assert_int_equal(op->err, PEAL_OK);
        assert_int_equal(op->offset, i);
        peal_store_op_free(op);
    }
    peal_mailbox_fini(&rig.done);
    peal_mailbox_fini(&rig.pages);
    rig_open(&rig);
    assert_int_equal(rig_head(&rig, "user:a").offset, COUNT);
}

/* ---- dedup ------------------------------------------------------------------------------ */

static void store_same_id_gets_the_first_offset(void **state)
{
    (void)state;
    rig_open(&rig);
    struct peal_store_op first = rig_put(&rig, "user:a", "order-1", "x");
    assert_false(first.duplicate);
    rig_put(&rig, "user:a", "order-2", "x");
    struct peal_store_op again = rig_put(&rig, "user:a", "order-1", "x");
    assert_int_equal(again.err, PEAL_OK);
    assert_true(again.duplicate);
    assert_int_equal(again.offset, first.offset);
    assert_int_equal(again.epoch, first.epoch);
    assert_false(rig_put(&rig, "user:b", "order-1", "x").duplicate); /* another group */
    assert_false(rig_put(&rig, "user:a", NULL, "x").duplicate);      /* not given: a ULID */
    assert_false(rig_put(&rig, "user:a", NULL, "x").duplicate);
    assert_string_equal(text_of("user:a"), "M1 M2 M3 M4");
}

static void store_same_id_in_one_batch_is_found(void **state)
{
    (void)state;
    struct message m = {"user:a", "order-1", "x", 0, 0};
    rig_open(&rig);
    pthread_mutex_lock(&rig.gate);
    rig_submit(&rig, rig_head_op(&rig, "user:a"));
    for (int i = 0; i < 10; i++)
        rig_submit(&rig, rig_put_op(&rig, &m));
    pthread_mutex_unlock(&rig.gate);
    peal_store_op_free(rig_wait(&rig.done));
    for (int i = 0; i < 10; i++) {
        struct peal_store_op *op = rig_wait(&rig.done);
        assert_int_equal(op->err, PEAL_OK);
        assert_int_equal(op->offset, 1);
        assert_int_equal(op->duplicate, i > 0);
        assert_int_equal(op->encoded != NULL, i == 0);
        peal_store_op_free(op);
    }
    assert_string_equal(text_of("user:a"), "M1");
}

static void store_same_id_is_found_after_reopening_until_the_window_ends(void **state)
{
    (void)state;
    rig_open(&rig);
    rig_put(&rig, "user:a", "order-1", "x");
    rig_reopen(&rig);
    atomic_fetch_add(&rig.now_ms, rig.config.dedup.age_ms - 1);
    assert_true(rig_put(&rig, "user:a", "order-1", "x").duplicate);
    atomic_fetch_add(&rig.now_ms, 1);
    struct peal_store_op op = rig_put(&rig, "user:a", "order-1", "x");
    assert_false(op.duplicate);
    assert_int_equal(op.offset, 2);
    /* The window begins anew with the message that was stored. */
    atomic_fetch_add(&rig.now_ms, rig.config.dedup.age_ms - 1);
    op = rig_put(&rig, "user:a", "order-1", "x");
    assert_true(op.duplicate);
    assert_int_equal(op.offset, 2);
}

static void store_oldest_ids_go_when_there_are_too_many(void **state)
{
    (void)state;
    rig.config.dedup.ids = 10;
    rig_open(&rig);
    for (int i = 0; i < 11; i++) {
        char id[16];
        snprintf(id, sizeof id, "id-%d", i);
        rig_put(&rig, "user:a", id, "x");
        atomic_fetch_add(&rig.now_ms, 1);
    }
    assert_true(rig_put(&rig, "user:a", "id-1", "x").duplicate);
    assert_true(rig_put(&rig, "user:a", "id-10", "x").duplicate);
    assert_false(rig_put(&rig, "user:a", "id-0", "x").duplicate);
}

/* ---- retention -------------------------------------------------------------------------- */

static void store_count_limit_evicts_the_oldest_and_counts_it(void **state)
{
    (void)state;
    rig.groups[0].keep.messages = 3;
    rig_open(&rig);
    int64_t evicted = peal_metrics_sum(PEAL_M_EVICTED);
    int64_t settled = peal_metrics_sum(PEAL_M_SETTLED);
    for (int i = 0; i < 4; i++)
        rig_put(&rig, "user:a", NULL, "x");
    rig_ack(&rig, "user:a", 2);
    struct peal_store_op op = rig_put(&rig, "user:a", NULL, "x"); /* 2 was acked */
    assert_int_equal(op.first, 3);
    assert_int_equal(op.unread, 3);
    assert_int_equal(peal_metrics_sum(PEAL_M_EVICTED) - evicted, 1);
    assert_int_equal(peal_metrics_sum(PEAL_M_SETTLED) - settled, 1);
    assert_string_equal(text_of("user:a"), "Gevicted:1-1 S2-2 M3 M4 M5");
}

static int64_t messages_not_accounted_for(void)
{
    return peal_metrics_sum(PEAL_M_FOUND) + peal_metrics_sum(PEAL_M_STORED) -
           peal_metrics_sum(PEAL_M_SETTLED) - peal_metrics_sum(PEAL_M_EXPIRED) -
           peal_metrics_sum(PEAL_M_EVICTED) - peal_metrics_sum(PEAL_M_DAMAGED) -
           peal_metrics_sum(PEAL_M_PRESENT);
}

static void store_messages_add_up_also_after_reopening(void **state)
{
    (void)state;
    rig.groups[0].keep.messages = 3;
    rig_open(&rig);
    int64_t before = messages_not_accounted_for();
    int64_t present = peal_metrics_sum(PEAL_M_PRESENT);
    for (int i = 0; i < 5; i++)
        rig_put(&rig, "user:a", NULL, "x");
    rig_put(&rig, "news", "id", "x");
    rig_put(&rig, "news", "id", "x");
    assert_int_equal(peal_metrics_sum(PEAL_M_PRESENT) - present, 4);
    assert_int_equal(messages_not_accounted_for(), before);

    int64_t found = peal_metrics_sum(PEAL_M_FOUND);
    rig_reopen(&rig);
    rig_ack(&rig, "user:a", 5);
    rig_put(&rig, "user:a", NULL, "x"); /* takes the place of one that is settled */
    assert_int_equal(peal_metrics_sum(PEAL_M_FOUND) - found, 4);
    assert_int_equal(messages_not_accounted_for(), before);
}

static void store_byte_limit_evicts_the_oldest(void **state)
{
    (void)state;
    char data[1001];
    memset(data, 'x', 1000);
    data[1000] = '\0';
    rig.groups[1].keep.bytes = 3500;
    rig_open(&rig);
    for (int i = 0; i < 5; i++)
        rig_put(&rig, "news", NULL, data);
    assert_string_equal(text_of("news"), "Gevicted:1-2 M3 M4 M5");
}

static void store_settled_messages_go_an_hour_after_the_last_mark(void **state)
{
    (void)state;
    rig_open(&rig);
    for (int i = 0; i < 4; i++)
        rig_put(&rig, "user:a", NULL, "x");
    rig_ack(&rig, "user:a", 2);
    rig_pass(&rig, HOUR_MS - 1);
    rig_ack(&rig, "user:a", 3);
    rig_pass(&rig, HOUR_MS - 1);
    assert_string_equal(text_of("user:a"), "M1ar M2ar M3ar M4");
    int64_t settled = peal_metrics_sum(PEAL_M_SETTLED);
    rig_pass(&rig, 1001);
    assert_string_equal(text_of("user:a"), "S1-3 M4");
    assert_int_equal(peal_metrics_sum(PEAL_M_SETTLED) - settled, 3);
    assert_int_equal(rig_head(&rig, "user:a").first, 4);
    assert_int_equal(rig_head(&rig, "user:a").unread, 1);
}

static void store_old_messages_go_by_the_sweep_and_count_as_lost(void **state)
{
    (void)state;
    rig_open(&rig);
    rig_put(&rig, "news", NULL, "x");
    rig_put(&rig, "user:a", NULL, "x");
    rig_pass(&rig, 20 * HOUR_MS);
    rig_put(&rig, "user:a", NULL, "y");
    int64_t expired = peal_metrics_sum(PEAL_M_EXPIRED);
    uint64_t rev = rig_head(&rig, "user:a").rev;
    rig_pass(&rig, 4 * HOUR_MS);
    assert_string_equal(text_of("news"), "Gevicted:1-1");
    assert_string_equal(text_of("user:a"), "Gevicted:1-1 M2");
    assert_int_equal(peal_metrics_sum(PEAL_M_EXPIRED) - expired, 2);
    struct peal_store_op head = rig_head(&rig, "user:a");
    assert_int_equal(head.unread, 1);
    assert_int_equal(head.rev, rev + 1);
    head = rig_head(&rig, "news");
    assert_int_equal(head.first, 2); /* none left: newest + 1 */
    assert_int_equal(head.offset, 1);
    assert_int_equal(rig_put(&rig, "news", NULL, "x").offset, 2);
}

static void store_jump_of_the_wall_clock_expires_nothing(void **state)
{
    (void)state;
    rig_open(&rig);
    rig_put(&rig, "user:a", NULL, "x");
    rig_do(&rig, rig_put_op(&rig, &(struct message){"user:a", NULL, "y", 0, 60000}));
    atomic_store(&rig.wall_ahead_ms, 10ULL * 365 * 24 * HOUR_MS);
    rig_pass(&rig, 2000);
    assert_string_equal(text_of("user:a"), "M1 M2");
    rig_pass(&rig, 60000); /* time that really passes still counts */
    assert_string_equal(text_of("user:a"), "M1 S2-2");
}

/* ---- a full store ----------------------------------------------------------------------- */

static void store_full_map_takes_marks_and_recovers(void **state)
{
    (void)state;
    char data[4000];
    struct message m = {"user:a", NULL, data, sizeof data, 0};
    memset(data, 'x', sizeof data);
    rig.config.store.max = 4 << 20;
    rig.groups[0].keep.messages = PEAL_INBOX_MESSAGES_MAX;
    rig.groups[0].keep.bytes = 1 << 30;
    rig.groups[0].keep.settled_ms = 60000;
    rig_open(&rig);
    uint64_t stored = 0;
    for (;;) {
        struct peal_store_op op = rig_do(&rig, rig_put_op(&rig, &m));
        if (op.err == PEAL_ESTORE_FULL) break;
        assert_int_equal(op.err, PEAL_OK);
        assert_int_equal(op.offset, ++stored);
    }
    assert_in_range(stored, 300, 900);

    assert_int_equal(rig_put(&rig, "user:b", NULL, "small").err, PEAL_ESTORE_FULL);
    for (uint64_t upto = 1; upto <= stored; upto += 7) {
        struct peal_store_op op = rig_ack(&rig, "user:a", upto);
        assert_int_equal(op.err, PEAL_OK);
        assert_true(op.changed);
        assert_int_equal(op.unread, stored - upto);
    }
    rig_ack(&rig, "user:a", stored);
    rig_pass(&rig, 60000);
    for (int i = 0; i < 10; i++)
        rig_pass(&rig, 1000);
    assert_int_equal(rig_head(&rig, "user:a").first, stored + 1);
    for (uint64_t i = 0; i < 300; i++)
        assert_int_equal(rig_do(&rig, rig_put_op(&rig, &m)).offset, stored + 1 + i);
}

static void store_low_disk_refuses_puts_only(void **state)
{
    (void)state;
    char data[4000];
    struct message m = {"user:a", NULL, data, sizeof data, 0};
    memset(data, 'x', sizeof data);
    rig.groups[0].keep.settled_ms = 60000;
    rig_open(&rig);
    rig_put(&rig, "user:a", "order-1", "x");
    uint64_t stored = 1;
    for (; stored < 200; stored++)
        assert_int_equal(rig_do(&rig, rig_put_op(&rig, &m)).err, PEAL_OK);

    /* The file may not grow: what is free inside of it is used up first. */
    atomic_store(&disk_free_percent, 9);
    while (rig_do(&rig, rig_put_op(&rig, &m)).err == PEAL_OK)
        assert_true(++stored < 1000);
    assert_int_equal(rig_do(&rig, rig_put_op(&rig, &m)).err, PEAL_ESTORE_FULL);
    assert_int_equal(rig_head(&rig, "user:a").err, PEAL_OK);
    struct peal_store_op again = rig_put(&rig, "user:a", "order-1", "x");
    assert_int_equal(again.err, PEAL_OK); /* it is stored already */
    assert_true(again.duplicate);

    /* What is settled and removed makes room, although the disk is as full as before. */
    assert_true(rig_ack(&rig, "user:a", stored).changed);
    rig_pass(&rig, 60000);
    for (int i = 0; i < 10; i++)
        rig_pass(&rig, 1000);
    assert_int_equal(rig_do(&rig, rig_put_op(&rig, &m)).err, PEAL_OK);
    atomic_store(&disk_free_percent, 11);
    assert_int_equal(rig_put(&rig, "user:a", NULL, "x").err, PEAL_OK);
}

static void store_message_that_does_not_fit_fails_alone(void **state)
{
    (void)state;
    enum { COUNT = 9, BIG = 4 };
    static char data[3 << 20];
    struct peal_store_op *ops[COUNT];
    struct message small = {"user:a", "id", "x", 0, 0};
    struct message big = {"user:a", "id-big", data, sizeof data, 0};
    memset(data, 'x', sizeof data);
    rig.config.store.max = 2 << 20;
    rig_open(&rig);
    pthread_mutex_lock(&rig.gate);
    rig_submit(&rig, rig_head_op(&rig, "user:a"));
    for (int i = 0; i < COUNT; i++) {
        char id[16];
        snprintf(id, sizeof id, "id-%d", i);
        small.id = id;
        ops[i] = i == BIG ? rig_put_op(&rig, &big) : rig_put_op(&rig, &small);
        rig_submit(&rig, ops[i]);
    }
    pthread_mutex_unlock(&rig.gate);
    peal_store_op_free(rig_wait(&rig.done));
    uint64_t offset = 0;
    for (int i = 0; i < COUNT; i++) {
        struct peal_store_op *op = rig_wait(&rig.done);
        assert_ptr_equal(op, ops[i]);
        assert_int_equal(op->err, i == BIG ? PEAL_ESTORE_FULL : PEAL_OK);
        assert_false(op->duplicate); /* of the batch that was dropped */
        if (i != BIG) assert_int_equal(op->offset, ++offset);
        peal_store_op_free(op);
    }
    assert_string_equal(text_of("user:a"), "M1 M2 M3 M4 M5 M6 M7 M8");
}

static void store_full_disk_acks_nothing_and_recovers(void **state)
{
    (void)state;
    rig_open(&rig);
    rig_put(&rig, "user:a", NULL, "x");
    int64_t stored = peal_metrics_sum(PEAL_M_STORED);
    atomic_store(&disk_write_errno, ENOSPC);
    for (int i = 0; i < 5; i++)
        assert_int_equal(rig_put(&rig, "user:a", NULL, "x").err, PEAL_ESTORE_FULL);
    atomic_store(&disk_write_errno, EIO);
    atomic_store(&disk_is_full, true);
    assert_int_equal(rig_ack(&rig, "user:a", 1).err, PEAL_ESTORE_FULL);
    disk_reset();
    assert_int_equal(peal_metrics_sum(PEAL_M_STORED), stored);
    assert_int_equal(rig_put(&rig, "user:a", NULL, "x").offset, 2);
    rig_reopen(&rig);
    assert_string_equal(text_of("user:a"), "M1 M2");
}

/* ---- a broken disk, another writer ------------------------------------------------------ */

static void store_failed_sync_stops_acks_until_restart(void **state)
{
    (void)state;
    rig_open(&rig);
    rig_put(&rig, "user:a", NULL, "x");
    atomic_store(&disk_sync_errno, EIO);
    assert_int_equal(rig_put(&rig, "user:a", NULL, "x").err, PEAL_EIO);
    disk_reset();
    assert_int_equal(rig_put(&rig, "user:a", NULL, "x").err, PEAL_EIO);
    assert_int_equal(rig_ack(&rig, "user:a", 1).err, PEAL_EIO);
    struct peal_store_op head = rig_head(&rig, "user:a");
    assert_int_equal(head.err, PEAL_OK);
    assert_int_equal(head.offset, 1);
    assert_string_equal(text_of("user:a"), "M1");
    rig_pass(&rig, 25 * HOUR_MS); /* sweeps write nothing either */

    rig_reopen(&rig);
    assert_int_equal(rig_put(&rig, "user:a", NULL, "x").err, PEAL_OK);
}

/* Runs a store in a child until it is told to end; returns what start said. */
static void child_opens(int out)
{
    char byte = (char)rig_try_open(&rig);
    if (write(out, &byte, 1) != 1) _exit(2);
    for (;;)
        pause();
}

static pid_t spawn(void (*run)(int out), int *from)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(ends[0]);
        run(ends[1]);
        _exit(0);
    }
    close(ends[1]);
    *from = ends[0];
    return child;
}

static void kill_and_wait(pid_t child, int from)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(from);
}

static void store_in_use_by_another_process_is_refused(void **state)
{
    (void)state;
    int from;
    char byte;
    char pid[32];
    pid_t child = spawn(child_opens, &from);
    assert_int_equal(read(from, &byte, 1), 1);
    assert_int_equal(byte, PEAL_OK);
    assert_int_equal(rig_try_open(&rig), PEAL_ELOCKED);
    snprintf(pid, sizeof pid, "process %ld ", (long)child);
    assert_non_null(strstr(rig.why, pid));
    kill_and_wait(child, from);
    rig_open(&rig);
}

static void store_second_writer_stops_the_first(void **state)
{
    (void)state;
    int go[2];
    int from;
    char byte = 0;
    char path[128];
    /* The child waits, because a process with threads should not fork. */
    assert_int_equal(pipe(go), 0);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        if (read(go[0], &byte, 1) != 1) _exit(2);
        child_opens(ends[1]);
    }
    from = ends[0];
    rig_open(&rig);
    assert_int_equal(rig_put(&rig, "user:a", NULL, "x").err, PEAL_OK);
    snprintf(path, sizeof path, "%s/lock", rig.dir);
    assert_int_equal(unlink(path), 0); /* somebody meant well */
    assert_int_equal(write(go[1], &byte, 1), 1);
    assert_int_equal(read(from, &byte, 1), 1);
    assert_int_equal(byte, PEAL_OK);

    assert_int_equal(rig_put(&rig, "user:a", NULL, "x").err, PEAL_EIO);
    assert_int_equal(rig_head(&rig, "user:a").err, PEAL_OK);
    kill_and_wait(child, from);
    close(ends[1]);
    close(go[0]);
    close(go[1]);
}

/* ---- kill -9 ---------------------------------------------------------------------------- */

enum { KILLS = 25, GROUPS = 8, WINDOW = 64, OFFSETS = 8000 };

struct receipt {
    uint64_t epoch;
    uint64_t offset;
    uint32_t group;
    uint32_t number; /* the message says so itself */
};

static uint32_t next_number;

static void group_name(uint32_t group, char out[16])
{
    snprintf(out, 16, "user:%u", group);
}

static void child_submit(uint32_t number)
{
    char group[16];
    char id[24];
    char data[24];
    group_name(number % GROUPS, group);
    snprintf(id, sizeof id, "id-%u", number);
    snprintf(data, sizeof data, "number %u", number);
    struct peal_store_op *op =
        rig_put_op(&rig, &(struct message){group, number % 2 ? id : NULL, data, 0, 0});
    op->tag[0] = number;
    if (peal_store_submit(rig.store, op) != PEAL_OK) _exit(3);
}

/* Stores as fast as it can and reports each `done` until it is killed. */
static void child_stores(int out)
{
    if (rig_try_open(&rig) != PEAL_OK) _exit(4);
    for (int i = 0; i < WINDOW; i++)
        child_submit(next_number++);
    for (;;) {
        struct peal_store_op *op = rig_wait(&rig.done);
        uint32_t number = (uint32_t)op->tag[0];
        struct receipt receipt = {op->epoch, op->offset, number % GROUPS, number};
        if (op->err != PEAL_OK) _exit(5);
        if (write(out, &receipt, sizeof receipt) != (ssize_t)sizeof receipt) _exit(6);
        peal_store_op_free(op);
        child_submit(next_number++);
    }
}

static uint32_t receipts[GROUPS][OFFSETS]; /* number + 1 of the message at each offset */

static size_t read_receipts(int from, size_t count, uint64_t *epoch)
{
    struct receipt receipt;
    size_t n = 0;
    while (n < count && read(from, &receipt, sizeof receipt) == (ssize_t)sizeof receipt) {
        if (*epoch == 0) *epoch = receipt.epoch;
        assert_int_equal(receipt.epoch, *epoch);
        assert_true(receipt.offset < OFFSETS);
        /* No (epoch, offset) is given twice. */
        assert_int_equal(receipts[receipt.group][receipt.offset], 0);
        receipts[receipt.group][receipt.offset] = receipt.number + 1;
        if (receipt.number >= next_number) next_number = receipt.number + 1;
        n++;
    }
    return n;
}

static void check_group(uint32_t group)
{
    char name[16];
    uint64_t position = 0;
    group_name(group, name);
    uint64_t newest = rig_head(&rig, name).offset;
    for (;;) {
        struct page page;
        rig_page(&rig, &(struct ask){name, peal_store_generation(rig.store), position, 0, 0, 0},
                 &page);
        for (size_t i = 0; i < page.frame.entries.count; i++) {
            struct peal_frame entry;
            struct peal_envelope env;
            char data[24];
            assert_int_equal(peal_frame_decode(page.frame.entries.at[i], &entry), PEAL_OK);
            assert_int_equal(entry.type, PEAL_F_MESSAGE); /* neither gaps nor skips */
            assert_int_equal(peal_envelope_decode(entry.envelope, &env), PEAL_OK);
            assert_int_equal(env.offset, ++position);
            /* Messages may be there that were not acknowledged any more. */
            uint32_t number = receipts[group][position];
            snprintf(data, sizeof data, "number %u", number - 1);
            if (number != 0) assert_true(peal_span_is(env.data, data));
            peal_frame_fini(&entry);
        }
        bool end = page.frame.entries.count == 0;
        page_free(&page);
        if (end) break;
    }
    assert_int_equal(position, newest);
    for (uint64_t o = newest + 1; o < OFFSETS; o++)
        assert_int_equal(receipts[group][o], 0); /* nothing acknowledged is missing */
}

static struct peal_store_op head_seen(const char *group, uint64_t epoch, uint64_t offset)
{
    struct peal_store_op *op = rig_head_op(&rig, group);
    op->seen_epoch = epoch;
    op->seen_offset = offset;
    return rig_do(&rig, op);
}

/* An older copy of the folder is put in place of the newer one: its heads go back in an epoch that
 * nodes and clients know. */
static void store_position_ahead_of_a_restored_head_begins_a_new_epoch(void **state)
{
    (void)state;
    rig_open(&rig);
    uint64_t epoch = peal_store_generation(rig.store);
    for (int i = 0; i < 3; i++) {
        rig_put(&rig, "user:a", NULL, "kept");
        rig_put(&rig, "user:b", NULL, "kept");
    }
    rig_close(&rig); /* as it was copied; two more were sent out since */
    rig_open(&rig);
    assert_int_equal(head_seen("user:a", epoch, 3).epoch, epoch); /* up to date */
    assert_int_equal(head_seen("user:a", epoch, 1).epoch, epoch); /* behind */
    assert_int_equal(head_seen("user:a", epoch + 1, 9).epoch, epoch);
    assert_int_equal(head_seen("user:a", 0, 0).epoch, epoch);
    struct peal_store_op head = head_seen("user:a", epoch, 5);
    assert_int_equal(head.err, PEAL_OK);
    assert_true(head.epoch != epoch);
    assert_true(head.epoch < UINT64_C(1) << 53);
    assert_int_equal(head.offset, 3);
    /* The next number is one that was given before, in another epoch; what is kept stays. */
    struct peal_store_op put = rig_put(&rig, "user:a", NULL, "new");
    assert_int_equal(put.epoch, head.epoch);
    assert_int_equal(put.offset, 4);
    rig_head_went_back = true;
    assert_string_equal(rig_text(&rig, &(struct ask){"user:a", epoch, 5, 0, 0, 0}),
                        "Gepoch:1-0 M1 M2 M3 M4");
    rig_head_went_back = false;
    /* A second node that saw the same begins no third one; nor does a restart. */
    assert_int_equal(head_seen("user:a", epoch, 5).epoch, head.epoch);
    rig_reopen(&rig);
    assert_int_equal(head_seen("user:a", epoch, 5).epoch, head.epoch);
    assert_int_equal(rig_head(&rig, "user:b").epoch, epoch);
}

/* The copy is from before the group's first message. */
static void store_position_in_a_group_without_a_head_begins_a_new_epoch(void **state)
{
    (void)state;
    rig_open(&rig);
    uint64_t epoch = peal_store_generation(rig.store);
    struct peal_store_op head = head_seen("user:a", epoch, 2);
    assert_true(head.epoch != epoch);
    assert_int_equal(head.offset, 0);
    struct peal_store_op put = rig_put(&rig, "user:a", NULL, "new");
    assert_int_equal(put.epoch, head.epoch);
    assert_int_equal(put.offset, 1);
    rig_reopen(&rig);
    assert_int_equal(rig_head(&rig, "user:a").epoch, head.epoch);
    assert_int_equal(rig_head(&rig, "user:b").epoch, epoch);
}

static void store_killed_at_any_moment_loses_nothing_acknowledged(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    memset(receipts, 0, sizeof receipts);
    next_number = 0;
    rig.groups[0].keep.messages = PEAL_INBOX_MESSAGES_MAX;
    rig.groups[0].keep.bytes = 1 << 30;
    uint64_t epoch = 0;
    size_t total = 0;
    for (int i = 0; i < KILLS; i++) {
        int from;
        pid_t child = spawn(child_stores, &from);
        total += read_receipts(from, (size_t)rand() % 600 + 1, &epoch);
        kill(child, SIGKILL);
        total += read_receipts(from, SIZE_MAX, &epoch); /* what was reported before it died */
        int status;
        waitpid(child, &status, 0);
        close(from);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGKILL);
        next_number += 2 * WINDOW; /* ids of messages in flight are not used again */
    }
    print_message("%zu acknowledged\n", total);
    assert_true(total > KILLS);
    rig_open(&rig);
    for (uint32_t group = 0; group < GROUPS; group++)
        check_group(group);
}

/* ---- everything at random --------------------------------------------------------------- */

/* unread, first and newest as the pages tell them; they must be what operations were told. */
static void recount(const char *group, struct peal_store_op told)
{
    uint64_t unread = 0;
    uint64_t position = 0;
    struct page page;
    do {
        struct ask ask = {group, peal_store_generation(rig.store), position, 0, 0, 0};
        rig_page(&rig, &ask, &page);
        for (size_t i = 0; i < page.frame.entries.count; i++) {
            struct peal_frame entry;
            assert_int_equal(peal_frame_decode(page.frame.entries.at[i], &entry), PEAL_OK);
            if (entry.type == PEAL_F_MESSAGE && !(entry.flags & PEAL_FLAG_READ)) unread++;
            if (entry.type == PEAL_F_GAP) assert_int_equal(entry.why, PEAL_GAP_EVICTED);
            peal_frame_fini(&entry);
        }
        position = page.frame.offset;
        assert_int_equal(page.frame.unread, told.unread);
        assert_int_equal(page.frame.rev, told.rev);
        assert_int_equal(page.frame.first, told.first);
        page_free(&page);
    } while (position < page.frame.head);
    assert_int_equal(unread, told.unread);
}

static void store_random_operations_unread_equals_a_recount(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL) ^ 0x5eed;
    print_message("seed %u\n", seed);
    srand(seed);
    rig.groups[0].keep.messages = 40;
    rig.groups[0].keep.age_ms = 100000;
    rig.groups[0].keep.settled_ms = 5000;
    rig_open(&rig);
    for (int i = 0; i < 1500; i++) {
        char group[16];
        group_name((uint32_t)(rand() % 3), group);
        uint64_t newest = rig_head(&rig, group).offset;
        uint64_t offsets[2] = {newest - (uint64_t)(rand() % 30), newest - (uint64_t)(rand() % 30)};
        uint64_t flag = rand() % 2 ? PEAL_FLAG_ACK : PEAL_FLAG_READ;
        switch (rand() % 12) {
        case 0:
            rig_do(&rig, rig_mark_op(&rig, group, flag, newest - (uint64_t)rand() % 40, NULL, 0));
            break;
        case 1:
        case 2:
            rig_do(&rig, rig_mark_op(&rig, group, flag, 0, offsets, 2));
            break;
        case 3:
            rig_pass(&rig, (uint64_t)rand() % 4000);
            break;
        case 4:
            if (rand() % 10 == 0) rig_reopen(&rig);
            break;
        default: {
            struct message m = {group, NULL, "x", 0, rand() % 4 == 0 ? 3000 : 0};
            assert_int_equal(rig_do(&rig, rig_put_op(&rig, &m)).offset, newest + 1);
            break;
        }
        }
        rig_pass(&rig, 1000); /* the sweep takes what has expired before it is counted */
        recount(group, rig_head(&rig, group));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
        T(store_put_numbers_and_returns_the_envelope),
        T(store_reopened_keeps_messages_marks_and_generation),
        T(store_what_makes_no_sense_is_refused),
        T(store_mark_of_nothing_creates_nothing),
        T(store_waiting_operations_share_one_commit_in_order),
        T(store_full_queue_refuses_and_keeps_the_operation_with_the_caller),
        T(store_stop_works_off_what_was_submitted),
        T(store_same_id_gets_the_first_offset),
        T(store_same_id_in_one_batch_is_found),
        T(store_same_id_is_found_after_reopening_until_the_window_ends),
        T(store_oldest_ids_go_when_there_are_too_many),
        T(store_count_limit_evicts_the_oldest_and_counts_it),
        T(store_messages_add_up_also_after_reopening),
        T(store_byte_limit_evicts_the_oldest),
        T(store_settled_messages_go_an_hour_after_the_last_mark),
        T(store_old_messages_go_by_the_sweep_and_count_as_lost),
        T(store_jump_of_the_wall_clock_expires_nothing),
        T(store_full_map_takes_marks_and_recovers),
        T(store_low_disk_refuses_puts_only),
        T(store_message_that_does_not_fit_fails_alone),
        T(store_full_disk_acks_nothing_and_recovers),
        T(store_failed_sync_stops_acks_until_restart),
        T(store_in_use_by_another_process_is_refused),
        T(store_second_writer_stops_the_first),
        T(store_position_ahead_of_a_restored_head_begins_a_new_epoch),
        T(store_position_in_a_group_without_a_head_begins_a_new_epoch),
        T(store_killed_at_any_moment_loses_nothing_acknowledged),
        T(store_random_operations_unread_equals_a_recount),
#undef T
    };
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}

/* One thread takes operations in order and applies as many as are there (or fit in 2 ms, or in
 * BATCH_BYTES) to one transaction of the log, commits, and only then hands them back, in order.
 * An operation whose batch could not be committed for lack of room, or that itself failed, is
 * not judged by its neighbours: the transaction is dropped and each operation is applied again
 * in a transaction of its own. Nothing is acknowledged and nothing counted before its commit.
 *
 * A batch also waits a moment for those who have just been answered (storage/linger.h).
 *
 * Between batches it acts on what the settle thread says, hands fetches to the reader with what
 * they need, removes a part of the log that nobody needs any more, and decides when the next range
 * of the log is settled: when it is long or old, when there is little room, or when a slot waits
 * for it. At most once a second a slice of a few milliseconds looks for what retention has to
 * remove. */
#include "storage/store.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "base/metrics.h"
#include "proto/group.h"
#include "proto/wire.h"
#include "storage/batch.h"
#include "storage/db.h"
#include "storage/folder.h"
#include "storage/linger.h"
#include "storage/options.h"
#include "storage/quota.h"
#include "storage/reader.h"
#include "storage/renew.h"
#include "storage/settle.h"
#include "storage/snapshot.h"

enum {
    BATCH_OPS = 1000,
    BATCH_BYTES = 8 << 20,
    BATCH_MS = 2,
    CLOCK_OPS = 8,
    SWEEP_EVERY_MS = 1000,
    SWEEP_HEADS = 4096,  /* in memory, looked at per sweep */
    SWEEP_DUE = 256,     /* groups that retention works on in one transaction */
    TRIM_RECORDS = 1000, /* removed from the log with a batch, and two for each operation */
    TRIM_IDLE = 10000,   /* the same with nothing else to do */
    NOTES_MAX = 1024,
    CLOCK_STEP_MS = 5 * 60 * 1000, /* a larger jump of the wall clock is not believed */
    /* A range of the log is settled when it has so many records or is so old: larger ones are
     * cheaper per message, and more of what they have was settled meanwhile. Newer records stay,
     * because what came just now is often acknowledged in a moment. */
    SETTLE_RECORDS = 1 << 20,
    SETTLE_AGE_MS = 30000,
    SETTLE_LAG_MS = 2000,
    SETTLE_RETRY_MS = 1000,
    SETTLE_SLICE_MS = 5,
    SLOW_MS = 20, /* longest pause after a batch, when the log gets long */
    SAMPLES = 16,
    SAMPLE_MS = 250,
};

struct sample {
    uint64_t mono_ms;
    uint64_t seq;
};

struct peal_store {
    const struct peal_config *config;
    struct peal_store_events events;
    struct peal_store_options options;
    int lock_fd;
    struct peal_db *log;
    struct peal_db *inbox;
    struct peal_reader *reader;
    struct peal_settle *settle;
    uint64_t generation;
    struct peal_bytes *slots; /* as found; NULL in a store from before there was such a record */
    uint64_t boot;            /* this opening; must stand in the owner record */
    bool copy;                /* it is a backup that is opened for the first time */

    struct peal_mailbox box;
    struct peal_mailbox reads; /* struct peal_store_fetch */
    struct peal_mailbox notes; /* struct peal_settle_note, from the settle thread */
    struct peal_quota *quota;
    struct peal_quota *reads_quota;
    _Atomic bool stopping;
    _Atomic uint64_t now_ms; /* read by the reader and the settle thread */
    pthread_t thread;

    /* The rest belongs to the store thread. */
    uint64_t wall_base_ms;
    uint64_t mono_base_ms;
    bool clock_jumped;
    struct peal_batch batch;
    struct peal_store_op *ops[BATCH_OPS];
    size_t op_count;
    struct peal_linger linger;
    struct peal_store_op *held; /* taken from the box, for the next batch */
    struct peal_link parked;    /* operations that wait for the log to be settled */
    uint64_t parked_seq;        /* up to there */
    uint64_t sweep_due_ms;
    uint64_t range_to; /* is being settled; 0: none */
    uint64_t settle_not_before_ms;
    uint64_t unsettled_since_ms;    /* the last range ended with what was there then */
    struct sample samples[SAMPLES]; /* newest record at some times, a ring */
    size_t sample_count;
};

/* ---- time ------------------------------------------------------------------------------- */

/* The wall clock, which never goes back here and does not jump: after a step of more than five
 * minutes the store goes on with the time that has really passed, so that a wrong clock does
 * not expire everything at once. A restart believes the clock again. */
static uint64_t now_update(struct peal_store *store)
{
    uint64_t wall = store->options.wall_ms(store->options.ctx);
    uint64_t mono = store->options.mono_ms(store->options.ctx);
    uint64_t expected = store->wall_base_ms + (mono - store->mono_base_ms);
    uint64_t step = wall > expected ? wall - expected : expected - wall;
    uint64_t now = expected;
    if (step <= CLOCK_STEP_MS) {
        now = wall;
        store->wall_base_ms = wall;
        store->mono_base_ms = mono;
    }
    if (step > CLOCK_STEP_MS && !store->clock_jumped)
        peal_log(PEAL_LOG_ERROR, "store.clock_jumped", "ms=%llu", (unsigned long long)step);
    store->clock_jumped = step > CLOCK_STEP_MS;

    uint64_t before = atomic_load_explicit(&store->now_ms, memory_order_relaxed);
    if (now < before) now = before;
    atomic_store_explicit(&store->now_ms, now, memory_order_relaxed);
    return now;
}

static uint64_t now_of(const struct peal_store *store)
{
    return atomic_load_explicit(&store->now_ms, memory_order_relaxed);
}

static uint64_t mono_of(struct peal_store *store)
{
    return store->options.mono_ms(store->options.ctx);
}

/* ---- batches ---------------------------------------------------------------------------- */

static void apply_alone(struct peal_store *store, struct peal_store_op *op)
{
    enum peal_err err = peal_batch_begin(&store->batch, now_of(store));
    if (err == PEAL_OK) {
        err = peal_batch_apply(&store->batch, op);
        if (err == PEAL_OK)
            err = peal_batch_finish(&store->batch);
        else
            peal_batch_drop(&store->batch);
    }
    if (err == PEAL_OK) return;
    peal_batch_reset(op);
    bool known = err == PEAL_ESTORE_FULL || err == PEAL_ENOMEM;
    op->err = known ? err : PEAL_EIO;
}

static struct peal_store_op *next_op(struct peal_store *store)
{
    struct peal_store_op *op = store->held;
    store->held = NULL;
    return op != NULL ? op : peal_mailbox_pop(&store->box);
}

static uint64_t real_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* The next one of a batch that would be committed otherwise. A nap and no poll: each of those who
 * come would wake it, for a system call on either side. */
static struct peal_store_op *linger(struct peal_store *store)
{
    struct peal_store_op *op = NULL;
    uint64_t us;
    if (atomic_load_explicit(&store->stopping, memory_order_relaxed)) return NULL;
    while (op == NULL && (us = peal_linger_us(&store->linger, store->op_count)) > 0) {
        struct timespec nap = {.tv_nsec = (long)(us * 1000)};
        nanosleep(&nap, NULL);
        op = next_op(store);
    }
    return op;
}

static enum peal_err commit(struct peal_store *store)
{
    bool dirty = peal_batch_dirty(&store->batch);
    uint64_t begin_us = real_us();
    enum peal_err err = peal_batch_finish(&store->batch);
    if (dirty)
        peal_linger_commit(&store->linger, store->op_count, peal_quota_taken(store->quota),
                           real_us() - begin_us);
    return err;
}

static bool begins_slot(const struct peal_store_op *op)
{
    return op->kind == PEAL_STORE_IMPORT && op->upto == 0;
}

/* Before the first piece of a slot what is there of it goes, in a transaction of its own. */
static enum peal_err clear_slot(struct peal_store *store, const struct peal_store_op *import)
{
    struct peal_store_op drop = {.kind = PEAL_STORE_DROP, .mark_flags = import->mark_flags};
    apply_alone(store, &drop);
    return drop.err;
}

/* Has op to wait until more of the log is in the inbox? Up to *seq then. A slot does not go while a
 * range is on its way that does not know of it: what it has of the slot would come afterwards. */
static bool has_to_wait(const struct peal_store *store, const struct peal_store_op *op,
                        uint64_t *seq)
{
    *seq = store->range_to;
    if (op->kind == PEAL_STORE_DROP || begins_slot(op)) return store->range_to != 0;
    return peal_batch_parks(&store->batch, op, seq);
}

static bool park(struct peal_store *store, struct peal_store_op *op)
{
    uint64_t seq;
    if (!has_to_wait(store, op, &seq)) return false;
    if (seq > store->parked_seq) store->parked_seq = seq;
    peal_list_append(&store->parked, &op->link);
    return true;
}

static void hand_back(struct peal_store *store)
{
    for (size_t i = 0; i < store->op_count; i++)
        store->events.done(store->events.ctx, store->ops[i]);
    store->events.done_all(store->events.ctx);
    store->op_count = 0;
}

/* Takes and applies what is there. Returns false when there was nothing. */
static bool batch_run(struct peal_store *store)
{
    struct peal_store_op *op = next_op(store);
    if (op == NULL) return false;
    uint64_t now_ms = now_update(store);
    uint64_t begin_ms = mono_of(store);
    size_t bytes = 0;
    store->op_count = 0;
    peal_ids_trim(&store->batch.ids, now_ms, 2 * BATCH_OPS);
    enum peal_err err = PEAL_OK;
    if (begins_slot(op) && store->range_to == 0) err = clear_slot(store, op);
    if (err == PEAL_OK) err = peal_batch_begin(&store->batch, now_ms);
    bool begun = err == PEAL_OK;
    for (;;) {
        if (!park(store, op)) {
            store->ops[store->op_count++] = op;
            bytes += op->message.size;
            if (err == PEAL_OK) err = peal_batch_apply(&store->batch, op);
        }
        if (err != PEAL_OK || store->op_count == BATCH_OPS || bytes >= BATCH_BYTES) break;
        if (peal_batch_full(&store->batch)) break;
        /* Asking the clock takes as long as what most operations do. */
        bool asks = store->op_count % CLOCK_OPS == 0 || op->kind > PEAL_STORE_MARK;
        if (asks && mono_of(store) - begin_ms >= BATCH_MS) break;
        op = next_op(store);
        if (op == NULL && peal_batch_dirty(&store->batch)) op = linger(store);
        if (op == NULL) break;
        if (!begins_slot(op)) continue;
        store->held = op;
        break;
    }
    if (err == PEAL_OK) err = peal_batch_trim(&store->batch, TRIM_RECORDS + 2 * store->op_count);
    if (err == PEAL_OK)
        err = commit(store);
    else if (begun)
        peal_batch_drop(&store->batch);
    for (size_t i = 0; i < store->op_count; i++) {
        if (err != PEAL_OK) apply_alone(store, store->ops[i]);
    }
    hand_back(store);
    return true;
}

/* ---- reading ---------------------------------------------------------------------------- */

/* Fetches get a common snapshot, which is younger than they are. */
static void hand_reads(struct peal_store *store)
{
    struct peal_snapshot *snapshot = NULL;
    struct peal_store_fetch *fetch;
    while ((fetch = peal_mailbox_pop(&store->reads)) != NULL) {
        struct peal_view view = {0};
        enum peal_err err = PEAL_OK;
        if (snapshot == NULL) {
            err = peal_snapshot_new(store->log, store->inbox, &snapshot);
            peal_heads_begin(&store->batch.heads, NULL);
        }
        if (err == PEAL_OK && peal_name_check(fetch->group) != PEAL_OK) err = PEAL_EBAD_GROUP;
        if (err == PEAL_OK)
            err = peal_heads_view(&store->batch.heads, snapshot, fetch->group, &view);
        peal_reader_submit(store->reader, fetch, err == PEAL_OK ? &view : NULL, err);
        if (snapshot == NULL) peal_heads_rollback(&store->batch.heads);
    }
    if (snapshot == NULL) return;
    peal_heads_rollback(&store->batch.heads);
    peal_snapshot_unref(snapshot);
}

/* ---- sweep ------------------------------------------------------------------------------ */

static void retain_groups(struct peal_store *store, const struct peal_span *names, size_t count)
{
    enum peal_err err = PEAL_OK;
    if (count == 0 || peal_db_failed(store->log)) return;
    if (peal_batch_begin(&store->batch, now_of(store)) != PEAL_OK) return;
    for (size_t i = 0; i < count && err == PEAL_OK; i++)
        err =
            peal_batch_retain(&store->batch, names[i], peal_group_policy(store->config, names[i]));
    if (err == PEAL_OK)
        err = peal_batch_finish(&store->batch);
    else
        peal_batch_drop(&store->batch);
    if (err != PEAL_OK)
        peal_log(PEAL_LOG_ERROR, "store.sweep_failed", "code=%s", peal_err_word(err));
}

/* Goes on around the heads in memory; the settle thread looks at the others. */
static void sweep(struct peal_store *store)
{
    uint64_t mono_ms = mono_of(store);
    if (mono_ms < store->sweep_due_ms) return;
    store->sweep_due_ms = mono_ms + SWEEP_EVERY_MS;
    peal_db_reap(store->log);
    peal_db_reap(store->inbox);
    uint64_t now_ms = now_update(store);
    struct peal_span names[SWEEP_DUE];
    size_t count = 0;
    size_t all = store->batch.heads.map.count;
    for (size_t i = 0; i < SWEEP_HEADS && i < all && count < SWEEP_DUE; i++) {
        const struct peal_head *head = peal_heads_walk(&store->batch.heads);
        if (head == NULL) break;
        struct peal_span name = peal_head_name(head);
        if (peal_inbox_due_ms(&head->inbox, peal_group_policy(store->config, name)) <= now_ms)
            names[count++] = name;
    }
    if (count == SWEEP_DUE || all > SWEEP_HEADS) store->sweep_due_ms = mono_ms + 10;
    retain_groups(store, names, count);
    peal_ids_trim(&store->batch.ids, now_ms, 2 * BATCH_OPS);
}

/* ---- settling --------------------------------------------------------------------------- */

static void on_due(struct peal_store *store, const struct peal_settle_note *note)
{
    struct peal_span names[SWEEP_DUE];
    size_t count = note->group_count < SWEEP_DUE ? note->group_count : SWEEP_DUE;
    for (size_t i = 0; i < count; i++)
        names[i] = peal_span_make(note->names + note->groups[i].name_at, note->groups[i].name_size);
    now_update(store);
    retain_groups(store, names, count);
}

static void take_notes(struct peal_store *store)
{
    struct peal_settle_note *note;
    while ((note = peal_mailbox_pop(&store->notes)) != NULL) {
        if (note->kind == PEAL_SETTLE_DUE) on_due(store, note);
        peal_batch_note(&store->batch, note);
        if (note->kind == PEAL_SETTLE_DONE) store->range_to = 0;
        if (note->kind == PEAL_SETTLE_FAILED) {
            store->range_to = 0;
            store->settle_not_before_ms = mono_of(store) + SETTLE_RETRY_MS;
            peal_log(PEAL_LOG_ERROR, "store.settle_failed", "code=%s", peal_err_word(note->err));
            /* What the disk has of the inbox is not known: nothing more is acknowledged. */
            if (peal_db_failed(store->inbox)) peal_db_fail(store->log);
        }
        peal_settle_note_free(note);
    }
}

static void take_sample(struct peal_store *store, uint64_t mono_ms)
{
    struct sample *newest = &store->samples[(store->sample_count + SAMPLES - 1) % SAMPLES];
    if (store->sample_count > 0 && mono_ms - newest->mono_ms < SAMPLE_MS) return;
    store->samples[store->sample_count++ % SAMPLES] = (struct sample){mono_ms, store->batch.seq};
}

/* The newest record that is at least age_ms old; 0: there is none. */
static uint64_t seq_before(const struct peal_store *store, uint64_t mono_ms, uint64_t age_ms)
{
    uint64_t seq = 0;
    for (size_t i = 0; i < SAMPLES && i < store->sample_count; i++) {
        const struct sample *s = &store->samples[i];
        if (s->mono_ms + age_ms <= mono_ms && s->seq > seq) seq = s->seq;
    }
    return seq;
}

static void settle_some(struct peal_store *store)
{
    const struct peal_batch *batch = &store->batch;
    uint64_t mono_ms = mono_of(store);
    take_sample(store, mono_ms);
    uint64_t waiting = batch->seq - batch->moved;
    if (store->range_to != 0 || waiting == 0 || mono_ms < store->settle_not_before_ms) return;
    uint64_t to = 0;
    if (store->parked_seq > batch->moved || batch->heads.dropped_count > 0 ||
        peal_batch_short_of_room(batch))
        to = batch->seq;
    else if (waiting >= SETTLE_RECORDS || mono_ms - store->unsettled_since_ms >= SETTLE_AGE_MS)
        to = seq_before(store, mono_ms, SETTLE_LAG_MS);
    if (to <= batch->moved) return;
    store->range_to = to;
    store->unsettled_since_ms = mono_ms;
    peal_settle_range(store->settle, batch->moved + 1, to);
}

/* Operations that waited for the log to be settled. */
static void unpark(struct peal_store *store)
{
    if (store->parked_seq > store->batch.moved) return;
    store->op_count = 0;
    PEAL_LIST_EACH(&store->parked, it, after)
    {
        if (store->op_count == BATCH_OPS) break;
        struct peal_store_op *op = PEAL_FROM_LINK(it, struct peal_store_op, link);
        uint64_t seq;
        if (has_to_wait(store, op, &seq)) {
            if (seq > store->parked_seq) store->parked_seq = seq;
            continue;
        }
        peal_list_remove(it);
        op->err = begins_slot(op) ? clear_slot(store, op) : PEAL_OK;
        if (op->err == PEAL_OK) apply_alone(store, op);
        store->ops[store->op_count++] = op;
    }
    if (store->op_count > 0) hand_back(store);
}

/* ---- thread ----------------------------------------------------------------------------- */

static void between(struct peal_store *store)
{
    take_notes(store);
    hand_reads(store);
    unpark(store);
    sweep(store);
    settle_some(store);
}

/* True when it removed something: there may be more. */
static bool trim_idle(struct peal_store *store)
{
    if (peal_db_failed(store->log) || !peal_batch_trims(&store->batch)) return false;
    if (peal_batch_begin(&store->batch, now_of(store)) != PEAL_OK) return false;
    if (peal_batch_trim(&store->batch, TRIM_IDLE) != PEAL_OK) {
        peal_batch_drop(&store->batch);
        return false;
    }
    bool dirty = peal_batch_dirty(&store->batch);
    return peal_batch_finish(&store->batch) == PEAL_OK && dirty;
}

/* Until the settle thread says something, at most that long. */
static void wait_for_notes(struct peal_store *store, int wait_ms)
{
    struct pollfd pfd = {.fd = store->notes.fd, .events = POLLIN};
    peal_mailbox_arm(&store->notes);
    poll(&pfd, 1, wait_ms);
}

/* Nothing more is taken while the log is as long as it may be: publishers feel it in the queue. */
static void wait_for_room(struct peal_store *store)
{
    while (peal_batch_log_long(&store->batch) && !peal_db_failed(store->log)) {
        bool more = trim_idle(store);
        if (!more && store->range_to == 0) return; /* nothing is to be gained */
        if (!more) wait_for_notes(store, SAMPLE_MS);
        between(store);
    }
}

static void work_off(struct peal_store *store)
{
    for (;;) {
        between(store);
        wait_for_room(store);
        if (!batch_run(store)) return;
        int pause_ms = peal_batch_slow(&store->batch, SLOW_MS);
        if (pause_ms > 0) wait_for_notes(store, pause_ms);
    }
}

static void *store_run(void *arg)
{
    struct peal_store *store = arg;
    pthread_setname_np(pthread_self(), "store");
    peal_metrics_thread_start();
    for (;;) {
        /* Asked after arming: a stop that came before is seen here, a later one wakes the poll. */
        peal_mailbox_arm(&store->box);
        peal_mailbox_arm(&store->reads);
        peal_mailbox_arm(&store->notes);
        bool stopping = atomic_load(&store->stopping);
        work_off(store);
        if (stopping && peal_list_empty(&store->parked)) return NULL;
        bool more = trim_idle(store);
        uint64_t mono_ms = mono_of(store);
        int wait_ms = store->sweep_due_ms <= mono_ms ? 0 : (int)(store->sweep_due_ms - mono_ms);
        if (wait_ms > SAMPLE_MS) wait_ms = SAMPLE_MS;
        if (more) wait_ms = 0;
        struct pollfd pfds[] = {{.fd = store->box.fd, .events = POLLIN},
                                {.fd = store->reads.fd, .events = POLLIN},
                                {.fd = store->notes.fd, .events = POLLIN}};
        poll(pfds, 3, wait_ms);
    }
}

/* On the settle thread. It has few notes under way at a time, and waits for none. */
static void on_note(void *ctx, struct peal_settle_note *note)
{
    struct peal_store *store = ctx;
    enum peal_err err = peal_mailbox_push(&store->notes, note);
    PEAL_ASSERT(err == PEAL_OK);
}

/* ---- start and stop --------------------------------------------------------------------- */

/* A router that cannot tell which slots are its own must not serve any. */
static enum peal_err slots_read(struct peal_store *store, struct peal_txn *txn, char *why,
                                size_t why_size)
{
    struct peal_span slots;
    enum peal_err err = peal_blob_get(txn, "slots", &slots);
    if (err == PEAL_ENOT_FOUND) return PEAL_OK;
    if (err == PEAL_ECORRUPT)
        snprintf(why, why_size, "the record of slots is damaged; restore a backup");
    if (err != PEAL_OK) return err;
    store->slots = peal_bytes_new(slots.at, slots.size);
    return store->slots == NULL ? PEAL_ENOMEM : PEAL_OK;
}

static enum peal_err layout_check(struct peal_txn *txn, char *why, size_t why_size)
{
    uint64_t layout;
    enum peal_err err = peal_number_get(txn, "layout", &layout);
    if (err != PEAL_OK || layout == PEAL_LAYOUT) return err;
    snprintf(why, why_size, "the data has layout %llu and this program reads %d",
             (unsigned long long)layout, PEAL_LAYOUT);
    return PEAL_ECORRUPT;
}

/* Reads or makes the numbers of the inbox: it is made first. */
static enum peal_err inbox_prepare(struct peal_store *store, char *why, size_t why_size)
{
    struct peal_txn txn;
    enum peal_err err = peal_txn_begin(&txn, store->inbox, true);
    if (err != PEAL_OK) return err;
    if (peal_txn_entries(&txn, PEAL_TREE_META) == 0) {
        err = peal_number_put(&txn, "layout", PEAL_LAYOUT);
        if (err == PEAL_OK) err = peal_number_put(&txn, "generation", 1); /* until the log begins */
        if (err == PEAL_OK) err = peal_number_put(&txn, "gid", 0);
    }
    if (err == PEAL_OK) err = layout_check(&txn, why, why_size);
    if (err == PEAL_OK) err = peal_number_get(&txn, "generation", &store->generation);
    if (err == PEAL_OK)
        err = peal_txn_commit(&txn);
    else
        peal_txn_abort(&txn);
    return err;
}

/* Whether something was ever moved to the inbox. */
static bool inbox_used(struct peal_store *store)
{
    struct peal_txn txn;
    if (peal_txn_begin(&txn, store->inbox, false) != PEAL_OK) return true;
    bool used = peal_txn_entries(&txn, PEAL_TREE_HEAD) > 0;
    peal_txn_abort(&txn);
    return used;
}

/* A log that begins has no memory of what was numbered in this generation, should there have been
 * one before it. */
static enum peal_err generation_begin(struct peal_store *store)
{
    struct peal_txn txn;
    store->generation = (peal_random_u64() >> 11) | 1;
    enum peal_err err = peal_txn_begin(&txn, store->inbox, true);
    if (err != PEAL_OK) return err;
    err = peal_number_put(&txn, "generation", store->generation);
    if (err == PEAL_OK) return peal_txn_commit(&txn);
    peal_txn_abort(&txn);
    return err;
}

/* Reads or makes the numbers of the log and writes who owns it from now on. */
static enum peal_err log_prepare(struct peal_store *store, char *why, size_t why_size)
{
    struct peal_txn txn;
    uint64_t generation = 0;
    enum peal_err err = peal_txn_begin(&txn, store->log, true);
    if (err != PEAL_OK) return err;
    if (peal_txn_entries(&txn, PEAL_TREE_META) == 0 && inbox_used(store)) {
        snprintf(why, why_size, "there is an inbox without its log; restore a backup of both");
        err = PEAL_ECORRUPT;
    } else if (peal_txn_entries(&txn, PEAL_TREE_META) == 0) {
        err = generation_begin(store);
        if (err == PEAL_OK) err = peal_number_put(&txn, "layout", PEAL_LAYOUT);
        if (err == PEAL_OK) err = peal_number_put(&txn, "generation", store->generation);
        if (err == PEAL_OK) err = peal_number_put(&txn, "moved", 0);
        if (err == PEAL_OK) err = peal_number_put(&txn, "damage", 0);
        if (err == PEAL_OK) err = peal_blob_put(&txn, "slots", peal_span_of(""));
    }
    if (err == PEAL_OK) err = layout_check(&txn, why, why_size);
    if (err == PEAL_OK)
        err = peal_renew_generation(&txn, store->inbox, &store->generation, &store->copy);
    if (err == PEAL_OK) err = peal_number_get(&txn, "generation", &generation);
    if (err == PEAL_OK && generation != store->generation) {
        snprintf(why, why_size, "log and inbox are of different stores; restore a backup of both");
        err = PEAL_ECORRUPT;
    }
    if (err == PEAL_OK) err = slots_read(store, &txn, why, why_size);
    if (err == PEAL_OK) err = peal_number_put(&txn, "owner", store->boot);
    if (err == PEAL_OK)
        err = peal_txn_commit(&txn);
    else
        peal_txn_abort(&txn);
    return err;
}

static enum peal_err dbs_open(struct peal_store *store, const char *dir, char *why, size_t why_size)
{
    /* Address space. The limit is what peal_batch_bytes counts; pages that were given back are used
     * again only two commits later, or when the last snapshot with them is released. */
    uint64_t max = store->config->store.max;
    enum peal_err err = peal_folder_take(dir, &store->lock_fd, why, why_size);
    if (err == PEAL_OK)
        err = peal_db_open(dir, PEAL_DB_INBOX, 2 * max, &store->inbox, why, why_size);
    if (err == PEAL_OK) err = peal_db_open(dir, PEAL_DB_LOG, max, &store->log, why, why_size);
    if (err != PEAL_OK) return err;
    why[0] = '\0';
    err = inbox_prepare(store, why, why_size);
    if (err == PEAL_OK) err = log_prepare(store, why, why_size);
    if (err == PEAL_OK || err == PEAL_ENOMEM) return err;
    if (err == PEAL_ENOT_FOUND) err = PEAL_ECORRUPT;
    if (err == PEAL_ESTORE_FULL) err = PEAL_EIO;
    if (why[0] == '\0')
        snprintf(why, why_size, "cannot use the database: %s; restore a backup or free some space",
                 peal_err_word(err));
    return err;
}

static void store_free(struct peal_store *store)
{
    peal_settle_stop(store->settle);
    struct peal_settle_note *note;
    while (store->notes.cells != NULL && (note = peal_mailbox_pop(&store->notes)) != NULL)
        peal_settle_note_free(note);
    peal_reader_stop(store->reader);
    peal_mailbox_fini(&store->box);
    peal_mailbox_fini(&store->reads);
    peal_mailbox_fini(&store->notes);
    peal_batch_fini(&store->batch);
    peal_db_close(store->log);
    peal_db_close(store->inbox);
    peal_quota_give(store->quota);
    peal_quota_give(store->reads_quota);
    peal_bytes_unref(store->slots);
    if (store->lock_fd >= 0) close(store->lock_fd);
    free(store);
}

static enum peal_err threads_start(struct peal_store *store)
{
    struct peal_reader_setup reader = {.now_ms = &store->now_ms, .events = store->events};
    struct peal_settle_setup settle = {
        .log = store->log,
        .inbox = store->inbox,
        .config = store->config,
        .now_ms = &store->now_ms,
        .slice_ms = SETTLE_SLICE_MS,
        .ctx = store,
        .note = on_note,
    };
    store->quota = peal_quota_new(PEAL_STORE_OPS_MAX);
    store->reads_quota = peal_quota_new(PEAL_STORE_READS_MAX);
    if (store->quota == NULL || store->reads_quota == NULL) return PEAL_ENOMEM;
    enum peal_err err = peal_mailbox_init(&store->box, PEAL_STORE_OPS_MAX);
    if (err == PEAL_OK) err = peal_mailbox_init(&store->reads, PEAL_STORE_READS_MAX);
    if (err == PEAL_OK) err = peal_mailbox_init(&store->notes, NOTES_MAX);
    if (err == PEAL_OK) err = peal_reader_start(&reader, &store->reader);
    if (err == PEAL_OK) err = peal_settle_start(&settle, &store->settle);
    if (err == PEAL_OK && pthread_create(&store->thread, NULL, store_run, store) != 0)
        err = PEAL_ENOMEM;
    return err;
}

enum peal_err peal_store_start_with(const char *dir, const struct peal_config *config,
                                    const struct peal_store_events *events,
                                    const struct peal_store_options *options,
                                    struct peal_store **out, char *why, size_t why_size)
{
    *out = NULL;
    struct peal_store *store = aligned_alloc(64, (sizeof *store + 63) / 64 * 64);
    if (store == NULL) {
        snprintf(why, why_size, "out of memory");
        return PEAL_ENOMEM;
    }
    *store = (struct peal_store){
        .config = config, .events = *events, .options = *options, .lock_fd = -1};
    peal_link_init(&store->parked);
    store->boot = peal_random_u64();
    store->wall_base_ms = options->wall_ms(options->ctx);
    store->mono_base_ms = options->mono_ms(options->ctx);
    store->unsettled_since_ms = store->mono_base_ms;
    atomic_store(&store->now_ms, store->wall_base_ms);

    enum peal_err err = dbs_open(store, dir, why, why_size);
    if (err == PEAL_OK) {
        snprintf(why, why_size, "out of memory or descriptors");
        err = peal_batch_init(&store->batch, store->log, store->inbox, config, store->generation,
                              store->boot);
    }
    if (err == PEAL_OK) {
        err = peal_batch_replay(&store->batch, store->wall_base_ms);
        if (err == PEAL_ENOT_FOUND) err = PEAL_ECORRUPT;
        if (err != PEAL_OK)
            snprintf(why, why_size, "cannot read the log: %s; restore a backup",
                     peal_err_word(err));
    }
    if (err == PEAL_OK && store->copy) {
        err = peal_renew_epochs(&store->batch, store->wall_base_ms);
        if (err != PEAL_OK)
            snprintf(why, why_size, "cannot begin new epochs in a backup: %s", peal_err_word(err));
    }
    if (err == PEAL_OK) err = threads_start(store);
    if (err != PEAL_OK) {
        store_free(store);
        return err;
    }
    if (why_size > 0) why[0] = '\0';
    *out = store;
    return PEAL_OK;
}

static uint64_t real_wall_ms(void *ctx)
{
    (void)ctx;
    return peal_clock_wall_ms();
}

static uint64_t real_mono_ms(void *ctx)
{
    (void)ctx;
    return peal_clock_mono_ms();
}

enum peal_err peal_store_start(const char *dir, const struct peal_config *config,
                               const struct peal_store_events *events, struct peal_store **out,
                               char *why, size_t why_size)
{
    struct peal_store_options options = {.wall_ms = real_wall_ms, .mono_ms = real_mono_ms};
    return peal_store_start_with(dir, config, events, &options, out, why, why_size);
}

void peal_store_stop(struct peal_store *store)
{
    if (store == NULL) return;
    atomic_store(&store->stopping, true);
    peal_mailbox_wake(&store->box);
    pthread_join(store->thread, NULL);
    store_free(store);
}

enum peal_err peal_store_submit(struct peal_store *store, struct peal_store_op *op)
{
    PEAL_ASSERT(op->policy != NULL);
    PEAL_ASSERT(op->quota == NULL);
    if (!peal_quota_take(store->quota)) return PEAL_EQUEUE_FULL;
    op->quota = store->quota;
    enum peal_err err = peal_mailbox_push(&store->box, op);
    PEAL_ASSERT(err == PEAL_OK); /* the box has as many cells */
    return PEAL_OK;
}

enum peal_err peal_store_read(struct peal_store *store, struct peal_store_fetch *fetch)
{
    PEAL_ASSERT(fetch->quota == NULL);
    if (!peal_quota_take(store->reads_quota)) return PEAL_EQUEUE_FULL;
    fetch->quota = store->reads_quota;
    enum peal_err err = peal_mailbox_push(&store->reads, fetch);
    PEAL_ASSERT(err == PEAL_OK); /* the box has as many cells */
    return PEAL_OK;
}

struct peal_span peal_store_slots(const struct peal_store *store)
{
    return store->slots == NULL ? (struct peal_span){0} : peal_bytes_span(store->slots);
}

uint64_t peal_store_generation(const struct peal_store *store)
{
    return store->generation;
}

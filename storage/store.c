/* One thread takes operations in order and applies as many as are there (or fit in 2 ms, or in
 * BATCH_BYTES) to one write transaction, commits, and only then hands them back, in order.
 * An operation whose batch could not be committed for lack of room, or that itself failed, is
 * not judged by its neighbours: the transaction is dropped and each operation is applied again
 * in a transaction of its own. Nothing is acknowledged and nothing counted before its commit.
 *
 * Between batches, at most once a second unless there is a lot to do, a slice of a few
 * milliseconds removes what nobody touches any more: expired ids of dedup, settled, aged and
 * expired messages. It walks the heads, which say from when on they need a look. */
#include "storage/store.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "base/metrics.h"
#include "proto/group.h"
#include "proto/wire.h"
#include "storage/batch.h"
#include "storage/db.h"
#include "storage/options.h"
#include "storage/quota.h"
#include "storage/reader.h"

enum {
    BATCH_OPS = 1000,
    BATCH_BYTES = 8 << 20,
    BATCH_MS = 2,
    SWEEP_EVERY_MS = 1000,
    SWEEP_MS = 5,
    KEY_MAX = 511,                 /* bytes, LMDB's limit */
    CLOCK_STEP_MS = 5 * 60 * 1000, /* a larger jump of the wall clock is not believed */
};

struct peal_store {
    const struct peal_config *config;
    struct peal_store_events events;
    struct peal_store_options options;
    struct peal_db *db;
    struct peal_reader *reader;
    uint64_t generation;
    struct peal_bytes *slots; /* as found; NULL in a store from before there was such a record */
    uint64_t boot;            /* this opening; must stand in the owner record */

    struct peal_mailbox box;
    struct peal_quota *quota;
    _Atomic bool stopping;
    _Atomic uint64_t now_ms; /* read by the reader */
    pthread_t thread;

    /* The rest belongs to the store thread. */
    uint64_t wall_base_ms;
    uint64_t mono_base_ms;
    bool clock_jumped;
    struct peal_batch batch;
    struct peal_store_op *ops[BATCH_OPS];
    size_t op_count;
    char sweep_from[KEY_MAX + 1];
    size_t sweep_from_size; /* 0: a new walk begins */
    uint64_t sweep_due_ms;
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

/* Takes and applies what is there. Returns false when there was nothing. */
static bool batch_run(struct peal_store *store)
{
    struct peal_store_op *op = peal_mailbox_pop(&store->box);
    if (op == NULL) return false;
    now_update(store);
    uint64_t begin_ms = store->options.mono_ms(store->options.ctx);
    size_t bytes = 0;
    store->op_count = 0;
    enum peal_err err = peal_batch_begin(&store->batch, now_of(store));
    for (;;) {
        store->ops[store->op_count++] = op;
        bytes += op->message.size;
        if (err == PEAL_OK) err = peal_batch_apply(&store->batch, op);
        if (err != PEAL_OK || store->op_count == BATCH_OPS || bytes >= BATCH_BYTES) break;
        if (store->options.mono_ms(store->options.ctx) - begin_ms >= BATCH_MS) break;
        op = peal_mailbox_pop(&store->box);
        if (op == NULL) break;
    }
    if (err == PEAL_OK)
        err = peal_batch_finish(&store->batch);
    else
        peal_batch_drop(&store->batch);
    for (size_t i = 0; i < store->op_count; i++) {
        if (err != PEAL_OK) apply_alone(store, store->ops[i]);
    }
    for (size_t i = 0; i < store->op_count; i++)
        store->events.done(store->events.ctx, store->ops[i]);
    store->events.done_all(store->events.ctx);
    return true;
}

/* ---- sweep ------------------------------------------------------------------------------ */

static uint64_t mono_of(struct peal_store *store)
{
    return store->options.mono_ms(store->options.ctx);
}

static enum peal_err sweep_ids(struct peal_store *store, uint64_t until_ms)
{
    size_t removed;
    do {
        enum peal_err err = peal_ids_trim(&store->batch.ids, 64, &removed);
        if (err != PEAL_OK) return err;
    } while (removed == 64 && mono_of(store) < until_ms);
    return PEAL_OK;
}

static enum peal_err sweep_group(struct peal_store *store, struct peal_span group,
                                 uint64_t until_ms)
{
    uint64_t now_ms = now_of(store);
    struct peal_head *head;
    enum peal_err err = peal_heads_get(&store->batch.heads, group, &head);
    if (err != PEAL_OK) return err;
    if (head->slot == store->batch.quiet_slot && now_ms < store->batch.quiet_until_ms)
        return PEAL_OK;
    const struct peal_config_group *policy = peal_group_policy(store->config, group);
    uint64_t first;
    do {
        if (peal_inbox_due_ms(&head->inbox, policy) > now_ms) return PEAL_OK;
        first = head->inbox.first;
        err = peal_heads_retain(&store->batch.heads, head, policy, now_ms, 0, 0,
                                PEAL_RETAIN_MESSAGES);
    } while (err == PEAL_OK && head->inbox.first > first && mono_of(store) < until_ms);
    return err;
}

/* Goes on where the last slice ended. */
static enum peal_err sweep_heads(struct peal_store *store, uint64_t until_ms)
{
    do {
        char copy[PEAL_NAME_MAX];
        struct peal_span from = {store->sweep_from, store->sweep_from_size};
        struct peal_span key;
        struct peal_span value;
        struct peal_span group;
        enum peal_err err = peal_txn_seek(&store->batch.txn, PEAL_TREE_HEAD, from, &key, &value);
        if (err == PEAL_ENOT_FOUND) {
            store->sweep_from_size = 0;
            return PEAL_OK;
        }
        if (err != PEAL_OK) return err;
        /* The smallest key behind this one. */
        PEAL_ASSERT(key.size <= KEY_MAX);
        memcpy(store->sweep_from, key.at, key.size);
        store->sweep_from[key.size] = '\0';
        store->sweep_from_size = key.size + 1;
        if (peal_key_head_group(key, &group) != PEAL_OK) continue;
        memcpy(copy, group.at, group.size); /* the key may move when something is written */
        err = sweep_group(store, peal_span_make(copy, group.size), until_ms);
        if (err != PEAL_OK) return err;
    } while (mono_of(store) < until_ms);
    return PEAL_OK;
}

static void sweep(struct peal_store *store)
{
    uint64_t mono_ms = mono_of(store);
    if (mono_ms < store->sweep_due_ms) return;
    store->sweep_due_ms = mono_ms + SWEEP_EVERY_MS;
    now_update(store);
    if (peal_db_failed(store->db) || peal_batch_begin(&store->batch, now_of(store)) != PEAL_OK)
        return;
    enum peal_err err = sweep_ids(store, mono_ms + SWEEP_MS);
    if (err == PEAL_OK) err = sweep_heads(store, mono_ms + SWEEP_MS);
    bool busy = peal_batch_dirty(&store->batch);
    if (err == PEAL_OK)
        err = peal_batch_finish(&store->batch);
    else
        peal_batch_drop(&store->batch);
    if (err != PEAL_OK)
        peal_log(PEAL_LOG_ERROR, "store.sweep_failed", "code=%s", peal_err_word(err));
    /* A slice that ran out of time with work in hand is followed by another one. */
    if (err == PEAL_OK && busy && mono_of(store) >= mono_ms + SWEEP_MS)
        store->sweep_due_ms = mono_ms;
}

/* ---- thread ----------------------------------------------------------------------------- */

static void *store_run(void *arg)
{
    struct peal_store *store = arg;
    peal_metrics_thread_start();
    for (;;) {
        /* Asked after arming: a stop that came before is seen here, a later one wakes the poll. */
        peal_mailbox_arm(&store->box);
        bool stopping = atomic_load(&store->stopping);
        while (batch_run(store))
            sweep(store);
        if (stopping) return NULL;
        sweep(store);
        uint64_t mono_ms = mono_of(store);
        int wait_ms = store->sweep_due_ms <= mono_ms ? 0 : (int)(store->sweep_due_ms - mono_ms);
        struct pollfd pfd = {.fd = store->box.fd, .events = POLLIN};
        poll(&pfd, 1, wait_ms);
    }
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

/* Reads or makes the numbers of the database and writes who owns it from now on. */
static enum peal_err meta_prepare(struct peal_store *store, char *why, size_t why_size)
{
    struct peal_txn txn;
    uint64_t layout = PEAL_LAYOUT;
    uint64_t gid;
    enum peal_err err = peal_txn_begin(&txn, store->db, true);
    if (err != PEAL_OK) goto out;
    err = peal_number_get(&txn, "layout", &layout);
    if (err == PEAL_ENOT_FOUND && peal_txn_entries(&txn, PEAL_TREE_META) == 0) {
        store->generation = (peal_random_u64() >> 11) | 1;
        err = peal_number_put(&txn, "layout", PEAL_LAYOUT);
        if (err == PEAL_OK) err = peal_number_put(&txn, "generation", store->generation);
        if (err == PEAL_OK) err = peal_number_put(&txn, "gid", 0);
        if (err == PEAL_OK) err = peal_blob_put(&txn, "slots", peal_span_of(""));
    }
    if (err == PEAL_OK) err = peal_number_get(&txn, "generation", &store->generation);
    if (err == PEAL_OK) err = peal_number_get(&txn, "gid", &gid);
    if (err == PEAL_OK && layout != PEAL_LAYOUT) {
        snprintf(why, why_size, "the data has layout %llu and this program reads %d",
                 (unsigned long long)layout, PEAL_LAYOUT);
        peal_txn_abort(&txn);
        return PEAL_ECORRUPT;
    }
    if (err == PEAL_OK) {
        err = slots_read(store, &txn, why, why_size);
        if (err == PEAL_ECORRUPT) {
            peal_txn_abort(&txn);
            return err;
        }
    }
    if (err == PEAL_OK) err = peal_number_put(&txn, "owner", store->boot);
    if (err == PEAL_OK) err = peal_txn_commit(&txn);

out:
    peal_txn_abort(&txn);
    if (err == PEAL_OK) return PEAL_OK;
    if (err == PEAL_ENOT_FOUND) err = PEAL_ECORRUPT;
    if (err == PEAL_ESTORE_FULL) err = PEAL_EIO;
    snprintf(why, why_size, "cannot use the database: %s; restore a backup or free some space",
             peal_err_word(err));
    return err;
}

static void store_free(struct peal_store *store)
{
    peal_mailbox_fini(&store->box);
    peal_batch_fini(&store->batch);
    peal_db_close(store->db);
    peal_quota_give(store->quota);
    peal_bytes_unref(store->slots);
    free(store);
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
    *store = (struct peal_store){.config = config, .events = *events, .options = *options};
    store->boot = peal_random_u64();
    store->wall_base_ms = options->wall_ms(options->ctx);
    store->mono_base_ms = options->mono_ms(options->ctx);
    atomic_store(&store->now_ms, store->wall_base_ms);

    enum peal_err err = peal_db_open(dir, config->store.max, &store->db, why, why_size);
    if (err != PEAL_OK) goto fail;
    err = meta_prepare(store, why, why_size);
    if (err != PEAL_OK) goto fail;
    snprintf(why, why_size, "out of memory or descriptors");
    err = peal_batch_init(&store->batch, store->db, config, store->generation, store->boot);
    if (err != PEAL_OK) goto fail;
    store->quota = peal_quota_new(PEAL_STORE_OPS_MAX);
    err = store->quota == NULL ? PEAL_ENOMEM : peal_mailbox_init(&store->box, PEAL_STORE_OPS_MAX);
    if (err != PEAL_OK) goto fail;
    err = peal_reader_start(&(struct peal_reader_setup){.db = store->db,
                                                        .generation = store->generation,
                                                        .now_ms = &store->now_ms,
                                                        .events = *events},
                            &store->reader);
    if (err != PEAL_OK) goto fail;
    if (pthread_create(&store->thread, NULL, store_run, store) != 0) {
        peal_reader_stop(store->reader);
        err = PEAL_ENOMEM;
        goto fail;
    }
    if (why_size > 0) why[0] = '\0';
    *out = store;
    return PEAL_OK;

fail:
    store_free(store);
    return err;
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
    peal_reader_stop(store->reader);
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
    return peal_reader_submit(store->reader, fetch);
}

struct peal_span peal_store_slots(const struct peal_store *store)
{
    return store->slots == NULL ? (struct peal_span){0} : peal_bytes_span(store->slots);
}

uint64_t peal_store_generation(const struct peal_store *store)
{
    return store->generation;
}

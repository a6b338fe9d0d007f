/* tests/unit/batch_rig.h: the store without its threads: batches, settling and reading are calls.
 *
 * So a test says what is in one batch, which batch has not happened, how much of the log is in the
 * inbox, and when the store thread hears of that. Include it in one file of a test program. */
#ifndef PEAL_TESTS_BATCH_RIG_H
#define PEAL_TESTS_BATCH_RIG_H

#include "base/metrics.h"
#include "proto/envelope.h"
#include "storage/batch.h"
#include "storage/reader.h"
#include "storage/settle_range.h"
#include "tests/unit/disk.h"
#include "tests/unit/page_text.h"

enum { HOUR_MS = 3600 * 1000, RIG_MAP = 64 << 20, RIG_NOTES = 64, RIG_BOOT = 4711 };

struct rig {
    const char *dir;
    struct peal_config config;
    struct peal_config_group groups[2];
    struct peal_db *log;
    struct peal_db *inbox;
    struct peal_batch batch;
    uint64_t generation;
    _Atomic uint64_t now_ms;
    _Atomic bool stopping;
    struct peal_settle_setup settle;
    struct peal_range range;
    struct peal_settle_note *notes[RIG_NOTES]; /* of the range in hand, not delivered */
    size_t note_count;
    void (*between)(struct rig *rig); /* between two slices of a range; NULL: nothing */
    struct page page;                 /* the last that was read */
};

static void rig_on_note(void *ctx, struct peal_settle_note *note)
{
    struct rig *rig = ctx;
    assert_true(rig->note_count < RIG_NOTES);
    rig->notes[rig->note_count++] = note;
    if (rig->between != NULL) rig->between(rig);
}

static void rig_init(struct rig *rig, const char *dir)
{
    struct peal_config_group policy = {
        .match = (char *)(uintptr_t) "user:{id}",
        .durable = true,
        .keep = {.messages = 1000,
                 .bytes = 1 << 20,
                 .age_ms = 24 * HOUR_MS,
                 .until = PEAL_UNTIL_ACKED,
                 .settled_ms = HOUR_MS},
    };
    *rig = (struct rig){.dir = dir, .generation = 77, .groups = {policy, policy}};
    rig->groups[1].match = (char *)(uintptr_t) "*";
    rig->config.groups = rig->groups;
    rig->config.group_count = 2;
    rig->config.store.max = RIG_MAP;
    rig->config.dedup.age_ms = 600 * 1000;
    rig->config.dedup.ids = 1000;
    rig->settle = (struct peal_settle_setup){.config = &rig->config,
                                             .now_ms = &rig->now_ms,
                                             .slice_ms = 1000,
                                             .ctx = rig,
                                             .note = rig_on_note};
    atomic_store(&rig->now_ms, 1700000000000);
}

static inline uint64_t rig_now(const struct rig *rig)
{
    return atomic_load(&rig->now_ms);
}

static void rig_prepare(struct rig *rig)
{
    struct peal_txn txn;
    assert_int_equal(peal_txn_begin(&txn, rig->inbox, true), PEAL_OK);
    assert_int_equal(peal_number_put(&txn, "gid", 0), PEAL_OK);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
    assert_int_equal(peal_txn_begin(&txn, rig->log, true), PEAL_OK);
    assert_int_equal(peal_number_put(&txn, "owner", RIG_BOOT), PEAL_OK);
    assert_int_equal(peal_number_put(&txn, "moved", 0), PEAL_OK);
    assert_int_equal(peal_number_put(&txn, "damage", 0), PEAL_OK);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
}

static void rig_open(struct rig *rig)
{
    char why[256] = "";
    struct peal_txn txn;
    peal_metrics_thread_start();
    if (peal_db_open(rig->dir, PEAL_DB_INBOX, 2 * RIG_MAP, &rig->inbox, why, sizeof why) ||
        peal_db_open(rig->dir, PEAL_DB_LOG, RIG_MAP, &rig->log, why, sizeof why))
        fail_msg("open: %s", why);
    assert_int_equal(peal_txn_begin(&txn, rig->log, false), PEAL_OK);
    bool fresh = peal_txn_entries(&txn, PEAL_TREE_META) == 0;
    peal_txn_abort(&txn);
    if (fresh) rig_prepare(rig);
    rig->settle.log = rig->log;
    rig->settle.inbox = rig->inbox;
    rig->range = (struct peal_range){.setup = &rig->settle, .stopping = &rig->stopping};
    assert_int_equal(
        peal_batch_init(&rig->batch, rig->log, rig->inbox, &rig->config, rig->generation, RIG_BOOT),
        PEAL_OK);
    assert_int_equal(peal_batch_replay(&rig->batch, rig_now(rig)), PEAL_OK);
}

static void rig_close(struct rig *rig)
{
    while (rig->note_count > 0)
        peal_settle_note_free(rig->notes[--rig->note_count]);
    peal_batch_fini(&rig->batch);
    peal_db_close(rig->log);
    peal_db_close(rig->inbox);
    rig->log = rig->inbox = NULL;
}

static inline void rig_reopen(struct rig *rig)
{
    rig_close(rig);
    rig_open(rig);
}

/* ---- batches ------------------------------------------------------------------------------ */

static inline void rig_begin(struct rig *rig)
{
    assert_int_equal(peal_batch_begin(&rig->batch, rig_now(rig)), PEAL_OK);
}

static inline void rig_finish(struct rig *rig)
{
    assert_int_equal(peal_batch_finish(&rig->batch), PEAL_OK);
}

static inline void rig_drop(struct rig *rig)
{
    peal_batch_drop(&rig->batch);
}

/* Applies op in the batch in hand and frees it; a copy of its answer. */
static struct peal_store_op rig_apply(struct rig *rig, struct peal_store_op *op)
{
    assert_non_null(op);
    bool inbox = op->group.size >= 5 && memcmp(op->group.at, "user:", 5) == 0;
    op->policy = &rig->groups[inbox ? 0 : 1];
    assert_int_equal(peal_batch_apply(&rig->batch, op), PEAL_OK);
    struct peal_store_op answer = *op;
    answer.encoded = NULL;
    peal_store_op_free(op);
    return answer;
}

struct message {
    const char *group;
    const char *data;
    const char *key; /* collapse key; NULL: none */
    const char *id;  /* given by the publisher; NULL: none */
    uint64_t ttl_ms;
};

static struct peal_store_op rig_send(struct rig *rig, const struct message *m)
{
    struct peal_buf buf = {0};
    struct peal_envelope env = {
        .id = peal_span_of(m->id == NULL ? "01ARZ3NDEKTSV4RRFFQ69G5FAV" : m->id),
        .group = peal_span_of(m->group),
        .ts_ms = rig_now(rig),
        .data = peal_span_of(m->data),
        .data_kind = PEAL_DATA_TEXT,
        .ttl_ms = m->ttl_ms,
        .flags = m->id == NULL ? 0 : PEAL_MSG_ID_GIVEN,
    };
    if (m->key != NULL) env.collapse = peal_span_of(m->key);
    peal_envelope_encode(&env, &buf);
    struct peal_store_op *op =
        peal_store_op_new(PEAL_STORE_PUT, env.group, peal_buf_span(&buf), NULL, 0);
    peal_buf_fini(&buf);
    return rig_apply(rig, op);
}

static inline struct peal_store_op rig_put(struct rig *rig, const char *group, const char *key)
{
    struct message m = {group, "x", key, NULL, 0};
    return rig_send(rig, &m);
}

static inline struct peal_store_op rig_mark(struct rig *rig, const char *group, uint64_t flags,
                                            uint64_t upto, const uint64_t *offsets, size_t count)
{
    struct peal_store_op *op = peal_store_op_new(PEAL_STORE_MARK, peal_span_of(group),
                                                 (struct peal_span){0}, offsets, count);
    assert_non_null(op);
    op->mark_flags = flags;
    op->upto = upto;
    return rig_apply(rig, op);
}

static inline struct peal_store_op rig_head(struct rig *rig, const char *group)
{
    return rig_apply(rig, peal_store_op_new(PEAL_STORE_HEAD, peal_span_of(group),
                                            (struct peal_span){0}, NULL, 0));
}

static inline struct peal_store_op rig_drop_slot(struct rig *rig, uint16_t slot)
{
    struct peal_store_op *op =
        peal_store_op_new(PEAL_STORE_DROP, (struct peal_span){0}, (struct peal_span){0}, NULL, 0);
    assert_non_null(op);
    op->mark_flags = slot;
    return rig_apply(rig, op);
}

/* Each in a batch of its own. */
static inline struct peal_store_op rig_put_alone(struct rig *rig, const char *group,
                                                 const char *key)
{
    rig_begin(rig);
    struct peal_store_op op = rig_put(rig, group, key);
    rig_finish(rig);
    return op;
}

static inline struct peal_store_op rig_ack_alone(struct rig *rig, const char *group, uint64_t upto)
{
    rig_begin(rig);
    struct peal_store_op op = rig_mark(rig, group, PEAL_FLAG_ACK, upto, NULL, 0);
    rig_finish(rig);
    return op;
}

static inline void rig_retain_alone(struct rig *rig, const char *group)
{
    rig_begin(rig);
    bool inbox = strncmp(group, "user:", 5) == 0;
    assert_int_equal(
        peal_batch_retain(&rig->batch, peal_span_of(group), &rig->groups[inbox ? 0 : 1]), PEAL_OK);
    rig_finish(rig);
}

static inline void rig_trim_alone(struct rig *rig, size_t most)
{
    rig_begin(rig);
    assert_int_equal(peal_batch_trim(&rig->batch, most), PEAL_OK);
    rig_finish(rig);
}

/* ---- settling ----------------------------------------------------------------------------- */

/* The inbox has all up to `to` then; the store thread does not know. */
static inline void rig_move(struct rig *rig, uint64_t to)
{
    assert_int_equal(rig->note_count, 0);
    assert_int_equal(peal_range_move(&rig->range, rig->batch.moved + 1, to), PEAL_OK);
    struct peal_settle_note *done = calloc(1, sizeof *done);
    assert_non_null(done);
    *done = (struct peal_settle_note){.kind = PEAL_SETTLE_DONE,
                                      .seq = to,
                                      .dropped_to = rig->range.dropped_to,
                                      .corrupt = rig->range.corrupt,
                                      .entries = rig->range.entries,
                                      .bytes = rig->range.bytes,
                                      .room = rig->range.room};
    assert_true(rig->note_count < RIG_NOTES);
    rig->notes[rig->note_count++] = done;
}

/* It knows now. */
static inline void rig_deliver(struct rig *rig)
{
    for (size_t i = 0; i < rig->note_count; i++) {
        peal_batch_note(&rig->batch, rig->notes[i]);
        peal_settle_note_free(rig->notes[i]);
    }
    rig->note_count = 0;
}

static inline void rig_settle(struct rig *rig)
{
    rig_move(rig, rig->batch.seq);
    rig_deliver(rig);
}

/* ---- reading ------------------------------------------------------------------------------ */

/* A page from heads, which have no batch in hand. */
static const char *rig_page_of(struct rig *rig, struct peal_heads *heads, const struct ask *ask)
{
    struct peal_snapshot *snapshot;
    struct peal_view view;
    struct peal_buf buf = {0};
    struct peal_store_fetch *fetch = page_fetch(ask);
    assert_int_equal(peal_snapshot_new(rig->log, rig->inbox, &snapshot), PEAL_OK);
    peal_heads_begin(heads, NULL);
    assert_int_equal(peal_heads_view(heads, snapshot, fetch->group, &view), PEAL_OK);
    peal_heads_rollback(heads);
    peal_snapshot_unref(snapshot);
    /* At no time: what has expired is there until it is removed. */
    assert_int_equal(peal_reader_page(&view, fetch, 0, &buf), PEAL_OK);
    peal_view_fini(&view);
    peal_store_fetch_free(fetch);
    rig->page = (struct page){.bytes = peal_bytes_new(buf.at, buf.size)};
    peal_buf_fini(&buf);
    page_open(&rig->page);
    page_free(&rig->page);
    return rig->page.text;
}

static inline const char *rig_after(struct rig *rig, const char *group, uint64_t offset)
{
    struct ask ask = {group, rig->generation, offset, 0, 0, 0};
    return rig_page_of(rig, &rig->batch.heads, &ask);
}

static inline const char *rig_text(struct rig *rig, const char *group)
{
    return rig_after(rig, group, 0);
}

#endif

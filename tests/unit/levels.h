/* tests/unit/levels.h: the two databases of a store, and groups in them that are written by hand.
 *
 * Each group says itself which of its messages are in the log and which in the inbox. */
#ifndef PEAL_TESTS_LEVELS_H
#define PEAL_TESTS_LEVELS_H

#include <stdio.h>
#include <string.h>

#include "proto/envelope.h"
#include "proto/group.h"
#include "storage/db.h"
#include "storage/entry.h"
#include "storage/keys.h"
#include "storage/snapshot.h"
#include "tests/unit/unit.h"

#define LEVELS_NOW_MS ((uint64_t)1700000000000)

enum { LEVELS_MAP = 64 << 20, LEVELS_EPOCH = 77, HAND_MESSAGES = 1024 };

struct levels {
    const char *dir;
    struct peal_db *log;
    struct peal_db *inbox;
    uint64_t seq;
    uint64_t groups;
};

static inline void levels_open(struct levels *l)
{
    char why[256] = "";
    if (peal_db_open(l->dir, PEAL_DB_LOG, LEVELS_MAP, &l->log, why, sizeof why) != PEAL_OK ||
        peal_db_open(l->dir, PEAL_DB_INBOX, LEVELS_MAP, &l->inbox, why, sizeof why) != PEAL_OK)
        fail_msg("open: %s", why);
}

static inline void levels_close(struct levels *l)
{
    peal_db_close(l->log);
    peal_db_close(l->inbox);
    l->log = l->inbox = NULL;
}

static inline void levels_write(struct peal_db *db, enum peal_tree tree, struct peal_span key,
                                struct peal_span value)
{
    struct peal_txn txn;
    assert_int_equal(peal_txn_begin(&txn, db, true), PEAL_OK);
    assert_int_equal(peal_txn_put(&txn, tree, key, value), PEAL_OK);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
}

static inline void levels_remove(struct peal_db *db, enum peal_tree tree, struct peal_span key)
{
    struct peal_txn txn;
    assert_int_equal(peal_txn_begin(&txn, db, true), PEAL_OK);
    enum peal_err err = peal_txn_del(&txn, tree, key);
    assert_true(err == PEAL_OK || err == PEAL_ENOT_FOUND);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
}

/* Changes one bit of what is there. */
static inline void levels_damage(struct peal_db *db, enum peal_tree tree, struct peal_span key,
                                 size_t at)
{
    struct peal_txn txn;
    struct peal_span value;
    assert_int_equal(peal_txn_begin(&txn, db, false), PEAL_OK);
    assert_int_equal(peal_txn_get(&txn, tree, key, &value), PEAL_OK);
    char *copy = malloc(value.size);
    assert_non_null(copy);
    memcpy(copy, value.at, value.size);
    copy[at % value.size] ^= 4;
    peal_txn_abort(&txn);
    levels_write(db, tree, key, peal_span_make(copy, value.size));
    free(copy);
}

/* ---- a group ---------------------------------------------------------------------------- */

struct hand {
    struct levels *levels;
    char name[64];
    struct peal_inbox inbox;
    uint64_t log_from;   /* messages from this offset on are in the log */
    uint64_t inbox_upto; /* those up to this one in the inbox */
    uint64_t now_ms;
    uint64_t places[HAND_MESSAGES]; /* by offset */
    uint64_t sizes[HAND_MESSAGES];  /* of the envelopes */
};

static inline void hand_init(struct hand *h, struct levels *levels, const char *name)
{
    memset(h, 0, sizeof *h);
    h->levels = levels;
    snprintf(h->name, sizeof h->name, "%s", name);
    peal_inbox_init(&h->inbox, LEVELS_EPOCH);
    h->inbox.n.gid = ++levels->groups;
    h->now_ms = LEVELS_NOW_MS;
    h->inbox_upto = UINT64_MAX;
    h->log_from = UINT64_MAX;
}

static inline void hand_fini(struct hand *h)
{
    peal_inbox_fini(&h->inbox);
}

static inline struct peal_span hand_group(const struct hand *h)
{
    return peal_span_of(h->name);
}

static inline struct peal_span hand_key(const struct hand *h, uint64_t offset,
                                        char at[PEAL_KEY_MESSAGE])
{
    peal_key_message(at, peal_group_slot(hand_group(h)), h->inbox.n.gid, offset);
    return peal_span_make(at, PEAL_KEY_MESSAGE);
}

static inline void hand_log(struct hand *h, uint64_t offset, struct peal_span envelope,
                            uint64_t expires_ms)
{
    char at[PEAL_KEY_ENTRY];
    struct peal_span key = {at, sizeof at};
    struct peal_entry entry = {.kind = PEAL_ENTRY_PUT,
                               .group = hand_group(h),
                               .numbers = h->inbox.n,
                               .epoch = h->inbox.n.epoch,
                               .offset = offset,
                               .stored_ms = h->now_ms,
                               .expires_ms = expires_ms,
                               .envelope = envelope};
    h->places[offset] = ++h->levels->seq;
    peal_key_entry(at, h->places[offset]);
    char *record = malloc(peal_entry_size(&entry));
    assert_non_null(record);
    size_t size = peal_entry_encode(key, &entry, record);
    levels_write(h->levels->log, PEAL_TREE_LOG, key, peal_span_make(record, size));
    free(record);
}

static inline void hand_settle(struct hand *h, uint64_t offset, struct peal_span envelope,
                               uint64_t expires_ms)
{
    char at[PEAL_KEY_MESSAGE];
    struct peal_span key = hand_key(h, offset, at);
    struct peal_record record = {h->now_ms, expires_ms, envelope};
    size_t size = PEAL_RECORD_MESSAGE + envelope.size;
    char *bytes = malloc(size);
    assert_non_null(bytes);
    peal_record_encode(key, &record, bytes);
    levels_write(h->levels->inbox, PEAL_TREE_MESSAGE, key, peal_span_make(bytes, size));
    free(bytes);
}

/* Numbers a message and writes it where it belongs. */
static inline void hand_put(struct hand *h, const char *id, struct peal_span data, uint64_t ttl_ms)
{
    struct peal_buf buf = {0};
    uint64_t expires_ms = ttl_ms == 0 ? 0 : h->now_ms + ttl_ms;
    uint64_t offset = h->inbox.n.next;
    assert_true(offset < HAND_MESSAGES);
    struct peal_envelope env = {
        .id = peal_span_of(id == NULL ? "01ARZ3NDEKTSV4RRFFQ69G5FAV" : id),
        .group = hand_group(h),
        .epoch = h->inbox.n.epoch,
        .offset = offset,
        .ts_ms = h->now_ms,
        .data = data,
        .data_kind = PEAL_DATA_TEXT,
        .ttl_ms = ttl_ms,
        .flags = id == NULL ? 0 : PEAL_MSG_ID_GIVEN,
    };
    peal_envelope_encode(&env, &buf);
    assert_false(buf.failed);
    h->sizes[offset] = buf.size;
    assert_int_equal(peal_inbox_reserve(&h->inbox, offset + 1), PEAL_OK);
    assert_int_equal(peal_inbox_add(&h->inbox, buf.size, h->now_ms, expires_ms), offset);
    h->inbox.n.ver++;
    if (offset >= h->log_from) hand_log(h, offset, peal_buf_span(&buf), expires_ms);
    if (offset <= h->inbox_upto) hand_settle(h, offset, peal_buf_span(&buf), expires_ms);
    peal_buf_fini(&buf);
}

static inline void hand_put_many(struct hand *h, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char data[32];
        snprintf(data, sizeof data, "payload-%04llu", (unsigned long long)h->inbox.n.next);
        hand_put(h, NULL, peal_span_of(data), 0);
    }
}

static inline void hand_mark(struct hand *h, const struct peal_config_group *policy,
                             struct peal_mark mark)
{
    assert_int_equal(peal_inbox_reserve(&h->inbox, h->inbox.n.next), PEAL_OK);
    assert_true(peal_inbox_mark(&h->inbox, policy, &mark, h->now_ms));
    h->inbox.n.ver++;
}

/* The record goes, and nothing is said of it. */
static inline void hand_lose(struct hand *h, uint64_t offset)
{
    char at[PEAL_KEY_MESSAGE];
    levels_remove(h->levels->inbox, PEAL_TREE_MESSAGE, hand_key(h, offset, at));
    if (h->places[offset] == 0) return;
    peal_key_entry(at, h->places[offset]);
    levels_remove(h->levels->log, PEAL_TREE_LOG, peal_span_make(at, PEAL_KEY_ENTRY));
}

/* As retention removes it. */
static inline void hand_remove(struct hand *h, uint64_t offset, enum peal_gone gone)
{
    char at[PEAL_KEY_MESSAGE];
    assert_int_equal(peal_inbox_reserve(&h->inbox, h->inbox.n.next), PEAL_OK);
    peal_inbox_remove(&h->inbox, offset, h->sizes[offset], gone);
    levels_remove(h->levels->inbox, PEAL_TREE_MESSAGE, hand_key(h, offset, at));
    h->places[offset] = 0;
    h->inbox.n.ver++;
}

static inline void hand_save(const struct hand *h)
{
    char at[PEAL_KEY_HEAD_MAX];
    char record[PEAL_RECORD_HEAD_MAX];
    struct peal_span key = {at, peal_key_head(at, hand_group(h))};
    size_t size = peal_head_encode(key, &h->inbox, record);
    levels_write(h->levels->inbox, PEAL_TREE_HEAD, key, peal_span_make(record, size));
}

/* What the store thread would hand over now. */
static inline struct peal_view hand_view(const struct hand *h)
{
    struct peal_view view = {0};
    uint64_t next = h->inbox.n.next;
    view.base = h->log_from < next ? h->log_from : next;
    view.place_count = next - view.base;
    if (view.place_count > 0) {
        view.places = malloc(view.place_count * sizeof *view.places);
        assert_non_null(view.places);
        memcpy(view.places, h->places + view.base, view.place_count * sizeof *view.places);
    }
    assert_int_equal(peal_inbox_copy(&h->inbox, &view.inbox), PEAL_OK);
    assert_int_equal(peal_snapshot_new(h->levels->log, h->levels->inbox, &view.snapshot), PEAL_OK);
    return view;
}

#endif

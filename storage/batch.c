#include "storage/batch.h"

#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "proto/envelope.h"
#include "proto/group.h"
#include "proto/wire.h"
#include "storage/entry.h"
#include "storage/moving.h"

/* ---- the numbers in meta ---------------------------------------------------------------- */

enum peal_err peal_number_get(struct peal_txn *txn, const char *name, uint64_t *out)
{
    struct peal_span value;
    enum peal_err err = peal_txn_get(txn, PEAL_TREE_META, peal_span_of(name), &value);
    if (err != PEAL_OK) return err;
    return peal_number_decode(peal_span_of(name), value, out);
}

enum peal_err peal_number_put(struct peal_txn *txn, const char *name, uint64_t number)
{
    char record[PEAL_RECORD_NUMBER];
    peal_number_encode(peal_span_of(name), number, record);
    return peal_txn_put(txn, PEAL_TREE_META, peal_span_of(name),
                        peal_span_make(record, sizeof record));
}

enum peal_err peal_blob_get(struct peal_txn *txn, const char *name, struct peal_span *out)
{
    struct peal_span value;
    enum peal_err err = peal_txn_get(txn, PEAL_TREE_META, peal_span_of(name), &value);
    if (err != PEAL_OK) return err;
    return peal_blob_decode(peal_span_of(name), value, out);
}

enum peal_err peal_blob_put(struct peal_txn *txn, const char *name, struct peal_span bytes)
{
    char *value;
    enum peal_err err = peal_txn_reserve(txn, PEAL_TREE_META, peal_span_of(name),
                                         PEAL_RECORD_BLOB + bytes.size, &value);
    if (err == PEAL_OK) peal_blob_encode(peal_span_of(name), bytes, value);
    return err;
}

/* ---- transaction ------------------------------------------------------------------------ */

enum {
    QUIET_MS = 10000,          /* after a piece of a slot was exported retention waits that long */
    LOG_RECORDS_MAX = 4 << 20, /* not settled */
    /* Records of the log that may stay for nothing but their ids, beside as many as there are ids:
     * to write these again has to be worth it. */
    IDS_HOLD = 1 << 18,
    ID_BYTES = 100, /* of a record that is nothing but an id, and a little more */
};

enum peal_err peal_batch_init(struct peal_batch *batch, struct peal_db *log, struct peal_db *inbox,
                              const struct peal_config *config, uint64_t generation, uint64_t boot)
{
    *batch = (struct peal_batch){
        .log = log, .inbox = inbox, .boot = boot, .bytes_max = config->store.max};
    enum peal_err err = peal_ids_init(&batch->ids, config->dedup.age_ms, config->dedup.ids);
    return err == PEAL_OK ? peal_heads_init(&batch->heads, inbox, generation) : err;
}

void peal_batch_fini(struct peal_batch *batch)
{
    peal_heads_fini(&batch->heads);
    peal_ids_fini(&batch->ids);
    peal_buf_fini(&batch->scratch);
}

/* Messages that are kept, by the count of the file and what the log has beyond it. */
static void count_present(struct peal_batch *batch)
{
    int64_t present = (int64_t)batch->inbox_entries + batch->heads.unmoved;
    peal_count(PEAL_M_PRESENT, present - batch->present);
    batch->present = present;
}

/* Bytes of the log that the inbox has not. */
static uint64_t bytes_waiting(const struct peal_batch *batch)
{
    uint64_t there = batch->append + 1 - batch->trimmed;
    uint64_t waiting = batch->append - batch->moved;
    if (waiting >= there) return batch->log_bytes;
    return (uint64_t)((double)batch->log_bytes * (double)waiting / (double)there);
}

/* By so much the inbox may have to grow for what is in the log. */
static uint64_t bytes_to_move(const struct peal_batch *batch)
{
    uint64_t waiting = bytes_waiting(batch);
    return waiting > batch->inbox_room ? waiting - batch->inbox_room : 0;
}

enum peal_err peal_batch_begin(struct peal_batch *batch, uint64_t now_ms)
{
    /* After a failed commit only questions are answered. */
    enum peal_err err = peal_txn_begin(&batch->txn, batch->log, !peal_db_failed(batch->log));
    if (err != PEAL_OK) return err;
    peal_heads_begin(&batch->heads, &batch->txn);
    batch->now_ms = now_ms;
    batch->append = batch->seq;
    batch->wrote = false;
    batch->dropping = 0;
    batch->ids_renewed = 0;
    batch->disk_low = peal_db_disk_low(batch->log, bytes_to_move(batch));
    return PEAL_OK;
}

void peal_batch_drop(struct peal_batch *batch)
{
    peal_heads_rollback(&batch->heads);
    peal_ids_rollback(&batch->ids);
    peal_txn_abort(&batch->txn);
    batch->append = batch->seq;
}

static void count_tally(const struct peal_tally *tally)
{
    peal_count(PEAL_M_STORED, tally->stored);
    peal_count(PEAL_M_SETTLED, tally->settled);
    peal_count(PEAL_M_EXPIRED, tally->expired);
    peal_count(PEAL_M_EVICTED, tally->evicted);
    peal_count(PEAL_M_COLLAPSED, tally->collapsed);
    peal_count(PEAL_M_DAMAGED, tally->damaged);
    peal_count(PEAL_M_CORRUPT, tally->corrupt);
    peal_count(PEAL_M_STORE_MOVED_IN, tally->moved_in);
    peal_count(PEAL_M_STORE_MOVED_OUT, tally->moved_out);
}

/* Another writer would give the same numbers again: better none than two. */
static enum peal_err owner_check(struct peal_batch *batch)
{
    uint64_t owner = 0;
    enum peal_err err = peal_number_get(&batch->txn, "owner", &owner);
    if (err == PEAL_OK && owner == batch->boot) return PEAL_OK;
    peal_log(PEAL_LOG_ERROR, "store.owner_changed", "mine=%llx found=%llx",
             (unsigned long long)batch->boot, (unsigned long long)owner);
    peal_db_fail(batch->log);
    return PEAL_EIO;
}

bool peal_batch_dirty(const struct peal_batch *batch)
{
    return batch->wrote || batch->append > batch->seq;
}

bool peal_batch_full(const struct peal_batch *batch)
{
    return batch->dropping != 0; /* what comes behind has to see it */
}

enum peal_err peal_batch_finish(struct peal_batch *batch)
{
    if (!peal_batch_dirty(batch)) {
        peal_batch_drop(batch);
        return PEAL_OK;
    }
    enum peal_err err = owner_check(batch);
    uint64_t bytes = peal_txn_bytes_used(&batch->txn);
    if (err == PEAL_OK) err = peal_txn_commit(&batch->txn);
    if (err != PEAL_OK) {
        peal_batch_drop(batch);
        return err;
    }
    batch->seq = batch->append;
    batch->log_bytes = bytes;
    peal_ids_commit(&batch->ids);
    peal_ids_renewed(&batch->ids, batch->ids_renewed, batch->ids_renewed_at);
    peal_heads_commit(&batch->heads);
    if (batch->dropping != 0) {
        uint16_t slot = (uint16_t)(batch->dropping - 1);
        int64_t before = batch->heads.unmoved;
        peal_heads_drop_slot(&batch->heads, slot, batch->dropping_seq);
        batch->heads.tally.moved_out += before - batch->heads.unmoved;
    }
    peal_count(PEAL_M_COMMITS, 1);
    count_tally(&batch->heads.tally);
    count_present(batch);
    return PEAL_OK;
}

/* ---- room ------------------------------------------------------------------------------- */

/* What is in the inbox already is in the log for a while longer: it counts once. */
uint64_t peal_batch_bytes(const struct peal_batch *batch)
{
    return batch->inbox_bytes + bytes_waiting(batch);
}

static bool room_left(struct peal_batch *batch)
{
    uint64_t max = batch->bytes_max;
    batch->log_bytes = peal_txn_bytes_used(&batch->txn);
    /* What was full has to get some room before it takes anything again. */
    batch->full = peal_batch_bytes(batch) > max - max / 10 - (batch->full ? max / 50 : 0);
    if (batch->full) return false;
    if (!batch->disk_low) return true;
    /* The files may not grow; what was removed has left room inside of them. A part of it is for
     * marks, which are what makes more. */
    uint64_t file = peal_txn_bytes_file(&batch->txn);
    return batch->log_bytes <= file - file / 4 && bytes_to_move(batch) == 0;
}

bool peal_batch_short_of_room(const struct peal_batch *batch)
{
    return batch->disk_low || peal_batch_bytes(batch) > batch->bytes_max / 4 * 3 ||
           batch->log_bytes > batch->bytes_max / 8;
}

bool peal_batch_log_long(const struct peal_batch *batch)
{
    return batch->seq - batch->moved >= LOG_RECORDS_MAX || batch->log_bytes > batch->bytes_max / 3;
}

int peal_batch_slow(const struct peal_batch *batch, int most)
{
    uint64_t waiting = batch->seq - batch->moved;
    uint64_t from = LOG_RECORDS_MAX / 4 * 3;
    if (waiting < from) return 0;
    return (int)((waiting - from) * (uint64_t)most / (LOG_RECORDS_MAX - from));
}

/* ---- records ---------------------------------------------------------------------------- */

/* In what follows a returned error dooms the transaction; op->err is the answer otherwise. */

static enum peal_err append(struct peal_batch *batch, const struct peal_entry *entry)
{
    char at[PEAL_KEY_ENTRY];
    struct peal_span key = {at, sizeof at};
    char *value;
    peal_key_entry(at, batch->append + 1);
    size_t size = peal_entry_size(entry);
    enum peal_err err = peal_txn_append(&batch->txn, PEAL_TREE_LOG, key, size, &value);
    if (err != PEAL_OK) return err;
    size_t took = peal_entry_encode(key, entry, value);
    PEAL_ASSERT(took == size);
    batch->append++;
    return PEAL_OK;
}

/* The record of what was done to a head that was touched: with the numbers that it has now. */
static enum peal_err append_head(struct peal_batch *batch, struct peal_head *head,
                                 struct peal_entry *entry)
{
    const struct peal_buf *holes = &batch->heads.holes;
    peal_heads_number(&batch->heads, head);
    head->inbox.n.ver++;
    entry->group = peal_head_name(head);
    entry->numbers = head->inbox.n;
    entry->holes = (const uint64_t *)(const void *)holes->at;
    entry->hole_count = holes->size / sizeof(uint64_t);
    enum peal_err err = append(batch, entry);
    batch->heads.holes.size = 0;
    batch->slot_seq[head->slot] = batch->append;
    return err;
}

/* 53 bits, like the generation: some clients keep numbers as doubles. */
static uint64_t epoch_new(void)
{
    return (peal_random_u64() >> 11) | 1;
}

/* The record of a head was damaged in the inbox: the group begins anew. */
static enum peal_err replace_damaged(struct peal_batch *batch, struct peal_head *head)
{
    char quoted[256];
    if (!batch->txn.write) return PEAL_ECORRUPT;
    batch->heads.tally.corrupt++;
    peal_log(PEAL_LOG_ERROR, "store.head_damaged", "group=%s",
             peal_log_quote(peal_head_name(head), quoted, sizeof quoted));
    enum peal_err err = peal_heads_touch(&batch->heads, head);
    if (err != PEAL_OK) return err;
    peal_heads_reset(&batch->heads, head, epoch_new(), 0);
    return append_head(batch, head, &(struct peal_entry){.kind = PEAL_ENTRY_EPOCH});
}

static enum peal_err get(struct peal_batch *batch, struct peal_span group, struct peal_head **out)
{
    enum peal_err err = peal_heads_get(&batch->heads, group, out);
    return err == PEAL_ECORRUPT ? replace_damaged(batch, *out) : err;
}

/* A damaged record of the log may have been the newest of any group, and its number must not be
 * given again: each group begins a new epoch when it is next asked for its position. */
static enum peal_err begin_epoch_after_damage(struct peal_batch *batch, struct peal_head *head)
{
    struct peal_numbers *n = &head->inbox.n;
    if (n->damage_seq >= batch->damage || !batch->txn.write) return PEAL_OK;
    enum peal_err err = peal_heads_touch(&batch->heads, head);
    if (err != PEAL_OK) return err;
    n->epoch = epoch_new();
    n->damage_seq = batch->damage;
    return append_head(batch, head, &(struct peal_entry){.kind = PEAL_ENTRY_EPOCH});
}

/* ---- applying one operation ------------------------------------------------------------- */

static void answer_head(struct peal_store_op *op, const struct peal_head *head)
{
    const struct peal_inbox *inbox = &head->inbox;
    op->epoch = inbox->n.epoch;
    op->offset = inbox->n.next - 1;
    op->first = inbox->n.first;
    op->unread = head->marks ? peal_inbox_unread(inbox) : 0;
    op->rev = inbox->n.rev;
}

/* The envelope with the number that the message will get. */
static struct peal_bytes *encode_numbered(struct peal_buf *scratch, const struct peal_head *head,
                                          struct peal_envelope *env)
{
    env->epoch = head->inbox.n.epoch;
    env->offset = head->inbox.n.next;
    scratch->size = 0;
    peal_envelope_encode(env, scratch);
    if (!scratch->failed) return peal_bytes_new(scratch->at, scratch->size);
    peal_buf_fini(scratch);
    return NULL;
}

static enum peal_err put_message(struct peal_batch *batch, struct peal_head *head,
                                 const struct peal_envelope *env, struct peal_span encoded)
{
    struct peal_entry entry = {.kind = PEAL_ENTRY_PUT,
                               .offset = env->offset,
                               .stored_ms = batch->now_ms,
                               .envelope = encoded};
    if (env->ttl_ms != 0)
        entry.expires_ms = env->ttl_ms > UINT64_MAX - env->ts_ms ? 0 : env->ts_ms + env->ttl_ms;
    uint64_t offset = peal_inbox_add(&head->inbox, encoded.size, batch->now_ms, entry.expires_ms);
    PEAL_ASSERT(offset == env->offset);
    enum peal_err err = peal_heads_place(&batch->heads, head, offset, batch->append + 1);
    if (err == PEAL_OK) err = append_head(batch, head, &entry);
    batch->heads.tally.stored++;
    return err;
}

static enum peal_err remember(struct peal_batch *batch, const char key[PEAL_KEY_ID], uint64_t epoch,
                              uint64_t offset, uint64_t stored_ms)
{
    struct peal_id id = {
        .epoch = epoch, .offset = offset, .stored_ms = stored_ms, .seq = batch->append};
    memcpy(id.key, key, sizeof id.key);
    return peal_ids_add(&batch->ids, &id);
}

static enum peal_err apply_put(struct peal_batch *batch, struct peal_store_op *op,
                               struct peal_head *head)
{
    struct peal_envelope env;
    char key[PEAL_KEY_ID];
    if (peal_envelope_decode(op->message, &env) != PEAL_OK ||
        !peal_span_equal(env.group, op->group) || env.id.size > PEAL_MESSAGE_ID_MAX) {
        op->err = PEAL_EBAD_MESSAGE;
        return PEAL_OK;
    }
    bool dedup = env.flags & PEAL_MSG_ID_GIVEN && env.id.size > 0;
    if (dedup) {
        peal_key_id(key, op->group, env.id);
        const struct peal_id *first = peal_ids_find(&batch->ids, key, batch->now_ms);
        if (first != NULL) {
            answer_head(op, head);
            op->duplicate = true;
            op->epoch = first->epoch;
            op->offset = first->offset;
            return PEAL_OK;
        }
    }
    if (!room_left(batch)) {
        op->err = PEAL_ESTORE_FULL;
        return PEAL_OK;
    }
    enum peal_err err = peal_heads_touch(&batch->heads, head);
    if (err != PEAL_OK) return err;
    op->encoded = encode_numbered(&batch->scratch, head, &env);
    if (op->encoded == NULL) return PEAL_ENOMEM;
    struct peal_span encoded = peal_bytes_span(op->encoded);
    bool changed;
    /* First, so that nothing else has to go for what only replaces. */
    if (env.collapse.size > 0) err = peal_heads_collapse(&batch->heads, head, env.collapse);
    if (err != PEAL_OK) return err;
    err = peal_heads_retain(&batch->heads, head, op->policy, batch->now_ms, 1, encoded.size,
                            PEAL_RETAIN_MESSAGES, &changed);
    if (err == PEAL_OK) err = put_message(batch, head, &env, encoded);
    if (err == PEAL_OK && dedup) err = remember(batch, key, env.epoch, env.offset, batch->now_ms);
    if (err == PEAL_OK) answer_head(op, head);
    return err;
}

static enum peal_err apply_mark(struct peal_batch *batch, struct peal_store_op *op,
                                struct peal_head *head)
{
    if (!head->marks) {
        op->err = PEAL_EBAD_GROUP;
        return PEAL_OK;
    }
    struct peal_mark mark = {.flags = op->mark_flags,
                             .upto = op->upto,
                             .offsets = op->offsets,
                             .offset_count = op->offset_count};
    enum peal_err err = peal_heads_touch(&batch->heads, head);
    if (err != PEAL_OK) return err;
    op->changed = peal_inbox_mark(&head->inbox, op->policy, &mark, batch->now_ms);
    if (op->changed) {
        struct peal_entry entry = {
            .kind = PEAL_ENTRY_MARK,
            .read = (op->mark_flags & PEAL_FLAG_READ) != 0 ||
                    op->policy->keep.until == PEAL_UNTIL_ACKED,
            .upto = op->mark_flags & PEAL_FLAG_ALL || op->upto >= head->inbox.n.next
                        ? head->inbox.n.next - 1
                        : op->upto,
            .offsets = op->offsets,
            .offset_count = op->offset_count,
        };
        bool changed;
        err = peal_heads_retain(&batch->heads, head, op->policy, batch->now_ms, 0, 0,
                                PEAL_RETAIN_MESSAGES, &changed);
        if (err == PEAL_OK) err = append_head(batch, head, &entry);
    }
    if (err == PEAL_OK) answer_head(op, head);
    return err;
}

static enum peal_err begin_epoch(struct peal_batch *batch, struct peal_head *head)
{
    enum peal_err err = peal_heads_touch(&batch->heads, head);
    if (err != PEAL_OK) return err;
    head->inbox.n.epoch = epoch_new();
    return append_head(batch, head, &(struct peal_entry){.kind = PEAL_ENTRY_EPOCH});
}

/* A node knows a position that the group has not reached: the head went back. */
static enum peal_err apply_head(struct peal_batch *batch, struct peal_store_op *op,
                                struct peal_head *head)
{
    char quoted[256];
    const struct peal_numbers *n = &head->inbox.n;
    enum peal_err err = PEAL_OK;
    if (batch->txn.write && op->seen_epoch == n->epoch && op->seen_offset >= n->next) {
        peal_log(PEAL_LOG_ERROR, "store.head_went_back", "group=%s newest=%llu seen=%llu",
                 peal_log_quote(peal_head_name(head), quoted, sizeof quoted),
                 (unsigned long long)(n->next - 1), (unsigned long long)op->seen_offset);
        err = begin_epoch(batch, head);
    }
    if (err == PEAL_OK) answer_head(op, head);
    return err;
}

enum peal_err peal_batch_retain(struct peal_batch *batch, struct peal_span group,
                                const struct peal_config_group *policy)
{
    struct peal_head *head;
    bool changed = false;
    enum peal_err err = get(batch, group, &head);
    if (err != PEAL_OK) return err;
    if (head->slot == batch->quiet_slot && batch->now_ms < batch->quiet_until_ms) return PEAL_OK;
    if (peal_inbox_due_ms(&head->inbox, policy) > batch->now_ms) return PEAL_OK;
    err = peal_heads_retain(&batch->heads, head, policy, batch->now_ms, 0, 0, PEAL_RETAIN_MESSAGES,
                            &changed);
    if (err == PEAL_OK && changed)
        err = append_head(batch, head, &(struct peal_entry){.kind = PEAL_ENTRY_TRIM});
    return err;
}

enum peal_err peal_batch_renew(struct peal_batch *batch, struct peal_span group)
{
    struct peal_head *head;
    batch->heads.holes.size = 0;
    enum peal_err err = get(batch, group, &head);
    if (err != PEAL_OK || !peal_head_exists(head)) return err;
    return begin_epoch(batch, head);
}

/* ---- slots ------------------------------------------------------------------------------ */

bool peal_batch_parks(const struct peal_batch *batch, const struct peal_store_op *op, uint64_t *seq)
{
    if (op->kind != PEAL_STORE_EXPORT) return false;
    PEAL_ASSERT(op->mark_flags < PEAL_SLOTS);
    *seq = batch->slot_seq[op->mark_flags];
    if (*seq > batch->append) *seq = batch->append; /* it was of a batch that has not happened */
    return *seq > batch->moved;
}

static enum peal_err apply_export(struct peal_batch *batch, struct peal_store_op *op)
{
    struct peal_txn inbox;
    batch->quiet_slot = (uint16_t)op->mark_flags;
    batch->quiet_until_ms = batch->now_ms + QUIET_MS;
    enum peal_err err = peal_txn_begin(&inbox, batch->inbox, false);
    if (err == PEAL_OK) {
        err = peal_moving_export(&inbox, op);
        peal_txn_abort(&inbox);
    }
    return err;
}

static enum peal_err drop(struct peal_batch *batch, uint16_t slot)
{
    struct peal_entry entry = {.kind = PEAL_ENTRY_DROP, .slot = slot};
    enum peal_err err = append(batch, &entry);
    batch->dropping = (uint16_t)(slot + 1);
    batch->dropping_seq = batch->slot_seq[slot] = batch->append;
    return err;
}

static enum peal_err import_state(struct peal_batch *batch, struct peal_head *head,
                                  const struct peal_entry *entry)
{
    struct peal_numbers *n = &head->inbox.n;
    if (peal_head_exists(head) && !peal_moving_is_news(n, &entry->numbers)) return PEAL_OK;
    enum peal_err err = peal_heads_touch(&batch->heads, head);
    if (err != PEAL_OK) return err;
    uint64_t ver = n->ver;
    peal_heads_reset(&batch->heads, head, entry->numbers.epoch, ver + 1);
    bool applied;
    struct peal_entry state = *entry;
    state.numbers.ver = ver + 2; /* newer than what reset has made */
    err = peal_entry_apply(&state, &head->inbox, &applied);
    if (err != PEAL_OK) return err;
    n->ver = ver;
    n->gid = 0; /* of another life: what there was before has no part in it */
    head->places.base = n->first;
    err = append_head(batch, head, &state);
    head->begin_ver = n->ver;
    return err;
}

static enum peal_err import_message(struct peal_batch *batch, struct peal_head *head,
                                    const struct peal_entry *entry)
{
    struct peal_envelope env;
    char key[PEAL_KEY_ID];
    struct peal_entry message = *entry;
    if (entry->offset < head->inbox.n.first || entry->offset >= head->inbox.n.next ||
        peal_envelope_decode(entry->envelope, &env) != PEAL_OK)
        return PEAL_OK; /* it went meanwhile, or says nothing */
    enum peal_err err = peal_heads_touch(&batch->heads, head);
    peal_heads_collapse_forget(&batch->heads, head);
    if (err == PEAL_OK)
        err = peal_heads_place(&batch->heads, head, entry->offset, batch->append + 1);
    if (err == PEAL_OK) err = append_head(batch, head, &message);
    batch->heads.tally.moved_in++;
    if (err != PEAL_OK || !(env.flags & PEAL_MSG_ID_GIVEN) || env.id.size == 0) return err;
    peal_key_id(key, env.group, env.id);
    if (peal_ids_find(&batch->ids, key, batch->now_ms) != NULL) return PEAL_OK;
    return remember(batch, key, env.epoch, env.offset, entry->stored_ms);
}

static enum peal_err import_entry(void *ctx, const struct peal_entry *entry)
{
    struct peal_batch *batch = ctx;
    struct peal_head *head;
    enum peal_err err = get(batch, entry->group, &head);
    if (err != PEAL_OK) return err;
    return entry->kind == PEAL_ENTRY_STATE ? import_state(batch, head, entry)
                                           : import_message(batch, head, entry);
}

/* The first piece is preceded by a DROP in a transaction of its own: see peal_batch_full. */
static enum peal_err apply_import(struct peal_batch *batch, struct peal_store_op *op)
{
    struct peal_moving_sink sink = {batch, import_entry};
    enum peal_err err = peal_moving_import(op, &sink);
    if (err != PEAL_EBAD_MESSAGE) return err;
    op->err = err;
    return PEAL_OK;
}

void peal_batch_reset(struct peal_store_op *op)
{
    peal_bytes_unref(op->encoded);
    op->encoded = NULL;
    op->err = PEAL_OK;
    op->duplicate = op->changed = false;
    op->epoch = op->offset = op->first = op->unread = op->rev = 0;
}

/* What concerns slots and not one group. */
static enum peal_err apply_to_slots(struct peal_batch *batch, struct peal_store_op *op)
{
    switch (op->kind) {
    case PEAL_STORE_SLOTS:
        batch->wrote = true;
        return peal_blob_put(&batch->txn, "slots", op->message);
    case PEAL_STORE_EXPORT:
        return apply_export(batch, op);
    case PEAL_STORE_IMPORT:
        if (room_left(batch)) return apply_import(batch, op);
        op->err = PEAL_ESTORE_FULL;
        return PEAL_OK;
    case PEAL_STORE_DROP:
        return drop(batch, (uint16_t)op->mark_flags);
    default:
        break;
    }
    PEAL_ASSERT(false);
    return PEAL_EINTERNAL;
}

enum peal_err peal_batch_apply(struct peal_batch *batch, struct peal_store_op *op)
{
    struct peal_head *head;
    peal_batch_reset(op);
    batch->heads.holes.size = 0;
    bool asks = op->kind == PEAL_STORE_HEAD || op->kind == PEAL_STORE_EXPORT;
    if (!asks && !batch->txn.write) {
        op->err = PEAL_EIO;
        return PEAL_OK;
    }
    if (op->kind >= PEAL_STORE_SLOTS) return apply_to_slots(batch, op);
    if (peal_name_check(op->group) != PEAL_OK) {
        op->err = PEAL_EBAD_GROUP;
        return PEAL_OK;
    }
    enum peal_err err = get(batch, op->group, &head);
    bool asks_position = op->kind == PEAL_STORE_HEAD && peal_head_exists(head);
    if (err == PEAL_OK && (asks_position || op->kind == PEAL_STORE_PUT))
        err = begin_epoch_after_damage(batch, head);
    if (err != PEAL_OK) return err;
    switch (op->kind) {
    case PEAL_STORE_HEAD:
        return apply_head(batch, op, head);
    case PEAL_STORE_PUT:
        return apply_put(batch, op, head);
    case PEAL_STORE_MARK:
        return apply_mark(batch, op, head);
    default: /* above */
        break;
    }
    PEAL_ASSERT(false);
    return PEAL_EINTERNAL;
}

/* ---- the log ---------------------------------------------------------------------------- */

/* Do ids hold back much of the log, or, while there is little room, twice of what they take alone?
 * Once they were written again neither is true. */
static bool ids_hold_much(const struct peal_batch *batch)
{
    uint64_t held = batch->moved + 1 - peal_ids_first_seq(&batch->ids);
    uint64_t count = batch->ids.map.count;
    if (held >= IDS_HOLD + 2 * count) return true;
    if (!peal_batch_short_of_room(batch)) return false;
    double there = (double)(batch->append + 1 - batch->trimmed);
    double bytes = (double)batch->log_bytes * (double)held / there;
    return bytes > 2.0 * ID_BYTES * (double)(held < count ? held : count);
}

static enum peal_err renew_ids(struct peal_batch *batch, size_t most)
{
    if (!ids_hold_much(batch)) return PEAL_OK;
    const struct peal_id *id = NULL;
    batch->ids_renewed_at = batch->append + 1;
    while (batch->ids_renewed < most && (id = peal_ids_next(&batch->ids, id)) != NULL &&
           id->seq <= batch->moved) {
        struct peal_entry entry = {.kind = PEAL_ENTRY_ID,
                                   .epoch = id->epoch,
                                   .offset = id->offset,
                                   .stored_ms = id->stored_ms};
        memcpy(entry.id, id->key, sizeof entry.id);
        enum peal_err err = append(batch, &entry);
        if (err != PEAL_OK) return err;
        batch->ids_renewed++;
    }
    return PEAL_OK;
}

bool peal_batch_trims(const struct peal_batch *batch)
{
    return batch->moved + 1 > batch->trimmed;
}

enum peal_err peal_batch_trim(struct peal_batch *batch, size_t most)
{
    char at[PEAL_KEY_ENTRY];
    uint64_t to = batch->moved + 1;
    uint64_t ids = peal_ids_first_seq(&batch->ids);
    if (!batch->txn.write) return PEAL_OK;
    /* What is renewed now goes the next time. */
    if (ids < to) {
        enum peal_err err = renew_ids(batch, most);
        if (err != PEAL_OK) return err;
        to = ids;
    }
    if (to <= batch->trimmed) return PEAL_OK;
    if (to - batch->trimmed > most) to = batch->trimmed + most;
    size_t removed;
    peal_key_entry(at, to);
    enum peal_err err = peal_txn_del_below(&batch->txn, PEAL_TREE_LOG,
                                           peal_span_make(at, sizeof at), most, &removed);
    if (err == PEAL_OK) err = peal_number_put(&batch->txn, "moved", batch->moved);
    if (err != PEAL_OK) return err;
    batch->trimmed = to; /* a transaction that fails leaves some records longer than need be */
    batch->wrote = true;
    return PEAL_OK;
}

void peal_batch_note(struct peal_batch *batch, const struct peal_settle_note *note)
{
    if (note->kind == PEAL_SETTLE_MOVED || note->kind == PEAL_SETTLE_DONE) {
        batch->inbox_entries = note->entries;
        batch->inbox_bytes = note->bytes;
        batch->inbox_room = note->room;
    }
    peal_count(PEAL_M_CORRUPT, (int64_t)note->corrupt);
    peal_count(PEAL_M_STORE_MOVED_OUT, (int64_t)note->dropped);
    peal_heads_dropped(&batch->heads, note->dropped_to);
    if (note->kind == PEAL_SETTLE_MOVED) {
        for (size_t i = 0; i < note->group_count; i++) {
            const struct peal_settle_group *g = &note->groups[i];
            peal_heads_moved(&batch->heads, g,
                             peal_span_make(note->names + g->name_at, g->name_size));
        }
    }
    if (note->kind == PEAL_SETTLE_DONE) batch->moved = note->seq;
    count_present(batch);
}

/* ---- start ------------------------------------------------------------------------------ */

static enum peal_err replay_known(struct peal_batch *batch, const char key[PEAL_KEY_ID],
                                  const struct peal_entry *at, uint64_t seq)
{
    batch->append = seq;
    enum peal_err err = remember(batch, key, at->epoch, at->offset, at->stored_ms);
    peal_ids_commit(&batch->ids);
    if (batch->ids.map.count > batch->ids.count_max) peal_ids_trim(&batch->ids, at->stored_ms, 1);
    return err;
}

static enum peal_err replay_id(struct peal_batch *batch, const struct peal_entry *entry,
                               uint64_t seq, uint64_t now_ms)
{
    struct peal_envelope env;
    char key[PEAL_KEY_ID];
    bool message = entry->kind == PEAL_ENTRY_PUT || entry->kind == PEAL_ENTRY_MESSAGE;
    bool old = now_ms > entry->stored_ms && now_ms - entry->stored_ms >= batch->ids.age_ms;
    if (old) return PEAL_OK;
    if (entry->kind == PEAL_ENTRY_ID) return replay_known(batch, entry->id, entry, seq);
    if (!message || peal_envelope_decode(entry->envelope, &env) != PEAL_OK ||
        !(env.flags & PEAL_MSG_ID_GIVEN) || env.id.size == 0)
        return PEAL_OK;
    peal_key_id(key, entry->group, env.id);
    struct peal_entry known = {
        .epoch = env.epoch, .offset = env.offset, .stored_ms = entry->stored_ms};
    return replay_known(batch, key, &known, seq);
}

static void seen(struct peal_batch *batch, uint64_t seq)
{
    batch->seq = seq;
    if (batch->trimmed == 0) batch->trimmed = seq;
}

/* It may be the key that is damaged: where that is not the next one the record is taken out,
 * because nothing could be appended behind it. */
static enum peal_err replay_damaged(struct peal_batch *batch, uint64_t seq)
{
    bool next = batch->seq == 0 || seq == batch->seq + 1;
    peal_count(PEAL_M_CORRUPT, 1);
    peal_log(PEAL_LOG_ERROR, "store.record_damaged", "seq=%llu", (unsigned long long)seq);
    if (!next && batch->misplaced != 0) return PEAL_ECORRUPT;
    if (next)
        seen(batch, seq);
    else
        batch->misplaced = seq;
    uint64_t lost = next ? seq : batch->seq + 1;
    if (lost > batch->moved && lost > batch->damage) batch->damage = lost;
    return PEAL_OK;
}

static enum peal_err replay_record(struct peal_batch *batch, struct peal_span key,
                                   struct peal_span value, uint64_t now_ms)
{
    struct peal_entry entry;
    uint64_t seq;
    enum peal_err err = peal_key_entry_seq(key, &seq);
    if (err != PEAL_OK) return err; /* no key of ours */
    err = peal_entry_decode(key, value, &batch->heads.room, &entry);
    if (err == PEAL_ECORRUPT) return replay_damaged(batch, seq);
    if (err == PEAL_OK) seen(batch, seq);
    if (err == PEAL_OK) err = replay_id(batch, &entry, seq, now_ms);
    if (err != PEAL_OK || seq <= batch->moved) return err;
    err = peal_heads_replay(&batch->heads, &entry, seq);
    if (entry.kind == PEAL_ENTRY_DROP)
        batch->slot_seq[entry.slot] = seq;
    else if (entry.kind != PEAL_ENTRY_ID)
        batch->slot_seq[peal_group_slot(entry.group)] = seq;
    return err;
}

/* So that it counts once, and for good. */
static enum peal_err note_damage(struct peal_batch *batch)
{
    struct peal_txn txn;
    enum peal_err err = peal_txn_begin(&txn, batch->log, true);
    if (err != PEAL_OK) return err;
    err = peal_number_put(&txn, "damage", batch->damage);
    if (err == PEAL_OK && batch->misplaced != 0) {
        char at[PEAL_KEY_ENTRY];
        peal_key_entry(at, batch->misplaced);
        err = peal_txn_del(&txn, PEAL_TREE_LOG, peal_span_make(at, sizeof at));
    }
    if (err == PEAL_OK) return peal_txn_commit(&txn);
    peal_txn_abort(&txn);
    return err;
}

/* All of the log. A walk that passes fewer records than there are has been led astray. */
static enum peal_err replay_log(struct peal_batch *batch, struct peal_txn *txn, uint64_t now_ms)
{
    struct peal_scan scan;
    struct peal_span key;
    struct peal_span value;
    uint64_t passed = 0;
    enum peal_err err = peal_scan_begin(&scan, txn, PEAL_TREE_LOG, peal_span_of(""));
    if (err != PEAL_OK) return err;
    for (; (err = peal_scan_next(&scan, &key, &value)) == PEAL_OK; passed++)
        if ((err = replay_record(batch, key, value, now_ms)) != PEAL_OK) break;
    peal_scan_end(&scan);
    if (err != PEAL_ENOT_FOUND) return err;
    return passed == peal_txn_entries(txn, PEAL_TREE_LOG) ? PEAL_OK : PEAL_ECORRUPT;
}

enum peal_err peal_batch_replay(struct peal_batch *batch, uint64_t now_ms)
{
    struct peal_txn txn;
    struct peal_txn inbox;
    enum peal_err err = peal_txn_begin(&inbox, batch->inbox, false);
    if (err != PEAL_OK) return err;
    batch->inbox_entries = peal_txn_entries(&inbox, PEAL_TREE_MESSAGE);
    batch->inbox_bytes = peal_txn_bytes_used(&inbox);
    batch->inbox_room = peal_txn_bytes_free(&inbox);
    err = peal_number_get(&inbox, "gid", &batch->heads.gid);
    peal_txn_abort(&inbox);
    if (err == PEAL_OK) err = peal_txn_begin(&txn, batch->log, false);
    if (err != PEAL_OK) return err;
    peal_heads_begin(&batch->heads, &txn);
    uint64_t damage = 0;
    err = peal_number_get(&txn, "moved", &batch->moved);
    if (err == PEAL_OK) err = peal_number_get(&txn, "damage", &damage);
    batch->damage = damage;
    batch->log_bytes = peal_txn_bytes_used(&txn);
    if (err == PEAL_OK) err = replay_log(batch, &txn, now_ms);
    peal_heads_commit(&batch->heads);
    peal_txn_abort(&txn);
    if (batch->seq < batch->moved) batch->seq = batch->moved;
    batch->append = batch->seq;
    if (batch->trimmed == 0) batch->trimmed = batch->seq + 1;
    peal_count(PEAL_M_FOUND, (int64_t)batch->inbox_entries + batch->heads.unmoved);
    count_present(batch);
    bool news = batch->damage > damage || batch->misplaced != 0;
    return err == PEAL_OK && news ? note_damage(batch) : err;
}

#include "storage/batch.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/metrics.h"
#include "proto/envelope.h"
#include "proto/group.h"
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

enum peal_err peal_batch_init(struct peal_batch *batch, struct peal_db *db,
                              const struct peal_config *config, uint64_t generation, uint64_t boot)
{
    *batch = (struct peal_batch){.db = db, .boot = boot};
    batch->ids = (struct peal_ids){
        .txn = &batch->txn, .age_ms = config->dedup.age_ms, .count_max = config->dedup.ids};
    return peal_heads_init(&batch->heads, generation);
}

void peal_batch_fini(struct peal_batch *batch)
{
    peal_heads_fini(&batch->heads);
}

/* What is in the file by its own count and not by ours: the two are there to be compared. */
static void count_present(struct peal_batch *batch, uint64_t present)
{
    if (!batch->counted) peal_count(PEAL_M_FOUND, (int64_t)present);
    batch->counted = true;
    peal_count(PEAL_M_PRESENT, (int64_t)(present - batch->present));
    batch->present = present;
}

enum peal_err peal_batch_begin(struct peal_batch *batch, uint64_t now_ms)
{
    /* After a failed commit only questions are answered. */
    enum peal_err err = peal_txn_begin(&batch->txn, batch->db, !peal_db_failed(batch->db));
    if (err != PEAL_OK) return err;
    peal_heads_begin(&batch->heads, &batch->txn);
    batch->now_ms = batch->ids.now_ms = now_ms;
    batch->ids.wrote = false;
    batch->ids.corrupt = 0;
    batch->wrote = false;
    batch->disk_low = peal_db_disk_low(batch->db);
    if (!batch->counted) count_present(batch, peal_txn_entries(&batch->txn, PEAL_TREE_MESSAGE));
    return PEAL_OK;
}

void peal_batch_drop(struct peal_batch *batch)
{
    peal_heads_end(&batch->heads);
    peal_txn_abort(&batch->txn);
}

static void count_tally(const struct peal_tally *tally)
{
    peal_count(PEAL_M_STORED, tally->stored);
    peal_count(PEAL_M_SETTLED, tally->settled);
    peal_count(PEAL_M_EXPIRED, tally->expired);
    peal_count(PEAL_M_EVICTED, tally->evicted);
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
    peal_db_fail(batch->db);
    return PEAL_EIO;
}

bool peal_batch_dirty(const struct peal_batch *batch)
{
    return batch->wrote || batch->ids.wrote || peal_heads_dirty(&batch->heads);
}

enum peal_err peal_batch_finish(struct peal_batch *batch)
{
    if (!peal_batch_dirty(batch)) {
        peal_batch_drop(batch);
        return PEAL_OK;
    }
    enum peal_err err = peal_heads_write(&batch->heads);
    if (err == PEAL_OK) err = owner_check(batch);
    uint64_t present = peal_txn_entries(&batch->txn, PEAL_TREE_MESSAGE);
    if (err == PEAL_OK) err = peal_txn_commit(&batch->txn);
    if (err == PEAL_OK) {
        count_present(batch, present);
        peal_count(PEAL_M_COMMITS, 1);
        count_tally(&batch->heads.tally);
        peal_count(PEAL_M_CORRUPT, batch->ids.corrupt);
    }
    peal_batch_drop(batch);
    return err;
}

/* ---- applying one operation ------------------------------------------------------------- */

/* In this section a returned error dooms the transaction; op->err is the answer otherwise. */

static void answer_head(struct peal_store_op *op, const struct peal_head *head)
{
    const struct peal_inbox *inbox = &head->inbox;
    op->epoch = inbox->epoch;
    op->offset = inbox->next - 1;
    op->first = inbox->first;
    op->unread = head->marks ? peal_inbox_unread(inbox) : 0;
    op->rev = inbox->rev;
}

static bool room_left(struct peal_batch *batch)
{
    uint64_t max = peal_db_bytes_max(batch->db);
    uint64_t used = peal_txn_bytes_used(&batch->txn);
    if (used > max - max / 10) return false;
    if (!batch->disk_low) return true;
    /* The file may not grow; what was settled and removed has left room inside of it. */
    uint64_t file = peal_txn_bytes_file(&batch->txn);
    return used <= file - file / 10;
}

/* The envelope with the number that the message will get. */
static struct peal_bytes *encode_numbered(const struct peal_head *head, struct peal_envelope *env)
{
    struct peal_buf buf = {0};
    env->epoch = head->inbox.epoch;
    env->offset = head->inbox.next;
    peal_envelope_encode(env, &buf);
    struct peal_bytes *bytes = buf.failed ? NULL : peal_bytes_new(buf.at, buf.size);
    peal_buf_fini(&buf);
    return bytes;
}

static enum peal_err write_message(struct peal_batch *batch, struct peal_head *head,
                                   const struct peal_envelope *env, struct peal_span encoded)
{
    char at[PEAL_KEY_MESSAGE];
    struct peal_span key = {at, sizeof at};
    struct peal_record record = {.stored_ms = batch->now_ms, .envelope = encoded};
    if (env->ttl_ms != 0)
        record.expires_ms = env->ttl_ms > UINT64_MAX - env->ts_ms ? 0 : env->ts_ms + env->ttl_ms;
    char *value;
    peal_key_message(at, head->slot, head->inbox.gid, env->offset);
    enum peal_err err = peal_txn_reserve(&batch->txn, PEAL_TREE_MESSAGE, key,
                                         PEAL_RECORD_MESSAGE + encoded.size, &value);
    if (err != PEAL_OK) return err;
    peal_record_encode(key, &record, value);
    uint64_t offset = peal_inbox_add(&head->inbox, encoded.size, batch->now_ms, record.expires_ms);
    PEAL_ASSERT(offset == env->offset);
    head->dirty = true;
    batch->heads.tally.stored++;
    return PEAL_OK;
}

static enum peal_err apply_put(struct peal_batch *batch, struct peal_store_op *op,
                               struct peal_head *head)
{
    struct peal_envelope env;
    char id[PEAL_KEY_ID];
    if (peal_envelope_decode(op->message, &env) != PEAL_OK ||
        !peal_span_equal(env.group, op->group) || env.id.size > PEAL_MESSAGE_ID_MAX) {
        op->err = PEAL_EBAD_MESSAGE;
        return PEAL_OK;
    }
    bool dedup = env.flags & PEAL_MSG_ID_GIVEN && env.id.size > 0;
    if (dedup) {
        struct peal_id_record first;
        peal_key_id(id, op->group, env.id);
        enum peal_err err = peal_ids_find(&batch->ids, id, &op->duplicate, &first);
        if (err != PEAL_OK) return err;
        if (op->duplicate) {
            answer_head(op, head);
            op->epoch = first.epoch;
            op->offset = first.offset;
            return PEAL_OK;
        }
    }
    if (!room_left(batch)) {
        op->err = PEAL_ESTORE_FULL;
        return PEAL_OK;
    }
    enum peal_err err = head->exists ? PEAL_OK : peal_heads_create(&batch->heads, head);
    if (err != PEAL_OK) return err;
    op->encoded = encode_numbered(head, &env);
    if (op->encoded == NULL) return PEAL_ENOMEM;
    struct peal_span encoded = peal_bytes_span(op->encoded);
    err = peal_heads_retain(&batch->heads, head, op->policy, batch->now_ms, 1, encoded.size,
                            PEAL_RETAIN_MESSAGES);
    if (err == PEAL_OK) err = write_message(batch, head, &env, encoded);
    if (err == PEAL_OK && dedup)
        err = peal_ids_add(&batch->ids, id,
                           &(struct peal_id_record){env.epoch, env.offset, batch->now_ms});
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
    op->changed = peal_inbox_mark(&head->inbox, op->policy, &mark, batch->now_ms);
    if (op->changed) head->dirty = true;
    enum peal_err err = PEAL_OK;
    if (op->changed)
        err = peal_heads_retain(&batch->heads, head, op->policy, batch->now_ms, 0, 0,
                                PEAL_RETAIN_MESSAGES);
    if (err == PEAL_OK) answer_head(op, head);
    return err;
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
        return peal_moving_export(batch, op);
    case PEAL_STORE_IMPORT:
        if (room_left(batch)) return peal_moving_import(batch, op);
        op->err = PEAL_ESTORE_FULL;
        return PEAL_OK;
    case PEAL_STORE_DROP:
        return peal_moving_drop(batch, (uint16_t)op->mark_flags);
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
    enum peal_err err = peal_heads_get(&batch->heads, op->group, &head);
    if (err != PEAL_OK) return err;
    switch (op->kind) {
    case PEAL_STORE_HEAD:
        err = peal_heads_seen(&batch->heads, head, op->seen_epoch, op->seen_offset);
        if (err == PEAL_OK) answer_head(op, head);
        return err;
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

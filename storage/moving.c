#include "storage/moving.h"

#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "proto/envelope.h"
#include "proto/group.h"
#include "proto/wire.h"

enum {
    PIECE_ENTRIES = 3 * 512,
    PIECE_BYTES = 256 * 1024, /* a larger record still fits */
    QUIET_MS = 10000,         /* after a piece retention waits that long */
};

/* A piece that is being filled. What it points at is in the map and stays until a write. */
struct piece {
    struct peal_span at[PIECE_ENTRIES + 3];
    size_t count;
    size_t bytes;
};

static bool is_full(const struct piece *p)
{
    return p->count + 6 > PIECE_ENTRIES || p->bytes >= PIECE_BYTES;
}

static void add(struct piece *p, const char *tree, struct peal_span key, struct peal_span record)
{
    p->at[p->count++] = peal_span_make(tree, 1);
    p->at[p->count++] = key;
    p->at[p->count++] = record;
    p->bytes += key.size + record.size;
}

/* ---- export ------------------------------------------------------------------------------- */

/* Where a piece ends: at a message of a group, 0 = at its head; no group: at the end of the slot.
 */
struct place {
    struct peal_span group;
    uint64_t from;
};

/* `ids` gets room for the key of an id, which is no record's. */
static enum peal_err add_message(struct peal_batch *b, struct piece *p, struct peal_span key,
                                 struct peal_span value, char *id)
{
    struct peal_record record;
    struct peal_envelope env;
    if (peal_record_decode(key, value, &record) != PEAL_OK ||
        peal_envelope_decode(record.envelope, &env) != PEAL_OK)
        return PEAL_OK; /* damaged: it stays behind */
    add(p, "m", key, value);
    if (!(env.flags & PEAL_MSG_ID_GIVEN) || env.id.size == 0) return PEAL_OK;
    struct peal_span found;
    peal_key_id(id, env.group, env.id);
    enum peal_err err =
        peal_txn_get(&b->txn, PEAL_TREE_IDS, peal_span_make(id, PEAL_KEY_ID), &found);
    if (err == PEAL_OK) add(p, "i", peal_span_make(id, PEAL_KEY_ID), found);
    return err == PEAL_ENOT_FOUND ? PEAL_OK : err;
}

/* Messages of one group from place->from on. place->from becomes 0 when all of them fitted. */
static enum peal_err add_messages(struct peal_batch *b, struct piece *p, uint16_t slot,
                                  uint64_t gid, struct place *place,
                                  char ids[PIECE_ENTRIES][PEAL_KEY_ID])
{
    uint64_t from = place->from == 0 ? 1 : place->from;
    for (;;) {
        char at[PEAL_KEY_MESSAGE];
        struct peal_span key;
        struct peal_span value;
        place->from = from;
        if (is_full(p)) return PEAL_OK;
        peal_key_message(at, slot, gid, from);
        enum peal_err err =
            peal_txn_seek(&b->txn, PEAL_TREE_MESSAGE, peal_span_make(at, sizeof at), &key, &value);
        uint64_t offset = err == PEAL_OK ? peal_key_message_offset(key, slot, gid) : 0;
        if (err != PEAL_OK && err != PEAL_ENOT_FOUND) return err;
        if (offset == 0) {
            place->from = 0;
            return PEAL_OK;
        }
        err = add_message(b, p, key, value, ids[p->count]);
        if (err != PEAL_OK) return err;
        from = offset + 1;
    }
}

static bool is_of_slot(struct peal_span key, uint16_t slot)
{
    return key.size >= 2 && (unsigned char)key.at[0] == slot >> 8 &&
           (unsigned char)key.at[1] == (slot & 0xff);
}

/* The smallest key of a slot in the trees head and message. */
static struct peal_span slot_key(char out[2], uint16_t slot)
{
    out[0] = (char)(slot >> 8);
    out[1] = (char)(slot & 0xff);
    return peal_span_make(out, 2);
}

/* The head after `after`, a key, or at place->group. Errors: PEAL_ENOT_FOUND. */
static enum peal_err next_head(struct peal_batch *b, uint16_t slot, const struct place *place,
                               struct peal_span after, struct peal_span *key,
                               struct peal_span *value)
{
    char room[PEAL_KEY_HEAD_MAX + 1];
    struct peal_span from = slot_key(room, slot);
    if (after.at != NULL) {
        memcpy(room, after.at, after.size);
        room[after.size] = '\0'; /* the smallest key behind it */
        from = peal_span_make(room, after.size + 1);
    } else if (place->group.size > 0) {
        from = peal_span_make(room, peal_key_head(room, place->group));
    }
    enum peal_err err = peal_txn_seek(&b->txn, PEAL_TREE_HEAD, from, key, value);
    return err == PEAL_OK && !is_of_slot(*key, slot) ? PEAL_ENOT_FOUND : err;
}

/* Fills a piece from place on; place becomes where it ends. */
static enum peal_err fill(struct peal_batch *b, struct piece *p, uint16_t slot, struct place *place,
                          char ids[PIECE_ENTRIES][PEAL_KEY_ID])
{
    struct peal_span after = {0};
    for (;;) {
        struct peal_span key;
        struct peal_span value;
        struct peal_inbox inbox;
        enum peal_err err = next_head(b, slot, place, after, &key, &value);
        if (err == PEAL_ENOT_FOUND) {
            *place = (struct place){0};
            return PEAL_OK;
        }
        if (err != PEAL_OK) return err;
        if (peal_key_head_group(key, &place->group) != PEAL_OK ||
            peal_head_decode(key, value, &inbox) != PEAL_OK) {
            peal_log(PEAL_LOG_ERROR, "store.head_not_moved", "slot=%u", slot);
            after = key;
            place->from = 0;
            continue;
        }
        if (is_full(p)) return PEAL_OK;
        add(p, "h", key, value);
        err = add_messages(b, p, slot, inbox.gid, place, ids);
        if (err != PEAL_OK || place->from != 0) return err;
        after = key;
    }
}

enum peal_err peal_moving_export(struct peal_batch *b, struct peal_store_op *op)
{
    struct piece piece;
    char ids[PIECE_ENTRIES][PEAL_KEY_ID];
    struct peal_buf out = {0};
    struct place place = {op->group, op->upto};
    uint16_t slot = (uint16_t)op->mark_flags;
    PEAL_ASSERT(op->mark_flags < PEAL_SLOTS);
    piece.count = piece.bytes = 0;
    b->quiet_slot = slot;
    b->quiet_until_ms = b->now_ms + QUIET_MS;
    /* What this batch has changed so far is to be seen. */
    enum peal_err err = b->txn.write ? peal_heads_write(&b->heads) : PEAL_OK;
    if (err == PEAL_OK) err = fill(b, &piece, slot, &place, ids);
    if (err != PEAL_OK) return err;
    struct peal_frame records = {.type = PEAL_F_RECORDS,
                                 .group = place.group,
                                 .from = place.from,
                                 .flags = place.group.at == NULL ? PEAL_FLAG_LAST : 0};
    records.entries.at = piece.at;
    records.entries.count = piece.count;
    peal_frame_encode(&records, &out);
    if (!out.failed) op->encoded = peal_bytes_new(out.at, out.size);
    peal_buf_fini(&out);
    return op->encoded == NULL ? PEAL_ENOMEM : PEAL_OK;
}

/* ---- import ------------------------------------------------------------------------------- */

static enum peal_err import_head(struct peal_batch *b, uint16_t slot, struct peal_span key,
                                 struct peal_span value, struct peal_head **out, uint64_t *gid)
{
    struct peal_span group;
    struct peal_inbox inbox;
    if (!is_of_slot(key, slot) || peal_key_head_group(key, &group) != PEAL_OK ||
        peal_name_check(group) != PEAL_OK || peal_head_decode(key, value, &inbox) != PEAL_OK)
        return PEAL_EBAD_MESSAGE;
    enum peal_err err = peal_heads_get(&b->heads, group, out);
    if (err == PEAL_OK && !(*out)->exists) err = peal_heads_create(&b->heads, *out);
    if (err != PEAL_OK) return err;
    *gid = inbox.gid;
    inbox.gid = (*out)->inbox.gid;
    (*out)->inbox = inbox;
    (*out)->dirty = true;
    return PEAL_OK;
}

static enum peal_err import_message(struct peal_batch *b, const struct peal_head *head,
                                    uint64_t gid, struct peal_span key, struct peal_span value)
{
    char at[PEAL_KEY_MESSAGE];
    struct peal_record record;
    char *room;
    uint64_t offset = head == NULL ? 0 : peal_key_message_offset(key, head->slot, gid);
    if (offset == 0 || peal_record_decode(key, value, &record) != PEAL_OK) return PEAL_EBAD_MESSAGE;
    peal_key_message(at, head->slot, head->inbox.gid, offset);
    struct peal_span own = {at, sizeof at};
    enum peal_err err = peal_txn_reserve(&b->txn, PEAL_TREE_MESSAGE, own, value.size, &room);
    if (err != PEAL_OK) return err;
    peal_record_encode(own, &record, room);
    b->heads.tally.moved_in++;
    return PEAL_OK;
}

static enum peal_err import_id(struct peal_batch *b, struct peal_span key, struct peal_span value)
{
    struct peal_id_record record;
    if (key.size != PEAL_KEY_ID || peal_id_record_decode(key, value, &record) != PEAL_OK)
        return PEAL_EBAD_MESSAGE;
    return peal_ids_add(&b->ids, key.at, &record);
}

static enum peal_err import_all(struct peal_batch *b, uint16_t slot, const struct peal_frame *f)
{
    struct peal_head *head = NULL;
    uint64_t gid = 0;
    if (f->type != PEAL_F_RECORDS || f->entries.count % 3 != 0) return PEAL_EBAD_MESSAGE;
    for (size_t i = 0; i < f->entries.count; i += 3) {
        struct peal_span key = f->entries.at[i + 1];
        struct peal_span value = f->entries.at[i + 2];
        enum peal_err err = PEAL_EBAD_MESSAGE;
        if (peal_span_is(f->entries.at[i], "h"))
            err = import_head(b, slot, key, value, &head, &gid);
        else if (peal_span_is(f->entries.at[i], "m"))
            err = import_message(b, head, gid, key, value);
        else if (peal_span_is(f->entries.at[i], "i"))
            err = import_id(b, key, value);
        if (err != PEAL_OK) return err;
    }
    return PEAL_OK;
}

enum peal_err peal_moving_import(struct peal_batch *b, struct peal_store_op *op)
{
    struct peal_frame f;
    uint16_t slot = (uint16_t)op->mark_flags;
    PEAL_ASSERT(op->mark_flags < PEAL_SLOTS);
    enum peal_err err = peal_frame_decode(op->message, &f);
    if (err == PEAL_ENOMEM) return err;
    if (err != PEAL_OK) {
        op->err = PEAL_EBAD_MESSAGE;
        return PEAL_OK;
    }
    if (op->upto == 0) err = peal_moving_drop(b, slot);
    if (err == PEAL_OK) err = import_all(b, slot, &f);
    peal_frame_fini(&f);
    return err;
}

/* ---- removing ----------------------------------------------------------------------------- */

static enum peal_err drop_tree(struct peal_batch *b, enum peal_tree tree, uint16_t slot,
                               int64_t *count)
{
    for (;;) {
        char room[2];
        char copy[PEAL_KEY_HEAD_MAX];
        struct peal_span key;
        struct peal_span value;
        enum peal_err err = peal_txn_seek(&b->txn, tree, slot_key(room, slot), &key, &value);
        if (err == PEAL_ENOT_FOUND || (err == PEAL_OK && !is_of_slot(key, slot))) return PEAL_OK;
        if (err != PEAL_OK) return err;
        PEAL_ASSERT(key.size <= sizeof copy);
        memcpy(copy, key.at, key.size); /* it points into what is removed now */
        err = peal_txn_del(&b->txn, tree, peal_span_make(copy, key.size));
        if (err != PEAL_OK) return err;
        (*count)++;
    }
}

enum peal_err peal_moving_drop(struct peal_batch *b, uint16_t slot)
{
    int64_t heads = 0;
    int64_t messages = 0;
    peal_heads_forget_slot(&b->heads, slot);
    enum peal_err err = drop_tree(b, PEAL_TREE_HEAD, slot, &heads);
    if (err == PEAL_OK) err = drop_tree(b, PEAL_TREE_MESSAGE, slot, &messages);
    b->heads.tally.moved_out += messages;
    b->wrote |= heads + messages > 0;
    return err;
}

#include "storage/moving.h"

#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "proto/envelope.h"
#include "proto/group.h"
#include "proto/wire.h"
#include "storage/inbox.h"
#include "storage/keys.h"

enum {
    PIECE_ENTRIES = 3 * 512,
    PIECE_BYTES = 256 * 1024, /* a larger record still fits */
};

/* A piece that is being filled. What it points at is in the map. */
struct piece {
    struct peal_span at[PIECE_ENTRIES];
    size_t count;
    size_t bytes;
};

/* Is there no room for a head and one of its messages? */
static bool is_full(const struct piece *p)
{
    return p->count + 6 > PIECE_ENTRIES || p->bytes >= PIECE_BYTES;
}

static void add(struct piece *p, const char *kind, struct peal_span key, struct peal_span record)
{
    p->at[p->count++] = peal_span_make(kind, 1);
    p->at[p->count++] = key;
    p->at[p->count++] = record;
    p->bytes += key.size + record.size;
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

/* ---- records ------------------------------------------------------------------------------ */

/* The group whose records are looked at. */
struct subject {
    struct peal_span group;
    uint16_t slot;
    struct peal_inbox inbox; /* as its head says; zeroed is fine */
    uint64_t last;           /* offset of the message that was taken last */
};

/* Makes *s the group of a head. Errors: PEAL_ECORRUPT, PEAL_ENOMEM. */
static enum peal_err head_read(struct subject *s, struct peal_span key, struct peal_span value)
{
    struct peal_inbox inbox;
    if (peal_key_head_group(key, &s->group) != PEAL_OK) return PEAL_ECORRUPT;
    enum peal_err err = peal_head_decode(key, value, &inbox);
    if (err == PEAL_OK) s->inbox = inbox;
    return err;
}

/* Reads a message of the group. Both sides ask the same, so that nothing is sent which is refused
 * there. Errors: PEAL_ECORRUPT. */
static enum peal_err message_read(const struct subject *s, struct peal_span key,
                                  struct peal_span value, struct peal_entry *out)
{
    struct peal_record record;
    struct peal_envelope env;
    const struct peal_numbers *n = &s->inbox.n;
    uint64_t offset = peal_key_message_offset(key, s->slot, n->gid);
    if (offset < n->first || offset >= n->next) return PEAL_ECORRUPT;
    if (peal_record_decode(key, value, &record) != PEAL_OK ||
        peal_envelope_decode(record.envelope, &env) != PEAL_OK)
        return PEAL_ECORRUPT;
    if (env.offset != offset || !peal_span_equal(env.group, s->group)) return PEAL_ECORRUPT;
    *out = (struct peal_entry){
        .kind = PEAL_ENTRY_MESSAGE,
        .group = s->group,
        .numbers = *n,
        .epoch = n->epoch,
        .offset = offset,
        .stored_ms = record.stored_ms,
        .expires_ms = record.expires_ms,
        .envelope = record.envelope,
    };
    return PEAL_OK;
}

/* ---- export ------------------------------------------------------------------------------- */

/* Where a piece ends: at a message of a group, 0 = at its head; no group: at the end of the slot.
 */
struct place {
    struct peal_span group;
    uint64_t from;
};

/* Messages of one group from place->from on. place->from becomes 0 when all of them fitted. */
static enum peal_err add_messages(struct peal_txn *txn, struct piece *p, const struct subject *s,
                                  struct place *place)
{
    char at[PEAL_KEY_MESSAGE];
    struct peal_span key;
    struct peal_span value;
    struct peal_scan scan;
    uint64_t damaged = 0;
    uint64_t gid = s->inbox.n.gid;
    peal_key_message(at, s->slot, gid, place->from);
    place->from = 0;
    enum peal_err err =
        peal_scan_begin(&scan, txn, PEAL_TREE_MESSAGE, peal_span_make(at, sizeof at));
    if (err != PEAL_OK) return err;
    while ((err = peal_scan_next(&scan, &key, &value)) == PEAL_OK) {
        struct peal_entry entry;
        uint64_t offset = peal_key_message_offset(key, s->slot, gid);
        if (offset == 0) break;
        if (is_full(p)) {
            place->from = offset;
            break;
        }
        if (message_read(s, key, value, &entry) == PEAL_OK)
            add(p, "m", key, value);
        else
            damaged++;
    }
    peal_scan_end(&scan);
    if (damaged > 0)
        peal_log(PEAL_LOG_ERROR, "store.messages_not_moved", "slot=%u count=%llu", s->slot,
                 (unsigned long long)damaged);
    return err == PEAL_ENOT_FOUND ? PEAL_OK : err;
}

/* The head after `after`, a key, or at place->group. Errors: PEAL_ENOT_FOUND. */
static enum peal_err next_head(struct peal_txn *txn, uint16_t slot, const struct place *place,
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
    enum peal_err err = peal_txn_seek(txn, PEAL_TREE_HEAD, from, key, value);
    return err == PEAL_OK && !is_of_slot(*key, slot) ? PEAL_ENOT_FOUND : err;
}

/* Fills a piece from place on; place becomes where it ends. */
static enum peal_err fill(struct peal_txn *txn, struct piece *p, uint16_t slot, struct place *place)
{
    struct peal_span after = {0};
    uint64_t from = place->from;
    for (;;) {
        struct subject s = {.slot = slot};
        struct peal_span key;
        struct peal_span value;
        enum peal_err err = next_head(txn, slot, place, after, &key, &value);
        if (err == PEAL_ENOT_FOUND) {
            *place = (struct place){0};
            return PEAL_OK;
        }
        if (err == PEAL_OK) err = head_read(&s, key, value);
        after = key;
        if (err == PEAL_ECORRUPT) {
            peal_log(PEAL_LOG_ERROR, "store.head_not_moved", "slot=%u", slot);
            continue;
        }
        if (err != PEAL_OK) return err;
        /* What was asked for may be gone: then the next group begins at its begin. */
        if (!peal_span_equal(s.group, place->group)) from = 0;
        *place = (struct place){s.group, from};
        bool full = is_full(p);
        if (!full) {
            add(p, "h", key, value);
            err = add_messages(txn, p, &s, place);
        }
        peal_inbox_fini(&s.inbox);
        if (full || err != PEAL_OK || place->from != 0) return err;
    }
}

enum peal_err peal_moving_export(struct peal_txn *inbox, struct peal_store_op *op)
{
    struct piece piece;
    struct peal_buf out = {0};
    struct place place = {op->group, op->upto};
    PEAL_ASSERT(op->mark_flags < PEAL_SLOTS);
    piece.count = piece.bytes = 0;
    enum peal_err err = fill(inbox, &piece, (uint16_t)op->mark_flags, &place);
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

static enum peal_err append_state(const struct subject *s, const struct peal_moving_sink *sink)
{
    struct peal_entry entry = {.kind = PEAL_ENTRY_STATE, .group = s->group, .numbers = s->inbox.n};
    entry.delivered = peal_inbox_delivered_words(&s->inbox, &entry.word_count);
    entry.read_bits = peal_inbox_read_words(&s->inbox, &entry.word_count);
    return sink->append(sink->ctx, &entry);
}

/* One head or message; *s has no group before the first head. No sink: only checks. */
static enum peal_err import_one(struct subject *s, const struct peal_span entry[3],
                                const struct peal_moving_sink *sink)
{
    enum peal_err err = PEAL_ECORRUPT;
    if (peal_span_is(entry[0], "h")) {
        peal_inbox_fini(&s->inbox);
        *s = (struct subject){.slot = s->slot};
        if (is_of_slot(entry[1], s->slot)) err = head_read(s, entry[1], entry[2]);
        if (err == PEAL_OK && sink != NULL) err = append_state(s, sink);
    } else if (peal_span_is(entry[0], "m") && s->group.at != NULL) {
        struct peal_entry message;
        err = message_read(s, entry[1], entry[2], &message);
        if (err == PEAL_OK && message.offset <= s->last) err = PEAL_ECORRUPT;
        if (err != PEAL_OK) return err;
        s->last = message.offset;
        if (sink != NULL) err = sink->append(sink->ctx, &message);
    }
    return err;
}

static enum peal_err import_all(uint16_t slot, const struct peal_frame *f,
                                const struct peal_moving_sink *sink)
{
    struct subject s = {.slot = slot};
    enum peal_err err = PEAL_OK;
    for (size_t i = 0; i < f->entries.count && err == PEAL_OK; i += 3)
        err = import_one(&s, f->entries.at + i, sink);
    peal_inbox_fini(&s.inbox);
    return err;
}

enum peal_err peal_moving_import(const struct peal_store_op *op,
                                 const struct peal_moving_sink *sink)
{
    struct peal_frame f;
    uint16_t slot = (uint16_t)op->mark_flags;
    PEAL_ASSERT(op->mark_flags < PEAL_SLOTS);
    enum peal_err err = peal_frame_decode(op->message, &f);
    if (err != PEAL_OK) return err == PEAL_ENOMEM ? err : PEAL_EBAD_MESSAGE;
    bool right = f.type == PEAL_F_RECORDS && f.entries.count % 3 == 0;
    err = right ? import_all(slot, &f, NULL) : PEAL_ECORRUPT;
    err = err == PEAL_ECORRUPT ? PEAL_EBAD_MESSAGE : err;
    if (err == PEAL_OK) err = import_all(slot, &f, sink);
    peal_frame_fini(&f);
    return err;
}

bool peal_moving_is_news(const struct peal_numbers *here, const struct peal_numbers *there)
{
    return there->epoch != here->epoch || there->rev > here->rev;
}

/* First the range is gathered, on a read transaction of the log (storage/gather.h); then the groups
 * are written in their order, each wholly within one slice.
 *
 * A DROP is done before all of that, and once in the life of the process: when the range has to be
 * given again, the groups that came behind it may be in the inbox, and the store thread may count
 * on that. After a crash it does not, and the DROP is done again.
 *
 * What goes from the inbox is known without looking: messages below the new begin of the window,
 * holes, and all of a number (gid) that the group has no more. */
#include "storage/settle_range.h"

#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/limits.h"
#include "storage/entry.h"
#include "storage/gather.h"
#include "storage/keys.h"
#include "storage/settle_note.h"

enum { SLICE_WRITES = 10000 };

#define GID_KEY peal_span_of("gid")

struct move {
    struct peal_range *range;
    uint64_t to;
    struct peal_txn log;
    struct peal_txn inbox; /* reads in the first pass, then the slice in hand */
    struct peal_gather gather;
    uint64_t gid;      /* as the inbox has it; UINT64_MAX: cannot be read */
    uint64_t gid_seen; /* highest of the slice */
    struct peal_settle_draft draft;
    uint64_t slice_began_ms;
    size_t slice_writes;
    uint64_t slice_dropped; /* messages that went with their slot */
};

/* ---- what the log says ------------------------------------------------------------------ */

static enum peal_err gid_read(struct move *move)
{
    struct peal_span value;
    enum peal_err err = peal_txn_get(&move->inbox, PEAL_TREE_META, GID_KEY, &value);
    if (err == PEAL_ENOT_FOUND) return PEAL_OK;
    if (err != PEAL_OK) return err;
    if (peal_number_decode(GID_KEY, value, &move->gid) == PEAL_OK) return PEAL_OK;
    /* Written anew it could be too small, and nobody would see that it was damaged. */
    move->gather.corrupt++;
    move->gid = UINT64_MAX;
    return PEAL_OK;
}

static enum peal_err gather(struct move *move, uint64_t from, uint64_t to)
{
    struct peal_range *range = move->range;
    enum peal_err err = peal_txn_begin(&move->log, range->setup->log, false);
    if (err == PEAL_OK) err = peal_txn_begin(&move->inbox, range->setup->inbox, false);
    if (err != PEAL_OK) return err;
    range->entries = peal_txn_entries(&move->inbox, PEAL_TREE_MESSAGE);
    range->bytes = peal_txn_bytes_used(&move->inbox);
    range->room = peal_txn_bytes_free(&move->inbox);
    move->gather = (struct peal_gather){.log = &move->log,
                                        .inbox = &move->inbox,
                                        .stopping = range->stopping,
                                        .dropped_to = range->dropped_to};
    err = gid_read(move);
    if (err == PEAL_OK) err = peal_gather_range(&move->gather, from, to);
    peal_txn_abort(&move->inbox);
    return err;
}

/* ---- slices ------------------------------------------------------------------ */

static enum peal_err slice_open(struct move *move)
{
    if (move->draft.note != NULL) return PEAL_OK;
    enum peal_err err = peal_settle_draft_begin(&move->draft, PEAL_SETTLE_MOVED);
    if (err == PEAL_OK) err = peal_txn_begin(&move->inbox, move->range->setup->inbox, true);
    move->slice_began_ms = peal_clock_mono_ms();
    move->slice_writes = 0;
    move->slice_dropped = 0;
    return err;
}

static enum peal_err slice_close(struct move *move)
{
    struct peal_range *range = move->range;
    char record[PEAL_RECORD_NUMBER];
    if (move->draft.note == NULL) return PEAL_OK;
    if (move->gid_seen > move->gid) {
        peal_number_encode(GID_KEY, move->gid_seen, record);
        enum peal_err err = peal_txn_put(&move->inbox, PEAL_TREE_META, GID_KEY,
                                         peal_span_make(record, sizeof record));
        if (err != PEAL_OK) return err;
        move->gid = move->gid_seen;
    }
    uint64_t entries = peal_txn_entries(&move->inbox, PEAL_TREE_MESSAGE);
    uint64_t bytes = peal_txn_bytes_used(&move->inbox);
    uint64_t room = peal_txn_bytes_free(&move->inbox);
    enum peal_err err = peal_txn_commit(&move->inbox);
    if (err != PEAL_OK) return err;
    struct peal_settle_note *note = peal_settle_draft_end(&move->draft);
    note->seq = move->to;
    note->dropped_to = range->dropped_to;
    note->dropped = move->slice_dropped;
    note->entries = range->entries = entries;
    note->bytes = range->bytes = bytes;
    note->room = range->room = room;
    range->setup->note(range->setup->ctx, note);
    return atomic_load(range->stopping) ? PEAL_EAGAIN : PEAL_OK;
}

/* Called where a slice may end. */
static enum peal_err slice_pause(struct move *move)
{
    uint64_t taken_ms = peal_clock_mono_ms() - move->slice_began_ms;
    if (move->slice_writes < SLICE_WRITES && taken_ms < move->range->setup->slice_ms)
        return PEAL_OK;
    return slice_close(move);
}

/* ---- slots that went --------------------------------------------------------- */

static enum peal_err tree_drop(struct move *move, enum peal_tree tree, uint16_t slot)
{
    char from[2] = {(char)(unsigned char)(slot >> 8), (char)(unsigned char)slot};
    for (;;) {
        char copy[PEAL_KEY_HEAD_MAX];
        struct peal_span key;
        struct peal_span value;
        enum peal_err err = slice_open(move);
        if (err != PEAL_OK) return err;
        err = peal_txn_seek(&move->inbox, tree, peal_span_make(from, sizeof from), &key, &value);
        if (err == PEAL_ENOT_FOUND) return PEAL_OK;
        if (err != PEAL_OK) return err;
        if (key.size < sizeof from || memcmp(key.at, from, sizeof from) != 0) return PEAL_OK;
        if (key.size > sizeof copy) return PEAL_ECORRUPT;
        memcpy(copy, key.at, key.size); /* it points into what is removed now */
        err = peal_txn_del(&move->inbox, tree, peal_span_make(copy, key.size));
        move->slice_writes++;
        if (tree == PEAL_TREE_MESSAGE) move->slice_dropped++;
        if (err == PEAL_OK) err = slice_pause(move);
        if (err != PEAL_OK) return err;
    }
}

static enum peal_err slots_drop(struct move *move)
{
    uint64_t last = 0;
    for (size_t slot = 0; slot < PEAL_SLOTS; slot++) {
        if (move->gather.dropped[slot] > last) last = move->gather.dropped[slot];
        if (move->gather.dropped[slot] <= move->range->dropped_to) continue;
        /* Heads first: messages without one are nobody's, and found by the next attempt. */
        enum peal_err err = tree_drop(move, PEAL_TREE_HEAD, (uint16_t)slot);
        if (err == PEAL_OK) err = tree_drop(move, PEAL_TREE_MESSAGE, (uint16_t)slot);
        if (err != PEAL_OK) return err;
    }
    uint64_t before = move->range->dropped_to;
    if (last <= before) return PEAL_OK;
    /* Said before the first group that came behind it. */
    move->range->dropped_to = last;
    enum peal_err err = slice_close(move);
    if (err != PEAL_OK && err != PEAL_EAGAIN) move->range->dropped_to = before;
    return err;
}

/* ---- groups ------------------------------------------------------------------ */

/* Removes the messages of a number below an offset. */
static enum peal_err messages_remove(struct move *move, uint16_t slot, uint64_t gid, uint64_t below)
{
    char at[PEAL_KEY_MESSAGE];
    struct peal_span from = {at, sizeof at};
    for (uint64_t offset = 0;;) {
        struct peal_span key;
        struct peal_span value;
        peal_key_message(at, slot, gid, offset);
        enum peal_err err = peal_txn_seek(&move->inbox, PEAL_TREE_MESSAGE, from, &key, &value);
        if (err == PEAL_ENOT_FOUND) return PEAL_OK;
        if (err != PEAL_OK) return err;
        offset = peal_key_message_offset(key, slot, gid);
        if (offset == 0 || offset >= below) return PEAL_OK;
        peal_key_message(at, slot, gid, offset);
        err = peal_txn_del(&move->inbox, PEAL_TREE_MESSAGE, from);
        if (err != PEAL_OK) return err;
        move->slice_writes++;
    }
}

/* Removes what the inbox has and the head has no more. */
static enum peal_err group_remove(struct move *move, const struct peal_gathered *group)
{
    const struct peal_numbers *n = &group->inbox.n;
    enum peal_err err = PEAL_OK;
    if (group->purge_gid != 0)
        err = messages_remove(move, group->slot, group->purge_gid, UINT64_MAX);
    if (err != PEAL_OK || group->old_gid == 0) return err;
    if (n->first > group->old_first) err = messages_remove(move, group->slot, n->gid, n->first);
    for (size_t i = 0; i < group->hole_count && err == PEAL_OK; i++) {
        char at[PEAL_KEY_MESSAGE];
        uint64_t hole = group->holes[i];
        if (hole < n->first || hole >= group->old_next) continue;
        peal_key_message(at, group->slot, n->gid, hole);
        err = peal_txn_del(&move->inbox, PEAL_TREE_MESSAGE, peal_span_make(at, sizeof at));
        if (err == PEAL_ENOT_FOUND) err = PEAL_OK;
        move->slice_writes++;
    }
    return err;
}

/* It was whole in the first pass; PEAL_ECORRUPT when it is not any more. */
static enum peal_err message_read(struct move *move, const struct peal_gathered_place *place,
                                  struct peal_entry *entry)
{
    char at[PEAL_KEY_ENTRY];
    struct peal_span key = {at, sizeof at};
    struct peal_span value;
    peal_key_entry(at, place->seq);
    enum peal_err err = peal_txn_get(&move->log, PEAL_TREE_LOG, key, &value);
    if (err == PEAL_ENOT_FOUND) return PEAL_ECORRUPT;
    if (err == PEAL_OK) err = peal_entry_decode(key, value, &move->gather.room, entry);
    if (err == PEAL_OK && entry->offset != place->offset) err = PEAL_ECORRUPT;
    return err;
}

static enum peal_err message_write(struct move *move, const struct peal_gathered *group,
                                   const struct peal_gathered_place *place)
{
    char at[PEAL_KEY_MESSAGE];
    struct peal_span key = {at, sizeof at};
    struct peal_entry entry;
    char *room;
    enum peal_err err = message_read(move, place, &entry);
    if (err == PEAL_ECORRUPT) {
        move->gather.corrupt++;
        return PEAL_OK;
    }
    if (err != PEAL_OK) return err;
    struct peal_record record = {
        .stored_ms = entry.stored_ms,
        .expires_ms = entry.expires_ms,
        .envelope = entry.envelope,
    };
    peal_key_message(at, group->slot, group->inbox.n.gid, place->offset);
    err = peal_txn_reserve(&move->inbox, PEAL_TREE_MESSAGE, key,
                           PEAL_RECORD_MESSAGE + record.envelope.size, &room);
    if (err == PEAL_OK) peal_record_encode(key, &record, room);
    move->slice_writes++;
    return err;
}

static enum peal_err group_write(struct move *move, const struct peal_gathered *group)
{
    const struct peal_numbers *n = &group->inbox.n;
    char at[PEAL_KEY_HEAD_MAX];
    char record[PEAL_RECORD_HEAD_MAX];
    enum peal_err err = group_remove(move, group);
    for (size_t i = 0; i < group->place_count && err == PEAL_OK; i++) {
        const struct peal_gathered_place *place = &group->places[i];
        if (place->offset < n->first || place->offset >= n->next) continue;
        if (!peal_gathered_is_hole(group, place->offset)) err = message_write(move, group, place);
    }
    if (err != PEAL_OK) return err;
    struct peal_span key = {at, peal_key_head(at, peal_gathered_name(group))};
    size_t size = peal_head_encode(key, &group->inbox, record);
    move->slice_writes++;
    return peal_txn_put(&move->inbox, PEAL_TREE_HEAD, key, peal_span_make(record, size));
}

static enum peal_err groups_write(struct move *move)
{
    for (size_t i = 0; i < move->gather.group_count; i++) {
        const struct peal_gathered *group = move->gather.groups[i];
        const struct peal_numbers *n = &group->inbox.n;
        enum peal_err err = slice_open(move);
        if (err == PEAL_OK && group->dirty) err = group_write(move, group);
        if (n->gid > move->gid_seen) move->gid_seen = n->gid;
        /* Also when the inbox had it before: after a start the store thread does not know. */
        struct peal_settle_group told = {
            .gid = n->gid, .ver = n->ver, .next = n->next, .kept = n->kept};
        if (err == PEAL_OK)
            err = peal_settle_draft_add(&move->draft, peal_gathered_name(group), &told);
        if (err == PEAL_OK) err = slice_pause(move);
        if (err != PEAL_OK) return err;
    }
    return slice_close(move);
}

/* ---- all of it ---------------------------------------------------------------------------- */

static void move_fini(struct move *move)
{
    peal_settle_draft_drop(&move->draft);
    peal_txn_abort(&move->inbox);
    peal_txn_abort(&move->log);
    peal_gather_fini(&move->gather);
}

enum peal_err peal_range_move(struct peal_range *range, uint64_t from, uint64_t to)
{
    PEAL_ASSERT(from >= 1);
    struct move move = {.range = range, .to = to};
    enum peal_err err = gather(&move, from, to);
    if (err == PEAL_OK) err = slots_drop(&move);
    if (err == PEAL_OK) err = groups_write(&move);
    range->corrupt = move.gather.corrupt;
    move_fini(&move);
    return err;
}

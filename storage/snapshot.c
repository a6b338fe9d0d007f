#include "storage/snapshot.h"

#include <stdlib.h>

#include "base/assert.h"
#include "proto/group.h"
#include "storage/entry.h"
#include "storage/keys.h"

enum peal_err peal_snapshot_new(struct peal_db *log, struct peal_db *inbox,
                                struct peal_snapshot **out)
{
    *out = NULL;
    struct peal_snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (snapshot == NULL) return PEAL_ENOMEM;
    enum peal_err err = peal_txn_begin(&snapshot->log, log, false);
    if (err == PEAL_OK) err = peal_txn_begin(&snapshot->inbox, inbox, false);
    if (err != PEAL_OK) {
        peal_txn_abort(&snapshot->log);
        free(snapshot);
        return err;
    }
    atomic_init(&snapshot->refs, 1);
    *out = snapshot;
    return PEAL_OK;
}

void peal_snapshot_ref(struct peal_snapshot *snapshot)
{
    uint32_t before = atomic_fetch_add_explicit(&snapshot->refs, 1, memory_order_relaxed);
    PEAL_ASSERT(before >= 1);
}

void peal_snapshot_unref(struct peal_snapshot *snapshot)
{
    if (snapshot == NULL) return;
    uint32_t before = atomic_fetch_sub_explicit(&snapshot->refs, 1, memory_order_acq_rel);
    PEAL_ASSERT(before >= 1);
    if (before > 1) return;
    peal_txn_abort(&snapshot->log);
    peal_txn_abort(&snapshot->inbox);
    free(snapshot);
}

void peal_view_fini(struct peal_view *view)
{
    peal_snapshot_unref(view->snapshot);
    peal_inbox_fini(&view->inbox);
    free(view->places);
    *view = (struct peal_view){0};
}

/* The record of the log at `seq`, which must be that of the message at offset. */
static enum peal_err message_in_log(struct peal_view *view, uint64_t seq, uint16_t slot,
                                    uint64_t offset, struct peal_record *out)
{
    char at[PEAL_KEY_ENTRY];
    struct peal_span key = {at, sizeof at};
    struct peal_span value;
    struct peal_entry entry;
    struct peal_entry_room room = {0};
    peal_key_entry(at, seq);
    enum peal_err err = peal_txn_get(&view->snapshot->log, PEAL_TREE_LOG, key, &value);
    if (err == PEAL_OK) err = peal_entry_decode(key, value, &room, &entry);
    peal_entry_room_fini(&room); /* the envelope is in the record, and no list is looked at */
    if (err != PEAL_OK) return err;

    if (entry.kind != PEAL_ENTRY_PUT && entry.kind != PEAL_ENTRY_MESSAGE) return PEAL_ECORRUPT;
    if (entry.numbers.gid != view->inbox.n.gid) return PEAL_ECORRUPT;
    if (peal_group_slot(entry.group) != slot || entry.offset != offset) return PEAL_ECORRUPT;
    *out = (struct peal_record){
        .stored_ms = entry.stored_ms,
        .expires_ms = entry.expires_ms,
        .envelope = entry.envelope,
    };
    return PEAL_OK;
}

static enum peal_err message_in_inbox(struct peal_view *view, uint16_t slot, uint64_t offset,
                                      struct peal_record *out)
{
    char at[PEAL_KEY_MESSAGE];
    struct peal_span key = {at, sizeof at};
    struct peal_span value;
    peal_key_message(at, slot, view->inbox.n.gid, offset);
    enum peal_err err = peal_txn_get(&view->snapshot->inbox, PEAL_TREE_MESSAGE, key, &value);
    return err == PEAL_OK ? peal_record_decode(key, value, out) : err;
}

enum peal_err peal_view_message(struct peal_view *view, uint16_t slot, uint64_t offset,
                                struct peal_record *out)
{
    if (offset < view->base) return message_in_inbox(view, slot, offset, out);
    uint64_t i = offset - view->base;
    if (i >= view->place_count || view->places[i] == 0) return PEAL_ENOT_FOUND;
    if (view->places[i] == PEAL_PLACE_INBOX) return message_in_inbox(view, slot, offset, out);
    return message_in_log(view, view->places[i], slot, offset, out);
}

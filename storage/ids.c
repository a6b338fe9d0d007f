#include "storage/ids.h"

#include <string.h>

/* Removed for one that is added: old ones cannot pile up while nothing is swept. */
enum { TRIM = 2 };

static const struct peal_span nothing = {"", 0};

static enum peal_err ids_remove(struct peal_ids *ids, const char id[PEAL_KEY_ID],
                                uint64_t stored_ms)
{
    char key[PEAL_KEY_ID_TIME];
    peal_key_id_time(key, stored_ms, id);
    ids->wrote = true;
    enum peal_err err =
        peal_txn_del(ids->txn, PEAL_TREE_IDS_BY_TIME, peal_span_make(key, sizeof key));
    if (err == PEAL_OK || err == PEAL_ENOT_FOUND)
        err = peal_txn_del(ids->txn, PEAL_TREE_IDS, peal_span_make(id, PEAL_KEY_ID));
    return err == PEAL_ENOT_FOUND ? PEAL_OK : err;
}

static bool fresh(const struct peal_ids *ids, uint64_t stored_ms)
{
    return ids->now_ms < stored_ms || ids->now_ms - stored_ms < ids->age_ms;
}

enum peal_err peal_ids_find(struct peal_ids *ids, const char id[PEAL_KEY_ID], bool *found,
                            struct peal_id_record *record)
{
    struct peal_span key = {id, PEAL_KEY_ID};
    struct peal_span value;
    *found = false;
    enum peal_err err = peal_txn_get(ids->txn, PEAL_TREE_IDS, key, &value);
    if (err == PEAL_ENOT_FOUND) return PEAL_OK;
    if (err != PEAL_OK) return err;
    if (peal_id_record_decode(key, value, record) != PEAL_OK) {
        ids->corrupt++;
        return PEAL_OK;
    }
    *found = fresh(ids, record->stored_ms);
    return *found ? PEAL_OK : ids_remove(ids, id, record->stored_ms);
}

enum peal_err peal_ids_trim(struct peal_ids *ids, size_t most, size_t *removed)
{
    for (*removed = 0; *removed < most; (*removed)++) {
        struct peal_span key;
        struct peal_span value;
        struct peal_span id;
        uint64_t stored_ms;
        char copy[PEAL_KEY_ID];
        enum peal_err err = peal_txn_seek(ids->txn, PEAL_TREE_IDS_BY_TIME, nothing, &key, &value);
        if (err == PEAL_ENOT_FOUND) return PEAL_OK;
        if (err == PEAL_OK) err = peal_key_id_time_decode(key, &stored_ms, &id);
        if (err != PEAL_OK) return err;
        bool many = peal_txn_entries(ids->txn, PEAL_TREE_IDS_BY_TIME) > ids->count_max;
        if (!many && fresh(ids, stored_ms)) return PEAL_OK;
        memcpy(copy, id.at, sizeof copy); /* id points into what is removed now */
        err = ids_remove(ids, copy, stored_ms);
        if (err != PEAL_OK) return err;
    }
    return PEAL_OK;
}

enum peal_err peal_ids_add(struct peal_ids *ids, const char id[PEAL_KEY_ID],
                           const struct peal_id_record *record)
{
    char time_key[PEAL_KEY_ID_TIME];
    char value[PEAL_RECORD_ID];
    size_t removed;
    struct peal_span key = {id, PEAL_KEY_ID};
    peal_id_record_encode(key, record, value);
    peal_key_id_time(time_key, record->stored_ms, id);
    ids->wrote = true;
    enum peal_err err =
        peal_txn_put(ids->txn, PEAL_TREE_IDS, key, peal_span_make(value, sizeof value));
    if (err == PEAL_OK)
        err = peal_txn_put(ids->txn, PEAL_TREE_IDS_BY_TIME,
                           peal_span_make(time_key, sizeof time_key), nothing);
    return err == PEAL_OK ? peal_ids_trim(ids, TRIM, &removed) : err;
}

#include "storage/renew.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "storage/keys.h"

enum { TXN_GROUPS = 1000 };

#define COPY_KEY "copy"

enum peal_err peal_renew_generation(struct peal_txn *log, struct peal_db *inbox,
                                    uint64_t *generation, bool *copy)
{
    struct peal_txn txn;
    struct peal_span mark;
    enum peal_err err = peal_txn_get(log, PEAL_TREE_META, peal_span_of(COPY_KEY), &mark);
    *copy = err == PEAL_OK;
    if (err == PEAL_ENOT_FOUND) return PEAL_OK;
    if (err != PEAL_OK) return err;
    *generation = (peal_random_u64() >> 11) | 1;
    err = peal_txn_begin(&txn, inbox, true);
    if (err != PEAL_OK) return err;
    err = peal_number_put(&txn, "generation", *generation);
    if (err == PEAL_OK)
        err = peal_txn_commit(&txn);
    else
        peal_txn_abort(&txn);
    return err == PEAL_OK ? peal_number_put(log, "generation", *generation) : err;
}

/* Names of groups, one behind the other. */
struct names {
    struct {
        char at[PEAL_NAME_MAX];
        size_t size;
    } all[TXN_GROUPS];
    size_t count;
};

static void add(struct names *names, struct peal_span name)
{
    memcpy(names->all[names->count].at, name.at, name.size);
    names->all[names->count++].size = name.size;
}

static enum peal_err renew(struct peal_batch *batch, struct names *names, uint64_t now_ms)
{
    enum peal_err err = peal_batch_begin(batch, now_ms);
    if (err != PEAL_OK) return err;
    for (size_t i = 0; i < names->count && err == PEAL_OK; i++)
        err = peal_batch_renew(batch, peal_span_make(names->all[i].at, names->all[i].size));
    names->count = 0;
    if (err == PEAL_OK) return peal_batch_finish(batch);
    peal_batch_drop(batch);
    return err;
}

/* Those that the log has something of are in memory. */
static enum peal_err renew_heads(struct peal_batch *batch, struct names *names, uint64_t now_ms)
{
    size_t count = batch->heads.map.count;
    enum peal_err err = PEAL_OK;
    for (size_t i = 0; i < count && err == PEAL_OK; i++) {
        const struct peal_head *head = peal_heads_walk(&batch->heads);
        if (head == NULL) break;
        add(names, peal_head_name(head));
        if (names->count == TXN_GROUPS) err = renew(batch, names, now_ms);
    }
    return err == PEAL_OK ? renew(batch, names, now_ms) : err;
}

static enum peal_err renew_inbox(struct peal_batch *batch, struct peal_txn *inbox,
                                 struct names *names, uint64_t now_ms)
{
    struct peal_scan scan;
    struct peal_span key;
    struct peal_span value;
    struct peal_span name;
    enum peal_err err = peal_scan_begin(&scan, inbox, PEAL_TREE_HEAD, (struct peal_span){0});
    if (err != PEAL_OK) return err;
    while (err == PEAL_OK && (err = peal_scan_next(&scan, &key, &value)) == PEAL_OK) {
        if (peal_key_head_group(key, &name) != PEAL_OK) continue; /* nobody will ever ask for it */
        if (peal_map_find(&batch->heads.map, name) != NULL) continue;
        add(names, name);
        if (names->count == TXN_GROUPS) err = renew(batch, names, now_ms);
    }
    peal_scan_end(&scan);
    return err == PEAL_ENOT_FOUND ? renew(batch, names, now_ms) : err;
}

static enum peal_err mark_remove(struct peal_batch *batch, uint64_t now_ms)
{
    enum peal_err err = peal_batch_begin(batch, now_ms);
    if (err != PEAL_OK) return err;
    err = peal_txn_del(&batch->txn, PEAL_TREE_META, peal_span_of(COPY_KEY));
    batch->wrote = true;
    if (err == PEAL_OK) return peal_batch_finish(batch);
    peal_batch_drop(batch);
    return err;
}

enum peal_err peal_renew_epochs(struct peal_batch *batch, uint64_t now_ms)
{
    struct peal_txn inbox;
    struct names *names = calloc(1, sizeof *names);
    if (names == NULL) return PEAL_ENOMEM;
    uint64_t before = batch->seq;
    enum peal_err err = renew_heads(batch, names, now_ms);
    if (err == PEAL_OK) err = peal_txn_begin(&inbox, batch->inbox, false);
    if (err == PEAL_OK) {
        err = renew_inbox(batch, &inbox, names, now_ms);
        peal_txn_abort(&inbox);
    }
    free(names);
    if (err == PEAL_OK) err = mark_remove(batch, now_ms);
    if (err == PEAL_OK)
        peal_log(PEAL_LOG_WARN, "store.restored", "groups=%llu",
                 (unsigned long long)(batch->seq - before));
    return err;
}

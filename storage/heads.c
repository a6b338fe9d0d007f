#include "storage/heads.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "proto/group.h"

#define GID_KEY peal_span_of("gid")

enum peal_err peal_heads_init(struct peal_heads *heads, uint64_t generation)
{
    *heads = (struct peal_heads){.generation = generation};
    return peal_map_init(&heads->map);
}

void peal_heads_fini(struct peal_heads *heads)
{
    peal_heads_end(heads);
    peal_map_fini(&heads->map);
}

void peal_heads_begin(struct peal_heads *heads, struct peal_txn *txn)
{
    PEAL_ASSERT(heads->all == NULL);
    heads->txn = txn;
    heads->gid = 0;
    heads->gid_dirty = false;
    heads->tally = (struct peal_tally){0};
}

void peal_heads_end(struct peal_heads *heads)
{
    while (heads->all != NULL) {
        struct peal_head *head = heads->all;
        heads->all = head->next;
        peal_map_remove(&heads->map, &head->node);
        free(head);
    }
    heads->txn = NULL;
}

static struct peal_span key_of(const struct peal_head *head)
{
    return (struct peal_span){head->key, head->key_size};
}

/* 53 bits, like the generation: some clients keep numbers as doubles. */
static uint64_t epoch_new(void)
{
    return (peal_random_u64() >> 11) | 1;
}

/* ---- reading and creating --------------------------------------------------------------- */

static enum peal_err replace_damaged(struct peal_heads *heads, struct peal_head *head)
{
    char quoted[256];
    struct peal_span name = {head->key + 2, head->key_size - 2};
    if (!heads->txn->write) return PEAL_ECORRUPT;
    heads->tally.corrupt++;
    peal_log(PEAL_LOG_ERROR, "store.head_damaged", "group=%s",
             peal_log_quote(name, quoted, sizeof quoted));
    peal_inbox_init(&head->inbox, 0, epoch_new());
    return peal_heads_create(heads, head);
}

static enum peal_err head_load(struct peal_heads *heads, struct peal_head *head)
{
    struct peal_span value;
    enum peal_err err = peal_txn_get(heads->txn, PEAL_TREE_HEAD, key_of(head), &value);
    if (err == PEAL_ENOT_FOUND) {
        peal_inbox_init(&head->inbox, 0, heads->generation);
        return PEAL_OK;
    }
    if (err != PEAL_OK) return err;
    head->exists = true;
    if (peal_head_decode(key_of(head), value, &head->inbox) == PEAL_OK) return PEAL_OK;
    head->exists = false;
    return replace_damaged(heads, head);
}

enum peal_err peal_heads_get(struct peal_heads *heads, struct peal_span group,
                             struct peal_head **out)
{
    struct peal_map_node *node = peal_map_find(&heads->map, group);
    if (node != NULL) {
        *out = PEAL_FROM_NODE(node, struct peal_head, node);
        return PEAL_OK;
    }
    struct peal_head *head = malloc(sizeof *head);
    if (head == NULL) return PEAL_ENOMEM;
    *head = (struct peal_head){
        .slot = peal_group_slot(group),
        .marks = peal_group_is_inbox(group),
    };
    head->key_size = peal_key_head(head->key, group);
    enum peal_err err = head_load(heads, head);
    if (err != PEAL_OK) {
        free(head);
        return err;
    }
    head->next = heads->all;
    heads->all = head;
    peal_map_add(&heads->map, &head->node, peal_span_make(head->key + 2, head->key_size - 2));
    *out = head;
    return PEAL_OK;
}

enum peal_err peal_heads_create(struct peal_heads *heads, struct peal_head *head)
{
    PEAL_ASSERT(!head->exists);
    if (heads->gid == 0) {
        struct peal_span value;
        enum peal_err err = peal_txn_get(heads->txn, PEAL_TREE_META, GID_KEY, &value);
        if (err == PEAL_OK) err = peal_number_decode(GID_KEY, value, &heads->gid);
        /* Without the counter a number could be given twice, and messages with it. */
        if (err == PEAL_ENOT_FOUND) err = PEAL_ECORRUPT;
        if (err != PEAL_OK) return err;
    }
    head->inbox.gid = ++heads->gid;
    heads->gid_dirty = true;
    head->exists = true;
    head->dirty = true;
    return PEAL_OK;
}

enum peal_err peal_heads_seen(struct peal_heads *heads, struct peal_head *head, uint64_t epoch,
                              uint64_t offset)
{
    char quoted[256];
    struct peal_span name = {head->key + 2, head->key_size - 2};
    uint64_t newest = head->inbox.next - 1;
    if (!heads->txn->write || epoch != head->inbox.epoch || offset <= newest) return PEAL_OK;
    peal_log(PEAL_LOG_ERROR, "store.head_went_back", "group=%s newest=%llu seen=%llu",
             peal_log_quote(name, quoted, sizeof quoted), (unsigned long long)newest,
             (unsigned long long)offset);
    head->inbox.epoch = epoch_new();
    head->dirty = true;
    return head->exists ? PEAL_OK : peal_heads_create(heads, head);
}

/* ---- retention -------------------------------------------------------------------------- */

static void tally_gone(struct peal_heads *heads, enum peal_gone gone)
{
    switch (gone) {
    case PEAL_GONE_NOT:
        break;
    case PEAL_GONE_SETTLED:
        heads->tally.settled++;
        break;
    case PEAL_GONE_EVICTED:
        heads->tally.evicted++;
        break;
    case PEAL_GONE_AGED:
    case PEAL_GONE_EXPIRED:
        heads->tally.expired++;
        break;
    }
}

struct kept {
    uint64_t offset; /* 0: there is none */
    uint64_t bytes;
    struct peal_record record;
    bool damaged;
};

/* The first message at or after `from`, if it is one of this group. */
static enum peal_err kept_find(struct peal_heads *heads, const struct peal_head *head,
                               uint64_t from, struct kept *out)
{
    char at[PEAL_KEY_MESSAGE];
    struct peal_span key;
    struct peal_span value;
    *out = (struct kept){0};
    peal_key_message(at, head->slot, head->inbox.gid, from);
    enum peal_err err =
        peal_txn_seek(heads->txn, PEAL_TREE_MESSAGE, peal_span_make(at, sizeof at), &key, &value);
    if (err == PEAL_ENOT_FOUND) return PEAL_OK;
    if (err != PEAL_OK) return err;
    uint64_t offset = peal_key_message_offset(key, head->slot, head->inbox.gid);
    if (offset == 0 || offset >= head->inbox.next) return PEAL_OK;
    out->offset = offset;
    out->bytes = value.size < PEAL_RECORD_MESSAGE ? 0 : value.size - PEAL_RECORD_MESSAGE;
    if (peal_record_decode(key, value, &out->record) != PEAL_OK) {
        /* Its own times cannot be believed; it goes with what is around it. */
        out->damaged = true;
        out->record = (struct peal_record){.stored_ms = head->inbox.oldest_ms};
    }
    return PEAL_OK;
}

static enum peal_err kept_remove(struct peal_heads *heads, struct peal_head *head,
                                 const struct kept *kept, enum peal_gone gone)
{
    char at[PEAL_KEY_MESSAGE];
    peal_key_message(at, head->slot, head->inbox.gid, kept->offset);
    enum peal_err err = peal_txn_del(heads->txn, PEAL_TREE_MESSAGE, peal_span_make(at, sizeof at));
    if (err != PEAL_OK) return err;
    if (kept->damaged) {
        heads->tally.corrupt++;
        heads->tally.damaged++;
    } else {
        tally_gone(heads, gone);
    }
    peal_inbox_remove(&head->inbox, kept->offset, kept->bytes, gone);
    head->dirty = true;
    return PEAL_OK;
}

/* Removes from anywhere in the window what its own TTL has ended. */
static enum peal_err retain_ttl(struct peal_heads *heads, struct peal_head *head, uint64_t now_ms)
{
    struct peal_inbox *inbox = &head->inbox;
    if (inbox->expires_ms == 0 || inbox->expires_ms > now_ms) return PEAL_OK;
    uint64_t soonest = 0;
    struct kept kept;
    for (uint64_t from = inbox->first;; from = kept.offset + 1) {
        enum peal_err err = kept_find(heads, head, from, &kept);
        if (err != PEAL_OK) return err;
        if (kept.offset == 0) break;
        uint64_t expires_ms = kept.record.expires_ms;
        if (expires_ms == 0) continue;
        if (expires_ms <= now_ms) {
            err = kept_remove(heads, head, &kept, PEAL_GONE_EXPIRED);
            if (err != PEAL_OK) return err;
        } else if (soonest == 0 || expires_ms < soonest) {
            soonest = expires_ms;
        }
    }
    inbox->expires_ms = soonest;
    head->dirty = true;
    return PEAL_OK;
}

enum peal_err peal_heads_retain(struct peal_heads *heads, struct peal_head *head,
                                const struct peal_config_group *policy, uint64_t now_ms,
                                uint64_t more, uint64_t more_bytes, size_t most)
{
    struct peal_inbox *inbox = &head->inbox;
    if (!head->exists || inbox->first == inbox->next) return PEAL_OK;
    enum peal_err err = retain_ttl(heads, head, now_ms);
    if (err != PEAL_OK) return err;

    for (size_t removed = 0;; removed++) {
        /* Cheap and true most of the time: nothing has to go. */
        uint64_t oldest_ms = inbox->oldest_ms;
        enum peal_gone gone =
            peal_inbox_judge(inbox, policy, oldest_ms, 0, now_ms, more, more_bytes);
        bool hole = peal_inbox_read(inbox, inbox->first);
        if (gone == PEAL_GONE_NOT && !hole) return PEAL_OK;

        struct kept kept;
        err = kept_find(heads, head, inbox->first, &kept);
        if (err != PEAL_OK) return err;
        uint64_t first = kept.offset == 0 ? inbox->next : kept.offset;
        if (first != inbox->first) {
            peal_inbox_advance(inbox, first, kept.record.stored_ms);
            head->dirty = true;
        }
        if (kept.offset == 0 || removed == most) return PEAL_OK;
        if (inbox->oldest_ms != kept.record.stored_ms) head->dirty = true;
        inbox->oldest_ms = kept.record.stored_ms;
        gone = peal_inbox_judge(inbox, policy, kept.record.stored_ms, kept.record.expires_ms,
                                now_ms, more, more_bytes);
        if (gone == PEAL_GONE_NOT) return PEAL_OK;
        err = kept_remove(heads, head, &kept, gone);
        if (err != PEAL_OK) return err;
    }
}

void peal_heads_forget_slot(struct peal_heads *heads, uint16_t slot)
{
    for (struct peal_head *head = heads->all; head != NULL; head = head->next) {
        if (head->slot != slot) continue;
        peal_inbox_init(&head->inbox, 0, heads->generation);
        head->exists = head->dirty = false;
    }
}

/* ---- writing ---------------------------------------------------------------------------- */

bool peal_heads_dirty(const struct peal_heads *heads)
{
    if (heads->gid_dirty) return true;
    for (const struct peal_head *head = heads->all; head != NULL; head = head->next) {
        if (head->dirty) return true;
    }
    return false;
}

enum peal_err peal_heads_write(struct peal_heads *heads)
{
    char record[PEAL_RECORD_HEAD_MAX];
    for (struct peal_head *head = heads->all; head != NULL; head = head->next) {
        if (!head->dirty) continue;
        size_t size = peal_head_encode(key_of(head), &head->inbox, record);
        enum peal_err err =
            peal_txn_put(heads->txn, PEAL_TREE_HEAD, key_of(head), peal_span_make(record, size));
        if (err != PEAL_OK) return err;
        head->dirty = false;
    }
    if (!heads->gid_dirty) return PEAL_OK;
    heads->gid_dirty = false;
    peal_number_encode(GID_KEY, heads->gid, record);
    return peal_txn_put(heads->txn, PEAL_TREE_META, GID_KEY,
                        peal_span_make(record, PEAL_RECORD_NUMBER));
}

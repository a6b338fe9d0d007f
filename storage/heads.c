#include "storage/heads.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "proto/envelope.h"
#include "proto/group.h"
#include "storage/keys.h"

struct peal_head_before {
    struct peal_head_before *next;
    struct peal_head *head;
    struct peal_inbox inbox;
    struct peal_places places;
    uint64_t begin_ver;
    bool replaced; /* the head has other places now, and these are ours to free */
};

struct peal_zeroed {
    struct peal_head *head;
    uint64_t offset;
    uint64_t place;
};

enum {
    PLACES_MIN = 4,
    COLLAPSE_SLOTS_MAX = 4 << 20, /* 64 MiB */
};

enum peal_err peal_heads_init(struct peal_heads *heads, struct peal_db *inbox, uint64_t generation)
{
    *heads = (struct peal_heads){
        .inbox_db = inbox, .generation = generation, .collapse_slots_max = COLLAPSE_SLOTS_MAX};
    peal_link_init(&heads->all);
    peal_link_init(&heads->guests);
    peal_link_init(&heads->collapses);
    return peal_map_init(&heads->map);
}

void peal_heads_collapse_forget(struct peal_heads *heads, struct peal_head *head)
{
    if (head->collapse == NULL) return;
    PEAL_ASSERT(heads->collapse_slots >= head->collapse->slot_count);
    heads->collapse_slots -= head->collapse->slot_count;
    peal_collapse_free(head->collapse);
    head->collapse = NULL;
}

static void head_free(struct peal_heads *heads, struct peal_head *head)
{
    PEAL_ASSERT(head->before == NULL);
    peal_heads_collapse_forget(heads, head);
    peal_map_remove(&heads->map, &head->node);
    peal_list_remove(&head->link);
    peal_inbox_fini(&head->inbox);
    free(head->places.at);
    free(head);
}

static void free_list(struct peal_heads *heads, struct peal_link *list)
{
    while (!peal_list_empty(list))
        head_free(heads, PEAL_FROM_LINK(list->next, struct peal_head, link));
}

void peal_heads_fini(struct peal_heads *heads)
{
    if (heads->all.next == NULL) return;
    peal_heads_rollback(heads);
    free_list(heads, &heads->guests);
    free_list(heads, &heads->all);
    peal_buf_fini(&heads->holes);
    peal_buf_fini(&heads->zeroed);
    peal_entry_room_fini(&heads->room);
    peal_map_fini(&heads->map);
}

bool peal_head_exists(const struct peal_head *head)
{
    return head->inbox.n.ver > 0;
}

struct peal_span peal_head_name(const struct peal_head *head)
{
    return peal_span_make(head->name, head->name_size);
}

/* Has the log something that the inbox has not? */
static bool pending(const struct peal_head *head)
{
    return head->inbox.n.ver > head->moved_ver;
}

/* ---- places ------------------------------------------------------------------------------- */

/* The place of an offset that is not below base; NULL when there is none. */
static uint64_t *place_of(const struct peal_places *places, uint64_t offset)
{
    if (offset < places->base || offset - places->base >= places->end - places->begin) return NULL;
    return &places->at[places->begin + (offset - places->base)];
}

/* Those below `first` are of no interest any more. Nothing moves: a batch may be rolled back. */
static void places_advance(struct peal_places *places, uint64_t first)
{
    if (first <= places->base) return;
    uint64_t count = places->end - places->begin;
    uint64_t gone = first - places->base < count ? first - places->base : count;
    places->begin += (uint32_t)gone;
    places->base = first;
}

static void places_compact(struct peal_places *places)
{
    uint32_t count = places->end - places->begin;
    if (places->begin < count || places->begin == 0) return;
    memmove(places->at, places->at + places->begin, count * sizeof *places->at);
    places->begin = 0;
    places->end = count;
}

static bool places_reserve(struct peal_places *places, uint64_t more)
{
    if (places->room - places->end >= more) return true;
    uint64_t room = places->room < PLACES_MIN ? PLACES_MIN : places->room;
    while (room - places->end < more)
        room *= 2;
    PEAL_ASSERT(room <= UINT32_MAX);
    uint64_t *at = realloc(places->at, room * sizeof *at);
    if (at == NULL) return false;
    places->at = at;
    places->room = (uint32_t)room;
    return true;
}

/* The head gets other places; those of before the batch are kept aside. */
static void places_replace(struct peal_head *head, struct peal_places with)
{
    PEAL_ASSERT(head->before != NULL);
    struct peal_head_before *before = head->before;
    if (before->replaced) {
        free(head->places.at);
    } else {
        /* They may have grown since the head was touched. */
        before->places.at = head->places.at;
        before->places.room = head->places.room;
    }
    before->replaced = true;
    head->places = with;
}

/* Offsets from `offset` on get a place, although the inbox has them. */
static enum peal_err places_begin_at(struct peal_head *head, uint64_t offset)
{
    struct peal_places *old = &head->places;
    uint32_t count = old->end - old->begin;
    uint64_t more = old->base - offset;
    struct peal_places with = {.base = offset};
    if (!places_reserve(&with, more + count)) return PEAL_ENOMEM;
    for (uint64_t i = 0; i < more; i++)
        with.at[i] = PEAL_PLACE_INBOX;
    if (count > 0) memcpy(with.at + more, old->at + old->begin, count * sizeof *with.at);
    with.end = (uint32_t)(more + count);
    places_replace(head, with);
    return PEAL_OK;
}

enum peal_err peal_heads_place(struct peal_heads *heads, struct peal_head *head, uint64_t offset,
                               uint64_t seq)
{
    (void)heads;
    struct peal_places *places = &head->places;
    if (places->begin == places->end) places->base = offset;
    /* Lost records of the log leave offsets without a place. */
    PEAL_ASSERT(offset >= places->base);
    uint64_t at = offset - places->base;
    uint64_t count = places->end - places->begin;
    PEAL_ASSERT(at <= PEAL_INBOX_MESSAGES_MAX);
    if (at >= count && !places_reserve(places, at + 1 - count)) return PEAL_ENOMEM;
    for (; count <= at; count++)
        places->at[places->end++] = 0;
    places->at[places->begin + at] = seq;
    return PEAL_OK;
}

/* ---- batches ------------------------------------------------------------------------------ */

void peal_heads_begin(struct peal_heads *heads, struct peal_txn *log)
{
    PEAL_ASSERT(heads->touched == NULL);
    heads->log = log;
    heads->tally = (struct peal_tally){0};
    heads->zeroed.size = 0;
}

static void batch_end(struct peal_heads *heads)
{
    if (heads->inbox.mdb != NULL) peal_txn_abort(&heads->inbox);
    heads->log = NULL;
    PEAL_LIST_EACH(&heads->guests, it, after)
    {
        struct peal_head *head = PEAL_FROM_LINK(it, struct peal_head, link);
        if (!pending(head)) {
            head_free(heads, head);
            continue;
        }
        peal_list_remove(&head->link);
        peal_list_append(&heads->all, &head->link);
    }
}

static struct peal_head *untouch(struct peal_heads *heads)
{
    struct peal_head_before *before = heads->touched;
    heads->touched = before->next;
    before->head->before = NULL;
    return before->head;
}

void peal_heads_commit(struct peal_heads *heads)
{
    heads->zeroed.size = 0;
    while (heads->touched != NULL) {
        struct peal_head_before *before = heads->touched;
        struct peal_head *head = untouch(heads);
        heads->unmoved += (int64_t)head->inbox.n.kept - (int64_t)before->inbox.n.kept;
        places_compact(&head->places);
        if (head->collapse != NULL) head->collapse->changed = false;
        if (before->replaced) free(before->places.at);
        peal_inbox_fini(&before->inbox);
        free(before);
    }
    batch_end(heads);
}

void peal_heads_rollback(struct peal_heads *heads)
{
    const struct peal_zeroed *zeroed = (const void *)heads->zeroed.at;
    size_t count = heads->zeroed.size / sizeof *zeroed;
    for (struct peal_head_before *b = heads->touched; b != NULL; b = b->next) {
        struct peal_head *head = b->head;
        peal_inbox_fini(&head->inbox);
        head->inbox = b->inbox;
        head->begin_ver = b->begin_ver;
        if (head->collapse != NULL && head->collapse->changed)
            peal_heads_collapse_forget(heads, head);
        if (b->replaced) {
            free(head->places.at);
            head->places = b->places;
        } else {
            head->places.base = b->places.base;
            head->places.begin = b->places.begin;
            head->places.end = b->places.end;
        }
    }
    for (size_t i = count; i-- > 0;) {
        uint64_t *place = place_of(&zeroed[i].head->places, zeroed[i].offset);
        if (place != NULL) *place = zeroed[i].place;
    }
    heads->zeroed.size = 0;
    while (heads->touched != NULL) {
        struct peal_head_before *before = heads->touched;
        untouch(heads);
        free(before);
    }
    batch_end(heads);
}

enum peal_err peal_heads_touch(struct peal_heads *heads, struct peal_head *head)
{
    if (head->before == NULL) {
        struct peal_head_before *before = malloc(sizeof *before);
        if (before == NULL) return PEAL_ENOMEM;
        *before = (struct peal_head_before){.next = heads->touched,
                                            .head = head,
                                            .places = head->places,
                                            .begin_ver = head->begin_ver};
        if (peal_inbox_copy(&head->inbox, &before->inbox) != PEAL_OK) {
            free(before);
            return PEAL_ENOMEM;
        }
        heads->touched = head->before = before;
    }
    return peal_inbox_reserve(&head->inbox, head->inbox.n.next + 1);
}

void peal_heads_number(struct peal_heads *heads, struct peal_head *head)
{
    PEAL_ASSERT(head->before != NULL);
    if (head->inbox.n.gid == 0) head->inbox.n.gid = ++heads->gid;
}

void peal_heads_reset(struct peal_heads *heads, struct peal_head *head, uint64_t epoch,
                      uint64_t ver)
{
    PEAL_ASSERT(head->before != NULL);
    peal_heads_collapse_forget(heads, head);
    peal_inbox_fini(&head->inbox);
    peal_inbox_init(&head->inbox, epoch);
    head->inbox.n.ver = ver;
    head->begin_ver = ver;
    places_replace(head, (struct peal_places){.base = 1});
}

/* ---- reading ------------------------------------------------------------------------------ */

static enum peal_err read_begin(struct peal_heads *heads)
{
    if (heads->inbox.mdb != NULL) return PEAL_OK;
    return peal_txn_begin(&heads->inbox, heads->inbox_db, false);
}

static enum peal_err head_load(struct peal_heads *heads, struct peal_head *head)
{
    char at[PEAL_KEY_HEAD_MAX];
    struct peal_span key = {at, peal_key_head(at, peal_head_name(head))};
    struct peal_span value;
    peal_inbox_init(&head->inbox, heads->generation);
    head->places.base = 1;
    if (heads->dropped_at[head->slot] != 0) return PEAL_OK;
    enum peal_err err = read_begin(heads);
    if (err == PEAL_OK) err = peal_txn_get(&heads->inbox, PEAL_TREE_HEAD, key, &value);
    if (err == PEAL_ENOT_FOUND) return PEAL_OK;
    if (err == PEAL_OK) err = peal_head_decode(key, value, &head->inbox);
    if (err != PEAL_OK) {
        if (err == PEAL_ECORRUPT) peal_inbox_init(&head->inbox, heads->generation);
        return err;
    }
    head->moved_ver = head->inbox.n.ver;
    head->moved_kept = head->inbox.n.kept;
    head->places.base = head->inbox.n.next;
    return PEAL_OK;
}

enum peal_err peal_heads_get(struct peal_heads *heads, struct peal_span group,
                             struct peal_head **out)
{
    struct peal_map_node *node = peal_map_find(&heads->map, group);
    if (node != NULL) {
        *out = PEAL_FROM_NODE(node, struct peal_head, node);
        return PEAL_OK;
    }
    PEAL_ASSERT(group.size <= UINT8_MAX);
    struct peal_head *head = malloc(sizeof *head + group.size);
    if (head == NULL) return PEAL_ENOMEM;
    *head = (struct peal_head){.slot = peal_group_slot(group),
                               .marks = peal_group_is_inbox(group),
                               .name_size = (uint8_t)group.size};
    memcpy(head->name, group.at, group.size);
    enum peal_err err = head_load(heads, head);
    if (err != PEAL_OK && err != PEAL_ECORRUPT) {
        free(head);
        return err;
    }
    peal_list_append(&heads->guests, &head->link);
    peal_map_add(&heads->map, &head->node, peal_head_name(head));
    *out = head;
    return err;
}

/* ---- retention ---------------------------------------------------------------------------- */

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
    case PEAL_GONE_COLLAPSED:
        heads->tally.collapsed++;
        break;
    }
}

struct kept {
    uint64_t offset; /* 0: there is none */
    struct peal_record record;
    bool damaged;
};

/* In the inbox, from `from` on. */
static enum peal_err kept_in_inbox(struct peal_heads *heads, const struct peal_head *head,
                                   uint64_t from, struct kept *out)
{
    char at[PEAL_KEY_MESSAGE];
    struct peal_span key;
    struct peal_span value;
    enum peal_err err = read_begin(heads);
    if (err != PEAL_OK) return err;
    peal_key_message(at, head->slot, head->inbox.n.gid, from);
    err = peal_txn_seek(&heads->inbox, PEAL_TREE_MESSAGE, peal_span_make(at, sizeof at), &key,
                        &value);
    if (err == PEAL_ENOT_FOUND) return PEAL_OK;
    if (err != PEAL_OK) return err;
    uint64_t offset = peal_key_message_offset(key, head->slot, head->inbox.n.gid);
    if (offset == 0 || offset >= head->inbox.n.next) return PEAL_OK;
    out->offset = offset;
    out->damaged = peal_record_decode(key, value, &out->record) != PEAL_OK;
    return PEAL_OK;
}

static enum peal_err kept_in_log(struct peal_heads *heads, const struct peal_head *head,
                                 uint64_t offset, uint64_t seq, struct kept *out)
{
    char at[PEAL_KEY_ENTRY];
    struct peal_span key = {at, sizeof at};
    struct peal_span value;
    struct peal_entry entry;
    peal_key_entry(at, seq);
    out->offset = offset;
    enum peal_err err = peal_txn_get(heads->log, PEAL_TREE_LOG, key, &value);
    if (err == PEAL_OK) err = peal_entry_decode(key, value, &heads->room, &entry);
    if (err == PEAL_OK &&
        (entry.offset != offset || !peal_span_equal(entry.group, peal_head_name(head))))
        err = PEAL_ECORRUPT;
    out->damaged = err == PEAL_ECORRUPT || err == PEAL_ENOT_FOUND;
    if (out->damaged) return PEAL_OK;
    if (err != PEAL_OK) return err;
    out->record = (struct peal_record){
        .stored_ms = entry.stored_ms, .expires_ms = entry.expires_ms, .envelope = entry.envelope};
    return PEAL_OK;
}

/* The first message at or after `from`. */
static enum peal_err kept_find(struct peal_heads *heads, const struct peal_head *head,
                               uint64_t from, struct kept *out)
{
    const struct peal_places *places = &head->places;
    enum peal_err err = PEAL_OK;
    *out = (struct kept){0};
    if (from < places->base) err = kept_in_inbox(heads, head, from, out);
    if (out->offset >= places->base && out->offset != 0) *out = (struct kept){0};
    if (from < places->base) from = places->base;
    for (; err == PEAL_OK && out->offset == 0 && from < head->inbox.n.next; from++) {
        const uint64_t *place = place_of(places, from);
        if (place == NULL) break;
        if (*place == 0) continue;
        if (*place != PEAL_PLACE_INBOX) {
            err = kept_in_log(heads, head, from, *place, out);
        } else {
            err = kept_in_inbox(heads, head, from, out);
            if (out->offset == from) break;
            /* A hole that the inbox knew already when places began further down; or lost. */
            bool hole = peal_inbox_read(&head->inbox, from);
            *out = hole ? (struct kept){0} : (struct kept){.offset = from, .damaged = true};
        }
    }
    /* Its own times cannot be believed; it goes with what is around it. */
    if (out->damaged) out->record = (struct peal_record){.stored_ms = head->inbox.n.oldest_ms};
    return err;
}

static void remove_kept(struct peal_heads *heads, struct peal_head *head, const struct kept *kept,
                        enum peal_gone gone)
{
    if (kept->damaged) {
        heads->tally.corrupt++;
        heads->tally.damaged++;
    } else {
        tally_gone(heads, gone);
    }
    peal_inbox_remove(&head->inbox, kept->offset, kept->record.envelope.size, gone);
}

enum peal_err peal_heads_hole(struct peal_heads *heads, struct peal_head *head, uint64_t offset,
                              uint64_t bytes, enum peal_gone gone)
{
    PEAL_ASSERT(head->before != NULL);
    if (offset < head->places.base) {
        enum peal_err err = places_begin_at(head, offset);
        if (err != PEAL_OK) return err;
    }
    peal_buf_add(&heads->holes, &offset, sizeof offset);
    uint64_t *place = place_of(&head->places, offset);
    if (place != NULL && !head->before->replaced) {
        struct peal_zeroed zeroed = {head, offset, *place};
        peal_buf_add(&heads->zeroed, &zeroed, sizeof zeroed);
    }
    if (heads->holes.failed || heads->zeroed.failed) return PEAL_ENOMEM;
    if (place != NULL) *place = 0;
    tally_gone(heads, gone);
    peal_inbox_remove(&head->inbox, offset, bytes, gone);
    return PEAL_OK;
}

/* Removes from anywhere in the window what its own TTL has ended. */
static enum peal_err retain_ttl(struct peal_heads *heads, struct peal_head *head, uint64_t now_ms,
                                bool *changed)
{
    struct peal_inbox *inbox = &head->inbox;
    if (inbox->n.expires_ms == 0 || inbox->n.expires_ms > now_ms) return PEAL_OK;
    enum peal_err err = peal_heads_touch(heads, head);
    uint64_t soonest = 0;
    struct kept kept;
    for (uint64_t from = inbox->n.first; err == PEAL_OK; from = kept.offset + 1) {
        err = kept_find(heads, head, from, &kept);
        if (err != PEAL_OK || kept.offset == 0) break;
        uint64_t expires_ms = kept.record.expires_ms;
        if (expires_ms != 0 && expires_ms <= now_ms)
            err = peal_heads_hole(heads, head, kept.offset, kept.record.envelope.size,
                                  PEAL_GONE_EXPIRED);
        else if (expires_ms != 0 && (soonest == 0 || expires_ms < soonest))
            soonest = expires_ms;
    }
    inbox->n.expires_ms = soonest;
    *changed = true;
    return err;
}

static enum peal_err begin_window(struct peal_heads *heads, struct peal_head *head, uint64_t first,
                                  uint64_t oldest_ms)
{
    enum peal_err err = peal_heads_touch(heads, head);
    if (err != PEAL_OK) return err;
    peal_inbox_advance(&head->inbox, first, oldest_ms);
    places_advance(&head->places, first);
    return PEAL_OK;
}

enum peal_err peal_heads_retain(struct peal_heads *heads, struct peal_head *head,
                                const struct peal_config_group *policy, uint64_t now_ms,
                                uint64_t more, uint64_t more_bytes, size_t most, bool *changed)
{
    struct peal_inbox *inbox = &head->inbox;
    if (!peal_head_exists(head) || inbox->n.first == inbox->n.next) return PEAL_OK;
    enum peal_err err = retain_ttl(heads, head, now_ms, changed);

    if (err != PEAL_OK) return err;
    /* Cheap and true most of the time: nothing has to go. */
    bool hole = peal_inbox_read(inbox, inbox->n.first);
    if (!hole && peal_inbox_judge(inbox, policy, inbox->n.oldest_ms, 0, now_ms, more, more_bytes) ==
                     PEAL_GONE_NOT)
        return PEAL_OK;
    struct kept kept;
    err = kept_find(heads, head, inbox->n.first, &kept);
    for (size_t removed = 0; err == PEAL_OK; removed++) {
        uint64_t first = kept.offset == 0 ? inbox->n.next : kept.offset;
        if (first != inbox->n.first || inbox->n.oldest_ms != kept.record.stored_ms) {
            err = begin_window(heads, head, first, kept.record.stored_ms);
            *changed = true;
        }
        if (err != PEAL_OK || kept.offset == 0 || removed == most) return err;
        enum peal_gone gone = peal_inbox_judge(inbox, policy, kept.record.stored_ms,
                                               kept.record.expires_ms, now_ms, more, more_bytes);
        if (gone == PEAL_GONE_NOT) return PEAL_OK;
        err = peal_heads_touch(heads, head);
        if (err != PEAL_OK) return err;
        remove_kept(heads, head, &kept, gone);
        places_advance(&head->places, inbox->n.first);
        *changed = true;
        /* Its record is there until the log is settled: one has to look behind it. */
        err = kept_find(heads, head, kept.offset + 1, &kept);
    }
    return err;
}

/* ---- collapse keys ------------------------------------------------------------------------ */

static bool key_of(const struct kept *kept, struct peal_span *key)
{
    struct peal_envelope env;
    if (kept->damaged || peal_envelope_decode(kept->record.envelope, &env) != PEAL_OK) return false;
    *key = env.collapse;
    return key->size > 0;
}

static enum peal_err collapse_note(struct peal_heads *heads, struct peal_head *head,
                                   struct peal_span key, uint64_t offset)
{
    struct peal_collapse *collapse = head->collapse;
    heads->collapse_slots -= collapse->slot_count;
    enum peal_err err = peal_collapse_note(collapse, key, offset, head->inbox.n.first);
    heads->collapse_slots += collapse->slot_count;
    return err;
}

/* Looks through all that is kept, once for as long as the head is in memory. */
static enum peal_err collapse_make(struct peal_heads *heads, struct peal_head *head)
{
    struct kept kept;
    struct peal_span key;
    head->collapse = peal_collapse_new();
    if (head->collapse == NULL) return PEAL_ENOMEM;
    head->collapse->changed = true;
    head->collapse->owner = head;
    heads->collapse_slots += head->collapse->slot_count;
    enum peal_err err = PEAL_OK;
    for (uint64_t from = head->inbox.n.first; err == PEAL_OK; from = kept.offset + 1) {
        err = kept_find(heads, head, from, &kept);
        if (err != PEAL_OK || kept.offset == 0) break;
        if (key_of(&kept, &key)) err = collapse_note(heads, head, key, kept.offset);
    }
    return err;
}

static void collapses_bound(struct peal_heads *heads, const struct peal_head *head)
{
    while (heads->collapse_slots > heads->collapse_slots_max) {
        struct peal_collapse *oldest =
            PEAL_FROM_LINK(heads->collapses.next, struct peal_collapse, link);
        if (oldest == head->collapse) return;
        peal_heads_collapse_forget(heads, oldest->owner);
    }
}

/* The message that has the key; none when it went, or cannot be read. */
static enum peal_err collapse_find(struct peal_heads *heads, const struct peal_head *head,
                                   struct peal_span key, struct kept *out)
{
    struct peal_span found;
    uint64_t offset = peal_collapse_find(head->collapse, key);
    *out = (struct kept){0};
    if (offset < head->inbox.n.first) return PEAL_OK;
    const uint64_t *place = place_of(&head->places, offset);
    if (place != NULL && *place == 0) return PEAL_OK;
    enum peal_err err = kept_find(heads, head, offset, out);
    if (err == PEAL_OK && out->offset == offset && key_of(out, &found) &&
        peal_span_equal(found, key))
        return PEAL_OK;
    *out = (struct kept){0};
    return err;
}

enum peal_err peal_heads_collapse(struct peal_heads *heads, struct peal_head *head,
                                  struct peal_span key)
{
    struct kept kept;
    PEAL_ASSERT(head->before != NULL);
    enum peal_err err = head->collapse == NULL ? collapse_make(heads, head) : PEAL_OK;
    if (err != PEAL_OK) {
        peal_heads_collapse_forget(heads, head);
        return err;
    }
    peal_list_remove(&head->collapse->link);
    peal_list_append(&heads->collapses, &head->collapse->link);
    err = collapse_find(heads, head, key, &kept);
    if (err == PEAL_OK && kept.offset != 0)
        err = peal_heads_hole(heads, head, kept.offset, kept.record.envelope.size,
                              PEAL_GONE_COLLAPSED);
    if (err == PEAL_OK) err = collapse_note(heads, head, key, head->inbox.n.next);
    collapses_bound(heads, head);
    return err;
}

/* ---- start -------------------------------------------------------------------------------- */

/* A record of the log is applied as a batch of its own that cannot be rolled back. */
static enum peal_err replay_places(struct peal_heads *heads, struct peal_head *head,
                                   const struct peal_entry *entry, uint64_t seq, uint64_t gid)
{
    bool anew = entry->kind == PEAL_ENTRY_STATE ||
                (entry->kind == PEAL_ENTRY_EPOCH && gid != entry->numbers.gid);
    if (anew) {
        head->places.begin = head->places.end = 0;
        head->places.base = entry->numbers.first;
        head->begin_ver = entry->numbers.ver;
    }
    enum peal_err err = PEAL_OK;
    if (entry->kind == PEAL_ENTRY_PUT || entry->kind == PEAL_ENTRY_MESSAGE)
        err = peal_heads_place(heads, head, entry->offset, seq);
    for (size_t i = 0; err == PEAL_OK && i < entry->hole_count; i++) {
        uint64_t offset = entry->holes[i];
        if (offset < head->places.base && offset >= head->inbox.n.first) {
            struct peal_head_before before = {.head = head};
            head->before = &before;
            struct peal_places old = head->places;
            err = places_begin_at(head, offset);
            if (err == PEAL_OK) free(old.at);
            head->before = NULL;
        }
        uint64_t *place = place_of(&head->places, offset);
        if (place != NULL) *place = 0;
    }
    places_advance(&head->places, head->inbox.n.first);
    places_compact(&head->places);
    return err;
}

enum peal_err peal_heads_replay(struct peal_heads *heads, const struct peal_entry *entry,
                                uint64_t seq)
{
    struct peal_head *head;
    bool applied;
    if (entry->kind == PEAL_ENTRY_DROP) {
        peal_heads_drop_slot(heads, entry->slot, seq);
        return PEAL_OK;
    }
    if (entry->kind == PEAL_ENTRY_ID) return PEAL_OK;
    enum peal_err err = peal_heads_get(heads, entry->group, &head);
    if (err != PEAL_OK && err != PEAL_ECORRUPT) return err;
    if (entry->numbers.gid > heads->gid) heads->gid = entry->numbers.gid;
    uint64_t kept = head->inbox.n.kept;
    uint64_t gid = head->inbox.n.gid;
    err = peal_entry_apply(entry, &head->inbox, &applied);
    if (err == PEAL_OK && applied) {
        heads->unmoved += (int64_t)head->inbox.n.kept - (int64_t)kept;
        err = replay_places(heads, head, entry, seq, gid);
    }
    if (pending(head)) {
        peal_list_remove(&head->link);
        peal_list_append(&heads->all, &head->link);
    }
    return err;
}

void peal_heads_drop_slot(struct peal_heads *heads, uint16_t slot, uint64_t seq)
{
    PEAL_ASSERT(heads->touched == NULL);
    PEAL_LIST_EACH(&heads->all, it, after)
    {
        struct peal_head *head = PEAL_FROM_LINK(it, struct peal_head, link);
        if (head->slot != slot) continue;
        /* What the inbox has of it is counted when it goes from there. */
        heads->unmoved -= (int64_t)head->inbox.n.kept - (int64_t)head->moved_kept;
        head_free(heads, head);
    }
    PEAL_LIST_EACH(&heads->guests, it, after)
    {
        struct peal_head *head = PEAL_FROM_LINK(it, struct peal_head, link);
        if (head->slot == slot) head_free(heads, head);
    }
    if (heads->dropped_at[slot] == 0) heads->dropped_count++;
    heads->dropped_at[slot] = seq;
}

/* ---- what was settled --------------------------------------------------------------------- */

/* The inbox has what is below `next`, but for holes that were made since. */
static void places_moved(struct peal_head *head, uint64_t next)
{
    struct peal_places *places = &head->places;
    uint64_t *place;
    while (places->base < next && (place = place_of(places, places->base)) != NULL &&
           (*place != 0 || places->base < head->inbox.n.first))
        places_advance(places, places->base + 1);
    for (uint64_t offset = places->base; offset < next; offset++) {
        if ((place = place_of(places, offset)) == NULL) break;
        if (*place != 0) *place = PEAL_PLACE_INBOX;
    }
    if (places->begin == places->end && places->base < next) places->base = next;
    places_compact(places);
}

void peal_heads_dropped(struct peal_heads *heads, uint64_t seq)
{
    for (size_t slot = 0; heads->dropped_count > 0 && slot < PEAL_SLOTS; slot++) {
        if (heads->dropped_at[slot] == 0 || heads->dropped_at[slot] > seq) continue;
        heads->dropped_at[slot] = 0;
        heads->dropped_count--;
    }
}

void peal_heads_moved(struct peal_heads *heads, const struct peal_settle_group *group,
                      struct peal_span name)
{
    struct peal_map_node *node = peal_map_find(&heads->map, name);
    if (node == NULL) return;
    struct peal_head *head = PEAL_FROM_NODE(node, struct peal_head, node);
    /* Of a life before a drop, or before its damage was found. */
    if (heads->dropped_at[head->slot] != 0 || group->gid != head->inbox.n.gid) return;
    PEAL_ASSERT(head->before == NULL);
    heads->unmoved += (int64_t)head->moved_kept - (int64_t)group->kept;
    head->moved_ver = group->ver;
    head->moved_kept = group->kept;
    if (!pending(head))
        head_free(heads, head);
    else if (group->ver >= head->begin_ver)
        places_moved(head, group->next);
}

struct peal_head *peal_heads_walk(struct peal_heads *heads)
{
    if (peal_list_empty(&heads->all)) return NULL;
    struct peal_link *link = heads->all.next;
    peal_list_remove(link);
    peal_list_append(&heads->all, link);
    return PEAL_FROM_LINK(link, struct peal_head, link);
}

/* ---- views -------------------------------------------------------------------------------- */

enum peal_err peal_heads_view(struct peal_heads *heads, struct peal_snapshot *snapshot,
                              struct peal_span group, struct peal_view *out)
{
    struct peal_head *head;
    *out = (struct peal_view){0};
    enum peal_err err = peal_heads_get(heads, group, &head);
    if (err == PEAL_OK) err = peal_inbox_copy(&head->inbox, &out->inbox);
    if (err != PEAL_OK) return err;
    const struct peal_places *places = &head->places;
    out->base = places->base;
    out->place_count = places->end - places->begin;
    if (out->place_count > 0) {
        out->places = malloc(out->place_count * sizeof *out->places);
        if (out->places == NULL) {
            peal_inbox_fini(&out->inbox);
            return PEAL_ENOMEM;
        }
        memcpy(out->places, places->at + places->begin, out->place_count * sizeof *out->places);
    }
    out->snapshot = snapshot;
    peal_snapshot_ref(snapshot);
    return PEAL_OK;
}

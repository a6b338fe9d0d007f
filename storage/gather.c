#include "storage/gather.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "proto/group.h"
#include "storage/keys.h"

enum { SCAN_ENTRIES = 1024 }; /* between two looks whether to stop */

struct peal_span peal_gathered_name(const struct peal_gathered *group)
{
    return peal_span_make(group->name, group->name_size);
}

/* Room for `more` elements of `size`. Errors: false. */
static bool list_grow(void **at, size_t *room, size_t count, size_t more, size_t size)
{
    if (more <= *room - count) return true;
    size_t wanted = *room * 2 < count + more ? count + more : *room * 2;
    void *grown = realloc(*at, wanted * size);
    if (grown == NULL) return false;
    *at = grown;
    *room = wanted;
    return true;
}

/* ---- heads -------------------------------------------------------------------- */

static void group_free(struct peal_gathered *group)
{
    peal_inbox_fini(&group->inbox);
    free(group->places);
    free(group->holes);
    free(group);
}

static void count_damaged_head(struct peal_gather *gather, const struct peal_gathered *group)
{
    char quoted[256];
    gather->corrupt++;
    peal_log(PEAL_LOG_ERROR, "store.head_damaged", "group=%s",
             peal_log_quote(peal_gathered_name(group), quoted, sizeof quoted));
}

/* Makes the group what the inbox has, or an empty one of the entry's epoch. */
static enum peal_err group_load(struct peal_gather *gather, struct peal_gathered *group,
                                const struct peal_entry *entry)
{
    char key[PEAL_KEY_HEAD_MAX];
    struct peal_span at = {key, peal_key_head(key, peal_gathered_name(group))};
    struct peal_span value;
    peal_inbox_fini(&group->inbox);
    peal_inbox_init(&group->inbox, entry->numbers.epoch);
    group->dirty = false;
    group->old_gid = group->old_first = group->old_next = group->purge_gid = 0;
    group->place_count = group->hole_count = 0;
    if (gather->dropped[group->slot] > gather->dropped_to) return PEAL_OK;

    enum peal_err err = peal_txn_get(gather->inbox, PEAL_TREE_HEAD, at, &value);
    if (err == PEAL_ENOT_FOUND) return PEAL_OK;
    if (err != PEAL_OK) return err;
    struct peal_inbox inbox;
    err = peal_head_decode(at, value, &inbox);
    if (err == PEAL_ECORRUPT) {
        count_damaged_head(gather, group);
        group->old_gid = entry->numbers.gid;
        group->old_next = UINT64_MAX;
        return PEAL_OK;
    }
    if (err != PEAL_OK) return err;
    group->inbox = inbox;
    group->old_gid = inbox.n.gid;
    group->old_first = inbox.n.first;
    group->old_next = inbox.n.next;
    return PEAL_OK;
}

static enum peal_err group_get(struct peal_gather *gather, const struct peal_entry *entry,
                               uint64_t seq, struct peal_gathered **out)
{
    struct peal_map_node *node = peal_map_find(&gather->map, entry->group);
    struct peal_gathered *group = NULL;
    if (node != NULL) {
        group = PEAL_FROM_NODE(node, struct peal_gathered, node);
    } else {
        group = calloc(1, sizeof *group + entry->group.size);
        if (group == NULL) return PEAL_ENOMEM;
        group->name_size = entry->group.size;
        memcpy(group->name, entry->group.at, entry->group.size);
        group->slot = peal_group_slot(entry->group);
        peal_map_add(&gather->map, &group->node, peal_gathered_name(group));
    }
    *out = group;
    /* Sequences begin at 1; what is older than a DROP of its slot is forgotten. */
    if (group->since > gather->dropped[group->slot]) return PEAL_OK;
    enum peal_err err = group_load(gather, group, entry);
    if (err == PEAL_OK) group->since = seq;
    return err;
}

/* What was there goes, and what was found in the range so far. */
static void group_empty(struct peal_gathered *group)
{
    if (group->old_gid != 0) group->purge_gid = group->old_gid;
    group->old_gid = 0;
    group->place_count = group->hole_count = 0;
}

static enum peal_err group_gather(struct peal_gathered *group, const struct peal_entry *entry,
                                  uint64_t seq)
{
    bool message = entry->kind == PEAL_ENTRY_PUT || entry->kind == PEAL_ENTRY_MESSAGE;
    void *at = group->places;
    if (message) {
        if (!list_grow(&at, &group->place_room, group->place_count, 1, sizeof *group->places))
            return PEAL_ENOMEM;
        group->places = at;
        group->places[group->place_count++] = (struct peal_gathered_place){entry->offset, seq};
    }
    if (entry->hole_count == 0) return PEAL_OK;
    at = group->holes;
    if (!list_grow(&at, &group->hole_room, group->hole_count, entry->hole_count,
                   sizeof *group->holes))
        return PEAL_ENOMEM;
    group->holes = at;
    memcpy(group->holes + group->hole_count, entry->holes,
           entry->hole_count * sizeof *group->holes);
    group->hole_count += entry->hole_count;
    return PEAL_OK;
}

static enum peal_err entry_take(struct peal_gather *gather, const struct peal_entry *entry,
                                uint64_t seq)
{
    struct peal_gathered *group;
    enum peal_err err = group_get(gather, entry, seq, &group);
    if (err != PEAL_OK) return err;

    uint64_t gid = group->inbox.n.gid;
    bool applied = false;
    err = peal_entry_apply(entry, &group->inbox, &applied);
    if (err != PEAL_OK || !applied) return err;
    group->dirty = true;
    /* With another number the group is another one, and of a state nothing stays. */
    bool anew = gid != 0 && gid != entry->numbers.gid;
    if (anew || entry->kind == PEAL_ENTRY_STATE) group_empty(group);
    return group_gather(group, entry, seq);
}

/* ---- the log ------------------------------------------------------------------ */

static enum peal_err record_take(struct peal_gather *gather, struct peal_span key,
                                 struct peal_span value, uint64_t seq)
{
    struct peal_entry entry;
    enum peal_err err = peal_entry_decode(key, value, &gather->room, &entry);
    if (err == PEAL_ECORRUPT) {
        gather->corrupt++;
        peal_log(PEAL_LOG_ERROR, "store.entry_damaged", "seq=%llu", (unsigned long long)seq);
        return PEAL_OK;
    }
    if (err != PEAL_OK) return err;
    if (entry.kind == PEAL_ENTRY_ID) return PEAL_OK;
    if (entry.kind != PEAL_ENTRY_DROP) return entry_take(gather, &entry, seq);
    gather->dropped[entry.slot] = seq;
    return PEAL_OK;
}

static enum peal_err log_read(struct peal_gather *gather, uint64_t from, uint64_t to)
{
    char first[PEAL_KEY_ENTRY];
    struct peal_scan scan;
    struct peal_span key;
    struct peal_span value;
    peal_key_entry(first, from);
    enum peal_err err =
        peal_scan_begin(&scan, gather->log, PEAL_TREE_LOG, peal_span_make(first, sizeof first));
    for (size_t i = 1; err == PEAL_OK; i++) {
        uint64_t seq;
        if (i % SCAN_ENTRIES == 0 && atomic_load(gather->stopping)) err = PEAL_EAGAIN;
        if (err == PEAL_OK) err = peal_scan_next(&scan, &key, &value);
        if (err != PEAL_OK) break;
        if (peal_key_entry_seq(key, &seq) != PEAL_OK) {
            gather->corrupt++;
            continue;
        }
        if (seq > to) break;
        err = record_take(gather, key, value, seq);
    }
    peal_scan_end(&scan);
    return err == PEAL_ENOT_FOUND ? PEAL_OK : err;
}

static int offset_compare(const void *a, const void *b)
{
    uint64_t x;
    uint64_t y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

bool peal_gathered_is_hole(const struct peal_gathered *group, uint64_t offset)
{
    if (group->hole_count == 0 || !peal_inbox_read(&group->inbox, offset)) return false;
    return bsearch(&offset, group->holes, group->hole_count, sizeof offset, offset_compare) != NULL;
}

static int group_compare(const void *a, const void *b)
{
    const struct peal_gathered *x = *(struct peal_gathered *const *)a;
    const struct peal_gathered *y = *(struct peal_gathered *const *)b;
    if (x->slot != y->slot) return x->slot < y->slot ? -1 : 1;
    if (x->inbox.n.gid != y->inbox.n.gid) return x->inbox.n.gid < y->inbox.n.gid ? -1 : 1;
    return 0;
}

static enum peal_err groups_sort(struct peal_gather *gather)
{
    if (gather->map.count == 0) return PEAL_OK;
    gather->groups = malloc(gather->map.count * sizeof *gather->groups);
    if (gather->groups == NULL) return PEAL_ENOMEM;
    struct peal_map_node *node = NULL;
    while ((node = peal_map_next(&gather->map, node)) != NULL) {
        struct peal_gathered *group = PEAL_FROM_NODE(node, struct peal_gathered, node);
        if (group->since <= gather->dropped[group->slot]) continue;
        gather->groups[gather->group_count++] = group;
        if (group->hole_count > 0)
            qsort(group->holes, group->hole_count, sizeof *group->holes, offset_compare);
    }
    if (gather->group_count > 0)
        qsort(gather->groups, gather->group_count, sizeof *gather->groups, group_compare);
    return PEAL_OK;
}

enum peal_err peal_gather_range(struct peal_gather *gather, uint64_t from, uint64_t to)
{
    enum peal_err err = peal_map_init(&gather->map);
    if (err == PEAL_OK) err = log_read(gather, from, to);
    if (err == PEAL_OK) err = groups_sort(gather);
    return err;
}

void peal_gather_fini(struct peal_gather *gather)
{
    if (gather->map.buckets == NULL) return;
    struct peal_map_node *node = peal_map_next(&gather->map, NULL);
    while (node != NULL) {
        struct peal_gathered *group = PEAL_FROM_NODE(node, struct peal_gathered, node);
        node = peal_map_next(&gather->map, node);
        group_free(group); /* the map is not asked for it any more */
    }
    peal_map_fini(&gather->map);
    peal_entry_room_fini(&gather->room);
    free(gather->groups);
}

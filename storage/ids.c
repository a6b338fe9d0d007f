#include "storage/ids.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum peal_err peal_ids_init(struct peal_ids *ids, uint64_t age_ms, uint64_t count_max)
{
    *ids = (struct peal_ids){.age_ms = age_ms, .count_max = count_max};
    peal_link_init(&ids->all);
    return peal_map_init(&ids->map);
}

static void forget(struct peal_ids *ids, struct peal_id *id)
{
    peal_map_remove(&ids->map, &id->node);
    peal_list_remove(&id->link);
    free(id);
}

static struct peal_id *oldest(const struct peal_ids *ids)
{
    return PEAL_FROM_LINK(ids->all.next, struct peal_id, link);
}

void peal_ids_fini(struct peal_ids *ids)
{
    if (ids->all.next == NULL) return;
    while (!peal_list_empty(&ids->all))
        forget(ids, oldest(ids));
    peal_map_fini(&ids->map);
}

static bool fresh(const struct peal_ids *ids, const struct peal_id *id, uint64_t now_ms)
{
    return now_ms < id->stored_ms || now_ms - id->stored_ms < ids->age_ms;
}

static struct peal_id *find(const struct peal_ids *ids, const char key[PEAL_KEY_ID])
{
    struct peal_map_node *node = peal_map_find(&ids->map, peal_span_make(key, PEAL_KEY_ID));
    return node == NULL ? NULL : PEAL_FROM_NODE(node, struct peal_id, node);
}

const struct peal_id *peal_ids_find(const struct peal_ids *ids, const char key[PEAL_KEY_ID],
                                    uint64_t now_ms)
{
    const struct peal_id *id = find(ids, key);
    return id != NULL && fresh(ids, id, now_ms) ? id : NULL;
}

enum peal_err peal_ids_add(struct peal_ids *ids, const struct peal_id *id)
{
    struct peal_id *copy = malloc(sizeof *copy);
    if (copy == NULL) return PEAL_ENOMEM;
    *copy = *id;
    struct peal_id *before = find(ids, id->key);
    if (before != NULL) forget(ids, before); /* too old, or the log says it twice */
    peal_list_append(&ids->all, &copy->link);
    peal_map_add(&ids->map, &copy->node, peal_span_make(copy->key, PEAL_KEY_ID));
    ids->batch_count++;
    return PEAL_OK;
}

void peal_ids_commit(struct peal_ids *ids)
{
    ids->batch_count = 0;
}

void peal_ids_rollback(struct peal_ids *ids)
{
    for (; ids->batch_count > 0; ids->batch_count--)
        forget(ids, PEAL_FROM_LINK(ids->all.prev, struct peal_id, link));
}

void peal_ids_trim(struct peal_ids *ids, uint64_t now_ms, size_t most)
{
    PEAL_ASSERT(ids->batch_count == 0);
    for (; most > 0 && !peal_list_empty(&ids->all); most--) {
        struct peal_id *id = oldest(ids);
        if (ids->map.count <= ids->count_max && fresh(ids, id, now_ms)) return;
        forget(ids, id);
    }
}

uint64_t peal_ids_first_seq(const struct peal_ids *ids)
{
    return peal_list_empty(&ids->all) ? UINT64_MAX : oldest(ids)->seq;
}

const struct peal_id *peal_ids_next(const struct peal_ids *ids, const struct peal_id *before)
{
    const struct peal_link *link = before == NULL ? ids->all.next : before->link.next;
    return link == &ids->all ? NULL : PEAL_FROM_LINK(link, const struct peal_id, link);
}

void peal_ids_renewed(struct peal_ids *ids, size_t count, uint64_t seq)
{
    for (; count > 0; count--) {
        struct peal_id *id = oldest(ids);
        id->seq = seq++;
        peal_list_remove(&id->link);
        peal_list_append(&ids->all, &id->link);
    }
}

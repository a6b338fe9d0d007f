#include "storage/store.h"

#include <stdlib.h>
#include <string.h>

#include "storage/quota.h"

_Static_assert(offsetof(struct peal_store_op, storage) % _Alignof(uint64_t) == 0,
               "offsets are kept at the begin of storage");

struct peal_store_op *peal_store_op_new(enum peal_store_op_kind kind, struct peal_span group,
                                        struct peal_span message, const uint64_t *offsets,
                                        size_t offset_count)
{
    size_t offsets_size = offset_count * sizeof *offsets;
    struct peal_store_op *op = malloc(sizeof *op + offsets_size + group.size + message.size);
    if (op == NULL) return NULL;
    *op = (struct peal_store_op){.kind = kind, .offset_count = offset_count};
    peal_link_init(&op->link);
    char *at = op->storage;
    op->offsets = (uint64_t *)(void *)at;
    if (offsets_size > 0) memcpy(at, offsets, offsets_size);
    at += offsets_size;
    op->group = peal_span_make(at, group.size);
    if (group.size > 0) memcpy(at, group.at, group.size);
    at += group.size;
    op->message = peal_span_make(at, message.size);
    if (message.size > 0) memcpy(at, message.at, message.size);
    return op;
}

void peal_store_op_free(struct peal_store_op *op)
{
    if (op == NULL) return;
    peal_bytes_unref(op->encoded);
    peal_quota_give(op->quota);
    free(op);
}

struct peal_store_fetch *peal_store_fetch_new(struct peal_span group)
{
    struct peal_store_fetch *fetch = malloc(sizeof *fetch + group.size);
    if (fetch == NULL) return NULL;
    *fetch = (struct peal_store_fetch){.group = {fetch->storage, group.size}};
    peal_link_init(&fetch->link);
    if (group.size > 0) memcpy(fetch->storage, group.at, group.size);
    return fetch;
}

void peal_store_fetch_free(struct peal_store_fetch *fetch)
{
    if (fetch == NULL) return;
    peal_bytes_unref(fetch->page);
    peal_quota_give(fetch->quota);
    free(fetch);
}

/* storage/collapse.h: which message of a group has a collapse key: the newest one with it.
 *
 * Only groups in which keys are used have an index. It is made by looking through what the group
 * keeps (storage/heads.c), and may be forgotten at any time: it says nothing that the messages do
 * not say. Keys are known by a seeded hash, so who finds an offset looks at the key of the message
 * there. An offset whose message went stays until room is needed.
 *
 * Shape:  open addressing with linear probing, at most half full; a power of two of slots, at most
 *         4 for each offset of a window (base/limits.h).
 * Thread: the store thread. Memory: 16 bytes a slot, 32 to 64 for each key. */
#ifndef PEAL_STORAGE_COLLAPSE_H
#define PEAL_STORAGE_COLLAPSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/span.h"

struct peal_head;

struct peal_collapse_slot {
    uint64_t hash;
    uint64_t offset; /* 0: the slot is free */
};

struct peal_collapse {
    struct peal_link link;   /* of all that are in memory, for who has several */
    struct peal_head *owner; /* likewise */
    struct peal_collapse_slot *slots;
    uint64_t seed;
    uint32_t slot_count;
    uint32_t used;
    bool changed; /* by the batch in hand; set by peal_collapse_note, cleared by the owner */
};

/* An empty one; NULL on ENOMEM. */
struct peal_collapse *peal_collapse_new(void);
void peal_collapse_free(struct peal_collapse *collapse); /* NULL is fine; takes it off its list */
/* The offset that was noted last with this key; 0: none. */
uint64_t peal_collapse_find(const struct peal_collapse *collapse, struct peal_span key);
/* The newest message with this key is at offset (not 0). What is below `first` may be forgotten.
 * Errors: PEAL_ENOMEM, and nothing changed. */
enum peal_err peal_collapse_note(struct peal_collapse *collapse, struct peal_span key,
                                 uint64_t offset, uint64_t first);

#endif

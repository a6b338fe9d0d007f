/* base/map.h: a hash map from bytes to objects that embed a node.
 *
 * Hashed with SipHash-2-4 under a key that is random per map, because most keys come from
 * clients (hash flooding). Chained; the table doubles when it is full and never shrinks.
 *
 * Shape:  the key's bytes belong to the object and must stay as they are while it is in.
 * Thread: the owner of the map. Memory: the table only; objects belong to the caller.
 * Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012 (libsodium). */
#ifndef PEAL_BASE_MAP_H
#define PEAL_BASE_MAP_H

#include <stdint.h>

#include "base/err.h"
#include "base/span.h"

struct peal_map_node {
    struct peal_map_node *next;
    uint64_t hash;
    struct peal_span key;
};

struct peal_map {
    struct peal_map_node **buckets;
    size_t bucket_count; /* a power of two */
    size_t count;
    unsigned char key[16];
};

#define PEAL_FROM_NODE(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

/* Errors: PEAL_ENOMEM, and map then needs no fini. */
enum peal_err peal_map_init(struct peal_map *map);
/* Frees the table; the objects stay with the caller. A zeroed map is fine. */
void peal_map_fini(struct peal_map *map);
/* The node under key, or NULL. */
struct peal_map_node *peal_map_find(const struct peal_map *map, struct peal_span key);
/* Adds node under key, which must not be in yet. Cannot fail: when there is no memory for a
 * larger table the chains get longer. */
void peal_map_add(struct peal_map *map, struct peal_map_node *node, struct peal_span key);
/* Takes node out; it must be in. */
void peal_map_remove(struct peal_map *map, struct peal_map_node *node);
/* Walks all nodes: NULL gives the first. The map must not be added to meanwhile; to remove the
 * current node, ask for the next one first. */
struct peal_map_node *peal_map_next(const struct peal_map *map, const struct peal_map_node *node);

#endif

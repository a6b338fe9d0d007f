/* base/map.h: a hash map from bytes to objects that embed a node.
 *
 * Hashed with SipHash-2-4 under a key that is random per map, because most keys come from
 * clients (hash flooding). Chained; the table doubles when it is full and never shrinks. It grows
 * by a few buckets with each add, so no add waits for a million objects to be moved.
 *
 * Memory waits are what a find in a large map costs: the bucket, the node, the key's bytes. An
 * object whose key lies right behind its node saves one; who has many keys to find at once begins
 * to fetch all of them first (peal_map_hash and what follows).
 *
 * Shape:  the key's bytes belong to the object and must stay as they are while it is in; less than
 *         4 GiB. A node takes 24 bytes, its share of the table 8 to 16.
 * Thread: the owner of the map. Memory: the table only; objects belong to the caller.
 * Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012 (libsodium). */
#ifndef PEAL_BASE_MAP_H
#define PEAL_BASE_MAP_H

#include <stdint.h>

#include "base/err.h"
#include "base/span.h"

struct peal_map_node {
    struct peal_map_node *next;
    const char *key;
    uint32_t key_size;
    uint32_t hash;
};

struct peal_map {
    struct peal_map_node **buckets;
    size_t bucket_count;        /* a power of two */
    struct peal_map_node **old; /* half as many, while the map grows; else NULL */
    size_t moved;               /* so many of the old buckets have moved, from the first on */
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

/* A find in steps, for many at once: the hash of each and the fetch of its bucket, then the fetch
 * of each one's node, then the finds. The fetches only hint. */
uint32_t peal_map_hash(const struct peal_map *map, struct peal_span key);
void peal_map_fetch_bucket(const struct peal_map *map, uint32_t hash);
void peal_map_fetch_node(const struct peal_map *map, uint32_t hash);
struct peal_map_node *peal_map_find_hashed(const struct peal_map *map, uint32_t hash,
                                           struct peal_span key);

#endif

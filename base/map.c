/* Growing makes a table of twice the size, into which old bucket i splits: its nodes belong to the
 * new buckets i and i + old size. The old buckets move in order, some with each add, so a find
 * looks at one bucket only: `moved` tells in which table. All have moved long before the new table
 * is full again. What remains in one piece is the allocation: zeroed pages that the kernel gives
 * when they are touched. */
#include "base/map.h"

#include <sodium.h>
#include <stdlib.h>

#include "base/assert.h"

enum {
    BUCKETS_MIN = 64,
    MOVE = 4, /* old buckets per add; two would be enough */
};

uint32_t peal_map_hash(const struct peal_map *map, struct peal_span key)
{
    uint64_t hash;
    _Static_assert(sizeof hash == crypto_shorthash_BYTES, "SipHash gives 64 bits");
    _Static_assert(sizeof map->key == crypto_shorthash_KEYBYTES, "and takes a key of 128");
    crypto_shorthash((unsigned char *)&hash, (const unsigned char *)key.at, key.size, map->key);
    return (uint32_t)hash;
}

static struct peal_map_node **bucket_of(const struct peal_map *map, uint32_t hash)
{
    size_t i = hash & (map->bucket_count - 1);
    if (map->old == NULL) return &map->buckets[i];
    size_t before = i & (map->bucket_count / 2 - 1);
    return before < map->moved ? &map->buckets[i] : &map->old[before];
}

static void push(struct peal_map_node **bucket, struct peal_map_node *node)
{
    node->next = *bucket;
    *bucket = node;
}

static void move_some(struct peal_map *map)
{
    size_t half = map->bucket_count / 2;
    for (int i = 0; i < MOVE && map->moved < half; i++) {
        struct peal_map_node *node = map->old[map->moved++];
        while (node != NULL) {
            struct peal_map_node *next = node->next;
            push(&map->buckets[node->hash & (map->bucket_count - 1)], node);
            node = next;
        }
    }
    if (map->moved < half) return;
    free(map->old);
    map->old = NULL;
}

static void begin_growth(struct peal_map *map)
{
    struct peal_map_node **buckets = calloc(map->bucket_count * 2, sizeof(struct peal_map_node *));
    if (buckets == NULL) return;
    map->old = map->buckets;
    map->moved = 0;
    map->buckets = buckets;
    map->bucket_count *= 2;
}

enum peal_err peal_map_init(struct peal_map *map)
{
    *map = (struct peal_map){0};
    map->buckets = calloc(BUCKETS_MIN, sizeof(struct peal_map_node *));
    if (map->buckets == NULL) return PEAL_ENOMEM;
    map->bucket_count = BUCKETS_MIN;
    randombytes_buf(map->key, sizeof map->key);
    return PEAL_OK;
}

void peal_map_fini(struct peal_map *map)
{
    free(map->old);
    free(map->buckets);
    *map = (struct peal_map){0};
}

void peal_map_fetch_bucket(const struct peal_map *map, uint32_t hash)
{
    __builtin_prefetch(bucket_of(map, hash));
}

void peal_map_fetch_node(const struct peal_map *map, uint32_t hash)
{
    uintptr_t node = (uintptr_t)*bucket_of(map, hash);
    if (node == 0) return;
    /* Objects keep what they need on either side of the node. */
    __builtin_prefetch((const void *)node);
    __builtin_prefetch((const void *)(node + 64));
    __builtin_prefetch((const void *)(node - 64));
}

struct peal_map_node *peal_map_find_hashed(const struct peal_map *map, uint32_t hash,
                                           struct peal_span key)
{
    for (struct peal_map_node *node = *bucket_of(map, hash); node != NULL; node = node->next)
        if (node->hash == hash && peal_span_equal(peal_span_make(node->key, node->key_size), key))
            return node;
    return NULL;
}

struct peal_map_node *peal_map_find(const struct peal_map *map, struct peal_span key)
{
    return peal_map_find_hashed(map, peal_map_hash(map, key), key);
}

void peal_map_add(struct peal_map *map, struct peal_map_node *node, struct peal_span key)
{
    PEAL_ASSERT(key.size <= UINT32_MAX);
    if (map->old != NULL)
        move_some(map);
    else if (map->count >= map->bucket_count)
        begin_growth(map);
    node->key = key.at;
    node->key_size = (uint32_t)key.size;
    node->hash = peal_map_hash(map, key);
    push(bucket_of(map, node->hash), node);
    map->count++;
}

void peal_map_remove(struct peal_map *map, struct peal_map_node *node)
{
    struct peal_map_node **at = bucket_of(map, node->hash);
    while (*at != node) {
        PEAL_ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = node->next;
    node->next = NULL;
    map->count--;
}

/* Walks the old buckets that are left, then the new ones. */
struct peal_map_node *peal_map_next(const struct peal_map *map, const struct peal_map_node *node)
{
    size_t half = map->old == NULL ? 0 : map->bucket_count / 2;
    size_t i = map->moved; /* in old, or behind its end */
    size_t k = 0;
    if (node != NULL) {
        if (node->next != NULL) return node->next;
        struct peal_map_node **bucket = bucket_of(map, node->hash);
        if (half > 0 && (node->hash & (half - 1)) >= map->moved) {
            i = (size_t)(bucket - map->old) + 1;
        } else {
            i = half;
            k = (size_t)(bucket - map->buckets) + 1;
        }
    }
    for (; i < half; i++)
        if (map->old[i] != NULL) return map->old[i];
    for (; k < map->bucket_count; k++)
        if (map->buckets[k] != NULL) return map->buckets[k];
    return NULL;
}

#include "base/map.h"

#include <sodium.h>
#include <stdlib.h>

#include "base/assert.h"

enum { BUCKETS_MIN = 64 };

static uint64_t hash_of(const struct peal_map *map, struct peal_span key)
{
    uint64_t hash;
    _Static_assert(sizeof hash == crypto_shorthash_BYTES, "SipHash gives 64 bits");
    _Static_assert(sizeof map->key == crypto_shorthash_KEYBYTES, "and takes a key of 128");
    crypto_shorthash((unsigned char *)&hash, (const unsigned char *)key.at, key.size, map->key);
    return hash;
}

static struct peal_map_node **bucket_of(const struct peal_map *map, uint64_t hash)
{
    return &map->buckets[hash & (map->bucket_count - 1)];
}

static void grow(struct peal_map *map)
{
    size_t count = map->bucket_count * 2;
    struct peal_map_node **old = map->buckets;
    size_t old_count = map->bucket_count;
    struct peal_map_node **buckets = calloc(count, sizeof(struct peal_map_node *));
    if (buckets == NULL) return;

    map->buckets = buckets;
    map->bucket_count = count;
    for (size_t i = 0; i < old_count; i++) {
        struct peal_map_node *node = old[i];
        while (node != NULL) {
            struct peal_map_node *next = node->next;
            struct peal_map_node **bucket = bucket_of(map, node->hash);
            node->next = *bucket;
            *bucket = node;
            node = next;
        }
    }
    free(old);
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
    free(map->buckets);
    *map = (struct peal_map){0};
}

struct peal_map_node *peal_map_find(const struct peal_map *map, struct peal_span key)
{
    uint64_t hash = hash_of(map, key);
    for (struct peal_map_node *node = *bucket_of(map, hash); node != NULL; node = node->next)
        if (node->hash == hash && peal_span_equal(node->key, key)) return node;
    return NULL;
}

void peal_map_add(struct peal_map *map, struct peal_map_node *node, struct peal_span key)
{
    if (map->count == map->bucket_count) grow(map);
    node->key = key;
    node->hash = hash_of(map, key);
    struct peal_map_node **bucket = bucket_of(map, node->hash);
    node->next = *bucket;
    *bucket = node;
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

struct peal_map_node *peal_map_next(const struct peal_map *map, const struct peal_map_node *node)
{
    size_t i = 0;
    if (node != NULL) {
        if (node->next != NULL) return node->next;
        i = (size_t)(node->hash & (map->bucket_count - 1)) + 1;
    }
    for (; i < map->bucket_count; i++)
        if (map->buckets[i] != NULL) return map->buckets[i];
    return NULL;
}

#include "router/dedup.h"

#include <sodium.h>
#include <stdlib.h>

enum { FINGERPRINT_SIZE = 16 };

struct seen {
    struct peal_map_node node;
    struct peal_link link;
    uint64_t at_ms;
    uint64_t epoch;
    uint64_t offset;
    unsigned char fingerprint[FINGERPRINT_SIZE];
};

static void fingerprint_of(struct peal_span group, struct peal_span id, unsigned char *out)
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, FINGERPRINT_SIZE);
    crypto_generichash_update(&state, (const unsigned char *)group.at, group.size);
    crypto_generichash_update(&state, (const unsigned char *)"", 1); /* names hold no NUL */
    crypto_generichash_update(&state, (const unsigned char *)id.at, id.size);
    crypto_generichash_final(&state, out, FINGERPRINT_SIZE);
}

static void forget(struct peal_dedup *dedup, struct seen *seen)
{
    peal_list_remove(&seen->link);
    peal_map_remove(&dedup->map, &seen->node);
    free(seen);
}

static void forget_old(struct peal_dedup *dedup, uint64_t now_ms)
{
    while (!peal_list_empty(&dedup->by_age)) {
        struct seen *oldest = PEAL_FROM_LINK(dedup->by_age.next, struct seen, link);
        if (dedup->map.count <= dedup->count_max && now_ms - oldest->at_ms <= dedup->age_ms) return;
        forget(dedup, oldest);
    }
}

enum peal_err peal_dedup_init(struct peal_dedup *dedup, uint64_t age_ms, uint64_t count_max)
{
    *dedup = (struct peal_dedup){.age_ms = age_ms, .count_max = count_max};
    peal_link_init(&dedup->by_age);
    return peal_map_init(&dedup->map);
}

void peal_dedup_fini(struct peal_dedup *dedup)
{
    PEAL_LIST_EACH(&dedup->by_age, it, after)
    forget(dedup, PEAL_FROM_LINK(it, struct seen, link));
    peal_map_fini(&dedup->map);
}

bool peal_dedup_find(struct peal_dedup *dedup, struct peal_span group, struct peal_span id,
                     uint64_t now_ms, uint64_t *epoch, uint64_t *offset)
{
    unsigned char fingerprint[FINGERPRINT_SIZE];
    forget_old(dedup, now_ms);
    fingerprint_of(group, id, fingerprint);
    struct peal_map_node *node =
        peal_map_find(&dedup->map, peal_span_make(fingerprint, FINGERPRINT_SIZE));
    if (node == NULL) return false;
    struct seen *seen = PEAL_FROM_NODE(node, struct seen, node);
    *epoch = seen->epoch;
    *offset = seen->offset;
    return true;
}

void peal_dedup_add(struct peal_dedup *dedup, struct peal_span group, struct peal_span id,
                    uint64_t now_ms, uint64_t epoch, uint64_t offset)
{
    struct seen *seen = malloc(sizeof *seen);
    if (seen == NULL) return;
    *seen = (struct seen){.at_ms = now_ms, .epoch = epoch, .offset = offset};
    fingerprint_of(group, id, seen->fingerprint);
    peal_map_add(&dedup->map, &seen->node, peal_span_make(seen->fingerprint, FINGERPRINT_SIZE));
    peal_list_append(&dedup->by_age, &seen->link);
    forget_old(dedup, now_ms);
}

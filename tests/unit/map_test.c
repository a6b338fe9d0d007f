#include "base/map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/unit/unit.h"

enum { KEYS = 100000 };

struct thing {
    struct peal_map_node node;
    char key[16];
    bool in;   /* the naive answer */
    bool seen; /* by a walk */
};

static struct thing *things_new(void)
{
    struct thing *things = calloc(KEYS, sizeof *things);
    assert_non_null(things);
    for (int i = 0; i < KEYS; i++)
        snprintf(things[i].key, sizeof things[i].key, "key-%d", i);
    return things;
}

static struct peal_span key_of(const struct thing *thing)
{
    return peal_span_of(thing->key);
}

static void add(struct peal_map *map, struct thing *thing)
{
    peal_map_add(map, &thing->node, key_of(thing));
    thing->in = true;
}

static void assert_agrees(const struct peal_map *map, const struct thing *things, size_t count)
{
    assert_int_equal(map->count, count);
    for (int i = 0; i < KEYS; i++) {
        const struct peal_map_node *expected = things[i].in ? &things[i].node : NULL;
        assert_ptr_equal(peal_map_find(map, key_of(&things[i])), expected);
    }
}

static void map_empty_finds_nothing_and_walks_nowhere(void **state)
{
    (void)state;
    struct peal_map map;
    assert_int_equal(peal_map_init(&map), PEAL_OK);
    assert_null(peal_map_find(&map, peal_span_of("a")));
    assert_null(peal_map_find(&map, (struct peal_span){NULL, 0}));
    assert_null(peal_map_next(&map, NULL));
    peal_map_fini(&map);

    struct peal_map zeroed = {0};
    peal_map_fini(&zeroed);
}

static void map_compares_whole_keys_byte_by_byte(void **state)
{
    (void)state;
    struct peal_map map;
    struct peal_map_node nodes[4];
    const struct peal_span keys[] = {
        peal_span_make("", 0),
        peal_span_make("a", 1),
        peal_span_make("a\0b", 3),
        peal_span_make("A", 1),
    };
    assert_int_equal(peal_map_init(&map), PEAL_OK);
    for (int i = 0; i < 4; i++)
        peal_map_add(&map, &nodes[i], keys[i]);
    for (int i = 0; i < 4; i++)
        assert_ptr_equal(peal_map_find(&map, keys[i]), &nodes[i]);
    assert_null(peal_map_find(&map, peal_span_make("a\0c", 3)));
    assert_null(peal_map_find(&map, peal_span_make("a\0b", 2)));
    peal_map_fini(&map);
}

static void map_many_keys_agree_with_a_naive_table(void **state)
{
    (void)state;
    uint64_t seed = peal_random_u64();
    print_message("seed %llu\n", (unsigned long long)seed);
    unsigned short random[3] = {(unsigned short)seed, (unsigned short)(seed >> 16),
                                (unsigned short)(seed >> 32)};
    struct thing *things = things_new();
    struct peal_map map;
    size_t count = 0;
    assert_int_equal(peal_map_init(&map), PEAL_OK);
    for (int i = 0; i < KEYS; i++)
        add(&map, &things[i]);
    assert_agrees(&map, things, KEYS);

    count = KEYS;
    for (int i = 0; i < 3 * KEYS; i++) {
        struct thing *thing = &things[nrand48(random) % KEYS];
        if (thing->in) {
            peal_map_remove(&map, &thing->node);
            thing->in = false;
            count--;
        } else {
            add(&map, thing);
            count++;
        }
    }
    assert_agrees(&map, things, count);
    peal_map_fini(&map);
    free(things);
}

/* The keyed hash cannot be steered from outside, so the chain is made by hand: every node is
 * given the hash of the first, which puts them all into one bucket. */
static void map_colliding_keys_stay_apart(void **state)
{
    (void)state;
    enum { COUNT = 50 };
    static struct thing things[COUNT];
    struct peal_map map;
    assert_int_equal(peal_map_init(&map), PEAL_OK);
    for (int i = 0; i < COUNT; i++) {
        snprintf(things[i].key, sizeof things[i].key, "%d", i);
        peal_map_add(&map, &things[i].node, key_of(&things[i]));
        /* As long as there are 64 buckets, the low 6 bits choose. */
        assert_int_equal(map.bucket_count, 64);
        if (i == 0) continue;
        peal_map_remove(&map, &things[i].node);
        uint32_t hash = things[i].node.hash;
        struct peal_map_node **bucket = &map.buckets[things[0].node.hash & 63];
        things[i].node.hash = (hash & ~(uint32_t)63) | (things[0].node.hash & 63);
        things[i].node.next = *bucket;
        *bucket = &things[i].node;
        map.count++;
    }
    int walked = 0;
    for (struct peal_map_node *node = peal_map_next(&map, NULL); node != NULL;
         node = peal_map_next(&map, node))
        walked++;
    assert_int_equal(walked, COUNT);
    for (int i = 0; i < COUNT; i += 2) /* the head, the middle and the end of the chain */
        peal_map_remove(&map, &things[i].node);
    assert_int_equal(map.count, COUNT / 2);
    for (struct peal_map_node *node = peal_map_next(&map, NULL); node != NULL;
         node = peal_map_next(&map, node)) {
        struct thing *thing = PEAL_FROM_NODE(node, struct thing, node);
        assert_int_equal((thing - things) % 2, 1);
        assert_false(thing->seen);
        thing->seen = true;
        walked--;
    }
    assert_int_equal(walked, COUNT / 2);
    peal_map_fini(&map);
}

static void map_walk_meets_each_node_once_and_may_remove_it(void **state)
{
    (void)state;
    struct thing *things = things_new();
    struct peal_map map;
    assert_int_equal(peal_map_init(&map), PEAL_OK);
    for (int i = 0; i < KEYS; i++)
        add(&map, &things[i]);

    size_t met = 0;
    struct peal_map_node *node = peal_map_next(&map, NULL);
    while (node != NULL) {
        struct peal_map_node *next = peal_map_next(&map, node);
        struct thing *thing = PEAL_FROM_NODE(node, struct thing, node);
        assert_false(thing->seen);
        thing->seen = true;
        met++;
        peal_map_remove(&map, node);
        node = next;
    }
    assert_int_equal(met, KEYS);
    assert_int_equal(map.count, 0);
    assert_null(peal_map_next(&map, NULL));
    peal_map_fini(&map);
    free(things);
}

/* A map of 64 buckets that grows stays in two halves for a while: whatever is done then. */
static void map_half_moved_finds_walks_and_removes(void **state)
{
    (void)state;
    struct thing *things = things_new();
    for (int extra = 1; extra <= 20; extra++) {
        struct peal_map map;
        int count = 64 + extra;
        assert_int_equal(peal_map_init(&map), PEAL_OK);
        for (int i = 0; i < count; i++)
            add(&map, &things[i]);
        assert_int_equal(map.bucket_count, 128);
        assert_true((map.old != NULL) == (extra <= 16)); /* four of 64 with each add */
        for (int i = 0; i < count; i++)
            assert_ptr_equal(peal_map_find(&map, key_of(&things[i])), &things[i].node);
        assert_null(peal_map_find(&map, key_of(&things[count])));

        int met = 0;
        struct peal_map_node *node = peal_map_next(&map, NULL);
        while (node != NULL) {
            struct peal_map_node *next = peal_map_next(&map, node);
            struct thing *thing = PEAL_FROM_NODE(node, struct thing, node);
            assert_true(thing->in);
            if (met++ % 2 == 0) {
                peal_map_remove(&map, node);
                thing->in = false;
            }
            node = next;
        }
        assert_int_equal(met, count);
        assert_agrees(&map, things, (size_t)(count / 2));
        for (int i = 0; i < count; i++)
            things[i].in = false;
        peal_map_fini(&map);
    }
    free(things);
}

static void map_find_in_steps_is_a_find(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    struct thing *things = things_new();
    struct peal_map map;
    assert_int_equal(peal_map_init(&map), PEAL_OK);
    for (int i = 0; i < COUNT; i++)
        add(&map, &things[i]);
    for (int i = 0; i < 2 * COUNT; i++) {
        uint32_t hash = peal_map_hash(&map, key_of(&things[i]));
        peal_map_fetch_bucket(&map, hash);
        peal_map_fetch_node(&map, hash);
        assert_ptr_equal(peal_map_find_hashed(&map, hash, key_of(&things[i])),
                         i < COUNT ? &things[i].node : NULL);
    }
    peal_map_fini(&map);
    free(things);
}

static void map_chains_stay_short_and_keys_differ_between_maps(void **state)
{
    (void)state;
    struct thing *things = things_new();
    struct peal_map map;
    struct peal_map other;
    assert_int_equal(peal_map_init(&map), PEAL_OK);
    assert_int_equal(peal_map_init(&other), PEAL_OK);
    assert_memory_not_equal(map.key, other.key, sizeof map.key);
    for (int i = 0; i < KEYS; i++)
        add(&map, &things[i]);
    assert_true(map.bucket_count >= KEYS);
    assert_null(map.old); /* has long been moved */
    size_t longest = 0;
    for (size_t i = 0; i < map.bucket_count; i++) {
        size_t length = 0;
        for (struct peal_map_node *node = map.buckets[i]; node != NULL; node = node->next)
            length++;
        if (length > longest) longest = length;
    }
    assert_in_range(longest, 1, 20); /* about 8 is expected, 20 is beyond all chance */
    peal_map_fini(&map);
    peal_map_fini(&other);
    free(things);
}

/* Nobody outside can prepare keys that collide: the same key hashes differently in each map. */
static void map_hashes_under_a_key_of_its_own(void **state)
{
    (void)state;
    struct peal_map maps[2];
    struct peal_map_node nodes[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(peal_map_init(&maps[i]), PEAL_OK);
        peal_map_add(&maps[i], &nodes[i], peal_span_of("user:bob"));
    }
    assert_true(nodes[0].hash != nodes[1].hash);
    for (int i = 0; i < 2; i++)
        peal_map_fini(&maps[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map_hashes_under_a_key_of_its_own),
        cmocka_unit_test(map_empty_finds_nothing_and_walks_nowhere),
        cmocka_unit_test(map_compares_whole_keys_byte_by_byte),
        cmocka_unit_test(map_many_keys_agree_with_a_naive_table),
        cmocka_unit_test(map_colliding_keys_stay_apart),
        cmocka_unit_test(map_walk_meets_each_node_once_and_may_remove_it),
        cmocka_unit_test(map_half_moved_finds_walks_and_removes),
        cmocka_unit_test(map_find_in_steps_is_a_find),
        cmocka_unit_test(map_chains_stay_short_and_keys_differ_between_maps),
    };
    return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}

/* Deliberate faults in the world of the model: the checker must find each of them within some
 * seeds, or it has no teeth. The faults are switches of tests/model (world.h, disk.h), not of the
 * program.
 *
 * A batch that comes twice, or late, or not at all, is not among them: the program notices, so the
 * seeded runs have those all the time. */
#include <stdlib.h>

#include "base/log.h"
#include "base/metrics.h"
#include "tests/model/world.h"
#include "tests/unit/unit.h"

enum { SEEDS = 40, STEPS = 6000 };

static const struct mutant {
    const char *name;
    enum world_fault world;
    enum disk_fault disk;
} mutants[] = {
    {"nothing is wrong", WORLD_SOUND, DISK_SOUND},
    {"a sync is confirmed and never arrives", WORLD_SWALLOWS_SYNC, DISK_SOUND},
    {"a router comes back with its old boot", WORLD_REPEATS_BOOT, DISK_SOUND},
    {"two messages change places on one node", WORLD_TURNS_ENTRIES, DISK_SOUND},
    {"a queued message never leaves", WORLD_DROPS_FRAMES, DISK_SOUND},
    {"a store forgets its last commit", WORLD_SOUND, DISK_FORGETS_COMMIT},
    {"a failed commit is acknowledged", WORLD_SOUND, DISK_NUMBERS_FAILED},
    {"a restored store keeps its epoch", WORLD_SOUND, DISK_KEEPS_EPOCH},
    {"a page has a hole", WORLD_SOUND, DISK_PAGE_HAS_HOLE},
    {"a store forgets message ids", WORLD_SOUND, DISK_FORGETS_IDS},
    {"a store forgets marks", WORLD_SOUND, DISK_FORGETS_MARK},
};

/* The seeds that it took; SEEDS + 1 when nothing was found. */
static int seeds_until_found(const struct mutant *mutant)
{
    for (int seed = 1; seed <= SEEDS; seed++) {
        struct world *w = world_new((uint64_t)seed);
        w->fault = mutant->world;
        for (size_t r = 0; r < ROUTERS; r++)
            w->routers[r].disk.fault = mutant->disk;
        bool kept = world_run(w, STEPS);
        if (!kept) print_message("%s: seed %d: %s\n", mutant->name, seed, w->checker.why);
        world_free(w);
        if (!kept) return seed;
    }
    return SEEDS + 1;
}

static void mutant_is_found_and_the_sound_world_is_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mutants / sizeof mutants[0]; i++) {
        int seeds = seeds_until_found(&mutants[i]);
        bool sound = mutants[i].world == WORLD_SOUND && mutants[i].disk == DISK_SOUND;
        if (sound && seeds <= SEEDS) fail_msg("the sound world is found guilty");
        if (!sound && seeds > SEEDS)
            fail_msg("%s: not found with %d seeds", mutants[i].name, SEEDS);
    }
}

int main(void)
{
    peal_metrics_thread_start();
    peal_log_set_level(PEAL_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutant_is_found_and_the_sound_world_is_not),
    };
    return cmocka_run_group_tests_name("mutant", tests, NULL, NULL);
}

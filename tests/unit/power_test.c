/* The power goes while a store works, at any moment: what was acknowledged is there afterwards.
 *
 * A load runs through the interface on a disk that is recorded (tests/unit/recorder.h). Then, for
 * many moments, the folder is made as a power cut may leave it, a child opens it, and the judge
 * (tests/unit/store_world.h) compares: all that was acknowledged before the cut, and of what was
 * under way a first part in the order of submission, must be there and nothing else. One of the
 * images is what the next round goes on with, so that cuts during recovery are among them.
 *
 * PEAL_CUTS says how many, PEAL_SEED repeats a run up to the scheduling of the store's threads;
 * an image that fails is kept, and its folder is printed. */
#include "storage/store.h"

#include <signal.h>
#include <sys/wait.h>

#include "proto/envelope.h"
#include "tests/unit/unit.h"

#include "tests/unit/recorder.h"

#include "tests/unit/store_rig.h"

#include "tests/unit/store_world.h"

#include "tests/unit/store_load.h"

enum {
    CUTS_DEFAULT = 80, /* of each kind of file system */
    CUTS_PER_ROUND = 25,
    ROUNDS_PER_STORE = 6,
    WINDOW_MAX = 24,
    FAILURES_MAX = 3,
    CHILD_SECONDS = 60,
    READS_MAX = 60,
};

static struct {
    int images_kept;
    unsigned cuts, failures, survived, in_flight;
} run;

/* ---- load ------------------------------------------------------------------------------- */

static void take_done(void)
{
    assert_int_equal(take_one(), PEAL_OK);
}

static void round_load(void)
{
    size_t count = 40 + roll(ACTIONS_MAX - 40);
    size_t reopen_at = roll(2) ? roll(count) : count;
    uint64_t under_way = 0;
    load.action_count = 0;
    load.now = load.base;
    recorder_start(load.folders.dir);
    recorder_note(NOTE_CLOCK, atomic_load(&load.rig.now_ms));
    open_store();
    while (load.action_count < count) {
        uint64_t window = 1 + roll(roll(3) == 0 ? WINDOW_MAX : 4);
        for (; under_way < window && load.action_count < count; under_way++)
            submit_one();
        for (uint64_t left = roll(window); under_way > left; under_way--)
            take_done();
        if (roll(4) == 0) clock_pass(roll(700));
        if (load.action_count < reopen_at) continue;
        for (; under_way > 0; under_way--)
            take_done();
        rig_reopen(&load.rig);
        reopen_at = count;
    }
    for (; under_way > 0; under_way--)
        take_done();
    recorder_look_for_maps();
    rig_close(&load.rig);
    recorder_stop();
}

/* ---- after a cut ------------------------------------------------------------------------ */

/* Anywhere, but more often where it hurts: around syncs and acknowledgements. */
static size_t cut_roll(void)
{
    uint64_t where = roll(5);
    size_t count = rec.count - rec.begin;
    size_t begin = roll(count);
    for (size_t n = 0; n < count && where < 3; n++) {
        size_t i = rec.begin + (begin + n) % count;
        const struct rec_event *event = &rec.events[i];
        bool done = event->kind == REC_NOTE && event->at == NOTE_DONE;
        bool sync = event->kind == REC_SYNC || event->kind == REC_SYNC_ONE;
        if (where == 0 && done) return i + 1;
        if (where == 1 && sync) return i;
        if (where == 2 && sync) return i + 1;
    }
    return rec.begin + begin + 1;
}

/* In a child: prints why and ends it. */
static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    _exit(1);
}

/* Going on gives no number twice and knows the ids, also those of what was under way. */
static void go_on(struct world *world, const struct cut *cut, uint32_t number)
{
    struct world_action action = {.kind = WORLD_PUT};
    for (int i = 0; i < WORLD_GROUPS; i++, number++) {
        action.number = number;
        action.group = world_group_of(number);
        action.now_ms = atomic_load(&load.rig.now_ms);
        world_apply(world, &action, &load.rig);
        struct peal_store_op op = rig_do(&load.rig, world_op(&load.rig, &action));
        if (op.err != PEAL_OK || op.duplicate || op.offset != action.offset ||
            op.epoch != world->epoch)
            give_up("a new message", "is not given the next number");
    }
    for (size_t i = cut->sent; i-- > 0 && i + 40 > cut->sent;) {
        action = load.actions[i];
        if (action.kind != WORLD_PUT || !world_has_id(action.number)) continue;
        action.now_ms = atomic_load(&load.rig.now_ms);
        world_apply(world, &action, &load.rig);
        struct peal_store_op op = rig_do(&load.rig, world_op(&load.rig, &action));
        if (op.err != PEAL_OK || op.duplicate != action.duplicate || op.offset != action.offset ||
            op.epoch != world->epoch)
            give_up("an id sent again",
                    op.duplicate ? "is a duplicate of something else" : "is not known any more");
    }
}

static void child_checks(const struct cut *cut, int out)
{
    static struct world world;
    static struct seen seen;
    char why[200];
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    alarm(CHILD_SECONDS);
    world = load.base;
    load.rig.dir = load.folders.image;
    atomic_store(&load.rig.now_ms, cut->now_ms);
    if (rig_try_open(&load.rig) != PEAL_OK) give_up("it does not open", load.rig.why);
    seen_read(&load.rig, &seen, READS_MAX);
    world.epoch = cut->epoch;
    size_t survivors = find_survivors(&world, cut, &seen);
    if (survivors == SIZE_MAX) _exit(1);
    uint32_t kept = (uint32_t)survivors;
    if (write(out, &kept, sizeof kept) != (ssize_t)sizeof kept) _exit(3);
    world.epoch = seen.epoch;
    go_on(&world, cut, load.next_number);

    rig_reopen(&load.rig);
    seen_read(&load.rig, &seen, READS_MAX);
    if (!judge(&world, &seen, &load.rig, why, sizeof why)) give_up("after going on", why);
    rig_close(&load.rig);
    _exit(0);
}

/* Returns whether all was well; *kept is how many actions have happened. */
static bool cut_check(const struct cut *cut, size_t *kept)
{
    int ends[2];
    int status;
    uint32_t answer = 0;
    rec_erase(load.folders.image);
    recorder_image(cut->at, cut->image, load.folders.image);
    if (pipe(ends) != 0) rec_die("pipe");
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) child_checks(cut, ends[1]);
    close(ends[1]);
    bool told = read(ends[0], &answer, sizeof answer) == (ssize_t)sizeof answer;
    close(ends[0]);
    if (waitpid(child, &status, 0) != child) rec_die("waitpid");
    *kept = answer;
    run.cuts++;
    run.in_flight += (unsigned)(cut->sent - cut->done);
    if (told) run.survived += (unsigned)(answer - cut->done);
    return told && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void report_failure(const struct cut *cut)
{
    char kept[REC_ROOT_MAX];
    run.failures++;
    snprintf(kept, sizeof kept, "%s-%d", load.folders.image, run.images_kept++);
    if (mkdir(kept, 0700) != 0) rec_die(kept);
    recorder_image(cut->at, cut->image, kept);
    print_error("seed %llu: cut after %zu of %zu events, %zu of %zu acknowledged; kept in %s\n",
                (unsigned long long)load.seed, cut->at, rec.count, cut->done, cut->sent, kept);
}

/* ---- rounds ----------------------------------------------------------------------------- */

/* What the next round goes on with. */
static void round_take(const struct cut *cut, size_t kept)
{
    for (size_t i = 0; i < kept; i++)
        apply_done(&load.base, &load.actions[i]);
    load.base.epoch = cut->epoch;
    rec_erase(load.folders.dir);
    recorder_image(cut->at, cut->image, load.folders.dir);
    atomic_store(&load.rig.now_ms, cut->now_ms);
}

static void round_run(unsigned cuts_max)
{
    char why[200];
    round_load();
    if (!recorder_saw_all(why, sizeof why)) fail_msg("%s", why);
    struct cut cut;
    size_t kept = 0;
    bool well = false;
    for (unsigned n = 0; n < CUTS_PER_ROUND && run.cuts < cuts_max; n++) {
        cut = cut_at(cut_roll());
        well = cut_check(&cut, &kept);
        if (!well) report_failure(&cut);
        if (run.failures >= FAILURES_MAX) return;
    }
    /* The last one. Before the store is known by its generation there is nothing to go on with. */
    if (well && cut.epoch != 0)
        round_take(&cut, kept);
    else
        store_begin();
}

static int folders_setup(void **state)
{
    (void)state;
    return rec_folders_make(&load.folders, "power");
}

static int folders_teardown(void **state)
{
    (void)state;
    return rec_folders_remove(&load.folders);
}

/* block: of the file system, at which files end. */
static void cut_and_check(size_t block)
{
    unsigned cuts = (unsigned)rec_number_from("PEAL_CUTS", CUTS_DEFAULT);
    memset(&run, 0, sizeof run);
    load.seed = rec_number_from("PEAL_SEED", (uint64_t)time(NULL));
    load.dice = load.seed;
    rec.block = block;
    print_message("seed %llu\n", (unsigned long long)load.seed);
    for (unsigned round = 0; run.cuts < cuts && run.failures < FAILURES_MAX; round++) {
        if (round % ROUNDS_PER_STORE == 0) store_begin();
        atomic_store(&rec.delay_us, roll(2) ? 0 : 400);
        round_run(cuts);
    }
    print_message("%u cuts; of %u operations under way %u had happened\n", run.cuts, run.in_flight,
                  run.survived);
    assert_int_equal(run.failures, 0);
}

static void power_cut_at_any_moment_loses_nothing_acknowledged(void **state)
{
    (void)state;
    cut_and_check(4096);
}

/* Of file systems with blocks smaller than the pages of a database: ext4 has 1,024 bytes on a small
 * disk, XFS can have 512. */
static void power_cut_where_blocks_are_small_loses_nothing_acknowledged(void **state)
{
    (void)state;
    cut_and_check(512);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, folders_setup, folders_teardown)
        T(power_cut_at_any_moment_loses_nothing_acknowledged),
        T(power_cut_where_blocks_are_small_loses_nothing_acknowledged),
#undef T
    };
    return cmocka_run_group_tests_name("power", tests, NULL, NULL);
}

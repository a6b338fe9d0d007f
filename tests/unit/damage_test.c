/* Something changes the files of a store that is not running: bits flip, blocks become zeros,
 * files lose their ends. Afterwards the store says a damage or refuses to open, and
 * says nothing that is wrong.
 *
 * The folder is made by a load through the interface. A child opens each damaged copy, reads all of
 * it, and goes on storing; the judge's model (tests/unit/store_world.h) says what is right. All
 * files of the store are one set of bytes here, wherever it keeps what.
 *
 * PEAL_DAMAGES says how many of each kind, PEAL_SEED repeats a run; a folder that fails is kept. */
#include "storage/store.h"

#include <signal.h>
#include <sys/wait.h>

#include "proto/envelope.h"
#include "tests/unit/unit.h"

#include "tests/unit/recorder.h"

#include "tests/unit/store_rig.h"

#include "tests/unit/store_world.h"

enum {
    DAMAGES_DEFAULT = 80, /* of each kind */
    ACTIONS = 400,
    FAILURES_MAX = 5,
    CHILD_SECONDS = 60,
    READS_MAX = 2, /* counts stay wrong where messages are damaged */
    FILES_MAX = 32,
};

/* How a child ends; more than these is a crash. */
enum { END_INTACT, END_TOLD, END_REFUSED, END_WRONG, END_COUNT };

static struct {
    uint64_t seed;
    uint64_t dice;
    struct rig rig;
    struct rec_folders folders;
    struct world world;
    unsigned ends[END_COUNT];
    unsigned crashes, failures;
    /* of the folder as it was made */
    struct {
        char name[REC_PATH_MAX];
        char *bytes;
        size_t size;
    } files[FILES_MAX];
    int file_count;
    size_t bytes;
} run;

static uint64_t roll(uint64_t sides)
{
    return rec_below(&run.dice, sides);
}

/* ---- the folder ------------------------------------------------------------------------- */

static void keep_one(enum rec_visit visit, const char *path, const char *name)
{
    if (visit != REC_FILE) return;
    if (run.file_count == FILES_MAX) rec_die("too many files");
    int i = run.file_count++;
    snprintf(run.files[i].name, sizeof run.files[i].name, "%s", name);
    run.files[i].bytes = rec_read(path, &run.files[i].size);
    run.bytes += run.files[i].size;
}

static void folder_make(void)
{
    struct world_action action;
    rig_init(&run.rig, &contract_local, run.folders.dir);
    run.rig.head_went_back = true; /* and so messages keep the envelopes of the epoch before */
    run.rig.groups[0].keep.messages = 60;
    run.rig.groups[0].keep.until = PEAL_UNTIL_READ;
    run.rig.groups[1].keep = run.rig.groups[0].keep;
    rig_open(&run.rig);
    run.world.epoch = peal_store_generation(run.rig.store);
    for (uint32_t number = 1; number <= ACTIONS; number++) {
        action = (struct world_action){.kind = WORLD_PUT,
                                       .number = number,
                                       .group = world_group_of(number),
                                       .now_ms = atomic_load(&run.rig.now_ms)};
        if (number % 5 == 0) {
            action.kind = WORLD_MARK;
            action.group = (int)roll(WORLD_INBOXES);
            action.flags = number % 2 ? PEAL_FLAG_ACK : PEAL_FLAG_READ;
            action.offsets[0] = action.offsets[1] =
                1 + roll(run.world.groups[action.group].newest + 1);
        }
        if (number == ACTIONS) action = (struct world_action){.kind = WORLD_SLOTS, .number = 1};
        world_apply(&run.world, &action, &run.rig);
        assert_int_equal(rig_do(&run.rig, world_op(&run.rig, &action)).err, PEAL_OK);
        if (number % 50 == 0) rig_pass(&run.rig, 100);
    }
    rig_close(&run.rig);
    rec_walk(run.folders.dir, "", keep_one);
}

/* ---- damage ----------------------------------------------------------------------------- */

enum damage_kind { FLIP, ZERO, CUT };

struct damage {
    enum damage_kind kind;
    int file;
    size_t at;
    int bit;
};

static const char *const damage_words[] = {"a flipped bit", "a zeroed block",
                                           "the end of the file"};

static struct damage damage_roll(enum damage_kind kind)
{
    struct damage damage = {.kind = kind, .bit = (int)roll(8)};
    size_t at = roll(run.bytes);
    while (at >= run.files[damage.file].size)
        at -= run.files[damage.file++].size;
    damage.at = damage.kind == FLIP || damage.kind == CUT ? at : at - at % REC_SECTOR;
    /* Half of the cuts are at whole pages, as file systems make them. */
    if (damage.kind == CUT && roll(2)) damage.at -= damage.at % 4096;
    return damage;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Writes the folder to dir, with the damage. Returns whether a byte has changed. */
static bool folder_write(const char *dir, const struct damage *damage)
{
    bool changed = false;
    for (int i = 0; i < run.file_count; i++) {
        char path[REC_FULL_MAX];
        struct rec_content content = {0};
        rec_put(&content, 0, run.files[i].bytes, run.files[i].size);
        if (i == damage->file) {
            char *at = content.bytes + damage->at;
            size_t size = least(REC_SECTOR, content.size - damage->at);
            if (damage->kind == FLIP) *at = (char)(*at ^ 1 << damage->bit);
            if (damage->kind == ZERO) memset(at, 0, size);
            if (damage->kind == CUT) content.size = damage->at;
            changed =
                damage->kind == CUT || memcmp(content.bytes, run.files[i].bytes, content.size) != 0;
        }
        snprintf(path, sizeof path, "%s/%s", dir, run.files[i].name);
        for (char *slash = path + strlen(dir) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
            *slash = '\0';
            syscall(SYS_mkdir, path, 0700);
            *slash = '/';
        }
        rec_write_file(path, &content);
        free(content.bytes);
    }
    return changed;
}

/* ---- after damage ----------------------------------------------------------------------- */

/* In a child. */
static void wrong(const char *what, int group, uint64_t offset)
{
    fprintf(stderr, "group %d, offset %llu: %s\n", group, (unsigned long long)offset, what);
    _exit(END_WRONG);
}

/* A message that is not there is told as lost, unless a rule took it or its user has read it. */
static bool check_message(const struct seen_group *seen, int number, uint64_t offset)
{
    const struct world_group *group = &run.world.groups[number];
    enum seen_kind kind = seen->at[offset].kind;
    if (kind == SEEN_OTHER_DATA) wrong("another payload", number, offset);
    if (kind == SEEN_MESSAGE && seen->at[offset].number != group->at[offset].number)
        wrong("another message", number, offset);
    if (kind == SEEN_MESSAGE) return true;
    if (kind == SEEN_GAP || kind == SEEN_EVICTED) return false;
    if (judge_may_be_gone(group, number, offset, kind, &run.rig)) return true;
    if (!group->at[offset].read) wrong("a message that is gone without a word", number, offset);
    return false;
}

/* Returns whether all is there. */
static bool check_group(const struct seen_group *seen, int number)
{
    const struct world_group *group = &run.world.groups[number];
    bool all = true;
    if (seen->err != PEAL_OK) return false;
    /* Of another epoch nothing is known; whoever has a position is told so. What it has of the old
     * one is still the old messages. */
    bool same = seen->epoch == run.world.epoch;
    if (same && seen->newest < group->newest)
        wrong("the group went back in its epoch", number, seen->newest);
    for (uint64_t offset = 1; offset <= group->newest; offset++) {
        if (same)
            all &= check_message(seen, number, offset);
        else if (seen->at[offset].kind == SEEN_OTHER_DATA)
            wrong("another payload", number, offset);
    }
    return same && all;
}

/* A damaged store may refuse, but it must not end, nor give a number twice. */
static void go_on(const struct seen *seen)
{
    struct world_action action = {.kind = WORLD_PUT, .now_ms = atomic_load(&run.rig.now_ms)};
    for (uint32_t number = ACTIONS + 1; number <= ACTIONS + 2 * WORLD_GROUPS; number++) {
        action.number = number;
        action.group = world_group_of(number);
        struct peal_store_op op = rig_do(&run.rig, world_op(&run.rig, &action));
        const struct seen_group *group = &seen->groups[action.group];
        if (op.err == PEAL_OK && op.epoch == run.world.epoch && op.offset <= group->newest)
            wrong("a number is given twice", action.group, op.offset);
    }
    for (int i = 0; i < WORLD_INBOXES; i++) {
        action = (struct world_action){
            .kind = WORLD_MARK, .group = i, .flags = PEAL_FLAG_READ, .upto = 20};
        if (rig_do(&run.rig, world_op(&run.rig, &action)).err != PEAL_OK) continue;
        world_apply(&run.world, &action, &run.rig);
    }
}

static void child_checks(void)
{
    static struct seen seen;
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    alarm(CHILD_SECONDS);
    run.rig.dir = run.folders.image;
    enum peal_err err = rig_try_open(&run.rig);
    if (err != PEAL_OK) {
        bool clear = (err == PEAL_ECORRUPT || err == PEAL_EIO) && strlen(run.rig.why) > 10;
        _exit(clear ? END_REFUSED : END_WRONG);
    }
    bool all = true;
    seen_read(&run.rig, &seen, READS_MAX);
    for (int i = 0; i < WORLD_GROUPS; i++)
        all &= check_group(&seen.groups[i], i);
    go_on(&seen);
    seen_read(&run.rig, &seen, READS_MAX);
    for (int i = 0; i < WORLD_GROUPS; i++)
        all &= check_group(&seen.groups[i], i);
    rig_close(&run.rig);
    _exit(all ? END_INTACT : END_TOLD);
}

static void report_failure(const struct damage *damage, int status)
{
    char kept[REC_ROOT_MAX];
    snprintf(kept, sizeof kept, "%s-%u", run.folders.image, run.failures++);
    if (mkdir(kept, 0700) != 0) rec_die(kept);
    folder_write(kept, damage);
    print_error("seed %llu: status %x after %s in %s at %zu of %zu; kept in %s\n",
                (unsigned long long)run.seed, (unsigned)status, damage_words[damage->kind],
                run.files[damage->file].name, damage->at, run.files[damage->file].size, kept);
}

static void damage_check(const struct damage *damage)
{
    int status;
    rec_erase(run.folders.image);
    if (!folder_write(run.folders.image, damage)) return;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) child_checks();
    if (waitpid(child, &status, 0) != child) rec_die("waitpid");
    bool known = WIFEXITED(status) && WEXITSTATUS(status) < END_COUNT;
    if (known)
        run.ends[WEXITSTATUS(status)]++;
    else
        run.crashes++;
    if (!known || WEXITSTATUS(status) == END_WRONG) report_failure(damage, status);
}

/* ---- tests ------------------------------------------------------------------------------ */

static int folders_setup(void **state)
{
    (void)state;
    memset(&run, 0, sizeof run);
    return rec_folders_make(&run.folders, "damage");
}

static int folders_teardown(void **state)
{
    (void)state;
    for (int i = 0; i < run.file_count; i++)
        free(run.files[i].bytes);
    return rec_folders_remove(&run.folders);
}

static void damage_and_check(enum damage_kind kind)
{
    unsigned damages = (unsigned)rec_number_from("PEAL_DAMAGES", DAMAGES_DEFAULT);
    run.seed = rec_number_from("PEAL_SEED", (uint64_t)time(NULL));
    run.dice = run.seed;
    print_message("seed %llu\n", (unsigned long long)run.seed);
    folder_make();
    for (unsigned i = 0; i < damages && run.failures < FAILURES_MAX; i++) {
        struct damage damage = damage_roll(kind);
        damage_check(&damage);
    }
    print_message("%u without effect, %u told, %u refused, %u wrong, %u crashes\n",
                  run.ends[END_INTACT], run.ends[END_TOLD], run.ends[END_REFUSED],
                  run.ends[END_WRONG], run.crashes);
    assert_int_equal(run.failures, 0);
    assert_true(run.ends[END_TOLD] + run.ends[END_REFUSED] > 0);
}

static void damage_by_flipped_bits_is_told_or_refused_and_never_served(void **state)
{
    (void)state;
    damage_and_check(FLIP);
}

static void damage_by_zeroed_blocks_is_told_or_refused_and_never_served(void **state)
{
    (void)state;
    damage_and_check(ZERO);
}

static void damage_by_lost_ends_is_told_or_refused_and_never_served(void **state)
{
    (void)state;
    damage_and_check(CUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, folders_setup, folders_teardown)
        T(damage_by_flipped_bits_is_told_or_refused_and_never_served),
        T(damage_by_zeroed_blocks_is_told_or_refused_and_never_served),
        T(damage_by_lost_ends_is_told_or_refused_and_never_served),
#undef T
    };
    return cmocka_run_group_tests_name("damage", tests, NULL, NULL);
}

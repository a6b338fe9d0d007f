/* Disks that are sick or full: a sync that fails, syncs that take long, no room. Through the
 * interface, whatever the store's files are: the recorder (tests/unit/recorder.h) knows every kind
 * of sync. */
#include "storage/store.h"

#include <sys/wait.h>

#include "proto/envelope.h"
#include "proto/group.h"
#include "tests/unit/unit.h"

#include "tests/unit/recorder.h"

#include "tests/unit/store_rig.h"

#include "tests/unit/store_world.h"

#include "tests/unit/store_load.h"

enum {
    FAILURES = 25, /* syncs that fail, one per run */
    IMAGES = 3,    /* power cuts after each */
    WINDOW = 8,
    CHILD_SECONDS = 60,
    READS_MAX = 60,
    PAGES = 20,
    HELD = 3000, /* operations that wait for one sync */
};

static int faults_setup(void **state)
{
    (void)state;
    atomic_store(&rec.delay_us, 0);
    atomic_store(&rec.spike_us, 0);
    atomic_store(&rec.failing, 0);
    atomic_store(&rec.held, false);
    load.seed = rec_number_from("PEAL_SEED", (uint64_t)time(NULL));
    load.dice = load.seed;
    print_message("seed %llu\n", (unsigned long long)load.seed);
    return rec_folders_make(&load.folders, "faults");
}

static int faults_teardown(void **state)
{
    (void)state;
    atomic_store(&rec.held, false);
    if (load.rig.store != NULL) rig_close(&load.rig);
    recorder_stop();
    return rec_folders_remove(&load.folders);
}

/* ---- a sync that fails ------------------------------------------------------------------ */

/* Answers of a store whose disk has failed: nothing is done any more, but questions are answered.
 */
static void check_read_only(void)
{
    struct page page;
    for (int i = 0; i < 10; i++) {
        struct peal_store_op put = rig_put(&load.rig, "user:0", NULL, "x");
        assert_int_equal(put.err, PEAL_EIO);
        assert_int_equal(rig_ack(&load.rig, "user:0", UINT64_MAX).err, PEAL_EIO);
    }
    struct peal_store_op head = rig_head(&load.rig, "user:0");
    assert_true(head.err == PEAL_OK || head.err == PEAL_EIO);
    rig_page(&load.rig, &(struct ask){"user:0", head.epoch, 0, 0, 0, 0}, &page);
    assert_int_equal(page.frame.code, head.err);
    page_free(&page);
}

/* Runs a load until an operation fails; nothing is done afterwards. Returns false when none did. */
static bool load_until_failure(size_t count)
{
    bool broken = false;
    uint64_t under_way = 0;
    while (load.action_count < count && !broken) {
        for (; under_way < 1 + roll(WINDOW) && load.action_count < count; under_way++)
            submit_one();
        for (; under_way > 0; under_way--) {
            enum peal_err err = take_one();
            if (broken || err != PEAL_OK) assert_int_equal(err, PEAL_EIO);
            broken = err != PEAL_OK;
        }
        if (roll(4) == 0) clock_pass(roll(700));
    }
    return broken;
}

/* In a child, so that a crash is seen: does dir hold what was acknowledged? */
static void check_folder(char *dir, const struct cut *cut)
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        static struct seen seen;
        setenv("CMOCKA_TEST_ABORT", "1", 1);
        alarm(CHILD_SECONDS);
        load.rig.dir = dir;
        rig_open(&load.rig);
        seen_read(&load.rig, &seen, READS_MAX);
        load.base.epoch = cut->epoch;
        if (find_survivors(&load.base, cut, &seen) == SIZE_MAX) _exit(1);
        /* The disk is believed again: the folder was opened anew. */
        if (rig_put(&load.rig, "user:0", NULL, "x").err != PEAL_OK) _exit(2);
        rig_close(&load.rig);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void store_begins(uint32_t failing)
{
    store_begin();
    load.action_count = 0;
    load.now = load.base;
    atomic_store(&rec.failing, failing);
    recorder_start(load.folders.dir);
    recorder_note(NOTE_CLOCK, atomic_load(&load.rig.now_ms));
}

/* The number of syncs of one load without a failure. */
static uint32_t syncs_of_a_load(size_t count)
{
    store_begins(0);
    open_store();
    assert_false(load_until_failure(count));
    uint32_t syncs = atomic_load(&rec.syncs_begun);
    rig_close(&load.rig);
    recorder_stop();
    return syncs;
}

/* Whichever sync it is: of the first opening, of a commit, of its meta page, of the store's own
 * work. Afterwards the process goes on with a folder that it must not believe; then it starts again
 * with what the kernel still has, or with what the disk has. */
static void failed_sync_of_any_kind_ends_acks_until_reopened(void **state)
{
    (void)state;
    unsigned started = 0;
    unsigned refused = 0;
    uint32_t syncs = syncs_of_a_load(ACTIONS_MAX / 2);
    for (int i = 0; i < FAILURES; i++) {
        store_begins(1 + (uint32_t)roll(syncs));
        if (rig_try_open(&load.rig) != PEAL_OK) {
            assert_true(strlen(load.rig.why) > 0);
            assert_true(atomic_load(&rec.failed));
            refused++;
        } else {
            load.now.epoch = peal_store_generation(load.rig.store);
            recorder_note(NOTE_OPENED, load.now.epoch);
            bool broken = load_until_failure(ACTIONS_MAX);
            /* With luck the load joins more operations and syncs less often; if not, a failure
             * that no operation is told of would be acknowledged away. */
            assert_int_equal(broken, atomic_load(&rec.failed));
            if (broken) check_read_only();
            started += broken;
            rig_close(&load.rig);
        }
        recorder_stop();
        struct cut cut = cut_at(rec.count);
        if (cut.epoch == 0) continue;
        for (int n = 0; n < IMAGES; n++) {
            rec_erase(load.folders.image);
            recorder_image(cut.at, roll(UINT64_MAX), load.folders.image);
            check_folder(load.folders.image, &cut);
        }
        check_folder(load.folders.dir, &cut);
    }
    print_message("%u syncs per load; %u failed at work, %u at opening\n", syncs, started, refused);
    assert_true(started > FAILURES / 2);
}

/* ---- syncs that take long --------------------------------------------------------------- */

static struct peal_store_op *small_put(uint64_t number)
{
    char group[16];
    snprintf(group, sizeof group, "user:%d", (int)(number % 50));
    struct peal_store_op *op = rig_put_op(&load.rig, &(struct message){group, NULL, "small", 0, 0});
    op->tag[0] = atomic_load(&rec.syncs_ended);
    return op;
}

/* Syncs that an operation alone takes; an own thread of the store may add some. */
static uint32_t syncs_alone(void)
{
    uint32_t least = UINT32_MAX;
    for (uint64_t i = 0; i < 20; i++) {
        uint32_t before = atomic_load(&rec.syncs_ended);
        assert_int_equal(rig_do(&load.rig, small_put(i)).err, PEAL_OK);
        uint32_t syncs = atomic_load(&rec.syncs_ended) - before;
        if (syncs < least) least = syncs;
    }
    assert_true(least > 0);
    return least;
}

static void wait_for_a_held_sync(void)
{
    uint32_t ended = atomic_load(&rec.syncs_ended);
    struct timespec pause = {.tv_nsec = 1000000};
    for (int i = 0; i < WAIT_MS && atomic_load(&rec.syncs_begun) == ended; i++)
        nanosleep(&pause, NULL);
    assert_true(atomic_load(&rec.syncs_begun) > ended);
}

static void store_begins_slow(uint64_t seen_messages)
{
    store_begins(0);
    load.rig.groups[0].keep.messages = seen_messages;
    load.rig.groups[0].keep.bytes = 1 << 30;
    load.rig.groups[0].keep.settled_ms = HOUR_MS;
    open_store();
}

/* However long a sync takes: what came meanwhile goes with the next commits, 1,000 at a time, and
 * questions that need no disk are answered at once. Nothing is done while the sync is under way. */
static void held_sync_gathers_what_comes_and_what_is_asked(void **state)
{
    (void)state;
    store_begins_slow(1000);
    uint32_t alone = syncs_alone();
    atomic_store(&rec.held, true);
    for (uint64_t i = 0; i < HELD; i++)
        rig_submit(&load.rig, small_put(i));
    wait_for_a_held_sync();
    assert_null(peal_mailbox_pop(&load.rig.done)); /* no false acknowledgement */
    for (int i = 0; i < PAGES; i++) {
        struct peal_store_fetch *fetch = peal_store_fetch_new(peal_span_of("user:1"));
        assert_non_null(fetch);
        fetch->policy = &load.rig.groups[0];
        fetch->epoch = load.now.epoch;
        assert_int_equal(peal_store_read(load.rig.store, fetch), PEAL_OK);
    }

    uint32_t before = atomic_load(&rec.syncs_ended);
    atomic_store(&rec.held, false);
    for (uint64_t i = 0; i < HELD; i++) {
        struct peal_store_op *op = rig_wait(&load.rig.done);
        assert_int_equal(op->err, PEAL_OK);
        peal_store_op_free(op);
    }
    uint32_t syncs = atomic_load(&rec.syncs_ended) - before;
    for (int i = 0; i < PAGES; i++) {
        struct peal_store_fetch *fetch = rig_wait(&load.rig.pages);
        struct peal_frame page;
        assert_int_equal(peal_frame_decode(peal_bytes_span(fetch->page), &page), PEAL_OK);
        assert_int_equal(page.code, PEAL_OK);
        assert_true(page.entries.count >= 1);
        peal_frame_fini(&page);
        peal_store_fetch_free(fetch);
    }
    print_message("%u syncs alone, %u for %d that waited\n", alone, syncs, HELD);
    assert_true(syncs <= HELD / 50 * alone);
}

static void held_sync_bounds_what_waits(void **state)
{
    (void)state;
    store_begins_slow(1000);
    atomic_store(&rec.held, true);
    for (uint64_t i = 0; i < PEAL_STORE_OPS_MAX; i++)
        rig_submit(&load.rig, small_put(i));
    struct peal_store_op *more = small_put(0);
    assert_int_equal(peal_store_submit(load.rig.store, more), PEAL_EQUEUE_FULL);
    atomic_store(&rec.held, false);
    for (uint64_t i = 0; i < PEAL_STORE_OPS_MAX; i++) {
        struct peal_store_op *op = rig_wait(&load.rig.done);
        assert_int_equal(op->err, PEAL_OK);
        peal_store_op_free(op);
    }
    assert_int_equal(rig_do(&load.rig, more).err, PEAL_OK);
}

/* Each operation waits for the commit that is under way when it comes, and for its own: twice the
 * syncs of one alone. As many again are left for threads of the store with work of their own. */
static void slow_syncs_delay_an_operation_by_two_commits_at_most(void **state)
{
    (void)state;
    static const uint32_t spikes_ms[] = {50, 200, 1000};
    store_begins_slow(20);
    uint32_t alone = syncs_alone();
    for (size_t s = 0; s < sizeof spikes_ms / sizeof spikes_ms[0]; s++) {
        uint32_t most = 0;
        atomic_store(&rec.spike_us, spikes_ms[s] * 1000);
        for (uint64_t i = 0; i < 300; i++)
            rig_submit(&load.rig, small_put(i));
        for (uint64_t i = 0; i < 300; i++) {
            struct peal_store_op *op = rig_wait(&load.rig.done);
            uint32_t waited = atomic_load(&rec.syncs_ended) - (uint32_t)op->tag[0];
            assert_int_equal(op->err, PEAL_OK);
            if (waited > most) most = waited;
            peal_store_op_free(op);
        }
        print_message("%u ms: %u syncs at most, %u alone\n", spikes_ms[s], most, alone);
        assert_true(most <= 4 * alone);
        atomic_store(&rec.spike_us, 0);
    }
}

/* ---- no room ---------------------------------------------------------------------------- */

static struct peal_store_op drop_op(const char *group)
{
    struct peal_store_op *op =
        peal_store_op_new(PEAL_STORE_DROP, peal_span_of(""), (struct peal_span){0}, NULL, 0);
    assert_non_null(op);
    op->policy = &load.rig.groups[0];
    op->mark_flags = peal_group_slot(peal_span_of(group));
    return rig_do(&load.rig, op);
}

/* A slot that goes out is moved to the inbox first. */
static void settle(const char *group)
{
    struct peal_store_op *op =
        peal_store_op_new(PEAL_STORE_EXPORT, peal_span_of(""), (struct peal_span){0}, NULL, 0);
    assert_non_null(op);
    op->policy = &load.rig.groups[0];
    op->mark_flags = peal_group_slot(peal_span_of(group));
    assert_int_equal(rig_do(&load.rig, op).err, PEAL_OK);
}

/* Puts that are refused for lack of room, until it is there or time has passed for it. */
static bool room_comes_back(const struct message *message)
{
    for (int i = 0; i < 200; i++) {
        enum peal_err err = rig_do(&load.rig, rig_put_op(&load.rig, message)).err;
        if (err == PEAL_OK) return true;
        assert_int_equal(err, PEAL_ESTORE_FULL);
        rig_pass(&load.rig, 25); /* 5 s in all */
    }
    return false;
}

static void full_store_answers_pages_marks_and_drops_and_comes_back(void **state)
{
    (void)state;
    static char data[4000];
    struct message message = {"user:a", NULL, data, sizeof data, 0};
    struct page page;
    uint64_t stored[2] = {0, 0};
    memset(data, 'x', sizeof data);
    store_begin();
    load.rig.config.store.max = 4 << 20;
    load.rig.groups[0].keep.messages = PEAL_INBOX_MESSAGES_MAX;
    load.rig.groups[0].keep.bytes = 1 << 30;
    load.rig.groups[0].keep.settled_ms = HOUR_MS;
    rig_open(&load.rig);
    /* What is moved may take less room than it did: full is what is full when all of it was. */
    for (int i = 0, full = 0; full < 3; i++) {
        message.group = i % 2 == 0 ? "user:a" : "user:b";
        enum peal_err err = rig_do(&load.rig, rig_put_op(&load.rig, &message)).err;
        if (err == PEAL_OK) {
            stored[i % 2]++;
            full = 0;
            continue;
        }
        assert_int_equal(err, PEAL_ESTORE_FULL);
        full++;
        settle("user:a");
        settle("user:b");
    }
    assert_in_range(stored[0], 100, 600);

    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 1; i <= 50; i++) {
            assert_int_equal(rig_put(&load.rig, "user:c", NULL, "x").err, PEAL_ESTORE_FULL);
            assert_int_equal(rig_head(&load.rig, "user:a").offset, stored[0]);
            struct peal_store_op mark = rig_ack(&load.rig, "user:a", i);
            assert_int_equal(mark.err, PEAL_OK);
            assert_int_equal(mark.changed, round == 0);
            rig_page(&load.rig, &(struct ask){"user:b", 0, 0, 0, 0, 0}, &page);
            assert_int_equal(page.frame.code, PEAL_OK);
            assert_true(page.messages > 10);
            page_free(&page);
        }
        rig_reopen(&load.rig); /* as full as it was */
    }
    assert_int_equal(drop_op("user:b").err, PEAL_OK);
    message.group = "user:a";
    assert_true(room_comes_back(&message));
    assert_int_equal(rig_head(&load.rig, "user:a").offset, stored[0] + 1);
    assert_int_equal(rig_head(&load.rig, "user:b").offset, 0);
    /* Nothing was stored that was refused. */
    assert_int_equal(rig_head(&load.rig, "user:c").offset, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, faults_setup, faults_teardown)
        T(failed_sync_of_any_kind_ends_acks_until_reopened),
        T(held_sync_gathers_what_comes_and_what_is_asked),
        T(held_sync_bounds_what_waits),
        T(slow_syncs_delay_an_operation_by_two_commits_at_most),
        T(full_store_answers_pages_marks_and_drops_and_comes_back),
#undef T
    };
    return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}

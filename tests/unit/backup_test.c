#include "storage/backup.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/stats.h"
#include "storage/verify.h"
#include "tests/unit/unit.h"

#include "tests/unit/store_rig.h"

/* In the process that copies: after the first file was copied it says so, and waits. */
static int pause_out = -1;
static int pause_in = -1;

int fsync(int fd)
{
    char byte = 'x';
    if (pause_out >= 0) {
        if (write(pause_out, &byte, 1) != 1 || read(pause_in, &byte, 1) != 1) _exit(9);
        pause_out = -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

static struct rig rig;
static char *copies; /* a folder; `copy` is in it */
static char copy[128];
static char why[512];

static int rig_setup(void **state)
{
    if (folder_setup(state) != 0) return -1;
    copies = rig_folder_new();
    snprintf(copy, sizeof copy, "%s/copy", copies);
    rig_init(&rig, &contract_local, ((struct folder *)*state)->path);
    /* So little that the log is settled after some dozen messages. */
    rig.config.store.max = 2 << 20;
    rig.groups[0].keep.messages = 30;
    return 0;
}

static int rig_teardown(void **state)
{
    if (rig.store != NULL) rig_close(&rig);
    rig_folder_free(copies);
    return folder_teardown(state);
}

static struct peal_stats stats_of(const char *dir)
{
    struct peal_survey survey;
    struct peal_stats stats;
    if (peal_survey_open(&survey, dir, why, sizeof why) != PEAL_OK) fail_msg("%s", why);
    assert_int_equal(peal_stats_read(&survey, &stats), PEAL_OK);
    peal_survey_close(&survey);
    return stats;
}

static void on_problem(void *ctx, const char *text)
{
    (void)ctx;
    print_error("%s\n", text);
}

static void assert_sound(const char *dir)
{
    struct peal_survey survey;
    struct peal_verify run = {.problem = on_problem};
    if (peal_survey_open(&survey, dir, why, sizeof why) != PEAL_OK) fail_msg("%s", why);
    assert_int_equal(peal_verify_run(&survey, &run), PEAL_OK);
    peal_survey_close(&survey);
    assert_int_equal(run.problems, 0);
}

static void put_some(const char *group, int count)
{
    static char data[3000];
    memset(data, 'x', sizeof data - 1);
    for (int i = 0; i < count; i++) {
        struct message m = {group, NULL, data, 0, 0};
        struct peal_store_op op = rig_put_until_stored(&rig, &m);
        assert_int_equal(op.err, PEAL_OK);
    }
}

/* Until everything is in the inbox, and so much of the log is removed. */
static void settle(void)
{
    for (int i = 0; i < 100; i++) {
        for (int turn = 0; turn < 20; turn++) {
            rig_pass(&rig, 5000);
            poll(NULL, 0, 2);
        }
        rig_close(&rig);
        struct peal_stats stats = stats_of(rig.dir);
        rig_open(&rig);
        if (stats.log_waiting == 0 && stats.log_records == 0) return;
    }
    fail_msg("the log is not settled");
}

static void copy_file(enum peal_db_kind kind)
{
    struct peal_db *db;
    assert_int_equal(peal_db_open_reading(rig.dir, kind, &db, why, sizeof why), PEAL_OK);
    assert_int_equal(peal_db_copy(db, copy, "data.mdb", why, sizeof why), PEAL_OK);
    peal_db_close(db);
}

static const char *text_of(const char *group)
{
    struct ask ask = {group, rig_head(&rig, group).epoch, 0, 0, 0, 0};
    return rig_text(&rig, &ask);
}

/* The order of a backup, with as much time between its halves as there can be: the inbox is ahead
 * by messages, marks, retention, and a group that the log has never heard of. */
static void backup_of_a_log_and_a_much_later_inbox_has_everything(void **state)
{
    (void)state;
    rig_open(&rig);
    put_some("user:a", 10);
    settle();
    put_some("user:a", 5); /* 11 to 15 are in the log only */
    put_some("user:b", 5);
    rig_ack(&rig, "user:a", 2);
    rig_close(&rig);
    assert_int_equal(mkdir(copy, 0700), 0);
    copy_file(PEAL_DB_LOG);

    rig_open(&rig);
    put_some("user:a", 5);
    put_some("user:c", 3);
    rig_ack(&rig, "user:b", 4);
    settle();
    rig_close(&rig);
    copy_file(PEAL_DB_INBOX);

    rig.dir = copy;
    assert_sound(copy);
    rig_open(&rig);
    assert_string_equal(text_of("user:a"), "M1ar M2ar M3 M4 M5 M6 M7 M8 M9 M10 M11 M12 M13 M14 M15 "
                                           "M16 M17 M18 M19 M20");
    assert_string_equal(text_of("user:b"), "M1ar M2ar M3ar M4ar M5");
    assert_string_equal(text_of("user:c"), "M1 M2 M3");
    put_some("user:b", 1);
    settle();
    assert_string_equal(text_of("user:b"), "M1ar M2ar M3ar M4ar M5 M6");
    rig_close(&rig);
    assert_sound(copy);
}

/* Why it is that order: the other one loses what was moved and removed between the halves. */
static void backup_in_the_other_order_would_lose_messages(void **state)
{
    (void)state;
    rig_open(&rig);
    put_some("user:a", 5);
    rig_close(&rig);
    assert_int_equal(mkdir(copy, 0700), 0);
    copy_file(PEAL_DB_INBOX);
    rig_open(&rig);
    settle();
    rig_close(&rig);
    copy_file(PEAL_DB_LOG);
    assert_int_equal(stats_of(rig.dir).messages, 5);
    assert_int_equal(stats_of(copy).messages, 0);
}

/* The command itself, held between its halves while the store goes on. */
static void backup_beside_a_store_that_settles_has_everything(void **state)
{
    (void)state;
    int from[2];
    int to[2];
    int status;
    char byte;
    rig_open(&rig);
    put_some("user:a", 5);
    rig_close(&rig);
    assert_int_equal(pipe(from), 0);
    assert_int_equal(pipe(to), 0);
    pid_t pid = fork(); /* while no store is open here */
    assert_true(pid >= 0);
    if (pid == 0) {
        pause_out = from[1];
        pause_in = to[0];
        _exit(peal_backup_make(rig.dir, copy, why, sizeof why) == PEAL_OK ? 0 : 1);
    }
    assert_int_equal(read(from[0], &byte, 1), 1);
    rig_open(&rig);
    put_some("user:a", 5);
    settle();
    rig_close(&rig);
    assert_int_equal(write(to[1], "x", 1), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    for (int i = 0; i < 2; i++) {
        close(from[i]);
        close(to[i]);
    }
    assert_sound(copy);
    assert_int_equal(stats_of(copy).messages, 10);
}

static void backup_begins_new_epochs_in_all_groups_when_it_is_opened(void **state)
{
    (void)state;
    rig_open(&rig);
    put_some("user:a", 3); /* in the inbox only */
    settle();
    put_some("user:b", 3); /* in the log only */
    rig_close(&rig);
    uint64_t generation = stats_of(rig.dir).generation;
    if (peal_backup_make(rig.dir, copy, why, sizeof why) != PEAL_OK) fail_msg("%s", why);

    rig.dir = copy;
    rig.head_went_back = true;
    rig_open(&rig);
    uint64_t a = rig_head(&rig, "user:a").epoch;
    uint64_t b = rig_head(&rig, "user:b").epoch;
    uint64_t nobody = rig_head(&rig, "user:nobody").epoch;
    assert_true(a != generation && b != generation && nobody != generation && a != b);
    assert_string_equal(text_of("user:a"), "M1 M2 M3");
    assert_string_equal(text_of("user:b"), "M1 M2 M3");
    rig_reopen(&rig);
    assert_int_equal(rig_head(&rig, "user:a").epoch, a);
    assert_int_equal(rig_head(&rig, "user:b").epoch, b);
    assert_int_equal(rig_head(&rig, "user:nobody").epoch, nobody);
    rig_close(&rig);
    rig.head_went_back = false;
    assert_sound(copy);
}

static void backup_into_what_is_not_empty_is_refused(void **state)
{
    (void)state;
    rig_open(&rig);
    put_some("user:a", 1);
    rig_close(&rig);
    assert_int_equal(peal_backup_make(rig.dir, rig.dir, why, sizeof why), PEAL_EINUSE);
    assert_int_equal(peal_backup_make(copy, copies, why, sizeof why), PEAL_ENOT_FOUND);
    assert_int_equal(peal_backup_make(rig.dir, copy, why, sizeof why), PEAL_OK);
    assert_int_equal(peal_backup_make(rig.dir, copy, why, sizeof why), PEAL_EINUSE);
}

static void compact_makes_files_small_and_keeps_everything(void **state)
{
    (void)state;
    struct peal_compacted done;
    rig_open(&rig);
    put_some("user:a", 100);
    settle();
    put_some("user:b", 3);
    rig_close(&rig);
    struct peal_stats before = stats_of(rig.dir);
    if (peal_backup_compact(rig.dir, &done, why, sizeof why) != PEAL_OK) fail_msg("%s", why);
    struct peal_stats after = stats_of(rig.dir);
    assert_int_equal(done.bytes_before, before.log.bytes_file + before.inbox.bytes_file);
    assert_int_equal(done.bytes_after, after.log.bytes_file + after.inbox.bytes_file);
    assert_true(done.bytes_after < done.bytes_before);
    assert_int_equal(after.messages, before.messages);
    assert_int_equal(after.log_waiting, 3);
    assert_sound(rig.dir);
    rig_open(&rig);
    assert_string_equal(text_of("user:b"), "M1 M2 M3");
    put_some("user:b", 1);
    assert_string_equal(text_of("user:b"), "M1 M2 M3 M4");
}

/* An open snapshot would go on with the old file and mark its place in the common lock file. */
static void compact_beside_a_reader_is_refused(void **state)
{
    (void)state;
    struct peal_survey survey;
    struct peal_compacted done;
    rig_open(&rig);
    put_some("user:a", 1);
    rig_close(&rig);
    assert_int_equal(peal_survey_open(&survey, rig.dir, why, sizeof why), PEAL_OK);
    assert_int_equal(peal_backup_compact(rig.dir, &done, why, sizeof why), PEAL_ELOCKED);
    peal_survey_close(&survey);
    assert_int_equal(peal_backup_compact(rig.dir, &done, why, sizeof why), PEAL_OK);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        T(backup_of_a_log_and_a_much_later_inbox_has_everything),
        T(backup_in_the_other_order_would_lose_messages),
        T(backup_beside_a_store_that_settles_has_everything),
        T(backup_begins_new_epochs_in_all_groups_when_it_is_opened),
        T(backup_into_what_is_not_empty_is_refused),
        T(compact_makes_files_small_and_keeps_everything),
        T(compact_beside_a_reader_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "storage/verify.h"

#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "storage/batch.h"
#include "storage/stats.h"
#include "tests/contract/walk.h"
#include "tests/unit/unit.h"

#include "tests/unit/store_rig.h"

enum { WALKS = 3, WALK_OPERATIONS = 4000 };

static struct rig rig;

/* The problems of the last run, one line each. */
static char problems[8192];

static void on_problem(void *ctx, const char *text)
{
    (void)ctx;
    size_t size = strlen(problems);
    snprintf(problems + size, sizeof problems - size, "%s\n", text);
}

static struct peal_verify verify(void)
{
    struct peal_survey survey;
    char why[256];
    struct peal_verify run = {.problem = on_problem};
    problems[0] = '\0';
    if (peal_survey_open(&survey, rig.dir, why, sizeof why) != PEAL_OK) fail_msg("%s", why);
    assert_int_equal(peal_verify_run(&survey, &run), PEAL_OK);
    peal_survey_close(&survey);
    return run;
}

static struct peal_stats stats(void)
{
    struct peal_survey survey;
    char why[256];
    struct peal_stats stats;
    if (peal_survey_open(&survey, rig.dir, why, sizeof why) != PEAL_OK) fail_msg("%s", why);
    assert_int_equal(peal_stats_read(&survey, &stats), PEAL_OK);
    peal_survey_close(&survey);
    return stats;
}

static void assert_problem(const char *text)
{
    if (strstr(problems, text) == NULL) fail_msg("not said: %s\n%s", text, problems);
}

static int rig_setup(void **state)
{
    if (folder_setup(state) != 0) return -1;
    rig_init(&rig, &contract_local, ((struct folder *)*state)->path);
    return 0;
}

static int rig_teardown(void **state)
{
    if (rig.store != NULL) rig_close(&rig);
    return folder_teardown(state);
}

/* Six messages of two groups, two of them acked; all in the log. */
static void fill(void)
{
    rig_open(&rig);
    for (int i = 0; i < 3; i++) {
        rig_put(&rig, "user:a", NULL, "one");
        rig_put(&rig, "user:b", NULL, "two");
    }
    rig_ack(&rig, "user:a", 2);
    rig_close(&rig);
}

/* The same, all in the inbox. */
static void fill_and_settle(void)
{
    fill();
    for (int i = 0; i < 100 && stats().log_waiting > 0; i++) {
        rig_open(&rig);
        for (int turn = 0; turn < 20; turn++) {
            rig_pass(&rig, 5000);
            poll(NULL, 0, 5);
        }
        rig_close(&rig);
    }
    assert_int_equal(stats().log_waiting, 0);
}

/* Something is changed in a file of the stopped store. */
static void change(enum peal_db_kind kind, void (*what)(struct peal_txn *txn))
{
    struct peal_db *db;
    struct peal_txn txn;
    char why[256];
    assert_int_equal(peal_db_open(rig.dir, kind, 64 << 20, &db, why, sizeof why), PEAL_OK);
    assert_int_equal(peal_txn_begin(&txn, db, true), PEAL_OK);
    what(&txn);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
    peal_db_close(db);
}

static void record_remove(struct peal_txn *txn)
{
    char at[PEAL_KEY_ENTRY];
    peal_key_entry(at, 3);
    assert_int_equal(peal_txn_del(txn, PEAL_TREE_LOG, peal_span_make(at, sizeof at)), PEAL_OK);
}

static void pair_first(struct peal_txn *txn, enum peal_tree tree, char key[PEAL_KEY_HEAD_MAX],
                       struct peal_span *at, struct peal_buf *value)
{
    struct peal_span k;
    struct peal_span v;
    assert_int_equal(peal_txn_seek(txn, tree, (struct peal_span){0}, &k, &v), PEAL_OK);
    memcpy(key, k.at, k.size);
    *at = peal_span_make(key, k.size);
    peal_buf_add_span(value, v);
}

static void message_remove(struct peal_txn *txn)
{
    char key[PEAL_KEY_HEAD_MAX];
    struct peal_span at;
    struct peal_buf value = {0};
    pair_first(txn, PEAL_TREE_MESSAGE, key, &at, &value);
    assert_int_equal(peal_txn_del(txn, PEAL_TREE_MESSAGE, at), PEAL_OK);
    peal_buf_fini(&value);
}

static void damage_first(struct peal_txn *txn, enum peal_tree tree)
{
    char key[PEAL_KEY_HEAD_MAX];
    struct peal_span at;
    struct peal_buf value = {0};
    pair_first(txn, tree, key, &at, &value);
    value.at[value.size - 1] ^= 1;
    assert_int_equal(peal_txn_put(txn, tree, at, peal_buf_span(&value)), PEAL_OK);
    peal_buf_fini(&value);
}

static void record_damage(struct peal_txn *txn)
{
    damage_first(txn, PEAL_TREE_LOG);
}

static void message_damage(struct peal_txn *txn)
{
    damage_first(txn, PEAL_TREE_MESSAGE);
}

static void head_damage(struct peal_txn *txn)
{
    damage_first(txn, PEAL_TREE_HEAD);
}

static void head_remove(struct peal_txn *txn)
{
    char key[PEAL_KEY_HEAD_MAX];
    struct peal_span at;
    struct peal_buf value = {0};
    pair_first(txn, PEAL_TREE_HEAD, key, &at, &value);
    assert_int_equal(peal_txn_del(txn, PEAL_TREE_HEAD, at), PEAL_OK);
    peal_buf_fini(&value);
}

static void gid_lower(struct peal_txn *txn)
{
    assert_int_equal(peal_number_put(txn, "gid", 1), PEAL_OK);
}

static void moved_higher(struct peal_txn *txn)
{
    assert_int_equal(peal_number_put(txn, "moved", 2), PEAL_OK);
}

static void verify_store_that_is_whole_is_ok(void **state)
{
    (void)state;
    fill();
    struct peal_verify run = verify();
    assert_string_equal(problems, "");
    assert_int_equal(run.records, 7);
    assert_int_equal(run.heads, 0);
    struct peal_stats before = stats();
    assert_int_equal(before.messages, 6);
    assert_int_equal(before.unread, 4);
    assert_int_equal(before.log_waiting, 7);
    assert_int_equal(before.newest_ms, 1700000000000);
    fill_and_settle();
    run = verify();
    assert_string_equal(problems, "");
    assert_int_equal(run.heads, 2);
    assert_int_equal(run.messages, 12);
    assert_int_equal(stats().messages, 12);
    assert_int_equal(stats().oldest_ms, 1700000000000);
}

static void verify_record_that_is_missing_is_a_gap_of_versions(void **state)
{
    (void)state;
    fill();
    change(PEAL_DB_LOG, record_remove);
    verify();
    assert_problem("log: records are missing between 2 and 4");
    assert_problem("log: record 5 of group user:a has version 3, and the one before has 1");
    assert_problem("log and inbox: the head of group user:a counts 3 messages, and 2 are there");
}

static void verify_record_that_is_damaged_is_named(void **state)
{
    (void)state;
    fill();
    change(PEAL_DB_LOG, record_damage);
    verify();
    assert_problem("log: record 1 is damaged");
    assert_problem("log: record 3 of group user:a has version 2, and there is nothing before it");
}

static void verify_message_that_is_missing_is_counted(void **state)
{
    (void)state;
    fill_and_settle();
    change(PEAL_DB_INBOX, message_remove);
    struct peal_verify run = verify();
    assert_int_equal(run.problems, 1);
    assert_problem("counts 3 messages, and 2 are there");
}

static void verify_message_that_is_damaged_is_named(void **state)
{
    (void)state;
    fill_and_settle();
    change(PEAL_DB_INBOX, message_damage);
    struct peal_verify run = verify();
    assert_int_equal(run.problems, 1);
    assert_problem("inbox: message 1 of group user:");
}

static void verify_head_that_is_damaged_or_missing_leaves_messages_of_nobody(void **state)
{
    (void)state;
    fill_and_settle();
    change(PEAL_DB_INBOX, head_damage);
    assert_int_equal(verify().problems, 4);
    assert_problem("inbox: the head of group user:");
    assert_problem("is of no group");
    change(PEAL_DB_INBOX, head_remove);
    assert_int_equal(verify().problems, 3);
    assert_problem("is of no group");
}

static void verify_numbers_that_do_not_fit_are_named(void **state)
{
    (void)state;
    fill_and_settle();
    change(PEAL_DB_INBOX, gid_lower);
    verify();
    assert_problem("has number 2, and the highest given is 1");
}

static void verify_log_that_counts_as_moved_and_is_not_is_told(void **state)
{
    (void)state;
    fill();
    change(PEAL_DB_LOG, moved_higher);
    verify();
    assert_problem("counts 3 messages, and 2 are there");
}

/* The store of storage/, looked at whenever it is about to be opened: as it was stopped or killed.
 */
static uint64_t looked_at;

static enum peal_err sound_start(const char *dir, const struct peal_config *config,
                                 const struct peal_store_events *events,
                                 const struct peal_store_options *options, void **out, char *why,
                                 size_t why_size)
{
    char path[256];
    struct peal_survey survey;
    struct peal_verify run = {.problem = on_problem};
    snprintf(path, sizeof path, "%s/log/data.mdb", dir);
    if (access(path, F_OK) == 0) {
        problems[0] = '\0';
        if (peal_survey_open(&survey, dir, why, why_size) != PEAL_OK) fail_msg("%s", why);
        assert_int_equal(peal_verify_run(&survey, &run), PEAL_OK);
        peal_survey_close(&survey);
        if (run.problems > 0) fail_msg("%s", problems);
        looked_at++;
    }
    return contract_local.start(dir, config, events, options, out, why, why_size);
}

static void verify_store_after_anything_at_random_is_ok(void **state)
{
    (void)state;
    struct contract_store sound = contract_local;
    struct walk_counts counts = {0};
    const char *given = getenv("PEAL_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 1000;
    sound.start = sound_start;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (uint64_t i = 0; i < WALKS; i++) {
        char again[100];
        snprintf(again, sizeof again, "again: PEAL_SEED=%llu\n", (unsigned long long)(seed + i));
        walk_run(&sound, seed + i, WALK_OPERATIONS, &counts, again);
    }
    print_message("%llu operations, killed %llu times, looked at %llu times\n",
                  (unsigned long long)counts.operations, (unsigned long long)counts.killed,
                  (unsigned long long)looked_at);
    assert_true(looked_at > WALKS);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        T(verify_store_that_is_whole_is_ok),
        T(verify_record_that_is_missing_is_a_gap_of_versions),
        T(verify_record_that_is_damaged_is_named),
        T(verify_message_that_is_missing_is_counted),
        T(verify_message_that_is_damaged_is_named),
        T(verify_head_that_is_damaged_or_missing_leaves_messages_of_nobody),
        T(verify_numbers_that_do_not_fit_are_named),
        cmocka_unit_test(verify_store_after_anything_at_random_is_ok),
        T(verify_log_that_counts_as_moved_and_is_not_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

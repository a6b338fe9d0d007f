/* Rules of the oracle that no store keeps yet, so that no walk compares them. */
#include "tests/contract/oracle.h"

#include <string.h>

#include "tests/unit/unit.h"

struct world {
    struct peal_config config;
    struct peal_config_group policy;
    struct oracle oracle;
    size_t group;
};

static struct world w;

static int setup(void **state)
{
    (void)state;
    w.policy = (struct peal_config_group){
        .match = (char *)(uintptr_t) "*",
        .keep = {.messages = 3, .bytes = 10000, .age_ms = HOUR_MS, .settled_ms = 1000}};
    w.policy.keep.until = PEAL_UNTIL_READ;
    w.config = (struct peal_config){.groups = &w.policy, .group_count = 1};
    w.config.dedup.age_ms = HOUR_MS;
    w.config.dedup.ids = 100;
    oracle_init(&w.oracle, &w.config, CONTRACT_COLLAPSE | CONTRACT_SETTLED_BEHIND, 7, 1000000);
    w.group = oracle_add_group(&w.oracle, "user:a");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    oracle_fini(&w.oracle);
    return 0;
}

static void put(const char *key, const char *id)
{
    struct peal_store_op expect = {0};
    struct peal_envelope env = {
        .id = peal_span_of(id == NULL ? "id" : id),
        .group = peal_span_of("user:a"),
        .ts_ms = w.oracle.now_ms,
        .data = peal_span_of("x"),
        .collapse = key == NULL ? (struct peal_span){0} : peal_span_of(key),
        .flags = id == NULL ? 0 : PEAL_MSG_ID_GIVEN,
    };
    oracle_put(&w.oracle, w.group, &env, false, &expect);
    assert_int_equal(expect.err, PEAL_OK);
}

static void mark_one(uint64_t flags, uint64_t offset)
{
    struct peal_store_op expect = {0};
    oracle_mark(&w.oracle, w.group, flags, 0, &offset, 1, &expect);
    assert_true(expect.changed);
}

/* One digit for each offset from 1 on: is it here? */
static const char *here(void)
{
    static char text[32];
    const struct oracle_group *g = &w.oracle.groups[w.group];
    memset(text, 0, sizeof text);
    for (uint64_t offset = 1; offset < g->next; offset++)
        text[offset - 1] = offset >= g->first && g->at[offset - g->first].here ? '1' : '0';
    return text;
}

static void collapse_replaces_the_older_one_and_loses_nothing(void **state)
{
    (void)state;
    put("key", NULL);
    put(NULL, NULL);
    put("other", NULL);
    put("key", NULL);
    assert_string_equal(here(), "0111"); /* and the limit of three evicts nothing */
    put("other", NULL);
    assert_string_equal(here(), "01011");
    assert_int_equal(w.oracle.groups[w.group].lost_to, 0);
    put(NULL, NULL);
    assert_string_equal(here(), "000111");
    assert_int_equal(w.oracle.groups[w.group].lost_to, 2);
}

static void collapse_replaces_what_was_read_too(void **state)
{
    (void)state;
    put("key", NULL);
    mark_one(PEAL_FLAG_READ, 1);
    put("key", NULL);
    assert_string_equal(here(), "01");
    mark_one(PEAL_FLAG_ACK, 2);
    put("key", NULL);
    assert_string_equal(here(), "001");
}

static void collapse_of_a_retry_replaces_nothing(void **state)
{
    (void)state;
    put("key", "one");
    put("key", "two");
    put("key", "one");
    assert_string_equal(here(), "01");
}

static void settled_message_behind_another_is_due_after_its_time(void **state)
{
    (void)state;
    put(NULL, NULL);
    put(NULL, NULL);
    mark_one(PEAL_FLAG_READ, 2);
    w.oracle.now_ms += 999;
    assert_false(oracle_due(&w.oracle, w.group));
    w.oracle.now_ms += 1;
    assert_true(oracle_due(&w.oracle, w.group));
    assert_false(oracle_gone(&w.oracle, w.group, w.oracle.now_ms)); /* nobody has shown it */
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(collapse_replaces_the_older_one_and_loses_nothing),
        T(collapse_replaces_what_was_read_too),
        T(collapse_of_a_retry_replaces_nothing),
        T(settled_message_behind_another_is_due_after_its_time),
    };
#undef T
    return cmocka_run_group_tests_name("oracle", tests, NULL, NULL);
}

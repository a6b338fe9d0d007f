#include "node/rights.h"

#include "tests/unit/hub_rig.h"

static const char yaml[] = "groups:\n"
                           "  - {match: 'open:{id}', join: anyone, publish: anyone}\n"
                           "  - {match: 'token:{id}', join: token, publish: members}\n"
                           "  - {match: 'server:{id}', join: server, publish: server}\n"
                           "  - {match: '*', join: anyone, publish: anyone}\n";

static struct peal_config_route native = {
    .path = "/", .dialect = PEAL_DIALECT_NATIVE, .identity = PEAL_IDENTITY_URL};

struct world {
    struct rig *rig;
    struct peal_conn conn;
    struct peal_claims claims;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    w->rig = rig_open(yaml);
    rig_connect(w->rig, &w->conn, &native, "bob");
    w->conn.claims = &w->claims;
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    w->conn.claims = NULL; /* they are the test's */
    peal_conn_fini(&w->conn);
    rig_close(w->rig);
    free(w);
    return 0;
}

static bool may_join(struct world *w, const char *group)
{
    return peal_may_join(&w->conn, peal_span_of(group));
}

static bool may_publish(struct world *w, const char *group)
{
    return peal_may_publish(&w->conn, peal_span_of(group));
}

static void rights_join_is_by_policy(void **state)
{
    struct world *w = *state;
    assert_true(may_join(w, "open:1"));
    assert_false(may_join(w, "token:1"));
    assert_false(may_join(w, "server:1"));
}

static void rights_token_adds_groups_only_where_the_policy_asks_for_one(void **state)
{
    struct world *w = *state;
    char *patterns[] = {(char[]){"token:{x}"}, (char[]){"server:*"}, (char[]){"user:*"},
                        (char[]){"sys:*"}};
    w->claims.groups = patterns;
    w->claims.group_count = 4;
    assert_true(may_join(w, "token:1"));
    assert_false(may_join(w, "server:1"));
    assert_false(may_join(w, "user:eve"));
    assert_false(may_join(w, "sys:x"));
    w->claims.group_count = 0;
    assert_false(may_join(w, "token:1"));
}

static void rights_inbox_is_joined_by_its_own_user_alone(void **state)
{
    struct world *w = *state;
    assert_true(may_join(w, "user:bob"));
    assert_false(may_join(w, "user:bobby"));
    assert_false(may_join(w, "user:bo"));
    char *user = w->conn.user;
    w->conn.user = NULL;
    assert_false(may_join(w, "user:bob"));
    w->conn.user = user;
}

static void rights_system_groups_are_nobodys(void **state)
{
    struct world *w = *state;
    char *all[] = {(char[]){"*"}};
    w->claims.groups = w->claims.publish = all;
    w->claims.group_count = w->claims.publish_count = 1;
    assert_false(may_join(w, "sys:presence"));
    assert_false(may_publish(w, "sys:presence"));
    assert_true(may_join(w, "system"));
    assert_true(may_publish(w, "system"));
}

static void rights_publish_is_by_policy(void **state)
{
    struct world *w = *state;
    assert_true(may_publish(w, "open:1"));
    assert_false(may_publish(w, "server:1"));
    assert_false(may_publish(w, "token:1"));
}

static void rights_members_may_publish_where_members_may(void **state)
{
    struct world *w = *state;
    struct peal_member *m;
    static const char *const groups[] = {"token:1", "server:1"};
    for (size_t i = 0; i < 2; i++) {
        struct peal_join join = {.group = peal_span_of(groups[i])};
        assert_int_equal(peal_member_add(&w->conn, &join, &m), PEAL_OK);
    }
    assert_true(may_publish(w, "token:1"));
    assert_false(may_publish(w, "token:2"));
    assert_false(may_publish(w, "server:1"));
    peal_member_remove(peal_member_find(&w->conn, peal_span_of("token:1")));
    assert_false(may_publish(w, "token:1"));
}

static void rights_token_adds_publish_patterns_to_any_policy(void **state)
{
    struct world *w = *state;
    char *patterns[] = {(char[]){"server:{x}"}};
    w->claims.publish = patterns;
    w->claims.publish_count = 1;
    assert_true(may_publish(w, "server:1"));
    assert_false(may_publish(w, "token:1"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(rights_join_is_by_policy),
        TEST(rights_token_adds_groups_only_where_the_policy_asks_for_one),
        TEST(rights_inbox_is_joined_by_its_own_user_alone),
        TEST(rights_system_groups_are_nobodys),
        TEST(rights_publish_is_by_policy),
        TEST(rights_members_may_publish_where_members_may),
        TEST(rights_token_adds_publish_patterns_to_any_policy),
    };
    peal_metrics_thread_start();
    return cmocka_run_group_tests_name("rights", tests, NULL, NULL);
}

/* Faults put into a store on purpose, between it and who asks: a walk (tests/contract/walk.h) must
 * find each of them, or it would not find the same one in a store. */
#include "tests/contract/walk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "proto/wire.h"
#include "tests/contract/rig.h"
#include "tests/unit/unit.h"

#include "tests/unit/disk.h" /* how full the machine's own disk is does not matter */

enum { OPERATIONS = 20000, FOUND = 42, UNSEEN = 0 };

struct fault {
    const char *name;
    unsigned can; /* CONTRACT_*: what it says of these is not so */
    void (*configure)(struct peal_config_group *group, struct peal_config *config);
    void (*ask)(struct peal_store_op *op);
    void (*tell)(struct peal_store_op *op);
    void (*fetch)(struct peal_store_fetch *fetch);
};

/* ---- a store with a fault --------------------------------------------------------------- */

static const struct fault *fault; /* of this process */

struct mutant {
    void *inner;
    struct peal_store_events events;
    const struct peal_config *right;
    struct peal_config wrong;
    struct peal_config_group groups[RIG_GROUPS];
};

static void mutant_done(void *ctx, struct peal_store_op *op)
{
    struct mutant *m = ctx;
    if (fault->tell != NULL && op->err == PEAL_OK) fault->tell(op);
    m->events.done(m->events.ctx, op);
}

static void mutant_done_all(void *ctx)
{
    struct mutant *m = ctx;
    m->events.done_all(m->events.ctx);
}

static void mutant_page(void *ctx, struct peal_store_fetch *fetch)
{
    struct mutant *m = ctx;
    m->events.page(m->events.ctx, fetch);
}

static enum peal_err mutant_start(const char *dir, const struct peal_config *config,
                                  const struct peal_store_events *events,
                                  const struct peal_store_options *options, void **out, char *why,
                                  size_t why_size)
{
    struct mutant *m = calloc(1, sizeof *m);
    if (m == NULL) return PEAL_ENOMEM;
    m->events = *events;
    m->right = config;
    m->wrong = *config;
    memcpy(m->groups, config->groups, config->group_count * sizeof *m->groups);
    m->wrong.groups = m->groups;
    for (size_t i = 0; i < config->group_count && fault->configure != NULL; i++)
        fault->configure(&m->groups[i], i == 0 ? &m->wrong : NULL);
    struct peal_store_events own = {m, mutant_done, mutant_page, mutant_done_all};
    *out = m;
    return contract_local.start(dir, &m->wrong, &own, options, &m->inner, why, why_size);
}

static void mutant_stop(void *store)
{
    struct mutant *m = store;
    contract_local.stop(m->inner);
    free(m);
}

static enum peal_err mutant_submit(void *store, struct peal_store_op *op)
{
    struct mutant *m = store;
    op->policy = &m->groups[op->policy - m->right->groups];
    if (fault->ask != NULL) fault->ask(op);
    return contract_local.submit(m->inner, op);
}

static enum peal_err mutant_read(void *store, struct peal_store_fetch *fetch)
{
    struct mutant *m = store;
    if (fault->fetch != NULL) fault->fetch(fetch);
    return contract_local.read(m->inner, fetch);
}

static uint64_t mutant_generation(const void *store)
{
    return contract_local.generation(((const struct mutant *)store)->inner);
}

/* ---- faults ----------------------------------------------------------------------------- */

static void keeps_one_more(struct peal_config_group *group, struct peal_config *config)
{
    (void)config;
    group->keep.messages++;
}

static void keeps_one_byte_less(struct peal_config_group *group, struct peal_config *config)
{
    (void)config;
    group->keep.bytes--;
}

static void ages_too_early(struct peal_config_group *group, struct peal_config *config)
{
    (void)config;
    group->keep.age_ms /= 2;
}

static void settles_too_early(struct peal_config_group *group, struct peal_config *config)
{
    (void)config;
    group->keep.settled_ms /= 2;
}

static void takes_an_ack_for_read(struct peal_config_group *group, struct peal_config *config)
{
    (void)config;
    group->keep.until = PEAL_UNTIL_ACKED;
}

static void forgets_ids_early(struct peal_config_group *group, struct peal_config *config)
{
    (void)group;
    if (config != NULL) config->dedup.age_ms -= 2000;
}

static void remembers_half_of_the_ids(struct peal_config_group *group, struct peal_config *config)
{
    (void)group;
    if (config != NULL) config->dedup.ids /= 8;
}

static void marks_one_more(struct peal_store_op *op)
{
    if (op->kind == PEAL_STORE_MARK && op->upto != 0) op->upto++;
}

static void marks_not_the_last_single_one(struct peal_store_op *op)
{
    if (op->offset_count > 0) op->offset_count--;
}

static void ignores_positions_ahead(struct peal_store_op *op)
{
    op->seen_epoch = 0;
}

static void drops_nothing(struct peal_store_op *op)
{
    if (op->kind == PEAL_STORE_DROP) op->kind = PEAL_STORE_SLOTS;
}

static void tells_no_duplicate(struct peal_store_op *op)
{
    op->duplicate = false;
}

static void tells_one_unread_more(struct peal_store_op *op)
{
    if (op->kind == PEAL_STORE_MARK && op->changed) op->unread++;
}

static void tells_rev_that_does_not_grow(struct peal_store_op *op)
{
    if (op->kind == PEAL_STORE_MARK && op->changed) op->rev--;
}

static void tells_a_message_that_is_gone_as_first(struct peal_store_op *op)
{
    if (op->first > 1) op->first--;
}

static void reads_one_too_far(struct peal_store_fetch *fetch)
{
    if (fetch->offset > 0) fetch->offset++;
}

static void reads_one_more(struct peal_store_fetch *fetch)
{
    if (fetch->limit > 0) fetch->limit++;
}

static void reads_what_was_acked(struct peal_store_fetch *fetch)
{
    fetch->flags &= ~(uint64_t)PEAL_FLAG_UNACKED;
}

static void reads_any_epoch(struct peal_store_fetch *fetch)
{
    fetch->epoch = 0;
}

/* An operation of the child is answered and not done: what it says was acknowledged is lost. */
static pid_t parent;

static void acknowledges_marks_too_soon(struct peal_store_op *op)
{
    if (getpid() == parent || op->kind != PEAL_STORE_MARK) return;
    op->tag[1] = 1;
    op->kind = PEAL_STORE_HEAD;
}

static void tells_marks_that_were_not_made(struct peal_store_op *op)
{
    if (op->tag[1] != 1) return;
    op->changed = true;
    op->rev++;
}

static const struct fault faults[] = {
    {.name = "keeps one more", .configure = keeps_one_more},
    {.name = "keeps one byte less", .configure = keeps_one_byte_less},
    {.name = "ages too early", .configure = ages_too_early},
    {.name = "settles too early", .configure = settles_too_early},
    {.name = "takes an ack for read", .configure = takes_an_ack_for_read},
    {.name = "forgets ids early", .configure = forgets_ids_early},
    {.name = "remembers too few ids", .configure = remembers_half_of_the_ids},
    {.name = "marks one more", .ask = marks_one_more},
    {.name = "marks not the last single one", .ask = marks_not_the_last_single_one},
    {.name = "ignores positions ahead", .ask = ignores_positions_ahead},
    {.name = "drops nothing", .ask = drops_nothing},
    {.name = "tells no duplicate", .tell = tells_no_duplicate},
    {.name = "tells one unread more", .tell = tells_one_unread_more},
    {.name = "tells rev that does not grow", .tell = tells_rev_that_does_not_grow},
    {.name = "tells a message that is gone", .tell = tells_a_message_that_is_gone_as_first},
    {.name = "reads one too far", .fetch = reads_one_too_far},
    {.name = "reads one more", .fetch = reads_one_more},
    {.name = "reads what was acked", .fetch = reads_what_was_acked},
    {.name = "reads any epoch", .fetch = reads_any_epoch},
    {.name = "says that it does not collapse", .can = CONTRACT_COLLAPSE},
    {.name = "says that it drops ids", .can = CONTRACT_DROP_IDS},
    {.name = "acknowledges too soon",
     .ask = acknowledges_marks_too_soon,
     .tell = tells_marks_that_were_not_made},
};

/* ---- walks ------------------------------------------------------------------------------ */

static void one_walk(void **state)
{
    struct walk_counts counts = {0};
    struct contract_store impl = contract_local;
    impl.can ^= fault->can;
    impl.start = mutant_start;
    impl.stop = mutant_stop;
    impl.submit = mutant_submit;
    impl.read = mutant_read;
    impl.generation = mutant_generation;
    walk_run(&impl, *(const uint64_t *)*state, OPERATIONS, &counts, "");
}

/* Walks in a process of its own, whose words nobody wants to read. */
static int walk_with(const struct fault *one, uint64_t seed)
{
    char *dir = rig_folder_new(); /* for all that a walk that fails leaves */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setenv("TMPDIR", dir, 1);
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        fault = one;
        parent = getpid();
        const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(one_walk, &seed)};
        _exit(cmocka_run_group_tests(tests, NULL, NULL) == 1 ? FOUND : UNSEEN);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    rig_folder_free(dir);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void walk_finds_each_fault(void **state)
{
    (void)state;
    enum { SEEDS = 5 };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        int found = UNSEEN;
        uint64_t seed = 1;
        for (; found == UNSEEN && seed <= SEEDS; seed++)
            found = walk_with(&faults[i], seed);
        if (found != FOUND) fail_msg("a store that %s: %d", faults[i].name, found);
    }
}

static void walk_finds_nothing_in_a_store_without_a_fault(void **state)
{
    (void)state;
    assert_int_equal(walk_with(&(struct fault){.name = "is right"}, 1), UNSEEN);
}

int main(void)
{
    peal_log_set_level(PEAL_LOG_ERROR);
    disk_reset();
    if (access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 0); /* as in walk_test.c */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(walk_finds_nothing_in_a_store_without_a_fault),
        cmocka_unit_test(walk_finds_each_fault),
    };
    return cmocka_run_group_tests_name("walk_mutant", tests, NULL, NULL);
}

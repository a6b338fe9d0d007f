#include "storage/linger.h"

#include "tests/unit/unit.h"

enum { COMMIT_US = 1600, NAPS_MOST = 100 };

/* A batch of `count` to which `more` come with each nap, up to `most`. Returns how many it had at
 * its commit; *waited_us says how long it waited. */
static size_t batch_of(struct peal_linger *linger, size_t count, size_t more, size_t most,
                       uint64_t *waited_us)
{
    uint64_t us;
    *waited_us = 0;
    for (int naps = 0; (us = peal_linger_us(linger, count)) > 0; naps++) {
        assert_true(naps < NAPS_MOST);
        *waited_us += us;
        count = count + more < most ? count + more : most;
    }
    return count;
}

static void linger_first_batch_waits_for_nobody(void **state)
{
    (void)state;
    struct peal_linger linger = {0};
    assert_int_equal(peal_linger_us(&linger, 1), 0);
}

static void linger_alone_never_waits(void **state)
{
    (void)state;
    struct peal_linger linger = {0};
    for (int i = 0; i < 10; i++) {
        assert_int_equal(peal_linger_us(&linger, 1), 0);
        peal_linger_commit(&linger, 1, 1, COMMIT_US);
    }
}

static void linger_two_groups_become_one_commit(void **state)
{
    (void)state;
    struct peal_linger linger = {0};
    uint64_t waited_us;
    peal_linger_commit(&linger, 128, 256, COMMIT_US);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(batch_of(&linger, i == 0 ? 128 : 1, 128, 256, &waited_us), 256);
        assert_in_range(waited_us, 1, COMMIT_US);
        peal_linger_commit(&linger, 256, 256, COMMIT_US);
    }
}

static void linger_lasts_no_longer_than_a_commit(void **state)
{
    (void)state;
    struct peal_linger linger = {0};
    uint64_t waited_us;
    peal_linger_commit(&linger, 10, 1000000, COMMIT_US);
    batch_of(&linger, 10, 5, SIZE_MAX, &waited_us);
    assert_in_range(waited_us, 1, COMMIT_US);
    /* The disk has stood still for a while: that is no reason to do so. */
    peal_linger_commit(&linger, 30, 1000000, 10 * 1000 * 1000);
    batch_of(&linger, 30, 10, SIZE_MAX, &waited_us);
    assert_in_range(waited_us, 1, 2000);
}

static void linger_fast_disk_does_not_wait(void **state)
{
    (void)state;
    struct peal_linger linger = {0};
    peal_linger_commit(&linger, 128, 256, 100);
    assert_int_equal(peal_linger_us(&linger, 128), 0);
}

/* Of many batches that wait for somebody who does not come, few do. */
static void linger_in_vain_becomes_rare(void **state)
{
    (void)state;
    struct peal_linger linger = {0};
    uint64_t waited_us;
    int waits = 0;
    peal_linger_commit(&linger, 128, 256, COMMIT_US);
    for (int i = 0; i < 1000; i++) {
        batch_of(&linger, 128, 0, 128, &waited_us);
        if (waited_us > 0) waits++;
        peal_linger_commit(&linger, 128, 256, COMMIT_US);
    }
    assert_in_range(waits, 2, 30);
    /* When somebody comes again each one waits. */
    do {
        batch_of(&linger, 128, 128, 256, &waited_us);
        peal_linger_commit(&linger, 256, 256, COMMIT_US);
    } while (waited_us == 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(batch_of(&linger, 128, 128, 256, &waited_us), 256);
        peal_linger_commit(&linger, 256, 256, COMMIT_US);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(test) cmocka_unit_test(test)
        T(linger_first_batch_waits_for_nobody), T(linger_alone_never_waits),
        T(linger_two_groups_become_one_commit), T(linger_lasts_no_longer_than_a_commit),
        T(linger_fast_disk_does_not_wait),      T(linger_in_vain_becomes_rare),
#undef T
    };
    return cmocka_run_group_tests_name("linger", tests, NULL, NULL);
}

#include "base/mailbox.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static void mailbox_full_refuses_and_keeps_order(void **state)
{
    (void)state;
    struct peal_mailbox box;
    int items[5];
    assert_int_equal(peal_mailbox_init(&box, 4), PEAL_OK);

    for (int i = 0; i < 4; i++)
        assert_int_equal(peal_mailbox_push(&box, &items[i]), PEAL_OK);
    assert_int_equal(peal_mailbox_push(&box, &items[4]), PEAL_EFULL);
    assert_ptr_equal(peal_mailbox_pop(&box), &items[0]);
    assert_int_equal(peal_mailbox_push(&box, &items[4]), PEAL_OK);
    for (int i = 1; i < 5; i++)
        assert_ptr_equal(peal_mailbox_pop(&box), &items[i]);
    assert_null(peal_mailbox_pop(&box));

    peal_mailbox_fini(&box);
}

static bool readable(int fd)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    return poll(&pfd, 1, 0) == 1;
}

static void mailbox_push_after_arm_signals_again(void **state)
{
    (void)state;
    struct peal_mailbox box;
    int item;
    assert_int_equal(peal_mailbox_init(&box, 4), PEAL_OK);

    assert_false(readable(box.fd));
    assert_int_equal(peal_mailbox_push(&box, &item), PEAL_OK);
    assert_true(readable(box.fd));
    peal_mailbox_arm(&box);
    assert_false(readable(box.fd));
    assert_int_equal(peal_mailbox_push(&box, &item), PEAL_OK);
    assert_true(readable(box.fd));

    while (peal_mailbox_pop(&box) != NULL) {
    }
    peal_mailbox_fini(&box);
}

static void mailbox_put_is_seen_without_a_wake_and_signals_with_it(void **state)
{
    (void)state;
    struct peal_mailbox box;
    int items[2];
    assert_int_equal(peal_mailbox_init(&box, 4), PEAL_OK);

    assert_int_equal(peal_mailbox_put(&box, &items[0]), PEAL_OK);
    assert_int_equal(peal_mailbox_put(&box, &items[1]), PEAL_OK);
    assert_false(readable(box.fd));
    peal_mailbox_wake(&box);
    assert_true(readable(box.fd));
    peal_mailbox_arm(&box);
    assert_ptr_equal(peal_mailbox_pop(&box), &items[0]);
    assert_ptr_equal(peal_mailbox_pop(&box), &items[1]);

    assert_int_equal(peal_mailbox_put(&box, &items[0]), PEAL_OK);
    assert_ptr_equal(peal_mailbox_pop(&box), &items[0]); /* looked for by chance */
    peal_mailbox_wake(&box);
    assert_true(readable(box.fd));
    assert_null(peal_mailbox_pop(&box));

    peal_mailbox_fini(&box);
}

static void mailbox_put_into_full_box_wakes_the_receiver(void **state)
{
    (void)state;
    struct peal_mailbox box;
    int items[3];
    assert_int_equal(peal_mailbox_init(&box, 2), PEAL_OK);

    assert_int_equal(peal_mailbox_put(&box, &items[0]), PEAL_OK);
    assert_int_equal(peal_mailbox_put(&box, &items[1]), PEAL_OK);
    assert_false(readable(box.fd));
    assert_int_equal(peal_mailbox_put(&box, &items[2]), PEAL_EFULL);
    assert_true(readable(box.fd));

    while (peal_mailbox_pop(&box) != NULL) {
    }
    peal_mailbox_fini(&box);
}

/* A sender that was interrupted between its two steps: the flag is set, the write is to come. */
static void mailbox_armed_before_the_senders_write_does_not_stay_readable(void **state)
{
    (void)state;
    struct peal_mailbox box;
    uint64_t one = 1;
    int item;
    assert_int_equal(peal_mailbox_init(&box, 4), PEAL_OK);

    assert_int_equal(peal_mailbox_put(&box, &item), PEAL_OK);
    atomic_store(&box.signalled, true);
    peal_mailbox_arm(&box);
    assert_ptr_equal(peal_mailbox_pop(&box), &item);
    peal_mailbox_wake(&box); /* of another sender: it relies on the write to come */
    assert_false(readable(box.fd));
    assert_int_equal(write(box.fd, &one, sizeof one), sizeof one);
    assert_true(readable(box.fd));
    peal_mailbox_arm(&box);
    assert_false(readable(box.fd));
    peal_mailbox_wake(&box);
    assert_true(readable(box.fd));

    peal_mailbox_fini(&box);
}

enum { SENDERS = 4, EACH = 20000 };

struct sender {
    pthread_t thread;
    struct peal_mailbox *box;
    int each_wake;   /* items per wake */
    int items[EACH]; /* items[i] = i, so order per sender can be checked */
};

static void *sender_run(void *arg)
{
    struct sender *s = arg;
    for (int i = 0; i < EACH; i++) {
        s->items[i] = i;
        while (peal_mailbox_put(s->box, &s->items[i]) == PEAL_EFULL)
            sched_yield();
        if ((i + 1) % s->each_wake == 0) peal_mailbox_wake(s->box);
    }
    peal_mailbox_wake(s->box);
    return NULL;
}

static void run_senders(const int each_wake[SENDERS])
{
    static struct sender senders[SENDERS];
    struct peal_mailbox box;
    assert_int_equal(peal_mailbox_init(&box, 64), PEAL_OK);
    for (int i = 0; i < SENDERS; i++) {
        senders[i].box = &box;
        senders[i].each_wake = each_wake[i];
        assert_int_equal(pthread_create(&senders[i].thread, NULL, sender_run, &senders[i]), 0);
    }

    int next[SENDERS] = {0};
    int total = 0;
    while (total < SENDERS * EACH) {
        struct pollfd pfd = {.fd = box.fd, .events = POLLIN};
        assert_int_equal(poll(&pfd, 1, 10000), 1); /* a lost wake-up would end here */
        peal_mailbox_arm(&box);
        for (int *item; (item = peal_mailbox_pop(&box)) != NULL; total++) {
            int who = 0;
            while (item < senders[who].items || item >= senders[who].items + EACH)
                who++;
            assert_int_equal(*item, next[who]++);
        }
    }
    for (int i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    peal_mailbox_fini(&box);
}

static void mailbox_many_senders_lose_nothing_and_keep_their_order(void **state)
{
    (void)state;
    run_senders((const int[SENDERS]){1, 1, 1, 1});
}

/* Batches of all lengths, also longer than the ring, whose end is announced by its being full. */
static void mailbox_batches_of_many_senders_lose_no_wake_up(void **state)
{
    (void)state;
    run_senders((const int[SENDERS]){1, 3, 16, 200});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mailbox_full_refuses_and_keeps_order),
        cmocka_unit_test(mailbox_push_after_arm_signals_again),
        cmocka_unit_test(mailbox_put_is_seen_without_a_wake_and_signals_with_it),
        cmocka_unit_test(mailbox_put_into_full_box_wakes_the_receiver),
        cmocka_unit_test(mailbox_armed_before_the_senders_write_does_not_stay_readable),
        cmocka_unit_test(mailbox_many_senders_lose_nothing_and_keep_their_order),
        cmocka_unit_test(mailbox_batches_of_many_senders_lose_no_wake_up),
    };
    return cmocka_run_group_tests_name("mailbox", tests, NULL, NULL);
}

/* Real sockets of ZeroMQ. What is waited for without an end and never found would hang, which the
 * runner's own deadline ends. */
#include "base/bus_wait.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/unit/zmq_rig.h"

enum { NEAR, FAR, PLAIN, SOURCES };

struct waiter {
    void *zmq;
    void *near; /* the DEALER that waits */
    void *far;  /* the DEALER it talks with */
    int pipe[2];
    struct peal_bus_sources sources;
};

static int setup(void **state)
{
    struct waiter *w = calloc(1, sizeof *w);
    w->zmq = zmq_ctx_new();
    w->near = zmq_rig_socket(w->zmq, ZMQ_DEALER);
    w->far = zmq_rig_socket(w->zmq, ZMQ_DEALER);
    assert_int_equal(zmq_bind(w->near, "inproc://near"), 0);
    assert_int_equal(zmq_connect(w->far, "inproc://near"), 0);
    assert_int_equal(pipe(w->pipe), 0);
    assert_int_equal(peal_bus_sources_init(&w->sources, SOURCES), PEAL_OK);
    peal_bus_source_socket(&w->sources.at[NEAR], w->near);
    peal_bus_source_fd(&w->sources.at[PLAIN], w->pipe[0]);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct waiter *w = *state;
    peal_bus_sources_fini(&w->sources);
    close(w->pipe[0]);
    close(w->pipe[1]);
    zmq_close(w->near);
    zmq_close(w->far);
    zmq_ctx_term(w->zmq);
    free(w);
    return 0;
}

static void say(const struct waiter *w)
{
    assert_int_equal(zmq_send(w->far, "x", 1, 0), 1);
}

static bool hear(const struct waiter *w)
{
    char byte;
    return zmq_recv(w->near, &byte, 1, ZMQ_DONTWAIT) == 1;
}

/* Until nothing is left: a socket that just connected has commands that bring no message. */
static void drain(struct waiter *w)
{
    while (peal_bus_wait(&w->sources, 0) > 0)
        while (hear(w)) {
        }
}

static void sources_without_input_are_not_ready(void **state)
{
    struct waiter *w = *state;
    drain(w);
    assert_int_equal(peal_bus_wait(&w->sources, 1), 0);
    for (size_t i = 0; i < SOURCES; i++)
        assert_false(w->sources.at[i].ready);
}

static void socket_with_a_message_is_ready_until_it_is_empty(void **state)
{
    struct waiter *w = *state;
    drain(w);
    say(w);
    assert_int_equal(peal_bus_wait(&w->sources, -1), 1);
    assert_true(w->sources.at[NEAR].ready);
    assert_true(hear(w));
    assert_false(hear(w));
    drain(w);
    assert_int_equal(peal_bus_wait(&w->sources, 0), 0);
    assert_false(w->sources.at[NEAR].ready);
}

static void plain_descriptor_is_ready(void **state)
{
    struct waiter *w = *state;
    drain(w);
    assert_int_equal(write(w->pipe[1], "x", 1), 1);
    assert_int_equal(peal_bus_wait(&w->sources, -1), 1);
    assert_true(w->sources.at[PLAIN].ready);
    assert_false(w->sources.at[NEAR].ready);
}

static void both_kinds_are_found_by_one_wait(void **state)
{
    struct waiter *w = *state;
    drain(w);
    say(w);
    assert_int_equal(write(w->pipe[1], "x", 1), 1);
    assert_int_equal(peal_bus_wait(&w->sources, -1), 2);
    /* The same when the socket is found by asking it. */
    w->sources.at[NEAR].used = true;
    assert_int_equal(peal_bus_wait(&w->sources, -1), 2);
    assert_true(w->sources.at[PLAIN].ready);
    assert_true(w->sources.at[NEAR].ready);
}

/* The trap: somebody's call took the signal, and the descriptor is silent from then on. */
static void socket_that_is_used_is_asked(void **state)
{
    struct waiter *w = *state;
    drain(w);
    say(w);
    assert_int_equal(zmq_rig_int(w->near, ZMQ_EVENTS) & ZMQ_POLLIN, ZMQ_POLLIN);
    struct pollfd silent = {.fd = w->sources.at[NEAR].fd, .events = POLLIN};
    assert_int_equal(poll(&silent, 1, 0), 0);
    w->sources.at[NEAR].used = true;
    assert_int_equal(peal_bus_wait(&w->sources, -1), 1);
    assert_true(w->sources.at[NEAR].ready);
}

static void socket_read_in_part_and_used_is_ready_again(void **state)
{
    struct waiter *w = *state;
    drain(w);
    for (int i = 0; i < 3; i++)
        say(w);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(peal_bus_wait(&w->sources, -1), 1);
        assert_true(hear(w));
        w->sources.at[NEAR].used = true;
    }
    assert_false(hear(w));
}

static void skipped_source_is_found_when_it_is_wanted_again(void **state)
{
    struct waiter *w = *state;
    drain(w);
    say(w);
    w->sources.at[NEAR].used = true;
    w->sources.at[NEAR].skipped = true;
    assert_int_equal(peal_bus_wait(&w->sources, 0), 0);
    assert_false(w->sources.at[NEAR].ready);
    w->sources.at[NEAR].skipped = false;
    assert_int_equal(peal_bus_wait(&w->sources, -1), 1);
    assert_true(hear(w));
}

static void socket_that_was_replaced_is_waited_for(void **state)
{
    struct waiter *w = *state;
    drain(w);
    zmq_close(w->near);
    zmq_close(w->far);
    w->near = zmq_rig_socket(w->zmq, ZMQ_DEALER);
    w->far = zmq_rig_socket(w->zmq, ZMQ_DEALER);
    peal_bus_source_socket(&w->sources.at[NEAR], w->near);
    assert_int_equal(zmq_bind(w->near, "inproc://fresh"), 0);
    assert_int_equal(zmq_connect(w->far, "inproc://fresh"), 0);
    say(w);
    while (!hear(w))
        assert_int_equal(peal_bus_wait(&w->sources, -1), 1);
}

/* ---- two threads ------------------------------------------------------------------------------
 */

enum { MESSAGES = 20000 };

static void *talk(void *arg)
{
    const struct waiter *w = arg;
    for (int i = 0; i < MESSAGES; i++) {
        char byte;
        if (zmq_send(w->far, "x", 1, 0) != 1) abort();
        /* What comes back makes the other side's sends take commands. */
        while (zmq_recv(w->far, &byte, 1, ZMQ_DONTWAIT) == 1) {
        }
        if (i % 64 == 0) sched_yield();
    }
    return NULL;
}

static void no_message_is_slept_over_while_the_socket_is_sent_on(void **state)
{
    struct waiter *w = *state;
    pthread_t thread;
    drain(w);
    assert_int_equal(pthread_create(&thread, NULL, talk, w), 0);
    int heard = 0;
    while (heard < MESSAGES) {
        assert_true(peal_bus_wait(&w->sources, ZMQ_RIG_DEADLINE_MS) > 0);
        while (w->sources.at[NEAR].ready && hear(w))
            heard++;
        if (heard % 3 != 0) continue;
        zmq_send(w->near, "y", 1, ZMQ_DONTWAIT);
        w->sources.at[NEAR].used = true;
    }
    pthread_join(thread, NULL);
    assert_int_equal(heard, MESSAGES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sources_without_input_are_not_ready, setup, teardown),
        cmocka_unit_test_setup_teardown(socket_with_a_message_is_ready_until_it_is_empty, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(plain_descriptor_is_ready, setup, teardown),
        cmocka_unit_test_setup_teardown(both_kinds_are_found_by_one_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(socket_that_is_used_is_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(socket_read_in_part_and_used_is_ready_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(skipped_source_is_found_when_it_is_wanted_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(socket_that_was_replaced_is_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(no_message_is_slept_over_while_the_socket_is_sent_on, setup,
                                        teardown),
    };
    return cmocka_run_group_tests_name("bus_wait", tests, NULL, NULL);
}

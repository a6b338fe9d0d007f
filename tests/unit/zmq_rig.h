/* tests/unit/zmq_rig.h: real ZeroMQ sockets in a test, on loopback and inproc.
 *
 * Whatever is waited for has an event: a message, or what ZeroMQ tells of a socket. The deadline
 * is only there so that a test that fails ends. */
#ifndef PEAL_TESTS_ZMQ_RIG_H
#define PEAL_TESTS_ZMQ_RIG_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

#include "base/clock.h"
#include "tests/unit/unit.h"

enum { ZMQ_RIG_DEADLINE_MS = 20000, ZMQ_RIG_TEXT = 256 };

static inline void *zmq_rig_socket(void *zmq, int type)
{
    int zero = 0;
    void *socket = zmq_socket(zmq, type);
    assert_non_null(socket);
    assert_int_equal(zmq_setsockopt(socket, ZMQ_LINGER, &zero, sizeof zero), 0);
    return socket;
}

static inline int zmq_rig_int(void *socket, int option)
{
    int value = -1;
    size_t size = sizeof value;
    assert_int_equal(zmq_getsockopt(socket, option, &value, &size), 0);
    return value;
}

/* Binds to an endpoint that may leave the port to the kernel; `bound` gets the real one. */
static inline void zmq_rig_bind(void *socket, const char *endpoint, char bound[ZMQ_RIG_TEXT])
{
    size_t size = ZMQ_RIG_TEXT;
    assert_int_equal(zmq_bind(socket, endpoint), 0);
    assert_int_equal(zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, bound, &size), 0);
}

static inline void zmq_rig_wait(void *socket)
{
    zmq_pollitem_t item = {socket, 0, ZMQ_POLLIN, 0};
    assert_int_equal(zmq_poll(&item, 1, ZMQ_RIG_DEADLINE_MS), 1);
}

/* The next part of a message, cut to `size`; returns its length. */
static inline size_t zmq_rig_receive(void *socket, void *at, size_t size)
{
    zmq_rig_wait(socket);
    int got = zmq_recv(socket, at, size, ZMQ_DONTWAIT);
    assert_true(got >= 0);
    return (size_t)got;
}

static inline void zmq_rig_expect(void *socket, const char *text)
{
    char got[ZMQ_RIG_TEXT];
    size_t size = zmq_rig_receive(socket, got, sizeof got);
    assert_int_equal(size, strlen(text));
    assert_memory_equal(got, text, size);
}

/* Tells of these events of the socket from now on; to be closed before the context ends. */
static inline void *zmq_rig_monitor(void *zmq, void *socket, int events)
{
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "inproc://rig-%p", socket);
    assert_int_equal(zmq_socket_monitor(socket, endpoint, events), 0);
    void *monitor = zmq_rig_socket(zmq, ZMQ_PAIR);
    assert_int_equal(zmq_connect(monitor, endpoint), 0);
    return monitor;
}

/* The number of the next event of a monitor. */
static inline int zmq_rig_event(void *monitor)
{
    unsigned char head[6];
    char address[ZMQ_RIG_TEXT];
    uint16_t event;
    assert_int_equal(zmq_rig_receive(monitor, head, sizeof head), sizeof head);
    zmq_rig_receive(monitor, address, sizeof address);
    memcpy(&event, head, sizeof event);
    return event;
}

#endif

/* What is set is read back from real sockets, and shown by what ZeroMQ then does with peers. */
#include "base/bus_socket.h"

#include <stdlib.h>

#include "base/limits.h"
#include "tests/unit/zmq_rig.h"

#define LOOPBACK "tcp://127.0.0.1:*"

/* The side that binds, the side that connects, and what ZeroMQ tells of the first. */
struct ends {
    void *zmq;
    void *pull;
    void *push;
    void *monitor;
    void *guard; /* the ZAP handler of the context */
};

static int setup(void **state)
{
    struct ends *e = calloc(1, sizeof *e);
    e->zmq = zmq_ctx_new();
    e->pull = zmq_rig_socket(e->zmq, ZMQ_PULL);
    e->push = zmq_rig_socket(e->zmq, ZMQ_PUSH);
    e->monitor =
        zmq_rig_monitor(e->zmq, e->pull,
                        ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED |
                            ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH);
    e->guard = zmq_rig_socket(e->zmq, ZMQ_REP);
    assert_int_equal(zmq_bind(e->guard, "inproc://zeromq.zap.01"), 0);
    *state = e;
    return 0;
}

static int teardown(void **state)
{
    struct ends *e = *state;
    zmq_socket_monitor(e->pull, NULL, 0);
    zmq_close(e->monitor);
    zmq_close(e->push);
    zmq_close(e->pull);
    zmq_close(e->guard);
    zmq_ctx_term(e->zmq);
    free(e);
    return 0;
}

static void join(const struct ends *e)
{
    char bound[ZMQ_RIG_TEXT];
    zmq_rig_bind(e->pull, LOOPBACK, bound);
    assert_int_equal(zmq_connect(e->push, bound), 0);
}

static int64_t frame_max(void *socket)
{
    int64_t value = 0;
    size_t size = sizeof value;
    assert_int_equal(zmq_getsockopt(socket, ZMQ_MAXMSGSIZE, &value, &size), 0);
    return value;
}

/* Takes the question for one handshake, which is to be of this door, and answers it. key: of the
 * one who comes, NULL without CURVE. */
static void judge(const struct ends *e, const char *domain, const char *key, const char *code)
{
    char id[ZMQ_RIG_TEXT];
    char part[ZMQ_RIG_TEXT];
    zmq_rig_expect(e->guard, "1.0");
    size_t id_size = zmq_rig_receive(e->guard, id, sizeof id);
    zmq_rig_expect(e->guard, domain);
    zmq_rig_receive(e->guard, part, sizeof part); /* address */
    zmq_rig_receive(e->guard, part, sizeof part); /* routing id */
    zmq_rig_expect(e->guard, key == NULL ? "NULL" : "CURVE");
    if (key != NULL) {
        unsigned char bytes[PEAL_CURVE_KEY_BYTES];
        assert_true(peal_curve_decode(peal_span_of(key), bytes));
        assert_int_equal(zmq_rig_receive(e->guard, part, sizeof part), sizeof bytes);
        assert_memory_equal(part, bytes, sizeof bytes);
    }
    assert_int_equal(zmq_rig_int(e->guard, ZMQ_RCVMORE), 0);
    assert_int_equal(zmq_send(e->guard, "1.0", 3, ZMQ_SNDMORE), 3);
    assert_int_equal(zmq_send(e->guard, id, id_size, ZMQ_SNDMORE), id_size);
    assert_int_equal(zmq_send(e->guard, code, 3, ZMQ_SNDMORE), 3);
    assert_int_equal(zmq_send(e->guard, "", 0, ZMQ_SNDMORE), 0); /* status text */
    assert_int_equal(zmq_send(e->guard, "", 0, ZMQ_SNDMORE), 0); /* user id */
    assert_int_equal(zmq_send(e->guard, "", 0, 0), 0);           /* metadata */
}

/* ---- bound ----------------------------------------------------------------------------------- */

static void bus_socket_bound_limits_what_a_peer_can_do(void **state)
{
    struct ends *e = *state;
    assert_int_equal(frame_max(e->pull), -1); /* ZeroMQ's own: no limit */

    peal_bus_socket_bound(e->pull, PEAL_WIRE_BYTES_MAX);
    assert_int_equal(frame_max(e->pull), PEAL_WIRE_BYTES_MAX + 64); /* and what CURVE adds */
    assert_int_equal(zmq_rig_int(e->pull, ZMQ_HANDSHAKE_IVL), 10000);
    assert_int_equal(zmq_rig_int(e->pull, ZMQ_HEARTBEAT_IVL), 2000);
    assert_int_equal(zmq_rig_int(e->pull, ZMQ_HEARTBEAT_TIMEOUT), 6000);
    assert_int_equal(zmq_rig_int(e->pull, ZMQ_HEARTBEAT_TTL), 6000);
    assert_int_equal(zmq_rig_int(e->pull, ZMQ_TCP_MAXRT), PEAL_UNACKED_MS);
}

static void bus_socket_bound_leaves_room_for_the_handshake(void **state)
{
    struct ends *e = *state;
    static const struct {
        size_t bytes_max;
        int64_t frame_max;
    } cases[] = {
        {0, 2048}, {1, 2048}, {1984, 2048}, {1985, 2049}, {4000, 4064},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        peal_bus_socket_bound(e->pull, cases[i].bytes_max);
        assert_int_equal(frame_max(e->pull), cases[i].frame_max);
    }
}

static void bus_socket_bound_larger_frame_ends_the_connection(void **state)
{
    struct ends *e = *state;
    static char bytes[4000 + 64 + 1];
    static char got[sizeof bytes];
    peal_bus_socket_bound(e->pull, 4000);
    join(e);
    assert_int_equal(zmq_rig_event(e->monitor), ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
    assert_int_equal(zmq_send(e->push, bytes, sizeof bytes - 1, 0), sizeof bytes - 1);
    assert_int_equal(zmq_rig_receive(e->pull, got, sizeof got), sizeof bytes - 1);

    assert_int_equal(zmq_send(e->push, bytes, sizeof bytes, 0), sizeof bytes);
    assert_int_equal(zmq_rig_event(e->monitor), ZMQ_EVENT_DISCONNECTED);
    /* Who did that may come again; the frame does not. */
    assert_int_equal(zmq_rig_event(e->monitor), ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
    assert_int_equal(zmq_send(e->push, "next", 4, 0), 4);
    zmq_rig_expect(e->pull, "next");
}

/* ---- guard and secure ------------------------------------------------------------------------ */

static void bus_socket_guard_without_keys_only_asks(void **state)
{
    struct ends *e = *state;
    char domain[ZMQ_RIG_TEXT];
    size_t size = sizeof domain;
    peal_bus_socket_guard(e->pull, NULL, "pull");
    assert_int_equal(zmq_getsockopt(e->pull, ZMQ_ZAP_DOMAIN, domain, &size), 0);
    assert_string_equal(domain, "pull");
    assert_int_equal(zmq_rig_int(e->pull, ZMQ_MECHANISM), ZMQ_NULL);

    join(e);
    judge(e, "pull", NULL, "200");
    assert_int_equal(zmq_rig_event(e->monitor), ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
    assert_int_equal(zmq_send(e->push, "plain", 5, 0), 5);
    zmq_rig_expect(e->pull, "plain");
}

static void bus_socket_guard_and_secure_make_a_connection_with_keys(void **state)
{
    struct ends *e = *state;
    struct peal_curve_pair server;
    struct peal_curve_pair client;
    char key[PEAL_CURVE_TEXT + 1];
    size_t size = sizeof key;
    assert_int_equal(peal_curve_make(&server), PEAL_OK);
    assert_int_equal(peal_curve_make(&client), PEAL_OK);
    peal_bus_socket_bound(e->pull, 1); /* the handshake's frames are larger */
    peal_bus_socket_guard(e->pull, &server, "rpc");
    assert_int_equal(zmq_rig_int(e->pull, ZMQ_MECHANISM), ZMQ_CURVE);
    assert_int_equal(zmq_rig_int(e->pull, ZMQ_CURVE_SERVER), 1);
    assert_int_equal(zmq_getsockopt(e->pull, ZMQ_CURVE_SECRETKEY, key, &size), 0);
    assert_string_equal(key, server.secret_key);

    assert_int_equal(peal_bus_socket_secure(e->push, &client, server.public_key), PEAL_OK);
    assert_int_equal(zmq_rig_int(e->push, ZMQ_MECHANISM), ZMQ_CURVE);
    assert_int_equal(zmq_rig_int(e->push, ZMQ_CURVE_SERVER), 0);
    static const int options[] = {ZMQ_CURVE_SERVERKEY, ZMQ_CURVE_PUBLICKEY, ZMQ_CURVE_SECRETKEY};
    const char *keys[] = {server.public_key, client.public_key, client.secret_key};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        size = sizeof key;
        assert_int_equal(zmq_getsockopt(e->push, options[i], key, &size), 0);
        assert_string_equal(key, keys[i]);
    }

    join(e);
    judge(e, "rpc", client.public_key, "200");
    assert_int_equal(zmq_rig_event(e->monitor), ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
    assert_int_equal(zmq_send(e->push, "sealed", 6, 0), 6);
    zmq_rig_expect(e->pull, "sealed");
}

static void bus_socket_guard_keeps_out_whom_the_handler_refuses(void **state)
{
    struct ends *e = *state;
    struct peal_curve_pair server;
    struct peal_curve_pair client;
    assert_int_equal(peal_curve_make(&server), PEAL_OK);
    assert_int_equal(peal_curve_make(&client), PEAL_OK);
    peal_bus_socket_guard(e->pull, &server, "xpub");
    assert_int_equal(peal_bus_socket_secure(e->push, &client, server.public_key), PEAL_OK);
    join(e);
    judge(e, "xpub", client.public_key, "400");
    assert_int_equal(zmq_rig_event(e->monitor), ZMQ_EVENT_HANDSHAKE_FAILED_AUTH);
}

static void bus_socket_guard_does_not_ask_for_who_has_another_key_of_it(void **state)
{
    struct ends *e = *state;
    struct peal_curve_pair server;
    struct peal_curve_pair other;
    struct peal_curve_pair client;
    assert_int_equal(peal_curve_make(&server), PEAL_OK);
    assert_int_equal(peal_curve_make(&other), PEAL_OK);
    assert_int_equal(peal_curve_make(&client), PEAL_OK);
    peal_bus_socket_guard(e->pull, &server, "rpc");
    assert_int_equal(peal_bus_socket_secure(e->push, &client, other.public_key), PEAL_OK);
    join(e);
    assert_int_equal(zmq_rig_event(e->monitor), ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL);
    assert_int_equal(zmq_rig_int(e->guard, ZMQ_EVENTS) & ZMQ_POLLIN, 0);
}

static void bus_socket_guard_without_a_handler_lets_in_whoever_knows_the_key(void **state)
{
    struct ends *e = *state;
    struct peal_curve_pair server;
    struct peal_curve_pair client;
    zmq_msg_t message;
    assert_int_equal(peal_curve_make(&server), PEAL_OK);
    assert_int_equal(peal_curve_make(&client), PEAL_OK);
    assert_int_equal(zmq_unbind(e->guard, "inproc://zeromq.zap.01"), 0);
    peal_bus_socket_guard(e->pull, &server, "pull");
    assert_int_equal(peal_bus_socket_secure(e->push, &client, server.public_key), PEAL_OK);
    join(e);
    assert_int_equal(zmq_send(e->push, "hello", 5, 0), 5);
    zmq_rig_wait(e->pull);
    zmq_msg_init(&message);
    assert_int_equal(zmq_msg_recv(&message, e->pull, ZMQ_DONTWAIT), 5);
    assert_null(zmq_msg_gets(&message, "User-Id"));
    zmq_msg_close(&message);
}

static void bus_socket_secure_without_own_keys_does_nothing(void **state)
{
    struct ends *e = *state;
    assert_int_equal(peal_bus_socket_secure(e->push, NULL, NULL), PEAL_OK);
    assert_int_equal(peal_bus_socket_secure(e->push, NULL, "no key"), PEAL_OK);
    assert_int_equal(zmq_rig_int(e->push, ZMQ_MECHANISM), ZMQ_NULL);
}

static void bus_socket_secure_with_a_bad_key_changes_nothing(void **state)
{
    struct ends *e = *state;
    struct peal_curve_pair client;
    static const char *const bad[] = {
        NULL,
        "",
        "HelloWorldHelloWorldHelloWorldHelloWorl",
        "HelloWorldHelloWorldHelloWorldHelloWorldH",
        "HelloWorldHelloWorldHelloWorldHelloWorl ",
    };
    assert_int_equal(peal_curve_make(&client), PEAL_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (peal_bus_socket_secure(e->push, &client, bad[i]) != PEAL_ECONFIG)
            fail_msg("case %zu", i);
        assert_int_equal(zmq_rig_int(e->push, ZMQ_MECHANISM), ZMQ_NULL);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bus_socket_bound_limits_what_a_peer_can_do),
        TEST(bus_socket_bound_leaves_room_for_the_handshake),
        TEST(bus_socket_bound_larger_frame_ends_the_connection),
        TEST(bus_socket_guard_without_keys_only_asks),
        TEST(bus_socket_guard_and_secure_make_a_connection_with_keys),
        TEST(bus_socket_guard_keeps_out_whom_the_handler_refuses),
        TEST(bus_socket_guard_does_not_ask_for_who_has_another_key_of_it),
        TEST(bus_socket_guard_without_a_handler_lets_in_whoever_knows_the_key),
        TEST(bus_socket_secure_without_own_keys_does_nothing),
        TEST(bus_socket_secure_with_a_bad_key_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Routers and nodes are real XPUB and SUB sockets in a context of their own, as other processes
 * would be. What the relay did is seen at them, and at its status page. */
#include "router/relay.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bus_socket.h"
#include "base/metrics.h"
#include "proto/wire.h"
#include "tests/unit/zmq_rig.h"

#define ANY_PORT "tcp://127.0.0.1:0"

enum { ROUTERS = 2, NODES_MAX = 4, READY_CODE = 200, NOT_READY_CODE = 503 };

struct post {
    void *zmq;     /* the relay's */
    void *outside; /* everybody else's */
    void *routers[ROUTERS];
    void *monitors[ROUTERS]; /* tell when a router listens no more */
    void *nodes[NODES_MAX];
    size_t node_count;
    char endpoints[ROUTERS][ZMQ_RIG_TEXT];
    char *doors[ROUTERS];
    struct peal_config_router list[ROUTERS];
    struct peal_config config;
    struct peal_bus_security security;
    struct peal_status *status;
    struct peal_relay *relay;
    char why[300];
};

static int setup(void **state)
{
    struct post *p = calloc(1, sizeof *p);
    p->zmq = zmq_ctx_new();
    p->outside = zmq_ctx_new();
    for (size_t i = 0; i < ROUTERS; i++) {
        p->routers[i] = zmq_rig_socket(p->outside, ZMQ_XPUB);
        p->monitors[i] = zmq_rig_monitor(p->outside, p->routers[i], ZMQ_EVENT_CLOSED);
        p->doors[i] = ANY_PORT;
        p->list[i].xpub = p->endpoints[i];
    }
    p->config.cluster.routers = p->list;
    p->config.cluster.router_count = ROUTERS;
    p->config.relay_doors.at = p->doors;
    p->config.relay_doors.count = ROUTERS;
    *state = p;
    return peal_status_start("127.0.0.1:0", &p->status, p->why, sizeof p->why) == PEAL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    struct post *p = *state;
    peal_relay_stop(p->relay);
    peal_status_stop(p->status);
    for (size_t i = 0; i < p->node_count; i++)
        zmq_close(p->nodes[i]);
    for (size_t i = 0; i < ROUTERS; i++) {
        zmq_socket_monitor(p->routers[i], NULL, 0);
        zmq_close(p->monitors[i]);
        zmq_close(p->routers[i]);
    }
    zmq_ctx_term(p->outside);
    zmq_ctx_term(p->zmq);
    peal_bus_security_fini(&p->security);
    free(p);
    return 0;
}

static enum peal_err try_start(struct post *p)
{
    snprintf(p->why, sizeof p->why, "nothing is said");
    p->relay = (struct peal_relay *)p; /* to be overwritten */
    return peal_relay_start(&p->config, &p->security, p->zmq, p->status, &p->relay, p->why,
                            sizeof p->why);
}

static void start_relay(struct post *p)
{
    enum peal_err err = try_start(p);
    if (err != PEAL_OK) fail_msg("%s", p->why);
    assert_non_null(p->relay);
}

static void start_all(struct post *p)
{
    for (size_t i = 0; i < ROUTERS; i++)
        zmq_rig_bind(p->routers[i], "tcp://127.0.0.1:*", p->endpoints[i]);
    start_relay(p);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static void *new_node(struct post *p)
{
    assert_true(p->node_count < NODES_MAX);
    void *node = zmq_rig_socket(p->outside, ZMQ_SUB);
    p->nodes[p->node_count++] = node;
    return node;
}

static void *join(struct post *p, size_t door)
{
    void *node = new_node(p);
    assert_int_equal(zmq_connect(node, peal_relay_door(p->relay, door)), 0);
    return node;
}

static void listen_to(void *node, const char *topic)
{
    assert_int_equal(zmq_setsockopt(node, ZMQ_SUBSCRIBE, topic, strlen(topic)), 0);
}

static void leave(void *node, const char *topic)
{
    assert_int_equal(zmq_setsockopt(node, ZMQ_UNSUBSCRIBE, topic, strlen(topic)), 0);
}

/* The topic of a node with that boot id. */
static const char *topic_of(uint64_t boot, char text[PEAL_TOPIC_SIZE + 1])
{
    peal_topic_of(boot, text);
    text[PEAL_TOPIC_SIZE] = '\0';
    return text;
}

/* ---- routers --------------------------------------------------------------------------------- */

/* The next thing a router is told of its subscribers. */
static void expect_told(void *router, bool on, const char *topic)
{
    char told[ZMQ_RIG_TEXT];
    assert_int_equal(zmq_rig_receive(router, told, sizeof told), 1 + strlen(topic));
    assert_memory_equal(told + 1, topic, strlen(topic));
    assert_int_equal(told[0], on);
}

static void say(void *router, const char *topic, const char *text)
{
    assert_int_equal(zmq_send(router, topic, strlen(topic), ZMQ_SNDMORE), strlen(topic));
    assert_int_equal(zmq_send(router, text, strlen(text), 0), strlen(text));
}

static void expect_heard(void *node, const char *topic, const char *text)
{
    zmq_rig_expect(node, topic);
    zmq_rig_expect(node, text);
    assert_int_equal(zmq_rig_int(node, ZMQ_RCVMORE), 0);
}

/* Ends the router's connections as well, once its socket is asked for something. */
static void silence(struct post *p, size_t router)
{
    assert_int_equal(zmq_unbind(p->routers[router], p->endpoints[router]), 0);
    assert_int_equal(zmq_rig_event(p->monitors[router]), ZMQ_EVENT_CLOSED);
}

static void return_of(struct post *p, size_t router)
{
    assert_int_equal(zmq_bind(p->routers[router], p->endpoints[router]), 0);
}

/* ---- the status page ------------------------------------------------------------------------- */

static int ready_code(const struct post *p)
{
    static const char head[] = "GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    struct timeval patience = {.tv_sec = ZMQ_RIG_DEADLINE_MS / 1000};
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(peal_status_port(p->status)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char answer[] = "HTTP/1.1 000";
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(send(fd, head, sizeof head - 1, MSG_NOSIGNAL), sizeof head - 1);
    assert_int_equal(recv(fd, answer, sizeof answer - 1, MSG_WAITALL), sizeof answer - 1);
    close(fd);
    return atoi(answer + strlen("HTTP/1.1 "));
}

/* The page has no event to wait for: it is asked until it says so. */
static void wait_until_ready_is(const struct post *p, int code)
{
    uint64_t until_ms = peal_clock_mono_ms() + ZMQ_RIG_DEADLINE_MS;
    while (ready_code(p) != code)
        assert_true(peal_clock_mono_ms() < until_ms);
}

/* ---- what is handed on ----------------------------------------------------------------------- */

static void relay_has_a_door_for_each_router(void **state)
{
    struct post *p = *state;
    start_all(p);
    assert_int_equal(peal_relay_doors(p->relay), ROUTERS);
    assert_string_not_equal(peal_relay_door(p->relay, 0), peal_relay_door(p->relay, 1));
    for (size_t i = 0; i < ROUTERS; i++) {
        unsigned port = 0;
        assert_int_equal(sscanf(peal_relay_door(p->relay, i), "tcp://127.0.0.1:%u", &port), 1);
        assert_int_not_equal(port, 0);
    }
}

static void relay_door_has_what_its_router_says_and_nothing_else(void **state)
{
    struct post *p = *state;
    void *nodes[ROUTERS];
    char text[ZMQ_RIG_TEXT];
    start_all(p);
    for (size_t i = 0; i < ROUTERS; i++) {
        nodes[i] = join(p, i);
        listen_to(nodes[i], "all");
        expect_told(p->routers[i], true, "all");
    }
    for (int n = 0; n < 50; n++) {
        for (size_t i = 0; i < ROUTERS; i++) {
            snprintf(text, sizeof text, "%d of router %zu", n, i);
            say(p->routers[i], "all", text);
        }
        for (size_t i = 0; i < ROUTERS; i++) {
            snprintf(text, sizeof text, "%d of router %zu", n, i);
            expect_heard(nodes[i], "all", text);
        }
    }
}

static void relay_hands_on_every_part_unread(void **state)
{
    struct post *p = *state;
    static const size_t sizes[] = {0, 1, 255, 256, 100000, 0};
    static char sent[100000];
    static char got[sizeof sent];
    size_t count = sizeof sizes / sizeof *sizes;
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (char)(i * 7 + 0xc1); /* no frame of ours */
    start_all(p);
    void *node = join(p, 0);
    listen_to(node, "all");
    expect_told(p->routers[0], true, "all");
    assert_int_equal(zmq_send(p->routers[0], "all", 3, ZMQ_SNDMORE), 3);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(zmq_send(p->routers[0], sent, sizes[i], i + 1 < count ? ZMQ_SNDMORE : 0),
                         sizes[i]);
    zmq_rig_expect(node, "all");
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(zmq_rig_int(node, ZMQ_RCVMORE), 1);
        assert_int_equal(zmq_rig_receive(node, got, sizeof got), sizes[i]);
        assert_memory_equal(got, sent, sizes[i]);
    }
    assert_int_equal(zmq_rig_int(node, ZMQ_RCVMORE), 0);
}

static void relay_keeps_nothing_for_who_comes_later(void **state)
{
    struct post *p = *state;
    char topic[PEAL_TOPIC_SIZE + 1];
    start_all(p);
    void *early = join(p, 0);
    listen_to(early, "all");
    expect_told(p->routers[0], true, "all");
    say(p->routers[0], "all", "before");
    expect_heard(early, "all", "before");

    void *late = join(p, 0);
    listen_to(late, "all");
    listen_to(late, topic_of(1, topic));
    expect_told(p->routers[0], true, topic); /* and the one before it is known here */
    say(p->routers[0], "all", "after");
    expect_heard(late, "all", "after");
    expect_heard(early, "all", "after");
}

/* ---- subscriptions --------------------------------------------------------------------------- */

static void relay_tells_the_router_the_first_subscriber_and_the_last(void **state)
{
    struct post *p = *state;
    char one[PEAL_TOPIC_SIZE + 1];
    char other[PEAL_TOPIC_SIZE + 1];
    void *router = p->routers[0];
    start_all(p);
    void *a = join(p, 0);
    void *b = join(p, 0);
    listen_to(a, "all");
    expect_told(router, true, "all");
    listen_to(b, "all");
    listen_to(b, topic_of(1, one));
    expect_told(router, true, one); /* `all` not again */
    leave(a, "all");
    listen_to(a, topic_of(UINT64_MAX, other));
    expect_told(router, true, other); /* somebody still wants `all` */
    leave(b, "all");
    expect_told(router, false, "all");
    leave(b, one);
    expect_told(router, false, one);
    assert_int_equal(zmq_rig_int(p->routers[1], ZMQ_EVENTS) & ZMQ_POLLIN, 0);
}

static void relay_topic_that_no_node_has_goes_no_further(void **state)
{
    struct post *p = *state;
    char long_one[1000];
    const char *bad[] = {"",      "al", "alll", "n123", "nzzzzzzzzzzzzzzzz", "r0000000000000001",
                         long_one};
    size_t count = sizeof bad / sizeof *bad;
    int64_t refused = peal_metrics_sum(PEAL_M_RELAY_REFUSED);
    memset(long_one, 'n', sizeof long_one - 1);
    long_one[sizeof long_one - 1] = '\0';
    start_all(p);
    void *node = join(p, 0);
    for (size_t i = 0; i < count; i++)
        listen_to(node, bad[i]);
    listen_to(node, "all");
    expect_told(p->routers[0], true, "all");
    assert_int_equal(peal_metrics_sum(PEAL_M_RELAY_REFUSED) - refused, count);
    for (size_t i = 0; i < count; i++)
        leave(node, bad[i]);
    leave(node, "all");
    expect_told(p->routers[0], false, "all");
}

/* ---- connections to routers ------------------------------------------------------------------ */

static void relay_is_ready_while_every_router_is_connected(void **state)
{
    struct post *p = *state;
    zmq_rig_bind(p->routers[0], "tcp://127.0.0.1:*", p->endpoints[0]);
    zmq_rig_bind(p->routers[1], "tcp://127.0.0.1:*", p->endpoints[1]);
    silence(p, 1);
    start_relay(p);
    listen_to(join(p, 0), "all");
    expect_told(p->routers[0], true, "all");
    assert_int_equal(ready_code(p), NOT_READY_CODE);

    return_of(p, 1);
    wait_until_ready_is(p, READY_CODE);
    silence(p, 0);
    expect_told(p->routers[0], false, "all"); /* by ZeroMQ: the connection is gone */
    wait_until_ready_is(p, NOT_READY_CODE);
    return_of(p, 0);
    expect_told(p->routers[0], true, "all");
    wait_until_ready_is(p, READY_CODE);
}

static void expect_relinked(void *node, uint64_t seq, uint64_t *boot)
{
    struct peal_frame frame;
    char bytes[ZMQ_RIG_TEXT];
    zmq_rig_expect(node, "all");
    size_t size = zmq_rig_receive(node, bytes, sizeof bytes);
    assert_int_equal(peal_frame_decode(peal_span_make(bytes, size), &frame), PEAL_OK);
    assert_int_equal(frame.type, PEAL_F_RELINKED);
    assert_int_equal(frame.seq, seq);
    assert_int_not_equal(frame.boot, 0);
    *boot = frame.boot;
    peal_frame_fini(&frame);
}

static void relay_connected_again_wants_the_same_and_says_so_to_the_nodes_behind(void **state)
{
    struct post *p = *state;
    uint64_t boots[2];
    start_all(p);
    void *node = join(p, 0);
    void *elsewhere = join(p, 1);
    listen_to(node, "all");
    listen_to(elsewhere, "all");
    expect_told(p->routers[0], true, "all");
    expect_told(p->routers[1], true, "all");
    wait_until_ready_is(p, READY_CODE);
    for (size_t i = 0; i < 2; i++) {
        silence(p, 0);
        expect_told(p->routers[0], false, "all");
        return_of(p, 0);
        expect_told(p->routers[0], true, "all");
        expect_relinked(node, 2 + i, &boots[i]);
        say(p->routers[0], "all", "again");
        expect_heard(node, "all", "again");
    }
    assert_true(boots[0] == boots[1]);
    say(p->routers[1], "all", "first");
    expect_heard(elsewhere, "all", "first");
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* A guard does not tell who it refuses: it counts. */
static void wait_until_counted(enum peal_metric reason, int64_t before)
{
    uint64_t until_ms = peal_clock_mono_ms() + ZMQ_RIG_DEADLINE_MS;
    while (peal_metrics_sum(reason) == before) {
        assert_true(peal_clock_mono_ms() < until_ms);
        zmq_poll(NULL, 0, 1);
    }
}

/* Both ends see that the other has another mechanism; who says so first is open. */
static void expect_no_handshake_without_keys(struct post *p)
{
    void *node = new_node(p);
    void *monitor =
        zmq_rig_monitor(p->outside, node,
                        ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                            ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_DISCONNECTED);
    listen_to(node, "all");
    assert_int_equal(zmq_connect(node, peal_relay_door(p->relay, 0)), 0);
    assert_int_not_equal(zmq_rig_event(monitor), ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
    zmq_socket_monitor(node, NULL, 0);
    zmq_close(monitor);
}

static void relay_with_curve_lets_in_nodes_it_knows_and_nobody_else(void **state)
{
    struct post *p = *state;
    struct peal_curve_pair routers;
    struct peal_curve_pair known;
    struct peal_curve_pair publisher;
    struct peal_curve_pair stranger;
    struct peal_curve_pair *pairs[] = {&routers, &known, &publisher, &stranger, &p->security.own};
    char peers[ZMQ_RIG_TEXT];
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        assert_int_equal(peal_curve_make(pairs[i]), PEAL_OK);
    snprintf(peers, sizeof peers, "%s node edge\n%s publisher shop\n", known.public_key,
             publisher.public_key);
    assert_int_equal(
        peal_peers_parse(peal_span_of(peers), &p->security.peers, p->why, sizeof p->why), PEAL_OK);
    p->security.curve = true;
    for (size_t i = 0; i < ROUTERS; i++) {
        peal_bus_socket_guard(p->routers[i], &routers, "xpub");
        p->list[i].key = routers.public_key;
    }
    start_all(p);

    const struct {
        const struct peal_curve_pair *pair;
        enum peal_metric reason;
    } refused[] = {{&publisher, PEAL_M_BUS_REFUSED_ROLE}, {&stranger, PEAL_M_BUS_REFUSED_KEY}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        int64_t before = peal_metrics_sum(refused[i].reason);
        void *node = new_node(p);
        assert_int_equal(peal_bus_socket_secure(node, refused[i].pair, p->security.own.public_key),
                         PEAL_OK);
        listen_to(node, "all");
        assert_int_equal(zmq_connect(node, peal_relay_door(p->relay, 0)), 0);
        wait_until_counted(refused[i].reason, before);
    }
    expect_no_handshake_without_keys(p);
    assert_int_equal(zmq_rig_int(p->routers[0], ZMQ_EVENTS) & ZMQ_POLLIN, 0);

    void *node = new_node(p);
    assert_int_equal(peal_bus_socket_secure(node, &known, p->security.own.public_key), PEAL_OK);
    listen_to(node, "all");
    assert_int_equal(zmq_connect(node, peal_relay_door(p->relay, 0)), 0);
    expect_told(p->routers[0], true, "all");
    say(p->routers[0], "all", "sealed");
    expect_heard(node, "all", "sealed");
    wait_until_ready_is(p, READY_CODE);
}

/* ---- start and stop -------------------------------------------------------------------------- */

static void expect_refused(struct post *p, enum peal_err err, const char *why)
{
    assert_int_equal(try_start(p), err);
    assert_null(p->relay);
    assert_string_equal(p->why, why);
    zmq_ctx_term(p->zmq); /* it waits for whoever has forgotten a socket */
    p->zmq = zmq_ctx_new();
    for (size_t i = 0; i < ROUTERS; i++)
        p->doors[i] = ANY_PORT;
}

static void relay_doors_that_do_not_fit_the_routers_are_refused(void **state)
{
    struct post *p = *state;
    char why[400];
    for (size_t i = 0; i < ROUTERS; i++)
        snprintf(p->endpoints[i], ZMQ_RIG_TEXT, "tcp://127.0.0.1:%zu", 8 + i);
    p->doors[0] = p->endpoints[1];
    snprintf(why, sizeof why, "cluster.routers.1.xpub: %s is a door of this relay itself",
             p->endpoints[1]);
    expect_refused(p, PEAL_ECONFIG, why);
    p->config.relay_doors.count = 0;
    expect_refused(p, PEAL_ECONFIG, "doors.relay: a relay of 2 routers needs as many doors");
    p->config.cluster.router_count = 1;
    p->config.doors.xpub = p->endpoints[0];
    snprintf(why, sizeof why, "cluster.routers.0.xpub: %s is a door of this relay itself",
             p->endpoints[0]);
    expect_refused(p, PEAL_ECONFIG, why);
}

static void relay_door_that_cannot_be_bound_is_named(void **state)
{
    struct post *p = *state;
    char taken[ZMQ_RIG_TEXT];
    char why[400];
    for (size_t i = 0; i < ROUTERS; i++)
        snprintf(p->endpoints[i], ZMQ_RIG_TEXT, "tcp://127.0.0.1:%zu", 8 + i);
    zmq_rig_bind(new_node(p), "tcp://127.0.0.1:*", taken);
    p->doors[1] = taken;
    snprintf(why, sizeof why, "doors.relay.1: cannot bind %s: another process uses it", taken);
    expect_refused(p, PEAL_EINUSE, why);
    p->doors[0] = "tcp://127.0.0.1";
    expect_refused(p, PEAL_EIO, "doors.relay.0: cannot bind tcp://127.0.0.1: Invalid argument");
    p->config.relay_doors.count = 0;
    p->config.cluster.router_count = 1;
    p->config.doors.xpub = taken;
    snprintf(why, sizeof why, "doors.xpub: cannot bind %s: another process uses it", taken);
    expect_refused(p, PEAL_EINUSE, why);
}

static void relay_router_that_cannot_be_connected_to_is_named(void **state)
{
    struct post *p = *state;
    struct peal_curve_pair router;
    snprintf(p->endpoints[0], ZMQ_RIG_TEXT, "tcp://127.0.0.1:9");
    snprintf(p->endpoints[1], ZMQ_RIG_TEXT, "tcp://127.0.0.1");
    expect_refused(p, PEAL_ECONFIG, "cannot connect to tcp://127.0.0.1: Invalid argument");

    assert_int_equal(peal_curve_make(&router), PEAL_OK);
    assert_int_equal(peal_curve_make(&p->security.own), PEAL_OK);
    p->security.curve = true;
    p->list[0].key = router.public_key;
    snprintf(p->endpoints[1], ZMQ_RIG_TEXT, "tcp://127.0.0.1:8");
    expect_refused(p, PEAL_ECONFIG, "tcp://127.0.0.1:8 has no public key");
}

static void relay_of_one_router_may_use_the_door_of_a_router(void **state)
{
    struct post *p = *state;
    p->config.relay_doors.count = 0;
    p->config.cluster.router_count = 1;
    p->config.doors.xpub = ANY_PORT;
    start_all(p);
    assert_int_equal(peal_relay_doors(p->relay), 1);
    void *node = join(p, 0);
    listen_to(node, "all");
    expect_told(p->routers[0], true, "all");
    say(p->routers[0], "all", "hello");
    expect_heard(node, "all", "hello");
    wait_until_ready_is(p, READY_CODE);
}

static void relay_stopped_leaves_its_doors_and_its_routers(void **state)
{
    struct post *p = *state;
    char doors[ROUTERS][ZMQ_RIG_TEXT];
    start_all(p);
    listen_to(join(p, 0), "all");
    expect_told(p->routers[0], true, "all");
    for (size_t i = 0; i < ROUTERS; i++) {
        snprintf(doors[i], sizeof doors[i], "%s", peal_relay_door(p->relay, i));
        p->doors[i] = doors[i];
    }
    peal_relay_stop(p->relay);
    p->relay = NULL;
    expect_told(p->routers[0], false, "all");
    zmq_ctx_term(p->zmq);
    p->zmq = zmq_ctx_new();

    start_relay(p); /* at the same doors */
    listen_to(join(p, 0), "all");
    expect_told(p->routers[0], true, "all");
    for (size_t i = 0; i < ROUTERS; i++)
        assert_string_equal(peal_relay_door(p->relay, i), doors[i]);
}

static void relay_stop_of_null_is_fine(void **state)
{
    (void)state;
    peal_relay_stop(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(relay_has_a_door_for_each_router),
        TEST(relay_door_has_what_its_router_says_and_nothing_else),
        TEST(relay_hands_on_every_part_unread),
        TEST(relay_keeps_nothing_for_who_comes_later),
        TEST(relay_tells_the_router_the_first_subscriber_and_the_last),
        TEST(relay_topic_that_no_node_has_goes_no_further),
        TEST(relay_is_ready_while_every_router_is_connected),
        TEST(relay_connected_again_wants_the_same_and_says_so_to_the_nodes_behind),
        TEST(relay_with_curve_lets_in_nodes_it_knows_and_nobody_else),
        TEST(relay_doors_that_do_not_fit_the_routers_are_refused),
        TEST(relay_door_that_cannot_be_bound_is_named),
        TEST(relay_router_that_cannot_be_connected_to_is_named),
        TEST(relay_of_one_router_may_use_the_door_of_a_router),
        TEST(relay_stopped_leaves_its_doors_and_its_routers),
        TEST(relay_stop_of_null_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

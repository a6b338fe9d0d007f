/* The routers are real ROUTER sockets, which the test answers from. The operator's calls block, so
 * they run in a thread of their own, one at a time. */
#include "router/operator.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/bus_socket.h"
#include "proto/wire.h"
#include "router/cluster.h"
#include "tests/unit/zmq_rig.h"

enum { ROUTERS = 2 };

/* A call under way, and what came of it. */
struct call {
    pthread_t thread;
    struct peal_operator *op;
    bool moves;
    uint16_t slot;
    size_t router;
    size_t to;
    int timeout_ms;
    enum peal_err err;
    struct peal_slot slots[PEAL_SLOTS];
    char why[300];
};

struct desk {
    void *zmq;
    void *routers[ROUTERS];
    char endpoints[ROUTERS][ZMQ_RIG_TEXT];
    struct peal_config_router list[ROUTERS];
    struct peal_config config;
    struct peal_bus_security security;
    struct peal_operator *op;
    struct call call;
    bool calling;
    char id[PEAL_ROUTER_ID_SIZE]; /* of who asked last */
};

static int setup(void **state)
{
    struct desk *d = calloc(1, sizeof *d);
    d->zmq = zmq_ctx_new();
    for (size_t i = 0; i < ROUTERS; i++) {
        d->routers[i] = zmq_rig_socket(d->zmq, ZMQ_ROUTER);
        d->list[i].rpc = d->endpoints[i];
    }
    d->config.cluster.routers = d->list;
    d->config.cluster.router_count = ROUTERS;
    *state = d;
    return 0;
}

static int teardown(void **state)
{
    struct desk *d = *state;
    if (d->calling) pthread_join(d->call.thread, NULL); /* of a test that failed */
    peal_operator_close(d->op);
    for (size_t i = 0; i < ROUTERS; i++)
        zmq_close(d->routers[i]);
    zmq_ctx_term(d->zmq);
    free(d);
    return 0;
}

static void open_operator(struct desk *d)
{
    char why[200] = "";
    for (size_t i = 0; i < ROUTERS; i++)
        zmq_rig_bind(d->routers[i], "tcp://127.0.0.1:*", d->endpoints[i]);
    if (peal_operator_open(&d->config, &d->security, &d->op, why, sizeof why) != PEAL_OK)
        fail_msg("%s", why);
    assert_non_null(d->op);
}

/* ---- the operator's side --------------------------------------------------------------------- */

static void *call_run(void *arg)
{
    struct call *c = arg;
    c->err = c->moves ? peal_operator_move(c->op, c->slot, c->router, c->to, c->timeout_ms, c->why,
                                           sizeof c->why)
                      : peal_operator_table(c->op, c->router, c->timeout_ms, c->slots);
    return NULL;
}

static void begin(struct desk *d)
{
    d->call.op = d->op;
    d->call.timeout_ms = ZMQ_RIG_DEADLINE_MS;
    assert_int_equal(pthread_create(&d->call.thread, NULL, call_run, &d->call), 0);
    d->calling = true;
}

static void begin_table(struct desk *d, size_t router)
{
    d->call = (struct call){.router = router};
    begin(d);
}

static void begin_move(struct desk *d, uint16_t slot, size_t from, size_t to)
{
    d->call = (struct call){.moves = true, .slot = slot, .router = from, .to = to};
    begin(d);
}

static enum peal_err end(struct desk *d)
{
    assert_int_equal(pthread_join(d->call.thread, NULL), 0);
    d->calling = false;
    return d->call.err;
}

/* ---- the routers' side ----------------------------------------------------------------------- */

/* Takes the next question, of which the numbers are returned. */
static struct peal_frame take(struct desk *d, size_t router)
{
    struct peal_frame frame;
    char bytes[ZMQ_RIG_TEXT];
    assert_int_equal(zmq_rig_receive(d->routers[router], d->id, sizeof d->id), sizeof d->id);
    assert_true(peal_operator_id_is(peal_span_make(d->id, sizeof d->id)));
    size_t size = zmq_rig_receive(d->routers[router], bytes, sizeof bytes);
    assert_int_equal(zmq_rig_int(d->routers[router], ZMQ_RCVMORE), 0);
    assert_int_equal(peal_frame_decode(peal_span_make(bytes, size), &frame), PEAL_OK);
    const struct peal_frame numbers = {
        .type = frame.type, .req = frame.req, .slot = frame.slot, .owner = frame.owner};
    peal_frame_fini(&frame);
    return numbers;
}

static void answer_bytes(struct desk *d, size_t router, const void *at, size_t size)
{
    void *socket = d->routers[router];
    assert_int_equal(zmq_send(socket, d->id, sizeof d->id, ZMQ_SNDMORE), sizeof d->id);
    assert_int_equal(zmq_send(socket, at, size, 0), size);
}

static void answer(struct desk *d, size_t router, const struct peal_frame *frame)
{
    struct peal_buf bytes = {0};
    peal_frame_encode(frame, &bytes);
    assert_false(bytes.failed);
    answer_bytes(d, router, bytes.at, bytes.size);
    peal_buf_fini(&bytes);
}

static void answer_table(struct desk *d, size_t router, const struct peal_slot slots[PEAL_SLOTS])
{
    uint64_t runs[PEAL_SLOT_RUNS];
    struct peal_frame frame = {.type = PEAL_F_SLOTS, .boot = 7, .owner = router};
    frame.offsets.at = runs;
    frame.offsets.count = peal_slots_encode(slots, runs);
    answer(d, router, &frame);
}

static void assert_slots_equal(const struct peal_slot *a, const struct peal_slot *b)
{
    for (size_t i = 0; i < PEAL_SLOTS; i++) {
        assert_int_equal(a[i].owner, b[i].owner);
        assert_int_equal(a[i].generation, b[i].generation);
    }
}

/* ---- open ------------------------------------------------------------------------------------ */

static void operator_endpoint_that_zeromq_refuses_is_named(void **state)
{
    struct desk *d = *state;
    static const char *const bad[] = {"", "127.0.0.1:7070", "tcp://127.0.0.1", "tcp://127.0.0.1:x",
                                      "smoke://127.0.0.1:7070"};
    snprintf(d->endpoints[0], ZMQ_RIG_TEXT, "tcp://127.0.0.1:9"); /* fine, if nobody is there */
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct peal_operator *op = (struct peal_operator *)d;
        char expected[200];
        char why[200] = "";
        snprintf(d->endpoints[1], ZMQ_RIG_TEXT, "%s", bad[i]);
        snprintf(expected, sizeof expected, "cannot connect to %s: a bad endpoint, or a key is %s",
                 bad[i], "missing");
        assert_int_equal(peal_operator_open(&d->config, &d->security, &op, why, sizeof why),
                         PEAL_ECONFIG);
        assert_null(op);
        assert_string_equal(why, expected);
    }
}

static void operator_with_curve_wants_the_key_of_each_router(void **state)
{
    struct desk *d = *state;
    struct peal_operator *op = (struct peal_operator *)d;
    struct peal_curve_pair router;
    char why[200] = "";
    assert_int_equal(peal_curve_make(&router), PEAL_OK);
    assert_int_equal(peal_curve_make(&d->security.own), PEAL_OK);
    d->security.curve = true;
    d->list[0].key = router.public_key;
    for (size_t i = 0; i < ROUTERS; i++)
        snprintf(d->endpoints[i], ZMQ_RIG_TEXT, "tcp://127.0.0.1:%zu", 8 + i);
    assert_int_equal(peal_operator_open(&d->config, &d->security, &op, why, sizeof why),
                     PEAL_ECONFIG);
    assert_null(op);
    assert_non_null(strstr(why, d->endpoints[1]));
}

static void operator_close_of_null_is_fine(void **state)
{
    (void)state;
    peal_operator_close(NULL);
}

/* ---- table ----------------------------------------------------------------------------------- */

static void operator_table_is_that_of_the_router_asked(void **state)
{
    struct desk *d = *state;
    open_operator(d);
    for (size_t router = 0; router < ROUTERS; router++) {
        struct peal_slot slots[PEAL_SLOTS];
        peal_slots_seed(slots, ROUTERS);
        slots[17] = (struct peal_slot){.owner = (uint16_t)(5 + router), .generation = 1ULL << 40};
        slots[18] = (struct peal_slot){.owner = PEAL_SLOT_NOBODY};
        begin_table(d, router);
        assert_int_equal(take(d, router).type, PEAL_F_SLOTS);
        answer_table(d, router, slots);
        assert_int_equal(end(d), PEAL_OK);
        assert_slots_equal(d->call.slots, slots);
    }
}

static void operator_table_of_a_router_that_is_silent_times_out(void **state)
{
    struct desk *d = *state;
    open_operator(d);
    static const int timeouts[] = {0, 1, 50};
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
        struct peal_slot slots[PEAL_SLOTS];
        uint64_t began_ms = peal_clock_mono_ms();
        assert_int_equal(peal_operator_table(d->op, 1, timeouts[i], slots), PEAL_ETIMEOUT);
        assert_true(peal_clock_mono_ms() - began_ms >= (uint64_t)timeouts[i]);
        assert_int_equal(take(d, 1).type, PEAL_F_SLOTS);
    }
}

static void operator_table_of_a_router_that_is_not_there_times_out(void **state)
{
    struct desk *d = *state;
    struct peal_slot slots[PEAL_SLOTS];
    open_operator(d);
    peal_operator_close(d->op);
    d->op = NULL;
    assert_int_equal(zmq_unbind(d->routers[1], d->endpoints[1]), 0);
    char why[200];
    assert_int_equal(peal_operator_open(&d->config, &d->security, &d->op, why, sizeof why),
                     PEAL_OK);
    assert_int_equal(peal_operator_table(d->op, 1, 50, slots), PEAL_ETIMEOUT);
}

static void operator_table_passes_over_late_answers_to_other_questions(void **state)
{
    struct desk *d = *state;
    struct peal_slot slots[PEAL_SLOTS];
    const struct peal_frame given = {.type = PEAL_F_GIVEN, .req = 1, .code = PEAL_EAGAIN};
    peal_slots_seed(slots, ROUTERS);
    open_operator(d);
    begin_table(d, 0);
    take(d, 0);
    answer(d, 0, &given);
    answer_table(d, 0, slots);
    assert_int_equal(end(d), PEAL_OK);
    assert_slots_equal(d->call.slots, slots);
}

static void operator_table_that_is_none_is_a_bad_message(void **state)
{
    struct desk *d = *state;
    static const uint64_t runs[][6] = {
        {PEAL_SLOTS - 1, 0, 0, 0, 0, 0}, /* a slot too few */
        {PEAL_SLOTS, 0, 0, 1, 0, 0},     /* one too many */
        {PEAL_SLOTS, PEAL_SLOTS, 0},     /* no router has that number */
        {PEAL_SLOTS, 0, 0, 1, 0},        /* not a whole run */
        {0},                             /* nothing at all */
    };
    static const size_t counts[] = {3, 6, 3, 5, 0};
    open_operator(d);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        uint64_t numbers[6];
        memcpy(numbers, runs[i], sizeof numbers);
        struct peal_frame frame = {.type = PEAL_F_SLOTS};
        frame.offsets.at = numbers;
        frame.offsets.count = counts[i];
        begin_table(d, 0);
        take(d, 0);
        answer(d, 0, &frame);
        assert_int_equal(end(d), PEAL_EBAD_MESSAGE);
    }
    begin_table(d, 0);
    take(d, 0);
    answer_bytes(d, 0, "\xc1 no frame", 10);
    assert_int_equal(end(d), PEAL_EBAD_MESSAGE);
    begin_table(d, 0);
    take(d, 0);
    answer_bytes(d, 0, "", 0);
    assert_int_equal(end(d), PEAL_EBAD_MESSAGE);
}

/* ---- move ------------------------------------------------------------------------------------ */

static void operator_move_asks_who_has_the_slot_and_waits_for_the_answer(void **state)
{
    struct desk *d = *state;
    open_operator(d);
    uint64_t last_req = 0;
    for (uint16_t slot = 0; slot < PEAL_SLOTS; slot += PEAL_SLOTS - 1) {
        begin_move(d, slot, 1, 0);
        struct peal_frame move = take(d, 1);
        assert_int_equal(move.type, PEAL_F_MOVE);
        assert_int_equal(move.slot, slot);
        assert_int_equal(move.owner, 0);
        assert_true(move.req > last_req); /* an answer wanted, and told from earlier ones */
        last_req = move.req;
        const struct peal_frame given = {
            .type = PEAL_F_GIVEN, .req = move.req, .slot = slot, .generation = 3};
        answer(d, 1, &given);
        assert_int_equal(end(d), PEAL_OK);
    }
}

static void operator_move_that_a_router_refuses_says_why(void **state)
{
    struct desk *d = *state;
    static const struct {
        uint64_t code;
        const char *message;
        enum peal_err err;
    } cases[] = {
        {PEAL_EAGAIN, "another slot is on its way", PEAL_EAGAIN},
        {PEAL_EFORBIDDEN, "slot 5 is not mine", PEAL_EFORBIDDEN},
        {PEAL_ENO_ROUTER, "", PEAL_ENO_ROUTER},
        {PEAL_ERR_COUNT, "from a later version", PEAL_EINTERNAL},
        {UINT64_MAX, "nonsense", PEAL_EINTERNAL},
    };
    open_operator(d);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin_move(d, 5, 0, 1);
        const struct peal_frame given = {.type = PEAL_F_GIVEN,
                                         .req = take(d, 0).req,
                                         .code = cases[i].code,
                                         .message = peal_span_of(cases[i].message)};
        answer(d, 0, &given);
        assert_int_equal(end(d), cases[i].err);
        assert_string_equal(d->call.why, cases[i].message);
    }
}

static void operator_move_sentence_is_cut_to_the_room_for_it(void **state)
{
    struct desk *d = *state;
    char long_one[2 * sizeof d->call.why];
    memset(long_one, 'x', sizeof long_one - 1);
    long_one[sizeof long_one - 1] = '\0';
    open_operator(d);
    begin_move(d, 5, 0, 1);
    const struct peal_frame given = {.type = PEAL_F_GIVEN,
                                     .req = take(d, 0).req,
                                     .code = PEAL_EAGAIN,
                                     .message = peal_span_of(long_one)};
    answer(d, 0, &given);
    assert_int_equal(end(d), PEAL_EAGAIN);
    assert_int_equal(strlen(d->call.why), sizeof d->call.why - 1);
}

static void operator_move_takes_no_answer_to_another_one(void **state)
{
    struct desk *d = *state;
    struct peal_slot slots[PEAL_SLOTS];
    char why[200] = "";
    open_operator(d);
    assert_int_equal(peal_operator_move(d->op, 1, 0, 1, 0, why, sizeof why), PEAL_ETIMEOUT);
    assert_string_equal(why, "it does not answer");
    const struct peal_frame late = {
        .type = PEAL_F_GIVEN, .req = take(d, 0).req, .code = PEAL_EFORBIDDEN};
    begin_move(d, 2, 0, 1);
    const struct peal_frame given = {.type = PEAL_F_GIVEN, .req = take(d, 0).req};
    assert_int_not_equal(given.req, late.req);
    answer(d, 0, &late);
    peal_slots_seed(slots, ROUTERS);
    answer_table(d, 0, slots);
    answer(d, 0, &given);
    assert_int_equal(end(d), PEAL_OK);
}

static void operator_move_answer_that_is_no_frame_is_a_bad_message(void **state)
{
    struct desk *d = *state;
    open_operator(d);
    begin_move(d, 5, 0, 1);
    take(d, 0);
    answer_bytes(d, 0, "\xc1 no frame", 10);
    assert_int_equal(end(d), PEAL_EBAD_MESSAGE);
}

/* ---- with keys ------------------------------------------------------------------------------- */

static void operator_with_curve_is_answered_after_its_keys_are_wiped(void **state)
{
    struct desk *d = *state;
    struct peal_curve_pair routers[ROUTERS];
    struct peal_slot slots[PEAL_SLOTS];
    assert_int_equal(peal_curve_make(&d->security.own), PEAL_OK);
    d->security.curve = true;
    for (size_t i = 0; i < ROUTERS; i++) {
        assert_int_equal(peal_curve_make(&routers[i]), PEAL_OK);
        peal_bus_socket_guard(d->routers[i], &routers[i], "rpc");
        d->list[i].key = routers[i].public_key;
    }
    open_operator(d);
    peal_bus_security_fini(&d->security);
    peal_slots_seed(slots, ROUTERS);
    begin_table(d, 1);
    take(d, 1);
    answer_table(d, 1, slots);
    assert_int_equal(end(d), PEAL_OK);
    assert_slots_equal(d->call.slots, slots);
}

static void operator_is_not_answered_by_a_router_with_another_key(void **state)
{
    struct desk *d = *state;
    struct peal_curve_pair router;
    struct peal_curve_pair other;
    struct peal_slot slots[PEAL_SLOTS];
    assert_int_equal(peal_curve_make(&router), PEAL_OK);
    assert_int_equal(peal_curve_make(&other), PEAL_OK);
    assert_int_equal(peal_curve_make(&d->security.own), PEAL_OK);
    d->security.curve = true;
    for (size_t i = 0; i < ROUTERS; i++) {
        peal_bus_socket_guard(d->routers[i], &router, "rpc");
        d->list[i].key = other.public_key;
    }
    void *monitor = zmq_rig_monitor(d->zmq, d->routers[0], ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL);
    open_operator(d);
    assert_int_equal(zmq_rig_event(monitor), ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL);
    assert_int_equal(peal_operator_table(d->op, 0, 50, slots), PEAL_ETIMEOUT);
    assert_int_equal(zmq_rig_int(d->routers[0], ZMQ_EVENTS) & ZMQ_POLLIN, 0);
    zmq_socket_monitor(d->routers[0], NULL, 0);
    zmq_close(monitor);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(operator_endpoint_that_zeromq_refuses_is_named),
        TEST(operator_with_curve_wants_the_key_of_each_router),
        TEST(operator_close_of_null_is_fine),
        TEST(operator_table_is_that_of_the_router_asked),
        TEST(operator_table_of_a_router_that_is_silent_times_out),
        TEST(operator_table_of_a_router_that_is_not_there_times_out),
        TEST(operator_table_passes_over_late_answers_to_other_questions),
        TEST(operator_table_that_is_none_is_a_bad_message),
        TEST(operator_move_asks_who_has_the_slot_and_waits_for_the_answer),
        TEST(operator_move_that_a_router_refuses_says_why),
        TEST(operator_move_sentence_is_cut_to_the_room_for_it),
        TEST(operator_move_takes_no_answer_to_another_one),
        TEST(operator_move_answer_that_is_no_frame_is_a_bad_message),
        TEST(operator_with_curve_is_answered_after_its_keys_are_wiped),
        TEST(operator_is_not_answered_by_a_router_with_another_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

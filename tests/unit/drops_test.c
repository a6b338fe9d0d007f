/* What becomes of every frame that is due to a connection: written, dropped for a reason, or in its
 * queue. malloc fails where a test says so (--wrap=malloc), as it does in a full machine. */
#include "node/conn.h"

#include <stdio.h>

#include "base/clock.h"
#include "node/member.h"
#include "tests/unit/hub_rig.h"

static size_t fail_from;
static size_t fail_to;
static unsigned fail_count;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    if (size >= fail_from && size <= fail_to) {
        fail_count++;
        return NULL;
    }
    return __real_malloc(size);
}

/* Allocations of these sizes fail until fail_off. */
static void fail_on(size_t from, size_t to)
{
    fail_from = from;
    fail_to = to;
    fail_count = 0;
}

static void fail_off(void)
{
    fail_on(1, 0);
}

static const char yaml[] = "limits: {queue: 4KiB, queue_messages: 8}\n"
                           "groups:\n"
                           "  - {match: '*', history: {messages: 0}, join: anyone}\n";
static char *room_join[] = {(char[]){"room"}};
static const struct peal_config_route native = {
    .path = "/", .dialect = PEAL_DIALECT_NATIVE, .identity = PEAL_IDENTITY_URL};
static const struct peal_config_route raw = {
    .path = "/", .dialect = PEAL_DIALECT_RAW, .join = {room_join, 1}};
static const struct peal_config_route echo = {
    .path = "/", .dialect = PEAL_DIALECT_RAW, .inbound = PEAL_INBOUND_ECHO, .max_message = 65536};

enum { EPOCH = 7, RING_SIZE = 4 * sizeof(struct peal_outq_item) };

struct sums {
    int64_t due;
    int64_t slow;
    int64_t memory;
    int64_t closed;
    int64_t queued;
};

static struct sums sums_now(void)
{
    return (struct sums){.due = peal_metrics_sum(PEAL_M_DUE),
                         .slow = peal_metrics_sum(PEAL_M_DROPPED_SLOW),
                         .memory = peal_metrics_sum(PEAL_M_DROPPED_MEMORY),
                         .closed = peal_metrics_sum(PEAL_M_DROPPED_CLOSED),
                         .queued = peal_metrics_sum(PEAL_M_QUEUED)};
}

struct world {
    struct rig *rig;
    struct peal_conn conn;
    bool open;
    struct sums before;
    int64_t written; /* by the test, which is the kernel here */
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    fail_off();
    peal_metrics_thread_start();
    w->rig = rig_open(yaml);
    w->before = sums_now();
    *state = w;
    return 0;
}

static struct peal_conn *open_conn(struct world *w, const struct peal_config_route *route)
{
    rig_connect(w->rig, &w->conn, route, NULL);
    w->open = true;
    if (route == &raw) rig_joined(w->rig, "room", EPOCH, 0, 0);
    return &w->conn;
}

static struct sums sums_since(const struct world *w)
{
    struct sums now = sums_now();
    return (struct sums){.due = now.due - w->before.due,
                         .slow = now.slow - w->before.slow,
                         .memory = now.memory - w->before.memory,
                         .closed = now.closed - w->before.closed,
                         .queued = now.queued - w->before.queued};
}

/* Nothing is lost without being counted, and nothing is counted twice. */
static void check_law(const struct world *w)
{
    struct sums s = sums_since(w);
    assert_int_equal(s.due, w->written + s.slow + s.memory + s.closed + s.queued);
}

static int teardown(void **state)
{
    struct world *w = *state;
    fail_off();
    if (w->open) peal_conn_fini(&w->conn);
    check_law(w);
    assert_int_equal(sums_since(w).queued, 0);
    rig_close(w->rig);
    free(w);
    return 0;
}

static void take(struct world *w)
{
    rig_take(w->rig, &w->conn);
    assert_int_not_equal(w->rig->opcode, -1);
    w->written++;
}

static void drops_of_a_queue_that_cannot_grow_are_for_memory(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_conn(w, &raw);
    rig_message(w->rig, "room", EPOCH, 1, "1");
    assert_int_equal(conn->outq.frames, 1);
    fail_on(RING_SIZE, RING_SIZE);
    rig_message(w->rig, "room", EPOCH, 2, "2");
    assert_true(fail_count > 0);
    fail_off();
    assert_false(conn->open); /* it cannot come back for the message */
    assert_int_equal(sums_since(w).memory, 1);
    check_law(w);
}

static void drops_of_a_queue_that_is_full_are_for_slowness(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_conn(w, &raw);
    for (uint64_t offset = 1; offset <= 9; offset++)
        rig_message(w->rig, "room", EPOCH, offset, "x");
    assert_false(conn->open);
    assert_int_equal(sums_since(w).slow, 9);
    assert_int_equal(sums_since(w).memory, 0);
    check_law(w);
    take(w); /* the farewell */
}

static void drops_of_a_reply_without_memory_are_counted(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_conn(w, &native);
    rig_say(conn, "{\"type\":\"hello\",\"id\":1}");
    int64_t due = sums_since(w).due;
    fail_on(RING_SIZE, RING_SIZE);
    rig_say(conn, "{\"type\":\"ping\",\"id\":2}");
    assert_true(fail_count > 0);
    fail_off();
    assert_false(conn->open);
    assert_true(sums_since(w).due > due);
    assert_int_equal(sums_since(w).memory, 1);
    check_law(w);
}

static void drops_of_an_echo_that_does_not_fit_are_counted(void **state)
{
    struct world *w = *state;
    struct peal_conn *conn = open_conn(w, &echo);
    for (int i = 0; i < 9; i++)
        rig_say(conn, "again");
    assert_false(conn->open);
    assert_int_equal(sums_since(w).slow, 9);
    check_law(w);
}

static void drops_of_who_goes_away_are_for_closing(void **state)
{
    struct world *w = *state;
    open_conn(w, &raw);
    for (uint64_t offset = 1; offset <= 5; offset++)
        rig_message(w->rig, "room", EPOCH, offset, "x");
    take(w);
    take(w);
    assert_int_equal(sums_since(w).queued, 3);
    check_law(w);
    peal_conn_fini(&w->conn);
    w->open = false;
    assert_int_equal(sums_since(w).closed, 3);
    assert_int_equal(sums_since(w).queued, 0);
}

/* Whatever happens in whatever order. */
static void drops_and_writes_of_random_steps_add_up(void **state)
{
    struct world *w = *state;
    uint64_t seed = peal_random_u64();
    print_message("seed %llu\n", (unsigned long long)seed);
    unsigned short random[3] = {(unsigned short)seed, (unsigned short)(seed >> 16),
                                (unsigned short)(seed >> 32)};
    char data[3000];
    memset(data, 'x', sizeof data - 1);
    data[sizeof data - 1] = '\0';
    uint64_t offset = 0;
    open_conn(w, &raw);
    for (int step = 0; step < 5000; step++) {
        long what = nrand48(random) % 100;
        if (what < 60) {
            rig_message(w->rig, "room", EPOCH, ++offset, data + nrand48(random) % 2999);
        } else if (what < 90) {
            rig_take(w->rig, &w->conn);
            if (w->rig->opcode != -1) w->written++;
        } else if (what < 95) {
            fail_on(RING_SIZE, RING_SIZE);
            rig_message(w->rig, "room", EPOCH, ++offset, "m");
            fail_off();
        } else {
            peal_conn_fini(&w->conn);
            rig_connect(w->rig, &w->conn, &raw, NULL);
            if (rig_group(w->rig, "room")->req != 0) rig_joined(w->rig, "room", EPOCH, offset, 0);
        }
        check_law(w);
        assert_int_equal(sums_since(w).queued, w->conn.outq.frames);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(drops_of_a_queue_that_cannot_grow_are_for_memory, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(drops_of_a_queue_that_is_full_are_for_slowness, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(drops_of_a_reply_without_memory_are_counted, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(drops_of_an_echo_that_does_not_fit_are_counted, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(drops_of_who_goes_away_are_for_closing, setup, teardown),
        cmocka_unit_test_setup_teardown(drops_and_writes_of_random_steps_add_up, setup, teardown),
    };
    return cmocka_run_group_tests_name("drops", tests, NULL, NULL);
}

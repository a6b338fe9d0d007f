/* tests/unit/room_rig.h: a hub whose connections are in the group "room", and its router's pages.
 */
#ifndef PEAL_TESTS_ROOM_RIG_H
#define PEAL_TESTS_ROOM_RIG_H

#include <stdio.h>

#include "tests/unit/hub_rig.h"

static const char yaml[] = "limits: {queue: 4KiB, queue_messages: 8}\n"
                           "groups:\n"
                           "  - {match: 'user:{id}', durable: true}\n"
                           "  - {match: '*', history: {messages: 100}, join: anyone}\n";

static struct peal_config_route native = {
    .path = "/", .dialect = PEAL_DIALECT_NATIVE, .identity = PEAL_IDENTITY_URL};
static char *raw_joins[] = {(char[]){"room"}};
static struct peal_config_route raw = {
    .path = "/", .dialect = PEAL_DIALECT_RAW, .join = {raw_joins, 1}};

enum { CONNS = PEAL_REPAIRS_MAX + 2, EPOCH = 7 };

struct world {
    struct rig *rig;
    struct peal_conn conns[CONNS];
    size_t count;
};

static inline int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    w->rig = rig_open(yaml);
    *state = w;
    return 0;
}

static inline int teardown(void **state)
{
    struct world *w = *state;
    for (size_t i = 0; i < w->count; i++)
        peal_conn_fini(&w->conns[i]);
    rig_close(w->rig);
    free(w);
    return 0;
}

static inline struct peal_conn *open_raw(struct world *w)
{
    struct peal_conn *conn = &w->conns[w->count++];
    rig_connect(w->rig, conn, &raw, NULL);
    return conn;
}

/* Of nobody, so that there is no inbox. */
static inline struct peal_conn *open_native(struct world *w)
{
    struct peal_conn *conn = &w->conns[w->count++];
    rig_connect(w->rig, conn, &native, NULL);
    rig_say(conn, "{\"type\":\"hello\"}");
    rig_expect_part(w->rig, conn, "\"welcome\"");
    return conn;
}

/* A native member of room, which is at epoch 7 and this offset. */
static inline struct peal_conn *open_member(struct world *w, uint64_t offset, uint64_t flags)
{
    struct peal_conn *conn = open_native(w);
    rig_say(conn, "{\"type\":\"join\",\"group\":\"room\"}");
    if (rig_group(w->rig, "room")->req != 0) rig_joined(w->rig, "room", EPOCH, offset, flags);
    rig_expect_part(w->rig, conn, "\"recovered\":\"new\"");
    rig_forget(w->rig);
    return conn;
}

static inline struct peal_member *member_of(struct peal_conn *conn)
{
    struct peal_member *m = peal_member_find(conn, peal_span_of("room"));
    assert_non_null(m);
    return m;
}

/* The FETCH that was ordered last, and from where it asks. */
static inline uint64_t fetch_req(struct world *w, uint64_t epoch, uint64_t offset)
{
    const struct peal_frame *fetch = rig_sent(w->rig);
    assert_int_equal(fetch->type, PEAL_F_FETCH);
    assert_true(peal_span_is(fetch->group, "room"));
    assert_int_equal(fetch->epoch, epoch);
    assert_int_equal(fetch->offset, offset);
    assert_true(fetch->bytes > 0);
    return fetch->req;
}

/* Answers a FETCH with the messages after `from` up to `to`; gap_to leads with a gap. */
static inline void page(struct world *w, uint64_t req, uint64_t epoch, uint64_t from, uint64_t to,
                        uint64_t gap_to)
{
    struct peal_buf bufs[16] = {0};
    struct peal_span entries[16];
    struct peal_frame frame = {.type = PEAL_F_PAGE,
                               .req = req,
                               .group = peal_span_of("room"),
                               .epoch = epoch,
                               .offset = to,
                               .head = to,
                               .first = gap_to != 0 ? gap_to + 1 : from + 1};
    frame.entries.at = entries;
    if (gap_to != 0) {
        struct peal_frame gap = {.type = PEAL_F_GAP,
                                 .group = peal_span_of("room"),
                                 .from = from + 1,
                                 .to = gap_to,
                                 .why = PEAL_GAP_EVICTED};
        peal_frame_encode(&gap, &bufs[frame.entries.count++]);
        from = gap_to;
    }
    for (uint64_t offset = from + 1; offset <= to; offset++)
        rig_encode_message(&bufs[frame.entries.count++], "room", epoch, offset, "true");
    for (size_t i = 0; i < frame.entries.count; i++)
        entries[i] = peal_buf_span(&bufs[i]);
    rig_frame(w->rig, &frame);
    for (size_t i = 0; i < frame.entries.count; i++)
        peal_buf_fini(&bufs[i]);
}

static inline void expect_message(struct world *w, struct peal_conn *conn, uint64_t offset,
                                  bool replayed)
{
    char part[64];
    snprintf(part, sizeof part, "\"message\",\"group\":\"room\",\"offset\":%llu,",
             (unsigned long long)offset);
    rig_expect_part(w->rig, conn, part);
    assert_true((strstr(w->rig->taken->at, "\"replayed\":true") != NULL) == replayed);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif

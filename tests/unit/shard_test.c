#include "router/shard.h"

#include "base/metrics.h"
#include "proto/envelope.h"
#include "proto/parcel.h"
#include "tests/unit/shard_rig.h"

static void shard_link_is_answered_by_a_beat(void **state)
{
    struct world *w = *state;
    struct peal_frame batch;
    peal_shard_on_link(w->shard, 42);
    assert_int_equal(w->batch_count, 1);
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->batches[0]), &batch), PEAL_OK);
    assert_int_equal(batch.type, PEAL_F_BATCH);
    assert_int_equal(batch.boot, 1000);
    assert_true(batch.seq != 0); /* each entry of a node starts at a place of its own */
    assert_int_equal(batch.entries.count, 0);
    peal_frame_fini(&batch);
}

static void shard_batch_of_a_node_is_taken_apart(void **state)
{
    struct world *w = *state;
    struct peal_parcel parcel = {0};
    struct peal_frame join_a = {.type = PEAL_F_JOIN, .req = 5, .group = peal_span_of("room:a")};
    struct peal_frame join_b = {.type = PEAL_F_JOIN, .req = 6, .group = peal_span_of("room:b")};
    struct peal_frame fetch = {.type = PEAL_F_FETCH, .req = 7, .group = peal_span_of("room:a")};
    struct peal_frame nested = {.type = PEAL_F_BATCH, .boot = 1};
    assert_int_equal(peal_parcel_add(&parcel, &join_a), PEAL_OK);
    assert_int_equal(peal_parcel_add_bytes(&parcel, peal_span_of("junk")), PEAL_OK);
    assert_int_equal(peal_parcel_add(&parcel, &nested), PEAL_OK);
    assert_int_equal(peal_parcel_add(&parcel, &fetch), PEAL_OK);
    assert_int_equal(peal_parcel_add(&parcel, &join_b), PEAL_OK);
    struct peal_peer peer = node_peer(1);
    peal_shard_on_rpc(w->shard, &peer, peal_parcel_finish(&parcel, 1, 0));
    peal_shard_flush(w->shard);
    peal_parcel_fini(&parcel);

    /* What can be read is done, in order; both answers leave as one batch. */
    struct peal_frame frame;
    struct peal_frame entry;
    assert_int_equal(w->batch_count, 1);
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->batches[0]), &frame), PEAL_OK);
    assert_int_equal(frame.entries.count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(peal_frame_decode(frame.entries.at[i], &entry), PEAL_OK);
        assert_int_equal(entry.type, PEAL_F_JOINED);
        assert_int_equal(entry.req, 5 + i);
    }
    peal_frame_fini(&frame);
    assert_int_equal(w->reply_count, 1);
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->replies[0]), &frame), PEAL_OK);
    assert_int_equal(frame.type, PEAL_F_PAGE);
    assert_int_equal(frame.req, 7);
    peal_frame_fini(&frame);
}

static void shard_operations_beyond_the_stores_room_wait_in_order(void **state)
{
    struct world *w = *state;
    char json[64];
    w->op_room = 2;
    for (int i = 1; i <= 10; i++) {
        snprintf(json, sizeof json, "{\"user\":\"bob\",\"data\":%d}", i);
        push(w, json);
    }
    assert_int_equal(peal_shard_waiting(w->shard), 8);
    for (int i = 1; i <= 10; i++) {
        struct peal_envelope env;
        snprintf(json, sizeof json, "%d", i);
        assert_int_equal(peal_envelope_decode(w->ops[0]->message, &env), PEAL_OK);
        assert_true(peal_span_is(env.data, json));
        store_done(w, PEAL_OK);
    }
    assert_int_equal(peal_shard_waiting(w->shard), 0);
}

static void shard_silent_node_is_dropped_and_gets_a_new_sequence(void **state)
{
    struct world *w = *state;
    struct peal_frame batch;
    struct peal_frame entry;
    join(w, 42, 1, "room");
    last_entry(w, 0, &batch, &entry);
    uint64_t before = batch.seq;
    peal_frame_fini(&entry);
    peal_frame_fini(&batch);
    forget(w);
    peal_shard_set_time(w->shard, w->now_ms + PEAL_BEAT_LOST_MS + 1, 1700000000000);
    peal_shard_on_tick(w->shard);
    push(w, "{\"group\":\"room\",\"data\":1}");
    assert_int_equal(w->batch_count, 0);

    /* As many batches as the first time, and yet not the same number: had they been lost, a node
     * that slept must not take the next beat for the one that it knows. */
    join(w, 42, 2, "room");
    last_entry(w, 0, &batch, &entry);
    assert_int_not_equal(batch.seq, before);
    peal_frame_fini(&entry);
    peal_frame_fini(&batch);
}

static void shard_garbage_is_answered_or_ignored(void **state)
{
    struct world *w = *state;
    struct peal_peer stranger = {.id_size = 2, .id = "ab"};
    struct peal_peer node = node_peer(42);
    static const char *const junk[] = {"", "x", "\x91\x01", "\x80", "\xdf\xff\xff\xff\xff", "{"};
    for (size_t i = 0; i < sizeof junk / sizeof junk[0]; i++) {
        peal_shard_on_rpc(w->shard, &stranger, peal_span_of(junk[i]));
        peal_shard_on_rpc(w->shard, &node, peal_span_of(junk[i]));
        peal_shard_on_push(w->shard, peal_span_of(junk[i]));
    }
    assert_int_equal(w->op_count, 0);
}

/* A key of a publisher does not make it a node, whatever it calls itself. */
static void shard_publisher_may_publish_and_nothing_else(void **state)
{
    struct world *w = *state;
    struct peal_peer publisher = node_peer(42);
    struct peal_frame f = {.type = PEAL_F_JOIN, .req = 1, .group = peal_span_of("room:1")};
    struct peal_buf join_frame = {0};
    peal_metrics_thread_start();
    int64_t forbidden = peal_metrics_sum(PEAL_M_BUS_FORBIDDEN);
    publisher.publisher = true;
    peal_frame_encode(&f, &join_frame);
    peal_shard_on_rpc(w->shard, &publisher, peal_buf_span(&join_frame));
    peal_shard_on_rpc(w->shard, &publisher, peal_span_of("\x91\x01"));
    peal_shard_flush(w->shard);
    assert_int_equal(w->batch_count, 0); /* nothing was answered to a node */
    assert_int_equal(w->reply_count, 2);
    for (size_t i = 0; i < 2; i++) {
        struct peal_span said = peal_bytes_span(w->replies[i]);
        assert_non_null(memmem(said.at, said.size, "forbidden", 9));
    }
    assert_int_equal(peal_metrics_sum(PEAL_M_BUS_FORBIDDEN), forbidden + 2);
    peal_buf_fini(&join_frame);

    static const char call[] = "\x83\xa2op\xa7publish\xa3req\x07\xa8messages\x91\x82"
                               "\xa5group\xa6room:1\xa4"
                               "data\x01";
    peal_shard_on_rpc(w->shard, &publisher, peal_span_make(call, sizeof call - 1));
    assert_int_equal(w->reply_count, 3);
    struct peal_span said = peal_bytes_span(w->replies[2]);
    assert_non_null(memmem(said.at, said.size, "routed", 6));
}

int main(void)
{
    peal_metrics_thread_start();
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(shard_link_is_answered_by_a_beat),
        TEST(shard_batch_of_a_node_is_taken_apart),
        TEST(shard_operations_beyond_the_stores_room_wait_in_order),
        TEST(shard_silent_node_is_dropped_and_gets_a_new_sequence),
        TEST(shard_garbage_is_answered_or_ignored),
        TEST(shard_publisher_may_publish_and_nothing_else),
    };
    return cmocka_run_group_tests_name("shard", tests, NULL, NULL);
}

#include "router/intake.h"

#include "base/metrics.h"
#include "proto/envelope.h"
#include "tests/unit/shard_rig.h"

static void intake_message_goes_once_to_each_node_that_wants_it(void **state)
{
    struct world *w = *state;
    join(w, 42, 1, "room");
    join(w, 42, 2, "room"); /* twice is once */
    join(w, 43, 3, "room");
    join(w, 44, 4, "other");
    forget(w);
    push(w, "{\"group\":\"room\",\"data\":\"x\"}");
    assert_int_equal(w->batch_count, 2);
    assert_true(w->batch_boots[0] != w->batch_boots[1]);
    struct peal_frame leave = {.type = PEAL_F_LEAVE, .group = peal_span_of("room")};
    from_node(w, 42, &leave);
    forget(w);
    push(w, "{\"group\":\"room\",\"data\":\"y\"}");
    assert_int_equal(w->batch_count, 1);
    expect_message(w, 43, "\"y\"", 2);
}

static void intake_list_leaves_as_one_batch_in_order(void **state)
{
    struct world *w = *state;
    struct peal_frame batch;
    struct peal_frame entry;
    join(w, 42, 1, "room");
    forget(w);
    push(w, "[{\"group\":\"room\",\"data\":1},{\"group\":\"room\",\"data\":2},"
            "{\"group\":\"room\"},{\"group\":\"room\",\"data\":3}]");
    assert_int_equal(w->batch_count, 1);
    for (size_t i = 0; i < 3; i++) {
        struct peal_envelope env;
        last_entry(w, i, &batch, &entry);
        assert_int_equal(batch.entries.count, 3); /* the one without data was refused */
        assert_int_equal(peal_envelope_decode(entry.envelope, &env), PEAL_OK);
        assert_int_equal(env.offset, i + 1);
        peal_frame_fini(&batch);
    }
}

/* More than are worked on at once, some of them wrong, in several bodies. */
static void intake_many_pushes_are_numbered_in_order(void **state)
{
    struct world *w = *state;
    enum { COUNT = 50 };
    struct peal_buf lists[2] = {{0}, {0}};
    struct peal_span bodies[3];
    uint64_t n = 0;
    for (int b = 0; b < 2; b++) {
        for (int i = 0; i < COUNT; i++) {
            peal_buf_add_text(&lists[b], i == 0 ? "[" : ",");
            if (i % 7 == 3)
                peal_buf_add_text(&lists[b], "{\"group\":\"\",\"data\":0}");
            else
                peal_buf_add_format(&lists[b], "{\"group\":\"live:a\",\"data\":%llu}",
                                    (unsigned long long)++n);
        }
        peal_buf_add_char(&lists[b], ']');
        bodies[2 * b] = peal_buf_span(&lists[b]);
    }
    bodies[1] = peal_span_of("junk");
    join(w, 1, 1, "live:a");
    forget(w);
    peal_shard_on_pushes(w->shard, bodies, 3);
    peal_shard_flush(w->shard);
    peal_buf_fini(&lists[0]);
    peal_buf_fini(&lists[1]);

    struct peal_frame batch;
    assert_int_equal(w->batch_count, 1);
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->batches[0]), &batch), PEAL_OK);
    assert_int_equal(batch.entries.count, n);
    for (uint64_t i = 0; i < n; i++) {
        struct peal_frame entry;
        struct peal_envelope env;
        char data[24];
        assert_int_equal(peal_frame_decode(batch.entries.at[i], &entry), PEAL_OK);
        assert_int_equal(peal_envelope_decode(entry.envelope, &env), PEAL_OK);
        snprintf(data, sizeof data, "%llu", (unsigned long long)i + 1);
        assert_true(peal_span_is(env.data, data));
        assert_int_equal(env.offset, i + 1);
    }
    peal_frame_fini(&batch);
}

/* From a node, with one answer for all. */
static void intake_long_publish_of_a_node_is_answered_in_order(void **state)
{
    struct world *w = *state;
    enum { COUNT = 50 };
    struct peal_buf bufs[COUNT];
    struct peal_span entries[COUNT];
    for (int i = 0; i < COUNT; i++) {
        struct peal_envelope env = {.group = peal_span_of(i % 5 == 2 ? "\n" : "live:a"),
                                    .data = peal_span_of("1")};
        bufs[i] = (struct peal_buf){0};
        peal_envelope_encode(&env, &bufs[i]);
        entries[i] = i % 5 == 4 ? peal_span_of("junk") : peal_buf_span(&bufs[i]);
    }
    struct peal_frame publish = {.type = PEAL_F_PUBLISH, .req = 9};
    publish.entries.at = entries;
    publish.entries.count = COUNT;
    from_node(w, 1, &publish);
    for (int i = 0; i < COUNT; i++)
        peal_buf_fini(&bufs[i]);

    struct peal_frame answer;
    uint64_t offset = 0;
    assert_int_equal(w->reply_count, 1);
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->replies[0]), &answer), PEAL_OK);
    assert_int_equal(answer.type, PEAL_F_PUBLISHED);
    assert_int_equal(answer.entries.count, COUNT);
    for (int i = 0; i < COUNT; i++) {
        struct peal_frame receipt;
        assert_int_equal(peal_frame_decode(answer.entries.at[i], &receipt), PEAL_OK);
        if (i % 5 == 2)
            assert_int_equal(receipt.code, PEAL_EBAD_GROUP);
        else if (i % 5 == 4)
            assert_int_equal(receipt.code, PEAL_EBAD_MESSAGE);
        else
            assert_int_equal(receipt.offset, ++offset);
    }
    peal_frame_fini(&answer);
}

static void intake_stored_message_is_acknowledged_and_sent_after_the_commit(void **state)
{
    struct world *w = *state;
    struct peal_frame batch;
    struct peal_frame entry;
    join(w, 42, 1, "user:bob");
    assert_int_equal(w->batch_count, 0); /* the store is asked where the inbox is */
    store_done(w, PEAL_OK);
    peal_shard_flush(w->shard);
    last_entry(w, 0, &batch, &entry);
    assert_int_equal(entry.type, PEAL_F_JOINED);
    assert_int_equal(entry.epoch, 77);
    peal_frame_fini(&batch);
    forget(w);

    struct peal_envelope env = {.group = peal_span_of("user:bob"), .data = peal_span_of("5")};
    struct peal_buf buf = {0};
    peal_envelope_encode(&env, &buf);
    struct peal_span span = peal_buf_span(&buf);
    struct peal_frame publish = {.type = PEAL_F_PUBLISH, .req = 6};
    publish.entries.at = &span;
    publish.entries.count = 1;
    from_node(w, 43, &publish);
    peal_buf_fini(&buf);
    assert_int_equal(w->reply_count, 0);
    assert_int_equal(w->batch_count, 0);
    store_done(w, PEAL_OK);
    peal_shard_flush(w->shard);
    expect_message(w, 42, "5", 1);
    assert_int_equal(w->reply_count, 1);
    struct peal_frame answer;
    struct peal_frame receipt;
    assert_int_equal(peal_frame_decode(peal_bytes_span(w->replies[0]), &answer), PEAL_OK);
    assert_int_equal(answer.type, PEAL_F_PUBLISHED);
    assert_int_equal(answer.req, 6);
    assert_int_equal(peal_frame_decode(answer.entries.at[0], &receipt), PEAL_OK);
    assert_int_equal(receipt.code, PEAL_OK);
    assert_int_equal(receipt.offset, 1);
    assert_int_equal(receipt.flags, PEAL_FLAG_STORED);
    assert_int_equal(receipt.id.size, 26); /* a ULID was made */
    peal_frame_fini(&answer);
}

static void intake_failed_commit_is_never_acknowledged(void **state)
{
    struct world *w = *state;
    static const char call[] = "\x83\xa2op\xa7publish\xa3req\x07\xa8messages\x91\x82\xa4user\xa3"
                               "bob\xa4"
                               "data\x05";
    struct peal_peer peer = {.id_size = 4, .delimiters = 1, .id = {1, 2, 3, 4}};
    peal_shard_on_rpc(w->shard, &peer, peal_span_make(call, sizeof call - 1));
    store_done(w, PEAL_ESTORE_FULL);
    assert_int_equal(w->reply_count, 1);
    assert_int_equal(w->peers[0].delimiters, 1);
    struct peal_span reply = peal_bytes_span(w->replies[0]);
    assert_non_null(memmem(reply.at, reply.size, "store_full", 10));
    assert_null(memmem(reply.at, reply.size, "stored", 6));
}

/* {op, req, messages: [{user: bob, data: 5} * count]} */
static void call_of(struct world *w, const char *name, unsigned char req, size_t count)
{
    static const char one[] = "\x82\xa4user\xa3"
                              "bob\xa4"
                              "data\x05";
    struct peal_buf call = {0};
    struct peal_peer peer = {.id_size = (unsigned char)strlen(name)};
    memcpy(peer.id, name, strlen(name));
    peal_buf_add_text(&call, "\x83\xa2op\xa7publish\xa3req");
    peal_buf_add_char(&call, (char)req);
    peal_buf_add_text(&call, "\xa8messages\xdc");
    peal_buf_add_char(&call, (char)(count >> 8));
    peal_buf_add_char(&call, (char)count);
    for (size_t i = 0; i < count; i++)
        peal_buf_add(&call, one, sizeof one - 1);
    peal_shard_on_rpc(w->shard, &peer, peal_buf_span(&call));
    peal_buf_fini(&call);
}

static size_t count_of(struct peal_span bytes, const char *word)
{
    size_t count = 0;
    const char *at = bytes.at;
    const char *end = bytes.at + bytes.size;
    while ((at = memmem(at, (size_t)(end - at), word, strlen(word))) != NULL) {
        count++;
        at += strlen(word);
    }
    return count;
}

static int64_t publishes_not_accounted_for(void)
{
    return peal_metrics_sum(PEAL_M_ACCEPTED) - peal_metrics_sum(PEAL_M_NUMBERED) -
           peal_metrics_sum(PEAL_M_DUPLICATE) - peal_metrics_sum(PEAL_M_WAITING) -
           peal_metrics_sum(PEAL_M_REFUSED_INVALID) - peal_metrics_sum(PEAL_M_REFUSED_QUEUE) -
           peal_metrics_sum(PEAL_M_REFUSED_STORE) - peal_metrics_sum(PEAL_M_REFUSED_ERROR);
}

static void intake_publisher_beyond_its_credit_is_told_and_leaves_room_for_others(void **state)
{
    struct world *w = *state;
    peal_metrics_thread_start();
    int64_t waiting = peal_metrics_sum(PEAL_M_WAITING);
    w->op_room = 0;
    for (unsigned char req = 1; req <= 10; req++)
        call_of(w, "greedy", req, 1000);
    /* The ninth call waits for those of its messages that were taken. */
    assert_int_equal(w->reply_count, 1);
    struct peal_span reply = peal_bytes_span(w->replies[0]);
    assert_int_equal(count_of(reply, "rate_limited"), 1000);
    assert_int_equal(count_of(reply, "after_ms"), 1000);
    assert_int_equal(peal_metrics_sum(PEAL_M_WAITING) - waiting, 8192);
    assert_int_equal(publishes_not_accounted_for(), 0);
    forget(w);

    call_of(w, "modest", 1, 1);
    assert_int_equal(w->reply_count, 0); /* it waits for the store, as it should */
    w->op_room = OPS_MAX;
    peal_shard_on_tick(w->shard);
    while (w->op_count > 0)
        store_done(w, PEAL_OK);
    assert_int_equal(w->reply_count, 10);
    assert_int_equal(w->peers[9].id_size, strlen("modest"));
    size_t stored = 0;
    size_t refused = 0;
    for (size_t i = 0; i < w->reply_count; i++) {
        stored += count_of(peal_bytes_span(w->replies[i]), "stored");
        refused += count_of(peal_bytes_span(w->replies[i]), "rate_limited");
    }
    assert_int_equal(stored, 8192 + 1);
    assert_int_equal(refused, 808);
    assert_int_equal(peal_metrics_sum(PEAL_M_WAITING), waiting);
    assert_int_equal(publishes_not_accounted_for(), 0);
    forget(w);

    call_of(w, "greedy", 11, 1); /* and it may go on */
    store_done(w, PEAL_OK);
    assert_int_equal(count_of(peal_bytes_span(w->replies[0]), "stored"), 1);
}

static void intake_retry_with_the_same_id_is_a_duplicate(void **state)
{
    struct world *w = *state;
    join(w, 42, 1, "room");
    push(w, "{\"group\":\"room\",\"data\":1,\"message_id\":\"m\"}");
    forget(w);
    push(w, "{\"group\":\"room\",\"data\":1,\"message_id\":\"m\"}");
    assert_int_equal(w->batch_count, 0);
    push(w, "{\"group\":\"room\",\"data\":1,\"message_id\":\"n\"}");
    expect_message(w, 42, "1", 2);
}

int main(void)
{
    peal_metrics_thread_start();
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(intake_message_goes_once_to_each_node_that_wants_it),
        TEST(intake_list_leaves_as_one_batch_in_order),
        TEST(intake_many_pushes_are_numbered_in_order),
        TEST(intake_long_publish_of_a_node_is_answered_in_order),
        TEST(intake_stored_message_is_acknowledged_and_sent_after_the_commit),
        TEST(intake_failed_commit_is_never_acknowledged),
        TEST(intake_publisher_beyond_its_credit_is_told_and_leaves_room_for_others),
        TEST(intake_retry_with_the_same_id_is_a_duplicate),
    };
    return cmocka_run_group_tests_name("intake", tests, NULL, NULL);
}

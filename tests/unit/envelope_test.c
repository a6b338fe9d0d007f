#include "proto/envelope.h"

#include "proto/wire.h"
#include "tests/unit/unit.h"

static void envelope_survives_a_round_trip(void **state)
{
    (void)state;
    struct peal_envelope in = {.id = peal_span_of("m-1"),
                               .group = peal_span_of("user:张三"),
                               .epoch = UINT64_MAX,
                               .offset = 1ull << 53,
                               .ts_ms = 1700000000000,
                               .data = peal_span_make("\0\1\2", 3),
                               .data_kind = PEAL_DATA_BINARY,
                               .from = peal_span_of("alice"),
                               .ttl_ms = 5,
                               .flags = PEAL_MSG_ID_GIVEN};
    struct peal_buf buf = {0};
    peal_envelope_encode(&in, &buf);
    struct peal_envelope out;
    assert_int_equal(peal_envelope_decode(peal_buf_span(&buf), &out), PEAL_OK);
    assert_true(peal_span_is(out.id, "m-1"));
    assert_true(peal_span_is(out.group, "user:张三"));
    assert_true(out.epoch == UINT64_MAX);
    assert_true(out.offset == 1ull << 53);
    assert_true(out.ts_ms == 1700000000000);
    assert_int_equal(out.data.size, 3);
    assert_memory_equal(out.data.at, "\0\1\2", 3);
    assert_int_equal(out.data_kind, PEAL_DATA_BINARY);
    assert_null(out.event.at);
    assert_true(peal_span_is(out.from, "alice"));
    assert_int_equal(out.ttl_ms, 5);
    assert_int_equal(out.flags, PEAL_MSG_ID_GIVEN);
    peal_buf_fini(&buf);
}

static void envelope_without_group_or_data_is_refused(void **state)
{
    (void)state;
    struct peal_envelope in = {.group = peal_span_of("g")};
    struct peal_envelope out;
    struct peal_buf buf = {0};
    peal_envelope_encode(&in, &buf);
    assert_int_equal(peal_envelope_decode(peal_buf_span(&buf), &out), PEAL_EBAD_MESSAGE);
    buf.size = 0;
    in = (struct peal_envelope){.data = peal_span_of("1")};
    peal_envelope_encode(&in, &buf);
    assert_int_equal(peal_envelope_decode(peal_buf_span(&buf), &out), PEAL_EBAD_MESSAGE);
    peal_buf_fini(&buf);
}

static void message_peek_finds_group_and_position(void **state)
{
    (void)state;
    struct peal_envelope env = {.id = peal_span_of("m-1"),
                                .group = peal_span_of("room"),
                                .epoch = UINT64_MAX,
                                .offset = 300,
                                .data = peal_span_of("1")};
    struct peal_buf inner = {0};
    struct peal_buf outer = {0};
    struct peal_message_head head;
    peal_envelope_encode(&env, &inner);
    struct peal_frame frame = {.type = PEAL_F_MESSAGE, .envelope = peal_buf_span(&inner)};
    peal_frame_encode(&frame, &outer);
    assert_int_equal(peal_message_peek(peal_buf_span(&outer), &head), PEAL_OK);
    assert_true(peal_span_is(head.group, "room"));
    assert_true(head.epoch == UINT64_MAX);
    assert_int_equal(head.offset, 300);
    for (size_t size = 0; size < 20; size++)
        assert_int_equal(peal_message_peek(peal_span_make(outer.at, size), &head),
                         PEAL_EBAD_MESSAGE);
    peal_buf_fini(&inner);
    peal_buf_fini(&outer);

    struct peal_frame leave = {.type = PEAL_F_LEAVE, .group = peal_span_of("room")};
    peal_frame_encode(&leave, &outer);
    assert_int_equal(peal_message_peek(peal_buf_span(&outer), &head), PEAL_EUNKNOWN_TYPE);
    peal_buf_fini(&outer);
    struct peal_frame empty = {.type = PEAL_F_MESSAGE};
    peal_frame_encode(&empty, &outer);
    assert_int_equal(peal_message_peek(peal_buf_span(&outer), &head), PEAL_EBAD_MESSAGE);
    peal_buf_fini(&outer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(envelope_survives_a_round_trip),
        cmocka_unit_test(envelope_without_group_or_data_is_refused),
        cmocka_unit_test(message_peek_finds_group_and_position),
    };
    return cmocka_run_group_tests_name("envelope", tests, NULL, NULL);
}

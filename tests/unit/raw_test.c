#include "node/dialect/dialect.h"

#include "node/wsframe.h"
#include "tests/unit/unit.h"

static const struct peal_message_facts facts = {.replayed = true, .unread = 4, .rev = 9};

/* Frees frame. */
static void expect_frame(struct peal_buf *frame, int opcode, const void *payload, size_t size)
{
    assert_false(frame->failed);
    assert_int_equal(frame->size, 2 + size);
    assert_int_equal((unsigned char)frame->at[0], 0x80 | opcode);
    assert_int_equal((unsigned char)frame->at[1], size);
    assert_memory_equal(frame->at + 2, payload, size);
    peal_buf_fini(frame);
}

static void expect_message(const struct peal_envelope *env, int opcode, const void *payload,
                           size_t size)
{
    struct peal_buf out = {0};
    peal_dialect_raw.message(&out, env, &facts);
    expect_frame(&out, opcode, payload, size);
}

static void raw_message_is_the_data_and_nothing_else(void **state)
{
    (void)state;
    struct peal_envelope env = {.group = peal_span_of("room"),
                                .id = peal_span_of("m"),
                                .event = peal_span_of("e"),
                                .offset = 3,
                                .data = peal_span_of("{ \"n\":1e2}")};
    expect_message(&env, PEAL_WS_TEXT, "{ \"n\":1e2}", 10);
    env.data_kind = PEAL_DATA_TEXT;
    env.data = peal_span_make("a\"\0", 3); /* not escaped */
    expect_message(&env, PEAL_WS_TEXT, "a\"\0", 3);
    env.data_kind = PEAL_DATA_BINARY;
    env.data = peal_span_make("\xff\0", 2);
    expect_message(&env, PEAL_WS_BINARY, "\xff\0", 2);
    env.data = peal_span_of("");
    expect_message(&env, PEAL_WS_BINARY, "", 0);
}

static void raw_says_no_event_and_waits_for_no_hello(void **state)
{
    (void)state;
    struct peal_buf out = {0};
    peal_dialect_raw.event(&out, &(struct peal_event){.type = PEAL_EVENT_OK});
    assert_int_equal(out.size, 0);
    assert_int_equal(peal_dialect_raw.events, 0);
    assert_false(peal_dialect_raw.hello);
    assert_false(peal_dialect_raw.acks);
}

static void raw_ping_and_farewell_are_control_frames(void **state)
{
    (void)state;
    struct peal_buf out = {0};
    peal_dialect_raw.ping(&out, peal_span_of("12"));
    expect_frame(&out, PEAL_WS_PING, "12", 2);
    peal_dialect_raw.farewell(&out, 4208, "slow");
    expect_frame(&out, PEAL_WS_CLOSE, "\x10\x70slow", 6);
}

static void dialect_is_found_by_its_kind(void **state)
{
    (void)state;
    assert_ptr_equal(peal_dialect_of(PEAL_DIALECT_RAW), &peal_dialect_raw);
    assert_ptr_equal(peal_dialect_of(PEAL_DIALECT_NATIVE), &peal_dialect_native);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(raw_message_is_the_data_and_nothing_else),
        cmocka_unit_test(raw_says_no_event_and_waits_for_no_hello),
        cmocka_unit_test(raw_ping_and_farewell_are_control_frames),
        cmocka_unit_test(dialect_is_found_by_its_kind),
    };
    return cmocka_run_group_tests_name("raw", tests, NULL, NULL);
}

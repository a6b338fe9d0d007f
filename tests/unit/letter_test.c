#include "node/letter.h"

#include <stdlib.h>

#include "proto/envelope.h"
#include "tests/unit/unit.h"

static void encode_message(struct peal_buf *out)
{
    struct peal_envelope env = {.group = peal_span_of("room"),
                                .epoch = 7,
                                .offset = 3,
                                .id = peal_span_of("m"),
                                .data = peal_span_of("true")};
    struct peal_buf envelope = {0};
    peal_envelope_encode(&env, &envelope);
    struct peal_frame frame = {.type = PEAL_F_MESSAGE, .envelope = peal_buf_span(&envelope)};
    peal_frame_encode(&frame, out);
    peal_buf_fini(&envelope);
}

static void letter_holds_its_own_copy_of_the_frame(void **state)
{
    (void)state;
    struct peal_buf buf = {0};
    struct peal_letter *letter;
    encode_message(&buf);
    assert_int_equal(peal_letter_new(peal_buf_span(&buf), &letter), PEAL_OK);
    memset(buf.at, 0xff, buf.size);
    peal_buf_fini(&buf);
    assert_int_equal(letter->kind, PEAL_LETTER_FRAME);
    assert_int_equal(letter->frame.type, PEAL_F_MESSAGE);
    assert_true(peal_span_is(letter->env.group, "room"));
    assert_true(peal_span_is(letter->env.data, "true"));
    assert_int_equal(letter->env.offset, 3);
    peal_letter_unref(letter);
}

static void letter_with_lists_frees_them_with_its_last_reference(void **state)
{
    (void)state;
    uint64_t offsets[] = {4, 6};
    struct peal_frame frame = {.type = PEAL_F_STATE, .group = peal_span_of("user:bob")};
    struct peal_buf buf = {0};
    struct peal_letter *letter;
    frame.offsets.at = offsets;
    frame.offsets.count = 2;
    peal_frame_encode(&frame, &buf);
    assert_int_equal(peal_letter_new(peal_buf_span(&buf), &letter), PEAL_OK);
    peal_buf_fini(&buf);
    assert_ptr_equal(peal_letter_ref(letter), letter);
    peal_letter_unref(letter);
    assert_int_equal(letter->frame.offsets.count, 2); /* the address sanitizer looks on */
    assert_int_equal(letter->frame.offsets.at[1], 6);
    peal_letter_unref(letter);
    peal_letter_unref(NULL);
}

static void letter_of_garbage_is_refused(void **state)
{
    (void)state;
    struct peal_letter *letter = (void *)&letter;
    assert_int_equal(peal_letter_new(peal_span_of("junk"), &letter), PEAL_EBAD_MESSAGE);
    assert_null(letter);
    assert_int_equal(peal_letter_new(peal_span_of(""), &letter), PEAL_EBAD_MESSAGE);
}

static void letter_of_a_message_with_a_bad_envelope_is_refused(void **state)
{
    (void)state;
    struct peal_frame frame = {.type = PEAL_F_MESSAGE, .envelope = peal_span_of("junk")};
    struct peal_buf buf = {0};
    struct peal_letter *letter;
    peal_frame_encode(&frame, &buf);
    assert_int_equal(peal_letter_new(peal_buf_span(&buf), &letter), PEAL_EBAD_MESSAGE);
    assert_null(letter);
    peal_buf_fini(&buf);
}

static void letter_made_here_says_what_it_is(void **state)
{
    (void)state;
    struct peal_letter *note = peal_letter_note(PEAL_LETTER_LINK, true);
    assert_int_equal(note->kind, PEAL_LETTER_LINK);
    assert_true(note->degraded);
    peal_letter_unref(note);
    struct peal_letter *failed = peal_letter_failed(77, PEAL_ENO_ROUTER);
    assert_int_equal(failed->kind, PEAL_LETTER_FRAME);
    assert_int_equal(failed->frame.req, 77);
    assert_int_equal(failed->frame.code, PEAL_ENO_ROUTER);
    peal_letter_unref(failed);
}

static void order_holds_its_own_copy_of_group_and_frame(void **state)
{
    (void)state;
    char group[] = "room";
    char frame[] = "\x01\x02";
    struct peal_order *order =
        peal_order_new(PEAL_ORDER_SEND, 3, 9, peal_span_of(group), peal_span_make(frame, 2));
    group[0] = frame[0] = 'x';
    assert_int_equal(order->kind, PEAL_ORDER_SEND);
    assert_int_equal(order->worker, 3);
    assert_int_equal(order->req, 9);
    assert_true(peal_span_is(order->group, "room"));
    assert_true(peal_span_is(order->frame, "\x01\x02"));
    peal_order_free(order);
    order = peal_order_new(PEAL_ORDER_LEAVE, 0, 0, peal_span_of("room"), (struct peal_span){0});
    assert_int_equal(order->frame.size, 0);
    peal_order_free(order);
    peal_order_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letter_holds_its_own_copy_of_the_frame),
        cmocka_unit_test(letter_with_lists_frees_them_with_its_last_reference),
        cmocka_unit_test(letter_of_garbage_is_refused),
        cmocka_unit_test(letter_of_a_message_with_a_bad_envelope_is_refused),
        cmocka_unit_test(letter_made_here_says_what_it_is),
        cmocka_unit_test(order_holds_its_own_copy_of_group_and_frame),
    };
    return cmocka_run_group_tests_name("letter", tests, NULL, NULL);
}

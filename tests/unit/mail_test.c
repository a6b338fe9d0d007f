#include "node/mail.h"

#include <stdlib.h>

#include "proto/envelope.h"
#include "tests/unit/unit.h"

static void add_leave(struct peal_mail *mail, const char *group)
{
    struct peal_frame frame = {.type = PEAL_F_LEAVE, .group = peal_span_of(group)};
    struct peal_buf buf = {0};
    peal_frame_encode(&frame, &buf);
    assert_int_equal(peal_mail_add_frame(mail, peal_buf_span(&buf)), PEAL_OK);
    peal_buf_fini(&buf);
}

static void mail_gives_frames_and_letters_in_order(void **state)
{
    (void)state;
    struct peal_mail *mail = peal_mail_new();
    struct peal_letter *note = peal_letter_note(PEAL_LETTER_LINK, true);
    struct peal_letter room = {0};
    struct peal_letter *letter;
    add_leave(mail, "a");
    assert_int_equal(peal_mail_add_letter(mail, note), PEAL_OK);
    add_leave(mail, "b");
    peal_letter_unref(note); /* the mail has a reference of its own */
    assert_int_equal(mail->count, 3);

    letter = peal_mail_next(mail, &room);
    assert_ptr_equal(letter, &room);
    assert_int_equal(letter->kind, PEAL_LETTER_FRAME);
    assert_true(peal_span_is(letter->frame.group, "a"));
    letter = peal_mail_next(mail, &room);
    assert_int_equal(letter->kind, PEAL_LETTER_LINK);
    assert_true(letter->degraded);
    letter = peal_mail_next(mail, &room);
    assert_true(peal_span_is(letter->frame.group, "b"));
    assert_null(peal_mail_next(mail, &room));
    assert_null(peal_mail_next(mail, &room));
    peal_mail_free(mail);
}

static void mail_of_a_message_gives_its_envelope(void **state)
{
    (void)state;
    struct peal_envelope env = {.id = peal_span_of("x"),
                                .group = peal_span_of("room"),
                                .epoch = 7,
                                .offset = 3,
                                .data = peal_span_of("true")};
    struct peal_buf inner = {0};
    struct peal_buf outer = {0};
    struct peal_letter room = {0};
    struct peal_mail *mail = peal_mail_new();
    peal_envelope_encode(&env, &inner);
    struct peal_frame frame = {.type = PEAL_F_MESSAGE, .envelope = peal_buf_span(&inner)};
    peal_frame_encode(&frame, &outer);
    assert_int_equal(peal_mail_add_frame(mail, peal_buf_span(&outer)), PEAL_OK);
    peal_buf_fini(&inner);
    peal_buf_fini(&outer);
    struct peal_letter *letter = peal_mail_next(mail, &room);
    assert_int_equal(letter->frame.type, PEAL_F_MESSAGE);
    assert_true(peal_span_is(letter->env.group, "room"));
    assert_true(peal_span_is(letter->env.data, "true"));
    peal_mail_free(mail);
}

static void mail_with_an_unreadable_frame_tells_of_a_loss_and_goes_on(void **state)
{
    (void)state;
    struct peal_mail *mail = peal_mail_new();
    struct peal_letter room = {0};
    assert_int_equal(peal_mail_add_frame(mail, peal_span_of("junk")), PEAL_OK);
    add_leave(mail, "b");
    assert_int_equal(peal_mail_next(mail, &room)->kind, PEAL_LETTER_LOST);
    struct peal_letter *letter = peal_mail_next(mail, &room);
    assert_int_equal(letter->kind, PEAL_LETTER_FRAME);
    assert_true(peal_span_is(letter->frame.group, "b"));
    assert_null(peal_mail_next(mail, &room));
    peal_mail_free(mail);
}

static void mail_freed_half_read_drops_its_letters(void **state)
{
    (void)state;
    struct peal_mail *mail = peal_mail_new();
    struct peal_letter *note = peal_letter_note(PEAL_LETTER_LINK, false);
    struct peal_letter room = {0};
    for (int i = 0; i < 3; i++)
        assert_int_equal(peal_mail_add_letter(mail, note), PEAL_OK);
    add_leave(mail, "b");
    assert_int_equal(atomic_load(&note->refs), 4);
    assert_ptr_equal(peal_mail_next(mail, &room), note);
    assert_ptr_equal(peal_mail_next(mail, &room), note);
    assert_int_equal(atomic_load(&note->refs),
                     4); /* what they point to stays as long as the mail */
    peal_mail_free(mail);
    assert_int_equal(atomic_load(&note->refs), 1);
    peal_letter_unref(note);
    peal_mail_free(NULL);
}

static void mail_is_full_by_letters_or_by_bytes(void **state)
{
    (void)state;
    static char large[PEAL_MAIL_BYTES];
    struct peal_mail *mail = peal_mail_new();
    for (int i = 0; i < PEAL_MAIL_LETTERS; i++) {
        assert_false(peal_mail_full(mail));
        add_leave(mail, "a");
    }
    assert_true(peal_mail_full(mail));
    peal_mail_free(mail);

    /* The bytes of a letter count as well, though they are elsewhere. */
    struct peal_span entry = peal_span_make(large, sizeof large);
    struct peal_frame page = {.type = PEAL_F_PAGE, .entries = {&entry, 1}};
    struct peal_buf buf = {0};
    struct peal_letter *letter;
    peal_frame_encode(&page, &buf);
    assert_int_equal(peal_letter_new(peal_buf_span(&buf), &letter), PEAL_OK);
    peal_buf_fini(&buf);
    mail = peal_mail_new();
    assert_int_equal(peal_mail_add_letter(mail, letter), PEAL_OK);
    assert_true(peal_mail_full(mail));
    peal_letter_unref(letter);
    peal_mail_free(mail);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mail_gives_frames_and_letters_in_order),
        cmocka_unit_test(mail_of_a_message_gives_its_envelope),
        cmocka_unit_test(mail_with_an_unreadable_frame_tells_of_a_loss_and_goes_on),
        cmocka_unit_test(mail_freed_half_read_drops_its_letters),
        cmocka_unit_test(mail_is_full_by_letters_or_by_bytes),
    };
    return cmocka_run_group_tests_name("mail", tests, NULL, NULL);
}

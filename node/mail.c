/* An item is a size of four bytes and a frame, or a zero and a pointer to a letter. */
#include "node/mail.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"

enum { ROOM = 1000 }; /* to begin with; mail of a quiet node has one letter */

struct peal_mail *peal_mail_new(void)
{
    struct peal_mail *mail = calloc(1, sizeof *mail);
    if (mail == NULL) return NULL;
    if (peal_buf_reserve(&mail->items, ROOM) != NULL) return mail;
    free(mail);
    return NULL;
}

/* Takes the next item: its frame, or its letter. False at the end. */
static bool take_item(struct peal_mail *mail, struct peal_span *frame, struct peal_letter **letter)
{
    uint32_t size;
    *letter = NULL;
    if (mail->at == mail->items.size) return false;
    PEAL_ASSERT(mail->items.size - mail->at > sizeof size);
    memcpy(&size, mail->items.at + mail->at, sizeof size);
    mail->at += sizeof size;
    *frame = peal_span_make(mail->items.at + mail->at, size);
    if (size == 0) memcpy(letter, mail->items.at + mail->at, sizeof *letter);
    mail->at += size > 0 ? size : sizeof *letter;
    PEAL_ASSERT(mail->at <= mail->items.size);
    return true;
}

void peal_mail_free(struct peal_mail *mail)
{
    struct peal_span frame;
    struct peal_letter *letter;
    if (mail == NULL) return;
    mail->at = 0;
    while (take_item(mail, &frame, &letter))
        peal_letter_unref(letter);
    peal_buf_fini(&mail->items);
    free(mail);
}

static enum peal_err add(struct peal_mail *mail, uint32_t size, const void *at, size_t at_size)
{
    PEAL_ASSERT(mail->at == 0); /* not read yet */
    char *to = peal_buf_reserve(&mail->items, sizeof size + at_size);
    if (to == NULL) {
        mail->items.failed = false; /* what is in there stays good */
        return PEAL_ENOMEM;
    }
    memcpy(to, &size, sizeof size);
    memcpy(to + sizeof size, at, at_size);
    mail->items.size += sizeof size + at_size;
    mail->count++;
    return PEAL_OK;
}

enum peal_err peal_mail_add_frame(struct peal_mail *mail, struct peal_span frame)
{
    PEAL_ASSERT(frame.size > 0);
    PEAL_ASSERT(frame.size <= UINT32_MAX);
    enum peal_err err = add(mail, (uint32_t)frame.size, frame.at, frame.size);
    if (err == PEAL_OK) mail->bytes += frame.size;
    return err;
}

enum peal_err peal_mail_add_letter(struct peal_mail *mail, struct peal_letter *letter)
{
    enum peal_err err = add(mail, 0, &letter, sizeof(letter));
    if (err != PEAL_OK) return err;
    peal_letter_ref(letter);
    mail->bytes += letter->size;
    return PEAL_OK;
}

struct peal_letter *peal_mail_next(struct peal_mail *mail, struct peal_letter *room)
{
    struct peal_span frame;
    struct peal_letter *letter;
    peal_frame_fini(&room->frame);
    if (!take_item(mail, &frame, &letter)) return NULL;
    if (letter != NULL) return letter;
    enum peal_err err = peal_letter_read(room, frame);
    if (err == PEAL_OK) return room;
    peal_log(PEAL_LOG_ERROR, "letter.bad_frame", "code=%s", peal_err_word(err));
    room->kind = PEAL_LETTER_LOST;
    return room;
}

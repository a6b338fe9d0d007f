/* node/mail.h: what a turn of the bus has for one worker: letters, in order.
 *
 * One allocation and one place in the worker's mailbox for many letters. A frame goes in as the
 * router sent it and is decoded by the worker, where it is needed: what the bus decodes would have
 * to travel between two cores. What has no frame, or a large one, goes in as a letter.
 *
 * Shape:  the bus hands it over when it is full or its turn ends.
 * Thread: filled by the bus, then read by the worker. Memory: belongs to whoever holds it. */
#ifndef PEAL_NODE_MAIL_H
#define PEAL_NODE_MAIL_H

#include "base/buf.h"
#include "node/letter.h"

enum {
    PEAL_MAIL_LETTERS = 256,     /* a full mail has so many letters */
    PEAL_MAIL_BYTES = 64 * 1024, /* or bytes */
    PEAL_MAIL_LARGE = 8 * 1024,  /* a frame beyond this is worth a letter of its own */
};

struct peal_mail {
    struct peal_buf items;
    uint32_t count;         /* letters put in */
    size_t bytes;           /* of their frames, wherever they are */
    size_t at;              /* of the next item to be read */
    struct peal_mail *next; /* for whoever keeps several */
};

/* NULL on ENOMEM. */
struct peal_mail *peal_mail_new(void);
/* NULL is fine. */
void peal_mail_free(struct peal_mail *mail);
static inline bool peal_mail_full(const struct peal_mail *mail)
{
    return mail->count >= PEAL_MAIL_LETTERS || mail->bytes >= PEAL_MAIL_BYTES;
}
/* Appends a copy of a frame, which is not empty. Errors: PEAL_ENOMEM, and nothing has changed. */
enum peal_err peal_mail_add_frame(struct peal_mail *mail, struct peal_span frame);
/* Appends a letter, taking a reference of its own. Errors: PEAL_ENOMEM, likewise. */
enum peal_err peal_mail_add_letter(struct peal_mail *mail, struct peal_letter *letter);
/* The next letter, or NULL at the end. A frame is decoded into *room, which is zeroed before the
 * first call; one that cannot be read is a letter that got LOST. What is returned is there until
 * the next call, what it points to as long as the mail. */
struct peal_letter *peal_mail_next(struct peal_mail *mail, struct peal_letter *room);

#endif

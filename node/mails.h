/* node/mails.h: what the bus has for each worker.
 *
 * What comes for a worker during a turn of the bus goes into one mail, which is handed over at the
 * end of the turn, or as soon as it is full. A worker whose mailbox has no room loses that mail,
 * and with it any letter that found no memory. From then on the worker counts as one that has lost
 * something: its next mail begins with a note that says so, and a second one that says whether
 * links are up, because that may have been among what was lost. It counts as such until a mail with
 * these notes was taken. The worker then asks for the position of everything it holds, so that what
 * was lost needs no memory here.
 *
 * Shape:  at most one open mail per worker. The way of a message (add_frame) is inline, for most of
 *         them find a mail that is open and has room.
 * Thread: the bus. Memory: owns the open mails; one that is handed over is the worker's.
 * Source: docs/ARCHITECTURE.md, "Queues". */
#ifndef PEAL_NODE_MAILS_H
#define PEAL_NODE_MAILS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/span.h"
#include "node/letter.h"
#include "node/mail.h"

enum { PEAL_WORKERS_MAX = 64 };

struct peal_mails_io {
    void *ctx;
    /* Hands a mail to a worker. Errors: PEAL_EFULL, and it stays here. */
    enum peal_err (*post)(void *ctx, uint8_t worker, struct peal_mail *mail);
};

struct peal_mails {
    struct peal_mails_io io;
    uint8_t worker_count;
    bool degraded;    /* as the workers were last told */
    uint64_t lost;    /* bit per worker that has lost something and was not told yet */
    uint64_t telling; /* bit per worker whose open mail says so */
    struct peal_mail *open[PEAL_WORKERS_MAX];
};

/* Workers begin with links that are away. worker_count is at most PEAL_WORKERS_MAX. */
void peal_mails_init(struct peal_mails *mails, const struct peal_mails_io *io,
                     uint8_t worker_count);
/* Drops the open mails. A zeroed struct is fine. */
void peal_mails_fini(struct peal_mails *mails);

/* What was for the worker is gone. */
void peal_mails_lose(struct peal_mails *mails, uint8_t worker);
/* The same, of one letter, which is counted. */
void peal_mails_drop(struct peal_mails *mails, uint8_t worker);
/* Opens a mail for a worker that has none, with what has to be said first. NULL when memory is
 * short. */
struct peal_mail *peal_mails_open(struct peal_mails *mails, uint8_t worker);
/* Hands over the open mail of the worker, if there is one. */
void peal_mails_deliver(struct peal_mails *mails, uint8_t worker);
/* The same of all workers: at the end of a turn. */
void peal_mails_flush(struct peal_mails *mails);

/* Adds a letter, taking a reference of its own. A worker that does not exist gets nothing. */
void peal_mails_add_letter(struct peal_mails *mails, uint8_t worker, struct peal_letter *letter);
/* Adds a frame of at least PEAL_MAIL_LARGE bytes, as one letter that they share. */
void peal_mails_add_large(struct peal_mails *mails, uint64_t workers, struct peal_span frame);
/* Adds a frame of a router, as it came, for each of the workers: bit per worker. */
static inline void peal_mails_add_frame(struct peal_mails *mails, uint64_t workers,
                                        struct peal_span frame)
{
    if (frame.size >= PEAL_MAIL_LARGE) {
        peal_mails_add_large(mails, workers, frame);
        return;
    }
    for (; workers != 0; workers &= workers - 1) {
        uint8_t worker = (uint8_t)__builtin_ctzll(workers);
        if (worker >= mails->worker_count) break;
        struct peal_mail *mail = mails->open[worker];
        if (mail == NULL) mail = peal_mails_open(mails, worker);
        if (mail == NULL || peal_mail_add_frame(mail, frame) != PEAL_OK)
            peal_mails_drop(mails, worker);
        else if (peal_mail_full(mail))
            peal_mails_deliver(mails, worker);
    }
}
/* Adds the same frame for all workers. */
void peal_mails_add_for_all(struct peal_mails *mails, struct peal_span frame);
/* Adds the answer to a request, as it came, for the worker whose request it was. Of a request that
 * no worker made it adds nothing. */
void peal_mails_add_answer(struct peal_mails *mails, uint64_t req, struct peal_span frame);
/* Adds for the same worker that its request failed. req 0: nobody wants to know. */
void peal_mails_add_failed(struct peal_mails *mails, uint64_t req, enum peal_err err);

/* Says to all workers whether some router is away, if they were last told otherwise. */
void peal_mails_tell_links(struct peal_mails *mails, bool degraded);
/* Says to all workers that a router has learned anew what is held here: who is there is for them
 * to say. */
void peal_mails_tell_synced(struct peal_mails *mails);
/* Says to workers that have lost something that they did, when nothing else comes for them. One
 * that is still full is told by a later call. */
void peal_mails_tell_losses(struct peal_mails *mails);

#endif

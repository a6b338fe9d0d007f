/* node/letter.h: what the bus hands to workers, and workers to the bus.
 *
 * A letter is one frame of the router, or something that the bus has to say. It comes in a mail
 * (node/mail.h), most often as a frame that the worker decodes for itself; a large one is a letter
 * of its own, immutable, counted, and shared by the workers it concerns. An order is one wish of a
 * worker; it belongs to whoever holds it.
 *
 * Thread: a letter is free-threaded; an order passes from the worker to the bus. */
#ifndef PEAL_NODE_LETTER_H
#define PEAL_NODE_LETTER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/span.h"
#include "proto/msg.h"
#include "proto/wire.h"

enum peal_letter_kind {
    PEAL_LETTER_FRAME, /* frame is MESSAGE, JOINED, AT, STATE, or the answer to a request */
    PEAL_LETTER_LOST,  /* letters were dropped because the mailbox was full: ask again */
    PEAL_LETTER_SYNC,  /* a router was told anew what is held here: tell it also who is there */
    PEAL_LETTER_LINK,  /* links changed: `degraded` says whether some router is away */
};

struct peal_letter {
    _Atomic uint32_t refs;
    enum peal_letter_kind kind;
    bool degraded;
    struct peal_frame frame; /* points into the copy behind the letter, or where it was read from */
    struct peal_envelope env; /* of a MESSAGE */
    size_t size;              /* of that copy */
};

/* Decodes a frame that stays where it is into *letter, which has no reference count and needs only
 * peal_frame_fini. Errors: as peal_frame_decode, and it then needs nothing. */
enum peal_err peal_letter_read(struct peal_letter *letter, struct peal_span frame);
/* Copies and decodes a frame. Errors: as peal_frame_decode, PEAL_ENOMEM. */
enum peal_err peal_letter_new(struct peal_span frame, struct peal_letter **out);
/* A letter without a frame; NULL on ENOMEM. */
struct peal_letter *peal_letter_note(enum peal_letter_kind kind, bool degraded);
/* An answer made here, for a request that cannot be sent; NULL on ENOMEM. */
struct peal_letter *peal_letter_failed(uint64_t req, enum peal_err err);
struct peal_letter *peal_letter_ref(struct peal_letter *letter);
void peal_letter_unref(struct peal_letter *letter); /* NULL is fine */

enum peal_order_kind {
    PEAL_ORDER_JOIN,  /* this worker wants the group; answered by JOINED with req */
    PEAL_ORDER_LEAVE, /* it no longer does */
    PEAL_ORDER_SEND,  /* frame goes to the group's router; the answer carries req */
};

struct peal_order {
    enum peal_order_kind kind;
    uint8_t worker;
    uint64_t req; /* worker << PEAL_REQ_WORKER_SHIFT | number; 0 = no answer wanted */
    struct peal_span group;
    struct peal_span frame;   /* SEND: encoded */
    bool repair;              /* SEND: a page for a member that is behind; see node/repairs.h, */
    struct peal_link in_line; /* whose these two are */
    uint64_t since_ms;
    char storage[];
};

enum { PEAL_REQ_WORKER_SHIFT = 48 };
/* Whose request it is. */
static inline uint8_t peal_req_worker(uint64_t req)
{
    return (uint8_t)(req >> PEAL_REQ_WORKER_SHIFT);
}

/* Copies group and frame; NULL on ENOMEM. */
struct peal_order *peal_order_new(enum peal_order_kind kind, uint8_t worker, uint64_t req,
                                  struct peal_span group, struct peal_span frame);
void peal_order_free(struct peal_order *order); /* NULL is fine */

#endif

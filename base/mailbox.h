/* base/mailbox.h: the bounded queue through which one thread hands pointers to another.
 *
 * Any number of senders, one receiver. Sending never waits: a full mailbox refuses and the
 * sender decides what that means (docs/ARCHITECTURE.md, "Queues"). The receiver's event
 * loop watches `fd`, which becomes readable when there is something to take.
 *
 * Thread: push anywhere; pop and arm only in the receiving thread.
 * Memory: the ring is fixed at init; what the pointers point at passes to the receiver.
 * Source: D. Vyukov, "Bounded MPMC queue", 1024cores.net. */
#ifndef PEAL_BASE_MAILBOX_H
#define PEAL_BASE_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct peal_mailbox_cell {
    _Atomic uint64_t turn; /* which lap of head or tail may use the cell */
    void *item;
};

struct peal_mailbox {
    struct peal_mailbox_cell *cells;
    uint64_t mask;          /* number of cells - 1 */
    int fd;                 /* eventfd: readable when the receiver should look */
    _Atomic uint64_t bytes; /* for its users, to bound what waits; 0 at init */
    _Alignas(64) _Atomic uint64_t tail;
    _Alignas(64) uint64_t head;
    _Alignas(64) _Atomic bool signalled;
};

/* `slots` is a power of two, at least 2. Errors: PEAL_ENOMEM, PEAL_EIO (no descriptor left). */
enum peal_err peal_mailbox_init(struct peal_mailbox *box, uint32_t slots);
/* Closes the eventfd and frees the ring. What is still inside must have been popped. */
void peal_mailbox_fini(struct peal_mailbox *box);
/* Hands item over and wakes the receiver. Errors: PEAL_EFULL, and the item stays here. */
enum peal_err peal_mailbox_push(struct peal_mailbox *box, void *item);
/* Hands item over, and the sender owes a wake: it calls peal_mailbox_wake once for all that it has
 * put, before it waits for anything. Errors: PEAL_EFULL, and the item stays here; the receiver has
 * been woken then, so nothing is owed any more. */
enum peal_err peal_mailbox_put(struct peal_mailbox *box, void *item);
/* Takes the oldest item; NULL when there is none. */
void *peal_mailbox_pop(struct peal_mailbox *box);
/* Called by the receiver when fd was readable, before it pops: clears the signal, so that a
 * push from now on wakes it again. */
void peal_mailbox_arm(struct peal_mailbox *box);
/* Wakes the receiver: after puts, or without an item (also used after it stopped popping early). */
void peal_mailbox_wake(struct peal_mailbox *box);

#endif

/* Each cell carries a turn number. A sender may fill cell i when turn == position, and then
 * sets turn = position + 1; the receiver may empty it when turn == position + 1, and then sets
 * turn = position + slots, which is the sender's position one lap later. Nobody ever waits.
 *
 * Waking costs a system call, so only the first push after an arm() makes one. The receiver
 * arms before it pops: a push that it does not see while popping comes after the arm and
 * therefore signals again. */
#include "base/mailbox.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"

enum peal_err peal_mailbox_init(struct peal_mailbox *box, uint32_t slots)
{
    PEAL_ASSERT(slots >= 2);
    PEAL_ASSERT((slots & (slots - 1)) == 0);
    *box = (struct peal_mailbox){.fd = -1};
    box->cells = calloc(slots, sizeof *box->cells);
    if (box->cells == NULL) return PEAL_ENOMEM;
    box->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (box->fd < 0) {
        free(box->cells);
        *box = (struct peal_mailbox){.fd = -1};
        return PEAL_EIO;
    }
    box->mask = slots - 1;
    for (uint32_t i = 0; i < slots; i++)
        atomic_init(&box->cells[i].turn, i);
    return PEAL_OK;
}

void peal_mailbox_fini(struct peal_mailbox *box)
{
    if (box->cells == NULL) return;
    PEAL_ASSERT(peal_mailbox_pop(box) == NULL);
    close(box->fd);
    free(box->cells);
    *box = (struct peal_mailbox){.fd = -1};
}

void peal_mailbox_wake(struct peal_mailbox *box)
{
    if (atomic_exchange_explicit(&box->signalled, true, memory_order_seq_cst)) return;
    uint64_t one = 1;
    ssize_t n = write(box->fd, &one, sizeof one);
    /* The counter of an eventfd cannot be full here: it is written once per arm. */
    PEAL_ASSERT(n == (ssize_t)sizeof one);
}

enum peal_err peal_mailbox_push(struct peal_mailbox *box, void *item)
{
    PEAL_ASSERT(item != NULL);
    uint64_t position = atomic_load_explicit(&box->tail, memory_order_relaxed);
    for (;;) {
        struct peal_mailbox_cell *cell = &box->cells[position & box->mask];
        uint64_t turn = atomic_load_explicit(&cell->turn, memory_order_acquire);
        if (turn == position) {
            if (!atomic_compare_exchange_weak_explicit(&box->tail, &position, position + 1,
                                                       memory_order_relaxed, memory_order_relaxed))
                continue;
            cell->item = item;
            atomic_store_explicit(&cell->turn, position + 1, memory_order_release);
            peal_mailbox_wake(box);
            return PEAL_OK;
        }
        if (turn < position) return PEAL_EFULL;
        position = atomic_load_explicit(&box->tail, memory_order_relaxed);
    }
}

void *peal_mailbox_pop(struct peal_mailbox *box)
{
    struct peal_mailbox_cell *cell = &box->cells[box->head & box->mask];
    uint64_t turn = atomic_load_explicit(&cell->turn, memory_order_acquire);
    if (turn != box->head + 1) return NULL;
    void *item = cell->item;
    atomic_store_explicit(&cell->turn, box->head + box->mask + 1, memory_order_release);
    box->head++;
    return item;
}

void peal_mailbox_arm(struct peal_mailbox *box)
{
    uint64_t count;
    ssize_t n = read(box->fd, &count, sizeof count);
    (void)n; /* EAGAIN when the wake-up was for something else: nothing to clear then. */
    /* An exchange, not a store: it takes part in the order of the senders' exchanges, so that what
     * one of them pushed before it found the signal set is seen by the pops that follow. */
    (void)atomic_exchange_explicit(&box->signalled, false, memory_order_seq_cst);
}

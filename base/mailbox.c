/* Each cell carries a turn number. A sender may fill cell i when turn == position, and then
 * sets turn = position + 1; the receiver may empty it when turn == position + 1, and then sets
 * turn = position + slots, which is the sender's position one lap later. Nobody ever waits.
 *
 * Waking costs a system call, so only the first wake after an arm() makes one, and a sender that
 * has many items wakes once behind the last. No wake-up is lost: wake() and arm() are exchanges of
 * one flag and so have an order. A wake that finds the flag set comes before an arm that has yet to
 * clear it, and that arm sees everything the sender wrote before; a wake behind the arm finds the
 * flag clear and makes the descriptor readable. Either way the pops behind the arm see all that was
 * put before the wake. An item whose position was taken but which is not filled yet hides those
 * behind it; its own sender still owes a wake, which uncovers them. */
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

enum peal_err peal_mailbox_put(struct peal_mailbox *box, void *item)
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
            return PEAL_OK;
        }
        if (turn < position) {
            peal_mailbox_wake(box); /* what fills it may not have been announced yet */
            return PEAL_EFULL;
        }
        position = atomic_load_explicit(&box->tail, memory_order_relaxed);
    }
}

enum peal_err peal_mailbox_push(struct peal_mailbox *box, void *item)
{
    enum peal_err err = peal_mailbox_put(box, item);
    if (err == PEAL_OK) peal_mailbox_wake(box);
    return err;
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
    /* Nothing was signalled since the last time: nothing to clear, and who pushes now signals. */
    if (!atomic_load_explicit(&box->signalled, memory_order_seq_cst)) return;
    uint64_t count;
    /* A sender has set the flag and is about to write. Cleared now, the flag would no longer tell
     * that the descriptor is readable, and the receiver's loop would spin. The write wakes it
     * again, also for whoever finds the flag set until then. */
    if (read(box->fd, &count, sizeof count) != (ssize_t)sizeof count) return;
    /* An exchange, not a store: it takes part in the order of the senders' exchanges, so that what
     * one of them pushed before it found the signal set is seen by the pops that follow. */
    (void)atomic_exchange_explicit(&box->signalled, false, memory_order_seq_cst);
}

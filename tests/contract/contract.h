/* tests/contract/contract.h: what every store has to keep, as tests that any implementation of
 * storage/store.h can be run through.
 *
 * The sentences that are tested stand in storage/store.h, docs/PROTOCOL.md ("Delivered, read,
 * unread") and docs/ARCHITECTURE.md. A second implementation writes one struct contract_store and a
 * program like tests/unit/contract_test.c. The cases know nothing of what is below the folder.
 *
 * Thread: the functions are called as storage/store.h says. */
#ifndef PEAL_TESTS_CONTRACT_H
#define PEAL_TESTS_CONTRACT_H

#include <stddef.h>
#include <sys/types.h>

#include "storage/options.h"
#include "storage/store.h"

/* Rules that a store may not keep yet. Cases of one that is missing are skipped by name, and the
 * walk (walk.h) does not ask for it. */
enum contract_can {
    /* A newer message replaces the older one of the same collapse key, read or not; the hole is a
     * skip. */
    CONTRACT_COLLAPSE = 1,
    /* A settled message goes after keep.settled also when an older one is not settled. */
    CONTRACT_SETTLED_BEHIND = 2,
    /* DROP forgets the ids of the slot's groups: a retry is stored and not told as a duplicate. */
    CONTRACT_DROP_IDS = 4,
    /* EXPORT takes ids along whose messages are gone already. */
    CONTRACT_MOVE_OLD_IDS = 8,
};

struct contract_store {
    const char *name;
    unsigned can; /* CONTRACT_* */
    enum peal_err (*start)(const char *dir, const struct peal_config *config,
                           const struct peal_store_events *events,
                           const struct peal_store_options *options, void **out, char *why,
                           size_t why_size);
    void (*stop)(void *store);
    enum peal_err (*submit)(void *store, struct peal_store_op *op);
    enum peal_err (*read)(void *store, struct peal_store_fetch *fetch);
    struct peal_span (*slots)(const void *store);
    uint64_t (*generation)(const void *store);
    /* Ends without any warning the store that process `pid` has started: kill -9, where the store
     * is a part of its process. The process must not answer afterwards. */
    void (*crash)(pid_t pid);
};

/* The implementation of storage/. */
extern const struct contract_store contract_local;

/* Each runs its cases and returns how many failed. */
int contract_numbers(const struct contract_store *impl); /* offsets, epochs, order, ids */
int contract_marks(const struct contract_store *impl);   /* acks, reads, unread, rev */
int contract_keep(const struct contract_store *impl);    /* limits, age, TTL, settling, collapse */
int contract_pages(const struct contract_store *impl);
int contract_slots(const struct contract_store *impl); /* slots that move, and their record */
int contract_life(const struct contract_store *impl);  /* start, stop, kill -9, clocks */

#endif

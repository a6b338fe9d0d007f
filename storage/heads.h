/* storage/heads.h: the heads that one write transaction works on, and their messages.
 *
 * A head is read once per transaction, changed in memory by any number of operations and
 * written once before the commit. Retention lives here because it changes the head and the
 * messages together.
 *
 * Known gap: heads are never removed, because their numbers must not be given again. That is
 * about 150 bytes for every group that ever kept a message.
 *
 * Thread: the store thread. Memory: peal_heads_begin to peal_heads_end; entries belong to the
 * cache and stay where they are until then. */
#ifndef PEAL_STORAGE_HEADS_H
#define PEAL_STORAGE_HEADS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/map.h"
#include "storage/db.h"
#include "storage/inbox.h"
#include "storage/keys.h"

struct peal_head {
    struct peal_map_node node;
    struct peal_head *next; /* all of this transaction */
    struct peal_inbox inbox;
    uint16_t slot;
    bool exists; /* has a number and a record, or gets one with this commit */
    bool dirty;
    bool marks; /* an inbox: its messages can be acked and read */
    size_t key_size;
    char key[PEAL_KEY_HEAD_MAX];
};

/* What a transaction did; becomes counts only when its commit succeeded. */
struct peal_tally {
    int64_t stored;
    int64_t settled;
    int64_t expired;
    int64_t evicted;
    int64_t damaged; /* removed without its reason being known for sure */
    int64_t corrupt;
    int64_t moved_in; /* with their slot */
    int64_t moved_out;
};

struct peal_heads {
    struct peal_map map;
    struct peal_head *all;
    struct peal_txn *txn;
    uint64_t generation;
    uint64_t gid; /* last number given to a group; 0 = not read yet in this transaction */
    bool gid_dirty;
    struct peal_tally tally;
};

/* Errors: PEAL_ENOMEM. */
enum peal_err peal_heads_init(struct peal_heads *heads, uint64_t generation);
void peal_heads_fini(struct peal_heads *heads);
void peal_heads_begin(struct peal_heads *heads, struct peal_txn *txn);
/* Forgets everything that was not written. Does nothing when not begun. */
void peal_heads_end(struct peal_heads *heads);

/* The head of a group; one without a record does not exist, has the generation as its epoch
 * and no messages. In a write transaction a damaged head is replaced by an empty one with a
 * new epoch (whoever asks for an old position is told `gap epoch`), else: PEAL_ECORRUPT. The
 * messages of a damaged head can no longer be reached and stay in the file.
 * Errors: PEAL_ENOMEM, those of peal_txn_get. */
enum peal_err peal_heads_get(struct peal_heads *heads, struct peal_span group,
                             struct peal_head **out);
/* Gives a group that does not exist its number. Errors: those of peal_txn_get, PEAL_ECORRUPT. */
enum peal_err peal_heads_create(struct peal_heads *heads, struct peal_head *head);
/* Somebody has seen this position of the group. When that is ahead of the newest in its epoch, the
 * group gets another epoch. Errors: as for create. */
enum peal_err peal_heads_seen(struct peal_heads *heads, struct peal_head *head, uint64_t epoch,
                              uint64_t offset);
/* Removes what retention says has to go, at most `most` messages, and moves the window.
 * Makes room for `more` messages with more_bytes. Errors: those of peal_txn_del. */
enum peal_err peal_heads_retain(struct peal_heads *heads, struct peal_head *head,
                                const struct peal_config_group *policy, uint64_t now_ms,
                                uint64_t more, uint64_t more_bytes, size_t most);
/* Forgets what this transaction knows of the groups of a slot: their records are about to go. */
void peal_heads_forget_slot(struct peal_heads *heads, uint16_t slot);
/* Is there something to write? */
bool peal_heads_dirty(const struct peal_heads *heads);
/* Writes changed heads. Errors: those of peal_txn_put. */
enum peal_err peal_heads_write(struct peal_heads *heads);

#endif

/* storage/heads.h: the heads of groups that have something in the log, in memory.
 *
 * A head is what the group is after every record of the log, those of the batch in hand included,
 * and where its messages are in the log. It stays for as long as the inbox does not have all of it;
 * heads of other groups are read from the inbox when they are asked for, and stay for one batch.
 *
 * A batch that fails has not happened: what it changes in a head is kept aside by peal_heads_touch
 * and is put back by peal_heads_rollback.
 *
 * Retention lives here, because it changes the head and asks messages for their age.
 *
 * Thread: the store thread. Memory: a head is about 250 bytes and 8 for each message in the log;
 * what is known of collapse keys beside that is at most 64 MiB, and those used least lately go
 * first. */
#ifndef PEAL_STORAGE_HEADS_H
#define PEAL_STORAGE_HEADS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/config.h"
#include "base/list.h"
#include "base/map.h"
#include "proto/slots.h"
#include "storage/collapse.h"
#include "storage/db.h"
#include "storage/entry.h"
#include "storage/inbox.h"
#include "storage/settle.h"
#include "storage/snapshot.h"

/* Where messages are in the log: at[begin + i] is the sequence of message base + i; 0: it went;
 * PEAL_PLACE_INBOX: there, although its offset is not below base. */
struct peal_places {
    uint64_t base;
    uint64_t *at;
    uint32_t begin;
    uint32_t end;
    uint32_t room;
};

struct peal_head_before;

struct peal_head {
    struct peal_map_node node;
    struct peal_link link; /* in heads->all or heads->guests */
    struct peal_inbox inbox;
    struct peal_places places;
    struct peal_collapse *collapse; /* NULL: no key was asked for */
    uint64_t moved_ver;             /* version that the inbox has */
    uint64_t moved_kept;            /* messages of the group there */
    uint64_t begin_ver; /* with this version the window began anew: older ones are of no interest */
    struct peal_head_before *before; /* as it was before the batch; NULL: untouched */
    uint16_t slot;
    bool marks; /* an inbox: its messages can be acked and read */
    uint8_t name_size;
    char name[];
};

/* What a batch did; becomes counts only when its commit succeeded. */
struct peal_tally {
    int64_t stored;
    int64_t settled;
    int64_t expired;
    int64_t evicted;
    int64_t collapsed;
    int64_t damaged; /* removed without its reason being known for sure */
    int64_t corrupt;
    int64_t moved_in; /* with their slot */
    int64_t moved_out;
};

struct peal_heads {
    struct peal_map map;
    struct peal_link all;       /* that have something in the log; peal_heads_walk turns it */
    struct peal_link guests;    /* read from the inbox for this batch */
    struct peal_link collapses; /* indexes of collapse keys, the one used last at the end */
    size_t collapse_slots;      /* of all of them */
    size_t collapse_slots_max;  /* at most, but for the one in use */
    struct peal_txn *log;       /* the write transaction of the batch */
    struct peal_db *inbox_db;
    struct peal_txn inbox; /* reading; begun when first needed in a batch */
    uint64_t generation;
    uint64_t gid; /* the highest number that a group has */
    struct peal_head_before *touched;
    struct peal_buf holes;  /* uint64_t: offsets that retention removed for the operation in hand */
    struct peal_buf zeroed; /* struct peal_zeroed: places that the batch took */
    uint64_t
        dropped_at[PEAL_SLOTS]; /* sequence of the DROP of a slot that the inbox still has; or 0 */
    size_t dropped_count;
    int64_t unmoved; /* messages kept, less those that the inbox has */
    struct peal_tally tally;
    struct peal_entry_room room;
};

/* Errors: PEAL_ENOMEM. */
enum peal_err peal_heads_init(struct peal_heads *heads, struct peal_db *inbox, uint64_t generation);
void peal_heads_fini(struct peal_heads *heads);

/* log: of the batch; also a read transaction, when nothing will be touched. */
void peal_heads_begin(struct peal_heads *heads, struct peal_txn *log);
/* The batch is on the disk, or has not happened. Heads that were only looked at go. */
void peal_heads_commit(struct peal_heads *heads);
void peal_heads_rollback(struct peal_heads *heads);

/* The head of a group, empty when there is none. It stays where it is until the batch ends. Errors:
 * PEAL_ENOMEM, PEAL_EIO; PEAL_ECORRUPT: its record in the inbox is damaged (then *out is
 * an empty head, to be begun anew). */
enum peal_err peal_heads_get(struct peal_heads *heads, struct peal_span group,
                             struct peal_head **out);
/* A head with records: not one of a group that was only asked for. */
bool peal_head_exists(const struct peal_head *head);
struct peal_span peal_head_name(const struct peal_head *head);

/* Before anything in the head is changed. Errors: PEAL_ENOMEM. */
enum peal_err peal_heads_touch(struct peal_heads *heads, struct peal_head *head);
/* Gives the head its number, if it has none. Touched before. */
void peal_heads_number(struct peal_heads *heads, struct peal_head *head);
/* The head becomes an empty one, of this epoch and version; what the inbox has is of no interest
 * any more. Touched before. */
void peal_heads_reset(struct peal_heads *heads, struct peal_head *head, uint64_t epoch,
                      uint64_t ver);
/* Notes where the message at offset is in the log. Touched before. Errors: PEAL_ENOMEM. */
enum peal_err peal_heads_place(struct peal_heads *heads, struct peal_head *head, uint64_t offset,
                               uint64_t seq);
/* Removes the message at offset from the middle of the window, as a hole. Touched before. Errors:
 * PEAL_ENOMEM. */
enum peal_err peal_heads_hole(struct peal_heads *heads, struct peal_head *head, uint64_t offset,
                              uint64_t bytes, enum peal_gone gone);
/* Removes, as a hole, the kept message that has this collapse key, if there is one, read or not;
 * the next message will be the one that has it. Touched before. Errors: PEAL_ENOMEM, those of
 * peal_txn_get. */
enum peal_err peal_heads_collapse(struct peal_heads *heads, struct peal_head *head,
                                  struct peal_span key);
/* Messages came that peal_heads_collapse was not told of. */
void peal_heads_collapse_forget(struct peal_heads *heads, struct peal_head *head);
/* Removes what has to go before `more` messages of more_bytes are added, at most `most`; offsets of
 * holes are added to heads->holes. *changed is set when something did. Errors: those of
 * peal_txn_get. */
enum peal_err peal_heads_retain(struct peal_heads *heads, struct peal_head *head,
                                const struct peal_config_group *policy, uint64_t now_ms,
                                uint64_t more, uint64_t more_bytes, size_t most, bool *changed);

/* At the start: applies one record of the log, in order. Errors: PEAL_ENOMEM, PEAL_EIO. */
enum peal_err peal_heads_replay(struct peal_heads *heads, const struct peal_entry *entry,
                                uint64_t seq);
/* Everything of the slot is forgotten, with a DROP that is at `seq` in the log. After its commit.
 */
void peal_heads_drop_slot(struct peal_heads *heads, uint16_t slot, uint64_t seq);
/* What the settle thread says. What DROP says up to seq is done in the inbox, and then: the inbox
 * has this of a group. Between batches. */
void peal_heads_dropped(struct peal_heads *heads, uint64_t seq);
void peal_heads_moved(struct peal_heads *heads, const struct peal_settle_group *group,
                      struct peal_span name);

/* The next of all heads in memory, in a circle; NULL when there are none. Between batches. */
struct peal_head *peal_heads_walk(struct peal_heads *heads);

/* What a reader needs of a group. Between batches; takes a
 * reference of its own to snapshot. Errors: PEAL_ENOMEM, PEAL_EIO, PEAL_ECORRUPT. */
enum peal_err peal_heads_view(struct peal_heads *heads, struct peal_snapshot *snapshot,
                              struct peal_span group, struct peal_view *out);

#endif

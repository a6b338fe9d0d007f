/* storage/settle.h: moves what stays from the log to the inbox.
 *
 * Gets a range of the log, applies it on the heads of the inbox, and writes head and messages of
 * whole groups in slices, each one synced commit (docs/decisions/0018). Between ranges it walks the
 * heads of the inbox and names those that retention has something to do with; the store thread
 * decides what.
 *
 * Thread: its own, the only writer of the inbox. One range at a time. Notes are called on it and
 * must only hand over. */
#ifndef PEAL_STORAGE_SETTLE_H
#define PEAL_STORAGE_SETTLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/err.h"
#include "base/list.h"
#include "base/span.h"
#include "storage/db.h"

enum peal_settle_kind {
    PEAL_SETTLE_MOVED,  /* the groups of one slice are in the inbox */
    PEAL_SETTLE_DONE,   /* all up to `seq` is in the inbox */
    PEAL_SETTLE_FAILED, /* err says why; the range is to be given again, later */
    PEAL_SETTLE_DUE,    /* retention may have to do something with these groups, or has marks of
                         * nobody: they were looked at */
};

/* A group in a note: its name is in the note's bytes. */
struct peal_settle_group {
    uint32_t name_at;
    uint32_t name_size;
    uint64_t gid;  /* MOVED: of the head in the inbox now; another one than in memory: of an
                    * earlier life, and of no interest */
    uint64_t ver;  /* MOVED: likewise */
    uint64_t next; /* MOVED: messages below this are there, as far as they are kept */
    uint64_t kept; /* MOVED: messages of the group in the inbox */
};

struct peal_settle_bell;

struct peal_settle_note {
    enum peal_settle_kind kind;
    enum peal_err err;
    uint64_t seq;        /* MOVED, DONE: end of the range */
    uint64_t dropped_to; /* MOVED, DONE: what DROP says up to this sequence is done in the inbox;
                          * what is there of these slots now came behind it */
    uint64_t corrupt;    /* DONE: damaged records of the log and heads that the range met */
    uint64_t dropped;    /* MOVED: messages that went from the inbox with their slot */
    uint64_t entries;    /* messages in the inbox after this, as LMDB counts them */
    uint64_t bytes;      /* used by the inbox after this */
    uint64_t room;       /* what its file can take before it grows */
    size_t group_count;
    struct peal_settle_group *groups;
    char *names;
    struct peal_settle_bell *bell; /* NULL, or tells the settle thread that this was freed */
};
void peal_settle_note_free(struct peal_settle_note *note); /* NULL is fine */

struct peal_settle_setup {
    struct peal_db *log;
    struct peal_db *inbox;
    const struct peal_config *config;
    const _Atomic uint64_t *now_ms; /* written by the store thread */
    uint64_t slice_ms;              /* aim of one slice */
    void *ctx;
    void (*note)(void *ctx, struct peal_settle_note *note); /* takes it over */
};

struct peal_settle;

/* Errors: PEAL_ENOMEM. */
enum peal_err peal_settle_start(const struct peal_settle_setup *setup, struct peal_settle **out);
/* Ends the thread after the slice in hand; what is not moved is moved after the next start. NULL is
 * fine. */
void peal_settle_stop(struct peal_settle *settle);
/* Moves [from, to] of the log; DONE or FAILED follows, and only then the next may be asked for. */
void peal_settle_range(struct peal_settle *settle, uint64_t from, uint64_t to);

#endif

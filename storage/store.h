/* storage/store.h: messages that must not be lost, and what became of them.
 *
 * The shard hands operations to the store thread, which works on them in order, joins many
 * into one synced commit, and hands each back through `done` after that commit returned 0, in
 * the same order. Pages are read by a reader thread on snapshots of their own. The shard never
 * waits and never touches the database.
 *
 * A group in the store is a log with retention (docs/PROTOCOL.md): messages are
 * numbered 1, 2, 3 ... inside an epoch that starts with the store's generation and never
 * gives an (epoch, offset) twice. A message is settled when it was acked (or read, by policy);
 * settled ones are kept for keep.settled, the others until a limit of keep evicts them.
 *
 * Thread: submit and fetch in the owner's thread; `done` and `page` are called on the store and
 * reader threads and must only hand over. Memory: an operation belongs to the store from submit
 * until done; strings are copied in by peal_store_op_new.
 *
 * A second implementation has to keep: order of results = order of commits; done only after the
 * data survives power loss; numbering inside the commit; dedup in the same commit. */
#ifndef PEAL_STORAGE_STORE_H
#define PEAL_STORAGE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/config.h"
#include "base/err.h"
#include "base/list.h"
#include "base/span.h"
#include "proto/msg.h"

struct peal_quota;

enum peal_store_op_kind {
    PEAL_STORE_HEAD, /* where is the group? changes nothing */
    PEAL_STORE_PUT,  /* number and keep a message */
    PEAL_STORE_MARK, /* ack or read messages of an inbox */
    /* From here on no group is concerned, but slots (storage/moving.h); `slot` is in mark_flags. */
    PEAL_STORE_SLOTS,  /* keep `message` in place of what peal_store_slots has */
    PEAL_STORE_EXPORT, /* a RECORDS frame from (group, upto) on; it says where the next begins */
    PEAL_STORE_IMPORT, /* apply `message`, a RECORDS frame; upto 0: drop the slot's groups before */
    PEAL_STORE_DROP,   /* forget the slot's groups and all they keep */
};

struct peal_store_op {
    struct peal_link link; /* for whoever owns the operation */
    enum peal_store_op_kind kind;
    const struct peal_config_group *policy;
    void *ctx;       /* the submitter's own */
    uint64_t tag[2]; /* the submitter's own */

    /* in */
    struct peal_span group;
    struct peal_span message; /* PUT: encoded envelope, not numbered, ts_ms set */
    uint64_t mark_flags;      /* MARK: PEAL_FLAG_ACK or PEAL_FLAG_READ, and PEAL_FLAG_ALL */
    uint64_t upto;            /* MARK: all up to here; 0 = only `offsets` */
    uint64_t *offsets;        /* MARK: single ones */
    size_t offset_count;
    /* HEAD: a position that this store once gave out, as a node knows it; 0 = none. One ahead of
     * the newest in its epoch means that the head went back: the group then begins a new epoch,
     * before offsets are given a second time in the old one. */
    uint64_t seen_epoch;
    uint64_t seen_offset;

    /* out */
    enum peal_err err; /* OK, ESTORE_FULL, EIO, ENOMEM, EBAD_MESSAGE, EBAD_GROUP (no name; MARK: no
                        * inbox) */
    bool duplicate; /* PUT: this message_id was stored before; epoch and offset are the first's */
    bool changed;   /* MARK: some mark changed, rev grew */
    uint64_t epoch;
    uint64_t offset; /* PUT: given to the message; else the newest */
    uint64_t first;  /* oldest offset that can still be fetched; newest + 1 when none */
    uint64_t unread; /* after this operation; 0 for groups that are no inbox */
    uint64_t rev;
    struct peal_bytes *encoded; /* PUT, stored: the envelope with epoch and offset; EXPORT: the
                                 * frame; one reference */

    struct peal_quota *quota; /* of the store it was submitted to; NULL before */
    char storage[];           /* what the spans point at */
};

/* One operation with copies of group, message and offsets; NULL on ENOMEM. */
struct peal_store_op *peal_store_op_new(enum peal_store_op_kind kind, struct peal_span group,
                                        struct peal_span message, const uint64_t *offsets,
                                        size_t offset_count);
void peal_store_op_free(struct peal_store_op *op); /* NULL is fine */

/* A request for a part of one group. */
struct peal_store_fetch {
    struct peal_link link;
    const struct peal_config_group *policy;
    uint64_t tag[2];
    struct peal_span group;
    uint64_t epoch;  /* of the position; another one than the group's is answered by a GAP epoch,
                      * 0 = none: whatever is kept after offset. REVERSE with another one starts
                      * from the newest */
    uint64_t offset; /* forward: strictly after; REVERSE: strictly before, 0 = from the newest */
    uint64_t limit;  /* messages, at most PEAL_PAGE_MESSAGES */
    uint64_t bytes;  /* of envelopes; a single larger message still comes alone */
    uint64_t flags;  /* PEAL_FLAG_UNACKED, _UNREAD, _REVERSE */
    /* out: an encoded PAGE frame (proto/wire.h) whose req is tag[0]. `offset` is the position
     * reached, to be given in the next request; `code` is PEAL_EIO or PEAL_ECORRUPT when nothing
     * could be read. NULL when there was no memory for it. */
    struct peal_bytes *page;
    struct peal_quota *quota; /* of the store it was submitted to; NULL before */
    char storage[];
};

struct peal_store_fetch *peal_store_fetch_new(struct peal_span group);
void peal_store_fetch_free(struct peal_store_fetch *fetch);

struct peal_store_events {
    void *ctx;
    void (*done)(void *ctx, struct peal_store_op *op);       /* store thread */
    void (*page)(void *ctx, struct peal_store_fetch *fetch); /* reader thread */
    void (*done_all)(void *ctx); /* store thread: after the last `done` of a commit */
};

struct peal_store;

/* Opens or creates the store in dir (created 0700) and starts its threads.
 * Errors: PEAL_ELOCKED (another process has it: why names its pid), PEAL_ECORRUPT, PEAL_EIO,
 * PEAL_ENOMEM; why then says what to do. */
enum peal_err peal_store_start(const char *dir, const struct peal_config *config,
                               const struct peal_store_events *events, struct peal_store **out,
                               char *why, size_t why_size);
/* Works off what was submitted, hands it back, stops the threads and closes. */
void peal_store_stop(struct peal_store *store);

/* Queues op. Errors: PEAL_EQUEUE_FULL, and op stays with the caller. */
enum peal_err peal_store_submit(struct peal_store *store, struct peal_store_op *op);
enum peal_err peal_store_read(struct peal_store *store, struct peal_store_fetch *fetch);
/* Most operations that can be under way, from submit until they are freed; so the receiver of
 * `done` must have room for as many. The same for reading. */
enum { PEAL_STORE_OPS_MAX = 8192, PEAL_STORE_READS_MAX = 1024 };
/* The record of slots as it was when the store was opened. The bytes mean nothing to the store.
 * Empty: none was kept yet; absent (at NULL): the store is from before there was one. */
struct peal_span peal_store_slots(const struct peal_store *store);
/* The generation: the epoch of groups that have no head yet. */
uint64_t peal_store_generation(const struct peal_store *store);

#endif

/* tests/model/checker.h: judges what publishers were promised and clients were told.
 *
 * Knows nothing of routers, nodes and networks, only of histories: what was published, which
 * positions were acknowledged, what each client got, and what the disk did that excuses a loss.
 * From those it must be able to say that a promise was broken:
 *
 *   order        one value per (group, epoch, offset), the same for every client and every ack;
 *                the values of one publisher grow with the offset
 *   no hole      an offset follows the one before, or a gap or skip says why not; a stored group
 *                has a gap only for a new epoch after the disk was restored; a skip only covers
 *                what was settled
 *   join         what is published after `joined` has a higher offset; a resumed position goes on
 *                where it was; who is a member in the end is at the head of his group
 *   dedup        a value is delivered at one position, whatever was retried (live groups: within
 *                one epoch)
 *   durable      what was acknowledged as stored is there in the end
 *   unread       one number per (inbox, rev) while its disk was not restored, and in the end the
 * one of a recount
 *
 * Shape:  the first broken promise is kept as a sentence; what comes after it is not judged.
 * Thread: one. Memory: its own tables; nothing is freed before checker_fini. */
#ifndef PEAL_TESTS_CHECKER_H
#define PEAL_TESTS_CHECKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHECKER_GROUPS = 16, CHECKER_CLIENTS = 32 };

enum checker_kind {
    CHECKER_LIVE,    /* keeps nothing */
    CHECKER_HISTORY, /* keeps some messages in memory */
    CHECKER_STORED,
};

enum checker_recovered { CHECKER_NEW, CHECKER_FULL, CHECKER_GAP };

struct checker_place {
    uint64_t value; /* 0 = not known */
    bool acked;     /* as stored */
    bool settled;   /* a skip may cover it */
    bool kept;      /* found on the disk in the end */
};

/* One epoch of one group. */
struct checker_stream {
    uint64_t epoch;
    struct checker_place *places; /* by offset */
    size_t size;
    uint64_t *unread; /* by rev; 0 = not known, else the number + 1 */
    size_t unread_size;
    bool restored; /* it began with a restore of the disk */
};

struct checker_group {
    const char *name;
    enum checker_kind kind;
    struct checker_stream *streams;
    size_t stream_count;
    bool restored; /* the disk was, at least once */
};

struct checker_value {
    int group; /* -1: never published */
    uint32_t publisher;
    uint64_t begun; /* the tick at which it was published first */
    uint64_t epoch; /* where it was seen; offset 0 = nowhere */
    uint64_t offset;
};

struct checker_member {
    bool member;
    bool known; /* a position is known */
    uint64_t epoch;
    uint64_t offset;
    uint64_t joined; /* the tick of the last `joined` */
    uint64_t joined_epoch;
    uint64_t joined_offset;
    uint64_t rev;
    uint64_t unread;
};

struct checker {
    struct checker_group groups[CHECKER_GROUPS];
    size_t group_count;
    struct checker_value *values;
    size_t value_size;
    struct checker_member members[CHECKER_CLIENTS][CHECKER_GROUPS];
    uint64_t tick; /* +1 with every event */
    size_t messages;
    size_t gaps;
    size_t skips;
    bool failed;
    char why[320];
};

void checker_init(struct checker *checker);
void checker_fini(struct checker *checker);
/* name must stay. Returns the number of the group. */
int checker_add_group(struct checker *checker, const char *name, enum checker_kind kind);
/* Another part of the model has seen something wrong. */
__attribute__((format(printf, 2, 3))) void checker_fail(struct checker *checker, const char *format,
                                                        ...);

/* What publishers do and are promised. A value is published by one publisher to one group, and
 * again only as a retry of the same. Values are from 1 on and dense. */
void checker_on_publish(struct checker *checker, int group, uint32_t publisher, uint64_t value);
void checker_on_ack(struct checker *checker, int group, uint64_t value, uint64_t epoch,
                    uint64_t offset, bool stored);

/* What a client is told. */
void checker_on_joined(struct checker *checker, int client, int group, uint64_t epoch,
                       uint64_t offset, enum checker_recovered recovered);
void checker_on_left(struct checker *checker, int client, int group);
/* Its epoch is the one of the position. */
void checker_on_message(struct checker *checker, int client, int group, uint64_t offset,
                        uint64_t value);
void checker_on_gap(struct checker *checker, int client, int group, uint64_t epoch, uint64_t from,
                    uint64_t to);
void checker_on_skip(struct checker *checker, int client, int group, uint64_t from, uint64_t to);
void checker_on_unread(struct checker *checker, int client, int group, uint64_t unread,
                       uint64_t rev);

/* What the disk does. */
void checker_on_settled(struct checker *checker, int group, uint64_t epoch, uint64_t offset);
/* It went back to an older copy of itself, on purpose: what is not in that is lost. */
void checker_on_restored(struct checker *checker, int group, uint64_t epoch);

/* In the end, when everything is quiet: what is on the disk, then where the group is, then the
 * inbox. */
void checker_on_kept(struct checker *checker, int group, uint64_t epoch, uint64_t offset,
                     uint64_t value);
void checker_at_end(struct checker *checker, int group, uint64_t epoch, uint64_t head);
void checker_at_end_unread(struct checker *checker, int group, uint64_t epoch, uint64_t unread);

/* Where the client is; known is false when he was never told. */
const struct checker_member *checker_member(const struct checker *checker, int client, int group);

#endif

/* tests/contract/oracle.h: a store as plain lists in memory, which says what a real one has to
 * answer.
 *
 * The contract leaves a store time to remove what keep.settled, keep.age and a TTL have ended:
 * such a message is *due*. The oracle applies operations, tells what is expected, and takes over
 * what an answer proves to be gone; everything else must be equal. Nobody may rely on due messages:
 * who marks a group, or fills it beyond its limits, while some of it is due, gets an answer that
 * depends on the store's pace. The driver (walk.c) lets them go first.
 *
 * Thread: one. Memory: oracle_init to oracle_fini; failures to allocate abort. */
#ifndef PEAL_TESTS_ORACLE_H
#define PEAL_TESTS_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "proto/msg.h"
#include "tests/contract/rig.h"

enum { ORACLE_GROUPS = 16, ORACLE_WHY = 500 };

struct oracle_message {
    uint64_t stored_ms;
    uint64_t expires_ms; /* 0 = no TTL */
    struct peal_bytes *envelope;
    bool here; /* not removed yet */
    bool acked;
    bool read;
    char collapse[16]; /* empty = no key */
};

struct oracle_group {
    char name[32];
    const struct peal_config_group *policy;
    uint64_t epoch;
    uint64_t next;    /* offset of the next message */
    uint64_t first;   /* of the oldest message that is here; next when none is */
    uint64_t lost_to; /* highest offset that went before it was settled */
    uint64_t last_mark_ms;
    uint64_t rev_min; /* a removal of several messages is one change or several */
    uint64_t rev_max;
    uint64_t told_rev; /* by the last answer */
    uint64_t told_unread;
    struct oracle_message *at; /* that of offset `first` on */
    size_t room;
};

struct oracle_id {
    size_t group;
    char id[24];
    uint64_t epoch;
    uint64_t offset;
    uint64_t stored_ms;
    bool uncertain; /* the store may have forgotten it */
};

struct oracle {
    const struct peal_config *config;
    unsigned can; /* CONTRACT_* */
    uint64_t generation;
    uint64_t now_ms;
    struct oracle_group groups[ORACLE_GROUPS];
    size_t group_count;
    struct oracle_id *ids; /* oldest first */
    size_t id_count;
    size_t id_room;
    char why[ORACLE_WHY]; /* what differs */
};

void oracle_init(struct oracle *o, const struct peal_config *config, unsigned can,
                 uint64_t generation, uint64_t now_ms);
void oracle_fini(struct oracle *o);
/* Another one that is the same and knows nothing of the first. */
void oracle_copy(struct oracle *to, const struct oracle *from);
size_t oracle_add_group(struct oracle *o, const char *name);

/* Is some of the group due? */
bool oracle_due(const struct oracle *o, size_t group);
/* Have the answers so far shown that what was due at that time is gone? Takes over what they show.
 */
bool oracle_gone(struct oracle *o, size_t group, uint64_t then_ms);
/* Messages that are here. */
uint64_t oracle_kept(const struct oracle *o, size_t group);
/* Would the limits evict something for one more message of `bytes`? */
bool oracle_is_full(const struct oracle *o, size_t group, size_t bytes);

enum oracle_known { ORACLE_NEW, ORACLE_DUPLICATE, ORACLE_EITHER };
enum oracle_known oracle_knows(const struct oracle *o, size_t group, struct peal_span id);

/* Each applies an operation and fills in what is expected of its answer. PUT: `duplicate` decides
 * where oracle_knows says EITHER. */
void oracle_put(struct oracle *o, size_t group, const struct peal_envelope *env, bool duplicate,
                struct peal_store_op *expect);
void oracle_mark(struct oracle *o, size_t group, uint64_t flags, uint64_t upto,
                 const uint64_t *offsets, size_t count, struct peal_store_op *expect);
void oracle_head(struct oracle *o, size_t group, struct peal_store_op *expect);
/* The group began another epoch, as a HEAD with a position ahead of it asks for. */
void oracle_new_epoch(struct oracle *o, size_t group, uint64_t epoch);
/* The slot of the group was dropped, or moved with all that is here. */
void oracle_drop(struct oracle *o, size_t group);
void oracle_moved(struct oracle *o, size_t group);

/* Is the answer the expected one? Takes over what it proves. Otherwise `why` says what differs. */
bool oracle_agrees(struct oracle *o, size_t group, const struct peal_store_op *expect,
                   const struct peal_store_op *answer);
/* The same for a page: all of its fields, and every entry byte by byte. */
bool oracle_agrees_page(struct oracle *o, size_t group, const struct ask *ask,
                        const struct peal_frame *page);

#endif

/* tests/model/disk.h: a router's store as a model: what is behind storage/store.h, without LMDB.
 *
 * It outlives the router that uses it, commits operations in groups, and can fail a commit: then
 * nothing of the group has happened, each operation in it is told so, and no number was used up. A
 * commit can also succeed while the router dies, so that nobody hears of it. It can be copied and
 * gone back to, which gives every group a new epoch. Numbers, marks and counts are those of
 * storage/inbox.c; the recount is made from the marks one by one.
 *
 * Thread: one. Memory: the disk owns its records. */
#ifndef PEAL_TESTS_DISK_H
#define PEAL_TESTS_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/config.h"
#include "storage/inbox.h"
#include "storage/store.h"
#include "tests/model/checker.h"
#include "tests/model/dice.h"

enum { DISK_GROUPS = 8, DISK_COMMIT = 16 };

/* Deliberate faults, with which the checker must find the model wrong. */
enum disk_fault {
    DISK_SOUND,
    DISK_FORGETS_COMMIT, /* the last acknowledged commit is gone after a restart */
    DISK_NUMBERS_FAILED, /* a failed commit is answered as if it had worked */
    DISK_KEEPS_EPOCH,    /* an older copy goes on in the same epoch */
    DISK_PAGE_HAS_HOLE,  /* a page leaves a message out and does not say so */
    DISK_FORGETS_IDS,    /* a retry is taken for a new message */
    DISK_FORGETS_MARK,   /* a mark is answered and not written */
};

struct disk_record {
    struct peal_bytes *envelope; /* numbered */
    uint64_t value;
};

struct disk_group {
    int number; /* the checker's */
    struct peal_span name;
    struct peal_inbox inbox;
    struct disk_record *records; /* offset - 1 */
    size_t capacity;
};

struct disk {
    struct checker *checker;
    struct disk_group groups[DISK_GROUPS];
    size_t group_count;
    bool broken; /* a commit failed: nothing is written before the next start */
    enum disk_fault fault;
    struct peal_inbox backup[DISK_GROUPS];
    struct peal_inbox previous[DISK_GROUPS]; /* before the last commit */
};

enum disk_commit {
    DISK_COMMITS,
    DISK_FULL,   /* fails, and the next may work */
    DISK_BREAKS, /* fails, and so will everything until the next start */
};

void disk_init(struct disk *disk, struct checker *checker);
void disk_fini(struct disk *disk);
void disk_add_group(struct disk *disk, int number, const char *name, uint64_t epoch);
struct disk_group *disk_group(struct disk *disk, struct peal_span name);

/* Works on operations in order and commits them as one. They then hold their answers. */
void disk_work(struct disk *disk, struct peal_store_op **ops, size_t count, uint64_t now_ms,
               enum disk_commit how);
/* Fills fetch->page. at_most bounds the messages in it further than the fetch does. */
void disk_page(struct disk *disk, struct peal_store_fetch *fetch, uint64_t at_most);

/* The router that uses it starts anew. */
void disk_restart(struct disk *disk);
/* Makes a copy of now, and goes back to it; epoch is the new one of all groups. */
void disk_copy(struct disk *disk);
void disk_restore(struct disk *disk, uint64_t epoch);

/* Counts the unread ones of an inbox, one by one. */
uint64_t disk_recount(const struct disk_group *group);

#endif

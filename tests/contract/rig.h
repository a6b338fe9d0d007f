/* tests/contract/rig.h: a store in a temporary folder, driven one call at a time.
 *
 * Its clock stands still until a test moves it. `gate` holds the store inside `done`, so that a
 * test decides what comes together.
 *
 * Thread: one, the test's; the store calls back on its own. Failures end the test (cmocka). */
#ifndef PEAL_TESTS_RIG_H
#define PEAL_TESTS_RIG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/mailbox.h"
#include "proto/wire.h"
#include "tests/contract/contract.h"

enum { HOUR_MS = 3600 * 1000, WAIT_MS = 20000, RIG_GROUPS = 4 };

struct rig {
    const struct contract_store *impl;
    struct peal_config config;
    struct peal_config_group groups[RIG_GROUPS]; /* `user:{id}` and `*`; more for who wants them */
    void *store;                                 /* NULL unless open */
    struct peal_mailbox done;
    struct peal_mailbox pages;
    pthread_mutex_t gate;
    _Atomic uint64_t now_ms;
    _Atomic uint64_t wall_ahead_ms;               /* of the other clock */
    void (*told)(const struct peal_store_op *op); /* on the store's thread; may be NULL */
    char *dir;
    char why[256];
    /* Messages of a group that began a new epoch keep the envelopes of the old one. */
    bool head_went_back;
};

/* ---- folder ----------------------------------------------------------------------------- */

/* A new folder below TMPDIR; fails the test when there is none to be had. */
char *rig_folder_new(void);
/* Removes it with all that is in it; NULL is fine. */
void rig_folder_free(char *path);

/* ---- store ------------------------------------------------------------------------------ */

/* dir stays the caller's. */
void rig_init(struct rig *rig, const struct contract_store *impl, char *dir);
enum peal_err rig_try_open(struct rig *rig);
void rig_open(struct rig *rig);
void rig_close(struct rig *rig);
void rig_reopen(struct rig *rig);
/* The next of a mailbox; the test fails when nothing comes. */
void *rig_wait(struct peal_mailbox *box);
uint64_t rig_generation(const struct rig *rig);

/* Runs `run` in a child process, which never returns from it; *from is the end of its pipe. Only
 * while no store is open here: a process with threads should not fork. */
pid_t rig_spawn(struct rig *rig, void (*run)(struct rig *rig, int out), int *from);
/* Ends the child's store, waits for the child and closes the pipe. */
void rig_crash(struct rig *rig, pid_t child, int from);

/* ---- operations ------------------------------------------------------------------------- */

struct message {
    const char *group;
    const char *id; /* given by the publisher unless NULL */
    const char *data;
    size_t data_size; /* 0: of the text */
    uint64_t ttl_ms;
};

struct peal_store_op *rig_op(struct rig *rig, enum peal_store_op_kind kind, struct peal_span group,
                             struct peal_span message, const uint64_t *offsets, size_t count);
struct peal_store_op *rig_put_op(struct rig *rig, const struct message *m);
struct peal_store_op *rig_put_keyed_op(struct rig *rig, const struct message *m,
                                       const char *collapse);
struct peal_store_op *rig_mark_op(struct rig *rig, const char *group, uint64_t flags, uint64_t upto,
                                  const uint64_t *offsets, size_t count);
struct peal_store_op *rig_head_op(struct rig *rig, const char *group);
void rig_submit(struct rig *rig, struct peal_store_op *op);
/* Submits, waits, and returns a copy of the answer; the operation is gone. */
struct peal_store_op rig_do(struct rig *rig, struct peal_store_op *op);
struct peal_store_op rig_put(struct rig *rig, const char *group, const char *id, const char *data);
/* A message of `size` bytes that lives for ttl_ms. */
struct peal_store_op rig_put_sized(struct rig *rig, const char *group, size_t size,
                                   uint64_t ttl_ms);
struct peal_store_op rig_ack(struct rig *rig, const char *group, uint64_t upto);
struct peal_store_op rig_mark(struct rig *rig, const char *group, uint64_t flags, uint64_t upto);
/* Marks single messages. */
struct peal_store_op rig_mark_one(struct rig *rig, const char *group, uint64_t flags,
                                  uint64_t offset);
struct peal_store_op rig_head(struct rig *rig, const char *group);
/* HEAD by somebody who has seen that position. */
struct peal_store_op rig_head_seen(struct rig *rig, const char *group, uint64_t epoch,
                                   uint64_t offset);
/* Time passes. */
void rig_clock(struct rig *rig, uint64_t ms);
/* Lets time pass, and then as much as it takes until retention has moved the oldest message of the
 * group to `first`. */
void rig_pass_until_first(struct rig *rig, uint64_t ms, const char *group, uint64_t first);
/* Room that other threads have to make first takes its time. */
struct peal_store_op rig_put_until_stored(struct rig *rig, const struct message *m);
/* Lets time pass, and the store a chance to remove what it may remove by then. */
void rig_pass(struct rig *rig, uint64_t ms);

/* ---- pages ------------------------------------------------------------------------------ */

struct page {
    struct peal_bytes *bytes;
    struct peal_frame frame;
    char text[8192]; /* the entries: "M1 M2ar S3-4 Gevicted:5-6" */
    uint64_t messages;
    char data[300]; /* of the last message */
};

struct ask {
    const char *group;
    uint64_t epoch, offset, limit, bytes, flags;
};

void rig_page(struct rig *rig, const struct ask *ask, struct page *page);
void page_free(struct page *page);
/* The entries of one page as text, valid until the next call. */
const char *rig_text(struct rig *rig, const struct ask *ask);
/* The first page of all that the group keeps. */
const char *rig_text_of(struct rig *rig, const char *group);

/* ---- cases ------------------------------------------------------------------------------ */

/* *state is the implementation before and a rig, not open, after. */
int case_setup(void **state);
int case_teardown(void **state);
/* Skips the case when the implementation does not keep these rules (CONTRACT_*). */
void case_needs(const struct rig *rig, unsigned can);

/* One entry of an array of struct CMUnitTest, where `impl` is in scope. */
#define CASE(f)                                                                                    \
    cmocka_unit_test_prestate_setup_teardown(f, case_setup, case_teardown, (void *)(uintptr_t)impl)

#endif

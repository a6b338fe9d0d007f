/* One thread that waits for a bell. The range it was asked for comes first
 * (storage/settle_range.h); then, at most once a second unless there is a lot to do, a slice of a
 * few milliseconds goes on through the heads of the inbox, which say from when on retention has
 * something to do. A slice that ended before the last head with names in its note is followed by
 * the next one as soon as the note was freed: what is behind it was dealt with, so that they cannot
 * pile up. */
#include "storage/settle.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "proto/group.h"
#include "storage/inbox.h"
#include "storage/keys.h"
#include "storage/settle_note.h"
#include "storage/settle_range.h"

enum {
    WALK_EVERY_MS = 1000,
    WALK_MS = 5,
    WALK_NAMES = 256,
    NOTE_WAIT_MS = 20, /* when there is no memory for the note that must follow a range */
};

struct peal_settle {
    struct peal_settle_setup setup;
    struct peal_settle_bell *bell;
    _Atomic bool stopping;
    pthread_t thread;
    /* Written by who asks, before `asked`; taken by the thread, which clears it. */
    uint64_t from;
    uint64_t to;
    _Atomic bool asked;
    /* The rest belongs to the thread. */
    struct peal_range range;
    char walk_from[PEAL_KEY_HEAD_MAX + 1];
    size_t walk_from_size; /* 0: a new walk begins */
    uint64_t walk_due_ms;
    bool walk_on; /* the next slice may follow as soon as the last note was freed */
};

/* ---- ranges ------------------------------------------------------------------------------- */

static void range_run(struct peal_settle *settle)
{
    uint64_t to = settle->to;
    struct peal_settle_draft draft;
    enum peal_err err = peal_range_move(&settle->range, settle->from, to);
    if (err == PEAL_EAGAIN) return;

    enum peal_settle_kind kind = err == PEAL_OK ? PEAL_SETTLE_DONE : PEAL_SETTLE_FAILED;
    while (peal_settle_draft_begin(&draft, kind) != PEAL_OK) {
        if (atomic_load(&settle->stopping)) return;
        poll(NULL, 0, NOTE_WAIT_MS);
    }
    struct peal_settle_note *note = peal_settle_draft_end(&draft);
    note->err = err;
    note->entries = settle->range.entries;
    note->bytes = settle->range.bytes;
    note->room = settle->range.room;
    if (err == PEAL_OK) {
        note->seq = to;
        note->dropped_to = settle->range.dropped_to;
        note->corrupt = settle->range.corrupt;
    }
    /* From here on the next one may be asked for. */
    atomic_store(&settle->asked, false);
    settle->setup.note(settle->setup.ctx, note);
}

/* ---- walk --------------------------------------------------------------------------------- */

static enum peal_err head_due(const struct peal_settle *settle, struct peal_span group,
                              struct peal_span key, struct peal_span value, bool *due)
{
    struct peal_inbox inbox;
    enum peal_err err = peal_head_decode(key, value, &inbox);
    /* Who looks at a damaged head makes it anew. */
    *due = err == PEAL_ECORRUPT;
    if (err == PEAL_ECORRUPT) return PEAL_OK;
    if (err != PEAL_OK) return err;
    uint64_t now_ms = atomic_load_explicit(settle->setup.now_ms, memory_order_relaxed);
    const struct peal_config_group *policy = peal_group_policy(settle->setup.config, group);
    *due = peal_inbox_due_ms(&inbox, policy) <= now_ms;
    peal_inbox_fini(&inbox);
    return PEAL_OK;
}

/* Goes on where the last slice ended. Errors: PEAL_ENOT_FOUND: that was the last head. */
static enum peal_err heads_walk(struct peal_settle *settle, struct peal_scan *scan,
                                uint64_t until_ms, struct peal_settle_draft *draft)
{
    do {
        struct peal_span key;
        struct peal_span value;
        struct peal_span group;
        bool due;
        enum peal_err err = peal_scan_next(scan, &key, &value);
        if (err != PEAL_OK) return err;
        if (key.size >= sizeof settle->walk_from) return PEAL_ECORRUPT;
        /* The smallest key behind this one. */
        memcpy(settle->walk_from, key.at, key.size);
        settle->walk_from[key.size] = '\0';
        settle->walk_from_size = key.size + 1;
        if (peal_key_head_group(key, &group) != PEAL_OK) continue;
        err = head_due(settle, group, key, value, &due);
        if (err == PEAL_OK && due)
            err = peal_settle_draft_add(draft, group, &(struct peal_settle_group){0});
        if (err != PEAL_OK) return err;
    } while (draft->note->group_count < WALK_NAMES && peal_clock_mono_ms() < until_ms);
    return PEAL_OK;
}

static void due_post(struct peal_settle *settle, struct peal_settle_note *note)
{
    atomic_fetch_add(&settle->bell->refs, 1);
    note->bell = settle->bell;
    atomic_store(&settle->bell->due_out, true);
    settle->setup.note(settle->setup.ctx, note);
}

static enum peal_err walk_slice(struct peal_settle *settle, struct peal_settle_draft *draft)
{
    struct peal_txn txn;
    struct peal_scan scan = {0};
    struct peal_span from = {settle->walk_from, settle->walk_from_size};
    uint64_t until_ms = peal_clock_mono_ms() + WALK_MS;
    enum peal_err err = peal_txn_begin(&txn, settle->setup.inbox, false);
    if (err != PEAL_OK) return err;
    err = peal_scan_begin(&scan, &txn, PEAL_TREE_HEAD, from);
    if (err == PEAL_OK) err = heads_walk(settle, &scan, until_ms, draft);
    peal_scan_end(&scan);
    draft->note->entries = peal_txn_entries(&txn, PEAL_TREE_MESSAGE);
    draft->note->bytes = peal_txn_bytes_used(&txn);
    draft->note->room = peal_txn_bytes_free(&txn);
    peal_txn_abort(&txn);
    return err;
}

static void walk(struct peal_settle *settle)
{
    uint64_t mono_ms = peal_clock_mono_ms();
    bool freed = !atomic_load(&settle->bell->due_out);
    if (mono_ms < settle->walk_due_ms && !(settle->walk_on && freed)) return;
    settle->walk_due_ms = mono_ms + WALK_EVERY_MS;
    settle->walk_on = false;

    struct peal_settle_draft draft;
    enum peal_err err = peal_settle_draft_begin(&draft, PEAL_SETTLE_DUE);
    if (err == PEAL_OK) err = walk_slice(settle, &draft);
    bool last = err == PEAL_ENOT_FOUND;
    if (last) settle->walk_from_size = 0;
    if (err != PEAL_OK && !last)
        peal_log(PEAL_LOG_ERROR, "store.walk_failed", "code=%s", peal_err_word(err));
    if (draft.note == NULL || draft.note->group_count == 0) {
        peal_settle_draft_drop(&draft);
        return;
    }
    settle->walk_on = err == PEAL_OK;
    due_post(settle, peal_settle_draft_end(&draft));
}

/* ---- thread ------------------------------------------------------------------------------- */

static int wait_ms(const struct peal_settle *settle)
{
    uint64_t mono_ms = peal_clock_mono_ms();
    if (settle->walk_on && !atomic_load(&settle->bell->due_out)) return 0;
    return settle->walk_due_ms <= mono_ms ? 0 : (int)(settle->walk_due_ms - mono_ms);
}

static void *settle_run(void *arg)
{
    struct peal_settle *settle = arg;
    pthread_setname_np(pthread_self(), "settle");
    peal_metrics_thread_start();
    for (;;) {
        /* Cleared before looking: whoever rings later wakes the poll. */
        peal_settle_bell_hear(settle->bell);
        if (atomic_load(&settle->stopping)) return NULL;
        if (atomic_load(&settle->asked)) range_run(settle);
        if (atomic_load(&settle->stopping)) return NULL;
        walk(settle);
        struct pollfd pfd = {.fd = settle->bell->fd, .events = POLLIN};
        poll(&pfd, 1, wait_ms(settle));
    }
}

enum peal_err peal_settle_start(const struct peal_settle_setup *setup, struct peal_settle **out)
{
    *out = NULL;
    struct peal_settle *settle = calloc(1, sizeof *settle);
    if (settle == NULL) return PEAL_ENOMEM;
    settle->setup = *setup;
    settle->range.setup = &settle->setup;
    settle->range.stopping = &settle->stopping;
    settle->walk_due_ms = peal_clock_mono_ms() + WALK_EVERY_MS;
    enum peal_err err = peal_settle_bell_new(&settle->bell);
    if (err == PEAL_OK && pthread_create(&settle->thread, NULL, settle_run, settle) != 0)
        err = PEAL_ENOMEM;
    if (err != PEAL_OK) {
        peal_settle_bell_unref(settle->bell);
        free(settle);
        return err;
    }
    *out = settle;
    return PEAL_OK;
}

void peal_settle_stop(struct peal_settle *settle)
{
    if (settle == NULL) return;
    atomic_store(&settle->stopping, true);
    peal_settle_bell_ring(settle->bell);
    pthread_join(settle->thread, NULL);
    peal_settle_bell_unref(settle->bell); /* notes that are out have references of their own */
    free(settle);
}

void peal_settle_range(struct peal_settle *settle, uint64_t from, uint64_t to)
{
    PEAL_ASSERT(!atomic_load(&settle->asked));
    PEAL_ASSERT(from <= to);
    settle->from = from;
    settle->to = to;
    atomic_store(&settle->asked, true);
    peal_settle_bell_ring(settle->bell);
}

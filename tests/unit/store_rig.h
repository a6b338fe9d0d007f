/* tests/unit/store_rig.h: a real store in a temporary folder, driven one call at a time.
 *
 * Its clock stands still until a test moves it. `gate` holds the store thread inside `done`, so
 * that a test decides what comes together in one batch. */
#ifndef PEAL_TESTS_STORE_RIG_H
#define PEAL_TESTS_STORE_RIG_H

#include <poll.h>
#include <pthread.h>

#include "base/mailbox.h"
#include "base/metrics.h"
#include "proto/envelope.h"
#include "proto/wire.h"
#include "storage/options.h"
#include "storage/store.h"
#include "tests/unit/disk.h"

enum { HOUR_MS = 3600 * 1000, WAIT_MS = 20000 };

struct rig {
    struct peal_config config;
    struct peal_config_group groups[2];
    struct peal_store *store;
    struct peal_mailbox done;
    struct peal_mailbox pages;
    pthread_mutex_t gate;
    _Atomic uint64_t now_ms;
    _Atomic uint64_t wall_ahead_ms; /* of the other clock */
    char *dir;
    char why[256];
};

static uint64_t rig_wall(void *ctx)
{
    struct rig *rig = ctx;
    return atomic_load(&rig->now_ms) + atomic_load(&rig->wall_ahead_ms);
}

static uint64_t rig_mono(void *ctx)
{
    struct rig *rig = ctx;
    return atomic_load(&rig->now_ms);
}

static void rig_on_done(void *ctx, struct peal_store_op *op)
{
    struct rig *rig = ctx;
    pthread_mutex_lock(&rig->gate);
    pthread_mutex_unlock(&rig->gate);
    if (peal_mailbox_put(&rig->done, op) != PEAL_OK) abort();
}

static void rig_on_done_all(void *ctx)
{
    peal_mailbox_wake(&((struct rig *)ctx)->done);
}

static void rig_on_page(void *ctx, struct peal_store_fetch *fetch)
{
    struct rig *rig = ctx;
    if (peal_mailbox_push(&rig->pages, fetch) != PEAL_OK) abort();
}

static void rig_init(struct rig *rig, char *dir)
{
    struct peal_config_group policy = {
        .match = (char *)(uintptr_t) "user:{id}",
        .durable = true,
        .keep = {.messages = 1000,
                 .bytes = 1 << 20,
                 .age_ms = 24 * HOUR_MS,
                 .until = PEAL_UNTIL_ACKED,
                 .settled_ms = HOUR_MS},
    };
    memset(rig, 0, sizeof *rig);
    rig->dir = dir;
    rig->groups[0] = rig->groups[1] = policy;
    rig->groups[1].match = (char *)(uintptr_t) "*";
    rig->config.groups = rig->groups;
    rig->config.group_count = 2;
    rig->config.store.max = 64 << 20;
    rig->config.dedup.age_ms = 600 * 1000;
    rig->config.dedup.ids = 1000000;
    atomic_store(&rig->now_ms, 1700000000000);
    pthread_mutex_init(&rig->gate, NULL);
}

static enum peal_err rig_try_open(struct rig *rig)
{
    struct peal_store_events events = {rig, rig_on_done, rig_on_page, rig_on_done_all};
    struct peal_store_options options = {rig_wall, rig_mono, rig};
    if (peal_mailbox_init(&rig->done, PEAL_STORE_OPS_MAX) != PEAL_OK) abort();
    if (peal_mailbox_init(&rig->pages, PEAL_STORE_READS_MAX) != PEAL_OK) abort();
    peal_metrics_thread_start();
    enum peal_err err = peal_store_start_with(rig->dir, &rig->config, &events, &options,
                                              &rig->store, rig->why, sizeof rig->why);
    if (err == PEAL_OK) return PEAL_OK;
    peal_mailbox_fini(&rig->done);
    peal_mailbox_fini(&rig->pages);
    return err;
}

static inline void rig_open(struct rig *rig)
{
    if (rig_try_open(rig) != PEAL_OK) fail_msg("start: %s", rig->why);
}

static inline void rig_close(struct rig *rig)
{
    peal_store_stop(rig->store);
    rig->store = NULL;
    peal_mailbox_fini(&rig->done);
    peal_mailbox_fini(&rig->pages);
}

static inline void rig_reopen(struct rig *rig)
{
    rig_close(rig);
    rig_open(rig);
}

static inline void *rig_wait(struct peal_mailbox *box)
{
    for (;;) {
        peal_mailbox_arm(box);
        void *item = peal_mailbox_pop(box);
        if (item != NULL) {
            peal_mailbox_wake(box); /* there may be more */
            return item;
        }
        struct pollfd pfd = {.fd = box->fd, .events = POLLIN};
        if (poll(&pfd, 1, WAIT_MS) != 1) fail_msg("the store did not answer");
    }
}

/* ---- operations ------------------------------------------------------------------------- */

struct message {
    const char *group;
    const char *id; /* given by the publisher unless NULL */
    const char *data;
    size_t data_size; /* 0: of the text */
    uint64_t ttl_ms;
};

static inline struct peal_store_op *rig_put_op(struct rig *rig, const struct message *m)
{
    struct peal_buf buf = {0};
    struct peal_envelope env = {
        .id = peal_span_of(m->id == NULL ? "01ARZ3NDEKTSV4RRFFQ69G5FAV" : m->id),
        .group = peal_span_of(m->group),
        .ts_ms = atomic_load(&rig->now_ms),
        .data = {m->data, m->data_size == 0 ? strlen(m->data) : m->data_size},
        .data_kind = PEAL_DATA_TEXT,
        .ttl_ms = m->ttl_ms,
        .flags = m->id == NULL ? 0 : PEAL_MSG_ID_GIVEN,
    };
    peal_envelope_encode(&env, &buf);
    struct peal_store_op *op =
        peal_store_op_new(PEAL_STORE_PUT, env.group, peal_buf_span(&buf), NULL, 0);
    peal_buf_fini(&buf);
    assert_non_null(op);
    op->policy = &rig->groups[strncmp(m->group, "user:", 5) == 0 ? 0 : 1];
    return op;
}

static inline struct peal_store_op *rig_mark_op(struct rig *rig, const char *group, uint64_t flags,
                                                uint64_t upto, const uint64_t *offsets,
                                                size_t count)
{
    struct peal_store_op *op = peal_store_op_new(PEAL_STORE_MARK, peal_span_of(group),
                                                 (struct peal_span){0}, offsets, count);
    assert_non_null(op);
    op->policy = &rig->groups[0];
    op->mark_flags = flags;
    op->upto = upto;
    return op;
}

static inline struct peal_store_op *rig_head_op(struct rig *rig, const char *group)
{
    struct peal_store_op *op =
        peal_store_op_new(PEAL_STORE_HEAD, peal_span_of(group), (struct peal_span){0}, NULL, 0);
    assert_non_null(op);
    op->policy = &rig->groups[0];
    return op;
}

static inline void rig_submit(struct rig *rig, struct peal_store_op *op)
{
    assert_int_equal(peal_store_submit(rig->store, op), PEAL_OK);
}

/* Submits, waits, and returns a copy of the answer; the operation is gone. */
static inline struct peal_store_op rig_do(struct rig *rig, struct peal_store_op *op)
{
    rig_submit(rig, op);
    struct peal_store_op *back = rig_wait(&rig->done);
    assert_ptr_equal(back, op);
    struct peal_store_op answer = *op;
    peal_store_op_free(op);
    answer.encoded = NULL;
    return answer;
}

static inline struct peal_store_op rig_put(struct rig *rig, const char *group, const char *id,
                                           const char *data)
{
    return rig_do(rig, rig_put_op(rig, &(struct message){group, id, data, 0, 0}));
}

static inline struct peal_store_op rig_ack(struct rig *rig, const char *group, uint64_t upto)
{
    return rig_do(rig, rig_mark_op(rig, group, PEAL_FLAG_ACK, upto, NULL, 0));
}

static inline struct peal_store_op rig_head(struct rig *rig, const char *group)
{
    return rig_do(rig, rig_head_op(rig, group));
}

/* Lets time pass, and a sweep or more with it: the sweep that is due runs between two
 * operations. */
static inline void rig_pass(struct rig *rig, uint64_t ms)
{
    atomic_fetch_add(&rig->now_ms, ms);
    rig_head(rig, "user:nobody");
    rig_head(rig, "user:nobody");
}

/* ---- pages ------------------------------------------------------------------------------ */

/* Messages of a group that began a new epoch keep the envelopes of the old one. */
static bool rig_head_went_back;

struct page {
    struct peal_bytes *bytes;
    struct peal_frame frame;
    char text[8192]; /* the entries: "M1 M2ar S3-4 Gevicted:5-6" */
    uint64_t messages;
    char data[300]; /* of the last message */
};

static inline void page_free(struct page *page)
{
    peal_frame_fini(&page->frame);
    peal_bytes_unref(page->bytes);
}

static inline void page_describe(struct page *page)
{
    size_t n = 0;
    page->text[0] = '\0';
    for (size_t i = 0; i < page->frame.entries.count; i++) {
        struct peal_frame entry;
        struct peal_envelope env;
        char one[64] = "";
        assert_int_equal(peal_frame_decode(page->frame.entries.at[i], &entry), PEAL_OK);
        if (entry.type == PEAL_F_MESSAGE) {
            assert_int_equal(peal_envelope_decode(entry.envelope, &env), PEAL_OK);
            if (!rig_head_went_back) assert_int_equal(env.epoch, page->frame.epoch);
            snprintf(one, sizeof one, "M%llu%s%s", (unsigned long long)env.offset,
                     entry.flags & PEAL_FLAG_ACKED ? "a" : "",
                     entry.flags & PEAL_FLAG_READ ? "r" : "");
            size_t size = env.data.size < sizeof page->data ? env.data.size : 0;
            memcpy(page->data, env.data.at, size);
            page->data[size] = '\0';
            page->messages++;
        } else {
            assert_true(entry.type == PEAL_F_SKIP || entry.type == PEAL_F_GAP);
            assert_true(peal_span_equal(entry.group, page->frame.group));
            snprintf(one, sizeof one, "%s%s%s%llu-%llu", entry.type == PEAL_F_SKIP ? "S" : "G",
                     entry.type == PEAL_F_SKIP ? "" : peal_gap_word(entry.why),
                     entry.type == PEAL_F_SKIP ? "" : ":", (unsigned long long)entry.from,
                     (unsigned long long)entry.to);
        }
        peal_frame_fini(&entry);
        assert_true(n + strlen(one) + 2 < sizeof page->text);
        n +=
            (size_t)snprintf(page->text + n, sizeof page->text - n, "%s%s", n == 0 ? "" : " ", one);
    }
}

struct ask {
    const char *group;
    uint64_t epoch, offset, limit, bytes, flags;
};

static inline void rig_page(struct rig *rig, const struct ask *ask, struct page *page)
{
    struct peal_store_fetch *fetch = peal_store_fetch_new(peal_span_of(ask->group));
    assert_non_null(fetch);
    fetch->policy = &rig->groups[0];
    fetch->epoch = ask->epoch;
    fetch->offset = ask->offset;
    fetch->limit = ask->limit;
    fetch->bytes = ask->bytes;
    fetch->flags = ask->flags;
    fetch->tag[0] = 4711;
    assert_int_equal(peal_store_read(rig->store, fetch), PEAL_OK);
    assert_ptr_equal(rig_wait(&rig->pages), fetch);
    assert_non_null(fetch->page);
    *page = (struct page){.bytes = peal_bytes_ref(fetch->page)};
    peal_store_fetch_free(fetch);
    assert_int_equal(peal_frame_decode(peal_bytes_span(page->bytes), &page->frame), PEAL_OK);
    assert_int_equal(page->frame.type, PEAL_F_PAGE);
    assert_int_equal(page->frame.req, 4711);
    page_describe(page);
}

/* The entries of one page as text. */
static inline const char *rig_text(struct rig *rig, const struct ask *ask)
{
    static struct page page;
    rig_page(rig, ask, &page);
    page_free(&page);
    return page.text;
}

#endif

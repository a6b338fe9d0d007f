#include "tests/contract/rig.h"

#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/metrics.h"
#include "proto/envelope.h"
#include "proto/group.h"
#include "tests/unit/unit.h"

/* ---- folder ----------------------------------------------------------------------------- */

char *rig_folder_new(void)
{
    const char *tmp = getenv("TMPDIR");
    char *path = malloc(128);
    if (path == NULL) fail_msg("no memory");
    snprintf(path, 128, "%s/peal-test-XXXXXX", tmp == NULL || strlen(tmp) > 100 ? "/tmp" : tmp);
    if (mkdtemp(path) == NULL) fail_msg("no folder at %s", path);
    return path;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

void rig_folder_free(char *path)
{
    if (path != NULL && nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        print_error("%s is left\n", path);
    free(path);
}

/* ---- store ------------------------------------------------------------------------------ */

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
    if (rig->told != NULL) rig->told(op);
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

void rig_init(struct rig *rig, const struct contract_store *impl, char *dir)
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
    rig->impl = impl;
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

enum peal_err rig_try_open(struct rig *rig)
{
    struct peal_store_events events = {rig, rig_on_done, rig_on_page, rig_on_done_all};
    struct peal_store_options options = {rig_wall, rig_mono, rig};
    if (peal_mailbox_init(&rig->done, PEAL_STORE_OPS_MAX) != PEAL_OK) abort();
    if (peal_mailbox_init(&rig->pages, PEAL_STORE_READS_MAX) != PEAL_OK) abort();
    peal_metrics_thread_start();
    enum peal_err err = rig->impl->start(rig->dir, &rig->config, &events, &options, &rig->store,
                                         rig->why, sizeof rig->why);
    if (err == PEAL_OK) return PEAL_OK;
    rig->store = NULL;
    peal_mailbox_fini(&rig->done);
    peal_mailbox_fini(&rig->pages);
    return err;
}

void rig_open(struct rig *rig)
{
    if (rig_try_open(rig) != PEAL_OK) fail_msg("start: %s", rig->why);
}

void rig_close(struct rig *rig)
{
    rig->impl->stop(rig->store);
    rig->store = NULL;
    peal_mailbox_fini(&rig->done);
    peal_mailbox_fini(&rig->pages);
}

void rig_reopen(struct rig *rig)
{
    rig_close(rig);
    rig_open(rig);
}

void *rig_wait(struct peal_mailbox *box)
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

uint64_t rig_generation(const struct rig *rig)
{
    return rig->impl->generation(rig->store);
}

pid_t rig_spawn(struct rig *rig, void (*run)(struct rig *rig, int out), int *from)
{
    int ends[2];
    assert_null(rig->store);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
        close(ends[0]);
        run(rig, ends[1]);
        _exit(0);
    }
    close(ends[1]);
    *from = ends[0];
    return child;
}

void rig_crash(struct rig *rig, pid_t child, int from)
{
    rig->impl->crash(child);
    waitpid(child, NULL, 0);
    close(from);
}

/* ---- operations ------------------------------------------------------------------------- */

struct peal_store_op *rig_op(struct rig *rig, enum peal_store_op_kind kind, struct peal_span group,
                             struct peal_span message, const uint64_t *offsets, size_t count)
{
    struct peal_store_op *op = peal_store_op_new(kind, group, message, offsets, count);
    assert_non_null(op);
    op->policy = peal_group_policy(&rig->config, group);
    return op;
}

struct peal_store_op *rig_put_keyed_op(struct rig *rig, const struct message *m,
                                       const char *collapse)
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
    if (collapse != NULL) env.collapse = peal_span_of(collapse);
    peal_envelope_encode(&env, &buf);
    struct peal_store_op *op = rig_op(rig, PEAL_STORE_PUT, env.group, peal_buf_span(&buf), NULL, 0);
    peal_buf_fini(&buf);
    return op;
}

struct peal_store_op *rig_put_op(struct rig *rig, const struct message *m)
{
    return rig_put_keyed_op(rig, m, NULL);
}

struct peal_store_op *rig_mark_op(struct rig *rig, const char *group, uint64_t flags, uint64_t upto,
                                  const uint64_t *offsets, size_t count)
{
    struct peal_store_op *op =
        rig_op(rig, PEAL_STORE_MARK, peal_span_of(group), (struct peal_span){0}, offsets, count);
    op->mark_flags = flags;
    op->upto = upto;
    return op;
}

struct peal_store_op *rig_head_op(struct rig *rig, const char *group)
{
    return rig_op(rig, PEAL_STORE_HEAD, peal_span_of(group), (struct peal_span){0}, NULL, 0);
}

void rig_submit(struct rig *rig, struct peal_store_op *op)
{
    assert_int_equal(rig->impl->submit(rig->store, op), PEAL_OK);
}

struct peal_store_op rig_do(struct rig *rig, struct peal_store_op *op)
{
    rig_submit(rig, op);
    struct peal_store_op *back = rig_wait(&rig->done);
    assert_ptr_equal(back, op);
    struct peal_store_op answer = *op;
    peal_store_op_free(op);
    answer.encoded = NULL;
    return answer;
}

struct peal_store_op rig_put(struct rig *rig, const char *group, const char *id, const char *data)
{
    return rig_do(rig, rig_put_op(rig, &(struct message){group, id, data, 0, 0}));
}

struct peal_store_op rig_put_sized(struct rig *rig, const char *group, size_t size, uint64_t ttl_ms)
{
    char *data = malloc(size);
    assert_non_null(data);
    memset(data, 'x', size);
    struct message m = {group, NULL, data, size, ttl_ms};
    struct peal_store_op answer = rig_do(rig, rig_put_op(rig, &m));
    free(data);
    return answer;
}

struct peal_store_op rig_mark(struct rig *rig, const char *group, uint64_t flags, uint64_t upto)
{
    return rig_do(rig, rig_mark_op(rig, group, flags, upto, NULL, 0));
}

struct peal_store_op rig_mark_one(struct rig *rig, const char *group, uint64_t flags,
                                  uint64_t offset)
{
    return rig_do(rig, rig_mark_op(rig, group, flags, 0, &offset, 1));
}

struct peal_store_op rig_ack(struct rig *rig, const char *group, uint64_t upto)
{
    return rig_mark(rig, group, PEAL_FLAG_ACK, upto);
}

struct peal_store_op rig_head(struct rig *rig, const char *group)
{
    return rig_do(rig, rig_head_op(rig, group));
}

struct peal_store_op rig_head_seen(struct rig *rig, const char *group, uint64_t epoch,
                                   uint64_t offset)
{
    struct peal_store_op *op = rig_head_op(rig, group);
    op->seen_epoch = epoch;
    op->seen_offset = offset;
    return rig_do(rig, op);
}

void rig_clock(struct rig *rig, uint64_t ms)
{
    atomic_fetch_add(&rig->now_ms, ms);
}

void rig_pass(struct rig *rig, uint64_t ms)
{
    rig_clock(rig, ms);
    rig_head(rig, "user:nobody");
    rig_head(rig, "user:nobody");
}

void rig_pass_until_first(struct rig *rig, uint64_t ms, const char *group, uint64_t first)
{
    rig_pass(rig, ms);
    /* Some seconds at most, or what is not due yet would go too. */
    for (int i = 0; i < 400 && rig_head(rig, group).first != first; i++) {
        if (i >= 5) usleep(WAIT_MS * 1000 / 400);
        rig_pass(rig, i < 5 ? 1001 : 0);
    }
    assert_int_equal(rig_head(rig, group).first, first);
}

struct peal_store_op rig_put_until_stored(struct rig *rig, const struct message *m)
{
    struct peal_store_op op = rig_do(rig, rig_put_op(rig, m));
    for (int i = 0; i < 400 && op.err == PEAL_ESTORE_FULL; i++) {
        usleep(WAIT_MS * 1000 / 400);
        rig_pass(rig, 1000);
        op = rig_do(rig, rig_put_op(rig, m));
    }
    return op;
}

/* ---- pages ------------------------------------------------------------------------------ */

void page_free(struct page *page)
{
    peal_frame_fini(&page->frame);
    peal_bytes_unref(page->bytes);
}

static void describe_message(const struct rig *rig, struct page *page,
                             const struct peal_frame *entry, char one[64])
{
    struct peal_envelope env;
    assert_int_equal(peal_envelope_decode(entry->envelope, &env), PEAL_OK);
    assert_true(peal_span_equal(env.group, page->frame.group));
    if (!rig->head_went_back) assert_int_equal(env.epoch, page->frame.epoch);
    snprintf(one, 64, "M%llu%s%s", (unsigned long long)env.offset,
             entry->flags & PEAL_FLAG_ACKED ? "a" : "", entry->flags & PEAL_FLAG_READ ? "r" : "");
    size_t size = env.data.size < sizeof page->data ? env.data.size : 0;
    memcpy(page->data, env.data.at, size);
    page->data[size] = '\0';
    page->messages++;
}

static void page_describe(const struct rig *rig, struct page *page)
{
    size_t n = 0;
    page->text[0] = '\0';
    for (size_t i = 0; i < page->frame.entries.count; i++) {
        struct peal_frame entry;
        char one[64] = "";
        assert_int_equal(peal_frame_decode(page->frame.entries.at[i], &entry), PEAL_OK);
        if (entry.type == PEAL_F_MESSAGE) {
            describe_message(rig, page, &entry, one);
        } else {
            bool skip = entry.type == PEAL_F_SKIP;
            assert_true(skip || entry.type == PEAL_F_GAP);
            assert_true(peal_span_equal(entry.group, page->frame.group));
            snprintf(one, sizeof one, "%s%s%s%llu-%llu", skip ? "S" : "G",
                     skip ? "" : peal_gap_word(entry.why), skip ? "" : ":",
                     (unsigned long long)entry.from, (unsigned long long)entry.to);
        }
        peal_frame_fini(&entry);
        assert_true(n + strlen(one) + 2 < sizeof page->text);
        n +=
            (size_t)snprintf(page->text + n, sizeof page->text - n, "%s%s", n == 0 ? "" : " ", one);
    }
}

void rig_page(struct rig *rig, const struct ask *ask, struct page *page)
{
    struct peal_store_fetch *fetch = peal_store_fetch_new(peal_span_of(ask->group));
    assert_non_null(fetch);
    fetch->policy = peal_group_policy(&rig->config, fetch->group);
    fetch->epoch = ask->epoch;
    fetch->offset = ask->offset;
    fetch->limit = ask->limit;
    fetch->bytes = ask->bytes;
    fetch->flags = ask->flags;
    fetch->tag[0] = 4711;
    assert_int_equal(rig->impl->read(rig->store, fetch), PEAL_OK);
    assert_ptr_equal(rig_wait(&rig->pages), fetch);
    assert_non_null(fetch->page);
    *page = (struct page){.bytes = peal_bytes_ref(fetch->page)};
    peal_store_fetch_free(fetch);
    assert_int_equal(peal_frame_decode(peal_bytes_span(page->bytes), &page->frame), PEAL_OK);
    assert_int_equal(page->frame.type, PEAL_F_PAGE);
    assert_int_equal(page->frame.req, 4711);
    page_describe(rig, page);
}

const char *rig_text(struct rig *rig, const struct ask *ask)
{
    static struct page page;
    rig_page(rig, ask, &page);
    page_free(&page);
    return page.text;
}

const char *rig_text_of(struct rig *rig, const char *group)
{
    return rig_text(rig, &(struct ask){group, 0, 0, 0, 0, 0});
}

/* ---- cases ------------------------------------------------------------------------------ */

int case_setup(void **state)
{
    struct rig *rig = malloc(sizeof *rig);
    if (rig == NULL) return -1;
    rig_init(rig, *state, rig_folder_new());
    *state = rig;
    return 0;
}

int case_teardown(void **state)
{
    struct rig *rig = *state;
    if (rig->store != NULL) rig_close(rig);
    pthread_mutex_destroy(&rig->gate);
    rig_folder_free(rig->dir);
    free(rig);
    return 0;
}

void case_needs(const struct rig *rig, unsigned can)
{
    if ((rig->impl->can & can) == can) return;
    print_message("%s does not keep this rule\n", rig->impl->name);
    skip();
}

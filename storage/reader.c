/* A page walks offsets, not records: the head's bitmaps say of most offsets what to expect, and
 * only those that may be sent are looked up. A record that is missing without the read mark
 * was lost, because whatever removes records sets it (storage/inbox.h). */
#include "storage/reader.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "base/metrics.h"
#include "proto/group.h"
#include "proto/wire.h"
#include "storage/inbox.h"
#include "storage/keys.h"

/* A fetch on its way from the store thread. */
struct read {
    struct peal_store_fetch *fetch;
    struct peal_view view;
    enum peal_err err; /* not PEAL_OK: there is no view */
};

struct peal_reader {
    struct peal_reader_setup setup;
    struct peal_mailbox box; /* of struct read */
    _Atomic bool stopping;
    pthread_t thread;
    /* Used in turn by the store thread. One comes again after as many reads as can be under way,
     * and they are answered in order: it was answered then. */
    struct read reads[PEAL_STORE_READS_MAX];
    uint64_t submitted;
};

/* ---- page ------------------------------------------------------------------------------- */

struct page {
    struct peal_view *view;
    const struct peal_inbox *inbox; /* of the view */
    const struct peal_store_fetch *fetch;
    uint16_t slot;
    bool marks;
    uint64_t now_ms;
    uint64_t limit;
    uint64_t bytes_max;
    uint64_t messages;
    uint64_t bytes;
    uint64_t position; /* reached */
    uint64_t flags;
    uint64_t damaged; /* messages that were lost or changed on the disk */
    uint64_t damaged_first;
    struct {
        enum peal_frame_type type; /* 0: no run is open */
        uint64_t why, from, to;
    } run;                 /* of SKIP or GAP, not yet among the entries */
    struct peal_buf data;  /* entries, one behind the other */
    struct peal_buf sizes; /* their sizes, as size_t */
};

/* What stands at one offset. */
enum there { THERE_MESSAGE, THERE_SKIP, THERE_CORRUPT };

static void entry_add(struct page *page, const struct peal_frame *entry)
{
    size_t before = page->data.size;
    peal_frame_encode(entry, &page->data);
    size_t size = page->data.size - before;
    peal_buf_add(&page->sizes, &size, sizeof size);
}

static void run_end(struct page *page)
{
    if (page->run.type == 0) return;
    entry_add(page, &(struct peal_frame){.type = page->run.type,
                                         .group = page->fetch->group,
                                         .from = page->run.from,
                                         .to = page->run.to,
                                         .why = page->run.why});
    page->run.type = 0;
}

static void run_add(struct page *page, enum peal_frame_type type, uint64_t why, uint64_t from,
                    uint64_t to)
{
    bool same = page->run.type == type && page->run.why == why;
    if (same && page->run.to + 1 == from) {
        page->run.to = to;
        return;
    }
    run_end(page);
    page->run.type = type;
    page->run.why = why;
    page->run.from = from;
    page->run.to = to;
}

/* Looks at the record; *record is filled for THERE_MESSAGE. */
static enum peal_err look(struct page *page, uint64_t offset, struct peal_record *record,
                          enum there *out)
{
    *out = THERE_SKIP;
    if (page->fetch->flags & PEAL_FLAG_UNACKED && peal_inbox_delivered(page->inbox, offset))
        return PEAL_OK;
    bool read = peal_inbox_read(page->inbox, offset);
    if (page->fetch->flags & PEAL_FLAG_UNREAD && read) return PEAL_OK;

    enum peal_err err = peal_view_message(page->view, page->slot, offset, record);
    if (err == PEAL_ENOT_FOUND && read) return PEAL_OK;
    if (err == PEAL_ENOT_FOUND || err == PEAL_ECORRUPT) {
        if (page->damaged++ == 0) page->damaged_first = offset;
        *out = THERE_CORRUPT;
        return PEAL_OK;
    }
    if (err != PEAL_OK) return err;
    bool expired = record->expires_ms != 0 && record->expires_ms <= page->now_ms;
    if (!expired) *out = THERE_MESSAGE;
    return PEAL_OK;
}

static bool fits(const struct page *page, const struct peal_record *record)
{
    if (page->messages == 0) return true;
    return page->messages < page->limit && record->envelope.size <= page->bytes_max - page->bytes;
}

static void message_add(struct page *page, uint64_t offset, const struct peal_record *record)
{
    uint64_t flags = 0;
    if (page->marks && peal_inbox_delivered(page->inbox, offset)) flags |= PEAL_FLAG_ACKED;
    if (page->marks && peal_inbox_read(page->inbox, offset)) flags |= PEAL_FLAG_READ;
    run_end(page);
    entry_add(page, &(struct peal_frame){
                        .type = PEAL_F_MESSAGE, .envelope = record->envelope, .flags = flags});
    page->messages++;
    page->bytes += record->envelope.size;
    if (page->bytes > page->bytes_max) page->bytes = page->bytes_max; /* the single large one */
}

/* What came before the window: lost, gone by intent, or of another epoch. */
static void start_forward(struct page *page)
{
    const struct peal_numbers *n = &page->inbox->n;
    const struct peal_store_fetch *fetch = page->fetch;
    bool other = fetch->epoch != 0 && fetch->epoch != n->epoch;
    page->position = fetch->offset;
    if (other || fetch->offset >= n->next) {
        /* `to` is 0 when nothing of this epoch is known to be lost. */
        run_add(page, PEAL_F_GAP, PEAL_GAP_EPOCH, 1, n->first - 1);
        page->position = n->first - 1;
        return;
    }
    uint64_t from = fetch->offset + 1;
    if (from >= n->first) return;
    if (n->lost_to >= from) {
        run_add(page, PEAL_F_GAP, PEAL_GAP_EVICTED, from, n->lost_to);
        from = n->lost_to + 1;
    }
    if (from < n->first) run_add(page, PEAL_F_SKIP, 0, from, n->first - 1);
    page->position = n->first - 1;
}

static enum peal_err fill_forward(struct page *page)
{
    start_forward(page);
    while (page->position + 1 < page->inbox->n.next) {
        uint64_t offset = page->position + 1;
        struct peal_record record;
        enum there there;
        enum peal_err err = look(page, offset, &record, &there);
        if (err != PEAL_OK) return err;
        if (there == THERE_SKIP) run_add(page, PEAL_F_SKIP, 0, offset, offset);
        if (there == THERE_CORRUPT) run_add(page, PEAL_F_GAP, PEAL_GAP_CORRUPT, offset, offset);
        if (there == THERE_MESSAGE) {
            if (!fits(page, &record)) break;
            message_add(page, offset, &record);
        }
        page->position = offset;
    }
    run_end(page);
    return PEAL_OK;
}

static enum peal_err fill_reverse(struct page *page)
{
    const struct peal_store_fetch *fetch = page->fetch;
    bool other = fetch->epoch != 0 && fetch->epoch != page->inbox->n.epoch;
    uint64_t before = other || fetch->offset == 0 ? UINT64_MAX : fetch->offset;
    if (before > page->inbox->n.next) before = page->inbox->n.next;
    page->position = before;
    for (uint64_t offset = before - 1; offset >= page->inbox->n.first; offset--) {
        struct peal_record record;
        enum there there;
        enum peal_err err = look(page, offset, &record, &there);
        if (err != PEAL_OK) return err;
        if (there != THERE_MESSAGE) continue;
        if (!fits(page, &record)) {
            page->flags |= PEAL_FLAG_MORE;
            break;
        }
        message_add(page, offset, &record);
        page->position = offset;
    }
    return PEAL_OK;
}

static enum peal_err page_encode(struct page *page, struct peal_buf *out)
{
    size_t count = page->sizes.size / sizeof(size_t);
    struct peal_span *entries = NULL;
    if (page->data.failed || page->sizes.failed) return PEAL_ENOMEM;
    if (count > 0) {
        entries = malloc(count * sizeof *entries);
        if (entries == NULL) return PEAL_ENOMEM;
    }
    const size_t *sizes = (const size_t *)(const void *)page->sizes.at;
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        entries[i] = peal_span_make(page->data.at + at, sizes[i]);
        at += sizes[i];
    }
    const struct peal_numbers *n = &page->inbox->n;
    struct peal_frame frame = {
        .type = PEAL_F_PAGE,
        .req = page->fetch->tag[0],
        .group = page->fetch->group,
        .epoch = n->epoch,
        .offset = page->position,
        .head = n->next - 1,
        .first = n->first,
        .unread = page->marks ? peal_inbox_unread(page->inbox) : 0,
        .rev = n->rev,
        .flags = page->flags,
        .entries = {entries, count},
    };
    peal_frame_encode(&frame, out);
    free(entries);
    return out->failed ? PEAL_ENOMEM : PEAL_OK;
}

static void report_damage(const struct page *page)
{
    char quoted[256];
    if (page->damaged == 0) return;
    peal_count(PEAL_M_CORRUPT, (int64_t)page->damaged);
    peal_log(PEAL_LOG_ERROR, "store.messages_damaged", "group=%s count=%llu first=%llu",
             peal_log_quote(page->fetch->group, quoted, sizeof quoted),
             (unsigned long long)page->damaged, (unsigned long long)page->damaged_first);
}

static uint64_t clamp(uint64_t wish, uint64_t most)
{
    return wish == 0 || wish > most ? most : wish;
}

enum peal_err peal_reader_page(struct peal_view *view, const struct peal_store_fetch *fetch,
                               uint64_t now_ms, struct peal_buf *out)
{
    if (peal_name_check(fetch->group) != PEAL_OK) return PEAL_EBAD_GROUP;
    struct page page = {
        .view = view,
        .inbox = &view->inbox,
        .fetch = fetch,
        .slot = peal_group_slot(fetch->group),
        .marks = peal_group_is_inbox(fetch->group),
        .now_ms = now_ms,
        .limit = clamp(fetch->limit, PEAL_PAGE_MESSAGES),
        .bytes_max = clamp(fetch->bytes, PEAL_PAGE_BYTES),
    };
    enum peal_err err =
        fetch->flags & PEAL_FLAG_REVERSE ? fill_reverse(&page) : fill_forward(&page);
    report_damage(&page);
    if (err == PEAL_OK) err = page_encode(&page, out);
    peal_buf_fini(&page.data);
    peal_buf_fini(&page.sizes);
    return err;
}

/* ---- thread ----------------------------------------------------------------------------- */

static void answer(struct peal_reader *reader, struct read *read)
{
    struct peal_buf buf = {0};
    struct peal_store_fetch *fetch = read->fetch;
    uint64_t now_ms = atomic_load_explicit(reader->setup.now_ms, memory_order_relaxed);
    enum peal_err err = read->err;
    if (err == PEAL_OK) {
        err = peal_reader_page(&read->view, fetch, now_ms, &buf);
        peal_view_fini(&read->view);
    }
    if (err != PEAL_OK && err != PEAL_ENOMEM) {
        peal_buf_fini(&buf);
        struct peal_frame frame = {
            .type = PEAL_F_PAGE, .req = fetch->tag[0], .group = fetch->group, .code = err};
        peal_frame_encode(&frame, &buf);
    }
    fetch->page = err == PEAL_ENOMEM || buf.failed ? NULL : peal_bytes_new(buf.at, buf.size);
    peal_buf_fini(&buf);
    reader->setup.events.page(reader->setup.events.ctx, fetch);
}

static void *reader_run(void *arg)
{
    struct peal_reader *reader = arg;
    pthread_setname_np(pthread_self(), "reader");
    peal_metrics_thread_start();
    for (;;) {
        /* Asked after arming: a stop that came before is seen here, a later one wakes the poll. */
        peal_mailbox_arm(&reader->box);
        bool stopping = atomic_load(&reader->stopping);
        for (struct read *read; (read = peal_mailbox_pop(&reader->box)) != NULL;)
            answer(reader, read);
        if (stopping) return NULL;
        struct pollfd pfd = {.fd = reader->box.fd, .events = POLLIN};
        poll(&pfd, 1, -1);
    }
}

enum peal_err peal_reader_start(const struct peal_reader_setup *setup, struct peal_reader **out)
{
    *out = NULL;
    struct peal_reader *reader = aligned_alloc(64, (sizeof *reader + 63) / 64 * 64);
    if (reader == NULL) return PEAL_ENOMEM;
    memset(reader, 0, sizeof *reader);
    reader->setup = *setup;
    enum peal_err err = peal_mailbox_init(&reader->box, PEAL_STORE_READS_MAX);
    if (err == PEAL_OK && pthread_create(&reader->thread, NULL, reader_run, reader) != 0) {
        peal_mailbox_fini(&reader->box);
        err = PEAL_ENOMEM;
    }
    if (err != PEAL_OK) {
        free(reader);
        return err;
    }
    *out = reader;
    return PEAL_OK;
}

void peal_reader_stop(struct peal_reader *reader)
{
    if (reader == NULL) return;
    atomic_store(&reader->stopping, true);
    peal_mailbox_wake(&reader->box);
    pthread_join(reader->thread, NULL);
    peal_mailbox_fini(&reader->box);
    free(reader);
}

void peal_reader_submit(struct peal_reader *reader, struct peal_store_fetch *fetch,
                        const struct peal_view *view, enum peal_err err)
{
    PEAL_ASSERT((view != NULL) == (err == PEAL_OK));
    struct read *read = &reader->reads[reader->submitted++ % PEAL_STORE_READS_MAX];
    *read = (struct read){.fetch = fetch, .err = err};
    if (view != NULL) read->view = *view;
    enum peal_err full = peal_mailbox_push(&reader->box, read);
    PEAL_ASSERT(full == PEAL_OK); /* the box has as many cells */
}

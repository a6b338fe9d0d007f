#include "tests/model/disk.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "proto/envelope.h"
#include "proto/group.h"
#include "proto/json.h"
#include "proto/wire.h"

void disk_init(struct disk *disk, struct checker *checker)
{
    *disk = (struct disk){.checker = checker};
}

static void truncate_records(struct disk_group *g, uint64_t from, uint64_t next)
{
    for (uint64_t offset = from; offset < next; offset++) {
        peal_bytes_unref(g->records[offset - 1].envelope);
        g->records[offset - 1] = (struct disk_record){0};
    }
}

/* A copy in place of what was there. */
static void keep(struct peal_inbox *to, const struct peal_inbox *from)
{
    struct peal_inbox copy;
    enum peal_err err = peal_inbox_copy(from, &copy);
    PEAL_ASSERT(err == PEAL_OK);
    peal_inbox_fini(to);
    *to = copy;
}

void disk_fini(struct disk *disk)
{
    for (size_t i = 0; i < disk->group_count; i++) {
        truncate_records(&disk->groups[i], 1, disk->groups[i].inbox.n.next);
        free(disk->groups[i].records);
        peal_inbox_fini(&disk->groups[i].inbox);
        peal_inbox_fini(&disk->backup[i]);
        peal_inbox_fini(&disk->previous[i]);
    }
    disk->group_count = 0;
}

void disk_add_group(struct disk *disk, int number, const char *name, uint64_t epoch)
{
    PEAL_ASSERT(disk->group_count < DISK_GROUPS);
    size_t i = disk->group_count++;
    disk->groups[i] = (struct disk_group){.number = number, .name = peal_span_of(name)};
    peal_inbox_init(&disk->groups[i].inbox, epoch);
    disk->backup[i] = disk->previous[i] = disk->groups[i].inbox; /* no bits yet */
}

struct disk_group *disk_group(struct disk *disk, struct peal_span name)
{
    for (size_t i = 0; i < disk->group_count; i++)
        if (peal_span_equal(disk->groups[i].name, name)) return &disk->groups[i];
    PEAL_ASSERT(false); /* the world only has these */
    return NULL;
}

static void go_back(struct disk *disk, const struct peal_inbox *to)
{
    for (size_t i = 0; i < disk->group_count; i++) {
        struct disk_group *g = &disk->groups[i];
        truncate_records(g, to[i].n.next, g->inbox.n.next);
        keep(&g->inbox, &to[i]);
    }
}

static void remember(const struct disk *disk, struct peal_inbox *out)
{
    for (size_t i = 0; i < disk->group_count; i++)
        keep(&out[i], &disk->groups[i].inbox);
}

static void forget(struct peal_inbox inboxes[DISK_GROUPS])
{
    for (size_t i = 0; i < DISK_GROUPS; i++)
        peal_inbox_fini(&inboxes[i]);
}

/* ---- operations ---------------------------------------------------------------------------- */

static void answer_head(const struct disk_group *g, struct peal_store_op *op)
{
    op->epoch = g->inbox.n.epoch;
    op->offset = g->inbox.n.next - 1;
    op->first = g->inbox.n.first;
    op->unread = peal_group_is_inbox(g->name) ? peal_inbox_unread(&g->inbox) : 0;
    op->rev = g->inbox.n.rev;
}

static struct disk_record *add_record(struct disk_group *g)
{
    size_t i = (size_t)g->inbox.n.next - 1;
    if (i == g->capacity) {
        g->capacity = g->capacity == 0 ? 64 : g->capacity * 2;
        g->records = realloc(g->records, g->capacity * sizeof *g->records);
        PEAL_ASSERT(g->records != NULL);
    }
    return &g->records[i];
}

/* The offset of the message that was stored with this value before; 0 = none. */
static uint64_t find_value(const struct disk_group *g, uint64_t value)
{
    for (uint64_t offset = g->inbox.n.next - 1; offset > 0; offset--)
        if (g->records[offset - 1].value == value) return offset;
    return 0;
}

static void put(struct disk *disk, struct disk_group *g, struct peal_store_op *op, uint64_t now_ms)
{
    struct peal_envelope env;
    struct peal_buf buf = {0};
    uint64_t value = 0;
    enum peal_err err = peal_envelope_decode(op->message, &env);
    PEAL_ASSERT(err == PEAL_OK);
    err = peal_json_u64(env.data, &value);
    PEAL_ASSERT(err == PEAL_OK);
    uint64_t first = 0;
    if (env.flags & PEAL_MSG_ID_GIVEN && disk->fault != DISK_FORGETS_IDS)
        first = find_value(g, value);
    if (first != 0) {
        answer_head(g, op);
        op->duplicate = true;
        op->offset = first;
        return;
    }
    PEAL_ASSERT(peal_inbox_fits(&g->inbox));
    struct disk_record *record = add_record(g);
    env.epoch = g->inbox.n.epoch;
    env.offset = g->inbox.n.next;
    peal_envelope_encode(&env, &buf);
    *record = (struct disk_record){peal_bytes_new(buf.at, buf.size), value};
    PEAL_ASSERT(record->envelope != NULL);
    peal_inbox_add(&g->inbox, buf.size, now_ms, 0);
    op->encoded = peal_bytes_ref(record->envelope);
    peal_buf_fini(&buf);
    answer_head(g, op);
}

static void mark(struct disk *disk, struct disk_group *g, struct peal_store_op *op, uint64_t now_ms)
{
    struct peal_mark with = {.flags = op->mark_flags,
                             .upto = op->upto,
                             .offsets = op->offsets,
                             .offset_count = op->offset_count};
    struct peal_inbox before = {0};
    keep(&before, &g->inbox);
    enum peal_err err = peal_inbox_reserve(&g->inbox, g->inbox.n.next);
    PEAL_ASSERT(err == PEAL_OK);
    op->changed = peal_inbox_mark(&g->inbox, op->policy, &with, now_ms);
    answer_head(g, op);
    if (disk->fault == DISK_FORGETS_MARK) keep(&g->inbox, &before);
    peal_inbox_fini(&before);
}

static void reset(struct peal_store_op *op, enum peal_err err)
{
    peal_bytes_unref(op->encoded);
    op->encoded = NULL;
    op->err = err;
    op->duplicate = op->changed = false;
    op->epoch = op->offset = op->first = op->unread = op->rev = 0;
}

static void apply(struct disk *disk, struct peal_store_op *op, uint64_t now_ms)
{
    struct disk_group *g = disk_group(disk, op->group);
    reset(op, PEAL_OK);
    switch (op->kind) {
    case PEAL_STORE_HEAD:
        /* What a node has seen and is not there: this is an older copy. */
        if (op->seen_epoch == g->inbox.n.epoch && op->seen_offset >= g->inbox.n.next) {
            g->inbox.n.epoch++;
            checker_on_restored(disk->checker, g->number, g->inbox.n.epoch);
        }
        answer_head(g, op);
        break;
    case PEAL_STORE_PUT:
        put(disk, g, op, now_ms);
        break;
    case PEAL_STORE_MARK:
        mark(disk, g, op, now_ms);
        break;
    default:
        PEAL_ASSERT(false); /* of slots: this router is not one of several */
    }
}

static void tell_settled(struct disk *disk)
{
    for (size_t i = 0; i < disk->group_count; i++) {
        const struct disk_group *g = &disk->groups[i];
        if (!peal_group_is_inbox(g->name)) continue;
        for (uint64_t offset = g->inbox.n.first; offset < g->inbox.n.next; offset++)
            if (peal_inbox_delivered(&g->inbox, offset))
                checker_on_settled(disk->checker, g->number, g->inbox.n.epoch, offset);
    }
}

/* Nothing of it has happened; questions are answered from what is there. */
static void fail_all(struct disk *disk, struct peal_store_op **ops, size_t count, enum peal_err err)
{
    for (size_t i = 0; i < count; i++) {
        reset(ops[i], ops[i]->kind == PEAL_STORE_HEAD ? PEAL_OK : err);
        if (ops[i]->kind == PEAL_STORE_HEAD) answer_head(disk_group(disk, ops[i]->group), ops[i]);
    }
}

void disk_work(struct disk *disk, struct peal_store_op **ops, size_t count, uint64_t now_ms,
               enum disk_commit how)
{
    struct peal_inbox before[DISK_GROUPS] = {0};
    bool marks = false;
    if (disk->broken) {
        fail_all(disk, ops, count, PEAL_EIO);
        return;
    }
    remember(disk, before);
    for (size_t i = 0; i < count; i++) {
        apply(disk, ops[i], now_ms);
        marks = marks || ops[i]->kind == PEAL_STORE_MARK;
    }
    if (how == DISK_COMMITS) {
        for (size_t i = 0; i < disk->group_count; i++)
            keep(&disk->previous[i], &before[i]);
        forget(before);
        if (marks) tell_settled(disk);
        return;
    }
    go_back(disk, before);
    forget(before);
    disk->broken = how == DISK_BREAKS;
    if (disk->fault != DISK_NUMBERS_FAILED)
        fail_all(disk, ops, count, how == DISK_BREAKS ? PEAL_EIO : PEAL_ESTORE_FULL);
}

/* ---- pages --------------------------------------------------------------------------------- */

struct page {
    struct peal_frame frame;
    struct peal_span spans[PEAL_PAGE_MESSAGES + 2];
    struct peal_buf bufs[PEAL_PAGE_MESSAGES + 2];
    struct peal_frame run; /* a SKIP that grows */
};

static void entry_add(struct page *page, const struct peal_frame *entry)
{
    size_t n = page->frame.entries.count++;
    PEAL_ASSERT(n < PEAL_PAGE_MESSAGES + 2);
    peal_frame_encode(entry, &page->bufs[n]);
    page->spans[n] = peal_buf_span(&page->bufs[n]);
}

static void run_end(struct page *page)
{
    if (page->run.to != 0) entry_add(page, &page->run);
    page->run.to = 0;
}

static void fill(struct disk *disk, const struct disk_group *g,
                 const struct peal_store_fetch *fetch, uint64_t at_most, struct page *page)
{
    const struct peal_inbox *inbox = &g->inbox;
    struct peal_frame *f = &page->frame;
    size_t bytes = 0;
    size_t count = 0;
    f->offset = fetch->offset;
    if ((fetch->epoch != 0 && fetch->epoch != inbox->n.epoch) || fetch->offset >= inbox->n.next) {
        entry_add(page, &(struct peal_frame){.type = PEAL_F_GAP,
                                             .group = fetch->group,
                                             .from = 1,
                                             .to = inbox->n.first - 1,
                                             .why = PEAL_GAP_EPOCH});
        f->offset = inbox->n.first - 1;
    }
    while (f->offset + 1 < inbox->n.next) {
        const struct disk_record *record = &g->records[f->offset];
        uint64_t offset = f->offset + 1;
        if (fetch->flags & PEAL_FLAG_UNACKED && peal_inbox_delivered(inbox, offset)) {
            if (page->run.to == 0)
                page->run =
                    (struct peal_frame){.type = PEAL_F_SKIP, .group = fetch->group, .from = offset};
            page->run.to = offset;
        } else {
            if (count == at_most || count == fetch->limit) break;
            if (count > 0 && bytes + record->envelope->size > fetch->bytes) break;
            run_end(page);
            if (disk->fault != DISK_PAGE_HAS_HOLE || count != 1)
                entry_add(page,
                          &(struct peal_frame){.type = PEAL_F_MESSAGE,
                                               .envelope = peal_bytes_span(record->envelope)});
            count++;
            bytes += record->envelope->size;
        }
        f->offset = offset;
    }
    run_end(page);
}

void disk_page(struct disk *disk, struct peal_store_fetch *fetch, uint64_t at_most)
{
    const struct disk_group *g = disk_group(disk, fetch->group);
    struct page *page = calloc(1, sizeof *page);
    struct peal_buf out = {0};
    PEAL_ASSERT(page != NULL);
    page->frame = (struct peal_frame){.type = PEAL_F_PAGE,
                                      .req = fetch->tag[0],
                                      .group = fetch->group,
                                      .epoch = g->inbox.n.epoch,
                                      .head = g->inbox.n.next - 1,
                                      .first = g->inbox.n.first,
                                      .rev = g->inbox.n.rev};
    if (peal_group_is_inbox(g->name)) page->frame.unread = peal_inbox_unread(&g->inbox);
    page->frame.entries.at = page->spans;
    fill(disk, g, fetch, at_most, page);
    peal_frame_encode(&page->frame, &out);
    fetch->page = peal_bytes_new(out.at, out.size);
    peal_buf_fini(&out);
    for (size_t i = 0; i < page->frame.entries.count; i++)
        peal_buf_fini(&page->bufs[i]);
    free(page);
}

/* ---- restarts and copies ------------------------------------------------------------------- */

void disk_restart(struct disk *disk)
{
    disk->broken = false;
    if (disk->fault == DISK_FORGETS_COMMIT) go_back(disk, disk->previous);
    remember(disk, disk->previous);
}

void disk_copy(struct disk *disk)
{
    remember(disk, disk->backup);
}

void disk_restore(struct disk *disk, uint64_t epoch)
{
    go_back(disk, disk->backup);
    for (size_t i = 0; i < disk->group_count; i++) {
        struct disk_group *g = &disk->groups[i];
        if (disk->fault != DISK_KEEPS_EPOCH) g->inbox.n.epoch = epoch;
        checker_on_restored(disk->checker, g->number, g->inbox.n.epoch);
    }
    tell_settled(disk);
    remember(disk, disk->backup);
    remember(disk, disk->previous);
}

uint64_t disk_recount(const struct disk_group *g)
{
    uint64_t unread = 0;
    for (uint64_t offset = g->inbox.n.first; offset < g->inbox.n.next; offset++)
        unread += !peal_inbox_read(&g->inbox, offset);
    return unread;
}

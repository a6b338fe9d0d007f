/* A walk goes in rounds. In each: time passes, more or less; while something is due, only what does
 * not depend on the store's pace; then everything due has to go (let_due_go); then a burst of
 * operations that wait for nothing, judged in their order. */
#include "tests/contract/walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/list.h"
#include "base/metrics.h"
#include "proto/envelope.h"
#include "proto/group.h"
#include "tests/contract/oracle.h"
#include "tests/contract/rig.h"
#include "tests/model/dice.h"
#include "tests/unit/unit.h"

typedef unsigned long long ull;

enum {
    BURST = 120,
    DATA_MAX = 4000,
    OFFSETS_MAX = 4,
    PATIENCE = 3000, /* tries */
    DROPPED = 64,
    /* Below keep.age: whether a message that is over in both ways is told as lost depends on when
     * the store looks. */
    TTL_MAX_MS = 30000,
};

static const char *const names[] = {"user:a",  "user:b",  "user:ro", "user:re",
                                    "user:z1", "user:z2", "news",    "log"};
enum { NAMES = sizeof names / sizeof names[0] };

/* One operation, before it is one. */
struct step {
    enum peal_store_op_kind kind; /* HEAD, PUT or MARK */
    size_t group;
    uint64_t ts_ms;
    uint64_t ttl_ms;
    size_t size;
    unsigned data; /* where the data begin, below */
    char id[24];   /* empty = none */
    char collapse[16];
    uint64_t flags;
    uint64_t upto;
    uint64_t offsets[OFFSETS_MAX];
    size_t offset_count;
};

struct walk {
    struct rig rig;
    struct oracle oracle;
    struct dice dice;
    struct walk_counts *counts;
    const char *again;
    uint64_t next_id;
    struct oracle_id dropped[DROPPED]; /* ids of slots that were dropped */
    size_t dropped_count;
    bool trace;
    struct step burst[BURST];
    size_t burst_count;
};

static void differ(struct walk *w, const char *where)
{
    fail_msg("%s: %s\n%s stays\n%s", where, w->oracle.why, w->rig.dir, w->again);
}

/* ---- steps ------------------------------------------------------------------------------ */

static struct peal_span data_of(const struct step *s)
{
    static char bytes[DATA_MAX + 256];
    if (bytes[1] == '\0') {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (char)(i * 37 + i / 256);
    }
    return peal_span_make(bytes + s->data, s->size);
}

static struct peal_envelope envelope_of(const struct step *s)
{
    return (struct peal_envelope){
        .id = peal_span_of(s->id[0] == '\0' ? "01ARZ3NDEKTSV4RRFFQ69G5FAV" : s->id),
        .group = peal_span_of(names[s->group]),
        .ts_ms = s->ts_ms,
        .data = data_of(s),
        .data_kind = PEAL_DATA_BINARY,
        .ttl_ms = s->ttl_ms,
        .collapse = s->collapse[0] == '\0' ? (struct peal_span){0} : peal_span_of(s->collapse),
        .flags = s->id[0] == '\0' ? 0 : PEAL_MSG_ID_GIVEN,
    };
}

static struct peal_store_op *op_of(struct walk *w, const struct step *s)
{
    struct peal_envelope env = envelope_of(s);
    struct peal_buf buf = {0};
    if (s->kind == PEAL_STORE_PUT) peal_envelope_encode(&env, &buf);
    struct peal_store_op *op =
        rig_op(&w->rig, s->kind, env.group, peal_buf_span(&buf), s->offsets, s->offset_count);
    peal_buf_fini(&buf);
    op->mark_flags = s->flags;
    op->upto = s->upto;
    return op;
}

static void expect_of(struct oracle *o, const struct step *s, bool duplicate,
                      struct peal_store_op *expect)
{
    struct peal_envelope env = envelope_of(s);
    if (s->kind == PEAL_STORE_PUT)
        oracle_put(o, s->group, &env, duplicate, expect);
    else if (s->kind == PEAL_STORE_MARK)
        oracle_mark(o, s->group, s->flags, s->upto, s->offsets, s->offset_count, expect);
    else
        oracle_head(o, s->group, expect);
}

static void show(const struct walk *w, const struct step *s, const struct peal_store_op *answer)
{
    static const char *const kinds[] = {"head", "put", "mark"};
    if (!w->trace) return;
    printf("%llu %s %s id=%s key=%s size=%zu ttl=%llu flags=%llu upto=%llu singles=%zu -> %s "
           "offset=%llu first=%llu unread=%llu rev=%llu%s%s\n",
           (ull)w->oracle.now_ms % 100000000, kinds[s->kind], names[s->group], s->id, s->collapse,
           s->size, (ull)s->ttl_ms, (ull)s->flags, (ull)s->upto, s->offset_count,
           peal_err_word(answer->err), (ull)answer->offset, (ull)answer->first, (ull)answer->unread,
           (ull)answer->rev, answer->duplicate ? " duplicate" : "",
           answer->changed ? " changed" : "");
}

static void judge(struct walk *w, const struct step *s, const struct peal_store_op *answer)
{
    struct peal_store_op expect = {0};
    uint64_t kept = oracle_kept(&w->oracle, s->group);
    show(w, s, answer);
    expect_of(&w->oracle, s, answer->duplicate, &expect);
    if (!oracle_agrees(&w->oracle, s->group, &expect, answer)) differ(w, "answer");
    bool added = s->kind == PEAL_STORE_PUT && !answer->duplicate;
    w->counts->removed += kept + added - oracle_kept(&w->oracle, s->group);
    w->counts->duplicates += answer->duplicate;
    w->counts->operations++;
}

static void do_step(struct walk *w, const struct step *s)
{
    struct peal_store_op *op = op_of(w, s);
    rig_submit(&w->rig, op);
    assert_ptr_equal(rig_wait(&w->rig.done), op);
    judge(w, s, op);
    peal_store_op_free(op);
}

static void ask_head(struct walk *w, size_t group)
{
    do_step(w, &(struct step){.kind = PEAL_STORE_HEAD, .group = group});
}

/* ---- steps at random -------------------------------------------------------------------- */

/* An id that was used lately, or a new one. In a burst whose end may stay unanswered it must be
 * certain whether an id is known. */
static void roll_id(struct walk *w, struct step *s, bool certain)
{
    const struct oracle *o = &w->oracle;
    if (dice_chance(&w->dice, 50)) return;
    if (w->dropped_count > 0 && dice_chance(&w->dice, 10)) {
        const struct oracle_id *dropped = &w->dropped[--w->dropped_count];
        s->group = dropped->group;
        memcpy(s->id, dropped->id, sizeof s->id);
        if (!certain || oracle_knows(o, s->group, peal_span_of(s->id)) != ORACLE_EITHER) return;
    }
    size_t most = certain && o->id_count > 60 ? 60 : o->id_count;
    if (most > 0 && dice_chance(&w->dice, 35)) {
        const struct oracle_id *known = &o->ids[o->id_count - 1 - dice_below(&w->dice, most)];
        s->group = known->group;
        memcpy(s->id, known->id, sizeof s->id);
        if (!certain || oracle_knows(o, s->group, peal_span_of(s->id)) != ORACLE_EITHER) return;
    }
    if (w->burst_count > 0 && dice_chance(&w->dice, 10)) {
        const struct step *before = &w->burst[dice_below(&w->dice, w->burst_count)];
        s->group = before->group;
        memcpy(s->id, before->id, sizeof s->id);
        if (s->id[0] != '\0' && oracle_knows(o, s->group, peal_span_of(s->id)) == ORACLE_NEW)
            return;
    }
    snprintf(s->id, sizeof s->id, "id-%llu", (ull)w->next_id++);
}

static void roll_put(struct walk *w, struct step *s, bool certain)
{
    s->kind = PEAL_STORE_PUT;
    s->ts_ms = w->oracle.now_ms;
    s->size = dice_chance(&w->dice, 95) ? dice_below(&w->dice, 60) + 1
                                        : dice_below(&w->dice, DATA_MAX) + 1;
    s->data = (unsigned)dice_below(&w->dice, 256);
    if (dice_chance(&w->dice, 25)) s->ttl_ms = dice_below(&w->dice, TTL_MAX_MS) + 1;
    if (dice_chance(&w->dice, 20))
        snprintf(s->collapse, sizeof s->collapse, "key-%d", (int)dice_below(&w->dice, 3));
    roll_id(w, s, certain);
}

/* Around what is kept, and sometimes outside of it. */
static uint64_t roll_offset(struct walk *w, size_t group)
{
    const struct oracle_group *g = &w->oracle.groups[group];
    if (dice_chance(&w->dice, 3)) return dice_roll(&w->dice);
    uint64_t back = dice_below(&w->dice, g->next - g->first + 10);
    return back > g->next + 4 ? 0 : g->next + 4 - back;
}

static void roll_mark(struct walk *w, struct step *s)
{
    static const uint64_t flags[] = {PEAL_FLAG_ACK,
                                     PEAL_FLAG_READ,
                                     PEAL_FLAG_ACK,
                                     PEAL_FLAG_READ,
                                     PEAL_FLAG_ACK | PEAL_FLAG_READ,
                                     0};
    s->kind = PEAL_STORE_MARK;
    s->flags = flags[dice_below(&w->dice, sizeof flags / sizeof flags[0])];
    if (dice_chance(&w->dice, 5)) s->flags |= PEAL_FLAG_ALL;
    if (dice_chance(&w->dice, 40)) s->upto = roll_offset(w, s->group);
    if (s->upto == 0) s->offset_count = dice_below(&w->dice, OFFSETS_MAX + 1);
    for (size_t i = 0; i < s->offset_count; i++)
        s->offsets[i] = roll_offset(w, s->group);
}

/* Where settled messages go at once, a full group would depend on whether they are gone. */
static bool must_be_emptied(const struct walk *w, size_t group)
{
    const struct oracle_group *g = &w->oracle.groups[group];
    return g->policy->keep.settled_ms == 0 &&
           oracle_kept(&w->oracle, group) + BURST >= g->policy->keep.messages;
}

static void roll_step(struct walk *w, struct step *s, bool certain)
{
    *s = (struct step){.group = dice_below(&w->dice, NAMES)};
    uint64_t roll = dice_below(&w->dice, 100);
    if (roll < 62)
        roll_put(w, s, certain);
    else if (roll < 92)
        roll_mark(w, s);
    if (s->kind == PEAL_STORE_PUT && must_be_emptied(w, s->group))
        *s = (struct step){
            .kind = PEAL_STORE_MARK, .group = s->group, .flags = PEAL_FLAG_READ | PEAL_FLAG_ALL};
}

static void roll_burst(struct walk *w, size_t most, bool certain)
{
    size_t count = dice_below(&w->dice, most) + 1;
    for (w->burst_count = 0; w->burst_count < count; w->burst_count++)
        roll_step(w, &w->burst[w->burst_count], certain);
}

static void run_burst(struct walk *w)
{
    static struct peal_store_op *ops[BURST];
    roll_burst(w, BURST, false);
    for (size_t i = 0; i < w->burst_count; i++) {
        ops[i] = op_of(w, &w->burst[i]);
        rig_submit(&w->rig, ops[i]);
    }
    for (size_t i = 0; i < w->burst_count; i++) {
        assert_ptr_equal(rig_wait(&w->rig.done), ops[i]);
        judge(w, &w->burst[i], ops[i]);
        peal_store_op_free(ops[i]);
    }
}

/* ---- pages ------------------------------------------------------------------------------ */

/* Returns the position that was reached. */
static uint64_t read_page(struct walk *w, size_t group, const struct ask *ask, bool *agrees)
{
    static struct page page;
    rig_page(&w->rig, ask, &page);
    if (w->trace)
        printf("page %s after %llu limit %llu bytes %llu flags %llu: %s\n", ask->group,
               (ull)ask->offset, (ull)ask->limit, (ull)ask->bytes, (ull)ask->flags, page.text);
    *agrees = oracle_agrees_page(&w->oracle, group, ask, &page.frame);
    w->counts->pages++;
    w->counts->entries += page.frame.entries.count;
    uint64_t position = page.frame.offset;
    page_free(&page);
    return position;
}

static void read_at_random(struct walk *w)
{
    static const uint64_t kinds[] = {0, PEAL_FLAG_UNACKED, PEAL_FLAG_UNREAD};
    size_t group = dice_below(&w->dice, NAMES);
    const struct oracle_group *g = &w->oracle.groups[group];
    struct ask ask = {.group = names[group], .flags = kinds[dice_below(&w->dice, 3)]};
    bool agrees;
    if (dice_chance(&w->dice, 40)) ask.flags |= PEAL_FLAG_REVERSE;
    if (dice_chance(&w->dice, 70)) ask.epoch = g->epoch;
    if (dice_chance(&w->dice, 5)) ask.epoch = g->epoch + 1;
    if (dice_chance(&w->dice, 80)) ask.offset = roll_offset(w, group);
    if (dice_chance(&w->dice, 50)) ask.limit = dice_below(&w->dice, 12);
    if (dice_chance(&w->dice, 20)) ask.bytes = dice_below(&w->dice, 2000);
    read_page(w, group, &ask, &agrees);
    if (!agrees) differ(w, "page");
}

/* All of the group, forward in small pages and backward in one. */
static bool read_all(struct walk *w, size_t group)
{
    const struct oracle_group *g = &w->oracle.groups[group];
    struct ask ask = {.group = names[group], .epoch = g->epoch, .limit = 7};
    bool agrees = true;
    do
        ask.offset = read_page(w, group, &ask, &agrees);
    while (agrees && ask.offset + 1 < g->next);
    ask = (struct ask){.group = names[group], .flags = PEAL_FLAG_REVERSE};
    if (agrees) read_page(w, group, &ask, &agrees);
    return agrees;
}

static bool compare_heads(struct walk *w)
{
    for (size_t group = 0; group < NAMES; group++) {
        struct peal_store_op expect = {0};
        struct peal_store_op answer = rig_head(&w->rig, names[group]);
        oracle_head(&w->oracle, group, &expect);
        if (!oracle_agrees(&w->oracle, group, &expect, &answer)) return false;
    }
    return true;
}

/* Store and oracle, all of both. */
static bool compare(struct walk *w)
{
    if (!compare_heads(w)) return false;
    for (size_t group = 0; group < NAMES; group++) {
        if (!read_all(w, group)) return false;
    }
    return true;
}

/* ---- time ------------------------------------------------------------------------------- */

static void pass(struct walk *w, uint64_t ms)
{
    rig_pass(&w->rig, ms);
    w->oracle.now_ms += ms;
}

/* What does not depend on whether due messages are gone. */
static void do_something_careful(struct walk *w)
{
    size_t group = dice_below(&w->dice, NAMES);
    struct step s = {.group = group};
    roll_put(w, &s, false);
    s.collapse[0] = '\0';
    bool full = oracle_is_full(&w->oracle, s.group, s.size + 200);
    if (dice_chance(&w->dice, 30) && !full && !must_be_emptied(w, s.group)) {
        do_step(w, &s);
    } else if (dice_chance(&w->dice, 50)) {
        ask_head(w, group);
    } else {
        read_at_random(w);
    }
}

static bool is_due(const struct walk *w)
{
    for (size_t group = 0; group < NAMES; group++) {
        if (oracle_due(&w->oracle, group)) return true;
    }
    return false;
}

static bool is_gone(struct walk *w, uint64_t then_ms)
{
    bool gone = true;
    for (size_t group = 0; group < NAMES; group++) {
        uint64_t kept = oracle_kept(&w->oracle, group);
        ask_head(w, group);
        if (w->oracle.can & CONTRACT_SETTLED_BEHIND && !read_all(w, group)) differ(w, "page");
        gone &= oracle_gone(&w->oracle, group, then_ms);
        w->counts->removed += kept - oracle_kept(&w->oracle, group);
    }
    return gone;
}

/* Whatever is due has to go within some seconds of the store's clock, or soon after. */
static void let_due_go(struct walk *w)
{
    int tries = 0;
    while (is_due(w)) {
        uint64_t then_ms = w->oracle.now_ms;
        pass(w, 1001);
        while (!is_gone(w, then_ms)) {
            if (tries++ > PATIENCE) fail_msg("what is due does not go\n%s", w->again);
            if (tries > 100) usleep(WAIT_MS * 1000 / PATIENCE);
            pass(w, tries < 100 ? 1001 : 0);
        }
    }
}

static void let_time_pass(struct walk *w)
{
    uint64_t roll = dice_below(&w->dice, 100);
    uint64_t ms = 0;
    if (roll < 50) ms = dice_below(&w->dice, 1000);
    if (roll < 20) ms = dice_below(&w->dice, 15000);
    if (roll < 1) ms = 100000;
    pass(w, ms);
    if (dice_chance(&w->dice, 40)) {
        for (uint64_t i = dice_below(&w->dice, 8); i > 0; i--)
            do_something_careful(w);
    }
    let_due_go(w);
}

/* ---- rare events ------------------------------------------------------------------------ */

static void reopen(struct walk *w)
{
    rig_reopen(&w->rig);
    w->counts->reopened++;
    if (rig_generation(&w->rig) != w->oracle.generation)
        fail_msg("another generation\n%s", w->again);
    if (!compare(w)) differ(w, "reopened");
}

/* Somebody has seen a position: one that is ahead begins a new epoch, another one does not. */
static void see_position(struct walk *w, size_t group, uint64_t offset)
{
    struct oracle_group *g = &w->oracle.groups[group];
    bool ahead = offset >= g->next;
    struct peal_store_op op = rig_head_seen(&w->rig, names[group], g->epoch, offset);
    if (op.err != PEAL_OK || (op.epoch != g->epoch) != ahead)
        fail_msg("%s was seen at %llu of %llu\n%s", names[group], (ull)offset, (ull)g->next - 1,
                 w->again);
    oracle_new_epoch(&w->oracle, group, op.epoch);
    ask_head(w, group);
}

static void begin_new_epoch(struct walk *w)
{
    size_t group = dice_below(&w->dice, NAMES);
    uint64_t next = w->oracle.groups[group].next;
    see_position(w, group, dice_below(&w->dice, next));
    see_position(w, group, next + dice_below(&w->dice, 3));
}

static struct peal_store_op *slot_op(struct walk *w, enum peal_store_op_kind kind, size_t group,
                                     struct peal_span name, struct peal_span message, uint64_t upto)
{
    struct peal_store_op *op = rig_op(&w->rig, kind, name, message, NULL, 0);
    op->mark_flags = peal_group_slot(peal_span_of(names[group]));
    op->upto = upto;
    return op;
}

/* A slot goes from the store to itself: nothing has changed. */
static void move_to_itself(struct walk *w)
{
    enum { PIECES = 64 };
    static struct peal_bytes *pieces[PIECES];
    size_t group = dice_below(&w->dice, NAMES);
    struct peal_buf name = {0};
    uint64_t from = 0;
    size_t count = 0;
    for (bool last = false; !last; count++) {
        struct peal_frame records;
        assert_true(count < PIECES);
        struct peal_store_op *op =
            slot_op(w, PEAL_STORE_EXPORT, group, peal_buf_span(&name), (struct peal_span){0}, from);
        rig_submit(&w->rig, op);
        assert_ptr_equal(rig_wait(&w->rig.done), op);
        assert_int_equal(op->err, PEAL_OK);
        pieces[count] = peal_bytes_ref(op->encoded);
        peal_store_op_free(op);
        assert_int_equal(peal_frame_decode(peal_bytes_span(pieces[count]), &records), PEAL_OK);
        last = (records.flags & PEAL_FLAG_LAST) != 0;
        from = records.from;
        name.size = 0;
        peal_buf_add_span(&name, records.group);
        peal_frame_fini(&records);
    }
    for (size_t i = 0; i < count; i++) {
        struct peal_store_op answer =
            rig_do(&w->rig, slot_op(w, PEAL_STORE_IMPORT, group, (struct peal_span){0},
                                    peal_bytes_span(pieces[i]), i));
        if (answer.err != PEAL_OK) fail_msg("import: %s\n%s", peal_err_word(answer.err), w->again);
        peal_bytes_unref(pieces[i]);
    }
    peal_buf_fini(&name);
    for (size_t other = 0; other < NAMES; other++) {
        if (peal_group_slot(peal_span_of(names[other])) ==
            peal_group_slot(peal_span_of(names[group])))
            oracle_moved(&w->oracle, other);
    }
    if (!compare(w)) differ(w, "moved to itself");
}

static void drop_slot(struct walk *w)
{
    size_t group = dice_below(&w->dice, NAMES);
    const struct oracle *o = &w->oracle;
    w->dropped_count = 0;
    for (size_t i = o->id_count; i-- > 0 && w->dropped_count < DROPPED;) {
        if (o->ids[i].group == group) w->dropped[w->dropped_count++] = o->ids[i];
    }
    struct peal_store_op answer =
        rig_do(&w->rig,
               slot_op(w, PEAL_STORE_DROP, group, (struct peal_span){0}, (struct peal_span){0}, 0));
    assert_int_equal(answer.err, PEAL_OK);
    for (size_t other = 0; other < NAMES; other++) {
        if (peal_group_slot(peal_span_of(names[other])) ==
            peal_group_slot(peal_span_of(names[group])))
            oracle_drop(&w->oracle, other);
    }
    if (!compare_heads(w)) differ(w, "dropped");
}

/* ---- kill -9 ---------------------------------------------------------------------------- */

/* What the child says of each operation. */
struct reply {
    enum peal_err err;
    bool duplicate;
    bool changed;
    bool encoded;
    uint64_t epoch;
    uint64_t offset;
    uint64_t first;
    uint64_t unread;
    uint64_t rev;
};

static bool reply_write(int out, const struct peal_store_op *op)
{
    struct reply reply = {op->err,   op->duplicate, op->changed, op->encoded != NULL,
                          op->epoch, op->offset,    op->first,   op->unread,
                          op->rev};
    return write(out, &reply, sizeof reply) == (ssize_t)sizeof reply;
}

/* The envelope itself is compared when it is read: here it is whatever is expected, or missing. */
static bool reply_read(int from, struct reply *reply, struct peal_store_op *op)
{
    if (read(from, reply, sizeof *reply) != (ssize_t)sizeof *reply) return false;
    *op = (struct peal_store_op){.err = reply->err,
                                 .duplicate = reply->duplicate,
                                 .changed = reply->changed,
                                 .epoch = reply->epoch,
                                 .offset = reply->offset,
                                 .first = reply->first,
                                 .unread = reply->unread,
                                 .rev = reply->rev};
    return true;
}

static void child_submit(struct walk *w, const struct step *s)
{
    if (w->rig.impl->submit(w->rig.store, op_of(w, s)) != PEAL_OK) _exit(3);
}

/* Some at a time, so that they are in several commits. */
static void child_works(struct rig *rig, int out)
{
    enum { WINDOW = 6 };
    struct walk *w = PEAL_FROM_LINK(rig, struct walk, rig);
    if (rig_try_open(rig) != PEAL_OK) _exit(2);
    size_t sent = 0;
    for (size_t i = 0; i < w->burst_count; i++) {
        for (; sent < w->burst_count && sent < i + WINDOW; sent++)
            child_submit(w, &w->burst[sent]);
        struct peal_store_op *op = rig_wait(&rig->done);
        if (!reply_write(out, op)) _exit(4);
        peal_store_op_free(op);
    }
    for (;;)
        pause();
}

/* Judges what the child says, at most `most` replies; stops when it says no more. */
static size_t hear(struct walk *w, int from, size_t heard, size_t most)
{
    struct reply reply;
    struct peal_store_op answer;
    while (heard < most && reply_read(from, &reply, &answer)) {
        const struct step *s = &w->burst[heard++];
        struct peal_store_op expect = {0};
        show(w, s, &answer);
        expect_of(&w->oracle, s, answer.duplicate, &expect);
        if (reply.encoded != (expect.encoded != NULL))
            fail_msg("an envelope is missing, or one too many\n%s", w->again);
        answer.encoded = expect.encoded;
        if (!oracle_agrees(&w->oracle, s->group, &expect, &answer)) differ(w, "answer");
        w->counts->operations++;
    }
    return heard;
}

/* Operations that were not answered may be on the disk or not, but in their order: some first of
 * them are, and nothing else. */
static void find_out(struct walk *w, size_t heard)
{
    struct oracle tried;
    char why[ORACLE_WHY] = "";
    for (size_t done = heard;; done++) {
        oracle_copy(&tried, &w->oracle);
        bool same = compare(w);
        if (same) w->counts->unanswered += done - heard;
        if (same) oracle_fini(&tried);
        if (same) return;
        if (done == heard) memcpy(why, w->oracle.why, sizeof why);
        if (w->trace) printf("with %zu of %zu: %s\n", done, w->burst_count, w->oracle.why);
        oracle_fini(&w->oracle);
        w->oracle = tried;
        if (done == w->burst_count) break;
        struct peal_store_op expect = {0};
        expect_of(&w->oracle, &w->burst[done], false, &expect);
    }
    fail_msg("killed after %zu of %zu answers, and no state that could be: %s\n%s", heard,
             w->burst_count, why, w->again);
}

static void kill_at_work(struct walk *w)
{
    int from;
    rig_close(&w->rig);
    roll_burst(w, BURST, true);
    pid_t child = rig_spawn(&w->rig, child_works, &from);
    size_t heard = hear(w, from, 0, dice_below(&w->dice, w->burst_count + 1));
    w->rig.impl->crash(child);
    heard = hear(w, from, heard, w->burst_count); /* what it had said before it died */
    waitpid(child, NULL, 0);
    close(from);
    w->counts->killed++;
    rig_open(&w->rig);
    find_out(w, heard);
}

/* ---- walk ------------------------------------------------------------------------------- */

static int64_t not_accounted_for(void)
{
    return peal_metrics_sum(PEAL_M_FOUND) + peal_metrics_sum(PEAL_M_STORED) +
           peal_metrics_sum(PEAL_M_STORE_MOVED_IN) - peal_metrics_sum(PEAL_M_STORE_MOVED_OUT) -
           peal_metrics_sum(PEAL_M_SETTLED) - peal_metrics_sum(PEAL_M_EXPIRED) -
           peal_metrics_sum(PEAL_M_EVICTED) - peal_metrics_sum(PEAL_M_COLLAPSED) -
           peal_metrics_sum(PEAL_M_DAMAGED) - peal_metrics_sum(PEAL_M_PRESENT);
}

/* Different limits in every walk, all of them small. */
static void roll_config(struct walk *w)
{
    static const char *const patterns[RIG_GROUPS] = {"user:r{id}", "user:z{id}", "user:{id}", "*"};
    struct rig *rig = &w->rig;
    for (size_t i = 0; i < RIG_GROUPS; i++) {
        struct peal_config_group *group = &rig->groups[i];
        *group = (struct peal_config_group){
            .match = (char *)(uintptr_t)patterns[i],
            .durable = true,
            .keep = {.messages = dice_below(&w->dice, 40) + 1,
                     .bytes = dice_below(&w->dice, 20000) + 500,
                     .age_ms = TTL_MAX_MS + dice_below(&w->dice, 60000) + 1,
                     .until = i == 0 ? PEAL_UNTIL_READ : PEAL_UNTIL_ACKED,
                     .settled_ms = dice_below(&w->dice, 20000) + 1},
        };
    }
    rig->groups[1].keep.settled_ms = 0;
    rig->groups[1].keep.messages = 3 * BURST;
    rig->groups[1].keep.bytes = 4 << 20;
    rig->config.group_count = RIG_GROUPS;
    rig->config.dedup.age_ms = dice_below(&w->dice, 60000) + 10000;
    rig->config.dedup.ids = dice_below(&w->dice, 500) + 3 * BURST;
}

static void round_of(struct walk *w)
{
    let_time_pass(w);
    run_burst(w);
    for (uint64_t i = dice_below(&w->dice, 6); i > 0; i--)
        read_at_random(w);
    uint64_t roll = dice_below(&w->dice, 1000);
    if (roll < 120) let_due_go(w); /* what follows compares everything */
    if (roll < 60)
        kill_at_work(w);
    else if (roll < 85)
        reopen(w);
    else if (roll < 100)
        move_to_itself(w);
    else if (roll < 110)
        begin_new_epoch(w);
    else if (roll < 115)
        drop_slot(w);
}

void walk_run(const struct contract_store *impl, uint64_t seed, uint64_t operations,
              struct walk_counts *counts, const char *again)
{
    struct walk *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->counts = counts;
    w->again = again;
    w->trace = getenv("PEAL_TRACE") != NULL;
    dice_init(&w->dice, seed);
    peal_metrics_thread_start();
    rig_init(&w->rig, impl, rig_folder_new());
    w->rig.head_went_back = true; /* and so every envelope is compared as a whole */
    roll_config(w);
    int64_t before = not_accounted_for();
    rig_open(&w->rig);
    oracle_init(&w->oracle, &w->rig.config, impl->can, rig_generation(&w->rig),
                atomic_load(&w->rig.now_ms));
    for (size_t i = 0; i < NAMES; i++)
        oracle_add_group(&w->oracle, names[i]);

    for (uint64_t end = counts->operations + operations; counts->operations < end;)
        round_of(w);

    let_due_go(w);
    reopen(w);
    rig_close(&w->rig);
    assert_int_equal(not_accounted_for(), before);
    oracle_fini(&w->oracle);
    pthread_mutex_destroy(&w->rig.gate);
    rig_folder_free(w->rig.dir);
    free(w);
}

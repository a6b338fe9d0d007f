/* A model lives a random life and writes it to a log; the inbox that was settled from it must equal
 * the model, in one range or many, and whatever cut the settling off. */
#include "storage/settle.h"

#include <pthread.h>
#include <sys/wait.h>
#include <time.h>

#include "base/assert.h"
#include "proto/group.h"
#include "storage/entry.h"
#include "storage/keys.h"
#include "tests/unit/disk.h"
#include "tests/unit/unit.h"

enum {
    MEMBERS_MAX = 600,
    SLOTS = 24, /* the members are in so many, so that they share some */
    OFFSETS = 400,
};

/* ---- model -------------------------------------------------------------------------------- */

struct member {
    char name[32];
    uint16_t slot;
    bool exists;
    struct peal_inbox inbox;
    uint64_t stamps[OFFSETS]; /* of the message at each offset; 0: none */
    uint64_t told_ver;        /* by a MOVED note */
    uint64_t told_gid;
};

struct model {
    struct member members[MEMBERS_MAX];
    size_t member_count;
    uint64_t random;
    uint64_t gid;
    uint64_t stamp;
    uint64_t seq;         /* last record of the log */
    struct peal_txn *log; /* in which the life is written */
};

static uint64_t model_random(struct model *model, uint64_t below)
{
    uint64_t x = model->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    model->random = x;
    return (x >> 11) % below;
}

static struct model *model_new(size_t member_count, uint64_t seed)
{
    struct model *model = calloc(1, sizeof *model);
    assert_non_null(model);
    model->random = seed;
    for (uint64_t i = 0; model->member_count < member_count; i++) {
        struct member *member = &model->members[model->member_count];
        snprintf(member->name, sizeof member->name, "user:m%llu", (unsigned long long)i);
        member->slot = peal_group_slot(peal_span_of(member->name));
        if (member->slot >= SLOTS) continue;
        peal_inbox_init(&member->inbox, 77);
        model->member_count++;
    }
    return model;
}

static void model_free(struct model *model)
{
    for (size_t i = 0; i < model->member_count; i++)
        peal_inbox_fini(&model->members[i].inbox);
    free(model);
}

static struct peal_span envelope_of(uint64_t stamp, char out[64])
{
    int size = snprintf(out, 64, "message %llu%.*s", (unsigned long long)stamp, (int)(stamp % 30),
                        "..............................");
    return peal_span_make(out, (size_t)size);
}

static void log_append(struct model *model, const struct peal_entry *entry)
{
    char at[PEAL_KEY_ENTRY];
    struct peal_span key = {at, sizeof at};
    char *room;
    peal_key_entry(at, ++model->seq);
    size_t size = peal_entry_size(entry);
    assert_int_equal(peal_txn_append(model->log, PEAL_TREE_LOG, key, size, &room), PEAL_OK);
    assert_int_equal(peal_entry_encode(key, entry, room), size);
}

static void member_append(struct model *model, struct member *member, struct peal_entry *entry)
{
    struct peal_numbers *n = &member->inbox.n;
    if (n->gid == 0) n->gid = ++model->gid;
    n->ver++;
    member->exists = true;
    entry->group = peal_span_of(member->name);
    entry->numbers = *n;
    log_append(model, entry);
}

static void member_forget(struct member *member, uint64_t epoch)
{
    peal_inbox_fini(&member->inbox);
    peal_inbox_init(&member->inbox, epoch);
    memset(member->stamps, 0, sizeof member->stamps);
    member->exists = false;
}

static void member_reserve(struct member *member, uint64_t more)
{
    assert_int_equal(peal_inbox_reserve(&member->inbox, member->inbox.n.next + more), PEAL_OK);
}

/* Makes a hole of a message behind the first one; 0 when there is none. */
static uint64_t member_hole(struct model *model, struct member *member, enum peal_gone gone)
{
    const struct peal_numbers *n = &member->inbox.n;
    char text[64];
    if (n->next - n->first < 2) return 0;
    uint64_t offset = n->first + 1 + model_random(model, n->next - n->first - 1);
    if (member->stamps[offset] == 0) return 0;
    member_reserve(member, 0);
    peal_inbox_remove(&member->inbox, offset, envelope_of(member->stamps[offset], text).size, gone);
    member->stamps[offset] = 0;
    return offset;
}

static void live_put(struct model *model, struct member *member)
{
    char text[64];
    if (member->inbox.n.next + 1 >= OFFSETS) return;
    uint64_t hole = 0;
    if (model_random(model, 8) == 0) hole = member_hole(model, member, PEAL_GONE_EXPIRED);
    member_reserve(member, 1);
    uint64_t stamp = ++model->stamp;
    struct peal_span envelope = envelope_of(stamp, text);
    uint64_t expires_ms = stamp % 5 == 0 ? stamp + 1000000 : 0;
    uint64_t offset = peal_inbox_add(&member->inbox, envelope.size, stamp, expires_ms);
    member->stamps[offset] = stamp;
    struct peal_entry entry = {.kind = PEAL_ENTRY_PUT,
                               .epoch = member->inbox.n.epoch,
                               .offset = offset,
                               .stored_ms = stamp,
                               .expires_ms = expires_ms,
                               .envelope = envelope,
                               .holes = &hole,
                               .hole_count = hole == 0 ? 0 : 1};
    member_append(model, member, &entry);
}

static void live_mark(struct model *model, struct member *member)
{
    struct peal_numbers *n = &member->inbox.n;
    if (n->first == n->next) return;
    uint64_t offsets[3];
    for (size_t i = 0; i < 3; i++)
        offsets[i] = n->first + model_random(model, n->next - n->first);
    struct peal_entry entry = {.kind = PEAL_ENTRY_MARK,
                               .read = model_random(model, 2) == 0,
                               .offsets = offsets,
                               .offset_count = (size_t)model_random(model, 4)};
    if (model_random(model, 2) == 0)
        entry.upto = n->first + model_random(model, n->next - n->first);
    member_reserve(member, 0);
    peal_inbox_set(&member->inbox, entry.read, 0, entry.upto);
    for (size_t i = 0; i < entry.offset_count; i++)
        peal_inbox_set(&member->inbox, entry.read, offsets[i], offsets[i]);
    n->rev++;
    n->last_mark_ms = ++model->stamp;
    member_append(model, member, &entry);
}

/* Retention takes some from the begin, and perhaps one from the middle. */
static void live_trim(struct model *model, struct member *member)
{
    const struct peal_numbers *n = &member->inbox.n;
    char text[64];
    if (n->first == n->next) return;
    uint64_t hole = member_hole(model, member, PEAL_GONE_EXPIRED);
    for (uint64_t i = model_random(model, 6); i > 0 && n->first < n->next; i--) {
        uint64_t first = n->first;
        member_reserve(member, 0);
        if (member->stamps[first] != 0)
            peal_inbox_remove(&member->inbox, first, envelope_of(member->stamps[first], text).size,
                              PEAL_GONE_SETTLED);
        member->stamps[first] = 0;
        while (first < n->next && member->stamps[first] == 0)
            first++;
        peal_inbox_advance(&member->inbox, first, first < n->next ? member->stamps[first] : 0);
    }
    struct peal_entry entry = {
        .kind = PEAL_ENTRY_TRIM, .holes = &hole, .hole_count = hole == 0 ? 0 : 1};
    member_append(model, member, &entry);
}

/* The head was lost: a new number, and all begins anew. */
static void live_epoch(struct model *model, struct member *member)
{
    member_forget(member, ++model->stamp);
    member_append(model, member, &(struct peal_entry){.kind = PEAL_ENTRY_EPOCH});
}

/* The head went back: the messages are those of a new epoch. */
static void live_rename(struct model *model, struct member *member)
{
    if (!member->exists) return;
    member->inbox.n.epoch = ++model->stamp;
    member_append(model, member, &(struct peal_entry){.kind = PEAL_ENTRY_EPOCH});
}

static void live_drop(struct model *model, uint16_t slot)
{
    log_append(model, &(struct peal_entry){.kind = PEAL_ENTRY_DROP, .slot = slot});
    for (size_t i = 0; i < model->member_count; i++) {
        if (model->members[i].slot == slot) member_forget(&model->members[i], 77);
    }
}

/* What comes with a slot: a state, and its messages. The number and the version go on. */
static void live_state(struct model *model, struct member *member)
{
    char text[64];
    uint64_t gid = member->inbox.n.gid;
    uint64_t ver = member->inbox.n.ver;
    member_forget(member, ++model->stamp);
    struct peal_inbox *inbox = &member->inbox;
    uint64_t count = 1 + model_random(model, 90);
    member_reserve(member, count);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t stamp = ++model->stamp;
        uint64_t offset = peal_inbox_add(inbox, envelope_of(stamp, text).size, stamp, 0);
        member->stamps[offset] = stamp;
    }
    member_hole(model, member, PEAL_GONE_EXPIRED);
    peal_inbox_set(inbox, true, 1, model_random(model, count));
    inbox->n.gid = gid;
    inbox->n.ver = ver;
    struct peal_entry state = {.kind = PEAL_ENTRY_STATE};
    state.delivered = peal_inbox_delivered_words(inbox, &state.word_count);
    state.read_bits = peal_inbox_read_words(inbox, &state.word_count);
    member_append(model, member, &state);
    for (uint64_t offset = 1; offset <= count; offset++) {
        uint64_t stamp = member->stamps[offset];
        if (stamp == 0) continue;
        struct peal_entry entry = {.kind = PEAL_ENTRY_MESSAGE,
                                   .epoch = inbox->n.epoch,
                                   .offset = offset,
                                   .stored_ms = stamp,
                                   .envelope = envelope_of(stamp, text)};
        member_append(model, member, &entry);
    }
}

static void live_step(struct model *model)
{
    struct member *member = &model->members[model_random(model, model->member_count)];
    uint64_t what = model_random(model, 200);
    if (what < 120)
        live_put(model, member);
    else if (what < 165)
        live_mark(model, member);
    else if (what < 190)
        live_trim(model, member);
    else if (what < 192)
        live_epoch(model, member);
    else if (what < 194)
        live_rename(model, member);
    else if (what < 197)
        live_state(model, member);
    else if (what < 198)
        live_drop(model, member->slot);
    else
        log_append(model, &(struct peal_entry){.kind = PEAL_ENTRY_ID, .epoch = 1, .offset = 1});
}

/* ---- rig ---------------------------------------------------------------------------------- */

struct rig {
    struct folder *folder;
    struct model *model;
    struct peal_db *log;
    struct peal_db *inbox;
    struct peal_config config;
    struct peal_config_group policy;
    _Atomic uint64_t now_ms;
    uint64_t slice_ms;
    struct peal_settle *settle;
    int kill_at; /* this process ends with the MOVED note of this number; 0: never */
    int fail_at; /* the disk is full from then on */
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    /* Guarded: what notes said. */
    int moved;
    int done;
    int failed;
    int due_notes;
    size_t due_most;
    enum peal_err err;
    uint64_t corrupt;
    uint64_t dropped;
    uint64_t dropped_to;
    uint64_t entries;
    uint64_t seq;
    bool due[MEMBERS_MAX];
};

static struct member *member_of(struct model *model, struct peal_span name)
{
    for (size_t i = 0; i < model->member_count; i++) {
        if (peal_span_is(name, model->members[i].name)) return &model->members[i];
    }
    return NULL;
}

/* What was said to be there is there with every later note of the range, a failed one too. */
static void told_check(struct rig *rig)
{
    struct peal_txn txn;
    PEAL_ASSERT(peal_txn_begin(&txn, rig->inbox, false) == PEAL_OK);
    for (size_t i = 0; i < rig->model->member_count; i++) {
        const struct member *member = &rig->model->members[i];
        char at[PEAL_KEY_HEAD_MAX];
        struct peal_span key = {at, peal_key_head(at, peal_span_of(member->name))};
        struct peal_span value;
        struct peal_inbox inbox;
        if (member->told_ver == 0) continue;
        PEAL_ASSERT(peal_txn_get(&txn, PEAL_TREE_HEAD, key, &value) == PEAL_OK);
        PEAL_ASSERT(peal_head_decode(key, value, &inbox) == PEAL_OK);
        PEAL_ASSERT(inbox.n.ver == member->told_ver);
        PEAL_ASSERT(inbox.n.gid == member->told_gid);
        peal_inbox_fini(&inbox);
    }
    peal_txn_abort(&txn);
}

static void take_groups(struct rig *rig, const struct peal_settle_note *note)
{
    for (size_t i = 0; i < note->group_count; i++) {
        const struct peal_settle_group *group = &note->groups[i];
        struct peal_span name = {note->names + group->name_at, group->name_size};
        struct member *member = member_of(rig->model, name);
        PEAL_ASSERT(member != NULL);
        if (note->kind == PEAL_SETTLE_DUE) {
            rig->due[member - rig->model->members] = true;
            continue;
        }
        member->told_ver = group->ver;
        member->told_gid = group->gid;
    }
}

static void on_note(void *ctx, struct peal_settle_note *note)
{
    struct rig *rig = ctx;
    pthread_mutex_lock(&rig->mutex);
    take_groups(rig, note);
    told_check(rig);
    rig->err = note->err;
    rig->corrupt += note->corrupt;
    rig->dropped += note->dropped;
    rig->entries = note->entries;
    switch (note->kind) {
    case PEAL_SETTLE_MOVED:
        rig->moved++;
        rig->dropped_to = note->dropped_to;
        rig->seq = note->seq;
        if (rig->moved == rig->kill_at) _exit(42);
        if (rig->moved == rig->fail_at) atomic_store(&disk_write_errno, ENOSPC);
        break;
    case PEAL_SETTLE_DONE:
        rig->done++;
        rig->seq = note->seq;
        break;
    case PEAL_SETTLE_FAILED:
        rig->failed++;
        break;
    case PEAL_SETTLE_DUE:
        rig->due_notes++;
        if (note->group_count > rig->due_most) rig->due_most = note->group_count;
        break;
    }
    pthread_cond_signal(&rig->cond);
    pthread_mutex_unlock(&rig->mutex);
    peal_settle_note_free(note);
}

static void rig_open(struct rig *rig, uint64_t inbox_max)
{
    char why[256];
    assert_int_equal(
        peal_db_open(rig->folder->path, PEAL_DB_LOG, 64 << 20, &rig->log, why, sizeof why),
        PEAL_OK);
    assert_int_equal(
        peal_db_open(rig->folder->path, PEAL_DB_INBOX, inbox_max, &rig->inbox, why, sizeof why),
        PEAL_OK);
}

static void rig_close(struct rig *rig)
{
    peal_db_close(rig->log);
    peal_db_close(rig->inbox);
    rig->log = rig->inbox = NULL;
}

static void rig_begin(struct rig *rig, void **state, size_t member_count, uint64_t seed)
{
    *rig = (struct rig){.folder = *state, .slice_ms = 5};
    rig->model = model_new(member_count, seed);
    rig->policy = (struct peal_config_group){
        .durable = true,
        .keep = {.messages = 1000, .bytes = 1 << 20, .age_ms = 1000, .settled_ms = UINT64_MAX},
    };
    rig->policy.match = strdup("*");
    rig->config.groups = &rig->policy;
    rig->config.group_count = 1;
    pthread_mutex_init(&rig->mutex, NULL);
    pthread_cond_init(&rig->cond, NULL);
    rig_open(rig, 64 << 20);
}

static void rig_end(struct rig *rig)
{
    rig_close(rig);
    model_free(rig->model);
    free(rig->policy.match);
    pthread_mutex_destroy(&rig->mutex);
    pthread_cond_destroy(&rig->cond);
}

/* Lives so many steps, in one commit. */
static void rig_live(struct rig *rig, size_t steps)
{
    struct peal_txn txn;
    assert_int_equal(peal_txn_begin(&txn, rig->log, true), PEAL_OK);
    rig->model->log = &txn;
    for (size_t i = 0; i < steps; i++)
        live_step(rig->model);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
}

static void rig_start(struct rig *rig)
{
    struct peal_settle_setup setup = {
        .log = rig->log,
        .inbox = rig->inbox,
        .config = &rig->config,
        .now_ms = &rig->now_ms,
        .slice_ms = rig->slice_ms,
        .ctx = rig,
        .note = on_note,
    };
    for (size_t i = 0; i < rig->model->member_count; i++)
        rig->model->members[i].told_ver = 0;
    assert_int_equal(peal_settle_start(&setup, &rig->settle), PEAL_OK);
}

static void rig_stop(struct rig *rig)
{
    peal_settle_stop(rig->settle);
    rig->settle = NULL;
}

/* Waits until *count, one of those that notes change, is as high. */
static void rig_wait(struct rig *rig, const int *count, int least)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    pthread_mutex_lock(&rig->mutex);
    while (*count < least)
        assert_int_equal(pthread_cond_timedwait(&rig->cond, &rig->mutex, &until), 0);
    pthread_mutex_unlock(&rig->mutex);
}

/* One range that ends well. */
static void rig_range(struct rig *rig, uint64_t from, uint64_t to)
{
    int done = rig->done;
    int failed = rig->failed;
    peal_settle_range(rig->settle, from, to);
    rig_wait(rig, &rig->done, done + 1);
    assert_int_equal(rig->failed, failed);
    assert_int_equal(rig->seq, to);
    for (size_t i = 0; i < rig->model->member_count; i++)
        rig->model->members[i].told_ver = 0;
}

/* ---- what must be there ------------------------------------------------------------------- */

static void check_heads(struct rig *rig, struct peal_txn *txn)
{
    char record[PEAL_RECORD_HEAD_MAX];
    struct peal_span value;
    size_t exists = 0;
    uint64_t highest = 0;
    for (size_t i = 0; i < rig->model->member_count; i++) {
        const struct member *member = &rig->model->members[i];
        char at[PEAL_KEY_HEAD_MAX];
        struct peal_span key = {at, peal_key_head(at, peal_span_of(member->name))};
        if (!member->exists) continue;
        exists++;
        if (member->inbox.n.gid > highest) highest = member->inbox.n.gid;
        assert_int_equal(peal_txn_get(txn, PEAL_TREE_HEAD, key, &value), PEAL_OK);
        size_t size = peal_head_encode(key, &member->inbox, record);
        assert_int_equal(value.size, size);
        assert_memory_equal(value.at, record, size);
    }
    assert_int_equal(peal_txn_entries(txn, PEAL_TREE_HEAD), exists);
    uint64_t gid = 0;
    struct peal_span key = peal_span_of("gid");
    if (peal_txn_get(txn, PEAL_TREE_META, key, &value) == PEAL_OK)
        assert_int_equal(peal_number_decode(key, value, &gid), PEAL_OK);
    assert_in_range(gid, highest, rig->model->gid);
}

static void check_messages(struct rig *rig, struct peal_txn *txn)
{
    size_t count = 0;
    for (size_t i = 0; i < rig->model->member_count; i++) {
        const struct member *member = &rig->model->members[i];
        for (uint64_t offset = 1; offset < OFFSETS; offset++) {
            char at[PEAL_KEY_MESSAGE];
            char text[64];
            struct peal_span key = {at, sizeof at};
            struct peal_span value;
            struct peal_record record;
            uint64_t stamp = member->stamps[offset];
            if (stamp == 0) continue;
            count++;
            peal_key_message(at, member->slot, member->inbox.n.gid, offset);
            assert_int_equal(peal_txn_get(txn, PEAL_TREE_MESSAGE, key, &value), PEAL_OK);
            assert_int_equal(peal_record_decode(key, value, &record), PEAL_OK);
            assert_int_equal(record.stored_ms, stamp);
            assert_true(peal_span_equal(record.envelope, envelope_of(stamp, text)));
        }
    }
    assert_int_equal(peal_txn_entries(txn, PEAL_TREE_MESSAGE), count);
}

static void check_inbox(struct rig *rig)
{
    struct peal_txn txn;
    assert_int_equal(peal_txn_begin(&txn, rig->inbox, false), PEAL_OK);
    check_heads(rig, &txn);
    check_messages(rig, &txn);
    peal_txn_abort(&txn);
}

/* Makes a record fail its checksum. */
static void damage(struct peal_db *db, enum peal_tree tree, struct peal_span key)
{
    char copy[4096];
    struct peal_txn txn;
    struct peal_span value;
    assert_int_equal(peal_txn_begin(&txn, db, true), PEAL_OK);
    assert_int_equal(peal_txn_get(&txn, tree, key, &value), PEAL_OK);
    assert_in_range(value.size, 1, sizeof copy);
    memcpy(copy, value.at, value.size);
    copy[value.size - 1] ^= 1;
    assert_int_equal(peal_txn_put(&txn, tree, key, peal_span_make(copy, value.size)), PEAL_OK);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
}

static void damage_log(struct rig *rig, uint64_t seq)
{
    char at[PEAL_KEY_ENTRY];
    peal_key_entry(at, seq);
    damage(rig->log, PEAL_TREE_LOG, peal_span_make(at, sizeof at));
}

/* ---- tests -------------------------------------------------------------------------------- */

static void settle_one_range_gives_the_model(void **state)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct rig rig;
        rig_begin(&rig, state, 300, seed * 7919);
        rig_live(&rig, 6000);
        rig_start(&rig);
        peal_settle_range(rig.settle, 1, rig.model->seq);
        rig_wait(&rig, &rig.done, 1);
        for (size_t i = 0; i < rig.model->member_count; i++) {
            const struct member *member = &rig.model->members[i];
            if (member->exists) assert_int_equal(member->told_ver, member->inbox.n.ver);
        }
        check_inbox(&rig);
        assert_int_equal(rig.corrupt, 0);
        rig_stop(&rig);
        rig_end(&rig);
        folder_teardown(state);
        assert_int_equal(folder_setup(state), 0);
    }
}

static void settle_many_ranges_give_the_model(void **state)
{
    struct rig rig;
    rig_begin(&rig, state, 300, 4711);
    rig_start(&rig);
    for (int i = 0; i < 60; i++) {
        uint64_t from = rig.model->seq + 1;
        rig_live(&rig, 1 + (size_t)model_random(rig.model, 400));
        rig_range(&rig, from, rig.model->seq);
        check_inbox(&rig);
    }
    rig_stop(&rig);
    rig_end(&rig);
}

static void settle_old_range_again_changes_nothing(void **state)
{
    struct rig rig;
    rig_begin(&rig, state, 200, 99);
    rig_live(&rig, 1500);
    uint64_t middle = rig.model->seq;
    rig_live(&rig, 1500);
    for (int i = 0; i < 3; i++) {
        rig_start(&rig); /* a new start does DROP again */
        if (i != 1) rig_range(&rig, 1, middle);
        rig_range(&rig, i == 1 ? 1 : middle + 1, rig.model->seq);
        rig_range(&rig, 1, rig.model->seq); /* and the same one does not */
        rig_stop(&rig);
        check_inbox(&rig);
    }
    rig_end(&rig);
}

static void settle_stopped_between_slices_goes_on(void **state)
{
    struct rig rig;
    rig_begin(&rig, state, 150, 31);
    rig_live(&rig, 2500);
    rig.slice_ms = 0; /* a slice for each group */
    for (int i = 0; rig.done == 0; i++) {
        int moved = rig.moved;
        rig_start(&rig);
        peal_settle_range(rig.settle, 1, rig.model->seq);
        if (i < 20)
            rig_wait(&rig, &rig.moved, moved + 1 + 5 * i);
        else
            rig_wait(&rig, &rig.done, 1);
        rig_stop(&rig);
    }
    check_inbox(&rig);
    rig_end(&rig);
}

static void inbox_remove(struct rig *rig)
{
    char path[128];
    snprintf(path, sizeof path, "%s/inbox/data.mdb", rig->folder->path);
    unlink(path);
    snprintf(path, sizeof path, "%s/inbox/lock.mdb", rig->folder->path);
    unlink(path);
}

/* Runs the range in a process that ends with its kill_at'th slice. Returns whether it was. */
static bool killed_at(struct rig *rig, int kill_at)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        rig_open(rig, 64 << 20);
        rig->kill_at = kill_at;
        rig_start(rig);
        peal_settle_range(rig->settle, 1, rig->model->seq);
        rig_wait(rig, &rig->done, 1);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 42 || WEXITSTATUS(status) == 0);
    return WEXITSTATUS(status) == 42;
}

static void settle_killed_after_any_slice_gives_the_model(void **state)
{
    struct rig rig;
    rig_begin(&rig, state, 40, 5);
    rig_live(&rig, 300);
    /* Something for the DROP to remove, when the range below begins with it. */
    rig_start(&rig);
    rig_range(&rig, 1, rig.model->seq);
    rig_stop(&rig);
    rig_live(&rig, 300);
    rig.slice_ms = 0;
    rig_close(&rig);
    bool killed = true;
    for (int at = 1; killed; at++) {
        killed = killed_at(&rig, at);
        rig_open(&rig, 64 << 20);
        rig.done = 0;
        rig.slice_ms = 5;
        rig_start(&rig);
        rig_range(&rig, 1, rig.model->seq);
        rig_stop(&rig);
        rig.slice_ms = 0;
        check_inbox(&rig);
        rig_close(&rig);
        if (at % 2 == 0) inbox_remove(&rig);
        rig.done = 0;
    }
    rig_open(&rig, 64 << 20);
    rig_end(&rig);
}

static void settle_full_disk_fails_and_the_range_again_gives_the_model(void **state)
{
    struct rig rig;
    rig_begin(&rig, state, 60, 17);
    rig_live(&rig, 800);
    rig.slice_ms = 0;
    rig_start(&rig);
    for (int i = 1; rig.done == 0; i++) {
        int failed = rig.failed;
        rig.fail_at = i <= 20 ? rig.moved + 2 * i : 0;
        peal_settle_range(rig.settle, 1, rig.model->seq);
        if (i > 20) {
            rig_wait(&rig, &rig.done, 1);
            break;
        }
        rig_wait(&rig, &rig.failed, failed + 1);
        assert_int_equal(rig.err, PEAL_ESTORE_FULL);
        assert_false(peal_db_failed(rig.inbox));
        disk_reset();
    }
    assert_int_equal(rig.failed, 20);
    check_inbox(&rig);
    rig_stop(&rig);
    rig_end(&rig);
}

static void settle_full_map_fails_and_a_larger_one_goes_on(void **state)
{
    struct rig rig;
    rig_begin(&rig, state, 300, 23);
    rig_live(&rig, 6000);
    rig_close(&rig);
    inbox_remove(&rig);
    rig_open(&rig, 256 << 10);
    rig.slice_ms = 0;
    rig_start(&rig);
    peal_settle_range(rig.settle, 1, rig.model->seq);
    rig_wait(&rig, &rig.failed, 1);
    assert_int_equal(rig.err, PEAL_ESTORE_FULL);
    assert_int_equal(rig.done, 0);
    assert_true(rig.moved > 0);
    rig_stop(&rig);
    rig_close(&rig);

    rig_open(&rig, 64 << 20);
    rig.slice_ms = 5;
    rig_start(&rig);
    rig_range(&rig, 1, rig.model->seq);
    rig_stop(&rig);
    check_inbox(&rig);
    rig_end(&rig);
}

/* One member of its own, which a test leads by hand. */
static struct member *lead_begin(struct rig *rig, struct peal_txn *txn)
{
    assert_int_equal(peal_txn_begin(txn, rig->log, true), PEAL_OK);
    rig->model->log = txn;
    return &rig->model->members[0];
}

static void lead_puts(struct rig *rig, int count)
{
    for (int i = 0; i < count; i++)
        live_put(rig->model, &rig->model->members[0]);
}

static void settle_damaged_records_of_the_log_are_skipped(void **state)
{
    struct rig rig;
    struct peal_txn txn;
    rig_begin(&rig, state, 1, 3);
    struct member *member = lead_begin(&rig, &txn);
    for (int i = 0; i < 6; i++) {
        member->inbox.n.rev++; /* changes its numbers, not the random life */
        struct peal_span envelope = peal_span_of("text");
        member_reserve(member, 1);
        uint64_t offset = peal_inbox_add(&member->inbox, envelope.size, 1, 0);
        member_append(rig.model, member,
                      &(struct peal_entry){.kind = PEAL_ENTRY_PUT,
                                           .epoch = 77,
                                           .offset = offset,
                                           .stored_ms = 1,
                                           .envelope = envelope});
    }
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
    damage_log(&rig, 2);
    damage_log(&rig, 5);
    rig_start(&rig);
    rig_range(&rig, 1, 6);
    rig_stop(&rig);
    assert_int_equal(rig.corrupt, 2);

    /* The numbers are whole with the record behind them; the two messages have no record. */
    assert_int_equal(rig.entries, 4);
    assert_int_equal(peal_txn_begin(&txn, rig.inbox, false), PEAL_OK);
    check_heads(&rig, &txn);
    for (uint64_t offset = 1; offset <= 6; offset++) {
        char at[PEAL_KEY_MESSAGE];
        struct peal_span value;
        peal_key_message(at, member->slot, member->inbox.n.gid, offset);
        enum peal_err err =
            peal_txn_get(&txn, PEAL_TREE_MESSAGE, peal_span_make(at, sizeof at), &value);
        assert_int_equal(err, offset == 2 || offset == 5 ? PEAL_ENOT_FOUND : PEAL_OK);
    }
    peal_txn_abort(&txn);
    rig_end(&rig);
}

static void damage_head(struct rig *rig, const struct member *member)
{
    char at[PEAL_KEY_HEAD_MAX];
    struct peal_span key = {at, peal_key_head(at, peal_span_of(member->name))};
    damage(rig->inbox, PEAL_TREE_HEAD, key);
}

static void settle_damaged_head_goes_on_with_the_numbers_of_the_log(void **state)
{
    struct rig rig;
    struct peal_txn txn;
    rig_begin(&rig, state, 1, 3);
    struct member *member = lead_begin(&rig, &txn);
    lead_puts(&rig, 10);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
    rig_start(&rig);
    rig_range(&rig, 1, rig.model->seq);
    damage_head(&rig, member);

    uint64_t from = rig.model->seq + 1;
    lead_begin(&rig, &txn);
    while (member->inbox.n.first < 4)
        live_trim(rig.model, member);
    lead_puts(&rig, 3);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
    rig_range(&rig, from, rig.model->seq);
    assert_int_equal(rig.corrupt, 1);
    assert_int_equal(peal_txn_begin(&txn, rig.inbox, false), PEAL_OK);
    check_messages(&rig, &txn); /* bits from before are lost, messages are not */
    peal_txn_abort(&txn);
    rig_stop(&rig);
    rig_end(&rig);
}

static void settle_head_made_anew_takes_the_messages_of_the_old_one_away(void **state)
{
    struct rig rig;
    struct peal_txn txn;
    rig_begin(&rig, state, 1, 3);
    struct member *member = lead_begin(&rig, &txn);
    lead_puts(&rig, 10);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
    rig_start(&rig);
    rig_range(&rig, 1, rig.model->seq);
    assert_int_equal(rig.entries, member->inbox.n.kept);

    uint64_t from = rig.model->seq + 1;
    lead_begin(&rig, &txn);
    live_epoch(rig.model, member);
    lead_puts(&rig, 2);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
    assert_int_equal(member->inbox.n.ver, 3); /* less than the old head's */
    rig_range(&rig, from, rig.model->seq);
    check_inbox(&rig);
    rig_range(&rig, 1, rig.model->seq);
    check_inbox(&rig);
    rig_stop(&rig);
    rig_end(&rig);
}

static void settle_drop_takes_the_slot_and_says_so_before_what_follows(void **state)
{
    struct rig rig;
    struct peal_txn txn;
    rig_begin(&rig, state, 1, 3);
    struct member *member = lead_begin(&rig, &txn);
    lead_puts(&rig, 10);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
    rig_start(&rig);
    rig_range(&rig, 1, rig.model->seq);
    uint64_t kept = member->inbox.n.kept;

    uint64_t from = rig.model->seq + 1;
    lead_begin(&rig, &txn);
    lead_puts(&rig, 2);
    live_drop(rig.model, member->slot);
    uint64_t drop = rig.model->seq;
    lead_puts(&rig, 2);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
    int moved = rig.moved;
    rig_range(&rig, from, rig.model->seq);
    assert_int_equal(rig.moved, moved + 2); /* one for the slot, one for what follows */
    assert_int_equal(rig.dropped, kept);
    assert_int_equal(rig.dropped_to, drop);
    check_inbox(&rig);
    rig_stop(&rig);
    rig_end(&rig);
}

static void settle_walk_names_each_group_that_is_due(void **state)
{
    struct rig rig;
    struct peal_txn txn;
    rig_begin(&rig, state, 600, 3);
    lead_begin(&rig, &txn);
    for (size_t i = 0; i < rig.model->member_count; i++) {
        if (i % 10 != 0) live_put(rig.model, &rig.model->members[i]);
    }
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);
    rig_start(&rig);
    rig_range(&rig, 1, rig.model->seq);
    damage_head(&rig, &rig.model->members[1]);
    assert_int_equal(rig.due_notes, 0);

    atomic_store(&rig.now_ms, 1000000);
    rig_wait(&rig, &rig.due_notes, 3);
    rig_stop(&rig);
    assert_int_equal(rig.due_most, 256);
    for (size_t i = 0; i < rig.model->member_count; i++)
        assert_int_equal(rig.due[i], i % 10 != 0);
    rig_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, folder_setup, folder_teardown)
        T(settle_one_range_gives_the_model),
        T(settle_many_ranges_give_the_model),
        T(settle_old_range_again_changes_nothing),
        T(settle_stopped_between_slices_goes_on),
        T(settle_killed_after_any_slice_gives_the_model),
        T(settle_full_disk_fails_and_the_range_again_gives_the_model),
        T(settle_full_map_fails_and_a_larger_one_goes_on),
        T(settle_damaged_records_of_the_log_are_skipped),
        T(settle_damaged_head_goes_on_with_the_numbers_of_the_log),
        T(settle_head_made_anew_takes_the_messages_of_the_old_one_away),
        T(settle_drop_takes_the_slot_and_says_so_before_what_follows),
        T(settle_walk_names_each_group_that_is_due),
#undef T
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

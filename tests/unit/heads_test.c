/* A group's head in memory is what the log and the inbox say together, after whatever has happened
 * and after whatever has not. The last test lives random lives of a store and makes its heads anew
 * from any place in the log. */
#include "storage/heads.h"

#include <time.h>

#include "proto/group.h"
#include "storage/keys.h"
#include "tests/unit/batch_rig.h"
#include "tests/unit/inbox_same.h"

static struct rig rig;

static int setup(void **state)
{
    if (folder_setup(state) != 0) return -1;
    rig_init(&rig, ((struct folder *)*state)->path);
    rig_open(&rig);
    return 0;
}

static int teardown(void **state)
{
    rig_close(&rig);
    return folder_teardown(state);
}

/* The head as it is in memory; NULL: it is not. */
static struct peal_head *in_memory(const char *group)
{
    struct peal_map_node *node = peal_map_find(&rig.batch.heads.map, peal_span_of(group));
    return node == NULL ? NULL : PEAL_FROM_NODE(node, struct peal_head, node);
}

static struct peal_head *get(const char *group)
{
    struct peal_head *head;
    assert_int_equal(peal_heads_get(&rig.batch.heads, peal_span_of(group), &head), PEAL_OK);
    return head;
}

static size_t places_count(const struct peal_head *head)
{
    return head->places.end - head->places.begin;
}

/* ---- what is in memory -------------------------------------------------------------------- */

static void heads_stay_in_memory_until_the_inbox_has_all_of_them(void **state)
{
    (void)state;
    rig_put_alone(&rig, "user:a", NULL);
    rig_put_alone(&rig, "user:b", NULL);
    assert_int_equal(rig.batch.heads.map.count, 2);
    assert_int_equal(rig.batch.heads.unmoved, 2);
    rig_move(&rig, rig.batch.seq);
    rig_put_alone(&rig, "user:a", NULL);
    rig_deliver(&rig);
    assert_null(in_memory("user:b"));
    assert_non_null(in_memory("user:a"));
    assert_int_equal(rig.batch.heads.unmoved, 1);
    rig_settle(&rig);
    assert_int_equal(rig.batch.heads.map.count, 0);
    assert_int_equal(rig.batch.heads.unmoved, 0);
    assert_string_equal(rig_text(&rig, "user:a"), "M1 M2");
    assert_int_equal(rig.batch.heads.map.count, 0); /* what was looked at went again */
}

static void heads_of_groups_that_are_only_asked_for_go_with_the_batch(void **state)
{
    (void)state;
    rig_put_alone(&rig, "user:a", NULL);
    rig_settle(&rig);
    rig_begin(&rig);
    assert_true(peal_head_exists(get("user:a")));
    assert_false(peal_head_exists(get("user:nobody")));
    assert_int_equal(get("user:nobody")->inbox.n.epoch, rig.generation);
    assert_ptr_equal(get("user:a"), get("user:a"));
    assert_int_equal(rig.batch.heads.map.count, 2);
    rig_drop(&rig);
    assert_int_equal(rig.batch.heads.map.count, 0);
}

static void heads_number_is_given_once_and_never_again(void **state)
{
    (void)state;
    rig_put_alone(&rig, "user:a", NULL);
    rig_put_alone(&rig, "user:a", NULL);
    uint64_t gid = in_memory("user:a")->inbox.n.gid;
    assert_int_equal(gid, 1);
    rig_put_alone(&rig, "user:b", NULL);
    assert_int_equal(in_memory("user:b")->inbox.n.gid, gid + 1);
    rig_reopen(&rig); /* from the log */
    assert_int_equal(rig.batch.heads.gid, gid + 1);
    rig_settle(&rig);
    rig_reopen(&rig); /* from the inbox */
    rig_put_alone(&rig, "user:c", NULL);
    assert_int_equal(in_memory("user:c")->inbox.n.gid, gid + 2);
}

static void heads_walk_goes_around_all_of_them(void **state)
{
    (void)state;
    bool seen[3] = {false};
    assert_null(peal_heads_walk(&rig.batch.heads));
    rig_put_alone(&rig, "user:0", NULL);
    rig_put_alone(&rig, "user:1", NULL);
    rig_put_alone(&rig, "user:2", NULL);
    for (int i = 0; i < 3; i++)
        seen[peal_heads_walk(&rig.batch.heads)->name[5] - '0'] = true;
    assert_true(seen[0]);
    assert_true(seen[1]);
    assert_true(seen[2]);
}

/* ---- batches that have not happened ------------------------------------------------------- */

static void put_three(void)
{
    rig_put(&rig, "user:a", NULL);
    rig_put(&rig, "user:a", "k");
    rig_put(&rig, "user:a", "k");
}

static void mark_some(void)
{
    uint64_t offsets[] = {4, 6};
    rig_mark(&rig, "user:a", PEAL_FLAG_ACK, 2, offsets, 2);
}

static void mark_all(void)
{
    rig_mark(&rig, "user:a", PEAL_FLAG_READ | PEAL_FLAG_ALL, 0, NULL, 0);
}

static void retain(void)
{
    assert_int_equal(peal_batch_retain(&rig.batch, peal_span_of("user:a"), &rig.groups[0]),
                     PEAL_OK);
}

static void settle_by_age(void)
{
    mark_all();
    rig.batch.now_ms += HOUR_MS;
    retain();
}

static void evict(void)
{
    rig.groups[0].keep.messages = 3;
    put_three();
    rig.groups[0].keep.messages = 1000;
}

static void expire(void)
{
    rig.batch.now_ms += 20000;
    retain();
}

static void new_epoch(void)
{
    struct peal_store_op *op =
        peal_store_op_new(PEAL_STORE_HEAD, peal_span_of("user:a"), (struct peal_span){0}, NULL, 0);
    op->seen_epoch = get("user:a")->inbox.n.epoch;
    op->seen_offset = 1000;
    rig_apply(&rig, op);
}

static void reset(void)
{
    struct peal_head *head = get("user:a");
    assert_int_equal(peal_heads_touch(&rig.batch.heads, head), PEAL_OK);
    peal_heads_reset(&rig.batch.heads, head, 99, head->inbox.n.ver);
    put_three();
}

static void collapse_below(void)
{
    for (int i = 0; i < 20; i++)
        put_three();
    rig_put(&rig, "user:a", "old");
    rig_put(&rig, "user:a", "older");
}

static void all_of_it(void)
{
    put_three();
    mark_some();
    collapse_below();
    expire();
    evict();
    settle_by_age();
    new_epoch();
    put_three();
    reset();
}

/* Four messages that the inbox has, and four that it has not. */
static void prepare(void)
{
    struct message brief = {"user:a", "x", NULL, NULL, 10000};
    rig_put_alone(&rig, "user:a", "older");
    rig_put_alone(&rig, "user:a", "old");
    rig_begin(&rig);
    rig_send(&rig, &brief);
    rig_finish(&rig);
    rig_put_alone(&rig, "user:a", NULL);
    rig_settle(&rig);
    rig_put_alone(&rig, "user:a", NULL);
    rig_begin(&rig);
    rig_send(&rig, &brief);
    rig_finish(&rig);
    rig_ack_alone(&rig, "user:a", 1);
    rig_put_alone(&rig, "user:a", NULL);
    rig_put_alone(&rig, "user:a", "k");
}

static void heads_rolled_back_are_what_they_were(void **state)
{
    (void)state;
    static void (*const changes[])(void) = {put_three,     mark_some, mark_all,  retain,
                                            settle_by_age, evict,     expire,    new_epoch,
                                            reset,         put_three, all_of_it, collapse_below};
    prepare();
    for (size_t i = 0; i < 2 * sizeof changes / sizeof changes[0]; i++) {
        struct peal_inbox before;
        struct peal_head *head = in_memory("user:a");
        char text[sizeof rig.page.text];
        snprintf(text, sizeof text, "%s", rig_text(&rig, "user:a"));
        assert_int_equal(peal_inbox_copy(&head->inbox, &before), PEAL_OK);
        int64_t unmoved = rig.batch.heads.unmoved;
        uint64_t begin_ver = head->begin_ver;

        rig_begin(&rig);
        changes[i % (sizeof changes / sizeof changes[0])]();
        rig_drop(&rig);
        assert_ptr_equal(in_memory("user:a"), head);
        assert_null(head->before);
        assert_same(&head->inbox, &before);
        assert_int_equal(head->begin_ver, begin_ver);
        assert_int_equal(rig.batch.heads.unmoved, unmoved);
        assert_string_equal(rig_text(&rig, "user:a"), text);
        peal_inbox_fini(&before);
        /* The same from what the inbox has and a head that is new in memory. */
        if (i + 1 == sizeof changes / sizeof changes[0]) rig_reopen(&rig);
    }
    assert_string_equal(rig_text(&rig, "user:a"), "M1ar M2 M3 M4 M5 M6 M7 M8");
}

static void heads_new_in_a_batch_that_is_dropped_are_gone(void **state)
{
    (void)state;
    int64_t present = peal_metrics_sum(PEAL_M_PRESENT);
    rig_begin(&rig);
    for (int i = 0; i < 10; i++)
        rig_put(&rig, "user:new", "k");
    rig_drop(&rig);
    assert_null(in_memory("user:new"));
    assert_int_equal(rig.batch.heads.unmoved, 0);
    assert_int_equal(rig_put_alone(&rig, "user:new", "k").offset, 1);
    assert_string_equal(rig_text(&rig, "user:new"), "M1");
    assert_int_equal(peal_metrics_sum(PEAL_M_PRESENT) - present, 1);
}

/* ---- places ------------------------------------------------------------------------------- */

static void heads_places_begin_anew_where_a_hole_is_in_the_inbox(void **state)
{
    (void)state;
    rig_put_alone(&rig, "user:a", NULL);
    rig_put_alone(&rig, "user:a", "k");
    rig_put_alone(&rig, "user:a", NULL);
    rig_settle(&rig);
    rig_put_alone(&rig, "user:a", NULL);
    struct peal_head *head = in_memory("user:a");
    assert_int_equal(head->places.base, 4);
    assert_int_equal(places_count(head), 1);
    rig_put_alone(&rig, "user:a", "k");
    assert_int_equal(head->places.base, 2);
    assert_int_equal(places_count(head), 4);
    const uint64_t *at = head->places.at + head->places.begin;
    assert_int_equal(at[0], 0);
    assert_true(at[1] == PEAL_PLACE_INBOX);
    assert_int_equal(at[2], 4); /* sequences in the log */
    assert_int_equal(at[3], 5);
    assert_string_equal(rig_text(&rig, "user:a"), "M1 S2-2 M3 M4 M5");
}

static void heads_places_below_the_window_go_and_their_room_is_used_again(void **state)
{
    (void)state;
    rig.groups[0].keep.messages = 8;
    for (int i = 0; i < 1000; i++)
        rig_put_alone(&rig, "user:a", NULL);
    struct peal_head *head = in_memory("user:a");
    assert_int_equal(head->places.base, 993);
    assert_int_equal(places_count(head), 8);
    assert_true(head->places.room <= 64);
}

static void heads_places_of_what_was_moved_go_but_for_holes_made_since(void **state)
{
    (void)state;
    rig_put_alone(&rig, "user:a", NULL);
    rig_put_alone(&rig, "user:a", "k");
    rig_put_alone(&rig, "user:a", NULL);
    rig_move(&rig, rig.batch.seq);
    rig_put_alone(&rig, "user:a", "k");
    rig_deliver(&rig);
    struct peal_head *head = in_memory("user:a");
    assert_int_equal(head->moved_kept, 3);
    assert_int_equal(head->places.base, 2);
    const uint64_t *at = head->places.at + head->places.begin;
    assert_int_equal(at[0], 0);
    assert_true(at[1] == PEAL_PLACE_INBOX);
    assert_int_equal(at[2], 4);
    assert_string_equal(rig_text(&rig, "user:a"), "M1 S2-2 M3 M4");
}

/* The inbox has no message there, and none was lost. */
static void heads_hole_that_the_inbox_knew_is_no_damage(void **state)
{
    (void)state;
    int64_t corrupt = peal_metrics_sum(PEAL_M_CORRUPT);
    int64_t damaged = peal_metrics_sum(PEAL_M_DAMAGED);
    int64_t settled = peal_metrics_sum(PEAL_M_SETTLED);
    rig_put_alone(&rig, "user:a", NULL);
    rig_put_alone(&rig, "user:a", "j");
    rig_put_alone(&rig, "user:a", "k");
    rig_put_alone(&rig, "user:a", NULL);
    rig_settle(&rig);
    rig_put_alone(&rig, "user:a", "k");
    rig_settle(&rig);
    rig_put_alone(&rig, "user:a", "j");
    assert_int_equal(in_memory("user:a")->places.base, 2);
    assert_string_equal(rig_text(&rig, "user:a"), "M1 S2-3 M4 M5 M6");
    rig_ack_alone(&rig, "user:a", 5);
    atomic_fetch_add(&rig.now_ms, HOUR_MS);
    rig_retain_alone(&rig, "user:a");
    assert_string_equal(rig_text(&rig, "user:a"), "S1-5 M6");
    assert_int_equal(in_memory("user:a")->inbox.n.kept, 1);
    assert_int_equal(peal_metrics_sum(PEAL_M_CORRUPT), corrupt);
    assert_int_equal(peal_metrics_sum(PEAL_M_DAMAGED), damaged);
    assert_int_equal(peal_metrics_sum(PEAL_M_SETTLED) - settled, 3);
}

/* With a hole in the last batch, whose head went before the end. */
static void heads_freed_after_a_hole_are_not_looked_at_again(void **state)
{
    (void)state;
    rig_put_alone(&rig, "user:a", "k");
    rig_put_alone(&rig, "user:a", "k");
    rig_settle(&rig);
    assert_null(in_memory("user:a"));
    rig_reopen(&rig);
    assert_string_equal(rig_text(&rig, "user:a"), "S1-1 M2");
}

/* A note that comes late speaks of a window that is not there any more. */
static void heads_note_of_an_earlier_life_is_of_no_interest(void **state)
{
    (void)state;
    rig_head_went_back = true;
    rig_put_alone(&rig, "user:a", NULL);
    rig_put_alone(&rig, "user:a", NULL);
    rig_move(&rig, rig.batch.seq);
    rig_begin(&rig);
    rig_drop_slot(&rig, peal_group_slot(peal_span_of("user:a")));
    assert_true(peal_batch_full(&rig.batch));
    rig_finish(&rig);
    assert_null(in_memory("user:a"));
    rig_put_alone(&rig, "user:a", NULL);
    rig_deliver(&rig);
    assert_int_equal(in_memory("user:a")->moved_ver, 0);
    assert_string_equal(rig_text(&rig, "user:a"), "M1");
    rig_reopen(&rig);
    assert_string_equal(rig_text(&rig, "user:a"), "M1");
    rig_settle(&rig);
    assert_string_equal(rig_text(&rig, "user:a"), "M1");
    assert_int_equal(rig.batch.inbox_entries, 1);
    assert_int_equal(rig.batch.heads.dropped_count, 0);
    rig_head_went_back = false;
}

/* ---- damage ------------------------------------------------------------------------------- */

static void heads_of_a_damaged_record_are_empty_and_say_so(void **state)
{
    (void)state;
    char at[PEAL_KEY_HEAD_MAX];
    struct peal_span key = {at, peal_key_head(at, peal_span_of("user:a"))};
    struct peal_txn txn;
    struct peal_head *head;
    rig_put_alone(&rig, "user:a", NULL);
    rig_settle(&rig);
    assert_int_equal(peal_txn_begin(&txn, rig.inbox, true), PEAL_OK);
    assert_int_equal(peal_txn_put(&txn, PEAL_TREE_HEAD, key, peal_span_of("nothing like a head")),
                     PEAL_OK);
    assert_int_equal(peal_txn_commit(&txn), PEAL_OK);

    rig_begin(&rig);
    assert_int_equal(peal_heads_get(&rig.batch.heads, peal_span_of("user:a"), &head),
                     PEAL_ECORRUPT);
    assert_false(peal_head_exists(head));
    rig_drop(&rig);
    struct peal_store_op op = rig_put_alone(&rig, "user:a", NULL);
    assert_int_equal(op.offset, 1);
    assert_true(op.epoch != rig.generation);
    uint64_t epoch = op.epoch;
    rig_reopen(&rig);
    assert_int_equal(rig_put_alone(&rig, "user:a", NULL).epoch, epoch);
    rig_settle(&rig);
    op = rig_put_alone(&rig, "user:a", NULL);
    assert_int_equal(op.epoch, epoch);
    assert_int_equal(op.offset, 3);
}

/* ---- random lives ------------------------------------------------------------------------- */

enum { GROUPS = 8, KEYS = 4, LIFE_STEPS = 1500 };

struct life {
    uint64_t random;
    bool drops; /* slots go, now and then */
    uint64_t ids;
};

static struct life life;

static uint64_t dice(uint64_t below)
{
    uint64_t x = life.random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    life.random = x;
    return (x >> 11) % below;
}

static const char *group_name(uint64_t i)
{
    static const char *const names[GROUPS] = {"user:a", "user:b", "user:c", "user:d",
                                              "user:e", "news",   "scores", "room:1"};
    return names[i];
}

static void random_put(const char *group)
{
    static const char *const keys[KEYS] = {"k1", "k2", "k3", "k4"};
    char id[32];
    struct message m = {.group = group, .data = "some bytes of a message"};
    m.data += dice(20);
    if (dice(3) == 0) m.key = keys[dice(KEYS)];
    if (dice(5) == 0) m.ttl_ms = 1 + dice(5000);
    if (dice(5) == 0) {
        snprintf(id, sizeof id, "id-%llu", (unsigned long long)life.ids++);
        m.id = id;
    }
    assert_int_equal(rig_send(&rig, &m).err, PEAL_OK);
}

static void random_mark(const char *group)
{
    uint64_t offsets[3];
    struct peal_head *head = get(group);
    uint64_t span = head->inbox.n.next - head->inbox.n.first + 2;
    for (size_t i = 0; i < 3; i++)
        offsets[i] = head->inbox.n.first + dice(span);
    uint64_t flags = dice(2) == 0 ? PEAL_FLAG_ACK : PEAL_FLAG_READ;
    if (dice(20) == 0) flags |= PEAL_FLAG_ALL;
    uint64_t upto = dice(3) == 0 ? head->inbox.n.first + dice(span) : 0;
    rig_mark(&rig, group, flags, upto, offsets, dice(4));
}

static void random_new_epoch(const char *group)
{
    struct peal_store_op *op =
        peal_store_op_new(PEAL_STORE_HEAD, peal_span_of(group), (struct peal_span){0}, NULL, 0);
    const struct peal_numbers *n = &get(group)->inbox.n;
    op->seen_epoch = n->epoch;
    op->seen_offset = n->next + dice(3);
    rig_apply(&rig, op);
}

static void random_operation(void)
{
    const char *group = group_name(dice(GROUPS));
    uint64_t what = dice(100);
    if (what < 55)
        random_put(group);
    else if (what < 80)
        random_mark(group);
    else if (what < 82)
        random_new_epoch(group);
    else if (what < 83 && life.drops)
        rig_drop_slot(&rig, peal_group_slot(peal_span_of(group)));
    else
        assert_int_equal(peal_batch_retain(&rig.batch, peal_span_of(group),
                                           &rig.groups[strncmp(group, "user:", 5) == 0 ? 0 : 1]),
                         PEAL_OK);
}

static void random_batch(void)
{
    rig_begin(&rig);
    for (uint64_t n = 1 + dice(12); n > 0 && !peal_batch_full(&rig.batch); n--)
        random_operation();
    if (dice(4) == 0) {
        rig_drop(&rig);
        return;
    }
    if (dice(2) == 0) assert_int_equal(peal_batch_trim(&rig.batch, 1 + dice(30)), PEAL_OK);
    rig_finish(&rig);
}

static void random_between(struct rig *r)
{
    if (dice(2) == 0) random_batch();
    if (dice(2) == 0) rig_deliver(r);
}

static void random_step(void)
{
    uint64_t what = dice(100);
    atomic_fetch_add(&rig.now_ms, dice(50) == 0 ? HOUR_MS : dice(700));
    if (what < 12 && rig.note_count == 0 && rig.batch.moved < rig.batch.seq) {
        uint64_t waiting = rig.batch.seq - rig.batch.moved;
        rig_move(&rig, rig.batch.seq - (dice(2) == 0 ? 0 : dice(waiting)));
        if (dice(2) == 0) rig_deliver(&rig);
    } else if (what < 22) {
        rig_deliver(&rig);
    } else if (what < 25) {
        rig_reopen(&rig);
    } else {
        random_batch();
    }
}

/* ---- the same heads, made anew ------------------------------------------------------------ */

static void view_of(struct peal_heads *heads, const char *group, struct peal_view *view)
{
    struct peal_snapshot *snapshot;
    assert_int_equal(peal_snapshot_new(rig.log, rig.inbox, &snapshot), PEAL_OK);
    peal_heads_begin(heads, NULL);
    assert_int_equal(peal_heads_view(heads, snapshot, peal_span_of(group), view), PEAL_OK);
    peal_heads_rollback(heads);
    peal_snapshot_unref(snapshot);
}

/* Numbers and bits are those of the messages that are there. */
static void check_sums(struct peal_view *view, const char *group)
{
    const struct peal_numbers *n = &view->inbox.n;
    uint16_t slot = peal_group_slot(peal_span_of(group));
    bool keys[KEYS] = {false};
    uint64_t kept = 0;
    uint64_t bytes = 0;
    uint64_t unread = 0;
    for (uint64_t offset = n->first; offset < n->next; offset++) {
        struct peal_record record;
        struct peal_envelope env;
        enum peal_err err = peal_view_message(view, slot, offset, &record);
        if (err == PEAL_ENOT_FOUND) {
            assert_true(peal_inbox_read(&view->inbox, offset)); /* not lost */
            if (offset == n->first)
                print_message("DEBUG %s first=%d next=%d kept=%d base=%d places=%d ver=%d\n", group,
                              (int)n->first, (int)n->next, (int)n->kept, (int)view->base,
                              (int)view->place_count, (int)n->ver);
            assert_true(offset != n->first);
            continue;
        }
        assert_int_equal(err, PEAL_OK);
        assert_int_equal(peal_envelope_decode(record.envelope, &env), PEAL_OK);
        assert_int_equal(env.offset, offset);
        kept++;
        bytes += record.envelope.size;
        if (!peal_inbox_read(&view->inbox, offset)) unread++;
        if (env.collapse.size == 0) continue;
        size_t key = (size_t)(env.collapse.at[1] - '1');
        assert_true(key < KEYS);
        assert_false(keys[key]); /* one message for each key */
        keys[key] = true;
    }
    assert_int_equal(n->kept, kept);
    assert_int_equal(n->bytes, bytes);
    assert_int_equal(peal_inbox_unread(&view->inbox), unread);
}

static void check_equal(struct peal_heads *others)
{
    for (uint64_t i = 0; i < GROUPS; i++) {
        struct peal_view mine;
        struct peal_view other;
        uint16_t slot = peal_group_slot(peal_span_of(group_name(i)));
        view_of(&rig.batch.heads, group_name(i), &mine);
        view_of(others, group_name(i), &other);
        assert_same(&mine.inbox, &other.inbox);
        check_sums(&mine, group_name(i));
        for (uint64_t offset = mine.inbox.n.first; offset < mine.inbox.n.next; offset++) {
            struct peal_record a = {0};
            struct peal_record b = {0};
            assert_int_equal(peal_view_message(&mine, slot, offset, &a),
                             peal_view_message(&other, slot, offset, &b));
            assert_int_equal(a.stored_ms, b.stored_ms);
            assert_int_equal(a.expires_ms, b.expires_ms);
            assert_true(peal_span_equal(a.envelope, b.envelope));
        }
        peal_view_fini(&mine);
        peal_view_fini(&other);
    }
}

/* As a start would make them, were `from` the first record that is not in the inbox. */
static void replay_from(struct peal_heads *heads, uint64_t from)
{
    struct peal_txn txn;
    struct peal_scan scan;
    struct peal_span key;
    struct peal_span value;
    struct peal_entry_room room = {0};
    char first[PEAL_KEY_ENTRY];
    peal_key_entry(first, from);
    assert_int_equal(peal_heads_init(heads, rig.inbox, rig.generation), PEAL_OK);
    assert_int_equal(peal_txn_begin(&txn, rig.log, false), PEAL_OK);
    peal_heads_begin(heads, &txn);
    assert_int_equal(
        peal_scan_begin(&scan, &txn, PEAL_TREE_LOG, peal_span_make(first, sizeof first)), PEAL_OK);
    while (peal_scan_next(&scan, &key, &value) == PEAL_OK) {
        struct peal_entry entry;
        uint64_t seq;
        assert_int_equal(peal_key_entry_seq(key, &seq), PEAL_OK);
        assert_int_equal(peal_entry_decode(key, value, &room, &entry), PEAL_OK);
        assert_int_equal(peal_heads_replay(heads, &entry, seq), PEAL_OK);
    }
    peal_scan_end(&scan);
    peal_heads_commit(heads);
    peal_txn_abort(&txn);
    peal_entry_room_fini(&room);
}

static uint64_t inbox_entries(void)
{
    struct peal_txn txn;
    assert_int_equal(peal_txn_begin(&txn, rig.inbox, false), PEAL_OK);
    uint64_t entries = peal_txn_entries(&txn, PEAL_TREE_MESSAGE);
    peal_txn_abort(&txn);
    return entries;
}

static int64_t unaccounted(void)
{
    return peal_metrics_sum(PEAL_M_FOUND) + peal_metrics_sum(PEAL_M_STORED) -
           peal_metrics_sum(PEAL_M_SETTLED) - peal_metrics_sum(PEAL_M_EXPIRED) -
           peal_metrics_sum(PEAL_M_EVICTED) - peal_metrics_sum(PEAL_M_COLLAPSED) -
           peal_metrics_sum(PEAL_M_DAMAGED) - peal_metrics_sum(PEAL_M_PRESENT);
}

static void check_life(int64_t before)
{
    struct peal_heads others;
    uint64_t oldest = rig.batch.trimmed;
    uint64_t newest = rig.batch.moved + 1;
    assert_true(oldest <= newest);
    replay_from(&others, oldest + dice(newest - oldest + 1));
    check_equal(&others);
    if (!life.drops) {
        assert_int_equal((int64_t)inbox_entries() + others.unmoved,
                         (int64_t)rig.batch.inbox_entries + rig.batch.heads.unmoved);
        assert_int_equal(unaccounted(), before);
    }
    peal_heads_fini(&others);
}

static void heads_of_random_lives_are_those_of_any_replay(void **state)
{
    (void)state;
    uint64_t seed = (uint64_t)time(NULL);
    const char *given = getenv("PEAL_SEED");
    if (given != NULL) seed = strtoull(given, NULL, 10);
    print_message("seed %llu\n", (unsigned long long)seed);
    life = (struct life){.random = seed * 2 + 1};
    for (size_t i = 0; i < 2; i++) {
        rig.groups[i].keep.messages = 20;
        rig.groups[i].keep.bytes = 3000;
    }
    rig.groups[1].keep.messages = 40;
    rig.groups[0].keep.settled_ms = 5000;
    rig.settle.slice_ms = 0; /* one group in a slice */
    rig.between = random_between;
    int64_t before = unaccounted();
    for (size_t i = 0; i < LIFE_STEPS; i++) {
        life.drops = i > LIFE_STEPS / 2;
        random_step();
        check_life(before);
    }
    print_message("%llu records, %lld collapsed\n", (unsigned long long)rig.batch.seq,
                  (long long)peal_metrics_sum(PEAL_M_COLLAPSED));
    rig.between = NULL;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(heads_stay_in_memory_until_the_inbox_has_all_of_them),
        TEST(heads_of_groups_that_are_only_asked_for_go_with_the_batch),
        TEST(heads_number_is_given_once_and_never_again),
        TEST(heads_walk_goes_around_all_of_them),
        TEST(heads_rolled_back_are_what_they_were),
        TEST(heads_new_in_a_batch_that_is_dropped_are_gone),
        TEST(heads_places_begin_anew_where_a_hole_is_in_the_inbox),
        TEST(heads_places_below_the_window_go_and_their_room_is_used_again),
        TEST(heads_places_of_what_was_moved_go_but_for_holes_made_since),
        TEST(heads_hole_that_the_inbox_knew_is_no_damage),
        TEST(heads_freed_after_a_hole_are_not_looked_at_again),
        TEST(heads_note_of_an_earlier_life_is_of_no_interest),
        TEST(heads_of_a_damaged_record_are_empty_and_say_so),
        TEST(heads_of_random_lives_are_those_of_any_replay),
    };
    return cmocka_run_group_tests_name("heads", tests, NULL, NULL);
}

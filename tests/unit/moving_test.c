/* A slot of an inbox that is written by hand goes out in pieces, and comes in as entries of a log.
 */
#include "storage/moving.h"

#include "proto/envelope.h"
#include "proto/group.h"
#include "proto/wire.h"

#include "tests/unit/unit.h"

#include "tests/unit/disk.h"
#include "tests/unit/levels.h"

enum { ENTRIES = 4096 };

/* What was handed out: the entry and copies of what it borrows. */
struct got {
    struct peal_entry entry;
    char group[64];
    struct peal_bytes *envelope;
    uint64_t delivered[PEAL_INBOX_WORDS];
    uint64_t read[PEAL_INBOX_WORDS];
};

static struct levels levels;
static struct peal_config_group policy;
static struct hand ann;
static struct got got[ENTRIES];
static size_t got_count;
static size_t refuse_at = SIZE_MAX;

static void forget(void)
{
    for (size_t i = 0; i < got_count; i++)
        peal_bytes_unref(got[i].envelope);
    got_count = 0;
}

static enum peal_err on_entry(void *ctx, const struct peal_entry *entry)
{
    assert_ptr_equal(ctx, &got_count);
    if (got_count == refuse_at) return PEAL_ESTORE_FULL;
    assert_true(got_count < ENTRIES);
    struct got *g = &got[got_count++];
    memset(g, 0, sizeof *g);
    g->entry = *entry;
    assert_true(entry->group.size < sizeof g->group);
    memcpy(g->group, entry->group.at, entry->group.size);
    if (entry->word_count > 0) {
        memcpy(g->delivered, entry->delivered, entry->word_count * sizeof *g->delivered);
        memcpy(g->read, entry->read_bits, entry->word_count * sizeof *g->read);
    }
    if (entry->envelope.size > 0) {
        g->envelope = peal_bytes_new(entry->envelope.at, entry->envelope.size);
        assert_non_null(g->envelope);
    }
    return PEAL_OK;
}

static const struct peal_moving_sink sink = {&got_count, on_entry};

static int setup(void **state)
{
    if (folder_setup(state) != 0) return -1;
    levels = (struct levels){.dir = ((struct folder *)*state)->path};
    levels_open(&levels);
    policy = (struct peal_config_group){.keep = {.until = PEAL_UNTIL_READ}};
    hand_init(&ann, &levels, "user:ann");
    refuse_at = SIZE_MAX;
    return 0;
}

static int teardown(void **state)
{
    forget();
    hand_fini(&ann);
    levels_close(&levels);
    return folder_teardown(state);
}

static uint16_t slot_of(const struct hand *h)
{
    return peal_group_slot(hand_group(h));
}

/* The next name of the slot of user:ann. */
static void name_of_slot(int *i, char out[64])
{
    do
        snprintf(out, 64, "log:%d", (*i)++);
    while (peal_group_slot(peal_span_of(out)) != slot_of(&ann));
}

static struct peal_store_op *op_new(enum peal_store_op_kind kind, uint16_t slot,
                                    struct peal_span group, struct peal_span message, uint64_t upto)
{
    struct peal_store_op *op = peal_store_op_new(kind, group, message, NULL, 0);
    assert_non_null(op);
    op->mark_flags = slot;
    op->upto = upto;
    return op;
}

static struct peal_bytes *export_piece(uint16_t slot, struct peal_span group, uint64_t from)
{
    struct peal_txn txn;
    struct peal_store_op *op = op_new(PEAL_STORE_EXPORT, slot, group, (struct peal_span){0}, from);
    assert_int_equal(peal_txn_begin(&txn, levels.inbox, false), PEAL_OK);
    assert_int_equal(peal_moving_export(&txn, op), PEAL_OK);
    peal_txn_abort(&txn);
    struct peal_bytes *piece = peal_bytes_ref(op->encoded);
    peal_store_op_free(op);
    return piece;
}

static enum peal_err import_piece(uint16_t slot, struct peal_span piece)
{
    struct peal_store_op *op = op_new(PEAL_STORE_IMPORT, slot, (struct peal_span){0}, piece, 0);
    enum peal_err err = peal_moving_import(op, &sink);
    peal_store_op_free(op);
    return err;
}

/* Moves a slot; returns in how many pieces. */
static size_t copy(uint16_t slot)
{
    struct peal_buf group = {0};
    uint64_t from = 0;
    for (size_t piece = 1;; piece++) {
        struct peal_frame records;
        struct peal_bytes *bytes = export_piece(slot, peal_buf_span(&group), from);
        assert_int_equal(import_piece(slot, peal_bytes_span(bytes)), PEAL_OK);
        assert_int_equal(peal_frame_decode(peal_bytes_span(bytes), &records), PEAL_OK);
        bool last = (records.flags & PEAL_FLAG_LAST) != 0;
        from = records.from;
        group.size = 0;
        peal_buf_add_span(&group, records.group);
        peal_frame_fini(&records);
        peal_bytes_unref(bytes);
        if (!last) continue;
        peal_buf_fini(&group);
        return piece;
    }
}

static void assert_state(const struct got *g, const struct hand *h)
{
    size_t count = 0;
    assert_int_equal(g->entry.kind, PEAL_ENTRY_STATE);
    assert_string_equal(g->group, h->name);
    assert_memory_equal(&g->entry.numbers, &h->inbox.n, sizeof h->inbox.n);
    const uint64_t *delivered = peal_inbox_delivered_words(&h->inbox, &count);
    assert_int_equal(g->entry.word_count, count);
    if (count > 0) assert_memory_equal(g->delivered, delivered, count * sizeof *delivered);
    const uint64_t *read = peal_inbox_read_words(&h->inbox, &count);
    if (count > 0) assert_memory_equal(g->read, read, count * sizeof *read);
}

static void assert_message(const struct got *g, const struct hand *h, uint64_t offset,
                           const char *data)
{
    struct peal_envelope env;
    assert_int_equal(g->entry.kind, PEAL_ENTRY_MESSAGE);
    assert_string_equal(g->group, h->name);
    assert_memory_equal(&g->entry.numbers, &h->inbox.n, sizeof h->inbox.n);
    assert_int_equal(g->entry.epoch, LEVELS_EPOCH);
    assert_int_equal(g->entry.offset, offset);
    assert_true(g->entry.stored_ms == h->now_ms);
    assert_non_null(g->envelope);
    assert_int_equal(peal_envelope_decode(peal_bytes_span(g->envelope), &env), PEAL_OK);
    assert_int_equal(env.offset, offset);
    assert_true(peal_span_is(env.data, data));
}

/* ---- what goes over ----------------------------------------------------------------------- */

static void moving_group_keeps_its_numbers_marks_messages_and_ids(void **state)
{
    (void)state;
    struct peal_envelope env;
    uint64_t offsets[] = {2, 5};
    for (int i = 1; i <= 5; i++)
        hand_put(&ann, i == 4 ? "four" : NULL, peal_span_of("x"), i == 3 ? 9000 : 0);
    hand_mark(&ann, &policy, (struct peal_mark){PEAL_FLAG_ACK, 0, offsets, 2});
    hand_mark(&ann, &policy, (struct peal_mark){PEAL_FLAG_READ, 0, offsets, 1});
    hand_save(&ann);
    assert_int_equal(copy(slot_of(&ann)), 1);
    assert_int_equal(got_count, 6);
    assert_state(&got[0], &ann);
    for (uint64_t offset = 1; offset <= 5; offset++) {
        assert_message(&got[offset], &ann, offset, "x");
        assert_true(got[offset].entry.expires_ms == (offset == 3 ? ann.now_ms + 9000 : 0));
    }
    assert_int_equal(peal_envelope_decode(peal_bytes_span(got[4].envelope), &env), PEAL_OK);
    assert_true(peal_span_is(env.id, "four"));
    assert_true(env.flags & PEAL_MSG_ID_GIVEN);
}

static void moving_marks_of_a_window_that_is_far_on_are_the_same(void **state)
{
    (void)state;
    hand_put_many(&ann, 300);
    for (uint64_t offset = 1; offset <= 100; offset++)
        hand_remove(&ann, offset, PEAL_GONE_EVICTED);
    hand_mark(&ann, &policy, (struct peal_mark){.flags = PEAL_FLAG_READ, .upto = 250});
    hand_remove(&ann, 200, PEAL_GONE_EXPIRED);
    hand_save(&ann);
    copy(slot_of(&ann));
    assert_int_equal(got_count, 200);
    assert_state(&got[0], &ann);
    assert_int_equal(got[0].entry.word_count, 3); /* 64..255 */
    assert_int_equal(got[1].entry.offset, 101);
    assert_int_equal(got[99].entry.offset, 199);
    assert_int_equal(got[100].entry.offset, 201);
    assert_int_equal(got[199].entry.offset, 300);
}

static void moving_takes_the_slot_and_nothing_else(void **state)
{
    (void)state;
    char names[3][64];
    struct hand h;
    int next = 0;
    for (int i = 0; i < 3; i++) {
        name_of_slot(&next, names[i]);
        hand_init(&h, &levels, names[i]);
        if (i != 1) hand_put_many(&h, 2); /* one group is empty */
        hand_save(&h);
        hand_fini(&h);
    }
    hand_put_many(&ann, 1);
    hand_save(&ann);
    for (int i = 0, others = 0; others < 50; i++) {
        char name[64];
        snprintf(name, sizeof name, "log:%d", i);
        hand_init(&h, &levels, name);
        if (slot_of(&h) != slot_of(&ann)) {
            hand_put_many(&h, 1);
            hand_save(&h);
            others++;
        }
        hand_fini(&h);
    }
    copy(slot_of(&ann));
    size_t states = 0;
    size_t messages = 0;
    for (size_t i = 0; i < got_count; i++) {
        const struct got *g = &got[i];
        assert_int_equal(peal_group_slot(peal_span_of(g->group)), slot_of(&ann));
        if (g->entry.kind == PEAL_ENTRY_STATE)
            states++;
        else
            messages++;
        for (size_t n = 0; n < i; n++)
            assert_false(g->entry.kind == PEAL_ENTRY_STATE &&
                         got[n].entry.kind == PEAL_ENTRY_STATE &&
                         strcmp(g->group, got[n].group) == 0);
    }
    assert_int_equal(states, 4);
    assert_int_equal(messages, 5);
}

static void moving_empty_slot_is_one_empty_piece(void **state)
{
    (void)state;
    hand_put_many(&ann, 3);
    hand_save(&ann);
    uint16_t slot = (uint16_t)((slot_of(&ann) + 1) % PEAL_SLOTS);
    assert_int_equal(copy(slot), 1);
    assert_int_equal(got_count, 0);
}

/* Every piece can be applied by itself, and together they have each message once. */
static void assert_pieces(size_t pieces, uint64_t messages)
{
    size_t states = 0;
    uint64_t offset = 0;
    for (size_t i = 0; i < got_count; i++) {
        const struct got *g = &got[i];
        if (g->entry.kind == PEAL_ENTRY_STATE) {
            assert_state(g, &ann);
            assert_int_equal(peal_moving_is_news(&got[0].entry.numbers, &g->entry.numbers), false);
            states++;
        } else {
            assert_int_equal(g->entry.offset, ++offset);
        }
    }
    assert_int_equal(offset, messages);
    assert_int_equal(states, pieces);
}

static void moving_large_group_goes_in_pieces_that_continue(void **state)
{
    (void)state;
    static char data[3000];
    memset(data, 'x', sizeof data);
    for (int i = 0; i < 300; i++)
        hand_put(&ann, NULL, peal_span_make(data, sizeof data), 0);
    hand_save(&ann);
    size_t pieces = copy(slot_of(&ann));
    assert_in_range(pieces, 4, 5);
    assert_pieces(pieces, 300);
}

static void moving_many_messages_go_in_pieces_that_continue(void **state)
{
    (void)state;
    for (int i = 0; i < 1020; i++)
        hand_put(&ann, NULL, peal_span_of("x"), 0);
    hand_save(&ann);
    size_t pieces = copy(slot_of(&ann));
    assert_in_range(pieces, 2, 3);
    assert_pieces(pieces, 1020);
}

static void moving_message_larger_than_a_piece_fits(void **state)
{
    (void)state;
    size_t size = 900 * 1024;
    char *data = malloc(size);
    assert_non_null(data);
    memset(data, 'x', size);
    for (int i = 0; i < 3; i++)
        hand_put(&ann, NULL, peal_span_make(data, size), 0);
    hand_save(&ann);
    free(data);
    assert_int_equal(copy(slot_of(&ann)), 3);
    assert_pieces(3, 3);
}

static void moving_goes_on_behind_a_group_that_is_gone(void **state)
{
    (void)state;
    char name[64];
    char key[PEAL_KEY_HEAD_MAX];
    int next = 0;
    struct hand second;
    name_of_slot(&next, name);
    hand_init(&second, &levels, name);
    hand_put_many(&second, 3);
    hand_save(&second);
    hand_put_many(&ann, 3);
    hand_save(&ann);
    /* `log:` is before `user:`. */
    levels_remove(levels.inbox, PEAL_TREE_HEAD,
                  peal_span_make(key, peal_key_head(key, hand_group(&second))));
    struct peal_bytes *piece = export_piece(slot_of(&ann), hand_group(&second), 3);
    assert_int_equal(import_piece(slot_of(&ann), peal_bytes_span(piece)), PEAL_OK);
    assert_int_equal(got_count, 4);
    assert_state(&got[0], &ann);
    assert_message(&got[1], &ann, 1, "payload-0001");
    peal_bytes_unref(piece);
    hand_fini(&second);
}

static void moving_news_are_messages_and_marks_but_not_what_retention_did_here(void **state)
{
    (void)state;
    hand_put_many(&ann, 3);
    struct peal_numbers there = ann.inbox.n;
    there.gid += 5;
    there.ver += 5;
    assert_false(peal_moving_is_news(&ann.inbox.n, &there));
    struct peal_numbers before = ann.inbox.n;
    hand_mark(&ann, &policy, (struct peal_mark){.flags = PEAL_FLAG_ACK, .upto = 1});
    assert_true(peal_moving_is_news(&before, &ann.inbox.n));
    before = ann.inbox.n;
    hand_put_many(&ann, 1);
    assert_true(peal_moving_is_news(&before, &ann.inbox.n));

    there = ann.inbox.n;
    hand_remove(&ann, 1, PEAL_GONE_EVICTED);
    hand_remove(&ann, 3, PEAL_GONE_EXPIRED);
    assert_false(peal_moving_is_news(&ann.inbox.n, &there));
    there.epoch++;
    assert_true(peal_moving_is_news(&ann.inbox.n, &there));
}

/* ---- damage ------------------------------------------------------------------------------- */

static void moving_damaged_message_stays_behind(void **state)
{
    (void)state;
    char at[PEAL_KEY_MESSAGE];
    hand_put_many(&ann, 4);
    hand_save(&ann);
    levels_damage(levels.inbox, PEAL_TREE_MESSAGE, hand_key(&ann, 2, at), 40);
    copy(slot_of(&ann));
    assert_int_equal(got_count, 4);
    assert_state(&got[0], &ann);
    assert_message(&got[1], &ann, 1, "payload-0001");
    assert_message(&got[2], &ann, 3, "payload-0003");
    assert_message(&got[3], &ann, 4, "payload-0004");
}

static void moving_damaged_head_stays_behind_and_others_go(void **state)
{
    (void)state;
    char name[64];
    char key[PEAL_KEY_HEAD_MAX];
    int next = 0;
    struct hand second;
    name_of_slot(&next, name);
    hand_init(&second, &levels, name);
    hand_put_many(&second, 2);
    hand_save(&second);
    hand_put_many(&ann, 2);
    hand_save(&ann);
    levels_damage(levels.inbox, PEAL_TREE_HEAD,
                  peal_span_make(key, peal_key_head(key, hand_group(&second))), 20);
    copy(slot_of(&ann));
    assert_int_equal(got_count, 3);
    assert_state(&got[0], &ann);
    forget();
    levels_damage(levels.inbox, PEAL_TREE_HEAD,
                  peal_span_make(key, peal_key_head(key, hand_group(&ann))), 20);
    copy(slot_of(&ann));
    assert_int_equal(got_count, 0);
    hand_fini(&second);
}

/* ---- what is refused ---------------------------------------------------------------------- */

static void moving_changed_piece_is_refused_as_a_whole(void **state)
{
    (void)state;
    hand_put_many(&ann, 3);
    hand_mark(&ann, &policy, (struct peal_mark){.flags = PEAL_FLAG_ACK, .upto = 1});
    hand_save(&ann);
    struct peal_bytes *piece = export_piece(slot_of(&ann), (struct peal_span){0}, 0);
    struct peal_span good = peal_bytes_span(piece);
    char *bad = malloc(good.size);
    assert_non_null(bad);
    size_t refused = 0;
    for (size_t i = 0; i < good.size * 8; i++) {
        memcpy(bad, good.at, good.size);
        bad[i / 8] = (char)(bad[i / 8] ^ 1 << i % 8);
        enum peal_err err = import_piece(slot_of(&ann), peal_span_make(bad, good.size));
        if (err != PEAL_OK) {
            assert_int_equal(err, PEAL_EBAD_MESSAGE);
            assert_int_equal(got_count, 0);
            refused++;
            continue;
        }
        /* Only what is not a record may differ unseen: nothing came, or what was sent. */
        if (got_count > 0) assert_state(&got[0], &ann);
        for (size_t n = 1; n < got_count; n++) {
            char data[32];
            snprintf(data, sizeof data, "payload-%04zu", n);
            assert_message(&got[n], &ann, n, data);
        }
        forget();
    }
    assert_true(refused > good.size * 7);
    for (size_t size = 0; size < good.size; size++) {
        memcpy(bad, good.at, size);
        assert_int_equal(import_piece(slot_of(&ann), peal_span_make(bad, size)), PEAL_EBAD_MESSAGE);
        assert_int_equal(got_count, 0);
    }
    free(bad);
    peal_bytes_unref(piece);
}

static void moving_piece_of_another_slot_is_refused(void **state)
{
    (void)state;
    uint16_t other = (uint16_t)((slot_of(&ann) + 1) % PEAL_SLOTS);
    for (int messages = 0; messages < 2; messages++) {
        hand_put_many(&ann, (size_t)messages);
        hand_save(&ann);
        struct peal_bytes *piece = export_piece(slot_of(&ann), (struct peal_span){0}, 0);
        assert_int_equal(import_piece(other, peal_bytes_span(piece)), PEAL_EBAD_MESSAGE);
        assert_int_equal(got_count, 0);
        peal_bytes_unref(piece);
    }
}

/* Sends a frame of these records; `order` names them: h and a..c for the messages, x: a message
 * with an unknown kind in front. */
static enum peal_err import_order(const char *order)
{
    struct peal_span at[3 * 16];
    char head[PEAL_KEY_HEAD_MAX];
    char keys[16][PEAL_KEY_MESSAGE];
    struct peal_txn txn;
    struct peal_buf buf = {0};
    size_t n = 0;
    assert_int_equal(peal_txn_begin(&txn, levels.inbox, false), PEAL_OK);
    for (const char *c = order; *c != '\0'; c++, n++) {
        bool is_head = *c == 'h';
        uint64_t offset = *c == 'x' ? 1 : (uint64_t)(*c - 'a' + 1);
        at[3 * n] = peal_span_of(is_head ? "h" : *c == 'x' ? "i" : "m");
        at[3 * n + 1] = is_head ? peal_span_make(head, peal_key_head(head, hand_group(&ann)))
                                : hand_key(&ann, offset, keys[n]);
        assert_int_equal(peal_txn_get(&txn, is_head ? PEAL_TREE_HEAD : PEAL_TREE_MESSAGE,
                                      at[3 * n + 1], &at[3 * n + 2]),
                         PEAL_OK);
    }
    struct peal_frame frame = {.type = PEAL_F_RECORDS, .flags = PEAL_FLAG_LAST};
    frame.entries.at = at;
    frame.entries.count = 3 * n;
    peal_frame_encode(&frame, &buf);
    peal_txn_abort(&txn);
    forget();
    enum peal_err err = import_piece(slot_of(&ann), peal_buf_span(&buf));
    peal_buf_fini(&buf);
    if (err != PEAL_OK) assert_int_equal(got_count, 0);
    return err;
}

static void moving_records_in_a_wrong_order_are_refused(void **state)
{
    (void)state;
    hand_put_many(&ann, 3);
    hand_save(&ann);
    assert_int_equal(import_order("habc"), PEAL_OK);
    assert_int_equal(got_count, 4);
    assert_int_equal(import_order("hac"), PEAL_OK);
    assert_int_equal(import_order("hahb"), PEAL_OK);
    assert_int_equal(import_order("h"), PEAL_OK);
    assert_int_equal(import_order(""), PEAL_OK);
    assert_int_equal(import_order("a"), PEAL_EBAD_MESSAGE);
    assert_int_equal(import_order("ahb"), PEAL_EBAD_MESSAGE);
    assert_int_equal(import_order("hba"), PEAL_EBAD_MESSAGE);
    assert_int_equal(import_order("habb"), PEAL_EBAD_MESSAGE);
    assert_int_equal(import_order("hx"), PEAL_EBAD_MESSAGE);
}

static void moving_message_outside_of_the_window_is_neither_sent_nor_taken(void **state)
{
    (void)state;
    hand_put_many(&ann, 3);
    assert_int_equal(peal_inbox_reserve(&ann.inbox, 4), PEAL_OK);
    peal_inbox_remove(&ann.inbox, 1, ann.sizes[1], PEAL_GONE_EVICTED); /* its record stays */
    hand_save(&ann);
    assert_int_equal(import_order("hbc"), PEAL_OK);
    assert_int_equal(import_order("habc"), PEAL_EBAD_MESSAGE);
    forget();
    copy(slot_of(&ann));
    assert_int_equal(got_count, 3);
    assert_message(&got[1], &ann, 2, "payload-0002");
}

static void moving_message_of_another_group_is_neither_sent_nor_taken(void **state)
{
    (void)state;
    char at[PEAL_KEY_MESSAGE];
    char record[512];
    struct peal_buf buf = {0};
    hand_put_many(&ann, 2);
    hand_save(&ann);
    struct peal_envelope env = {.id = peal_span_of("01ARZ3NDEKTSV4RRFFQ69G5FAV"),
                                .group = peal_span_of("user:bob"),
                                .epoch = LEVELS_EPOCH,
                                .offset = 2,
                                .ts_ms = ann.now_ms,
                                .data = peal_span_of("x"),
                                .data_kind = PEAL_DATA_TEXT};
    peal_envelope_encode(&env, &buf);
    struct peal_record wrong = {ann.now_ms, 0, peal_buf_span(&buf)};
    struct peal_span key = hand_key(&ann, 2, at);
    assert_true(PEAL_RECORD_MESSAGE + buf.size <= sizeof record);
    peal_record_encode(key, &wrong, record);
    levels_write(levels.inbox, PEAL_TREE_MESSAGE, key,
                 peal_span_make(record, PEAL_RECORD_MESSAGE + buf.size));
    peal_buf_fini(&buf);
    assert_int_equal(import_order("hab"), PEAL_EBAD_MESSAGE);
    copy(slot_of(&ann));
    assert_int_equal(got_count, 2);
}

static void moving_stops_when_an_entry_is_not_taken(void **state)
{
    (void)state;
    hand_put_many(&ann, 3);
    hand_save(&ann);
    struct peal_bytes *piece = export_piece(slot_of(&ann), (struct peal_span){0}, 0);
    for (refuse_at = 0; refuse_at < 4; refuse_at++) {
        assert_int_equal(import_piece(slot_of(&ann), peal_bytes_span(piece)), PEAL_ESTORE_FULL);
        assert_int_equal(got_count, refuse_at);
        forget();
    }
    assert_int_equal(import_piece(slot_of(&ann), peal_bytes_span(piece)), PEAL_OK);
    peal_bytes_unref(piece);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(moving_group_keeps_its_numbers_marks_messages_and_ids),
        TEST(moving_marks_of_a_window_that_is_far_on_are_the_same),
        TEST(moving_takes_the_slot_and_nothing_else),
        TEST(moving_empty_slot_is_one_empty_piece),
        TEST(moving_large_group_goes_in_pieces_that_continue),
        TEST(moving_many_messages_go_in_pieces_that_continue),
        TEST(moving_message_larger_than_a_piece_fits),
        TEST(moving_goes_on_behind_a_group_that_is_gone),
        TEST(moving_news_are_messages_and_marks_but_not_what_retention_did_here),
        TEST(moving_damaged_message_stays_behind),
        TEST(moving_damaged_head_stays_behind_and_others_go),
        TEST(moving_changed_piece_is_refused_as_a_whole),
        TEST(moving_piece_of_another_slot_is_refused),
        TEST(moving_records_in_a_wrong_order_are_refused),
        TEST(moving_message_outside_of_the_window_is_neither_sent_nor_taken),
        TEST(moving_message_of_another_group_is_neither_sent_nor_taken),
        TEST(moving_stops_when_an_entry_is_not_taken),
    };
    return cmocka_run_group_tests_name("moving", tests, NULL, NULL);
}

#include "storage/entry.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/wire.h"
#include "tests/unit/inbox_same.h"
#include "tests/unit/unit.h"

enum { RECORD_MAX = 4096 };

static const uint64_t offsets_of[] = {3, 5, UINT64_MAX, 0};
static const uint64_t holes_of[] = {2, 69, 1};
static const uint64_t delivered_of[] = {UINT64_MAX << 2, 63};
static const uint64_t read_of[] = {UINT64_MAX << 60, 1};

/* An entry of the kind, with all that it may have. */
static struct peal_entry sample(enum peal_entry_kind kind)
{
    struct peal_entry entry = {.kind = kind};
    if (kind == PEAL_ENTRY_DROP) {
        entry.slot = PEAL_SLOTS - 1;
        return entry;
    }
    if (kind == PEAL_ENTRY_ID) {
        entry.epoch = UINT64_MAX;
        entry.offset = 127;
        entry.stored_ms = 128;
        memcpy(entry.id, "0123456789abcde", sizeof entry.id);
        return entry;
    }
    entry.group = peal_span_of("user:\xc3\xa4");
    entry.numbers = (struct peal_numbers){.gid = 300,
                                          .epoch = (uint64_t)1 << 52,
                                          .ver = 16384,
                                          .next = 70,
                                          .first = 2,
                                          .lost_to = 1,
                                          .rev = UINT64_MAX,
                                          .last_mark_ms = 1795300784000,
                                          .bytes = UINT64_MAX >> 1,
                                          .kept = 68,
                                          .oldest_ms = 1795300000000,
                                          .expires_ms = 0};
    if (kind == PEAL_ENTRY_PUT || kind == PEAL_ENTRY_MESSAGE) {
        entry.epoch = entry.numbers.epoch;
        entry.offset = 69;
        entry.stored_ms = 1795300784001;
        entry.expires_ms = UINT64_MAX;
        entry.envelope = peal_span_of("an envelope");
    }
    if (kind == PEAL_ENTRY_MARK) {
        entry.read = true;
        entry.upto = 17;
        entry.offsets = offsets_of;
        entry.offset_count = 4;
    }
    if (kind == PEAL_ENTRY_PUT || kind == PEAL_ENTRY_MARK || kind == PEAL_ENTRY_TRIM) {
        entry.holes = holes_of;
        entry.hole_count = 3;
    }
    if (kind == PEAL_ENTRY_STATE) {
        entry.delivered = delivered_of;
        entry.read_bits = read_of;
        entry.word_count = 2;
    }
    return entry;
}

static size_t encode(const struct peal_entry *entry, uint64_t seq, char key[PEAL_KEY_ENTRY],
                     char out[RECORD_MAX])
{
    peal_key_entry(key, seq);
    size_t size = peal_entry_size(entry);
    assert_true(size <= RECORD_MAX);
    assert_int_equal(peal_entry_encode(peal_span_make(key, PEAL_KEY_ENTRY), entry, out), size);
    return size;
}

static void assert_list(const uint64_t *a, size_t a_count, const uint64_t *b, size_t b_count)
{
    assert_int_equal(a_count, b_count);
    if (a_count > 0) assert_memory_equal(a, b, a_count * sizeof *a);
}

static void assert_entry(const struct peal_entry *a, const struct peal_entry *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_true(peal_span_equal(a->group, b->group));
    assert_memory_equal(&a->numbers, &b->numbers, sizeof a->numbers);
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->offset, b->offset);
    assert_int_equal(a->stored_ms, b->stored_ms);
    assert_int_equal(a->expires_ms, b->expires_ms);
    assert_true(peal_span_equal(a->envelope, b->envelope));
    assert_memory_equal(a->id, b->id, sizeof a->id);
    assert_int_equal(a->read, b->read);
    assert_int_equal(a->upto, b->upto);
    assert_list(a->offsets, a->offset_count, b->offsets, b->offset_count);
    assert_list(a->holes, a->hole_count, b->holes, b->hole_count);
    assert_list(a->delivered, a->word_count, b->delivered, b->word_count);
    assert_list(a->read_bits, a->word_count, b->read_bits, b->word_count);
    assert_int_equal(a->slot, b->slot);
}

static uint64_t seq_of(int kind)
{
    return (uint64_t)1 << 40 | (uint64_t)kind;
}

static void entry_every_kind_comes_back_as_it_was(void **state)
{
    (void)state;
    char key[PEAL_KEY_ENTRY];
    char record[RECORD_MAX];
    struct peal_entry_room room = {0}; /* one for all of them */
    for (int kind = PEAL_ENTRY_PUT; kind < PEAL_ENTRY_KINDS; kind++) {
        struct peal_entry entry = sample((enum peal_entry_kind)kind);
        struct peal_entry out;
        uint64_t seq;
        size_t size = encode(&entry, seq_of(kind), key, record);
        struct peal_span k = {key, sizeof key};
        assert_int_equal(peal_key_entry_seq(k, &seq), PEAL_OK);
        assert_int_equal(seq, seq_of(kind));
        assert_int_equal(peal_entry_decode(k, peal_span_make(record, size), &room, &out), PEAL_OK);
        assert_entry(&entry, &out);
        /* Without its lists. */
        entry.offset_count = entry.hole_count = entry.word_count = 0;
        size = encode(&entry, 0, key, record);
        assert_true(size <= PEAL_ENTRY_FIXED_MAX + entry.envelope.size);
        assert_int_equal(peal_entry_decode(k, peal_span_make(record, size), &room, &out), PEAL_OK);
        assert_entry(&entry, &out);
    }
    uint64_t seq;
    assert_int_equal(peal_key_entry_seq(peal_span_make(key, 7), &seq), PEAL_ECORRUPT);
    peal_entry_room_fini(&room);
}

static void entry_mark_of_one_bit_is_small(void **state)
{
    (void)state;
    struct peal_entry entry = sample(PEAL_ENTRY_MARK);
    entry.offset_count = 1;
    entry.hole_count = 0;
    entry.numbers.bytes = 100000;
    entry.numbers.rev = 1000;
    assert_true(peal_entry_size(&entry) <= 70);
}

static enum peal_err decode_copy(const char *key, const char *record, size_t size)
{
    /* In a block of its own, so that reading too far is seen. */
    char *copy = malloc(size == 0 ? 1 : size);
    struct peal_entry_room room = {0};
    struct peal_entry out;
    assert_non_null(copy);
    memcpy(copy, record, size);
    enum peal_err err = peal_entry_decode(peal_span_make(key, PEAL_KEY_ENTRY),
                                          peal_span_make(copy, size), &room, &out);
    peal_entry_room_fini(&room);
    free(copy);
    return err;
}

static void entry_changed_records_are_refused(void **state)
{
    (void)state;
    char key[PEAL_KEY_ENTRY];
    char record[RECORD_MAX + 1];
    for (int kind = PEAL_ENTRY_PUT; kind < PEAL_ENTRY_KINDS; kind++) {
        struct peal_entry entry = sample((enum peal_entry_kind)kind);
        size_t size = encode(&entry, 77, key, record);
        assert_int_equal(decode_copy(key, record, size), PEAL_OK);
        for (size_t bit = 0; bit < size * 8; bit++) {
            record[bit / 8] ^= (char)(1 << bit % 8);
            assert_int_equal(decode_copy(key, record, size), PEAL_ECORRUPT);
            record[bit / 8] ^= (char)(1 << bit % 8);
        }
        for (size_t bit = 0; bit < sizeof key * 8; bit++) {
            key[bit / 8] ^= (char)(1 << bit % 8);
            assert_int_equal(decode_copy(key, record, size), PEAL_ECORRUPT);
            key[bit / 8] ^= (char)(1 << bit % 8);
        }
        for (size_t cut = 0; cut < size; cut++)
            assert_int_equal(decode_copy(key, record, cut), PEAL_ECORRUPT);
        record[size] = 0;
        assert_int_equal(decode_copy(key, record, size + 1), PEAL_ECORRUPT);
    }
}

static void entry_cut_and_sealed_anew_is_refused(void **state)
{
    (void)state;
    char key[PEAL_KEY_ENTRY];
    char record[RECORD_MAX];
    struct peal_span k = {key, sizeof key};
    for (int kind = PEAL_ENTRY_PUT; kind < PEAL_ENTRY_KINDS; kind++) {
        struct peal_entry entry = sample((enum peal_entry_kind)kind);
        size_t whole = peal_entry_size(&entry);
        for (size_t cut = 8; cut < whole; cut++) {
            size_t size = encode(&entry, 77, key, record);
            assert_int_equal(size, whole);
            peal_record_seal(k, record, cut);
            /* Of an envelope some bytes are as good as all. */
            bool inside = cut > whole - entry.envelope.size;
            assert_int_equal(decode_copy(key, record, cut), inside ? PEAL_OK : PEAL_ECORRUPT);
        }
        if (entry.envelope.size > 0) continue;
        size_t size = encode(&entry, 77, key, record);
        record[size] = 0;
        peal_record_seal(k, record, size + 1);
        assert_int_equal(decode_copy(key, record, size + 1), PEAL_ECORRUPT);
    }
}

/* ---- records that no encoder makes --------------------------------------------------------- */

struct raw {
    char at[RECORD_MAX];
    size_t size;
};

static void raw_number(struct raw *raw, uint64_t number)
{
    for (; number >= 128; number >>= 7)
        raw->at[raw->size++] = (char)(unsigned char)((number & 127) | 128);
    raw->at[raw->size++] = (char)number;
}

static struct raw raw_begin(int version, int kind, const char *name)
{
    struct raw raw = {.size = 8};
    raw.at[raw.size++] = (char)version;
    raw.at[raw.size++] = (char)kind;
    raw.at[raw.size++] = (char)strlen(name);
    memcpy(raw.at + raw.size, name, strlen(name));
    raw.size += strlen(name);
    return raw;
}

static enum peal_err raw_decode(struct raw *raw)
{
    char key[PEAL_KEY_ENTRY];
    peal_key_entry(key, 5);
    peal_record_seal(peal_span_make(key, sizeof key), raw->at, raw->size);
    return decode_copy(key, raw->at, raw->size);
}

static enum peal_err raw_drop(int version, int kind, const char *name, uint64_t slot)
{
    struct raw raw = raw_begin(version, kind, name);
    raw_number(&raw, slot);
    return raw_decode(&raw);
}

static void entry_drop_with_impossible_values_is_refused(void **state)
{
    (void)state;
    assert_int_equal(raw_drop(PEAL_ENTRY_VERSION, PEAL_ENTRY_DROP, "", 1023), PEAL_OK);
    assert_int_equal(raw_drop(PEAL_ENTRY_VERSION, PEAL_ENTRY_DROP, "", 1024), PEAL_ECORRUPT);
    assert_int_equal(raw_drop(PEAL_ENTRY_VERSION, PEAL_ENTRY_DROP, "g", 1), PEAL_ECORRUPT);
    assert_int_equal(raw_drop(PEAL_ENTRY_VERSION + 1, PEAL_ENTRY_DROP, "", 1), PEAL_ECORRUPT);
    assert_int_equal(raw_drop(PEAL_ENTRY_VERSION, 0, "", 1), PEAL_ECORRUPT);
    assert_int_equal(raw_drop(PEAL_ENTRY_VERSION, PEAL_ENTRY_KINDS, "", 1), PEAL_ECORRUPT);
    assert_int_equal(raw_drop(PEAL_ENTRY_VERSION, 255, "", 1), PEAL_ECORRUPT);
}

static enum peal_err raw_bytes(const char *bytes, size_t size)
{
    struct raw raw = raw_begin(PEAL_ENTRY_VERSION, PEAL_ENTRY_ID, "");
    memcpy(raw.at + raw.size, bytes, size);
    raw.size += size;
    for (int i = 0; i < 2; i++)
        raw_number(&raw, 1);
    raw.size += PEAL_KEY_ID;
    return raw_decode(&raw);
}

static void entry_numbers_have_one_way_to_be_written(void **state)
{
    (void)state;
    assert_int_equal(raw_bytes("\x01", 1), PEAL_OK);
    assert_int_equal(raw_bytes("\x81\x00", 2), PEAL_ECORRUPT); /* 1 again, longer */
    assert_int_equal(raw_bytes("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10), PEAL_OK);
    assert_int_equal(raw_bytes("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10), PEAL_ECORRUPT);
    assert_int_equal(raw_bytes("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00", 11), PEAL_ECORRUPT);
}

enum {
    GID,
    EPOCH,
    VER,
    NEXT,
    FIRST,
    LOST_TO,
    REV,
    MARK_MS,
    BYTES,
    KEPT,
    OLDEST,
    EXPIRES,
    DAMAGE,
    NUMBERS
};

/* A record with numbers of which one is other than in a good one, and what follows them. */
static enum peal_err raw_grouped(int kind, const char *name, int which, uint64_t number,
                                 const uint64_t *more, size_t more_count)
{
    uint64_t numbers[NUMBERS] = {1, 1, 1, 80, 3, 2, 9, 9, 100, 77, 9, 0, 0};
    struct raw raw = raw_begin(PEAL_ENTRY_VERSION, kind, name);
    if (which >= 0) numbers[which] = number;
    for (size_t i = 0; i < NUMBERS; i++)
        raw_number(&raw, numbers[i]);
    for (size_t i = 0; i < more_count; i++)
        raw_number(&raw, more[i]);
    return raw_decode(&raw);
}

static void entry_numbers_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const struct {
        int which;
        uint64_t number;
        enum peal_err err;
    } cases[] = {
        {-1, 0, PEAL_OK},
        {GID, 0, PEAL_ECORRUPT},
        {EPOCH, 0, PEAL_ECORRUPT},
        {VER, 0, PEAL_ECORRUPT},
        {NEXT, 79, PEAL_ECORRUPT}, /* fewer than are kept */
        {NEXT, 2, PEAL_ECORRUPT},
        {NEXT, 3 + PEAL_INBOX_MESSAGES_MAX, PEAL_OK},
        {NEXT, 4 + PEAL_INBOX_MESSAGES_MAX, PEAL_ECORRUPT},
        {NEXT, UINT64_MAX, PEAL_ECORRUPT},
        {FIRST, 0, PEAL_ECORRUPT},
        {FIRST, 4, PEAL_ECORRUPT},
        {FIRST, 81, PEAL_ECORRUPT},
        {LOST_TO, 3, PEAL_ECORRUPT},
        {KEPT, 78, PEAL_ECORRUPT},
        {KEPT, 0, PEAL_OK}, /* too low after damage, and true again with time */
        {REV, UINT64_MAX, PEAL_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(
            raw_grouped(PEAL_ENTRY_EPOCH, "g", cases[i].which, cases[i].number, NULL, 0),
            cases[i].err);
    assert_int_equal(raw_grouped(PEAL_ENTRY_EPOCH, "", -1, 0, NULL, 0), PEAL_ECORRUPT);
    assert_int_equal(raw_grouped(PEAL_ENTRY_EPOCH, "a\nb", -1, 0, NULL, 0), PEAL_ECORRUPT);
    assert_int_equal(raw_grouped(PEAL_ENTRY_EPOCH, "\xff", -1, 0, NULL, 0), PEAL_ECORRUPT);
    char name[PEAL_NAME_MAX + 2];
    memset(name, 'n', sizeof name);
    name[PEAL_NAME_MAX + 1] = '\0';
    assert_int_equal(raw_grouped(PEAL_ENTRY_EPOCH, name, -1, 0, NULL, 0), PEAL_ECORRUPT);
    name[PEAL_NAME_MAX] = '\0';
    assert_int_equal(raw_grouped(PEAL_ENTRY_EPOCH, name, -1, 0, NULL, 0), PEAL_OK);
}

static void entry_lists_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const struct {
        enum peal_entry_kind kind;
        enum peal_err err;
        size_t count;
        uint64_t more[7];
    } cases[] = {
        {PEAL_ENTRY_TRIM, PEAL_OK, 3, {2, 1, 79}},
        {PEAL_ENTRY_TRIM, PEAL_ECORRUPT, 3, {2, 1, 80}}, /* not given out yet */
        {PEAL_ENTRY_TRIM, PEAL_ECORRUPT, 3, {2, 0, 79}},
        {PEAL_ENTRY_TRIM, PEAL_ECORRUPT, 3, {1, 1, 79}},
        {PEAL_ENTRY_TRIM, PEAL_ECORRUPT, 3, {3, 1, 79}},
        {PEAL_ENTRY_TRIM, PEAL_ECORRUPT, 3, {UINT64_MAX, 1, 79}},
        {PEAL_ENTRY_TRIM, PEAL_ECORRUPT, 3, {UINT64_MAX / 8 + 2, 1, 79}},
        {PEAL_ENTRY_MARK, PEAL_OK, 4, {1, UINT64_MAX, 0, 0}},
        {PEAL_ENTRY_MARK, PEAL_OK, 6, {0, 0, 1, UINT64_MAX, 1, 3}},
        {PEAL_ENTRY_MARK, PEAL_ECORRUPT, 4, {2, 0, 0, 0}}, /* read is a bit */
        {PEAL_ENTRY_MARK, PEAL_ECORRUPT, 3, {1, 0, 0}},
        /* The window is 3..79: bits 3 of word 0 to 15 of word 1. */
        {PEAL_ENTRY_STATE, PEAL_OK, 5, {2, 8, 32768, 8, 0}},
        {PEAL_ENTRY_STATE, PEAL_OK, 1, {0}},
        {PEAL_ENTRY_STATE, PEAL_ECORRUPT, 5, {2, 4, 32768, 0, 0}},
        {PEAL_ENTRY_STATE, PEAL_ECORRUPT, 5, {2, 8, 65536, 0, 0}},
        {PEAL_ENTRY_STATE, PEAL_ECORRUPT, 7, {3, 8, 8, 8, 0, 0, 0}},
        {PEAL_ENTRY_STATE, PEAL_ECORRUPT, 5, {2, 8, 1, 16, 0}}, /* read, not delivered */
        {PEAL_ENTRY_STATE, PEAL_ECORRUPT, 4, {2, 8, 1, 8}},
        /* offset, stored, expires, and one byte of an envelope */
        {PEAL_ENTRY_MESSAGE, PEAL_OK, 4, {79, 1, 0, 1}},
        {PEAL_ENTRY_MESSAGE, PEAL_ECORRUPT, 3, {79, 1, 0}},
        {PEAL_ENTRY_MESSAGE, PEAL_ECORRUPT, 4, {80, 1, 0, 1}},
        {PEAL_ENTRY_MESSAGE, PEAL_ECORRUPT, 4, {0, 1, 0, 1}},
        {PEAL_ENTRY_PUT, PEAL_OK, 5, {79, 1, 0, 0, 1}},
        {PEAL_ENTRY_PUT, PEAL_ECORRUPT, 4, {79, 1, 0, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum peal_err err =
            raw_grouped((int)cases[i].kind, "g", -1, 0, cases[i].more, cases[i].count);
        if (err != cases[i].err) fail_msg("case %zu: %s", i, peal_err_word(err));
    }
}

/* ---- a life, done and told ------------------------------------------------------------------ */

enum { LIFE_RECORDS = 1500, LIFE_OFFSETS = 60000, HOLES_MAX = 20000 };

struct life_message {
    bool kept;
    uint64_t bytes, stored_ms, expires_ms;
};

struct life_record {
    char *at;
    size_t size;
    enum peal_entry_kind kind;
    struct peal_inbox after; /* what the one who did it had then */
};

/* What the store thread does with one group, without messages. */
struct life {
    struct peal_inbox inbox;
    struct peal_config_group policy;
    struct life_message at[LIFE_OFFSETS];
    uint64_t now_ms;
    uint64_t holes[HOLES_MAX];
    size_t hole_count;
    struct life_record records[LIFE_RECORDS];
    size_t count;
};

static void life_record(struct life *l, struct peal_entry *entry)
{
    char key[PEAL_KEY_ENTRY];
    l->inbox.n.ver++;
    entry->group = peal_span_of("user:7");
    entry->numbers = l->inbox.n;
    entry->holes = l->holes;
    entry->hole_count = l->hole_count;
    struct life_record *r = &l->records[l->count];
    r->kind = entry->kind;
    r->size = peal_entry_size(entry);
    r->at = malloc(r->size);
    assert_non_null(r->at);
    peal_key_entry(key, ++l->count);
    assert_int_equal(peal_entry_encode(peal_span_make(key, sizeof key), entry, r->at), r->size);
    assert_int_equal(peal_inbox_copy(&l->inbox, &r->after), PEAL_OK);
    l->hole_count = 0;
}

static void life_remove(struct life *l, uint64_t offset, enum peal_gone gone)
{
    peal_inbox_remove(&l->inbox, offset, l->at[offset].bytes, gone);
    l->at[offset].kept = false;
    if (gone == PEAL_GONE_EVICTED || gone == PEAL_GONE_AGED) return;
    assert_true(l->hole_count < HOLES_MAX);
    l->holes[l->hole_count++] = offset;
}

/* Messages from the middle, by their TTL. */
static void life_expire(struct life *l)
{
    uint64_t soonest = 0;
    for (uint64_t o = l->inbox.n.first; o < l->inbox.n.next; o++) {
        uint64_t expires_ms = l->at[o].kept ? l->at[o].expires_ms : 0;
        if (expires_ms == 0) continue;
        if (expires_ms <= l->now_ms)
            life_remove(l, o, PEAL_GONE_EXPIRED);
        else if (soonest == 0 || expires_ms < soonest)
            soonest = expires_ms;
    }
    l->inbox.n.expires_ms = soonest;
}

static void life_retain(struct life *l, uint64_t more, uint64_t more_bytes)
{
    assert_int_equal(peal_inbox_reserve(&l->inbox, l->inbox.n.next + 1), PEAL_OK);
    life_expire(l);
    for (;;) {
        uint64_t o = l->inbox.n.first;
        while (o < l->inbox.n.next && !l->at[o].kept)
            o++;
        bool none = o == l->inbox.n.next;
        peal_inbox_advance(&l->inbox, o, none ? 0 : l->at[o].stored_ms);
        if (none) return;
        enum peal_gone gone = peal_inbox_judge(&l->inbox, &l->policy, l->at[o].stored_ms,
                                               l->at[o].expires_ms, l->now_ms, more, more_bytes);
        if (gone == PEAL_GONE_NOT) return;
        life_remove(l, o, gone);
    }
}

static void life_put(struct life *l)
{
    if (l->inbox.n.next >= LIFE_OFFSETS) return;
    uint64_t bytes = (uint64_t)rand() % 200 + 1;
    uint64_t expires_ms = rand() % 4 == 0 ? l->now_ms + (uint64_t)rand() % 4000 : 0;
    char envelope[200] = "";
    life_retain(l, 1, bytes);
    uint64_t offset = peal_inbox_add(&l->inbox, bytes, l->now_ms, expires_ms);
    l->at[offset] = (struct life_message){true, bytes, l->now_ms, expires_ms};
    life_record(l, &(struct peal_entry){.kind = PEAL_ENTRY_PUT,
                                        .offset = offset,
                                        .stored_ms = l->now_ms,
                                        .expires_ms = expires_ms,
                                        .envelope = {envelope, bytes}});
}

static uint64_t life_near(const struct life *l)
{
    return l->inbox.n.first + (uint64_t)rand() % (l->inbox.n.next - l->inbox.n.first + 3);
}

static void life_mark(struct life *l)
{
    uint64_t offsets[5];
    struct peal_mark mark = {.flags = rand() % 2 == 0 ? PEAL_FLAG_ACK : PEAL_FLAG_READ,
                             .offsets = offsets,
                             .offset_count = (size_t)rand() % 6};
    for (size_t i = 0; i < mark.offset_count; i++)
        offsets[i] = life_near(l);
    if (rand() % 4 == 0) mark.upto = life_near(l);
    if (rand() % 40 == 0) mark.flags |= PEAL_FLAG_ALL;
    assert_int_equal(peal_inbox_reserve(&l->inbox, l->inbox.n.next), PEAL_OK);
    if (!peal_inbox_mark(&l->inbox, &l->policy, &mark, l->now_ms)) return;
    bool all = (mark.flags & PEAL_FLAG_ALL) != 0 || mark.upto >= l->inbox.n.next;
    struct peal_entry entry = {.kind = PEAL_ENTRY_MARK,
                               .read = (mark.flags & PEAL_FLAG_READ) != 0 ||
                                       l->policy.keep.until == PEAL_UNTIL_ACKED,
                               .upto = all ? l->inbox.n.next - 1 : mark.upto,
                               .offsets = offsets,
                               .offset_count = mark.offset_count};
    if (rand() % 2 == 0) life_retain(l, 0, 0);
    life_record(l, &entry);
}

/* The head was lost: another group by the same name. */
static void life_anew(struct life *l)
{
    uint64_t gid = l->inbox.n.gid;
    peal_inbox_fini(&l->inbox);
    peal_inbox_init(&l->inbox, 1000 + l->count);
    l->inbox.n.gid = gid + 1;
    memset(l->at, 0, sizeof l->at);
    life_record(l, &(struct peal_entry){.kind = PEAL_ENTRY_EPOCH});
}

/* Another store knew other marks. */
static void life_import(struct life *l)
{
    struct peal_inbox other;
    size_t count;
    peal_inbox_init(&other, l->inbox.n.epoch);
    peal_inbox_become(&other, &l->inbox.n);
    assert_int_equal(peal_inbox_reserve(&other, other.n.next), PEAL_OK);
    for (int i = 0; i < 5; i++)
        peal_inbox_set(&other, rand() % 2 == 0, life_near(l), life_near(l));
    peal_inbox_fini(&l->inbox);
    l->inbox = other;
    const uint64_t *delivered = peal_inbox_delivered_words(&l->inbox, &count);
    life_record(l, &(struct peal_entry){.kind = PEAL_ENTRY_STATE,
                                        .delivered = delivered,
                                        .read_bits = peal_inbox_read_words(&l->inbox, &count),
                                        .word_count = l->inbox.marks.word_count});
}

static void life_step(struct life *l)
{
    switch (rand() % 16) {
    case 0:
        l->now_ms += (uint64_t)rand() % 3000;
        break;
    case 1:
        life_retain(l, 0, 0);
        life_record(l, &(struct peal_entry){.kind = PEAL_ENTRY_TRIM});
        break;
    case 2:
        if (rand() % 20 == 0) l->at[life_near(l)].kept = false; /* damaged */
        break;
    case 3:
        if (rand() % 20 == 0) life_import(l);
        break;
    case 4:
        if (rand() % 20 != 0) break;
        l->inbox.n.epoch++;
        life_record(l, &(struct peal_entry){.kind = PEAL_ENTRY_EPOCH});
        break;
    case 5:
        if (rand() % 30 == 0) life_anew(l);
        break;
    case 6:
        for (int i = rand() % 100; i > 0 && l->count + 1 < LIFE_RECORDS; i--)
            life_put(l);
        break;
    case 7:
    case 8:
    case 9:
    case 10:
        life_mark(l);
        break;
    default:
        life_put(l);
        break;
    }
}

static void life_run(struct life *l)
{
    static const uint64_t limits[] = {1, 7, 64, 300, PEAL_INBOX_MESSAGES_MAX};
    memset(l, 0, sizeof *l);
    l->policy.keep.until = rand() % 2 == 0 ? PEAL_UNTIL_ACKED : PEAL_UNTIL_READ;
    l->policy.keep.messages = limits[rand() % 5];
    l->policy.keep.bytes = rand() % 3 == 0 ? 2000 : 1 << 20;
    l->policy.keep.age_ms = 90000;
    l->policy.keep.settled_ms = (uint64_t)(rand() % 4) * 4000;
    l->now_ms = 1000000;
    peal_inbox_init(&l->inbox, 77);
    l->inbox.n.gid = 1;
    while (l->count + 1 < LIFE_RECORDS)
        life_step(l);
}

static void life_end(struct life *l)
{
    for (size_t i = 0; i < l->count; i++) {
        free(l->records[i].at);
        peal_inbox_fini(&l->records[i].after);
    }
    peal_inbox_fini(&l->inbox);
}

static bool life_apply(const struct life *l, size_t i, struct peal_entry_room *room,
                       struct peal_inbox *to)
{
    char key[PEAL_KEY_ENTRY];
    struct peal_entry entry;
    bool applied;
    peal_key_entry(key, i + 1);
    assert_int_equal(peal_entry_decode(peal_span_make(key, sizeof key),
                                       peal_span_make(l->records[i].at, l->records[i].size), room,
                                       &entry),
                     PEAL_OK);
    assert_int_equal(peal_entry_apply(&entry, to, &applied), PEAL_OK);
    return applied;
}

/* Who has `known` records already hears all from `from` on. */
static void life_follow(const struct life *l, size_t known, size_t from,
                        struct peal_entry_room *room)
{
    struct peal_inbox inbox;
    if (known == 0)
        peal_inbox_init(&inbox, 77);
    else
        assert_int_equal(peal_inbox_copy(&l->records[known - 1].after, &inbox), PEAL_OK);
    for (size_t i = from; i < l->count; i++) {
        assert_int_equal(life_apply(l, i, room, &inbox), i >= known);
        assert_same(&inbox, &l->records[i < known ? known - 1 : i].after);
    }
    for (size_t i = from; i < l->count; i++)
        assert_false(life_apply(l, i, room, &inbox));
    assert_same(&inbox, &l->inbox);
    peal_inbox_fini(&inbox);
}

/* Some records are damaged: the numbers are whole with the next one, and no bit is made up. */
static void life_follow_with_losses(const struct life *l, struct peal_entry_room *room)
{
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 77);
    for (size_t i = 0; i < l->count; i++) {
        if (rand() % 10 == 0 && l->records[i].kind != PEAL_ENTRY_STATE) continue;
        assert_true(life_apply(l, i, room, &inbox));
        const struct peal_inbox *after = &l->records[i].after;
        assert_memory_equal(&inbox.n, &after->n, sizeof after->n);
        if (i % 16 != 0) continue;
        for (uint64_t o = after->n.first; o < after->n.next; o++) {
            if (peal_inbox_delivered(&inbox, o)) assert_true(peal_inbox_delivered(after, o));
            if (peal_inbox_read(&inbox, o)) assert_true(peal_inbox_read(after, o));
        }
    }
    peal_inbox_fini(&inbox);
}

static void entry_life_that_was_told_is_the_life_that_was_done(void **state)
{
    (void)state;
    static struct life l;
    struct peal_entry_room room = {0};
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    for (unsigned run = 0; run < 12; run++) {
        srand(seed + run);
        life_run(&l);
        life_follow(&l, 0, 0, &room);
        for (int i = 0; i < 5; i++) {
            size_t known = (size_t)rand() % l.count;
            life_follow(&l, known, (size_t)rand() % (known + 1), &room);
        }
        life_follow_with_losses(&l, &room);
        life_end(&l);
    }
    peal_entry_room_fini(&room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entry_every_kind_comes_back_as_it_was),
        cmocka_unit_test(entry_mark_of_one_bit_is_small),
        cmocka_unit_test(entry_changed_records_are_refused),
        cmocka_unit_test(entry_cut_and_sealed_anew_is_refused),
        cmocka_unit_test(entry_drop_with_impossible_values_is_refused),
        cmocka_unit_test(entry_numbers_have_one_way_to_be_written),
        cmocka_unit_test(entry_numbers_that_cannot_be_are_refused),
        cmocka_unit_test(entry_lists_that_cannot_be_are_refused),
        cmocka_unit_test(entry_life_that_was_told_is_the_life_that_was_done),
    };
    return cmocka_run_group_tests_name("entry", tests, NULL, NULL);
}

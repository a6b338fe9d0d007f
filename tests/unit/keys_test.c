#include "storage/keys.h"

#include <stdlib.h>
#include <string.h>

#include "proto/group.h"
#include "tests/unit/unit.h"

static void keys_sort_by_slot_group_and_offset(void **state)
{
    (void)state;
    static const uint64_t parts[][3] = {{0, 1, 1},   {0, 1, 255}, {0, 1, 256}, {0, 255, 1},
                                        {0, 256, 0}, {1, 1, 1},   {1023, 1, 1}};
    char before[PEAL_KEY_MESSAGE];
    char key[PEAL_KEY_MESSAGE];
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        peal_key_message(key, (uint16_t)parts[i][0], parts[i][1], parts[i][2]);
        if (i > 0) assert_true(memcmp(before, key, sizeof key) < 0);
        struct peal_span span = {key, sizeof key};
        assert_int_equal(peal_key_message_offset(span, (uint16_t)parts[i][0], parts[i][1]),
                         parts[i][2]);
        assert_int_equal(peal_key_message_offset(span, (uint16_t)parts[i][0], 77), 0);
        memcpy(before, key, sizeof key);
    }
}

static void keys_head_gives_the_group_back(void **state)
{
    (void)state;
    char key[PEAL_KEY_HEAD_MAX];
    struct peal_span group;
    size_t size = peal_key_head(key, peal_span_of("user:42"));
    assert_int_equal(peal_key_head_group(peal_span_make(key, size), &group), PEAL_OK);
    assert_true(peal_span_is(group, "user:42"));

    key[0] ^= 1; /* another slot than the name's */
    assert_int_equal(peal_key_head_group(peal_span_make(key, size), &group), PEAL_ECORRUPT);
    key[0] ^= 1;
    assert_int_equal(peal_key_head_group(peal_span_make(key, 2), &group), PEAL_ECORRUPT);
    key[4] = 0; /* no name */
    assert_int_equal(peal_key_head_group(peal_span_make(key, size), &group), PEAL_ECORRUPT);
}

static void keys_id_differs_by_group_and_id(void **state)
{
    (void)state;
    char a[PEAL_KEY_ID];
    char b[PEAL_KEY_ID];
    peal_key_id(a, peal_span_of("user:1"), peal_span_of("23"));
    peal_key_id(b, peal_span_of("user:12"), peal_span_of("3"));
    assert_memory_not_equal(a, b, sizeof a);
    peal_key_id(b, peal_span_of("user:1"), peal_span_of("23"));
    assert_memory_equal(a, b, sizeof a);
}

/* A group whose window is [first, first + count), all of it kept and nothing marked. */
static void inbox_make(struct peal_inbox *inbox, uint64_t first, uint64_t count)
{
    peal_inbox_init(inbox, 10);
    inbox->n.gid = first;
    inbox->n.ver = 77;
    inbox->n.first = inbox->n.next = first;
    inbox->n.rev = 5;
    inbox->n.lost_to = first - 1;
    inbox->n.last_mark_ms = 1234;
    for (uint64_t i = 0; i < count; i++)
        peal_inbox_add(inbox, 10, 1000 + i, 5000 + i);
}

static void marks_put(struct peal_inbox *inbox, bool read, uint64_t from, uint64_t to)
{
    assert_int_equal(peal_inbox_reserve(inbox, inbox->n.next), PEAL_OK);
    peal_inbox_set(inbox, read, from, to);
}

/* Every decoder must refuse every single flipped bit, a changed key, and every cut. */
typedef enum peal_err (*decode_fn)(struct peal_span key, struct peal_span bytes);

static enum peal_err decode_message(struct peal_span key, struct peal_span bytes)
{
    struct peal_record out;
    return peal_record_decode(key, bytes, &out);
}

static enum peal_err decode_head(struct peal_span key, struct peal_span bytes)
{
    struct peal_inbox out;
    enum peal_err err = peal_head_decode(key, bytes, &out);
    if (err == PEAL_OK) peal_inbox_fini(&out);
    return err;
}

static enum peal_err decode_number(struct peal_span key, struct peal_span bytes)
{
    uint64_t out;
    return peal_number_decode(key, bytes, &out);
}

static void assert_guarded(decode_fn decode, char *key, size_t key_size, char *bytes, size_t size)
{
    struct peal_span k = {key, key_size};
    assert_int_equal(decode(k, peal_span_make(bytes, size)), PEAL_OK);
    for (size_t bit = 0; bit < size * 8; bit++) {
        bytes[bit / 8] ^= (char)(1 << bit % 8);
        assert_int_equal(decode(k, peal_span_make(bytes, size)), PEAL_ECORRUPT);
        bytes[bit / 8] ^= (char)(1 << bit % 8);
    }
    for (size_t bit = 0; bit < key_size * 8; bit++) {
        key[bit / 8] ^= (char)(1 << bit % 8);
        assert_int_equal(decode(k, peal_span_make(bytes, size)), PEAL_ECORRUPT);
        key[bit / 8] ^= (char)(1 << bit % 8);
    }
    for (size_t cut = 0; cut < size; cut++) {
        /* In a block of its own, so that reading too far is seen. */
        char *copy = malloc(cut + 1);
        assert_non_null(copy);
        memcpy(copy, bytes, cut);
        assert_int_equal(decode(k, peal_span_make(copy, cut)), PEAL_ECORRUPT);
        free(copy);
    }
}

static void keys_changed_records_are_refused(void **state)
{
    (void)state;
    char key[PEAL_KEY_MESSAGE];
    char record[PEAL_RECORD_MESSAGE + 5];
    peal_key_message(key, 3, 4, 5);
    peal_record_encode(peal_span_make(key, sizeof key),
                       &(struct peal_record){1, 2, peal_span_of("hello")}, record);
    assert_guarded(decode_message, key, sizeof key, record, sizeof record);

    char name[] = "generation";
    char number[PEAL_RECORD_NUMBER];
    peal_number_encode(peal_span_of(name), 99, number);
    assert_guarded(decode_number, name, strlen(name), number, sizeof number);

    char head_key[PEAL_KEY_HEAD_MAX];
    char head[PEAL_RECORD_HEAD_MAX];
    struct peal_inbox inbox;
    inbox_make(&inbox, 1, 100);
    marks_put(&inbox, false, 1, 70);
    marks_put(&inbox, true, 3, 66);
    size_t head_key_size = peal_key_head(head_key, peal_span_of("user:7"));
    size_t size = peal_head_encode(peal_span_make(head_key, head_key_size), &inbox, head);
    assert_int_equal(size, PEAL_RECORD_HEAD + 2 * 8 * 2);
    assert_guarded(decode_head, head_key, head_key_size, head, size);
    peal_inbox_fini(&inbox);
}

static void assert_same_head(const struct peal_inbox *a, const struct peal_inbox *b)
{
    size_t a_count;
    size_t b_count;
    assert_memory_equal(&a->n, &b->n, sizeof a->n);
    const uint64_t *a_words = peal_inbox_delivered_words(a, &a_count);
    const uint64_t *b_words = peal_inbox_delivered_words(b, &b_count);
    assert_int_equal(a_count, b_count);
    if (a_count == 0) return;
    assert_memory_equal(a_words, b_words, a_count * 8);
    a_words = peal_inbox_read_words(a, &a_count);
    b_words = peal_inbox_read_words(b, &b_count);
    assert_memory_equal(a_words, b_words, a_count * 8);
}

/* Encodes, decodes, compares; returns the size of the record. */
static size_t assert_round_trip(const struct peal_inbox *inbox)
{
    char key[PEAL_KEY_HEAD_MAX];
    char head[PEAL_RECORD_HEAD_MAX];
    char again[PEAL_RECORD_HEAD_MAX];
    struct peal_span k = {key, peal_key_head(key, peal_span_of("user:7"))};
    struct peal_inbox out;
    size_t size = peal_head_encode(k, inbox, head);
    assert_int_equal(peal_head_decode(k, peal_span_make(head, size), &out), PEAL_OK);
    assert_same_head(inbox, &out);
    assert_int_equal(peal_head_encode(k, &out, again), size);
    assert_memory_equal(head, again, size);

    /* What was decoded can be worked with: the bits of all of its window, and of one more. */
    if (peal_inbox_fits(&out)) {
        assert_int_equal(peal_inbox_reserve(&out, out.n.next + 1), PEAL_OK);
        uint64_t offset = peal_inbox_add(&out, 10, 2000, 0);
        peal_inbox_set(&out, true, offset, offset);
        assert_true(peal_inbox_read(&out, offset));
    }
    peal_inbox_fini(&out);
    return size;
}

static void keys_head_round_trips_at_every_window(void **state)
{
    (void)state;
    for (uint64_t first = 1; first < 200; first += 3) {
        struct peal_inbox inbox;
        inbox_make(&inbox, first, PEAL_INBOX_MESSAGES_MAX);
        assert_int_equal(assert_round_trip(&inbox), PEAL_RECORD_HEAD); /* no bits, no words */

        marks_put(&inbox, false, first, first);
        assert_int_equal(assert_round_trip(&inbox), PEAL_RECORD_HEAD + 2 * 8);
        marks_put(&inbox, true, first, first + 100);
        marks_put(&inbox, false, first + 700, first + 700);
        size_t words = (first % 64 + 700) / 64 + 1;
        assert_int_equal(assert_round_trip(&inbox), PEAL_RECORD_HEAD + 2 * 8 * words);
        marks_put(&inbox, false, inbox.n.next - 1, inbox.n.next - 1);
        size_t most = (first % 64 + PEAL_INBOX_MESSAGES_MAX - 1) / 64 + 1;
        assert_int_equal(assert_round_trip(&inbox), PEAL_RECORD_HEAD + 2 * 8 * most);
        peal_inbox_fini(&inbox);
    }
}

static void keys_head_of_an_empty_group_round_trips(void **state)
{
    (void)state;
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 10);
    inbox.n.gid = 9;
    inbox.n.ver = UINT64_MAX;
    assert_int_equal(assert_round_trip(&inbox), PEAL_RECORD_HEAD);
    peal_inbox_fini(&inbox);
}

static void keys_head_with_impossible_numbers_is_refused(void **state)
{
    (void)state;
    char key[PEAL_KEY_HEAD_MAX];
    char head[PEAL_RECORD_HEAD_MAX];
    struct peal_span k = {key, peal_key_head(key, peal_span_of("user:7"))};
    struct peal_inbox inbox;
    struct peal_inbox out;
    inbox_make(&inbox, 1, 100);
    marks_put(&inbox, false, 1, 100);
    size_t size = peal_head_encode(k, &inbox, head);
    assert_int_equal(size, PEAL_RECORD_HEAD + 4 * 8);
    peal_inbox_fini(&inbox);

    /* Byte of the layout in keys.h, value; the checksum is right every time. */
    enum {
        GID = 11 + 7,
        EPOCH = 19 + 7,
        NEXT = 35,
        FIRST = 43,
        LOST_TO = 51,
        KEPT = 83,
        DELIVERED = PEAL_RECORD_HEAD,
        READ = PEAL_RECORD_HEAD + 2 * 8,
    };
    static const struct {
        size_t at;
        int value;
    } wrong[] = {
        {8, 1},                 /* version */
        {9, 0xff},              /* words beyond the limit */
        {10, 1},                /* and another number than there are */
        {GID, 0},               /* no number */
        {EPOCH, 0},             /* no epoch */
        {NEXT, 0x20},           /* beyond 2^53 */
        {NEXT + 5, 1},          /* a window that is too long */
        {NEXT + 7, 100},        /* a bit stands at next */
        {FIRST + 7, 0},         /* there is no offset 0 */
        {FIRST + 7, 102},       /* beyond next */
        {FIRST + 7, 2},         /* a bit stands below first */
        {LOST_TO + 7, 1},       /* not below first */
        {KEPT + 7, 101},        /* more than the window holds */
        {DELIVERED, 0xff},      /* a bit of offset 0 */
        {DELIVERED + 15, 0x10}, /* a bit beyond next */
        {DELIVERED + 8, 0xfe},  /* alone still right, see below */
        {READ, 0x01},           /* read without delivered */
        {READ + 15, 0x01},      /* the same in the last word */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char copy[PEAL_RECORD_HEAD_MAX];
        bool fine = wrong[i].at == DELIVERED + 8;
        memcpy(copy, head, size);
        copy[wrong[i].at] = (char)wrong[i].value;
        peal_record_seal(k, copy, size);
        enum peal_err err = peal_head_decode(k, peal_span_make(copy, size), &out);
        assert_int_equal(err, fine ? PEAL_OK : PEAL_ECORRUPT);
        if (fine) peal_inbox_fini(&out);
    }

    /* Words of zeros at the end are never written. */
    char copy[PEAL_RECORD_HEAD_MAX];
    memcpy(copy, head, size);
    memset(copy + DELIVERED + 8, 0, 8);
    peal_record_seal(k, copy, size);
    assert_int_equal(peal_head_decode(k, peal_span_make(copy, size), &out), PEAL_ECORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_sort_by_slot_group_and_offset),
        cmocka_unit_test(keys_head_gives_the_group_back),
        cmocka_unit_test(keys_id_differs_by_group_and_id),
        cmocka_unit_test(keys_changed_records_are_refused),
        cmocka_unit_test(keys_head_round_trips_at_every_window),
        cmocka_unit_test(keys_head_of_an_empty_group_round_trips),
        cmocka_unit_test(keys_head_with_impossible_numbers_is_refused),
    };
    return cmocka_run_group_tests_name("keys", tests, NULL, NULL);
}

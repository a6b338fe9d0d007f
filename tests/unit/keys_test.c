#include "storage/keys.h"

#include <stdlib.h>
#include <string.h>

#include "proto/group.h"
#include "proto/wire.h"
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

    char time_key[PEAL_KEY_ID_TIME];
    uint64_t ms;
    struct peal_span id;
    peal_key_id_time(time_key, 12345, a);
    assert_int_equal(peal_key_id_time_decode(peal_span_make(time_key, sizeof time_key), &ms, &id),
                     PEAL_OK);
    assert_int_equal(ms, 12345);
    assert_memory_equal(id.at, a, sizeof a);
    assert_int_equal(peal_key_id_time_decode(peal_span_make(time_key, 23), &ms, &id),
                     PEAL_ECORRUPT);
}

/* Every decoder must refuse every single flipped bit, a changed key, and every cut. */
typedef enum peal_err (*decode_fn)(struct peal_span key, struct peal_span bytes);

static enum peal_err decode_message(struct peal_span key, struct peal_span bytes)
{
    struct peal_record out;
    return peal_record_decode(key, bytes, &out);
}

static enum peal_err decode_id(struct peal_span key, struct peal_span bytes)
{
    struct peal_id_record out;
    return peal_id_record_decode(key, bytes, &out);
}

static enum peal_err decode_head(struct peal_span key, struct peal_span bytes)
{
    struct peal_inbox out;
    return peal_head_decode(key, bytes, &out);
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

    char id_key[PEAL_KEY_ID];
    char id[PEAL_RECORD_ID];
    peal_key_id(id_key, peal_span_of("g"), peal_span_of("id"));
    peal_id_record_encode(peal_span_make(id_key, sizeof id_key), &(struct peal_id_record){7, 8, 9},
                          id);
    assert_guarded(decode_id, id_key, sizeof id_key, id, sizeof id);

    char name[] = "generation";
    char number[PEAL_RECORD_NUMBER];
    peal_number_encode(peal_span_of(name), 99, number);
    assert_guarded(decode_number, name, strlen(name), number, sizeof number);

    char head_key[PEAL_KEY_HEAD_MAX];
    char head[PEAL_RECORD_HEAD_MAX];
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 9, 10);
    for (int i = 0; i < 100; i++)
        peal_inbox_add(&inbox, 10, 1000, 0);
    size_t head_key_size = peal_key_head(head_key, peal_span_of("user:7"));
    size_t size = peal_head_encode(peal_span_make(head_key, head_key_size), &inbox, head);
    assert_guarded(decode_head, head_key, head_key_size, head, size);
}

static void keys_head_round_trips_at_every_window(void **state)
{
    (void)state;
    struct peal_config_group policy = {.keep = {.until = PEAL_UNTIL_READ}};
    char key[PEAL_KEY_HEAD_MAX];
    char head[PEAL_RECORD_HEAD_MAX];
    struct peal_span k = {key, peal_key_head(key, peal_span_of("user:7"))};
    for (uint64_t first = 1; first < 200; first += 3) {
        struct peal_inbox inbox;
        struct peal_inbox out;
        peal_inbox_init(&inbox, first, 10);
        inbox.first = inbox.next = first;
        inbox.rev = 5;
        inbox.lost_to = first - 1;
        for (uint64_t i = 0; i < PEAL_INBOX_MESSAGES_MAX; i++)
            peal_inbox_add(&inbox, 10, 1000 + i, 5000 + i);
        uint64_t offsets[] = {first, first + 1, first + 700, first + PEAL_INBOX_MESSAGES_MAX - 1};
        struct peal_mark mark = {.flags = PEAL_FLAG_ACK, .offsets = offsets, .offset_count = 4};
        peal_inbox_mark(&inbox, &policy, &mark, 1234);
        mark = (struct peal_mark){.flags = PEAL_FLAG_READ, .upto = first + 100};
        peal_inbox_mark(&inbox, &policy, &mark, 1235);

        size_t size = peal_head_encode(k, &inbox, head);
        assert_int_equal(peal_head_decode(k, peal_span_make(head, size), &out), PEAL_OK);
        assert_memory_equal(&inbox, &out, sizeof out);
    }
}

static void keys_head_with_impossible_numbers_is_refused(void **state)
{
    (void)state;
    char key[PEAL_KEY_HEAD_MAX];
    char head[PEAL_RECORD_HEAD_MAX];
    struct peal_span k = {key, peal_key_head(key, peal_span_of("user:7"))};
    struct peal_inbox inbox;
    struct peal_inbox out;
    peal_inbox_init(&inbox, 9, 10);
    for (int i = 0; i < 10; i++)
        peal_inbox_add(&inbox, 10, 1000, 0);
    peal_inbox_mark(&inbox, &(struct peal_config_group){.keep = {.until = PEAL_UNTIL_ACKED}},
                    &(struct peal_mark){.flags = PEAL_FLAG_ACK, .upto = 10}, 1);
    size_t size = peal_head_encode(k, &inbox, head);

    /* Byte of the layout in keys.h, value; the checksum is right every time. */
    static const struct {
        size_t at;
        int value;
    } wrong[] = {
        {8, 2},       /* version */
        {9, 0xff},    /* size of delivered */
        {13 + 7, 0},  /* gid 0 */
        {21 + 7, 0},  /* epoch 0 */
        {29, 0x20},   /* next beyond 2^53 */
        {29 + 7, 10}, /* a bit stands at next */
        {37 + 7, 0},  /* first 0 */
        {37 + 7, 12}, /* first beyond next */
        {37 + 7, 2},  /* a bit stands below first */
        {45 + 7, 1},  /* lost_to not below first */
        {77 + 7, 11}, /* more kept than the window holds */
        {101, 0xfc},  /* read without delivered */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char copy[PEAL_RECORD_HEAD_MAX];
        memcpy(copy, head, size);
        copy[wrong[i].at] = (char)wrong[i].value;
        peal_record_seal(k, copy, size);
        assert_int_equal(peal_head_decode(k, peal_span_make(copy, size), &out), PEAL_ECORRUPT);
    }
    peal_record_seal(k, head, size);
    assert_int_equal(peal_head_decode(k, peal_span_make(head, size), &out), PEAL_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_sort_by_slot_group_and_offset),
        cmocka_unit_test(keys_head_gives_the_group_back),
        cmocka_unit_test(keys_id_differs_by_group_and_id),
        cmocka_unit_test(keys_changed_records_are_refused),
        cmocka_unit_test(keys_head_round_trips_at_every_window),
        cmocka_unit_test(keys_head_with_impossible_numbers_is_refused),
    };
    return cmocka_run_group_tests_name("keys", tests, NULL, NULL);
}

#include "proto/parcel.h"

#include <stdio.h>

#include "tests/unit/unit.h"

static void parcel_with_entries_decodes_as_a_batch(void **state)
{
    (void)state;
    struct peal_parcel parcel = {0};
    struct peal_frame leave = {.type = PEAL_F_LEAVE, .group = peal_span_of("room")};
    struct peal_frame join = {.type = PEAL_F_JOIN, .req = 7, .group = peal_span_of("hall")};
    struct peal_buf encoded = {0};
    peal_frame_encode(&join, &encoded);

    for (int round = 0; round < 2; round++) { /* the second time in the buffer of the first */
        assert_int_equal(peal_parcel_add(&parcel, &leave), PEAL_OK);
        assert_int_equal(peal_parcel_add_bytes(&parcel, peal_buf_span(&encoded)), PEAL_OK);
        assert_int_equal(peal_parcel_add_bytes(&parcel, peal_span_of("")), PEAL_OK);
        assert_int_equal(parcel.count, 3);

        struct peal_frame batch;
        struct peal_frame entry;
        assert_int_equal(peal_frame_decode(peal_parcel_finish(&parcel, UINT64_MAX, 3), &batch),
                         PEAL_OK);
        assert_int_equal(batch.type, PEAL_F_BATCH);
        assert_true(batch.boot == UINT64_MAX);
        assert_int_equal(batch.seq, 3);
        assert_int_equal(batch.entries.count, 3);
        assert_int_equal(peal_frame_decode(batch.entries.at[0], &entry), PEAL_OK);
        assert_int_equal(entry.type, PEAL_F_LEAVE);
        assert_true(peal_span_is(entry.group, "room"));
        assert_true(peal_span_equal(batch.entries.at[1], peal_buf_span(&encoded)));
        assert_int_equal(batch.entries.at[2].size, 0);
        peal_frame_fini(&batch);
        peal_parcel_clear(&parcel);
        assert_int_equal(parcel.count, 0);
    }
    peal_buf_fini(&encoded);
    peal_parcel_fini(&parcel);
}

static void parcel_next_gives_every_entry_in_order(void **state)
{
    (void)state;
    struct peal_parcel parcel = {0};
    struct peal_span entry;
    size_t at = 0;
    char text[16];
    assert_false(peal_parcel_next(&parcel, &at, &entry));
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "%d", i);
        assert_int_equal(peal_parcel_add_bytes(&parcel, peal_span_of(text)), PEAL_OK);
    }
    at = 0;
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "%d", i);
        assert_true(peal_parcel_next(&parcel, &at, &entry));
        assert_true(peal_span_is(entry, text));
    }
    assert_false(peal_parcel_next(&parcel, &at, &entry));
    peal_parcel_fini(&parcel);
}

static void parcel_is_full_by_entries_or_by_bytes(void **state)
{
    (void)state;
    struct peal_parcel parcel = {0};
    static char large[PEAL_PARCEL_BYTES];
    for (int i = 0; i < PEAL_PARCEL_ENTRIES; i++) {
        assert_false(peal_parcel_full(&parcel));
        assert_int_equal(peal_parcel_add_bytes(&parcel, peal_span_of("x")), PEAL_OK);
    }
    assert_true(peal_parcel_full(&parcel));
    peal_parcel_clear(&parcel);
    assert_false(peal_parcel_full(&parcel));
    assert_int_equal(peal_parcel_add_bytes(&parcel, peal_span_make(large, sizeof large)), PEAL_OK);
    assert_true(peal_parcel_full(&parcel));
    peal_parcel_clear(&parcel);
    assert_true(parcel.buf.capacity < sizeof large); /* not kept for small ones */
    peal_parcel_fini(&parcel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parcel_with_entries_decodes_as_a_batch),
        cmocka_unit_test(parcel_next_gives_every_entry_in_order),
        cmocka_unit_test(parcel_is_full_by_entries_or_by_bytes),
    };
    return cmocka_run_group_tests_name("parcel", tests, NULL, NULL);
}

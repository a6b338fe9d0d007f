/* Parts of a group as they are read: forward from a position, and newest first. */
#include <stdio.h>
#include <string.h>

#include "proto/envelope.h"
#include "tests/contract/rig.h"
#include "tests/unit/unit.h"

static void put_many(struct rig *rig, const char *group, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char data[32];
        snprintf(data, sizeof data, "payload-%04zu", i + 1);
        assert_int_equal(rig_put(rig, group, NULL, data).err, PEAL_OK);
    }
}

static void page_of_an_unknown_group_is_empty(void **state)
{
    struct rig *rig = *state;
    struct page page;
    rig_open(rig);
    rig_page(rig, &(struct ask){"user:new", rig_generation(rig), 0, 0, 0, 0}, &page);
    assert_string_equal(page.text, "");
    assert_int_equal(page.frame.epoch, rig_generation(rig));
    assert_int_equal(page.frame.offset, 0);
    assert_int_equal(page.frame.head, 0);
    assert_int_equal(page.frame.first, 1);
    assert_int_equal(page.frame.code, PEAL_OK);
    page_free(&page);
}

static void page_forward_starts_after_the_position(void **state)
{
    struct rig *rig = *state;
    struct page page;
    rig_open(rig);
    uint64_t epoch = rig_generation(rig);
    put_many(rig, "user:a", 5);
    rig_page(rig, &(struct ask){"user:a", epoch, 2, 0, 0, 0}, &page);
    assert_string_equal(page.text, "M3 M4 M5");
    assert_string_equal(page.data, "payload-0005");
    assert_int_equal(page.frame.offset, 5);
    assert_int_equal(page.frame.head, 5);
    assert_int_equal(page.frame.unread, 5);
    assert_int_equal(page.frame.rev, rig_head(rig, "user:a").rev);
    page_free(&page);
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", epoch, 5, 0, 0, 0}), "");
    assert_string_equal(rig_text(rig, &(struct ask){"user:ab", epoch, 0, 0, 0, 0}), "");
}

static void page_sees_what_was_answered_before_it_was_asked_for(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    for (uint64_t i = 0; i < 200; i++) {
        char text[32];
        rig_put(rig, "user:a", NULL, "x");
        snprintf(text, sizeof text, "M%llu", (unsigned long long)i + 1);
        assert_string_equal(rig_text(rig, &(struct ask){"user:a", 0, i, 0, 0, 0}), text);
        rig_mark_one(rig, "user:a", PEAL_FLAG_ACK, i + 1);
        snprintf(text, sizeof text, "M%lluar", (unsigned long long)i + 1);
        assert_string_equal(rig_text(rig, &(struct ask){"user:a", 0, i, 0, 0, 0}), text);
    }
}

static void page_limits_are_kept_and_the_next_page_goes_on(void **state)
{
    struct rig *rig = *state;
    struct page page;
    rig_open(rig);
    uint64_t epoch = rig_generation(rig);
    put_many(rig, "user:a", 300);
    rig_page(rig, &(struct ask){"user:a", epoch, 0, 3, 0, 0}, &page);
    assert_string_equal(page.text, "M1 M2 M3");
    assert_int_equal(page.frame.offset, 3);
    page_free(&page);
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", epoch, 3, 2, 0, 0}), "M4 M5");
    /* One message fits in one byte, because a page without progress would never end. */
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", epoch, 3, 9, 1, 0}), "M4");
    rig_page(rig, &(struct ask){"user:a", epoch, 0, 1000, 0, 0}, &page);
    assert_int_equal(page.messages, PEAL_PAGE_MESSAGES);
    page_free(&page);
    rig_page(rig, &(struct ask){"user:a", epoch, 0, 0, 1000, 0}, &page);
    assert_in_range(page.messages, 5, 20);
    page_free(&page);
}

static void page_bytes_are_limited_but_for_a_single_message(void **state)
{
    struct rig *rig = *state;
    struct page page;
    rig_open(rig);
    for (int i = 0; i < 4; i++)
        rig_put_sized(rig, "user:a", 100000, 0);
    rig_put_sized(rig, "user:a", 400000, 0);
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", 0, 0, 0, 0, 0}), "M1 M2");
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", 0, 0, 0, 1 << 30, 0}), "M1 M2");
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", 0, 3, 0, 0, 0}), "M4");
    rig_page(rig, &(struct ask){"user:a", 0, 4, 0, 0, 0}, &page);
    assert_string_equal(page.text, "M5");
    assert_int_equal(page.frame.offset, 5);
    page_free(&page);
    rig_page(rig, &(struct ask){"user:a", 0, 0, 0, 150000, PEAL_FLAG_REVERSE}, &page);
    assert_string_equal(page.text, "M5");
    assert_int_equal(page.frame.flags & PEAL_FLAG_MORE, PEAL_FLAG_MORE);
    page_free(&page);
}

static void page_marks_are_shown_and_unacked_skips(void **state)
{
    struct rig *rig = *state;
    uint64_t offsets[] = {2, 3, 5};
    rig->groups[0].keep.until = PEAL_UNTIL_READ;
    rig_open(rig);
    uint64_t epoch = rig_generation(rig);
    put_many(rig, "user:a", 6);
    rig_do(rig, rig_mark_op(rig, "user:a", PEAL_FLAG_ACK, 0, offsets, 3));
    rig_do(rig, rig_mark_op(rig, "user:a", PEAL_FLAG_READ, 0, offsets, 1));

    assert_string_equal(rig_text(rig, &(struct ask){"user:a", epoch, 0, 0, 0, 0}),
                        "M1 M2ar M3a M4 M5a M6");
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", epoch, 0, 0, 0, PEAL_FLAG_UNACKED}),
                        "M1 S2-3 M4 S5-5 M6");
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", epoch, 0, 0, 0, PEAL_FLAG_UNREAD}),
                        "M1 S2-2 M3a M4 M5a M6");
}

static void page_of_another_epoch_tells_a_gap_and_everything_kept(void **state)
{
    struct rig *rig = *state;
    rig->groups[0].keep.messages = 3;
    rig_open(rig);
    uint64_t epoch = rig_generation(rig);
    put_many(rig, "user:a", 2);
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", epoch + 1, 1, 0, 0, 0}),
                        "Gepoch:1-0 M1 M2");
    put_many(rig, "user:a", 3);
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", epoch + 1, 1, 0, 0, 0}),
                        "Gepoch:1-2 M3 M4 M5");
    /* A position ahead of the head is never up to date. */
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", epoch, 6, 0, 0, 0}),
                        "Gepoch:1-2 M3 M4 M5");
    assert_string_equal(rig_text(rig, &(struct ask){"user:new", epoch, 6, 0, 0, 0}), "Gepoch:1-0");
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", 0, 3, 0, 0, 0}), "M4 M5");
}

static void page_below_the_window_tells_evicted_and_settled_apart(void **state)
{
    struct rig *rig = *state;
    rig->groups[0].keep.messages = 5;
    rig->groups[0].keep.settled_ms = 0;
    rig_open(rig);
    uint64_t epoch = rig_generation(rig);
    put_many(rig, "user:a", 8); /* 1..3 are evicted */
    rig_ack(rig, "user:a", 6);
    rig_pass_until_first(rig, 0, "user:a", 7);
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", epoch, 0, 0, 0, 0}),
                        "Gevicted:1-3 S4-6 M7 M8");
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", epoch, 2, 0, 0, 0}),
                        "Gevicted:3-3 S4-6 M7 M8");
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", epoch, 4, 0, 0, 0}), "S5-6 M7 M8");
}

static void page_reverse_lists_newest_first(void **state)
{
    struct rig *rig = *state;
    struct page page;
    uint64_t offsets[] = {2, 5};
    rig_open(rig);
    put_many(rig, "user:a", 6);
    rig_do(rig, rig_mark_op(rig, "user:a", PEAL_FLAG_READ, 0, offsets, 2));

    struct ask ask = {"user:a", 0, 0, 3, 0, PEAL_FLAG_REVERSE};
    rig_page(rig, &ask, &page);
    assert_string_equal(page.text, "M6 M5ar M4");
    assert_int_equal(page.frame.offset, 4);
    assert_int_equal(page.frame.flags & PEAL_FLAG_MORE, PEAL_FLAG_MORE);
    page_free(&page);
    ask.offset = 4;
    rig_page(rig, &ask, &page);
    assert_string_equal(page.text, "M3 M2ar M1");
    assert_int_equal(page.frame.flags & PEAL_FLAG_MORE, 0);
    page_free(&page);

    ask = (struct ask){"user:a", 0, 0, 3, 0, PEAL_FLAG_REVERSE | PEAL_FLAG_UNREAD};
    rig_page(rig, &ask, &page);
    assert_string_equal(page.text, "M6 M4 M3");
    assert_int_equal(page.frame.flags & PEAL_FLAG_MORE, PEAL_FLAG_MORE);
    page_free(&page);
    ask.offset = 3;
    rig_page(rig, &ask, &page);
    assert_string_equal(page.text, "M1");
    assert_int_equal(page.frame.flags & PEAL_FLAG_MORE, 0);
    page_free(&page);
    ask.offset = 1;
    assert_string_equal(rig_text(rig, &ask), "");
}

static void page_reverse_of_another_epoch_starts_from_the_newest(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    put_many(rig, "user:a", 4);
    struct ask ask = {"user:a", rig_generation(rig) + 1, 2, 2, 0, PEAL_FLAG_REVERSE};
    assert_string_equal(rig_text(rig, &ask), "M4 M3");
    ask.epoch = rig_generation(rig);
    assert_string_equal(rig_text(rig, &ask), "M1");
    ask.offset = 100; /* ahead of the newest */
    assert_string_equal(rig_text(rig, &ask), "M4 M3");
}

static void page_reverse_tells_neither_skips_nor_gaps(void **state)
{
    struct rig *rig = *state;
    rig->groups[0].keep.messages = 3;
    rig_open(rig);
    put_many(rig, "user:a", 3);
    rig_put_sized(rig, "user:a", 10, 1000);
    put_many(rig, "user:a", 1);
    rig_pass(rig, 1000);
    assert_string_equal(rig_text(rig, &(struct ask){"user:a", 0, 0, 0, 0, PEAL_FLAG_REVERSE}),
                        "M5 M3");
    assert_string_equal(rig_text_of(rig, "user:a"), "Gevicted:1-2 M3 S4-4 M5");
}

static void page_of_a_plain_group_has_no_marks(void **state)
{
    struct rig *rig = *state;
    struct page page;
    rig_open(rig);
    put_many(rig, "news", 3);
    rig_page(rig, &(struct ask){"news", rig_generation(rig), 0, 0, 0, PEAL_FLAG_UNACKED}, &page);
    assert_string_equal(page.text, "M1 M2 M3");
    assert_int_equal(page.frame.unread, 0);
    page_free(&page);
}

static void page_without_a_group_name_carries_the_error(void **state)
{
    struct rig *rig = *state;
    struct page page;
    rig_open(rig);
    rig_page(rig, &(struct ask){"", 0, 0, 0, 0, 0}, &page);
    assert_int_equal(page.frame.code, PEAL_EBAD_GROUP);
    page_free(&page);
}

/* Whoever follows the positions of pages hears of every offset once. */
static void pages_one_after_the_other_tell_every_offset_once(void **state)
{
    struct rig *rig = *state;
    enum { COUNT = 120 };
    rig->groups[0].keep.messages = 100;
    rig_open(rig);
    for (int i = 0; i < COUNT; i++)
        rig_put_sized(rig, "user:a", 10, i % 5 == 2 ? 1000 : 0);
    for (uint64_t offset = 30; offset < COUNT; offset += 7)
        rig_mark_one(rig, "user:a", PEAL_FLAG_ACK, offset);
    rig_pass(rig, 1000);
    uint64_t position = 0;
    for (uint64_t limit = 1; position < COUNT; limit = limit % 9 + 1) {
        struct page page;
        uint64_t told = position;
        rig_page(rig, &(struct ask){"user:a", 0, position, limit, 0, PEAL_FLAG_UNACKED}, &page);
        for (size_t i = 0; i < page.frame.entries.count; i++) {
            struct peal_frame entry;
            struct peal_envelope env;
            assert_int_equal(peal_frame_decode(page.frame.entries.at[i], &entry), PEAL_OK);
            if (entry.type == PEAL_F_MESSAGE) {
                assert_int_equal(peal_envelope_decode(entry.envelope, &env), PEAL_OK);
                assert_int_equal(env.offset, told + 1);
                told = env.offset;
            } else {
                assert_int_equal(entry.from, told + 1);
                told = entry.to;
            }
            peal_frame_fini(&entry);
        }
        assert_int_equal(page.frame.offset, told);
        assert_true(told > position);
        assert_true(page.messages <= limit);
        position = told;
        page_free(&page);
    }
    assert_int_equal(position, COUNT);
}

static struct peal_store_fetch *fetch_new(struct rig *rig)
{
    struct peal_store_fetch *fetch = peal_store_fetch_new(peal_span_of("user:a"));
    assert_non_null(fetch);
    fetch->policy = &rig->groups[0];
    return fetch;
}

static void reads_beyond_their_number_are_refused(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    for (size_t i = 0; i < PEAL_STORE_READS_MAX; i++)
        assert_int_equal(rig->impl->read(rig->store, fetch_new(rig)), PEAL_OK);
    struct peal_store_fetch *fetch = fetch_new(rig);
    assert_int_equal(rig->impl->read(rig->store, fetch), PEAL_EQUEUE_FULL);
    /* Answered ones count until they are freed. */
    peal_store_fetch_free(rig_wait(&rig->pages));
    assert_int_equal(rig->impl->read(rig->store, fetch), PEAL_OK);
    for (size_t i = 0; i < PEAL_STORE_READS_MAX; i++)
        peal_store_fetch_free(rig_wait(&rig->pages));
}

int contract_pages(const struct contract_store *impl)
{
    const struct CMUnitTest tests[] = {
        CASE(page_of_an_unknown_group_is_empty),
        CASE(page_forward_starts_after_the_position),
        CASE(page_sees_what_was_answered_before_it_was_asked_for),
        CASE(page_limits_are_kept_and_the_next_page_goes_on),
        CASE(page_bytes_are_limited_but_for_a_single_message),
        CASE(page_marks_are_shown_and_unacked_skips),
        CASE(page_of_another_epoch_tells_a_gap_and_everything_kept),
        CASE(page_below_the_window_tells_evicted_and_settled_apart),
        CASE(page_reverse_lists_newest_first),
        CASE(page_reverse_of_another_epoch_starts_from_the_newest),
        CASE(page_reverse_tells_neither_skips_nor_gaps),
        CASE(page_of_a_plain_group_has_no_marks),
        CASE(page_without_a_group_name_carries_the_error),
        CASE(pages_one_after_the_other_tell_every_offset_once),
        CASE(reads_beyond_their_number_are_refused),
    };
    return cmocka_run_group_tests_name("contract: pages", tests, NULL, NULL);
}

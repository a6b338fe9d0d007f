#include "router/page.h"

#include <stdio.h>

#include "base/config.h"
#include "proto/envelope.h"
#include "tests/unit/unit.h"

enum { BOOT = 1000, KEPT = 5 };

static struct peal_config *config;
static struct peal_table table;
static struct peal_group_entry *group;
static struct peal_buf page_bytes;
static struct peal_frame page;

static void topic_none(void *ctx, uint64_t boot, struct peal_span bytes)
{
    (void)ctx;
    (void)boot;
    (void)bytes;
}

static int setup(void **state)
{
    static const char yaml[] = "groups: [{match: 'live:{id}'},"
                               " {match: '*', history: {messages: 5, age: 60s}}]";
    struct peal_config_sources from = {.text = yaml, .text_size = sizeof yaml - 1};
    struct peal_buf problems = {0};
    (void)state;
    assert_int_equal(peal_config_load(&from, &config, &problems), PEAL_OK);
    peal_buf_fini(&problems);
    assert_int_equal(peal_table_init(&table, config, BOOT), PEAL_OK);
    table.topic = topic_none;
    group = peal_table_ensure_group(&table, peal_span_of("room"));
    return group == NULL;
}

static int teardown(void **state)
{
    (void)state;
    peal_frame_fini(&page);
    peal_buf_fini(&page_bytes);
    peal_table_fini(&table);
    peal_config_free(config);
    return 0;
}

/* The next message of the group, taken at ts_ms. */
static void add(uint64_t ts_ms, uint64_t ttl_ms)
{
    struct peal_envelope env = {.id = peal_span_of("id"),
                                .group = peal_group_entry_name(group),
                                .epoch = group->epoch,
                                .offset = ++group->head,
                                .ts_ms = ts_ms,
                                .ttl_ms = ttl_ms,
                                .data = peal_span_of("0123456789")};
    struct peal_buf buf = {0};
    peal_envelope_encode(&env, &buf);
    struct peal_bytes *bytes = peal_bytes_new(buf.at, buf.size);
    peal_table_keep(&table, group, bytes);
    peal_bytes_unref(bytes);
    peal_buf_fini(&buf);
}

/* Asks for a page and writes what it holds as text: M3 a message, S4-4 a skip, G1-2:evicted a gap.
 */
static const char *ask(uint64_t epoch, uint64_t offset, uint64_t limit, uint64_t bytes)
{
    static char text[256];
    struct peal_frame in = {.req = 9,
                            .group = peal_group_entry_name(group),
                            .epoch = epoch,
                            .offset = offset,
                            .limit = limit,
                            .bytes = bytes};
    size_t n = 0;
    peal_frame_fini(&page);
    page_bytes.size = 0;
    peal_page_of_history(group, &in, 5000, &page_bytes);
    assert_int_equal(peal_frame_decode(peal_buf_span(&page_bytes), &page), PEAL_OK);
    assert_int_equal(page.type, PEAL_F_PAGE);
    assert_int_equal(page.req, 9);
    text[0] = '\0';
    for (size_t i = 0; i < page.entries.count; i++) {
        struct peal_frame entry;
        struct peal_envelope env;
        assert_int_equal(peal_frame_decode(page.entries.at[i], &entry), PEAL_OK);
        if (entry.type == PEAL_F_MESSAGE) {
            assert_int_equal(peal_envelope_decode(entry.envelope, &env), PEAL_OK);
            n += (size_t)snprintf(text + n, sizeof text - n, " M%u", (unsigned)env.offset);
        } else if (entry.type == PEAL_F_SKIP) {
            n += (size_t)snprintf(text + n, sizeof text - n, " S%u-%u", (unsigned)entry.from,
                                  (unsigned)entry.to);
        } else {
            n += (size_t)snprintf(text + n, sizeof text - n, " G%u-%u:%s", (unsigned)entry.from,
                                  (unsigned)entry.to, peal_gap_word(entry.why));
        }
        peal_frame_fini(&entry);
    }
    return text;
}

static void page_follows_the_position_up_to_the_newest(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        add(1000, 0);
    assert_string_equal(ask(group->epoch, 1, 100, 100000), " M2 M3 M4");
    assert_int_equal(page.offset, 4);
    assert_int_equal(page.head, 4);
    assert_int_equal(page.first, 1);
    assert_string_equal(ask(group->epoch, 4, 100, 100000), "");
    assert_int_equal(page.offset, 4);
}

static void page_ends_at_its_limits_but_holds_one_message(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        add(1000, 0);
    assert_string_equal(ask(group->epoch, 0, 2, 100000), " M1 M2");
    assert_int_equal(page.offset, 2);
    assert_string_equal(ask(group->epoch, 2, 100, 1), " M3");
    assert_int_equal(page.offset, 3);
}

static void page_tells_what_is_no_longer_kept(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++)
        add(1000, 0);
    assert_string_equal(ask(group->epoch, 1, 100, 100000), " G2-3:evicted M4 M5 M6 M7 M8");
    assert_int_equal(page.first, 8 - KEPT + 1);
}

/* All rings together have too much memory: this one goes, but the group goes on where it was. */
static void page_of_a_history_that_gave_way_is_a_gap_in_the_same_epoch(void **state)
{
    (void)state;
    struct peal_group_entry *room = group;
    uint64_t epoch = room->epoch;
    for (int i = 0; i < 4; i++)
        add(1000, 0);
    config->limits.history = 1;
    group = peal_table_ensure_group(&table, peal_span_of("other"));
    add(1000, 0);
    assert_int_equal(peal_group_entry_kept(room), 0);
    group = room;
    assert_string_equal(ask(epoch, 2, 100, 100000), " G3-4:evicted");
    assert_true(page.epoch == epoch);
    assert_int_equal(page.offset, 4);
    assert_string_equal(ask(epoch, 4, 100, 100000), ""); /* nothing is missing there */
    config->limits.history = 1 << 20;
    add(1000, 0);
    assert_string_equal(ask(epoch, 3, 100, 100000), " G4-4:evicted M5");
}

static void page_for_another_epoch_or_ahead_of_the_head_begins_with_a_gap(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++)
        add(1000, 0);
    assert_string_equal(ask(group->epoch + 1, 6, 2, 100000), " G1-1:epoch M2 M3");
    assert_string_equal(ask(group->epoch, 7, 1, 100000), " G1-1:epoch M2");
    assert_true(page.epoch == group->epoch);
}

static void page_for_another_epoch_with_nothing_lost_still_says_so(void **state)
{
    (void)state;
    add(1000, 0);
    assert_string_equal(ask(group->epoch + 1, 3, 9, 100000), " G0-0:epoch M1");
}

static void page_of_a_group_that_keeps_nothing_is_a_gap(void **state)
{
    (void)state;
    group = peal_table_ensure_group(&table, peal_span_of("live:1"));
    add(1000, 0);
    add(1000, 0);
    assert_string_equal(ask(group->epoch, 0, 9, 100000), " G1-2:unrepaired");
    assert_int_equal(page.offset, 2);
}

static void page_skips_what_has_outlived_its_ttl(void **state)
{
    (void)state;
    add(1000, 4000); /* over at 5000, which it is */
    add(1000, 4001);
    add(6000, 1); /* the clock went back: not over */
    assert_string_equal(ask(group->epoch, 0, 9, 100000), " S1-1 M2 M3");
    assert_int_equal(page.offset, 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(page_follows_the_position_up_to_the_newest),
        TEST(page_ends_at_its_limits_but_holds_one_message),
        TEST(page_tells_what_is_no_longer_kept),
        TEST(page_of_a_history_that_gave_way_is_a_gap_in_the_same_epoch),
        TEST(page_for_another_epoch_or_ahead_of_the_head_begins_with_a_gap),
        TEST(page_for_another_epoch_with_nothing_lost_still_says_so),
        TEST(page_of_a_group_that_keeps_nothing_is_a_gap),
        TEST(page_skips_what_has_outlived_its_ttl),
    };
    return cmocka_run_group_tests_name("page", tests, NULL, NULL);
}

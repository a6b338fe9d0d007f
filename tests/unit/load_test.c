/* The parts of bench/ that are pure: what they get wrong, every benchmark gets wrong. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/limits.h"
#include "bench/event.h"
#include "bench/frames.h"
#include "bench/hist.h"
#include "bench/plan.h"
#include "bench/stamp.h"
#include "bench/window.h"
#include "proto/group.h"
#include "tests/unit/unit.h"

/* ---- Frames ------------------------------------------------------------------------------- */

static void frame_add(struct peal_buf *out, uint8_t opcode, size_t size)
{
    peal_buf_add_char(out, (char)(0x80 | opcode));
    if (size < 126) {
        peal_buf_add_char(out, (char)size);
    } else if (size < 65536) {
        peal_buf_add_char(out, 126);
        peal_buf_add_char(out, (char)(size >> 8));
        peal_buf_add_char(out, (char)size);
    } else {
        peal_buf_add_char(out, 127);
        for (int shift = 56; shift >= 0; shift -= 8)
            peal_buf_add_char(out, (char)((uint64_t)size >> shift));
    }
    for (size_t i = 0; i < size; i++)
        peal_buf_add_char(out, (char)(i * 31 + size));
}

static const size_t frame_sizes[] = {0, 5, 125, 126, 300, 65535, 65536, 200000, 1};
enum { FRAMES = sizeof(frame_sizes) / sizeof(frame_sizes[0]) };

static void frames_fill(struct peal_buf *out)
{
    for (size_t i = 0; i < FRAMES; i++)
        frame_add(out, i % 2 == 0 ? PEAL_FRAME_TEXT : PEAL_FRAME_BINARY, frame_sizes[i]);
    assert_false(out->failed);
}

static void assert_is_frame(const struct peal_frame *frame, size_t i)
{
    size_t size = frame_sizes[i];
    size_t kept = size < PEAL_FRAMES_KEEP ? size : PEAL_FRAMES_KEEP;
    assert_int_equal(frame->opcode, i % 2 == 0 ? PEAL_FRAME_TEXT : PEAL_FRAME_BINARY);
    assert_int_equal(frame->size, size);
    assert_in_range(frame->payload.size, kept, size);
    for (size_t at = 0; at < frame->payload.size; at++)
        if (frame->payload.at[at] != (char)(at * 31 + size)) fail_msg("byte %zu of %zu", at, i);
}

/* Feeds all in reads of `step` bytes, each in memory of its own, so that a sanitizer sees who
 * looks beyond it. */
static void frames_feed(const struct peal_buf *all, size_t step)
{
    struct peal_frames frames = {0};
    struct peal_frame frame;
    size_t seen = 0;
    for (size_t at = 0; at < all->size; at += step) {
        size_t size = all->size - at < step ? all->size - at : step;
        char *read = malloc(size);
        assert_non_null(read);
        memcpy(read, all->at + at, size);
        struct peal_span in = {read, size};
        while (peal_frames_next(&frames, &in, &frame) == PEAL_FRAMES_FRAME) {
            assert_in_range(seen, 0, FRAMES - 1);
            assert_is_frame(&frame, seen++);
        }
        assert_int_equal(in.size, 0);
        free(read);
    }
    assert_int_equal(seen, FRAMES);
    peal_frames_fini(&frames);
}

static void frames_cut_anywhere_are_the_same(void **state)
{
    (void)state;
    struct peal_buf all = {0};
    frames_fill(&all);
    static const size_t steps[] = {1, 2, 3, 7, 127, 128, 4096, 65536, 131072, 1000000};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        frames_feed(&all, steps[i]);
    peal_buf_fini(&all);
}

static void frames_cut_in_two_anywhere_are_the_same(void **state)
{
    (void)state;
    struct peal_buf all = {0};
    frame_add(&all, PEAL_FRAME_TEXT, 130);
    frame_add(&all, PEAL_FRAME_PING, 3);
    for (size_t cut = 0; cut <= all.size; cut++) {
        struct peal_frames frames = {0};
        struct peal_frame frame;
        struct peal_span parts[] = {{all.at, cut}, {all.at + cut, all.size - cut}};
        size_t seen = 0;
        for (size_t i = 0; i < 2; i++) {
            while (peal_frames_next(&frames, &parts[i], &frame) == PEAL_FRAMES_FRAME) {
                assert_int_equal(frame.opcode, seen == 0 ? PEAL_FRAME_TEXT : PEAL_FRAME_PING);
                assert_int_equal(frame.size, seen == 0 ? 130 : 3);
                seen++;
            }
        }
        assert_int_equal(seen, 2);
        peal_frames_fini(&frames);
    }
    peal_buf_fini(&all);
}

static void frames_between_frames_keep_nothing(void **state)
{
    (void)state;
    struct peal_frames frames = {0};
    struct peal_frame frame;
    struct peal_span first = {"\x81\x03"
                              "a",
                              3};
    struct peal_span second = {"bc", 2};
    assert_int_equal(peal_frames_next(&frames, &first, &frame), PEAL_FRAMES_MORE);
    assert_int_equal(frames.kept.size, 3);
    assert_int_equal(peal_frames_next(&frames, &second, &frame), PEAL_FRAMES_FRAME);
    assert_true(peal_span_is(frame.payload, "abc"));
    assert_int_equal(peal_frames_next(&frames, &second, &frame), PEAL_FRAMES_MORE);
    assert_null(frames.kept.at);
}

static void assert_bad(const char *at, size_t size)
{
    struct peal_frames frames = {0};
    struct peal_frame frame;
    struct peal_span whole = {at, size};
    assert_int_equal(peal_frames_next(&frames, &whole, &frame), PEAL_FRAMES_BAD);
    /* Byte by byte it is as bad. */
    enum peal_frames_got got = PEAL_FRAMES_MORE;
    for (size_t i = 0; i < size && got == PEAL_FRAMES_MORE; i++) {
        struct peal_span in = {at + i, 1};
        got = peal_frames_next(&frames, &in, &frame);
    }
    assert_int_equal(got, PEAL_FRAMES_BAD);
    peal_frames_fini(&frames);
}

static void frames_that_no_server_sends_are_bad(void **state)
{
    (void)state;
    assert_bad("\x81\x81mask!", 7);
    assert_bad("\xc1\x01!", 3);
    assert_bad("\xa1\x01!", 3);
    assert_bad("\x82\x7f\x80\0\0\0\0\0\0\0", 10);
}

/* ---- Stamps ------------------------------------------------------------------------------- */

static void stamp_written_is_read(void **state)
{
    (void)state;
    const struct peal_stamp stamps[] = {{0, 0, 0},
                                        {1, 2, 3},
                                        {0x0123456789abcdef, 0x01234567, 0x89abcdef},
                                        {UINT64_MAX, UINT32_MAX, UINT32_MAX}};
    for (size_t i = 0; i < sizeof(stamps) / sizeof(stamps[0]); i++) {
        char text[PEAL_STAMP_MIN + 1] = "\"";
        struct peal_stamp read;
        peal_stamp_write(text + 1, &stamps[i]);
        text[PEAL_STAMP_MIN - 1] = '"';
        assert_true(peal_stamp_read(peal_span_make(text, PEAL_STAMP_MIN), &read));
        assert_memory_equal(&read, &stamps[i], sizeof(read));
        assert_true(peal_stamp_read(peal_span_make(text + 1, PEAL_STAMP_DIGITS), &read));
        assert_memory_equal(&read, &stamps[i], sizeof(read));
    }
}

/* Every byte at every place: the digits 0-9 and a-f pass, with their value, and no other byte. */
static void stamp_with_a_byte_that_is_no_digit_is_none(void **state)
{
    (void)state;
    for (int place = 0; place < PEAL_STAMP_DIGITS; place++) {
        for (int c = 0; c < 256; c++) {
            char text[PEAL_STAMP_DIGITS + 1] = "00000000000000000000000000000000";
            struct peal_stamp read;
            text[place] = (char)c;
            const char *digit = c == 0 ? NULL : strchr("0123456789abcdef", c);
            bool good = peal_stamp_read(peal_span_make(text, PEAL_STAMP_DIGITS), &read);
            /* A quote in front is no part of it, and then a digit is missing. */
            assert_int_equal(good, digit != NULL);
            if (digit == NULL || place < 24) continue;
            uint32_t value = (uint32_t)strtoul((char[]){(char)c, '\0'}, NULL, 16);
            assert_int_equal(read.index, value << 4 * (31 - place));
        }
    }
}

static void stamp_too_short_is_none(void **state)
{
    (void)state;
    struct peal_stamp read;
    static const char text[] = "\"00000000000000000000000000000000";
    assert_true(peal_stamp_read(peal_span_make(text, PEAL_STAMP_DIGITS + 1), &read));
    assert_false(peal_stamp_read(peal_span_make(text, PEAL_STAMP_DIGITS), &read));
    assert_false(peal_stamp_read(peal_span_make(text + 1, PEAL_STAMP_DIGITS - 1), &read));
    assert_false(peal_stamp_read(peal_span_make(text, 0), &read));
}

/* ---- Histogram ---------------------------------------------------------------------------- */

static void hist_classes_are_in_order_and_narrow(void **state)
{
    (void)state;
    uint32_t last = 0;
    for (uint64_t value = 0; value < 1ULL << PEAL_HIST_BITS; value += 1 + value / 1000) {
        uint32_t class = peal_hist_class(value);
        uint64_t middle = peal_hist_middle(class);
        uint64_t error = middle > value ? middle - value : value - middle;
        assert_in_range(class, last, PEAL_HIST_CLASSES - 1);
        assert_true(error * 128 <= value);
        assert_int_equal(peal_hist_class(middle), class);
        last = class;
    }
    assert_int_equal(peal_hist_class((1ULL << PEAL_HIST_BITS) - 1), PEAL_HIST_CLASSES - 1);
    assert_int_equal(peal_hist_class(1ULL << PEAL_HIST_BITS), PEAL_HIST_CLASSES - 1);
    assert_int_equal(peal_hist_class(UINT64_MAX), PEAL_HIST_CLASSES - 1);
}

static void hist_quantiles_are_within_one_percent(void **state)
{
    (void)state;
    struct peal_hist *hist = calloc(1, sizeof(*hist));
    assert_non_null(hist);
    assert_int_equal(peal_hist_quantile(hist, 500), 0);
    for (uint64_t i = 1; i <= 100000; i++)
        peal_hist_add(hist, i * 1000);
    static const uint32_t permilles[] = {1, 500, 900, 990, 999};
    for (size_t i = 0; i < sizeof(permilles) / sizeof(permilles[0]); i++) {
        uint64_t right = permilles[i] * 100000ULL;
        uint64_t told = peal_hist_quantile(hist, permilles[i]);
        assert_in_range(told, right - right / 100, right + right / 100);
    }
    assert_int_equal(hist->max, 100000000);
    assert_true(peal_hist_quantile(hist, 1000) <= hist->max);
    free(hist);
}

static void hist_merged_counts_both(void **state)
{
    (void)state;
    struct peal_hist *both = calloc(2, sizeof(*both));
    assert_non_null(both);
    peal_hist_add(&both[0], 10);
    peal_hist_add(&both[1], 10);
    peal_hist_add(&both[1], 5000);
    peal_hist_merge(&both[0], &both[1]);
    assert_int_equal(both[0].count, 3);
    assert_int_equal(both[0].max, 5000);
    assert_int_equal(peal_hist_quantile(&both[0], 500), 10);
    free(both);
}

/* ---- Windows ------------------------------------------------------------------------------ */

static void window_in_order_is_new(void **state)
{
    (void)state;
    struct peal_window window = {0};
    for (uint32_t seq = 7; seq < 300; seq++)
        assert_int_equal(peal_window_see(&window, seq), PEAL_WINDOW_NEW);
    for (uint32_t seq = 299; seq >= 200; seq--)
        assert_int_equal(peal_window_see(&window, seq), PEAL_WINDOW_REPEAT);
}

static void window_tells_late_from_repeated(void **state)
{
    (void)state;
    struct peal_window window = {0};
    assert_int_equal(peal_window_see(&window, 1), PEAL_WINDOW_NEW);
    assert_int_equal(peal_window_see(&window, 3), PEAL_WINDOW_NEW);
    assert_int_equal(peal_window_see(&window, 2), PEAL_WINDOW_LATE);
    assert_int_equal(peal_window_see(&window, 2), PEAL_WINDOW_REPEAT);
    assert_int_equal(peal_window_see(&window, 1), PEAL_WINDOW_REPEAT);
    assert_int_equal(peal_window_see(&window, 4), PEAL_WINDOW_NEW);
}

static void window_jumps_remember_64(void **state)
{
    (void)state;
    for (uint32_t step = 1; step < 200; step++) {
        struct peal_window window = {0};
        assert_int_equal(peal_window_see(&window, 1000), PEAL_WINDOW_NEW);
        assert_int_equal(peal_window_see(&window, 1000 + step), PEAL_WINDOW_NEW);
        assert_int_equal(peal_window_see(&window, 1000), PEAL_WINDOW_REPEAT);
        if (step == 1) continue;
        assert_int_equal(peal_window_see(&window, 999 + step), PEAL_WINDOW_LATE);
        assert_int_equal(peal_window_see(&window, 999 + step), PEAL_WINDOW_REPEAT);
    }
}

/* ---- Events ------------------------------------------------------------------------------- */

#define STAMP "00000000000000050000000600000007"

static void assert_event(const char *frame, enum peal_event_kind kind, uint32_t joined,
                         uint64_t missed)
{
    struct peal_event event;
    peal_event_read_native(peal_span_of(frame), &event);
    assert_int_equal(event.kind, kind);
    assert_int_equal(event.joined, joined);
    assert_int_equal(event.missed, missed);
}

static void event_native_messages_have_group_and_stamp(void **state)
{
    (void)state;
    static const char *const frames[] = {
        "{\"type\":\"message\",\"group\":\"g12\",\"offset\":3,\"id\":\"01KA\",\"data\":\"" STAMP
        "xx\",\"ts\":1}",
        "{\"type\":\"message\",\"group\":\"g12\",\"offset\":3,\"id\":\"01KA\",\"kind\":\"text\","
        "\"data\":\"" STAMP "xx\",\"ts\":1}"};
    for (size_t i = 0; i < 2; i++) {
        struct peal_event event;
        peal_event_read_native(peal_span_of(frames[i]), &event);
        assert_int_equal(event.kind, PEAL_EVENT_STAMP);
        assert_true(peal_span_is(event.group, "g12"));
        assert_int_equal(event.stamp.sent_ns, 5);
        assert_int_equal(event.stamp.seq, 6);
        assert_int_equal(event.stamp.index, 7);
    }
}

static void event_native_control_is_counted_apart(void **state)
{
    (void)state;
    assert_event("{\"type\":\"welcome\",\"session\":\"S\",\"limits\":{\"groups\":128},\"groups\":{"
                 "\"g0\":{\"epoch\":\"e\",\"offset\":4,\"recovered\":\"new\"},"
                 "\"g1\":{\"recovered\":\"pending\"},"
                 "\"g2\":{\"epoch\":\"e\",\"offset\":4,\"recovered\":\"new\"}},"
                 "\"inbox\":{\"epoch\":\"e\",\"offset\":1,\"recovered\":\"new\"}}",
                 PEAL_EVENT_JOINED, 2, 0);
    assert_event("{\"type\":\"joined\",\"group\":\"g1\",\"recovered\":\"new\"}", PEAL_EVENT_JOINED,
                 1, 0);
    assert_event("{\"type\":\"gap\",\"group\":\"g\",\"from\":22,\"to\":30,\"why\":\"slow\"}",
                 PEAL_EVENT_GAP, 0, 9);
    assert_event("{\"type\":\"skip\",\"group\":\"g\",\"from\":1,\"to\":17}", PEAL_EVENT_SKIP, 0, 0);
    assert_event("{\"type\":\"error\",\"code\":\"forbidden\"}", PEAL_EVENT_ERROR, 0, 0);
    assert_event("{\"type\":\"degraded\",\"on\":true}", PEAL_EVENT_OTHER, 0, 0);
    assert_event("{\"type\":\"message\",\"group\":\"g\",\"data\":\"hello\"}", PEAL_EVENT_STRANGE, 0,
                 0);
    assert_event("hello", PEAL_EVENT_STRANGE, 0, 0);
    assert_event("", PEAL_EVENT_STRANGE, 0, 0);
}

static void event_floor_ok_is_a_join(void **state)
{
    (void)state;
    struct peal_event event;
    peal_event_read_floor(peal_span_of("ok g0"), &event);
    assert_int_equal(event.kind, PEAL_EVENT_JOINED);
    assert_int_equal(event.joined, 1);
    peal_event_read_floor(peal_span_of("\"" STAMP "\""), &event);
    assert_int_equal(event.kind, PEAL_EVENT_STAMP);
    peal_event_read_floor(peal_span_of("no"), &event);
    assert_int_equal(event.kind, PEAL_EVENT_STRANGE);
    peal_event_read_raw(peal_span_of("ok g0"), &event);
    assert_int_equal(event.kind, PEAL_EVENT_STRANGE);
}

/* ---- Plan --------------------------------------------------------------------------------- */

/* Counted one by one. */
static uint32_t members_count(const struct peal_plan *plan, uint32_t k, uint32_t connections)
{
    uint32_t members = 0;
    for (uint32_t i = 0; i < connections; i++)
        for (uint32_t j = 0; j < plan->groups_per_connection; j++)
            if (peal_plan_group_of(plan, i, j) == k) members++;
    return members;
}

static void plan_members_are_those_that_join(void **state)
{
    (void)state;
    for (uint32_t groups = 1; groups < 13; groups++) {
        for (uint32_t per = 1; per <= groups; per++) {
            if (groups % per != 0) continue; /* the command line refuses it */
            struct peal_plan plan = {.groups = groups, .groups_per_connection = per};
            for (uint32_t connections = 0; connections < 30; connections++)
                for (uint32_t k = 0; k < groups; k++)
                    assert_int_equal(peal_plan_members(&plan, k, connections),
                                     members_count(&plan, k, connections));
        }
    }
}

static void plan_connections_take_blocks_of_groups(void **state)
{
    (void)state;
    const struct peal_plan blocks = {.groups = 6, .groups_per_connection = 3};
    static const uint32_t expected[3][3] = {{0, 1, 2}, {3, 4, 5}, {0, 1, 2}};
    for (uint32_t i = 0; i < 3; i++)
        for (uint32_t j = 0; j < 3; j++)
            assert_int_equal(peal_plan_group_of(&blocks, i, j), expected[i][j]);
    const struct peal_plan many = {.groups = 1000000, .groups_per_connection = 1000};
    /* Beyond 32 bits on the way. */
    assert_int_equal(peal_plan_group_of(&many, 5000000, 7), 7);
}

static void plan_group_enters_where_its_slot_is(void **state)
{
    (void)state;
    struct peal_plan plan = {.prefix = "g", .groups = 1000, .endpoint_count = 1};
    uint32_t counts[4] = {0};
    for (uint32_t k = 0; k < plan.groups; k++) {
        char name[PEAL_PLAN_GROUP_MAX];
        struct peal_span group = {name, peal_plan_group(&plan, k, name)};
        plan.endpoint_count = 1;
        assert_int_equal(peal_plan_endpoint_of(&plan, k), 0);
        plan.endpoint_count = 4;
        uint32_t at = peal_plan_endpoint_of(&plan, k);
        assert_int_equal(at, peal_group_slot(group) / (PEAL_SLOTS / 4));
        counts[at]++;
    }
    for (int i = 0; i < 4; i++)
        assert_in_range(counts[i], 150, 350);
}

static void plan_shares_add_up(void **state)
{
    (void)state;
    for (uint32_t processes = 1; processes < 6; processes++) {
        struct peal_plan plan = {.processes = processes};
        for (uint32_t n = 0; n < 20; n++) {
            uint32_t sum = 0;
            for (uint32_t which = 0; which < processes; which++)
                sum += peal_plan_share(&plan, n, which);
            assert_int_equal(sum, n);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_cut_anywhere_are_the_same),
        cmocka_unit_test(frames_cut_in_two_anywhere_are_the_same),
        cmocka_unit_test(frames_between_frames_keep_nothing),
        cmocka_unit_test(frames_that_no_server_sends_are_bad),
        cmocka_unit_test(stamp_written_is_read),
        cmocka_unit_test(stamp_with_a_byte_that_is_no_digit_is_none),
        cmocka_unit_test(stamp_too_short_is_none),
        cmocka_unit_test(hist_classes_are_in_order_and_narrow),
        cmocka_unit_test(hist_quantiles_are_within_one_percent),
        cmocka_unit_test(hist_merged_counts_both),
        cmocka_unit_test(window_in_order_is_new),
        cmocka_unit_test(window_tells_late_from_repeated),
        cmocka_unit_test(window_jumps_remember_64),
        cmocka_unit_test(event_native_messages_have_group_and_stamp),
        cmocka_unit_test(event_native_control_is_counted_apart),
        cmocka_unit_test(event_floor_ok_is_a_join),
        cmocka_unit_test(plan_members_are_those_that_join),
        cmocka_unit_test(plan_connections_take_blocks_of_groups),
        cmocka_unit_test(plan_group_enters_where_its_slot_is),
        cmocka_unit_test(plan_shares_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

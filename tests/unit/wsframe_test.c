#include "node/wsframe.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/limits.h"
#include "tests/unit/unit.h"

/* ---- what the parser says, as text ------------------------------------------------------- */

struct seen {
    struct peal_buf log;
    uint32_t frames;
    uint16_t code;
    const char *read; /* the bytes being fed */
    size_t read_size;
    int in_place;   /* payloads handed out where they lay */
    int stop_after; /* so many events later the callback says stop; 0: never */
};

static bool see(struct seen *seen, const char *what, struct peal_span payload)
{
    if (payload.size > 0 && payload.at >= seen->read && payload.at < seen->read + seen->read_size)
        seen->in_place++;
    peal_buf_add_text(&seen->log, what);
    peal_buf_add_char(&seen->log, '(');
    peal_buf_add_span(&seen->log, payload);
    peal_buf_add_text(&seen->log, ") ");
    return --seen->stop_after != 0;
}

static bool on_message(void *ctx, int opcode, struct peal_span payload)
{
    return see(ctx, opcode == PEAL_WS_TEXT ? "text" : "binary", payload);
}

static bool on_ping(void *ctx, struct peal_span payload)
{
    return see(ctx, "ping", payload);
}

static bool on_pong(void *ctx, struct peal_span payload)
{
    return see(ctx, "pong", payload);
}

static void on_close(void *ctx, uint16_t code, struct peal_span reason)
{
    char what[16];
    snprintf(what, sizeof what, "close%u", code);
    see(ctx, what, reason);
}

static uint16_t feed(struct peal_ws_parser *p, char *bytes, size_t size, struct seen *seen)
{
    struct peal_ws_events events = {seen, on_message, on_ping, on_pong, on_close};
    seen->read = bytes;
    seen->read_size = size;
    return peal_ws_feed(p, bytes, size, &events, &seen->frames);
}

/* Feeds one piece from memory of exactly its size, `shift` bytes behind an aligned address. */
static void feed_piece(struct peal_ws_parser *p, struct peal_span piece, size_t shift,
                       struct seen *seen)
{
    char *memory = malloc(piece.size + shift + 1);
    assert_non_null(memory);
    memcpy(memory + shift, piece.at, piece.size);
    uint16_t code = feed(p, memory + shift, piece.size, seen);
    if (code != 0) {
        assert_int_equal(seen->code, 0); /* said once */
        seen->code = code;
    }
    free(memory);
}

/* Feeds stream cut at the ascending offsets. */
static void feed_cut(struct peal_span stream, uint32_t max, const size_t *cuts, size_t cut_count,
                     struct seen *seen)
{
    struct peal_ws_parser p;
    peal_ws_parser_init(&p, max);
    size_t at = 0;
    for (size_t i = 0; i <= cut_count; i++) {
        size_t end = i < cut_count ? cuts[i] : stream.size;
        feed_piece(&p, peal_span_make(stream.at + at, end - at), at % 8, seen);
        at = end;
    }
    peal_ws_parser_fini(&p);
}

static void seen_fini(struct seen *seen)
{
    peal_buf_fini(&seen->log);
}

static unsigned test_seed;

static size_t random_below(size_t limit)
{
    return (size_t)rand_r(&test_seed) % limit;
}

static int compare_sizes(const void *a, const void *b)
{
    size_t left = *(const size_t *)a;
    size_t right = *(const size_t *)b;
    return (left > right) - (left < right);
}

static void assert_cut(struct peal_span stream, uint32_t max, const size_t *cuts, size_t cut_count,
                       const struct seen *whole)
{
    struct seen seen = {0};
    feed_cut(stream, max, cuts, cut_count, &seen);
    if (!peal_span_equal(peal_buf_span(&seen.log), peal_buf_span(&whole->log)) ||
        seen.code != whole->code || seen.frames != whole->frames) {
        for (size_t i = 0; i < cut_count; i++)
            print_message("cut at %zu\n", cuts[i]);
        fail_msg("%.300s code %u, not %.300s code %u", seen.log.at == NULL ? "" : seen.log.at,
                 seen.code, whole->log.at == NULL ? "" : whole->log.at, whole->code);
    }
    seen_fini(&seen);
}

/* Every cut in two (of long streams those near the ends and some between), every byte alone, and
 * random cuts give what the whole gave. */
static void assert_any_split(struct peal_span stream, uint32_t max, const struct seen *whole)
{
    enum { ALL = 600, ENDS = 24, CUTS = 12 };
    for (size_t cut = 0; cut <= stream.size; cut++) {
        if (stream.size > ALL && cut == ENDS) cut = stream.size - ENDS;
        assert_cut(stream, max, &cut, 1, whole);
    }
    if (stream.size <= ALL) {
        size_t all[ALL];
        for (size_t i = 0; i < stream.size; i++)
            all[i] = i;
        assert_cut(stream, max, all, stream.size, whole);
    }
    for (int round = 0; round < 20; round++) {
        size_t cuts[CUTS];
        size_t count = 1 + random_below(CUTS);
        for (size_t i = 0; i < count; i++)
            cuts[i] = random_below(stream.size + 1);
        qsort(cuts, count, sizeof cuts[0], compare_sizes);
        assert_cut(stream, max, cuts, count, whole);
    }
}

/* The events of stream, in any split, are `log`, and it ends with code. */
static void assert_stream(struct peal_span stream, uint32_t max, struct peal_span log,
                          uint16_t code)
{
    struct seen whole = {0};
    feed_cut(stream, max, NULL, 0, &whole);
    if (!peal_span_equal(peal_buf_span(&whole.log), log) || whole.code != code)
        fail_msg("'%.*s' code %u, not '%.*s' code %u", (int)whole.log.size,
                 whole.log.at == NULL ? "" : whole.log.at, whole.code, (int)log.size, log.at, code);
    assert_any_split(stream, max, &whole);
    seen_fini(&whole);
}

/* ---- building streams -------------------------------------------------------------------- */

/* Appends a masked frame with the shortest length. */
static void add_frame(struct peal_buf *out, unsigned first, struct peal_span payload)
{
    unsigned char mask[4];
    uint8_t header[PEAL_WS_HEADER_MAX];
    size_t size = peal_ws_header(header, 0, payload.size);
    header[0] = (uint8_t)first;
    header[1] |= 0x80;
    for (size_t i = 0; i < sizeof mask; i++)
        mask[i] = (unsigned char)random_below(256);
    peal_buf_add(out, header, size);
    peal_buf_add(out, mask, sizeof mask);
    char *to = peal_buf_reserve(out, payload.size);
    assert_non_null(to);
    for (size_t i = 0; i < payload.size; i++)
        to[i] = (char)((unsigned char)payload.at[i] ^ mask[i % 4]);
    out->size += payload.size;
}

static void add_text_frame(struct peal_buf *out, unsigned first, const char *payload)
{
    add_frame(out, first, peal_span_of(payload));
}

/* ---- rules ------------------------------------------------------------------------------- */

#define ZERO "\0\0\0\0" /* a mask that leaves the payload readable */
#define TEN  "0123456789"
#define T125 TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN "01234"

static const struct rule {
    const char *name;
    struct peal_span stream;
    const char *log;
    uint16_t code;
} rules[] = {
#define RULE(name, stream, log, code)                                                              \
    {                                                                                              \
        name, {stream, sizeof(stream) - 1}, log, code                                              \
    }
    /* RFC 6455 section 5.7, the client's side of it */
    RULE("rfc masked text", "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "text(Hello) ", 0),
    RULE("rfc unmasked text", "\x81\x05Hello", "", 1002),
    RULE("rfc fragments", "\x01\x83" ZERO "Hel\x80\x82" ZERO "lo", "text(Hello) ", 0),
    RULE("rfc unmasked fragment", "\x01\x83" ZERO "Hel\x80\x02lo", "", 1002),
    RULE("rfc masked pong", "\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "pong(Hello) ", 0),
    RULE("rfc unmasked ping", "\x89\x05Hello", "", 1002),
    /* messages */
    RULE("empty text", "\x81\x80" ZERO, "text() ", 0),
    RULE("empty binary", "\x82\x80" ZERO, "binary() ", 0),
    RULE("two messages", "\x81\x81" ZERO "a\x82\x81" ZERO "b", "text(a) binary(b) ", 0),
    RULE("125 bytes", "\x82\xfd" ZERO T125, "binary(" T125 ") ", 0),
    RULE("126 bytes", "\x82\xfe\0\x7e" ZERO T125 "x", "binary(" T125 "x) ", 0),
    RULE("all fragments empty", "\x01\x80" ZERO "\0\x80" ZERO "\x80\x80" ZERO, "text() ", 0),
    RULE("first fragment empty", "\x02\x80" ZERO "\x80\x81" ZERO "x", "binary(x) ", 0),
    RULE("last fragment empty", "\x02\x81" ZERO "x\x80\x80" ZERO, "binary(x) ", 0),
    RULE("control frames between fragments",
         "\x01\x81" ZERO "a\x89\x81" ZERO "p\0\x81" ZERO "b\x8a\x80" ZERO "\x80\x81" ZERO "c",
         "ping(p) pong() text(abc) ", 0),
    RULE("close between fragments", "\x01\x81" ZERO "a\x88\x80" ZERO "\x80\x81" ZERO "b",
         "close1005() ", 0),
    /* order of fragments */
    RULE("continuation without a start", "\x80\x81" ZERO "x", "", 1002),
    RULE("open continuation without a start", "\0\x81" ZERO "x", "", 1002),
    RULE("continuation behind a whole message", "\x81\x81" ZERO "a\x80\x81" ZERO "b", "text(a) ",
         1002),
    RULE("text inside a message", "\x01\x81" ZERO "a\x81\x81" ZERO "b", "", 1002),
    RULE("binary inside a message", "\x01\x81" ZERO "a\x02\x81" ZERO "b", "", 1002),
    /* reserved */
    RULE("reserved bit 1", "\xc1\x80" ZERO, "", 1002),
    RULE("reserved bit 2", "\xa1\x80" ZERO, "", 1002),
    RULE("reserved bit 3", "\x91\x80" ZERO, "", 1002),
    RULE("reserved bit on a ping", "\xc9\x80" ZERO, "", 1002),
    RULE("reserved bit on a continuation", "\x01\x80" ZERO "\xc0\x80" ZERO, "", 1002),
    RULE("opcode 3", "\x83\x80" ZERO, "", 1002),
    RULE("opcode 4", "\x84\x80" ZERO, "", 1002),
    RULE("opcode 5", "\x85\x80" ZERO, "", 1002),
    RULE("opcode 6", "\x86\x80" ZERO, "", 1002),
    RULE("opcode 7", "\x87\x80" ZERO, "", 1002),
    RULE("opcode 11", "\x8b\x80" ZERO, "", 1002),
    RULE("opcode 12", "\x8c\x80" ZERO, "", 1002),
    RULE("opcode 13", "\x8d\x80" ZERO, "", 1002),
    RULE("opcode 14", "\x8e\x80" ZERO, "", 1002),
    RULE("opcode 15", "\x8f\x80" ZERO, "", 1002),
    RULE("judged by two bytes", "\x83\x80", "", 1002),
    RULE("unmasked, judged by two bytes", "\x81\x7f", "", 1002),
    /* lengths */
    RULE("0 in 16 bits", "\x82\xfe\0\0" ZERO, "", 1002),
    RULE("125 in 16 bits", "\x82\xfe\0\x7d" ZERO T125, "", 1002),
    RULE("0 in 64 bits", "\x82\xff\0\0\0\0\0\0\0\0" ZERO, "", 1002),
    RULE("126 in 64 bits", "\x82\xff\0\0\0\0\0\0\0\x7e" ZERO T125 "x", "", 1002),
    RULE("65535 in 64 bits", "\x82\xff\0\0\0\0\0\0\xff\xff" ZERO, "", 1002),
    RULE("65536 in 64 bits is above the limit", "\x82\xff\0\0\0\0\0\x01\0\0" ZERO, "", 1009),
    RULE("1 TiB", "\x82\xff\0\0\x01\0\0\0\0\0" ZERO, "", 1009),
    RULE("the largest length", "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff" ZERO, "", 1009),
    RULE("top bit", "\x82\xff\x80\0\0\0\0\0\0\0" ZERO, "", 1002),
    RULE("top bit and all others", "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff" ZERO, "", 1002),
    RULE("limit reached over fragments", "\x02\xfd" ZERO T125 "\x80\x83" ZERO "678",
         "binary(" T125 "678) ", 0),
    RULE("limit passed over fragments", "\x02\xfd" ZERO T125 "\x80\x84" ZERO "6789", "", 1009),
    RULE("the largest length in a continuation",
         "\x02\x81" ZERO "x\x80\xff\x7f\xff\xff\xff\xff\xff\xff\xff" ZERO, "", 1009),
    /* control frames */
    RULE("ping", "\x89\x80" ZERO, "ping() ", 0),
    RULE("ping of 125 bytes", "\x89\xfd" ZERO T125, "ping(" T125 ") ", 0),
    RULE("ping of 126 bytes", "\x89\xfe\0\x7e" ZERO T125 "x", "", 1002),
    RULE("pong of 64-bit length", "\x8a\xff\0\0\0\0\0\x01\0\0" ZERO, "", 1002),
    RULE("close of 126 bytes", "\x88\xfe\0\x7e" ZERO T125 "x", "", 1002),
    RULE("fragmented ping", "\x09\x81" ZERO "x", "", 1002),
    RULE("fragmented pong", "\x0a\x80" ZERO, "", 1002),
    RULE("fragmented close", "\x08\x80" ZERO, "", 1002),
    RULE("unmasked close", "\x88\0", "", 1002),
    RULE("ping is no text", "\x89\x81" ZERO "\xff", "ping(\xff) ", 0),
    /* close */
    RULE("close without a code", "\x88\x80" ZERO, "close1005() ", 0),
    RULE("close 1000", "\x88\x82" ZERO "\x03\xe8", "close1000() ", 0),
    RULE("close with a reason",
         "\x88\x85" ZERO "\x03\xe9"
         "bye",
         "close1001(bye) ", 0),
    RULE("bytes behind a close", "\x88\x80" ZERO "\x81\x81" ZERO "x", "close1005() ", 0),
    RULE("rubbish behind a close", "\x88\x80" ZERO "\xff\xff\xff", "close1005() ", 0),
    RULE("close of one byte", "\x88\x81" ZERO "\x03", "", 1002),
    RULE("close reason is not UTF-8", "\x88\x83" ZERO "\x03\xe8\xff", "", 1007),
    RULE("close reason ends inside a character", "\x88\x83" ZERO "\x03\xe8\xc3", "", 1007),
    /* UTF-8 */
    RULE("text", "\x81\x86" ZERO "\xce\xba\xe1\xbd\xb9\x21", "text(\xce\xba\xe1\xbd\xb9!) ", 0),
    RULE("character over two fragments", "\x01\x81" ZERO "\xc3\x80\x81" ZERO "\xa9",
         "text(\xc3\xa9) ", 0),
    RULE("character over four fragments and a ping",
         "\x01\x81" ZERO "\xf0\0\x81" ZERO "\x9f\x89\x80" ZERO "\0\x81" ZERO "\x92\x80\x81" ZERO
         "\xa9",
         "ping() text(\xf0\x9f\x92\xa9) ", 0),
    RULE("first half of a character", "\x81\x81" ZERO "\xc3", "", 1007),
    RULE("first half of a character, then an empty fragment", "\x01\x81" ZERO "\xc3\x80\x80" ZERO,
         "", 1007),
    RULE("second half of a character", "\x81\x81" ZERO "\xa9", "", 1007),
    RULE("overlong form", "\x81\x82" ZERO "\xc0\xaf", "", 1007),
    RULE("surrogate", "\x81\x83" ZERO "\xed\xa0\x80", "", 1007),
    RULE("beyond U+10FFFF", "\x81\x84" ZERO "\xf4\x90\x80\x80", "", 1007),
    RULE("bad text in a later fragment", "\x01\x81" ZERO "a\x80\x81" ZERO "\xff", "", 1007),
    RULE("bad text behind good text", "\x81\x81" ZERO "a\x81\x81" ZERO "\xff", "text(a) ", 1007),
    RULE("binary is no text", "\x82\x82" ZERO "\xff\xc3", "binary(\xff\xc3) ", 0),
    /* what is not complete says nothing yet */
    RULE("nothing", "", "", 0),
    RULE("one byte", "\x81", "", 0),
    RULE("header without its mask", "\x81\x80\0\0\0", "", 0),
    RULE("payload but for a byte", "\x81\x85" ZERO "Hell", "", 0),
    RULE("message but for a fragment", "\x01\x85" ZERO "Hello", "", 0),
    RULE("ping but for a byte", "\x89\x85" ZERO "Hell", "", 0),
};

static void wsframe_every_rule_holds_in_any_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        print_message("%s\n", rules[i].name);
        assert_stream(rules[i].stream, 128, peal_span_of(rules[i].log), rules[i].code);
    }
}

static void wsframe_close_codes_are_taken_or_refused(void **state)
{
    (void)state;
    static const struct {
        unsigned from, to;
        bool good;
    } ranges[] = {
        {0, 999, false},     {1000, 1003, true}, {1004, 1006, false},       {1007, 1014, true},
        {1015, 2999, false}, {3000, 4999, true}, {5000, UINT16_MAX, false},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        for (unsigned code = ranges[i].from; code <= ranges[i].to; code++) {
            char log[32];
            struct seen seen = {0};
            struct peal_buf stream = {0};
            char payload[2] = {(char)(code >> 8), (char)(code & 0xff)};
            add_frame(&stream, 0x88, peal_span_make(payload, 2));
            feed_cut(peal_buf_span(&stream), 128, NULL, 0, &seen);
            snprintf(log, sizeof log, "close%u() ", code);
            assert_int_equal(seen.code, ranges[i].good ? 0 : 1002);
            assert_true(peal_span_is(peal_buf_span(&seen.log), ranges[i].good ? log : ""));
            seen_fini(&seen);
            peal_buf_fini(&stream);
        }
    }
}

/* ---- sizes ------------------------------------------------------------------------------- */

static void wsframe_sizes_up_to_the_limit_are_taken(void **state)
{
    (void)state;
    enum { MAX = 70000 };
    static const size_t sizes[] = {0, 1, 125, 126, 127, 65535, 65536, MAX - 1, MAX, MAX + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct peal_buf payload = {0};
        struct peal_buf stream = {0};
        struct peal_buf log = {0};
        for (size_t k = 0; k < sizes[i]; k++)
            peal_buf_add_char(&payload, (char)(k * 7 + k / 251));
        add_frame(&stream, 0x82, peal_buf_span(&payload));
        if (sizes[i] <= MAX) {
            peal_buf_add_text(&log, "binary(");
            peal_buf_add_span(&log, peal_buf_span(&payload));
            peal_buf_add_text(&log, ") ");
        }
        assert_stream(peal_buf_span(&stream), MAX, peal_buf_span(&log), sizes[i] <= MAX ? 0 : 1009);
        peal_buf_fini(&payload);
        peal_buf_fini(&stream);
        peal_buf_fini(&log);
    }
}

static void wsframe_above_the_limit_is_refused_before_its_bytes(void **state)
{
    (void)state;
    struct peal_ws_parser p;
    struct seen seen = {0};
    char header[] = "\x82\xff\0\0\x01\0\0\0\0\0" ZERO;
    peal_ws_parser_init(&p, 65536);
    assert_int_equal(feed(&p, header, sizeof header - 1, &seen), 1009);
    assert_null(p.data.at);
    assert_int_equal(seen.frames, 0);
    peal_ws_parser_fini(&p);
}

static void wsframe_announced_bytes_cost_nothing_until_they_arrive(void **state)
{
    (void)state;
    struct peal_ws_parser p;
    struct seen seen = {0};
    char bytes[] = "\x82\xff\0\0\0\0\0\x40\0\0" ZERO "some bytes of 4 MiB";
    peal_ws_parser_init(&p, 4 << 20);
    assert_int_equal(feed(&p, bytes, sizeof bytes - 1, &seen), 0);
    assert_true(p.data.capacity < 4096);
    assert_true(peal_ws_in_message(&p));
    peal_ws_parser_fini(&p);
}

/* ---- fragments --------------------------------------------------------------------------- */

static void wsframe_fragments_up_to_the_limit_make_a_message(void **state)
{
    (void)state;
    struct peal_buf stream = {0};
    struct peal_buf log = {0};
    peal_buf_add_text(&log, "text(");
    for (int i = 0; i < PEAL_FRAGMENTS_MAX; i++) {
        add_text_frame(&stream, i == 0 ? 0x01 : i < PEAL_FRAGMENTS_MAX - 1 ? 0 : 0x80, "x");
        peal_buf_add_char(&log, 'x');
    }
    peal_buf_add_text(&log, ") ");
    assert_stream(peal_buf_span(&stream), 128, peal_buf_span(&log), 0);
    peal_buf_fini(&stream);
    peal_buf_fini(&log);
}

static void wsframe_100000_empty_fragments_end_with_1008_at_the_limit(void **state)
{
    (void)state;
    struct peal_buf stream = {0};
    struct seen seen = {0};
    for (int i = 0; i < 100000; i++)
        add_text_frame(&stream, i == 0 ? 0x02 : 0, "");
    feed_cut(peal_buf_span(&stream), 128, NULL, 0, &seen);
    assert_int_equal(seen.code, 1008);
    assert_int_equal(seen.frames, PEAL_FRAGMENTS_MAX);
    assert_int_equal(seen.log.size, 0);
    peal_buf_fini(&stream);
    seen_fini(&seen);
}

static void wsframe_control_frames_are_no_fragments(void **state)
{
    (void)state;
    struct peal_buf stream = {0};
    struct seen seen = {0};
    add_text_frame(&stream, 0x01, "a");
    for (int i = 0; i < 3 * PEAL_FRAGMENTS_MAX; i++)
        add_text_frame(&stream, 0x8a, "");
    add_text_frame(&stream, 0x80, "b");
    feed_cut(peal_buf_span(&stream), 128, NULL, 0, &seen);
    assert_int_equal(seen.code, 0);
    assert_int_equal(seen.frames, 3 * PEAL_FRAGMENTS_MAX + 2);
    assert_true(peal_span_is(peal_span_make(seen.log.at + seen.log.size - 9, 9), "text(ab) "));
    peal_buf_fini(&stream);
    seen_fini(&seen);
}

/* ---- the rest of the contract ------------------------------------------------------------ */

static void wsframe_whole_in_one_read_is_handed_out_where_it_lies(void **state)
{
    (void)state;
    struct peal_ws_parser p;
    struct peal_buf stream = {0};
    struct seen seen = {0};
    add_text_frame(&stream, 0x81, "one");
    add_text_frame(&stream, 0x89, "two");
    add_text_frame(&stream, 0x01, ""); /* an empty fragment puts nothing aside */
    add_text_frame(&stream, 0x80, "three");
    peal_ws_parser_init(&p, 128);
    assert_int_equal(feed(&p, stream.at, stream.size, &seen), 0);
    assert_int_equal(seen.in_place, 3);
    assert_null(p.data.at);
    assert_null(p.control.at);
    peal_ws_parser_fini(&p);
    peal_buf_fini(&stream);
    seen_fini(&seen);
}

static void wsframe_split_message_is_freed_once_it_was_handed_out(void **state)
{
    (void)state;
    struct peal_ws_parser p;
    struct peal_buf stream = {0};
    struct seen seen = {0};
    add_text_frame(&stream, 0x81, "a message in two reads");
    peal_ws_parser_init(&p, 128);
    assert_int_equal(feed(&p, stream.at, 12, &seen), 0);
    assert_non_null(p.data.at);
    assert_true(peal_ws_in_message(&p));
    assert_int_equal(feed(&p, stream.at + 12, stream.size - 12, &seen), 0);
    assert_null(p.data.at);
    assert_false(peal_ws_in_message(&p));
    assert_int_equal(seen.in_place, 0);
    assert_int_equal(seen.frames, 1);
    peal_ws_parser_fini(&p);
    peal_buf_fini(&stream);
    seen_fini(&seen);
}

static void wsframe_in_message_from_the_first_byte_to_the_last(void **state)
{
    (void)state;
    struct peal_ws_parser p;
    struct peal_buf stream = {0};
    struct seen seen = {0};
    add_text_frame(&stream, 0x01, "ab");
    add_text_frame(&stream, 0x89, "");
    add_text_frame(&stream, 0x80, "");
    peal_ws_parser_init(&p, 128);
    assert_false(peal_ws_in_message(&p));
    for (size_t i = 0; i < stream.size; i++) {
        assert_int_equal(feed(&p, stream.at + i, 1, &seen), 0);
        assert_int_equal(peal_ws_in_message(&p), i + 1 < stream.size);
    }
    assert_int_equal(feed(&p, NULL, 0, &seen), 0);
    peal_ws_parser_fini(&p);
    peal_buf_fini(&stream);
    seen_fini(&seen);
}

static void wsframe_callback_that_says_stop_is_the_last_one(void **state)
{
    (void)state;
    static const unsigned firsts[] = {0x81, 0x89, 0x8a};
    for (size_t i = 0; i < 3; i++) {
        struct peal_ws_parser p;
        struct peal_buf stream = {0};
        struct seen seen = {.stop_after = 1};
        add_text_frame(&stream, firsts[i], "a");
        add_text_frame(&stream, 0x81, "b");
        peal_ws_parser_init(&p, 128);
        assert_int_equal(feed(&p, stream.at, stream.size, &seen), 0);
        assert_int_equal(seen.frames, 1);
        assert_int_equal(seen.log.size, 8); /* text(a), ping(a) or pong(a) */
        char more[] = "\x83\x80";
        assert_int_equal(feed(&p, more, 2, &seen), 0);
        assert_int_equal(seen.frames, 1);
        peal_ws_parser_fini(&p);
        peal_buf_fini(&stream);
        seen_fini(&seen);
    }
}

static void wsframe_error_is_said_once_and_frees_what_was_put_aside(void **state)
{
    (void)state;
    struct peal_ws_parser p;
    struct seen seen = {0};
    char begun[] = "\x01\x81" ZERO "a";
    char wrong[] = "\x81\x81" ZERO "b";
    char fine[] = "\x81\x81" ZERO "c";
    peal_ws_parser_init(&p, 128);
    assert_int_equal(feed(&p, begun, sizeof begun - 1, &seen), 0);
    assert_non_null(p.data.at);
    assert_int_equal(feed(&p, wrong, sizeof wrong - 1, &seen), 1002);
    assert_null(p.data.at);
    assert_int_equal(feed(&p, fine, sizeof fine - 1, &seen), 0);
    assert_int_equal(seen.log.size, 0);
    peal_ws_parser_fini(&p);
}

static void wsframe_without_memory_for_a_split_message_ends_with_1011(void **state)
{
    (void)state;
    struct peal_ws_parser p;
    struct seen seen = {0};
    char begun[] = "\x01\x81" ZERO "a";
    peal_ws_parser_init(&p, 128);
    p.data.failed = true; /* as peal_buf_reserve leaves it */
    assert_int_equal(feed(&p, begun, sizeof begun - 1, &seen), 1011);
    peal_ws_parser_fini(&p);
}

/* A message in random fragments with control frames between them; log grows by what is due. */
static void add_random_message(struct peal_buf *stream, struct peal_buf *log)
{
    struct peal_buf message = {0};
    bool text = random_below(2) == 0;
    size_t fragments = 1 + (random_below(3) == 0 ? random_below(5) : 0);
    for (size_t i = 0; i < fragments; i++) {
        struct peal_buf part = {0};
        size_t size = random_below(8) == 0 ? random_below(300) : random_below(20);
        for (size_t k = 0; k < size; k++)
            peal_buf_add_char(&part, (char)(text ? 'a' + random_below(26) : random_below(256)));
        unsigned opcode = i > 0 ? 0 : text ? 1 : 2;
        add_frame(stream, opcode | (i + 1 == fragments ? 0x80U : 0), peal_buf_span(&part));
        peal_buf_add_span(&message, peal_buf_span(&part));
        if (i + 1 < fragments && random_below(2) == 0) {
            add_text_frame(stream, 0x89, "between");
            peal_buf_add_text(log, "ping(between) ");
        }
        peal_buf_fini(&part);
    }
    peal_buf_add_text(log, text ? "text(" : "binary(");
    peal_buf_add_span(log, peal_buf_span(&message));
    peal_buf_add_text(log, ") ");
    peal_buf_fini(&message);
}

static void wsframe_random_streams_are_read_back_in_any_split(void **state)
{
    (void)state;
    for (int round = 0; round < 150; round++) {
        struct peal_buf stream = {0};
        struct peal_buf log = {0};
        for (size_t i = 0, count = 1 + random_below(6); i < count; i++)
            add_random_message(&stream, &log);
        assert_stream(peal_buf_span(&stream), 1500, peal_buf_span(&log), 0);
        peal_buf_fini(&stream);
        peal_buf_fini(&log);
    }
}

/* ---- to the client ----------------------------------------------------------------------- */

static void assert_frame(int opcode, struct peal_span payload, const void *bytes, size_t size)
{
    struct peal_buf out = {0};
    peal_ws_add_frame(&out, opcode, payload);
    assert_int_equal(out.size, size);
    assert_memory_equal(out.at, bytes, size);
    peal_buf_fini(&out);
}

static void assert_close(uint16_t code, const char *reason, const void *bytes, size_t size)
{
    struct peal_buf out = {0};
    peal_ws_add_close(&out, code, reason);
    assert_int_equal(out.size, size);
    assert_memory_equal(out.at, bytes, size);
    peal_buf_fini(&out);
}

static void frame_appended_in_pieces_is_the_same_as_in_one(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 125, 126, 127, 65535, 65536, 70000};
    char *payload = calloc(1, 70000);
    assert_non_null(payload);
    for (size_t i = 0; i < 70000; i++)
        payload[i] = (char)(i % 251);
    struct peal_buf whole = {0};
    struct peal_buf pieces = {0};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) { /* one behind the other */
        peal_ws_add_frame(&whole, PEAL_WS_TEXT, peal_span_make(payload, sizes[i]));
        size_t begin = peal_ws_begin(&pieces);
        peal_buf_add(&pieces, payload, sizes[i] / 2);
        peal_buf_add(&pieces, payload + sizes[i] / 2, sizes[i] - sizes[i] / 2);
        peal_ws_end(&pieces, begin, PEAL_WS_TEXT);
    }
    assert_int_equal(pieces.size, whole.size);
    assert_memory_equal(pieces.at, whole.at, whole.size);
    peal_buf_fini(&whole);
    peal_buf_fini(&pieces);
    free(payload);
}

static void frame_is_that_of_the_rfc(void **state)
{
    (void)state;
    assert_frame(PEAL_WS_TEXT, peal_span_of("Hello"), "\x81\x05Hello", 7);
    assert_frame(PEAL_WS_PING, peal_span_of("Hello"), "\x89\x05Hello", 7);
    assert_frame(PEAL_WS_BINARY, peal_span_of(NULL), "\x82\0", 2);
}

static void header_has_the_shortest_length(void **state)
{
    (void)state;
    static const struct {
        size_t payload;
        size_t size;
        const char *bytes;
    } cases[] = {
        {0, 2, "\x82\0"},
        {125, 2, "\x82\x7d"},
        {126, 4, "\x82\x7e\0\x7e"},
        {256, 4, "\x82\x7e\x01\0"},
        {65535, 4, "\x82\x7e\xff\xff"},
        {65536, 10, "\x82\x7f\0\0\0\0\0\x01\0\0"},
        {0x123456789a, 10, "\x82\x7f\0\0\0\x12\x34\x56\x78\x9a"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t out[PEAL_WS_HEADER_MAX];
        assert_int_equal(peal_ws_header(out, PEAL_WS_BINARY, cases[i].payload), cases[i].size);
        assert_memory_equal(out, cases[i].bytes, cases[i].size);
    }
}

static void close_frame_has_code_and_reason(void **state)
{
    (void)state;
    assert_close(1000, "", "\x88\x02\x03\xe8", 4);
    assert_close(4208, "slow", "\x88\x06\x10\x70slow", 8);
    assert_close(1005, "not said", "\x88\0", 2);
}

static void close_frame_cuts_its_reason_at_a_character(void **state)
{
    (void)state;
    static const struct {
        size_t letters; /* before the tail */
        const char *tail;
        size_t kept;
    } cases[] = {
        {123, "", 123},
        {124, "", 123},
        {121, "\xc3\xa9", 123},
        {122, "\xc3\xa9", 122},
        {120, "\xf0\x9f\x92\xa9", 120},
        {122, "\xf0\x9f\x92\xa9zz", 122},
        {119, "\xf0\x9f\x92\xa9zz", 123},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char reason[160];
        memset(reason, 'a', sizeof reason);
        strcpy(reason + cases[i].letters, cases[i].tail);
        struct peal_buf frame = {0};
        peal_ws_add_close(&frame, 1001, reason);
        assert_int_equal(frame.size, 4 + cases[i].kept);
        assert_int_equal((unsigned char)frame.at[1], 2 + cases[i].kept);
        assert_memory_equal(frame.at + 4, reason, cases[i].kept);
        peal_buf_fini(&frame);
    }
}

static void accept_is_that_of_the_rfc(void **state)
{
    (void)state;
    char out[29];
    peal_ws_accept(peal_span_of("dGhlIHNhbXBsZSBub25jZQ=="), out);
    assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

int main(void)
{
    test_seed = (unsigned)time(NULL);
    printf("seed %u\n", test_seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wsframe_every_rule_holds_in_any_split),
        cmocka_unit_test(wsframe_close_codes_are_taken_or_refused),
        cmocka_unit_test(wsframe_sizes_up_to_the_limit_are_taken),
        cmocka_unit_test(wsframe_above_the_limit_is_refused_before_its_bytes),
        cmocka_unit_test(wsframe_announced_bytes_cost_nothing_until_they_arrive),
        cmocka_unit_test(wsframe_fragments_up_to_the_limit_make_a_message),
        cmocka_unit_test(wsframe_100000_empty_fragments_end_with_1008_at_the_limit),
        cmocka_unit_test(wsframe_control_frames_are_no_fragments),
        cmocka_unit_test(wsframe_whole_in_one_read_is_handed_out_where_it_lies),
        cmocka_unit_test(wsframe_split_message_is_freed_once_it_was_handed_out),
        cmocka_unit_test(wsframe_in_message_from_the_first_byte_to_the_last),
        cmocka_unit_test(wsframe_callback_that_says_stop_is_the_last_one),
        cmocka_unit_test(wsframe_error_is_said_once_and_frees_what_was_put_aside),
        cmocka_unit_test(wsframe_without_memory_for_a_split_message_ends_with_1011),
        cmocka_unit_test(wsframe_random_streams_are_read_back_in_any_split),
        cmocka_unit_test(frame_is_that_of_the_rfc),
        cmocka_unit_test(frame_appended_in_pieces_is_the_same_as_in_one),
        cmocka_unit_test(header_has_the_shortest_length),
        cmocka_unit_test(close_frame_has_code_and_reason),
        cmocka_unit_test(close_frame_cuts_its_reason_at_a_character),
        cmocka_unit_test(accept_is_that_of_the_rfc),
    };
    return cmocka_run_group_tests_name("wsframe", tests, NULL, NULL);
}

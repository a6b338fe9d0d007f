#include "storage/dump_line.h"

#include <string.h>

#include "tests/unit/unit.h"

static struct peal_dump_room room;
static char why[200];

static int room_teardown(void **state)
{
    (void)state;
    peal_dump_room_fini(&room);
    return 0;
}

/* Encodes and decodes; the text is in `text`, without the end of the line. */
static enum peal_err there_and_back(const struct peal_dump_line *line, struct peal_buf *text,
                                    struct peal_dump_line *out)
{
    text->size = 0;
    peal_dump_encode(line, text);
    assert_false(text->failed);
    assert_int_equal(text->at[--text->size], '\n');
    assert_null(memchr(text->at, '\n', text->size));
    return peal_dump_decode(peal_buf_span(text), &room, out, why, sizeof why);
}

static enum peal_err decode(const char *text)
{
    struct peal_dump_line line;
    return peal_dump_decode(peal_span_of(text), &room, &line, why, sizeof why);
}

static void dump_line_header_comes_back(void **state)
{
    (void)state;
    struct peal_buf text = {0};
    struct peal_dump_line out;
    struct peal_dump_line line = {.kind = PEAL_DUMP_HEADER,
                                  .version = PEAL_DUMP_VERSION,
                                  .generation = 77,
                                  .made_ms = 5,
                                  .has_slots = true,
                                  .slots = {"\x00\xff", 2}};
    assert_int_equal(there_and_back(&line, &text, &out), PEAL_OK);
    assert_int_equal(out.kind, PEAL_DUMP_HEADER);
    assert_int_equal(out.generation, 77);
    assert_true(out.has_slots);
    assert_int_equal(out.slots.size, 2);
    assert_memory_equal(out.slots.at, "\x00\xff", 2);
    peal_buf_fini(&text);
}

static void dump_line_message_keeps_every_byte(void **state)
{
    (void)state;
    static const struct peal_span payloads[] = {
        {"{\"a\": 1e2,\n \"b\":\"\\u2028\"}", 25}, {"\x00\x01", 2}, {"\xff\xfe", 2}, {"", 0}};
    struct peal_buf text = {0};
    struct peal_dump_line out;
    for (size_t i = 0; i < sizeof payloads / sizeof payloads[0]; i++) {
        struct peal_dump_line line = {.kind = PEAL_DUMP_MESSAGE,
                                      .stored_ms = 8,
                                      .expires_ms = 9,
                                      .env = {.id = peal_span_of("id \"1\""),
                                              .offset = 3,
                                              .ts_ms = 7,
                                              .event = peal_span_of("e"),
                                              .from = peal_span_of("\xc3\xbc"),
                                              .ttl_ms = 2,
                                              .collapse = peal_span_of("k"),
                                              .flags = PEAL_MSG_ID_GIVEN,
                                              .data_kind = PEAL_DATA_BINARY,
                                              .data = payloads[i]}};
        assert_int_equal(there_and_back(&line, &text, &out), PEAL_OK);
        assert_int_equal(out.kind, PEAL_DUMP_MESSAGE);
        assert_int_equal(out.stored_ms, 8);
        assert_int_equal(out.expires_ms, 9);
        assert_true(peal_span_is(out.env.id, "id \"1\""));
        assert_int_equal(out.env.offset, 3);
        assert_int_equal(out.env.ts_ms, 7);
        assert_true(peal_span_is(out.env.event, "e"));
        assert_true(peal_span_is(out.env.from, "\xc3\xbc"));
        assert_int_equal(out.env.ttl_ms, 2);
        assert_true(peal_span_is(out.env.collapse, "k"));
        assert_int_equal(out.env.flags, PEAL_MSG_ID_GIVEN);
        assert_int_equal(out.env.data_kind, PEAL_DATA_BINARY);
        assert_true(peal_span_equal(out.env.data, payloads[i]));
    }
    peal_buf_fini(&text);
}

static void dump_line_head_has_its_marks_as_ranges(void **state)
{
    (void)state;
    struct peal_buf text = {0};
    struct peal_inbox inbox;
    struct peal_dump_line out;
    peal_inbox_init(&inbox, 9);
    peal_inbox_become(&inbox, &(struct peal_numbers){.gid = 4,
                                                     .epoch = 9,
                                                     .ver = 3,
                                                     .next = 200,
                                                     .first = 100,
                                                     .lost_to = 50,
                                                     .rev = 6,
                                                     .last_mark_ms = 11,
                                                     .kept = 100});
    assert_int_equal(peal_inbox_reserve(&inbox, 200), PEAL_OK);
    peal_inbox_set(&inbox, false, 100, 101);
    peal_inbox_set(&inbox, true, 199, 199);
    peal_dump_encode_head(peal_span_of("user:a"), &inbox, &text);
    text.size--;
    assert_int_equal(peal_dump_decode(peal_buf_span(&text), &room, &out, why, sizeof why), PEAL_OK);
    assert_int_equal(out.kind, PEAL_DUMP_GROUP);
    assert_true(peal_span_is(out.group, "user:a"));
    assert_int_equal(out.numbers.epoch, 9);
    assert_int_equal(out.numbers.next, 200);
    assert_int_equal(out.numbers.first, 100);
    assert_int_equal(out.numbers.lost_to, 50);
    assert_int_equal(out.numbers.rev, 6);
    assert_int_equal(out.numbers.last_mark_ms, 11);
    assert_int_equal(out.delivered_count, 2);
    assert_int_equal(out.delivered[0].from, 100);
    assert_int_equal(out.delivered[0].to, 101);
    assert_int_equal(out.delivered[1].from, 199);
    assert_int_equal(out.read_count, 1);
    assert_int_equal(out.read[0].to, 199);
    peal_inbox_fini(&inbox);
    peal_buf_fini(&text);
}

static void dump_line_that_is_wrong_says_what(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *why;
    } wrong[] = {
        {"{\"peal_dump\":2,\"generation\":1,\"made_ms\":1}", "\"peal_dump\""},
        {"{\"peal_dump\":1,\"made_ms\":1}", "\"generation\" is missing"},
        {"{\"peal_dump\":1,\"generation\":1,\"made_ms\":1,\"slots\":\"?\"}", "\"slots\""},
        {"{\"end\":true,\"groups\":1}", "\"messages\" is missing"},
        {"{\"offset\":1,\"stored_ms\":1,\"ts_ms\":1,\"kind\":\"text\",\"data\":\"\"}", "\"id\""},
        {"{\"offset\":1,\"stored_ms\":1,\"ts_ms\":1,\"kind\":\"x\",\"id\":\"1\"}", "\"kind\""},
        {"{\"group\":\"a\",\"epoch\":1,\"next\":1,\"first\":2,\"lost_to\":0,\"rev\":0,"
         "\"last_mark_ms\":0,\"delivered\":[],\"read\":[]}",
         "\"first\""},
        {"{\"group\":\"a\",\"epoch\":1,\"next\":3,\"first\":1,\"lost_to\":0,\"rev\":0,"
         "\"last_mark_ms\":0,\"delivered\":[[2,1]],\"read\":[]}",
         "\"delivered\""},
        {"{\"group\":\"\",\"epoch\":1,\"next\":3,\"first\":1,\"lost_to\":0,\"rev\":0,"
         "\"last_mark_ms\":0,\"delivered\":[],\"read\":[]}",
         "\"group\""},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(decode(wrong[i].text), PEAL_EBAD_FIELD);
        if (strstr(why, wrong[i].why) == NULL) fail_msg("%s: %s", wrong[i].text, why);
    }
    assert_int_equal(decode("{\"end\":"), PEAL_EBAD_JSON);
    assert_int_equal(decode("[]"), PEAL_EBAD_JSON);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dump_line_header_comes_back),
        cmocka_unit_test(dump_line_message_keeps_every_byte),
        cmocka_unit_test(dump_line_head_has_its_marks_as_ranges),
        cmocka_unit_test(dump_line_that_is_wrong_says_what),
    };
    return cmocka_run_group_tests(tests, NULL, room_teardown);
}

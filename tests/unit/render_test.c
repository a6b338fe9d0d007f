#include "proto/render.h"

#include "proto/envelope.h"
#include "tests/unit/unit.h"

static void expect(struct peal_buf *out, const char *text)
{
    assert_false(out->failed);
    if (!peal_span_is(peal_buf_span(out), text))
        fail_msg("%.*s, not %s", (int)out->size, out->at, text);
    peal_buf_fini(out);
}

static void render_values_stand_behind_their_names(void **state)
{
    (void)state;
    struct peal_buf out = {0};
    peal_render_u64(&out, "{\"n\":", UINT64_MAX);
    peal_render_string(&out, ",\"s\":", peal_span_of("a\"\n"));
    peal_render_epoch(&out, ",\"e\":", 0xabc);
    expect(&out, "{\"n\":18446744073709551615,\"s\":\"a\\\"\\n\",\"e\":\"abc\"");
}

static void render_string_that_is_absent_says_nothing(void **state)
{
    (void)state;
    struct peal_buf out = {0};
    peal_render_string(&out, "\"s\":", (struct peal_span){0});
    assert_int_equal(out.size, 0);
    peal_render_string(&out, "\"s\":", peal_span_of(""));
    expect(&out, "\"s\":\"\"");
}

static void render_message_shows_data_by_its_kind(void **state)
{
    (void)state;
    struct peal_buf out = {0};
    struct peal_envelope env = {
        .offset = 3, .id = peal_span_of("m"), .data = peal_span_of("{ \"n\":1e2}"), .ts_ms = 5};
    peal_render_message(&out, &env);
    expect(&out, "\"offset\":3,\"id\":\"m\",\"data\":{ \"n\":1e2},\"ts\":5");
    env.event = peal_span_of("e");
    env.from = peal_span_of("ann");
    env.data = peal_span_of("a\"");
    env.data_kind = PEAL_DATA_TEXT;
    peal_render_message(&out, &env);
    expect(&out, "\"offset\":3,\"id\":\"m\",\"event\":\"e\",\"kind\":\"text\",\"data\":\"a\\\"\","
                 "\"from\":\"ann\",\"ts\":5");
    env = (struct peal_envelope){.offset = 4, .id = peal_span_of("m"), .ts_ms = 6};
    env.data = peal_span_make("\xff\0", 2);
    env.data_kind = PEAL_DATA_BINARY;
    peal_render_message(&out, &env);
    expect(&out, "\"offset\":4,\"id\":\"m\",\"kind\":\"binary\",\"data\":\"/wA=\",\"ts\":6");
}

static void add_entry(struct peal_buf *out, uint64_t offset, uint64_t flags)
{
    struct peal_buf envelope = {0};
    struct peal_envelope env = {.group = peal_span_of("g"),
                                .id = peal_span_of("m"),
                                .epoch = 1,
                                .offset = offset,
                                .data = peal_span_of("1")};
    peal_envelope_encode(&env, &envelope);
    struct peal_frame message = {
        .type = PEAL_F_MESSAGE, .envelope = peal_buf_span(&envelope), .flags = flags};
    peal_frame_encode(&message, out);
    peal_buf_fini(&envelope);
}

static void render_page_has_messages_only_and_says_the_oldest(void **state)
{
    (void)state;
    struct peal_buf bytes[4] = {0};
    struct peal_span entries[5];
    struct peal_buf out = {0};
    struct peal_frame gap = {.type = PEAL_F_GAP, .group = peal_span_of("g"), .from = 8, .to = 8};
    add_entry(&bytes[0], 9, PEAL_FLAG_READ); /* who has read it has had it */
    peal_frame_encode(&gap, &bytes[1]);
    add_entry(&bytes[2], 7, PEAL_FLAG_ACKED);
    add_entry(&bytes[3], 6, 0);
    for (size_t i = 0; i < 4; i++)
        entries[i] = peal_buf_span(&bytes[i]);
    entries[4] = peal_span_of("junk");
    struct peal_frame page = {.type = PEAL_F_PAGE, .entries = {entries, 5}};
    assert_int_equal(peal_render_page(&out, &page), 6);
    expect(&out,
           "[{\"offset\":9,\"id\":\"m\",\"data\":1,\"ts\":0,\"read\":true,\"delivered\":true},"
           "{\"offset\":7,\"id\":\"m\",\"data\":1,\"ts\":0,\"read\":false,\"delivered\":true},"
           "{\"offset\":6,\"id\":\"m\",\"data\":1,\"ts\":0,\"read\":false,\"delivered\":false}]");
    page.entries.count = 0;
    assert_int_equal(peal_render_page(&out, &page), 0);
    expect(&out, "[]");
    for (size_t i = 0; i < 4; i++)
        peal_buf_fini(&bytes[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(render_values_stand_behind_their_names),
        cmocka_unit_test(render_string_that_is_absent_says_nothing),
        cmocka_unit_test(render_message_shows_data_by_its_kind),
        cmocka_unit_test(render_page_has_messages_only_and_says_the_oldest),
    };
    return cmocka_run_group_tests_name("render", tests, NULL, NULL);
}

/* Decoding is judged by what the connection then does: an error that names the field, or an order
 * with the field's value in it. */
#include "node/dialect/dialect.h"

#include <stdio.h>

#include "proto/envelope.h"
#include "tests/unit/hub_rig.h"

static const char yaml[] = "groups:\n"
                           "  - {match: 'user:{id}', durable: true, publish: anyone}\n"
                           "  - {match: '*', join: anyone, publish: anyone}\n";

static struct peal_config_route native = {
    .path = "/", .dialect = PEAL_DIALECT_NATIVE, .identity = PEAL_IDENTITY_URL};

struct world {
    struct rig *rig;
    struct peal_conn conn;
};

/* A connection of bob that has said nothing yet. */
static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    w->rig = rig_open(yaml);
    rig_connect(w->rig, &w->conn, &native, "bob");
    *state = w;
    return 0;
}

static int setup_welcomed(void **state)
{
    setup(state);
    struct world *w = *state;
    rig_say(&w->conn, "{\"type\":\"hello\"}");
    rig_joined(w->rig, "user:bob", 7, 0, PEAL_FLAG_KEEPS);
    rig_expect_part(w->rig, &w->conn, "\"welcome\"");
    rig_forget(w->rig);
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    peal_conn_fini(&w->conn);
    rig_close(w->rig);
    free(w);
    return 0;
}

/* ---- decoding ---------------------------------------------------------------------------- */

struct bad {
    const char *frame;
    const char *code;
    const char *message; /* how it begins */
};

static void expect_error(struct world *w, const struct bad *bad)
{
    char part[128];
    w->conn.bad_count = 0; /* so that many fit on one connection */
    rig_say(&w->conn, bad->frame);
    snprintf(part, sizeof part, "\"code\":\"%s\",\"message\":\"%s", bad->code, bad->message);
    rig_take(w->rig, &w->conn);
    if (w->rig->taken == NULL || strstr(w->rig->taken->at, part) == NULL)
        fail_msg("%s: %s, not %s", bad->frame, w->rig->taken == NULL ? "" : w->rig->taken->at,
                 part);
    assert_int_equal(peal_json_check(peal_span_of(w->rig->taken->at), NULL, 0), PEAL_OK);
    rig_expect_nothing(w->rig, &w->conn);
    assert_int_equal(w->conn.bad_count, 1);
}

static void native_bad_frame_is_an_error_that_names_the_field(void **state)
{
    struct world *w = *state;
    static const struct bad bads[] = {
        {"", "bad_json", ""},
        {"{", "bad_json", ""},
        {"{} {}", "bad_json", ""},
        {"{\"type\":\"ping\",\"type\":\"ping\"}", "bad_json", ""},
        {"[]", "bad_message", "a command "},
        {"\"ping\"", "bad_message", "a command "},
        {"{}", "missing_field", "type "},
        {"{\"type\":1}", "bad_field", "type "},
        {"{\"type\":\"\"}", "bad_field", "type "},
        {"{\"type\":\"Ping\"}", "unknown_type", "type "},
        {"{\"type\":\"ping\",\"id\":{}}", "bad_field", "id "},
        {"{\"type\":\"ping\",\"id\":[1]}", "bad_field", "id "},
        {"{\"type\":\"join\"}", "missing_field", "group "},
        {"{\"type\":\"join\",\"group\":null}", "missing_field", "group "},
        {"{\"type\":\"join\",\"group\":7}", "bad_group", "group "},
        {"{\"type\":\"join\",\"group\":\"\"}", "bad_group", "group "},
        {"{\"type\":\"join\",\"group\":\"a\\u0000\"}", "bad_group", "group "},
        {"{\"type\":\"join\",\"group\":\"a\\n\"}", "bad_group", "group "},
        {"{\"type\":\"join\",\"group\":\"a\",\"since\":7}", "bad_field", "since "},
        {"{\"type\":\"join\",\"group\":\"a\",\"since\":[\"7\"]}", "bad_field", "since "},
        {"{\"type\":\"join\",\"group\":\"a\",\"since\":[7,1]}", "bad_field", "since "},
        {"{\"type\":\"join\",\"group\":\"a\",\"since\":[\"xyz\",1]}", "bad_field", "since "},
        {"{\"type\":\"join\",\"group\":\"a\",\"since\":[\"7\",-1]}", "bad_field", "since "},
        {"{\"type\":\"join\",\"group\":\"a\",\"since\":[\"7\",1,2]}", "bad_field", "since "},
        {"{\"type\":\"join\",\"group\":\"a\",\"last\":\"5\"}", "bad_field", "last "},
        {"{\"type\":\"join\",\"group\":\"a\",\"last\":1.0}", "bad_field", "last "},
        {"{\"type\":\"join\",\"group\":\"a\",\"last\":9007199254740992}", "bad_field", "last "},
        {"{\"type\":\"leave\"}", "missing_field", "group "},
        {"{\"type\":\"leave\",\"group\":[]}", "bad_group", "group "},
        {"{\"type\":\"publish\",\"data\":1}", "missing_field", "group "},
        {"{\"type\":\"publish\",\"group\":\"a\"}", "missing_field", "data "},
        {"{\"type\":\"publish\",\"group\":\"a\",\"user\":\"b\",\"data\":1}", "bad_field", "user "},
        {"{\"type\":\"publish\",\"user\":\"\",\"data\":1}", "bad_group", "user "},
        {"{\"type\":\"publish\",\"group\":\"a\",\"data\":1,\"text\":\"x\"}", "bad_field", "text "},
        {"{\"type\":\"publish\",\"group\":\"a\",\"text\":5}", "bad_field", "text "},
        {"{\"type\":\"publish\",\"group\":\"a\",\"data_base64\":\"?\"}", "bad_field",
         "data_base64 "},
        {"{\"type\":\"publish\",\"group\":\"a\",\"data_base64\":5}", "bad_field", "data_base64 "},
        {"{\"type\":\"publish\",\"group\":\"a\",\"data\":1,\"event\":\"\"}", "bad_field", "event "},
        {"{\"type\":\"publish\",\"group\":\"a\",\"data\":1,\"event\":\"\\u0007\"}", "bad_field",
         "event "},
        {"{\"type\":\"publish\",\"group\":\"a\",\"data\":1,\"message_id\":1}", "bad_field",
         "message_id "},
        {"{\"type\":\"publish\",\"group\":\"a\",\"data\":1,\"message_id\":\"12345678901234567890"
         "123456789012345678901234567890123456789012345\"}",
         "bad_field", "message_id "},
        {"{\"type\":\"publish\",\"group\":\"a\",\"data\":1,\"collapse\":false}", "bad_field",
         "collapse "},
        {"{\"type\":\"publish\",\"group\":\"a\",\"data\":1,\"ttl_ms\":\"1\"}", "bad_field",
         "ttl_ms "},
        {"{\"type\":\"ack\"}", "missing_field", "upto "},
        {"{\"type\":\"ack\",\"upto\":0}", "missing_field", "upto "},
        {"{\"type\":\"ack\",\"all\":true}", "missing_field", "upto "}, /* only of read */
        {"{\"type\":\"ack\",\"offsets\":[]}", "missing_field", "upto "},
        {"{\"type\":\"ack\",\"upto\":\"1\"}", "bad_field", "upto "},
        {"{\"type\":\"ack\",\"offsets\":5}", "bad_field", "offsets "},
        {"{\"type\":\"ack\",\"offsets\":[1,\"2\"]}", "bad_field", "offsets "},
        {"{\"type\":\"read\"}", "missing_field", "upto "},
        {"{\"type\":\"read\",\"all\":false}", "missing_field", "upto "},
        {"{\"type\":\"read\",\"all\":1}", "bad_field", "all "},
        {"{\"type\":\"inbox\",\"before\":-1}", "bad_field", "before "},
        {"{\"type\":\"inbox\",\"limit\":1e2}", "bad_field", "limit "},
        {"{\"type\":\"inbox\",\"unread_only\":\"yes\"}", "bad_field", "unread_only "},
    };
    for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++)
        expect_error(w, &bads[i]);
    assert_int_equal(w->rig->order_count, 0);
}

static void native_bad_hello_is_an_error_that_names_the_field(void **state)
{
    struct world *w = *state;
    static const struct bad bads[] = {
        {"{\"type\":\"hello\",\"token\":1}", "bad_field", "token "},
        {"{\"type\":\"hello\",\"token\":\"\"}", "bad_field", "token "},
        {"{\"type\":\"hello\",\"device\":\"a\\tb\"}", "bad_field", "device "},
        {"{\"type\":\"hello\",\"groups\":\"a\"}", "bad_field", "groups "},
        {"{\"type\":\"hello\",\"groups\":[1]}", "bad_field", "groups "},
        {"{\"type\":\"hello\",\"resume\":[]}", "bad_field", "resume "},
        {"{\"type\":\"hello\",\"resume\":{\"inbox\":7}}", "bad_field", "resume "},
        {"{\"type\":\"hello\",\"resume\":{\"groups\":[]}}", "bad_field", "resume "},
        {"{\"type\":\"hello\",\"resume\":{\"groups\":{\"a\":1}}}", "bad_field", "resume "},
    };
    for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++)
        expect_error(w, &bads[i]);
    assert_false(w->conn.greeted);
    rig_say(&w->conn, "{\"type\":\"hello\",\"token\":null,\"device\":null,\"groups\":null,"
                      "\"resume\":{\"inbox\":null},\"of a newer version\":{}}");
    assert_true(w->conn.greeted);
}

static void native_binary_frame_is_no_command(void **state)
{
    struct world *w = *state;
    peal_conn_on_receive(&w->conn, false, peal_span_of("{\"type\":\"ping\"}"));
    rig_expect_part(w->rig, &w->conn, "\"code\":\"bad_message\"");
}

static void native_error_carries_the_id_whatever_else_is_wrong(void **state)
{
    struct world *w = *state;
    rig_say(&w->conn, "{\"type\":\"nothing\",\"id\":\"q\\u002f1\"}");
    rig_expect_part(w->rig, &w->conn, "{\"type\":\"error\",\"id\":\"q\\u002f1\",");
    rig_say(&w->conn, "{\"id\":1.50e1}");
    rig_expect_part(w->rig, &w->conn, "{\"type\":\"error\",\"id\":1.50e1,");
}

static const struct peal_frame *send_of(struct world *w, const char *frame)
{
    rig_forget(w->rig);
    rig_say(&w->conn, frame);
    rig_expect_nothing(w->rig, &w->conn);
    return rig_sent(w->rig);
}

static void native_hello_resumes_and_joins_each_group_once(void **state)
{
    struct world *w = *state;
    rig_say(&w->conn, "{\"type\":\"hello\",\"groups\":[\"b\",\"a\",\"b\"],"
                      "\"resume\":{\"inbox\":[\"7\",12],\"groups\":{\"a\":[\"8\",3]}}}");
    assert_int_equal(rig_orders(w->rig, PEAL_ORDER_JOIN, 0), 3);
    struct peal_member *a = peal_member_find(&w->conn, peal_span_of("a"));
    struct peal_member *b = peal_member_find(&w->conn, peal_span_of("b"));
    struct peal_member *inbox = peal_member_find(&w->conn, peal_span_of("user:bob"));
    assert_true(a->pursuit->has_since);
    assert_int_equal(a->pursuit->epoch, 8);
    assert_int_equal(a->pursuit->cursor, 3);
    assert_false(b->pursuit->has_since);
    assert_true(inbox->pursuit->has_since);
    assert_int_equal(inbox->pursuit->epoch, 7);
    assert_int_equal(inbox->pursuit->cursor, 12);
}

static void native_publish_takes_every_field(void **state)
{
    struct world *w = *state;
    struct peal_envelope env;
    const struct peal_frame *f = send_of(
        w,
        "{\"type\":\"publish\",\"id\":1,\"group\":\"a\",\"data\": {\"n\" : 1e2} ,\"event\":\"e\","
        "\"message_id\":\"m\",\"collapse\":\"c\",\"ttl_ms\":5}");
    assert_int_equal(f->type, PEAL_F_PUBLISH);
    assert_int_equal(peal_envelope_decode(f->entries.at[0], &env), PEAL_OK);
    assert_true(peal_span_is(env.group, "a"));
    assert_true(peal_span_is(env.data, "{\"n\" : 1e2}")); /* the very bytes */
    assert_int_equal(env.data_kind, PEAL_DATA_JSON);
    assert_true(peal_span_is(env.event, "e"));
    assert_true(peal_span_is(env.id, "m"));
    assert_true(peal_span_is(env.collapse, "c"));
    assert_true(peal_span_is(env.from, "bob"));
    assert_int_equal(env.ttl_ms, 5);
    assert_int_equal(env.flags, PEAL_MSG_ID_GIVEN);
}

static void native_publish_takes_null_text_and_bytes_as_data(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *frame;
        const char *data;
        enum peal_data_kind kind;
    } cases[] = {
        {"{\"type\":\"publish\",\"user\":\"eve\",\"data\":null}", "null", PEAL_DATA_JSON},
        {"{\"type\":\"publish\",\"user\":\"eve\",\"text\":\"a\\n\\u00e9\"}", "a\n\xc3\xa9",
         PEAL_DATA_TEXT},
        {"{\"type\":\"publish\",\"user\":\"eve\",\"text\":\"\"}", "", PEAL_DATA_TEXT},
        {"{\"type\":\"publish\",\"user\":\"eve\",\"data_base64\":\"/wE=\"}", "\xff\x01",
         PEAL_DATA_BINARY},
        {"{\"type\":\"publish\",\"user\":\"eve\",\"data_base64\":\"\"}", "", PEAL_DATA_BINARY},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peal_envelope env;
        const struct peal_frame *f = send_of(w, cases[i].frame);
        assert_int_equal(peal_envelope_decode(f->entries.at[0], &env), PEAL_OK);
        assert_true(peal_span_is(env.group, "user:eve"));
        assert_true(peal_span_is(env.data, cases[i].data));
        assert_int_equal(env.data_kind, cases[i].kind);
        assert_int_equal(env.flags, 0);
    }
}

static void native_marks_and_lists_become_frames(void **state)
{
    struct world *w = *state;
    const struct peal_frame *f = send_of(w, "{\"type\":\"ack\",\"offsets\":[4,6]}");
    assert_int_equal(f->type, PEAL_F_MARK);
    assert_int_equal(f->flags, PEAL_FLAG_ACK);
    assert_int_equal(f->offsets.count, 2);
    assert_int_equal(f->offsets.at[1], 6);
    f = send_of(w, "{\"type\":\"read\",\"upto\":9}");
    assert_int_equal(f->type, PEAL_F_MARK);
    assert_int_equal(f->flags, PEAL_FLAG_READ);
    assert_int_equal(f->upto, 9);
    f = send_of(w, "{\"type\":\"read\",\"all\":true}");
    assert_int_equal(f->flags, PEAL_FLAG_READ | PEAL_FLAG_ALL);
    f = send_of(w, "{\"type\":\"inbox\"}");
    assert_int_equal(f->type, PEAL_F_FETCH);
    assert_int_equal(f->flags, PEAL_FLAG_REVERSE);
    assert_int_equal(f->limit, 50);
    f = send_of(w, "{\"type\":\"inbox\",\"before\":30,\"limit\":100000,\"unread_only\":true}");
    assert_int_equal(f->flags, PEAL_FLAG_REVERSE | PEAL_FLAG_UNREAD);
    assert_int_equal(f->offset, 30);
    assert_int_equal(f->limit, PEAL_PAGE_MESSAGES);
}

static void native_ack_of_more_than_1024_offsets_is_refused(void **state)
{
    struct world *w = *state;
    struct peal_buf frame = {0};
    for (size_t count = PEAL_ACK_OFFSETS_MAX; count <= PEAL_ACK_OFFSETS_MAX + 1; count++) {
        frame.size = 0;
        peal_buf_add_text(&frame, "{\"type\":\"ack\",\"offsets\":[1");
        for (size_t i = 1; i < count; i++)
            peal_buf_add_text(&frame, ",1");
        peal_buf_add_text(&frame, "]}");
        peal_conn_on_receive(&w->conn, true, peal_buf_span(&frame));
        if (count == PEAL_ACK_OFFSETS_MAX)
            assert_int_equal(rig_sent(w->rig)->offsets.count, count);
        else
            rig_expect_part(w->rig, &w->conn, "\"offsets must be a list of at most 1024 offsets\"");
    }
    peal_buf_fini(&frame);
    assert_int_equal(w->rig->order_count, 1);
}

static void native_frame_of_several_lines_is_several_commands(void **state)
{
    struct world *w = *state;
    rig_say(&w->conn, "{\"type\":\"ping\",\"id\":1}\n\r\n\n{\"type\":\"ping\",\"id\":2}\r\n"
                      "{\n{\"type\":\"ping\",\"id\":3}");
    rig_expect(w->rig, &w->conn, "{\"type\":\"pong\",\"id\":1}");
    rig_expect(w->rig, &w->conn, "{\"type\":\"pong\",\"id\":2}");
    rig_expect_part(w->rig, &w->conn, "\"bad_json\"");
    rig_expect(w->rig, &w->conn, "{\"type\":\"pong\",\"id\":3}");
    rig_say(&w->conn, "{\n\"type\":\"ping\",\n\"id\":4\n}"); /* one that is laid out */
    rig_expect(w->rig, &w->conn, "{\"type\":\"pong\",\"id\":4}");
    rig_expect_nothing(w->rig, &w->conn);
}

static void native_lines_after_the_closing_one_are_not_run(void **state)
{
    struct world *w = *state;
    rig_say(&w->conn, "{\n{\n{\n{\"type\":\"publish\",\"group\":\"a\",\"data\":1}");
    assert_int_equal(w->rig->order_count, 0);
    rig_expect_close(w->rig, &w->conn, 4000);
}

/* ---- rendering --------------------------------------------------------------------------- */

/* Frees frame, which must be one whole text frame of valid JSON. */
static void expect_text(struct peal_buf *frame, const char *text)
{
    assert_false(frame->failed);
    struct peal_span payload = frame_payload(frame->at);
    assert_int_equal((unsigned char)frame->at[0], 0x80 | PEAL_WS_TEXT);
    assert_ptr_equal(payload.at + payload.size, frame->at + frame->size);
    if (!peal_span_is(payload, text)) fail_msg("%.*s, not %s", (int)payload.size, payload.at, text);
    assert_int_equal(peal_json_check(payload, NULL, 0), PEAL_OK);
    peal_buf_fini(frame);
}

static void expect_message(const struct peal_envelope *env, const struct peal_message_facts *facts,
                           const char *text)
{
    struct peal_buf out = {0};
    peal_dialect_native.message(&out, env, facts);
    expect_text(&out, text);
}

static void expect_event(const struct peal_event *event, const char *text)
{
    struct peal_buf out = {0};
    peal_dialect_native.event(&out, event);
    expect_text(&out, text);
}

static void native_message_keeps_the_bytes_of_json_and_escapes_the_rest(void **state)
{
    (void)state;
    struct peal_message_facts facts = {0};
    struct peal_envelope env = {.group = peal_span_of("r\"1"),
                                .epoch = 7,
                                .offset = 12,
                                .id = peal_span_of("m\\1"),
                                .ts_ms = 99,
                                .data = peal_span_of("{\"n\" : 1.0e2}")};
    expect_message(&env, &facts,
                   "{\"type\":\"message\",\"group\":\"r\\\"1\",\"offset\":12,\"id\":\"m\\\\1\","
                   "\"data\":{\"n\" : 1.0e2},\"ts\":99}");
    env.data_kind = PEAL_DATA_TEXT;
    env.data = peal_span_make("a\"\0\n", 4);
    env.event = peal_span_of("e");
    env.from = peal_span_of("eve");
    expect_message(
        &env, &facts,
        "{\"type\":\"message\",\"group\":\"r\\\"1\",\"offset\":12,\"id\":\"m\\\\1\","
        "\"event\":\"e\",\"kind\":\"text\",\"data\":\"a\\\"\\u0000\\n\",\"from\":\"eve\","
        "\"ts\":99}");
    env.data_kind = PEAL_DATA_BINARY;
    env.data = peal_span_make("\xff\x00\x01", 3);
    env.event = env.from = (struct peal_span){0};
    facts = (struct peal_message_facts){.replayed = true, .unread = 3, .rev = 8};
    expect_message(&env, &facts,
                   "{\"type\":\"message\",\"group\":\"r\\\"1\",\"offset\":12,\"id\":\"m\\\\1\","
                   "\"kind\":\"binary\",\"data\":\"/wAB\",\"ts\":99,\"unread\":3,\"rev\":8,"
                   "\"replayed\":true}");
}

static void native_events_are_rendered_with_their_fields(void **state)
{
    (void)state;
    static const uint64_t offsets[] = {4, 6};
    const struct peal_span group = {"g", 1};
    const struct peal_span id = {"\"i\"", 3};
    const struct {
        struct peal_event event;
        const char *text;
    } cases[] = {
        {{.type = PEAL_EVENT_LEFT, .group = group}, "{\"type\":\"left\",\"group\":\"g\"}"},
        {{.type = PEAL_EVENT_JOINED,
          .group = {"user:b", 6},
          .epoch = 255,
          .offset = 2,
          .unread = 1,
          .rev = 5,
          .recovered = PEAL_RECOVERED_GAP},
         "{\"type\":\"joined\",\"group\":\"user:b\",\"epoch\":\"ff\",\"offset\":2,\"unread\":1,"
         "\"rev\":5,\"recovered\":\"gap\"}"},
        {{.type = PEAL_EVENT_PUBLISHED,
          .id = id,
          .message_id = {"m", 1},
          .group = group,
          .epoch = 7,
          .offset = 2},
         "{\"type\":\"published\",\"id\":\"i\",\"message_id\":\"m\",\"group\":\"g\","
         "\"epoch\":\"7\",\"offset\":2,\"ack\":\"routed\"}"},
        {{.type = PEAL_EVENT_PUBLISHED,
          .message_id = {"m", 1},
          .group = group,
          .epoch = 7,
          .offset = 2,
          .flags = PEAL_FLAG_STORED | PEAL_FLAG_DUPLICATE},
         "{\"type\":\"published\",\"message_id\":\"m\",\"group\":\"g\",\"epoch\":\"7\","
         "\"offset\":2,\"ack\":\"stored\",\"duplicate\":true}"},
        {{.type = PEAL_EVENT_OK, .id = id, .unread = 2, .rev = 9},
         "{\"type\":\"ok\",\"id\":\"i\",\"unread\":2,\"rev\":9}"},
        {{.type = PEAL_EVENT_STATE, .flags = PEAL_FLAG_ACK, .upto = 5, .unread = 2, .rev = 9},
         "{\"type\":\"state\",\"mark\":\"ack\",\"upto\":5,\"unread\":2,\"rev\":9}"},
        {{.type = PEAL_EVENT_STATE,
          .flags = PEAL_FLAG_READ,
          .offsets = offsets,
          .offset_count = 2,
          .unread = 2,
          .rev = 9},
         "{\"type\":\"state\",\"mark\":\"read\",\"offsets\":[4,6],\"unread\":2,\"rev\":9}"},
        {{.type = PEAL_EVENT_SKIP, .group = group, .from = 3, .to = 4},
         "{\"type\":\"skip\",\"group\":\"g\",\"from\":3,\"to\":4}"},
        {{.type = PEAL_EVENT_GAP,
          .group = group,
          .from = 3,
          .to = 4,
          .epoch = 7,
          .why = PEAL_GAP_EVICTED},
         "{\"type\":\"gap\",\"group\":\"g\",\"from\":3,\"to\":4,\"epoch\":\"7\","
         "\"why\":\"evicted\"}"},
        {{.type = PEAL_EVENT_DEGRADED, .on = true}, "{\"type\":\"degraded\",\"on\":true}"},
        {{.type = PEAL_EVENT_DEGRADED}, "{\"type\":\"degraded\",\"on\":false}"},
        {{.type = PEAL_EVENT_ERROR,
          .id = id,
          .group = group,
          .err = PEAL_EFORBIDDEN,
          .message = "say \"please\""},
         "{\"type\":\"error\",\"id\":\"i\",\"group\":\"g\",\"code\":\"forbidden\","
         "\"message\":\"say \\\"please\\\"\",\"retry\":\"no\"}"},
        {{.type = PEAL_EVENT_ERROR, .err = PEAL_EQUEUE_FULL, .message = "busy"},
         "{\"type\":\"error\",\"code\":\"queue_full\",\"message\":\"busy\",\"retry\":\"later\","
         "\"after_ms\":1000}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_event(&cases[i].event, cases[i].text);
}

static void native_inbox_lists_messages_with_their_marks(void **state)
{
    (void)state;
    struct peal_buf bufs[4] = {0};
    struct peal_span spans[4];
    rig_encode_message(&bufs[0], "user:b", 7, 9, "[1]");
    peal_buf_add_text(&bufs[1], "no frame"); /* of a newer version: left out */
    struct peal_frame marked;
    struct peal_buf plain = {0};
    rig_encode_message(&plain, "user:b", 7, 8, "[2]");
    assert_int_equal(peal_frame_decode(peal_buf_span(&plain), &marked), PEAL_OK);
    marked.flags = PEAL_FLAG_READ;
    peal_frame_encode(&marked, &bufs[2]);
    marked.flags = PEAL_FLAG_ACKED;
    peal_frame_encode(&marked, &bufs[3]);
    for (size_t i = 0; i < 4; i++)
        spans[i] = peal_buf_span(&bufs[i]);
    struct peal_frame page = {.type = PEAL_F_PAGE};
    page.entries.at = spans;
    page.entries.count = 4;
    struct peal_event event = {.type = PEAL_EVENT_INBOX,
                               .id = peal_span_of("1"),
                               .unread = 1,
                               .rev = 4,
                               .flags = PEAL_FLAG_MORE,
                               .page = &page};
    expect_event(
        &event,
        "{\"type\":\"inbox\",\"id\":1,\"messages\":["
        "{\"offset\":9,\"id\":\"m\",\"data\":[1],\"ts\":0,\"read\":false,\"delivered\":false},"
        "{\"offset\":8,\"id\":\"m\",\"data\":[2],\"ts\":0,\"read\":true,\"delivered\":true},"
        "{\"offset\":8,\"id\":\"m\",\"data\":[2],\"ts\":0,\"read\":false,\"delivered\":true}],"
        "\"next\":8,\"unread\":1,\"rev\":4}");
    event.flags = 0;
    page.entries.count = 0;
    expect_event(&event, "{\"type\":\"inbox\",\"id\":1,\"messages\":[],\"unread\":1,\"rev\":4}");
    peal_frame_fini(&marked);
    peal_buf_fini(&plain);
    for (size_t i = 0; i < 4; i++)
        peal_buf_fini(&bufs[i]);
}

int main(void)
{
#define FRESH(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST(name)  cmocka_unit_test_setup_teardown(name, setup_welcomed, teardown)
    const struct CMUnitTest tests[] = {
        TEST(native_bad_frame_is_an_error_that_names_the_field),
        FRESH(native_bad_hello_is_an_error_that_names_the_field),
        TEST(native_binary_frame_is_no_command),
        TEST(native_error_carries_the_id_whatever_else_is_wrong),
        FRESH(native_hello_resumes_and_joins_each_group_once),
        TEST(native_publish_takes_every_field),
        TEST(native_publish_takes_null_text_and_bytes_as_data),
        TEST(native_marks_and_lists_become_frames),
        TEST(native_ack_of_more_than_1024_offsets_is_refused),
        TEST(native_frame_of_several_lines_is_several_commands),
        TEST(native_lines_after_the_closing_one_are_not_run),
        cmocka_unit_test(native_message_keeps_the_bytes_of_json_and_escapes_the_rest),
        cmocka_unit_test(native_events_are_rendered_with_their_fields),
        cmocka_unit_test(native_inbox_lists_messages_with_their_marks),
    };
    peal_metrics_thread_start();
    return cmocka_run_group_tests_name("native", tests, NULL, NULL);
}

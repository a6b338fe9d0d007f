#include "proto/publish.h"

#include <math.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "proto/group.h"
#include "proto/json_check.h"
#include "tests/unit/unit.h"

static const struct peal_publish_limits limits = {.message_bytes = 1000, .targets = 1500};

/* The request under test and the one copy of its bytes, of exactly their size, so that the address
 * sanitizer sees reads beyond it and items that outlive it. */
struct decoded {
    char *body;
    struct peal_publish_request request;
    enum peal_err err;
    char why[120];
};

static void decode(struct decoded *d, struct peal_span body)
{
    d->body = malloc(body.size);
    assert_non_null(d->body);
    if (body.size > 0) memcpy(d->body, body.at, body.size);
    d->err = peal_publish_decode(peal_span_make(d->body, body.size), &limits, &d->request, d->why,
                                 sizeof d->why);
    if (d->err == PEAL_OK) {
        assert_string_equal(d->why, "");
        return;
    }
    assert_string_not_equal(d->why, "");
    assert_null(d->request.items);
    assert_null(d->request.arena);
}

static void release(struct decoded *d)
{
    peal_publish_fini(&d->request);
    free(d->body);
}

static void assert_span(struct peal_span span, const char *text)
{
    if (span.at == NULL || !peal_span_is(span, text))
        fail_msg("'%.*s' is not '%s'", (int)span.size, span.at == NULL ? "" : span.at, text);
}

/* ---- JSON ------------------------------------------------------------------------------ */

static void publish_of_one_object_reads_every_field(void **state)
{
    (void)state;
    struct decoded d;
    decode(
        &d,
        peal_span_of(
            " {\"group\":\"room:1\",\"event\":\"n\\u00e9w\",\"message_id\":\"m-1\",\"ttl_ms\":5000,"
            "\"collapse\":\"k\",\"unknown\":[1],\"data\": {\"a\": 1e2 , \"b\":\"}\\\"\"} }\n"));
    assert_int_equal(d.err, PEAL_OK);
    assert_false(d.request.list);
    assert_int_equal(d.request.count, 1);
    const struct peal_publish_item *item = &d.request.items[0];
    assert_int_equal(item->err, PEAL_OK);
    assert_string_equal(item->why, "");
    assert_string_equal(item->field, "");
    assert_span(item->env.group, "room:1");
    assert_span(item->env.event, "n\xc3\xa9w");
    assert_span(item->env.id, "m-1");
    assert_span(item->env.collapse, "k");
    assert_span(item->env.data, "{\"a\": 1e2 , \"b\":\"}\\\"\"}");
    assert_int_equal(item->env.data_kind, PEAL_DATA_JSON);
    assert_int_equal(item->env.ttl_ms, 5000);
    assert_int_equal(item->env.flags, PEAL_MSG_ID_GIVEN);
    release(&d);
}

static void publish_without_optional_fields_leaves_them_absent(void **state)
{
    (void)state;
    struct decoded d;
    decode(&d, peal_span_of("{\"group\":\"g\",\"data\":null}"));
    assert_int_equal(d.err, PEAL_OK);
    const struct peal_envelope *env = &d.request.items[0].env;
    assert_null(env->id.at);
    assert_null(env->event.at);
    assert_null(env->collapse.at);
    assert_null(env->from.at);
    assert_null(env->trace.at);
    assert_int_equal(env->flags, 0);
    assert_int_equal(env->ttl_ms, 0);
    assert_int_equal(env->epoch, 0);
    assert_int_equal(env->offset, 0);
    assert_span(env->data, "null");
    release(&d);
}

static void publish_data_is_kept_as_it_was_sent(void **state)
{
    (void)state;
    static const struct {
        const char *field;
        const char *data;
        enum peal_data_kind kind;
    } cases[] = {
        {"\"data\":1e2", "1e2", PEAL_DATA_JSON},
        {"\"data\":0.1", "0.1", PEAL_DATA_JSON},
        {"\"data\":-0", "-0", PEAL_DATA_JSON},
        {"\"data\":1e999", "1e999", PEAL_DATA_JSON},
        {"\"data\":123456789012345678901234567890", "123456789012345678901234567890",
         PEAL_DATA_JSON},
        {"\"data\" : \"\\u0041\\/\" ", "\"\\u0041\\/\"", PEAL_DATA_JSON},
        {"\"data\":\"\"", "\"\"", PEAL_DATA_JSON},
        {"\"data\":\t[ 1,\"]\" , {} ] ", "[ 1,\"]\" , {} ]", PEAL_DATA_JSON},
        {"\"data\":false", "false", PEAL_DATA_JSON},
        {"\"text\":\"hello\"", "hello", PEAL_DATA_TEXT},
        {"\"text\":\"\"", "", PEAL_DATA_TEXT},
        {"\"text\":\"a\\n\\ud83d\\udd14\"", "a\n\xf0\x9f\x94\x94", PEAL_DATA_TEXT},
        {"\"data_base64\":\"\"", "", PEAL_DATA_BINARY},
        {"\"data_base64\":\"Zm9vYg==\"", "foob", PEAL_DATA_BINARY},
        {"\"data_base64\":\"+\\/+\\/\"", "\xfb\xff\xbf", PEAL_DATA_BINARY},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char body[200];
        struct decoded d;
        snprintf(body, sizeof body, "{\"group\":\"g\",%s}", cases[i].field);
        decode(&d, peal_span_of(body));
        assert_int_equal(d.err, PEAL_OK);
        assert_int_equal(d.request.items[0].err, PEAL_OK);
        assert_span(d.request.items[0].env.data, cases[i].data);
        assert_int_equal(d.request.items[0].env.data_kind, cases[i].kind);
        release(&d);
    }
}

static void publish_to_several_makes_an_item_for_each(void **state)
{
    (void)state;
    static const struct {
        const char *target;
        bool list;
        size_t count;
        const char *groups[3];
    } cases[] = {
        {"\"group\":\"user:bob\"", false, 1, {"user:bob"}},
        {"\"user\":\"bob\"", false, 1, {"user:bob"}},
        {"\"user\":\"b\\u00e9\"", false, 1, {"user:b\xc3\xa9"}},
        {"\"groups\":[\"a\" , \"b\\u0063\",\"a\"]", true, 3, {"a", "bc", "a"}},
        {"\"groups\":[\"a\"]", true, 1, {"a"}},
        {"\"users\":[\"z\",\"y\"]", true, 2, {"user:z", "user:y"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char body[200];
        struct decoded d;
        snprintf(body, sizeof body, "{%s,\"message_id\":\"i\\u0064\",\"text\":\"t\"}",
                 cases[i].target);
        decode(&d, peal_span_of(body));
        assert_int_equal(d.err, PEAL_OK);
        assert_int_equal(d.request.list, cases[i].list);
        assert_int_equal(d.request.count, cases[i].count);
        for (size_t k = 0; k < cases[i].count; k++) {
            assert_int_equal(d.request.items[k].err, PEAL_OK);
            assert_span(d.request.items[k].env.group, cases[i].groups[k]);
            assert_span(d.request.items[k].env.id, "id");
            assert_span(d.request.items[k].env.data, "t");
        }
        release(&d);
    }
}

static void publish_of_a_list_keeps_order_and_errors_apart(void **state)
{
    (void)state;
    struct decoded d;
    decode(&d, peal_span_of("[{\"group\":\"a\",\"data\":1},7,{\"group\":\"b\"},"
                            "{\"users\":[\"x\",\"\",3],\"data\":2},{\"group\":\"c\",\"data\":3}]"));
    assert_int_equal(d.err, PEAL_OK);
    assert_true(d.request.list);
    static const struct {
        enum peal_err err;
        const char *text; /* group, or field of an error */
    } expected[] = {
        {PEAL_OK, "a"},      {PEAL_EBAD_MESSAGE, ""},    {PEAL_EMISSING_FIELD, "data"},
        {PEAL_OK, "user:x"}, {PEAL_EBAD_GROUP, "users"}, {PEAL_EBAD_FIELD, "users"},
        {PEAL_OK, "c"},
    };
    assert_int_equal(d.request.count, sizeof expected / sizeof expected[0]);
    for (size_t i = 0; i < d.request.count; i++) {
        const struct peal_publish_item *item = &d.request.items[i];
        assert_int_equal(item->err, expected[i].err);
        if (item->err == PEAL_OK)
            assert_span(item->env.group, expected[i].text);
        else
            assert_string_equal(item->field, expected[i].text);
    }
    release(&d);

    decode(&d, peal_span_of(" [ ] "));
    assert_int_equal(d.err, PEAL_OK);
    assert_true(d.request.list);
    assert_int_equal(d.request.count, 0);
    release(&d);
}

#define NAME_50  "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
#define NAME_200 NAME_50 NAME_50 NAME_50 NAME_50

/* One refused item each. */
static const struct {
    const char *body;
    enum peal_err err;
    const char *field;
} item_errors[] = {
    {"{}", PEAL_EMISSING_FIELD, "group"},
    {"{\"data\":1}", PEAL_EMISSING_FIELD, "group"},
    {"{\"Group\":\"g\",\"data\":1}", PEAL_EMISSING_FIELD, "group"},
    {"{\"group\":\"g\",\"user\":\"u\",\"data\":1}", PEAL_EBAD_FIELD, "user"},
    {"{\"group\":\"g\",\"groups\":[\"u\"],\"data\":1}", PEAL_EBAD_FIELD, "groups"},
    {"{\"users\":[\"g\"],\"user\":\"u\",\"data\":1}", PEAL_EBAD_FIELD, "users"},
    {"{\"group\":\"g\",\"user\":null,\"data\":1}", PEAL_EBAD_FIELD, "user"},
    {"{\"group\":1,\"data\":1}", PEAL_EBAD_FIELD, "group"},
    {"{\"group\":null,\"data\":1}", PEAL_EBAD_FIELD, "group"},
    {"{\"group\":[\"g\"],\"data\":1}", PEAL_EBAD_FIELD, "group"},
    {"{\"user\":7,\"data\":1}", PEAL_EBAD_FIELD, "user"},
    {"{\"group\":\"\",\"data\":1}", PEAL_EBAD_GROUP, "group"},
    {"{\"group\":\"a\\u0000b\",\"data\":1}", PEAL_EBAD_GROUP, "group"},
    {"{\"group\":\"a\\nb\",\"data\":1}", PEAL_EBAD_GROUP, "group"},
    {"{\"group\":\"a\\u0085b\",\"data\":1}", PEAL_EBAD_GROUP, "group"},
    {"{\"group\":\"x" NAME_200 "\",\"data\":1}", PEAL_EBAD_GROUP, "group"},
    {"{\"group\":\"user:\",\"data\":1}", PEAL_EBAD_GROUP, "group"},
    {"{\"user\":\"\",\"data\":1}", PEAL_EBAD_GROUP, "user"},
    {"{\"user\":\"" NAME_200 "\",\"data\":1}", PEAL_EBAD_GROUP, "user"},
    {"{\"group\":\"sys:revoked\",\"data\":1}", PEAL_EFORBIDDEN, "group"},
    {"{\"group\":\"sys:\",\"data\":1}", PEAL_EFORBIDDEN, "group"},
    {"{\"group\":\"\\u0073ys:x\",\"data\":1}", PEAL_EFORBIDDEN, "group"},
    {"{\"groups\":[\"sys:x\"],\"data\":1}", PEAL_EFORBIDDEN, "groups"},
    {"{\"groups\":[],\"data\":1}", PEAL_EBAD_FIELD, "groups"},
    {"{\"users\":[],\"data\":1}", PEAL_EBAD_FIELD, "users"},
    {"{\"users\":\"bob\",\"data\":1}", PEAL_EBAD_FIELD, "users"},
    {"{\"users\":{\"bob\":1},\"data\":1}", PEAL_EBAD_FIELD, "users"},
    {"{\"users\":null,\"data\":1}", PEAL_EBAD_FIELD, "users"},
    {"{\"users\":[[\"bob\"]],\"data\":1}", PEAL_EBAD_FIELD, "users"},
    {"{\"group\":\"g\"}", PEAL_EMISSING_FIELD, "data"},
    {"{\"groups\":\"g\"}", PEAL_EMISSING_FIELD, "data"},
    {"{\"group\":\"g\",\"data\":1,\"text\":\"t\"}", PEAL_EBAD_FIELD, "text"},
    {"{\"group\":\"g\",\"data\":1,\"data_base64\":\"\"}", PEAL_EBAD_FIELD, "data_base64"},
    {"{\"group\":\"g\",\"data_base64\":\"\",\"text\":\"t\"}", PEAL_EBAD_FIELD, "data_base64"},
    {"{\"group\":\"g\",\"text\":1}", PEAL_EBAD_FIELD, "text"},
    {"{\"group\":\"g\",\"text\":null}", PEAL_EBAD_FIELD, "text"},
    {"{\"group\":\"g\",\"data_base64\":1}", PEAL_EBAD_FIELD, "data_base64"},
    {"{\"group\":\"g\",\"data_base64\":\"Zg\"}", PEAL_EBAD_FIELD, "data_base64"},
    {"{\"group\":\"g\",\"data_base64\":\"Z g==\"}", PEAL_EBAD_FIELD, "data_base64"},
    {"{\"group\":\"g\",\"data\":1,\"event\":\"\"}", PEAL_EBAD_FIELD, "event"},
    {"{\"group\":\"g\",\"data\":1,\"event\":1}", PEAL_EBAD_FIELD, "event"},
    {"{\"group\":\"g\",\"data\":1,\"event\":null}", PEAL_EBAD_FIELD, "event"},
    {"{\"group\":\"g\",\"data\":1,\"event\":\"a\\ndata: b\"}", PEAL_EBAD_FIELD, "event"},
    {"{\"group\":\"g\",\"data\":1,\"event\":\"x" NAME_200 "\"}", PEAL_EBAD_FIELD, "event"},
    {"{\"group\":\"g\",\"data\":1,\"collapse\":\"\"}", PEAL_EBAD_FIELD, "collapse"},
    {"{\"group\":\"g\",\"data\":1,\"collapse\":true}", PEAL_EBAD_FIELD, "collapse"},
    {"{\"group\":\"g\",\"data\":1,\"collapse\":\"x" NAME_200 "\"}", PEAL_EBAD_FIELD, "collapse"},
    {"{\"group\":\"g\",\"data\":1,\"message_id\":\"\"}", PEAL_EBAD_FIELD, "message_id"},
    {"{\"group\":\"g\",\"data\":1,\"message_id\":12}", PEAL_EBAD_FIELD, "message_id"},
    {"{\"group\":\"g\",\"data\":1,\"message_id\":\"a\\tb\"}", PEAL_EBAD_FIELD, "message_id"},
    {"{\"group\":\"g\",\"data\":1,\"message_id\":\"123456789012345" NAME_50 "\"}", PEAL_EBAD_FIELD,
     "message_id"},
    {"{\"group\":\"g\",\"data\":1,\"ttl_ms\":0}", PEAL_EBAD_FIELD, "ttl_ms"},
    {"{\"group\":\"g\",\"data\":1,\"ttl_ms\":-1}", PEAL_EBAD_FIELD, "ttl_ms"},
    {"{\"group\":\"g\",\"data\":1,\"ttl_ms\":1.5}", PEAL_EBAD_FIELD, "ttl_ms"},
    {"{\"group\":\"g\",\"data\":1,\"ttl_ms\":\"1\"}", PEAL_EBAD_FIELD, "ttl_ms"},
    {"{\"group\":\"g\",\"data\":1,\"ttl_ms\":null}", PEAL_EBAD_FIELD, "ttl_ms"},
    {"{\"group\":\"g\",\"data\":1,\"ttl_ms\":9007199254740992}", PEAL_EBAD_FIELD, "ttl_ms"},
    {"{\"gr\\u006fup\":\"g\",\"data\":1}", PEAL_EBAD_MESSAGE, ""},
};

static void publish_error_names_its_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof item_errors / sizeof item_errors[0]; i++) {
        struct decoded d;
        decode(&d, peal_span_of(item_errors[i].body));
        assert_int_equal(d.err, PEAL_OK);
        assert_int_equal(d.request.count, 1);
        const struct peal_publish_item *item = &d.request.items[0];
        if (item->err != item_errors[i].err || strcmp(item->field, item_errors[i].field) != 0)
            fail_msg("%s: %s in '%s'", item_errors[i].body, peal_err_word(item->err), item->field);
        assert_non_null(strstr(item->why, item->field));
        assert_string_not_equal(item->why, "");
        release(&d);
    }
}

static void publish_at_the_limits_is_accepted(void **state)
{
    (void)state;
    const char *const bodies[] = {
        "{\"group\":\"" NAME_200 "\",\"data\":1}",
        "{\"group\":\"g\",\"data\":1,\"event\":\"" NAME_200 "\",\"collapse\":\"" NAME_200 "\"}",
        "{\"group\":\"g\",\"data\":1,\"message_id\":\"12345678901234" NAME_50 "\"}",
        "{\"group\":\"g\",\"data\":1,\"ttl_ms\":9007199254740991}",
        "{\"group\":\"g\",\"data\":1,\"ttl_ms\":1}",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct decoded d;
        decode(&d, peal_span_of(bodies[i]));
        assert_int_equal(d.err, PEAL_OK);
        assert_int_equal(d.request.items[0].err, PEAL_OK);
        release(&d);
    }
}

static void publish_mistake_in_common_part_is_told_by_each_target(void **state)
{
    (void)state;
    struct decoded d;
    decode(&d, peal_span_of("{\"groups\":[\"a\",\"b\"],\"data\":1,\"ttl_ms\":0}"));
    assert_int_equal(d.err, PEAL_OK);
    assert_true(d.request.list);
    assert_int_equal(d.request.count, 2);
    assert_string_equal(d.request.items[0].field, "ttl_ms");
    assert_string_equal(d.request.items[1].field, "ttl_ms");
    release(&d);
}

static void publish_of_no_message_is_refused_whole(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        enum peal_err err;
    } cases[] = {
        {"", PEAL_EBAD_MESSAGE},
        {"7", PEAL_EBAD_MESSAGE},
        {"\"text\"", PEAL_EBAD_MESSAGE},
        {"null", PEAL_EBAD_MESSAGE},
        {"hello", PEAL_EBAD_JSON},
        {"{", PEAL_EBAD_JSON},
        {"{\"group\":\"g\",\"data\":1}x", PEAL_EBAD_JSON},
        {"{\"group\":\"g\",\"group\":\"h\",\"data\":1}", PEAL_EBAD_JSON},
        {"{\"group\":\"\xc3\",\"data\":1}", PEAL_EBAD_JSON},
        {"\xef\xbb\xbf{}", PEAL_EBAD_MESSAGE},
        {"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", PEAL_EBAD_JSON},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct decoded d;
        decode(&d, peal_span_of(cases[i].body));
        assert_int_equal(d.err, cases[i].err);
        release(&d);
    }
}

static void publish_of_more_than_a_batch_is_refused_whole(void **state)
{
    (void)state;
    for (size_t count = PEAL_BATCH_MESSAGES; count <= PEAL_BATCH_MESSAGES + 1; count++) {
        struct peal_buf body = {0};
        for (size_t i = 0; i < count; i++)
            peal_buf_add_format(&body, "%c{\"group\":\"g\",\"data\":%zu}", i == 0 ? '[' : ',', i);
        peal_buf_add_char(&body, ']');
        struct decoded d;
        decode(&d, peal_buf_span(&body));
        assert_int_equal(d.err, count == PEAL_BATCH_MESSAGES ? PEAL_OK : PEAL_ETOO_LARGE);
        if (d.err == PEAL_OK) assert_int_equal(d.request.count, count);
        release(&d);
        peal_buf_fini(&body);
    }
}

static void publish_to_more_than_the_limit_is_refused_whole(void **state)
{
    (void)state;
    for (uint64_t count = limits.targets; count <= limits.targets + 1; count++) {
        struct peal_buf body = {0};
        peal_buf_add_text(&body, "[{\"group\":\"g\",\"data\":1}");
        for (uint64_t i = 1; i < count; i++)
            peal_buf_add_format(&body, "%s\"%llu\"", i == 1 ? ",{\"data\":1,\"users\":[" : ",",
                                (unsigned long long)i);
        peal_buf_add_text(&body, "]}]");
        struct decoded d;
        decode(&d, peal_buf_span(&body));
        assert_int_equal(d.err, count == limits.targets ? PEAL_OK : PEAL_ELIMIT);
        if (d.err == PEAL_OK) {
            assert_int_equal(d.request.count, count);
            assert_span(d.request.items[1].env.group, "user:1");
            assert_span(d.request.items[count - 1].env.group, "user:1499");
        }
        release(&d);
        peal_buf_fini(&body);
    }
}

static void publish_of_data_beyond_the_limit_is_an_error_of_the_item(void **state)
{
    (void)state;
    static const struct {
        const char *open;
        const char *close;
        size_t fits; /* letters between them */
        const char *field;
    } cases[] = {
        {"\"data\":\"", "\"", 998, "data"},
        {"\"text\":\"", "\"", 1000, "text"},
        {"\"data_base64\":\"", "==\"", 1334, "data_base64"}, /* 1336 letters: 1000 bytes */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t more = 0; more <= 4; more += 4) {
            char letters[1400];
            memset(letters, 'A', sizeof letters);
            struct peal_buf body = {0};
            peal_buf_add_format(&body, "{\"group\":\"g\",%s%.*s%s}", cases[i].open,
                                (int)(cases[i].fits + more), letters, cases[i].close);
            struct decoded d;
            decode(&d, peal_buf_span(&body));
            assert_int_equal(d.err, PEAL_OK);
            assert_int_equal(d.request.items[0].err, more == 0 ? PEAL_OK : PEAL_ETOO_LARGE);
            assert_string_equal(d.request.items[0].field, more == 0 ? "" : cases[i].field);
            if (more == 0) assert_int_equal(d.request.items[0].env.data.size, 1000);
            release(&d);
            peal_buf_fini(&body);
        }
    }
}

/* ---- msgpack --------------------------------------------------------------------------- */

static int buf_write(void *ctx, const char *at, size_t size)
{
    peal_buf_add(ctx, at, size);
    return 0;
}

static void pack_text(msgpack_packer *pk, const char *text)
{
    msgpack_pack_str(pk, strlen(text));
    msgpack_pack_str_body(pk, text, strlen(text));
}

/* {group: g, data: <the packed value>} */
static void decode_packed_data(struct decoded *d, struct peal_span value)
{
    struct peal_buf body = {0};
    peal_buf_add_text(&body, "\x82\xa5group\xa1g\xa4"
                             "data");
    peal_buf_add_span(&body, value);
    decode(d, peal_buf_span(&body));
    peal_buf_fini(&body);
}

static void publish_of_packed_object_reads_every_field(void **state)
{
    (void)state;
    struct peal_buf body = {0};
    msgpack_packer pk;
    msgpack_packer_init(&pk, &body, buf_write);
    msgpack_pack_map(&pk, 9);
    pack_text(&pk, "user");
    pack_text(&pk, "bob");
    pack_text(&pk, "event");
    pack_text(&pk, "n\xc3\xa9w");
    pack_text(&pk, "message_id");
    pack_text(&pk, "m-1");
    pack_text(&pk, "ttl_ms");
    msgpack_pack_uint32(&pk, 5000);
    pack_text(&pk, "collapse");
    pack_text(&pk, "k");
    pack_text(&pk, "unknown");
    msgpack_pack_array(&pk, 0);
    msgpack_pack_int(&pk, 7); /* a name that is no str is unknown, too */
    msgpack_pack_int(&pk, 7);
    msgpack_pack_nil(&pk);
    msgpack_pack_nil(&pk);
    pack_text(&pk, "data");
    pack_text(&pk, "hello");
    struct decoded d;
    decode(&d, peal_buf_span(&body));
    assert_int_equal(d.err, PEAL_OK);
    assert_false(d.request.list);
    assert_int_equal(d.request.count, 1);
    const struct peal_publish_item *item = &d.request.items[0];
    assert_int_equal(item->err, PEAL_OK);
    assert_span(item->env.group, "user:bob");
    assert_span(item->env.event, "n\xc3\xa9w");
    assert_span(item->env.id, "m-1");
    assert_span(item->env.collapse, "k");
    assert_span(item->env.data, "hello");
    assert_int_equal(item->env.data_kind, PEAL_DATA_TEXT);
    assert_int_equal(item->env.ttl_ms, 5000);
    assert_int_equal(item->env.flags, PEAL_MSG_ID_GIVEN);
    release(&d);
    peal_buf_fini(&body);
}

static void publish_of_packed_data_becomes_what_browsers_read(void **state)
{
    (void)state;
    static const struct {
        struct peal_span packed;
        const char *data;
        enum peal_data_kind kind;
    } cases[] = {
#define CASE(packed, data, kind) {{packed, sizeof(packed) - 1}, data, PEAL_DATA_##kind}
        CASE("\xc0", "null", JSON),
        CASE("\xc2", "false", JSON),
        CASE("\xc3", "true", JSON),
        CASE("\x00", "0", JSON),
        CASE("\x7f", "127", JSON),
        CASE("\xff", "-1", JSON),
        CASE("\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615", JSON),
        CASE("\xd3\x80\x00\x00\x00\x00\x00\x00\x00", "-9223372036854775808", JSON),
        CASE("\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a", "0.1", JSON),
        CASE("\xcb\x3f\xd3\x33\x33\x33\x33\x33\x34", "0.30000000000000004", JSON),
        CASE("\xcb\x80\x00\x00\x00\x00\x00\x00\x00", "-0", JSON),
        CASE("\xcb\x40\x59\x00\x00\x00\x00\x00\x00", "100", JSON),
        CASE("\xcb\x44\xb5\x2d\x02\xc7\xe1\x4a\xf6", "1e+23", JSON),
        CASE("\xcb\x00\x00\x00\x00\x00\x00\x00\x01", "5e-324", JSON),
        CASE("\xcb\x7f\xef\xff\xff\xff\xff\xff\xff", "1.7976931348623157e+308", JSON),
        CASE("\xca\x3f\x00\x00\x00", "0.5", JSON),
        CASE("\xa0", "", TEXT),
        CASE("\xa2\xc3\xa9", "\xc3\xa9", TEXT),
        CASE("\xc4\x00", "", BINARY),
        CASE("\xc4\x02\xff\xc0", "\xff\xc0", BINARY),
        CASE("\x90", "[]", JSON),
        CASE("\x80", "{}", JSON),
        CASE("\x93\x01\xa1\"\xc4\x01\xff", "[1,\"\\\"\",\"/w==\"]", JSON),
        CASE("\x82\xa1z\x91\x81\xa0\xc0\xa1"
             "a\xc3",
             "{\"z\":[{\"\":null}],\"a\":true}", JSON),
        CASE("\x81\xa3\xe2\x80\xa8\xa1\n", "{\"\\u2028\":\"\\n\"}", JSON),
#undef CASE
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct decoded d;
        decode_packed_data(&d, cases[i].packed);
        assert_int_equal(d.err, PEAL_OK);
        const struct peal_publish_item *item = &d.request.items[0];
        if (item->err != PEAL_OK) fail_msg("%s: %s", cases[i].data, item->why);
        assert_span(item->env.data, cases[i].data);
        assert_int_equal(item->env.data_kind, cases[i].kind);
        if (item->env.data_kind == PEAL_DATA_JSON)
            assert_int_equal(peal_json_check(item->env.data, NULL, 0), PEAL_OK);
        release(&d);
    }
}

static void publish_of_packed_double_reads_back_as_the_same(void **state)
{
    (void)state;
    unsigned long seed = 20240607;
    srand48((long)seed);
    for (int i = 0; i < 20000; i++) {
        unsigned char packed[9] = {0xcb};
        double number;
        for (size_t k = 1; k < sizeof packed; k++)
            packed[k] = (unsigned char)(mrand48() >> 8);
        if (i % 3 == 0) packed[1] = packed[2] = 0; /* small subnormals */
        uint64_t bits = 0;
        for (size_t k = 1; k < sizeof packed; k++)
            bits = bits << 8 | packed[k];
        memcpy(&number, &bits, sizeof number);
        struct decoded d;
        decode_packed_data(&d, peal_span_make(packed, sizeof packed));
        const struct peal_publish_item *item = &d.request.items[0];
        assert_int_equal(item->err, isfinite(number) ? PEAL_OK : PEAL_EBAD_FIELD);
        if (item->err == PEAL_OK) {
            char text[40];
            snprintf(text, sizeof text, "%.*s", (int)item->env.data.size, item->env.data.at);
            if (strtod(text, NULL) != number)
                fail_msg("seed %lu, turn %d: %s is not %.17g", seed, i, text, number);
        }
        release(&d);
    }
}

static void publish_of_packed_data_that_json_cannot_say_is_refused(void **state)
{
    (void)state;
    static const struct peal_span cases[] = {
#define CASE(packed) {packed, sizeof(packed) - 1}
        CASE("\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"),     /* NaN */
        CASE("\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00"),     /* Inf */
        CASE("\xcb\xff\xf0\x00\x00\x00\x00\x00\x00"),     /* -Inf */
        CASE("\xca\x7f\x80\x00\x00"),                     /* Inf in a float */
        CASE("\x91\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), /* NaN further in */
        CASE("\xa2\xc3\x28"),                             /* str that is not UTF-8 */
        CASE("\xa3\xed\xa0\x80"),                         /* a surrogate */
        CASE("\x91\xa1\xff"),                             /* the same, further in */
        CASE("\x81\xa1\xff\x01"),                         /* and in a name */
        CASE("\x81\x01\x01"),                             /* a name that is no str */
        CASE("\x81\xc4\x01x\x01"),                        /* nor is bin */
        CASE("\x81\xa1\x00\x01"),                         /* NUL in a name, as in JSON */
        CASE("\x82\xa1x\x01\xa1x\x01"),                   /* twice the same name */
        CASE("\x83\xa1x\x01\xa1y\x01\xa1x\x01"),
        CASE("\x91\x82\xa0\x01\xa0\x01"),
        CASE("\xd4\x01\x02"),     /* ext */
        CASE("\x91\xd4\x01\x02"), /* ext further in */
#undef CASE
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct decoded d;
        decode_packed_data(&d, cases[i]);
        assert_int_equal(d.err, PEAL_OK);
        assert_int_equal(d.request.items[0].err, PEAL_EBAD_FIELD);
        assert_string_equal(d.request.items[0].field, "data");
        release(&d);
    }
}

static void publish_of_packed_map_with_many_names_finds_the_twin(void **state)
{
    (void)state;
    for (unsigned twin = 0; twin <= 1; twin++) {
        struct peal_buf value = {0};
        msgpack_packer pk;
        msgpack_packer_init(&pk, &value, buf_write);
        msgpack_pack_map(&pk, 100);
        for (unsigned i = 0; i < 100; i++) {
            char name[8];
            snprintf(name, sizeof name, "%u", (twin == 1 && i == 99) ? 3u : i);
            pack_text(&pk, name);
            msgpack_pack_nil(&pk);
        }
        struct decoded d;
        decode_packed_data(&d, peal_buf_span(&value));
        assert_int_equal(d.request.items[0].err, twin == 1 ? PEAL_EBAD_FIELD : PEAL_OK);
        release(&d);
        peal_buf_fini(&value);
    }
}

static void publish_of_packed_data_that_grows_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *letter;
        uint16_t fits; /* in an array of one str */
    } cases[] = {{"a", 996}, {"\"", 498}, {"\x01", 166}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (uint16_t more = 0; more <= 1; more++) {
            struct peal_buf value = {0};
            uint16_t size = (uint16_t)(cases[i].fits + more);
            const char head[] = {(char)0x91, (char)0xda, (char)(size >> 8), (char)size};
            peal_buf_add(&value, head, sizeof head);
            for (uint16_t k = 0; k < size; k++)
                peal_buf_add_text(&value, cases[i].letter);
            struct decoded d;
            decode_packed_data(&d, peal_buf_span(&value));
            assert_int_equal(d.request.items[0].err, more == 0 ? PEAL_OK : PEAL_ETOO_LARGE);
            assert_string_equal(d.request.items[0].field, more == 0 ? "" : "data");
            release(&d);
            peal_buf_fini(&value);
        }
    }
}

static void publish_error_of_packed_object_names_its_field(void **state)
{
    (void)state;
    static const struct {
        struct peal_span body;
        enum peal_err err;
        const char *field;
    } cases[] = {
#define CASE(body, err, field) {{body, sizeof(body) - 1}, PEAL_##err, field}
#define DATA                                                                                       \
    "\xa4"                                                                                         \
    "data\x01"
        CASE("\x80", EMISSING_FIELD, "group"),
        CASE("\x81" DATA, EMISSING_FIELD, "group"),
        CASE("\x81\xa5group\xa1g", EMISSING_FIELD, "data"),
        CASE("\x82" DATA "\xa5group\x01", EBAD_FIELD, "group"),
        CASE("\x82" DATA "\xa5group\xc4\x01g", EBAD_FIELD, "group"), /* bin is no text */
        CASE("\x82" DATA "\xa5group\xc0", EBAD_FIELD, "group"),
        CASE("\x82" DATA "\xa5group\xa0", EBAD_GROUP, "group"),
        CASE("\x82" DATA "\xa5group\xa1\xff", EBAD_GROUP, "group"),
        CASE("\x82" DATA "\xa5group\xa5sys:x", EFORBIDDEN, "group"),
        CASE("\x82" DATA "\xa4user\xa1\xff", EBAD_GROUP, "user"),
        CASE("\x82" DATA "\xa6groups\x90", EBAD_FIELD, "groups"),
        CASE("\x82" DATA "\xa5users\xa1u", EBAD_FIELD, "users"),
        CASE("\x83" DATA "\xa5group\xa1g\xa5group\xa1h", EBAD_FIELD, "group"),
        CASE("\x83" DATA "\xa5group\xa1g\xa4user\xa1h", EBAD_FIELD, "user"),
        CASE("\x83" DATA "\xa5group\xa1g\xa6ttl_ms\x00", EBAD_FIELD, "ttl_ms"),
        CASE("\x83" DATA "\xa5group\xa1g\xa6ttl_ms\xff", EBAD_FIELD, "ttl_ms"),
        CASE("\x83" DATA "\xa5group\xa1g\xa6ttl_ms\xca\x3f\x80\x00\x00", EBAD_FIELD, "ttl_ms"),
        CASE("\x83" DATA "\xa5group\xa1g\xa6ttl_ms\xcf\x00\x20\x00\x00\x00\x00\x00\x00", EBAD_FIELD,
             "ttl_ms"),
        CASE("\x83" DATA "\xa5group\xa1g\xa5"
             "event\xa1\xff",
             EBAD_FIELD, "event"),
        CASE("\x83" DATA "\xa5group\xa1g\xa5"
             "event\xa1\n",
             EBAD_FIELD, "event"),
        CASE("\x83" DATA "\xa5group\xa1g\xa8"
             "collapse\xa0",
             EBAD_FIELD, "collapse"),
        CASE("\x83" DATA "\xa5group\xa1g\xaamessage_id\x07", EBAD_FIELD, "message_id"),
        CASE("\x83" DATA "\xa5group\xa1g\xa4text\xa1t", EBAD_FIELD, "text"),
        CASE("\x82\xa5group\xa1g\xa4text\xa1t", EBAD_FIELD, "text"),
        CASE("\x82\xa5group\xa1g\xab"
             "data_base64\xa0",
             EBAD_FIELD, "data_base64"),
        CASE("\x91\x01", EBAD_MESSAGE, ""), /* a list of something else */
#undef DATA
#undef CASE
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct decoded d;
        decode(&d, cases[i].body);
        assert_int_equal(d.err, PEAL_OK);
        assert_int_equal(d.request.count, 1);
        const struct peal_publish_item *item = &d.request.items[0];
        if (item->err != cases[i].err || strcmp(item->field, cases[i].field) != 0)
            fail_msg("case %zu: %s in '%s'", i, peal_err_word(item->err), item->field);
        assert_string_not_equal(item->why, "");
        release(&d);
    }
}

static void publish_of_packed_lists_keeps_order(void **state)
{
    (void)state;
    struct decoded d;
    decode(&d, peal_span_of("\x92\x82\xa6groups\x92\xa1x\xa1y\xa4"
                            "data\xa1"
                            "1"
                            "\x82\xa5users\x91\xa1z\xa4"
                            "data\xa1"
                            "2"));
    assert_int_equal(d.err, PEAL_OK);
    assert_true(d.request.list);
    assert_int_equal(d.request.count, 3);
    assert_span(d.request.items[0].env.group, "x");
    assert_span(d.request.items[1].env.group, "y");
    assert_span(d.request.items[2].env.group, "user:z");
    assert_span(d.request.items[1].env.data, "1");
    assert_span(d.request.items[2].env.data, "2");
    release(&d);

    decode(&d, peal_span_of("\x90"));
    assert_int_equal(d.err, PEAL_OK);
    assert_true(d.request.list);
    assert_int_equal(d.request.count, 0);
    release(&d);
}

static void publish_of_broken_msgpack_is_refused_whole(void **state)
{
    (void)state;
    static const struct peal_span cases[] = {
#define CASE(packed) {packed, sizeof(packed) - 1}
        CASE("\xc0"),
        CASE("\xa1x"),
        CASE("\xc1"),
        CASE("\x81"),
        CASE("\x80\x80"), /* two values */
        CASE("\x82\xa5group\xa1g"),
        CASE("\xdd\xff\xff\xff\xff"),         /* four milliard elements */
        CASE("\xdf\xff\xff\xff\xff\x01\x01"), /* four milliard pairs */
        CASE("\xdd\x08\x00\x00\x00\x01"),
        CASE("\xdb\xff\xff\xff\xff"
             "text"),
        CASE("\xc6\xff\xff\xff\xff"),
        CASE("\x81\xa5group\xdd\x7f\xff\xff\xff\x01"),
#undef CASE
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct decoded d;
        decode(&d, cases[i]);
        assert_int_equal(d.err, PEAL_EBAD_MESSAGE);
        release(&d);
    }
    char bomb[4096]; /* lists in lists */
    memset(bomb, 0x91, sizeof bomb);
    bomb[sizeof bomb - 1] = 1;
    struct decoded d;
    decode(&d, peal_span_make(bomb, sizeof bomb));
    assert_int_equal(d.err, PEAL_EBAD_MESSAGE);
    release(&d);
}

static void publish_of_packed_data_as_deep_as_allowed_is_json_as_deep_as_allowed(void **state)
{
    (void)state;
    bool accepted = false;
    for (size_t depth = 1; depth <= PEAL_WIRE_DEPTH + 1; depth++) {
        char value[PEAL_WIRE_DEPTH + 2];
        memset(value, 0x91, sizeof value);
        value[depth] = 1;
        struct decoded d;
        decode_packed_data(&d, peal_span_make(value, depth + 1));
        accepted = d.err == PEAL_OK;
        if (accepted) {
            assert_int_equal(d.request.items[0].err, PEAL_OK);
            assert_int_equal(peal_json_check(d.request.items[0].env.data, NULL, 0), PEAL_OK);
        } else {
            assert_int_equal(d.err, PEAL_EBAD_MESSAGE);
            assert_true(depth > PEAL_WIRE_DEPTH - 3);
        }
        release(&d);
    }
    assert_false(accepted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(publish_of_one_object_reads_every_field),
        cmocka_unit_test(publish_without_optional_fields_leaves_them_absent),
        cmocka_unit_test(publish_data_is_kept_as_it_was_sent),
        cmocka_unit_test(publish_to_several_makes_an_item_for_each),
        cmocka_unit_test(publish_of_a_list_keeps_order_and_errors_apart),
        cmocka_unit_test(publish_error_names_its_field),
        cmocka_unit_test(publish_at_the_limits_is_accepted),
        cmocka_unit_test(publish_mistake_in_common_part_is_told_by_each_target),
        cmocka_unit_test(publish_of_no_message_is_refused_whole),
        cmocka_unit_test(publish_of_more_than_a_batch_is_refused_whole),
        cmocka_unit_test(publish_to_more_than_the_limit_is_refused_whole),
        cmocka_unit_test(publish_of_data_beyond_the_limit_is_an_error_of_the_item),
        cmocka_unit_test(publish_of_packed_object_reads_every_field),
        cmocka_unit_test(publish_of_packed_data_becomes_what_browsers_read),
        cmocka_unit_test(publish_of_packed_double_reads_back_as_the_same),
        cmocka_unit_test(publish_of_packed_data_that_json_cannot_say_is_refused),
        cmocka_unit_test(publish_of_packed_map_with_many_names_finds_the_twin),
        cmocka_unit_test(publish_of_packed_data_that_grows_beyond_the_limit_is_refused),
        cmocka_unit_test(publish_error_of_packed_object_names_its_field),
        cmocka_unit_test(publish_of_packed_lists_keeps_order),
        cmocka_unit_test(publish_of_broken_msgpack_is_refused_whole),
        cmocka_unit_test(publish_of_packed_data_as_deep_as_allowed_is_json_as_deep_as_allowed),
    };
    return cmocka_run_group_tests_name("publish", tests, NULL, NULL);
}

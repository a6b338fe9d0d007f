#include "proto/wire.h"

#include <msgpack.h>
#include <stdlib.h>

#include "tests/unit/unit.h"

/* A frame with every field set, so that each type shows which ones it carries. */
static struct peal_frame full_frame(enum peal_frame_type type)
{
    static struct peal_span entries[] = {{"one", 3}, {"", 0}};
    static struct peal_position positions[] = {{{"room:1", 6}, 7, 8}, {{"user:bob", 8}, 9, 0}};
    static uint64_t offsets[] = {1, 300, UINT64_MAX};
    static struct peal_person people[] = {{{"ann", 3}, UINT64_MAX, 1}, {{NULL, 0}, 5, 0}};
    struct peal_frame f = {.type = type,
                           .req = 1,
                           .boot = UINT64_MAX,
                           .seq = 3,
                           .group = peal_span_of("room:1"),
                           .id = peal_span_of("id-1"),
                           .epoch = 4,
                           .offset = 5,
                           .head = 6,
                           .first = 7,
                           .from = 8,
                           .to = 9,
                           .upto = 10,
                           .limit = 11,
                           .bytes = 12,
                           .unread = 13,
                           .rev = 14,
                           .why = 15,
                           .code = 16,
                           .flags = 17,
                           .slot = 18,
                           .owner = 19,
                           .generation = 20,
                           .message = peal_span_of("why"),
                           .envelope = peal_span_of("env")};
    f.entries.at = entries;
    f.entries.count = 2;
    f.positions.at = positions;
    f.positions.count = 2;
    f.offsets.at = offsets;
    f.offsets.count = 3;
    f.source = 18;
    f.users = 19;
    f.connections = 20;
    f.people.at = people;
    f.people.count = 2;
    return f;
}

static void frame_every_type_survives_a_round_trip(void **state)
{
    (void)state;
    for (int type = 1; type < PEAL_FRAME_TYPES; type++) {
        struct peal_frame in = full_frame((enum peal_frame_type)type);
        struct peal_frame out;
        struct peal_buf first = {0};
        struct peal_buf second = {0};
        peal_frame_encode(&in, &first);
        assert_false(first.failed);
        assert_int_equal(peal_frame_decode(peal_buf_span(&first), &out), PEAL_OK);
        assert_int_equal(out.type, type);
        /* What was decoded encodes to the same bytes: no field was lost or mixed up. */
        peal_frame_encode(&out, &second);
        assert_int_equal(first.size, second.size);
        assert_memory_equal(first.at, second.at, first.size);
        assert_string_not_equal(peal_frame_name(out.type), "?");
        peal_frame_fini(&out);
        peal_buf_fini(&first);
        peal_buf_fini(&second);
    }
}

static void frame_people_arrive_with_and_without_a_name(void **state)
{
    (void)state;
    struct peal_frame in = full_frame(PEAL_F_PRESENT);
    struct peal_frame out;
    struct peal_buf buf = {0};
    peal_frame_encode(&in, &buf);
    assert_int_equal(peal_frame_decode(peal_buf_span(&buf), &out), PEAL_OK);
    assert_int_equal(out.source, 18);
    assert_int_equal(out.people.count, 2);
    assert_true(peal_span_is(out.people.at[0].user, "ann"));
    assert_true(out.people.at[0].session == UINT64_MAX);
    assert_int_equal(out.people.at[0].count, 1);
    assert_null(out.people.at[1].user.at);
    assert_int_equal(out.people.at[1].session, 5);
    peal_frame_fini(&out);
    /* A name that is there but empty is none. */
    static const char empty[] = "\x99\x15\x01\xc4\x01g\x00\x00\x00\x00\x01\x91\x93\xc4\x00\x01\x01";
    struct peal_span bytes = peal_span_make(empty, sizeof empty - 1);
    assert_int_equal(peal_frame_decode(bytes, &out), PEAL_EBAD_MESSAGE);
    peal_buf_fini(&buf);
}

static void frame_fields_arrive_in_their_places(void **state)
{
    (void)state;
    struct peal_frame in = full_frame(PEAL_F_JOINED);
    struct peal_frame out;
    struct peal_buf buf = {0};
    peal_frame_encode(&in, &buf);
    assert_int_equal(peal_frame_decode(peal_buf_span(&buf), &out), PEAL_OK);
    assert_int_equal(out.req, 1);
    assert_true(peal_span_is(out.group, "room:1"));
    assert_int_equal(out.epoch, 4);
    assert_int_equal(out.offset, 5);
    assert_int_equal(out.first, 7);
    assert_int_equal(out.unread, 13);
    assert_int_equal(out.rev, 14);
    assert_int_equal(out.flags, 17);
    assert_int_equal(out.code, 16);
    assert_true(peal_span_is(out.message, "why"));
    assert_int_equal(out.boot, 0); /* not a field of JOINED */
    peal_frame_fini(&out);
    peal_buf_fini(&buf);
}

/* The same by msgpack-c's packer. */
static void pack_span(msgpack_packer *pk, struct peal_span span)
{
    if (span.at == NULL) {
        msgpack_pack_nil(pk);
        return;
    }
    msgpack_pack_bin(pk, span.size);
    msgpack_pack_bin_body(pk, span.at, span.size);
}

static void frame_is_encoded_as_msgpack_c_does(void **state)
{
    (void)state;
    /* On both sides of every limit between two formats. */
    static const uint64_t numbers[] = {0,      1,       0x7f,       0x80,        0xff,      0x100,
                                       0xffff, 0x10000, 0xffffffff, 0x100000000, UINT64_MAX};
    static const size_t sizes[] = {0, 1, 31, 32, 255, 256, 65535, 65536};
    static const size_t counts[] = {0, 1, 15, 16, 65535, 65536};
    static char bytes[65536];
    static struct peal_span entries[65536];
    for (size_t n = 0; n < sizeof numbers / sizeof numbers[0]; n++) {
        for (size_t s = 0; s <= sizeof sizes / sizeof sizes[0]; s++) {
            bool none = s == sizeof sizes / sizeof sizes[0];
            struct peal_span span = none ? (struct peal_span){0} : peal_span_make(bytes, sizes[s]);
            struct peal_frame frame = {
                .type = PEAL_F_MESSAGE, .envelope = span, .flags = numbers[n], .rev = 3};
            struct peal_buf ours = {0};
            msgpack_sbuffer theirs;
            msgpack_packer pk;
            msgpack_sbuffer_init(&theirs);
            msgpack_packer_init(&pk, &theirs, msgpack_sbuffer_write);
            msgpack_pack_array(&pk, 5);
            msgpack_pack_uint64(&pk, PEAL_F_MESSAGE);
            pack_span(&pk, span);
            msgpack_pack_uint64(&pk, numbers[n]);
            msgpack_pack_uint64(&pk, 0);
            msgpack_pack_uint64(&pk, 3);
            peal_frame_encode(&frame, &ours);
            assert_int_equal(ours.size, theirs.size);
            assert_memory_equal(ours.at, theirs.data, ours.size);
            peal_buf_fini(&ours);
            msgpack_sbuffer_destroy(&theirs);
        }
    }
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        struct peal_frame frame = {.type = PEAL_F_PUBLISH, .req = 1};
        struct peal_buf ours = {0};
        msgpack_sbuffer theirs;
        msgpack_packer pk;
        for (size_t i = 0; i < counts[c]; i++)
            entries[i] = peal_span_make(bytes, i % 3);
        frame.entries.at = entries;
        frame.entries.count = counts[c];
        msgpack_sbuffer_init(&theirs);
        msgpack_packer_init(&pk, &theirs, msgpack_sbuffer_write);
        msgpack_pack_array(&pk, 3);
        msgpack_pack_uint64(&pk, PEAL_F_PUBLISH);
        msgpack_pack_uint64(&pk, 1);
        msgpack_pack_array(&pk, counts[c]);
        for (size_t i = 0; i < counts[c]; i++)
            pack_span(&pk, entries[i]);
        peal_frame_encode(&frame, &ours);
        assert_int_equal(ours.size, theirs.size);
        assert_memory_equal(ours.at, theirs.data, ours.size);
        peal_buf_fini(&ours);
        msgpack_sbuffer_destroy(&theirs);
    }
}

static void frame_truncated_at_any_byte_is_refused(void **state)
{
    (void)state;
    struct peal_frame in = full_frame(PEAL_F_SYNC);
    struct peal_frame out;
    struct peal_buf buf = {0};
    peal_frame_encode(&in, &buf);
    for (size_t size = 0; size < buf.size; size++) {
        /* An exact copy, so that the address sanitizer sees a read beyond its end. */
        char *copy = malloc(size == 0 ? 1 : size);
        memcpy(copy, buf.at, size);
        assert_int_equal(peal_frame_decode(peal_span_make(copy, size), &out), PEAL_EBAD_MESSAGE);
        free(copy);
    }
    peal_buf_fini(&buf);
}

static void frame_newer_fields_are_skipped_and_older_ones_missing_read_as_zero(void **state)
{
    (void)state;
    /* [LEAVE, "g", {"new": [1]}] and [JOIN, 5] */
    static const char newer[] = "\x93\x03\xa1g\x81\xa3new\x91\x01";
    static const char older[] = "\x92\x02\x05";
    struct peal_frame out;
    assert_int_equal(peal_frame_decode(peal_span_make(newer, sizeof newer - 1), &out), PEAL_OK);
    assert_true(peal_span_is(out.group, "g"));
    peal_frame_fini(&out);
    assert_int_equal(peal_frame_decode(peal_span_make(older, sizeof older - 1), &out), PEAL_OK);
    assert_int_equal(out.req, 5);
    assert_null(out.group.at);
    peal_frame_fini(&out);
}

static void frame_bad_input_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        enum peal_err err;
    } table[] = {
        {"", 0, PEAL_EBAD_MESSAGE},
        {"\xc0", 1, PEAL_EBAD_MESSAGE},
        {"\x90", 1, PEAL_EBAD_MESSAGE},                         /* no type */
        {"\x91\x00", 2, PEAL_EUNKNOWN_TYPE},                    /* type 0 */
        {"\x91\x7f", 2, PEAL_EUNKNOWN_TYPE},                    /* type 127 */
        {"\x91\xa1x", 3, PEAL_EBAD_MESSAGE},                    /* type as text */
        {"\x92\x03\x05", 3, PEAL_EBAD_MESSAGE},                 /* group as number */
        {"\x92\x02\xff", 3, PEAL_EBAD_MESSAGE},                 /* req negative */
        {"\x92\x03\xa1g\x00", 5, PEAL_EBAD_MESSAGE},            /* a byte too many */
        {"\xdd\xff\xff\xff\xff\x03", 6, PEAL_EBAD_MESSAGE},     /* 4 G elements announced */
        {"\x92\x03\xdb\xff\xff\xff\xff", 7, PEAL_EBAD_MESSAGE}, /* 4 GiB text announced */
        {"\x93\x05\x01\xdd\x00\xff\xff\xff", 8, PEAL_EBAD_MESSAGE},
        {"\x92\x03\xc1", 3, PEAL_EBAD_MESSAGE}, /* the byte msgpack never uses */
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct peal_frame out;
        assert_int_equal(peal_frame_decode(peal_span_make(table[i].bytes, table[i].size), &out),
                         table[i].err);
    }
}

static void frame_group_beyond_200_bytes_is_refused(void **state)
{
    (void)state;
    char name[201];
    memset(name, 'x', sizeof name);
    struct peal_frame in = {.type = PEAL_F_LEAVE, .group = peal_span_make(name, 201)};
    struct peal_frame out;
    struct peal_buf buf = {0};
    peal_frame_encode(&in, &buf);
    assert_int_equal(peal_frame_decode(peal_buf_span(&buf), &out), PEAL_EBAD_MESSAGE);
    buf.size = 0;
    in.group.size = 200;
    peal_frame_encode(&in, &buf);
    assert_int_equal(peal_frame_decode(peal_buf_span(&buf), &out), PEAL_OK);
    peal_frame_fini(&out);
    peal_buf_fini(&buf);
}

static void topic_of_a_boot_id_parses_back(void **state)
{
    (void)state;
    char topic[PEAL_TOPIC_SIZE];
    uint64_t boot;
    peal_topic_of(0x0123456789abcdef, topic);
    assert_memory_equal(topic, "n0123456789abcdef", PEAL_TOPIC_SIZE);
    assert_int_equal(peal_topic_parse(peal_span_make(topic, sizeof topic), &boot), PEAL_OK);
    assert_true(boot == 0x0123456789abcdef);
    assert_int_equal(peal_topic_parse(peal_span_of("all"), &boot), PEAL_EBAD_FIELD);
    assert_int_equal(peal_topic_parse(peal_span_of("n0123456789abcdeX"), &boot), PEAL_EBAD_FIELD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frame_every_type_survives_a_round_trip),
        cmocka_unit_test(frame_people_arrive_with_and_without_a_name),
        cmocka_unit_test(frame_fields_arrive_in_their_places),
        cmocka_unit_test(frame_is_encoded_as_msgpack_c_does),
        cmocka_unit_test(frame_truncated_at_any_byte_is_refused),
        cmocka_unit_test(frame_newer_fields_are_skipped_and_older_ones_missing_read_as_zero),
        cmocka_unit_test(frame_bad_input_is_refused),
        cmocka_unit_test(frame_group_beyond_200_bytes_is_refused),
        cmocka_unit_test(topic_of_a_boot_id_parses_back),
    };
    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}

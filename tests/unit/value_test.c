#include "proto/value.h"

#include <msgpack.h>
#include <stdlib.h>
#include <time.h>

#include "base/limits.h"
#include "tests/unit/unit.h"

static void wire_check_nesting_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    char deep[PEAL_WIRE_DEPTH + 8];
    memset(deep, '\x91', sizeof deep); /* arrays of one element */
    deep[PEAL_WIRE_DEPTH - 1] = '\x01';
    assert_int_equal(peal_wire_check(peal_span_make(deep, PEAL_WIRE_DEPTH)), PEAL_OK);
    deep[PEAL_WIRE_DEPTH - 1] = '\x91';
    deep[PEAL_WIRE_DEPTH] = '\x01';
    assert_int_equal(peal_wire_check(peal_span_make(deep, PEAL_WIRE_DEPTH + 1)), PEAL_EBAD_MESSAGE);
}

/* Random bytes: whatever our cursor accepts, msgpack-c reads to the same end, and the reverse. */
static void wire_check_agrees_with_msgpack_c(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    for (int round = 0; round < 50000; round++) {
        char bytes[24];
        size_t size = (size_t)(rand() % (int)sizeof bytes) + 1;
        for (size_t i = 0; i < size; i++)
            bytes[i] = (char)(rand() & 1 ? rand() : 0x80 + rand() % 0x60);
        bool ours = peal_wire_check(peal_span_make(bytes, size)) == PEAL_OK;
        /* msgpack-c allocates what an array32 or map32 announces: only if we found it true. */
        if (!ours && (memchr(bytes, 0xdd, size) != NULL || memchr(bytes, 0xdf, size) != NULL))
            continue;
        msgpack_zone zone;
        msgpack_object object;
        size_t used = 0;
        msgpack_zone_init(&zone, 2048);
        msgpack_unpack_return rc = msgpack_unpack(bytes, size, &used, &zone, &object);
        bool theirs =
            (rc == MSGPACK_UNPACK_SUCCESS || rc == MSGPACK_UNPACK_EXTRA_BYTES) && used == size;
        msgpack_zone_destroy(&zone);
        assert_int_equal(ours, theirs);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wire_check_nesting_beyond_the_limit_is_refused),
        cmocka_unit_test(wire_check_agrees_with_msgpack_c),
    };
    return cmocka_run_group_tests_name("value", tests, NULL, NULL);
}

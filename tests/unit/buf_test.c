#include "base/buf.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

static void assert_holds(const struct peal_buf *buf, const char *text)
{
    assert_false(buf->failed);
    assert_true(peal_span_is(peal_buf_span(buf), text));
}

static void buf_zeroed_is_empty(void **state)
{
    (void)state;
    struct peal_buf buf = {0};
    assert_holds(&buf, "");
    peal_buf_add(&buf, NULL, 0);
    peal_buf_add_text(&buf, "");
    peal_buf_add_span(&buf, (struct peal_span){NULL, 0});
    assert_holds(&buf, "");
    assert_non_null(peal_buf_reserve(&buf, 0)); /* NULL would mean that memory ran out */
    assert_holds(&buf, "");
    peal_buf_fini(&buf);
    peal_buf_fini(&buf);
}

static void buf_appends_every_kind(void **state)
{
    (void)state;
    struct peal_buf buf = {0};
    peal_buf_add(&buf, "ab\0c", 4);
    peal_buf_add_char(&buf, '-');
    assert_int_equal(buf.size, 5);
    assert_memory_equal(buf.at, "ab\0c-", 5);
    peal_buf_fini(&buf);
    assert_int_equal(buf.size, 0);

    peal_buf_add_span(&buf, peal_span_make("xyz", 2));
    peal_buf_add_text(&buf, " ");
    peal_buf_add_u64(&buf, 0);
    peal_buf_add_char(&buf, ' ');
    peal_buf_add_u64(&buf, UINT64_MAX);
    peal_buf_add_format(&buf, " %d%s", -7, "%");
    assert_holds(&buf, "xy 0 18446744073709551615 -7%");
    peal_buf_fini(&buf);
}

static void buf_grows_and_keeps_what_it_has(void **state)
{
    (void)state;
    struct peal_buf buf = {0};
    for (int i = 0; i < 100000; i++)
        peal_buf_add_char(&buf, (char)('a' + i % 26));
    assert_int_equal(buf.size, 100000);
    for (int i = 0; i < 100000; i++)
        assert_int_equal(buf.at[i], 'a' + i % 26);

    char *large = malloc(300000);
    assert_non_null(large);
    memset(large, 'x', 300000);
    peal_buf_add(&buf, large, 300000);
    assert_int_equal(buf.size, 400000);
    assert_memory_equal(buf.at + 100000, large, 300000);
    large[299999] = '\0';
    peal_buf_add_format(&buf, "%s", large);
    assert_int_equal(buf.size, 699999);
    assert_int_equal(buf.at[699998], 'x');
    free(large);
    peal_buf_fini(&buf);
}

static void buf_reserve_makes_room_without_writing(void **state)
{
    (void)state;
    struct peal_buf buf = {0};
    peal_buf_add_text(&buf, "ab");
    char *to = peal_buf_reserve(&buf, 1000);
    assert_ptr_equal(to, buf.at + 2);
    assert_true(buf.capacity >= 1002);
    assert_int_equal(buf.size, 2);
    memset(to, 'c', 1000);
    buf.size += 1000;
    assert_int_equal(buf.at[1001], 'c');
    peal_buf_fini(&buf);
}

static void buf_failed_stays_failed_and_writes_nothing(void **state)
{
    (void)state;
    struct peal_buf buf = {0};
    peal_buf_add_text(&buf, "kept");
    assert_null(peal_buf_reserve(&buf, SIZE_MAX));
    assert_true(buf.failed);
    assert_null(peal_buf_reserve(&buf, 1));
    peal_buf_add_text(&buf, "lost");
    peal_buf_add_format(&buf, "%d", 1);
    peal_buf_add_u64(&buf, 1);
    assert_int_equal(buf.size, 4);
    assert_memory_equal(buf.at, "kept", 4);
    peal_buf_fini(&buf);
    assert_false(buf.failed);
    peal_buf_add_text(&buf, "again");
    assert_holds(&buf, "again");
    peal_buf_fini(&buf);
}

static void bytes_are_a_counted_copy(void **state)
{
    (void)state;
    char text[] = "hello";
    struct peal_bytes *bytes = peal_bytes_new(text, 5);
    assert_non_null(bytes);
    text[0] = 'j';
    assert_true(peal_span_is(peal_bytes_span(bytes), "hello"));
    assert_int_equal(peal_bytes_refs(bytes), 1);
    assert_ptr_equal(peal_bytes_ref(bytes), bytes);
    assert_int_equal(peal_bytes_refs(bytes), 2);
    peal_bytes_unref(bytes);
    assert_int_equal(peal_bytes_refs(bytes), 1);
    peal_bytes_unref(bytes);
    peal_bytes_unref(NULL);
}

static void bytes_may_be_empty_but_not_4_gib(void **state)
{
    (void)state;
    struct peal_bytes *bytes = peal_bytes_new(NULL, 0);
    assert_non_null(bytes);
    assert_int_equal(bytes->size, 0);
    peal_bytes_unref(bytes);
    assert_null(peal_bytes_new("", UINT32_MAX));
    assert_null(peal_bytes_new("", SIZE_MAX));
}

static void *hold_and_drop(void *arg)
{
    struct peal_bytes *bytes = arg;
    for (int i = 0; i < 10000; i++)
        peal_bytes_unref(peal_bytes_ref(bytes));
    peal_bytes_unref(bytes);
    return NULL;
}

static void bytes_of_many_threads_are_freed_by_the_last(void **state)
{
    (void)state;
    pthread_t threads[4];
    struct peal_bytes *bytes = peal_bytes_new("x", 1);
    assert_non_null(bytes);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hold_and_drop, peal_bytes_ref(bytes)),
                         0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(peal_bytes_refs(bytes), 1);
    peal_bytes_unref(bytes);
}

static void span_comparisons_know_size_and_bytes(void **state)
{
    (void)state;
    struct peal_span text = peal_span_of("user:7");
    assert_true(peal_span_starts(text, "user:"));
    assert_true(peal_span_starts(text, ""));
    assert_false(peal_span_starts(text, "user:77"));
    assert_true(peal_span_is(text, "user:7"));
    assert_false(peal_span_is(text, "user:"));
    assert_false(peal_span_is(peal_span_make("a\0b", 3), "a"));
    assert_true(peal_span_equal(peal_span_of(NULL), peal_span_of("")));
    assert_null(peal_span_of(NULL).at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buf_zeroed_is_empty),
        cmocka_unit_test(buf_appends_every_kind),
        cmocka_unit_test(buf_grows_and_keeps_what_it_has),
        cmocka_unit_test(buf_reserve_makes_room_without_writing),
        cmocka_unit_test(buf_failed_stays_failed_and_writes_nothing),
        cmocka_unit_test(bytes_are_a_counted_copy),
        cmocka_unit_test(bytes_may_be_empty_but_not_4_gib),
        cmocka_unit_test(bytes_of_many_threads_are_freed_by_the_last),
        cmocka_unit_test(span_comparisons_know_size_and_bytes),
    };
    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}

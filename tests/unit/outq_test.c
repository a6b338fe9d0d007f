#include "node/outq.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/unit/unit.h"

static struct peal_bytes *frame_of(const char *text)
{
    struct peal_bytes *frame = peal_bytes_new(text, strlen(text));
    assert_non_null(frame);
    return frame;
}

/* A frame of size bytes, of which each says where it is in the stream of frames. */
static struct peal_bytes *frame_sized(size_t size, uint32_t *next)
{
    char *bytes = malloc(size);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)((*next)++ % 251);
    struct peal_bytes *frame = peal_bytes_new(bytes, size);
    assert_non_null(frame);
    free(bytes);
    return frame;
}

static enum peal_err push_text(struct peal_outq *q, const char *text)
{
    struct peal_bytes *frame = frame_of(text);
    enum peal_err err = peal_outq_push(q, frame);
    peal_bytes_unref(frame);
    return err;
}

static enum peal_err push_sized(struct peal_outq *q, size_t size, bool control)
{
    uint32_t next = 0;
    struct peal_bytes *frame = frame_sized(size, &next);
    enum peal_err err = control ? peal_outq_push_control(q, frame) : peal_outq_push(q, frame);
    peal_bytes_unref(frame);
    return err;
}

static void assert_next(const struct peal_outq *q, const char *text)
{
    struct iovec vectors[16];
    char all[256];
    size_t size = 0;
    int count = peal_outq_gather(q, vectors, 16);
    for (int i = 0; i < count; i++) {
        memcpy(all + size, vectors[i].iov_base, vectors[i].iov_len);
        size += vectors[i].iov_len;
    }
    assert_int_equal(size, strlen(text));
    assert_memory_equal(all, text, size);
}

static void outq_zeroed_is_empty_and_may_be_finished(void **state)
{
    (void)state;
    struct peal_outq q = {0};
    struct iovec vector;
    assert_true(peal_outq_empty(&q));
    assert_int_equal(peal_outq_gather(&q, &vector, 1), 0);
    assert_int_equal(peal_outq_drop_unsent(&q), 0);
    peal_outq_fini(&q);
}

static void outq_push_takes_its_own_reference(void **state)
{
    (void)state;
    struct peal_outq q;
    struct peal_bytes *frame = frame_of("hello");
    peal_outq_init(&q, 4, 100);

    assert_int_equal(peal_outq_push(&q, frame), PEAL_OK);
    assert_int_equal(peal_outq_push(&q, frame), PEAL_OK);
    assert_int_equal(peal_bytes_refs(frame), 3);
    assert_int_equal(peal_outq_consume(&q, 5), 1);
    assert_int_equal(peal_bytes_refs(frame), 2);

    peal_outq_fini(&q);
    assert_int_equal(peal_bytes_refs(frame), 1);
    peal_bytes_unref(frame);
}

static void outq_push_beyond_bytes_max_changes_nothing(void **state)
{
    (void)state;
    struct peal_outq q;
    struct peal_bytes *frame = frame_of("hello");
    peal_outq_init(&q, 4, 9);

    assert_int_equal(peal_outq_push(&q, frame), PEAL_OK);
    struct peal_outq before = q;
    assert_int_equal(peal_outq_push(&q, frame), PEAL_EFULL); /* 5 + 5 > 9 */
    assert_memory_equal(&q, &before, sizeof q);
    assert_int_equal(peal_bytes_refs(frame), 2);
    assert_int_equal(push_text(&q, "1234"), PEAL_OK); /* 5 + 4 = 9 */
    assert_int_equal(push_text(&q, "!"), PEAL_EFULL);

    peal_outq_fini(&q);
    peal_bytes_unref(frame);
}

static void outq_push_beyond_slots_max_is_refused(void **state)
{
    (void)state;
    struct peal_outq q;
    peal_outq_init(&q, 3, 100); /* no power of two */

    for (int i = 0; i < 3; i++)
        assert_int_equal(push_text(&q, "x"), PEAL_OK);
    assert_int_equal(push_text(&q, "x"), PEAL_EFULL);
    assert_int_equal(peal_outq_consume(&q, 1), 1);
    assert_int_equal(push_text(&q, "y"), PEAL_OK);
    assert_next(&q, "xxy");

    peal_outq_fini(&q);
}

static void outq_push_larger_than_bytes_max_is_taken_when_empty_only(void **state)
{
    (void)state;
    struct peal_outq q;
    peal_outq_init(&q, 4, 3);

    assert_int_equal(push_text(&q, "larger"), PEAL_OK);
    assert_int_equal(push_text(&q, "x"), PEAL_EFULL);
    assert_int_equal(peal_outq_consume(&q, 5), 0);
    assert_int_equal(push_text(&q, "larger"), PEAL_EFULL);
    assert_int_equal(push_text(&q, "ab"), PEAL_OK); /* 1 + 2 = 3 */
    assert_int_equal(peal_outq_consume(&q, 3), 2);
    assert_int_equal(push_text(&q, "larger"), PEAL_OK);

    peal_outq_fini(&q);
}

static void outq_push_control_may_go_beyond_the_slots(void **state)
{
    (void)state;
    struct peal_outq q;
    peal_outq_init(&q, 2, 1 << 20);

    assert_int_equal(push_text(&q, "a"), PEAL_OK);
    assert_int_equal(push_text(&q, "b"), PEAL_OK);
    for (int i = 0; i < PEAL_OUTQ_CONTROL_SLOTS; i++)
        assert_int_equal(push_sized(&q, 1, true), PEAL_OK);
    assert_int_equal(push_sized(&q, 1, true), PEAL_EFULL);
    assert_int_equal(q.count, 2 + PEAL_OUTQ_CONTROL_SLOTS);

    peal_outq_fini(&q);
}

static void outq_push_control_may_go_beyond_the_bytes(void **state)
{
    (void)state;
    struct peal_outq q;
    peal_outq_init(&q, 64, 100);

    assert_int_equal(push_sized(&q, 100, false), PEAL_OK);
    assert_int_equal(push_sized(&q, PEAL_OUTQ_CONTROL_BYTES - 1, true), PEAL_OK);
    assert_int_equal(push_sized(&q, 2, true), PEAL_EFULL);
    assert_int_equal(push_sized(&q, 1, true), PEAL_OK);
    assert_int_equal(push_sized(&q, 1, true), PEAL_EFULL);
    assert_int_equal(push_sized(&q, 1, false), PEAL_EFULL);
    assert_int_equal(q.bytes, 100 + PEAL_OUTQ_CONTROL_BYTES);

    peal_outq_fini(&q);
}

static void outq_push_control_fits_behind_a_frame_larger_than_bytes_max(void **state)
{
    (void)state;
    struct peal_outq q;
    peal_outq_init(&q, 64, 100);

    assert_int_equal(push_sized(&q, 200000, false), PEAL_OK);
    assert_int_equal(push_sized(&q, PEAL_OUTQ_CONTROL_BYTES, true), PEAL_OK);
    assert_int_equal(push_sized(&q, 1, true), PEAL_EFULL);
    assert_int_equal(peal_outq_consume(&q, 199999), 0);
    assert_int_equal(push_sized(&q, 99, true), PEAL_OK); /* the limit has shrunk with the frame */
    assert_int_equal(push_sized(&q, 1, true), PEAL_EFULL);

    peal_outq_fini(&q);
}

static void outq_gather_starts_behind_what_was_sent(void **state)
{
    (void)state;
    struct peal_outq q;
    struct iovec vectors[2];
    peal_outq_init(&q, 8, 100);
    push_text(&q, "first");
    push_text(&q, "second");
    push_text(&q, "third");

    assert_int_equal(peal_outq_consume(&q, 7), 1);
    assert_next(&q, "condthird");
    assert_int_equal(q.bytes, 9);
    assert_int_equal(peal_outq_gather(&q, vectors, 0), 0);
    assert_int_equal(peal_outq_gather(&q, vectors, 1), 1);
    assert_int_equal(vectors[0].iov_len, 4);
    assert_memory_equal(vectors[0].iov_base, "cond", 4);
    assert_int_equal(peal_outq_gather(&q, vectors, 2), 2);
    assert_int_equal(peal_outq_consume(&q, 0), 0);
    assert_next(&q, "condthird");

    peal_outq_fini(&q);
}

static void outq_consume_of_everything_gives_the_ring_back(void **state)
{
    (void)state;
    struct peal_outq q;
    peal_outq_init(&q, 100, 1000);
    assert_null(q.slots);

    for (int i = 0; i < 100; i++)
        assert_int_equal(push_text(&q, "ten bytes."), PEAL_OK);
    assert_non_null(q.slots);
    assert_int_equal(peal_outq_consume(&q, 1000), 100);
    assert_true(peal_outq_empty(&q));
    assert_null(q.slots);
    assert_int_equal(q.capacity, 0);
    assert_int_equal(push_text(&q, "again"), PEAL_OK);
    assert_next(&q, "again");

    peal_outq_fini(&q);
}

static void outq_drop_unsent_keeps_the_frame_that_was_begun(void **state)
{
    (void)state;
    struct peal_outq q;
    peal_outq_init(&q, 8, 100);
    push_text(&q, "first");
    push_text(&q, "second");
    push_text(&q, "third");

    peal_outq_consume(&q, 6);
    assert_int_equal(peal_outq_drop_unsent(&q), 1);
    assert_next(&q, "econd");
    assert_int_equal(q.bytes, 5);
    assert_int_equal(peal_outq_drop_unsent(&q), 0);
    push_text(&q, "!");
    assert_next(&q, "econd!");

    peal_outq_fini(&q);
}

static void outq_drop_unsent_between_frames_drops_everything(void **state)
{
    (void)state;
    struct peal_outq q;
    peal_outq_init(&q, 8, 100);
    push_text(&q, "first");
    push_text(&q, "second");
    push_text(&q, "third");

    peal_outq_consume(&q, 5);
    assert_int_equal(peal_outq_drop_unsent(&q), 2);
    assert_true(peal_outq_empty(&q));
    assert_null(q.slots);
    assert_int_equal(q.bytes, 0);

    peal_outq_fini(&q);
}

/* ---- against a model --------------------------------------------------------------------- */

enum { MODEL_MAX = 64 + PEAL_OUTQ_CONTROL_SLOTS };

/* The same rules on plain arrays: what is left of each frame, as a copy. */
struct model {
    struct {
        unsigned char *bytes;
        size_t size;
        size_t sent;
    } frames[MODEL_MAX];
    size_t count;
    size_t slots_max;
    size_t bytes_max;
};

static size_t model_bytes(const struct model *m)
{
    size_t bytes = 0;
    for (size_t i = 0; i < m->count; i++)
        bytes += m->frames[i].size - m->frames[i].sent;
    return bytes;
}

static bool model_push(struct model *m, const struct peal_bytes *frame, bool control)
{
    size_t slots = m->slots_max + (control ? PEAL_OUTQ_CONTROL_SLOTS : 0);
    size_t limit = m->bytes_max;
    if (control) {
        if (m->count > 0 && m->frames[0].size - m->frames[0].sent > limit)
            limit = m->frames[0].size - m->frames[0].sent;
        limit += PEAL_OUTQ_CONTROL_BYTES;
    }
    if (m->count >= slots) return false;
    if (model_bytes(m) + frame->size > limit && (control || m->count > 0)) return false;
    m->frames[m->count].bytes = malloc(frame->size);
    assert_non_null(m->frames[m->count].bytes);
    memcpy(m->frames[m->count].bytes, frame->at, frame->size);
    m->frames[m->count].size = frame->size;
    m->frames[m->count].sent = 0;
    m->count++;
    return true;
}

static void model_remove(struct model *m, size_t index)
{
    free(m->frames[index].bytes);
    m->count--;
    for (size_t i = index; i < m->count; i++)
        m->frames[i] = m->frames[i + 1];
}

static uint32_t model_consume(struct model *m, size_t size)
{
    uint32_t done = 0;
    for (; size > 0; size--) {
        if (++m->frames[0].sent < m->frames[0].size) continue;
        model_remove(m, 0);
        done++;
    }
    return done;
}

static uint32_t model_drop_unsent(struct model *m)
{
    uint32_t dropped = 0;
    while (m->count > 0 && m->frames[m->count - 1].sent == 0) {
        model_remove(m, m->count - 1);
        dropped++;
    }
    return dropped;
}

static void assert_same(const struct peal_outq *q, const struct model *m, int max)
{
    struct iovec vectors[MODEL_MAX];
    int expected = (int)m->count < max ? (int)m->count : max;
    assert_int_equal(q->count, m->count);
    assert_int_equal(q->bytes, model_bytes(m));
    assert_int_equal(peal_outq_empty(q), m->count == 0);
    assert_int_equal(peal_outq_gather(q, vectors, max), expected);
    for (int i = 0; i < expected; i++) {
        size_t rest = m->frames[i].size - m->frames[i].sent;
        assert_int_equal(vectors[i].iov_len, rest);
        assert_memory_equal(vectors[i].iov_base, m->frames[i].bytes + m->frames[i].sent, rest);
    }
}

static void outq_random_steps_agree_with_the_model(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    for (int round = 0; round < 60; round++) {
        struct peal_outq q;
        struct model m = {.slots_max = 1 + (size_t)(rand_r(&seed) % 64),
                          .bytes_max = 1 + (size_t)(rand_r(&seed) % 2000)};
        uint32_t next = 0;
        peal_outq_init(&q, (uint32_t)m.slots_max, (uint32_t)m.bytes_max);
        for (int step = 0; step < 300; step++) {
            int what = rand_r(&seed) % 16;
            if (what < 10) {
                size_t limit = rand_r(&seed) % 32 == 0 ? 30000 : 60;
                struct peal_bytes *frame = frame_sized(1 + (size_t)rand_r(&seed) % limit, &next);
                bool control = what < 4;
                enum peal_err err =
                    control ? peal_outq_push_control(&q, frame) : peal_outq_push(&q, frame);
                assert_int_equal(err, model_push(&m, frame, control) ? PEAL_OK : PEAL_EFULL);
                assert_int_equal(peal_bytes_refs(frame), err == PEAL_OK ? 2 : 1);
                peal_bytes_unref(frame);
            } else if (what < 15) {
                size_t size = (size_t)rand_r(&seed) % (q.bytes + 1);
                if (what == 14) size = q.bytes;
                assert_int_equal(peal_outq_consume(&q, size), model_consume(&m, size));
            } else {
                assert_int_equal(peal_outq_drop_unsent(&q), model_drop_unsent(&m));
            }
            assert_same(&q, &m, rand_r(&seed) % (MODEL_MAX + 1));
        }
        peal_outq_fini(&q);
        while (m.count > 0)
            model_remove(&m, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outq_zeroed_is_empty_and_may_be_finished),
        cmocka_unit_test(outq_push_takes_its_own_reference),
        cmocka_unit_test(outq_push_beyond_bytes_max_changes_nothing),
        cmocka_unit_test(outq_push_beyond_slots_max_is_refused),
        cmocka_unit_test(outq_push_larger_than_bytes_max_is_taken_when_empty_only),
        cmocka_unit_test(outq_push_control_may_go_beyond_the_slots),
        cmocka_unit_test(outq_push_control_may_go_beyond_the_bytes),
        cmocka_unit_test(outq_push_control_fits_behind_a_frame_larger_than_bytes_max),
        cmocka_unit_test(outq_gather_starts_behind_what_was_sent),
        cmocka_unit_test(outq_consume_of_everything_gives_the_ring_back),
        cmocka_unit_test(outq_drop_unsent_keeps_the_frame_that_was_begun),
        cmocka_unit_test(outq_drop_unsent_between_frames_drops_everything),
        cmocka_unit_test(outq_random_steps_agree_with_the_model),
    };
    return cmocka_run_group_tests_name("outq", tests, NULL, NULL);
}

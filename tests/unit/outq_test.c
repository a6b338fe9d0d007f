#include "node/outq.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/unit/unit.h"

static struct peal_run *frame_of(const char *text)
{
    struct peal_run *frame = peal_run_new(NULL, peal_span_of(text), NULL, 1);
    assert_non_null(frame);
    return frame;
}

/* A frame of size bytes, of which each says where it is in the stream of frames. */
static struct peal_run *frame_sized(size_t size, uint32_t *next)
{
    char *bytes = malloc(size);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)((*next)++ % 251);
    struct peal_run *frame = peal_run_new(NULL, peal_span_make(bytes, size), NULL, 1);
    assert_non_null(frame);
    free(bytes);
    return frame;
}

static struct peal_outq_limits limits;

static void init(struct peal_outq *q, uint32_t frames_max, uint32_t bytes_max)
{
    limits = (struct peal_outq_limits){frames_max, bytes_max};
    peal_outq_init(q);
}

static enum peal_err push(struct peal_outq *q, struct peal_run *frame)
{
    return peal_outq_push(q, &limits, frame) == 1 ? PEAL_OK : PEAL_EFULL;
}

static enum peal_err push_text(struct peal_outq *q, const char *text)
{
    struct peal_run *frame = frame_of(text);
    enum peal_err err = push(q, frame);
    peal_run_unref(frame);
    return err;
}

static enum peal_err push_sized(struct peal_outq *q, size_t size, bool control)
{
    uint32_t next = 0;
    struct peal_run *frame = frame_sized(size, &next);
    enum peal_err err = control ? peal_outq_push_control(q, &limits, frame) : push(q, frame);
    peal_run_unref(frame);
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
    struct peal_run *frame = frame_of("hello");
    init(&q, 4, 100);

    assert_int_equal(push(&q, frame), PEAL_OK);
    assert_int_equal(push(&q, frame), PEAL_OK);
    assert_int_equal(frame->refs, 3);
    assert_int_equal(peal_outq_consume(&q, 5), 1);
    assert_int_equal(frame->refs, 2);

    peal_outq_fini(&q);
    assert_int_equal(frame->refs, 1);
    peal_run_unref(frame);
}

static void outq_push_beyond_bytes_max_changes_nothing(void **state)
{
    (void)state;
    struct peal_outq q;
    struct peal_run *frame = frame_of("hello");
    init(&q, 4, 9);

    assert_int_equal(push(&q, frame), PEAL_OK);
    struct peal_outq before = q;
    assert_int_equal(push(&q, frame), PEAL_EFULL); /* 5 + 5 > 9 */
    assert_memory_equal(&q, &before, sizeof q);
    assert_int_equal(frame->refs, 2);
    assert_int_equal(push_text(&q, "1234"), PEAL_OK); /* 5 + 4 = 9 */
    assert_int_equal(push_text(&q, "!"), PEAL_EFULL);

    peal_outq_fini(&q);
    peal_run_unref(frame);
}

static void outq_push_beyond_slots_max_is_refused(void **state)
{
    (void)state;
    struct peal_outq q;
    init(&q, 3, 100); /* no power of two */

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
    init(&q, 4, 3);

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
    init(&q, 2, 1 << 20);

    assert_int_equal(push_text(&q, "a"), PEAL_OK);
    assert_int_equal(push_text(&q, "b"), PEAL_OK);
    for (int i = 0; i < PEAL_OUTQ_CONTROL_FRAMES; i++)
        assert_int_equal(push_sized(&q, 1, true), PEAL_OK);
    assert_int_equal(push_sized(&q, 1, true), PEAL_EFULL);
    assert_int_equal(q.frames, 2 + PEAL_OUTQ_CONTROL_FRAMES);

    peal_outq_fini(&q);
}

static void outq_push_control_may_go_beyond_the_bytes(void **state)
{
    (void)state;
    struct peal_outq q;
    init(&q, 64, 100);

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
    init(&q, 64, 100);

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
    init(&q, 8, 100);
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
    init(&q, 100, 1000);
    for (int i = 0; i < 100; i++)
        assert_int_equal(push_text(&q, "ten bytes."), PEAL_OK);
    assert_true(q.capacity >= 100);
    assert_int_equal(peal_outq_consume(&q, 1000), 100);
    assert_true(peal_outq_empty(&q));
    assert_int_equal(q.capacity, 0);
    assert_int_equal(push_text(&q, "again"), PEAL_OK);
    assert_int_equal(q.capacity, 0); /* one needs no ring */
    assert_next(&q, "again");

    peal_outq_fini(&q);
}

static void outq_drop_unsent_keeps_the_frame_that_was_begun(void **state)
{
    (void)state;
    struct peal_outq q;
    init(&q, 8, 100);
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
    init(&q, 8, 100);
    push_text(&q, "first");
    push_text(&q, "second");
    push_text(&q, "third");

    peal_outq_consume(&q, 5);
    assert_int_equal(peal_outq_drop_unsent(&q), 2);
    assert_true(peal_outq_empty(&q));
    assert_int_equal(q.capacity, 0);
    assert_int_equal(q.bytes, 0);

    peal_outq_fini(&q);
}

/* ---- runs of several frames -------------------------------------------------------------- */

/* Frames "0", "11", "222", ... in one run. */
static struct peal_run *run_of(uint32_t count)
{
    char bytes[64];
    uint32_t ends[10];
    uint32_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        memset(bytes + size, (int)('0' + i), i + 1);
        ends[i] = size += i + 1;
    }
    struct peal_run *run = peal_run_new(NULL, peal_span_make(bytes, size), ends, count);
    assert_non_null(run);
    return run;
}

static void outq_push_takes_as_many_frames_of_a_run_as_fit(void **state)
{
    (void)state;
    struct peal_outq q;
    struct peal_run *run = run_of(4); /* 0 11 222 3333 */
    init(&q, 8, 7);
    assert_int_equal(peal_outq_push(&q, &limits, run), 3); /* 6 bytes, the next one has 4 */
    assert_next(&q, "011222");
    assert_int_equal(q.frames, 3);
    assert_int_equal(peal_outq_push(&q, &limits, run), 1);
    assert_next(&q, "0112220");
    assert_int_equal(peal_outq_push(&q, &limits, run), 0);
    assert_int_equal(run->refs, 1); /* what does not go in is not held either */
    peal_outq_fini(&q);

    init(&q, 3, 100);
    assert_int_equal(peal_outq_push(&q, &limits, run), 3); /* no more than three */
    peal_outq_fini(&q);

    struct peal_run *tail = peal_run_part(run, 3, 1);
    init(&q, 8, 2);
    assert_int_equal(peal_outq_push(&q, &limits, tail), 1); /* alone, a larger one is taken */
    assert_next(&q, "3333");
    peal_outq_fini(&q);
    peal_run_unref(tail);
    assert_int_equal(run->refs, 1);
    peal_run_unref(run);
}

static void outq_consume_counts_the_frames_of_a_run(void **state)
{
    (void)state;
    struct peal_outq q;
    struct peal_run *run = run_of(4);
    init(&q, 8, 100);
    assert_int_equal(peal_outq_push(&q, &limits, run), 4);
    assert_int_equal(push_text(&q, "x"), PEAL_OK);
    assert_int_equal(peal_outq_consume(&q, 2), 1);
    assert_int_equal(peal_outq_consume(&q, 1), 1);
    assert_int_equal(q.frames, 3);
    assert_int_equal(peal_outq_consume(&q, 2), 0);
    assert_next(&q, "23333x");
    assert_int_equal(peal_outq_consume(&q, 6), 3);
    assert_true(peal_outq_empty(&q));
    assert_int_equal(run->refs, 1);
    peal_outq_fini(&q);
    peal_run_unref(run);
}

static void outq_drop_unsent_cuts_a_run_behind_the_frame_that_was_begun(void **state)
{
    (void)state;
    struct peal_outq q;
    struct peal_run *run = run_of(4);
    init(&q, 8, 100);
    assert_int_equal(peal_outq_push(&q, &limits, run), 4);
    assert_int_equal(push_text(&q, "x"), PEAL_OK);
    peal_outq_consume(&q, 4); /* 0 11 2|22 3333 */
    assert_int_equal(peal_outq_drop_unsent(&q), 2);
    assert_next(&q, "22");
    assert_int_equal(q.bytes, 2);
    assert_int_equal(peal_outq_drop_unsent(&q), 0);
    assert_int_equal(push_text(&q, "!"), PEAL_OK);
    assert_next(&q, "22!");
    assert_int_equal(peal_outq_consume(&q, 2), 1);
    assert_int_equal(peal_outq_consume(&q, 1), 1);

    assert_int_equal(peal_outq_push(&q, &limits, run), 4);
    peal_outq_consume(&q, 3); /* between two frames: nothing is begun */
    assert_int_equal(peal_outq_drop_unsent(&q), 2);
    assert_true(peal_outq_empty(&q));
    assert_int_equal(run->refs, 1);
    peal_outq_fini(&q);
    peal_run_unref(run);
}

/* ---- against a model --------------------------------------------------------------------- */

enum { MODEL_MAX = 64 + PEAL_OUTQ_CONTROL_FRAMES };

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

static bool model_push(struct model *m, struct peal_span frame, bool control)
{
    size_t slots = m->slots_max + (control ? PEAL_OUTQ_CONTROL_FRAMES : 0);
    size_t limit = m->bytes_max;
    if (control) {
        if (m->count > 0 && m->frames[0].size - m->frames[0].sent > limit)
            limit = m->frames[0].size - m->frames[0].sent;
        limit += PEAL_OUTQ_CONTROL_BYTES;
    }
    if (m->count >= slots) return false;
    if (model_bytes(m) + frame.size > limit && (control || m->count > 0)) return false;
    m->frames[m->count].bytes = malloc(frame.size);
    assert_non_null(m->frames[m->count].bytes);
    memcpy(m->frames[m->count].bytes, frame.at, frame.size);
    m->frames[m->count].size = frame.size;
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

/* What is queued, byte by byte; a gather of fewer vectors gives the beginning of it. */
static void assert_same(const struct peal_outq *q, const struct model *m, int max)
{
    struct iovec vectors[MODEL_MAX];
    size_t frame = 0;
    size_t at = m->count > 0 ? m->frames[0].sent : 0;
    size_t total = 0;
    assert_int_equal(q->frames, m->count);
    assert_int_equal(q->bytes, model_bytes(m));
    assert_int_equal(peal_outq_empty(q), m->count == 0);
    int count = peal_outq_gather(q, vectors, max);
    assert_int_equal(count, (int)q->count < max ? (int)q->count : max);
    for (int i = 0; i < count; i++) {
        const unsigned char *bytes = vectors[i].iov_base;
        total += vectors[i].iov_len;
        for (size_t k = 0; k < vectors[i].iov_len; k++) {
            assert_true(frame < m->count);
            assert_int_equal(bytes[k], m->frames[frame].bytes[at]);
            if (++at < m->frames[frame].size) continue;
            at = 0;
            frame++;
        }
    }
    if (count == (int)q->count) assert_int_equal(total, q->bytes);
}

/* A run of up to five frames, most of them small. */
static struct peal_run *random_run(unsigned *seed, uint32_t count, uint32_t *next)
{
    static char bytes[5 * 30000];
    uint32_t ends[5];
    uint32_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t limit = rand_r(seed) % 32 == 0 ? 30000 : 60;
        uint32_t end = size + 1 + (uint32_t)rand_r(seed) % limit;
        while (size < end)
            bytes[size++] = (char)((*next)++ % 251);
        ends[i] = end;
    }
    struct peal_run *run = peal_run_new(NULL, peal_span_make(bytes, size), ends, count);
    assert_non_null(run);
    return run;
}

static uint32_t model_push_run(struct model *m, const struct peal_run *run, bool control)
{
    uint32_t taken = 0;
    for (; taken < run->count; taken++) {
        uint32_t start = peal_run_end(run, taken);
        struct peal_span frame =
            peal_span_make(run->at + start, peal_run_end(run, taken + 1) - start);
        if (!model_push(m, frame, control)) break;
    }
    return taken;
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
        init(&q, (uint32_t)m.slots_max, (uint32_t)m.bytes_max);
        for (int step = 0; step < 300; step++) {
            int what = rand_r(&seed) % 16;
            if (what < 10) {
                bool control = what < 4;
                uint32_t count = control ? 1 : 1 + (uint32_t)rand_r(&seed) % 5;
                struct peal_run *run = random_run(&seed, count, &next);
                uint32_t taken = control ? peal_outq_push_control(&q, &limits, run) == PEAL_OK
                                         : peal_outq_push(&q, &limits, run);
                assert_int_equal(taken, model_push_run(&m, run, control));
                assert_int_equal(run->refs, taken == run->count ? 2 : 1);
                peal_run_unref(run);
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
        cmocka_unit_test(outq_push_takes_as_many_frames_of_a_run_as_fit),
        cmocka_unit_test(outq_consume_counts_the_frames_of_a_run),
        cmocka_unit_test(outq_drop_unsent_cuts_a_run_behind_the_frame_that_was_begun),
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

#include "node/entries.h"

#include <stdio.h>

#include "base/metrics.h"
#include "proto/envelope.h"
#include "proto/parcel.h"
#include "tests/unit/uplink_rig.h"

static void entries_message_with_a_bad_envelope_leads_to_a_sync(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    forget(w);
    struct peal_frame f = {.type = PEAL_F_MESSAGE, .envelope = peal_span_of("junk")};
    batch(w, 5, 1, &f);
    assert_int_equal(last_sent(w)->type, PEAL_F_SYNC);
    assert_int_equal(w->posted_count[0], 0);
}

/* Several chunks of what is looked up at once, with entries of other kinds between. */
static void entries_long_batch_is_handed_on_in_order(void **state)
{
    struct world *w = *state;
    enum { GROUPS = 40, COUNT = 100 };
    struct peal_parcel parcel = {0};
    char name[24];
    batch(w, 5, 0, NULL);
    for (int i = 0; i < GROUPS; i++) {
        snprintf(name, sizeof name, "room:%d", i);
        order_more(w, PEAL_ORDER_JOIN, 0, req_of(0, 1 + (uint64_t)i), name);
        joined(w, 1 + (uint64_t)i, req_of(0, 1 + (uint64_t)i), name, 7, 0);
    }
    forget(w);
    for (int i = 0; i < COUNT; i++) {
        struct peal_frame f = {.type = PEAL_F_STATE, .rev = 1};
        struct peal_buf buf = {0};
        snprintf(name, sizeof name, "room:%d", i % GROUPS);
        if (i % 9 == 4) {
            f.group = peal_span_of(name);
        } else {
            struct peal_envelope env = {.group = peal_span_of(name),
                                        .epoch = 7,
                                        .offset = 1 + (uint64_t)i,
                                        .id = peal_span_of("x"),
                                        .data = peal_span_of("1")};
            peal_envelope_encode(&env, &buf);
            f = (struct peal_frame){.type = PEAL_F_MESSAGE, .envelope = peal_buf_span(&buf)};
        }
        assert_int_equal(peal_parcel_add(&parcel, &f), PEAL_OK);
        peal_buf_fini(&buf);
    }
    peal_uplink_on_batch(w->up, 0, peal_parcel_finish(&parcel, 5, GROUPS + 1));
    peal_uplink_flush(w->up);
    peal_parcel_fini(&parcel);
    assert_int_equal(w->posted_count[0], COUNT);
    for (int i = 0; i < COUNT; i++) {
        const struct peal_letter *letter = w->posted[0][i];
        snprintf(name, sizeof name, "room:%d", i % GROUPS);
        if (i % 9 == 4) {
            assert_int_equal(letter->frame.type, PEAL_F_STATE);
            assert_true(peal_span_is(letter->frame.group, name));
        } else {
            assert_int_equal(letter->env.offset, 1 + i);
            assert_true(peal_span_is(letter->env.group, name));
        }
    }
}

static void entries_garbage_from_the_link_is_no_crash_but_a_sync(void **state)
{
    struct world *w = *state;
    batch(w, 5, 0, NULL);
    forget(w);
    peal_uplink_on_batch(w->up, 0, peal_span_of("\x93\x0c\x05"));
    assert_false(peal_uplink_ready(w->up));
    batch(w, 5, 0, NULL);
    assert_int_equal(last_sent(w)->type, PEAL_F_SYNC);
    peal_uplink_on_answer(w->up, 0, peal_span_of("junk"));
}

int main(void)
{
    peal_metrics_thread_start();
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(entries_message_with_a_bad_envelope_leads_to_a_sync),
        TEST(entries_long_batch_is_handed_on_in_order),
        TEST(entries_garbage_from_the_link_is_no_crash_but_a_sync),
    };
    return cmocka_run_group_tests_name("entries", tests, NULL, NULL);
}

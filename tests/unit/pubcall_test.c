#include "node/pubcall.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/config.h"
#include "proto/envelope.h"
#include "proto/group.h"
#include "proto/wire.h"
#include "tests/unit/unit.h"

enum { ORDERS_MAX = 16 };

/* A bus that keeps what it is given. */
struct world {
    struct peal_config config;
    struct peal_hub hub;
    struct peal_order *orders[ORDERS_MAX];
    size_t order_count;
    size_t room; /* orders that are taken */
    struct peal_pubcall call;
    int done;
    bool fini_in_done;
    struct peal_pubcall_result *results; /* copied */
    size_t count;
};

static enum peal_err take_order(void *ctx, struct peal_order *order)
{
    struct world *w = ctx;
    if (w->room == 0) return PEAL_EFULL;
    w->room--;
    assert_true(w->order_count < ORDERS_MAX);
    w->orders[w->order_count++] = order;
    return PEAL_OK;
}

static void on_done(void *ctx, const struct peal_pubcall_result *results, size_t count)
{
    struct world *w = ctx;
    w->done++;
    w->count = count;
    w->results = calloc(count + 1, sizeof *results);
    memcpy(w->results, results, count * sizeof *results);
    if (w->fini_in_done) peal_pubcall_fini(&w->call);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    const struct peal_hub_io io = {.ctx = w, .order = take_order};
    w->config.cluster.router_count = 3;
    w->room = ORDERS_MAX;
    if (peal_hub_init(&w->hub, &w->config, NULL, &io, 1, 7, 1000) != PEAL_OK) return -1;
    peal_pubcall_init(&w->call, &w->hub);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    peal_pubcall_fini(&w->call);
    peal_hub_fini(&w->hub);
    for (size_t i = 0; i < w->order_count; i++)
        peal_order_free(w->orders[i]);
    free(w->results);
    free(w);
    return 0;
}

static struct peal_publish_item item(const char *group, const char *data)
{
    struct peal_publish_item it = {.err = PEAL_OK};
    it.env.group = peal_span_of(group);
    it.env.data = peal_span_of(data);
    return it;
}

/* Names that belong to the three routers of setup, found by trying. */
static char names[3][16];

static int find_names(void **state)
{
    (void)state;
    for (size_t router = 0; router < 3; router++)
        for (int n = 0; n < 1000; n++) {
            snprintf(names[router], sizeof names[router], "g%d", n);
            uint16_t slot = peal_group_slot(peal_span_of(names[router]));
            if (peal_slot_router(slot, 3) == router) break;
        }
    return 0;
}

/* Answers an order with one receipt per envelope: offset is 100 * order + place. */
static void answer(struct world *w, size_t order, uint64_t code)
{
    struct peal_frame sent;
    struct peal_span spans[64];
    struct peal_buf receipts[64] = {0};
    struct peal_buf out = {0};
    assert_int_equal(peal_frame_decode(w->orders[order]->frame, &sent), PEAL_OK);
    assert_int_equal(sent.type, PEAL_F_PUBLISH);
    assert_int_equal(sent.req, w->orders[order]->req);
    assert_true(sent.entries.count <= 64);
    for (size_t i = 0; i < sent.entries.count; i++) {
        struct peal_envelope env;
        assert_int_equal(peal_envelope_decode(sent.entries.at[i], &env), PEAL_OK);
        struct peal_frame receipt = {.type = PEAL_F_RECEIPT,
                                     .id = peal_span_of("ID"),
                                     .group = env.group,
                                     .epoch = 5,
                                     .offset = 100 * (order + 1) + i,
                                     .flags = PEAL_FLAG_STORED};
        if (code != PEAL_OK) {
            receipt.code = code;
            receipt.message = peal_span_of("no room");
        }
        peal_frame_encode(&receipt, &receipts[i]);
        spans[i] = peal_buf_span(&receipts[i]);
    }
    struct peal_frame published = {.type = PEAL_F_PUBLISHED, .req = sent.req};
    published.entries.at = spans;
    published.entries.count = sent.entries.count;
    peal_frame_encode(&published, &out);
    struct peal_letter *letter;
    assert_int_equal(peal_letter_new(peal_buf_span(&out), &letter), PEAL_OK);
    peal_hub_on_letter(&w->hub, letter);
    peal_letter_unref(letter);
    for (size_t i = 0; i < sent.entries.count; i++)
        peal_buf_fini(&receipts[i]);
    peal_buf_fini(&out);
    peal_frame_fini(&sent);
}

static void start(struct world *w, struct peal_publish_item *items, size_t count)
{
    struct peal_publish_request request = {.items = items, .count = count};
    assert_int_equal(peal_pubcall_start(&w->call, &request, on_done, w), PEAL_OK);
}

static void pubcall_many_routers_gives_receipts_in_the_order_of_items(void **state)
{
    struct world *w = *state;
    struct peal_publish_item items[] = {item(names[2], "1"), item(names[0], "2"),
                                        item(names[2], "3"), item(names[1], "4"),
                                        item(names[0], "5")};
    start(w, items, 5);
    memset(items, 0x55, sizeof items); /* the request may go */
    assert_int_equal(w->order_count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_true(peal_span_is(w->orders[i]->group, names[i]));

    answer(w, 2, PEAL_OK);
    answer(w, 0, PEAL_OK);
    assert_int_equal(w->done, 0);
    answer(w, 1, PEAL_OK);
    assert_int_equal(w->done, 1);
    assert_int_equal(w->count, 5);
    const uint64_t offsets[] = {300, 100, 301, 200, 101};
    const size_t routers[] = {2, 0, 2, 1, 0};
    for (size_t i = 0; i < 5; i++) {
        const struct peal_pubcall_result *r = &w->results[i];
        assert_int_equal(r->err, PEAL_OK);
        assert_int_equal(r->offset, offsets[i]);
        assert_int_equal(r->epoch, 5);
        assert_int_equal(r->flags, PEAL_FLAG_STORED);
        assert_true(peal_span_is(peal_span_make(r->id, r->id_size), "ID"));
        assert_true(peal_span_is(r->group, names[routers[i]]));
    }
}

static void pubcall_refused_item_keeps_its_error_and_is_not_sent(void **state)
{
    struct world *w = *state;
    struct peal_publish_item items[] = {item("a", "1"), {.err = PEAL_EBAD_FIELD}};
    snprintf(items[1].why, sizeof items[1].why, "data is missing");
    snprintf(items[1].field, sizeof items[1].field, "data");
    start(w, items, 2);
    assert_int_equal(w->order_count, 1);
    answer(w, 0, PEAL_OK);
    assert_int_equal(w->results[0].err, PEAL_OK);
    assert_int_equal(w->results[1].err, PEAL_EBAD_FIELD);
    assert_string_equal(w->results[1].why, "data is missing");
    assert_string_equal(w->results[1].field, "data");
}

static void pubcall_without_good_items_ends_at_once(void **state)
{
    struct world *w = *state;
    struct peal_publish_item items[] = {{.err = PEAL_EBAD_GROUP}};
    start(w, items, 1);
    assert_int_equal(w->order_count, 0);
    assert_int_equal(w->done, 1);
    assert_int_equal(w->results[0].err, PEAL_EBAD_GROUP);
}

static void pubcall_silent_router_times_out_its_items_only(void **state)
{
    struct world *w = *state;
    struct peal_publish_item items[] = {item(names[0], "1"), item(names[1], "2")};
    start(w, items, 2);
    answer(w, 1, PEAL_OK);
    peal_hub_set_time(&w->hub, 1000 + PEAL_REQUEST_MS - 1, 0);
    peal_hub_on_tick(&w->hub);
    assert_int_equal(w->done, 0);
    peal_hub_set_time(&w->hub, 1000 + PEAL_REQUEST_MS, 0);
    peal_hub_on_tick(&w->hub);
    assert_int_equal(w->done, 1);
    assert_int_equal(w->results[0].err, PEAL_ETIMEOUT);
    assert_true(strlen(w->results[0].why) > 0);
    assert_int_equal(w->results[1].err, PEAL_OK);
    answer(w, 0, PEAL_OK); /* too late: nobody waits */
    assert_int_equal(w->done, 1);
}

static void pubcall_unreachable_router_is_told(void **state)
{
    struct world *w = *state;
    struct peal_publish_item items[] = {item("a", "1"), item("a", "2")};
    start(w, items, 2);
    struct peal_letter *letter = peal_letter_failed(w->orders[0]->req, PEAL_ENO_ROUTER);
    peal_hub_on_letter(&w->hub, letter);
    peal_letter_unref(letter);
    assert_int_equal(w->done, 1);
    assert_int_equal(w->results[0].err, PEAL_ENO_ROUTER);
    assert_int_equal(w->results[1].err, PEAL_ENO_ROUTER);
}

static void pubcall_refused_by_the_router_carries_its_sentence(void **state)
{
    struct world *w = *state;
    struct peal_publish_item items[] = {item("a", "1")};
    start(w, items, 1);
    answer(w, 0, PEAL_ESTORE_FULL);
    assert_int_equal(w->results[0].err, PEAL_ESTORE_FULL);
    assert_string_equal(w->results[0].why, "no room");
}

/* The router of an order has only its second item; the first comes back. */
static void pubcall_item_of_a_moved_slot_is_sent_to_its_new_owner(void **state)
{
    struct world *w = *state;
    char other[16];
    for (int n = 0;; n++) { /* of the same router, in another slot */
        snprintf(other, sizeof other, "o%d", n);
        uint16_t slot = peal_group_slot(peal_span_of(other));
        if (peal_slot_router(slot, 3) == 0 && slot != peal_group_slot(peal_span_of(names[0])))
            break;
    }
    struct peal_publish_item items[] = {item(names[0], "1"), item(other, "2")};
    struct peal_frame sent;
    struct peal_buf bufs[3] = {0};
    struct peal_span spans[2];
    struct peal_letter *letter;
    start(w, items, 2);
    assert_int_equal(w->order_count, 1);
    assert_int_equal(peal_frame_decode(w->orders[0]->frame, &sent), PEAL_OK);
    struct peal_frame moved = {.type = PEAL_F_MOVED,
                               .slot = peal_group_slot(peal_span_of(names[0])),
                               .owner = 2,
                               .generation = 1,
                               .envelope = sent.entries.at[0]};
    struct peal_frame receipt = {.type = PEAL_F_RECEIPT, .offset = 7};
    struct peal_frame published = {.type = PEAL_F_PUBLISHED, .req = sent.req};
    peal_frame_encode(&moved, &bufs[0]);
    peal_frame_encode(&receipt, &bufs[1]);
    for (size_t i = 0; i < 2; i++)
        spans[i] = peal_buf_span(&bufs[i]);
    published.entries.at = spans;
    published.entries.count = 2;
    peal_frame_encode(&published, &bufs[2]);
    assert_int_equal(peal_letter_new(peal_buf_span(&bufs[2]), &letter), PEAL_OK);
    peal_hub_on_letter(&w->hub, letter);
    peal_letter_unref(letter);
    peal_frame_fini(&sent);
    for (size_t i = 0; i < 3; i++)
        peal_buf_fini(&bufs[i]);

    assert_int_equal(w->done, 0);
    assert_int_equal(w->order_count, 2);
    assert_true(peal_span_is(w->orders[1]->group, names[0]));
    answer(w, 1, PEAL_OK);
    assert_int_equal(w->done, 1);
    assert_int_equal(w->results[0].err, PEAL_OK);
    assert_int_equal(w->results[0].offset, 200);
    assert_int_equal(w->results[1].err, PEAL_OK);
    assert_int_equal(w->results[1].offset, 7);
    /* From now on they travel apart. */
    peal_pubcall_fini(&w->call);
    free(w->results);
    w->results = NULL;
    start(w, items, 2);
    assert_int_equal(w->order_count, 4);
}

static void pubcall_wrong_number_of_receipts_is_an_error(void **state)
{
    struct world *w = *state;
    struct peal_publish_item items[] = {item("a", "1"), item("a", "2")};
    struct peal_buf out = {0};
    struct peal_letter *letter;
    start(w, items, 2);
    struct peal_frame published = {.type = PEAL_F_PUBLISHED, .req = w->orders[0]->req};
    peal_frame_encode(&published, &out);
    assert_int_equal(peal_letter_new(peal_buf_span(&out), &letter), PEAL_OK);
    peal_hub_on_letter(&w->hub, letter);
    peal_letter_unref(letter);
    peal_buf_fini(&out);
    assert_int_equal(w->done, 1);
    assert_int_equal(w->results[0].err, PEAL_EINTERNAL);
    assert_int_equal(w->results[1].err, PEAL_EINTERNAL);
}

static void pubcall_full_bus_fails_what_was_not_sent(void **state)
{
    struct world *w = *state;
    struct peal_publish_item items[] = {item(names[0], "1"), item(names[1], "2"),
                                        item(names[2], "3")};
    w->room = 1;
    start(w, items, 3);
    assert_int_equal(w->done, 0);
    answer(w, 0, PEAL_OK);
    assert_int_equal(w->done, 1);
    assert_int_equal(w->results[0].err, PEAL_OK);
    assert_int_equal(w->results[1].err, PEAL_EQUEUE_FULL);
    assert_int_equal(w->results[2].err, PEAL_EQUEUE_FULL);
}

static void pubcall_full_bus_from_the_start_ends_at_once(void **state)
{
    struct world *w = *state;
    struct peal_publish_item items[] = {item("a", "1")};
    w->room = 0;
    start(w, items, 1);
    assert_int_equal(w->done, 1);
    assert_int_equal(w->results[0].err, PEAL_EQUEUE_FULL);
}

static void pubcall_large_items_are_split_into_frames_below_the_limit(void **state)
{
    struct world *w = *state;
    size_t size = 3 << 20;
    char *data = malloc(size + 1);
    memset(data, 'x', size);
    data[size] = '\0';
    struct peal_publish_item items[5];
    for (size_t i = 0; i < 5; i++)
        items[i] = item("a", data);
    start(w, items, 5);
    free(data);
    assert_int_equal(w->order_count, 3); /* 2 + 2 + 1 */
    for (size_t i = 0; i < 3; i++)
        assert_true(w->orders[i]->frame.size < PEAL_WIRE_BYTES_MAX / 2 + 100);
    for (size_t i = 0; i < 3; i++)
        answer(w, 2 - i, PEAL_OK);
    assert_int_equal(w->done, 1);
    const uint64_t offsets[] = {100, 101, 200, 201, 300};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(w->results[i].offset, offsets[i]);
}

static void pubcall_cancelled_hears_nothing_more(void **state)
{
    struct world *w = *state;
    struct peal_publish_item items[] = {item(names[0], "1"), item(names[1], "2")};
    start(w, items, 2);
    answer(w, 0, PEAL_OK);
    peal_pubcall_fini(&w->call);
    answer(w, 1, PEAL_OK);
    assert_int_equal(w->done, 0);
    assert_int_equal(w->hub.requests.count, 0);
}

static void pubcall_may_be_ended_by_done(void **state)
{
    struct world *w = *state;
    struct peal_publish_item items[] = {item("a", "1")};
    w->fini_in_done = true;
    start(w, items, 1);
    answer(w, 0, PEAL_OK);
    assert_int_equal(w->done, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(pubcall_many_routers_gives_receipts_in_the_order_of_items),
        TEST(pubcall_refused_item_keeps_its_error_and_is_not_sent),
        TEST(pubcall_without_good_items_ends_at_once),
        TEST(pubcall_silent_router_times_out_its_items_only),
        TEST(pubcall_unreachable_router_is_told),
        TEST(pubcall_refused_by_the_router_carries_its_sentence),
        TEST(pubcall_item_of_a_moved_slot_is_sent_to_its_new_owner),
        TEST(pubcall_wrong_number_of_receipts_is_an_error),
        TEST(pubcall_full_bus_fails_what_was_not_sent),
        TEST(pubcall_full_bus_from_the_start_ends_at_once),
        TEST(pubcall_large_items_are_split_into_frames_below_the_limit),
        TEST(pubcall_cancelled_hears_nothing_more),
        TEST(pubcall_may_be_ended_by_done),
    };
    return cmocka_run_group_tests_name("pubcall", tests, find_names, NULL);
}

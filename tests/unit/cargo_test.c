#include "router/cargo.h"

#include "proto/group.h"
#include "proto/parcel.h"
#include "tests/unit/shard_rig.h"

enum { OTHER = 43 };

/* Groups in memory of one shard, and another shard that takes them over. */
struct move {
    struct world *from;
    struct world *to;
    struct peal_pieces pieces;
};

static int open_both(void **state)
{
    struct move *m = calloc(1, sizeof *m);
    void *world;
    setup(&world);
    m->from = world;
    setup(&world);
    m->to = world;
    *state = m;
    return 0;
}

static int close_both(void **state)
{
    struct move *m = *state;
    void *world = m->from;
    for (size_t i = 0; i < m->pieces.count; i++)
        peal_bytes_unref(m->pieces.at[i]);
    free(m->pieces.at);
    teardown(&world);
    world = m->to;
    teardown(&world);
    free(m);
    return 0;
}

static uint16_t slot_of(const char *group)
{
    return peal_group_slot(peal_span_of(group));
}

static enum peal_err adopt_all(struct move *m, uint16_t slot)
{
    enum peal_err err = PEAL_OK;
    for (size_t i = 0; i < m->pieces.count && err == PEAL_OK; i++)
        err = peal_cargo_adopt(m->to->shard, slot, peal_bytes_span(m->pieces.at[i]));
    return err;
}

/* Where the group stands in the shard, as a node that joins it is told. */
static struct peal_frame position(struct world *w, const char *group)
{
    struct peal_frame batch;
    struct peal_frame joined;
    join(w, OTHER, 1, group);
    last_entry(w, 0, &batch, &joined);
    assert_int_equal(joined.type, PEAL_F_JOINED);
    peal_frame_fini(&batch);
    return joined;
}

static void cargo_group_goes_on_where_it_was(void **state)
{
    struct move *m = *state;
    push(m->from, "{\"group\":\"room\",\"data\":1,\"message_id\":\"first\"}");
    push(m->from, "{\"group\":\"room\",\"data\":2}");
    assert_int_equal(peal_cargo_collect(m->from->shard, slot_of("room"), &m->pieces), PEAL_OK);
    assert_int_equal(adopt_all(m, slot_of("room")), PEAL_OK);
    struct peal_frame before = position(m->from, "room");
    struct peal_frame after = position(m->to, "room");
    assert_true(after.epoch == before.epoch);
    assert_int_equal(after.offset, 2);
    assert_int_equal(after.first, 1); /* the history came too */
    /* The retry of a message that was published before is known. */
    push(m->to, "{\"group\":\"room\",\"data\":1,\"message_id\":\"first\"}");
    push(m->to, "{\"group\":\"room\",\"data\":3}");
    expect_message(m->to, OTHER, "3", 3);
}

static void cargo_holds_what_is_in_the_slot_and_in_memory_only(void **state)
{
    struct move *m = *state;
    char other[16] = "room:";
    do { /* a group of another slot */
        assert_true(other[5] < '~');
        snprintf(other, sizeof other, "room:%c", other[5] == '\0' ? 'a' : other[5] + 1);
    } while (slot_of(other) == slot_of("room"));
    push(m->from, "{\"group\":\"room\",\"data\":1}");
    position(m->from, other);
    join(m->from, OTHER, 2, "user:ann");
    store_done(m->from, PEAL_OK); /* the store moves its own */
    assert_int_equal(peal_cargo_collect(m->from->shard, slot_of("user:ann"), &m->pieces), PEAL_OK);
    assert_int_equal(m->pieces.count, 0);
    assert_int_equal(peal_cargo_collect(m->from->shard, slot_of("room"), &m->pieces), PEAL_OK);
    assert_int_equal(m->pieces.count, 1);
    struct peal_frame batch;
    struct peal_frame entry;
    assert_int_equal(peal_frame_decode(peal_bytes_span(m->pieces.at[0]), &batch), PEAL_OK);
    assert_int_equal(batch.entries.count, 2); /* AT and one MESSAGE */
    assert_int_equal(peal_frame_decode(batch.entries.at[0], &entry), PEAL_OK);
    assert_int_equal(entry.type, PEAL_F_AT);
    assert_true(peal_span_is(entry.group, "room"));
    peal_frame_fini(&entry);
    peal_frame_fini(&batch);
}

static void cargo_of_another_slot_is_refused(void **state)
{
    struct move *m = *state;
    push(m->from, "{\"group\":\"room\",\"data\":1}");
    assert_int_equal(peal_cargo_collect(m->from->shard, slot_of("room"), &m->pieces), PEAL_OK);
    assert_int_equal(adopt_all(m, slot_of("room") ^ 1), PEAL_EBAD_MESSAGE);
    assert_int_equal(position(m->to, "room").offset, 0);
}

static void cargo_that_is_no_piece_is_refused(void **state)
{
    struct move *m = *state;
    struct peal_parcel parcel = {0};
    struct peal_frame beat = {.type = PEAL_F_BEAT, .boot = 1};
    assert_int_equal(peal_parcel_add(&parcel, &beat), PEAL_OK);
    assert_int_equal(peal_cargo_adopt(m->to->shard, 0, peal_parcel_finish(&parcel, 1, 0)),
                     PEAL_EBAD_MESSAGE);
    peal_parcel_fini(&parcel);
    assert_int_not_equal(peal_cargo_adopt(m->to->shard, 0, peal_span_of("\xc1")), PEAL_OK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_both, close_both)
    const struct CMUnitTest tests[] = {
        TEST(cargo_group_goes_on_where_it_was),
        TEST(cargo_holds_what_is_in_the_slot_and_in_memory_only),
        TEST(cargo_of_another_slot_is_refused),
        TEST(cargo_that_is_no_piece_is_refused),
    };
    return cmocka_run_group_tests_name("cargo", tests, NULL, NULL);
}

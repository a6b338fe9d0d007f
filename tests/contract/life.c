/* Start and stop, who may open, and what is there after a kill -9. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/envelope.h"
#include "tests/contract/rig.h"
#include "tests/unit/unit.h"

/* ---- start and stop --------------------------------------------------------------------- */

static void reopened_keeps_messages_marks_and_generation(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    uint64_t generation = rig_generation(rig);
    assert_true(generation != 0);
    for (int i = 0; i < 5; i++)
        rig_put(rig, "user:a", NULL, "x");
    struct peal_store_op before = rig_ack(rig, "user:a", 2);
    assert_true(before.changed);

    rig_reopen(rig);
    assert_int_equal(rig_generation(rig), generation);
    struct peal_store_op after = rig_head(rig, "user:a");
    assert_int_equal(after.offset, 5);
    assert_int_equal(after.unread, 3);
    assert_int_equal(after.rev, before.rev);
    assert_string_equal(rig_text_of(rig, "user:a"), "M1ar M2ar M3 M4 M5");
    assert_int_equal(rig_put(rig, "user:a", NULL, "x").offset, 6);
    assert_int_equal(rig_put(rig, "user:b", NULL, "x").offset, 1);
    assert_string_equal(rig_text_of(rig, "user:b"), "M1"); /* not another group's number */
}

static void another_folder_has_another_generation(void **state)
{
    struct rig *rig = *state;
    char *dir = rig->dir;
    rig_open(rig);
    uint64_t generation = rig_generation(rig);
    rig_close(rig);
    rig->dir = rig_folder_new();
    rig_open(rig);
    bool same = rig_generation(rig) == generation;
    rig_close(rig);
    rig_folder_free(rig->dir);
    rig->dir = dir;
    assert_false(same);
}

static void stop_works_off_what_was_submitted(void **state)
{
    struct rig *rig = *state;
    enum { COUNT = 2000 };
    rig->groups[0].keep.messages = 4000;
    rig_open(rig);
    for (int i = 0; i < COUNT; i++)
        rig_submit(rig, rig_put_op(rig, &(struct message){"user:a", NULL, "x", 0, 0}));
    rig->impl->stop(rig->store);
    rig->store = NULL;
    for (uint64_t i = 1; i <= COUNT; i++) {
        struct peal_store_op *op = peal_mailbox_pop(&rig->done);
        assert_non_null(op);
        assert_int_equal(op->err, PEAL_OK);
        assert_int_equal(op->offset, i);
        peal_store_op_free(op);
    }
    peal_mailbox_fini(&rig->done);
    peal_mailbox_fini(&rig->pages);
    rig_open(rig);
    assert_int_equal(rig_head(rig, "user:a").offset, COUNT);
}

static void stop_answers_pages_that_were_asked_for(void **state)
{
    struct rig *rig = *state;
    enum { COUNT = 100 };
    rig_open(rig);
    for (int i = 0; i < COUNT; i++) {
        struct peal_store_fetch *fetch = peal_store_fetch_new(peal_span_of("user:a"));
        assert_non_null(fetch);
        fetch->policy = &rig->groups[0];
        assert_int_equal(rig->impl->read(rig->store, fetch), PEAL_OK);
    }
    rig->impl->stop(rig->store);
    rig->store = NULL;
    for (int i = 0; i < COUNT; i++) {
        struct peal_store_fetch *fetch = peal_mailbox_pop(&rig->pages);
        assert_non_null(fetch);
        assert_non_null(fetch->page);
        peal_store_fetch_free(fetch);
    }
    peal_mailbox_fini(&rig->done);
    peal_mailbox_fini(&rig->pages);
}

/* Runs a store in a child until it is told to end; tells what start said. */
static void child_opens(struct rig *rig, int out)
{
    char byte = (char)rig_try_open(rig);
    if (write(out, &byte, 1) != 1) _exit(2);
    for (;;)
        pause();
}

static void folder_in_use_by_another_process_is_refused(void **state)
{
    struct rig *rig = *state;
    int from;
    char byte;
    char pid[32];
    pid_t child = rig_spawn(rig, child_opens, &from);
    assert_int_equal(read(from, &byte, 1), 1);
    assert_int_equal(byte, PEAL_OK);
    assert_int_equal(rig_try_open(rig), PEAL_ELOCKED);
    snprintf(pid, sizeof pid, "process %ld ", (long)child);
    assert_non_null(strstr(rig->why, pid));
    rig_crash(rig, child, from);
    rig_open(rig);
}

/* ---- kill -9 ---------------------------------------------------------------------------- */

enum { KILLS = 25, GROUPS = 8, WINDOW = 64, OFFSETS = 8000 };

struct receipt {
    uint64_t epoch;
    uint64_t offset;
    uint32_t group;
    uint32_t number; /* the message says so itself */
};

static uint32_t next_number;
static uint32_t receipts[GROUPS][OFFSETS]; /* number + 1 of the message at each offset */

static void group_name(uint32_t group, char out[16])
{
    snprintf(out, 16, "user:%u", group);
}

static struct peal_store_op *numbered_put(struct rig *rig, uint32_t number)
{
    char group[16];
    char id[24];
    char data[24];
    group_name(number % GROUPS, group);
    snprintf(id, sizeof id, "id-%u", number);
    snprintf(data, sizeof data, "number %u", number);
    return rig_put_op(rig, &(struct message){group, number % 2 ? id : NULL, data, 0, 0});
}

static void child_submit(struct rig *rig, uint32_t number)
{
    struct peal_store_op *op = numbered_put(rig, number);
    op->tag[0] = number;
    if (rig->impl->submit(rig->store, op) != PEAL_OK) _exit(3);
}

/* Stores as fast as it can and reports each `done` until it is killed. */
static void child_stores(struct rig *rig, int out)
{
    if (rig_try_open(rig) != PEAL_OK) _exit(4);
    for (int i = 0; i < WINDOW; i++)
        child_submit(rig, next_number++);
    for (;;) {
        struct peal_store_op *op = rig_wait(&rig->done);
        uint32_t number = (uint32_t)op->tag[0];
        struct receipt receipt = {op->epoch, op->offset, number % GROUPS, number};
        if (op->err != PEAL_OK) _exit(5);
        if (write(out, &receipt, sizeof receipt) != (ssize_t)sizeof receipt) _exit(6);
        peal_store_op_free(op);
        child_submit(rig, next_number++);
    }
}

static size_t read_receipts(int from, size_t count, uint64_t *epoch)
{
    struct receipt receipt;
    size_t n = 0;
    while (n < count && read(from, &receipt, sizeof receipt) == (ssize_t)sizeof receipt) {
        if (*epoch == 0) *epoch = receipt.epoch;
        assert_int_equal(receipt.epoch, *epoch);
        assert_true(receipt.offset < OFFSETS);
        /* No (epoch, offset) is given twice. */
        assert_int_equal(receipts[receipt.group][receipt.offset], 0);
        receipts[receipt.group][receipt.offset] = receipt.number + 1;
        if (receipt.number >= next_number) next_number = receipt.number + 1;
        n++;
    }
    return n;
}

static void check_group(struct rig *rig, uint32_t group)
{
    char name[16];
    uint64_t position = 0;
    group_name(group, name);
    uint64_t newest = rig_head(rig, name).offset;
    for (bool end = false; !end;) {
        struct page page;
        rig_page(rig, &(struct ask){name, rig_generation(rig), position, 0, 0, 0}, &page);
        for (size_t i = 0; i < page.frame.entries.count; i++) {
            struct peal_frame entry;
            struct peal_envelope env;
            char data[24];
            assert_int_equal(peal_frame_decode(page.frame.entries.at[i], &entry), PEAL_OK);
            assert_int_equal(entry.type, PEAL_F_MESSAGE); /* neither gaps nor skips */
            assert_int_equal(peal_envelope_decode(entry.envelope, &env), PEAL_OK);
            assert_int_equal(env.offset, ++position);
            /* Messages may be there that were not acknowledged any more. */
            uint32_t number = receipts[group][position];
            snprintf(data, sizeof data, "number %u", number - 1);
            if (number != 0) assert_true(peal_span_is(env.data, data));
            peal_frame_fini(&entry);
        }
        end = page.frame.entries.count == 0;
        page_free(&page);
    }
    assert_int_equal(position, newest);
    for (uint64_t o = newest + 1; o < OFFSETS; o++)
        assert_int_equal(receipts[group][o], 0); /* nothing acknowledged is missing */
}

/* What a publisher does who had a receipt and forgot: the id is known, at the same offset. */
static void check_ids(struct rig *rig, uint32_t group)
{
    for (uint64_t o = 1; o < OFFSETS; o++) {
        uint32_t number = receipts[group][o] - 1;
        if (receipts[group][o] == 0 || number % 2 == 0) continue;
        struct peal_store_op again = rig_do(rig, numbered_put(rig, number));
        assert_true(again.duplicate);
        assert_int_equal(again.offset, o);
    }
}

static void killed_at_any_moment_loses_nothing_acknowledged(void **state)
{
    struct rig *rig = *state;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    srand(seed);
    memset(receipts, 0, sizeof receipts);
    next_number = 0;
    rig->groups[0].keep.messages = PEAL_INBOX_MESSAGES_MAX;
    rig->groups[0].keep.bytes = 1 << 30;
    uint64_t epoch = 0;
    size_t total = 0;
    for (int i = 0; i < KILLS; i++) {
        int from;
        pid_t child = rig_spawn(rig, child_stores, &from);
        total += read_receipts(from, (size_t)rand() % 600 + 1, &epoch);
        rig->impl->crash(child);
        total += read_receipts(from, SIZE_MAX, &epoch); /* what was reported before it died */
        waitpid(child, NULL, 0);
        close(from);
        next_number += 2 * WINDOW; /* ids of messages in flight are not used again */
    }
    print_message("%zu acknowledged\n", total);
    assert_true(total > KILLS);
    rig_open(rig);
    assert_int_equal(rig_generation(rig), epoch);
    for (uint32_t group = 0; group < GROUPS; group++) {
        check_group(rig, group);
        check_ids(rig, group);
    }
}

int contract_life(const struct contract_store *impl)
{
    const struct CMUnitTest tests[] = {
        CASE(reopened_keeps_messages_marks_and_generation),
        CASE(another_folder_has_another_generation),
        CASE(stop_works_off_what_was_submitted),
        CASE(stop_answers_pages_that_were_asked_for),
        CASE(folder_in_use_by_another_process_is_refused),
        CASE(killed_at_any_moment_loses_nothing_acknowledged),
    };
    return cmocka_run_group_tests_name("contract: life", tests, NULL, NULL);
}

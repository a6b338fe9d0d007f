#include "storage/inbox.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/wire.h"
#include "tests/unit/unit.h"

enum { HOUR_MS = 3600 * 1000 };

static struct peal_config_group policy_of(enum peal_until until)
{
    return (struct peal_config_group){
        .durable = true,
        .keep = {.messages = 1000,
                 .bytes = 1 << 20,
                 .age_ms = 24 * HOUR_MS,
                 .until = (int)until,
                 .settled_ms = HOUR_MS},
    };
}

static void add_many(struct peal_inbox *inbox, size_t count)
{
    for (size_t i = 0; i < count; i++)
        peal_inbox_add(inbox, 100, 1000, 0);
}

static bool mark_upto(struct peal_inbox *inbox, const struct peal_config_group *policy,
                      uint64_t flags, uint64_t upto)
{
    return peal_inbox_mark(inbox, policy, &(struct peal_mark){.flags = flags, .upto = upto}, 2000);
}

static void inbox_acked_policy_ack_counts_as_read(void **state)
{
    (void)state;
    struct peal_config_group policy = policy_of(PEAL_UNTIL_ACKED);
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 1, 77);
    add_many(&inbox, 10);

    assert_true(mark_upto(&inbox, &policy, PEAL_FLAG_ACK, 4));
    assert_int_equal(peal_inbox_unread(&inbox), 6);
    assert_true(peal_inbox_settled(&inbox, &policy, 4));
    assert_false(peal_inbox_settled(&inbox, &policy, 5));
    assert_int_equal(inbox.rev, 11);
}

static void inbox_read_policy_ack_leaves_unread(void **state)
{
    (void)state;
    struct peal_config_group policy = policy_of(PEAL_UNTIL_READ);
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 1, 77);
    add_many(&inbox, 10);

    assert_true(mark_upto(&inbox, &policy, PEAL_FLAG_ACK, 4));
    assert_int_equal(peal_inbox_unread(&inbox), 10);
    assert_false(peal_inbox_settled(&inbox, &policy, 4));
    assert_true(mark_upto(&inbox, &policy, PEAL_FLAG_READ, 6));
    assert_int_equal(peal_inbox_unread(&inbox), 4);
    assert_true(peal_inbox_delivered(&inbox, 6)); /* read implies ack */
    assert_int_equal(inbox.rev, 12);
}

static void inbox_same_mark_again_changes_nothing(void **state)
{
    (void)state;
    struct peal_config_group policy = policy_of(PEAL_UNTIL_ACKED);
    struct peal_inbox inbox;
    struct peal_inbox before;
    peal_inbox_init(&inbox, 1, 77);
    add_many(&inbox, 100);
    uint64_t offsets[] = {0, 3, 70, 101, UINT64_MAX};
    struct peal_mark mark = {.flags = PEAL_FLAG_ACK, .offsets = offsets, .offset_count = 5};

    assert_true(peal_inbox_mark(&inbox, &policy, &mark, 2000));
    assert_int_equal(peal_inbox_unread(&inbox), 98);
    before = inbox;
    assert_false(peal_inbox_mark(&inbox, &policy, &mark, 3000));
    assert_memory_equal(&before, &inbox, sizeof inbox);
    mark.flags = 0; /* neither ack nor read */
    assert_false(peal_inbox_mark(&inbox, &policy, &mark, 3000));
    assert_memory_equal(&before, &inbox, sizeof inbox);
}

static void inbox_mark_all_takes_the_whole_window(void **state)
{
    (void)state;
    struct peal_config_group policy = policy_of(PEAL_UNTIL_ACKED);
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 1, 77);
    add_many(&inbox, PEAL_INBOX_MESSAGES_MAX);
    assert_false(peal_inbox_fits(&inbox));

    assert_true(mark_upto(&inbox, &policy, PEAL_FLAG_READ | PEAL_FLAG_ALL, 0));
    assert_int_equal(peal_inbox_unread(&inbox), 0);
    assert_false(mark_upto(&inbox, &policy, PEAL_FLAG_READ, UINT64_MAX));
}

static void inbox_marks_follow_the_window_when_it_moves(void **state)
{
    (void)state;
    struct peal_config_group policy = policy_of(PEAL_UNTIL_ACKED);
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 1, 77);
    add_many(&inbox, 300);
    uint64_t offsets[] = {100, 200, 300};
    struct peal_mark mark = {.flags = PEAL_FLAG_ACK, .offsets = offsets, .offset_count = 3};
    assert_true(peal_inbox_mark(&inbox, &policy, &mark, 2000));

    while (inbox.first < 150) {
        uint64_t offset = inbox.first;
        bool settled = peal_inbox_settled(&inbox, &policy, offset);
        peal_inbox_remove(&inbox, offset, 100, settled ? PEAL_GONE_SETTLED : PEAL_GONE_EVICTED);
        peal_inbox_advance(&inbox, offset + 1, 1000);
    }
    assert_false(peal_inbox_delivered(&inbox, 100)); /* outside of the window */
    assert_true(peal_inbox_delivered(&inbox, 200));
    assert_true(peal_inbox_delivered(&inbox, 300));
    assert_false(peal_inbox_delivered(&inbox, 199));
    assert_int_equal(inbox.lost_to, 149);
    assert_int_equal(inbox.kept, 151);
    assert_int_equal(inbox.bytes, 15100);
    assert_int_equal(peal_inbox_unread(&inbox), 149);
}

static void inbox_judge_names_the_reason(void **state)
{
    (void)state;
    struct peal_config_group policy = policy_of(PEAL_UNTIL_ACKED);
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 1, 77);
    add_many(&inbox, 1000);

    assert_int_equal(peal_inbox_judge(&inbox, &policy, 1000, 0, 1000, 0, 0), PEAL_GONE_NOT);
    assert_int_equal(peal_inbox_judge(&inbox, &policy, 1000, 0, 1000, 1, 1), PEAL_GONE_EVICTED);
    assert_int_equal(peal_inbox_judge(&inbox, &policy, 1000, 1500, 1500, 0, 0), PEAL_GONE_EXPIRED);
    assert_int_equal(peal_inbox_judge(&inbox, &policy, 1000, 0, 1000 + 24 * HOUR_MS, 0, 0),
                     PEAL_GONE_AGED);
    assert_int_equal(peal_inbox_due_ms(&inbox, &policy), 1000 + 24 * HOUR_MS);
    assert_true(mark_upto(&inbox, &policy, PEAL_FLAG_ACK, 1));
    assert_int_equal(peal_inbox_judge(&inbox, &policy, 1000, 0, 1999, 1, 1), PEAL_GONE_SETTLED);
    assert_int_equal(peal_inbox_judge(&inbox, &policy, 1000, 0, 1999 + HOUR_MS, 0, 0),
                     PEAL_GONE_NOT);
    assert_int_equal(peal_inbox_judge(&inbox, &policy, 1000, 0, 2000 + HOUR_MS, 0, 0),
                     PEAL_GONE_SETTLED);
    assert_int_equal(peal_inbox_due_ms(&inbox, &policy), 2000 + HOUR_MS);
    policy.keep.messages = 999;
    assert_int_equal(peal_inbox_due_ms(&inbox, &policy), 0);
}

static void inbox_single_large_message_stays(void **state)
{
    (void)state;
    struct peal_config_group policy = policy_of(PEAL_UNTIL_ACKED);
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 1, 77);
    peal_inbox_add(&inbox, policy.keep.bytes * 2, 1000, 0);

    assert_int_equal(peal_inbox_judge(&inbox, &policy, 1000, 0, 1000, 0, 0), PEAL_GONE_NOT);
    assert_int_equal(peal_inbox_judge(&inbox, &policy, 1000, 0, 1000, 1, 1), PEAL_GONE_EVICTED);
}

static void inbox_clock_that_went_back_ages_nothing(void **state)
{
    (void)state;
    struct peal_config_group policy = policy_of(PEAL_UNTIL_ACKED);
    policy.keep.age_ms = UINT64_MAX; /* stored + age must not wrap around */
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 1, 77);
    add_many(&inbox, 1);
    assert_int_equal(peal_inbox_judge(&inbox, &policy, 1000, 0, 5, 0, 0), PEAL_GONE_NOT);
}

static void inbox_missing_records_count_as_lost(void **state)
{
    (void)state;
    struct peal_config_group policy = policy_of(PEAL_UNTIL_ACKED);
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 1, 77);
    add_many(&inbox, 10);
    assert_true(mark_upto(&inbox, &policy, PEAL_FLAG_ACK, 2));

    peal_inbox_advance(&inbox, 6, 1000); /* 3, 4 and 5 were never acked */
    assert_int_equal(inbox.lost_to, 5);
    assert_int_equal(peal_inbox_unread(&inbox), 5);
    peal_inbox_advance(&inbox, 11, 0);
    assert_int_equal(inbox.kept, 0);
    assert_int_equal(inbox.bytes, 0);
}

/* ---- model: one plain record per message, recounted after every step -------------------- */

enum { MODEL_MAX = 40000, MODEL_STEPS = 40000 };

struct model_message {
    bool kept, acked, read;
    uint64_t bytes, stored_ms, expires_ms;
};

struct model {
    struct peal_inbox inbox;
    struct peal_config_group policy;
    struct model_message at[MODEL_MAX + 1];
    uint64_t next;
    uint64_t lost_to;
    uint64_t now_ms;
};

static uint64_t model_first(const struct model *m)
{
    for (uint64_t o = m->inbox.first; o < m->next; o++) {
        if (m->at[o].kept) return o;
    }
    return m->next;
}

static bool model_settled(const struct model *m, uint64_t o)
{
    return m->policy.keep.until == PEAL_UNTIL_READ ? m->at[o].read : m->at[o].acked;
}

static void model_check(const struct model *m, bool full)
{
    assert_int_equal(m->inbox.next, m->next);
    assert_int_equal(m->inbox.lost_to, m->lost_to);
    if (!full) return;
    uint64_t kept = 0;
    uint64_t bytes = 0;
    uint64_t unread = 0;
    for (uint64_t o = m->inbox.first; o < m->next; o++) {
        const struct model_message *msg = &m->at[o];
        if (!msg->kept) continue;
        kept++;
        bytes += msg->bytes;
        if (!msg->read) unread++;
        assert_int_equal(peal_inbox_delivered(&m->inbox, o), msg->acked);
        assert_int_equal(peal_inbox_read(&m->inbox, o), msg->read);
    }
    assert_int_equal(m->inbox.first, model_first(m));
    assert_int_equal(m->inbox.kept, kept);
    assert_int_equal(m->inbox.bytes, bytes);
    assert_int_equal(peal_inbox_unread(&m->inbox), unread);
}

/* What the store does around a put and on a sweep. */
static void model_retain(struct model *m, uint64_t more, uint64_t more_bytes)
{
    for (;;) {
        uint64_t o = model_first(m);
        peal_inbox_advance(&m->inbox, o, o < m->next ? m->at[o].stored_ms : 0);
        if (o == m->next) return;
        struct model_message *msg = &m->at[o];
        enum peal_gone gone = peal_inbox_judge(&m->inbox, &m->policy, msg->stored_ms,
                                               msg->expires_ms, m->now_ms, more, more_bytes);
        if (gone == PEAL_GONE_NOT) return;
        if (gone == PEAL_GONE_SETTLED) assert_true(model_settled(m, o));
        if (gone == PEAL_GONE_EVICTED || gone == PEAL_GONE_AGED) {
            assert_false(model_settled(m, o));
            m->lost_to = o;
        }
        peal_inbox_remove(&m->inbox, o, msg->bytes, gone);
        msg->kept = false;
    }
}

static void model_put(struct model *m, uint64_t bytes, uint64_t ttl_ms)
{
    if (m->next > MODEL_MAX) return;
    model_retain(m, 1, bytes);
    uint64_t expires_ms = ttl_ms == 0 ? 0 : m->now_ms + ttl_ms;
    uint64_t offset = peal_inbox_add(&m->inbox, bytes, m->now_ms, expires_ms);
    assert_int_equal(offset, m->next); /* follows on, is never given twice */
    m->at[m->next++] = (struct model_message){
        .kept = true, .bytes = bytes, .stored_ms = m->now_ms, .expires_ms = expires_ms};
}

static void model_mark(struct model *m, uint64_t flags, uint64_t upto, uint64_t *offsets,
                       size_t count)
{
    bool changed = false;
    bool read = flags & PEAL_FLAG_READ || m->policy.keep.until == PEAL_UNTIL_ACKED;
    for (uint64_t o = m->inbox.first; o < m->next; o++) {
        bool hit = o <= upto || flags & PEAL_FLAG_ALL;
        for (size_t i = 0; i < count; i++)
            hit = hit || offsets[i] == o;
        if (!hit || !m->at[o].kept) continue;
        if (!m->at[o].acked || (read && !m->at[o].read)) changed = true;
        m->at[o].acked = true;
        m->at[o].read = m->at[o].read || read;
    }
    uint64_t rev = m->inbox.rev;
    struct peal_mark mark = {
        .flags = flags, .upto = upto, .offsets = offsets, .offset_count = count};
    assert_int_equal(peal_inbox_mark(&m->inbox, &m->policy, &mark, m->now_ms), changed);
    assert_int_equal(m->inbox.rev, rev + (changed ? 1 : 0));
}

/* TTL takes messages from anywhere in the window. */
static void model_expire(struct model *m)
{
    for (uint64_t o = m->inbox.first; o < m->next; o++) {
        struct model_message *msg = &m->at[o];
        if (!msg->kept || msg->expires_ms == 0 || msg->expires_ms > m->now_ms) continue;
        peal_inbox_remove(&m->inbox, o, msg->bytes, PEAL_GONE_EXPIRED);
        msg->kept = false;
        msg->acked = msg->read = true;
    }
    model_retain(m, 0, 0);
}

static void model_run(unsigned seed)
{
    static struct model m;
    memset(&m, 0, sizeof m);
    srand(seed);
    m.policy = policy_of(rand() % 2 == 0 ? PEAL_UNTIL_ACKED : PEAL_UNTIL_READ);
    static const uint64_t limits[] = {1, 7, 64, 500, PEAL_INBOX_MESSAGES_MAX};
    m.policy.keep.messages = limits[rand() % 5];
    m.policy.keep.bytes = rand() % 3 == 0 ? 2000 : 1 << 20;
    m.policy.keep.age_ms = 50000;
    m.policy.keep.settled_ms = (uint64_t)(rand() % 4) * 1000;
    m.next = 1;
    m.now_ms = 1000000;
    peal_inbox_init(&m.inbox, 1, 77);

    for (int step = 0; step < MODEL_STEPS / 8; step++) {
        uint64_t offsets[3];
        uint64_t window = m.next - m.inbox.first + 5;
        for (size_t i = 0; i < 3; i++)
            offsets[i] = m.inbox.first + (uint64_t)rand() % window;
        switch (rand() % 16) {
        case 0:
            m.now_ms += (uint64_t)rand() % 3000;
            break;
        case 1:
            model_mark(&m, PEAL_FLAG_ACK, offsets[0], NULL, 0);
            break;
        case 2:
            model_mark(&m, PEAL_FLAG_READ, 0, offsets, 3);
            break;
        case 3:
            model_mark(&m, PEAL_FLAG_ACK, 0, offsets, (size_t)rand() % 4);
            break;
        case 4:
            if (rand() % 20 == 0) model_mark(&m, PEAL_FLAG_READ | PEAL_FLAG_ALL, 0, NULL, 0);
            break;
        case 5:
            model_expire(&m);
            break;
        case 6:
            for (int i = 0; i < rand() % 300; i++)
                model_put(&m, 50, 0);
            break;
        default:
            model_put(&m, (uint64_t)rand() % 300 + 1,
                      rand() % 5 == 0 ? (uint64_t)rand() % 5000 + 1 : 0);
            break;
        }
        model_check(&m, rand() % 8 == 0);
    }
    model_check(&m, true);
}

static void inbox_random_operations_match_the_model(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    for (unsigned i = 0; i < 40; i++)
        model_run(seed + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inbox_acked_policy_ack_counts_as_read),
        cmocka_unit_test(inbox_read_policy_ack_leaves_unread),
        cmocka_unit_test(inbox_same_mark_again_changes_nothing),
        cmocka_unit_test(inbox_mark_all_takes_the_whole_window),
        cmocka_unit_test(inbox_marks_follow_the_window_when_it_moves),
        cmocka_unit_test(inbox_judge_names_the_reason),
        cmocka_unit_test(inbox_single_large_message_stays),
        cmocka_unit_test(inbox_clock_that_went_back_ages_nothing),
        cmocka_unit_test(inbox_missing_records_count_as_lost),
        cmocka_unit_test(inbox_random_operations_match_the_model),
    };
    return cmocka_run_group_tests_name("inbox", tests, NULL, NULL);
}

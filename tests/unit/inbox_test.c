#include "storage/inbox.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/wire.h"
#include "tests/unit/inbox_same.h"
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
    assert_int_equal(peal_inbox_reserve(inbox, inbox->n.next), PEAL_OK);
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
    peal_inbox_init(&inbox, 77);
    add_many(&inbox, 10);

    assert_true(mark_upto(&inbox, &policy, PEAL_FLAG_ACK, 4));
    assert_int_equal(peal_inbox_unread(&inbox), 6);
    assert_true(peal_inbox_settled(&inbox, &policy, 4));
    assert_false(peal_inbox_settled(&inbox, &policy, 5));
    assert_int_equal(inbox.n.rev, 11);
    peal_inbox_fini(&inbox);
}

static void inbox_read_policy_ack_leaves_unread(void **state)
{
    (void)state;
    struct peal_config_group policy = policy_of(PEAL_UNTIL_READ);
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 77);
    add_many(&inbox, 10);

    assert_true(mark_upto(&inbox, &policy, PEAL_FLAG_ACK, 4));
    assert_int_equal(peal_inbox_unread(&inbox), 10);
    assert_false(peal_inbox_settled(&inbox, &policy, 4));
    assert_true(mark_upto(&inbox, &policy, PEAL_FLAG_READ, 6));
    assert_int_equal(peal_inbox_unread(&inbox), 4);
    assert_true(peal_inbox_delivered(&inbox, 6)); /* read implies ack */
    assert_int_equal(inbox.n.rev, 12);
    peal_inbox_fini(&inbox);
}

static void inbox_same_mark_again_changes_nothing(void **state)
{
    (void)state;
    struct peal_config_group policy = policy_of(PEAL_UNTIL_ACKED);
    struct peal_inbox inbox;
    struct peal_inbox before;
    peal_inbox_init(&inbox, 77);
    add_many(&inbox, 100);
    uint64_t offsets[] = {0, 3, 70, 101, UINT64_MAX};
    struct peal_mark mark = {.flags = PEAL_FLAG_ACK, .offsets = offsets, .offset_count = 5};

    assert_true(peal_inbox_mark(&inbox, &policy, &mark, 2000));
    assert_int_equal(peal_inbox_unread(&inbox), 98);
    assert_int_equal(peal_inbox_copy(&inbox, &before), PEAL_OK);
    assert_false(peal_inbox_mark(&inbox, &policy, &mark, 3000));
    assert_same(&before, &inbox);
    mark.flags = 0; /* neither ack nor read */
    assert_false(peal_inbox_mark(&inbox, &policy, &mark, 3000));
    assert_same(&before, &inbox);
    peal_inbox_fini(&before);
    peal_inbox_fini(&inbox);
}

static void inbox_mark_all_takes_the_whole_window(void **state)
{
    (void)state;
    struct peal_config_group policy = policy_of(PEAL_UNTIL_ACKED);
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 77);
    add_many(&inbox, PEAL_INBOX_MESSAGES_MAX);
    assert_false(peal_inbox_fits(&inbox));

    assert_true(mark_upto(&inbox, &policy, PEAL_FLAG_READ | PEAL_FLAG_ALL, 0));
    assert_int_equal(peal_inbox_unread(&inbox), 0);
    assert_false(mark_upto(&inbox, &policy, PEAL_FLAG_READ, UINT64_MAX));
    peal_inbox_fini(&inbox);
}

static void inbox_marks_follow_the_window_when_it_moves(void **state)
{
    (void)state;
    struct peal_config_group policy = policy_of(PEAL_UNTIL_ACKED);
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 77);
    add_many(&inbox, 300);
    uint64_t offsets[] = {100, 200, 300};
    struct peal_mark mark = {.flags = PEAL_FLAG_ACK, .offsets = offsets, .offset_count = 3};
    assert_true(peal_inbox_mark(&inbox, &policy, &mark, 2000));

    while (inbox.n.first < 150) {
        uint64_t offset = inbox.n.first;
        bool settled = peal_inbox_settled(&inbox, &policy, offset);
        peal_inbox_remove(&inbox, offset, 100, settled ? PEAL_GONE_SETTLED : PEAL_GONE_EVICTED);
        peal_inbox_advance(&inbox, offset + 1, 1000);
    }
    assert_false(peal_inbox_delivered(&inbox, 100)); /* outside of the window */
    assert_true(peal_inbox_delivered(&inbox, 200));
    assert_true(peal_inbox_delivered(&inbox, 300));
    assert_false(peal_inbox_delivered(&inbox, 199));
    assert_int_equal(inbox.n.lost_to, 149);
    assert_int_equal(inbox.n.kept, 151);
    assert_int_equal(inbox.n.bytes, 15100);
    assert_int_equal(peal_inbox_unread(&inbox), 149);
    peal_inbox_fini(&inbox);
}

static void inbox_judge_names_the_reason(void **state)
{
    (void)state;
    struct peal_config_group policy = policy_of(PEAL_UNTIL_ACKED);
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 77);
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
    peal_inbox_fini(&inbox);
}

static void inbox_single_large_message_stays(void **state)
{
    (void)state;
    struct peal_config_group policy = policy_of(PEAL_UNTIL_ACKED);
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 77);
    peal_inbox_add(&inbox, policy.keep.bytes * 2, 1000, 0);

    assert_int_equal(peal_inbox_judge(&inbox, &policy, 1000, 0, 1000, 0, 0), PEAL_GONE_NOT);
    assert_int_equal(peal_inbox_judge(&inbox, &policy, 1000, 0, 1000, 1, 1), PEAL_GONE_EVICTED);
    peal_inbox_fini(&inbox);
}

static void inbox_clock_that_went_back_ages_nothing(void **state)
{
    (void)state;
    struct peal_config_group policy = policy_of(PEAL_UNTIL_ACKED);
    policy.keep.age_ms = UINT64_MAX; /* stored + age must not wrap around */
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 77);
    add_many(&inbox, 1);
    assert_int_equal(peal_inbox_judge(&inbox, &policy, 1000, 0, 5, 0, 0), PEAL_GONE_NOT);
    peal_inbox_fini(&inbox);
}

static void inbox_missing_records_count_as_lost(void **state)
{
    (void)state;
    struct peal_config_group policy = policy_of(PEAL_UNTIL_ACKED);
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 77);
    add_many(&inbox, 10);
    assert_true(mark_upto(&inbox, &policy, PEAL_FLAG_ACK, 2));

    peal_inbox_advance(&inbox, 6, 1000); /* 3, 4 and 5 were never acked */
    assert_int_equal(inbox.n.lost_to, 5);
    assert_int_equal(peal_inbox_unread(&inbox), 5);
    peal_inbox_advance(&inbox, 11, 0);
    assert_int_equal(inbox.n.kept, 0);
    assert_int_equal(inbox.n.bytes, 0);
    peal_inbox_fini(&inbox);
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
    for (uint64_t o = m->inbox.n.first; o < m->next; o++) {
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
    assert_int_equal(m->inbox.n.next, m->next);
    assert_int_equal(m->inbox.n.lost_to, m->lost_to);
    if (!full) return;
    uint64_t kept = 0;
    uint64_t bytes = 0;
    uint64_t unread = 0;
    assert_int_equal(m->inbox.n.ver, 0); /* not its business */
    for (uint64_t o = m->inbox.n.first; o < m->next; o++) {
        const struct model_message *msg = &m->at[o];
        if (!msg->kept) continue;
        kept++;
        bytes += msg->bytes;
        if (!msg->read) unread++;
        assert_int_equal(peal_inbox_delivered(&m->inbox, o), msg->acked);
        assert_int_equal(peal_inbox_read(&m->inbox, o), msg->read);
    }
    assert_int_equal(m->inbox.n.first, model_first(m));
    assert_int_equal(m->inbox.n.kept, kept);
    assert_int_equal(m->inbox.n.bytes, bytes);
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
    for (uint64_t o = m->inbox.n.first; o < m->next; o++) {
        bool hit = o <= upto || flags & PEAL_FLAG_ALL;
        for (size_t i = 0; i < count; i++)
            hit = hit || offsets[i] == o;
        if (!hit || !m->at[o].kept) continue;
        if (!m->at[o].acked || (read && !m->at[o].read)) changed = true;
        m->at[o].acked = true;
        m->at[o].read = m->at[o].read || read;
    }
    uint64_t rev = m->inbox.n.rev;
    assert_int_equal(peal_inbox_reserve(&m->inbox, m->inbox.n.next), PEAL_OK);
    struct peal_mark mark = {
        .flags = flags, .upto = upto, .offsets = offsets, .offset_count = count};
    assert_int_equal(peal_inbox_mark(&m->inbox, &m->policy, &mark, m->now_ms), changed);
    assert_int_equal(m->inbox.n.rev, rev + (changed ? 1 : 0));
}

/* TTL takes messages from anywhere in the window. */
static void model_expire(struct model *m)
{
    assert_int_equal(peal_inbox_reserve(&m->inbox, m->inbox.n.next), PEAL_OK);
    for (uint64_t o = m->inbox.n.first; o < m->next; o++) {
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
    peal_inbox_init(&m.inbox, 77);

    for (int step = 0; step < MODEL_STEPS / 8; step++) {
        uint64_t offsets[3];
        uint64_t window = m.next - m.inbox.n.first + 5;
        for (size_t i = 0; i < 3; i++)
            offsets[i] = m.inbox.n.first + (uint64_t)rand() % window;
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
    peal_inbox_fini(&m.inbox);
}

static void inbox_random_operations_match_the_model(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    for (unsigned i = 0; i < 40; i++)
        model_run(seed + i);
}

/* ---- bits: one byte per offset ----------------------------------------------------------- */

static void inbox_small_windows_allocate_nothing(void **state)
{
    (void)state;
    struct peal_config_group policy = policy_of(PEAL_UNTIL_ACKED);
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 77);
    add_many(&inbox, 62); /* 1..62 */
    assert_true(mark_upto(&inbox, &policy, PEAL_FLAG_ACK, 62));
    assert_int_equal(inbox.marks.room, 0);
    for (int i = 0; i < 100; i++)
        peal_inbox_add(&inbox, 100, 1000, 0);
    assert_int_equal(inbox.marks.room, 0); /* no bit, no room */
    assert_int_equal(inbox.marks.word_count, 1);
    assert_int_equal(peal_inbox_unread(&inbox), 100);
    peal_inbox_fini(&inbox);
}

static void inbox_room_grows_to_the_longest_window_and_no_more(void **state)
{
    (void)state;
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 77);
    struct peal_numbers n = inbox.n;
    n.first = 63; /* the last bit of its word: one word more */
    n.next = 63 + PEAL_INBOX_MESSAGES_MAX;
    peal_inbox_become(&inbox, &n);
    assert_int_equal(peal_inbox_reserve(&inbox, n.next), PEAL_OK);
    assert_int_equal(inbox.marks.room, PEAL_INBOX_WORDS);
    assert_int_equal(peal_inbox_reserve(&inbox, n.next + 1000000), PEAL_OK);
    assert_int_equal(inbox.marks.room, PEAL_INBOX_WORDS);
    peal_inbox_set(&inbox, true, 0, UINT64_MAX);
    assert_int_equal(inbox.marks.word_count, PEAL_INBOX_WORDS);
    assert_int_equal(peal_inbox_unread(&inbox), 0);
    n.first = n.next - 1;
    peal_inbox_become(&inbox, &n);
    assert_int_equal(inbox.marks.word_count, 1);
    assert_true(peal_inbox_read(&inbox, n.first));
    peal_inbox_fini(&inbox);
}

static void inbox_numbers_that_cannot_be_are_made_to_fit(void **state)
{
    (void)state;
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 77);
    add_many(&inbox, 100);
    peal_inbox_set(&inbox, true, 1, 100);

    /* The window ends before what was marked. */
    struct peal_numbers n = inbox.n;
    n.next = 70;
    n.kept = 100;
    n.lost_to = 99;
    peal_inbox_become(&inbox, &n);
    assert_int_equal(inbox.n.kept, 69);
    assert_int_equal(inbox.n.lost_to, 0);
    assert_int_equal(peal_inbox_unread(&inbox), 0);
    n.next = 101; /* what was cut off has no bits when it comes back */
    n.lost_to = 0;
    peal_inbox_become(&inbox, &n);
    assert_int_equal(peal_inbox_unread(&inbox), 31);

    /* The end before the begin, and a window that is too long. */
    n.first = 90;
    n.next = 80;
    peal_inbox_become(&inbox, &n);
    assert_int_equal(inbox.n.next, 90);
    assert_int_equal(inbox.n.kept, 0);
    assert_int_equal(inbox.n.bytes, 0);
    n.first = 0;
    n.next = 100000;
    peal_inbox_become(&inbox, &n);
    assert_int_equal(inbox.n.first, 100000 - PEAL_INBOX_MESSAGES_MAX);
    assert_int_equal(peal_inbox_unread(&inbox), PEAL_INBOX_MESSAGES_MAX);
    peal_inbox_fini(&inbox);
}

static void inbox_another_life_has_no_bits(void **state)
{
    (void)state;
    struct peal_inbox inbox;
    struct peal_numbers others[2];
    for (size_t i = 0; i < 2; i++) {
        peal_inbox_init(&inbox, 77);
        inbox.n.gid = 5;
        add_many(&inbox, 200);
        struct peal_numbers n = inbox.n;
        n.first = 100;
        peal_inbox_become(&inbox, &n);
        peal_inbox_set(&inbox, true, 100, 200);
        others[0] = others[1] = n;
        others[0].gid++;
        others[1].first = 99;
        assert_true(peal_inbox_continues(&inbox, &n));
        assert_false(peal_inbox_continues(&inbox, &others[i]));
        n.epoch++; /* the messages stay */
        peal_inbox_become(&inbox, &n);
        assert_int_equal(peal_inbox_unread(&inbox), 0);
        peal_inbox_become(&inbox, &others[i]);
        assert_int_equal(inbox.marks.word_count, 0);
        assert_int_equal(peal_inbox_unread(&inbox), inbox.n.next - inbox.n.first);
        peal_inbox_fini(&inbox);
    }
}

enum { BYTES_MAX = 60000, BYTES_STEPS = 3000 };

/* What the bits of every offset have to be: 0, 1 delivered, 3 read. */
struct bytes {
    struct peal_inbox inbox;
    unsigned char at[BYTES_MAX];
};

static void bytes_check(struct bytes *b, bool full)
{
    size_t count;
    const uint64_t *delivered = peal_inbox_delivered_words(&b->inbox, &count);
    const uint64_t *read = peal_inbox_read_words(&b->inbox, &count);
    uint64_t base = b->inbox.n.first & ~(uint64_t)63;
    assert_true(count <= PEAL_INBOX_WORDS);
    if (count > 0) assert_int_not_equal(delivered[count - 1], 0);
    if (!full) return;
    uint64_t unread = 0;
    for (uint64_t o = base; o < base + (uint64_t)PEAL_INBOX_WORDS * 64; o++) {
        bool inside = o >= b->inbox.n.first && o < b->inbox.n.next;
        unsigned want = inside ? b->at[o] : 0;
        unsigned found = 0;
        if ((o - base) / 64 < count) {
            found = (unsigned)(delivered[(o - base) / 64] >> o % 64 & 1);
            found |= (unsigned)(read[(o - base) / 64] >> o % 64 & 1) << 1;
        }
        if (found != want) fail_msg("offset %llu: %u, not %u", (unsigned long long)o, found, want);
        if (inside && (want & 2) == 0) unread++;
        if (peal_inbox_delivered(&b->inbox, o) != (want & 1)) fail_msg("delivered");
        if (peal_inbox_read(&b->inbox, o) != (want >> 1)) fail_msg("read");
    }
    assert_int_equal(peal_inbox_unread(&b->inbox), unread);
}

static void bytes_set(struct bytes *b, bool read, uint64_t from, uint64_t to)
{
    for (uint64_t o = b->inbox.n.first; o < b->inbox.n.next; o++) {
        if (o >= from && o <= to) b->at[o] |= read ? 3 : 1;
    }
}

/* An offset in the window or close to it. */
static uint64_t bytes_near(const struct bytes *b)
{
    uint64_t window = b->inbox.n.next - b->inbox.n.first;
    return b->inbox.n.first + (uint64_t)rand() % (window + 70) - (uint64_t)rand() % 2;
}

static void bytes_become(struct bytes *b)
{
    struct peal_numbers n = b->inbox.n;
    n.ver++;
    n.next += (uint64_t)rand() % (rand() % 4 == 0 ? 500 : 3);
    if (rand() % 3 == 0) n.first += (uint64_t)rand() % (rand() % 4 == 0 ? 3000 : 70);
    if (rand() % 50 == 0) n.next -= (uint64_t)rand() % (n.next - b->inbox.n.first + 1);
    bool another = rand() % 300 == 0;
    if (another) n.gid++;
    if (rand() % 100 == 0) n.epoch++;
    if (n.next < n.first) n.next = n.first;
    if (n.next - n.first > PEAL_INBOX_MESSAGES_MAX) n.first = n.next - PEAL_INBOX_MESSAGES_MAX;
    peal_inbox_become(&b->inbox, &n);
    assert_int_equal(b->inbox.n.ver, n.ver);
    for (uint64_t o = 0; o < BYTES_MAX; o++) {
        if (another || o < n.first || o >= n.next) b->at[o] = 0;
    }
}

/* Through a copy, and through the words as another store would get them. */
static void bytes_copy(struct bytes *b)
{
    struct peal_inbox copy;
    assert_int_equal(peal_inbox_copy(&b->inbox, &copy), PEAL_OK);
    assert_same(&b->inbox, &copy);
    size_t count;
    const uint64_t *delivered = peal_inbox_delivered_words(&copy, &count);
    const uint64_t *read = peal_inbox_read_words(&copy, &count);
    peal_inbox_fini(&b->inbox);
    peal_inbox_init(&b->inbox, copy.n.epoch);
    peal_inbox_become(&b->inbox, &copy.n);
    assert_int_equal(peal_inbox_reserve(&b->inbox, copy.n.next), PEAL_OK);
    peal_inbox_set_words(&b->inbox, delivered, read, count);
    assert_same(&b->inbox, &copy);
    peal_inbox_fini(&copy);
}

static void bytes_step(struct bytes *b)
{
    struct peal_inbox *inbox = &b->inbox;
    uint64_t from = bytes_near(b);
    uint64_t to = rand() % 2 == 0 ? from : bytes_near(b);
    bool read = rand() % 2 == 0;
    switch (rand() % 8) {
    case 0:
    case 1:
        assert_int_equal(peal_inbox_reserve(inbox, to + 1), PEAL_OK);
        peal_inbox_set(inbox, read, from, to);
        bytes_set(b, read, from, to);
        break;
    case 2:
        if (from < inbox->n.first || from >= inbox->n.next) break;
        assert_int_equal(peal_inbox_reserve(inbox, from + 1), PEAL_OK);
        peal_inbox_remove(inbox, from, 10, PEAL_GONE_EXPIRED);
        bytes_set(b, true, from, from);
        break;
    case 3:
        if (inbox->n.first == inbox->n.next || rand() % 4 != 0) break;
        b->at[inbox->n.first] = 0;
        peal_inbox_remove(inbox, inbox->n.first, 10, PEAL_GONE_EVICTED);
        break;
    case 4:
        if (peal_inbox_fits(inbox)) peal_inbox_add(inbox, 10, 1000, 0);
        break;
    case 5:
        if (rand() % 10 == 0) bytes_copy(b);
        break;
    default:
        bytes_become(b);
        break;
    }
}

static void inbox_random_windows_match_bytes(void **state)
{
    (void)state;
    static struct bytes b;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    for (unsigned run = 0; run < 8; run++) {
        srand(seed + run);
        memset(&b, 0, sizeof b);
        peal_inbox_init(&b.inbox, 77);
        for (int step = 0; step < BYTES_STEPS; step++) {
            if (b.inbox.n.next > BYTES_MAX - 5000) break;
            bytes_step(&b);
            bytes_check(&b, rand() % 16 == 0);
        }
        bytes_check(&b, true);
        peal_inbox_fini(&b.inbox);
    }
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
        cmocka_unit_test(inbox_small_windows_allocate_nothing),
        cmocka_unit_test(inbox_room_grows_to_the_longest_window_and_no_more),
        cmocka_unit_test(inbox_numbers_that_cannot_be_are_made_to_fit),
        cmocka_unit_test(inbox_another_life_has_no_bits),
        cmocka_unit_test(inbox_random_windows_match_bytes),
    };
    return cmocka_run_group_tests_name("inbox", tests, NULL, NULL);
}

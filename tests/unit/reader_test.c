#include "storage/reader.h"

#include <poll.h>
#include <time.h>

#include "base/mailbox.h"
#include "base/metrics.h"
#include "proto/envelope.h"
#include "proto/group.h"

#include "tests/unit/unit.h"

#include "tests/unit/disk.h"
#include "tests/unit/levels.h"
#include "tests/unit/page_text.h"

enum { HOUR_MS = 3600 * 1000, WAIT_MS = 20000 };

/* Where the messages are. */
struct place {
    const char *name;
    uint64_t log_from, inbox_upto;
};

/* A message of `both` is there twice, as between its move and the note of it. */
static const struct place in_inbox = {"inbox", UINT64_MAX, UINT64_MAX};
static const struct place in_log = {"log", 1, 0};
static const struct place in_both = {"both", 1, UINT64_MAX};
static const struct place split = {"split", 4, 3};

static struct levels levels;
static const struct place *place;
static struct peal_config_group policy;
static struct hand a;
static struct hand b;

static void hand_begin(struct hand *h, const char *name)
{
    hand_init(h, &levels, name);
    h->log_from = place->log_from;
    h->inbox_upto = place->inbox_upto;
}

static int setup(void **state)
{
    place = *state;
    if (folder_setup(state) != 0) return -1;
    levels = (struct levels){.dir = ((struct folder *)*state)->path};
    levels_open(&levels);
    policy = (struct peal_config_group){.keep = {.until = PEAL_UNTIL_ACKED, .settled_ms = HOUR_MS}};
    hand_begin(&a, "user:a");
    hand_begin(&b, "user:b");
    return 0;
}

static int teardown(void **state)
{
    hand_fini(&a);
    hand_fini(&b);
    levels_close(&levels);
    return folder_teardown(state);
}

/* ---- asking ----------------------------------------------------------------------------- */

static void page_of(const struct hand *h, const struct ask *ask, struct page *page)
{
    struct peal_buf buf = {0};
    struct ask full = *ask;
    full.group = h->name;
    struct peal_store_fetch *fetch = page_fetch(&full);
    struct peal_view view = hand_view(h);
    assert_int_equal(peal_reader_page(&view, fetch, h->now_ms, &buf), PEAL_OK);
    peal_view_fini(&view);
    peal_store_fetch_free(fetch);
    *page = (struct page){.bytes = peal_bytes_new(buf.at, buf.size)};
    assert_non_null(page->bytes);
    peal_buf_fini(&buf);
    page_open(page);
}

/* The entries of one page as text. */
static const char *text_of(const struct hand *h, const struct ask *ask)
{
    static struct page page;
    page_of(h, ask, &page);
    page_free(&page);
    return page.text;
}

/* Everything after a position of this epoch. */
static const char *after(const struct hand *h, uint64_t offset)
{
    return text_of(h, &(struct ask){.epoch = LEVELS_EPOCH, .offset = offset});
}

static void ack(struct hand *h, uint64_t upto)
{
    hand_mark(h, &policy, (struct peal_mark){.flags = PEAL_FLAG_ACK, .upto = upto});
}

/* ---- pages ------------------------------------------------------------------------------ */

static void page_of_an_empty_group_is_empty(void **state)
{
    (void)state;
    struct page page;
    page_of(&a, &(struct ask){.epoch = LEVELS_EPOCH}, &page);
    assert_string_equal(page.text, "");
    assert_int_equal(page.frame.epoch, LEVELS_EPOCH);
    assert_int_equal(page.frame.offset, 0);
    assert_int_equal(page.frame.head, 0);
    assert_int_equal(page.frame.first, 1);
    assert_int_equal(page.frame.code, PEAL_OK);
    page_free(&page);
}

static void page_forward_starts_after_the_position(void **state)
{
    (void)state;
    struct page page;
    hand_put_many(&a, 5);
    hand_put_many(&b, 2);
    page_of(&a, &(struct ask){.epoch = LEVELS_EPOCH, .offset = 2}, &page);
    assert_string_equal(page.text, "M3 M4 M5");
    assert_string_equal(page.data, "payload-0005");
    assert_int_equal(page.frame.offset, 5);
    assert_int_equal(page.frame.head, 5);
    assert_int_equal(page.frame.unread, 5);
    assert_true(page.frame.rev == a.inbox.n.rev);
    page_free(&page);
    assert_string_equal(after(&a, 5), "");
    assert_string_equal(after(&b, 0), "M1 M2");
}

static void page_limits_are_kept_and_the_next_page_goes_on(void **state)
{
    (void)state;
    struct page page;
    hand_put_many(&a, 300);
    page_of(&a, &(struct ask){.epoch = LEVELS_EPOCH, .limit = 3}, &page);
    assert_string_equal(page.text, "M1 M2 M3");
    assert_int_equal(page.frame.offset, 3);
    page_free(&page);
    assert_string_equal(text_of(&a, &(struct ask){.epoch = LEVELS_EPOCH, .offset = 3, .limit = 2}),
                        "M4 M5");
    /* One message fits in one byte, because a page without progress would never end. */
    assert_string_equal(
        text_of(&a, &(struct ask){.epoch = LEVELS_EPOCH, .offset = 3, .limit = 9, .bytes = 1}),
        "M4");
    page_of(&a, &(struct ask){.epoch = LEVELS_EPOCH, .limit = 1000}, &page);
    assert_int_equal(page.messages, PEAL_PAGE_MESSAGES);
    page_free(&page);
    page_of(&a, &(struct ask){.epoch = LEVELS_EPOCH, .bytes = 1000}, &page);
    assert_in_range(page.messages, 5, 20);
    page_free(&page);
}

static void page_marks_are_shown_and_unacked_skips(void **state)
{
    (void)state;
    uint64_t offsets[] = {2, 3, 5};
    policy.keep.until = PEAL_UNTIL_READ;
    hand_put_many(&a, 6);
    hand_mark(&a, &policy, (struct peal_mark){PEAL_FLAG_ACK, 0, offsets, 3});
    hand_mark(&a, &policy, (struct peal_mark){PEAL_FLAG_READ, 0, offsets, 1});

    assert_string_equal(after(&a, 0), "M1 M2ar M3a M4 M5a M6");
    assert_string_equal(
        text_of(&a, &(struct ask){.epoch = LEVELS_EPOCH, .flags = PEAL_FLAG_UNACKED}),
        "M1 S2-3 M4 S5-5 M6");
    assert_string_equal(
        text_of(&a, &(struct ask){.epoch = LEVELS_EPOCH, .flags = PEAL_FLAG_UNREAD}),
        "M1 S2-2 M3a M4 M5a M6");
}

static void page_of_another_epoch_tells_a_gap_and_everything_kept(void **state)
{
    (void)state;
    struct ask other = {.epoch = LEVELS_EPOCH + 1, .offset = 1};
    hand_put_many(&a, 2);
    assert_string_equal(text_of(&a, &other), "Gepoch:1-0 M1 M2");
    hand_put_many(&a, 3);
    hand_remove(&a, 1, PEAL_GONE_EVICTED);
    hand_remove(&a, 2, PEAL_GONE_EVICTED);
    assert_string_equal(text_of(&a, &other), "Gepoch:1-2 M3 M4 M5");
    /* A position ahead of the head is never up to date. */
    assert_string_equal(after(&a, 6), "Gepoch:1-2 M3 M4 M5");
    assert_string_equal(after(&b, 6), "Gepoch:1-0");
    assert_string_equal(text_of(&a, &(struct ask){.offset = 3}), "M4 M5");
}

static void page_below_the_window_tells_evicted_and_settled_apart(void **state)
{
    (void)state;
    hand_put_many(&a, 8);
    for (uint64_t offset = 1; offset <= 3; offset++)
        hand_remove(&a, offset, PEAL_GONE_EVICTED);
    ack(&a, 6);
    for (uint64_t offset = 4; offset <= 6; offset++)
        hand_remove(&a, offset, PEAL_GONE_SETTLED);
    peal_inbox_advance(&a.inbox, 7, a.now_ms);
    assert_string_equal(after(&a, 0), "Gevicted:1-3 S4-6 M7 M8");
    assert_string_equal(after(&a, 2), "Gevicted:3-3 S4-6 M7 M8");
    assert_string_equal(after(&a, 4), "S5-6 M7 M8");
}

static void page_expired_messages_are_skipped_before_and_after_they_are_removed(void **state)
{
    (void)state;
    struct page page;
    struct peal_span data = peal_span_of("x");
    hand_put(&a, NULL, data, 0);
    hand_put(&a, NULL, data, 5000);
    hand_put(&a, NULL, data, 5000);
    hand_put(&a, NULL, data, 0);
    assert_string_equal(after(&a, 0), "M1 M2 M3 M4");
    a.now_ms += 5000;
    assert_string_equal(after(&a, 0), "M1 S2-3 M4");
    hand_remove(&a, 2, PEAL_GONE_EXPIRED);
    hand_remove(&a, 3, PEAL_GONE_EXPIRED);
    assert_string_equal(after(&a, 0), "M1 S2-3 M4");
    page_of(&a, &(struct ask){.flags = PEAL_FLAG_REVERSE}, &page);
    assert_string_equal(page.text, "M4 M1");
    assert_int_equal(page.frame.unread, 2);
    page_free(&page);
}

static void page_reverse_lists_newest_first(void **state)
{
    (void)state;
    struct page page;
    uint64_t offsets[] = {2, 5};
    hand_put_many(&a, 6);
    hand_mark(&a, &policy, (struct peal_mark){PEAL_FLAG_READ, 0, offsets, 2});

    struct ask ask = {.limit = 3, .flags = PEAL_FLAG_REVERSE};
    page_of(&a, &ask, &page);
    assert_string_equal(page.text, "M6 M5ar M4");
    assert_int_equal(page.frame.offset, 4);
    assert_int_equal(page.frame.flags & PEAL_FLAG_MORE, PEAL_FLAG_MORE);
    page_free(&page);
    ask.offset = 4;
    page_of(&a, &ask, &page);
    assert_string_equal(page.text, "M3 M2ar M1");
    assert_int_equal(page.frame.flags & PEAL_FLAG_MORE, 0);
    page_free(&page);

    ask = (struct ask){.limit = 3, .flags = PEAL_FLAG_REVERSE | PEAL_FLAG_UNREAD};
    page_of(&a, &ask, &page);
    assert_string_equal(page.text, "M6 M4 M3");
    assert_int_equal(page.frame.flags & PEAL_FLAG_MORE, PEAL_FLAG_MORE);
    page_free(&page);
    ask.offset = 3;
    page_of(&a, &ask, &page);
    assert_string_equal(page.text, "M1");
    assert_int_equal(page.frame.flags & PEAL_FLAG_MORE, 0);
    page_free(&page);
    ask.offset = 1;
    assert_string_equal(text_of(&a, &ask), "");
}

static void page_of_a_plain_group_has_no_marks(void **state)
{
    (void)state;
    struct page page;
    struct hand news;
    hand_begin(&news, "news");
    hand_put_many(&news, 3);
    page_of(&news, &(struct ask){.epoch = LEVELS_EPOCH, .flags = PEAL_FLAG_UNACKED}, &page);
    assert_string_equal(page.text, "M1 M2 M3");
    assert_int_equal(page.frame.unread, 0);
    page_free(&page);
    hand_fini(&news);
}

/* What is written later is in no snapshot from before, and what is removed later stays in it. */
static void page_is_of_the_moment_of_its_view(void **state)
{
    (void)state;
    struct peal_buf buf = {0};
    struct page page;
    hand_put_many(&a, 6);
    struct peal_view view = hand_view(&a);
    struct peal_store_fetch *fetch =
        page_fetch(&(struct ask){.group = "user:a", .epoch = LEVELS_EPOCH});
    hand_lose(&a, 2);
    hand_lose(&a, 5);
    hand_put_many(&a, 1);
    ack(&a, 7);
    assert_int_equal(peal_reader_page(&view, fetch, a.now_ms, &buf), PEAL_OK);
    page = (struct page){.bytes = peal_bytes_new(buf.at, buf.size)};
    page_open(&page);
    assert_string_equal(page.text, "M1 M2 M3 M4 M5 M6");
    page_free(&page);
    peal_buf_fini(&buf);
    peal_store_fetch_free(fetch);
    peal_view_fini(&view);
}

/* ---- damage ----------------------------------------------------------------------------- */

/* Flips one bit of every copy of `text` in a file; freed pages may hold some. */
static int damage(const char *file_name, const void *text, size_t size, size_t at, int bit)
{
    char path[128];
    struct stat st;
    int found = 0;
    snprintf(path, sizeof path, "%s/%s/data.mdb", levels.dir, file_name);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    char *file = malloc((size_t)st.st_size);
    assert_non_null(file);
    assert_int_equal(pread(fd, file, (size_t)st.st_size, 0), st.st_size);
    char *end = file + st.st_size;
    for (char *p = file; (p = memmem(p, (size_t)(end - p), text, size)) != NULL; p += size) {
        p[at] = (char)(p[at] ^ 1 << bit);
        assert_int_equal(pwrite(fd, p + at, 1, p + at - file), 1);
        found++;
    }
    free(file);
    close(fd);
    return found;
}

static void page_never_delivers_a_changed_payload(void **state)
{
    (void)state;
    enum { COUNT = 200, FLIPS = 60 };
    bool damaged[COUNT + 1] = {false};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    unsigned seed = (unsigned)now.tv_nsec ^ (unsigned)getpid();
    print_message("seed %u\n", seed);
    srand(seed);
    hand_put_many(&a, COUNT);
    levels_close(&levels);
    for (int i = 0; i < FLIPS; i++) {
        char text[32];
        int victim = rand() % COUNT + 1;
        if (damaged[victim]) continue;
        damaged[victim] = true;
        snprintf(text, sizeof text, "payload-%04d", victim);
        /* A digit does not become another one: a later victim would be found here and flip it back.
         */
        size_t at = (size_t)rand() % strlen(text);
        int bit = at < strlen("payload-") ? rand() % 8 : 4 + rand() % 4;
        int found = damage("inbox", text, strlen(text), at, bit);
        assert_true(found + damage("log", text, strlen(text), at, bit) > 0);
    }
    levels_open(&levels);

    int64_t corrupt = peal_metrics_sum(PEAL_M_CORRUPT);
    uint64_t position = 0;
    int64_t told = 0;
    while (position < COUNT) {
        struct page page;
        page_of(&a, &(struct ask){.epoch = LEVELS_EPOCH, .offset = position}, &page);
        for (size_t i = 0; i < page.frame.entries.count; i++) {
            struct peal_frame entry;
            struct peal_envelope env;
            assert_int_equal(peal_frame_decode(page.frame.entries.at[i], &entry), PEAL_OK);
            if (entry.type == PEAL_F_GAP) {
                assert_int_equal(entry.why, PEAL_GAP_CORRUPT);
                for (uint64_t o = entry.from; o <= entry.to; o++, told++)
                    assert_true(damaged[o]);
            } else {
                char text[32];
                assert_int_equal(entry.type, PEAL_F_MESSAGE);
                assert_int_equal(peal_envelope_decode(entry.envelope, &env), PEAL_OK);
                snprintf(text, sizeof text, "payload-%04d", (int)env.offset);
                assert_true(peal_span_is(env.data, text));
                assert_false(damaged[env.offset]);
            }
            peal_frame_fini(&entry);
        }
        assert_true(page.frame.offset > position);
        position = page.frame.offset;
        page_free(&page);
    }
    assert_int_equal(peal_metrics_sum(PEAL_M_CORRUPT) - corrupt, told);
    for (int o = 1; o <= COUNT; o++)
        told -= damaged[o];
    assert_int_equal(told, 0);
}

static void page_missing_message_is_a_gap_unless_it_was_removed(void **state)
{
    (void)state;
    hand_put_many(&a, 7);
    ack(&a, 2);
    for (uint64_t offset = 2; offset <= 5; offset++)
        hand_lose(&a, offset);
    a.places[4] = 0; /* its record was not even met */
    /* The marks of a hole are the same as those of a message that was read. */
    assert_string_equal(after(&a, 0), "M1ar S2-2 Gcorrupt:3-5 M6 M7");
}

static void page_damaged_message_is_a_gap_even_if_it_was_read(void **state)
{
    (void)state;
    char at[PEAL_KEY_MESSAGE];
    hand_put_many(&a, 6);
    ack(&a, 3);
    int64_t corrupt = peal_metrics_sum(PEAL_M_CORRUPT);
    for (uint64_t offset = 3; offset <= 5; offset += 2) {
        if (offset <= a.inbox_upto)
            levels_damage(levels.inbox, PEAL_TREE_MESSAGE, hand_key(&a, offset, at), 30);
        if (a.places[offset] == 0) continue;
        peal_key_entry(at, a.places[offset]);
        levels_damage(levels.log, PEAL_TREE_LOG, peal_span_make(at, PEAL_KEY_ENTRY), 30);
    }
    assert_string_equal(after(&a, 0), "M1ar M2ar Gcorrupt:3-3 M4 Gcorrupt:5-5 M6");
    assert_int_equal(peal_metrics_sum(PEAL_M_CORRUPT) - corrupt, 2);
    assert_string_equal(text_of(&a, &(struct ask){.flags = PEAL_FLAG_REVERSE}), "M6 M4 M2ar M1ar");
}

static void page_reads_the_copy_that_the_view_names(void **state)
{
    (void)state;
    char at[PEAL_KEY_MESSAGE];
    hand_put_many(&a, 4);
    a.log_from = 3; /* 1 and 2 were moved, and the store thread knows it */
    levels_damage(levels.inbox, PEAL_TREE_MESSAGE, hand_key(&a, 1, at), 30);
    levels_damage(levels.inbox, PEAL_TREE_MESSAGE, hand_key(&a, 3, at), 30);
    peal_key_entry(at, a.places[2]);
    levels_damage(levels.log, PEAL_TREE_LOG, peal_span_make(at, PEAL_KEY_ENTRY), 30);
    peal_key_entry(at, a.places[4]);
    levels_damage(levels.log, PEAL_TREE_LOG, peal_span_make(at, PEAL_KEY_ENTRY), 30);
    assert_string_equal(after(&a, 0), "Gcorrupt:1-1 M2 M3 Gcorrupt:4-4");
}

static void page_never_delivers_what_stands_at_a_wrong_place(void **state)
{
    (void)state;
    hand_put_many(&a, 5);
    hand_put_many(&b, 5);
    a.places[2] = a.places[1]; /* of another offset */
    a.places[4] = b.places[4]; /* of another group */
    assert_string_equal(after(&a, 0), "M1 Gcorrupt:2-2 M3 Gcorrupt:4-4 M5");
}

/* ---- thread ----------------------------------------------------------------------------- */

static struct peal_mailbox pages;
static _Atomic uint64_t now_ms = LEVELS_NOW_MS;

static void on_page(void *ctx, struct peal_store_fetch *fetch)
{
    (void)ctx;
    if (peal_mailbox_push(&pages, fetch) != PEAL_OK) abort();
}

static struct peal_reader *reader_open(void)
{
    struct peal_reader *reader;
    struct peal_reader_setup with = {.now_ms = &now_ms, .events = {.page = on_page}};
    assert_int_equal(peal_mailbox_init(&pages, PEAL_STORE_READS_MAX), PEAL_OK);
    assert_int_equal(peal_reader_start(&with, &reader), PEAL_OK);
    return reader;
}

static struct peal_store_fetch *wait_for_page(void)
{
    for (;;) {
        peal_mailbox_arm(&pages);
        void *fetch = peal_mailbox_pop(&pages);
        if (fetch != NULL) {
            peal_mailbox_wake(&pages); /* there may be more */
            return fetch;
        }
        struct pollfd pfd = {.fd = pages.fd, .events = POLLIN};
        if (poll(&pfd, 1, WAIT_MS) != 1) fail_msg("the reader did not answer");
    }
}

/* A view of the same moment as another one. */
static struct peal_view view_again(const struct peal_view *view)
{
    struct peal_view again = *view;
    size_t size = view->place_count * sizeof *view->places;
    peal_snapshot_ref(view->snapshot);
    assert_int_equal(peal_inbox_copy(&view->inbox, &again.inbox), PEAL_OK);
    again.places = malloc(size + 1);
    assert_non_null(again.places);
    if (size > 0) memcpy(again.places, view->places, size);
    return again;
}

static void reader_answers_in_order_and_lets_go_of_the_view(void **state)
{
    (void)state;
    struct ask ask = {.group = "user:a", .epoch = LEVELS_EPOCH};
    hand_put_many(&a, 6);
    struct peal_reader *reader = reader_open();
    struct peal_view view = hand_view(&a);
    /* More than there are cells, and all cells at once. */
    for (uint64_t round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < PEAL_STORE_READS_MAX; i++) {
            struct peal_view again = view_again(&view);
            ask.offset = i % 6;
            struct peal_store_fetch *fetch = page_fetch(&ask);
            fetch->tag[1] = round * PEAL_STORE_READS_MAX + i;
            peal_reader_submit(reader, fetch, &again, PEAL_OK);
        }
        for (uint64_t i = 0; i < PEAL_STORE_READS_MAX; i++) {
            struct peal_store_fetch *fetch = wait_for_page();
            assert_int_equal(fetch->tag[1], round * PEAL_STORE_READS_MAX + i);
            struct page page = {.bytes = peal_bytes_ref(fetch->page)};
            page_open(&page);
            assert_int_equal(page.messages, 6 - i % 6);
            page_free(&page);
            peal_store_fetch_free(fetch);
        }
        assert_int_equal(atomic_load(&view.snapshot->refs), 1);
    }
    peal_view_fini(&view);
    peal_reader_stop(reader);
    peal_mailbox_fini(&pages);
}

static void reader_without_a_view_answers_with_the_error(void **state)
{
    (void)state;
    struct ask ask = {.group = "user:a"};
    struct page page;
    struct peal_reader *reader = reader_open();
    peal_reader_submit(reader, page_fetch(&ask), NULL, PEAL_EIO);
    struct peal_store_fetch *fetch = wait_for_page();
    page = (struct page){.bytes = peal_bytes_ref(fetch->page)};
    page_open(&page);
    assert_int_equal(page.frame.code, PEAL_EIO);
    assert_true(peal_span_is(page.frame.group, "user:a"));
    assert_int_equal(page.frame.entries.count, 0);
    page_free(&page);
    peal_store_fetch_free(fetch);

    peal_reader_submit(reader, page_fetch(&ask), NULL, PEAL_ENOMEM);
    fetch = wait_for_page();
    assert_null(fetch->page);
    peal_store_fetch_free(fetch);
    peal_reader_stop(reader);
    peal_mailbox_fini(&pages);
}

static void reader_without_a_group_name_answers_with_the_error(void **state)
{
    (void)state;
    struct page page;
    struct peal_reader *reader = reader_open();
    struct peal_view view = hand_view(&a);
    peal_reader_submit(reader, page_fetch(&(struct ask){.group = ""}), &view, PEAL_OK);
    struct peal_store_fetch *fetch = wait_for_page();
    page = (struct page){.bytes = peal_bytes_ref(fetch->page)};
    page_open(&page);
    assert_int_equal(page.frame.code, PEAL_EBAD_GROUP);
    page_free(&page);
    peal_store_fetch_free(fetch);
    peal_reader_stop(reader);
    peal_mailbox_fini(&pages);
}

/* A stop that comes while the thread is between two looks must not be missed: it would wait for
 * ever, which the test's time limit shows. */
static void reader_stopped_at_any_moment_answers_all(void **state)
{
    (void)state;
    struct ask ask = {.group = "user:a", .epoch = LEVELS_EPOCH};
    hand_put_many(&a, 5);
    for (int i = 0; i < 300; i++) {
        struct peal_reader *reader = reader_open();
        for (int n = 0; n < i % 3; n++) {
            struct peal_view view = hand_view(&a);
            peal_reader_submit(reader, page_fetch(&ask), &view, PEAL_OK);
        }
        peal_reader_stop(reader);
        for (int n = 0; n < i % 3; n++) {
            struct peal_store_fetch *fetch = peal_mailbox_pop(&pages);
            assert_non_null(fetch);
            assert_non_null(fetch->page);
            peal_store_fetch_free(fetch);
        }
        assert_null(peal_mailbox_pop(&pages));
        peal_mailbox_fini(&pages);
    }
}

/* ---- all -------------------------------------------------------------------------------- */

#define AT(f, where)                                                                               \
    {                                                                                              \
#f " (" #where ")", f, setup, teardown, (void *)(uintptr_t)&where                          \
    }
#define EVERYWHERE(f) AT(f, in_inbox), AT(f, in_log), AT(f, in_both), AT(f, split)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EVERYWHERE(page_of_an_empty_group_is_empty),
        EVERYWHERE(page_forward_starts_after_the_position),
        EVERYWHERE(page_limits_are_kept_and_the_next_page_goes_on),
        EVERYWHERE(page_marks_are_shown_and_unacked_skips),
        EVERYWHERE(page_of_another_epoch_tells_a_gap_and_everything_kept),
        EVERYWHERE(page_below_the_window_tells_evicted_and_settled_apart),
        EVERYWHERE(page_expired_messages_are_skipped_before_and_after_they_are_removed),
        EVERYWHERE(page_reverse_lists_newest_first),
        EVERYWHERE(page_of_a_plain_group_has_no_marks),
        EVERYWHERE(page_is_of_the_moment_of_its_view),
        EVERYWHERE(page_never_delivers_a_changed_payload),
        EVERYWHERE(page_missing_message_is_a_gap_unless_it_was_removed),
        EVERYWHERE(page_damaged_message_is_a_gap_even_if_it_was_read),
        AT(page_reads_the_copy_that_the_view_names, in_both),
        AT(page_never_delivers_what_stands_at_a_wrong_place, in_log),
        AT(reader_answers_in_order_and_lets_go_of_the_view, split),
        AT(reader_without_a_view_answers_with_the_error, in_log),
        AT(reader_without_a_group_name_answers_with_the_error, in_log),
        AT(reader_stopped_at_any_moment_answers_all, split),
    };
    peal_metrics_thread_start();
    return cmocka_run_group_tests_name("reader", tests, NULL, NULL);
}

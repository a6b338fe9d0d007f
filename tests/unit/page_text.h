/* tests/unit/page_text.h: what is asked of a group, and the page that answers as text. */
#ifndef PEAL_TESTS_PAGE_TEXT_H
#define PEAL_TESTS_PAGE_TEXT_H

#include <stdio.h>
#include <string.h>

#include "proto/envelope.h"
#include "proto/wire.h"
#include "storage/store.h"
#include "tests/unit/unit.h"

/* Messages of a group that began a new epoch keep the envelopes of the old one. */
static bool rig_head_went_back;

struct page {
    struct peal_bytes *bytes;
    struct peal_frame frame;
    char text[8192]; /* the entries: "M1 M2ar S3-4 Gevicted:5-6" */
    uint64_t messages;
    char data[300]; /* of the last message */
};

static inline void page_free(struct page *page)
{
    peal_frame_fini(&page->frame);
    peal_bytes_unref(page->bytes);
}

static inline void page_describe(struct page *page)
{
    size_t n = 0;
    page->text[0] = '\0';
    for (size_t i = 0; i < page->frame.entries.count; i++) {
        struct peal_frame entry;
        struct peal_envelope env;
        char one[64] = "";
        assert_int_equal(peal_frame_decode(page->frame.entries.at[i], &entry), PEAL_OK);
        if (entry.type == PEAL_F_MESSAGE) {
            assert_int_equal(peal_envelope_decode(entry.envelope, &env), PEAL_OK);
            if (!rig_head_went_back) assert_int_equal(env.epoch, page->frame.epoch);
            snprintf(one, sizeof one, "M%llu%s%s", (unsigned long long)env.offset,
                     entry.flags & PEAL_FLAG_ACKED ? "a" : "",
                     entry.flags & PEAL_FLAG_READ ? "r" : "");
            size_t size = env.data.size < sizeof page->data ? env.data.size : 0;
            memcpy(page->data, env.data.at, size);
            page->data[size] = '\0';
            page->messages++;
        } else {
            assert_true(entry.type == PEAL_F_SKIP || entry.type == PEAL_F_GAP);
            assert_true(peal_span_equal(entry.group, page->frame.group));
            snprintf(one, sizeof one, "%s%s%s%llu-%llu", entry.type == PEAL_F_SKIP ? "S" : "G",
                     entry.type == PEAL_F_SKIP ? "" : peal_gap_word(entry.why),
                     entry.type == PEAL_F_SKIP ? "" : ":", (unsigned long long)entry.from,
                     (unsigned long long)entry.to);
        }
        peal_frame_fini(&entry);
        assert_true(n + strlen(one) + 2 < sizeof page->text);
        n +=
            (size_t)snprintf(page->text + n, sizeof page->text - n, "%s%s", n == 0 ? "" : " ", one);
    }
}

struct ask {
    const char *group;
    uint64_t epoch, offset, limit, bytes, flags;
};

/* Decodes what *page has in its bytes. */
static inline void page_open(struct page *page)
{
    assert_int_equal(peal_frame_decode(peal_bytes_span(page->bytes), &page->frame), PEAL_OK);
    assert_int_equal(page->frame.type, PEAL_F_PAGE);
    assert_int_equal(page->frame.req, 4711);
    page_describe(page);
}

static inline struct peal_store_fetch *page_fetch(const struct ask *ask)
{
    struct peal_store_fetch *fetch = peal_store_fetch_new(peal_span_of(ask->group));
    assert_non_null(fetch);
    fetch->epoch = ask->epoch;
    fetch->offset = ask->offset;
    fetch->limit = ask->limit;
    fetch->bytes = ask->bytes;
    fetch->flags = ask->flags;
    fetch->tag[0] = 4711;
    return fetch;
}

#endif

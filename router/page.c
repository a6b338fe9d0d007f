#include "router/page.h"

#include "base/limits.h"
#include "proto/envelope.h"
#include "proto/msg.h"

struct page {
    struct peal_bytes *entries[PEAL_PAGE_MESSAGES + 1];
    size_t count;
    struct peal_buf scratch;
};

static bool add(struct page *page, const struct peal_frame *entry)
{
    struct peal_bytes *bytes = peal_frame_bytes(entry, &page->scratch);
    if (bytes == NULL) return false;
    page->entries[page->count++] = bytes;
    return true;
}

static bool has_expired(const struct peal_bytes *envelope, uint64_t wall_ms)
{
    struct peal_envelope env;
    if (peal_envelope_decode(peal_bytes_span(envelope), &env) != PEAL_OK) return false;
    return env.ttl_ms != 0 && wall_ms > env.ts_ms && wall_ms - env.ts_ms >= env.ttl_ms;
}

/* What is missing between the position and the oldest that is kept; from = 0: nothing. */
static struct peal_frame gap_before(const struct peal_group_entry *g, const struct peal_frame *in,
                                    uint64_t first)
{
    struct peal_frame gap = {.type = PEAL_F_GAP, .group = in->group, .to = first - 1};
    if (in->epoch != g->epoch || in->offset > g->head) {
        gap.from = first > 1 ? 1 : 0;
        gap.why = PEAL_GAP_EPOCH;
    } else if (in->offset + 1 < first) {
        gap.from = in->offset + 1;
        gap.why = g->policy->history.messages == 0 ? PEAL_GAP_UNREPAIRED : PEAL_GAP_EVICTED;
    }
    return gap;
}

static void encode(const struct page *page, struct peal_frame *frame, struct peal_buf *out)
{
    struct peal_span spans[PEAL_PAGE_MESSAGES + 1];
    for (size_t i = 0; i < page->count; i++)
        spans[i] = peal_bytes_span(page->entries[i]);
    frame->entries.at = spans;
    frame->entries.count = page->count;
    peal_frame_encode(frame, out);
}

void peal_page_of_history(const struct peal_group_entry *g, const struct peal_frame *in,
                          uint64_t wall_ms, struct peal_buf *out)
{
    struct page page = {.count = 0};
    uint64_t first = peal_group_entry_first(g);
    uint64_t at = in->offset;
    uint64_t limit = in->limit < PEAL_PAGE_MESSAGES ? in->limit : PEAL_PAGE_MESSAGES;
    size_t bytes = 0;
    struct peal_frame gap = gap_before(g, in, first);
    if (gap.why != 0) {
        at = first - 1;
        if (!add(&page, &gap)) out->failed = true;
    }
    for (uint64_t n = 0; n < limit && at < g->head && !out->failed; n++) {
        struct peal_bytes *envelope = peal_history_get(g->history, (uint32_t)(at + 1 - first));
        if (n > 0 && bytes + envelope->size > in->bytes) break;
        struct peal_frame entry = {.type = PEAL_F_MESSAGE, .envelope = peal_bytes_span(envelope)};
        if (has_expired(envelope, wall_ms))
            entry = (struct peal_frame){
                .type = PEAL_F_SKIP, .group = in->group, .from = at + 1, .to = at + 1};
        if (!add(&page, &entry)) break;
        bytes += envelope->size;
        at++;
    }
    struct peal_frame frame = {.type = PEAL_F_PAGE,
                               .req = in->req,
                               .group = in->group,
                               .epoch = g->epoch,
                               .offset = at,
                               .head = g->head,
                               .first = first};
    if (!out->failed) encode(&page, &frame, out);
    for (size_t i = 0; i < page.count; i++)
        peal_bytes_unref(page.entries[i]);
    peal_buf_fini(&page.scratch);
}

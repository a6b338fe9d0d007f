#include "node/sync.h"

void peal_sync_begin(struct peal_sync *s, const struct peal_sync_io *io, uint64_t now_ms,
                     struct peal_sync_pages *pages)
{
    s->seq++;
    s->waits = true;
    s->said_ms = now_ms;
    pages->io = *io;
    pages->named = 0;
    pages->frame =
        (struct peal_frame){.type = PEAL_F_SYNC, .seq = s->seq, .flags = PEAL_FLAG_FIRST};
    pages->frame.positions.at = pages->at;
}

static void send_page(struct peal_sync_pages *pages)
{
    pages->frame.limit = pages->named;
    pages->io.send(pages->io.ctx, pages->io.link, &pages->frame);
    pages->frame.flags = 0;
    pages->frame.positions.count = 0;
}

void peal_sync_name(struct peal_sync_pages *pages, const struct peal_position *at)
{
    if (pages->frame.positions.count == PEAL_SYNC_PAGE) send_page(pages);
    pages->at[pages->frame.positions.count++] = *at;
    pages->named++;
}

void peal_sync_end(struct peal_sync_pages *pages)
{
    pages->frame.flags |= PEAL_FLAG_LAST;
    send_page(pages);
}

bool peal_sync_on_synced(struct peal_sync *s, uint64_t seq)
{
    if (seq != s->seq) return false;
    s->waits = false;
    return true;
}

bool peal_sync_overdue(const struct peal_sync *s, uint64_t now_ms)
{
    return s->waits && now_ms - s->said_ms >= PEAL_SYNC_RETRY_MS;
}

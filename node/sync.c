#include "node/sync.h"

static void begin(struct peal_sync *s, const struct peal_sync_io *io, enum peal_frame_type type,
                  struct peal_sync_pages *pages)
{
    pages->io = *io;
    pages->named = 0;
    pages->frame = (struct peal_frame){.type = type, .seq = ++s->said, .flags = PEAL_FLAG_FIRST};
    pages->frame.positions.at = pages->at;
}

void peal_sync_begin(struct peal_sync *s, const struct peal_sync_io *io, uint64_t now_ms,
                     struct peal_sync_pages *pages)
{
    begin(s, io, PEAL_F_SYNC, pages);
    s->seq = s->said;
    s->waits = true;
    s->said_ms = now_ms;
}

void peal_sync_begin_slot(struct peal_sync *s, const struct peal_sync_io *io, uint64_t slot,
                          struct peal_sync_pages *pages)
{
    begin(s, io, PEAL_F_SYNC_SLOT, pages);
    pages->frame.from = slot;
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

void peal_sync_check(struct peal_sync *s, const struct peal_sync_io *io,
                     const struct peal_roll *held, uint64_t now_ms)
{
    uint64_t digests[PEAL_SYNC_CHECK];
    struct peal_frame check = {.type = PEAL_F_CHECK, .from = s->next_slot};
    if (s->waits || now_ms - s->said_ms < PEAL_SYNC_REST_MS) return;
    check.offsets.at = digests;
    for (uint64_t i = s->next_slot; i < PEAL_SLOTS && check.offsets.count < PEAL_SYNC_CHECK; i++)
        digests[check.offsets.count++] = held->slots[i].digest;
    s->next_slot = (s->next_slot + check.offsets.count) % PEAL_SLOTS;
    io->send(io->ctx, io->link, &check);
}

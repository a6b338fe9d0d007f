/* Each part of what the uplink does has its own file: what comes in batches (entries.c), which
 * links are to be trusted (trust.c), who wants what (wants.c), slots that change hands (moves.c),
 * what goes to the routers (parcels.c) and to the workers (mails.c). Here is what calls them, and
 * when. */
#include "node/uplink.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/limits.h"
#include "base/log.h"
#include "node/entries.h"
#include "node/moves.h"
#include "node/parcels.h"
#include "node/trust.h"
#include "node/uplink_state.h"
#include "node/wants.h"

/* ---- routers say --------------------------------------------------------------------------- */

static void on_batch(struct peal_uplink *up, size_t link, const struct peal_frame *batch)
{
    if (!peal_trust_hear(up, link, batch)) return;
    peal_entries_take(up, link, batch->entries.at, batch->entries.count);
    if (!up->links[link].up) peal_trust_sync(up, link);
    peal_trust_tell(up);
}

void peal_uplink_on_batch(struct peal_uplink *up, size_t link, struct peal_span bytes)
{
    struct peal_frame frame;
    enum peal_err err = peal_frame_decode(bytes, &frame);
    if (err == PEAL_OK && frame.type == PEAL_F_BATCH) {
        on_batch(up, link, &frame);
    } else if (err == PEAL_OK && frame.type == PEAL_F_RELINKED) {
        peal_trust_on_relinked(up, link, &frame);
    } else {
        peal_log(PEAL_LOG_ERROR, "link.bad_batch", "link=%zu", link);
        up->links[link].up = false;
    }
    if (err == PEAL_OK) peal_frame_fini(&frame);
}

void peal_uplink_on_answer(struct peal_uplink *up, size_t link, struct peal_span bytes)
{
    struct peal_frame frame;
    enum peal_err err = peal_frame_decode(bytes, &frame);
    if (err != PEAL_OK) {
        peal_log(PEAL_LOG_ERROR, "link.bad_answer", "link=%zu code=%s", link, peal_err_word(err));
        return; /* the request times out */
    }
    up->links[link].waits_ms = up->now_ms;
    if (frame.type == PEAL_F_SYNCED)
        peal_trust_on_synced(up, link, &frame);
    else if (frame.type == PEAL_F_DIFFER)
        peal_trust_sync_slots(up, link, frame.offsets.at, frame.offsets.count);
    else if (frame.type == PEAL_F_MOVED || frame.type == PEAL_F_SLOTS)
        peal_moves_hear(up, link, &frame);
    else
        peal_mails_add_answer(&up->mails, frame.req, bytes);
    if (frame.type == PEAL_F_PAGE && peal_repairs_done(&up->links[link].repairs, frame.req))
        peal_parcels_add_repairs(up, link);
    peal_frame_fini(&frame);
}

/* ---- workers say --------------------------------------------------------------------------- */

void peal_uplink_on_order(struct peal_uplink *up, struct peal_order *o)
{
    switch (o->kind) {
    case PEAL_ORDER_JOIN:
        peal_wants_join(up, o);
        break;
    case PEAL_ORDER_LEAVE:
        peal_wants_leave(up, o);
        break;
    case PEAL_ORDER_SEND: {
        size_t link = peal_uplink_link_of(up, o->group);
        enum peal_err err = PEAL_ENO_ROUTER;
        bool reach =
            !peal_slotmap_out_of_reach(&up->slots, peal_group_slot(o->group)) && up->links[link].up;
        if (o->repair && reach) {
            err = peal_repairs_add(&up->links[link].repairs, o, up->now_ms);
            peal_parcels_add_repairs(up, link);
            if (err == PEAL_OK) return; /* it may be gone already */
        } else if (reach)
            err = peal_parcels_add_bytes(up, link, o->frame);
        if (err != PEAL_OK) peal_mails_add_failed(&up->mails, o->req, err);
        break;
    }
    }
    peal_order_free(o);
}

/* ---- time ---------------------------------------------------------------------------------- */

bool peal_uplink_ready(const struct peal_uplink *up)
{
    for (size_t i = 0; i < up->link_count; i++)
        if (!up->links[i].up || up->links[i].two) return false;
    return true;
}

size_t peal_uplink_groups(const struct peal_uplink *up)
{
    size_t count = 0;
    for (size_t i = 0; i < up->link_count; i++)
        count += up->links[i].held.count;
    return count;
}

void peal_uplink_set_time(struct peal_uplink *up, uint64_t now_ms)
{
    up->now_ms = now_ms;
}

void peal_uplink_on_tick(struct peal_uplink *up)
{
    peal_mails_tell_losses(&up->mails);
    peal_wants_retry(up);
    peal_trust_retry(up);
    peal_parcels_give_up_repairs(up);
    if (up->now_ms < up->beat_due_ms) return;
    up->beat_due_ms = up->now_ms + PEAL_BEAT_MS;
    peal_trust_check(up);
}

bool peal_uplink_silent(struct peal_uplink *up, size_t link, uint64_t ms)
{
    struct peal_uplink_link *l = &up->links[link];
    if (l->tried_ms == 0) l->tried_ms = up->now_ms;
    uint64_t since_ms = l->heard_ms > l->tried_ms ? l->heard_ms : l->tried_ms;
    if (up->now_ms - since_ms <= ms) return false;
    l->tried_ms = up->now_ms;
    return true;
}

bool peal_uplink_unanswered(struct peal_uplink *up, size_t link, uint64_t ms)
{
    struct peal_uplink_link *l = &up->links[link];
    bool heard = l->lives.boot != 0 && up->now_ms - l->heard_ms <= PEAL_BEAT_LOST_MS;
    if (!heard || !l->sync.waits || up->now_ms - l->waits_ms <= ms) return false;
    l->waits_ms = up->now_ms;
    return true;
}

void peal_uplink_flush(struct peal_uplink *up)
{
    peal_parcels_flush(up);
    peal_trust_tell(up);
    peal_mails_flush(&up->mails);
}

/* ---- life ---------------------------------------------------------------------------------- */

struct peal_uplink *peal_uplink_new(const struct peal_uplink_io *io, uint64_t boot,
                                    size_t router_count, uint8_t worker_count)
{
    PEAL_ASSERT(router_count > 0);
    struct peal_uplink *up = calloc(1, sizeof *up + router_count * sizeof up->links[0]);
    if (up == NULL) return NULL;
    up->io = *io;
    up->boot = boot;
    up->link_count = router_count;
    struct peal_mails_io mails = {io->ctx, io->post};
    peal_mails_init(&up->mails, &mails, worker_count);
    peal_slotmap_init(&up->slots, router_count);
    peal_link_init(&up->pendings);
    for (size_t i = 0; i < router_count; i++)
        peal_repairs_init(&up->links[i].repairs);
    enum peal_err err = peal_map_init(&up->pending_map);
    for (size_t i = 0; i < router_count && err == PEAL_OK; i++)
        err = peal_map_init(&up->links[i].groups);
    if (err == PEAL_OK) return up;
    peal_uplink_free(up);
    return NULL;
}

void peal_uplink_free(struct peal_uplink *up)
{
    if (up == NULL) return;
    peal_wants_fini(up);
    for (size_t i = 0; i < up->link_count; i++) {
        struct peal_uplink_link *l = &up->links[i];
        peal_map_fini(&l->groups);
        peal_roll_fini(&l->held);
        peal_repairs_fini(&l->repairs);
        peal_parcel_fini(&l->out);
    }
    peal_mails_fini(&up->mails);
    peal_map_fini(&up->pending_map);
    peal_buf_fini(&up->scratch);
    free(up);
}

#include "node/moves.h"

#include "base/log.h"
#include "node/parcels.h"
#include "node/uplink_state.h"
#include "node/wants.h"

static void change_links(struct peal_uplink *up)
{
    size_t moved = 0;
    for (size_t i = 0; i < up->link_count; i++)
        for (uint16_t slot = 0; slot < PEAL_SLOTS; slot++) {
            const struct peal_roll_slot *held = &up->links[i].held.slots[slot];
            size_t to = peal_slotmap_link(&up->slots, slot);
            /* From the end: the others stay where they are. */
            for (; to != i && held->count > 0; moved++)
                peal_wants_move(up, held->items[held->count - 1], to);
        }
    peal_log(PEAL_LOG_INFO, "slots.changed", "groups=%zu", moved);
}

/* Workers sort publishes by router; whom they are sent to is decided here. */
static void tell_slots(struct peal_uplink *up)
{
    up->scratch.size = 0;
    peal_slotmap_encode(&up->slots, &up->scratch);
    if (up->scratch.failed) {
        peal_buf_fini(&up->scratch);
        return;
    }
    peal_mails_add_for_all(&up->mails, peal_buf_span(&up->scratch));
}

static void hear_slots(struct peal_uplink *up, const struct peal_frame *f)
{
    if (!peal_slotmap_hear(&up->slots, f)) return;
    change_links(up);
    tell_slots(up);
    peal_mails_tell_synced(&up->mails);
}

void peal_moves_hear(struct peal_uplink *up, size_t link, const struct peal_frame *f)
{
    hear_slots(up, f);
    if (peal_repairs_done(&up->links[link].repairs, f->req)) peal_parcels_add_repairs(up, link);
    if (f->envelope.size == 0 || f->slot >= PEAL_SLOTS) return;
    uint16_t slot = (uint16_t)f->slot;
    size_t owner = peal_slotmap_link(&up->slots, slot);
    enum peal_err err = PEAL_ENO_ROUTER;
    if (owner == link)
        err = PEAL_EAGAIN;
    else if (up->links[owner].up && !peal_slotmap_out_of_reach(&up->slots, slot))
        err = peal_parcels_add_bytes(up, owner, f->envelope);
    if (err != PEAL_OK) peal_mails_add_failed(&up->mails, f->req, err);
}

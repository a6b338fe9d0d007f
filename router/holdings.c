#include "router/holdings.h"

#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/metrics.h"
#include "proto/wire.h"

static enum peal_holding state_of(const struct peal_holdings *h, uint16_t slot)
{
    const struct peal_slot *known = &h->slots[slot];
    if (known->owner == PEAL_SLOT_NOBODY || h->against[slot] != 0) return PEAL_HOLD_NOBODY;
    if (h->changed[slot] > h->written) return PEAL_HOLD_NOBODY;
    if (known->owner != h->self) return PEAL_HOLD_ELSEWHERE;
    return h->frozen[slot] ? PEAL_HOLD_FROZEN : PEAL_HOLD_MINE;
}

static void settle(struct peal_holdings *h, uint16_t slot)
{
    h->mine -= h->state[slot] == PEAL_HOLD_MINE;
    h->state[slot] = (uint8_t)state_of(h, slot);
    h->mine += h->state[slot] == PEAL_HOLD_MINE;
}

static void settle_all(struct peal_holdings *h)
{
    for (uint16_t slot = 0; slot < PEAL_SLOTS; slot++)
        settle(h, slot);
}

static void set_claim(struct peal_holdings *h, uint16_t slot, const struct peal_slot *claim)
{
    h->slots[slot] = *claim;
    h->changed[slot] = h->version + 1;
    h->frozen[slot] = false;
}

void peal_holdings_init(struct peal_holdings *h, size_t self, size_t router_count)
{
    PEAL_ASSERT(self < router_count);
    PEAL_ASSERT(router_count <= PEAL_SLOTS);
    memset(h, 0, sizeof *h);
    h->self = (uint16_t)self;
    h->router_count = (uint16_t)router_count;
    peal_slots_clear(h->slots);
}

void peal_holdings_init_alone(struct peal_holdings *h)
{
    peal_holdings_init(h, 0, 1);
    peal_slots_seed(h->slots, 1);
    h->seeded = true;
    settle_all(h);
}

void peal_holdings_seed(struct peal_holdings *h)
{
    struct peal_slot slots[PEAL_SLOTS];
    peal_slots_seed(slots, h->router_count);
    for (uint16_t slot = 0; slot < PEAL_SLOTS; slot++)
        set_claim(h, slot, &slots[slot]);
    h->version++;
    h->seeded = true;
    settle_all(h);
    peal_log(PEAL_LOG_INFO, "slots.seeded", "self=%u routers=%u", h->self, h->router_count);
}

/* ---- the record: a SLOTS frame --------------------------------------------------------------- */

void peal_holdings_record(const struct peal_holdings *h, struct peal_buf *out)
{
    uint64_t runs[PEAL_SLOT_RUNS];
    struct peal_frame frame = {.type = PEAL_F_SLOTS, .owner = h->self};
    frame.offsets.at = runs;
    frame.offsets.count = peal_slots_encode(h->slots, runs);
    peal_frame_encode(&frame, out);
}

enum peal_err peal_holdings_load(struct peal_holdings *h, struct peal_span record, uint64_t *self)
{
    struct peal_frame frame;
    struct peal_slot slots[PEAL_SLOTS];
    enum peal_err err = peal_frame_decode(record, &frame);
    if (err != PEAL_OK) return err == PEAL_ENOMEM ? err : PEAL_ECORRUPT;
    *self = frame.owner;
    err = PEAL_ECORRUPT;
    if (frame.type == PEAL_F_SLOTS)
        err = peal_slots_decode(frame.offsets.at, frame.offsets.count, slots);
    peal_frame_fini(&frame);
    if (err != PEAL_OK) return PEAL_ECORRUPT;
    if (*self != h->self) return PEAL_ECONFIG;
    memcpy(h->slots, slots, sizeof slots);
    h->seeded = true;
    settle_all(h);
    return PEAL_OK;
}

void peal_holdings_written(struct peal_holdings *h, uint64_t version)
{
    PEAL_ASSERT(version <= h->version);
    if (version <= h->written) return;
    h->written = version;
    settle_all(h);
}

void peal_holdings_tell(const struct peal_holdings *h, struct peal_slot slots[PEAL_SLOTS])
{
    for (uint16_t slot = 0; slot < PEAL_SLOTS; slot++) {
        slots[slot] = h->slots[slot];
        if (h->changed[slot] > h->written)
            slots[slot] = (struct peal_slot){.owner = PEAL_SLOT_NOBODY};
    }
}

/* ---- what others say --------------------------------------------------------------------------
 */

static bool knows_nothing(const struct peal_slot slots[PEAL_SLOTS])
{
    for (uint16_t slot = 0; slot < PEAL_SLOTS; slot++)
        if (slots[slot].owner != PEAL_SLOT_NOBODY) return false;
    return true;
}

/* All the others have said that they know nothing. */
static bool all_are_new(const struct peal_holdings *h)
{
    for (size_t router = 0; router < h->router_count; router++)
        if (router != h->self && !h->empty_heard[router]) return false;
    return true;
}

static void contradict(struct peal_holdings *h, uint16_t slot, size_t peer,
                       const struct peal_slot *claim)
{
    if (h->against[slot] == 0) {
        h->contradicted++;
        peal_count(PEAL_M_SLOTS_CONTRADICTED, 1);
        peal_log(PEAL_LOG_ERROR, "slot.contradicted",
                 "slot=%u generation=%llu mine=%u theirs=%u said_by=%zu", slot,
                 (unsigned long long)claim->generation, h->slots[slot].owner, claim->owner, peer);
    }
    h->against[slot] = (uint16_t)(peer + 1);
}

static void agree(struct peal_holdings *h, uint16_t slot)
{
    if (h->against[slot] == 0) return;
    h->against[slot] = 0;
    h->contradicted--;
    peal_count(PEAL_M_SLOTS_CONTRADICTED, -1);
    peal_log(PEAL_LOG_WARN, "slot.agreed", "slot=%u owner=%u generation=%llu", slot,
             h->slots[slot].owner, (unsigned long long)h->slots[slot].generation);
}

/* True when the claim is taken over. */
static bool hear_slot(struct peal_holdings *h, uint16_t slot, size_t peer,
                      const struct peal_slot *claim)
{
    switch (peal_slot_judge(&h->slots[slot], claim)) {
    case PEAL_SLOT_NEWER:
        if (h->state[slot] == PEAL_HOLD_MINE)
            peal_log(PEAL_LOG_WARN, "slot.lost", "slot=%u owner=%u generation=%llu said_by=%zu",
                     slot, claim->owner, (unsigned long long)claim->generation, peer);
        set_claim(h, slot, claim);
        agree(h, slot);
        return true;
    case PEAL_SLOT_CONFLICT:
        contradict(h, slot, peer, claim);
        return false;
    case PEAL_SLOT_SAME:
    case PEAL_SLOT_STALE: /* it will learn from what is told here */
        if (h->against[slot] == peer + 1 && claim->owner != PEAL_SLOT_NOBODY) agree(h, slot);
        return false;
    }
    return false;
}

bool peal_holdings_hear(struct peal_holdings *h, size_t peer,
                        const struct peal_slot claims[PEAL_SLOTS])
{
    if (peer >= h->router_count || peer == h->self) return false;
    h->empty_heard[peer] = knows_nothing(claims);
    if (!h->seeded && h->empty_heard[peer]) {
        if (!all_are_new(h)) return false;
        peal_holdings_seed(h);
        return true;
    }
    bool changed = false;
    for (uint16_t slot = 0; slot < PEAL_SLOTS; slot++)
        changed |= hear_slot(h, slot, peer, &claims[slot]);
    if (changed) {
        h->version++;
        if (!h->seeded) peal_log(PEAL_LOG_INFO, "slots.learned", "self=%u from=%zu", h->self, peer);
        h->seeded = true;
    }
    settle_all(h);
    return changed;
}

/* ---- moving ------------------------------------------------------------------------------------
 */

void peal_holdings_freeze(struct peal_holdings *h, uint16_t slot, bool frozen)
{
    h->frozen[slot] = frozen;
    settle(h, slot);
}

void peal_holdings_give(struct peal_holdings *h, uint16_t slot, size_t to)
{
    PEAL_ASSERT(h->slots[slot].owner == h->self);
    PEAL_ASSERT(to < h->router_count);
    struct peal_slot claim = {.owner = (uint16_t)to, .generation = h->slots[slot].generation + 1};
    set_claim(h, slot, &claim);
    h->version++;
    settle(h, slot);
}

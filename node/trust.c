#include "node/trust.h"

#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "node/parcels.h"
#include "node/uplink_state.h"
#include "node/wants.h"

enum { ALARM_MS = 60000 }; /* between two log lines about two lives of one router */

void peal_trust_tell(struct peal_uplink *up)
{
    peal_mails_tell_links(&up->mails, !peal_uplink_ready(up));
}

static void send_sync(void *ctx, size_t link, const struct peal_frame *frame)
{
    struct peal_uplink *up = ctx;
    if (peal_parcels_add(up, link, frame) != PEAL_OK)
        up->links[link].up = false; /* on the next beat */
}

void peal_trust_sync(struct peal_uplink *up, size_t link)
{
    struct peal_sync_pages pages;
    struct peal_sync_io io = {up, link, send_sync};
    struct peal_uplink_link *l = &up->links[link];
    l->up = true;
    if (!l->sync.waits) l->waits_ms = up->now_ms;
    peal_count(PEAL_M_LINK_SYNCS, 1);
    peal_sync_begin(&l->sync, &io, up->now_ms, &pages);
    for (struct peal_map_node *n = peal_map_next(&l->groups, NULL); n != NULL;
         n = peal_map_next(&l->groups, n)) {
        struct peal_want *want = PEAL_FROM_NODE(n, struct peal_want, node);
        struct peal_position at = {peal_want_name(want), want->epoch, want->offset};
        if (want->joined) peal_sync_name(&pages, &at);
    }
    peal_sync_end(&pages);
    peal_wants_ask(up, link);
}

/* One that is lost was for nothing: the slots come round again. */
static void send_check(void *ctx, size_t link, const struct peal_frame *frame)
{
    if (peal_parcels_add(ctx, link, frame) != PEAL_OK)
        peal_log(PEAL_LOG_DEBUG, "link.check_not_sent", "link=%zu", link);
}

void peal_trust_sync_slots(struct peal_uplink *up, size_t link, const uint64_t *slots, size_t count)
{
    struct peal_sync_pages pages;
    struct peal_sync_io io = {up, link, send_check};
    struct peal_uplink_link *l = &up->links[link];
    if (!l->up || l->sync.waits || count > PEAL_SYNC_CHECK) return;
    for (size_t i = 0; i < count; i++) {
        if (slots[i] >= PEAL_SLOTS) continue;
        const struct peal_roll_slot *held = &l->held.slots[slots[i]];
        peal_count(PEAL_M_LINK_DIFFERS, 1);
        peal_sync_begin_slot(&l->sync, &io, slots[i], &pages);
        for (uint32_t k = 0; k < held->count; k++) {
            const struct peal_want *want = held->items[k];
            struct peal_position at = {.group = peal_want_name(want)};
            if (want->joined)
                at = (struct peal_position){peal_want_name(want), want->epoch, want->offset};
            peal_sync_name(&pages, &at);
        }
        peal_sync_end(&pages);
    }
}

void peal_trust_on_relinked(struct peal_uplink *up, size_t link, const struct peal_frame *relinked)
{
    const struct peal_uplink_link *l = &up->links[link];
    if (!l->up || l->sync.waits) return;
    peal_log(PEAL_LOG_INFO, "link.relinked", "link=%zu relay=%016llx count=%llu", link,
             (unsigned long long)relinked->boot, (unsigned long long)relinked->seq);
    peal_trust_sync(up, link);
}

/* A relay that slept still has what a router said long ago, and the node may have heard what came
 * after that by another way. To take it for news would turn positions back. */
static bool is_late(const struct peal_uplink_link *l, const struct peal_frame *batch,
                    enum peal_life life)
{
    if (life != PEAL_LIFE_SAME) return life == PEAL_LIFE_FORMER;
    return batch->entries.count > 0 ? batch->seq <= l->seq : batch->seq < l->seq;
}

bool peal_trust_hear(struct peal_uplink *up, size_t link, const struct peal_frame *batch)
{
    struct peal_uplink_link *l = &up->links[link];
    enum peal_life life = peal_lives_hear(&l->lives, batch->boot, l->heard_ms, up->now_ms);
    if (is_late(l, batch, life)) {
        peal_count(PEAL_M_LINK_LATE, 1);
        return false;
    }
    uint64_t expected = l->seq + (batch->entries.count > 0 ? 1 : 0);
    if (life == PEAL_LIFE_NEW) {
        peal_log(PEAL_LOG_INFO, "link.boot", "link=%zu boot=%016llx", link,
                 (unsigned long long)batch->boot);
        l->up = false;
    } else if (batch->seq != expected) {
        peal_count(PEAL_M_LINK_JUMPS, 1);
        peal_log(PEAL_LOG_WARN, "link.jump", "link=%zu expected=%llu got=%llu", link,
                 (unsigned long long)expected, (unsigned long long)batch->seq);
        l->up = false;
    }
    l->seq = batch->seq;
    l->heard_ms = up->now_ms;
    return true;
}

void peal_trust_on_synced(struct peal_uplink *up, size_t link, const struct peal_frame *synced)
{
    struct peal_uplink_link *l = &up->links[link];
    if (synced->seq == l->sync.seq &&
        peal_lives_answered(&l->lives, synced->boot, l->heard_ms, up->now_ms) &&
        peal_sync_on_synced(&l->sync, synced->seq))
        peal_mails_tell_synced(&up->mails);
}

/* Two processes say that they are this router, and publishes may go to either: somebody has to end
 * one of them. */
static void check_lives(struct peal_uplink *up, size_t link)
{
    struct peal_uplink_link *l = &up->links[link];
    bool two = peal_lives_two(&l->lives, up->now_ms);
    if (two != l->two) {
        peal_count(PEAL_M_LINKS_TWO_LIVES, two ? 1 : -1);
        l->two = two;
        l->alarm_ms = 0;
    }
    if (!two || (l->alarm_ms != 0 && up->now_ms - l->alarm_ms < ALARM_MS)) return;
    l->alarm_ms = up->now_ms;
    peal_log(PEAL_LOG_ERROR, "link.two_lives", "link=%zu boot=%016llx other=%016llx", link,
             (unsigned long long)l->lives.boot, (unsigned long long)l->lives.other);
}

void peal_trust_check(struct peal_uplink *up)
{
    struct peal_frame beat = {.type = PEAL_F_BEAT, .boot = up->boot};
    for (size_t i = 0; i < up->link_count; i++) {
        struct peal_uplink_link *l = &up->links[i];
        if (l->up && up->now_ms - l->heard_ms > PEAL_BEAT_LOST_MS) {
            peal_log(PEAL_LOG_WARN, "link.silent", "link=%zu ms=%llu", i,
                     (unsigned long long)(up->now_ms - l->heard_ms));
            l->up = false;
        }
        check_lives(up, i);
        /* Also to a router that was never heard: it forgets a node that says nothing, and then has
         * nobody to send its beats to. */
        if (peal_parcels_add(up, i, &beat) != PEAL_OK)
            peal_log(PEAL_LOG_WARN, "link.beat_not_sent", "link=%zu", i);
        struct peal_sync_io io = {up, i, send_check};
        if (l->up) peal_sync_check(&l->sync, &io, &l->held, up->now_ms);
    }
    peal_trust_tell(up);
}

void peal_trust_retry(struct peal_uplink *up)
{
    for (size_t i = 0; i < up->link_count; i++)
        if (up->links[i].up && peal_sync_overdue(&up->links[i].sync, up->now_ms))
            peal_trust_sync(up, i);
}

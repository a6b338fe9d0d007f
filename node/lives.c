#include "node/lives.h"

#include "base/limits.h"

static bool is_heard(uint64_t heard_ms, uint64_t now_ms)
{
    return now_ms - heard_ms <= PEAL_BEAT_LOST_MS;
}

/* PEAL_LIVES_FORMER when it is none of them. */
static size_t find_former(const struct peal_lives *l, uint64_t boot)
{
    size_t i = 0;
    while (i < PEAL_LIVES_FORMER && l->former[i].boot != boot)
        i++;
    return i;
}

static void note_other(struct peal_lives *l, uint64_t boot, uint64_t now_ms)
{
    if (l->other_ms == 0 || !is_heard(l->other_ms, now_ms)) l->other_since_ms = now_ms;
    l->other = boot;
    l->other_ms = now_ms;
}

enum peal_life peal_lives_hear(struct peal_lives *l, uint64_t boot, uint64_t heard_ms,
                               uint64_t now_ms)
{
    if (boot == l->boot) return PEAL_LIFE_SAME;
    size_t i = find_former(l, boot);
    if (l->boot != 0 && i < PEAL_LIVES_FORMER) {
        bool heard = is_heard(heard_ms, now_ms);
        if (heard) note_other(l, boot, now_ms);
        if (heard || now_ms < l->former[i].until_ms) return PEAL_LIFE_FORMER;
        l->former[i].boot = 0;
    }
    if (l->boot != 0) {
        l->former[l->former_next].boot = l->boot;
        l->former[l->former_next].until_ms = now_ms + PEAL_LIVES_LATE_MS;
        l->former_next = (l->former_next + 1) % PEAL_LIVES_FORMER;
    }
    l->boot = boot;
    l->other_ms = 0;
    return PEAL_LIFE_NEW;
}

bool peal_lives_answered(struct peal_lives *l, uint64_t boot, uint64_t heard_ms, uint64_t now_ms)
{
    if (boot == 0 || boot == l->boot) return true;
    if (!is_heard(heard_ms, now_ms)) return false;
    note_other(l, boot, now_ms);
    bool proven = find_former(l, boot) < PEAL_LIVES_FORMER;
    if (proven && now_ms - l->other_since_ms < PEAL_LIVES_TWO_MS)
        l->other_since_ms = now_ms - PEAL_LIVES_TWO_MS;
    return false;
}

bool peal_lives_two(const struct peal_lives *l, uint64_t now_ms)
{
    if (l->other_ms == 0 || !is_heard(l->other_ms, now_ms)) return false;
    return l->other_ms - l->other_since_ms >= PEAL_LIVES_TWO_MS;
}

#include "node/deadlines.h"

void peal_deadlines_init(struct peal_deadlines *d)
{
    *d = (struct peal_deadlines){0};
    peal_timer_init(&d->timer);
}

void peal_deadlines_rearm(struct peal_deadlines *d, struct peal_wheel *wheel)
{
    uint32_t first = 0;
    for (int i = 0; i < PEAL_DUE_COUNT; i++)
        if (d->ticks[i] != 0 && (first == 0 || d->ticks[i] < first)) first = d->ticks[i];
    if (first == 0)
        peal_wheel_disarm(&d->timer);
    else
        peal_wheel_arm(wheel, &d->timer, (uint64_t)first * PEAL_WHEEL_TICK_MS);
}

void peal_deadline_set(struct peal_deadlines *d, struct peal_wheel *wheel, enum peal_deadline what,
                       uint64_t now_ms, uint64_t ms)
{
    const uint64_t last_ms = (uint64_t)UINT32_MAX * PEAL_WHEEL_TICK_MS;
    uint64_t at_ms = ms < last_ms - now_ms ? now_ms + ms : last_ms;
    /* Rounded up, so that it is never early. */
    d->ticks[what] = (uint32_t)((at_ms + PEAL_WHEEL_TICK_MS - 1) / PEAL_WHEEL_TICK_MS);
    peal_deadlines_rearm(d, wheel);
}

void peal_deadline_clear(struct peal_deadlines *d, struct peal_wheel *wheel,
                         enum peal_deadline what)
{
    if (d->ticks[what] == 0) return;
    d->ticks[what] = 0;
    peal_deadlines_rearm(d, wheel);
}

bool peal_deadline_is_due(const struct peal_deadlines *d, enum peal_deadline what, uint64_t now_ms)
{
    return d->ticks[what] != 0 && now_ms >= (uint64_t)d->ticks[what] * PEAL_WHEEL_TICK_MS;
}

uint64_t peal_deadline_left(const struct peal_deadlines *d, enum peal_deadline what,
                            uint64_t now_ms)
{
    uint64_t at_ms = (uint64_t)d->ticks[what] * PEAL_WHEEL_TICK_MS;
    return at_ms > now_ms ? at_ms - now_ms : 0;
}

void peal_deadlines_fini(struct peal_deadlines *d)
{
    peal_wheel_disarm(&d->timer);
}

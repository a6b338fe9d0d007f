#include "base/wheel.h"

void peal_wheel_init(struct peal_wheel *wheel, uint64_t now_ms)
{
    for (int i = 0; i < PEAL_WHEEL_SLOTS; i++)
        peal_link_init(&wheel->slots[i]);
    wheel->tick = now_ms / PEAL_WHEEL_TICK_MS;
}

void peal_timer_init(struct peal_timer *timer)
{
    peal_link_init(&timer->link);
    timer->due_tick = 0;
}

void peal_wheel_arm(struct peal_wheel *wheel, struct peal_timer *timer, uint64_t at_ms)
{
    peal_list_remove(&timer->link);
    /* Rounded up without adding first: at_ms may be UINT64_MAX, for never. */
    uint64_t due = at_ms / PEAL_WHEEL_TICK_MS + (at_ms % PEAL_WHEEL_TICK_MS != 0);
    /* The current tick has been run already: a timer that is due now waits for the next one. */
    if (due <= wheel->tick) due = wheel->tick + 1;
    timer->due_tick = due;
    peal_list_append(&wheel->slots[due % PEAL_WHEEL_SLOTS], &timer->link);
}

void peal_wheel_disarm(struct peal_timer *timer)
{
    peal_list_remove(&timer->link);
    timer->due_tick = 0;
}

void peal_wheel_advance(struct peal_wheel *wheel, uint64_t now_ms,
                        void (*fire)(void *ctx, struct peal_timer *timer), void *ctx)
{
    uint64_t target = now_ms / PEAL_WHEEL_TICK_MS;
    /* After a long pause each slot has to be looked at once, not once per tick missed. */
    if (target > wheel->tick + PEAL_WHEEL_SLOTS) wheel->tick = target - PEAL_WHEEL_SLOTS;
    while (wheel->tick < target) {
        wheel->tick++;
        struct peal_link *slot = &wheel->slots[wheel->tick % PEAL_WHEEL_SLOTS];
        /* The due ones move to a list of their own first: fire may free any of them. */
        struct peal_link due;
        peal_link_init(&due);
        PEAL_LIST_EACH(slot, it, after)
        {
            struct peal_timer *timer = PEAL_FROM_LINK(it, struct peal_timer, link);
            if (timer->due_tick > wheel->tick) continue;
            peal_list_remove(it);
            peal_list_append(&due, it);
        }
        while (!peal_list_empty(&due)) {
            struct peal_timer *timer = PEAL_FROM_LINK(due.next, struct peal_timer, link);
            peal_wheel_disarm(timer);
            fire(ctx, timer);
        }
    }
}

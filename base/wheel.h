/* base/wheel.h: many timers that cost nothing while they wait.
 *
 * A hashed timing wheel: arming and disarming is O(1), a tick touches only the timers that
 * are due. Precision is one tick, never early. Timers further away than one lap wait in their
 * slot for their lap.
 *
 * Thread: the owner. Memory: timers are embedded in their objects.
 * Source: Varghese and Lauck, "Hashed and hierarchical timing wheels", 1987, scheme 6. */
#ifndef PEAL_BASE_WHEEL_H
#define PEAL_BASE_WHEEL_H

#include <stdint.h>

#include "base/list.h"

enum { PEAL_WHEEL_SLOTS = 512, PEAL_WHEEL_TICK_MS = 50 };

struct peal_timer {
    struct peal_link link;
    uint64_t due_tick; /* 0 while not armed */
};

struct peal_wheel {
    struct peal_link slots[PEAL_WHEEL_SLOTS];
    uint64_t tick; /* the last tick that was run */
};

void peal_wheel_init(struct peal_wheel *wheel, uint64_t now_ms);
void peal_timer_init(struct peal_timer *timer);
/* (Re)arms timer to fire at the first advance at or after at_ms. */
void peal_wheel_arm(struct peal_wheel *wheel, struct peal_timer *timer, uint64_t at_ms);
void peal_wheel_disarm(struct peal_timer *timer);
/* Moves to now_ms and calls fire for each timer that is due, disarmed. fire may arm, disarm
 * and free any timer. */
void peal_wheel_advance(struct peal_wheel *wheel, uint64_t now_ms,
                        void (*fire)(void *ctx, struct peal_timer *timer), void *ctx);

#endif

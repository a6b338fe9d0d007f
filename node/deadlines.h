/* node/deadlines.h: by when things must have happened on one connection.
 *
 * All deadlines of a connection share one timer of the wheel, which is armed for the first of
 * them. They are kept in ticks of the wheel, because every connection has eight.
 *
 * Shape:  precision is one tick (PEAL_WHEEL_TICK_MS), never early; far ones are capped at six
 *         years after the machine's start.
 * Thread: the worker. Memory: embedded in struct peal_conn. */
#ifndef PEAL_NODE_DEADLINES_H
#define PEAL_NODE_DEADLINES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/wheel.h"

enum peal_deadline {
    PEAL_DUE_HELLO,   /* a valid hello */
    PEAL_DUE_WELCOME, /* the answer to it, whatever is still pending */
    PEAL_DUE_PING,    /* the next ping of ours */
    PEAL_DUE_PONG,    /* the pong to it */
    PEAL_DUE_MESSAGE, /* the end of a message that was begun */
    PEAL_DUE_CLOSE,   /* the peer's side of a close */
    PEAL_DUE_EXPIRE,  /* a new token */
    PEAL_DUE_DRAIN,   /* leaving a node that stops */
    PEAL_DUE_COUNT
};

struct peal_deadlines {
    struct peal_timer timer;
    uint32_t ticks[PEAL_DUE_COUNT]; /* 0 = none */
};

void peal_deadlines_init(struct peal_deadlines *d);
/* Says that `what` is due `ms` after now_ms. */
void peal_deadline_set(struct peal_deadlines *d, struct peal_wheel *wheel, enum peal_deadline what,
                       uint64_t now_ms, uint64_t ms);
void peal_deadline_clear(struct peal_deadlines *d, struct peal_wheel *wheel,
                         enum peal_deadline what);
static inline bool peal_deadline_waits(const struct peal_deadlines *d, enum peal_deadline what)
{
    return d->ticks[what] != 0;
}
/* It is set and has come. */
bool peal_deadline_is_due(const struct peal_deadlines *d, enum peal_deadline what, uint64_t now_ms);
/* In how many ms it comes; 0 when it is due. It must be set. */
uint64_t peal_deadline_left(const struct peal_deadlines *d, enum peal_deadline what,
                            uint64_t now_ms);
/* After the timer fired and what was due was seen to: arms it for the next one. */
void peal_deadlines_rearm(struct peal_deadlines *d, struct peal_wheel *wheel);
void peal_deadlines_fini(struct peal_deadlines *d);

#endif

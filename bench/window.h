/* bench/window.h: which messages of one group one connection has seen.
 *
 * Publishers number the messages of a group without holes. The newest number and the 64 before it
 * are remembered, which tells a message that came twice from one that only came late. */
#ifndef PEAL_BENCH_WINDOW_H
#define PEAL_BENCH_WINDOW_H

#include <stdint.h>

enum peal_window_saw {
    PEAL_WINDOW_NEW,
    PEAL_WINDOW_LATE,  /* for the first time, but after a newer one */
    PEAL_WINDOW_REPEAT /* not for the first time, or too old to know */
};

/* A zeroed struct has seen nothing. */
struct peal_window {
    uint64_t before; /* bit i: newest - 1 - i was seen */
    uint32_t newest; /* 0: none */
};

static inline enum peal_window_saw peal_window_see(struct peal_window *window, uint32_t seq)
{
    if (seq > window->newest) {
        uint32_t step = seq - window->newest;
        /* A shift by 64 or more is not defined. */
        window->before = step > 64 ? 0 : window->before << (step - 1) << 1;
        if (window->newest != 0 && step <= 64) window->before |= 1ULL << (step - 1);
        window->newest = seq;
        return PEAL_WINDOW_NEW;
    }
    uint32_t age = window->newest - seq;
    if (age == 0 || age > 64) return PEAL_WINDOW_REPEAT;
    uint64_t bit = 1ULL << (age - 1);
    if (window->before & bit) return PEAL_WINDOW_REPEAT;
    window->before |= bit;
    return PEAL_WINDOW_LATE;
}

#endif

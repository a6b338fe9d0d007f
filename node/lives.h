/* node/lives.h: which life of a router a link believes.
 *
 * A router that starts again has a new boot id, and its former life is over. What comes of it
 * later is late, and is not believed for a while; nor for as long as the new one is heard. So two
 * routers that both live, and both say that they are this one (an address that leads to two
 * processes, a volume that was forced into a second pod), cannot make a link go to and fro: it
 * stays with the one heard first after the other. That there are two is noticed: the other one is
 * heard for longer than a relay or a buffer could have kept it, or it has answered a SYNC that was
 * said because the believed one had been heard.
 *
 * Shape:  the believed life and the last PEAL_LIVES_FORMER before it.
 * Thread: the bus. Memory: embedded; a zeroed struct has heard nobody.
 * Source: docs/ARCHITECTURE.md, "Links". */
#ifndef PEAL_NODE_LIVES_H
#define PEAL_NODE_LIVES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PEAL_LIVES_FORMER = 4,
    PEAL_LIVES_LATE_MS = 60000, /* so long a former life is not believed, heard or not */
    PEAL_LIVES_TWO_MS = 10000,  /* heard side by side for so long: both live */
};

struct peal_lives {
    uint64_t boot; /* believed; 0 = nobody was heard */
    struct {
        uint64_t boot;
        uint64_t until_ms; /* not believed */
    } former[PEAL_LIVES_FORMER];
    size_t former_next;
    uint64_t other;          /* the former life heard last */
    uint64_t other_ms;       /* when; 0 = never */
    uint64_t other_since_ms; /* without a pause */
};

enum peal_life { PEAL_LIFE_SAME, PEAL_LIFE_NEW, PEAL_LIFE_FORMER };

/* Something of the life `boot` was heard; of the believed one the last time at heard_ms. With
 * PEAL_LIFE_NEW it is the believed one from now on, with PEAL_LIFE_FORMER nothing is to be made of
 * what was heard. */
enum peal_life peal_lives_hear(struct peal_lives *lives, uint64_t boot, uint64_t heard_ms,
                               uint64_t now_ms);
/* `boot` has answered a SYNC that was said because the believed life had been heard. False when it
 * is another one: a former life that can still answer proves that both live, one that was not
 * heard yet may be the next. 0 is taken for the believed one: older routers do not say. */
bool peal_lives_answered(struct peal_lives *lives, uint64_t boot, uint64_t heard_ms,
                         uint64_t now_ms);
/* True while two are known to live. */
bool peal_lives_two(const struct peal_lives *lives, uint64_t now_ms);

#endif

/* bench/traffic.h: what is published: the warm-up, bursts in an open loop, windows in a closed one.
 *
 * The publisher is the parent process. In an open loop each burst has its absolute time, and one
 * that is late does not move those behind it. In a closed loop a message is under way until every
 * member of its group has it. */
#ifndef PEAL_BENCH_TRAFFIC_H
#define PEAL_BENCH_TRAFFIC_H

#include "bench/run.h"

struct peal_traffic {
    struct peal_run *run;
    uint32_t *members; /* of each group */
    uint32_t *seqs;    /* newest number in each group */
    uint32_t *ring;    /* closed loop: group of each message under way */
    uint64_t tail;     /* the oldest message under way */
    uint64_t random;
    char *payload;
};

bool peal_traffic_init(struct peal_traffic *traffic, struct peal_run *run);
void peal_traffic_fini(struct peal_traffic *traffic);
/* Publishes until every connection has got a message in each of its groups, then waits until all is
 * quiet. May be called again when there are more connections. */
bool peal_traffic_warm_up(struct peal_traffic *traffic);
/* Publishes what the plan says, measured, and waits until all of it has come or nothing comes any
 * more. */
bool peal_traffic_measure(struct peal_traffic *traffic);

#endif

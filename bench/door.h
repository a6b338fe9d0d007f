/* bench/door.h: the publisher's side: one way in to a server.
 *
 *   floor   TCP records of peal-floor; those of a burst leave in one write
 *   push    ZMQ_PUSH, fire and forget, msgpack or JSON; without a high water mark, because a
 *           publisher that is held up would not be an open loop any more
 *   rpc     ZMQ_DEALER, calls with one message each, up to DOOR_CALLS_MAX of them under way
 *   http    POST /v1/publish over keep-alive connections, one request under way on each; a group
 *           stays on one connection, which keeps its order
 *
 * Thread: one. Memory: embedded; `why` says what went wrong. */
#ifndef PEAL_BENCH_DOOR_H
#define PEAL_BENCH_DOOR_H

#include "base/buf.h"
#include "bench/plan.h"

struct peal_door {
    const struct peal_plan *plan;
    void *zmq;
    void *sockets[PEAL_PLAN_SERVERS_MAX]; /* one per endpoint */
    struct peal_httpdoor *http;
    int fd;
    struct peal_buf out; /* floor: the burst so far; else the body that is being written */
    uint32_t under_way;  /* rpc: calls without an answer */
    uint64_t calls;
    uint64_t refused; /* answers that say no */
    char why[160];    /* of the last failure, and of the last refusal */
};

/* Connects, and waits until that worked. */
enum peal_err peal_door_open(struct peal_door *door, const struct peal_plan *plan);
/* Drops what was not sent. A zeroed door is fine. */
void peal_door_close(struct peal_door *door);
/* Publishes a payload (with its quotes) to group k. Errors: PEAL_EIO. */
enum peal_err peal_door_publish(struct peal_door *door, uint32_t k, struct peal_span payload);
/* The burst is over: what was collected leaves. Errors: PEAL_EIO. */
enum peal_err peal_door_flush(struct peal_door *door);
/* Waits until every call is answered. Errors: PEAL_EIO, PEAL_ETIMEOUT. */
enum peal_err peal_door_settle(struct peal_door *door);

#endif

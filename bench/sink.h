/* bench/sink.h: where peal-keep puts messages, and what tells that they are kept.
 *
 *   door    the acknowledged door of a router, ZMQ_DEALER; a message is kept when its receipt
 *           says `stored`
 *   redis   one pipelined connection; RPUSH or XADD to the key of the user
 *   file    a floor: bytes at the end of a file, then fdatasync; in this process
 *   store   storage/store.h without anything around it; in this process, with acks beside
 *
 * A message under way is known by the slot that the caller gave it. Answers come in any order.
 *
 * Thread: one; on_answer is called from take. Memory: `self` is of the sink; `why` says what went
 * wrong once a function returned an error. */
#ifndef PEAL_BENCH_SINK_H
#define PEAL_BENCH_SINK_H

#include "base/err.h"
#include "bench/keep_plan.h"

struct peal_sink;

struct peal_sink_kind {
    const char *name;
    bool in_process; /* the server is in this process: all its threads but the publisher's */
    enum peal_err (*open)(struct peal_sink *sink);
    /* Errors: PEAL_EAGAIN, there is no room until something was taken. */
    enum peal_err (*put)(struct peal_sink *sink, uint32_t user, uint32_t slot,
                         struct peal_span payload);
    enum peal_err (*flush)(struct peal_sink *sink); /* what was put leaves */
    /* Takes all answers that are there, and waits for one when there are none. */
    enum peal_err (*take)(struct peal_sink *sink, int wait_ms);
    /* Counts what was kept and is not there; NULL: cannot. */
    enum peal_err (*check)(struct peal_sink *sink);
    void (*close)(struct peal_sink *sink); /* after a failed open, too */
};

struct peal_sink {
    const struct peal_sink_kind *kind;
    const struct peal_keep_plan *plan;
    void *self;
    void (*on_answer)(void *ctx, uint32_t slot, bool stored);
    void *ctx;
    bool measuring; /* what is put now counts, and is acked */

    uint64_t acks;       /* store: marks that changed something */
    uint64_t lost;       /* check: messages that were said to be kept and are not there */
    uint64_t miscounted; /* check: users whose unread is not what it should be */
    double reopen_s;     /* check: the store was closed and opened */
    char why[300];
};

extern const struct peal_sink_kind peal_sink_door;
extern const struct peal_sink_kind peal_sink_redis;
extern const struct peal_sink_kind peal_sink_file;
extern const struct peal_sink_kind peal_sink_store;

/* Writes the sentence and returns err. */
enum peal_err peal_sink_fail(struct peal_sink *sink, enum peal_err err, const char *what,
                             const char *why);
/* The name of a user's inbox, or key, `user:u<k>`; returns its size. */
uint32_t peal_sink_user(uint32_t user, char out[PEAL_KEEP_NAME_MAX]);
/* A blocking TCP connection to tcp://HOST:PORT; -1 and `why`. */
int peal_sink_connect(struct peal_sink *sink);

#endif

/* router/call.h: whom to answer when something is done.
 *
 * A node or a publisher asked for something that takes a while, because the store has to commit
 * it first. A publish of many messages is one call with one result each; the answer goes out when
 * the last one is there.
 *
 * Thread: the shard's. Memory: the shard, or the store's operation that carries it. */
#ifndef PEAL_ROUTER_CALL_H
#define PEAL_ROUTER_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "router/peer.h"

enum peal_call_kind { PEAL_CALL_PUBLISH, PEAL_CALL_JOIN, PEAL_CALL_SYNC, PEAL_CALL_MARK };

struct peal_call {
    enum peal_call_kind kind;
    struct peal_peer peer;
    bool door; /* a publisher that speaks maps, not a node */
    uint64_t req;
    uint64_t boot;  /* JOIN, SYNC, MARK: the node */
    uint64_t epoch; /* SYNC: where the node is */
    uint64_t offset;
    size_t count; /* PUBLISH: results */
    size_t remaining;
    struct peal_bytes *results[]; /* encoded RECEIPT frames; NULL: memory ran out */
};

/* peer may be NULL. NULL on ENOMEM. */
struct peal_call *peal_call_new(enum peal_call_kind kind, const struct peal_peer *peer,
                                uint64_t req, size_t count);
void peal_call_free(struct peal_call *call);
/* Appends the answer to a publish, in the words of whoever asked. Fails as out does. */
void peal_call_answer(const struct peal_call *call, struct peal_buf *out);

#endif

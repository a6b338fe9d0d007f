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
#include "proto/wire.h"
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
    struct peal_bytes *results[]; /* in the words of whoever asked; NULL: memory ran out */
};

/* peer may be NULL. NULL on ENOMEM. */
struct peal_call *peal_call_new(enum peal_call_kind kind, const struct peal_peer *peer,
                                uint64_t req, size_t count);
void peal_call_free(struct peal_call *call);
/* Keeps the result of one message, a RECEIPT frame, until all are there; scratch is written over.
 */
void peal_call_keep(struct peal_call *call, size_t index, const struct peal_frame *receipt,
                    struct peal_buf *scratch);
/* Appends the answer to a publish whose only result this is. Fails as out does. */
void peal_call_answer_one(const struct peal_call *call, const struct peal_frame *receipt,
                          struct peal_buf *out);
/* Appends the answer to a publish, of the results that were kept. Likewise. */
void peal_call_answer(const struct peal_call *call, struct peal_buf *out);

#endif

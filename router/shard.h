/* router/shard.h: one shard of the fan-out: which nodes want a group, and what comes next in it.
 *
 * A state machine without sockets, threads or clocks. It is fed with what arrived (frames of
 * nodes, calls of publishers, results of the store, time) and answers through struct
 * peal_shard_io. For every group somebody wants or published to lately it knows epoch, newest
 * offset, history and the nodes that have members.
 *
 * Groups that are not durable are numbered here. Durable ones are numbered by the store inside
 * its commit; the shard learns of them in commit order, which is why the store hands its
 * results back in order and why every join of a durable group goes through it.
 *
 * What waits for a node is joined into one BATCH with one link sequence, sent by
 * peal_shard_flush at the end of a turn: there is no delay when idle.
 *
 * Thread: the one that runs it (router/ingress.c). Memory: see each function.
 * Source: docs/ARCHITECTURE.md, "The journey of one message" and "Links". */
#ifndef PEAL_ROUTER_SHARD_H
#define PEAL_ROUTER_SHARD_H

#include <stdint.h>

#include "base/config.h"
#include "base/span.h"
#include "router/cluster.h"
#include "router/peer.h"
#include "storage/store.h"

struct peal_shard_io {
    void *ctx;
    /* Sends to one peer; it may be gone. */
    void (*reply)(void *ctx, const struct peal_peer *peer, struct peal_span bytes);
    /* Publishes to the topic of one node. */
    void (*topic)(void *ctx, uint64_t boot, struct peal_span bytes);
    /* Errors: PEAL_EQUEUE_FULL, and op stays with the shard. Results come by on_done, on_page. */
    enum peal_err (*submit)(void *ctx, struct peal_store_op *op);
    enum peal_err (*read)(void *ctx, struct peal_store_fetch *fetch);
};

struct peal_shard;

/* config must outlive the shard. NULL on ENOMEM. */
struct peal_shard *peal_shard_new(const struct peal_config *config, const struct peal_shard_io *io,
                                  uint64_t boot);
void peal_shard_free(struct peal_shard *shard);
/* From now on it is one of several, and serves only the slots that it holds (router/cluster.h).
 * Before the first input. Errors: those of peal_cluster_start. */
enum peal_err peal_shard_join_cluster(struct peal_shard *shard, const struct peal_cluster_io *io,
                                      size_t self, size_t router_count, struct peal_span kept,
                                      char *why, size_t why_size);

/* Time for what follows: monotonic and wall clock. */
void peal_shard_set_time(struct peal_shard *shard, uint64_t mono_ms, uint64_t wall_ms);
/* A node's subscription has arrived, so what is sent to its topic will reach it: it gets a beat,
 * on which it sends SYNC. */
void peal_shard_on_link(struct peal_shard *shard, uint64_t boot);
/* One message from the ROUTER socket. Frames of nodes are arrays, calls of publishers are maps. */
void peal_shard_on_rpc(struct peal_shard *shard, const struct peal_peer *peer,
                       struct peal_span bytes);
/* Messages from the PULL socket, at most PEAL_SHARD_PUSHES: several at once, so that the memory of
 * their groups is waited for once. */
enum { PEAL_SHARD_PUSHES = 16 };
void peal_shard_on_pushes(struct peal_shard *shard, const struct peal_span *bodies, size_t count);
/* One of them. */
void peal_shard_on_push(struct peal_shard *shard, struct peal_span bytes);
/* Results of the store; the shard takes them over. */
void peal_shard_on_done(struct peal_shard *shard, struct peal_store_op *op);
void peal_shard_on_page(struct peal_shard *shard, struct peal_store_fetch *fetch);
/* Beats, lost nodes, ages. At least every 250 ms, and again at once while the shard is busy: what
 * concerns many groups is done in pieces, between which messages pass. */
void peal_shard_on_tick(struct peal_shard *shard);
bool peal_shard_busy(const struct peal_shard *shard);
/* Sends every batch that waits. */
void peal_shard_flush(struct peal_shard *shard);
/* Messages for the store are taken within bounds (router/backlog.h); beyond them a publish is
 * answered with PEAL_ERATE_LIMITED and when to come back. From the PULL socket, where nobody could
 * be told, nothing should be read long before. */
/* Not 0 while the store has enough to do: nothing should be read from the PULL socket then, so that
 * its senders wait. */
size_t peal_shard_waiting(const struct peal_shard *shard);
/* The same for another reason: it is not known yet which slots are whose, or one is moving. */
bool peal_shard_unsettled(const struct peal_shard *shard);
/* It is known what is served from now on, but not written yet. */
bool peal_shard_begins(const struct peal_shard *shard);

#endif

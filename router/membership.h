/* router/membership.h: which groups a node wants: joins, leaves, and the syncs that make it true.
 *
 * A node is added at the group's newest position, and is told that position in order with the
 * group's messages. Of durable groups the store is asked for it first.
 *
 * Thread: the shard's. Source: docs/ARCHITECTURE.md, "Links". */
#ifndef PEAL_ROUTER_MEMBERSHIP_H
#define PEAL_ROUTER_MEMBERSHIP_H

#include "proto/wire.h"
#include "router/call.h"
#include "router/shard.h"
#include "router/table.h"

/* kind: PEAL_CALL_JOIN (answered by JOINED) or PEAL_CALL_SYNC (answered where `at` differs). */
void peal_membership_join(struct peal_shard *s, struct peal_node_entry *node,
                          enum peal_call_kind kind, const struct peal_peer *peer, uint64_t req,
                          const struct peal_position *at);
void peal_membership_on_leave(struct peal_shard *s, struct peal_node_entry *node,
                              struct peal_span name);
/* SYNC: a page of all the groups that a node holds; after the last one exactly those remain. */
void peal_membership_on_sync(struct peal_shard *s, struct peal_node_entry *node,
                             const struct peal_peer *peer, const struct peal_frame *frame);
/* CHECK: digests of slots; DIFFER names those that are not the same here. */
void peal_membership_on_check(struct peal_shard *s, const struct peal_node_entry *node,
                              const struct peal_peer *peer, const struct peal_frame *frame);
/* SYNC_SLOT: as SYNC, for one slot. */
void peal_membership_on_sync_slot(struct peal_shard *s, struct peal_node_entry *node,
                                  const struct peal_peer *peer, const struct peal_frame *frame);
/* The result of a PEAL_STORE_HEAD; the caller frees it. */
void peal_membership_on_head(struct peal_shard *s, struct peal_store_op *op);

#endif

/* router/requests.h: what a node asks of one group: pages of messages, marks, who is there.
 *
 * Each is answered once, refused with a code, or given back when the group is another router's.
 * peal_shard_on_page (router/shard.h) is here too.
 *
 * Thread: the shard's. */
#ifndef PEAL_ROUTER_REQUESTS_H
#define PEAL_ROUTER_REQUESTS_H

#include "proto/wire.h"
#include "router/shard.h"
#include "router/table.h"

void peal_requests_on_fetch(struct peal_shard *s, struct peal_node_entry *node,
                            const struct peal_peer *peer, const struct peal_frame *in);
void peal_requests_on_mark(struct peal_shard *s, struct peal_node_entry *node,
                           const struct peal_peer *peer, const struct peal_frame *in);
/* The result of a PEAL_STORE_MARK, which all nodes of the inbox hear of; the caller frees it. */
void peal_requests_on_marked(struct peal_shard *s, struct peal_store_op *op);
void peal_requests_on_present(struct peal_shard *s, struct peal_node_entry *node,
                              const struct peal_peer *peer, const struct peal_frame *in);
void peal_requests_on_who(struct peal_shard *s, struct peal_node_entry *node,
                          const struct peal_peer *peer, const struct peal_frame *in);

#endif

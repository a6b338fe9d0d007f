/* router/intake.h: publishing: from what came in at a door to a message with a number.
 *
 * A message is published here, handed to the store (durable groups), given back to the node that
 * sent it to the wrong router, or refused; whoever waits gets one result for each. Groups are
 * fetched into the cache for several messages at once.
 *
 * peal_shard_on_pushes and peal_shard_on_push (router/shard.h) are here too.
 *
 * Thread: the shard's. */
#ifndef PEAL_ROUTER_INTAKE_H
#define PEAL_ROUTER_INTAKE_H

#include "proto/wire.h"
#include "router/shard.h"

/* A call of a publisher at the acknowledged door: a map. */
void peal_intake_on_call(struct peal_shard *s, const struct peal_peer *peer,
                         struct peal_span bytes);
/* Answers such a call with an error. */
void peal_intake_refuse(struct peal_shard *s, const struct peal_peer *peer, uint64_t req,
                        enum peal_err err, const char *why);
/* PUBLISH of a node. */
void peal_intake_on_publish(struct peal_shard *s, const struct peal_peer *peer,
                            const struct peal_frame *frame);
/* The result of a PEAL_STORE_PUT; the caller frees it. */
void peal_intake_on_done(struct peal_shard *s, struct peal_store_op *op);

#endif

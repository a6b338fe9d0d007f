/* node/uplink.h: what the bus of a node knows: links to routers, and which workers want what.
 *
 * A state machine without sockets, threads or clock. A link proves itself: every batch carries
 * the router's boot id and a link sequence, and a beat comes every second. On a jump, a new
 * boot id or silence the link is not trusted until a SYNC, in which the node names every group
 * it holds there; the router answers the true position of those that differ.
 *
 * What is late counts for nothing: a batch at or before the last one, or of a life of the router
 * that has ended. With relays in between it may come.
 *
 * The uplink remembers the newest position of each group, so that a second worker of this
 * node can join without asking the router. Inboxes are always asked for: their counts live
 * there. Workers check for themselves that offsets follow on.
 *
 * What a turn has for one router leaves as one message: a BATCH of frames, or the only frame as it
 * is. When it cannot be sent, that holds for each of its frames: a request fails, a sync is tried
 * with the next beat, a join is asked again, a leave or beat is forgotten.
 *
 * Thread: the bus. Source: docs/ARCHITECTURE.md, "Links". */
#ifndef PEAL_NODE_UPLINK_H
#define PEAL_NODE_UPLINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/span.h"
#include "node/letter.h"
#include "node/mails.h"

struct peal_uplink_io {
    void *ctx;
    /* Sends a frame, or a BATCH of them, to a router. Errors: PEAL_EQUEUE_FULL. */
    enum peal_err (*send)(void *ctx, size_t link, struct peal_span frame);
    /* Hands a mail to a worker. Errors: PEAL_EFULL, and it stays here. */
    enum peal_err (*post)(void *ctx, uint8_t worker, struct peal_mail *mail);
};

struct peal_uplink;

/* NULL on ENOMEM. */
struct peal_uplink *peal_uplink_new(const struct peal_uplink_io *io, uint64_t boot,
                                    size_t router_count, uint8_t worker_count);
void peal_uplink_free(struct peal_uplink *up);
void peal_uplink_set_time(struct peal_uplink *up, uint64_t now_ms);
/* A worker's wish; the uplink takes it over. */
void peal_uplink_on_order(struct peal_uplink *up, struct peal_order *order);
/* A BATCH or RELINKED from the XSUB socket of link, and an answer from its DEALER. */
void peal_uplink_on_batch(struct peal_uplink *up, size_t link, struct peal_span bytes);
void peal_uplink_on_answer(struct peal_uplink *up, size_t link, struct peal_span bytes);
/* Beats, silence, joins that were not answered. At least every 250 ms. */
void peal_uplink_on_tick(struct peal_uplink *up);
/* True when the link has been silent for ms, so that another way to the router, or the same anew,
 * is to be tried; and then not again before that one has had as long. Asked after every tick. */
bool peal_uplink_silent(struct peal_uplink *up, size_t link, uint64_t ms);
/* The same of the way there: the router is heard, and has answered neither a SYNC nor anything else
 * for ms. */
bool peal_uplink_unanswered(struct peal_uplink *up, size_t link, uint64_t ms);
/* Sends what waits for the routers and delivers the open mails. At the end of every turn. */
void peal_uplink_flush(struct peal_uplink *up);
/* Groups held here, on all links. */
size_t peal_uplink_groups(const struct peal_uplink *up);
/* True while every link is trusted, and no router is known to live twice. */
bool peal_uplink_ready(const struct peal_uplink *up);

#endif

/* node/acks.h: the acks of one inbox on their way to its router.
 *
 * Acks of the devices here are joined for PEAL_ACK_JOIN_MS and then said to the router, again and
 * again until it confirms: an ack is not forgotten while a router is away. A group that nobody is
 * a member of any more stays for it, but not for ever.
 *
 * Thread: the worker. Memory: made for the first ack of a group, freed when the router has all. */
#ifndef PEAL_NODE_ACKS_H
#define PEAL_NODE_ACKS_H

#include "node/hub.h"

struct peal_group;

struct peal_acks {
    struct peal_group *group;
    uint64_t upto;   /* to be told */
    uint64_t sent;   /* the one under way */
    uint64_t due_ms; /* then it is sent */
    uint32_t tries;  /* without a member */
    struct peal_request request;
    struct peal_link waiting; /* in hub->acks or hub->ack_retries */
};

/* A device has everything up to upto. Without memory the ack is dropped, which is as if it had
 * never arrived: the client is given the message again. */
void peal_group_ack(struct peal_group *group, uint64_t upto);
/* Says what is due. */
void peal_acks_on_tick(struct peal_hub *hub);
/* Forgets what the group has to say. */
void peal_acks_drop(struct peal_group *group);

#endif

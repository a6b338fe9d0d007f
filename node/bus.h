/* node/bus.h: the thread of a node that talks to routers; the node's only ZeroMQ.
 *
 * Per router one XSUB (topics: this node's boot id and `all`) and one DEALER whose routing id
 * is the same topic. Where there are relays (cluster.via) the XSUB is connected to one of them,
 * and to the next one when the router is not heard by it any more. Orders come in through a
 * mailbox, letters go out to the workers' mailboxes; what they mean is known by node/uplink.c.
 *
 * Thread: start and stop in main, order from any worker, the rest in the thread it starts. */
#ifndef PEAL_NODE_BUS_H
#define PEAL_NODE_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bus_security.h"
#include "base/config.h"
#include "base/err.h"
#include "base/mailbox.h"
#include "node/letter.h"

struct peal_bus;

struct peal_bus_options {
    const struct peal_config *config;
    const struct peal_bus_security *security;
    void *zmq;              /* the process's context */
    uint64_t boot;          /* of this node */
    const char *inproc_rpc; /* the router in this process, or NULL: config->cluster.routers */
    const char *inproc_xpub;
    struct peal_mailbox **workers; /* where letters go; an item is a struct peal_mail */
    uint8_t worker_count;
    _Atomic bool *ready; /* set while every router is linked */
};

/* The ZeroMQ context of the process, shared by its node and its router; NULL on failure. */
void *peal_bus_context_new(void);
/* Waits until what is to be sent is sent or has lingered. */
void peal_bus_context_free(void *zmq);

/* Errors: PEAL_ENOMEM, PEAL_ECONFIG (an endpoint that ZeroMQ refuses), with a sentence in why. */
enum peal_err peal_bus_start(const struct peal_bus_options *options, struct peal_bus **out,
                             char *why, size_t why_size);
void peal_bus_stop(struct peal_bus *bus);
/* The worker owes a peal_bus_wake before it waits. Errors: PEAL_EFULL, and order stays with the
 * caller; the bus has been woken then. */
enum peal_err peal_bus_order(struct peal_bus *bus, struct peal_order *order);
void peal_bus_wake(struct peal_bus *bus);

#endif

/* node/node.h: a whole node: its bus, its workers, its listeners.
 *
 * Thread: main. */
#ifndef PEAL_NODE_NODE_H
#define PEAL_NODE_NODE_H

#include "base/config.h"
#include "base/err.h"
#include "base/span.h"
#include "node/bus.h"

struct peal_node;

struct peal_node_options {
    const struct peal_config *config;
    const struct peal_bus_security *security; /* outlives the start */
    void *zmq;
    const char *inproc_rpc; /* the router in this process, or NULL */
    const char *inproc_xpub;
    struct peal_span demo_page;    /* absent: no page at / */
    struct peal_span token_secret; /* HS256 secret for /dev/token and the key that is accepted
                                      besides the configured ones; absent outside dev mode */
};

/* Opens the listeners and starts all threads. Errors: PEAL_EINUSE, PEAL_EIO, PEAL_ECONFIG,
 * PEAL_ENOMEM, with a sentence in why. */
enum peal_err peal_node_start(const struct peal_node_options *options, struct peal_node **out,
                              char *why, size_t why_size);
/* Is not ready from now on, and lets the clients go in the time that the configuration gives them
 * (node/drain.h). Returns at once. */
void peal_node_drain(struct peal_node *node);
/* The clients are gone. */
bool peal_node_drained(const struct peal_node *node);
/* Sends away who is still here, at once, and ends all threads. */
void peal_node_stop(struct peal_node *node);
uint16_t peal_node_port(const struct peal_node *node);
uint16_t peal_node_api_port(const struct peal_node *node);
/* Every router is linked. */
bool peal_node_ready(const struct peal_node *node);

#endif

/* router/ingress.h: the thread and the sockets of a router; everything ZeroMQ in this folder.
 *
 *   PULL    backends, fire and forget
 *   ROUTER  nodes (joins, fetches, marks, publishes) and publishers that want an answer
 *   XPUB    one topic per node
 *
 * It reads sockets and the store's results, feeds the shard, and sends what the shard says.
 * While operations wait for the store it does not read PULL, so senders there wait.
 *
 * Thread: start and stop in main; everything else happens in the thread it starts. */
#ifndef PEAL_ROUTER_INGRESS_H
#define PEAL_ROUTER_INGRESS_H

#include "base/bus_security.h"
#include "base/config.h"
#include "base/err.h"

struct peal_ingress;

/* What is bound besides the configured doors, for a node in the same process. */
struct peal_ingress_inproc {
    const char *rpc;  /* inproc:// endpoint or NULL */
    const char *xpub; /* likewise */
};

/* Opens the store in config->data, binds the doors (port `*` or 0 lets the kernel choose) and
 * starts the thread. zmq is the process's context, security outlives the ingress. Errors:
 * PEAL_EINUSE, PEAL_ELOCKED, PEAL_ECORRUPT, PEAL_EIO, PEAL_ENOMEM, with a sentence in why that
 * names the endpoint or folder.
 */
enum peal_err peal_ingress_start(const struct peal_config *config,
                                 const struct peal_bus_security *security, void *zmq,
                                 const struct peal_ingress_inproc *inproc,
                                 struct peal_ingress **out, char *why, size_t why_size);
/* Takes what has arrived already (for a quarter of a second at most), reads no more, finishes
 * what the store has taken, answers it, and frees everything. What is still in the sockets' buffers
 * is dropped: it was not acknowledged. */
void peal_ingress_stop(struct peal_ingress *in);
/* True for the milliseconds after the start in which what this router serves is written down;
 * until then it refuses publishes (`again`). A router that has to hear of others first does not
 * begin: that may take long. Any thread. */
bool peal_ingress_begins(const struct peal_ingress *in);
/* The endpoints as bound, with real port numbers. */
const char *peal_ingress_pull(const struct peal_ingress *in);
const char *peal_ingress_rpc(const struct peal_ingress *in);
const char *peal_ingress_xpub(const struct peal_ingress *in);

enum { PEAL_INGRESS_XPUB_BYTES_MAX = 256 }; /* only subscriptions to short topics come in there */

/* For router/relay.c: binding with a sentence for people when that fails (PEAL_EINUSE, PEAL_EIO).
 * `bound` gets the endpoint with the port that the kernel chose, or is NULL. */
enum peal_err peal_ingress_bind(void *socket, const char *key, const char *endpoint, char *bound,
                                size_t bound_size, char *why, size_t why_size);

#endif

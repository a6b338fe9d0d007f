/* router/relay.h: the thread and the sockets of a relay, which stands between routers and nodes.
 *
 *   XSUB  one per router, connected to its XPUB
 *   XPUB  one per router, bound: what comes from that router and nothing else
 *
 * With it a router has one connection for many nodes. It owns no groups, keeps nothing, and reads
 * nothing of what it hands on: whether anything was lost is found by the nodes, from the link
 * sequence, as without a relay. Joins and answers do not pass here.
 *
 * A pair per router, because the nodes have to know which router said what, and because a full
 * queue behind one router must not lose what another one said (decisions/0011).
 *
 * Thread: start and stop in main; everything else happens in the thread it starts.
 * Source: docs/ARCHITECTURE.md, "Relay". */
#ifndef PEAL_ROUTER_RELAY_H
#define PEAL_ROUTER_RELAY_H

#include <stddef.h>

#include "base/bus_security.h"
#include "base/config.h"
#include "base/err.h"
#include "base/status.h"

struct peal_relay;

/* Binds, connects and forwards from now on. status is set ready while every router is connected;
 * it, security and zmq (the process's ZeroMQ context) must outlive the relay. Errors: PEAL_ECONFIG
 * (doors and routers do not fit together), PEAL_EINUSE, PEAL_EIO, PEAL_ENOMEM, with a sentence for
 * people in why. */
enum peal_err peal_relay_start(const struct peal_config *config,
                               const struct peal_bus_security *security, void *zmq,
                               struct peal_status *status, struct peal_relay **out, char *why,
                               size_t why_size);
void peal_relay_stop(struct peal_relay *relay); /* NULL is fine */

/* One per router. */
size_t peal_relay_doors(const struct peal_relay *relay);
/* Where the door for router i listens. */
const char *peal_relay_door(const struct peal_relay *relay, size_t i);

#endif

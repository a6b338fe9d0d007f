/* base/bus_security.h: what protects the bus of one process: its keys, and who may connect to it.
 *
 * The ZeroMQ endpoints of a process are open to whoever reaches them, unless they have CURVE. So
 * a process does not start when one of its endpoints is neither inproc, ipc nor on loopback and it
 * has no keys (bus.key_file), except with bus.insecure: true. Whether an address is loopback is
 * judged by its text alone: what a name resolves to may change after it was judged.
 *
 * Thread: main; read-only once threads run.
 * Memory: the caller ends it with peal_bus_security_fini, after the sockets. */
#ifndef PEAL_BASE_BUS_SECURITY_H
#define PEAL_BASE_BUS_SECURITY_H

#include "base/config.h"
#include "base/curve.h"
#include "base/peers.h"

/* What a process is, which says which endpoints of the configuration it uses. A router binds
 * `doors`, without xpub when a node is in the same process, which then connects to nothing; one of
 * several connects to rpc and pull of cluster.routers. A relay
 * binds doors.relay and connects to xpub of cluster.routers. A node connects to rpc of those, and
 * to their xpub or that of cluster.via. */
struct peal_bus_use {
    bool router;
    bool relay;
    bool node;
};

struct peal_bus_security {
    bool curve;                 /* every socket of the bus has CURVE */
    struct peal_curve_pair own; /* with curve */
    struct peal_peers peers;    /* with curve, for who binds */
};

/* Does the endpoint, a valid one, stay on this machine? */
bool peal_bus_endpoint_is_local(const char *endpoint);

/* Judges the endpoints and reads the files. Errors: PEAL_ECONFIG, PEAL_EIO, PEAL_ENOMEM, with a
 * sentence in why that begins with the setting; *out then needs no fini. */
enum peal_err peal_bus_security_load(const struct peal_config *config,
                                     const struct peal_bus_use *use, struct peal_bus_security *out,
                                     char *why, size_t why_size);
/* Wipes the secret key and frees the list. A zeroed struct is fine. */
void peal_bus_security_fini(struct peal_bus_security *security);

#endif

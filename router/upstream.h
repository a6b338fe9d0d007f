/* router/upstream.h: what a relay knows of one router it is connected to.
 *
 * A state machine without sockets, threads or clock: which topics the relay's nodes want from this
 * router, whether it is connected, and when the nodes are to be told that the connection is a new
 * one. Only topics of nodes and `all` are wanted; what else comes from the side of the nodes goes
 * no further.
 *
 * Shape:  at most PEAL_UPSTREAM_TOPICS topics.
 * Thread: the relay's. Memory: owns its set of topics. */
#ifndef PEAL_ROUTER_UPSTREAM_H
#define PEAL_ROUTER_UPSTREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/map.h"
#include "base/span.h"

enum {
    PEAL_UPSTREAM_TOPICS = 65536, /* a node takes two, the second shared by all: 6 MiB at most */
    PEAL_UPSTREAM_TELL_MS = 1000, /* between two announcements, however often it reconnects */
    /* Without the router: what ZeroMQ may need to end a connection and to fail at another one. */
    PEAL_UPSTREAM_RETRY_MS = 11000,
};

struct peal_upstream {
    struct peal_map topics;
    bool linked;
    bool due;       /* a reconnect is to be announced */
    uint64_t links; /* connections so far */
    bool told;      /* something was announced, at told_ms */
    uint64_t told_ms;
    bool away; /* not linked since away_ms, or since the last retry */
    uint64_t away_ms;
};

/* Errors: PEAL_ENOMEM, and it then needs no fini. */
enum peal_err peal_upstream_init(struct peal_upstream *u);
void peal_upstream_fini(struct peal_upstream *u); /* a zeroed one is fine */
/* What an XPUB socket hands over: 1 or 0 and a topic. True when the router is to be told, with the
 * same bytes. Counts what is refused. */
bool peal_upstream_on_subscription(struct peal_upstream *u, struct peal_span event);
/* The connection is there, or is gone. Each report of one that is there is a new one. */
void peal_upstream_on_link(struct peal_upstream *u, bool linked);
/* True when RELINKED is to be sent now, with u->links as its seq; asked in every turn. */
bool peal_upstream_tell(struct peal_upstream *u, uint64_t now_ms);
/* True when the router has been away for so long that the relay is to connect anew, and then not
 * again before that has had as long; asked in every turn. */
bool peal_upstream_retry(struct peal_upstream *u, uint64_t now_ms);

#endif

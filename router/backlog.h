/* router/backlog.h: the messages that wait for the store: how many there may be, of all publishers
 * and of one, and when to come back.
 *
 * A publish to a durable group is here from being taken until the store is done with it. The
 * bounds keep memory flat whatever publishers do; the bound of one publisher at the acknowledged
 * door, well below the others, leaves room for everybody else.
 *
 * How fast the store is, is measured while it is busy: how many messages it was done with in the
 * last half second or so. From this follows when a publisher who was refused should come back:
 * when half of what waits now is done, so that the store does not run dry before.
 *
 * Shape:  a sum and a map of those publishers who have something here.
 * Thread: the shard. Memory: an entry per publisher, gone with its last message.
 * Source: docs/PROTOCOL.md, "Under pressure". */
#ifndef PEAL_ROUTER_BACKLOG_H
#define PEAL_ROUTER_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/map.h"
#include "router/peer.h"

enum {
    PEAL_BACKLOG_BYTES_MAX = 256 << 20,     /* encoded messages, of all */
    PEAL_BACKLOG_PEER_MAX = 8192,           /* messages of one publisher at the door */
    PEAL_BACKLOG_PEER_BYTES_MAX = 64 << 20, /* bytes of them */
    PEAL_BACKLOG_AFTER_MIN_MS = 50,         /* nobody is told less: asking costs, too */
    PEAL_BACKLOG_AFTER_MAX_MS = 30000,      /* or more */
    PEAL_BACKLOG_AFTER_MS = 1000,           /* while the store has not finished anything yet */
};

struct peal_backlog_peer;

struct peal_backlog {
    struct peal_map peers;
    struct peal_backlog_peer *last; /* the one that was asked for last, or NULL */
    size_t count;
    size_t bytes;
    uint64_t since_ms; /* when the measurement began; 0: the store has nothing to do */
    uint64_t done;     /* messages since then */
    uint64_t per_s;    /* messages per second, as measured last; 0: never */
};

/* Errors: PEAL_ENOMEM; backlog then needs no fini. */
enum peal_err peal_backlog_init(struct peal_backlog *backlog);
/* What is still waiting is forgotten. */
void peal_backlog_fini(struct peal_backlog *backlog);
/* Is there room for another message, at all and of this publisher? */
bool peal_backlog_full(const struct peal_backlog *backlog);
bool peal_backlog_peer_full(struct peal_backlog *backlog, const struct peal_peer *peer);
/* More than half of the bytes that may wait do. */
bool peal_backlog_half_full(const struct peal_backlog *backlog);
/* A message waits from now on. peer is a publisher that is bounded on its own, or NULL.
 * Errors: PEAL_ENOMEM, and nothing has changed. */
enum peal_err peal_backlog_add(struct peal_backlog *backlog, const struct peal_peer *peer,
                               size_t bytes, uint64_t now_ms);
/* The store is done with it, well or not; peer and bytes as when it was added. */
void peal_backlog_remove(struct peal_backlog *backlog, const struct peal_peer *peer, size_t bytes,
                         uint64_t now_ms);
/* When who was refused now should come back. */
uint64_t peal_backlog_after_ms(const struct peal_backlog *backlog);

#endif

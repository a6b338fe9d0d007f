/* router/cluster.h: this router among the others of the list: the slots it holds, written down and
 * told around, and what is handed to another one.
 *
 * Every second, and whenever the table has changed, each router tells every other one its whole
 * table (a SLOTS frame, some hundred bytes). Nothing is asked and nothing confirmed: what gets lost
 * is said again. So routers learn from each other who took what, and see it when two claim the
 * same.
 *
 * Without peal_cluster_start the router is alone and holds everything.
 *
 * Thread: the shard's. Source: docs/ARCHITECTURE.md, "Slots". */
#ifndef PEAL_ROUTER_CLUSTER_H
#define PEAL_ROUTER_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/config.h"
#include "proto/wire.h"
#include "router/holdings.h"
#include "storage/store.h"

/* ZeroMQ routing ids at the ROUTER socket: `r` and the boot id of another router, or `o` and a
 * random number of an operator, written as the topic of a node. */
enum { PEAL_ROUTER_ID_SIZE = PEAL_TOPIC_SIZE };
void peal_router_id_of(uint64_t boot, char out[PEAL_ROUTER_ID_SIZE]);
bool peal_router_id_is(struct peal_span id);
void peal_operator_id_of(uint64_t number, char out[PEAL_ROUTER_ID_SIZE]);
bool peal_operator_id_is(struct peal_span id);

struct peal_cluster_io {
    void *ctx;
    /* Sends to the ROUTER and to the PULL socket of another router. Errors: PEAL_EQUEUE_FULL. */
    enum peal_err (*tell)(void *ctx, size_t router, struct peal_span bytes);
    enum peal_err (*forward)(void *ctx, size_t router, struct peal_span bytes);
};

struct peal_cluster {
    const struct peal_config *config;
    struct peal_cluster_io io;
    uint64_t boot;
    bool started;
    bool writing; /* a record is on its way to the disk */
    struct peal_holdings holdings;
    struct peal_buf scratch;
};

void peal_cluster_init(struct peal_cluster *cluster, const struct peal_config *config,
                       uint64_t boot);
void peal_cluster_fini(struct peal_cluster *cluster);
/* This router is number self of router_count. kept: peal_store_slots. Errors: PEAL_ECORRUPT,
 * PEAL_ECONFIG, PEAL_ENOMEM, with a sentence in why. */
enum peal_err peal_cluster_start(struct peal_cluster *cluster, const struct peal_cluster_io *io,
                                 size_t self, size_t router_count, struct peal_span kept, char *why,
                                 size_t why_size);

/* It is known, and on the disk, which slots are this router's. */
static inline bool peal_cluster_knows(const struct peal_cluster *cluster)
{
    return cluster->holdings.seeded && !peal_holdings_dirty(&cluster->holdings);
}
/* The holding that a group falls under. */
static inline bool peal_cluster_owns_all(const struct peal_cluster *cluster)
{
    return cluster->holdings.mine == PEAL_SLOTS;
}
enum peal_holding peal_cluster_holding(const struct peal_cluster *cluster, struct peal_span group,
                                       uint16_t *slot);
/* A frame from another router; lost[slot] is set for what was mine and no longer is. True when
 * there is one of these. */
bool peal_cluster_on_frame(struct peal_cluster *cluster, const struct peal_frame *frame,
                           bool lost[PEAL_SLOTS]);
/* The operation that has to go to the store now, or NULL; *out of memory* is tried again by the
 * next call. */
struct peal_store_op *peal_cluster_write(struct peal_cluster *cluster);
/* Its result; the caller frees it. True when the table may be told now. */
bool peal_cluster_on_written(struct peal_cluster *cluster, const struct peal_store_op *op);
/* Tells all other routers the table. */
void peal_cluster_tell(struct peal_cluster *cluster);
/* Is there anything that a node should be told? */
bool peal_cluster_speaks(const struct peal_cluster *cluster);
/* Appends the table as a SLOTS frame. Fails as out does. */
void peal_cluster_table(const struct peal_cluster *cluster, struct peal_buf *out);
/* The claim of a slot as a MOVED frame, without `req` and `envelope`. */
struct peal_frame peal_cluster_moved(const struct peal_cluster *cluster, uint16_t slot);
/* The rpc door of the slot's owner; "" when the configuration does not know it. */
const char *peal_cluster_owner_rpc(const struct peal_cluster *cluster, uint16_t slot);
/* Hands a publish to the slot's owner. Errors: PEAL_EQUEUE_FULL, PEAL_ENO_ROUTER (not in the
 * list), PEAL_ENOMEM. */
enum peal_err peal_cluster_forward(struct peal_cluster *cluster, uint16_t slot,
                                   const struct peal_envelope *env);

#endif

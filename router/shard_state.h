/* router/shard_state.h: the state of a shard, for the files that it is made of.
 *
 * Nobody else includes this: shard.c, intake.c, membership.c, requests.c and cargo.c work on one
 * state, each on its part of what the shard does.
 *
 * What needs the store is an operation whose ctx is a struct peal_call: it says whom to answer
 * when the operation is done. Operations that the store has no room for wait in a bounded list, in
 * order. Who wants what, and what waits for whom, is in router/table.c.
 *
 * Thread: the shard's. */
#ifndef PEAL_ROUTER_SHARD_STATE_H
#define PEAL_ROUTER_SHARD_STATE_H

#include "base/clock.h"
#include "base/list.h"
#include "router/backlog.h"
#include "router/call.h"
#include "router/dedup.h"
#include "router/mover.h"
#include "router/presence.h"
#include "router/shard.h"
#include "router/table.h"

enum {
    PEAL_SHARD_WAITING_MAX = 65536, /* operations that wait for the store */
    PEAL_SHARD_AHEAD = 16,          /* publishes whose groups are fetched into the cache at once */
};

/* A publish whose group is being fetched. */
struct peal_job {
    struct peal_envelope *env; /* its spans live until the job is done */
    struct peal_call *call;
    size_t index;
    uint32_t hash;                  /* of the group's name */
    struct peal_group_entry *group; /* NULL when there was none yet */
    bool forwarded;                 /* by another router */
};

struct peal_shard {
    const struct peal_config *config;
    struct peal_shard_io io;
    uint64_t now_ms;
    uint64_t wall_ms;
    uint64_t second_due_ms;
    struct peal_table table;
    struct peal_cluster cluster;
    struct peal_mover mover;
    struct peal_dedup dedup;
    struct peal_link waiting; /* of struct peal_store_op */
    size_t waiting_count;
    struct peal_presence *presence;
    struct peal_backlog backlog; /* messages handed to the store and not done */
    struct peal_ulids ulids;
    bool sweeping; /* there is more for peal_table_sweep */
    struct peal_job jobs[PEAL_SHARD_AHEAD];
    size_t job_count;
    struct peal_buf scratch; /* encodings that are sent at once */
};

/* Answers a peer at the ROUTER socket. Without memory nothing is said, which is counted: the
 * request times out. */
void peal_shard_reply(struct peal_shard *s, const struct peal_peer *peer,
                      const struct peal_frame *frame);
void peal_shard_node_peer(uint64_t boot, struct peal_peer *out);
/* Hands an operation to the store, now or when it has room. */
void peal_shard_submit(struct peal_shard *s, struct peal_store_op *op);
/* Tells a node whose slot it asked for, and gives it back what it asked, so that its bus sends it
 * there. */
void peal_shard_send_back(struct peal_shard *s, const struct peal_peer *peer,
                          const struct peal_frame *frame, uint16_t slot);
/* Sends the table of slots; the second one only where there is anything to say. */
void peal_shard_tell_table(struct peal_shard *s, const struct peal_peer *peer);
void peal_shard_send_table(struct peal_shard *s, const struct peal_peer *peer);

#endif

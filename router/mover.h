/* router/mover.h: giving a slot to another router, and taking one.
 *
 * The giver: freezes the slot, so that nothing new is taken; copies what its store keeps and then
 * what is in memory only, piece by piece, each confirmed when it is durable; writes that the slot
 * is the other's, at the next generation. That is its last word: what is written is told around
 * (router/cluster.h), and the taker serves the slot when it has heard and written it. Then the
 * giver forgets the slot's groups.
 *
 * The taker keeps what comes and serves nothing of it. A copy that was begun anew replaces what
 * came before.
 *
 * Whatever breaks before the last word leaves the slot with the giver, thawed, and the move is
 * begun again by whoever asked for it; whatever breaks after it is made good by the tables. In no
 * moment have two routers the slot.
 *
 * Shape:  one slot is given and one taken at a time; one piece is under way.
 * Thread: the shard's. Memory: the pieces of what is in memory only, until they are sent. */
#ifndef PEAL_ROUTER_MOVER_H
#define PEAL_ROUTER_MOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "router/cluster.h"
#include "router/peer.h"

enum {
    PEAL_MOVER_AGAIN_MS = 1000, /* a piece that was not confirmed is sent again */
    PEAL_MOVER_ABORT_MS = 4000, /* without progress the move ends */
};

/* Encoded BATCH frames: AT and MESSAGE of groups in memory, in this order for each. */
struct peal_pieces {
    struct peal_bytes **at;
    size_t count;
};
/* Takes bytes over. Errors: PEAL_ENOMEM, and bytes are let go. */
enum peal_err peal_pieces_add(struct peal_pieces *pieces, struct peal_bytes *bytes);

struct peal_mover_io {
    void *ctx;
    /* The result comes by peal_mover_on_done. */
    void (*submit)(void *ctx, struct peal_store_op *op);
    void (*answer)(void *ctx, const struct peal_peer *peer, const struct peal_frame *frame);
    /* All groups of the slot that are in memory only. Errors: PEAL_ENOMEM. */
    enum peal_err (*collect)(void *ctx, uint16_t slot, struct peal_pieces *out);
    /* A piece of them. Errors: PEAL_EBAD_MESSAGE, PEAL_ENOMEM. */
    enum peal_err (*adopt)(void *ctx, uint16_t slot, struct peal_span piece);
    /* Forgets all groups of the slot that are in memory. */
    void (*forget)(void *ctx, uint16_t slot);
    /* The table has changed: it is to be written. */
    void (*changed)(void *ctx);
};

struct peal_mover {
    struct peal_mover_io io;
    struct peal_cluster *cluster;
    uint64_t now_ms;
    uint64_t moves; /* so far: part of their numbers */
    struct {
        enum { PEAL_GIVE_IDLE, PEAL_GIVE_READING, PEAL_GIVE_COPYING, PEAL_GIVE_WRITING } state;
        uint16_t slot;
        uint16_t to;
        uint64_t seq;
        uint64_t piece; /* number of the one that is under way */
        bool store_done;
        bool collected;
        struct peal_bytes *records; /* of the store, sent last: says where the next ones begin */
        struct peal_pieces live;
        size_t live_next;
        struct peal_bytes *sent; /* the COPY under way */
        uint64_t sent_ms;
        uint64_t progress_ms;
        struct peal_peer peer; /* who asked */
        uint64_t req;
    } give;
    struct {
        bool begun;
        bool busy; /* a piece is at the store */
        uint16_t slot;
        uint16_t from;
        uint64_t seq;
        uint64_t next; /* number of the piece that is expected */
    } take;
};

void peal_mover_init(struct peal_mover *mover, const struct peal_mover_io *io,
                     struct peal_cluster *cluster);
void peal_mover_fini(struct peal_mover *mover);
/* A slot is frozen: nothing should be read from the PULL socket meanwhile. */
static inline bool peal_mover_busy(const struct peal_mover *mover)
{
    return mover->give.state != PEAL_GIVE_IDLE;
}
/* MOVE of an operator; answered by GIVEN. */
void peal_mover_on_move(struct peal_mover *mover, const struct peal_peer *peer,
                        const struct peal_frame *frame);
/* COPY and COPIED of another router. */
void peal_mover_on_frame(struct peal_mover *mover, const struct peal_frame *frame);
/* The result of an EXPORT, IMPORT or DROP; the caller frees it. */
void peal_mover_on_done(struct peal_mover *mover, struct peal_store_op *op);
/* The table has been written. */
void peal_mover_on_written(struct peal_mover *mover);
/* At least every 250 ms. */
void peal_mover_on_tick(struct peal_mover *mover, uint64_t now_ms);

#endif

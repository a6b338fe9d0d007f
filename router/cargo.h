/* router/cargo.h: what is in memory only and moves with a slot: positions and histories.
 *
 * Both are functions of struct peal_mover_io (router/mover.h); ctx is the shard.
 *
 * Thread: the shard's. */
#ifndef PEAL_ROUTER_CARGO_H
#define PEAL_ROUTER_CARGO_H

#include "router/mover.h"

/* All groups of the slot that are not durable, as pieces. Errors: PEAL_ENOMEM. */
enum peal_err peal_cargo_collect(void *ctx, uint16_t slot, struct peal_pieces *out);
/* Takes a piece over: a group goes on where it was. Errors: PEAL_EBAD_MESSAGE, PEAL_ENOMEM. */
enum peal_err peal_cargo_adopt(void *ctx, uint16_t slot, struct peal_span piece);

#endif

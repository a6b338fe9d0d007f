/* storage/moving.h: the durable groups of one slot on their way from one store to another.
 *
 * Export reads heads, messages and their remembered ids in pieces, each an encoded RECORDS frame:
 * entries come in threes, `h`, `m` or `i`, a key and a record as they are in the trees, with their
 * checksums. A piece that continues a group begins with its head again, so that each can be applied
 * by itself. Import checks every record and writes it with the group's number here. A damaged
 * record stays behind; the hole is told as any damage is.
 *
 * While a slot is exported retention leaves it alone, for some seconds after each piece.
 *
 * Known gap: an id is moved with its message. One whose message is gone already is not, and a retry
 * with it within dedup.age would be stored again.
 *
 * Thread: the store thread, inside of a batch. */
#ifndef PEAL_STORAGE_MOVING_H
#define PEAL_STORAGE_MOVING_H

#include "storage/batch.h"
#include "storage/store.h"

/* A returned error dooms the transaction; op->err is the answer otherwise (see storage/store.h). */
enum peal_err peal_moving_export(struct peal_batch *batch, struct peal_store_op *op);
enum peal_err peal_moving_import(struct peal_batch *batch, struct peal_store_op *op);
/* Removes all groups of the slot with what they keep. */
enum peal_err peal_moving_drop(struct peal_batch *batch, uint16_t slot);

#endif

/* storage/moving.h: the durable groups of one slot on their way from one store to another.
 *
 * Export reads heads and messages of the inbox in pieces, each an encoded RECORDS frame: entries
 * come in threes, `h` or `m`, a key and a record as they are in the trees, with their checksums. A
 * piece that continues a group begins with its head again, so that each can be applied by itself.
 * A damaged record stays behind; the hole is told as any damage is. All of the log has to be in the
 * inbox before, and while a slot is exported retention leaves it alone.
 *
 * Import hands out what the records become in the log here. The ids of dedup need no entries of
 * their own: they are in the envelopes.
 *
 * Known gap: an id is moved with its message. One whose message is gone already is not, and a retry
 * with it within dedup.age would be stored again.
 *
 * Thread: the store thread. */
#ifndef PEAL_STORAGE_MOVING_H
#define PEAL_STORAGE_MOVING_H

#include "storage/db.h"
#include "storage/entry.h"
#include "storage/store.h"

/* Fills in op->encoded from a read transaction of the inbox. Errors: those of peal_txn_get,
 * PEAL_ENOMEM; nothing has changed then. */
enum peal_err peal_moving_export(struct peal_txn *inbox, struct peal_store_op *op);

/* Checks the whole of op->message, and then hands out its entries in order: a STATE for each head,
 * and a MESSAGE for each of its messages behind it. Their numbers are those of the other store,
 * gid and ver too: here the group gets its own. An entry is valid during the call. What
 * op->upto says is not looked at.
 * Errors: PEAL_EBAD_MESSAGE, PEAL_ENOMEM, and nothing was handed out; those of append, and what
 * came before it was. */
struct peal_moving_sink {
    void *ctx;
    enum peal_err (*append)(void *ctx, const struct peal_entry *entry);
};
enum peal_err peal_moving_import(const struct peal_store_op *op,
                                 const struct peal_moving_sink *sink);

/* Does a STATE with the numbers `there` bring messages or marks that a head with the numbers `here`
 * does not have? A piece repeats the head that it continues: that is none, whatever retention
 * removed here since, and applying it again would bring back what is gone. */
bool peal_moving_is_news(const struct peal_numbers *here, const struct peal_numbers *there);

#endif

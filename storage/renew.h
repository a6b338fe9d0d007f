/* storage/renew.h: a backup that is opened for the first time.
 *
 * The store it was taken of went on, and gave numbers that the copy knows nothing of. So that no
 * (epoch, offset) is ever given twice, a copy says in its log that it is one (key `copy`), and who
 * opens it writes a new generation to both files and begins a new epoch in every group, before
 * anything is served. As long as the mark stands that is not done: a start that was cut off does
 * all of it again, which costs nothing but epochs. It is not done when the copy is made, because
 * one copy can be put to use more than once.
 *
 * Thread: whoever starts the store, before its threads. */
#ifndef PEAL_STORAGE_RENEW_H
#define PEAL_STORAGE_RENEW_H

#include "storage/batch.h"

/* In a copy: writes a new generation to the inbox, in a transaction of its own, and to `log`, a
 * write transaction. *copy says whether it is one. Errors: those of peal_txn_get and put. */
enum peal_err peal_renew_generation(struct peal_txn *log, struct peal_db *inbox,
                                    uint64_t *generation, bool *copy);
/* After peal_batch_replay: begins the epochs and takes the mark away. Errors: those of
 * peal_batch_finish. */
enum peal_err peal_renew_epochs(struct peal_batch *batch, uint64_t now_ms);

#endif

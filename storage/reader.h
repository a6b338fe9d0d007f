/* storage/reader.h: pages of one group, read on snapshots beside the writing.
 *
 * A page says everything there is to say about the offsets that it covers: each is in a
 * MESSAGE, a SKIP (nothing there, by intent) or a GAP (lost), in order and without holes.
 * Runs of the same kind are one entry. REVERSE pages are for lists: messages only.
 *
 * Thread: one thread of its own, reached by its mailbox. Every fetch opens a snapshot that is
 * younger than the fetch, so it sees all commits that were reported before. */
#ifndef PEAL_STORAGE_READER_H
#define PEAL_STORAGE_READER_H

#include <stdatomic.h>

#include "storage/db.h"
#include "storage/store.h"

struct peal_reader;

struct peal_reader_setup {
    struct peal_db *db;
    uint64_t generation;
    const _Atomic uint64_t *now_ms; /* written by the store thread */
    struct peal_store_events events;
};

/* Errors: PEAL_ENOMEM, PEAL_EIO. */
enum peal_err peal_reader_start(const struct peal_reader_setup *setup, struct peal_reader **out);
/* Works off what was submitted and ends the thread. NULL is fine. */
void peal_reader_stop(struct peal_reader *reader);
/* Errors: PEAL_EQUEUE_FULL. */
enum peal_err peal_reader_submit(struct peal_reader *reader, struct peal_store_fetch *fetch);

/* Appends the PAGE frame that answers fetch. Errors: those of peal_txn_get, PEAL_ECORRUPT,
 * PEAL_EBAD_GROUP, PEAL_ENOMEM; out is then of no use. */
enum peal_err peal_reader_page(struct peal_txn *txn, const struct peal_store_fetch *fetch,
                               uint64_t generation, uint64_t now_ms, struct peal_buf *out);

#endif

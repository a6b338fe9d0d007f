/* storage/reader.h: pages of one group, read on snapshots beside the writing.
 *
 * A page says everything there is to say about the offsets that it covers: each is in a
 * MESSAGE, a SKIP (nothing there, by intent) or a GAP (lost), in order and without holes.
 * Runs of the same kind are one entry. REVERSE pages are for lists: messages only.
 *
 * Thread: one thread of its own, reached by its mailbox. The store thread hands each fetch over
 * with a view of its group (storage/snapshot.h) that is younger than the fetch, so a page has all
 * commits that were reported before. */
#ifndef PEAL_STORAGE_READER_H
#define PEAL_STORAGE_READER_H

#include <stdatomic.h>

#include "storage/snapshot.h"
#include "storage/store.h"

struct peal_reader;

struct peal_reader_setup {
    const _Atomic uint64_t *now_ms; /* written by the store thread */
    struct peal_store_events events;
};

/* Errors: PEAL_ENOMEM, PEAL_EIO. */
enum peal_err peal_reader_start(const struct peal_reader_setup *setup, struct peal_reader **out);
/* Works off what was submitted and ends the thread. NULL is fine. */
void peal_reader_stop(struct peal_reader *reader);
/* In the store thread. The view is taken over. err: what is to be answered instead when there is
 * none (view NULL). There is room for PEAL_STORE_READS_MAX, which is the most that are under way.
 */
void peal_reader_submit(struct peal_reader *reader, struct peal_store_fetch *fetch,
                        const struct peal_view *view, enum peal_err err);

/* Appends the PAGE frame that answers fetch. Errors: those of peal_view_message, PEAL_EBAD_GROUP,
 * PEAL_ENOMEM; out is then of no use. */
enum peal_err peal_reader_page(struct peal_view *view, const struct peal_store_fetch *fetch,
                               uint64_t now_ms, struct peal_buf *out);

#endif

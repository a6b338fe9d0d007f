/* proto/parcel.h: a BATCH frame while it is being filled.
 *
 * Entries are encoded one behind the other where they will be sent from; the head in front of them
 * has a fixed size and is written last. Used in both directions: a router has one per node, a node
 * one per router.
 *
 * Shape:  at most PEAL_PARCEL_ENTRIES entries; a new one fits while there are fewer than
 *         PEAL_PARCEL_BYTES bytes, and a single one may be larger.
 * Thread: one owner. Memory: its buffer, kept for the next parcel unless it grew large. */
#ifndef PEAL_PROTO_PARCEL_H
#define PEAL_PROTO_PARCEL_H

#include "base/buf.h"
#include "proto/wire.h"

enum {
    PEAL_PARCEL_ENTRIES = 1024,
    PEAL_PARCEL_BYTES = 1024 * 1024,
};

/* A zeroed struct is an empty parcel. */
struct peal_parcel {
    struct peal_buf buf;
    uint32_t count;
};

void peal_parcel_fini(struct peal_parcel *parcel);
/* True when nothing more should be added before it is sent. */
static inline bool peal_parcel_full(const struct peal_parcel *parcel)
{
    return parcel->count == PEAL_PARCEL_ENTRIES || parcel->buf.size >= PEAL_PARCEL_BYTES;
}
/* Appends an entry, encoded here or before. Errors: PEAL_ENOMEM, and nothing has changed. */
enum peal_err peal_parcel_add(struct peal_parcel *parcel, const struct peal_frame *entry);
enum peal_err peal_parcel_add_bytes(struct peal_parcel *parcel, struct peal_span entry);
/* Walks the entries; *at starts at 0. False at the end. */
bool peal_parcel_next(const struct peal_parcel *parcel, size_t *at, struct peal_span *entry);
/* Writes the head and returns the frame, which is valid until the parcel is changed. There must
 * be an entry. */
struct peal_span peal_parcel_finish(struct peal_parcel *parcel, uint64_t boot, uint64_t seq);
/* Makes it empty. */
void peal_parcel_clear(struct peal_parcel *parcel);

#endif

/* proto/envelope.h: a message as msgpack, for the bus and for the disk.
 *
 * An envelope is an array [version, id, group, ...] with every field of struct peal_envelope in one
 * order, which a const table in envelope.c says. Routers pack it once; nodes and stores hand the
 * same bytes on.
 *
 * Thread: any; no state. Memory: a decoded envelope borrows the bytes it was decoded from. */
#ifndef PEAL_PROTO_ENVELOPE_H
#define PEAL_PROTO_ENVELOPE_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"
#include "proto/msg.h"

/* Appends the envelope. Cannot fail but for memory (out->failed). */
void peal_envelope_encode(const struct peal_envelope *env, struct peal_buf *out);
/* Errors: PEAL_EBAD_MESSAGE. The envelope borrows bytes. */
enum peal_err peal_envelope_decode(struct peal_span bytes, struct peal_envelope *out);

/* What it takes to hand a MESSAGE on: reads no further than the position in its envelope. Errors:
 * PEAL_EUNKNOWN_TYPE when it is another frame, PEAL_EBAD_MESSAGE. */
struct peal_message_head {
    struct peal_span group;
    uint64_t epoch;
    uint64_t offset;
};
enum peal_err peal_message_peek(struct peal_span frame, struct peal_message_head *out);

#endif

/* proto/door.h: the acknowledged door for publishers that speak msgpack.
 *
 *   {"op": "publish", "req": u64, "messages": [object, ...]}  ->  {"req": u64, "results": [...]}
 *
 * The objects are those of proto/publish.h. A result is {id, group, epoch, offset, ack,
 * duplicate?} or {"error": {code, message, field?, after_ms?, owner?}}, in the order of the
 * messages; owner is the ROUTER endpoint where the group is at home.
 *
 * Thread: any; no state. */
#ifndef PEAL_PROTO_DOOR_H
#define PEAL_PROTO_DOOR_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"
#include "proto/wire.h"

struct peal_door_call {
    uint64_t req;
    struct peal_span messages; /* the list, as input for peal_publish_decode; borrows the bytes */
};

/* Errors: PEAL_EBAD_MESSAGE, PEAL_EUNKNOWN_TYPE (another op), PEAL_EMISSING_FIELD,
 * with a sentence in why; out->req is set as far as it was found. Nothing is to be freed. */
enum peal_err peal_door_decode(struct peal_span bytes, struct peal_door_call *out, char *why,
                               size_t why_size);
/* Appends a reply. receipts are RECEIPT frames; `field` of an error is their `id`, and
 * `owner` their `group`. */
void peal_door_encode(uint64_t req, const struct peal_frame *receipts, size_t count,
                      struct peal_buf *out);
/* The same piece by piece: the begin, behind which `count` results are to follow, and one result.
 */
void peal_door_encode_begin(uint64_t req, size_t count, struct peal_buf *out);
void peal_door_encode_result(const struct peal_frame *receipt, struct peal_buf *out);
/* Appends a reply to a call that failed as a whole: {"req", "error": {code, message}}. */
void peal_door_encode_error(uint64_t req, enum peal_err err, const char *why, struct peal_buf *out);

#endif

/* clients/c/unpack.h: what the acknowledged door answers, msgpack in, JSON out. Pure.
 *
 * Thread: any; no state. */
#ifndef PEAL_CLIENTS_C_UNPACK_H
#define PEAL_CLIENTS_C_UNPACK_H

#include "clients/c/peal.h"

/* Appends the one msgpack value that fills bytes as JSON text. Bytes become base64 text, floats
 * without a JSON form null. Errors: PEAL_EBAD_MESSAGE (malformed, extension types, map keys that
 * are no strings, deeper than 32, not UTF-8), PEAL_ENOMEM; out then has an unusable rest. */
enum peal_err peal_unpack_json(struct peal_span bytes, struct peal_buf *out);

/* Reads {req, results: [...]}, or {req, error} of a call that failed as a whole, into
 * answer->status and answer->body. *match is false, and answer untouched, when it belongs to
 * another request. Errors: PEAL_EBAD_MESSAGE (also when there are not `count` results),
 * PEAL_ENOMEM. */
enum peal_err peal_unpack_answer(struct peal_span bytes, uint64_t req, size_t count, bool *match,
                                 struct peal_client_answer *answer);

#endif

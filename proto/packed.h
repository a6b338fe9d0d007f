/* proto/packed.h: msgpack that others sent as a payload, written as JSON.
 *
 * Browsers and raw pages read JSON, so a map or list that a backend packed becomes JSON text once,
 * at the door. Integers are exact, doubles have the fewest digits that read back as the same
 * double, str stays as it is, bin becomes a base64 string. What JSON cannot say is refused: NaN,
 * Inf, ext, names that are not str, twice the same name, str that is not UTF-8.
 *
 * Thread: any; no state. Memory: nothing is kept.
 * Source: github.com/msgpack/msgpack/blob/master/spec.md, "Types". */
#ifndef PEAL_PROTO_PACKED_H
#define PEAL_PROTO_PACKED_H

#include "base/buf.h"
#include "base/err.h"
#include "proto/value.h"

struct msgpack_object;

/* Appends value as JSON. It must come from bytes that peal_wire_check accepted, which bounds its
 * depth. Errors: PEAL_EBAD_FIELD, PEAL_ETOO_LARGE as soon as out holds more than size_max bytes,
 * PEAL_ENOMEM; out then holds a part of it. */
enum peal_err peal_packed_add_json(struct peal_buf *out, const struct msgpack_object *value,
                                   size_t size_max);

#endif

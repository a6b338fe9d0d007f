/* proto/value.h: msgpack of an unknown shape, checked and read value by value.
 *
 * Thread: any; no state. Memory: what is taken borrows the bytes it was taken from. */
#ifndef PEAL_PROTO_VALUE_H
#define PEAL_PROTO_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/span.h"

/* Walks one msgpack value and checks that every declared length and count fits in the bytes
 * that are there, that nesting is at most PEAL_WIRE_DEPTH, and that exactly one value fills
 * bytes. Errors: PEAL_EBAD_MESSAGE. */
enum peal_err peal_wire_check(struct peal_span bytes);

/* Reads msgpack that peal_wire_check accepted, value by value. */
enum peal_wire_kind {
    PEAL_WIRE_NIL,
    PEAL_WIRE_BOOL,
    PEAL_WIRE_UINT,
    PEAL_WIRE_NEGATIVE,
    PEAL_WIRE_FLOAT,
    PEAL_WIRE_STR,
    PEAL_WIRE_BIN,
    PEAL_WIRE_EXT,
    PEAL_WIRE_ARRAY,
    PEAL_WIRE_MAP
};
struct peal_wire_value {
    enum peal_wire_kind kind;
    uint64_t number;        /* of UINT and BOOL; elements of an ARRAY, pairs of a MAP */
    struct peal_span bytes; /* of STR, BIN, EXT */
};
/* Takes a value's head from the front of *rest; the elements of an ARRAY or MAP follow there. False
 * when there is none. */
bool peal_wire_take(struct peal_span *rest, struct peal_wire_value *out);
/* Takes a whole value and gives its bytes. False likewise. */
bool peal_wire_skip(struct peal_span *rest, struct peal_span *value);

#endif

/* proto/json.h: JSON in.
 *
 * The whole text has passed proto/json_check.h; here its fields are read as spans of the very bytes
 * that were sent, so that a payload reaches the browser as its publisher wrote it (1e2 stays 1e2).
 * JSON out is proto/json_write.h.
 *
 * Shape:  one level at a time: the fields of an object, the elements of an array, one value.
 * Thread: any; no state. Memory: a peal_json borrows the text it was read from.
 * Source: RFC 8259. */
#ifndef PEAL_PROTO_JSON_H
#define PEAL_PROTO_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

enum { PEAL_JSON_FIELDS_MAX = 64 };

enum peal_json_kind {
    PEAL_JSON_ABSENT,
    PEAL_JSON_NULL,
    PEAL_JSON_BOOL,
    PEAL_JSON_NUMBER,
    PEAL_JSON_STRING,
    PEAL_JSON_ARRAY,
    PEAL_JSON_OBJECT
};

/* What the checked value is, by its first character (blanks before it are skipped). */
enum peal_json_kind peal_json_kind_of(struct peal_span value);

/* The top-level fields of one object, in order. Names with escapes in them are refused. */
struct peal_json {
    struct peal_json_field {
        struct peal_span name;  /* without quotes */
        struct peal_span value; /* the exact bytes, without blanks around them */
        enum peal_json_kind kind;
    } fields[PEAL_JSON_FIELDS_MAX];
    size_t count;
};

/* Reads the fields of an object that peal_json_check accepted. Errors: PEAL_EBAD_MESSAGE when it
 * is not an object, has too many fields, or a name with an escape. */
enum peal_err peal_json_object(struct peal_span checked, struct peal_json *out);
/* The field called name, or NULL. */
const struct peal_json_field *peal_json_get(const struct peal_json *json, const char *name);

/* Walks an array that peal_json_check accepted: set *at to 0; true gives the next element's
 * span; false means the end. Also false at once when it is not an array. */
bool peal_json_next(struct peal_span checked, size_t *at, struct peal_span *element);

/* Walks an object in the same way, however many fields it has. name comes with its quotes, for
 * peal_json_string. */
bool peal_json_next_field(struct peal_span checked, size_t *at, struct peal_span *name,
                          struct peal_span *value);

/* Appends the characters of a checked string value, unescaped. \u0000 gives a NUL byte; lone
 * surrogates were refused by the check. Errors: PEAL_EBAD_FIELD when value is not a string. */
enum peal_err peal_json_string(struct peal_span value, struct peal_buf *out);
/* A non-negative integer below 2^53, written without point and exponent.
 * Errors: PEAL_EBAD_FIELD. */
enum peal_err peal_json_u64(struct peal_span value, uint64_t *out);
enum peal_err peal_json_bool(struct peal_span value, bool *out);

#endif

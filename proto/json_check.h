/* proto/json_check.h: is this text JSON that we take?
 *
 * Every text from outside is checked as a whole before proto/json.h reads it.
 *
 * Shape:  RFC 8259 in UTF-8, one value of any kind, no name twice in an object, at most
 *         PEAL_JSON_DEPTH deep. Numbers beyond 64 bits or beyond a double are fine, and \u0000 in
 *         strings (in names it is refused).
 * Thread: any; no state. Memory: the text is borrowed; what the check needs is freed in it.
 * Source: RFC 8259; jansson is the judge of what is not of the plain kind. */
#ifndef PEAL_PROTO_JSON_CHECK_H
#define PEAL_PROTO_JSON_CHECK_H

#include "base/err.h"
#include "base/span.h"

/* Checks one whole JSON text. Errors: PEAL_EBAD_JSON, with a sentence in why (may be NULL)
 * that names line and column and holds nothing of the text; PEAL_ENOMEM. */
enum peal_err peal_json_check(struct peal_span text, char *why, size_t why_size);

#endif

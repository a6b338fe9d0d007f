/* proto/publish.h: what backends hand in, at every door: one object or a list of objects.
 *
 *   {"group" | "user" | "groups" | "users": ..., "data" | "text" | "data_base64": ...,
 *    "event"?, "message_id"?, "ttl_ms"?, "collapse"?}
 *
 * As JSON (an object or a list) or msgpack (a map or an array of maps); the first byte tells which.
 * `data`: any JSON value, kept as the span of text that was sent; from msgpack map, array, number,
 * bool and nil become JSON, str becomes text, bin binary. `text` is a bare string and
 * `data_base64` bytes (JSON only). Exactly one of the three. `message_id`, `event` and `collapse`
 * have no control characters: they stand in lines of other protocols. Unknown fields are ignored,
 * null is a value and not a missing field. `groups` and `users` become one item per target, in
 * order; a mistake in the rest of their object is then told by each.
 *
 * Thread: any; no state. Memory: items borrow the input and the request's own arena; both must
 * live as long as the items are used, and the request must not be moved. */
#ifndef PEAL_PROTO_PUBLISH_H
#define PEAL_PROTO_PUBLISH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/span.h"
#include "proto/msg.h"

struct peal_publish_item {
    enum peal_err err;        /* PEAL_OK, or why this one is refused; then env is incomplete */
    char why[120];            /* sentence for the publisher, names the field; "" when OK */
    char field[32];           /* the field at fault, or "" */
    struct peal_envelope env; /* group id event data data_kind ttl_ms collapse flags are set */
};

struct peal_publish_request {
    struct peal_publish_item *items;
    size_t count;
    bool list; /* answer with a list of results: a list was given, or groups, or users */
    void *arena;
    struct peal_publish_item only; /* where items points while there is one */
};

struct peal_publish_limits {
    uint64_t message_bytes; /* of data; larger: PEAL_ETOO_LARGE */
    uint64_t targets;       /* of the whole request; more: PEAL_ELIMIT */
    uint64_t total_bytes;   /* of data times targets; more: PEAL_ETOO_LARGE; 0 = no limit */
};

/* Decodes body. Errors of the whole: PEAL_EBAD_JSON, PEAL_EBAD_MESSAGE, PEAL_ETOO_LARGE (more than
 * PEAL_BATCH_MESSAGES objects, or than total_bytes), PEAL_ELIMIT, PEAL_ENOMEM, with a sentence in
 * why; *out then needs no fini. Errors of single objects stay with their items:
 * PEAL_EMISSING_FIELD, PEAL_EBAD_FIELD, PEAL_EBAD_GROUP, PEAL_EFORBIDDEN (`sys:`), PEAL_ETOO_LARGE,
 * and PEAL_EBAD_MESSAGE for what is no object. */
enum peal_err peal_publish_decode(struct peal_span body, const struct peal_publish_limits *limits,
                                  struct peal_publish_request *out, char *why, size_t why_size);
void peal_publish_fini(struct peal_publish_request *request);

#endif

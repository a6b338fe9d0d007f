/* proto/msg.h: the envelope: everything that is known about a message on its way.
 *
 * `data` is the publisher's own bytes from end to end. The encoded form is in proto/wire.h.
 *
 * Thread: one owner. Memory: an envelope borrows all its spans. */
#ifndef PEAL_PROTO_MSG_H
#define PEAL_PROTO_MSG_H

#include <stdint.h>

#include "base/span.h"

enum peal_data_kind { PEAL_DATA_JSON, PEAL_DATA_TEXT, PEAL_DATA_BINARY, PEAL_DATA_KIND_COUNT };

struct peal_envelope {
    struct peal_span id;    /* 1..64 bytes: the publisher's message_id, or a ULID */
    struct peal_span group; /* 1..200 bytes */
    uint64_t epoch;         /* 0 until numbered */
    uint64_t offset;        /* 1..; 0 until numbered */
    uint64_t ts_ms;         /* wall clock of the router that took it */
    struct peal_span event; /* absent or 1..200 bytes */
    struct peal_span data;  /* opaque */
    enum peal_data_kind data_kind;
    struct peal_span from;     /* user who published it; absent for backends */
    uint64_t ttl_ms;           /* 0 = no limit of its own */
    struct peal_span collapse; /* absent or 1..200 bytes */
    uint64_t flags;            /* PEAL_MSG_* */
    struct peal_span trace;    /* absent; reserved for tracing */
};

enum {
    PEAL_MSG_ID_GIVEN = 1, /* the id came from the publisher: it takes part in dedup */
};

#endif

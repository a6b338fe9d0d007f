/* proto/msg.h: a message on its way: the envelope, and the counted object that threads share.
 *
 * The envelope is everything that is known about a message; `data` is the publisher's own
 * bytes from end to end. A struct peal_msg is an encoded envelope together with its decoded
 * view: immutable, so the bus decodes it once and every worker reads it.
 *
 * Thread: an envelope has one owner and borrows its spans; a peal_msg is free-threaded. */
#ifndef PEAL_PROTO_MSG_H
#define PEAL_PROTO_MSG_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"
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

struct peal_msg {
    _Atomic uint32_t refs;
    uint32_t size;
    struct peal_envelope env; /* its spans point into bytes */
    char bytes[];             /* the encoded envelope */
};

/* Copies and decodes one encoded envelope. Errors: PEAL_EBAD_MESSAGE, PEAL_ENOMEM. */
enum peal_err peal_msg_new(struct peal_span encoded, struct peal_msg **out);
struct peal_msg *peal_msg_ref(struct peal_msg *msg);
void peal_msg_unref(struct peal_msg *msg); /* NULL is fine */

#endif

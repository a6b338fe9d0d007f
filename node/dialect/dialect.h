/* node/dialect/dialect.h: what a browser-facing protocol has to know.
 *
 * A dialect is a table of functions. It parses an inbound frame into commands for the
 * connection and renders messages and events to the bytes that go on the wire. It knows
 * nothing of sockets. A message is rendered once and the same bytes go to every connection of
 * that dialect, so nothing in it may depend on the connection.
 *
 * Adding one: a file here, its tests, and a line in peal_dialect_of. */
#ifndef PEAL_NODE_DIALECT_H
#define PEAL_NODE_DIALECT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/config.h"
#include "node/member.h"
#include "proto/msg.h"

struct peal_conn;

enum peal_event_type {
    PEAL_EVENT_WELCOME,
    PEAL_EVENT_JOINED,
    PEAL_EVENT_LEFT,
    PEAL_EVENT_PUBLISHED,
    PEAL_EVENT_OK,
    PEAL_EVENT_PONG,
    PEAL_EVENT_INBOX,
    PEAL_EVENT_STATE,
    PEAL_EVENT_SKIP,
    PEAL_EVENT_GAP,
    PEAL_EVENT_DEGRADED,
    PEAL_EVENT_GOAWAY,
    PEAL_EVENT_PRESENCE,
    PEAL_EVENT_ERROR,
};

struct peal_event {
    enum peal_event_type type;
    struct peal_span id; /* of the command it answers, as JSON; absent for none */
    struct peal_span group;
    uint64_t epoch;
    uint64_t offset;
    uint64_t from;
    uint64_t to;
    uint64_t why; /* enum peal_gap_why */
    uint64_t upto;
    const uint64_t *offsets;
    size_t offset_count;
    uint64_t unread;
    uint64_t rev;
    uint64_t flags; /* PEAL_FLAG_ACK, _READ; STORED, DUPLICATE; MORE */
    enum peal_recovered recovered;
    bool on;            /* DEGRADED */
    uint64_t in_ms;     /* GOAWAY: when the slot begins, from now */
    uint64_t spread_ms; /* GOAWAY: and how long it is */
    enum peal_err err;
    const char *message;           /* ERROR: a sentence */
    uint64_t after_ms;             /* ERROR: try again after that; 0 = not known */
    struct peal_span message_id;   /* PUBLISHED */
    const struct peal_conn *conn;  /* WELCOME: what it is about */
    const struct peal_frame *page; /* INBOX: entries; PRESENCE: what the router said */
};

struct peal_message_facts {
    bool replayed;
    uint64_t unread; /* with rev > 0: of the inbox, after this message */
    uint64_t rev;
};

struct peal_dialect {
    enum peal_dialect_kind kind;
    const char *name;
    /* Clients acknowledge inbox messages themselves; otherwise a ping that follows carries the
     * offset and its pong is the ack. */
    bool acks;
    bool hello;      /* the connection is set up by a hello, not by the route's templates */
    uint32_t events; /* bit per enum peal_event_type that it can say */
    /* Each appends one whole frame. */
    void (*message)(struct peal_buf *out, const struct peal_envelope *env,
                    const struct peal_message_facts *facts);
    void (*event)(struct peal_buf *out, const struct peal_event *event);
    /* "Are you there?", answered by a pong with the same payload; and the last frame. */
    void (*ping)(struct peal_buf *out, struct peal_span payload);
    void (*farewell)(struct peal_buf *out, uint16_t code, const char *reason);
    /* One whole inbound message. */
    void (*receive)(struct peal_conn *conn, bool text, struct peal_span payload);
};

extern const struct peal_dialect peal_dialect_native;
extern const struct peal_dialect peal_dialect_raw;
const struct peal_dialect *peal_dialect_of(enum peal_dialect_kind kind);

#endif

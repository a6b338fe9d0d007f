/* node/wsframe.h: WebSocket frames: bytes from a client to messages, messages to bytes.
 *
 * A push parser without I/O or clock: it is fed whatever arrived, in any split, unmasks in
 * place and calls back with whole messages. A message that lies whole in one read is handed out
 * where it lies; only split or fragmented ones are copied.
 *
 * It refuses what RFC 6455 tells a server to refuse: unmasked frames (1002), reserved bits and
 * opcodes (1002), lengths not in their shortest form (1002), fragmented or long control frames
 * (1002), continuation without a start and a start inside a message (1002), text that is not
 * UTF-8 (1007), bad close codes (1002); and by our limits a message above max_message (1009,
 * at the header, before its bytes arrive) and more than PEAL_FRAGMENTS_MAX frames in one (1008).
 *
 * Thread: the worker. Memory: the buffers of a split message, freed with it.
 * Source: RFC 6455 sections 5 and 7. */
#ifndef PEAL_NODE_WSFRAME_H
#define PEAL_NODE_WSFRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/span.h"

enum {
    PEAL_WS_CONTINUATION = 0,
    PEAL_WS_TEXT = 1,
    PEAL_WS_BINARY = 2,
    PEAL_WS_CLOSE = 8,
    PEAL_WS_PING = 9,
    PEAL_WS_PONG = 10,
};
enum { PEAL_WS_HEADER_MAX = 10, PEAL_WS_CONTROL_MAX = 125 };

struct peal_ws_parser {
    uint64_t left;           /* payload bytes of the current frame still to come */
    struct peal_buf data;    /* message so far, when it is split */
    struct peal_buf control; /* control payload so far, when it is split */
    uint32_t max_message;    /* bytes */
    uint16_t fragments;      /* frames of the current message, 0 = none begun */
    uint8_t header[14];      /* header so far */
    uint8_t header_size;
    uint8_t mask[4];
    uint8_t mask_at;        /* which mask byte is next, 0..3 */
    uint8_t opcode;         /* of the current frame */
    uint8_t message_opcode; /* of the message that is being continued */
    bool fin;
    bool in_payload;
    bool dead; /* an error, a Close or a false was seen; further bytes are ignored */
};

struct peal_ws_events {
    void *ctx;
    /* A whole message; text is checked UTF-8. False, here and below: stop reading for good (the
     * connection is closing). The parser must not be finished inside. */
    bool (*message)(void *ctx, int opcode, struct peal_span payload);
    bool (*ping)(void *ctx, struct peal_span payload);
    bool (*pong)(void *ctx, struct peal_span payload);
    /* The peer's Close. code is 1005 when it gave none. Nothing follows. */
    void (*close)(void *ctx, uint16_t code, struct peal_span reason);
};

void peal_ws_parser_init(struct peal_ws_parser *p, uint32_t max_message);
void peal_ws_parser_fini(struct peal_ws_parser *p);
/* Feeds bytes, which are changed in place. Returns 0, or the code to close with (1011: no memory
 * for a split message); *frames grows by the number of frames begun. */
uint16_t peal_ws_feed(struct peal_ws_parser *p, char *bytes, size_t size,
                      const struct peal_ws_events *events, uint32_t *frames);
/* A message has been begun and is not complete: the continuation deadline applies. */
static inline bool peal_ws_in_message(const struct peal_ws_parser *p)
{
    return p->fragments > 0 || p->in_payload || p->header_size > 0;
}

/* Writes the header of an unmasked, final server frame; returns its size. */
size_t peal_ws_header(uint8_t out[PEAL_WS_HEADER_MAX], int opcode, size_t payload_size);
/* Appends one whole frame. */
void peal_ws_add_frame(struct peal_buf *out, int opcode, struct peal_span payload);
/* Appends a Close frame. reason is cut to 123 bytes at a character border; code 1005 gives an
 * empty one. */
void peal_ws_add_close(struct peal_buf *out, uint16_t code, const char *reason);
/* The same for a payload that is appended piece by piece between the two calls; begin says where
 * the frame starts. */
size_t peal_ws_begin(struct peal_buf *out);
void peal_ws_end(struct peal_buf *out, size_t begin, int opcode);
/* Sec-WebSocket-Accept for a key (RFC 6455 section 4.2.2): 28 characters and a NUL; empty when
 * there is no memory for the hash. */
void peal_ws_accept(struct peal_span key, char out[29]);

#endif

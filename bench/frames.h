/* bench/frames.h: WebSocket frames of a server, taken apart as they come.
 *
 * The caller reads into one large buffer that all connections share. A frame that is whole in it
 * is pointed to, not copied; only what is cut by the end of a read is kept with the connection, and
 * of that at most the first PEAL_FRAMES_KEEP bytes of the payload, because nobody looks further.
 *
 * Thread: the owner of the connection. Memory: nothing between frames.
 * Source: RFC 6455 section 5.2; a server does not mask, and nothing here negotiates extensions. */
#ifndef PEAL_BENCH_FRAMES_H
#define PEAL_BENCH_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/span.h"

enum { PEAL_FRAMES_KEEP = 128 * 1024 };

enum {
    PEAL_FRAME_CONTINUATION = 0,
    PEAL_FRAME_TEXT = 1,
    PEAL_FRAME_BINARY = 2,
    PEAL_FRAME_CLOSE = 8,
    PEAL_FRAME_PING = 9,
    PEAL_FRAME_PONG = 10
};

/* A zeroed struct is the start of a stream. */
struct peal_frames {
    struct peal_buf kept; /* what came of a frame that is not complete: head and payload */
    uint64_t left;        /* bytes of it to be skipped, once what is kept is complete */
    bool done;            /* it was handed out, and goes with the next call */
};

struct peal_frame {
    uint8_t opcode;
    struct peal_span payload; /* its first bytes; valid until the next call */
    uint64_t size;            /* of the whole payload */
};

enum peal_frames_got {
    PEAL_FRAMES_MORE,  /* all of `in` was taken, and no frame is complete */
    PEAL_FRAMES_FRAME, /* *out is the next one, and `in` begins behind it */
    PEAL_FRAMES_BAD    /* no server may send this, or memory ran out */
};

enum peal_frames_got peal_frames_next(struct peal_frames *frames, struct peal_span *in,
                                      struct peal_frame *out);
/* Frees what is kept. */
void peal_frames_fini(struct peal_frames *frames);

#endif

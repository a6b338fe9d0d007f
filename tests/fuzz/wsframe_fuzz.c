/* Input: the limit of a message (in steps of 64 bytes), the number of piece sizes, the piece
 * sizes, the bytes of a client. Fed whole and in pieces of these sizes, over and over, the parser
 * must say the same, keep its limits, and say nothing once it is dead. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/limits.h"
#include "node/wsframe.h"
#include "proto/utf8.h"

enum { STEP = 64, PIECES_MAX = 8 };

struct seen {
    struct peal_buf log; /* kind, size and bytes of each event */
    uint32_t max_message;
    uint32_t frames;
    uint16_t code;
    bool closed;
};

static void see(struct seen *seen, int kind, uint16_t code, struct peal_span payload)
{
    PEAL_ASSERT(!seen->closed);
    peal_buf_add_format(&seen->log, "%d %u %zu ", kind, code, payload.size);
    peal_buf_add_span(&seen->log, payload);
    PEAL_ASSERT(!seen->log.failed);
}

static bool on_message(void *ctx, int opcode, struct peal_span payload)
{
    struct seen *seen = ctx;
    PEAL_ASSERT(opcode == PEAL_WS_TEXT || opcode == PEAL_WS_BINARY);
    PEAL_ASSERT(payload.size <= seen->max_message);
    if (opcode == PEAL_WS_TEXT) PEAL_ASSERT(peal_utf8_valid(payload));
    see(seen, opcode, 0, payload);
    return payload.size != 13; /* some number that says stop */
}

static bool on_ping(void *ctx, struct peal_span payload)
{
    PEAL_ASSERT(payload.size <= PEAL_WS_CONTROL_MAX);
    see(ctx, PEAL_WS_PING, 0, payload);
    return true;
}

static bool on_pong(void *ctx, struct peal_span payload)
{
    PEAL_ASSERT(payload.size <= PEAL_WS_CONTROL_MAX);
    see(ctx, PEAL_WS_PONG, 0, payload);
    return true;
}

static void on_close(void *ctx, uint16_t code, struct peal_span reason)
{
    struct seen *seen = ctx;
    PEAL_ASSERT(code >= 1000 && code <= 4999);
    PEAL_ASSERT(peal_utf8_valid(reason));
    see(seen, PEAL_WS_CLOSE, code, reason);
    seen->closed = true;
}

static void feed(struct peal_ws_parser *p, const unsigned char *at, size_t size, struct seen *seen)
{
    struct peal_ws_events events = {seen, on_message, on_ping, on_pong, on_close};
    char *bytes = malloc(size == 0 ? 1 : size); /* exactly, so that ASan sees the end */
    PEAL_ASSERT(bytes != NULL);
    if (size > 0) memcpy(bytes, at, size);
    bool dead = p->dead;
    size_t logged = seen->log.size;
    uint16_t code = peal_ws_feed(p, bytes, size, &events, &seen->frames);
    if (dead) PEAL_ASSERT(code == 0);
    if (dead) PEAL_ASSERT(seen->log.size == logged);
    if (code != 0) PEAL_ASSERT(p->dead);
    if (code != 0) seen->code = code;
    if (p->dead) PEAL_ASSERT(p->data.at == NULL);
    PEAL_ASSERT(p->data.size <= seen->max_message);
    PEAL_ASSERT(p->control.size <= PEAL_WS_CONTROL_MAX);
    PEAL_ASSERT(p->fragments <= PEAL_FRAGMENTS_MAX);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    if (size < 2) return 0;
    uint32_t max_message = 1 + data[0] * (uint32_t)STEP;
    size_t pieces = 1 + data[1] % PIECES_MAX;
    if (size < 2 + pieces) return 0;
    const unsigned char *sizes = data + 2;
    const unsigned char *stream = sizes + pieces;
    size_t left = size - 2 - pieces;

    struct seen whole = {.max_message = max_message};
    struct seen split = {.max_message = max_message};
    struct peal_ws_parser p;
    peal_ws_parser_init(&p, max_message);
    feed(&p, stream, left, &whole);
    bool in_message = !p.dead && peal_ws_in_message(&p);
    peal_ws_parser_fini(&p);

    peal_ws_parser_init(&p, max_message);
    size_t zeros = 0;
    for (size_t i = 0; left > 0; i++) {
        size_t piece = sizes[i % pieces];
        zeros = piece == 0 ? zeros + 1 : 0;
        if (zeros == pieces || piece > left) piece = left;
        feed(&p, stream, piece, &split);
        stream += piece;
        left -= piece;
    }
    PEAL_ASSERT(in_message == (!p.dead && peal_ws_in_message(&p)));
    peal_ws_parser_fini(&p);

    PEAL_ASSERT(whole.code == split.code);
    PEAL_ASSERT(whole.frames == split.frames);
    PEAL_ASSERT(peal_span_equal(peal_buf_span(&whole.log), peal_buf_span(&split.log)));
    peal_buf_fini(&whole.log);
    peal_buf_fini(&split.log);
    return 0;
}

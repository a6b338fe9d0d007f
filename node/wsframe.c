/* The parser is a loop of two states: it collects the header of a frame (at most 14 bytes, always
 * copied, so that a split needs no case of its own), then takes the payload as far as it has
 * arrived. The first two bytes are judged as soon as they are there, the length with the whole
 * header. What a frame means is decided when its last byte is there: a message or control frame
 * of which nothing was put aside before is handed out where it lies. */
#include "node/wsframe.h"

#include <openssl/evp.h>
#include <string.h>

#include "base/assert.h"
#include "base/limits.h"
#include "proto/utf8.h"

enum {
    FIN = 0x80,
    RESERVED = 0x70,
    OPCODE = 0x0f,
    CONTROL = 0x08, /* in an opcode */
    MASKED = 0x80,
    LENGTH = 0x7f,
    LENGTH_16 = 126,
    LENGTH_64 = 127,
    HEADER_USUAL = 4, /* of payloads of 126 to 65,535 bytes */
    MASK_SIZE = 4,
    REASON_MAX = PEAL_WS_CONTROL_MAX - 2,
};

/* RFC 6455 section 7.4.1, and 1011 to say that it was us. */
enum {
    CLOSE_PROTOCOL = 1002,
    CLOSE_NO_CODE = 1005,
    CLOSE_NOT_UTF8 = 1007,
    CLOSE_POLICY = 1008,
    CLOSE_TOO_LARGE = 1009,
    CLOSE_INTERNAL = 1011,
};

/* ---- masking --------------------------------------------------------------------------------- */

/* Eight bytes at a time whatever the alignment: the mask is turned to where the run begins, and
 * eight is a multiple of its size. */
static void unmask(struct peal_ws_parser *p, char *bytes, size_t size)
{
    unsigned char turned[8];
    for (size_t i = 0; i < sizeof turned; i++)
        turned[i] = p->mask[(p->mask_at + i) % MASK_SIZE];
    uint64_t mask;
    memcpy(&mask, turned, sizeof mask);

    size_t at = 0;
    for (; size - at >= sizeof mask; at += sizeof mask) {
        uint64_t eight;
        memcpy(&eight, bytes + at, sizeof eight);
        eight ^= mask;
        memcpy(bytes + at, &eight, sizeof eight);
    }
    for (size_t i = 0; at < size; i++, at++)
        bytes[at] = (char)((unsigned char)bytes[at] ^ turned[i]);
    p->mask_at = (uint8_t)((p->mask_at + size) % MASK_SIZE);
}

/* ---- header ---------------------------------------------------------------------------------- */

static size_t header_need(const struct peal_ws_parser *p)
{
    if (p->header_size < 2) return 2;
    unsigned length = p->header[1] & LENGTH;
    size_t more = length == LENGTH_64 ? 8 : length == LENGTH_16 ? 2 : 0;
    return 2 + more + MASK_SIZE;
}

/* What the first two bytes can say. */
static uint16_t check_start(const struct peal_ws_parser *p)
{
    bool fin = (p->header[0] & FIN) != 0;
    unsigned opcode = p->header[0] & OPCODE;
    if (p->header[0] & RESERVED) return CLOSE_PROTOCOL; /* no extension was agreed on */
    if (!(p->header[1] & MASKED)) return CLOSE_PROTOCOL;
    switch (opcode) {
    case PEAL_WS_CONTINUATION:
        if (p->fragments == 0) return CLOSE_PROTOCOL;
        return p->fragments == PEAL_FRAGMENTS_MAX ? CLOSE_POLICY : 0;
    case PEAL_WS_TEXT:
    case PEAL_WS_BINARY:
        return p->fragments > 0 ? CLOSE_PROTOCOL : 0;
    case PEAL_WS_CLOSE:
    case PEAL_WS_PING:
    case PEAL_WS_PONG:
        if (!fin || (p->header[1] & LENGTH) > PEAL_WS_CONTROL_MAX) return CLOSE_PROTOCOL;
        return 0;
    default:
        return CLOSE_PROTOCOL;
    }
}

/* The length of a whole header; false when a shorter form would have done, or the top bit is set,
 * which RFC 6455 section 5.2 forbids. */
static bool read_length(const struct peal_ws_parser *p, uint64_t *out)
{
    uint64_t length = p->header[1] & LENGTH;
    if (length < LENGTH_16) {
        *out = length;
        return true;
    }
    size_t size = length == LENGTH_16 ? 2 : 8;
    *out = 0;
    for (size_t i = 0; i < size; i++)
        *out = *out << 8 | p->header[2 + i];
    if (size == 2) return *out >= LENGTH_16;
    return *out > UINT16_MAX && *out >> 63 == 0;
}

static uint16_t begin_frame(struct peal_ws_parser *p)
{
    uint64_t length;
    if (!read_length(p, &length)) return CLOSE_PROTOCOL;
    p->opcode = p->header[0] & OPCODE;
    p->fin = (p->header[0] & FIN) != 0;
    if (!(p->opcode & CONTROL)) {
        /* Refused before its bytes arrive. Compared by subtraction: the sum could wrap around. */
        if (length > p->max_message - p->data.size) return CLOSE_TOO_LARGE;
        if (p->opcode != PEAL_WS_CONTINUATION) p->message_opcode = p->opcode;
        p->fragments++;
    }
    memcpy(p->mask, p->header + p->header_size - MASK_SIZE, MASK_SIZE);
    p->mask_at = 0;
    p->header_size = 0;
    p->left = length;
    p->in_payload = true;
    return 0;
}

/* Takes what has arrived of a header; p->in_payload afterwards when it was all of it. */
static uint16_t take_header(struct peal_ws_parser *p, const char *bytes, size_t size, size_t *at)
{
    for (;;) {
        size_t missing = header_need(p) - p->header_size;
        size_t here = size - *at < missing ? size - *at : missing;
        memcpy(p->header + p->header_size, bytes + *at, here);
        p->header_size = (uint8_t)(p->header_size + here);
        *at += here;
        if (here < missing) return 0;
        if (p->header_size > 2) return begin_frame(p);
        uint16_t code = check_start(p);
        if (code != 0) return code;
    }
}

/* ---- payload --------------------------------------------------------------------------------- */

/* Codes that may stand in a Close frame: RFC 6455 section 7.4 and what IANA has added since. */
static bool close_code_valid(unsigned code)
{
    if (code >= 3000) return code <= 4999;
    if (code >= 1007) return code <= 1014;
    return code >= 1000 && code <= 1003;
}

static uint16_t end_close(const struct peal_ws_events *events, struct peal_span payload)
{
    uint16_t code = CLOSE_NO_CODE;
    struct peal_span reason = payload;
    if (payload.size == 1) return CLOSE_PROTOCOL;
    if (payload.size >= 2) {
        code = (uint16_t)((unsigned char)payload.at[0] << 8 | (unsigned char)payload.at[1]);
        if (!close_code_valid(code)) return CLOSE_PROTOCOL;
        reason = peal_span_make(payload.at + 2, payload.size - 2);
        if (!peal_utf8_valid(reason)) return CLOSE_NOT_UTF8;
    }
    events->close(events->ctx, code, reason);
    return 0;
}

static uint16_t end_control(struct peal_ws_parser *p, struct peal_span payload,
                            const struct peal_ws_events *events)
{
    if (p->opcode == PEAL_WS_CLOSE) {
        p->dead = true;
        return end_close(events, payload);
    }
    bool (*event)(void *, struct peal_span) =
        p->opcode == PEAL_WS_PING ? events->ping : events->pong;
    if (!event(events->ctx, payload)) p->dead = true;
    return 0;
}

static uint16_t end_message(struct peal_ws_parser *p, struct peal_span payload,
                            const struct peal_ws_events *events)
{
    p->fragments = 0;
    if (p->message_opcode == PEAL_WS_TEXT && !peal_utf8_valid(payload)) return CLOSE_NOT_UTF8;
    if (!events->message(events->ctx, p->message_opcode, payload)) p->dead = true;
    return 0;
}

/* Takes what has arrived of a payload; ends the frame when that was all of it. */
static uint16_t take_payload(struct peal_ws_parser *p, char *bytes, size_t size,
                             const struct peal_ws_events *events)
{
    bool control = (p->opcode & CONTROL) != 0;
    struct peal_buf *aside = control ? &p->control : &p->data;
    PEAL_ASSERT(size <= p->left);
    unmask(p, bytes, size);
    p->left -= size;
    if (p->left == 0) p->in_payload = false;

    bool ends = p->left == 0 && (control || p->fin);
    struct peal_span payload = peal_span_make(bytes, size);
    if (!ends || aside->size > 0) {
        peal_buf_add(aside, bytes, size);
        if (aside->failed) return CLOSE_INTERNAL;
        payload = peal_buf_span(aside);
    }
    if (!ends) return 0;
    uint16_t code = control ? end_control(p, payload, events) : end_message(p, payload, events);
    peal_buf_fini(aside);
    return code;
}

/* ---- parser ---------------------------------------------------------------------------------- */

void peal_ws_parser_init(struct peal_ws_parser *p, uint32_t max_message)
{
    *p = (struct peal_ws_parser){.max_message = max_message};
}

void peal_ws_parser_fini(struct peal_ws_parser *p)
{
    peal_buf_fini(&p->data);
    peal_buf_fini(&p->control);
}

uint16_t peal_ws_feed(struct peal_ws_parser *p, char *bytes, size_t size,
                      const struct peal_ws_events *events, uint32_t *frames)
{
    uint16_t code = 0;
    size_t at = 0;
    while (at < size && code == 0 && !p->dead) {
        if (!p->in_payload) {
            code = take_header(p, bytes, size, &at);
            if (!p->in_payload) continue; /* it is wrong, or at the end of the bytes */
            ++*frames;
        }
        /* Also when no byte is left: an empty payload is complete with its header. */
        size_t here = p->left < size - at ? (size_t)p->left : size - at;
        code = take_payload(p, bytes + at, here, events);
        at += here;
    }
    if (code != 0) p->dead = true;
    if (p->dead) peal_ws_parser_fini(p);
    return code;
}

/* ---- to the client --------------------------------------------------------------------------- */

size_t peal_ws_header(uint8_t out[PEAL_WS_HEADER_MAX], int opcode, size_t payload_size)
{
    size_t length_size = payload_size < LENGTH_16 ? 0 : payload_size <= UINT16_MAX ? 2 : 8;
    out[0] = (uint8_t)(FIN | opcode);
    out[1] = (uint8_t)(length_size == 0   ? payload_size
                       : length_size == 2 ? (size_t)LENGTH_16
                                          : (size_t)LENGTH_64);
    for (size_t i = 0; i < length_size; i++)
        out[2 + i] = (uint8_t)(payload_size >> 8 * (length_size - 1 - i));
    return 2 + length_size;
}

void peal_ws_add_frame(struct peal_buf *out, int opcode, struct peal_span payload)
{
    uint8_t header[PEAL_WS_HEADER_MAX];
    size_t header_size = peal_ws_header(header, opcode, payload.size);
    peal_buf_add(out, header, header_size);
    peal_buf_add_span(out, payload);
}

size_t peal_ws_begin(struct peal_buf *out)
{
    size_t begin = out->size;
    peal_buf_add(out, "\0\0\0", HEADER_USUAL);
    return begin;
}

void peal_ws_end(struct peal_buf *out, size_t begin, int opcode)
{
    uint8_t header[PEAL_WS_HEADER_MAX];
    if (out->failed) return;
    size_t payload_size = out->size - begin - HEADER_USUAL;
    size_t header_size = peal_ws_header(header, opcode, payload_size);
    if (header_size > HEADER_USUAL && peal_buf_reserve(out, header_size - HEADER_USUAL) == NULL)
        return;
    char *frame = out->at + begin;
    if (header_size != HEADER_USUAL)
        memmove(frame + header_size, frame + HEADER_USUAL, payload_size);
    memcpy(frame, header, header_size);
    out->size = begin + header_size + payload_size;
}

void peal_ws_add_close(struct peal_buf *out, uint16_t code, const char *reason)
{
    if (code == CLOSE_NO_CODE) {
        peal_ws_add_frame(out, PEAL_WS_CLOSE, peal_span_of(NULL));
        return;
    }
    char payload[PEAL_WS_CONTROL_MAX];
    size_t size = strlen(reason);
    if (size > REASON_MAX) {
        size = REASON_MAX;
        while (size > 0 && ((unsigned char)reason[size] & 0xc0) == 0x80)
            size--; /* the first byte left out must begin a character */
    }
    payload[0] = (char)(code >> 8);
    payload[1] = (char)(code & 0xff);
    memcpy(payload + 2, reason, size);
    peal_ws_add_frame(out, PEAL_WS_CLOSE, peal_span_make(payload, 2 + size));
}

void peal_ws_accept(struct peal_span key, char out[29])
{
    static const char suffix[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned hash_size;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool done = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha1(), NULL) == 1 &&
                EVP_DigestUpdate(ctx, key.at, key.size) == 1 &&
                EVP_DigestUpdate(ctx, suffix, sizeof suffix - 1) == 1 &&
                EVP_DigestFinal_ex(ctx, hash, &hash_size) == 1;
    EVP_MD_CTX_free(ctx);
    out[0] = '\0';
    if (done) EVP_EncodeBlock((unsigned char *)out, hash, (int)hash_size);
}

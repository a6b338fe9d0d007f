#include "node/ws_read.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/metrics.h"

static bool on_message(void *ctx, int opcode, struct peal_span payload)
{
    struct peal_ws_socket *s = ctx;
    peal_count(PEAL_M_FRAMES_IN, 1);
    peal_conn_on_receive(&s->conn, opcode == PEAL_WS_TEXT, payload);
    return s->conn.open;
}

static bool on_ping(void *ctx, struct peal_span payload)
{
    struct peal_ws_socket *s = ctx;
    if (!s->conn.open) return false;
    peal_ws_add_frame(&s->conn.hub->rendered, PEAL_WS_PONG, payload);
    if (peal_conn_push_or_drop(&s->conn) != PEAL_OK)
        peal_conn_close(&s->conn, 4208, "slow", PEAL_M_CLOSED_SLOW);
    return s->conn.open;
}

static bool on_pong(void *ctx, struct peal_span payload)
{
    struct peal_ws_socket *s = ctx;
    if (s->conn.open) peal_conn_on_pong(&s->conn, payload);
    return s->conn.open;
}

static void on_close(void *ctx, uint16_t code, struct peal_span reason)
{
    struct peal_ws_socket *s = ctx;
    (void)reason;
    s->peer_closed = true;
    if (s->conn.open) {
        peal_conn_on_peer_close(&s->conn);
        peal_ws_add_close(&s->conn.hub->rendered, code, "");
        (void)peal_conn_push_or_drop(&s->conn); /* without room it sees the end of the stream */
    }
    peal_ws_output(&s->conn);
}

static const char *close_word(uint16_t code)
{
    switch (code) {
    case 1007:
        return "bad_utf8";
    case 1008:
        return "fragments";
    case 1009:
        return "too_large";
    default:
        return "protocol_error";
    }
}

void peal_ws_socket_drop_parser(struct peal_ws_socket *s)
{
    if (s->parser != NULL) peal_ws_parser_fini(s->parser);
    free(s->parser);
    s->parser = NULL;
}

/* Between two messages there is nothing to remember, and most reads end there: only who is in the
 * middle of one has a parser of his own. False: no memory. */
static bool keep_parser(struct peal_ws_socket *s, bool in_message)
{
    if (!in_message) {
        peal_ws_socket_drop_parser(s);
    } else if (s->parser == NULL) {
        s->parser = malloc(sizeof *s->parser);
        if (s->parser == NULL) {
            s->deaf = true;
            peal_ws_parser_fini(&s->server->parser);
            return false;
        }
        *s->parser = s->server->parser;
    }
    return true;
}

void peal_ws_socket_read(struct peal_ws_socket *s)
{
    struct peal_ws_server *server = s->server;
    ssize_t n = recv(s->fd, server->bytes, sizeof server->bytes, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (n <= 0) {
        peal_ws_socket_lose(s);
        return;
    }
    if (s->deaf) return;
    struct peal_ws_events events = {s, on_message, on_ping, on_pong, on_close};
    struct peal_ws_parser *parser = s->parser;
    if (parser == NULL) {
        parser = &server->parser;
        peal_ws_parser_init(parser, (uint32_t)s->conn.route->max_message);
    }
    uint32_t frames = 0;
    uint16_t code = peal_ws_feed(parser, server->bytes, (size_t)n, &events, &frames);
    s->deaf = parser->dead;
    bool in_message = !s->deaf && peal_ws_in_message(parser);
    if (code == 0 && !keep_parser(s, in_message)) code = 1011;
    if (code != 0) {
        /* After an error the stream cannot be read any further: say why and end. */
        peal_conn_close(&s->conn, code, close_word(code), PEAL_M_CLOSED_PROTOCOL);
        return;
    }
    peal_conn_on_frames(&s->conn, frames, in_message);
}

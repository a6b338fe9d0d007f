#include "node/handshake.h"

#include <stdio.h>
#include <strings.h>

#include "node/identity.h"
#include "node/wsframe.h"
#include "proto/group.h"
#include "proto/json_write.h"

/* From ?token=, Authorization or Sec-WebSocket-Protocol. Errors: PEAL_EBAD_FIELD. */
static enum peal_err find_token(struct peal_handshake *h)
{
    struct peal_span bearer = h->head.authorization;
    if (bearer.size > 7 && strncasecmp(bearer.at, "Bearer ", 7) == 0) {
        peal_buf_add(&h->token, bearer.at + 7, bearer.size - 7);
        h->has_token = true;
        return PEAL_OK;
    }
    size_t at = 0;
    struct peal_span item;
    while (peal_list_next(h->head.ws_protocol, &at, &item)) {
        if (!peal_span_starts(item, "peal.token.")) continue;
        peal_buf_add(&h->token, item.at + 11, item.size - 11);
        h->has_token = true;
        return PEAL_OK;
    }
    enum peal_err err = peal_query_get(h->head.query, "token", &h->token);
    if (err == PEAL_ENOT_FOUND) return PEAL_OK;
    h->has_token = err == PEAL_OK;
    return err;
}

static enum peal_err identify(struct peal_hub *hub, struct peal_handshake *h)
{
    const struct peal_config_route *route = h->match.route;
    bool native = peal_dialect_of((enum peal_dialect_kind)route->dialect)->hello;
    snprintf(h->why, sizeof h->why, "the token parameter is not well-formed");
    enum peal_err err = find_token(h);
    if (err != PEAL_OK) return err;
    if (h->has_token) {
        err = peal_identity_check(hub, route, peal_buf_span(&h->token), &h->open.claims, h->why,
                                  sizeof h->why);
        if (err != PEAL_OK) return err;
        h->open.has_token = true;
    }
    switch (route->identity) {
    case PEAL_IDENTITY_URL:
        h->open.user = peal_route_url_user(&h->match);
        snprintf(h->why, sizeof h->why, "the path names no user");
        return h->open.user.at == NULL ? PEAL_ENOT_FOUND : peal_name_check(h->open.user);
    case PEAL_IDENTITY_TOKEN:
        h->open.user = peal_span_of(h->open.claims.user);
        snprintf(h->why, sizeof h->why, "this route needs a token");
        if (!h->has_token && !native && !route->lenient) return PEAL_ETOKEN_MISSING;
        return PEAL_OK;
    default:
        return PEAL_OK;
    }
}

static void choose_protocol(struct peal_handshake *h)
{
    size_t at = 0;
    struct peal_span item;
    while (peal_list_next(h->head.ws_protocol, &at, &item))
        if (peal_span_is(item, "peal.v1.json")) h->protocol = item;
}

enum peal_err peal_handshake_admit(struct peal_handshake *h, struct peal_hub *hub)
{
    snprintf(h->why, sizeof h->why, "the path is not well-formed");
    enum peal_err err = peal_path_decode(h->head.path, &h->path);
    if (err != PEAL_OK) return err;
    snprintf(h->why, sizeof h->why, "no route has this path");
    err = peal_route_find(hub->config, peal_buf_span(&h->path), &h->match);
    if (err != PEAL_OK) return err;
    if (!peal_origin_allowed(h->match.route, hub->config->dev, h->head.origin, h->head.host)) {
        snprintf(h->why, sizeof h->why, "pages of this origin may not connect here");
        return PEAL_EFORBIDDEN;
    }
    err = identify(hub, h);
    if (err != PEAL_OK) return err;
    choose_protocol(h);
    h->open.match = &h->match;
    snprintf(h->why, sizeof h->why, "the route's groups cannot be joined");
    return PEAL_OK;
}

void peal_handshake_fini(struct peal_handshake *h)
{
    peal_buf_fini(&h->path);
    peal_buf_fini(&h->token);
    peal_claims_fini(&h->open.claims);
}

void peal_handshake_accept(const struct peal_handshake *h, struct peal_buf *out)
{
    char accept[29];
    peal_ws_accept(h->head.ws_key, accept);
    peal_buf_add_format(out,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n",
                        accept);
    if (h->protocol.at != NULL)
        peal_buf_add_format(out, "Sec-WebSocket-Protocol: %.*s\r\n", (int)h->protocol.size,
                            h->protocol.at);
    peal_buf_add_text(out, "\r\n");
}

static const char *status_text(int status)
{
    switch (status) {
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 426:
        return "Upgrade Required";
    case 431:
        return "Request Header Fields Too Large";
    case 503:
        return "Service Unavailable";
    default:
        return "Error";
    }
}

void peal_handshake_refuse(int status, enum peal_err err, const char *why, struct peal_buf *out)
{
    struct peal_buf body = {0};
    peal_buf_add_text(&body, "{\"error\":{\"code\":");
    peal_json_add_string(&body, peal_span_of(peal_err_word(err)));
    peal_buf_add_text(&body, ",\"message\":");
    peal_json_add_string(&body, peal_span_of(why));
    peal_buf_add_text(&body, "}}\n");
    peal_buf_add_format(out,
                        "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n"
                        "Content-Length: %zu\r\nConnection: close\r\n%s%s\r\n",
                        status, status_text(status), body.size,
                        status == 426 ? "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" : "",
                        status == 503 ? "Retry-After: 1\r\n" : "");
    peal_buf_add_span(out, peal_buf_span(&body));
    if (body.failed) out->failed = true;
    peal_buf_fini(&body);
}

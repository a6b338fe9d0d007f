/* node/head.h: a strict look at the head of one HTTP/1.1 request on the browser port.
 *
 * Every request is looked at here before anything else sees it. A plain WebSocket upgrade is
 * answered by us; everything else goes to the HTTP library with its socket untouched, but only
 * if it is well-formed: the known weak points of HTTP servers (bare LF, "Host :", two lengths,
 * length with chunked, obsolete folding, upgrades to h2c or anything unknown) end here. So do
 * bodies in chunks, which the HTTP library never answers, and targets that are no path: only
 * proxies send them, and the library would read them its own way.
 *
 * Thread: any; no state. Memory: spans point into the text.
 * Source: RFC 9112 sections 2, 3, 5, 6; RFC 6455 section 4.2.1. */
#ifndef PEAL_NODE_HEAD_H
#define PEAL_NODE_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/span.h"

struct peal_head {
    size_t size; /* bytes up to and with the empty line */
    struct peal_span method;
    struct peal_span target; /* as sent; begins with `/` */
    struct peal_span path;   /* target before `?`, not decoded */
    struct peal_span query;  /* behind `?`, absent when there is none */
    struct peal_span host;   /* peal_host_split takes it; absent only with HTTP/1.0 */
    struct peal_span origin; /* absent when not sent */
    struct peal_span authorization;
    struct peal_span cookie;
    struct peal_span upgrade;
    struct peal_span ws_key;
    struct peal_span ws_version;
    struct peal_span ws_protocol;   /* the lines joined are not needed: the first one */
    struct peal_span forwarded_for; /* the last line: the nearest proxy wrote it */
    bool connection_upgrade;        /* Connection lists `upgrade` */
    bool is_websocket;              /* a correct upgrade to WebSocket version 13 */
};

/* Looks at the bytes that arrived so far.
 * PEAL_EAGAIN: not complete yet. PEAL_OK: complete; is_websocket says whose it is.
 * PEAL_ETOO_LARGE (431): beyond PEAL_HEAD_MAX or PEAL_HEADERS_MAX. PEAL_EUPGRADE (426): WebSocket
 * in another version than 13. PEAL_EBAD_MESSAGE (400): malformed, or an upgrade to anything else
 * than websocket, or a WebSocket upgrade without GET, HTTP/1.1, Host, Connection: Upgrade or a key
 * of 16 bytes. why gets a sentence. */
enum peal_err peal_head_parse(struct peal_span text, struct peal_head *out, char *why,
                              size_t why_size);

/* Appends the value of a query parameter, percent-decoded (and `+` as blank), to out; of several
 * the first. Errors: PEAL_ENOT_FOUND, PEAL_EBAD_FIELD (bad escape), PEAL_ENOMEM; out is then as
 * it was. */
enum peal_err peal_query_get(struct peal_span query, const char *name, struct peal_buf *out);
/* Appends a path, percent-decoded once, to out. Errors: PEAL_EBAD_FIELD (bad escape, %00, not
 * UTF-8), PEAL_ENOMEM; out is then as it was. */
enum peal_err peal_path_decode(struct peal_span path, struct peal_buf *out);
/* One of a comma-separated list (Sec-WebSocket-Protocol, Connection): set *at to 0. */
bool peal_list_next(struct peal_span list, size_t *at, struct peal_span *item);
/* Splits `name`, `name:port` or `[ipv6]:port`; port is 0 when there is none. Errors:
 * PEAL_EBAD_FIELD for everything else, userinfo and an empty name among it. */
enum peal_err peal_host_split(struct peal_span text, struct peal_span *name, uint16_t *port);

#endif

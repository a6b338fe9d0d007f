/* node/http.h: HTTP on both listeners: the API for backends, and the few pages for browsers.
 *
 * libwebsockets reads HTTP/1.1; node/http.c is the only file that includes it. The worker
 * accepts and hands sockets over: those of the API listener as they are, those of the browser
 * listener after node/head.c has looked at them and found no WebSocket upgrade. The head of
 * every request, also of a second one on the same connection, is judged by node/gate.c before
 * the library may read it, and what is refused never reaches it. Upgrades of any kind are
 * refused without looking at the library's parameter.
 *
 * API listener, `Authorization: Bearer <key>` except for the first three:
 *   GET  /livez /readyz /metrics
 *   POST /v1/publish                      receipts as in docs/PROTOCOL.md
 *   GET  /v1/inbox/{user}?before&limit&unread_only
 *   POST /v1/inbox/{user}/ack | /read     {"upto": n} | {"offsets": [..]} | {"all": true}
 *   GET  /v1/presence?group               who is in a group
 *   GET  /v1/users/{user}                 is somebody there
 * Browser listener, each answer closes the connection:
 *   GET  /            the demo page, in dev mode
 *   POST /dev/token   {"user": name} -> {"token": ...}, in dev mode
 *   a route's path without an upgrade: 426; everything else: 404
 *
 * Thread: the worker that owns it; all on the worker's libuv loop. */
#ifndef PEAL_NODE_HTTP_H
#define PEAL_NODE_HTTP_H

#include <stdbool.h>

#include "node/http_shared.h"
#include "node/hub.h"

struct peal_http;

enum {
    PEAL_HTTP_CONNS_MAX = 1024,      /* per worker and listener; a backend needs a handful */
    PEAL_HTTP_BODIES_MAX = 64 << 20, /* bytes of all bodies that one worker takes in at once */
};

/* uv_loop is a uv_loop_t. NULL when libwebsockets cannot start. */
struct peal_http *peal_http_new(struct peal_hub *hub, const struct peal_http_shared *shared,
                                void *uv_loop);
/* Takes over a connected, non-blocking socket of which nothing was read. Closes it on failure. */
void peal_http_adopt(struct peal_http *http, int fd, bool api);
/* Closes connections that wait for another request. Those with one under way, and those that have
 * not said anything yet, go on. */
void peal_http_drain(struct peal_http *http);
/* Somebody waits for an answer, or may be about to ask. */
bool peal_http_busy(const struct peal_http *http);
/* Closes every connection and frees; runs the loop as long as libwebsockets needs. */
void peal_http_free(struct peal_http *http);

#endif

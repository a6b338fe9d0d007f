/* node/api.h: the calls of HTTP: what a request that passed the gate does, and what is answered.
 *
 * A call takes the request as node/gate.h read it and the body, asks the routers through the hub
 * when it has to, and ends with one answer: a status, a content type and the bytes. No sockets
 * and no HTTP library: node/http.c carries the bytes.
 *
 * Thread: the worker. Memory: the answer belongs to the call until peal_api_fini. */
#ifndef PEAL_NODE_API_H
#define PEAL_NODE_API_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "node/gate.h"
#include "node/http.h"
#include "node/hub.h"
#include "node/pubcall.h"

struct peal_api_answer {
    int status;
    const char *type;  /* Content-Type */
    uint64_t after_ms; /* of a refusal: try again after that; 0 = not known */
    struct peal_buf body;
};

struct peal_api_call {
    struct peal_hub *hub;
    const struct peal_http_shared *shared;
    enum peal_gate_call kind;
    struct peal_pubcall publish;
    struct peal_request request;
    struct peal_buf user; /* of an inbox, or who is asked for */
    bool list;            /* publish: answer with a list */
    struct peal_api_answer answer;
    void (*done)(void *ctx);
    void *ctx;
};

/* Makes call an empty one, which may be ended at once. */
void peal_api_init(struct peal_api_call *call, struct peal_hub *hub,
                   const struct peal_http_shared *shared);
/* Cancels what is under way and frees; done is not called any more. */
void peal_api_fini(struct peal_api_call *call);
/* Runs the request. done is called exactly once, perhaps before this returns; the answer is
 * then complete. gate and body may go as soon as this has returned. */
void peal_api_start(struct peal_api_call *call, const struct peal_gate *gate, struct peal_span body,
                    void (*done)(void *ctx), void *ctx);

/* Appends {"error":{"code","message","field"?,"after_ms"?}}; field NULL or "" for none, after_ms 0.
 */
void peal_api_add_error(struct peal_buf *out, const char *code, const char *message,
                        const char *field, uint64_t after_ms);

#endif

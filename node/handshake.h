/* node/handshake.h: may this WebSocket upgrade in, and what is it answered.
 *
 * Route, origin and identity are judged in this order, from the request head alone; the answers
 * (101 or an error with a JSON body) are rendered here and sent by the transport.
 *
 * Thread: the worker. Memory: borrows the head's text; peal_handshake_fini frees the rest.
 * Source: RFC 6455 sections 4.2 and 10.2. */
#ifndef PEAL_NODE_HANDSHAKE_H
#define PEAL_NODE_HANDSHAKE_H

#include "node/conn.h"
#include "node/head.h"

struct peal_handshake {
    struct peal_head head; /* parsed by the transport */
    struct peal_buf path;
    struct peal_buf token; /* empty when none was given */
    bool has_token;
    struct peal_route_match match;
    struct peal_span protocol;  /* that is answered; absent for none */
    struct peal_conn_open open; /* for peal_conn_init, once admitted */
    char why[160];              /* sentence for a refusal, also for one by peal_conn_init */
};

/* Errors: PEAL_EBAD_FIELD, PEAL_ENOT_FOUND, PEAL_EFORBIDDEN (origin), PEAL_ETOKEN_*,
 * PEAL_EBAD_GROUP (the name in the path), PEAL_ENOMEM, with a sentence in h->why. */
enum peal_err peal_handshake_admit(struct peal_handshake *h, struct peal_hub *hub);
void peal_handshake_fini(struct peal_handshake *h);
/* Appends the 101. */
void peal_handshake_accept(const struct peal_handshake *h, struct peal_buf *out);
/* Appends an answer with an error as JSON; the connection ends with it. */
void peal_handshake_refuse(int status, enum peal_err err, const char *why, struct peal_buf *out);

#endif

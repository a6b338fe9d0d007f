/* node/gate.h: what an HTTP request wants, and whether it may: judged by its head alone.
 *
 * One const table holds the pages and calls of both listeners (node/http.h). The head is read by
 * node/head.h, which is strict; on top of that a request must say in one way how long it is, name
 * one call, use its method, carry a key where one is needed, and be small enough. Everything
 * else is refused here, before its body is taken and before the HTTP library sees it: that
 * library decodes paths to its own taste (`%2F..%2F`, `+`, `;`) and takes what RFC 9112 refuses.
 *
 * Thread: any; no state. Memory: the caller ends a peal_gate with peal_gate_fini.
 * Source: RFC 9110, RFC 9112 section 6. */
#ifndef PEAL_NODE_GATE_H
#define PEAL_NODE_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/config.h"
#include "base/err.h"
#include "base/span.h"

enum peal_gate_call {
    PEAL_GATE_LIVEZ,
    PEAL_GATE_READYZ,
    PEAL_GATE_METRICS,
    PEAL_GATE_PUBLISH,
    PEAL_GATE_INBOX,
    PEAL_GATE_ACK,
    PEAL_GATE_READ,
    PEAL_GATE_PRESENCE,
    PEAL_GATE_USER,
    PEAL_GATE_PAGE,
    PEAL_GATE_TOKEN,
};

struct peal_gate_rules {
    const struct peal_config *config;
    bool api;                        /* which of the two listeners */
    bool page;                       /* there is a demo page */
    bool token;                      /* there is a secret that /dev/token signs with */
    unsigned char (*key_hashes)[32]; /* SHA-256 of each API key */
    size_t key_count;
};

struct peal_gate {
    enum peal_gate_call call;
    bool head_only;      /* HEAD: as GET, without the body */
    bool keep_alive;     /* the client may send another request after this one */
    bool wants_continue; /* it waits for 100 Continue before it sends its body */
    size_t head_size;
    uint64_t body_size;
    struct peal_buf user;  /* of an inbox, or who is asked for */
    struct peal_buf group; /* presence */
    uint64_t after;        /* presence: where the page begins */
    uint64_t before;       /* inbox: only older ones; 0 = from the newest */
    uint64_t limit;        /* inbox: 1..PEAL_PAGE_MESSAGES; presence: 1..PEAL_WHO_MAX */
    bool unread_only;
};

struct peal_gate_refusal {
    int status;
    const char *code; /* of the error object */
    char why[160];
    const char *field; /* NULL for none */
    const char *allow; /* 405: the methods that there are; else NULL */
};

/* Judges the bytes that arrived so far. Errors: PEAL_EAGAIN, the head is not complete; PEAL_ENOMEM
 * and all others: refused, *refusal says how, and *out needs no fini. */
enum peal_err peal_gate_judge(const struct peal_gate_rules *rules, struct peal_span text,
                              struct peal_gate *out, struct peal_gate_refusal *refusal);
void peal_gate_fini(struct peal_gate *gate);

#endif

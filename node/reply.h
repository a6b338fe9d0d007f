/* node/reply.h: the text of an answer over HTTP/1.1.
 *
 * Shape:  a status line, the headers that this kind of answer has, and the body.
 * Thread: any; no state. Memory: everything is borrowed; the text goes into the caller's buffer.
 * Errors: out->failed. Source: RFC 9110, RFC 9112; the headers are in docs/PROTOCOL.md. */
#ifndef PEAL_NODE_REPLY_H
#define PEAL_NODE_REPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/span.h"

struct peal_reply {
    int status;
    const char *type;
    const char *allow; /* NULL for none */
    bool close;
    bool page; /* carries the rules for what a page may do */
    bool head_only;
    uint64_t after_ms; /* with 429 and 503: when to try again; 0 = not known */
    struct peal_span body;
};

/* Appends the whole answer. */
void peal_reply_add(struct peal_buf *out, const struct peal_reply *r);

#endif

/* node/inbound.h: frames of a client that are data, in dialects that have no commands.
 *
 * The route says what becomes of them: refused, ignored, given back, or published to the
 * connection's first group.
 *
 * Thread: the worker. Memory: the payload is borrowed for the call. Errors: what is refused or too
 * large closes the connection, and so does an echo that its client does not read.
 * Source: docs/CONFIGURATION.md, "inbound". */
#ifndef PEAL_NODE_INBOUND_H
#define PEAL_NODE_INBOUND_H

#include "node/conn.h"

void peal_inbound_receive(struct peal_conn *conn, bool text, struct peal_span payload);

#endif

/* node/calls.h: requests to a router on behalf of one command, and the reply when they are
 * answered.
 *
 * Each (but an ack) ends in exactly one reply or error that carries the command's id, also after
 * silence of the router; or in none, when the connection goes first.
 *
 * Thread: the worker. Memory: a call belongs to its connection. */
#ifndef PEAL_NODE_CALLS_H
#define PEAL_NODE_CALLS_H

#include "node/conn.h"

enum peal_conn_call_kind {
    PEAL_CONN_CALL_PUBLISH,
    PEAL_CONN_CALL_ACK, /* answered only when it failed */
    PEAL_CONN_CALL_READ,
    PEAL_CONN_CALL_INBOX,
    PEAL_CONN_CALL_PRESENCE
};

/* Sends frame to the router of group. */
void peal_call_router(struct peal_conn *conn, enum peal_conn_call_kind kind, struct peal_span id,
                      struct peal_span group, struct peal_frame *frame);
/* Publishes env in the name of the connection's user. */
void peal_call_publish(struct peal_conn *conn, struct peal_span id, struct peal_envelope *env);
/* The connection ends. */
void peal_calls_cancel(struct peal_conn *conn);

#endif

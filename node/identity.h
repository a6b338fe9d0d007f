/* node/identity.h: who a connection is, as far as a token says so.
 *
 * The user is known from the handshake, or from the token of a hello. That may turn nobody into
 * somebody, never somebody into somebody else. What it adds to the rights of the configuration is
 * kept, and the connection ends when it expires; a token that says no more than who and until when
 * leaves nothing behind. What the user may do is known by node/rights.c.
 *
 * Thread: the worker. Memory: texts and claims belong to the connection. */
#ifndef PEAL_NODE_IDENTITY_H
#define PEAL_NODE_IDENTITY_H

#include "node/conn.h"

/* Who may connect by this route with this token? A sentence goes to why. The claims are filled when
 * a token was given and is good. Errors: PEAL_ETOKEN_*, PEAL_ENOMEM; with lenient routes only the
 * latter. */
enum peal_err peal_identity_check(struct peal_hub *hub, const struct peal_config_route *route,
                                  struct peal_span token, struct peal_claims *claims, char *why,
                                  size_t why_size);
/* Takes over what a good token says; claims are the connection's or freed, also on an error.
 * Errors: PEAL_ENOMEM. */
enum peal_err peal_identity_take(struct peal_conn *conn, struct peal_claims *claims);
/* Checks the token of a hello, and takes over what it says. Errors: those of the two before, and
 * PEAL_EFORBIDDEN: it is another user's. */
enum peal_err peal_identity_take_token(struct peal_conn *conn, struct peal_span token, char *why,
                                       size_t why_size);
/* Forgets what a token has added. */
void peal_identity_drop(struct peal_conn *conn);
/* Puts a copy in the place of a text of the connection. Errors: PEAL_ENOMEM, and the old one
 * stays. */
enum peal_err peal_identity_copy(char **to, struct peal_span from);

#endif

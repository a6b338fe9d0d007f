/* node/joins.h: joins of a client, from the question whether it may to what it is told.
 *
 * A join is answered by itself, or by the welcome when a hello asked for it: the welcome waits for
 * the positions of all of its groups, or PEAL_WELCOME_MS, and nothing is said before it. What is
 * still pending then is answered by itself, later. How a member gets its position is known by
 * node/member.c.
 *
 * Thread: the worker. Memory: a member belongs to its connection; conn->joins_owed counts those
 *         that the welcome waits for. */
#ifndef PEAL_NODE_JOINS_H
#define PEAL_NODE_JOINS_H

#include "node/conn.h"

/* Joins on behalf of a client. Errors: PEAL_EBAD_GROUP, PEAL_EFORBIDDEN, PEAL_ELIMIT, PEAL_ENOMEM,
 * with a sentence in why. */
enum peal_err peal_joins_add(struct peal_conn *conn, const struct peal_join *join,
                             const char **why);
/* The member's join is decided: answers the command or helps the welcome along. One that failed is
 * a member no more. */
void peal_joins_done(struct peal_conn *conn, struct peal_member *member);
void peal_joins_failed(struct peal_conn *conn, struct peal_member *member, enum peal_err err);
/* Answers the hello: now, or if its answer is still due and waits for no member any more. */
void peal_joins_welcome(struct peal_conn *conn);
void peal_joins_welcome_if_complete(struct peal_conn *conn);

#endif

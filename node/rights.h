/* node/rights.h: what the user of a connection may do: the group's policy, and what the token adds.
 *
 * Thread: the worker. */
#ifndef PEAL_NODE_RIGHTS_H
#define PEAL_NODE_RIGHTS_H

#include <stdbool.h>

#include "node/conn.h"

/* An inbox only by its own user, `sys:` by nobody, others by policy. */
bool peal_may_join(const struct peal_conn *conn, struct peal_span group);
/* `sys:` never; what the token's publish patterns allow; else by policy. */
bool peal_may_publish(struct peal_conn *conn, struct peal_span group);

#endif

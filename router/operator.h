/* router/operator.h: what `peal slots` asks of routers, by their ROUTER sockets.
 *
 * Blocks: for a command line, not for a server.
 *
 * Thread: one. Memory: an operator owns its sockets. */
#ifndef PEAL_ROUTER_OPERATOR_H
#define PEAL_ROUTER_OPERATOR_H

#include "base/bus_security.h"
#include "base/config.h"
#include "base/err.h"
#include "proto/slots.h"

struct peal_operator;

/* Connects to all of config->cluster.routers, which must outlive it. Errors: PEAL_ENOMEM,
 * PEAL_ECONFIG (an endpoint that ZeroMQ refuses), with a sentence in why. */
enum peal_err peal_operator_open(const struct peal_config *config,
                                 const struct peal_bus_security *security,
                                 struct peal_operator **out, char *why, size_t why_size);
void peal_operator_close(struct peal_operator *op); /* NULL is fine */
/* The table of one router. Errors: PEAL_ETIMEOUT, PEAL_EBAD_MESSAGE, PEAL_ENOMEM. */
enum peal_err peal_operator_table(struct peal_operator *op, size_t router, int timeout_ms,
                                  struct peal_slot slots[PEAL_SLOTS]);
/* Has router `from` give the slot to `to`, and waits until it has. Errors: PEAL_ETIMEOUT (it may
 * have happened), PEAL_ENOMEM, and what the router says, with its sentence in why: PEAL_EAGAIN,
 * PEAL_EFORBIDDEN, ... */
enum peal_err peal_operator_move(struct peal_operator *op, uint16_t slot, size_t from, size_t to,
                                 int timeout_ms, char *why, size_t why_size);

#endif

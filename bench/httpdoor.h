/* bench/httpdoor.h: the connections of the http door. Used by door.c only. */
#ifndef PEAL_BENCH_HTTPDOOR_H
#define PEAL_BENCH_HTTPDOOR_H

#include "base/buf.h"
#include "bench/plan.h"

struct peal_httpdoor;

/* NULL when a connection failed; why then has a sentence. */
struct peal_httpdoor *peal_httpdoor_new(const struct peal_plan *plan, char *why, size_t why_size);
void peal_httpdoor_free(struct peal_httpdoor *http);
/* Sends body on connection k % door_connections, after the answer to what went before has come.
 * Adds to *refused when that was not a 200. Errors: PEAL_EIO. */
enum peal_err peal_httpdoor_post(struct peal_httpdoor *http, uint32_t k, struct peal_span body,
                                 uint64_t *refused, char *why, size_t why_size);
/* Waits for all answers. Errors: PEAL_EIO. */
enum peal_err peal_httpdoor_settle(struct peal_httpdoor *http, uint64_t *refused, char *why,
                                   size_t why_size);

#endif

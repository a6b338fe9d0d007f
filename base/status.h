/* base/status.h: /livez, /readyz and /metrics of a process that has no web listener of its own.
 *
 * A small HTTP server (libmicrohttpd) with a thread of its own, which reads the counters and one
 * flag and nothing else: it answers also when every other thread is stuck. No key is asked for,
 * so it belongs on an address that the public cannot reach.
 *
 * GET and HEAD only. /livez is 200 as long as the process lives, /readyz 200 or 503, /metrics is
 * Prometheus' text format; other paths are 404, other methods 405.
 *
 * Shape:  at most 64 connections, closed after 10 s without traffic.
 * Thread: start and stop in main; peal_status_ready and peal_status_port anywhere. */
#ifndef PEAL_BASE_STATUS_H
#define PEAL_BASE_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct peal_status;

/* Listens on host:port (port 0 asks the kernel) and answers from now on; not ready at first.
 * Errors: PEAL_EINUSE, PEAL_EBAD_FIELD (no such address), PEAL_EIO, PEAL_ENOMEM, with a sentence
 * for people in why; *out is then NULL. */
enum peal_err peal_status_start(const char *listen, struct peal_status **out, char *why,
                                size_t why_size);
/* What /readyz says from now on. */
void peal_status_ready(struct peal_status *status, bool ready);
/* The port that is listened on. */
uint16_t peal_status_port(const struct peal_status *status);
/* Closes all connections, ends the thread and frees. NULL is fine. */
void peal_status_stop(struct peal_status *status);

#endif

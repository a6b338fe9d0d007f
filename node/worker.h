/* node/worker.h: a thread of a node: one event loop that owns a shard of the connections.
 *
 * The libuv loop watches three things: the mailbox (mails from the bus), the epoll descriptor
 * of node/ws.c, and a tick; libwebsockets and node/http.c add their own. Each turn of the loop ends
 * with one flush to the sockets and one wake of the bus.
 *
 * Thread: start and stop in main; everything else in the thread it starts. */
#ifndef PEAL_NODE_WORKER_H
#define PEAL_NODE_WORKER_H

#include "base/config.h"
#include "base/mailbox.h"
#include "node/bus.h"
#include "node/http.h"
#include "proto/token.h"

struct peal_worker;

struct peal_worker_options {
    const struct peal_config *config;
    const struct peal_token_keys *keys;
    const struct peal_http_shared *http;
    uint8_t index;
    uint8_t worker_count; /* of the node */
    uint64_t boot;        /* of the node */
    int listen_fd;        /* taken over, also on failure */
    int api_fd;           /* likewise */
};

/* Makes the worker and its mailbox; no thread yet. NULL when memory or descriptors are short. */
struct peal_worker *peal_worker_new(const struct peal_worker_options *options);
struct peal_mailbox *peal_worker_mailbox(struct peal_worker *worker);
/* Errors: PEAL_ENOMEM. bus must outlive the thread. */
enum peal_err peal_worker_start(struct peal_worker *worker, struct peal_bus *bus);
/* Tells the thread to let its clients go, in the time that the configuration gives them
 * (node/drain.h), and to end. Harmless when it was not started. */
void peal_worker_drain(struct peal_worker *worker);
/* Tells it to do that at once. */
void peal_worker_hurry(struct peal_worker *worker);
/* The thread has ended, or was never started. */
bool peal_worker_ended(const struct peal_worker *worker);
/* Waits for the end. Several workers are hurried before the first is waited for. */
void peal_worker_stop(struct peal_worker *worker);
void peal_worker_free(struct peal_worker *worker); /* after stop, and after the bus */

#endif

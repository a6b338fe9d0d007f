#include "node/node.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "node/http.h"
#include "node/listener.h"
#include "node/uplink.h"
#include "node/worker.h"
#include "proto/token.h"

struct peal_node {
    _Atomic bool ready;
    _Atomic bool draining;
    uint64_t boot;
    uint16_t port;
    uint16_t api_port;
    struct peal_token_keys *keys;
    struct peal_http_shared http;
    struct peal_bus *bus;
    struct peal_worker *workers[PEAL_WORKERS_MAX];
    size_t worker_count;
};

static size_t count_workers(const struct peal_config *config)
{
    if (config->workers > 0) return config->workers;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    /* Two at the least: one that is busy with a large request does not keep everybody waiting. */
    if (cores < 2) return 2;
    return cores > PEAL_WORKERS_MAX ? PEAL_WORKERS_MAX : (size_t)cores;
}

static enum peal_err load_keys(struct peal_node *node, const struct peal_node_options *o, char *why,
                               size_t why_size)
{
    node->keys = peal_token_keys_new();
    if (node->keys == NULL) return PEAL_ENOMEM;
    for (size_t i = 0; i < o->config->auth.key_count; i++) {
        struct peal_span secret = peal_span_of(o->config->auth.keys[i].secret);
        enum peal_err err = peal_token_keys_add_hs256(node->keys, secret);
        if (err == PEAL_OK) continue;
        snprintf(why, why_size, "auth.keys[%zu]: the secret must have at least 32 bytes", i);
        return err == PEAL_EBAD_FIELD ? PEAL_ECONFIG : err;
    }
    if (o->token_secret.at != NULL) return peal_token_keys_add_hs256(node->keys, o->token_secret);
    return PEAL_OK;
}

/* Every worker listens on the same port by SO_REUSEPORT. That would also let a second program of
 * the same user share it unnoticed, so the port is first tried alone. */
static enum peal_err open_listeners(struct peal_node *node, const struct peal_config *config,
                                    int fds[][2], char *why, size_t why_size)
{
    int probes[2] = {-1, -1};
    enum peal_err err =
        peal_listener_open("listen", config->listen, &node->port, true, &probes[0], why, why_size);
    /* Both at once: the kernel could otherwise choose the same port for both, and share it. */
    if (err == PEAL_OK)
        err = peal_listener_open("api.listen", config->api.listen, &node->api_port, true,
                                 &probes[1], why, why_size);
    for (int i = 0; i < 2; i++)
        if (probes[i] >= 0) close(probes[i]);
    if (err != PEAL_OK) return err;
    for (size_t i = 0; i < node->worker_count && err == PEAL_OK; i++) {
        err = peal_listener_open("listen", config->listen, &node->port, false, &fds[i][0], why,
                                 why_size);
        if (err == PEAL_OK)
            err = peal_listener_open("api.listen", config->api.listen, &node->api_port, false,
                                     &fds[i][1], why, why_size);
        for (int k = 0; k < 2 && err == PEAL_OK; k++)
            peal_listener_tune(fds[i][k], config->limits.unsent);
    }
    return err;
}

static enum peal_err make_workers(struct peal_node *node, const struct peal_config *config,
                                  int fds[][2])
{
    enum peal_err err = PEAL_OK;
    for (size_t i = 0; i < node->worker_count; i++) {
        struct peal_worker_options options = {.config = config,
                                              .keys = node->keys,
                                              .http = &node->http,
                                              .index = (uint8_t)i,
                                              .worker_count = (uint8_t)node->worker_count,
                                              .boot = node->boot,
                                              .listen_fd = fds[i][0],
                                              .api_fd = fds[i][1]};
        node->workers[i] = peal_worker_new(&options);
        fds[i][0] = fds[i][1] = -1;
        if (node->workers[i] == NULL) err = PEAL_ENOMEM;
    }
    return err;
}

enum peal_err peal_node_start(const struct peal_node_options *o, struct peal_node **out, char *why,
                              size_t why_size)
{
    int fds[PEAL_WORKERS_MAX][2];
    struct peal_mailbox *boxes[PEAL_WORKERS_MAX];
    *out = NULL;
    snprintf(why, why_size, "out of memory or descriptors");
    struct peal_node *node = calloc(1, sizeof *node);
    if (node == NULL) return PEAL_ENOMEM;
    node->boot = peal_random_u64();
    node->worker_count = count_workers(o->config);
    for (size_t i = 0; i < node->worker_count; i++)
        fds[i][0] = fds[i][1] = -1;

    enum peal_err err = load_keys(node, o, why, why_size);
    if (err == PEAL_OK) err = peal_http_shared_init(&node->http, o->config);
    node->http.ready = &node->ready;
    node->http.draining = &node->draining;
    node->http.demo_page = o->demo_page;
    node->http.token_secret = o->token_secret;
    if (err == PEAL_OK) err = open_listeners(node, o->config, fds, why, why_size);
    if (err == PEAL_OK) err = make_workers(node, o->config, fds);
    for (size_t i = 0; i < node->worker_count; i++) {
        if (fds[i][0] >= 0) close(fds[i][0]);
        if (fds[i][1] >= 0) close(fds[i][1]);
        if (node->workers[i] != NULL) boxes[i] = peal_worker_mailbox(node->workers[i]);
    }
    struct peal_bus_options bus = {.config = o->config,
                                   .security = o->security,
                                   .zmq = o->zmq,
                                   .boot = node->boot,
                                   .inproc_rpc = o->inproc_rpc,
                                   .inproc_xpub = o->inproc_xpub,
                                   .workers = boxes,
                                   .worker_count = (uint8_t)node->worker_count,
                                   .ready = &node->ready};
    if (err == PEAL_OK) err = peal_bus_start(&bus, &node->bus, why, why_size);
    for (size_t i = 0; i < node->worker_count && err == PEAL_OK; i++)
        err = peal_worker_start(node->workers[i], node->bus);
    if (err != PEAL_OK) {
        peal_node_stop(node);
        return err;
    }
    *out = node;
    return PEAL_OK;
}

void peal_node_drain(struct peal_node *node)
{
    atomic_store(&node->draining, true);
    for (size_t i = 0; i < node->worker_count; i++)
        peal_worker_drain(node->workers[i]);
}

bool peal_node_drained(const struct peal_node *node)
{
    for (size_t i = 0; i < node->worker_count; i++)
        if (!peal_worker_ended(node->workers[i])) return false;
    return true;
}

void peal_node_stop(struct peal_node *node)
{
    if (node == NULL) return;
    for (size_t i = 0; i < node->worker_count; i++)
        if (node->workers[i] != NULL) peal_worker_hurry(node->workers[i]);
    for (size_t i = 0; i < node->worker_count; i++)
        if (node->workers[i] != NULL) peal_worker_stop(node->workers[i]);
    peal_bus_stop(node->bus);
    for (size_t i = 0; i < node->worker_count; i++)
        peal_worker_free(node->workers[i]);
    peal_http_shared_fini(&node->http);
    peal_token_keys_free(node->keys);
    free(node);
}

uint16_t peal_node_port(const struct peal_node *node)
{
    return node->port;
}

uint16_t peal_node_api_port(const struct peal_node *node)
{
    return node->api_port;
}

bool peal_node_ready(const struct peal_node *node)
{
    return atomic_load(&node->ready);
}

#include "router/operator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "base/bus_socket.h"
#include "base/clock.h"
#include "base/limits.h"
#include "proto/wire.h"
#include "router/cluster.h"

struct peal_operator {
    void *zmq;
    uint64_t last_req;
    size_t count;
    void *sockets[];
};

void peal_operator_close(struct peal_operator *op)
{
    if (op == NULL) return;
    for (size_t i = 0; i < op->count; i++)
        if (op->sockets[i] != NULL) zmq_close(op->sockets[i]);
    if (op->zmq != NULL) zmq_ctx_term(op->zmq);
    free(op);
}

static void *open_socket(void *zmq, const char *endpoint, const struct peal_curve_pair *own,
                         const char *key)
{
    char id[PEAL_ROUTER_ID_SIZE];
    int zero = 0;
    int ipv6 = strchr(endpoint, '[') != NULL;
    void *socket = zmq_socket(zmq, ZMQ_DEALER);
    if (socket == NULL) return NULL;
    peal_bus_socket_bound(socket, PEAL_WIRE_BYTES_MAX);
    peal_operator_id_of(peal_random_u64(), id);
    if (zmq_setsockopt(socket, ZMQ_LINGER, &zero, sizeof zero) == 0 &&
        zmq_setsockopt(socket, ZMQ_IPV6, &ipv6, sizeof ipv6) == 0 &&
        zmq_setsockopt(socket, ZMQ_ROUTING_ID, id, sizeof id) == 0 &&
        peal_bus_socket_secure(socket, own, key) == PEAL_OK && zmq_connect(socket, endpoint) == 0)
        return socket;
    zmq_close(socket);
    return NULL;
}

enum peal_err peal_operator_open(const struct peal_config *config,
                                 const struct peal_bus_security *security,
                                 struct peal_operator **out, char *why, size_t why_size)
{
    size_t count = config->cluster.router_count;
    *out = NULL;
    snprintf(why, why_size, "out of memory");
    struct peal_operator *op = calloc(1, sizeof *op + count * sizeof op->sockets[0]);
    if (op == NULL) return PEAL_ENOMEM;
    op->zmq = zmq_ctx_new();
    for (op->count = 0; op->zmq != NULL && op->count < count; op->count++) {
        const char *endpoint = config->cluster.routers[op->count].rpc;
        op->sockets[op->count] =
            open_socket(op->zmq, endpoint, security->curve ? &security->own : NULL,
                        config->cluster.routers[op->count].key);
        if (op->sockets[op->count] != NULL) continue;
        snprintf(why, why_size, "cannot connect to %s: a bad endpoint, or a key is missing",
                 endpoint);
        peal_operator_close(op);
        return PEAL_ECONFIG;
    }
    if (op->zmq == NULL) {
        peal_operator_close(op);
        return PEAL_ENOMEM;
    }
    *out = op;
    return PEAL_OK;
}

static enum peal_err send_frame(void *socket, const struct peal_frame *frame)
{
    struct peal_buf buf = {0};
    peal_frame_encode(frame, &buf);
    enum peal_err err = buf.failed ? PEAL_ENOMEM : PEAL_OK;
    /* Into a queue of ZeroMQ: whether somebody is there shows by the answer. */
    if (err == PEAL_OK && zmq_send(socket, buf.at, buf.size, ZMQ_DONTWAIT) < 0) err = PEAL_ETIMEOUT;
    peal_buf_fini(&buf);
    return err;
}

/* The next frame until then; *message holds its bytes and is to be closed in any case. */
static enum peal_err receive(void *socket, uint64_t until_ms, zmq_msg_t *message,
                             struct peal_frame *frame)
{
    zmq_msg_init(message);
    for (;;) {
        uint64_t now_ms = peal_clock_mono_ms();
        zmq_pollitem_t item = {socket, 0, ZMQ_POLLIN, 0};
        if (now_ms >= until_ms) return PEAL_ETIMEOUT;
        if (zmq_poll(&item, 1, (long)(until_ms - now_ms)) > 0 &&
            zmq_msg_recv(message, socket, ZMQ_DONTWAIT) >= 0)
            return peal_frame_decode(peal_span_make(zmq_msg_data(message), zmq_msg_size(message)),
                                     frame);
    }
}

enum peal_err peal_operator_table(struct peal_operator *op, size_t router, int timeout_ms,
                                  struct peal_slot slots[PEAL_SLOTS])
{
    void *socket = op->sockets[router];
    struct peal_frame question = {.type = PEAL_F_SLOTS};
    struct peal_frame table;
    zmq_msg_t message;
    uint64_t until_ms = peal_clock_mono_ms() + (uint64_t)timeout_ms;
    enum peal_err err = send_frame(socket, &question);
    bool found = false;
    while (err == PEAL_OK && !found) {
        err = receive(socket, until_ms, &message, &table);
        if (err == PEAL_OK) {
            found = table.type == PEAL_F_SLOTS; /* else the late answer to another question */
            if (found) err = peal_slots_decode(table.offsets.at, table.offsets.count, slots);
            peal_frame_fini(&table);
        }
        zmq_msg_close(&message);
    }
    return err;
}

enum peal_err peal_operator_move(struct peal_operator *op, uint16_t slot, size_t from, size_t to,
                                 int timeout_ms, char *why, size_t why_size)
{
    void *socket = op->sockets[from];
    struct peal_frame move = {
        .type = PEAL_F_MOVE, .req = ++op->last_req, .slot = slot, .owner = to};
    struct peal_frame given;
    zmq_msg_t message;
    uint64_t until_ms = peal_clock_mono_ms() + (uint64_t)timeout_ms;
    snprintf(why, why_size, "it does not answer");
    enum peal_err err = send_frame(socket, &move);
    bool found = false;
    while (err == PEAL_OK && !found) {
        err = receive(socket, until_ms, &message, &given);
        if (err == PEAL_OK) {
            found = given.type == PEAL_F_GIVEN && given.req == move.req;
            if (found) {
                err = given.code < PEAL_ERR_COUNT ? (enum peal_err)given.code : PEAL_EINTERNAL;
                snprintf(why, why_size, "%.*s", (int)given.message.size,
                         given.message.size == 0 ? "" : given.message.at);
            }
            peal_frame_fini(&given);
        }
        zmq_msg_close(&message);
    }
    return err;
}

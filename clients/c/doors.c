#include <errno.h>
#include <string.h>
#include <zmq.h>

#include "base/bus_socket.h"
#include "base/clock.h"
#include "clients/c/answer.h"
#include "clients/c/message.h"
#include "clients/c/peal.h"
#include "clients/c/unpack.h"

/* Each call has a context and a socket of its own and closes both: a tool publishes once. */

struct door {
    void *context;
    void *socket;
};

static int timeout_of(uint64_t timeout_ms)
{
    if (timeout_ms == 0) return PEAL_CLIENT_TIMEOUT_MS;
    return timeout_ms > INT32_MAX ? INT32_MAX : (int)timeout_ms;
}

/* IMMEDIATE: without it a send succeeds into the queue of a peer that was never there, and the
 * caller learns nothing. With it the send waits for a connection, up to SNDTIMEO. */
static enum peal_err door_open(struct door *door, int type, const struct peal_client_door *to,
                               struct peal_client_answer *answer)
{
    int timeout = timeout_of(to->timeout_ms);
    int linger = type == ZMQ_PUSH ? timeout : 0; /* DEALER: the answer says that it arrived */
    int one = 1;
    *door = (struct door){.context = zmq_ctx_new()};
    if (door->context != NULL) door->socket = zmq_socket(door->context, type);
    if (door->socket == NULL ||
        zmq_setsockopt(door->socket, ZMQ_IMMEDIATE, &one, sizeof one) != 0 ||
        zmq_setsockopt(door->socket, ZMQ_SNDTIMEO, &timeout, sizeof timeout) != 0 ||
        zmq_setsockopt(door->socket, ZMQ_RCVTIMEO, &timeout, sizeof timeout) != 0 ||
        zmq_setsockopt(door->socket, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
        zmq_setsockopt(door->socket, ZMQ_IPV6, &one, sizeof one) != 0)
        return peal_answer_fail(answer, PEAL_ENOMEM, "ZeroMQ: %s", zmq_strerror(errno));
    peal_bus_socket_bound(door->socket, PEAL_CLIENT_BYTES_MAX);
    if (peal_bus_socket_secure(door->socket, to->own, to->router_key) != PEAL_OK)
        return peal_answer_fail(answer, PEAL_EBAD_FIELD, "The router's key is not one.");
    if (zmq_connect(door->socket, to->endpoint) != 0)
        return peal_answer_fail(answer, PEAL_EBAD_FIELD, "The endpoint cannot be used: %s",
                                zmq_strerror(errno));
    return PEAL_OK;
}

/* Accepts any half-open state. Waits for as long as the linger time. */
static void door_close(struct door *door)
{
    if (door->socket != NULL) zmq_close(door->socket);
    /* A signal interrupts the wait; the context must be gone all the same. */
    while (door->context != NULL && zmq_ctx_term(door->context) != 0 && errno == EINTR) {
    }
    *door = (struct door){0};
}

static enum peal_err door_send(const struct door *door, const struct peal_buf *bytes,
                               struct peal_client_answer *answer)
{
    if (zmq_send(door->socket, bytes->at, bytes->size, 0) >= 0) return PEAL_OK;
    if (errno == EAGAIN)
        return peal_answer_fail(answer, PEAL_ETIMEOUT, "Nobody answers at the endpoint.");
    return peal_answer_fail(answer, PEAL_EIO, "ZeroMQ: %s", zmq_strerror(errno));
}

/* Receives one message and leaves its last frame in `frame`; empty frames in front are echoes
 * of a REQ socket's delimiter. */
static enum peal_err door_receive(const struct door *door, zmq_msg_t *frame,
                                  struct peal_client_answer *answer)
{
    do {
        if (zmq_msg_recv(frame, door->socket, 0) >= 0) continue;
        if (errno == EAGAIN)
            return peal_answer_fail(answer, PEAL_ETIMEOUT, "There was no answer in time.");
        return peal_answer_fail(answer, PEAL_EIO, "ZeroMQ: %s", zmq_strerror(errno));
    } while (zmq_msg_more(frame));
    return PEAL_OK;
}

/* Answers to other requests are passed over until the deadline. */
static enum peal_err door_await(const struct door *door, uint64_t req, size_t count,
                                uint64_t deadline_ms, struct peal_client_answer *answer)
{
    zmq_msg_t frame;
    bool match = false;
    enum peal_err err = PEAL_OK;
    zmq_msg_init(&frame);
    while (err == PEAL_OK && !match) {
        uint64_t now = peal_clock_mono_ms();
        int left = now >= deadline_ms ? 0 : (int)(deadline_ms - now);
        zmq_setsockopt(door->socket, ZMQ_RCVTIMEO, &left, sizeof left);
        err = door_receive(door, &frame, answer);
        if (err != PEAL_OK) break;
        struct peal_span bytes = peal_span_make(zmq_msg_data(&frame), zmq_msg_size(&frame));
        err = peal_unpack_answer(bytes, req, count, &match, answer);
        if (err != PEAL_OK) peal_answer_fail(answer, err, "The answer cannot be read.");
    }
    zmq_msg_close(&frame);
    return err;
}

enum peal_err peal_client_push(const struct peal_client_door *to,
                               const struct peal_client_message *messages, size_t count,
                               struct peal_client_answer *answer)
{
    struct door door = {0};
    struct peal_buf bytes = {0};
    char why[sizeof answer->why] = "There is not enough memory.";
    *answer = (struct peal_client_answer){0};
    enum peal_err err = peal_message_json(messages, count, &bytes, why, sizeof why);
    if (err != PEAL_OK) peal_answer_fail(answer, err, "%s", why);
    if (err == PEAL_OK) err = door_open(&door, ZMQ_PUSH, to, answer);
    if (err == PEAL_OK) err = door_send(&door, &bytes, answer);
    door_close(&door);
    peal_buf_fini(&bytes);
    return err;
}

enum peal_err peal_client_rpc(const struct peal_client_door *to,
                              const struct peal_client_message *messages, size_t count,
                              struct peal_client_answer *answer)
{
    struct door door = {0};
    struct peal_buf bytes = {0};
    char why[sizeof answer->why] = "There is not enough memory.";
    uint64_t deadline_ms = peal_clock_mono_ms() + (uint64_t)timeout_of(to->timeout_ms);
    uint64_t req = peal_random_u64() & INT64_MAX; /* some languages have no larger integers */
    *answer = (struct peal_client_answer){0};
    enum peal_err err = peal_message_request(messages, count, req, &bytes, why, sizeof why);
    if (err != PEAL_OK) peal_answer_fail(answer, err, "%s", why);
    if (err == PEAL_OK) err = door_open(&door, ZMQ_DEALER, to, answer);
    if (err == PEAL_OK) err = door_send(&door, &bytes, answer);
    if (err == PEAL_OK) err = door_await(&door, req, count, deadline_ms, answer);
    door_close(&door);
    peal_buf_fini(&bytes);
    return err;
}

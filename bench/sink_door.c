#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "base/buf.h"
#include "bench/answer.h"
#include "bench/sink.h"

enum { CONNECT_MS = 10000, ZMQ_BUFFER = 1024 * 1024 };

struct door {
    void *zmq;
    void *socket;
    struct peal_buf out;
};

static enum peal_err zmq_failed(struct peal_sink *sink)
{
    return peal_sink_fail(sink, PEAL_EIO, "door", zmq_strerror(zmq_errno()));
}

static enum peal_err door_open(struct peal_sink *sink)
{
    int off = 0;
    int on = 1;
    int buffer = ZMQ_BUFFER;
    struct door *door = calloc(1, sizeof(*door));
    sink->self = door;
    if (door == NULL) return peal_sink_fail(sink, PEAL_ENOMEM, "door", "memory");
    door->zmq = zmq_ctx_new();
    door->socket = door->zmq == NULL ? NULL : zmq_socket(door->zmq, ZMQ_DEALER);
    if (door->socket == NULL) return zmq_failed(sink);
    zmq_setsockopt(door->socket, ZMQ_SNDHWM, &off, sizeof(off));
    zmq_setsockopt(door->socket, ZMQ_RCVHWM, &off, sizeof(off));
    zmq_setsockopt(door->socket, ZMQ_LINGER, &off, sizeof(off));
    zmq_setsockopt(door->socket, ZMQ_IMMEDIATE, &on, sizeof(on));
    zmq_setsockopt(door->socket, ZMQ_SNDBUF, &buffer, sizeof(buffer));
    if (zmq_connect(door->socket, sink->plan->endpoint) != 0) return zmq_failed(sink);
    /* With ZMQ_IMMEDIATE it is writable only once it is connected. */
    zmq_pollitem_t item = {.socket = door->socket, .events = ZMQ_POLLOUT};
    if (zmq_poll(&item, 1, CONNECT_MS) != 1)
        return peal_sink_fail(sink, PEAL_ETIMEOUT, "door", "nobody listens");
    return PEAL_OK;
}

static void door_close(struct peal_sink *sink)
{
    struct door *door = sink->self;
    if (door == NULL) return;
    if (door->socket != NULL) zmq_close(door->socket);
    if (door->zmq != NULL) zmq_ctx_term(door->zmq);
    peal_buf_fini(&door->out);
    free(door);
}

static int out_write(void *out, const char *at, size_t size)
{
    peal_buf_add(out, at, size);
    return 0;
}

static void pack_text(msgpack_packer *pack, struct peal_span text)
{
    msgpack_pack_str_with_body(pack, text.at, text.size);
}

static enum peal_err door_put(struct peal_sink *sink, uint32_t user, uint32_t slot,
                              struct peal_span payload)
{
    struct door *door = sink->self;
    char name[PEAL_KEEP_NAME_MAX];
    struct peal_span group = {name, peal_sink_user(user, name)};
    msgpack_packer pack;
    door->out.size = 0;
    msgpack_packer_init(&pack, &door->out, out_write);
    msgpack_pack_map(&pack, 3);
    pack_text(&pack, peal_span_of("op"));
    pack_text(&pack, peal_span_of("publish"));
    pack_text(&pack, peal_span_of("req"));
    msgpack_pack_uint32(&pack, slot);
    pack_text(&pack, peal_span_of("messages"));
    msgpack_pack_array(&pack, 1);
    msgpack_pack_map(&pack, 2);
    pack_text(&pack, peal_span_of("group"));
    pack_text(&pack, group);
    pack_text(&pack, peal_span_of("data"));
    pack_text(&pack, payload);
    if (door->out.failed) return peal_sink_fail(sink, PEAL_ENOMEM, "door", "memory");
    return zmq_send(door->socket, door->out.at, door->out.size, 0) < 0 ? zmq_failed(sink) : PEAL_OK;
}

static enum peal_err door_flush(struct peal_sink *sink)
{
    (void)sink;
    return PEAL_OK;
}

static enum peal_err take_answer(struct peal_sink *sink, zmq_msg_t *bytes)
{
    struct peal_answer said;
    if (!peal_answer_read(peal_span_make(zmq_msg_data(bytes), zmq_msg_size(bytes)), &said) ||
        said.req >= sink->plan->slots)
        return peal_sink_fail(sink, PEAL_EIO, "door", "an answer that nobody can read");
    sink->on_answer(sink->ctx, (uint32_t)said.req, said.stored);
    return PEAL_OK;
}

static enum peal_err door_take(struct peal_sink *sink, int wait_ms)
{
    struct door *door = sink->self;
    zmq_pollitem_t item = {.socket = door->socket, .events = ZMQ_POLLIN};
    if (zmq_poll(&item, 1, wait_ms) <= 0) return PEAL_OK;
    enum peal_err err = PEAL_OK;
    while (err == PEAL_OK) {
        zmq_msg_t answer;
        zmq_msg_init(&answer);
        if (zmq_msg_recv(&answer, door->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&answer);
            return zmq_errno() == EAGAIN ? PEAL_OK : zmq_failed(sink);
        }
        err = take_answer(sink, &answer);
        zmq_msg_close(&answer);
    }
    return err;
}

const struct peal_sink_kind peal_sink_door = {
    .name = "door",
    .open = door_open,
    .put = door_put,
    .flush = door_flush,
    .take = door_take,
    .close = door_close,
};

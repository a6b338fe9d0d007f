#include "bench/door.h"

#include <arpa/inet.h>
#include <errno.h>
#include <msgpack.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include "base/bus_socket.h"
#include "bench/answer.h"
#include "bench/httpdoor.h"

enum { DOOR_CALLS_MAX = 256, TIMEOUT_MS = 10000, ZMQ_BUFFER = 1024 * 1024 };

static enum peal_err fail(struct peal_door *door, enum peal_err err, const char *what,
                          const char *why)
{
    snprintf(door->why, sizeof(door->why), "%s: %s", what, why);
    return err;
}

/* ---- Opening ------------------------------------------------------------------------------ */

static enum peal_err floor_open(struct peal_door *door)
{
    char host[64] = "";
    unsigned port = 0;
    int on = 1;
    struct timeval timeout = {.tv_sec = TIMEOUT_MS / 1000};
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (sscanf(door->plan->endpoints[0], "tcp://%63[^:]:%u", host, &port) != 2 ||
        port > UINT16_MAX || inet_pton(AF_INET, host, &address.sin_addr) != 1)
        return fail(door, PEAL_EINVAL, "floor door", door->plan->endpoints[0]);
    address.sin_port = htons((uint16_t)port);
    door->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (door->fd < 0 || connect(door->fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        return fail(door, PEAL_EIO, "floor door", strerror(errno));
    setsockopt(door->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(door->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    return PEAL_OK;
}

/* ZMQ_IMMEDIATE makes a socket writable only once it is connected. */
static enum peal_err zmq_open_one(struct peal_door *door, int type, uint32_t i)
{
    int off = 0;
    int on = 1;
    int timeout = TIMEOUT_MS;
    int buffer = ZMQ_BUFFER;
    void *socket = zmq_socket(door->zmq, type);
    door->sockets[i] = socket;
    if (socket == NULL) return fail(door, PEAL_EIO, "zmq", zmq_strerror(zmq_errno()));
    zmq_setsockopt(socket, ZMQ_SNDHWM, &off, sizeof(off));
    zmq_setsockopt(socket, ZMQ_RCVHWM, &off, sizeof(off));
    zmq_setsockopt(socket, ZMQ_LINGER, &off, sizeof(off));
    zmq_setsockopt(socket, ZMQ_IMMEDIATE, &on, sizeof(on));
    zmq_setsockopt(socket, ZMQ_SNDTIMEO, &timeout, sizeof(timeout));
    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &timeout, sizeof(timeout));
    zmq_setsockopt(socket, ZMQ_SNDBUF, &buffer, sizeof(buffer));
    if (door->plan->bus_key != NULL) {
        struct peal_curve_pair own;
        enum peal_err err =
            peal_curve_read(door->plan->bus_key, &own, door->why, sizeof(door->why));
        if (err == PEAL_OK) err = peal_bus_socket_secure(socket, &own, door->plan->router_key);
        peal_curve_wipe(&own);
        if (err != PEAL_OK) return fail(door, err, "zmq", "the CURVE keys cannot be used");
    }
    if (zmq_connect(socket, door->plan->endpoints[i]) != 0)
        return fail(door, PEAL_EIO, "zmq", zmq_strerror(zmq_errno()));
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLOUT};
    if (zmq_poll(&item, 1, TIMEOUT_MS) != 1)
        return fail(door, PEAL_ETIMEOUT, "zmq", "nobody listens");
    return PEAL_OK;
}

static enum peal_err zmq_open(struct peal_door *door, int type)
{
    enum peal_err err = PEAL_OK;
    door->zmq = zmq_ctx_new();
    if (door->zmq == NULL) return fail(door, PEAL_EIO, "zmq", zmq_strerror(zmq_errno()));
    for (uint32_t i = 0; i < door->plan->endpoint_count && err == PEAL_OK; i++)
        err = zmq_open_one(door, type, i);
    return err;
}

enum peal_err peal_door_open(struct peal_door *door, const struct peal_plan *plan)
{
    *door = (struct peal_door){.plan = plan, .fd = -1};
    switch (plan->door) {
    case PEAL_DOOR_FLOOR:
        return floor_open(door);
    case PEAL_DOOR_PUSH:
        return zmq_open(door, ZMQ_PUSH);
    case PEAL_DOOR_RPC:
        return zmq_open(door, ZMQ_DEALER);
    case PEAL_DOOR_HTTP:
        door->http = peal_httpdoor_new(plan, door->why, sizeof(door->why));
        return door->http == NULL ? PEAL_EIO : PEAL_OK;
    case PEAL_DOOR_NONE:
        break;
    }
    return fail(door, PEAL_EINVAL, "door", "there is none");
}

void peal_door_close(struct peal_door *door)
{
    for (uint32_t i = 0; i < PEAL_PLAN_SERVERS_MAX; i++)
        if (door->sockets[i] != NULL) zmq_close(door->sockets[i]);
    if (door->zmq != NULL) zmq_ctx_term(door->zmq);
    peal_httpdoor_free(door->http);
    if (door->plan != NULL && door->fd >= 0) close(door->fd);
    peal_buf_fini(&door->out);
    *door = (struct peal_door){0};
}

/* ---- Bodies ------------------------------------------------------------------------------- */

static int out_write(void *out, const char *at, size_t size)
{
    peal_buf_add(out, at, size);
    return 0;
}

static void pack_text(msgpack_packer *pack, struct peal_span text)
{
    msgpack_pack_str_with_body(pack, text.at, text.size);
}

/* The quotes make a JSON string of the payload; a msgpack text has none. */
static void pack_message(msgpack_packer *pack, struct peal_span group, struct peal_span payload)
{
    msgpack_pack_map(pack, 2);
    pack_text(pack, peal_span_of("group"));
    pack_text(pack, group);
    pack_text(pack, peal_span_of("data"));
    pack_text(pack, peal_span_make(payload.at + 1, payload.size - 2));
}

static void add_json(struct peal_buf *out, struct peal_span group, struct peal_span payload)
{
    peal_buf_add_text(out, "{\"group\":\"");
    peal_buf_add_span(out, group);
    peal_buf_add_text(out, "\",\"data\":");
    peal_buf_add_span(out, payload);
    peal_buf_add_char(out, '}');
}

static void add_record(struct peal_buf *out, struct peal_span group, struct peal_span payload)
{
    uint16_t name_size = (uint16_t)group.size;
    uint32_t size = (uint32_t)(sizeof(size) + sizeof(name_size) + group.size + payload.size);
    peal_buf_add(out, &size, sizeof(size));
    peal_buf_add(out, &name_size, sizeof(name_size));
    peal_buf_add_span(out, group);
    peal_buf_add_span(out, payload);
}

/* ---- Answers of the acknowledged door ----------------------------------------------------- */

/* Takes one answer. PEAL_EAGAIN when none is there and nobody waits for it. */
static enum peal_err rpc_take(struct peal_door *door, bool wait)
{
    zmq_msg_t answer;
    zmq_msg_init(&answer);
    if (zmq_msg_recv(&answer, door->sockets[0], wait ? 0 : ZMQ_DONTWAIT) < 0) {
        int why = zmq_errno();
        zmq_msg_close(&answer);
        if (!wait && why == EAGAIN) return PEAL_EAGAIN;
        return fail(door, why == EAGAIN ? PEAL_ETIMEOUT : PEAL_EIO, "rpc door",
                    why == EAGAIN ? "no answer" : zmq_strerror(why));
    }
    door->under_way--;
    struct peal_answer said;
    if (!peal_answer_read(peal_span_make(zmq_msg_data(&answer), zmq_msg_size(&answer)), &said) ||
        !said.taken) {
        door->refused++;
        snprintf(door->why, sizeof(door->why), "rpc door: refused");
    }
    zmq_msg_close(&answer);
    return PEAL_OK;
}

/* ---- Publishing --------------------------------------------------------------------------- */

static enum peal_err zmq_out(struct peal_door *door, void *socket)
{
    if (!door->out.failed && zmq_send(socket, door->out.at, door->out.size, 0) >= 0) return PEAL_OK;
    int why = zmq_errno();
    return fail(door, PEAL_EIO, "zmq",
                why == EAGAIN ? "the server takes nothing any more" : zmq_strerror(why));
}

static enum peal_err push_publish(struct peal_door *door, uint32_t k, struct peal_span group,
                                  struct peal_span payload)
{
    msgpack_packer pack;
    door->out.size = 0;
    if (door->plan->json) {
        add_json(&door->out, group, payload);
    } else {
        msgpack_packer_init(&pack, &door->out, out_write);
        pack_message(&pack, group, payload);
    }
    return zmq_out(door, door->sockets[peal_plan_endpoint_of(door->plan, k)]);
}

static enum peal_err rpc_publish(struct peal_door *door, struct peal_span group,
                                 struct peal_span payload)
{
    msgpack_packer pack;
    enum peal_err err = PEAL_OK;
    while (err == PEAL_OK && door->under_way > 0)
        err = rpc_take(door, door->under_way >= DOOR_CALLS_MAX);
    if (err != PEAL_OK && err != PEAL_EAGAIN) return err;
    door->out.size = 0;
    msgpack_packer_init(&pack, &door->out, out_write);
    msgpack_pack_map(&pack, 3);
    pack_text(&pack, peal_span_of("op"));
    pack_text(&pack, peal_span_of("publish"));
    pack_text(&pack, peal_span_of("req"));
    msgpack_pack_uint64(&pack, ++door->calls);
    pack_text(&pack, peal_span_of("messages"));
    msgpack_pack_array(&pack, 1);
    pack_message(&pack, group, payload);
    err = zmq_out(door, door->sockets[0]);
    if (err == PEAL_OK) door->under_way++;
    return err;
}

enum peal_err peal_door_publish(struct peal_door *door, uint32_t k, struct peal_span payload)
{
    char name[PEAL_PLAN_GROUP_MAX];
    struct peal_span group = {name, peal_plan_group(door->plan, k, name)};
    switch (door->plan->door) {
    case PEAL_DOOR_FLOOR:
        add_record(&door->out, group, payload);
        return PEAL_OK;
    case PEAL_DOOR_PUSH:
        return push_publish(door, k, group, payload);
    case PEAL_DOOR_RPC:
        return rpc_publish(door, group, payload);
    case PEAL_DOOR_HTTP:
        door->out.size = 0;
        add_json(&door->out, group, payload);
        return peal_httpdoor_post(door->http, k, peal_buf_span(&door->out), &door->refused,
                                  door->why, sizeof(door->why));
    case PEAL_DOOR_NONE:
        break;
    }
    return PEAL_EINVAL;
}

enum peal_err peal_door_flush(struct peal_door *door)
{
    if (door->plan->door != PEAL_DOOR_FLOOR) return PEAL_OK;
    size_t done = 0;
    while (done < door->out.size) {
        ssize_t sent = send(door->fd, door->out.at + done, door->out.size - done, MSG_NOSIGNAL);
        if (sent < 0) return fail(door, PEAL_EIO, "floor door", strerror(errno));
        done += (size_t)sent;
    }
    door->out.size = 0;
    return door->out.failed ? fail(door, PEAL_EIO, "floor door", "memory") : PEAL_OK;
}

enum peal_err peal_door_settle(struct peal_door *door)
{
    enum peal_err err = PEAL_OK;
    while (err == PEAL_OK && door->under_way > 0)
        err = rpc_take(door, true);
    if (err != PEAL_OK || door->http == NULL) return err;
    return peal_httpdoor_settle(door->http, &door->refused, door->why, sizeof(door->why));
}

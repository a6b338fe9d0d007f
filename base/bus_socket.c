#include "base/bus_socket.h"

#include <stdint.h>
#include <string.h>
#include <zmq.h>

#include "base/assert.h"
#include "base/limits.h"

enum {
    /* A handshake takes two round trips with CURVE. Who opened a connection and says nothing holds
     * a descriptor for so long; ZeroMQ's own limit is three times that. */
    HANDSHAKE_MS = 10000,
    /* Peal's own beats judge whether a peer works (a hung process still answers these); they only
     * free what a peer that vanished without a word has left in the kernel. The peer is told to
     * take us for gone after the same time. */
    HEARTBEAT_MS = 2000,
    HEARTBEAT_TIMEOUT_MS = 6000,
    /* What CURVE adds to a frame (33 bytes), and the largest frame of its handshake: a limit on
     * what a message may have would otherwise forbid the handshake. */
    FRAME_OVERHEAD = 64,
    HANDSHAKE_BYTES = 2048,
};

/* The values are constants of ours or were checked; a failure is a bug. */
static void set(void *socket, int option, const void *value, size_t size)
{
    int rc = zmq_setsockopt(socket, option, value, size);
    PEAL_ASSERT(rc == 0);
}

static void set_int(void *socket, int option, int value)
{
    set(socket, option, &value, sizeof value);
}

void peal_bus_socket_bound(void *socket, size_t bytes_max)
{
    int64_t frame_max = (int64_t)bytes_max + FRAME_OVERHEAD;
    if (frame_max < HANDSHAKE_BYTES) frame_max = HANDSHAKE_BYTES;
    set(socket, ZMQ_MAXMSGSIZE, &frame_max, sizeof frame_max);
    set_int(socket, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS);
    set_int(socket, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS);
    set_int(socket, ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS);
    set_int(socket, ZMQ_HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS);
    /* The kernel doubles its pauses between tries of segments as well: it is to give up before. */
    set_int(socket, ZMQ_TCP_MAXRT, PEAL_UNACKED_MS);
}

void peal_bus_socket_guard(void *socket, const struct peal_curve_pair *own, const char *domain)
{
    set(socket, ZMQ_ZAP_DOMAIN, domain, strlen(domain));
    if (own == NULL) return;
    set_int(socket, ZMQ_CURVE_SERVER, 1);
    set(socket, ZMQ_CURVE_SECRETKEY, own->secret_key, sizeof own->secret_key);
}

enum peal_err peal_bus_socket_secure(void *socket, const struct peal_curve_pair *own,
                                     const char *server_key)
{
    unsigned char key[PEAL_CURVE_KEY_BYTES];
    if (own == NULL) return PEAL_OK;
    if (!peal_curve_decode(peal_span_of(server_key), key)) return PEAL_ECONFIG;
    set(socket, ZMQ_CURVE_SERVERKEY, key, sizeof key);
    set(socket, ZMQ_CURVE_PUBLICKEY, own->public_key, sizeof own->public_key);
    set(socket, ZMQ_CURVE_SECRETKEY, own->secret_key, sizeof own->secret_key);
    return PEAL_OK;
}

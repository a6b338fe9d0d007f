/* router/zap.h: the guard at the doors: who may come in at which, and who was turned away.
 *
 * It answers for every handshake. With CURVE by the peer's public key and the door it is at (the
 * ZAP domain of the socket): `node` may connect to all, `publisher` to pull and rpc. ZeroMQ then
 * gives each message of the connection the user id that the answer has, which says what its
 * sender may do (peal_zap_is_node). Without CURVE everybody is let in as a node; but being asked
 * makes ZeroMQ refuse peers older than ZMTP 3, and with them what is no ZMTP at all: bytes such as
 * an HTTP request would else be taken for frames of ZMTP 1.
 *
 * It counts connections, finished handshakes and failed ones, as ZeroMQ tells them, and logs what
 * is refused, at most one line a second.
 *
 * There is one handler per ZeroMQ context, so one guard per process.
 *
 * Thread: start and stop in the thread that owns the doors; it has one of its own.
 * Source: ZeroMQ RFC 27 (ZAP), RFC 25 (ZMTP-CURVE). */
#ifndef PEAL_ROUTER_ZAP_H
#define PEAL_ROUTER_ZAP_H

#include <stdbool.h>

#include "base/bus_security.h"
#include "base/err.h"
#include "base/span.h"

/* A request for an answer, RFC 27 section "ZAP Messages": borrowed parts. */
struct peal_zap_request {
    struct peal_span version;
    struct peal_span domain; /* `pull`, `rpc`, `xpub`, `relay` */
    struct peal_span mechanism;
    struct peal_span key; /* 32 bytes with CURVE, else absent */
};

enum peal_zap_verdict {
    PEAL_ZAP_YES,
    PEAL_ZAP_UNKNOWN_KEY, /* not in the list */
    PEAL_ZAP_WRONG_ROLE,  /* a publisher at a door for nodes */
    PEAL_ZAP_BAD_REQUEST  /* another mechanism, not a door of ours, not what RFC 27 says */
};

/* *who is the peer where its key is in the list, else NULL; without CURVE it always is. */
enum peal_zap_verdict peal_zap_judge(const struct peal_bus_security *security,
                                     const struct peal_zap_request *request,
                                     const struct peal_peers_entry **who);
/* May the sender of a message with this user id do what nodes do? NULL, a message without one:
 * no. */
bool peal_zap_is_node(const char *user_id);

/* A door to watch. */
struct peal_zap_door {
    const char *name; /* its ZAP domain; a relay has several of one name */
    void *socket;
};

struct peal_zap;

/* To be called before the doors are bound. security must outlive the guard. Errors: PEAL_ENOMEM,
 * PEAL_EIO, with a sentence in why. */
enum peal_err peal_zap_start(void *zmq, const struct peal_bus_security *security,
                             const struct peal_zap_door *doors, size_t door_count,
                             struct peal_zap **out, char *why, size_t why_size);
/* To be called before the doors are closed, and after they were read and written for the last
 * time: from now on nobody judges a handshake. NULL is fine. */
void peal_zap_stop(struct peal_zap *zap);

#endif

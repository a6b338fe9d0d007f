/* clients/c/peal.h: a small client of Peal, for backends, tools and tests.
 *
 * SYNOPSIS
 *     struct peal_client_message message = {
 *         .group = "news", .kind = PEAL_CLIENT_JSON, .data = "{\"n\":1}", .size = 7};
 *     struct peal_client_api api = {.url = "http://127.0.0.1:8081", .key = key};
 *     struct peal_client_answer answer = {0};
 *     if (peal_client_publish(&api, &message, 1, &answer) == PEAL_OK && answer.status == 200)
 *         puts_span(answer.body);
 *     peal_client_answer_fini(&answer);
 *
 * THREE WAYS TO PUBLISH
 *     peal_client_publish   HTTP. The answer says `routed` or `stored` for each message.
 *     peal_client_rpc       ZeroMQ, acknowledged. The same answer over a DEALER socket.
 *     peal_client_push      ZeroMQ, fire and forget. PEAL_OK says that the bytes were handed to
 *                           a connected peer and nothing about what became of them: a receiver
 *                           that dies takes what is in its socket buffers along.
 *     A message with an id can be sent again after a doubtful answer; Peal drops the repeat.
 *
 * WHEN THERE IS TOO MUCH TO DO
 *     Peal refuses what it has no room for and says when to come back. Nothing of it was taken:
 *         do
 *             err = peal_client_publish(&api, messages, count, &answer);
 *         while (err == PEAL_OK && peal_client_wait(&answer, deadline_ms));
 *     with the same messages and ids each time (and peal_client_answer_fini in between).
 *
 * TO LISTEN
 *     peal_client_subscribe   one WebSocket, until it is closed or told to stop.
 *
 * ANSWERS AND ERRORS
 *     A call returns PEAL_OK when there is an answer, also when the answer is a refusal: look at
 *     answer.status (an HTTP status, for all doors) and answer.body (JSON, as docs/PROTOCOL.md
 *     has it). Anything else means that there is no answer; answer.why says why in a sentence:
 *         PEAL_EBAD_FIELD   the arguments cannot be sent; nothing was
 *         PEAL_EIO          no connection, or it broke: the message may or may not have arrived
 *         PEAL_ETIMEOUT     no answer in time: the same doubt
 *         PEAL_EBAD_MESSAGE the answer is not what Peal would say
 *         PEAL_ETOO_LARGE   the answer, or a message that arrives, is larger than 8 MiB
 *         PEAL_ENOMEM
 *
 * Thread: every call is on its own and blocks; call from any thread. A program that uses threads
 *         calls curl_global_init first, as libcurl demands. peal_client_subscribe silences
 *         libwebsockets' log for the process.
 * Memory: arguments are borrowed for the call; an answer belongs to the caller.
 * Links:  base, libcurl, libzmq, libwebsockets, jansson, msgpack. Nothing of the server. */
#ifndef PEAL_CLIENTS_C_PEAL_H
#define PEAL_CLIENTS_C_PEAL_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/curve.h"
#include "base/err.h"
#include "base/span.h"

enum {
    PEAL_CLIENT_BYTES_MAX = 8 * 1024 * 1024, /* of an answer or an arriving message */
    PEAL_CLIENT_TIMEOUT_MS = 10000           /* where 0 is given */
};

enum peal_client_kind {
    PEAL_CLIENT_JSON,  /* data is one JSON value */
    PEAL_CLIENT_TEXT,  /* data is UTF-8 text */
    PEAL_CLIENT_BINARY /* data is bytes */
};

struct peal_client_message {
    const char *group; /* either group or user is set, the other one is NULL */
    const char *user;
    const char *event;    /* NULL: none */
    const char *id;       /* NULL: Peal makes one, and a repeat is a second message */
    const char *collapse; /* NULL: none */
    uint64_t ttl_ms;      /* 0: no limit of its own */
    enum peal_client_kind kind;
    const void *data;
    size_t size;
};

struct peal_client_answer {
    int status;           /* 200, or the HTTP status of the refusal; 0 without an answer */
    struct peal_buf body; /* JSON text */
    char why[160];        /* a sentence when there is no answer, else "" */
};

/* Frees the body. A zeroed answer is fine. */
void peal_client_answer_fini(struct peal_client_answer *answer);

/* Where the HTTP API is. */
struct peal_client_api {
    const char *url;     /* http[s]://host[:port], with or without a final slash */
    const char *key;     /* API key; NULL or empty: none is sent */
    uint64_t timeout_ms; /* for the whole call */
};

/* POST /v1/publish: one message as an object, several as a list. */
enum peal_err peal_client_publish(const struct peal_client_api *api,
                                  const struct peal_client_message *messages, size_t count,
                                  struct peal_client_answer *answer);

/* GET /v1/inbox/{user}: at most limit messages (0: as many as the server likes). */
enum peal_err peal_client_inbox(const struct peal_client_api *api, const char *user, uint64_t limit,
                                bool unread_only, struct peal_client_answer *answer);

/* A ZeroMQ door. Where it has CURVE both keys are given, else none. */
struct peal_client_door {
    const char *endpoint;              /* tcp://host:port */
    const struct peal_curve_pair *own; /* keys of this publisher, see base/curve.h */
    const char *router_key;            /* public key of the router, Z85 */
    uint64_t timeout_ms;
};

/* Sends to the PUSH door and waits up to timeout_ms for a connection, then as long again until
 * the bytes are with the kernel. Without a peer: PEAL_ETIMEOUT, and nothing was sent. There is no
 * body in the answer. */
enum peal_err peal_client_push(const struct peal_client_door *door,
                               const struct peal_client_message *messages, size_t count,
                               struct peal_client_answer *answer);

/* Sends to the acknowledged door and waits up to timeout_ms for the answer. The body is the receipt
 * for one message, {"results":[...]} for several; status is 200 when at least one was accepted,
 * else that of the first error. A JSON string cannot pass this door (msgpack has one kind of
 * string, and it means text): PEAL_EBAD_FIELD. */
enum peal_err peal_client_rpc(const struct peal_client_door *door,
                              const struct peal_client_message *messages, size_t count,
                              struct peal_client_answer *answer);

/* When to make the same call again, in ms; 0: not at all, the answer is no refusal for lack of room
 * (status 429 or 503; of several messages all were refused then). */
uint64_t peal_client_after_ms(const struct peal_client_answer *answer);
/* Sleeps for that long, and a random part of half of it more, so that those who were refused
 * together do not come back together. False, and at once, when there is nothing to wait for or not
 * until deadline_ms of the monotonic clock (base/clock.h). */
bool peal_client_wait(const struct peal_client_answer *answer, uint64_t deadline_ms);

struct peal_client_feed {
    const char *url;    /* ws[s]://host[:port]/path[?query] */
    const char *token;  /* NULL: none is sent */
    const char *device; /* stable id of this listener; NULL: none */
    const char *const *groups;
    size_t group_count; /* the inbox of the token's user comes without being named */
    /* One whole text message. Returning false ends the call. */
    bool (*on_message)(void *context, struct peal_span message);
    void *context;
    const volatile sig_atomic_t *stop; /* NULL, or ends the call within 0.1 s when not 0 */
};

struct peal_client_close {
    int code;         /* of the server's Close frame, 0 when there was none */
    int status;       /* HTTP status when the upgrade was refused, else 0 */
    char reason[160]; /* the server's word (`slow`, `drain`, ...) or what went wrong here */
};

/* Connects with subprotocol peal.v1.json, says hello with the groups, and hands over every text
 * message that arrives, `welcome` and errors included. Does not connect again.
 * PEAL_OK: stopped by the flag or by on_message. PEAL_EIO: could not connect, was refused, or was
 * closed; *close says which. Others as above. */
enum peal_err peal_client_subscribe(const struct peal_client_feed *feed,
                                    struct peal_client_close *close);

#endif

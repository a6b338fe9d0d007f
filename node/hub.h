/* node/hub.h: the brain of one worker: its connections, groups, and requests to routers.
 *
 * A state machine without sockets, threads or clock: letters from the bus, commands of clients
 * and time go in; orders to the bus and bytes in the connections' queues come out. The worker
 * (node/worker.c) gives it I/O.
 *
 * Thread: the worker that owns it. */
#ifndef PEAL_NODE_HUB_H
#define PEAL_NODE_HUB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/list.h"
#include "base/map.h"
#include "base/wheel.h"
#include "node/attendance.h"
#include "node/letter.h"
#include "node/outq.h"
#include "node/slotmap.h"
#include "node/turn.h"
#include "proto/token.h"

struct peal_conn;

struct peal_hub_io {
    void *ctx;
    /* Hands an order to the bus. Errors: PEAL_EFULL, and it stays with the hub. */
    enum peal_err (*order)(void *ctx, struct peal_order *order);
    /* conn has something to send; called at most until the transport has looked at it. */
    void (*output)(void *ctx, struct peal_conn *conn);
    /* Writes to conn what the kernel takes now, to make room in its queue. */
    void (*write)(void *ctx, struct peal_conn *conn);
    /* Nothing more is to be said to conn: cut it (at the end of the turn). */
    void (*cut)(void *ctx, struct peal_conn *conn);
};

struct peal_hub {
    const struct peal_config *config;
    const struct peal_token_keys *keys;
    struct peal_token_rules token_rules;
    struct peal_hub_io io;
    uint8_t worker;
    bool degraded;
    char node_name[17]; /* boot id in hex */
    uint64_t now_ms;
    uint64_t wall_ms;
    uint64_t last_req;
    struct peal_wheel wheel; /* of connections */
    struct peal_link conns;  /* all of them */
    size_t conn_count;
    struct peal_slotmap slots;     /* which publishes travel together; the bus has the last word */
    struct peal_map groups;        /* struct peal_group */
    struct peal_link unasked;      /* groups whose JOIN or LEAVE found the bus full */
    struct peal_link asked;        /* groups whose JOIN is not answered, oldest first */
    struct peal_link acks;         /* groups with acks to be joined, oldest first */
    struct peal_link ack_retries;  /* those that were not confirmed, likewise */
    struct peal_link fetch_wait;   /* members that want a page */
    size_t fetching;               /* pages under way, at most PEAL_REPAIRS_MAX */
    struct peal_map requests;      /* struct peal_request */
    struct peal_link requests_age; /* oldest first */
    struct peal_buf scratch;
    struct peal_buf rendered; /* the control frame that is being made */
    struct peal_outq_limits queue;
    struct peal_attendance attendance;
    struct peal_run_pool runs;
    struct peal_turn turn;
    bool writing; /* io.write is under way */
};

/* Errors: PEAL_ENOMEM; hub then needs no fini. keys may be NULL: no token is accepted. */
enum peal_err peal_hub_init(struct peal_hub *hub, const struct peal_config *config,
                            const struct peal_token_keys *keys, const struct peal_hub_io *io,
                            uint8_t worker, uint64_t boot, uint64_t now_ms);
/* All connections must be gone. */
void peal_hub_fini(struct peal_hub *hub);
void peal_hub_set_time(struct peal_hub *hub, uint64_t mono_ms, uint64_t wall_ms);
/* Takes one letter, whose memory must stay until the end of the turn (peal_turn_keep). */
void peal_hub_on_letter(struct peal_hub *hub, struct peal_letter *letter);
/* Takes all letters of a mail, and the mail itself, which is freed at the end of the turn. What
 * finding groups needs is fetched for several letters at once, because with many groups each find
 * is a wait for memory. */
void peal_hub_on_mail(struct peal_hub *hub, struct peal_mail *mail);
/* Gives the members of the groups what came for them. At the end of every turn, before the
 * connections are written. */
void peal_hub_end_turn(struct peal_hub *hub);
/* Timers, retries, joined acks. At least every PEAL_WHEEL_TICK_MS. */
void peal_hub_on_tick(struct peal_hub *hub);

/* A request to a router. Embedded in whoever waits; done is called exactly once, unless it is
 * cancelled before. answer is NULL after PEAL_REQUEST_MS of silence; its code may be an error. */
struct peal_request {
    struct peal_map_node node;
    struct peal_link by_age;
    uint64_t req;
    uint64_t due_ms;
    void (*done)(struct peal_request *request, const struct peal_frame *answer);
};
void peal_request_init(struct peal_request *request,
                       void (*done)(struct peal_request *, const struct peal_frame *));
/* Sends frame (its req is set here) to the router of group. Errors: PEAL_EQUEUE_FULL, PEAL_ENOMEM:
 * not sent, done is not called. */
enum peal_err peal_request_send(struct peal_hub *hub, struct peal_request *request,
                                struct peal_span group, struct peal_frame *frame);
void peal_request_cancel(struct peal_hub *hub, struct peal_request *request);
static inline bool peal_request_waits(const struct peal_request *request)
{
    return request->req != 0;
}
/* Sends frame to the router of group without wanting an answer. Errors: PEAL_EFULL, PEAL_ENOMEM. */
enum peal_err peal_hub_send(struct peal_hub *hub, struct peal_span group,
                            const struct peal_frame *frame);
/* Hands the bus a JOIN or LEAVE. Errors: PEAL_EFULL, PEAL_ENOMEM. */
enum peal_err peal_hub_order(struct peal_hub *hub, enum peal_order_kind kind, uint64_t req,
                             struct peal_span group);
uint64_t peal_hub_next_req(struct peal_hub *hub);

#endif

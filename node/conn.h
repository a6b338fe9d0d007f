/* node/conn.h: one connection: who it is, what it may, what it waits for.
 *
 * A state machine without sockets or clock. Its life: opened by the transport after the
 * handshake; a native one waits for `hello`; then commands come in, replies and messages go
 * into its queue; closing drops what was not begun, says farewell and waits for the transport.
 *
 * Thread: the worker. Memory: embedded in the transport's object, which frees it only after
 * peal_conn_fini and never inside a call of the connection. */
#ifndef PEAL_NODE_CONN_H
#define PEAL_NODE_CONN_H

#include "base/metrics.h"
#include "node/deadlines.h"
#include "node/dialect/dialect.h"
#include "node/hub.h"
#include "node/member.h"
#include "node/outq.h"
#include "node/route.h"
#include "proto/token.h"

/* What a delivery touches comes first, and an idle connection pays for no more than is here: the
 * rest hangs on pointers that are NULL until it is needed. */
struct peal_conn {
    struct peal_hub *hub;
    const struct peal_dialect *dialect;
    struct peal_outq outq;
    bool open;         /* not closing */
    bool full;         /* something did not fit; look again when there is room */
    bool ack_due;      /* dialects without acks: a ping shall follow what is queued */
    bool has_token;    /* one was shown, and is good or the route lenient */
    bool greeted;      /* dialects with hello: a valid hello has come */
    bool welcomed;     /* and was answered; others are welcomed at once */
    bool first_joined; /* the first member is of the route's first group */
    uint8_t bad_count; /* malformed messages in a row */
    uint16_t member_count;
    uint16_t joins_owed; /* members whose position the welcome waits for */
    enum peal_metric close_metric;
    const char *close_reason;
    uint64_t ack_upto;   /* the inbox offset that the ping carries */
    uint64_t ack_pinged; /* the newest one that a ping was sent for */
    const struct peal_config_route *route;
    struct peal_link members;
    struct peal_link in_hub;
    struct peal_link calls; /* requests under way (node/calls.c) */
    struct peal_deadlines deadlines;
    struct peal_claims *claims; /* NULL: no rights beyond the configuration's */
    char *user;                 /* NULL: nobody */
    char *device;               /* NULL: not told */
    char *hello_id;             /* JSON, while the welcome is owed */
    uint32_t frames_second;     /* that frames are counted in */
    uint32_t frames;
    uint64_t session; /* a random name of this connection */
};

/* What the handshake found out. Strings are copied; claims are taken over. */
struct peal_conn_open {
    const struct peal_route_match *match;
    struct peal_span user; /* absent: nobody */
    bool has_token;        /* and it was good */
    struct peal_claims claims;
};

/* Starts the connection: joins the route's groups, or waits for hello. Errors: PEAL_ENOMEM, and
 * what peal_route_fill says about the join templates; conn then needs no fini. */
enum peal_err peal_conn_init(struct peal_conn *conn, struct peal_hub *hub,
                             struct peal_conn_open *from);
/* Leaves all groups and drops the queue. */
void peal_conn_fini(struct peal_conn *conn);

/* The transport says: */
void peal_conn_on_receive(struct peal_conn *conn, bool text, struct peal_span payload);
void peal_conn_on_pong(struct peal_conn *conn, struct peal_span payload);
/* Counts frames, or commands that came in one, against PEAL_FRAMES_PER_S. False: it is closing. */
bool peal_conn_count(struct peal_conn *conn, uint32_t frames);
void peal_conn_on_frames(struct peal_conn *conn, uint32_t frames, bool in_message);
/* Bytes were sent: there may be room again. */
void peal_conn_on_sent(struct peal_conn *conn);
/* The peer is gone or said Close: no farewell any more. */
void peal_conn_on_peer_close(struct peal_conn *conn);

/* The rest of the node says: */
/* Queues messages, and says how many from the first one on: fewer than run->count when neither the
 * queue nor the kernel takes more. */
uint32_t peal_conn_deliver(struct peal_conn *conn, struct peal_run *run);
/* Renders and queues one message for this connection alone. Errors: PEAL_EFULL, PEAL_ENOMEM. */
enum peal_err peal_conn_message(struct peal_conn *conn, const struct peal_envelope *env,
                                const struct peal_message_facts *facts);
/* Queues the frame in hub->rendered as a control frame, which may go a little beyond the limits, or
 * alone when it is larger. Errors: PEAL_EFULL, PEAL_ENOMEM. */
enum peal_err peal_conn_push_rendered(struct peal_conn *conn);
/* The same, and one that does not fit is counted as dropped. */
enum peal_err peal_conn_push_or_drop(struct peal_conn *conn);
/* Renders an event that several connections of this dialect share; NULL: the dialect has it not, or
 * ENOMEM. The caller holds the reference. */
struct peal_run *peal_conn_render(struct peal_conn *conn, const struct peal_event *event);
/* Queues it as peal_conn_push_rendered does. Errors: the same. */
enum peal_err peal_conn_push(struct peal_conn *conn, struct peal_run *frame);
/* Renders and queues an event, if the dialect has it. What does not fit is dropped, and counted.
 * Errors: PEAL_EFULL. */
enum peal_err peal_conn_event(struct peal_conn *conn, const struct peal_event *event);
/* The same for who comes back with what does not fit: nothing is dropped then. */
enum peal_err peal_conn_try_event(struct peal_conn *conn, const struct peal_event *event);
/* Counts frames that were due and are given up, by what became of the connection, or else by err:
 * PEAL_ENOMEM, or no room. */
void peal_conn_count_dropped(const struct peal_conn *conn, uint32_t frames, enum peal_err err);
/* The same for an answer to a command: who sends commands without reading replies is closed as a
 * slow reader. */
void peal_conn_reply(struct peal_conn *conn, const struct peal_event *event);
void peal_conn_error(struct peal_conn *conn, struct peal_span id, struct peal_span group,
                     enum peal_err err, const char *message);
/* An inbox message was queued: dialects without acks ask for one by a ping behind it. */
void peal_conn_acked_by_ping(struct peal_conn *conn, uint64_t offset);
/* Says code to the client and ends the connection. reason is a literal word. */
void peal_conn_close(struct peal_conn *conn, uint16_t code, const char *reason,
                     enum peal_metric metric);
/* The connection has to leave: a client that can be told chooses a time within width_ms from in_ms
 * on, and who is still here when that is over is closed (4301). */
void peal_conn_goaway(struct peal_conn *conn, uint64_t in_ms, uint64_t width_ms);
/* Only tells the client. */
void peal_conn_say_goaway(struct peal_conn *conn, uint64_t in_ms, uint64_t width_ms);
/* Room for this many bytes of messages before the queue is half full. */
size_t peal_conn_room(const struct peal_conn *conn);
void peal_conn_on_timer(struct peal_conn *conn);

/* Its deadlines, for the files that work on a connection. */
static inline void peal_conn_set_due(struct peal_conn *conn, enum peal_deadline what, uint64_t ms)
{
    peal_deadline_set(&conn->deadlines, &conn->hub->wheel, what, conn->hub->now_ms, ms);
}
static inline void peal_conn_clear_due(struct peal_conn *conn, enum peal_deadline what)
{
    peal_deadline_clear(&conn->deadlines, &conn->hub->wheel, what);
}
static inline bool peal_conn_waits_for(const struct peal_conn *conn, enum peal_deadline what)
{
    return peal_deadline_waits(&conn->deadlines, what);
}

#endif

/* Replies and events go into the queue as control frames, which may exceed its limits a little;
 * messages may not. A connection that is told to close stays a member of its groups until the
 * transport frees it at the end of the turn: nobody who walks a group's members ever sees the
 * list change under him for more than the member at hand. */
#include "node/conn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "node/calls.h"
#include "node/identity.h"
#include "node/joins.h"

enum { RENDERED_KEPT = 65536 }; /* bytes: a buffer that one large frame made larger is given back */

/* ---- the queue ------------------------------------------------------------------------------- */

size_t peal_conn_room(const struct peal_conn *conn)
{
    const struct peal_outq_limits *limits = &conn->hub->queue;
    size_t half = limits->bytes_max / 2;
    if (conn->outq.frames >= (limits->frames_max + 1) / 2) return 0;
    return conn->outq.bytes >= half ? 0 : half - conn->outq.bytes;
}

/* Somebody is in the middle of giving this connection something: its members are not brought on
 * under his hands. What he gives will be sent as well, and then they are (peal_conn_on_sent). */
static void write_now(struct peal_conn *conn)
{
    struct peal_hub *hub = conn->hub;
    PEAL_ASSERT(!hub->writing);
    hub->writing = true;
    hub->io.write(hub->io.ctx, conn);
    hub->writing = false;
}

/* Many messages may be queued in one turn, which says nothing of the client yet: only what the
 * kernel does not take either is a full queue. Writing may find the connection gone. */
static bool make_room(struct peal_conn *conn)
{
    if (peal_outq_empty(&conn->outq)) return false;
    uint32_t before = conn->outq.bytes;
    write_now(conn);
    return conn->open && conn->outq.bytes < before;
}

void peal_conn_count_dropped(const struct peal_conn *conn, uint32_t frames, enum peal_err err)
{
    enum peal_metric why = err == PEAL_ENOMEM ? PEAL_M_DROPPED_MEMORY : PEAL_M_DROPPED_SLOW;
    peal_count(PEAL_M_DUE, frames);
    peal_count(conn->open ? why : PEAL_M_DROPPED_CLOSED, frames);
}

uint32_t peal_conn_deliver(struct peal_conn *conn, struct peal_run *run)
{
    struct peal_hub *hub = conn->hub;
    uint32_t taken = peal_outq_push(&conn->outq, &hub->queue, run);
    while (taken < run->count && make_room(conn)) {
        struct peal_run *tail = peal_run_part(run, taken, run->count - taken);
        uint32_t more = tail == NULL ? 0 : peal_outq_push(&conn->outq, &hub->queue, tail);
        peal_run_unref(tail);
        if (more == 0) break;
        taken += more;
    }
    if (taken == 0) return 0;
    peal_count(PEAL_M_DUE, taken);
    hub->io.output(hub->io.ctx, conn);
    return taken;
}

/* What is in hub->rendered as one run, which it is emptied for; NULL on ENOMEM. */
static struct peal_run *take_rendered(struct peal_hub *hub)
{
    struct peal_run *run = NULL;
    if (!hub->rendered.failed)
        run = peal_run_new(&hub->runs, peal_buf_span(&hub->rendered), NULL, 1);
    if (run == NULL || hub->rendered.capacity > RENDERED_KEPT) peal_buf_fini(&hub->rendered);
    hub->rendered.size = 0;
    return run;
}

enum peal_err peal_conn_message(struct peal_conn *conn, const struct peal_envelope *env,
                                const struct peal_message_facts *facts)
{
    conn->dialect->message(&conn->hub->rendered, env, facts);
    struct peal_run *run = take_rendered(conn->hub);
    if (run == NULL) return PEAL_ENOMEM;
    bool fits = peal_conn_deliver(conn, run) == 1;
    peal_run_unref(run);
    return fits ? PEAL_OK : PEAL_EFULL;
}

struct peal_run *peal_conn_render(struct peal_conn *conn, const struct peal_event *event)
{
    if (!(conn->dialect->events & (1u << event->type))) return NULL;
    conn->dialect->event(&conn->hub->rendered, event);
    return take_rendered(conn->hub);
}

enum peal_err peal_conn_push(struct peal_conn *conn, struct peal_run *frame)
{
    struct peal_hub *hub = conn->hub;
    enum peal_err err = peal_outq_push_control(&conn->outq, &hub->queue, frame);
    if (err != PEAL_OK && conn->open && make_room(conn))
        err = peal_outq_push_control(&conn->outq, &hub->queue, frame);
    /* A reply larger than the limits goes alone, as a large message does. */
    if (err != PEAL_OK && peal_outq_empty(&conn->outq) &&
        peal_outq_push(&conn->outq, &hub->queue, frame) == 1)
        err = PEAL_OK;
    if (err != PEAL_OK) return err;
    peal_count(PEAL_M_DUE, 1);
    hub->io.output(hub->io.ctx, conn);
    return PEAL_OK;
}

enum peal_err peal_conn_push_rendered(struct peal_conn *conn)
{
    struct peal_run *frame = take_rendered(conn->hub);
    if (frame == NULL) return PEAL_ENOMEM;
    enum peal_err err = peal_conn_push(conn, frame);
    peal_run_unref(frame);
    return err;
}

static enum peal_err push_event(struct peal_conn *conn, const struct peal_event *event)
{
    if (!conn->open) return PEAL_OK;
    if (!(conn->dialect->events & (1u << event->type))) return PEAL_OK;
    conn->dialect->event(&conn->hub->rendered, event);
    return peal_conn_push_rendered(conn);
}

enum peal_err peal_conn_try_event(struct peal_conn *conn, const struct peal_event *event)
{
    return push_event(conn, event) == PEAL_OK ? PEAL_OK : PEAL_EFULL;
}

enum peal_err peal_conn_push_or_drop(struct peal_conn *conn)
{
    enum peal_err err = peal_conn_push_rendered(conn);
    if (err != PEAL_OK) peal_conn_count_dropped(conn, 1, err);
    return err;
}

enum peal_err peal_conn_event(struct peal_conn *conn, const struct peal_event *event)
{
    enum peal_err err = push_event(conn, event);
    if (err == PEAL_OK) return PEAL_OK;
    peal_conn_count_dropped(conn, 1, err);
    return PEAL_EFULL;
}

void peal_conn_reply(struct peal_conn *conn, const struct peal_event *event)
{
    if (peal_conn_event(conn, event) != PEAL_OK)
        peal_conn_close(conn, 4208, "slow", PEAL_M_CLOSED_SLOW);
}

void peal_conn_error(struct peal_conn *conn, struct peal_span id, struct peal_span group,
                     enum peal_err err, const char *message)
{
    struct peal_event event = {
        .type = PEAL_EVENT_ERROR, .id = id, .group = group, .err = err, .message = message};
    peal_conn_reply(conn, &event);
}

/* ---- deadlines ------------------------------------------------------------------------------- */

static bool is_due(const struct peal_conn *conn, enum peal_deadline what)
{
    return peal_deadline_is_due(&conn->deadlines, what, conn->hub->now_ms);
}

static void send_ping(struct peal_conn *conn, struct peal_span payload)
{
    conn->dialect->ping(&conn->hub->rendered, payload);
    if (peal_conn_push_or_drop(conn) != PEAL_OK) {
        peal_conn_close(conn, 4208, "slow", PEAL_M_CLOSED_SLOW);
        return;
    }
    if (!peal_conn_waits_for(conn, PEAL_DUE_PONG))
        peal_conn_set_due(conn, PEAL_DUE_PONG, conn->hub->config->limits.pong_ms);
}

void peal_conn_on_timer(struct peal_conn *conn)
{
    if (is_due(conn, PEAL_DUE_CLOSE)) {
        conn->hub->io.cut(conn->hub->io.ctx, conn);
        return;
    }
    if (conn->open) {
        if (is_due(conn, PEAL_DUE_HELLO))
            peal_conn_close(conn, 4403, "token_missing", PEAL_M_CLOSED_TIMEOUT);
        else if (is_due(conn, PEAL_DUE_EXPIRE))
            peal_conn_close(conn, 4401, "token_expired", PEAL_M_CLOSED_POLICY);
        else if (is_due(conn, PEAL_DUE_MESSAGE))
            peal_conn_close(conn, 1008, "message_timeout", PEAL_M_CLOSED_TIMEOUT);
        else if (is_due(conn, PEAL_DUE_PONG))
            peal_conn_close(conn, 4101, "unavailable", PEAL_M_CLOSED_TIMEOUT);
        else if (is_due(conn, PEAL_DUE_DRAIN))
            peal_conn_close(conn, 4301, "drain", PEAL_M_CLOSED_SHUTDOWN);
    }
    if (conn->open && is_due(conn, PEAL_DUE_WELCOME)) peal_joins_welcome(conn);
    if (conn->open && is_due(conn, PEAL_DUE_PING)) {
        peal_conn_set_due(conn, PEAL_DUE_PING, conn->hub->config->limits.ping_ms);
        if (!peal_conn_waits_for(conn, PEAL_DUE_PONG)) send_ping(conn, peal_span_of(""));
    }
    peal_deadlines_rearm(&conn->deadlines, &conn->hub->wheel);
}

void peal_conn_say_goaway(struct peal_conn *conn, uint64_t in_ms, uint64_t width_ms)
{
    struct peal_event event = {.type = PEAL_EVENT_GOAWAY, .in_ms = in_ms, .spread_ms = width_ms};
    (void)peal_conn_event(conn, &event); /* one whose queue is full learns it from the close */
}

void peal_conn_goaway(struct peal_conn *conn, uint64_t in_ms, uint64_t width_ms)
{
    if (!conn->open) return;
    peal_conn_set_due(conn, PEAL_DUE_DRAIN, in_ms + width_ms);
    if (conn->welcomed) peal_conn_say_goaway(conn, in_ms, width_ms);
}

/* ---- the transport says ---------------------------------------------------------------------- */

void peal_conn_on_receive(struct peal_conn *conn, bool text, struct peal_span payload)
{
    /* What follows in the same bytes is another message. */
    peal_conn_clear_due(conn, PEAL_DUE_MESSAGE);
    if (conn->open) conn->dialect->receive(conn, text, payload);
}

void peal_conn_on_pong(struct peal_conn *conn, struct peal_span payload)
{
    peal_conn_clear_due(conn, PEAL_DUE_PONG);
    if (conn->dialect->acks || payload.size == 0) return;
    /* The payload is the offset that our ping carried; anything else is no ack. */
    uint64_t upto = 0;
    for (size_t i = 0; i < payload.size; i++) {
        if (payload.at[i] < '0' || payload.at[i] > '9' || i == 16) return;
        upto = upto * 10 + (uint64_t)(payload.at[i] - '0');
    }
    if (upto > conn->ack_pinged) return;
    struct peal_member *m = peal_member_find_inbox(conn);
    if (m != NULL) peal_group_ack(m->group, upto);
}

bool peal_conn_count(struct peal_conn *conn, uint32_t frames)
{
    uint32_t second = (uint32_t)(conn->hub->now_ms / 1000);
    if (second != conn->frames_second) {
        conn->frames_second = second;
        conn->frames = 0;
    }
    conn->frames += frames;
    if (conn->frames > PEAL_FRAMES_PER_S)
        peal_conn_close(conn, 4129, "rate_limited", PEAL_M_CLOSED_POLICY);
    return conn->open;
}

void peal_conn_on_frames(struct peal_conn *conn, uint32_t frames, bool in_message)
{
    if (!conn->open || !peal_conn_count(conn, frames)) return;
    if (!in_message)
        peal_conn_clear_due(conn, PEAL_DUE_MESSAGE);
    else if (!peal_conn_waits_for(conn, PEAL_DUE_MESSAGE))
        peal_conn_set_due(conn, PEAL_DUE_MESSAGE, PEAL_CONTINUATION_MS);
}

void peal_conn_on_sent(struct peal_conn *conn)
{
    if (!conn->open || conn->hub->writing) return;
    if (conn->full && peal_conn_room(conn) > 0) {
        conn->full = false;
        PEAL_LIST_EACH(&conn->members, it, after)
        peal_member_pump(PEAL_FROM_LINK(it, struct peal_member, in_conn));
    }
    /* Everything is with the kernel: a pong to what follows means the device has it. */
    if (!conn->ack_due || !peal_outq_empty(&conn->outq)) return;
    char payload[24];
    int size = snprintf(payload, sizeof payload, "%llu", (unsigned long long)conn->ack_upto);
    conn->ack_due = false;
    conn->ack_pinged = conn->ack_upto;
    send_ping(conn, peal_span_make(payload, (size_t)size));
}

void peal_conn_acked_by_ping(struct peal_conn *conn, uint64_t offset)
{
    if (conn->dialect->acks) return;
    conn->ack_due = true;
    conn->ack_upto = offset;
}

/* From here on it counts as gone, though the transport may take a while to end it. */
static void end_open(struct peal_conn *conn)
{
    if (conn->open) peal_attendance_close(conn);
    conn->open = false;
}

void peal_conn_on_peer_close(struct peal_conn *conn)
{
    if (!conn->open) return;
    end_open(conn);
    conn->close_reason = "peer";
    conn->close_metric = PEAL_M_CLOSED_PEER;
    peal_conn_set_due(conn, PEAL_DUE_CLOSE, PEAL_CLOSE_MS);
}

void peal_conn_close(struct peal_conn *conn, uint16_t code, const char *reason,
                     enum peal_metric metric)
{
    /* What was said before, such as why, goes out first if the client takes it; writing may find
     * the connection gone, or close it. */
    if (conn->open && metric != PEAL_M_CLOSED_SLOW && !peal_outq_empty(&conn->outq))
        write_now(conn);
    if (!conn->open) return;
    end_open(conn);
    conn->close_reason = reason;
    conn->close_metric = metric;
    peal_conn_set_due(conn, PEAL_DUE_CLOSE, PEAL_CLOSE_MS);
    uint32_t bytes = conn->outq.bytes;
    uint32_t dropped = peal_outq_drop_unsent(&conn->outq);
    peal_count(metric == PEAL_M_CLOSED_SLOW ? PEAL_M_DROPPED_SLOW : PEAL_M_DROPPED_CLOSED, dropped);
    peal_log(PEAL_LOG_INFO, "conn.closed", "reason=%s code=%u session=%016llx queue_bytes=%u",
             reason, code, (unsigned long long)conn->session, bytes);
    /* Without memory for it the client sees the end of the stream. */
    conn->dialect->farewell(&conn->hub->rendered, code, reason);
    if (peal_conn_push_or_drop(conn) != PEAL_OK) conn->hub->io.output(conn->hub->io.ctx, conn);
}

/* ---- life ------------------------------------------------------------------------------------ */

/* Joins the groups of the route's templates. */
static enum peal_err join_route(struct peal_conn *conn, const struct peal_route_match *match)
{
    struct peal_span identity = peal_span_of(conn->user);
    for (size_t i = 0; i < conn->route->join.count; i++) {
        struct peal_buf name = {0};
        struct peal_member *m;
        enum peal_err err = peal_route_fill(match, conn->route->join.at[i], identity, &name);
        /* Lenient routes: who is nobody joins no group of a user. */
        if (err == PEAL_EFORBIDDEN && conn->route->lenient) {
            peal_buf_fini(&name);
            continue;
        }
        struct peal_join with = {.group = peal_buf_span(&name)};
        if (err == PEAL_OK && peal_member_find(conn, with.group) == NULL)
            err = peal_member_add(conn, &with, &m);
        if (err == PEAL_OK) conn->first_joined = true;
        peal_buf_fini(&name);
        if (err != PEAL_OK) return err;
    }
    return PEAL_OK;
}

enum peal_err peal_conn_init(struct peal_conn *conn, struct peal_hub *hub,
                             struct peal_conn_open *from)
{
    const struct peal_config_route *route = from->match->route;
    *conn = (struct peal_conn){.hub = hub, .route = route, .open = true};
    conn->dialect = peal_dialect_of((enum peal_dialect_kind)route->dialect);
    conn->close_reason = "peer";
    conn->close_metric = PEAL_M_CLOSED_PEER;
    peal_link_init(&conn->members);
    peal_link_init(&conn->calls);
    peal_deadlines_init(&conn->deadlines);
    peal_outq_init(&conn->outq);
    conn->session = peal_random_u64();
    peal_list_append(&hub->conns, &conn->in_hub);
    hub->conn_count++;
    peal_count(PEAL_M_CONNS, 1);

    enum peal_err err = PEAL_OK;
    if (from->user.at != NULL) err = peal_identity_copy(&conn->user, from->user);
    if (err == PEAL_OK && from->has_token) err = peal_identity_take(conn, &from->claims);
    if (err == PEAL_OK && conn->dialect->hello) {
        peal_conn_set_due(conn, PEAL_DUE_HELLO, PEAL_HELLO_MS);
    } else if (err == PEAL_OK) {
        conn->greeted = true;
        conn->welcomed = true;
        err = join_route(conn, from->match);
    }
    if (err != PEAL_OK) {
        peal_conn_fini(conn);
        return err;
    }
    peal_conn_set_due(conn, PEAL_DUE_PING, hub->config->limits.ping_ms);
    return PEAL_OK;
}

void peal_conn_fini(struct peal_conn *conn)
{
    end_open(conn);
    peal_calls_cancel(conn);
    PEAL_LIST_EACH(&conn->members, it, after)
    peal_member_remove(PEAL_FROM_LINK(it, struct peal_member, in_conn));
    peal_deadlines_fini(&conn->deadlines);
    peal_count(PEAL_M_DROPPED_CLOSED, conn->outq.frames);
    peal_outq_fini(&conn->outq);
    peal_identity_drop(conn);
    peal_list_remove(&conn->in_hub);
    conn->hub->conn_count--;
    peal_count(PEAL_M_CONNS, -1);
    peal_count(conn->close_metric, 1);
    free(conn->user);
    free(conn->device);
    free(conn->hello_id);
}

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
#include "node/rights.h"
#include "proto/group.h"
#include "proto/json.h"

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

static void set_due(struct peal_conn *conn, enum peal_deadline what, uint64_t ms)
{
    peal_deadline_set(&conn->deadlines, &conn->hub->wheel, what, conn->hub->now_ms, ms);
}

static void clear_due(struct peal_conn *conn, enum peal_deadline what)
{
    peal_deadline_clear(&conn->deadlines, &conn->hub->wheel, what);
}

static bool is_due(const struct peal_conn *conn, enum peal_deadline what)
{
    return peal_deadline_is_due(&conn->deadlines, what, conn->hub->now_ms);
}

static bool waits_for(const struct peal_conn *conn, enum peal_deadline what)
{
    return peal_deadline_waits(&conn->deadlines, what);
}

static void send_welcome(struct peal_conn *conn);

static void send_ping(struct peal_conn *conn, struct peal_span payload)
{
    conn->dialect->ping(&conn->hub->rendered, payload);
    if (peal_conn_push_or_drop(conn) != PEAL_OK) {
        peal_conn_close(conn, 4208, "slow", PEAL_M_CLOSED_SLOW);
        return;
    }
    if (!waits_for(conn, PEAL_DUE_PONG))
        set_due(conn, PEAL_DUE_PONG, conn->hub->config->limits.pong_ms);
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
    if (conn->open && is_due(conn, PEAL_DUE_WELCOME)) send_welcome(conn);
    if (conn->open && is_due(conn, PEAL_DUE_PING)) {
        set_due(conn, PEAL_DUE_PING, conn->hub->config->limits.ping_ms);
        if (!waits_for(conn, PEAL_DUE_PONG)) send_ping(conn, peal_span_of(""));
    }
    peal_deadlines_rearm(&conn->deadlines, &conn->hub->wheel);
}

static void say_goaway(struct peal_conn *conn, uint64_t in_ms, uint64_t width_ms)
{
    struct peal_event event = {.type = PEAL_EVENT_GOAWAY, .in_ms = in_ms, .spread_ms = width_ms};
    (void)peal_conn_event(conn, &event); /* one whose queue is full learns it from the close */
}

void peal_conn_goaway(struct peal_conn *conn, uint64_t in_ms, uint64_t width_ms)
{
    if (!conn->open) return;
    set_due(conn, PEAL_DUE_DRAIN, in_ms + width_ms);
    if (conn->welcomed) say_goaway(conn, in_ms, width_ms);
}

/* ---- the transport says ---------------------------------------------------------------------- */

void peal_conn_on_receive(struct peal_conn *conn, bool text, struct peal_span payload)
{
    clear_due(conn, PEAL_DUE_MESSAGE); /* what follows in the same bytes is another message */
    if (conn->open) conn->dialect->receive(conn, text, payload);
}

static struct peal_member *inbox_member(struct peal_conn *conn)
{
    PEAL_LIST_EACH(&conn->members, it, after)
    {
        struct peal_member *m = PEAL_FROM_LINK(it, struct peal_member, in_conn);
        if (m->group->inbox) return m;
    }
    return NULL;
}

void peal_conn_on_pong(struct peal_conn *conn, struct peal_span payload)
{
    clear_due(conn, PEAL_DUE_PONG);
    if (conn->dialect->acks || payload.size == 0) return;
    /* The payload is the offset that our ping carried; anything else is no ack. */
    uint64_t upto = 0;
    for (size_t i = 0; i < payload.size; i++) {
        if (payload.at[i] < '0' || payload.at[i] > '9' || i == 16) return;
        upto = upto * 10 + (uint64_t)(payload.at[i] - '0');
    }
    if (upto > conn->ack_pinged) return;
    struct peal_member *m = inbox_member(conn);
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
        clear_due(conn, PEAL_DUE_MESSAGE);
    else if (!waits_for(conn, PEAL_DUE_MESSAGE))
        set_due(conn, PEAL_DUE_MESSAGE, PEAL_CONTINUATION_MS);
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
    set_due(conn, PEAL_DUE_CLOSE, PEAL_CLOSE_MS);
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
    set_due(conn, PEAL_DUE_CLOSE, PEAL_CLOSE_MS);
    uint32_t bytes = conn->outq.bytes;
    uint32_t dropped = peal_outq_drop_unsent(&conn->outq);
    peal_count(metric == PEAL_M_CLOSED_SLOW ? PEAL_M_DROPPED_SLOW : PEAL_M_DROPPED_CLOSED, dropped);
    peal_log(PEAL_LOG_INFO, "conn.closed", "reason=%s code=%u session=%016llx queue_bytes=%u",
             reason, code, (unsigned long long)conn->session, bytes);
    /* Without memory for it the client sees the end of the stream. */
    conn->dialect->farewell(&conn->hub->rendered, code, reason);
    if (peal_conn_push_or_drop(conn) != PEAL_OK) conn->hub->io.output(conn->hub->io.ctx, conn);
}

/* ---- joining --------------------------------------------------------------------------------- */

/* Joins on behalf of a client. Errors: PEAL_EBAD_GROUP, PEAL_EFORBIDDEN, PEAL_ELIMIT, PEAL_ENOMEM.
 */
static enum peal_err join(struct peal_conn *conn, const struct peal_join *join, const char **why)
{
    struct peal_member *m;
    *why = "a group name has 1..200 bytes of UTF-8 without control characters";
    if (peal_name_check(join->group) != PEAL_OK) return PEAL_EBAD_GROUP;
    *why = "not allowed to join this group";
    if (!peal_may_join(conn, join->group)) return PEAL_EFORBIDDEN;
    *why = "already a member of this group";
    if (peal_member_find(conn, join->group) != NULL) return PEAL_ELIMIT;
    *why = "too many groups on this connection";
    if (conn->member_count >= conn->hub->config->limits.groups_per_connection) return PEAL_ELIMIT;
    *why = "out of memory";
    return peal_member_add(conn, join, &m);
}

static struct peal_span json_id(const char *id)
{
    return peal_span_of(id);
}

static void welcome_if_complete(struct peal_conn *conn)
{
    if (waits_for(conn, PEAL_DUE_WELCOME) && conn->joins_owed == 0) send_welcome(conn);
}

void peal_conn_joined(struct peal_conn *conn, struct peal_member *m)
{
    struct peal_pursuit *p = m->pursuit;
    if (p == NULL || p->answer == PEAL_ANSWER_NONE) return;
    if (!conn->welcomed) { /* nothing is said before the welcome */
        if (p->answer == PEAL_ANSWER_WELCOME) conn->joins_owed--;
        welcome_if_complete(conn);
        return;
    }
    struct peal_event event = {.type = PEAL_EVENT_JOINED,
                               .id = json_id(p->id),
                               .group = peal_group_span(m->group),
                               .epoch = p->epoch,
                               .offset = p->cursor,
                               .unread = m->group->unread,
                               .rev = m->group->rev,
                               .recovered = p->recovered};
    p->answer = PEAL_ANSWER_NONE;
    peal_conn_reply(conn, &event);
    peal_member_answered(m);
}

void peal_conn_join_failed(struct peal_conn *conn, struct peal_member *m, enum peal_err err)
{
    const struct peal_pursuit *p = m->pursuit;
    bool owed = p->answer == PEAL_ANSWER_WELCOME && !conn->welcomed;
    if (p->answer != PEAL_ANSWER_NONE)
        peal_conn_error(conn, json_id(p->id), peal_group_span(m->group), err, "not joined");
    peal_member_remove(m);
    if (!owed) return;
    conn->joins_owed--;
    welcome_if_complete(conn);
}

static void send_welcome(struct peal_conn *conn)
{
    clear_due(conn, PEAL_DUE_WELCOME);
    conn->welcomed = true;
    struct peal_event event = {
        .type = PEAL_EVENT_WELCOME, .id = json_id(conn->hello_id), .conn = conn};
    peal_conn_reply(conn, &event);
    free(conn->hello_id);
    conn->hello_id = NULL;
    if (conn->open && conn->hub->degraded) {
        struct peal_event degraded = {.type = PEAL_EVENT_DEGRADED, .on = true};
        peal_conn_reply(conn, &degraded);
    }
    /* The end of its slot is all that is still known; nobody waits for this one to choose. */
    if (conn->open && waits_for(conn, PEAL_DUE_DRAIN))
        say_goaway(conn, peal_deadline_left(&conn->deadlines, PEAL_DUE_DRAIN, conn->hub->now_ms),
                   0);
    PEAL_LIST_EACH(&conn->members, it, after)
    {
        struct peal_member *m = PEAL_FROM_LINK(it, struct peal_member, in_conn);
        struct peal_pursuit *p = m->pursuit;
        if (p != NULL && p->recovered != PEAL_RECOVERED_PENDING) {
            if (p->answer == PEAL_ANSWER_JOINED)
                peal_conn_joined(conn, m);
            else
                peal_member_answered(m);
        }
        peal_member_pump(m);
    }
}

static enum peal_err set_text(char **to, struct peal_span from)
{
    char *copy = strndup(from.at, from.size);
    if (copy == NULL) return PEAL_ENOMEM;
    free(*to);
    *to = copy;
    return PEAL_OK;
}

/* ---- commands -------------------------------------------------------------------------------- */

void peal_conn_bad(struct peal_conn *conn, struct peal_span id, enum peal_err err,
                   const char *message)
{
    peal_conn_error(conn, id, (struct peal_span){0}, err, message);
    if (++conn->bad_count >= 3) peal_conn_close(conn, 4000, "bad_message", PEAL_M_CLOSED_PROTOCOL);
}

static void drop_claims(struct peal_conn *conn)
{
    if (conn->claims != NULL) peal_claims_fini(conn->claims);
    free(conn->claims);
    conn->claims = NULL;
}

/* Takes over what a good token says. Most say no more than who and until when, which needs no
 * memory of its own. Errors: PEAL_ENOMEM. */
static enum peal_err take_claims(struct peal_conn *conn, struct peal_claims *claims)
{
    struct peal_claims *kept = NULL;
    uint64_t expires_ms = claims->expires_ms;
    if (claims->group_count > 0 || claims->publish_count > 0) {
        kept = malloc(sizeof *kept);
        if (kept == NULL) {
            peal_claims_fini(claims);
            return PEAL_ENOMEM;
        }
        *kept = *claims;
        *claims = (struct peal_claims){0};
    }
    peal_claims_fini(claims);
    drop_claims(conn);
    conn->claims = kept;
    conn->has_token = true;
    clear_due(conn, PEAL_DUE_EXPIRE);
    if (expires_ms == 0) return PEAL_OK;
    uint64_t at_ms = expires_ms + conn->hub->token_rules.leeway_ms;
    set_due(conn, PEAL_DUE_EXPIRE, at_ms > conn->hub->wall_ms ? at_ms - conn->hub->wall_ms : 1);
    return PEAL_OK;
}

/* The token of a hello: may turn nobody into somebody, never somebody into somebody else. */
static enum peal_err take_token(struct peal_conn *conn, struct peal_span token, char *why,
                                size_t why_size)
{
    struct peal_claims claims;
    enum peal_err err =
        peal_conn_authenticate(conn->hub, conn->route, token, &claims, why, why_size);
    if (err != PEAL_OK) return err;
    if (conn->user != NULL && conn->route->identity == PEAL_IDENTITY_TOKEN &&
        (claims.user == NULL || strcmp(conn->user, claims.user) != 0)) {
        snprintf(why, why_size, "the token is of another user");
        err = PEAL_EFORBIDDEN;
    } else if (conn->user == NULL && claims.user != NULL &&
               conn->route->identity == PEAL_IDENTITY_TOKEN) {
        err = set_text(&conn->user, peal_span_of(claims.user));
    }
    if (err != PEAL_OK) {
        peal_claims_fini(&claims);
        return err;
    }
    return take_claims(conn, &claims);
}

static bool hello_join(struct peal_conn *conn, struct peal_join *with)
{
    const char *why;
    with->answer = PEAL_ANSWER_WELCOME;
    conn->joins_owed++;
    enum peal_err err = join(conn, with, &why);
    if (err == PEAL_OK) return true;
    conn->joins_owed--;
    peal_conn_error(conn, (struct peal_span){0}, with->group, err, why);
    return conn->open;
}

static void hello_joins(struct peal_conn *conn, const struct peal_command *cmd)
{
    if (conn->user != NULL) {
        struct peal_buf name = {0};
        struct peal_join inbox = {
            .has_since = cmd->has_inbox, .epoch = cmd->inbox_epoch, .offset = cmd->inbox_offset};
        bool fine = peal_group_of_user(peal_span_of(conn->user), &name) == PEAL_OK;
        inbox.group = peal_buf_span(&name);
        if (fine) fine = hello_join(conn, &inbox);
        peal_buf_fini(&name);
        if (!fine && !conn->open) return;
    }
    for (size_t i = 0; i < cmd->group_count; i++)
        if (!hello_join(conn, &cmd->groups[i])) return;
}

void peal_conn_hello(struct peal_conn *conn, const struct peal_command *cmd)
{
    char why[160];
    if (conn->greeted) {
        peal_conn_bad(conn, cmd->id, PEAL_EBAD_MESSAGE, "hello was said already");
        return;
    }
    enum peal_err err = PEAL_OK;
    if (cmd->token.at != NULL) {
        err = take_token(conn, cmd->token, why, sizeof why);
    } else if (conn->route->identity == PEAL_IDENTITY_TOKEN && !conn->has_token &&
               !conn->route->lenient) {
        snprintf(why, sizeof why, "this route needs a token");
        err = PEAL_ETOKEN_MISSING;
    }
    if (err == PEAL_OK && cmd->device.at != NULL) err = set_text(&conn->device, cmd->device);
    if (err == PEAL_OK && cmd->id.at != NULL) err = set_text(&conn->hello_id, cmd->id);
    if (err != PEAL_OK) {
        peal_conn_bad(conn, cmd->id, err, err == PEAL_ENOMEM ? "out of memory" : why);
        return;
    }
    conn->greeted = true;
    conn->bad_count = 0;
    clear_due(conn, PEAL_DUE_HELLO);
    set_due(conn, PEAL_DUE_WELCOME, PEAL_WELCOME_MS);
    /* One more than there are, so that it is complete only when all are asked for. */
    conn->joins_owed = 1;
    hello_joins(conn, cmd);
    conn->joins_owed--;
    if (conn->open) welcome_if_complete(conn);
}

static bool need_hello(struct peal_conn *conn, const struct peal_command *cmd)
{
    if (conn->greeted) return false;
    peal_conn_bad(conn, cmd->id, PEAL_EBAD_MESSAGE, "say hello first");
    return true;
}

static const char presence_is_off[] = "presence is off for this group";

void peal_conn_join(struct peal_conn *conn, const struct peal_command *cmd)
{
    if (need_hello(conn, cmd)) return;
    struct peal_join with = {.group = cmd->group,
                             .has_since = cmd->has_since,
                             .epoch = cmd->since_epoch,
                             .offset = cmd->since_offset,
                             .last = cmd->last,
                             .answer = PEAL_ANSWER_JOINED,
                             .id = cmd->id};
    const char *why;
    enum peal_err err = PEAL_EBAD_FIELD;
    if (cmd->presence && !peal_attendance_wanted(conn->hub, cmd->group))
        why = presence_is_off;
    else
        err = join(conn, &with, &why);
    if (err != PEAL_OK) {
        peal_conn_error(conn, cmd->id, cmd->group, err, why);
        return;
    }
    struct peal_member *m = cmd->presence ? peal_member_find(conn, cmd->group) : NULL;
    if (m != NULL && peal_attendance_watch(m) != PEAL_OK)
        peal_conn_close(conn, 4101, "unavailable", PEAL_M_CLOSED_POLICY); /* no memory */
}

void peal_conn_leave(struct peal_conn *conn, const struct peal_command *cmd)
{
    if (need_hello(conn, cmd)) return;
    struct peal_member *m = peal_member_find(conn, cmd->group);
    if (m == NULL) {
        peal_conn_error(conn, cmd->id, cmd->group, PEAL_ENOT_FOUND, "not a member of this group");
        return;
    }
    peal_turn_flush_group(conn->hub, m->group); /* what came before the leave */
    struct peal_pursuit *p = m->pursuit;
    if (p != NULL && p->answer == PEAL_ANSWER_WELCOME && p->recovered == PEAL_RECOVERED_PENDING &&
        !conn->welcomed)
        conn->joins_owed--;
    /* The join that this overtakes is answered as well. */
    if (p != NULL && p->answer == PEAL_ANSWER_JOINED)
        peal_conn_error(conn, json_id(p->id), cmd->group, PEAL_ENOT_FOUND,
                        "left before it was joined");
    peal_member_remove(m);
    struct peal_event event = {.type = PEAL_EVENT_LEFT, .id = cmd->id, .group = cmd->group};
    peal_conn_reply(conn, &event);
    welcome_if_complete(conn);
}

void peal_conn_publish(struct peal_conn *conn, const struct peal_command *cmd)
{
    if (need_hello(conn, cmd)) return;
    struct peal_buf name = {0};
    struct peal_envelope env = cmd->env;
    env.group = cmd->group;
    enum peal_err err = PEAL_OK;
    const char *why = "";
    if (cmd->user.at != NULL) {
        err = peal_group_of_user(cmd->user, &name);
        env.group = peal_buf_span(&name);
    }
    bool nobody = peal_span_is(env.group, "user:"); /* an inbox of no user */
    if (err != PEAL_OK || nobody || peal_name_check(env.group) != PEAL_OK) {
        err = PEAL_EBAD_GROUP;
        why = "a group name has 1..200 bytes of UTF-8 without control characters";
    } else if (!peal_may_publish(conn, env.group)) {
        err = PEAL_EFORBIDDEN;
        why = "not allowed to publish to this group";
    } else if (env.data.size > conn->hub->config->limits.message) {
        err = PEAL_ETOO_LARGE;
        why = "data is larger than limits.message";
    }
    if (err == PEAL_OK)
        peal_call_publish(conn, cmd->id, &env);
    else
        peal_conn_error(conn, cmd->id, cmd->group, err, why);
    peal_buf_fini(&name);
}

static struct peal_member *need_inbox(struct peal_conn *conn, const struct peal_command *cmd)
{
    if (need_hello(conn, cmd)) return NULL;
    struct peal_member *m = inbox_member(conn);
    if (m == NULL)
        peal_conn_error(conn, cmd->id, (struct peal_span){0}, PEAL_EFORBIDDEN,
                        "this connection has no inbox");
    return m;
}

void peal_conn_ack(struct peal_conn *conn, const struct peal_command *cmd)
{
    struct peal_member *m = need_inbox(conn, cmd);
    if (m == NULL) return;
    if (cmd->upto != 0) peal_group_ack(m->group, cmd->upto);
    if (cmd->offset_count == 0) return;
    struct peal_frame mark = {
        .type = PEAL_F_MARK, .group = peal_group_span(m->group), .flags = PEAL_FLAG_ACK};
    mark.offsets.at = cmd->offsets;
    mark.offsets.count = cmd->offset_count;
    peal_call_router(conn, PEAL_CONN_CALL_ACK, cmd->id, peal_group_span(m->group), &mark);
}

void peal_conn_read(struct peal_conn *conn, const struct peal_command *cmd)
{
    struct peal_member *m = need_inbox(conn, cmd);
    if (m == NULL) return;
    struct peal_frame mark = {.type = PEAL_F_MARK,
                              .group = peal_group_span(m->group),
                              .flags = PEAL_FLAG_READ | (cmd->all ? PEAL_FLAG_ALL : 0),
                              .upto = cmd->upto};
    mark.offsets.at = cmd->offsets;
    mark.offsets.count = cmd->offset_count;
    peal_call_router(conn, PEAL_CONN_CALL_READ, cmd->id, peal_group_span(m->group), &mark);
}

void peal_conn_inbox(struct peal_conn *conn, const struct peal_command *cmd)
{
    struct peal_member *m = need_inbox(conn, cmd);
    if (m == NULL) return;
    uint64_t limit = cmd->limit == 0 ? 50 : cmd->limit;
    struct peal_frame fetch = {.type = PEAL_F_FETCH,
                               .group = peal_group_span(m->group),
                               .epoch = m->group->epoch,
                               .offset = cmd->before,
                               .limit = limit < PEAL_PAGE_MESSAGES ? limit : PEAL_PAGE_MESSAGES,
                               .bytes = conn->hub->queue.bytes_max / 4,
                               .flags =
                                   PEAL_FLAG_REVERSE | (cmd->unread_only ? PEAL_FLAG_UNREAD : 0)};
    peal_call_router(conn, PEAL_CONN_CALL_INBOX, cmd->id, peal_group_span(m->group), &fetch);
}

void peal_conn_presence(struct peal_conn *conn, const struct peal_command *cmd)
{
    if (need_hello(conn, cmd)) return;
    const struct peal_member *m = peal_member_find(conn, cmd->group);
    if (m == NULL || !m->group->presence) {
        enum peal_err err = m == NULL ? PEAL_EFORBIDDEN : PEAL_EBAD_FIELD;
        peal_conn_error(conn, cmd->id, cmd->group, err,
                        m == NULL ? "only members of a group learn who is there" : presence_is_off);
        return;
    }
    uint64_t limit = cmd->limit == 0 ? PEAL_WHO_CLIENT_MAX : cmd->limit;
    struct peal_frame who = {.type = PEAL_F_WHO,
                             .group = cmd->group,
                             .limit = limit < PEAL_WHO_CLIENT_MAX ? limit : PEAL_WHO_CLIENT_MAX};
    peal_call_router(conn, PEAL_CONN_CALL_PRESENCE, cmd->id, cmd->group, &who);
}

void peal_conn_ping(struct peal_conn *conn, const struct peal_command *cmd)
{
    struct peal_event event = {.type = PEAL_EVENT_PONG, .id = cmd->id};
    peal_conn_reply(conn, &event);
}

/* ---- frames that are data ----------------------------------------------------------------------
 */

void peal_conn_inbound(struct peal_conn *conn, bool text, struct peal_span payload)
{
    struct peal_envelope env = {.data = payload,
                                .data_kind = text ? PEAL_DATA_TEXT : PEAL_DATA_BINARY};
    const struct peal_message_facts facts = {0};
    enum peal_err err = PEAL_ENOMEM;
    switch (conn->route->inbound) {
    case PEAL_INBOUND_REFUSE:
        peal_conn_close(conn, 4005, "inbound_refused", PEAL_M_CLOSED_POLICY);
        return;
    case PEAL_INBOUND_IGNORE:
        peal_count(PEAL_M_FRAMES_IGNORED, 1);
        return;
    case PEAL_INBOUND_ECHO_JSON: {
        struct peal_buf json = {0};
        if (text)
            peal_json_add_string(&json, payload);
        else
            peal_json_add_base64(&json, payload);
        env.data = peal_buf_span(&json);
        env.data_kind = PEAL_DATA_JSON;
        if (!json.failed) err = peal_conn_message(conn, &env, &facts);
        peal_buf_fini(&json);
        break;
    }
    case PEAL_INBOUND_PUBLISH:
        if (!conn->first_joined) {
            peal_conn_close(conn, 4005, "inbound_refused", PEAL_M_CLOSED_POLICY);
            return;
        }
        if (payload.size > conn->hub->config->limits.message) {
            peal_conn_close(conn, 1009, "too_large", PEAL_M_CLOSED_POLICY);
            return;
        }
        env.group =
            peal_group_span(PEAL_FROM_LINK(conn->members.next, struct peal_member, in_conn)->group);
        /* A page sends JSON as text; it reaches the others as the same bytes either way. */
        peal_call_publish(conn, (struct peal_span){0}, &env);
        return;
    default: /* echo */
        err = peal_conn_message(conn, &env, &facts);
    }
    if (err == PEAL_OK) return;
    peal_conn_count_dropped(conn, 1, err);
    peal_conn_close(conn, 4208, "slow", PEAL_M_CLOSED_SLOW);
}

/* ---- life --------------------------------------------------------------------------------------
 */

enum peal_err peal_conn_authenticate(struct peal_hub *hub, const struct peal_config_route *route,
                                     struct peal_span token, struct peal_claims *claims, char *why,
                                     size_t why_size)
{
    struct peal_token_rules rules = hub->token_rules;
    if (route->user_claim != NULL) rules.user_claim = route->user_claim;
    *claims = (struct peal_claims){0};
    enum peal_err err = PEAL_ETOKEN_INVALID;
    if (hub->keys == NULL)
        snprintf(why, why_size, "no key is configured that could check a token");
    else
        err = peal_token_verify(hub->keys, &rules, token, hub->wall_ms, claims, why, why_size);
    if (err == PEAL_ENOMEM || err == PEAL_OK || !route->lenient) return err;
    return PEAL_OK; /* lenient: a bad token means no user */
}

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
    if (from->user.at != NULL) err = set_text(&conn->user, from->user);
    if (err == PEAL_OK && from->has_token) err = take_claims(conn, &from->claims);
    if (err == PEAL_OK && conn->dialect->hello) {
        set_due(conn, PEAL_DUE_HELLO, PEAL_HELLO_MS);
    } else if (err == PEAL_OK) {
        conn->greeted = true;
        conn->welcomed = true;
        err = join_route(conn, from->match);
    }
    if (err != PEAL_OK) {
        peal_conn_fini(conn);
        return err;
    }
    set_due(conn, PEAL_DUE_PING, hub->config->limits.ping_ms);
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
    drop_claims(conn);
    peal_list_remove(&conn->in_hub);
    conn->hub->conn_count--;
    peal_count(PEAL_M_CONNS, -1);
    peal_count(conn->close_metric, 1);
    free(conn->user);
    free(conn->device);
    free(conn->hello_id);
}

#include "node/hub.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/limits.h"
#include "base/log.h"
#include "node/conn.h"
#include "node/groups.h"

enum { AT_ONCE = 16 }; /* letters whose groups are looked up together */

/* ---- orders and requests ------------------------------------------------------------------- */

uint64_t peal_hub_next_req(struct peal_hub *hub)
{
    return (uint64_t)hub->worker << PEAL_REQ_WORKER_SHIFT | ++hub->last_req;
}

enum peal_err peal_hub_order(struct peal_hub *hub, enum peal_order_kind kind, uint64_t req,
                             struct peal_span group)
{
    struct peal_order *order = peal_order_new(kind, hub->worker, req, group, (struct peal_span){0});
    if (order == NULL) return PEAL_ENOMEM;
    enum peal_err err = hub->io.order(hub->io.ctx, order);
    if (err != PEAL_OK) peal_order_free(order);
    return err;
}

enum peal_err peal_hub_send(struct peal_hub *hub, struct peal_span group,
                            const struct peal_frame *frame)
{
    hub->scratch.size = 0;
    peal_frame_encode(frame, &hub->scratch);
    if (hub->scratch.failed) {
        peal_buf_fini(&hub->scratch);
        return PEAL_ENOMEM;
    }
    struct peal_order *order = peal_order_new(PEAL_ORDER_SEND, hub->worker, frame->req, group,
                                              peal_buf_span(&hub->scratch));
    if (order == NULL) return PEAL_ENOMEM;
    /* Lists from the newest backwards are what somebody asked for, and waits for. */
    order->repair = frame->type == PEAL_F_FETCH && !(frame->flags & PEAL_FLAG_REVERSE);
    enum peal_err err = hub->io.order(hub->io.ctx, order);
    if (err != PEAL_OK) peal_order_free(order);
    return err;
}

void peal_request_init(struct peal_request *request,
                       void (*done)(struct peal_request *, const struct peal_frame *))
{
    *request = (struct peal_request){.done = done};
    peal_link_init(&request->by_age);
}

enum peal_err peal_request_send(struct peal_hub *hub, struct peal_request *request,
                                struct peal_span group, struct peal_frame *frame)
{
    PEAL_ASSERT(!peal_request_waits(request));
    frame->req = peal_hub_next_req(hub);
    enum peal_err err = peal_hub_send(hub, group, frame);
    if (err != PEAL_OK) return err == PEAL_EFULL ? PEAL_EQUEUE_FULL : err;
    request->req = frame->req;
    request->due_ms = hub->now_ms + PEAL_REQUEST_MS;
    peal_map_add(&hub->requests, &request->node,
                 peal_span_make(&request->req, sizeof request->req));
    peal_list_append(&hub->requests_age, &request->by_age);
    return PEAL_OK;
}

void peal_request_cancel(struct peal_hub *hub, struct peal_request *request)
{
    if (!peal_request_waits(request)) return;
    peal_map_remove(&hub->requests, &request->node);
    peal_list_remove(&request->by_age);
    request->req = 0;
}

static void answer(struct peal_hub *hub, struct peal_request *request,
                   const struct peal_frame *frame)
{
    peal_request_cancel(hub, request); /* it no longer waits; done may free it */
    request->done(request, frame);
}

/* ---- letters ------------------------------------------------------------------------------- */

static void on_answer(struct peal_hub *hub, const struct peal_frame *frame)
{
    struct peal_map_node *n =
        peal_map_find(&hub->requests, peal_span_make(&frame->req, sizeof frame->req));
    if (n == NULL) return; /* it was given up meanwhile */
    answer(hub, PEAL_FROM_NODE(n, struct peal_request, node), frame);
}

static void on_link(struct peal_hub *hub, bool degraded)
{
    hub->degraded = degraded;
    struct peal_event event = {.type = PEAL_EVENT_DEGRADED, .on = degraded};
    PEAL_LIST_EACH(&hub->conns, it, after)
    {
        struct peal_conn *conn = PEAL_FROM_LINK(it, struct peal_conn, in_hub);
        /* One whose queue is full has other worries; publishes tell it as well. */
        if (conn->open && conn->welcomed && peal_conn_event(conn, &event) != PEAL_OK) continue;
    }
}

void peal_hub_on_letter(struct peal_hub *hub, struct peal_letter *letter)
{
    switch (letter->kind) {
    case PEAL_LETTER_FRAME:
        switch (letter->frame.type) {
        case PEAL_F_MESSAGE:
            peal_groups_on_message(hub, letter, peal_map_hash(&hub->groups, letter->env.group));
            return;
        case PEAL_F_JOINED:
        case PEAL_F_AT:
            peal_groups_on_position(hub, &letter->frame);
            return;
        case PEAL_F_STATE:
            peal_groups_on_state(hub, &letter->frame);
            return;
        case PEAL_F_PRESENCE:
            if (letter->frame.req == 0)
                peal_attendance_on_event(hub, &letter->frame);
            else
                on_answer(hub, &letter->frame);
            return;
        case PEAL_F_SLOTS:
            peal_slotmap_hear(&hub->slots, &letter->frame);
            return;
        default:
            on_answer(hub, &letter->frame);
            return;
        }
    case PEAL_LETTER_LOST:
        peal_groups_on_lost(hub);
        peal_attendance_check(hub);
        return;
    case PEAL_LETTER_SYNC:
        peal_attendance_check(hub);
        return;
    case PEAL_LETTER_LINK:
        on_link(hub, letter->degraded);
        return;
    }
}

static bool is_message(const struct peal_letter *letter)
{
    return letter->kind == PEAL_LETTER_FRAME && letter->frame.type == PEAL_F_MESSAGE;
}

static void on_letters(struct peal_hub *hub, struct peal_letter *const *letters, size_t count)
{
    uint32_t hashes[AT_ONCE];
    for (size_t i = 0; i < count; i++) {
        if (!is_message(letters[i])) continue;
        hashes[i] = peal_map_hash(&hub->groups, letters[i]->env.group);
        peal_map_fetch_bucket(&hub->groups, hashes[i]);
    }
    for (size_t i = 0; i < count; i++)
        if (is_message(letters[i])) peal_map_fetch_node(&hub->groups, hashes[i]);
    for (size_t i = 0; i < count; i++) {
        if (is_message(letters[i]))
            peal_groups_on_message(hub, letters[i], hashes[i]);
        else
            peal_hub_on_letter(hub, letters[i]);
    }
}

void peal_hub_on_mail(struct peal_hub *hub, struct peal_mail *mail)
{
    struct peal_letter rooms[AT_ONCE] = {0};
    struct peal_letter *letters[AT_ONCE];
    size_t n;
    do {
        for (n = 0; n < AT_ONCE; n++) {
            letters[n] = peal_mail_next(mail, &rooms[n]);
            if (letters[n] == NULL) break;
        }
        on_letters(hub, letters, n);
    } while (n == AT_ONCE);
    for (n = 0; n < AT_ONCE; n++)
        peal_frame_fini(&rooms[n].frame);
    peal_turn_keep(&hub->turn, mail);
}

/* ---- time ---------------------------------------------------------------------------------- */

static void conn_timer_fired(void *ctx, struct peal_timer *timer)
{
    (void)ctx;
    peal_conn_on_timer(PEAL_FROM_LINK(timer, struct peal_conn, deadlines.timer));
}

void peal_hub_on_tick(struct peal_hub *hub)
{
    peal_wheel_advance(&hub->wheel, hub->now_ms, conn_timer_fired, hub);
    while (!peal_list_empty(&hub->requests_age)) {
        struct peal_request *oldest =
            PEAL_FROM_LINK(hub->requests_age.next, struct peal_request, by_age);
        if (hub->now_ms < oldest->due_ms) break;
        answer(hub, oldest, NULL);
    }
    peal_groups_on_tick(hub);
    peal_attendance_on_tick(hub);
}

void peal_hub_end_turn(struct peal_hub *hub)
{
    peal_turn_end(hub);
    peal_attendance_end_turn(hub);
}

void peal_hub_set_time(struct peal_hub *hub, uint64_t mono_ms, uint64_t wall_ms)
{
    hub->now_ms = mono_ms;
    hub->wall_ms = wall_ms;
}

/* ---- life ---------------------------------------------------------------------------------- */

enum peal_err peal_hub_init(struct peal_hub *hub, const struct peal_config *config,
                            const struct peal_token_keys *keys, const struct peal_hub_io *io,
                            uint8_t worker, uint64_t boot, uint64_t now_ms)
{
    *hub = (struct peal_hub){.config = config, .keys = keys, .io = *io, .worker = worker};
    hub->degraded = true; /* until the bus says otherwise */
    hub->now_ms = now_ms;
    hub->token_rules = (struct peal_token_rules){.user_claim = config->auth.user_claim,
                                                 .issuer = config->auth.issuer,
                                                 .audience = config->auth.audience,
                                                 .leeway_ms = config->auth.leeway_ms};
    hub->queue = (struct peal_outq_limits){.frames_max = (uint32_t)config->limits.queue_messages,
                                           .bytes_max = (uint32_t)config->limits.queue};
    snprintf(hub->node_name, sizeof hub->node_name, "%016llx", (unsigned long long)boot);
    peal_wheel_init(&hub->wheel, now_ms);
    peal_slotmap_init(&hub->slots, config->cluster.router_count);
    peal_link_init(&hub->conns);
    peal_link_init(&hub->unasked);
    peal_link_init(&hub->asked);
    peal_link_init(&hub->acks);
    peal_link_init(&hub->ack_retries);
    peal_link_init(&hub->fetch_wait);
    peal_link_init(&hub->requests_age);
    if (peal_attendance_init(hub) != PEAL_OK) return PEAL_ENOMEM;
    if (peal_map_init(&hub->groups) == PEAL_OK) {
        if (peal_map_init(&hub->requests) == PEAL_OK) return PEAL_OK;
        peal_map_fini(&hub->groups);
    }
    peal_attendance_fini(hub);
    return PEAL_ENOMEM;
}

void peal_hub_fini(struct peal_hub *hub)
{
    PEAL_ASSERT(hub->conn_count == 0);
    peal_turn_end(hub);
    peal_turn_fini(&hub->turn);
    peal_groups_fini(hub);
    peal_attendance_fini(hub);
    while (!peal_list_empty(&hub->requests_age))
        answer(hub, PEAL_FROM_LINK(hub->requests_age.next, struct peal_request, by_age), NULL);
    peal_map_fini(&hub->groups);
    peal_map_fini(&hub->requests);
    peal_buf_fini(&hub->scratch);
    peal_run_pool_fini(&hub->runs);
    peal_buf_fini(&hub->rendered);
}

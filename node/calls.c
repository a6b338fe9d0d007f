#include "node/calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/hub.h"
#include "proto/envelope.h"

/* A request to a router on behalf of one command. */
struct conn_call {
    struct peal_request request;
    struct peal_link in_conn;
    struct peal_conn *conn;
    enum peal_conn_call_kind kind;
    char *id; /* JSON or NULL */
};

static void call_free(struct conn_call *call)
{
    peal_request_cancel(call->conn->hub, &call->request);
    peal_list_remove(&call->in_conn);
    free(call->id);
    free(call);
}

static void published(struct peal_conn *conn, struct peal_span id, const struct peal_frame *answer)
{
    struct peal_frame receipt;
    if (answer->entries.count != 1 ||
        peal_frame_decode(answer->entries.at[0], &receipt) != PEAL_OK) {
        peal_conn_error(conn, id, (struct peal_span){0}, PEAL_EINTERNAL, "no receipt came");
        return;
    }
    if (receipt.code != PEAL_OK) {
        char why[200];
        snprintf(why, sizeof why, "%.*s", (int)receipt.message.size, receipt.message.at);
        struct peal_event event = {.type = PEAL_EVENT_ERROR,
                                   .id = id,
                                   .err = (enum peal_err)receipt.code,
                                   .message = why,
                                   .after_ms = receipt.after_ms};
        peal_conn_reply(conn, &event);
    } else {
        struct peal_event event = {.type = PEAL_EVENT_PUBLISHED,
                                   .id = id,
                                   .message_id = receipt.id,
                                   .group = receipt.group,
                                   .epoch = receipt.epoch,
                                   .offset = receipt.offset,
                                   .flags = receipt.flags};
        peal_conn_reply(conn, &event);
    }
    peal_frame_fini(&receipt);
}

static void call_done(struct peal_request *request, const struct peal_frame *answer)
{
    struct conn_call *call = PEAL_FROM_LINK(request, struct conn_call, request);
    struct peal_conn *conn = call->conn;
    struct peal_span id = peal_span_of(call->id);
    struct peal_span none = {0};
    if (answer == NULL) {
        peal_conn_error(conn, id, none, PEAL_ETIMEOUT, "the router did not answer in time");
    } else if (answer->code != PEAL_OK) {
        enum peal_err err = (enum peal_err)answer->code;
        peal_conn_error(conn, id, none, err,
                        err == PEAL_ENO_ROUTER ? "the group's router is not reachable"
                                               : "the router refused");
    } else if (call->kind == PEAL_CONN_CALL_PUBLISH) {
        published(conn, id, answer);
    } else if (call->kind == PEAL_CONN_CALL_ACK) {
        /* Nothing is said: the state that follows says it. */
    } else if (call->kind == PEAL_CONN_CALL_READ) {
        struct peal_event event = {
            .type = PEAL_EVENT_OK, .id = id, .unread = answer->unread, .rev = answer->rev};
        peal_conn_reply(conn, &event);
    } else if (call->kind == PEAL_CONN_CALL_PRESENCE) {
        struct peal_event event = {.type = PEAL_EVENT_PRESENCE, .id = id, .page = answer};
        peal_conn_reply(conn, &event);
    } else {
        struct peal_event event = {.type = PEAL_EVENT_INBOX,
                                   .id = id,
                                   .unread = answer->unread,
                                   .rev = answer->rev,
                                   .flags = answer->flags,
                                   .page = answer};
        peal_conn_reply(conn, &event);
    }
    call_free(call);
}

void peal_call_router(struct peal_conn *conn, enum peal_conn_call_kind kind, struct peal_span id,
                      struct peal_span group, struct peal_frame *frame)
{
    struct conn_call *call = calloc(1, sizeof *call);
    enum peal_err err = PEAL_ENOMEM;
    if (call != NULL) {
        call->conn = conn;
        call->kind = kind;
        peal_request_init(&call->request, call_done);
        peal_list_append(&conn->calls, &call->in_conn);
        if (id.at != NULL) call->id = strndup(id.at, id.size);
        err = id.at != NULL && call->id == NULL ? PEAL_ENOMEM : PEAL_OK;
        if (err == PEAL_OK) err = peal_request_send(conn->hub, &call->request, group, frame);
        if (err != PEAL_OK) call_free(call);
    }
    if (err != PEAL_OK)
        peal_conn_error(conn, id, (struct peal_span){0}, err, "the node is busy, try again");
}

void peal_call_publish(struct peal_conn *conn, struct peal_span id, struct peal_envelope *env)
{
    struct peal_buf encoded = {0};
    if (conn->user != NULL) env->from = peal_span_of(conn->user);
    peal_envelope_encode(env, &encoded);
    if (encoded.failed) {
        peal_buf_fini(&encoded);
        peal_conn_error(conn, id, (struct peal_span){0}, PEAL_ENOMEM, "out of memory");
        return;
    }
    struct peal_span entry = peal_buf_span(&encoded);
    struct peal_frame frame = {.type = PEAL_F_PUBLISH};
    frame.entries.at = &entry;
    frame.entries.count = 1;
    peal_call_router(conn, PEAL_CONN_CALL_PUBLISH, id, env->group, &frame);
    peal_buf_fini(&encoded);
}

void peal_calls_cancel(struct peal_conn *conn)
{
    PEAL_LIST_EACH(&conn->calls, it, after)
    call_free(PEAL_FROM_LINK(it, struct conn_call, in_conn));
}

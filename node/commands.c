#include "node/commands.h"

#include <stdio.h>

#include "base/limits.h"
#include "node/attendance.h"
#include "node/calls.h"
#include "node/identity.h"
#include "node/joins.h"
#include "node/rights.h"
#include "proto/group.h"

void peal_command_bad(struct peal_conn *conn, struct peal_span id, enum peal_err err,
                      const char *message)
{
    peal_conn_error(conn, id, (struct peal_span){0}, err, message);
    if (++conn->bad_count >= 3) peal_conn_close(conn, 4000, "bad_message", PEAL_M_CLOSED_PROTOCOL);
}

static bool hello_join(struct peal_conn *conn, struct peal_join *with)
{
    const char *why;
    with->answer = PEAL_ANSWER_WELCOME;
    conn->joins_owed++;
    enum peal_err err = peal_joins_add(conn, with, &why);
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

void peal_command_hello(struct peal_conn *conn, const struct peal_command *cmd)
{
    char why[160];
    if (conn->greeted) {
        peal_command_bad(conn, cmd->id, PEAL_EBAD_MESSAGE, "hello was said already");
        return;
    }
    enum peal_err err = PEAL_OK;
    if (cmd->token.at != NULL) {
        err = peal_identity_take_token(conn, cmd->token, why, sizeof why);
    } else if (conn->route->identity == PEAL_IDENTITY_TOKEN && !conn->has_token &&
               !conn->route->lenient) {
        snprintf(why, sizeof why, "this route needs a token");
        err = PEAL_ETOKEN_MISSING;
    }
    if (err == PEAL_OK && cmd->device.at != NULL)
        err = peal_identity_copy(&conn->device, cmd->device);
    if (err == PEAL_OK && cmd->id.at != NULL) err = peal_identity_copy(&conn->hello_id, cmd->id);
    if (err != PEAL_OK) {
        peal_command_bad(conn, cmd->id, err, err == PEAL_ENOMEM ? "out of memory" : why);
        return;
    }
    conn->greeted = true;
    conn->bad_count = 0;
    peal_conn_clear_due(conn, PEAL_DUE_HELLO);
    peal_conn_set_due(conn, PEAL_DUE_WELCOME, PEAL_WELCOME_MS);
    /* One more than there are, so that it is complete only when all are asked for. */
    conn->joins_owed = 1;
    hello_joins(conn, cmd);
    conn->joins_owed--;
    if (conn->open) peal_joins_welcome_if_complete(conn);
}

static bool need_hello(struct peal_conn *conn, const struct peal_command *cmd)
{
    if (conn->greeted) return false;
    peal_command_bad(conn, cmd->id, PEAL_EBAD_MESSAGE, "say hello first");
    return true;
}

static const char presence_is_off[] = "presence is off for this group";

void peal_command_join(struct peal_conn *conn, const struct peal_command *cmd)
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
        err = peal_joins_add(conn, &with, &why);
    if (err != PEAL_OK) {
        peal_conn_error(conn, cmd->id, cmd->group, err, why);
        return;
    }
    struct peal_member *m = cmd->presence ? peal_member_find(conn, cmd->group) : NULL;
    if (m != NULL && peal_attendance_watch(m) != PEAL_OK)
        peal_conn_close(conn, 4101, "unavailable", PEAL_M_CLOSED_POLICY); /* no memory */
}

void peal_command_leave(struct peal_conn *conn, const struct peal_command *cmd)
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
        peal_conn_error(conn, peal_span_of(p->id), cmd->group, PEAL_ENOT_FOUND,
                        "left before it was joined");
    peal_member_remove(m);
    struct peal_event event = {.type = PEAL_EVENT_LEFT, .id = cmd->id, .group = cmd->group};
    peal_conn_reply(conn, &event);
    peal_joins_welcome_if_complete(conn);
}

void peal_command_publish(struct peal_conn *conn, const struct peal_command *cmd)
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
    struct peal_member *m = peal_member_find_inbox(conn);
    if (m == NULL)
        peal_conn_error(conn, cmd->id, (struct peal_span){0}, PEAL_EFORBIDDEN,
                        "this connection has no inbox");
    return m;
}

void peal_command_ack(struct peal_conn *conn, const struct peal_command *cmd)
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

void peal_command_read(struct peal_conn *conn, const struct peal_command *cmd)
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

void peal_command_inbox(struct peal_conn *conn, const struct peal_command *cmd)
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

void peal_command_presence(struct peal_conn *conn, const struct peal_command *cmd)
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

void peal_command_ping(struct peal_conn *conn, const struct peal_command *cmd)
{
    struct peal_event event = {.type = PEAL_EVENT_PONG, .id = cmd->id};
    peal_conn_reply(conn, &event);
}

#include "node/inbound.h"

#include "node/calls.h"
#include "proto/group.h"
#include "proto/json_write.h"

void peal_inbound_receive(struct peal_conn *conn, bool text, struct peal_span payload)
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

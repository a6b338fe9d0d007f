/* raw: the frame is the data and nothing else. Text and JSON travel as text frames, bytes as
 * binary ones. It can say none of the events; a ping that follows the last message of a batch
 * carries the inbox offset, and its pong is the ack. */
#include "node/conn.h"
#include "node/wsframe.h"
#include "proto/json.h"

static struct peal_bytes *raw_message(const struct peal_envelope *env,
                                      const struct peal_message_facts *facts)
{
    (void)facts;
    return peal_ws_frame(env->data_kind == PEAL_DATA_BINARY ? PEAL_WS_BINARY : PEAL_WS_TEXT,
                         env->data);
}

static struct peal_bytes *raw_event(const struct peal_event *event)
{
    (void)event;
    return NULL;
}

static struct peal_bytes *raw_ping(struct peal_span payload)
{
    return peal_ws_frame(PEAL_WS_PING, payload);
}

const struct peal_dialect peal_dialect_raw = {
    .name = "raw",
    .message = raw_message,
    .event = raw_event,
    .ping = raw_ping,
    .farewell = peal_ws_close_frame,
    .receive = peal_conn_inbound,
};

/* raw: the frame is the data and nothing else. Text and JSON travel as text frames, bytes as
 * binary ones. It can say none of the events; a ping that follows the last message of a batch
 * carries the inbox offset, and its pong is the ack. */
#include "node/conn.h"
#include "node/inbound.h"
#include "node/wsframe.h"

static void raw_message(struct peal_buf *out, const struct peal_envelope *env,
                        const struct peal_message_facts *facts)
{
    (void)facts;
    peal_ws_add_frame(out, env->data_kind == PEAL_DATA_BINARY ? PEAL_WS_BINARY : PEAL_WS_TEXT,
                      env->data);
}

static void raw_event(struct peal_buf *out, const struct peal_event *event)
{
    (void)out;
    (void)event; /* it says that it can say none */
}

static void raw_ping(struct peal_buf *out, struct peal_span payload)
{
    peal_ws_add_frame(out, PEAL_WS_PING, payload);
}

const struct peal_dialect peal_dialect_raw = {
    .kind = PEAL_DIALECT_RAW,
    .name = "raw",
    .message = raw_message,
    .event = raw_event,
    .ping = raw_ping,
    .farewell = peal_ws_add_close,
    .receive = peal_inbound_receive,
};

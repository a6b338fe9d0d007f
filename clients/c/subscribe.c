#include <libwebsockets.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "clients/c/message.h"
#include "clients/c/peal.h"
#include "clients/c/url.h"

/* One context, one connection, one call. libwebsockets' default poll loop sleeps until something
 * happens on the socket, and a signal may come just before it falls asleep, so a timer looks at
 * the stop flag every TICK_MS. */

enum {
    TICK_MS = 100,
    CONNECT_MS = 10000,       /* from connect to 101 */
    SILENCE_S = 60,           /* the server pings every 25 s; then we ask */
    HANGUP_S = 75,            /* and then it is dead */
    BYE_MS = 2000,            /* for the server's answer to our Close frame */
    HEADER_BYTES = 24 * 1024, /* of the upgrade request: a token may have 8 KiB */
    RECEIVE_BYTES = 16 * 1024
};

static const char protocol_name[] = "peal.v1.json";

struct subscription {
    lws_sorted_usec_list_t tick; /* first: lws hands its address back */
    const struct peal_client_feed *feed;
    struct peal_client_close *close;
    struct lws_context *context;
    struct lws *wsi;         /* NULL once it is gone */
    struct peal_buf hello;   /* LWS_PRE bytes of room, then the text; empty once it is sent */
    struct peal_buf message; /* what has arrived of the current message */
    enum peal_err err;       /* why it ends, when it was not asked to */
    uint64_t since_ms;       /* when the connecting, later the stopping began */
    bool established;
    bool stopping; /* asked to end: by the flag, by on_message or by a failure */
    bool done;     /* there is nothing to wait for */
};

static void fail(struct subscription *s, enum peal_err err, const char *reason)
{
    /* The first reason is the cause of the others, and the end that was asked for is none. */
    if (s->err != PEAL_OK || s->stopping) return;
    s->err = err;
    if (s->close->reason[0] == '\0')
        snprintf(s->close->reason, sizeof s->close->reason, "%s", reason);
}

static void stop(struct subscription *s)
{
    if (s->stopping) return;
    s->stopping = true;
    s->since_ms = peal_clock_mono_ms();
    if (s->wsi != NULL && s->established)
        lws_callback_on_writable(s->wsi);
    else
        s->done = true;
}

static void subscription_on_tick(lws_sorted_usec_list_t *tick)
{
    struct subscription *s = (struct subscription *)(void *)tick;
    if (s->feed->stop != NULL && *s->feed->stop != 0) stop(s);
    uint64_t elapsed_ms = peal_clock_mono_ms() - s->since_ms;
    if (s->stopping && elapsed_ms > BYE_MS) s->done = true;
    /* libwebsockets 4.1.6 did not give up on a silent server within a minute, whatever its
     * timeout_secs. */
    if (!s->stopping && !s->established && elapsed_ms > CONNECT_MS)
        fail(s, PEAL_ETIMEOUT, "The server does not answer the upgrade.");
    lws_sul_schedule(s->context, 0, &s->tick, subscription_on_tick, TICK_MS * LWS_US_PER_MS);
}

/* With room in front, where libwebsockets puts the frame's head. */
static enum peal_err hello_make(const struct peal_client_feed *feed, struct peal_buf *out)
{
    char *room = peal_buf_reserve(out, LWS_PRE);
    if (room == NULL) return PEAL_ENOMEM;
    memset(room, 0, LWS_PRE);
    out->size += LWS_PRE;
    return peal_message_hello(feed, out);
}

static int on_handshake(struct subscription *s, struct lws *wsi, unsigned char **at,
                        unsigned char *end)
{
    struct peal_buf value = {0};
    int rc = 0;
    if (s->feed->token == NULL) return 0;
    peal_buf_add_format(&value, "Bearer %s", s->feed->token);
    if (value.failed || lws_add_http_header_by_token(wsi, WSI_TOKEN_HTTP_AUTHORIZATION,
                                                     (const unsigned char *)value.at,
                                                     (int)value.size, at, end) != 0)
        rc = -1;
    if (value.at != NULL) explicit_bzero(value.at, value.size);
    peal_buf_fini(&value);
    return rc;
}

/* Returning -1 closes the connection after what was sent. */
static int on_writable(struct subscription *s, struct lws *wsi)
{
    if (s->stopping) {
        lws_close_reason(wsi, LWS_CLOSE_STATUS_NORMAL, NULL, 0);
        return -1;
    }
    if (s->hello.size == 0) return 0;
    size_t size = s->hello.size - LWS_PRE;
    int sent = lws_write(wsi, (unsigned char *)s->hello.at + LWS_PRE, size, LWS_WRITE_TEXT);
    peal_buf_fini(&s->hello);
    if (sent >= 0 && (size_t)sent >= size) return 0;
    fail(s, PEAL_EIO, "The connection broke.");
    return -1;
}

static int refuse(struct subscription *s, struct lws *wsi, enum lws_close_status code,
                  enum peal_err err, const char *reason)
{
    fail(s, err, reason);
    lws_close_reason(wsi, code, NULL, 0);
    return -1;
}

static int on_receive(struct subscription *s, struct lws *wsi, const char *at, size_t size)
{
    if (s->stopping) return 0;
    if (lws_frame_is_binary(wsi))
        return refuse(s, wsi, LWS_CLOSE_STATUS_UNACCEPTABLE_OPCODE, PEAL_EBAD_MESSAGE,
                      "A binary message arrived.");
    if (size > PEAL_CLIENT_BYTES_MAX - s->message.size)
        return refuse(s, wsi, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE, PEAL_ETOO_LARGE,
                      "A message of more than 8 MiB arrived.");
    peal_buf_add(&s->message, at, size);
    if (s->message.failed)
        return refuse(s, wsi, LWS_CLOSE_STATUS_UNEXPECTED_CONDITION, PEAL_ENOMEM,
                      "There is not enough memory.");
    if (!lws_is_final_fragment(wsi) || lws_remaining_packet_payload(wsi) != 0) return 0;
    bool more = s->feed->on_message(s->feed->context, peal_buf_span(&s->message));
    s->message.size = 0;
    if (!more) stop(s);
    return 0;
}

/* The payload of a Close frame: a code in two bytes and a reason. */
static void on_peer_close(struct subscription *s, const unsigned char *at, size_t size)
{
    if (size < 2) return;
    s->close->code = at[0] << 8 | at[1];
    size_t reason = size - 2;
    if (reason >= sizeof s->close->reason) reason = sizeof s->close->reason - 1;
    memcpy(s->close->reason, at + 2, reason);
    s->close->reason[reason] = '\0';
}

static void on_refused(struct subscription *s, struct lws *wsi, const char *text)
{
    s->close->status = (int)lws_http_client_http_response(wsi);
    if (s->close->status == 101) s->close->status = 0; /* refused by us, after the answer */
    if (s->close->status != 0)
        snprintf(s->close->reason, sizeof s->close->reason, "The upgrade was refused with %d.",
                 s->close->status);
    fail(s, PEAL_EIO, text == NULL ? "There is no connection." : text);
}

static int subscription_on_event(struct lws *wsi, enum lws_callback_reasons event, void *user,
                                 void *in, size_t size)
{
    struct subscription *s = lws_context_user(lws_get_context(wsi));
    (void)user;
    switch (event) {
    case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
        return on_handshake(s, wsi, in, *(unsigned char **)in + size);
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        s->established = true;
        lws_callback_on_writable(wsi);
        return 0;
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        return on_writable(s, wsi);
    case LWS_CALLBACK_CLIENT_RECEIVE:
        return on_receive(s, wsi, in, size);
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        on_peer_close(s, in, size);
        return 0;
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        on_refused(s, wsi, in);
        s->wsi = NULL;
        s->done = true;
        return 0;
    case LWS_CALLBACK_CLIENT_CLOSED:
        fail(s, PEAL_EIO, "The connection was cut.");
        s->wsi = NULL;
        s->done = true;
        return 0;
    default:
        return 0;
    }
}

static enum peal_err run(struct subscription *s, const struct peal_url *url)
{
    static const lws_retry_bo_t silence = {.secs_since_valid_ping = SILENCE_S,
                                           .secs_since_valid_hangup = HANGUP_S};
    const struct lws_protocols protocols[] = {
        {.name = protocol_name, .callback = subscription_on_event, .rx_buffer_size = RECEIVE_BYTES},
        {0}};
    const struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .protocols = protocols,
        .user = s,
        .pt_serv_buf_size = HEADER_BYTES,
        .options = url->tls ? LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT : 0};
    lws_set_log_level(0, NULL);
    s->since_ms = peal_clock_mono_ms();
    s->context = lws_create_context(&info);
    if (s->context == NULL) return PEAL_ENOMEM;
    const struct lws_client_connect_info connect = {.context = s->context,
                                                    .address = url->host,
                                                    .port = url->port,
                                                    .ssl_connection = url->tls ? LCCSCF_USE_SSL : 0,
                                                    .path = url->path,
                                                    .host = url->authority,
                                                    .protocol = protocol_name,
                                                    .local_protocol_name = protocol_name,
                                                    .retry_and_idle_policy = &silence,
                                                    .pwsi = &s->wsi};
    /* When this fails at once, the error callback has already said why. */
    if (lws_client_connect_via_info(&connect) == NULL) fail(s, PEAL_EIO, "There is no connection.");
    subscription_on_tick(&s->tick);
    while (!s->done && s->err == PEAL_OK)
        if (lws_service(s->context, 0) < 0) fail(s, PEAL_EIO, "The event loop broke.");
    /* A refusal of ours is a Close frame that is still to be sent. */
    stop(s);
    while (!s->done && s->wsi != NULL && lws_service(s->context, 0) >= 0) {
    }
    lws_sul_cancel(&s->tick);
    lws_context_destroy(s->context);
    return s->err;
}

enum peal_err peal_client_subscribe(const struct peal_client_feed *feed,
                                    struct peal_client_close *close)
{
    struct subscription s = {.feed = feed, .close = close};
    struct peal_url url;
    *close = (struct peal_client_close){0};
    if (peal_url_ws(feed->url, &url) != PEAL_OK) {
        fail(&s, PEAL_EBAD_FIELD, "The address must be ws[s]://host[:port]/path.");
        return s.err;
    }
    if (feed->token != NULL && !peal_url_printable(feed->token)) {
        fail(&s, PEAL_EBAD_FIELD, "The token is not one printable word.");
        return s.err;
    }
    enum peal_err err = hello_make(feed, &s.hello);
    if (err == PEAL_EBAD_FIELD) fail(&s, err, "A name of a group or the device is not UTF-8.");
    if (err == PEAL_OK) err = run(&s, &url);
    if (err == PEAL_ENOMEM) fail(&s, err, "There is not enough memory.");
    peal_buf_fini(&s.hello);
    peal_buf_fini(&s.message);
    return err;
}

/* One connection, two readers. Both hold a descriptor of the same socket.
 *
 *   HEAD     ours: waits for a request, looks at its head without taking it (MSG_PEEK) and asks
 *            node/gate.c. A refusal is written right away and the library never hears of it.
 *   BODY     the library's: it reads the head that was judged, and the body, which is collected.
 *   BUSY     nobody reads. node/api.c works; we watch for the client going away.
 *   WRITING  ours: the answer goes out. Then HEAD again, or the connection ends.
 *   LINGER   the library is done or was never asked. What still comes in is thrown away until the
 *            client has closed: closing with unread bytes would make the kernel reset the
 *            connection, and the answer could be lost with it.
 *
 * From BUSY to the next judged head the library's reading is switched off and it is not told
 * that the transaction is over, so it cannot read ahead of the gate. Answers are not written by
 * it: with reading off it does not write either, and with reading on it takes the next head
 * from a client that is quick (one in 10,000 requests on two cores). Before an answer goes out we
 * ask the kernel whether just the bytes of the requests so far were taken; if more were,
 * somebody sends requests without waiting for answers, and this answer is the last one.
 *
 * Deadlines are ours, one timer per connection. */
#include "node/http.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libwebsockets.h>
#include <uv.h>

#include "base/assert.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/log.h"
#include "node/api.h"
#include "node/gate.h"
#include "node/reply.h"
#include "node/taken.h"

enum {
    HTTP_IDLE_MS = 60000,    /* between two requests; longer than a pool usually keeps one */
    HTTP_BODY_MS = 30000,    /* from the head to the end of the body */
    HTTP_WRITE_MS = 30000,   /* until the answer is with the kernel */
    HTTP_LINGER_MS = 2000,   /* for the client to close */
    HTTP_LIBRARY_S = 20,     /* the library's own deadlines, behind ours */
    HTTP_HEADER_DATA = 4096, /* of the library, per request head */
    HTTP_CLOSE_TURNS = 1000, /* of the loop, for the library to let go of its handles */
};

enum phase { PHASE_HEAD, PHASE_BODY, PHASE_BUSY, PHASE_WRITING, PHASE_LINGER, PHASE_CLOSING };

struct http_conn {
    struct peal_link in_http;
    struct peal_http *http;
    struct lws *wsi; /* NULL before the first good head and after the library's last word */
    uv_poll_t watch; /* on fd */
    uv_timer_t timer;
    unsigned handles; /* of uv that are not closed */
    int fd;
    bool api;
    bool started; /* some of the next head is here */
    bool judged;  /* the head that the library reads next was let through */
    enum phase phase;
    struct peal_gate gate;
    uint64_t taken;     /* bytes of all requests so far */
    uint64_t body_room; /* of http->body_bytes */
    struct peal_buf body;
    struct peal_api_call call;
    struct peal_buf out; /* the answer */
    size_t sent;         /* bytes of it */
};

struct peal_http {
    struct peal_hub *hub;
    const struct peal_http_shared *shared;
    uv_loop_t *loop;
    struct lws_context *context; /* set to NULL by the library when it is really gone */
    struct lws_vhost *vhost;
    struct peal_link conns;
    size_t conn_counts[2]; /* of the browser listener, of the API: neither can fill the other */
    uint64_t body_bytes;   /* promised by heads that were let through */
    bool closing;
    char bytes[PEAL_HEAD_MAX + 1];
};

/* ---- a connection ends ------------------------------------------------------------------- */

static void request_end(struct http_conn *conn)
{
    peal_api_fini(&conn->call);
    peal_gate_fini(&conn->gate);
    peal_buf_fini(&conn->body);
    peal_buf_fini(&conn->out);
    conn->http->body_bytes -= conn->body_room;
    conn->body_room = 0;
    conn->judged = false;
}

static void handle_closed(uv_handle_t *handle)
{
    struct http_conn *conn = handle->data;
    if (--conn->handles > 0) return;
    close(conn->fd);
    conn->http->conn_counts[conn->api]--;
    peal_list_remove(&conn->in_http);
    free(conn);
}

/* Our side of it; the library has let go of the connection or has never had it. */
static void conn_close(struct http_conn *conn)
{
    PEAL_ASSERT(conn->wsi == NULL);
    if (conn->phase == PHASE_CLOSING) return;
    conn->phase = PHASE_CLOSING;
    request_end(conn);
    uv_close((uv_handle_t *)&conn->watch, handle_closed);
    uv_close((uv_handle_t *)&conn->timer, handle_closed);
}

/* The library closes its descriptor soon and says so by WSI_DESTROY; then ours goes as well. */
static void conn_kill(struct http_conn *conn)
{
    if (conn->wsi == NULL) {
        conn_close(conn);
        return;
    }
    uv_poll_stop(&conn->watch);
    uv_timer_stop(&conn->timer);
    lws_set_timeout(conn->wsi, PENDING_TIMEOUT_KILLED_BY_PARENT, LWS_TO_KILL_ASYNC);
    /* On libuv its timers start only when one of its own descriptors wakes it. */
    lws_cancel_service(conn->http->context);
}

static void deadline_came(uv_timer_t *timer)
{
    conn_kill(timer->data);
}

static void set_deadline(struct http_conn *conn, uint64_t ms)
{
    /* The loop's clock stands still within a turn; a long one must not eat up the deadline. */
    uv_update_time(conn->http->loop);
    uv_timer_start(&conn->timer, deadline_came, ms, 0);
}

static void linger_readable(uv_poll_t *watch, int status, int events)
{
    struct http_conn *conn = watch->data;
    (void)events;
    ssize_t n = -1;
    if (status == 0) n = recv(conn->fd, conn->http->bytes, sizeof conn->http->bytes, MSG_DONTWAIT);
    if (n > 0) return;
    if (n < 0 && status == 0 && (errno == EAGAIN || errno == EINTR)) return;
    conn_close(conn);
}

/* The answer is with the kernel: nothing more is said, and what comes in is thrown away. */
static void linger(struct http_conn *conn)
{
    request_end(conn);
    if (conn->http->closing || shutdown(conn->fd, SHUT_WR) != 0) {
        conn_close(conn);
        return;
    }
    conn->phase = PHASE_LINGER;
    int one = 1;
    setsockopt(conn->fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one);
    set_deadline(conn, HTTP_LINGER_MS);
    if (uv_poll_start(&conn->watch, UV_READABLE, linger_readable) != 0) conn_close(conn);
}

/* ---- answers ----------------------------------------------------------------------------- */

/* Written by us. A client whose socket cannot take these few bytes does not get them. */
static void refuse(struct http_conn *conn, const struct peal_gate_refusal *refusal)
{
    struct peal_buf body = {0};
    struct peal_buf out = {0};
    peal_api_add_error(&body, refusal->code, refusal->why, refusal->field, 0);
    peal_buf_add_char(&body, '\n');
    struct peal_reply reply = {.status = refusal->status,
                               .type = "application/json",
                               .allow = refusal->allow,
                               .close = true,
                               .body = peal_buf_span(&body)};
    peal_reply_add(&out, &reply);
    bool sent = !body.failed && !out.failed &&
                send(conn->fd, out.at, out.size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)out.size;
    peal_buf_fini(&body);
    peal_buf_fini(&out);
    uv_poll_stop(&conn->watch);
    uv_timer_stop(&conn->timer);
    if (conn->wsi != NULL)
        conn_kill(conn); /* lingers when the library has let go */
    else if (sent)
        linger(conn);
    else
        conn_close(conn);
}

static void refuse_busy(struct http_conn *conn)
{
    struct peal_gate_refusal refusal = {.status = peal_err_http(PEAL_EQUEUE_FULL),
                                        .code = peal_err_word(PEAL_EQUEUE_FULL),
                                        .why = "the server is busy, try again"};
    refuse(conn, &refusal);
}

static void head_readable(uv_poll_t *watch, int status, int events);

static void wait_for_head(struct http_conn *conn, uint64_t deadline_ms)
{
    conn->phase = PHASE_HEAD;
    conn->started = false;
    set_deadline(conn, deadline_ms);
    if (uv_poll_start(&conn->watch, UV_READABLE, head_readable) != 0) conn_kill(conn);
}

/* Has the library taken from the socket just what belongs to the requests so far? */
static bool took_exactly(const struct http_conn *conn)
{
    uint64_t taken;
    return peal_socket_taken(conn->fd, &taken) == PEAL_OK && taken == conn->taken;
}

static void answer_writable(uv_poll_t *watch, int status, int events);

static void write_answer(struct http_conn *conn)
{
    while (conn->sent < conn->out.size) {
        ssize_t n = send(conn->fd, conn->out.at + conn->sent, conn->out.size - conn->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN &&
            uv_poll_start(&conn->watch, UV_WRITABLE, answer_writable) == 0)
            return;
        if (n < 0) {
            conn_kill(conn);
            return;
        }
        conn->sent += (size_t)n;
    }
    bool keep = conn->gate.keep_alive;
    request_end(conn);
    if (keep)
        wait_for_head(conn, HTTP_IDLE_MS);
    else
        conn_kill(conn); /* lingers when the library has let go */
}

static void answer_writable(uv_poll_t *watch, int status, int events)
{
    struct http_conn *conn = watch->data;
    (void)events;
    if (status == 0)
        write_answer(conn);
    else
        conn_kill(conn);
}

static void answer_ready(void *ctx)
{
    struct http_conn *conn = ctx;
    const struct peal_api_answer *answer = &conn->call.answer;
    if (conn->http->closing || peal_http_leaving(conn->http->shared) || !took_exactly(conn))
        conn->gate.keep_alive = false;
    struct peal_reply reply = {.status = answer->status,
                               .type = answer->type,
                               .close = !conn->gate.keep_alive,
                               .page = conn->gate.call == PEAL_GATE_PAGE,
                               .head_only = conn->gate.head_only,
                               .after_ms = answer->after_ms,
                               .body = peal_buf_span(&answer->body)};
    peal_reply_add(&conn->out, &reply);
    uv_poll_stop(&conn->watch);
    if (conn->out.failed) {
        conn_kill(conn);
        return;
    }
    conn->sent = 0;
    conn->phase = PHASE_WRITING;
    set_deadline(conn, HTTP_WRITE_MS);
    write_answer(conn);
}

static void client_left(uv_poll_t *watch, int status, int events)
{
    struct http_conn *conn = watch->data;
    (void)status;
    (void)events;
    peal_api_fini(&conn->call);
    conn_kill(conn);
}

static int run_call(struct http_conn *conn)
{
    conn->phase = PHASE_BUSY;
    uv_timer_stop(&conn->timer); /* requests to routers have deadlines of their own */
    lws_set_timeout(conn->wsi, NO_PENDING_TIMEOUT, 0);
    lws_rx_flow_control(conn->wsi, 0);
    if (uv_poll_start(&conn->watch, UV_DISCONNECT, client_left) != 0) return -1;
    peal_api_start(&conn->call, &conn->gate, peal_buf_span(&conn->body), answer_ready, conn);
    peal_buf_fini(&conn->body); /* the call needs it no longer, and it may be large */
    return 0;
}

/* ---- heads ------------------------------------------------------------------------------- */

static void wake_at(struct http_conn *conn, size_t bytes)
{
    int low_water = (int)bytes;
    setsockopt(conn->fd, SOL_SOCKET, SO_RCVLOWAT, &low_water, sizeof low_water);
}

/* Gives the library a descriptor of its own. */
static bool library_adopt(struct http_conn *conn)
{
    int fd = fcntl(conn->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return false;
    conn->wsi = lws_adopt_socket_vhost(conn->http->vhost, fd); /* closes fd when it fails */
    if (conn->wsi == NULL) return false;
    lws_set_opaque_user_data(conn->wsi, conn);
    return true;
}

/* Lets the library read the head and the body. */
static void let_through(struct http_conn *conn)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct peal_http *http = conn->http;
    uint64_t room = conn->gate.body_size;
    if (http->body_bytes > 0 && http->body_bytes + room > PEAL_HTTP_BODIES_MAX) {
        refuse_busy(conn);
        return;
    }
    conn->body_room = room;
    http->body_bytes += room;
    conn->taken += conn->gate.head_size + room;
    conn->judged = true;
    conn->phase = PHASE_BODY;
    uv_poll_stop(&conn->watch);
    wake_at(conn, 1);
    set_deadline(conn, HTTP_BODY_MS);
    if (conn->gate.wants_continue && room > 0)
        send(conn->fd, go_on, sizeof go_on - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (conn->wsi == NULL) {
        if (!library_adopt(conn)) conn_close(conn);
        return;
    }
    lws_rx_flow_control(conn->wsi, 1);
    if (lws_http_transaction_completed(conn->wsi)) conn_kill(conn);
}

static void look_at_head(struct http_conn *conn, size_t size)
{
    struct peal_http *http = conn->http;
    const struct peal_http_shared *shared = http->shared;
    struct peal_gate_rules rules = {.config = shared->config,
                                    .api = conn->api,
                                    .page = shared->demo_page.at != NULL,
                                    .token = shared->token_secret.at != NULL,
                                    .key_hashes = shared->key_hashes,
                                    .key_count = shared->key_count};
    struct peal_gate_refusal refusal;
    enum peal_err err =
        peal_gate_judge(&rules, peal_span_make(http->bytes, size), &conn->gate, &refusal);
    if (err == PEAL_OK) {
        let_through(conn);
    } else if (err == PEAL_EAGAIN) {
        /* The bytes stay in the socket, and would be reported for ever. */
        wake_at(conn, size + 1);
        if (!conn->started) set_deadline(conn, PEAL_HANDSHAKE_MS);
        conn->started = true;
    } else {
        refuse(conn, &refusal);
    }
}

static void head_readable(uv_poll_t *watch, int status, int events)
{
    struct http_conn *conn = watch->data;
    (void)events;
    if (status != 0) {
        conn_kill(conn);
        return;
    }
    ssize_t n =
        recv(conn->fd, conn->http->bytes, sizeof conn->http->bytes, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    int unread = 0;
    /* Woken with nothing new: the client has closed, or half of a head is all it will say. */
    int low_water = 0;
    socklen_t size = sizeof low_water;
    bool ended = n <= 0;
    if (!ended && conn->started && ioctl(conn->fd, SIOCINQ, &unread) == 0 &&
        getsockopt(conn->fd, SOL_SOCKET, SO_RCVLOWAT, &low_water, &size) == 0)
        ended = unread < low_water;
    if (ended)
        conn_kill(conn);
    else
        look_at_head(conn, (size_t)n);
}

/* ---- the library says -------------------------------------------------------------------- */

static int on_body(struct http_conn *conn, const void *at, size_t size)
{
    if (conn->phase != PHASE_BODY || size > conn->gate.body_size - conn->body.size) return -1;
    peal_buf_add(&conn->body, at, size);
    return conn->body.failed ? -1 : 0;
}

/* The library's descriptor is closed. */
static void on_gone(struct http_conn *conn)
{
    conn->wsi = NULL;
    uv_poll_stop(&conn->watch);
    uv_timer_stop(&conn->timer);
    linger(conn);
}

static int library_says(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                        size_t size)
{
    struct http_conn *conn = wsi == NULL ? NULL : lws_get_opaque_user_data(wsi);
    (void)user;
    switch (reason) {
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return -1; /* `in` may point to memory that is free already (CVE-2025-11677) */
    case LWS_CALLBACK_HTTP:
        if (conn == NULL || !conn->judged || conn->phase != PHASE_BODY) return -1;
        conn->judged = false;
        return conn->gate.body_size > 0 ? 0 : run_call(conn);
    case LWS_CALLBACK_HTTP_BODY:
        return conn == NULL ? -1 : on_body(conn, in, size);
    case LWS_CALLBACK_HTTP_BODY_COMPLETION:
        /* Also said when more comes in behind a body that is complete. */
        if (conn == NULL || conn->phase != PHASE_BODY) return -1;
        return conn->body.size == conn->gate.body_size ? run_call(conn) : -1;
    case LWS_CALLBACK_CLOSED_HTTP:
        if (conn == NULL) return 0;
        peal_api_fini(&conn->call);
        uv_poll_stop(&conn->watch);
        uv_timer_stop(&conn->timer);
        return 0;
    case LWS_CALLBACK_WSI_DESTROY:
        if (conn != NULL) on_gone(conn);
        return 0;
    default:
        return 0;
    }
}

static void library_logs(int level, const char *line)
{
    char quoted[512];
    struct peal_span text = peal_span_of(line);
    while (text.size > 0 && text.at[text.size - 1] == '\n')
        text.size--;
    peal_log(level == LLL_ERR ? PEAL_LOG_ERROR : PEAL_LOG_WARN, "http.library", "said=%s",
             peal_log_quote(text, quoted, sizeof quoted));
}

/* ---- life -------------------------------------------------------------------------------- */

static void set_library_log(void)
{
    lws_set_log_level(LLL_ERR | LLL_WARN, library_logs);
}

static const struct lws_protocols protocols[] = {
    {.name = "http", .callback = library_says},
    {0},
};

/* All zero: with the library's own every connection would stand in a sorted list of timers. */
static const lws_retry_bo_t no_retry;

struct peal_http *peal_http_new(struct peal_hub *hub, const struct peal_http_shared *shared,
                                void *uv_loop)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_library_log);
    struct peal_http *http = calloc(1, sizeof *http);
    if (http == NULL) return NULL;
    http->hub = hub;
    http->shared = shared;
    http->loop = uv_loop;
    peal_link_init(&http->conns);

    void *loops[1] = {uv_loop};
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                   LWS_SERVER_OPTION_SKIP_SERVER_CANONICAL_NAME | LWS_SERVER_OPTION_VALIDATE_UTF8,
        .foreign_loops = loops,
        .pcontext = &http->context,
        .protocols = protocols,
        .retry_and_idle_policy = &no_retry,
        .max_http_header_data = HTTP_HEADER_DATA,
        .timeout_secs = HTTP_LIBRARY_S,
        .keepalive_timeout = HTTP_LIBRARY_S,
        .vhost_name = "peal",
    };
    http->context = lws_create_context(&info);
    if (http->context != NULL) http->vhost = lws_create_vhost(http->context, &info);
    if (http->vhost != NULL) return http;
    peal_http_free(http);
    return NULL;
}

void peal_http_adopt(struct peal_http *http, int fd, bool api)
{
    struct http_conn *conn = calloc(1, sizeof *conn);
    if (conn == NULL || uv_poll_init_socket(http->loop, &conn->watch, fd) != 0) {
        free(conn);
        close(fd);
        return;
    }
    uv_timer_init(http->loop, &conn->timer); /* cannot fail */
    conn->handles = 2;
    conn->watch.data = conn;
    conn->timer.data = conn;
    conn->http = http;
    conn->fd = fd;
    conn->api = api;
    peal_api_init(&conn->call, http->hub, http->shared);
    peal_list_append(&http->conns, &conn->in_http);
    http->conn_counts[api]++;
    if (http->conn_counts[api] > PEAL_HTTP_CONNS_MAX)
        refuse_busy(conn);
    else
        wait_for_head(conn, PEAL_HANDSHAKE_MS);
}

/* Between two requests, and the next one has not even begun. */
static bool is_idle(const struct http_conn *conn)
{
    int unread = 0;
    return conn->phase == PHASE_HEAD && conn->taken > 0 && !conn->started &&
           ioctl(conn->fd, SIOCINQ, &unread) == 0 && unread == 0;
}

void peal_http_drain(struct peal_http *http)
{
    PEAL_LIST_EACH(&http->conns, it, after)
    {
        struct http_conn *conn = PEAL_FROM_LINK(it, struct http_conn, in_http);
        if (is_idle(conn)) conn_kill(conn);
    }
}

bool peal_http_busy(const struct peal_http *http)
{
    for (const struct peal_link *it = http->conns.next; it != &http->conns; it = it->next)
        if (PEAL_FROM_LINK(it, struct http_conn, in_http)->phase < PHASE_LINGER) return true;
    return false;
}

void peal_http_free(struct peal_http *http)
{
    if (http == NULL) return;
    http->closing = true;
    PEAL_LIST_EACH(&http->conns, it, after)
    conn_kill(PEAL_FROM_LINK(it, struct http_conn, in_http));
    /* Handles of libuv close in a later turn of the loop. The library wants to be asked twice:
     * the first time it closes them, the second time it frees. */
    struct lws_context *context = http->context;
    if (context != NULL) lws_context_destroy(context);
    for (int turn = 0; turn < HTTP_CLOSE_TURNS && !peal_list_empty(&http->conns); turn++)
        uv_run(http->loop, UV_RUN_NOWAIT);
    for (int turn = 0; turn < 3; turn++)
        uv_run(http->loop, UV_RUN_NOWAIT);
    if (http->context != NULL) lws_context_destroy(context);
    PEAL_ASSERT(peal_list_empty(&http->conns));
    free(http);
}

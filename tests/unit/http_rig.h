/* tests/unit/http_rig.h: the HTTP listeners in a real loop, with real sockets on the loopback
 * interface, and a bus that the test plays. */
#ifndef PEAL_TESTS_HTTP_RIG_H
#define PEAL_TESTS_HTTP_RIG_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <netinet/tcp.h>
#include <uv.h>

#include "base/config.h"
#include "base/limits.h"
#include "node/http.h"
#include "proto/envelope.h"
#include "proto/json.h"
#include "proto/json_check.h"
#include "proto/token.h"
#include "proto/wire.h"
#include "tests/unit/unit.h"

enum { ORDERS_MAX = 64, CLIENTS_MAX = 4, GUARD_MS = 20000 };

#define AUTH "Authorization: Bearer key-1\r\n"
#define HOST "Host: a\r\n"

#define BODY      "{\"group\":\"a\",\"data\":1}" /* 22 bytes */
#define POST_HALF "POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Length: 22\r\n\r\n{"
#define SECOND    "GET /livez HTTP/1.1\r\n" HOST "\r\n"

static const char yaml[] = "api: {keys: [\"key-1\", "
                           /* key-2 */
                           "\"sha256:"
                           "7c36b0a9dedde119c75165957c6c9c187e65df1ee5db87c4c58ad503ad88cbe3\"]}\n"
                           "limits: {body: 1MiB}\n"
                           "groups: [{match: \"*\", join: anyone}]\n";
static const char secret[] = "0123456789-0123456789-0123456789";
static const char page[] = "<!doctype html><title>demo</title>";

struct client {
    struct world *world;
    uv_poll_t poll;
    int fd;
    struct peal_buf in;
    bool closed; /* by the server */
};

struct world {
    uv_loop_t loop;
    uv_timer_t guard;
    bool late;
    struct peal_config *config;
    struct peal_http_shared shared;
    _Atomic bool ready;
    struct peal_hub hub;
    struct peal_http *http;
    struct peal_order *orders[ORDERS_MAX];
    size_t order_count;
    size_t served;
    bool silent;       /* the router does not answer */
    uint64_t code;     /* the router refuses with */
    bool full;         /* the bus takes nothing */
    uint64_t after_ms; /* not 0: the router has no room for a publish, and says so */
    bool narrow;       /* new connections have small socket buffers */
    uint64_t page_flags;
    struct peal_buf last; /* the last frame that was asked with */
    struct client clients[CLIENTS_MAX];
    size_t client_count;
};

/* ---- the bus ----------------------------------------------------------------------------- */

static inline enum peal_err take_order(void *ctx, struct peal_order *order)
{
    struct world *w = ctx;
    if (w->full) return PEAL_EFULL;
    assert_true(w->order_count < ORDERS_MAX);
    w->orders[w->order_count++] = order;
    return PEAL_OK;
}

static inline void add_entry(struct peal_buf *all, size_t *sizes, size_t *count,
                             const struct peal_frame *frame)
{
    size_t before = all->size;
    peal_frame_encode(frame, all);
    sizes[(*count)++] = all->size - before;
}

static inline void add_message(struct peal_buf *all, size_t *sizes, size_t *count, uint64_t offset,
                               enum peal_data_kind kind, const char *data, uint64_t flags)
{
    struct peal_buf envelope = {0};
    struct peal_envelope env = {.id = peal_span_of("m"),
                                .group = peal_span_of("user:bob"),
                                .epoch = 9,
                                .offset = offset,
                                .ts_ms = 1000,
                                .data = peal_span_of(data),
                                .data_kind = kind};
    if (kind == PEAL_DATA_JSON) env.event = peal_span_of("note");
    if (kind == PEAL_DATA_TEXT) env.from = peal_span_of("eve");
    peal_envelope_encode(&env, &envelope);
    struct peal_frame frame = {
        .type = PEAL_F_MESSAGE, .envelope = peal_buf_span(&envelope), .flags = flags};
    add_entry(all, sizes, count, &frame);
    peal_buf_fini(&envelope);
}

static inline void answer_order(struct world *w, struct peal_order *order)
{
    struct peal_frame sent;
    struct peal_buf all = {0};
    struct peal_buf out = {0};
    struct peal_span entries[64];
    size_t sizes[64];
    size_t count = 0;
    w->last.size = 0;
    peal_buf_add_span(&w->last, order->frame);
    if (w->silent) return;
    assert_int_equal(peal_frame_decode(order->frame, &sent), PEAL_OK);
    struct peal_frame answer = {.req = sent.req, .group = sent.group, .code = w->code};
    if (sent.type == PEAL_F_PUBLISH) {
        answer.type = PEAL_F_PUBLISHED;
        for (size_t i = 0; i < sent.entries.count; i++) {
            struct peal_envelope env;
            assert_int_equal(peal_envelope_decode(sent.entries.at[i], &env), PEAL_OK);
            bool stored = peal_span_starts(env.group, "user:");
            bool known = env.id.at != NULL;
            struct peal_frame receipt = {.type = PEAL_F_RECEIPT,
                                         .id = known ? env.id : peal_span_of("01ULID"),
                                         .group = env.group,
                                         .epoch = 9,
                                         .offset = i + 1,
                                         .flags = (stored ? PEAL_FLAG_STORED : 0) |
                                                  (known ? PEAL_FLAG_DUPLICATE : 0)};
            if (w->after_ms > 0)
                receipt = (struct peal_frame){.type = PEAL_F_RECEIPT,
                                              .code = PEAL_ERATE_LIMITED,
                                              .message = peal_span_of("too much waits"),
                                              .after_ms = w->after_ms};
            add_entry(&all, sizes, &count, &receipt);
        }
    } else if (sent.type == PEAL_F_FETCH) {
        answer.type = PEAL_F_PAGE;
        answer.epoch = 9;
        answer.unread = 2;
        answer.rev = 4;
        answer.flags = w->page_flags;
        add_message(&all, sizes, &count, 7, PEAL_DATA_JSON, "{\"a\":1e2}", 0);
        add_message(&all, sizes, &count, 6, PEAL_DATA_TEXT, "hi \"you\"", PEAL_FLAG_ACKED);
        add_message(&all, sizes, &count, 4, PEAL_DATA_BINARY, "xyz", PEAL_FLAG_READ);
    } else {
        assert_int_equal(sent.type, PEAL_F_MARK);
        answer.type = PEAL_F_MARKED;
        answer.unread = 1;
        answer.rev = 5;
    }
    const char *at = all.at;
    for (size_t i = 0; i < count; i++) {
        entries[i] = peal_span_make(at, sizes[i]);
        at += sizes[i];
    }
    answer.entries.at = entries;
    answer.entries.count = count;
    peal_frame_encode(&answer, &out);
    struct peal_letter *letter;
    assert_int_equal(peal_letter_new(peal_buf_span(&out), &letter), PEAL_OK);
    peal_hub_on_letter(&w->hub, letter);
    peal_letter_unref(letter);
    peal_frame_fini(&sent);
    peal_buf_fini(&all);
    peal_buf_fini(&out);
}

/* ---- clients ----------------------------------------------------------------------------- */

static inline void guard_came(uv_timer_t *timer)
{
    ((struct world *)timer->data)->late = true;
}

static inline void turn(struct world *w)
{
    uv_run(&w->loop, UV_RUN_ONCE);
    while (w->served < w->order_count)
        answer_order(w, w->orders[w->served++]);
    if (w->late) fail_msg("the server did not do in time what the test waits for");
}

static inline void client_readable(uv_poll_t *poll, int status, int events)
{
    struct client *c = poll->data;
    char bytes[65536];
    (void)status;
    (void)events;
    ssize_t n = recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n > 0) {
        peal_buf_add(&c->in, bytes, (size_t)n);
        return;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    c->closed = true;
    uv_poll_stop(poll);
}

/* Connects; *server is the server's end, the result the client's. */
static inline int open_pair(const struct world *w, int *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&address, size), 0);
    *server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(*server >= 0);
    close(listener);
    int small = 4096;
    int one = 1;
    if (w->narrow) setsockopt(*server, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    setsockopt(*server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return client;
}

/* A connection whose other end is with the server. */
static inline struct client *client_open(struct world *w, bool api)
{
    int fd;
    assert_true(w->client_count < CLIENTS_MAX);
    struct client *c = &w->clients[w->client_count++];
    c->fd = open_pair(w, &fd);
    assert_int_equal(fcntl(c->fd, F_SETFL, O_NONBLOCK), 0);
    c->world = w;
    assert_int_equal(uv_poll_init_socket(&w->loop, &c->poll, c->fd), 0);
    c->poll.data = c;
    uv_poll_start(&c->poll, UV_READABLE, client_readable);
    peal_http_adopt(w->http, fd, api);
    return c;
}

static inline void client_send(struct client *c, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = send(c->fd, text, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            turn(c->world);
            continue;
        }
        if (n < 0) return; /* refused and closed meanwhile */
        text += n;
        size -= (size_t)n;
    }
}

struct response {
    int status;
    char head[2048];
    struct peal_span body;
    size_t size;
};

static inline bool parse_response(const struct client *c, bool head_only, struct response *r)
{
    const char *end = c->in.size == 0 ? NULL : memmem(c->in.at, c->in.size, "\r\n\r\n", 4);
    if (end == NULL) return false;
    size_t head = (size_t)(end + 4 - c->in.at);
    assert_true(head < sizeof r->head);
    memcpy(r->head, c->in.at, head);
    r->head[head] = '\0';
    assert_int_equal(strncmp(r->head, "HTTP/1.1 ", 9), 0);
    r->status = atoi(r->head + 9);
    const char *length = strstr(r->head, "\r\nContent-Length: ");
    size_t body = length == NULL || head_only ? 0 : (size_t)atol(length + 18);
    if (c->in.size < head + body) return false;
    r->body = peal_span_make(c->in.at + head, body);
    r->size = head + body;
    return true;
}

static struct response last;

static inline bool is_head(const char *request)
{
    return strncmp(request, "HEAD ", 5) == 0;
}

/* Sends one request and reads one response, which stays in c->in. */
static inline int ask(struct client *c, const char *request)
{
    c->in.size = 0;
    client_send(c, request, strlen(request));
    while (!parse_response(c, is_head(request), &last)) {
        if (c->closed) fail_msg("closed without an answer: %s", request);
        turn(c->world);
    }
    assert_int_equal(last.size, c->in.size);
    return last.status;
}

static inline int ask_new(struct world *w, bool api, const char *request)
{
    struct client *c = client_open(w, api);
    int status = ask(c, request);
    return status;
}

static inline void client_end(struct client *c);

/* One request on a connection of its own. */
static inline int once(struct world *w, bool api, const char *request)
{
    static char body[65536];
    int status = ask_new(w, api, request);
    assert_true(last.body.size < sizeof body);
    memcpy(body, last.body.at, last.body.size);
    last.body.at = body;
    client_end(&w->clients[w->client_count - 1]);
    w->client_count--;
    return status;
}

static inline const char *post(const char *path, const char *headers, const char *body)
{
    static char text[70000];
    snprintf(text, sizeof text, "POST %s HTTP/1.1\r\n" HOST "%sContent-Length: %zu\r\n\r\n%s", path,
             headers, strlen(body), body);
    return text;
}

static inline bool body_has(const char *text)
{
    return memmem(last.body.at, last.body.size, text, strlen(text)) != NULL;
}

static inline void assert_body(const char *text)
{
    if (!peal_span_is(last.body, text))
        fail_msg("%d: %.*s\nnot %s", last.status, (int)last.body.size, last.body.at, text);
}

static inline bool is_close(void)
{
    return strstr(last.head, "\r\nConnection: close\r\n") != NULL;
}

static inline void wait_for_close(struct client *c)
{
    while (!c->closed)
        turn(c->world);
}

static inline void handle_gone(uv_handle_t *handle)
{
    *(bool *)handle->data = true;
}

static inline void client_end(struct client *c)
{
    bool gone = false;
    c->poll.data = &gone;
    uv_close((uv_handle_t *)&c->poll, handle_gone);
    while (!gone)
        uv_run(&c->world->loop, UV_RUN_ONCE);
    close(c->fd);
    peal_buf_fini(&c->in);
    memset(c, 0, sizeof *c);
}

/* ---- set-up ------------------------------------------------------------------------------ */

static inline int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    const struct peal_config_sources from = {.text = yaml, .text_size = sizeof yaml - 1};
    const struct peal_hub_io io = {.ctx = w, .order = take_order};
    struct peal_buf problems = {0};
    if (peal_config_load(&from, &w->config, &problems) != PEAL_OK) {
        print_error("%.*s\n", (int)problems.size, problems.at);
        return -1;
    }
    peal_buf_fini(&problems);
    if (peal_http_shared_init(&w->shared, w->config) != PEAL_OK) return -1;
    w->ready = true;
    w->shared.ready = &w->ready;
    w->shared.demo_page = peal_span_of(page);
    w->shared.token_secret = peal_span_of(secret);
    if (peal_hub_init(&w->hub, w->config, NULL, &io, 0, 7, 1000) != PEAL_OK) return -1;
    peal_hub_set_time(&w->hub, 1000, 1700000000000);
    uv_loop_init(&w->loop);
    uv_timer_init(&w->loop, &w->guard);
    w->guard.data = w;
    uv_timer_start(&w->guard, guard_came, GUARD_MS, 0);
    w->http = peal_http_new(&w->hub, &w->shared, &w->loop);
    *state = w;
    return w->http == NULL ? -1 : 0;
}

static inline int teardown(void **state)
{
    struct world *w = *state;
    bool gone = false;
    peal_http_free(w->http);
    for (size_t i = 0; i < w->client_count; i++)
        client_end(&w->clients[i]);
    w->guard.data = &gone;
    uv_close((uv_handle_t *)&w->guard, handle_gone);
    while (!gone)
        uv_run(&w->loop, UV_RUN_ONCE);
    /* Nothing of the library or of us is left in the loop. */
    int busy = uv_loop_close(&w->loop);
    peal_hub_fini(&w->hub);
    for (size_t i = 0; i < w->order_count; i++)
        peal_order_free(w->orders[i]);
    peal_buf_fini(&w->last);
    peal_http_shared_fini(&w->shared);
    peal_config_free(w->config);
    free(w);
    return busy == 0 ? 0 : -1;
}

#endif

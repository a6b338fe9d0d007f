/* A real loop, real sockets on the loopback interface, a bus that the test plays. */
#include "node/http.h"

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
#include "proto/envelope.h"
#include "proto/json.h"
#include "proto/token.h"
#include "proto/wire.h"
#include "tests/unit/unit.h"

enum { ORDERS_MAX = 64, CLIENTS_MAX = 4, GUARD_MS = 20000 };

#define AUTH "Authorization: Bearer key-1\r\n"
#define HOST "Host: a\r\n"

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

static enum peal_err take_order(void *ctx, struct peal_order *order)
{
    struct world *w = ctx;
    if (w->full) return PEAL_EFULL;
    assert_true(w->order_count < ORDERS_MAX);
    w->orders[w->order_count++] = order;
    return PEAL_OK;
}

static void add_entry(struct peal_buf *all, size_t *sizes, size_t *count,
                      const struct peal_frame *frame)
{
    size_t before = all->size;
    peal_frame_encode(frame, all);
    sizes[(*count)++] = all->size - before;
}

static void add_message(struct peal_buf *all, size_t *sizes, size_t *count, uint64_t offset,
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

static void answer_order(struct world *w, struct peal_order *order)
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

static void guard_came(uv_timer_t *timer)
{
    ((struct world *)timer->data)->late = true;
}

static void turn(struct world *w)
{
    uv_run(&w->loop, UV_RUN_ONCE);
    while (w->served < w->order_count)
        answer_order(w, w->orders[w->served++]);
    if (w->late) fail_msg("the server did not do in time what the test waits for");
}

static void client_readable(uv_poll_t *poll, int status, int events)
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
static int open_pair(const struct world *w, int *server)
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
static struct client *client_open(struct world *w, bool api)
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

static void client_send(struct client *c, const char *text, size_t size)
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

static bool parse_response(const struct client *c, bool head_only, struct response *r)
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

static bool is_head(const char *request)
{
    return strncmp(request, "HEAD ", 5) == 0;
}

/* Sends one request and reads one response, which stays in c->in. */
static int ask(struct client *c, const char *request)
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

static int ask_new(struct world *w, bool api, const char *request)
{
    struct client *c = client_open(w, api);
    int status = ask(c, request);
    return status;
}

static void client_end(struct client *c);

/* One request on a connection of its own. */
static int once(struct world *w, bool api, const char *request)
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

static const char *post(const char *path, const char *headers, const char *body)
{
    static char text[70000];
    snprintf(text, sizeof text, "POST %s HTTP/1.1\r\n" HOST "%sContent-Length: %zu\r\n\r\n%s", path,
             headers, strlen(body), body);
    return text;
}

static bool body_has(const char *text)
{
    return memmem(last.body.at, last.body.size, text, strlen(text)) != NULL;
}

static void assert_body(const char *text)
{
    if (!peal_span_is(last.body, text))
        fail_msg("%d: %.*s\nnot %s", last.status, (int)last.body.size, last.body.at, text);
}

static bool is_close(void)
{
    return strstr(last.head, "\r\nConnection: close\r\n") != NULL;
}

static void wait_for_close(struct client *c)
{
    while (!c->closed)
        turn(c->world);
}

static void handle_gone(uv_handle_t *handle)
{
    *(bool *)handle->data = true;
}

static void client_end(struct client *c)
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

static int setup(void **state)
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

static int teardown(void **state)
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

/* ---- pages ------------------------------------------------------------------------------- */

static void http_status_pages_need_no_key(void **state)
{
    struct world *w = *state;
    assert_int_equal(once(w, true, "GET /livez HTTP/1.1\r\n" HOST "\r\n"), 200);
    assert_int_equal(once(w, true, "GET /readyz HTTP/1.1\r\n" HOST "\r\n"), 200);
    assert_body("{\"ready\":true}\n");
    w->ready = false;
    assert_int_equal(once(w, true, "GET /readyz HTTP/1.1\r\n" HOST "\r\n"), 503);
    assert_body("{\"ready\":false}\n");
    assert_non_null(strstr(last.head, "\r\nRetry-After: 1\r\n"));
    assert_int_equal(once(w, true, "GET /metrics HTTP/1.1\r\n" HOST "\r\n"), 200);
    assert_non_null(strstr(last.head, "\r\nContent-Type: text/plain; version=0.0.4\r\n"));
    assert_true(body_has("# TYPE peal_connections gauge"));
}

static void http_head_is_get_without_the_body(void **state)
{
    struct world *w = *state;
    assert_int_equal(once(w, true, "HEAD /readyz HTTP/1.1\r\n" HOST "\r\n"), 200);
    assert_non_null(strstr(last.head, "\r\nContent-Length: 15\r\n"));
    assert_int_equal(last.body.size, 0);
}

static void http_demo_page_says_what_it_may(void **state)
{
    struct world *w = *state;
    struct client *c = client_open(w, false);
    assert_int_equal(ask(c, "GET / HTTP/1.1\r\n" HOST "\r\n"), 200);
    assert_body(page);
    assert_non_null(strstr(last.head, "\r\nContent-Security-Policy: default-src 'none'; "));
    assert_non_null(strstr(last.head, "frame-ancestors 'none'\r\n"));
    assert_non_null(strstr(last.head, "\r\nX-Content-Type-Options: nosniff\r\n"));
    assert_non_null(strstr(last.head, "\r\nReferrer-Policy: no-referrer\r\n"));
    assert_non_null(strstr(last.head, "\r\nCache-Control: no-store\r\n"));
    assert_true(is_close());
    wait_for_close(c);
}

static void http_dev_token_is_one_that_the_node_takes(void **state)
{
    struct world *w = *state;
    assert_int_equal(once(w, false, post("/dev/token", "", "{\"user\":\"b\\u00f6b\"}")), 200);
    struct peal_json json;
    struct peal_buf token = {0};
    struct peal_claims claims;
    char why[160];
    last.body.size--; /* the line end */
    assert_int_equal(peal_json_check(last.body, NULL, 0), PEAL_OK);
    assert_int_equal(peal_json_object(last.body, &json), PEAL_OK);
    assert_int_equal(peal_json_string(peal_json_get(&json, "token")->value, &token), PEAL_OK);
    struct peal_token_keys *keys = peal_token_keys_new();
    peal_token_keys_add_hs256(keys, peal_span_of(secret));
    const struct peal_token_rules rules = {.user_claim = "sub"};
    assert_int_equal(peal_token_verify(keys, &rules, peal_buf_span(&token), 1700000000000, &claims,
                                       why, sizeof why),
                     PEAL_OK);
    assert_string_equal(claims.user, "b\xc3\xb6"
                                     "b");
    assert_int_equal(claims.expires_ms, 1700000000000 + 12ull * 3600 * 1000);
    peal_claims_fini(&claims);
    peal_token_keys_free(keys);
    peal_buf_fini(&token);

    assert_int_equal(once(w, false, post("/dev/token", "", "{\"user\":\"a\\u0000b\"}")), 400);
    assert_int_equal(once(w, false, post("/dev/token", "", "{\"user\":\"\"}")), 400);
    assert_int_equal(once(w, false, post("/dev/token", "", "{\"user\":1}")), 400);
    assert_int_equal(once(w, false, post("/dev/token", "", "{}")), 400);
    assert_int_equal(once(w, false, post("/dev/token", "", "{")), 400);
    assert_true(body_has("\"code\":\"bad_json\""));
}

static void http_browser_listener_closes_after_each_answer(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *request;
        int status;
    } rows[] = {
        {"GET /nothing HTTP/1.1\r\n" HOST "\r\n", 404},
        {"GET /v1/ws HTTP/1.1\r\n" HOST "\r\n", 426},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", 405},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct client *c = client_open(w, false);
        assert_int_equal(ask(c, rows[i].request), rows[i].status);
        assert_true(is_close());
        wait_for_close(c);
    }
}

/* ---- publish ----------------------------------------------------------------------------- */

static void http_publish_gives_a_receipt(void **state)
{
    struct world *w = *state;
    assert_int_equal(
        once(w, true, post("/v1/publish", AUTH, "{\"group\":\"a\",\"data\":{\"x\":1}}")), 200);
    assert_body("{\"id\":\"01ULID\",\"group\":\"a\",\"epoch\":\"9\",\"offset\":1,"
                "\"ack\":\"routed\"}\n");
    assert_int_equal(once(w, true,
                          post("/v1/publish", AUTH "Content-Type: application/json\r\n",
                               "{\"user\":\"bob\",\"text\":\"x\",\"message_id\":\"m\"}")),
                     200);
    assert_body("{\"id\":\"m\",\"group\":\"user:bob\",\"epoch\":\"9\",\"offset\":1,"
                "\"ack\":\"stored\",\"duplicate\":true}\n");
}

static void http_publish_of_a_list_gives_results_in_order(void **state)
{
    struct world *w = *state;
    assert_int_equal(
        once(w, true,
             post("/v1/publish", AUTH,
                  "[{\"group\":\"a\",\"data\":1},{\"data\":2},{\"group\":\"b\",\"data\":3}]")),
        200);
    assert_true(peal_span_starts(last.body, "{\"results\":[{\"id\":\"01ULID\",\"group\":\"a\""));
    assert_true(body_has("},{\"error\":{\"code\":\"missing_field\",\"message\":\""));
    assert_true(body_has("{\"id\":\"01ULID\",\"group\":\"b\",\"epoch\":\"9\",\"offset\":2,"));
    assert_int_equal(
        once(w, true, post("/v1/publish", AUTH, "{\"users\":[\"x\",\"y\"],\"data\":1}")), 200);
    assert_true(peal_span_starts(last.body, "{\"results\":["));
    assert_true(body_has("\"group\":\"user:y\""));
}

static void http_publish_refused_has_the_status_of_its_error(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *body;
        int status;
        const char *code;
    } rows[] = {
        {"{\"group\":\"a\",", 400, "bad_json"},
        {"{\"group\":\"a\"}", 400, "missing_field"},
        {"{\"group\":7,\"data\":1}", 400, "bad_field"},
        {"{\"group\":\"\",\"data\":1}", 400, "bad_group"},
        {"{\"group\":\"sys:x\",\"data\":1}", 403, "forbidden"},
        {"[{\"data\":1},{\"data\":2}]", 400, "missing_field"},
        {"7", 400, "bad_"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char code[64];
        snprintf(code, sizeof code, "\"code\":\"%s", rows[i].code);
        if (once(w, true, post("/v1/publish", AUTH, rows[i].body)) != rows[i].status ||
            !body_has(code))
            fail_msg("%s: %d %.*s", rows[i].body, last.status, (int)last.body.size, last.body.at);
    }
    assert_int_equal(w->order_count, 0);
}

static void http_publish_too_large_is_413_for_its_item(void **state)
{
    struct world *w = *state;
    static char body[69000];
    strcpy(body, "{\"group\":\"a\",\"text\":\"");
    memset(body + strlen(body), 'x', 65537);
    strcat(body, "\"}");
    assert_int_equal(once(w, true, post("/v1/publish", AUTH, body)), 413);
    assert_true(body_has("\"code\":\"too_large\""));
}

static void http_publish_without_router_says_when_to_retry(void **state)
{
    struct world *w = *state;
    const char *request = post("/v1/publish", AUTH, "{\"group\":\"a\",\"data\":1}");
    w->code = PEAL_ENO_ROUTER;
    assert_int_equal(once(w, true, request), 503);
    assert_true(body_has("\"code\":\"no_router\""));
    assert_non_null(strstr(last.head, "\r\nRetry-After: 1\r\n"));
    w->code = PEAL_ERATE_LIMITED;
    assert_int_equal(once(w, true, request), 429);
    assert_non_null(strstr(last.head, "\r\nRetry-After: 1\r\n"));
    w->full = true;
    assert_int_equal(once(w, true, request), 503);
    assert_true(body_has("\"code\":\"queue_full\""));
}

static void http_publish_beyond_what_the_router_takes_says_how_long_to_wait(void **state)
{
    struct world *w = *state;
    const char *request = post("/v1/publish", AUTH, "{\"user\":\"a\",\"data\":1}");
    w->after_ms = 2001;
    assert_int_equal(once(w, true, request), 429);
    assert_true(body_has("\"code\":\"rate_limited\""));
    assert_true(body_has("\"after_ms\":2001"));
    assert_non_null(strstr(last.head, "\r\nRetry-After: 3\r\n"));
    w->after_ms = 50; /* not sooner than in a second: the header knows nothing smaller */
    assert_int_equal(once(w, true, request), 429);
    assert_true(body_has("\"after_ms\":50"));
    assert_non_null(strstr(last.head, "\r\nRetry-After: 1\r\n"));
}

static void http_silent_router_is_504(void **state)
{
    struct world *w = *state;
    struct client *c = client_open(w, true);
    const char *request = post("/v1/publish", AUTH, "{\"group\":\"a\",\"data\":1}");
    w->silent = true;
    client_send(c, request, strlen(request));
    while (w->served == 0)
        turn(w);
    peal_hub_set_time(&w->hub, 1000 + PEAL_REQUEST_MS, 0);
    peal_hub_on_tick(&w->hub);
    while (!parse_response(c, false, &last))
        turn(w);
    assert_int_equal(last.status, 504);
    assert_true(body_has("\"code\":\"timeout\""));
}

static void http_client_that_leaves_cancels_its_request(void **state)
{
    struct world *w = *state;
    struct client *c = client_open(w, true);
    const char *request = post("/v1/publish", AUTH, "{\"group\":\"a\",\"data\":1}");
    w->silent = true;
    client_send(c, request, strlen(request));
    while (w->served == 0)
        turn(w);
    assert_int_equal(w->hub.requests.count, 1);
    shutdown(c->fd, SHUT_RDWR);
    while (w->hub.requests.count > 0)
        turn(w);
    /* The answer comes after all: nobody is there. */
    w->silent = false;
    answer_order(w, w->orders[0]);
}

static void http_shutdown_cancels_what_waits(void **state)
{
    struct world *w = *state;
    struct client *c = client_open(w, true);
    const char *request = post("/v1/publish", AUTH, "{\"group\":\"a\",\"data\":1}");
    w->silent = true;
    client_send(c, request, strlen(request));
    while (w->served == 0)
        turn(w);
    peal_http_free(w->http);
    w->http = NULL;
    assert_int_equal(w->hub.requests.count, 0);
}

/* ---- inbox ------------------------------------------------------------------------------- */

static void last_frame(struct world *w, struct peal_frame *out)
{
    assert_int_equal(peal_frame_decode(peal_buf_span(&w->last), out), PEAL_OK);
}

static void http_inbox_lists_messages_newest_first(void **state)
{
    struct world *w = *state;
    struct peal_frame sent;
    assert_int_equal(once(w, true, "GET /v1/inbox/bob HTTP/1.1\r\n" HOST AUTH "\r\n"), 200);
    assert_body("{\"user\":\"bob\",\"epoch\":\"9\",\"unread\":2,\"rev\":4,\"messages\":["
                "{\"offset\":7,\"id\":\"m\",\"event\":\"note\",\"data\":{\"a\":1e2},\"ts\":1000,"
                "\"read\":false,\"delivered\":false},"
                "{\"offset\":6,\"id\":\"m\",\"kind\":\"text\",\"data\":\"hi \\\"you\\\"\","
                "\"from\":\"eve\",\"ts\":1000,\"read\":false,\"delivered\":true},"
                "{\"offset\":4,\"id\":\"m\",\"kind\":\"binary\",\"data\":\"eHl6\",\"ts\":1000,"
                "\"read\":true,\"delivered\":true}]}\n");
    last_frame(w, &sent);
    assert_int_equal(sent.type, PEAL_F_FETCH);
    assert_true(peal_span_is(sent.group, "user:bob"));
    assert_int_equal(sent.flags, PEAL_FLAG_REVERSE);
    assert_int_equal(sent.offset, 0);
    assert_int_equal(sent.epoch, 0);
    assert_int_equal(sent.limit, 50);
    peal_frame_fini(&sent);

    w->page_flags = PEAL_FLAG_MORE;
    assert_int_equal(once(w, true,
                          "GET /v1/inbox/bob?before=8&limit=3&unread_only=1 HTTP/1.1\r\n" HOST AUTH
                          "\r\n"),
                     200);
    assert_true(body_has("],\"next\":4}"));
    last_frame(w, &sent);
    assert_int_equal(sent.flags, PEAL_FLAG_REVERSE | PEAL_FLAG_UNREAD);
    assert_int_equal(sent.offset, 8);
    assert_int_equal(sent.limit, 3);
    peal_frame_fini(&sent);
}

static void http_inbox_name_is_decoded_once_and_is_no_path(void **state)
{
    struct world *w = *state;
    struct peal_frame sent;
    assert_int_equal(once(w, true, "GET /v1/inbox/bob%2F..%2Falice HTTP/1.1\r\n" HOST AUTH "\r\n"),
                     200);
    last_frame(w, &sent);
    assert_true(peal_span_is(sent.group, "user:bob/../alice"));
    peal_frame_fini(&sent);
    assert_int_equal(once(w, true, "GET /v1/inbox/a+b%252B;c HTTP/1.1\r\n" HOST AUTH "\r\n"), 200);
    last_frame(w, &sent);
    assert_true(peal_span_is(sent.group, "user:a+b%2B;c"));
    peal_frame_fini(&sent);
}

static void http_marks_reach_the_router(void **state)
{
    struct world *w = *state;
    struct peal_frame sent;
    assert_int_equal(once(w, true, post("/v1/inbox/bob/ack", AUTH, "{\"upto\":12}")), 200);
    assert_body("{\"unread\":1,\"rev\":5}\n");
    last_frame(w, &sent);
    assert_int_equal(sent.type, PEAL_F_MARK);
    assert_int_equal(sent.flags, PEAL_FLAG_ACK);
    assert_int_equal(sent.upto, 12);
    peal_frame_fini(&sent);
    assert_int_equal(once(w, true, post("/v1/inbox/bob/read", AUTH, "{\"offsets\":[3,5]}")), 200);
    last_frame(w, &sent);
    assert_int_equal(sent.flags, PEAL_FLAG_READ);
    assert_int_equal(sent.offsets.count, 2);
    assert_int_equal(sent.offsets.at[1], 5);
    peal_frame_fini(&sent);
    assert_int_equal(once(w, true, post("/v1/inbox/bob/read", AUTH, "{\"all\":true}")), 200);
    last_frame(w, &sent);
    assert_int_equal(sent.flags, PEAL_FLAG_READ | PEAL_FLAG_ALL);
    peal_frame_fini(&sent);
}

static void http_bad_marks_are_refused(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *body;
        int status;
    } rows[] = {
        {"{}", 400},
        {"[]", 400},
        {"{\"upto\":0}", 400},
        {"{\"upto\":\"1\"}", 400},
        {"{\"offsets\":[]}", 400},
        {"{\"offsets\":[1,-2]}", 400},
        {"{\"offsets\":3}", 400},
        {"{\"all\":false}", 400},
        {"{\"all\":true,\"upto\":3}", 400},
        {"{\"upto\":3", 400},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (once(w, true, post("/v1/inbox/bob/ack", AUTH, rows[i].body)) != rows[i].status)
            fail_msg("%s: %d", rows[i].body, last.status);
    static char many[8000] = "{\"offsets\":[1";
    for (size_t i = 0; i < PEAL_ACK_OFFSETS_MAX; i++)
        strcat(many, ",1");
    strcat(many, "]}");
    assert_int_equal(once(w, true, post("/v1/inbox/bob/ack", AUTH, many)), 409);
    assert_int_equal(w->order_count, 0);
    w->code = PEAL_EBAD_GROUP;
    assert_int_equal(once(w, true, post("/v1/inbox/bob/ack", AUTH, "{\"upto\":3}")), 400);
}

/* ---- refusals ---------------------------------------------------------------------------- */

static void http_refusals_have_their_status_and_close(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *request;
        int status;
        const char *header;
    } rows[] = {
        {"POST /v1/publish HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n{}", 401,
         "WWW-Authenticate: Bearer"},
        {"GET /nothing HTTP/1.1\r\n" HOST AUTH "\r\n", 404, ""},
        {"GET /v1/publish HTTP/1.1\r\n" HOST AUTH "\r\n", 405, "Allow: POST"},
        {"POST /livez HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n{}", 405, "Allow: GET, HEAD"},
        {"POST /v1/publish HTTP/1.1\r\n" HOST AUTH "\r\n", 411, ""},
        {"POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Transfer-Encoding: chunked\r\n\r\n"
         "2\r\n{}\r\n0\r\n\r\n",
         411, ""},
        {"POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Length: 1048577\r\n\r\n{", 413, ""},
        {"POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Type: multipart/form-data\r\n"
         "Content-Length: 2\r\n\r\n{}",
         415, ""},
        {"GET /livez HTTP/1.1\r\n" HOST "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
         "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
         400, ""},
        {"GET /livez HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: websocket\r\n"
         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
         400, ""},
        {"GET /livez HTTP/1.1\r\n\r\n", 400, ""},
        {"nonsense\r\n\r\n", 400, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct client *c = client_open(w, true);
        if (ask(c, rows[i].request) != rows[i].status)
            fail_msg("%s: %d", rows[i].request, last.status);
        assert_true(is_close());
        assert_non_null(strstr(last.head, rows[i].header));
        assert_true(peal_span_starts(last.body, "{\"error\":{\"code\":\""));
        assert_non_null(strstr(last.head, "\r\nContent-Type: application/json\r\n"));
        wait_for_close(c);
        assert_int_equal(last.size, c->in.size);
        client_end(c);
        w->client_count--;
    }
    assert_int_equal(w->order_count, 0);
}

static void http_too_large_a_head_is_431(void **state)
{
    struct world *w = *state;
    static char text[PEAL_HEAD_MAX + 1000] = "GET /livez HTTP/1.1\r\n" HOST "X: ";
    memset(text + strlen(text), 'x', PEAL_HEAD_MAX);
    assert_int_equal(once(w, true, text), 431);
    assert_true(is_close());
}

static void http_upgrade_after_a_first_request_is_refused(void **state)
{
    struct world *w = *state;
    struct client *c = client_open(w, true);
    assert_int_equal(ask(c, "GET /livez HTTP/1.1\r\n" HOST "\r\n"), 200);
    assert_int_equal(ask(c, "GET /livez HTTP/1.1\r\n" HOST "Connection: Upgrade\r\n"
                            "Upgrade: bogus\r\n\r\n"),
                     400);
    wait_for_close(c);
}

/* How often does the answer say 200? The connection must end by itself. */
static size_t count_200(struct world *w, const char *request)
{
    struct client *c = client_open(w, true);
    size_t count = 0;
    client_send(c, request, strlen(request));
    while (!c->closed)
        turn(w);
    const char *at = c->in.at;
    const char *end = c->in.at + c->in.size;
    while (at != NULL && at < end) {
        at = memmem(at, (size_t)(end - at), "HTTP/1.1 200", 12);
        if (at == NULL) break;
        count++;
        at += 12;
    }
    client_end(c);
    w->client_count--;
    return count;
}

#define BODY      "{\"group\":\"a\",\"data\":1}" /* 22 bytes */
#define POST_HALF "POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Length: 22\r\n\r\n{"
#define SECOND    "GET /livez HTTP/1.1\r\n" HOST "\r\n"

static void http_smuggled_request_is_never_answered(void **state)
{
    struct world *w = *state;
    static const char *const requests[] = {
        /* One length too many, or none that both sides agree on. */
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH
        "Content-Length: 22\r\nContent-Length: 60\r\n\r\n" BODY SECOND,
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Length: 22, 60\r\n\r\n" BODY SECOND,
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Length: -1\r\n\r\n" BODY SECOND,
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Length: +22\r\n\r\n" BODY SECOND,
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Length : 22\r\n\r\n" BODY SECOND,
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH
        "Content-Length: 22\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" SECOND,
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH
        "Transfer-Encoding: chunked\r\nContent-Length: 22\r\n\r\n" BODY SECOND,
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH
        "Transfer-Encoding: xchunked\r\nContent-Length: 22\r\n\r\n" BODY SECOND,
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH "X: y\r\n Content-Length: 22\r\n\r\n" BODY SECOND,
        "POST /v1/publish HTTP/1.1\n" HOST AUTH "Content-Length: 22\n\n" BODY SECOND,
        "POST /v1/publish HTTP/1.1\r\nHost : a\r\n" AUTH "Content-Length: 22\r\n\r\n" BODY SECOND,
        "GET /livez HTTP/1.1\r\n" HOST "Content-Length: 38\r\n\r\n" SECOND,
        "GET /livez HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" SECOND,
    };
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++)
        if (count_200(w, requests[i]) != 0) fail_msg("%s", requests[i]);
    /* Well-formed, but nobody waits for the first answer: at most that one is given. */
    static const char *const pipelined[] = {
        SECOND SECOND,
        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Length: 22\r\n\r\n" BODY SECOND,
        SECOND "POST /v1/publish HTTP/1.1\r\n" HOST AUTH "Content-Length: 22\r\n\r\n" BODY,
    };
    for (size_t i = 0; i < sizeof pipelined / sizeof pipelined[0]; i++)
        if (count_200(w, pipelined[i]) > 1) fail_msg("%s", pipelined[i]);
}

/* ---- connections ------------------------------------------------------------------------- */

static void http_api_connection_is_kept_alive(void **state)
{
    struct world *w = *state;
    struct client *c = client_open(w, true);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(ask(c, post("/v1/publish", AUTH, BODY)), 200);
        assert_false(is_close());
        assert_int_equal(ask(c, "GET /v1/inbox/bob HTTP/1.1\r\n" HOST AUTH "\r\n"), 200);
        assert_int_equal(ask(c, "HEAD /readyz HTTP/1.1\r\n" HOST "\r\n"), 200);
        assert_int_equal(ask(c, post("/v1/publish", AUTH, "{}")), 400);
        assert_false(c->closed);
    }
    assert_int_equal(ask(c, "GET /livez HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"), 200);
    assert_true(is_close());
    wait_for_close(c);
}

static void http_leaving_answers_close_and_is_not_ready(void **state)
{
    struct world *w = *state;
    _Atomic bool leaving = false;
    w->shared.draining = &leaving;
    struct client *c = client_open(w, true);
    assert_int_equal(ask(c, "GET /readyz HTTP/1.1\r\n" HOST "\r\n"), 200);
    assert_false(is_close());
    leaving = true;
    assert_int_equal(ask(c, post("/v1/publish", AUTH, BODY)), 200);
    assert_true(is_close());
    wait_for_close(c);
    assert_int_equal(once(w, true, "GET /readyz HTTP/1.1\r\n" HOST "\r\n"), 503);
    assert_int_equal(once(w, true, "GET /livez HTTP/1.1\r\n" HOST "\r\n"), 200);
    w->shared.draining = NULL;
}

static void http_drain_closes_who_is_idle_and_lets_the_others_end(void **state)
{
    struct world *w = *state;
    assert_false(peal_http_busy(w->http));
    struct client *idle = client_open(w, true);
    struct client *fresh = client_open(w, true);
    struct client *asking = client_open(w, true);
    assert_int_equal(ask(idle, "GET /livez HTTP/1.1\r\n" HOST "\r\n"), 200);
    assert_int_equal(ask(asking, "GET /livez HTTP/1.1\r\n" HOST "\r\n"), 200);
    /* On its way when the others are sent off, and not looked at yet. */
    asking->in.size = 0;
    static const char request[] = "GET /livez HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    client_send(asking, request, sizeof request - 1);
    peal_http_drain(w->http);
    wait_for_close(idle);
    wait_for_close(asking);
    assert_true(parse_response(asking, false, &last));
    assert_int_equal(last.status, 200);
    assert_true(peal_http_busy(w->http));
    assert_int_equal(ask(fresh, "GET /livez HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"), 200);
    wait_for_close(fresh);
    assert_false(peal_http_busy(w->http));
}

enum { QUICK_ROUNDS = 20000 };

struct quick {
    pthread_t thread;
    uv_async_t done;
    int fd;
    int rounds; /* that were answered */
};

/* Sends the next head as soon as it has the answer, and the body after the head. */
static void *quick_run(void *arg)
{
    static const char head[] =
        "POST /v1/inbox/bob/ack HTTP/1.1\r\n" HOST AUTH "Content-Length: 2\r\n\r\n";
    struct quick *q = arg;
    char bytes[4096];
    for (q->rounds = 0; q->rounds < QUICK_ROUNDS; q->rounds++) {
        if (send(q->fd, head, sizeof head - 1, MSG_NOSIGNAL) < 0) break;
        if (send(q->fd, "{}", 2, MSG_NOSIGNAL) < 0) break;
        ssize_t n = recv(q->fd, bytes, sizeof bytes, 0);
        if (n < 12 || memcmp(bytes, "HTTP/1.1 400", 12) != 0) break;
    }
    uv_async_send(&q->done);
    return NULL;
}

static void quick_done(uv_async_t *async)
{
    uv_close((uv_handle_t *)async, NULL);
}

/* The library, when it wrote the answers itself, now and then had the next head first. */
static void http_quick_client_is_never_cut_off(void **state)
{
    struct world *w = *state;
    struct quick q = {0};
    int fd;
    q.fd = open_pair(w, &fd);
    assert_int_equal(uv_async_init(&w->loop, &q.done, quick_done), 0);
    peal_http_adopt(w->http, fd, true);
    assert_int_equal(pthread_create(&q.thread, NULL, quick_run, &q), 0);
    while (!uv_is_closing((uv_handle_t *)&q.done))
        turn(w);
    pthread_join(q.thread, NULL);
    uv_run(&w->loop, UV_RUN_NOWAIT); /* the handle is on our stack */
    close(q.fd);
    assert_int_equal(q.rounds, QUICK_ROUNDS);
}

static void http_request_in_single_bytes_is_answered(void **state)
{
    struct world *w = *state;
    struct client *c = client_open(w, true);
    for (int round = 0; round < 2; round++) {
        const char *request = post("/v1/publish", AUTH, BODY);
        c->in.size = 0;
        for (const char *at = request; *at != '\0'; at++) {
            client_send(c, at, 1);
            uv_run(&w->loop, UV_RUN_NOWAIT);
        }
        while (!parse_response(c, false, &last))
            turn(w);
        assert_int_equal(last.status, 200);
    }
}

static void http_large_body_and_large_answer_pass(void **state)
{
    struct world *w = *state;
    w->narrow = true;
    struct client *c = client_open(w, true);
    struct peal_buf request = {0};
    struct peal_buf body = {0};
    for (int i = 0; i < 8; i++) {
        peal_buf_add_text(&body, i == 0 ? "[" : ",");
        peal_buf_add_text(&body, "{\"group\":\"a\",\"text\":\"");
        memset(peal_buf_reserve(&body, 60000), 'x', 60000);
        body.size += 60000;
        peal_buf_add_text(&body, "\"}");
    }
    /* Each of these gets an error of 100 bytes. */
    for (int i = 0; i < 900; i++)
        peal_buf_add_text(&body, ",{\"group\":\"a\"}");
    peal_buf_add_text(&body, "]");
    peal_buf_add_format(&request,
                        "POST /v1/publish HTTP/1.1\r\n" HOST AUTH
                        "Expect: 100-continue\r\nContent-Length: %zu\r\n\r\n",
                        body.size);
    client_send(c, request.at, request.size);
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    while (c->in.size < sizeof go_on - 1)
        turn(w);
    assert_true(peal_span_is(peal_buf_span(&c->in), go_on));
    c->in.size = 0;
    client_send(c, body.at, body.size);
    while (!parse_response(c, false, &last))
        turn(w);
    assert_int_equal(last.status, 200);
    assert_true(last.body.size > 60000);
    assert_int_equal(last.size, c->in.size);
    assert_int_equal(ask(c, "GET /livez HTTP/1.1\r\n" HOST "\r\n"), 200);
    peal_buf_fini(&request);
    peal_buf_fini(&body);
}

static void http_client_that_says_half_a_head_and_closes_is_let_go(void **state)
{
    struct world *w = *state;
    static const char *const halves[] = {"", "GET /livez HT", POST_HALF};
    for (size_t i = 0; i < sizeof halves / sizeof halves[0]; i++) {
        struct client *c = client_open(w, true);
        client_send(c, halves[i], strlen(halves[i]));
        uv_run(&w->loop, UV_RUN_NOWAIT);
        shutdown(c->fd, SHUT_WR);
        wait_for_close(c);
        assert_int_equal(c->in.size, 0);
    }
}

static void http_connections_beyond_the_limit_are_refused(void **state)
{
    struct world *w = *state;
    static int fds[PEAL_HTTP_CONNS_MAX][2];
    for (size_t i = 0; i < PEAL_HTTP_CONNS_MAX; i++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds[i]), 0);
        peal_http_adopt(w->http, fds[i][0], true);
    }
    struct client *c = client_open(w, true);
    wait_for_close(c);
    assert_true(parse_response(c, false, &last));
    assert_int_equal(last.status, 503);
    for (size_t i = 0; i < PEAL_HTTP_CONNS_MAX; i++)
        close(fds[i][1]);
    /* They leave, and there is room again. */
    for (int i = 0; i < 20; i++)
        uv_run(&w->loop, UV_RUN_NOWAIT);
    assert_int_equal(once(w, true, SECOND), 200);
}

/* ---- keys -------------------------------------------------------------------------------- */

static void http_shared_takes_hashed_keys_and_refuses_broken_ones(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "sha256:", "sha256:00",
        "sha256:zz0000000000000000000000000000000000000000000000000000000000000000",
        "sha256:000000000000000000000000000000000000000000000000000000000000000000"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char key[100];
        char *keys[] = {key};
        struct peal_config config = {.api.keys = {keys, 1}};
        struct peal_http_shared shared;
        snprintf(key, sizeof key, "%s", bad[i]);
        assert_int_equal(peal_http_shared_init(&shared, &config), PEAL_EBAD_FIELD);
        assert_null(shared.key_hashes);
    }
}

static void http_hashed_key_opens_the_door(void **state)
{
    struct world *w = *state;
    assert_int_equal(
        once(w, true, "GET /v1/inbox/bob HTTP/1.1\r\n" HOST "Authorization: Bearer key-2\r\n\r\n"),
        200);
    assert_int_equal(
        once(w, true, "GET /v1/inbox/bob HTTP/1.1\r\n" HOST "Authorization: Bearer key-3\r\n\r\n"),
        401);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(http_status_pages_need_no_key),
        TEST(http_head_is_get_without_the_body),
        TEST(http_demo_page_says_what_it_may),
        TEST(http_dev_token_is_one_that_the_node_takes),
        TEST(http_browser_listener_closes_after_each_answer),
        TEST(http_publish_gives_a_receipt),
        TEST(http_publish_of_a_list_gives_results_in_order),
        TEST(http_publish_refused_has_the_status_of_its_error),
        TEST(http_publish_too_large_is_413_for_its_item),
        TEST(http_publish_without_router_says_when_to_retry),
        TEST(http_publish_beyond_what_the_router_takes_says_how_long_to_wait),
        TEST(http_silent_router_is_504),
        TEST(http_client_that_leaves_cancels_its_request),
        TEST(http_shutdown_cancels_what_waits),
        TEST(http_inbox_lists_messages_newest_first),
        TEST(http_inbox_name_is_decoded_once_and_is_no_path),
        TEST(http_marks_reach_the_router),
        TEST(http_bad_marks_are_refused),
        TEST(http_refusals_have_their_status_and_close),
        TEST(http_too_large_a_head_is_431),
        TEST(http_upgrade_after_a_first_request_is_refused),
        TEST(http_smuggled_request_is_never_answered),
        TEST(http_api_connection_is_kept_alive),
        TEST(http_leaving_answers_close_and_is_not_ready),
        TEST(http_drain_closes_who_is_idle_and_lets_the_others_end),
        TEST(http_quick_client_is_never_cut_off),
        TEST(http_request_in_single_bytes_is_answered),
        TEST(http_large_body_and_large_answer_pass),
        TEST(http_client_that_says_half_a_head_and_closes_is_let_go),
        TEST(http_connections_beyond_the_limit_are_refused),
        TEST(http_hashed_key_opens_the_door),
        cmocka_unit_test(http_shared_takes_hashed_keys_and_refuses_broken_ones),
    };
    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}

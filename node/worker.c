#include "node/worker.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "node/drain.h"
#include "node/hub.h"
#include "node/mail.h"
#include "node/ws.h"

enum {
    MAILBOX_SLOTS = 16384,
    TURN_BYTES = 4 << 20,
    TURN_LETTERS = 1024, /* taken before connections are looked at again, and the rest of a mail */
    WAKE_ORDERS = 256,   /* the bus begins with so many while the turn goes on */
    END_MS = 2000,       /* for farewells, last answers and last acks when the node stops */
};

/* What main wants; it only ever grows. */
enum wish { WISH_NONE, WISH_DRAIN, WISH_HURRY };

struct peal_worker {
    struct peal_worker_options options;
    _Atomic int wish; /* enum wish */
    _Atomic bool ended;
    struct peal_mailbox mailbox;
    struct peal_bus *bus;
    pthread_t thread;
    bool running;
    uv_loop_t loop;
    uv_poll_t on_mail;
    uv_poll_t on_sockets;
    uv_timer_t on_tick;
    uv_prepare_t on_turn_end;
    size_t order_count; /* given to the bus since it was woken */
    struct peal_hub hub;
    struct peal_http *http;
    struct peal_ws_server *ws;
    struct peal_drain drain;
};

/* ---- what the hub says ------------------------------------------------------------------------
 */

static void wake_bus(struct peal_worker *w)
{
    if (w->order_count == 0) return;
    w->order_count = 0;
    peal_bus_wake(w->bus);
}

static enum peal_err io_order(void *ctx, struct peal_order *order)
{
    struct peal_worker *w = ctx;
    enum peal_err err = peal_bus_order(w->bus, order);
    if (err == PEAL_OK && ++w->order_count == WAKE_ORDERS) wake_bus(w);
    return err;
}

static void io_output(void *ctx, struct peal_conn *conn)
{
    (void)ctx;
    peal_ws_output(conn);
}

static void io_write(void *ctx, struct peal_conn *conn)
{
    (void)ctx;
    peal_ws_write(conn);
}

static void io_cut(void *ctx, struct peal_conn *conn)
{
    (void)ctx;
    peal_ws_cut(conn);
}

/* ---- the loop ----------------------------------------------------------------------------------
 */

static void set_time(struct peal_worker *w)
{
    peal_hub_set_time(&w->hub, peal_clock_mono_ms(), peal_clock_wall_ms());
}

static void end_turn(struct peal_worker *w)
{
    peal_hub_end_turn(&w->hub);
    peal_ws_flush(w->ws); /* may give orders: a queue that was emptied makes room for a page */
    wake_bus(w);
}

/* Called right before the loop waits, after whatever callbacks it had for this turn, also those of
 * HTTP: nothing that a turn owes can be left over when the thread sleeps. */
static void turn_ends(uv_prepare_t *handle)
{
    end_turn(handle->data);
}

static void see_wish(struct peal_worker *w)
{
    int wish = atomic_load(&w->wish);
    if (wish == WISH_DRAIN) peal_drain_begin(&w->drain, &w->hub);
    if (wish == WISH_HURRY) peal_drain_hurry(&w->drain, &w->hub);
}

/* Each turn takes a share of the connections, and asks for another turn when there are more. */
static void follow_drain(struct peal_worker *w)
{
    enum peal_drain_phase before = w->drain.phase;
    see_wish(w);
    peal_drain_advance(&w->drain, &w->hub);
    if (w->drain.phase == PEAL_DRAIN_OFF) return;
    if (w->drain.phase != before) {
        peal_hub_end_turn(&w->hub); /* what came before this */
        if (w->drain.phase == PEAL_DRAIN_SPREAD) peal_ws_refuse(w->ws);
        if (w->drain.phase == PEAL_DRAIN_CLOSE) {
            peal_ws_shut(w->ws);
            peal_http_drain(w->http);
        }
        peal_log(PEAL_LOG_INFO, "drain.phase", "worker=%u phase=%s connections=%zu",
                 w->options.index, peal_drain_word(w->drain.phase), w->hub.conn_count);
    }
    if (peal_drain_tell(&w->drain, &w->hub)) peal_mailbox_wake(&w->mailbox);
}

/* Everybody is gone. Unless it is hurried, those who wait for answers have them, and the routers
 * know which messages were acked: a group stays for its acks, and is then forgotten. */
static bool is_empty(const struct peal_worker *w)
{
    if (peal_ws_count(w->ws) > 0) return false;
    return w->drain.hurried ||
           (!peal_http_busy(w->http) && peal_map_next(&w->hub.groups, NULL) == NULL);
}

/* A turn keeps what it has read until its end: bounded in letters and in bytes. */
static void mail_came(uv_poll_t *handle, int status, int events)
{
    (void)status;
    (void)events;
    struct peal_worker *w = handle->data;
    uint32_t letters = 0;
    size_t bytes = 0;
    struct peal_mail *mail = NULL;
    set_time(w);
    peal_mailbox_arm(&w->mailbox);
    while (letters < TURN_LETTERS && bytes < TURN_BYTES) {
        mail = peal_mailbox_pop(&w->mailbox);
        if (mail == NULL) break;
        letters += mail->count;
        bytes += mail->bytes;
        atomic_fetch_sub_explicit(&w->mailbox.bytes, mail->bytes, memory_order_relaxed);
        peal_hub_on_mail(&w->hub, mail);
    }
    if (letters >= TURN_LETTERS || bytes >= TURN_BYTES)
        peal_mailbox_wake(&w->mailbox); /* there may be more */
    if (mail == NULL) follow_drain(w);  /* after what came before it */
}

static void sockets_came(uv_poll_t *handle, int status, int events)
{
    (void)status;
    (void)events;
    struct peal_worker *w = handle->data;
    set_time(w);
    peal_ws_on_events(w->ws);
}

static void tick_came(uv_timer_t *timer)
{
    struct peal_worker *w = timer->data;
    set_time(w);
    peal_hub_on_tick(&w->hub);
    peal_ws_on_tick(w->ws);
    follow_drain(w); /* also when the mailbox is never empty */
    if (w->drain.phase != PEAL_DRAIN_CLOSE) return;
    end_turn(w); /* frees what has ended, so that it no longer counts */
    if (is_empty(w) || w->hub.now_ms - w->drain.since_ms >= END_MS) uv_stop(&w->loop);
}

static void *worker_run(void *arg)
{
    struct peal_worker *w = arg;
    char name[16];
    snprintf(name, sizeof name, "worker %u", w->options.index);
    pthread_setname_np(pthread_self(), name);
    peal_metrics_thread_start();
    uv_run(&w->loop, UV_RUN_DEFAULT);
    /* Freeing HTTP runs the loop: none of the worker's own handles may call back meanwhile. */
    uv_close((uv_handle_t *)&w->on_mail, NULL);
    uv_close((uv_handle_t *)&w->on_sockets, NULL);
    uv_close((uv_handle_t *)&w->on_tick, NULL);
    uv_close((uv_handle_t *)&w->on_turn_end, NULL);
    /* What is still here is cut. */
    peal_ws_server_free(w->ws);
    w->ws = NULL;
    peal_http_free(w->http);
    w->http = NULL;
    uv_run(&w->loop, UV_RUN_DEFAULT);
    peal_hub_fini(&w->hub);
    wake_bus(w); /* the last leaves */
    atomic_store(&w->ended, true);
    return NULL;
}

/* ---- start and stop ----------------------------------------------------------------------------
 */

static bool watch(struct peal_worker *w)
{
    w->on_mail.data = w;
    w->on_sockets.data = w;
    w->on_tick.data = w;
    w->on_turn_end.data = w;
    return uv_poll_init(&w->loop, &w->on_mail, w->mailbox.fd) == 0 &&
           uv_poll_start(&w->on_mail, UV_READABLE, mail_came) == 0 &&
           uv_poll_init(&w->loop, &w->on_sockets, peal_ws_fd(w->ws)) == 0 &&
           uv_poll_start(&w->on_sockets, UV_READABLE, sockets_came) == 0 &&
           uv_prepare_init(&w->loop, &w->on_turn_end) == 0 &&
           uv_prepare_start(&w->on_turn_end, turn_ends) == 0 &&
           uv_timer_init(&w->loop, &w->on_tick) == 0 &&
           uv_timer_start(&w->on_tick, tick_came, PEAL_WHEEL_TICK_MS, PEAL_WHEEL_TICK_MS) == 0;
}

struct peal_worker *peal_worker_new(const struct peal_worker_options *options)
{
    struct peal_worker *w = calloc(1, sizeof *w);
    if (w == NULL || peal_mailbox_init(&w->mailbox, MAILBOX_SLOTS) != PEAL_OK) {
        free(w);
        close(options->listen_fd);
        close(options->api_fd);
        return NULL;
    }
    w->options = *options;
    peal_drain_init(&w->drain, options->index, options->worker_count);
    return w;
}

struct peal_mailbox *peal_worker_mailbox(struct peal_worker *worker)
{
    return &worker->mailbox;
}

enum peal_err peal_worker_start(struct peal_worker *w, struct peal_bus *bus)
{
    w->bus = bus;
    struct peal_hub_io io = {w, io_order, io_output, io_write, io_cut};
    if (peal_hub_init(&w->hub, w->options.config, w->options.keys, &io, w->options.index,
                      w->options.boot, peal_clock_mono_ms()) != PEAL_OK)
        return PEAL_ENOMEM;
    set_time(w);
    if (uv_loop_init(&w->loop) != 0) goto fail_hub;
    w->http = peal_http_new(&w->hub, w->options.http, &w->loop);
    if (w->http == NULL) goto fail_loop;
    w->ws = peal_ws_server_new(&w->hub, w->http);
    if (w->ws == NULL) goto fail_http;
    if (peal_ws_listen(w->ws, w->options.listen_fd, false) != PEAL_OK) goto fail_ws;
    w->options.listen_fd = -1;
    if (peal_ws_listen(w->ws, w->options.api_fd, true) != PEAL_OK) goto fail_ws;
    w->options.api_fd = -1;
    if (!watch(w)) goto fail_ws;
    if (pthread_create(&w->thread, NULL, worker_run, w) != 0) goto fail_ws;
    w->running = true;
    return PEAL_OK;

fail_ws:
    peal_ws_server_free(w->ws);
    w->ws = NULL;
fail_http:
    peal_http_free(w->http);
    w->http = NULL;
fail_loop:
    /* Start-up failed and the process ends: the loop's own handles go with it. */
fail_hub:
    peal_hub_fini(&w->hub);
    return PEAL_ENOMEM;
}

static void set_wish(struct peal_worker *w, enum wish what)
{
    if (!w->running) return;
    atomic_store(&w->wish, what);
    peal_mailbox_wake(&w->mailbox);
}

void peal_worker_drain(struct peal_worker *w)
{
    set_wish(w, WISH_DRAIN);
}

void peal_worker_hurry(struct peal_worker *w)
{
    set_wish(w, WISH_HURRY);
}

bool peal_worker_ended(const struct peal_worker *w)
{
    return !w->running || atomic_load(&w->ended);
}

void peal_worker_stop(struct peal_worker *w)
{
    if (!w->running) return;
    pthread_join(w->thread, NULL);
    w->running = false;
    int rc = uv_loop_close(&w->loop);
    if (rc != 0) peal_log(PEAL_LOG_ERROR, "worker.loop_busy", "error=%s", uv_strerror(rc));
}

void peal_worker_free(struct peal_worker *w)
{
    if (w == NULL) return;
    PEAL_ASSERT(!w->running);
    struct peal_mail *mail;
    while ((mail = peal_mailbox_pop(&w->mailbox)) != NULL)
        peal_mail_free(mail);
    peal_mailbox_fini(&w->mailbox);
    if (w->options.listen_fd >= 0) close(w->options.listen_fd);
    if (w->options.api_fd >= 0) close(w->options.api_fd);
    free(w);
}

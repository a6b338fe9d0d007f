/* What a browser may send on the native protocol: text frames, one after the other, against a real
 * connection, hub and group table. Orders to the bus are dropped; joins are answered, so that the
 * commands that need a member get somewhere. Frames are divided by 0x00. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/log.h"
#include "node/conn.h"
#include "node/hub.h"
#include "proto/json_check.h"
#include "proto/utf8.h"

struct world {
    struct peal_hub hub;
    struct peal_order *joins[64];
    size_t join_count;
};

static enum peal_err on_order(void *ctx, struct peal_order *order)
{
    struct world *w = ctx;
    if (order->kind == PEAL_ORDER_JOIN && w->join_count < 64)
        w->joins[w->join_count++] = order;
    else
        peal_order_free(order);
    return PEAL_OK;
}

static void on_output(void *ctx, struct peal_conn *conn)
{
    (void)ctx;
    (void)conn;
}

static void answer_joins(struct world *w)
{
    while (w->join_count > 0) {
        struct peal_order *order = w->joins[--w->join_count];
        struct peal_letter *letter;
        struct peal_buf scratch = {0};
        struct peal_frame joined = {.type = PEAL_F_JOINED,
                                    .req = order->req,
                                    .group = order->group,
                                    .epoch = 7,
                                    .offset = 5,
                                    .flags = PEAL_FLAG_KEEPS};
        peal_frame_encode(&joined, &scratch);
        PEAL_ASSERT(peal_letter_new(peal_buf_span(&scratch), &letter) == PEAL_OK);
        peal_hub_on_letter(&w->hub, letter);
        peal_letter_unref(letter);
        peal_buf_fini(&scratch);
        peal_order_free(order);
    }
}

/* Whatever the client sent, what we say is JSON. */
static void read_all(struct peal_conn *conn)
{
    struct iovec vector;
    while (peal_outq_gather(&conn->outq, &vector, 1) == 1) {
        const unsigned char *f = vector.iov_base;
        size_t header = (f[1] & 127) < 126 ? 2 : (f[1] & 127) == 126 ? 4 : 10;
        struct peal_span payload = peal_span_make(f + header, vector.iov_len - header);
        if ((f[0] & 15) == 1) PEAL_ASSERT(peal_json_check(payload, NULL, 0) == PEAL_OK);
        peal_outq_consume(&conn->outq, vector.iov_len);
        peal_conn_on_sent(conn);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct peal_config *config;
    static struct peal_config_route route = {
        .path = "/", .dialect = PEAL_DIALECT_NATIVE, .identity = PEAL_IDENTITY_URL};
    if (config == NULL) {
        struct peal_config_sources from = {.dev = true};
        struct peal_buf problems = {0};
        PEAL_ASSERT(peal_config_load(&from, &config, &problems) == PEAL_OK);
        peal_log_set_level(PEAL_LOG_ERROR);
    }
    struct world w = {0};
    struct peal_hub_io io = {&w, on_order, on_output, on_output, on_output};
    struct peal_conn conn;
    struct peal_route_match match = {.route = &route};
    struct peal_conn_open from = {.match = &match, .user = peal_span_of("bob")};
    PEAL_ASSERT(peal_hub_init(&w.hub, config, NULL, &io, 0, 1, 1000) == PEAL_OK);
    PEAL_ASSERT(peal_conn_init(&conn, &w.hub, &from) == PEAL_OK);
    while (size > 0 && conn.open) {
        const uint8_t *end = memchr(data, 0, size);
        size_t n = end == NULL ? size : (size_t)(end - data);
        /* The transport hands over UTF-8 only. */
        struct peal_span frame = peal_span_make(data, n);
        if (peal_utf8_valid(frame)) peal_conn_on_receive(&conn, true, frame);
        answer_joins(&w);
        read_all(&conn);
        if (end == NULL) break;
        data += n + 1;
        size -= n + 1;
    }
    peal_conn_fini(&conn);
    answer_joins(&w);
    peal_hub_fini(&w.hub);
    return 0;
}

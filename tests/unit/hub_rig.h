/* tests/unit/hub_rig.h: a hub whose bus, transport and clock are the test itself.
 *
 * Orders are kept until the test forgets them, or refused while `bus_is_full`; what a connection
 * was sent is taken frame by frame. Time stands still until rig_pass. */
#ifndef PEAL_TESTS_HUB_RIG_H
#define PEAL_TESTS_HUB_RIG_H

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "node/conn.h"
#include "node/groups.h"
#include "node/hub.h"
#include "node/wsframe.h"
#include "proto/envelope.h"
#include "proto/json_check.h"
#include "tests/unit/frame.h"
#include "tests/unit/unit.h"

enum { RIG_ORDERS_MAX = 1024, RIG_WALL_MS = 5000000, RIG_BOOT = 0xabc };

struct rig {
    struct peal_config *config;
    struct peal_hub hub;
    struct peal_order *orders[RIG_ORDERS_MAX];
    size_t order_count;
    bool bus_is_full;
    bool kernel_takes;     /* whatever is to be written; else nothing */
    bool turn_goes_on;     /* letters are of one turn, until rig_end_turn; else one is a turn */
    struct peal_conn *cut; /* the last one */
    size_t cut_count;
    struct peal_frame decoded; /* of the last rig_sent */
    struct peal_bytes *taken;  /* of the last rig_take */
    int opcode;
};

static inline enum peal_err rig_on_order(void *ctx, struct peal_order *order)
{
    struct rig *rig = ctx;
    if (rig->bus_is_full) return PEAL_EFULL;
    assert_true(rig->order_count < RIG_ORDERS_MAX);
    rig->orders[rig->order_count++] = order;
    return PEAL_OK;
}

static inline void rig_on_output(void *ctx, struct peal_conn *conn)
{
    (void)ctx;
    (void)conn; /* the test reads when it likes */
}

static inline void rig_on_write(void *ctx, struct peal_conn *conn)
{
    struct rig *rig = ctx;
    if (!rig->kernel_takes) return;
    peal_outq_consume(&conn->outq, conn->outq.bytes);
    peal_conn_on_sent(conn);
}

static inline void rig_on_cut(void *ctx, struct peal_conn *conn)
{
    struct rig *rig = ctx;
    rig->cut = conn;
    rig->cut_count++;
}

static inline void rig_forget(struct rig *rig)
{
    for (size_t i = 0; i < rig->order_count; i++)
        peal_order_free(rig->orders[i]);
    rig->order_count = 0;
}

static inline void rig_letter(struct rig *rig, struct peal_letter *letter)
{
    assert_non_null(letter);
    struct peal_mail *mail = peal_mail_new();
    assert_non_null(mail);
    assert_int_equal(peal_mail_add_letter(mail, letter), PEAL_OK);
    peal_letter_unref(letter);
    struct peal_letter room = {0};
    peal_hub_on_letter(&rig->hub, peal_mail_next(mail, &room));
    peal_turn_keep(&rig->hub.turn, mail);
    if (!rig->turn_goes_on) peal_hub_end_turn(&rig->hub);
}

static inline void rig_end_turn(struct rig *rig)
{
    rig->turn_goes_on = false;
    peal_hub_end_turn(&rig->hub);
}

static inline struct rig *rig_open(const char *yaml)
{
    struct rig *rig = calloc(1, sizeof *rig);
    struct peal_config_sources from = {.text = yaml, .text_size = strlen(yaml)};
    struct peal_buf problems = {0};
    struct peal_hub_io io = {rig, rig_on_order, rig_on_output, rig_on_write, rig_on_cut};
    peal_log_set_level(PEAL_LOG_ERROR);
    assert_non_null(rig);
    if (peal_config_load(&from, &rig->config, &problems) != PEAL_OK)
        fail_msg("%.*s", (int)problems.size, problems.at);
    peal_buf_fini(&problems);
    assert_int_equal(peal_hub_init(&rig->hub, rig->config, NULL, &io, 3, RIG_BOOT, 100000),
                     PEAL_OK);
    peal_hub_set_time(&rig->hub, 100000, RIG_WALL_MS);
    rig_letter(rig, peal_letter_note(PEAL_LETTER_LINK, false)); /* the routers are there */
    return rig;
}

/* All connections must be gone. */
static inline void rig_close(struct rig *rig)
{
    peal_hub_fini(&rig->hub);
    rig_forget(rig);
    peal_frame_fini(&rig->decoded);
    peal_bytes_unref(rig->taken);
    peal_config_free(rig->config);
    free(rig);
}

static inline void rig_pass(struct rig *rig, uint64_t ms)
{
    peal_hub_set_time(&rig->hub, rig->hub.now_ms + ms, rig->hub.wall_ms + ms);
    peal_hub_on_tick(&rig->hub);
    peal_hub_end_turn(&rig->hub);
}

/* What the router says. */
static inline void rig_frame(struct rig *rig, const struct peal_frame *frame)
{
    struct peal_buf buf = {0};
    struct peal_letter *letter;
    peal_frame_encode(frame, &buf);
    assert_int_equal(peal_letter_new(peal_buf_span(&buf), &letter), PEAL_OK);
    rig_letter(rig, letter);
    peal_buf_fini(&buf);
}

static inline struct peal_group *rig_group(struct rig *rig, const char *name)
{
    struct peal_map_node *n = peal_map_find(&rig->hub.groups, peal_span_of(name));
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct peal_group, node);
}

/* Answers the JOIN of the group that is under way. */
static inline void rig_joined(struct rig *rig, const char *group, uint64_t epoch, uint64_t offset,
                              uint64_t flags)
{
    assert_non_null(rig_group(rig, group));
    struct peal_frame frame = {.type = PEAL_F_JOINED,
                               .req = rig_group(rig, group)->req,
                               .group = peal_span_of(group),
                               .epoch = epoch,
                               .offset = offset,
                               .flags = flags};
    rig_frame(rig, &frame);
}

static inline void rig_encode_message(struct peal_buf *out, const char *group, uint64_t epoch,
                                      uint64_t offset, const char *data)
{
    struct peal_envelope env = {.group = peal_span_of(group),
                                .epoch = epoch,
                                .offset = offset,
                                .id = peal_span_of("m"),
                                .data = peal_span_of(data)};
    struct peal_buf envelope = {0};
    peal_envelope_encode(&env, &envelope);
    struct peal_frame frame = {.type = PEAL_F_MESSAGE, .envelope = peal_buf_span(&envelope)};
    peal_frame_encode(&frame, out);
    peal_buf_fini(&envelope);
}

static inline void rig_message(struct rig *rig, const char *group, uint64_t epoch, uint64_t offset,
                               const char *data)
{
    struct peal_buf buf = {0};
    struct peal_letter *letter;
    rig_encode_message(&buf, group, epoch, offset, data);
    assert_int_equal(peal_letter_new(peal_buf_span(&buf), &letter), PEAL_OK);
    rig_letter(rig, letter);
    peal_buf_fini(&buf);
}

/* How many orders of this kind wait; SENDs only with a frame of this type (0: any). */
static inline size_t rig_orders(const struct rig *rig, enum peal_order_kind kind,
                                enum peal_frame_type type)
{
    size_t count = 0;
    for (size_t i = 0; i < rig->order_count; i++) {
        struct peal_frame frame = {0};
        if (rig->orders[i]->kind != kind) continue;
        if (kind == PEAL_ORDER_SEND)
            assert_int_equal(peal_frame_decode(rig->orders[i]->frame, &frame), PEAL_OK);
        count += type == 0 || frame.type == type;
        peal_frame_fini(&frame);
    }
    return count;
}

/* The newest order, which must be a SEND; good until the next call. */
static inline const struct peal_frame *rig_sent(struct rig *rig)
{
    assert_true(rig->order_count > 0);
    const struct peal_order *order = rig->orders[rig->order_count - 1];
    assert_int_equal(order->kind, PEAL_ORDER_SEND);
    peal_frame_fini(&rig->decoded);
    assert_int_equal(peal_frame_decode(order->frame, &rig->decoded), PEAL_OK);
    assert_true(order->req == rig->decoded.req);
    return &rig->decoded;
}

/* Opens a connection of bob (user NULL: of nobody). */
static inline void rig_connect(struct rig *rig, struct peal_conn *conn,
                               const struct peal_config_route *route, const char *user)
{
    struct peal_route_match match = {.route = route};
    struct peal_conn_open from = {.match = &match, .user = peal_span_of(user)};
    assert_int_equal(peal_conn_init(conn, &rig->hub, &from), PEAL_OK);
}

static inline void rig_say(struct peal_conn *conn, const char *text)
{
    peal_conn_on_receive(conn, true, peal_span_of(text));
}

/* Writes the oldest queued frame out and gives its payload as text; its opcode is in rig->opcode.
 * The empty text with opcode -1 when nothing is queued. */
static inline const char *rig_take(struct rig *rig, struct peal_conn *conn)
{
    struct iovec vector;
    peal_bytes_unref(rig->taken);
    rig->taken = NULL;
    rig->opcode = -1;
    if (peal_outq_gather(&conn->outq, &vector, 1) == 0) return "";
    struct peal_span payload = frame_payload(vector.iov_base);
    struct peal_buf text = {0};
    rig->opcode = ((unsigned char *)vector.iov_base)[0] & 15;
    peal_buf_add_span(&text, payload);
    peal_buf_add_char(&text, '\0');
    rig->taken = peal_bytes_new(text.at, text.size);
    peal_buf_fini(&text);
    size_t size = (size_t)(payload.at - (char *)vector.iov_base) + payload.size;
    assert_true(size <= vector.iov_len);
    peal_outq_consume(&conn->outq, size);
    peal_conn_on_sent(conn);
    return rig->taken->at;
}

static inline void rig_expect(struct rig *rig, struct peal_conn *conn, const char *text)
{
    assert_string_equal(rig_take(rig, conn), text);
}

static inline void rig_expect_nothing(struct rig *rig, struct peal_conn *conn)
{
    assert_string_equal(rig_take(rig, conn), "");
    assert_int_equal(rig->opcode, -1);
}

/* The next frame is JSON that contains part. */
static inline void rig_expect_part(struct rig *rig, struct peal_conn *conn, const char *part)
{
    const char *text = rig_take(rig, conn);
    char why[100];
    if (peal_json_check(peal_span_of(text), why, sizeof why) != PEAL_OK)
        fail_msg("%s: '%s' instead of %s", why, text, part);
    if (strstr(text, part) == NULL) fail_msg("%s does not contain %s", text, part);
}

/* The next frame is the farewell, and nothing follows it. */
static inline void rig_expect_close(struct rig *rig, struct peal_conn *conn, int code)
{
    const unsigned char *payload = (const unsigned char *)rig_take(rig, conn);
    assert_int_equal(rig->opcode, PEAL_WS_CLOSE);
    assert_int_equal(payload[0] << 8 | payload[1], code);
    assert_true(peal_outq_empty(&conn->outq));
    assert_false(conn->open);
}

#endif

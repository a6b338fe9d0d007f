/* Everything that a router does for a message besides the store is left out: no door, no groups, no
 * delivery. What is measured is the store's threads, against the disk.
 *
 * A mailbox brings operations back. PUT has the number of its slot in its tag, MARK nothing, HEAD
 * the user. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/mailbox.h"
#include "base/metrics.h"
#include "bench/acks.h"
#include "bench/meter.h"
#include "bench/sink.h"
#include "proto/envelope.h"
#include "proto/group.h"
#include "proto/wire.h"
#include "storage/store.h"

enum { WAIT_MS = 60000 };

/* What a user should have. */
struct user {
    uint64_t offset; /* the newest */
    uint64_t unread;
};

struct local {
    struct peal_config *config;
    struct peal_store *store;
    struct peal_mailbox done;
    bool has_mailbox;
    struct peal_acks acks;
    struct peal_ulids ulids;
    struct peal_buf scratch;
    struct user *users;
    uint64_t random;
    uint32_t waiting; /* operations that are not back */
    bool heads;       /* HEAD: is asked for what there is, not for whether it is right */
};

static void on_done(void *ctx, struct peal_store_op *op)
{
    /* As many cells as there can be operations. */
    (void)peal_mailbox_put(&((struct local *)ctx)->done, op);
}

static void on_done_all(void *ctx)
{
    peal_mailbox_wake(&((struct local *)ctx)->done);
}

static void on_page(void *ctx, struct peal_store_fetch *fetch)
{
    (void)ctx;
    peal_store_fetch_free(fetch); /* nobody asks for one */
}

static enum peal_err config_read(struct peal_sink *sink)
{
    struct local *local = sink->self;
    struct peal_buf problems = {0};
    struct peal_config_sources from = {.path = sink->plan->config};
    enum peal_err err = peal_config_load(&from, &local->config, &problems);
    if (err != PEAL_OK)
        snprintf(sink->why, sizeof(sink->why), "configuration: %.*s", (int)problems.size,
                 problems.size > 0 ? problems.at : "");
    peal_buf_fini(&problems);
    return err;
}

static enum peal_err store_start(struct peal_sink *sink)
{
    struct local *local = sink->self;
    struct peal_store_events events = {local, on_done, on_page, on_done_all};
    return peal_store_start(local->config->data, local->config, &events, &local->store, sink->why,
                            sizeof(sink->why));
}

/* ---- Operations --------------------------------------------------------------------------- */

static struct peal_span user_group(uint32_t user, char name[PEAL_KEEP_NAME_MAX])
{
    return peal_span_make(name, peal_sink_user(user, name));
}

/* Errors: PEAL_EAGAIN, too many are under way. */
static enum peal_err submit(struct peal_sink *sink, struct peal_store_op *op, uint64_t tag)
{
    struct local *local = sink->self;
    if (op == NULL) return peal_sink_fail(sink, PEAL_ENOMEM, "store", "memory");
    op->policy = peal_group_policy(local->config, op->group);
    op->tag[0] = tag;
    enum peal_err err = peal_store_submit(local->store, op);
    if (err == PEAL_OK)
        local->waiting++;
    else
        peal_store_op_free(op);
    return err == PEAL_EQUEUE_FULL ? PEAL_EAGAIN : err;
}

static enum peal_err store_put(struct peal_sink *sink, uint32_t user, uint32_t slot,
                               struct peal_span payload)
{
    struct local *local = sink->self;
    char name[PEAL_KEEP_NAME_MAX];
    char id[PEAL_ULID_SIZE];
    uint64_t now_ms = peal_clock_wall_ms();
    peal_ulids_next(&local->ulids, id, now_ms);
    struct peal_envelope env = {.id = {id, sizeof(id)},
                                .group = user_group(user, name),
                                .ts_ms = now_ms,
                                .data = payload,
                                .data_kind = PEAL_DATA_TEXT};
    local->scratch.size = 0;
    peal_envelope_encode(&env, &local->scratch);
    if (local->scratch.failed) return peal_sink_fail(sink, PEAL_ENOMEM, "store", "memory");
    return submit(
        sink, peal_store_op_new(PEAL_STORE_PUT, env.group, peal_buf_span(&local->scratch), NULL, 0),
        (uint64_t)user << 32 | slot);
}

/* Those that are due leave. Errors: PEAL_EAGAIN, not all of them could. */
static enum peal_err submit_acks(struct peal_sink *sink)
{
    struct local *local = sink->self;
    uint64_t now_ns = peal_meter_now_ns();
    const struct peal_ack *ack;
    while ((ack = peal_acks_due(&local->acks, now_ns)) != NULL) {
        char name[PEAL_KEEP_NAME_MAX];
        struct peal_store_op *op = peal_store_op_new(PEAL_STORE_MARK, user_group(ack->user, name),
                                                     (struct peal_span){0}, &ack->offset, 1);
        if (op != NULL) op->mark_flags = PEAL_FLAG_ACK;
        enum peal_err err = submit(sink, op, ack->user);
        if (err != PEAL_OK) return err;
        peal_acks_drop(&local->acks);
    }
    return PEAL_OK;
}

static bool is_acked(struct peal_sink *sink)
{
    struct local *local = sink->self;
    local->random = local->random * 6364136223846793005 + 1442695040888963407;
    return (local->random >> 33) % 100 < sink->plan->acked;
}

static enum peal_err put_is_back(struct peal_sink *sink, const struct peal_store_op *op)
{
    struct local *local = sink->self;
    uint32_t user = (uint32_t)(op->tag[0] >> 32);
    bool stored = op->err == PEAL_OK && !op->duplicate;
    sink->on_answer(sink->ctx, (uint32_t)op->tag[0], stored);
    if (!stored) return PEAL_OK;
    if (local->users != NULL) {
        local->users[user].offset++;
        local->users[user].unread++;
    }
    if (!sink->measuring || !is_acked(sink)) return PEAL_OK;
    struct peal_ack ack = {.offset = op->offset, .user = user};
    return peal_acks_add(&local->acks, ack, peal_meter_now_ns())
               ? PEAL_OK
               : peal_sink_fail(sink, PEAL_ENOMEM, "store", "memory");
}

static void head_is_back(struct peal_sink *sink, const struct peal_store_op *op)
{
    struct local *local = sink->self;
    struct user *user = &local->users[op->tag[0]];
    if (local->heads) {
        *user = (struct user){op->offset, op->unread};
        return;
    }
    if (op->offset < user->offset) sink->lost += user->offset - op->offset;
    if (op->unread != user->unread || op->offset > user->offset) sink->miscounted++;
}

static enum peal_err op_is_back(struct peal_sink *sink, const struct peal_store_op *op)
{
    struct local *local = sink->self;
    if (op->kind == PEAL_STORE_PUT) return put_is_back(sink, op);
    if (op->err != PEAL_OK)
        return peal_sink_fail(sink, op->err, op->kind == PEAL_STORE_MARK ? "ack" : "head",
                              peal_err_word(op->err));
    if (op->kind == PEAL_STORE_HEAD) head_is_back(sink, op);
    if (op->kind == PEAL_STORE_MARK && op->changed) {
        sink->acks++;
        if (local->users != NULL) local->users[op->tag[0]].unread--;
    }
    return PEAL_OK;
}

/* All that are back. *taken: how many. */
static enum peal_err take_back(struct peal_sink *sink, uint32_t *taken)
{
    struct local *local = sink->self;
    enum peal_err err = PEAL_OK;
    struct peal_store_op *op;
    *taken = 0;
    while (err == PEAL_OK && (op = peal_mailbox_pop(&local->done)) != NULL) {
        local->waiting--;
        (*taken)++;
        err = op_is_back(sink, op);
        peal_store_op_free(op);
    }
    return err;
}

static enum peal_err store_take(struct peal_sink *sink, int wait_ms)
{
    struct local *local = sink->self;
    struct pollfd ready = {.fd = local->done.fd, .events = POLLIN};
    uint32_t taken;
    peal_mailbox_arm(&local->done);
    enum peal_err err = take_back(sink, &taken);
    if (err == PEAL_OK && taken == 0) {
        poll(&ready, 1, wait_ms);
        peal_mailbox_arm(&local->done);
        err = take_back(sink, &taken);
    }
    return err;
}

static enum peal_err store_flush(struct peal_sink *sink)
{
    /* Those for which there was no room go with the next flush. */
    enum peal_err err = submit_acks(sink);
    return err == PEAL_EAGAIN ? PEAL_OK : err;
}

/* ---- What there is ------------------------------------------------------------------------ */

static enum peal_err take_all(struct peal_sink *sink, uint32_t most)
{
    struct local *local = sink->self;
    uint64_t until_ms = peal_clock_mono_ms() + WAIT_MS;
    enum peal_err err = PEAL_OK;
    while (err == PEAL_OK && local->waiting > most) {
        uint32_t before = local->waiting;
        err = store_take(sink, 100);
        if (local->waiting < before) until_ms = peal_clock_mono_ms() + WAIT_MS;
        if (peal_clock_mono_ms() > until_ms)
            return peal_sink_fail(sink, PEAL_ETIMEOUT, "store", "operations do not come back");
    }
    return err;
}

static enum peal_err ask_for_all(struct peal_sink *sink, bool heads)
{
    struct local *local = sink->self;
    enum peal_err err = PEAL_OK;
    local->heads = heads;
    for (uint32_t user = 0; user < sink->plan->users && err == PEAL_OK; user++) {
        char name[PEAL_KEEP_NAME_MAX];
        if (local->waiting >= PEAL_STORE_OPS_MAX) err = take_all(sink, PEAL_STORE_OPS_MAX / 2);
        if (err != PEAL_OK) break;
        err = submit(sink,
                     peal_store_op_new(PEAL_STORE_HEAD, user_group(user, name),
                                       (struct peal_span){0}, NULL, 0),
                     user);
    }
    return err == PEAL_OK ? take_all(sink, 0) : err;
}

static enum peal_err store_open(struct peal_sink *sink)
{
    struct local *local = calloc(1, sizeof(*local));
    sink->self = local;
    if (local == NULL) return peal_sink_fail(sink, PEAL_ENOMEM, "store", "memory");
    peal_metrics_thread_start();
    local->random = sink->plan->seed;
    peal_acks_init(&local->acks, sink->plan->acked_ms, peal_meter_now_ns());
    enum peal_err err = config_read(sink);
    if (err != PEAL_OK) return err;
    err = peal_mailbox_init(&local->done, PEAL_STORE_OPS_MAX);
    if (err != PEAL_OK) return peal_sink_fail(sink, err, "store", "descriptors");
    local->has_mailbox = true;
    err = store_start(sink);
    if (err != PEAL_OK || !sink->plan->check) return err;
    local->users = calloc(sink->plan->users, sizeof(*local->users));
    if (local->users == NULL) return peal_sink_fail(sink, PEAL_ENOMEM, "store", "memory");
    return ask_for_all(sink, true);
}

static enum peal_err store_check(struct peal_sink *sink)
{
    struct local *local = sink->self;
    enum peal_err err = take_all(sink, 0);
    if (err != PEAL_OK || !sink->plan->check) return err;
    peal_store_stop(local->store);
    local->store = NULL;
    uint64_t began_ns = peal_meter_now_ns();
    err = store_start(sink);
    if (err != PEAL_OK) return err;
    sink->reopen_s = (double)(peal_meter_now_ns() - began_ns) / 1e9;
    return ask_for_all(sink, false);
}

static void store_close(struct peal_sink *sink)
{
    struct local *local = sink->self;
    struct peal_store_op *op;
    if (local == NULL) return;
    peal_store_stop(local->store);
    while (local->has_mailbox && (op = peal_mailbox_pop(&local->done)) != NULL)
        peal_store_op_free(op);
    if (local->has_mailbox) peal_mailbox_fini(&local->done);
    peal_config_free(local->config);
    peal_acks_fini(&local->acks);
    peal_buf_fini(&local->scratch);
    free(local->users);
    free(local);
}

const struct peal_sink_kind peal_sink_store = {
    .name = "store",
    .in_process = true,
    .open = store_open,
    .put = store_put,
    .flush = store_flush,
    .take = store_take,
    .check = store_check,
    .close = store_close,
};

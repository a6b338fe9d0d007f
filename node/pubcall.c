/* The items are sorted by router with one counting pass, so that each frame is a run of the
 * sorted order, and items of one router keep the order they were given in.
 *
 * While frames are being sent a part of its own keeps the call open: a send that fails ends its
 * part at once, and done must not be called before the last frame is out. */
#include "node/pubcall.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "proto/envelope.h"
#include "proto/group.h"

enum { FRAME_BYTES_MAX = PEAL_WIRE_BYTES_MAX / 2 };

/* One PUBLISH frame and the items in it. */
struct part {
    struct peal_request request;
    struct peal_link in_call;
    struct peal_pubcall *call;
    size_t count;
    size_t items[];
};

/* The items in the order of their routers. */
struct order {
    size_t *at;
    size_t count;
};

static size_t router_of(const struct peal_hub *hub, struct peal_span group)
{
    if (hub->slots.link_count < 2) return 0;
    return peal_slotmap_link(&hub->slots, peal_group_slot(group));
}

/* Leaves refused items out. */
static enum peal_err sort_items(const struct peal_hub *hub,
                                const struct peal_publish_request *request, struct order *out)
{
    size_t routers = hub->slots.link_count;
    size_t *next = calloc(routers + 1, sizeof *next); /* where the next item of a router goes */
    out->at = malloc((request->count + 1) * sizeof *out->at);
    out->count = 0;
    if (next == NULL || out->at == NULL) {
        free(next);
        free(out->at);
        return PEAL_ENOMEM;
    }
    for (size_t i = 0; i < request->count; i++)
        if (request->items[i].err == PEAL_OK)
            next[router_of(hub, request->items[i].env.group) + 1]++;
    for (size_t r = 1; r <= routers; r++)
        next[r] += next[r - 1];
    for (size_t i = 0; i < request->count; i++) {
        if (request->items[i].err != PEAL_OK) continue;
        out->at[next[router_of(hub, request->items[i].env.group)]++] = i;
        out->count++;
    }
    free(next);
    return PEAL_OK;
}

static enum peal_err make_results(struct peal_pubcall *call,
                                  const struct peal_publish_request *request)
{
    size_t bytes = 0;
    for (size_t i = 0; i < request->count; i++)
        bytes += request->items[i].env.group.size;
    call->results = calloc(request->count + 1, sizeof *call->results);
    call->names = malloc(bytes + 1);
    if (call->results == NULL || call->names == NULL) return PEAL_ENOMEM;
    char *name = call->names;
    call->count = request->count;
    for (size_t i = 0; i < request->count; i++) {
        const struct peal_publish_item *item = &request->items[i];
        struct peal_pubcall_result *r = &call->results[i];
        r->err = item->err;
        snprintf(r->why, sizeof r->why, "%s", item->why);
        snprintf(r->field, sizeof r->field, "%s", item->field);
        if (item->env.group.size == 0) continue;
        memcpy(name, item->env.group.at, item->env.group.size);
        r->group = peal_span_make(name, item->env.group.size);
        name += item->env.group.size;
    }
    return PEAL_OK;
}

static void fail_part(const struct part *part, enum peal_err err, const char *why)
{
    for (size_t i = 0; i < part->count; i++) {
        struct peal_pubcall_result *r = &part->call->results[part->items[i]];
        r->err = err;
        snprintf(r->why, sizeof r->why, "%s", why);
    }
}

static void take_receipt(struct peal_pubcall_result *r, struct peal_span entry)
{
    struct peal_frame receipt;
    r->err = PEAL_EINTERNAL;
    snprintf(r->why, sizeof r->why, "the router sent no receipt");
    if (peal_frame_decode(entry, &receipt) != PEAL_OK) return;
    if (receipt.type == PEAL_F_RECEIPT && receipt.id.size <= sizeof r->id &&
        receipt.code < PEAL_ERR_COUNT) {
        r->err = (enum peal_err)receipt.code;
        snprintf(r->why, sizeof r->why, "%.*s", (int)receipt.message.size,
                 receipt.message.size == 0 ? "" : receipt.message.at);
        if (receipt.id.size > 0) memcpy(r->id, receipt.id.at, receipt.id.size);
        r->id_size = receipt.id.size;
        r->epoch = receipt.epoch;
        r->offset = receipt.offset;
        r->flags = receipt.flags;
        r->after_ms = receipt.after_ms;
    }
    peal_frame_fini(&receipt);
}

static void part_free(struct part *part)
{
    peal_request_cancel(part->call->hub, &part->request);
    peal_list_remove(&part->in_call);
    free(part);
}

/* done may end the call, so nothing of it is touched afterwards. */
static void part_end(struct part *part)
{
    struct peal_pubcall *call = part->call;
    part_free(part);
    if (peal_list_empty(&call->parts)) call->done(call->ctx, call->results, call->count);
}

static const char *sentence_of(enum peal_err err)
{
    switch (err) {
    case PEAL_ENO_ROUTER:
        return "the group's router is not reachable";
    case PEAL_EQUEUE_FULL:
        return "the node is busy, try again";
    case PEAL_EAGAIN:
        return "the group is moving to another router, try again";
    case PEAL_ENOMEM:
        return "out of memory";
    default:
        return "the router refused";
    }
}

static void part_answered(struct peal_request *request, const struct peal_frame *answer);

static struct part *part_new(struct peal_pubcall *call, const size_t *items, size_t count)
{
    struct part *part = malloc(sizeof *part + count * sizeof *items);
    if (part == NULL) return NULL;
    peal_request_init(&part->request, part_answered);
    part->call = call;
    part->count = count;
    if (count > 0) memcpy(part->items, items, count * sizeof *items);
    peal_list_append(&call->parts, &part->in_call);
    return part;
}

/* An item whose slot is another router's comes back as it was sent: it goes on alone. A frame with
 * one publish does not come back to the worker, so this happens once to an item. */
static bool send_again(struct part *part, size_t i, struct peal_span entry)
{
    struct peal_frame moved;
    struct peal_pubcall *call = part->call;
    struct peal_pubcall_result *r = &call->results[part->items[i]];
    if (peal_frame_decode(entry, &moved) != PEAL_OK) return false;
    bool again = moved.type == PEAL_F_MOVED && moved.envelope.size > 0;
    if (again) {
        peal_slotmap_hear(&call->hub->slots, &moved);
        struct peal_frame frame = {.type = PEAL_F_PUBLISH};
        frame.entries.at = &moved.envelope;
        frame.entries.count = 1;
        enum peal_err err = PEAL_EAGAIN;
        struct part *next = part->count > 1 ? part_new(call, &part->items[i], 1) : NULL;
        if (next != NULL) err = peal_request_send(call->hub, &next->request, r->group, &frame);
        if (err != PEAL_OK) {
            r->err = err;
            snprintf(r->why, sizeof r->why, "the group is moving to another router, try again");
            if (next != NULL) part_free(next);
        }
    }
    peal_frame_fini(&moved);
    return again;
}

static void part_answered(struct peal_request *request, const struct peal_frame *answer)
{
    struct part *part = PEAL_FROM_LINK(request, struct part, request);
    if (answer == NULL) {
        fail_part(part, PEAL_ETIMEOUT, "the router did not answer in time");
    } else if (answer->code != PEAL_OK) {
        enum peal_err err =
            answer->code < PEAL_ERR_COUNT ? (enum peal_err)answer->code : PEAL_EINTERNAL;
        fail_part(part, err, sentence_of(err));
    } else if (answer->type != PEAL_F_PUBLISHED || answer->entries.count != part->count) {
        fail_part(part, PEAL_EINTERNAL, "the router sent other receipts than were asked for");
    } else {
        for (size_t i = 0; i < part->count; i++)
            if (!send_again(part, i, answer->entries.at[i]))
                take_receipt(&part->call->results[part->items[i]], answer->entries.at[i]);
    }
    part_end(part);
}

/* Appends the items of a frame to encoded, and their sizes to sizes. Returns how many fit. */
static size_t encode_run(const struct peal_hub *hub, const struct peal_publish_request *request,
                         const size_t *items, size_t count, struct peal_buf *encoded, size_t *sizes)
{
    size_t router = router_of(hub, request->items[items[0]].env.group);
    size_t taken = 0;
    while (taken < count && !encoded->failed) {
        const struct peal_envelope *env = &request->items[items[taken]].env;
        if (router_of(hub, env->group) != router) break;
        size_t before = encoded->size;
        peal_envelope_encode(env, encoded);
        if (taken > 0 && encoded->size > FRAME_BYTES_MAX) {
            encoded->size = before;
            break;
        }
        sizes[taken++] = encoded->size - before;
    }
    return taken;
}

static enum peal_err send_part(struct part *part, const struct peal_publish_request *request,
                               const struct peal_buf *encoded, const size_t *sizes)
{
    if (encoded->failed) return PEAL_ENOMEM;
    struct peal_span *entries = malloc(part->count * sizeof *entries);
    if (entries == NULL) return PEAL_ENOMEM;
    const char *at = encoded->at;
    for (size_t i = 0; i < part->count; i++) {
        entries[i] = peal_span_make(at, sizes[i]);
        at += sizes[i];
    }
    struct peal_frame frame = {.type = PEAL_F_PUBLISH};
    frame.entries.at = entries;
    frame.entries.count = part->count;
    enum peal_err err = peal_request_send(part->call->hub, &part->request,
                                          request->items[part->items[0]].env.group, &frame);
    free(entries);
    return err;
}

/* Sends what is in order; a frame that cannot be sent fails its items only. */
static enum peal_err send_all(struct peal_pubcall *call, const struct peal_publish_request *request,
                              const struct order *order)
{
    struct peal_buf encoded = {0};
    size_t *sizes = malloc((order->count + 1) * sizeof *sizes);
    if (sizes == NULL) return PEAL_ENOMEM;
    for (size_t at = 0; at < order->count;) {
        encoded.size = 0;
        size_t taken =
            encode_run(call->hub, request, order->at + at, order->count - at, &encoded, sizes);
        if (taken == 0) taken = 1; /* memory ran out; this one fails, and then the others */
        struct part *part = part_new(call, order->at + at, taken);
        if (part == NULL) {
            /* Frames of this call are out already: they count, this one and the rest do not. */
            for (size_t i = at; i < order->count; i++) {
                struct peal_pubcall_result *r = &call->results[order->at[i]];
                r->err = PEAL_ENOMEM;
                snprintf(r->why, sizeof r->why, "%s", sentence_of(PEAL_ENOMEM));
            }
            break;
        }
        enum peal_err err = send_part(part, request, &encoded, sizes);
        if (err != PEAL_OK) {
            fail_part(part, err, sentence_of(err));
            part_free(part);
        }
        if (encoded.failed) peal_buf_fini(&encoded);
        at += taken;
    }
    free(sizes);
    peal_buf_fini(&encoded);
    return PEAL_OK;
}

void peal_pubcall_init(struct peal_pubcall *call, struct peal_hub *hub)
{
    *call = (struct peal_pubcall){.hub = hub};
    peal_link_init(&call->parts);
}

void peal_pubcall_fini(struct peal_pubcall *call)
{
    while (!peal_list_empty(&call->parts))
        part_free(PEAL_FROM_LINK(call->parts.next, struct part, in_call));
    free(call->results);
    free(call->names);
    peal_pubcall_init(call, call->hub);
}

enum peal_err peal_pubcall_start(struct peal_pubcall *call,
                                 const struct peal_publish_request *request, peal_pubcall_done done,
                                 void *ctx)
{
    PEAL_ASSERT(call->results == NULL);
    struct order order = {0};
    call->done = done;
    call->ctx = ctx;
    enum peal_err err = make_results(call, request);
    if (err == PEAL_OK) err = sort_items(call->hub, request, &order);
    struct part *open = err == PEAL_OK ? part_new(call, NULL, 0) : NULL;
    if (open == NULL) err = PEAL_ENOMEM;
    if (err == PEAL_OK) err = send_all(call, request, &order);
    if (err == PEAL_OK) {
        free(order.at);
        part_end(open);
        return PEAL_OK;
    }
    if (open != NULL) free(order.at);
    peal_pubcall_fini(call);
    return err;
}

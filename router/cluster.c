#include "router/cluster.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "proto/envelope.h"
#include "proto/group.h"

static void id_of(char kind, uint64_t number, char out[PEAL_ROUTER_ID_SIZE])
{
    peal_topic_of(number, out);
    out[0] = kind;
}

static bool id_is(char kind, struct peal_span id)
{
    char topic[PEAL_TOPIC_SIZE];
    uint64_t number;
    if (id.size != PEAL_ROUTER_ID_SIZE || id.at[0] != kind) return false;
    memcpy(topic, id.at, sizeof topic);
    topic[0] = 'n';
    return peal_topic_parse(peal_span_make(topic, sizeof topic), &number) == PEAL_OK;
}

void peal_router_id_of(uint64_t boot, char out[PEAL_ROUTER_ID_SIZE])
{
    id_of('r', boot, out);
}

bool peal_router_id_is(struct peal_span id)
{
    return id_is('r', id);
}

void peal_operator_id_of(uint64_t number, char out[PEAL_ROUTER_ID_SIZE])
{
    id_of('o', number, out);
}

bool peal_operator_id_is(struct peal_span id)
{
    return id_is('o', id);
}

void peal_cluster_init(struct peal_cluster *c, const struct peal_config *config, uint64_t boot)
{
    *c = (struct peal_cluster){.config = config, .boot = boot};
    peal_holdings_init_alone(&c->holdings);
}

void peal_cluster_fini(struct peal_cluster *c)
{
    peal_buf_fini(&c->scratch);
}

/* An owner outside of the list is out of reach: better said at the start than found out later. */
static void warn_of_unknown(const struct peal_holdings *h)
{
    size_t count = 0;
    for (uint16_t slot = 0; slot < PEAL_SLOTS; slot++)
        count +=
            h->slots[slot].owner != PEAL_SLOT_NOBODY && h->slots[slot].owner >= h->router_count;
    if (count > 0)
        peal_log(PEAL_LOG_ERROR, "slots.owner_not_listed", "slots=%zu routers=%u", count,
                 h->router_count);
}

enum peal_err peal_cluster_start(struct peal_cluster *c, const struct peal_cluster_io *io,
                                 size_t self, size_t router_count, struct peal_span kept, char *why,
                                 size_t why_size)
{
    uint64_t other = 0;
    enum peal_err err = PEAL_OK;
    c->io = *io;
    c->started = true;
    peal_holdings_init(&c->holdings, self, router_count);
    if (kept.size > 0)
        err = peal_holdings_load(&c->holdings, kept, &other);
    else if (kept.at == NULL || router_count == 1)
        /* A store from before there were tables: what the configuration said was what counted. */
        peal_holdings_seed(&c->holdings);
    if (err == PEAL_ECONFIG)
        snprintf(why, why_size, "cluster.self is %zu, and the data are those of router %llu", self,
                 (unsigned long long)other);
    if (err == PEAL_ECORRUPT)
        snprintf(why, why_size, "the record of slots cannot be read; restore a backup");
    if (err == PEAL_ENOMEM) snprintf(why, why_size, "out of memory");
    if (err == PEAL_OK) warn_of_unknown(&c->holdings);
    if (err == PEAL_OK && !c->holdings.seeded)
        peal_log(PEAL_LOG_INFO, "slots.waiting", "self=%zu routers=%zu", self, router_count);
    return err;
}

enum peal_holding peal_cluster_holding(const struct peal_cluster *c, struct peal_span group,
                                       uint16_t *slot)
{
    *slot = peal_group_slot(group);
    return peal_holdings_of(&c->holdings, *slot);
}

static bool is_held(uint8_t state)
{
    return state == PEAL_HOLD_MINE || state == PEAL_HOLD_FROZEN;
}

bool peal_cluster_on_frame(struct peal_cluster *c, const struct peal_frame *frame,
                           bool lost[PEAL_SLOTS])
{
    struct peal_slot claims[PEAL_SLOTS];
    uint8_t before[PEAL_SLOTS];
    bool any = false;
    if (frame->type != PEAL_F_SLOTS || !c->started ||
        peal_slots_decode(frame->offsets.at, frame->offsets.count, claims) != PEAL_OK) {
        peal_log(PEAL_LOG_WARN, "router.bad_frame", "type=%s", peal_frame_name(frame->type));
        return false;
    }
    memcpy(before, c->holdings.state, sizeof before);
    peal_holdings_hear(&c->holdings, frame->owner, claims);
    for (uint16_t slot = 0; slot < PEAL_SLOTS; slot++) {
        lost[slot] = is_held(before[slot]) && c->holdings.slots[slot].owner != c->holdings.self;
        any |= lost[slot];
    }
    return any;
}

struct peal_store_op *peal_cluster_write(struct peal_cluster *c)
{
    if (!c->started || c->writing || !peal_holdings_dirty(&c->holdings)) return NULL;
    c->scratch.size = 0;
    peal_holdings_record(&c->holdings, &c->scratch);
    if (c->scratch.failed) {
        peal_buf_fini(&c->scratch);
        return NULL;
    }
    struct peal_store_op *op = peal_store_op_new(PEAL_STORE_SLOTS, (struct peal_span){0},
                                                 peal_buf_span(&c->scratch), NULL, 0);
    if (op == NULL) return NULL;
    op->policy = &c->config->groups[0]; /* every operation has one */
    op->tag[0] = c->holdings.version;
    c->writing = true;
    return op;
}

bool peal_cluster_on_written(struct peal_cluster *c, const struct peal_store_op *op)
{
    c->writing = false;
    if (op->err != PEAL_OK) {
        peal_log(PEAL_LOG_ERROR, "slots.not_written", "code=%s", peal_err_word(op->err));
        return false;
    }
    peal_holdings_written(&c->holdings, op->tag[0]);
    peal_log(PEAL_LOG_INFO, "slots.written", "self=%u mine=%zu", c->holdings.self,
             c->holdings.mine);
    return true;
}

void peal_cluster_table(const struct peal_cluster *c, struct peal_buf *out)
{
    struct peal_slot slots[PEAL_SLOTS];
    uint64_t runs[PEAL_SLOT_RUNS];
    struct peal_frame frame = {.type = PEAL_F_SLOTS, .boot = c->boot, .owner = c->holdings.self};
    peal_holdings_tell(&c->holdings, slots);
    frame.offsets.at = runs;
    frame.offsets.count = peal_slots_encode(slots, runs);
    peal_frame_encode(&frame, out);
}

void peal_cluster_tell(struct peal_cluster *c)
{
    const struct peal_holdings *h = &c->holdings;
    if (!c->started || h->router_count == 1) return;
    c->scratch.size = 0;
    peal_cluster_table(c, &c->scratch);
    if (c->scratch.failed) {
        peal_buf_fini(&c->scratch); /* said again in a second */
        return;
    }
    for (size_t router = 0; router < h->router_count; router++)
        if (router != h->self &&
            c->io.tell(c->io.ctx, router, peal_buf_span(&c->scratch)) != PEAL_OK)
            peal_log(PEAL_LOG_DEBUG, "slots.not_told", "router=%zu", router);
}

/* One that knows of no other has nothing to say: what nodes ask it for is what it serves. */
bool peal_cluster_speaks(const struct peal_cluster *c)
{
    return c->started && (c->holdings.router_count > 1 || !peal_cluster_owns_all(c));
}

struct peal_frame peal_cluster_moved(const struct peal_cluster *c, uint16_t slot)
{
    return (struct peal_frame){.type = PEAL_F_MOVED,
                               .slot = slot,
                               .owner = c->holdings.slots[slot].owner,
                               .generation = c->holdings.slots[slot].generation};
}

const char *peal_cluster_owner_rpc(const struct peal_cluster *c, uint16_t slot)
{
    uint16_t owner = c->holdings.slots[slot].owner;
    if (owner >= c->config->cluster.router_count) return "";
    const char *rpc = c->config->cluster.routers[owner].rpc;
    return strlen(rpc) <= PEAL_NAME_MAX ? rpc : ""; /* what the frame has room for */
}

enum peal_err peal_cluster_forward(struct peal_cluster *c, uint16_t slot,
                                   const struct peal_envelope *env)
{
    uint16_t owner = c->holdings.slots[slot].owner;
    if (!c->started || owner >= c->holdings.router_count) return PEAL_ENO_ROUTER;
    PEAL_ASSERT(owner != c->holdings.self);
    struct peal_buf inner = {0};
    struct peal_frame frame = {.type = PEAL_F_FORWARD};
    c->scratch.size = 0;
    peal_envelope_encode(env, &inner);
    frame.envelope = peal_buf_span(&inner);
    if (!inner.failed) peal_frame_encode(&frame, &c->scratch);
    enum peal_err err = PEAL_ENOMEM;
    if (!inner.failed && !c->scratch.failed)
        err = c->io.forward(c->io.ctx, owner, peal_buf_span(&c->scratch));
    if (c->scratch.failed) peal_buf_fini(&c->scratch);
    peal_buf_fini(&inner);
    return err;
}

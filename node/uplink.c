#include "node/uplink.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/metrics.h"
#include "node/lives.h"
#include "node/repairs.h"
#include "node/slotmap.h"
#include "node/sync.h"
#include "proto/envelope.h"
#include "proto/group.h"
#include "proto/parcel.h"

enum {
    BUS_ITSELF = UINT8_MAX, /* in place of a worker, in requests of the bus */
    JOIN_RETRY_MS = 2000,   /* an unanswered join is asked again; joining twice is harmless */
    SEND_BYTES = 65536,     /* what waits for a router is sent when it has so many */
    ALARM_MS = 60000,       /* between two log lines about two lives of one router */
    AHEAD = 16,             /* messages whose groups are fetched into the cache at once */
};

struct link {
    bool up; /* beats arrive and a sync was sent for this boot */
    uint64_t seq;
    uint64_t heard_ms;
    struct peal_lives lives;
    bool two;          /* lives, as last counted */
    uint64_t alarm_ms; /* when that was last logged */
    uint64_t tried_ms; /* when another way was last tried; 0 = nobody has asked yet */
    uint64_t waits_ms; /* since when none was answered; a try to be heard begins it anew */
    struct peal_sync sync;
    struct peal_repairs repairs;
    struct peal_map groups; /* that live on this router and are held here */
    struct peal_roll held;  /* the same by slot */
    struct peal_parcel out; /* what this turn has for the router */
};

/* There may be a million. What a message needs lies together: up to 32 bytes of name, two lines of
 * the cache. */
struct group {
    uint64_t workers; /* bit per worker that wants it */
    uint64_t epoch;
    uint64_t offset; /* newest seen */
    struct pending *pendings;
    uint16_t link;
    bool joined; /* the router has said JOINED or AT */
    bool keeps;
    uint32_t place; /* in the link's roll */
    struct peal_map_node node;
    char name[];
};

/* A join that the router has not answered yet; at most one per worker and group. */
struct pending {
    struct peal_map_node node;
    struct peal_link by_age; /* in uplink->pendings, oldest first */
    struct pending *next;    /* of group->pendings */
    struct group *group;
    uint64_t req; /* the key points here */
    uint64_t asked_ms;
};

struct peal_uplink {
    struct peal_uplink_io io;
    uint64_t boot;
    uint64_t now_ms;
    uint64_t beat_due_ms;
    size_t link_count;
    struct peal_mails mails;
    uint64_t rejoins; /* requests of the bus itself so far */
    struct peal_slotmap slots;
    struct peal_map pending_map;
    struct peal_link pendings;
    struct peal_buf scratch;
    struct link links[];
};

/* ---- to the routers ------------------------------------------------------------------------ */

/* What becomes of a frame that could not be sent. */
static void frame_not_sent(struct peal_uplink *up, size_t link, struct peal_span bytes)
{
    struct peal_frame frame;
    if (peal_frame_decode(bytes, &frame) != PEAL_OK) return; /* no memory: the request times out */
    switch (frame.type) {
    case PEAL_F_SYNC:
        up->links[link].up = false; /* try on the next beat */
        break;
    case PEAL_F_FETCH:
        peal_repairs_done(&up->links[link].repairs, frame.req);
        peal_mails_add_failed(&up->mails, frame.req, PEAL_EQUEUE_FULL);
        break;
    case PEAL_F_PUBLISH:
    case PEAL_F_MARK:
    case PEAL_F_PRESENT:
    case PEAL_F_WHO:
        peal_mails_add_failed(&up->mails, frame.req, PEAL_EQUEUE_FULL);
        break;
    default: /* A join is asked again, a leave when a message comes for it. */
        break;
    }
    peal_log(PEAL_LOG_DEBUG, "frame.not_sent", "link=%zu type=%s", link,
             peal_frame_name(frame.type));
    peal_frame_fini(&frame);
}

static void flush_link(struct peal_uplink *up, size_t link)
{
    struct peal_parcel *out = &up->links[link].out;
    struct peal_span bytes;
    size_t at = 0;
    if (out->count == 0) return;
    if (out->count > 1)
        bytes = peal_parcel_finish(out, up->boot, 0);
    else
        peal_parcel_next(out, &at, &bytes);
    if (up->io.send(up->io.ctx, link, bytes) != PEAL_OK)
        for (at = 0; peal_parcel_next(out, &at, &bytes);)
            frame_not_sent(up, link, bytes);
    peal_parcel_clear(out);
}

static void flush_full(struct peal_uplink *up, size_t link)
{
    const struct peal_parcel *out = &up->links[link].out;
    if (peal_parcel_full(out) || out->buf.size >= SEND_BYTES) flush_link(up, link);
}

/* Errors: PEAL_ENOMEM. Later ones are dealt with by frame_not_sent. */
static enum peal_err send_frame(struct peal_uplink *up, size_t link, const struct peal_frame *frame)
{
    enum peal_err err = peal_parcel_add(&up->links[link].out, frame);
    flush_full(up, link);
    return err;
}

/* The same with an encoded frame. A large one is not copied. */
static enum peal_err send_bytes(struct peal_uplink *up, size_t link, struct peal_span frame)
{
    if (frame.size >= SEND_BYTES) {
        flush_link(up, link);
        return up->io.send(up->io.ctx, link, frame);
    }
    enum peal_err err = peal_parcel_add_bytes(&up->links[link].out, frame);
    flush_full(up, link);
    return err;
}

/* Pages that members want, as far as they may be on their way now. */
static void send_repairs(struct peal_uplink *up, size_t link)
{
    struct link *l = &up->links[link];
    struct peal_order *o;
    while ((o = peal_repairs_next(&l->repairs, up->now_ms)) != NULL) {
        enum peal_err err = l->up ? send_bytes(up, link, o->frame) : PEAL_ENO_ROUTER;
        if (err != PEAL_OK) {
            peal_repairs_done(&l->repairs, o->req);
            peal_mails_add_failed(&up->mails, o->req, err);
        }
        peal_order_free(o);
    }
}

static struct peal_span name_of(const struct group *g)
{
    return peal_span_make(g->name, g->node.key_size);
}

static void send_join(struct peal_uplink *up, const struct pending *p)
{
    const struct group *g = p->group;
    struct peal_frame join = {.type = PEAL_F_JOIN, .req = p->req, .group = name_of(g)};
    /* If it cannot be sent now it is asked again after JOIN_RETRY_MS. */
    if (send_frame(up, g->link, &join) != PEAL_OK)
        peal_log(PEAL_LOG_DEBUG, "join.not_sent", "link=%u", g->link);
}

static void send_leave(struct peal_uplink *up, size_t link, struct peal_span name)
{
    struct peal_frame leave = {.type = PEAL_F_LEAVE, .group = name};
    /* If it is lost, the router sends a message for it one day and is told again. */
    if (send_frame(up, link, &leave) != PEAL_OK)
        peal_log(PEAL_LOG_DEBUG, "leave.not_sent", "link=%zu", link);
}

static void pending_free(struct peal_uplink *up, struct pending *p)
{
    peal_list_remove(&p->by_age);
    struct pending **at = &p->group->pendings;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    peal_map_remove(&up->pending_map, &p->node);
    free(p);
}

/* A worker that asks anew, or leaves, no longer waits for what it asked before. */
static void forget_pending(struct peal_uplink *up, struct group *g, uint8_t worker)
{
    struct pending *next;
    for (struct pending *p = g->pendings; p != NULL; p = next) {
        next = p->next;
        if (peal_req_worker(p->req) == worker) pending_free(up, p);
    }
}

static struct pending *find_pending(struct peal_uplink *up, uint64_t req)
{
    struct peal_map_node *n = peal_map_find(&up->pending_map, peal_span_make(&req, sizeof req));
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct pending, node);
}

/* ---- groups -------------------------------------------------------------------------------- */

static size_t link_of(const struct peal_uplink *up, struct peal_span name)
{
    return peal_slotmap_link(&up->slots, peal_group_slot(name));
}

static struct group *find_group(struct peal_uplink *up, size_t link, struct peal_span name)
{
    struct peal_map_node *n = peal_map_find(&up->links[link].groups, name);
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct group, node);
}

static struct group *get_group(struct peal_uplink *up, struct peal_span name)
{
    size_t link = link_of(up, name);
    struct group *g = find_group(up, link, name);
    if (g != NULL) return g;
    g = calloc(1, sizeof *g + name.size);
    if (g == NULL) return NULL;
    memcpy(g->name, name.at, name.size);
    g->link = (uint16_t)link;
    if (peal_roll_add(&up->links[link].held, name, g, &g->place) != PEAL_OK) {
        free(g);
        return NULL;
    }
    peal_map_add(&up->links[link].groups, &g->node, peal_span_make(g->name, name.size));
    return g;
}

static void group_free(struct peal_uplink *up, struct group *g)
{
    struct link *l = &up->links[g->link];
    while (g->pendings != NULL)
        pending_free(up, g->pendings);
    struct group *moved = peal_roll_remove(&l->held, name_of(g), g->place);
    if (moved != NULL) moved->place = g->place;
    peal_map_remove(&l->groups, &g->node);
    free(g);
}

/* ---- sync ---------------------------------------------------------------------------------- */

static void send_sync(void *ctx, size_t link, const struct peal_frame *frame)
{
    struct peal_uplink *up = ctx;
    if (send_frame(up, link, frame) != PEAL_OK) up->links[link].up = false; /* on the next beat */
}

/* Names every group held on this router; the router's table becomes exactly that. */
static void sync_link(struct peal_uplink *up, size_t link)
{
    struct peal_sync_pages pages;
    struct peal_sync_io io = {up, link, send_sync};
    struct link *l = &up->links[link];
    l->up = true;
    if (!l->sync.waits) l->waits_ms = up->now_ms;
    peal_count(PEAL_M_LINK_SYNCS, 1);
    peal_sync_begin(&l->sync, &io, up->now_ms, &pages);
    for (struct peal_map_node *n = peal_map_next(&l->groups, NULL); n != NULL;
         n = peal_map_next(&l->groups, n)) {
        struct group *g = PEAL_FROM_NODE(n, struct group, node);
        struct peal_position at = {name_of(g), g->epoch, g->offset};
        if (g->joined) peal_sync_name(&pages, &at);
    }
    peal_sync_end(&pages);
    PEAL_LIST_EACH(&up->pendings, it, after)
    {
        struct pending *p = PEAL_FROM_LINK(it, struct pending, by_age);
        if (p->group->link == link) send_join(up, p);
    }
}

/* ---- slots that change hands ---------------------------------------------------------------- */

/* Asks for a group that a worker does not ask for; the answer is for all of its members. */
static void rejoin(struct peal_uplink *up, struct group *g)
{
    struct pending *p = calloc(1, sizeof *p);
    if (p == NULL) {
        up->links[g->link].up = false; /* the next sync names it */
        return;
    }
    p->req = (uint64_t)BUS_ITSELF << PEAL_REQ_WORKER_SHIFT | ++up->rejoins;
    p->asked_ms = up->now_ms;
    p->group = g;
    peal_map_add(&up->pending_map, &p->node, peal_span_make(&p->req, sizeof p->req));
    peal_list_append(&up->pendings, &p->by_age);
    p->next = g->pendings;
    g->pendings = p;
}

/* The group is another router's now. It keeps its position: what that router says differs is
 * repaired. Without memory its workers lose it, and ask anew. */
static void change_link(struct peal_uplink *up, struct group *g, size_t to)
{
    struct link *from = &up->links[g->link];
    struct peal_span name = name_of(g);
    uint32_t place;
    if (peal_roll_add(&up->links[to].held, name, g, &place) != PEAL_OK) {
        for (uint8_t w = 0; w < up->mails.worker_count; w++)
            if (g->workers & 1ull << w) peal_mails_lose(&up->mails, w);
        group_free(up, g);
        return;
    }
    struct group *last = peal_roll_remove(&from->held, name, g->place);
    if (last != NULL) last->place = g->place;
    peal_map_remove(&from->groups, &g->node);
    g->place = place;
    g->link = (uint16_t)to;
    peal_map_add(&up->links[to].groups, &g->node, name);
    forget_pending(up, g, BUS_ITSELF);
    if (g->joined) rejoin(up, g);
    if (!up->links[to].up) return; /* its sync sends them */
    for (struct pending *p = g->pendings; p != NULL; p = p->next)
        send_join(up, p);
}

static void change_links(struct peal_uplink *up)
{
    size_t moved = 0;
    for (size_t i = 0; i < up->link_count; i++)
        for (uint16_t slot = 0; slot < PEAL_SLOTS; slot++) {
            const struct peal_roll_slot *held = &up->links[i].held.slots[slot];
            size_t to = peal_slotmap_link(&up->slots, slot);
            /* From the end: the others stay where they are. */
            for (; to != i && held->count > 0; moved++)
                change_link(up, held->items[held->count - 1], to);
        }
    peal_log(PEAL_LOG_INFO, "slots.changed", "groups=%zu", moved);
}

/* Workers sort publishes by router; whom they are sent to is decided here. */
static void tell_slots(struct peal_uplink *up)
{
    up->scratch.size = 0;
    peal_slotmap_encode(&up->slots, &up->scratch);
    if (up->scratch.failed) {
        peal_buf_fini(&up->scratch);
        return;
    }
    peal_mails_add_for_all(&up->mails, peal_buf_span(&up->scratch));
}

static void hear_slots(struct peal_uplink *up, const struct peal_frame *f)
{
    if (!peal_slotmap_hear(&up->slots, f)) return;
    change_links(up);
    tell_slots(up);
    peal_mails_tell_synced(&up->mails);
}

/* With it comes back what that router was asked and did not look at. It goes to the owner, unless
 * the one who answered is that: then it does not know yet, and somebody asks again. So each step
 * needs a higher generation, and there is no going round. */
static void on_moved(struct peal_uplink *up, size_t link, const struct peal_frame *f)
{
    hear_slots(up, f);
    if (peal_repairs_done(&up->links[link].repairs, f->req)) send_repairs(up, link);
    if (f->envelope.size == 0 || f->slot >= PEAL_SLOTS) return;
    uint16_t slot = (uint16_t)f->slot;
    size_t owner = peal_slotmap_link(&up->slots, slot);
    enum peal_err err = PEAL_ENO_ROUTER;
    if (owner == link)
        err = PEAL_EAGAIN;
    else if (up->links[owner].up && !peal_slotmap_out_of_reach(&up->slots, slot))
        err = send_bytes(up, owner, f->envelope);
    if (err != PEAL_OK) peal_mails_add_failed(&up->mails, f->req, err);
}

/* One that is lost was for nothing: the slots come round again. */
static void send_check(void *ctx, size_t link, const struct peal_frame *frame)
{
    if (send_frame(ctx, link, frame) != PEAL_OK)
        peal_log(PEAL_LOG_DEBUG, "link.check_not_sent", "link=%zu", link);
}

/* The router has these slots otherwise: it gets them named. Of a group that it was asked for and
 * did not answer yet there is no position to say. */
static void sync_slots(struct peal_uplink *up, size_t link, const uint64_t *slots, size_t count)
{
    struct peal_sync_pages pages;
    struct peal_sync_io io = {up, link, send_check};
    struct link *l = &up->links[link];
    if (!l->up || l->sync.waits || count > PEAL_SYNC_CHECK) return;
    for (size_t i = 0; i < count; i++) {
        if (slots[i] >= PEAL_SLOTS) continue;
        const struct peal_roll_slot *held = &l->held.slots[slots[i]];
        peal_count(PEAL_M_LINK_DIFFERS, 1);
        peal_sync_begin_slot(&l->sync, &io, slots[i], &pages);
        for (uint32_t k = 0; k < held->count; k++) {
            const struct group *g = held->items[k];
            struct peal_position at = {.group = name_of(g)};
            if (g->joined) at = (struct peal_position){name_of(g), g->epoch, g->offset};
            peal_sync_name(&pages, &at);
        }
        peal_sync_end(&pages);
    }
}

static void tell_links(struct peal_uplink *up)
{
    peal_mails_tell_links(&up->mails, !peal_uplink_ready(up));
}

/* ---- batches ------------------------------------------------------------------------------- */

static void on_message(struct peal_uplink *up, size_t link, const struct peal_message_head *head,
                       uint32_t hash, struct peal_span entry)
{
    struct peal_map_node *n = peal_map_find_hashed(&up->links[link].groups, hash, head->group);
    if (n == NULL) {
        send_leave(up, link, head->group);
        return;
    }
    struct group *g = PEAL_FROM_NODE(n, struct group, node);
    if (g->joined) {
        g->epoch = head->epoch;
        g->offset = head->offset;
    }
    peal_mails_add_frame(&up->mails, g->workers, entry);
}

/* A join that was asked twice is answered twice, and the second answer may tell of messages that
 * never came: the workers that are members already learn of it as of any true position. */
static void tell_position(struct peal_uplink *up, const struct group *g, struct peal_span entry)
{
    struct peal_letter *at;
    if (peal_letter_new(entry, &at) != PEAL_OK) {
        up->links[g->link].up = false; /* the next sync tells it */
        return;
    }
    at->frame.type = PEAL_F_AT;
    for (uint8_t w = 0; w < up->mails.worker_count; w++)
        if (g->workers & (1ull << w)) peal_mails_add_letter(&up->mails, w, at);
    peal_letter_unref(at);
}

static void on_joined(struct peal_uplink *up, size_t link, const struct peal_frame *f,
                      struct peal_span entry)
{
    struct pending *p = find_pending(up, f->req);
    /* A router that had the slot before has no say. */
    bool waited_for = p != NULL && p->group->link == link;
    if (waited_for) pending_free(up, p);
    if (f->code != PEAL_OK && peal_req_worker(f->req) == BUS_ITSELF) up->links[link].up = false;
    struct group *g = find_group(up, link, f->group);
    if (g == NULL) {
        if (f->code == PEAL_OK) send_leave(up, link, f->group);
        return;
    }
    if (f->code == PEAL_OK) {
        if (g->joined && (g->epoch != f->epoch || g->offset != f->offset))
            tell_position(up, g, entry);
        g->joined = true;
        g->keeps = (f->flags & PEAL_FLAG_KEEPS) != 0;
        g->epoch = f->epoch;
        g->offset = f->offset;
    }
    if (waited_for) peal_mails_add_answer(&up->mails, f->req, entry);
}

static void on_position(struct peal_uplink *up, size_t link, const struct peal_frame *f,
                        struct peal_span entry)
{
    struct group *g = find_group(up, link, f->group);
    if (g == NULL) {
        send_leave(up, link, f->group);
        return;
    }
    if (f->type == PEAL_F_AT) {
        g->epoch = f->epoch;
        g->offset = f->offset;
    }
    peal_mails_add_frame(&up->mails, g->workers, entry);
}

/* Who is there has changed. Nobody may want to know any more. */
static void on_presence(struct peal_uplink *up, size_t link, const struct peal_frame *f,
                        struct peal_span entry)
{
    struct group *g = find_group(up, link, f->group);
    if (g != NULL) peal_mails_add_frame(&up->mails, g->workers, entry);
}

/* One that is no message. */
static void on_entry(struct peal_uplink *up, size_t link, struct peal_span entry)
{
    struct peal_frame frame;
    enum peal_err err = peal_frame_decode(entry, &frame);
    if (err != PEAL_OK) {
        peal_log(PEAL_LOG_ERROR, "link.bad_entry", "link=%zu code=%s", link, peal_err_word(err));
        up->links[link].up = false; /* something is missing now: sync on the next beat */
        return;
    }
    if (frame.type == PEAL_F_JOINED)
        on_joined(up, link, &frame, entry);
    else if (frame.type == PEAL_F_AT || frame.type == PEAL_F_STATE)
        on_position(up, link, &frame, entry);
    else if ((frame.type == PEAL_F_PRESENTED || frame.type == PEAL_F_PRESENCE) && frame.req != 0)
        peal_mails_add_answer(&up->mails, frame.req, entry);
    else if (frame.type == PEAL_F_PRESENCE)
        on_presence(up, link, &frame, entry);
    else if (frame.type == PEAL_F_MOVED || frame.type == PEAL_F_SLOTS)
        on_moved(up, link, &frame);
    else
        peal_log(PEAL_LOG_ERROR, "link.bad_entry", "link=%zu type=%s", link,
                 peal_frame_name(frame.type));
    if (frame.type == PEAL_F_MESSAGE)
        up->links[link].up = false; /* its envelope is bad: likewise */
    peal_frame_fini(&frame);
}

/* Some entries of a batch, at most AHEAD: the groups of all messages among them are fetched into
 * the cache before the first one is looked up. */
static void on_entries(struct peal_uplink *up, size_t link, const struct peal_span *entries,
                       size_t count)
{
    const struct peal_map *groups = &up->links[link].groups;
    struct peal_message_head heads[AHEAD];
    uint32_t hashes[AHEAD];
    uint32_t messages = 0; /* bit per entry */
    for (size_t i = 0; i < count; i++) {
        if (peal_message_peek(entries[i], &heads[i]) != PEAL_OK) continue;
        messages |= 1u << i;
        hashes[i] = peal_map_hash(groups, heads[i].group);
        peal_map_fetch_bucket(groups, hashes[i]);
    }
    for (size_t i = 0; i < count; i++)
        if (messages & 1u << i) peal_map_fetch_node(groups, hashes[i]);
    for (size_t i = 0; i < count; i++) {
        if (messages & 1u << i)
            on_message(up, link, &heads[i], hashes[i], entries[i]);
        else
            on_entry(up, link, entries[i]);
    }
}

/* A relay that slept still has what a router said long ago, and the node may have heard what came
 * after that by another way. To take it for news would turn positions back. */
static bool is_late(const struct link *l, const struct peal_frame *batch, enum peal_life life)
{
    if (life != PEAL_LIFE_SAME) return life == PEAL_LIFE_FORMER;
    return batch->entries.count > 0 ? batch->seq <= l->seq : batch->seq < l->seq;
}

/* A relay had lost the router and has it again, and with it perhaps something of ours. This only
 * saves the time until the next beat, which tells for sure: a link that is down waits for that
 * beat, and one whose sync is under way is being repaired already. */
static void on_relinked(struct peal_uplink *up, size_t link, const struct peal_frame *relinked)
{
    const struct link *l = &up->links[link];
    if (!l->up || l->sync.waits) return;
    peal_log(PEAL_LOG_INFO, "link.relinked", "link=%zu relay=%016llx count=%llu", link,
             (unsigned long long)relinked->boot, (unsigned long long)relinked->seq);
    sync_link(up, link);
}

static void on_batch(struct peal_uplink *up, size_t link, const struct peal_frame *batch)
{
    struct link *l = &up->links[link];
    enum peal_life life = peal_lives_hear(&l->lives, batch->boot, l->heard_ms, up->now_ms);
    if (is_late(l, batch, life)) {
        peal_count(PEAL_M_LINK_LATE, 1);
        return;
    }
    uint64_t expected = l->seq + (batch->entries.count > 0 ? 1 : 0);
    if (life == PEAL_LIFE_NEW) {
        peal_log(PEAL_LOG_INFO, "link.boot", "link=%zu boot=%016llx", link,
                 (unsigned long long)batch->boot);
        l->up = false;
    } else if (batch->seq != expected) {
        peal_count(PEAL_M_LINK_JUMPS, 1);
        peal_log(PEAL_LOG_WARN, "link.jump", "link=%zu expected=%llu got=%llu", link,
                 (unsigned long long)expected, (unsigned long long)batch->seq);
        l->up = false;
    }
    l->seq = batch->seq;
    l->heard_ms = up->now_ms;
    for (size_t i = 0; i < batch->entries.count; i += AHEAD) {
        size_t left = batch->entries.count - i;
        on_entries(up, link, &batch->entries.at[i], left < AHEAD ? left : AHEAD);
    }
    if (!l->up) sync_link(up, link);
    tell_links(up);
}

void peal_uplink_on_batch(struct peal_uplink *up, size_t link, struct peal_span bytes)
{
    struct peal_frame frame;
    enum peal_err err = peal_frame_decode(bytes, &frame);
    if (err == PEAL_OK && frame.type == PEAL_F_BATCH) {
        on_batch(up, link, &frame);
    } else if (err == PEAL_OK && frame.type == PEAL_F_RELINKED) {
        on_relinked(up, link, &frame);
    } else {
        peal_log(PEAL_LOG_ERROR, "link.bad_batch", "link=%zu", link);
        up->links[link].up = false;
    }
    if (err == PEAL_OK) peal_frame_fini(&frame);
}

/* Of another life than the one that was heard it confirms nothing. */
static void on_synced(struct peal_uplink *up, size_t link, const struct peal_frame *synced)
{
    struct link *l = &up->links[link];
    if (synced->seq == l->sync.seq &&
        peal_lives_answered(&l->lives, synced->boot, l->heard_ms, up->now_ms) &&
        peal_sync_on_synced(&l->sync, synced->seq))
        peal_mails_tell_synced(&up->mails);
}

void peal_uplink_on_answer(struct peal_uplink *up, size_t link, struct peal_span bytes)
{
    struct peal_frame frame;
    enum peal_err err = peal_frame_decode(bytes, &frame);
    if (err != PEAL_OK) {
        peal_log(PEAL_LOG_ERROR, "link.bad_answer", "link=%zu code=%s", link, peal_err_word(err));
        return; /* the request times out */
    }
    up->links[link].waits_ms = up->now_ms;
    if (frame.type == PEAL_F_SYNCED)
        on_synced(up, link, &frame);
    else if (frame.type == PEAL_F_DIFFER)
        sync_slots(up, link, frame.offsets.at, frame.offsets.count);
    else if (frame.type == PEAL_F_MOVED || frame.type == PEAL_F_SLOTS)
        on_moved(up, link, &frame);
    else
        peal_mails_add_answer(&up->mails, frame.req, bytes);
    if (frame.type == PEAL_F_PAGE && peal_repairs_done(&up->links[link].repairs, frame.req))
        send_repairs(up, link);
    peal_frame_fini(&frame);
}

/* ---- orders -------------------------------------------------------------------------------- */

/* The position is known here and every later message follows in this mailbox. */
static void answer_join(struct peal_uplink *up, const struct group *g, const struct peal_order *o)
{
    struct peal_frame joined = {.type = PEAL_F_JOINED,
                                .req = o->req,
                                .group = o->group,
                                .epoch = g->epoch,
                                .offset = g->offset,
                                .flags = g->keeps ? PEAL_FLAG_KEEPS : 0};
    up->scratch.size = 0;
    peal_frame_encode(&joined, &up->scratch);
    if (!up->scratch.failed) {
        peal_mails_add_frame(&up->mails, 1ull << o->worker, peal_buf_span(&up->scratch));
    } else {
        peal_buf_fini(&up->scratch);
        peal_mails_add_failed(&up->mails, o->req, PEAL_ENOMEM);
    }
}

static void order_join(struct peal_uplink *up, const struct peal_order *o)
{
    struct group *g = get_group(up, o->group);
    if (g == NULL) {
        peal_mails_add_failed(&up->mails, o->req, PEAL_ENOMEM);
        return;
    }
    g->workers |= 1ull << o->worker;
    if (g->joined && up->links[g->link].up && !peal_group_is_inbox(o->group)) {
        answer_join(up, g, o);
        return;
    }
    forget_pending(up, g, o->worker);
    struct pending *p = calloc(1, sizeof *p);
    if (p == NULL) {
        peal_mails_add_failed(&up->mails, o->req, PEAL_ENOMEM);
        return;
    }
    p->req = o->req;
    p->asked_ms = up->now_ms;
    p->group = g;
    peal_map_add(&up->pending_map, &p->node, peal_span_make(&p->req, sizeof p->req));
    peal_list_append(&up->pendings, &p->by_age);
    p->next = g->pendings;
    g->pendings = p;
    if (up->links[g->link].up) send_join(up, p);
}

static void order_leave(struct peal_uplink *up, const struct peal_order *o)
{
    struct group *g = find_group(up, link_of(up, o->group), o->group);
    if (g == NULL) return;
    g->workers &= ~(1ull << o->worker);
    forget_pending(up, g, o->worker);
    if (g->workers != 0) return;
    if (up->links[g->link].up) send_leave(up, g->link, o->group);
    group_free(up, g);
}

void peal_uplink_on_order(struct peal_uplink *up, struct peal_order *o)
{
    switch (o->kind) {
    case PEAL_ORDER_JOIN:
        order_join(up, o);
        break;
    case PEAL_ORDER_LEAVE:
        order_leave(up, o);
        break;
    case PEAL_ORDER_SEND: {
        size_t link = link_of(up, o->group);
        enum peal_err err = PEAL_ENO_ROUTER;
        bool reach =
            !peal_slotmap_out_of_reach(&up->slots, peal_group_slot(o->group)) && up->links[link].up;
        if (o->repair && reach) {
            err = peal_repairs_add(&up->links[link].repairs, o, up->now_ms);
            send_repairs(up, link);
            if (err == PEAL_OK) return; /* it may be gone already */
        } else if (reach)
            err = send_bytes(up, link, o->frame);
        if (err != PEAL_OK) peal_mails_add_failed(&up->mails, o->req, err);
        break;
    }
    }
    peal_order_free(o);
}

/* ---- time ---------------------------------------------------------------------------------- */

bool peal_uplink_ready(const struct peal_uplink *up)
{
    for (size_t i = 0; i < up->link_count; i++)
        if (!up->links[i].up || up->links[i].two) return false;
    return true;
}

size_t peal_uplink_groups(const struct peal_uplink *up)
{
    size_t count = 0;
    for (size_t i = 0; i < up->link_count; i++)
        count += up->links[i].held.count;
    return count;
}

void peal_uplink_set_time(struct peal_uplink *up, uint64_t now_ms)
{
    up->now_ms = now_ms;
}

/* Two processes say that they are this router, and publishes may go to either: somebody has to end
 * one of them. */
static void check_lives(struct peal_uplink *up, size_t link)
{
    struct link *l = &up->links[link];
    bool two = peal_lives_two(&l->lives, up->now_ms);
    if (two != l->two) {
        peal_count(PEAL_M_LINKS_TWO_LIVES, two ? 1 : -1);
        l->two = two;
        l->alarm_ms = 0;
    }
    if (!two || (l->alarm_ms != 0 && up->now_ms - l->alarm_ms < ALARM_MS)) return;
    l->alarm_ms = up->now_ms;
    peal_log(PEAL_LOG_ERROR, "link.two_lives", "link=%zu boot=%016llx other=%016llx", link,
             (unsigned long long)l->lives.boot, (unsigned long long)l->lives.other);
}

static void check_links(struct peal_uplink *up)
{
    struct peal_frame beat = {.type = PEAL_F_BEAT, .boot = up->boot};
    for (size_t i = 0; i < up->link_count; i++) {
        struct link *l = &up->links[i];
        if (l->up && up->now_ms - l->heard_ms > PEAL_BEAT_LOST_MS) {
            peal_log(PEAL_LOG_WARN, "link.silent", "link=%zu ms=%llu", i,
                     (unsigned long long)(up->now_ms - l->heard_ms));
            l->up = false;
        }
        check_lives(up, i);
        /* Also to a router that was never heard: it forgets a node that says nothing, and then has
         * nobody to send its beats to. */
        if (send_frame(up, i, &beat) != PEAL_OK)
            peal_log(PEAL_LOG_WARN, "link.beat_not_sent", "link=%zu", i);
        struct peal_sync_io io = {up, i, send_check};
        if (l->up) peal_sync_check(&l->sync, &io, &l->held, up->now_ms);
    }
    tell_links(up);
}

static void retry_syncs(struct peal_uplink *up)
{
    for (size_t i = 0; i < up->link_count; i++)
        if (up->links[i].up && peal_sync_overdue(&up->links[i].sync, up->now_ms)) sync_link(up, i);
}

/* Members whose page does not come ask again later, and the next ones are sent. */
static void give_up_repairs(struct peal_uplink *up)
{
    for (size_t i = 0; i < up->link_count; i++) {
        uint64_t req;
        while ((req = peal_repairs_late(&up->links[i].repairs, up->now_ms)) != 0)
            peal_mails_add_failed(&up->mails, req, PEAL_ETIMEOUT);
        send_repairs(up, i);
    }
}

static void retry_joins(struct peal_uplink *up)
{
    PEAL_LIST_EACH(&up->pendings, it, after)
    {
        struct pending *p = PEAL_FROM_LINK(it, struct pending, by_age);
        if (up->now_ms - p->asked_ms < JOIN_RETRY_MS) return;
        p->asked_ms = up->now_ms;
        peal_list_remove(&p->by_age);
        peal_list_append(&up->pendings, &p->by_age);
        if (up->links[p->group->link].up) send_join(up, p);
    }
}

void peal_uplink_on_tick(struct peal_uplink *up)
{
    peal_mails_tell_losses(&up->mails);
    retry_joins(up);
    retry_syncs(up);
    give_up_repairs(up);
    if (up->now_ms < up->beat_due_ms) return;
    up->beat_due_ms = up->now_ms + PEAL_BEAT_MS;
    check_links(up);
}

bool peal_uplink_silent(struct peal_uplink *up, size_t link, uint64_t ms)
{
    struct link *l = &up->links[link];
    if (l->tried_ms == 0) l->tried_ms = up->now_ms;
    uint64_t since_ms = l->heard_ms > l->tried_ms ? l->heard_ms : l->tried_ms;
    if (up->now_ms - since_ms <= ms) return false;
    l->tried_ms = up->now_ms;
    return true;
}

bool peal_uplink_unanswered(struct peal_uplink *up, size_t link, uint64_t ms)
{
    struct link *l = &up->links[link];
    bool heard = l->lives.boot != 0 && up->now_ms - l->heard_ms <= PEAL_BEAT_LOST_MS;
    if (!heard || !l->sync.waits || up->now_ms - l->waits_ms <= ms) return false;
    l->waits_ms = up->now_ms;
    return true;
}

void peal_uplink_flush(struct peal_uplink *up)
{
    for (size_t i = 0; i < up->link_count; i++)
        flush_link(up, i);
    tell_links(up);
    peal_mails_flush(&up->mails);
}

/* ---- life ---------------------------------------------------------------------------------- */

struct peal_uplink *peal_uplink_new(const struct peal_uplink_io *io, uint64_t boot,
                                    size_t router_count, uint8_t worker_count)
{
    PEAL_ASSERT(router_count > 0);
    struct peal_uplink *up = calloc(1, sizeof *up + router_count * sizeof up->links[0]);
    if (up == NULL) return NULL;
    up->io = *io;
    up->boot = boot;
    up->link_count = router_count;
    struct peal_mails_io mails = {io->ctx, io->post};
    peal_mails_init(&up->mails, &mails, worker_count);
    peal_slotmap_init(&up->slots, router_count);
    peal_link_init(&up->pendings);
    for (size_t i = 0; i < router_count; i++)
        peal_repairs_init(&up->links[i].repairs);
    enum peal_err err = peal_map_init(&up->pending_map);
    for (size_t i = 0; i < router_count && err == PEAL_OK; i++)
        err = peal_map_init(&up->links[i].groups);
    if (err == PEAL_OK) return up;
    peal_uplink_free(up);
    return NULL;
}

void peal_uplink_free(struct peal_uplink *up)
{
    if (up == NULL) return;
    for (size_t i = 0; i < up->link_count; i++) {
        struct link *l = &up->links[i];
        struct peal_map_node *next;
        for (struct peal_map_node *n = peal_map_next(&l->groups, NULL); n != NULL; n = next) {
            next = peal_map_next(&l->groups, n);
            group_free(up, PEAL_FROM_NODE(n, struct group, node));
        }
        peal_map_fini(&l->groups);
        peal_roll_fini(&l->held);
        peal_repairs_fini(&l->repairs);
        peal_parcel_fini(&l->out);
    }
    peal_mails_fini(&up->mails);
    peal_map_fini(&up->pending_map);
    peal_buf_fini(&up->scratch);
    free(up);
}

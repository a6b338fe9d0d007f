#include "router/mover.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"

enum peal_err peal_pieces_add(struct peal_pieces *p, struct peal_bytes *bytes)
{
    struct peal_bytes **more = bytes == NULL ? NULL : realloc(p->at, (p->count + 1) * sizeof *more);
    if (more == NULL) {
        peal_bytes_unref(bytes);
        return PEAL_ENOMEM;
    }
    p->at = more;
    p->at[p->count++] = bytes;
    return PEAL_OK;
}

static void pieces_fini(struct peal_pieces *p)
{
    for (size_t i = 0; i < p->count; i++)
        peal_bytes_unref(p->at[i]);
    free(p->at);
    *p = (struct peal_pieces){0};
}

/* ---- giving: how it ends ------------------------------------------------------------------ */

static void answer(struct peal_mover *m, const struct peal_peer *peer, uint64_t req, uint16_t slot,
                   enum peal_err err, const char *why)
{
    const struct peal_slot *known = &m->cluster->holdings.slots[slot];
    struct peal_frame given = {.type = PEAL_F_GIVEN,
                               .req = req,
                               .slot = slot,
                               .owner = known->owner,
                               .generation = known->generation,
                               .code = err,
                               .message = peal_span_of(why)};
    m->io.answer(m->io.ctx, peer, &given);
}

static void give_end(struct peal_mover *m, enum peal_err err, const char *why)
{
    uint16_t slot = m->give.slot;
    answer(m, &m->give.peer, m->give.req, slot, err, why);
    peal_bytes_unref(m->give.records);
    peal_bytes_unref(m->give.sent);
    pieces_fini(&m->give.live);
    memset(&m->give, 0, sizeof m->give);
    if (err == PEAL_OK)
        peal_log(PEAL_LOG_INFO, "slot.given", "slot=%u owner=%u generation=%llu", slot,
                 m->cluster->holdings.slots[slot].owner,
                 (unsigned long long)m->cluster->holdings.slots[slot].generation);
}

/* The slot stays here. */
static void give_abort(struct peal_mover *m, enum peal_err err, const char *why)
{
    peal_log(PEAL_LOG_WARN, "slot.not_given", "slot=%u to=%u code=%s why=\"%s\"", m->give.slot,
             m->give.to, peal_err_word(err), why);
    peal_holdings_freeze(&m->cluster->holdings, m->give.slot, false);
    give_end(m, err, why);
}

/* ---- giving: piece by piece --------------------------------------------------------------- */

static struct peal_store_op *new_op(const struct peal_mover *m, enum peal_store_op_kind kind,
                                    uint16_t slot, struct peal_span group, struct peal_span message)
{
    struct peal_store_op *op = peal_store_op_new(kind, group, message, NULL, 0);
    if (op == NULL) return NULL;
    op->policy = &m->cluster->config->groups[0]; /* every operation has one */
    op->mark_flags = slot;
    return op;
}

static void give_read(struct peal_mover *m, struct peal_span group, uint64_t from)
{
    struct peal_store_op *op =
        new_op(m, PEAL_STORE_EXPORT, m->give.slot, group, (struct peal_span){0});
    if (op == NULL) {
        give_abort(m, PEAL_ENOMEM, "out of memory");
        return;
    }
    op->upto = from;
    op->tag[0] = m->give.seq;
    m->give.state = PEAL_GIVE_READING;
    m->io.submit(m->io.ctx, op);
}

static enum peal_err tell(struct peal_mover *m, size_t router, const struct peal_frame *frame)
{
    struct peal_buf buf = {0};
    enum peal_err err = PEAL_ENOMEM;
    peal_frame_encode(frame, &buf);
    if (!buf.failed) err = m->cluster->io.tell(m->cluster->io.ctx, router, peal_buf_span(&buf));
    peal_buf_fini(&buf);
    return err;
}

/* What does not go out now is sent again with the tick. */
static void give_send_again(struct peal_mover *m)
{
    m->give.sent_ms = m->now_ms;
    if (m->cluster->io.tell(m->cluster->io.ctx, m->give.to, peal_bytes_span(m->give.sent)) !=
        PEAL_OK)
        peal_log(PEAL_LOG_DEBUG, "slot.piece_not_sent", "slot=%u", m->give.slot);
}

static void give_send(struct peal_mover *m, struct peal_span piece, uint64_t flags)
{
    struct peal_buf buf = {0};
    struct peal_frame copy = {.type = PEAL_F_COPY,
                              .boot = m->cluster->boot,
                              .owner = m->cluster->holdings.self,
                              .slot = m->give.slot,
                              .seq = m->give.seq,
                              .offset = m->give.piece,
                              .flags = flags,
                              .envelope = piece};
    peal_bytes_unref(m->give.sent);
    m->give.sent = peal_frame_bytes(&copy, &buf);
    peal_buf_fini(&buf);
    if (m->give.sent == NULL) {
        give_abort(m, PEAL_ENOMEM, "out of memory");
        return;
    }
    m->give.state = PEAL_GIVE_COPYING;
    m->give.progress_ms = m->now_ms;
    give_send_again(m);
}

/* What the store has given goes out; where it ended is read when it has arrived. */
static void give_records(struct peal_mover *m, struct peal_store_op *op)
{
    if (op->err != PEAL_OK) {
        give_abort(m, op->err, "the store could not be read");
        return;
    }
    peal_bytes_unref(m->give.records);
    m->give.records = peal_bytes_ref(op->encoded);
    give_send(m, peal_bytes_span(op->encoded), PEAL_FLAG_STORED);
}

static void give_away(struct peal_mover *m)
{
    /* Another router may have claimed it meanwhile. */
    if (peal_holdings_of(&m->cluster->holdings, m->give.slot) != PEAL_HOLD_FROZEN) {
        give_abort(m, PEAL_EFORBIDDEN, "another router claims it");
        return;
    }
    m->give.state = PEAL_GIVE_WRITING;
    peal_holdings_give(&m->cluster->holdings, m->give.slot, m->give.to);
    m->io.changed(m->io.ctx);
}

/* The piece under way has arrived. */
static void give_next(struct peal_mover *m)
{
    struct peal_frame records;
    m->give.piece++;
    if (!m->give.store_done) {
        enum peal_err err = peal_frame_decode(peal_bytes_span(m->give.records), &records);
        if (err != PEAL_OK) {
            give_abort(m, err, "the store could not be read");
            return;
        }
        m->give.store_done = (records.flags & PEAL_FLAG_LAST) != 0;
        if (!m->give.store_done) give_read(m, records.group, records.from);
        peal_frame_fini(&records);
        if (!m->give.store_done) return;
    }
    if (!m->give.collected) {
        enum peal_err err = m->io.collect(m->io.ctx, m->give.slot, &m->give.live);
        if (err != PEAL_OK) {
            give_abort(m, err, "out of memory");
            return;
        }
        m->give.collected = true;
    }
    if (m->give.live_next == m->give.live.count) {
        give_away(m);
        return;
    }
    give_send(m, peal_bytes_span(m->give.live.at[m->give.live_next++]), 0);
}

static void on_copied(struct peal_mover *m, const struct peal_frame *f)
{
    if (m->give.state != PEAL_GIVE_COPYING || f->seq != m->give.seq || f->owner != m->give.to ||
        f->offset != m->give.piece)
        return; /* of before, or said twice */
    if (f->code != PEAL_OK) {
        enum peal_err err = f->code < PEAL_ERR_COUNT ? (enum peal_err)f->code : PEAL_EINTERNAL;
        give_abort(m, err, "the other router does not take it");
        return;
    }
    give_next(m);
}

void peal_mover_on_move(struct peal_mover *m, const struct peal_peer *peer,
                        const struct peal_frame *f)
{
    const struct peal_holdings *h = &m->cluster->holdings;
    if (f->slot >= PEAL_SLOTS || f->owner >= h->router_count) {
        answer(m, peer, f->req, 0, PEAL_EBAD_FIELD, "no such slot, or no such router in the list");
        return;
    }
    uint16_t slot = (uint16_t)f->slot;
    enum peal_holding holding = peal_holdings_of(h, slot);
    if (m->give.state != PEAL_GIVE_IDLE && m->give.slot == slot && m->give.to == f->owner) {
        m->give.peer = *peer; /* who asks again, or anew, gets the answer */
        m->give.req = f->req;
    } else if (h->slots[slot].owner == f->owner && holding != PEAL_HOLD_NOBODY) {
        answer(m, peer, f->req, slot, PEAL_OK, "");
    } else if (m->give.state != PEAL_GIVE_IDLE) {
        answer(m, peer, f->req, slot, PEAL_EAGAIN, "another slot is moving");
    } else if (holding != PEAL_HOLD_MINE) {
        answer(m, peer, f->req, slot,
               holding == PEAL_HOLD_ELSEWHERE ? PEAL_EFORBIDDEN : PEAL_EAGAIN,
               holding == PEAL_HOLD_ELSEWHERE ? "it is another router's"
                                              : "routers do not agree on whose it is");
    } else {
        memset(&m->give, 0, sizeof m->give);
        m->give.slot = slot;
        m->give.to = (uint16_t)f->owner;
        m->give.seq = m->cluster->boot + ++m->moves;
        m->give.peer = *peer;
        m->give.req = f->req;
        m->give.progress_ms = m->now_ms;
        peal_holdings_freeze(&m->cluster->holdings, slot, true);
        /* Behind all that was submitted for the slot so far, and its results come before. */
        give_read(m, (struct peal_span){0}, 0);
    }
}

void peal_mover_on_written(struct peal_mover *m)
{
    if (m->give.state != PEAL_GIVE_WRITING ||
        peal_holdings_of(&m->cluster->holdings, m->give.slot) != PEAL_HOLD_ELSEWHERE)
        return;
    uint16_t slot = m->give.slot;
    m->io.forget(m->io.ctx, slot);
    struct peal_store_op *op =
        new_op(m, PEAL_STORE_DROP, slot, (struct peal_span){0}, (struct peal_span){0});
    /* Without it the records stay, in nobody's way. */
    if (op != NULL) m->io.submit(m->io.ctx, op);
    give_end(m, PEAL_OK, "");
}

/* ---- taking ------------------------------------------------------------------------------- */

static void confirm(struct peal_mover *m, size_t to, uint64_t slot, uint64_t seq, uint64_t piece,
                    enum peal_err err)
{
    struct peal_frame copied = {.type = PEAL_F_COPIED,
                                .boot = m->cluster->boot,
                                .owner = m->cluster->holdings.self,
                                .slot = slot,
                                .seq = seq,
                                .offset = piece,
                                .code = err};
    if (tell(m, to, &copied) != PEAL_OK) /* the piece comes again */
        peal_log(PEAL_LOG_DEBUG, "slot.not_confirmed", "slot=%u", (unsigned)slot);
}

static void take_store(struct peal_mover *m, const struct peal_frame *f)
{
    struct peal_store_op *op =
        new_op(m, PEAL_STORE_IMPORT, m->take.slot, (struct peal_span){0}, f->envelope);
    if (op == NULL) {
        confirm(m, m->take.from, f->slot, f->seq, f->offset, PEAL_ENOMEM);
        return;
    }
    op->upto = f->offset;
    op->tag[0] = f->seq;
    m->take.busy = true;
    m->io.submit(m->io.ctx, op);
}

static void take_memory(struct peal_mover *m, const struct peal_frame *f)
{
    enum peal_err err = m->io.adopt(m->io.ctx, m->take.slot, f->envelope);
    if (err == PEAL_OK) m->take.next++;
    confirm(m, m->take.from, f->slot, f->seq, f->offset, err);
}

static void on_copy(struct peal_mover *m, const struct peal_frame *f)
{
    const struct peal_holdings *h = &m->cluster->holdings;
    if (f->slot >= PEAL_SLOTS || f->owner >= h->router_count || f->owner == h->self) return;
    /* What is served here, or was given away from here after that, is not replaced. */
    if (h->slots[f->slot].owner == h->self) {
        confirm(m, f->owner, f->slot, f->seq, f->offset, PEAL_EFORBIDDEN);
        return;
    }
    bool same = m->take.begun && m->take.seq == f->seq && m->take.from == f->owner;
    if (!same && f->offset == 0 && !m->take.busy) {
        m->take.begun = same = true;
        m->take.slot = (uint16_t)f->slot;
        m->take.from = (uint16_t)f->owner;
        m->take.seq = f->seq;
        m->take.next = 0;
        m->io.forget(m->io.ctx, m->take.slot);
    }
    if (!same || f->slot != m->take.slot || f->offset > m->take.next) {
        /* While another piece is at the store the first one is to come again. */
        if (!m->take.busy || same) confirm(m, f->owner, f->slot, f->seq, f->offset, PEAL_EAGAIN);
    } else if (f->offset < m->take.next) {
        confirm(m, f->owner, f->slot, f->seq, f->offset, PEAL_OK);
    } else if (!m->take.busy && (f->flags & PEAL_FLAG_STORED)) {
        take_store(m, f);
    } else if (!m->take.busy) {
        take_memory(m, f);
    }
}

static void take_done(struct peal_mover *m, const struct peal_store_op *op)
{
    m->take.busy = false;
    if (op->err == PEAL_OK) m->take.next++;
    confirm(m, m->take.from, m->take.slot, m->take.seq, op->upto, op->err);
}

/* ---- what comes in ------------------------------------------------------------------------ */

void peal_mover_on_frame(struct peal_mover *m, const struct peal_frame *f)
{
    if (f->type == PEAL_F_COPY)
        on_copy(m, f);
    else
        on_copied(m, f);
}

void peal_mover_on_done(struct peal_mover *m, struct peal_store_op *op)
{
    if (op->kind == PEAL_STORE_IMPORT) {
        take_done(m, op);
    } else if (op->kind == PEAL_STORE_EXPORT) {
        if (m->give.state == PEAL_GIVE_READING && op->tag[0] == m->give.seq) give_records(m, op);
    } else if (op->err != PEAL_OK) {
        peal_log(PEAL_LOG_WARN, "slot.not_dropped", "slot=%llu code=%s",
                 (unsigned long long)op->mark_flags, peal_err_word(op->err));
    }
}

void peal_mover_on_tick(struct peal_mover *m, uint64_t now_ms)
{
    m->now_ms = now_ms;
    if (m->give.state != PEAL_GIVE_COPYING) return; /* the store always answers */
    if (now_ms - m->give.progress_ms >= PEAL_MOVER_ABORT_MS)
        give_abort(m, PEAL_ETIMEOUT, "the other router does not answer");
    else if (now_ms - m->give.sent_ms >= PEAL_MOVER_AGAIN_MS)
        give_send_again(m);
}

/* ---- life --------------------------------------------------------------------------------- */

void peal_mover_init(struct peal_mover *m, const struct peal_mover_io *io,
                     struct peal_cluster *cluster)
{
    *m = (struct peal_mover){.io = *io, .cluster = cluster};
}

void peal_mover_fini(struct peal_mover *m)
{
    peal_bytes_unref(m->give.records);
    peal_bytes_unref(m->give.sent);
    pieces_fini(&m->give.live);
}

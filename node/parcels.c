#include "node/parcels.h"

#include "base/log.h"
#include "node/uplink_state.h"

enum { SEND_BYTES = 65536 }; /* what waits for a router is sent when it has so many */

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

enum peal_err peal_parcels_add(struct peal_uplink *up, size_t link, const struct peal_frame *frame)
{
    enum peal_err err = peal_parcel_add(&up->links[link].out, frame);
    flush_full(up, link);
    return err;
}

enum peal_err peal_parcels_add_bytes(struct peal_uplink *up, size_t link, struct peal_span frame)
{
    if (frame.size >= SEND_BYTES) {
        flush_link(up, link);
        return up->io.send(up->io.ctx, link, frame);
    }
    enum peal_err err = peal_parcel_add_bytes(&up->links[link].out, frame);
    flush_full(up, link);
    return err;
}

void peal_parcels_flush(struct peal_uplink *up)
{
    for (size_t i = 0; i < up->link_count; i++)
        flush_link(up, i);
}

void peal_parcels_add_repairs(struct peal_uplink *up, size_t link)
{
    struct peal_uplink_link *l = &up->links[link];
    struct peal_order *o;
    while ((o = peal_repairs_next(&l->repairs, up->now_ms)) != NULL) {
        enum peal_err err = l->up ? peal_parcels_add_bytes(up, link, o->frame) : PEAL_ENO_ROUTER;
        if (err != PEAL_OK) {
            peal_repairs_done(&l->repairs, o->req);
            peal_mails_add_failed(&up->mails, o->req, err);
        }
        peal_order_free(o);
    }
}

void peal_parcels_give_up_repairs(struct peal_uplink *up)
{
    for (size_t i = 0; i < up->link_count; i++) {
        uint64_t req;
        while ((req = peal_repairs_late(&up->links[i].repairs, up->now_ms)) != 0)
            peal_mails_add_failed(&up->mails, req, PEAL_ETIMEOUT);
        peal_parcels_add_repairs(up, i);
    }
}

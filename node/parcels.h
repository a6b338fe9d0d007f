/* node/parcels.h: what the bus has for each router.
 *
 * What a turn has for one router leaves as one message: a BATCH of frames, or the only frame as it
 * is. It leaves at the end of the turn, or as soon as it is large. When it cannot be sent, that
 * holds for each of its frames: a request fails, a sync is tried with the next beat, a join is
 * asked again, a leave or beat is forgotten.
 *
 * Pages that members want go the same way, no more at once than node/repairs.h says.
 *
 * Shape:  one open parcel per link. One encoded frame that would fill it alone is not copied, but
 *         sent at once, behind what waits before it.
 * Thread: the bus. Memory: the parcels of node/uplink_state.h. */
#ifndef PEAL_NODE_PARCELS_H
#define PEAL_NODE_PARCELS_H

#include "node/uplink.h"
#include "proto/wire.h"

/* Adds a frame. Errors: PEAL_ENOMEM. What goes wrong later is dealt with as said above. */
enum peal_err peal_parcels_add(struct peal_uplink *up, size_t link, const struct peal_frame *frame);
/* Adds an encoded frame. Errors: PEAL_ENOMEM, and PEAL_EQUEUE_FULL for a large one. */
enum peal_err peal_parcels_add_bytes(struct peal_uplink *up, size_t link, struct peal_span frame);
/* Adds the requests for pages that may be on their way to this router now. One that cannot be sent
 * fails. */
void peal_parcels_add_repairs(struct peal_uplink *up, size_t link);
/* Members whose page does not come ask again later, and the next ones are sent. */
void peal_parcels_give_up_repairs(struct peal_uplink *up);
/* Sends all that waits: at the end of a turn. */
void peal_parcels_flush(struct peal_uplink *up);

#endif

/* node/trust.h: whether what comes by a link can be believed to be all there is.
 *
 * A link proves itself: every batch carries the router's boot id and a link sequence, and a beat
 * comes every second. On a jump, a new boot id or silence the link is not trusted until a SYNC, in
 * which the node names every group it holds there; the router answers the true position of those
 * that differ. What differs without a loss is found by checks of a few slots with each beat. How
 * frames name groups is in node/sync.c, whose life is believed in node/lives.c.
 *
 * Thread: the bus. Memory: none of its own. Errors: what cannot be sent leaves the link untrusted,
 *         and is tried with the next beat.
 * Source: docs/ARCHITECTURE.md, "Links". */
#ifndef PEAL_NODE_TRUST_H
#define PEAL_NODE_TRUST_H

#include <stdbool.h>

#include "node/uplink.h"
#include "proto/wire.h"

/* A batch has come. False: it is late, and counts for nothing. With true the link may be one that
 * is not trusted any more; the caller syncs it behind what the batch says. */
bool peal_trust_hear(struct peal_uplink *up, size_t link, const struct peal_frame *batch);
/* Names every group held on this router; the router's table becomes exactly that. */
void peal_trust_sync(struct peal_uplink *up, size_t link);
/* The router has these slots otherwise: it gets them named. Of a group that it was asked for and
 * did not answer yet there is no position to say. */
void peal_trust_sync_slots(struct peal_uplink *up, size_t link, const uint64_t *slots,
                           size_t count);
/* SYNCED. Of another life than the one that was heard it confirms nothing. */
void peal_trust_on_synced(struct peal_uplink *up, size_t link, const struct peal_frame *synced);
/* RELINKED: a relay had lost the router and has it again, and with it perhaps something of ours.
 * This only saves the time until the next beat, which tells for sure: a link that is down waits for
 * that beat, and one whose sync is under way is being repaired already. */
void peal_trust_on_relinked(struct peal_uplink *up, size_t link, const struct peal_frame *relinked);
/* Says to the workers whether all links are trusted, if that has changed. */
void peal_trust_tell(struct peal_uplink *up);
/* Beats, silence, two lives, and the next slots: every PEAL_BEAT_MS. */
void peal_trust_check(struct peal_uplink *up);
/* Syncs again where nobody confirmed it. */
void peal_trust_retry(struct peal_uplink *up);

#endif

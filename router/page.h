/* router/page.h: a page of a group that is not durable, from its history.
 *
 * Covers the offsets after a position in order and without holes: each is in a MESSAGE, a SKIP
 * (its time to live is over) or a GAP (no longer there, or of another epoch).
 *
 * Thread: the shard's; no state. */
#ifndef PEAL_ROUTER_PAGE_H
#define PEAL_ROUTER_PAGE_H

#include "base/buf.h"
#include "proto/wire.h"
#include "router/table.h"

/* Appends the encoded PAGE that answers the FETCH `in`. out->failed when memory ran out before the
 * first message; later, the page ends there. */
void peal_page_of_history(const struct peal_group_entry *group, const struct peal_frame *in,
                          uint64_t wall_ms, struct peal_buf *out);

#endif

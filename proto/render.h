/* proto/render.h: JSON of messages and positions, as browsers and backends are shown them.
 *
 * Appends with the name and punctuation in front of each value in one literal, such as
 * `,"offset":`: what comes out is read in the code as it is on the wire.
 *
 * Thread: any; no state. A lack of memory is remembered by the buffer. */
#ifndef PEAL_PROTO_RENDER_H
#define PEAL_PROTO_RENDER_H

#include <stdint.h>

#include "base/buf.h"
#include "proto/msg.h"
#include "proto/wire.h"

void peal_render_u64(struct peal_buf *out, const char *name, uint64_t number);
/* Nothing at all for an absent span. */
void peal_render_string(struct peal_buf *out, const char *name, struct peal_span text);
void peal_render_epoch(struct peal_buf *out, const char *name, uint64_t epoch);
/* The fields of a message from `"offset"` on, without braces: data as the value it is, or as a
 * string with its `kind`. */
void peal_render_message(struct peal_buf *out, const struct peal_envelope *env);
/* The messages of a page as a JSON array, newest first, with `read` and `delivered`. Returns the
 * oldest offset, 0 when there are none. */
uint64_t peal_render_page(struct peal_buf *out, const struct peal_frame *page);

#endif

/* bench/event.h: what a frame of the server says, as far as the load generator wants to know.
 *
 * Raw and floor frames are payloads. Native frames are JSON objects that Peal writes in one way
 * only (docs/PROTOCOL.md, "From the server"), so they are searched for the few words that matter
 * and not parsed: parsing would cost more than all the rest of the client. */
#ifndef PEAL_BENCH_EVENT_H
#define PEAL_BENCH_EVENT_H

#include <stdint.h>

#include "base/span.h"
#include "bench/stamp.h"

enum peal_event_kind {
    PEAL_EVENT_STAMP,  /* a message of ours */
    PEAL_EVENT_JOINED, /* welcome, joined, or the floor's ok */
    PEAL_EVENT_GAP,
    PEAL_EVENT_SKIP,
    PEAL_EVENT_ERROR,
    PEAL_EVENT_OTHER,  /* native: something else that Peal may say */
    PEAL_EVENT_STRANGE /* nothing that is known */
};

struct peal_event {
    enum peal_event_kind kind;
    struct peal_stamp stamp;
    struct peal_span group; /* of a native message; as written, which is plain for our names */
    uint64_t missed;        /* gap: how many messages */
    uint32_t joined;        /* groups that are now joined */
};

void peal_event_read_native(struct peal_span frame, struct peal_event *out);
void peal_event_read_floor(struct peal_span frame, struct peal_event *out);
/* Raw has nothing but payloads. */
void peal_event_read_raw(struct peal_span frame, struct peal_event *out);

#endif

/* tests/unit/frame.h: looks into the WebSocket frames that go to clients. */
#ifndef PEAL_TESTS_FRAME_H
#define PEAL_TESTS_FRAME_H

#include "base/span.h"

/* The payload of the frame at `at`, which is one of ours: not masked, and whole. */
static inline struct peal_span frame_payload(const void *at)
{
    const unsigned char *f = at;
    size_t length_size = (f[1] & 127) < 126 ? 0 : (f[1] & 127) == 126 ? 2 : 8;
    size_t size = length_size == 0 ? f[1] & 127 : 0;
    for (size_t i = 0; i < length_size; i++)
        size = size << 8 | f[2 + i];
    return peal_span_make(f + 2 + length_size, size);
}

#endif

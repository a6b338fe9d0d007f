/* Frames of the bus and envelopes, as another process may send them. */
#include <stdlib.h>

#include "base/assert.h"
#include "proto/envelope.h"
#include "proto/value.h"
#include "proto/wire.h"

static void check_frame(struct peal_span bytes)
{
    struct peal_frame frame;
    struct peal_frame again;
    struct peal_buf first = {0};
    struct peal_buf second = {0};
    if (peal_frame_decode(bytes, &frame) != PEAL_OK) return;
    /* What is accepted is well-formed msgpack, and encoding and decoding it changes nothing. */
    PEAL_ASSERT(peal_wire_check(bytes) == PEAL_OK);
    PEAL_ASSERT(frame.group.size <= PEAL_NAME_MAX);
    PEAL_ASSERT(frame.positions.count <= bytes.size);
    peal_frame_encode(&frame, &first);
    PEAL_ASSERT(peal_frame_decode(peal_buf_span(&first), &again) == PEAL_OK);
    peal_frame_encode(&again, &second);
    PEAL_ASSERT(peal_span_equal(peal_buf_span(&first), peal_buf_span(&second)));
    peal_frame_fini(&again);
    peal_frame_fini(&frame);
    peal_buf_fini(&first);
    peal_buf_fini(&second);
}

/* What is peeked at is what is decoded. */
static void check_peek(struct peal_span bytes, const struct peal_envelope *env)
{
    struct peal_frame message = {.type = PEAL_F_MESSAGE, .envelope = bytes};
    struct peal_message_head head;
    struct peal_buf out = {0};
    peal_frame_encode(&message, &out);
    PEAL_ASSERT(peal_message_peek(peal_buf_span(&out), &head) == PEAL_OK);
    PEAL_ASSERT(peal_span_equal(head.group, env->group));
    PEAL_ASSERT(head.epoch == env->epoch);
    PEAL_ASSERT(head.offset == env->offset);
    peal_buf_fini(&out);
}

static void check_envelope(struct peal_span bytes)
{
    struct peal_envelope env;
    struct peal_envelope again;
    struct peal_buf out = {0};
    if (peal_envelope_decode(bytes, &env) != PEAL_OK) return;
    check_peek(bytes, &env);
    PEAL_ASSERT(env.group.size >= 1);
    PEAL_ASSERT(env.group.size <= PEAL_NAME_MAX);
    PEAL_ASSERT(env.data_kind < PEAL_DATA_KIND_COUNT);
    peal_envelope_encode(&env, &out);
    PEAL_ASSERT(peal_envelope_decode(peal_buf_span(&out), &again) == PEAL_OK);
    PEAL_ASSERT(peal_span_equal(env.data, again.data));
    PEAL_ASSERT(peal_span_equal(env.id, again.id));
    PEAL_ASSERT(env.offset == again.offset);
    peal_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct peal_span bytes = peal_span_make(data, size);
    check_frame(bytes);
    check_envelope(bytes);
    struct peal_message_head head;
    if (peal_message_peek(bytes, &head) == PEAL_OK) PEAL_ASSERT(head.group.size <= PEAL_NAME_MAX);
    return 0;
}

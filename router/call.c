#include "router/call.h"

#include <stdlib.h>

#include "base/assert.h"
#include "proto/door.h"
#include "proto/wire.h"

struct peal_call *peal_call_new(enum peal_call_kind kind, const struct peal_peer *peer,
                                uint64_t req, size_t count)
{
    struct peal_call *call = calloc(1, sizeof *call + count * sizeof call->results[0]);
    if (call == NULL) return NULL;
    call->kind = kind;
    if (peer != NULL) call->peer = *peer;
    call->req = req;
    call->count = count;
    call->remaining = count;
    return call;
}

void peal_call_free(struct peal_call *call)
{
    for (size_t i = 0; i < call->count; i++)
        peal_bytes_unref(call->results[i]);
    free(call);
}

static void encode_result(const struct peal_call *call, const struct peal_frame *receipt,
                          struct peal_buf *out)
{
    if (call->door)
        peal_door_encode_result(receipt, out);
    else
        peal_frame_encode(receipt, out);
}

void peal_call_keep(struct peal_call *call, size_t index, const struct peal_frame *receipt,
                    struct peal_buf *scratch)
{
    scratch->size = 0;
    encode_result(call, receipt, scratch);
    if (scratch->failed)
        peal_buf_fini(scratch);
    else
        call->results[index] = peal_bytes_new(scratch->at, scratch->size);
}

static void answer_door(const struct peal_call *call, struct peal_buf *out)
{
    static const struct peal_frame lost = {.type = PEAL_F_RECEIPT, .code = PEAL_ENOMEM};
    peal_door_encode_begin(call->req, call->count, out);
    for (size_t i = 0; i < call->count; i++) {
        if (call->results[i] == NULL)
            peal_door_encode_result(&lost, out);
        else
            peal_buf_add_span(out, peal_bytes_span(call->results[i]));
    }
}

static void answer_node(const struct peal_call *call, struct peal_buf *out)
{
    struct peal_frame frame = {.type = PEAL_F_PUBLISHED, .req = call->req};
    frame.entries.at = calloc(call->count + 1, sizeof *frame.entries.at);
    if (frame.entries.at == NULL) {
        out->failed = true;
        return;
    }
    frame.entries.count = call->count;
    for (size_t i = 0; i < call->count; i++)
        frame.entries.at[i] =
            call->results[i] == NULL ? peal_span_of("") : peal_bytes_span(call->results[i]);
    peal_frame_encode(&frame, out);
    free(frame.entries.at);
}

void peal_call_answer_one(const struct peal_call *call, const struct peal_frame *receipt,
                          struct peal_buf *out)
{
    PEAL_ASSERT(call->door);
    PEAL_ASSERT(call->count == 1);
    peal_door_encode_begin(call->req, 1, out);
    encode_result(call, receipt, out);
}

void peal_call_answer(const struct peal_call *call, struct peal_buf *out)
{
    if (call->door)
        answer_door(call, out);
    else
        answer_node(call, out);
}

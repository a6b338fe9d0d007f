#include "proto/msg.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "proto/wire.h"

enum peal_err peal_msg_new(struct peal_span encoded, struct peal_msg **out)
{
    *out = NULL;
    if (encoded.size >= UINT32_MAX) return PEAL_EBAD_MESSAGE;
    struct peal_msg *msg = malloc(sizeof *msg + encoded.size);
    if (msg == NULL) return PEAL_ENOMEM;
    atomic_init(&msg->refs, 1);
    msg->size = (uint32_t)encoded.size;
    memcpy(msg->bytes, encoded.at, encoded.size);
    /* Decoded from the copy, so that the envelope's spans live as long as the message. */
    enum peal_err err = peal_envelope_decode(peal_span_make(msg->bytes, msg->size), &msg->env);
    if (err != PEAL_OK) {
        free(msg);
        return err;
    }
    *out = msg;
    return PEAL_OK;
}

struct peal_msg *peal_msg_ref(struct peal_msg *msg)
{
    uint32_t before = atomic_fetch_add_explicit(&msg->refs, 1, memory_order_relaxed);
    PEAL_ASSERT(before > 0);
    return msg;
}

void peal_msg_unref(struct peal_msg *msg)
{
    if (msg == NULL) return;
    uint32_t before = atomic_fetch_sub_explicit(&msg->refs, 1, memory_order_acq_rel);
    PEAL_ASSERT(before > 0);
    if (before == 1) free(msg);
}

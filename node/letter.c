#include "node/letter.h"

#include <stdlib.h>

#include "base/assert.h"
#include "proto/envelope.h"

static struct peal_letter *letter_alloc(size_t size)
{
    struct peal_letter *letter = malloc(sizeof *letter + size);
    if (letter == NULL) return NULL;
    *letter = (struct peal_letter){.kind = PEAL_LETTER_FRAME, .size = size};
    atomic_init(&letter->refs, 1);
    return letter;
}

enum peal_err peal_letter_read(struct peal_letter *letter, struct peal_span frame)
{
    letter->kind = PEAL_LETTER_FRAME;
    enum peal_err err = peal_frame_decode(frame, &letter->frame);
    if (err != PEAL_OK || letter->frame.type != PEAL_F_MESSAGE) return err;
    return peal_envelope_decode(letter->frame.envelope, &letter->env);
}

enum peal_err peal_letter_new(struct peal_span frame, struct peal_letter **out)
{
    *out = NULL;
    struct peal_letter *letter = letter_alloc(frame.size);
    if (letter == NULL) return PEAL_ENOMEM;
    char *copy = (char *)(letter + 1);
    memcpy(copy, frame.at, frame.size);
    /* Decoded from the copy, so that the spans live as long as the letter. */
    enum peal_err err = peal_letter_read(letter, peal_span_make(copy, frame.size));
    if (err != PEAL_OK) {
        peal_letter_unref(letter);
        return err;
    }
    *out = letter;
    return PEAL_OK;
}

struct peal_letter *peal_letter_note(enum peal_letter_kind kind, bool degraded)
{
    struct peal_letter *letter = letter_alloc(0);
    if (letter == NULL) return NULL;
    letter->kind = kind;
    letter->degraded = degraded;
    return letter;
}

struct peal_letter *peal_letter_failed(uint64_t req, enum peal_err err)
{
    struct peal_letter *letter = letter_alloc(0);
    if (letter == NULL) return NULL;
    letter->frame = (struct peal_frame){.type = PEAL_F_MARKED, .req = req, .code = err};
    return letter;
}

struct peal_letter *peal_letter_ref(struct peal_letter *letter)
{
    uint32_t before = atomic_fetch_add_explicit(&letter->refs, 1, memory_order_relaxed);
    PEAL_ASSERT(before > 0);
    return letter;
}

void peal_letter_unref(struct peal_letter *letter)
{
    if (letter == NULL) return;
    uint32_t before = atomic_fetch_sub_explicit(&letter->refs, 1, memory_order_acq_rel);
    PEAL_ASSERT(before > 0);
    if (before > 1) return;
    peal_frame_fini(&letter->frame);
    free(letter);
}

struct peal_order *peal_order_new(enum peal_order_kind kind, uint8_t worker, uint64_t req,
                                  struct peal_span group, struct peal_span frame)
{
    struct peal_order *order = malloc(sizeof *order + group.size + frame.size);
    if (order == NULL) return NULL;
    *order = (struct peal_order){.kind = kind, .worker = worker, .req = req};
    peal_link_init(&order->in_line);
    if (group.size > 0) memcpy(order->storage, group.at, group.size);
    order->group = peal_span_make(order->storage, group.size);
    if (frame.size > 0) memcpy(order->storage + group.size, frame.at, frame.size);
    order->frame = peal_span_make(order->storage + group.size, frame.size);
    return order;
}

void peal_order_free(struct peal_order *order)
{
    free(order);
}

/* The layout is that of any BATCH, [12, boot, seq, [bin, bin, ...]], with every number whose value
 * is not known before in its widest form: the head has one size, and so has what stands in front of
 * an entry. */
#include "proto/parcel.h"

#include "base/assert.h"

enum {
    HEAD = 2 + 9 + 9 + 5, /* array and type, two uint64, array32 */
    ENTRY_HEAD = 5,       /* bin32 */
    KEPT = 64 * 1024,     /* a larger buffer is given back */
};

static char *put(char *at, unsigned char format, uint64_t number, size_t size)
{
    *at++ = (char)format;
    while (size-- > 0)
        *at++ = (char)(number >> (8 * size));
    return at;
}

void peal_parcel_fini(struct peal_parcel *parcel)
{
    peal_buf_fini(&parcel->buf);
    parcel->count = 0;
}

void peal_parcel_clear(struct peal_parcel *parcel)
{
    if (parcel->buf.capacity > KEPT) peal_buf_fini(&parcel->buf);
    parcel->buf.size = 0;
    parcel->count = 0;
}

/* Room for what stands in front of the next entry, also of the first one. */
static enum peal_err begin_entry(struct peal_parcel *parcel, size_t *before)
{
    size_t head = parcel->count == 0 ? HEAD : 0;
    *before = parcel->buf.size;
    if (peal_buf_reserve(&parcel->buf, head + ENTRY_HEAD) == NULL) {
        parcel->buf.failed = false; /* what is in there stays good */
        return PEAL_ENOMEM;
    }
    parcel->buf.size += head + ENTRY_HEAD;
    return PEAL_OK;
}

static enum peal_err end_entry(struct peal_parcel *parcel, size_t before)
{
    size_t begin = before + (parcel->count == 0 ? HEAD : 0) + ENTRY_HEAD;
    size_t size = parcel->buf.size - begin;
    if (parcel->buf.failed || size > UINT32_MAX) {
        parcel->buf.failed = false;
        parcel->buf.size = before;
        return PEAL_ENOMEM;
    }
    put(parcel->buf.at + begin - ENTRY_HEAD, 0xc6, size, 4);
    parcel->count++;
    return PEAL_OK;
}

enum peal_err peal_parcel_add(struct peal_parcel *parcel, const struct peal_frame *entry)
{
    size_t before;
    if (begin_entry(parcel, &before) != PEAL_OK) return PEAL_ENOMEM;
    peal_frame_encode(entry, &parcel->buf);
    return end_entry(parcel, before);
}

enum peal_err peal_parcel_add_bytes(struct peal_parcel *parcel, struct peal_span entry)
{
    size_t before;
    if (begin_entry(parcel, &before) != PEAL_OK) return PEAL_ENOMEM;
    peal_buf_add_span(&parcel->buf, entry);
    return end_entry(parcel, before);
}

bool peal_parcel_next(const struct peal_parcel *parcel, size_t *at, struct peal_span *entry)
{
    if (*at == 0) *at = HEAD;
    if (*at >= parcel->buf.size) return false;
    const unsigned char *head = (const unsigned char *)parcel->buf.at + *at;
    PEAL_ASSERT(head[0] == 0xc6);
    size_t size = (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | head[4];
    *entry = peal_span_make(head + ENTRY_HEAD, size);
    *at += ENTRY_HEAD + size;
    PEAL_ASSERT(*at <= parcel->buf.size);
    return true;
}

struct peal_span peal_parcel_finish(struct peal_parcel *parcel, uint64_t boot, uint64_t seq)
{
    PEAL_ASSERT(parcel->count > 0);
    PEAL_ASSERT(parcel->buf.size > HEAD);
    _Static_assert(PEAL_F_BATCH < 0x80, "a type is one byte");
    char *at = parcel->buf.at;
    *at++ = (char)0x94;
    *at++ = (char)PEAL_F_BATCH;
    at = put(at, 0xcf, boot, 8);
    at = put(at, 0xcf, seq, 8);
    at = put(at, 0xdd, parcel->count, 4);
    PEAL_ASSERT(at == parcel->buf.at + HEAD);
    return peal_buf_span(&parcel->buf);
}

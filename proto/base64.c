#include "proto/base64.h"

#include <sodium.h>

void peal_base64_encode(struct peal_span bytes, struct peal_buf *out)
{
    size_t room = sodium_base64_encoded_len(bytes.size, sodium_base64_VARIANT_ORIGINAL);
    char *to = peal_buf_reserve(out, room); /* with a NUL that does not count */
    if (to == NULL) return;
    sodium_bin2base64(to, room, (const unsigned char *)bytes.at, bytes.size,
                      sodium_base64_VARIANT_ORIGINAL);
    out->size += room - 1;
}

enum peal_err peal_base64_decode(struct peal_span text, struct peal_buf *out)
{
    if (text.size == 0) return PEAL_OK;
    /* libsodium 1.0.18 takes bytes beyond ASCII for letters. */
    for (size_t i = 0; i < text.size; i++)
        if ((unsigned char)text.at[i] >= 0x80) return PEAL_EBAD_FIELD;
    size_t room = text.size / 4 * 3 + 3;
    char *to = peal_buf_reserve(out, room);
    if (to == NULL) return PEAL_ENOMEM;
    size_t size;
    /* With no place for the end of parsing, libsodium refuses whatever is left over. */
    if (sodium_base642bin((unsigned char *)to, room, text.at, text.size, NULL, &size, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0)
        return PEAL_EBAD_FIELD;
    out->size += size;
    return PEAL_OK;
}

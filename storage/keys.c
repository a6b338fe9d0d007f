#include "storage/keys.h"

#include <sodium.h>
#include <string.h>
#include <xxhash.h>

#include "base/assert.h"
#include "proto/group.h"

/* Offsets are numbers in JSON: below 2^53. */
#define OFFSET_MAX ((uint64_t)1 << 53)

static void put_u16(char *at, uint64_t number)
{
    at[0] = (char)(unsigned char)(number >> 8);
    at[1] = (char)(unsigned char)number;
}

static void put_u64(char *at, uint64_t number)
{
    uint64_t big = __builtin_bswap64(number);
    memcpy(at, &big, sizeof big);
}

static uint16_t get_u16(const char *at)
{
    return (uint16_t)((unsigned char)at[0] << 8 | (unsigned char)at[1]);
}

static uint64_t get_u64(const char *at)
{
    uint64_t big;
    memcpy(&big, at, sizeof big);
    return __builtin_bswap64(big);
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "put_u64 swaps");

/* ---- keys ------------------------------------------------------------------------------- */

size_t peal_key_head(char out[PEAL_KEY_HEAD_MAX], struct peal_span group)
{
    PEAL_ASSERT(group.size >= 1);
    PEAL_ASSERT(group.size <= PEAL_NAME_MAX);
    put_u16(out, peal_group_slot(group));
    memcpy(out + 2, group.at, group.size);
    return 2 + group.size;
}

enum peal_err peal_key_head_group(struct peal_span key, struct peal_span *group)
{
    if (key.size < 3 || key.size > PEAL_KEY_HEAD_MAX) return PEAL_ECORRUPT;
    struct peal_span name = {key.at + 2, key.size - 2};
    if (peal_name_check(name) != PEAL_OK) return PEAL_ECORRUPT;
    if (get_u16(key.at) != peal_group_slot(name)) return PEAL_ECORRUPT;
    *group = name;
    return PEAL_OK;
}

void peal_key_message(char out[PEAL_KEY_MESSAGE], uint16_t slot, uint64_t gid, uint64_t offset)
{
    put_u16(out, slot);
    put_u64(out + 2, gid);
    put_u64(out + 10, offset);
}

uint64_t peal_key_message_offset(struct peal_span key, uint16_t slot, uint64_t gid)
{
    if (key.size != PEAL_KEY_MESSAGE) return 0;
    if (get_u16(key.at) != slot || get_u64(key.at + 2) != gid) return 0;
    return get_u64(key.at + 10);
}

void peal_key_id(char out[PEAL_KEY_ID], struct peal_span group, struct peal_span id)
{
    PEAL_ASSERT(group.size <= PEAL_NAME_MAX);
    PEAL_ASSERT(id.size <= PEAL_MESSAGE_ID_MAX);
    /* Names hold no NUL, so no two pairs give the same text. */
    unsigned char text[PEAL_NAME_MAX + 1 + PEAL_MESSAGE_ID_MAX];
    memcpy(text, group.at, group.size);
    text[group.size] = 0;
    memcpy(text + group.size + 1, id.at, id.size);
    int rc = crypto_generichash((unsigned char *)out, PEAL_KEY_ID, text, group.size + 1 + id.size,
                                NULL, 0);
    PEAL_ASSERT(rc == 0);
}

void peal_key_id_time(char out[PEAL_KEY_ID_TIME], uint64_t stored_ms, const char id[PEAL_KEY_ID])
{
    put_u64(out, stored_ms);
    memcpy(out + 8, id, PEAL_KEY_ID);
}

enum peal_err peal_key_id_time_decode(struct peal_span key, uint64_t *stored_ms,
                                      struct peal_span *id)
{
    if (key.size != PEAL_KEY_ID_TIME) return PEAL_ECORRUPT;
    *stored_ms = get_u64(key.at);
    *id = (struct peal_span){key.at + 8, PEAL_KEY_ID};
    return PEAL_OK;
}

/* ---- records ---------------------------------------------------------------------------- */

static uint64_t checksum_of(struct peal_span key, const char *record, size_t size)
{
    return XXH3_64bits_withSeed(record + 8, size - 8, XXH3_64bits(key.at, key.size));
}

static bool sealed(struct peal_span key, struct peal_span record)
{
    return record.size >= 8 && get_u64(record.at) == checksum_of(key, record.at, record.size);
}

void peal_record_seal(struct peal_span key, char *record, size_t size)
{
    PEAL_ASSERT(size >= 8);
    put_u64(record, checksum_of(key, record, size));
}

void peal_number_encode(struct peal_span key, uint64_t number, char out[PEAL_RECORD_NUMBER])
{
    put_u64(out + 8, number);
    peal_record_seal(key, out, PEAL_RECORD_NUMBER);
}

enum peal_err peal_number_decode(struct peal_span key, struct peal_span record, uint64_t *number)
{
    if (record.size != PEAL_RECORD_NUMBER || !sealed(key, record)) return PEAL_ECORRUPT;
    *number = get_u64(record.at + 8);
    return PEAL_OK;
}

void peal_blob_encode(struct peal_span key, struct peal_span bytes, char *out)
{
    if (bytes.size > 0) memcpy(out + PEAL_RECORD_BLOB, bytes.at, bytes.size);
    peal_record_seal(key, out, PEAL_RECORD_BLOB + bytes.size);
}

enum peal_err peal_blob_decode(struct peal_span key, struct peal_span record,
                               struct peal_span *bytes)
{
    if (!sealed(key, record)) return PEAL_ECORRUPT;
    *bytes = peal_span_make(record.at + PEAL_RECORD_BLOB, record.size - PEAL_RECORD_BLOB);
    return PEAL_OK;
}

void peal_record_encode(struct peal_span key, const struct peal_record *record, char *out)
{
    out[8] = PEAL_RECORD_VERSION;
    out[9] = 0;
    put_u64(out + 10, record->stored_ms);
    put_u64(out + 18, record->expires_ms);
    memcpy(out + PEAL_RECORD_MESSAGE, record->envelope.at, record->envelope.size);
    peal_record_seal(key, out, PEAL_RECORD_MESSAGE + record->envelope.size);
}

enum peal_err peal_record_decode(struct peal_span key, struct peal_span bytes,
                                 struct peal_record *out)
{
    if (bytes.size <= PEAL_RECORD_MESSAGE || !sealed(key, bytes)) return PEAL_ECORRUPT;
    if (bytes.at[8] != PEAL_RECORD_VERSION) return PEAL_ECORRUPT;
    *out = (struct peal_record){
        .stored_ms = get_u64(bytes.at + 10),
        .expires_ms = get_u64(bytes.at + 18),
        .envelope = {bytes.at + PEAL_RECORD_MESSAGE, bytes.size - PEAL_RECORD_MESSAGE},
    };
    return PEAL_OK;
}

void peal_id_record_encode(struct peal_span key, const struct peal_id_record *record,
                           char out[PEAL_RECORD_ID])
{
    out[8] = PEAL_RECORD_VERSION;
    put_u64(out + 9, record->epoch);
    put_u64(out + 17, record->offset);
    put_u64(out + 25, record->stored_ms);
    peal_record_seal(key, out, PEAL_RECORD_ID);
}

enum peal_err peal_id_record_decode(struct peal_span key, struct peal_span bytes,
                                    struct peal_id_record *out)
{
    if (bytes.size != PEAL_RECORD_ID || !sealed(key, bytes)) return PEAL_ECORRUPT;
    if (bytes.at[8] != PEAL_RECORD_VERSION) return PEAL_ECORRUPT;
    *out = (struct peal_id_record){
        .epoch = get_u64(bytes.at + 9),
        .offset = get_u64(bytes.at + 17),
        .stored_ms = get_u64(bytes.at + 25),
    };
    return PEAL_OK;
}

/* ---- head ------------------------------------------------------------------------------- */

/* The numbers of a head in their order behind the two sizes. */
static const size_t head_fields[] = {
    offsetof(struct peal_inbox, gid),          offsetof(struct peal_inbox, epoch),
    offsetof(struct peal_inbox, next),         offsetof(struct peal_inbox, first),
    offsetof(struct peal_inbox, lost_to),      offsetof(struct peal_inbox, rev),
    offsetof(struct peal_inbox, last_mark_ms), offsetof(struct peal_inbox, bytes),
    offsetof(struct peal_inbox, kept),         offsetof(struct peal_inbox, oldest_ms),
    offsetof(struct peal_inbox, expires_ms),
};
enum { HEAD_FIELDS = sizeof head_fields / sizeof head_fields[0] };
_Static_assert(13 + 8 * HEAD_FIELDS == PEAL_RECORD_HEAD, "layout in keys.h");

static uint64_t *field_of(struct peal_inbox *inbox, size_t i)
{
    return (uint64_t *)(void *)((char *)inbox + head_fields[i]);
}

/* Words are stored lowest byte first, which is how they lie in memory here. */
static size_t bitmap_encode(const uint64_t words[PEAL_INBOX_WORDS], char *out)
{
    size_t count = PEAL_INBOX_WORDS;
    while (count > 0 && words[count - 1] == 0)
        count--;
    memcpy(out, words, count * 8);
    size_t size = count * 8;
    while (size > 0 && out[size - 1] == 0)
        size--;
    return size;
}

/* No bit may stand outside of [first, next). */
static bool bitmap_fits(const struct peal_inbox *inbox, const uint64_t words[PEAL_INBOX_WORDS])
{
    uint64_t base = inbox->first & ~(uint64_t)63;
    for (uint64_t w = 0; w < PEAL_INBOX_WORDS; w++) {
        uint64_t allowed = UINT64_MAX;
        uint64_t begin = base + w * 64;
        if (inbox->next <= begin) allowed = 0;
        if (inbox->next > begin && inbox->next - begin < 64)
            allowed = ((uint64_t)1 << (inbox->next - begin)) - 1;
        if (w == 0) allowed &= UINT64_MAX << (inbox->first % 64);
        if ((words[w] & ~allowed) != 0) return false;
    }
    return true;
}

static bool head_valid(const struct peal_inbox *inbox)
{
    if (inbox->gid == 0 || inbox->epoch == 0) return false;
    if (inbox->first == 0 || inbox->next >= OFFSET_MAX) return false;
    if (inbox->first > inbox->next || inbox->lost_to >= inbox->first) return false;
    if (inbox->next - inbox->first > PEAL_INBOX_MESSAGES_MAX) return false;
    if (inbox->kept > inbox->next - inbox->first) return false;
    if (inbox->kept == 0 && inbox->bytes != 0 && inbox->first == inbox->next) return false;
    if (!bitmap_fits(inbox, inbox->delivered)) return false;
    for (size_t w = 0; w < PEAL_INBOX_WORDS; w++) {
        if ((inbox->read[w] & ~inbox->delivered[w]) != 0) return false;
    }
    return true;
}

size_t peal_head_encode(struct peal_span key, const struct peal_inbox *inbox,
                        char out[PEAL_RECORD_HEAD_MAX])
{
    PEAL_ASSERT(head_valid(inbox));
    struct peal_inbox copy = *inbox;
    out[8] = PEAL_RECORD_VERSION;
    for (size_t i = 0; i < HEAD_FIELDS; i++)
        put_u64(out + 13 + 8 * i, *field_of(&copy, i));
    size_t delivered = bitmap_encode(inbox->delivered, out + PEAL_RECORD_HEAD);
    size_t read = bitmap_encode(inbox->read, out + PEAL_RECORD_HEAD + delivered);
    put_u16(out + 9, delivered);
    put_u16(out + 11, read);
    peal_record_seal(key, out, PEAL_RECORD_HEAD + delivered + read);
    return PEAL_RECORD_HEAD + delivered + read;
}

enum peal_err peal_head_decode(struct peal_span key, struct peal_span bytes, struct peal_inbox *out)
{
    if (bytes.size < PEAL_RECORD_HEAD || !sealed(key, bytes)) return PEAL_ECORRUPT;
    if (bytes.at[8] != PEAL_RECORD_VERSION) return PEAL_ECORRUPT;
    size_t delivered = get_u16(bytes.at + 9);
    size_t read = get_u16(bytes.at + 11);
    if (delivered > 8 * PEAL_INBOX_WORDS || read > 8 * PEAL_INBOX_WORDS) return PEAL_ECORRUPT;
    if (bytes.size != PEAL_RECORD_HEAD + delivered + read) return PEAL_ECORRUPT;

    *out = (struct peal_inbox){0};
    for (size_t i = 0; i < HEAD_FIELDS; i++)
        *field_of(out, i) = get_u64(bytes.at + 13 + 8 * i);
    memcpy(out->delivered, bytes.at + PEAL_RECORD_HEAD, delivered);
    memcpy(out->read, bytes.at + PEAL_RECORD_HEAD + delivered, read);
    /* Half of what may be encoded: a head that was read can always be written again. */
    if (out->next >= OFFSET_MAX / 2) return PEAL_ECORRUPT;
    return head_valid(out) ? PEAL_OK : PEAL_ECORRUPT;
}

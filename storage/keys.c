#include "storage/keys.h"

#include <sodium.h>
#include <stdlib.h>
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

/* ---- head ------------------------------------------------------------------------------- */

/* The numbers of a head are written in the order in which they are declared. */
enum {
    HEAD_WORDS_AT = 9,
    HEAD_NUMBERS_AT = 11,
    HEAD_NUMBERS = sizeof(struct peal_numbers) / sizeof(uint64_t),
};
_Static_assert(HEAD_NUMBERS_AT + 8 * HEAD_NUMBERS == PEAL_RECORD_HEAD, "layout in keys.h");

static bool numbers_valid(const struct peal_numbers *n)
{
    if (n->gid == 0 || n->epoch == 0) return false;
    if (n->first == 0 || n->next >= OFFSET_MAX) return false;
    if (n->first > n->next || n->lost_to >= n->first) return false;
    if (n->next - n->first > PEAL_INBOX_MESSAGES_MAX) return false;
    if (n->kept > n->next - n->first) return false;
    return n->first != n->next || n->bytes == 0;
}

/* Of the word whose lowest bit is the offset `begin`, the bits that lie in [first, next). */
static uint64_t window_bits(const struct peal_numbers *n, uint64_t begin)
{
    uint64_t bits = UINT64_MAX;
    if (n->next <= begin) return 0;
    if (n->next - begin < 64) bits = ((uint64_t)1 << (n->next - begin)) - 1;
    if (begin < n->first) bits &= UINT64_MAX << (n->first % 64);
    return bits;
}

/* No bit may stand outside of the window, and what is read is delivered. */
static bool marks_valid(const struct peal_numbers *n, const uint64_t *delivered,
                        const uint64_t *read, size_t word_count)
{
    uint64_t base = n->first & ~(uint64_t)63;
    if (word_count > PEAL_INBOX_WORDS) return false;
    for (size_t w = 0; w < word_count; w++) {
        if ((delivered[w] & ~window_bits(n, base + w * 64)) != 0) return false;
        if ((read[w] & ~delivered[w]) != 0) return false;
    }
    return true;
}

size_t peal_head_encode(struct peal_span key, const struct peal_inbox *inbox,
                        char out[PEAL_RECORD_HEAD_MAX])
{
    size_t count;
    const uint64_t *read = peal_inbox_read_words(inbox, &count);
    const uint64_t *delivered = peal_inbox_delivered_words(inbox, &count);
    PEAL_ASSERT(numbers_valid(&inbox->n));
    PEAL_ASSERT(marks_valid(&inbox->n, delivered, read, count));
    while (count > 0 && delivered[count - 1] == 0)
        count--;

    uint64_t numbers[HEAD_NUMBERS];
    memcpy(numbers, &inbox->n, sizeof numbers);
    out[8] = PEAL_RECORD_VERSION;
    put_u16(out + HEAD_WORDS_AT, count);
    for (size_t i = 0; i < HEAD_NUMBERS; i++)
        put_u64(out + HEAD_NUMBERS_AT + 8 * i, numbers[i]);
    /* Words are stored lowest byte first, which is how they lie in memory here. */
    if (count > 0) memcpy(out + PEAL_RECORD_HEAD, delivered, count * 8);
    if (count > 0) memcpy(out + PEAL_RECORD_HEAD + count * 8, read, count * 8);
    peal_record_seal(key, out, PEAL_RECORD_HEAD + 2 * 8 * count);
    return PEAL_RECORD_HEAD + 2 * 8 * count;
}

/* Puts the bitmaps of a record behind valid numbers. */
static enum peal_err marks_decode(const char *bytes, size_t count, struct peal_inbox *inbox)
{
    uint64_t words[2 * PEAL_INBOX_WORDS];
    memcpy(words, bytes, 2 * 8 * count);
    if (!marks_valid(&inbox->n, words, words + count, count)) return PEAL_ECORRUPT;
    if (count > 0 && words[count - 1] == 0) return PEAL_ECORRUPT; /* never written so */

    /* Only what the bits need, which is often less than the window. */
    struct peal_marks *marks = &inbox->marks;
    if (count > 1) {
        marks->words = malloc(2 * 8 * count);
        if (marks->words == NULL) return PEAL_ENOMEM;
        memcpy(marks->words, words, 2 * 8 * count);
        marks->room = (uint32_t)count;
    } else if (count == 1) {
        memcpy(marks->small, words, 2 * 8);
    }
    marks->word_count = (uint32_t)count;
    return PEAL_OK;
}

enum peal_err peal_head_decode(struct peal_span key, struct peal_span bytes, struct peal_inbox *out)
{
    if (bytes.size < PEAL_RECORD_HEAD || !sealed(key, bytes)) return PEAL_ECORRUPT;
    if (bytes.at[8] != PEAL_RECORD_VERSION) return PEAL_ECORRUPT;
    size_t count = get_u16(bytes.at + HEAD_WORDS_AT);
    if (count > PEAL_INBOX_WORDS) return PEAL_ECORRUPT;
    if (bytes.size != PEAL_RECORD_HEAD + 2 * 8 * count) return PEAL_ECORRUPT;

    uint64_t numbers[HEAD_NUMBERS];
    for (size_t i = 0; i < HEAD_NUMBERS; i++)
        numbers[i] = get_u64(bytes.at + HEAD_NUMBERS_AT + 8 * i);
    *out = (struct peal_inbox){0};
    memcpy(&out->n, numbers, sizeof numbers);
    /* Half of what may be encoded: a head that was read can always be written again. */
    if (!numbers_valid(&out->n) || out->n.next >= OFFSET_MAX / 2) return PEAL_ECORRUPT;
    return marks_decode(bytes.at + PEAL_RECORD_HEAD, count, out);
}

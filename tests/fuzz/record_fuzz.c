/* Records as a damaged disk might return them. Input: kind, key size, key, record. Kinds from
 * 0x80 on get a right checksum first, so that what is behind it is reached as well. A head that
 * is accepted must survive being worked with: nothing on disk may trip an assertion. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "proto/wire.h"
#include "storage/keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use_head(struct peal_span key, const struct peal_inbox *decoded)
{
    char bytes[PEAL_RECORD_HEAD_MAX];
    struct peal_inbox again;
    size_t size = peal_head_encode(key, decoded, bytes);
    enum peal_err err = peal_head_decode(key, peal_span_make(bytes, size), &again);
    PEAL_ASSERT(err == PEAL_OK);
    PEAL_ASSERT(memcmp(decoded, &again, sizeof again) == 0);

    struct peal_config_group policy = {
        .keep = {.messages = 10, .bytes = 1000, .age_ms = 1000, .settled_ms = 10}};
    uint64_t offsets[] = {again.first, again.next, again.next - 1};
    struct peal_mark mark = {.flags = PEAL_FLAG_ACK, .offsets = offsets, .offset_count = 3};
    peal_inbox_mark(&again, &policy, &mark, 5000);
    peal_inbox_due_ms(&again, &policy);
    while (again.first < again.next) {
        enum peal_gone gone = peal_inbox_judge(&again, &policy, again.oldest_ms, 0, 5000, 1, 100);
        uint64_t first = again.first;
        if (gone != PEAL_GONE_NOT) peal_inbox_remove(&again, first, 77, gone);
        if (again.first == first) peal_inbox_advance(&again, first + 1, 5000);
    }
    PEAL_ASSERT(peal_inbox_unread(&again) == 0);
    peal_inbox_add(&again, 10, 5000, 0);
    mark = (struct peal_mark){.flags = PEAL_FLAG_READ | PEAL_FLAG_ALL};
    peal_inbox_mark(&again, &policy, &mark, 6000);
    size = peal_head_encode(key, &again, bytes);
    PEAL_ASSERT(size >= PEAL_RECORD_HEAD);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    size_t key_size = data[1];
    if (size - 2 < key_size) return 0;
    struct peal_span key = {(const char *)data + 2, key_size};
    size_t record_size = size - 2 - key_size;
    char *record = malloc(record_size + 1);
    if (record == NULL) return 0;
    memcpy(record, data + 2 + key_size, record_size);
    if (data[0] & 0x80 && record_size >= 8) peal_record_seal(key, record, record_size);

    struct peal_span bytes = {record, record_size};
    struct peal_span span;
    struct peal_inbox inbox;
    struct peal_record message;
    struct peal_id_record id;
    uint64_t number;
    switch (data[0] & 7) {
    case 0:
        if (peal_head_decode(key, bytes, &inbox) == PEAL_OK) use_head(key, &inbox);
        break;
    case 1:
        if (peal_record_decode(key, bytes, &message) == PEAL_OK)
            PEAL_ASSERT(message.envelope.at + message.envelope.size == record + record_size);
        break;
    case 2:
        peal_id_record_decode(key, bytes, &id);
        break;
    case 3:
        peal_number_decode(key, bytes, &number);
        break;
    case 4:
        if (peal_key_head_group(key, &span) == PEAL_OK)
            PEAL_ASSERT(span.size >= 1 && span.size <= PEAL_NAME_MAX);
        break;
    case 5:
        if (peal_key_id_time_decode(key, &number, &span) == PEAL_OK)
            PEAL_ASSERT(span.size == PEAL_KEY_ID);
        break;
    default:
        peal_key_message_offset(key, 0, 1);
        break;
    }
    free(record);
    return 0;
}

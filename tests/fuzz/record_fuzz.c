/* Records as a damaged disk might return them. Input: kind, key size, key, record. Kinds from
 * 0x80 on get a right checksum first, so that what is behind it is reached as well. A head that
 * is accepted must survive being worked with: nothing on disk may trip an assertion. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "proto/wire.h"
#include "storage/keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use_head(struct peal_span key, struct peal_inbox *decoded)
{
    char bytes[PEAL_RECORD_HEAD_MAX];
    char same[PEAL_RECORD_HEAD_MAX];
    struct peal_inbox again;
    size_t size = peal_head_encode(key, decoded, bytes);
    enum peal_err err = peal_head_decode(key, peal_span_make(bytes, size), &again);
    if (err == PEAL_ENOMEM) return;
    PEAL_ASSERT(err == PEAL_OK);
    size_t same_size = peal_head_encode(key, &again, same);
    PEAL_ASSERT(same_size == size);
    PEAL_ASSERT(memcmp(bytes, same, size) == 0);
    PEAL_ASSERT(memcmp(&decoded->n, &again.n, sizeof again.n) == 0);

    struct peal_config_group policy = {
        .keep = {.messages = 10, .bytes = 1000, .age_ms = 1000, .settled_ms = 10}};
    uint64_t offsets[] = {again.n.first, again.n.next, again.n.next - 1};
    struct peal_mark mark = {.flags = PEAL_FLAG_ACK, .offsets = offsets, .offset_count = 3};
    if (peal_inbox_reserve(&again, again.n.next + 1) != PEAL_OK) goto out;
    peal_inbox_mark(&again, &policy, &mark, 5000);
    peal_inbox_due_ms(&again, &policy);
    while (again.n.first < again.n.next) {
        enum peal_gone gone = peal_inbox_judge(&again, &policy, again.n.oldest_ms, 0, 5000, 1, 100);
        uint64_t first = again.n.first;
        if (gone != PEAL_GONE_NOT) peal_inbox_remove(&again, first, 77, gone);
        if (again.n.first == first) peal_inbox_advance(&again, first + 1, 5000);
    }
    PEAL_ASSERT(peal_inbox_unread(&again) == 0);
    peal_inbox_add(&again, 10, 5000, 0);
    mark = (struct peal_mark){.flags = PEAL_FLAG_READ | PEAL_FLAG_ALL};
    peal_inbox_mark(&again, &policy, &mark, 6000);
    size = peal_head_encode(key, &again, bytes);
    PEAL_ASSERT(size >= PEAL_RECORD_HEAD);

out:
    peal_inbox_fini(&again);
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
    uint64_t number;
    switch (data[0] & 7) {
    case 0:
        if (peal_head_decode(key, bytes, &inbox) != PEAL_OK) break;
        use_head(key, &inbox);
        peal_inbox_fini(&inbox);
        break;
    case 1:
        if (peal_record_decode(key, bytes, &message) == PEAL_OK)
            PEAL_ASSERT(message.envelope.at + message.envelope.size == record + record_size);
        break;
    case 2:
        if (peal_blob_decode(key, bytes, &span) == PEAL_OK)
            PEAL_ASSERT(span.size + PEAL_RECORD_BLOB == record_size);
        break;
    case 3:
        peal_number_decode(key, bytes, &number);
        break;
    case 4:
        if (peal_key_head_group(key, &span) == PEAL_OK)
            PEAL_ASSERT(span.size >= 1 && span.size <= PEAL_NAME_MAX);
        break;
    default:
        peal_key_message_offset(key, 0, 1);
        break;
    }
    free(record);
    return 0;
}

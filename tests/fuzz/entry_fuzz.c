/* Records of the log as a damaged disk might return them. Input: records, each with a size of two
 * bytes in front, high byte first. The highest bit of a size gives its record a right checksum
 * first, so that what is behind it is reached as well. What is accepted must be encoded to the same
 * bytes again, and a head must survive it: nothing on disk may trip an assertion. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "proto/wire.h"
#include "storage/entry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SEALED = 0x8000 };

static void encode_again(struct peal_span key, struct peal_span record,
                         const struct peal_entry *entry)
{
    size_t size = peal_entry_size(entry);
    PEAL_ASSERT(size == record.size);
    char *again = malloc(size);
    if (again == NULL) return;
    PEAL_ASSERT(peal_entry_encode(key, entry, again) == size);
    PEAL_ASSERT(memcmp(again, record.at, size) == 0);
    free(again);
}

static void check_head(const struct peal_inbox *inbox)
{
    size_t count;
    const uint64_t *delivered = peal_inbox_delivered_words(inbox, &count);
    const uint64_t *read = peal_inbox_read_words(inbox, &count);
    PEAL_ASSERT(count <= PEAL_INBOX_WORDS);
    if (count > 0) PEAL_ASSERT(delivered[count - 1] != 0);
    for (size_t w = 0; w < count; w++)
        PEAL_ASSERT((read[w] & ~delivered[w]) == 0);
    PEAL_ASSERT(peal_inbox_unread(inbox) <= inbox->n.next - inbox->n.first);
}

static void apply(const struct peal_entry *entry, struct peal_inbox *inbox)
{
    struct peal_inbox before;
    bool applied;
    if (peal_inbox_copy(inbox, &before) != PEAL_OK) return;
    if (peal_entry_apply(entry, inbox, &applied) != PEAL_OK) abort();
    check_head(inbox);
    const struct peal_numbers *now = applied ? &entry->numbers : &before.n;
    PEAL_ASSERT(inbox->n.gid == now->gid && inbox->n.ver == now->ver);
    PEAL_ASSERT(inbox->n.first == now->first && inbox->n.next == now->next);
    PEAL_ASSERT(peal_entry_apply(entry, inbox, &applied) == PEAL_OK);
    PEAL_ASSERT(!applied);
    peal_inbox_fini(&before);
}

/* The head that came of it is worked with. */
static void use_head(struct peal_inbox *inbox)
{
    static const struct peal_config_group policy = {
        .keep = {.messages = 10, .bytes = 1000, .age_ms = 1000, .settled_ms = 10}};
    uint64_t offsets[] = {inbox->n.first, inbox->n.next, inbox->n.next - 1};
    struct peal_mark mark = {.flags = PEAL_FLAG_ACK, .offsets = offsets, .offset_count = 3};
    if (peal_inbox_reserve(inbox, inbox->n.next) != PEAL_OK) return;
    peal_inbox_mark(inbox, &policy, &mark, 5000);
    peal_inbox_due_ms(inbox, &policy);
    while (inbox->n.first < inbox->n.next) {
        uint64_t first = inbox->n.first;
        enum peal_gone gone = peal_inbox_judge(inbox, &policy, inbox->n.oldest_ms, 0, 5000, 1, 100);
        if (gone != PEAL_GONE_NOT) peal_inbox_remove(inbox, first, 77, gone);
        if (inbox->n.first == first) peal_inbox_advance(inbox, first + 1, 5000);
    }
    check_head(inbox);
    PEAL_ASSERT(inbox->marks.word_count == 0);
}

static void run_record(char *record, size_t size, bool sealed, struct peal_entry_room *room,
                       struct peal_inbox *inbox)
{
    char at[PEAL_KEY_ENTRY];
    struct peal_span key = {at, sizeof at};
    struct peal_entry entry;
    peal_key_entry(at, 1);
    if (sealed && size >= 8) peal_record_seal(key, record, size);
    struct peal_span bytes = {record, size};
    if (peal_entry_decode(key, bytes, room, &entry) != PEAL_OK) return;
    encode_again(key, bytes, &entry);
    if (entry.kind != PEAL_ENTRY_ID && entry.kind != PEAL_ENTRY_DROP) apply(&entry, inbox);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct peal_entry_room room = {0};
    struct peal_inbox inbox;
    peal_inbox_init(&inbox, 1);
    while (size >= 2) {
        unsigned front = (unsigned)data[0] << 8 | data[1];
        size_t record_size = front & ~(unsigned)SEALED;
        data += 2;
        size -= 2;
        if (record_size > size) record_size = size;
        char *record = malloc(record_size + 1);
        if (record == NULL) break;
        memcpy(record, data, record_size);
        run_record(record, record_size, (front & SEALED) != 0, &room, &inbox);
        free(record);
        data += record_size;
        size -= record_size;
    }
    use_head(&inbox);
    peal_inbox_fini(&inbox);
    peal_entry_room_fini(&room);
    return 0;
}

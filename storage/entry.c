#include "storage/entry.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "proto/group.h"

/* Offsets are numbers in JSON: below 2^53. */
#define OFFSET_MAX ((uint64_t)1 << 53)

enum {
    CHECKSUM = 8,
    LEB_MAX = 10, /* bytes of 64 bits, 7 in each */
};

/* ---- what a kind has -------------------------------------------------------------------- */

static bool has_group(enum peal_entry_kind kind)
{
    return kind != PEAL_ENTRY_ID && kind != PEAL_ENTRY_DROP;
}

static bool has_message(enum peal_entry_kind kind)
{
    return kind == PEAL_ENTRY_PUT || kind == PEAL_ENTRY_MESSAGE;
}

static bool has_holes(enum peal_entry_kind kind)
{
    return kind == PEAL_ENTRY_PUT || kind == PEAL_ENTRY_MARK || kind == PEAL_ENTRY_TRIM;
}

/* The numbers in their order on the disk. */
static const size_t number_fields[] = {
    offsetof(struct peal_numbers, gid),        offsetof(struct peal_numbers, epoch),
    offsetof(struct peal_numbers, ver),        offsetof(struct peal_numbers, next),
    offsetof(struct peal_numbers, first),      offsetof(struct peal_numbers, lost_to),
    offsetof(struct peal_numbers, rev),        offsetof(struct peal_numbers, last_mark_ms),
    offsetof(struct peal_numbers, bytes),      offsetof(struct peal_numbers, kept),
    offsetof(struct peal_numbers, oldest_ms),  offsetof(struct peal_numbers, expires_ms),
    offsetof(struct peal_numbers, damage_seq),
};
enum { NUMBER_FIELDS = sizeof number_fields / sizeof number_fields[0] };
_Static_assert(NUMBER_FIELDS * sizeof(uint64_t) == sizeof(struct peal_numbers),
               "a number of the head is missing");

static uint64_t number_get(const struct peal_numbers *n, size_t i)
{
    return *(const uint64_t *)(const void *)((const char *)n + number_fields[i]);
}

static void number_set(struct peal_numbers *n, size_t i, uint64_t number)
{
    *(uint64_t *)(void *)((char *)n + number_fields[i]) = number;
}

static bool numbers_valid(const struct peal_numbers *n)
{
    if (n->gid == 0 || n->epoch == 0 || n->ver == 0) return false;
    if (n->first == 0 || n->next >= OFFSET_MAX) return false;
    if (n->first > n->next || n->lost_to >= n->first) return false;
    if (n->next - n->first > PEAL_INBOX_MESSAGES_MAX) return false;
    return n->kept <= n->next - n->first;
}

/* No bit may stand outside of [first, next), and read implies delivered. */
static bool words_valid(const struct peal_entry *entry)
{
    const struct peal_numbers *n = &entry->numbers;
    uint64_t begin = n->first & ~(uint64_t)63;
    if (entry->word_count > PEAL_INBOX_WORDS) return false;
    for (size_t w = 0; w < entry->word_count; w++, begin += 64) {
        uint64_t allowed = UINT64_MAX;
        if (n->next <= begin) allowed = 0;
        if (n->next > begin && n->next - begin < 64)
            allowed = ((uint64_t)1 << (n->next - begin)) - 1;
        if (w == 0) allowed &= UINT64_MAX << (n->first % 64);
        if ((entry->delivered[w] & ~allowed) != 0) return false;
        if ((entry->read_bits[w] & ~entry->delivered[w]) != 0) return false;
    }
    return true;
}

/* What a client named in a mark is not judged: outside of the window it means nothing. */
static bool entry_valid(const struct peal_entry *entry)
{
    if (entry->kind == PEAL_ENTRY_DROP) return entry->slot < PEAL_SLOTS;
    if (!has_group(entry->kind)) return true;
    if (peal_name_check(entry->group) != PEAL_OK) return false;
    if (!numbers_valid(&entry->numbers)) return false;
    if (has_message(entry->kind)) {
        if (entry->offset == 0 || entry->offset >= entry->numbers.next) return false;
        if (entry->envelope.size == 0) return false;
    }
    for (size_t i = 0; has_holes(entry->kind) && i < entry->hole_count; i++) {
        if (entry->holes[i] == 0 || entry->holes[i] >= entry->numbers.next) return false;
    }
    return entry->kind != PEAL_ENTRY_STATE || words_valid(entry);
}

/* ---- encoding --------------------------------------------------------------------------- */

/* Where bytes go; without `out` they are only counted. */
struct writer {
    char *out;
    size_t size;
};

static void write_byte(struct writer *w, uint64_t byte)
{
    if (w->out != NULL) w->out[w->size] = (char)(unsigned char)byte;
    w->size++;
}

static void write_bytes(struct writer *w, const void *at, size_t size)
{
    if (w->out != NULL && size > 0) memcpy(w->out + w->size, at, size);
    w->size += size;
}

static void write_number(struct writer *w, uint64_t number)
{
    for (; number >= 128; number >>= 7)
        write_byte(w, (number & 127) | 128);
    write_byte(w, number);
}

static void write_words(struct writer *w, const uint64_t *at, size_t count)
{
    for (size_t i = 0; i < count; i++)
        write_number(w, at[i]);
}

static void write_list(struct writer *w, const uint64_t *at, size_t count)
{
    write_number(w, count);
    write_words(w, at, count);
}

static void write_id(struct writer *w, const struct peal_entry *entry)
{
    write_number(w, entry->epoch);
    write_number(w, entry->offset);
    write_number(w, entry->stored_ms);
    write_bytes(w, entry->id, sizeof entry->id);
}

static void write_grouped(struct writer *w, const struct peal_entry *entry)
{
    for (size_t i = 0; i < NUMBER_FIELDS; i++)
        write_number(w, number_get(&entry->numbers, i));
    if (has_message(entry->kind)) {
        write_number(w, entry->offset);
        write_number(w, entry->stored_ms);
        write_number(w, entry->expires_ms);
    }
    if (entry->kind == PEAL_ENTRY_MARK) {
        write_number(w, entry->read ? 1 : 0);
        write_number(w, entry->upto);
        write_list(w, entry->offsets, entry->offset_count);
    }
    if (has_holes(entry->kind)) write_list(w, entry->holes, entry->hole_count);
    if (entry->kind == PEAL_ENTRY_STATE) {
        write_list(w, entry->delivered, entry->word_count);
        write_words(w, entry->read_bits, entry->word_count);
    }
    if (has_message(entry->kind)) write_bytes(w, entry->envelope.at, entry->envelope.size);
}

static void write_entry(struct writer *w, const struct peal_entry *entry)
{
    size_t name_size = has_group(entry->kind) ? entry->group.size : 0;
    w->size = CHECKSUM;
    write_byte(w, PEAL_ENTRY_VERSION);
    write_byte(w, entry->kind);
    write_byte(w, name_size);
    write_bytes(w, entry->group.at, name_size);
    if (entry->kind == PEAL_ENTRY_ID)
        write_id(w, entry);
    else if (entry->kind == PEAL_ENTRY_DROP)
        write_number(w, entry->slot);
    else
        write_grouped(w, entry);
}

void peal_key_entry(char out[PEAL_KEY_ENTRY], uint64_t seq)
{
    for (int i = 0; i < PEAL_KEY_ENTRY; i++)
        out[i] = (char)(unsigned char)(seq >> (56 - 8 * i));
}

size_t peal_entry_size(const struct peal_entry *entry)
{
    struct writer w = {0};
    write_entry(&w, entry);
    return w.size;
}

size_t peal_entry_encode(struct peal_span key, const struct peal_entry *entry, char *out)
{
    PEAL_ASSERT(entry->kind >= PEAL_ENTRY_PUT && entry->kind < PEAL_ENTRY_KINDS);
    PEAL_ASSERT(entry_valid(entry));
    struct writer w = {.out = out};
    write_entry(&w, entry);
    peal_record_seal(key, out, w.size);
    return w.size;
}

/* ---- decoding --------------------------------------------------------------------------- */

/* What is left of a record; the first error stays. */
struct cursor {
    const char *at;
    size_t left;
    enum peal_err err;
    struct peal_entry_room *room;
    size_t used; /* of the room */
};

static uint64_t fail(struct cursor *c, enum peal_err err)
{
    if (c->err == PEAL_OK) c->err = err;
    c->left = 0;
    return 0;
}

static struct peal_span read_bytes(struct cursor *c, size_t size)
{
    struct peal_span bytes = {c->at, size};
    if (size > c->left) {
        fail(c, PEAL_ECORRUPT);
        return (struct peal_span){0};
    }
    c->at += size;
    c->left -= size;
    return bytes;
}

static uint64_t read_byte(struct cursor *c)
{
    struct peal_span byte = read_bytes(c, 1);
    return byte.size == 1 ? (unsigned char)byte.at[0] : 0;
}

/* One way only to write each number: no zeros at the end, nothing above 64 bits. */
static uint64_t read_number(struct cursor *c)
{
    uint64_t number = 0;
    for (int i = 0; i < LEB_MAX; i++) {
        uint64_t byte = read_byte(c);
        if (i == LEB_MAX - 1 && byte > 1) return fail(c, PEAL_ECORRUPT);
        number |= (byte & 127) << (7 * i);
        if (byte >= 128) continue;
        return byte == 0 && i > 0 ? fail(c, PEAL_ECORRUPT) : number;
    }
    return fail(c, PEAL_ECORRUPT);
}

static uint64_t read_number_below(struct cursor *c, uint64_t end)
{
    uint64_t number = read_number(c);
    return number < end ? number : fail(c, PEAL_ECORRUPT);
}

static enum peal_err room_reserve(struct peal_entry_room *room, size_t count)
{
    if (count <= room->capacity) return PEAL_OK;
    uint64_t *at = realloc(room->at, count * sizeof *at);
    if (at == NULL) return PEAL_ENOMEM;
    room->at = at;
    room->capacity = count;
    return PEAL_OK;
}

/* Reads `count` numbers into the room; returns where they begin there, which is not their address
 * yet: the room may still move. */
static size_t read_words(struct cursor *c, size_t count)
{
    size_t begin = c->used;
    /* Each takes a byte at least, so a record of many megabytes has to be there for a large count.
     */
    if (count > c->left) fail(c, PEAL_ECORRUPT);
    if (c->err != PEAL_OK) return 0;
    enum peal_err err = room_reserve(c->room, c->used + count);
    if (err != PEAL_OK) {
        fail(c, err);
        return 0;
    }
    for (size_t i = 0; i < count; i++)
        c->room->at[c->used++] = read_number(c);
    return begin;
}

static size_t read_list(struct cursor *c, size_t *count)
{
    *count = (size_t)read_number(c);
    return read_words(c, *count);
}

static void read_id(struct cursor *c, struct peal_entry *out)
{
    out->epoch = read_number(c);
    out->offset = read_number(c);
    out->stored_ms = read_number(c);
    struct peal_span id = read_bytes(c, sizeof out->id);
    if (id.size == sizeof out->id) memcpy(out->id, id.at, sizeof out->id);
}

static void read_grouped(struct cursor *c, struct peal_entry *out)
{
    size_t offsets = 0;
    size_t holes = 0;
    size_t delivered = 0;
    size_t read_bits = 0;
    for (size_t i = 0; i < NUMBER_FIELDS; i++)
        number_set(&out->numbers, i, read_number(c));
    if (has_message(out->kind)) {
        out->epoch = out->numbers.epoch;
        out->offset = read_number(c);
        out->stored_ms = read_number(c);
        out->expires_ms = read_number(c);
    }
    if (out->kind == PEAL_ENTRY_MARK) {
        out->read = read_number_below(c, 2) == 1;
        out->upto = read_number(c);
        offsets = read_list(c, &out->offset_count);
    }
    if (has_holes(out->kind)) holes = read_list(c, &out->hole_count);
    if (out->kind == PEAL_ENTRY_STATE) {
        delivered = read_list(c, &out->word_count);
        read_bits = read_words(c, out->word_count);
    }
    if (has_message(out->kind)) out->envelope = read_bytes(c, c->left);
    if (c->err != PEAL_OK) return;
    if (out->offset_count > 0) out->offsets = c->room->at + offsets;
    if (out->hole_count > 0) out->holes = c->room->at + holes;
    if (out->word_count == 0) return;
    out->delivered = c->room->at + delivered;
    out->read_bits = c->room->at + read_bits;
}

enum peal_err peal_key_entry_seq(struct peal_span key, uint64_t *seq)
{
    if (key.size != PEAL_KEY_ENTRY) return PEAL_ECORRUPT;
    uint64_t number = 0;
    for (size_t i = 0; i < PEAL_KEY_ENTRY; i++)
        number = number << 8 | (unsigned char)key.at[i];
    *seq = number;
    return PEAL_OK;
}

enum peal_err peal_entry_decode(struct peal_span key, struct peal_span record,
                                struct peal_entry_room *room, struct peal_entry *out)
{
    struct peal_span bytes;
    enum peal_err err = peal_blob_decode(key, record, &bytes);
    if (err != PEAL_OK) return err;
    struct cursor c = {.at = bytes.at, .left = bytes.size, .room = room};
    struct peal_entry entry = {0};
    if (read_byte(&c) != PEAL_ENTRY_VERSION) return PEAL_ECORRUPT;
    uint64_t kind = read_byte(&c);
    if (kind == 0 || kind >= PEAL_ENTRY_KINDS) return PEAL_ECORRUPT;
    entry.kind = (enum peal_entry_kind)kind;
    size_t name_size = (size_t)read_byte(&c);
    if (name_size > 0 && !has_group(entry.kind)) return PEAL_ECORRUPT;
    if (name_size > 0) entry.group = read_bytes(&c, name_size);
    if (entry.kind == PEAL_ENTRY_ID)
        read_id(&c, &entry);
    else if (entry.kind == PEAL_ENTRY_DROP)
        entry.slot = (uint16_t)read_number_below(&c, PEAL_SLOTS);
    else
        read_grouped(&c, &entry);
    if (c.err != PEAL_OK) return c.err;
    if (c.left > 0 || !entry_valid(&entry)) return PEAL_ECORRUPT;
    *out = entry;
    return PEAL_OK;
}

void peal_entry_room_fini(struct peal_entry_room *room)
{
    free(room->at);
    *room = (struct peal_entry_room){0};
}

/* ---- applying --------------------------------------------------------------------------- */

/* A group that was dropped and made again has a higher number and begins with small versions. Who
 * did not hear of the drop must not take them for old ones. */
static bool is_known(const struct peal_numbers *known, const struct peal_numbers *n)
{
    if (known->gid != 0 && known->gid != n->gid) return n->gid < known->gid;
    return n->ver <= known->ver;
}

/* The offset behind the last one that gets a bit, as far as it can be told cheaply. */
static uint64_t bits_end(const struct peal_entry *entry)
{
    uint64_t next = entry->numbers.next;
    uint64_t last = 0;
    if (entry->kind == PEAL_ENTRY_STATE) return entry->word_count > 0 ? next : 0;
    if (entry->kind == PEAL_ENTRY_MARK) {
        last = entry->upto;
        for (size_t i = 0; i < entry->offset_count; i++) {
            if (entry->offsets[i] > last) last = entry->offsets[i];
        }
    }
    for (size_t i = 0; has_holes(entry->kind) && i < entry->hole_count; i++) {
        if (entry->holes[i] > last) last = entry->holes[i];
    }
    return last < next ? last + 1 : next;
}

static void apply_bits(const struct peal_entry *entry, struct peal_inbox *inbox)
{
    if (entry->kind == PEAL_ENTRY_MARK) {
        peal_inbox_set(inbox, entry->read, 0, entry->upto);
        for (size_t i = 0; i < entry->offset_count; i++)
            peal_inbox_set(inbox, entry->read, entry->offsets[i], entry->offsets[i]);
    }
    for (size_t i = 0; has_holes(entry->kind) && i < entry->hole_count; i++)
        peal_inbox_set(inbox, true, entry->holes[i], entry->holes[i]);
    if (entry->kind == PEAL_ENTRY_STATE)
        peal_inbox_set_words(inbox, entry->delivered, entry->read_bits, entry->word_count);
}

enum peal_err peal_entry_apply(const struct peal_entry *entry, struct peal_inbox *inbox,
                               bool *applied)
{
    PEAL_ASSERT(has_group(entry->kind));
    const struct peal_numbers *n = &entry->numbers;
    *applied = false;
    if (is_known(&inbox->n, n)) return PEAL_OK;

    /* Of a state nothing stays, and of another life of the group neither. */
    struct peal_inbox fresh;
    bool stays = entry->kind != PEAL_ENTRY_STATE && peal_inbox_continues(inbox, n);
    struct peal_inbox *to = stays ? inbox : &fresh;
    if (!stays) {
        peal_inbox_init(&fresh, n->epoch);
        peal_inbox_become(&fresh, n);
    }
    enum peal_err err = peal_inbox_reserve(to, bits_end(entry));
    if (err != PEAL_OK) return err;
    peal_inbox_become(to, n);
    apply_bits(entry, to);
    if (!stays) {
        peal_inbox_fini(inbox);
        *inbox = fresh;
    }
    *applied = true;
    return PEAL_OK;
}

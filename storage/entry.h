/* storage/entry.h: one record of the log: what happened to a group, and its head afterwards.
 *
 * A record says the outcome and not the wish (docs/decisions/0018): whoever applies all records of
 * a group in order, from any place on, gets the same head, and applying one a second time changes
 * nothing.
 *
 * | kind    | besides the numbers of the head                                       |
 * | ------- | --------------------------------------------------------------------- |
 * | PUT     | message (offset, times, envelope), holes                              |
 * | MARK    | bits to set: delivered or read too, up to an offset and single ones; holes |
 * | TRIM    | holes: retention removed messages, from the begin or the middle       |
 * | EPOCH   | nothing: the messages are those of a new epoch from now on; with another |
 * |         | gid: the head was lost, and is a new and empty one                    |
 * | STATE   | all bits: the head as it came from another store                      |
 * | MESSAGE | message; counted by the STATE before it                               |
 * | ID      | no group: an id of dedup that came from another store                 |
 * | DROP    | no group: all groups of a slot are forgotten                          |
 *
 * A hole is an offset inside of the window whose message was removed (storage/inbox.h).
 *
 * On the disk, key: sequence u64, big-endian. Value: checksum u64 (storage/keys.h), version u8,
 * kind u8, size of the group's name u8, the name, then numbers as LEB128 in the order of
 * struct peal_entry as far as the kind has them, lists with their count in front (the two bitmaps
 * have one count), the bytes of an id as they are, and the envelope as the rest. The epoch of a
 * message is that of the numbers.
 *
 * Thread: any; no state. Memory: a decoded entry borrows the record; its lists are in `room`.
 * Danger: the disk may have changed the bytes; decoding checks all of it. */
#ifndef PEAL_STORAGE_ENTRY_H
#define PEAL_STORAGE_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/span.h"
#include "storage/inbox.h"
#include "storage/keys.h"

enum peal_entry_kind {
    PEAL_ENTRY_PUT = 1,
    PEAL_ENTRY_MARK,
    PEAL_ENTRY_TRIM,
    PEAL_ENTRY_EPOCH,
    PEAL_ENTRY_STATE,
    PEAL_ENTRY_MESSAGE,
    PEAL_ENTRY_ID,
    PEAL_ENTRY_DROP,
    PEAL_ENTRY_KINDS
};

enum {
    PEAL_KEY_ENTRY = 8,
    PEAL_ENTRY_VERSION = 1,
    /* Bytes of a record without its lists and its envelope. */
    PEAL_ENTRY_FIXED_MAX = 8 + 3 + PEAL_NAME_MAX + 26 * 10,
};

struct peal_entry {
    enum peal_entry_kind kind;
    struct peal_span group;
    struct peal_numbers numbers; /* of the head afterwards */

    /* PUT, MESSAGE; ID: where the message is that had the id */
    uint64_t epoch;
    uint64_t offset;
    uint64_t stored_ms;
    uint64_t expires_ms; /* 0: no TTL */
    struct peal_span envelope;
    char id[PEAL_KEY_ID]; /* ID only; that of a PUT is in its envelope */

    /* MARK. Offsets outside of the window mean nothing, as in struct peal_mark. */
    bool read; /* the read mark too, not only delivered */
    uint64_t upto;
    const uint64_t *offsets;
    size_t offset_count;

    /* PUT, MARK, TRIM */
    const uint64_t *holes;
    size_t hole_count;

    /* STATE: words of the bitmaps from numbers.first & ~63 on */
    const uint64_t *delivered;
    const uint64_t *read_bits;
    size_t word_count;

    uint16_t slot; /* DROP */
};

/* The lists of a decoded entry. Zeroed is fine; may be used for one entry after the other. */
struct peal_entry_room {
    uint64_t *at;
    size_t capacity;
};

void peal_key_entry(char out[PEAL_KEY_ENTRY], uint64_t seq);
/* Errors: PEAL_ECORRUPT. */
enum peal_err peal_key_entry_seq(struct peal_span key, uint64_t *seq);

/* Bytes of the record, exactly; then encodes into `out`, which has room for them: returns the same.
 * An entry that decoding would refuse is an error of the program. */
size_t peal_entry_size(const struct peal_entry *entry);
size_t peal_entry_encode(struct peal_span key, const struct peal_entry *entry, char *out);
/* Errors: PEAL_ECORRUPT, PEAL_ENOMEM. The lists of *out are valid until room is used again. */
enum peal_err peal_entry_decode(struct peal_span key, struct peal_span record,
                                struct peal_entry_room *room, struct peal_entry *out);
void peal_entry_room_fini(struct peal_entry_room *room);

/* Brings the head to what the entry (of its group, with numbers) says. False when the head knew it
 * already: its version is not smaller, and nothing was changed. Versions are compared inside of one
 * gid: a higher one is a later life of the group, and all of it is new to a head of the one before.
 * Errors: PEAL_ENOMEM, and nothing was changed either. */
enum peal_err peal_entry_apply(const struct peal_entry *entry, struct peal_inbox *inbox,
                               bool *applied);

#endif

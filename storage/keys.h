/* storage/keys.h: the byte layout of keys and records in the database, and nothing else.
 *
 * Numbers are big-endian, so keys sort by number. Every value begins with `checksum`, the
 * xxh3_64 of all that follows it, seeded with the xxh3_64 of its key: a record that the
 * database returns under a wrong key fails it as well. LMDB has no checksums of its own.
 *
 * | file  | tree    | key                           | value behind checksum u64                   |
 * | ----- | ------- | ----------------------------- | ------------------------------------------- |
 * | log   | meta    | `layout generation owner`     | number u64                                  |
 * | log   | meta    | `moved damage`                | number u64                                  |
 * | log   | meta    | `slots`                       | bytes of the router (router/holdings.h)     |
 * | log   | meta    | `copy`                        | number u64                                  |
 * | log   | log     | sequence u64                  | see storage/entry.h                         |
 * | inbox | meta    | `layout generation gid`       | number u64                                  |
 * | inbox | head    | slot u16, group name          | version u8, words of each bitmap u16, the   |
 * |       |         |                               | fields of struct peal_numbers (u64 each, in |
 * |       |         |                               | their order), delivered, read               |
 * | inbox | message | slot u16, gid u64, offset u64 | version u8, flags u8, stored_ms u64,        |
 * |       |         |                               | expires_ms u64, encoded envelope            |
 *
 * `layout` is PEAL_LAYOUT; `generation` the epoch of new groups, the same in both files: they
 * belong together; `owner` the boot id of the process that may write; `moved` the sequence up to
 * which the log is in the inbox; `damage` that of the newest record that was found damaged before
 * it was there, 0: none; `copy` is there in a backup that was not opened yet, as the time in ms at
 * which it was made (storage/renew.h); `gid` the highest number of a group in the inbox. In a head
 * the bitmaps begin at offset `first & ~63`, lowest bit first, without the zero words at their end.
 * `flags` of a message is 0 and reserved.
 *
 * Thread: any; no state. Memory: decoding borrows the value.
 * Danger: decoders see bytes that a disk may have changed; they check all of it. */
#ifndef PEAL_STORAGE_KEYS_H
#define PEAL_STORAGE_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/span.h"
#include "storage/inbox.h"

enum {
    PEAL_LAYOUT = 2,
    PEAL_RECORD_VERSION = 2,
    PEAL_KEY_HEAD_MAX = 2 + PEAL_NAME_MAX,
    PEAL_KEY_MESSAGE = 18,
    PEAL_KEY_ID = 16,
    PEAL_RECORD_NUMBER = 16,
    PEAL_RECORD_BLOB = 8,                  /* bytes in front of it */
    PEAL_RECORD_MESSAGE = 26,              /* bytes in front of the envelope */
    PEAL_RECORD_HEAD = 8 + 1 + 2 + 13 * 8, /* bytes in front of the bitmaps */
    PEAL_RECORD_HEAD_MAX = PEAL_RECORD_HEAD + 2 * 8 * PEAL_INBOX_WORDS,
};

/* Keys are written to `out`; those of varying size return theirs. */
size_t peal_key_head(char out[PEAL_KEY_HEAD_MAX], struct peal_span group);
/* The group's name in a key of `head`. Errors: PEAL_ECORRUPT. */
enum peal_err peal_key_head_group(struct peal_span key, struct peal_span *group);
void peal_key_message(char out[PEAL_KEY_MESSAGE], uint16_t slot, uint64_t gid, uint64_t offset);
/* The offset when key is one of a message of (slot, gid), else 0. */
uint64_t peal_key_message_offset(struct peal_span key, uint16_t slot, uint64_t gid);
/* Not on the disk, but of the same kind: what the ids of dedup are known by. */
void peal_key_id(char out[PEAL_KEY_ID], struct peal_span group, struct peal_span id);
/* Writes the checksum over the first 8 bytes of a record whose other bytes are complete. */
void peal_record_seal(struct peal_span key, char *record, size_t size);

/* All decoders: PEAL_ECORRUPT when the size, the checksum or a value is wrong. */
void peal_number_encode(struct peal_span key, uint64_t number, char out[PEAL_RECORD_NUMBER]);
enum peal_err peal_number_decode(struct peal_span key, struct peal_span record, uint64_t *number);

/* `out` has room for PEAL_RECORD_BLOB and the bytes. */
void peal_blob_encode(struct peal_span key, struct peal_span bytes, char *out);
enum peal_err peal_blob_decode(struct peal_span key, struct peal_span record,
                               struct peal_span *bytes);

struct peal_record {
    uint64_t stored_ms;
    uint64_t expires_ms; /* 0 = no TTL */
    struct peal_span envelope;
};

/* `out` has room for PEAL_RECORD_MESSAGE and the envelope. */
void peal_record_encode(struct peal_span key, const struct peal_record *record, char *out);
enum peal_err peal_record_decode(struct peal_span key, struct peal_span bytes,
                                 struct peal_record *out);

/* Returns the size of the record. */
size_t peal_head_encode(struct peal_span key, const struct peal_inbox *inbox,
                        char out[PEAL_RECORD_HEAD_MAX]);
/* Also PEAL_ENOMEM. *out needs peal_inbox_fini. */
enum peal_err peal_head_decode(struct peal_span key, struct peal_span bytes,
                               struct peal_inbox *out);

#endif

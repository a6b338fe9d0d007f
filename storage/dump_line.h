/* storage/dump_line.h: the lines of a dump: JSON, one value each (docs/STORE.md).
 *
 * | line    | fields                                                                           |
 * | ------- | -------------------------------------------------------------------------------- |
 * | header  | peal_dump (version), generation, made_ms, slots in base64 (absent: none)          |
 * | group   | group, epoch, next, first, lost_to, rev, last_mark_ms, delivered, read            |
 * | message | offset, stored_ms, expires_ms, id, ts_ms, event, from, ttl_ms, collapse, trace,   |
 * |         | flags, kind, data                                                                |
 * | end     | end (true), groups, messages                                                     |
 *
 * Messages follow the group that they are of. Bytes that are no UTF-8 are in base64, in a field
 * whose name ends in _base64. Marks are ranges [from, to]. Fields that are 0 or empty are left out
 * in a message.
 *
 * Thread: any; no state. Memory: decoding takes the texts into a buffer of the caller's. */
#ifndef PEAL_STORAGE_DUMP_LINE_H
#define PEAL_STORAGE_DUMP_LINE_H

#include "base/buf.h"
#include "base/err.h"
#include "proto/msg.h"
#include "storage/inbox.h"

enum { PEAL_DUMP_VERSION = 1 };

enum peal_dump_kind { PEAL_DUMP_HEADER, PEAL_DUMP_GROUP, PEAL_DUMP_MESSAGE, PEAL_DUMP_END };

struct peal_dump_range {
    uint64_t from;
    uint64_t to;
};

struct peal_dump_line {
    enum peal_dump_kind kind;

    /* HEADER */
    uint64_t version;
    uint64_t generation;
    uint64_t made_ms;
    bool has_slots;
    struct peal_span slots;

    /* GROUP. Of the numbers: epoch, next, first, lost_to, rev, last_mark_ms. */
    struct peal_span group;
    struct peal_numbers numbers;
    const struct peal_dump_range *delivered;
    size_t delivered_count;
    const struct peal_dump_range *read;
    size_t read_count;

    /* MESSAGE. Of the envelope all but group and epoch. */
    uint64_t stored_ms;
    uint64_t expires_ms;
    struct peal_envelope env;

    /* END */
    uint64_t groups;
    uint64_t messages;
};

/* What a decoded line points at. Zeroed is fine; may be used for one line after the other. */
struct peal_dump_room {
    struct peal_buf texts;
    struct peal_buf ranges;
};
void peal_dump_room_fini(struct peal_dump_room *room);

/* Appends the line, with its end. Cannot fail but for memory (out->failed). */
void peal_dump_encode(const struct peal_dump_line *line, struct peal_buf *out);
/* The group line of a head. */
void peal_dump_encode_head(struct peal_span group, const struct peal_inbox *inbox,
                           struct peal_buf *out);
/* `text` without the end of the line. Errors: PEAL_EBAD_JSON, PEAL_EBAD_FIELD, PEAL_ENOMEM; why
 * says what is wrong. */
enum peal_err peal_dump_decode(struct peal_span text, struct peal_dump_room *room,
                               struct peal_dump_line *out, char *why, size_t why_size);

#endif

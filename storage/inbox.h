/* storage/inbox.h: the head of one group: its numbers, its marks and its retention.
 *
 * Pure logic over the head record; who calls it moves the message records. Messages are
 * numbered from 1 inside an epoch; [first, next) is the window of offsets that can still be
 * fetched. In it every offset has two bits, delivered and read. A message that is removed
 * from the middle of the window (by its TTL) leaves a hole that carries both bits, so that a
 * missing record without them means damage. Offsets outside of the window have no bits.
 *
 * Shape:  at most PEAL_INBOX_MESSAGES_MAX offsets in the window; kept <= next - first;
 *         kept == 0 exactly when first == next; lost_to < first; read implies delivered.
 * Thread: the owner of the struct. Memory: about 120 bytes, and the bitmaps behind it where a
 * window of more than 64 offsets has marks: peal_inbox_fini frees them. Source: docs/PROTOCOL.md,
 * section "Delivered, read, unread". */
#ifndef PEAL_STORAGE_INBOX_H
#define PEAL_STORAGE_INBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "base/err.h"
#include "base/limits.h"

enum {
    /* The bitmaps begin at a multiple of 64, hence one word more than the window has. */
    PEAL_INBOX_WORDS = PEAL_INBOX_MESSAGES_MAX / 64 + 1,
};

/* What of a head is a number. All of it is absolute: a record of the log that carries it makes it
 * true, whatever was known before. */
struct peal_numbers {
    uint64_t gid;          /* unique number of the group, never 0 once it has a record */
    uint64_t epoch;        /* not 0 */
    uint64_t ver;          /* +1 with every record of the log that concerns the group */
    uint64_t next;         /* offset of the next message */
    uint64_t first;        /* oldest offset that can still be fetched */
    uint64_t lost_to;      /* highest offset that was removed before it was settled; 0 = none */
    uint64_t rev;          /* +1 with every change of the marks or of unread */
    uint64_t last_mark_ms; /* when a mark changed last */
    uint64_t bytes;        /* of the envelopes kept */
    uint64_t kept;         /* messages kept */
    uint64_t oldest_ms;    /* when the message at `first` was stored; 0 when none is kept */
    uint64_t expires_ms;   /* no kept message expires by TTL before this; 0 = none ever does */
    uint64_t damage_seq;   /* newest damaged record of the log that the group knows of */
};

/* Delivered and read of the window, without the zero words at its end. Most heads have no bit, or
 * fit in one word, so nothing is allocated for them. */
struct peal_marks {
    uint32_t word_count; /* of each bitmap */
    uint32_t room;       /* 0: `small` is used, and word_count is at most 1 */
    union {
        uint64_t small[2]; /* delivered, read */
        uint64_t *words;   /* room of delivered, and behind them room of read */
    };
};

struct peal_inbox {
    struct peal_numbers n;
    struct peal_marks marks; /* bit 0 of word 0 is offset first & ~63 */
};

/* Why a message has to go. */
enum peal_gone {
    PEAL_GONE_NOT,
    PEAL_GONE_SETTLED,   /* seen by the user, and keep.settled has passed or room was needed */
    PEAL_GONE_EVICTED,   /* a limit of keep took it from a user who had not seen it */
    PEAL_GONE_AGED,      /* older than keep.age, and the user had not seen it */
    PEAL_GONE_EXPIRED,   /* its own TTL: by intent, nothing is lost */
    PEAL_GONE_COLLAPSED, /* a newer one with the same collapse key: likewise */
};

/* Makes an empty group without messages, of version 0 and without a number. */
void peal_inbox_init(struct peal_inbox *inbox, uint64_t epoch);
void peal_inbox_fini(struct peal_inbox *inbox); /* what was never marked needs none */
/* Makes a copy that is independent. Errors: PEAL_ENOMEM; *out then needs no fini. */
enum peal_err peal_inbox_copy(const struct peal_inbox *inbox, struct peal_inbox *out);
/* Room for the bits of every offset that the window may have after `next`, so that what sets bits
 * cannot fail. Errors: PEAL_ENOMEM. */
enum peal_err peal_inbox_reserve(struct peal_inbox *inbox, uint64_t next);
/* Both bitmaps, each of word_count words. */
const uint64_t *peal_inbox_delivered_words(const struct peal_inbox *inbox, size_t *word_count);
const uint64_t *peal_inbox_read_words(const struct peal_inbox *inbox, size_t *word_count);
/* Takes numbers that were written down, and moves the window to them: bits below n->first go, new
 * offsets have none. Numbers and bits that do not fit together are made to (the disk may have
 * lost a record between). Sets no bit, so it needs no room. */
void peal_inbox_become(struct peal_inbox *inbox, const struct peal_numbers *n);
/* Are these numbers of the same life of the group as the bits are? If not (another gid, a window
 * that went back), peal_inbox_become clears them all. Another epoch alone changes no bit. */
bool peal_inbox_continues(const struct peal_inbox *inbox, const struct peal_numbers *n);
/* In all that follows whatever sets bits needs room, see peal_inbox_reserve; at `first` there
 * always is.
 *
 * Sets both bits, or only delivered, of [from, to], as far as it lies in the window. */
void peal_inbox_set(struct peal_inbox *inbox, bool read, uint64_t from, uint64_t to);
/* Sets the bits of whole words, from offset first & ~63 on, as far as they lie in the window. */
void peal_inbox_set_words(struct peal_inbox *inbox, const uint64_t *delivered, const uint64_t *read,
                          size_t word_count);
/* Numbers a message of `bytes`; peal_inbox_fits must have said yes. expires_ms 0 = never. */
uint64_t peal_inbox_add(struct peal_inbox *inbox, uint64_t bytes, uint64_t now_ms,
                        uint64_t expires_ms);
/* Is there room for one more offset in the window? */
bool peal_inbox_fits(const struct peal_inbox *inbox);

struct peal_mark {
    uint64_t flags; /* PEAL_FLAG_ACK or PEAL_FLAG_READ, and PEAL_FLAG_ALL */
    uint64_t upto;
    const uint64_t *offsets;
    size_t offset_count;
};

/* Sets marks under policy; offsets outside of the window are ignored. Returns whether a bit
 * changed; rev has grown by 1 then, and nothing at all has changed otherwise. */
bool peal_inbox_mark(struct peal_inbox *inbox, const struct peal_config_group *policy,
                     const struct peal_mark *mark, uint64_t now_ms);

/* Bits of an offset; false outside of the window. */
bool peal_inbox_delivered(const struct peal_inbox *inbox, uint64_t offset);
bool peal_inbox_read(const struct peal_inbox *inbox, uint64_t offset);
bool peal_inbox_settled(const struct peal_inbox *inbox, const struct peal_config_group *policy,
                        uint64_t offset);
/* Kept messages without the read mark. */
uint64_t peal_inbox_unread(const struct peal_inbox *inbox);

/* Must the oldest message go now? `more` messages with more_bytes are about to be added. A
 * single message is kept even if it is larger than keep.bytes. */
enum peal_gone peal_inbox_judge(const struct peal_inbox *inbox,
                                const struct peal_config_group *policy, uint64_t stored_ms,
                                uint64_t expires_ms, uint64_t now_ms, uint64_t more,
                                uint64_t more_bytes);
/* Notes that the message at offset (in the window) with `bytes` was removed. */
void peal_inbox_remove(struct peal_inbox *inbox, uint64_t offset, uint64_t bytes,
                       enum peal_gone gone);
/* Moves the begin of the window to the oldest message that is left, which was stored at
 * oldest_ms; first = next when none is. Unsettled offsets that are passed are lost. */
void peal_inbox_advance(struct peal_inbox *inbox, uint64_t first, uint64_t oldest_ms);
/* The time from which retention has something to do; UINT64_MAX when never. */
uint64_t peal_inbox_due_ms(const struct peal_inbox *inbox, const struct peal_config_group *policy);

#endif

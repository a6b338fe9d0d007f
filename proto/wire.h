/* proto/wire.h: everything that crosses between processes as msgpack, one table.
 *
 * A frame is a msgpack array [type, field, field, ...]; which fields a type has, and in which
 * order, is said by one const table in wire.c that encoding, decoding, tests and fuzzing walk.
 * Trailing fields that a reader does not know are skipped and missing ones read as zero, so a
 * newer and an older process understand each other.
 *
 * Topic frames (router -> node, in order on the node's XPUB topic) travel as `entries` of a
 * BATCH; the others are single ZeroMQ messages between DEALER and ROUTER.
 *
 * Thread: any; no state. Memory: a decoded frame borrows the bytes it was decoded from, except
 * its lists, which peal_frame_fini frees.
 * Danger: input may come from anybody. Declared counts are checked against the bytes that are
 * left before msgpack-c sees them (docs/ARCHITECTURE.md, "Decoders"). */
#ifndef PEAL_PROTO_WIRE_H
#define PEAL_PROTO_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/span.h"
#include "proto/msg.h"

enum peal_frame_type {
    /* node -> router */
    PEAL_F_BEAT = 1, /* boot: the node lives */
    PEAL_F_JOIN,     /* req group: send me this group; answered by JOINED on the topic */
    PEAL_F_LEAVE,    /* group: no longer */
    PEAL_F_SYNC, /* seq flags positions: all my groups; FIRST and LAST page; answered by AT each */
    PEAL_F_PUBLISH, /* req entries(envelopes): answered by PUBLISHED */
    PEAL_F_FETCH,   /* req group epoch offset limit bytes flags: a PAGE after offset */
    PEAL_F_MARK,    /* req group flags upto offsets: ack or read; answered by MARKED if req */
    /* router -> node, ROUTER socket */
    PEAL_F_PUBLISHED, /* req entries(RECEIPT frames, in order) */
    PEAL_F_RECEIPT,   /* id group epoch offset flags code message after_ms: one result */
    PEAL_F_PAGE,      /* req group epoch offset(end) head first unread rev flags entries code */
    PEAL_F_MARKED,    /* req group unread rev code message after_ms */
    /* router -> node, topic */
    PEAL_F_BATCH,   /* boot seq entries: one link sequence per node; empty = beat */
    PEAL_F_MESSAGE, /* envelope flags unread rev: the last two of an inbox, after this message */
    PEAL_F_JOINED,  /* req group epoch offset first unread rev flags code message */
    PEAL_F_AT,      /* group epoch offset first unread rev: the true position, after a sync */
    PEAL_F_STATE,   /* group upto offsets unread rev flags: marks changed */
    /* inside a PAGE only */
    PEAL_F_SKIP, /* group from to: nothing there, by intent */
    PEAL_F_GAP,  /* group from to why: lost */
    /* router -> node, ROUTER socket; here because numbers never change */
    PEAL_F_SYNCED, /* seq boot: this router has taken the SYNC with this seq, to its last page */
    /* relay -> node, topic `all`; never inside a BATCH */
    PEAL_F_RELINKED, /* boot seq: the relay's seq-th connection to this router; only a hint */
    /* node -> router: who is there, in groups whose policy asks (router/presence.h) */
    PEAL_F_PRESENT, /* req group source flags from to limit people; answered by PRESENTED */
    PEAL_F_WHO,     /* req group offset limit: answered by PRESENCE */
    /* router -> node, topic */
    PEAL_F_PRESENTED, /* req group to code: EAGAIN: say all of it */
    PEAL_F_PRESENCE,  /* req group users connections offset flags people code message from to;
                         req 0: it has changed, from one event to the next */
    /* node -> router */
    PEAL_F_CHECK, /* from offsets(digests): what I hold in the slots from there on, proto/roll.h */
    PEAL_F_SYNC_SLOT, /* seq flags positions limit from: all I hold in one slot, as in SYNC */
    /* router -> node, ROUTER socket */
    PEAL_F_DIFFER, /* offsets(slots): of a CHECK, where my rows are others */
    /* router -> node, ROUTER socket or topic; also in place of a RECEIPT */
    PEAL_F_MOVED, /* req slot owner generation envelope(what was asked, unread): not my slot */
    /* router -> node on both ways, router -> router */
    PEAL_F_SLOTS, /* boot owner(the sender) offsets(runs of proto/slots.h): whose slots are whose */
    /* router -> router, PULL */
    PEAL_F_FORWARD, /* envelope: of the owner's slot; never forwarded again */
    /* operator -> router, and its answer */
    PEAL_F_MOVE,  /* req slot owner: give this slot of yours to that router */
    PEAL_F_GIVEN, /* req slot owner generation code message */
    /* router -> router (router/mover.h) */
    PEAL_F_COPY,   /* boot owner slot seq offset flags envelope: piece `offset` of move `seq` */
    PEAL_F_COPIED, /* boot owner slot seq offset code: that piece is here, and durable */
    /* inside a COPY only */
    PEAL_F_RECORDS, /* group from flags entries: of a store (storage/moving.h) */
    PEAL_FRAME_TYPES
};

enum {
    PEAL_FLAG_FIRST = 1,       /* SYNC: first page */
    PEAL_FLAG_LAST = 2,        /* SYNC: last page */
    PEAL_FLAG_UNACKED = 4,     /* FETCH: only what no device has acked */
    PEAL_FLAG_UNREAD = 8,      /* FETCH: only what is not read */
    PEAL_FLAG_REVERSE = 16,    /* FETCH: newest first, before `offset` (0 = from the newest) */
    PEAL_FLAG_ACK = 32,        /* MARK, STATE: delivered */
    PEAL_FLAG_READ = 64,       /* MARK, STATE: read; MESSAGE in a PAGE: was read */
    PEAL_FLAG_ALL = 128,       /* MARK: everything up to now */
    PEAL_FLAG_STORED = 256,    /* RECEIPT: committed, not only routed; COPY: of the store */
    PEAL_FLAG_DUPLICATE = 512, /* RECEIPT: seen before */
    PEAL_FLAG_MORE = 1024,     /* PAGE: REVERSE pages have older ones left */
    PEAL_FLAG_ACKED = 2048,    /* MESSAGE in a PAGE: some device acked it */
    PEAL_FLAG_KEEPS = 4096,    /* JOINED: the group keeps messages that can be fetched */
};

/* Of who is there. A PRESENT that says all of it has ALL, and FIRST and LAST as a SYNC has. */
enum {
    PEAL_FLAG_WATCH = 8192,      /* PRESENT: somebody there wants to hear of changes */
    PEAL_FLAG_SETTLING = 16384,  /* PRESENCE: the router has just started, some are missing */
    PEAL_FLAG_TRUNCATED = 32768, /* PRESENCE: people does not name everybody */
};

enum peal_gap_why {
    PEAL_GAP_EVICTED = 1,
    PEAL_GAP_EPOCH,
    PEAL_GAP_SLOW,
    PEAL_GAP_CORRUPT,
    PEAL_GAP_UNREPAIRED
};
const char *peal_gap_word(uint64_t why);

struct peal_position {
    struct peal_span group;
    uint64_t epoch;
    uint64_t offset;
};

/* Somebody in a group. PRESENT: a session that is there (count 1) or gone (0). PRESENCE with req: a
 * user and his connections. PRESENCE without: a user who came (1) or left (0). */
struct peal_person {
    struct peal_span user; /* absent: nobody */
    uint64_t session;
    uint64_t count;
};

struct peal_frame {
    enum peal_frame_type type;
    uint64_t req;  /* chosen by the node, handed back untouched; 0 = no answer wanted */
    uint64_t boot; /* of the sender */
    uint64_t seq;  /* link sequence */
    struct peal_span group;
    struct peal_span id;
    uint64_t epoch;
    uint64_t offset;
    uint64_t head;  /* newest offset */
    uint64_t first; /* oldest offset that can still be fetched; head + 1 when none */
    uint64_t from;
    uint64_t to;
    uint64_t upto;
    uint64_t limit; /* messages */
    uint64_t bytes;
    uint64_t unread;
    uint64_t rev;
    uint64_t why;      /* enum peal_gap_why */
    uint64_t code;     /* enum peal_err; 0 = it worked */
    uint64_t after_ms; /* with an error: try again after that; 0 = not known */
    uint64_t flags;
    uint64_t source; /* whose report: a number of the node's own choice */
    uint64_t users;
    uint64_t connections;
    uint64_t slot;
    uint64_t owner; /* number of a router */
    uint64_t generation;
    struct peal_span message;  /* sentence for an error */
    struct peal_span envelope; /* encoded */
    struct {
        struct peal_span *at;
        size_t count;
    } entries;
    struct {
        struct peal_position *at;
        size_t count;
    } positions;
    struct {
        uint64_t *at;
        size_t count;
    } offsets;
    struct {
        struct peal_person *at;
        size_t count;
    } people;
};

/* Appends the frame; fields that its type does not have are left out. Cannot fail but for
 * memory (out->failed). The lists are only read. */
void peal_frame_encode(const struct peal_frame *frame, struct peal_buf *out);
/* The same as shared bytes, by way of scratch, whose content is overwritten; NULL on ENOMEM. */
struct peal_bytes *peal_frame_bytes(const struct peal_frame *frame, struct peal_buf *scratch);
/* Decodes exactly one frame from all of bytes. Errors: PEAL_EBAD_MESSAGE (malformed, wrong type
 * of a field, name too long), PEAL_EUNKNOWN_TYPE, PEAL_ENOMEM; *out then needs no fini. */
enum peal_err peal_frame_decode(struct peal_span bytes, struct peal_frame *out);
void peal_frame_fini(struct peal_frame *frame);
/* Name of a type, for logs and docs; "?" outside the table. */
const char *peal_frame_name(enum peal_frame_type type);

/* The topic of what is for every node. */
#define PEAL_TOPIC_ALL "all"

/* XPUB topic and ZeroMQ routing id of a node: `n` and its boot id as 16 hex digits. */
enum { PEAL_TOPIC_SIZE = 17 };
void peal_topic_of(uint64_t boot, char out[PEAL_TOPIC_SIZE]);
/* Errors: PEAL_EBAD_FIELD when topic is not one of those. */
enum peal_err peal_topic_parse(struct peal_span topic, uint64_t *boot);

#endif

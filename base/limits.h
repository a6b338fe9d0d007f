/* base/limits.h: every numeric limit that is not a setting, with unit and reason.
 * Settings and their defaults are in base/config_table.c. */
#ifndef PEAL_BASE_LIMITS_H
#define PEAL_BASE_LIMITS_H

enum {
    PEAL_NAME_MAX = 200,      /* bytes of a group or user name; also keeps ZMTP topics safe */
    PEAL_MESSAGE_ID_MAX = 64, /* bytes of a publisher's message_id */
    PEAL_EVENT_MAX = 200,     /* bytes of an event name */
    PEAL_DEVICE_MAX = 64,     /* bytes of a device id */
    PEAL_COLLAPSE_MAX = 200,  /* bytes of a collapse key */
    PEAL_TOKEN_MAX = 8192,    /* bytes of a token; a JWT with many groups is 2 KiB */
    PEAL_SLOTS = 1024,        /* of the table that hashes groups onto routers */
    PEAL_PUBLISH_BYTES_MAX = 64 << 20, /* of data times targets in one publish call */
    PEAL_BATCH_MESSAGES = 1000,        /* objects in one publish call */
    PEAL_JSON_DEPTH = 32,              /* nesting of what clients and publishers send */
    PEAL_WIRE_DEPTH = 32,              /* nesting of msgpack; msgpack-c's own limit is the same */

    PEAL_HEAD_MAX = 8192,           /* bytes of a request head on the browser port */
    PEAL_HEADERS_MAX = 64,          /* header lines of a request */
    PEAL_FRAGMENTS_MAX = 64,        /* frames of one message */
    PEAL_FRAMES_PER_S = 5000,       /* from one connection; more closes it with 4129 */
    PEAL_HANDSHAKE_MS = 10000,      /* from accept to the end of the request head */
    PEAL_HELLO_MS = 10000,          /* from 101 to an accepted hello where a token is needed */
    PEAL_CONTINUATION_MS = 10000,   /* between the first and the last fragment */
    PEAL_CLOSE_MS = 3000,           /* from our Close frame to cutting the connection */
    PEAL_HALF_OPEN_MAX = 4096,      /* handshakes under way per worker */
    PEAL_HALF_OPEN_IP_MAX = 1024,   /* of them from one address */
    PEAL_WELCOME_MS = 2000,         /* welcome does not wait longer for a router */
    PEAL_REQUEST_MS = 5000,         /* a request to a router is answered or given up */
    PEAL_ACK_JOIN_MS = 50,          /* acks of one inbox wait this long to be joined */
    PEAL_BEAT_MS = 1000,            /* beats between node and router */
    PEAL_BEAT_LOST_MS = 3500,       /* silence after which the other side counts as gone */
    PEAL_UNACKED_MS = 4000,         /* after so long the kernel gives a TCP connection up */
    PEAL_CONNECT_MS = 1000,         /* an attempt to connect; the next one follows */
    PEAL_PAGE_MESSAGES = 256,       /* of one replay page */
    PEAL_PAGE_BYTES = 256 * 1024,   /* of one replay page; a single larger message still fits */
    PEAL_REPAIRS_MAX = 8,           /* replays in flight per worker, and per router of a node */
    PEAL_HELLO_GROUPS_MAX = 1024,   /* named by one hello, before limits.groups_per_connection */
    PEAL_ACK_OFFSETS_MAX = 1024,    /* single offsets in one ack */
    PEAL_WHO_MAX = 1000,            /* users in one answer that says who is there */
    PEAL_WHO_CLIENT_MAX = 256,      /* the same for a browser: 64 KiB of frame at most */
    PEAL_PRESENT_MAX = 1000,        /* sessions in one report of who is there */
    PEAL_WIRE_BYTES_MAX = 16 << 20, /* of one message on the bus */
    PEAL_INBOX_MESSAGES_MAX = 8192  /* kept per inbox: its bitmaps live in the head record */
};

#endif

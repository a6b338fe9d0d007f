/* base/config.h: the settings of one process.
 *
 * Order: defaults < file (strict YAML) < environment PEAL_SECTION__KEY < --set key=value.
 * Every setting is one line of the table in config_table.c (path, kind, unit, default, help);
 * parsing, print-config, the environment and --set all walk that table. An unknown key, a value
 * of the wrong kind and a number out of range are errors that name the file, line and key.
 *
 * Shape:  strings are NUL-terminated UTF-8, never NULL unless said; durations in ms; sizes in
 *         bytes; lists are (pointer, count).
 * Thread: main until threads start; read-only for everybody afterwards.
 * Memory: all of it belongs to the config; peal_config_free frees (and zeroes secrets). */
#ifndef PEAL_BASE_CONFIG_H
#define PEAL_BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum peal_identity { PEAL_IDENTITY_ANONYMOUS, PEAL_IDENTITY_URL, PEAL_IDENTITY_TOKEN };
enum peal_dialect_kind { PEAL_DIALECT_NATIVE, PEAL_DIALECT_RAW };
enum peal_inbound {
    PEAL_INBOUND_REFUSE,
    PEAL_INBOUND_IGNORE,
    PEAL_INBOUND_ECHO,
    PEAL_INBOUND_ECHO_JSON,
    PEAL_INBOUND_PUBLISH
};
enum peal_frame_shape { PEAL_FRAME_DATA };
enum peal_may { PEAL_MAY_ANYONE, PEAL_MAY_TOKEN, PEAL_MAY_SERVER, PEAL_MAY_MEMBERS };
enum peal_slow { PEAL_SLOW_CLOSE };
enum peal_until { PEAL_UNTIL_ACKED, PEAL_UNTIL_READ };
enum peal_presence_kind { PEAL_PRESENCE_OFF, PEAL_PRESENCE_USERS };

struct peal_strings {
    char **at;
    size_t count;
};

struct peal_config_route {
    char *path;               /* template, see docs/PROTOCOL.md; required */
    int dialect;              /* enum peal_dialect_kind; required */
    int identity;             /* enum peal_identity; default token */
    struct peal_strings join; /* group templates */
    int frame;                /* enum peal_frame_shape; default data */
    int inbound;              /* enum peal_inbound; default refuse; native ignores it */
    struct peal_strings origins;
    bool origins_set;     /* origins was given, perhaps as an empty list */
    uint64_t max_message; /* bytes; default: limits.message; at most 4 MiB */
    bool lenient;         /* a bad token means: no user */
    char *user_claim;     /* NULL: auth.user_claim */
};

struct peal_config_group {
    char *match; /* pattern with {captures} and a final *; required */
    bool durable;
    struct {
        uint64_t messages;   /* default 1000, 1..8192 */
        uint64_t bytes;      /* default 4 MiB */
        uint64_t age_ms;     /* default 7 d */
        int until;           /* enum peal_until; default acked */
        uint64_t settled_ms; /* default 1 h */
    } keep;
    struct {
        uint64_t messages; /* default 0: keeps nothing */
        uint64_t age_ms;   /* default 5 min */
    } history;
    int presence; /* enum peal_presence_kind; default off */
    int join;     /* enum peal_may: anyone | token | server; default token, dev: anyone */
    int publish;  /* enum peal_may: server | members | anyone; default server, dev: members */
    int slow;     /* enum peal_slow; default close */
};

struct peal_config_key {
    char *alg;         /* only HS256 now; required */
    char *secret;      /* NULL unless given */
    char *secret_file; /* NULL unless given; read at start into `secret` */
};

struct peal_config_router {
    char *pull;
    char *xpub;
    char *rpc;
    char *key; /* of cluster.routers: its public CURVE key in Z85; NULL: none. doors have none */
};

/* A relay, as nodes see it. */
struct peal_config_via {
    struct peal_strings xpub; /* an endpoint per router, in their order */
    char *key;                /* its public CURVE key in Z85; NULL: none */
};

struct peal_config {
    bool dev;         /* set by `peal dev` before loading: other defaults for routes and groups */
    char *listen;     /* host:port, [ipv6]:port; port 0 asks the kernel */
    bool io_uring;    /* may be used where the kernel allows it */
    uint64_t workers; /* 0 = one per core, at least two; at most 64 */
    char *data;
    struct {
        char *listen;
        struct peal_strings keys;
        struct peal_strings key_files;
    } api;
    struct {
        char *user_claim;   /* default sub */
        uint64_t leeway_ms; /* default 30 s, at most 60 s */
        char *issuer;       /* NULL: any */
        char *audience;     /* NULL: any */
        struct peal_config_key *keys;
        size_t key_count;
    } auth;
    struct peal_config_router doors; /* what a router binds */
    /* What a relay binds: an endpoint per router, in their order; empty: doors.xpub, for one. */
    struct peal_strings relay_doors;
    struct {
        char *key_file;   /* CURVE keys of this process, see base/curve.h; NULL: no CURVE */
        char *peers_file; /* who may connect to what it binds, see base/peers.h; NULL: none */
        bool insecure;    /* endpoints that others can reach need no CURVE */
    } bus;
    struct {
        char *self; /* index as text, or "auto": the number at the end of the host name */
        struct peal_config_router *routers;
        size_t router_count;
        struct peal_config_via *via; /* relays; none: nodes connect to the routers' xpub */
        size_t via_count;
    } cluster;
    bool default_routes;              /* default true: /v1/ws (and / in dev) come last */
    struct peal_config_route *routes; /* the default ones are appended by loading */
    size_t route_count;
    struct peal_config_group *groups; /* always ends with one that matches everything */
    size_t group_count;
    struct {
        uint64_t age_ms; /* default 10 min */
        uint64_t ids;    /* default 4,000,000 */
    } dedup;
    struct {
        uint64_t grace_ms;  /* default 5 s */
        uint64_t settle_ms; /* default 10 s */
    } presence;
    struct {
        uint64_t message;               /* bytes, default 64 KiB */
        uint64_t queue;                 /* bytes per connection, default 256 KiB */
        uint64_t queue_messages;        /* default 1024 */
        uint64_t unsent;                /* bytes; default 256 KiB */
        uint64_t history;               /* bytes of all rings of a router, default 256 MiB */
        uint64_t presence;              /* sessions of a router, default 1,000,000 */
        uint64_t users_per_publish;     /* default 10000 */
        uint64_t groups_per_connection; /* default 128 */
        uint64_t connections_per_user;  /* default 32 */
        uint64_t connections;           /* per worker, default 100000 */
        uint64_t body;                  /* bytes of an HTTP request, default 8 MiB */
        uint64_t ping_ms;               /* default 25 s */
        uint64_t pong_ms;               /* default 10 s */
    } limits;
    struct {
        uint64_t settle_ms; /* default 5 s, dev: 0 */
        uint64_t spread_ms; /* default 20 s, dev: 0 */
    } drain;
    struct {
        uint64_t max; /* bytes of the database map, default 16 GiB; address space only */
    } store;
    char *log_level; /* error | warn | info | debug; default info */
};

/* Where settings come from. Unused ones are NULL or empty. */
struct peal_config_sources {
    const char *path; /* YAML file, NULL for none */
    const char *text; /* YAML text instead of a file (tests, fuzzing), NULL for none */
    size_t text_size;
    char **environment;      /* environ; of PEAL_<SECTION>__<KEY> with an unknown key in a known
                              * section it complains, other variables are not its business */
    const char *const *sets; /* key=value, in order */
    size_t set_count;
    bool dev;
};

/* Loads, checks and completes a configuration.
 * Errors: PEAL_ECONFIG with one or more lines `file:line: key: what is wrong` in `problems`;
 * PEAL_EIO when a file cannot be read (also named in problems); PEAL_ENOMEM. *out is then NULL.
 * --set refuses secrets (they would show in ps): PEAL_ECONFIG. */
enum peal_err peal_config_load(const struct peal_config_sources *from, struct peal_config **out,
                               struct peal_buf *problems);
void peal_config_free(struct peal_config *config);
/* Appends the configuration as YAML that peal_config_load reads back; secrets as "***". */
void peal_config_print(const struct peal_config *config, struct peal_buf *out);

/* Splits host:port. Errors: PEAL_EBAD_FIELD. host gets at most host_size bytes with NUL. */
enum peal_err peal_config_endpoint(const char *text, char *host, size_t host_size, uint16_t *port);

#endif

/* The table of options, and the walking of it. What stands in one section stands together:
 * print-config and the lists of known keys follow the order of the table. */
#include "base/config_table.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/config_check.h"
#include "base/limits.h"

#define AT(field)     offsetof(struct peal_config, field)
#define ROUTE(field)  offsetof(struct peal_config_route, field)
#define GROUP(field)  offsetof(struct peal_config_group, field)
#define KEY(field)    offsetof(struct peal_config_key, field)
#define ROUTER(field) offsetof(struct peal_config_router, field)
#define VIA(field)    offsetof(struct peal_config_via, field)
#define LIST(at, number)                                                                           \
    AT(at), .count_offset = AT(number), .size = sizeof *((struct peal_config *)0)->at
#define KIB      ((uint64_t)1024)
#define MIB      (1024 * KIB)
#define GIB      (1024 * MIB)
#define TIB      (1024 * GIB)
#define SECOND   ((uint64_t)1000)
#define HOUR     (3600 * SECOND)
#define DAY      (24 * HOUR)
#define TEXT     PEAL_OPTION_TEXT
#define SECRET   PEAL_OPTION_SECRET
#define TEXTS    PEAL_OPTION_TEXTS
#define SECRETS  PEAL_OPTION_SECRETS
#define BOOL     PEAL_OPTION_BOOL
#define WORD     PEAL_OPTION_WORD
#define NUMBER   PEAL_OPTION_NUMBER
#define DURATION PEAL_OPTION_DURATION
#define SIZE     PEAL_OPTION_SIZE

enum { UNSUPPORTED = -1 };

static const struct peal_option_word alg_words[] = {
    {"HS256", 0},           {"HS384", UNSUPPORTED},
    {"HS512", UNSUPPORTED}, {"RS256", UNSUPPORTED},
    {"RS384", UNSUPPORTED}, {"RS512", UNSUPPORTED},
    {"PS256", UNSUPPORTED}, {"PS384", UNSUPPORTED},
    {"PS512", UNSUPPORTED}, {"ES256", UNSUPPORTED},
    {"ES384", UNSUPPORTED}, {"ES512", UNSUPPORTED},
    {"EdDSA", UNSUPPORTED}, {NULL, 0},
};
static const struct peal_option_word dialect_words[] = {
    {"native", PEAL_DIALECT_NATIVE},
    {"raw", PEAL_DIALECT_RAW},
    {"socketio", UNSUPPORTED},
    {"goeasy", UNSUPPORTED},
    {"sse", UNSUPPORTED},
    {"poll", UNSUPPORTED},
    {NULL, 0},
};
static const struct peal_option_word identity_words[] = {
    {"anonymous", PEAL_IDENTITY_ANONYMOUS},
    {"url", PEAL_IDENTITY_URL},
    {"token", PEAL_IDENTITY_TOKEN},
    {"hook", UNSUPPORTED},
    {NULL, 0},
};
static const struct peal_option_word frame_words[] = {
    {"data", PEAL_FRAME_DATA},
    {"drop_type", UNSUPPORTED},
    {NULL, 0},
};
static const struct peal_option_word inbound_words[] = {
    {"refuse", PEAL_INBOUND_REFUSE},
    {"ignore", PEAL_INBOUND_IGNORE},
    {"echo", PEAL_INBOUND_ECHO},
    {"echo_json", PEAL_INBOUND_ECHO_JSON},
    {"publish", PEAL_INBOUND_PUBLISH},
    {"pair", UNSUPPORTED},
    {"hook", UNSUPPORTED},
    {NULL, 0},
};
static const struct peal_option_word until_words[] = {
    {"acked", PEAL_UNTIL_ACKED},
    {"read", PEAL_UNTIL_READ},
    {NULL, 0},
};
static const struct peal_option_word presence_words[] = {
    {"off", PEAL_PRESENCE_OFF},
    {"users", PEAL_PRESENCE_USERS},
    {NULL, 0},
};
static const struct peal_option_word join_words[] = {
    {"anyone", PEAL_MAY_ANYONE},
    {"token", PEAL_MAY_TOKEN},
    {"server", PEAL_MAY_SERVER},
    {NULL, 0},
};
static const struct peal_option_word publish_words[] = {
    {"server", PEAL_MAY_SERVER},
    {"members", PEAL_MAY_MEMBERS},
    {"anyone", PEAL_MAY_ANYONE},
    {NULL, 0},
};
static const struct peal_option_word slow_words[] = {
    {"close", PEAL_SLOW_CLOSE},
    {"drop_oldest", UNSUPPORTED},
    {"collapse", UNSUPPORTED},
    {NULL, 0},
};
static const struct peal_option_word level_words[] = {
    {"error", 0}, {"warn", 0}, {"info", 0}, {"debug", 0}, {NULL, 0},
};

const struct peal_option peal_options[] = {
    {"listen", TEXT, AT(listen), .fallback = "127.0.0.1:8080", .check = peal_config_check_endpoint,
     .help = "Address of the browser port; port 0 asks the kernel for a free one"},
    {"workers", NUMBER, AT(workers), .fallback = "0", .max = 64,
     .help = "Threads that serve connections; 0 means one per core, at least two"},
    {"io_uring", BOOL, AT(io_uring), .fallback = "true",
     .help = "Write to many connections in one system call where the kernel allows it"},
    {"data", TEXT, AT(data), .fallback = "./peal-data", .help = "Folder of the router's store"},
    {"log_level", TEXT, AT(log_level), .fallback = "info", .words = level_words,
     .help = "Log lines less important than this are dropped"},

    {"api.listen", TEXT, AT(api.listen), .fallback = "127.0.0.1:8081",
     .check = peal_config_check_endpoint,
     .help = "Address for backends, /metrics, /livez and /readyz"},
    {"api.keys", SECRETS, AT(api.keys), .max = 64, .check = peal_config_check_api_key,
     .help = "Keys of backends, each the text itself or sha256:<hex>; all are valid at once"},
    {"api.key_files", TEXTS, AT(api.key_files), .max = 64,
     .help = "Files with one such key each, read at the start"},

    {"auth.user_claim", TEXT, AT(auth.user_claim), .fallback = "sub", .max = 200,
     .help = "Claim of a token that names the user"},
    {"auth.leeway", DURATION, AT(auth.leeway_ms), .fallback = "30s", .max = 60 * SECOND,
     .help = "How far clocks may differ when exp, nbf and iat are judged"},
    {"auth.issuer", TEXT, AT(auth.issuer), .help = "iss that a token must have; any if not given"},
    {"auth.audience", TEXT, AT(auth.audience),
     .help = "aud that a token must have; any if not given"},
    {"auth.keys", PEAL_OPTION_LIST, LIST(auth.keys, auth.key_count), .max = 16,
     .help = "Keys that tokens may be signed with"},
    {"auth.keys.*.alg", TEXT, KEY(alg), .words = alg_words, .required = true,
     .help = "The only algorithm that is accepted with this key"},
    {"auth.keys.*.secret", SECRET, KEY(secret), .min = 32, .help = "The key, at least 32 bytes"},
    {"auth.keys.*.secret_file", TEXT, KEY(secret_file),
     .help = "File with the key instead, read at the start"},

    {"doors.pull", TEXT, AT(doors.pull), .fallback = "tcp://127.0.0.1:7800",
     .check = peal_config_check_door, .help = "Where a router takes messages, fire and forget"},
    {"doors.xpub", TEXT, AT(doors.xpub), .fallback = "tcp://127.0.0.1:7801",
     .check = peal_config_check_door, .help = "Where a router hands messages to nodes"},
    {"doors.rpc", TEXT, AT(doors.rpc), .fallback = "tcp://127.0.0.1:7802",
     .check = peal_config_check_door, .help = "Where a router answers nodes and publishers"},
    {"doors.relay", TEXTS, AT(relay_doors), .max = PEAL_SLOTS, .check = peal_config_check_door,
     .help = "Relays: one door per router, in their order; with one router doors.xpub will do"},

    {"bus.key_file", TEXT, AT(bus.key_file),
     .help = "This process's CURVE keys, made by peal keygen; with it the whole bus has CURVE"},
    {"bus.peers_file", TEXT, AT(bus.peers_file),
     .help =
         "Routers, relays: who may connect, a line `public key, node or publisher, name` for each"},
    {"bus.insecure", BOOL, AT(bus.insecure), .fallback = "false",
     .help = "Starts without CURVE although others can reach doors or routers"},

    {"cluster.self", TEXT, AT(cluster.self), .fallback = "0", .check = peal_config_check_self,
     .help = "Routers: own index in the list; auto is the number at the end of the host name"},
    {"cluster.routers", PEAL_OPTION_LIST, LIST(cluster.routers, cluster.router_count),
     .max = PEAL_SLOTS, .help = "All routers in the order of their shards; empty: the doors"},
    {"cluster.routers.*.pull", TEXT, ROUTER(pull), .check = peal_config_check_door,
     .required = true, .help = "doors.pull of that router as seen by others"},
    {"cluster.routers.*.xpub", TEXT, ROUTER(xpub), .check = peal_config_check_door,
     .required = true, .help = "The same of doors.xpub"},
    {"cluster.routers.*.rpc", TEXT, ROUTER(rpc), .check = peal_config_check_door, .required = true,
     .help = "The same of doors.rpc"},
    {"cluster.routers.*.key", TEXT, ROUTER(key), .check = peal_config_check_curve_key,
     .help = "Public CURVE key of that router; needed with bus.key_file"},
    {"cluster.via", PEAL_OPTION_LIST, LIST(cluster.via, cluster.via_count), .max = 64,
     .help = "Nodes: relays, one of which is used instead of the routers' xpub; empty: none"},
    {"cluster.via.*.xpub", TEXTS, VIA(xpub), .max = PEAL_SLOTS, .check = peal_config_check_door,
     .help = "doors.relay of that relay as seen by nodes, in the order of the routers"},
    {"cluster.via.*.key", TEXT, VIA(key), .check = peal_config_check_curve_key,
     .help = "Public CURVE key of that relay; needed with bus.key_file"},

    {"default_routes", BOOL, AT(default_routes), .fallback = "true",
     .help = "Adds /v1/ws behind the routes given"},
    {"routes", PEAL_OPTION_LIST, LIST(routes, route_count), .max = 256,
     .help = "URL patterns; the first match wins, a path without one is 404"},
    {"routes.*.path", TEXT, ROUTE(path), .check = peal_config_check_path, .required = true,
     .help = "Path with {captures} of one segment each; a slash at the end counts"},
    {"routes.*.dialect", WORD, ROUTE(dialect), .words = dialect_words, .required = true,
     .help = "Protocol that is spoken there"},
    {"routes.*.identity", WORD, ROUTE(identity), .fallback = "token", .words = identity_words,
     .help = "Where the user comes from; url is for trusted networks"},
    {"routes.*.join", TEXTS, ROUTE(join), .max = 128, .check = peal_config_check_template,
     .help = "Groups that a connection is in from the start, with {captures} and {identity}"},
    {"routes.*.frame", WORD, ROUTE(frame), .fallback = "data", .words = frame_words,
     .help = "raw: what of a message is sent"},
    {"routes.*.inbound", WORD, ROUTE(inbound), .fallback = "refuse", .words = inbound_words,
     .help = "raw: what happens to a message from the browser"},
    {"routes.*.origins", TEXTS, ROUTE(origins), .max = 256, .check = peal_config_check_origin,
     .help = "Origins that may connect; if not given: the same host, in dev also loopback"},
    {"routes.*.max_message", SIZE, ROUTE(max_message), .min = 1, .max = 4 * MIB,
     .help = "Largest message from a browser; limits.message if not given"},
    {"routes.*.lenient", BOOL, ROUTE(lenient), .fallback = "false",
     .help = "A bad token means no user instead of 401"},
    {"routes.*.user_claim", TEXT, ROUTE(user_claim), .max = 200,
     .help = "Claim that names the user here; auth.user_claim if not given"},

    {"groups", PEAL_OPTION_LIST, LIST(groups, group_count), .max = 1024,
     .help = "Policies by name; the first match wins; user:{id} and * are added if not given"},
    {"groups.*.match", TEXT, GROUP(match), .check = peal_config_check_pattern, .required = true,
     .help = "Pattern of names with {captures} and a * at the end"},
    {"groups.*.durable", BOOL, GROUP(durable), .fallback = "false",
     .help = "Messages are stored on disk"},
    {"groups.*.keep.messages", NUMBER, GROUP(keep.messages), .fallback = "1000", .min = 1,
     .max = PEAL_INBOX_MESSAGES_MAX, .help = "durable: so many are kept"},
    {"groups.*.keep.bytes", SIZE, GROUP(keep.bytes), .fallback = "4MiB", .min = 1, .max = GIB,
     .help = "durable: so many bytes are kept"},
    {"groups.*.keep.age", DURATION, GROUP(keep.age_ms), .fallback = "7d", .min = 1,
     .max = 3650 * DAY, .help = "durable: kept so long"},
    {"groups.*.keep.until", WORD, GROUP(keep.until), .fallback = "acked", .words = until_words,
     .help = "durable: a message of an inbox is settled when acked, or when read"},
    {"groups.*.keep.settled", DURATION, GROUP(keep.settled_ms), .fallback = "1h", .max = 3650 * DAY,
     .help = "durable: settled messages stay so long for other devices"},
    {"groups.*.history.messages", NUMBER, GROUP(history.messages), .fallback = "0", .max = 100000,
     .help = "not durable: so many are kept in memory"},
    {"groups.*.history.age", DURATION, GROUP(history.age_ms), .fallback = "5m", .min = 1,
     .max = 365 * DAY, .help = "not durable: kept in memory so long"},
    {"groups.*.presence", WORD, GROUP(presence), .fallback = "off", .words = presence_words,
     .help = "Whether members learn who else is there"},
    {"groups.*.join", WORD, GROUP(join), .fallback = "token", .fallback_dev = "anyone",
     .words = join_words, .help = "Who may join; user:<id> admits only that user"},
    {"groups.*.publish", WORD, GROUP(publish), .fallback = "server", .fallback_dev = "members",
     .words = publish_words, .help = "Who may publish besides the backends"},
    {"groups.*.slow", WORD, GROUP(slow), .fallback = "close", .words = slow_words,
     .help = "What happens to who reads too slowly, where nothing is kept"},

    {"dedup.age", DURATION, AT(dedup.age_ms), .fallback = "10m", .min = 1, .max = 7 * DAY,
     .help = "How long a message_id is remembered"},
    {"dedup.ids", NUMBER, AT(dedup.ids), .fallback = "4000000", .min = 1, .max = 1000000000,
     .help = "How many are remembered"},

    {"presence.grace", DURATION, AT(presence.grace_ms), .fallback = "5s", .max = HOUR,
     .help = "Who comes back within that time was never away"},
    {"presence.settle", DURATION, AT(presence.settle_ms), .fallback = "10s", .max = HOUR,
     .help = "So long after a router's start no changes are told, and answers say settling"},

    {"limits.message", SIZE, AT(limits.message), .fallback = "64KiB", .min = 1, .max = 4 * MIB,
     .help = "Largest message"},
    {"limits.queue", SIZE, AT(limits.queue), .fallback = "256KiB", .min = KIB, .max = GIB,
     .help = "Bytes that wait for one connection"},
    {"limits.queue_messages", NUMBER, AT(limits.queue_messages), .fallback = "1024", .min = 1,
     .max = 65536, .help = "Messages that wait for one connection"},
    {"limits.unsent", SIZE, AT(limits.unsent), .fallback = "256KiB", .min = 4096, .max = 1u << 30,
     .help = "The kernel holds of one connection, beyond what is on its way"},
    {"limits.history", SIZE, AT(limits.history), .fallback = "256MiB", .max = TIB,
     .help = "Memory of all history of a router; the longest idle group goes first"},
    {"limits.presence", NUMBER, AT(limits.presence), .fallback = "1000000", .max = 100000000,
     .help = "Sessions whose users a router knows, in groups with presence; others are counted"},
    {"limits.users_per_publish", NUMBER, AT(limits.users_per_publish), .fallback = "10000",
     .min = 1, .max = 1000000, .help = "Users that one publish may name"},
    {"limits.groups_per_connection", NUMBER, AT(limits.groups_per_connection), .fallback = "128",
     .min = 1, .max = 65535, .help = "Groups that one connection may be in"},
    {"limits.connections_per_user", NUMBER, AT(limits.connections_per_user), .fallback = "32",
     .min = 1, .max = 65536, .help = "Connections of one user in the cluster"},
    {"limits.connections", NUMBER, AT(limits.connections), .fallback = "100000", .min = 1,
     .max = 10000000, .help = "Connections of one worker"},
    {"limits.body", SIZE, AT(limits.body), .fallback = "8MiB", .min = KIB, .max = GIB,
     .help = "Largest body of a request to the API"},
    {"limits.ping", DURATION, AT(limits.ping_ms), .fallback = "25s", .min = 100, .max = DAY,
     .help = "Silence after which a connection is asked for a sign of life"},
    {"limits.pong", DURATION, AT(limits.pong_ms), .fallback = "10s", .min = 100, .max = DAY,
     .help = "How long it has for that"},

    {"drain.settle", DURATION, AT(drain.settle_ms), .fallback = "5s", .fallback_dev = "0s",
     .max = HOUR, .help = "A node that stops goes on so long for load balancers to notice"},
    {"drain.spread", DURATION, AT(drain.spread_ms), .fallback = "20s", .fallback_dev = "0s",
     .max = HOUR, .help = "It then sends its connections away evenly within this time"},

    {"store.max", SIZE, AT(store.max), .fallback = "16GiB", .min = MIB, .max = 64 * TIB,
     .help = "Size of the database map; this is address space, not memory"},
};
const size_t peal_option_count = sizeof peal_options / sizeof *peal_options;

/* Reads digits at *at up to the next dot or the end; false when there is something else. */
static bool take_index(const char **at, size_t *out)
{
    const char *p = *at;
    size_t number = 0;
    int digits = 0;
    for (; *p >= '0' && *p <= '9' && digits < 6; p++, digits++)
        number = number * 10 + (size_t)(*p - '0');
    if (digits == 0 || (*p != '.' && *p != '\0')) return false;
    *at = p;
    *out = number;
    return true;
}

/* Walks path along pattern as far as both agree by whole segments. Each ends at a dot or at its
 * end; false when they part before path or pattern is used up. */
static bool walk(const char **pattern, const char **path, size_t *index)
{
    const char *a = *pattern;
    const char *b = *path;
    for (;;) {
        if (*a == '*') {
            if (!take_index(&b, index)) return false;
            a++;
        } else {
            while (*a != '\0' && *a != '.' && *a == *b)
                a++, b++;
        }
        if ((*a != '\0' && *a != '.') || (*b != '\0' && *b != '.')) return false;
        if (*a == '\0' || *b == '\0') break;
        a++, b++;
    }
    *pattern = a;
    *path = b;
    return true;
}

static bool has_items(const struct peal_option *option)
{
    return option->kind == PEAL_OPTION_TEXTS || option->kind == PEAL_OPTION_SECRETS;
}

bool peal_option_find(const char *path, struct peal_option_spot *out)
{
    for (size_t i = 0; i < peal_option_count; i++) {
        const char *pattern = peal_options[i].path;
        const char *rest = path;
        size_t index = 0;
        if (!walk(&pattern, &rest, &index) || *pattern != '\0') continue;
        *out = (struct peal_option_spot){&peal_options[i], index, PEAL_OPTION_NO_ITEM};
        if (*rest == '\0') return true;
        rest++;
        if (has_items(out->option) && take_index(&rest, &out->item) && *rest == '\0') return true;
    }
    return false;
}

/* What follows the section in the pattern, or NULL when the pattern is not inside of it. */
static const char *key_in(const char *section, const char *pattern)
{
    if (*section == '\0') return pattern;
    size_t index;
    if (!walk(&pattern, &section, &index)) return NULL;
    if (*section != '\0' || *pattern != '.') return NULL;
    return pattern[1] == '*' ? NULL : pattern + 1;
}

bool peal_option_is_section(const char *path)
{
    for (size_t i = 0; i < peal_option_count; i++)
        if (key_in(path, peal_options[i].path) != NULL) return true;
    return false;
}

void peal_option_add_keys(const char *section, struct peal_buf *out)
{
    struct peal_span last = {NULL, 0};
    for (size_t i = 0; i < peal_option_count; i++) {
        const char *key = key_in(section, peal_options[i].path);
        if (key == NULL) continue;
        struct peal_span name = peal_span_make(key, strcspn(key, "."));
        if (peal_span_equal(name, last)) continue;
        if (last.at != NULL) peal_buf_add_text(out, ", ");
        peal_buf_add_span(out, name);
        last = name;
    }
}

const struct peal_option *peal_option_list(const struct peal_option *option)
{
    const char *star = strstr(option->path, ".*.");
    if (star == NULL) return NULL;
    struct peal_span name = peal_span_make(option->path, (size_t)(star - option->path));
    /* A list stands above its elements. */
    do {
        PEAL_ASSERT(option > peal_options);
        option--;
    } while (!peal_span_is(name, option->path));
    PEAL_ASSERT(option->kind == PEAL_OPTION_LIST);
    return option;
}

/* The pointer to the elements is read and written by memcpy: its type differs between lists. */
static char *elements_of(const struct peal_option *list, const struct peal_config *config)
{
    char *elements;
    memcpy(&elements, (const char *)config + list->offset, sizeof elements);
    return elements;
}

static void put_elements(const struct peal_option *list, struct peal_config *config, char *elements,
                         size_t count)
{
    memcpy((char *)config + list->offset, &elements, sizeof elements);
    memcpy((char *)config + list->count_offset, &count, sizeof count);
}

size_t peal_option_length(const struct peal_option *list, const struct peal_config *config)
{
    return *(const size_t *)(const void *)((const char *)config + list->count_offset);
}

/* The config belongs to the caller, who knows whether it may be written to. */
void *peal_option_field(const struct peal_option *option, const struct peal_config *config,
                        size_t index)
{
    const struct peal_option *list = peal_option_list(option);
    if (list == NULL) return (char *)(uintptr_t)config + option->offset;
    PEAL_ASSERT(index < peal_option_length(list, config));
    return elements_of(list, config) + index * list->size + option->offset;
}

bool peal_option_is_secret(const struct peal_option *option)
{
    return option->kind == PEAL_OPTION_SECRET || option->kind == PEAL_OPTION_SECRETS;
}

/* Sets the options of one list (NULL: those in no list) to their defaults. */
static enum peal_err set_defaults(const struct peal_option *list, size_t index,
                                  const struct peal_config *config)
{
    for (size_t i = 0; i < peal_option_count; i++) {
        const struct peal_option *option = &peal_options[i];
        if (option->fallback == NULL || peal_option_list(option) != list) continue;
        const char *text = option->fallback;
        if (config->dev && option->fallback_dev != NULL) text = option->fallback_dev;
        struct peal_option_spot spot = {option, index, PEAL_OPTION_NO_ITEM};
        struct peal_buf why = {0};
        enum peal_err err = peal_option_set(&spot, config, text, &why);
        peal_buf_fini(&why);
        PEAL_ASSERT(err != PEAL_ECONFIG); /* a default in the table is out of its own range */
        if (err != PEAL_OK) return err;
    }
    return PEAL_OK;
}

enum peal_err peal_option_defaults(struct peal_config *config)
{
    return set_defaults(NULL, 0, config);
}

static void clear_field(const struct peal_option *option, void *field)
{
    bool secret = peal_option_is_secret(option);
    if (option->kind == PEAL_OPTION_TEXT || option->kind == PEAL_OPTION_SECRET) {
        char **text = field;
        if (secret && *text != NULL) sodium_memzero(*text, strlen(*text));
        free(*text);
        *text = NULL;
    } else if (has_items(option)) {
        struct peal_strings *texts = field;
        for (size_t i = 0; i < texts->count; i++) {
            if (secret) sodium_memzero(texts->at[i], strlen(texts->at[i]));
            free(texts->at[i]);
        }
        free(texts->at);
        *texts = (struct peal_strings){0};
    }
}

static void clear_element(const struct peal_option *list, const struct peal_config *config,
                          size_t index)
{
    for (const struct peal_option *o = peal_options; o < peal_options + peal_option_count; o++)
        if (peal_option_list(o) == list) clear_field(o, peal_option_field(o, config, index));
}

void peal_option_clear(struct peal_config *config)
{
    for (size_t i = 0; i < peal_option_count; i++) {
        const struct peal_option *option = &peal_options[i];
        if (option->kind != PEAL_OPTION_LIST) continue;
        for (size_t j = 0; j < peal_option_length(option, config); j++)
            clear_element(option, config, j);
        free(elements_of(option, config));
        put_elements(option, config, NULL, 0);
    }
    for (size_t i = 0; i < peal_option_count; i++)
        if (peal_option_list(&peal_options[i]) == NULL)
            clear_field(&peal_options[i], peal_option_field(&peal_options[i], config, 0));
}

enum peal_err peal_option_grow(const struct peal_option *list, struct peal_config *config)
{
    size_t count = peal_option_length(list, config);
    char *elements = realloc(elements_of(list, config), (count + 1) * list->size);
    if (elements == NULL) return PEAL_ENOMEM;
    memset(elements + count * list->size, 0, list->size);
    put_elements(list, config, elements, count + 1);

    enum peal_err err = set_defaults(list, count, config);
    if (err == PEAL_OK) return PEAL_OK;
    clear_element(list, config, count);
    put_elements(list, config, elements, count);
    return err;
}

#include "node/gate.h"

#include <stdio.h>
#include <strings.h>

#include <sodium.h>

#include "base/limits.h"
#include "node/head.h"
#include "node/route.h"
#include "proto/group.h"

enum {
    /* The library's own room for a head is 4,096 bytes, some of which it needs for itself. */
    HEAD_BYTES_MAX = 3584,
    TOKEN_BODY_MAX = 4096, /* of POST /dev/token */
    INBOX_LIMIT = 50,      /* messages, unless asked for */
    WHO_LIMIT = 100,       /* users, likewise */
    KEY_HASH_SIZE = 32,
};

enum { GET = 1, POST = 2 };

static const struct call {
    bool api;
    bool needs_key;
    bool has_user; /* path is what stands before {user}, suffix what stands behind it */
    unsigned methods;
    const char *path;
    const char *suffix;
    enum peal_gate_call call;
} calls[] = {
    {true, false, false, GET, "/livez", "", PEAL_GATE_LIVEZ},
    {true, false, false, GET, "/readyz", "", PEAL_GATE_READYZ},
    {true, false, false, GET, "/metrics", "", PEAL_GATE_METRICS},
    {true, true, false, POST, "/v1/publish", "", PEAL_GATE_PUBLISH},
    {true, true, true, POST, "/v1/inbox/", "/ack", PEAL_GATE_ACK},
    {true, true, true, POST, "/v1/inbox/", "/read", PEAL_GATE_READ},
    {true, true, true, GET, "/v1/inbox/", "", PEAL_GATE_INBOX},
    {true, true, false, GET, "/v1/presence", "", PEAL_GATE_PRESENCE},
    {true, true, true, GET, "/v1/users/", "", PEAL_GATE_USER},
    {false, false, false, GET, "/", "", PEAL_GATE_PAGE},
    {false, false, false, POST, "/dev/token", "", PEAL_GATE_TOKEN},
};

/* What is known of a request while it is judged. */
struct judge {
    const struct peal_gate_rules *rules;
    struct peal_head head;
    struct peal_span lines; /* of the head, behind the first one */
    const struct call *call;
    struct peal_gate *out;
    struct peal_gate_refusal *refusal;
};

static enum peal_err refuse_as(struct judge *j, enum peal_err err, int status, const char *code,
                               const char *why)
{
    j->refusal->status = status;
    j->refusal->code = code;
    if (why != j->refusal->why) snprintf(j->refusal->why, sizeof j->refusal->why, "%s", why);
    return err;
}

static enum peal_err refuse(struct judge *j, enum peal_err err, const char *why)
{
    return refuse_as(j, err, peal_err_http(err), peal_err_word(err), why);
}

static enum peal_err refuse_field(struct judge *j, const char *field, const char *why)
{
    j->refusal->field = field;
    return refuse(j, PEAL_EBAD_FIELD, why);
}

/* ---- header lines ------------------------------------------------------------------------ */

static bool equal_nocase(struct peal_span a, const char *b)
{
    return a.size == strlen(b) && strncasecmp(a.at, b, a.size) == 0;
}

static struct peal_span trim(struct peal_span s)
{
    while (s.size > 0 && (s.at[0] == ' ' || s.at[0] == '\t')) {
        s.at++;
        s.size--;
    }
    while (s.size > 0 && (s.at[s.size - 1] == ' ' || s.at[s.size - 1] == '\t'))
        s.size--;
    return s;
}

/* Walks the lines called name: set *at to 0. node/head.c has made sure that each of them is
 * `name:value` and ends with CRLF. */
static bool next_line(const struct judge *j, const char *name, size_t *at, struct peal_span *value)
{
    while (*at < j->lines.size) {
        const char *line = j->lines.at + *at;
        size_t left = j->lines.size - *at;
        const char *end = memmem(line, left, "\r\n", 2);
        size_t size = end == NULL ? left : (size_t)(end - line);
        *at += size + 2;
        const char *colon = memchr(line, ':', size);
        if (colon == NULL) continue;
        if (!equal_nocase(peal_span_make(line, (size_t)(colon - line)), name)) continue;
        *value = trim(peal_span_make(colon + 1, size - (size_t)(colon + 1 - line)));
        return true;
    }
    return false;
}

/* Does a line called name list word? */
static bool lists_word(const struct judge *j, const char *name, const char *word)
{
    size_t line = 0;
    struct peal_span value;
    while (next_line(j, name, &line, &value)) {
        size_t at = 0;
        struct peal_span item;
        while (peal_list_next(value, &at, &item))
            if (equal_nocase(item, word)) return true;
    }
    return false;
}

static bool has_line(const struct judge *j, const char *name)
{
    size_t at = 0;
    struct peal_span value;
    return next_line(j, name, &at, &value);
}

static bool parse_number(struct peal_span text, uint64_t *out)
{
    *out = 0;
    if (text.size == 0 || text.size > 15) return false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.at[i] < '0' || text.at[i] > '9') return false;
        *out = *out * 10 + (uint64_t)(text.at[i] - '0');
    }
    return true;
}

/* ---- the steps --------------------------------------------------------------------------- */

/* False when the head has no end. */
static bool find_lines(struct judge *j, struct peal_span text)
{
    const char *first_end = memmem(text.at, text.size, "\r\n", 2);
    const char *end = memmem(text.at, text.size, "\r\n\r\n", 4);
    if (end == NULL) return false;
    j->lines = peal_span_make(first_end + 2, (size_t)(end + 2 - (first_end + 2)));
    return true;
}

static enum peal_err refuse_length(struct judge *j)
{
    return refuse_as(j, PEAL_EINVAL, 411, "length_required", "send the body with a Content-Length");
}

static enum peal_err read_head(struct judge *j, struct peal_span text)
{
    enum peal_err err = peal_head_parse(text, &j->head, j->refusal->why, sizeof j->refusal->why);
    if (err == PEAL_EAGAIN) return err;
    if (err == PEAL_ETOO_LARGE || (err == PEAL_OK && j->head.size > HEAD_BYTES_MAX))
        return refuse_as(j, PEAL_ETOO_LARGE, 431, "too_large",
                         "the head of the request is too large");
    /* Refused it is in any case; but what people do by accident gets the answer that helps. */
    bool ended = find_lines(j, text);
    if (err == PEAL_EBAD_MESSAGE && ended && peal_span_starts(text, "POST ") &&
        has_line(j, "transfer-encoding") && !has_line(j, "content-length"))
        return refuse_length(j);
    if (err != PEAL_OK) return refuse(j, err, j->refusal->why);
    j->out->head_size = j->head.size;
    return PEAL_OK;
}

static enum peal_err check_upgrade(struct judge *j)
{
    if (!j->head.is_websocket && j->head.upgrade.at == NULL) return PEAL_OK;
    return refuse(j, PEAL_EBAD_MESSAGE, "nothing can be upgraded here");
}

static bool is_route(const struct judge *j, struct peal_span path)
{
    struct peal_route_match match;
    return !j->rules->api && peal_route_find(j->rules->config, path, &match) == PEAL_OK;
}

/* Does the path, as it was sent, belong to call? {user} is then what is left, still encoded. */
static bool path_matches(const struct call *call, struct peal_span path, struct peal_span *user)
{
    size_t suffix = strlen(call->suffix);
    if (!call->has_user) return peal_span_is(path, call->path);
    if (!peal_span_starts(path, call->path)) return false;
    size_t prefix = strlen(call->path);
    struct peal_span rest = peal_span_make(path.at + prefix, path.size - prefix);
    if (rest.size <= suffix) return false;
    if (memcmp(rest.at + rest.size - suffix, call->suffix, suffix) != 0) return false;
    *user = peal_span_make(rest.at, rest.size - suffix);
    /* One segment: a slash that belongs to the name is sent as %2F. */
    return memchr(user->at, '/', user->size) == NULL;
}

static bool is_there(const struct peal_gate_rules *rules, const struct call *call)
{
    if (call->api != rules->api) return false;
    if (call->call == PEAL_GATE_PAGE) return rules->page;
    if (call->call == PEAL_GATE_TOKEN) return rules->token;
    return true;
}

static enum peal_err find_call(struct judge *j, struct peal_span *user)
{
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        if (!is_there(j->rules, &calls[i])) continue;
        if (!path_matches(&calls[i], j->head.path, user)) continue;
        j->call = &calls[i];
        j->out->call = calls[i].call;
        return PEAL_OK;
    }
    struct peal_buf path = {0};
    bool route = peal_path_decode(j->head.path, &path) == PEAL_OK && !path.failed &&
                 is_route(j, peal_buf_span(&path));
    peal_buf_fini(&path);
    if (route) return refuse(j, PEAL_EUPGRADE, "this path speaks WebSocket");
    return refuse(j, PEAL_ENOT_FOUND, "nothing is here");
}

/* Compares with every key, so that the time says nothing about which one was close. */
static bool key_is_known(const struct peal_gate_rules *rules, struct peal_span key)
{
    unsigned char hash[KEY_HASH_SIZE];
    _Static_assert(sizeof hash == crypto_hash_sha256_BYTES, "the size of SHA-256");
    crypto_hash_sha256(hash, (const unsigned char *)key.at, key.size);
    unsigned known = 0;
    for (size_t i = 0; i < rules->key_count; i++)
        known |= sodium_memcmp(hash, rules->key_hashes[i], sizeof hash) == 0;
    sodium_memzero(hash, sizeof hash);
    return known != 0;
}

static enum peal_err check_key(struct judge *j)
{
    if (!j->call->needs_key) return PEAL_OK;
    struct peal_span key = peal_span_of("");
    struct peal_span sent = j->head.authorization;
    if (sent.size > 7 && strncasecmp(sent.at, "Bearer ", 7) == 0)
        key = trim(peal_span_make(sent.at + 7, sent.size - 7));
    /* No key is hashed and compared like a wrong one. */
    if (key_is_known(j->rules, key) && key.size > 0) return PEAL_OK;
    return refuse(j, PEAL_EKEY_INVALID, "the API key is missing or wrong");
}

static enum peal_err check_method(struct judge *j)
{
    struct peal_span method = j->head.method;
    j->out->head_only = peal_span_is(method, "HEAD");
    unsigned sent = peal_span_is(method, "POST") ? POST : 0;
    if (j->out->head_only || peal_span_is(method, "GET")) sent = GET;
    if (j->call->methods & sent) return PEAL_OK;
    j->refusal->allow = j->call->methods == POST ? "POST" : "GET, HEAD";
    return refuse(j, PEAL_EMETHOD, "this method is not allowed here");
}

/* Exactly one plain length for a POST, and none but 0 for others. */
static enum peal_err check_length(struct judge *j)
{
    size_t at = 0;
    size_t count = 0;
    struct peal_span value;
    uint64_t size = 0;
    while (next_line(j, "content-length", &at, &value)) {
        if (++count > 1 || !parse_number(value, &size))
            return refuse(j, PEAL_EBAD_MESSAGE, "Content-Length must be one plain number");
    }
    bool post = peal_span_is(j->head.method, "POST");
    if (has_line(j, "transfer-encoding"))
        return refuse(j, PEAL_EBAD_MESSAGE, "a body in chunks is not taken");
    if (post && count == 0) return refuse_length(j);
    if (!post && size > 0) return refuse(j, PEAL_EBAD_MESSAGE, "this request cannot have a body");
    j->out->body_size = size;
    return PEAL_OK;
}

static enum peal_err check_size(struct judge *j)
{
    uint64_t max = j->rules->config->limits.body;
    if (j->out->call == PEAL_GATE_TOKEN && max > TOKEN_BODY_MAX) max = TOKEN_BODY_MAX;
    if (j->out->body_size > max)
        return refuse(j, PEAL_ETOO_LARGE, "the body is larger than limits.body");
    /* No POST asks for nothing, and the library would end the connection without a word. */
    if (j->call->methods == POST && j->out->body_size == 0)
        return refuse(j, PEAL_EBAD_JSON, "the body is empty");
    return PEAL_OK;
}

/* A publish comes as JSON. `curl -d '{...}'`, which is what people type, calls it a form. */
static enum peal_err check_type(struct judge *j)
{
    static const char *const fine[] = {"application/json", "text/json",
                                       "application/x-www-form-urlencoded"};
    size_t at = 0;
    struct peal_span value;
    if (j->out->call != PEAL_GATE_PUBLISH || !next_line(j, "content-type", &at, &value))
        return PEAL_OK;
    const char *parameters = memchr(value.at, ';', value.size);
    if (parameters != NULL) value.size = (size_t)(parameters - value.at);
    value = trim(value);
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++)
        if (equal_nocase(value, fine[i])) return PEAL_OK;
    return refuse(j, PEAL_EMEDIA_TYPE, "send application/json");
}

static enum peal_err read_user(struct judge *j, struct peal_span encoded)
{
    struct peal_buf group = {0};
    enum peal_err err = peal_path_decode(encoded, &j->out->user);
    if (err == PEAL_OK && !j->out->user.failed)
        err = peal_group_of_user(peal_buf_span(&j->out->user), &group);
    bool failed = j->out->user.failed || group.failed;
    peal_buf_fini(&group);
    if (failed) return refuse(j, PEAL_ENOMEM, "out of memory");
    if (err == PEAL_OK) return PEAL_OK;
    return refuse_field(j, "user",
                        "a user name has 1..195 bytes of UTF-8 without control characters");
}

/* PEAL_OK also when it is not there; *out is then as before. */
static enum peal_err read_number(struct judge *j, const char *name, uint64_t *out)
{
    struct peal_buf text = {0};
    enum peal_err err = peal_query_get(j->head.query, name, &text);
    if (err == PEAL_OK && (!parse_number(peal_buf_span(&text), out) || *out == 0))
        err = PEAL_EBAD_FIELD;
    peal_buf_fini(&text);
    if (err == PEAL_OK || err == PEAL_ENOT_FOUND) return PEAL_OK;
    return refuse_field(j, name, "must be a number from 1");
}

static enum peal_err read_flag(struct judge *j, const char *name, bool *out)
{
    struct peal_buf text = {0};
    enum peal_err err = peal_query_get(j->head.query, name, &text);
    struct peal_span value = peal_buf_span(&text);
    bool on = peal_span_is(value, "true") || peal_span_is(value, "1");
    bool off = peal_span_is(value, "false") || peal_span_is(value, "0");
    if (err == PEAL_OK) {
        if (on || off)
            *out = on;
        else
            err = PEAL_EBAD_FIELD;
    }
    peal_buf_fini(&text);
    if (err == PEAL_OK || err == PEAL_ENOT_FOUND) return PEAL_OK;
    return refuse_field(j, name, "must be true or false");
}

static enum peal_err read_presence(struct judge *j)
{
    enum peal_err err = peal_query_get(j->head.query, "group", &j->out->group);
    if (err == PEAL_ENOT_FOUND) {
        j->refusal->field = "group";
        return refuse(j, PEAL_EMISSING_FIELD, "say which group: ?group=");
    }
    if (j->out->group.failed) return refuse(j, PEAL_ENOMEM, "out of memory");
    if (err != PEAL_OK || peal_name_check(peal_buf_span(&j->out->group)) != PEAL_OK) {
        j->refusal->field = "group";
        return refuse(j, PEAL_EBAD_GROUP,
                      "a group name has 1..200 bytes of UTF-8 without control characters");
    }
    j->out->limit = WHO_LIMIT;
    err = read_number(j, "after", &j->out->after);
    if (err == PEAL_OK) err = read_number(j, "limit", &j->out->limit);
    if (j->out->limit > PEAL_WHO_MAX) j->out->limit = PEAL_WHO_MAX;
    return err;
}

static enum peal_err read_query(struct judge *j)
{
    if (j->out->call == PEAL_GATE_PRESENCE) return read_presence(j);
    if (j->out->call != PEAL_GATE_INBOX) return PEAL_OK;
    j->out->limit = INBOX_LIMIT;
    enum peal_err err = read_number(j, "before", &j->out->before);
    if (err == PEAL_OK) err = read_number(j, "limit", &j->out->limit);
    if (err == PEAL_OK) err = read_flag(j, "unread_only", &j->out->unread_only);
    if (j->out->limit > PEAL_PAGE_MESSAGES) j->out->limit = PEAL_PAGE_MESSAGES;
    return err;
}

static enum peal_err read_connection(struct judge *j, struct peal_span text)
{
    const char *end = memmem(text.at, j->head.size, "\r\n", 2);
    bool http_1_1 = end != NULL && end - text.at > 8 && memcmp(end - 8, "HTTP/1.1", 8) == 0;
    if (http_1_1 && j->head.host.at == NULL)
        return refuse(j, PEAL_EBAD_MESSAGE, "a request names its Host");
    j->out->keep_alive = j->rules->api && http_1_1 && !lists_word(j, "connection", "close");
    j->out->wants_continue = http_1_1 && lists_word(j, "expect", "100-continue");
    return PEAL_OK;
}

/* How it is framed comes first: what follows is only right if that is. The key comes before all
 * that could tell a stranger something. */
static enum peal_err judge_all(struct judge *j, struct peal_span text)
{
    struct peal_span user = {0};
    enum peal_err err = read_head(j, text);
    if (err == PEAL_OK) err = check_upgrade(j);
    if (err == PEAL_OK) err = read_connection(j, text);
    if (err == PEAL_OK) err = check_length(j);
    if (err == PEAL_OK) err = find_call(j, &user);
    if (err == PEAL_OK) err = check_key(j);
    if (err == PEAL_OK) err = check_method(j);
    if (err == PEAL_OK) err = check_type(j);
    if (err == PEAL_OK) err = check_size(j);
    if (err == PEAL_OK && j->call->has_user) err = read_user(j, user);
    if (err == PEAL_OK) err = read_query(j);
    return err;
}

enum peal_err peal_gate_judge(const struct peal_gate_rules *rules, struct peal_span text,
                              struct peal_gate *out, struct peal_gate_refusal *refusal)
{
    *out = (struct peal_gate){0};
    *refusal = (struct peal_gate_refusal){0};
    struct judge j = {.rules = rules, .out = out, .refusal = refusal};
    enum peal_err err = judge_all(&j, text);
    if (err != PEAL_OK) peal_gate_fini(out);
    return err;
}

void peal_gate_fini(struct peal_gate *gate)
{
    peal_buf_fini(&gate->user);
    peal_buf_fini(&gate->group);
}

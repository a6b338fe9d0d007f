/* Every byte is judged when its line is complete, the head as a whole at its empty line; so a
 * refusal may come before the end, but what was refused once is refused with any bytes behind it.
 * A head that comes in drops is read again from its start each time: it is at most PEAL_HEAD_MAX
 * bytes, and almost always comes in one piece.
 *
 * What a header line means to us is one table. A line that changes how the request is framed or
 * who sent it may stand there once only: two programs in a chain that pick different ones of two
 * is what smuggling lives on (RFC 9112 section 11.2). */
#include "node/head.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "proto/utf8.h"

enum { WS_KEY_SIZE = 24, WS_KEY_LETTERS = 22, LENGTH_DIGITS_MAX = 18, PORT_DIGITS_MAX = 5 };

struct reading {
    struct peal_head head;
    struct peal_span content_length;
    struct peal_span transfer_encoding;
    size_t lines;
    bool http_1_1;
    char *why;
    size_t why_size;
};

static const struct field {
    const char *name;
    size_t at; /* of its span in struct reading */
    enum { ONCE, FIRST, LAST } repeat;
} fields[] = {
    {"host", offsetof(struct reading, head.host), ONCE},
    {"origin", offsetof(struct reading, head.origin), ONCE},
    {"authorization", offsetof(struct reading, head.authorization), ONCE},
    {"cookie", offsetof(struct reading, head.cookie), FIRST},
    {"upgrade", offsetof(struct reading, head.upgrade), ONCE},
    {"sec-websocket-key", offsetof(struct reading, head.ws_key), ONCE},
    {"sec-websocket-version", offsetof(struct reading, head.ws_version), ONCE},
    {"sec-websocket-protocol", offsetof(struct reading, head.ws_protocol), FIRST},
    {"x-forwarded-for", offsetof(struct reading, head.forwarded_for), LAST},
    {"content-length", offsetof(struct reading, content_length), ONCE},
    {"transfer-encoding", offsetof(struct reading, transfer_encoding), ONCE},
};

static enum peal_err refuse(struct reading *r, const char *why)
{
    snprintf(r->why, r->why_size, "%s", why);
    return PEAL_EBAD_MESSAGE;
}

/* ---- characters ------------------------------------------------------------------------------ */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* RFC 9110 section 5.6.2. */
static bool is_token(struct peal_span text)
{
    for (size_t i = 0; i < text.size; i++)
        if (!is_alnum(text.at[i]) && memchr("!#$%&'*+-.^_`|~", text.at[i], 15) == NULL)
            return false;
    return text.size > 0;
}

static bool is_word(struct peal_span text, const char *word)
{
    return text.size == strlen(word) && strncasecmp(text.at, word, text.size) == 0;
}

static struct peal_span trim(struct peal_span text)
{
    while (text.size > 0 && (text.at[0] == ' ' || text.at[0] == '\t'))
        text = peal_span_make(text.at + 1, text.size - 1);
    while (text.size > 0 && (text.at[text.size - 1] == ' ' || text.at[text.size - 1] == '\t'))
        text.size--;
    return text;
}

/* Cuts text at the first c: *rest is what lies behind it. False when there is none. */
static bool cut(struct peal_span text, char c, struct peal_span *before, struct peal_span *rest)
{
    const char *at = text.size == 0 ? NULL : memchr(text.at, c, text.size);
    if (at == NULL) return false;
    *before = peal_span_make(text.at, (size_t)(at - text.at));
    *rest = peal_span_make(at + 1, text.size - before->size - 1);
    return true;
}

/* ---- small parts ----------------------------------------------------------------------------- */

bool peal_list_next(struct peal_span list, size_t *at, struct peal_span *item)
{
    while (*at < list.size) {
        struct peal_span rest = peal_span_make(list.at + *at, list.size - *at);
        struct peal_span behind;
        if (cut(rest, ',', item, &behind)) {
            *at = list.size - behind.size;
        } else {
            *item = rest;
            *at = list.size;
        }
        *item = trim(*item);
        if (item->size > 0) return true; /* empty elements are to be ignored, RFC 9110 5.6.1 */
    }
    return false;
}

static bool read_port(struct peal_span digits, uint16_t *out)
{
    uint32_t port = 0;
    if (digits.size > PORT_DIGITS_MAX) return false;
    for (size_t i = 0; i < digits.size; i++) {
        if (!is_digit(digits.at[i])) return false;
        port = port * 10 + (uint32_t)(digits.at[i] - '0');
    }
    *out = (uint16_t)port;
    return port > 0 && port <= UINT16_MAX;
}

enum peal_err peal_host_split(struct peal_span text, struct peal_span *name, uint16_t *port)
{
    bool ipv6 = text.size > 0 && text.at[0] == '[';
    size_t size = ipv6 ? 1 : 0;
    /* RFC 3986 allows more in a name, but nothing that DNS or a browser would let through. */
    while (size < text.size && (is_alnum(text.at[size]) ||
                                memchr(ipv6 ? ":." : "-._", text.at[size], ipv6 ? 2 : 3) != NULL))
        size++;
    if (ipv6) {
        if (size < 3 || size == text.size || text.at[size] != ']') return PEAL_EBAD_FIELD;
        size++;
    }
    if (size == 0) return PEAL_EBAD_FIELD;
    *name = peal_span_make(text.at, size);
    *port = 0;
    if (size == text.size) return PEAL_OK;
    struct peal_span digits = peal_span_make(text.at + size + 1, text.size - size - 1);
    return text.at[size] == ':' && read_port(digits, port) ? PEAL_OK : PEAL_EBAD_FIELD;
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* The line at *at, without its CRLF, and *at behind it. PEAL_EAGAIN when its end is not there. */
static enum peal_err take_line(struct reading *r, struct peal_span text, size_t *at,
                               struct peal_span *line)
{
    for (size_t i = *at; i < text.size; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (c >= 0x20 && c != 0x7f) continue;
        if (c == '\t') continue;
        if (c == '\n') return refuse(r, "a line ends with LF alone");
        if (c != '\r') return refuse(r, "a control character is in the head");
        if (i + 1 == text.size) break;
        if (text.at[i + 1] != '\n') return refuse(r, "a CR stands alone");
        *line = peal_span_make(text.at + *at, i - *at);
        *at = i + 2;
        return PEAL_OK;
    }
    return PEAL_EAGAIN;
}

static enum peal_err read_request_line(struct reading *r, struct peal_span line)
{
    struct peal_head *head = &r->head;
    struct peal_span rest;
    struct peal_span version;
    if (!cut(line, ' ', &head->method, &rest) || !cut(rest, ' ', &head->target, &version))
        return refuse(r, "the first line is not: method, target, version");
    if (!is_token(head->method)) return refuse(r, "the method is not a word");
    r->http_1_1 = peal_span_is(version, "HTTP/1.1");
    if (!r->http_1_1 && !peal_span_is(version, "HTTP/1.0"))
        return refuse(r, "the version is neither HTTP/1.1 nor HTTP/1.0");
    if (!peal_span_starts(head->target, "/")) return refuse(r, "the target is not a path");
    for (size_t i = 0; i < head->target.size; i++) {
        char c = head->target.at[i];
        if (c <= ' ' || c > '~' || c == '#')
            return refuse(r, "a character in the target needs %-encoding");
    }
    if (!cut(head->target, '?', &head->path, &head->query)) head->path = head->target;
    return PEAL_OK;
}

static enum peal_err store_field(struct reading *r, const struct field *field,
                                 struct peal_span value)
{
    struct peal_span *to = (struct peal_span *)(void *)((char *)r + field->at);
    if (to->at != NULL && field->repeat == ONCE) {
        snprintf(r->why, r->why_size, "there are two headers %s", field->name);
        return PEAL_EBAD_MESSAGE;
    }
    if (to->at == NULL || field->repeat == LAST) *to = value;
    return PEAL_OK;
}

static enum peal_err read_field(struct reading *r, struct peal_span line)
{
    struct peal_span name;
    struct peal_span value;
    if (line.at[0] == ' ' || line.at[0] == '\t') return refuse(r, "a header is folded");
    if (!cut(line, ':', &name, &value)) return refuse(r, "a header has no colon");
    if (!is_token(name)) return refuse(r, "the name of a header is not a word");
    value = trim(value);

    enum peal_err err = PEAL_OK;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (is_word(name, fields[i].name)) err = store_field(r, &fields[i], value);
    if (is_word(name, "connection")) { /* its lines add up */
        size_t at = 0;
        for (struct peal_span item; peal_list_next(value, &at, &item);)
            if (is_word(item, "upgrade")) r->head.connection_upgrade = true;
    }
    return err;
}

/* ---- the head as a whole --------------------------------------------------------------------- */

static bool is_length(struct peal_span value)
{
    for (size_t i = 0; i < value.size; i++)
        if (!is_digit(value.at[i])) return false;
    return value.size > 0 && value.size <= LENGTH_DIGITS_MAX;
}

static bool has_body(const struct reading *r)
{
    for (size_t i = 0; i < r->content_length.size; i++)
        if (r->content_length.at[i] != '0') return true;
    return false;
}

/* Base64 of 16 bytes; what they are does not matter. */
static bool is_key(struct peal_span key)
{
    if (key.size != WS_KEY_SIZE) return false;
    for (size_t i = 0; i < WS_KEY_LETTERS; i++)
        if (!is_alnum(key.at[i]) && key.at[i] != '+' && key.at[i] != '/') return false;
    return key.at[WS_KEY_LETTERS] == '=' && key.at[WS_KEY_LETTERS + 1] == '=';
}

static enum peal_err check_framing(struct reading *r)
{
    struct peal_span name;
    uint16_t port;
    if (r->head.host.at == NULL && r->http_1_1) return refuse(r, "the header Host is missing");
    if (r->head.host.at != NULL && peal_host_split(r->head.host, &name, &port) != PEAL_OK)
        return refuse(r, "the header Host is not a host");
    if (r->content_length.at != NULL && !is_length(r->content_length))
        return refuse(r, "the header Content-Length is not a number");
    if (r->transfer_encoding.at != NULL)
        return refuse(r, "a body in chunks is not taken: send Content-Length alone");
    return PEAL_OK;
}

/* RFC 6455 section 4.2.1. */
static enum peal_err check_upgrade(struct reading *r)
{
    struct peal_head *head = &r->head;
    if (head->upgrade.at == NULL) return PEAL_OK;
    if (!is_word(head->upgrade, "websocket")) return refuse(r, "the only upgrade is to websocket");
    if (!r->http_1_1 || !peal_span_is(head->method, "GET"))
        return refuse(r, "an upgrade to websocket is a GET with HTTP/1.1");
    if (!head->connection_upgrade) return refuse(r, "the header Connection does not say Upgrade");
    if (has_body(r)) return refuse(r, "an upgrade to websocket has no body");
    if (head->ws_version.at == NULL)
        return refuse(r, "the header Sec-WebSocket-Version is missing");
    if (!peal_span_is(head->ws_version, "13")) {
        snprintf(r->why, r->why_size, "the only version of websocket here is 13");
        return PEAL_EUPGRADE;
    }
    if (!is_key(head->ws_key)) return refuse(r, "the header Sec-WebSocket-Key is not a key");
    head->is_websocket = true;
    return PEAL_OK;
}

static enum peal_err read_head(struct reading *r, struct peal_span text)
{
    struct peal_span line;
    size_t at = 0;
    enum peal_err err = take_line(r, text, &at, &line);
    if (err == PEAL_OK) err = read_request_line(r, line);
    while (err == PEAL_OK) {
        err = take_line(r, text, &at, &line);
        if (err != PEAL_OK) break;
        if (line.size == 0) {
            r->head.size = at;
            err = check_framing(r);
            return err == PEAL_OK ? check_upgrade(r) : err;
        }
        if (r->lines++ == PEAL_HEADERS_MAX) {
            snprintf(r->why, r->why_size, "there are more than %d headers", PEAL_HEADERS_MAX);
            return PEAL_ETOO_LARGE;
        }
        err = read_field(r, line);
    }
    return err;
}

enum peal_err peal_head_parse(struct peal_span text, struct peal_head *out, char *why,
                              size_t why_size)
{
    struct reading r = {.why = why, .why_size = why_size};
    bool full = text.size >= PEAL_HEAD_MAX;
    if (full) text.size = PEAL_HEAD_MAX;
    enum peal_err err = read_head(&r, text);
    if (err == PEAL_EAGAIN && full) {
        snprintf(why, why_size, "the head is larger than %d bytes", PEAL_HEAD_MAX);
        err = PEAL_ETOO_LARGE;
    }
    *out = r.head;
    return err;
}

/* ---- percent-encoding ------------------------------------------------------------------------ */

static int hex_value(char c)
{
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* The character at *at, decoded, and *at behind it; -1 for a bad escape. */
static int take_decoded(struct peal_span text, size_t *at, bool plus_is_blank)
{
    char c = text.at[(*at)++];
    if (c == '+' && plus_is_blank) return ' ';
    if (c != '%') return (unsigned char)c;
    if (text.size - *at < 2) return -1;
    int high = hex_value(text.at[*at]);
    int low = hex_value(text.at[*at + 1]);
    *at += 2;
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

static enum peal_err decode(struct peal_span text, bool plus_is_blank, struct peal_buf *out)
{
    size_t before = out->size;
    for (size_t at = 0; at < text.size;) {
        int c = take_decoded(text, &at, plus_is_blank);
        if (c < 0) {
            out->size = before;
            return PEAL_EBAD_FIELD;
        }
        peal_buf_add_char(out, (char)c);
    }
    if (!out->failed) return PEAL_OK;
    out->size = before;
    return PEAL_ENOMEM;
}

static bool decodes_to(struct peal_span text, const char *name)
{
    size_t at = 0;
    while (at < text.size && *name != '\0')
        if (take_decoded(text, &at, true) != (unsigned char)*name++) return false;
    return at == text.size && *name == '\0';
}

enum peal_err peal_query_get(struct peal_span query, const char *name, struct peal_buf *out)
{
    while (query.size > 0) {
        struct peal_span pair;
        struct peal_span rest = {NULL, 0};
        if (!cut(query, '&', &pair, &rest)) pair = query;
        struct peal_span key = pair;
        struct peal_span value = {NULL, 0};
        cut(pair, '=', &key, &value);
        if (decodes_to(key, name)) return decode(value, true, out);
        query = rest;
    }
    return PEAL_ENOT_FOUND;
}

enum peal_err peal_path_decode(struct peal_span path, struct peal_buf *out)
{
    size_t before = out->size;
    enum peal_err err = decode(path, false, out);
    if (err != PEAL_OK || out->size == before) return err;
    struct peal_span decoded = peal_span_make(out->at + before, out->size - before);
    if (memchr(decoded.at, '\0', decoded.size) == NULL && peal_utf8_valid(decoded)) return PEAL_OK;
    out->size = before;
    return PEAL_EBAD_FIELD;
}

/* native: peal.v1.json, one JSON object per text frame (docs/PROTOCOL.md).
 *
 * Two const tables hold the protocol: `commands` names what a client may say, `fields` says what
 * each field is, which commands take it and which need it. Decoding walks them; so do the tests.
 *
 * Strings are unescaped into one buffer that is reserved at the size of the frame before the
 * first one, because unescaping never makes text longer: spans into it stay valid. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/commands.h"
#include "node/conn.h"
#include "node/wsframe.h"
#include "proto/base64.h"
#include "proto/group.h"
#include "proto/json.h"
#include "proto/json_check.h"
#include "proto/json_write.h"
#include "proto/render.h"

/* ---- rendering ---------------------------------------------------------------------------------
 */

static void add(struct peal_buf *out, const char *text)
{
    peal_buf_add_text(out, text);
}

static void native_message(struct peal_buf *out, const struct peal_envelope *env,
                           const struct peal_message_facts *facts)
{
    peal_buf_reserve(out, env->data.size + env->group.size + 256);
    size_t begin = peal_ws_begin(out);
    peal_render_string(out, "{\"type\":\"message\",\"group\":", env->group);
    peal_buf_add_char(out, ',');
    peal_render_message(out, env);
    if (facts->rev != 0) {
        peal_render_u64(out, ",\"unread\":", facts->unread);
        peal_render_u64(out, ",\"rev\":", facts->rev);
    }
    if (facts->replayed) add(out, ",\"replayed\":true");
    peal_buf_add_char(out, '}');
    peal_ws_end(out, begin, PEAL_WS_TEXT);
}

static const char *recovered_word(enum peal_recovered recovered)
{
    static const char *const words[] = {"pending", "new", "full", "gap"};
    return words[recovered];
}

static void add_position(struct peal_buf *out, const struct peal_member *m)
{
    const struct peal_pursuit *p = m->pursuit; /* until the welcome is said */
    add(out, "{");
    if (p->recovered != PEAL_RECOVERED_PENDING) {
        peal_render_epoch(out, "\"epoch\":", p->epoch);
        peal_render_u64(out, ",\"offset\":", p->cursor);
        add(out, ",");
        if (m->group->inbox) {
            peal_render_u64(out, "\"unread\":", m->group->unread);
            peal_render_u64(out, ",\"rev\":", m->group->rev);
            add(out, ",");
        }
    }
    peal_render_string(out, "\"recovered\":", peal_span_of(recovered_word(p->recovered)));
    add(out, "}");
}

static void add_welcome(struct peal_buf *out, const struct peal_conn *conn)
{
    const struct peal_config *config = conn->hub->config;
    const struct peal_member *inbox = NULL;
    bool first = true;
    peal_render_epoch(out, ",\"session\":", conn->session);
    peal_render_string(out, ",\"node\":", peal_span_of(conn->hub->node_name));
    peal_render_string(out, ",\"user\":", peal_span_of(conn->user));
    peal_render_u64(out, ",\"ping_ms\":", config->limits.ping_ms);
    peal_render_u64(out, ",\"limits\":{\"message\":", config->limits.message);
    peal_render_u64(out, ",\"groups\":", config->limits.groups_per_connection);
    add(out, "},\"groups\":{");
    for (const struct peal_link *it = conn->members.next; it != &conn->members; it = it->next) {
        const struct peal_member *m = PEAL_FROM_LINK(it, struct peal_member, in_conn);
        if (m->group->inbox) {
            inbox = m;
            continue;
        }
        if (m->pursuit->answer == PEAL_ANSWER_JOINED)
            continue; /* a join of its own, answered as such */
        if (!first) add(out, ",");
        first = false;
        peal_json_add_string(out, peal_group_span(m->group));
        add(out, ":");
        add_position(out, m);
    }
    add(out, "}");
    if (inbox == NULL) return;
    add(out, ",\"inbox\":");
    add_position(out, inbox);
}

static void add_joined(struct peal_buf *out, const struct peal_event *e)
{
    peal_render_string(out, ",\"group\":", e->group);
    peal_render_epoch(out, ",\"epoch\":", e->epoch);
    peal_render_u64(out, ",\"offset\":", e->offset);
    if (peal_group_is_inbox(e->group)) {
        peal_render_u64(out, ",\"unread\":", e->unread);
        peal_render_u64(out, ",\"rev\":", e->rev);
    }
    peal_render_string(out, ",\"recovered\":", peal_span_of(recovered_word(e->recovered)));
}

static void add_published(struct peal_buf *out, const struct peal_event *e)
{
    peal_render_string(out, ",\"message_id\":", e->message_id);
    peal_render_string(out, ",\"group\":", e->group);
    peal_render_epoch(out, ",\"epoch\":", e->epoch);
    peal_render_u64(out, ",\"offset\":", e->offset);
    add(out, e->flags & PEAL_FLAG_STORED ? ",\"ack\":\"stored\"" : ",\"ack\":\"routed\"");
    if (e->flags & PEAL_FLAG_DUPLICATE) add(out, ",\"duplicate\":true");
}

static void add_inbox(struct peal_buf *out, const struct peal_event *e)
{
    add(out, ",\"messages\":");
    uint64_t oldest = peal_render_page(out, e->page);
    if (e->flags & PEAL_FLAG_MORE) peal_render_u64(out, ",\"next\":", oldest);
    peal_render_u64(out, ",\"unread\":", e->unread);
    peal_render_u64(out, ",\"rev\":", e->rev);
}

static void add_state(struct peal_buf *out, const struct peal_event *e)
{
    peal_render_string(out, ",\"mark\":", peal_span_of(e->flags & PEAL_FLAG_READ ? "read" : "ack"));
    if (e->upto != 0) peal_render_u64(out, ",\"upto\":", e->upto);
    if (e->offset_count > 0) add(out, ",\"offsets\":[");
    for (size_t i = 0; i < e->offset_count; i++)
        peal_render_u64(out, i == 0 ? "" : ",", e->offsets[i]);
    if (e->offset_count > 0) add(out, "]");
    peal_render_u64(out, ",\"unread\":", e->unread);
    peal_render_u64(out, ",\"rev\":", e->rev);
}

static void add_range(struct peal_buf *out, const struct peal_event *e)
{
    peal_render_string(out, ",\"group\":", e->group);
    peal_render_u64(out, ",\"from\":", e->from);
    peal_render_u64(out, ",\"to\":", e->to);
    if (e->type != PEAL_EVENT_GAP) return;
    peal_render_epoch(out, ",\"epoch\":", e->epoch);
    peal_render_string(out, ",\"why\":", peal_span_of(peal_gap_word(e->why)));
}

/* A list of those with or without a count; nothing at all when there are none of them. */
static void add_names(struct peal_buf *out, const char *name, const struct peal_frame *f, bool came)
{
    bool first = true;
    for (size_t i = 0; i < f->people.count; i++) {
        if ((f->people.at[i].count != 0) != came) continue;
        add(out, first ? name : ",");
        first = false;
        peal_json_add_string(out, f->people.at[i].user);
    }
    if (!first) add(out, "]");
}

static void add_presence(struct peal_buf *out, const struct peal_frame *f)
{
    bool list = f->req != 0;
    peal_render_string(out, ",\"group\":", f->group);
    peal_render_u64(out, ",\"users\":", f->users);
    peal_render_u64(out, ",\"connections\":", f->connections);
    if (list) {
        add(out, ",\"list\":[");
        for (size_t i = 0; i < f->people.count; i++) {
            if (i > 0) add(out, ",");
            peal_json_add_string(out, f->people.at[i].user);
        }
        add(out, "]");
    } else {
        add_names(out, ",\"join\":[", f, true);
        add_names(out, ",\"leave\":[", f, false);
    }
    if (f->flags & PEAL_FLAG_TRUNCATED || (list && f->offset != 0)) add(out, ",\"truncated\":true");
    if (f->flags & PEAL_FLAG_SETTLING) add(out, ",\"settling\":true");
}

enum { AFTER_MS = 1000 }; /* where nobody knows how long it takes */

static void add_error(struct peal_buf *out, const struct peal_event *e)
{
    const char *retry = peal_err_retry(e->err);
    peal_render_string(out, ",\"group\":", e->group);
    peal_render_string(out, ",\"code\":", peal_span_of(peal_err_word(e->err)));
    peal_render_string(out, ",\"message\":", peal_span_of(e->message));
    peal_render_string(out, ",\"retry\":", peal_span_of(retry));
    if (strcmp(retry, "later") == 0)
        peal_render_u64(out, ",\"after_ms\":", e->after_ms > 0 ? e->after_ms : AFTER_MS);
}

static void native_event(struct peal_buf *out, const struct peal_event *e)
{
    static const char *const types[] = {
        [PEAL_EVENT_WELCOME] = "welcome",
        [PEAL_EVENT_JOINED] = "joined",
        [PEAL_EVENT_LEFT] = "left",
        [PEAL_EVENT_PUBLISHED] = "published",
        [PEAL_EVENT_OK] = "ok",
        [PEAL_EVENT_PONG] = "pong",
        [PEAL_EVENT_INBOX] = "inbox",
        [PEAL_EVENT_STATE] = "state",
        [PEAL_EVENT_SKIP] = "skip",
        [PEAL_EVENT_GAP] = "gap",
        [PEAL_EVENT_DEGRADED] = "degraded",
        [PEAL_EVENT_GOAWAY] = "goaway",
        [PEAL_EVENT_PRESENCE] = "presence",
        [PEAL_EVENT_ERROR] = "error",
    };
    size_t begin = peal_ws_begin(out);
    peal_render_string(out, "{\"type\":", peal_span_of(types[e->type]));
    if (e->id.at != NULL) {
        add(out, ",\"id\":");
        peal_buf_add_span(out, e->id);
    }
    switch (e->type) {
    case PEAL_EVENT_WELCOME:
        add_welcome(out, e->conn);
        break;
    case PEAL_EVENT_JOINED:
        add_joined(out, e);
        break;
    case PEAL_EVENT_LEFT:
        peal_render_string(out, ",\"group\":", e->group);
        break;
    case PEAL_EVENT_PUBLISHED:
        add_published(out, e);
        break;
    case PEAL_EVENT_OK:
        peal_render_u64(out, ",\"unread\":", e->unread);
        peal_render_u64(out, ",\"rev\":", e->rev);
        break;
    case PEAL_EVENT_PONG:
        break;
    case PEAL_EVENT_INBOX:
        add_inbox(out, e);
        break;
    case PEAL_EVENT_STATE:
        add_state(out, e);
        break;
    case PEAL_EVENT_SKIP:
    case PEAL_EVENT_GAP:
        add_range(out, e);
        break;
    case PEAL_EVENT_DEGRADED:
        add(out, e->on ? ",\"on\":true" : ",\"on\":false");
        break;
    case PEAL_EVENT_GOAWAY:
        peal_render_u64(out, ",\"in_ms\":", e->in_ms);
        peal_render_u64(out, ",\"spread_ms\":", e->spread_ms);
        break;
    case PEAL_EVENT_PRESENCE:
        add_presence(out, e->page);
        break;
    case PEAL_EVENT_ERROR:
        add_error(out, e);
        break;
    }
    peal_buf_add_char(out, '}');
    peal_ws_end(out, begin, PEAL_WS_TEXT);
}

static void native_ping(struct peal_buf *out, struct peal_span payload)
{
    peal_ws_add_frame(out, PEAL_WS_PING, payload);
}

/* ---- decoding ----------------------------------------------------------------------------------
 */

enum {
    HELLO = 1,
    JOIN = 2,
    LEAVE = 4,
    PUBLISH = 8,
    ACK = 16,
    READ = 32,
    INBOX = 64,
    PING = 128,
    PRESENCE = 256,
};

static const struct command {
    const char *type;
    unsigned bit;
    void (*run)(struct peal_conn *conn, const struct peal_command *cmd);
} commands[] = {
    {"hello", HELLO, peal_command_hello},
    {"join", JOIN, peal_command_join},
    {"leave", LEAVE, peal_command_leave},
    {"publish", PUBLISH, peal_command_publish},
    {"ack", ACK, peal_command_ack},
    {"read", READ, peal_command_read},
    {"inbox", INBOX, peal_command_inbox},
    {"ping", PING, peal_command_ping},
    {"presence", PRESENCE, peal_command_presence},
};

enum field_kind {
    K_JSON,   /* the bytes as they are (id) */
    K_STRING, /* 1..max bytes */
    K_WORD,   /* the same without control characters */
    K_NAME,   /* a group or user name */
    K_U64,    /* 1.. */
    K_BOOL,
    K_OFFSETS,  /* list of u64 */
    K_POSITION, /* [epoch, offset] */
    K_NAMES,    /* list of groups */
    K_RESUME,   /* {groups: {name: position}, inbox: position} */
    K_DATA,     /* a value: its bytes */
    K_TEXT,     /* a string: its characters */
    K_BASE64,   /* a string: the bytes it encodes */
};

static const struct field {
    const char *name;
    enum field_kind kind;
    unsigned takes; /* commands */
    unsigned needs;
    size_t at; /* in struct peal_command */
    size_t max;
} fields[] = {
    {"id", K_JSON, UINT_MAX, 0, offsetof(struct peal_command, id), 64},
    {"token", K_STRING, HELLO, 0, offsetof(struct peal_command, token), PEAL_TOKEN_MAX},
    {"device", K_WORD, HELLO, 0, offsetof(struct peal_command, device), PEAL_DEVICE_MAX},
    /* Before groups: what is resumed and named there again is joined once. */
    {"resume", K_RESUME, HELLO, 0, 0, 0},
    {"groups", K_NAMES, HELLO, 0, 0, 0},
    {"group", K_NAME, JOIN | LEAVE | PUBLISH | PRESENCE, JOIN | LEAVE | PRESENCE,
     offsetof(struct peal_command, group), 0},
    {"user", K_NAME, PUBLISH, 0, offsetof(struct peal_command, user), 0},
    {"since", K_POSITION, JOIN, 0, 0, 0},
    {"last", K_U64, JOIN, 0, offsetof(struct peal_command, last), 0},
    {"upto", K_U64, ACK | READ, 0, offsetof(struct peal_command, upto), 0},
    {"offsets", K_OFFSETS, ACK | READ, 0, 0, 0},
    {"all", K_BOOL, READ, 0, offsetof(struct peal_command, all), 0},
    {"before", K_U64, INBOX, 0, offsetof(struct peal_command, before), 0},
    {"presence", K_BOOL, JOIN, 0, offsetof(struct peal_command, presence), 0},
    {"limit", K_U64, INBOX | PRESENCE, 0, offsetof(struct peal_command, limit), 0},
    {"unread_only", K_BOOL, INBOX, 0, offsetof(struct peal_command, unread_only), 0},
    {"event", K_WORD, PUBLISH, 0, offsetof(struct peal_command, env.event), PEAL_EVENT_MAX},
    {"message_id", K_WORD, PUBLISH, 0, offsetof(struct peal_command, env.id), PEAL_MESSAGE_ID_MAX},
    {"collapse", K_WORD, PUBLISH, 0, offsetof(struct peal_command, env.collapse),
     PEAL_COLLAPSE_MAX},
    {"ttl_ms", K_U64, PUBLISH, 0, offsetof(struct peal_command, env.ttl_ms), 0},
    {"data", K_DATA, PUBLISH, 0, 0, 0},
    {"text", K_TEXT, PUBLISH, 0, 0, 0},
    {"data_base64", K_BASE64, PUBLISH, 0, 0, 0},
};

struct decoder {
    struct peal_command cmd;
    struct peal_buf strings; /* never grows after it was reserved */
    struct peal_buf data;    /* decoded base64 */
    enum peal_err err;
    char why[160];
};

static bool refuse(struct decoder *d, enum peal_err err, const char *field, const char *what)
{
    d->err = err;
    snprintf(d->why, sizeof d->why, "%s %s", field, what);
    return false;
}

static bool take_string(struct decoder *d, const struct peal_json_field *f, size_t max,
                        struct peal_span *out)
{
    size_t start = d->strings.size;
    if (peal_json_string(f->value, &d->strings) != PEAL_OK) return false;
    *out = peal_span_make(d->strings.at + start, d->strings.size - start);
    return max == 0 || (out->size >= 1 && out->size <= max);
}

static bool take_position(struct decoder *d, struct peal_span value, uint64_t *epoch,
                          uint64_t *offset)
{
    size_t at = 0;
    struct peal_span first;
    struct peal_span second;
    struct peal_span rest;
    if (!peal_json_next(value, &at, &first) || !peal_json_next(value, &at, &second)) return false;
    if (peal_json_next(value, &at, &rest)) return false;
    size_t start = d->strings.size;
    if (peal_json_string(first, &d->strings) != PEAL_OK) return false;
    struct peal_span text = peal_span_make(d->strings.at + start, d->strings.size - start);
    return peal_epoch_parse(text, epoch) == PEAL_OK && peal_json_u64(second, offset) == PEAL_OK;
}

static bool take_offsets(struct decoder *d, struct peal_span value)
{
    struct peal_span element;
    size_t at = 0;
    if (peal_json_kind_of(value) != PEAL_JSON_ARRAY) return false;
    d->cmd.offsets = calloc(PEAL_ACK_OFFSETS_MAX, sizeof *d->cmd.offsets);
    if (d->cmd.offsets == NULL) return false;
    while (peal_json_next(value, &at, &element)) {
        if (d->cmd.offset_count == PEAL_ACK_OFFSETS_MAX) return false;
        if (peal_json_u64(element, &d->cmd.offsets[d->cmd.offset_count]) != PEAL_OK) return false;
        d->cmd.offset_count++;
    }
    return true;
}

/* NULL when there are too many, or no memory. */
static struct peal_join *new_group(struct decoder *d)
{
    if (d->cmd.group_count == PEAL_HELLO_GROUPS_MAX) return NULL;
    struct peal_join *more =
        realloc(d->cmd.groups, (d->cmd.group_count + 1) * sizeof *d->cmd.groups);
    if (more == NULL) return NULL;
    d->cmd.groups = more;
    struct peal_join *join = &more[d->cmd.group_count];
    *join = (struct peal_join){0};
    return join;
}

static bool take_names(struct decoder *d, struct peal_span value)
{
    struct peal_span element;
    size_t at = 0;
    if (peal_json_kind_of(value) != PEAL_JSON_ARRAY) return false;
    while (peal_json_next(value, &at, &element)) {
        struct peal_json_field f = {.value = element};
        struct peal_join *join = new_group(d);
        if (join == NULL || !take_string(d, &f, 0, &join->group)) return false;
        /* A group that is resumed need not be named twice. */
        bool known = false;
        for (size_t i = 0; i < d->cmd.group_count && !known; i++)
            known = peal_span_equal(d->cmd.groups[i].group, join->group);
        if (!known) d->cmd.group_count++;
    }
    return true;
}

static bool take_resume(struct decoder *d, struct peal_span value)
{
    struct peal_json resume;
    if (peal_json_object(value, &resume) != PEAL_OK) return false;
    const struct peal_json_field *inbox = peal_json_get(&resume, "inbox");
    const struct peal_json_field *groups = peal_json_get(&resume, "groups");
    if (inbox != NULL && inbox->kind != PEAL_JSON_NULL) {
        d->cmd.has_inbox = true;
        if (!take_position(d, inbox->value, &d->cmd.inbox_epoch, &d->cmd.inbox_offset))
            return false;
    }
    if (groups == NULL) return true;
    if (groups->kind != PEAL_JSON_OBJECT) return false;
    size_t at = 0;
    struct peal_span name;
    struct peal_span position;
    while (peal_json_next_field(groups->value, &at, &name, &position)) {
        struct peal_join *join = new_group(d);
        struct peal_json_field f = {.value = name};
        if (join == NULL || !take_string(d, &f, 0, &join->group)) return false;
        join->has_since = true;
        if (!take_position(d, position, &join->epoch, &join->offset)) return false;
        d->cmd.group_count++;
    }
    return true;
}

static bool take_data(struct decoder *d, const struct field *field, const struct peal_json_field *f)
{
    struct peal_envelope *env = &d->cmd.env;
    if (env->data.at != NULL)
        return refuse(d, PEAL_EBAD_FIELD, field->name, "may not stand beside other data");
    if (field->kind == K_DATA) {
        env->data = f->value;
        return true;
    }
    if (field->kind == K_TEXT) {
        env->data_kind = PEAL_DATA_TEXT;
        if (take_string(d, f, 0, &env->data)) return true;
        return refuse(d, PEAL_EBAD_FIELD, field->name, "must be a string");
    }
    struct peal_span text;
    env->data_kind = PEAL_DATA_BINARY;
    if (!take_string(d, f, 0, &text) || peal_base64_decode(text, &d->data) != PEAL_OK)
        return refuse(d, PEAL_EBAD_FIELD, field->name, "must be base64");
    env->data = d->data.at == NULL ? peal_span_of("") : peal_buf_span(&d->data);
    return true;
}

static bool take_field(struct decoder *d, const struct field *field,
                       const struct peal_json_field *f)
{
    void *at = (char *)&d->cmd + field->at;
    struct peal_span *span = at;
    switch (field->kind) {
    case K_JSON:
        *span = f->value;
        if (span->size <= field->max && f->kind != PEAL_JSON_OBJECT && f->kind != PEAL_JSON_ARRAY)
            return true;
        *span = (struct peal_span){0};
        return refuse(d, PEAL_EBAD_FIELD, field->name, "must be a short string or number");
    case K_STRING:
        if (take_string(d, f, field->max, span)) return true;
        return refuse(d, PEAL_EBAD_FIELD, field->name, "must be a string that is not too long");
    case K_WORD:
        if (take_string(d, f, field->max, span) && peal_name_check(*span) == PEAL_OK) return true;
        return refuse(d, PEAL_EBAD_FIELD, field->name,
                      "must be a short string without control characters");
    case K_NAME:
        if (take_string(d, f, 0, span) && peal_name_check(*span) == PEAL_OK) return true;
        *span = (struct peal_span){0};
        return refuse(d, PEAL_EBAD_GROUP, field->name,
                      "must be 1..200 bytes of UTF-8 without control characters");
    case K_U64:
        if (peal_json_u64(f->value, at) == PEAL_OK) return true;
        return refuse(d, PEAL_EBAD_FIELD, field->name, "must be a whole number");
    case K_BOOL:
        if (peal_json_bool(f->value, at) == PEAL_OK) return true;
        return refuse(d, PEAL_EBAD_FIELD, field->name, "must be true or false");
    case K_OFFSETS:
        if (take_offsets(d, f->value)) return true;
        return refuse(d, PEAL_EBAD_FIELD, field->name, "must be a list of at most 1024 offsets");
    case K_POSITION:
        d->cmd.has_since = true;
        if (take_position(d, f->value, &d->cmd.since_epoch, &d->cmd.since_offset)) return true;
        return refuse(d, PEAL_EBAD_FIELD, field->name, "must be [epoch, offset]");
    case K_NAMES:
        if (take_names(d, f->value)) return true;
        return refuse(d, PEAL_EBAD_FIELD, field->name,
                      "must be a list of at most 1024 group names");
    case K_RESUME:
        if (take_resume(d, f->value)) return true;
        return refuse(d, PEAL_EBAD_FIELD, field->name,
                      "must be {groups: {name: [epoch, offset]}, inbox: [epoch, offset]}, with at "
                      "most 1024 groups");
    default:
        return take_data(d, field, f);
    }
}

static bool decode_fields(struct decoder *d, const struct peal_json *json, unsigned bit)
{
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const struct peal_json_field *f = peal_json_get(json, fields[i].name);
        if (!(fields[i].takes & bit)) continue;
        if (f != NULL && f->kind == PEAL_JSON_NULL && fields[i].kind != K_DATA) f = NULL;
        if (f == NULL && (fields[i].needs & bit))
            return refuse(d, PEAL_EMISSING_FIELD, fields[i].name, "is missing");
        if (f != NULL && !take_field(d, &fields[i], f)) return false;
    }
    if (bit == PUBLISH) {
        bool both = d->cmd.group.at != NULL && d->cmd.user.at != NULL;
        if (both) return refuse(d, PEAL_EBAD_FIELD, "user", "may not stand beside group");
        if (d->cmd.group.at == NULL && d->cmd.user.at == NULL)
            return refuse(d, PEAL_EMISSING_FIELD, "group", "is missing");
        if (d->cmd.env.data.at == NULL) return refuse(d, PEAL_EMISSING_FIELD, "data", "is missing");
        if (d->cmd.env.id.at != NULL) d->cmd.env.flags |= PEAL_MSG_ID_GIVEN;
    }
    if ((bit == ACK || bit == READ) && d->cmd.upto == 0 && d->cmd.offset_count == 0 && !d->cmd.all)
        return refuse(d, PEAL_EMISSING_FIELD, "upto", "is missing");
    return true;
}

static const struct command *find_command(struct decoder *d, const struct peal_json *json)
{
    const struct peal_json_field *type = peal_json_get(json, "type");
    struct peal_span word = {0};
    if (type == NULL) {
        refuse(d, PEAL_EMISSING_FIELD, "type", "is missing");
        return NULL;
    }
    if (!take_string(d, type, 64, &word)) {
        refuse(d, PEAL_EBAD_FIELD, "type", "must be a string");
        return NULL;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (peal_span_is(word, commands[i].type)) return &commands[i];
    refuse(d, PEAL_EUNKNOWN_TYPE, "type", "is none that this server knows");
    return NULL;
}

static void receive_one(struct peal_conn *conn, struct peal_span text)
{
    struct decoder d = {0};
    struct peal_json json;
    const struct command *command = NULL;
    d.err = peal_json_check(text, d.why, sizeof d.why);
    if (d.err == PEAL_OK && peal_json_object(text, &json) != PEAL_OK)
        refuse(&d, PEAL_EBAD_MESSAGE, "a command", "is one JSON object");
    if (d.err == PEAL_OK && peal_buf_reserve(&d.strings, text.size) == NULL)
        refuse(&d, PEAL_ENOMEM, "memory", "is short");
    if (d.err == PEAL_OK) {
        /* The id first: whatever else is wrong, the answer says to which command. */
        const struct peal_json_field *id = peal_json_get(&json, "id");
        if (id == NULL || take_field(&d, &fields[0], id)) command = find_command(&d, &json);
    }
    if (command != NULL && !decode_fields(&d, &json, command->bit)) command = NULL;
    if (command != NULL) {
        if (conn->greeted && command->bit != HELLO) conn->bad_count = 0;
        command->run(conn, &d.cmd);
    } else {
        peal_command_bad(conn, d.cmd.id, d.err, d.why);
    }
    free(d.cmd.offsets);
    free(d.cmd.groups);
    peal_buf_fini(&d.strings);
    peal_buf_fini(&d.data);
}

/* Several commands may come in one frame, one per line. */
static void native_receive(struct peal_conn *conn, bool text, struct peal_span payload)
{
    if (!text) {
        peal_command_bad(conn, (struct peal_span){0}, PEAL_EBAD_MESSAGE,
                         "commands are text frames");
        return;
    }
    if (memchr(payload.at, '\n', payload.size) == NULL ||
        peal_json_check(payload, NULL, 0) == PEAL_OK) {
        receive_one(conn, payload);
        return;
    }
    while (payload.size > 0 && conn->open) {
        const char *end = memchr(payload.at, '\n', payload.size);
        size_t size = end == NULL ? payload.size : (size_t)(end - payload.at);
        bool blank = size == 0 || (size == 1 && payload.at[0] == '\r');
        if (!blank && peal_conn_count(conn, 1)) receive_one(conn, peal_span_make(payload.at, size));
        size_t used = end == NULL ? size : size + 1;
        payload = peal_span_make(payload.at + used, payload.size - used);
    }
}

const struct peal_dialect peal_dialect_native = {
    .kind = PEAL_DIALECT_NATIVE,
    .name = "native",
    .acks = true,
    .hello = true,
    .events = UINT32_MAX,
    .message = native_message,
    .event = native_event,
    .ping = native_ping,
    .farewell = peal_ws_add_close,
    .receive = native_receive,
};

#include "storage/dump_line.h"

#include <stdio.h>
#include <string.h>

#include "proto/base64.h"
#include "proto/group.h"
#include "proto/json.h"
#include "proto/json_check.h"
#include "proto/json_write.h"
#include "proto/utf8.h"

static const char *const kind_names[PEAL_DATA_KIND_COUNT] = {
    [PEAL_DATA_JSON] = "json",
    [PEAL_DATA_TEXT] = "text",
    [PEAL_DATA_BINARY] = "binary",
};

void peal_dump_room_fini(struct peal_dump_room *room)
{
    peal_buf_fini(&room->texts);
    peal_buf_fini(&room->ranges);
}

/* ---- encoding ----------------------------------------------------------------------------- */

static void add_name(struct peal_buf *out, const char *name, const char *suffix)
{
    peal_buf_add_format(out, "%s\"%s%s\":", out->at[out->size - 1] == '{' ? "" : ",", name, suffix);
}

static void add_number(struct peal_buf *out, const char *name, uint64_t number)
{
    add_name(out, name, "");
    peal_buf_add_u64(out, number);
}

static void add_given(struct peal_buf *out, const char *name, uint64_t number)
{
    if (number != 0) add_number(out, name, number);
}

static void add_base64(struct peal_buf *out, const char *name, const char *suffix,
                       struct peal_span bytes)
{
    add_name(out, name, suffix);
    peal_json_add_base64(out, bytes);
}

static void add_bytes(struct peal_buf *out, const char *name, struct peal_span bytes)
{
    if (!peal_utf8_valid(bytes)) {
        add_base64(out, name, "_base64", bytes);
        return;
    }
    add_name(out, name, "");
    peal_json_add_string(out, bytes);
}

static void add_text(struct peal_buf *out, const char *name, struct peal_span bytes)
{
    if (bytes.size > 0) add_bytes(out, name, bytes);
}

static void add_range(struct peal_buf *out, uint64_t from, uint64_t to)
{
    peal_buf_add_format(out, "%s[%llu,%llu]", out->at[out->size - 1] == '[' ? "" : ",",
                        (unsigned long long)from, (unsigned long long)to);
}

static void add_ranges(struct peal_buf *out, const char *name, const struct peal_dump_range *at,
                       size_t count)
{
    add_name(out, name, "");
    peal_buf_add_char(out, '[');
    for (size_t i = 0; i < count && !out->failed; i++)
        add_range(out, at[i].from, at[i].to);
    peal_buf_add_char(out, ']');
}

static void add_marks(struct peal_buf *out, const char *name, const struct peal_inbox *inbox,
                      bool (*is_set)(const struct peal_inbox *inbox, uint64_t offset))
{
    uint64_t begin = 0;
    add_name(out, name, "");
    peal_buf_add_char(out, '[');
    for (uint64_t offset = inbox->n.first; offset <= inbox->n.next && !out->failed; offset++) {
        bool set = offset < inbox->n.next && is_set(inbox, offset);
        if (set && begin == 0) begin = offset;
        if (set || begin == 0) continue;
        add_range(out, begin, offset - 1);
        begin = 0;
    }
    peal_buf_add_char(out, ']');
}

static void add_numbers(struct peal_buf *out, struct peal_span group, const struct peal_numbers *n)
{
    add_bytes(out, "group", group);
    add_number(out, "epoch", n->epoch);
    add_number(out, "next", n->next);
    add_number(out, "first", n->first);
    add_number(out, "lost_to", n->lost_to);
    add_number(out, "rev", n->rev);
    add_number(out, "last_mark_ms", n->last_mark_ms);
}

static void add_message(struct peal_buf *out, const struct peal_dump_line *line)
{
    const struct peal_envelope *env = &line->env;
    add_number(out, "offset", env->offset);
    add_number(out, "stored_ms", line->stored_ms);
    add_given(out, "expires_ms", line->expires_ms);
    add_bytes(out, "id", env->id);
    add_number(out, "ts_ms", env->ts_ms);
    add_text(out, "event", env->event);
    add_text(out, "from", env->from);
    add_given(out, "ttl_ms", env->ttl_ms);
    add_text(out, "collapse", env->collapse);
    add_text(out, "trace", env->trace);
    add_given(out, "flags", env->flags);
    add_name(out, "kind", "");
    peal_json_add_string(out, peal_span_of(kind_names[env->data_kind]));
    add_bytes(out, "data", env->data);
}

void peal_dump_encode(const struct peal_dump_line *line, struct peal_buf *out)
{
    peal_buf_add_char(out, '{');
    if (out->failed) return; /* what follows looks at what is there */
    switch (line->kind) {
    case PEAL_DUMP_HEADER:
        add_number(out, "peal_dump", line->version);
        add_number(out, "generation", line->generation);
        add_number(out, "made_ms", line->made_ms);
        if (line->has_slots) add_base64(out, "slots", "", line->slots);
        break;
    case PEAL_DUMP_GROUP:
        add_numbers(out, line->group, &line->numbers);
        add_ranges(out, "delivered", line->delivered, line->delivered_count);
        add_ranges(out, "read", line->read, line->read_count);
        break;
    case PEAL_DUMP_MESSAGE:
        add_message(out, line);
        break;
    case PEAL_DUMP_END:
        peal_buf_add_text(out, "\"end\":true");
        add_number(out, "groups", line->groups);
        add_number(out, "messages", line->messages);
        break;
    }
    peal_buf_add_text(out, "}\n");
}

void peal_dump_encode_head(struct peal_span group, const struct peal_inbox *inbox,
                           struct peal_buf *out)
{
    peal_buf_add_char(out, '{');
    if (out->failed) return;
    add_numbers(out, group, &inbox->n);
    add_marks(out, "delivered", inbox, peal_inbox_delivered);
    add_marks(out, "read", inbox, peal_inbox_read);
    peal_buf_add_text(out, "}\n");
}

/* ---- decoding ----------------------------------------------------------------------------- */

/* The fields of one line; the first error stays. */
struct reader {
    struct peal_json json;
    struct peal_dump_room *room;
    enum peal_err err;
    char *why;
    size_t why_size;
};

static void bad(struct reader *r, const char *name, const char *what)
{
    if (r->err != PEAL_OK) return;
    r->err = PEAL_EBAD_FIELD;
    snprintf(r->why, r->why_size, "\"%s\" %s", name, what);
}

static void no_memory(struct reader *r)
{
    if (r->err == PEAL_OK) snprintf(r->why, r->why_size, "out of memory");
    r->err = PEAL_ENOMEM;
}

static uint64_t take_given(struct reader *r, const char *name)
{
    uint64_t number = 0;
    const struct peal_json_field *field = peal_json_get(&r->json, name);
    if (field != NULL && peal_json_u64(field->value, &number) != PEAL_OK)
        bad(r, name, "is not a whole number below 2^53");
    return number;
}

static uint64_t take_number(struct reader *r, const char *name)
{
    if (peal_json_get(&r->json, name) == NULL) bad(r, name, "is missing");
    return take_given(r, name);
}

/* A text in the room: where it begins, because the room may still move. */
struct text {
    size_t at;
    size_t size;
};

static struct text take_base64(struct reader *r, const char *name,
                               const struct peal_json_field *field)
{
    struct peal_buf letters = {0};
    struct text text = {r->room->texts.size, 0};
    enum peal_err err = peal_json_string(field->value, &letters);
    if (letters.failed) err = PEAL_ENOMEM;
    if (err == PEAL_OK) err = peal_base64_decode(peal_buf_span(&letters), &r->room->texts);
    peal_buf_fini(&letters);
    if (err == PEAL_ENOMEM) no_memory(r);
    if (err != PEAL_OK) bad(r, name, "is not base64");
    text.size = r->room->texts.size - text.at;
    return text;
}

/* NAME, or NAME_base64. */
static struct text take_text(struct reader *r, const char *name)
{
    char other[32];
    struct text text = {r->room->texts.size, 0};
    const struct peal_json_field *field = peal_json_get(&r->json, name);
    snprintf(other, sizeof other, "%s_base64", name);
    if (field == NULL) {
        field = peal_json_get(&r->json, other);
        return field == NULL ? text : take_base64(r, other, field);
    }
    if (peal_json_string(field->value, &r->room->texts) != PEAL_OK) bad(r, name, "is not a string");
    if (r->room->texts.failed) no_memory(r);
    text.size = r->room->texts.size - text.at;
    return text;
}

static struct peal_span span_of(const struct reader *r, struct text text)
{
    if (text.size == 0) return (struct peal_span){0};
    return peal_span_make(r->room->texts.at + text.at, text.size);
}

static bool range_take(struct peal_span element, struct peal_dump_range *out)
{
    size_t at = 0;
    struct peal_span number;
    if (peal_json_kind_of(element) != PEAL_JSON_ARRAY) return false;
    if (!peal_json_next(element, &at, &number) || peal_json_u64(number, &out->from) != PEAL_OK)
        return false;
    if (!peal_json_next(element, &at, &number) || peal_json_u64(number, &out->to) != PEAL_OK)
        return false;
    return !peal_json_next(element, &at, &number) && out->from <= out->to;
}

static size_t take_ranges(struct reader *r, const char *name)
{
    size_t at = 0;
    size_t count = 0;
    struct peal_span element;
    struct peal_dump_range range;
    const struct peal_json_field *field = peal_json_get(&r->json, name);
    if (field == NULL || field->kind != PEAL_JSON_ARRAY) {
        bad(r, name, "is not an array");
        return 0;
    }
    while (r->err == PEAL_OK && peal_json_next(field->value, &at, &element)) {
        if (!range_take(element, &range))
            bad(r, name, "has something else than [from, to]");
        else
            peal_buf_add(&r->room->ranges, &range, sizeof range);
        if (r->room->ranges.failed) no_memory(r);
        count++;
    }
    return count;
}

static void take_header(struct reader *r, struct peal_dump_line *out)
{
    const struct peal_json_field *slots = peal_json_get(&r->json, "slots");
    out->version = take_number(r, "peal_dump");
    if (r->err == PEAL_OK && out->version != PEAL_DUMP_VERSION)
        bad(r, "peal_dump", "is of a version that this program does not know");
    out->generation = take_number(r, "generation");
    out->made_ms = take_number(r, "made_ms");
    if (slots == NULL) return;
    out->has_slots = true;
    struct text text = take_base64(r, "slots", slots);
    if (r->err == PEAL_OK) out->slots = span_of(r, text);
}

static void take_group(struct reader *r, struct peal_dump_line *out)
{
    struct peal_numbers *n = &out->numbers;
    struct text group = take_text(r, "group");
    n->epoch = take_number(r, "epoch");
    n->next = take_number(r, "next");
    n->first = take_number(r, "first");
    n->lost_to = take_number(r, "lost_to");
    n->rev = take_number(r, "rev");
    n->last_mark_ms = take_number(r, "last_mark_ms");
    if (n->first == 0 || n->first > n->next || n->next - n->first > PEAL_INBOX_MESSAGES_MAX)
        bad(r, "first", "does not fit \"next\"");
    if (n->lost_to >= n->first) bad(r, "lost_to", "is not below \"first\"");
    out->delivered_count = take_ranges(r, "delivered");
    out->read_count = take_ranges(r, "read");
    if (r->err != PEAL_OK) return;
    out->delivered = (const void *)r->room->ranges.at;
    out->read = out->delivered == NULL ? NULL : out->delivered + out->delivered_count;
    out->group = span_of(r, group);
    if (peal_name_check(out->group) != PEAL_OK) bad(r, "group", "is no name of a group");
}

static enum peal_data_kind take_kind(struct reader *r)
{
    const struct peal_json_field *field = peal_json_get(&r->json, "kind");
    for (enum peal_data_kind i = 0; field != NULL && i < PEAL_DATA_KIND_COUNT; i++) {
        size_t size = strlen(kind_names[i]);
        if (field->kind == PEAL_JSON_STRING && field->value.size == size + 2 &&
            memcmp(field->value.at + 1, kind_names[i], size) == 0)
            return i;
    }
    bad(r, "kind", "is not json, text or binary");
    return PEAL_DATA_JSON;
}

static void take_message(struct reader *r, struct peal_dump_line *out)
{
    struct peal_envelope *env = &out->env;
    static const char *const names[] = {"id", "event", "from", "collapse", "trace", "data"};
    static const size_t most[] = {PEAL_MESSAGE_ID_MAX, PEAL_EVENT_MAX,      PEAL_NAME_MAX,
                                  PEAL_COLLAPSE_MAX,   PEAL_WIRE_BYTES_MAX, PEAL_WIRE_BYTES_MAX};
    struct text texts[6];
    env->offset = take_number(r, "offset");
    out->stored_ms = take_number(r, "stored_ms");
    out->expires_ms = take_given(r, "expires_ms");
    env->ts_ms = take_number(r, "ts_ms");
    env->ttl_ms = take_given(r, "ttl_ms");
    env->flags = take_given(r, "flags");
    env->data_kind = take_kind(r);
    for (size_t i = 0; i < 6; i++) {
        texts[i] = take_text(r, names[i]);
        if (texts[i].size > most[i]) bad(r, names[i], "is too long");
    }
    if (texts[0].size == 0) bad(r, "id", "is missing");
    if (r->err != PEAL_OK) return;
    env->id = span_of(r, texts[0]);
    env->event = span_of(r, texts[1]);
    env->from = span_of(r, texts[2]);
    env->collapse = span_of(r, texts[3]);
    env->trace = span_of(r, texts[4]);
    env->data = span_of(r, texts[5]);
}

static void take_end(struct reader *r, struct peal_dump_line *out)
{
    out->groups = take_number(r, "groups");
    out->messages = take_number(r, "messages");
}

enum peal_err peal_dump_decode(struct peal_span text, struct peal_dump_room *room,
                               struct peal_dump_line *out, char *why, size_t why_size)
{
    struct reader r = {.room = room, .why = why, .why_size = why_size};
    room->texts.size = room->ranges.size = 0;
    *out = (struct peal_dump_line){0};
    enum peal_err err = peal_json_check(text, why, why_size);
    if (err != PEAL_OK) return err;
    if (peal_json_object(text, &r.json) != PEAL_OK) {
        snprintf(why, why_size, "it is not an object");
        return PEAL_EBAD_JSON;
    }
    if (peal_json_get(&r.json, "peal_dump") != NULL) {
        out->kind = PEAL_DUMP_HEADER;
        take_header(&r, out);
    } else if (peal_json_get(&r.json, "end") != NULL) {
        out->kind = PEAL_DUMP_END;
        take_end(&r, out);
    } else if (peal_json_get(&r.json, "offset") != NULL) {
        out->kind = PEAL_DUMP_MESSAGE;
        take_message(&r, out);
    } else {
        out->kind = PEAL_DUMP_GROUP;
        take_group(&r, out);
    }
    return r.err;
}

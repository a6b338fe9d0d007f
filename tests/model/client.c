/* A client of the native protocol, as an application would be: it remembers its positions, comes
 * back with them to any node, publishes one message at a time and repeats what was not answered. */
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "base/assert.h"
#include "node/member.h"
#include "node/wsframe.h"
#include "proto/group.h"
#include "proto/json.h"
#include "proto/json_check.h"
#include "tests/model/world.h"
#include "tests/unit/frame.h"

typedef unsigned long long llu;

void client_init(struct world *w, int index)
{
    /* Clients 0, 2, .. are the first user's, the others the second's. */
    w->clients[index] = (struct client){.world = w, .index = index, .user = index % USERS};
}

/* ---- what it says -------------------------------------------------------------------------- */

static void say(struct client *c, const char *json)
{
    struct world *w = c->world;
    const struct node *node = &w->nodes[c->node];
    PEAL_ASSERT(c->connected);
    world_trace(w, "client %d -> node %d: %s", c->index, c->node, json);
    peal_hub_set_time(c->conn.hub, w->now_ms, w->now_ms);
    PEAL_ASSERT(node->uplink != NULL);
    peal_conn_on_receive(&c->conn, true, peal_span_of(json));
}

/* Resumes what it was a member of, and the inbox once it has a position. */
static void say_hello(struct client *c)
{
    struct peal_buf hello = {0};
    bool first = true;
    peal_buf_add_text(&hello, "{\"type\":\"hello\",\"id\":1,\"resume\":{\"groups\":{");
    for (int g = 0; g < INBOXES; g++) {
        const struct checker_member *m = checker_member(&c->world->checker, c->index, g);
        if (!m->member || !m->known) continue;
        peal_buf_add_format(&hello, "%s\"%s\":[\"%llx\",%llu]", first ? "" : ",", world_groups[g],
                            (llu)m->epoch, (llu)m->offset);
        first = false;
    }
    peal_buf_add_text(&hello, "}");
    const struct checker_member *inbox =
        checker_member(&c->world->checker, c->index, client_inbox(c));
    if (inbox->known)
        peal_buf_add_format(&hello, ",\"inbox\":[\"%llx\",%llu]", (llu)inbox->epoch,
                            (llu)inbox->offset);
    peal_buf_add_text(&hello, "}}");
    peal_buf_add_char(&hello, '\0');
    say(c, hello.at);
    peal_buf_fini(&hello);
}

void client_connect(struct client *c, int node)
{
    static struct peal_config_route route = {
        .path = "/", .dialect = PEAL_DIALECT_NATIVE, .identity = PEAL_IDENTITY_URL};
    struct peal_route_match match = {.route = &route};
    struct peal_conn_open from = {.match = &match, .user = peal_span_of(world_users[c->user])};
    struct world *w = c->world;
    PEAL_ASSERT(!c->connected);
    if (w->nodes[node].uplink == NULL || w->nodes[node].stalled_until_ms > w->now_ms) return;
    c->node = node;
    c->hub = (int)dice_below(&w->dice, HUBS);
    c->reads = true;
    c->publisher = ROUTERS + w->publishers++;
    c->value = 0;
    struct peal_hub *hub = &w->nodes[node].hubs[c->hub].hub;
    peal_hub_set_time(hub, w->now_ms, w->now_ms);
    enum peal_err err = peal_conn_init(&c->conn, hub, &from);
    PEAL_ASSERT(err == PEAL_OK);
    c->connected = true;
    say_hello(c);
}

void client_disconnect(struct client *c)
{
    if (!c->connected) return;
    world_trace(c->world, "client %d is gone from node %d", c->index, c->node);
    peal_conn_fini(&c->conn);
    c->connected = false;
    c->welcomed = false;
    for (int g = 0; g < GROUPS; g++)
        c->presence[g].heard = false;
}

void client_join(struct client *c, int group, const char *more)
{
    char json[160];
    if (!c->connected || !c->conn.greeted) return;
    snprintf(json, sizeof json, "{\"type\":\"join\",\"group\":\"%s\"%s}", world_groups[group],
             more);
    say(c, json);
}

void client_leave(struct client *c, int group)
{
    char json[160];
    if (!c->connected || !c->conn.greeted) return;
    snprintf(json, sizeof json, "{\"type\":\"leave\",\"group\":\"%s\"}", world_groups[group]);
    say(c, json);
}

void client_publish(struct client *c, int group)
{
    char json[200];
    struct world *w = c->world;
    if (!c->connected || !c->conn.greeted) return;
    if (c->value == 0) {
        c->value = ++w->values;
        c->value_group = group;
    } else if (w->now_ms - c->asked_ms < PEAL_REQUEST_MS + 1000) {
        return; /* the answer may still come */
    }
    c->asked_ms = w->now_ms;
    checker_on_publish(&w->checker, c->value_group, c->publisher, c->value);
    snprintf(json, sizeof json,
             "{\"type\":\"publish\",\"id\":%llu,\"group\":\"%s\",\"message_id\":\"m%llu\","
             "\"data\":%llu}",
             (llu)c->value, world_groups[c->value_group], (llu)c->value, (llu)c->value);
    say(c, json);
}

void client_mark(struct client *c, const char *how)
{
    char json[160];
    const struct checker_member *m = checker_member(&c->world->checker, c->index, client_inbox(c));
    if (!c->connected || !c->conn.greeted || !m->known || m->offset == 0) return;
    snprintf(json, sizeof json, "{\"type\":\"%s\",\"upto\":%llu}", how, (llu)m->offset);
    say(c, json);
}

/* ---- what it is told ----------------------------------------------------------------------- */

static bool number_of(const struct peal_json *json, const char *name, uint64_t *out)
{
    const struct peal_json_field *f = peal_json_get(json, name);
    *out = 0;
    return f != NULL && peal_json_u64(f->value, out) == PEAL_OK;
}

static struct peal_span word_of(const struct peal_json *json, const char *name)
{
    const struct peal_json_field *f = peal_json_get(json, name);
    if (f == NULL || f->value.size < 2) return (struct peal_span){0};
    return peal_span_make(f->value.at + 1, f->value.size - 2); /* nothing here is escaped */
}

static uint64_t epoch_of(const struct peal_json *json)
{
    uint64_t epoch = 0;
    enum peal_err err = peal_epoch_parse(word_of(json, "epoch"), &epoch);
    PEAL_ASSERT(err == PEAL_OK);
    return epoch;
}

static void on_unread(struct client *c, int g, const struct peal_json *json)
{
    uint64_t unread;
    uint64_t rev;
    if (!number_of(json, "unread", &unread) || !number_of(json, "rev", &rev)) return;
    checker_on_unread(&c->world->checker, c->index, g, unread, rev);
}

/* The position after which messages will follow. */
static void on_position(struct client *c, int g, const struct peal_json *json)
{
    uint64_t offset;
    struct peal_span word = word_of(json, "recovered");
    if (peal_span_is(word, "pending")) return;
    number_of(json, "offset", &offset);
    enum checker_recovered recovered = peal_span_is(word, "full")  ? CHECKER_FULL
                                       : peal_span_is(word, "gap") ? CHECKER_GAP
                                                                   : CHECKER_NEW;
    checker_on_joined(&c->world->checker, c->index, g, epoch_of(json), offset, recovered);
    /* With a gap ahead the counts may be those of another epoch. */
    if (recovered != CHECKER_GAP) on_unread(c, g, json);
}

static void on_welcome(struct client *c, const struct peal_json *json)
{
    struct peal_span name;
    struct peal_span value;
    struct peal_json position;
    size_t at = 0;
    c->welcomed = true;
    enum peal_err err = peal_json_object(peal_json_get(json, "inbox")->value, &position);
    PEAL_ASSERT(err == PEAL_OK);
    on_position(c, client_inbox(c), &position);
    while (peal_json_next_field(peal_json_get(json, "groups")->value, &at, &name, &value)) {
        err = peal_json_object(value, &position);
        PEAL_ASSERT(err == PEAL_OK);
        on_position(c, world_group_of(peal_span_make(name.at + 1, name.size - 2)), &position);
    }
}

static void note_there(struct client_presence *p, const struct peal_json *json, const char *name,
                       bool there)
{
    const struct peal_json_field *f = peal_json_get(json, name);
    struct peal_span user;
    size_t at = 0;
    while (f != NULL && peal_json_next(f->value, &at, &user))
        for (int u = 0; u < USERS; u++)
            if (peal_span_is(peal_span_make(user.at + 1, user.size - 2), world_users[u]))
                p->there[u] = there;
}

/* What a page that shows who is there would do. */
static void on_presence(struct client *c, int g, const struct peal_json *json)
{
    struct client_presence *p = &c->presence[g];
    bool list = peal_json_get(json, "list") != NULL;
    bool part = peal_json_get(json, "truncated") != NULL || peal_json_get(json, "settling") != NULL;
    if (!list && !p->heard)
        checker_fail(&c->world->checker, "client %d was told of a change in %s before the list",
                     c->index, world_groups[g]);
    if (list) *p = (struct client_presence){.heard = true};
    p->unsure = p->unsure || part;
    note_there(p, json, "list", true);
    note_there(p, json, "join", true);
    note_there(p, json, "leave", false);
    number_of(json, "users", &p->users);
    number_of(json, "connections", &p->connections);
}

static void on_published(struct client *c, const struct peal_json *json)
{
    uint64_t id;
    uint64_t offset;
    number_of(json, "id", &id);
    number_of(json, "offset", &offset);
    int g = world_group_of(word_of(json, "group"));
    checker_on_ack(&c->world->checker, g, id, epoch_of(json), offset,
                   peal_span_is(word_of(json, "ack"), "stored"));
    if (id == c->value) c->value = 0;
}

static void on_group_event(struct client *c, struct peal_span type, const struct peal_json *json)
{
    struct checker *checker = &c->world->checker;
    int g = world_group_of(word_of(json, "group"));
    uint64_t offset;
    uint64_t value;
    uint64_t from;
    uint64_t to;
    number_of(json, "from", &from);
    number_of(json, "to", &to);
    if (peal_span_is(type, "joined")) {
        on_position(c, g, json);
    } else if (peal_span_is(type, "left")) {
        checker_on_left(checker, c->index, g);
        c->presence[g].heard = false;
    } else if (peal_span_is(type, "message")) {
        number_of(json, "offset", &offset);
        number_of(json, "data", &value);
        if (c->world->fault == WORLD_DROPS_FRAMES && dice_chance(&c->world->dice, 1)) return;
        checker_on_message(checker, c->index, g, offset, value);
        on_unread(c, g, json);
    } else if (peal_span_is(type, "gap")) {
        checker_on_gap(checker, c->index, g, epoch_of(json), from, to);
    } else if (peal_span_is(type, "skip")) {
        checker_on_skip(checker, c->index, g, from, to);
    } else if (peal_span_is(type, "presence")) {
        on_presence(c, g, json);
    } else {
        checker_fail(checker, "client %d was sent a %.*s", c->index, (int)type.size, type.at);
    }
    if (!c->welcomed && !peal_span_is(type, "left"))
        checker_fail(checker, "client %d got a %.*s before the welcome", c->index, (int)type.size,
                     type.at);
}

static void on_text(struct client *c, struct peal_span text)
{
    struct world *w = c->world;
    struct peal_json json;
    char why[100];
    world_trace(w, "client %d <- node %d: %.*s", c->index, c->node, (int)text.size, text.at);
    /* The full check takes longer than all the rest. */
    bool check = w->json_checks++ % 32 == 0;
    if ((check && peal_json_check(text, why, sizeof why) != PEAL_OK) ||
        peal_json_object(text, &json) != PEAL_OK) {
        checker_fail(&w->checker, "client %d was sent no JSON: %.*s", c->index, (int)text.size,
                     text.at);
        return;
    }
    struct peal_span type = word_of(&json, "type");
    if (peal_span_is(type, "welcome"))
        on_welcome(c, &json);
    else if (peal_span_is(type, "published"))
        on_published(c, &json);
    else if (peal_span_is(type, "state") || peal_span_is(type, "ok"))
        on_unread(c, client_inbox(c), &json);
    else if (peal_span_is(type, "error"))
        c->asked_ms = 0; /* of what was published, perhaps: it may be tried again at once */
    else if (!peal_span_is(type, "degraded"))
        on_group_event(c, type, &json);
}

/* Takes what is queued, as whole frames; a Close ends the connection. */
void client_read(struct client *c)
{
    struct iovec vectors[64];
    int n;
    bool closed = false;
    while ((n = peal_outq_gather(&c->conn.outq, vectors, 64)) > 0) {
        size_t bytes = 0;
        for (int i = 0; i < n; i++) {
            const char *at = vectors[i].iov_base;
            const char *end = at + vectors[i].iov_len;
            bytes += vectors[i].iov_len;
            while (at < end) {
                struct peal_span payload = frame_payload(at);
                int opcode = at[0] & 15;
                at = payload.at + payload.size;
                PEAL_ASSERT(at <= end);
                if (opcode == PEAL_WS_TEXT) on_text(c, payload);
                if (opcode == PEAL_WS_CLOSE) closed = true;
                if (opcode == PEAL_WS_PING) peal_conn_on_pong(&c->conn, payload);
            }
        }
        peal_count(PEAL_M_WRITTEN, peal_outq_consume(&c->conn.outq, bytes));
        peal_conn_on_sent(&c->conn);
    }
    if (closed) client_disconnect(c);
}

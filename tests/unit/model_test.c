/* The shard, the uplinks of two nodes, their hubs, groups and connections, all together, without
 * sockets, threads or clock. A seeded run throws at them what a network and an operator can do:
 * batches and answers that never arrive, full mailboxes, clients that stop reading, leave and come
 * back with their positions, routers that die and start again. Each client checks its own streams:
 * an offset follows the one before, or a skip or gap says why not; the durable group never has a
 * gap; what one client saw at a position every other one saw as well. In the end the faults stop,
 * and everybody must get the last message of each of his groups; the router must know exactly who
 * is there, and so must every client who asked to be told.
 *
 * PEAL_SEED=n repeats one run, PEAL_RUNS=n says how many. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "node/conn.h"
#include "node/hub.h"
#include "node/uplink.h"
#include "node/wsframe.h"
#include "proto/group.h"
#include "proto/json.h"
#include "router/shard.h"
#include "tests/unit/frame.h"
#include "tests/unit/unit.h"

enum {
    NODES = 2,
    HUBS = 2,
    CLIENTS = 8,
    GROUPS = 5,
    ROOMS = 3,
    USERS = 2,
    QUEUE = 8192,
    SEEN = 65536,
    STORE = 4096
};

static const char *const group_names[GROUPS] = {"live:a", "room:b", "log:c", "user:bob",
                                                "user:ann"};
static const char *const user_names[USERS] = {"bob", "ann"};

struct item {
    uint64_t to; /* of an answer: boot of the node */
    void *at;    /* peal_bytes, peal_order or peal_mail */
};

struct queue {
    struct item items[QUEUE];
    size_t start;
    size_t count;
};

struct client {
    struct peal_conn conn;
    bool connected;
    bool reads;
    bool welcomed;
    int node;
    int hub;
    struct {
        bool member;
        bool known; /* a position is known */
        uint64_t epoch;
        uint64_t offset;
        uint64_t last_value; /* newest payload */
        bool heard;          /* who is there, as it was told */
        bool unsure;         /* not all of it */
        bool there[USERS];
        uint64_t users;
        uint64_t connections;
    } groups[GROUPS];
};

struct node {
    struct sim *sim;
    uint64_t boot;
    struct peal_uplink *uplink;
    struct queue batches; /* from the router */
    struct queue answers;
    struct queue orders;
    struct {
        struct peal_hub hub;
        struct queue mails;
    } hubs[HUBS];
};

struct stored {
    struct peal_bytes *envelope;
    uint64_t offset;
};

struct sim {
    uint64_t seed;
    uint64_t now_ms;
    bool faults;
    struct peal_config *config;
    struct peal_shard *shard; /* NULL while the router is down */
    uint64_t router_boot;
    struct queue rpc; /* from nodes to the router */
    struct queue ops; /* at the store */
    struct queue fetches;
    struct stored store[GROUPS - 2][STORE]; /* log:c and the inboxes */
    size_t store_count[GROUPS - 2];
    uint64_t rev;
    struct node nodes[NODES];
    struct client clients[CLIENTS];
    uint64_t published;
    uint64_t seen[SEEN]; /* value by (group, epoch, offset), hashed */
    uint64_t seen_key[SEEN];
    size_t messages;
    size_t gaps;
    size_t skips;
    size_t watched; /* clients who were told rightly who is there */
};

/* Hash keys and ids are random; here they come from the seed as well, so that a run repeats. */
static uint64_t chaos;

static uint32_t chaos_next(void)
{
    chaos = chaos * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(chaos >> 32);
}

static void chaos_fill(void *const out, const size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((unsigned char *)out)[i] = (unsigned char)chaos_next();
}

static const char *chaos_name(void)
{
    return "seeded";
}

static uint64_t rnd(struct sim *s)
{
    s->seed ^= s->seed << 13;
    s->seed ^= s->seed >> 7;
    s->seed ^= s->seed << 17;
    return s->seed;
}

static bool chance(struct sim *s, unsigned percent)
{
    return rnd(s) % 100 < percent;
}

static bool put(struct queue *q, uint64_t to, void *at)
{
    if (q->count == QUEUE) return false;
    q->items[(q->start + q->count++) % QUEUE] = (struct item){to, at};
    return true;
}

static bool take(struct queue *q, struct item *out)
{
    if (q->count == 0) return false;
    *out = q->items[q->start];
    q->start = (q->start + 1) % QUEUE;
    q->count--;
    return true;
}

static void drop_bytes(struct queue *q)
{
    struct item item;
    while (take(q, &item))
        peal_bytes_unref(item.at);
}

/* ---- the router's surroundings -----------------------------------------------------------------
 */

static struct node *node_of(struct sim *s, uint64_t boot)
{
    for (int i = 0; i < NODES; i++)
        if (s->nodes[i].boot == boot) return &s->nodes[i];
    return NULL;
}

static void router_reply(void *ctx, const struct peal_peer *peer, struct peal_span bytes)
{
    struct sim *s = ctx;
    uint64_t boot;
    assert_int_equal(peal_topic_parse(peal_span_make(peer->id, peer->id_size), &boot), PEAL_OK);
    struct node *node = node_of(s, boot);
    if (node == NULL || (s->faults && chance(s, 3))) return; /* lost */
    assert_true(put(&node->answers, 0, peal_bytes_new(bytes.at, bytes.size)));
}

static void router_topic(void *ctx, uint64_t boot, struct peal_span bytes)
{
    struct sim *s = ctx;
    struct node *node = node_of(s, boot);
    if (node == NULL || (s->faults && chance(s, 5))) return; /* the high-water mark was reached */
    assert_true(put(&node->batches, 0, peal_bytes_new(bytes.at, bytes.size)));
}

static enum peal_err router_submit(void *ctx, struct peal_store_op *op)
{
    struct sim *s = ctx;
    if (s->faults && chance(s, 5)) return PEAL_EQUEUE_FULL;
    return put(&s->ops, 0, op) ? PEAL_OK : PEAL_EQUEUE_FULL;
}

static enum peal_err router_read(void *ctx, struct peal_store_fetch *fetch)
{
    return put(&((struct sim *)ctx)->fetches, 0, fetch) ? PEAL_OK : PEAL_EQUEUE_FULL;
}

/* A store that keeps everything, in memory that outlives routers. */
enum { STORE_EPOCH = 4711 };

static int store_index(struct peal_span group)
{
    for (int i = 0; i < GROUPS - 2; i++)
        if (peal_span_is(group, group_names[i + 2])) return i;
    fail_msg("%.*s is not durable", (int)group.size, group.at);
    return 0;
}

static void store_work(struct sim *s, struct peal_store_op *op)
{
    int i = store_index(op->group);
    op->err = PEAL_OK;
    op->epoch = STORE_EPOCH;
    if (op->kind == PEAL_STORE_PUT) {
        struct peal_envelope env;
        struct peal_buf buf = {0};
        assert_true(s->store_count[i] < STORE);
        assert_int_equal(peal_envelope_decode(op->message, &env), PEAL_OK);
        env.epoch = STORE_EPOCH;
        env.offset = s->store_count[i] + 1;
        peal_envelope_encode(&env, &buf);
        struct stored *stored = &s->store[i][s->store_count[i]++];
        stored->envelope = peal_bytes_new(buf.at, buf.size);
        op->encoded = peal_bytes_ref(stored->envelope);
        peal_buf_fini(&buf);
        s->rev++;
    }
    op->offset = s->store_count[i];
    op->first = 1;
    op->unread = s->store_count[i];
    op->rev = s->rev;
}

static void store_page(struct sim *s, struct peal_store_fetch *fetch)
{
    int i = store_index(fetch->group);
    struct peal_frame page = {.type = PEAL_F_PAGE,
                              .req = fetch->tag[0],
                              .group = fetch->group,
                              .epoch = STORE_EPOCH,
                              .offset = fetch->offset,
                              .head = s->store_count[i],
                              .first = 1};
    struct peal_span spans[PEAL_PAGE_MESSAGES];
    struct peal_buf bufs[PEAL_PAGE_MESSAGES] = {0};
    assert_true(fetch->epoch == STORE_EPOCH); /* it never changes here */
    while (page.offset < page.head && page.entries.count < 1 + rnd(s) % 20) {
        size_t n = page.entries.count++;
        struct peal_frame message = {
            .type = PEAL_F_MESSAGE, .envelope = peal_bytes_span(s->store[i][page.offset].envelope)};
        peal_frame_encode(&message, &bufs[n]);
        spans[n] = peal_buf_span(&bufs[n]);
        page.offset++;
    }
    page.entries.at = spans;
    struct peal_buf out = {0};
    peal_frame_encode(&page, &out);
    fetch->page = peal_bytes_new(out.at, out.size);
    peal_buf_fini(&out);
    for (size_t n = 0; n < page.entries.count; n++)
        peal_buf_fini(&bufs[n]);
    peal_shard_on_page(s->shard, fetch);
}

static void router_start(struct sim *s)
{
    struct peal_shard_io io = {s, router_reply, router_topic, router_submit, router_read};
    s->router_boot = rnd(s);
    s->shard = peal_shard_new(s->config, &io, s->router_boot);
    assert_non_null(s->shard);
    peal_shard_set_time(s->shard, s->now_ms, s->now_ms);
    for (int i = 0; i < NODES; i++)
        peal_shard_on_link(s->shard, s->nodes[i].boot); /* ZeroMQ subscribes again */
}

/* kill -9: what was on the way to it is gone; of what the store had some is committed. */
static void router_kill(struct sim *s)
{
    struct item item;
    size_t committed = s->ops.count == 0 ? 0 : rnd(s) % (s->ops.count + 1);
    drop_bytes(&s->rpc);
    while (take(&s->ops, &item)) {
        struct peal_store_op *op = item.at;
        if (committed > 0) {
            committed--;
            store_work(s, op);
        }
        /* The shard frees its calls as it frees operations that wait. */
        op->err = PEAL_EIO;
        peal_shard_on_done(s->shard, op);
    }
    while (take(&s->fetches, &item))
        peal_store_fetch_free(item.at);
    peal_shard_free(s->shard);
    s->shard = NULL;
    for (int i = 0; i < NODES; i++) {
        drop_bytes(&s->nodes[i].batches);
        drop_bytes(&s->nodes[i].answers);
    }
}

/* ---- the nodes' surroundings -------------------------------------------------------------------
 */

static enum peal_err uplink_send(void *ctx, size_t link, struct peal_span frame)
{
    struct node *node = ctx;
    (void)link;
    if (node->sim->faults && chance(node->sim, 2)) return PEAL_EQUEUE_FULL;
    /* Into a connection that is dead, or about to die. */
    if (node->sim->shard == NULL || (node->sim->faults && chance(node->sim, 3))) return PEAL_OK;
    struct peal_bytes *bytes = peal_bytes_new(frame.at, frame.size);
    assert_true(put(&node->sim->rpc, node->boot, bytes));
    return PEAL_OK;
}

static enum peal_err uplink_post(void *ctx, uint8_t worker, struct peal_mail *mail)
{
    struct node *node = ctx;
    if (node->sim->faults && chance(node->sim, 2)) return PEAL_EFULL;
    return put(&node->hubs[worker].mails, 0, mail) ? PEAL_OK : PEAL_EFULL;
}

static enum peal_err hub_order(void *ctx, struct peal_order *order)
{
    struct node *node = ctx;
    if (node->sim->faults && chance(node->sim, 2)) return PEAL_EFULL;
    return put(&node->orders, 0, order) ? PEAL_OK : PEAL_EFULL;
}

static void hub_output(void *ctx, struct peal_conn *conn)
{
    (void)ctx;
    (void)conn; /* the simulation reads when it likes */
}

/* What the kernel would take: the client may be reading, or not. */
static void hub_write(void *ctx, struct peal_conn *conn);

static void hub_cut(void *ctx, struct peal_conn *conn)
{
    (void)ctx;
    (void)conn;
}

/* ---- clients -----------------------------------------------------------------------------------
 */

static void disconnect(struct client *c)
{
    if (!c->connected) return;
    peal_conn_fini(&c->conn);
    c->connected = false;
    c->welcomed = false;
    for (int g = 0; g < GROUPS; g++)
        c->groups[g].heard = false;
}

static void say(struct client *c, const char *json)
{
    peal_conn_on_receive(&c->conn, true, peal_span_of(json));
}

/* Clients 0, 2, .. are bob's, the others ann's. */
static int inbox_of(const struct sim *s, const struct client *c)
{
    return ROOMS + (int)((c - s->clients) % USERS);
}

static void connect_client(struct sim *s, struct client *c)
{
    static struct peal_config_route route = {
        .path = "/", .dialect = PEAL_DIALECT_NATIVE, .identity = PEAL_IDENTITY_URL};
    struct peal_route_match match = {.route = &route};
    int inbox = inbox_of(s, c);
    struct peal_conn_open from = {.match = &match, .user = peal_span_of(user_names[inbox - ROOMS])};
    struct peal_buf hello = {0};
    c->node = (int)(rnd(s) % NODES);
    c->hub = (int)(rnd(s) % HUBS);
    c->reads = true;
    struct peal_hub *hub = &s->nodes[c->node].hubs[c->hub].hub;
    assert_int_equal(peal_conn_init(&c->conn, hub, &from), PEAL_OK);
    c->connected = true;
    /* Resumes what it was a member of, and the inbox once it has a position. */
    peal_buf_add_text(&hello, "{\"type\":\"hello\",\"id\":1,\"resume\":{\"groups\":{");
    bool first = true;
    for (int g = 0; g < ROOMS; g++) {
        if (!c->groups[g].member || !c->groups[g].known) continue;
        peal_buf_add_format(&hello, "%s\"%s\":[\"%llx\",%llu]", first ? "" : ",", group_names[g],
                            (unsigned long long)c->groups[g].epoch,
                            (unsigned long long)c->groups[g].offset);
        first = false;
    }
    peal_buf_add_text(&hello, "}");
    if (c->groups[inbox].known)
        peal_buf_add_format(&hello, ",\"inbox\":[\"%llx\",%llu]",
                            (unsigned long long)c->groups[inbox].epoch,
                            (unsigned long long)c->groups[inbox].offset);
    peal_buf_add_text(&hello, "}}");
    peal_conn_on_receive(&c->conn, true, peal_buf_span(&hello));
    peal_buf_fini(&hello);
}

static int group_index(struct peal_span name)
{
    for (int g = 0; g < GROUPS; g++)
        if (peal_span_is(name, group_names[g])) return g;
    fail_msg("unknown group %.*s", (int)name.size, name.at);
    return 0;
}

static uint64_t number_of(const struct peal_json *json, const char *name)
{
    uint64_t number = 0;
    const struct peal_json_field *f = peal_json_get(json, name);
    if (f != NULL) assert_int_equal(peal_json_u64(f->value, &number), PEAL_OK);
    return number;
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
    assert_int_equal(peal_epoch_parse(word_of(json, "epoch"), &epoch), PEAL_OK);
    return epoch;
}

/* The position after which messages will follow. */
static void set_position(struct client *c, int g, const struct peal_json *json)
{
    uint64_t epoch = epoch_of(json);
    uint64_t offset = number_of(json, "offset");
    if (peal_span_is(word_of(json, "recovered"), "full")) {
        assert_true(c->groups[g].known);
        assert_true(c->groups[g].epoch == epoch);
        assert_true(c->groups[g].offset == offset);
    }
    c->groups[g].member = true;
    if (peal_span_is(word_of(json, "recovered"), "gap")) return; /* the gap itself follows */
    c->groups[g].known = true;
    c->groups[g].epoch = epoch;
    c->groups[g].offset = offset;
}

static void note_seen(struct sim *s, int g, uint64_t epoch, uint64_t offset, uint64_t value)
{
    uint64_t key = epoch * UINT64_C(0x9e3779b97f4a7c15) + offset * UINT64_C(0xc2b2ae3d27d4eb4f) +
                   (uint64_t)g * UINT64_C(0x165667b19e3779f9);
    size_t i = (size_t)(key >> 48);
    while (s->seen_key[i] != 0 && s->seen_key[i] != key)
        i = (i + 1) % SEEN;
    if (s->seen_key[i] == key && s->seen[i] != value)
        fail_msg("%s %llx/%llu is %llu for one client and %llu for another", group_names[g],
                 (unsigned long long)epoch, (unsigned long long)offset,
                 (unsigned long long)s->seen[i], (unsigned long long)value);
    s->seen_key[i] = key;
    s->seen[i] = value;
}

static void note_there(struct client *c, int g, const struct peal_json *json, const char *name,
                       bool there)
{
    const struct peal_json_field *f = peal_json_get(json, name);
    struct peal_span user;
    size_t at = 0;
    while (f != NULL && peal_json_next(f->value, &at, &user))
        for (int u = 0; u < USERS; u++)
            if (peal_span_is(peal_span_make(user.at + 1, user.size - 2), user_names[u]))
                c->groups[g].there[u] = there;
}

/* What a page that shows who is there would do. */
static void on_presence(struct client *c, int g, const struct peal_json *json)
{
    bool list = peal_json_get(json, "list") != NULL;
    bool part = peal_json_get(json, "truncated") != NULL || peal_json_get(json, "settling") != NULL;
    if (!list && !c->groups[g].heard) fail_msg("an event before the list");
    if (list) {
        c->groups[g].heard = true;
        c->groups[g].unsure = false;
        memset(c->groups[g].there, 0, sizeof c->groups[g].there);
    }
    c->groups[g].unsure = c->groups[g].unsure || part;
    note_there(c, g, json, "list", true);
    note_there(c, g, json, "join", true);
    note_there(c, g, json, "leave", false);
    c->groups[g].users = number_of(json, "users");
    c->groups[g].connections = number_of(json, "connections");
}

static void on_server_message(struct sim *s, struct client *c, struct peal_span text)
{
    struct peal_json json;
    char why[100];
    if (peal_json_check(text, why, sizeof why) != PEAL_OK) fail_msg("%s", why);
    assert_int_equal(peal_json_object(text, &json), PEAL_OK);
    struct peal_span type = word_of(&json, "type");
    if (peal_span_is(type, "welcome")) {
        struct peal_span name;
        struct peal_span value;
        size_t at = 0;
        c->welcomed = true;
        const struct peal_json_field *inbox = peal_json_get(&json, "inbox");
        struct peal_json position;
        assert_int_equal(peal_json_object(inbox->value, &position), PEAL_OK);
        if (!peal_span_is(word_of(&position, "recovered"), "pending"))
            set_position(c, inbox_of(s, c), &position);
        while (peal_json_next_field(peal_json_get(&json, "groups")->value, &at, &name, &value)) {
            assert_int_equal(peal_json_object(value, &position), PEAL_OK);
            if (peal_span_is(word_of(&position, "recovered"), "pending")) continue;
            set_position(c, group_index(peal_span_make(name.at + 1, name.size - 2)), &position);
        }
        return;
    }
    if (peal_span_is(type, "degraded") || peal_span_is(type, "error") ||
        peal_span_is(type, "state"))
        return;
    int g = group_index(word_of(&json, "group"));
    if (peal_span_is(type, "presence")) {
        on_presence(c, g, &json);
        return;
    }
    uint64_t offset = number_of(&json, "offset");
    if (!c->welcomed && !peal_span_is(type, "left")) fail_msg("%.*s", (int)text.size, text.at);
    if (peal_span_is(type, "joined")) {
        set_position(c, g, &json);
    } else if (peal_span_is(type, "left")) {
        c->groups[g].member = false;
        c->groups[g].known = false;
        c->groups[g].heard = false;
    } else if (peal_span_is(type, "message")) {
        s->messages++;
        if (!c->groups[g].known || offset != c->groups[g].offset + 1)
            fail_msg("client %d %s: offset %llu after %llu: %.*s", (int)(c - s->clients),
                     group_names[g], (unsigned long long)offset,
                     (unsigned long long)c->groups[g].offset, (int)text.size, text.at);
        c->groups[g].offset = offset;
        c->groups[g].last_value = number_of(&json, "data");
        note_seen(s, g, c->groups[g].epoch, offset, c->groups[g].last_value);
    } else {
        bool gap = peal_span_is(type, "gap");
        assert_true(gap || peal_span_is(type, "skip"));
        if (gap && g >= 2) fail_msg("a gap in %s: %.*s", group_names[g], (int)text.size, text.at);
        assert_true(gap || number_of(&json, "from") == c->groups[g].offset + 1);
        /* Within an epoch a gap leads on, it never goes back over what was told already. */
        if (gap && c->groups[g].known && epoch_of(&json) == c->groups[g].epoch)
            assert_true(number_of(&json, "to") > c->groups[g].offset);
        if (gap) c->groups[g].epoch = epoch_of(&json);
        c->groups[g].known = true;
        c->groups[g].offset = number_of(&json, "to");
        s->gaps += gap;
        s->skips += !gap;
    }
}

/* Reads what is queued, as whole frames; a Close ends the connection. */
static void read_client(struct sim *s, struct client *c)
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
                assert_true(at <= end);
                if (opcode == PEAL_WS_TEXT) on_server_message(s, c, payload);
                if (opcode == PEAL_WS_CLOSE) closed = true;
                if (opcode == PEAL_WS_PING) peal_conn_on_pong(&c->conn, payload);
            }
        }
        peal_outq_consume(&c->conn.outq, bytes);
        peal_conn_on_sent(&c->conn);
    }
    if (closed) disconnect(c);
}

static void hub_write(void *ctx, struct peal_conn *conn)
{
    struct node *node = ctx;
    struct client *c = PEAL_FROM_LINK(conn, struct client, conn);
    if (c->reads && chance(node->sim, 50)) read_client(node->sim, c);
}

/* ---- the run ------------------------------------------------------------------------------------
 */

static void move_some(struct sim *s, size_t most)
{
    struct item item;
    if (s->shard != NULL) {
        for (size_t i = 0; i < most && take(&s->rpc, &item); i++) {
            struct peal_peer peer = {.id_size = PEAL_TOPIC_SIZE};
            peal_topic_of(item.to, peer.id);
            peal_shard_on_rpc(s->shard, &peer, peal_bytes_span(item.at));
            peal_bytes_unref(item.at);
        }
        for (size_t i = 0; i < most && take(&s->ops, &item); i++) {
            store_work(s, item.at);
            peal_shard_on_done(s->shard, item.at);
        }
        for (size_t i = 0; i < most && take(&s->fetches, &item); i++)
            store_page(s, item.at);
        peal_shard_flush(s->shard);
    }
    for (int n = 0; n < NODES; n++) {
        struct node *node = &s->nodes[n];
        for (size_t i = 0; i < most && take(&node->orders, &item); i++)
            peal_uplink_on_order(node->uplink, item.at);
        for (size_t i = 0; i < most && take(&node->batches, &item); i++) {
            peal_uplink_on_batch(node->uplink, 0, peal_bytes_span(item.at));
            peal_bytes_unref(item.at);
        }
        for (size_t i = 0; i < most && take(&node->answers, &item); i++) {
            peal_uplink_on_answer(node->uplink, 0, peal_bytes_span(item.at));
            peal_bytes_unref(item.at);
        }
        if (chance(s, 50)) peal_uplink_flush(node->uplink);
        for (int h = 0; h < HUBS; h++) {
            for (size_t i = 0; i < most && take(&node->hubs[h].mails, &item); i++)
                peal_hub_on_mail(&node->hubs[h].hub, item.at);
            if (chance(s, 70)) peal_hub_end_turn(&node->hubs[h].hub);
        }
    }
    for (int i = 0; i < CLIENTS; i++)
        if (s->clients[i].connected && s->clients[i].reads) read_client(s, &s->clients[i]);
}

static void pass(struct sim *s, uint64_t ms)
{
    s->now_ms += ms;
    if (s->shard != NULL) {
        peal_shard_set_time(s->shard, s->now_ms, s->now_ms);
        peal_shard_on_tick(s->shard);
        peal_shard_flush(s->shard);
    }
    for (int n = 0; n < NODES; n++) {
        peal_uplink_set_time(s->nodes[n].uplink, s->now_ms);
        peal_uplink_on_tick(s->nodes[n].uplink);
        peal_uplink_flush(s->nodes[n].uplink);
        for (int h = 0; h < HUBS; h++) {
            peal_hub_set_time(&s->nodes[n].hubs[h].hub, s->now_ms, s->now_ms);
            peal_hub_on_tick(&s->nodes[n].hubs[h].hub);
            peal_hub_end_turn(&s->nodes[n].hubs[h].hub);
        }
    }
}

static void publish(struct sim *s, int g)
{
    char json[128];
    if (s->shard == NULL) return;
    snprintf(json, sizeof json, "{\"group\":\"%s\",\"data\":%llu}", group_names[g],
             (unsigned long long)++s->published);
    peal_shard_on_push(s->shard, peal_span_of(json));
    if (chance(s, 50)) peal_shard_flush(s->shard);
}

static void client_acts(struct sim *s, struct client *c)
{
    char json[128];
    int g = (int)(rnd(s) % ROOMS);
    if (!c->connected) {
        connect_client(s, c);
        return;
    }
    switch (rnd(s) % 8) {
    case 0:
        if (chance(s, 30)) disconnect(c);
        return;
    case 1:
        c->reads = false;
        return;
    case 2:
    case 3:
        c->reads = true;
        return;
    case 4:
        if (!c->conn.greeted || !chance(s, 30)) return;
        snprintf(json, sizeof json, "{\"type\":\"leave\",\"group\":\"%s\"}", group_names[g]);
        say(c, json);
        return;
    default:
        if (!c->conn.greeted) return;
        snprintf(json, sizeof json, "{\"type\":\"join\",\"group\":\"%s\"%s}", group_names[g],
                 g != 1 && chance(s, 50) ? ",\"presence\":true" : "");
        say(c, json);
    }
}

static void step(struct sim *s)
{
    switch (rnd(s) % 16) {
    case 0:
    case 1:
        client_acts(s, &s->clients[rnd(s) % CLIENTS]);
        return;
    case 2:
    case 3:
    case 4:
    case 5:
        publish(s, (int)(rnd(s) % GROUPS));
        return;
    case 6:
        pass(s, 1 + rnd(s) % 400);
        return;
    case 7:
        if (s->shard == NULL)
            router_start(s);
        else if (chance(s, 1))
            router_kill(s);
        return;
    default:
        move_some(s, 1 + rnd(s) % 8);
    }
}

static void settle(struct sim *s, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        pass(s, 100);
        for (int k = 0; k < 4; k++)
            move_some(s, QUEUE);
    }
}

static struct sim *sim_new(uint64_t seed)
{
    static const char yaml[] =
        "limits: {queue: 2KiB, queue_messages: 12}\n"
        "groups:\n"
        "  - {match: 'user:{id}', durable: true, presence: users}\n"
        "  - {match: 'log:{id}', durable: true, join: anyone, presence: users}\n"
        "  - {match: 'live:{id}', join: anyone, presence: users}\n"
        "  - {match: '*', history: {messages: 30, age: 60s}, join: anyone}\n";
    struct sim *s = calloc(1, sizeof *s);
    struct peal_config_sources from = {.text = yaml, .text_size = sizeof yaml - 1};
    struct peal_buf problems = {0};
    s->seed = seed * 2654435761u + 88172645463325252u;
    chaos = seed;
    s->now_ms = 1000000;
    if (peal_config_load(&from, &s->config, &problems) != PEAL_OK)
        fail_msg("%.*s", (int)problems.size, problems.at);
    peal_buf_fini(&problems);
    for (int n = 0; n < NODES; n++) {
        struct node *node = &s->nodes[n];
        struct peal_uplink_io up = {node, uplink_send, uplink_post};
        struct peal_hub_io io = {node, hub_order, hub_output, hub_write, hub_cut};
        node->sim = s;
        node->boot = 100 + (uint64_t)n;
        node->uplink = peal_uplink_new(&up, node->boot, 1, HUBS);
        peal_uplink_set_time(node->uplink, s->now_ms);
        for (uint8_t h = 0; h < HUBS; h++) {
            assert_int_equal(
                peal_hub_init(&node->hubs[h].hub, s->config, NULL, &io, h, node->boot, s->now_ms),
                PEAL_OK);
            peal_hub_set_time(&node->hubs[h].hub, s->now_ms, s->now_ms);
        }
    }
    router_start(s);
    return s;
}

static void sim_free(struct sim *s)
{
    struct item item;
    for (int i = 0; i < CLIENTS; i++)
        disconnect(&s->clients[i]);
    if (s->shard != NULL) router_kill(s);
    drop_bytes(&s->rpc);
    for (int n = 0; n < NODES; n++) {
        struct node *node = &s->nodes[n];
        drop_bytes(&node->batches);
        drop_bytes(&node->answers);
        for (int h = 0; h < HUBS; h++) {
            while (take(&node->hubs[h].mails, &item))
                peal_mail_free(item.at);
            peal_hub_fini(&node->hubs[h].hub);
        }
        while (take(&node->orders, &item))
            peal_order_free(item.at);
        peal_uplink_free(node->uplink);
    }
    for (int i = 0; i < GROUPS - 2; i++)
        for (size_t k = 0; k < s->store_count[i]; k++)
            peal_bytes_unref(s->store[i][k].envelope);
    peal_config_free(s->config);
    free(s);
}

/* Asks the router who is in a group, as a backend does. */
struct probe {
    struct peal_request request;
    bool answered;
    uint64_t users;
    uint64_t connections;
    bool there[USERS];
};

static void probe_done(struct peal_request *request, const struct peal_frame *answer)
{
    struct probe *probe = PEAL_FROM_LINK(request, struct probe, request);
    assert_non_null(answer);
    assert_int_equal(answer->code, PEAL_OK);
    assert_int_equal(answer->flags, 0);
    probe->answered = true;
    probe->users = answer->users;
    probe->connections = answer->connections;
    for (size_t i = 0; i < answer->people.count; i++)
        for (int u = 0; u < USERS; u++)
            if (peal_span_is(answer->people.at[i].user, user_names[u])) probe->there[u] = true;
}

/* In quiet times the router, and whoever asked, knows exactly who is there. */
static void check_presence(struct sim *s, int g)
{
    struct probe probe = {0};
    struct probe truth = {0};
    struct peal_span name = peal_span_of(group_names[g]);
    struct peal_frame who = {.type = PEAL_F_WHO, .group = name, .limit = USERS};
    struct peal_member *members[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        struct client *c = &s->clients[i];
        members[i] = c->connected ? peal_member_find(&c->conn, name) : NULL;
        if (members[i] == NULL) continue;
        truth.connections++;
        truth.users += !truth.there[inbox_of(s, c) - ROOMS];
        truth.there[inbox_of(s, c) - ROOMS] = true;
    }
    peal_request_init(&probe.request, probe_done);
    assert_int_equal(peal_request_send(&s->nodes[0].hubs[0].hub, &probe.request, name, &who),
                     PEAL_OK);
    settle(s, 5);
    assert_true(probe.answered);
    if (probe.users != truth.users || probe.connections != truth.connections)
        fail_msg("%s: the router knows %llu users, %llu connections, there are %llu, %llu",
                 group_names[g], (unsigned long long)probe.users,
                 (unsigned long long)probe.connections, (unsigned long long)truth.users,
                 (unsigned long long)truth.connections);
    assert_memory_equal(probe.there, truth.there, sizeof truth.there);
    for (int i = 0; i < CLIENTS; i++) {
        struct client *c = &s->clients[i];
        struct peal_map *watchers = &c->conn.hub->attendance.watchers;
        if (members[i] == NULL ||
            peal_map_find(watchers, peal_span_make(&members[i], sizeof members[i])) == NULL)
            continue;
        assert_true(c->groups[g].heard);
        if (c->groups[g].users != truth.users || c->groups[g].connections != truth.connections)
            fail_msg("client %d was told of %llu users, %llu connections in %s, not %llu, %llu", i,
                     (unsigned long long)c->groups[g].users,
                     (unsigned long long)c->groups[g].connections, group_names[g],
                     (unsigned long long)truth.users, (unsigned long long)truth.connections);
        if (!c->groups[g].unsure)
            assert_memory_equal(c->groups[g].there, truth.there, sizeof truth.there);
        s->watched++;
    }
}

/* Also where no message came for a group: within a minute every slot was compared, and the router's
 * rows are what the nodes hold, which is what their workers want. */
static void check_rows(struct sim *s)
{
    size_t held = 0;
    for (int i = 0; i < 65; i++) {
        pass(s, 1000);
        for (int k = 0; k < 4; k++)
            move_some(s, QUEUE);
    }
    int64_t differed = peal_metrics_sum(PEAL_M_LINK_DIFFERS);
    for (int i = 0; i < 65; i++) {
        pass(s, 1000);
        for (int k = 0; k < 4; k++)
            move_some(s, QUEUE);
    }
    assert_int_equal(peal_metrics_sum(PEAL_M_LINK_DIFFERS), differed);
    for (int n = 0; n < NODES; n++) {
        bool wanted[GROUPS] = {0};
        size_t wanted_count = 0;
        for (int g = 0; g < GROUPS; g++) {
            for (int h = 0; h < HUBS; h++) {
                struct peal_hub *hub = &s->nodes[n].hubs[h].hub;
                if (peal_group_find(hub, peal_span_of(group_names[g])) != NULL) wanted[g] = true;
            }
            wanted_count += wanted[g];
        }
        assert_int_equal(peal_uplink_groups(s->nodes[n].uplink), wanted_count);
        held += wanted_count;
    }
    assert_int_equal(peal_metrics_sum(PEAL_M_ROWS), held);
}

/* After the faults everybody is up to date: the last message of each group reaches its members. */
static void check_end(struct sim *s)
{
    uint64_t last[GROUPS];
    s->faults = false;
    if (s->shard == NULL) router_start(s);
    for (int i = 0; i < CLIENTS; i++)
        s->clients[i].reads = true;
    settle(s, 100);
    for (int i = 0; i < CLIENTS; i++)
        if (!s->clients[i].connected) connect_client(s, &s->clients[i]);
    settle(s, 200);
    /* Some ask in quiet times; those who asked before must be right as well. */
    for (int i = 1; i < CLIENTS; i += 2) {
        say(&s->clients[i], "{\"type\":\"leave\",\"group\":\"live:a\"}");
        say(&s->clients[i], "{\"type\":\"join\",\"group\":\"live:a\",\"presence\":true}");
    }
    settle(s, 10);
    for (int g = 0; g < GROUPS; g++) {
        publish(s, g);
        last[g] = s->published;
    }
    settle(s, 100);
    for (int i = 0; i < CLIENTS; i++) {
        struct client *c = &s->clients[i];
        assert_true(c->connected);
        assert_true(c->welcomed);
        assert_true(c->groups[inbox_of(s, c)].member);
        for (int g = 0; g < GROUPS; g++)
            if (c->groups[g].member && c->groups[g].last_value != last[g])
                fail_msg("client %d missed the last message of %s: has %llu, last is %llu", i,
                         group_names[g], (unsigned long long)c->groups[g].last_value,
                         (unsigned long long)last[g]);
    }
    for (int g = 0; g < GROUPS; g++)
        if (g != 1) check_presence(s, g);
    for (int i = 0; i < CLIENTS / 2; i++)
        disconnect(&s->clients[i * 2]);
    settle(s, 120); /* the grace is over, and the counts were told */
    for (int g = 0; g < GROUPS; g++)
        if (g != 1) check_presence(s, g);
    /* Links that have nothing to repair are confirmed, and nobody syncs again and again. */
    int64_t syncs = peal_metrics_sum(PEAL_M_LINK_SYNCS);
    settle(s, 100);
    assert_int_equal(peal_metrics_sum(PEAL_M_LINK_SYNCS), syncs);
    check_rows(s);
}

static void model_streams_are_complete_or_say_why_not(void **state)
{
    (void)state;
    const char *given = getenv("PEAL_SEED");
    const char *runs_text = getenv("PEAL_RUNS");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 1000;
    int runs = given != NULL ? 1 : runs_text != NULL ? atoi(runs_text) : 30;
    size_t messages = 0;
    size_t gaps = 0;
    size_t watched = 0;
    peal_log_set_level(PEAL_LOG_ERROR);
    for (int run = 0; run < runs; run++, seed++) {
        /* Printed before the run, so that a failure can be repeated. */
        if (getenv("PEAL_VERBOSE") != NULL || run == 0)
            print_message("seed %llu\n", (unsigned long long)seed);
        struct sim *s = sim_new(seed);
        s->faults = true;
        for (int i = 0; i < 6000; i++)
            step(s);
        check_end(s);
        messages += s->messages;
        gaps += s->gaps;
        watched += s->watched;
        sim_free(s);
    }
    print_message("%d runs, %zu messages, %zu gaps, %zu watched\n", runs, messages, gaps, watched);
    assert_true(messages > (size_t)runs * 100); /* it did something */
    assert_true(watched >= (size_t)runs * CLIENTS / 2);
}

int main(void)
{
    peal_metrics_thread_start();
    static randombytes_implementation seeded = {
        .implementation_name = chaos_name, .random = chaos_next, .buf = chaos_fill};
    randombytes_set_implementation(&seeded);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model_streams_are_complete_or_say_why_not),
    };
    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}

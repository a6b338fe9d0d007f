/* tests/unit/conn_rig.h: one connection of a hub, by which dialect and route a test likes. */
#ifndef PEAL_TESTS_CONN_RIG_H
#define PEAL_TESTS_CONN_RIG_H

#include "node/conn.h"
#include "tests/unit/hub_rig.h"

static const char yaml[] = "limits: {queue: 2KiB, queue_messages: 12}\n"
                           "groups:\n"
                           "  - {match: 'user:{id}', durable: true}\n"
                           "  - {match: '*', join: anyone, publish: anyone}\n";

static struct peal_config_route native = {
    .path = "/", .dialect = PEAL_DIALECT_NATIVE, .identity = PEAL_IDENTITY_URL};

struct world {
    struct rig *rig;
    struct peal_conn conn;
    bool finished;
};

static inline int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    w->rig = rig_open(yaml);
    w->finished = true;
    *state = w;
    return 0;
}

static inline int teardown(void **state)
{
    struct world *w = *state;
    if (!w->finished) peal_conn_fini(&w->conn);
    rig_close(w->rig);
    free(w);
    return 0;
}

static inline void open_conn(struct world *w, const struct peal_config_route *route,
                             const char *user)
{
    rig_connect(w->rig, &w->conn, route, user);
    w->finished = false;
}

/* A native connection of bob that was welcomed and is in step with its inbox. */
static inline void open_welcomed(struct world *w)
{
    open_conn(w, &native, "bob");
    rig_say(&w->conn, "{\"type\":\"hello\"}");
    rig_joined(w->rig, "user:bob", 7, 0, PEAL_FLAG_KEEPS);
    rig_expect_part(w->rig, &w->conn, "\"welcome\"");
    rig_forget(w->rig);
}

/* A raw connection of bob; joins the groups of the one template. */
static inline void open_raw(struct world *w, enum peal_inbound inbound, char *join)
{
    static struct peal_config_route raw;
    static char *joins[1];
    joins[0] = join;
    raw = (struct peal_config_route){.path = "/",
                                     .dialect = PEAL_DIALECT_RAW,
                                     .identity = PEAL_IDENTITY_URL,
                                     .inbound = (int)inbound,
                                     .join = {joins, join == NULL ? 0 : 1}};
    open_conn(w, &raw, "bob");
}

#endif

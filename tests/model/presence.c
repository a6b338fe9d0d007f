#include "tests/model/presence.h"

#include <string.h>

#include "node/member.h"

typedef unsigned long long llu;

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
    if (answer == NULL || answer->code != PEAL_OK || answer->flags != 0) return;
    probe->answered = true;
    probe->users = answer->users;
    probe->connections = answer->connections;
    for (size_t i = 0; i < answer->people.count; i++)
        for (int u = 0; u < USERS; u++)
            if (peal_span_is(answer->people.at[i].user, world_users[u])) probe->there[u] = true;
}

static void judge_watcher(struct world *w, const struct client *c, int g, const struct probe *truth)
{
    const struct client_presence *p = &c->presence[g];
    bool right = p->heard && p->users == truth->users && p->connections == truth->connections &&
                 (p->unsure || memcmp(p->there, truth->there, sizeof p->there) == 0);
    w->watched++;
    if (!right)
        checker_fail(&w->checker,
                     "client %d was told of %llu users, %llu connections in %s, not %llu, %llu",
                     c->index, (llu)p->users, (llu)p->connections, world_groups[g],
                     (llu)truth->users, (llu)truth->connections);
}

static void judge_group(struct world *w, int g)
{
    struct probe probe = {0};
    struct probe truth = {0};
    struct peal_span name = peal_span_of(world_groups[g]);
    struct peal_frame who = {.type = PEAL_F_WHO, .group = name, .limit = USERS};
    struct peal_hub *hub = &w->nodes[0].hubs[0].hub;
    struct peal_member *members[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        struct client *c = &w->clients[i];
        members[i] = c->connected ? peal_member_find(&c->conn, name) : NULL;
        if (members[i] == NULL) continue;
        truth.connections++;
        truth.users += !truth.there[c->user];
        truth.there[c->user] = true;
    }
    peal_request_init(&probe.request, probe_done);
    if (peal_request_send(hub, &probe.request, name, &who) == PEAL_OK) world_settle(w, 500);
    if (!probe.answered) {
        if (peal_request_waits(&probe.request)) peal_request_cancel(hub, &probe.request);
        checker_fail(&w->checker, "nobody says who is in %s", world_groups[g]);
    } else if (probe.users != truth.users || probe.connections != truth.connections ||
               memcmp(probe.there, truth.there, sizeof probe.there) != 0) {
        checker_fail(&w->checker,
                     "%s: the router knows %llu users, %llu connections, there are %llu, %llu",
                     world_groups[g], (llu)probe.users, (llu)probe.connections, (llu)truth.users,
                     (llu)truth.connections);
    }
    for (int i = 0; i < CLIENTS; i++) {
        struct peal_map *watchers = &w->clients[i].conn.hub->attendance.watchers;
        if (members[i] != NULL &&
            peal_map_find(watchers, peal_span_make(&members[i], sizeof members[i])) != NULL)
            judge_watcher(w, &w->clients[i], g, &truth);
    }
}

void presence_ask(struct world *w)
{
    for (int i = 1; i < CLIENTS; i += 2) {
        client_leave(&w->clients[i], LIVE);
        client_join(&w->clients[i], LIVE, ",\"presence\":true");
    }
    world_settle(w, 1000);
}

static void judge_all(struct world *w)
{
    for (int g = 0; g < GROUPS && !w->checker.failed; g++)
        if (g != ROOM && g != ROOM_TOO) judge_group(w, g); /* these show nobody */
}

void judge_presence(struct world *w)
{
    judge_all(w);
    for (int i = 0; i < CLIENTS; i += 2)
        client_disconnect(&w->clients[i]);
    world_settle(w, 12000); /* the grace is over, and the counts were told */
    judge_all(w);
}

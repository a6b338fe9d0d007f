/* tests/model/world.h: routers, nodes, clients and the network between them, without any I/O.
 *
 * What runs here is the program: shards, uplinks, hubs, groups and connections. What is a model is
 * around them: lanes instead of sockets (lane.h), a disk instead of LMDB (disk.h), clients that
 * speak the native protocol (client.c), and time, which passes when the world says so. Everything
 * follows from one seed. What publishers are promised and clients are told goes to the checker.
 *
 *   router.c   a shard, the operations and reads that its store has in hand, its crash and restart
 *   node.c     an uplink, its hubs, the mail and orders between them, its crash and restart
 *   client.c   connects, resumes, joins, leaves, publishes and retries, acks, reads slowly
 *   faults.c   what goes wrong by itself: cuts, stalls, crashes, and when
 *   world.c    time, turns, and the end: faults stop, everybody must be where he should be
 *
 * A scenario makes a world without faults, has things happen one by one, and settles in between.
 *
 * Thread: one. Memory: world_free frees all. */
#ifndef PEAL_TESTS_WORLD_H
#define PEAL_TESTS_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "node/conn.h"
#include "node/hub.h"
#include "node/uplink.h"
#include "router/shard.h"
#include "tests/model/checker.h"
#include "tests/model/dice.h"
#include "tests/model/disk.h"
#include "tests/model/lane.h"

enum {
    ROUTERS = 2,
    NODES = 3,
    HUBS = 2,
    CLIENTS = 8,
    USERS = 2,
    MAILBOX = 64,   /* mails that wait for a hub */
    WAITING = 4096, /* orders, operations, reads that wait */
};

/* The groups of every world; the last ones are the users' inboxes. */
enum { LIVE, LIVE_TOO, ROOM, ROOM_TOO, LOG, LOG_TOO, INBOXES, GROUPS = INBOXES + USERS };

/* Deliberate faults, with which the checker must find the model wrong; the disk has more. */
enum world_fault {
    WORLD_SOUND,
    WORLD_SWALLOWS_SYNC, /* a SYNC is confirmed and never reaches the router */
    WORLD_REPEATS_BOOT,  /* a router comes back as if it had never been away */
    WORLD_TURNS_ENTRIES, /* the messages of a batch change their places, and their offsets */
    WORLD_DROPS_FRAMES,  /* a client is not given a message that was queued for him */
};

/* Pointers, first in, first out. */
struct queue {
    void *items[WAITING];
    size_t start;
    size_t count;
};

struct router {
    struct world *world;
    size_t index;
    uint64_t boot;
    struct peal_shard *shard; /* NULL while it is down */
    struct disk disk;
    struct queue ops;     /* that the store has in hand */
    struct queue fetches; /* likewise */
    uint64_t stalled_until_ms;
    uint64_t ticked_ms;
};

struct hub {
    struct peal_hub hub;
    struct queue mails;
    uint64_t ticked_ms;
};

/* A node's way to one router. */
struct link_lanes {
    struct lane rpc;    /* to the router */
    struct lane answer; /* from it */
    struct lane topic;  /* from it, if it knows that the node has subscribed */
    bool subscribed;
    struct peal_bytes *late; /* a batch that a relay still has, and delivers once more */
};

struct node {
    struct world *world;
    size_t index;
    uint64_t boot;
    struct peal_uplink *uplink; /* NULL while it is down */
    struct queue orders;
    struct hub hubs[HUBS];
    struct link_lanes links[ROUTERS];
    uint64_t stalled_until_ms;
    uint64_t ticked_ms;
};

/* Who is in a group, as a client was told. */
struct client_presence {
    bool heard;
    bool unsure; /* not all of it */
    bool there[USERS];
    uint64_t users;
    uint64_t connections;
};

struct client {
    struct world *world;
    int index;
    int user;
    struct peal_conn conn;
    bool connected;
    bool reads;
    bool welcomed;
    int node;
    int hub;
    uint32_t publisher; /* anew with each connection */
    uint64_t value;     /* that it publishes and has no answer for; 0 = none */
    int value_group;
    uint64_t asked_ms; /* when, the last time */
    struct client_presence presence[GROUPS];
};

/* How likely it is, in percent of the occasions. All zero: nothing goes wrong by itself. */
struct faults {
    unsigned lose_batch;
    unsigned lose_answer;
    unsigned lose_rpc;
    unsigned late_batch;
    unsigned refuse; /* a queue is full: store, DEALER, mailbox, orders */
    unsigned delay;  /* a lane takes its time */
    unsigned commit; /* fails */
    bool restore;    /* disks go back to older copies */
};

struct world {
    struct dice dice;
    uint64_t seed;
    uint64_t now_ms;
    struct faults faults;
    enum world_fault fault;
    bool trace;
    const struct peal_config *config;
    struct checker checker;
    struct router routers[ROUTERS];
    struct node nodes[NODES];
    struct client clients[CLIENTS];
    uint64_t values; /* published so far */
    uint32_t publishers;
    size_t json_checks;
    size_t restarts;
    int64_t died; /* operations, at most, that waited in routers when they were killed */
    int64_t counted[PEAL_M_COUNT]; /* what the counters were in the beginning */
    size_t watched;                /* times that a client was told rightly who is there */
};

extern const char *const world_groups[GROUPS];
extern const char *const world_users[USERS];

/* ---- world.c */
struct world *world_new(uint64_t seed);
void world_free(struct world *world);
/* The faults of a seeded run. */
extern const struct faults world_faults;
__attribute__((format(printf, 2, 3))) void world_trace(const struct world *world,
                                                       const char *format, ...);
/* A frame that arrives, with what is in it. */
void world_trace_frame(const struct world *world, const char *from, size_t from_index,
                       const char *to, size_t to_index, struct peal_span bytes);
/* Time passes and everybody works until nothing is left to do in it. */
void world_settle(struct world *world, uint64_t ms);
/* The same in larger steps, for times in which nothing happens. */
void world_wait(struct world *world, uint64_t seconds);
/* One of many things happens. */
void world_step(struct world *world);
/* No more faults; everybody comes back; the checker judges where they are. */
void world_end(struct world *world);
/* steps, and the end. Returns whether every promise was kept; checker.why says which was not. */
bool world_run(struct world *world, size_t steps);
size_t world_router_of(int group);
int world_group_of(struct peal_span name);

/* ---- faults.c */
/* Something goes wrong that somebody did or that just happened: a process, a link, a disk. */
void faults_strike(struct world *world);
/* All of it is over. */
void faults_heal(struct world *world);
/* Cuts a link: towards the router, from it, or both; and joins it again, with or without what was
 * on the way. */
void faults_cut(struct world *world, size_t node, size_t router, bool to_router, bool from_router);
void faults_join(struct world *world, size_t node, size_t router, bool lose);

/* ---- router.c */
void router_init(struct world *world, size_t index);
void router_start(struct router *router);
/* kill -9. Of the operations in hand some were committed, and nobody hears of it. */
void router_kill(struct router *router, size_t committed);
void router_turn(struct router *router, size_t most);
/* The store works on some operations as one commit. */
void router_commit(struct router *router, size_t most, enum disk_commit how);
/* A backend publishes through the PULL door. Returns the value. */
uint64_t router_push(struct world *world, int group);
void router_fini(struct router *router);

/* ---- node.c */
void node_init(struct world *world, size_t index);
void node_start(struct node *node);
/* kill -9: its clients find their connections broken. */
void node_kill(struct node *node);
void node_bus_turn(struct node *node, size_t most);
void node_hub_turn(struct node *node, size_t hub, size_t most);

/* ---- client.c */
void client_init(struct world *world, int index);
void client_connect(struct client *client, int node);
void client_disconnect(struct client *client);
void client_join(struct client *client, int group, const char *more);
void client_leave(struct client *client, int group);
/* Publishes something new, or once more what was not answered. */
void client_publish(struct client *client, int group);
/* Marks his inbox up to where he is, "ack" or "read". */
void client_mark(struct client *client, const char *how);
/* Takes what is queued for him. */
void client_read(struct client *client);
static inline int client_inbox(const struct client *client)
{
    return INBOXES + client->user;
}

bool queue_put(struct queue *queue, void *item);
void *queue_take(struct queue *queue); /* NULL when empty */

#endif

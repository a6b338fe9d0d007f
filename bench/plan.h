/* bench/plan.h: what one run of the load generator is to do, as read from its command line. */
#ifndef PEAL_BENCH_PLAN_H
#define PEAL_BENCH_PLAN_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/span.h"

enum {
    PEAL_PLAN_PIDS_MAX = 32,
    PEAL_PLAN_SERVERS_MAX = 16,
    PEAL_PLAN_STEPS_MAX = 16,
    PEAL_PLAN_PROCESSES_MAX = 16,
    PEAL_PLAN_PROCESS_CONNECTIONS_MAX = 18000, /* under the usual limit of 20,000 descriptors */
    PEAL_PLAN_GROUP_MAX = 64                   /* bytes of a group's name */
};

enum peal_verb {
    PEAL_VERB_FANOUT,
    PEAL_VERB_FLOOD,
    PEAL_VERB_RANDOM,
    PEAL_VERB_HOLD,
    PEAL_VERB_SHAKE,
    PEAL_VERB_DRAIN
};

enum peal_target { PEAL_TARGET_FLOOR, PEAL_TARGET_RAW, PEAL_TARGET_NATIVE };

enum peal_door_kind {
    PEAL_DOOR_NONE,
    PEAL_DOOR_FLOOR,
    PEAL_DOOR_PUSH,
    PEAL_DOOR_RPC,
    PEAL_DOOR_HTTP
};

struct peal_plan {
    enum peal_verb verb;
    const char *verb_name;
    enum peal_target target;
    const char *target_name;
    struct sockaddr_in addresses[PEAL_PLAN_SERVERS_MAX]; /* connection i goes to i % count */
    const char *hosts[PEAL_PLAN_SERVERS_MAX];            /* HOST:PORT as given */
    uint32_t address_count;
    const char *path; /* template with {group} and {user} */
    const char *prefix;
    uint32_t connections;
    uint32_t groups;
    uint32_t groups_per_connection;
    const char *token_secret; /* NULL: no tokens */
    uint32_t processes;
    uint32_t pipelined; /* handshakes under way in one process */
    uint32_t payload;   /* bytes, with the quotes */

    enum peal_door_kind door;
    const char *endpoints[PEAL_PLAN_SERVERS_MAX]; /* push: of all routers, in their order */
    uint32_t endpoint_count;
    const char *key;
    const char *bus_key;    /* push, rpc: file with CURVE keys; NULL: none */
    const char *router_key; /* with bus_key: the public key of the router */
    bool json;              /* push: the body is JSON, not msgpack */
    uint32_t door_connections;

    double rate;
    uint32_t burst;
    double seconds;
    uint32_t window;
    uint32_t count;
    uint64_t seed;
    uint32_t concurrency;
    uint32_t base;
    uint32_t stored; /* drain: messages that each connection is to get */
    uint32_t steps[PEAL_PLAN_STEPS_MAX];
    uint32_t step_count;

    pid_t pids[PEAL_PLAN_PIDS_MAX];
    uint32_t pid_count;
};

/* Reads the command line. Returns 0, or the exit code, and has then printed why. */
int peal_plan_read(struct peal_plan *plan, int argc, char **argv);

/* The name of group k; returns its size, at most PEAL_PLAN_GROUP_MAX. Not ended by a NUL. */
uint32_t peal_plan_group(const struct peal_plan *plan, uint32_t k, char *out);
/* The j-th group of connection i, j < groups_per_connection: (i * groups_per_connection + j) %
 * groups, so with as many groups as that takes no two connections share one. */
uint32_t peal_plan_group_of(const struct peal_plan *plan, uint32_t i, uint32_t j);
/* The endpoint at which messages of group k enter: push has one for each router, and slots are
 * split evenly over them. */
uint32_t peal_plan_endpoint_of(const struct peal_plan *plan, uint32_t k);
/* How many of `connections` connections are in group k. */
uint32_t peal_plan_members(const struct peal_plan *plan, uint32_t k, uint32_t connections);
/* The numbers below n that are `which` modulo the processes: what one process has of n. */
uint32_t peal_plan_share(const struct peal_plan *plan, uint32_t n, uint32_t which);

#endif

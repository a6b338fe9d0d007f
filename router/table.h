/* router/table.h: which nodes want which group, and what waits to be sent to them.
 *
 * A group's entry knows its epoch, newest offset and history; a node's entry its link sequence,
 * the batch that waits for it and the groups it wants; a row says "this node wants this group" and
 * is in the group's entry. Routers have a million groups and some dozens of nodes, so groups are
 * what is kept small. Whatever is appended for a node leaves as one BATCH with one link sequence,
 * at the end of the turn; what cannot be appended moves the sequence on, so that the node notices
 * and syncs.
 *
 * Entries of durable groups live while a node wants them (the store knows the rest); others also
 * while they hold history, and some minutes longer, so that their epoch is not lost at once.
 *
 * Thread: the shard's. Memory: the table owns entries and rows.
 * Source: docs/ARCHITECTURE.md, "Links". */
#ifndef PEAL_ROUTER_TABLE_H
#define PEAL_ROUTER_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/config.h"
#include "base/list.h"
#include "base/map.h"
#include "proto/parcel.h"
#include "proto/roll.h"
#include "router/history.h"
#include "router/rows.h"

struct peal_group_entry {
    const struct peal_config_group *policy;
    uint64_t epoch;
    uint64_t head; /* newest offset, 0 = none yet */
    struct peal_rows rows;
    struct peal_history *history; /* NULL while nothing is kept */
    /* With history in the list of its policy in table->with_history; without and wanted by nobody
     * in table->idle. Who came first is first. A publish does not move the group in its list,
     * which would touch its neighbours there: it only says that the place is no longer true. */
    struct peal_link aging;
    uint64_t since_ms;         /* when it came into its list */
    bool used;                 /* published to since */
    struct peal_map_node node; /* the name follows: what a lookup reads lies together */
    char name[];
};

struct peal_node_entry {
    struct peal_map_node node;
    uint64_t boot; /* the key points here */
    uint64_t seq;  /* of the last batch with entries; starts where no other entry was */
    uint64_t seen_ms;
    uint32_t number;           /* the index in table->by_number */
    uint32_t sync_round;       /* grows with every FIRST page */
    uint64_t sync_seq;         /* of the SYNC whose pages are coming in */
    uint64_t sync_named;       /* groups that they named so far */
    bool sync_refused;         /* one of them has no owner yet */
    struct peal_roll roll;     /* the group entries that it wants */
    struct peal_link dirty;    /* in table->dirty while a batch waits */
    struct peal_link sweeping; /* in table->sweeping while rows are looked at */
    uint32_t sweep_slots;      /* so many of the roll's slots are still to be looked at, */
    uint32_t sweep;            /* and so many groups of the last one of them */
    bool dropped;              /* gone: only its rows are left, and they go too */
    struct peal_parcel out;    /* the batch that waits */
};

struct peal_table {
    const struct peal_config *config;
    void *ctx;
    /* Publishes to the topic of one node. */
    void (*topic)(void *ctx, uint64_t boot, struct peal_span bytes);
    /* The rows of a node are what its last sync named. */
    void (*synced)(void *ctx, struct peal_node_entry *node);
    bool quiet;    /* no beats: this router does not know yet what it serves */
    uint64_t boot; /* of this router */
    uint64_t now_ms;
    uint64_t created; /* group entries so far: part of their epochs */
    uint64_t linked;  /* node entries so far: where their sequences start */
    struct peal_map groups;
    struct peal_map nodes;
    struct peal_node_entry **by_number; /* NULL where a number is free */
    uint32_t number_count;
    struct peal_link dirty;
    struct peal_link sweeping;
    struct peal_link *with_history; /* one list per policy: all in it age at the same rate */
    struct peal_link idle;
    size_t history_bytes;
    struct peal_buf scratch;
};

/* Errors: PEAL_ENOMEM, and table then needs no fini. */
enum peal_err peal_table_init(struct peal_table *table, const struct peal_config *config,
                              uint64_t boot);
void peal_table_fini(struct peal_table *table);

/* NULL when there is none. */
struct peal_node_entry *peal_table_find_node(struct peal_table *table, uint64_t boot);
/* Makes it when there is none; NULL on ENOMEM. */
struct peal_node_entry *peal_table_ensure_node(struct peal_table *table, uint64_t boot);
/* Appends a frame for one node, or for every node that wants the group. */
void peal_table_tell(struct peal_table *table, struct peal_node_entry *node,
                     const struct peal_frame *frame);
void peal_table_fan_out(struct peal_table *table, struct peal_group_entry *group,
                        const struct peal_frame *frame);
/* Sends what waits for node; without anything it is a beat. */
void peal_table_send(struct peal_table *table, struct peal_node_entry *node);
void peal_table_flush(struct peal_table *table);

/* A find in steps, for many at once, as in base/map.h: begin with all, fetch all, find each. */
uint32_t peal_table_begin_find(const struct peal_table *table, struct peal_span name);
void peal_table_fetch_group(const struct peal_table *table, uint32_t hash);
struct peal_group_entry *peal_table_end_find(const struct peal_table *table, uint32_t hash,
                                             struct peal_span name);
/* NULL when there is none. */
struct peal_group_entry *peal_table_find_group(struct peal_table *table, struct peal_span name);
/* A new entry has lost its past: its epoch is one that nobody has seen. NULL on ENOMEM. */
struct peal_group_entry *peal_table_ensure_group(struct peal_table *table, struct peal_span name);
static inline struct peal_span peal_group_entry_name(const struct peal_group_entry *group)
{
    return peal_span_make(group->name, group->node.key_size);
}
/* Messages in the entry's history. */
static inline uint32_t peal_group_entry_kept(const struct peal_group_entry *group)
{
    return peal_history_count(group->history);
}
/* Drops what is older than the policy's age. The walk once a second may leave a message for twice
 * that long; nobody must be shown it. */
void peal_table_trim(struct peal_table *table, struct peal_group_entry *group);
/* The oldest offset in the entry's history; newest + 1 when there is none. */
uint64_t peal_group_entry_first(const struct peal_group_entry *group);
/* Puts the newest message into the group's history, within the memory of all histories. */
void peal_table_keep(struct peal_table *table, struct peal_group_entry *group,
                     struct peal_bytes *envelope);
/* Call when a group may have become unused; frees or retires the entry. */
void peal_table_rest(struct peal_table *table, struct peal_group_entry *group);

/* Removes all entries of these slots, with their rows; their nodes are not told. A walk over all
 * groups. */
void peal_table_drop_slots(struct peal_table *table, const bool slots[PEAL_SLOTS]);

/* node wants group, as of its current sync round. Errors: PEAL_ENOMEM. */
enum peal_err peal_table_add_row(struct peal_group_entry *group, struct peal_node_entry *node);
bool peal_table_has_row(struct peal_group_entry *group, const struct peal_node_entry *node);
/* It no longer does. Harmless when it did not. */
void peal_table_remove_row(struct peal_table *table, struct peal_group_entry *group,
                           struct peal_node_entry *node);
/* A sync names the groups of a node again, from here on; what it has not named when it ends is
 * removed in sweeps, and then table->synced is called. */
void peal_table_begin_sync(struct peal_table *table, struct peal_node_entry *node);
void peal_table_end_sync(struct peal_table *table, struct peal_node_entry *node);
/* The same for one slot of the roll, at once: the end says how many rows it removed. False, and
 * nothing begins: the rows are being swept after a sync that named them all. */
bool peal_table_begin_slot(struct peal_node_entry *node);
uint32_t peal_table_end_slot(struct peal_table *table, struct peal_node_entry *node, uint16_t slot);

/* Once a second: beats, silent nodes. */
void peal_table_on_second(struct peal_table *table);
/* What may concern a million groups at once, a bounded number of steps of it: the rows of nodes
 * that are gone or have synced, aged histories, entries nobody came back to. Says whether there is
 * more to do now. At least once a second. */
bool peal_table_sweep(struct peal_table *table);

#endif

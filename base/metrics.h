/* base/metrics.h: counters and gauges, one table.
 *
 * Every thread has its own block and is its only writer; whoever renders /metrics adds the
 * blocks up. A gauge is the sum of signed changes. No labels that clients can choose.
 *
 * Some must add up, so that nothing is lost unseen (tests/system/conservation.py asks a process
 * that rests):
 *   router  publishes accepted = numbered + duplicate + refused + waiting
 *   store   found + stored = settled + expired + evicted + damaged + present
 *   node    frames due = written + dropped + queued
 *
 * Thread: peal_count anywhere after peal_metrics_thread_start; rendering anywhere.
 * Memory: a block lives until the process ends, also after its thread. */
#ifndef PEAL_BASE_METRICS_H
#define PEAL_BASE_METRICS_H

#include <stdint.h>

#include "base/buf.h"

/* X(id, kind, Prometheus name with labels, help) — lines of one name stand together. */
#define PEAL_METRICS_TABLE(X)                                                                      \
    X(CONNS, gauge, "peal_connections", "WebSocket connections open now")                          \
    X(CONNS_OPENED, counter, "peal_connections_opened_total", "Handshakes answered with 101")      \
    X(CLOSED_PEER, counter, "peal_connections_closed_total{reason=\"peer\"}",                      \
      "Connections closed")                                                                        \
    X(CLOSED_SLOW, counter, "peal_connections_closed_total{reason=\"slow\"}", "")                  \
    X(CLOSED_TIMEOUT, counter, "peal_connections_closed_total{reason=\"timeout\"}", "")            \
    X(CLOSED_PROTOCOL, counter, "peal_connections_closed_total{reason=\"protocol\"}", "")          \
    X(CLOSED_POLICY, counter, "peal_connections_closed_total{reason=\"policy\"}", "")              \
    X(CLOSED_SHUTDOWN, counter, "peal_connections_closed_total{reason=\"shutdown\"}", "")          \
    X(REFUSED_ROUTE, counter, "peal_handshakes_refused_total{reason=\"not_found\"}",               \
      "Handshakes refused")                                                                        \
    X(REFUSED_AUTH, counter, "peal_handshakes_refused_total{reason=\"auth\"}", "")                 \
    X(REFUSED_ORIGIN, counter, "peal_handshakes_refused_total{reason=\"origin\"}", "")             \
    X(REFUSED_BAD, counter, "peal_handshakes_refused_total{reason=\"bad_request\"}", "")           \
    X(REFUSED_LIMIT, counter, "peal_handshakes_refused_total{reason=\"limit\"}", "")               \
    X(REFUSED_TIMEOUT, counter, "peal_handshakes_refused_total{reason=\"timeout\"}", "")           \
    X(FRAMES_IN, counter, "peal_frames_received_total", "Messages received from clients")          \
    X(FRAMES_IGNORED, counter, "peal_frames_ignored_total", "Dropped by inbound: ignore")          \
    X(BYTES_OUT, counter, "peal_bytes_sent_total", "Bytes written to WebSocket connections")       \
    X(DUE, counter, "peal_frames_due_total", "Frames due to connections of this node")             \
    X(WRITTEN, counter, "peal_frames_written_total", "Handed to the kernel")                       \
    X(DROPPED_CLOSED, counter, "peal_frames_dropped_total{reason=\"closed\"}",                     \
      "Frames due that were not written")                                                          \
    X(DROPPED_SLOW, counter, "peal_frames_dropped_total{reason=\"slow\"}", "")                     \
    X(DROPPED_MEMORY, counter, "peal_frames_dropped_total{reason=\"memory\"}", "")                 \
    X(QUEUED, gauge, "peal_frames_queued", "Frames that wait in the queues of connections")        \
    X(BEHIND, counter, "peal_members_behind_total", "Times a member fell behind and will replay")  \
    X(GAPS, counter, "peal_gaps_total", "Gaps told to clients")                                    \
    X(WORKER_LOST, counter, "peal_worker_queue_overflows_total", "Times bus to worker was full")   \
    X(LETTERS_DROPPED, counter, "peal_worker_letters_dropped_total",                               \
      "Letters that a full queue from bus to worker refused")                                      \
    X(LINK_JUMPS, counter, "peal_link_jumps_total", "Losses found by the link sequence")           \
    X(LINK_SYNCS, counter, "peal_link_syncs_total", "Syncs sent to routers")                       \
    X(LINK_DIFFERS, counter, "peal_link_slots_differed_total",                                     \
      "Slots whose rows at a router were not what the node holds")                                 \
    X(LINK_LATE, counter, "peal_link_late_total", "Batches of routers that came too late")         \
    X(LINKS_TWO_LIVES, gauge, "peal_links_with_two_lives",                                         \
      "Links on which two processes say they are the router")                                      \
    X(LINK_DETOURS, counter, "peal_link_detours_total", "Times another relay was tried")           \
    X(LINK_REOPENED, counter, "peal_link_reopened_total",                                          \
      "Sockets to routers or relays made anew")                                                    \
    X(RELAY_FRAMES, counter, "peal_relay_frames_total", "Messages of routers handed to nodes")     \
    X(RELAY_BYTES, counter, "peal_relay_bytes_total", "Bytes of them")                             \
    X(RELAY_TOPICS, gauge, "peal_relay_subscriptions", "Topics subscribed to, over all routers")   \
    X(RELAY_REFUSED, counter, "peal_relay_subscriptions_refused_total",                            \
      "Subscriptions that are no topic or beyond the limit")                                       \
    X(RELAY_UPLINKS, gauge, "peal_relay_uplinks", "Routers connected to")                          \
    X(RELAY_RECONNECTS, counter, "peal_relay_reconnects_total",                                    \
      "Connections to routers after the first of each")                                            \
    X(ACCEPTED, counter, "peal_publishes_accepted_total", "Publishes taken by the router")         \
    X(NUMBERED, counter, "peal_publishes_numbered_total", "Publishes given an offset")             \
    X(DUPLICATE, counter, "peal_publishes_duplicate_total", "Publishes seen before")               \
    X(REFUSED_INVALID, counter, "peal_publishes_refused_total{reason=\"invalid\"}",                \
      "Publishes not taken")                                                                       \
    X(REFUSED_QUEUE, counter, "peal_publishes_refused_total{reason=\"queue_full\"}", "")           \
    X(REFUSED_STORE, counter, "peal_publishes_refused_total{reason=\"store_full\"}", "")           \
    X(REFUSED_ERROR, counter, "peal_publishes_refused_total{reason=\"error\"}", "")                \
    X(REFUSED_SLOT, counter, "peal_publishes_refused_total{reason=\"slot\"}", "")                  \
    X(FORWARDED, counter, "peal_publishes_forwarded_total",                                        \
      "Publishes from PUSH handed to the router of their slot")                                    \
    X(STORE_MOVED_IN, counter, "peal_store_moved_in_total",                                        \
      "Messages that came with a slot of another router")                                          \
    X(STORE_MOVED_OUT, counter, "peal_store_moved_out_total",                                      \
      "Messages that went with a slot to another router")                                          \
    X(SLOTS_CONTRADICTED, gauge, "peal_slots_contradicted",                                        \
      "Slots that two routers claim: nobody serves them")                                          \
    X(SLOTS_MOVED, counter, "peal_slots_moved_answers_total",                                      \
      "Requests of nodes sent to the owner of the slot")                                           \
    X(BUS_ACCEPTED, counter, "peal_bus_accepted_total", "Connections to the ZeroMQ doors")         \
    X(BUS_HANDSHAKES, counter, "peal_bus_handshakes_total", "Handshakes finished at these doors")  \
    X(BUS_REFUSED_KEY, counter, "peal_bus_refused_total{reason=\"key\"}",                          \
      "Handshakes refused or failed at these doors")                                               \
    X(BUS_REFUSED_ROLE, counter, "peal_bus_refused_total{reason=\"role\"}", "")                    \
    X(BUS_REFUSED_PROTOCOL, counter, "peal_bus_refused_total{reason=\"protocol\"}", "")            \
    X(BUS_REFUSED_BROKEN, counter, "peal_bus_refused_total{reason=\"broken\"}", "")                \
    X(BUS_FORBIDDEN, counter, "peal_bus_frames_forbidden_total",                                   \
      "Frames of nodes that a publisher sent")                                                     \
    X(WAITING, gauge, "peal_publishes_waiting", "Publishes that wait for the store")               \
    X(ROUTER_DROPPED, counter, "peal_router_replies_dropped_total",                                \
      "Replies that could not be sent: the peer is gone or does not read, or memory is short")     \
    X(BATCHES_DROPPED, counter, "peal_router_batches_dropped_total",                               \
      "Batches for nodes that did not read; their link sequence tells them")                       \
    X(NODES, gauge, "peal_router_nodes", "Nodes linked to this router")                            \
    X(GROUPS, gauge, "peal_router_groups", "Group entries in memory")                              \
    X(ROWS, gauge, "peal_router_rows", "Groups that nodes want, summed over nodes")                \
    X(PRESENCE, gauge, "peal_router_presence_sessions", "Sessions known in groups with presence")  \
    X(FOUND, counter, "peal_store_found_total", "Messages that were there when it was opened")     \
    X(ROWS_HEALED, counter, "peal_router_rows_healed_total",                                       \
      "Rows that were wrong without a loss on the link")                                           \
    X(STORED, counter, "peal_store_stored_total", "Messages committed")                            \
    X(SETTLED, counter, "peal_store_settled_total", "Messages removed because settled")            \
    X(EXPIRED, counter, "peal_store_expired_total", "Messages removed by TTL or age")              \
    X(EVICTED, counter, "peal_store_evicted_total", "Unsettled messages removed by a limit")       \
    X(COLLAPSED, counter, "peal_store_collapsed_total",                                            \
      "Messages replaced by a newer one with the same collapse key")                               \
    X(DAMAGED, counter, "peal_store_damaged_total", "Messages removed that could not be read")     \
    X(PRESENT, gauge, "peal_store_present", "Messages in the database")                            \
    X(CORRUPT, counter, "peal_store_corrupt_total", "Records whose checksum failed")               \
    X(COMMITS, counter, "peal_store_commits_total", "Synced commits")

enum peal_metric {
#define X(id, kind, name, help) PEAL_M_##id,
    PEAL_METRICS_TABLE(X)
#undef X
        PEAL_M_COUNT
};

/* Gives the calling thread its block. Without one, its counts are lost; ENOMEM aborts. */
void peal_metrics_thread_start(void);
/* Adds change to the calling thread's part of m. */
void peal_count(enum peal_metric m, int64_t change);
/* The sum over all threads. */
int64_t peal_metrics_sum(enum peal_metric m);
/* Appends everything in Prometheus' text format 0.0.4. */
void peal_metrics_render(struct peal_buf *out);

#endif

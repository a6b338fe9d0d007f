/* node/attendance.h: what a worker tells the routers of who is there, in groups whose policy asks.
 *
 * For each such group the router is told which sessions are in it and of whom: changes, on top of
 * the version that it confirmed last, or all of it. One report per group is under way; what changes
 * meanwhile waits for the next one, so a thousand joins at once are a few reports. Nothing is
 * queued that could be lost: a report that fails, an answer that does not come, too many changes
 * and a router that does not know the version all end in the same way, the next report says all.
 * After a sync every group is reported again, most often as "nothing has changed".
 *
 * Members that asked (watchers) are told what the router says of changes, and first of all a list;
 * a list again when one of the events is missing.
 *
 * Shape:  at most PEAL_PRESENT_MAX changes wait per group, PEAL_ATTENDANCE_ASKING requests are
 * under way. Groups whose policy does not ask cost one look at a flag per join and leave. Thread:
 * the worker. Memory: embedded in struct peal_hub; about 300 bytes and the name per group, 88 per
 * watcher. Source: docs/ARCHITECTURE.md, "Presence"; the other side is router/presence.h. */
#ifndef PEAL_NODE_ATTENDANCE_H
#define PEAL_NODE_ATTENDANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/map.h"
#include "base/span.h"

struct peal_conn;
struct peal_frame;
struct peal_hub;
struct peal_member;

enum { PEAL_ATTENDANCE_ASKING = 256 };

struct peal_attendance {
    bool wanted;              /* some policy asks */
    size_t asking;            /* requests under way */
    uint64_t version;         /* of the last report */
    struct peal_map groups;   /* that are attended, or were and the router does not know it yet */
    struct peal_map watchers; /* by member */
    struct peal_link due;     /* groups with something to say, oldest first */
    struct peal_link later;   /* groups that wait for their time */
};

/* Errors: PEAL_ENOMEM; it then needs no fini. */
enum peal_err peal_attendance_init(struct peal_hub *hub);
/* Before the hub's requests end. A zeroed one is fine. */
void peal_attendance_fini(struct peal_hub *hub);

/* Does the policy of this group ask who is there? */
bool peal_attendance_wanted(const struct peal_hub *hub, struct peal_span group);
/* A member of such a group comes and goes. Errors: PEAL_ENOMEM, and nothing has changed. */
enum peal_err peal_attendance_join(struct peal_member *member);
void peal_attendance_leave(struct peal_member *member);
/* conn, which is open, ends: it is gone from all its groups now, whenever its members go. */
void peal_attendance_close(struct peal_conn *conn);
/* The member wants to hear who is there. Harmless the second time. Errors: PEAL_ENOMEM. */
enum peal_err peal_attendance_watch(struct peal_member *member);

/* The router says who came and left. */
void peal_attendance_on_event(struct peal_hub *hub, const struct peal_frame *frame);
/* What the routers know is doubtful: asks for all groups. */
void peal_attendance_check(struct peal_hub *hub);
/* Sends what the turn has. */
void peal_attendance_end_turn(struct peal_hub *hub);
void peal_attendance_on_tick(struct peal_hub *hub);

#endif

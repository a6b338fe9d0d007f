/* router/presence_reports.h: what the nodes say of who is there, and which of them are lost.
 *
 * peal_presence_report (router/presence.h) is in this file too.
 *
 * Shape:  one source for each part of a node in a place; it has the version of what it has said.
 * Thread: the shard's. Memory: a source lives while it has anything to say or until its node is
 *         lost; a node's entry while it has sources.
 * Source: docs/decisions/0013-presence-in-reports.md. */
#ifndef PEAL_ROUTER_PRESENCE_REPORTS_H
#define PEAL_ROUTER_PRESENCE_REPORTS_H

#include "router/presence_state.h"

/* Takes out all its sessions and frees it; its place may go with it. */
void peal_source_free(struct peal_presence *p, struct peal_source *source);
/* Takes the people of nodes that the router does not hear any more out, bit by bit: call it at
 * every tick. */
void peal_presence_drop_lost(struct peal_presence *p);

#endif

/* router/presence_people.h: groups with presence, and the users and sessions in them.
 *
 * What is there, without who said so (presence_reports.h) and who is told (presence_news.h). Each
 * change puts its place into the list of those that have news.
 *
 * Shape:  limits.presence sessions of all places together.
 * Thread: the shard's. Memory: a place lives while it has visitors or sources; a visitor until the
 *         news that he has gone was told; a session until its source takes it out.
 * Source: docs/ARCHITECTURE.md, "Presence". */
#ifndef PEAL_ROUTER_PRESENCE_PEOPLE_H
#define PEAL_ROUTER_PRESENCE_PEOPLE_H

#include "router/presence_state.h"

/* NULL: nobody is there. */
struct peal_place *peal_place_find(const struct peal_presence *p, struct peal_span name);
/* NULL on ENOMEM. */
struct peal_place *peal_place_ensure(struct peal_presence *p, struct peal_span name);
/* Call when something of it has gone: nobody is there and nobody is to be told any more. May free
 * the place. */
void peal_place_rest(struct peal_presence *p, struct peal_place *place);
/* Its connections are to be told, at their leisure. */
void peal_place_counts_changed(struct peal_presence *p, struct peal_place *place);

/* Points into the visitor. */
struct peal_span peal_visitor_name(const struct peal_visitor *u);
/* Has he connections, or is he in his grace? */
bool peal_visitor_is_there(const struct peal_visitor *u);
void peal_visitor_free(struct peal_presence *p, struct peal_visitor *u);
/* Those whose grace is over are no longer there. */
void peal_presence_end_graces(struct peal_presence *p);

/* NULL: not known. */
struct peal_session *peal_session_find(const struct peal_presence *p, struct peal_place *place,
                                       uint64_t id);
/* A session that its source names; from now on it is this source's. False: there is no room for
 * it, or no memory, and it is to be counted only. */
bool peal_session_add(struct peal_presence *p, struct peal_source *source,
                      const struct peal_person *person);
/* Frees it; its visitor's grace may begin. */
void peal_session_remove(struct peal_presence *p, struct peal_session *session);

#endif

/* router/presence_news.h: what those who asked are told of who came and left.
 *
 * Shape:  at most PEAL_PRESENCE_NEWS_MAX names an event, beyond that the counts; one event for each
 *         place and PEAL_PRESENCE_NEWS_MS, of connections alone one for each grace.
 * Thread: the shard's. Memory: an event points into the presence while it is told.
 * Errors: none; what is lost on its way is found by the numbers of the events.
 * Source: docs/ARCHITECTURE.md, "Presence". */
#ifndef PEAL_ROUTER_PRESENCE_NEWS_H
#define PEAL_ROUTER_PRESENCE_NEWS_H

#include "router/presence_state.h"

/* Tells what is due, and frees the visitors who are gone then. */
void peal_presence_flush_due(struct peal_presence *p);
/* Once the router has settled: whoever watched all the while has not heard what has changed since
 * before the start. Some places a tick. */
void peal_presence_tell_settled(struct peal_presence *p);

#endif

/* router/presence_state.h: who is there, for the files that router/presence.h is made of.
 *
 * Nobody else includes this: presence.c, presence_people.c, presence_reports.c and presence_news.c
 * work on one state. Four kinds of things, each in a map: places (groups with presence), visitors
 * (users in a place), sessions in a place, and sources (a part of a node, in a place). Their keys
 * begin with the place's address, so that no name is kept more than once. A session belongs to its
 * source and to its visitor; a visitor is there while he has sessions and for the grace behind the
 * last one.
 *
 * What is to be done at some time is in lists whose entries all wait equally long, so the head is
 * always the next one: visitors in their grace, places with names to tell, places with counts to
 * tell.
 *
 * Thread: the shard's. Memory: everything in it belongs to the one struct peal_presence. */
#ifndef PEAL_ROUTER_PRESENCE_STATE_H
#define PEAL_ROUTER_PRESENCE_STATE_H

#include "base/list.h"
#include "base/map.h"
#include "router/presence.h"

struct peal_place {
    struct peal_map_node node;
    struct peal_link users;     /* in order of arrival */
    struct peal_link sources;   /* that have said something of it */
    struct peal_link news;      /* users who may have come or left since that was told */
    struct peal_link names_in;  /* in presence->names while there are news */
    struct peal_link counts_in; /* in presence->counts while connections have changed */
    struct peal_link settle_in; /* in presence->settling while it is to be told at the end */
    uint64_t names_ms;          /* when it is due */
    uint64_t counts_ms;
    uint64_t sessions;
    uint64_t unlisted; /* connections that are counted only */
    uint64_t user_count;
    uint64_t event;      /* the last one's number; unlike any of another life */
    uint64_t told_users; /* as last told */
    uint64_t told_connections;
    uint32_t watching; /* sources with somebody who asked */
    bool shown;        /* somebody saw a state that was not told, and may be gone when it is due */
    char name[];
};

struct peal_visitor {
    struct peal_map_node node;
    struct peal_link in_place;
    struct peal_link news_in;    /* in place->news */
    struct peal_link leaving_in; /* in presence->leaving during the grace */
    struct peal_place *place;
    uint64_t number; /* of his arrival; grows along place->users */
    uint64_t left_ms;
    uint32_t connections;
    bool told;  /* was said to be there */
    char key[]; /* the place's address, the name */
};

struct peal_session_key {
    struct peal_place *place;
    uint64_t session;
};

struct peal_session {
    struct peal_map_node node;
    struct peal_link in_source;
    struct peal_source *source;
    struct peal_visitor *user; /* NULL: nobody */
    struct peal_session_key key;
    uint32_t round; /* of the source's last whole report that named it */
};

struct peal_reporter {
    struct peal_map_node node;
    struct peal_link sources;
    struct peal_link dropped_in; /* in presence->dropped once it is lost */
    uint64_t boot;               /* the key points here */
    uint64_t told;               /* number of the last event that it was given */
    bool lost;
};

struct peal_source_key {
    struct peal_place *place;
    uint64_t boot;
    uint64_t number;
};

struct peal_source {
    struct peal_map_node node;
    struct peal_link in_place;
    struct peal_link in_reporter;
    struct peal_link sessions;
    struct peal_place *place;
    struct peal_reporter *reporter;
    struct peal_source_key key;
    uint64_t version; /* of what it has said */
    uint64_t saying;  /* of the whole report whose pages are coming in */
    uint64_t named;   /* sessions in them so far */
    uint64_t unlisted;
    uint32_t count; /* sessions */
    uint32_t round;
    bool whole;    /* what it has is known as of version */
    bool overflow; /* there was no room for some of it */
    bool watches;
};

/* What the header says of memory. */
_Static_assert(sizeof(struct peal_session) <= 96, "bytes of a session");
_Static_assert(sizeof(struct peal_visitor) <= 136, "bytes of a user, beside the key");
_Static_assert(sizeof(struct peal_source) <= 208, "bytes of a source");
_Static_assert(sizeof(struct peal_place) <= 240, "bytes of a group");

struct peal_presence {
    const struct peal_config *config;
    struct peal_presence_io io;
    bool started;
    bool settled;
    uint64_t started_ms;
    uint64_t now_ms;
    uint64_t check_ms;
    uint64_t arrivals;
    uint64_t events; /* numbers given, from the boot id of the router on */
    uint64_t sessions_max;
    struct peal_map places;
    struct peal_map users;
    struct peal_map sessions;
    struct peal_map sources;
    struct peal_map reporters;
    struct peal_link leaving;
    struct peal_link names;
    struct peal_link counts;
    struct peal_link settling;
    struct peal_link dropped;
};

static inline uint64_t peal_place_connections(const struct peal_place *place)
{
    return place->sessions + place->unlisted;
}

static inline struct peal_span peal_place_name(const struct peal_place *place)
{
    return peal_span_make(place->name, place->node.key_size);
}

/* After the start: not everybody was heard of yet. */
static inline bool peal_presence_is_settling(const struct peal_presence *p)
{
    return p->now_ms - p->started_ms < p->config->presence.settle_ms;
}

#endif

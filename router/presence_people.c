#include "router/presence_people.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/limits.h"
#include "base/metrics.h"

/* ---- places ------------------------------------------------------------------------------ */

struct peal_place *peal_place_find(const struct peal_presence *p, struct peal_span name)
{
    struct peal_map_node *n = peal_map_find(&p->places, name);
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct peal_place, node);
}

struct peal_place *peal_place_ensure(struct peal_presence *p, struct peal_span name)
{
    struct peal_place *place = peal_place_find(p, name);
    if (place != NULL) return place;
    place = calloc(1, sizeof *place + name.size);
    if (place == NULL) return NULL;
    memcpy(place->name, name.at, name.size);
    place->event = ++p->events;
    peal_link_init(&place->users);
    peal_link_init(&place->sources);
    peal_link_init(&place->news);
    peal_link_init(&place->names_in);
    peal_link_init(&place->counts_in);
    peal_link_init(&place->settle_in);
    peal_map_add(&p->places, &place->node, peal_span_make(place->name, name.size));
    return place;
}

void peal_place_rest(struct peal_presence *p, struct peal_place *place)
{
    if (!peal_list_empty(&place->users) || !peal_list_empty(&place->sources)) return;
    PEAL_ASSERT(place->sessions == 0);
    PEAL_ASSERT(place->unlisted == 0);
    PEAL_ASSERT(place->user_count == 0);
    peal_list_remove(&place->names_in);
    peal_list_remove(&place->counts_in);
    peal_list_remove(&place->settle_in);
    peal_map_remove(&p->places, &place->node);
    free(place);
}

void peal_place_counts_changed(struct peal_presence *p, struct peal_place *place)
{
    if (!peal_list_empty(&place->counts_in)) return;
    place->counts_ms = p->now_ms + p->config->presence.grace_ms;
    peal_list_append(&p->counts, &place->counts_in);
}

/* ---- visitors ---------------------------------------------------------------------------- */

struct peal_span peal_visitor_name(const struct peal_visitor *u)
{
    return peal_span_make(u->key + sizeof u->place, u->node.key_size - sizeof u->place);
}

bool peal_visitor_is_there(const struct peal_visitor *u)
{
    return u->connections > 0 || !peal_list_empty(&u->leaving_in);
}

static struct peal_visitor *find_visitor(const struct peal_presence *p, struct peal_place *place,
                                         struct peal_span name)
{
    char key[sizeof place + PEAL_NAME_MAX];
    memcpy(key, &place, sizeof place);
    memcpy(key + sizeof place, name.at, name.size);
    struct peal_map_node *n =
        peal_map_find(&p->users, peal_span_make(key, sizeof place + name.size));
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct peal_visitor, node);
}

static struct peal_visitor *ensure_visitor(struct peal_presence *p, struct peal_place *place,
                                           struct peal_span name)
{
    struct peal_visitor *u = find_visitor(p, place, name);
    if (u != NULL) return u;
    u = calloc(1, sizeof *u + sizeof place + name.size);
    if (u == NULL) return NULL;
    memcpy(u->key, &place, sizeof place);
    memcpy(u->key + sizeof place, name.at, name.size);
    u->place = place;
    u->number = ++p->arrivals;
    peal_link_init(&u->news_in);
    peal_link_init(&u->leaving_in);
    peal_list_append(&place->users, &u->in_place);
    peal_map_add(&p->users, &u->node, peal_span_make(u->key, sizeof place + name.size));
    return u;
}

void peal_visitor_free(struct peal_presence *p, struct peal_visitor *u)
{
    peal_list_remove(&u->in_place);
    peal_list_remove(&u->news_in);
    peal_list_remove(&u->leaving_in);
    peal_map_remove(&p->users, &u->node);
    free(u);
}

/* He is there now, or no longer, and was not before. */
static void visitor_changed(struct peal_presence *p, struct peal_visitor *u)
{
    struct peal_place *place = u->place;
    if (peal_list_empty(&u->news_in)) peal_list_append(&place->news, &u->news_in);
    if (!peal_list_empty(&place->names_in)) return;
    place->names_ms = p->now_ms + PEAL_PRESENCE_NEWS_MS;
    peal_list_append(&p->names, &place->names_in);
}

static void visitor_gains(struct peal_presence *p, struct peal_visitor *u)
{
    bool was = peal_visitor_is_there(u);
    u->connections++;
    peal_list_remove(&u->leaving_in);
    if (was) return;
    u->place->user_count++;
    visitor_changed(p, u);
}

static void visitor_loses(struct peal_presence *p, struct peal_visitor *u)
{
    PEAL_ASSERT(u->connections > 0);
    if (--u->connections > 0) return;
    u->left_ms = p->now_ms;
    peal_list_append(&p->leaving, &u->leaving_in);
}

void peal_presence_end_graces(struct peal_presence *p)
{
    PEAL_LIST_EACH(&p->leaving, it, after)
    {
        struct peal_visitor *u = PEAL_FROM_LINK(it, struct peal_visitor, leaving_in);
        if (p->now_ms - u->left_ms < p->config->presence.grace_ms) return;
        peal_list_remove(it);
        PEAL_ASSERT(u->place->user_count > 0);
        u->place->user_count--;
        visitor_changed(p, u);
    }
}

/* ---- sessions ---------------------------------------------------------------------------- */

struct peal_session *peal_session_find(const struct peal_presence *p, struct peal_place *place,
                                       uint64_t id)
{
    struct peal_session_key key = {place, id};
    struct peal_map_node *n = peal_map_find(&p->sessions, peal_span_make(&key, sizeof key));
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct peal_session, node);
}

void peal_session_remove(struct peal_presence *p, struct peal_session *session)
{
    struct peal_place *place = session->key.place;
    session->source->count--;
    place->sessions--;
    if (session->user != NULL) visitor_loses(p, session->user);
    peal_list_remove(&session->in_source);
    peal_map_remove(&p->sessions, &session->node);
    peal_count(PEAL_M_PRESENCE, -1);
    free(session);
    peal_place_counts_changed(p, place);
}

bool peal_session_add(struct peal_presence *p, struct peal_source *source,
                      const struct peal_person *person)
{
    struct peal_place *place = source->place;
    struct peal_session *session = peal_session_find(p, place, person->session);
    if (session != NULL && session->source != source) {
        peal_session_remove(p, session);
        session = NULL;
    }
    if (session != NULL) {
        session->round = source->round;
        return true;
    }
    if (p->sessions.count >= p->sessions_max) return false;
    struct peal_visitor *u = NULL;
    if (person->user.at != NULL) {
        u = ensure_visitor(p, place, person->user);
        if (u == NULL) return false;
    }
    session = calloc(1, sizeof *session);
    if (session == NULL) {
        /* One who was made for this and was never there. */
        if (u != NULL && !peal_visitor_is_there(u) && peal_list_empty(&u->news_in))
            peal_visitor_free(p, u);
        return false;
    }
    session->key = (struct peal_session_key){place, person->session};
    session->source = source;
    session->round = source->round;
    session->user = u;
    peal_list_append(&source->sessions, &session->in_source);
    peal_map_add(&p->sessions, &session->node, peal_span_make(&session->key, sizeof session->key));
    peal_count(PEAL_M_PRESENCE, 1);
    source->count++;
    place->sessions++;
    if (u != NULL) visitor_gains(p, u);
    peal_place_counts_changed(p, place);
    return true;
}

/* Four kinds of things, each in a map: places (groups with presence), users in a place, sessions in
 * a place, and sources (a part of a node, in a place). Their keys begin with the place's address,
 * so that no name is kept more than once. A session belongs to its source and to its user; a user
 * is there while he has sessions and for the grace behind the last one.
 *
 * What is to be done at some time is in lists whose entries all wait equally long, so the head is
 * always the next one: users in their grace, places with names to tell, places with counts to tell.
 * A node that was lost is taken apart in slices, because it may have a hundred thousand sessions.
 */
#include "router/presence.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/metrics.h"
#include "proto/group.h"

enum {
    DROPS = 8192,         /* sessions of lost nodes taken out per tick: about 3 ms */
    SETTLED = 1024,       /* groups told per tick that the router has settled */
    ALIVE_CHECK_MS = 500, /* how often it is asked whether the nodes are still there */
};

struct place {
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

struct user {
    struct peal_map_node node;
    struct peal_link in_place;
    struct peal_link news_in;    /* in place->news */
    struct peal_link leaving_in; /* in presence->leaving during the grace */
    struct place *place;
    uint64_t number; /* of his arrival; grows along place->users */
    uint64_t left_ms;
    uint32_t connections;
    bool told;  /* was said to be there */
    char key[]; /* the place's address, the name */
};

struct session_key {
    struct place *place;
    uint64_t session;
};

struct session {
    struct peal_map_node node;
    struct peal_link in_source;
    struct source *source;
    struct user *user; /* NULL: nobody */
    struct session_key key;
    uint32_t round; /* of the source's last whole report that named it */
};

struct reporter {
    struct peal_map_node node;
    struct peal_link sources;
    struct peal_link dropped_in; /* in presence->dropped once it is lost */
    uint64_t boot;               /* the key points here */
    uint64_t told;               /* number of the last event that it was given */
    bool lost;
};

struct source_key {
    struct place *place;
    uint64_t boot;
    uint64_t number;
};

struct source {
    struct peal_map_node node;
    struct peal_link in_place;
    struct peal_link in_reporter;
    struct peal_link sessions;
    struct place *place;
    struct reporter *reporter;
    struct source_key key;
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
_Static_assert(sizeof(struct session) <= 96, "bytes of a session");
_Static_assert(sizeof(struct user) <= 136, "bytes of a user, beside the key");
_Static_assert(sizeof(struct source) <= 208, "bytes of a source");
_Static_assert(sizeof(struct place) <= 240, "bytes of a group");

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

/* ---- places ------------------------------------------------------------------------------ */

static uint64_t connections_of(const struct place *place)
{
    return place->sessions + place->unlisted;
}

static struct peal_span name_of(const struct place *place)
{
    return peal_span_make(place->name, place->node.key_size);
}

static struct place *find_place(const struct peal_presence *p, struct peal_span name)
{
    struct peal_map_node *n = peal_map_find(&p->places, name);
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct place, node);
}

static struct place *ensure_place(struct peal_presence *p, struct peal_span name)
{
    struct place *place = find_place(p, name);
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

/* Call when something of it has gone: nobody is there and nobody is to be told any more. */
static void place_rest(struct peal_presence *p, struct place *place)
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

static void counts_changed(struct peal_presence *p, struct place *place)
{
    if (!peal_list_empty(&place->counts_in)) return;
    place->counts_ms = p->now_ms + p->config->presence.grace_ms;
    peal_list_append(&p->counts, &place->counts_in);
}

/* ---- users ------------------------------------------------------------------------------- */

static struct peal_span user_name(const struct user *u)
{
    return peal_span_make(u->key + sizeof u->place, u->node.key_size - sizeof u->place);
}

static bool is_there(const struct user *u)
{
    return u->connections > 0 || !peal_list_empty(&u->leaving_in);
}

static struct user *find_user(const struct peal_presence *p, struct place *place,
                              struct peal_span name)
{
    char key[sizeof place + PEAL_NAME_MAX];
    memcpy(key, &place, sizeof place);
    memcpy(key + sizeof place, name.at, name.size);
    struct peal_map_node *n =
        peal_map_find(&p->users, peal_span_make(key, sizeof place + name.size));
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct user, node);
}

static struct user *ensure_user(struct peal_presence *p, struct place *place, struct peal_span name)
{
    struct user *u = find_user(p, place, name);
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

static void free_user(struct peal_presence *p, struct user *u)
{
    peal_list_remove(&u->in_place);
    peal_list_remove(&u->news_in);
    peal_list_remove(&u->leaving_in);
    peal_map_remove(&p->users, &u->node);
    free(u);
}

/* He is there now, or no longer, and was not before. */
static void user_changed(struct peal_presence *p, struct user *u)
{
    struct place *place = u->place;
    if (peal_list_empty(&u->news_in)) peal_list_append(&place->news, &u->news_in);
    if (!peal_list_empty(&place->names_in)) return;
    place->names_ms = p->now_ms + PEAL_PRESENCE_NEWS_MS;
    peal_list_append(&p->names, &place->names_in);
}

static void user_gains(struct peal_presence *p, struct user *u)
{
    bool was = is_there(u);
    u->connections++;
    peal_list_remove(&u->leaving_in);
    if (was) return;
    u->place->user_count++;
    user_changed(p, u);
}

static void user_loses(struct peal_presence *p, struct user *u)
{
    PEAL_ASSERT(u->connections > 0);
    if (--u->connections > 0) return;
    u->left_ms = p->now_ms;
    peal_list_append(&p->leaving, &u->leaving_in);
}

static void end_graces(struct peal_presence *p)
{
    PEAL_LIST_EACH(&p->leaving, it, after)
    {
        struct user *u = PEAL_FROM_LINK(it, struct user, leaving_in);
        if (p->now_ms - u->left_ms < p->config->presence.grace_ms) return;
        peal_list_remove(it);
        PEAL_ASSERT(u->place->user_count > 0);
        u->place->user_count--;
        user_changed(p, u);
    }
}

/* ---- sessions ---------------------------------------------------------------------------- */

static struct session *find_session(const struct peal_presence *p, struct place *place, uint64_t id)
{
    struct session_key key = {place, id};
    struct peal_map_node *n = peal_map_find(&p->sessions, peal_span_make(&key, sizeof key));
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct session, node);
}

static void remove_session(struct peal_presence *p, struct session *session)
{
    struct place *place = session->key.place;
    session->source->count--;
    place->sessions--;
    if (session->user != NULL) user_loses(p, session->user);
    peal_list_remove(&session->in_source);
    peal_map_remove(&p->sessions, &session->node);
    peal_count(PEAL_M_PRESENCE, -1);
    free(session);
    counts_changed(p, place);
}

/* False: there is no room for it. */
static bool add_session(struct peal_presence *p, struct source *source,
                        const struct peal_person *person)
{
    struct place *place = source->place;
    struct session *session = find_session(p, place, person->session);
    if (session != NULL && session->source != source) {
        remove_session(p, session);
        session = NULL;
    }
    if (session != NULL) {
        session->round = source->round;
        return true;
    }
    if (p->sessions.count >= p->sessions_max) return false;
    struct user *u = NULL;
    if (person->user.at != NULL) {
        u = ensure_user(p, place, person->user);
        if (u == NULL) return false;
    }
    session = calloc(1, sizeof *session);
    if (session == NULL) {
        /* One who was made for this and was never there. */
        if (u != NULL && !is_there(u) && peal_list_empty(&u->news_in)) free_user(p, u);
        return false;
    }
    session->key = (struct session_key){place, person->session};
    session->source = source;
    session->round = source->round;
    session->user = u;
    peal_list_append(&source->sessions, &session->in_source);
    peal_map_add(&p->sessions, &session->node, peal_span_make(&session->key, sizeof session->key));
    peal_count(PEAL_M_PRESENCE, 1);
    source->count++;
    place->sessions++;
    if (u != NULL) user_gains(p, u);
    counts_changed(p, place);
    return true;
}

/* ---- sources ----------------------------------------------------------------------------- */

static struct source *find_source(const struct peal_presence *p, struct place *place, uint64_t boot,
                                  uint64_t number)
{
    struct source_key key = {place, boot, number};
    struct peal_map_node *n = peal_map_find(&p->sources, peal_span_make(&key, sizeof key));
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct source, node);
}

static struct reporter *ensure_reporter(struct peal_presence *p, uint64_t boot)
{
    struct peal_map_node *n = peal_map_find(&p->reporters, peal_span_make(&boot, sizeof boot));
    if (n != NULL) return PEAL_FROM_NODE(n, struct reporter, node);
    struct reporter *r = calloc(1, sizeof *r);
    if (r == NULL) return NULL;
    r->boot = boot;
    peal_link_init(&r->sources);
    peal_link_init(&r->dropped_in);
    peal_map_add(&p->reporters, &r->node, peal_span_make(&r->boot, sizeof r->boot));
    return r;
}

static void reporter_rest(struct peal_presence *p, struct reporter *r)
{
    if (!peal_list_empty(&r->sources)) return;
    if (r->lost)
        peal_list_remove(&r->dropped_in);
    else
        peal_map_remove(&p->reporters, &r->node);
    free(r);
}

static struct source *new_source(struct peal_presence *p, struct place *place, uint64_t boot,
                                 uint64_t number)
{
    struct reporter *r = ensure_reporter(p, boot);
    if (r == NULL) return NULL;
    struct source *source = calloc(1, sizeof *source);
    if (source == NULL) {
        reporter_rest(p, r);
        return NULL;
    }
    source->place = place;
    source->reporter = r;
    source->key = (struct source_key){place, boot, number};
    peal_link_init(&source->sessions);
    peal_list_append(&place->sources, &source->in_place);
    peal_list_append(&r->sources, &source->in_reporter);
    peal_map_add(&p->sources, &source->node, peal_span_make(&source->key, sizeof source->key));
    return source;
}

static void set_unlisted(struct peal_presence *p, struct source *source, uint64_t unlisted)
{
    if (unlisted == source->unlisted) return;
    source->place->unlisted += unlisted - source->unlisted;
    source->unlisted = unlisted;
    counts_changed(p, source->place);
}

static void set_watches(struct peal_presence *p, struct source *source, bool watches)
{
    struct place *place = source->place;
    if (watches == source->watches) return;
    source->watches = watches;
    if (watches)
        place->watching++;
    else
        place->watching--;
    if (!p->settled && place->watching > 0 && peal_list_empty(&place->settle_in))
        peal_list_append(&p->settling, &place->settle_in);
}

/* Takes its sessions out, at most *most of them, and frees it when none are left. */
static void drop_source(struct peal_presence *p, struct source *source, size_t *most)
{
    struct place *place = source->place;
    struct reporter *r = source->reporter;
    set_watches(p, source, false);
    set_unlisted(p, source, 0);
    for (; *most > 0 && !peal_list_empty(&source->sessions); (*most)--)
        remove_session(p, PEAL_FROM_LINK(source->sessions.next, struct session, in_source));
    if (!peal_list_empty(&source->sessions)) return;
    peal_list_remove(&source->in_place);
    peal_list_remove(&source->in_reporter);
    peal_map_remove(&p->sources, &source->node);
    free(source);
    place_rest(p, place);
    reporter_rest(p, r);
}

static void free_source(struct peal_presence *p, struct source *source)
{
    size_t all = SIZE_MAX;
    drop_source(p, source, &all);
}

/* A node that the router does not hear any more. Its people are taken out bit by bit. */
static void drop_lost(struct peal_presence *p)
{
    size_t most = DROPS;
    if (p->now_ms >= p->check_ms) {
        struct peal_map_node *next;
        p->check_ms = p->now_ms + ALIVE_CHECK_MS;
        for (struct peal_map_node *n = peal_map_next(&p->reporters, NULL); n != NULL; n = next) {
            next = peal_map_next(&p->reporters, n);
            struct reporter *r = PEAL_FROM_NODE(n, struct reporter, node);
            if (p->io.alive(p->io.ctx, r->boot)) continue;
            r->lost = true;
            peal_map_remove(&p->reporters, n);
            peal_list_append(&p->dropped, &r->dropped_in);
        }
    }
    while (most > 0 && !peal_list_empty(&p->dropped)) {
        struct reporter *r = PEAL_FROM_LINK(p->dropped.next, struct reporter, dropped_in);
        drop_source(p, PEAL_FROM_LINK(r->sources.next, struct source, in_reporter), &most);
        if (most > 0) most--; /* a source without sessions costs something too */
    }
}

/* ---- reports ----------------------------------------------------------------------------- */

/* The first page of all that a source has. NULL on ENOMEM. */
static struct source *begin_whole(struct peal_presence *p, uint64_t boot,
                                  const struct peal_frame *f)
{
    struct place *place = ensure_place(p, f->group);
    if (place == NULL) return NULL;
    struct source *source = find_source(p, place, boot, f->source);
    if (source != NULL && source->reporter->lost) {
        /* The node is back before all of it was taken out. */
        free_source(p, source);
        source = NULL;
        place = ensure_place(p, f->group);
        if (place == NULL) return NULL;
    }
    if (source == NULL) source = new_source(p, place, boot, f->source);
    if (source == NULL) {
        place_rest(p, place);
        return NULL;
    }
    source->saying = f->to;
    source->named = 0;
    source->round++;
    source->whole = false;
    source->overflow = false;
    return source;
}

static struct source *source_of(const struct peal_presence *p, uint64_t boot,
                                const struct peal_frame *f)
{
    struct place *place = find_place(p, f->group);
    struct source *source = place == NULL ? NULL : find_source(p, place, boot, f->source);
    return source == NULL || source->reporter->lost ? NULL : source;
}

static void take_people(struct peal_presence *p, struct source *source, const struct peal_frame *f)
{
    for (size_t i = 0; i < f->people.count; i++) {
        const struct peal_person *person = &f->people.at[i];
        if (person->count > 0) {
            if (!add_session(p, source, person)) source->overflow = true;
            continue;
        }
        struct session *session = find_session(p, source->place, person->session);
        if (session != NULL && session->source == source) remove_session(p, session);
    }
}

static void drop_unnamed(struct peal_presence *p, struct source *source)
{
    PEAL_LIST_EACH(&source->sessions, it, after)
    {
        struct session *session = PEAL_FROM_LINK(it, struct session, in_source);
        if (session->round != source->round) remove_session(p, session);
    }
}

/* The report is complete: does it agree with how many the source says it has? */
static enum peal_err finish(struct peal_presence *p, struct source *source,
                            const struct peal_frame *f)
{
    bool short_of = source->count < f->limit;
    if (source->count > f->limit || (short_of && !source->overflow)) {
        peal_log(PEAL_LOG_WARN, "presence.differs", "boot=%016llx known=%u told=%llu",
                 (unsigned long long)source->key.boot, source->count, (unsigned long long)f->limit);
        source->whole = false;
        return PEAL_EAGAIN;
    }
    source->version = f->to;
    source->whole = true;
    if (short_of && source->unlisted == 0)
        peal_log(PEAL_LOG_WARN, "presence.full", "sessions=%zu limits.presence=%llu",
                 p->sessions.count, (unsigned long long)p->sessions_max);
    set_unlisted(p, source, f->limit - source->count);
    set_watches(p, source, (f->flags & PEAL_FLAG_WATCH) != 0);
    if (f->limit == 0) free_source(p, source);
    return PEAL_OK;
}

static enum peal_err take_report(struct peal_presence *p, uint64_t boot, const struct peal_frame *f)
{
    bool all = (f->flags & PEAL_FLAG_ALL) != 0;
    struct source *source;
    if (all && (f->flags & PEAL_FLAG_FIRST)) {
        source = begin_whole(p, boot, f);
        if (source == NULL) return PEAL_ENOMEM;
    } else {
        source = source_of(p, boot, f);
        if (source == NULL) return PEAL_EAGAIN;
    }
    if (all ? source->saying != f->to : !source->whole || source->version != f->from)
        return PEAL_EAGAIN;
    /* There is room again for those who are only counted. */
    if (!all && source->unlisted > 0 && p->sessions.count + source->unlisted <= p->sessions_max)
        return PEAL_EAGAIN;
    take_people(p, source, f);
    if (all) {
        source->named += f->people.count;
        if (!(f->flags & PEAL_FLAG_LAST)) return PEAL_OK;
        if (source->named != f->limit) return PEAL_EAGAIN; /* a page is missing */
        drop_unnamed(p, source);
    }
    return finish(p, source, f);
}

enum peal_err peal_presence_report(struct peal_presence *p, uint64_t boot,
                                   const struct peal_frame *f, uint64_t *event)
{
    enum peal_err err = take_report(p, boot, f);
    const struct place *place = find_place(p, f->group);
    *event = place == NULL ? 0 : place->event;
    return err;
}

/* ---- telling ----------------------------------------------------------------------------- */

static bool is_settling(const struct peal_presence *p)
{
    return p->now_ms - p->started_ms < p->config->presence.settle_ms;
}

static void tell(struct peal_presence *p, struct place *place, struct peal_person *people,
                 size_t count, uint64_t flags)
{
    struct peal_frame event = {.type = PEAL_F_PRESENCE,
                               .group = name_of(place),
                               .users = place->user_count,
                               .connections = connections_of(place),
                               .flags = flags,
                               .from = place->event,
                               .to = ++p->events};
    event.people.at = people;
    event.people.count = count;
    place->event = event.to;
    for (struct peal_link *it = place->sources.next; it != &place->sources; it = it->next) {
        struct source *source = PEAL_FROM_LINK(it, struct source, in_place);
        /* Several sources may be of one node. */
        if (!source->watches || source->reporter->told == event.to) continue;
        source->reporter->told = event.to;
        p->io.tell(p->io.ctx, source->reporter->boot, &event);
    }
}

/* Tells what has changed in a place since that was told last; the users who are gone then go. */
static void flush_place(struct peal_presence *p, struct place *place)
{
    struct peal_person people[PEAL_PRESENCE_NEWS_MAX];
    struct peal_link gone;
    size_t count = 0;
    bool truncated = false;
    peal_link_init(&gone);
    PEAL_LIST_EACH(&place->news, it, after)
    {
        struct user *u = PEAL_FROM_LINK(it, struct user, news_in);
        bool there = is_there(u);
        bool news = there != u->told || place->shown;
        if (news && count == PEAL_PRESENCE_NEWS_MAX)
            truncated = true;
        else if (news)
            people[count++] = (struct peal_person){.user = user_name(u), .count = there};
        u->told = there;
        peal_list_remove(it);
        if (!there) peal_list_append(&gone, it);
    }
    bool counts = place->shown || place->user_count != place->told_users ||
                  connections_of(place) != place->told_connections;
    if (!is_settling(p) && place->watching > 0 && (count > 0 || counts))
        tell(p, place, people, truncated ? 0 : count, truncated ? PEAL_FLAG_TRUNCATED : 0);
    place->told_users = place->user_count;
    place->told_connections = connections_of(place);
    place->shown = false;
    peal_list_remove(&place->names_in);
    peal_list_remove(&place->counts_in);
    while (!peal_list_empty(&gone))
        free_user(p, PEAL_FROM_LINK(gone.next, struct user, news_in));
    place_rest(p, place);
}

static void flush_due(struct peal_presence *p)
{
    PEAL_LIST_EACH(&p->names, it, after)
    {
        struct place *place = PEAL_FROM_LINK(it, struct place, names_in);
        if (p->now_ms < place->names_ms) break;
        flush_place(p, place);
    }
    PEAL_LIST_EACH(&p->counts, it, after)
    {
        struct place *place = PEAL_FROM_LINK(it, struct place, counts_in);
        if (p->now_ms < place->counts_ms) break;
        flush_place(p, place);
    }
}

/* Whoever watched all the while has not heard what has changed since before the start. */
static void tell_settled(struct peal_presence *p)
{
    if (is_settling(p)) return;
    p->settled = true;
    for (int i = 0; i < SETTLED && !peal_list_empty(&p->settling); i++) {
        struct place *place = PEAL_FROM_LINK(p->settling.next, struct place, settle_in);
        peal_list_remove(&place->settle_in);
        tell(p, place, NULL, 0, PEAL_FLAG_TRUNCATED);
        place->told_users = place->user_count;
        place->told_connections = connections_of(place);
    }
}

void peal_presence_who(struct peal_presence *p, const struct peal_frame *in,
                       struct peal_person *people, size_t room, struct peal_frame *out)
{
    struct place *place = find_place(p, in->group);
    *out = (struct peal_frame){.type = PEAL_F_PRESENCE,
                               .req = in->req,
                               .group = in->group,
                               .flags = is_settling(p) ? PEAL_FLAG_SETTLING : 0};
    if (place == NULL) return;
    place->shown = !peal_list_empty(&place->names_in) || !peal_list_empty(&place->counts_in);
    out->to = place->event;
    out->users = place->user_count;
    out->connections = connections_of(place);
    if (place->unlisted > 0) out->flags |= PEAL_FLAG_TRUNCATED;
    out->people.at = people;
    size_t seen = 0;
    for (struct peal_link *it = place->users.next; it != &place->users; it = it->next) {
        const struct user *u = PEAL_FROM_LINK(it, struct user, in_place);
        if (!is_there(u)) continue;
        if (seen++ == PEAL_PRESENCE_LISTED) {
            out->flags |= PEAL_FLAG_TRUNCATED;
            out->offset = 0;
            return;
        }
        if (u->number <= in->offset) continue;
        if (out->people.count == room) return; /* offset says where it goes on */
        people[out->people.count++] =
            (struct peal_person){.user = user_name(u), .count = u->connections};
        out->offset = u->number;
    }
    out->offset = 0;
}

/* ---- time and life ----------------------------------------------------------------------- */

void peal_presence_drop_slots(struct peal_presence *p, const bool slots[PEAL_SLOTS])
{
    struct peal_map_node *next;
    for (struct peal_map_node *n = peal_map_next(&p->sources, NULL); n != NULL; n = next) {
        next = peal_map_next(&p->sources, n);
        struct source *source = PEAL_FROM_NODE(n, struct source, node);
        if (slots[peal_group_slot(name_of(source->place))]) free_source(p, source);
    }
}

void peal_presence_set_time(struct peal_presence *p, uint64_t now_ms)
{
    if (!p->started) p->started_ms = now_ms;
    p->started = true;
    p->now_ms = now_ms;
}

void peal_presence_on_tick(struct peal_presence *p)
{
    drop_lost(p);
    end_graces(p);
    tell_settled(p);
    flush_due(p);
}

struct peal_presence *peal_presence_new(const struct peal_config *config,
                                        const struct peal_presence_io *io, uint64_t boot)
{
    struct peal_presence *p = calloc(1, sizeof *p);
    if (p == NULL) return NULL;
    p->config = config;
    p->io = *io;
    p->events = boot;
    p->sessions_max = config->limits.presence;
    peal_link_init(&p->leaving);
    peal_link_init(&p->names);
    peal_link_init(&p->counts);
    peal_link_init(&p->settling);
    peal_link_init(&p->dropped);
    struct peal_map *maps[] = {&p->places, &p->users, &p->sessions, &p->sources, &p->reporters};
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        if (peal_map_init(maps[i]) == PEAL_OK) continue;
        peal_presence_free(p);
        return NULL;
    }
    return p;
}

void peal_presence_free(struct peal_presence *p)
{
    if (p == NULL) return;
    struct peal_map_node *n;
    while ((n = peal_map_next(&p->sources, NULL)) != NULL)
        free_source(p, PEAL_FROM_NODE(n, struct source, node));
    while ((n = peal_map_next(&p->users, NULL)) != NULL) {
        struct user *u = PEAL_FROM_NODE(n, struct user, node);
        struct place *place = u->place;
        if (is_there(u)) place->user_count--;
        free_user(p, u);
        place_rest(p, place);
    }
    peal_map_fini(&p->places);
    peal_map_fini(&p->users);
    peal_map_fini(&p->sessions);
    peal_map_fini(&p->sources);
    peal_map_fini(&p->reporters);
    free(p);
}

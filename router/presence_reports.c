/* A node that was lost is taken apart in slices, because it may have a hundred thousand sessions.
 */
#include "router/presence_reports.h"

#include <stdlib.h>

#include "base/log.h"
#include "router/presence_people.h"

enum {
    DROPS = 8192,         /* sessions of lost nodes taken out per tick: about 3 ms */
    ALIVE_CHECK_MS = 500, /* how often it is asked whether the nodes are still there */
};

/* ---- sources ----------------------------------------------------------------------------- */

static struct peal_source *find_source(const struct peal_presence *p, struct peal_place *place,
                                       uint64_t boot, uint64_t number)
{
    struct peal_source_key key = {place, boot, number};
    struct peal_map_node *n = peal_map_find(&p->sources, peal_span_make(&key, sizeof key));
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct peal_source, node);
}

static struct peal_reporter *ensure_reporter(struct peal_presence *p, uint64_t boot)
{
    struct peal_map_node *n = peal_map_find(&p->reporters, peal_span_make(&boot, sizeof boot));
    if (n != NULL) return PEAL_FROM_NODE(n, struct peal_reporter, node);
    struct peal_reporter *r = calloc(1, sizeof *r);
    if (r == NULL) return NULL;
    r->boot = boot;
    peal_link_init(&r->sources);
    peal_link_init(&r->dropped_in);
    peal_map_add(&p->reporters, &r->node, peal_span_make(&r->boot, sizeof r->boot));
    return r;
}

static void reporter_rest(struct peal_presence *p, struct peal_reporter *r)
{
    if (!peal_list_empty(&r->sources)) return;
    if (r->lost)
        peal_list_remove(&r->dropped_in);
    else
        peal_map_remove(&p->reporters, &r->node);
    free(r);
}

static struct peal_source *new_source(struct peal_presence *p, struct peal_place *place,
                                      uint64_t boot, uint64_t number)
{
    struct peal_reporter *r = ensure_reporter(p, boot);
    if (r == NULL) return NULL;
    struct peal_source *source = calloc(1, sizeof *source);
    if (source == NULL) {
        reporter_rest(p, r);
        return NULL;
    }
    source->place = place;
    source->reporter = r;
    source->key = (struct peal_source_key){place, boot, number};
    peal_link_init(&source->sessions);
    peal_list_append(&place->sources, &source->in_place);
    peal_list_append(&r->sources, &source->in_reporter);
    peal_map_add(&p->sources, &source->node, peal_span_make(&source->key, sizeof source->key));
    return source;
}

static void set_unlisted(struct peal_presence *p, struct peal_source *source, uint64_t unlisted)
{
    if (unlisted == source->unlisted) return;
    source->place->unlisted += unlisted - source->unlisted;
    source->unlisted = unlisted;
    peal_place_counts_changed(p, source->place);
}

static void set_watches(struct peal_presence *p, struct peal_source *source, bool watches)
{
    struct peal_place *place = source->place;
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
static void drop_source(struct peal_presence *p, struct peal_source *source, size_t *most)
{
    struct peal_place *place = source->place;
    struct peal_reporter *r = source->reporter;
    set_watches(p, source, false);
    set_unlisted(p, source, 0);
    for (; *most > 0 && !peal_list_empty(&source->sessions); (*most)--)
        peal_session_remove(p,
                            PEAL_FROM_LINK(source->sessions.next, struct peal_session, in_source));
    if (!peal_list_empty(&source->sessions)) return;
    peal_list_remove(&source->in_place);
    peal_list_remove(&source->in_reporter);
    peal_map_remove(&p->sources, &source->node);
    free(source);
    peal_place_rest(p, place);
    reporter_rest(p, r);
}

void peal_source_free(struct peal_presence *p, struct peal_source *source)
{
    size_t all = SIZE_MAX;
    drop_source(p, source, &all);
}

void peal_presence_drop_lost(struct peal_presence *p)
{
    size_t most = DROPS;
    if (p->now_ms >= p->check_ms) {
        struct peal_map_node *next;
        p->check_ms = p->now_ms + ALIVE_CHECK_MS;
        for (struct peal_map_node *n = peal_map_next(&p->reporters, NULL); n != NULL; n = next) {
            next = peal_map_next(&p->reporters, n);
            struct peal_reporter *r = PEAL_FROM_NODE(n, struct peal_reporter, node);
            if (p->io.alive(p->io.ctx, r->boot)) continue;
            r->lost = true;
            peal_map_remove(&p->reporters, n);
            peal_list_append(&p->dropped, &r->dropped_in);
        }
    }
    while (most > 0 && !peal_list_empty(&p->dropped)) {
        struct peal_reporter *r = PEAL_FROM_LINK(p->dropped.next, struct peal_reporter, dropped_in);
        drop_source(p, PEAL_FROM_LINK(r->sources.next, struct peal_source, in_reporter), &most);
        if (most > 0) most--; /* a source without sessions costs something too */
    }
}

/* ---- reports ----------------------------------------------------------------------------- */

/* The first page of all that a source has. NULL on ENOMEM. */
static struct peal_source *begin_whole(struct peal_presence *p, uint64_t boot,
                                       const struct peal_frame *f)
{
    struct peal_place *place = peal_place_ensure(p, f->group);
    if (place == NULL) return NULL;
    struct peal_source *source = find_source(p, place, boot, f->source);
    if (source != NULL && source->reporter->lost) {
        /* The node is back before all of it was taken out. */
        peal_source_free(p, source);
        source = NULL;
        place = peal_place_ensure(p, f->group);
        if (place == NULL) return NULL;
    }
    if (source == NULL) source = new_source(p, place, boot, f->source);
    if (source == NULL) {
        peal_place_rest(p, place);
        return NULL;
    }
    source->saying = f->to;
    source->named = 0;
    source->round++;
    source->whole = false;
    source->overflow = false;
    return source;
}

static struct peal_source *source_of(const struct peal_presence *p, uint64_t boot,
                                     const struct peal_frame *f)
{
    struct peal_place *place = peal_place_find(p, f->group);
    struct peal_source *source = place == NULL ? NULL : find_source(p, place, boot, f->source);
    return source == NULL || source->reporter->lost ? NULL : source;
}

static void take_people(struct peal_presence *p, struct peal_source *source,
                        const struct peal_frame *f)
{
    for (size_t i = 0; i < f->people.count; i++) {
        const struct peal_person *person = &f->people.at[i];
        if (person->count > 0) {
            if (!peal_session_add(p, source, person)) source->overflow = true;
            continue;
        }
        struct peal_session *session = peal_session_find(p, source->place, person->session);
        if (session != NULL && session->source == source) peal_session_remove(p, session);
    }
}

static void drop_unnamed(struct peal_presence *p, struct peal_source *source)
{
    PEAL_LIST_EACH(&source->sessions, it, after)
    {
        struct peal_session *session = PEAL_FROM_LINK(it, struct peal_session, in_source);
        if (session->round != source->round) peal_session_remove(p, session);
    }
}

/* The report is complete: does it agree with how many the source says it has? */
static enum peal_err finish(struct peal_presence *p, struct peal_source *source,
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
    if (f->limit == 0) peal_source_free(p, source);
    return PEAL_OK;
}

static enum peal_err take_report(struct peal_presence *p, uint64_t boot, const struct peal_frame *f)
{
    bool all = (f->flags & PEAL_FLAG_ALL) != 0;
    struct peal_source *source;
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
    const struct peal_place *place = peal_place_find(p, f->group);
    *event = place == NULL ? 0 : place->event;
    return err;
}

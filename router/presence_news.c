#include "router/presence_news.h"

#include "router/presence_people.h"

enum { SETTLED = 1024 }; /* groups told per tick that the router has settled */

static void tell(struct peal_presence *p, struct peal_place *place, struct peal_person *people,
                 size_t count, uint64_t flags)
{
    struct peal_frame event = {.type = PEAL_F_PRESENCE,
                               .group = peal_place_name(place),
                               .users = place->user_count,
                               .connections = peal_place_connections(place),
                               .flags = flags,
                               .from = place->event,
                               .to = ++p->events};
    event.people.at = people;
    event.people.count = count;
    place->event = event.to;
    for (struct peal_link *it = place->sources.next; it != &place->sources; it = it->next) {
        struct peal_source *source = PEAL_FROM_LINK(it, struct peal_source, in_place);
        /* Several sources may be of one node. */
        if (!source->watches || source->reporter->told == event.to) continue;
        source->reporter->told = event.to;
        p->io.tell(p->io.ctx, source->reporter->boot, &event);
    }
}

/* Tells what has changed in a place since that was told last; the users who are gone then go. */
static void flush_place(struct peal_presence *p, struct peal_place *place)
{
    struct peal_person people[PEAL_PRESENCE_NEWS_MAX];
    struct peal_link gone;
    size_t count = 0;
    bool truncated = false;
    peal_link_init(&gone);
    PEAL_LIST_EACH(&place->news, it, after)
    {
        struct peal_visitor *u = PEAL_FROM_LINK(it, struct peal_visitor, news_in);
        bool there = peal_visitor_is_there(u);
        bool news = there != u->told || place->shown;
        if (news && count == PEAL_PRESENCE_NEWS_MAX)
            truncated = true;
        else if (news)
            people[count++] = (struct peal_person){.user = peal_visitor_name(u), .count = there};
        u->told = there;
        peal_list_remove(it);
        if (!there) peal_list_append(&gone, it);
    }
    bool counts = place->shown || place->user_count != place->told_users ||
                  peal_place_connections(place) != place->told_connections;
    if (!peal_presence_is_settling(p) && place->watching > 0 && (count > 0 || counts))
        tell(p, place, people, truncated ? 0 : count, truncated ? PEAL_FLAG_TRUNCATED : 0);
    place->told_users = place->user_count;
    place->told_connections = peal_place_connections(place);
    place->shown = false;
    peal_list_remove(&place->names_in);
    peal_list_remove(&place->counts_in);
    while (!peal_list_empty(&gone))
        peal_visitor_free(p, PEAL_FROM_LINK(gone.next, struct peal_visitor, news_in));
    peal_place_rest(p, place);
}

void peal_presence_flush_due(struct peal_presence *p)
{
    PEAL_LIST_EACH(&p->names, it, after)
    {
        struct peal_place *place = PEAL_FROM_LINK(it, struct peal_place, names_in);
        if (p->now_ms < place->names_ms) break;
        flush_place(p, place);
    }
    PEAL_LIST_EACH(&p->counts, it, after)
    {
        struct peal_place *place = PEAL_FROM_LINK(it, struct peal_place, counts_in);
        if (p->now_ms < place->counts_ms) break;
        flush_place(p, place);
    }
}

void peal_presence_tell_settled(struct peal_presence *p)
{
    if (peal_presence_is_settling(p)) return;
    p->settled = true;
    for (int i = 0; i < SETTLED && !peal_list_empty(&p->settling); i++) {
        struct peal_place *place = PEAL_FROM_LINK(p->settling.next, struct peal_place, settle_in);
        peal_list_remove(&place->settle_in);
        tell(p, place, NULL, 0, PEAL_FLAG_TRUNCATED);
        place->told_users = place->user_count;
        place->told_connections = peal_place_connections(place);
    }
}

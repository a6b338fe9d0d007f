/* Who asks, time, and life. What is there, who said so and who is told of it are in files of their
 * own, over one state (presence_state.h). */
#include "router/presence.h"

#include <stdlib.h>

#include "proto/group.h"
#include "router/presence_news.h"
#include "router/presence_people.h"
#include "router/presence_reports.h"

void peal_presence_who(struct peal_presence *p, const struct peal_frame *in,
                       struct peal_person *people, size_t room, struct peal_frame *out)
{
    struct peal_place *place = peal_place_find(p, in->group);
    *out = (struct peal_frame){.type = PEAL_F_PRESENCE,
                               .req = in->req,
                               .group = in->group,
                               .flags = peal_presence_is_settling(p) ? PEAL_FLAG_SETTLING : 0};
    if (place == NULL) return;
    place->shown = !peal_list_empty(&place->names_in) || !peal_list_empty(&place->counts_in);
    out->to = place->event;
    out->users = place->user_count;
    out->connections = peal_place_connections(place);
    if (place->unlisted > 0) out->flags |= PEAL_FLAG_TRUNCATED;
    out->people.at = people;
    size_t seen = 0;
    for (struct peal_link *it = place->users.next; it != &place->users; it = it->next) {
        const struct peal_visitor *u = PEAL_FROM_LINK(it, struct peal_visitor, in_place);
        if (!peal_visitor_is_there(u)) continue;
        if (seen++ == PEAL_PRESENCE_LISTED) {
            out->flags |= PEAL_FLAG_TRUNCATED;
            out->offset = 0;
            return;
        }
        if (u->number <= in->offset) continue;
        if (out->people.count == room) return; /* offset says where it goes on */
        people[out->people.count++] =
            (struct peal_person){.user = peal_visitor_name(u), .count = u->connections};
        out->offset = u->number;
    }
    out->offset = 0;
}

void peal_presence_drop_slots(struct peal_presence *p, const bool slots[PEAL_SLOTS])
{
    struct peal_map_node *next;
    for (struct peal_map_node *n = peal_map_next(&p->sources, NULL); n != NULL; n = next) {
        next = peal_map_next(&p->sources, n);
        struct peal_source *source = PEAL_FROM_NODE(n, struct peal_source, node);
        if (slots[peal_group_slot(peal_place_name(source->place))]) peal_source_free(p, source);
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
    peal_presence_drop_lost(p);
    peal_presence_end_graces(p);
    peal_presence_tell_settled(p);
    peal_presence_flush_due(p);
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
        peal_source_free(p, PEAL_FROM_NODE(n, struct peal_source, node));
    while ((n = peal_map_next(&p->users, NULL)) != NULL) {
        struct peal_visitor *u = PEAL_FROM_NODE(n, struct peal_visitor, node);
        struct peal_place *place = u->place;
        if (peal_visitor_is_there(u)) place->user_count--;
        peal_visitor_free(p, u);
        peal_place_rest(p, place);
    }
    peal_map_fini(&p->places);
    peal_map_fini(&p->users);
    peal_map_fini(&p->sessions);
    peal_map_fini(&p->sources);
    peal_map_fini(&p->reporters);
    free(p);
}

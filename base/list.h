/* base/list.h: an intrusive, circular, doubly linked list.
 *
 * The link is embedded in the listed object; the list holds no memory and no references.
 * A link that is in no list points at itself, so removing twice is harmless.
 * Thread: the owner of the objects. */
#ifndef PEAL_BASE_LIST_H
#define PEAL_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct peal_link {
    struct peal_link *next;
    struct peal_link *prev;
};

/* The object of type `type` whose member `member` is the link at `link`. */
#define PEAL_FROM_LINK(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

/* Walks the list; the object at `it` may be removed meanwhile, no other one may. */
#define PEAL_LIST_EACH(list, it, after)                                                            \
    for (struct peal_link *it = (list)->next, *after = it->next; it != (list);                     \
         it = after, after = it->next)

static inline void peal_link_init(struct peal_link *link)
{
    link->next = link->prev = link;
}

static inline bool peal_list_empty(const struct peal_link *list)
{
    return list->next == list;
}

static inline void peal_list_append(struct peal_link *list, struct peal_link *link)
{
    link->prev = list->prev;
    link->next = list;
    list->prev->next = link;
    list->prev = link;
}

static inline void peal_list_remove(struct peal_link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    peal_link_init(link);
}

#endif

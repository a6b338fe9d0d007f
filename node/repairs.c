#include "node/repairs.h"

void peal_repairs_init(struct peal_repairs *r)
{
    *r = (struct peal_repairs){0};
    peal_link_init(&r->line);
}

static struct peal_order *take_first(struct peal_repairs *r)
{
    struct peal_order *order = PEAL_FROM_LINK(r->line.next, struct peal_order, in_line);
    peal_list_remove(&order->in_line);
    r->line_count--;
    return order;
}

void peal_repairs_fini(struct peal_repairs *r)
{
    while (r->line_count > 0)
        peal_order_free(take_first(r));
}

enum peal_err peal_repairs_add(struct peal_repairs *r, struct peal_order *order, uint64_t now_ms)
{
    if (r->line_count == PEAL_REPAIRS_LINE) return PEAL_EQUEUE_FULL;
    order->since_ms = now_ms;
    peal_list_append(&r->line, &order->in_line);
    r->line_count++;
    return PEAL_OK;
}

/* PEAL_REPAIRS_MAX when there is none. */
static size_t find(const struct peal_repairs *r, uint64_t req)
{
    size_t i = 0;
    while (i < PEAL_REPAIRS_MAX && r->flying[i].req != req)
        i++;
    return i;
}

struct peal_order *peal_repairs_next(struct peal_repairs *r, uint64_t now_ms)
{
    size_t free_at = find(r, 0);
    if (r->line_count == 0 || free_at == PEAL_REPAIRS_MAX) return NULL;
    struct peal_order *order = take_first(r);
    r->flying[free_at].req = order->req;
    r->flying[free_at].since_ms = now_ms;
    return order;
}

bool peal_repairs_done(struct peal_repairs *r, uint64_t req)
{
    size_t i = req == 0 ? PEAL_REPAIRS_MAX : find(r, req);
    if (i == PEAL_REPAIRS_MAX) return false;
    r->flying[i].req = 0;
    return true;
}

uint64_t peal_repairs_late(struct peal_repairs *r, uint64_t now_ms)
{
    for (size_t i = 0; i < PEAL_REPAIRS_MAX; i++) {
        uint64_t req = r->flying[i].req;
        if (req == 0 || now_ms - r->flying[i].since_ms < PEAL_REPAIR_MS) continue;
        r->flying[i].req = 0;
        return req;
    }
    if (r->line_count == 0) return 0;
    const struct peal_order *first = PEAL_FROM_LINK(r->line.next, struct peal_order, in_line);
    if (now_ms - first->since_ms < PEAL_REPAIR_MS) return 0;
    struct peal_order *order = take_first(r);
    uint64_t req = order->req;
    peal_order_free(order);
    return req;
}

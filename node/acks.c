#include "node/acks.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "node/groups.h"

enum {
    RETRY_MS = 1000,  /* after an ack that the router did not confirm */
    TRIES_ALONE = 60, /* of a group without members */
};

static void send_later(struct peal_acks *acks, uint64_t ms)
{
    struct peal_hub *hub = acks->group->hub;
    acks->due_ms = hub->now_ms + ms;
    peal_list_remove(&acks->waiting);
    peal_list_append(ms == RETRY_MS ? &hub->ack_retries : &hub->acks, &acks->waiting);
}

static void on_answer(struct peal_request *request, const struct peal_frame *answer)
{
    struct peal_acks *acks = PEAL_FROM_LINK(request, struct peal_acks, request);
    struct peal_group *g = acks->group;
    bool confirmed = answer != NULL && answer->code == PEAL_OK;
    bool done = confirmed && acks->upto <= acks->sent;
    if (confirmed) acks->tries = 0;
    if (!confirmed && g->member_count == 0) done = ++acks->tries >= TRIES_ALONE;
    if (!done) {
        send_later(acks, confirmed ? PEAL_ACK_JOIN_MS : RETRY_MS);
        return;
    }
    peal_acks_drop(g);
    peal_group_rest(g);
}

static void send_now(struct peal_acks *acks)
{
    struct peal_group *g = acks->group;
    struct peal_frame mark = {.type = PEAL_F_MARK,
                              .group = peal_group_span(g),
                              .flags = PEAL_FLAG_ACK,
                              .upto = acks->upto};
    peal_list_remove(&acks->waiting);
    acks->sent = acks->upto;
    if (peal_request_send(g->hub, &acks->request, peal_group_span(g), &mark) != PEAL_OK)
        send_later(acks, RETRY_MS);
}

void peal_group_ack(struct peal_group *g, uint64_t upto)
{
    if (g->acks == NULL) {
        g->acks = calloc(1, sizeof *g->acks);
        if (g->acks == NULL) {
            peal_log(PEAL_LOG_ERROR, "ack.dropped", "reason=\"out of memory\"");
            return;
        }
        g->acks->group = g;
        peal_request_init(&g->acks->request, on_answer);
        peal_link_init(&g->acks->waiting);
    }
    if (upto <= g->acks->upto) return; /* the store knows where the newest is */
    g->acks->upto = upto;
    if (peal_list_empty(&g->acks->waiting) && !peal_request_waits(&g->acks->request))
        send_later(g->acks, PEAL_ACK_JOIN_MS);
}

void peal_acks_drop(struct peal_group *g)
{
    if (g->acks == NULL) return;
    peal_request_cancel(g->hub, &g->acks->request);
    peal_list_remove(&g->acks->waiting);
    free(g->acks);
    g->acks = NULL;
}

/* The list is in the order in which its acks are due. */
static void send_due(struct peal_hub *hub, struct peal_link *list)
{
    while (!peal_list_empty(list)) {
        struct peal_acks *acks = PEAL_FROM_LINK(list->next, struct peal_acks, waiting);
        if (hub->now_ms < acks->due_ms) return;
        send_now(acks);
    }
}

void peal_acks_on_tick(struct peal_hub *hub)
{
    send_due(hub, &hub->acks);
    send_due(hub, &hub->ack_retries);
}

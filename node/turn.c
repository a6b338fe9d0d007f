/* The messages of a group are a chain of indexes, so that collecting allocates nothing. A flush
 * takes the chain off the group first and then cuts it into runs of at most PEAL_RUN_BYTES. */
#include "node/turn.h"

#include "base/assert.h"
#include "base/metrics.h"
#include "node/conn.h"
#include "node/member.h"

enum { DIALECTS = PEAL_DIALECT_RAW + 1, AHEAD = 4 };

_Static_assert((int)PEAL_TURN_MESSAGES <= (int)UINT16_MAX - 1, "index + 1 is a uint16_t");

/* Messages `first`.. of a chain, as many as go into one run. */
struct part {
    struct peal_group *group;
    uint16_t first;
    uint16_t last;
    uint32_t count;
    struct peal_run *runs[DIALECTS]; /* rendered when the first member of the dialect comes */
};

/* NULL on ENOMEM. */
static struct peal_run *render(struct peal_hub *hub, const struct part *part,
                               const struct peal_dialect *dialect)
{
    struct peal_turn *turn = &hub->turn;
    uint32_t count = 0;
    turn->bytes.size = 0;
    for (uint16_t at = part->first;; at = turn->messages[at - 1].next) {
        const struct peal_turn_message *message = &turn->messages[at - 1];
        struct peal_message_facts facts = {.unread = message->unread, .rev = message->rev};
        dialect->message(&turn->bytes, &message->env, &facts);
        turn->ends[count++] = (uint32_t)turn->bytes.size;
        if (at == part->last) break;
    }
    if (!turn->bytes.failed)
        return peal_run_new(&hub->runs, peal_buf_span(&turn->bytes), turn->ends, count);
    peal_buf_fini(&turn->bytes);
    return NULL;
}

static void deliver_to(struct peal_hub *hub, struct part *part, struct peal_member *m)
{
    struct peal_group *g = part->group;
    struct peal_conn *conn = m->conn;
    const struct peal_envelope *first = &hub->turn.messages[part->first - 1].env;
    struct peal_run **run = &part->runs[conn->dialect->kind];
    if (*run == NULL) *run = render(hub, part, conn->dialect);
    uint32_t taken = *run == NULL ? 0 : peal_conn_deliver(conn, *run);
    if (taken > 0 && g->inbox) peal_conn_acked_by_ping(conn, first->offset + taken - 1);
    if (taken == part->count) return;
    if (g->keeps || *run == NULL) {
        /* The rest comes by a page, or its loss is told by one. */
        peal_member_fall_behind(m, first->epoch, first->offset + taken - 1);
        return;
    }
    size_t next = peal_run_end(*run, taken + 1) - peal_run_end(*run, taken);
    bool room = peal_outq_has_room(&conn->outq, &hub->queue, next);
    peal_conn_count_dropped(conn, part->count - taken, room ? PEAL_ENOMEM : PEAL_EFULL);
    peal_conn_close(conn, 4208, "slow", PEAL_M_CLOSED_SLOW);
}

static void deliver(struct peal_hub *hub, struct part *part)
{
    PEAL_LIST_EACH(&part->group->live, it, after)
    {
        struct peal_member *m = PEAL_FROM_LINK(it, struct peal_member, in_group);
        /* Connections lie scattered; the next one is fetched while this one is served. */
        if (after != &part->group->live)
            __builtin_prefetch(PEAL_FROM_LINK(after, struct peal_member, in_group)->conn);
        if (m->conn->open) deliver_to(hub, part, m);
    }
    for (size_t i = 0; i < DIALECTS; i++)
        peal_run_unref(part->runs[i]);
}

void peal_turn_add(struct peal_hub *hub, struct peal_group *g, const struct peal_letter *letter)
{
    struct peal_turn *turn = &hub->turn;
    PEAL_ASSERT(!turn->delivering);
    if (turn->message_count == PEAL_TURN_MESSAGES) peal_turn_end(hub);
    __builtin_prefetch(PEAL_FROM_LINK(g->live.next, struct peal_member, in_group));
    struct peal_turn_message *message = &turn->messages[turn->message_count++];
    message->env = letter->env;
    message->unread = letter->frame.unread;
    message->rev = g->inbox ? letter->frame.rev : 0; /* only inboxes have counts */
    message->next = 0;
    if (g->turn_first == 0) {
        g->turn_first = turn->message_count;
        g->turn_slot = turn->group_count;
        turn->groups[turn->group_count++] = g;
    } else {
        turn->messages[g->turn_last - 1].next = turn->message_count;
    }
    g->turn_last = turn->message_count;
}

void peal_turn_keep(struct peal_turn *turn, struct peal_mail *mail)
{
    mail->next = turn->mails;
    turn->mails = mail;
}

void peal_turn_flush_group(struct peal_hub *hub, struct peal_group *g)
{
    struct peal_turn *turn = &hub->turn;
    uint16_t at = g->turn_first;
    if (at == 0) return;
    PEAL_ASSERT(!turn->delivering);
    turn->groups[g->turn_slot] = NULL;
    g->turn_first = 0;
    turn->delivering = true;
    while (at != 0) {
        struct part part = {.group = g, .first = at};
        size_t bytes = 0;
        do {
            part.last = at;
            part.count++;
            bytes += turn->messages[at - 1].env.data.size;
            at = turn->messages[at - 1].next;
        } while (at != 0 && bytes < PEAL_RUN_BYTES);
        deliver(hub, &part);
    }
    turn->delivering = false;
}

/* Messages to many groups of few members find nothing of them in the cache: what the first member
 * of a group needs is on its way, in three steps that depend on each other, while the groups before
 * are served. */
static void fetch_group(const struct peal_group *g)
{
    __builtin_prefetch(&g->live);
    __builtin_prefetch(&g->turn_first, 1);
}

static const struct peal_member *first_of(const struct peal_group *g)
{
    if (peal_list_empty(&g->live)) return NULL;
    return PEAL_FROM_LINK(g->live.next, const struct peal_member, in_group);
}

static void fetch_member(const struct peal_group *g)
{
    const struct peal_member *first = first_of(g);
    if (first == NULL) return;
    __builtin_prefetch(&first->in_group);
    __builtin_prefetch(&first->pursuit);
}

static void fetch_conn(const struct peal_group *g)
{
    const struct peal_member *first = first_of(g);
    if (first == NULL) return;
    const char *conn = (const char *)first->conn;
    __builtin_prefetch(conn);
    __builtin_prefetch(conn + 64);
    __builtin_prefetch(conn - 64); /* the transport's part, which embeds it */
}

static void fetch_ahead(const struct peal_turn *turn, unsigned i, unsigned ahead,
                        void (*fetch)(const struct peal_group *))
{
    i += ahead;
    if (i < turn->group_count && turn->groups[i] != NULL) fetch(turn->groups[i]);
}

void peal_turn_end(struct peal_hub *hub)
{
    struct peal_turn *turn = &hub->turn;
    for (uint16_t i = 0; i < turn->group_count; i++) {
        fetch_ahead(turn, i, 3 * AHEAD, fetch_group);
        fetch_ahead(turn, i, 2 * AHEAD, fetch_member);
        fetch_ahead(turn, i, AHEAD, fetch_conn);
        if (turn->groups[i] != NULL) peal_turn_flush_group(hub, turn->groups[i]);
    }
    while (turn->mails != NULL) {
        struct peal_mail *mail = turn->mails;
        turn->mails = mail->next;
        peal_mail_free(mail);
    }
    turn->message_count = 0;
    turn->group_count = 0;
}

void peal_turn_fini(struct peal_turn *turn)
{
    PEAL_ASSERT(turn->message_count == 0);
    peal_buf_fini(&turn->bytes);
}

/* A slot is short against the second in which leaving clients are counted: n connections in T ms
 * begin a slot every (T - width) / n ms, and a client that waits for up to a width in its slot
 * moves at most a width's worth of others into the same second. With a width of a sixteenth of T
 * and at most 250 ms that is at most a third more than on average; the rest of the half is for the
 * ticks of the wheel and the network.
 *
 * Connections are told from the front of the hub's list, and go to its back: who ends meanwhile is
 * just no longer there. The first slots are told first, far faster than they come. */
#include "node/drain.h"

#include "node/conn.h"

enum { WIDTH_PART = 16, WIDTH_MS_MAX = 250 };

void peal_drain_init(struct peal_drain *d, uint32_t worker, uint32_t worker_count)
{
    *d = (struct peal_drain){.worker = worker, .worker_count = worker_count};
}

static void enter(struct peal_drain *d, const struct peal_hub *hub, enum peal_drain_phase phase)
{
    d->phase = phase;
    d->since_ms = hub->now_ms;
    d->count = hub->conn_count;
    d->told = 0;
}

void peal_drain_begin(struct peal_drain *d, const struct peal_hub *hub)
{
    if (d->phase == PEAL_DRAIN_OFF) enter(d, hub, PEAL_DRAIN_SETTLE);
}

void peal_drain_hurry(struct peal_drain *d, const struct peal_hub *hub)
{
    d->hurried = true;
    if (d->phase != PEAL_DRAIN_CLOSE) enter(d, hub, PEAL_DRAIN_CLOSE);
}

static bool is_over(const struct peal_drain *d, const struct peal_hub *hub, uint64_t ms)
{
    return hub->now_ms - d->since_ms >= ms;
}

void peal_drain_advance(struct peal_drain *d, const struct peal_hub *hub)
{
    if (d->phase == PEAL_DRAIN_SETTLE && is_over(d, hub, hub->config->drain.settle_ms))
        enter(d, hub, PEAL_DRAIN_SPREAD);
    if (d->phase == PEAL_DRAIN_SPREAD &&
        (hub->conn_count == 0 || is_over(d, hub, hub->config->drain.spread_ms)))
        enter(d, hub, PEAL_DRAIN_CLOSE);
}

static void give_slot(const struct peal_drain *d, struct peal_conn *conn)
{
    uint64_t spread_ms = conn->hub->config->drain.spread_ms;
    uint64_t at_ms = d->since_ms + peal_drain_slot_ms(d, d->told, d->count, spread_ms);
    uint64_t now_ms = conn->hub->now_ms;
    peal_conn_goaway(conn, at_ms > now_ms ? at_ms - now_ms : 0, peal_drain_width_ms(spread_ms));
}

bool peal_drain_tell(struct peal_drain *d, struct peal_hub *hub)
{
    if (d->phase != PEAL_DRAIN_SPREAD && d->phase != PEAL_DRAIN_CLOSE) return false;
    for (int i = 0; i < PEAL_DRAIN_AT_ONCE; i++) {
        if (d->told == d->count || peal_list_empty(&hub->conns)) return false;
        struct peal_link *first = hub->conns.next;
        struct peal_conn *conn = PEAL_FROM_LINK(first, struct peal_conn, in_hub);
        if (d->phase == PEAL_DRAIN_SPREAD &&
            peal_deadline_waits(&conn->deadlines, PEAL_DUE_DRAIN)) {
            d->told = d->count; /* some have ended meanwhile, and all others have a slot */
            return false;
        }
        peal_list_remove(first);
        peal_list_append(&hub->conns, first);
        if (d->phase == PEAL_DRAIN_SPREAD)
            give_slot(d, conn);
        else
            peal_conn_close(conn, 4301, "drain", PEAL_M_CLOSED_SHUTDOWN);
        d->told++;
    }
    return d->told < d->count;
}

const char *peal_drain_word(enum peal_drain_phase phase)
{
    static const char *const words[] = {"off", "settle", "spread", "close"};
    return words[phase];
}

uint64_t peal_drain_width_ms(uint64_t spread_ms)
{
    uint64_t width_ms = spread_ms / WIDTH_PART;
    return width_ms < WIDTH_MS_MAX ? width_ms : WIDTH_MS_MAX;
}

uint64_t peal_drain_slot_ms(const struct peal_drain *d, uint64_t index, uint64_t count,
                            uint64_t spread_ms)
{
    uint64_t room_ms = spread_ms - peal_drain_width_ms(spread_ms);
    return (index * d->worker_count + d->worker) * room_ms / (count * d->worker_count);
}

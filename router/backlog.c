#include "router/backlog.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/metrics.h"

enum { MEASURE_MS = 500 }; /* the store hands back whole commits, so not much less */

struct peal_backlog_peer {
    struct peal_map_node node;
    size_t count;
    size_t bytes;
    size_t id_size;
    char id[]; /* right behind the node: a find looks at it */
};

/* A publisher is asked for several times with each of its messages, and has many in a row. */
static struct peal_backlog_peer *peer_find(struct peal_backlog *b, const struct peal_peer *peer)
{
    struct peal_backlog_peer *last = b->last;
    if (last != NULL && last->id_size == peer->id_size &&
        memcmp(last->id, peer->id, peer->id_size) == 0)
        return last;
    struct peal_map_node *n = peal_map_find(&b->peers, peal_span_make(peer->id, peer->id_size));
    if (n == NULL) return NULL;
    b->last = PEAL_FROM_NODE(n, struct peal_backlog_peer, node);
    return b->last;
}

static struct peal_backlog_peer *peer_ensure(struct peal_backlog *b, const struct peal_peer *peer)
{
    struct peal_backlog_peer *p = peer_find(b, peer);
    if (p != NULL) return p;
    p = malloc(sizeof *p + peer->id_size);
    if (p == NULL) return NULL;
    *p = (struct peal_backlog_peer){.id_size = peer->id_size};
    memcpy(p->id, peer->id, peer->id_size);
    peal_map_add(&b->peers, &p->node, peal_span_make(p->id, p->id_size));
    return p;
}

static void peer_forget(struct peal_backlog *b, struct peal_backlog_peer *p)
{
    if (b->last == p) b->last = NULL;
    peal_map_remove(&b->peers, &p->node);
    free(p);
}

/* An old measurement counts for a quarter of the next one: commits come in bursts. */
static void measure(struct peal_backlog *b, uint64_t now_ms)
{
    if (now_ms - b->since_ms < MEASURE_MS) return;
    uint64_t per_s = b->done * 1000 / (now_ms - b->since_ms);
    b->per_s = b->per_s == 0 ? per_s : (3 * per_s + b->per_s) / 4;
    b->since_ms = now_ms;
    b->done = 0;
}

enum peal_err peal_backlog_init(struct peal_backlog *b)
{
    *b = (struct peal_backlog){0};
    return peal_map_init(&b->peers);
}

void peal_backlog_fini(struct peal_backlog *b)
{
    struct peal_map_node *after;
    for (struct peal_map_node *it = peal_map_next(&b->peers, NULL); it != NULL; it = after) {
        after = peal_map_next(&b->peers, it);
        peer_forget(b, PEAL_FROM_NODE(it, struct peal_backlog_peer, node));
    }
    peal_map_fini(&b->peers);
    peal_count(PEAL_M_WAITING, -(int64_t)b->count);
    *b = (struct peal_backlog){0};
}

bool peal_backlog_full(const struct peal_backlog *b)
{
    return b->bytes >= PEAL_BACKLOG_BYTES_MAX;
}

bool peal_backlog_half_full(const struct peal_backlog *b)
{
    return b->bytes >= PEAL_BACKLOG_BYTES_MAX / 2;
}

bool peal_backlog_peer_full(struct peal_backlog *b, const struct peal_peer *peer)
{
    const struct peal_backlog_peer *p = peer_find(b, peer);
    return p != NULL &&
           (p->count >= PEAL_BACKLOG_PEER_MAX || p->bytes >= PEAL_BACKLOG_PEER_BYTES_MAX);
}

enum peal_err peal_backlog_add(struct peal_backlog *b, const struct peal_peer *peer, size_t bytes,
                               uint64_t now_ms)
{
    if (peer != NULL) {
        struct peal_backlog_peer *p = peer_ensure(b, peer);
        if (p == NULL) return PEAL_ENOMEM;
        p->count++;
        p->bytes += bytes;
    }
    if (b->count == 0) { /* time in which the store had nothing to do says nothing about it */
        b->since_ms = now_ms;
        b->done = 0;
    }
    b->count++;
    b->bytes += bytes;
    peal_count(PEAL_M_WAITING, 1);
    return PEAL_OK;
}

void peal_backlog_remove(struct peal_backlog *b, const struct peal_peer *peer, size_t bytes,
                         uint64_t now_ms)
{
    PEAL_ASSERT(b->count > 0);
    PEAL_ASSERT(b->bytes >= bytes);
    if (peer != NULL) {
        struct peal_backlog_peer *p = peer_find(b, peer);
        PEAL_ASSERT(p != NULL);
        PEAL_ASSERT(p->count > 0);
        PEAL_ASSERT(p->bytes >= bytes);
        p->count--;
        p->bytes -= bytes;
        if (p->count == 0) peer_forget(b, p);
    }
    b->count--;
    b->bytes -= bytes;
    b->done++;
    peal_count(PEAL_M_WAITING, -1);
    measure(b, now_ms);
}

uint64_t peal_backlog_after_ms(const struct peal_backlog *b)
{
    if (b->per_s == 0) return PEAL_BACKLOG_AFTER_MS;
    uint64_t half_ms = b->count * 500 / b->per_s;
    if (half_ms < PEAL_BACKLOG_AFTER_MIN_MS) return PEAL_BACKLOG_AFTER_MIN_MS;
    return half_ms < PEAL_BACKLOG_AFTER_MAX_MS ? half_ms : PEAL_BACKLOG_AFTER_MAX_MS;
}

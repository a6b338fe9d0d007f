#include "router/upstream.h"

#include <stdlib.h>
#include <string.h>

#include "base/metrics.h"
#include "proto/wire.h"

struct topic {
    struct peal_map_node node;
    char name[PEAL_TOPIC_SIZE];
};

static struct topic *find_topic(const struct peal_upstream *u, struct peal_span name)
{
    struct peal_map_node *n = peal_map_find(&u->topics, name);
    return n == NULL ? NULL : PEAL_FROM_NODE(n, struct topic, node);
}

static void topic_free(struct peal_upstream *u, struct topic *topic)
{
    peal_map_remove(&u->topics, &topic->node);
    peal_count(PEAL_M_RELAY_TOPICS, -1);
    free(topic);
}

static bool is_topic(struct peal_span name)
{
    uint64_t boot;
    return peal_span_is(name, PEAL_TOPIC_ALL) || peal_topic_parse(name, &boot) == PEAL_OK;
}

static bool add_topic(struct peal_upstream *u, struct peal_span name)
{
    struct topic *topic = NULL;
    if (is_topic(name) && u->topics.count < PEAL_UPSTREAM_TOPICS) topic = malloc(sizeof *topic);
    if (topic == NULL) {
        peal_count(PEAL_M_RELAY_REFUSED, 1);
        return false;
    }
    memcpy(topic->name, name.at, name.size);
    peal_map_add(&u->topics, &topic->node, peal_span_make(topic->name, name.size));
    peal_count(PEAL_M_RELAY_TOPICS, 1);
    return true;
}

bool peal_upstream_on_subscription(struct peal_upstream *u, struct peal_span event)
{
    if (event.size == 0 || (unsigned char)event.at[0] > 1) {
        peal_count(PEAL_M_RELAY_REFUSED, 1);
        return false;
    }
    struct peal_span name = peal_span_make(event.at + 1, event.size - 1);
    struct topic *known = find_topic(u, name);
    if (event.at[0] == 1) return known == NULL && add_topic(u, name);
    if (known == NULL) return false; /* it was refused when it came */
    topic_free(u, known);
    return true;
}

void peal_upstream_on_link(struct peal_upstream *u, bool linked)
{
    if (linked != u->linked) peal_count(PEAL_M_RELAY_UPLINKS, linked ? 1 : -1);
    u->linked = linked;
    if (!linked) return;
    /* Behind the first one nobody can have missed anything: what was sent before this relay lived
     * is shown by the sequence of the first beat. */
    if (++u->links == 1) return;
    u->due = true;
    peal_count(PEAL_M_RELAY_RECONNECTS, 1);
}

bool peal_upstream_tell(struct peal_upstream *u, uint64_t now_ms)
{
    if (!u->due || !u->linked) return false;
    if (u->told && now_ms - u->told_ms < PEAL_UPSTREAM_TELL_MS) return false;
    u->due = false;
    u->told = true;
    u->told_ms = now_ms;
    return true;
}

bool peal_upstream_retry(struct peal_upstream *u, uint64_t now_ms)
{
    bool was_away = u->away;
    u->away = !u->linked;
    if (!u->away) return false;
    if (!was_away) u->away_ms = now_ms;
    if (now_ms - u->away_ms <= PEAL_UPSTREAM_RETRY_MS) return false;
    u->away_ms = now_ms;
    return true;
}

enum peal_err peal_upstream_init(struct peal_upstream *u)
{
    *u = (struct peal_upstream){0};
    return peal_map_init(&u->topics);
}

void peal_upstream_fini(struct peal_upstream *u)
{
    struct peal_map_node *next;
    if (u->topics.buckets == NULL) return;
    for (struct peal_map_node *n = peal_map_next(&u->topics, NULL); n != NULL; n = next) {
        next = peal_map_next(&u->topics, n);
        topic_free(u, PEAL_FROM_NODE(n, struct topic, node));
    }
    peal_map_fini(&u->topics);
    if (u->linked) peal_count(PEAL_M_RELAY_UPLINKS, -1);
    *u = (struct peal_upstream){0};
}

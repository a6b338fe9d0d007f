#include "node/rights.h"

#include "node/groups.h"
#include "proto/group.h"

static bool matches_any(char **patterns, size_t count, struct peal_span name)
{
    for (size_t i = 0; i < count; i++)
        if (peal_pattern_matches(patterns[i], name)) return true;
    return false;
}

static bool is_own_inbox(const struct peal_conn *conn, struct peal_span group)
{
    return conn->user != NULL && peal_group_is_inbox(group) &&
           peal_span_is(peal_group_user(group), conn->user);
}

bool peal_may_join(const struct peal_conn *conn, struct peal_span group)
{
    if (peal_group_is_inbox(group)) return is_own_inbox(conn, group);
    if (peal_span_starts(group, "sys:")) return false;
    switch (peal_group_policy(conn->hub->config, group)->join) {
    case PEAL_MAY_ANYONE:
        return true;
    case PEAL_MAY_TOKEN:
        return conn->claims != NULL &&
               matches_any(conn->claims->groups, conn->claims->group_count, group);
    default:
        return false;
    }
}

bool peal_may_publish(struct peal_conn *conn, struct peal_span group)
{
    if (peal_span_starts(group, "sys:")) return false;
    if (conn->claims != NULL &&
        matches_any(conn->claims->publish, conn->claims->publish_count, group))
        return true;
    switch (peal_group_policy(conn->hub->config, group)->publish) {
    case PEAL_MAY_ANYONE:
        return true;
    case PEAL_MAY_MEMBERS:
        return peal_member_find(conn, group) != NULL;
    default:
        return false;
    }
}

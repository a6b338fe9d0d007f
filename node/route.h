/* node/route.h: which route a path belongs to, and what its templates mean.
 *
 * A path template is literal text with `{name}` for one segment of 1..200 bytes. Paths match
 * exactly after being decoded once; a trailing slash counts; the first match wins.
 * Group templates (`user:{identity}`, `chat_{room}`) are filled from the captures and the
 * identity; a result that is no group name refuses the handshake.
 *
 * Thread: built in main, read-only afterwards. Memory: borrows the configuration. */
#ifndef PEAL_NODE_ROUTE_H
#define PEAL_NODE_ROUTE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/config.h"
#include "base/err.h"
#include "base/span.h"

enum { PEAL_CAPTURES_MAX = 8 };

struct peal_route_match {
    const struct peal_config_route *route;
    struct {
        struct peal_span name;  /* points into the template */
        struct peal_span value; /* points into the decoded path */
    } captures[PEAL_CAPTURES_MAX];
    size_t capture_count;
};

/* Errors: PEAL_ENOT_FOUND. decoded must outlive the match. */
enum peal_err peal_route_find(const struct peal_config *config, struct peal_span decoded,
                              struct peal_route_match *out);
/* The user of `identity: url`: the capture `user` or `name`, else the last one; absent when the
 * template has none. */
struct peal_span peal_route_url_user(const struct peal_route_match *match);
/* Appends a group template, filled, to out. Errors: PEAL_EFORBIDDEN when it needs {identity} and
 * there is none, PEAL_EBAD_GROUP when the result is no group name or owes its `user:` or `sys:` to
 * what was filled in, PEAL_EINVAL for an unknown {name}, PEAL_ENOMEM; out is then as it was. */
enum peal_err peal_route_fill(const struct peal_route_match *match, const char *group_template,
                              struct peal_span identity, struct peal_buf *out);
/* Checks a template at start: balanced braces, at most PEAL_CAPTURES_MAX, unique names, known names
 * in the join templates. Errors: PEAL_ECONFIG with a sentence in why. */
enum peal_err peal_route_check(const struct peal_config_route *route, char *why, size_t why_size);

/* May a page of this origin connect? Exact scheme, host and port (RFC 6454), compared without
 * regard to case. No Origin header: allowed (not a browser). Without a list: same host and port as
 * the request's Host (none there: the usual one of the origin's scheme), in dev mode also any
 * loopback host. `null` only if listed. */
bool peal_origin_allowed(const struct peal_config_route *route, bool dev, struct peal_span origin,
                         struct peal_span host);

#endif

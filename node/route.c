/* Matching walks template and path together; a capture is a whole segment, so there is nothing
 * to try twice. Origins are compared in parts, because `https://a` and `https://a:443` are the
 * same origin, and never by prefix or suffix. */
#include "node/route.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <strings.h>

#include "base/limits.h"
#include "node/head.h"
#include "proto/group.h"

static const char identity_name[] = "identity";

/* ---- templates ------------------------------------------------------------------------------- */

/* Takes `{name}` at *at and moves behind it; false when there is none, or it is not closed. */
static bool take_capture(const char **at, struct peal_span *name)
{
    if (**at != '{') return false;
    const char *from = *at + 1;
    size_t size = strcspn(from, "{}");
    if (from[size] != '}') return false;
    *name = peal_span_make(from, size);
    *at = from + size + 1;
    return true;
}

static bool add_capture(struct peal_route_match *match, struct peal_span name,
                        struct peal_span value)
{
    if (match->capture_count == PEAL_CAPTURES_MAX) return false;
    match->captures[match->capture_count].name = name;
    match->captures[match->capture_count].value = value;
    match->capture_count++;
    return true;
}

static bool match_path(const char *at, struct peal_span path, struct peal_route_match *out)
{
    size_t used = 0;
    out->capture_count = 0;
    while (*at != '\0') {
        struct peal_span name;
        if (!take_capture(&at, &name)) {
            if (used == path.size || path.at[used++] != *at++) return false;
            continue;
        }
        size_t start = used;
        while (used < path.size && path.at[used] != '/')
            used++;
        struct peal_span value = peal_span_make(path.at + start, used - start);
        if (value.size == 0 || value.size > PEAL_NAME_MAX) return false;
        if (!add_capture(out, name, value)) return false;
    }
    return used == path.size;
}

enum peal_err peal_route_find(const struct peal_config *config, struct peal_span decoded,
                              struct peal_route_match *out)
{
    for (size_t i = 0; i < config->route_count; i++) {
        if (!match_path(config->routes[i].path, decoded, out)) continue;
        out->route = &config->routes[i];
        return PEAL_OK;
    }
    *out = (struct peal_route_match){0};
    return PEAL_ENOT_FOUND;
}

/* An absent span when there is none of that name. */
static struct peal_span captured(const struct peal_route_match *match, struct peal_span name)
{
    for (size_t i = 0; i < match->capture_count; i++)
        if (peal_span_equal(match->captures[i].name, name)) return match->captures[i].value;
    return peal_span_of(NULL);
}

struct peal_span peal_route_url_user(const struct peal_route_match *match)
{
    struct peal_span user = captured(match, peal_span_of("user"));
    if (user.at == NULL) user = captured(match, peal_span_of("name"));
    if (user.at == NULL && match->capture_count > 0)
        user = match->captures[match->capture_count - 1].value;
    return user;
}

/* `user:` and `sys:` mean something in front of a name: only the template's own text may put them
 * there, not who chooses a path or a user name (`{room}` with user:bob would be bob's inbox). */
static bool prefix_is_smuggled(const char *group_template, struct peal_span group)
{
    static const char *const prefixes[] = {"user:", "sys:"};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (peal_span_starts(group, prefixes[i]) &&
            !peal_span_starts(peal_span_of(group_template), prefixes[i]))
            return true;
    return false;
}

static enum peal_err fill(const struct peal_route_match *match, const char *at,
                          struct peal_span identity, struct peal_buf *out)
{
    while (*at != '\0') {
        struct peal_span name;
        if (!take_capture(&at, &name)) {
            if (*at == '{' || *at == '}') return PEAL_EINVAL;
            peal_buf_add_char(out, *at++);
            continue;
        }
        bool is_identity = peal_span_is(name, identity_name);
        struct peal_span value = is_identity ? identity : captured(match, name);
        /* Nobody's name is empty: neither a capture nor a user. */
        if (value.size == 0) return is_identity ? PEAL_EFORBIDDEN : PEAL_EINVAL;
        peal_buf_add_span(out, value);
    }
    return out->failed ? PEAL_ENOMEM : PEAL_OK;
}

enum peal_err peal_route_fill(const struct peal_route_match *match, const char *group_template,
                              struct peal_span identity, struct peal_buf *out)
{
    size_t before = out->size;
    enum peal_err err = fill(match, group_template, identity, out);
    if (err == PEAL_OK) {
        struct peal_span group = peal_buf_span(out);
        if (before > 0) group = peal_span_make(out->at + before, out->size - before);
        err = peal_name_check(group);
        if (err == PEAL_OK && prefix_is_smuggled(group_template, group)) err = PEAL_EBAD_GROUP;
    }
    if (err != PEAL_OK) out->size = before;
    return err;
}

/* ---- checks at start ------------------------------------------------------------------------- */

static bool is_name(struct peal_span text)
{
    for (size_t i = 0; i < text.size; i++) {
        char c = text.at[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '_') return false;
    }
    return text.size > 0;
}

/* Finds the captures of a path, which have no values yet. NULL, or what is wrong with it. */
static const char *check_path(const char *path, struct peal_route_match *found)
{
    if (path[0] != '/') return "does not begin with /";
    for (const char *at = path; *at != '\0';) {
        struct peal_span name;
        bool starts_segment = at > path && at[-1] == '/';
        if (!take_capture(&at, &name)) {
            if (*at == '{' || *at == '}') return "has a brace without its other one";
            if (*at == '?' || *at == '#') return "has a ? or #: a path ends before them";
            at++;
            continue;
        }
        if (!is_name(name)) return "has a capture that is not {name}";
        if (!starts_segment || (*at != '/' && *at != '\0'))
            return "has a capture that is not a whole segment";
        if (peal_span_is(name, identity_name)) return "uses {identity}, which means the user";
        if (captured(found, name).at != NULL) return "has the same capture twice";
        if (!add_capture(found, name, name)) return "has too many captures";
    }
    return NULL;
}

static const char *check_join(const char *at, const struct peal_route_match *found)
{
    if (*at == '\0') return "is empty";
    while (*at != '\0') {
        struct peal_span name;
        if (!take_capture(&at, &name)) {
            if (*at == '{' || *at == '}') return "has a brace without its other one";
            at++;
            continue;
        }
        if (!peal_span_is(name, identity_name) && captured(found, name).at == NULL)
            return "has a {name} that is not in the path";
    }
    return NULL;
}

enum peal_err peal_route_check(const struct peal_config_route *route, char *why, size_t why_size)
{
    struct peal_route_match found = {.route = route};
    const char *wrong = check_path(route->path, &found);
    if (wrong != NULL) {
        snprintf(why, why_size, "the path %s %s", route->path, wrong);
        return PEAL_ECONFIG;
    }
    for (size_t i = 0; i < route->join.count; i++) {
        wrong = check_join(route->join.at[i], &found);
        if (wrong == NULL) continue;
        snprintf(why, why_size, "the group %s of the path %s %s", route->join.at[i], route->path,
                 wrong);
        return PEAL_ECONFIG;
    }
    return PEAL_OK;
}

/* ---- origins --------------------------------------------------------------------------------- */

struct origin {
    struct peal_span scheme;
    struct peal_span host;
    uint16_t port; /* 0: the scheme has no usual one, and none was given */
};

static bool equal_nocase(struct peal_span a, struct peal_span b)
{
    return a.size == b.size && (a.size == 0 || strncasecmp(a.at, b.at, a.size) == 0);
}

static bool is_word(struct peal_span text, const char *word)
{
    return equal_nocase(text, peal_span_of(word));
}

static uint16_t usual_port(struct peal_span scheme)
{
    if (is_word(scheme, "http") || is_word(scheme, "ws")) return 80;
    if (is_word(scheme, "https") || is_word(scheme, "wss")) return 443;
    return 0;
}

/* scheme://host[:port] and nothing else: no path, no userinfo, no second origin. */
static bool read_origin(struct peal_span text, struct origin *out)
{
    const char *colon = text.size == 0 ? NULL : memchr(text.at, ':', text.size);
    if (colon == NULL) return false;
    out->scheme = peal_span_make(text.at, (size_t)(colon - text.at));
    struct peal_span rest = peal_span_make(colon, text.size - out->scheme.size);
    if (out->scheme.size == 0 || !peal_span_starts(rest, "://")) return false;
    for (size_t i = 0; i < out->scheme.size; i++)
        if (memchr("+-.", out->scheme.at[i], 3) == NULL &&
            !is_name(peal_span_make(out->scheme.at + i, 1)))
            return false;
    rest = peal_span_make(rest.at + 3, rest.size - 3);
    if (peal_host_split(rest, &out->host, &out->port) != PEAL_OK) return false;
    if (out->port == 0) out->port = usual_port(out->scheme);
    return true;
}

static bool is_loopback(struct peal_span host)
{
    char text[INET6_ADDRSTRLEN];
    struct in_addr ipv4;
    struct in6_addr ipv6;
    if (is_word(host, "localhost")) return true;
    bool brackets = host.at[0] == '[';
    size_t size = brackets ? host.size - 2 : host.size;
    if (size >= sizeof text) return false;
    memcpy(text, host.at + (brackets ? 1 : 0), size);
    text[size] = '\0';
    if (brackets) return inet_pton(AF_INET6, text, &ipv6) == 1 && IN6_IS_ADDR_LOOPBACK(&ipv6);
    /* Four numbers, so that a name such as 127.0.0.1.example is none. */
    return inet_pton(AF_INET, text, &ipv4) == 1 && ntohl(ipv4.s_addr) >> 24 == IN_LOOPBACKNET;
}

static bool is_listed(const struct peal_config_route *route, struct peal_span origin)
{
    struct origin sent;
    bool readable = read_origin(origin, &sent);
    for (size_t i = 0; i < route->origins.count; i++) {
        struct peal_span listed = peal_span_of(route->origins.at[i]);
        struct origin entry;
        /* Also what has no parts, such as null or file:// */
        if (equal_nocase(listed, origin)) return true;
        if (readable && read_origin(listed, &entry) && sent.port == entry.port &&
            equal_nocase(sent.scheme, entry.scheme) && equal_nocase(sent.host, entry.host))
            return true;
    }
    return false;
}

bool peal_origin_allowed(const struct peal_config_route *route, bool dev, struct peal_span origin,
                         struct peal_span host)
{
    struct origin page;
    struct peal_span name;
    uint16_t port;
    if (origin.at == NULL) return true;
    if (route->origins_set) return is_listed(route, origin);

    if (!read_origin(origin, &page)) return false;
    if (!is_word(page.scheme, "http") && !is_word(page.scheme, "https")) return false;
    if (dev && is_loopback(page.host)) return true;
    if (host.at == NULL || peal_host_split(host, &name, &port) != PEAL_OK) return false;
    /* Whether TLS ended in front of us is not known here: a Host without a port means the usual
     * one of the page's own scheme. */
    if (port == 0) port = usual_port(page.scheme);
    return page.port == port && equal_nocase(page.host, name);
}

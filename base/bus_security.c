#include "base/bus_security.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"

enum { HOST_MAX = 256, WHY_MAX = 300, SETTING_MAX = 80 };

/* ---- addresses ------------------------------------------------------------------------------ */

/* 127.0.0.0/8 in full, ::1, and the name that RFC 6761 reserves. Everything else that might mean
 * loopback (127.1, ::ffff:127.0.0.1, a name, an interface) is not trusted to. */
static bool host_is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, host, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
    return strcasecmp(host, "localhost") == 0;
}

bool peal_bus_endpoint_is_local(const char *endpoint)
{
    static const char tcp[] = "tcp://";
    char host[HOST_MAX];
    struct peal_span all = peal_span_of(endpoint);
    if (peal_span_starts(all, "inproc://") || peal_span_starts(all, "ipc://")) return true;
    if (!peal_span_starts(all, tcp)) return false;
    const char *at = endpoint + sizeof tcp - 1;
    const char *colon = strrchr(at, ':');
    if (colon == NULL) return false;
    size_t size = (size_t)(colon - at);
    if (size > 2 && at[0] == '[' && at[size - 1] == ']') {
        at++;
        size -= 2;
    }
    if (size == 0 || size >= sizeof host) return false;
    memcpy(host, at, size);
    host[size] = '\0';
    return host_is_loopback(host);
}

/* ---- what a process uses -------------------------------------------------------------------- */

/* An endpoint that others can reach, and its setting. */
struct reachable {
    char setting[SETTING_MAX];
    const char *endpoint;
};

__attribute__((format(printf, 3, 4))) static bool
is_reachable(struct reachable *found, const char *endpoint, const char *setting, ...)
{
    va_list args;
    if (peal_bus_endpoint_is_local(endpoint)) return false;
    va_start(args, setting);
    vsnprintf(found->setting, sizeof found->setting, setting, args);
    va_end(args);
    found->endpoint = endpoint;
    return true;
}

/* A router that is one of several tells the others whose slots are whose. */
static bool uses_others(const struct peal_config *config, const struct peal_bus_use *use)
{
    return use->router && !use->node && config->cluster.router_count > 1;
}

static bool uses_routers(const struct peal_config *config, const struct peal_bus_use *use)
{
    return use->relay || (use->node && !use->router) || uses_others(config, use);
}

static bool uses_relays(const struct peal_config *config, const struct peal_bus_use *use)
{
    return use->node && !use->router && config->cluster.via_count > 0;
}

static bool binds(const struct peal_bus_use *use)
{
    return use->router || use->relay;
}

static bool find_door(const struct peal_config *config, const struct peal_bus_use *use,
                      struct reachable *found)
{
    const struct peal_config_router *doors = &config->doors;
    const struct peal_strings *relay = &config->relay_doors;
    bool xpub = use->relay ? relay->count == 0 : use->router && !use->node;
    if (use->router && is_reachable(found, doors->pull, "doors.pull")) return true;
    if (use->router && is_reachable(found, doors->rpc, "doors.rpc")) return true;
    if (xpub && is_reachable(found, doors->xpub, "doors.xpub")) return true;
    for (size_t i = 0; use->relay && i < relay->count; i++)
        if (is_reachable(found, relay->at[i], "doors.relay.%zu", i)) return true;
    return false;
}

static bool find_router(const struct peal_config *config, const struct peal_bus_use *use,
                        struct reachable *found)
{
    for (size_t i = 0; uses_routers(config, use) && i < config->cluster.router_count; i++) {
        const struct peal_config_router *router = &config->cluster.routers[i];
        if (!uses_relays(config, use) && !use->router &&
            is_reachable(found, router->xpub, "cluster.routers.%zu.xpub", i))
            return true;
        if (!use->relay && is_reachable(found, router->rpc, "cluster.routers.%zu.rpc", i))
            return true;
        if (use->router && is_reachable(found, router->pull, "cluster.routers.%zu.pull", i))
            return true;
    }
    return false;
}

static bool find_relay(const struct peal_config *config, const struct peal_bus_use *use,
                       struct reachable *found)
{
    for (size_t i = 0; uses_relays(config, use) && i < config->cluster.via_count; i++) {
        const struct peal_strings *xpub = &config->cluster.via[i].xpub;
        for (size_t j = 0; j < xpub->count; j++)
            if (is_reachable(found, xpub->at[j], "cluster.via.%zu.xpub.%zu", i, j)) return true;
    }
    return false;
}

/* The first router or relay to connect to that has a key, or has none; true when there is one. */
static bool find_key(const struct peal_config *config, const struct peal_bus_use *use, bool has,
                     char setting[SETTING_MAX])
{
    for (size_t i = 0; uses_routers(config, use) && i < config->cluster.router_count; i++) {
        if ((config->cluster.routers[i].key != NULL) != has) continue;
        snprintf(setting, SETTING_MAX, "cluster.routers.%zu.key", i);
        return true;
    }
    for (size_t i = 0; uses_relays(config, use) && i < config->cluster.via_count; i++) {
        if ((config->cluster.via[i].key != NULL) != has) continue;
        snprintf(setting, SETTING_MAX, "cluster.via.%zu.key", i);
        return true;
    }
    return false;
}

/* Without keys: nothing may be open, or the operator has said that it may. */
static enum peal_err load_without(const struct peal_config *config, const struct peal_bus_use *use,
                                  char *why, size_t why_size)
{
    char setting[SETTING_MAX];
    struct reachable open;
    if (find_key(config, use, true, setting)) {
        snprintf(why, why_size, "%s: needs bus.key_file, the keys of this side", setting);
        return PEAL_ECONFIG;
    }
    if (binds(use) && config->bus.peers_file != NULL) {
        snprintf(why, why_size, "bus.peers_file: needs bus.key_file, the keys of this side");
        return PEAL_ECONFIG;
    }
    if (!find_door(config, use, &open) && !find_router(config, use, &open) &&
        !find_relay(config, use, &open))
        return PEAL_OK;
    if (!config->bus.insecure) {
        snprintf(why, why_size,
                 "%s: %s is not on loopback and nothing protects it: set bus.key_file (see `peal "
                 "keygen --help`), or bus.insecure: true where the network is trusted",
                 open.setting, open.endpoint);
        return PEAL_ECONFIG;
    }
    peal_log(PEAL_LOG_WARN, "bus.insecure",
             "setting=%s endpoint=%s risk=\"whoever reaches it can read and publish everything\"",
             open.setting, open.endpoint);
    return PEAL_OK;
}

static enum peal_err load_keys(const struct peal_config *config, const struct peal_bus_use *use,
                               struct peal_bus_security *out, char *why, size_t why_size)
{
    char wrong[WHY_MAX] = "";
    char missing[SETTING_MAX];
    const char *setting = "bus.key_file";
    enum peal_err err = PEAL_OK;
    if (find_key(config, use, false, missing)) {
        snprintf(why, why_size, "%s: needed with bus.key_file: the public key of that %s", missing,
                 strstr(missing, ".via.") != NULL ? "relay" : "router");
        return PEAL_ECONFIG;
    }
    if (binds(use) && config->bus.peers_file == NULL) {
        snprintf(why, why_size, "bus.peers_file: needed with bus.key_file: who may connect");
        return PEAL_ECONFIG;
    }
    out->curve = true;
    err = peal_curve_read(config->bus.key_file, &out->own, wrong, sizeof wrong);
    if (err == PEAL_OK && binds(use)) {
        setting = "bus.peers_file";
        err = peal_peers_read(config->bus.peers_file, &out->peers, wrong, sizeof wrong);
    }
    if (err != PEAL_OK) snprintf(why, why_size, "%s: %s", setting, wrong);
    /* A file that a setting names and that is not there is a wrong setting. */
    return err == PEAL_EIO ? PEAL_ECONFIG : err;
}

enum peal_err peal_bus_security_load(const struct peal_config *config,
                                     const struct peal_bus_use *use, struct peal_bus_security *out,
                                     char *why, size_t why_size)
{
    *out = (struct peal_bus_security){0};
    enum peal_err err = config->bus.key_file == NULL ? load_without(config, use, why, why_size)
                                                     : load_keys(config, use, out, why, why_size);
    if (err != PEAL_OK) peal_bus_security_fini(out);
    return err;
}

void peal_bus_security_fini(struct peal_bus_security *security)
{
    peal_curve_wipe(&security->own);
    peal_peers_fini(&security->peers);
    *security = (struct peal_bus_security){0};
}

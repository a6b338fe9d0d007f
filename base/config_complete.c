/* What follows from the settings as a whole: secrets read from their files, rules and routes that
 * are always there, and the checks that look at more than one value.
 *
 * Completing is idempotent: a printed configuration is loaded again to the same one. Elements
 * are checked before any is added, because adding moves the numbers that messages name. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/assert.h"
#include "base/config_check.h"
#include "base/config_load.h"
#include "base/config_table.h"

enum { SECRET_FILE_MAX = 64 * 1024, SECRET_BYTES_MIN = 32 };

/* `list.index.key`, given in the configuration? */
static bool element_given(const struct peal_config_load *load, const char *list, size_t index,
                          const char *key)
{
    char path[PEAL_CONFIG_PATH_MAX];
    snprintf(path, sizeof path, "%s.%zu.%s", list, index, key);
    return peal_config_given(load, path) != NULL;
}

__attribute__((format(printf, 5, 6))) static void problem_in(struct peal_config_load *load,
                                                             const char *list, size_t index,
                                                             const char *key, const char *format,
                                                             ...)
{
    char path[PEAL_CONFIG_PATH_MAX];
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    snprintf(path, sizeof path, "%s.%zu%s%s", list, index, *key != '\0' ? "." : "", key);
    peal_config_problem_at(load, path, "%s", message);
}

static void check_required(struct peal_config_load *load)
{
    for (size_t i = 0; i < peal_option_count; i++) {
        const struct peal_option *option = &peal_options[i];
        const struct peal_option *list = peal_option_list(option);
        if (!option->required) continue;
        PEAL_ASSERT(list != NULL);
        const char *key = option->path + strlen(list->path) + strlen(".*.");
        for (size_t j = 0; j < peal_option_length(list, load->config); j++)
            if (!element_given(load, list->path, j, key))
                problem_in(load, list->path, j, "", "needs %s", key);
    }
}

/* Reads the secret in file, which path names, into *out; NULL when that failed. */
static void read_secret(struct peal_config_load *load, const char *path, const char *file,
                        size_t least, char **out)
{
    struct peal_buf text = {0};
    const char *why = NULL;
    *out = NULL;
    enum peal_err err = peal_config_read_file(file, true, SECRET_FILE_MAX, &text, &why);
    if (err == PEAL_OK && text.size > 0 && text.at[text.size - 1] == '\n') text.size--;
    if (err == PEAL_OK && text.size > 0 && text.at[text.size - 1] == '\r') text.size--;
    if (err == PEAL_EIO) {
        peal_config_problem_at(load, path, "%s cannot be read: %s", file, why);
        load->err = PEAL_EIO;
    } else if (err != PEAL_OK) {
        load->err = err;
    } else if (text.size > 0 && memchr(text.at, '\0', text.size) != NULL) {
        peal_config_problem_at(load, path, "%s has a NUL inside", file);
    } else if (text.size < least) {
        peal_config_problem_at(load, path, "%s has %zu bytes and needs at least %zu", file,
                               text.size, least);
    } else {
        *out = strndup(text.at, text.size);
        if (*out == NULL) load->err = PEAL_ENOMEM;
    }
    if (text.at != NULL) sodium_memzero(text.at, text.capacity);
    peal_buf_fini(&text);
}

static void wipe(char *secret)
{
    if (secret == NULL) return;
    sodium_memzero(secret, strlen(secret));
    free(secret);
}

static void read_key_files(struct peal_config_load *load)
{
    struct peal_config *config = load->config;
    struct peal_option_spot spot;
    bool found = peal_option_find("api.keys", &spot);
    PEAL_ASSERT(found);
    for (size_t i = 0; i < config->api.key_files.count; i++) {
        char path[PEAL_CONFIG_PATH_MAX];
        char *key;
        snprintf(path, sizeof path, "api.key_files.%zu", i);
        read_secret(load, path, config->api.key_files.at[i], 1, &key);
        if (key == NULL) continue;
        struct peal_buf why = {0};
        spot.item = config->api.keys.count;
        enum peal_err err = peal_option_set(&spot, config, key, &why);
        if (err == PEAL_ECONFIG)
            peal_config_problem_at(load, path, "in %s: %.*s", config->api.key_files.at[i],
                                   (int)why.size, why.at == NULL ? "" : why.at);
        else if (err != PEAL_OK)
            load->err = err;
        peal_buf_fini(&why);
        wipe(key);
    }
}

static void complete_keys(struct peal_config_load *load)
{
    for (size_t i = 0; i < load->config->auth.key_count; i++) {
        struct peal_config_key *key = &load->config->auth.keys[i];
        if ((key->secret == NULL) == (key->secret_file == NULL)) {
            problem_in(load, "auth.keys", i, "", "needs either secret or secret_file");
        } else if (key->secret_file != NULL) {
            char path[PEAL_CONFIG_PATH_MAX];
            snprintf(path, sizeof path, "auth.keys.%zu.secret_file", i);
            read_secret(load, path, key->secret_file, SECRET_BYTES_MIN, &key->secret);
        }
    }
}

static bool path_captures(const char *path, struct peal_span name)
{
    for (struct peal_span capture; (capture = peal_config_capture(&path)).at != NULL;)
        if (peal_span_equal(capture, name)) return true;
    return false;
}

static void check_joins(struct peal_config_load *load, size_t index)
{
    const struct peal_config_route *route = &load->config->routes[index];
    for (size_t i = 0; i < route->join.count; i++) {
        const char *at = route->join.at[i];
        for (struct peal_span name; (name = peal_config_capture(&at)).at != NULL;) {
            bool identity = peal_span_is(name, "identity");
            if (identity && route->identity == PEAL_IDENTITY_ANONYMOUS)
                problem_in(load, "routes", index, "join",
                           "{identity} has no value where the identity is anonymous");
            else if (!identity && !path_captures(route->path, name))
                problem_in(load, "routes", index, "join", "{%.*s} is not in the path %s",
                           (int)name.size, name.at, route->path);
        }
    }
}

static void complete_routes(struct peal_config_load *load)
{
    struct peal_config *config = load->config;
    for (size_t i = 0; i < config->route_count; i++) {
        struct peal_config_route *route = &config->routes[i];
        if (!element_given(load, "routes", i, "max_message"))
            route->max_message = config->limits.message;
        route->origins_set = element_given(load, "routes", i, "origins") ||
                             element_given(load, "routes", i, "origins.0");
        if (route->identity == PEAL_IDENTITY_URL && strchr(route->path, '{') == NULL)
            problem_in(load, "routes", i, "identity", "url needs a {capture} in the path");
        if (route->inbound == PEAL_INBOUND_PUBLISH && route->dialect == PEAL_DIALECT_RAW &&
            route->join.count == 0)
            problem_in(load, "routes", i, "inbound", "publish needs a group in join");
        check_joins(load, i);
        for (size_t j = 0; j < i; j++)
            if (strcmp(config->routes[j].path, route->path) == 0)
                problem_in(load, "routes", i, "path", "is never reached: %s is route %zu already",
                           route->path, j);
    }
}

static void check_groups(struct peal_config_load *load)
{
    static const char *const keep[] = {"keep.messages", "keep.bytes", "keep.age", "keep.until",
                                       "keep.settled"};
    const struct peal_config *config = load->config;
    for (size_t i = 0; i < config->group_count; i++) {
        const struct peal_config_group *group = &config->groups[i];
        if (group->durable && (element_given(load, "groups", i, "history.messages") ||
                               element_given(load, "groups", i, "history.age")))
            problem_in(load, "groups", i, "history",
                       "a durable group keeps its messages by keep and has no history");
        for (size_t k = 0; k < sizeof keep / sizeof *keep && !group->durable; k++)
            if (element_given(load, "groups", i, keep[k])) {
                problem_in(load, "groups", i, keep[k], "needs durable: true");
                break;
            }
        for (size_t j = 0; j < i; j++) {
            const char *before = config->groups[j].match;
            if (strcmp(before, "*") != 0 && strcmp(before, group->match) != 0) continue;
            problem_in(load, "groups", i, "match",
                       "is never reached: group %zu, %s, matches before", j, before);
            break;
        }
    }
}

/* Which of two lists of doors goes with which router is said by their order alone. */
static void check_doors(struct peal_config_load *load, const char *path,
                        const struct peal_strings *doors, size_t router_count)
{
    if (doors->count != router_count)
        peal_config_problem_at(load, path, "has %zu door%s for %zu router%s", doors->count,
                               doors->count == 1 ? "" : "s", router_count,
                               router_count == 1 ? "" : "s");
    for (size_t i = 0; i < doors->count; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(doors->at[i], doors->at[j]) == 0 && !peal_config_any_port(doors->at[i]))
                peal_config_problem_at(load, path, "has %s twice", doors->at[i]);
}

static void check_relays(struct peal_config_load *load)
{
    const struct peal_config *config = load->config;
    size_t count = config->cluster.router_count == 0 ? 1 : config->cluster.router_count;
    if (config->relay_doors.count > 0)
        check_doors(load, "doors.relay", &config->relay_doors, count);
    for (size_t i = 0; i < config->cluster.via_count; i++) {
        char path[PEAL_CONFIG_PATH_MAX];
        snprintf(path, sizeof path, "cluster.via.%zu.xpub", i);
        check_doors(load, path, &config->cluster.via[i].xpub, count);
    }
}

static void check_cluster(struct peal_config_load *load)
{
    const struct peal_config *config = load->config;
    const char *self = config->cluster.self;
    size_t count = config->cluster.router_count;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(config->cluster.routers[i].rpc, config->cluster.routers[j].rpc) == 0)
                problem_in(load, "cluster.routers", i, "rpc", "is that of router %zu too", j);
    if (strcmp(self, "auto") == 0) return;
    if (strtoul(self, NULL, 10) >= (count == 0 ? 1 : count))
        peal_config_problem_at(load, "cluster.self", "%s is out of range: there %s %zu router%s",
                               self, count < 2 ? "is" : "are", count == 0 ? 1 : count,
                               count < 2 ? "" : "s");
}

/* Appends an element to list; false when memory is short. */
static bool add_element(struct peal_config_load *load, const char *list)
{
    struct peal_option_spot spot;
    bool found = peal_option_find(list, &spot);
    PEAL_ASSERT(found);
    enum peal_err err = peal_option_grow(spot.option, load->config);
    if (err != PEAL_OK) load->err = err;
    return err == PEAL_OK;
}

static char *copy_text(struct peal_config_load *load, const char *text)
{
    char *copy = strdup(text);
    if (copy == NULL) load->err = PEAL_ENOMEM;
    return copy;
}

static void add_default_route(struct peal_config_load *load)
{
    static const char path[] = "/v1/ws";
    struct peal_config *config = load->config;
    if (!config->default_routes) return;
    for (size_t i = 0; i < config->route_count; i++)
        if (strcmp(config->routes[i].path, path) == 0) return;
    if (!add_element(load, "routes")) return;
    struct peal_config_route *route = &config->routes[config->route_count - 1];
    route->path = copy_text(load, path);
    route->dialect = PEAL_DIALECT_NATIVE;
    route->identity = PEAL_IDENTITY_TOKEN;
    route->max_message = config->limits.message;
}

static size_t find_group(const struct peal_config *config, const char *match)
{
    size_t i = 0;
    while (i < config->group_count && strcmp(config->groups[i].match, match) != 0)
        i++;
    return i;
}

/* A rule that takes every inbox. Its capture may have any name. */
static bool takes_inboxes(const char *match)
{
    if (strncmp(match, "user:", 5) != 0) return false;
    if (strcmp(match + 5, "*") == 0) return true;
    return match[5] == '{' && strchr(match, '}')[1] == '\0';
}

static void add_groups(struct peal_config_load *load)
{
    struct peal_config *config = load->config;
    bool inboxes = false;
    for (size_t i = 0; i < config->group_count; i++)
        inboxes |= takes_inboxes(config->groups[i].match);
    if (find_group(config, "*") == config->group_count) {
        if (!add_element(load, "groups")) return;
        struct peal_config_group *rest = &config->groups[config->group_count - 1];
        rest->match = copy_text(load, "*");
        rest->history.messages = 100;
        if (load->err != PEAL_OK) return;
    }
    if (inboxes || !add_element(load, "groups")) return;
    struct peal_config_group *last = &config->groups[config->group_count - 1];
    last->match = copy_text(load, "user:{id}");
    last->durable = true;
    if (config->dev) {
        /* The demo page sends to other people, and its badge counts what was not looked at. */
        last->publish = PEAL_MAY_ANYONE;
        last->keep.until = PEAL_UNTIL_READ;
    }
    /* The rule that takes everything stays the last one. */
    struct peal_config_group inbox = *last;
    last[0] = last[-1];
    last[-1] = inbox;
}

/* An address to bind may stand for all of them; to connect to oneself, loopback will do. */
static char *door_to_connect(struct peal_config_load *load, const char *door)
{
    static const char any[] = "tcp://*:";
    if (strncmp(door, any, sizeof any - 1) != 0) return copy_text(load, door);
    struct peal_buf out = {0};
    peal_buf_add_format(&out, "tcp://127.0.0.1:%s", door + sizeof any - 1);
    peal_buf_add_char(&out, '\0');
    if (!out.failed) return out.at;
    peal_buf_fini(&out);
    load->err = PEAL_ENOMEM;
    return NULL;
}

static void add_router(struct peal_config_load *load)
{
    struct peal_config *config = load->config;
    if (config->cluster.router_count > 0 || !add_element(load, "cluster.routers")) return;
    struct peal_config_router *router = &config->cluster.routers[0];
    router->pull = door_to_connect(load, config->doors.pull);
    router->xpub = door_to_connect(load, config->doors.xpub);
    router->rpc = door_to_connect(load, config->doors.rpc);
}

void peal_config_complete(struct peal_config_load *load)
{
    check_required(load);
    if (load->err != PEAL_OK) return;
    read_key_files(load);
    complete_keys(load);
    complete_routes(load);
    check_groups(load);
    check_cluster(load);
    check_relays(load);
    if (load->err != PEAL_OK) return;
    add_default_route(load);
    add_groups(load);
    add_router(load);
}

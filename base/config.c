/* Loading: every source becomes `path = text` (config_load.h), the table (config_table.c) knows
 * what a path means, config_value.c reads the text, config_complete.c does what needs the whole.
 * Loading goes on after a problem, so that one run names them all. */
#include "base/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "base/assert.h"
#include "base/config_load.h"
#include "base/config_table.h"
#include "base/log.h"

enum { FILE_MAX = 1024 * 1024 };

static void add_variable(const char *path, struct peal_buf *out)
{
    peal_buf_add_text(out, "PEAL_");
    for (; *path != '\0'; path++) {
        if (*path == '.')
            peal_buf_add_text(out, "__");
        else
            peal_buf_add_char(out, *path >= 'a' && *path <= 'z' ? (char)(*path - 32) : *path);
    }
}

static void add_place(const struct peal_config_load *load, struct peal_config_where where,
                      const char *path, struct peal_buf *out)
{
    switch (where.layer) {
    case PEAL_LAYER_FILE:
        peal_buf_add_text(out, load->name);
        if (where.line > 0) peal_buf_add_format(out, ":%zu", where.line);
        if (path != NULL) peal_buf_add_format(out, ": %s", path);
        break;
    case PEAL_LAYER_ENVIRONMENT:
        add_variable(path, out);
        break;
    case PEAL_LAYER_SET:
        peal_buf_add_text(out, "--set");
        if (path != NULL) peal_buf_add_format(out, " %s", path);
        break;
    }
    peal_buf_add_text(out, ": ");
}

/* Writes no more than the first problems: a wrong file may have thousands. */
static void add_problem(struct peal_config_load *load, struct peal_config_where where,
                        const char *path, const char *format, va_list args)
{
    if (load->err == PEAL_OK) load->err = PEAL_ECONFIG;
    load->problem_count++;
    if (load->problem_count > PEAL_CONFIG_PROBLEMS_MAX) return;
    char message[1024];
    vsnprintf(message, sizeof message, format, args);
    add_place(load, where, path, load->problems);
    peal_buf_add_text(load->problems, message);
    peal_buf_add_char(load->problems, '\n');
}

void peal_config_problem(struct peal_config_load *load, struct peal_config_where where,
                         const char *path, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add_problem(load, where, path, format, args);
    va_end(args);
}

void peal_config_problem_at(struct peal_config_load *load, const char *path, const char *format,
                            ...)
{
    struct peal_config_where where = {PEAL_LAYER_FILE, 0};
    char around[PEAL_CONFIG_PATH_MAX];
    snprintf(around, sizeof around, "%s", path);
    const struct peal_config_given *given = peal_config_given(load, around);
    for (char *dot; given == NULL && (dot = strrchr(around, '.')) != NULL;) {
        *dot = '\0';
        given = peal_config_given(load, around);
    }
    if (given != NULL) where = given->where;
    va_list args;
    va_start(args, format);
    add_problem(load, where, path, format, args);
    va_end(args);
}

const struct peal_config_given *peal_config_given(const struct peal_config_load *load,
                                                  const char *path)
{
    struct peal_map_node *node = peal_map_find(&load->given, peal_span_of(path));
    return node == NULL ? NULL : PEAL_FROM_NODE(node, struct peal_config_given, node);
}

/* Remembers where path was given. A later layer, and a later --set, take over; a file may not
 * say the same thing twice. */
static bool remember(struct peal_config_load *load, struct peal_config_where where,
                     const char *path)
{
    struct peal_map_node *node = peal_map_find(&load->given, peal_span_of(path));
    if (node != NULL) {
        struct peal_config_given *given = PEAL_FROM_NODE(node, struct peal_config_given, node);
        if (where.layer == PEAL_LAYER_FILE) {
            peal_config_problem(load, where, path, "given twice, the first time in line %zu",
                                given->where.line);
            return false;
        }
        given->where = where;
        return true;
    }
    size_t size = strlen(path);
    struct peal_config_given *given = calloc(1, sizeof *given + size + 1);
    if (given == NULL) {
        load->err = PEAL_ENOMEM;
        return false;
    }
    given->where = where;
    memcpy(given->path, path, size + 1);
    peal_map_add(&load->given, &given->node, peal_span_of(given->path));
    return true;
}

static void unknown(struct peal_config_load *load, struct peal_config_where where, const char *path,
                    const char *section, const char *key)
{
    char quoted[80];
    peal_log_quote(peal_span_of(key), quoted, sizeof quoted);
    const char *quote = quoted[0] == '"' ? "" : "\"";
    struct peal_buf known = {0};
    peal_option_add_keys(section, &known);
    peal_config_problem(load, where, path, "unknown key %s%s%s %s%s; known: %.*s", quote, quoted,
                        quote, *section != '\0' ? "in " : "at the top", section, (int)known.size,
                        known.at == NULL ? "" : known.at);
    peal_buf_fini(&known);
}

void peal_config_unknown(struct peal_config_load *load, struct peal_config_where where,
                         const char *section, const char *key)
{
    unknown(load, where, NULL, section, key);
}

/* The longest part of a path that is a section is what the user meant to write into. */
static void unknown_path(struct peal_config_load *load, struct peal_config_where where,
                         const char *path)
{
    char section[PEAL_CONFIG_PATH_MAX];
    snprintf(section, sizeof section, "%s", path);
    do {
        char *dot = strrchr(section, '.');
        *(dot != NULL ? dot : section) = '\0';
    } while (!peal_option_is_section(section));
    unknown(load, where, path, section, path + strlen(section) + (*section != '\0'));
}

/* Makes sure that the element exists which spot leads to. */
static bool reach_element(struct peal_config_load *load, struct peal_config_where where,
                          const struct peal_option *list, size_t index, const char *path)
{
    size_t count = peal_option_length(list, load->config);
    if (index < count) return true;
    if (index > count) {
        peal_config_problem(load, where, path, "%s has %zu elements: the next one has number %zu",
                            list->path, count, count);
        return false;
    }
    if (count >= list->max) {
        peal_config_problem(load, where, path, "%s has more than %zu elements", list->path,
                            (size_t)list->max);
        return false;
    }
    enum peal_err err = peal_option_grow(list, load->config);
    if (err != PEAL_OK) load->err = err;
    return err == PEAL_OK;
}

bool peal_config_enter(struct peal_config_load *load, struct peal_config_where where,
                       const char *path)
{
    if (!remember(load, where, path)) return false;
    for (size_t i = 0; i < peal_option_count; i++) {
        const struct peal_option *list = &peal_options[i];
        size_t size = strlen(list->path);
        if (list->kind != PEAL_OPTION_LIST || strncmp(path, list->path, size) != 0) continue;
        if (path[size] != '.') continue;
        size_t index = strtoul(path + size + 1, NULL, 10);
        return reach_element(load, where, list, index, path);
    }
    return true;
}

void peal_config_put(struct peal_config_load *load, struct peal_config_where where,
                     const char *path, const char *text)
{
    struct peal_option_spot spot;
    if (!peal_option_find(path, &spot)) {
        if (peal_option_is_section(path))
            peal_config_problem(load, where, path, "expected a mapping");
        else
            unknown_path(load, where, path);
        return;
    }
    const struct peal_option *list = peal_option_list(spot.option);
    if (list != NULL && !reach_element(load, where, list, spot.index, path)) return;
    if (spot.item != PEAL_OPTION_NO_ITEM) {
        struct peal_strings *texts = peal_option_field(spot.option, load->config, spot.index);
        if (spot.item > texts->count) {
            peal_config_problem(load, where, path,
                                "the list has %zu elements: the next one has number %zu",
                                texts->count, texts->count);
            return;
        }
    }
    if (!remember(load, where, path)) return;
    struct peal_buf why = {0};
    enum peal_err err = peal_option_set(&spot, load->config, text, &why);
    if (err == PEAL_ECONFIG)
        peal_config_problem(load, where, path, "%.*s", (int)why.size, why.at == NULL ? "" : why.at);
    else if (err != PEAL_OK)
        load->err = err;
    peal_buf_fini(&why);
}

enum peal_err peal_config_read_file(const char *path, bool regular_only, size_t max,
                                    struct peal_buf *out, const char **why)
{
    /* O_NONBLOCK: opening a FIFO that nobody writes to must fail the test, not hang. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | (regular_only ? O_NONBLOCK : 0));
    struct stat about;
    *why = NULL;
    if (fd < 0) {
        *why = strerror(errno);
        return PEAL_EIO;
    }
    if (fstat(fd, &about) != 0)
        *why = strerror(errno);
    else if (regular_only && !S_ISREG(about.st_mode))
        *why = "not a regular file";
    while (*why == NULL) {
        char *to = peal_buf_reserve(out, 4096);
        if (to == NULL) break;
        ssize_t n = read(fd, to, 4096);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) *why = strerror(errno);
        if (n <= 0) break;
        out->size += (size_t)n;
        if (out->size > max) *why = "too large";
    }
    close(fd);
    if (out->failed) return PEAL_ENOMEM;
    return *why == NULL ? PEAL_OK : PEAL_EIO;
}

static void load_file(struct peal_config_load *load)
{
    const struct peal_config_sources *from = load->from;
    struct peal_buf text = {0};
    const char *why = NULL;
    if (from->text != NULL) {
        peal_config_read_yaml(load, peal_span_make(from->text, from->text_size));
        return;
    }
    if (from->path == NULL) return;
    enum peal_err err = peal_config_read_file(from->path, false, FILE_MAX, &text, &why);
    if (err == PEAL_OK) {
        peal_config_read_yaml(load, peal_buf_span(&text));
    } else {
        if (why != NULL)
            peal_config_problem(load, (struct peal_config_where){PEAL_LAYER_FILE, 0}, NULL,
                                "cannot be read: %s", why);
        load->err = err;
    }
    if (text.at != NULL) sodium_memzero(text.at, text.capacity);
    peal_buf_fini(&text);
}

/* PEAL_API__KEYS__0 becomes api.keys.0. False for what is not written like that. */
static bool path_of_variable(const char *variable, size_t size, char *path)
{
    static const char prefix[] = "PEAL_";
    size_t n = 0;
    if (size >= PEAL_CONFIG_PATH_MAX || size < sizeof prefix) return false;
    if (strncmp(variable, prefix, sizeof prefix - 1) != 0) return false;
    for (size_t i = sizeof prefix - 1; i < size; i++) {
        char c = variable[i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c + 32);
        else if (c != '_' && (c < '0' || c > '9'))
            return false;
        if (c == '_' && i + 1 < size && variable[i + 1] == '_') {
            c = '.';
            i++;
        }
        path[n++] = c;
    }
    path[n] = '\0';
    return true;
}

static int compare_variables(const void *a, const void *b)
{
    return strverscmp(*(char *const *)a, *(char *const *)b);
}

static void load_variable(struct peal_config_load *load, const char *variable)
{
    const struct peal_config_where where = {PEAL_LAYER_ENVIRONMENT, 0};
    char path[PEAL_CONFIG_PATH_MAX];
    struct peal_option_spot spot;
    const char *equals = strchr(variable, '=');
    if (equals == NULL || !path_of_variable(variable, (size_t)(equals - variable), path)) return;
    if (peal_option_find(path, &spot)) {
        peal_config_put(load, where, path, equals + 1);
        return;
    }
    /* PEAL_LIMITS__MESAGE is a slip of the pen; PEAL_API_KEY and PEAL_PORT_8080_TCP are other
     * programs' business. */
    char *dot = strchr(path, '.');
    if (dot == NULL) return;
    *dot = '\0';
    bool ours = peal_option_is_section(path) || peal_option_find(path, &spot);
    *dot = '.';
    if (ours) unknown_path(load, where, path);
}

static void load_environment(struct peal_config_load *load)
{
    char **environment = load->from->environment;
    size_t total = 0;
    size_t count = 0;
    if (environment == NULL) return;
    while (environment[total] != NULL)
        total++;
    char **ours = malloc((total + 1) * sizeof *ours);
    if (ours == NULL) {
        load->err = PEAL_ENOMEM;
        return;
    }
    for (size_t i = 0; i < total; i++)
        if (strncmp(environment[i], "PEAL_", 5) == 0) ours[count++] = environment[i];
    /* The environment has no order, and element 1 of a list can only follow element 0. */
    qsort(ours, count, sizeof *ours, compare_variables);
    for (size_t i = 0; i < count; i++)
        load_variable(load, ours[i]);
    free(ours);
}

static void load_set(struct peal_config_load *load, const char *set)
{
    const struct peal_config_where where = {PEAL_LAYER_SET, 0};
    char path[PEAL_CONFIG_PATH_MAX];
    struct peal_option_spot spot;
    size_t size = strcspn(set, "=");
    if (set[size] == '\0' || size == 0 || size >= sizeof path) {
        peal_config_problem(load, where, NULL, "expected key=value");
        return;
    }
    memcpy(path, set, size);
    path[size] = '\0';
    if (peal_option_find(path, &spot) && peal_option_is_secret(spot.option)) {
        struct peal_buf variable = {0};
        add_variable(path, &variable);
        peal_config_problem(load, where, path,
                            "a secret on the command line shows in ps; use the file, a file "
                            "with the secret, or the variable %.*s",
                            (int)variable.size, variable.at == NULL ? "" : variable.at);
        peal_buf_fini(&variable);
        return;
    }
    peal_config_put(load, where, path, set + size + 1);
}

static void forget(struct peal_map *given)
{
    struct peal_map_node *node = peal_map_next(given, NULL);
    while (node != NULL) {
        struct peal_map_node *next = peal_map_next(given, node);
        free(PEAL_FROM_NODE(node, struct peal_config_given, node));
        node = next;
    }
    peal_map_fini(given);
}

enum peal_err peal_config_load(const struct peal_config_sources *from, struct peal_config **out,
                               struct peal_buf *problems)
{
    struct peal_config_load load = {.from = from, .problems = problems};
    *out = NULL;
    load.name = from->path != NULL ? from->path : "config";
    if (peal_map_init(&load.given) != PEAL_OK) return PEAL_ENOMEM;
    load.config = calloc(1, sizeof *load.config);
    if (load.config == NULL) {
        forget(&load.given);
        return PEAL_ENOMEM;
    }
    load.config->dev = from->dev;
    load.err = peal_option_defaults(load.config);
    if (load.err == PEAL_OK) load_file(&load);
    if (load.err != PEAL_ENOMEM && load.err != PEAL_EIO) {
        load_environment(&load);
        for (size_t i = 0; i < from->set_count; i++)
            load_set(&load, from->sets[i]);
    }
    /* What belongs together is judged only when each part is well: fewer, clearer messages. */
    if (load.err == PEAL_OK) peal_config_complete(&load);
    if (load.problem_count > PEAL_CONFIG_PROBLEMS_MAX)
        peal_buf_add_format(problems, "... and %zu more problems\n",
                            load.problem_count - PEAL_CONFIG_PROBLEMS_MAX);
    forget(&load.given);
    if (load.err != PEAL_OK)
        peal_config_free(load.config);
    else
        *out = load.config;
    return load.err;
}

void peal_config_free(struct peal_config *config)
{
    if (config == NULL) return;
    peal_option_clear(config);
    free(config);
}

enum peal_err peal_config_endpoint(const char *text, char *host, size_t host_size, uint16_t *port)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
    static const char ipv6[] = "abcdefABCDEF0123456789:.%ghijklmnopqrstuvwxyz_-";
    bool bracket = text[0] == '[';
    const char *at = text + bracket;
    size_t size = strspn(at, bracket ? ipv6 : plain);
    if (size == 0 || size >= host_size) return PEAL_EBAD_FIELD;
    const char *rest = at + size;
    if (bracket && *rest++ != ']') return PEAL_EBAD_FIELD;
    if (*rest++ != ':') return PEAL_EBAD_FIELD;
    size_t digits = strspn(rest, "0123456789");
    if (digits == 0 || digits > 5 || rest[digits] != '\0') return PEAL_EBAD_FIELD;
    unsigned long number = strtoul(rest, NULL, 10);
    if (number > UINT16_MAX) return PEAL_EBAD_FIELD;
    memcpy(host, at, size);
    host[size] = '\0';
    *port = (uint16_t)number;
    return PEAL_OK;
}

/* The configuration as YAML, in the order of the table. */
#include <string.h>

#include "base/config_table.h"

struct printer {
    const struct peal_config *config;
    struct peal_buf *out;
    struct peal_span section; /* the mapping that is open; absent: none */
    int indent;               /* of the keys outside of it */
    bool dash;                /* the next key is the first one of an element */
};

static void print_key(struct printer *p, struct peal_span key, bool inside)
{
    int blanks = p->indent + (inside ? 2 : 0);
    peal_buf_add_format(p->out, "%*s", blanks - (p->dash ? 2 : 0), "");
    if (p->dash) peal_buf_add_text(p->out, "- ");
    p->dash = false;
    peal_buf_add_span(p->out, key);
    peal_buf_add_char(p->out, ':');
}

/* What is not there is not printed: there is no word for it. */
static bool is_shown(const struct peal_option *option, const struct peal_config *config,
                     size_t index)
{
    if (strncmp(option->path, "groups.*.keep.", 14) == 0) return config->groups[index].durable;
    if (strncmp(option->path, "groups.*.history.", 17) == 0) return !config->groups[index].durable;
    if (strcmp(option->path, "routes.*.origins") == 0) return config->routes[index].origins_set;
    if (strcmp(option->path, "auth.keys.*.secret") == 0)
        return config->auth.keys[index].secret_file == NULL;
    if (option->kind != PEAL_OPTION_TEXT) return true;
    return *(char *const *)peal_option_field(option, config, index) != NULL;
}

static void print_texts(struct printer *p, const struct peal_option *option, size_t index)
{
    const struct peal_strings *texts = peal_option_field(option, p->config, index);
    size_t count = texts->count;
    /* The keys that came from files are behind the others, and printed as their files. */
    if (texts == &p->config->api.keys) count -= p->config->api.key_files.count;
    peal_buf_add_text(p->out, " [");
    for (size_t i = 0; i < count; i++) {
        struct peal_option_spot spot = {option, index, i};
        if (i > 0) peal_buf_add_text(p->out, ", ");
        peal_option_add_value(&spot, p->config, p->out);
    }
    peal_buf_add_text(p->out, "]\n");
}

/* Prints `local: value`, where local is the path without the list, and opens its section. */
static void print_option(struct printer *p, const struct peal_option *option, size_t index,
                         const char *local)
{
    const char *dot = strchr(local, '.');
    struct peal_span section =
        peal_span_make(dot == NULL ? NULL : local, dot == NULL ? 0 : (size_t)(dot - local));
    if (section.at != NULL && !peal_span_equal(section, p->section)) {
        print_key(p, section, false);
        peal_buf_add_char(p->out, '\n');
    }
    p->section = section;
    print_key(p, peal_span_of(dot == NULL ? local : dot + 1), dot != NULL);
    if (option->kind == PEAL_OPTION_LIST) return;
    if (option->kind == PEAL_OPTION_TEXTS || option->kind == PEAL_OPTION_SECRETS) {
        print_texts(p, option, index);
        return;
    }
    struct peal_option_spot spot = {option, index, PEAL_OPTION_NO_ITEM};
    peal_buf_add_char(p->out, ' ');
    peal_option_add_value(&spot, p->config, p->out);
    peal_buf_add_char(p->out, '\n');
}

static void print_elements(const struct peal_config *config, const struct peal_option *list,
                           int indent, struct peal_buf *out)
{
    size_t count = peal_option_length(list, config);
    peal_buf_add_text(out, count == 0 ? " []\n" : "\n");
    for (size_t i = 0; i < count; i++) {
        struct printer p = {config, out, {NULL, 0}, indent + 4, true};
        const struct peal_option *end = peal_options + peal_option_count;
        for (const struct peal_option *o = list + 1; o < end && peal_option_list(o) == list; o++)
            if (is_shown(o, config, i)) print_option(&p, o, i, o->path + strlen(list->path) + 3);
    }
}

void peal_config_print(const struct peal_config *config, struct peal_buf *out)
{
    struct printer p = {config, out, {NULL, 0}, 0, false};
    for (size_t i = 0; i < peal_option_count; i++) {
        const struct peal_option *option = &peal_options[i];
        if (peal_option_list(option) != NULL || !is_shown(option, config, 0)) continue;
        print_option(&p, option, 0, option->path);
        if (option->kind == PEAL_OPTION_LIST)
            print_elements(config, option, p.section.at == NULL ? 0 : 2, out);
    }
}

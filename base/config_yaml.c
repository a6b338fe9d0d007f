/* The file: strict YAML through libyaml.
 *
 * It is read twice. The first pass looks at events only and refuses what a configuration does
 * not need and what makes small files large: anchors and aliases, tags, several documents, deep
 * nesting. The second pass loads the document, whose nodes know their line, and walks it. */
#include <stdio.h>
#include <string.h>

#include <yaml.h>

#include "base/config_load.h"
#include "base/config_table.h"

enum { TEXT_MAX = 1024 * 1024, DEPTH_MAX = 16 };

static struct peal_config_where line_at(yaml_mark_t mark)
{
    return (struct peal_config_where){PEAL_LAYER_FILE, mark.line + 1};
}

static void report(struct peal_config_load *load, const yaml_parser_t *parser)
{
    if (parser->error == YAML_MEMORY_ERROR) {
        load->err = PEAL_ENOMEM;
        return;
    }
    yaml_mark_t mark = parser->problem_mark;
    /* The reader knows an offset only. */
    if (parser->error == YAML_READER_ERROR) mark = parser->mark;
    peal_config_problem(
        load, line_at(mark), NULL, "%s%s%s", parser->context != NULL ? parser->context : "not YAML",
        parser->problem != NULL ? ": " : "", parser->problem != NULL ? parser->problem : "");
}

/* What in this event is not wanted; NULL when nothing is. */
static const char *judge(const yaml_event_t *event, int *depth, int *documents)
{
    const yaml_char_t *anchor = NULL;
    const yaml_char_t *tag = NULL;
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        return ++*documents > 1 ? "a second document: there may be one only" : NULL;
    case YAML_ALIAS_EVENT:
        return "aliases are not supported";
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        ++*depth;
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        ++*depth;
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        --*depth;
        break;
    default:
        break;
    }
    if (*depth > DEPTH_MAX) return "nested too deeply";
    if (anchor != NULL) return "anchors are not supported";
    return tag != NULL ? "tags are not supported" : NULL;
}

static void start_parser(yaml_parser_t *parser, struct peal_span text)
{
    yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(parser, (const unsigned char *)text.at, text.size);
}

/* The first pass. */
static bool prescan(struct peal_config_load *load, struct peal_span text)
{
    yaml_parser_t parser;
    bool more = true;
    bool good = true;
    int depth = 0;
    int documents = 0;
    if (!yaml_parser_initialize(&parser)) {
        load->err = PEAL_ENOMEM;
        return false;
    }
    start_parser(&parser, text);
    while (good && more) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            report(load, &parser);
            good = false;
            break;
        }
        const char *wrong = judge(&event, &depth, &documents);
        if (wrong != NULL) {
            peal_config_problem(load, line_at(event.start_mark), NULL, "%s", wrong);
            good = false;
        }
        more = event.type != YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return good;
}

/* Nothing was written: `limits:` with all of its lines commented out. */
static bool is_null(const yaml_node_t *node)
{
    if (node->type != YAML_SCALAR_NODE) return false;
    if (node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE) return false;
    const char *text = (const char *)node->data.scalar.value;
    return *text == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0;
}

static void walk(struct peal_config_load *load, yaml_document_t *document, int number,
                 const char *path);

static void walk_mapping(struct peal_config_load *load, yaml_document_t *document,
                         const yaml_node_t *node, const char *path)
{
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(document, pair->key);
        struct peal_config_where where = line_at(key->start_mark);
        if (key->type != YAML_SCALAR_NODE) {
            peal_config_problem(load, where, NULL, "a key must be a word");
            continue;
        }
        const char *name = (const char *)key->data.scalar.value;
        size_t size = key->data.scalar.length;
        char child[PEAL_CONFIG_PATH_MAX];
        int n = snprintf(child, sizeof child, "%s%s%s", path, *path != '\0' ? "." : "", name);
        struct peal_option_spot spot;
        bool fits = n > 0 && (size_t)n < sizeof child;
        /* A dot in a key would pass for the path of another section. */
        bool plain = fits && size > 0 && strlen(name) == size && strchr(name, '.') == NULL;
        if (plain && (peal_option_find(child, &spot) || peal_option_is_section(child)))
            walk(load, document, pair->value, child);
        else
            peal_config_unknown(load, where, path, name);
    }
}

static size_t length_of(const struct peal_config_load *load, const struct peal_option_spot *list)
{
    if (list->option->kind == PEAL_OPTION_LIST)
        return peal_option_length(list->option, load->config);
    const struct peal_strings *texts = peal_option_field(list->option, load->config, list->index);
    return texts->count;
}

static void walk_sequence(struct peal_config_load *load, yaml_document_t *document,
                          const yaml_node_t *node, const struct peal_option_spot *list,
                          const char *path)
{
    bool structs = list->option->kind == PEAL_OPTION_LIST;
    size_t index = 0;
    for (yaml_node_item_t *item = node->data.sequence.items.start;
         item < node->data.sequence.items.top; item++, index++) {
        const yaml_node_t *element = yaml_document_get_node(document, *item);
        struct peal_config_where where = line_at(element->start_mark);
        char child[PEAL_CONFIG_PATH_MAX];
        snprintf(child, sizeof child, "%s.%zu", path, index);
        if (element->type == (structs ? YAML_MAPPING_NODE : YAML_SCALAR_NODE) && !is_null(element))
            walk(load, document, *item, child);
        else
            peal_config_problem(load, where, child, "expected %s",
                                structs ? "a mapping" : "a text");
        /* Behind one that was refused, the others would be refused for their number only. */
        if (length_of(load, list) != index + 1) return;
    }
}

static void walk_scalar(struct peal_config_load *load, const yaml_node_t *node, const char *path)
{
    struct peal_config_where where = line_at(node->start_mark);
    const char *text = (const char *)node->data.scalar.value;
    struct peal_option_spot spot;
    bool section = !peal_option_find(path, &spot);
    bool list = !section && spot.item == PEAL_OPTION_NO_ITEM &&
                (spot.option->kind == PEAL_OPTION_LIST || spot.option->kind == PEAL_OPTION_TEXTS ||
                 spot.option->kind == PEAL_OPTION_SECRETS);
    if (is_null(node)) {
        if (section || list)
            peal_config_enter(load, where, path);
        else
            peal_config_problem(load, where, path, "has no value");
        return;
    }
    if (strlen(text) != node->data.scalar.length) {
        peal_config_problem(load, where, path, "has a NUL inside");
        return;
    }
    peal_config_put(load, where, path, text);
}

static void walk(struct peal_config_load *load, yaml_document_t *document, int number,
                 const char *path)
{
    const yaml_node_t *node = yaml_document_get_node(document, number);
    struct peal_config_where where = line_at(node->start_mark);
    struct peal_option_spot spot;
    bool option = peal_option_find(path, &spot);
    bool whole = option && spot.item == PEAL_OPTION_NO_ITEM;
    switch (node->type) {
    case YAML_MAPPING_NODE:
        if (option) break;
        if (*path == '\0' || peal_config_enter(load, where, path))
            walk_mapping(load, document, node, path);
        return;
    case YAML_SEQUENCE_NODE:
        if (!whole ||
            (spot.option->kind != PEAL_OPTION_LIST && spot.option->kind != PEAL_OPTION_TEXTS &&
             spot.option->kind != PEAL_OPTION_SECRETS))
            break;
        if (peal_config_enter(load, where, path)) walk_sequence(load, document, node, &spot, path);
        return;
    case YAML_SCALAR_NODE:
        walk_scalar(load, node, path);
        return;
    default:
        break;
    }
    struct peal_buf expected = {0};
    if (option && spot.item != PEAL_OPTION_NO_ITEM)
        peal_buf_add_text(&expected, "a text");
    else if (option)
        peal_option_add_kind(spot.option, &expected);
    else
        peal_buf_add_text(&expected, "a mapping");
    peal_config_problem(load, where, path, "expected %.*s, not a %s", (int)expected.size,
                        expected.at == NULL ? "" : expected.at,
                        node->type == YAML_MAPPING_NODE ? "mapping" : "list");
    peal_buf_fini(&expected);
}

void peal_config_read_yaml(struct peal_config_load *load, struct peal_span text)
{
    yaml_parser_t parser;
    yaml_document_t document;
    if (text.size > TEXT_MAX) {
        peal_config_problem(load, (struct peal_config_where){PEAL_LAYER_FILE, 0}, NULL,
                            "larger than %d bytes", TEXT_MAX);
        return;
    }
    if (text.size == 0 || !prescan(load, text)) return;
    if (!yaml_parser_initialize(&parser)) {
        load->err = PEAL_ENOMEM;
        return;
    }
    start_parser(&parser, text);
    if (yaml_parser_load(&parser, &document)) {
        yaml_node_t *root = yaml_document_get_root_node(&document);
        /* An empty file is a file without settings. */
        if (root != NULL && !is_null(root)) {
            if (root->type == YAML_MAPPING_NODE)
                walk(load, &document, 1, "");
            else
                peal_config_problem(load, line_at(root->start_mark), NULL, "expected a mapping");
        }
        yaml_document_delete(&document);
    } else {
        report(load, &parser);
    }
    yaml_parser_delete(&parser);
}

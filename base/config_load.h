/* base/config_load.h: one loading of a configuration, as its parts see it.
 * Inside of config*.c only.
 *
 * Every source is broken down to `path = text` and handed to peal_config_put, which looks the
 * path up in the table. What was put is remembered with its place, for messages and for the
 * rules that ask whether something was given.
 *
 * Thread: the one that loads. Memory: the loader owns all but the problems. */
#ifndef PEAL_BASE_CONFIG_LOAD_H
#define PEAL_BASE_CONFIG_LOAD_H

#include "base/config.h"
#include "base/map.h"

enum peal_config_layer { PEAL_LAYER_FILE, PEAL_LAYER_ENVIRONMENT, PEAL_LAYER_SET };

/* Where a setting was given. */
struct peal_config_where {
    enum peal_config_layer layer;
    size_t line; /* 1..; of the file */
};

struct peal_config_given {
    struct peal_map_node node; /* under path */
    struct peal_config_where where;
    char path[];
};

enum { PEAL_CONFIG_PROBLEMS_MAX = 20, PEAL_CONFIG_PATH_MAX = 256 };

struct peal_config_load {
    const struct peal_config_sources *from;
    const char *name; /* of the file, in messages */
    struct peal_config *config;
    struct peal_map given;
    struct peal_buf *problems;
    size_t problem_count;
    enum peal_err err; /* the first failure; loading goes on to find more problems */
};

/* Notes a failure and appends a line `place: path: message` to the problems; path may be NULL. */
__attribute__((format(printf, 4, 5))) void peal_config_problem(struct peal_config_load *load,
                                                               struct peal_config_where where,
                                                               const char *path, const char *format,
                                                               ...);
/* The same at the place where path was given, or else what it is in. */
__attribute__((format(printf, 3, 4))) void
peal_config_problem_at(struct peal_config_load *load, const char *path, const char *format, ...);

/* Where path was given; NULL when it was not. */
const struct peal_config_given *peal_config_given(const struct peal_config_load *load,
                                                  const char *path);
/* Refuses a key that the section of a file does not have, naming those that it has. */
void peal_config_unknown(struct peal_config_load *load, struct peal_config_where where,
                         const char *section, const char *key);
/* Notes that a section, a list or an element of one was given, and makes the element.
 * False when it must not be looked into. */
bool peal_config_enter(struct peal_config_load *load, struct peal_config_where where,
                       const char *path);
/* Sets path to text. */
void peal_config_put(struct peal_config_load *load, struct peal_config_where where,
                     const char *path, const char *text);

/* Reads the whole file at path, at most max bytes, appending to out. Errors: PEAL_EIO with the
 * reason in *why; PEAL_ENOMEM. */
enum peal_err peal_config_read_file(const char *path, bool regular_only, size_t max,
                                    struct peal_buf *out, const char **why);
/* Puts what a YAML document says. */
void peal_config_read_yaml(struct peal_config_load *load, struct peal_span text);
/* Fills in what follows from the rest and checks what belongs together. */
void peal_config_complete(struct peal_config_load *load);

#endif

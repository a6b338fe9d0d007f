/* base/config_table.h: the one table of options, and how a value is read and written as text.
 * Inside of config*.c only; everybody else includes base/config.h.
 *
 * A path names an option by its place in the file, with dots: `limits.message`. In the table
 * `*` stands for the index of an element of a list (`routes.*.path`); a concrete path has the
 * number there (`routes.0.path`). Lists are not nested, apart from lists of texts.
 *
 * Thread: any; the table is const. */
#ifndef PEAL_BASE_CONFIG_TABLE_H
#define PEAL_BASE_CONFIG_TABLE_H

#include "base/buf.h"
#include "base/config.h"

enum peal_option_kind {
    PEAL_OPTION_TEXT,     /* char * */
    PEAL_OPTION_SECRET,   /* char *, never shown */
    PEAL_OPTION_TEXTS,    /* struct peal_strings */
    PEAL_OPTION_SECRETS,  /* struct peal_strings, never shown */
    PEAL_OPTION_LIST,     /* a pointer to structs and a count of them */
    PEAL_OPTION_BOOL,     /* bool */
    PEAL_OPTION_WORD,     /* int, one of `words` */
    PEAL_OPTION_NUMBER,   /* uint64_t */
    PEAL_OPTION_DURATION, /* uint64_t, ms */
    PEAL_OPTION_SIZE      /* uint64_t, bytes */
};

struct peal_option_word {
    const char *name;
    int value; /* below 0: a word of the design that this version does not know yet */
};

struct peal_option {
    const char *path;
    enum peal_option_kind kind;
    size_t offset;                        /* in struct peal_config, or in the element of its list */
    size_t count_offset;                  /* LIST: where the count is */
    size_t size;                          /* LIST: of one element */
    const char *fallback;                 /* the default as it would stand in a file; NULL: none */
    const char *fallback_dev;             /* the same in dev mode, where it differs */
    uint64_t min;                         /* numbers: range. Texts: bytes. Lists: elements */
    uint64_t max;                         /* texts: 0 means PEAL_OPTION_TEXT_MAX */
    const struct peal_option_word *words; /* WORD, or the texts allowed; ends with a NULL name */
    const char *(*check)(const char *text); /* of texts: NULL, or what is wrong */
    bool required;
    const char *help;
};

enum { PEAL_OPTION_TEXT_MAX = 4096 };

extern const struct peal_option peal_options[];
extern const size_t peal_option_count;

/* Where a concrete path leads. */
struct peal_option_spot {
    const struct peal_option *option;
    size_t index; /* of the element, where the path goes through a list */
    size_t item;  /* of a text in TEXTS or SECRETS; PEAL_OPTION_NO_ITEM for the whole */
};

#define PEAL_OPTION_NO_ITEM SIZE_MAX

/* Finds what path names. False when it names nothing, or a section. */
bool peal_option_find(const char *path, struct peal_option_spot *out);
/* Is path a section, that is a mapping? "" is one. */
bool peal_option_is_section(const char *path);
/* Appends the keys of a section, joined by commas. */
void peal_option_add_keys(const char *section, struct peal_buf *out);
/* The list that option's path goes through, or NULL. */
const struct peal_option *peal_option_list(const struct peal_option *option);
/* The field of config that option describes; index is ignored outside of lists. */
void *peal_option_field(const struct peal_option *option, const struct peal_config *config,
                        size_t index);
/* Never shown, refused on the command line. */
bool peal_option_is_secret(const struct peal_option *option);

/* Number of elements of a LIST. */
size_t peal_option_length(const struct peal_option *list, const struct peal_config *config);
/* Appends an element with its defaults. Errors: PEAL_ENOMEM, and nothing has changed. */
enum peal_err peal_option_grow(const struct peal_option *list, struct peal_config *config);
/* Gives the fields that are in no list their defaults. Errors: PEAL_ENOMEM. */
enum peal_err peal_option_defaults(struct peal_config *config);
/* Frees what the fields hold and zeroes secrets. */
void peal_option_clear(struct peal_config *config);

/* Sets the field (for TEXTS the item, at most one behind the last) to what text says.
 * Errors: PEAL_ECONFIG with what is wrong appended to `why`, without the value of a secret;
 * PEAL_ENOMEM. */
enum peal_err peal_option_set(const struct peal_option_spot *spot, const struct peal_config *config,
                              const char *text, struct peal_buf *why);
/* Appends the value of a field as YAML, or the item of TEXTS. */
void peal_option_add_value(const struct peal_option_spot *spot, const struct peal_config *config,
                           struct peal_buf *out);
/* Appends "a list", "a duration such as 25s", ... for messages and documentation. */
void peal_option_add_kind(const struct peal_option *option, struct peal_buf *out);
/* Appends number in the unit of the option, such as 64KiB. */
void peal_option_add_number(const struct peal_option *option, uint64_t number,
                            struct peal_buf *out);

#endif

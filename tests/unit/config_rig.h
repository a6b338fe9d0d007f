/* tests/unit/config_rig.h: loads a configuration from text, and keeps what was said of it. */
#ifndef PEAL_TESTS_CONFIG_RIG_H
#define PEAL_TESTS_CONFIG_RIG_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "tests/unit/unit.h"

#define SECRET "0123456789abcdef0123456789abcdef"

/* What the last failed load said; overwritten by the next one. */
static char problems[16384];

static inline enum peal_err load_from(const struct peal_config_sources *from,
                                      struct peal_config **out)
{
    struct peal_buf said = {0};
    enum peal_err err = peal_config_load(from, out, &said);
    snprintf(problems, sizeof problems, "%.*s", (int)said.size, said.at == NULL ? "" : said.at);
    peal_buf_fini(&said);
    return err;
}

static inline struct peal_config *load(const char *yaml)
{
    struct peal_config *config;
    struct peal_config_sources from = {.text = yaml, .text_size = strlen(yaml)};
    enum peal_err err = load_from(&from, &config);
    if (err != PEAL_OK) fail_msg("%s was refused: %s", yaml, problems);
    assert_string_equal(problems, "");
    return config;
}

static inline struct peal_config *load_dev(const char *yaml)
{
    struct peal_config *config;
    struct peal_config_sources from = {.text = yaml, .text_size = strlen(yaml), .dev = true};
    assert_int_equal(load_from(&from, &config), PEAL_OK);
    return config;
}

/* The problems of yaml, which must be wrong. */
static inline const char *refused(const char *yaml)
{
    struct peal_config *config = NULL;
    struct peal_config_sources from = {.text = yaml, .text_size = strlen(yaml)};
    enum peal_err err = load_from(&from, &config);
    if (err != PEAL_ECONFIG) fail_msg("%s gave %s", yaml, peal_err_word(err));
    assert_null(config);
    return problems;
}

static inline void assert_refused(const char *yaml, const char *expected)
{
    if (strstr(refused(yaml), expected) == NULL)
        fail_msg("%s\nsaid:     %sexpected: %s", yaml, problems, expected);
}

#endif

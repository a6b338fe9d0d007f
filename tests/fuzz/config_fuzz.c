/* Any bytes as a configuration file: it loads or says why not, and what was loaded is printed,
 * read back and printed to the same text. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/config.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static struct peal_config *load(const char *text, size_t size, bool dev)
{
    struct peal_config_sources from = {.text = text, .text_size = size, .dev = dev};
    struct peal_buf problems = {0};
    struct peal_config *config;
    enum peal_err err = peal_config_load(&from, &config, &problems);
    PEAL_ASSERT((err == PEAL_OK) == (config != NULL));
    PEAL_ASSERT((err == PEAL_OK) == (problems.size == 0));
    peal_buf_fini(&problems);
    return config;
}

/* A configuration with files or secrets in it does not read back on its own. */
static bool is_open(const struct peal_config *config)
{
    return config->api.keys.count == 0 && config->auth.key_count == 0;
}

static void check_round_trip(const struct peal_config *config)
{
    struct peal_buf first = {0};
    struct peal_buf second = {0};
    peal_config_print(config, &first);
    if (is_open(config)) {
        struct peal_config *again = load(first.at, first.size, config->dev);
        PEAL_ASSERT(again != NULL);
        peal_config_print(again, &second);
        PEAL_ASSERT(peal_span_equal(peal_buf_span(&first), peal_buf_span(&second)));
        peal_config_free(again);
    }
    peal_buf_fini(&first);
    peal_buf_fini(&second);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    /* The files that a configuration names are not the fuzzer's to open. */
    if (memmem(data, size, "_file", 5) != NULL) return 0;
    for (int dev = 0; dev < 2; dev++) {
        struct peal_config *config = load((const char *)data, size, dev != 0);
        if (config == NULL) continue;
        PEAL_ASSERT(config->group_count > 0);
        PEAL_ASSERT(strcmp(config->groups[config->group_count - 1].match, "*") == 0);
        PEAL_ASSERT(config->cluster.router_count > 0);
        check_round_trip(config);
        peal_config_free(config);
    }
    return 0;
}

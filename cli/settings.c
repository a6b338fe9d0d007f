#include "cli/settings.h"

#include <string.h>

#include "cli/exit.h"

static void problems_print(const struct peal_buf *problems)
{
    const char *at = problems->at;
    size_t left = problems->size;
    while (left > 0) {
        const char *end = memchr(at, '\n', left);
        size_t size = end == NULL ? left : (size_t)(end - at);
        peal_fail(PEAL_EXIT_CONFIG, peal_err_word(PEAL_ECONFIG), "%.*s", (int)size, at);
        if (end == NULL) break;
        at += size + 1;
        left -= size + 1;
    }
}

int peal_settings_load(const struct peal_config_sources *from, struct peal_config **out)
{
    struct peal_buf problems = {0};
    enum peal_err err = peal_config_load(from, out, &problems);
    if (err != PEAL_OK && problems.size > 0) problems_print(&problems);
    if (err != PEAL_OK && problems.size == 0)
        peal_fail(PEAL_EXIT_CONFIG, peal_err_word(err), "The configuration cannot be loaded.");
    peal_buf_fini(&problems);
    return err == PEAL_OK ? PEAL_EXIT_OK : PEAL_EXIT_CONFIG;
}

#include "cli/secret.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/limits.h"
#include "cli/args.h"
#include "cli/exit.h"
#include "cli/settings.h"

enum { SECRET_FILE_MAX = 64 * 1024 };

void peal_secret_fini(struct peal_buf *secret)
{
    if (secret->at != NULL) explicit_bzero(secret->at, secret->capacity);
    peal_buf_fini(secret);
}

/* Editors and `echo` end a file with a line break that is not part of the secret. The server
 * takes off the same (base/config_complete.c). */
static void trim(struct peal_buf *text)
{
    if (text->size > 0 && text->at[text->size - 1] == '\n') text->size--;
    if (text->size > 0 && text->at[text->size - 1] == '\r') text->size--;
}

static enum peal_err path_join(const char *folder, const char *name, struct peal_buf *out)
{
    peal_buf_add_format(out, "%s/%s", folder, name);
    peal_buf_add_char(out, '\0');
    return out->failed ? PEAL_ENOMEM : PEAL_OK;
}

static int file_read(const char *path, struct peal_buf *out)
{
    enum peal_err err = peal_args_read(path, SECRET_FILE_MAX, out);
    if (err != PEAL_OK)
        return peal_fail(PEAL_EXIT_CONFIG, "configuration", "%s cannot be read: %s", path,
                         err == PEAL_EIO ? strerror(errno) : peal_err_word(err));
    trim(out);
    return PEAL_EXIT_OK;
}

static int end(struct peal_buf *text)
{
    peal_buf_add_char(text, '\0');
    return text->failed ? peal_fail_call(PEAL_ENOMEM, "There is not enough memory.") : PEAL_EXIT_OK;
}

int peal_secret_api_key(const char *key_file, const char *data, struct peal_buf *out)
{
    const char *variable = getenv("PEAL_API_KEY");
    struct peal_buf path = {0};
    int rc = PEAL_EXIT_OK;
    if (key_file != NULL)
        rc = file_read(key_file, out);
    else if (variable != NULL)
        peal_buf_add_text(out, variable);
    else if (path_join(data, "api.key", &path) == PEAL_OK && access(path.at, R_OK) == 0)
        rc = file_read(path.at, out);
    peal_buf_fini(&path);
    return rc == PEAL_EXIT_OK ? end(out) : rc;
}

int peal_secret_token(const char *token_file, struct peal_buf *out)
{
    const char *variable = getenv("PEAL_TOKEN");
    int rc = PEAL_EXIT_OK;
    if (token_file != NULL)
        rc = file_read(token_file, out);
    else if (variable != NULL)
        peal_buf_add_text(out, variable);
    return rc == PEAL_EXIT_OK ? end(out) : rc;
}

static int folder_read(const char *folder, struct peal_buf *out)
{
    struct peal_buf path = {0};
    int rc = path_join(folder, "token.secret", &path) == PEAL_OK
                 ? file_read(path.at, out)
                 : peal_fail_call(PEAL_ENOMEM, "There is not enough memory.");
    peal_buf_fini(&path);
    return rc;
}

int peal_secret_signing(const char *config_path, const char *data, struct peal_buf *out,
                        struct peal_buf *user_claim)
{
    if (config_path == NULL) {
        peal_buf_add_text(user_claim, "sub");
        int rc = folder_read(data, out);
        return rc == PEAL_EXIT_OK ? end(user_claim) : rc;
    }
    struct peal_config *config;
    const struct peal_config_sources from = {.path = config_path, .environment = environ};
    int rc = peal_settings_load(&from, &config);
    if (rc != PEAL_EXIT_OK) return rc;
    peal_buf_add_text(user_claim, config->auth.user_claim);
    if (config->auth.key_count > 0)
        peal_buf_add_text(out, config->auth.keys[0].secret);
    else
        rc = folder_read(config->data, out);
    peal_config_free(config);
    return rc == PEAL_EXIT_OK ? end(user_claim) : rc;
}

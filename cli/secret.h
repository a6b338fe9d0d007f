/* cli/secret.h: where verbs find API keys, tokens and the secret that signs tokens.
 *
 * Never on the command line, where `ps` shows them to everybody: from a file, the environment, or
 * the data folder in which `peal dev` leaves what it makes.
 *
 * Memory: the caller frees with peal_secret_fini, which also wipes. Every function prints its own
 * error and returns an exit code (cli/exit.h). */
#ifndef PEAL_CLI_SECRET_H
#define PEAL_CLI_SECRET_H

#include "base/buf.h"

#define PEAL_DATA_DEFAULT "./peal-data"

void peal_secret_fini(struct peal_buf *secret);

/* NUL-terminated: key_file, else PEAL_API_KEY, else DATA/api.key if it can be read, else "". */
int peal_secret_api_key(const char *key_file, const char *data, struct peal_buf *out);

/* NUL-terminated: token_file, else PEAL_TOKEN, else "". */
int peal_secret_token(const char *token_file, struct peal_buf *out);

/* The secret that signs tokens, without a NUL behind it, and the claim that names the user, with
 * one: of the configuration file if config is not NULL (its first key, else the file in its data
 * folder), else DATA/token.secret. */
int peal_secret_signing(const char *config, const char *data, struct peal_buf *out,
                        struct peal_buf *user_claim);

#endif

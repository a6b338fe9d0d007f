/* node/secrets.h: secrets that are made once and then found in a file.
 *
 * `peal dev` needs an API key and a token secret without being told any. They are 32 random
 * bytes, written as 43 url-safe base64 characters, in files that only their owner can read.
 *
 * Thread: main. Memory: the caller ends what it got with peal_secret_wipe. */
#ifndef PEAL_NODE_SECRETS_H
#define PEAL_NODE_SECRETS_H

#include "base/buf.h"
#include "base/err.h"

enum { PEAL_SECRET_SIZE = 43 };

/* Appends the secret in dir/file_name to out, without a line end behind it. A missing file is
 * made (0600) and so is a missing dir (0700); what is appended is then safe on disk.
 * Errors: PEAL_EIO (cannot be read or made), PEAL_ECONFIG (others may read the file, or it holds
 * no secret), PEAL_ENOMEM; each with a sentence in why that holds nothing of the secret. */
enum peal_err peal_secret_get(const char *dir, const char *file_name, struct peal_buf *out,
                              char *why, size_t why_size);
/* Overwrites and frees. */
void peal_secret_wipe(struct peal_buf *secret);

#endif

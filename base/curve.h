/* base/curve.h: CURVE key pairs: as text, made, and in a file that only their owner can read.
 *
 * A key is 32 bytes, written as 40 characters of Z85. The file of a pair has two lines, in any
 * order; empty lines and those that begin with # are ignored (no key begins so: 84 * 85^4 is more
 * than four bytes hold):
 *
 *     public 7(Y.mg[...
 *     secret QJ*}8]...
 *
 * Nothing here needs ZeroMQ: a pair is one of Curve25519, which libsodium makes as well.
 *
 * Thread: any; no state. Memory: a pair is embedded; whoever has one ends it with peal_curve_wipe.
 * Source: ZeroMQ RFC 32 (Z85), RFC 26 (CurveZMQ). */
#ifndef PEAL_BASE_CURVE_H
#define PEAL_BASE_CURVE_H

#include <stdbool.h>

#include "base/err.h"
#include "base/span.h"

enum { PEAL_CURVE_KEY_BYTES = 32, PEAL_CURVE_TEXT = 40 };

struct peal_curve_pair {
    char public_key[PEAL_CURVE_TEXT + 1]; /* Z85 with a NUL */
    char secret_key[PEAL_CURVE_TEXT + 1];
};

/* False for what is not 40 characters of Z85. */
bool peal_curve_decode(struct peal_span text, unsigned char key[PEAL_CURVE_KEY_BYTES]);
void peal_curve_encode(const unsigned char key[PEAL_CURVE_KEY_BYTES],
                       char text[PEAL_CURVE_TEXT + 1]);

/* A new pair. Errors: PEAL_EIO, the system has no random bytes. */
enum peal_err peal_curve_make(struct peal_curve_pair *out);
void peal_curve_wipe(struct peal_curve_pair *pair);

/* Reads the text of a key file. Errors: PEAL_ECONFIG, with `line: what is wrong` in why, which
 * holds nothing of the text; *out is then wiped. */
enum peal_err peal_curve_parse(struct peal_span text, struct peal_curve_pair *out, char *why,
                               size_t why_size);
/* Reads a key file. It must be a regular file of the user that runs this process, with mode 0600
 * or 0400. Errors: PEAL_ECONFIG, PEAL_EIO, with a sentence in why that names the file. */
enum peal_err peal_curve_read(const char *path, struct peal_curve_pair *out, char *why,
                              size_t why_size);
/* Makes the file at path, mode 0600, and returns when it is safe on disk. Never replaces anything.
 * Errors: PEAL_EINUSE (there is something at path), PEAL_EIO, with a sentence in why. */
enum peal_err peal_curve_write(const char *path, const struct peal_curve_pair *pair, char *why,
                               size_t why_size);

#endif

/* proto/token.h: JSON web tokens: who is this, what may they join and publish to, until when.
 *
 * cjose checks the signature; everything else is checked here: the algorithm is the one pinned
 * for the key and is compared before the key is used, `none` never, unknown `crit` refused,
 * jku/x5u/jwk/x5c in the header ignored, exp nbf iat iss aud judged with leeway.
 *
 * Thread: verification from any thread, on read-only keys. Memory: peal_claims owns its strings.
 * Source: RFC 7515, RFC 7519, RFC 8725. */
#ifndef PEAL_PROTO_TOKEN_H
#define PEAL_PROTO_TOKEN_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

struct peal_token_keys; /* opaque: algorithm + key, one or more */

/* An empty key set; NULL on ENOMEM. */
struct peal_token_keys *peal_token_keys_new(void);
void peal_token_keys_free(struct peal_token_keys *keys);
/* Adds an HS256 key. Errors: PEAL_EBAD_FIELD when secret is shorter than 32 bytes. */
enum peal_err peal_token_keys_add_hs256(struct peal_token_keys *keys, struct peal_span secret);
size_t peal_token_keys_count(const struct peal_token_keys *keys);

struct peal_token_rules {
    const char *user_claim; /* "sub" unless configured */
    const char *issuer;     /* NULL: any */
    const char *audience;   /* NULL: any; a token without aud then passes too */
    uint64_t leeway_ms;
};

struct peal_claims {
    char *user;    /* NULL when the token names none; checked as a name (proto/group.h) */
    char **groups; /* patterns it may join */
    size_t group_count;
    char **publish; /* patterns it may publish to */
    size_t publish_count;
    char *id;            /* jti or NULL */
    uint64_t expires_ms; /* wall clock; 0 = never */
};

/* Verifies a compact JWS and reads its claims. An integer user claim becomes its decimal text
 * (existing sites put user ids in as numbers). Times beyond the year 9999 are refused: they are
 * milliseconds by mistake and would never end. The text must be strict base64url, so that one
 * signature has one spelling.
 * Errors: PEAL_ETOKEN_INVALID, PEAL_ETOKEN_EXPIRED, PEAL_ENOMEM; `why` gets a sentence that holds
 * nothing of the token; *out is then zero. */
enum peal_err peal_token_verify(const struct peal_token_keys *keys,
                                const struct peal_token_rules *rules, struct peal_span token,
                                uint64_t wall_ms, struct peal_claims *out, char *why,
                                size_t why_size);
void peal_claims_fini(struct peal_claims *claims);

/* Signs claims with an HS256 secret (for `peal token` and the demo page). Appends the compact
 * form. Errors: PEAL_EBAD_FIELD for a short secret or a string that is not UTF-8,
 * PEAL_ETOO_LARGE when the token would be longer than PEAL_TOKEN_MAX, PEAL_ENOMEM. */
enum peal_err peal_token_sign(struct peal_span secret, const struct peal_claims *claims,
                              const char *user_claim, uint64_t wall_ms, struct peal_buf *out);

#endif

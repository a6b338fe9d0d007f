#include "proto/token.h"

#include <cjose/cjose.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/limits.h"
#include "proto/group.h"

/* Design. A token is judged from the outside in, and no step trusts an earlier one's input more
 * than it must:
 *
 *   1. shape      three non-empty parts in strict base64url (no padding, no blanks, unused bits
 *                 zero, so that one signature has one spelling), at most PEAL_TOKEN_MAX bytes;
 *   2. header     a JSON object without repeated names, without `crit`, whose `alg` is a string
 *                 equal to the algorithm pinned for some key. Nothing else in it is looked at:
 *                 keys never come from the token;
 *   3. signature  cjose, under each key pinned to that algorithm;
 *   4. claims     types first, then issuer and audience, then times.
 *
 * The claims are not parsed before step 3, so a stranger reaches base64 and one small JSON
 * object and nothing behind them. */

enum {
    SECRET_MIN = 32, /* bytes: RFC 7518 section 3.2, a key at least as long as the hash */
    HS256_SIZE = 32  /* bytes of an HS256 signature */
};

/* The year 9999 in seconds. A larger time is a mistake (most often milliseconds were meant) and
 * would make a token that never ends. */
static const double seconds_max = 253402300799.0;

struct token_key {
    const char *alg;
    cjose_jwk_t *jwk;
};

struct peal_token_keys {
    struct token_key *at;
    size_t count;
};

/* Takes text apart; the decoded parts share one buffer. */
struct token_parts {
    struct peal_span header;
    struct peal_span claims;
    struct peal_span signature;
};

__attribute__((format(printf, 4, 5))) static enum peal_err
refuse(enum peal_err err, char *why, size_t why_size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (why_size > 0) vsnprintf(why, why_size, format, args);
    va_end(args);
    return err;
}

static void jwk_free(cjose_jwk_t *jwk)
{
    if (jwk == NULL) return;
    /* cjose gives the memory back with the secret in it. Its key size is in bits. */
    void *data = cjose_jwk_get_keydata(jwk, NULL);
    if (data != NULL) explicit_bzero(data, cjose_jwk_get_keysize(jwk, NULL) / 8);
    cjose_jwk_release(jwk);
}

struct peal_token_keys *peal_token_keys_new(void)
{
    return calloc(1, sizeof(struct peal_token_keys));
}

void peal_token_keys_free(struct peal_token_keys *keys)
{
    if (keys == NULL) return;
    for (size_t i = 0; i < keys->count; i++)
        jwk_free(keys->at[i].jwk);
    free(keys->at);
    free(keys);
}

enum peal_err peal_token_keys_add_hs256(struct peal_token_keys *keys, struct peal_span secret)
{
    if (secret.size < SECRET_MIN) return PEAL_EBAD_FIELD;
    struct token_key *at = realloc(keys->at, (keys->count + 1) * sizeof *at);
    if (at == NULL) return PEAL_ENOMEM;
    keys->at = at;
    cjose_jwk_t *jwk = cjose_jwk_create_oct_spec((const uint8_t *)secret.at, secret.size, NULL);
    if (jwk == NULL) return PEAL_ENOMEM;
    at[keys->count++] = (struct token_key){CJOSE_HDR_ALG_HS256, jwk};
    return PEAL_OK;
}

size_t peal_token_keys_count(const struct peal_token_keys *keys)
{
    return keys->count;
}

static int base64url_value(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '-') return 62;
    if (c == '_') return 63;
    return -1;
}

/* Decodes text to `to`, which has room for it. Strict: libraries differ about padding, blanks and
 * unused bits, and where they differ a token gets a second spelling that a list of revoked
 * tokens does not know. False for an empty text too. */
static bool base64url_decode(struct peal_span text, char *to, size_t *size)
{
    uint32_t bits = 0;
    unsigned held = 0; /* bits that are not written yet: 0, 2, 4 or 6 */
    size_t n = 0;
    if (text.size == 0 || text.size % 4 == 1) return false;
    for (size_t i = 0; i < text.size; i++) {
        int value = base64url_value(text.at[i]);
        if (value < 0) return false;
        bits = (bits << 6 | (uint32_t)value) & 0xffff;
        held += 6;
        if (held < 8) continue;
        held -= 8;
        to[n++] = (char)(bits >> held & 0xff);
    }
    *size = n;
    return (bits & ((1u << held) - 1)) == 0;
}

/* The text before the next dot; *rest becomes what follows it, absent when there was none. */
static struct peal_span part_next(struct peal_span *rest)
{
    const char *dot = rest->size == 0 ? NULL : memchr(rest->at, '.', rest->size);
    struct peal_span part = *rest;
    if (dot == NULL) {
        *rest = (struct peal_span){NULL, 0};
        return part;
    }
    part.size = (size_t)(dot - rest->at);
    *rest = peal_span_make(dot + 1, rest->size - part.size - 1);
    return part;
}

static bool parts_decode(struct peal_span token, char *space, struct token_parts *out)
{
    struct peal_span *parts[3] = {&out->header, &out->claims, &out->signature};
    struct peal_span rest = token;
    for (int i = 0; i < 3; i++) {
        if (rest.at == NULL) return false; /* fewer than two dots */
        struct peal_span part = part_next(&rest);
        parts[i]->at = space;
        if (!base64url_decode(part, space, &parts[i]->size)) return false;
        space += parts[i]->size;
    }
    return rest.at == NULL; /* not three dots */
}

/* A JSON object without repeated names, which parsers would disagree about; else NULL.
 * jansson refuses bad UTF-8, \u0000, integers beyond 64 bits and infinite reals. */
static json_t *object_parse(struct peal_span text)
{
    json_t *root = json_loadb(text.at, text.size, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(root)) return root;
    json_decref(root);
    return NULL;
}

/* The configured spelling of alg; NULL when no key is pinned to it. */
static const char *keys_alg(const struct peal_token_keys *keys, const char *alg)
{
    for (size_t i = 0; i < keys->count; i++)
        if (strcmp(keys->at[i].alg, alg) == 0) return keys->at[i].alg;
    return NULL;
}

/* Sets *alg. Refuses what no key is pinned to, and what makes demands (`crit`) that we would have
 * to know. */
static enum peal_err header_check(const struct peal_token_keys *keys, struct peal_span text,
                                  const char **alg, char *why, size_t why_size)
{
    json_t *header = object_parse(text);
    if (header == NULL)
        return refuse(PEAL_ETOKEN_INVALID, why, why_size, "The header is not a JSON object.");
    const char *claimed = json_string_value(json_object_get(header, "alg"));
    bool demanding = json_object_get(header, "crit") != NULL;
    *alg = claimed == NULL ? NULL : keys_alg(keys, claimed);
    json_decref(header);
    if (demanding)
        return refuse(PEAL_ETOKEN_INVALID, why, why_size, "The header has a crit field.");
    if (*alg == NULL)
        return refuse(PEAL_ETOKEN_INVALID, why, why_size,
                      "No key is configured for the token's algorithm.");
    return PEAL_OK;
}

/* Each key gets an import of its own: a jws remembers things of its last verification. */
static enum peal_err signature_check(const struct token_key *key, struct peal_span token)
{
    cjose_err err = {.code = CJOSE_ERR_NONE};
    cjose_jws_t *jws = cjose_jws_import(token.at, token.size, &err);
    bool good = jws != NULL && cjose_jws_verify(jws, key->jwk, &err);
    cjose_jws_release(jws);
    if (good) return PEAL_OK;
    return err.code == CJOSE_ERR_NO_MEMORY ? PEAL_ENOMEM : PEAL_ETOKEN_INVALID;
}

static enum peal_err keys_check(const struct peal_token_keys *keys, const char *alg,
                                struct peal_span token)
{
    enum peal_err err = PEAL_ETOKEN_INVALID;
    for (size_t i = 0; i < keys->count && err != PEAL_OK; i++) {
        if (strcmp(keys->at[i].alg, alg) != 0) continue;
        enum peal_err again = signature_check(&keys->at[i], token);
        /* A key that could not be tried may have been the right one. */
        if (err != PEAL_ENOMEM || again == PEAL_OK) err = again;
    }
    return err;
}

/* A NumericDate (RFC 7519 section 2) in ms. Absent: *ms is left alone. */
static bool time_read(const json_t *claims, const char *name, uint64_t *ms)
{
    const json_t *value = json_object_get(claims, name);
    if (value == NULL) return true;
    if (!json_is_number(value)) return false;
    double seconds = json_number_value(value);
    if (!isfinite(seconds) || signbit(seconds) || seconds > seconds_max) return false;
    if (json_is_integer(value)) /* exact: doubles are not needed */
        *ms = (uint64_t)json_integer_value(value) * 1000;
    else
        *ms = (uint64_t)(seconds * 1000.0);
    return true;
}

static bool string_or_absent(const json_t *claims, const char *name)
{
    const json_t *value = json_object_get(claims, name);
    return value == NULL || json_is_string(value);
}

static bool strings_or_absent(const json_t *claims, const char *name)
{
    const json_t *value = json_object_get(claims, name);
    if (value == NULL) return true;
    if (!json_is_array(value)) return false;
    for (size_t i = 0; i < json_array_size(value); i++)
        if (!json_is_string(json_array_get(value, i))) return false;
    return true;
}

static bool is_string(const json_t *value, const char *text)
{
    return json_is_string(value) && strcmp(json_string_value(value), text) == 0;
}

static bool audience_has(const json_t *claims, const char *audience)
{
    const json_t *value = json_object_get(claims, "aud");
    if (is_string(value, audience)) return true;
    for (size_t i = 0; i < json_array_size(value); i++) /* 0 for what is no array */
        if (is_string(json_array_get(value, i), audience)) return true;
    return false;
}

/* Sets out->user. A name that leaves no room for its inbox's `user:` is refused as well. */
static enum peal_err user_read(const json_t *claims, const char *claim, struct peal_claims *out)
{
    const json_t *value = json_object_get(claims, claim);
    if (value == NULL) return PEAL_OK;
    if (json_is_integer(value)) {
        char digits[24];
        snprintf(digits, sizeof digits, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        out->user = strdup(digits);
        return out->user == NULL ? PEAL_ENOMEM : PEAL_OK;
    }
    if (!json_is_string(value)) return PEAL_ETOKEN_INVALID;
    struct peal_span name = peal_span_make(json_string_value(value), json_string_length(value));
    if (peal_name_check(name) != PEAL_OK) return PEAL_ETOKEN_INVALID;
    if (name.size > PEAL_NAME_MAX - strlen("user:")) return PEAL_ETOKEN_INVALID;
    out->user = strdup(name.at);
    return out->user == NULL ? PEAL_ENOMEM : PEAL_OK;
}

/* Copies a claim that strings_or_absent accepted. What is copied is counted as it goes, so that
 * peal_claims_fini frees a half-made list too. */
static enum peal_err strings_read(const json_t *claims, const char *name, char ***out,
                                  size_t *count)
{
    const json_t *value = json_object_get(claims, name);
    size_t size = json_array_size(value);
    if (size == 0) return PEAL_OK;
    *out = calloc(size, sizeof **out);
    if (*out == NULL) return PEAL_ENOMEM;
    for (size_t i = 0; i < size; i++) {
        (*out)[i] = strdup(json_string_value(json_array_get(value, i)));
        if ((*out)[i] == NULL) return PEAL_ENOMEM;
        *count = i + 1;
    }
    return PEAL_OK;
}

static enum peal_err times_judge(const json_t *claims, uint64_t leeway_ms, uint64_t wall_ms,
                                 uint64_t *expires_ms, char *why, size_t why_size)
{
    uint64_t exp = UINT64_MAX;
    uint64_t nbf = 0;
    uint64_t iat = 0;
    if (!time_read(claims, "exp", &exp) || !time_read(claims, "nbf", &nbf) ||
        !time_read(claims, "iat", &iat))
        return refuse(PEAL_ETOKEN_INVALID, why, why_size,
                      "The claims exp, nbf and iat must be seconds since 1970.");
    /* By subtraction: wall_ms + leeway_ms could wrap around. */
    if (wall_ms >= exp && wall_ms - exp >= leeway_ms)
        return refuse(PEAL_ETOKEN_EXPIRED, why, why_size, "The token has expired.");
    if (nbf > wall_ms && nbf - wall_ms > leeway_ms)
        return refuse(PEAL_ETOKEN_INVALID, why, why_size, "The token is not valid yet.");
    if (iat > wall_ms && iat - wall_ms > leeway_ms)
        return refuse(PEAL_ETOKEN_INVALID, why, why_size, "The token was issued in the future.");
    if (exp == UINT64_MAX)
        *expires_ms = 0;
    else
        *expires_ms = exp == 0 ? 1 : exp; /* 0 would say: never */
    return PEAL_OK;
}

static enum peal_err claims_judge(const json_t *claims, const struct peal_token_rules *rules,
                                  uint64_t wall_ms, struct peal_claims *out, char *why,
                                  size_t why_size)
{
    if (!string_or_absent(claims, "iss") || !string_or_absent(claims, "jti"))
        return refuse(PEAL_ETOKEN_INVALID, why, why_size,
                      "The claims iss and jti must be strings.");
    if (!string_or_absent(claims, "aud") && !strings_or_absent(claims, "aud"))
        return refuse(PEAL_ETOKEN_INVALID, why, why_size,
                      "The claim aud must be a string or a list of strings.");
    if (!strings_or_absent(claims, "groups") || !strings_or_absent(claims, "publish"))
        return refuse(PEAL_ETOKEN_INVALID, why, why_size,
                      "The claims groups and publish must be lists of strings.");
    if (rules->issuer != NULL && !is_string(json_object_get(claims, "iss"), rules->issuer))
        return refuse(PEAL_ETOKEN_INVALID, why, why_size, "The token is from another issuer.");
    if (rules->audience != NULL && !audience_has(claims, rules->audience))
        return refuse(PEAL_ETOKEN_INVALID, why, why_size, "The token is for another audience.");
    enum peal_err err =
        times_judge(claims, rules->leeway_ms, wall_ms, &out->expires_ms, why, why_size);
    if (err != PEAL_OK) return err;
    err = user_read(claims, rules->user_claim, out);
    if (err == PEAL_ETOKEN_INVALID)
        return refuse(err, why, why_size, "The claim that names the user is no valid name.");
    return err;
}

static enum peal_err claims_read(const json_t *claims, const struct peal_token_rules *rules,
                                 uint64_t wall_ms, struct peal_claims *out, char *why,
                                 size_t why_size)
{
    enum peal_err err = claims_judge(claims, rules, wall_ms, out, why, why_size);
    if (err != PEAL_OK) return err;
    err = strings_read(claims, "groups", &out->groups, &out->group_count);
    if (err != PEAL_OK) return err;
    err = strings_read(claims, "publish", &out->publish, &out->publish_count);
    if (err != PEAL_OK) return err;
    const json_t *id = json_object_get(claims, "jti");
    if (id == NULL) return PEAL_OK;
    out->id = strdup(json_string_value(id));
    return out->id == NULL ? PEAL_ENOMEM : PEAL_OK;
}

/* space has PEAL_TOKEN_MAX bytes. */
static enum peal_err token_verify(const struct peal_token_keys *keys,
                                  const struct peal_token_rules *rules, struct peal_span token,
                                  uint64_t wall_ms, char *space, struct peal_claims *out, char *why,
                                  size_t why_size)
{
    struct token_parts parts;
    if (!parts_decode(token, space, &parts))
        return refuse(PEAL_ETOKEN_INVALID, why, why_size,
                      "The token is not three base64url parts with dots between them.");
    const char *alg = NULL;
    enum peal_err err = header_check(keys, parts.header, &alg, why, why_size);
    if (err != PEAL_OK) return err;
    /* cjose compares as many bytes as the digest has before it looks at the signature's size. */
    if (parts.signature.size != HS256_SIZE)
        return refuse(PEAL_ETOKEN_INVALID, why, why_size, "The signature has the wrong size.");
    err = keys_check(keys, alg, token);
    if (err == PEAL_ETOKEN_INVALID)
        return refuse(err, why, why_size, "The signature is not by a configured key.");
    if (err != PEAL_OK) return err;

    json_t *claims = object_parse(parts.claims);
    if (claims == NULL)
        return refuse(PEAL_ETOKEN_INVALID, why, why_size, "The claims are not a JSON object.");
    err = claims_read(claims, rules, wall_ms, out, why, why_size);
    json_decref(claims);
    return err;
}

enum peal_err peal_token_verify(const struct peal_token_keys *keys,
                                const struct peal_token_rules *rules, struct peal_span token,
                                uint64_t wall_ms, struct peal_claims *out, char *why,
                                size_t why_size)
{
    char space[PEAL_TOKEN_MAX];
    *out = (struct peal_claims){0};
    if (why_size > 0) why[0] = '\0';
    if (token.size > PEAL_TOKEN_MAX)
        return refuse(PEAL_ETOKEN_INVALID, why, why_size, "The token is longer than %d bytes.",
                      PEAL_TOKEN_MAX);
    enum peal_err err = token_verify(keys, rules, token, wall_ms, space, out, why, why_size);
    if (err == PEAL_ENOMEM) refuse(err, why, why_size, "There is not enough memory.");
    if (err != PEAL_OK) peal_claims_fini(out);
    return err;
}

static void strings_free(char **at, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(at[i]);
    free(at);
}

void peal_claims_fini(struct peal_claims *claims)
{
    free(claims->user);
    free(claims->id);
    strings_free(claims->groups, claims->group_count);
    strings_free(claims->publish, claims->publish_count);
    *claims = (struct peal_claims){0};
}

static bool strings_set(json_t *root, const char *name, char *const *at, size_t count)
{
    if (count == 0) return true;
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        if (json_array_append_new(list, json_string(at[i])) != 0) {
            json_decref(list);
            return false;
        }
    return json_object_set_new(root, name, list) == 0;
}

static bool text_set(json_t *root, const char *name, const char *text)
{
    return text == NULL || json_object_set_new(root, name, json_string(text)) == 0;
}

static bool time_set(json_t *root, const char *name, uint64_t ms)
{
    return json_object_set_new(root, name, json_integer((json_int_t)(ms / 1000))) == 0;
}

/* The claims as JSON text, to be freed; NULL when a string is not UTF-8 or memory is short. */
static char *claims_print(const struct peal_claims *claims, const char *user_claim,
                          uint64_t wall_ms)
{
    json_t *root = json_object();
    bool good = root != NULL && text_set(root, user_claim, claims->user) &&
                strings_set(root, "groups", claims->groups, claims->group_count) &&
                strings_set(root, "publish", claims->publish, claims->publish_count) &&
                text_set(root, "jti", claims->id) && time_set(root, "iat", wall_ms) &&
                (claims->expires_ms == 0 || time_set(root, "exp", claims->expires_ms));
    char *text = good ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

static enum peal_err text_sign(const cjose_jwk_t *jwk, const char *text, struct peal_buf *out)
{
    enum peal_err err = PEAL_ENOMEM;
    cjose_jws_t *jws = NULL;
    cjose_header_t *header = cjose_header_new(NULL);
    const char *compact = NULL;

    if (header == NULL) goto done;
    if (!cjose_header_set(header, CJOSE_HDR_ALG, CJOSE_HDR_ALG_HS256, NULL)) goto done;
    if (!cjose_header_set(header, "typ", "JWT", NULL)) goto done;
    jws = cjose_jws_sign(jwk, header, (const uint8_t *)text, strlen(text), NULL);
    if (jws == NULL || !cjose_jws_export(jws, &compact, NULL)) goto done;
    if (strlen(compact) > PEAL_TOKEN_MAX) {
        err = PEAL_ETOO_LARGE;
        goto done;
    }
    peal_buf_add_text(out, compact);
    if (!out->failed) err = PEAL_OK;

done:
    cjose_jws_release(jws);
    cjose_header_release(header);
    return err;
}

enum peal_err peal_token_sign(struct peal_span secret, const struct peal_claims *claims,
                              const char *user_claim, uint64_t wall_ms, struct peal_buf *out)
{
    if (secret.size < SECRET_MIN) return PEAL_EBAD_FIELD;
    char *text = claims_print(claims, user_claim, wall_ms);
    if (text == NULL) return PEAL_EBAD_FIELD;
    cjose_jwk_t *jwk = cjose_jwk_create_oct_spec((const uint8_t *)secret.at, secret.size, NULL);
    enum peal_err err = jwk == NULL ? PEAL_ENOMEM : text_sign(jwk, text, out);
    jwk_free(jwk);
    free(text);
    return err;
}

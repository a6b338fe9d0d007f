/* proto/token.c under a fixed key. The first byte says what the rest is:
 *
 *   't'  a token as it stands
 *   'c'  header, newline, claims: signed here, so that the claims decoder is reached
 *   'm'  pairs (position, byte) that are written over a token signed here
 *
 * Whatever is accepted must carry an HMAC that libsodium computes as well, and be the only
 * spelling of it. */
#include <sodium.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/limits.h"
#include "proto/group.h"
#include "proto/token.h"

static const char secret[] = "a-secret-of-at-least-32-bytes-for-tests";
static const uint64_t now_ms = 1800000000000;

static void base64url_add(struct peal_buf *out, const void *at, size_t size)
{
    size_t room = sodium_base64_encoded_len(size, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    char *to = peal_buf_reserve(out, room);
    PEAL_ASSERT(to != NULL);
    sodium_bin2base64(to, room, at, size, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    out->size += strlen(to);
}

static void mac_add(struct peal_buf *token)
{
    unsigned char mac[crypto_auth_hmacsha256_BYTES];
    crypto_auth_hmacsha256_state state;
    crypto_auth_hmacsha256_init(&state, (const unsigned char *)secret, sizeof secret - 1);
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)token->at, token->size);
    crypto_auth_hmacsha256_final(&state, mac);
    peal_buf_add_char(token, '.');
    base64url_add(token, mac, sizeof mac);
}

static struct peal_buf forge(struct peal_span header, struct peal_span claims)
{
    struct peal_buf token = {0};
    base64url_add(&token, header.at, header.size);
    peal_buf_add_char(&token, '.');
    base64url_add(&token, claims.at, claims.size);
    mac_add(&token);
    return token;
}

/* Signs everything before the last dot anew and compares all of it. */
static void accepted_check(struct peal_span token)
{
    const char *dot = memrchr(token.at, '.', token.size);
    PEAL_ASSERT(dot != NULL);
    struct peal_buf again = {0};
    peal_buf_add(&again, token.at, (size_t)(dot - token.at));
    mac_add(&again);
    PEAL_ASSERT(peal_span_equal(peal_buf_span(&again), token));
    peal_buf_fini(&again);
}

static void claims_check(const struct peal_claims *claims)
{
    if (claims->user != NULL) PEAL_ASSERT(peal_name_check(peal_span_of(claims->user)) == PEAL_OK);
    if (claims->expires_ms != 0) PEAL_ASSERT(claims->expires_ms + 30000 > now_ms);
    for (size_t i = 0; i < claims->group_count; i++)
        PEAL_ASSERT(claims->groups[i] != NULL);
    for (size_t i = 0; i < claims->publish_count; i++)
        PEAL_ASSERT(claims->publish[i] != NULL);
}

static enum peal_err judge(const struct peal_token_keys *keys, struct peal_span token)
{
    const struct peal_token_rules rules = {.user_claim = "sub", .leeway_ms = 30000};
    struct peal_claims claims;
    char why[120];
    enum peal_err err = peal_token_verify(keys, &rules, token, now_ms, &claims, why, sizeof why);
    if (err == PEAL_OK) {
        accepted_check(token);
        claims_check(&claims);
        PEAL_ASSERT(why[0] == '\0');
    } else {
        PEAL_ASSERT(why[0] != '\0');
    }
    peal_claims_fini(&claims);
    return err;
}

static void judge_claims(const struct peal_token_keys *keys, struct peal_span text)
{
    const char *line = text.size == 0 ? NULL : memchr(text.at, '\n', text.size);
    if (line == NULL) return;
    struct peal_span header = peal_span_make(text.at, (size_t)(line - text.at));
    struct peal_span claims = peal_span_make(line + 1, text.size - header.size - 1);
    struct peal_buf token = forge(header, claims);
    judge(keys, peal_buf_span(&token));
    peal_buf_fini(&token);
}

static void judge_mutation(const struct peal_token_keys *keys, struct peal_span pairs)
{
    struct peal_buf token = forge(peal_span_of("{\"alg\":\"HS256\"}"),
                                  peal_span_of("{\"sub\":\"alice\",\"groups\":[\"a\"]}"));
    struct peal_buf good = {0};
    peal_buf_add_span(&good, peal_buf_span(&token));
    for (size_t i = 0; i + 1 < pairs.size; i += 2)
        token.at[(unsigned char)pairs.at[i] % token.size] = pairs.at[i + 1];
    bool same = peal_span_equal(peal_buf_span(&token), peal_buf_span(&good));
    PEAL_ASSERT((judge(keys, peal_buf_span(&token)) == PEAL_OK) == same);
    peal_buf_fini(&good);
    peal_buf_fini(&token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct peal_token_keys *keys;
    if (keys == NULL) {
        keys = peal_token_keys_new();
        PEAL_ASSERT(keys != NULL);
        PEAL_ASSERT(peal_token_keys_add_hs256(keys, peal_span_of(secret)) == PEAL_OK);
    }
    if (size == 0) return 0;
    struct peal_span rest = peal_span_make(data + 1, size - 1);
    if (data[0] == 't') judge(keys, rest);
    if (data[0] == 'c') judge_claims(keys, rest);
    if (data[0] == 'm') judge_mutation(keys, rest);
    return 0;
}

#include "proto/token.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "tests/unit/unit.h"

/* Tokens are made here with libsodium, which shares no code with cjose; the constants come from
 * a third implementation (PyJWT 2.6). */
static const char secret[] = "a-secret-of-at-least-32-bytes-for-tests";
static const char other_secret[] = "another-secret-of-32-bytes-for-the-tests";

enum { NOW_S = 1800000000, LEEWAY_S = 30, FAR_S = 2000000000 };
static const uint64_t now_ms = (uint64_t)NOW_S * 1000;

static const char python_plain[] =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSIsImdyb3VwcyI6WyJyb29tOntpZH0iL"
    "CJuZXdzIl0sInB1Ymxpc2giOlsicm9vbToxIl0sImV4cCI6MzI1MDM2ODAwMDAsImp0aSI6InQtMSJ9.RPFpBP"
    "BUX-0XYK3cdRMZbTw1IjOdZ_DVBh0D0tC_N1M";
static const char python_number[] =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ4IiwidXNlcl9pZCI6NDcxMSwiZXhwIjozMjUwM"
    "zY4MDAwMCwiaXNzIjoic2hvcCIsImF1ZCI6WyJwZWFsIiwibWFpbCJdfQ.t4NtOe63ItJRPNyfjNw3CrdDr7w9"
    "yIOT6tFXJYnb6UY";
/* Its header also has kid, jku, x5u and jwk. */
static const char python_headers[] =
    "eyJhbGciOiJIUzI1NiIsImprdSI6Imh0dHA6Ly8xMjcuMC4wLjEva2V5cyIsImp3ayI6eyJrIjoiQUFBQSIsIm"
    "t0eSI6Im9jdCJ9LCJraWQiOiIuLi8uLi9ldGMvcGFzc3dkIiwidHlwIjoiSldUIiwieDV1IjoiaHR0cDovLzEy"
    "Ny4wLjAuMS94In0.eyJzdWIiOiJialx1MDBmNnJuIiwiZXhwIjozMjUwMzY4MDAwMC41LCJuYmYiOjEsImlhdC"
    "I6MX0.dlqlPhgLmFJFsizspbSV0iMX0X6y7ZoIam1epX_eWLI";
static const char python_rs256[] =
    "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6MzI1MDM2ODAwMDB9.htWL"
    "LXV73O6u4qZAjQKjUEvu1vMEdWX7tdjB-kGk4TRhpTcpluJvUrMoDBG0JCgzKz8fhrwgM6edm4t53pxq4XDzTN"
    "lo8ITgfk46pEZxMSrmbDS6AymVBRo-LoGIfCZeGHHbAkUFrC5bQTGjH4IIV0w6qx_K-7O45E8-tNgoPu3qhyap"
    "XyQ5l2HlbbadqRZROEEole9Rv-4rBzc2veUjZxkOycRNIeoc1VX0tgTg9kIeNXnQkMlRJn_tuw-RSRST8wMtHD"
    "99XggFC02UUEJ5ytq1jMaupYjMv4iOw48x274K7jaFaDgloPNTtRH786ppPyaZSRJ6ZQl8DlNY99gojQ";
static const char python_hs512[] =
    "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6MzI1MDM2ODAwMDB9.kG9r"
    "PQiHo8DHGofubTP3rSu0DnDk-JLfNqm5gp7JxbibPvU9-9H-66-HMUG8OOnU_P0t9cFObyw0t-VcdIO-yg";
static const char python_hs384[] =
    "eyJhbGciOiJIUzM4NCIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6MzI1MDM2ODAwMDB9._1aI"
    "IsV95bBPdtHZyStOeip3FeA55BHJ2JBfYFWh9baoUsM0zjgSEHMzPntSSONX";
static const char python_none[] =
    "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6MzI1MDM2ODAwMDB9.";

static const struct peal_token_rules rules = {.user_claim = "sub", .leeway_ms = LEEWAY_S * 1000};

static void base64url_add(struct peal_buf *out, const void *at, size_t size)
{
    size_t room = sodium_base64_encoded_len(size, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    char *to = peal_buf_reserve(out, room);
    assert_non_null(to);
    sodium_bin2base64(to, room, at, size, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    out->size += strlen(to);
}

/* Appends a dot and the HMAC-SHA256 under key of what is there. */
static void mac_add(struct peal_buf *token, const char *key)
{
    unsigned char mac[crypto_auth_hmacsha256_BYTES];
    crypto_auth_hmacsha256_state state;
    crypto_auth_hmacsha256_init(&state, (const unsigned char *)key, strlen(key));
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)token->at, token->size);
    crypto_auth_hmacsha256_final(&state, mac);
    peal_buf_add_char(token, '.');
    base64url_add(token, mac, sizeof mac);
}

/* header "." claims "." HMAC-SHA256 under key, whatever header and claims are. */
static struct peal_buf forge_with(const char *key, const char *header, const char *claims,
                                  size_t claims_size)
{
    struct peal_buf token = {0};
    base64url_add(&token, header, strlen(header));
    peal_buf_add_char(&token, '.');
    base64url_add(&token, claims, claims_size);
    mac_add(&token, key);
    return token;
}

static const char hs256[] = "{\"alg\":\"HS256\"}";

static struct peal_buf forge(const char *header, const char *claims)
{
    return forge_with(secret, header, claims, strlen(claims));
}

static struct peal_token_keys *keys_new(const char *first, const char *second)
{
    struct peal_token_keys *keys = peal_token_keys_new();
    assert_non_null(keys);
    assert_int_equal(peal_token_keys_add_hs256(keys, peal_span_of(first)), PEAL_OK);
    if (second != NULL)
        assert_int_equal(peal_token_keys_add_hs256(keys, peal_span_of(second)), PEAL_OK);
    return keys;
}

static int setup(void **state)
{
    if (sodium_init() < 0) return -1;
    *state = keys_new(secret, NULL);
    return 0;
}

static int teardown(void **state)
{
    peal_token_keys_free(*state);
    return 0;
}

/* Verifies a copy without a byte of room behind it, so that the sanitizer sees every overrun. */
static enum peal_err verify(const struct peal_token_keys *keys, const struct peal_token_rules *with,
                            struct peal_span token, struct peal_claims *out, char *why,
                            size_t why_size)
{
    char *copy = malloc(token.size == 0 ? 1 : token.size);
    assert_non_null(copy);
    if (token.size > 0) memcpy(copy, token.at, token.size);
    enum peal_err err =
        peal_token_verify(keys, with, peal_span_make(copy, token.size), now_ms, out, why, why_size);
    free(copy);
    return err;
}

/* Refused, with a reason, with nothing in the result, and with nothing of the token in the
 * reason. */
static void assert_refused(const struct peal_token_keys *keys, const struct peal_token_rules *with,
                           struct peal_span token, enum peal_err expected, const char *name)
{
    static const struct peal_claims nothing;
    struct peal_claims claims;
    char why[120] = "";
    enum peal_err err = verify(keys, with, token, &claims, why, sizeof why);
    if (err != expected) fail_msg("%s: got %s (%s)", name, peal_err_word(err), why);
    assert_memory_equal(&claims, &nothing, sizeof nothing);
    assert_string_not_equal(why, "");
    if (strstr(why, "MARK") != NULL) fail_msg("%s: the reason quotes the token: %s", name, why);
}

static const struct {
    const char *name;
    const char *header;
} bad_headers[] = {
    {"none", "{\"alg\":\"none\"}"},
    {"None", "{\"alg\":\"None\"}"},
    {"NONE", "{\"alg\":\"NONE\"}"},
    {"nOnE", "{\"alg\":\"nOnE\"}"},
    {"none with blank", "{\"alg\":\"none \"}"},
    {"empty alg", "{\"alg\":\"\"}"},
    {"null alg", "{\"alg\":null}"},
    {"false alg", "{\"alg\":false}"},
    {"number alg", "{\"alg\":256}"},
    {"array alg", "{\"alg\":[\"HS256\"]}"},
    {"object alg", "{\"alg\":{\"HS256\":1}}"},
    {"no alg", "{\"typ\":\"JWT\"}"},
    {"alg in another case", "{\"Alg\":\"HS256\"}"},
    {"lower case", "{\"alg\":\"hs256\"}"},
    {"mixed case", "{\"alg\":\"Hs256\"}"},
    {"leading blank", "{\"alg\":\" HS256\"}"},
    {"trailing blank", "{\"alg\":\"HS256 \"}"},
    {"prefix", "{\"alg\":\"HS2\"}"},
    {"extension", "{\"alg\":\"HS2567\"}"},
    {"with NUL", "{\"alg\":\"HS256\\u0000\"}"},
    {"RS256 over an HMAC", "{\"alg\":\"RS256\"}"},
    {"RS384 over an HMAC", "{\"alg\":\"RS384\"}"},
    {"PS256 over an HMAC", "{\"alg\":\"PS256\"}"},
    {"ES256 over an HMAC", "{\"alg\":\"ES256\"}"},
    {"EdDSA over an HMAC", "{\"alg\":\"EdDSA\"}"},
    {"HS384 over an HS256 signature", "{\"alg\":\"HS384\"}"},
    {"HS512 over an HS256 signature", "{\"alg\":\"HS512\"}"},
    {"dir", "{\"alg\":\"dir\",\"enc\":\"A256GCM\"}"},
    {"alg twice, good one last", "{\"alg\":\"none\",\"alg\":\"HS256\"}"},
    {"alg twice, good one first", "{\"alg\":\"HS256\",\"alg\":\"none\"}"},
    {"alg twice, one with escapes", "{\"alg\":\"HS256\",\"\\u0061lg\":\"none\"}"},
    {"crit exp", "{\"alg\":\"HS256\",\"crit\":[\"exp\"],\"exp\":1}"},
    {"crit alg", "{\"alg\":\"HS256\",\"crit\":[\"alg\"]}"},
    {"crit empty", "{\"alg\":\"HS256\",\"crit\":[]}"},
    {"crit null", "{\"alg\":\"HS256\",\"crit\":null}"},
    {"crit b64", "{\"alg\":\"HS256\",\"crit\":[\"b64\"],\"b64\":false}"},
    {"crit MARK", "{\"alg\":\"HS256\",\"crit\":[\"MARK\"],\"MARK\":true}"},
    {"header array", "[\"HS256\"]"},
    {"header string", "\"HS256\""},
    {"header number", "256"},
    {"header null", "null"},
    {"header empty object", "{}"},
    {"header no JSON", "alg=HS256"},
    {"header cut", "{\"alg\":\"HS256\""},
    {"header with junk", "{\"alg\":\"HS256\"}}"},
    {"two headers", "{\"alg\":\"HS256\"}{\"alg\":\"none\"}"},
    {"header with bad UTF-8", "{\"alg\":\"HS256\",\"kid\":\"\xff\"}"},
    {"header with a byte order mark", "\xef\xbb\xbf{\"alg\":\"HS256\"}"},
    {"header with a comment", "{\"alg\":\"HS256\"/**/}"},
    {"header in single quotes", "{'alg':'HS256'}"},
};

static void token_bad_header_is_refused(void **state)
{
    for (size_t i = 0; i < sizeof bad_headers / sizeof bad_headers[0]; i++) {
        struct peal_buf token = forge(bad_headers[i].header, "{\"sub\":\"MARK\"}");
        assert_refused(*state, &rules, peal_buf_span(&token), PEAL_ETOKEN_INVALID,
                       bad_headers[i].name);
        peal_buf_fini(&token);
    }
}

static const struct {
    const char *name;
    const char *claims;
    enum peal_err err;
} bad_claims[] = {
    {"array", "[\"sub\",\"MARK\"]", PEAL_ETOKEN_INVALID},
    {"string", "\"MARK\"", PEAL_ETOKEN_INVALID},
    {"null", "null", PEAL_ETOKEN_INVALID},
    {"number", "17", PEAL_ETOKEN_INVALID},
    {"no JSON", "sub=MARK", PEAL_ETOKEN_INVALID},
    {"cut", "{\"sub\":\"MARK\"", PEAL_ETOKEN_INVALID},
    {"junk behind", "{\"sub\":\"MARK\"} x", PEAL_ETOKEN_INVALID},
    {"two objects", "{\"sub\":\"MARK\"}{\"sub\":\"root\"}", PEAL_ETOKEN_INVALID},
    {"JSON inside a string", "\"{\\\"sub\\\":\\\"MARK\\\"}\"", PEAL_ETOKEN_INVALID},
    {"token inside the token", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA", PEAL_ETOKEN_INVALID},
    {"sub twice", "{\"sub\":\"MARK\",\"sub\":\"root\"}", PEAL_ETOKEN_INVALID},
    {"sub twice, one with escapes", "{\"sub\":\"MARK\",\"\\u0073ub\":\"b\"}", PEAL_ETOKEN_INVALID},
    {"exp twice", "{\"exp\":2000000000,\"exp\":1}", PEAL_ETOKEN_INVALID},
    {"a nested name twice", "{\"sub\":\"MARK\",\"x\":{\"a\":1,\"a\":2}}", PEAL_ETOKEN_INVALID},
    {"bad UTF-8", "{\"sub\":\"MARK\xc0\x80\"}", PEAL_ETOKEN_INVALID},
    {"lone surrogate", "{\"sub\":\"\\ud800\"}", PEAL_ETOKEN_INVALID},

    {"exp past", "{\"sub\":\"MARK\",\"exp\":1700000000}", PEAL_ETOKEN_EXPIRED},
    {"exp at the end of the leeway", "{\"sub\":\"MARK\",\"exp\":1799999970}", PEAL_ETOKEN_EXPIRED},
    {"exp just outside", "{\"sub\":\"MARK\",\"exp\":1799999969.999}", PEAL_ETOKEN_EXPIRED},
    {"exp 0", "{\"sub\":\"MARK\",\"exp\":0}", PEAL_ETOKEN_EXPIRED},
    {"exp tiny real", "{\"sub\":\"MARK\",\"exp\":1e-300}", PEAL_ETOKEN_EXPIRED},
    {"exp string", "{\"sub\":\"MARK\",\"exp\":\"2000000000\"}", PEAL_ETOKEN_INVALID},
    {"exp negative", "{\"sub\":\"MARK\",\"exp\":-1}", PEAL_ETOKEN_INVALID},
    {"exp negative real", "{\"sub\":\"MARK\",\"exp\":-0.5}", PEAL_ETOKEN_INVALID},
    {"exp minus zero", "{\"sub\":\"MARK\",\"exp\":-0.0}", PEAL_ETOKEN_INVALID},
    {"exp in ms", "{\"sub\":\"MARK\",\"exp\":2000000000000}", PEAL_ETOKEN_INVALID},
    {"exp 2^63-1", "{\"sub\":\"MARK\",\"exp\":9223372036854775807}", PEAL_ETOKEN_INVALID},
    {"exp 2^63", "{\"sub\":\"MARK\",\"exp\":9223372036854775808}", PEAL_ETOKEN_INVALID},
    {"exp -2^63", "{\"sub\":\"MARK\",\"exp\":-9223372036854775808}", PEAL_ETOKEN_INVALID},
    {"exp wraps in ms", "{\"sub\":\"MARK\",\"exp\":18446744073709552}", PEAL_ETOKEN_INVALID},
    {"exp 1e300", "{\"sub\":\"MARK\",\"exp\":1e300}", PEAL_ETOKEN_INVALID},
    {"exp 1e999", "{\"sub\":\"MARK\",\"exp\":1e999}", PEAL_ETOKEN_INVALID},
    {"exp NaN", "{\"sub\":\"MARK\",\"exp\":NaN}", PEAL_ETOKEN_INVALID},
    {"exp Infinity", "{\"sub\":\"MARK\",\"exp\":Infinity}", PEAL_ETOKEN_INVALID},
    {"exp hexadecimal", "{\"sub\":\"MARK\",\"exp\":0x7fffffff}", PEAL_ETOKEN_INVALID},
    {"exp null", "{\"sub\":\"MARK\",\"exp\":null}", PEAL_ETOKEN_INVALID},
    {"exp true", "{\"sub\":\"MARK\",\"exp\":true}", PEAL_ETOKEN_INVALID},
    {"exp array", "{\"sub\":\"MARK\",\"exp\":[2000000000]}", PEAL_ETOKEN_INVALID},
    {"exp object", "{\"sub\":\"MARK\",\"exp\":{\"s\":2000000000}}", PEAL_ETOKEN_INVALID},
    {"nbf future", "{\"sub\":\"MARK\",\"nbf\":1900000000}", PEAL_ETOKEN_INVALID},
    {"nbf just outside", "{\"sub\":\"MARK\",\"nbf\":1800000030.001}", PEAL_ETOKEN_INVALID},
    {"nbf string", "{\"sub\":\"MARK\",\"nbf\":\"0\"}", PEAL_ETOKEN_INVALID},
    {"nbf negative", "{\"sub\":\"MARK\",\"nbf\":-1}", PEAL_ETOKEN_INVALID},
    {"nbf huge", "{\"sub\":\"MARK\",\"nbf\":1e18}", PEAL_ETOKEN_INVALID},
    {"iat future", "{\"sub\":\"MARK\",\"iat\":1900000000}", PEAL_ETOKEN_INVALID},
    {"iat string", "{\"sub\":\"MARK\",\"iat\":\"1\"}", PEAL_ETOKEN_INVALID},
    {"iat negative", "{\"sub\":\"MARK\",\"iat\":-1}", PEAL_ETOKEN_INVALID},

    {"sub object", "{\"sub\":{\"id\":\"MARK\"}}", PEAL_ETOKEN_INVALID},
    {"sub array", "{\"sub\":[\"MARK\"]}", PEAL_ETOKEN_INVALID},
    {"sub null", "{\"sub\":null}", PEAL_ETOKEN_INVALID},
    {"sub true", "{\"sub\":true}", PEAL_ETOKEN_INVALID},
    {"sub real", "{\"sub\":1.5}", PEAL_ETOKEN_INVALID},
    {"sub whole real", "{\"sub\":1.0}", PEAL_ETOKEN_INVALID},
    {"sub beyond 64 bits", "{\"sub\":99999999999999999999}", PEAL_ETOKEN_INVALID},
    {"sub empty", "{\"sub\":\"\"}", PEAL_ETOKEN_INVALID},
    {"sub empty in a token that ends", "{\"sub\":\"\",\"exp\":2000000000}", PEAL_ETOKEN_INVALID},
    {"sub newline", "{\"sub\":\"MARK\\n\"}", PEAL_ETOKEN_INVALID},
    {"sub bare newline", "{\"sub\":\"MARK\n\"}", PEAL_ETOKEN_INVALID},
    {"sub NUL", "{\"sub\":\"MARK\\u0000x\"}", PEAL_ETOKEN_INVALID},
    {"sub DEL", "{\"sub\":\"MARK\\u007f\"}", PEAL_ETOKEN_INVALID},
    {"sub C1", "{\"sub\":\"MARK\\u0085\"}", PEAL_ETOKEN_INVALID},

    {"groups string", "{\"sub\":\"MARK\",\"groups\":\"*\"}", PEAL_ETOKEN_INVALID},
    {"groups object", "{\"sub\":\"MARK\",\"groups\":{\"0\":\"*\"}}", PEAL_ETOKEN_INVALID},
    {"groups null", "{\"sub\":\"MARK\",\"groups\":null}", PEAL_ETOKEN_INVALID},
    {"groups of numbers", "{\"sub\":\"MARK\",\"groups\":[\"a\",1]}", PEAL_ETOKEN_INVALID},
    {"groups nested", "{\"sub\":\"MARK\",\"groups\":[[\"a\"]]}", PEAL_ETOKEN_INVALID},
    {"publish true", "{\"sub\":\"MARK\",\"publish\":true}", PEAL_ETOKEN_INVALID},
    {"publish string", "{\"sub\":\"MARK\",\"publish\":\"*\"}", PEAL_ETOKEN_INVALID},
    {"publish of nulls", "{\"sub\":\"MARK\",\"publish\":[null]}", PEAL_ETOKEN_INVALID},
    {"jti number", "{\"sub\":\"MARK\",\"jti\":1}", PEAL_ETOKEN_INVALID},
    {"jti object", "{\"sub\":\"MARK\",\"jti\":{}}", PEAL_ETOKEN_INVALID},
    {"iss number", "{\"sub\":\"MARK\",\"iss\":1}", PEAL_ETOKEN_INVALID},
    {"iss array", "{\"sub\":\"MARK\",\"iss\":[\"shop\"]}", PEAL_ETOKEN_INVALID},
    {"aud number", "{\"sub\":\"MARK\",\"aud\":1}", PEAL_ETOKEN_INVALID},
    {"aud of numbers", "{\"sub\":\"MARK\",\"aud\":[\"peal\",1]}", PEAL_ETOKEN_INVALID},
    {"aud null", "{\"sub\":\"MARK\",\"aud\":null}", PEAL_ETOKEN_INVALID},
};

static void token_bad_claims_are_refused(void **state)
{
    for (size_t i = 0; i < sizeof bad_claims / sizeof bad_claims[0]; i++) {
        struct peal_buf token = forge(hs256, bad_claims[i].claims);
        assert_refused(*state, &rules, peal_buf_span(&token), bad_claims[i].err,
                       bad_claims[i].name);
        peal_buf_fini(&token);
    }
}

static const struct {
    const char *name;
    const char *claims;
} foreign_claims[] = {
    {"iss missing", "{\"sub\":\"MARK\",\"aud\":\"peal\"}"},
    {"iss wrong", "{\"sub\":\"MARK\",\"iss\":\"MARK\",\"aud\":\"peal\"}"},
    {"iss empty", "{\"sub\":\"MARK\",\"iss\":\"\",\"aud\":\"peal\"}"},
    {"iss prefix", "{\"sub\":\"MARK\",\"iss\":\"shop.example\",\"aud\":\"peal\"}"},
    {"iss in another case", "{\"sub\":\"MARK\",\"iss\":\"Shop\",\"aud\":\"peal\"}"},
    {"aud missing", "{\"sub\":\"MARK\",\"iss\":\"shop\"}"},
    {"aud wrong", "{\"sub\":\"MARK\",\"iss\":\"shop\",\"aud\":\"MARK\"}"},
    {"aud empty list", "{\"sub\":\"MARK\",\"iss\":\"shop\",\"aud\":[]}"},
    {"aud list of others",
     "{\"sub\":\"MARK\",\"iss\":\"shop\",\"aud\":[\"a\",\"Peal\",\"pealx\"]}"},
    {"aud list with a number", "{\"sub\":\"MARK\",\"iss\":\"shop\",\"aud\":[\"peal\",1]}"},
    {"aud object", "{\"sub\":\"MARK\",\"iss\":\"shop\",\"aud\":{\"peal\":1}}"},
};

static void token_of_other_issuer_or_audience_is_refused(void **state)
{
    struct peal_token_rules strict = rules;
    strict.issuer = "shop";
    strict.audience = "peal";
    for (size_t i = 0; i < sizeof foreign_claims / sizeof foreign_claims[0]; i++) {
        struct peal_buf token = forge(hs256, foreign_claims[i].claims);
        assert_refused(*state, &strict, peal_buf_span(&token), PEAL_ETOKEN_INVALID,
                       foreign_claims[i].name);
        peal_buf_fini(&token);
    }
}

/* What is put around and between the three parts of a good token. */
static const struct {
    const char *name;
    const char *before;
    const char *between; /* after the header, instead of a dot */
    const char *then;    /* after the claims, instead of a dot */
    const char *after;
} bad_shapes[] = {
    {"blank in front", " ", ".", ".", ""},
    {"blank behind", "", ".", ".", " "},
    {"newline behind", "", ".", ".", "\n"},
    {"CRLF behind", "", ".", ".", "\r\n"},
    {"tab in front", "\t", ".", ".", ""},
    {"blank around a dot", "", " .", ".", ""},
    {"newline inside", "", ".", "\n.", ""},
    {"padding on the header", "", "=.", ".", ""},
    {"padding on the claims", "", ".", "==.", ""},
    {"padding on the signature", "", ".", ".", "="},
    {"padding twice", "", ".", ".", "=="},
    {"a fourth part", "", ".", ".", ".AAAA"},
    {"an empty fourth part", "", ".", ".", "."},
    {"a fifth part", "", ".", ".", ".AAAA.AAAA"},
    {"an empty part in front", ".", ".", ".", ""},
    {"a double dot", "", "..", ".", ""},
    {"a double dot later", "", ".", "..", ""},
    {"other separators", "", ":", ":", ""},
    {"no separators", "", "", "", ""},
    {"a byte of junk", "", ".", ".", "A"},
    {"a group of junk", "", ".", ".", "AAAA"},
    {"quotes", "\"", ".", ".", "\""},
    {"Bearer in front", "Bearer ", ".", ".", ""},
    {"percent encoding", "%65", ".", ".", ""},
    {"plus sign", "", ".", ".", "+A"},
    {"slash", "", ".", ".", "/A"},
    {"a foreign byte", "", ".", ".", "\xc3\xa9"},
};

struct parts {
    struct peal_span header;
    struct peal_span claims;
    struct peal_span signature;
};

static struct parts parts_of(const struct peal_buf *token)
{
    const char *end = token->at + token->size;
    const char *first = memchr(token->at, '.', token->size);
    const char *second = memchr(first + 1, '.', (size_t)(end - first - 1));
    return (struct parts){peal_span_make(token->at, (size_t)(first - token->at)),
                          peal_span_make(first + 1, (size_t)(second - first - 1)),
                          peal_span_make(second + 1, (size_t)(end - second - 1))};
}

static void assert_good(struct peal_token_keys *keys, struct peal_span token)
{
    struct peal_claims claims;
    char why[120];
    enum peal_err err = verify(keys, &rules, token, &claims, why, sizeof why);
    if (err != PEAL_OK) fail_msg("refused: %s", why);
    peal_claims_fini(&claims);
}

static void token_of_bad_shape_is_refused(void **state)
{
    struct peal_buf good = forge(hs256, "{\"sub\":\"MARK\"}");
    struct parts parts = parts_of(&good);
    assert_good(*state, peal_buf_span(&good));
    for (size_t i = 0; i < sizeof bad_shapes / sizeof bad_shapes[0]; i++) {
        struct peal_buf bad = {0};
        peal_buf_add_text(&bad, bad_shapes[i].before);
        peal_buf_add_span(&bad, parts.header);
        peal_buf_add_text(&bad, bad_shapes[i].between);
        peal_buf_add_span(&bad, parts.claims);
        peal_buf_add_text(&bad, bad_shapes[i].then);
        peal_buf_add_span(&bad, parts.signature);
        peal_buf_add_text(&bad, bad_shapes[i].after);
        assert_refused(*state, &rules, peal_buf_span(&bad), PEAL_ETOKEN_INVALID,
                       bad_shapes[i].name);
        peal_buf_fini(&bad);
    }
    peal_buf_fini(&good);
}

static void token_without_signature_is_refused(void **state)
{
    struct peal_buf good = forge(hs256, "{\"sub\":\"MARK\"}");
    struct peal_buf none = forge("{\"alg\":\"none\"}", "{\"sub\":\"MARK\"}");
    struct parts parts = parts_of(&good);
    struct peal_span until_claims =
        peal_span_make(good.at, parts.header.size + 1 + parts.claims.size);
    struct peal_span with_dot = peal_span_make(good.at, until_claims.size + 1);
    struct peal_span none_with_dot =
        peal_span_make(none.at, none.size - parts_of(&none).signature.size);
    struct peal_buf detached = {0};
    peal_buf_add_span(&detached, parts.header);
    peal_buf_add_text(&detached, "..");
    peal_buf_add_span(&detached, parts.signature);

    assert_refused(*state, &rules, until_claims, PEAL_ETOKEN_INVALID, "stripped");
    assert_refused(*state, &rules, with_dot, PEAL_ETOKEN_INVALID, "empty");
    assert_refused(*state, &rules, none_with_dot, PEAL_ETOKEN_INVALID, "none and empty");
    assert_refused(*state, &rules, peal_buf_span(&detached), PEAL_ETOKEN_INVALID, "detached");
    assert_refused(*state, &rules, parts.header, PEAL_ETOKEN_INVALID, "header only");
    assert_refused(*state, &rules, peal_span_of(""), PEAL_ETOKEN_INVALID, "nothing");
    assert_refused(*state, &rules, (struct peal_span){NULL, 0}, PEAL_ETOKEN_INVALID, "absent");
    assert_refused(*state, &rules, peal_span_of("."), PEAL_ETOKEN_INVALID, "one dot");
    assert_refused(*state, &rules, peal_span_of(".."), PEAL_ETOKEN_INVALID, "two dots");
    assert_refused(*state, &rules, peal_span_of("..."), PEAL_ETOKEN_INVALID, "three dots");

    peal_buf_fini(&detached);
    peal_buf_fini(&none);
    peal_buf_fini(&good);
}

static void token_by_another_implementation_with_other_alg_is_refused(void **state)
{
    assert_refused(*state, &rules, peal_span_of(python_rs256), PEAL_ETOKEN_INVALID, "RS256");
    assert_refused(*state, &rules, peal_span_of(python_hs384), PEAL_ETOKEN_INVALID, "HS384");
    assert_refused(*state, &rules, peal_span_of(python_hs512), PEAL_ETOKEN_INVALID, "HS512");
    assert_refused(*state, &rules, peal_span_of(python_none), PEAL_ETOKEN_INVALID, "none");
}

static void token_truncated_at_any_byte_is_refused(void **state)
{
    struct peal_span good = peal_span_of(python_plain);
    for (size_t size = 0; size < good.size; size++)
        assert_refused(*state, &rules, peal_span_make(good.at, size), PEAL_ETOKEN_INVALID,
                       "truncated");
    assert_good(*state, good);
}

static void token_with_any_bit_flipped_is_refused(void **state)
{
    char token[sizeof python_plain];
    memcpy(token, python_plain, sizeof token);
    for (size_t bit = 0; bit < (sizeof token - 1) * 8; bit++) {
        token[bit / 8] = (char)(token[bit / 8] ^ 1 << bit % 8);
        assert_refused(*state, &rules, peal_span_make(token, sizeof token - 1), PEAL_ETOKEN_INVALID,
                       "flipped");
        token[bit / 8] = python_plain[bit / 8];
    }
    assert_good(*state, peal_span_make(token, sizeof token - 1));
}

/* 43 characters hold 258 bits, two more than the signature has: three other last characters
 * decode to the same signature in a lax decoder. */
static void token_with_unused_signature_bits_set_is_refused(void **state)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    char token[sizeof python_plain];
    memcpy(token, python_plain, sizeof token);
    char *last = &token[sizeof token - 2];
    size_t index = (size_t)(strchr(alphabet, *last) - alphabet);
    assert_int_equal(index % 4, 0);
    for (size_t i = 1; i < 4; i++) {
        *last = alphabet[index + i];
        assert_refused(*state, &rules, peal_span_of(token), PEAL_ETOKEN_INVALID, "unused bits");
    }
}

/* {"alg":"HS256"} and {"a":""}, with something that a lax decoder would pass over. The signature
 * is right. */
static void token_signed_over_bad_base64url_is_refused(void **state)
{
    static const char *const bad[] = {"eyJhbGciOiJIUzI1NiJ9A.eyJhIjoiIn0",
                                      "eyJhbGciOiJIUzI1NiJ9.eyJhIjoiIn0A",
                                      "eyJhbGciOiJIUzI1NiJ9=.eyJhIjoiIn0",
                                      "eyJhbGciOiJIUzI1NiJ9.eyJhIjoiIn0=",
                                      "eyJhbGciOiJIUzI1NiJ9.eyJhIjoiIn1",
                                      "eyJhbGciOiJIUzI1NiJ9.eyJhIjoi\nIn0",
                                      "eyJhbGciOiJIUzI1NiJ9 .eyJhIjoiIn0",
                                      "eyJhbGciOiJIUzI1NiJ9.eyJhIjoiIn0.e30",
                                      "eyJhbGciOiJIUzI1NiJ9.eyJhIjoiIn0.e30.e30",
                                      "eyJhbGciOiJIUzI1NiJ9.",
                                      "eyJhbGciOiJIUzI1NiJ9"};
    struct peal_buf good = {0};
    peal_buf_add_text(&good, "eyJhbGciOiJIUzI1NiJ9.eyJhIjoiIn0");
    mac_add(&good, secret);
    assert_good(*state, peal_buf_span(&good));
    peal_buf_fini(&good);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct peal_buf token = {0};
        peal_buf_add_text(&token, bad[i]);
        mac_add(&token, secret);
        assert_refused(*state, &rules, peal_buf_span(&token), PEAL_ETOKEN_INVALID, bad[i]);
        peal_buf_fini(&token);
    }
}

static void token_by_unknown_key_is_refused(void **state)
{
    const char claims[] = "{\"sub\":\"MARK\"}";
    struct peal_buf token = forge_with(other_secret, hs256, claims, strlen(claims));
    assert_refused(*state, &rules, peal_buf_span(&token), PEAL_ETOKEN_INVALID, "other key");
    struct peal_token_keys *none = peal_token_keys_new();
    assert_refused(none, &rules, peal_buf_span(&token), PEAL_ETOKEN_INVALID, "no keys");
    peal_token_keys_free(none);
    peal_buf_fini(&token);
    token = forge_with("", hs256, claims, strlen(claims));
    assert_refused(*state, &rules, peal_buf_span(&token), PEAL_ETOKEN_INVALID, "empty key");
    peal_buf_fini(&token);
}

static void token_by_any_of_two_keys_is_accepted(void **state)
{
    (void)state;
    const char claims[] = "{\"sub\":\"alice\"}";
    const char *secrets[] = {secret, other_secret};
    struct peal_token_keys *keys = keys_new(secret, other_secret);
    assert_int_equal(peal_token_keys_count(keys), 2);
    for (size_t i = 0; i < 2; i++) {
        struct peal_buf token = forge_with(secrets[i], hs256, claims, strlen(claims));
        assert_good(keys, peal_buf_span(&token));
        peal_buf_fini(&token);
    }
    struct peal_buf token =
        forge_with("a-third-secret-of-at-least-32-bytes!", hs256, claims, strlen(claims));
    assert_refused(keys, &rules, peal_buf_span(&token), PEAL_ETOKEN_INVALID, "third key");
    peal_buf_fini(&token);
    peal_token_keys_free(keys);
}

static void keys_short_secret_is_refused(void **state)
{
    (void)state;
    struct peal_token_keys *keys = peal_token_keys_new();
    const char text[] = "0123456789abcdef0123456789abcdef";
    assert_int_equal(peal_token_keys_add_hs256(keys, peal_span_of("")), PEAL_EBAD_FIELD);
    assert_int_equal(peal_token_keys_add_hs256(keys, peal_span_make(text, 31)), PEAL_EBAD_FIELD);
    assert_int_equal(peal_token_keys_count(keys), 0);
    assert_int_equal(peal_token_keys_add_hs256(keys, peal_span_make(text, 32)), PEAL_OK);
    assert_int_equal(peal_token_keys_count(keys), 1);
    peal_token_keys_free(keys);
    peal_token_keys_free(NULL);
}

/* {"sub":"aaa..."} with size bytes of a, or an unused claim of that size. */
static struct peal_buf forge_long(const char *name, size_t size)
{
    struct peal_buf claims = {0};
    peal_buf_add_format(&claims, "{\"%s\":\"", name);
    for (size_t i = 0; i < size; i++)
        peal_buf_add_char(&claims, 'a');
    peal_buf_add_text(&claims, "\"}");
    struct peal_buf token = forge_with(secret, hs256, claims.at, claims.size);
    peal_buf_fini(&claims);
    return token;
}

static void token_user_without_room_for_its_inbox_is_refused(void **state)
{
    static const struct {
        size_t size;
        bool good;
    } cases[] = {{195, true}, {196, false}, {200, false}, {201, false}, {4000, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peal_buf token = forge_long("sub", cases[i].size);
        if (cases[i].good)
            assert_good(*state, peal_buf_span(&token));
        else
            assert_refused(*state, &rules, peal_buf_span(&token), PEAL_ETOKEN_INVALID, "long");
        peal_buf_fini(&token);
    }
}

static void token_longer_than_the_limit_is_refused(void **state)
{
    size_t size = 6000;
    struct peal_buf token = forge_long("x", size);
    while (token.size < PEAL_TOKEN_MAX) { /* to the last one that fits */
        peal_buf_fini(&token);
        token = forge_long("x", ++size);
    }
    assert_true(token.size >= PEAL_TOKEN_MAX);
    if (token.size > PEAL_TOKEN_MAX) {
        assert_refused(*state, &rules, peal_buf_span(&token), PEAL_ETOKEN_INVALID, "long");
        peal_buf_fini(&token);
        token = forge_long("x", size - 1);
    }
    assert_good(*state, peal_buf_span(&token));
    peal_buf_fini(&token);
    token = forge_long("x", size + 2);
    assert_refused(*state, &rules, peal_buf_span(&token), PEAL_ETOKEN_INVALID, "long");
    peal_buf_fini(&token);
    token = forge_long("x", 200000);
    assert_refused(*state, &rules, peal_buf_span(&token), PEAL_ETOKEN_INVALID, "very long");
    peal_buf_fini(&token);
}

static void token_deeply_nested_is_refused(void **state)
{
    struct peal_buf claims = {0};
    for (int i = 0; i < 2900; i++)
        peal_buf_add_char(&claims, '[');
    for (int i = 0; i < 2900; i++)
        peal_buf_add_char(&claims, ']');
    struct peal_buf token = forge_with(secret, hs256, claims.at, claims.size);
    assert_true(token.size < PEAL_TOKEN_MAX);
    assert_refused(*state, &rules, peal_buf_span(&token), PEAL_ETOKEN_INVALID, "nested");
    peal_buf_fini(&token);
    peal_buf_fini(&claims);
}

static void token_claims_with_a_raw_nul_are_refused(void **state)
{
    static const char claims[] = "{\"sub\":\"a\0b\"}";
    struct peal_buf token = forge_with(secret, hs256, claims, sizeof claims - 1);
    assert_refused(*state, &rules, peal_buf_span(&token), PEAL_ETOKEN_INVALID, "NUL inside");
    peal_buf_fini(&token);
    static const char ended[] = "{\"sub\":\"a\"}\0";
    token = forge_with(secret, hs256, ended, sizeof ended - 1);
    assert_refused(*state, &rules, peal_buf_span(&token), PEAL_ETOKEN_INVALID, "NUL behind");
    peal_buf_fini(&token);
}

static const struct {
    const char *name;
    const char *claims;
    const char *user;
    uint64_t expires_ms;
} good_claims[] = {
    {"empty", "{}", NULL, 0},
    {"no exp", "{\"sub\":\"alice\"}", "alice", 0},
    {"exp last ms of the leeway", "{\"sub\":\"a\",\"exp\":1799999970.001}", "a", 1799999970001},
    {"exp within the leeway", "{\"sub\":\"a\",\"exp\":1799999971}", "a", 1799999971000},
    {"exp real", "{\"sub\":\"a\",\"exp\":2.0e9}", "a", 2000000000000},
    {"exp year 9999", "{\"sub\":\"a\",\"exp\":253402300799}", "a", 253402300799000},
    {"nbf at the leeway", "{\"sub\":\"a\",\"nbf\":1800000030}", "a", 0},
    {"iat at the leeway", "{\"sub\":\"a\",\"iat\":1800000030}", "a", 0},
    {"times zero", "{\"sub\":\"a\",\"nbf\":0,\"iat\":0}", "a", 0},
    {"user integer", "{\"sub\":4711}", "4711", 0},
    {"user zero", "{\"sub\":0}", "0", 0},
    {"user negative", "{\"sub\":-7}", "-7", 0},
    {"user largest", "{\"sub\":9223372036854775807}", "9223372036854775807", 0},
    {"user with colon and slash", "{\"sub\":\"../a:b\"}", "../a:b", 0},
    {"user in UTF-8", "{\"sub\":\"bj\\u00f6rn \xe9\x9b\xaa\"}", "bj\xc3\xb6rn \xe9\x9b\xaa", 0},
    {"empty lists", "{\"sub\":\"a\",\"groups\":[],\"publish\":[]}", "a", 0},
    {"any issuer and audience", "{\"sub\":\"a\",\"iss\":\"x\",\"aud\":[\"y\"]}", "a", 0},
    {"unknown claims", "{\"sub\":\"a\",\"scope\":{\"x\":[1,{}]},\"crit\":1}", "a", 0},
    {"blanks", " {\n\"sub\" : \"a\" }\n", "a", 0},
};

static void token_good_claims_are_read(void **state)
{
    for (size_t i = 0; i < sizeof good_claims / sizeof good_claims[0]; i++) {
        struct peal_buf token = forge(hs256, good_claims[i].claims);
        struct peal_claims claims;
        char why[120];
        enum peal_err err = verify(*state, &rules, peal_buf_span(&token), &claims, why, sizeof why);
        if (err != PEAL_OK) fail_msg("%s: %s", good_claims[i].name, why);
        if (good_claims[i].user == NULL)
            assert_null(claims.user);
        else
            assert_string_equal(claims.user, good_claims[i].user);
        assert_int_equal(claims.expires_ms, good_claims[i].expires_ms);
        assert_string_equal(why, "");
        peal_claims_fini(&claims);
        peal_buf_fini(&token);
    }
}

static void token_audience_in_string_or_list_is_accepted(void **state)
{
    const char *good[] = {"{\"iss\":\"shop\",\"aud\":\"peal\"}",
                          "{\"iss\":\"shop\",\"aud\":[\"mail\",\"peal\"]}"};
    struct peal_token_rules strict = rules;
    strict.issuer = "shop";
    strict.audience = "peal";
    for (size_t i = 0; i < 2; i++) {
        struct peal_buf token = forge(hs256, good[i]);
        struct peal_claims claims;
        assert_int_equal(verify(*state, &strict, peal_buf_span(&token), &claims, NULL, 0), PEAL_OK);
        peal_claims_fini(&claims);
        peal_buf_fini(&token);
    }
}

static void token_expiry_is_judged_without_leeway_too(void **state)
{
    struct peal_token_rules exact = rules;
    exact.leeway_ms = 0;
    struct peal_buf token = forge(hs256, "{\"exp\":1800000000}");
    struct peal_claims claims;
    assert_refused(*state, &exact, peal_buf_span(&token), PEAL_ETOKEN_EXPIRED, "now");
    assert_int_equal(
        peal_token_verify(*state, &exact, peal_buf_span(&token), now_ms - 1, &claims, NULL, 0),
        PEAL_OK);
    peal_claims_fini(&claims);
    /* A clock at the end of its range must not wrap around. */
    assert_int_equal(
        peal_token_verify(*state, &rules, peal_buf_span(&token), UINT64_MAX, &claims, NULL, 0),
        PEAL_ETOKEN_EXPIRED);
    peal_buf_fini(&token);
}

static void token_by_another_implementation_is_read(void **state)
{
    struct peal_claims claims;
    char why[120];
    assert_int_equal(verify(*state, &rules, peal_span_of(python_plain), &claims, why, sizeof why),
                     PEAL_OK);
    assert_string_equal(claims.user, "alice");
    assert_int_equal(claims.group_count, 2);
    assert_string_equal(claims.groups[0], "room:{id}");
    assert_string_equal(claims.groups[1], "news");
    assert_int_equal(claims.publish_count, 1);
    assert_string_equal(claims.publish[0], "room:1");
    assert_string_equal(claims.id, "t-1");
    assert_int_equal(claims.expires_ms, 32503680000000);
    peal_claims_fini(&claims);

    const struct peal_token_rules shop = {
        .user_claim = "user_id", .issuer = "shop", .audience = "mail"};
    assert_int_equal(verify(*state, &shop, peal_span_of(python_number), &claims, why, sizeof why),
                     PEAL_OK);
    assert_string_equal(claims.user, "4711");
    peal_claims_fini(&claims);

    assert_int_equal(verify(*state, &rules, peal_span_of(python_headers), &claims, why, sizeof why),
                     PEAL_OK);
    assert_string_equal(claims.user, "bj\xc3\xb6rn");
    assert_int_equal(claims.expires_ms, 32503680000500);
    peal_claims_fini(&claims);
}

static void token_signed_here_is_read_back(void **state)
{
    char *groups[] = {"room:{id}", "news \"quoted\" \xe2\x82\xac"};
    char *publish[] = {"*"};
    const struct peal_claims given = {.user = "alice",
                                      .groups = groups,
                                      .group_count = 2,
                                      .publish = publish,
                                      .publish_count = 1,
                                      .id = "t-9",
                                      .expires_ms = (uint64_t)FAR_S * 1000};
    const struct peal_token_rules named = {.user_claim = "uid"};
    struct peal_buf token = {0};
    struct peal_claims claims;
    char why[120];
    peal_buf_add_text(&token, "kept ");
    assert_int_equal(peal_token_sign(peal_span_of(secret), &given, "uid", now_ms, &token), PEAL_OK);
    struct peal_span signed_part = peal_span_make(token.at + 5, token.size - 5);
    assert_int_equal(verify(*state, &named, signed_part, &claims, why, sizeof why), PEAL_OK);
    assert_string_equal(claims.user, "alice");
    assert_int_equal(claims.group_count, 2);
    assert_string_equal(claims.groups[1], groups[1]);
    assert_string_equal(claims.publish[0], "*");
    assert_string_equal(claims.id, "t-9");
    assert_int_equal(claims.expires_ms, given.expires_ms);
    peal_claims_fini(&claims);
    peal_buf_fini(&token);
}

static void sign_what_verify_would_refuse_fails(void **state)
{
    (void)state;
    struct peal_buf out = {0};
    struct peal_claims claims = {.user = "alice"};
    struct peal_span short_secret = peal_span_make(secret, 31);
    assert_int_equal(peal_token_sign(short_secret, &claims, "sub", now_ms, &out), PEAL_EBAD_FIELD);
    claims.user = "\xff";
    assert_int_equal(peal_token_sign(peal_span_of(secret), &claims, "sub", now_ms, &out),
                     PEAL_EBAD_FIELD);
    char *many[600];
    for (size_t i = 0; i < 600; i++)
        many[i] = "a-group-name";
    claims = (struct peal_claims){.user = "alice", .groups = many, .group_count = 600};
    assert_int_equal(peal_token_sign(peal_span_of(secret), &claims, "sub", now_ms, &out),
                     PEAL_ETOO_LARGE);
    assert_int_equal(out.size, 0);
    peal_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(token_bad_header_is_refused),
        cmocka_unit_test(token_bad_claims_are_refused),
        cmocka_unit_test(token_of_other_issuer_or_audience_is_refused),
        cmocka_unit_test(token_of_bad_shape_is_refused),
        cmocka_unit_test(token_without_signature_is_refused),
        cmocka_unit_test(token_by_another_implementation_with_other_alg_is_refused),
        cmocka_unit_test(token_truncated_at_any_byte_is_refused),
        cmocka_unit_test(token_with_any_bit_flipped_is_refused),
        cmocka_unit_test(token_with_unused_signature_bits_set_is_refused),
        cmocka_unit_test(token_signed_over_bad_base64url_is_refused),
        cmocka_unit_test(token_by_unknown_key_is_refused),
        cmocka_unit_test(token_by_any_of_two_keys_is_accepted),
        cmocka_unit_test(keys_short_secret_is_refused),
        cmocka_unit_test(token_user_without_room_for_its_inbox_is_refused),
        cmocka_unit_test(token_longer_than_the_limit_is_refused),
        cmocka_unit_test(token_deeply_nested_is_refused),
        cmocka_unit_test(token_claims_with_a_raw_nul_are_refused),
        cmocka_unit_test(token_good_claims_are_read),
        cmocka_unit_test(token_audience_in_string_or_list_is_accepted),
        cmocka_unit_test(token_expiry_is_judged_without_leeway_too),
        cmocka_unit_test(token_by_another_implementation_is_read),
        cmocka_unit_test(token_signed_here_is_read_back),
        cmocka_unit_test(sign_what_verify_would_refuse_fails),
    };
    return cmocka_run_group_tests_name("token", tests, setup, teardown);
}

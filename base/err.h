/* base/err.h: every way in which a call can fail, in one table.
 *
 * The first part are conditions inside the program. The second part are answers that
 * clients see: `word` is the `code` of an error on every interface and `http` its status
 * (docs/PROTOCOL.md, "Errors"). */
#ifndef PEAL_BASE_ERR_H
#define PEAL_BASE_ERR_H

/* X(name, word, http status, may the client retry: no, now, later, auth) */
#define PEAL_ERR_TABLE(X)                                                                          \
    X(OK, "ok", 200, "no")                                                                         \
    X(ENOMEM, "internal", 500, "later")                                                            \
    X(EFULL, "full", 503, "later")                                                                 \
    X(EIO, "internal", 500, "later")                                                               \
    X(EINVAL, "invalid", 400, "no")                                                                \
    X(ELOCKED, "locked", 500, "no")                                                                \
    X(EINUSE, "in_use", 500, "no")                                                                 \
    X(ECORRUPT, "corrupt", 500, "no")                                                              \
    X(EAGAIN, "again", 503, "now")                                                                 \
    X(ECONFIG, "configuration", 500, "no")                                                         \
    X(EBAD_JSON, "bad_json", 400, "no")                                                            \
    X(EBAD_MESSAGE, "bad_message", 400, "no")                                                      \
    X(EUNKNOWN_TYPE, "unknown_type", 400, "no")                                                    \
    X(EMISSING_FIELD, "missing_field", 400, "no")                                                  \
    X(EBAD_FIELD, "bad_field", 400, "no")                                                          \
    X(EBAD_GROUP, "bad_group", 400, "no")                                                          \
    X(ETOKEN_MISSING, "token_missing", 401, "auth")                                                \
    X(ETOKEN_INVALID, "token_invalid", 401, "auth")                                                \
    X(ETOKEN_EXPIRED, "token_expired", 401, "auth")                                                \
    X(EKEY_INVALID, "key_invalid", 401, "no")                                                      \
    X(EFORBIDDEN, "forbidden", 403, "no")                                                          \
    X(ENOT_FOUND, "not_found", 404, "no")                                                          \
    X(EMETHOD, "method_not_allowed", 405, "no")                                                    \
    X(ELIMIT, "limit", 409, "no")                                                                  \
    X(ETOO_LARGE, "too_large", 413, "no")                                                          \
    X(EMEDIA_TYPE, "unsupported_media_type", 415, "no")                                            \
    X(EUPGRADE, "upgrade_required", 426, "no")                                                     \
    X(ERATE_LIMITED, "rate_limited", 429, "later")                                                 \
    X(EINTERNAL, "internal", 500, "later")                                                         \
    X(EQUEUE_FULL, "queue_full", 503, "later")                                                     \
    X(ENO_ROUTER, "no_router", 503, "later")                                                       \
    X(ETIMEOUT, "timeout", 504, "later")                                                           \
    X(ESTORE_FULL, "store_full", 507, "later")

enum peal_err {
#define X(name, word, http, retry) PEAL_##name,
    PEAL_ERR_TABLE(X)
#undef X
        PEAL_ERR_COUNT
};

/* The word that stands for err on the wire and in logs; never NULL, also for numbers outside
 * the table. */
const char *peal_err_word(enum peal_err err);
/* HTTP status of err. */
int peal_err_http(enum peal_err err);
/* `no`, `now`, `later` or `auth`: what a client may do about err. */
const char *peal_err_retry(enum peal_err err);

#endif

#include "node/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum peal_err peal_identity_copy(char **to, struct peal_span from)
{
    char *copy = strndup(from.at, from.size);
    if (copy == NULL) return PEAL_ENOMEM;
    free(*to);
    *to = copy;
    return PEAL_OK;
}

void peal_identity_drop(struct peal_conn *conn)
{
    if (conn->claims != NULL) peal_claims_fini(conn->claims);
    free(conn->claims);
    conn->claims = NULL;
}

enum peal_err peal_identity_take(struct peal_conn *conn, struct peal_claims *claims)
{
    struct peal_claims *kept = NULL; /* most say no more than who and until when */
    uint64_t expires_ms = claims->expires_ms;
    if (claims->group_count > 0 || claims->publish_count > 0) {
        kept = malloc(sizeof *kept);
        if (kept == NULL) {
            peal_claims_fini(claims);
            return PEAL_ENOMEM;
        }
        *kept = *claims;
        *claims = (struct peal_claims){0};
    }
    peal_claims_fini(claims);
    peal_identity_drop(conn);
    conn->claims = kept;
    conn->has_token = true;
    peal_conn_clear_due(conn, PEAL_DUE_EXPIRE);
    if (expires_ms == 0) return PEAL_OK;
    uint64_t at_ms = expires_ms + conn->hub->token_rules.leeway_ms;
    peal_conn_set_due(conn, PEAL_DUE_EXPIRE,
                      at_ms > conn->hub->wall_ms ? at_ms - conn->hub->wall_ms : 1);
    return PEAL_OK;
}

enum peal_err peal_identity_check(struct peal_hub *hub, const struct peal_config_route *route,
                                  struct peal_span token, struct peal_claims *claims, char *why,
                                  size_t why_size)
{
    struct peal_token_rules rules = hub->token_rules;
    if (route->user_claim != NULL) rules.user_claim = route->user_claim;
    *claims = (struct peal_claims){0};
    enum peal_err err = PEAL_ETOKEN_INVALID;
    if (hub->keys == NULL)
        snprintf(why, why_size, "no key is configured that could check a token");
    else
        err = peal_token_verify(hub->keys, &rules, token, hub->wall_ms, claims, why, why_size);
    if (err == PEAL_ENOMEM || err == PEAL_OK || !route->lenient) return err;
    return PEAL_OK; /* lenient: a bad token means no user */
}

enum peal_err peal_identity_take_token(struct peal_conn *conn, struct peal_span token, char *why,
                                       size_t why_size)
{
    struct peal_claims claims;
    enum peal_err err = peal_identity_check(conn->hub, conn->route, token, &claims, why, why_size);
    if (err != PEAL_OK) return err;
    if (conn->user != NULL && conn->route->identity == PEAL_IDENTITY_TOKEN &&
        (claims.user == NULL || strcmp(conn->user, claims.user) != 0)) {
        snprintf(why, why_size, "the token is of another user");
        err = PEAL_EFORBIDDEN;
    } else if (conn->user == NULL && claims.user != NULL &&
               conn->route->identity == PEAL_IDENTITY_TOKEN) {
        err = peal_identity_copy(&conn->user, peal_span_of(claims.user));
    }
    if (err != PEAL_OK) {
        peal_claims_fini(&claims);
        return err;
    }
    return peal_identity_take(conn, &claims);
}

#include <string.h>

#include "base/clock.h"
#include "cli/args.h"
#include "cli/exit.h"
#include "cli/secret.h"
#include "cli/verbs.h"
#include "proto/group.h"
#include "proto/token.h"

static const char usage[] =
    "usage: peal token --user U [options]\n"
    "\n"
    "Prints a token that a browser shows to a node.\n"
    "\n"
    "  --user U            whom it names\n"
    "  --group PATTERN     groups it may join; may be repeated\n"
    "  --publish PATTERN   groups it may publish to; may be repeated\n"
    "  --ttl 1h            how long it is valid\n"
    "  -c, --config FILE   configuration whose first key signs it\n"
    "  --data DIR          else: folder with the file token.secret (./peal-data)\n";

struct token {
    char *user;
    struct peal_args_list groups;
    struct peal_args_list publish;
    uint64_t ttl_ms;
    const char *config;
    const char *data;
    bool help;
};

static const struct option options[] = {
    {"user", required_argument, NULL, 'u'},    {"group", required_argument, NULL, 'g'},
    {"publish", required_argument, NULL, 'p'}, {"ttl", required_argument, NULL, 't'},
    {"config", required_argument, NULL, 'c'},  {"data", required_argument, NULL, 'd'},
    {"help", no_argument, NULL, 'h'},          {0},
};

static int options_read(int argc, char **argv, struct token *token)
{
    int option;
    enum peal_err err = PEAL_OK;
    peal_args_start();
    while (err == PEAL_OK && (option = peal_args_next(argc, argv, options)) != -1) {
        switch (option) {
        case 'u':
            token->user = optarg;
            break;
        case 'g':
            err = peal_args_list_add(&token->groups, optarg);
            break;
        case 'p':
            err = peal_args_list_add(&token->publish, optarg);
            break;
        case 't':
            if (peal_args_duration(optarg, &token->ttl_ms) != PEAL_OK)
                return peal_fail(PEAL_EXIT_USAGE, "usage",
                                 "\"%s\" is no duration such as 90s or 1h", optarg);
            break;
        case 'c':
            token->config = optarg;
            break;
        case 'd':
            token->data = optarg;
            break;
        case 'h':
            token->help = true;
            return PEAL_EXIT_OK;
        default:
            return PEAL_EXIT_USAGE;
        }
    }
    if (err != PEAL_OK) return peal_fail_call(err, "There is not enough memory.");
    if (token->user == NULL) return peal_fail(PEAL_EXIT_USAGE, "usage", "--user is needed");
    return peal_args_end(argc, argv);
}

/* A server would refuse a token for such a name. */
static int user_check(const char *user)
{
    struct peal_buf inbox = {0};
    enum peal_err err = peal_name_check(peal_span_of(user));
    if (err == PEAL_OK) err = peal_group_of_user(peal_span_of(user), &inbox);
    peal_buf_fini(&inbox);
    if (err == PEAL_OK) return PEAL_EXIT_OK;
    return peal_fail(PEAL_EXIT_USAGE, "usage",
                     "a user is 1 to 195 bytes of UTF-8 without control characters");
}

static int sign(const struct token *token, const struct peal_buf *secret, const char *user_claim)
{
    struct peal_buf out = {0};
    uint64_t now_ms = peal_clock_wall_ms();
    const struct peal_claims claims = {.user = token->user,
                                       .groups = token->groups.at,
                                       .group_count = token->groups.count,
                                       .publish = token->publish.at,
                                       .publish_count = token->publish.count,
                                       .expires_ms = now_ms + token->ttl_ms};
    int rc;
    switch (peal_token_sign(peal_buf_span(secret), &claims, user_claim, now_ms, &out)) {
    case PEAL_OK:
        rc = peal_print_line(peal_buf_span(&out));
        break;
    case PEAL_EBAD_FIELD:
        rc = secret->size < 32 ? peal_fail(PEAL_EXIT_CONFIG, "configuration",
                                           "the secret must have at least 32 bytes")
                               : peal_fail(PEAL_EXIT_USAGE, "usage", "a pattern is not UTF-8");
        break;
    case PEAL_ETOO_LARGE:
        rc =
            peal_fail(PEAL_EXIT_USAGE, "too_large", "a token has at most %d bytes", PEAL_TOKEN_MAX);
        break;
    default:
        rc = peal_fail_call(PEAL_ENOMEM, "There is not enough memory.");
    }
    peal_secret_fini(&out);
    return rc;
}

int peal_verb_token(int argc, char **argv)
{
    struct token token = {.ttl_ms = 3600000, .data = PEAL_DATA_DEFAULT};
    struct peal_buf secret = {0};
    struct peal_buf user_claim = {0};
    int rc = options_read(argc, argv, &token);
    if (token.help) {
        rc = peal_print(peal_span_of(usage));
    } else if (rc == PEAL_EXIT_OK) {
        rc = user_check(token.user);
        if (rc == PEAL_EXIT_OK)
            rc = peal_secret_signing(token.config, token.data, &secret, &user_claim);
        if (rc == PEAL_EXIT_OK) rc = sign(&token, &secret, user_claim.at);
    }
    peal_secret_fini(&secret);
    peal_buf_fini(&user_claim);
    peal_args_list_fini(&token.groups);
    peal_args_list_fini(&token.publish);
    return rc;
}

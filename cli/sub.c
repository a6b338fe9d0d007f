#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cli/args.h"
#include "cli/exit.h"
#include "cli/secret.h"
#include "cli/verbs.h"
#include "clients/c/peal.h"
#include "proto/token.h"

static const char usage[] =
    "usage: peal sub (--group G)... | --user U [options]\n"
    "\n"
    "Prints what arrives, one JSON object per line, until it is interrupted.\n"
    "\n"
    "  --group G           join this group; may be repeated\n"
    "  --user U            the inbox of this user\n"
    "  --url URL           node (ws://127.0.0.1:8080/v1/ws)\n"
    "  --token-file FILE   token; else PEAL_TOKEN, else one is made for the day\n"
    "  -c, --config FILE   configuration whose first key signs it\n"
    "  --data DIR          else: folder with the file token.secret (./peal-data)\n";

static const uint64_t day_ms = 86400000;

struct sub {
    char *user;
    struct peal_args_list groups;
    const char *url;
    const char *token_file;
    const char *config;
    const char *data;
    bool help;
};

static const struct option options[] = {
    {"group", required_argument, NULL, 'g'},  {"user", required_argument, NULL, 'u'},
    {"url", required_argument, NULL, 'w'},    {"token-file", required_argument, NULL, 'f'},
    {"config", required_argument, NULL, 'c'}, {"data", required_argument, NULL, 'd'},
    {"help", no_argument, NULL, 'h'},         {0},
};

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static int options_read(int argc, char **argv, struct sub *sub)
{
    int option;
    enum peal_err err = PEAL_OK;
    peal_args_start();
    while (err == PEAL_OK && (option = peal_args_next(argc, argv, options)) != -1) {
        switch (option) {
        case 'g':
            err = peal_args_list_add(&sub->groups, optarg);
            break;
        case 'u':
            sub->user = optarg;
            break;
        case 'w':
            sub->url = optarg;
            break;
        case 'f':
            sub->token_file = optarg;
            break;
        case 'c':
            sub->config = optarg;
            break;
        case 'd':
            sub->data = optarg;
            break;
        case 'h':
            sub->help = true;
            return PEAL_EXIT_OK;
        default:
            return PEAL_EXIT_USAGE;
        }
    }
    if (err != PEAL_OK) return peal_fail_call(err, "There is not enough memory.");
    if (sub->user == NULL && sub->groups.count == 0)
        return peal_fail(PEAL_EXIT_USAGE, "usage", "--group or --user is needed");
    return peal_args_end(argc, argv);
}

/* Appends a token that allows exactly what was asked for. */
static int token_make(const struct sub *sub, struct peal_buf *out)
{
    struct peal_buf secret = {0};
    struct peal_buf user_claim = {0};
    uint64_t now_ms = peal_clock_wall_ms();
    const struct peal_claims claims = {.user = sub->user,
                                       .groups = sub->groups.at,
                                       .group_count = sub->groups.count,
                                       .expires_ms = now_ms + day_ms};
    int rc = peal_secret_signing(sub->config, sub->data, &secret, &user_claim);
    if (rc == PEAL_EXIT_OK &&
        peal_token_sign(peal_buf_span(&secret), &claims, user_claim.at, now_ms, out) != PEAL_OK)
        rc = peal_fail(PEAL_EXIT_CONFIG, "configuration",
                       "no token can be made: the secret is shorter than 32 bytes, or a name is "
                       "not UTF-8 or too long");
    peal_buf_add_char(out, '\0');
    peal_secret_fini(&secret);
    peal_buf_fini(&user_claim);
    return rc;
}

/* NUL-terminated. */
static int token_get(const struct sub *sub, struct peal_buf *out)
{
    int rc = peal_secret_token(sub->token_file, out);
    if (rc != PEAL_EXIT_OK || out->size > 1) return rc;
    out->size = 0;
    return token_make(sub, out);
}

static bool sub_on_message(void *context, struct peal_span message)
{
    int *rc = context;
    *rc = peal_print_line(message);
    return *rc == PEAL_EXIT_OK;
}

/* A refusal for good, or something that passes? Close codes 40xx, and HTTP's 4xx, are for good. */
static int closed(const struct peal_client_close *close)
{
    bool later = close->code < 4000 || close->code >= 4100;
    if (close->status >= 400 && close->status < 500 && close->status != 429)
        return peal_fail(PEAL_EXIT_REFUSED, close->status == 401 ? "token_invalid" : "refused",
                         "%s", close->reason);
    if (close->code >= 4000 && close->reason[0] != '\0')
        return peal_fail(later ? PEAL_EXIT_UNAVAILABLE : PEAL_EXIT_REFUSED, close->reason,
                         "The server closed the connection with %d.", close->code);
    if (close->code != 0)
        return peal_fail(PEAL_EXIT_UNAVAILABLE, "closed",
                         "The server closed the connection with %d. %s", close->code,
                         close->reason);
    return peal_fail(PEAL_EXIT_UNAVAILABLE, "unavailable", "%s", close->reason);
}

static int listen_until_stopped(const struct sub *sub, const char *token)
{
    struct peal_client_close close;
    struct sigaction action = {.sa_handler = on_signal};
    int rc = PEAL_EXIT_OK;
    const struct peal_client_feed feed = {.url = sub->url,
                                          .token = token,
                                          .groups = (const char *const *)sub->groups.at,
                                          .group_count = sub->groups.count,
                                          .on_message = sub_on_message,
                                          .context = &rc,
                                          .stop = &stopped};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    enum peal_err err = peal_client_subscribe(&feed, &close);
    if (err == PEAL_OK) return rc;
    return err == PEAL_EIO ? closed(&close) : peal_fail_call(err, close.reason);
}

int peal_verb_sub(int argc, char **argv)
{
    struct sub sub = {.url = "ws://127.0.0.1:8080/v1/ws", .data = PEAL_DATA_DEFAULT};
    struct peal_buf token = {0};
    int rc = options_read(argc, argv, &sub);
    if (sub.help)
        rc = peal_print(peal_span_of(usage));
    else if (rc == PEAL_EXIT_OK) {
        rc = token_get(&sub, &token);
        if (rc == PEAL_EXIT_OK) rc = listen_until_stopped(&sub, token.at);
    }
    peal_secret_fini(&token);
    peal_args_list_fini(&sub.groups);
    return rc;
}

#include "cli/args.h"
#include "cli/exit.h"
#include "cli/secret.h"
#include "cli/verbs.h"
#include "clients/c/peal.h"
#include "proto/json.h"
#include "proto/json_check.h"

static const char usage[] =
    "usage: peal inbox USER [options]\n"
    "\n"
    "Prints the stored messages of a user, one JSON object per line.\n"
    "\n"
    "  --limit N         at most so many\n"
    "  --unread          only those without the read mark\n"
    "  --api URL         HTTP API (http://127.0.0.1:8081)\n"
    "  --key-file FILE   API key; else PEAL_API_KEY, else api.key in the data folder\n"
    "  --data DIR        data folder (./peal-data)\n";

struct inbox {
    const char *user;
    const char *api;
    const char *key_file;
    const char *data;
    uint64_t limit;
    bool unread_only;
    bool help;
};

static const struct option options[] = {
    {"limit", required_argument, NULL, 'l'},
    {"unread", no_argument, NULL, 'r'},
    {"api", required_argument, NULL, 'a'},
    {"key-file", required_argument, NULL, 'f'},
    {"data", required_argument, NULL, 'd'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static int options_read(int argc, char **argv, struct inbox *inbox)
{
    int option;
    peal_args_start();
    while ((option = peal_args_next(argc, argv, options)) != -1) {
        switch (option) {
        case 'l':
            if (peal_args_number(optarg, 1, 1000000, &inbox->limit) != PEAL_OK)
                return peal_fail(PEAL_EXIT_USAGE, "usage", "\"%s\" is no number of messages",
                                 optarg);
            break;
        case 'r':
            inbox->unread_only = true;
            break;
        case 'a':
            inbox->api = optarg;
            break;
        case 'f':
            inbox->key_file = optarg;
            break;
        case 'd':
            inbox->data = optarg;
            break;
        case 'h':
            inbox->help = true;
            return PEAL_EXIT_OK;
        default:
            return PEAL_EXIT_USAGE;
        }
    }
    if (argc - optind != 1) return peal_fail(PEAL_EXIT_USAGE, "usage", "one USER is needed");
    inbox->user = argv[optind];
    return PEAL_EXIT_OK;
}

static int messages_print(struct peal_span body)
{
    struct peal_json json;
    const struct peal_json_field *messages = NULL;
    struct peal_span message;
    size_t at = 0;
    if (peal_json_check(body, NULL, 0) == PEAL_OK && peal_json_object(body, &json) == PEAL_OK)
        messages = peal_json_get(&json, "messages");
    if (messages == NULL || messages->kind != PEAL_JSON_ARRAY)
        return peal_fail_call(PEAL_EBAD_MESSAGE, "The server answered with something else.");
    while (peal_json_next(messages->value, &at, &message)) {
        int rc = peal_print_line(message);
        if (rc != PEAL_EXIT_OK) return rc;
    }
    return PEAL_EXIT_OK;
}

int peal_verb_inbox(int argc, char **argv)
{
    struct inbox inbox = {.api = "http://127.0.0.1:8081", .data = PEAL_DATA_DEFAULT};
    struct peal_client_answer answer = {0};
    struct peal_buf key = {0};
    int rc = options_read(argc, argv, &inbox);
    if (inbox.help) return peal_print(peal_span_of(usage));
    if (rc == PEAL_EXIT_OK) rc = peal_secret_api_key(inbox.key_file, inbox.data, &key);
    if (rc == PEAL_EXIT_OK) {
        const struct peal_client_api api = {.url = inbox.api, .key = key.at};
        enum peal_err err =
            peal_client_inbox(&api, inbox.user, inbox.limit, inbox.unread_only, &answer);
        if (err != PEAL_OK)
            rc = peal_fail_call(err, answer.why);
        else if (answer.status != 200)
            rc = peal_fail_answer(&answer);
        else
            rc = messages_print(peal_buf_span(&answer.body));
    }
    peal_secret_fini(&key);
    peal_client_answer_fini(&answer);
    return rc;
}

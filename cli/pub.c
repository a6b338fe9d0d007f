#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cli/args.h"
#include "cli/exit.h"
#include "cli/secret.h"
#include "cli/verbs.h"
#include "clients/c/peal.h"
#include "proto/json_check.h"

static const char usage[] =
    "usage: peal pub (--group G | --user U) [options] DATA\n"
    "\n"
    "Publishes DATA, which is one JSON value, and prints the receipt. DATA `-` is stdin.\n"
    "\n"
    "  --group G         to this group\n"
    "  --user U          to the inbox of this user\n"
    "  --event E         name of the event\n"
    "  --message-id ID   makes it safe to publish the same message again\n"
    "  --collapse K      a later message with the same key replaces this one\n"
    "  --ttl 1h          worth nothing after that time\n"
    "  --text            DATA is text and not JSON\n"
    "\n"
    "  --api URL         HTTP API (http://127.0.0.1:8081)\n"
    "  --key-file FILE   API key; else PEAL_API_KEY, else api.key in the data folder\n"
    "  --data DIR        data folder (./peal-data)\n"
    "  --rpc ENDPOINT    the acknowledged ZeroMQ door instead\n"
    "  --zmq ENDPOINT    the PUSH door instead: fire and forget, there is no receipt\n"
    "  --bus-key FILE    CURVE keys of this publisher (peal keygen), for a door that has CURVE\n"
    "  --router-key KEY  public key of the router, with --bus-key\n"
    "  --timeout 5s      how long to wait for a connection, and for the answer; a server that has\n"
    "                    too much to do is asked again until then\n";

struct pub {
    struct peal_client_message message;
    const char *api;
    const char *rpc;
    const char *zmq;
    const char *key_file;
    const char *bus_key;
    const char *router_key;
    const char *data;
    uint64_t timeout_ms;
    bool help;
};

static const struct option options[] = {
    {"group", required_argument, NULL, 'g'},
    {"user", required_argument, NULL, 'u'},
    {"event", required_argument, NULL, 'e'},
    {"message-id", required_argument, NULL, 'i'},
    {"collapse", required_argument, NULL, 'k'},
    {"ttl", required_argument, NULL, 't'},
    {"text", no_argument, NULL, 'x'},
    {"api", required_argument, NULL, 'a'},
    {"key-file", required_argument, NULL, 'f'},
    {"data", required_argument, NULL, 'd'},
    {"rpc", required_argument, NULL, 'r'},
    {"zmq", required_argument, NULL, 'z'},
    {"bus-key", required_argument, NULL, 'b'},
    {"router-key", required_argument, NULL, 'o'},
    {"timeout", required_argument, NULL, 'w'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static int options_read(int argc, char **argv, struct pub *pub)
{
    int option;
    enum peal_err err = PEAL_OK;
    peal_args_start();
    while (err == PEAL_OK && (option = peal_args_next(argc, argv, options)) != -1) {
        switch (option) {
        case 'g':
            pub->message.group = optarg;
            break;
        case 'u':
            pub->message.user = optarg;
            break;
        case 'e':
            pub->message.event = optarg;
            break;
        case 'i':
            pub->message.id = optarg;
            break;
        case 'k':
            pub->message.collapse = optarg;
            break;
        case 't':
            err = peal_args_duration(optarg, &pub->message.ttl_ms);
            break;
        case 'x':
            pub->message.kind = PEAL_CLIENT_TEXT;
            break;
        case 'a':
            pub->api = optarg;
            break;
        case 'f':
            pub->key_file = optarg;
            break;
        case 'd':
            pub->data = optarg;
            break;
        case 'r':
            pub->rpc = optarg;
            break;
        case 'z':
            pub->zmq = optarg;
            break;
        case 'b':
            pub->bus_key = optarg;
            break;
        case 'o':
            pub->router_key = optarg;
            break;
        case 'w':
            err = peal_args_duration(optarg, &pub->timeout_ms);
            break;
        case 'h':
            pub->help = true;
            return PEAL_EXIT_OK;
        default:
            return PEAL_EXIT_USAGE;
        }
    }
    if (err != PEAL_OK)
        return peal_fail(PEAL_EXIT_USAGE, "usage", "\"%s\" is no duration such as 90s or 1h",
                         optarg);
    return PEAL_EXIT_OK;
}

static int usage_check(const struct pub *pub, int arguments)
{
    int doors = (pub->api != NULL) + (pub->rpc != NULL) + (pub->zmq != NULL);
    if ((pub->message.group == NULL) == (pub->message.user == NULL))
        return peal_fail(PEAL_EXIT_USAGE, "usage", "either --group or --user is needed");
    if (doors > 1) return peal_fail(PEAL_EXIT_USAGE, "usage", "only one of --api, --rpc and --zmq");
    if ((pub->bus_key == NULL) != (pub->router_key == NULL))
        return peal_fail(PEAL_EXIT_USAGE, "usage", "--bus-key and --router-key need each other");
    if (pub->bus_key != NULL && pub->rpc == NULL && pub->zmq == NULL)
        return peal_fail(PEAL_EXIT_USAGE, "usage", "--bus-key is for --rpc and --zmq");
    if (arguments != 1)
        return peal_fail(PEAL_EXIT_USAGE, "usage", "one DATA is needed (quote it for the shell)");
    return PEAL_EXIT_OK;
}

/* Leaves DATA in the message; `input` holds it when it came from stdin. */
static int data_read(const char *text, struct pub *pub, struct peal_buf *input)
{
    char why[160] = "";
    struct peal_span data = peal_span_of(text);
    if (strcmp(text, "-") == 0) {
        enum peal_err err = peal_args_read("-", PEAL_CLIENT_BYTES_MAX, input);
        if (err != PEAL_OK)
            return peal_fail(PEAL_EXIT_UNAVAILABLE, peal_err_word(err), "stdin: %s",
                             err == PEAL_EIO ? strerror(errno) : "cannot be read as a whole");
        data = peal_buf_span(input);
    }
    if (pub->message.kind == PEAL_CLIENT_JSON && peal_json_check(data, why, sizeof why) != PEAL_OK)
        return peal_fail(PEAL_EXIT_USAGE, "bad_json",
                         "DATA is not JSON (%s); with --text it is sent as text", why);
    pub->message.data = data.at;
    pub->message.size = data.size;
    return PEAL_EXIT_OK;
}

static int publish_http(const struct pub *pub, struct peal_client_answer *answer,
                        enum peal_err *err)
{
    struct peal_buf key = {0};
    int rc = peal_secret_api_key(pub->key_file, pub->data, &key);
    const struct peal_client_api api = {.url =
                                            pub->api == NULL ? "http://127.0.0.1:8081" : pub->api,
                                        .key = key.at,
                                        .timeout_ms = pub->timeout_ms};
    if (rc == PEAL_EXIT_OK) *err = peal_client_publish(&api, &pub->message, 1, answer);
    peal_secret_fini(&key);
    return rc;
}

static int publish_zmq(const struct pub *pub, struct peal_client_answer *answer, enum peal_err *err)
{
    char why[400];
    struct peal_curve_pair own = {0};
    const struct peal_client_door door = {.endpoint = pub->zmq != NULL ? pub->zmq : pub->rpc,
                                          .own = pub->bus_key == NULL ? NULL : &own,
                                          .router_key = pub->router_key,
                                          .timeout_ms = pub->timeout_ms};
    if (pub->bus_key != NULL && peal_curve_read(pub->bus_key, &own, why, sizeof why) != PEAL_OK)
        return peal_fail(PEAL_EXIT_CONFIG, peal_err_word(PEAL_ECONFIG), "%s", why);
    *err = pub->zmq != NULL ? peal_client_push(&door, &pub->message, 1, answer)
                            : peal_client_rpc(&door, &pub->message, 1, answer);
    peal_curve_wipe(&own);
    return PEAL_EXIT_OK;
}

/* By the one door that was asked for. */
static int publish_once(const struct pub *pub, struct peal_client_answer *answer,
                        enum peal_err *err)
{
    if (pub->zmq != NULL || pub->rpc != NULL) return publish_zmq(pub, answer, err);
    return publish_http(pub, answer, err);
}

/* Comes back as long as the server asks for it and there is time. With an id of its own the message
 * is the same each time, whatever became of it before. */
static int publish(struct pub *pub, struct peal_client_answer *answer)
{
    enum peal_err err = PEAL_OK;
    char id[33];
    uint64_t now_ms = peal_clock_mono_ms();
    uint64_t deadline_ms = now_ms + pub->timeout_ms;
    if (pub->message.id == NULL && pub->zmq == NULL) {
        snprintf(id, sizeof id, "%016jx%016jx", (uintmax_t)peal_random_u64(),
                 (uintmax_t)peal_random_u64());
        pub->message.id = id;
    }
    int rc = publish_once(pub, answer, &err);
    while (rc == PEAL_EXIT_OK && err == PEAL_OK && peal_client_wait(answer, deadline_ms)) {
        now_ms = peal_clock_mono_ms();
        pub->timeout_ms = now_ms < deadline_ms ? deadline_ms - now_ms : 1;
        peal_client_answer_fini(answer);
        rc = publish_once(pub, answer, &err);
    }
    if (pub->message.id == id) pub->message.id = NULL;
    if (rc != PEAL_EXIT_OK) return rc;
    if (err != PEAL_OK) return peal_fail_call(err, answer->why);
    if (pub->zmq != NULL) return PEAL_EXIT_OK; /* there is no receipt */
    if (answer->status != 200) return peal_fail_answer(answer);
    return peal_print_line(peal_buf_span(&answer->body));
}

int peal_verb_pub(int argc, char **argv)
{
    struct pub pub = {.data = PEAL_DATA_DEFAULT, .timeout_ms = 5000};
    struct peal_client_answer answer = {0};
    struct peal_buf input = {0};
    int rc = options_read(argc, argv, &pub);
    if (pub.help) return peal_print(peal_span_of(usage));
    if (rc == PEAL_EXIT_OK) rc = usage_check(&pub, argc - optind);
    if (rc == PEAL_EXIT_OK) rc = data_read(argv[optind], &pub, &input);
    if (rc == PEAL_EXIT_OK) rc = publish(&pub, &answer);
    peal_client_answer_fini(&answer);
    peal_buf_fini(&input);
    return rc;
}

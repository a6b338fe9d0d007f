#include "cli/serve.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/bus_security.h"
#include "base/config.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/status.h"
#include "cli/args.h"
#include "cli/exit.h"
#include "cli/settings.h"
#include "cli/verbs.h"
#include "node/demo_page.h"
#include "node/node.h"
#include "node/outq.h"
#include "node/secrets.h"
#include "router/ingress.h"
#include "router/relay.h"

enum { LINK_WAIT_MS = 5000, LINK_STEP_MS = 10, DRAIN_STEP_MS = 50 };

static const char inproc_rpc[] = "inproc://peal-rpc";
static const char inproc_xpub[] = "inproc://peal-xpub";

static const struct option options[] = {
    {"config", required_argument, NULL, 'c'},
    {"set", required_argument, NULL, 's'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

struct server {
    const struct peal_serve *what;
    struct peal_config_sources from;
    struct peal_args_list sets;
    bool help;
    struct peal_config *config;
    struct peal_buf token_secret;
    bool key_made; /* the API key is one of ours, and may be shown */
    struct peal_bus_security security;
    void *zmq;
    struct peal_ingress *ingress;
    struct peal_relay *relay;
    struct peal_node *node;
    struct peal_status *status;
    char why[400];
};

static int options_read(int argc, char **argv, struct server *s)
{
    int option;
    peal_args_start();
    while ((option = peal_args_next(argc, argv, options)) != -1) {
        switch (option) {
        case 'c':
            s->from.path = optarg;
            break;
        case 's':
            if (peal_args_list_add(&s->sets, optarg) != PEAL_OK)
                return peal_fail_call(PEAL_ENOMEM, "There is not enough memory.");
            break;
        case 'h':
            s->help = true;
            return PEAL_EXIT_OK;
        default:
            return PEAL_EXIT_USAGE;
        }
    }
    return peal_args_end(argc, argv);
}

static int fail(enum peal_err err, const char *why)
{
    int code = PEAL_EXIT_UNAVAILABLE;
    if (err == PEAL_ELOCKED) code = PEAL_EXIT_LOCKED;
    if (err == PEAL_ECONFIG || err == PEAL_EBAD_FIELD) code = PEAL_EXIT_CONFIG;
    const char *word = peal_err_word(err);
    if (err == PEAL_EIO) word = "io_error"; /* to clients both are `internal` */
    if (err == PEAL_ENOMEM) word = "out_of_memory";
    return peal_fail(code, word, "%s", why);
}

/* ---- secrets that dev mode makes once ----------------------------------------------------------
 */

static enum peal_err add_api_key(struct peal_config *config, const struct peal_buf *key)
{
    char **more = realloc(config->api.keys.at, (config->api.keys.count + 1) * sizeof *more);
    if (more == NULL) return PEAL_ENOMEM;
    config->api.keys.at = more;
    more[config->api.keys.count] = strndup(key->at, key->size);
    if (more[config->api.keys.count] == NULL) return PEAL_ENOMEM;
    config->api.keys.count++;
    return PEAL_OK;
}

static enum peal_err make_secrets(struct server *s)
{
    struct peal_config *config = s->config;
    struct peal_buf key = {0};
    enum peal_err err = PEAL_OK;
    if (config->api.keys.count == 0) {
        err = peal_secret_get(config->data, "api.key", &key, s->why, sizeof s->why);
        if (err == PEAL_OK) err = add_api_key(config, &key);
        s->key_made = err == PEAL_OK;
    }
    peal_buf_fini(&key);
    if (err != PEAL_OK) return err;
    if (config->auth.key_count == 0)
        return peal_secret_get(config->data, "token.secret", &s->token_secret, s->why,
                               sizeof s->why);
    peal_buf_add_text(&s->token_secret, config->auth.keys[0].secret);
    return s->token_secret.failed ? PEAL_ENOMEM : PEAL_OK;
}

/* ---- start and stop ----------------------------------------------------------------------------
 */

static void set_log_level(const char *level)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    for (int i = 0; i < 4; i++)
        if (strcmp(level, names[i]) == 0) peal_log_set_level((enum peal_log_level)i);
}

/* As many connections as the system allows: the soft limit is often 1,024. */
static void raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        peal_log(PEAL_LOG_WARN, "process.few_descriptors", "max=%llu",
                 (unsigned long long)limit.rlim_cur);
}

/* What the limits allow at the worst, so that nobody has to add them up. */
static void log_memory(const struct server *s)
{
    const struct peal_config *c = s->config;
    uint64_t message = c->limits.message;
    for (size_t i = 0; i < c->route_count; i++)
        if (c->routes[i].max_message > message) message = c->routes[i].max_message;
    uint64_t frames = c->limits.queue_messages + PEAL_OUTQ_CONTROL_FRAMES;
    uint64_t queue =
        c->limits.queue + PEAL_OUTQ_CONTROL_BYTES + frames * (uint64_t)PEAL_RUN_OVERHEAD;
    if (s->what->node)
        peal_log(PEAL_LOG_INFO, "limits.node",
                 "connections_per_worker=%llu bytes_per_connection=%llu",
                 (unsigned long long)c->limits.connections, (unsigned long long)(queue + message));
    if (s->what->router)
        peal_log(PEAL_LOG_INFO, "limits.router",
                 "history_bytes=%llu dedup_ids=%llu store_map_bytes=%llu",
                 (unsigned long long)c->limits.history, (unsigned long long)c->dedup.ids,
                 (unsigned long long)c->store.max);
}

static enum peal_err load_security(struct server *s)
{
    const struct peal_bus_use use = {s->what->router, s->what->relay, s->what->node};
    return peal_bus_security_load(s->config, &use, &s->security, s->why, sizeof s->why);
}

static enum peal_err start_router(struct server *s)
{
    struct peal_ingress_inproc inproc = {inproc_rpc, inproc_xpub};
    enum peal_err err =
        peal_ingress_start(s->config, &s->security, s->zmq, s->what->node ? &inproc : NULL,
                           &s->ingress, s->why, sizeof s->why);
    if (err != PEAL_OK || s->what->node) return err;
    err = peal_status_start(s->config->api.listen, &s->status, s->why, sizeof s->why);
    if (err == PEAL_OK) peal_status_ready(s->status, true);
    return err;
}

static enum peal_err start_relay(struct server *s)
{
    enum peal_err err = peal_status_start(s->config->api.listen, &s->status, s->why, sizeof s->why);
    if (err != PEAL_OK) return err;
    return peal_relay_start(s->config, &s->security, s->zmq, s->status, &s->relay, s->why,
                            sizeof s->why);
}

static enum peal_err start_node(struct server *s)
{
    struct peal_node_options o = {.config = s->config, .security = &s->security, .zmq = s->zmq};
    if (s->what->router) {
        o.inproc_rpc = inproc_rpc;
        o.inproc_xpub = inproc_xpub;
    }
    if (s->what->dev) {
        o.demo_page = peal_span_make(peal_demo_page, peal_demo_page_size);
        o.token_secret = peal_buf_span(&s->token_secret);
    }
    if (s->config->api.keys.count == 0)
        peal_log(PEAL_LOG_WARN, "api.no_keys", "publish=refused setting=api.keys");
    return peal_node_start(&o, &s->node, s->why, sizeof s->why);
}

static void stop(struct server *s)
{
    peal_node_stop(s->node);
    peal_relay_stop(s->relay); /* it tells the status whether it is ready */
    peal_status_stop(s->status);
    peal_ingress_stop(s->ingress);
    if (s->zmq != NULL) peal_bus_context_free(s->zmq);
    peal_bus_security_fini(&s->security);
}

/* Waits for a signal, at most so long; 0 when none came. */
static int wait_signal(const sigset_t *signals, int timeout_ms)
{
    struct timespec timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
    int signal = sigtimedwait(signals, NULL, &timeout);
    return signal < 0 ? 0 : signal;
}

/* SIGTERM: clients and load balancers get the time to go elsewhere. Who sends another signal, or
 * sits at the keyboard (SIGINT), does not want to wait. */
static void drain(struct server *s, const sigset_t *signals)
{
    if (s->status != NULL) peal_status_ready(s->status, false);
    if (s->node == NULL) return;
    peal_node_drain(s->node);
    int got = 0;
    while (!peal_node_drained(s->node) && (got == 0 || got == SIGHUP))
        got = wait_signal(signals, DRAIN_STEP_MS);
    if (got != 0 && got != SIGHUP)
        peal_log(PEAL_LOG_INFO, "process.hurried", "signal=%s", strsignal(got));
}

/* ---- what is printed ---------------------------------------------------------------------------
 */

static const char *shown_host(const char *endpoint, char *host, size_t size)
{
    uint16_t port;
    if (peal_config_endpoint(endpoint, host, size, &port) != PEAL_OK || host[0] == '\0' ||
        strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0)
        return "127.0.0.1";
    return host;
}

static void print_where(const struct server *s)
{
    char host[256];
    if (s->node != NULL) {
        printf("peal: ready http://%s:%u/\n", shown_host(s->config->listen, host, sizeof host),
               peal_node_port(s->node));
        printf("peal: api http://%s:%u/\n", shown_host(s->config->api.listen, host, sizeof host),
               peal_node_api_port(s->node));
    } else {
        printf("peal: ready %s\n", s->relay != NULL ? "relay" : "router");
        printf("peal: api http://%s:%u/\n", shown_host(s->config->api.listen, host, sizeof host),
               peal_status_port(s->status));
    }
    if (s->ingress != NULL)
        printf("peal: doors pull=%s rpc=%s xpub=%s\n", peal_ingress_pull(s->ingress),
               peal_ingress_rpc(s->ingress),
               s->node != NULL ? inproc_xpub : peal_ingress_xpub(s->ingress));
    for (size_t i = 0; s->relay != NULL && i < peal_relay_doors(s->relay); i++)
        printf("%s%s", i == 0 ? "peal: doors xpub=" : ",", peal_relay_door(s->relay, i));
    if (s->relay != NULL) printf("\n");
    fflush(stdout);
}

/* Lines to paste. The key is shown only where it was made: in dev mode, on this terminal. */
static void print_hints(const struct server *s)
{
    char host[256];
    const char *api = shown_host(s->config->api.listen, host, sizeof host);
    printf("\n"
           "Publish with curl:\n"
           "  curl http://%s:%u/v1/publish -H 'Authorization: Bearer %s' \\\n"
           "       -d '{\"group\": \"room:lobby\", \"data\": {\"text\": \"hello\"}}'\n"
           "\n"
           "Publish with Python (python3-zmq):\n"
           "  python3 -c 'import zmq; s = zmq.Context().socket(zmq.PUSH); s.connect(\"%s\"); "
           "s.send_json({\"group\": \"room:lobby\", \"data\": {\"text\": \"hello\"}})'\n"
           "\n"
           "Keys and stored messages are in %s. Stop with Ctrl-C.\n",
           api, peal_node_api_port(s->node),
           s->key_made ? s->config->api.keys.at[0] : "YOUR-API-KEY", peal_ingress_pull(s->ingress),
           s->config->data);
    fflush(stdout);
}

/* ---- run ---------------------------------------------------------------------------------------
 */

static int serve(struct server *s)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    /* Blocked before any thread starts, so that only the wait below sees them. */
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    peal_metrics_thread_start();
    set_log_level(s->config->log_level);
    raise_descriptors();
    log_memory(s);

    enum peal_err err = load_security(s);
    if (err == PEAL_OK && s->what->dev) err = make_secrets(s);
    if (err == PEAL_OK) {
        s->zmq = peal_bus_context_new();
        snprintf(s->why, sizeof s->why, "out of memory or descriptors");
        if (s->zmq == NULL) err = PEAL_ENOMEM;
    }
    if (err == PEAL_OK && s->what->router) err = start_router(s);
    if (err == PEAL_OK && s->what->relay) err = start_relay(s);
    if (err == PEAL_OK && s->what->node) err = start_node(s);
    if (err != PEAL_OK) {
        int code = fail(err, s->why);
        stop(s);
        return code;
    }
    int got = 0;
    if (s->node != NULL)
        for (int ms = 0; ms < LINK_WAIT_MS && got == 0 && !peal_node_ready(s->node);
             ms += LINK_STEP_MS)
            got = wait_signal(&signals, LINK_STEP_MS);
    for (int ms = 0;
         ms < LINK_WAIT_MS && got == 0 && s->ingress != NULL && peal_ingress_begins(s->ingress);
         ms += LINK_STEP_MS)
        got = wait_signal(&signals, LINK_STEP_MS);
    if (s->node != NULL && !peal_node_ready(s->node))
        peal_log(PEAL_LOG_WARN, "node.no_router", "waited_ms=%d", LINK_WAIT_MS);
    if (got == 0) {
        print_where(s);
        if (s->what->dev) print_hints(s);
    }
    while (got == 0 || got == SIGHUP)
        got = wait_signal(&signals, 3600 * 1000);
    peal_log(PEAL_LOG_INFO, "process.stopping", "signal=%s", strsignal(got));
    if (got == SIGTERM) drain(s, &signals);
    stop(s);
    peal_log(PEAL_LOG_INFO, "process.stopped", "");
    return PEAL_EXIT_OK;
}

int peal_serve_run(const struct peal_serve *what, int argc, char **argv)
{
    struct server s = {.what = what};
    int code = options_read(argc, argv, &s);
    if (code == PEAL_EXIT_OK && !s.help) {
        s.from.environment = environ;
        s.from.sets = (const char *const *)s.sets.at;
        s.from.set_count = s.sets.count;
        s.from.dev = what->dev;
        code = peal_settings_load(&s.from, &s.config);
    }
    if (s.help)
        code = peal_print(peal_span_of(what->usage));
    else if (code == PEAL_EXIT_OK)
        code = serve(&s);
    peal_secret_wipe(&s.token_secret);
    peal_config_free(s.config);
    peal_args_list_fini(&s.sets);
    return code;
}

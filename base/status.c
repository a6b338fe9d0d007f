#include "base/status.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

#include "base/buf.h"
#include "base/config.h"
#include "base/metrics.h"

enum { CONNECTIONS_MAX = 64, TIMEOUT_S = 10, HOST_MAX = 256 };

struct peal_status {
    struct MHD_Daemon *daemon;
    uint16_t port;
    _Atomic bool ready;
};

/* Hands the text to a response; the response frees it. */
static enum MHD_Result answer(struct MHD_Connection *connection, unsigned int code,
                              const char *type, struct peal_buf *text)
{
    struct MHD_Response *response = NULL;
    if (!text->failed)
        response = MHD_create_response_from_buffer(text->size, text->at, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        peal_buf_fini(text);
        return MHD_NO;
    }
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    if (code == 405) MHD_add_response_header(response, "Allow", "GET, HEAD");
    enum MHD_Result result = MHD_queue_response(connection, code, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result answer_error(struct MHD_Connection *connection, enum peal_err err,
                                    const char *message)
{
    struct peal_buf text = {0};
    peal_buf_add_format(&text, "{\"error\":{\"code\":\"%s\",\"message\":\"%s\"}}\n",
                        peal_err_word(err), message);
    return answer(connection, (unsigned int)peal_err_http(err), "application/json", &text);
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **state)
{
    const struct peal_status *status = ctx;
    struct peal_buf text = {0};
    (void)version;
    (void)upload;
    (void)upload_size;
    (void)state;
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        return answer_error(connection, PEAL_EMETHOD, "only GET and HEAD");
    if (strcmp(url, "/livez") == 0) {
        peal_buf_add_text(&text, "ok\n");
        return answer(connection, 200, "text/plain", &text);
    }
    if (strcmp(url, "/readyz") == 0) {
        bool ready = atomic_load(&status->ready);
        peal_buf_add_text(&text, ready ? "ok\n" : "not ready\n");
        return answer(connection, ready ? 200 : 503, "text/plain", &text);
    }
    if (strcmp(url, "/metrics") == 0) {
        peal_metrics_render(&text);
        return answer(connection, 200, "text/plain; version=0.0.4", &text);
    }
    return answer_error(connection, PEAL_ENOT_FOUND, "only /livez, /readyz and /metrics are here");
}

/* Binds here and not in the library, which would not say why it failed. */
static enum peal_err open_listener(const char *listen_on, int *out, char *why, size_t why_size)
{
    char host[HOST_MAX];
    char service[8];
    uint16_t port;
    struct addrinfo *found = NULL;
    const struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    const int one = 1;
    if (peal_config_endpoint(listen_on, host, sizeof host, &port) != PEAL_OK) {
        snprintf(why, why_size, "%s is not host:port", listen_on);
        return PEAL_EBAD_FIELD;
    }
    snprintf(service, sizeof service, "%u", port);
    int rc = getaddrinfo(host, service, &hints, &found);
    if (rc != 0) {
        snprintf(why, why_size, "cannot listen on %s: %s", listen_on, gai_strerror(rc));
        return PEAL_EBAD_FIELD;
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool good = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
                bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0;
    int error = errno;
    freeaddrinfo(found);
    if (good) {
        *out = fd;
        return PEAL_OK;
    }
    if (fd >= 0) close(fd);
    if (error == EADDRINUSE) {
        snprintf(why, why_size, "%s is in use by another process", listen_on);
        return PEAL_EINUSE;
    }
    snprintf(why, why_size, "cannot listen on %s: %s", listen_on, strerror(error));
    return error == EADDRNOTAVAIL ? PEAL_EBAD_FIELD : PEAL_EIO;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    memset(&address, 0, sizeof address);
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0) return 0;
    if (address.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)&address)->sin6_port);
    return ntohs(((const struct sockaddr_in *)(const void *)&address)->sin_port);
}

enum peal_err peal_status_start(const char *listen, struct peal_status **out, char *why,
                                size_t why_size)
{
    int fd;
    *out = NULL;
    enum peal_err err = open_listener(listen, &fd, why, why_size);
    if (err != PEAL_OK) return err;
    struct peal_status *status = calloc(1, sizeof *status);
    if (status == NULL) {
        close(fd);
        snprintf(why, why_size, "out of memory");
        return PEAL_ENOMEM;
    }
    status->port = port_of(fd);

    /* Signals are for main: the thread inherits a mask that blocks them all. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    status->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC, 0, NULL, NULL, on_request, status,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned int)CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned int)TIMEOUT_S, MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (status->daemon != NULL) {
        *out = status;
        return PEAL_OK;
    }
    close(fd);
    free(status);
    snprintf(why, why_size, "cannot start the status listener on %s", listen);
    return PEAL_EIO;
}

void peal_status_ready(struct peal_status *status, bool ready)
{
    atomic_store(&status->ready, ready);
}

uint16_t peal_status_port(const struct peal_status *status)
{
    return status->port;
}

void peal_status_stop(struct peal_status *status)
{
    if (status == NULL) return;
    MHD_stop_daemon(status->daemon); /* closes the listener as well */
    free(status);
}

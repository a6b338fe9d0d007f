#include "bench/httpdoor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_BYTES_MAX = 64 * 1024, TIMEOUT_S = 10 };

struct line {
    int fd;
    bool asked; /* an answer is due */
};

struct peal_httpdoor {
    const struct peal_plan *plan;
    struct peal_buf out;
    char answer[ANSWER_BYTES_MAX + 1];
    uint32_t count;
    struct line lines[];
};

static int line_open(const char *endpoint)
{
    char host[64] = "";
    unsigned port = 0;
    int on = 1;
    struct timeval timeout = {.tv_sec = TIMEOUT_S};
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (sscanf(endpoint, "tcp://%63[^:]:%u", host, &port) != 2 || port > UINT16_MAX) return -1;
    address.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) return -1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) return fd;
    close(fd);
    return -1;
}

struct peal_httpdoor *peal_httpdoor_new(const struct peal_plan *plan, char *why, size_t why_size)
{
    struct peal_httpdoor *http =
        calloc(1, sizeof(*http) + plan->door_connections * sizeof(http->lines[0]));
    if (http == NULL) return NULL;
    http->plan = plan;
    for (uint32_t i = 0; i < plan->door_connections; i++) {
        http->lines[i].fd = line_open(plan->endpoints[0]);
        if (http->lines[i].fd < 0) {
            snprintf(why, why_size, "http door: %s", strerror(errno));
            peal_httpdoor_free(http);
            return NULL;
        }
        http->count++;
    }
    return http;
}

void peal_httpdoor_free(struct peal_httpdoor *http)
{
    if (http == NULL) return;
    for (uint32_t i = 0; i < http->count; i++)
        close(http->lines[i].fd);
    peal_buf_fini(&http->out);
    free(http);
}

/* The size of the answer that text begins with, 0 when it is not complete. */
static size_t answer_size(const char *text, size_t size)
{
    const char *end = strstr(text, "\r\n\r\n");
    if (end == NULL) return 0;
    const char *length = strcasestr(text, "\r\ncontent-length:");
    size_t body = length == NULL || length > end ? 0 : strtoul(length + 17, NULL, 10);
    size_t whole = (size_t)(end + 4 - text) + body;
    return whole <= size ? whole : 0;
}

static enum peal_err line_settle(struct peal_httpdoor *http, struct line *line, uint64_t *refused,
                                 char *why, size_t why_size)
{
    size_t size = 0;
    if (!line->asked) return PEAL_OK;
    do {
        ssize_t got = recv(line->fd, http->answer + size, ANSWER_BYTES_MAX - size, 0);
        if (got <= 0) {
            snprintf(why, why_size, "http door: %s", got == 0 ? "the end" : strerror(errno));
            return PEAL_EIO;
        }
        size += (size_t)got;
        http->answer[size] = '\0';
    } while (answer_size(http->answer, size) == 0);
    line->asked = false;
    if (strncmp(http->answer, "HTTP/1.1 200 ", 13) == 0) return PEAL_OK;
    (*refused)++;
    snprintf(why, why_size, "%.*s", (int)strcspn(http->answer, "\r"), http->answer);
    return PEAL_OK;
}

enum peal_err peal_httpdoor_post(struct peal_httpdoor *http, uint32_t k, struct peal_span body,
                                 uint64_t *refused, char *why, size_t why_size)
{
    struct line *line = &http->lines[k % http->count];
    enum peal_err err = line_settle(http, line, refused, why, why_size);
    if (err != PEAL_OK) return err;
    http->out.size = 0;
    peal_buf_add_format(&http->out,
                        "POST /v1/publish HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"
                        "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                        http->plan->endpoints[0] + strlen("tcp://"), http->plan->key, body.size);
    peal_buf_add_span(&http->out, body);
    if (http->out.failed ||
        send(line->fd, http->out.at, http->out.size, MSG_NOSIGNAL) != (ssize_t)http->out.size) {
        snprintf(why, why_size, "http door: %s", strerror(errno));
        return PEAL_EIO;
    }
    line->asked = true;
    return PEAL_OK;
}

enum peal_err peal_httpdoor_settle(struct peal_httpdoor *http, uint64_t *refused, char *why,
                                   size_t why_size)
{
    for (uint32_t i = 0; i < http->count; i++) {
        enum peal_err err = line_settle(http, &http->lines[i], refused, why, why_size);
        if (err != PEAL_OK) return err;
    }
    return PEAL_OK;
}

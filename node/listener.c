#include "node/listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/config.h"

enum { BACKLOG = 4096 };

static int bind_listener(const struct addrinfo *at, bool exclusive)
{
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (!exclusive) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    if (bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

void peal_listener_tune(int fd, uint64_t unsent_bytes)
{
    int one = 1;
    int unsent = (int)unsent_bytes;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
}

enum peal_err peal_listener_open(const char *key, const char *endpoint, uint16_t *port,
                                 bool exclusive, int *fd, char *why, size_t why_size)
{
    char host[256];
    char service[8];
    uint16_t given;
    if (peal_config_endpoint(endpoint, host, sizeof host, &given) != PEAL_OK) {
        snprintf(why, why_size, "%s: %s is not host:port", key, endpoint);
        return PEAL_ECONFIG;
    }
    if (*port == 0) *port = given;
    snprintf(service, sizeof service, "%u", *port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(host[0] == '\0' || strcmp(host, "*") == 0 ? NULL : host, service, &hints,
                         &found);
    if (rc != 0) {
        snprintf(why, why_size, "%s: cannot resolve %s: %s", key, host, gai_strerror(rc));
        return PEAL_EIO;
    }
    *fd = bind_listener(found, exclusive);
    int error = errno;
    freeaddrinfo(found);
    if (*fd < 0) {
        snprintf(why, why_size, "%s: cannot listen on %s: %s", key, endpoint,
                 error == EADDRINUSE ? "another process uses this port" : strerror(error));
        return error == EADDRINUSE ? PEAL_EINUSE : PEAL_EIO;
    }
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    if (getsockname(*fd, (struct sockaddr *)&bound, &size) == 0)
        *port =
            ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&bound)->sin6_port
                                              : ((struct sockaddr_in *)(void *)&bound)->sin_port);
    return PEAL_OK;
}
